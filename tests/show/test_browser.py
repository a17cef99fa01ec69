"""The report in a real browser: headless Chromium, where the machine has one."""

import re
import shutil
import subprocess

import numpy as np
import pytest
from matplotlib import image
from spectra import line_model, simulated_spectrum

from cosi_linebkg_plugin.fit.minimise import fit_spectrum
from cosi_linebkg_plugin.show.interactive import has_bokeh
from cosi_linebkg_plugin.show.report import write_report
from cosi_linebkg_plugin.show.spectrum import plot_spectrum

pytestmark = pytest.mark.browser

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("chrome")
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--hide-scrollbars",
)  # fmt: skip


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    if CHROMIUM is None:
        pytest.skip("no chromium on this machine")
    path = tmp_path_factory.mktemp("browser") / "report.html"
    model = line_model([(1779.0, 6000.0, (1770.0, 1790.0))], k=300.0)
    rng = np.random.default_rng(1)
    fit = fit_spectrum(model, simulated_spectrum(model, np.linspace(1700.0, 1900.0, 41), rng))
    figures = {"spectrum": plot_spectrum(fit)}
    write_report(path, fit=fit, figures=figures, title="In a browser", interactive=False)
    if has_bokeh():
        write_report(path.with_name("zooms.html"), fit=fit, figures=figures, title="It zooms")
    return path


def browse(report, tmp_path, *arguments):
    return subprocess.run(
        [CHROMIUM, *FLAGS, f"--user-data-dir={tmp_path}/profile", *arguments, f"file://{report}"],
        capture_output=True, text=True, timeout=120, check=True,
    ).stdout  # fmt: skip


def test_the_page_is_understood_and_loads_nothing(report, tmp_path):
    page = browse(report, tmp_path, "--dump-dom")
    assert "<title>In a browser</title>" in page and "The model describes the fitted bins" in page
    assert "<script" not in page
    assert not re.findall(r'(?:src|href)="(?!data:)', page)


@pytest.mark.parametrize(("name", "width"), [("phone", 500), ("screen", 1200)])
def test_it_fits_a_phone_and_a_screen(report, tmp_path, name, width):
    picture = tmp_path / f"{name}.png"
    browse(report, tmp_path, f"--window-size={width},2400", f"--screenshot={picture}")
    pixels = image.imread(picture)[..., :3]
    assert pixels.shape[1] == width
    # no text or figure runs into the right edge, and something is drawn in the middle
    assert np.all(pixels[:, -3:] == 1.0)
    assert (pixels[200:, width // 4 : -width // 4] < 0.9).any(axis=(1, 2)).mean() > 0.2


def test_wide_tables_say_on_a_phone_that_there_is_more(report, tmp_path):
    """Above the table of the lines there is a sentence on a phone, and none on a screen."""
    text = report.read_text(encoding="utf-8")
    assert '<p class="swipe">' in text
    without = tmp_path / "without.html"
    without.write_text(text.replace('<p class="swipe">Swipe to see all columns.</p>', ""))
    for width, differs in ((500, True), (1200, False)):
        pictures = []
        for page in (report, without):
            picture = tmp_path / f"{page.stem}.png"
            browse(page, tmp_path, f"--window-size={width},1600", f"--screenshot={picture}")
            pictures.append(image.imread(picture))
        assert (not np.array_equal(*pictures)) == differs


def test_it_prints(report, tmp_path):
    paper = tmp_path / "report.pdf"
    browse(report, tmp_path, f"--print-to-pdf={paper}")
    data = paper.read_bytes()
    assert data.startswith(b"%PDF")
    assert 1 <= len(re.findall(rb"/Type\s*/Page\b", data)) <= 6


@pytest.mark.skipif(not has_bokeh(), reason="bokeh is not installed")
def test_the_spectrum_zooms_on_a_screen_and_is_a_picture_on_paper(report, tmp_path):
    page = report.with_name("zooms.html")
    dom = browse(page, tmp_path, "--virtual-time-budget=20000", "--dump-dom")
    assert re.search(r'<figure id="spectrum-figure" class="zooms">', dom)
    assert dom.count("<script") == 4 and "<script src" not in dom  # one of them was unpacked
    picture = tmp_path / "zooms.png"
    options = ("--window-size=1200,2400", "--virtual-time-budget=20000")
    browse(page, tmp_path, *options, f"--screenshot={picture}")
    pixels = image.imread(picture)[..., :3]
    red = (abs(pixels - np.array([0xD5, 0x5E, 0x00]) / 255.0) < 0.02).all(axis=2)
    assert red.sum() > 300  # the model's line
    paper = tmp_path / "zooms.pdf"
    browse(page, tmp_path, "--virtual-time-budget=20000", f"--print-to-pdf={paper}")
    assert len(re.findall(rb"/Subtype\s*/Image", paper.read_bytes())) >= 1


@pytest.mark.skipif(not has_bokeh(), reason="bokeh is not installed")
def test_without_scripts_the_picture_stays(report, tmp_path):
    page = tmp_path / "blocked.html"
    text = report.with_name("zooms.html").read_text(encoding="utf-8")
    assert "script-src 'unsafe-inline'" in text
    page.write_text(text.replace("script-src 'unsafe-inline'", "script-src 'none'"))
    dom = browse(page, tmp_path, "--virtual-time-budget=5000", "--dump-dom")
    assert '<figure id="spectrum-figure">' in dom and "data:image/png;base64," in dom
