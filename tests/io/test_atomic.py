"""Files are written whole or not at all (kills and full disks: tests/robustness)."""

import h5py
import pytest

from cosi_linebkg_plugin.errors import FileError
from cosi_linebkg_plugin.io.atomic import (
    UNFINISHED,
    check_output,
    output_folder,
    together,
    whole_file,
    whole_hdf5,
)


def test_a_file_takes_its_place_at_the_end_only(tmp_path):
    target = tmp_path / "a.txt"
    target.write_text("old")
    with whole_file(target) as temporary:
        temporary.write_text("new")
        assert target.read_text() == "old"
    assert target.read_text() == "new"
    with pytest.raises(RuntimeError), whole_file(target) as temporary:
        temporary.write_text("newer")
        raise RuntimeError
    assert target.read_text() == "new"
    assert list(tmp_path.iterdir()) == [target]


def test_hdf5_files_likewise(tmp_path):
    target = tmp_path / "a.h5"
    with whole_hdf5(target) as whole, h5py.File(whole, "w") as file:
        file["a"] = [1, 2]
    with h5py.File(target) as file:
        assert file["a"][()].tolist() == [1, 2]
    assert list(tmp_path.iterdir()) == [target]


def test_files_of_one_run_go_into_place_together(tmp_path):
    folder = tmp_path / "out"
    with together(folder):
        with whole_file(folder / "a") as temporary:
            temporary.write_text("1")
        with whole_file(folder / "b") as temporary:
            temporary.write_text("1")
        assert not (folder / "a").exists()
    with together(folder, stale=["b"]), whole_file(folder / "a") as temporary:
        temporary.write_text("2")
    assert (folder / "a").read_text() == "2"
    assert [path.name for path in folder.iterdir()] == ["a"]
    with together(folder, outdated=["a"]), whole_file(folder / "c") as temporary:
        temporary.write_text("3")
    assert "\na\n" in (folder / UNFINISHED).read_text()


def test_a_folder_that_nothing_is_written_to_goes_again(tmp_path):
    with pytest.raises(RuntimeError), output_folder(tmp_path / "x" / "y"):
        assert (tmp_path / "x" / "y").is_dir()
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []


def test_outputs_that_cannot_be_are_refused_before_work(tmp_path):
    source = tmp_path / "in.h5"
    source.write_bytes(b"")
    with pytest.raises(FileError, match="would replace a file that is read"):
        check_output(tmp_path / "in.h5", [source])
    with pytest.raises(FileError, match="is a folder"):
        check_output(tmp_path)
    with pytest.raises(FileError, match="Choose a folder that exists"):
        check_output(tmp_path / "none" / "a")
    check_output(tmp_path / "out.h5", [source])
    assert list(tmp_path.iterdir()) == [source]
