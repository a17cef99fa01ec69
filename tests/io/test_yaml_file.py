"""YAML from outside: no surprises, errors on one line."""

import pytest

from cosi_linebkg_plugin.errors import ConfigError
from cosi_linebkg_plugin.io.yaml_file import MAX_BYTES, read_yaml


def read(tmp_path, text):
    path = tmp_path / "a.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_yaml(path)


def test_numbers_are_decimal_and_nothing_is_a_date(tmp_path):
    name, found = read(tmp_path, "a: 01612\nb: 18:05\nc: 2028-03-01\nd: [1.5e3, .5]\ne: yes\n")
    assert name.endswith("a.yaml")
    assert found == {"a": 1612.0, "b": "18:05", "c": "2028-03-01", "d": [1500, 0.5], "e": True}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [1", "line .* is not valid YAML"),
        ("a: 1\na: 2\n", "key 'a' is there since line 1"),
        ("a: &x 1\nb: *x\n", "anchors, aliases and tags are not allowed"),
        ("a: !!python/name:os.system", "tags are not allowed"),
        (b"a: \x00", "not plain text"),
        (b"\xff\xfe\xff", "cannot read this configuration"),
        ("[" * 5000, "nested too deeply"),
        ("#" * (MAX_BYTES + 1), "larger than"),
    ],
)  # fmt: skip
def test_what_is_refused(tmp_path, text, message):
    with pytest.raises(ConfigError, match=message) as error:
        read(tmp_path, text)
    assert "\n" not in str(error.value)


def test_a_file_that_is_missing(tmp_path):
    with pytest.raises(ConfigError, match=r"none\.yaml: cannot read this configuration file"):
        read_yaml(tmp_path / "none.yaml")
