"""CPU time of the line search; rows for table.py."""

from __future__ import annotations

import time

import numpy as np
from bench_fit import spectrum_around_26al
from timing import Row, in_turns

from cosi_linebkg_plugin import find_lines
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
