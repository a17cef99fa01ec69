"""The scan for one more line: the same in parts as in one piece."""

import numpy as np
import pytest
from line_spectra import EDGES, draw, expected

from cosi_linebkg_plugin.lines.scan import Scans, Trials, maxima, scan
from cosi_linebkg_plugin.lines.trial import Form, Settings, Shape, fit_quickly, trial_model
from cosi_linebkg_plugin.spectrum.axis import EnergySpectrum
from cosi_linebkg_plugin.spectrum.lineshapes import EnergyGrid

VALUES = {"K": 3376.0, "index": -1.8, "sigma": 2.9, "fraction": 0.2, "length": 12.5}


def scanned(spectrum, allowed, tail=False, **options):
    shape = Shape(VALUES, Form(tail=tail))
    grid = EnergyGrid.from_edges(spectrum.edges)
    model = trial_model(Settings(2.9, shape.form, 0.05, 20, 1750.0), [], shape)
    fit = fit_quickly(model, spectrum, grid)
    return scan(fit, spectrum, shape, shape.sigma, allowed, **options)


def test_a_line_stands_out_where_it_is():
    found = scanned(draw([(1700.0, 5000.0)], 3), [(1510.0, 1690.0), (1695.0, 1990.0)])
    best = int(found.significance.argmax())
    assert found.energies[best] == pytest.approx(1700.0, abs=1.0)
    sigma = found.amplitudes[best] / found.significance[best]
    assert found.amplitudes[best] == pytest.approx(5000.0, abs=4 * sigma)
    assert np.all(np.diff(found.energies) > 0) and found.length > 100.0
    assert not np.any((found.energies > 1690.0) & (found.energies < 1695.0))
    assert np.median(np.diff(found.energies)) == pytest.approx(2.9 / 4, rel=0.05)
    assert scanned(draw([], 3), [(1510.0, 1990.0)], with_length=False).length == 0.0


@pytest.mark.parametrize("tail", [False, True])
def test_a_long_axis_in_parts_is_the_axis(monkeypatch, tail):
    edges = np.linspace(500.0, 2500.0, 1001)
    mean = expected([(900.0, 8e3), (1700.0, 5e3)], edges)
    spectrum = EnergySpectrum(edges, np.random.default_rng(5).poisson(mean).astype(float))
    parts = scanned(spectrum, [(510.0, 2490.0)], tail)
    monkeypatch.setattr("cosi_linebkg_plugin.lines.scan._PART", 10_000)
    whole = scanned(spectrum, [(510.0, 2490.0)], tail)
    np.testing.assert_allclose(parts.energies, whole.energies)
    # the continuum is free in each part, and the lines are not in it
    assert np.abs(parts.significance - whole.significance).max() < 1.5
    best = int(whole.significance.argmax())
    assert int(parts.significance.argmax()) == best
    assert parts.significance[best] == pytest.approx(whole.significance[best], rel=0.02)
    assert parts.length == pytest.approx(whole.length, rel=0.03)


def test_parts_that_are_not_asked_for_are_left_out():
    edges = np.linspace(500.0, 2500.0, 1001)
    spectrum = EnergySpectrum(edges, np.round(expected([(1700.0, 5e3)], edges)))
    whole = scanned(spectrum, [(510.0, 2490.0)])
    some = scanned(spectrum, [(510.0, 2490.0)], with_length=False, near=(1650.0, 1750.0))
    assert 10 < some.energies.size < 0.6 * whole.energies.size
    assert some.energies[0] <= 1650.0 and some.energies[-1] >= 1750.0
    same = np.isin(whole.energies, some.energies)
    np.testing.assert_array_equal(whole.significance[same], some.significance)


def test_a_fit_is_scanned_once(monkeypatch):
    spectrum, shape = draw([(1700.0, 5000.0)], 3), Shape(VALUES, Form())
    model = trial_model(Settings(2.9, shape.form, 0.05, 20, 1750.0), [], shape)
    first, second = (fit_quickly(model, spectrum, EnergyGrid.from_edges(EDGES)) for _ in "ab")
    scans, allowed = Scans(spectrum, 0.05), [(1510.0, 1990.0)]
    asked = []

    def counted(*arguments, with_length, near):
        asked.append((with_length, near))
        return scan(*arguments, with_length=with_length, near=near)

    monkeypatch.setattr("cosi_linebkg_plugin.lines.scan.scan", counted)
    found, trials = scans.of(first, shape, shape.sigma, allowed, (1600.0, 1700.0))
    assert scans.of(first, shape, shape.sigma, allowed)[0] is found
    # of the second the length is known; a scan of a part does not stand for the whole
    for near in ((1600.0, 1700.0), None, None):
        again, same = scans.of(second, shape, shape.sigma, allowed, near)
    assert asked == [(True, None), (False, (1600.0, 1700.0)), (False, None)]
    np.testing.assert_array_equal(again.significance, found.significance)
    assert same == trials == Trials.of(0.05, 1, found.length)
    assert trials.global_significance(trials.threshold) == pytest.approx(1.645, abs=1e-3)


def test_no_room_is_no_energy():
    found = scanned(draw([], 3), [])
    assert found.significance.size == found.energies.size == 0 and found.length == 0.0


def test_maxima_are_not_below_their_neighbours():
    assert maxima(np.array([3.0, 1.0, 2.0, 2.0, 0.0, 5.0])).tolist() == [
        True, False, True, True, False, True
    ]  # fmt: skip
