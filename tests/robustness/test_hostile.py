"""Hostile files: whatever a file holds, the answer is a result or one of our errors.

`pytest tests/robustness/test_hostile.py -m slow` tries more, 100 damaged files of each kind, the
same ones each time; with HOSTILE_EXAMPLES as many as that says, other ones each time. HDF5 itself
ends the process on one in some fifty thousand (docs/limits.md), which is no fault of the readers.
"""

from __future__ import annotations

import contextlib
import functools
import gzip
import json
import os
import shutil
import socket
import zlib

import h5py
import histpy
import hostile
import numpy as np
import pytest
import sparse
from hostile import (
    COSIPY,
    READERS,
    STRANGE,
    STRANGE_ARRAYS,
    STRANGE_ATTRIBUTES,
    changed,
    histogram_axes,
    limits,
    places,
    refused,
    write_files,
)  # fmt: skip
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cosi_linebkg_plugin.app.cli import main
from cosi_linebkg_plugin.errors import LineBackgroundError
from cosi_linebkg_plugin.histograms.read import open_events
from cosi_linebkg_plugin.histograms.write import write_histogram

EXAMPLES, MANY = 25, int(os.environ.get("HOSTILE_EXAMPLES", 100))
ALWAYS_THE_SAME = "HOSTILE_EXAMPLES" not in os.environ
HDF5 = [name for name in READERS if name.endswith(("hdf5", "h5"))]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A folder with a whole file of each kind."""
    folder = tmp_path_factory.mktemp("whole")
    write_files(folder)
    yield folder
    print(f"\n{hostile.tried.total()} files tried:", dict(hostile.tried))  # shown with -s


@pytest.fixture
def copy(whole, tmp_path):
    """Copies a whole file into a folder of its own, with the files that it names."""

    def of(name):
        if name.endswith("yaml"):
            shutil.copy(whole / "events.hdf5", tmp_path)
        return shutil.copy(whole / name, tmp_path / name)

    return of


def examples(n):
    """Examples, always the same unless their number is asked for."""
    same = ALWAYS_THE_SAME or n == EXAMPLES
    return settings(
        max_examples=n, deadline=None, derandomize=same, database=None,
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip


@pytest.mark.parametrize("name", READERS)
def test_whole_files_are_read(copy, name):
    assert refused(copy(name)) is None


# ---------------------------------------------------------------------------- bytes


damages = st.lists(
    st.tuples(
        st.sampled_from(["flip", "zero", "fill", "cut", "insert", "repeat"]),
        st.floats(0, 1, exclude_max=True),
        st.integers(0, 255),
        st.sampled_from([1, 1, 2, 4, 8, 64, 512]),
    ),
    min_size=1,
    max_size=4,
)


def damaged(raw, damage):
    raw = bytearray(raw)
    for how, where, value, length in damage:
        start = int(where * len(raw))
        if how == "flip" and raw:
            raw[start] ^= value or 1
        elif how in ("zero", "fill"):
            n = len(raw[start : start + length])
            raw[start : start + length] = bytes([value if how == "fill" else 0]) * n
        elif how == "cut":
            del raw[start:]
        elif how == "insert":
            raw[start:start] = bytes([value]) * length
        else:
            raw[start:start] = raw[start : start + length]
    return bytes(raw)


def damage_bytes(path, n):
    raw = path.read_bytes()

    @examples(n)
    @given(damages)
    def run(damage):
        path.write_bytes(damaged(raw, damage))
        refused(path)

    run()


@pytest.mark.parametrize("name", READERS)
def test_damaged_bytes(copy, name):
    damage_bytes(copy(name), EXAMPLES)


@pytest.mark.parametrize("name", READERS)
def test_every_kind_of_prefix(copy, name):
    path = copy(name)
    raw = path.read_bytes()
    for n in sorted({0, 1, 2, 8, 9, 80, 512, 2880, len(raw) // 2, len(raw) - 1}):
        path.write_bytes(raw[: min(n, len(raw) - 1)])
        message = refused(path)
        assert message or n > len(raw) // 3 or name.endswith(("txt", "ori", "yaml")), n


# ---------------------------------------------------------------------------- values


def strange_json(path, n):
    data = json.loads(path.read_text())
    everywhere = places(data)

    @examples(n)
    @given(
        st.sampled_from(everywhere),
        st.sampled_from(STRANGE),
        st.sampled_from(["replace", "replace", "replace", "remove", "double"]),
    )
    def run(place, value, how):
        path.write_text(json.dumps(changed(data, place, value, how)))
        refused(path)

    run()


def strange_yaml(path, n):
    import yaml

    data = yaml.safe_load(path.read_text())

    @examples(n)
    @given(
        st.sampled_from(places(data)),
        st.sampled_from(STRANGE),
        st.sampled_from(["replace", "replace", "replace", "remove", "double"]),
    )
    def run(place, value, how):
        path.write_text(yaml.safe_dump(changed(data, place, value, how)))
        refused(path)

    run()


def strange_metadata(path, n):
    with h5py.File(path) as file:
        texts = {key: json.loads(file[key].asstr()[()]) for key in ("metadata", "fit")}
    everywhere = [(key, place) for key, data in texts.items() for place in places(data)]

    @examples(n)
    @given(
        st.sampled_from(everywhere),
        st.sampled_from(STRANGE),
        st.sampled_from(["replace", "replace", "replace", "remove", "double"]),
    )
    def run(where, value, how):
        key, place = where
        with h5py.File(path, "r+") as file:
            for name, data in texts.items():
                del file[name]
                file[name] = json.dumps(changed(data, place, value, how) if name == key else data)
        refused(path)

    run()


def strange_hdf5(path, n):
    raw = path.read_bytes()
    datasets, attributes = [], []
    with h5py.File(path) as file:
        file.visititems(
            lambda name, item: (
                datasets.append(name),
                attributes.extend((name, key) for key in item.attrs),
            )
        )
        attributes += [("/", key) for key in file.attrs]

    @examples(n)
    @given(
        st.sampled_from(datasets),
        st.sampled_from(STRANGE_ARRAYS),
        st.sampled_from(attributes or [None]),
        st.sampled_from(STRANGE_ATTRIBUTES),
        st.sampled_from(["dataset", "dataset", "attribute", "remove", "group"]),
    )
    def run(name, array, attribute, value, how):
        path.write_bytes(raw)
        with h5py.File(path, "r+") as file:
            if how == "attribute" and attribute:
                try:
                    file[attribute[0]].attrs[attribute[1]] = value
                except ValueError:  # h5py does not write a NUL
                    return
            else:
                kept = dict(file[name].attrs)
                del file[name]
                if how == "group":
                    file.create_group(name)
                elif how == "dataset":
                    file[name] = array
                    file[name].attrs.update(kept)
        refused(path)

    run()


STRANGERS = {
    "fit.json": strange_json,
    "config.yaml": strange_yaml,
    "cosipy.yaml": strange_yaml,
    "template.h5": strange_metadata,
}


@pytest.mark.parametrize("name", STRANGERS)
def test_strange_values(copy, name):
    STRANGERS[name](copy(name), EXAMPLES)


@pytest.mark.parametrize("name", HDF5)
def test_strange_datasets(copy, name):
    strange_hdf5(copy(name), EXAMPLES)


# ---------------------------------------------------------------------------- HDF5


def make_dataset(path, name, **how):
    """Put a dataset in the place of another, with its attributes."""
    with h5py.File(path, "r+") as file:
        kept = dict(file[name].attrs)
        del file[name]
        file.create_dataset(name, **how).attrs.update(kept)


#: Per kind of file a dataset of it, and what reads it.
DATASETS = {
    "sparse.hdf5": ("hist/contents/coords", "hist/contents/data", "hist/axes/1"),
    "dense.hdf5": ("hist/contents", "hist/sumw2", "hist/axes/0"),
    "gcxs.hdf5": ("hist/contents/indices",),
    "template.h5": ("components/lines/contents", "metadata", "fit"),
    "events.hdf5": ("Energies", "Phi"),
}
EACH = [(name, dataset) for name, datasets in DATASETS.items() for dataset in datasets]


@pytest.mark.parametrize("name, dataset", EACH)
@pytest.mark.parametrize("how", ["link", "data", "virtual"])
def test_other_files_are_not_read(copy, tmp_path, name, dataset, how):
    """They were: by a link, as external storage, or as a virtual dataset."""
    path = copy(name)
    other = tmp_path / "other.h5"
    shutil.copy(path, other)
    with h5py.File(path, "r+") as file:
        kept, shape, dtype = dict(file[dataset].attrs), file[dataset].shape, file[dataset].dtype
        del file[dataset]
        if how == "link":
            file[dataset] = h5py.ExternalLink(other.name, dataset)
        elif how == "data":
            n_bytes = int(np.prod(shape, dtype=int)) * dtype.itemsize
            file.create_dataset(
                dataset, shape or (1,), "f8" if dtype.kind == "O" else dtype,
                external=[(str(other), 0, max(n_bytes, 8))],
            ).attrs.update(kept)  # fmt: skip
        else:
            layout = h5py.VirtualLayout(shape or (1,), "f8" if dtype.kind == "O" else dtype)
            if shape:
                layout[...] = h5py.VirtualSource(str(other), dataset, shape)
            file.create_virtual_dataset(dataset, layout).attrs.update(kept)
    message = refused(path)
    if h5py.version.version_tuple < (3, 16) and "holds no text" in message:
        return  # what a virtual dataset of strings is in older h5py
    assert "another file" in message or "in other files" in message
    assert "h5repack" in message


def test_links_in_circles(copy):
    path = copy("sparse.hdf5")
    with h5py.File(path, "r+") as file:
        file["hist/again"] = file["hist"]
        file["hist/contents/up"] = h5py.SoftLink("/hist")
    assert refused(path) is None
    with h5py.File(path, "r+") as file:
        del file["hist/contents/data"]
        file["hist/contents/data"] = h5py.SoftLink("/hist/contents/data")
    assert "is damaged" in refused(path)


def test_many_objects(copy):
    path = copy("sparse.hdf5")
    with h5py.File(path, "r+") as file:
        for i in range(10_100):
            file[f"many/{i}"] = h5py.SoftLink("/")
    assert "more than 10000 groups" in refused(path)


@pytest.mark.parametrize("name, dataset", [pair for pair in EACH if pair[1] not in
                                           ("metadata", "fit")])  # fmt: skip
@pytest.mark.parametrize("n", [10**9, 10**12, 2**60])
def test_datasets_that_are_not_there(copy, name, dataset, n):
    """They were read: zeros in memory, or for hours."""
    path = copy(name)
    with h5py.File(path, "r") as file:
        shape, dtype = file[dataset].shape, file[dataset].dtype
    make_dataset(path, dataset, shape=(*shape[:-1], n), dtype=dtype,
                 chunks=(*shape[:-1], 1000), compression=4)  # fmt: skip
    assert refused(path)


@functools.cache
def packed_zeros(n_bytes, packed):
    raw = zlib.compress(bytes(n_bytes), 1)
    return raw if packed == 1 else zlib.compress(raw, 9)


def bomb(path, dataset, shape, dtype, packed=1):
    """A dataset in one chunk of zeros, packed once or twice."""
    n_bytes = int(np.prod(shape)) * np.dtype(dtype).itemsize
    raw = packed_zeros(n_bytes >> 16 << 16, packed)
    space = h5py.h5s.create_simple(shape)
    plan = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    plan.set_chunk(shape)
    for _ in range(packed):
        plan.set_deflate(9)
    with h5py.File(path, "r+") as file:
        kept = dict(file[dataset].attrs)
        del file[dataset]
        kind = h5py.h5t.py_create(np.dtype(dtype))
        new = h5py.h5d.create(file.id, dataset.encode(), kind, space, plan)
        new.write_direct_chunk((0,) * len(shape), raw)
        file[dataset].attrs.update(kept)
    assert path.stat().st_size < 4_000_000


@pytest.mark.parametrize("packed", [1, 2])
@pytest.mark.parametrize(
    "name, dataset, before",
    [
        ("sparse.hdf5", "hist/contents/coords", (4,)),
        ("sparse.hdf5", "hist/axes/1", ()),
        ("dense.hdf5", "hist/contents", (2, 40, 6)),
        ("template.h5", "components/lines/contents", (1, 6)),
        ("events.hdf5", "Energies", ()),
        ("events.hdf5", "Zpointings (glon,glat)", ()),
    ],
)
def test_chunks_that_unpack_to_gigabytes(copy, name, dataset, before, packed):
    path = copy(name)
    n = (1 << 28) // 8 // int(np.prod(before, dtype=int)) + 1000
    bomb(path, dataset, (*before, n), "f8", packed)
    assert refused(path)


def test_a_chunk_that_unpacks_to_more_than_it_says(copy):
    """It was unpacked to its end, however far that was; one event too many went unnoticed."""
    path = copy("events.hdf5")
    for n, found in ((300, None), (1 << 22, "0 of its 300 events"), (301, "0 of its 300"),
                     (1, "0 of its 300"), (0, "0 of its 300")):  # fmt: skip
        with h5py.File(path, "r+") as file:
            file["Phi"].id.write_direct_chunk((0,), zlib.compress(bytes(8 * n)))
            assert file["Phi"].chunks == (300,)
        message = refused(path)
        assert message is None if found is None else found in message


@pytest.mark.parametrize("bad", [np.nan, 1e30, -1.0, 0.5, np.inf])
def test_coordinates_that_are_no_bin_numbers(copy, bad):
    """NaN passed every test, and a compiled loop wrote outside its arrays."""
    path = copy("sparse.hdf5")
    with h5py.File(path) as file:
        coords = file["hist/contents/coords"][()].astype(float)
    coords[1, 0] = bad
    make_dataset(path, "hist/contents/coords", data=coords)
    assert "coordinates of type float64" in refused(path)


def test_coordinates_on_an_axis_of_one_bin(tmp_path):
    """They were not looked at."""
    one = histpy.Axes([histpy.Axis([0.0, 1.0], label="ScAtt"), histogram_axes()["Em"]])
    path = tmp_path / "sparse.hdf5"
    write_histogram(path, histpy.Histogram(one, sparse.COO(np.ones((1, 40))), track_overflow=False))
    assert refused(path) is None
    with h5py.File(path, "r+") as file:
        file["hist/contents/coords"][0, 3] = 7
    assert "outside the 1 stored bins of axis 0" in refused(path)


def test_compressed_indices_outside_the_array(copy):
    """What unpacks them is compiled, and checks nothing: it read and wrote where it should not."""
    for key, index, value in (("indices", 5, 10**9), ("indices", 0, -1), ("indptr", 1, 10**9),
                              ("indptr", 0, 3), ("compressed_axes", 0, 9),
                              ("shape", 0, 10**6), ("shape", 1, -2)):  # fmt: skip
        path = copy("gcxs.hdf5")
        with h5py.File(path, "r+") as file:
            file[f"hist/contents/{key}"][index] = value
        assert refused(path), (key, value)


@pytest.mark.parametrize("unit", ["10**100000000", "keV10+99999999", "m^99999999", "(" * 70])
def test_units_that_take_hours_to_parse(copy, unit):
    for name, place in (("sparse.hdf5", "hist"), ("sparse.hdf5", "hist/axes/1"),
                        ("template.h5", "components/continuum/axes/0"), ("events.hdf5", "Energies"),
                        ):  # fmt: skip
        path = copy(name)
        with h5py.File(path, "r+") as file:
            file[place].attrs["unit"] = unit
        assert "unit" in refused(path)


def test_axes_that_increase_nowhere(copy):
    for edges in ([0.0, np.nan, 30.0], [0.0, 30.0, 10.0], [5.0], [0.0, 0.0, 1.0], [0, np.inf, 1]):
        path = copy("dense.hdf5")
        make_dataset(path, "hist/axes/0", data=np.array(edges))
        assert "axes cannot be read" in refused(path)


def test_maps_larger_than_memory(tmp_path):
    """Cells of a sparse histogram are few, but its template has them all."""
    wide = np.arange(200_001.0)
    all_axes = [histpy.Axis(wide, label="Time"), histogram_axes()["Em"],
                histpy.Axis(wide, label="Phi")]  # fmt: skip
    path = tmp_path / "sparse.hdf5"
    cells = sparse.COO(np.zeros((3, 1), int), np.ones(1), shape=(200_000, 40, 200_000))
    write_histogram(path, histpy.Histogram(all_axes, cells, track_overflow=False))
    assert "GB of memory, but there are" in refused(path)


def test_names_in_a_template_lead_nowhere(copy, tmp_path):
    for label in ("../../x", "/fit", ".", "", "a b", "\x1b[2J"):
        path = copy("template.h5")
        with h5py.File(path, "r+") as file:
            data = json.loads(file["metadata"].asstr()[()])
            del file["metadata"]
            data["labels"][1] = label
            data["counts"][label] = 1.0
            file["metadata"] = json.dumps(data)
        assert "they must be names" in refused(path)


# ---------------------------------------------------------------------------- FITS


def set_cards(path, **cards):
    """Give header cards of the events' table other values, as text."""
    packed = path.suffix == ".gz"
    raw = bytearray(gzip.decompress(path.read_bytes()) if packed else path.read_bytes())
    for key, value in cards.items():
        place = raw.index(key.ljust(8).encode() + b"=", 2880 if key != "NAXIS" else 0)
        raw[place : place + 80] = f"{key:<8}= {value:>20}".ljust(80).encode()
    path.write_bytes(gzip.compress(raw) if packed else raw)


@pytest.mark.parametrize("name", ["events.fits", "events.fits.gz"])
@pytest.mark.parametrize(
    "cards",
    [
        {"NAXIS2": 10**12}, {"NAXIS2": 10**18}, {"NAXIS2": -1}, {"NAXIS2": "'x'"}, {"NAXIS2": 1.5},
        {"NAXIS1": 10**12}, {"NAXIS1": 0}, {"NAXIS1": -136}, {"TFIELDS": 10**9}, {"TFIELDS": 0},
        {"TFORM1": "'999999999D'"}, {"TFORM1": "'1PD(5)'"}, {"TFORM1": "'8A'"}, {"TFORM1": "'1M'"},
        {"TFORM1": "'0D'"}, {"TFORM1": "'-1D'"}, {"TFORM1": "'Z'"}, {"TUNIT1": "'10**100000000'"},
        {"TTYPE1": "'Phi'"}, {"TTYPE1": "''"}, {"NAXIS": 999}, {"NAXIS": -1}, {"PCOUNT": 10**15},
        {"XTENSION": "'IMAGE'"}, {"BITPIX": "'T'"}, {"NAXIS1": 80, "TFORM1": "'1E'"},
    ],
    ids=str,
)  # fmt: skip
def test_absurd_fits_headers(copy, name, cards):
    path = copy(name)
    set_cards(path, **cards)
    message = refused(path)
    assert message or cards.keys() <= {"PCOUNT", "BITPIX"}


@pytest.mark.parametrize("name", ["events.fits", "events.fits.gz", "times.fits"])
def test_headers_without_an_end(copy, name):
    """They were read to the end of the file."""
    path = copy(name)
    raw = b"SIMPLE  =                    T".ljust(80) + b" " * 80 * 40_000
    path.write_bytes(gzip.compress(raw, 1))
    assert refused(path)


def test_packed_good_times(copy):
    path = copy("times.fits")
    path.write_bytes(gzip.compress(path.read_bytes()))
    assert refused(path) is None
    path.write_bytes(gzip.compress(bytes(101_000_000), 1))
    assert "holds more than 100000000 bytes" in refused(path)


# ---------------------------------------------------------------------------- text


TEXTS = {
    "config.yaml": [
        "a: &a [x, x]\nb: &b [*a, *a]\nevents: [*b, *b]\n",
        "events: !!python/object/apply:os.system ['touch HACKED']\n",
        "!!python/object/new:os.system ['touch HACKED']\n",
        "events: !!binary aGVsbG8=\n",
        "events: events.hdf5\nevents: events.hdf5\n",
        "? [events]\n: 1\n",
        "[" * 5000, "{a: " * 5000, "- " * 5000, "events: [" + "[" * 900 + "]" * 900 + "]",
        'events: events.hdf5\nsource_range: ["' + "1" * 300_000 + '!", 2]\n',
        "events: events.hdf5\nsource_range: [1e99999, 2e99999]\n",
        "events: events.hdf5\nsource_range: [" + "9" * 5000 + ", .inf]\n",
        "events: " + "x" * 300_000, "x" * 300_000 + ": 1\n", "events: '\\0'\n", 'events: "\\0"\n',
        'events: "**/**/**/**/**/*.fits"\n', "%YAML 9.9\n---\nevents: 1\n", "--- a\n--- b\n",
        "events: events.hdf5\nbinning: {energy_edges: '1:2:1', nside: 4, scheduler: 'tcp://1:1'}\n",
        "events: /dev/zero\n", "events: events.hdf5\nregions: [{name: ../x}]\n", "\x80", "\ufeff",
        "x: " + "y\n" * 600_000,
    ],
    "cosipy.yaml": [
        COSIPY.replace("energy_bins: [1500., 1600., 2000.]", "energy_bins: '1:1e12:1'"),
        COSIPY.replace("tmax: 100.0", "tmax: 1e18"),
        COSIPY.replace("phi_pix_size: 6", "phi_pix_size: 1e-12"),
        COSIPY.replace("time_bins: 10", "time_bins: 5e-324"),
        COSIPY.replace("nside: 4", "nside: 1e12"), COSIPY.replace("nside: 4", "nside: .nan"),
        COSIPY.replace("nside: 4", "nside: 8192"),
        COSIPY.replace("[1500., 1600., 2000.]", "{a: 1}"), "energy_bins:\n",
    ],
    "fit.json": [
        "{" + '"a":{' * 1_000_000, "[" * 1_000_000, '{"a": ' + "[" * 100_000 + "]" * 100_000 + "}",
        '{"format": NaN}', '{"format": ' + "9" * 100_000 + "}", '{"a": 1, "a": 2}', "{}", "",
        "null", '"x"', "[]", '{"format": "cosi-linebkg fit 1"}', "\0", "{\ud800".encode(
            "utf-8", "surrogatepass").decode("latin-1"),
    ],
    "times.txt": ["", "1\n", "1 2 3\n3 2 1\n", "nan nan\n", "1e999 2\n", "a b\n", "1,2\n3;4\n",
                  "\x1f\x8b", "#\n" * 100_000, "1 " * 1_000_000],
    "flight.ori": ["", "Type OrientationsGalactic\n", "Type OrientationsGalactic\nOG nan\n",
                   "x" * 10_000_000, "Type OrientationsGalactic\n" + "OG 1e999" + " 1" * 8 + "\n",
                   "Type OrientationsGalactic\n" + "OG 1" + " 1" * 1_000_000 + "\n", "\u0660" * 99],
}  # fmt: skip


@pytest.mark.parametrize(
    "name, number", [(name, i) for name, texts in TEXTS.items() for i in range(len(texts))]
)
def test_adversarial_texts(copy, tmp_path, name, number):
    path = copy(name)
    text = TEXTS[name][number]
    path.write_text(text, encoding="utf-8")
    message = refused(path)
    assert message, text[:80]
    assert not list(tmp_path.rglob("HACKED"))


# ---------------------------------------------------------------------------- no files


def no_files(folder, name):
    """Paths of this name that lead to no plain file."""
    for kind in ("folder", "pipe", "device", "loop", "nowhere", "socket"):
        path = folder / kind / name
        path.parent.mkdir()
        if kind == "folder":
            path.mkdir()
        elif kind == "pipe":
            os.mkfifo(path)
        elif kind == "socket":
            with contextlib.closing(socket.socket(socket.AF_UNIX)) as end:
                before = os.getcwd()
                os.chdir(path.parent)  # a socket's path must be short
                try:
                    end.bind(name)
                finally:
                    os.chdir(before)
        else:
            path.symlink_to({"device": "/dev/zero", "loop": name, "nowhere": "none"}[kind])
        yield path
    yield folder / ("x" * 300) / name


@pytest.mark.parametrize("name", READERS)
def test_what_is_no_plain_file(tmp_path, name):
    """A pipe was waited for, and /dev/zero read, for ever."""
    for path in no_files(tmp_path, name):
        if path.parent.name == "folder" and READERS[name] is READERS["events.hdf5"]:
            continue  # a folder of event lists
        try:
            with limits():
                READERS[name](path)
        except LineBackgroundError as error:
            assert name in str(error), error
        else:
            raise AssertionError(f"{path} was read")


def test_a_fit_that_unfolds_to_gigabytes(copy):
    """Its derivatives were: parameters times bins."""
    path = copy("fit.json")
    data = json.loads(path.read_text())
    n = 20_000
    spectrum = data["spectrum"]
    spectrum["energy_edges"] = [1000.0 + i for i in range(n + 1)]
    spectrum["counts"], spectrum["mask"] = [1] * n, [False] * n
    for i in range(n):
        data["parameters"][f"F_{i + 2}"] = data["parameters"]["K_1"]
    data["components"] *= 5
    path.write_text(json.dumps(data))
    assert "more derivatives than a fit has" in refused(path)


def test_a_fit_whose_residuals_are_infinite(copy):
    """It was opened, and could not be written."""
    path = copy("fit.json")
    data = json.loads(path.read_text())
    data["parameters"]["K_1"]["value"] = 0
    path.write_text(json.dumps(data))
    assert "no fit of this package" in refused(path)


def test_names_that_figures_would_parse(copy):
    for name in ("$\\frac$", "a\x1b[2J", "x" * 200):
        path = copy("fit.json")
        path.write_text(path.read_text().replace("index_1", name.replace("\x1b", "\\u001b")))
        assert refused(path)


def test_a_link_to_a_file_is_followed(copy, tmp_path):
    path = copy("sparse.hdf5")
    link = tmp_path / "link" / "sparse.hdf5"
    link.parent.mkdir()
    link.symlink_to(path)
    assert refused(link) is None


# ---------------------------------------------------------------------------- command line


def test_the_command_line_says_one_line(copy, whole, tmp_path, capsys):
    """Exit code 2, one line, and nothing written; whatever the file says."""
    out = tmp_path / "out"
    bad = {
        "fit.json": ["lines", "--match"],
        "config.yaml": ["run", "--out", str(out)],
        "template.h5": ["compare", "--out", str(out)],
        "cosipy.yaml": ["bin", "--out", str(tmp_path / "out.hdf5")],
        "events.hdf5": ["bin", "--nside", "1", "--energy-edges", "1,2", "--phi-pix-size", "6",
                        "--out", str(tmp_path / "out.hdf5")],
    }  # fmt: skip
    for name, (command, *options) in bad.items():
        path = copy(name)
        raw = path.read_bytes()
        for text in (b"", b"\x1b[31m\x00" * 10**5, raw[: len(raw) // 2]):
            path.write_bytes(text)
            more = [str(whole / "sparse.hdf5")] if command == "compare" else []
            arguments = [command, str(path), *more, *options]
            if command == "lines":
                arguments = [command, *options, str(path)]
            assert main(arguments) == 2, arguments
            printed, said = capsys.readouterr()
            assert printed == "" and said.count("\n") == 1 and len(said) < 2100
            assert said[:-1].isprintable() and "Traceback" not in said and name in said
        assert not out.exists() and not (tmp_path / "out.hdf5").exists()


# ---------------------------------------------------------------------------- whole and large


@pytest.mark.slow
def test_a_large_sparse_on_disk_histogram_is_read(tmp_path):
    """4 GB of cells, of which few are stored, are no bomb: they are read block by block."""
    path = tmp_path / "dense.hdf5"
    all_axes = histpy.Axes([
        histpy.Axis(np.arange(1001.0), label="Time"), histogram_axes()["Em"],
        histpy.Axis(np.linspace(0, 180, 61), label="Phi"),
        histpy.Axis(np.arange(225.0), label="ScAtt"),
    ])  # fmt: skip
    shape = tuple(axis.nbins for axis in all_axes)
    one = sparse.COO(np.zeros((4, 1), int), np.ones(1), shape=shape)
    write_histogram(path, histpy.Histogram(all_axes, one, track_overflow=False))
    with h5py.File(path, "r+") as file:
        del file["hist/contents"]
        file["hist"].attrs["format"] = "dense"
        cells = file.create_dataset(
            "hist/contents", shape, "f8", chunks=(8, 40, 60, 32), compression=1
        )
        cells[1, 2, 3, 4] = 5.0
    events = open_events(path)
    with limits():
        counts = events.energy_counts()
    assert counts[2] == counts.sum() == 5.0


@pytest.mark.slow
@pytest.mark.parametrize("name", READERS)
def test_many_damaged_and_strange_files(copy, name):
    path = copy(name)
    raw = path.read_bytes()
    damage_bytes(path, MANY)
    for strange in filter(None, (STRANGERS.get(name), strange_hdf5 if name in HDF5 else None)):
        path.write_bytes(raw)
        strange(path, MANY)
