"""The score test of a further line, and the chance of a false one anywhere."""

import numpy as np
import pytest
from scipy.special import ndtr
from scipy.stats import norm
from spectra import line_model, simulated_spectrum

from cosi_linebkg_plugin.fit.minimise import fit_spectrum
from cosi_linebkg_plugin.fit.score import (
    Residuals,
    global_significance,
    log_chance,
    orthonormal,
    threshold,
)

EDGES = np.linspace(1500.0, 2000.0, 101)
MODEL = line_model([], k=3000.0)
GRID = np.arange(1510.0, 1990.0, 1.0)


def shapes(energies):
    return np.diff(ndtr((EDGES - energies[:, None]) / 4.0), axis=1)


def residuals(seed):
    spectrum = simulated_spectrum(MODEL, EDGES, np.random.default_rng(seed))
    expected = MODEL.bind(EDGES).counts(MODEL.values)
    jac = MODEL.bind(EDGES).counts_and_jacobian(MODEL.values)[1][MODEL.free]
    return Residuals.of(spectrum.counts, expected, jac)


def test_the_false_alarm_rate_of_spectra_without_a_line():
    """Rice's rate against 600 spectra: the largest of 480 energies above the threshold."""
    length = residuals(0).curve_length(shapes, GRID)
    for chance in (0.05, 0.2):
        u = threshold(chance, 1, length)
        above = sum(residuals(i).score(shapes, GRID)[0].max() > u for i in range(600))
        # 4.5 binomial standard errors, false alarm 7e-6; the bound is 4 % conservative at 0.2
        assert abs(above - 600 * chance) < 4.5 * np.sqrt(600 * chance * (1 - chance))


def test_a_line_is_found_with_its_counts():
    truth = line_model([(1700.0, 4000.0, (1690.0, 1710.0))], k=3000.0, sigma=4.0)
    spectrum = simulated_spectrum(truth, EDGES, np.random.default_rng(3))
    fit = fit_spectrum(MODEL, spectrum)
    found = Residuals.of(spectrum.counts, fit.expected, fit.bin_jacobian[fit.columns])
    z, amplitude = found.score(shapes, GRID)
    best = int(z.argmax())
    assert abs(GRID[best] - 1700.0) < 2.0
    assert abs(amplitude[best] - 4000.0) < 4.5 * amplitude[best] / z[best] + 200.0
    gain = fit.deviance - fit_spectrum(truth, spectrum).deviance
    assert z[best] == pytest.approx(np.sqrt(gain), rel=0.1)


def test_what_the_model_explains_is_not_looked_for():
    found = Residuals(np.ones(100), np.ones(100), orthonormal(shapes(np.array([1700.0]))))
    z, amplitude = found.score(shapes, np.array([1700.0, 1900.0]))
    assert z[0] == amplitude[0] == 0.0 and z[1] > 0.0


def test_the_blocks_of_a_long_scan_do_not_matter(monkeypatch):
    one = residuals(1)
    whole = one.score(shapes, GRID), one.curve_length(shapes, GRID)
    monkeypatch.setattr("cosi_linebkg_plugin.fit.score._BLOCK", 700)
    parts = one.score(shapes, GRID), one.curve_length(shapes, GRID)
    assert np.allclose(whole[0], parts[0], rtol=1e-12) and whole[1] == pytest.approx(parts[1])


def test_threshold_and_significance_are_inverse():
    for segments, length in ((1, 0.0), (2, 90.0), (3, 1e4)):
        u = threshold(0.05, segments, length)
        assert np.exp(log_chance(u, segments, length)) == pytest.approx(0.05)
        assert global_significance(u, segments, length) == pytest.approx(norm.isf(0.05))
    assert threshold(0.05, 1, 0.0) == pytest.approx(norm.isf(0.05))  # one place alone
    assert global_significance(0.1, 3, 1e4) == 0.0
    assert threshold(0.9, 1, 0.0) == 0.0


def test_the_search_has_the_same_rule():
    from cosi_linebkg_plugin.lines.search import find_lines

    spectrum = simulated_spectrum(MODEL, EDGES, np.random.default_rng(8))
    found = find_lines(spectrum, sigma=4.0, false_alarm=0.05)
    step = np.hypot(4.0, 5.0 / np.sqrt(12)) / 4
    low, high = EDGES[0] + 4 * step, EDGES[-1] - 4 * step
    grid = np.linspace(low, high, int(np.ceil((high - low) / step)) + 1)
    fit = found.fit
    own = Residuals.of(spectrum.counts, fit.expected, fit.bin_jacobian[fit.columns])
    u = threshold(0.05, 1, own.curve_length(shapes, grid))
    assert not found.lines and found.threshold == pytest.approx(u, rel=1e-6)
