"""Maps: their values, scales, frame and orientation, and what is refused."""

import healpy as hp
import numpy as np
import pytest
from matplotlib.figure import Figure
from observed import AXES, NSIDE, SHAPE, exact, observed_of, pattern
from templates import axes, axis, template_of

from cosi_linebkg_plugin.errors import TemplateError
from cosi_linebkg_plugin.show.maps import mollweide, plot_maps


def test_maps_of_template_observed_and_chi():
    template, observed = exact(pattern()), observed_of(pattern())
    figure = plot_maps(template, observed=observed)
    assert isinstance(figure, Figure)
    maps = [a for a in figure.axes if a.name == "mollweide"]
    assert [a.get_title() for a in maps] == [
        "template", "template at the observed total", "observed", "chi, nside 4"
    ]  # fmt: skip
    shown = [a.artists[0].get_array() for a in maps]
    sums = pattern().sum(axis=(0, 1))
    assert shown[0].max() == pytest.approx(sums.max()) and shown[0].min() == pytest.approx(
        sums.min()
    )
    low, high = maps[3].artists[0].get_clim()
    assert -low == high >= np.abs(shown[3]).max()
    # side by side at one scale, and the same total
    limits = [maps[i].artists[0].get_clim() for i in (1, 2)]
    assert (
        limits[0]
        == limits[1]
        == (min(shown[1].min(), shown[2].min()), max(shown[1].max(), shown[2].max()))
    )
    assert [a.get_xlabel() for a in maps] == 4 * ["l (Galactic)"]
    assert [t.get_text() for t in maps[0].get_xticklabels()] == [
        "120°", "60°", "0°", "300°", "240°"
    ]  # fmt: skip


def test_the_sky_is_drawn_with_longitude_to_the_left():
    """A bright spot at l = 90 deg, b = 45 deg stands left of the centre, in the upper half."""
    cells = pattern()
    cells[0, :, hp.ang2pix(NSIDE, 90.0, 45.0, lonlat=True)] *= 50
    figure = plot_maps(exact(cells))
    values = figure.axes[0].artists[0].get_array()
    latitudes, longitudes = np.degrees(mollweide(len(values)))
    bright = values == values.max()
    assert abs(latitudes[bright].mean() - 45) < 8  # latitude grows upwards
    assert abs(longitudes[bright].mean() + 90) < 8  # drawn at -90: to the left


def test_the_picture_is_a_mollweide_projection():
    """matplotlib's own transformation puts each pixel of the sphere back into its place."""
    figure = Figure()
    panel = figure.add_subplot(projection="mollweide")
    latitudes, longitudes = mollweide(40)
    assert latitudes.shape == longitudes.shape == (40, 80)
    x, y = np.meshgrid(*((np.arange(n) + 0.5) / n for n in (80, 40)))
    to_axes = panel.transData + panel.transAxes.inverted()
    back = to_axes.transform(np.column_stack([longitudes.ravel(), latitudes.ravel()]))
    inside = ((2 * x - 1) ** 2 + (2 * y - 1) ** 2 < 1.0).ravel()
    places = np.column_stack([x.ravel(), y.ravel()])
    np.testing.assert_allclose(back[inside], places[inside], atol=2e-3)
    assert np.abs(longitudes).max() == np.pi


def test_titles_scales_and_labels_stay_apart_and_inside():
    template, observed = exact(pattern()), observed_of(pattern())
    for figure in (plot_maps(template), plot_maps(template, observed=observed)):
        figure.draw_without_rendering()
        boxes = [a.get_tightbbox() for a in figure.axes]
        width, height = figure.bbox.size
        assert all(b.x0 >= 0 and b.y0 >= 0 and b.x1 <= width and b.y1 <= height for b in boxes)
        for i, a in enumerate(boxes):
            for b in boxes[:i]:
                assert min(a.x1, b.x1) <= max(a.x0, b.x0) or min(a.y1, b.y1) <= max(a.y0, b.y0)


def test_components_are_drawn_beside_the_sum_on_scales_of_their_own():
    rng = np.random.default_rng(2)
    cells = {"continuum": rng.uniform(50, 90, (1, 6, 12)), "lines": rng.uniform(1, 3, (1, 6, 12))}
    template = template_of(cells, axes())
    panels = [a for a in plot_maps(template).axes if a.name == "mollweide"]
    assert [a.get_title() for a in panels] == ["template", "continuum", "lines"]
    expected = [sum(cells.values()), *cells.values()]
    for panel, values in zip(panels, expected, strict=True):
        sums = values.sum(axis=(0, 1))
        assert panel.artists[0].get_clim() == pytest.approx((sums.min(), sums.max()))
    (alone,) = [a for a in plot_maps(template, label="lines").axes if a.name == "mollweide"]
    assert alone.get_title() == "lines"
    # of a component without an amount there is the shape
    unknown = template_of(cells, axes(), counts={"continuum": 5000.0, "lines": 0.0})
    first, last = [a for a in plot_maps(unknown).axes if a.name == "mollweide"]
    assert (first.get_title(), last.get_title()) == ("template", "lines, amount not known")
    shape = 12 * cells["lines"].sum(axis=(0, 1)) / cells["lines"].sum()
    assert last.artists[0].get_clim() == pytest.approx((shape.min(), shape.max()))


def test_a_grid_of_phi_bins():
    figure = plot_maps(exact(pattern()), phi_bins=[2, 5, 8, 11])
    maps = [a for a in figure.axes if a.name == "mollweide"]
    assert [a.get_title() for a in maps] == [
        "φ = 12-18°", "φ = 30-36°", "φ = 48-54°", "φ = 66-72°",
    ]  # fmt: skip
    assert maps[1].artists[0].get_array().max() == pytest.approx(pattern()[0, 5].max())
    with pytest.raises(TemplateError, match="no component 'dust'"):
        plot_maps(exact(pattern()), label="dust")
    for wrong in ([], [30], [-1]):
        with pytest.raises(TemplateError, match="numbers of the template's 30 Phi bins"):
            plot_maps(exact(pattern()), phi_bins=wrong)


def test_a_nested_map_is_drawn_like_a_ring_one():
    order = hp.nest2ring(NSIDE, np.arange(SHAPE[2]))
    nested = axes(Phi=AXES["Phi"], PsiChi=axis("PsiChi", nside=NSIDE, scheme="nested"))
    drawn = [
        plot_maps(template).axes[0].artists[0].get_array()
        for template in (exact(pattern()), exact(pattern()[..., order], nested))
    ]
    assert np.ptp(drawn[0]) > 0
    np.testing.assert_allclose(drawn[1], drawn[0])


@pytest.mark.parametrize(
    ("coordsys", "label"), [("icrs", "RA (ICRS)"), ("spacecraftframe", "lon (spacecraft)")]
)
def test_the_frame_is_named(coordsys, label):
    framed = axes(PsiChi=axis("PsiChi", coordsys=coordsys))
    figure = plot_maps(template_of({"background": np.ones((1, 6, 12))}, framed))
    assert figure.axes[0].get_xlabel() == label


def test_a_template_without_psichi_has_no_map():
    flat = axes("Em", "Phi")
    with pytest.raises(TemplateError, match="no PsiChi; its axes are Em, Phi"):
        plot_maps(template_of({"background": np.ones((1, 6))}, flat))
