"""Is there a further line: the score test along the energy axis, and the chance of a false one.

The residuals of a fit are scanned with the shape of a line (Rao 1948, Proc. Camb. Phil. Soc. 44,
50), with what the model's own parameters can explain projected out. Where no further line is, a
significance above u turns up anywhere with the chance

    p(u) = n Phi(-u) + L / (2 pi) exp(-u^2 / 2).

L is the length of the curve that the projected line shape, scaled to unit length, draws as its
energy runs over the n unmasked segments of the axis: Rice's rate of up-crossings (1944, Bell Syst.
Tech. J. 23, 282) in the geometry of Pilla, Loader & Taylor (2005, PRL 95, 230202), which Gross &
Vitells (2010, EPJ C 70, 525) count in simulations.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_ndtr, ndtri_exp

from ..spectrum.kernels import FLOOR
from ..spectrum.roots import falls_to_zero

Array = NDArray[np.float64]

#: Counts per fitted bin of lines of unit area at each of some energies [keV]; (n,) -> (n, n_used).
Shapes = Callable[[Array], Array]

#: A line is not looked for where the model explains more than this share of its square.
EXPLAINED = 0.9

#: Numbers in one block of line shapes.
_BLOCK = 100_000

#: No significance is above this, in standard deviations.
_HIGHEST = 40.0


@dataclass(frozen=True, eq=False)
class Residuals:
    """Pearson residuals of a fit, and what its parameters can explain.

    Attributes
    ----------
    values : ndarray, shape (n_used,)
        (n - mu) / sqrt(mu) of the fitted bins.
    scale : ndarray, shape (n_used,)
        1 / sqrt(mu).
    basis : ndarray, shape (n_used, rank)
        What the parameters can change of the residuals: B Bᵀ is what a fit takes out of their
        covariance. Orthonormal, unless other data tell the parameters as well.
    shared : bool
        Whether other data tell the parameters as well.
    """

    values: Array
    scale: Array
    basis: Array
    shared: bool = False

    @classmethod
    def of(
        cls, counts: Array, expected: Array, jacobian: Array, covariance: Array | None = None
    ) -> Residuals:
        """The residuals of fitted bins.

        Parameters
        ----------
        counts, expected : ndarray, shape (n_used,), counts
        jacobian : ndarray, shape (n_parameters, n_used)
            Derivatives of the expected counts to the parameters that were free to move.
        covariance : ndarray, shape (n_parameters, n_parameters), optional
            Of the parameters, where they were fitted to other data too.
        """
        scale = 1.0 / np.sqrt(np.maximum(expected, FLOOR))
        values, rows = (counts - expected) * scale, jacobian * scale
        basis = orthonormal(rows)
        if covariance is None:
            return cls(values, scale, basis)
        # these data's share of what is known along each direction, from 0 to 1
        inside = rows @ basis
        shares, turned = np.linalg.eigh(inside.T @ covariance @ inside)
        basis = basis @ (turned * np.sqrt(np.clip(shares, 0.0, 1.0)))
        return cls(values, scale, basis, shared=True)

    @property
    def of_basis(self) -> Array:
        """What of the residuals lies in the basis, shape (rank,).

        0 at the optimum of these and of other data, whose residuals complete it.
        """
        return np.zeros(self.basis.shape[1]) if self.shared else self.basis.T @ self.values

    @property
    def absorbed(self) -> float:
        """Degrees of freedom that the parameters take from these bins."""
        return float(np.sum(self.basis**2))

    def project(self, shapes: Array) -> tuple[Array, Array]:
        """Shapes in units of the noise without what the fit explains; and their squares before.

        Parameters
        ----------
        shapes : ndarray, shape (n, n_used), counts

        Returns
        -------
        ndarray, shape (n, n_used)
        ndarray, shape (n,)
            Only with a basis that is orthonormal is the square of the former what is left of it.
        """
        scaled = shapes * self.scale
        full = np.sum(scaled**2, axis=1)
        return scaled - (scaled @ self.basis) @ self.basis.T, full

    def score(self, shapes: Shapes, energies: Array) -> tuple[Array, Array]:
        """The score test of a further line at each energy.

        Returns
        -------
        significance : ndarray, shape (n,)
            In standard deviations, negative for a deficit; 0 where the model explains more than
            `EXPLAINED` of the line.
        amplitude : ndarray, shape (n,), counts
            Of the line, to first order.
        """
        z, amplitude = np.zeros(energies.size), np.zeros(energies.size)
        basis, of_basis = self.basis * self.scale[:, None], self.of_basis
        for part in _blocks(energies.size, self.values.size):
            # squares and products of what `project` gives, without making it
            lines = shapes(energies[part])
            explained, full = lines @ basis, lines**2 @ self.scale**2
            size = full - np.sum(explained**2, axis=1)
            usable = size > (1.0 - EXPLAINED) * full
            projected = lines @ (self.scale * self.values) - explained @ of_basis
            projected = np.where(usable, projected, 0.0)
            size = np.where(usable, size, 1.0)
            z[part], amplitude[part] = projected / np.sqrt(size), projected / size
        return z, amplitude

    def curve_length(self, shapes: Shapes, energies: Array) -> float:
        """Length of the curve that the projected shapes, scaled to unit length, draw.

        Parameters
        ----------
        energies : ndarray, shape (n,), keV
            Increasing, in one unmasked segment, a fraction of a line's width apart.

        Returns
        -------
        float, radians
        """
        total, last = 0.0, None
        for part in _blocks(energies.size, self.values.size):
            curve, _ = self.project(shapes(energies[part]))
            curve = curve / np.maximum(np.linalg.norm(curve, axis=1, keepdims=True), 1e-300)
            if last is not None:
                curve = np.vstack([last, curve])
            cosines = np.sum(curve[1:] * curve[:-1], axis=1)
            total += float(np.sum(np.arccos(np.clip(cosines, -1.0, 1.0))))
            last = curve[-1:]
        return total


def orthonormal(rows: Array) -> Array:
    """Orthonormal basis of the space that some vectors span.

    Parameters
    ----------
    rows : ndarray, shape (n, n_bins)

    Returns
    -------
    ndarray, shape (n_bins, rank)
    """
    size = np.sqrt(np.sum(rows**2, axis=1))
    scaled = rows[size > 0] / size[size > 0, None]
    if not scaled.size:
        return np.zeros((rows.shape[1], 0))
    u, values, _ = np.linalg.svd(scaled.T, full_matrices=False)
    return np.asarray(u[:, values > 1e-7 * values[0]], dtype=float)


# --- the chance of a false line anywhere ----------------------------------------------------------


def log_chance(u: float, segments: int, length: float) -> float:
    """Natural logarithm of p(u), the chance of a significance above u anywhere; see the module.

    Parameters
    ----------
    u : float
        In standard deviations.
    segments : int
        Unmasked segments of the axis.
    length : float, radians
        Sum of `Residuals.curve_length` over the segments.
    """
    crossings = math.log(max(length, 1e-300) / (2.0 * math.pi)) - 0.5 * u * u
    return float(np.logaddexp(math.log(segments) + log_ndtr(-u), crossings))


def threshold(false_alarm: float, segments: int, length: float) -> float:
    """The u at which p(u) is the false-alarm probability (0 where it is below that everywhere)."""

    def above(u: float) -> float:
        return log_chance(u, segments, length) - math.log(false_alarm)

    if above(0.0) <= 0.0:
        return 0.0
    return falls_to_zero(above, _HIGHEST, 48)


def global_significance(u: float, segments: int, length: float) -> float:
    """The significance, in standard deviations of one side, of the chance p(u)."""
    return max(0.0, -float(ndtri_exp(min(log_chance(u, segments, length), -1e-12))))


def _blocks(n: int, n_bins: int) -> Iterator[slice]:
    size = max(2, _BLOCK // max(n_bins, 1))
    for start in range(0, n, size):
        yield slice(start, start + size)
