"""Posterior samples by emcee on the compiled likelihood, without threeML's loop."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError, FitError, FitInterrupted
from ..io.progress import Progress, count
from ..spectrum.kernels import compiled_log_posterior, sweep_walkers
from ..spectrum.statistic import half_deviance
from .numbers import FitNumbers
from .objective import Objective

Fit = TypeVar("Fit", bound=FitNumbers)
Array = NDArray[np.float64]

#: The chain is run until it is this many autocorrelation times long.
LENGTH_IN_TIMES = 30

_BLOCK, _MAX_STEPS = 1000, 20000

#: Every how many steps the chain is kept: successive ones hardly differ.
_THIN = 10

#: Fewer steps than these are of no use: most are burn-in.
_MIN_STEPS = 200


def _check(fit: FitNumbers, n_samples: int) -> None:
    """Refuse what cannot be sampled."""
    if n_samples < 1:
        raise DataError(f"n_samples must be 1 or more, got {n_samples!r}.")
    if not fit.free_names:
        raise DataError(
            "The fit has no free parameter, so there is nothing to sample: its values are known "
            "exactly. Free a parameter and fit again, or use the fit as it is."
        )
    if fit.faint is not None:
        raise DataError(
            "Faint lines are marginalised on top of a maximum-likelihood fit, not sampled; sample "
            "a fit without them, or use this one, whose errors include them."
        )


def sample_posterior(
    fit: Fit, *, n_samples: int = 4000, seed: Any = None, progress: Progress | None = None
) -> Fit:
    """What `LineBackgroundFit.sample` does."""
    _check(fit, n_samples)
    rng = np.random.default_rng(seed)
    sampler, start, thin_by = _sampler_of(fit, rng)
    state, converged, time, steps, kept = start, False, np.inf, 0, 0
    interrupt: KeyboardInterrupt | None = None
    try:
        while not (converged and kept >= n_samples) and steps < _MAX_STEPS:
            state = sampler.run_mcmc(state, _BLOCK // _THIN, thin_by=thin_by)
            steps = _THIN * sampler.iteration
            time = _autocorrelation_time(sampler)
            converged = steps > LENGTH_IN_TIMES * time
            kept = (steps - _burn_in(time, steps)) // _THIN * len(start)
            needed = min(LENGTH_IN_TIMES * time, _MAX_STEPS)
            count(progress, steps, max(int(needed), steps), "steps")
    except KeyboardInterrupt as error:
        steps = _THIN * sampler.iteration
        if steps < _MIN_STEPS:
            raise
        interrupt, converged, time = error, False, _autocorrelation_time(sampler)
    chain = sampler.get_chain(discard=_burn_in(time, steps) // _THIN, flat=True)
    samples = chain[:: max(1, len(chain) // n_samples)]
    theta = fit.theta.copy()
    theta[fit.model.free] = np.median(samples, axis=0)
    problem = "" if converged else f"the chain is only {steps / time:.0f} times as long"
    if interrupt is not None:
        problem = f"interrupted after {steps} steps"
    result = replace(
        fit,
        theta=theta,
        covariance_names=tuple(fit.free_names),
        covariance=np.atleast_2d(np.cov(samples.T)),
        engine="bayesian",
        valid=converged,
        message=problem,
        at_limits=(),
        shared_with=(),
        minos={},
        toys=None,  # of another deviance
        samples=samples,
        n_calls=steps * len(start),
    )
    if interrupt is not None:
        raise FitInterrupted(problem, result) from interrupt
    if not converged:
        raise FitError(
            f"The posterior sampling did not converge: {problem} as its autocorrelation time "
            f"({time:.0f} steps), {LENGTH_IN_TIMES} are needed. Simplify the model or set priors.",
            result,
        )
    return result


def _sampler_of(fit: FitNumbers, rng: np.random.Generator) -> tuple[Any, Array, int]:
    """The sampler, the points where its walkers start, and every how many steps it keeps one."""
    import emcee

    objective = Objective(fit.model, fit.spectrum, offset=fit.offset)
    free = fit.model.free
    low, high = objective.low[free], objective.high[free]
    start = _starting_points(fit, objective, max(2 * free.size + 2, 32), rng)
    log_posterior = _log_posterior(objective, fit.theta, free, low, high)
    moves: Any = [(emcee.moves.DEMove(), 0.8), (emcee.moves.DESnookerMove(), 0.2)]
    thin_by = _THIN
    if objective.is_compiled:
        scale = start.std(axis=0)
        moves = _CompiledMoves(objective.compiled_arguments, fit.theta, free, low, high, scale)
        thin_by = 1  # each of these is as many steps already
    sampler = emcee.EnsembleSampler(
        len(start), free.size, log_posterior, vectorize=True, moves=moves
    )
    sampler.log_prob_fn = log_posterior  # without emcee's wrapper, which prints at Ctrl-C
    sampler.random_state = np.random.RandomState(rng.integers(2**31)).get_state()
    return sampler, start, thin_by


def _burn_in(time: float, steps: int) -> int:
    return int(min(5 * time, steps / 2))


def _autocorrelation_time(sampler: Any) -> float:
    """The longest of any parameter, steps; infinite where the chain does not show it."""
    times = np.nan_to_num(sampler.get_autocorr_time(tol=0), nan=np.inf)
    return _THIN * float(np.max(times))


class _CompiledMoves:
    """What emcee takes as a move: many at once, since a step in Python costs more than the rest."""

    def __init__(self, *arguments: Any) -> None:
        self._arguments = arguments

    def propose(self, model: Any, state: Any) -> tuple[Any, NDArray[np.bool_]]:
        seed = model.random.randint(2**31)
        arguments = (*self._arguments, state.coords, state.log_prob, _THIN, seed)
        return state, sweep_walkers(*arguments)

    def tune(self, state: Any, accepted: Any) -> None:
        """There is nothing to tune."""


@dataclass(frozen=True, eq=False)
class PosteriorPredictive:
    """Spectra that the posterior expects to be observed.

    Attributes
    ----------
    counts : ndarray, shape (n_draws, n_bins)
        Poisson counts, one spectrum per posterior sample, masked bins included.
    p_value : float
        Share of the draws whose deviance from their own parameters exceeds that of the data, over
        the fitted bins; near 0 the model does not describe the data.
    """

    counts: Array
    p_value: float


def posterior_predictive(
    fit: FitNumbers, *, n_draws: int = 1000, seed: Any = None
) -> PosteriorPredictive:
    """Draw spectra from the posterior, and compare the data with them.

    Parameters
    ----------
    fit : LineBackgroundFit
        With posterior samples.
    n_draws : int
        At most; as many as there are samples otherwise.
    seed : int or numpy Generator, optional

    Returns
    -------
    PosteriorPredictive

    References
    ----------
    Gelman, Meng & Stern 1996, Statistica Sinica 6, 733: Eq. 8 with the deviance.
    """
    if n_draws < 1:
        raise DataError(f"n_draws must be 1 or more, got {n_draws}.")
    rng = np.random.default_rng(seed)
    bound, spectrum = fit.model.bind(fit.spectrum.edges), fit.spectrum
    theta, free = fit.theta.copy(), fit.model.free
    rows, larger = [], 0
    for sample in fit.thinned_samples(n_draws):
        theta[free] = sample
        expected = bound.counts(theta) + (0.0 if fit.offset is None else fit.offset)
        drawn = rng.poisson(np.maximum(expected, 0.0)).astype(float)
        own, data = (half_deviance(n, spectrum.used, expected) for n in (drawn, spectrum.counts))
        larger += own >= data
        rows.append(drawn)
    return PosteriorPredictive(np.array(rows), larger / len(rows))


def _log_posterior(
    objective: Objective, theta: Array, free: NDArray[np.int64], low: Array, high: Array
) -> Callable[[Array], Array]:
    args = objective.compiled_arguments
    others = [
        (int(np.flatnonzero(free == i)[0]), x) for i, x in objective.other_priors if i in free
    ]
    if args is not None:

        def compiled(points: Array) -> Array:
            out = compiled_log_posterior(args, theta, free, low, high, points)
            for k, prior in others:
                out = out - prior.penalty(points[:, k])
            return np.asarray(out, dtype=float)

        return compiled

    def log_posterior(points: Array) -> Array:
        inside = np.all((points >= low) & (points <= high), axis=1)
        out = np.full(len(points), -np.inf)
        values = theta.copy()
        for i in np.flatnonzero(inside):
            values[free] = points[i]
            out[i] = -objective.value(values)
        return out

    return log_posterior


def _starting_points(
    fit: FitNumbers, objective: Objective, n_walkers: int, rng: np.random.Generator
) -> Array:
    """Points scattered around the fit by its errors, mirrored into the limits."""
    free = fit.model.free
    low, high = objective.low[free], objective.high[free]
    _, _, information = objective.scoring(fit.theta)
    scale = 1.0 / np.sqrt(np.maximum(np.diag(information)[free], 1e-300))
    span = np.where(np.isfinite(high - low), 0.1 * (high - low), np.inf)
    points = fit.theta[free] + np.minimum(scale, span) * rng.standard_normal((n_walkers, free.size))
    points = np.where(points < low, 2 * low - points, points)
    points = np.where(points > high, 2 * high - points, points)
    return np.clip(points, low, high)
