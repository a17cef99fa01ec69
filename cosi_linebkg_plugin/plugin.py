"""LineBackgroundLike: the background spectrum as a threeML plugin."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from astromodels import Model
from astromodels.core.parameter import Parameter as AstroParameter
from numpy.typing import NDArray
from threeML.plugin_prototype import PluginPrototype

from .errors import LineBackgroundError, ModelError
from .fit.guess import guess_values
from .fit.minimise import check_degrees_of_freedom, fit_spectrum
from .fit.objective import Objective
from .fit.result import LineBackgroundFit
from .model.build import DEFAULT_SOURCE
from .model.read import SpectrumReader, shape_of, spectrum_of
from .spectrum.axis import EnergySpectrum
from .spectrum.components import Parameter
from .spectrum.statistic import saturated_log_likelihood
from .template.amounts import LABELS, LineRatio, SourceAmounts
from .template.build import make_template, observed_counts
from .template.options import TemplateOptions
from .template.template import BackgroundTemplate
from .units import in_kev


class LineBackgroundLike(PluginPrototype):
    """Poisson likelihood of the energies around a line, for any threeML session.

    Parameters
    ----------
    name : str
        A Python identifier, unique in the DataList.
    events : path, histpy.Histogram, EnergySpectrum, (edges, counts), or a list of the first two
        The event histogram with an Em axis; a list is summed. For a spectrum alone: edges (keV
        or a quantity, shape (n_bins + 1,)) and counts, shape (n_bins,).
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
    ):
        if not (isinstance(name, str) and name.isidentifier()):
            raise LineBackgroundError(
                f"A plugin's name must be of letters, digits and _, got {name!r}."
            )
        self._events, self._spectrum = _read_events(events)
        self._source = source
        self._shape = None if spectrum is None else shape_of(spectrum)
        self._inherited: tuple[str, ...] = ()
        self._model: Model | None = None
        self._reader: SpectrumReader | None = None
        self._objective: Objective | None = None
        self._amounts: dict[Any, SourceAmounts] = {}
        self._rng = np.random.default_rng()
        nuisance: dict[str, AstroParameter] = {}
        if self._shape is not None:
            nuisance = _nuisance_parameters(name, self._shape)
        super().__init__(name, nuisance)
        self._saturated = saturated_log_likelihood(self._spectrum.counts[self._spectrum.used])

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
            Quantities of any energy unit, or numbers in keV. A bin is excluded when it overlaps
            a range, not when it merely touches it.
        """
        self._spectrum = self._spectrum.with_mask([in_kev(r, "mask") for r in ranges])
        self._saturated = saturated_log_likelihood(self._spectrum.counts[self._spectrum.used])
        if self._reader is not None:
            self._objective = Objective(self._reader.model, self._spectrum)

    def seed(self, seed: Any) -> None:
        """Seed (or replace by a numpy Generator) what draws the simulated data sets."""
        self._rng = np.random.default_rng(seed)

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

    def get_simulated_dataset(self, new_name: str | None = None, **kwargs: Any):
        """A new plugin with counts drawn from the current model; the mask is kept.

        Parameters
        ----------
        new_name : str, optional
        """
        expected = self.get_model()
        counts = self._rng.poisson(np.maximum(expected, 0.0)).astype(float)
        simulated = LineBackgroundLike(
            new_name or f"{self.name}_sim",
            EnergySpectrum(self._spectrum.edges, counts, self._spectrum.mask),
            source=self._source,
            spectrum=self._shape,
        )
        for new, old in zip(
            simulated.nuisance_parameters.values(), self.nuisance_parameters.values(), strict=True
        ):
            new.value = old.value
        simulated._inherited = tuple(self.nuisance_parameters)
        simulated.seed(self._rng.spawn(1)[0])
        return simulated

    def display_model(self, **kwargs: Any):
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
        """Set the free parameters to start values found in the data; limits are kept.

        Parameters
        ----------
        model : astromodels.Model, optional
            Default: the model of the session.
        """
        reader = self._reader_for(model)
        reader.set_values(guess_values(reader.current_model(), self._spectrum))

    def fit(self, model: Model | None = None, *, minos: bool = False) -> LineBackgroundFit:
        """The optimum of a JointLikelihood with this plugin alone, without threeML's loop.

        Parameters
        ----------
        model : astromodels.Model, optional
            Default: the model of the session. It is left at the optimum. Priors act here: it is
            the maximum of the likelihood times the priors' densities in the parameters as they
            are (K, not its logarithm). A JointLikelihood ignores priors.
        minos : bool
            Add profile-likelihood errors.

        Raises
        ------
        FitError
            If no valid minimum is found; ``error.result`` holds what was reached, and the model
            is left as it was.
        """
        reader = self._reader_for(model)
        fit = fit_spectrum(reader.current_model(), self._spectrum, minos=minos)
        reader.set_values(fit.theta)
        self._write_back()
        return fit

    def result(self, analysis: Any) -> LineBackgroundFit:
        """The background part of a finished JointLikelihood or BayesianAnalysis.

        Parameters
        ----------
        analysis : threeML.JointLikelihood or threeML.BayesianAnalysis
            This plugin must be in its data list.

        Returns
        -------
        LineBackgroundFit
            With the covariance of the fit, or with the posterior samples.

        Raises
        ------
        LineBackgroundError
            If there is nothing to read yet, or the mask has changed since a JointLikelihood was
            fitted.
        """
        if analysis.results is None:
            raise LineBackgroundError("The analysis has no result yet: call its fit() or sample().")
        if self not in analysis.data_list.values():
            raise LineBackgroundError(
                f"The plugin {self.name!r} is not in the analysis' data list "
                f"({', '.join(analysis.data_list.keys())})."
            )
        bayesian = analysis.analysis_type == "bayesian"
        model = analysis.likelihood_model
        reader = self._read(model)
        paths = list(model.free_parameters)
        at = {id(p): k for k, p in enumerate(model.free_parameters.values())}
        free = [i for i, p in enumerate(reader.model.parameters) if p.free]
        missing = [reader.model.parameters[i].name for i in free if id(reader.sources[i]) not in at]
        if missing:
            raise LineBackgroundError(
                f"The analysis did not vary {', '.join(missing)}; its model has changed since."
            )
        columns = [at[id(reader.sources[i])] for i in free]
        names = tuple(reader.model.parameters[i].name for i in free)
        if bayesian:
            samples = np.column_stack([analysis.samples[paths[k]] for k in columns])
            theta = reader.values()
            theta[free] = np.median(samples, axis=0)
            covariance = np.atleast_2d(np.cov(samples.T))
            return LineBackgroundFit(
                reader.current_model(), self._spectrum, theta, names, covariance,
                engine="bayesian", samples=samples,
            )  # fmt: skip
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
        slopes = np.array([_external_slope(reader.sources[i]) for i in free])
        internal = np.asarray(analysis.covariance_matrix, dtype=float)
        if internal.ndim == 2:
            covariance = internal[np.ix_(columns, columns)] * np.outer(slopes, slopes)
        else:  # what threeML leaves where it found none
            covariance = np.full((len(columns), len(columns)), np.nan)
        self._write_back()
        theta = reader.values()
        kept = [
            k for k, i in enumerate(free) if not _at_limit(reader.model.parameters[i], theta[i])
        ]
        at_limits = tuple(name for k, name in enumerate(names) if k not in kept)
        covariance = covariance[np.ix_(kept, kept)]
        valid = bool(np.all(np.isfinite(covariance)) and np.all(np.diag(covariance) > 0))
        return LineBackgroundFit(
            reader.current_model(), self._spectrum, theta, tuple(names[k] for k in kept),
            covariance, valid=valid, engine="joint_likelihood", at_limits=at_limits,
            message="" if valid else "threeML's covariance matrix is not positive definite",
        )  # fmt: skip

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
        reader, _ = self._bound()
        theta, ratio = reader.values(), LineRatio.of(line_ratio)
        key = (*in_kev(source_range, "source range"), ratio)
        if key not in self._amounts:
            edges = self._spectrum.edges
            self._amounts[key] = SourceAmounts(reader.model, theta, edges, key[:2], ratio)
        return dict(zip(LABELS, self._amounts[key].counts(theta).tolist(), strict=True))

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

    def background_template(
        self,
        fit: LineBackgroundFit,
        source_range: Sequence[Any],
        *,
        method: str = "components",
        sidebands: Sequence[Sequence[Any]] | None = None,
        window: Sequence[Any] | None = None,
        order: int = 1,
        tracers: Sequence[Any] | None = None,
        line_ratio: Any = None,
        smoothing: str | None = None,
        smoothing_fwhm: float | None = None,
        l_cut: int | None = None,
        rebin_phi: int | None = None,
        pool: int | None = None,
        like: Any = None,
        sky: Any = None,
        observed: Any = None,
        livetime: Any = None,
        shift: bool = False,
    ) -> BackgroundTemplate:
        """Carry the distribution of adjacent energies into the source range.

        Energies are quantities, or numbers in keV.

        Parameters
        ----------
        fit : LineBackgroundFit
            The fitted spectrum, which sets the number of counts.
        source_range : (low, high)
            Anywhere inside the energy axis.
        method : "components", "interpolated" or "sideband"
            "components" takes the continuum and the instrumental lines apart, each with a norm of
            its own. "interpolated" takes the least-noise weights that are right for a
            distribution that changes linearly with energy. "sideband" adds up the sidebands (the
            tutorial's method).
        sidebands : list of (low, high), optional
            Energies to take, the whole bins inside each. "sideband" needs them; "interpolated"
            takes every unmasked bin outside the source range by default.
        window : (low, high), optional
            Energies from which "components" are taken; default: 80 keV to either side.
        order : 0, 1 or 2
            Degree in energy of the change of the continuum's distribution ("components").
        tracers : list of energies, optional
            Fitted lines that "lines" takes its distribution from; default: those within 100 keV
            of the source range.
        line_ratio : mapping, optional
            Keys line, tracer, value, error: counts of an instrumental line inside the source
            range, from a fitted line of the same origin.
        smoothing : "auto", optional
            Choose the filter from the data: half of the counts predict the other half.
        smoothing_fwhm : float, optional
            Full width at half maximum [deg] of a Gaussian that smooths PsiChi. Not with `l_cut`.
        l_cut : int, optional
            Keep the spherical harmonics of PsiChi up to this l.
        rebin_phi, pool : int, optional
            Bins of Phi, and of Time or ScAtt, that share a spatial pattern; totals are kept.
        like : histpy.Histogram or path, optional
            A histogram whose axes (in any order) the template takes over; one bin of its Em axis
            must be the source range, and the other Em bins of the template are 0. Its Phi axis
            may be coarser than the events'.
        sky : histpy.Histogram, path, or a pair of these, optional
            Expected sky counts at unit norm on the events' own axes, and, as the second of the
            pair, on the template's: needed where the source range cuts through energy bins. The
            source's own photons are taken out of spectrum and slices. Needs `observed`.
        observed : histpy.Histogram or path, optional
            Counts of the source range on the template's axes; the norms are fitted to them.
        livetime : Quantity or float, optional
            Seconds (or "90 d"); makes the norms rates in Hz.
        shift : bool
            Move the 511 keV features of each slice along Phi to where they are at the source
            energy (`kinematics.shift_matrices`): for sidebands far from the source range.

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
        options = TemplateOptions(
            method, sidebands, window, order, tracers, line_ratio, smoothing, smoothing_fwhm,
            l_cut, rebin_phi, pool, like, sky, observed, livetime, shift,
        )  # fmt: skip
        return make_template(self._events, fit, source_range, options)

    # --- inside ----------------------------------------------------------------------------------

    def _read(self, model: Model) -> SpectrumReader:
        if self._shape is None:
            reader = spectrum_of(model, self._source)
        else:
            nuisance = self.nuisance_parameters
            substitutes = {
                id(p): nuisance[f"{self.name}_{p.name}"]
                for p in SpectrumReader([self._shape]).sources
                if not p.has_auxiliary_variable
            }
            reader = SpectrumReader([self._shape], substitutes)
        check_degrees_of_freedom(reader.model, self._spectrum)
        return reader

    def _write_back(self) -> None:
        """Give the values of the nuisance parameters to the function that they stand in for."""
        if self._shape is None:
            return
        own = SpectrumReader([self._shape])
        nuisance = self.nuisance_parameters
        own.set_values(
            np.array(
                [
                    nuisance[f"{self.name}_{p.name}"].value
                    if not p.has_auxiliary_variable
                    else p.value
                    for p in own.sources
                ]
            )
        )

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
    if is_pair and not hasattr(events[0], "axes") and np.ndim(events[0]) == 1:
        return None, EnergySpectrum(*events)
    from .histograms.read import open_events

    histogram = open_events(events)
    return histogram, EnergySpectrum(histogram.energy_edges, histogram.energy_counts())


def _nuisance_parameters(name: str, shape: Any) -> dict[str, AstroParameter]:
    """Copies of a function's parameters under the plugin's name."""
    table = {}
    for p in SpectrumReader([shape]).sources:
        if p.has_auxiliary_variable:
            continue
        key = f"{name}_{p.name}"
        copy = AstroParameter(
            key,
            p.value,
            min_value=p.min_value,
            max_value=p.max_value,
            delta=p.delta,
            desc=p.description,
            free=p.free,
            unit=p.unit,
            transformation=p.transformation if p.has_transformation() else None,
        )
        if p.has_prior():
            copy.prior = p.prior
        table[key] = copy
    return table


def _at_limit(parameter: Parameter, value: float) -> bool:
    """True where threeML's fit, which never quite reaches a limit, ended at one."""
    near = 1e-6 * max(abs(value), 1e-3)
    return value - parameter.low <= near or parameter.high - value <= near


def _external_slope(parameter: AstroParameter) -> float:
    """d value / d internal value: threeML's covariance is that of log10 K, not of K."""
    if not parameter.has_transformation():
        return 1.0
    backward = parameter.transformation.backward
    x = parameter._get_internal_value()
    return float((backward(x + 1e-5) - backward(x - 1e-5)) / 2e-5)
