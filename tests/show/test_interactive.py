"""The spectrum that zooms: what it holds, and where a page does without."""

import json
import re

import numpy as np
import pytest

from cosi_linebkg_plugin.show.interactive import interactive_spectrum
from cosi_linebkg_plugin.show.report import write_report

SOURCE = (1805.0, 1812.0)


def test_it_holds_every_bin_and_every_line(fit):
    item = json.loads(interactive_spectrum(fit, SOURCE))
    widths = fit.spectrum.widths
    assert np.array_equal(item["edges"], fit.spectrum.edges)
    assert np.allclose(np.array(item["counts"]) * widths, fit.spectrum.counts, rtol=1e-6)
    assert np.allclose(np.array(item["model"]) * widths, fit.expected_total, rtol=1e-6)
    assert np.allclose(item["residuals"], fit.residuals, rtol=1e-6)
    assert item["masked"] == fit.spectrum.mask.tolist()
    assert [float(text[0]) for text in item["text"]] == fit.spectrum.counts.tolist()
    slots = [fit.model.components[i].energy for i in fit.model.lines]
    energies = sorted(line["energy"] for line in item["lines"])
    assert energies == pytest.approx(sorted(fit.theta[slots]))
    assert all("\u00b1" in line["counts"] for line in item["lines"])
    assert [tuple(r[:2]) for r in item["ranges"]] == [*fit.mask, SOURCE]
    assert max(abs(fit.residuals[fit.spectrum.used])) < item["reach"]


def test_nothing_ends_the_element_that_holds_it(fit):
    assert "<" not in interactive_spectrum(fit, SOURCE)


def test_the_page_holds_it_and_stays_small(fit, tmp_path):
    path = tmp_path / "report.html"
    write_report(path, fit=fit, figures={"spectrum": b"picture"})
    page = path.read_text(encoding="utf-8")
    assert "script-src 'unsafe-inline'" in page and 'id="spectrum-figure"' in page
    assert 'src="data:image/png;base64,cGljdHVyZQ=="' in page  # stays for paper
    held = re.search(r'id="spectrum-item">(.*?)</script>', page, flags=re.DOTALL)[1]
    assert len(json.loads(held)["counts"]) == fit.spectrum.n_bins
    assert not re.findall(r'(?:src|href)="(?!data:)', page) and "://" not in page
    assert path.stat().st_size < 60_000


def test_a_page_without_the_spectrum_runs_no_script(fit, tmp_path):
    write_report(tmp_path / "a.html", fit=fit, figures={"spectrum": b"x"}, interactive=False)
    write_report(tmp_path / "b.html", fit=fit, figures={"phi": b"x"})
    write_report(tmp_path / "c.html", fit=fit)
    for name in "abc":
        page = (tmp_path / f"{name}.html").read_text(encoding="utf-8")
        assert "<script" not in page and "script-src" not in page and "to zoom" not in page
