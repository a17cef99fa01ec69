"""How much the distributions of lines differ, measured on the lines that were fitted.

"lines" lends the line in the source range the mean distribution of its tracers. Each fitted line
that is seen (lines that overlap count as one) gets weights of its own, from the energies around it,
with a row for each neighbour, and so an estimate p_t of its distribution along an axis. With m the
mean of all and f_k polynomials on the axis that are orthonormal under m, the coefficients
c_tk = sum_g f_k(g) p_t(g) are relative differences, and

    c_tk = a_k + b_k (E_t - E_0) + tau_k e_tk + noise,
    cov(noise_tk, noise_uk) = sum_i w_ti w_ui sum_g f_k(g)^2 v_ig,

with e of variance 1. Neighbours share slices, hence the covariance. The trend b_k is kinematics,
which moves with energy and is no difference between lines. The contrasts free of a and b are made
independent by the eigenvectors of their covariance, and tau is what makes them agree
(`extra_error`): one for all k says whether there is a spread at all, one for each k how large.

Weights are taken as exact, and what a fit gets wrong of a line leaks from its neighbourhood into
its estimate.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from ..errors import TemplateError
from ..fit.result import LineBackgroundFit
from ..histograms.axis import EventAxis
from ..histograms.healpix import pix2vec
from .choice import AxisSlices, slices_by_axis
from .comparison import pixel_groups
from .extra_error import ExtraError, extra_error
from .line_spread import LineSpread, Pattern
from .plan import TemplatePlan
from .validation import NSIDE
from .weights import SEEN, LineGroup, component_weights, line_groups

Array = NDArray[np.float64]

#: Energies to either side of a line that its distribution is taken from [keV].
AROUND = 60.0

#: Degree of the polynomials along Phi, in the cumulative share of the mean distribution.
DEGREE = 4

#: A neighbour has a row of its own if it is so many times its noise.
NEIGHBOUR = 3.0

#: More bins than this are compared: along PsiChi there are eight polynomials.
LEAST_BINS = 9

#: A trend with energy is fitted to this many lines or more.
TREND = 5


def measured_spread(
    plan: TemplatePlan, fit: LineBackgroundFit, tracers: Sequence[float]
) -> LineSpread:
    """Measure how much the distributions of the fitted lines differ.

    Parameters
    ----------
    plan : TemplatePlan
        Of ``lines="spread"``.
    fit : LineBackgroundFit
    tracers : sequence of float, keV
        What the template's "lines" takes its distribution from; without any there are no patterns.

    Raises
    ------
    TemplateError
        If fewer than three lines can be told apart.
    """
    kept, weights = _weights_of_lines(plan, fit, line_groups(fit))
    if len(kept) < 3:
        raise TemplateError(
            "lines='spread' compares the distributions of three or more fitted lines, each "
            f"{SEEN:g} times its noise and apart from the others; the fit has {len(kept)}. Fit a "
            "wider range of energies with more lines, or leave lines= out."
        )
    energies = np.array([np.mean(g.energies) for g in kept])
    # the difference of one line from the mean of the tracers, which differ as well
    shares = np.array([g.spectrum.sum() for g in kept if set(g.energies) & set(tracers)])
    beyond = np.sqrt(1.0 + np.sum(shares**2) / max(shares.sum() ** 2, 1e-300))
    axes, patterns = {}, []
    for axis, slices in slices_by_axis(plan.events).items():
        if axis == "Time" or slices.counts.shape[1] <= LEAST_BINS:
            continue
        own = next(a for a in plan.events.other_axes if a.label == axis)
        error, modes, functions = spread_of_slices(own, slices, weights, energies)
        axes[axis] = error
        if error.least > 0 and shares.size:
            patterns += [
                Pattern(axis, tuple((beyond * mode.value * f).tolist()))
                for mode, f in zip(modes, functions, strict=True)
                if mode.value > 0
            ]
    return LineSpread(tuple(energies.round(3).tolist()), axes, tuple(patterns))


def spread_of_slices(
    axis: EventAxis, slices: AxisSlices, weights: Array, energies: Array
) -> tuple[ExtraError, list[ExtraError], Array]:
    """The relative spread of the distributions along an axis that rows of weights estimate.

    Parameters
    ----------
    axis : EventAxis
        "Phi", or a "PsiChi" that the slices are down-graded from.
    slices : AxisSlices
    weights : ndarray, shape (n_lines, n_em)
    energies : ndarray, shape (n_lines,), keV

    Returns
    -------
    error : ExtraError
        Of all polynomials together, with one size for all: the rms over the bins.
    modes : list of ExtraError
        Of each polynomial.
    functions : ndarray, shape (n_modes, axis.nbins)
        The polynomials on the axis.
    """
    estimates = weights @ slices.counts
    totals = estimates.sum(axis=1)
    # by the information that each holds
    precision = 1.0 / np.sum((weights**2) @ slices.variances, axis=1)
    mean = np.maximum((precision / totals) @ estimates, 0.0)
    coarse, fine = polynomials(axis, mean / mean.sum())
    own = weights / totals[:, None]
    coefficients = own @ slices.counts @ coarse.T
    covariances = [(own * (slices.variances @ f**2)) @ own.T for f in coarse]

    design = [np.ones(energies.size)]
    if energies.size >= TREND:
        design.append((energies - energies.mean()) / np.ptp(energies))
    contrasts = np.linalg.svd(np.array(design))[2][len(design) :]
    residuals, variances = [], []
    for values, covariance in zip(coefficients.T, covariances, strict=True):
        noise, vectors = np.linalg.eigh(contrasts @ covariance @ contrasts.T)
        residuals.append(vectors.T @ contrasts @ values)
        variances.append(noise)
    modes = [extra_error(r, v) for r, v in zip(residuals, variances, strict=True)]
    pooled = extra_error(np.concatenate(residuals), np.concatenate(variances))
    # of all of them together, as the rms over the bins
    whole = {x: np.sqrt(len(modes)) * getattr(pooled, x) for x in ("value", "low", "high", "least")}
    return replace(pooled, **whole), modes, fine


def polynomials(axis: EventAxis, mean: Array) -> tuple[Array, Array]:
    """Polynomials on an axis, orthonormal under a distribution, and with the mean 0.

    Along Phi of the cumulative distribution, up to `DEGREE`; on PsiChi those of the direction up
    to degree 2, which are the spherical harmonics of l = 1 and 2.

    Parameters
    ----------
    axis : EventAxis
    mean : ndarray, shape (n_groups,)
        The distribution; of PsiChi on the pixels of `NSIDE`.

    Returns
    -------
    coarse : ndarray, shape (n_modes, n_groups)
    fine : ndarray, shape (n_modes, axis.nbins)
    """
    if axis.label == "PsiChi":
        nest = axis.scheme == "NESTED"
        x, y, z = pix2vec(int(axis.nside or 1), np.arange(axis.nbins), nest=nest)
        raw = np.array([np.ones_like(x), x, y, z, x * y, x * z, y * z, x * x - y * y, z * z])
        groups = pixel_groups(axis, NSIDE)
        assert groups is not None
        grouped = np.stack([raw[:, group].mean(axis=1) for group in groups], axis=1)
    else:
        share = 2.0 * (np.cumsum(mean) - 0.5 * mean) - 1.0
        raw = grouped = np.array([share**k for k in range(DEGREE + 1)])
    # Gram-Schmidt: grouped = R^T Q, row by row
    triangle = np.linalg.qr((grouped * np.sqrt(mean)).T, mode="r")
    apart = np.linalg.inv(triangle).T[1:]
    return apart @ grouped, apart @ raw


def _weights_of_lines(
    plan: TemplatePlan, fit: LineBackgroundFit, groups: Sequence[LineGroup]
) -> tuple[list[LineGroup], Array]:
    """The lines that are seen, and weights for each of them, shape (n_lines, n_em)."""
    used, centers = fit.spectrum.used & ~plan.in_source, plan.centers
    is_line = np.array([c.is_line for c in fit.model.components])
    continuum = fit.component_spectra[~is_line].sum(axis=0)
    expected = np.maximum(fit.expected, 1e-12)
    kept, rows = [], []
    for group in groups:
        energy = float(np.mean(group.energies))
        near = used & (np.abs(centers - energy) <= AROUND)
        inside = group.spectrum[near].sum() > 0.5 * group.spectrum.sum()
        if not inside or group.seen(expected, near) < SEEN:
            continue
        apart, rest = [], np.zeros(centers.size)
        for other in groups:
            if other is not group and other.seen(expected, near) > NEIGHBOUR:
                apart.append(other.spectrum)
            elif other is not group:
                rest += other.spectrum
        # what adds less than a thousandth of the noise needs no row
        if rest[near].sum() > 1e-3 * np.sqrt(expected[near].sum()):
            apart.append(rest)
        table = np.array([continuum, group.spectrum, *apart])
        try:
            own = component_weights(table, expected, centers, near, energy)[1]
        except TemplateError:  # too few bins for all of its neighbours
            continue
        kept.append(group)
        rows.append(own)
    return kept, np.array(rows).reshape(len(rows), centers.size)
