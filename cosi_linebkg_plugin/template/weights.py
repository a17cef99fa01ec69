"""Weights on energy slices: what distinguishes one template method from another.

A template is ``T = w @ M``, where M is the histogram seen as a matrix (energy bin x cell).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..errors import TemplateError


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


def component_weights(
    components: NDArray[np.float64],
    expected: NDArray[np.float64],
    energies: NDArray[np.float64],
    selected: NDArray[np.bool_],
    source_energy: float,
    order: int = 1,
) -> NDArray[np.float64]:
    """Weights that take the components of the spectrum apart, cell by cell.

    A slice is expected to hold ``M_i = sum_j c_i x_i^j C_j + sum_k l_ki L_k``: the continuum's
    distribution changes with energy as a polynomial in x = E - E0, each line component has one of
    its own. The weights are the least-squares solution with variances proportional to the model
    counts, which is optimal for Poisson slices: w = (G V^-1 G^T)^-1 G V^-1. For order 0 and one
    line component they are the sWeights; with the polynomial terms, custom orthogonal weight
    functions.

    Parameters
    ----------
    components : ndarray, shape (n_components, n_em), counts
        Expected counts per energy bin; the first row is the continuum.
    expected : ndarray, shape (n_em,), counts
        Their sum.
    energies : ndarray, shape (n_em,), keV
        Bin centres.
    selected : ndarray of bool, shape (n_em,)
        The bins to take.
    source_energy : float, keV
        E0, where the continuum's distribution is wanted.
    order : int
        Degree of the polynomial.

    Returns
    -------
    ndarray, shape (n_components, n_em)
        ``w @ M`` estimates the distribution of each component per count of it:
        w_k @ components_k = 1, w_k @ components_l = 0.

    Raises
    ------
    TemplateError
        If the selected bins cannot tell the components apart.

    References
    ----------
    Pivk & Le Diberder 2005, NIM A 555, 356, Eqs. 10-15; Dembinski, Kenzie, Langenbruch &
    Schmelling 2022, NIM A 1040, 167270, Sect. 3.
    """
    scale = max(float(np.max(np.abs(energies[selected] - source_energy), initial=0.0)), 1e-9)
    x = (energies[selected] - source_energy) / scale
    chosen = components[:, selected]
    rows = [chosen[0] * x**power for power in range(order + 1)] + list(chosen[1:])
    design = np.array(rows)
    size = np.sqrt(np.sum(design**2 / expected[selected], axis=1))
    if np.any(size == 0.0) or len(rows) > selected.sum():
        raise TemplateError(_too_little(len(rows), int(selected.sum())))
    scaled = design / size[:, None]
    information = (scaled / expected[selected]) @ scaled.T
    if np.linalg.eigvalsh(information)[0] < 1e-9:
        raise TemplateError(_too_little(len(rows), int(selected.sum())))
    solution = np.linalg.solve(information, scaled / expected[selected]) / size[:, None]
    weights = np.zeros(components.shape)
    weights[0, selected] = solution[0]
    weights[1:, selected] = solution[order + 1 :]
    return weights


def _too_little(n_unknown: int, n_bins: int) -> str:
    return (
        f"{n_bins} energy bins cannot tell apart {n_unknown} distributions (the continuum, its "
        "changes with energy, the lines); widen window=, lower order=, or use "
        "method='interpolated'."
    )
