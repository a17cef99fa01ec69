"""What cosipy 0.4 takes: a background with norms in Hz."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..errors import TemplateError
from ..histograms.write import make_histogram
from .cells import ConsumerCells
from .cosilike import _START

if TYPE_CHECKING:
    from histpy import Histogram


Array = NDArray[np.float64]

# ---------------------------------------------------------------------------- cosipy 0.4


class ProtocolView:
    """A template as cosipy 0.4's ``BinnedBackgroundInterface``, with norms of its own.

    A norm that the template has at 0, because nothing is known of it, starts at 1 % of the others.

    Parameters
    ----------
    template : BackgroundTemplate
        With a livetime: norms are rates in Hz.
    prefix : str
        Put before the labels, so that the parameters of two backgrounds in a session differ:
        cosipy 0.4 registers them in threeML by their bare names.
    data : histpy.Histogram, optional
        As of `cosilike`.

    Attributes
    ----------
    axes : histpy.Axes
        Em, Phi, PsiChi.
    """

    def __init__(self, template: Any, prefix: str = "", *, data: Histogram | None = None):
        if template.livetime is None:
            raise TemplateError(
                "cosipy 0.4 takes norms as rates, but the template has no livetime; make it with "
                "livetime= (seconds)."
            )
        self._cells = ConsumerCells.of(template, data, "refuse")
        self._livetime = float(template.livetime)
        self._keys = tuple(prefix + label for label in self._cells.labels)
        for key in self._keys:
            if not key.isidentifier():
                raise TemplateError(
                    f"The parameter name {key!r} is no Python identifier; choose a prefix of "
                    "letters, digits and underscores."
                )
        # off the lower limit, where a minimiser would stay
        loose = (self._cells.counts == 0) | ~np.isfinite(np.diag(template.covariance))
        start = np.maximum(_START * self._cells.units, self._cells.counts)
        self._counts = np.where(loose, start, self._cells.counts)
        self._expectation: Histogram | None = None
        self.axes = self._cells.axes

    @property
    def parameters(self) -> dict[str, Any]:
        """The norms in Hz, by prefixed label."""
        import astropy.units as u

        return {
            key: c / self._livetime * u.Hz
            for key, c in zip(self._keys, self._counts.tolist(), strict=True)
        }

    def set_parameters(self, **parameters: Any) -> None:
        """Set norms.

        Parameters
        ----------
        **parameters : Quantity
            Rates >= 0 in a unit convertible to Hz.
        """
        import astropy.units as u

        counts = self._counts.copy()
        for key, rate in parameters.items():
            if key not in self._keys:
                raise TemplateError(
                    f"The background has no norm {key!r}; it has {', '.join(self._keys)}."
                )
            try:
                value = float(u.Quantity(rate).to_value(u.Hz))
            except u.UnitConversionError:
                raise TemplateError(
                    f"The norm {key!r} must be a rate in Hz, got {rate!r}."
                ) from None
            if not (np.isfinite(value) and value >= 0):
                raise forbidden_norm(f"The norm {key!r} must be finite and >= 0, got {rate}.")
            counts[self._keys.index(key)] = value * self._livetime
        if not np.array_equal(counts, self._counts):
            self._counts, self._expectation = counts, None

    def expectation(self, copy: bool = True) -> Histogram:
        """Expected counts at the current norms.

        Parameters
        ----------
        copy : bool
            False returns the view's own histogram: do not change it.
        """
        if copy:
            return self._make()
        if self._expectation is None:
            self._expectation = self._make()
        return self._expectation

    def _make(self) -> Histogram:
        return make_histogram(self.axes, self._cells.sum(self._counts / self._cells.units))


def forbidden_norm(message: str) -> TemplateError:
    """For norms that a minimiser tries: threeML steps back from them instead of failing."""
    from .constraint import ForbiddenNorm

    return ForbiddenNorm(message)


def free_norm_histograms(template: Any, *, data: Histogram | None = None) -> dict[str, Histogram]:
    """Histograms for cosipy 0.4's ``FreeNormBinnedBackground``, fresh and one per component.

    Parameters
    ----------
    template : BackgroundTemplate
    data : histpy.Histogram, optional
        As of `cosilike`.

    Returns
    -------
    dict of label to histpy.Histogram
        float64 expected counts on Em, Phi, PsiChi (1 count where a norm is 0).
    """
    cells = ConsumerCells.of(template, data, "refuse")
    norms = np.where(cells.counts == 0, 1.0 / cells.units, 1.0)
    return {
        label: make_histogram(cells.axes, cells.sum(row))
        for label, row in zip(cells.labels, np.diag(norms), strict=True)
    }
