"""The job behind the command line: a configuration in; fit, template, figures, report out."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import ConfigError, FileError, FitError, LineBackgroundError, naming
from ..fit.result import LineBackgroundFit
from ..fit.toys import with_toys
from ..histograms.read import files_kept_open
from ..io.atomic import output_folder, together, whole_file
from ..io.progress import Progress, say
from ..lines.search import LineSearch, check_search, find_lines
from ..plugin import LineBackgroundLike
from ..template.build import make_template
from ..template.comparison import Comparison, compare_all, to_csv, to_json
from ..template.options import TemplateOptions
from ..template.plan import TemplatePlan, check_template
from ..template.template import BackgroundTemplate
from .config import Config
from .terminal import quiet_threeml

if TYPE_CHECKING:
    from ..events.binning import BinnedEvents
    from ..histograms.read import EventHistogram

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
    "maps.png",
    "weights.png",
    "filter_scores.png",
    "posterior.png",
    "predictive.png",
    "fit_interrupted.json",
)

#: Figures of the fit, which a template made later leaves.
FIT_FIGURES = ("spectrum.png", "posterior.png", "predictive.png")


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


@dataclass(frozen=True)
class Prepared:
    """What a configuration asks for, checked, with its files opened.

    Attributes
    ----------
    plugin : LineBackgroundLike
        With data and mask.
    plan : TemplatePlan or None
        None if the configuration names no source range.
    """

    plugin: LineBackgroundLike
    plan: TemplatePlan | None


def run(
    config: Config,
    out: str | os.PathLike[str],
    *,
    progress: Progress | None = None,
    comparison: Callable[[BackgroundTemplate], tuple[list[dict], dict[str, Any]]] | None = None,
    title: str = "Line background",
    prepared: Prepared | None = None,
) -> Outcome:
    """The whole job: fit, template, figures, report.

    Parameters
    ----------
    config : Config
    out : path
        Folder for the results; made if it does not exist.
    progress : Progress, optional
        Is told what is being done.
    comparison : callable, optional
        Given the template, returns rows that compare it with a known truth, and figures.
    title : str
        Of the report.
    prepared : Prepared, optional
        What `prepare` made of the configuration, if that is done.

    Raises
    ------
    LineBackgroundError
        Bad input before any work and before any file; FitError if the fit is not valid.
    KeyboardInterrupt
        The fit, if there is one, is in ``fit_interrupted.json``; other files are as before.
    """
    check_outputs(Path(out), config)
    with output_folder(out, RESULTS) as folder, files_kept_open():
        if prepared is None:
            say(progress, "reading the events")
            prepared = prepare(config, progress)
        plugin, plan = prepared.plugin, prepared.plan
        with keeping_fit(folder) as kept:
            fit = fit_config(config, plugin, progress)
            kept.append(fit)
            template = None
            if plan is not None:
                say(progress, "making the template")
                template = template_config(plan, fit, progress)
                fit = template.fit  # with sky= its photons were taken out of the spectrum
            say(progress, "writing results and figures")
            rows, extra_figures = comparison(template) if comparison and template else (None, {})
            figures = _figures(fit, template, plan.observed if plan else None) | extra_figures
            with together(folder, stale=RESULTS):
                files = write_results(folder, fit, template)
                files += _write_report(folder, config, fit, template, rows, figures, title, plugin)
    return Outcome(fit, template, tuple(files), plugin.events)


@contextmanager
def keeping_fit(folder: Path) -> Iterator[list[LineBackgroundFit]]:
    """An interrupted job leaves the last fit of the list, or what a fit had so far, in a file."""
    kept: list[LineBackgroundFit] = []
    try:
        yield kept
    except KeyboardInterrupt as interrupt:
        kept += [fit for fit in (getattr(interrupt, "result", None),) if fit is not None]
        if kept:
            path = folder / "fit_interrupted.json"
            with suppress(LineBackgroundError):
                kept[-1].to_json(path)
                interrupt.add_note(f"the fit so far is in {path}")
        raise


class _OfRegion:
    """A progress that says of which region it speaks."""

    def __init__(self, progress: Progress, prefix: str):
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
) -> dict[str, Outcome]:
    """The whole job for several regions of the same events, and one page with all of them.

    Parameters
    ----------
    configs : dict of str to Config
        By name, which is that of a folder in `out`; see `config.load_regions`.
    out : path

    Raises
    ------
    LineBackgroundError
        Bad input of any region before any work; FitError if a fit is not valid: regions that
        were done before stay, the page of all regions is not written.
    """
    with ExitStack() as stack:
        folder = stack.enter_context(output_folder(out, ["report.html"]))
        for name, config in configs.items():
            check_outputs(folder, config)
            check_outputs(folder / name, config)
            stack.enter_context(output_folder(folder / name, RESULTS))
        return _run_regions(configs, folder, progress, title)


def _run_regions(
    configs: Mapping[str, Config], folder: Path, progress: Progress | None, title: str
) -> dict[str, Outcome]:
    """`run_regions` in folders that it holds."""
    say(progress, "reading the events")
    jobs: dict[str, Prepared] = {}
    for name, config in configs.items():
        known = next(iter(jobs.values()), None)
        with naming(f"region {name}"):
            jobs[name] = prepare(config, progress, known.plugin.events if known else None)
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
    from ..show.report import write_regions_report

    results = {name: (o.fit, o.template) for name, o in outcomes.items()}
    with together(folder):
        write_regions_report(page, results, title=title)
    return outcomes


def check_outputs(folder: Path, config: Config) -> None:
    """Refuse to overwrite a file that is read."""
    t = config.template
    read = list(config.events)
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


def prepare(
    config: Config,
    progress: Progress | None = None,
    known: EventHistogram | None = None,
) -> Prepared:
    """The plugin and the plan of the template, after everything in the configuration is checked.

    `known` are the events, if they have been opened or binned for another region.
    """
    events: Any = list(config.events) if known is None else known
    if config.binning is not None and known is None:
        events = bin_config(config, progress).events
    with naming("events"):
        plugin = LineBackgroundLike("linebkg", events)
    with naming("mask"):
        plugin.set_mask(*config.mask)
    with naming("model"):
        if config.model.lines == "auto":
            check_search(plugin.spectrum, **_search_options(config))
        else:
            plugin.check_model(model_of(config))
    plan = None
    if config.template is not None:
        with naming("template"):
            used, options = plugin.spectrum.used, template_options(config)
            plan = check_template(plugin.events, used, config.source_range or (), options)
    return Prepared(plugin, plan)


def bin_config(config: Config, progress: Progress | None = None) -> BinnedEvents:
    """Bin the event lists that the configuration names."""
    from ..events.binning import bin_event_files
    from ..events.options import BinningJob

    assert config.binning is not None
    with naming("binning"):
        job = BinningJob(**config.binning.values())
    with naming("events"):
        return bin_event_files(
            list(config.events),
            job,
            scheduler=job.scheduler,
            workers=job.workers,
            progress=progress,
        )


def model_of(config: Config, search: LineSearch | None = None) -> Any:
    """The astromodels model that a configuration describes, with the lines of a search if given.

    A search knows a power law and a constant width; what it finds goes into the model asked for.
    """
    from ..model.build import background_model

    m = config.model
    if search is not None and (m.width, m.continuum) == ("constant", "powerlaw"):
        return search.model()
    given: Any = m.lines
    lines = search.lines if search is not None else [x.model_dump() for x in given]
    model = background_model(
        lines, pivot=_pivot(config), sigma=m.sigma, width=m.width, tail=m.tail,
        continuum=m.continuum,
    )  # fmt: skip
    if search is not None:  # lines that were fixed to the catalogue
        parameters = model.linebkg.spectrum.main.shape.parameters
        for line in search.lines:
            parameters[line.parameter].free = line.error is not None
    return model


def _pivot(config: Config) -> float | None:
    pivot = config.model.pivot
    if pivot is None and config.source_range is not None:
        pivot = sum(config.source_range) / 2
    return pivot


def _search_options(config: Config) -> dict[str, Any]:
    """Arguments of `find_lines` for ``lines: auto``."""
    m = config.model
    assert m.search is not None
    options = {"sigma": m.sigma, "tail": m.tail, "pivot": _pivot(config)}
    return options | m.search.model_dump()


def fit_config(
    config: Config, plugin: LineBackgroundLike, progress: Progress | None = None
) -> LineBackgroundFit:
    """Fit with the engine that the configuration names, after a search with ``lines: auto``."""
    search = None
    if config.model.lines == "auto":
        say(progress, "searching for lines")
        search = find_lines(plugin.spectrum, **_search_options(config))
    say(progress, f"fitting the spectrum ({config.engine})")
    fit = _fit_with_engine(config, plugin, model_of(config, search), progress)
    fit = _judged(fit, progress)
    return replace(fit, line_search=search.to_dict()) if search else fit


def _judged(fit: LineBackgroundFit, progress: Progress | None) -> LineBackgroundFit:
    """The fit with a p-value: from toys, where counts are too low for the chi-square law."""
    if fit.p_value is not None or fit.dof <= 0:
        return fit
    say(progress, "simulating spectra, as counts are low")
    return with_toys(fit, rng=1, progress=progress)


def _fit_with_engine(
    config: Config, plugin: LineBackgroundLike, model: Any, progress: Progress | None
) -> LineBackgroundFit:
    if config.engine == "minuit":
        return plugin.fit(model)
    if config.engine == "bayesian":
        best = plugin.fit(model)
        say(progress, "sampling the posterior (steps)")
        return best.sample(seed=1, progress=progress)
    quiet_threeml()
    from threeML import DataList, JointLikelihood

    plugin.fit(model)  # a start in the right minimum
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


def require_fit_of(config: Config, plugin: LineBackgroundLike, fit: LineBackgroundFit) -> None:
    """Refuse a saved fit that was made with another mask than the configuration's."""
    same = fit.spectrum.mask.shape == plugin.spectrum.mask.shape
    if same and (fit.spectrum.mask == plugin.spectrum.mask).all():
        return
    raise ConfigError(
        f"mask: the fit was made with {_ranges(fit.mask)} masked, the configuration masks "
        f"{_ranges(plugin.spectrum.masked_ranges())}; fit again with this configuration."
    )


def _ranges(ranges: Sequence[Sequence[float]]) -> str:
    text = ", ".join(f"{low:.6g}-{high:.6g}" for low, high in ranges)
    return f"{text} keV" if text else "nothing"


def require_plan(prepared: Prepared) -> TemplatePlan:
    """The plan of the template, which a configuration without a source range has not."""
    if prepared.plan is None:
        raise LineBackgroundError(
            "The configuration names no source_range; a template needs one, e.g. "
            "source_range: [1805, 1812]."
        )
    return prepared.plan


def template_config(
    plan: TemplatePlan, fit: LineBackgroundFit, progress: Progress | None = None
) -> BackgroundTemplate:
    """The template of a plan."""
    with naming("template"):
        template = make_template(plan, fit, progress)
    return template.with_fit(_judged(template.fit, progress))  # with sky= it is another fit


def template_options(config: Config) -> TemplateOptions:
    """The options of the template that the configuration describes."""
    t = config.template
    assert t is not None  # where there is a source range
    values = t.values()
    if t.sky is not None:
        if len(t.sky) > 2:
            raise ConfigError(
                f"template.sky: got {len(t.sky)} files; one, or two: on the events' axes, in the "
                "source range."
            )
        values["sky"] = t.sky[0] if len(t.sky) == 1 else tuple(t.sky)
    return TemplateOptions(**values)


def write_results(
    folder: Path, fit: LineBackgroundFit, template: BackgroundTemplate | None
) -> list[Path]:
    """fit.json, and for a template template.h5 and plain histpy files."""
    from ..histograms.write import write_histogram

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


def _write_report(folder, config, fit, template, rows, figures, title, plugin):
    """Figures as PNG, and report.html with all of them inside."""
    from ..show.figure import save_figure
    from ..show.report import write_report

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
        notes=plugin.events.notes if template is None else (),
    )
    return files


def _figures(
    fit: LineBackgroundFit, template: BackgroundTemplate | None, observed: EventHistogram | None
) -> dict[str, Any]:
    """The figures of a run, by the names of their files."""
    from ..show.posterior import plot_corner, plot_predictive
    from ..show.spectrum import plot_spectrum
    from ..show.template import plot_filter_scores, plot_maps, plot_projection, plot_weights

    figures = {"spectrum": plot_spectrum(fit, template=template, names=True)}
    if template is not None:
        axes = [axis.label for axis in template.axes]
        if "Phi" in axes:
            figures["phi"] = plot_projection(template, "Phi")
        if "PsiChi" in axes:
            figures["maps"] = plot_maps(template, observed=observed)
        figures["weights"] = plot_weights(template)
        if template.record.filter_scores:
            figures["filter_scores"] = plot_filter_scores(template)
    if fit.samples is not None:
        source_range = None if template is None else template.source_range
        figures["posterior"] = plot_corner(fit, source_range=source_range)
        figures["predictive"] = plot_predictive(fit)
    return figures


def compare_files(
    templates: Sequence[Path], observed: Path, out: Path | None, *, nside: int = 4
) -> tuple[list[Comparison], list[Path]]:
    """Templates in files against observed counts; tables and figures go into `out`, if given.

    Returns
    -------
    comparisons : list of Comparison
        Named by the files, with their folders where these alone tell them apart.
    files : list of Path
    """
    from ..show.figure import MANY_STYLES, save_figure

    if not (nside > 0 and nside & (nside - 1) == 0):
        raise ConfigError(f"--nside must be a power of 2 (1, 2, 4, ...), got {nside}.")
    stems = [path.stem for path in templates]
    names = [
        stem if stems.count(stem) == 1 else str(path.parent / stem)
        for stem, path in zip(stems, templates, strict=True)
    ]
    for name in names:
        if names.count(name) > 1:
            raise ConfigError(f"The template {name} is given twice; give each file once.")
    if len(templates) > len(MANY_STYLES):
        raise ConfigError(f"At most {len(MANY_STYLES)} templates at a time, got {len(templates)}.")
    with ExitStack() as stack:
        folder = None if out is None else stack.enter_context(output_folder(out))
        opened = {n: BackgroundTemplate.open(p) for n, p in zip(names, templates, strict=True)}
        rows = compare_all(opened, observed, nside=nside)
        if folder is None:
            return rows, []
        figures = _comparison_figures(opened, rows, observed, nside)
        with together(folder):
            files = [folder / "comparison.csv", folder / "comparison.json"]
            for path, text in zip(files, (to_csv(rows), to_json(rows)), strict=True):
                with whole_file(path) as temporary:
                    temporary.write_text(text, encoding="utf-8")
            for name, figure in figures.items():
                files.append(folder / name)
                save_figure(figure, files[-1])
    return rows, files


def _comparison_figures(
    opened: Mapping[str, BackgroundTemplate],
    rows: Sequence[Comparison],
    observed: Path,
    nside: int,
) -> dict[str, Any]:
    """The figures of `compare_files`, by the names of their files."""
    from ..show.template import plot_comparison, plot_maps

    figures = {
        f"comparison_{axis.lower()}.png": plot_comparison(rows, axis)
        for axis in ("Phi", "PsiChi")
        if all(axis in row.projections for row in rows)
    }
    for (name, template), row in zip(opened.items(), rows, strict=True):
        if "PsiChi" in row.projections:
            safe = re.sub(r"\W+", "_", name).strip("_")
            file = f"maps_{safe}.png"
            number = 2
            while file in figures:
                file, number = f"maps_{safe}_{number}.png", number + 1
            figures[file] = plot_maps(template, observed=observed, nside=nside)
    return figures
