"""Templates against the observed counts of the source range, as numbers."""

from __future__ import annotations

import csv
import io
import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import chdtrc

from ..errors import TemplateError
from ..histograms.axes import axis_in_kev, source_axis
from ..histograms.axis import EventAxis
from ..histograms.healpix import pix2ang, reordered
from ..io.tables import Column, make_table, to_html
from .axes import partial_sky, phi_degrees
from .filters import Filter

if TYPE_CHECKING:
    from astropy.table import Table

Array = NDArray[np.float64]

#: Bins are merged, or PsiChi down-graded, until each expects this many counts: the chi-square law.
MIN_EXPECTED = 5.0

#: Axes along which counts are compared.
COMPARED_AXES = ("Phi", "PsiChi", "Time")

#: Along energy as well, where the source range holds several bins.
_ENERGY = "Em"

#: How many of the largest deviations are named.
N_LARGEST = 3


@dataclass(frozen=True, eq=False, repr=False)
class Projection:
    """A template along one axis against the observed counts.

    Attributes
    ----------
    axis : str
        "Phi", "PsiChi", "Time" or "Em".
    groups : list of ndarray of int
        The axis' bins (pixels) of each group that is compared.
    names : list of str
        What each group is, e.g. "30-33 deg".
    observed, expected, variances : ndarray, shape (n_groups,)
        Expected at the observed total; its variances are those of the template (sumw2, and the
        error of the shape that control ranges measured) and of the Poisson law of the expected
        counts.
    nside : int or None
        Of the down-graded PsiChi.
    edges : ndarray, shape (n_groups + 1,), deg or keV, or None
        Of the merged bins of Phi or Em.
    """

    axis: str
    groups: list[NDArray[np.int64]]
    names: list[str]
    observed: Array
    expected: Array
    variances: Array
    nside: int | None = None
    edges: Array | None = None

    def with_shape_error(self, fraction: float) -> Projection:
        """The same where each group may be off by this fraction as well."""
        return replace(self, variances=self.variances + (fraction * self.expected) ** 2)

    @property
    def chi(self) -> Array:
        """(observed - expected) / error, shape (n_groups,)."""
        return (self.observed - self.expected) / np.sqrt(np.maximum(self.variances, 1e-300))

    @property
    def chi2(self) -> float:
        """Sum of chi squared over the groups."""
        return float(np.sum(self.chi**2))

    @property
    def dof(self) -> int:
        """Groups minus 1, for the total."""
        return self.chi.size - 1

    @property
    def p_value(self) -> float:
        """Chance of a larger chi2 if the template has the right shape (chi-square law)."""
        return float(chdtrc(self.dof, self.chi2)) if self.dof > 0 else float("nan")

    def __repr__(self) -> str:
        return f"Projection({self.axis}, chi2/dof {self.chi2:.1f}/{self.dof}, p {self.p_value:.2g})"

    def largest(self, number: int = N_LARGEST) -> list[tuple[str, float]]:
        """Names and chi of the largest deviations."""
        order = np.argsort(-np.abs(self.chi))[:number]
        return [(self.names[i], float(self.chi[i])) for i in order]


@dataclass(frozen=True, eq=False, repr=False)
class Comparison:
    """A template against the observed counts of the source range.

    Attributes
    ----------
    name : str
    counts, error : float
        Of the template, at its own norms. The error of an amount that is unknown is that of lines
        which the mask may hide, where control ranges told it, or left out.
    unknown : tuple of str
        Components of which the amount is not known.
    observed : float
    projections : dict of str to Projection
        By axis, as far as the template has it; PsiChi only where it covers the sphere, Em where
        the source range holds several bins.
    """

    name: str
    counts: float
    error: float
    observed: float
    projections: dict[str, Projection]
    unknown: tuple[str, ...] = ()

    @property
    def difference_percent(self) -> float:
        """(template - observed) / observed."""
        return 100.0 * (self.counts / self.observed - 1.0)

    @property
    def difference_error_percent(self) -> float:
        """From the template's error and the Poisson error of the observed counts."""
        return 100.0 * float(np.hypot(self.error, np.sqrt(self.observed))) / self.observed

    def __repr__(self) -> str:
        parts = [
            f"{self.counts:.0f} ± {self.error:.0f} of {self.observed:.0f} counts "
            f"({self.difference_percent:+.1f} ± {self.difference_error_percent:.1f} %)"
        ]
        parts += [f"{axis} chi2/dof {p.chi2:.1f}/{p.dof}" for axis, p in self.projections.items()]
        return f"Comparison({self.name}: {'; '.join(parts)})"

    def _repr_html_(self) -> str:
        rows = [
            (axis, f"{p.chi2:.1f} / {p.dof}", f"{p.p_value:.2g}",
             "; ".join(f"{name}: {chi:+.1f}" for name, chi in p.largest()))
            for axis, p in self.projections.items()
        ]  # fmt: skip
        scaled = "The distributions are compared at the observed total."
        heads = ("axis", "chi2 / dof", "p", "largest deviations [sigma]")
        return to_html(repr(self), heads, rows, [scaled])

    def to_table(self) -> Table:
        """The comparison as an astropy table of one row; see the function `to_table`."""
        return to_table([self])

    def row(self) -> dict[str, Any]:
        """One row of a table: plain numbers and text."""
        out: dict[str, Any] = {
            "template": self.name,
            "counts": self.counts,
            "error": self.error,
            "observed": self.observed,
            "difference_percent": self.difference_percent,
            "difference_error_percent": self.difference_error_percent,
        }
        if self.unknown:
            out["unknown"] = " ".join(self.unknown)
        for axis, p in self.projections.items():
            key = axis.lower()
            out[f"{key}_chi2"], out[f"{key}_dof"] = p.chi2, p.dof
            out[f"{key}_p_value"] = p.p_value
            out[f"{key}_largest"] = "; ".join(f"{name}: {chi:+.1f}" for name, chi in p.largest())
            if p.nside is not None:
                out[f"{key}_nside"] = p.nside
        return out


def compare(
    template: Any,
    observed: Any,
    *,
    name: str | None = None,
    nside: int = 4,
    beside: Sequence[Any] = (),
) -> Comparison:
    """Compare a template with the observed counts of the source range.

    Parameters
    ----------
    template : BackgroundTemplate
    observed : histpy.Histogram or path
        Counts on the template's axes (`LineBackgroundLike.observed_counts`), or events with the
        whole energy axis, if the source range lies on its edges. A source that is in them counts
        as a deviation.
    name : str, optional
        Default: the template's method and filter.
    nside : int
        PsiChi is down-graded to this, or further, until each pixel expects 5 counts.
    beside : sequence of BackgroundTemplate
        Others on the same axes, which must expect as many in each bin: their bins are then merged
        alike, as `compare_all` does.

    Returns
    -------
    Comparison

    Raises
    ------
    TemplateError
        If the axes differ, or nothing was observed.
    """
    if not (isinstance(nside, int | np.integer) and nside > 0 and nside & (nside - 1) == 0):
        raise TemplateError(f"nside must be a power of 2 (1, 2, 4, ...), got {nside!r}.")
    counts = template.counts_on_axes(observed)
    total = float(counts.sum())
    if not total > 0:
        raise TemplateError("The observed histogram holds no counts; there is nothing to compare.")
    own = sum(template.counts.values())
    if not own > 0:
        raise TemplateError("All norms of the template are 0; give it norms above 0.")
    labels = [str(axis.label) for axis in template.event_axes]
    projections: dict[str, Projection] = {}
    control = template.control_ranges
    for axis in (*COMPARED_AXES, *([_ENERGY] if template.several_bins else [])):
        if axis in labels and not (axis == "PsiChi" and partial_sky(template.event_axes[axis])):
            position = labels.index(axis)
            others = tuple(i for i in range(len(labels)) if i != position)
            expected, errors = template.project(axis)
            scale = total / own
            least = np.min([_at_total(t, axis, total) for t in (template, *beside)], axis=0)
            rows = counts.sum(axis=others), scale * expected, (scale * errors) ** 2, least
            if axis == _ENERGY:
                rows = tuple(row[template.bins_inside] for row in rows)
            found = project_counts(_compared_axis(template, axis), *rows, nside)
            if control is not None and axis in control.shapes:
                found = found.with_shape_error(control.shapes[axis].value)
            projections[axis] = found
    known = np.isfinite(np.diag(template.covariance))
    variance = float(template.covariance[np.ix_(known, known)].sum())
    if template.unknown and control is not None and control.hidden is not None:
        variance += (control.hidden.rms * own) ** 2
    error = variance**0.5
    return Comparison(name or _describe(template), own, error, total, projections, template.unknown)


def to_csv(rows: Sequence[Comparison]) -> str:
    """The table as CSV.

    Parameters
    ----------
    rows : sequence of Comparison

    Returns
    -------
    str
        A header, and one line per comparison: the keys of `Comparison.row`.
    """
    table = [row.row() for row in rows]
    text = io.StringIO()
    keys = list(dict.fromkeys(key for row in table for key in row))
    writer = csv.DictWriter(text, keys, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(table)
    return text.getvalue()


def to_table(rows: Sequence[Comparison]) -> Table:
    """Comparisons as an astropy table, whose ``write`` knows LaTeX, CSV and ECSV.

    Parameters
    ----------
    rows : sequence of Comparison

    Returns
    -------
    astropy.table.Table
        One row each, its columns the keys of `Comparison.row`.
    """
    table = [row.row() for row in rows]
    units = {"counts": "ct", "error": "ct", "observed": "ct"}
    units |= {"difference_percent": "percent", "difference_error_percent": "percent"}
    keys = dict.fromkeys(key for row in table for key in row)
    return make_table(
        [Column(key, [row.get(key) for row in table], units.get(key, "")) for key in keys]
    )


def to_json(rows: Sequence[Comparison]) -> str:
    """The table, and every group of every projection, as JSON.

    Parameters
    ----------
    rows : sequence of Comparison

    Returns
    -------
    str
        A list of objects with the keys of `Comparison.row`, and "projections".
    """
    return json.dumps(
        [
            {key: _plain(value) for key, value in row.row().items()}
            | {
                "projections": {
                    axis: {key: _plain(value) for key, value in _projection_row(p).items()}
                    for axis, p in row.projections.items()
                }
            }
            for row in rows
        ],
        indent=1,
        allow_nan=False,
    )


def _projection_row(projection: Projection) -> dict[str, Any]:
    row = asdict(projection) | {"chi": projection.chi}
    del row["variances"]
    return row


def _plain(value: Any) -> Any:
    """As JSON knows it: lists, and null for what is not finite."""
    if isinstance(value, np.ndarray):
        value = value.tolist()
    if isinstance(value, float) and not np.isfinite(value):
        return None
    return [_plain(v) for v in value] if isinstance(value, list) else value


def _compared_axis(template: Any, label: str) -> EventAxis:
    """An axis of a template; of the energy what lies in the source range."""
    axis: EventAxis = template.event_axes[label]
    if label != _ENERGY:
        return axis
    inside = template.bins_inside
    return source_axis(axis, *axis_in_kev(axis)[inside[0] : inside[-1] + 2].tolist())


def _at_total(template: Any, axis: str, total: float) -> Array:
    expected = template.project(axis)[0]
    return np.asarray(expected * (total / expected.sum()))


def project_counts(
    axis: Any, observed: Array, expected: Array, noise: Array, least: Array, nside: int
) -> Projection:
    """Counts along an axis in groups of bins that hold enough for the chi-square law.

    Parameters
    ----------
    axis : EventAxis
        One of `COMPARED_AXES`, or Em; PsiChi over the whole sphere.
    observed, expected : ndarray, shape (n_bins,), counts
    noise : ndarray, shape (n_bins,), counts^2
        Variances of what is expected.
    least : ndarray, shape (n_bins,), counts
        The smallest number that is expected by what is to be grouped alike.
    nside : int
        PsiChi is down-graded to this at least.
    """
    label = str(axis.label)
    used = edges = None
    if label == "PsiChi":
        groups, names, used = _coarse_pixels(axis, least, nside)
    else:
        groups = _merged_bins(least)
        names = [f"bins {group[0]}-{group[-1]}" for group in groups]
    if label in ("Phi", _ENERGY):
        own, unit = (phi_degrees(axis), "deg") if label == "Phi" else (axis_in_kev(axis), "keV")
        edges = own[[0, *(group[-1] + 1 for group in groups)]]
        names = [f"{a:g}-{b:g} {unit}" for a, b in itertools.pairwise(edges)]
    first = np.cumsum([0, *(len(group) for group in groups[:-1])])
    together = np.concatenate(groups)
    o, e, v = (np.add.reduceat(values[together], first) for values in (observed, expected, noise))
    return Projection(label, groups, names, o, e, e + v, used, edges)


def _merged_bins(expected: Array) -> list[NDArray[np.int64]]:
    """Neighbouring bins, merged until they expect enough counts; a rest joins the last."""
    groups: list[list[int]] = [[]]
    for i in range(expected.size):
        groups[-1].append(i)
        if expected[groups[-1]].sum() >= MIN_EXPECTED:
            groups.append([])
    rest = groups.pop()
    if rest:
        groups = [*groups[:-1], [*groups[-1], *rest]] if groups else [rest]
    return [np.array(g) for g in groups]


def pixel_groups(axis: EventAxis, nside: int) -> list[NDArray[np.int64]] | None:
    """The pixels of each pixel of a coarser map of the whole sphere; None for any other axis."""
    if axis.label != "PsiChi" or partial_sky(axis):
        return None
    return _coarse_pixels(axis, np.ones(axis.nbins), nside, least=0.0)[0]


def _coarse_pixels(
    axis: EventAxis, expected: Array, nside: int, least: float = MIN_EXPECTED
) -> tuple[list[NDArray[np.int64]], list[str], int]:
    """The pixels of each coarser one; its name is the centre."""
    pixels, nside_own = np.arange(axis.nbins), int(axis.nside or 0)
    nested = pixels if axis.scheme == "NESTED" else reordered(nside_own, pixels, to_nest=True)
    coarse = min(nside, nside_own)
    while True:
        parents = reordered(coarse, nested // (nside_own // coarse) ** 2, to_nest=False)
        sums = np.bincount(parents, weights=expected, minlength=12 * coarse**2)
        if sums.min() >= least or coarse == 1:
            break
        coarse //= 2
    order = np.argsort(parents, kind="stable")
    groups = np.split(pixels[order], np.flatnonzero(np.diff(parents[order])) + 1)
    theta, phi = pix2ang(coarse, np.arange(12 * coarse**2))
    lon, lat = np.degrees(phi), 90.0 - np.degrees(theta)
    names = [f"({x:.0f}, {y:+.0f}) deg" for x, y in zip(lon, lat, strict=True)]
    return list(groups), names, coarse


def _describe(template: Any) -> str:
    chosen = template.record.filter
    return template.method if chosen == Filter().describe() else f"{template.method}, {chosen}"


def compare_all(templates: Mapping[str, Any], observed: Any, *, nside: int = 4) -> list[Comparison]:
    """Compare several templates with the same counts.

    Parameters
    ----------
    templates : mapping of str to BackgroundTemplate
        By the name that they get in tables and figures.
    observed, nside
        As of `compare`.

    Returns
    -------
    list of Comparison
        In the order given.
    """
    everything = list(templates.values())
    return [
        compare(t, observed, name=name, nside=nside, beside=everything)
        for name, t in templates.items()
    ]
