"""Files from outside: which are read, and what is said of damage."""

import errno
import os

import pytest

from cosi_linebkg_plugin.errors import BinningError, DataError, FileError
from cosi_linebkg_plugin.io import guard
from cosi_linebkg_plugin.io.guard import (
    brief,
    listed,
    parse_json,
    plain_unit,
    reading,
    require_file,
    require_memory,
)


def test_only_plain_files_are_read(tmp_path):
    file = tmp_path / "a"
    file.write_text("a")
    (tmp_path / "link").symlink_to(file)
    os.mkfifo(tmp_path / "pipe")
    assert require_file(str(file), "") == file
    assert require_file(tmp_path / "link", "") == tmp_path / "link"
    for name, what in (
        ("none", "does not exist"),
        ("", "is a folder"),
        ("pipe", "is no plain file"),
        ("x" * 5000, "does not exist|cannot be read"),
    ):
        with pytest.raises(FileError, match=f"({what}).*; give a file"):
            require_file(tmp_path / name, "give a file")


@pytest.mark.parametrize("error", [BinningError, DataError, FileError])
def test_our_own_errors_keep_their_class_and_name_the_file(error):
    with pytest.raises(error, match="^a.h5: too few bins$") as caught, reading("a.h5", "", ""):
        raise error("too few bins")
    assert type(caught.value) is error
    with pytest.raises(error, match="^too few bins in a.h5$"), reading("a.h5", "", ""):
        raise error("too few bins in a.h5")


def test_what_libraries_raise_becomes_a_file_error_but_a_full_disk_stays():
    for foreign in (KeyError("axes"), ValueError("x\ny"), MemoryError(), RecursionError("deep")):
        expected = pytest.raises(FileError, match=r"a\.h5 .*Write it again\.$")
        with expected as caught, reading("a.h5", "is damaged", "Write it again."):
            raise foreign
        assert "\n" not in str(caught.value)
    with pytest.raises(OSError, match="full"), reading("a.h5", "is damaged", ""):
        raise OSError(errno.ENOSPC, "full")


def test_words_of_a_file_are_short_and_on_one_line():
    assert brief("a\nb\x1b[2J") == "a b?[2J"
    assert len(brief("a" * 1000)) == 200
    assert brief(KeyError("axes")) == "'axes' is missing"
    assert listed(range(30)).endswith(", 19, ...")
    assert listed([]) == "nothing"


def test_json_has_no_surprises():
    assert parse_json('{"a": [1.5, null]}') == {"a": [1.5, None]}
    for text, message in (('{"a": NaN}', "NaN"), ('{"a": 1, "a": 2}', "there twice")):
        with pytest.raises(ValueError, match=message):
            parse_json(text)


@pytest.mark.parametrize("text", ["keV", b"keV", "cm2 s-1", "10**3 keV"])
def test_units_that_are_parsed(text):
    assert plain_unit(text) == (text if isinstance(text, str) else text.decode())


@pytest.mark.parametrize("text", ["keV" * 40, "keV**99999", 5, None])
def test_units_that_are_not_even_parsed(text):
    with pytest.raises(ValueError, match="is no unit"):
        plain_unit(text)


def test_more_memory_than_there_is_is_refused(monkeypatch):
    monkeypatch.setattr(guard, "_memory", lambda: 2.0**30)
    require_memory(2.0**29, "A map", "Bin coarser.")
    with pytest.raises(DataError, match="A map takes 2 GB .* but there are 1 GB. Bin coarser."):
        require_memory(2.0**31, "A map", "Bin coarser.")
