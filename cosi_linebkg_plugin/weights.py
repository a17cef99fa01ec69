"""Weights on energy slices: what distinguishes one template method from another.

A template is ``T = w @ M``, where M is the histogram seen as a matrix (energy bin x cell).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .errors import TemplateError


def sideband_weights(
    expected: NDArray[np.float64], selected: NDArray[np.bool_], source_counts: float
) -> NDArray[np.float64]:
    """One weight for all sidebands: model counts of the source range over those of the sidebands.

    Parameters
    ----------
    expected : ndarray, shape (n_em,), counts
        The fitted model per energy bin.
    selected : ndarray of bool, shape (n_em,)
        The sidebands' bins.
    source_counts : float
        Expected background counts in the source range.

    Returns
    -------
    ndarray, shape (n_em,)

    References
    ----------
    cosipy, LineBackgroundEstimation.generate_bkg_model_histogram.
    """
    total = expected[selected].sum()
    if not total > 0:
        raise TemplateError(
            "The model expects no counts in the sidebands; choose others or check the fit."
        )
    return np.where(selected, source_counts / total, 0.0)


def interpolated_weights(
    expected: NDArray[np.float64],
    energies: NDArray[np.float64],
    selected: NDArray[np.bool_],
    source_counts: float,
    source_energy: float,
) -> NDArray[np.float64]:
    """Least-noise weights that are right for a distribution that changes linearly with energy.

    Minimises the variance sum(w^2 mu) subject to sum(w mu) = `source_counts` and
    sum(w mu (E - E0)) = 0. The solution is w = a + b (E - E0), by Lagrange multipliers.

    Parameters
    ----------
    expected : ndarray, shape (n_em,), counts
        mu, the fitted model per energy bin.
    energies : ndarray, shape (n_em,), keV
        Bin centres E.
    selected : ndarray of bool, shape (n_em,)
        The bins to take.
    source_counts : float
    source_energy : float, keV
        E0.

    Returns
    -------
    ndarray, shape (n_em,)
        May be negative far from the source range.
    """
    mu = np.where(selected, expected, 0.0)
    distance = energies - source_energy
    scale = np.max(np.abs(distance[selected]))
    x = distance / scale
    moments = np.array([np.sum(mu), np.sum(mu * x), np.sum(mu * x * x)])
    determinant = moments[0] * moments[2] - moments[1] ** 2
    if not determinant > 1e-9 * moments[0] ** 2:
        raise TemplateError(
            "An interpolation needs two or more energy bins with expected counts; "
            f"the sidebands hold {int(np.sum(mu > 0))}. Widen them, or use method='sideband'."
        )
    a, b = source_counts * np.array([moments[2], -moments[1]]) / determinant
    return np.where(selected, a + b * x, 0.0)
