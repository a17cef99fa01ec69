"""Results as tables: what a session prints, what a notebook shows, what a paper takes."""

import re

import numpy as np
import pytest
from astropy.table import Table
from observed import AXES, exact, observed_of, pattern
from spectra import line_model, simulated_spectrum
from templates import template_of

from cosi_linebkg_plugin import LineBackgroundLike, background_model, find_lines, instrumental_lines
from cosi_linebkg_plugin.errors import DataError
from cosi_linebkg_plugin.fit.minimise import fit_spectrum
from cosi_linebkg_plugin.io.tables import SHOWN_ROWS, Column, make_table, to_html
from cosi_linebkg_plugin.template.comparison import compare, to_table


@pytest.fixture(scope="module")
def results():
    """One result of each kind."""
    model = line_model(
        [(1779.0, 6000.0, (1770.0, 1790.0)), (1850.0, 2000.0, (1840.0, 1860.0))], k=300.0
    )
    edges = np.linspace(1700.0, 1900.0, 81)
    spectrum = simulated_spectrum(model, edges, np.random.default_rng(1))
    plugin = LineBackgroundLike("linebkg", spectrum)
    template = template_of({"continuum": pattern(900.0), "lines": pattern(90.0)}, AXES)
    return {
        "fit": plugin.fit(background_model([1779.0, 1850.0], pivot=1800)),
        "template": template,
        "comparison": compare(exact(pattern()), observed_of(pattern())),
        "search": find_lines(plugin),
        "plugin": plugin,
        "catalogue": instrumental_lines(),
        "spectrum": spectrum,
    }


KINDS = ["fit", "template", "comparison", "search", "plugin", "catalogue", "spectrum"]


@pytest.mark.parametrize("kind", KINDS)
def test_what_a_session_echoes_is_one_line_that_names_the_class(results, kind):
    """A fit printed 10 kB, a comparison thousands of numbers, a plugin its address."""
    result = results[kind]
    text = repr(result)
    assert text.startswith(type(result).__name__ + "(") and text.endswith(")")
    assert len(text) < 260 and "\n" not in text and " at 0x" not in text and "array(" not in text
    assert len(str(result)) < 3000


def test_the_numbers_are_there(results):
    fit, plugin = results["fit"], results["plugin"]
    assert repr(fit) == (
        "LineBackgroundFit(minuit, valid, 2 lines, 7 free parameters, deviance/dof "
        f"{fit.deviance:.1f}/{fit.dof})"
    )
    assert "81" not in repr(plugin) and "80 of 80 energy bins fitted" in repr(plugin)
    plugin.set_mask((1800, 1820))
    assert "72 of 80 energy bins fitted" in repr(plugin) and "masked 1800-1820 keV" in repr(plugin)
    plugin.set_mask()
    assert repr(instrumental_lines((1, 2))) == "CatalogueLines(none)"
    assert "1 line, " in repr(instrumental_lines((1778.9, 1779.0)))
    assert re.search(r"\d+ ± \d+ of \d+ counts \([+-]\d", repr(results["comparison"]))
    assert "2 lines above" in repr(results["search"])


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "spectrum"])
def test_a_notebook_shows_a_short_table(results, kind):
    from xml.etree import ElementTree

    html = results[kind]._repr_html_()
    page = ElementTree.fromstring(html)  # well formed
    assert page.tag == "div" and page.find("p/strong").text
    assert len(html) < 20_000
    if kind != "plugin":
        heads = [cell.text for cell in page.findall("table/thead/tr/th")]
        rows = page.findall("table/tbody/tr")
        assert heads and 0 < len(rows) <= SHOWN_ROWS
        assert all(len(row) == len(heads) for row in rows)


def test_a_notebook_says_what_a_plugin_has(results):
    plugin = LineBackgroundLike("other", results["spectrum"])
    assert "no model yet" in plugin._repr_html_()
    plugin.set_model(background_model([1779.0], pivot=1800))
    assert "model with 1 lines" not in plugin._repr_html_()
    assert "model with 1 line, 5 free parameters" in plugin._repr_html_()


def test_a_page_cannot_be_broken_by_what_a_file_says():
    html = to_html("<b>", ("<i>",), [("<script>",)], ["&"])
    assert "<script>" not in html and "&lt;script&gt;" in html and "&amp;" in html
    many = to_html("many", ("n",), [(str(i),) for i in range(SHOWN_ROWS + 3)])
    assert "and 3 more rows" in many and f">{SHOWN_ROWS}<" not in many


@pytest.mark.parametrize("kind", ["fit", "template", "comparison", "search", "catalogue"])
@pytest.mark.parametrize("form", ["latex", "csv", "ascii.ecsv"])
def test_tables_are_written_for_papers_and_programs(results, tmp_path, kind, form):
    table = results[kind].to_table()
    assert isinstance(table, Table) and len(table)
    path = tmp_path / "table"
    table.write(path, format=form)
    assert len(path.read_text().splitlines()) >= len(table)
    if form == "ascii.ecsv":
        again = Table.read(path, format=form)
        assert again.colnames == table.colnames
        assert [str(c.unit) for c in again.itercols()] == [str(c.unit) for c in table.itercols()]
        for name in table.colnames:
            if table[name].dtype.kind == "f":
                assert np.ma.allequal(again[name], table[name])


def test_the_table_of_a_fit_holds_its_numbers(results):
    fit = results["fit"]
    table = fit.to_table()
    rows = {row["parameter"]: row for row in table}
    for name, p in fit.parameters.items():
        assert rows[name]["value"] == p.value and rows[name]["unit"] == p.unit
        assert np.ma.is_masked(rows[name]["error"]) == (p.error is None)
    assert rows["F_2"]["unit"] == "counts"  # not 1/(s cm2)
    assert rows["sigma_3"]["follows"] == "sigma_2" and not rows["sigma_3"]["free"]
    lines = fit.to_table("lines")
    assert lines["energy"].unit == "keV" and lines["counts"].unit == "ct"
    assert list(lines["energy"]) == sorted(fit.values[f"mu_{i}"] for i in (2, 3))
    assert lines["counts_error"][0] == fit.errors["F_2"]
    with pytest.raises(DataError, match='"parameters" or of "lines", got \'lime\''):
        fit.to_table("lime")
    counts = fit.expected_counts((1770, 1790))
    assert list(counts.to_table()["component"]) == [*counts.labels, "total"]
    assert counts.to_table()["error"][-1] == counts.total_error


def test_the_tests_of_a_fit_are_those_of_its_summary(results):
    """One deviance and one p-value, each with what it is of, wherever a fit is shown."""
    from xml.etree import ElementTree

    fit = results["fit"]
    shown = " ".join("".join(ElementTree.fromstring(fit._repr_html_()).itertext()).split())
    words = " ".join(fit.summary().split())
    assert words in shown and shown.count("p =") == words.count("p =") == 2
    for what in ("parameters", "lines"):
        assert "p =" not in repr(fit) and "p_value" not in fit.to_table(what).meta
    meta = fit.to_table().meta
    assert (meta["deviance"], meta["dof"]) == (fit.deviance, fit.dof)


def test_a_fit_without_lines_has_an_empty_table_of_them():
    model = line_model([], k=300.0)
    spectrum = simulated_spectrum(model, np.linspace(1700, 1900, 41), np.random.default_rng(1))
    table = fit_spectrum(model, spectrum).to_table("lines")
    assert len(table) == 0 and "energy" in table.colnames


def test_several_comparisons_are_one_table():
    both = [compare(exact(pattern(n)), observed_of(pattern()), name=str(n)) for n in (9e3, 4e4)]
    table = to_table(both)
    assert list(table["template"]) == ["9000.0", "40000.0"] and table["counts"].unit == "ct"
    assert table["difference_percent"][0] == both[0].difference_percent


def test_columns_of_text_numbers_and_nothing():
    table = make_table(
        [Column("a", ["x", None]), Column("b", [1, 2], "keV"), Column("c", [None, None])], note="n"
    )
    assert table["a"].dtype.kind == "U" and table["b"].dtype.kind == "i"
    assert table["c"].mask.all() and table.meta == {"note": "n"}
