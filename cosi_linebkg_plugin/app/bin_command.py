"""``cosi-linebkg bin``: its arguments, those of a YAML file, and the work."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from ..errors import LineBackgroundError, naming
from ..events.options import BinningJob
from ..io.progress import Progress
from ..options import Option, options_of

#: Type and number of values of each kind of option on the command line; see `options.KINDS`.
_ARGUMENTS: dict[str, dict[str, Any]] = {
    "choice": {"type": str},
    "cone": {"type": float, "nargs": 3, "metavar": ("L", "B", "RADIUS")},
    "count": {"type": int},
    "duration": {"type": float},
    "edges": {"type": str},
    "file": {"type": Path},
    "intervals": {"type": Path},
    "number": {"type": float},
    "range": {"type": float, "nargs": 2, "metavar": ("LOW", "HIGH")},
    "scheduler": {"type": str},
    "spaced": {"type": str},
    "text": {"type": str},
    "width": {"type": float},
}

#: Options of which only one can be given.
_RIVALS = (("phi_edges", "phi_pix_size"), ("time_edges", "time_bins", "scatt_bins"))


def add_arguments(parser: argparse.ArgumentParser, declared: type = BinningJob) -> None:
    """The arguments of the command, those of its options as they are declared."""
    parser.add_argument(
        "events",
        nargs="+",
        type=Path,
        help="event lists, patterns, folders; and a YAML file of cosipy's, or CONFIG.yaml",
    )
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="histogram, HDF5")
    for option in _on_command_line(declared):
        argument = {"metavar": option.name.split("_")[-1].upper()} | _ARGUMENTS[option.kind]
        parser.add_argument(option.flag, help=_help(option), **argument)


def _on_command_line(declared: type = BinningJob) -> list[Option]:
    return [option for option in options_of(declared).values() if option.kind in _ARGUMENTS]


def _help(option: Option) -> str:
    words = [option.line.removesuffix(".")]
    if option.kind == "choice":
        words.append(f"one of {', '.join(option.choices)}")
    if option.kind in ("edges", "spaced"):
        words.append("as 100,200,500")
    if not option.required and option.default is not None:
        words.append(f"default: {option.default}")
    return "; ".join(words).replace("%", "%%")


def run_bin(options: argparse.Namespace, progress: Progress) -> list[str]:
    """Bin event lists; what became of them, as lines to print."""
    configs = [path for path in options.events if path.suffix in (".yaml", ".yml")]
    paths = [path for path in options.events if path not in configs]
    if len(configs) > 1:
        raise LineBackgroundError(f"Give one YAML file, got {', '.join(map(str, configs))}.")
    asked: dict[str, Any] = {}
    by_hand = _by_hand(options)
    notes: tuple[str, ...] = ()
    if configs:
        asked, found, notes = _from_file(configs[0], bool(paths))
        paths = paths or found
    for rivals in _RIVALS:  # an option takes the place of its alternatives in the file
        if any(name in by_hand for name in rivals):
            asked = {name: value for name, value in asked.items() if name not in rivals}
    asked |= by_hand
    for option in _on_command_line():
        if option.required and option.name not in asked:
            raise LineBackgroundError(f"{option.flag} is required, or a YAML file that says it.")
    if configs and not by_hand:
        with naming(str(configs[0])):
            job = BinningJob(**asked)
    else:
        job = BinningJob(**asked)
    return [*_bin(paths, job, options.out, configs, notes, progress), f"written: {options.out}"]


def _by_hand(options: argparse.Namespace) -> dict[str, Any]:
    """The options that were given on the command line."""
    given = {
        option.name: _edges(option, getattr(options, option.name))
        for option in _on_command_line()
        if getattr(options, option.name) is not None
    }
    known = options_of(BinningJob)
    for rivals in _RIVALS:
        flags = [known[name].flag for name in rivals if name in given]
        if len(flags) > 1:
            raise LineBackgroundError(f"Give only one of {' and '.join(flags)}.")
    return given


def _edges(option: Option, value: Any) -> Any:
    """Edges as a list of numbers; "low:high:width" stays."""
    if option.kind not in ("edges", "spaced") or ":" in value:
        return value
    try:
        return [float(item) for item in value.split(",")]
    except ValueError as error:
        raise LineBackgroundError(
            f"{option.flag} are numbers as 100,200,500; got {value!r}."
        ) from error


def _from_file(path: Path, has_events: bool) -> tuple[dict[str, Any], list[Path], tuple[str, ...]]:
    """Options, event lists and notes of a YAML file: cosipy's, or a configuration of ours."""
    from ..events.cosipy_yaml import is_cosipy_config, read_cosipy_config
    from ..io.yaml_file import read_yaml

    name, mapping = read_yaml(path)
    if is_cosipy_config(mapping):
        data_file, asked, notes = read_cosipy_config(path)
        if not has_events and data_file is None:
            raise LineBackgroundError(
                f"{name}: data_file is no event list; give the unbinned FITS or HDF5 file as well."
            )
        return dict(asked), [data_file] if data_file is not None else [], notes
    from .config import load_regions

    config = next(iter(load_regions(path).values()))  # regions share the events
    if config.binning is None:
        raise LineBackgroundError(f"{name}: it has no section binning; add it, or options.")
    return config.binning.values(), list(config.events), ()


def _bin(
    paths: list[Path],
    job: BinningJob,
    out: Path,
    configs: list[Path],
    notes: tuple[str, ...],
    progress: Progress,
) -> list[str]:
    progress.say("loading libraries")
    from ..events.binning import bin_event_files
    from ..events.files import find_event_files
    from ..io.atomic import check_output

    given = [path for path in (job.orientation, job.good_times) if isinstance(path, Path)]
    check_output(out, [*find_event_files(paths), *configs, *given])
    progress.say("reading events")
    binned = bin_event_files(
        paths,
        job,
        scheduler=job.scheduler,
        workers=job.workers,
        progress=progress,
    )
    progress.say("writing the histogram")
    binned.write(out)
    lines = [str(binned.report)]
    if binned.livetime is not None:
        lines.append(f"livetime {binned.livetime.seconds:.6g} s")
    return [*lines, *(f"note: {note}" for note in (*binned.report.notes, *notes)), ""]
