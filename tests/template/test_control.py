"""What control ranges say: sentence, objections, pulls, table."""

import dataclasses
import json
import math

import pytest

from cosi_linebkg_plugin.template.control import (
    ControlRange,
    ControlRanges,
    ShapeTest,
    measured_amount,
)
from cosi_linebkg_plugin.template.extra_error import ExtraError
from cosi_linebkg_plugin.template.notes import of_control_ranges
from cosi_linebkg_plugin.template.record import Record

NONE = ExtraError(0.0, 0.0, 0.004, 12)


def control(differences, amount=None, phi=NONE, **changes):
    ranges = tuple(
        ControlRange(
            1700.0 + 10 * i, 1707.0 + 10 * i, 10000.0, 30.0, 0.0, 10000.0 * (1 + d), 100.0,
            {"Phi": ShapeTest(59.0, 59)},
        )
        for i, d in enumerate(differences)
    )  # fmt: skip
    return ControlRanges(ranges, amount or measured_amount(ranges), {"Phi": phi}, **changes)


def test_the_sentence_says_what_was_measured():
    good = control([0.03, -0.03] * 6, phi=ExtraError(0.011, 0.005, 0.02, 700))
    # the pulls' squares need sqrt(300^2 - 104.4^2) counts of 10,000
    assert good.amount.value == pytest.approx(math.sqrt(0.03**2 - 0.01044**2), rel=1e-3)
    assert good.summary() == (
        "tested on 12 control ranges: totals agree to 2.8 %, Phi to 1.1 %; may be used"
    )
    assert good.usable
    untested = control([0.0] * 6, phi=ExtraError(0.0, 0.0, math.inf, 0))
    assert "Phi not tested; may be used" in untested.summary()
    vague = control([0.0] * 6, phi=ExtraError(0.0, 0.0, 2.04, 3))
    assert "Phi within their errors (below 204 %)" in vague.summary()
    agreeing = control([0.0] * 6)
    assert "totals agree within their errors (below 1.1 %)" in agreeing.summary()


@pytest.mark.parametrize(
    ("result", "reason"),
    [
        (control([0.1, -0.1] * 4), "totals are off by 9.9 %, more than 5 %"),
        (
            control([0.0] * 8, phi=ExtraError(0.2, 0.1, 0.3, 700, 0.08)),
            "bins of Phi are off by 20 %",
        ),
        (control([0.0] * 8, source_ratio=4.7), "4.7 times the template's counts"),
        (control([0.0] * 8, systematic=0.04), "off by 4 % in each bin of the spectrum, more than"),
    ],
)
def test_objections_are_said(result, reason):
    assert not result.usable
    assert reason in result.summary()
    assert "should not be used" in result.summary()


def test_what_few_counts_scatter_is_no_objection():
    """An error that may be none says nothing against a template, nor for it."""
    result = control([0.0] * 8, phi=ExtraError(0.2, 0.05, 0.3, 20, 0.0))
    assert not result.objections and not result.tested and not result.usable
    assert result.summary().endswith(
        "Phi to 20 %; that is no test, the counts are too few: bins of Phi"
    )
    assert (
        "should not be used: totals"
        in control([0.1, -0.1] * 4, phi=ExtraError(0.2, 0.05, 0.3, 20, 0.0)).summary()
    )


def test_few_ranges_are_no_test():
    result = control([0.001] * 3)
    assert not result.usable and not result.tested and not result.objections
    assert result.summary().endswith("that is no test, 4 are needed")
    assert control([]).summary() == "tested on 0 control ranges; that is no test, 4 are needed"
    # what speaks against it does all the same
    assert "should not be used" in control([], source_ratio=5.0).summary()


def test_a_pull_takes_the_larger_systematic_error():
    row = dataclasses.replace(control([0.04]).ranges[0], error=500.0, systematic=400.0)
    assert row.pull() == pytest.approx(400.0 / math.hypot(500.0, 100.0))
    assert row.pull(0.02) == row.pull()
    assert row.pull(0.06) == pytest.approx(400.0 / math.sqrt(300**2 + 600**2 + 100**2))


def test_it_comes_back_from_json():
    result = control([0.01] * 5, amount=ExtraError(0.1, 0.0, math.inf, 5), source_ratio=1.5)
    text = json.dumps(result.to_dict(), allow_nan=False)
    assert ControlRanges.from_dict(json.loads(text)) == result


@pytest.mark.parametrize(
    "damage", [{"amount": 3}, {"ranges": [{}]}, {"shapes": [1]}, {"skipped": 0}]
)
def test_damaged_json_is_refused(damage):
    data = control([0.01] * 5).to_dict() | damage
    with pytest.raises((ValueError, KeyError, TypeError)):
        ControlRanges.from_dict(data)


def test_the_table_has_a_line_for_each_range():
    text = str(control([0.01] * 5, skipped=((1600.0, 1607.0, "no fit"),)))
    assert text.count("59.0/59") == 5 and "1600-1607 left out: no fit" in text


def test_it_shows_itself_in_a_line_and_as_tables():
    result = control([0.01, -0.01, 0.02, 0.0])
    assert repr(result) == "ControlRanges(4 ranges, the template may be used)"
    assert "is not tested" in repr(control([0.01]))
    assert "should not be used" in repr(control([0.1, -0.1] * 4))
    html = result._repr_html_()
    assert html.count("<tr>") == 5 and "Phi chi2/dof, p" in html and result.summary() in html
    table = result.to_table()
    assert list(table["low"]) == [r.low for r in result.ranges] and table["low"].unit == "keV"
    assert list(table["pull"]) == result.pulls.tolist() and table["expected"].unit == "ct"
    assert table["Phi_dof"][0] == 59 and table.meta["summary"] == result.summary()
    assert len(control([]).to_table()) == 0


def test_what_no_error_includes_and_what_cannot_be_seen_is_said():
    far = control([0.0] * 8, phi=ExtraError(0.05, 0.04, 0.06, 700, 0.04))
    counts = {"continuum": 3.0, "lines": 7.0}
    shape, lines = of_control_ranges(Record("components", control=far), counts)
    assert "Phi is off by 5 % a bin" in shape and "Try shift=True" in shape
    assert 'say nothing of "lines", 70 %' in lines
    moved = Record("components", shift=True, control=far)
    (shape,) = of_control_ranges(moved, {"continuum": 3.0})
    assert "shift" not in shape
    good = Record("components", control=control([0.0] * 8))
    assert of_control_ranges(good, {"continuum": 3.0}) == []
    assert of_control_ranges(Record("components"), {"lines": 3.0}) == []
    (bad,) = of_control_ranges(Record("components", control=control([0.1, -0.1] * 4)), counts)
    assert bad.startswith("Control ranges: ") and "should not be used" in bad
