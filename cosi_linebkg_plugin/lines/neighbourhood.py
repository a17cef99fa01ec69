"""What is around a line: the part of a spectrum in which a change of one line is fitted."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..spectrum.axis import EnergySpectrum
from ..spectrum.components import SpectralModel
from ..spectrum.lineshapes import EnergyGrid
from .trial import TrialFit, fit_quickly

Array = NDArray[np.float64]

#: It reaches so many widths, and bins at least, to either side.
_WIDTHS, _BINS = 30.0, 100


@dataclass(frozen=True, eq=False)
class Neighbourhood:
    """Bins around an energy, the lines in them, and what the other lines leave there.

    Attributes
    ----------
    spectrum : EnergySpectrum
    grid : EnergyGrid
    lines : list of int
        Which of the fit's lines lie in it.
    offset : ndarray, shape (n_bins,), counts, or None
        Expected counts of the lines outside, and of the steps under them.
    is_whole : bool
        Whether it is all of the fit's spectrum.
    """

    spectrum: EnergySpectrum
    grid: EnergyGrid
    lines: list[int]
    offset: Array | None
    is_whole: bool

    @classmethod
    def of(
        cls, fit: TrialFit, data: tuple[EnergySpectrum, EnergyGrid], energy: float, width: float
    ) -> Neighbourhood:
        """That of a line.

        Parameters
        ----------
        fit : TrialFit
        data : (EnergySpectrum, EnergyGrid)
            All that the fit has.
        energy, width : float, keV
            Of the line; the width as the bins show it.
        """
        spectrum, grid = data
        middle, reach = int(np.searchsorted(spectrum.edges, energy)), _WIDTHS * float(width)
        ends = np.searchsorted(spectrum.edges, [energy - reach, energy + reach])
        first = max(min(int(ends[0]), middle - _BINS), 0)
        last = min(max(int(ends[1]), middle + _BINS), spectrum.n_bins)
        lines = fit.model.lines
        if first == 0 and last == spectrum.n_bins:
            return cls(spectrum, grid, list(range(len(lines))), None, True)
        part = EnergySpectrum(
            spectrum.edges[first : last + 1], spectrum.counts[first:last],
            spectrum.mask[first:last],
        )  # fmt: skip
        grid = EnergyGrid.from_edges(part.edges)
        components = fit.model.components
        energies = fit.theta[[components[i].energy for i in lines]]
        inside = (energies > part.edges[0]) & (energies < part.edges[-1])
        others = [i for i, here in zip(lines, inside, strict=True) if not here]
        offset = None
        if others:
            areas = {components[i].area for i in others}
            others += [i for i, c in enumerate(components) if c.is_step and c.area in areas]
            offset = fit.model.select(others).bind(grid).counts(fit.theta)
        return cls(part, grid, np.flatnonzero(inside).tolist(), offset, False)

    def fit(self, model: SpectralModel) -> TrialFit | None:
        """`fit_quickly` of a model of it."""
        return fit_quickly(model, self.spectrum, self.grid, self.offset)
