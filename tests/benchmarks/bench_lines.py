"""CPU time of the line search; rows for table.py."""

from __future__ import annotations

import time

import numpy as np
from bench_fit import spectrum_around_26al
from numpy.typing import NDArray
from timing import Row, in_turns

from cosi_linebkg_plugin import find_lines
from cosi_linebkg_plugin.fit.minimise import fit_spectrum
from cosi_linebkg_plugin.model.spec import numerical_model, spectrum_parts
from cosi_linebkg_plugin.spectrum.axis import EnergySpectrum
from cosi_linebkg_plugin.spectrum.lineshapes import gaussian_counts, powerlaw_counts


def empty() -> EnergySpectrum:
    """1500-2000 keV in 99 bins, a power law."""
    edges = np.linspace(1500.0, 2000.0, 100)
    mean = powerlaw_counts(edges, 3376.0, 1750.0, -1.807)[0]
    return EnergySpectrum(edges, np.random.default_rng(1).poisson(mean).astype(float))


def wide() -> EnergySpectrum:
    """300-2500 keV in 1100 bins, 60 lines from 500 to 30,000 counts."""
    rng, edges = np.random.default_rng(3), np.arange(300.0, 2501.0, 2.0)
    energies = np.arange(330.0, 2480.0, 36.0) + rng.uniform(-6, 6, 60)
    lines = gaussian_counts(edges, 10 ** rng.uniform(2.7, 4.5, 60), energies, 2.5)[0]
    mean = powerlaw_counts(edges, 3000.0, 1750.0, -1.8)[0] + lines
    return EnergySpectrum(edges, rng.poisson(mean).astype(float))


def many(n_lines: int, growing: bool) -> tuple[EnergySpectrum, NDArray[np.float64]]:
    """1 keV bins from 500 keV on, a line of 500 to 30,000 counts in each 20 keV, their energies."""
    rng, n_bins = np.random.default_rng(1), 20 * n_lines
    edges = np.linspace(500.0, 500.0 + n_bins, n_bins + 1)
    energies = 510.0 + 20.0 * np.arange(n_lines) + rng.uniform(-3, 3, n_lines)
    sigma = np.sqrt(1.0 + 0.002 * energies) if growing else 1.6
    lines = gaussian_counts(edges, 10 ** rng.uniform(2.7, 4.5, n_lines), energies, sigma)[0]
    mean = powerlaw_counts(edges, 300.0, 1500.0, -1.5)[0] + lines
    return EnergySpectrum(edges, rng.poisson(mean).astype(float)), energies


def hand_fit(n_lines: int = 200, repeats: int = 3) -> Row:
    """A fit of lines whose energies are known within 4 keV."""
    spectrum, energies = many(n_lines, growing=False)
    lines = [(energy, (energy - 4.0, energy + 4.0)) for energy in energies]
    model = numerical_model(spectrum_parts(lines, pivot=1500.0, sigma=1.6))
    assert fit_spectrum(model, spectrum).p_value > 1e-3
    (cpu,) = in_turns(
        lambda: fit_spectrum(model, spectrum), repeats=repeats, clock=time.process_time
    )
    return Row(f"fit, {n_lines} lines, {spectrum.n_bins} bins: CPU time", cpu)


def search_many(n_lines: int, growing: bool = False, repeats: int = 3) -> Row:
    """Of a simulated spectrum with many lines, of one width or of one that grows with energy."""
    spectrum, energies = many(n_lines, growing)
    found = np.array([x.energy for x in find_lines(spectrum, sigma=1.6).lines])
    missed = sum(np.abs(found - energy).min() > 3.0 for energy in energies)
    assert missed <= 0.02 * n_lines and found.size <= 1.02 * n_lines, (missed, found.size)
    (cpu,) = in_turns(
        lambda: find_lines(spectrum, sigma=1.6), repeats=repeats, clock=time.process_time
    )
    width = "growing width" if growing else "one width"
    return Row(f"line search, {n_lines} lines of {width}, {spectrum.n_bins} bins: CPU time", cpu)


def search(case: str, repeats: int = 3) -> Row:
    """Of a simulated spectrum without lines, one with 60, and the one around 26Al."""
    spectrum, tail, name, least, most = {
        "empty": (empty, False, "no lines, 99 bins", 0, 1),
        "wide": (wide, False, "60 lines, 1100 bins", 45, 60),
        "26Al": (spectrum_around_26al, True, "around 26Al, 99 bins, tails", 5, 30),
    }[case]
    spectrum = spectrum()
    found = len(find_lines(spectrum, tail=tail).lines)
    assert least <= found <= most, f"{found} lines found"
    (cpu,) = in_turns(
        lambda: find_lines(spectrum, tail=tail), repeats=repeats, clock=time.process_time
    )
    return Row(f"line search, {name}: CPU time, {found} lines found", cpu)
