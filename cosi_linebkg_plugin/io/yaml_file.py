"""YAML files from outside: safe, without surprises, with errors on one line."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from ..errors import ConfigError
from .guard import is_plain

#: Configurations are a few kB; whatever is larger is another file given by mistake.
MAX_BYTES = 1_000_000


def spelled(value: Any, depth: int = 2) -> str:
    """A value on one line, short, as YAML spells it."""
    if value is None or isinstance(value, bool):
        return "nothing" if value is None else str(value).lower()
    if isinstance(value, float):
        return repr(value).removesuffix(".0")
    if isinstance(value, Mapping):
        return "a mapping"
    if isinstance(value, list | tuple):
        items = [spelled(item, depth - 1) for item in value[:6]] if depth else []
        return f"[{', '.join(items + ['...'] * (len(items) < len(value)))}]"
    if isinstance(value, int) and abs(value) > 10**300:  # Python prints none above 10**4300
        return "a huge number"
    text = repr(value)
    return text if len(text) <= 200 else f"{text[:197]}..."


class _Loader(yaml.SafeLoader):
    """Safe YAML without anchors, aliases, tags and repeated keys, and with decimal numbers.

    YAML 1.1 reads ``01612`` as octal, ``18:05`` to base 60 and others as dates, in silence.
    """

    yaml_implicit_resolvers: dict[str, Any] = {}

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        peek: Any = self.peek_event  # it has no types
        event = peek()
        if getattr(event, "anchor", None) is not None or getattr(event, "tag", None) is not None:
            problem = "anchors, aliases and tags are not allowed; write the value itself"
            raise yaml.MarkedYAMLError(problem=problem, problem_mark=event.start_mark)
        node = super().compose_node(parent, index)
        if isinstance(node, yaml.MappingNode):
            lines: dict[str, int] = {}
            for key in (key for key, _ in node.value if isinstance(key, yaml.ScalarNode)):
                if key.value in lines:
                    problem = f"key {spelled(key.value)} is there since line {lines[key.value]}"
                    raise yaml.MarkedYAMLError(problem=problem, problem_mark=key.start_mark)
                lines[key.value] = key.start_mark.line + 1
        return node


for _tag, _pattern in {
    "null": r"~|null|Null|NULL|",
    "bool": r"(?i:yes|no|true|false|on|off)",
    "float": r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(?i:inf)|\.(?i:nan)",
}.items():
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(rf"({_pattern})\Z"), None)


def read_yaml(path: str | Path) -> tuple[str, Any]:
    """The name of a YAML file for messages, and what it holds; see `load_config`."""
    name = str(path) if str(path).isprintable() else repr(str(path))
    try:
        if not (is_plain(Path(path)) or os.path.isdir(path)) and os.path.exists(path):
            raise ValueError("it is no plain file")  # a pipe would wait for ever
        with open(path, "rb") as file:
            raw = file.read(MAX_BYTES + 1)
        if len(raw) > MAX_BYTES:
            raise ConfigError(f"{name}: larger than {MAX_BYTES} bytes; is this a configuration?")
        mapping = yaml.load(raw.decode("utf-8-sig"), _Loader)
    except yaml.reader.ReaderError as error:
        where = f"{error.reason} at character {error.position}"
        raise ConfigError(f"{name}: not plain text: {where}.") from error
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise ConfigError(f"{name}: line {line} is not valid YAML: {error.problem}.") from error
    except RecursionError:
        raise ConfigError(f"{name}: nested too deeply for a configuration.") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ConfigError(f"{name}: cannot read this configuration file: {reason}.") from error
    return name, mapping
