"""docs/reference.md names everything public, by names that exist; CI renders it."""

import inspect
import re
from importlib import import_module
from pathlib import Path

import pytest

import cosi_linebkg_plugin

PAGE = (Path(__file__).resolve().parents[1] / "docs" / "reference.md").read_text(encoding="utf-8")

#: (kind, module or name, the names that :members: lists; "" is all of them)
DIRECTIVES = re.findall(
    r"^\.\. auto(class|function|module):: (\S+)(?:\n   :members:(.*))?", PAGE, flags=re.MULTILINE
)


def test_every_public_name_has_an_entry():
    entries = {name for kind, name, _ in DIRECTIVES if kind != "module"}
    assert entries == set(cosi_linebkg_plugin.__all__)


def members(module, listed):
    """The functions and classes that a module's entry shows."""
    if listed.strip():
        return {name.strip(): getattr(module, name.strip()) for name in listed.split(",")}
    return {
        name: found
        for name, found in vars(module).items()
        if not name.startswith("_")
        and (inspect.isfunction(found) or inspect.isclass(found))
        and found.__module__ == module.__name__
    }


@pytest.mark.parametrize(
    ("name", "listed"), [(name, listed) for kind, name, listed in DIRECTIVES if kind == "module"]
)
def test_entries_of_modules_exist_and_say_what_they_are(name, listed):
    module = import_module(name)
    found = members(module, listed)
    assert module.__doc__ and found
    for member, thing in found.items():
        assert inspect.getdoc(thing), f"{name}.{member} has no docstring"
