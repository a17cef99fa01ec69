"""The command line: arguments, progress, exit codes. Heavy imports wait until they are needed."""

from __future__ import annotations

import argparse
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from . import __version__
from .errors import FitError, LineBackgroundError

EXIT_OK, EXIT_FAILED, EXIT_BAD_INPUT = 0, 1, 2


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; the return value is the exit code."""
    options = _parser().parse_args(arguments)
    try:
        with _progress(options.quiet) as progress:
            lines = options.command(options, progress)
    except FitError as error:
        return _fail(error, EXIT_FAILED)
    except LineBackgroundError as error:
        return _fail(error, EXIT_BAD_INPUT)
    except KeyboardInterrupt:
        return _fail("interrupted; files written so far are whole", EXIT_FAILED)
    if not options.quiet:
        for line in lines:
            print(line)
    return EXIT_OK


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="cosi-linebkg",
        description="Background of gamma-ray lines with COSI: fit the spectrum around a line, "
        "carry the distribution of adjacent energies into the line's range.",
    )
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    demo = commands.add_parser("demo", help="run the whole job on a data set that it simulates")
    demo.add_argument("--out", type=Path, default=Path("demo"), help="folder (default: demo)")
    demo.add_argument("--seed", type=int, default=1, help="of the simulation (default: 1)")
    demo.set_defaults(command=_demo)

    run = commands.add_parser("run", help="fit, template, figures and report from a configuration")
    fit = commands.add_parser("fit", help="the fit alone: fit.json and the spectrum's figure")
    template = commands.add_parser("template", help="the template alone, from a saved fit")
    for command, function in ((run, _run), (fit, _fit), (template, _template)):
        command.add_argument("config", type=Path, metavar="CONFIG.yaml")
        command.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder")
        command.set_defaults(command=function)
    template.add_argument(
        "--fit", type=Path, required=True, metavar="fit.json", help="written by run or fit"
    )
    binning = commands.add_parser("bin", help="event lists to a histogram")
    _add_binning(binning)
    binning.set_defaults(command=_bin)
    for command in (demo, run, fit, template, binning):
        command.add_argument("--quiet", action="store_true", help="print nothing but errors")
    return parser


#: Options of `bin` that are those of `bin_events`: (name, type, number of values, help).
_BINNING: tuple[tuple[str, Any, int | str | None, str], ...] = (
    ("energy_edges", str, None, "keV: LOW:HIGH:WIDTH, or edges as 100,200,500"),
    ("nside", int, None, "of the PsiChi axis, a power of 2"),
    ("phi_pix_size", float, None, "width of a Phi bin, deg"),
    ("phi_edges", str, None, "or edges, deg, as 0,10,30"),
    ("scheme", str, None, "ring (default) or nested"),
    ("frame", str, None, "galactic (default) or spacecraftframe"),
    ("time_bins", float, None, "width of a time bin between tmin and tmax, s"),
    ("time_edges", str, None, "or edges, s, Unix time, as 1,2,3"),
    ("tmin", float, None, "first time, s, Unix time"),
    ("tmax", float, None, "end of the time, s, Unix time; itself outside"),
    ("scatt_bins", int, None, "number of ScAtt bins, instead of a Time axis"),
    ("scatt_column", str, None, "column of the events' ScAtt bins (default: ScAtt)"),
    ("energy_range", float, 2, "take energies in [LOW, HIGH), keV"),
    ("phi_range", float, 2, "take Phi in [LOW, HIGH), deg"),
    ("distance_range", float, 2, "take distances in [LOW, HIGH), cm"),
    ("good_times", Path, None, "take times in these intervals: a file of starts and stops, s"),
    ("pointing", float, 3, "take times with the z axis within RADIUS of galactic L, B, deg"),
    ("orientation", Path, None, "orientation file (.ori) for the livetime"),
)
_VALUES = {2: ("LOW", "HIGH"), 3: ("L", "B", "RADIUS")}


def _add_binning(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "events",
        nargs="+",
        type=Path,
        help="event lists, patterns, folders; and a YAML file of cosipy's, or CONFIG.yaml",
    )
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="histogram, HDF5")
    for name, kind, n_values, text in _BINNING:
        metavar = _VALUES[n_values] if isinstance(n_values, int) else name.split("_")[-1].upper()
        parser.add_argument(
            f"--{name.replace('_', '-')}", type=kind, nargs=n_values, metavar=metavar, help=text
        )
    parser.add_argument("--scheduler", help="threads, processes, or a dask cluster's address")
    parser.add_argument("--workers", type=int, help="how many threads or processes")


def _bin(options: argparse.Namespace, progress: Callable[[str], None]) -> list[str]:
    from .event_config import is_cosipy_config, read_cosipy_config

    configs = [path for path in options.events if path.suffix in (".yaml", ".yml")]
    paths = [path for path in options.events if path not in configs]
    if len(configs) > 1:
        raise LineBackgroundError(f"Give one YAML file, got {', '.join(map(str, configs))}.")
    asked: dict[str, Any] = {"scheduler": None, "workers": None}
    notes: tuple[str, ...] = ()
    if configs:
        from .config import load_config, read_yaml

        name, mapping = read_yaml(configs[0])
        if is_cosipy_config(mapping):
            data_file, from_file, notes = read_cosipy_config(configs[0])
            if not paths and data_file is None:
                raise LineBackgroundError(
                    f"{name}: data_file is no event list; give the unbinned FITS or HDF5 file "
                    "as well."
                )
            paths = paths or [data_file]
            asked |= from_file
        else:
            config = load_config(configs[0])
            if config.binning is None:
                raise LineBackgroundError(f"{name}: it has no section binning; add it, or options.")
            section = config.binning
            asked |= {key: getattr(section, key) for key in type(section).model_fields}
            paths = paths or list(config.events)
    for key in (*(row[0] for row in _BINNING), "scheduler", "workers"):
        if getattr(options, key) is not None:
            asked[key] = _listed(key, getattr(options, key))
    missing = [
        f"--{key.replace('_', '-')}" for key in ("energy_edges", "nside") if key not in asked
    ]
    if missing:
        raise LineBackgroundError(f"{missing[0]} is required, or a YAML file that says it.")
    progress("loading libraries")
    from .event_files import find_event_files
    from .events import BinningOptions, bin_event_files
    from .files import check_output

    parallel = {key: asked.pop(key) for key in ("scheduler", "workers")}
    checked = BinningOptions(**asked)
    given = (*configs, checked.orientation, checked.good_times)
    check_output(
        options.out, [*find_event_files(paths), *(p for p in given if isinstance(p, Path))]
    )
    progress("reading events")
    told = getattr(progress, "events", None)
    binned = bin_event_files(paths, checked, progress=told, **parallel)
    progress("writing the histogram")
    binned.write(options.out)
    lines = [str(binned.report)]
    if binned.livetime is not None:
        lines.append(f"livetime {binned.livetime.seconds:.6g} s")
    lines += [f"note: {note}" for note in (*binned.report.notes, *notes)]
    return [*lines, "", f"written: {options.out}"]


def _listed(key: str, value: Any) -> Any:
    """Edges as a list of numbers; "low:high:width" stays."""
    if not key.endswith("_edges") or ":" in value:
        return value
    try:
        return [float(item) for item in value.split(",")]
    except ValueError as error:
        option = f"--{key.replace('_', '-')}"
        raise LineBackgroundError(f"{option} are numbers as 100,200,500; got {value!r}.") from error


def _run(options: argparse.Namespace, progress: Callable[[str], None]) -> list[str]:
    from .config import load_config

    config = load_config(options.config)
    progress("loading libraries")
    from .pipeline import run

    outcome = run(config, options.out, progress=progress, title=options.config.stem)
    lines = _summary(outcome.fit, outcome.template, outcome.files)
    return [*_binned(config, outcome.events), *lines]


def _fit(options: argparse.Namespace, progress: Callable[[str], None]) -> list[str]:
    from .config import load_config

    config = load_config(options.config)
    progress("loading libraries")
    from . import pipeline
    from .plot import plot_spectrum, save_figure

    folder = pipeline.check_folder(options.out)
    pipeline.check_outputs(folder, config)
    plugin = pipeline.prepare(config, progress)
    progress(f"fitting the spectrum ({config.engine})")
    fit = pipeline.fit_config(config, plugin)
    pipeline.make_folder(folder)
    files = [folder / "fit.json", folder / "spectrum.png"]
    fit.to_json(files[0], source_range=config.source_range)
    save_figure(plot_spectrum(fit, source_range=config.source_range), files[1])
    notes = [f"note: {note}" for note in plugin.events.notes]
    return [*_binned(config, plugin.events), *notes, *_summary(fit, None, files)]


def _template(options: argparse.Namespace, progress: Callable[[str], None]) -> list[str]:
    from .config import load_config
    from .result import LineBackgroundFit

    config = load_config(options.config)
    fit = LineBackgroundFit.from_json(options.fit)
    progress("loading libraries")
    from . import pipeline

    folder = pipeline.check_folder(options.out)
    pipeline.check_outputs(folder, config)
    plugin = pipeline.prepare(config, progress)
    progress("making the template")
    template = pipeline.template_config(config, plugin, fit)
    pipeline.make_folder(folder)
    lines = _summary(fit, template, pipeline.write_results(folder, fit, template))
    return [*_binned(config, plugin.events), *lines]


def _demo(options: argparse.Namespace, progress: Callable[[str], None]) -> list[str]:
    progress("loading libraries")
    from .demo import run_demo

    outcome, rows = run_demo(options.out, seed=options.seed, progress=progress)
    lines = _summary(outcome.fit, outcome.template, outcome.files)
    lines += ["", "compared with the simulated truth:"]
    lines += [
        f"  {row['template']:<14} {row['counts']:>9.0f} counts, truth {row['truth']:.0f} "
        f"({row['difference_percent']:+.1f} %)"
        for row in rows
    ]
    return lines


def _binned(config: Any, events: Any) -> list[str]:
    """What became of the events, where they were binned here."""
    return [events.description, ""] if config.binning is not None else []


def _summary(fit: Any, template: Any, files: Sequence[Path]) -> list[str]:
    lines = [str(fit)]
    if template is not None:
        lines.append(repr(template))
        lines += [f"note: {note}" for note in template.notes]
    folder = files[0].parent
    lines += ["", f"written to {folder}: " + ", ".join(f.name for f in files)]
    return lines


def _fail(error: Any, code: int) -> int:
    text = " ".join(str(error).split())
    print(f"cosi-linebkg: {text}", file=sys.stderr)
    return code


@contextmanager
def _progress(quiet: bool) -> Iterator[Callable[[str], None]]:
    """Tell on a terminal what is being done; elsewhere nothing."""
    _silence()
    if quiet or not sys.stderr.isatty():
        yield lambda text: None
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as bar:
        yield _Teller(bar)


class _Teller:
    """Says on a terminal what is being done, and how far the events are."""

    def __init__(self, bar: Any):
        self._bar, self._task = bar, bar.add_task("starting", rate="")
        self("starting")

    def __call__(self, text: str) -> None:
        from rich.progress import SpinnerColumn, TextColumn, TimeElapsedColumn

        self._bar.columns = (
            SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn(),
        )  # fmt: skip
        self._bar.update(self._task, description=text)
        self._began = time.monotonic()

    def events(self, done: int, total: int) -> None:
        """Events done, of how many, and how many a second."""
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn

        if len(self._bar.columns) == 3:
            spinner, text, elapsed = self._bar.columns
            rate = TextColumn("events, {task.fields[rate]} events/s")
            self._bar.columns = (spinner, text, BarColumn(), MofNCompleteColumn(), rate, elapsed)
        per_second = f"{done / max(time.monotonic() - self._began, 1e-3):,.0f}"
        self._bar.update(self._task, completed=done, total=total, rate=per_second)


def _silence() -> None:
    """Keep the chatter of imported libraries out of our commands."""
    import logging

    warnings.simplefilter("ignore")
    for name in ("threeML", "astromodels"):
        logging.getLogger(name).setLevel(logging.ERROR)


if __name__ == "__main__":
    sys.exit(main())
