"""LineBackgroundLike: the background spectrum as a threeML plugin."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from astromodels import Model
from astromodels.core.parameter import Parameter as AstroParameter
from numpy.typing import NDArray
from threeML.plugin_prototype import PluginPrototype

from .consumers.draws import Draws, Seed
from .errors import FitError, LineBackgroundError, LineBackgroundWarning, ModelError
from .fit.guess import guess_values
from .fit.minimise import check_degrees_of_freedom, fit_spectrum, from_best
from .fit.objective import Objective
from .fit.result import LineBackgroundFit
from .io.tables import to_html
from .lines.faint import asked_energies, marginalise_faint
from .model.build import DEFAULT_SOURCE
from .model.copies import drop_words_on_defaults
from .model.nuisance import nuisance_parameters, originals, simulated_parameters
from .model.read import SpectrumReader, set_value, shape_of, spectrum_of
from .options import takes_options
from .spectrum.axis import EnergySpectrum, check_edges
from .spectrum.components import Parameter, SpectralModel
from .spectrum.statistic import saturated_log_likelihood
from .template.amounts import LABELS, LineRatio, SourceAmounts
from .template.axes import observed_counts
from .template.build import make_template, validate_template
from .template.control import ControlRanges
from .template.options import TemplateOptions
from .template.plan import plan_for_fit
from .template.template import BackgroundTemplate
from .units import in_kev, ranges_in_kev

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from threeML import BayesianAnalysis, JointLikelihood


#: A session ends above the direct fit by less than this in -2 log L where it has converged; by
#: more than 1, it is more than a standard error away from the optimum.
_LOWER_MINIMUM, _ANOTHER_MINIMUM = 0.1, 1.0


class LineBackgroundLike(PluginPrototype):  # type: ignore[misc]
    """Poisson likelihood of the energies around a line, for any threeML session.

    Parameters
    ----------
    name : str
        A Python identifier, unique in the DataList.
    events : path, histpy.Histogram, EnergySpectrum, (edges, counts), or a list of the first two
        The event histogram with an Em axis; a list is summed. For a spectrum alone: a text file, or
        edges (keV or a quantity, shape (n_bins + 1,)) and counts, shape (n_bins,).
    source : str
        The source of the model whose spectrum describes the background.
    spectrum : astromodels function or Model, optional
        The spectrum itself. Copies of its parameters, as they are now, are then nuisance
        parameters of the plugin (``<name>_K_1`` ...), and the session's model needs no source for
        it: for sessions whose other plugins refuse a ParticleSource. A BayesianAnalysis needs
        priors on them. `fit` and `result` write the values back into the function.

    Raises
    ------
    LineBackgroundError
        Before any work, naming what is wrong with the input.
    """

    def __init__(
        self,
        name: str,
        events: Any,
        *,
        source: str = DEFAULT_SOURCE,
        spectrum: Any = None,
    ) -> None:
        if not (isinstance(name, str) and name.isidentifier()) or name == "total":
            raise LineBackgroundError(
                "A plugin's name must be of letters, digits and _, and not total, as threeML calls "
                f"the sum of all plugins; got {name!r}."
            )
        drop_words_on_defaults()
        self._events, self._spectrum = _read_events(events)
        if self._events is not None and self._events.weight_note:
            warnings.warn(self._events.weight_note, LineBackgroundWarning, stacklevel=2)
        self._source = source
        self._shape = None if spectrum is None else shape_of(spectrum)
        self._inherited: tuple[str, ...] = ()
        self._model: Model | None = None
        self._reader: SpectrumReader | None = None
        self._objective: Objective | None = None
        self._amounts: dict[Any, SourceAmounts] = {}
        self._draws = Draws()
        nuisance = {} if self._shape is None else nuisance_parameters(name, self._shape)
        super().__init__(name, nuisance)
        self._saturated = saturated_log_likelihood(self._spectrum.counts[self._spectrum.used])

    def __repr__(self) -> str:
        s, n = self._spectrum, int(self._spectrum.used.sum())
        masked = ", ".join(f"{low:.6g}-{high:.6g}" for low, high in s.masked_ranges())
        given = "nuisance parameters" if self._shape is not None else f"source {self._source!r}"
        return (
            f"LineBackgroundLike({self.name!r}, {n} of {s.n_bins} energy bins fitted, "
            f"{s.edges[0]:.6g}-{s.edges[-1]:.6g} keV, {s.counts[s.used].sum():.0f} counts, "
            f"masked {masked + ' keV' if masked else 'nothing'}, spectrum from {given})"
        )

    def _repr_html_(self) -> str:
        model = "no model yet: set_model, or fit(model)"
        if self._reader is not None:
            read = self._reader.model
            n = len(read.lines)
            lines = f"{n} line{'' if n == 1 else 's'}"
            model = f"model with {lines}, {len(read.free)} free parameters"
        events = [] if self._events is None else [repr(self._events)]
        return to_html(repr(self), text=[*events, model])

    # --- data ------------------------------------------------------------------------------------

    @property
    def spectrum(self) -> EnergySpectrum:
        """The energy spectrum and its mask."""
        return self._spectrum

    @property
    def events(self) -> Any:
        """The event histogram, an `EventHistogram`; None if only a spectrum was given."""
        return self._events

    def set_mask(self, *ranges: Sequence[Any]) -> None:
        """Leave energy ranges out of the fit; this replaces the mask, no argument clears it.

        Parameters
        ----------
        *ranges : (low, high)
            Quantities of any energy unit, or numbers in keV; or one list of such ranges. A bin is
            excluded when it overlaps a range, not when it merely touches it.
        """
        self._spectrum = self._spectrum.with_mask(ranges_in_kev(ranges, "mask"))
        self._saturated = saturated_log_likelihood(self._spectrum.counts[self._spectrum.used])
        if self._reader is not None:
            self._objective = Objective(self._reader.model, self._spectrum)

    def seed(self, seed: Seed = None) -> None:
        """Seed what draws the simulated data sets.

        Parameters
        ----------
        seed : int, SeedSequence, BitGenerator or Generator, optional
            The same seed gives the same data sets. A copy of the plugin (pickle, deepcopy, another
            process) does not go on with it: it draws others; seed it itself where needed.
        """
        self._draws = Draws(seed)

    # --- threeML ---------------------------------------------------------------------------------

    def set_model(self, likelihood_model_instance: Model) -> None:
        """Read the spectrum out of a model; called again for every model of a session."""
        self._model = likelihood_model_instance
        for name in self._inherited:
            # left behind by the plugin that this one was simulated from
            if name in likelihood_model_instance.parameters:
                likelihood_model_instance.remove_external_parameter(name)
        self._reader = self._read(likelihood_model_instance)
        self._amounts = {}
        self._objective = Objective(self._reader.model, self._spectrum)

    def get_model(self) -> NDArray[np.float64]:
        """Expected counts per energy bin at the current parameters, shape (n_bins,)."""
        reader, objective = self._bound()
        return objective.bound.counts(reader.values())

    def get_log_like(self) -> float:
        """Poisson log-likelihood of the unmasked bins, with its constant term."""
        reader, objective = self._bound()
        return self._saturated - objective.value(reader.values())

    def inner_fit(self) -> float:
        """The log-likelihood: nuisance parameters are fitted by the session."""
        return self.get_log_like()

    def get_number_of_data_points(self) -> int:
        """Unmasked energy bins."""
        return int(self._spectrum.used.sum())

    def get_simulated_dataset(
        self, new_name: str | None = None, **kwargs: Any
    ) -> LineBackgroundLike:
        """A new plugin with counts drawn from the current model; the mask is kept.

        Parameters
        ----------
        new_name : str, optional
        """
        expected = self.get_model()
        counts = self._draws.generator.poisson(np.maximum(expected, 0.0)).astype(float)
        simulated = LineBackgroundLike(
            new_name or f"{self.name}_sim",
            EnergySpectrum(self._spectrum.edges, counts, self._spectrum.mask),
            source=self._source,
            spectrum=self._shape,
        )
        simulated_parameters(simulated.nuisance_parameters, self.nuisance_parameters)
        simulated._inherited = tuple(self.nuisance_parameters)
        simulated._draws = self._draws.child()
        return simulated

    def display_model(self, **kwargs: Any) -> Figure:
        """The spectrum with the current model, as a matplotlib Figure."""
        from .show.spectrum import plot_spectrum

        reader, _ = self._bound()
        fit = LineBackgroundFit(
            reader.current_model(), self._spectrum, reader.values(), (), np.zeros((0, 0))
        )
        return plot_spectrum(fit, **kwargs)

    def check_model(self, model: Model) -> None:
        """Refuse a model that this plugin cannot fit, without any work.

        Raises
        ------
        ModelError
            No source of the plugin's name, or more free parameters than unmasked bins.
        """
        self._read(model)

    # --- fits ------------------------------------------------------------------------------------

    def guess(self, model: Model | None = None) -> None:
        """Set the free parameters to where a session should start; limits are kept.

        All but one: a tail may not grow longer than the direct fit lets it (6 widths of its line).
        That is the optimum of `fit`, from which a JointLikelihood of several lines arrives and,
        from further away, often does not. Where the direct fit finds no valid minimum, or a
        line lies in the mask, it is what that fit starts from: a continuum, and lines placed one
        by one.

        Parameters
        ----------
        model : astromodels.Model, optional
            Default: the model of the session.
        """
        reader = self._reader_for(model)
        start = reader.current_model()
        best = self._direct(start)
        reader.set_values(guess_values(start, self._spectrum) if best is None else _off_zero(best))
        if best is not None:
            reader.set_upper_limits(best.model)
        self._write_back()

    def fit(
        self,
        model: Model | None = None,
        *,
        minos: bool = False,
        faint_lines: bool | Sequence[Any] = False,
    ) -> LineBackgroundFit:
        """The optimum of a JointLikelihood with this plugin alone, without threeML's loop.

        Parameters
        ----------
        model : astromodels.Model, optional
            Default: the model of the session. It is left at the optimum. Priors act here: it is
            the maximum of the likelihood times the priors' densities in the parameters as they
            are (K, not its logarithm). A JointLikelihood ignores priors.
        minos : bool
            Add profile-likelihood errors.
        faint_lines : bool or sequence of energies
            True marginalises lines of the catalogue that the counts do not show, energies (keV, or
            quantities) those lines as well; see docs/lines.md. The model is left at the optimum
            without them.

        Raises
        ------
        LineBackgroundError
            For minos together with faint_lines, which it knows nothing of.
        ModelError
            For what is neither True, False nor energies inside the axis.
        FitError
            If no valid minimum is found; ``error.result`` holds what was reached, and the model
            is left as it was.
        """
        if minos and faint_lines is not False:
            raise LineBackgroundError(
                "MINOS's errors know nothing of faint lines; leave out minos, or faint_lines."
            )
        asked_energies(self._spectrum, faint_lines)
        reader = self._reader_for(model)
        fit = fit_spectrum(reader.current_model(), self._spectrum, minos=minos)
        found = marginalise_faint(fit, faint_lines)
        reader.set_values(fit.theta)
        self._write_back()
        return found

    def result(
        self,
        analysis: JointLikelihood | BayesianAnalysis,
        *,
        faint_lines: bool | Sequence[Any] = False,
    ) -> LineBackgroundFit:
        """The background part of a finished JointLikelihood or BayesianAnalysis.

        Parameters
        ----------
        analysis : threeML.JointLikelihood or threeML.BayesianAnalysis
            This plugin must be in its data list.
        faint_lines : bool or sequence of energies
            As of `fit`, for a JointLikelihood of this plugin alone.

        Returns
        -------
        LineBackgroundFit
            With the covariance of the fit, or with the posterior samples. A JointLikelihood is
            compared with the direct fit: the result is not valid where that finds a minimum of
            the session that is lower by more than 1 in -2 log L, and takes its exact covariance
            where threeML's is wrong and no other plugin takes part; ``message`` says so.

        Raises
        ------
        LineBackgroundError
            If there is nothing to read yet, or the mask has changed since a JointLikelihood was
            fitted.
        """
        asked_energies(self._spectrum, faint_lines)
        bayesian = analysis.analysis_type == "bayesian"
        if faint_lines is not False and (bayesian or len(analysis.data_list.values()) > 1):
            raise LineBackgroundError(
                "faint_lines are marginalised on the energy spectrum alone, on top of a "
                "JointLikelihood with no other plugin; leave them out, or use plugin.fit(model)."
            )
        if analysis.results is None:
            raise LineBackgroundError("The analysis has no result yet: call its fit() or sample().")
        if self not in analysis.data_list.values():
            raise LineBackgroundError(
                f"The plugin {self.name!r} is not in the analysis' data list "
                f"({', '.join(analysis.data_list.keys())})."
            )
        reader = self._read(analysis.likelihood_model)
        free, columns = _columns(analysis, reader)
        if bayesian:
            return self._of_samples(analysis, reader, free, columns)
        analysis.restore_best_fit()
        likelihood = self._saturated - Objective(reader.model, self._spectrum).value(
            reader.values()
        )
        fitted = float(analysis.results.get_statistic_frame().loc[self.name].iloc[0])
        if abs(likelihood + fitted) > 1e-3 + 1e-6 * abs(fitted):
            raise LineBackgroundError(
                "The mask, the data or the model have changed since the analysis was fitted; fit "
                "it again."
            )
        self._write_back()
        found = self._checked(self._of_optimum(analysis, reader, free, columns), analysis, reader)
        return marginalise_faint(found, faint_lines) if found.valid else found

    # --- template --------------------------------------------------------------------------------

    def source_counts(
        self, source_range: Sequence[Any], *, line_ratio: Any = None
    ) -> dict[str, float]:
        """Expected background counts in a range at the session's current parameters.

        Parameters
        ----------
        source_range : (low, high)
            Anywhere inside the energy axis.
        line_ratio : mapping, optional
            As of `background_template`: adds a line to "lines".

        Returns
        -------
        dict
            "continuum" and "lines".
        """
        amounts, theta = self._source_amounts(source_range, line_ratio)
        return dict(zip(LABELS, amounts.counts(theta).tolist(), strict=True))

    def source_counts_per_bin(
        self, energy_edges: Any, *, line_ratio: Any = None
    ) -> dict[str, NDArray[np.float64]]:
        """As `source_counts` for each of some energy bins.

        Parameters
        ----------
        energy_edges : array_like or Quantity, shape (n_bins + 1,), keV
        line_ratio : mapping, optional
            As of `source_counts`.

        Returns
        -------
        dict
            "continuum" and "lines", each of shape (n_bins,).
        """
        bins = check_edges(energy_edges)
        amounts, theta = self._source_amounts((bins[0], bins[-1]), line_ratio)
        return dict(zip(LABELS, amounts.counts_per_bin(theta, bins), strict=True))

    def _source_amounts(
        self, source_range: Sequence[Any], line_ratio: Any
    ) -> tuple[SourceAmounts, NDArray[np.float64]]:
        """The amounts of a range, and the session's current parameters."""
        reader, _ = self._bound()
        theta, ratio = reader.values(), LineRatio.of(line_ratio)
        key = (*in_kev(source_range, "source range"), ratio)
        if key not in self._amounts:
            edges = self._spectrum.edges
            self._amounts[key] = SourceAmounts(reader.model, theta, edges, key[:2], ratio)
        return self._amounts[key], theta

    def observed_counts(self, source_range: Sequence[Any]) -> Any:
        """The events of the source range, on the axes of a template for it.

        Parameters
        ----------
        source_range : (low, high)
            On edges of the energy axis: events within a bin cannot be told apart.

        Returns
        -------
        histpy.Histogram
            Dense counts; the events' own axes, Em with one bin. What `observed=`, `fit_norms` and
            a likelihood of the source range take.
        """
        if self._events is None:
            raise LineBackgroundError(
                "The plugin was given a spectrum alone; give it the event histogram."
            )
        return observed_counts(self._events, source_range)

    @takes_options(TemplateOptions)
    def background_template(
        self, fit: LineBackgroundFit, source_range: Sequence[Any], options: TemplateOptions
    ) -> BackgroundTemplate:
        """Carry the distribution of adjacent energies into the source range.

        Energies are quantities, or numbers in keV.

        Parameters
        ----------
        fit : LineBackgroundFit
            The fitted spectrum, which sets the number of counts.
        source_range : (low, high)
            Anywhere inside the energy axis.
        {options}

        Raises
        ------
        LineBackgroundError
            Before any work, naming what is wrong: sidebands that overlap the source range, a
            range outside the axis or without a whole bin, a fit of another spectrum ...
        """
        if self._events is None:
            raise LineBackgroundError(
                "The plugin was given a spectrum alone; a template needs the event histogram."
            )
        plan = plan_for_fit(self._events, fit, source_range, options)
        return make_template(plan, fit)

    def validate(self, template: BackgroundTemplate) -> ControlRanges:
        """Try a template's recipe where the counts are known to be background: on control ranges.

        Up to twelve pseudo source ranges, as wide as the source range, at energies left and right
        that hold no strong line. For each the spectrum is fitted without it, and a template made
        as the real one was (method, window, filter, order); it is compared with the counts
        there. The template keeps the result, and its covariance, with `norm_constraint`, includes
        the error of the amount that was measured where it is larger than the systematic error of
        the spectral fit.

        Parameters
        ----------
        template : BackgroundTemplate
            Of these events.

        Returns
        -------
        ControlRanges
            Print it for the table, and whether the template may be used.

        Raises
        ------
        TemplateError
            If it was not made from these events, or with sky=, which needs ``validate=True`` when
            it is made.
        """
        if self._events is None:
            raise LineBackgroundError(
                "The plugin was given a spectrum alone; a template needs the event histogram."
            )
        return validate_template(self._events, template)

    # --- inside ----------------------------------------------------------------------------------

    def _of_samples(
        self,
        analysis: BayesianAnalysis,
        reader: SpectrumReader,
        free: list[int],
        columns: list[int],
    ) -> LineBackgroundFit:
        """The result of a BayesianAnalysis: medians and their covariance."""
        paths = list(analysis.likelihood_model.free_parameters)
        samples = np.column_stack([analysis.samples[paths[k]] for k in columns])
        theta = reader.values()
        theta[free] = np.median(samples, axis=0)
        return LineBackgroundFit(
            reader.current_model(),
            self._spectrum,
            reader.model.resolve(theta),
            tuple(reader.model.parameters[i].name for i in free),
            np.atleast_2d(np.cov(samples.T)),
            engine="bayesian",
            samples=samples,
            shared_with=self._sharing(analysis, columns),
        )

    def _of_optimum(
        self, analysis: JointLikelihood, reader: SpectrumReader, free: list[int], columns: list[int]
    ) -> LineBackgroundFit:
        """The result of a JointLikelihood, with threeML's covariance matrix."""
        model, theta = reader.model, reader.values()
        internal = np.asarray(analysis.covariance_matrix, dtype=float)
        if internal.ndim == 2:
            slopes = np.array([_external_slope(reader.sources[i]) for i in free])
            covariance = internal[np.ix_(columns, columns)] * np.outer(slopes, slopes)
        else:  # what threeML leaves where it found none
            covariance = np.full((len(columns), len(columns)), np.nan)
        kept = [k for k, i in enumerate(free) if not _at_limit(model.parameters[i], theta[i])]
        names = [model.parameters[i].name for i in free]
        covariance = covariance[np.ix_(kept, kept)]
        valid = bool(np.all(np.isfinite(covariance)) and np.all(np.diag(covariance) > 0))
        return LineBackgroundFit(
            reader.current_model(),
            self._spectrum,
            theta,
            tuple(names[k] for k in kept),
            covariance,
            valid=valid,
            engine="joint_likelihood",
            at_limits=tuple(name for k, name in enumerate(names) if k not in kept),
            message="" if valid else "threeML's covariance matrix is not positive definite",
            shared_with=self._sharing(analysis, columns),
        )

    def _sharing(
        self, analysis: JointLikelihood | BayesianAnalysis, columns: list[int]
    ) -> tuple[str, ...]:
        """Names of other spectra of a session that tell some of the same free parameters."""
        spectra = [p for p in analysis.data_list.values() if isinstance(p, LineBackgroundLike)]
        return tuple(
            p.name
            for p in spectra
            if p is not self
            and set(columns) & set(_columns(analysis, p._read(analysis.likelihood_model))[1])
        )

    def _checked(
        self, result: LineBackgroundFit, analysis: JointLikelihood, reader: SpectrumReader
    ) -> LineBackgroundFit:
        """Hold a session's result against the direct fit: its minimum and its covariance matrix.

        The session's other plugins and their parameters stay as they are; what the direct fit
        finds is better only if the likelihood of the whole session is.
        """
        if reader.free_laws:
            return replace(
                result,
                message=result.message
                or f"the law that {', '.join(reader.free_laws)} follows has free parameters, whose "
                "errors are not in those of expected counts",
            )
        direct = self._direct(from_best(replace(result, model=reader.model)))
        if direct is None:
            return result
        plugins = list(analysis.data_list.values())
        reader.set_values(direct.theta)
        reached = -sum(float(p.get_log_like()) for p in plugins)
        analysis.restore_best_fit()
        self._write_back()
        gain = 2.0 * (float(analysis.current_minimum) - reached)
        if gain > _LOWER_MINIMUM:
            return replace(
                result,
                valid=result.valid and gain < _ANOTHER_MINIMUM,
                message=f"a lower minimum exists: -2 log L is {gain:.2f} lower where the direct "
                f"fit ends ({_moved(result, direct)}); start the session there with "
                "plugin.guess(model)",
            )
        alone = len(plugins) == 1 and result.covariance_names == direct.covariance_names
        if not (alone and result.valid) or _same_matrix(result.covariance, direct.covariance):
            return result
        return replace(
            result,
            covariance=direct.covariance,
            message="threeML's covariance matrix is wrong for this fit; the errors are from the "
            "exact second derivatives instead",
        )

    def _direct(self, model: SpectralModel) -> LineBackgroundFit | None:
        """The direct fit, or None if it finds no valid minimum or refuses the model."""
        try:
            return fit_spectrum(model, self._spectrum)
        except (FitError, ModelError):
            return None

    def _read(self, model: Model) -> SpectrumReader:
        if self._shape is None:
            reader = spectrum_of(model, self._source)
        else:
            nuisance = self.nuisance_parameters
            substitutes = {
                id(p): nuisance[key] for key, p in originals(self.name, self._shape).items()
            }
            reader = SpectrumReader([self._shape], substitutes)
        check_degrees_of_freedom(reader.model, self._spectrum)
        return reader

    def _write_back(self) -> None:
        """Give the values of the nuisance parameters to the function that they stand in for."""
        if self._shape is None:
            return
        nuisance = self.nuisance_parameters
        for key, parameter in originals(self.name, self._shape).items():
            if parameter.free:
                set_value(parameter, nuisance[key].value)

    def _reader_for(self, model: Model | None) -> SpectrumReader:
        reader = self._bound()[0] if model is None else self._read(model)
        reader.check_direct()
        return reader

    def _bound(self) -> tuple[SpectrumReader, Objective]:
        if self._reader is None or self._objective is None:
            raise ModelError(
                f"The plugin {self.name!r} has no model yet; call set_model, or put it into a "
                "JointLikelihood."
            )
        return self._reader, self._objective


def _read_events(events: Any) -> tuple[Any, EnergySpectrum]:
    """The event histogram (None for a bare spectrum) and its energy spectrum."""
    if isinstance(events, EnergySpectrum):
        return None, events
    is_pair = isinstance(events, tuple) and len(events) == 2
    if is_pair and not hasattr(events[0], "axes"):
        edges = events[0]  # numpy makes no array of a list of quantities
        if isinstance(edges, list | tuple) or np.ndim(edges) == 1:
            return None, EnergySpectrum(*events)
    from .histograms.read import open_events

    histogram = open_events(events)
    return histogram, EnergySpectrum(histogram.energy_edges, histogram.energy_counts())


def _at_limit(parameter: Parameter, value: float) -> bool:
    """True where threeML's fit, which never quite reaches a limit, ended at one."""
    near = 1e-6 * max(abs(value), 1e-3)
    return value - parameter.low <= near or parameter.high - value <= near


def _external_slope(parameter: AstroParameter) -> float:
    """Slope d value / d internal value: threeML's covariance is that of log10 K, not of K.

    astromodels keeps the internal value even where its transformations are switched off.
    """
    transformation = parameter._transformation
    if transformation is None:
        return 1.0
    x = parameter._get_internal_value()
    rise = transformation.backward(x + 1e-5) - transformation.backward(x - 1e-5)
    return float(rise / 2e-5)


def _centred(
    model: SpectralModel, theta: NDArray[np.float64], lines: Iterable[int]
) -> NDArray[np.float64]:
    """`theta` with the free energies of some lines in the middle of their limits."""
    theta = theta.copy()
    for c in (model.components[i] for i in lines):
        p = model.parameters[c.energy]
        if p.free and np.isfinite(p.high - p.low):
            theta[c.energy] = 0.5 * (p.low + p.high)
    return theta


def _off_zero(fit: LineBackgroundFit) -> NDArray[np.float64]:
    """Values of a fit, with the lines that ended at 0 moved to where MINUIT can start.

    At 0 a line's energy has no gradient. These lines get a tenth of the noise of a bin.
    """
    model, spectrum = fit.model, fit.spectrum
    absent = [
        i
        for i in model.lines
        if model.parameters[model.components[i].area].free
        and fit.theta[model.components[i].area] == 0.0
    ]
    theta = _centred(model, fit.theta, absent)
    for i in absent:
        c = model.components[i]
        at = np.clip(np.searchsorted(spectrum.edges, theta[c.energy]) - 1, 0, spectrum.n_bins - 1)
        noise = np.sqrt(max(float(fit.expected_total[at]), 1.0))
        theta[c.area] = min(0.1 * noise, model.parameters[c.area].high)
    return theta


def _columns(
    analysis: JointLikelihood | BayesianAnalysis, reader: SpectrumReader
) -> tuple[list[int], list[int]]:
    """Slots of the spectrum's free parameters, and their places among the session's."""
    at = {id(p): k for k, p in enumerate(analysis.likelihood_model.free_parameters.values())}
    free = [i for i, p in enumerate(reader.model.parameters) if p.free]
    missing = [reader.model.parameters[i].name for i in free if id(reader.sources[i]) not in at]
    if missing:
        raise LineBackgroundError(
            f"The analysis did not vary {', '.join(missing)}; its model has changed since."
        )
    return free, [at[id(reader.sources[i])] for i in free]


def _moved(result: LineBackgroundFit, direct: LineBackgroundFit) -> str:
    """The parameter that differs most between two fits, in standard errors, as text."""
    errors = direct.errors
    shifts = {n: abs(direct.values[n] - result.values[n]) / e for n, e in errors.items()}
    name = max(shifts, key=lambda n: shifts[n])
    return f"{name} = {direct.values[name]:.6g} instead of {result.values[name]:.6g}"


def _same_matrix(one: NDArray[np.float64], exact: NDArray[np.float64]) -> bool:
    """True where no combination of parameters has errors that differ by more than 10 %."""
    errors = np.sqrt(np.diag(exact))
    scale = np.outer(errors, errors)
    root = np.linalg.cholesky(exact / scale)
    whitened = np.linalg.solve(root, np.linalg.solve(root, one / scale).T)
    ratios = np.linalg.eigvalsh(0.5 * (whitened + whitened.T))
    return bool(ratios[0] > 0.9**2 and ratios[-1] < 1.1**2)
