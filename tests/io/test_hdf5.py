"""HDF5 files for reading: what is read, and what is refused (hostile files: tests/robustness)."""

import struct

import h5py
import numpy as np
import pytest

from cosi_linebkg_plugin.errors import FileError
from cosi_linebkg_plugin.io import hdf5
from cosi_linebkg_plugin.io.hdf5 import is_sound_heap, opened, read_text, read_whole, unit_attribute


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file["numbers"] = np.arange(5)
        file["text"] = "words"
        file["numbers"].attrs["unit"] = "keV"
        file.create_group("group")
    return path


def test_numbers_texts_and_units(path):
    with opened(path) as file:
        assert read_whole(file["numbers"], path).tolist() == [0, 1, 2, 3, 4]
        assert read_text(file["text"], path) == "words"
        assert unit_attribute(file["numbers"].attrs) == "keV"
        assert unit_attribute(file["text"].attrs) is None
        for wrong in (file["text"], file["group"]):
            with pytest.raises(FileError, match="real numbers are needed"):
                read_whole(wrong, path)
        with pytest.raises(FileError, match="holds no text"):
            read_text(file["numbers"], path)


def test_files_are_opened_for_reading_alone(path):
    before = path.read_bytes()
    with opened(path) as file, pytest.raises((OSError, ValueError)):
        file["more"] = 1
    assert path.read_bytes() == before


def test_links_to_other_files_are_refused(path, tmp_path):
    other = tmp_path / "b.h5"
    with h5py.File(other, "w") as file:
        file["numbers"] = h5py.ExternalLink("a.h5", "numbers")
    with pytest.raises(FileError, match="'numbers' is a link to another file"), opened(other):
        pass


@pytest.mark.parametrize("searched", [1 << 24, 0])
@pytest.mark.parametrize("chunks", [None, (100,)])
def test_texts_that_do_not_add_up_are_refused(tmp_path, monkeypatch, searched, chunks):
    """A collection of texts says how much of it is free: 8 bytes less, and it has a gap."""
    monkeypatch.setattr(hdf5, "_SEARCHED", searched)
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        values = np.frombuffer(b"GCOL5678" * 3000, dtype=np.int64)  # numbers, whatever they spell
        numbers = file.create_dataset("numbers", data=values, chunks=chunks)
        numbers.attrs["labels"] = ["Em", "Phi", "PsiChi"]
    raw = path.read_bytes()
    with h5py.File(path) as file:
        stored = hdf5._regions(file["numbers"])
        if chunks is None or hasattr(file["numbers"].id, "chunk_iter"):
            assert sum(high - low for low, high in stored) == values.nbytes
    (at,) = (i for i in positions(raw, b"GCOL") if raw[i + 4] == 1)
    assert not any(low <= at < high for low, high in stored)
    assert is_sound_heap(raw, at)
    if searched == 0:
        with opened(path) as file:
            assert list(file["numbers"].attrs["labels"]) == ["Em", "Phi", "PsiChi"]
    (size,) = struct.unpack_from("<Q", raw, at + 8)
    free = at + 16 + 3 * (16 + 8)
    (left,) = struct.unpack_from("<Q", raw, free + 8)
    assert free + left == at + size
    path.write_bytes(raw[: free + 8] + struct.pack("<Q", left - 8) + raw[free + 16 :])
    with pytest.raises(FileError, match="a.h5 is damaged: the texts"), opened(path):
        pass


def positions(raw, pattern):
    return [i for i in range(len(raw)) if raw.startswith(pattern, i)]
