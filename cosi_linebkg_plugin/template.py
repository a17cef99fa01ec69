"""BackgroundTemplate: the distribution of the background in the source range, with errors."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .errors import BinningError, FileError, LineBackgroundError, TemplateError
from .files import whole_file
from .histograms import (
    EventHistogram,
    axis_difference,
    axis_in_kev,
    embed,
    make_histogram,
    open_events,
    open_file,
    read_axes,
    source_axis,
)
from .result import LineBackgroundFit, in_kev, installed_versions
from .spectrum import (
    EDGE_TOLERANCE,
    bins_to_ranges,
    check_inside,
    check_range,
    overlapping_bins,
    whole_bins,
)
from .weights import interpolated_weights, sideband_weights

FORMAT = "cosi-linebkg template 1"
METHODS = ("interpolated", "sideband")


class BackgroundTemplate:
    """A background template for the source range: one map per component, with free norms.

    Made by `LineBackgroundLike.background_template`, or read by `open`.

    Attributes
    ----------
    axes : histpy.Axes
        The events' own, Em replaced by one bin, unless made with ``like=``.
    labels : tuple of str
        The components: "background" for the methods with one.
    fit : LineBackgroundFit
        The fit that it was made from.
    method : str
    source_range : (float, float), keV
    sidebands : list of (float, float), keV
        The energies used, on whole bins.
    weights : ndarray, shape (n_labels, n_em)
        On the events' energy slices.
    covariance : ndarray, shape (n_labels, n_labels), counts^2
        Of the component counts, from the fit.
    livetime : float or None, s
    """

    def __init__(
        self,
        axes: Any,
        maps: Mapping[str, tuple[NDArray[np.float64], NDArray[np.float64]]],
        *,
        fit: LineBackgroundFit,
        method: str,
        source_range: tuple[float, float],
        sidebands: Sequence[tuple[float, float]],
        weights: NDArray[np.float64],
        covariance: NDArray[np.float64],
        livetime: float | None = None,
        versions: Mapping[str, str] | None = None,
    ):
        self.axes = axes
        self.labels = tuple(maps)
        self._maps = dict(maps)
        self._counts = {label: float(m.sum()) for label, (m, _) in maps.items()}
        self.fit = fit
        self.method = method
        self.source_range = source_range
        self.sidebands = [tuple(s) for s in sidebands]
        self.weights = weights
        self.covariance = covariance
        self.livetime = livetime
        self.versions = dict(versions or installed_versions())
        self._sum: Any = None

    # --- norms -----------------------------------------------------------------------------------

    @property
    def counts(self) -> dict[str, float]:
        """Expected counts of each component at the current norms."""
        return dict(self._counts)

    @property
    def errors(self) -> dict[str, float]:
        """Standard errors of the counts, from the spectral fit."""
        return dict(zip(self.labels, np.sqrt(np.diag(self.covariance)).tolist(), strict=True))

    @property
    def parameters(self) -> dict[str, Any]:
        """The norms as quantities: rates in Hz with a livetime, otherwise counts."""
        import astropy.units as u

        if self.livetime is None:
            return {label: c * u.dimensionless_unscaled for label, c in self._counts.items()}
        return {label: c / self.livetime * u.Hz for label, c in self._counts.items()}

    def set_parameters(self, **norms: Any) -> None:
        """Set the norms of components, by label.

        Parameters
        ----------
        **norms : Quantity or float
            A rate (any unit convertible to Hz), which needs the livetime; or a bare number: the
            counts.
        """
        new = dict(self._counts)
        for label, norm in norms.items():
            if label not in self._counts:
                raise TemplateError(
                    f"The template has no component {label!r}; it has {', '.join(self.labels)}."
                )
            new[label] = self._norm_in_counts(label, norm)
        self._counts = new
        self._sum = None

    def _norm_in_counts(self, label: str, norm: Any) -> float:
        import astropy.units as u

        if isinstance(norm, u.Quantity) and norm.unit != u.dimensionless_unscaled:
            if self.livetime is None:
                raise TemplateError(
                    f"The norm of {label!r} is given as a rate ({norm}), but the template has no "
                    "livetime; make it with livetime=, or give counts."
                )
            try:
                norm = norm.to_value(u.Hz) * self.livetime
            except u.UnitConversionError:
                raise TemplateError(
                    f"The norm of {label!r} must be a rate or a number of counts, got {norm}."
                ) from None
        value = float(norm)
        if not (np.isfinite(value) and value >= 0):
            raise TemplateError(f"The norm of {label!r} must be finite and >= 0, got {value:g}.")
        return value

    # --- maps ------------------------------------------------------------------------------------

    @property
    def components(self) -> dict[str, Any]:
        """One histpy.Histogram per label, with sumw2, at the current counts.

        A component whose norm is 0 is given at 1 count, so that its shape is not lost.
        """
        return {
            label: make_histogram(self.axes, *self._scaled(label, self._counts[label] or 1.0))
            for label in self.labels
        }

    @property
    def histogram(self) -> Any:
        """histpy.Histogram of expected counts, the sum at the current norms, with sumw2."""
        return self.expectation()

    def expectation(self, copy: bool = True) -> Any:
        """The sum at the current norms.

        Parameters
        ----------
        copy : bool
            False returns the template's own histogram: do not change it.
        """
        if self._sum is None or copy:
            total = [self._scaled(label, counts) for label, counts in self._counts.items()]
            contents = np.sum([m for m, _ in total], axis=0)
            histogram = make_histogram(self.axes, contents, np.sum([v for _, v in total], axis=0))
            if copy:
                return histogram
            self._sum = histogram
        return self._sum

    def _scaled(self, label: str, counts: float) -> tuple[NDArray, NDArray]:
        contents, sumw2 = self._maps[label]
        factor = counts / contents.sum()
        return contents * factor, sumw2 * factor**2

    def project(self, axis: str, label: str | None = None) -> tuple[NDArray, NDArray]:
        """Counts and their standard errors along one axis, e.g. "Phi".

        Parameters
        ----------
        axis : str
        label : str, optional
            One component; default: the sum.

        Returns
        -------
        counts, errors : ndarray, shape (n_bins of the axis,)
            The errors are those of the slices' counts (sumw2), without the norm's.
        """
        names = [a.label for a in self.axes]
        if axis not in names:
            raise TemplateError(
                f"The template has no axis {axis!r}; it has {', '.join(map(str, names))}."
            )
        others = tuple(i for i, name in enumerate(names) if name != axis)
        chosen = self.labels if label is None else (label,)
        maps = [self._scaled(name, self._counts[name]) for name in chosen]
        counts = sum(m.sum(axis=others) for m, _ in maps)
        errors = np.sqrt(sum(v.sum(axis=others) for _, v in maps))
        return counts, errors

    def __repr__(self) -> str:
        parts = ", ".join(
            f"{label} {self._counts[label]:.1f} +- {error:.1f}"
            for label, error in self.errors.items()
        )
        low, high = self.source_range
        return f"BackgroundTemplate({self.method}, {low:g}-{high:g} keV, counts: {parts})"

    # --- files -----------------------------------------------------------------------------------

    def write(self, path: str | os.PathLike[str]) -> None:
        """Write to HDF5, with the fit, the method and versions inside; whole or not at all.

        Each component is a histpy histogram of its own in the group ``components/<label>``.
        """
        import h5py

        with whole_file(path) as temporary:
            temporary.unlink()  # histpy adds to an existing file, and an empty one is no HDF5
            for label, histogram in self.components.items():
                histogram.write(str(temporary), name=f"components/{label}")
            with h5py.File(temporary, "a") as file:
                file.attrs["format"] = FORMAT
                file.attrs["metadata"] = json.dumps(self._metadata(), allow_nan=False)
                # a dataset: attributes are limited to 64 kB
                file.create_dataset("fit", data=self.fit.to_json())

    def _metadata(self) -> dict[str, Any]:
        return {
            "method": self.method,
            "source_range": list(self.source_range),
            "sidebands": [list(s) for s in self.sidebands],
            "weights": self.weights.tolist(),
            "labels": list(self.labels),
            "counts": self._counts,
            "covariance": self.covariance.tolist(),
            "livetime": self.livetime,
            "versions": self.versions,
        }

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> BackgroundTemplate:
        """Read a template written by `write`.

        Raises
        ------
        FileError
            Naming the file and what is wrong with it.
        """
        with open_file(path) as file:
            if file.attrs.get("format") != FORMAT:
                raise FileError(
                    f"{path} is no background template of this version: its format is "
                    f'{file.attrs.get("format")!r}, expected "{FORMAT}".'
                )
            try:
                data = json.loads(file.attrs["metadata"])
                fit = LineBackgroundFit.from_json(file["fit"].asstr()[()])
                maps, axes = {}, None
                for label in data["labels"]:
                    group = file["components"][label]
                    axes = read_axes(group, Path(path)) if axes is None else axes
                    maps[label] = (group["contents"][()], group["sumw2"][()])
                template = cls(
                    axes,
                    maps,
                    fit=fit,
                    method=data["method"],
                    source_range=tuple(data["source_range"]),
                    sidebands=data["sidebands"],
                    weights=np.array(data["weights"]),
                    covariance=np.array(data["covariance"]),
                    livetime=data["livetime"],
                    versions=data["versions"],
                )
                template._counts = {label: float(data["counts"][label]) for label in maps}
            except (KeyError, TypeError, ValueError, AttributeError) as error:
                raise FileError(
                    f"{path} is a damaged template ({type(error).__name__}: {error}); make it anew."
                ) from error
        return template


def make_template(
    events: EventHistogram,
    fit: LineBackgroundFit,
    source_range: Sequence[Any],
    *,
    method: str = "interpolated",
    sidebands: Sequence[Sequence[Any]] | None = None,
    like: Any = None,
    livetime: Any = None,
) -> BackgroundTemplate:
    """Carry the distribution of adjacent energies into the source range.

    See `LineBackgroundLike.background_template`.
    """
    if not fit.valid:
        raise TemplateError(
            f"The fit is not valid ({fit.message}); a template needs a valid spectrum. Fit again."
        )
    edges = events.energy_edges
    _check_same_edges(edges, fit.spectrum.edges)
    low, high = check_inside(edges, *in_kev(source_range))
    selected = select_bins(edges, fit.spectrum.used, (low, high), method, sidebands)
    range_counts = fit.expected_counts((low, high))
    source_counts = range_counts.total
    if not source_counts > 0:
        raise TemplateError(
            f"The model expects no background in the source range {low:g}-{high:g} keV."
        )
    if method == "sideband":
        weights = sideband_weights(fit.expected, selected, source_counts)
    else:
        centers = 0.5 * (edges[1:] + edges[:-1])
        weights = interpolated_weights(
            fit.expected, centers, selected, source_counts, 0.5 * (low + high)
        )
    axes, place = _target_axes(events, low, high, like)
    sums, variances = events.weighted_sums(weights)
    assert variances is not None
    contents = place(sums[0])
    if not contents.sum() > 0:
        raise TemplateError(
            "The weighted sum of the sidebands holds no counts; widen the sidebands."
        )
    return BackgroundTemplate(
        axes,
        {"background": (contents, place(variances[0]))},
        fit=fit,
        method=method,
        source_range=(low, high),
        sidebands=bins_to_ranges(edges, selected),
        weights=weights[None, :],
        covariance=np.array([[range_counts.total_error**2]]),
        livetime=_in_seconds(livetime),
    )


def _check_same_edges(events: NDArray[np.float64], fitted: NDArray[np.float64]) -> None:
    same = events.shape == fitted.shape and np.all(
        np.abs(events - fitted) <= EDGE_TOLERANCE * np.diff(fitted).min()
    )
    if not same:
        raise BinningError(
            f"The fit was made on {fitted.size - 1} energy bins from {fitted[0]:g} to "
            f"{fitted[-1]:g} keV, the events have {events.size - 1} from {events[0]:g} to "
            f"{events[-1]:g} keV; fit these events."
        )


def check_template(
    events: EventHistogram,
    used: NDArray[np.bool_],
    source_range: Sequence[Any],
    *,
    method: str = "interpolated",
    sidebands: Sequence[Sequence[Any]] | None = None,
    like: Any = None,
    livetime: Any = None,
) -> None:
    """Refuse what `make_template` would refuse, before there is a fit.

    Parameters
    ----------
    used : ndarray of bool, shape (n_em,)
        The unmasked bins; the rest as for `LineBackgroundLike.background_template`.
    """
    low, high = check_inside(events.energy_edges, *in_kev(source_range))
    select_bins(events.energy_edges, used, (low, high), method, sidebands)
    _target_axes(events, low, high, like)
    _in_seconds(livetime)


def select_bins(
    edges: NDArray[np.float64],
    used: NDArray[np.bool_],
    source_range: tuple[float, float],
    method: str,
    sidebands: Sequence[Sequence[Any]] | None,
) -> NDArray[np.bool_]:
    """True for the energy bins that a template is made from, shape (n_em,)."""
    if method not in METHODS:
        raise TemplateError(f"There is no method {method!r}; choose one of {', '.join(METHODS)}.")
    in_source = overlapping_bins(edges, *source_range)
    if sidebands is None:
        if method == "sideband":
            raise TemplateError(
                "method='sideband' needs sidebands=[(low, high), ...]: the energies to add up."
            )
        selected = used & ~in_source
        if not selected.any():
            raise TemplateError(
                "No unmasked energy bin is left outside the source range; shorten the mask or "
                "give sidebands."
            )
        return selected
    selected = np.zeros(edges.size - 1, bool)
    for i, band in enumerate(sidebands):
        what = f"sideband {i + 1}"
        low, high = check_inside(edges, *check_range(*in_kev(band), what), what)
        bins = whole_bins(edges, low, high, what)
        if np.any(bins & in_source):
            raise TemplateError(
                f"{what.capitalize()} {low:g}-{high:g} keV overlaps the source range "
                f"{source_range[0]:g}-{source_range[1]:g} keV; its events would be counted as "
                "background. Move it away from the source range."
            )
        selected |= bins
    if not selected.any():
        raise TemplateError("sidebands is an empty list; give one or more (low, high).")
    return selected


def _target_axes(events, low, high, like):
    """Axes of the template, and a function that brings a sum of slices onto them."""
    import histpy

    k = events.energy_axis_index
    own = list(events.axes)
    if like is None:
        own[k] = source_axis(own[k], low, high)
        return histpy.Axes(own), lambda sums: np.expand_dims(sums, k)
    target = open_events(like)
    names = [str(a.label) for a in target.axes]
    if sorted(names) != sorted(str(a.label) for a in own):
        raise TemplateError(
            f"The histogram given as like= has the axes {', '.join(names)}, the events have "
            f"{', '.join(str(a.label) for a in own)}; they must be the same, in any order."
        )
    order = [[str(a.label) for a in own].index(name) for name in names]
    for axis, i in zip(target.axes, order, strict=True):
        if i != k:
            difference = axis_difference(axis, own[i])
            if difference:
                raise TemplateError(
                    f"Axis {axis.label} of the histogram given as like= differs from the "
                    f"events': {difference}. Bin both alike."
                )
    em = target.energy_axis_index
    edges = axis_in_kev(target.axes[em])

    def place(sums):
        return embed(np.expand_dims(sums, k).transpose(order), em, edges, low, high)

    return target.axes, place


def _in_seconds(livetime: Any) -> float | None:
    if livetime is None:
        return None
    try:
        seconds = livetime.to_value("s") if hasattr(livetime, "to_value") else float(livetime)
    except Exception as error:
        raise TemplateError(f"The livetime must be a time, got {livetime!r}.") from error
    if not (np.isfinite(seconds) and seconds > 0):
        raise LineBackgroundError(f"The livetime must be positive, got {seconds:g} s.")
    return float(seconds)
