"""A template's maps on the axes of a consumer, checked against the consumer's data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..errors import TemplateError
from ..histograms.axes import ENERGY_LABEL, axis_difference, axis_in_kev
from .rates import forbidden_norm

if TYPE_CHECKING:
    from histpy import Axes, Histogram

    from ..histograms.axis import EventAxes
    from ..template.template import BackgroundTemplate

Array = NDArray[np.float64]

#: The order of axes of cosipy's binned likelihoods.
COMPTON_AXES = (ENERGY_LABEL, "Phi", "PsiChi")


@dataclass(frozen=True, eq=False)
class ConsumerCells:
    """The components' maps on a consumer's axes.

    Attributes
    ----------
    axes : histpy.Axes
    labels : tuple of str
    counts : ndarray, shape (n_labels,)
        At the template's norms.
    units : ndarray, shape (n_labels,)
        Counts of each row: those of the template, or those of all components where the amount is
        0 or not known.
    rows : ndarray, shape (n_labels, n_cells)
    differences : tuple of ndarray, of the axes' number of dimensions
        Ways in which "lines" may differ from its row, relative to it; each at an amplitude 0 +- 1.
    amplitudes : tuple of str
        Their names.
    """

    axes: Axes
    labels: tuple[str, ...]
    counts: Array
    units: Array
    rows: Array
    differences: tuple[Array, ...] = ()
    amplitudes: tuple[str, ...] = ()

    @classmethod
    def of(
        cls,
        template: BackgroundTemplate,
        data: Histogram | None = None,
        outside: str | None = "raise",
        order: Sequence[str] = COMPTON_AXES,
    ) -> ConsumerCells:
        """Put a template's maps on the axes of a consumer.

        Parameters
        ----------
        template : BackgroundTemplate
        data : histpy.Histogram, optional
            The consumer's data; their axes are taken over after they were compared.
        outside : "raise", "drop" or None
            What to do with energies outside the source range, where the template is empty: refuse
            them, set them to NaN, or leave them at 0.
        order : sequence of str
            Labels of the axes, as the consumer wants them.

        Raises
        ------
        TemplateError
            Naming the axis that differs, or the first cell without an expectation.
        """
        import histpy

        check_outside(outside)
        if not any(template.counts.values()):
            raise TemplateError("All norms of the template are 0; give it norms above 0.")
        places, dropped = axis_order(template.axes, order)
        axes = histpy.Axes([template.axes[i] for i in places])
        if data is not None:
            _require_same_axes(axes, data)
            axes = data.axes
        counts = np.array([template.counts[label] for label in template.labels])
        loose = (counts == 0) | ~np.isfinite(np.diag(template.covariance))
        units = np.where(loose, counts.sum(), counts)
        rows = np.array(
            [
                np.asarray(h.contents, float).transpose(*places, *dropped).ravel()
                for h in template.components.values()
            ]
        )
        # a component without counts comes at 1 count
        rows[loose] *= (units / np.where(counts == 0, 1.0, counts))[loose, None]
        spread = template.record.line_spread
        cells = cls(axes, tuple(template.labels), counts, units, rows)
        if spread is not None and spread.patterns and "lines" in cells.labels:
            lines = template.expected("lines").transpose(*places, *dropped)
            labels = [template.event_axes.labels[i] for i in (*places, *dropped)]
            differences = tuple(
                d.reshape(d.shape[: len(places)]) for d in spread.differences(lines, labels)
            )
            cells = replace(cells, differences=differences, amplitudes=spread.names)
        cells._require_positive(template.source_range, outside)
        return cells

    def sum(
        self, values: Array, tilts: Array | None = None, amplitudes: Array | None = None
    ) -> Array:
        """Expected counts, shape of the axes, at norms relative to `units`.

        Parameters
        ----------
        values : ndarray, shape (n_labels,)
        tilts : ndarray, shape (n_labels, n_em), optional
            Further factors on each energy bin.
        amplitudes : ndarray, shape (n_differences,), optional
            Of `differences`.

        Raises
        ------
        ForbiddenNorm
            If the amplitudes make a cell negative.
        """
        shape = [axis.nbins for axis in self.axes]
        em = [axis.label for axis in self.axes].index(ENERGY_LABEL)
        if tilts is None:
            out: Array = (values @ self.rows).reshape(shape)
        else:
            parts = np.moveaxis(self.rows.reshape(-1, *shape), em + 1, 0)
            out = np.empty(shape)
            for into, part, factors in zip(np.moveaxis(out, em, 0), parts, tilts.T, strict=True):
                into[...] = np.tensordot(values * factors, part, axes=1)
        if amplitudes is None or not amplitudes.any():
            return out
        own = self.labels.index("lines")
        lines = values[own] * self.rows[own].reshape(shape)
        if tilts is not None:
            lines = lines * np.expand_dims(tilts[own], [i for i in range(len(shape)) if i != em])
        relative = np.zeros([1] * len(shape))
        for amplitude, difference in zip(amplitudes, self.differences, strict=True):
            relative = relative + amplitude * difference
        out += lines * relative
        if np.any(out < 0):
            raise forbidden_norm(
                f"The amplitudes {', '.join(self.amplitudes)} = {amplitudes.tolist()} make the "
                "background negative."
            )
        return out

    def _require_positive(self, source_range: Sequence[float], outside: str | None) -> None:
        total = self.sum(self.counts / self.units)
        edges = axis_in_kev(self.axes[ENERGY_LABEL])
        centers = 0.5 * (edges[1:] + edges[:-1])
        low, high = source_range
        position = [axis.label for axis in self.axes].index(ENERGY_LABEL)
        elsewhere = np.zeros(total.shape, bool)
        np.moveaxis(elsewhere, position, -1)[...] = (centers < low) | (centers > high)
        if outside == "drop":
            self.rows[:, elsewhere.ravel()] = np.nan
        bad = ~(np.isfinite(total) & (total > 0))
        if (bad & ~elsewhere).any():
            cell = tuple(int(i) for i in np.argwhere(bad & ~elsewhere)[0])
            raise TemplateError(
                f"{np.count_nonzero(bad & ~elsewhere)} cells of the template are not positive "
                f"(the first is {cell}: {total[cell]:g}); likelihoods need an expectation in each. "
                "Make the template with a filter (rebin_phi=, smoothing_fwhm=)."
            )
        if outside == "raise" and bad.any():
            raise TemplateError(
                f"The template is empty outside its source range {low:g}-{high:g} keV, but the "
                f"energy axis covers {edges[0]:g}-{edges[-1]:g} keV and the consumer uses all of "
                "it. Cut data and response to the source range, or give outside='drop'."
            )


def histogram_of(data: Any) -> Histogram:
    """The histogram of counts that `data` is, or holds as cosipy's EmCDSBinnedData does.

    Raises
    ------
    TemplateError
        If it is neither.
    """
    import histpy

    for candidate in (data, getattr(data, "data", None)):
        if isinstance(candidate, histpy.Histogram):
            return candidate
    raise TemplateError(
        f"data must be a histpy.Histogram or cosipy's EmCDSBinnedData, got {type(data).__name__}."
    )


def own_order(data: Histogram | None) -> tuple[str, ...]:
    """The order of the data's axes where they are Em, Phi and PsiChi, otherwise just this."""
    labels = () if data is None else tuple(str(axis.label) for axis in data.axes)
    return labels if sorted(labels) == sorted(COMPTON_AXES) else COMPTON_AXES


def check_outside(outside: str | None) -> None:
    """Refuse an option that does not exist."""
    if outside not in ("raise", "drop", None):
        raise TemplateError(f"outside must be 'raise' or 'drop', got {outside!r}.")


def axis_order(axes: Axes | EventAxes, order: Sequence[str]) -> tuple[list[int], list[int]]:
    """Positions of the axes that a consumer wants, and of those of one bin that it does not."""
    labels = [axis.label for axis in axes]
    missing = [label for label in order if label not in labels]
    if missing:
        raise TemplateError(
            f"The consumer needs the axes {', '.join(order)}; the template has "
            f"{', '.join(map(str, labels))}, without {', '.join(missing)}."
        )
    dropped = [i for i, label in enumerate(labels) if label not in order]
    for i in dropped:
        if axes[i].nbins > 1:
            raise TemplateError(
                f"The consumer works on {', '.join(order)} alone, but the template has "
                f"{axes[i].nbins} bins of {labels[i]}. Make it from events projected onto these "
                "axes."
            )
    return [labels.index(label) for label in order], dropped


def _require_same_axes(axes: Axes, data: Histogram) -> None:
    got, expected = ([axis.label for axis in a] for a in (axes, data.axes))
    if got != expected:
        raise TemplateError(
            f"The data have the axes {', '.join(map(str, expected))}; the consumer works on "
            f"{', '.join(map(str, got))}, in this order. Project the data onto these."
        )
    if data.unit is not None and str(data.unit) != "":
        raise TemplateError(f"The data have the unit {data.unit}; expected counts, without unit.")
    for own, other in zip(axes, data.axes, strict=True):
        difference = axis_difference(other, own)
        if difference is None and own.unit != other.unit:
            difference = f"unit {own.unit}, not {other.unit}"
        if difference:
            found, _, wanted = difference.partition(", not ")
            cure = "Make the template with like= the data"
            if own.label == "PsiChi":  # the template cannot be made on other pixels
                cure = "Bin the events that the template is made from as the data are"
            raise TemplateError(
                f"The template does not fit the data in the axis {own.label}: got {found}, "
                f"expected {wanted}. {cure}."
            )
