"""The spread of line patterns, measured on lines that differ by a known amount."""

import astropy.units as u
import histpy
import numpy as np
import pytest

from cosi_linebkg_plugin import LineBackgroundLike, background_model
from cosi_linebkg_plugin.errors import TemplateError
from cosi_linebkg_plugin.spectrum.lineshapes import powerlaw_counts, tailed_gaussian_counts

pytestmark = pytest.mark.filterwarnings("ignore::cosi_linebkg_plugin.errors.LineBackgroundWarning")

EDGES, SOURCE = np.linspace(1650.0, 1950.0, 76), (1802.0, 1814.0)
LINES = (1740.0, 1765.0, 1840.0, 1865.0)
N_PHI = 24


def plugin_of(seed, tau, counts=2.0e4, lines=LINES):
    """Lines whose share of each Phi bin scatters by the fraction tau around a common one."""
    rng = np.random.default_rng(seed)
    mean = np.linspace(2.0, 1.0, N_PHI) / np.linspace(2.0, 1.0, N_PHI).sum()
    continuum = powerlaw_counts(EDGES, 300.0, 1800.0, -2.0)[0]
    table = np.outer(continuum, np.full(N_PHI, 1.0 / N_PHI))
    for energy in lines:
        phi = mean * np.maximum(1.0 + tau * rng.standard_normal(N_PHI), 0.0)
        line = tailed_gaussian_counts(EDGES, [counts], [energy], 3.0, 0.0, 10.0)[0]
        table += np.outer(line, phi / phi.sum())
    axes = histpy.Axes(
        [
            histpy.Axis(EDGES * u.keV, label="Em"),
            histpy.Axis(np.linspace(0, 180, N_PHI + 1) * u.deg, label="Phi"),
        ]
    )
    drawn = rng.poisson(table).astype(float)
    plugin = LineBackgroundLike("bkg", histpy.Histogram(axes, contents=drawn, track_overflow=False))
    plugin.set_mask((1798, 1818))
    return plugin


def spread_of(seed, tau, **options):
    plugin = plugin_of(seed, tau)
    fit = plugin.fit(background_model(LINES, pivot=1800))
    template = plugin.background_template(fit, SOURCE, **options)
    return plugin.line_spread(template)


@pytest.mark.parametrize("tau", [0.1, 0.3])
def test_a_known_spread_is_measured(tau):
    """Twelve sets: the mean within 4 of its own errors; 4 or more intervals of 68 % cover."""
    found = [spread_of(seed, tau).axes["Phi"] for seed in range(12)]
    values = np.array([e.value for e in found])
    assert abs(values.mean() - tau) < 4 * values.std(ddof=1) / np.sqrt(12) + 0.03 * tau
    covered = sum(e.low <= tau <= e.high for e in found)
    assert covered >= 4  # binomial of 12 with 0.68: 3 or fewer have a chance of 6e-3
    assert all(e.least > 0 for e in found)


def test_equal_patterns_have_none():
    """False alarms at 5 %: five or more of 20 have a chance of 3e-3."""
    found = [spread_of(seed, 0.0).axes["Phi"] for seed in range(20)]
    assert sum(e.least > 0 for e in found) <= 4
    assert np.mean([e.value for e in found]) < 0.05


def test_what_it_says():
    spread = spread_of(1, 0.3, smoothing_fwhm=None, order=0)
    assert spread.tracers == tuple((pytest.approx(e, abs=1.0),) for e in LINES)
    assert "4 tracer lines differ beyond noise by: Phi" in str(spread)
    assert set(spread.axes) == {"Phi"}


def test_refusals():
    plugin = plugin_of(1, 0.0)
    fit = plugin.fit(background_model(LINES, pivot=1800))
    one = plugin.background_template(fit, SOURCE, tracers=[1765])
    with pytest.raises(TemplateError, match="two or more tracers, 10 keV apart.*has 1"):
        plugin.line_spread(one)
    other = plugin.background_template(fit, SOURCE, method="interpolated")
    with pytest.raises(TemplateError, match="method='interpolated'"):
        plugin.line_spread(other)
