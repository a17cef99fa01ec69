"""The spread of lines' distributions, measured; tests/studies/line_spread.py has the numbers."""

import astropy.units as u
import histpy
import numpy as np
import pytest
from line_spread import measured, trial

from cosi_linebkg_plugin import LineBackgroundLike, background_model
from cosi_linebkg_plugin.errors import TemplateError
from cosi_linebkg_plugin.histograms.axis import EventAxis
from cosi_linebkg_plugin.spectrum.lineshapes import powerlaw_counts, tailed_gaussian_counts
from cosi_linebkg_plugin.template.spread import polynomials

pytestmark = pytest.mark.filterwarnings("ignore::cosi_linebkg_plugin.errors.LineBackgroundWarning")

EDGES, SOURCE = np.linspace(1600.0, 2000.0, 101), (1800.0, 1816.0)
LINES = (1640.0, 1680.0, 1720.0, 1760.0, 1860.0, 1900.0, 1940.0)
N_PHI = 24


def plugin_of(seed, size, trend=0.0, lines=LINES, counts=2.0e4):
    """Lines whose share of each Phi bin scatters by `size`, and is tilted with energy."""
    rng = np.random.default_rng(seed)
    mean = np.linspace(2.0, 1.0, N_PHI) / np.linspace(2.0, 1.0, N_PHI).sum()
    tilt = np.linspace(-1.0, 1.0, N_PHI)
    table = np.outer(powerlaw_counts(EDGES, 300.0, 1800.0, -2.0)[0], np.full(N_PHI, 1 / N_PHI))
    for energy in lines:
        smooth = np.interp(np.arange(N_PHI), [0, 6, 12, 18, 23], rng.standard_normal(5))
        own = mean * np.maximum(1.0 + size * smooth + trend * (energy - 1800) / 100 * tilt, 0.0)
        line = tailed_gaussian_counts(EDGES, [counts], [energy], 3.0, 0.0, 10.0)[0]
        table += np.outer(line, own / own.sum())
    axes = histpy.Axes(
        [
            histpy.Axis(EDGES * u.keV, label="Em"),
            histpy.Axis(np.linspace(0, 180, N_PHI + 1) * u.deg, label="Phi"),
        ]
    )
    drawn = rng.poisson(table).astype(float)
    plugin = LineBackgroundLike("bkg", histpy.Histogram(axes, contents=drawn, track_overflow=False))
    plugin.set_mask((1796, 1820))
    return plugin


def spread_of(*args, **options):
    plugin = plugin_of(*args, **options)
    fit = plugin.fit(background_model(options.get("lines", LINES), pivot=1800))
    return plugin.background_template(fit, SOURCE, lines="spread").record.line_spread


def test_a_known_spread_is_measured():
    found = [spread_of(seed, 0.2) for seed in range(8)]
    assert all(s.axes["Phi"].least > 0 and s.patterns for s in found)
    # rms of the interpolated nodes without their mean: 0.2 x 0.72 on average
    assert np.mean([s.axes["Phi"].value for s in found]) == pytest.approx(0.144, rel=0.25)


@pytest.mark.parametrize("trend", [0.0, 0.05])
def test_lines_that_are_alike_have_none(trend):
    """A trend with energy is none. False alarms at 5 %: five or more of 20 have 3e-3."""
    found = [spread_of(seed, 0.0, trend) for seed in range(20)]
    assert sum(s.axes["Phi"].least > 0 for s in found) <= 4
    assert all(bool(s.patterns) == (s.axes["Phi"].least > 0) for s in found)


def test_no_spread_changes_nothing_else():
    plugin = plugin_of(3, 0.0)
    fit = plugin.fit(background_model(LINES, pivot=1800))
    plain, own = (plugin.background_template(fit, SOURCE, lines=x) for x in (None, "spread"))
    assert own.counts == plain.counts and own.record.recipe["lines"] == "spread"
    for label in plain.labels:
        ours, theirs = own.project("Phi", label), plain.project("Phi", label)
        assert np.all(np.abs(ours[0] - theirs[0]) < 3 * np.maximum(theirs[1], 1e-9))
    assert (
        own.project("Phi", "continuum")[1].sum() < 1.1 * plain.project("Phi", "continuum")[1].sum()
    )


def test_the_demos_lines_are_alike_whatever_moves_with_energy():
    """Ridges, trends, blends and a bright sky; the study has more of them."""
    found = [measured(seed, "none", 0.0, 1.0) for seed in (2001, 2002, 2003)]
    assert sum(s.axes["Phi"].least > 0 for s in found) <= 1  # 2 or more: 7e-3
    assert all(len(s.lines) >= 9 for s in found)
    assert measured(2001, "stretched", 0.1, 1.0).axes["Phi"].least > 0.05


def test_the_sky_is_freed_of_a_difference():
    """One set in which it is known to matter; the error of the sky stays what it was."""
    row = trial(1, "stretched", 0.3)
    plain, own = list(row.values())[:2]
    assert own[1] < 1.15 * plain[1]
    assert abs(own[0] - 1) < 2 * own[1]


def test_polynomials_are_orthonormal():
    mean = np.random.default_rng(1).dirichlet(np.ones(30))
    phi = EventAxis("Phi", np.linspace(0, 180, 31), "deg")
    coarse, fine = polynomials(phi, mean)
    assert np.allclose((coarse * mean) @ coarse.T, np.eye(4)) and np.allclose(coarse @ mean, 0)
    assert np.array_equal(coarse, fine)
    pixels = EventAxis("PsiChi", np.arange(769), kind="HealpixAxis", nside=8, scheme="RING")
    coarse, fine = polynomials(pixels, np.full(192, 1 / 192))
    assert coarse.shape == (8, 192) and fine.shape == (8, 768)
    assert np.allclose(coarse @ coarse.T / 192, np.eye(8))
    nested = EventAxis("PsiChi", np.arange(769), kind="HealpixAxis", nside=8, scheme="NESTED")
    assert np.allclose(np.sort(polynomials(nested, np.full(192, 1 / 192))[1]), np.sort(fine))


def test_refusals():
    plugin = plugin_of(1, 0.0, lines=LINES[:2])
    fit = plugin.fit(background_model(LINES[:2], pivot=1800))
    with pytest.raises(TemplateError, match="three or more fitted lines.*the fit has 2"):
        plugin.background_template(fit, SOURCE, lines="spread", window=(1610, 1990))
    with pytest.raises(TemplateError, match="lines='spread' needs lines apart"):
        plugin.background_template(fit, SOURCE, lines="spread", method="interpolated")
    with pytest.raises(TemplateError, match="'spread' or nothing, got 'all'"):
        plugin.background_template(fit, SOURCE, lines="all")
    coarse = histpy.Axes(
        [
            histpy.Axis(np.array(SOURCE) * u.keV, label="Em"),
            histpy.Axis(np.linspace(0, 180, 13) * u.deg, label="Phi"),
        ]
    )
    like = histpy.Histogram(coarse, contents=np.ones((1, 12)), track_overflow=False)
    with pytest.raises(TemplateError, match="events' own Phi in like="):
        plugin.background_template(fit, SOURCE, lines="spread", like=like)
