"""cosipy's own YAML configuration, as options for binning."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from ..errors import ConfigError
from ..io.guard import brief, is_plain, shown
from ..io.yaml_file import read_yaml

#: Keys of cosipy's DataIO that say how to bin; the others are data_file, ori_file (below) and
#: unbinned_output, which the files themselves tell.
REQUIRED = ("time_bins", "energy_bins", "phi_pix_size", "nside", "scheme", "tmin", "tmax")


class CosipyConfig(NamedTuple):
    """What cosipy's configuration says.

    Attributes
    ----------
    data_file : Path or None
        None if it is no event list: cosipy's key names the .tra file that it comes from.
    options : dict
        Arguments of `bin_events`.
    notes : tuple of str
        What the configuration says and is not followed.
    """

    data_file: Path | None
    options: dict[str, Any]
    notes: tuple[str, ...]


def is_cosipy_config(mapping: Any) -> bool:
    """True of what a YAML file holds if it is cosipy's configuration for binning."""
    return isinstance(mapping, Mapping) and "energy_bins" in mapping


def read_cosipy_config(path: Path) -> CosipyConfig:
    """Read cosipy's YAML file; paths in it are relative to its folder.

    As in cosipy, tmin and tmax only make the time bins when these are given by a width, and an
    `ori_file` that does not exist does not stop binning; then there is no livetime.

    Raises
    ------
    ConfigError
        Names the file and the key.
    """
    name, mapping = read_yaml(path)
    if not is_cosipy_config(mapping):
        raise ConfigError(f"{name}: this is no configuration of cosipy: it lacks energy_bins.")
    missing = [key for key in REQUIRED if mapping.get(key) is None]
    if missing:
        raise ConfigError(f"{name}: {missing[0]}: this key is required to bin events.")
    options = {
        "energy_edges": mapping["energy_bins"],
        "phi_pix_size": mapping["phi_pix_size"],
        "nside": _whole(mapping["nside"]),
        "scheme": mapping["scheme"],
        "time_bins": mapping["time_bins"],
    }
    limits = {"tmin": mapping["tmin"], "tmax": mapping["tmax"]}
    edges = mapping["time_bins"]
    numbers = [
        (key, value)
        for key in ("energy_bins", "phi_pix_size", "nside", "time_bins", "tmin", "tmax")
        for value in (mapping[key] if isinstance(mapping[key], list) else [mapping[key]])
    ]
    for key, value in numbers:
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ConfigError(f"{name}: {key}: got {shown(value)}; a number is needed.")
    if not isinstance(edges, list):
        options |= limits
    elif edges and (edges[0] > limits["tmin"] or edges[-1] < limits["tmax"]):
        raise ConfigError(f"{name}: time_bins: these edges do not cover tmin to tmax.")
    notes = []
    given = mapping.get("ori_file")
    if given is not None and is_plain(path.parent / str(given)):
        options["orientation"] = path.parent / str(given)
    elif given is not None:
        notes.append(
            f"ori_file {brief(given)} does not exist, so that the histogram has no livetime"
        )
    return CosipyConfig(_data_file(mapping, path.parent), options, tuple(notes))


def _data_file(mapping: Mapping[str, Any], folder: Path) -> Path | None:
    given = mapping.get("data_file")
    if given is None or ".tra" in Path(str(given)).suffixes:
        return None
    return folder / str(given)


def _whole(value: Any) -> Any:
    """A float that is a whole number as one: YAML here reads every number as a float."""
    return int(value) if isinstance(value, float) and value.is_integer() else value
