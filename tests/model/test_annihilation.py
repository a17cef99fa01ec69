"""The line at 511 keV: a narrow and a broad part with one amplitude."""

from dataclasses import replace

import numpy as np
import pytest
from astromodels import clone_model, load_model
from numpy.testing import assert_allclose
from spectra import real_spectrum, simulated_spectrum

from cosi_linebkg_plugin import LineBackgroundLike, background_model, find_lines
from cosi_linebkg_plugin.fit.minimise import fit_spectrum
from cosi_linebkg_plugin.fit.result import LineBackgroundFit
from cosi_linebkg_plugin.model.functions import AnnihilationLine
from cosi_linebkg_plugin.model.read import spectrum_of
from cosi_linebkg_plugin.model.spec import numerical_model, spectrum_parts
from cosi_linebkg_plugin.spectrum.lineshapes import annihilation_counts, gaussian_counts

EDGES = np.arange(480.0, 542.0, 0.4)
VALUES = {"K_1": 80.0, "F_2": 3e4, "sigma_2": 1.0, "broad_2": 0.3, "ratio_2": 2.5}


def numbers(values=VALUES, lines=(511.0,), **options):
    model = numerical_model(spectrum_parts(lines, sigma=0.8, pivot=511, **options))
    parameters = (replace(p, value=values.get(p.name, p.value)) for p in model.parameters)
    return replace(model, parameters=tuple(parameters))


def test_it_is_two_gaussians_of_one_energy():
    counts, derivatives = annihilation_counts(EDGES, 1e4, 511.0, 0.9, 0.3, 2.5)
    parts = gaussian_counts(EDGES, [7e3, 3e3], 511.0, [0.9, 2.25])[0]
    assert_allclose(counts, parts, rtol=1e-12, atol=1e-12)
    assert derivatives.shape == (1, 5, EDGES.size - 1)
    assert counts.sum() == pytest.approx(1e4, rel=1e-12)
    shape = AnnihilationLine()
    shape.F.value, shape.mu.value, shape.sigma.value = 1e4, 511.0, 0.9
    shape.broad.value, shape.ratio.value = 0.3, 2.5
    x, w = np.polynomial.legendre.leggauss(12)
    nodes = EDGES[:-1, None] + 0.2 * (1 + x)
    assert_allclose((shape(nodes.ravel()).reshape(nodes.shape) @ w) * 0.2, counts, atol=1e-8)


def test_a_fit_gives_back_both_parts():
    spectrum = simulated_spectrum(numbers(), EDGES, np.random.default_rng(3))
    for ratio in (1.3, 2.0, 3.8):  # it ends in one minimum
        fit = fit_spectrum(numbers({"ratio_2": ratio}), spectrum)
        for name, value in VALUES.items():
            assert abs(fit.values[name] - value) < 4 * fit.errors[name], name
        assert fit.adequacy.is_adequate()
    one = fit_spectrum(numbers(lines=[{"energy": 511, "width": "own"}]), spectrum)
    assert not one.adequacy.is_adequate() and one.values["F_2"] < 0.99 * fit.values["F_2"]
    back = LineBackgroundFit.from_json(fit.to_json())
    assert back.model.components == fit.model.components
    assert_allclose(back.expected, fit.expected, rtol=1e-14)


def test_a_session_of_threeml_finds_the_same(tmp_path):
    from threeML import DataList, JointLikelihood

    spectrum = simulated_spectrum(numbers(), EDGES, np.random.default_rng(4))
    plugin = LineBackgroundLike("bkg", spectrum)
    model = background_model([511.0], sigma=0.8, pivot=511)
    direct = plugin.fit(clone_model(model))
    plugin.guess(model)
    session = JointLikelihood(model, DataList(plugin))
    session.fit(quiet=True)
    result = plugin.result(session)
    assert result.deviance == pytest.approx(direct.deviance, abs=0.01)
    model.save(str(tmp_path / "model.yml"))
    again = spectrum_of(load_model(str(tmp_path / "model.yml")), "linebkg").current_model()
    assert again.components[1].kind == "annihilation"
    assert_allclose(again.values, direct.theta, rtol=1e-2, atol=1e-2)


@pytest.mark.parametrize("counts", [100, 1000, 30000])
def test_one_part_is_no_failure(counts):
    """With the broad part's share at 0, or open, as few counts and wide bins leave it."""
    edges = np.arange(450.0, 580.0, 2.5)
    truth = numbers({"K_1": 50.0, "F_2": counts, "sigma_2": 1.5, "broad_2": 0.0})
    for seed in range(10):
        spectrum = simulated_spectrum(truth, edges, np.random.default_rng(seed))
        fit = fit_spectrum(numbers({}), spectrum)
        assert fit.valid
        assert abs(fit.values["F_2"] - counts) < 5 * fit.errors["F_2"]


@pytest.mark.parametrize(
    ("name", "low", "high"),
    [
        # 3 % around what independent fits give
        ("cave_bg_495_530", 0.97 * 9722, 1.03 * 10042),
        ("kelp_495_530", 0, np.inf),
        ("problem1_bg_490_535", 0, np.inf),
    ],
)
def test_real_lines_have_both_parts_and_no_satellites(shared_data, name, low, high):
    """The wings were found as 62Zn at 508 keV and 206Bi at 514.5 keV."""
    spectrum = real_spectrum(shared_data, name)
    fit = fit_spectrum(numbers({}), spectrum)
    assert fit.adequacy.is_adequate() and not fit.adequacy.excesses
    assert low < fit.values["F_2"] < high
    found = find_lines(spectrum, sigma=0.6)
    assert len(found.lines) == 1
    assert found.lines[0].counts == pytest.approx(fit.values["F_2"], rel=0.01)
    model = spectrum_of(found.model(), "linebkg").current_model()
    assert model.components == found.numerical_model().components
    assert model.components[1].kind == "annihilation"
