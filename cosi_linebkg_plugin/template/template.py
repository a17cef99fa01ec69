"""BackgroundTemplate: the distribution of the background in the source range, with errors."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..consumers.rates import labels_in
from ..errors import FileError, TemplateError
from ..fit.numbers import installed_versions
from ..fit.result import LineBackgroundFit
from ..histograms.axes import ENERGY_LABEL, HISTOGRAM, axis_in_kev, read_axes
from ..histograms.axis import event_axes
from ..histograms.read import open_file
from ..histograms.write import make_histogram, write_maps
from ..io import checks
from ..io.atomic import whole_hdf5
from ..io.guard import brief, finite_or_null, listed, parse_json, reading
from ..io.hdf5 import read_text
from ..spectrum.axis import overlapping_bins
from .axes import axis_position, counts_on_axes
from .energy_bins import EnergyBins
from .file import FORMATS, format_of, read_energy_bins, read_maps, read_range, write_energy_bins
from .line_spread import line_differences, spread_errors
from .norms import NormFit, fit_component_norms, norm_in_counts
from .notes import of_control_ranges
from .options import METHODS
from .parts import covariance_of_groups, cut_maps, groups_of, split_covariance
from .products import Products, cut_products, variance_of_sum
from .record import Record
from .stored import read_products, write_products
from .words import as_html, as_table, in_a_line

if TYPE_CHECKING:
    from astropy.table import Table
    from astropy.units import Quantity
    from histpy import Axes, Histogram

    from ..consumers.binned import BinnedBackground
    from ..consumers.unbinned import BackgroundDensity
    from ..plugin import LineBackgroundLike
    from .amounts import ExpectedAmounts
    from .control import ControlRanges

Array = NDArray[np.float64]

#: Of an amount that is not known, in several energy bins.
_SHARED = " Its energy bins share it as the line of line_ratio=, the model's there, or evenly."


class BackgroundTemplate:
    """A background template for the source range: one map per component, with free norms.

    Made by `LineBackgroundLike.background_template`, or read by `open`.

    Parameters and attributes
    -------------------------
    axes : histpy.Axes
        The events' own, Em replaced by one bin or by ``energy_edges=``, unless made with ``like=``.
    maps : mapping of label to (map, variances)
        Each component's distribution over the axes, of any sum above 0, and its sumw2.
    counts : mapping of label to float
        Expected counts at the current norms.
    covariance : ndarray, shape (n_labels, n_labels), counts^2
        Of the counts: spectral fit (with its systematic error, or the one that control ranges
        measured), line ratio, or fitted norms.
        Infinite variance for an amount about which nothing is known.
    fit : LineBackgroundFit
        The fit that it was made from.
    source_range : (float, float), keV
    sidebands : list of (float, float), keV
        The energies used, on whole bins.
    weights : ndarray, shape (n_labels, n_em)
        On the events' energy slices, per count of the component.
    livetime : float or None, s
    energy_bins : EnergyBins or None
        How the counts are distributed over several energy bins of the source range; None for one,
        and for parts that were split along other axes.
    products : mapping of (label, label) to ndarray, counts^2
        Covariances of the cells of two maps; see `products`.
    record : Record
        How it was made: method, filter, tracers, line ratio, sky norm, notes ...
    """

    def __init__(
        self,
        axes: Any,
        maps: Mapping[str, tuple[Array, Array]],
        counts: Mapping[str, float],
        covariance: Array,
        *,
        fit: LineBackgroundFit,
        source_range: tuple[float, float],
        sidebands: Sequence[tuple[float, float]],
        weights: Array,
        record: Record,
        livetime: float | None = None,
        versions: Mapping[str, str] | None = None,
        energy_bins: EnergyBins | None = None,
        products: Products | None = None,
    ) -> None:
        self.event_axes = event_axes(axes)
        self.labels = tuple(maps)
        self._maps = dict(maps)
        self._products = dict(products or {})
        self._sums = {label: float(m.sum()) for label, (m, _) in maps.items()}
        self._counts = {label: float(counts[label]) for label in maps}
        self._covariance = np.array(covariance, dtype=float)
        self._fit = fit
        self._record = record
        self.source_range = source_range
        self.sidebands = [(float(a), float(b)) for a, b in sidebands]
        self.weights = weights
        self.livetime = livetime
        self.energy_bins = energy_bins
        self.versions = dict(versions or installed_versions())

    @property
    def axes(self) -> Axes:
        """The axes, as histpy's."""
        return self.event_axes.histpy

    @property
    def fit(self) -> LineBackgroundFit:
        """The fit that it was made from."""
        return self._fit

    @property
    def record(self) -> Record:
        """How it was made."""
        return self._record

    @property
    def control_ranges(self) -> ControlRanges | None:
        """What control ranges said of it; None if it was not validated."""
        return self._record.control

    @property
    def method(self) -> str:
        """The method: "components", "interpolated" or "sideband"."""
        return self._record.method

    def with_fit(self, fit: LineBackgroundFit) -> BackgroundTemplate:
        """The same template with more known of its fit, a p-value from toys, say.

        Parameters
        ----------
        fit : LineBackgroundFit
            With the parameters of the template's own.
        """
        if not np.array_equal(fit.theta, self._fit.theta):
            raise TemplateError(
                "The fit has other parameters than that of the template; make the template anew."
            )
        return self._with(fit=fit)

    def _with(self, **changed: Any) -> BackgroundTemplate:
        """A template that differs in some arguments; maps are shared."""
        own: dict[str, Any] = {
            "axes": self.event_axes,
            "maps": self._maps,
            "counts": self._counts,
            "covariance": self._covariance,
            "fit": self._fit,
            "source_range": self.source_range,
            "sidebands": self.sidebands,
            "weights": self.weights,
            "record": self._record,
            "livetime": self.livetime,
            "versions": self.versions,
            "energy_bins": self.energy_bins,
            "products": self._products,
        }
        return BackgroundTemplate(**(own | changed))

    # --- norms -----------------------------------------------------------------------------------

    @property
    def notes(self) -> tuple[str, ...]:
        """What a user must know, at the current norms."""
        unknown = self.unknown
        own = (*self._record.notes, *of_control_ranges(self._record, self._counts))
        if not unknown:
            return own
        counts = sum(self._counts[label] for label in unknown)
        held = f"only {counts:.2g} counts of other lines' tails are" if counts else "the norm is 0"
        return (
            *own,
            f"The amount of {', '.join(unknown)} in the masked source range is not known: {held}. "
            "Leave it free in your likelihood, or give line_ratio=, or sky= and observed=."
            + (_SHARED if self.several_bins else ""),
        )

    @property
    def unknown(self) -> tuple[str, ...]:
        """Labels of components of which the amount is not known."""
        return tuple(label for label, e in self.errors.items() if np.isinf(e))

    @property
    def counts(self) -> dict[str, float]:
        """Expected counts of each component at the current norms."""
        return dict(self._counts)

    @property
    def covariance(self) -> Array:
        """Of the counts, shape (n_labels, n_labels), counts^2; read-only."""
        view = self._covariance.view()
        view.flags.writeable = False
        return view

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
        """Not there: a session that is given the template itself would overwrite its counts."""
        raise AttributeError(
            "A template is no background of a session, which would overwrite its counts; give the "
            "session template.binned_background(data)."
        )

    @property
    def rates(self) -> dict[str, Quantity]:
        """The norms as rates in Hz, by label; needs the livetime."""
        import astropy.units as u

        if self.livetime is None:
            raise TemplateError("Rates need the livetime; make the template with livetime=.")
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
            labels_in(label, self.labels)
            new[label] = norm_in_counts(label, norm, self.livetime)
        self._counts = new

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
        maps = {label: contents for label, (contents, _) in self._maps.items()}
        ways = line_differences(self._record.line_spread, maps, self.event_axes.labels)
        fit = fit_component_norms(
            data, maps, self._counts, self._covariance, skies, constrain, ways
        )
        if not constrain:  # no longer in the errors
            self._record = replace(
                self._record, systematic_percent=0.0, measured_percent=0.0, hidden_percent=0.0
            )
        k = len(self.labels)
        self._covariance = fit.covariance[:k, :k]
        self.set_parameters(**dict(zip(self.labels, fit.values[:k].tolist(), strict=True)))
        return fit

    def set_control(self, control: ControlRanges, amounts: ExpectedAmounts | None = None) -> None:
        """Keep what control ranges said, and let the errors of the counts include it.

        Parameters
        ----------
        control : ControlRanges
        amounts : ExpectedAmounts, optional
            What the spectrum says of the counts; see `ControlRanges.widened`. Default: the errors
            stay as they are.
        """
        measured = hidden = 0.0
        if amounts is not None:
            self._covariance, measured, hidden = control.widened(amounts)
        self._record = self._record.with_control(control, measured, hidden)

    def spread_errors(self) -> Array:
        """Errors of the cells of ``lines="spread"``, counts; see `line_spread.spread_errors`."""
        lines = {label: self._scaled(label, n)[0] for label, n in self._counts.items()}
        return spread_errors(self._record.line_spread, lines, self.event_axes.labels)

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
        return counts_on_axes(source, self.event_axes, what, self.source_range)

    # --- maps ------------------------------------------------------------------------------------

    @property
    def components(self) -> dict[str, Any]:
        """One histpy.Histogram per label, with sumw2, at the current counts.

        A component whose norm is 0 is given at 1 count, so that its shape is not lost.
        """
        return {label: self.component(label) for label in self.labels}

    def component(self, label: str) -> Any:
        """One of `components`, made alone: each is as large as the template."""
        return make_histogram(self.axes, *self._scaled(label))

    @property
    def histogram(self) -> Any:
        """histpy.Histogram of expected counts, the sum at the current norms, with sumw2.

        Its sumw2 knows that continuum and lines come from the same slices and are anticorrelated.
        """
        return make_histogram(self.axes, self.expected(), self._variances())

    def expected(self, label: str | None = None) -> Array:
        """The contents of `histogram`, or of the component of this label, shape of the axes."""
        if label is None:
            total = np.zeros(self.event_axes.shape)
            for name, counts in self._counts.items():
                total += self._maps[name][0] * (counts / self._sums[name])
            return total
        return self._scaled(label)[0]

    def _variances(self, chosen: Sequence[str] = (), summed: tuple[int, ...] = ()) -> Array:
        """Of the sum of all components, or of those chosen, at the current norms."""
        factors = {x: self._counts[x] / self._sums[x] for x in chosen or self.labels}
        energy = self.event_axes.labels.index(ENERGY_LABEL)
        return variance_of_sum(self._maps, self._products, factors, summed, energy)

    def _scaled(self, label: str, counts: float | None = None) -> tuple[Array, Array]:
        """A component's map and variances at these counts; at its own, or 1, where None."""
        (label,) = labels_in(label, self.labels)
        contents, sumw2 = self._maps[label]
        factor = ((self._counts[label] or 1.0) if counts is None else counts) / self._sums[label]
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
            From the slices' counts (sumw2; along PsiChi after a filter an upper limit), without
            the norm's; along Time with ``norms="per_time"`` those of the spectra's shares.
        """
        position = axis_position(self.event_axes, axis)
        if axis == "Time" and self._record.time_course is not None and not self._record.split:
            return self._record.time_course.project(self.labels, self._counts, label)
        others = tuple(i for i in range(len(self.event_axes)) if i != position)
        chosen = labels_in(label, self.labels)
        own = [self._scaled(x, self._counts[x])[0].sum(axis=others) for x in chosen]
        counts = np.sum(own, axis=0)
        return counts, np.sqrt(self._variances(chosen, others))

    @property
    def several_bins(self) -> bool:
        """Whether the source range holds more than one energy bin."""
        return self.bins_inside.size > 1

    @property
    def bins_inside(self) -> NDArray[np.int64]:
        """The bins of the Em axis in the source range."""
        edges = axis_in_kev(self.event_axes[ENERGY_LABEL])
        return np.flatnonzero(overlapping_bins(edges, *self.source_range))

    def _bins(self) -> EnergyBins:
        """How the counts are distributed over several energy bins."""
        if self.energy_bins is None:
            raise TemplateError(
                "The template does not know how its counts are distributed over energy bins: it "
                f"was split along {self._record.split or 'another axis'}. Take it as it was; "
                "what is split along Em and other axes is split along Em first."
            )
        return self.energy_bins

    def time_counts(self) -> tuple[Array, Array]:
        """Counts of each component in each time bin, with ``norms="per_time"``.

        Returns
        -------
        counts : ndarray, shape (n_labels, n_time)
        covariance : ndarray, shape (n_labels * n_time, n_labels * n_time)
            That of the counts of all times, and of how they are shared out.
        """
        course = self._record.time_course
        if course is None or self._record.split:
            raise TemplateError(
                "Counts per time bin need a template made with norms='per_time', and not split; "
                "what is split along Time and other axes is split along Time first."
            )
        return course.counts(list(self._counts.values()), self._covariance)

    def energy_counts(self, label: str | None = None) -> tuple[Array, Array]:
        """Counts in each energy bin of the source range, and their standard errors.

        Parameters
        ----------
        label : str, optional
            One component; default: the sum.

        Returns
        -------
        counts, errors : ndarray, shape (n_bins,)
            The errors are those of the amounts: spectral fit, line ratio, or fitted norms. Infinite
            for an amount that is not known.
        """
        rows = [self.labels.index(x) for x in labels_in(label, self.labels)]
        norms = np.array(list(self._counts.values()))
        if self.several_bins:
            counts = self._bins().counts(norms)
            covariance = self._bins().covariance(self._covariance)
        else:
            counts, covariance = norms[:, None], self._covariance[:, None, :, None]
        variances = np.einsum("kblb->b", covariance[rows][:, :, rows])
        return counts[rows].sum(axis=0), np.sqrt(np.maximum(variances, 0.0))

    def split(self, axis: str, groups: Sequence[Sequence[int]] | int = 1) -> BackgroundTemplate:
        """Cut every component into parts along an axis, each with a norm of its own.

        Parameters
        ----------
        axis : str
            "Phi", "Time", "ScAtt", or "Em" of a template with several energy bins: first, where
            more than one is split.
        groups : list of lists of bin numbers, or int
            The bins of each part; every bin must be in one group. A number cuts into groups of
            that many bins.

        Returns
        -------
        BackgroundTemplate
            With the labels ``<label>_<axis>_<number>``, and as covariance that of the norms
            shared out, plus the noise of the slices, which moves counts between the parts. Along
            Em, and with ``norms="per_time"`` along Time, it is what spectra say of the counts in
            their bins.

        References
        ----------
        One norm per Phi bin: Knoedlseder et al. 2022, A&A 665, A84; per time node: Siegert et al.
        2019, A&A 626, A73.
        """
        position = axis_position(self.event_axes, axis)
        groups = groups_of(axis, self.event_axes[position].nbins, groups)
        parts = cut_maps(self._maps, axis, position, groups)
        own = [self.labels[row] for row in parts.rows]
        counts = parts.shares * np.array([self._counts[label] for label in own])
        if axis == ENERGY_LABEL and self.several_bins:
            covariance = self._bins().covariance_of_parts(
                self._covariance, parts.rows, parts.inside[:, self.bins_inside]
            )
        elif axis == "Time" and self._record.time_course is not None:
            covariance = covariance_of_groups(self.time_counts()[1], parts.rows, parts.inside)
        else:
            noise = parts.noise * np.array([self._counts[x] / self._sums[x] for x in own]) ** 2
            covariance = split_covariance(self._covariance, parts.rows, parts.shares, noise)
        split = f"{self._record.split}, {axis}" if self._record.split else axis
        return self._with(
            maps=parts.maps,
            counts=dict(zip(parts.maps, counts.tolist(), strict=True)),
            covariance=covariance,
            weights=self.weights[parts.rows],
            products=cut_products(self._products, self.labels, parts, position),
            energy_bins=None,
            record=replace(self._record, split=split, line_spread=None),
        )

    def compare(self, observed: Any, *, name: str | None = None, nside: int = 4) -> Any:
        """Compare with the observed counts of the source range: totals, Phi, PsiChi.

        See `comparison.compare`.
        """
        from .comparison import compare

        return compare(self, observed, name=name, nside=nside)

    # --- consumers -------------------------------------------------------------------------------

    def cosilike(
        self, name: str = "cosi", *, data: Any = None, outside: str = "raise"
    ) -> dict[str, Any]:
        """``bkg`` and ``nuisance_param`` for cosipy 0.3's COSILike; see `consumers.cosilike`."""
        from ..consumers.cosilike import cosilike

        return cosilike(self, name, data=data, outside=outside)

    def component_mix(
        self,
        name: str = "norms",
        *,
        data: Any = None,
        outside: str = "raise",
        follow: Any = None,
    ) -> Any:
        """Make a background for COSILike with a norm for each component.

        The session fits the norms, or they follow its spectrum; see
        `consumers.cosilike.ComponentMix`.

        Parameters
        ----------
        name, data, outside
            As of `consumers.cosilike.ComponentMix`.
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

    def binned_background(
        self,
        data: Any = None,
        *,
        prefix: str = "",
        follow: LineBackgroundLike | None = None,
        line_ratio: Any = None,
        outside: str = "raise",
    ) -> BinnedBackground:
        """The background of cosipy 0.4.3's PoissonLikelihood; see `binned.BinnedBackground`.

        Parameters
        ----------
        data : EmCDSBinnedData or histpy.Histogram, optional
            The likelihood's data.
        prefix, outside
            As of `binned.BinnedBackground`.
        follow : LineBackgroundLike, optional
            A plugin of the same session, made with ``spectrum=``, since cosipy refuses the
            ParticleSource of a spectrum in the model; see `following.FollowedAmounts`.
        line_ratio : mapping, optional
            With ``follow=``: in place of the template's own.
        """
        from ..consumers.binned import BinnedBackground
        from .following import FollowedAmounts

        if follow is None and line_ratio is not None:
            raise TemplateError(
                "line_ratio= goes with follow=; without it, give it to background_template."
            )
        followed = None if follow is None else FollowedAmounts(self, follow, line_ratio)
        return BinnedBackground(self, data, prefix=prefix, followed=followed, outside=outside)

    def background_density(
        self,
        events: Any,
        sc_history: Any,
        *,
        prefix: str = "",
        livetime_fraction: bool = True,
        outside: str = "raise",
    ) -> BackgroundDensity:
        """The background of cosipy 0.4.3's UnbinnedLikelihood; see `unbinned.BackgroundDensity`.

        Parameters
        ----------
        events : TimeTagEmCDS event data of cosipy
        sc_history : cosipy.SpacecraftHistory
        prefix, livetime_fraction, outside
            As of `unbinned.BackgroundDensity`.
        """
        from ..consumers.unbinned import BackgroundDensity
        from .energies import energy_densities

        densities = energy_densities(
            self.fit,
            self.event_axes,
            self.source_range,
            self.labels,
            self.unknown,
            self.record.line_ratio,
        )
        return BackgroundDensity(
            self,
            events,
            sc_history,
            densities,
            prefix=prefix,
            livetime_fraction=livetime_fraction,
            outside=outside,
        )

    def free_norm_histograms(self, data: Any = None, *, prefix: str = "") -> dict[str, Histogram]:
        """What cosipy 0.4.3's FreeNormBinnedBackground takes; see `binned.free_norm_histograms`."""
        from ..consumers.binned import free_norm_histograms

        return free_norm_histograms(self, data, prefix=prefix)

    def ts_map_input(self, data: Any) -> dict[str, Any]:
        """``data`` and ``bkg_model`` for cosipy's FastTSMap; see `imaging.ts_map_input`."""
        from ..consumers.imaging import ts_map_input

        return ts_map_input(self, data)

    def energy_channel(self, data: Any) -> list[int]:
        """The energy bins of the source range in the data, for the fits of FastTSMap."""
        from ..consumers.imaging import energy_channel

        return energy_channel(self, data)

    def deconvolution_input(
        self, event_histogram: Any, *, components: bool = False
    ) -> dict[str, Histogram]:
        """The background of cosipy's image deconvolution, on the events' own axes.

        Parameters
        ----------
        event_histogram : histpy.Histogram
        components : bool
            Whether each component comes under its own key; see `imaging.deconvolution_input`.
        """
        from ..consumers.imaging import deconvolution_input

        return deconvolution_input(self, event_histogram, components=components)

    def deconvolution_ranges(
        self, keys: Sequence[str], *, n_sigma: float = 5.0
    ) -> dict[str, list[float]]:
        """What image deconvolution may do to the norms; see `imaging.deconvolution_ranges`."""
        from ..consumers.imaging import deconvolution_ranges

        return deconvolution_ranges(self, keys, n_sigma=n_sigma)

    def threemlfit_background(self, time_range: Sequence[Any] | None = None) -> Histogram:
        """What cosi-threemlfit reads; see `programs.threemlfit_background`."""
        from ..consumers.programs import threemlfit_background

        return threemlfit_background(self, time_range)

    def __repr__(self) -> str:
        return in_a_line(self)

    def _repr_html_(self) -> str:
        return as_html(self)

    def to_table(self) -> Table:
        """Counts and errors, and with a livetime the rates, as an astropy table.

        The last row is the total, whose error has the correlations. What is not known is masked.
        """
        return as_table(self)

    # --- files -----------------------------------------------------------------------------------

    def write(self, path: str | os.PathLike[str]) -> None:
        """Write to HDF5, with the fit, the method and versions inside; whole or not at all.

        Each component is a histpy histogram of its own in the group ``components/<label>``.
        """
        import h5py

        with whole_hdf5(path) as whole:
            for label in self.labels:
                write_maps(whole, f"components/{label}", self.event_axes, self._factors(label))
                whole.check()
            scales = {label: self._factors(label)["contents"][1] for label in self.labels}
            write_products(whole, self._products, scales)
            with h5py.File(whole, "a") as file:
                file.attrs["format"] = format_of(self.energy_bins)
                if self.energy_bins is not None:
                    write_energy_bins(file.create_group("energy_bins"), self.energy_bins)
                # datasets: attributes are limited to 64 kB
                file.create_dataset("metadata", data=json.dumps(self._metadata(), allow_nan=False))
                file.create_dataset("fit", data=self.fit.to_json())

    def write_histogram(self, path: str | os.PathLike[str], label: str | None = None) -> None:
        """Write `histogram`, or the component of this label, as a plain histpy file.

        Whole or not at all; a file in its place is replaced.
        """
        if label is None:
            maps = {"contents": (self.expected(), 1.0), "sumw2": (self._variances(), 1.0)}
        else:
            maps = self._factors(label)
        with whole_hdf5(path) as whole:
            write_maps(whole, HISTOGRAM, self.event_axes, maps)

    def _factors(self, label: str) -> dict[str, tuple[Array, float]]:
        """The maps of a component as they are written: at its counts, or at 1 count."""
        contents, sumw2 = self._maps[labels_in(label, self.labels)[0]]
        factor = (self._counts[label] or 1.0) / self._sums[label]
        return {"contents": (contents, factor), "sumw2": (sumw2, factor**2)}

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
            "details": self._record.to_details(),
            "notes": list(self._record.notes),
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
            form = file.attrs.get("format")
            if form not in FORMATS:
                raise FileError(
                    f"{path} is no background template of this version: its format is "
                    f"{brief(repr(form), 60)}, expected one of {', '.join(FORMATS)}."
                )
            data = checks.mapping(parse_json(read_text(file["metadata"], path)), "its metadata")
            fit = LineBackgroundFit.from_text(read_text(file["fit"], path), f"{path}: its fit")
            labels = checks.texts(data["labels"], "labels")
            if not labels or not all(label.isidentifier() for label in labels):
                raise ValueError(f"its labels are {listed(labels)}; they must be names")
            axes = read_axes(file["components"][labels[0]], Path(path))
            maps = {label: read_maps(file["components"][label], axes, path) for label in labels}
            n = len(labels)
            products, notes = read_products(file, labels, axes.shape, path)
            bins = read_energy_bins(file["energy_bins"], n, path) if form == FORMATS[1] else None
            covariance = checks.covariance(data["covariance"], "the covariance", n, np.inf)
            counts = checks.mapping(data["counts"], "counts")
            livetime = data["livetime"]
            method = checks.text(data["method"], "the method", METHODS)
            return cls(
                axes,
                maps,
                {label: checks.number(counts[label], "counts", 0.0) for label in labels},
                covariance,
                fit=fit,
                source_range=read_range(data["source_range"], "source_range"),
                sidebands=[read_range(band, "a sideband") for band in data["sidebands"]],
                weights=checks.numbers(data["weights"], "the weights", (n, None)),
                livetime=None if livetime is None else checks.number(livetime, "livetime", 1e-300),
                energy_bins=bins,
                record=Record.from_details(method, data["details"], [*data["notes"], *notes]),
                products=products,
                versions={
                    name: checks.text(version, "a version")
                    for name, version in checks.mapping(data["versions"], "versions").items()
                },
            )
