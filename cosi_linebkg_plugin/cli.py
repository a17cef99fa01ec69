"""The command line: arguments, progress, exit codes. Heavy imports wait until they are needed."""

from __future__ import annotations

import argparse
import sys
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
    for command in (demo, run, fit, template):
        command.add_argument("--quiet", action="store_true", help="print nothing but errors")
    return parser


def _run(options: argparse.Namespace, progress: Callable[[str], None]) -> list[str]:
    from .config import load_config

    config = load_config(options.config)
    progress("loading libraries")
    from .pipeline import run

    outcome = run(config, options.out, progress=progress, title=options.config.stem)
    return _summary(outcome.fit, outcome.template, outcome.files)


def _fit(options: argparse.Namespace, progress: Callable[[str], None]) -> list[str]:
    from .config import load_config

    config = load_config(options.config)
    progress("loading libraries")
    from . import pipeline
    from .plot import plot_spectrum, save_figure

    folder = pipeline.check_folder(options.out)
    pipeline.check_outputs(folder, config)
    plugin = pipeline.prepare(config)
    fit = pipeline.fit_config(config, plugin, progress)
    pipeline.make_folder(folder)
    files = [folder / "fit.json", folder / "spectrum.png"]
    fit.to_json(files[0], source_range=config.source_range)
    save_figure(plot_spectrum(fit, source_range=config.source_range), files[1])
    return _summary(fit, None, files)


def _template(options: argparse.Namespace, progress: Callable[[str], None]) -> list[str]:
    from .config import load_config
    from .result import LineBackgroundFit

    config = load_config(options.config)
    fit = LineBackgroundFit.from_json(options.fit)
    progress("loading libraries")
    from . import pipeline

    folder = pipeline.check_folder(options.out)
    pipeline.check_outputs(folder, config)
    plugin = pipeline.prepare(config)
    progress("making the template")
    template = pipeline.template_config(config, plugin, fit)
    pipeline.make_folder(folder)
    return _summary(fit, template, pipeline.write_results(folder, fit, template))


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
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("starting")
        yield lambda text: bar.update(task, description=text)


def _silence() -> None:
    """Keep the chatter of imported libraries out of our commands."""
    import logging

    warnings.simplefilter("ignore")
    for name in ("threeML", "astromodels"):
        logging.getLogger(name).setLevel(logging.ERROR)


if __name__ == "__main__":
    sys.exit(main())
