"""Axes without histpy say, and write, what histpy's do."""

from __future__ import annotations

import astropy.units as u
import h5py
import histpy
import numpy as np
import pytest
import scoords  # noqa: F401  # registers the spacecraft frame
import sparse
from astropy.time import Time

from cosi_linebkg_plugin.errors import FileError
from cosi_linebkg_plugin.histograms.axes import axis_difference, read_axes
from cosi_linebkg_plugin.histograms.axis import EventAxes, EventAxis, event_axes
from cosi_linebkg_plugin.histograms.write import make_histogram, write_cells, write_maps

IS_NEW = histpy.__version__ >= "2"
EDGES = np.array([1500.0, 1505.0, 1512.5, 1520.0, 1540.0])

AXES = {
    "keV, log": lambda: histpy.Axis(EDGES * u.keV, label="Em", scale="log"),
    "MeV": lambda: histpy.Axis(EDGES / 1e3 * u.MeV, label="Em"),
    "erg": lambda: histpy.Axis(EDGES * u.erg, label="Em"),
    "of no unit": lambda: histpy.Axis(EDGES, label="Em"),
    "of a scaled unit": lambda: histpy.Axis(EDGES * u.Unit("10 keV"), label="Em"),
    "whole numbers": lambda: histpy.Axis(np.arange(5), label="ScAtt"),
    "single precision": lambda: histpy.Axis(EDGES.astype(np.float32), label="Em"),
    "without label": lambda: histpy.Axis(EDGES * u.s),
    "symmetric": lambda: histpy.Axis([0.0, 1.0, 2.0] * u.deg, label="Phi", scale="symmetric"),
    "label of letters": lambda: histpy.Axis(EDGES, label="ψχ, °"),
    "dimensionless": lambda: histpy.Axis(EDGES * u.dimensionless_unscaled, label="x"),
    "galactic": lambda: histpy.HealpixAxis(nside=2, coordsys="galactic", label="PsiChi"),
    "nested, local": lambda: histpy.HealpixAxis(
        nside=4, scheme="nested", coordsys="spacecraftframe", label="PsiChi"
    ),
    "no frame": lambda: histpy.HealpixAxis(nside=1, label="PsiChi"),
    "ecliptic": lambda: histpy.HealpixAxis(nside=1, coordsys="E", label="PsiChi"),
    "part of the sky": lambda: histpy.HealpixAxis(
        nside=2, edges=np.array([3, 7, 12, 20]), coordsys="icrs", label="PsiChi"
    ),
}
if hasattr(histpy, "TimeAxis"):
    AXES["times"] = lambda: histpy.TimeAxis(
        Time([2460000.5, 2460001.5, 2460002.25], format="jd"), label="Time"
    )

#: What is read without histpy; the rest is as rare as its attributes.
LIGHT = {
    "keV, log", "MeV", "of no unit", "whole numbers", "single precision", "without label",
    "symmetric", "label of letters", "galactic", "nested, local", "no frame", "part of the sky",
}  # fmt: skip


def said(axis):
    """What a histpy axis is, to its last attribute."""
    edges = axis.edges
    if hasattr(edges, "jd1"):
        edges = np.array([edges.jd1, edges.jd2])
    frame = getattr(getattr(axis, "coordsys", None), "name", None)
    unit = None if axis.unit is None else str(axis.unit)
    more = [getattr(axis, name, None) for name in ("nside", "scheme")]
    values = np.asarray(getattr(edges, "value", edges))
    return (type(axis).__name__, axis.label, unit, axis.axis_scale, values.tolist(),
            values.dtype.kind, frame, *more)  # fmt: skip


def stored(group):
    """Everything in a group, as HDF5 has it."""
    found = {}

    def look(name, item):
        attributes = {
            key: (np.asarray(value).tolist(), np.asarray(value).dtype.kind)
            for key, value in item.attrs.items()
        }
        layout = None
        if isinstance(item, h5py.Dataset):
            layout = item.shape, str(item.dtype), item.chunks, item.compression, item[()].tolist()
        found[name] = attributes, layout

    look("", group)
    group.visititems(look)
    return found


@pytest.mark.parametrize("name", AXES)
def test_a_file_of_histpys_is_read_as_histpy_reads_it(tmp_path, name):
    path = tmp_path / "a.hdf5"
    histpy.Histogram([AXES[name]()], track_overflow=False).write(str(path))
    with h5py.File(path) as file:
        axes = read_axes(file["hist"], path)
    (theirs,) = histpy.Histogram.open(str(path)).axes
    assert (axes[0].original is None) == (name in LIGHT)
    assert said(axes.histpy[0]) == said(theirs)
    assert axis_difference(axes[0], theirs) is None
    assert axis_difference(theirs, EventAxis.from_histpy(theirs)) is None
    assert (axes[0].label, axes[0].nbins) == (theirs.label, theirs.nbins)


@pytest.mark.parametrize("name", AXES)
@pytest.mark.parametrize("light", [False, True])
def test_dense_files_are_those_that_histpy_writes(tmp_path, name, light):
    """Of axes in memory, and of those that a file of histpy's held."""
    axes = [AXES[name](), histpy.Axis([0.0, 1.0, 4.0] * u.deg, label="more")]
    contents = np.random.default_rng(1).random([a.nbins for a in axes])
    theirs, ours = tmp_path / "theirs.hdf5", tmp_path / "ours.hdf5"
    made = make_histogram(axes, contents, contents**2)
    made.write(str(theirs))
    own = event_axes(made.axes)
    if light:
        with h5py.File(theirs) as file:
            own = read_axes(file["hist"], theirs)
    write_maps(ours, "hist", own, {"contents": (contents, 1.0), "sumw2": (contents**2, 1.0)})
    a, b = histpy.Histogram.open(str(ours)), histpy.Histogram.open(str(theirs))
    assert [said(x) for x in a.axes] == [said(x) for x in b.axes] and a.axes == b.axes
    assert a.unit is None and not a.is_sparse and not np.any(a.track_overflow())
    np.testing.assert_array_equal(a.contents, b.contents)
    np.testing.assert_array_equal(a.sumw2.contents, b.sumw2.contents)
    if IS_NEW:
        with h5py.File(ours) as one, h5py.File(theirs) as other:
            assert stored(one["hist"]) == stored(other["hist"])


@pytest.mark.parametrize("frame", ["galactic", "spacecraftframe"])
def test_sparse_files_are_those_that_histpy_writes(tmp_path, frame):
    axes = EventAxes(
        (
            EventAxis("Time", np.array([0.0, 10.0, 30.0]), "s"),
            EventAxis("Em", EDGES, "keV"),
            EventAxis("PsiChi", np.arange(13), kind="HealpixAxis", nside=1, scheme="RING",
                      frame=frame),
        )
    )  # fmt: skip
    cells = sparse.COO.from_numpy(np.random.default_rng(2).poisson(0.5, axes.shape).astype(float))
    theirs, ours = tmp_path / "theirs.hdf5", tmp_path / "ours.hdf5"
    histpy.Histogram(axes.histpy, cells, track_overflow=False).write(str(theirs))
    write_cells(ours, "hist", axes, cells.coords, cells.data)
    a, b = histpy.Histogram.open(str(ours)), histpy.Histogram.open(str(theirs))
    assert [said(x) for x in a.axes] == [said(x) for x in b.axes] and a.axes == b.axes
    assert a.is_sparse and a.unit is None and not np.any(a.track_overflow())
    np.testing.assert_array_equal(a.contents.todense(), b.contents.todense())
    if IS_NEW:
        with h5py.File(ours) as one, h5py.File(theirs) as other:
            assert stored(one["hist"]) == stored(other["hist"])


def test_more_than_ten_axes_keep_their_order(tmp_path):
    """histpy 1 takes them in the order of the file, where "10" stands before "2" by name."""
    axes = [histpy.Axis([0.0, 1.0], label=f"axis {i}") for i in range(12)]
    axes[0] = histpy.Axis(EDGES * u.keV, label="Em")
    path = tmp_path / "a.hdf5"
    write_maps(path, "hist", event_axes(axes), {"contents": (np.ones((4, *[1] * 11)), 1.0)})
    assert [a.label for a in histpy.Histogram.open(str(path)).axes] == [a.label for a in axes]
    with h5py.File(path) as file:
        assert read_axes(file["hist"], path).labels == tuple(a.label for a in axes)


BAD = {
    "unit": "no_such_unit",
    "nside": 3,
    "scheme": "SPIRAL",
    "coordsys": "no_such_frame",
    "label": "Phi",
}
if IS_NEW:  # histpy 1 takes any scale
    BAD["scale"] = "cubic"


@pytest.mark.parametrize("what", BAD)
def test_attributes_that_histpy_refuses_are_refused(tmp_path, what):
    path = tmp_path / "a.hdf5"
    axes = [AXES["of no unit"](), AXES["galactic"](), histpy.Axis([0.0, 1.0], label="Phi")]
    make_histogram(axes, np.ones((4, 48, 1))).write(str(path))
    with h5py.File(path, "a") as file:
        is_plain = what in ("unit", "scale", "label")
        file["hist/axes"]["0" if is_plain else "1"].attrs[what] = BAD[what]
    with h5py.File(path) as file, pytest.raises(FileError, match="cannot be read"):
        read_axes(file["hist"], path)


def test_an_axis_that_histpy_cannot_hold_is_left_to_it(tmp_path):
    path = tmp_path / "a.hdf5"
    histpy.Histogram([AXES["of no unit"]()], track_overflow=False).write(str(path))
    with h5py.File(path, "a") as file:
        file["hist/axes/0"].attrs["scale"] = "log"
        file["hist/axes/0"][0] = -1.0
    with h5py.File(path) as file:
        if not IS_NEW:  # histpy 1 takes any scale
            assert read_axes(file["hist"], path)[0].edges[0] == -1.0
            return
        with pytest.raises(FileError, match="cannot be read"):
            read_axes(file["hist"], path)


def test_edges_cannot_be_changed_and_labels_not_repeat():
    axis = EventAxis("Em", EDGES, "keV")
    with pytest.raises(ValueError, match="read-only"):
        axis.edges[0] = 0.0
    assert EDGES.flags.writeable
    with pytest.raises(ValueError, match="one label"):
        EventAxes((axis, axis))
    assert EventAxes((axis,))["Em"] is axis
