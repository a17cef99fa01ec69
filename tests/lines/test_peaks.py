"""Peaks, told from bends, slopes, steps, and from the flanks of other lines."""

import numpy as np
import pytest
from scipy.special import ndtr

from cosi_linebkg_plugin.lines.peaks import described, is_peak
from cosi_linebkg_plugin.spectrum.axis import EnergySpectrum

EDGES = np.linspace(1000.0, 1200.0, 401)
CENTERS = 0.5 * (EDGES[1:] + EDGES[:-1])
USED = np.ones(400, bool)
SIGMA = 1.0
LEVEL = np.full(400, 1e4)
NO_LINES = np.zeros(400)


def line(energy):
    return np.diff(ndtr((EDGES - energy) / SIGMA))


def seen(residual, energy=1100.0, used=USED, of_lines=NO_LINES):
    place = (energy, np.hypot(SIGMA, 0.5 / np.sqrt(12)))
    return is_peak((EDGES, used), residual, (LEVEL, of_lines), line(energy), place, 3.5)


def far_off(residual):
    """With a misfit elsewhere, which makes the test the strict one."""
    return residual + 2e3 * (np.abs(CENTERS - 1100.0) > 8.0)


X = (CENTERS - 1100.0) / 5.0


@pytest.mark.parametrize(
    ("shape", "name"),
    [(np.ones(400), "level"), (X, "slope"), (X**2, "bend"), (-(X**2), "hump"),
     (ndtr(-(CENTERS - 1100.0)), "step"), (ndtr(-(CENTERS - 1101.2)), "step beside it")],
)  # fmt: skip
@pytest.mark.parametrize("energy", [1098.9, 1100.0, 1101.1])
def test_what_is_no_peak_is_not_seen(shape, name, energy):
    """1000 to 3000 of 10,000 counts: each would be a line of tens of sigma."""
    assert not seen(far_off(1e3 * shape), energy), name
    if name not in ("step", "step beside it"):
        assert not seen(1e3 * shape, energy)


@pytest.mark.parametrize("under", [np.zeros(400), 800.0 * X, 500.0 * X**2, 200.0 * ndtr(-5 * X)])
def test_a_line_is_seen_on_all_of_these(under):
    strong = 3000.0 * line(1100.0)  # 11 sigma
    assert seen(under + strong) and seen(far_off(under + strong))
    # where the fit describes the rest, a weak one is
    assert seen(800.0 * line(1100.0)) and not seen(far_off(800.0 * line(1100.0)))
    assert not seen(-under - strong)


def test_a_strong_lines_flank_is_known_to_a_share_of_its_counts_only():
    strong = 3e5 * line(1098.0)
    bump = 0.01 * strong.max() * np.exp(-0.5 * (CENTERS - 1100.0) ** 2)
    assert seen(far_off(bump))
    assert not seen(far_off(bump), of_lines=strong)


def test_lines_are_seen_beside_the_mask_and_the_ends():
    used = USED & (CENTERS < 1102.5)
    assert seen(1500.0 * line(1100.0), used=used)
    assert not seen(far_off(1e3 * ndtr(-(CENTERS - 1101.2))), used=used)
    assert seen(1500.0 * line(1198.5), 1198.5)
    # where next to nothing is left nothing is said
    assert seen(np.zeros(400), used=USED & (np.abs(CENTERS - 1100.0) < 1.2))


def test_the_share_of_peaks_among_noise():
    """Of noise a tenth and less passes the weak test, and next to nothing the strict one."""
    rng = np.random.default_rng(1)
    weak = strict = 0
    for _ in range(400):
        noise = rng.normal(0.0, 100.0, 400)
        weak += seen(noise)
        strict += seen(far_off(noise))
    assert 10 < weak < 48 and strict <= 1  # 6.7 % and 0.02 % are expected


def test_whether_a_fit_describes_the_counts_around_a_line():
    rng = np.random.default_rng(2)
    mean = LEVEL + 3e4 * line(1100.0)
    for _ in range(20):
        spectrum = EnergySpectrum(EDGES, rng.poisson(mean).astype(float))
        assert described(spectrum, mean, (1100.0, 1.0))
        assert not described(spectrum, LEVEL + 3e4 * line(1100.3), (1100.0, 1.0))
