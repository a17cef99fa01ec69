# PYTHON_ARGCOMPLETE_OK
"""The command line: arguments, exit codes. Heavy imports wait until they are needed."""

from __future__ import annotations

import argparse
import atexit
import gc
import os
import re
import signal
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import NO_ROOM, BinningError, ConfigError, FitError, LineBackgroundError, one_line
from ..io.guard import brief
from ..io.progress import Progress
from . import new_config
from .bin_command import add_arguments, run_bin
from .tables import (
    catalogue_table,
    comparison_table,
    demo_table,
    match_table,
    regions_table,
    summary,
)

if TYPE_CHECKING:
    from ..histograms.read import EventHistogram
    from .config import Config
    from .pipeline import Outcome

_NUMBER = r"(\d+\.?\d*|\.\d+)"

_ENERGY_RANGE = re.compile(rf"\s*{_NUMBER}\s*([a-zA-Z]*)\s*-\s*{_NUMBER}\s*([a-zA-Z]*)\s*")

#: What ``--version`` names.
VERSIONS = (
    "cosi-linebkg-plugin", "numpy", "scipy", "numba", "iminuit", "astropy", "histpy", "healpy",
    "astromodels", "threeML", "cosipy",
)  # fmt: skip

_KEV = {"eV": 1e-3, "keV": 1.0, "MeV": 1e3, "GeV": 1e6}

EXIT_OK, EXIT_FAILED, EXIT_BAD_INPUT = 0, 1, 2


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; the return value is the exit code."""
    parser = _parser()
    _complete(parser)
    options = parser.parse_args(arguments)
    from .terminal import telling

    got = [signal.SIGINT]
    try:
        with (
            _signals_interrupt(got),
            _settings_of_python(),
            telling(quiet=options.quiet, verbose=options.verbose) as progress,
        ):
            lines = options.command(options, progress)
    except KeyboardInterrupt as interrupt:
        notes = [
            note
            for note in getattr(interrupt, "__notes__", ())
            if not note.startswith("Error calling __set_name__")  # Python's own, amid an import
        ]
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


@contextmanager
def _settings_of_python() -> Iterator[None]:
    """Look for unused objects less often, and not at the end; let threads take turns sooner.

    What a command imports makes a million objects that stay; to look through them again and again
    takes a quarter of its time. Events are unpacked while code is loaded: that thread waits for
    its turn after each piece, 5 ms by default, longer than its work on one.
    """
    before, turn = gc.get_threshold(), sys.getswitchinterval()
    gc.set_threshold(500_000, 10, 10)
    sys.setswitchinterval(1e-4)
    atexit.unregister(gc.freeze)
    atexit.register(gc.freeze)
    try:
        yield
    finally:
        gc.freeze()  # and unfreeze: what is there counts as old, and is not looked through now
        gc.unfreeze()
        gc.set_threshold(*before)
        sys.setswitchinterval(turn)


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


def _complete(parser: argparse.ArgumentParser) -> None:
    """Answer a shell that asks for the completion of a line, and end; otherwise do nothing."""
    if "_ARGCOMPLETE" in os.environ:
        try:
            import argcomplete
        except ImportError:  # an extra
            return
        argcomplete.autocomplete(parser)


class _Version(argparse.Action):
    """Print the versions that a result depends on, which are looked up only then."""

    def __init__(self, option_strings: Sequence[str], dest: str) -> None:
        about = "print the versions that matter, and where the documentation is"
        super().__init__(option_strings, dest, nargs=0, help=about)

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> None:
        """Print and end."""
        print("\n".join(version_table()))
        parser.exit()


def documentation() -> Path | None:
    """The folder with README, docs and examples: as installed, or of a checkout."""
    package = Path(__file__).resolve().parents[1]
    # from a checkout, or where pip puts them: PREFIX/lib/.../site-packages, PREFIX/share/doc
    share = (folder / "share/doc/cosi-linebkg-plugin" for folder in package.parents)
    for folder in (package.parent, *share):
        if (folder / "docs" / "start.md").is_file():
            return folder
    return None


def version_table() -> list[str]:
    """Versions of this program, of Python and of the libraries that results depend on.

    And where the documentation is, if it is there.
    """
    from importlib.metadata import PackageNotFoundError, distribution

    found = {}
    for name in VERSIONS:
        try:
            installed = distribution(name)
        except PackageNotFoundError:
            found[name] = "not installed"
        else:  # one line is looked for: to take all headers apart takes longer than to find them
            line = re.search(r"^Version: *(\S+)", installed.read_text("METADATA") or "", re.M)
            found[name] = line[1] if line else installed.version
    found.setdefault("Python", sys.version.split()[0])
    if (pages := documentation()) is not None:
        found["documentation"] = str(pages)
    width = max(map(len, found)) + 2
    return [f"{name:<{width}}{number}" for name, number in found.items()]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="cosi-linebkg",
        description="Background of gamma-ray lines with COSI: fit the spectrum around a line, "
        "carry the distribution of adjacent energies into the line's range.",
    )
    parser.add_argument("--version", action=_Version)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    demo = commands.add_parser("demo", help="run the whole job on a data set that it simulates")
    demo.add_argument("--out", type=Path, default=Path("demo"), help="folder (default: demo)")
    demo.add_argument("--seed", type=int, default=1, help="of the simulation (default: 1)")
    demo.set_defaults(command=_demo)

    init = commands.add_parser("init", help="write a first CONFIG.yaml for your events")
    new_config.add_arguments(init)
    init.set_defaults(command=new_config.run_init)
    check = commands.add_parser(
        "check", help="check a configuration: what run would fit and write; writes nothing"
    )
    check.add_argument("config", type=Path, metavar="CONFIG.yaml")
    check.add_argument("--out", type=Path, metavar="DIR", help="folder that run would write to")
    check.add_argument("--region", metavar="NAME", help="one of the regions of CONFIG.yaml")
    check.set_defaults(command=_check, pipeline=False)

    run = commands.add_parser("run", help="fit, template, figures and report from a configuration")
    fit = commands.add_parser("fit", help="the fit alone: fit.json and the spectrum's figure")
    template = commands.add_parser("template", help="the template alone, from a saved fit")
    for command, function in ((run, _run), (fit, _fit), (template, _template)):
        command.add_argument("config", type=Path, metavar="CONFIG.yaml")
        command.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder")
        command.add_argument("--region", metavar="NAME", help="one of the regions of CONFIG.yaml")
        command.set_defaults(command=function)
    for command in (run, template):
        command.add_argument(
            "--pipeline",
            action="store_true",
            help="write background_threemlfit.hdf5 as well, for cosipy's cosi-threemlfit",
        )
    run.add_argument(
        "--dry-run", action="store_true", help="check, say what would be done, write nothing"
    )
    template.add_argument(
        "--fit", type=Path, required=True, metavar="fit.json", help="written by run or fit"
    )
    compare, lines = _add_readers(commands)
    binning = commands.add_parser("bin", help="event lists to a histogram")
    add_arguments(binning)
    binning.set_defaults(command=run_bin)
    for command in (demo, init, check, run, fit, template, compare, lines, binning):
        much = command.add_mutually_exclusive_group()
        much.add_argument("--quiet", action="store_true", help="print nothing but errors")
        much.add_argument("--verbose", action="store_true", help="print each step with its time")
    return parser


def _add_readers(commands: Any) -> tuple[argparse.ArgumentParser, argparse.ArgumentParser]:
    """The commands that look at results and at the catalogue."""
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
    lines = commands.add_parser(
        "lines", help="the catalogue of instrumental lines, or those of a spectrum"
    )
    lines.add_argument(
        "range", nargs="*", metavar="RANGE", help="1500-2000 (keV), or 1.5-2.0 MeV; default: all"
    )
    what = lines.add_mutually_exclusive_group()
    what.add_argument(
        "--find",
        type=Path,
        metavar="EVENTS",
        help="search a histogram, or a spectrum as text, for lines within RANGE",
    )
    what.add_argument(
        "--match", type=Path, metavar="fit.json", help="compare with the lines of this fit"
    )
    lines.add_argument(
        "--calibrate",
        action="store_true",
        help="with --match or --find: compare on the energy scale that the lines tell",
    )
    lines.add_argument(
        "--sigma",
        type=float,
        metavar="KEV",
        help="with --find: the lines' width to begin with, found within a factor 3 (default: 3)",
    )
    lines.set_defaults(command=_lines)
    return compare, lines


def _check(options: argparse.Namespace, progress: Progress) -> list[str]:
    from .config import load_config, load_regions

    configs = load_regions(options.config)
    if options.region is not None:
        configs = {options.region: load_config(options.config, options.region)}
    if options.pipeline:
        configs = {name: config.with_pipeline() for name, config in configs.items()}
    progress.say("loading libraries")
    from .check import check_regions

    return check_regions(configs, options.out, progress)


def _run(options: argparse.Namespace, progress: Progress) -> list[str]:
    if options.dry_run:
        return _check(options, progress)
    from .config import load_config, load_regions

    configs = load_regions(options.config)
    if options.pipeline:
        configs = {name: config.with_pipeline() for name, config in configs.items()}
    several = "" not in configs and options.region is None
    config = next(iter(configs.values()))
    if not several:
        config = load_config(options.config, options.region)
        config = config.with_pipeline() if options.pipeline else config
    progress.say("loading libraries")
    title = options.config.stem
    if several:
        from .regions import run_regions

        outcomes = run_regions(configs, options.out, progress=progress, title=title)
        first = next(iter(outcomes.values()))
        repeated = any(outcome.template for outcome in outcomes.values())  # its notes have them
        said = [] if repeated else [f"note: {note}" for note in first.events.notes]
        written = f"written to {options.out}: report.html, " + ", ".join(f"{n}/" for n in outcomes)
        return [*_binned(config, first.events), *said, *regions_table(outcomes), "", written]
    outcome = _run_one(options, configs, config, progress)
    of_events = () if outcome.template else outcome.events.notes  # a template repeats them
    notes = (*outcome.notes, *of_events)
    lines = summary(outcome.fit, outcome.template, outcome.files, notes)
    return [*_binned(config, outcome.events), *lines]


def _run_one(
    options: argparse.Namespace,
    configs: Mapping[str, Config],
    config: Config,
    progress: Progress,
) -> Outcome:
    """The job of one region, or of a configuration without any."""
    title = options.config.stem
    if options.region is not None:
        from .regions import holds_regions, run_regions

        if holds_regions(options.out, configs):
            outcomes = run_regions(
                configs, options.out, progress=progress, title=title, only=options.region
            )
            return outcomes[options.region]
        title = f"{title}: {options.region}"
    from .pipeline import run

    return run(config, options.out, progress=progress, title=title)


def _fit(options: argparse.Namespace, progress: Progress) -> list[str]:
    from .config import load_config

    config = load_config(options.config, options.region)
    progress.say("loading libraries")
    from ..io.atomic import output_folder, together
    from . import pipeline
    from .fitting import fit_config

    pipeline.check_outputs(options.out, config)
    with output_folder(options.out, pipeline.RESULTS) as folder:
        prepared = pipeline.prepare(config, progress)
        with pipeline.keeping_fit(folder) as kept:
            fit = fit_config(config, prepared.spectrum, progress)
            kept.append(fit)
            from ..show.figure import save_figure
            from ..show.spectrum import plot_spectrum

            figure = plot_spectrum(fit, source_range=config.source_range, names=True)
            files = [folder / "fit.json", folder / "spectrum.png"]
            with together(folder, stale=pipeline.RESULTS):
                fit.to_json(files[0], source_range=config.source_range)
                save_figure(figure, files[1])
    notes = (*prepared.notes, *prepared.events.notes)
    return [*_binned(config, prepared.events), *summary(fit, None, files, notes)]


def _template(options: argparse.Namespace, progress: Progress) -> list[str]:
    from ..fit.result import LineBackgroundFit
    from .config import load_config

    config = load_config(options.config, options.region)
    config = config.with_pipeline() if options.pipeline else config
    fit = LineBackgroundFit.from_json(options.fit)
    progress.say("loading libraries")
    from ..io.atomic import output_folder, together
    from . import pipeline
    from .fitting import require_fit_of

    pipeline.check_outputs(options.out, config)
    with output_folder(options.out, pipeline.RESULTS) as folder:
        prepared = pipeline.prepare(config, progress)
        require_fit_of(prepared.spectrum, fit)
        progress.say("making the template")
        plan = pipeline.require_plan(prepared)
        template = pipeline.template_config(plan, fit, progress)
        for_program = pipeline.program_background(config, plan, template)
        with together(folder, stale=set(pipeline.RESULTS) - set(pipeline.FIT_FIGURES)):
            files = pipeline.write_results(folder, template.fit, template, for_program)
    lines = summary(template.fit, template, files, prepared.notes)
    return [*_binned(config, prepared.events), *lines]


def _compare(options: argparse.Namespace, progress: Progress) -> list[str]:
    progress.say("loading libraries")
    from .compare import compare_files

    paths = [options.template, *options.more]
    rows, files = compare_files(paths, options.observed, options.out, nside=options.nside)
    lines = comparison_table(rows)
    if files:
        lines += ["", f"written to {options.out}: " + ", ".join(f.name for f in files)]
    return lines


def _demo(options: argparse.Namespace, progress: Progress) -> list[str]:
    progress.say("loading libraries")
    from .demo import run_demo

    outcome, rows = run_demo(options.out, seed=options.seed, progress=progress)
    lines = summary(outcome.fit, outcome.template, outcome.files)
    return [*lines, "", "compared with the simulated truth:", *demo_table(rows)]


def _binned(config: Config, events: EventHistogram) -> list[str]:
    """What became of the events, where they were binned here."""
    return [events.description, ""] if config.binning is not None else []


def _lines(options: argparse.Namespace, progress: Progress) -> list[str]:
    from ..lines.calibration import scale_notes
    from ..lines.catalogue import instrumental_lines
    from ..lines.identify import energy_scale, identify_lines

    energy_range = _energy_range(" ".join(options.range)) if options.range else None
    if options.find is not None:
        return _found(options, energy_range, progress)
    if options.sigma is not None:
        raise ConfigError("--sigma is the width that a search begins with: give --find EVENTS too.")
    if options.match is None and options.calibrate:
        raise ConfigError("--calibrate compares the lines of a fit: give --match fit.json too.")
    if options.match is None:
        return catalogue_table(instrumental_lines(energy_range))
    from ..fit.result import LineBackgroundFit

    fit = LineBackgroundFit.from_json(options.match)
    scale = energy_scale(fit) if options.calibrate else None
    found = identify_lines(fit, scale=scale)
    if energy_range is not None:
        found = tuple(x for x in found if energy_range[0] <= x.energy <= energy_range[1])
    return [*match_table(found), *scale_notes(scale, options.calibrate)]


def _found(
    options: argparse.Namespace, energy_range: tuple[float, float] | None, progress: Progress
) -> list[str]:
    """What a search finds in somebody's events."""
    progress.say("reading the events")
    from ..histograms.read import open_events
    from ..lines.found import search_table
    from ..lines.search import find_lines
    from ..spectrum.axis import EnergySpectrum, check_inside, overlapping_bins

    events = open_events(options.find)
    edges, counts = events.energy_edges, events.energy_counts()
    if energy_range is not None:
        inside = overlapping_bins(edges, *check_inside(edges, *energy_range, "RANGE"))
        first, last = inside.argmax(), inside.size - inside[::-1].argmax()
        edges, counts = edges[first : last + 1], counts[first:last]
    progress.say("searching for lines")
    sigma = 3.0 if options.sigma is None else options.sigma
    search = find_lines(EnergySpectrum(edges, counts), sigma=sigma, calibrate=options.calibrate)
    return [*(f"note: {note}" for note in events.notes), search_table(search.to_dict())]


def _energy_range(text: str) -> tuple[float, float]:
    """Two energies in keV from "1500-2000", "1.5-2.0 MeV", "1500 keV - 2 MeV"."""
    parts = _ENERGY_RANGE.fullmatch(text)
    units = [parts[2] or parts[4] or "keV", parts[4] or "keV"] if parts else []
    unknown = [unit for unit in units if unit not in _KEV]
    if parts is None or unknown:
        what = f"the unit {unknown[0]!r} is not known" if unknown else "this is no energy range"
        if Path(text).is_file():
            what = f"a file is searched for lines with --find {text}"
        raise BinningError(
            f"got {text!r}: {what}; give 1500-2000 (keV), or 1.5-2.0 MeV; known units are "
            f"{', '.join(_KEV)}."
        )
    low, high = float(parts[1]) * _KEV[units[0]], float(parts[3]) * _KEV[units[1]]
    if not low < high:
        raise BinningError(f"got {text!r}: the first energy must be below the second.")
    return low, high


def _fail(error: BaseException | str, code: int) -> int:
    text = one_line(error) if isinstance(error, BaseException) else " ".join(error.split())
    print(f"cosi-linebkg: {brief(text, 2000)}", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
