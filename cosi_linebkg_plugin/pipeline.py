"""The job behind the command line: a configuration in; fit, template, figures, report out."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .config import Config
from .errors import FileError, LineBackgroundError
from .plugin import LineBackgroundLike
from .result import LineBackgroundFit
from .template import BackgroundTemplate, check_template

Progress = Callable[[str], None]


@dataclass(frozen=True)
class Outcome:
    """What a run made.

    Attributes
    ----------
    fit : LineBackgroundFit
    template : BackgroundTemplate or None
        None if the configuration names no source range.
    files : tuple of Path
    """

    fit: LineBackgroundFit
    template: BackgroundTemplate | None
    files: tuple[Path, ...]


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
    folder = writable_folder(out)
    progress("reading the events")
    plugin = prepare(config)
    progress(f"fitting the spectrum ({config.engine})")
    fit = fit_config(config, plugin)
    template = None
    if config.template is not None:
        progress("making the template")
        template = template_config(config, plugin, fit)
    progress("writing results and figures")
    files = write_results(folder, fit, template)
    rows, extra_figures = comparison(template) if comparison and template else (None, {})
    files += _write_report(folder, config, fit, template, rows, extra_figures, title)
    return Outcome(fit, template, tuple(files))


def writable_folder(path: str | os.PathLike[str]) -> Path:
    """The output folder, made if needed; refused before any work if it cannot be written."""
    folder = Path(path)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise FileError(
            f"Cannot write to the output folder {folder}: {error.strerror}. Choose another --out."
        ) from error
    return folder


def prepare(config: Config) -> LineBackgroundLike:
    """The plugin with data and mask, after everything in the configuration is checked."""
    plugin = LineBackgroundLike("linebkg", list(config.events))
    plugin.set_mask(*config.mask)
    plugin.check_model(model_of(config))
    if config.template is not None:
        check_template(plugin.events, plugin.spectrum.used, *_template_arguments(config)[0],
                       **_template_arguments(config)[1])  # fmt: skip
    return plugin


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
    analysis = JointLikelihood(model, DataList(plugin))
    analysis.fit(quiet=True)
    return plugin.result(analysis)


def template_config(
    config: Config, plugin: LineBackgroundLike, fit: LineBackgroundFit
) -> BackgroundTemplate:
    """The template that the configuration describes."""
    positional, options = _template_arguments(config)
    return plugin.background_template(fit, *positional, **options)


def _template_arguments(config: Config) -> tuple[tuple, dict[str, Any]]:
    t = config.template
    if t is None or config.source_range is None:
        raise LineBackgroundError(
            "The configuration names no source_range; a template needs one, e.g. "
            "source_range: [1805, 1812]."
        )
    options = {
        "method": t.method,
        "sidebands": t.sidebands,
        "like": t.like,
        "livetime": t.livetime,
    }
    return (config.source_range,), options


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
    from .plot import plot_projection, plot_spectrum, save_figure
    from .report import write_report

    figures = {"spectrum": plot_spectrum(fit, template=template)}
    if template is not None and "Phi" in [axis.label for axis in template.axes]:
        figures["phi"] = plot_projection(template, "Phi")
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
