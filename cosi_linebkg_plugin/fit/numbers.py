"""The numbers of a fit: values, errors, expected counts, goodness of fit. No words, no files."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, cached_property
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_ndtr, ndtr

from ..errors import DataError
from ..io.tables import Column, make_table
from ..spectrum.axis import EnergySpectrum
from ..spectrum.components import SpectralModel, bin_counts, counts_in_bins, range_counts
from ..spectrum.kernels import FLOOR
from ..spectrum.priors import Prior
from ..spectrum.statistic import deviance_residuals, half_deviance, saturated_log_likelihood
from ..units import in_kev
from .adequacy import Adequacy, deviance_p_value, judge, poisson_pulls, score_of_shapes
from .restarts import LONGEST_TAIL, SAME_LENGTH, tail_widths
from .score import Residuals

if TYPE_CHECKING:
    from astropy.table import Table

Array = NDArray[np.float64]

#: A tail is seen with this many standard errors of its fraction; on a limit, 0 or 1, it has none.
_SEEN, _UNKNOWN = 3.0, 0.1

#: Lengths of tails that are compared where the lines have none, in widths of the lines.
_TAIL_WIDTHS = (0.7, 1.0, 2.0, 3.0, 4.0, LONGEST_TAIL, 1.5 * LONGEST_TAIL)

#: Width of a line that is looked for where the model has none [keV].
DEFAULT_WIDTH = 3.0


@cache
def installed_versions() -> dict[str, str]:
    """Versions of this package and of those that a result depends on."""
    found = {}
    for name in ("cosi-linebkg-plugin", "numpy", "scipy", "iminuit", "histpy", "threeML"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


@dataclass(frozen=True)
class FittedParameter:
    """One parameter of a fit.

    Attributes
    ----------
    value : float
    error : float or None
        Standard error; None if fixed, or if the value sits on a limit. Of one that follows
        another by a law: through the law's derivative.
    unit : str
    free : bool
    low, high : float
        Limits, infinite where there is none.
    link : str or None
        The parameter that this one equals.
    minos : (float, float) or None
        Profile-likelihood errors, the lower one negative.
    law : str or None
        The law by which this one follows another parameter, in words.
    prior : Prior or None
    """

    value: float
    error: float | None
    unit: str = ""
    free: bool = True
    low: float = -math.inf
    high: float = math.inf
    link: str | None = None
    minos: tuple[float, float] | None = None
    law: str | None = None
    prior: Prior | None = None


@dataclass(frozen=True, eq=False)
class RangeCounts:
    """Expected counts in an energy range, per component label.

    Attributes
    ----------
    labels : tuple of str
    values : ndarray, shape (n_labels,), counts
    covariance : ndarray, shape (n_labels, n_labels), counts^2
    """

    labels: tuple[str, ...]
    values: Array
    covariance: Array

    @property
    def errors(self) -> Array:
        """Standard errors, shape (n_labels,)."""
        return np.sqrt(np.diag(self.covariance))

    @property
    def total(self) -> float:
        """Sum of the values."""
        return float(self.values.sum())

    @property
    def total_error(self) -> float:
        """Standard error of the total, correlations included."""
        return float(np.sqrt(self.covariance.sum()))

    def to_table(self) -> Table:
        """An astropy table: component, counts, error; the total is its last row."""
        return make_table(
            [
                Column("component", [*self.labels, "total"]),
                Column("counts", [*self.values.tolist(), self.total], "ct", "expected"),
                Column("error", [*self.errors.tolist(), self.total_error], "ct", "standard error"),
            ]
        )


#: A width whose error is a larger share of it than this is not seen.
_UNSEEN = 0.5

#: In bins wider than this many standard deviations a line reaches at most one neighbour of its
#: own bin, and what it leaves there does not tell its width from its energy.
HIDING = 5.0


def hides_width(bin_width: float, sigma: float) -> bool:
    """Whether bins of this width [keV] do not show the width of a line."""
    return bin_width > HIDING * sigma


@dataclass(frozen=True)
class FaintLine:
    """A line that may be there although the counts do not show it.

    Attributes
    ----------
    energy : float, keV
    name : str
        Its nuclide, or several.
    counts : float or None
        What a seen line of the same nuclide foretells.
    """

    energy: float
    name: str = ""
    counts: float | None = None


@dataclass(frozen=True)
class FaintLines:
    """What lines that may be there do to a fit; see `fit.faint`.

    Attributes
    ----------
    lines : tuple of FaintLine
        All that were looked at; those that the fitted bins can see are in the model.
    effective : float
        How many parameters they are worth, at most their number: the trace of the spectrum's
        information on them times their covariance (Spiegelhalter et al. 2002, J. R. Stat. Soc. B
        64, 583).
    where : (float, float), keV
        The range of `before` and `after`.
    before, after : (float, float), counts
        The continuum there and its error, without and with these lines.
    """

    lines: tuple[FaintLine, ...]
    effective: float
    where: tuple[float, float]
    before: tuple[float, float]
    after: tuple[float, float]


class HasWidths(Protocol):
    """A fit as far as `unseen_widths` looks at it."""

    @property
    def model(self) -> SpectralModel:
        """What was fitted."""

    @property
    def values(self) -> dict[str, float]:
        """Best values by name."""

    @property
    def errors(self) -> dict[str, float]:
        """Standard errors by name."""


def unseen_widths(fit: HasWidths) -> list[str]:
    """Names of free widths of lines (sigma, keV) that the bins do not show."""
    slots = {
        fit.model.components[i].width_slots[0]
        for i in fit.model.lines
        if len(fit.model.components[i].width_slots) == 1
    }
    names, errors, values = [fit.model.names[i] for i in sorted(slots)], fit.errors, fit.values
    return [n for n in names if errors.get(n, 0.0) > _UNSEEN * abs(values[n])]


@dataclass(frozen=True, eq=False, repr=False)
class FitNumbers:
    """A background spectrum fitted to the unmasked energy bins.

    Attributes
    ----------
    model : SpectralModel
        Components and parameters; their values are those that the fit started from.
    spectrum : EnergySpectrum
        The data and the mask.
    theta : ndarray, shape (n_parameters,)
        Best values of the model's parameters (or posterior medians).
    covariance : ndarray, shape (n, n)
        Of `covariance_names`: the free parameters that sit on no limit.
    valid : bool
    engine : str
        "minuit", "joint_likelihood" or "bayesian".
    message : str
        What stands against the fit, or "".
    at_limits : tuple of str
        Free parameters whose best value is a limit.
    minos : mapping of str to (float, float)
    samples : ndarray or None, shape (n_samples, n_free)
        Posterior samples of `free_names`.
    n_calls : int
        Likelihood evaluations.
    offset : ndarray or None, shape (n_bins,), counts
        Expected counts of a known source in the data, which are not background.
    toys : (float, int) or None
        p-value of the deviance from simulated spectra, and their number: see `fit.with_toys`.
    line_search : mapping or None
        The search that found the lines, as `LineSearch.to_dict` gives it.
    faint : FaintLines or None
        Lines that may be there, marginalised: the last components of the model, whose counts have
        their posterior means, and stand in the covariance although they are not free.
    shared_with : tuple of str
        Other plugins of a session whose data tell some of the free parameters, too: the bins of
        this one are left more degrees of freedom.
    """

    model: SpectralModel
    spectrum: EnergySpectrum
    theta: Array
    covariance_names: tuple[str, ...]
    covariance: Array
    valid: bool = True
    engine: str = "minuit"
    message: str = ""
    at_limits: tuple[str, ...] = ()
    minos: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    samples: Array | None = None
    n_calls: int = 0
    offset: Array | None = None
    toys: tuple[float, int] | None = None
    line_search: Mapping[str, Any] | None = None
    faint: FaintLines | None = None
    shared_with: tuple[str, ...] = ()
    versions: Mapping[str, str] = field(default_factory=lambda: dict(installed_versions()))

    def __post_init__(self) -> None:
        object.__setattr__(self, "theta", self.model.resolve(self.theta))

    # --- numbers ---------------------------------------------------------------------------------

    @property
    def free_names(self) -> list[str]:
        """Names of the free parameters, in the order of the samples."""
        return [p.name for p in self.model.parameters if p.free]

    @property
    def values(self) -> dict[str, float]:
        """Best values by name, linked parameters included."""
        values = dict(zip(self.model.names, self.theta.tolist(), strict=True))
        return values | {name: values[target] for name, target in self.model.links.items()}

    @property
    def errors(self) -> dict[str, float]:
        """Standard errors by name: of `covariance_names`, and of what follows these by a law."""
        errors = np.sqrt(np.diag(self.covariance)).tolist()
        found = dict(zip(self.covariance_names, errors, strict=True))
        if self.model.derived:
            slopes = self.model.slopes(self.theta)[:, self.columns]
            for slot, _, _ in self.model.derived:
                row = slopes[slot]
                if row.any():
                    name = self.model.names[slot]
                    found[name] = float(np.sqrt(row @ self.covariance @ row))
        return found

    @property
    def parameters(self) -> dict[str, FittedParameter]:
        """All parameters by name: free, fixed, linked, and those that follow others by a law."""
        errors, names = self.errors, self.model.names
        laws = {
            slot: law.at(self.theta).describe(names[source])
            for slot, source, law in self.model.derived
        }
        table = {
            p.name: FittedParameter(
                float(value),
                errors.get(p.name),
                p.unit,
                p.free,
                p.low,
                p.high,
                minos=self.minos.get(p.name),
                law=laws.get(slot),
                prior=p.prior,
            )
            for slot, (p, value) in enumerate(zip(self.model.parameters, self.theta, strict=True))
        }
        for name, target in self.model.links.items():
            t = table[target]
            table[name] = FittedParameter(t.value, t.error, t.unit, False, t.low, t.high, target)
        return table

    @property
    def mask(self) -> list[tuple[float, float]]:
        """Masked energy ranges, keV."""
        return self.spectrum.masked_ranges()

    @property
    def expected(self) -> Array:
        """Expected counts per energy bin, masked bins included, shape (n_bins,)."""
        return np.asarray(self.component_spectra.sum(axis=0), dtype=float)

    @property
    def expected_total(self) -> Array:
        """Background and offset: what the data are compared with, shape (n_bins,)."""
        return self.expected if self.offset is None else self.expected + self.offset

    @property
    def component_spectra(self) -> Array:
        """Expected counts per component and energy bin, shape (n_components, n_bins)."""
        return self._bins[0]

    @property
    def bin_jacobian(self) -> Array:
        """Derivatives of `expected` to every parameter, shape (n_parameters, n_bins)."""
        return self._bins[1]

    @cached_property
    def _bins(self) -> tuple[Array, Array]:
        spectra, jac = bin_counts(self.model, self.theta, self.spectrum.edges)
        spectra.flags.writeable = jac.flags.writeable = False
        return spectra, jac

    @property
    def columns(self) -> list[int]:
        """Slots of the parameters of the covariance matrix."""
        return self.model.slots(self.covariance_names)

    @property
    def deviance(self) -> float:
        """Raw Poisson deviance of the fitted bins (Baker & Cousins 1984, NIM 221, 437)."""
        s = self.spectrum
        return 2.0 * half_deviance(s.counts, s.used, self.expected_total)

    @property
    def log_likelihood(self) -> float:
        """Poisson log-likelihood of the fitted bins, with its constant term."""
        s = self.spectrum
        return saturated_log_likelihood(s.counts[s.used]) - 0.5 * self.deviance

    @property
    def dof(self) -> int:
        """Fitted bins minus free parameters, and what `faint` lines are worth, rounded.

        Where other plugins share parameters, what these take from the bins of this one, rounded.
        """
        n, taken = int(self.spectrum.used.sum()), len(self.free_names)
        if self.shared_with and self.valid:
            taken += round(self._fitted(self.columns).absorbed) - len(self.covariance_names)
        return n - taken - (0 if self.faint is None else round(self.faint.effective))

    def _fitted(self, slots: Sequence[int]) -> Residuals:
        """Residuals of the fitted bins, and what these parameters take of them."""
        used = self.spectrum.used
        shared = self.shared_with and self.valid  # then all of the covariance's are free
        return Residuals.of(
            self.spectrum.counts[used],
            np.maximum(self.expected_total[used], FLOOR),
            self.bin_jacobian[slots][:, used],
            self.covariance if shared else None,
        )

    @property
    def p_value(self) -> float | None:
        """Chance of a larger deviance if the model is right; one test of those of `adequacy`.

        From `toys` if there are any, else by the chi-square law; None where a fitted bin expects
        fewer than 5 counts.
        """
        expected = self.expected_total[self.spectrum.used]
        return deviance_p_value(self.deviance, self.dof, expected, self.toys)

    @property
    def residuals(self) -> Array:
        """Residuals for texts, tables and figures, shape (n_bins,), in sigma.

        In fitted bins those of `adequacy`, if there is one: deviance residuals over the standard
        deviation that the fit leaves them, at few counts those of the Poisson tail. In masked bins
        the same without that fit; without `adequacy` plain deviance residuals everywhere.
        """
        counts, expected = self.spectrum.counts, np.maximum(self.expected_total, FLOOR)
        if self.adequacy is None:
            return deviance_residuals(counts, expected)
        masked = poisson_pulls(counts, expected)
        return np.where(self.spectrum.used, self.adequacy.residuals, masked)

    @cached_property
    def adequacy(self) -> Adequacy | None:
        """Tests of the fit, its residuals, and its systematic error.

        None if the fit is not valid, has no covariance, or as many free parameters as bins.
        """
        found = self._judged(whole=True)
        if found is None:
            return None
        found = replace(found, long_tails=self._long_tails())
        return found if found.is_adequate() else replace(found, tail_widths=self._best_tail())

    def _judged(self, whole: bool) -> Adequacy | None:
        """As `adequacy`, without tails; see `judge`."""
        if not self.valid or self.dof < 1 or (self.free_names and not self.covariance_names):
            return None
        fitted = [slot for slot in self.columns if self.model.parameters[slot].free]
        return judge(
            self.spectrum,
            self.expected_total,
            self._fitted(fitted),
            self.bin_jacobian[[slot for slot in fitted if slot in self.model.continuum_slots]],
            self._line_width if whole else None,
            dof=self.dof,
            toys=self.toys,
            step=self._missing_step() if whole else None,
        )

    def _missing_step(self) -> Array | None:
        """Counts per bin of a step under each line, 1/keV of its area; None if the model has one.

        None without lines that have counts, too.
        """
        theta = self.theta
        lines = [
            c for c in self.model.components if c.is_line and not c.faint and theta[c.area] > 0
        ]
        if any(c.is_step for c in self.model.components) or not lines:
            return None
        area, energy = (theta[[getattr(c, x) for c in lines]] for x in ("area", "energy"))
        sigma = np.array([c.sigma(theta) for c in lines])
        # in numpy, so that the loops of steps are compiled for models that have one alone
        above = self.spectrum.edges[:, None] - energy
        gauss = np.exp(-0.5 * (above / sigma) ** 2) / math.sqrt(2.0 * math.pi)
        return np.asarray(np.diff(above * ndtr(-above / sigma) - sigma * gauss, axis=0) @ area)

    def _best_tail(self) -> float | None:
        """Length of the tail that the score test likes best, in widths of the lines.

        None if the lines have one, or cannot, or if no tail gains anything.
        """
        theta, used = self.theta, self.spectrum.used
        lines = [c for c in self.model.components if c.is_line and theta[c.area] > 0]
        if not lines or any(c.tail_slots for c in lines):
            return None
        lines = [c for c in lines if not c.broad_slots]
        area, energy = (theta[[getattr(c, x) for c in lines]] for x in ("area", "energy"))
        z = (self.spectrum.edges[:, None] - energy) / [c.sigma(theta) for c in lines]
        # what a tail has below each edge and a Gaussian has not; see tests/helpers/truth.py
        more = [np.exp(z / r + 0.5 / r**2 + log_ndtr(-z - 1.0 / r)) @ area for r in _TAIL_WIDTHS]
        gains = score_of_shapes(self._fitted(self.columns), np.diff(more, axis=1)[:, used])
        best = int(np.argmax(gains))
        return _TAIL_WIDTHS[best] if gains[best] > 0 else None

    def _long_tails(self) -> tuple[str, ...]:
        """Names of free lengths of tails that are at their longest, with counts that are seen."""
        errors, names = self.errors, self.model.names
        found = []
        for slot, width in tail_widths(self.model, self.theta).items():
            shares = {c.tail_slots[0] for c in self.model.components if slot in c.tail_slots}
            seen = any(self.theta[s] > _SEEN * errors.get(names[s], _UNKNOWN) for s in shares)
            if seen and self.theta[slot] >= (1.0 - SAME_LENGTH) * LONGEST_TAIL * width:
                found.append(names[slot])
        return tuple(found)

    @cached_property
    def lines(self) -> list[tuple[float, float]]:
        """Energy and width [keV] of each line with counts, faint ones left out."""
        theta = self.theta
        return [
            (float(theta[c.energy]), c.sigma(theta))
            for c in (self.model.components[i] for i in self.model.lines)
            if theta[c.area] > 0
        ]

    @cached_property
    def _known_widths(self) -> tuple[Array, Array]:
        """Energies and widths of the lines [keV], none below half a bin."""
        energy, width = np.array(self.lines or [(0.0, DEFAULT_WIDTH)]).T
        return energy, np.maximum(width, 0.5 * float(np.median(self.spectrum.widths)))

    def _line_width(self, energies: Array) -> Array:
        """Width [keV] of a further line at `energies` [keV]: that of the nearest line."""
        energy, width = self._known_widths
        return np.asarray(width[np.abs(energies[:, None] - energy).argmin(axis=1)], dtype=float)

    @cached_property
    def systematic(self) -> float:
        """Fractional error of each bin, uncorrelated, that makes the fit adequate; 0 if it is.

        The errors of `expected_counts` and of templates include it, those of the parameters do
        not.
        """
        found = self.__dict__.get("adequacy") or self._judged(whole=False)
        return 0.0 if found is None else found.applied

    def systematic_covariance(self, jac: Array, inside: Array) -> Array:
        """What the systematic error adds to the covariance of some expected counts.

        The true content of bin i is mu_i (1 + s g_i) with independent g of unit variance. It
        enters twice: through the fit, whose parameters answer by C J g s (C the covariance, J the
        derivatives of mu in fitted bins), and because the counts themselves are made of such bins.

        Parameters
        ----------
        jac : ndarray, shape (n, n_parameters)
            Derivatives of the counts to the parameters.
        inside : ndarray, shape (n, n_bins), counts
            What each bin holds of them.

        Returns
        -------
        ndarray, shape (n, n), counts^2
        """
        columns = self.columns
        pull = jac[:, columns] @ self.covariance @ self.bin_jacobian[columns]
        response = self.systematic * (pull * self.spectrum.used - inside)
        return response @ response.T

    @property
    def covariance_parts(self) -> tuple[Array, Array, Array]:
        """What Poisson noise makes of `covariance`, and what the counts of `faint` lines do.

        Returns
        -------
        noise : ndarray, shape (n, n)
            N, the covariance if these counts were known.
        response : ndarray, shape (n, n_faint)
            R, derivatives of all parameters of the covariance to these counts.
        of_faint : ndarray, shape (n_faint, n_faint)
            V, the covariance of these counts: `covariance` is N + R V R^T.
        """
        faint = {self.model.names[self.model.components[i].area] for i in self.model.faint}
        rows = np.array([name in faint for name in self.covariance_names], dtype=bool)
        both = self.covariance[:, rows]
        response = both @ np.linalg.pinv(both[rows])
        return self.covariance - response @ both.T, response, both[rows]

    def expected_counts(self, energy_range: Sequence[Any], *, by: str = "label") -> RangeCounts:
        """Expected counts in any energy range inside the axis, with their covariance.

        Parameters
        ----------
        energy_range : (low, high)
            keV, or quantities.
        by : "label" or "component"
            "label" adds up what belongs to the "continuum" and to the "lines".

        Returns
        -------
        RangeCounts
            The covariance is J C J^T from the fit, or that of the posterior samples; where the fit
            is not adequate, its systematic error is added.
        """
        low, high = in_kev(energy_range)
        edges = self.spectrum.edges
        value, jac = range_counts(self.model, self.theta, low, high, edges)
        unique, collect = self._collected(by)
        value, jac = collect @ value, collect @ jac
        tabulated = any(c.table is not None for c in self.model.components)
        if self.samples is not None and not tabulated:
            draws = self.sampled_counts((low, high), by=by)
            value, covariance = draws.mean(axis=0), np.atleast_2d(np.cov(draws.T))
        else:
            j = jac[:, self.columns]
            covariance = j @ self.covariance @ j.T
        if self.systematic:
            inside = collect @ counts_in_bins(self.model, self.theta, low, high, edges)
            covariance = covariance + self.systematic_covariance(jac, inside)
        return RangeCounts(unique, value, covariance)

    def sampled_counts(self, energy_range: Sequence[Any], *, by: str = "label") -> Array:
        """Expected counts in an energy range for each posterior sample.

        Parameters
        ----------
        energy_range, by
            As of `expected_counts`.

        Returns
        -------
        ndarray, shape (n, n_labels), counts
            For at most 2000 samples, evenly spread; the order of `expected_counts`' labels.

        Raises
        ------
        DataError
            If the fit holds no samples.
        """
        low, high = in_kev(energy_range)
        theta, free = self.theta.copy(), self.model.free
        rows = []
        for sample in self.thinned_samples():
            theta[free] = sample
            rows.append(range_counts(self.model, theta, low, high, self.spectrum.edges)[0])
        return np.asarray(np.array(rows) @ self._collected(by)[1].T, dtype=float)

    def thinned_samples(self, at_most: int = 2000) -> Array:
        """Posterior samples, evenly spread over the chain, shape (n, n_free).

        Raises
        ------
        DataError
            If the fit holds none.
        """
        if self.samples is None:
            raise DataError(
                "The fit has no posterior samples: sample it with fit.sample(), with "
                "engine: bayesian, or with a BayesianAnalysis and plugin.result()."
            )
        number = min(at_most, len(self.samples))
        rows = np.linspace(0, len(self.samples) - 1, number).round().astype(int)
        return np.asarray(self.samples[rows], dtype=float)

    def _collected(self, by: str) -> tuple[tuple[str, ...], Array]:
        """Names, and which components belong to each, shape (n_names, n_components)."""
        components = self.model.components
        if by not in ("label", "component"):
            raise DataError(f'by must be "label" or "component", got {by!r}.')
        if by == "component":
            labels = [self.model.component_name(i, self.theta) for i in range(len(components))]
        else:
            labels = [c.label for c in components]
        unique = tuple(dict.fromkeys(labels))
        return unique, np.array([[float(x == y) for x in labels] for y in unique])
