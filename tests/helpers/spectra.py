"""Spectra and models that several tests share."""

from pathlib import Path

import numpy as np

from cosi_linebkg_plugin.spectrum.axis import EnergySpectrum
from cosi_linebkg_plugin.spectrum.components import Component, Parameter, SpectralModel

#: cosipy's tutorial "Line Background Estimation Using Adjacent Energy Bins": start values of
#: energy and counts, and limits of the energies (its later version), six lines.
TUTORIAL_LINES = (
    (1612.0, 40000.0, (1600.0, 1620.0)),
    (1635.0, 50000.0, (1620.0, 1640.0)),
    (1670.0, 50000.0, (1650.0, 1675.0)),
    (1725.0, 50000.0, (1700.0, 1730.0)),
    (1765.0, 10000.0, (1750.0, 1770.0)),
    (1780.0, 30000.0, (1770.0, 1790.0)),
)
TUTORIAL_MASK = (1790.0, 1825.0)


def tutorial_model(index: float = -1.0, sigma: float = 1.0) -> SpectralModel:
    """The tutorial's model with its start values and limits; sigma between 0.1 and 50 keV."""
    return line_model([(e, f, w) for e, f, w in TUTORIAL_LINES], k=5000.0, index=index, sigma=sigma)


def line_model(lines, k=3000.0, index=-2.0, sigma=3.0, pivot=1800.0) -> SpectralModel:
    """A power law plus Gaussians of one width; `lines` are (energy, counts, (low, high))."""
    parameters = [
        Parameter("K_1", k, "1/keV", 1e-10),
        Parameter("piv_1", pivot, "keV", free=False),
        Parameter("index_1", index, "", -20.0, 20.0),
    ]
    components = [Component("powerlaw", (0, 1, 2))]
    links, shared = {}, None
    for n, (energy, counts, window) in enumerate(lines, start=2):
        first = len(parameters)
        parameters.append(Parameter(f"F_{n}", counts, "", 0.0))
        parameters.append(Parameter(f"mu_{n}", energy, "keV", *window))
        if shared is None:
            shared = len(parameters)
            parameters.append(Parameter(f"sigma_{n}", sigma, "keV", 0.1, 50.0))
        else:
            links[f"sigma_{n}"] = parameters[shared].name
        components.append(Component("gaussian", (first, first + 1, shared)))
    return SpectralModel(tuple(parameters), tuple(components), links)


def dc3_spectrum(shared_data: Path) -> EnergySpectrum:
    """The real DC3 spectrum around 26Al with the tutorial's mask."""
    table = np.loadtxt(
        shared_data / "dc3_al26_total_spectrum.csv", delimiter=",", comments="#", skiprows=4
    )
    edges = np.append(table[:, 0], table[-1, 1])
    return EnergySpectrum(edges, table[:, 2]).with_mask([TUTORIAL_MASK])


def simulated_spectrum(model: SpectralModel, edges, rng, mask=()) -> EnergySpectrum:
    """Poisson counts drawn from a model's start values."""
    expected = model.bind(np.asarray(edges, dtype=float)).counts(model.values)
    spectrum = EnergySpectrum(edges, rng.poisson(expected).astype(float))
    return spectrum.with_mask(mask) if mask else spectrum


def real_spectrum(shared_data: Path, name: str, low: float = 0.0, high: float = np.inf):
    """A window of a real germanium spectrum, whole bins between `low` and `high` keV."""
    table = np.loadtxt(shared_data / "spectra" / f"{name}.csv", delimiter=",", skiprows=1)
    table = table[(table[:, 0] >= low) & (table[:, 1] <= high)]
    return EnergySpectrum(np.append(table[:, 0], table[-1, 1]), table[:, 2])
