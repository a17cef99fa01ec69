"""The job behind the command line: a configuration in; fit, template, figures, report out."""

from __future__ import annotations

import gc
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..errors import ConfigError, DataError, FileError, LineBackgroundError, TemplateError, naming
from ..events.options import BinningJob
from ..fit.adequacy import LEVEL
from ..fit.minimise import check_fit
from ..fit.result import LineBackgroundFit
from ..histograms.read import EventHistogram, files_kept_open, open_events
from ..io.atomic import output_folder, together, whole_file
from ..io.progress import Progress, say
from ..spectrum.axis import EnergySpectrum, check_inside
from ..spectrum.components import SpectralModel
from .config import Config
from .fitting import fit_config, hidden_widths, search_options, spectral_model, with_p_value

if TYPE_CHECKING:
    from histpy import Histogram
    from matplotlib.figure import Figure

    from ..events.binning import BinnedEvents
    from ..template.options import TemplateOptions
    from ..template.plan import TemplatePlan
    from ..template.template import BackgroundTemplate

#: Every name that `run` may write.
RESULTS = (
    "fit.json",
    "template.h5",
    "background.hdf5",
    "background_background.hdf5",
    "background_continuum.hdf5",
    "background_lines.hdf5",
    "background_threemlfit.hdf5",
    "report.html",
    "spectrum.png",
    "phi.png",
    "phi_truth.png",
    "energies.png",
    "phi_energy.png",
    "maps.png",
    "weights.png",
    "filter_scores.png",
    "control.png",
    "control_ranges.json",
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
    notes : tuple of str
        What a user must know of the configuration.
    """

    fit: LineBackgroundFit
    template: BackgroundTemplate | None
    files: tuple[Path, ...]
    events: EventHistogram
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Prepared:
    """What a configuration asks for, checked, with its files opened, before anything is fitted.

    Attributes
    ----------
    events : EventHistogram
    spectrum : EnergySpectrum
        With the mask.
    start : SpectralModel or None
        The model before the fit; None with ``lines: auto``.
    plan : TemplatePlan or None
        None if the configuration names no source range.
    notes : tuple of str
        What a user must know of the configuration.
    """

    events: EventHistogram
    spectrum: EnergySpectrum
    start: SpectralModel | None = None
    plan: TemplatePlan | None = None
    notes: tuple[str, ...] = ()


#: A line this far from the source range [keV] cannot reach into it, whatever its width and tail.
RATIO_REACH = 50.0

#: Given a template: rows that compare it with a known truth, and figures by name.
Compare = Callable[["BackgroundTemplate"], tuple[list[dict[str, Any]], dict[str, "Figure"]]]


def run(
    config: Config,
    out: str | os.PathLike[str],
    *,
    progress: Progress | None = None,
    comparison: Compare | None = None,
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
        with keeping_fit(folder) as kept:
            fit = fit_config(config, prepared.spectrum, progress)
            kept.append(fit)
            template = for_program = None
            if prepared.plan is not None:
                say(progress, "making the template")
                template = template_config(prepared.plan, fit, progress)
                fit = template.fit  # with sky= its photons were taken out of the spectrum
                for_program = program_background(config, prepared.plan, template)
            say(progress, "writing results and figures")
            rows, extra_figures = comparison(template) if comparison and template else ([], {})
            observed = prepared.plan.observed if prepared.plan else None
            figures = drawn(chain(_figures(fit, template, observed), extra_figures.items()))
            said = (*prepared.notes, *_against_observed(template, prepared.plan))
            with together(folder, stale=RESULTS):
                files = write_results(folder, fit, template, for_program)
                files += _write_figures(folder, figures)
                files.append(folder / "report.html")
                notes = (*said, *(prepared.events.notes if template is None else ()))
                _write_report(files[-1], config, fit, template, rows, figures, title, notes)
    return Outcome(fit, template, tuple(files), prepared.events, said)


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
    *,
    region: str = "",
) -> Prepared:
    """Events and spectrum, after everything in the configuration is checked.

    Parameters
    ----------
    config : Config
    progress : Progress, optional
    known : EventHistogram, optional
        The events, if they have been opened or binned for another region.
    region : str
        Its name, for messages.
    """
    with naming(config.file), naming(f"region {region}" if region else ""):
        events = known if known is not None else _open(config, progress)
        _check_ranges(config, events.energy_edges)
        with naming("events"):
            spectrum = EnergySpectrum(events.energy_edges, events.energy_counts())
        with naming("mask"):
            spectrum = spectrum.with_mask(config.mask)
        with naming("events"):
            _require_counts(spectrum)
        with naming("model"):
            start = _checked_model(config, spectrum)
        plan = _checked_plan(config, events, spectrum, start)
        if config.output.pipeline:
            _check_pipeline(plan)
    notes = (*_notes(config), *_cut_bins(plan), *_held(config, spectrum), *_no_tails(config, start))
    return Prepared(events, spectrum, start, plan, notes)


def _open(config: Config, progress: Progress | None) -> EventHistogram:
    """The events: a histogram, or lists that are binned once the ranges are known to be right."""
    if config.binning is not None:
        with naming("binning"):
            edges = BinningJob(**config.binning.values()).binning.axes[-2].edges
        _check_ranges(config, edges)
        return bin_config(config, progress).events
    with naming("events"):
        return open_events(list(config.events))


def _check_ranges(config: Config, edges: NDArray[np.float64]) -> None:
    """Refuse ranges outside the energy axis [keV]."""
    if config.source_range is not None:
        with naming("source_range"):
            check_inside(edges, *config.source_range)
    with naming("mask"):
        EnergySpectrum(edges, np.zeros(edges.size - 1)).with_mask(config.mask)


def _checked_plan(
    config: Config, events: EventHistogram, spectrum: EnergySpectrum, start: SpectralModel | None
) -> TemplatePlan | None:
    """The plan of the template, if the configuration has one."""
    if config.template is None:
        return None
    from ..template.plan import check_template

    with naming("template"):
        options = _with_filter(template_options(config), events)
        plan = check_template(events, spectrum.used, config.source_range or (), options)
        if start is not None:
            _require_hidden_line(config, options, start)
            _require_named_lines(options, start)
    return plan


def _with_filter(options: TemplateOptions, events: EventHistogram) -> TemplateOptions:
    """The filter is chosen from the data where none is given; that needs directions and counts."""
    from ..template.filters import Filter

    given = options.smoothing is not None or options.filter != Filter()
    has_directions = "PsiChi" in [str(axis.label) for axis in events.other_axes]
    if given or not has_directions or not events.has_whole_counts:
        return options
    return replace(options, smoothing="auto")


def _held(config: Config, spectrum: EnergySpectrum) -> tuple[str, ...]:
    """A note where the bins do not show the width of the lines."""
    if config.model.lines == "auto":  # the search says it itself
        return ()
    names = sorted(hidden_widths(spectral_model(config), spectrum))
    if not names:
        return ()
    wide = float(np.median(spectrum.widths))
    return (
        f"model: the width {', '.join(names)} is held at its start: bins of {wide:.3g} keV do not "
        "show it; bin finer, 5 keV say",
    )


def _no_tails(config: Config, start: SpectralModel | None) -> tuple[str, ...]:
    """A note where a line gets no tail although tails are asked for; a search says it itself."""
    if start is None:
        return ()
    from ..lines.notes import no_tails

    return tuple(f"model: tail: {note}" for note in no_tails(start, config.model.tail))


def _notes(config: Config) -> tuple[str, ...]:
    if not config.masks_source_by_default or config.source_range is None:
        return ()
    low, high = config.source_range
    return (
        f"mask: the source range {low:g}-{high:g} keV is left out of the fit, as no mask is "
        "given; mask: [] keeps it fitted",
    )


def _cut_bins(plan: TemplatePlan | None) -> tuple[str, ...]:
    """A note where data on the events' own bins would not fit the template."""
    if plan is None or plan.whole_bins is None:
        return ()
    own = (plan.options.like, plan.options.observed, plan.options.energy_edges)
    if any(option is not None for option in own):
        return ()
    low, high = plan.whole_bins
    return (
        f"source_range: {plan.low:g}-{plan.high:g} keV cuts through energy bins of the events; the "
        f"template is for data binned to that range. For data on these bins give "
        f"[{low:.10g}, {high:.10g}]",
    )


def _against_observed(
    template: BackgroundTemplate | None, plan: TemplatePlan | None
) -> tuple[str, ...]:
    """A note where the norms were fitted to counts that the template does not describe."""
    if template is None or plan is None or plan.observed is None or plan.sky is not None:
        return ()
    from ..template.comparison import compare

    found = compare(template, plan.observed).projections
    bad = [
        f"{axis} chi2 {p.chi2:.0f} for {p.dof}, p = {p.p_value:.2g}"
        for axis, p in found.items()
        if p.p_value < LEVEL
    ]
    if not bad:
        return ()
    return (
        f"observed: the template does NOT describe the counts that its norms were fitted to "
        f"({'; '.join(bad)}): a source in them, or a wrong shape. Do not use these norms as the "
        "background's without sky",
    )


def _check_pipeline(plan: TemplatePlan | None) -> None:
    """Refuse a template that cosi-threemlfit could not read."""
    from ..consumers.programs import program_axes

    with naming("output.pipeline"):
        if plan is None:
            raise ConfigError("A background needs source_range, which is not given.")
        program_axes(plan.axes, plan.source_range, _time_range(plan))


def _time_range(plan: TemplatePlan) -> tuple[float, float] | None:
    """First and last Unix time [s] of events whose histogram has no Time axis of its own."""
    if "Time" in plan.events.labels:
        return None
    livetime = plan.events.livetime
    if livetime is None:
        raise DataError(
            "cosi-threemlfit needs the times of the events, which neither a Time axis nor a "
            "livetime in their file tells. Bin the event lists with an orientation file, or with "
            "time_edges."
        )
    return float(livetime.intervals.min()), float(livetime.intervals.max())


def program_background(
    config: Config, plan: TemplatePlan, template: BackgroundTemplate
) -> Histogram | None:
    """What cosi-threemlfit reads, if the configuration asks for it."""
    if not config.output.pipeline:
        return None
    with naming("output.pipeline"):
        return template.threemlfit_background(_time_range(plan))


def _require_counts(spectrum: EnergySpectrum) -> None:
    if spectrum.counts[spectrum.used].sum() > 0:
        return
    low, high = spectrum.edges[0], spectrum.edges[-1]
    where = "outside the mask" if spectrum.counts.sum() > 0 else f"from {low:g} to {high:g} keV"
    raise DataError(
        f"There is no count {where}, so that there is nothing to fit; give other events, "
        "or check energies, selections and mask."
    )


def _checked_model(config: Config, spectrum: EnergySpectrum) -> SpectralModel | None:
    """The model at its start, if it can be fitted to the spectrum; None with ``lines: auto``."""
    if config.model.faint_lines is not False:
        from ..lines.faint import asked_energies

        asked_energies(spectrum, config.model.faint_lines)
    if config.model.lines == "auto":
        from ..lines.search import check_search

        check_search(spectrum, **search_options(config))
        return None
    start = spectral_model(config, None, spectrum)
    check_fit(start, spectrum)
    return start


def _require_hidden_line(config: Config, options: TemplateOptions, start: SpectralModel) -> None:
    """Refuse a ratio to a line far from the source range, or to one that the model has already."""
    from ..template.amounts import SAME_LINE

    ratio = options.line_ratio
    if ratio is None or config.source_range is None:
        return
    low, high = config.source_range
    if not low - RATIO_REACH < ratio.line < high + RATIO_REACH:
        raise TemplateError(
            f"line_ratio names a line at {ratio.line:g} keV, of which nothing falls into the "
            f"source range {low:g}-{high:g} keV; correct its energy."
        )
    for energy in (start.parameters[start.components[i].energy].value for i in start.lines):
        if abs(energy - ratio.line) <= 0.5 * SAME_LINE:
            raise TemplateError(
                f"line_ratio names a line at {ratio.line:g} keV, but the model has one at "
                f"{energy:g} keV already; it would be counted twice. Leave out one of them."
            )


def _require_named_lines(options: TemplateOptions, start: SpectralModel) -> None:
    """Refuse lines that a template is to take from the fit, and that the fit cannot have."""
    from ..template.amounts import SAME_LINE
    from ..units import to_kev

    named = [("tracers", to_kev(energy, "tracer")) for energy in options.tracers or ()]
    if options.line_ratio is not None:
        named.append(("line_ratio", options.line_ratio.tracer))
    lines = [start.parameters[start.components[i].energy] for i in start.lines]
    for what, energy in named:
        if any(p.low - SAME_LINE <= energy <= p.high + SAME_LINE for p in lines):
            continue
        known = ", ".join(f"{p.value:g}" for p in lines) or "none"
        raise TemplateError(
            f"{what} names a line at {energy:g} keV, but no line of the model can come within "
            f"{SAME_LINE:g} keV of it; lines of the model: {known} keV. Add it to the model."
        )


def bin_config(config: Config, progress: Progress | None = None) -> BinnedEvents:
    """Bin the event lists that the configuration names."""
    from ..events.binning import bin_event_files

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
    from ..template.build import make_template

    with naming("template"):
        template = make_template(plan, fit, progress)
    return template.with_fit(with_p_value(template.fit, progress))  # with sky= it is another fit


def template_options(config: Config) -> TemplateOptions:
    """The options of the template that the configuration describes."""
    from ..template.options import TemplateOptions

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
    folder: Path,
    fit: LineBackgroundFit,
    template: BackgroundTemplate | None,
    for_program: Histogram | None = None,
) -> list[Path]:
    """fit.json, and for a template template.h5 and plain histpy files."""
    files = [folder / "fit.json"]
    fit.to_json(files[0], source_range=template.source_range if template else None)
    if template is not None:
        files.append(folder / "template.h5")
        template.write(files[-1])
        files.append(folder / "background.hdf5")
        template.write_histogram(files[-1])
        for label in template.labels:  # one at a time: each is as large as the template
            files.append(folder / f"background_{label}.hdf5")
            template.write_histogram(files[-1], label)
        if for_program is not None:
            from ..histograms.write import write_histogram

            files.append(folder / "background_threemlfit.hdf5")
            write_histogram(files[-1], for_program)
        if template.control_ranges is not None:
            files.append(folder / "control_ranges.json")
            with whole_file(files[-1]) as temporary:
                text = json.dumps(template.control_ranges.to_dict(), indent=1, allow_nan=False)
                temporary.write_text(text, encoding="utf-8")
    return files


def planned_files(config: Config, prepared: Prepared) -> list[str]:
    """Names of the files that `run` writes, if all goes well, in their order.

    "lines" is left out of the templates if the fit has no line with counts near the source range,
    control.png if no control range can be had; method auto writes "background", or the others.
    """
    figures = ["spectrum.png"]
    names = ["fit.json"]
    plan = prepared.plan
    if plan is not None:
        from ..template.axes import partial_sky
        from ..template.options import AUTO

        labels = ["background"]  # of one component; with method auto the three that there may be
        if plan.options.method == AUTO:
            labels = ["background", "continuum", "lines"]
        if plan.options.method == "components":
            has_lines = prepared.start is None or len(prepared.start.lines) > 0
            labels = ["continuum", "lines"] if has_lines else ["continuum"]
        names += ["template.h5", "background.hdf5"]
        names += [f"background_{label}.hdf5" for label in labels]
        names += ["background_threemlfit.hdf5"] if config.output.pipeline else []
        names += ["control_ranges.json"] if plan.options.validate else []
        axes = [axis.label for axis in plan.axes]
        figures += ["phi.png"] if "Phi" in axes else []
        if plan.n_bins > 1:
            figures += ["energies.png", *(["phi_energy.png"] if "Phi" in axes else [])]
        spheres = "PsiChi" in axes and not partial_sky(plan.axes["PsiChi"])
        figures += ["maps.png"] if spheres else []
        figures += ["weights.png"]
        figures += ["light_curve.png"] if plan.options.norms else []
        figures += ["filter_scores.png"] if plan.options.chooses_filter else []
        figures += ["control.png"] if plan.options.validate else []
    if config.engine == "bayesian":
        from ..show.posterior import has_corner

        figures += ["posterior.png", "predictive.png"] if has_corner() else ["predictive.png"]
    return [*names, *figures, "report.html"]


def drawn(figures: Iterable[tuple[str, Figure]]) -> dict[str, bytes]:
    """Each figure as a PNG: drawn once, for its file and for the report, one after the other."""
    from ..show.figure import rendered

    pictures = {}
    gc.freeze()  # so that only what a figure leaves is looked through
    try:
        for name, figure in figures:
            pictures[name] = rendered(figure)
            del figure
            gc.collect(0)  # some 10 MB that hold each other in circles
    finally:
        gc.unfreeze()
    return pictures


def _write_figures(folder: Path, figures: Mapping[str, bytes]) -> list[Path]:
    files = []
    for name, picture in figures.items():
        files.append(folder / f"{name}.png")
        with whole_file(files[-1]) as temporary:
            temporary.write_bytes(picture)
    return files


def _write_report(
    path: Path,
    config: Config,
    fit: LineBackgroundFit,
    template: BackgroundTemplate | None,
    rows: Sequence[Mapping[str, Any]],
    figures: Mapping[str, bytes],
    title: str,
    notes: Sequence[str],
) -> None:
    """report.html with all figures inside."""
    from ..show.report import write_report

    write_report(
        path,
        fit=fit,
        template=template,
        config_text=config.to_yaml(),
        comparison=rows,
        figures=figures,
        title=title,
        notes=notes,
    )


def _figures(
    fit: LineBackgroundFit, template: BackgroundTemplate | None, observed: EventHistogram | None
) -> Iterator[tuple[str, Figure]]:
    """The figures of a run, by the names of their files; each is made when it is asked for."""
    from ..show.spectrum import plot_spectrum

    yield "spectrum", plot_spectrum(fit, template=template, names=True)
    if template is not None:
        yield from _template_figures(template, observed)
    if fit.samples is not None:
        from ..show.posterior import has_corner, plot_corner, plot_predictive

        source_range = None if template is None else template.source_range
        if has_corner():
            yield "posterior", plot_corner(fit, source_range=source_range)
        yield "predictive", plot_predictive(fit)


def _template_figures(
    template: BackgroundTemplate, observed: EventHistogram | None
) -> Iterator[tuple[str, Figure]]:
    """The figures of a template, in the order of the report."""
    from ..show.energy import plot_energies, plot_phi_against_energy
    from ..show.figure import sum_to
    from ..show.maps import plot_maps
    from ..show.template import plot_filter_scores, plot_projection, plot_weights
    from ..template.axes import partial_sky

    axes = template.event_axes
    seen = None if observed is None else template.counts_on_axes(observed)
    if "Phi" in axes.labels:
        along = None if seen is None else sum_to(seen, [str(x) for x in axes.labels], "Phi")
        yield "phi", plot_projection(template, "Phi", observed=along)
    if template.several_bins:
        yield "energies", plot_energies(template, observed=seen)
        if "Phi" in axes.labels:
            yield "phi_energy", plot_phi_against_energy(template, observed=seen)
    if "PsiChi" in axes.labels and not partial_sky(axes["PsiChi"]):
        yield "maps", plot_maps(template, observed=observed)
    yield "weights", plot_weights(template)
    if template.record.time_course is not None:
        from ..show.lightcurve import plot_light_curve

        yield "light_curve", plot_light_curve(template)
    if template.record.filter_scores:
        yield "filter_scores", plot_filter_scores(template)
    if template.control_ranges is not None and template.control_ranges.ranges:
        from ..show.control import plot_control_ranges

        yield "control", plot_control_ranges(template.control_ranges, template.source_range)
