"""Counts per energy bin of power laws and lines, in closed form, with their derivatives.

Every function integrates a density [counts/keV] over each bin exactly, to rounding: in closed
form, or where that loses digits (a bin narrow beside the scale on which the density changes) by
five-point Gauss-Legendre, which is exact there. The loops are compiled (numba), and a line touches
only the bins within its reach.

Shapes (E, mu, sigma, length in keV):

* power law ``K (E/piv)^index``, broken at an energy, or times a polynomial in ``E/piv - 1``;
* Gaussian ``F N(E; mu, sigma)``;
* Gaussian with a low-energy tail ``F [(1-fraction) N + fraction T]``, where T is the Gaussian
  convolved with an exponential towards low energies of mean `length`. T's density is
  ``1/(2 length) exp[y/length + sigma^2/(2 length^2)] erfc[y/(sqrt2 sigma) + sigma/(sqrt2 length)]``
  with ``y = E - mu`` (Phillips & Marlow 1976, NIM 137, 525, Eq. 5, without the step);
* step under a line ``F step erfc[(E - mu)/(sqrt2 sigma)]/2``, `step` in 1/keV (Phillips & Marlow
  have one too): photons of the line that were scattered on their way;
* annihilation line ``F [(1-broad) N(E; mu, sigma) + broad N(E; mu, ratio sigma)]``: positrons that
  annihilate at rest, and with electrons bound more tightly or in flight (Doppler effect);
* for line and step, ``sigma^2 = a + b mu`` in place of a sigma.

Counts and derivatives are right to 1e-12 wherever they exceed 1e-290, for bins from 1e-3 to 1e3
sigma and tails from 1e-3 to 1e3 sigma, 36 sigma out and 600 tail lengths below
(``tests/helpers/truth.py``, ``docs/validation.md``). That is relative to the value itself; a
derivative whose integrand, the derivative of the density, changes sign within the bin (d/dmu around
mu, d/dsigma around mu +- sigma ...) is right relative to the integral of the integrand's magnitude
or, if that is less, to the two edge terms whose difference it is.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtr

from .axis import check_edges
from .kernels import (
    BROADENED,
    FULL_REACH,
    GAUSSIAN,
    POWERLAW,
    ROW,
    STEP,
    TAIL_FOLDS,
    TAILED,
    accumulate,
    tables,
    tail_densities,
)


class EnergyGrid(NamedTuple):
    """Energy bins as the compiled loops want them.

    Attributes
    ----------
    edges : ndarray, shape (n_bins + 1,), keV
    log_mid : ndarray, shape (n_bins,)
        Natural logarithm of sqrt(low * high) / keV.
    log_width : ndarray, shape (n_bins,)
        ln(high / low).
    """

    edges: NDArray[np.float64]
    log_mid: NDArray[np.float64]
    log_width: NDArray[np.float64]

    @classmethod
    def from_edges(cls, edges: ArrayLike) -> EnergyGrid:
        """Precompute what depends on the bins alone; `edges` in keV, shape (n_bins + 1,)."""
        edges = check_edges(edges)
        low, high, logs = edges[:-1], edges[1:], np.log(edges)
        return cls(edges, 0.5 * (logs[:-1] + logs[1:]), np.log1p((high - low) / low))


def tail_folds(reach: float) -> float:
    """Tail lengths that a tail reaches below a line for one of the two reaches."""
    return TAIL_FOLDS[reach]


def _run(
    edges: ArrayLike, theta: NDArray[np.float64], rows: Iterable[Iterable[int]]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    grid = EnergyGrid.from_edges(edges)
    n_bins = grid.log_mid.size
    total, jac = np.zeros(n_bins), np.zeros((theta.size, n_bins))
    folds = tail_folds(FULL_REACH)
    accumulate(*grid, theta, *tables(rows), FULL_REACH, folds, total, jac)
    return total, jac


def powerlaw_counts(
    edges: ArrayLike, K: float, piv: float, index: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Counts per bin of ``K (E/piv)^index``.

    Parameters
    ----------
    edges : array_like, shape (n_bins + 1,), keV
    K : float, counts/keV at the pivot
    piv : float, keV
    index : float

    Returns
    -------
    counts : ndarray, shape (n_bins,)
    derivatives : ndarray, shape (3, n_bins)
        To K, piv, index.
    """
    theta = np.array([K, piv, index], dtype=float)
    return _run(edges, theta, [(POWERLAW, 0, 1, 2, -1, -1, -1)])


def gaussian_counts(
    edges: ArrayLike, F: ArrayLike, mu: ArrayLike, sigma: ArrayLike
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Counts per bin of Gaussian lines, all lines in one pass.

    Parameters
    ----------
    edges : array_like, shape (n_bins + 1,), keV
    F, mu, sigma : array_like, broadcast to shape (n_lines,)
        Counts, energy [keV], width [keV].

    Returns
    -------
    counts : ndarray, shape (n_bins,)
        Sum over the lines.
    derivatives : ndarray, shape (n_lines, 3, n_bins)
        To each line's F, mu, sigma.
    """
    return _run_lines(edges, GAUSSIAN, F, mu, sigma)


def tailed_gaussian_counts(
    edges: ArrayLike,
    F: ArrayLike,
    mu: ArrayLike,
    sigma: ArrayLike,
    fraction: ArrayLike,
    length: ArrayLike,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Counts per bin of Gaussian lines with an exponential low-energy tail.

    Parameters
    ----------
    edges : array_like, shape (n_bins + 1,), keV
    F, mu, sigma, fraction, length : array_like, broadcast to shape (n_lines,)
        Counts, energy [keV], width [keV], share of the counts in the tail (0 to 1), mean
        energy loss in the tail [keV].

    Returns
    -------
    counts : ndarray, shape (n_bins,)
    derivatives : ndarray, shape (n_lines, 5, n_bins)
        To each line's F, mu, sigma, fraction, length.

    References
    ----------
    Phillips & Marlow 1976, Nucl. Instrum. Methods 137, 525 (the tail of their Eq. 5).
    """
    return _run_lines(edges, TAILED, F, mu, sigma, fraction, length)


def tailed_gaussian_density(
    energies: ArrayLike, mu: float, sigma: float, fraction: float, length: float
) -> NDArray[np.float64]:
    """Density [1/keV] of a Gaussian with a low-energy tail at `energies` [keV], any shape."""
    energies = np.asarray(energies, dtype=float)
    z = (energies.ravel() - mu) / sigma
    tail: NDArray[np.float64] = tail_densities(z, float(sigma), float(length))
    gauss = np.exp(-0.5 * z * z) / (np.sqrt(2.0 * np.pi) * sigma)
    density = (1.0 - fraction) * gauss + fraction * tail
    return np.asarray(density, dtype=float).reshape(energies.shape)


def step_counts(
    edges: ArrayLike, F: ArrayLike, mu: ArrayLike, sigma: ArrayLike, step: ArrayLike
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Counts per bin of the steps under lines, which reach down to the lowest energy.

    Parameters
    ----------
    edges : array_like, shape (n_bins + 1,), keV
    F, mu, sigma, step : array_like, broadcast to shape (n_lines,)
        Counts of the line, its energy [keV] and width [keV]; height of the step far below the line
        over the line's counts [1/keV].

    Returns
    -------
    counts : ndarray, shape (n_bins,)
    derivatives : ndarray, shape (n_lines, 4, n_bins)
        To each line's F, mu, sigma, step.
    """
    return _run_lines(edges, STEP, F, mu, sigma, step)


def annihilation_counts(
    edges: ArrayLike,
    F: ArrayLike,
    mu: ArrayLike,
    sigma: ArrayLike,
    broad: ArrayLike,
    ratio: ArrayLike,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Counts per bin of lines with a narrow and a broad part at one energy.

    Parameters
    ----------
    edges : array_like, shape (n_bins + 1,), keV
    F, mu, sigma, broad, ratio : array_like, broadcast to shape (n_lines,)
        Counts of both parts, energy [keV], width of the narrow part [keV], share of the counts in
        the broad part (0 to 1), and its width over the narrow part's.

    Returns
    -------
    counts : ndarray, shape (n_bins,)
    derivatives : ndarray, shape (n_lines, 5, n_bins)
        To each line's F, mu, sigma, broad, ratio.
    """
    return _run_lines(edges, BROADENED, F, mu, sigma, broad, ratio)


def step_density(energies: ArrayLike, mu: float, sigma: float, step: float) -> NDArray[np.float64]:
    """Density [1/keV] of the step under a line of one count at `energies` [keV], any shape."""
    above = ndtr((mu - np.asarray(energies, dtype=float)) / sigma)
    return np.asarray(step * above, dtype=float)


def _run_lines(
    edges: ArrayLike, kind: int, *columns: ArrayLike
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Counts, and derivatives of shape (n_lines, n_columns, n_bins), of lines of one kind."""
    arrays = np.broadcast_arrays(*(np.atleast_1d(np.asarray(c, dtype=float)) for c in columns))
    theta = np.stack(arrays, axis=-1)
    n, n_columns = theta.shape
    slots = np.arange(theta.size).reshape(n, n_columns)
    table = np.full((n, ROW), -1)
    table[:, 0], table[:, 1:4], table[:, 5 : 2 + n_columns] = kind, slots[:, :3], slots[:, 3:]
    counts, jac = _run(edges, theta.ravel(), table)
    return counts, jac.reshape(n, n_columns, counts.size)
