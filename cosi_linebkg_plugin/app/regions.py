"""Several regions of the same events: the job of each, and one page with all of them."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from pathlib import Path

from ..errors import naming
from ..fit.result import LineBackgroundFit
from ..io.atomic import output_folder, together
from ..io.progress import Progress, say
from ..template.template import BackgroundTemplate
from .config import Config
from .pipeline import RESULTS, Outcome, Prepared, check_outputs, prepare, run

#: What the page shows of a region.
Result = tuple[LineBackgroundFit, BackgroundTemplate | None]


class _OfRegion:
    """A progress that says of which region it speaks."""

    def __init__(self, progress: Progress, prefix: str) -> None:
        self._progress, self._prefix = progress, prefix
        self.count = progress.count

    def say(self, text: str) -> None:
        self._progress.say(self._prefix + text)


def run_regions(
    configs: Mapping[str, Config],
    out: str | os.PathLike[str],
    *,
    progress: Progress | None = None,
    title: str = "Line background",
    only: str | None = None,
) -> dict[str, Outcome]:
    """The whole job for several regions of the same events, and one page with all of them.

    Parameters
    ----------
    configs : dict of str to Config
        By name, which is that of a folder in `out`; see `config.load_regions`.
    out : path
    only : str, optional
        Run this region alone, and show the others on the page as an earlier run left them.

    Returns
    -------
    dict of str to Outcome
        Of the regions that were run.

    Raises
    ------
    LineBackgroundError
        Bad input of any region before any work; FitError if a fit is not valid: regions that
        were done before stay, the page of all regions is not written.
    """
    chosen = {name: c for name, c in configs.items() if only in (None, name)}
    with ExitStack() as stack:
        folder = stack.enter_context(output_folder(out, ["report.html"]))
        for name, config in chosen.items():
            check_outputs(folder, config)
            check_outputs(folder / name, config)
            stack.enter_context(output_folder(folder / name, RESULTS))
        known = {name: _saved(folder / name) for name in configs if name not in chosen}
        outcomes = _run_regions(chosen, folder, progress, title)
        results = known | {name: (o.fit, o.template) for name, o in outcomes.items()}
        _write_page(folder, {n: r for n in configs if (r := results[n]) is not None}, title)
        return outcomes


def holds_regions(folder: Path, names: Iterable[str]) -> bool:
    """Whether a folder holds results of these regions, each in a folder of its own."""
    return any((folder / name / "fit.json").is_file() for name in names)


def _saved(folder: Path) -> Result | None:
    """What an earlier run of a region left, if there was one."""
    if not (folder / "fit.json").is_file():
        return None
    fit, template = LineBackgroundFit.from_json(folder / "fit.json"), folder / "template.h5"
    return fit, BackgroundTemplate.open(template) if template.is_file() else None


def _run_regions(
    configs: Mapping[str, Config], folder: Path, progress: Progress | None, title: str
) -> dict[str, Outcome]:
    """`run_regions` in folders that it holds."""
    say(progress, "reading the events")
    jobs: dict[str, Prepared] = {}
    for name, config in configs.items():
        known = next(iter(jobs.values()), None)
        jobs[name] = prepare(config, progress, known.events if known else None, region=name)
    outcomes: dict[str, Outcome] = {}
    page = folder / "report.html"
    if page.exists():
        with together(folder, outdated=[page.name]):
            pass
    for name, config in configs.items():
        part = f"{name} ({len(outcomes) + 1} of {len(configs)}): "
        with naming(f"region {name}"):
            outcomes[name] = run(
                config, folder / name, title=f"{title}: {name}", prepared=jobs[name],
                progress=_OfRegion(progress, part) if progress is not None else None,
            )  # fmt: skip
        page.unlink(missing_ok=True)  # of an earlier run
    return outcomes


def _write_page(folder: Path, results: Mapping[str, Result], title: str) -> None:
    from ..show.report import write_regions_report

    # what a run without regions, or of one region, left there
    with together(folder, stale=set(RESULTS)):
        write_regions_report(folder / "report.html", results, title=title)
