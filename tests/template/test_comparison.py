"""Templates against observed counts: totals, Phi, PsiChi, as numbers and tables."""

import csv
import io
import json

import astropy.units as u
import healpy as hp
import histpy
import numpy as np
import pytest
from numpy.testing import assert_allclose
from observed import AXES, NSIDE, SHAPE, exact, observed_of, pattern
from templates import axes, axis, cells, histogram_of, template_of

from cosi_linebkg_plugin.app.cli import main
from cosi_linebkg_plugin.errors import TemplateError
from cosi_linebkg_plugin.histograms.write import write_histogram
from cosi_linebkg_plugin.show.comparison import plot_comparison
from cosi_linebkg_plugin.template.comparison import (
    MIN_EXPECTED,
    compare,
    compare_all,
    to_csv,
    to_json,
)
from cosi_linebkg_plugin.template.control import ControlRanges
from cosi_linebkg_plugin.template.extra_error import ExtraError


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


def test_the_shape_error_that_control_ranges_measured_counts():
    """Bins of Phi off by 5 %, which the control ranges have seen, not along PsiChi."""
    expected, rng = pattern(), np.random.default_rng(4)
    off = expected * (1 + 0.05 * rng.normal(size=expected.shape[1]))[None, :, None]
    template = exact(expected)
    plain = compare(template, observed_of(off))
    nothing = ExtraError(0.0, 0.0, 0.01, 12)
    shapes = {"Phi": ExtraError(0.05, 0.04, 0.06, 400)}
    template.set_control(ControlRanges((), nothing, shapes))
    row = compare(template, observed_of(off))
    was, now = plain.projections["Phi"], row.projections["Phi"]
    assert was.chi2 > 3 * was.dof and 0.3 < now.chi2 / now.dof < 2
    assert_allclose(now.variances, was.variances + (0.05 * was.expected) ** 2)
    assert row.projections["PsiChi"].chi2 == plain.projections["PsiChi"].chi2


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
    turned = axes("Phi", "Em", "PsiChi", Phi=AXES["Phi"], PsiChi=AXES["PsiChi"])
    with pytest.raises(TemplateError, match="has the axes Phi, Em, PsiChi, the template Em, Phi"):
        compare(template, histogram_of(turned, np.ones([axis.nbins for axis in turned])))
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


def test_energy_bins_are_compared_too():
    """Along Em in the source range alone, where it holds several bins."""

    some = axes(Em=axis("Em", edges=np.array([1795.0, 1805.0, 1808.0, 1812.0, 1820.0]) * u.keV))
    contents = 20.0 * cells(some, 1)
    contents[[0, 3]] = 0.0
    template = template_of({"background": contents}, some)
    observed = 1.1 * contents
    observed[2] *= 1.2
    found = compare(template, histogram_of(some, observed)).projections["Em"]
    assert found.names == ["1805-1808 keV", "1808-1812 keV"]
    np.testing.assert_allclose(found.edges, [1805, 1808, 1812])
    np.testing.assert_allclose(found.observed, observed.sum(axis=(1, 2))[1:3])
    assert found.expected.sum() == pytest.approx(observed.sum())
    one = compare(
        template_of({"background": cells(axes())}, axes()), histogram_of(axes(), cells(axes()))
    )
    assert "Em" not in one.projections
