"""Tables as lines of text."""

from types import SimpleNamespace

from cosi_linebkg_plugin.app.tables import (
    catalogue_table,
    comparison_table,
    demo_table,
    match_table,
    text_table,
)


def test_numbers_stand_at_the_right_and_words_at_the_left():
    lines = text_table(["name", "counts"], [["a", "1"], ["longer", "12345"]], numbers=[1])
    assert [line.split() for line in (lines[0], *lines[2:])] == [
        ["name", "counts"], ["a", "1"], ["longer", "12345"]
    ]  # fmt: skip
    assert lines[2].startswith("a ") and len({line.rindex(line.split()[-1][-1]) + 1
                                              for line in lines[2:]}) == 1  # fmt: skip
    assert all(line == line.rstrip() for line in lines)


def test_text_is_printed_as_it_is():
    (_, _, line) = text_table(["a [keV]"], [["[bold]x[/bold] 1±2"]], numbers=[])
    assert line == "[bold]x[/bold] 1±2"
    wide = "word " * 60
    assert text_table(["a", "b"], [["1", wide]], numbers=[0])[-1].endswith(wide.strip())


def test_the_demos_methods_against_the_truth():
    row = {"template": "sideband", "counts": 22169.4, "truth": 26813.2, "difference_percent": -17.3}
    heads, _, line = demo_table([row])
    assert heads.split() == ["template", "counts", "truth", "difference"]
    assert line.split() == ["sideband", "22169", "26813", "-17.3", "%"]


def test_a_comparison_shows_projections_and_what_is_not_known():
    phi = SimpleNamespace(chi2=61.2, dof=60, p_value=0.43, largest=lambda: [("61-64", -3.21)])
    known = SimpleNamespace(
        name="a", counts=100.4, error=9.6, observed=90.0, difference_percent=11.1,
        difference_error_percent=12.0, projections={"Phi": phi}, unknown=(),
    )  # fmt: skip
    other = SimpleNamespace(**{**vars(known), "name": "b", "projections": {}, "unknown": ["lines"]})
    lines = comparison_table([known, other])
    assert lines[2].split() == [
        "a",
        "100",
        "±",
        "10",
        "90",
        "+11.1",
        "±",
        "12.0",
        "%",
        "61/60,",
        "0.43",
    ]
    assert "a, largest deviations in Phi [sigma]: 61-64: -3.2" in lines
    assert any(line.startswith("note: b: the amount of lines is not known") for line in lines)


def test_empty_tables_are_a_sentence():
    assert catalogue_table([]) == ["The catalogue has no line there."]
    assert match_table([]) == ["The fit has no line there."]
