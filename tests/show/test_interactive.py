"""The spectrum that zooms: what it holds, and that a page without bokeh does without."""

import base64
import gzip
import json
import re

import numpy as np
import pytest

from cosi_linebkg_plugin.show import interactive, report
from cosi_linebkg_plugin.show.interactive import has_bokeh, interactive_spectrum
from cosi_linebkg_plugin.show.report import write_report

SOURCE = (1805.0, 1812.0)

needs_bokeh = pytest.mark.skipif(not has_bokeh(), reason="bokeh is not installed")


def tables(item):
    """The data of a bokeh figure, as lists."""
    found = []

    def walk(node):
        if isinstance(node, dict):
            if node.get("name") == "ColumnDataSource":
                entries = node["attributes"]["data"]["entries"]
                found.append({key: values for key, values in entries})
            for value in node.values():
                walk(value)
        elif isinstance(node, list):
            for value in node:
                walk(value)

    walk(json.loads(item))
    return found


@needs_bokeh
def test_it_holds_every_bin_and_every_line(fit):
    item, library = interactive_spectrum(fit, SOURCE)
    bins = next(t for t in tables(item) if "counts" in t and "low" in t)
    widths = fit.spectrum.widths
    assert np.allclose(bins["low"], fit.spectrum.edges[:-1])
    assert np.allclose(np.array(bins["counts"]) * widths, fit.spectrum.counts)
    assert np.allclose(np.array(bins["model"]) * widths, fit.expected_total)
    assert [state == "masked" for state in bins["state"]] == fit.spectrum.mask.tolist()
    lines = next(t for t in tables(item) if "place" in t)
    slots = [fit.model.components[i].energy for i in fit.model.lines]
    assert sorted(lines["energy"]) == pytest.approx(sorted(fit.theta[slots]))
    assert all("\u00b1" in text for text in lines["counts"])
    script = gzip.decompress(base64.b64decode(library))
    assert len(library) < 700_000 and b"Bokeh" in script
    assert "<" not in item  # nothing ends the element that holds it


@needs_bokeh
def test_the_page_holds_it_and_stays_small(fit, tmp_path):
    path = tmp_path / "report.html"
    write_report(path, fit=fit, figures={"spectrum": b"picture"})
    page = path.read_text()
    assert "script-src 'unsafe-inline'" in page and 'id="spectrum-figure"' in page
    assert base64.b64encode(b"picture").decode() in page  # stays for paper
    held = re.search(r'id="spectrum-item">(.*?)</script>', page, flags=re.DOTALL)[1]
    assert json.loads(held)["target_id"] == interactive.TARGET
    assert not re.findall(r'(?:src|href)="(?!data:)', page)
    assert path.stat().st_size < 1_000_000


@needs_bokeh
def test_a_page_that_is_large_already_does_without(fit, tmp_path):
    large = {"spectrum": b"x", "other": bytes(1_200_000)}
    write_report(tmp_path / "large.html", fit=fit, figures=large)
    assert "<script" not in (tmp_path / "large.html").read_text()
    assert (tmp_path / "large.html").stat().st_size < report.LARGEST_PAGE


def test_a_page_without_bokeh_runs_no_script(fit, tmp_path, monkeypatch):
    monkeypatch.setattr(report, "has_bokeh", lambda: False)
    write_report(tmp_path / "without.html", fit=fit, figures={"spectrum": b"picture"})
    write_report(
        tmp_path / "asked.html", fit=fit, figures={"spectrum": b"picture"}, interactive=False
    )
    for name in ("without", "asked"):
        page = (tmp_path / f"{name}.html").read_text()
        assert "<script" not in page and "script-src" not in page and "zoom, point" not in page
    monkeypatch.setattr(report, "has_bokeh", lambda: True)
    write_report(tmp_path / "other.html", fit=fit, figures={"phi": b"picture"})
    assert "<script" not in (tmp_path / "other.html").read_text()  # there is no spectrum
