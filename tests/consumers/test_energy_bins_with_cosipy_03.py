"""Templates of several energy bins, made from events, in sessions of the real cosipy 0.3."""

import line_instrument as li
import numpy as np
import pytest

cosipy = pytest.importorskip("cosipy")

from threeML import DataList, JointLikelihood


def test_one_norm_norms_of_bins_and_a_followed_spectrum_agree(tmp_path, monkeypatch):
    """The likelihood by hand at the optimum of each, and the same flux with the same error."""
    monkeypatch.chdir(tmp_path)
    response = str(li.write_response(tmp_path / "response.h5"))
    flight = li.Flight()
    drawn = np.random.default_rng(5).poisson(li.TRUE_FLUX * li.sky_counts())
    counts = (flight.counts + drawn).astype(float)
    template = flight.template()
    data = li.histogram(template, counts)
    found = {}
    for name in ("one", "split", "follow"):
        own = template.split("Em") if name == "split" else template
        following = {"follow": flight.plugin} if name == "follow" else {}
        mix = own.component_mix(data=data, **following)
        cosi = cosipy.COSILike("cosi", response, data, mix, None, precomputed_psr_file=response)
        cosi._printed_warning = True
        model, flux = li.sky_model(1.5 * li.TRUE_FLUX)
        plugins = [flight.plugin] if following else []
        session = JointLikelihood(model, DataList(*plugins, cosi, mix.constraint()))
        table, _ = session.fit(quiet=True)
        found[name] = table["value"].iloc[0], table["error"].iloc[0]
        expected = flux.value.value * li.sky_counts()
        for b, pair in enumerate(zip(li.BINS[:-1], li.BINS[1:], strict=True)):
            if following:
                now = flight.plugin.source_counts(pair, line_ratio=li.RATIO)
            for label, m in own.components.items():
                part = np.asarray(m.contents)[b]
                norm = mix.parameters[f"norms_{label}"].value
                if following:
                    part = part / part.sum() * now[label]
                expected[b] += norm * part
        by_hand = np.sum(counts * np.log(expected) - expected)
        assert float(cosi.get_log_like()) == pytest.approx(by_hand, rel=1e-9)
        if following:
            flight.plugin.set_model(li.sky_model()[0])
    flux, error = found["one"]
    assert abs(flux - li.TRUE_FLUX) < 4 * error  # false alarm 6e-5, one seeded data set
    for name in ("split", "follow"):
        assert abs(found[name][0] - flux) < 0.2 * error, name
        assert found[name][1] == pytest.approx(error, rel=0.08), name
