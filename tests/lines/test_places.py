"""Where lines of a search may be."""

import numpy as np
import pytest

from cosi_linebkg_plugin.lines.places import (
    MARGIN,
    SEPARATION,
    allowed_ranges,
    are_away,
    in_windows,
)
from cosi_linebkg_plugin.lines.trial import TrialLine


def width(energy):
    return 0.002 * energy


def test_lines_keep_away_from_the_mask_and_the_ends_of_the_axis():
    found = allowed_ranges([(1000.0, 1500.0), (1600.0, 1604.0), (1700.0, 2000.0)], width)
    assert len(found) == 2  # the second leaves no room
    for (low, high), (first, last) in zip(found, [(1000, 1500), (1700, 2000)], strict=True):
        assert low == first + MARGIN * width(first) and high == last - MARGIN * width(last)


def test_windows_keep_lines_in_order_apart_and_inside():
    allowed = allowed_ranges([(1000.0, 1500.0)], width)
    lines = in_windows(
        [TrialLine(e, 1.0) for e in (1203.0, 1198.0, 1003.0, 1400.0)], width, allowed
    )
    energies = [x.energy for x in lines]
    assert energies == sorted(energies)
    for line in lines:
        low, high = line.window
        assert low < line.energy < high and high - low <= 4.0 * width(line.energy) + 1e-9
    assert lines[0].window[0] == allowed[0][0]
    gap = lines[2].window[0] - lines[1].window[1]
    assert gap == pytest.approx(SEPARATION * np.mean([width(1198.0), width(1203.0)]))


def test_lines_too_close_for_a_grown_width_stay():
    lines = in_windows([TrialLine(e, 1.0) for e in (1200.0, 1200.5)], width, [(1000.0, 1500.0)])
    below, above = lines
    assert below.window[1] == below.energy + 1e-3 * width(below.energy)
    assert above.window[0] == above.energy - 1e-3 * width(above.energy)


def test_no_line_becomes_one_at_511_keV():
    near = in_windows([TrialLine(508.0, 1.0), TrialLine(511.0, 1.0)], width, [(400.0, 600.0)])
    assert near[0].window[1] < 509.0 < near[1].window[0]


def test_energies_away_from_places():
    energies, least = np.array([990.0, 1000.0, 1004.0, 1010.0]), np.array([5.0, 5.0, 5.0, 12.0])
    assert are_away(energies, [], least).all()
    assert are_away(energies, [1000.0], least).tolist() == [True, False, False, False]
    assert are_away(energies, [1020.0, 995.0], least).tolist() == [True, True, True, False]
