"""The command line: arguments, progress, exit codes. Heavy imports wait until they are needed."""

from __future__ import annotations

import argparse
import logging
import os
import re
import signal
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .. import __version__
from ..errors import BinningError, ConfigError, FitError, LineBackgroundError
from ..io.atomic import NO_ROOM
from ..io.guard import brief

_NUMBER = r"(\d+\.?\d*|\.\d+)"

_ENERGY_RANGE = re.compile(rf"\s*{_NUMBER}\s*([a-zA-Z]*)\s*-\s*{_NUMBER}\s*([a-zA-Z]*)\s*")

_KEV = {"eV": 1e-3, "keV": 1.0, "MeV": 1e3, "GeV": 1e6}

EXIT_OK, EXIT_FAILED, EXIT_BAD_INPUT = 0, 1, 2

#: Options of `bin` of which only one can be given.
_RIVALS = (("phi_edges", "phi_pix_size"), ("time_edges", "time_bins", "scatt_bins"))

_LOG = logging.getLogger(__package__)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; the return value is the exit code."""
    options = _parser().parse_args(arguments)
    got = [signal.SIGINT]
    try:
        with _signals_interrupt(got), _progress(options.quiet, options.verbose) as progress:
            lines = options.command(options, progress)
    except KeyboardInterrupt as interrupt:
        notes = getattr(interrupt, "__notes__", ())
        text = [f"interrupted ({got[-1].name})", *notes, "every file that is there is whole"]
        return _fail("; ".join(text), 128 + got[-1])
    except FitError as error:
        return _fail(error, EXIT_FAILED)
    except LineBackgroundError as error:
        return _fail(error, EXIT_BAD_INPUT)
    except MemoryError as error:
        return _fail(f"out of memory ({error}); use fewer bins or a larger machine", EXIT_FAILED)
    except OSError as error:
        cure = "make room for caches (NUMBA_CACHE_DIR) and temporary files (TMPDIR)"
        return _fail(f"{error}; {cure}" if error.errno in NO_ROOM else error, EXIT_BAD_INPUT)
    return EXIT_OK if options.quiet else _print(lines)


@contextmanager
def _signals_interrupt(got: list[signal.Signals]) -> Iterator[None]:
    """Let SIGTERM and SIGHUP do what Ctrl-C does, unless they are ignored or handled already."""

    def interrupt(number: int, frame: Any) -> None:
        got.append(signal.Signals(number))
        raise KeyboardInterrupt

    mine = [
        number
        for number in (signal.SIGTERM, signal.SIGHUP)
        if threading.current_thread() is threading.main_thread()
        and signal.getsignal(number) == signal.SIG_DFL
    ]
    for number in mine:
        signal.signal(number, interrupt)
    try:
        yield
    finally:
        for number in mine:
            signal.signal(number, signal.SIG_DFL)


def _print(lines: Sequence[str]) -> int:
    """Print what came of it; who reads it may have seen enough, or have no room for it."""
    try:
        for line in lines:  # files may hold what moves a terminal's cursor
            print("".join(c if c.isprintable() or c == "\n" else "?" for c in line))
        sys.stdout.flush()
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for the flush at exit
        if not isinstance(error, BrokenPipeError):
            return _fail(f"Cannot print: {error.strerror}; all files are written.", EXIT_FAILED)
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
        command.add_argument("--region", metavar="NAME", help="one of the regions of CONFIG.yaml")
        command.set_defaults(command=function)
    template.add_argument(
        "--fit", type=Path, required=True, metavar="fit.json", help="written by run or fit"
    )
    compare = commands.add_parser(
        "compare", help="templates against the observed counts of the source range"
    )
    compare.add_argument("template", type=Path, metavar="TEMPLATE.h5", help="written by run")
    compare.add_argument(
        "observed", type=Path, metavar="OBSERVED.hdf5", help="counts of the source range, or events"
    )
    compare.add_argument("more", type=Path, nargs="*", metavar="TEMPLATE.h5", help="further ones")
    compare.add_argument("--out", type=Path, metavar="DIR", help="folder for tables and figures")
    compare.add_argument("--nside", type=int, default=4, help="of PsiChi (default: 4)")
    compare.set_defaults(command=_compare)
    lines = commands.add_parser("lines", help="the catalogue of instrumental lines")
    lines.add_argument(
        "range", nargs="*", metavar="RANGE", help="1500-2000 (keV), or 1.5-2.0 MeV; default: all"
    )
    lines.add_argument(
        "--match", type=Path, metavar="fit.json", help="compare with the lines of this fit"
    )
    lines.set_defaults(command=_lines)
    binning = commands.add_parser("bin", help="event lists to a histogram")
    _add_binning(binning)
    binning.set_defaults(command=_bin)
    for command in (demo, run, fit, template, compare, lines, binning):
        much = command.add_mutually_exclusive_group()
        much.add_argument("--quiet", action="store_true", help="print nothing but errors")
        much.add_argument("--verbose", action="store_true", help="print each step with its time")
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
    from ..events.cosipy_yaml import is_cosipy_config, read_cosipy_config

    configs = [path for path in options.events if path.suffix in (".yaml", ".yml")]
    paths = [path for path in options.events if path not in configs]
    if len(configs) > 1:
        raise LineBackgroundError(f"Give one YAML file, got {', '.join(map(str, configs))}.")
    asked: dict[str, Any] = {"scheduler": None, "workers": None}
    notes: tuple[str, ...] = ()
    if configs:
        from ..io.yaml_file import read_yaml
        from .config import load_regions

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
            config = next(iter(load_regions(configs[0]).values()))  # regions share the events
            if config.binning is None:
                raise LineBackgroundError(f"{name}: it has no section binning; add it, or options.")
            section = config.binning
            asked |= {key: getattr(section, key) for key in type(section).model_fields}
            paths = paths or list(config.events)
    for rivals in _RIVALS:
        rival = [f"--{r.replace('_', '-')}" for r in rivals if getattr(options, r) is not None]
        if len(rival) > 1:
            raise LineBackgroundError(f"Give only one of {' and '.join(rival)}.")
    by_hand = False
    for key in (*(row[0] for row in _BINNING), "scheduler", "workers"):
        if getattr(options, key) is not None:
            by_hand = True
            for rivals in _RIVALS:  # an option takes the place of its alternatives in the file
                if key in rivals:
                    asked |= dict.fromkeys((r for r in rivals if r in asked), None)
            asked[key] = _listed(key, getattr(options, key))
    missing = [
        f"--{key.replace('_', '-')}" for key in ("energy_edges", "nside") if key not in asked
    ]
    if missing:
        raise LineBackgroundError(f"{missing[0]} is required, or a YAML file that says it.")
    progress("loading libraries")
    from ..events.binning import bin_event_files
    from ..events.files import find_event_files
    from ..events.options import BinningOptions
    from ..io.atomic import check_output

    parallel = {key: asked.pop(key) for key in ("scheduler", "workers")}
    try:
        checked = BinningOptions(**asked)
    except LineBackgroundError as error:
        if by_hand or not configs:
            raise
        raise ConfigError(f"{name}: {error}") from error
    given = (*configs, checked.orientation, checked.good_times)
    check_output(
        options.out, [*find_event_files(paths), *(p for p in given if isinstance(p, Path))]
    )
    progress("reading events")
    told: Any = progress if hasattr(progress, "count") else None
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
    from .config import load_config, load_regions

    configs = load_regions(options.config)
    several = "" not in configs and options.region is None
    if not several:
        configs = {"": load_config(options.config, options.region)}
    progress("loading libraries")
    from .pipeline import run, run_regions

    title = options.config.stem
    if not several:
        config = configs[""]
        title = f"{title}: {options.region}" if options.region else title
        outcome = run(config, options.out, progress=progress, title=title)
        notes = () if outcome.template else outcome.events.notes  # a template repeats them
        lines = _summary(outcome.fit, outcome.template, outcome.files, notes)
        return [*_binned(config, outcome.events), *lines]
    outcomes = run_regions(configs, options.out, progress=progress, title=title)
    config, first = next(iter(configs.values())), next(iter(outcomes.values()))
    repeated = any(outcome.template for outcome in outcomes.values())  # its notes have them
    said = [] if repeated else [f"note: {note}" for note in first.events.notes]
    return [*_binned(config, first.events), *said, *_regions_table(outcomes, options.out)]


def _regions_table(outcomes: Mapping[str, Any], out: Path) -> list[str]:
    """Regions side by side, and what each says of its fit."""
    from ..show.report import region_rows

    rows = region_rows({name: (o.fit, o.template) for name, o in outcomes.items()})
    lines = _table(list(rows[0]), [list(row.values()) for row in rows])
    for name, outcome in outcomes.items():
        lines += ["", f"{name}: {outcome.fit.summary()}"]
        notes = outcome.template.notes if outcome.template else ()
        lines += [f"note: {note}" for note in notes]
    return [*lines, "", f"written to {out}: report.html, " + ", ".join(f"{n}/" for n in outcomes)]


def _fit(options: argparse.Namespace, progress: Callable[[str], None]) -> list[str]:
    from .config import load_config

    config = load_config(options.config, options.region)
    progress("loading libraries")
    from ..io.atomic import output_folder, together
    from ..show.figure import save_figure
    from ..show.spectrum import plot_spectrum
    from . import pipeline

    pipeline.check_outputs(options.out, config)
    with output_folder(options.out, pipeline.RESULTS) as folder:
        plugin = pipeline.prepare(config, progress).plugin
        with pipeline.keeping_fit(folder) as kept:
            fit = pipeline.fit_config(config, plugin, progress)
            kept.append(fit)
            figure = plot_spectrum(fit, source_range=config.source_range, names=True)
            files = [folder / "fit.json", folder / "spectrum.png"]
            with together(folder, stale=pipeline.RESULTS):
                fit.to_json(files[0], source_range=config.source_range)
                save_figure(figure, files[1])
    return [*_binned(config, plugin.events), *_summary(fit, None, files, plugin.events.notes)]


def _template(options: argparse.Namespace, progress: Callable[[str], None]) -> list[str]:
    from ..fit.result import LineBackgroundFit
    from .config import load_config

    config = load_config(options.config, options.region)
    fit = LineBackgroundFit.from_json(options.fit)
    progress("loading libraries")
    from ..io.atomic import output_folder, together
    from . import pipeline

    pipeline.check_outputs(options.out, config)
    with output_folder(options.out, pipeline.RESULTS) as folder:
        prepared = pipeline.prepare(config, progress)
        plugin = prepared.plugin
        pipeline.require_fit_of(config, plugin, fit)
        if prepared.plan is None:
            pipeline.template_options(config)  # says what is missing
        progress("making the template")
        template = pipeline.template_config(prepared.plan, fit, progress)
        with together(folder, stale=set(pipeline.RESULTS) - set(pipeline.FIT_FIGURES)):
            files = pipeline.write_results(folder, template.fit, template)
    return [*_binned(config, plugin.events), *_summary(template.fit, template, files)]


def _compare(options: argparse.Namespace, progress: Callable[[str], None]) -> list[str]:
    progress("loading libraries")
    from .pipeline import compare_files

    paths = [options.template, *options.more]
    rows, files = compare_files(paths, options.observed, options.out, nside=options.nside)
    lines = _comparison_table(rows)
    if files:
        lines += ["", f"written to {options.out}: " + ", ".join(f.name for f in files)]
    return lines


def _comparison_table(rows: Sequence[Any]) -> list[str]:
    """The table as text, as wide as the terminal."""
    import io

    from rich.console import Console
    from rich.table import Table

    axes = list(dict.fromkeys(axis for row in rows for axis in row.projections))
    table = Table(box=None, pad_edge=False)
    table.add_column("template")
    for heading in ("counts", "observed", "difference", *(f"{a} chi2/dof, p" for a in axes)):
        table.add_column(heading, justify="right")
    for row in rows:
        cells = [
            row.name,
            f"{row.counts:.0f} ± {row.error:.0f}",
            f"{row.observed:.0f}",
            f"{row.difference_percent:+.1f} ± {row.difference_error_percent:.1f} %",
        ]
        for axis in axes:
            p = row.projections.get(axis)
            cells.append("" if p is None else f"{p.chi2:.0f}/{p.dof}, {p.p_value:.2g}")
        table.add_row(*cells)
    text = io.StringIO()
    console = Console(
        file=text, width=None if sys.stdout.isatty() else 120, markup=False, highlight=False
    )
    console.print(table)
    lines = [line.rstrip() for line in text.getvalue().splitlines()]
    for row in rows:
        if row.unknown:
            lines.append(
                f"note: {row.name}: the amount of {', '.join(row.unknown)} is not known; the error "
                "is without it"
            )
        for axis, p in row.projections.items():
            largest = "; ".join(f"{name}: {chi:+.1f}" for name, chi in p.largest())
            lines.append(f"{row.name}, largest deviations in {axis} [sigma]: {largest}")
    return lines


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


def _lines(options: argparse.Namespace, progress: Callable[[str], None]) -> list[str]:
    from ..lines.catalogue import instrumental_lines
    from ..lines.identify import identify_lines

    energy_range = _energy_range(" ".join(options.range)) if options.range else None
    if options.match is None:
        return _catalogue_table(instrumental_lines(energy_range))
    from ..fit.result import LineBackgroundFit

    found = identify_lines(LineBackgroundFit.from_json(options.match))
    if energy_range is not None:
        found = tuple(x for x in found if energy_range[0] <= x.energy <= energy_range[1])
    return _match_table(found)


def _energy_range(text: str) -> tuple[float, float]:
    """Two energies in keV from "1500-2000", "1.5-2.0 MeV", "1500 keV - 2 MeV"."""
    parts = _ENERGY_RANGE.fullmatch(text)
    units = [parts[2] or parts[4] or "keV", parts[4] or "keV"] if parts else []
    unknown = [unit for unit in units if unit not in _KEV]
    if parts is None or unknown:
        what = f"the unit {unknown[0]!r} is not known" if unknown else "this is no energy range"
        raise BinningError(
            f"got {text!r}: {what}; give 1500-2000 (keV), or 1.5-2.0 MeV; known units are "
            f"{', '.join(_KEV)}."
        )
    low, high = float(parts[1]) * _KEV[units[0]], float(parts[3]) * _KEV[units[1]]
    if not low < high:
        raise BinningError(f"got {text!r}: the first energy must be below the second.")
    return low, high


def _catalogue_table(rows: Sequence[Any]) -> list[str]:
    if not rows:
        return ["The catalogue has no line there."]
    cells = [
        (
            f"{r.energy:.3f}",
            "" if r.uncertainty is None else f"{r.uncertainty:.3g}",
            r.isotope,
            r.half_life,
            r.process,
            " ".join(r.flags),
            r.source,
        )
        for r in rows
    ]
    heads = ("energy [keV]", "error", "isotope", "half-life", "process", "flags", "source")
    return [*_table(heads, cells), f"{len(rows)} line{'s' * (len(rows) > 1)}"]


def _match_table(found: Sequence[Any]) -> list[str]:
    """Fitted lines against the rows of the catalogue near them."""
    from ..lines.identify import MATCH_SIGMAS, SCALE_ERROR

    if not found:
        return ["The fit has no line there."]
    cells = []
    for x in found:
        energy = (f"{x.energy:.2f}", "none" if x.error is None else f"{x.error:.2f}")
        near = x.matches[:3]
        if x.match is None:
            cells.append((*energy, "no counterpart", "", "", "", ""))
        for k, m in enumerate(near):
            first = energy if k == 0 and x.match is not None else ("", "")
            name = m.line.isotope if m.agrees else f"({m.line.isotope})"
            cells.append(
                (*first, name, f"{m.line.energy:.3f}", f"{m.difference:+.2f}", f"{m.sigmas:+.1f}",
                 " ".join(m.line.flags))
            )  # fmt: skip
    alone = [f"{x.energy:.2f}" for x in found if x.match is None]
    heads = ("fitted [keV]", "error", "isotope", "catalogue [keV]", "difference", "sigmas", "flags")
    return [
        *_table(heads, cells),
        f"{len(found) - len(alone)} of {len(found)} fitted lines have a counterpart within "
        f"{MATCH_SIGMAS:g} standard deviations (with {SCALE_ERROR:g} keV for the energy scale); "
        "isotopes in brackets do not agree.",
        *([f"without: {', '.join(alone)} keV"] if alone else []),
    ]


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """A table as lines of text, as wide as the terminal, or as it needs where there is none."""
    import io

    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table(*heads, box=box.SIMPLE_HEAD, pad_edge=False)
    for column in table.columns[:2]:
        column.justify, column.no_wrap = "right", True
    for row in rows:
        table.add_row(*row)
    text = io.StringIO()
    console = Console(
        file=text, width=None if sys.stdout.isatty() else 500, markup=False, highlight=False
    )
    console.print(table)
    return [line.rstrip() for line in text.getvalue().splitlines() if line.strip()]


def _summary(
    fit: Any, template: Any, files: Sequence[Path], notes: Sequence[str] = ()
) -> list[str]:
    lines = [*(f"note: {note}" for note in notes), str(fit)]
    if fit.line_search is not None:
        from ..lines.search import search_table

        lines += ["", "line search:", search_table(fit.line_search), ""]
    if template is not None:
        lines.append(repr(template))
        lines += [f"note: {note}" for note in template.notes]
    folder = files[0].parent
    lines += ["", f"written to {folder}: " + ", ".join(f.name for f in files)]
    return lines


def _fail(error: Any, code: int) -> int:
    text = brief(" ".join(str(error).split()), 2000)
    print(f"cosi-linebkg: {text}", file=sys.stderr)
    return code


@contextmanager
def _progress(quiet: bool, verbose: bool) -> Iterator[Callable[[str], None]]:
    """Tell on a terminal what is being done; elsewhere nothing, or line by line if verbose.

    Each step goes to the package's logger as well, which has no handler unless verbose.
    """
    _silence()
    if verbose:
        with _log_on_stderr():
            yield _LOG.info
        return
    if quiet or not sys.stderr.isatty():
        yield _LOG.info
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as bar:
        yield _Teller(bar)


@contextmanager
def _log_on_stderr() -> Iterator[None]:
    """Steps of this package as lines with their time, while a command runs."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", datefmt="%H:%M:%S"))
    level = _LOG.level
    _LOG.addHandler(handler)
    _LOG.setLevel(logging.INFO)
    try:
        yield
    finally:
        _LOG.removeHandler(handler)
        _LOG.setLevel(level)


class _Teller:
    """Says on a terminal what is being done, and how far the events are."""

    def __init__(self, bar: Any):
        self._bar, self._task = bar, bar.add_task("starting", rate="")
        self("starting")

    def __call__(self, text: str) -> None:
        _LOG.info(text)
        from rich.progress import SpinnerColumn, TextColumn, TimeElapsedColumn

        self._bar.columns = (
            SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn(),
        )  # fmt: skip
        self._bar.update(self._task, description=text)
        self._began = time.monotonic()

    def count(self, done: int, total: int, what: str = "") -> None:
        """How much is done, and of how much; of events also how many a second."""
        if what == "events":
            per_second = done / max(time.monotonic() - self._began, 1e-3)
            what = f"events, {per_second:,.0f} events/s"
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn

        if len(self._bar.columns) == 3:
            spinner, text, elapsed = self._bar.columns
            rate = TextColumn("{task.fields[rate]}")
            self._bar.columns = (spinner, text, BarColumn(), MofNCompleteColumn(), rate, elapsed)
        self._bar.update(self._task, completed=done, total=total, rate=what)


def _silence() -> None:
    """Keep the chatter of imported libraries out of our commands."""
    warnings.simplefilter("ignore")  # what a user must know is printed as notes
    for name in ("threeML", "astromodels"):
        logging.getLogger(name).setLevel(logging.ERROR)


if __name__ == "__main__":
    sys.exit(main())
