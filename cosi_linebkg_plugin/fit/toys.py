"""Goodness of fit from simulated spectra, for any number of counts."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import FitError, FitInterrupted, ModelError
from ..io.progress import Progress, count
from ..spectrum.axis import EnergySpectrum
from .faint import refit
from .minimise import from_best
from .objective import Objective, amplitude_slots
from .result import LineBackgroundFit


def toy_p_value(
    fit: LineBackgroundFit, n_toys: int = 200, rng: Any = None, progress: Progress | None = None
) -> tuple[float, NDArray[np.float64]]:
    """Goodness of fit from simulated spectra, for any number of counts.

    Parameters
    ----------
    fit : LineBackgroundFit
    n_toys : int
        Spectra that are drawn from the fit, and fitted again.
    rng : numpy Generator or seed, optional
    progress : Progress, optional
        Is told after each toy how many are done, and of how many.

    Returns
    -------
    p_value : float
        (toys at least as bad as the data + 1) / (n_toys + 1).
    deviances : ndarray, shape (n_toys,)

    Raises
    ------
    ModelError
        If the fit was read from a file that could not keep its function, law or prior, or shares
        parameters with other plugins of a session.
    FitInterrupted
        At Ctrl-C; its ``result`` is the fit, with the toys so far.
    """
    if fit.shared_with:
        raise ModelError(
            f"Toys of this spectrum alone say nothing of a fit whose parameters the data of "
            f"{', '.join(fit.shared_with)} tell too; take those of plugin.fit(model)."
        )
    rng = np.random.default_rng(rng)
    expected = fit.expected_total
    deviances: list[float] = []
    try:
        while len(deviances) < n_toys:
            toy = replace(fit.spectrum, counts=rng.poisson(expected).astype(float))
            deviances.append(_deviance_of(fit, toy))
            count(progress, len(deviances), n_toys, "toys")
    except KeyboardInterrupt as interrupt:
        done = len(deviances)
        toys = (_share_as_bad(fit, deviances), done) if done else None
        problem = f"interrupted after {done} of {n_toys} simulated spectra"
        raise FitInterrupted(problem, replace(fit, toys=toys, message=problem)) from interrupt
    return _share_as_bad(fit, deviances), np.array(deviances)


def _deviance_of(fit: LineBackgroundFit, toy: EnergySpectrum) -> float:
    """The deviance of the best fit to a simulated spectrum."""
    if not toy.counts[toy.used].any():
        return _deviance_without_counts(fit)
    try:
        return refit(fit, from_best(fit), toy, offset=fit.offset).deviance
    except FitError as error:
        return float(error.result.deviance)


def _deviance_without_counts(fit: LineBackgroundFit) -> float:
    """Twice the expected counts, at the least amplitudes."""
    objective = Objective(from_best(fit), fit.spectrum, offset=fit.offset)
    theta, amplitudes = fit.theta.copy(), amplitude_slots(fit.model)
    theta[amplitudes] = np.maximum(objective.low[amplitudes], 0.0)
    expected = objective.bound.counts(theta) + objective.offset
    return 2.0 * float(expected[fit.spectrum.used].sum())


def _share_as_bad(fit: LineBackgroundFit, deviances: list[float]) -> float:
    return (sum(d >= fit.deviance for d in deviances) + 1) / (len(deviances) + 1)


def with_toys(
    fit: LineBackgroundFit, n_toys: int = 200, rng: Any = None, progress: Progress | None = None
) -> LineBackgroundFit:
    """The fit with the p-value of its deviance from simulated spectra.

    For spectra with fewer than 5 expected counts in a bin, where the chi-square law does not hold.

    Parameters
    ----------
    fit : LineBackgroundFit
    n_toys : int
    rng : numpy Generator or seed, optional
        The same seed gives the same p-value.
    progress : Progress, optional
        As of `toy_p_value`.

    Returns
    -------
    LineBackgroundFit
        With `toys`; its `p_value` and `adequacy` follow.
    """
    return replace(fit, toys=(toy_p_value(fit, n_toys, rng, progress)[0], n_toys))
