"""What all figures share: axes that are given, no pyplot, whole files."""

import subprocess
import sys

import numpy as np
import pytest
from astropy.stats import poisson_conf_interval
from matplotlib.figure import Figure
from numpy.testing import assert_allclose

from cosi_linebkg_plugin.errors import FileError
from cosi_linebkg_plugin.show.figure import poisson_errors, rendered, save_figure, short
from cosi_linebkg_plugin.show.maps import plot_maps
from cosi_linebkg_plugin.show.spectrum import plot_spectrum
from cosi_linebkg_plugin.show.template import plot_projection, plot_weights

pytestmark = pytest.mark.usefixtures("no_warnings")


def test_given_axes_are_used_and_no_figure_is_made(fit, template, monkeypatch):
    figure = Figure()
    upper, lower, third, fourth = figure.subplots(4)
    monkeypatch.setattr(Figure, "__init__", lambda *args, **kwargs: pytest.fail("a new figure"))
    assert plot_spectrum(fit, ax=(upper, lower)) is figure
    assert plot_projection(template, observed=np.ones(6), ax=third) is figure
    assert plot_weights(template, ax=fourth) is figure
    assert len(figure.axes) == 4 and all(axes.has_data() for axes in figure.axes)


def test_pyplot_is_never_touched():
    code = """
import sys
import numpy as np
from cosi_linebkg_plugin.show import spectrum as plot
assert "matplotlib" not in sys.modules
from cosi_linebkg_plugin.spectrum.components import Component, Parameter, SpectralModel
from cosi_linebkg_plugin.fit.result import LineBackgroundFit
from cosi_linebkg_plugin.spectrum.axis import EnergySpectrum
model = SpectralModel(
    (Parameter("K_1", 1.0), Parameter("piv_1", 5.0, free=False), Parameter("index_1", -2.0)),
    (Component("powerlaw", (0, 1, 2)),),
)
spectrum = EnergySpectrum([4.0, 5.0, 6.0], [1.0, 2.0])
plot.plot_spectrum(LineBackgroundFit(model, spectrum, model.values, (), np.zeros((0, 0))))
assert "matplotlib.pyplot" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_no_label_needs_the_mathematics_of_matplotlib(fit, template, monkeypatch):
    """Its parser takes longer to set up than all figures to draw."""

    def fail(parser, text, *arguments, **options):
        pytest.fail(f"{text} is set as mathematics")

    monkeypatch.setattr("matplotlib.mathtext.MathTextParser.parse", fail)
    for figure in (
        plot_spectrum(fit, template=template),
        plot_projection(template, observed=np.ones(6)),
        plot_projection(template, "Time"),
        plot_weights(template),
        plot_maps(template),
    ):
        rendered(figure)


def test_a_picture_is_what_savefig_draws_and_the_figure_stays_as_it_was(fit, template):
    from io import BytesIO

    from matplotlib.image import imread

    for plot in (lambda: plot_spectrum(fit), lambda: plot_maps(template)):
        buffer, figure = BytesIO(), plot()
        plot().savefig(buffer, format="png", dpi=200)
        layout, dpi = figure.get_layout_engine(), figure.dpi
        picture = imread(BytesIO(rendered(figure)))  # which is packed less hard
        np.testing.assert_array_equal(picture, imread(BytesIO(buffer.getvalue())))
        assert figure.get_layout_engine() is layout and figure.dpi == dpi
    plain = Figure()
    plain.subplots()
    assert rendered(plain).startswith(b"\x89PNG")


def test_save_figure_writes_whole_files(fit, tmp_path):
    figure = plot_spectrum(fit)
    save_figure(figure, tmp_path / "a.png")
    data = (tmp_path / "a.png").read_bytes()
    assert data.startswith(b"\x89PNG")
    width = int.from_bytes(data[16:20], "big")
    assert width == pytest.approx(200 * figure.get_figwidth(), rel=0.05)  # the box is tight
    save_figure(figure, tmp_path / "a.pdf")
    assert (tmp_path / "a.pdf").read_bytes().startswith(b"%PDF")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.pdf", "a.png"]


def test_save_figure_refuses_what_it_cannot_write(fit, tmp_path):
    with pytest.raises(FileError, match="known are"):
        save_figure(plot_spectrum(fit), tmp_path / "a.docx")
    with pytest.raises(FileError, match="missing"):
        save_figure(plot_spectrum(fit), tmp_path / "missing" / "a.png")


def test_poisson_errors_are_those_of_astropy():
    counts = np.array([0.0, 1.0, 2.0, 7.0, 1e3, 1e6])
    low, high = poisson_conf_interval(counts, interval="frequentist-confidence")
    assert_allclose(poisson_errors(counts), [counts - low, high - counts], rtol=1e-9, atol=1e-9)


def test_long_names_leave_room():
    assert short("template") == "template"
    assert short("/a/long/path/to/one/of/the/templates", 18) == "…/of/the/templates"
