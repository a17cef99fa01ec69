"""What a search says beside its table."""

from types import SimpleNamespace

import numpy as np
import pytest

from cosi_linebkg_plugin import find_lines
from cosi_linebkg_plugin.lines.notes import search_notes
from cosi_linebkg_plugin.lines.trial import Form, Shape, TrialLine
from cosi_linebkg_plugin.spectrum.axis import EnergySpectrum
from cosi_linebkg_plugin.spectrum.lineshapes import annihilation_counts, powerlaw_counts

EDGES = np.linspace(1500.0, 2000.0, 101)
VALUES = {"sigma": 3.0, "fraction": 0.2, "length": 10.0}
FITTED = Shape(VALUES, Form(tail=True, free_width=True, free_tail=True))


def notes(lines, shape=FITTED, at_limits=(), asked=FITTED.form, bin_width=5.0):
    fit = SimpleNamespace(
        at_limits=at_limits,
        model=SimpleNamespace(components=()),
        values=dict.fromkeys(at_limits, 9.0),
        spectrum=EnergySpectrum(EDGES, np.full(100, 1e3)),
    )
    return list(search_notes(fit, [TrialLine(*x) for x in lines], shape, asked, bin_width))


def test_nothing_is_said_of_lines_that_stand_apart():
    assert notes([(1600.0, 1e4), (1700.0, 1e3), (1800.0, 2e4)]) == []
    assert notes([]) == []


def test_a_shape_that_is_held_is_named():
    held = Shape(VALUES | {"sigma": 2.5}, Form(tail=True))
    width, tail = notes([(1600.0, 1e3)], held, asked=held.form)
    assert width.startswith("the width is held at 2.5 keV")
    assert tail.startswith("the tail is held at a share of 0.2 and a length of 10 keV")
    assert notes([], held, asked=held.form) == []  # it matters to lines alone


def test_what_the_search_took_beyond_what_was_asked_for_is_named():
    form = Form("powerlaw_polynomial", "linear", step=True, free_width=True, free_tail=True)
    shape = Shape(VALUES | {"a": 2.0, "b": 0.004}, form)
    (taken,) = notes([(1600.0, 1e3)], shape, asked=Form())
    assert taken.endswith("powerlaw_polynomial, a step under each line, a width that grows with "
                          "energy")  # fmt: skip


def test_limits_are_named():
    (width,) = notes([], at_limits=("sigma_2",))
    assert width == "sigma_2 sits on its limit, 9; search again from another width (sigma)"


@pytest.mark.parametrize(("distance", "ratio", "said"), [(20, 25, 1), (20, 15, 0), (40, 25, 0)])
def test_a_weak_line_beside_a_strong_one_may_be_its_shape(distance, ratio, said):
    """Within 8 widths of 3.3 keV, and 20 times weaker."""
    found = notes([(1700.0 - distance, 1e5 / ratio), (1700.0, 1e5)])
    assert len(found) == said
    assert all(x.startswith(f"{1700 - distance:.1f} keV: beside a line 20 times") for x in found)


def test_lines_with_as_many_parameters_as_bins_are_named():
    (crowd,) = notes([(1690.0, 1e4), (1700.0, 1e4), (1710.0, 1e4)])
    assert crowd.startswith("1687-1713 keV: the lines have as many parameters as bins")


def test_a_tail_that_511_kev_does_not_get_is_told():
    edges = np.arange(460.0, 561.0, 0.5)
    mean = powerlaw_counts(edges, 400.0, 511.0, -1.0)[0]
    mean = mean + annihilation_counts(edges, 20_000.0, 511.0, 0.8, 0.5, 2.6)[0]
    spectrum = EnergySpectrum(edges, np.random.default_rng(1).poisson(mean).astype(float))
    for tail in (True, False):
        found = find_lines(spectrum, sigma=0.8, tail=tail)
        assert any(c.broad_slots for c in found.fit.model.components)
        said = [n for n in found.notes if "take the place of the tail that is asked for" in n]
        assert len(said) == tail
