"""The line search by numbers: false alarms, completeness, positions, the threshold."""

import math

import numpy as np
import pytest
from scipy.stats import binom

from cosi_linebkg_plugin import find_lines
from cosi_linebkg_plugin.lines import search as linesearch
from cosi_linebkg_plugin.lines.trial import Form, Settings
from cosi_linebkg_plugin.spectrum.axis import EnergySpectrum
from cosi_linebkg_plugin.spectrum.lineshapes import powerlaw_counts, tailed_gaussian_counts

pytestmark = pytest.mark.slow
EDGES = np.linspace(1500.0, 2000.0, 100)
MASK = [(1790.0, 1825.0)]
#: 23 lines that 5 keV bins can tell apart, with counts as in the DC3 spectrum.
COUNTS = (2500, 13100, 2800, 2450, 1800, 16400, 40900, 2050, 82200, 1100, 27800, 3000, 12300,
          39500, 5900, 2400, 1500, 3870, 1000, 3530, 2000, 6000, 1400)  # fmt: skip
LINES = [(1508.0 + 21.3 * i + 3.0 * math.sin(5 * i), n) for i, n in enumerate(COUNTS)]
SHAPES = {False: 0.0, True: 0.23}  # share of the tail
LENGTH, SIGMA = 12.5, 2.9


def expected(lines=(), tail=False, scale=1.0):
    counts = powerlaw_counts(EDGES, 3376.0, 1750.0, -1.807)[0]
    for energy, number in lines:
        shape = (energy, SIGMA, SHAPES[tail], LENGTH)
        counts = counts + tailed_gaussian_counts(EDGES, number, *shape)[0]
    return scale * counts


def draw(mean, rng, mask=()):
    return EnergySpectrum(EDGES, rng.poisson(mean).astype(float)).with_mask(mask)


@pytest.mark.parametrize("tail", [False, True])
@pytest.mark.parametrize("scale", [1.0, 1e-3, 1e-4])
def test_false_alarms(tail, scale):
    """At 5 %, more than 11 of 100 have a chance of 0.4 %; the seeds are fixed."""
    mean = expected(scale=scale)
    found = [
        len(find_lines(draw(mean, np.random.default_rng(seed), MASK), tail=tail).lines)
        for seed in range(100)
    ]
    print(f"tail {tail}, {mean.mean():.3g} counts per bin: {np.count_nonzero(found)} of 100")
    assert np.count_nonzero(found) <= 11


@pytest.mark.parametrize("false_alarm", [0.2, 0.05, 0.01])
def test_threshold_of_the_scan(false_alarm):
    """The largest of the scan is above the threshold as often as stated, within 4 sigma.

    The formula is an upper bound that becomes exact for small chances; 15 % are allowed for it.
    """
    n, mean = 3000, expected()
    rng, above = np.random.default_rng(11), 0
    settings = Settings(3.0, Form(), false_alarm, 20, 1750.0)
    for _ in range(n):
        search = linesearch._Search(draw(mean, rng, MASK), settings)
        above += search._scan()[0].max() > search.threshold
    print(f"stated {false_alarm}, measured {above / n:.4f}")
    assert above <= binom.ppf(0.99997, n, false_alarm)
    assert above >= binom.ppf(0.00003, n, 0.85 * false_alarm)


@pytest.mark.parametrize("tail", [False, True])
def test_lines_above_8_sigma_are_found_and_placed(tail):
    """Of some 500 pulls |pull| > 4 has a false-alarm rate of 3 %; the seeds are fixed."""
    mean, n = expected(LINES, tail), 30
    strong = []
    for energy, number in LINES:
        shape = tailed_gaussian_counts(EDGES, number, energy, SIGMA, SHAPES[tail], LENGTH)[0]
        if np.sqrt(np.sum(shape**2 / mean)) > 8.0:
            strong.append(energy)
    pulls, false = [], 0
    for seed in range(n):
        found = find_lines(draw(mean, np.random.default_rng(seed)), tail=tail).lines
        energies = np.array([x.energy for x in found])
        for energy in strong:
            line = found[np.argmin(np.abs(energies - energy))]
            pulls.append((line.energy - energy) / line.error)
        false += sum(np.min(np.abs(np.array(LINES)[:, 0] - e)) > 6.0 for e in energies)
    print(f"tail {tail}: {len(strong)} strong lines, largest pull {np.max(np.abs(pulls)):.2f}, "
          f"deviation {np.std(pulls):.2f}, {false} false lines in {n} spectra")  # fmt: skip
    assert len(strong) >= 15
    assert np.max(np.abs(pulls)) < 4.0
    assert 0.9 < np.std(pulls) < 1.15
    assert false <= 0.2 * n
