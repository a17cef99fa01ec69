"""The direct fit: scoring, then migrad with the analytic gradient, then the exact Hessian."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from scipy.linalg.lapack import dtrtri
from scipy.special import ndtr

from ..errors import FitError, ModelError
from ..spectrum.axis import EnergySpectrum, bins_to_ranges, require_counts
from ..spectrum.components import SpectralModel
from .guess import guess_start
from .objective import Objective, amplitude_slots, start_inside
from .restarts import Optimum, other_lengths, other_places, other_ratios, tails_within
from .result import LineBackgroundFit

if TYPE_CHECKING:
    from iminuit import Minuit

Array = NDArray[np.float64]
Slots = NDArray[np.int64]

#: Estimated distance to the minimum, in log-likelihood, that counts as converged: half the
#: square of 1e-4 standard errors. From below _EDM_OF_ONE_STEP one Newton step gets there.
_EDM_GOAL = 5e-9

_EDM_OF_ONE_STEP = 1e-3

#: What is accepted where limits keep the steps from getting there: migrad's own goal.
_EDM_ACCEPTED = 1e-4

_MAX_NEWTON_STEPS = 200

#: How often a lower minimum is looked for from the last one.
_MAX_RESTARTS = 4

#: A line with a smaller share of its counts in fitted bins is not determined by them.
_SEEN_SHARE = 0.01

#: Smallest eigenvalue of the Hessian, scaled to a unit diagonal, that counts as positive: above
#: the error of differences of the gradient.
_SINGULAR = 1e-8

#: The same of what parameters do through laws, whose derivatives are exact.
_ONE = 1e-13

#: From this many parameters on an inverse by Cholesky is tried before eigenvalues.
_LARGE = 60


def fit_spectrum(
    model: SpectralModel,
    spectrum: EnergySpectrum,
    *,
    minos: bool = False,
    offset: Array | None = None,
) -> LineBackgroundFit:
    """Fit a model to the unmasked bins of a spectrum.

    Parameters
    ----------
    model : SpectralModel
        Start values, limits, fixed and shared parameters and priors are its own.
    spectrum : EnergySpectrum
    minos : bool
        Add profile-likelihood errors of every free parameter that sits on no limit; one that
        MINOS cannot find is missing from `LineBackgroundFit.minos`.
    offset : ndarray, shape (n_bins,), counts, optional
        Expected counts of a known source in the data, on top of the model's.

    Returns
    -------
    LineBackgroundFit
        With the covariance from the exact second derivatives. Where the fit fails with a width
        ``sigma^2 = a + b E``, or with a broad part of an annihilation line, the one with b, or the
        part's share, held at 0, and a message that says so.

    Raises
    ------
    DataError
        No counts in the unmasked bins.
    ModelError
        More free parameters than unmasked bins.
    FitError
        No valid minimum; its ``result`` holds what was reached.
    """
    require_counts(spectrum)
    check_degrees_of_freedom(model, spectrum)
    objective = Objective(model, spectrum, offset=offset)
    _check_lines_are_seen(objective)
    free = model.free
    theta = start_inside(model)
    if free.size == 0:
        return LineBackgroundFit(
            model, spectrum, theta, (), np.zeros((0, 0)), n_calls=1, offset=offset
        )

    for start in _scored_starts(objective, theta):
        objective, end, n_calls = _minimum(objective, start)
        if not end.problem:
            break
    model, theta, interior = objective.model, end.theta, end.interior
    problem = end.problem or _lost_line(objective, theta) or _negative_continuum(objective, theta)
    errors: dict[str, tuple[float, float]] = {}
    if minos and not problem:
        _, _, information = objective.scoring(theta)
        curvature = np.maximum(np.diag(information)[free], 1e-300)
        minuit = _minuit_of(objective, theta, curvature)
        errors = _minos(minuit, theta[free], np.isin(free, interior), end.covariance)
    result = LineBackgroundFit(
        model,
        spectrum,
        theta,
        tuple(model.parameters[i].name for i in interior),
        end.covariance,
        valid=not problem,
        message=problem,
        at_limits=tuple(model.parameters[i].name for i in np.setdiff1d(free, interior)),
        minos=errors,
        n_calls=n_calls,
        offset=offset,
    )
    if problem:
        simpler = _with_fewer_widths(result, minos)
        if simpler is not None:
            return simpler
        raise FitError(
            f"The fit did not converge: {problem}. Remove a line, fix a parameter or widen the "
            "limits; the exception's .result holds what was reached.",
            result,
        )
    return result


def _with_fewer_widths(failed: LineBackgroundFit, minos: bool) -> LineBackgroundFit | None:
    """The fit with a simpler shape of lines, where the one asked for failed; None if it fails too.

    An annihilation line of few counts has one part; one strong line, or several close to each
    other, determine one width, and not its growth.
    """
    model, theta = failed.model, failed.theta
    parameters, held = list(model.parameters), []

    def hold(slot: int, value: float) -> None:
        parameters[slot] = replace(parameters[slot], value=value, free=False)

    for c in (model.components[i] for i in model.lines):
        if c.broad_slots and parameters[c.broad_slots[0]].free:
            share, ratio = c.broad_slots
            hold(share, max(parameters[share].low, 0.0))
            hold(ratio, parameters[ratio].value)
            held.append(f"{parameters[share].name} is held at {parameters[share].value:g}")
    for c in () if held else (model.components[i] for i in model.lines):
        if len(c.width_slots) == 2 and parameters[c.width_slots[1]].free:
            a, b = c.width_slots
            hold(b, max(parameters[b].low, 0.0))
            variance = c.sigma(theta) ** 2 - parameters[b].value * float(theta[c.energy])
            parameters[a] = replace(parameters[a], value=variance)
            held.append(f"{parameters[b].name} is held at {parameters[b].value:g}")
    if not held:
        return None
    simpler = replace(model, parameters=tuple(parameters))
    try:
        fit = fit_spectrum(simpler, failed.spectrum, minos=minos, offset=failed.offset)
    except FitError:
        return None
    why = f"{', '.join(held)}, as the fit fails otherwise ({failed.message})"
    return replace(fit, message="; ".join(x for x in (why, fit.message) if x))


def _minimum(objective: Objective, theta: Array) -> tuple[Objective, Optimum, int]:
    """The minimum from a start, the objective with limits of tails, and the calls of migrad."""
    asked, free, n_calls = objective.model, objective.model.free, 0
    for _ in range(_MAX_RESTARTS):
        objective, theta = _with_short_tails(objective, theta, asked)
        _, _, information = objective.scoring(theta)
        curvature = np.maximum(np.diag(information)[free], 1e-300)
        sigma = 1.0 / np.sqrt(curvature)
        if not _is_close(objective, theta, sigma):
            minuit = _minuit_of(objective, theta, curvature)
            # A handful of calls from here; where limits make it crawl, the Newton steps take over.
            minuit.migrad(ncall=1000 + 50 * free.size)
            theta = theta.copy()
            theta[free] = np.array(minuit.values)
            n_calls += minuit.nfcn
        end = _optimum(objective, theta, sigma)
        theta = end.theta
        if tails_within(objective.model, theta, asked) is None:
            break
    problem = end.problem or _one_in_laws(objective.model, theta, end.interior)
    if problem != end.problem:
        nothing = np.full_like(end.covariance, np.nan)
        end = Optimum(end.theta, end.interior, nothing, problem)
    return objective, end, n_calls


def _with_short_tails(
    objective: Objective, theta: Array, asked: SpectralModel
) -> tuple[Objective, Array]:
    """Limits on the tails that are too long, and the best point within these."""
    for _ in range(_MAX_RESTARTS):
        limited = tails_within(objective.model, theta, asked)
        if limited is None:
            break
        objective = objective.of(limited)
        theta = np.clip(theta, objective.low, objective.high)
        theta, _ = objective.score_to_minimum(theta, objective.model.free)
    return objective, theta


def _minuit_of(objective: Objective, theta: Array, curvature: Array) -> Minuit:
    """A Minuit of the free parameters, started at `theta`; it leaves `theta` alone."""
    from iminuit import Minuit

    free = objective.model.free
    parameters = [objective.model.parameters[i] for i in free]
    tried = theta.copy()

    def value(x: Array) -> float:
        tried[free] = x
        return objective.value(tried)

    def gradient(x: Array) -> Array:
        tried[free] = x
        return objective.gradient(tried)[free]

    minuit = Minuit(
        value,
        theta[free].copy(),
        grad=gradient,
        g2=lambda _: curvature,
        name=[p.name for p in parameters],
    )
    minuit.errordef = Minuit.LIKELIHOOD
    minuit.strategy = 0
    minuit.print_level = 0
    minuit.limits = [p.limits for p in parameters]
    spans = 0.1 * (objective.high - objective.low)[free]
    minuit.errors = np.minimum(spans, 1.0 / np.sqrt(curvature))
    return minuit


def _optimum(objective: Objective, theta: Array, sigma: Array) -> Optimum:
    """What `_polish` finds from here and from the starts that its end suggests."""
    best = _polish(objective, theta, sigma)
    free = objective.model.free
    for n in range(_MAX_RESTARTS):
        starts = list(other_places(objective, best))
        if n == 0:
            starts += other_lengths(objective, best.theta)
            starts += other_ratios(objective, best.theta)
        if not starts:
            break
        ends = [objective.score_to_minimum(start, free) for start in starts]
        better, value = min(ends, key=lambda end: end[1])
        reached = objective.value(best.theta)
        if value > reached - _EDM_ACCEPTED and not best.problem:
            break
        again = _polish(objective, better, sigma)
        gained = objective.value(again.theta) < reached - _EDM_ACCEPTED
        if again.problem or not (gained or best.problem):
            break
        best = again
    return best


def _scored_starts(objective: Objective, theta: Array) -> list[Array]:
    """Starts after scoring, the best first, those that end like a better one left out.

    The caller's, the one guessed from the data, and, where lines have widths of their own, those
    two with all widths set to their weighted median.
    """
    free, amplitudes = objective.model.free, amplitude_slots(objective.model)
    widths = _free_widths(objective.model)
    ends: list[tuple[Array, float]] = []

    def score(start: Array) -> None:
        if amplitudes.size:  # first the amplitudes: a convex problem, whatever the rest
            start, _ = objective.score_to_minimum(start, amplitudes)
        ends.append(objective.score_to_minimum(start, free))

    score(theta)
    score(guess_start(objective))
    if len(widths) > 1:
        for end, _ in ends[:2]:
            # a line that took its neighbour's counts is too wide, the neighbour too narrow
            order = np.argsort(end[widths[:, 1]])
            share = np.cumsum(end[widths[order, 0]])
            middle = order[np.searchsorted(share, 0.5 * share[-1])] if share[-1] > 0 else order[0]
            start = end.copy()
            slots = widths[:, 1]
            start[slots] = np.clip(
                end[widths[middle, 1]], objective.low[slots], objective.high[slots]
            )
            score(start)
    ends.sort(key=lambda end: end[1])
    return [a for i, (a, v) in enumerate(ends) if not i or v > ends[i - 1][1] + _EDM_ACCEPTED]


def _free_widths(model: SpectralModel) -> NDArray[np.int64]:
    """Slots (amplitude, width) of the lines, one row per free width, shape (n, 2)."""
    rows: dict[int, tuple[int, int]] = {}
    for c in model.components:
        if c.is_line and len(c.width_slots) == 1:
            width = c.width_slots[0]
            if model.parameters[width].free:
                rows.setdefault(width, (c.area, width))
    return np.array(list(rows.values()), dtype=np.int64).reshape(-1, 2)


def _polish(objective: Objective, theta: Array, sigma: Array) -> Optimum:
    """Newton steps with the exact Hessian to the minimum within the limits.

    Parameters
    ----------
    objective : Objective
    theta : ndarray, shape (n_parameters,)
    sigma : ndarray, shape (n_free,)
        Scales of the free parameters.
    """
    free = objective.model.free
    low, high = objective.low[free], objective.high[free]
    theta = theta.copy()
    damping = 0.0
    for _ in range(_MAX_NEWTON_STEPS):
        gradient = objective.gradient(theta)[free]
        moving = _can_move(objective, theta, gradient, sigma)
        interior = free[moving]
        if interior.size == 0:
            return Optimum(theta, interior, np.zeros((0, 0)), "")
        steps = _steps(theta[free], sigma)[moving]
        hessian = objective.hessian(theta, interior, steps)
        covariance, problem = _inverse(objective.model, hessian, interior, damping)
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
                    return Optimum(theta, interior, covariance, "")
            damping = 0.0 if damping < 1e-2 else 0.1 * damping
        elif damping == 0.0 and edm < _EDM_GOAL:
            return Optimum(theta, interior, covariance, "")  # rounding is all that is left
        else:
            damping = max(10.0 * damping, 1e-3)
    # Limits or rounding kept the steps from getting there.
    return Optimum(theta, interior, *_judged(objective, theta, interior, steps))


def _is_close(objective: Objective, theta: Array, sigma: Array) -> bool:
    """Whether one Newton step leads from here to a minimum, by the exact Hessian.

    Scoring may also end at a saddle point, or where it crawls along a limit.
    """
    free = objective.model.free
    gradient = objective.gradient(theta)[free]
    moving = _can_move(objective, theta, gradient, sigma)
    if not moving.any():
        return True
    hessian = objective.hessian(theta, free[moving], _steps(theta[free], sigma)[moving])
    covariance, problem = _inverse(objective.model, hessian, free[moving], 0.0)
    edm = 0.5 * float(gradient[moving] @ covariance @ gradient[moving])
    return not problem and edm < _EDM_OF_ONE_STEP


def _steps(x: Array, sigma: Array) -> Array:
    """Half-widths of the differences that the Hessian is made of."""
    return np.asarray(np.minimum(1e-2 * sigma, 1e-3 * np.maximum(np.abs(x), 1e-3)), dtype=float)


def _judged(objective: Objective, theta: Array, interior: Slots, steps: Array) -> tuple[Array, str]:
    """Covariance at a point, and what is wrong with it as a minimum, or ""."""
    hessian = objective.hessian(theta, interior, steps)
    covariance, singular = _inverse(objective.model, hessian, interior, 0.0)
    if not singular:
        gradient = objective.gradient(theta)[interior]
        edm = 0.5 * float(gradient @ covariance @ gradient)
        if edm < _EDM_ACCEPTED:
            return covariance, ""
    problem = singular or f"the estimated distance to the minimum is {edm:.2g}"
    return np.full((interior.size, interior.size), np.nan), problem


def _can_move(
    objective: Objective, theta: Array, gradient: Array, sigma: Array
) -> NDArray[np.bool_]:
    """True for free parameters that act, and sit on no limit that the gradient pushes against."""
    free = objective.model.free
    low, high, x = objective.low[free], objective.high[free], theta[free]
    slack = np.minimum(1e-6 * sigma, 1e-6 * np.maximum(np.abs(x), 1e-3))
    held = ((x - low <= slack) & (gradient >= 0)) | ((high - x <= slack) & (gradient <= 0))
    return np.asarray(~held & ~_idle(objective.model, theta, free), dtype=bool)


def _inverse(
    model: SpectralModel, hessian: Array, interior: Slots, damping: float
) -> tuple[Array, str]:
    """Covariance from a Hessian (damped on its diagonal), and what is wrong with it, or ''."""
    nothing = np.full_like(hessian, np.nan)
    root = np.sqrt(np.abs(np.diag(hessian)))
    if not np.all(np.isfinite(hessian)) or np.any(root == 0):
        flat = [model.parameters[i].name for i, r in zip(interior, root, strict=True) if not r > 0]
        return nothing, f"the data do not constrain {', '.join(flat)}"
    scaled = hessian / np.outer(root, root) + damping * np.eye(root.size)
    if root.size >= _LARGE:
        inverse = _inverse_of_large(scaled)
        if inverse is not None:
            return inverse / np.outer(root, root), ""
    values, vectors = np.linalg.eigh(scaled)
    if values[0] < _SINGULAR:
        involved = np.abs(vectors[:, 0]) > 0.3
        names = [model.parameters[i].name for i in interior[involved]]
        return nothing, _not_told_apart(names)
    inverse = (vectors / values) @ vectors.T
    return inverse / np.outer(root, root), ""


def _one_in_laws(model: SpectralModel, theta: Array, interior: Slots) -> str:
    """What is wrong if laws let several parameters act as one only, or "".

    Exact, where a Hessian made of differences shows its own noise.
    """
    if not model.derived:
        return ""
    free = set(interior.tolist())
    if all(len(free.intersection(law.slots)) < 2 for _, _, law in model.derived):
        return ""
    known = {i for i, p in enumerate(model.parameters) if p.prior is not None}
    rows = sorted(known.union(*(c.slots for c in model.components)))
    effects = model.slopes(theta)[rows][:, interior]
    effects /= np.maximum(np.sqrt((effects**2).sum(axis=0)), np.finfo(float).tiny)
    values, vectors = np.linalg.eigh(effects.T @ effects)
    if values[0] > _ONE:
        return ""
    names = [model.parameters[i].name for i in interior[np.abs(vectors[:, 0]) > 0.3]]
    return _not_told_apart(names)


def _not_told_apart(names: Sequence[str]) -> str:
    return (
        "the covariance matrix is not positive definite; the data do not tell apart "
        f"{', '.join(names)}"
    )


def _inverse_of_large(matrix: Array) -> Array | None:
    """The inverse by Cholesky; None if an eigenvalue may be below `_SINGULAR`.

    The smallest eigenvalue is at least 1 / |inverse|, in any norm.
    """
    try:
        factor = np.linalg.cholesky(matrix)
    except np.linalg.LinAlgError:
        return None
    half, info = dtrtri(factor, lower=1)
    if info:
        return None
    inverse = half.T @ half
    return inverse if np.abs(inverse).sum(axis=0).max() < 1.0 / _SINGULAR else None


def _idle(model: SpectralModel, theta: Array, slots: Slots) -> NDArray[np.bool_]:
    """True for parameters that act only through lines, power laws or parts of lines that are 0."""
    acting: set[int] = set()
    for c in model.components:
        if c.amplitude is None or c.kind == "function" or theta[c.amplitude] != 0.0:
            share, shape = c.tail_slots or c.broad_slots or (0, -1)
            acting.update(s for s in c.slots if s != shape or theta[share] != 0.0)
        else:
            acting.add(c.amplitude)
    for slot, source, law in reversed(model.derived):
        if slot in acting:
            acting.update((source, *law.slots))
    return np.array([slot not in acting for slot in slots])


def _minos(
    minuit: Minuit, best: Array, interior: NDArray[np.bool_], covariance: Array
) -> dict[str, tuple[float, float]]:
    """Profile-likelihood errors around the polished minimum, by parameter name."""
    minuit.reset()
    minuit.values = best
    minuit.fixed = ~interior
    errors = np.zeros(best.size)
    errors[interior] = np.sqrt(np.diag(covariance))
    for name, error in zip(minuit.parameters, errors, strict=True):
        if error > 0:
            minuit.errors[name] = error
    found: dict[str, tuple[float, float]] = {}
    try:
        minuit.strategy = 1
        minuit.migrad()
        minuit.minos()
    except RuntimeError:  # migrad's own idea of a valid minimum; ours has been checked
        return found
    for name, e in minuit.merrors.items():
        if e.is_valid:
            found[name] = (float(e.lower), float(e.upper))
    return found


def _free_lines(model: SpectralModel, theta: Array) -> tuple[Slots, Array]:
    """Slots of F and mu, shape (n, 2), and widths [keV] of the lines with a free amplitude."""
    lines = [c for c in model.components if c.is_line and model.parameters[c.area].free]
    slots = np.array([(c.area, c.energy) for c in lines], dtype=np.int64).reshape(-1, 2)
    return slots, np.array([c.sigma(theta) for c in lines])


def _seen_shares(spectrum: EnergySpectrum, mu: Array, sigma: Array) -> Array:
    """Share of each line's counts in fitted bins, shape of `mu`; its last axis that of `sigma`."""
    fitted = np.array(bins_to_ranges(spectrum.edges, spectrum.used)).reshape(-1, 2)
    below = ndtr((fitted.ravel() - mu[..., None]) / sigma[:, None])
    return np.asarray((below[..., 1::2] - below[..., ::2]).sum(axis=-1), dtype=float)


def _check_lines_are_seen(objective: Objective) -> None:
    """Refuse free lines of which no fitted bin could see anything."""
    theta = start_inside(objective.model)
    lines, width = _free_lines(objective.model, theta)
    if not len(lines):
        return
    parameters = [objective.model.parameters[i] for i in lines[:, 1]]
    start = theta[lines[:, 1]]
    places = [start]
    for limit in (objective.low, objective.high):
        usable = np.isfinite(limit[lines[:, 1]]) & [p.free for p in parameters]
        places.append(np.where(usable, limit[lines[:, 1]], start))
    seen = _seen_shares(objective.spectrum, np.array(places), width).max(axis=0)
    for parameter, energy, share in zip(parameters, start, seen, strict=True):
        if share < _SEEN_SHARE:
            raise ModelError(
                f"The line at {energy:g} keV ({parameter.name}) lies in the mask or outside the "
                "energy axis: the fitted bins say nothing about it. Leave it out of the model; the "
                "amount of a line in the source range comes from line_ratio= of the template."
            )


def _lost_line(objective: Objective, theta: Array) -> str:
    """What is wrong if a line ended where no fitted bin sees it, or ''."""
    lines, sigma = _free_lines(objective.model, theta)
    seen = _seen_shares(objective.spectrum, theta[lines[:, 1]], sigma)
    lost = lines[(theta[lines[:, 0]] > 0) & (seen < _SEEN_SHARE)]
    if not len(lost):
        return ""
    name = objective.model.parameters[lost[0, 1]].name
    return f"the line {name} moved to {theta[lost[0, 1]]:.1f} keV, where no fitted bin sees it"


def _negative_continuum(objective: Objective, theta: Array) -> str:
    """What is wrong if the continuum falls below 0 anywhere on the axis, or ''."""
    model, spectrum = objective.model, objective.spectrum
    continuum = model.continuum
    if all(model.components[i].kind in ("powerlaw", "broken_powerlaw") for i in continuum):
        return ""
    counts = model.select(continuum).bind(objective.bound.grid).counts(theta)
    if counts.min() >= 0.0:
        return ""
    return f"the continuum is negative at {spectrum.centers[counts.argmin()]:.1f} keV"


def check_fit(model: SpectralModel, spectrum: EnergySpectrum) -> None:
    """Refuse what `fit_spectrum` would refuse, without any work."""
    check_degrees_of_freedom(model, spectrum)
    _check_lines_are_seen(Objective(model, spectrum))


def check_degrees_of_freedom(model: SpectralModel, spectrum: EnergySpectrum) -> None:
    """Refuse a fit with fewer unmasked bins than free parameters.

    Raises
    ------
    ModelError
    """
    n_used, n_free = int(spectrum.used.sum()), model.free.size
    if n_used < n_free:
        raise ModelError(
            f"The model has {n_free} free parameters but only {n_used} of {spectrum.n_bins} "
            "energy bins are unmasked; fix parameters, remove lines or shorten the mask."
        )


def from_best(fit: LineBackgroundFit) -> SpectralModel:
    """The fit's model with its best values as start values."""
    parameters = tuple(
        replace(p, value=float(v)) for p, v in zip(fit.model.parameters, fit.theta, strict=True)
    )
    return replace(fit.model, parameters=parameters)
