"""Features that move with energy: what they do to the Phi projection, and whether a shift helps.

``PYTHONPATH=tests/helpers python tests/studies/phi_features.py [n_seeds]`` prints the tables; five
seeds take a minute. Set OMP_NUM_THREADS=1. Data: the demo simulation (nside 4) with the sky of
DC3, five features at fixed photon energies (or none), which hold different shares of continuum and
lines.

The numbers are the chi2 per degree of freedom of the Phi projection (60 bins of 3 deg) at the best
norms, against the truth *without* Poisson noise and with variance = template noise + truth counts,
the mean over the seeds. A template without bias scores "floor", not 1. Columns:

none     the slices as they are
warp     the Phi axis around the three known features is moved, with all that lies there
shift    `shift_matrices` with its five features
shift-3  ... of those of 511 keV photons alone
"""

from __future__ import annotations

import sys

import numpy as np
from spectra import line_model

from cosi_linebkg_plugin.app import simulation
from cosi_linebkg_plugin.app.demo import MASK, SIDEBANDS, resolved_lines
from cosi_linebkg_plugin.app.simulation import SOURCE_RANGE
from cosi_linebkg_plugin.fit.minimise import fit_spectrum
from cosi_linebkg_plugin.spectrum.axis import EnergySpectrum, whole_bins
from cosi_linebkg_plugin.template.kinematics import (
    FEATURE_WIDTH,
    FEATURES,
    feature_angle,
    feature_shares,
    shift_matrices,
    suggest_sidebands,
)
from cosi_linebkg_plugin.template.weights import (
    component_weights,
    interpolated_weights,
    sideband_weights,
)

SOURCE_ENERGY = 0.5 * sum(SOURCE_RANGE)
WINDOWS = [(1730, 1890, 1), (1670, 1960, 1), (1500, 2000, 0), (1500, 2000, 1)]


def fit_lines(edges, counts):
    """Power law and the lines that 5 keV bins resolve, as in the demo."""
    lines = resolved_lines()
    middle = [lines[0] - 20, *(0.5 * (np.array(lines[1:]) + lines[:-1])), lines[-1] + 20]
    rows = [
        (e, 3e3, (max(e - 10, a), min(e + 10, b)))
        for e, a, b in zip(lines, middle[:-1], middle[1:], strict=True)
    ]
    return fit_spectrum(line_model(rows), EnergySpectrum(edges, counts).with_mask([MASK]))


def all_weights(fit, phi_edges):
    """Weights on the energy slices, (n_components, n_em), by method."""
    edges, expected = fit.spectrum.edges, fit.expected
    energies = fit.spectrum.centers
    ranges = {"tutorial": SIDEBANDS}
    for proposal in suggest_sidebands(fit, SOURCE_RANGE, phi_edges):
        ranges[f"{proposal.max_moved:.0%} moved"] = proposal.ranges
    rows = {}
    for name, bands in ranges.items():
        chosen = np.any([whole_bins(edges, *band) for band in bands], axis=0)
        rows[f"sideband, {name}"] = sideband_weights(expected, chosen, 1.0)[None]
        rows[f"interpolated, {name}"] = interpolated_weights(
            expected, energies, chosen, 1.0, SOURCE_ENERGY
        )[None]
    spectra = fit.component_spectra
    parts = np.array([spectra[0], spectra[1:].sum(axis=0)])
    for low, high, order in WINDOWS:
        chosen = whole_bins(edges, low, high) & fit.spectrum.used
        rows[f"components, {low}-{high}, order {order}"] = component_weights(
            parts, expected, energies, chosen, SOURCE_ENERGY, order
        )
    return rows


def warp_matrices(energy_edges, phi_edges, reach=6.0):
    """Move all that lies within 2 widths of a feature with it; beyond, linearly less.

    Piecewise linear in Phi, to 0 within `reach` widths, so that it is monotone while the features
    keep their order and distance. Slices where they come closer (below 1600 keV) stay.
    """
    core, bins = 2 * FEATURE_WIDTH, np.diff(phi_edges)
    target = np.array([-np.inf, *phi_edges[1:-1], np.inf])
    matrices = []
    for energy in 0.5 * (energy_edges[1:] + energy_edges[:-1]):
        rows = [
            [float(feature_angle(e, f.photon, f.scattered)) for e in (energy, SOURCE_ENERGY)]
            for f in FEATURES
        ]
        at, to = np.array(sorted(rows)).T
        if np.min(np.diff(at)) <= 2 * core or np.min(np.diff(to)) <= 2 * core:
            matrices.append(np.eye(bins.size))
            continue
        ramp = np.maximum(reach * FEATURE_WIDTH, 2 * np.abs(to - at))
        knots, shifts = [at[0] - core - ramp[0]], [0.0]
        for k in range(at.size):
            knots += [at[k] - core, at[k] + core]
            shifts += [to[k] - at[k]] * 2
            end = at[k] + core + ramp[k]
            start = at[k + 1] - core - ramp[k + 1] if k + 1 < at.size else np.inf
            if start > end:
                knots += [end, start]
                shifts += [0.0, 0.0]
        moved = phi_edges + np.interp(phi_edges, knots[:-1], shifts[:-1])
        assert (np.diff(moved) > 0).all()
        below = np.clip((target[:, None] - moved[:-1]) / np.diff(moved), 0, 1)
        matrices.append(np.diff(below, axis=0))
    return np.array(matrices)


def chi2_and_floor(weights, slices, truth):
    """Chi2 per degree of freedom at the best norms; and of the template's noise alone."""
    maps = weights @ slices
    covariance = np.einsum("ae,be,ep->abp", weights, weights, slices)
    norms = np.full(len(weights), truth.sum() / maps.sum())
    for _ in range(5):
        variance = np.einsum("a,b,abp->p", norms, norms, covariance)
        total = variance + truth
        norms = np.linalg.solve((maps / total) @ maps.T, (maps / total) @ truth)
    dof = truth.size - len(weights)
    return np.sum((norms @ maps - truth) ** 2 / total) / dof, np.sum(variance / total) / dof


def run(seed, step):
    """{(method, column): number}, and the fitted amplitudes of the features."""
    phi = np.arange(0.0, 180.0 + step / 2, step)
    sim = simulation.simulate(seed, nside=4, phi_edges=phi, sky_counts=35600)
    edges = sim.energy_edges
    coordinates = np.ravel_multi_index(tuple(sim.coords[:2]), sim.shape[:2])
    counts = np.bincount(coordinates, sim.counts, minlength=sim.shape[0] * sim.shape[1])
    counts = counts.reshape(sim.shape[:2])

    def template_bins(rows):
        return rows.reshape(*rows.shape[:-1], 60, -1).sum(axis=-1)

    truth = template_bins(sim.expected_background(*SOURCE_RANGE).sum(axis=1))
    options = edges, phi, SOURCE_ENERGY, counts
    matrices = {
        "none": np.broadcast_to(np.eye(phi.size - 1), (99, phi.size - 1, phi.size - 1)),
        "warp": warp_matrices(edges, phi),
        "shift": shift_matrices(*options),
        "shift-3": shift_matrices(*options, features=FEATURES),
    }
    methods = all_weights(fit_lines(edges, counts.sum(axis=1)), np.arange(0.0, 181.0, 3.0))
    table = {}
    for column, matrix in matrices.items():
        slices = template_bins(np.einsum("eij,ej->ei", matrix, counts))
        for name, weights in methods.items():
            value, floor = chi2_and_floor(weights, slices, truth)
            table[name, column] = value
            table[name, "floor"] = floor
    return table, feature_shares(edges, phi, counts)[:2]


def main():
    seeds = range(1, 1 + int(sys.argv[1] if len(sys.argv) > 1 else 5))
    columns = ["none", "warp", "shift-3", "shift", "floor"]
    for name, ridges in (("five features", simulation.DEMO_RIDGES), ("no features", ())):
        simulation.DEMO_RIDGES = ridges
        for step in (3.0, 1.0):
            tables, fitted = zip(*(run(seed, step) for seed in seeds), strict=True)
            amplitude, error = np.mean(fitted, axis=0)
            print(f"\n{name}, slices in {step:g} deg bins, {len(tables)} seeds; shares of events:")
            for feature, a, e in zip(FEATURES, amplitude, error, strict=True):
                print(f"  {feature.name}: {a:.4f} +- {e:.4f}")
            print(f"{'':34}" + "".join(f"{c:>9}" for c in columns))
            for method in dict.fromkeys(m for m, _ in tables[0]):
                values = [np.mean([t[method, c] for t in tables]) for c in columns]
                worse = sum(t[method, "shift"] > t[method, "none"] + 0.02 for t in tables)
                note = f"   shift worse by over 0.02 in {worse}" if worse else ""
                print(f"{method:34}" + "".join(f"{v:9.2f}" for v in values) + note)


if __name__ == "__main__":
    main()
