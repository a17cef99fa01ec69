"""The parts of ``tests/benchmarks/table.py`` work: its rows at tiny sizes, failures, the pages."""

import importlib
import inspect
import json
import re
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "tests" / "benchmarks"


@pytest.fixture
def table(monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))
    return importlib.import_module("table")


def test_every_bench_takes_its_arguments(table):
    for group in table.GROUPS.values():
        for bench in group.benches:
            module, function = bench.function.split(":")
            signature = inspect.signature(getattr(importlib.import_module(module), function))
            for arguments in (bench.arguments, bench.arguments | (bench.quick or {})):
                signature.bind(*[ROOT] * bench.in_folder, **arguments)


def test_rows_of_equal_results(table, tmp_path):
    """Each asserts that both sides agree before it times them."""
    benches = [
        table.Bench("bench_fit:likelihood_call", {"n_lines": 6, "calls": 2, "repeats": 1}),
        table.Bench("bench_template:many_time_bins", {"n_times": 2, "n_events": 1e4, "repeats": 1}),
        table.Bench("bench_filters:low_pass", {"n_time": 1, "nside": 4, "repeats": 1}),
        table.Bench("bench_events:against_histpy", {"kind": "plain", "n": 3000, "repeats": 1},
                    in_folder=True),
    ]  # fmt: skip
    rows = [row for bench in benches for row in bench.rows(tmp_path, quick=False)]
    assert len(rows) == 6
    assert all(row.ours > 0 and row.theirs > 0 and row.ratio > 0 for row in rows)
    assert all(row.unit == "s" and row.what and row.peer for row in rows)


def test_a_peer_that_differs_is_found(table, tmp_path, monkeypatch):
    import bench_template

    loop = bench_template.summed_slices
    monkeypatch.setattr(bench_template, "summed_slices", lambda h: 1.001 * loop(h))
    with pytest.raises(AssertionError):
        bench_template.many_time_bins(2, 1e3, repeats=1)


def fails(**_):
    raise ValueError("no | such\nthing")


def test_a_row_that_fails_shows_its_error_and_the_others_go_on(table, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "failing", sys.modules[__name__])
    benches = [
        table.Bench("failing:fails", {"n": 3}),
        table.Bench("failing:fails", {"n": 4}, quick=None),
        table.Bench("bench_filters:low_pass_matrix", {"nside": 2, "repeats": 1}),
    ]
    out = tmp_path / "rows"
    table.work(benches, tmp_path, quick=True, out=out)
    told = [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]
    assert [list(entry) for entry in told] == [
        ["versions"], ["what"], ["what", "problem"], ["what"], ["rows", "headline"],
    ]  # fmt: skip
    assert told[0]["versions"].startswith("Python 3") and "numpy" in told[0]["versions"]
    assert told[2] == {"what": "fails(n=3)", "problem": "ValueError: no | such\nthing"}
    results = [
        table.Result("T", "A", what=told[2]["what"], problem=told[2]["problem"]),
        table.Result("T", "A", table.Row(**told[4]["rows"][0])),
    ]
    text = table.markdown(results)
    assert "| fails(n=3) | **failed**: ValueError: no / such thing |" in text
    assert {line.count("|") for line in text.splitlines() if line.startswith("|")} == {7}
    assert table.summary(results) == "2 rows; 0 of 0 aims met, 0 missed; 1 rows failed"


def test_a_process_that_dies_is_a_failed_row(table, tmp_path):
    (result,) = table.run_group("start", str(tmp_path / "no-python"), tmp_path, quick=True)
    assert result.row is None and "no-python" in result.problem


def test_an_aim_is_met_or_missed(table):
    row = table.Row("a", 2.0, "s", "b", 10.0, aim=5)
    rate = table.Row("a", 10.0, "1/s", "b", 2.0, aim=6)
    slope = table.Row("a", 1.2, "exponent", aim=1.1)
    assert (row.ratio, row.met, rate.ratio, rate.met) == (5.0, True, 5.0, False)
    assert (slope.ratio, slope.met, table.Row("a", 1.0).met) == (None, False, None)
    results = [table.Result("T", "A", r, headline=True) for r in (row, rate, slope)]
    text = table.markdown(results)
    assert "| a | 2 s | b: 10 s | 5 | ≥ 5: met | A |" in text
    assert "| a | 10/s | b: 2/s | 5 | ≥ 6: **missed** | A |" in text
    assert "| a | 1.20 |  |  | ≤ 1.1: **missed** | A |" in text
    assert table.headlines(results).splitlines()[2:] == ["| a | b | 5 times faster |"] * 2


def test_growth_is_the_exponent(table):
    from timing import growth

    row = growth("g", (10, 100, 1000), (2.0, 8.0, 32.0))
    assert row.ours == pytest.approx(np.log10(4)) and row.unit == "exponent"
    assert row.what == "g, 10 to 1e+03"


def test_the_page_takes_a_table_between_marks(table, tmp_path):
    text = table.PAGE.read_text(encoding="utf-8")
    copy = tmp_path / "page.md"
    copy.write_text(text, encoding="utf-8")
    table.write_between_marks(copy, "| new |")
    written = copy.read_text(encoding="utf-8")
    assert "<!-- benchmarks -->\n| new |\n<!-- end -->" in written
    assert written.split("<!-- benchmarks -->")[0] == text.split("<!-- benchmarks -->")[0]


def test_the_page_holds_a_whole_run(table):
    text = table.PAGE.read_text(encoding="utf-8")
    assert "**failed**" not in text
    assert all(f"### {group.title}" in text for group in table.GROUPS.values())
    short, whole = text.split("### In short")[1].split("###", 1)
    whats = re.findall(r"^\| (.+?) \| .+ times (?:faster|smaller) \|$", short, flags=re.MULTILINE)
    assert whats and all(f"| {what} |" in whole for what in whats)


def test_a_part_is_not_written(table, capsys):
    with pytest.raises(SystemExit):
        table.main(["--write", "--only", "fit"])
    assert "--write takes all rows" in capsys.readouterr().err
