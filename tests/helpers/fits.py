"""The spectrum and models that the tests of fits share."""

from dataclasses import replace

import numpy as np
from spectra import line_model

from cosi_linebkg_plugin.spectrum.components import Component

EDGES = np.linspace(1500.0, 2000.0, 101)
TWO_LINES = line_model(
    [(1633.0, 8e3, (1623.0, 1643.0)), (1778.9, 5e3, (1768.0, 1790.0))], sigma=2.9
)


def function_model():
    """The power law of TWO_LINES as a Python function."""

    def density(energies, values):
        return values[0] * (energies / 1800.0) ** values[1]

    first = TWO_LINES.components[0]
    function = Component("function", (first.slots[0], first.slots[2]), density)
    return replace(TWO_LINES, components=(function, *TWO_LINES.components[1:]))


def scattered(model, rng):
    """Start values drawn within the limits (amplitudes over five decades)."""
    drawn = []
    for p in model.parameters:
        if not p.free:
            value = p.value
        elif np.isfinite(p.high):
            value = rng.uniform(p.low, p.high)
        else:
            value = 10 ** rng.uniform(1, 6)
        drawn.append(replace(p, value=value))
    return replace(model, parameters=tuple(drawn))
