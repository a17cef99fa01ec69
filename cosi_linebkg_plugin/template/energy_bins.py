"""How a template's counts are distributed over its energy bins, with their errors."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

#: How far parts whose counts move together may move apart, in their own standard errors. MINUIT has
#: the errors of nearly degenerate norms from finite differences: with a thousandth they came out up
#: to 16 times too small, with a tenth they are right to some percent (20 bins of two components).
_LOOSE = 0.1

#: A variance of a sum below this share of its terms' is rounding.
_ROUNDING = 1e-12


@dataclass(frozen=True, eq=False)
class EnergyBins:
    """Counts of each component in each energy bin of the source range, and their errors.

    The errors are split in two, so that they stay right when the norms are fitted to something
    else: what the counts of a bin do when the norms move by their own errors (`response`), and how
    far they move while the norms stay (`spread`). With S the covariance of the norms, that of the
    counts per bin is ``K S K^T + R``.

    Attributes
    ----------
    edges : ndarray, shape (n_bins + 1,), keV
    shares : ndarray, shape (n_labels, n_bins)
        Of each component's counts; each row adds up to 1.
    response : ndarray, shape (n_labels, n_bins, n_labels)
        K: counts of component k in bin b per count of component l. Over b it adds up to 1 for
        k = l, and to 0 otherwise.
    spread : ndarray, shape (n_labels, n_bins, n_labels, n_bins), counts^2
        R, their covariance at given norms. Over either b it adds up to 0.
    """

    edges: Array
    shares: Array
    response: Array
    spread: Array

    @classmethod
    def of(cls, edges: Array, shares: Array, covariance: Array, unknown: Array) -> EnergyBins:
        """From the covariance of the counts per bin.

        Parameters
        ----------
        edges, shares
            As of the class.
        covariance : ndarray, shape (n_labels, n_bins, n_labels, n_bins), counts^2
        unknown : ndarray of bool, shape (n_labels,)
            Components of which the amount is not known: their bins follow the norm by `shares`.

        Notes
        -----
        K and R are the mean and the covariance of a Gaussian law of the counts per bin, given their
        sums.
        """
        project = np.eye(shares.size).reshape(*shares.shape, *shares.shape)
        for k in np.flatnonzero(unknown):
            project[k, :, k] -= shares[k][:, None]
        c = _sandwich(project, covariance)
        cross = c.sum(axis=3)
        norms = cross.sum(axis=1)
        # bins whose sum does not vary, but for rounding, follow the norm by their shares
        fixed = np.diag(norms) <= _ROUNDING * np.einsum("kbkb->k", c)
        cross[:, :, fixed] = norms[:, fixed] = norms[fixed] = 0.0
        scale = np.where(fixed, 1.0, np.sqrt(np.where(fixed, 1.0, np.diag(norms))))
        inverse = np.linalg.pinv(norms / np.outer(scale, scale), rcond=1e-10, hermitian=True)
        inverse /= np.outer(scale, scale)
        response = cross @ inverse
        spread = c - np.einsum("kbm,lcm->kblc", response @ norms, response)
        response += shares[:, :, None] * (np.eye(len(shares)) - response.sum(axis=1))[:, None, :]
        return cls(edges, shares, response, spread)

    @property
    def n_bins(self) -> int:
        """Energy bins."""
        return self.edges.size - 1

    @property
    def centers(self) -> Array:
        """Their middles, shape (n_bins,), keV."""
        return 0.5 * (self.edges[1:] + self.edges[:-1])

    def counts(self, norms: Array) -> Array:
        """Counts per component and bin, shape (n_labels, n_bins), at norms of shape (n_labels,)."""
        return np.asarray(norms[:, None] * self.shares)

    def covariance(self, norms: Array) -> Array:
        """Of the counts per component and bin, shape (n_labels, n_bins, n_labels, n_bins).

        Parameters
        ----------
        norms : ndarray, shape (n_labels, n_labels), counts^2
            The covariance of the norms; an infinite variance makes those of all bins infinite.
        """
        known = np.where(np.isfinite(norms), norms, 0.0)
        out: Array = self.spread + np.einsum("kbm,lcm->kblc", self.response @ known, self.response)
        for k in np.flatnonzero(np.isinf(np.diag(norms))):
            out[k, range(self.n_bins), k, range(self.n_bins)] = np.inf
        return out

    def covariance_of_parts(self, norms: Array, rows: NDArray[np.int64], inside: Array) -> Array:
        """Of the counts of parts of the components.

        Parameters
        ----------
        norms : ndarray, shape (n_labels, n_labels), counts^2
        rows : ndarray of int, shape (n_parts,)
            The component of each part.
        inside : ndarray, shape (n_parts, n_bins)
            1 for the energy bins of a part, 0 elsewhere.

        Returns
        -------
        ndarray, shape (n_parts, n_parts), counts^2
        """
        known = self.covariance(np.where(np.isfinite(norms), norms, 0.0))[rows][:, :, rows]
        out: Array = np.einsum("pb,pbqc,qc->pq", inside, known, inside, optimize=True)
        # the bins of a line move together; what constrains them needs an inverse
        out[np.diag_indices_from(out)] *= 1.0 + _LOOSE**2
        out[np.diag_indices_from(out)] += np.where(np.isinf(np.diag(norms))[rows], np.inf, 0.0)
        return out


def _sandwich(project: Array, covariance: Array) -> Array:
    """P C P^T of matrices over (component, bin)."""
    n = covariance.shape[0] * covariance.shape[1]
    p, c = project.reshape(n, n), covariance.reshape(n, n)
    out: Array = (p @ c @ p.T).reshape(covariance.shape)
    return out
