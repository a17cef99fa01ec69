"""HDF5 files for reading: what is read, and what is refused (hostile files: tests/robustness)."""

import h5py
import numpy as np
import pytest

from cosi_linebkg_plugin.errors import FileError
from cosi_linebkg_plugin.io.hdf5 import opened, read_text, read_whole, unit_attribute


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
