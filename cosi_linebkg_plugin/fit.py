"""The direct fit: scoring, then migrad with the analytic gradient, then the exact Hessian."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .components import SpectralModel
from .errors import FitError, ModelError
from .guess import guess_start
from .objective import Objective, amplitude_slots, start_inside
from .result import LineBackgroundFit
from .spectrum import EnergySpectrum

#: Estimated distance to the minimum, in log-likelihood, that counts as converged: half the
#: square of 1e-4 standard errors. From below _EDM_OF_ONE_STEP one Newton step gets there.
_EDM_GOAL = 5e-9
_EDM_OF_ONE_STEP = 1e-3
#: What is accepted where limits keep the steps from getting there: migrad's own goal.
_EDM_ACCEPTED = 1e-4
_MAX_NEWTON_STEPS = 40
#: Smallest eigenvalue of the Hessian, scaled to a unit diagonal, that counts as positive: above
#: the error of differences of the gradient.
_SINGULAR = 1e-8


def fit_spectrum(
    model: SpectralModel, spectrum: EnergySpectrum, *, minos: bool = False
) -> LineBackgroundFit:
    """Fit a model to the unmasked bins of a spectrum.

    Parameters
    ----------
    model : SpectralModel
        Start values, limits, fixed and shared parameters, steps and priors are its own.
    spectrum : EnergySpectrum
    minos : bool
        Add profile-likelihood errors of every free parameter.

    Returns
    -------
    LineBackgroundFit
        With the covariance from the exact second derivatives.

    Raises
    ------
    ModelError
        More free parameters than unmasked bins.
    FitError
        No valid minimum; its ``result`` holds what was reached.
    """
    from iminuit import Minuit

    check_degrees_of_freedom(model, spectrum)
    objective = Objective(model, spectrum)
    free = model.free
    theta = start_inside(model)
    if free.size == 0:
        return LineBackgroundFit(model, spectrum, theta, (), np.zeros((0, 0)), n_calls=1)

    theta = _best_start(objective, theta)

    parameters = [model.parameters[i] for i in free]
    _, _, information = objective.scoring(theta)
    curvature = np.maximum(np.diag(information)[free], 1e-300)
    sigma = 1.0 / np.sqrt(curvature)

    def value(x):
        theta[free] = x
        return objective.value(theta)

    def gradient(x):
        theta[free] = x
        return objective.gradient(theta)[free]

    def second(_):
        return curvature

    minuit = Minuit(
        value,
        theta[free].copy(),
        grad=gradient,
        g2=second,
        name=[p.name for p in parameters],
    )
    minuit.errordef = Minuit.LIKELIHOOD
    minuit.strategy = 0
    minuit.print_level = 0
    minuit.limits = [(p.low, p.high) for p in parameters]
    spans = [0.1 * (p.high - p.low) for p in parameters]
    steps = [p.step or sigma[k] for k, p in enumerate(parameters)]
    minuit.errors = np.minimum(spans, steps)
    # A handful of calls from here; where limits make it crawl, the Newton steps take over.
    minuit.migrad(ncall=1000 + 50 * free.size)
    theta[free] = np.array(minuit.values)
    theta, interior, covariance, problem = _polish(objective, theta, sigma)
    names = tuple(model.parameters[i].name for i in interior)
    errors: dict[str, tuple[float, float]] = {}
    if minos and not problem:
        minuit.values = theta[free]
        minuit.minos()
        errors = {
            n: (float(e.lower), float(e.upper)) for n, e in minuit.merrors.items() if e.is_valid
        }
    result = LineBackgroundFit(
        model,
        spectrum,
        theta,
        names,
        covariance,
        valid=not problem,
        message=problem,
        at_limits=tuple(model.parameters[i].name for i in free if i not in set(interior)),
        minos=errors,
        n_calls=minuit.nfcn,
    )
    if problem:
        raise FitError(
            f"The fit did not converge: {problem}. Remove a line, fix a parameter or widen the "
            "limits; the exception's .result holds what was reached.",
            result,
        )
    return result


def _best_start(objective: Objective, theta: NDArray[np.float64]) -> NDArray[np.float64]:
    """The better of two scored starts: the caller's, and the one guessed from the data."""
    free, amplitudes = objective.model.free, amplitude_slots(objective.model)
    ends = []
    for start in (theta, guess_start(objective)):
        if amplitudes.size:  # first the amplitudes: a convex problem, whatever the rest
            start, _ = objective.score_to_minimum(start, amplitudes)
        ends.append(objective.score_to_minimum(start, free))
    return min(ends, key=lambda end: end[1])[0]


def _polish(objective, theta, sigma):
    """Newton steps with the exact Hessian to the minimum within the limits.

    Parameters
    ----------
    objective : Objective
    theta : ndarray, shape (n_parameters,)
    sigma : ndarray, shape (n_free,)
        Scales of the free parameters.

    Returns
    -------
    theta : ndarray
    interior : ndarray of int
        The free slots that sit on no limit and that the data constrain.
    covariance : ndarray, shape (n_interior, n_interior)
    problem : str
        What is wrong, or "".
    """
    free = objective.model.free
    low, high = objective.low[free], objective.high[free]
    theta = theta.copy()
    singular, edm, damping = "", np.inf, 0.0
    for _ in range(_MAX_NEWTON_STEPS):
        gradient = objective.gradient(theta)[free]
        slack = 1e-6 * sigma
        held = ((theta[free] - low <= slack) & (gradient >= 0)) | (
            (high - theta[free] <= slack) & (gradient <= 0)
        )
        moving = ~held & ~_idle(objective.model, theta, free)
        interior = free[moving]
        if interior.size == 0:
            return theta, interior, np.zeros((0, 0)), ""
        steps = np.minimum(1e-2 * sigma, 1e-3 * np.maximum(np.abs(theta[free]), 1e-3))[moving]
        hessian = objective.hessian(theta, interior, steps)
        covariance, problem = _inverse(objective.model, hessian, interior, damping)
        if damping == 0.0:
            singular = problem
        if problem:
            if damping > 1e3:
                break
            damping = max(10.0 * damping, 1e-3)
            continue
        gradient = gradient[moving]
        step = -covariance @ gradient
        edm = -0.5 * float(gradient @ step)
        value = objective.value(theta)
        trial = theta.copy()
        trial[interior] = np.clip(theta[interior] + step, low[moving], high[moving])
        if objective.value(trial) <= value:
            theta = trial
            if damping == 0.0 and edm < _EDM_OF_ONE_STEP:
                gradient = objective.gradient(theta)[interior]
                edm = 0.5 * float(gradient @ covariance @ gradient)
                if edm < _EDM_GOAL:
                    return theta, interior, covariance, ""
            damping = 0.0 if damping < 1e-2 else 0.1 * damping
        elif damping == 0.0 and edm < _EDM_GOAL:
            return theta, interior, covariance, ""  # rounding is all that is left
        else:
            damping = max(10.0 * damping, 1e-3)
    if not singular and damping == 0.0 and edm < _EDM_ACCEPTED:
        return theta, interior, covariance, ""
    problem = singular or f"the estimated distance to the minimum is {edm:.2g}"
    return theta, interior, np.full((interior.size, interior.size), np.nan), problem


def _inverse(model, hessian, interior, damping):
    """Covariance from a Hessian (damped on its diagonal), and what is wrong with it, or ''."""
    nothing = np.full_like(hessian, np.nan)
    root = np.sqrt(np.abs(np.diag(hessian)))
    if not np.all(np.isfinite(hessian)) or np.any(root == 0):
        flat = [model.parameters[i].name for i, r in zip(interior, root, strict=True) if not r > 0]
        return nothing, f"the data do not constrain {', '.join(flat)}"
    scaled = hessian / np.outer(root, root) + damping * np.eye(root.size)
    values, vectors = np.linalg.eigh(scaled)
    if values[0] < _SINGULAR:
        involved = np.abs(vectors[:, 0]) > 0.3
        names = [model.parameters[i].name for i in interior[involved]]
        return nothing, (
            "the covariance matrix is not positive definite; the data do not tell apart "
            f"{', '.join(names)}"
        )
    inverse = (vectors / values) @ vectors.T
    return inverse / np.outer(root, root), ""


def _idle(model, theta, slots):
    """True for parameters that act only through lines or power laws of zero amplitude."""
    acting = set()
    for c in model.components:
        if c.kind == "function" or theta[c.slots[0]] != 0.0:
            acting.update(c.slots)
        else:
            acting.add(c.slots[0])
    acting.update(source for slot, source, _ in model.derived if slot in acting)
    return np.array([slot not in acting for slot in slots])


def check_degrees_of_freedom(model: SpectralModel, spectrum: EnergySpectrum) -> None:
    """Refuse a fit with fewer unmasked bins than free parameters."""
    n_used, n_free = int(spectrum.used.sum()), model.free.size
    if n_used < n_free:
        raise ModelError(
            f"The model has {n_free} free parameters but only {n_used} of {spectrum.n_bins} "
            "energy bins are unmasked; fix parameters, remove lines or shorten the mask."
        )


def toy_p_value(
    fit: LineBackgroundFit, n_toys: int = 200, rng: Any = None
) -> tuple[float, NDArray[np.float64]]:
    """Goodness of fit from simulated spectra, for any number of counts.

    Parameters
    ----------
    fit : LineBackgroundFit
    n_toys : int
    rng : numpy Generator or seed

    Returns
    -------
    p_value : float
        (toys at least as bad as the data + 1) / (n_toys + 1).
    deviances : ndarray, shape (n_toys,)
    """
    rng = np.random.default_rng(rng)
    expected = fit.expected
    deviances = np.empty(n_toys)
    for i in range(n_toys):
        toy = replace(fit.spectrum, counts=rng.poisson(expected).astype(float))
        try:
            deviances[i] = fit_spectrum(_from_best(fit), toy).deviance
        except FitError as error:
            deviances[i] = error.result.deviance
    return float((np.sum(deviances >= fit.deviance) + 1) / (n_toys + 1)), deviances


def _from_best(fit: LineBackgroundFit) -> SpectralModel:
    """The fit's model with its best values as start values."""
    parameters = tuple(
        replace(p, value=float(v)) for p, v in zip(fit.model.parameters, fit.theta, strict=True)
    )
    return replace(fit.model, parameters=parameters)
