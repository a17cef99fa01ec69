"""BackgroundTemplate: the distribution of the background in the source range, with errors."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import FileError, TemplateError
from ..fit.result import LineBackgroundFit, finite_or_null, installed_versions
from ..histograms.axes import ENERGY_LABEL, axis_difference, read_axes
from ..histograms.read import EventHistogram, bins_of_range, open_events, open_file
from ..histograms.write import make_histogram
from ..io import checks
from ..io.atomic import whole_hdf5
from ..io.guard import brief, listed, parse_json, reading
from ..io.hdf5 import read_text, read_whole
from ..spectrum.axis import check_range
from .norms import NormFit, fit_poisson_norms
from .options import METHODS

FORMAT = "cosi-linebkg template 1"

Array = NDArray[np.float64]


class BackgroundTemplate:
    """A background template for the source range: one map per component, with free norms.

    Made by `LineBackgroundLike.background_template`, or read by `open`.

    Parameters and attributes
    -------------------------
    axes : histpy.Axes
        The events' own, Em replaced by one bin, unless made with ``like=``.
    maps : mapping of label to (map, variances)
        Each component's distribution over the axes, of any sum above 0, and its sumw2.
    counts : mapping of label to float
        Expected counts at the current norms.
    covariance : ndarray, shape (n_labels, n_labels), counts^2
        Of the counts: spectral fit (with its systematic error), line ratio, or fitted norms.
        Infinite variance for an amount about which nothing is known.
    fit : LineBackgroundFit
        The fit that it was made from.
    method : str
    source_range : (float, float), keV
    sidebands : list of (float, float), keV
        The energies used, on whole bins.
    weights : ndarray, shape (n_labels, n_em)
        On the events' energy slices, per count of the component.
    livetime : float or None, s
    details : dict
        What else was chosen or found: filter, order, tracers, line ratio, sky norm, systematic
        error of the spectral fit in percent of each energy bin ...
    notes : sequence of str
        What a user must know.
    """

    def __init__(
        self,
        axes: Any,
        maps: Mapping[str, tuple[Array, Array]],
        counts: Mapping[str, float],
        covariance: Array,
        *,
        fit: LineBackgroundFit,
        method: str,
        source_range: tuple[float, float],
        sidebands: Sequence[tuple[float, float]],
        weights: Array,
        livetime: float | None = None,
        details: Mapping[str, Any] | None = None,
        notes: Sequence[str] = (),
        versions: Mapping[str, str] | None = None,
    ):
        self.axes = axes
        self.labels = tuple(maps)
        self._maps = dict(maps)
        self._sums = {label: float(m.sum()) for label, (m, _) in maps.items()}
        self._counts = {label: float(counts[label]) for label in maps}
        self.covariance = np.array(covariance, dtype=float)
        self.fit = fit
        self.method = method
        self.source_range = source_range
        self.sidebands = [(float(a), float(b)) for a, b in sidebands]
        self.weights = weights
        self.livetime = livetime
        self.details = dict(details or {})
        self._notes = tuple(notes)
        self.versions = dict(versions or installed_versions())
        self._sum: Any = None

    # --- norms -----------------------------------------------------------------------------------

    @property
    def notes(self) -> tuple[str, ...]:
        """What a user must know, at the current norms."""
        unknown = self.unknown
        if not unknown:
            return self._notes
        counts = sum(self._counts[label] for label in unknown)
        held = f"only {counts:.2g} counts of other lines' tails are" if counts else "the norm is 0"
        return (
            *self._notes,
            f"The amount of {', '.join(unknown)} in the masked source range is not known: {held}. "
            "Leave it free in your likelihood, or give line_ratio=, or sky= and observed=.",
        )

    @property
    def unknown(self) -> tuple[str, ...]:
        """Labels of components of which the amount is not known."""
        return tuple(label for label, e in self.errors.items() if np.isinf(e))

    def add_note(self, note: str) -> None:
        """Add something that a user must know."""
        self._notes = (*self._notes, note)

    @property
    def counts(self) -> dict[str, float]:
        """Expected counts of each component at the current norms."""
        return dict(self._counts)

    @property
    def errors(self) -> dict[str, float]:
        """Standard errors of the counts; infinite for an amount that is unknown."""
        return dict(zip(self.labels, np.sqrt(np.diag(self.covariance)).tolist(), strict=True))

    @property
    def total_error(self) -> float:
        """Standard error of the total counts, correlations included."""
        return float(np.sqrt(self.covariance.sum()))

    @property
    def parameters(self) -> dict[str, Any]:
        """The norms as quantities: rates in Hz with a livetime, otherwise counts."""
        import astropy.units as u

        if self.livetime is None:
            return {label: c * u.dimensionless_unscaled for label, c in self._counts.items()}
        return {label: c / self.livetime * u.Hz for label, c in self._counts.items()}

    def set_parameters(self, **norms: Any) -> None:
        """Set the norms of components, by label; their errors stay those of the fit.

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
            from ..consumers.cosipy04 import forbidden_norm

            raise forbidden_norm(f"The norm of {label!r} must be finite and >= 0, got {value:g}.")
        return value

    def fit_norms(
        self, observed: Any, *, sky: Sequence[Any] = (), constrain: bool = False
    ) -> NormFit:
        """Fit the component norms to the observed counts of the source range, and set them.

        Parameters
        ----------
        observed : histpy.Histogram or path
            Counts on the template's own axes.
        sky : sequence of histpy.Histogram or path, optional
            Expected sky counts on the same axes; each gets a norm of its own, "sky_1", "sky_2" ...
        constrain : bool
            Use the counts and their covariance as a Gaussian constraint on the norms; an amount
            without an error is held to a millionth.

        Returns
        -------
        NormFit
            The template's counts and covariance are set to it.
        """
        data = self.counts_on_axes(observed, "observed")
        skies = [self.counts_on_axes(s, f"sky template {i}") for i, s in enumerate(sky, start=1)]
        labels = (*self.labels, *(f"sky_{i}" for i in range(1, len(skies) + 1)))
        shapes = [self._scaled(label, 1.0)[0] for label in self.labels] + skies
        k, n = len(self.labels), len(labels)
        mean, precision = np.zeros(n), np.zeros((n, n))
        if constrain:
            mean[:k] = list(self._counts.values())
            variances = np.diag(self.covariance)
            known = np.flatnonzero(np.isfinite(variances))
            block = np.ix_(known, known)
            exact = np.where(variances == 0, (1e-6 * np.maximum(mean[:k], 1.0)) ** 2, 0.0)
            precision[block] = np.linalg.inv((self.covariance + np.diag(exact))[block])
        else:
            self.details["systematic_percent"] = 0.0  # no longer in the errors
        fit = fit_poisson_norms(data, shapes, labels, mean=mean, precision=precision)
        self.covariance = fit.covariance[:k, :k]
        self.set_parameters(**dict(zip(self.labels, fit.values[:k].tolist(), strict=True)))
        return fit

    def counts_on_axes(self, source: Any, what: str = "observed") -> Array:
        """The contents of a histogram, which must have this template's axes.

        Parameters
        ----------
        source : histpy.Histogram or path
            May have the events' whole energy axis, where the source range lies on its edges.
        what : str
            Names it in messages.

        Returns
        -------
        ndarray, shape of the axes, counts
        """
        events = open_events(source)
        rows = require_axes(events, self.axes, what, self.source_range)
        slices, _ = events.weighted_sums(rows, variances=False)
        return np.moveaxis(slices, 0, events.energy_axis_index)

    # --- maps ------------------------------------------------------------------------------------

    @property
    def components(self) -> dict[str, Any]:
        """One histpy.Histogram per label, with sumw2, at the current counts.

        A component whose norm is 0 is given at 1 count, so that its shape is not lost.
        """
        return {label: self.component(label) for label in self.labels}

    def component(self, label: str) -> Any:
        """One of `components`, made alone: each is as large as the template."""
        return make_histogram(self.axes, *self._scaled(label, self._counts[label] or 1.0))

    @property
    def histogram(self) -> Any:
        """histpy.Histogram of expected counts, the sum at the current norms, with sumw2.

        Its sumw2 is the sum of the components'. Continuum and lines come from the same slices and
        are anticorrelated there: it is up to a quarter too large as a standard error.
        """
        return make_histogram(self.axes, self._total(1), self._total(2))

    def expectation(self, copy: bool = True) -> Any:
        """The sum at the current norms, without sumw2: what a likelihood asks for at each step.

        Parameters
        ----------
        copy : bool
            False returns the template's own histogram: do not change it.
        """
        if copy:
            return make_histogram(self.axes, self._total(1))
        if self._sum is None:
            self._sum = make_histogram(self.axes, self._total(1))
        return self._sum

    def _total(self, power: int) -> Array:
        """The sum at the current norms of the maps (power 1), or of their variances (2)."""
        total = np.zeros([axis.nbins for axis in self.axes])
        for label, counts in self._counts.items():
            total += self._maps[label][power - 1] * (counts / self._sums[label]) ** power
        return total

    def _scaled(self, label: str, counts: float) -> tuple[Array, Array]:
        contents, sumw2 = self._maps[label]
        factor = counts / self._sums[label]
        return contents * factor, sumw2 * factor**2

    def project(self, axis: str, label: str | None = None) -> tuple[Array, Array]:
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
        position = self._axis_position(axis)
        others = tuple(i for i in range(len(list(self.axes))) if i != position)
        chosen = self.labels if label is None else (label,)
        maps = [self._scaled(name, self._counts[name]) for name in chosen]
        counts = np.sum([m.sum(axis=others) for m, _ in maps], axis=0)
        return counts, np.sqrt(np.sum([v.sum(axis=others) for _, v in maps], axis=0))

    def _axis_position(self, axis: str) -> int:
        names = [a.label for a in self.axes]
        if axis not in names:
            raise TemplateError(
                f"The template has no axis {axis!r}; it has {', '.join(map(str, names))}."
            )
        return names.index(axis)

    def split(self, axis: str, groups: Sequence[Sequence[int]] | int) -> BackgroundTemplate:
        """Cut every component into parts along an axis, each with a norm of its own.

        Parameters
        ----------
        axis : str
            "Phi", "Time" or "ScAtt".
        groups : list of lists of bin numbers, or int
            The bins of each part; every bin must be in one group. A number cuts into groups of
            that many bins.

        Returns
        -------
        BackgroundTemplate
            With the labels ``<label>_<axis>_<number>``, and as covariance that of the norms
            shared out, plus the noise of the slices, which moves counts between the parts.

        References
        ----------
        One norm per Phi bin: Knoedlseder et al. 2022, A&A 665, A84; per time node: Siegert et al.
        2019, A&A 626, A73.
        """
        position = self._axis_position(axis)
        n_bins = self.axes[position].nbins
        if isinstance(groups, int):
            if groups < 1:
                raise TemplateError(f"Groups must hold 1 bin or more, got {groups}.")
            groups = [range(i, min(i + groups, n_bins)) for i in range(0, n_bins, groups)]
        listed = sorted(i for group in groups for i in group)
        if listed != list(range(n_bins)):
            raise TemplateError(
                f"Every one of the {n_bins} bins of {axis} must be in one group, got {groups!r}."
            )
        maps, counts, shares, noise, rows = {}, {}, [], [], []
        for label in self.labels:
            contents, sumw2 = self._maps[label]
            for number, group in enumerate(groups):
                inside = np.zeros(n_bins)
                inside[list(group)] = 1.0
                window = inside.reshape([-1 if i == position else 1 for i in range(contents.ndim)])
                part = contents * window, sumw2 * window
                if not part[0].any():
                    continue  # a part of an earlier split
                name = f"{label}_{axis.lower()}_{number}"
                maps[name] = part
                share = float(part[0].sum()) / self._sums[label]
                counts[name] = share * self._counts[label]
                shares.append(share)
                noise.append(float(part[1].sum()) * (self._counts[label] / self._sums[label]) ** 2)
                rows.append(self.labels.index(label))
        covariance = _split_covariance(
            self.covariance, np.array(rows), np.array(shares), np.array(noise)
        )
        return BackgroundTemplate(
            self.axes,
            maps,
            counts,
            covariance,
            fit=self.fit,
            method=self.method,
            source_range=self.source_range,
            sidebands=self.sidebands,
            weights=self.weights[rows],
            livetime=self.livetime,
            details={**self.details, "split": axis},
            notes=self._notes,
            versions=self.versions,
        )

    def compare(self, observed: Any, *, name: str | None = None, nside: int = 4) -> Any:
        """The template against the observed counts of the source range: totals, Phi, PsiChi; see
        `comparison.compare`."""
        from .comparison import compare

        return compare(self, observed, name=name, nside=nside)

    # --- consumers -------------------------------------------------------------------------------

    def cosilike(
        self, name: str = "cosi", *, data: Any = None, outside: str = "refuse"
    ) -> dict[str, Any]:
        """``bkg`` and ``nuisance_param`` for cosipy 0.3's COSILike; see `consumers.cosilike`."""
        from ..consumers.cosilike import cosilike

        return cosilike(self, name, data=data, outside=outside)

    def component_mix(
        self,
        name: str = "norms",
        *,
        data: Any = None,
        outside: str = "refuse",
        follow: Any = None,
    ) -> Any:
        """A background for COSILike whose components have norms of their own that the session
        fits, or follow its spectrum; see `consumers.ComponentMix`.

        Parameters
        ----------
        name, data, outside
            As of `consumers.ComponentMix`.
        follow : LineBackgroundLike, optional
            A plugin of the same session, with the spectrum that the template was made from; see
            `following.FollowedAmounts`.
        """
        from ..consumers.cosilike import ComponentMix
        from .following import FollowedAmounts

        followed = None if follow is None else FollowedAmounts(self, follow)
        return ComponentMix(self, name, data=data, outside=outside, followed=followed)

    def norm_constraint(self, cosi: str = "cosi", name: str = "norm_constraint") -> Any:
        """The norm's error as a Gaussian term in a JointLikelihood; see `constraint`."""
        from ..consumers.constraint import NormConstraint

        return NormConstraint.of_template(self, cosi, name)

    def with_prefix(self, prefix: str, *, data: Any = None) -> Any:
        """A view for cosipy 0.4 whose norms are called ``<prefix><label>``."""
        from ..consumers.cosipy04 import ProtocolView

        return ProtocolView(self, prefix, data=data)

    def free_norm_histograms(self, *, data: Any = None) -> dict[str, Any]:
        """What cosipy 0.4's FreeNormBinnedBackground takes: a histogram per component."""
        from ..consumers.cosipy04 import free_norm_histograms

        return free_norm_histograms(self, data=data)

    def ts_map_input(self, data: Any) -> dict[str, Any]:
        """``data`` and ``bkg_model`` for cosipy 0.3's FastTSMap; see `consumers.ts_map_input`."""
        from ..consumers.imaging import ts_map_input

        return ts_map_input(self, data)

    def energy_channel(self, data: Any) -> list[int]:
        """The energy bins of the source range in the data, for the fits of FastTSMap."""
        from ..consumers.imaging import energy_channel

        return energy_channel(self, data)

    def deconvolution_input(self, event_histogram: Any) -> dict[str, Any]:
        """The background of cosipy 0.3's image deconvolution, on the events' own axes."""
        from ..consumers.imaging import deconvolution_input

        return deconvolution_input(self, event_histogram)

    def __repr__(self) -> str:
        parts = ", ".join(
            f"{label} {self._counts[label]:.1f} +- {error:.1f}"
            for label, error in self.errors.items()
        )
        low, high = self.source_range
        percent = self.details.get("systematic_percent")
        systematic = f", systematic error {percent:.2g} % per bin included" if percent else ""
        return (
            f"BackgroundTemplate({self.method}, {low:g}-{high:g} keV, counts: {parts}{systematic})"
        )

    # --- files -----------------------------------------------------------------------------------

    def write(self, path: str | os.PathLike[str]) -> None:
        """Write to HDF5, with the fit, the method and versions inside; whole or not at all.

        Each component is a histpy histogram of its own in the group ``components/<label>``.
        """
        import h5py

        with whole_hdf5(path) as whole:
            for label, histogram in self.components.items():
                histogram.write(whole, name=f"components/{label}")
                whole.check()
            with h5py.File(whole, "a") as file:
                file.attrs["format"] = FORMAT
                # datasets: attributes are limited to 64 kB
                file.create_dataset("metadata", data=json.dumps(self._metadata(), allow_nan=False))
                file.create_dataset("fit", data=self.fit.to_json())

    def _metadata(self) -> dict[str, Any]:
        return {
            "method": self.method,
            "source_range": list(self.source_range),
            "sidebands": [list(s) for s in self.sidebands],
            "weights": self.weights.tolist(),
            "labels": list(self.labels),
            "counts": self._counts,
            # JSON knows no infinity: an unknown amount is null
            "covariance": finite_or_null(self.covariance),
            "livetime": self.livetime,
            "details": self.details,
            "notes": list(self._notes),
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
        with open_file(path) as file, reading(path, "is a damaged template", "Make it anew."):
            if file.attrs.get("format") != FORMAT:
                raise FileError(
                    f"{path} is no background template of this version: its format is "
                    f'{brief(repr(file.attrs.get("format")), 60)}, expected "{FORMAT}".'
                )
            data = checks.mapping(parse_json(read_text(file["metadata"], path)), "its metadata")
            fit = LineBackgroundFit.from_text(read_text(file["fit"], path), f"{path}: its fit")
            labels = checks.texts(data["labels"], "labels")
            if not labels or not all(label.isidentifier() for label in labels):
                raise ValueError(f"its labels are {listed(labels)}; they must be names")
            axes = read_axes(file["components"][labels[0]], Path(path))
            maps = {label: _maps(file["components"][label], axes, path) for label in labels}
            n = len(labels)
            covariance = checks.covariance(data["covariance"], "the covariance", n, np.inf)
            counts = checks.mapping(data["counts"], "counts")
            livetime = data["livetime"]
            return cls(
                axes,
                maps,
                {label: checks.number(counts[label], "counts", 0.0) for label in labels},
                covariance,
                fit=fit,
                method=checks.text(data["method"], "the method", METHODS),
                source_range=_range(data["source_range"], "source_range"),
                sidebands=[_range(band, "a sideband") for band in data["sidebands"]],
                weights=checks.numbers(data["weights"], "the weights", (n, None)),
                livetime=None if livetime is None else checks.number(livetime, "livetime", 1e-300),
                details=_checked_details(data["details"]),
                notes=[checks.text(note, "a note") for note in data["notes"]],
                versions={
                    name: checks.text(version, "a version")
                    for name, version in checks.mapping(data["versions"], "versions").items()
                },
            )


def _maps(group: Any, axes: Any, path: object) -> tuple[Array, Array]:
    """Contents and sumw2 of a component in a file: finite, not negative, not all 0."""
    shape = tuple(axis.nbins for axis in axes)
    found = []
    for name in ("contents", "sumw2"):
        if getattr(group[name], "shape", None) != shape:
            raise ValueError(f"{name} do not fit axes of {' x '.join(map(str, shape))} bins")
        values = read_whole(group[name], path)
        if not (np.isfinite(values).all() and values.min() >= 0):
            raise ValueError(f"{name} are not finite, or below 0")
        found.append(values.astype(float, copy=False))
    total = found[0].sum()
    if not 0 < total < np.inf:
        raise ValueError(f"contents have the sum {total}")
    return found[0], found[1]


def _range(value: Any, what: str) -> tuple[float, float]:
    low, high = checks.numbers(value, what, (2,)).tolist()
    return check_range(low, high, what)


def _checked_details(details: Any) -> dict[str, Any]:
    """The details, of which those that are used later are what they must be."""
    details = dict(checks.mapping(details, "details"))
    for key in ("filter", "split"):
        checks.text(details.get(key, ""), key)
    checks.number(details.get("systematic_percent", 0.0), "systematic_percent", 0.0)
    if "line_ratio" in details:
        for key, value in checks.mapping(details["line_ratio"], "line_ratio").items():
            checks.number(value, f"{key} of line_ratio")
    if "filter_scores" in details:
        for row in details["filter_scores"]:
            checks.number(row["score"], f"the score of {checks.text(row['filter'], 'a filter')}")
    return details


def require_axes(
    events: EventHistogram, axes: Any, what: str, source_range: tuple[float, float]
) -> Array:
    """Refuse a histogram whose axes are not these; it may have the events' whole energy axis.

    Returns
    -------
    ndarray, shape (n_em of the axes, n_em of the events)
        Which of its energy bins go into which of the axes'.
    """
    if len(list(events.axes)) != len(list(axes)):
        raise TemplateError(
            f"The {what} histogram has the axes {', '.join(map(str, events.labels))}, the "
            f"template {', '.join(str(a.label) for a in axes)}; they must be the same."
        )
    n_em = events.energy_edges.size - 1
    whole = axes[ENERGY_LABEL].nbins == 1 and n_em > 1
    for own, other in zip(axes, events.axes, strict=True):
        if own.label == other.label == ENERGY_LABEL and whole:
            continue
        difference = axis_difference(own, other)
        if difference:
            raise TemplateError(
                f"The {what} histogram differs from the template in the axis {own.label}: "
                f"{difference}."
            )
    if not whole:
        return np.eye(n_em)
    cure = f"give the {what} counts of the source range alone"
    return bins_of_range(events, *source_range, cure)[None].astype(float)


def _split_covariance(covariance: Array, rows: Array, shares: Array, noise: Array) -> Array:
    """Covariance of the parts of components.

    The norms' covariance is shared out; the slices' noise (D, diagonal) moves counts between the
    parts of one component whose total is given: D - p (D1)^T - (D1) p^T + p p^T 1^T D 1.

    Parameters
    ----------
    covariance : ndarray, shape (n_labels, n_labels)
    rows : ndarray of int, shape (n_parts,)
        The component of each part.
    shares, noise : ndarray, shape (n_parts,)
    """
    unknown = np.isinf(np.diag(covariance))
    finite = np.where(np.isfinite(covariance), covariance, 0.0)
    out = finite[np.ix_(rows, rows)] * np.outer(shares, shares)
    for row in np.unique(rows):
        own = np.flatnonzero(rows == row)
        p, d = shares[own], noise[own]
        block = np.diag(d) - np.outer(p, d) - np.outer(d, p) + np.outer(p, p) * d.sum()
        out[np.ix_(own, own)] += block
    out[np.diag_indices_from(out)] = np.where(unknown[rows], np.inf, np.diag(out))
    return out
