"""histpy histograms in and out, in memory and from files, in both histpy generations."""

from __future__ import annotations

import re
import subprocess
import sys

import astropy.units as u
import h5py
import histpy
import numpy as np
import pytest
import sparse
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from small_histograms import EDGES, ORDERS, dense_contents, make_axis, make_events, reference

from cosi_linebkg_plugin.errors import BinningError, DataError, FileError, TemplateError
from cosi_linebkg_plugin.histograms import slices
from cosi_linebkg_plugin.histograms.axes import axis_in_kev
from cosi_linebkg_plugin.histograms.read import open_events
from cosi_linebkg_plugin.histograms.write import make_histogram, write_histogram

pytestmark = pytest.mark.filterwarnings("error:::cosi_linebkg_plugin")
relaxed = settings(
    deadline=None, max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


WEIGHTS = np.array([[1.0, 0.0, 0.5, -2.0], [0.0, 0.0, 1.0, 3.0]])


def assert_same_events(a, b):
    np.testing.assert_allclose(a.energy_counts(), b.energy_counts(), rtol=1e-13)
    for found, expected in zip(a.weighted_sums(WEIGHTS), b.weighted_sums(WEIGHTS), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-12)


# ---------------------------------------------------------------------------- sums


@given(
    st.sampled_from(ORDERS),
    st.integers(0, 1000),
    st.sampled_from(["sparse", "dense"]),
    st.booleans(),
)
@relaxed
def test_sums_equal_einsum_in_memory_and_from_a_file(tmp_path, labels, seed, filled, overflow):
    histogram = make_events(labels, seed, filled=filled, overflow=overflow)
    path = tmp_path / "events.hdf5"
    write_histogram(path, histogram)
    for events in (open_events(histogram), open_events(path), open_events(str(path))):
        sums, variances = events.weighted_sums(WEIGHTS)
        expected, expected_variances = reference(histogram, WEIGHTS)
        np.testing.assert_allclose(sums, expected, rtol=1e-12, atol=1e-12)
        np.testing.assert_allclose(variances, expected_variances, rtol=1e-12, atol=1e-12)
        assert sums.shape == (2, *events.other_shape)
        assert events.labels == labels
        assert events.is_sparse == (filled == "sparse")


@given(st.integers(0, 1000))
@relaxed
def test_the_order_of_axes_does_not_matter(seed):
    histogram = make_events(("Time", "Em", "Phi", "PsiChi"), seed)
    order = (3, 0, 2, 1)
    turned = histpy.Histogram(
        [histogram.axes[i] for i in order],
        np.transpose(dense_contents(histogram), order),
        track_overflow=False,
    )
    sums = open_events(histogram).weighted_sums(WEIGHTS)[0]
    turned_sums = open_events(turned).weighted_sums(WEIGHTS)[0]  # K, PsiChi, Time, Phi
    np.testing.assert_allclose(turned_sums, np.moveaxis(sums, 3, 1), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("unit", [u.MeV, u.erg, u.eV, None])
def test_units_of_energy(unit):
    in_kev, other = open_events(make_events()), open_events(make_events(unit=unit))
    np.testing.assert_allclose(other.energy_edges, EDGES, rtol=1e-12)
    assert_same_events(other, in_kev)
    assert_same_events(
        open_events([make_events(), make_events(unit=unit)]), open_events([in_kev] * 2)
    )


@pytest.mark.parametrize("filled", ["sparse", "dense"])
def test_a_list_is_the_sum_however_it_is_stored(tmp_path, filled):
    first, second = make_events(seed=1), make_events(seed=2, filled=filled, overflow=True)
    path = tmp_path / "second.hdf5"
    write_histogram(path, second)
    events = open_events([first, path])
    expected = histpy.Histogram(
        list(first.axes), dense_contents(first) + dense_contents(second), track_overflow=False
    )
    assert_same_events(events, open_events(expected))
    assert events.description == f"in memory + {path}"


def test_small_blocks_give_the_same(tmp_path, monkeypatch):
    path = tmp_path / "events.hdf5"
    for filled in ("sparse", "dense"):
        histogram = make_events(filled=filled, overflow=True)
        write_histogram(path, histogram)
        monkeypatch.setattr(slices, "BLOCK", 5)
        small = open_events(path)
        small.energy_counts()
        found = small.weighted_sums(WEIGHTS)[0]
        monkeypatch.undo()
        np.testing.assert_allclose(found, open_events(histogram).weighted_sums(WEIGHTS)[0])


def test_of_a_sorted_file_only_the_energies_that_are_asked_for_are_read(tmp_path, monkeypatch):
    """Where they lie is remembered."""
    path = tmp_path / "events.hdf5"
    histogram = make_events(("Em", "Phi", "PsiChi"))
    write_histogram(path, histogram)
    events, read = open_events(path), []
    events.energy_counts()
    rows = slices.SparseContents._rows

    def recorded(self, axes, block):
        read.append((axes, block.stop - block.start))
        return rows(self, axes, block)

    monkeypatch.setattr(slices.SparseContents, "_rows", recorded)
    n_cells = [int(np.count_nonzero(part)) for part in dense_contents(histogram)]
    for energy in (2, 0, 3):
        only = np.zeros(4)
        only[energy] = 0.5
        found = events.weighted_sums(only, variances=False)[0][0]
        np.testing.assert_array_equal(found, 0.5 * dense_contents(histogram)[energy])
    assert read[0] == ((0,), sum(n_cells))  # the energies of all, once
    assert read[1:] == [((1, 2), n_cells[energy]) for energy in (2, 0, 3)]


@pytest.mark.parametrize("filled", ["sparse", "dense"])
@pytest.mark.parametrize("from_file", [False, True])
def test_sumw2_is_the_variance(tmp_path, filled, from_file):
    histogram = make_events(("Em", "Phi"), filled=filled)
    sumw2 = 0.25 * dense_contents(histogram)
    stored = sparse.COO.from_numpy(sumw2) if filled == "sparse" else sumw2
    weighted = make_events(("Em", "Phi"), filled=filled, sumw2=stored)
    if from_file:
        write_histogram(tmp_path / "w.hdf5", weighted)
        weighted = tmp_path / "w.hdf5"
    events, plain = open_events(weighted), open_events(histogram)
    sums, variances = events.weighted_sums(WEIGHTS)
    np.testing.assert_array_equal(sums, plain.weighted_sums(WEIGHTS)[0])
    np.testing.assert_allclose(variances, 0.25 * plain.weighted_sums(WEIGHTS)[1])
    np.testing.assert_allclose(events.energy_variances(), 0.25 * plain.energy_counts())
    assert events.weighted_sums(WEIGHTS, variances=False)[1] is None


@pytest.mark.parametrize(
    ("weight", "said"),
    [(1.0, ""), (2.0, "errors are too small by a factor of 1.41"), (0.1, "too large .* 3.16")],
)
def test_events_with_weights_are_told(weight, said):
    """The fit is that of Poisson counts, which weighted ones are not."""
    plain = make_events(("Em", "Phi"), filled="dense")
    contents = dense_contents(plain)
    events = open_events(
        histpy.Histogram(plain.axes, weight * contents, sumw2=weight**2 * contents)
    )
    assert events.mean_weight == pytest.approx(weight)
    assert len(events.notes) == bool(said)
    if said:
        assert re.search(said, events.notes[0])
        both = open_events([plain, histpy.Histogram(plain.axes, contents, sumw2=3.0 * contents)])
        assert both.mean_weight == pytest.approx(2.0)


@pytest.mark.parametrize("filled", ["sparse", "dense"])
def test_spectrum_equals_histpy(filled):
    """Against histpy's own project, with no overflow tracked (tracked, 1.1 counts it in)."""
    histogram = make_events(filled=filled)
    projected = dense_contents(histogram.project("Em"))
    np.testing.assert_allclose(open_events(histogram).energy_counts(), projected)


def test_histograms_filled_by_histpy():
    """histpy 1.1 keeps a sparse histogram as a dictionary of keys until it is read."""
    axes = [make_axis("Em"), make_axis("Phi")]
    histogram = histpy.Histogram(axes, sparse=True)
    histogram.fill([1501, 1501, 1530, 3000] * u.keV, [5, 100, 5, 5] * u.deg)
    np.testing.assert_array_equal(open_events(histogram).energy_counts(), [2, 0, 0, 1])


def test_events_are_read_only_and_untouched():
    histogram = make_events(unit=u.MeV)
    before = histogram.axes["Em"].edges.copy()
    events = open_events(histogram)
    counts = events.energy_counts()
    assert counts is events.energy_counts()
    for array in (counts, events.energy_edges):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 1
    events.weighted_sums(WEIGHTS)
    assert histogram.axes["Em"].unit == u.MeV
    np.testing.assert_array_equal(histogram.axes["Em"].edges, before)
    assert [axis.label for axis in events.other_axes] == ["Time", "Phi", "PsiChi"]
    assert events.other_shape == (2, 6, 12)
    assert events.energy_axis_index == 1
    assert open_events(events) is events
    assert repr(events) == "EventHistogram(Time 2, Em 4, Phi 6, PsiChi 12; in memory)"


def test_energies_alone():
    events = open_events(make_events(("Em",)))
    sums, variances = events.weighted_sums([1.0, 1.0, 0.0, 0.0])
    assert events.other_shape == () and sums.shape == variances.shape == (1,)
    assert sums[0] == events.energy_counts()[:2].sum()


if hasattr(histpy, "TimeAxis"):  # they came with histpy 2

    def test_time_axes(tmp_path):
        from astropy.time import Time

        def events(start, scale="utc"):
            times = getattr(Time(start + np.array([0.0, 100.0, 200.0]), format="unix"), scale)
            return histpy.Histogram(
                [histpy.TimeAxis(times, label="Time"), make_axis("Em")], np.ones((2, 4))
            )

        write_histogram(tmp_path / "a.hdf5", events(1e9))
        assert_same_events(open_events(tmp_path / "a.hdf5"), open_events(events(1e9)))
        assert open_events([events(1e9), tmp_path / "a.hdf5"]).energy_counts().sum() == 16
        # the same instants, which histpy holds for 64 s later (findings/histpy_time_scales.sh)
        write_histogram(tmp_path / "tt.hdf5", events(1e9, "tt"))
        assert open_events([events(1e9), tmp_path / "tt.hdf5"]).energy_counts().sum() == 16
        with pytest.raises(DataError, match="axis Time: edge 0 at 1"):
            open_events([events(1e9), events(1e9 + 1)])


# ---------------------------------------------------------------------------- refusals


def test_axes_of_a_list_must_agree():
    first = make_events()

    def changed(**axes):
        new = [axes.get(axis.label, axis) for axis in make_events().axes]
        return histpy.Histogram(new, np.ones([axis.nbins for axis in new]), track_overflow=False)

    nested = histpy.HealpixAxis(nside=1, scheme="nested", coordsys="galactic", label="PsiChi")
    local = histpy.HealpixAxis(nside=1, coordsys="icrs", label="PsiChi")
    fine = histpy.HealpixAxis(nside=2, coordsys="galactic", label="PsiChi")
    shifted = histpy.Axis(np.where(EDGES == 1512.5, 1512.6, EDGES) * u.keV, label="Em")
    radians = histpy.Axis(np.radians(np.linspace(0, 180, 7)) * u.rad, label="Phi")
    bare = histpy.Axis(np.linspace(0, 180, 7), label="Phi")
    metres = histpy.Axis(np.linspace(0, 180, 7) * u.m, label="Phi")
    open_events([first, changed(Phi=radians)])
    for other, message in [
        (changed(Em=shifted), r"in the axis Em: edge 2 at 1512.6, not 1512.5"),
        (changed(PsiChi=nested), "axis PsiChi: scheme NESTED, not RING"),
        (changed(PsiChi=local), "axis PsiChi: frame icrs, not galactic"),
        (changed(PsiChi=fine), "axis PsiChi: number of bins 48, not 12"),
        (changed(Phi=bare), "axis Phi: unit None, not deg"),
        (changed(Phi=metres), "axis Phi: unit m, not deg"),
        (make_events(("Em", "Phi")), r"has axes \['Em', 'Phi'\], not \['Time', 'Em'"),
    ]:
        with pytest.raises(DataError, match=message):
            open_events([first, other])


@pytest.mark.parametrize("filled", ["sparse", "dense"])
@pytest.mark.parametrize("from_file", [False, True])
@pytest.mark.parametrize("value", [-1.0, np.nan, np.inf])
def test_impossible_counts_are_named(tmp_path, filled, from_file, value):
    contents = np.ones((4, 6))
    contents[2, 3] = contents[3, 1] = value
    stored = sparse.COO.from_numpy(contents) if filled == "sparse" else contents
    source = histpy.Histogram([make_axis("Em"), make_axis("Phi")], stored, track_overflow=False)
    if from_file:
        write_histogram(tmp_path / "bad.hdf5", source)
        source = tmp_path / "bad.hdf5"
    events = open_events(source)
    message = rf"2 cell\(s\) do not, for example {value:g} in Em bin 2, Phi bin 3"
    with pytest.raises(DataError, match=message):
        events.energy_counts()
    with pytest.raises(DataError, match=message):
        events.weighted_sums(WEIGHTS)


def test_contents_must_be_counts(tmp_path):
    dimensionless = make_events(filled="dense", unit=u.keV)
    dimensionless = histpy.Histogram(
        list(dimensionless.axes),
        dense_contents(dimensionless),
        unit=u.dimensionless_unscaled,
        track_overflow=False,
    )
    assert_same_events(open_events(dimensionless), open_events(make_events()))
    rate = histpy.Histogram([make_axis("Em")], np.ones(4) / u.s, track_overflow=False)
    write_histogram(tmp_path / "rate.hdf5", rate)
    for source in (rate, tmp_path / "rate.hdf5"):
        with pytest.raises(DataError, match="have the unit 1 / s, but counts have none"):
            open_events(source)


@pytest.mark.parametrize("unit", ["1/s", "1/keV", "ct/s", "%", "cm2", "erg", "photon", "10"])
@pytest.mark.parametrize("filled", ["sparse", "dense"])
def test_contents_with_a_unit_are_refused(tmp_path, filled, unit):
    histogram = make_events(filled=filled)
    histogram = histpy.Histogram(
        list(histogram.axes), histogram.contents, unit=u.Unit(unit), track_overflow=False
    )
    path = tmp_path / "a.hdf5"
    write_histogram(path, histogram)
    for source in (histogram, path):
        with pytest.raises(DataError, match="have the unit .*, but counts have none"):
            open_events(source)


def test_the_unit_ct_is_counts(tmp_path):
    counts = histpy.Histogram([make_axis("Em")], np.ones(4), unit=u.ct, track_overflow=False)
    write_histogram(tmp_path / "a.hdf5", counts)
    for source in (counts, tmp_path / "a.hdf5"):
        assert open_events(source).energy_counts().tolist() == [1, 1, 1, 1]


@pytest.mark.parametrize("unit", ["s", "cm", "Hz", "1/keV", "keV2", "", "%"])
def test_energies_in_other_units_are_refused(tmp_path, unit):
    axes = [make_axis("Phi"), histpy.Axis(EDGES * u.Unit(unit), label="Em")]
    histogram = histpy.Histogram(axes, np.ones((6, 4)), track_overflow=False)
    histogram.write(str(tmp_path / "a.hdf5"))
    with pytest.raises(DataError, match="which is no energy. Give it keV, MeV"):
        open_events(histogram)
    with pytest.raises(DataError, match=r"a\.hdf5: The Em axis has the unit"):
        open_events(tmp_path / "a.hdf5")


@pytest.mark.parametrize("unit", ["eV", "MeV", "GeV", "erg", "J"])
def test_energies_in_other_units_of_energy_are_converted(tmp_path, unit):
    histogram = make_events(("Em", "Phi"), unit=u.Unit(unit))
    histogram.write(str(tmp_path / "a.hdf5"))
    for source in (histogram, tmp_path / "a.hdf5"):
        np.testing.assert_allclose(open_events(source).energy_edges, EDGES, rtol=1e-12)


@pytest.mark.parametrize("unit", [None, u.one])
def test_psichi_as_a_plain_axis(tmp_path, unit):
    """Older files number the pixels: 0 ... 192."""
    edges = np.arange(13) if unit is None else np.arange(13) * unit
    axes = [make_axis("Em"), make_axis("Phi"), histpy.Axis(edges, label="PsiChi")]
    contents = np.random.default_rng(8).poisson(1.0, (4, 6, 12)).astype(float)
    histogram = histpy.Histogram(axes, contents, track_overflow=False)
    histogram.write(str(tmp_path / "a.hdf5"))
    for source in (histogram, tmp_path / "a.hdf5"):
        events = open_events(source)
        assert events.labels == ("Em", "Phi", "PsiChi")
        np.testing.assert_array_equal(events.energy_counts(), contents.sum(axis=(1, 2)))
        sums, _ = events.weighted_sums(WEIGHTS[0])
        np.testing.assert_allclose(sums[0], np.einsum("e,epq->pq", WEIGHTS[0], contents))
        with pytest.raises(DataError, match="differs in the axis PsiChi: kind"):
            open_events([source, make_events(("Em", "Phi", "PsiChi"))])


def test_energy_axis_is_found_and_checked():
    with pytest.raises(DataError, match=r"no axis 'Em'; its axes are \['Phi'\]"):
        open_events(histpy.Histogram([make_axis("Phi")], np.ones(6), track_overflow=False))
    in_metres = histpy.Axis(EDGES * u.m, label="Em")
    with pytest.raises(DataError, match="unit m, which is no energy"):
        open_events(histpy.Histogram([in_metres], np.ones(4), track_overflow=False))
    with pytest.raises(BinningError, match="edge 0 is 0"):
        axis_in_kev(histpy.Axis([0.0, 1.0] * u.keV, label="Em"))


def test_sources_of_the_wrong_kind():
    with pytest.raises(DataError, match="the list is empty"):
        open_events([])
    with pytest.raises(DataError, match=r"path, a histpy.Histogram or a list of these, got dict"):
        open_events({})
    with pytest.raises(TemplateError, match=r"each of the 4 energy bins, got shape \(1, 3\)"):
        open_events(make_events()).weighted_sums(np.ones(3))
    with pytest.raises(TemplateError, match="must be finite"):
        open_events(make_events()).weighted_sums([0, 0, 0, np.nan])


# ---------------------------------------------------------------------------- files


def test_missing_and_foreign_files(tmp_path):
    with pytest.raises(FileError, match=r"none.hdf5 does not exist"):
        open_events(tmp_path / "none.hdf5")
    with pytest.raises(FileError, match="is a folder"):
        open_events(tmp_path)
    text = tmp_path / "text.hdf5"
    text.write_text("Em,counts\n")
    with pytest.raises(FileError, match=r"text.hdf5 is not an HDF5 file"):
        open_events(text)
    with h5py.File(tmp_path / "other.hdf5", "w") as file:
        file.create_group("drm")
    with pytest.raises(FileError, match=r"holds no histogram 'hist'; it holds: drm"):
        open_events(tmp_path / "other.hdf5")
    make_events().write(tmp_path / "renamed.hdf5", name="counts")
    cure = r"'counts' is one, by another name: .*Histogram\.open\(path, 'counts'\)"
    with pytest.raises(FileError, match=cure):
        open_events(tmp_path / "renamed.hdf5")
    assert open_events(tmp_path / "renamed.hdf5", "counts").energy_counts().sum() > 0
    with h5py.File(tmp_path / "events.hdf5", "w") as file:
        file["Energies"] = [1.0]
    with pytest.raises(FileError, match="bin them with bin_events"):
        open_events(tmp_path / "events.hdf5")


def test_another_group(tmp_path):
    write_histogram(tmp_path / "named.hdf5", make_events(), name="background")
    assert_same_events(
        open_events(tmp_path / "named.hdf5", name="background"), open_events(make_events())
    )


def test_truncated_file(tmp_path):
    path = tmp_path / "events.hdf5"
    write_histogram(path, make_events())
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(FileError, match=r"events.hdf5 is truncated or damaged \(.*truncated"):
        open_events(path)


@pytest.fixture
def damaged(tmp_path):
    """A written file, opened for damage."""
    path = tmp_path / "events.hdf5"

    def open_for_damage(filled="sparse"):
        write_histogram(path, make_events(filled=filled))
        return h5py.File(path, "r+")

    return path, open_for_damage


def test_damaged_contents(damaged):
    path, open_for_damage = damaged
    with open_for_damage() as file:
        del file["hist/contents/data"]
    with pytest.raises(FileError, match=r"events.hdf5 is damaged \(.*data"):
        open_events(path)
    with open_for_damage() as file:
        coords = file["hist/contents/coords"]
        coords[1, 0] = 10**9
    with pytest.raises(FileError, match="cells outside the 4 stored bins of axis 1"):
        open_events(path).energy_counts()
    with open_for_damage() as file:
        coords = file["hist/contents/coords"]
        coords[3, -1] = -1
    with pytest.raises(FileError, match="cells outside the 12 stored bins of axis 3"):
        open_events(path).weighted_sums(WEIGHTS)
    with open_for_damage() as file:
        file["hist/contents/shape"][1] = 7
    with pytest.raises(FileError, match=r"contents of shape \(2, 7, 6, 12\) do not fit axes"):
        open_events(path)
    with open_for_damage() as file:
        data = file["hist/contents/data"][1:]
        del file["hist/contents/data"]
        file["hist/contents/data"] = data
    with pytest.raises(FileError, match="coordinates of shape"):
        open_events(path)


def test_unknown_formats_and_axes(damaged):
    path, open_for_damage = damaged
    with open_for_damage() as file:
        file["hist"].attrs["format"] = "zarr"
    with pytest.raises(FileError, match="format 'zarr'; known are 'coo'"):
        open_events(path)
    for name in (("os", "system"), ("histpy.axis", "np"), ("histpy_evil", "Axis")):
        with open_for_damage() as file:
            file["hist/axes/0"].attrs["__class__"] = name
        with pytest.raises(FileError, match=rf"axis 0 is a {name[0]}.{name[1]}, which this histpy"):
            open_events(path)
    with open_for_damage() as file:
        file["hist/axes/0"].attrs["unit"] = "parsnip"
    with pytest.raises(FileError, match=r"axes cannot be read \(.*parsnip"):
        open_events(path)


def test_files_from_before_sparse_say_neither_format_nor_class(damaged):
    path, open_for_damage = damaged
    with open_for_damage("dense") as file:
        del file["hist"].attrs["format"]
        del file["hist/axes/0"].attrs["__class__"]
    assert_same_events(open_events(path), open_events(make_events()))


def test_gcxs_files(damaged):
    """Early histpy wrote compressed sparse arrays."""
    path, open_for_damage = damaged
    with open_for_damage() as file:
        stored = sparse.GCXS.from_numpy(dense_contents(make_events()), compressed_axes=[0])
        del file["hist/contents"]
        file["hist"].attrs["format"] = "gcxs"
        for key in ("data", "indices", "indptr", "shape", "fill_value", "compressed_axes"):
            file[f"hist/contents/{key}"] = getattr(stored, key)
    assert_same_events(open_events(path), open_events(make_events()))
    assert open_events(path).description == str(path)


def test_sparse_files_are_empty_where_nothing_is_stored(damaged):
    path, open_for_damage = damaged
    with open_for_damage() as file:
        file["hist/contents/fill_value"][()] = 1.0
    with pytest.raises(DataError, match=r"holds 1.0 in every cell that it does not store"):
        open_events(path)


@pytest.mark.parametrize("filled", ["sparse", "dense"])
def test_no_events_at_all(tmp_path, filled):
    axes = [make_axis("Em"), make_axis("Phi")]
    contents = sparse.zeros((4, 6)) if filled == "sparse" else np.zeros((4, 6))
    histogram = histpy.Histogram(axes, contents, track_overflow=False)
    sources = [histogram]
    if filled == "dense":  # h5py cannot chunk an empty array, so histpy cannot write it sparse
        write_histogram(tmp_path / "empty.hdf5", histogram)
        sources.append(tmp_path / "empty.hdf5")
    for events in map(open_events, sources):
        assert events.energy_counts().tolist() == [0, 0, 0, 0]
        assert not np.any(events.weighted_sums(WEIGHTS))


def test_chunked_dense_files(damaged):
    path, open_for_damage = damaged
    with open_for_damage("dense") as file:
        contents = file["hist/contents"][()]
        del file["hist/contents"]
        file["hist"].create_dataset("contents", data=contents, chunks=(1, 3, 2, 5))
    assert_same_events(open_events(path), open_events(make_events()))


# ---------------------------------------------------------------------------- histograms, out


# ---------------------------------------------------------------------------- real files


@pytest.mark.parametrize(
    "name",
    [
        "crab_bkg_binned_data_for_continuum_bg_testing.hdf5",
        "test_event_histogram_galacticCDS.hdf5",
        "test_event_histogram_localCDS.hdf5",  # the frame that scoords registers
        "test_event_histogram_localCDS_scatt.h5",  # dense
        "test_spectral_fit_data.h5",  # six axes, two of them HEALPix
        "test_spectral_fit_background.h5",
    ],
)
def test_published_files(shared_data, tmp_path, name):
    path = shared_data / "cosipy" / name
    events = open_events(path)
    histogram = histpy.Histogram.open(str(path))
    weights = np.random.default_rng(6).normal(size=(2, events.energy_edges.size - 1))
    sums, variances = events.weighted_sums(weights)
    expected, expected_variances = reference(histogram, weights)
    np.testing.assert_allclose(sums, expected, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(variances, expected_variances, rtol=1e-12, atol=1e-12)
    projected = dense_contents(histogram.project("Em"))
    np.testing.assert_allclose(events.energy_counts(), projected)
    assert events.axes.histpy == histogram.axes
    made = make_histogram(events.other_axes, sums[0])
    write_histogram(tmp_path / "template.hdf5", made)
    assert histpy.Histogram.open(str(tmp_path / "template.hdf5")).axes == made.axes


@pytest.mark.parametrize(
    "name", ["unbinned_data_MEGAlib_calc.hdf5", "test_full_detector_response.h5", "20280301_2s.ori"]
)
def test_published_files_that_are_no_histograms(shared_data, name):
    with pytest.raises(FileError, match=f"{name} (holds no histogram|is not an HDF5 file)"):
        open_events(shared_data / "cosipy" / name)


def test_import_is_cheap():
    code = (
        "import sys, cosi_linebkg_plugin.histograms.read\n"
        "heavy = {'histpy', 'h5py', 'astropy', 'numba', 'matplotlib'} & set(sys.modules)\n"
        "sys.exit(f'imported {heavy}' if heavy else 0)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_file_that_changes_under_the_plugin_is_refused(tmp_path):
    path = tmp_path / "events.hdf5"
    make_events(("Em",)).write(str(path))
    events = open_events(path)
    events.energy_counts()
    (make_events(("Em",)) * 3.0).write(str(path), overwrite=True)
    with pytest.raises(FileError, match="events.hdf5 has changed since it was opened"):
        events.weighted_sums(np.arange(4.0))
