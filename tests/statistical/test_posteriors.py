"""Posteriors agree with HESSE errors where the likelihood is Gaussian."""

import numpy as np
import pytest

from cosi_linebkg_plugin import LineBackgroundLike, background_model, default_priors
from cosi_linebkg_plugin.app.demo import MASK, resolved_lines
from cosi_linebkg_plugin.app.simulation import simulate

pytestmark = pytest.mark.slow


def plugin_of(seed):
    simulation = simulate(seed, nside=1)
    spectrum = np.bincount(simulation.coords[0], weights=simulation.counts, minlength=99)
    plugin = LineBackgroundLike("linebkg", (simulation.energy_edges, spectrum))
    plugin.set_mask(MASK)
    return plugin


def test_emcee_on_the_full_model():
    """Strong lines, continuum, shared width, and the counts in the source range."""
    plugin = plugin_of(1)
    fit = plugin.fit(background_model(resolved_lines(), pivot=1800))
    posterior = fit.sample(n_samples=60000, seed=1)
    values, errors = fit.values, fit.errors
    energies = {n[3:]: e for n, e in values.items() if n.startswith("mu_")}
    apart = {
        n: min(abs(e - other) for m, other in energies.items() if m != n)
        for n, e in energies.items()
    }
    # a blend with a weak line is not Gaussian
    strong = [n for n in energies if values[f"F_{n}"] > 10 * errors[f"F_{n}"] and apart[n] > 12]
    names = ["K_1", "index_1", "sigma_2"] + [f"{r}_{n}" for n in strong for r in ("F", "mu")]
    assert len(names) > 8
    # chains of 30 or more autocorrelation times of 80 walkers: errors known to some 2 %
    for name in names:
        assert posterior.errors[name] == pytest.approx(errors[name], rel=0.1), name
        assert abs(posterior.values[name] - values[name]) < 0.2 * errors[name], name
    ours, reference = (f.expected_counts((1805, 1812)) for f in (posterior, fit))
    assert ours.total_error == pytest.approx(reference.total_error, rel=0.1)
    assert ours.total == pytest.approx(reference.total, abs=0.2 * reference.total_error)


def test_ultranest_on_a_power_law_and_one_line():
    pytest.importorskip("ultranest")
    from threeML import BayesianAnalysis, DataList

    plugin = plugin_of(2)
    plugin.set_mask((1500, 1772), (1790, 1825), (1880, 2000))
    model = background_model([1779], pivot=1800)
    fit = plugin.fit(model)
    default_priors(model)
    np.random.seed(1)  # noqa: NPY002  # what ultranest draws from
    session = BayesianAnalysis(model, DataList(plugin))
    session.set_sampler("ultranest")
    session.sampler.setup(min_num_live_points=400, frac_remain=0.01)
    session.sample(quiet=True)
    posterior = plugin.result(session)
    assert posterior.samples.shape[1] == 5
    for name, error in fit.errors.items():
        assert posterior.errors[name] == pytest.approx(error, rel=0.1), name
        assert abs(posterior.values[name] - fit.values[name]) < 0.2 * error, name
