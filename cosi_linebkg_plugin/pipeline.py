"""The job behind the command line: a configuration in; fit, template, figures, report out."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .config import BinningSection, Config
from .errors import ConfigError, FileError, FitError, LineBackgroundError
from .making import TemplateOptions, check_template, make_template
from .plugin import LineBackgroundLike
from .result import LineBackgroundFit
from .template import BackgroundTemplate

if TYPE_CHECKING:
    from .events import BinnedEvents, BinningOptions
    from .histograms import EventHistogram

#: Told what is being done; if it has a method `events`, that is told (events done, events in all).
Progress = Callable[[str], None]
#: Every name that `run` may write.
RESULTS = (
    "fit.json",
    "template.h5",
    "background.hdf5",
    "background_background.hdf5",
    "background_continuum.hdf5",
    "background_lines.hdf5",
    "report.html",
    "spectrum.png",
    "phi.png",
    "phi_truth.png",
    "weights.png",
    "filter_scores.png",
)


@dataclass(frozen=True)
class Outcome:
    """What a run made.

    Attributes
    ----------
    fit : LineBackgroundFit
    template : BackgroundTemplate or None
        None if the configuration names no source range.
    files : tuple of Path
    events : EventHistogram
    """

    fit: LineBackgroundFit
    template: BackgroundTemplate | None
    files: tuple[Path, ...]
    events: EventHistogram


def run(
    config: Config,
    out: str | os.PathLike[str],
    *,
    progress: Progress = lambda text: None,
    comparison: Callable[[BackgroundTemplate], tuple[list[dict], dict[str, Any]]] | None = None,
    title: str = "Line background",
) -> Outcome:
    """The whole job: fit, template, figures, report.

    Parameters
    ----------
    config : Config
    out : path
        Folder for the results; made if it does not exist.
    progress : callable
        Told what is being done.
    comparison : callable, optional
        Given the template, returns rows that compare it with a known truth, and figures.
    title : str
        Of the report.

    Raises
    ------
    LineBackgroundError
        Bad input before any work and before any file; FitError if the fit is not valid.
    """
    folder = check_folder(out)
    check_outputs(folder, config)
    progress("reading the events")
    plugin = prepare(config, progress)
    progress(f"fitting the spectrum ({config.engine})")
    fit = fit_config(config, plugin)
    template = None
    if config.template is not None:
        progress("making the template")
        template = template_config(config, plugin, fit)
    progress("writing results and figures")
    make_folder(folder)
    files = write_results(folder, fit, template)
    rows, extra_figures = comparison(template) if comparison and template else (None, {})
    files += _write_report(folder, config, fit, template, rows, extra_figures, title)
    for name in RESULTS:  # of an earlier run into the same folder
        if folder / name not in files:
            (folder / name).unlink(missing_ok=True)
    return Outcome(fit, template, tuple(files), plugin.events)


def check_folder(path: str | os.PathLike[str]) -> Path:
    """The output folder, refused before any work if it cannot be written; it is not made yet."""
    folder = Path(path)
    nearest = folder.absolute()
    while not nearest.exists() and nearest != nearest.parent:
        nearest = nearest.parent
    try:
        with tempfile.TemporaryFile(dir=nearest):
            pass
    except OSError as error:
        raise FileError(_unwritable(folder, error)) from error
    return folder


def make_folder(folder: Path) -> None:
    """Make the output folder."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FileError(_unwritable(folder, error)) from error


def _unwritable(folder: Path, error: OSError) -> str:
    return f"Cannot write to the output folder {folder}: {error.strerror}. Choose another --out."


def check_outputs(folder: Path, config: Config, *inputs: Path) -> None:
    """Refuse to overwrite a file that is read."""
    t = config.template
    read = [*config.events, *inputs]
    if config.binning is not None:
        given = (config.binning.orientation, config.binning.good_times)
        read += [p for p in given if isinstance(p, Path)]
    read += [p for p in (t.like, t.observed, *(t.sky or ())) if p is not None] if t else []
    known = {p.resolve() for p in read}
    for name in RESULTS:
        if (folder / name).resolve() in known:
            raise FileError(
                f"The output {folder / name} would replace a file that is read; choose another "
                "--out, or another name for the input."
            )


def prepare(config: Config, progress: Progress = lambda text: None) -> LineBackgroundLike:
    """The plugin with data and mask, after everything in the configuration is checked."""
    events: Any = list(config.events)
    if config.binning is not None:
        with _named("binning"):
            how = binning_options(config.binning)
        with _named("events"):
            events = bin_config(config, how, progress).events
    with _named("events"):
        plugin = LineBackgroundLike("linebkg", events)
    with _named("mask"):
        plugin.set_mask(*config.mask)
    with _named("model"):
        plugin.check_model(model_of(config))
    if config.template is not None:
        with _named("template"):
            used, options = plugin.spectrum.used, template_options(config)
            check_template(plugin.events, used, config.source_range or (), options)
    return plugin


@contextmanager
def _named(key: str) -> Iterator[None]:
    """Put the section of the configuration in front of what is wrong with it."""
    try:
        yield
    except LineBackgroundError as error:
        raise ConfigError(f"{key}: {error}") from error


def binning_options(section: BinningSection) -> BinningOptions:
    """The options that a binning section describes."""
    from .events import BinningOptions

    names = type(section).model_fields.keys() - {"scheduler", "workers"}
    return BinningOptions(**{name: getattr(section, name) for name in names})


def bin_config(config: Config, options: BinningOptions, progress: Progress) -> BinnedEvents:
    """Bin the event lists that the configuration names."""
    from .events import bin_event_files

    assert config.binning is not None
    return bin_event_files(
        list(config.events),
        options,
        scheduler=config.binning.scheduler,
        workers=config.binning.workers,
        progress=getattr(progress, "events", None),
    )


def model_of(config: Config) -> Any:
    """The astromodels model that the configuration describes."""
    from .model import background_model

    m = config.model
    lines = [(x.energy, x.window) if x.window else x.energy for x in m.lines]
    pivot = m.pivot
    if pivot is None and config.source_range is not None:
        pivot = sum(config.source_range) / 2
    return background_model(lines, pivot=pivot, sigma=m.sigma, tail=m.tail)


def fit_config(config: Config, plugin: LineBackgroundLike) -> LineBackgroundFit:
    """Fit with the engine that the configuration names."""
    model = model_of(config)
    if config.engine == "minuit":
        return plugin.fit(model)
    if config.engine == "bayesian":
        from .posterior import sample_posterior

        return sample_posterior(plugin.fit(model), seed=1)
    quiet_threeml()
    from threeML import DataList, JointLikelihood

    plugin.guess(model)
    try:
        analysis = JointLikelihood(model, DataList(plugin))
        analysis.fit(quiet=True)
    except Exception as error:  # threeML's own classes share no base
        raise FitError(
            f"threeML's JointLikelihood failed ({type(error).__name__}: {error}); try "
            "engine: minuit, or a simpler model."
        ) from error
    fit = plugin.result(analysis)
    if not fit.valid:
        raise FitError(f"The fit is not valid: {fit.message}; try engine: minuit.", fit)
    return fit


def template_config(
    config: Config, plugin: LineBackgroundLike, fit: LineBackgroundFit
) -> BackgroundTemplate:
    """The template that the configuration describes."""
    options = template_options(config)
    return make_template(plugin.events, fit, config.source_range or (), options)


def template_options(config: Config) -> TemplateOptions:
    """The options of the template that the configuration describes."""
    t = config.template
    if t is None:
        raise LineBackgroundError(
            "The configuration names no source_range; a template needs one, e.g. "
            "source_range: [1805, 1812]."
        )
    values = {name: getattr(t, name) for name in type(t).model_fields}
    if t.sky is not None:
        if len(t.sky) > 2:
            raise ConfigError(
                f"template.sky: got {len(t.sky)} files; one, or two: on the events' axes, in the "
                "source range."
            )
        values["sky"] = t.sky[0] if len(t.sky) == 1 else tuple(t.sky)
    if t.line_ratio is not None:
        values["line_ratio"] = t.line_ratio.model_dump()
    return TemplateOptions(**values)


def write_results(
    folder: Path, fit: LineBackgroundFit, template: BackgroundTemplate | None
) -> list[Path]:
    """fit.json, and for a template template.h5 and plain histpy files."""
    from .histograms import write_histogram

    files = [folder / "fit.json"]
    fit.to_json(files[0], source_range=template.source_range if template else None)
    if template is not None:
        files.append(folder / "template.h5")
        template.write(files[-1])
        files.append(folder / "background.hdf5")
        write_histogram(files[-1], template.histogram)
        for label, histogram in template.components.items():
            files.append(folder / f"background_{label}.hdf5")
            write_histogram(files[-1], histogram)
    return files


def _write_report(folder, config, fit, template, rows, extra_figures, title):
    """Figures as PNG, and report.html with all of them inside."""
    from .plot import (
        plot_filter_scores,
        plot_projection,
        plot_spectrum,
        plot_weights,
        save_figure,
    )
    from .report import write_report

    figures = {"spectrum": plot_spectrum(fit, template=template)}
    if template is not None:
        if "Phi" in [axis.label for axis in template.axes]:
            figures["phi"] = plot_projection(template, "Phi")
        figures["weights"] = plot_weights(template)
        if "filter_scores" in template.details:
            figures["filter_scores"] = plot_filter_scores(template)
    figures |= extra_figures
    files = []
    for name, figure in figures.items():
        files.append(folder / f"{name}.png")
        save_figure(figure, files[-1])
    files.append(folder / "report.html")
    write_report(
        files[-1],
        fit=fit,
        template=template,
        config_text=config.to_yaml(),
        comparison=rows,
        figures=figures,
        title=title,
    )
    return files


def quiet_threeml() -> None:
    """Silence threeML's chatter inside our own commands, never in a user's session."""
    import logging

    for name in ("threeML", "astromodels"):
        logging.getLogger(name).setLevel(logging.ERROR)
