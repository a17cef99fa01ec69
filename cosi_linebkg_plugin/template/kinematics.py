"""Features of the Compton angle that move with energy: where they are, and what to do about it.

Where a photon of the first Compton scatter has a fixed energy, the Compton angle is a function of
the event's energy alone. Activation with positrons thus draws ridges of 511 keV photons into the
background, which stand in other Phi bins in the sidebands than in the source range. Either take
sidebands in which they stay (`suggest_sidebands`), or move them (`shift_matrices`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtr

from ..errors import BinningError, DataError, ModelError
from ..fit.result import LineBackgroundFit
from ..spectrum.axis import bins_to_ranges, check_edges, check_inside, overlapping_bins
from ..units import in_kev

Array = NDArray[np.float64]

ELECTRON_MASS = 510.99895  # keV, CODATA 2018

#: Standard deviation in Phi [deg] of a feature; 1.0 to 1.5 do about as well.
FEATURE_WIDTH = 1.2

_REACH = 5.0  # widths around a feature within which it is fitted, with what it stands on


class Feature(NamedTuple):
    """A photon of fixed energy [keV]: scattered (E2), or all of the first deposit (E1)."""

    photon: float
    scattered: bool
    name: str


#: Annihilation photons: one leaves the scatter, one is absorbed in the first site, both leave.
FEATURES = (
    Feature(ELECTRON_MASS, True, "E2 = 511 keV"),
    Feature(ELECTRON_MASS, False, "E1 = 511 keV"),
    Feature(2 * ELECTRON_MASS, True, "E2 = 1022 keV"),
)


#: Photons absorbed in the first site that move fastest, -0.05 and -0.07 deg/keV at 1809 keV: both
#: annihilation photons together, and one of 60Co. Hardly any sidebands keep them in their bins.
FIRST_DEPOSITS = (
    Feature(2 * ELECTRON_MASS, False, "E1 = 1022 keV"),
    Feature(1173.228, False, "E1 = 1173 keV"),
)


def feature_angle(energy: ArrayLike, photon: float, scattered: bool) -> Array:
    """Angle of a first Compton scatter in which one photon has a fixed energy.

    ``cos(phi) = 1 - m (1/E2 - 1/E)``, Compton (1923), Phys. Rev. 21, 483.

    Parameters
    ----------
    energy : array_like, keV
        Total energy E of the event.
    photon : float, keV
    scattered : bool
        True: E2 = `photon`. False: it is the first deposit, E2 = E - `photon`.

    Returns
    -------
    ndarray of the shape of `energy`, deg; NaN where the kinematics forbid it
    """
    energy = np.asarray(energy, dtype=float)
    second = np.full_like(energy, photon) if scattered else energy - photon
    with np.errstate(invalid="ignore", divide="ignore"):
        cosine = 1.0 - ELECTRON_MASS * (1.0 / second - 1.0 / energy)
        return np.degrees(np.arccos(np.where(second > 0, cosine, np.nan)))


def feature_shares(
    energy_edges: ArrayLike,
    phi_edges: ArrayLike,
    counts: ArrayLike,
    *,
    features: Sequence[Feature] = FEATURES,
    width: float = FEATURE_WIDTH,
) -> tuple[Array, Array, Array]:
    """Fit how many of the events belong to each feature.

    A slice of N counts holds N [A g(Phi) + a + b (Phi - phi_k(E))] near feature k, with a
    Gaussian g at its angle phi_k(E) and one A, a, b for all slices: linear least squares.

    Parameters
    ----------
    energy_edges : array_like, shape (n_em + 1,), keV
    phi_edges : array_like, shape (n_phi + 1,), deg
    counts : array_like, shape (n_em, n_phi)
        The histogram, summed over its other axes. Energies without counts are left out.
    features : sequence of Feature
    width : float, deg
        Standard deviation of g.

    Returns
    -------
    amplitudes, errors : ndarray, shape (n_features,)
        A of each feature, 0 or more, and its standard error; NaN if forbidden at all energies.
    shares : ndarray, shape (n_features, n_em, n_phi)
        The part of a slice's Phi bin that belongs to each feature, 0 to 1, their sum at most 1.
    """
    energy, phi = _check(energy_edges, phi_edges, features, width)
    observed, shape = np.asarray(counts, dtype=float), (energy.size, phi.size - 1)
    if observed.shape != shape:
        raise DataError(f"counts must have the shape (n_em, n_phi) = {shape}: {observed.shape}.")
    if not (np.isfinite(observed).all() and (observed >= 0).all() and observed.sum() > 0):
        raise DataError("counts must be finite and not negative, and not all of them 0.")
    total = observed.sum(axis=1, keepdims=True)
    variance = np.maximum(total * observed.sum(axis=0) / total.sum(), 1.0)
    bins, center = np.diff(phi), 0.5 * (phi[1:] + phi[:-1])
    found = np.full((2, len(features)), np.nan)
    shares = np.zeros((len(features), *observed.shape))
    for k, feature in enumerate(features):
        angle = feature_angle(energy, feature.photon, feature.scattered)[:, None]
        offset = (center - angle) / width
        near = np.abs(offset) < _REACH  # False where the angle is NaN
        fitted = near & (total > 0)
        if not fitted.any():
            continue
        ridge = np.diff(ndtr((phi - angle) / width))
        density = np.stack([ridge, np.broadcast_to(bins, ridge.shape), bins * offset])
        weight = (total / np.sqrt(variance))[fitted]
        inverse = np.linalg.pinv((density[:, fitted] * weight).T)
        value = inverse @ (observed / np.sqrt(variance))[fitted]
        found[:, k] = max(value[0], 0.0), np.sqrt(inverse[0] @ inverse[0])
        ridge, rest = found[0, k] * ridge, np.tensordot(value[1:], density[1:], axes=1)
        shares[k, near] = (ridge / np.maximum(ridge + np.maximum(rest, 0.0), 1e-300))[near]
    shares /= np.maximum(shares.sum(axis=0), 1.0)
    return found[0], found[1], shares


def shift_matrices(
    energy_edges: ArrayLike,
    phi_edges: ArrayLike,
    source_energy: float,
    counts: ArrayLike,
    *,
    features: Sequence[Feature] = FEATURES + FIRST_DEPOSITS,
    width: float = FEATURE_WIDTH,
) -> Array:
    """Matrices that move the features of each energy slice to where they are at another energy.

    ``shifted = numpy.einsum("eij,ej->ei", matrices, counts)``, and the same for each pixel. Of
    each Phi bin only the features' share moves (`feature_shares`), split among the bins that the
    shifted Gaussian reaches. A feature that the kinematics forbid at either energy stays.

    Parameters
    ----------
    energy_edges, phi_edges, counts, features, width
        As for `feature_shares`; the Phi bins may be finer than the template's.
    source_energy : float, keV

    Returns
    -------
    ndarray, shape (n_em, n_phi, n_phi)
        To Phi bin i from Phi bin j: not negative, and each column sums to 1. What would leave
        the Phi axis stays in its first or last bin.

    Notes
    -----
    For the variance of a shifted cell use matrices @ counts too: it keeps that of the total. A warp
    of the Phi axis distorts the smooth part by as much as it gains: tests/studies/phi_features.py.
    """
    shares = feature_shares(energy_edges, phi_edges, counts, features=features, width=width)[2]
    energy, phi = _check(energy_edges, phi_edges, features, width)
    if not (np.isfinite(source_energy) and source_energy > 0):
        raise BinningError(f"source_energy must be above 0 keV, got {source_energy:g}.")
    target = np.array([-np.inf, *phi[1:-1], np.inf])
    diagonal = np.arange(phi.size - 1)
    matrices = np.zeros((energy.size, diagonal.size, diagonal.size))
    for k, feature in enumerate(features):
        angle = feature_angle(energy, feature.photon, feature.scattered)
        shift = feature_angle(source_energy, feature.photon, feature.scattered) - angle
        for i in np.flatnonzero(np.isfinite(shift)):
            # of the feature below the edges of the moved bins, and below those of the slice
            to, own = (ndtr((edges - angle[i]) / width) for edges in (target - shift[i], phi))
            low, high = np.maximum(to[:-1, None], own[:-1]), np.minimum(to[1:, None], own[1:])
            part = np.maximum(high - low, 0.0)
            matrices[i] += shares[k, i] * part / np.maximum(part.sum(axis=0), 1e-300)
    matrices[:, diagonal, diagonal] += np.maximum(1.0 - matrices.sum(axis=1), 0.0)
    return matrices


@dataclass(frozen=True)
class SidebandProposal:
    """Energies in which the features (nearly) keep the Phi bins that they have at the source.

    Attributes
    ----------
    ranges : tuple of (low, high), keV
        Rising, on whole bins.
    max_moved : float
        Share of a feature's events that may lie in other Phi bins.
    counts : float
        Expected in the ranges, by the fit.
    relative_error : float
        Statistical error of the total of a template from them, counts**-0.5.
    cost : float
        The same, relative to all line-free bins outside mask and source range.
    mean_energy : float, keV
        Weighted with the counts: the smooth part is off with distance.
    shifts : dict of str to (float, float), deg
        By feature: its angle at the lowest and highest energy minus that at the source.
    """

    ranges: tuple[tuple[float, float], ...]
    max_moved: float
    counts: float
    relative_error: float
    cost: float
    mean_energy: float
    shifts: dict[str, tuple[float, float]]

    def __str__(self) -> str:
        low, high = self.ranges[0][0], self.ranges[-1][1]
        text = (
            ", ".join(f"{a:.1f}-{b:.1f}" for a, b in self.ranges)
            + f" keV (mean {self.mean_energy:.1f} keV)\n  {self.counts:.0f} counts, statistical "
            f"error {self.relative_error:.2%}, {self.cost:.2f} times that of all line-free bins\n"
            f"  at most {self.max_moved:.0%} of a feature in other Phi bins than at the source"
        )
        for name, (a, b) in self.shifts.items():
            text += f"\n  {name}: {a:+.2f} deg at {low:.1f} keV, {b:+.2f} deg at {high:.1f} keV"
        return text


def suggest_sidebands(
    fit: LineBackgroundFit,
    source_range: Sequence[Any],
    phi_edges: ArrayLike,
    *,
    features: Sequence[Feature] = FEATURES,
    width: float = FEATURE_WIDTH,
    max_moved: Sequence[float] = (0.2, 0.3, 0.5),
    max_line_share: float = 0.02,
) -> list[SidebandProposal]:
    """Propose sidebands without strong lines in which the features keep their Phi bins.

    Parameters
    ----------
    fit : LineBackgroundFit
        Its mask is left out, and its lines are avoided.
    source_range : (low, high), keV
    phi_edges : array_like, shape (n_phi + 1,), deg
    features : sequence of Feature
        Ridges in Phi of photons of a fixed energy; default: those of 511 keV photons.
    width : float
        Standard deviation of a ridge [deg]; a tiny one asks whether its angle stays in its bin.
    max_moved : sequence of float
        One proposal each: the share, 0 to 1, of a feature's events that may lie in other Phi bins
        than at the centre of the source range.
    max_line_share : float
        Energy bins with a larger ratio of lines to continuum are left out.

    Returns
    -------
    list of SidebandProposal
        From strict to loose, without empty ones and repetitions; a BinningError if none is left.
    """
    edges = fit.spectrum.edges
    energy, phi = _check(edges, phi_edges, features, width)
    low, high = check_inside(edges, *in_kev(source_range))
    limits = np.sort(np.atleast_1d(np.asarray(max_moved, dtype=float)))
    if not (limits.size and ((limits >= 0) & (limits <= 1)).all() and max_line_share >= 0):
        given = f"got {max_moved} and {max_line_share}"
        raise ModelError(f"max_moved must be in 0-1, max_line_share 0 or more, {given}.")
    is_line, spectra = [c.is_line for c in fit.model.components], fit.component_spectra
    lines, expected = spectra[is_line].sum(axis=0), spectra.sum(axis=0)
    free = fit.spectrum.used & ~overlapping_bins(edges, low, high)
    free &= lines <= max_line_share * (expected - lines)
    energies = [*edges, 0.5 * (low + high)]
    angles = np.array([feature_angle(energies, f.photon, f.scattered) for f in features])
    moved = _moved(angles, phi, width)
    proposals: list[SidebandProposal] = []
    for limit in limits:
        chosen = free & (moved <= limit)
        ranges = tuple(bins_to_ranges(edges, chosen))
        counts = float(expected[chosen].sum())
        if not counts > 0 or (proposals and proposals[-1].ranges == ranges):
            continue
        cost = float(expected[free].sum() / counts) ** 0.5
        mean = float(energy[chosen] @ expected[chosen]) / counts
        ends = np.searchsorted(edges, [ranges[0][0], ranges[-1][1]])
        far = (angles[:, ends] - angles[:, -1:]).tolist()
        shifts = {f.name: (a, b) for f, (a, b) in zip(features, far, strict=True)}
        row = float(limit), counts, counts**-0.5, cost, mean, shifts
        proposals.append(SidebandProposal(ranges, *row))
    if not proposals:
        raise BinningError(
            f"No energy bin is left: in the {int(free.sum())} line-free bins outside mask and "
            f"source range, {np.min(moved, where=free, initial=1.0):.0%} or more of a feature "
            "moves. Raise max_moved or max_line_share, or use method='components'."
        )
    return proposals


def _moved(angles: Array, phi: Array, width: float) -> Array:
    """Largest share of a feature in other Phi bins than at the source, shape (n_em,).

    `angles` [deg] are those at the energy edges and, last, at the source: (n_features, n_em + 2).
    A feature that exists at one of the two energies only counts as moved.
    """
    profile = np.diff(ndtr((np.array([-np.inf, *phi, np.inf]) - angles[..., None]) / width))
    change = 0.5 * np.abs(profile[:, :-1] - profile[:, -1:]).sum(axis=-1)
    absent = np.isnan(angles[:, :-1]) & np.isnan(angles[:, -1:])
    change = np.where(absent, 0.0, np.nan_to_num(change, nan=1.0)).max(axis=0, initial=0.0)
    return np.asarray(np.maximum(change[:-1], change[1:]))  # a bin at the worse of its edges


def _check(
    energy_edges: ArrayLike, phi_edges: ArrayLike, features: Sequence[Feature], width: float
) -> tuple[Array, Array]:
    """Bin centres [keV] and Phi edges [deg] of what was given, or an error."""
    energy, phi = check_edges(energy_edges), np.array(phi_edges, dtype=float)
    rising = phi.ndim == 1 and phi.size > 1 and bool((np.diff(phi) > 0).all())
    if not (rising and phi[0] >= 0.0 and phi[-1] <= 180.0 + 1e-9):
        raise BinningError(
            f"phi_edges must be 2 or more rising angles in 0-180 deg: {phi.tolist()}."
        )
    if not (len(features) and 0 < width < np.inf):
        raise ModelError(f"Give features, and a width above 0 deg; got {features} and {width:g}.")
    return 0.5 * (energy[1:] + energy[:-1]), phi
