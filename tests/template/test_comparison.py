"""Templates against observed counts: totals, Phi, PsiChi, as numbers, tables and figures."""

import csv
import io
import json

import astropy.units as u
import healpy as hp
import histpy
import numpy as np
import pytest
from matplotlib.figure import Figure
from numpy.testing import assert_allclose
from templates import axes, axis, cells, histogram_of, template_of

from cosi_linebkg_plugin.app.cli import main
from cosi_linebkg_plugin.errors import TemplateError
from cosi_linebkg_plugin.histograms.write import write_histogram
from cosi_linebkg_plugin.show.comparison import plot_comparison
from cosi_linebkg_plugin.show.maps import plot_maps
from cosi_linebkg_plugin.template.comparison import (
    MIN_EXPECTED,
    compare,
    compare_all,
    to_csv,
    to_json,
)

NSIDE = 8
AXES = axes(
    Phi=axis("Phi", edges=np.linspace(0, 180, 31) * u.deg), PsiChi=axis("PsiChi", nside=NSIDE)
)
SHAPE = (1, 30, hp.nside2npix(NSIDE))


def pattern(total=40000.0):
    phi = np.exp(-0.5 * ((np.arange(30) - 8) / 5.0) ** 2) + 1e-6
    pixel = np.stack(hp.pix2vec(NSIDE, np.arange(SHAPE[2])))
    sky = np.exp(0.4 * pixel[2])
    cells = phi[:, None] * sky
    return (total * cells / cells.sum())[None]


def exact(cells, some_axes=AXES, **options):
    """A template without noise of its own."""
    template = template_of({"background": cells}, some_axes, **options)
    template._maps = {k: (m, 0 * m) for k, (m, _) in template._maps.items()}
    return template


def observed_of(expected, seed=1, some_axes=AXES):
    return histogram_of(some_axes, np.random.default_rng(seed).poisson(expected).astype(float))


def test_the_right_template_agrees():
    """p-values of 60 data sets are flat: Kolmogorov's test at a false-alarm rate of 1e-3 each."""
    from scipy import stats

    template = exact(pattern())
    rows = [compare(template, observed_of(pattern(), seed)) for seed in range(60)]
    for name in ("Phi", "PsiChi"):
        p_values = [row.projections[name].p_value for row in rows]
        assert stats.kstest(p_values, "uniform").pvalue > 1e-3
    pulls = [row.difference_percent / (100 / np.sqrt(40000)) for row in rows]
    assert abs(np.mean(pulls)) < 4 / np.sqrt(60) and 0.6 < np.std(pulls) < 1.4


def test_the_templates_own_noise_counts():
    expected, rng = pattern(), np.random.default_rng(3)
    noisy = rng.poisson(expected).astype(float) + 1e-9
    row = compare(template_of({"background": noisy}, AXES), observed_of(expected))
    assert row.projections["Phi"].p_value > 1e-4  # twice the Poisson variance, and it says so


def test_totals_and_their_error():
    template = exact(1.1 * pattern(), covariance=np.array([[500.0**2]]))
    observed = observed_of(pattern())
    row = compare(template, observed)
    n = observed.contents.sum()
    assert row.difference_percent == pytest.approx(100 * (44000 / n - 1))
    assert row.difference_error_percent == pytest.approx(100 * np.hypot(500, np.sqrt(n)) / n)
    # the projections compare the shape alone
    assert row.projections["Phi"].p_value > 1e-4


def test_a_deviation_is_found_where_it_is():
    expected = pattern()
    odd = expected.copy()
    odd[0, 12] *= 1.4  # 72-78 deg
    bright = hp.ang2pix(NSIDE, 90.0, 0.0, lonlat=True)
    near = hp.query_disc(NSIDE, hp.pix2vec(NSIDE, bright), np.radians(8))
    odd[0, :, near] *= 2.5
    row = compare(exact(expected), observed_of(odd))
    phi, psichi = row.projections["Phi"], row.projections["PsiChi"]
    name, chi = phi.largest(1)[0]
    assert name == "72-78 deg" and chi > 6
    assert phi.p_value < 1e-6 and psichi.p_value < 1e-6
    best = int(np.argmax(psichi.chi))
    lon, lat = hp.pix2ang(psichi.nside, best, lonlat=True)
    assert hp.rotator.angdist([lon, lat], [90.0, 0.0], lonlat=True)[0] < np.radians(15)
    assert psichi.largest(1)[0][0].startswith(f"({lon:.0f}, ")


def test_bins_are_merged_until_the_chi_square_law_holds():
    row = compare(exact(pattern(2000.0)), observed_of(pattern(2000.0)), nside=8)
    for p in row.projections.values():
        assert p.expected.min() >= MIN_EXPECTED
        assert p.expected.sum() == pytest.approx(row.observed)
        members = np.concatenate(p.groups)
        assert sorted(members) == list(range(members.size))  # nothing is left out
    assert row.projections["Phi"].chi.size < 30
    assert row.projections["PsiChi"].nside < 8


def test_nested_maps_give_the_same():
    order = hp.nest2ring(NSIDE, np.arange(SHAPE[2]))
    nested = axes(
        Phi=AXES["Phi"], PsiChi=axis("PsiChi", nside=NSIDE, scheme="nested"),
    )  # fmt: skip
    observed = observed_of(pattern())
    ring = compare(exact(pattern()), observed)
    nest = compare(
        exact(pattern()[..., order], nested),
        histogram_of(nested, np.asarray(observed.contents)[..., order]),
    )
    assert_allclose(nest.projections["PsiChi"].chi, ring.projections["PsiChi"].chi)


def test_events_with_their_whole_energy_axis_are_taken():
    wide = axes(
        Em=axis("Em", edges=[1700.0, 1805.0, 1808.0, 1812.0, 1900.0] * u.keV),
        Phi=AXES["Phi"], PsiChi=AXES["PsiChi"],
    )  # fmt: skip
    cells = np.random.default_rng(1).poisson(np.repeat(pattern(), 4, axis=0)).astype(float)
    row = compare(exact(pattern()), histogram_of(wide, cells))
    alone = compare(exact(pattern()), histogram_of(AXES, cells[1:3].sum(axis=0, keepdims=True)))
    assert row.observed == alone.observed
    assert_allclose(row.projections["Phi"].chi, alone.projections["Phi"].chi)
    cut = axes(
        Em=axis("Em", edges=[1700.0, 1808.0, 1900.0] * u.keV), Phi=AXES["Phi"],
        PsiChi=AXES["PsiChi"],
    )  # fmt: skip
    with pytest.raises(TemplateError, match="cuts through energy bins"):
        compare(exact(pattern()), histogram_of(cut, cells[:2]))


def test_what_cannot_be_compared_is_refused():
    template = exact(pattern())
    with pytest.raises(TemplateError, match="holds no counts"):
        compare(template, histogram_of(AXES, np.zeros(SHAPE)))
    other = axes(PsiChi=AXES["PsiChi"])
    with pytest.raises(TemplateError, match="differs from the template in the axis Phi"):
        compare(template, histogram_of(other, np.ones((1, 6, SHAPE[2]))))
    template.set_parameters(background=0.0)
    with pytest.raises(TemplateError, match="norms above 0"):
        compare(template, observed_of(pattern()))


def test_templates_without_psichi_are_compared():
    flat = axes("Em", "Phi", Phi=AXES["Phi"])
    template = exact(pattern().sum(axis=2), flat)
    row = compare(template, histogram_of(flat, np.asarray(observed_of(pattern()).contents).sum(2)))
    assert list(row.projections) == ["Phi"]
    assert "PsiChi" not in to_csv([row])


def test_tables():
    rows = compare_all({"a": exact(pattern()), "b": exact(0.9 * pattern())}, observed_of(pattern()))
    table = list(csv.DictReader(io.StringIO(to_csv(rows))))
    assert [r["template"] for r in table] == ["a", "b"]
    assert float(table[1]["difference_percent"]) == pytest.approx(rows[1].difference_percent)
    assert float(table[0]["phi_chi2"]) == pytest.approx(rows[0].projections["Phi"].chi2)
    data = json.loads(to_json(rows))
    assert_allclose(data[0]["projections"]["PsiChi"]["chi"], rows[0].projections["PsiChi"].chi)


def test_templates_side_by_side_share_their_bins():
    lumpy = pattern()
    lumpy[0, 20:] *= 1e-4
    rows = compare_all({"a": exact(pattern()), "b": exact(lumpy)}, observed_of(pattern()))
    for axis_name in ("Phi", "PsiChi"):
        a, b = (row.projections[axis_name] for row in rows)
        assert a.names == b.names and a.nside == b.nside
        assert min(a.expected.min(), b.expected.min()) >= 0.99 * MIN_EXPECTED
    assert rows[0].projections["Phi"].chi.size < 30


def test_an_unknown_amount_is_said_and_stays_out_of_the_error():
    template = template_of(
        {"continuum": pattern(), "lines": pattern(1.0)}, AXES,
        covariance=np.diag([200.0**2, np.inf]),
    )  # fmt: skip
    row = compare(template, observed_of(pattern()))
    assert row.unknown == ("lines",) and row.error == pytest.approx(200.0)
    data = json.loads(to_json([row]), parse_constant=lambda text: pytest.fail(text))
    assert data[0]["unknown"] == "lines"


@pytest.mark.parametrize("nside", [0, 3, -4, 2.0])
def test_impossible_nsides_are_refused(nside):
    with pytest.raises(TemplateError, match="nside must be a power of 2"):
        compare(exact(pattern()), observed_of(pattern()), nside=nside)


# --- figures -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["Phi", "PsiChi"])
def test_the_figure_of_a_comparison(name):
    rows = compare_all({"a": exact(pattern()), "b": exact(0.9 * pattern())}, observed_of(pattern()))
    figure = plot_comparison(rows, name)
    upper, *below = figure.axes
    assert len(below) == 2
    for panel, row in zip(below, rows, strict=True):
        part = row.projections[name]
        assert_allclose(panel.lines[0].get_ydata(), part.chi)
        low, high = panel.get_ylim()
        assert -low == high > np.abs(part.chi).max()
        title = panel.get_title(loc="left")
        assert title.startswith(f"{row.name}: its own total {row.counts:,.0f}, observed 40,0")
        assert f"({row.difference_percent:+.1f} ± {row.difference_error_percent:.1f} %)" in title
        assert f"drawn times {row.observed / row.counts:.3g}\n" in title
        assert f"{part.chi2:.0f}/{part.dof}" in title
    assert "templates scaled" in upper.get_ylabel()
    labels = [text.get_text() for text in upper.get_legend().get_texts()]
    assert {"a", "b", "observed"} == set(labels)
    expected = [line for line in upper.lines if line.get_label() == "b"]
    assert_allclose(expected[0].get_ydata(), rows[1].projections[name].expected)
    assert ("deg" if name == "Phi" else "nside 4") in below[-1].get_xlabel()


def test_a_figure_of_too_many_or_of_none_is_refused():
    row = compare(exact(pattern()), observed_of(pattern()))
    for rows in ([], [row] * 7):
        with pytest.raises(TemplateError, match="Between 1 and 6"):
            plot_comparison(rows)


def test_maps_of_template_observed_and_chi():
    template, observed = exact(pattern()), observed_of(pattern())
    figure = plot_maps(template, observed=observed)
    assert isinstance(figure, Figure)
    maps = [a for a in figure.axes if a.name == "mollweide"]
    assert [a.get_title() for a in maps] == [
        "template", "template at the observed total", "observed", "chi, nside 4"
    ]  # fmt: skip
    shown = [a.collections[0].get_array() for a in maps]
    sums = pattern().sum(axis=(0, 1))
    assert shown[0].max() == pytest.approx(sums.max()) and shown[0].min() == pytest.approx(
        sums.min()
    )
    low, high = maps[3].collections[0].get_clim()
    assert -low == high >= np.abs(shown[3]).max()
    # side by side at one scale, and the same total
    limits = [maps[i].collections[0].get_clim() for i in (1, 2)]
    assert (
        limits[0]
        == limits[1]
        == (min(shown[1].min(), shown[2].min()), max(shown[1].max(), shown[2].max()))
    )
    assert [a.get_xlabel() for a in maps] == 4 * ["$l$ (Galactic)"]
    assert [t.get_text() for t in maps[0].get_xticklabels()] == [
        "120°", "60°", "0°", "300°", "240°"
    ]  # fmt: skip


def test_the_sky_is_drawn_with_longitude_to_the_left():
    """A bright spot at l = 90 deg, b = 45 deg stands left of the centre, in the upper half."""
    cells = pattern()
    cells[0, :, hp.ang2pix(NSIDE, 90.0, 45.0, lonlat=True)] *= 50
    figure = plot_maps(exact(cells))
    mesh = figure.axes[0].collections[0]
    values = np.asarray(mesh.get_array()).reshape(360, 720)
    row, column = np.argwhere(values == values.max()).mean(axis=0)
    assert abs((row + 0.5) / 360 * 180 - 90 - 45) < 8  # latitude grows upwards
    assert abs((column + 0.5) / 720 * 360 - 180 + 90) < 8  # drawn at -90: to the left


def test_a_grid_of_phi_bins():
    figure = plot_maps(exact(pattern()), phi_bins=[2, 5, 8, 11])
    maps = [a for a in figure.axes if a.name == "mollweide" and a.get_visible()]
    assert [a.get_title() for a in maps] == [
        r"$\phi$ = 12-18°", r"$\phi$ = 30-36°", r"$\phi$ = 48-54°", r"$\phi$ = 66-72°",
    ]  # fmt: skip
    assert maps[1].collections[0].get_array().max() == pytest.approx(pattern()[0, 5].max())
    with pytest.raises(TemplateError, match="no component 'dust'"):
        plot_maps(exact(pattern()), label="dust")
    for wrong in ([], [30], [-1]):
        with pytest.raises(TemplateError, match="numbers of the template's 30 Phi bins"):
            plot_maps(exact(pattern()), phi_bins=wrong)


# --- command line --------------------------------------------------------------------------------


@pytest.fixture
def files(tmp_path):
    for name, factor in (("a", 1.0), ("b", 0.9)):
        template_of({"background": factor * pattern()}, AXES).write(tmp_path / f"{name}.h5")
    write_histogram(tmp_path / "observed.hdf5", observed_of(pattern()))
    return tmp_path


def test_the_command_prints_a_table_and_writes_figures(files, capsys):
    out = files / "out"
    arguments = [str(files / name) for name in ("a.h5", "observed.hdf5", "b.h5")]
    assert main(["compare", *arguments, "--out", str(out)]) == 0
    text = capsys.readouterr().out
    assert "Phi chi2/dof, p" in text and "largest deviations in PsiChi" in text
    first = [line.split()[0] for line in text.splitlines() if line.strip()]
    assert first.index("a") < first.index("b")
    assert sorted(p.name for p in out.iterdir()) == [
        "comparison.csv", "comparison.json", "comparison_phi.png", "comparison_psichi.png",
        "maps_a.png", "maps_b.png",
    ]  # fmt: skip


def test_maps_of_templates_with_like_names_are_all_kept(files):
    paths = []
    for name in ("x-1", "x_1"):
        (files / name).mkdir()
        paths.append(files / name / "template.h5")
        paths[-1].write_bytes((files / "a.h5").read_bytes())
    out = files / "both"
    arguments = [str(paths[0]), str(files / "observed.hdf5"), str(paths[1]), "--out", str(out)]
    assert main(["compare", *arguments, "--quiet"]) == 0
    assert len(list(out.glob("maps_*.png"))) == 2


def test_the_command_names_what_is_wrong(files, capsys):
    a, observed = str(files / "a.h5"), str(files / "observed.hdf5")
    for arguments, message in (
        ([a, observed, a], "given twice"),
        ([a, observed, "--nside", "3"], "power of 2"),
        ([observed, observed], "no background template"),
        ([a, str(files / "none.hdf5")], "none.hdf5"),
    ):
        assert main(["compare", *arguments]) == 2
        assert message in capsys.readouterr().err


@pytest.mark.parametrize("low", [0.0, 1e-6, 1e-5, 29.999999])
def test_edges_of_merged_phi_bins_are_numbers(low):
    """An edge of 1e-6 is "1e-06" as text: no edge is read back from a name."""
    edges = np.array([low, 30.0, 60.0, 90.0, 120.0, 150.0, 180.0])
    some_axes = axes(Phi=histpy.Axis(edges * u.deg, label="Phi"))
    contents = 100.0 * cells(some_axes)
    row = compare(
        template_of({"background": contents}, some_axes), histogram_of(some_axes, contents)
    )
    assert_allclose(row.projections["Phi"].edges, edges)
    assert row.projections["PsiChi"].edges is None
    upper, _ = plot_comparison([row], "Phi").axes
    (steps,) = [line for line in upper.lines if line.get_label() == row.name]
    assert_allclose(steps.get_xdata(), 0.5 * (edges[1:] + edges[:-1]))


def test_results_can_be_compared_with_each_other():
    """Arrays in a generated == would raise."""
    row = compare(exact(pattern()), observed_of(pattern()))
    again = compare(exact(pattern()), observed_of(pattern()))
    assert row == row and row != again
    assert row.projections["Phi"] == row.projections["Phi"] != again.projections["Phi"]
