"""The figure of control ranges shows what the result holds."""

import numpy as np
import pytest
from numpy.testing import assert_allclose

from cosi_linebkg_plugin.errors import TemplateError
from cosi_linebkg_plugin.show.control import POOR, plot_control_ranges
from cosi_linebkg_plugin.template.control import ControlRange, ControlRanges, ShapeTest
from cosi_linebkg_plugin.template.extra_error import ExtraError


def result(amount=0.02):
    ranges = tuple(
        ControlRange(
            1700.0 + 10 * i, 1707.0 + 10 * i, 10000.0, 30.0, 0.0, 10000.0 + 100 * i, 100.0,
            {"Phi": ShapeTest(40.0 + 30 * i, 59), "PsiChi": ShapeTest(180.0, 191)},
        )
        for i in range(5)
    )  # fmt: skip
    error = ExtraError(amount, 0.0, 0.03, 5)
    return ControlRanges(ranges, error, {"Phi": error, "PsiChi": error})


def test_every_range_is_drawn_once():
    control = result()
    figure = plot_control_ranges(control, (1805, 1812))
    upper, lower = figure.axes
    points = {line.get_label(): line.get_ydata() for line in upper.lines}
    assert any(np.allclose(y, control.pulls) for y in points.values() if len(y) == 5)
    assert_allclose(points["and the measured 2 % as well"], [r.pull(0.02) for r in control.ranges])
    legend = [text.get_text() for text in upper.get_legend().get_texts()]
    assert legend == [
        "with the error of the fit alone", "and the measured 2 % as well", "source range",
    ]  # fmt: skip
    (across,) = upper.collections
    assert_allclose(across.get_segments()[0][:, 0], [control.ranges[0].low, control.ranges[0].high])
    drawn = np.concatenate(
        [line.get_ydata() for line in lower.lines if line.get_marker() != "None"]
    )
    chi2 = [t.chi2 / t.dof for r in control.ranges for t in r.shapes.values()]
    assert_allclose(np.sort(drawn), np.sort(chi2))


def test_without_a_measured_error_there_are_no_open_points():
    labels = {line.get_label() for line in plot_control_ranges(result(0.0)).axes[0].lines}
    assert not any("measured" in label for label in labels)


def test_hollow_marks_are_explained_and_none_is_on_the_edge():
    control = result()
    lower = plot_control_ranges(control).axes[1]
    hollow = [line for line in lower.lines if line.get_markerfacecolor() == "none"]
    poor = sum(t.p_value < POOR for r in control.ranges for t in r.shapes.values())
    assert sum(len(line.get_ydata()) for line in hollow) == poor > 0
    assert "chance below 1 %" in lower.get_title(loc="right")
    top = max(t.chi2 / t.dof for r in control.ranges for t in r.shapes.values())
    assert lower.get_ylim()[1] > 1.1 * top
    good = ControlRanges(control.ranges[:1], control.amount, control.shapes)
    assert plot_control_ranges(good).axes[1].get_title(loc="right") == ""


def test_nothing_to_draw_is_refused():
    empty = ControlRanges((), ExtraError(0.0, 0.0, np.inf, 0), {})
    with pytest.raises(TemplateError, match="nothing to draw"):
        plot_control_ranges(empty)
