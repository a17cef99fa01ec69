"""How a template is made: bins, weights, amounts, the source's own photons, filters."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import BinningError, LineBackgroundError, LineBackgroundWarning, TemplateError
from ..fit.minimise import fit_spectrum, from_best
from ..fit.result import LineBackgroundFit
from ..histograms.axes import axis_difference, axis_in_kev, embed, source_axis
from ..histograms.read import EventHistogram, bins_of_range, open_events
from ..spectrum.axis import (
    EDGE_TOLERANCE,
    bins_to_ranges,
    check_inside,
    check_range,
    overlapping_bins,
    whole_bins,
)
from ..units import in_kev, to_kev
from .amounts import LABELS, SourceAmounts, line_energy, nearest_line
from .filters import Filter, Tell
from .kinematics import shift_matrices
from .options import TemplateOptions
from .smoothing import choose_filter, filter_sums
from .template import BackgroundTemplate, require_axes
from .weights import component_weights, interpolated_weights, sideband_weights

Array = NDArray[np.float64]

#: Half-width of the default energy window of `components` [keV]: near enough for the sharp
#: features to stay within their Phi bins, wide enough to hold lines (docs/validation.md).
DEFAULT_WINDOW = 80.0

#: Lines within this distance of the source range [keV] lend the component "lines" its shape.
TRACER_REACH = 100.0

#: The low-energy tail of a sky line in the estimate of its own contamination of the sidebands:
#: share of its photons, and mean loss [keV]; as simulated for 26Al.
SKY_TAIL = (0.25, 120.0)

#: Sky norm and template are iterated until the norm moves by less than this.
_SKY_TOLERANCE = 1e-4

_SKY_OF_PARTS = (
    "give sky= as two histograms, on the events' axes and in the source range, or a source range "
    "on bin edges"
)

_MAX_SKY_STEPS = 30


@dataclass(frozen=True)
class _Plan:
    """What is decided before any event is summed."""

    low: float
    high: float
    selected: NDArray[np.bool_]
    axes: Any
    place: Any


def check_template(
    events: EventHistogram,
    used: NDArray[np.bool_],
    source_range: Sequence[Any],
    options: TemplateOptions,
) -> None:
    """Refuse what `make_template` would refuse, before there is a fit.

    Parameters
    ----------
    used : ndarray of bool, shape (n_em,)
        The unmasked bins.
    """
    plan = _plan(events, used, source_range, options)
    _in_seconds(options.livetime)
    if options.sky is not None:
        slices, in_range = _split_sky(options.sky)
        _require_own_axes(events, open_events(slices))
        if in_range is None:
            bins_of_range(events, plan.low, plan.high, _SKY_OF_PARTS)
    if options.observed is not None:
        require_axes(open_events(options.observed), plan.axes, "observed", (plan.low, plan.high))


def make_template(
    events: EventHistogram,
    fit: LineBackgroundFit,
    source_range: Sequence[Any],
    options: TemplateOptions,
    progress: Tell = None,
) -> BackgroundTemplate:
    """Carry the distribution of adjacent energies into the source range.

    See `LineBackgroundLike.background_template`.
    """
    if not fit.valid:
        raise TemplateError(
            f"The fit is not valid ({fit.message}); a template needs a valid spectrum. Fit again."
        )
    _check_same_data(events, fit)
    plan = _plan(events, fit.spectrum.used, source_range, options)
    maker = _Maker(events, fit, plan, options, progress)
    template = maker.with_sky() if options.sky is not None else maker.make(fit)
    if options.sky is None:
        maker.say_unknown(template)
    if options.observed is not None and options.sky is None:
        # the spectrum's knowledge of the continuum, and a line ratio, hold the norms
        template.fit_norms(options.observed, constrain=True)
        template.add_note(
            "The norms were fitted to observed= without sky=: the source's own photons in it count "
            "as background. Give sky=, or fit the norms together with your source."
        )
    if template.fit.systematic:
        percent = f"a systematic error of {100 * template.fit.systematic:.2g} % of each energy bin"
        included = f"the template's errors include {percent}"
        if not template.details["systematic_percent"]:
            included = f"it needs {percent}; the template's counts are those of observed="
        template.add_note(
            f"The model does NOT describe the spectrum: {included}. fit.summary() says where, and "
            "what to try."
        )
    for note in template.notes:
        warnings.warn(note, LineBackgroundWarning, stacklevel=4)
    return template


class _Maker:
    """The steps of one template; the spectral fit may change between calls of `make`."""

    def __init__(
        self,
        events: EventHistogram,
        fit: LineBackgroundFit,
        plan: _Plan,
        options: TemplateOptions,
        progress: Tell = None,
    ):
        self.progress = progress
        self.events, self.fit, self.plan, self.options = events, fit, plan, options
        self.edges = events.energy_edges
        self.centers = 0.5 * (self.edges[1:] + self.edges[:-1])
        self.middle = 0.5 * (plan.low + plan.high)
        self.notes: list[str] = list(events.notes)
        self.details: dict[str, Any] = {}
        self._chosen: Filter | None = None
        self._moved: Array | None = None
        own = options.method == "components"
        ignored = {"sidebands": own and options.sidebands is not None}
        for name, default in (("window", None), ("tracers", None), ("order", 1)):
            ignored[name] = not own and getattr(options, name) != default
        names = [f"{name}=" for name, is_ignored in ignored.items() if is_ignored]
        if names:
            self.notes.append(f"method='{options.method}' does not use {', '.join(names)}.")

    def make(
        self, fit: LineBackgroundFit, sky_slices: Array | None = None, norm: float = 0.0
    ) -> BackgroundTemplate:
        """The template for a fitted spectrum, minus `norm` times the sky in the slices."""
        plan, options = self.plan, self.options
        self.fit = fit
        labels, weights = self._weights()
        counts, covariance = self._amounts(labels)
        chosen = self._filter(labels, weights)  # before the sums: it needs as much memory
        if self.options.shift and self._moved is None:
            self._moved = self._matrices()
        sums, variances = self._sums(self.events, weights, self._moved)
        if sky_slices is not None:
            sums -= norm * sky_slices
        maps, pooled = {}, 0
        for k, label in enumerate(labels):
            contents, variance = sums[k, ...], variances[k, ...]
            if not contents.sum() > 0:
                raise TemplateError(
                    f"The weighted sum of the slices for {label!r} is not positive "
                    f"({contents.sum():.3g}); widen the sidebands or the window, or leave the "
                    "weakest lines out of the model."
                )
            filtered = filter_sums(self.events, contents, variance, chosen, self.progress)
            pooled += filtered.n_pooled
            contents[...], variance[...] = filtered.maps, filtered.variances  # saves their memory
            maps[label] = plan.place(contents), plan.place(variance)
        if options.method == "sideband":
            # the tutorial's number: what the slices hold, not what the fit expects of them
            counts = {"background": float(sums[0].sum())}
            covariance = np.array([[self._sideband_variance(counts["background"])]])
        details = self.details | {"filter": chosen.describe(), "pooled_slices": pooled}
        details["systematic_percent"] = 100.0 * fit.systematic
        if norm:
            details["sky_norm_removed"] = norm
        livetime = _in_seconds(options.livetime)
        if livetime is None and self.events.livetime is not None:
            livetime = self.events.livetime.seconds
            details["livetime_from"] = "the events"
        return BackgroundTemplate(
            plan.axes,
            maps,
            counts,
            covariance,
            fit=fit,
            method=options.method,
            source_range=(plan.low, plan.high),
            sidebands=bins_to_ranges(self.edges, plan.selected),
            weights=weights,
            livetime=livetime,
            details=details,
            notes=self.notes,
        )

    def _sums(
        self, events: EventHistogram, weights: Array, matrices: Array | None
    ) -> tuple[Array, Array]:
        """Weighted sums of the slices and their variances, moved along Phi by `matrices`."""
        if matrices is None:
            sums, variances = events.weighted_sums(weights)
            assert variances is not None
            return sums, variances
        position = self._phi_position()
        sums = np.zeros((len(weights), *events.other_shape))
        variances = np.zeros_like(sums)
        for e in np.flatnonzero(weights.any(axis=0)):
            slices = self._slice(events, int(e))
            for total, values, power in zip((sums, variances), slices, (1, 2), strict=True):
                moved = np.tensordot(matrices[e], values, axes=(1, position))
                moved = np.moveaxis(moved, 0, position)
                total += np.multiply.outer(weights[:, e] ** power, moved)
        return sums, variances

    def _matrices(self) -> Array:
        """How each energy slice is moved along Phi; from the selected slices alone."""
        position = self._phi_position()
        others = tuple(i for i in range(len(self.events.other_shape)) if i != position)
        used = np.flatnonzero(self.plan.selected)
        in_phi = np.array([self._slice(self.events, int(e))[0].sum(axis=others) for e in used])
        edges = _phi_degrees(self.events.other_axes[position])
        n_phi = edges.size - 1
        matrices = np.broadcast_to(np.eye(n_phi), (len(self.centers), n_phi, n_phi)).copy()
        # the selected slices in runs of adjacent bins, as the energies must be contiguous
        for low, high in bins_to_ranges(self.edges, self.plan.selected):
            run = (self.centers > low) & (self.centers < high)
            own = self.edges[(self.edges >= low) & (self.edges <= high)]
            matrices[run] = shift_matrices(own, edges, self.middle, in_phi[run[used]])
        self.details["shift"] = True
        return matrices

    def _phi_position(self) -> int:
        return [str(a.label) for a in self.events.other_axes].index("Phi")

    def _slice(self, events: EventHistogram, energy_bin: int) -> tuple[Array, Array]:
        """Counts and variances of one energy slice, one at a time to save memory."""
        only = np.zeros(len(self.centers))
        only[energy_bin] = 1.0
        counts, variances = events.weighted_sums(only)
        assert variances is not None
        return counts[0], variances[0]

    def _filter(self, labels: Sequence[str], weights: Array) -> Filter:
        """The filter that was asked for, or chosen from the data, once."""
        if self.options.smoothing != "auto":
            return self.options.filter
        if self._chosen is None:
            self._chosen, scores = choose_filter(
                self.events, weights, self._seen_counts(labels), self.progress
            )
            self.details["filter_scores"] = scores
        return self._chosen

    # --- weights ---------------------------------------------------------------------------------

    def _weights(self) -> tuple[tuple[str, ...], Array]:
        """Labels, and weights on the energy slices, shape (n_labels, n_em)."""
        plan, options, fit = self.plan, self.options, self.fit
        if options.method == "components":
            labels, table = self._component_table()
            expected = np.maximum(table.sum(axis=0), 1e-12)
            weights = component_weights(
                table, expected, self.centers, plan.selected, self.middle, options.order
            )
            self.details["order"] = options.order
            return labels, weights[: len(labels)]
        total = self._source_amounts().counts_and_jacobian(fit.theta)[0].sum()
        if not total > 0:
            raise TemplateError(
                f"The model expects no background in the source range {plan.low:g}-{plan.high:g} "
                "keV."
            )
        if options.method == "sideband":
            weights = sideband_weights(fit.expected, plan.selected, total)
        else:
            weights = interpolated_weights(
                fit.expected, self.centers, plan.selected, total, self.middle
            )
        return ("background",), weights[None, :]

    def _component_table(self) -> tuple[tuple[str, ...], Array]:
        """Labels, and expected counts per bin of continuum, tracer lines, other lines.

        The rows behind the labels keep lines that are no tracers out of the components; rows
        without counts in the selected bins are left out.
        """
        spectra = self.fit.component_spectra
        is_line = np.array([c.label == "lines" for c in self.fit.model.components])
        selected = self.plan.selected
        continuum = spectra[~is_line].sum(axis=0)
        if not continuum[selected].sum() > 0:
            raise TemplateError("method='components' needs a continuum in the model.")
        tracers = self._tracers()
        traced = spectra[tracers].sum(axis=0)
        others = spectra[is_line].sum(axis=0) - traced
        # a line that adds less than a thousandth of the noise needs no row of its own
        enough = 1e-3 * np.sqrt(self.fit.expected[selected].sum())
        rest = [others] if others[selected].sum() > enough else []
        if traced[selected].sum() > enough:
            model, theta = self.fit.model, self.fit.theta
            energies = [line_energy(model, theta, int(i)) for i in np.flatnonzero(tracers)]
            self.details["tracers"] = [round(e, 3) for e in energies]
            return ("continuum", "lines"), np.array([continuum, traced, *rest])
        return ("continuum",), np.array([continuum, *rest])

    def _tracers(self) -> NDArray[np.bool_]:
        """True for the components that "lines" takes its distribution from."""
        model, theta = self.fit.model, self.fit.theta
        chosen = np.zeros(len(model.components), bool)
        lines = [i for i, c in enumerate(model.components) if c.label == "lines"]
        if self.options.tracers is None:
            for i in lines:
                energy = line_energy(model, theta, i)
                distance = max(self.plan.low - energy, energy - self.plan.high)
                amount = theta[model.components[i].slots[0]]
                chosen[i] = distance <= TRACER_REACH and amount > 0
            return chosen
        for wanted in self.options.tracers:
            chosen[nearest_line(model, theta, to_kev(wanted), "tracers")] = True
        return chosen

    # --- amounts ---------------------------------------------------------------------------------

    def _source_amounts(self) -> SourceAmounts:
        """Continuum and lines in the source range, for the present fit."""
        plan, fit, ratio = self.plan, self.fit, self.options.line_ratio
        amounts = SourceAmounts(fit.model, fit.theta, self.edges, (plan.low, plan.high), ratio)
        if ratio is not None:
            share = amounts.ratio_share(fit.theta)
            self.details["line_ratio"] = {**asdict(ratio), "share_in_range": share}
        return amounts

    def _amounts(self, labels: Sequence[str]) -> tuple[dict[str, float], Array]:
        """Counts of each component in the source range, and their covariance."""
        amounts = self._source_amounts()
        value, jac = amounts.counts_and_jacobian(self.fit.theta)
        index = {p.name: i for i, p in enumerate(self.fit.model.parameters)}
        columns = [index[name] for name in self.fit.covariance_names]
        j = jac[:, columns]
        covariance = j @ self.fit.covariance @ j.T
        covariance[1, 1] += amounts.ratio_variance(self.fit.theta)
        if self.fit.systematic:
            inside = amounts.counts_in_bins(self.fit.theta)
            covariance += self.fit.systematic_covariance(jac, inside)
        if self.options.method != "components":
            return {"background": float(value.sum())}, np.array([[covariance.sum()]])
        if "lines" not in labels and value[1] > 1e-3 * value[0]:
            raise TemplateError(
                f"The source range holds {value[1]:.4g} counts of lines, but no fitted line within "
                "the window can lend them its distribution; widen window=, or name tracers=."
            )
        counts = dict(zip(LABELS, value.tolist(), strict=True))
        if self._hides_lines():
            if counts["lines"] < 1e-6 * max(value[0], 1.0):
                counts["lines"] = 0.0  # less than the tails of other lines can be trusted for
            covariance[1, :] = covariance[:, 1] = 0.0
            covariance[1, 1] = np.inf
        n = len(labels)
        return {label: counts[label] for label in labels}, covariance[:n, :n]

    def _hides_lines(self) -> bool:
        """Whether a line in the source range would be seen by nothing: masked, and no ratio."""
        covered = overlapping_bins(self.edges, self.plan.low, self.plan.high)
        model, theta = self.fit.model, self.fit.theta
        lines = [i for i, c in enumerate(model.components) if c.label == "lines"]
        inside = any(self.plan.low <= line_energy(model, theta, i) <= self.plan.high for i in lines)
        masked = bool(self.fit.spectrum.mask[covered].all())
        return self.options.line_ratio is None and masked and not inside

    def _sideband_variance(self, total: float) -> float:
        """Variance of R/B * N: model counts of source range and sidebands, counts N of these.

        By linear propagation of every bin's Poisson noise, through N and through the fit that R
        and B come from.
        """
        fit, selected = self.fit, self.plan.selected
        amounts = self._source_amounts()
        value, jac = amounts.counts_and_jacobian(fit.theta)
        source, source_jac = value.sum(), jac.sum(axis=0)
        expected, bin_jac = fit.expected, fit.bin_jacobian
        band, band_jac = expected[selected].sum(), bin_jac[:, selected].sum(axis=1)
        index = {p.name: i for i, p in enumerate(fit.model.parameters)}
        columns = [index[name] for name in fit.covariance_names]
        slope = total * (source_jac / source - band_jac / band)[columns]
        pull = slope @ fit.covariance @ (bin_jac[columns] / np.maximum(expected, 1e-12))
        per_bin = np.where(selected, source / band, 0.0) + np.where(fit.spectrum.used, pull, 0.0)
        variance = np.sum(per_bin**2 * fit.spectrum.counts) + amounts.ratio_variance(fit.theta)
        if fit.systematic:  # see LineBackgroundFit.systematic_covariance
            response = per_bin * expected - amounts.counts_in_bins(fit.theta).sum(axis=0)
            variance += np.sum((fit.systematic * response) ** 2)
        return float(variance)

    def _seen_counts(self, labels: Sequence[str]) -> Array:
        """Counts of each component in the selected bins, which the filters are scored on."""
        if self.options.method != "components":
            return np.ones(1)
        return self._component_table()[1][: len(labels), self.plan.selected].sum(axis=1)

    # --- the source's own photons ----------------------------------------------------------------

    def with_sky(self) -> BackgroundTemplate:
        """Take the source's photons out of spectrum and slices, at the norm that they imply."""
        slices, in_range = _split_sky(self.options.sky)
        sky = open_events(slices)
        _require_own_axes(self.events, sky)
        spectrum = sky.energy_counts()
        if in_range is None:
            in_range = self._sky_in_range(sky)
        if self.options.shift:
            self._moved = self._matrices()
        norm, fit, given = 0.0, self.fit, self.fit
        for step in range(_MAX_SKY_STEPS):
            if norm:
                fit = fit_spectrum(from_best(self.fit), self.fit.spectrum, offset=norm * spectrum)
                fit = replace(fit, line_search=given.line_search)
            self.fit = fit
            _, weights = self._weights()
            sky_slices = self._sums(sky, weights, self._moved)[0]
            template = self.make(fit, sky_slices, norm)
            # a ratio of lines, and with it the spectrum, hold the norms as they do without sky=
            result = template.fit_norms(
                self.options.observed,
                sky=[in_range],
                constrain=self.options.line_ratio is not None,
            )
            new, error = result["sky_1"]
            moved = abs(new - norm)
            norm = new
            if moved <= max(_SKY_TOLERANCE * abs(new), 1e-3 * error):
                break
            if step + 1 < _MAX_SKY_STEPS:
                del template  # its maps are as large as those of the next one
        else:
            template.add_note(f"The sky norm still moved by {moved:.2g} in its last iteration.")
        template.details["sky_norm"] = [norm, error]
        if given.samples is not None:
            template.add_note(
                "The sky was taken out of the spectrum by fits: amounts and errors are those of "
                "maximum likelihood, not of the posterior."
            )
        if not any(template.counts.values()):
            template.add_note(
                "sky= explains all observed counts: the background's norms came out as 0. Check "
                "that it is the expected sky at unit norm, and no background."
            )
        return template

    def _sky_in_range(self, sky: EventHistogram) -> Any:
        """The sky in the source range, where that consists of whole energy bins."""
        from ..histograms.write import make_histogram

        inside = bins_of_range(sky, self.plan.low, self.plan.high, _SKY_OF_PARTS)
        sums, _ = sky.weighted_sums(inside.astype(float), variances=False)
        return make_histogram(self.plan.axes, self.plan.place(sums[0]))

    def say_unknown(self, template: BackgroundTemplate) -> None:
        """Notes on what is not known without sky= or line_ratio=."""
        hidden = self.fit.spectrum.mask & overlapping_bins(
            self.edges, self.plan.low, self.plan.high
        )
        if hidden.any() and self.options.line_ratio is None and "lines" not in template.labels:
            template.add_note(
                "The source range is masked: an instrumental line inside it is not in this "
                "template. Leave the norm free in your likelihood, or give line_ratio=."
            )
        excess, share = self._own_photons(template)
        if share > 1e-3:
            template.add_note(
                f"If the excess of {excess:.3g} counts in the masked range is a sky line of which "
                f"{SKY_TAIL[0]:.0%} lose {SKY_TAIL[1]:.0f} keV on average, about {share:.1%} of "
                "the template are the source's own photons; sky= takes them out."
            )

    def _own_photons(self, template: BackgroundTemplate) -> tuple[float, float]:
        """Excess counts over the background in the masked range, and their share of the template.

        The lost photons are spread as an exponential below the source range.
        """
        spectrum, fit = self.fit.spectrum, self.fit
        near = spectrum.mask & overlapping_bins(self.edges, self.plan.low - 5, self.plan.high + 5)
        excess = float((spectrum.counts - fit.expected)[near].sum())
        excess -= self._source_amounts().ratio_counts(fit.theta)
        if excess < 5.0 * np.sqrt(max(float(fit.expected[near].sum()), 1.0)):
            return max(excess, 0.0), 0.0
        lost, length = SKY_TAIL
        reach = np.exp(np.minimum(self.edges - self.middle, 0.0) / length)
        tail = excess * lost / (1 - lost) * np.diff(reach)
        own = template.weights @ tail
        total = [template.counts["continuum"] if template.method == "components" else 1.0]
        source = float(abs(own[0] * total[0]))
        return excess, source / max(source, sum(template.counts.values()), 1.0)


def observed_counts(events: EventHistogram, source_range: Sequence[Any]) -> Any:
    """The events of a source range on edges of the energy axis, as a dense histpy.Histogram.

    See `LineBackgroundLike.observed_counts`.
    """
    from ..histograms.write import make_histogram

    low, high = check_inside(events.energy_edges, *in_kev(source_range, "source range"))
    inside = bins_of_range(events, low, high, "choose a source range on bin edges")
    axes, place = _target_axes(events, low, high, None)
    sums, _ = events.weighted_sums(inside.astype(float), variances=False)
    return make_histogram(axes, place(sums[0]))


def _split_sky(sky: Any) -> tuple[Any, Any]:
    """Sky on the events' axes, and in the source range if it is given apart."""
    if isinstance(sky, tuple) and len(sky) == 2:
        return sky
    return sky, None


def _require_own_axes(events: EventHistogram, sky: EventHistogram) -> None:
    found, own = ", ".join(map(str, sky.labels)), ", ".join(map(str, events.labels))
    if found != own:
        raise TemplateError(f"sky= must have the events' own axes, {own}; it has {found}.")
    for a, b in zip(events.axes, sky.axes, strict=True):
        difference = axis_difference(a, b)
        if difference:
            raise TemplateError(f"sky= differs from the events in the axis {a.label}: {difference}")


# --- bins, axes, small things ---------------------------------------------------------------------


def _plan(
    events: EventHistogram,
    used: NDArray[np.bool_],
    source_range: Sequence[Any],
    options: TemplateOptions,
) -> _Plan:
    edges = events.energy_edges
    low, high = check_inside(edges, *in_kev(source_range, "source range"))
    selected = _select_bins(edges, used, (low, high), options)
    axes, place = _target_axes(events, low, high, options.like)
    if (options.filter != Filter() or options.smoothing) and "PsiChi" not in events.labels:
        spatial = options.smoothing or options.smoothing_fwhm or options.l_cut is not None
        if spatial or options.filter.rebin_phi is not None:
            raise TemplateError(
                f"{'Smoothing' if spatial else 'rebin_phi='} works on PsiChi, which the events do "
                f"not have; their axes are {', '.join(map(str, events.labels))}."
            )
    times = [name for name in ("Time", "ScAtt") if name in events.labels]
    if options.pool is not None and len(times) != 1:
        raise TemplateError(
            "pool= groups the bins of a Time or of a ScAtt axis; the events have "
            f"{' and '.join(times) or 'neither'}."
        )
    if options.shift and "Phi" not in events.labels:
        raise TemplateError(
            "shift= moves features along Phi, which the events do not have; their axes are "
            f"{', '.join(map(str, events.labels))}."
        )
    return _Plan(low, high, selected, axes, place)


def _select_bins(edges, used, source_range, options: TemplateOptions):
    """True for the energy bins that a template is made from."""
    in_source = overlapping_bins(edges, *source_range)
    if options.method == "components":
        selected = used & ~in_source & _window(edges, source_range, options.window)
        where = "of the window"
    elif options.sidebands is None:
        selected = used & ~in_source
        where = "outside the source range"
    else:
        return _sideband_bins(edges, in_source, source_range, options.sidebands)
    if not selected.any():
        raise TemplateError(
            f"No unmasked energy bin {where} is left; shorten the mask or widen the range."
        )
    return selected


def _window(edges, source_range, window):
    if window is None:
        middle = 0.5 * sum(source_range)
        low = max(middle - DEFAULT_WINDOW, edges[0])
        high = min(middle + DEFAULT_WINDOW, edges[-1])
    else:
        low, high = check_inside(edges, *check_range(*in_kev(window, "window"), "window"), "window")
    return whole_bins(edges, low, high, "window")


def _sideband_bins(edges, in_source, source_range, sidebands):
    selected = np.zeros(edges.size - 1, bool)
    for i, band in enumerate(sidebands):
        what = f"sideband {i + 1}"
        low, high = check_inside(edges, *check_range(*in_kev(band, what), what), what)
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


def _check_same_data(events: EventHistogram, fit: LineBackgroundFit) -> None:
    edges, fitted = events.energy_edges, fit.spectrum.edges
    same = edges.shape == fitted.shape and np.all(
        np.abs(edges - fitted) <= EDGE_TOLERANCE * np.diff(fitted).min()
    )
    if not same:
        raise BinningError(
            f"The fit was made on {fitted.size - 1} energy bins from {fitted[0]:g} to "
            f"{fitted[-1]:g} keV, the events have {edges.size - 1} from {edges[0]:g} to "
            f"{edges[-1]:g} keV; fit these events."
        )
    counts, of_fit = events.energy_counts(), fit.spectrum.counts
    if not np.allclose(counts, of_fit, rtol=1e-9):
        raise TemplateError(
            f"The fit was made on other counts ({of_fit.sum():.6g} in all) than these events "
            f"({counts.sum():.6g}); fit these events."
        )


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
    coarser: dict[int, Any] = {}
    for j, (axis, i) in enumerate(zip(target.axes, order, strict=True)):
        if i != k:
            difference = axis_difference(own[i], axis)
            if difference and axis.label == "Phi":
                coarser[j] = _bins_of_coarser(own[i], axis)
            if difference and coarser.get(j) is None:
                raise TemplateError(
                    f"Axis {axis.label} of the histogram given as like= differs from the "
                    f"events': {difference}. Bin both alike."
                )
    em = target.energy_axis_index
    edges = axis_in_kev(target.axes[em])
    # refused before any work if no bin of it is the source range
    embed(np.zeros([1] * len(names)), em, edges, low, high)

    def place(sums):
        contents = np.expand_dims(sums, k).transpose(order)
        for j, starts in coarser.items():
            contents = np.add.reduceat(contents, starts, axis=j)
        return embed(contents, em, edges, low, high)

    return target.axes, place


def _bins_of_coarser(own: Any, coarse: Any) -> NDArray[np.int64] | None:
    """First own bin of each coarser Phi bin; None if the edges are not among the own ones."""
    fine, wanted = _phi_degrees(own), _phi_degrees(coarse)
    slack = EDGE_TOLERANCE * np.diff(fine).min()
    nearest = np.searchsorted(fine, wanted - slack)
    inside = nearest < fine.size
    if not inside.all() or np.any(np.abs(fine[nearest] - wanted) > slack):
        return None
    if nearest[0] != 0 or nearest[-1] != fine.size - 1:
        return None
    return nearest[:-1]


def _phi_degrees(axis: Any) -> Array:
    """Edges of a Phi axis in degrees; without unit they are degrees."""
    return np.asarray(axis.edges if axis.unit is None else axis.edges.to_value("deg"), dtype=float)


def _in_seconds(livetime: Any) -> float | None:
    if livetime is None:
        return None
    try:
        if isinstance(livetime, str):
            from astropy.units import Quantity

            livetime = Quantity(livetime)
        seconds = livetime.to_value("s") if hasattr(livetime, "to_value") else float(livetime)
    except Exception as error:
        raise TemplateError(f"The livetime must be a time, got {livetime!r}.") from error
    if not (np.isfinite(seconds) and seconds > 0):
        raise LineBackgroundError(f"The livetime must be positive, got {seconds:g} s.")
    return float(seconds)
