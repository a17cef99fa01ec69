"""Lines that may be there although the counts do not show them, marginalised.

Left out, such lines raise the continuum; free and positive, they lower it by their noise. Here each
has a prior on its counts F_k, in units of sigma_k, the error that it would have on top of what is
fitted if nothing else were free:

* with the chance 1 - p it is not there, else F_k / sigma_k is exponential with the mean s. One p,
  flat from 0 to 1, and one s, flat in its logarithm up to `LARGEST_MEAN`, are those of all lines:
  how many there are, and how strong, the data say themselves (spike and slab: Mitchell & Beauchamp
  1988, JASA 83, 1023);
* one whose counts are foretold, by a seen line of the same nuclide, is exponential with that mean,
  unless these would have been seen (`LARGEST_MEAN`).

The lines are faint, so that the fit answers them linearly: with the fit's own parameters projected
out, the likelihood of F is a Gaussian, whose product with the prior is sampled line by line (Gibbs
sampling: Geman & Geman 1984, IEEE PAMI 6, 721). The fit is then made again with the lines at their
posterior means, and its covariance takes theirs: with C that of the fit, J and S the derivatives
of the expected counts mu to its parameters and to F, V the covariance of F, D = -C J S^T / mu,

    cov(theta) = C + D V D^T,    cov(theta, F) = D V.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from ..errors import DataError
from ..spectrum.axis import EnergySpectrum
from ..spectrum.components import Component, Parameter, SpectralModel
from ..spectrum.kernels import FLOOR, FULL_REACH
from ..spectrum.lineshapes import EnergyGrid
from .minimise import fit_spectrum, from_best
from .numbers import DEFAULT_WIDTH, FaintLine, FaintLines
from .result import LineBackgroundFit
from .score import EXPLAINED, Residuals

Array = NDArray[np.float64]

#: A line above this many standard errors would have been seen: the largest mean of its prior.
LARGEST_MEAN = 5.0

#: A line with a smaller share of its counts in fitted bins changes nothing.
_SEEN_SHARE = 0.05

#: Draws at the fit without the lines, and at the one with them, which is where they answer for.
_SWEEPS, _BURN_IN = (500, 3000), 200

#: The same spectrum gives the same numbers.
_SEED = 19

#: Means s are drawn from so many values, each a factor exp(_STEP) below the next; the smallest,
#: 0.014, changes nothing.
_MEANS, _STEP = 40, 0.15

_CHANCE_LIMIT = 1e-6

#: A line that no draw holds keeps this share of sigma_k as its error: covariances are inverted.
_LEAST_ERROR = 1e-3


@dataclass(frozen=True, eq=False)
class Posterior:
    """Counts of faint lines.

    Attributes
    ----------
    mean : ndarray, shape (n,), counts
    covariance : ndarray, shape (n, n), counts^2
    """

    mean: Array
    covariance: Array


def with_faint_lines(
    fit: LineBackgroundFit,
    lines: Sequence[FaintLine],
    where: tuple[float, float] | None = None,
) -> LineBackgroundFit:
    """The fit with lines that may be there marginalised.

    Parameters
    ----------
    fit : LineBackgroundFit
        Valid, without samples, and without such lines.
    lines : sequence of FaintLine
        Those that fitted bins do not see, and those that the fit's own parameters explain by more
        than `score.EXPLAINED`, are left out.
    where : (low, high), keV, optional
        Where `FaintLines` tells the continuum before and after; default: the widest masked range,
        or else the whole axis.

    Returns
    -------
    LineBackgroundFit
        Its model has the lines as further components (`Component.faint`) with their mean counts,
        its covariance theirs as well; `faint` tells what they did. MINOS errors, which know
        nothing of them, and toys are dropped.

    Raises
    ------
    DataError
        If the fit has samples, or such lines already.
    FitError
        If there is no valid minimum with the lines at their means.
    """
    if fit.faint is not None or fit.samples is not None:
        what = "posterior samples" if fit.faint is None else "faint lines already"
        raise DataError(
            f"Faint lines are marginalised on top of a maximum-likelihood fit, and this one has "
            f"{what}; take the fit as plugin.fit(model) or a JointLikelihood gives it."
        )
    where = where or _widest_range(fit.spectrum)
    before = _continuum(fit, where)
    model = _extended(fit.model, fit.theta, lines)
    shapes = _shapes(model, fit)
    kept = np.flatnonzero(_usable(fit, shapes))
    if not kept.size:
        return replace(fit, faint=FaintLines(tuple(lines), 0.0, where, before, before))
    chosen, shapes = [lines[i] for i in kept.tolist()], shapes[kept]
    current, mean = fit, np.zeros(kept.size)
    for sweeps in _SWEEPS:
        posterior, information = _posterior(current, shapes, mean, chosen, sweeps)
        mean = posterior.mean
        offset = mean @ shapes + (0.0 if fit.offset is None else fit.offset)
        current = fit_spectrum(from_best(current), fit.spectrum, offset=offset)
        shapes = _shapes(_extended(current.model, current.theta, chosen), current)
    result = _assembled(replace(current, offset=fit.offset), chosen, shapes, posterior)
    # above 1 for a line that may as well be there as not: its posterior has two peaks
    effective = min(float(np.sum(information * posterior.covariance)), float(kept.size))
    told = FaintLines(tuple(lines), effective, where, before, before)
    result = replace(
        result,
        engine=fit.engine,
        message=fit.message or current.message,
        n_calls=fit.n_calls + current.n_calls,
        line_search=fit.line_search,
        faint=told,
    )
    return replace(result, faint=replace(told, after=_continuum(result, where)))


def refit(
    fit: LineBackgroundFit,
    model: SpectralModel,
    spectrum: EnergySpectrum,
    offset: Array | None = None,
) -> LineBackgroundFit:
    """`fit_spectrum` of a model like that of `fit`, with its faint lines marginalised anew.

    Parameters
    ----------
    fit : LineBackgroundFit
    model : SpectralModel
        That of `fit`, its faint lines included, with other start values or other fixed parameters.
    spectrum : EnergySpectrum
    offset : ndarray, shape (n_bins,), counts, optional
        As of `fit_spectrum`.

    Returns
    -------
    LineBackgroundFit

    Raises
    ------
    FitError
        If there is no valid minimum.
    """
    if fit.faint is None:
        return fit_spectrum(model, spectrum, offset=offset)
    plain = fit_spectrum(model.without_faint(), spectrum, offset=offset)
    return with_faint_lines(plain, fit.faint.lines, fit.faint.where)


def _widest_range(spectrum: EnergySpectrum) -> tuple[float, float]:
    """The widest masked range [keV], or the whole axis."""
    whole = float(spectrum.edges[0]), float(spectrum.edges[-1])
    return max(spectrum.masked_ranges(), key=lambda r: r[1] - r[0], default=whole)


def _continuum(fit: LineBackgroundFit, where: tuple[float, float]) -> tuple[float, float]:
    """Counts of the continuum in a range, and their error."""
    counts = fit.expected_counts(where)
    k = counts.labels.index("continuum") if "continuum" in counts.labels else None
    return (0.0, 0.0) if k is None else (float(counts.values[k]), float(counts.errors[k]))


def _extended(model: SpectralModel, theta: Array, lines: Sequence[FaintLine]) -> SpectralModel:
    """The model with faint lines of 1 count, shaped like the nearest line that has counts.

    Where there is none, or only annihilation, which is broad, with a width of their own.
    """
    parameters = list(model.parameters)
    n, width = len(parameters), len(parameters) + 2 * len(lines)
    models = [
        c
        for c in (model.components[i] for i in model.lines)
        if theta[c.area] > 0 and not c.broad_slots
    ]
    components, own_width = [], False
    for k, line in enumerate(lines):
        area = n + 2 * k
        parameters.append(Parameter(f"F_faint_{k + 1}", 1.0, "", 0.0, free=False))
        parameters.append(Parameter(f"mu_faint_{k + 1}", line.energy, "keV", free=False))
        if models:
            near = min(models, key=lambda c: abs(theta[c.energy] - line.energy))
            component = Component(near.kind, (area, area + 1, *near.slots[2:]), faint=True)
        else:
            own_width = True
            component = Component("gaussian", (area, area + 1, width), faint=True)
        components.append(component)
    if own_width:
        parameters.append(Parameter("sigma_faint", DEFAULT_WIDTH, "keV", 0.0, free=False))
    return replace(model, parameters=tuple(parameters), components=(*model.components, *components))


def _shapes(model: SpectralModel, fit: LineBackgroundFit) -> Array:
    """Counts per bin of each faint line of 1 count, with the fit's widths, (n_lines, n_bins)."""
    theta = model.values
    theta[: fit.theta.size] = fit.theta
    grid = EnergyGrid.from_edges(fit.spectrum.edges)
    counts = [model.select([i]).bind(grid, FULL_REACH).counts(theta) for i in model.faint]
    return np.array(counts).reshape(-1, fit.spectrum.n_bins)


def _projected(fit: LineBackgroundFit, shapes: Array) -> tuple[Array, Array, Array]:
    """Residuals, and shapes of lines without what the fit explains, in units of the noise.

    A prior is one more residual, which no line changes: at the optimum data and priors balance.

    Returns
    -------
    residuals : ndarray, shape (n,)
    own : ndarray, shape (n_lines, n)
    full : ndarray, shape (n_lines,)
        Squares of the shapes before.
    """
    used, columns = fit.spectrum.used, fit.columns
    priors = [
        (k, *prior.slope_and_curvature(float(fit.theta[slot])))
        for k, slot in enumerate(columns)
        if (prior := fit.model.parameters[slot].prior) is not None
    ]
    curved = [(k, slope, math.sqrt(curvature)) for k, slope, curvature in priors if curvature > 0]
    one = np.ones(len(curved))
    rows = np.zeros((len(columns), one.size))
    for i, (k, _, root) in enumerate(curved):
        rows[k, i] = root
    residuals = Residuals.of(
        np.concatenate((fit.spectrum.counts[used], 1.0 - np.array([s / r for _, s, r in curved]))),
        np.concatenate((fit.expected_total[used], one)),
        np.hstack((fit.bin_jacobian[columns][:, used], rows)),
    )
    own, full = residuals.project(np.hstack((shapes[:, used], np.zeros((len(shapes), one.size)))))
    return residuals.values, own, full


def _usable(fit: LineBackgroundFit, shapes: Array) -> NDArray[np.bool_]:
    """Which lines fitted bins see, and the fit's own parameters do not explain."""
    _, own, full = _projected(fit, shapes)
    explained = np.sum(own**2, axis=1) <= (1.0 - EXPLAINED) * full
    return np.asarray((shapes[:, fit.spectrum.used].sum(axis=1) > _SEEN_SHARE) & ~explained)


def _posterior(
    fit: LineBackgroundFit,
    shapes: Array,
    at: Array,
    lines: Sequence[FaintLine],
    sweeps: int,
) -> tuple[Posterior, Array]:
    """Posterior of the counts, and the information of the spectrum on them, (n, n), 1/counts^2.

    Parameters
    ----------
    at : ndarray, shape (n_lines,), counts
        What the fit holds of them already, in its offset.
    """
    residuals, own, full = _projected(fit, shapes)
    information = own @ own.T
    pull = own @ residuals + information @ at
    unit = 1.0 / np.sqrt(full)
    foretold = np.array([0.0 if x.counts is None else x.counts for x in lines])
    # more than would have been missed: then the line is not what foretells it
    foretold = np.where(foretold <= LARGEST_MEAN * unit, foretold, 0.0)
    rng = np.random.default_rng(_SEED)
    mean, covariance = _sample(information, pull, unit, foretold, sweeps, _BURN_IN, rng)
    return Posterior(mean, covariance + np.diag((_LEAST_ERROR * unit) ** 2)), information


def _assembled(
    fit: LineBackgroundFit, lines: Sequence[FaintLine], shapes: Array, posterior: Posterior
) -> LineBackgroundFit:
    """The fit at the lines' means with the lines as components, and the covariance of both."""
    model = _extended(fit.model, fit.theta, lines)
    first = len(fit.model.parameters)
    parameters = list(model.parameters)
    for k, mean in enumerate(posterior.mean):
        parameters[first + 2 * k] = replace(parameters[first + 2 * k], value=float(mean))
    model = replace(model, parameters=tuple(parameters))
    theta = model.values
    theta[:first] = fit.theta
    used, own = fit.spectrum.used, fit.covariance
    expected = np.maximum(fit.expected + posterior.mean @ shapes, FLOOR)
    if fit.offset is not None:
        expected = expected + fit.offset
    jacobian = fit.bin_jacobian[fit.columns][:, used]
    answer = -own @ (jacobian / expected[used]) @ shapes[:, used].T
    both = answer @ posterior.covariance
    names = tuple(parameters[first + 2 * k].name for k in range(len(lines)))
    return replace(
        fit,
        model=model,
        theta=theta,
        covariance_names=(*fit.covariance_names, *names),
        covariance=np.block([[own + both @ answer.T, both], [both.T, posterior.covariance]]),
    )


_compiled = njit(cache=True, error_model="numpy")


@_compiled
def _positive_normal(mean: float, sd: float, rng: Any) -> float:
    """A draw from a Gaussian above 0 (Robert 1995, Statistics and Computing 5, 121)."""
    low = -mean / sd
    if low < 0.3:
        while True:
            z = rng.standard_normal()
            if z > low:
                return float(mean + sd * z)
    rate = 0.5 * (low + math.sqrt(low * low + 4.0))
    while True:
        z = low + rng.standard_exponential() / rate
        if rng.random() <= math.exp(-0.5 * (z - rate) ** 2):
            return float(mean + sd * z)


@_compiled
def _log_slab(mean: float, sd: float) -> float:
    """Logarithm of the integral of exp(-(x^2 / 2 - mean x) / sd^2) over x > 0."""
    z = mean / sd
    if z < -8.0:
        return math.log(-sd / z)
    below = 0.5 * math.erfc(-z / math.sqrt(2.0))
    return 0.5 * z * z + math.log(below * math.sqrt(2.0 * math.pi) * sd)


@_compiled
def _draw_open(mean: float, sd: float, scale: float, chance: float, rng: Any) -> float:
    """Counts of a line that is there with some chance, or 0."""
    odds = math.log(chance / (1.0 - chance) / scale) + _log_slab(mean, sd)
    if odds < 500.0 and rng.random() * (1.0 + math.exp(-odds)) > 1.0:
        return 0.0
    return _positive_normal(mean, sd, rng)


@_compiled
def _draw_mean(n: int, total: float, rng: Any) -> float:
    """A mean s of n exponential numbers with this sum; ln s is flat below `LARGEST_MEAN`."""
    chances, highest = np.empty(_MEANS), -np.inf
    for k in range(_MEANS):
        s = LARGEST_MEAN * math.exp(-k * _STEP)
        chances[k] = -n * math.log(s) - total / s
        highest = max(highest, chances[k])
    below = np.cumsum(np.exp(chances - highest))
    k = np.searchsorted(below, rng.random() * below[-1])
    return LARGEST_MEAN * math.exp(-min(k, _MEANS - 1) * _STEP)


@_compiled
def _add(total: Array, row: Array, factor: float) -> None:
    """Add a multiple of a row, in place: no array is made."""
    for i in range(total.size):
        total[i] += factor * row[i]


@_compiled
def _sample(
    information: Array,
    pull: Array,
    unit: Array,
    foretold: Array,
    sweeps: int,
    burn_in: int,
    rng: Any,
) -> tuple[Array, Array]:
    """Mean and covariance of counts with ln L = pull F - F information F / 2.

    Parameters
    ----------
    information : ndarray, shape (n, n)
    pull, unit, foretold : ndarray, shape (n,)
        `unit` is sigma_k; `foretold` is 0 where nothing is.
    """
    n = pull.size
    counts, pulled = np.zeros(n), np.zeros(n)
    mean, square = np.zeros(n), np.zeros((n, n))
    s, chance = 1.0, 0.5
    n_open = np.sum(foretold == 0.0)
    for sweep in range(sweeps + burn_in):
        there, total = 0, 0.0
        for k in range(n):
            is_open, own = foretold[k] == 0.0, information[k, k]
            scale = s * unit[k] if is_open else foretold[k]
            middle = (pull[k] - pulled[k] + own * counts[k] - 1.0 / scale) / own
            sd = 1.0 / math.sqrt(own)
            if is_open:
                new = _draw_open(middle, sd, scale, chance, rng)
                there += new > 0.0
                total += new / unit[k]
            else:
                new = _positive_normal(middle, sd, rng)
            if new != counts[k]:
                _add(pulled, information[k], new - counts[k])
                counts[k] = new
        a, b = rng.standard_gamma(1.0 + there), rng.standard_gamma(1.0 + n_open - there)
        chance = min(max(a / (a + b), _CHANCE_LIMIT), 1.0 - _CHANCE_LIMIT)
        s = _draw_mean(there, total, rng)
        if sweep >= burn_in:
            _add(mean, counts, 1.0)
            for k in range(n):
                if counts[k] > 0.0:
                    _add(square[k], counts, counts[k])
    mean /= sweeps
    return mean, square / sweeps - np.outer(mean, mean)
