"""The record of a template, and its form in files."""

import dataclasses
import json
import math

import numpy as np
import pytest
from templates import tilted

from cosi_linebkg_plugin.errors import TemplateError
from cosi_linebkg_plugin.template.amounts import LineRatio
from cosi_linebkg_plugin.template.control import ControlRange, ControlRanges, ShapeTest
from cosi_linebkg_plugin.template.extra_error import ExtraError
from cosi_linebkg_plugin.template.hidden import HiddenLines
from cosi_linebkg_plugin.template.per_time import TimeCourse
from cosi_linebkg_plugin.template.record import FilterScore, MethodScore, Record

FULL = Record(
    "components",
    filter="multipoles up to l = 4",
    filter_scores=(FilterScore("no filter", 0.0), FilterScore("multipoles up to l = 4", 12.5)),
    method_scores=(MethodScore("interpolated", 0.0), MethodScore("components, order 1", -3.5)),
    pooled_slices=3,
    pooling_moved_percent=11.0,
    order=2,
    tracers=(1778.97, 1764.5),
    line_ratio=LineRatio(1808.65, 1778.97, 0.149, 0.015),
    line_share=0.76,
    shift=True,
    sky_norm=(1.02, 0.03),
    sky_norm_removed=1.01,
    systematic_percent=2.6,
    livetime_from="the events",
    split="Phi",
    recipe={"order": 2, "l_cut": 4, "window": [1700.0, 1900.0], "shift": True},
    control=ControlRanges(
        (
            ControlRange(
                1830.0, 1837.0, 2200.5, 12.0, 3.0, 2181.0, 46.7, {"Phi": ShapeTest(61.2, 59)}
            ),
        ),
        ExtraError(0.0, 0.0, 0.011, 1),
        {"Phi": ExtraError(0.031, 0.012, math.inf, 59)},
        ((1700.0, 1707.0, "The fit did not converge."),),
        1.8,
        0.01,
        HiddenLines(0.02, 0.05, 12, 4, ("1808.7 keV 26Al",)),
    ),
    measured_percent=1.2,
    hidden_percent=5.0,
    time_course=TimeCourse(
        ("continuum",),
        np.array([True, False, True]),
        np.array([0.25, 0.75]),
        np.array([[1], [2]]),
        np.array([[0.1], [0.2]]),
        np.array([[[-0.5], [-0.9]], [[-0.6], [-0.8]]]),
        np.array([[[100.0]], [[120.0]]]),
        np.array([2.0]),
        np.array([18.0, 22.0]),
        np.array([6.3, 6.3]),
        20,
    ),
    line_spread=tilted(4).line_spread,
    notes=("A note.",),
)


@pytest.mark.parametrize("record", [FULL, Record("sideband")])
def test_a_record_comes_back_from_its_file_form(record):
    text = json.dumps(record.to_details(), allow_nan=False)
    assert Record.from_details(record.method, json.loads(text), list(record.notes)) == record


def test_every_field_is_in_the_file_form():
    plain = Record("sideband")
    for field in dataclasses.fields(Record):
        value = getattr(FULL, field.name)
        assert value != getattr(plain, field.name), "the example must differ from the defaults"
    assert Record.from_details("components", FULL.to_details(), FULL.notes) == FULL


def test_files_of_the_first_release_are_read():
    """What the package wrote when details were a plain mapping, key for key."""
    details = {
        "order": 1,
        "tracers": [1778.97],
        "line_ratio": {"line": 1808.65, "tracer": 1778.97, "value": 0.149, "error": 0.015,
                       "share_in_range": 0.76},
        "filter": "no filter",
        "pooled_slices": 0,
        "systematic_percent": 0.0,
        "filter_scores": [{"filter": "no filter", "score": 0.0}],
        "livetime_from": "the events",
    }  # fmt: skip
    record = Record.from_details("components", details, [])
    assert record.to_details() == details
    assert record.line_ratio == LineRatio(1808.65, 1778.97, 0.149, 0.015)


@pytest.mark.parametrize(
    "details",
    [
        [],
        {"filter": 3},
        {"systematic_percent": -1.0},
        {"systematic_percent": "NaN"},
        {"pooled_slices": 0.5},
        {"order": True},
        {"tracers": ["x"]},
        {"tracers": 3},
        {"shift": "yes"},
        {"sky_norm": [1.0]},
        {"split": ["Phi"]},
        {"livetime_from": None},
        {"filter_scores": [{"filter": "no filter"}]},
        {"filter_scores": {"filter": 1}},
        {"line_ratio": {"line": 1, "tracer": 2, "value": 3}},
        {"line_ratio": {"line": 1, "tracer": 2, "value": -3, "error": 0, "share_in_range": 1}},
    ],
)
def test_what_is_no_record_is_refused(details):
    with pytest.raises((ValueError, KeyError, TypeError, TemplateError)):
        Record.from_details("components", details, [])


def test_a_record_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        FULL.filter = "another"
