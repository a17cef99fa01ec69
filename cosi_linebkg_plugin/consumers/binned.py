"""The background of cosipy 0.4.3's binned likelihood."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..errors import TemplateError
from ..histograms.write import make_histogram
from .cells import ConsumerCells, histogram_of, own_order
from .rates import BackgroundNorms, Followed

if TYPE_CHECKING:
    from histpy import Axes, Histogram

    from ..template.template import BackgroundTemplate

Array = NDArray[np.float64]


class BinnedBackground(BackgroundNorms):
    """A template as cosipy 0.4.3's ``BinnedBackgroundInterface``.

    ::

        background = template.binned_background(data)
        likelihood = PoissonLikelihood(data, response, background)
        cosi = ThreeMLPluginInterface("cosi", likelihood, response, background)
        background.configure(cosi)
        JointLikelihood(model, DataList(cosi, background.constraint()))

    Parameters
    ----------
    template : BackgroundTemplate
        With a livetime, since the norms are rates.
    data : EmCDSBinnedData or histpy.Histogram, optional
        The likelihood's data, whose axes, in their order, are the background's.
    prefix, followed
        As of `BackgroundNorms`.
    outside : "raise" or "drop"
        What to do with energy bins outside the source range, where a template made with ``like=``
        holds nothing. "drop" sets them to NaN, which PoissonLikelihood leaves out.

    Attributes
    ----------
    axes : histpy.Axes
        The data's own; Em, Phi, PsiChi without data.

    Raises
    ------
    TemplateError
        Naming what does not fit.
    """

    def __init__(
        self,
        template: BackgroundTemplate,
        data: Any = None,
        *,
        prefix: str = "",
        followed: Followed | None = None,
        outside: str = "raise",
    ) -> None:
        if template.livetime is None:
            raise TemplateError(
                "cosipy 0.4.3 takes norms as rates, but the template has no livetime; make it with "
                "livetime= (seconds)."
            )
        histogram = None if data is None else histogram_of(data)
        self._cells = ConsumerCells.of(template, histogram, outside, own_order(histogram))
        livetime, amplitudes = float(template.livetime), self._cells.amplitudes
        super().__init__(template, livetime, prefix, followed, amplitudes)
        self._last: tuple[Array, Histogram] | None = None
        self.axes: Axes = self._cells.axes

    def expectation(self, copy: bool = True) -> Histogram:
        """Expected counts at the current norms.

        Parameters
        ----------
        copy : bool
            False returns the background's own histogram: do not change it.
        """
        amounts, tilts = self.amounts(), self.tilts()
        if copy:
            return self._make(amounts, tilts)
        shape = [self.amplitudes(), *([] if tilts is None else [tilts.ravel()])]
        state = np.concatenate([amounts, *shape])
        if self._last is None or not np.array_equal(state, self._last[0]):
            self._last = state, self._make(amounts, tilts)
        return self._last[1]

    def _make(self, amounts: Array, tilts: Array | None) -> Histogram:
        norms = amounts / self._cells.units
        return make_histogram(self.axes, self._cells.sum(norms, tilts, self.amplitudes()))


def free_norm_histograms(
    template: BackgroundTemplate, data: Any = None, *, prefix: str = ""
) -> dict[str, Histogram]:
    """Histograms for cosipy 0.4.3's ``FreeNormBinnedBackground``, which it may overwrite.

    It starts all rates at 1 Hz and gives them no limits; below 0 cells with a negative
    expectation leave its sum in silence, and the likelihood rises. Start rates, limits and what is
    known of the rates are those of `BinnedBackground`, whose norms have the same names::

        background = FreeNormBinnedBackground(template.free_norm_histograms(data), history)
        cosi = ThreeMLPluginInterface("cosi", likelihood, response, background)
        own = template.binned_background(data)
        own.configure(cosi)
        JointLikelihood(model, DataList(cosi, own.constraint()))

    Parameters
    ----------
    template : BackgroundTemplate
    data : EmCDSBinnedData or histpy.Histogram, optional
        As of `BinnedBackground`.
    prefix : str
        Put before the labels.

    Returns
    -------
    dict of prefixed label to histpy.Histogram
        float64 expected counts, fresh (1 count where a norm is 0).
    """
    histogram = None if data is None else histogram_of(data)
    cells = ConsumerCells.of(template, histogram, "raise", own_order(histogram))
    norms = np.where(cells.counts == 0, 1.0 / cells.units, cells.counts / cells.units)
    return {
        prefix + label: make_histogram(cells.axes, cells.sum(row))
        for label, row in zip(cells.labels, np.diag(norms), strict=True)
    }
