"""Offset and gain of an energy scale, from lines without names."""

import numpy as np
import pytest
from numpy.testing import assert_allclose

from cosi_linebkg_plugin.lines.calibration import LEAST_LINES, EnergyScale, fit_scale
from cosi_linebkg_plugin.lines.catalogue import instrumental_lines

STRONG = [
    x.energy
    for x in instrumental_lines((200, 2700))
    if (x.intensity or 0) >= 20 and not {"broad", "sum", "escape"} & set(x.flags)
]


@pytest.mark.parametrize(
    ("offset", "gain", "low", "high", "number"),
    [(0.0, 0.0, 200, 2700, 25), (1.3, 4e-4, 200, 2700, 25), (-0.8, -5e-4, 500, 2000, 12),
     (0.6, 0.0, 1700, 1900, 5), (2.0, 0.0, 300, 2700, 8)],
)  # fmt: skip
def test_scale_is_found_among_lines_that_have_no_name(offset, gain, low, high, number):
    """Ten draws each, a third of the lines at random energies; every one must be found."""
    rng = np.random.default_rng(5)
    known = [x for x in STRONG if low < x < high]
    for _ in range(10):
        true = rng.choice(known, number, replace=False)
        measured = offset + (1 + gain) * true + rng.normal(0.0, 0.08, number)
        measured = np.append(measured, rng.uniform(low, high, number // 3))
        scale = fit_scale(measured, np.full(measured.size, 50.0))
        middle = 0.5 * (low + high)
        assert scale.original(middle) == pytest.approx(offset + (1 + gain) * middle, abs=0.25)
        assert scale.corrected(scale.original(middle)) == pytest.approx(middle, abs=1e-9)
        assert scale.n_lines >= number - 1


def test_too_few_lines_fix_no_scale():
    assert fit_scale(np.array([1460.8, 1764.5, 609.3]), np.full(3, 100.0)) is None
    assert fit_scale(np.empty(0), np.empty(0)) is None


def spread_lines(number):
    """Strong rows from all over the catalogue."""
    return np.array(STRONG)[np.linspace(0, len(STRONG) - 1, number).astype(int)]


def test_the_errors_of_a_scale_are_those_of_the_scatter():
    """Pulls of offset and gain over 40 draws: mean within 4 errors, spread near 1."""
    true = spread_lines(20)
    offset, gain = 0.7, 3e-4
    pulls, scatters = [], []
    for seed in range(40):
        noise = np.random.default_rng(seed).normal(0.0, 0.05, true.size)
        scale = fit_scale(offset + (1 + gain) * true + noise, np.full(true.size, 50.0))
        assert scale.n_lines == true.size
        pulls.append(
            [
                (scale.offset - offset) / scale.offset_error,
                (scale.gain - gain) / scale.gain_error,
            ]
        )
        scatters.append(scale.scatter)
    assert np.all(np.abs(np.mean(pulls, axis=0)) < 4 / np.sqrt(40))
    assert np.all((np.std(pulls, axis=0) > 0.7) & (np.std(pulls, axis=0) < 1.4))
    # two parameters are fitted
    assert np.mean(scatters) == pytest.approx(0.05 * np.sqrt(18 / 20), rel=0.1)


def test_lines_close_together_tell_an_offset_alone():
    near = np.array([x for x in STRONG if 1700 < x < 1900])[:6]
    scale = fit_scale(near + 1.1, np.full(near.size, 50.0))
    assert scale.gain == 0.0 and scale.gain_error == 0.0
    assert scale.offset == pytest.approx(1.1, abs=1e-9)


def test_faint_lines_and_those_without_an_error_do_not_guide():
    true = spread_lines(12)
    expected = fit_scale(true + 0.5, np.full(12, 50.0))
    energies = np.append(true + 0.5, true + 2.7)
    for low in (7.9, np.nan, np.inf):
        scale = fit_scale(energies, np.append(np.full(12, 50.0), np.full(12, low)))
        assert scale == expected
    assert fit_scale(true, np.full(12, 7.9)) is None
    assert fit_scale(true[: LEAST_LINES - 1], np.full(LEAST_LINES - 1, 50.0)) is None


def test_a_scale_and_its_words():
    scale = EnergyScale(1.5, -2e-4, 0.012, 3e-5, 9, 0.07)
    energies = np.array([300.0, 1808.65])
    assert_allclose(scale.original(energies), [301.44, 1809.78827])
    assert_allclose(scale.corrected(scale.original(energies)), energies)
    assert str(scale) == (
        "energy scale: offset +1.500 +- 0.012 keV, gain -0.200 +- 0.030 per mille "
        "(9 lines, scatter 0.07 keV)"
    )
