"""The report: one file, complete, safe to open, and its numbers are the fit's."""

from dataclasses import replace
from html.parser import HTMLParser

import astropy.units as u
import histpy
import numpy as np
import pytest
from spectra import line_model, simulated_spectrum
from templates import tilted

from cosi_linebkg_plugin.errors import FileError
from cosi_linebkg_plugin.fit.minimise import fit_spectrum
from cosi_linebkg_plugin.fit.result import LineBackgroundFit
from cosi_linebkg_plugin.fit.words import chance
from cosi_linebkg_plugin.model.spec import CONTINUA, numerical_model, spectrum_parts
from cosi_linebkg_plugin.show import report
from cosi_linebkg_plugin.show.report import (
    SAID_OF_METHODS,
    format_ranges,
    format_value,
    headline,
    write_report,
)
from cosi_linebkg_plugin.show.spectrum import plot_spectrum
from cosi_linebkg_plugin.spectrum.axis import EnergySpectrum
from cosi_linebkg_plugin.template.amounts import LineRatio
from cosi_linebkg_plugin.template.control import ControlRange, ControlRanges, ShapeTest
from cosi_linebkg_plugin.template.extra_error import ExtraError
from cosi_linebkg_plugin.template.options import METHODS
from cosi_linebkg_plugin.template.record import Record
from cosi_linebkg_plugin.template.template import BackgroundTemplate

EDGES = np.linspace(1600.0, 1900.0, 61)
SOURCE = (1805.0, 1812.0)
MODEL = line_model(
    [(1666.0, 9e3, (1656.0, 1676.0)), (1808.0, 6e3, (1800.0, 1815.0))], k=300.0, sigma=3.0
)
EVIL = '<script>alert("x")</script>'
VOID = {"meta", "img", "br", "hr", "link"}


@pytest.fixture(scope="module")
def fit():
    return fit_spectrum(MODEL, simulated_spectrum(MODEL, EDGES, np.random.default_rng(1)))


def make_template(fit, label="background", **record):
    axes = histpy.Axes(
        [
            histpy.Axis(list(SOURCE) * u.keV, label="Em"),
            histpy.Axis(np.linspace(0, 180, 4) * u.deg, label="Phi"),
        ]
    )
    contents = np.array([[1000.0, 1100.0, 134.5]])
    return BackgroundTemplate(
        axes,
        {label: (contents, contents)},
        {label: 2234.5},
        np.array([[21.4**2]]),
        fit=fit,
        record=Record("sideband", **record),
        source_range=SOURCE,
        sidebands=[(1700.0, 1750.0), (1830.0, 1880.0)],
        weights=np.ones((1, 60)),
        livetime=7776000.0,
    )


class Page(HTMLParser):
    """Checks that tags are balanced; collects the text, the cells and the links."""

    def __init__(self, path):
        super().__init__()
        self.open, self.text, self.links, self.tags, self.rows = [], "", [], [], []
        self.feed(path.read_text(encoding="utf-8"))
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.links += [value for name, value in attrs if name in ("src", "href")]
        if tag not in VOID:
            self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] not in ("style", "title"):
            self.text += data
        if {"td", "th"} & set(self.open):
            self.rows[-1][-1] += data

    def row(self, first):
        rows = [[cell.strip() for cell in row] for row in self.rows]
        return next(row[1:] for row in rows if row[0] == first)


def written(tmp_path, **arguments):
    write_report(tmp_path / "report.html", **arguments)
    return Page(tmp_path / "report.html")


# --- content --------------------------------------------------------------------------------------


def test_report_holds_everything(fit, tmp_path):
    rows = [
        {"template": "sideband", "counts": 2234.5, "error": 21.4, "truth": 2300.0,
         "difference_percent": -2.848, "phi_chi2_per_bin": 1.0449},
        {"template": "other", "truth": (2300.0, 48.0)},
    ]  # fmt: skip
    page = written(
        tmp_path,
        fit=fit,
        template=make_template(fit),
        config_text="events: total.hdf5  # a & b",
        comparison=rows,
        figures={"spectrum": plot_spectrum(fit), "My own caption": plot_spectrum(fit)},
        title="A title",
        notes=["A note."],
    )
    for text in (fit.summary(), "A title", "A note.", "events: total.hdf5  # a & b", "My own cap",
                 report.CAPTIONS["spectrum"], "numpy"):  # fmt: skip
        assert text in page.text
    p = fit.parameters
    value, error = format_value(p["mu_2"].value, p["mu_2"].error).split(" ± ")
    assert page.row("mu_2") == [value, f"± {error}", "keV", "free"]
    assert page.row("piv_1") == ["1800", "", "keV", "fixed"]
    assert page.row("sigma_3")[-1] == "equals sigma_2"
    counts = fit.expected_counts(SOURCE)
    value, error = format_value(counts.total, counts.total_error).split(" ± ")
    assert page.row("fitted spectrum") == [value, f"± {error}"]
    assert page.row("total") == ["2234", "± 21"]  # one total: the template's
    line = fit.expected_counts(SOURCE, by="component")
    value, error = format_value(line.values[-1], line.errors[-1]).split(" ± ")
    assert page.row(f"{p['mu_3'].value:.2f} keV") == [value, f"± {error}"]
    assert page.row("background") == ["2234", "± 21"]
    assert page.row("sidebands") == [format_ranges([(1700, 1750), (1830, 1880)])]
    assert page.row("axes") == ["Em (1), Phi (3)"]
    assert page.row("live time") == ["7776000 s (90 days)"]
    dash = format_value(None)
    assert page.row("template") == ["counts", "truth", "difference [%]", "phi \u03c7\u00b2 per bin"]
    assert page.row("sideband") == ["2234 ± 21", "2300", "-2.848", "1.045"]
    assert page.row("other") == [dash, "2300 ± 48", dash, dash]
    assert page.tags.count("img") == 2


def test_report_shows_the_control_ranges(fit, tmp_path):
    shapes = {"Phi": ShapeTest(61.2, 59)}
    rows = [ControlRange(1830.0 + 10 * i, 1837.0 + 10 * i, 2200.5, 12.0, 3.0, 2181.0, 46.7, shapes)
            for i in range(5)]  # fmt: skip
    error = ExtraError(0.013, 0.0, 0.02, 5)
    skipped = ((1700.0, 1707.0, "no minimum"),)
    control = ControlRanges(tuple(rows), error, {"Phi": error}, skipped)
    template = make_template(fit)
    template.set_control(control)
    page = written(tmp_path, fit=fit, template=template)
    assert control.summary() in page.text and "The template may be used" in page.text
    assert page.row("1830-1837") == [
        "2200 ± 12", "2181", "-0.89", "-0.40", "61.2 / 59", "0.4",
    ]  # fmt: skip
    assert "is left out: no minimum" in page.text and "no larger one of the amount" in page.text
    template.set_control(replace(control, ranges=()))
    page = written(tmp_path, fit=fit, template=template)
    assert "The template is not tested" in page.text
    template.set_control(replace(control, source_ratio=4.0))
    page = written(tmp_path, fit=fit, template=template)
    assert "The template should not be used" in page.text


def test_components_may_have_any_name(fit, tmp_path):
    """A component called "muons" made the report look for "Fons"."""
    names = {"mu_2": "energy_of_muons", "F_2": "muons", "mu_3": "mu", "F_3": "F_mu"}
    parameters = tuple(replace(p, name=names.get(p.name, p.name)) for p in fit.model.parameters)
    renamed = replace(
        fit,
        model=replace(fit.model, parameters=parameters),
        covariance_names=tuple(names.get(n, n) for n in fit.covariance_names),
    )
    page = written(tmp_path, fit=renamed)
    for energy, area in (("energy_of_muons", "muons"), ("mu", "F_mu")):
        values, errors = renamed.values, renamed.errors
        energy, error = format_value(values[energy], errors[energy]).split(" ± ")
        assert page.row(energy)[0] == f"± {error}"
        counts, error = format_value(values[area], errors[area]).split(" ± ")
        assert page.row(energy)[1:3] == [counts, f"± {error}"]


def test_a_line_from_its_ratio_is_said_to_be_in_the_template_alone(fit, tmp_path):
    ratio = LineRatio(1808.65, 1778.97, 0.149, 0.015)
    template = make_template(fit)
    record = replace(template.record, line_ratio=ratio, line_share=0.4)
    page = written(tmp_path, fit=fit, template=template._with(record=record))
    assert "more than the fitted spectrum: a line at\n1808.65 keV" in page.text
    assert "0.149 ± 0.015 to the line at\n1778.97 keV" in page.text


def test_report_says_how_much_lines_differ(fit, tmp_path):
    template = make_template(fit, "lines", line_spread=tilted(3).line_spread)
    text = " ".join(written(tmp_path, fit=fit, template=template).text.split())
    assert "3 lines differ along Phi by 30 % (68 %: 24 to 39)." in text
    assert "it may differ by 1 pattern of theirs" in text


@pytest.mark.parametrize("continuum", CONTINUA)
def test_report_names_the_law_of_the_continuum(continuum, tmp_path):
    model = numerical_model(spectrum_parts([1779], pivot=1800, step=True, continuum=continuum))
    counts = np.random.default_rng(3).poisson(model.bind(EDGES).counts(model.values))
    fit = fit_spectrum(model, EnergySpectrum(EDGES, counts * 1.0))
    write_report(tmp_path / "r.html", fit=fit)
    text = " ".join((tmp_path / "r.html").read_text().split())
    assert f"continuum (2 components: {continuum}, step) and 1 line" in text


def test_every_method_has_a_sentence():
    assert set(SAID_OF_METHODS) == set(METHODS)


def test_report_of_a_fit_alone(fit, tmp_path):
    page = written(tmp_path, fit=fit)
    assert "Template" not in page.text and "Comparison" not in page.text
    assert "source range" not in page.text
    page = written(tmp_path, fit=fit, source_range=(1.7, 1.75) * u.MeV)
    assert f"source range, {format_ranges([(1700.0, 1750.0)])}" in page.text


def test_report_is_self_contained(fit, tmp_path):
    figures = {"spectrum": plot_spectrum(fit)}
    page = written(tmp_path, fit=fit, figures=figures, interactive=False)
    assert page.links and all(link.startswith("data:image/png;base64,") for link in page.links)
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "http://" not in text and "https://" not in text and "url(" not in text
    assert not {"script", "link", "iframe"} & set(page.tags)
    assert 'name="viewport"' in text and "@media print" in text


def test_report_escapes_what_it_is_given(fit, tmp_path):
    parameters = (replace(fit.model.parameters[0], name=EVIL, unit=EVIL), *fit.model.parameters[1:])
    evil = replace(fit, model=replace(fit.model, parameters=parameters), message=EVIL, valid=False)
    evil = replace(evil, covariance_names=(EVIL, *fit.covariance_names[1:]))
    page = written(
        tmp_path,
        fit=evil,
        template=make_template(fit, label=EVIL),
        title=EVIL,
        notes=[EVIL],
        config_text=EVIL,
        comparison=[{EVIL: EVIL}],
        figures={EVIL: plot_spectrum(fit)},
    )
    assert "script" not in page.tags
    assert page.text.count(EVIL) >= 8
    assert EVIL not in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_report_says_that_a_masked_source_range_is_not_tested(fit, tmp_path):
    assert "is masked" not in written(tmp_path, fit=fit, source_range=SOURCE).text
    masked = replace(fit, spectrum=fit.spectrum.with_mask([(1790.0, 1808.0)]))
    assert "is masked" in written(tmp_path, fit=masked, source_range=SOURCE).text
    assert "is masked" not in written(tmp_path, fit=masked, source_range=(1700.0, 1710.0)).text


# --- summary --------------------------------------------------------------------------------------


def spoiled(fit, factor):
    """The same result on data that it was not fitted to."""
    counts = fit.spectrum.counts * np.where(np.arange(60) % 2, factor, 1.0)
    return replace(fit, spectrum=EnergySpectrum(EDGES, counts))


def test_headline_says_what_the_summary_says(fit):
    assert headline(fit) == ("The model describes the fitted bins", "good")
    bad = spoiled(fit, 1.2)
    assert headline(bad) == ("The model does not describe the fitted bins", "bad")
    assert "NOT" in bad.summary() and "NOT" not in fit.summary()


def test_report_says_how_adequate_the_fit_is(fit, tmp_path):
    page = written(tmp_path, fit=fit)
    assert page.row("systematic error") == ["none needed"]
    bad = spoiled(fit, 1.2)
    page, a = written(tmp_path, fit=bad), bad.adequacy
    percent = format_value(100 * bad.systematic, None, 3)
    assert page.row("systematic error") == [f"{percent} % of each bin, included below"]
    for test in a.tests:  # each p-value with what it is of
        (text,) = page.row(test.name)
        assert text.startswith(f"{test.result}: p {chance(test.p_value)} ({test.law})")
    assert page.row("all tests together") == [f"p {chance(a.p_value)}: {a.combination}"]
    assert a.combination in bad.summary() and chance(a.p_value) in bad.summary()
    assert "should NOT be used for a template" in page.text


def test_headline_of_fits_that_cannot_be_judged(fit):
    assert headline(replace(fit, valid=False))[1] == "bad"
    model = line_model([], k=0.01)
    few = LineBackgroundFit(
        model, EnergySpectrum(EDGES, np.zeros(60)), model.values, (), np.zeros((0, 0))
    )
    assert headline(few) == ("The goodness of fit is open", "open")


def test_missing_errors_and_impossible_p_values_are_said(fit, tmp_path):
    bare = replace(
        spoiled(fit, 5.0), covariance_names=(), covariance=np.zeros((0, 0)), at_limits=("mu_2",)
    )
    page = written(tmp_path, fit=bare, source_range=SOURCE)
    assert ": p < 1e-300; there are no other tests" in page.row("deviance")[0]
    assert page.row("K_1")[1] == "not known"
    assert page.row("total")[1] == "not known"
    assert page.row("mu_2")[-1] == "at its limit (1656 to 1676)"


# --- numbers --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "error", "text"),
    [
        (1778.9671, 0.0312, "1778.967 ± 0.031"),
        (22169.3, 123.4, "22170 ± 120"),
        (22169.3, 0.0996, "22169.30 ± 0.10"),
        (-0.001, 12.0, "0 ± 12"),
        (-2.0298, 0.0094, "-2.0298 ± 0.0094"),
        (1.2345e-7, 5.6e-9, "(1.235 ± 0.056)e-07"),
        (3e10, 4e7, "(3.0000 ± 0.0040)e+10"),
        (0.0, 0.1, "0.00 ± 0.10"),
        (1778.97, None, "1778.97"),
        (1800.0, 0.0, "1800"),
        (0, None, "0"),
        (2141310.0, np.inf, "2141310"),
        (np.float64(0.1 + 0.2), None, "0.3"),
        (1e-12, None, "1e-12"),
        (np.nan, 1.0, "\u2013"),
        (None, None, "\u2013"),
    ],
)
def test_format_value(value, error, text):
    assert format_value(value, error) == text


def test_format_value_keeps_whole_numbers_whole():
    assert format_value(22169.28, digits=4) == "22169"
    assert format_value(-17.8512, digits=4) == "-17.85"


def test_format_ranges():
    assert format_ranges([]) == "none"
    assert format_ranges([(1805.0, 1812.5), (1e3, 2e3)]) == "1805\u20131812.5, 1000\u20132000 keV"


# --- files ----------------------------------------------------------------------------------------


def test_report_is_written_whole_or_not_at_all(fit, tmp_path, monkeypatch):
    path = tmp_path / "report.html"
    path.write_text("before")
    monkeypatch.setattr(report, "_png", lambda figure: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        write_report(path, fit=fit, figures={"spectrum": None})
    assert path.read_text() == "before"
    write_report(path, fit=fit)
    assert path.read_text(encoding="utf-8").startswith("<!DOCTYPE html>")
    assert [p.name for p in tmp_path.iterdir()] == ["report.html"]
    with pytest.raises(FileError, match="missing"):
        write_report(tmp_path / "missing" / "report.html", fit=fit)


@pytest.mark.parametrize("percent", [0.0, 3.4])
def test_what_the_mask_may_hide_is_named_beside_the_control_ranges(fit, tmp_path, percent):
    nothing = ExtraError(0.0, 0.0, 0.01, 12)
    template = make_template(fit, control=ControlRanges((), nothing, {}), hidden_percent=percent)
    write_report(tmp_path / "report.html", fit=fit, template=template)
    text = " ".join(Page(tmp_path / "report.html").text.split())
    assert ("They include 3.4 % for lines that the mask may hide" in text) == bool(percent)


@pytest.mark.parametrize("percent", [0.0, 0.85])
def test_where_an_error_was_measured_that_of_the_fit_is_named(fit, tmp_path, percent):
    """The same counts stand there twice: once with the error to quote, once with the fit's own."""
    template = make_template(fit, measured_percent=percent)
    write_report(tmp_path / "report.html", fit=fit, template=template)
    page = Page(tmp_path / "report.html")
    heads = [row for row in page.rows if row[:2] == ["component", "counts"]]
    named = "error of the fit alone" if percent else "error"
    assert [row[2] for row in heads] == [named, "error"]
    text = " ".join(page.text.split())
    assert ("The errors to quote are those of the template" in text) == bool(percent)
    assert ("they include 0.85 % of the amount of background" in text) == bool(percent)
