"""``cosi-linebkg check``: what a configuration would fit and write, after all checks of a run."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from ..errors import FileError
from ..histograms.read import EventHistogram, files_kept_open
from ..io.progress import Progress, say
from ..template.options import AUTO
from .config import Config
from .fitting import ranges_text
from .pipeline import Prepared, check_outputs, planned_files, prepare


def check_regions(
    configs: Mapping[str, Config], out: Path | None = None, progress: Progress | None = None
) -> list[str]:
    """What a run of these configurations would do, as lines to print; nothing is written.

    Parameters
    ----------
    configs : dict of str to Config
        By name of the region; "" where there are none.
    out : path, optional
        The folder that a run would write to.
    progress : Progress, optional

    Raises
    ------
    LineBackgroundError
        Whatever a run would refuse before its fit.
    """
    lines: list[str] = []
    known: EventHistogram | None = None
    say(progress, "reading the events")
    with files_kept_open():
        for name, config in configs.items():
            if out is not None:
                check_outputs(out / name, config)
                check_writable(out / name)
            prepared = prepare(config, progress, known, region=name)
            known = prepared.events
            lines += [f"region {name}:"] if name else []
            lines += [*_fitted(config, prepared), *_made(prepared)]
            lines += [f"note: {note}" for note in (*prepared.notes, *known.notes)]
            lines += [*_written(config, prepared, out, name), ""]
    if "" not in configs and out is not None:
        lines += [f"would write to {out}: report.html", ""]
    return [*lines, "the configuration is good; nothing was written"]


def check_writable(folder: Path) -> None:
    """Refuse a folder that cannot be made or written to, without touching it."""
    there = folder.absolute()
    while not there.exists() and there.parent != there:
        there = there.parent
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        what = "may not be written to" if there.is_dir() else "is no folder"
        raise FileError(f"Cannot write to the output folder {folder}: {there} {what}.")


def _fitted(config: Config, prepared: Prepared) -> list[str]:
    """Data and model."""
    spectrum, start = prepared.spectrum, prepared.start
    counts = spectrum.counts[spectrum.used].sum()
    lines = [
        f"events: {prepared.events!r}",
        f"fit: {spectrum.used.sum()} of {spectrum.n_bins} energy bins, {spectrum.edges[0]:.6g}-"
        f"{spectrum.edges[-1]:.6g} keV, {counts:,.0f} counts; masked: "
        f"{ranges_text(spectrum.masked_ranges()) or 'nothing'}",
    ]
    if start is None:
        model = f"{config.model.continuum} and the lines that a search finds (lines: auto)"
    else:
        n = len(start.lines)
        model = (
            f"{config.model.continuum} and {n} line{'' if n == 1 else 's'}, "
            f"{len(start.free)} free parameters"
        )
    return [*lines, f"model: {model}; engine: {config.engine}"]


def _made(prepared: Prepared) -> list[str]:
    """The template."""
    plan = prepared.plan
    if plan is None:
        return ["template: none, as there is no source_range"]
    from ..spectrum.axis import bins_to_ranges

    options = plan.options
    axes = ", ".join(f"{axis.label} ({axis.nbins})" for axis in plan.axes)
    used = ranges_text(bins_to_ranges(plan.edges, plan.selected))
    chosen = "chosen from the data" if options.chooses_filter else options.filter.describe()
    method = options.method
    made = f"made from {used}"
    if method == AUTO:
        method, made = "the method that predicts control ranges best", f"from some of {used}"
    lines = [
        f"template: {method}, source range {plan.low:g}-{plan.high:g} keV, {made}",
        f"its axes: {axes}; filter: {chosen}",
    ]
    if plan.livetime:
        lines.append(f"its livetime: {plan.livetime:.6g} s")
    if options.method == "components" and not options.knows_hidden_line and plan.observed is None:
        if (prepared.spectrum.mask & plan.in_source).any():
            lines.append(
                "its lines: a line hidden in the mask has no known amount (line_ratio, or "
                "observed, would tell it)"
            )
        else:
            lines.append(
                "its lines: those fitted in the source range, photons of a source there included"
            )
    return lines


def _written(config: Config, prepared: Prepared, out: Path | None, region: str) -> list[str]:
    """Files, and which of them are there already."""
    names = planned_files(config, prepared)
    if out is None:
        return [f"would write: {', '.join(names)}"]
    folder = out / region
    lines = [f"would write to {folder}: {', '.join(names)}"]
    if prepared.plan is not None and prepared.plan.options.method == AUTO:
        lines.append("of the files background_*.hdf5 those of the method that is chosen")
    there = [name for name in names if (folder / name).exists()]
    return [*lines, f"would replace there: {', '.join(there)}"] if there else lines
