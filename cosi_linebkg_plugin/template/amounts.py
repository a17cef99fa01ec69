"""Counts of continuum and lines in the source range, as functions of the spectrum's parameters."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..errors import TemplateError
from ..spectrum.axis import EDGE_TOLERANCE, check_inside, overlapping_bins
from ..spectrum.components import (
    BoundModel,
    SpectralModel,
    component_counts,
    counts_in_bins,
    line_share,
    line_shares,
    range_counts,
)
from ..spectrum.kernels import FULL_REACH
from ..units import to_kev
from .energy_bins import EnergyBins

if TYPE_CHECKING:
    from ..fit.result import LineBackgroundFit
    from .plan import TemplatePlan

Array = NDArray[np.float64]

#: What the amounts belong to, in their order.
LABELS = ("continuum", "lines")

#: A line that is named by its energy must be this close to a fitted one [keV].
SAME_LINE = 5.0

#: A line with a smaller share of its counts in the source range is named by mistake.
_LEAST_SHARE = 0.01


@dataclass(frozen=True)
class LineRatio:
    """The amount of a line in the source range, from a line of the same origin outside it.

    Attributes
    ----------
    line, tracer : float, keV
        Energy of the line, and of the fitted tracer line.
    value, error : float
        Ratio of their counts, and its standard error. Without a value the amount is not known, but
        how the line's energies are distributed: as those of the tracer, at its own energy.
    """

    line: float
    tracer: float
    value: float | None = None
    error: float = 0.0

    def __post_init__(self) -> None:
        if self.value is None:
            if self.error:
                raise TemplateError(
                    "line_ratio has an error, but no value that it is the error of."
                )
        elif not (np.isfinite(self.value) and self.value > 0 and self.error >= 0):
            raise TemplateError(
                f"line_ratio needs value > 0 and error >= 0, got {self.value:g} +- {self.error:g}."
            )

    @classmethod
    def of(cls, value: Any) -> LineRatio | None:
        """From a mapping with the keys line, tracer, value, error (energies in keV)."""
        if value is None or isinstance(value, LineRatio):
            return value
        try:
            row = dict(value)
            return cls(
                to_kev(row.pop("line")),
                to_kev(row.pop("tracer")),
                None if (ratio := row.pop("value", None)) is None else float(ratio),
                float(row.pop("error", 0.0)),
                **row,
            )
        except (KeyError, TypeError, ValueError) as error:
            raise TemplateError(
                "line_ratio takes {line: keV, tracer: keV, value: number, error: number}, value "
                f"and error only where the amount is known, got {value!r} ({error})."
            ) from error


@dataclass(frozen=True, eq=False)
class BinAmounts:
    """Counts of `LABELS` in energy bins of the source range.

    Attributes
    ----------
    counts : ndarray, shape (2, n_bins)
    jacobian : ndarray, shape (2, n_bins, n_parameters)
    per_ratio : ndarray, shape (n_bins,)
        Counts of lines per unit of the line ratio; 0 without one.
    in_fit : ndarray, shape (2, n_bins, n_em)
        What each bin of the fit holds of `counts`.
    """

    counts: Array
    jacobian: Array
    per_ratio: Array
    in_fit: Array


class SourceAmounts:
    """Counts of `LABELS` in the source range.

    Parameters
    ----------
    model : SpectralModel
    theta : ndarray, shape (n_parameters,)
        Tells which of the lines is the ratio's tracer.
    edges : ndarray, shape (n_bins + 1,), keV
        The energy axis, which holds the source range.
    source_range : (low, high), keV
    ratio : LineRatio, optional
        Adds a line of its own, as a share of a fitted one.

    Raises
    ------
    TemplateError
        If the ratio's lines are not where it says.
    """

    def __init__(
        self,
        model: SpectralModel,
        theta: Array,
        edges: Array,
        source_range: Sequence[float],
        ratio: LineRatio | None = None,
    ) -> None:
        self.model, self.ratio = model, ratio
        self._value = (ratio.value or 0.0) if ratio is not None else 0.0
        low, high = source_range
        self.low, self.high = check_inside(edges, low, high, "source range")
        self._edges = edges
        # faint lines are not told from the continuum, so they are counted to it
        self._is_line = np.array([c.is_line and not c.faint for c in model.components])
        self._bound: list[BoundModel | None] | None = None
        self._of_bins: dict[bytes, list[BoundModel | None]] = {}
        if ratio is not None:
            self._tracer = nearest_line(model, theta, ratio.tracer, "line_ratio")
            self._area = model.components[self._tracer].area
            self._check_ratio(ratio, theta)

    def counts(self, theta: Array) -> Array:
        """Expected counts, shape (2,); fast, for a likelihood's inner loop."""
        if self._bound is None:
            inside = self._edges[(self._edges > self.low) & (self._edges < self.high)]
            self._bound = self._bind(np.concatenate(([self.low], inside, [self.high])))
        value = np.array([0.0 if b is None else b.counts(theta).sum() for b in self._bound])
        if self.ratio is not None:
            value[1] += self.ratio_counts(theta)
        return value

    def counts_per_bin(self, theta: Array, bins: Array) -> Array:
        """As `counts` for energy bins that together are the source range, shape (2, n_bins).

        Parameters
        ----------
        bins : ndarray, shape (n_bins + 1,), keV
        """
        cuts, owner = self._cuts(bins)
        key = bins.tobytes()
        if key not in self._of_bins:
            self._of_bins[key] = self._bind(cuts)
        value = np.array(
            [
                np.zeros(bins.size - 1)
                if b is None
                else np.bincount(owner, b.counts(theta), bins.size - 1)
                for b in self._of_bins[key]
            ]
        )
        if self.ratio is not None:
            share = line_shares(self.model, theta, self._tracer, self.ratio.line, bins)[0]
            value[1] += self._value * theta[self._area] * share
        return value

    def _bind(self, bins: Array) -> list[BoundModel | None]:
        """Continuum and lines on energy bins; None where the model has none of them."""
        return [
            self.model.select(np.flatnonzero(rows).tolist()).bind(bins, FULL_REACH)
            if rows.any()
            else None
            for rows in (~self._is_line, self._is_line)
        ]

    def _cuts(self, bins: Array) -> tuple[Array, NDArray[np.int64]]:
        """Energy bins cut at the fit's edges, where functions are integrated, and whose each is."""
        slack = EDGE_TOLERANCE * min(np.diff(bins).min(), np.diff(self._edges).min())
        far = np.abs(self._edges[:, None] - bins).min(axis=1) > slack
        inside = far & (self._edges > bins[0]) & (self._edges < bins[-1])
        cuts = np.union1d(bins, self._edges[inside])
        return cuts, np.searchsorted(bins, 0.5 * (cuts[1:] + cuts[:-1])) - 1

    def counts_and_jacobian(self, theta: Array) -> tuple[Array, Array]:
        """Expected counts, shape (2,), and derivatives, shape (2, n_parameters)."""
        parts, jac = range_counts(self.model, theta, self.low, self.high, self._edges)
        rows = np.array([~self._is_line, self._is_line], dtype=float)
        value, slope = rows @ parts, rows @ jac
        if self.ratio is not None:
            share, shape_slopes = self._share(theta)
            amount = self._value * theta[self._area]
            value[1] += amount * share
            slope[1] += amount * shape_slopes
            # through a law, if the tracer follows another line by one
            slope[1] += self._value * share * self.model.slopes(theta)[self._area]
        return value, slope

    def ratio_counts(self, theta: Array) -> float:
        """Counts that the ratio adds to the lines."""
        return self._per_ratio(theta) * self._value if self.ratio else 0.0

    def ratio_variance(self, theta: Array) -> float:
        """Variance of the lines' counts that the ratio's own error makes, counts^2."""
        return (self._per_ratio(theta) * self.ratio.error) ** 2 if self.ratio else 0.0

    def ratio_share(self, theta: Array) -> float:
        """Share of the ratio's line that falls into the source range."""
        return self._share(theta)[0]

    def counts_in_bins(self, theta: Array) -> Array:
        """What the source range holds of `LABELS` in each bin of the axis, shape (2, n_bins)."""
        parts = counts_in_bins(self.model, theta, self.low, self.high, self._edges)
        inside = np.array([~self._is_line, self._is_line], dtype=float) @ parts
        if self.ratio is not None:
            amount = self._value * theta[self._area]
            for i in np.flatnonzero(overlapping_bins(self._edges, self.low, self.high)):
                part = max(self.low, self._edges[i]), min(self.high, self._edges[i + 1])
                inside[1, i] += amount * self._share(theta, part)[0]
        return inside

    def in_energy_bins(self, theta: Array, bins: Array) -> BinAmounts:
        """Counts of `LABELS` in each of some energy bins that together are the source range.

        Parameters
        ----------
        bins : ndarray, shape (n_bins + 1,), keV
        """
        cuts, owner = self._cuts(bins)
        middles = 0.5 * (cuts[1:] + cuts[:-1])
        of_fit = np.searchsorted(self._edges, middles) - 1
        n, n_bins = len(self.model.parameters), bins.size - 1
        parts, slopes = np.zeros((2, middles.size)), np.zeros((2, n, middles.size))
        for i, row in enumerate(self._is_line.astype(int).tolist()):
            value, slope = component_counts(self.model, i, theta, cuts, self._edges)
            parts[row] += value
            slopes[row] += slope
        ratio = np.zeros(middles.size)
        if self.ratio is not None:
            share, shape_slopes = line_shares(
                self.model, theta, self._tracer, self.ratio.line, cuts
            )
            ratio = theta[self._area] * share
            parts[1] += self._value * ratio
            slopes[1] += self._value * (
                theta[self._area] * shape_slopes
                + np.outer(self.model.slopes(theta)[self._area], share)
            )
        into = (owner == np.arange(n_bins)[:, None]).astype(float)
        per_bin = np.zeros((2, n_bins, self._edges.size - 1))
        for b, e, part in zip(owner, of_fit, parts.T, strict=True):
            per_bin[:, b, e] += part
        jacobian = np.einsum("kps,bs->kbp", slopes, into)
        return BinAmounts(parts @ into.T, jacobian, ratio @ into.T, per_bin)

    def hidden_shares(self, theta: Array, bins: Array) -> Array:
        """How a line in the source range that no data show is shared over energy bins, (n_bins,).

        By the shape of the line that a ratio names; else of the model's lines there at their own
        energies; evenly in energy if there are none.
        """
        if self.ratio is not None:
            own = line_shares(self.model, theta, self._tracer, self.ratio.line, bins)[0]
            return np.asarray(own / own.sum())
        lines = [self.model.components[i] for i in self.model.lines]
        inside = [
            (i, line)
            for i, line in zip(self.model.lines, lines, strict=True)
            if self.low <= theta[line.energy] <= self.high
        ]
        shares = np.zeros(bins.size - 1)
        for i, line in inside:
            own = line_shares(self.model, theta, i, float(theta[line.energy]), bins)[0]
            shares += own * (theta[line.area] if theta[line.area] > 0 else 1.0)
        shares = shares if shares.sum() > 0 else np.diff(bins)
        return np.asarray(shares / shares.sum())

    def _per_ratio(self, theta: Array) -> float:
        return float(theta[self._area] * self._share(theta)[0])

    def _share(self, theta: Array, part: tuple[float, float] | None = None) -> tuple[float, Array]:
        """Share in the range, or a part of it, of a line like the tracer, and its slopes."""
        assert self.ratio is not None
        return line_share(
            self.model, theta, self._tracer, self.ratio.line, part or (self.low, self.high)
        )

    def _check_ratio(self, ratio: LineRatio, theta: Array) -> None:
        share = self.ratio_share(theta)
        if share < _LEAST_SHARE:
            raise TemplateError(
                f"line_ratio= names a line at {ratio.line:g} keV, of which {share:.2g} falls "
                f"into the source range {self.low:g}-{self.high:g} keV; correct its energy."
            )
        energies = [float(theta[self.model.components[i].energy]) for i in self.model.lines]
        doubled = [e for e in energies if abs(e - ratio.line) <= 0.5 * SAME_LINE]
        if doubled:
            raise TemplateError(
                f"line_ratio= names a line at {ratio.line:g} keV, but the fit has one at "
                f"{doubled[0]:.2f} keV already; it would be counted twice. Leave out one of them."
            )


def nearest_line(model: SpectralModel, theta: Array, energy: float, what: str) -> int:
    """The component that is the line at this energy [keV]; `what` names it in the message."""
    energies = {i: float(theta[model.components[i].energy]) for i in model.lines}
    if energies:
        best = min(energies, key=lambda i: abs(energies[i] - energy))
        if abs(energies[best] - energy) <= SAME_LINE:
            return best
    fitted = ", ".join(f"{e:.1f}" for e in energies.values()) or "none"
    raise TemplateError(
        f"{what} names a line at {energy:g} keV, but no fitted line lies within "
        f"{SAME_LINE:g} keV of it; fitted lines: {fitted} keV. Add it to the model."
    )


# --- the amounts of a template --------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class ExpectedAmounts:
    """Expected counts of a template's components in the source range.

    Attributes
    ----------
    counts : dict of str to float
        By label.
    covariance : ndarray, shape (n_labels, n_labels), counts^2
        Infinite variance for an amount about which nothing is known.
    systematic : float
        Systematic error of the spectral fit in the first component, in counts; in the covariance.
    bins : EnergyBins or None
        How the counts are distributed over energy bins; None for one.
    """

    counts: dict[str, float]
    covariance: Array
    systematic: float = 0.0
    bins: EnergyBins | None = None

    def with_hidden(self, fraction: float) -> ExpectedAmounts:
        """The same where lines that the mask hides may add this fraction (root mean square).

        To the error of a single component, of which they are a part; lines that have a component
        are free there.
        """
        if len(self.counts) > 1:
            return self
        added = (fraction * sum(self.counts.values())) ** 2
        return replace(self, covariance=self.covariance + added) if added > 0 else self

    def with_measured(self, fraction: float) -> ExpectedAmounts:
        """The same where control ranges measured this fractional error of the first component.

        It takes the place of the systematic error of the spectral fit where it is larger.
        """
        measured = fraction * next(iter(self.counts.values()))
        if measured <= self.systematic:
            return self
        covariance = self.covariance.copy()
        covariance[0, 0] += measured**2 - self.systematic**2
        return replace(self, covariance=covariance, systematic=measured)


def source_amounts(plan: TemplatePlan, fit: LineBackgroundFit) -> SourceAmounts:
    """Continuum and lines in the source range, for a fitted spectrum."""
    ratio = plan.options.line_ratio
    return SourceAmounts(fit.model, fit.theta, plan.edges, plan.source_range, ratio)


def expected_amounts(
    plan: TemplatePlan,
    fit: LineBackgroundFit,
    amounts: SourceAmounts,
    labels: Sequence[str],
    *,
    lines_may_hide: bool = True,
) -> ExpectedAmounts:
    """Counts of each component in the source range, and their covariance, from the spectrum.

    Parameters
    ----------
    labels : sequence of str
        Of the template's components.
    lines_may_hide : bool
        Whether a masked range may hold a line that is not in the model.

    Raises
    ------
    TemplateError
        If there are lines in the source range, and none to take their distribution from.
    """
    value, jac = amounts.counts_and_jacobian(fit.theta)
    j = jac[:, fit.model.slots(fit.covariance_names)]
    covariance = j @ fit.covariance @ j.T
    covariance[1, 1] += amounts.ratio_variance(fit.theta)
    systematic = np.zeros((2, 2))
    if fit.systematic:
        systematic = fit.systematic_covariance(jac, amounts.counts_in_bins(fit.theta))
        covariance += systematic
    if plan.options.method != "components":
        return ExpectedAmounts(
            {"background": float(value.sum())},
            np.array([[covariance.sum()]]),
            float(np.sqrt(systematic.sum())),
            _energy_bins(plan, fit, amounts, ("background",), False),
        )
    if "lines" not in labels and value[1] > 1e-3 * value[0]:
        raise TemplateError(
            f"The source range holds {value[1]:.4g} counts of lines, but no fitted line within "
            "the window can lend them its distribution; widen window=, or name tracers=."
        )
    counts = dict(zip(LABELS, value.tolist(), strict=True))
    hidden = lines_may_hide and hides_lines(plan, fit)
    if hidden:
        if counts["lines"] < 1e-6 * max(value[0], 1.0):
            counts["lines"] = 0.0  # less than the tails of other lines can be trusted for
        covariance[1, :] = covariance[:, 1] = 0.0
        covariance[1, 1] = np.inf
    n = len(labels)
    return ExpectedAmounts(
        {label: counts[label] for label in labels},
        covariance[:n, :n],
        float(np.sqrt(systematic[0, 0])),
        _energy_bins(plan, fit, amounts, labels, hidden),
    )


def _energy_bins(
    plan: TemplatePlan,
    fit: LineBackgroundFit,
    amounts: SourceAmounts,
    labels: Sequence[str],
    hidden: bool,
) -> EnergyBins | None:
    """The counts of each component in each energy bin of a plan; None for one bin.

    Parameters
    ----------
    hidden : bool
        Whether the lines of the source range are not seen.
    """
    if plan.n_bins == 1:
        return None
    found = amounts.in_energy_bins(fit.theta, plan.bins)
    # which of the amounts each label takes
    take = np.array([[label in (x, "background") for x in LABELS] for label in labels], float)
    jac = np.einsum("kl,lbp->kbp", take, found.jacobian)
    in_fit = np.einsum("kl,lbe->kbe", take, found.in_fit)
    ratio = take[:, 1:] * found.per_ratio * (amounts.ratio.error if amounts.ratio else 0.0)
    n = len(labels) * plan.n_bins
    jac, in_fit, per_ratio = jac.reshape(n, -1), in_fit.reshape(n, -1), ratio.ravel()
    j = jac[:, fit.model.slots(fit.covariance_names)]
    covariance = j @ fit.covariance @ j.T + np.outer(per_ratio, per_ratio)
    if fit.systematic:
        covariance += fit.systematic_covariance(jac, in_fit)
    counts = take @ found.counts
    unknown = np.array([hidden and label == "lines" for label in labels])
    shares = np.array(
        [
            amounts.hidden_shares(fit.theta, plan.bins)
            if unseen or not row.sum() > 0
            else row / row.sum()
            for row, unseen in zip(counts, unknown, strict=True)
        ]
    )
    shape = (len(labels), plan.n_bins) * 2
    return EnergyBins.of(plan.bins, shares, covariance.reshape(shape), unknown)


def hides_lines(plan: TemplatePlan, fit: LineBackgroundFit) -> bool:
    """Whether a line in the source range would be seen by nothing: masked, and no ratio.

    A fitted line is seen by its wings, unless its counts ended at a limit, which has no error.
    """
    lines = [fit.model.components[i] for i in fit.model.lines]
    inside = any(
        plan.low <= fit.theta[line.energy] <= plan.high
        and fit.model.names[line.area] not in fit.at_limits
        for line in lines
    )
    masked = bool(fit.spectrum.mask[plan.in_source].all())
    return not plan.options.knows_hidden_line and masked and not inside


def sideband_amounts(
    plan: TemplatePlan, fit: LineBackgroundFit, amounts: SourceAmounts, total: float
) -> ExpectedAmounts:
    """R/B * N, the tutorial's number: model counts of source range and sidebands, their counts N.

    Its variance is the linear propagation of every bin's Poisson noise, through N and through the
    fit that R and B come from.

    Parameters
    ----------
    total : float
        R/B * N.
    """
    selected = plan.selected
    value, jac = amounts.counts_and_jacobian(fit.theta)
    source, source_jac = value.sum(), jac.sum(axis=0)
    expected, bin_jac = fit.expected, fit.bin_jacobian
    band, band_jac = expected[selected].sum(), bin_jac[:, selected].sum(axis=1)
    slope = total * (source_jac / source - band_jac / band)
    direct = np.where(selected, source / band, 0.0)
    noise, per_bin = _propagated(fit, slope[None], direct[None])
    variance = float(noise[0, 0]) + amounts.ratio_variance(fit.theta)
    systematic = 0.0
    if fit.systematic:  # see LineBackgroundFit.systematic_covariance
        response = per_bin[0] * expected - amounts.counts_in_bins(fit.theta).sum(axis=0)
        systematic = float(np.sum((fit.systematic * response) ** 2))
    return ExpectedAmounts(
        {"background": total},
        np.array([[variance + systematic]]),
        float(np.sqrt(systematic)),
        None if plan.n_bins == 1 else _sideband_bins(plan, fit, amounts, total),
    )


def _propagated(fit: LineBackgroundFit, slope: Array, direct: Array) -> tuple[Array, Array]:
    """Errors of numbers that depend on the counts directly, and through the fit.

    With p the numbers' response to the counts n where the counts F of faint lines are given, a
    their slopes to F, V the covariance of F and S the lines' shapes without what the fit explains,
    divided by the expected counts: p n p^T + a V a^T, and p n S^T V a^T with its transpose, as
    noise in n moves F as well.

    Parameters
    ----------
    slope : ndarray, shape (n, n_parameters)
        Derivatives to the fit's parameters.
    direct : ndarray, shape (n, n_bins)
        Derivatives to the counts with the parameters held.

    Returns
    -------
    covariance : ndarray, shape (n, n)
    response : ndarray, shape (n, n_bins)
        Derivatives to the counts, what they do to the fit included.
    """
    columns, used = fit.columns, fit.spectrum.used
    slope, jac = slope[:, columns], np.where(used, fit.bin_jacobian[columns], 0.0)
    counts, scaled = fit.spectrum.counts, jac / np.maximum(fit.expected, 1e-12)
    noise, response, of_faint = fit.covariance_parts
    per_bin, to_faint = direct + slope @ noise @ scaled, slope @ response
    shapes = response.T @ scaled
    narrow = _not_wider(of_faint, (shapes * counts) @ shapes.T)
    both = (per_bin * counts) @ shapes.T @ narrow @ to_faint.T
    covariance = (per_bin * counts) @ per_bin.T + both + both.T
    covariance += to_faint @ of_faint @ to_faint.T
    return covariance, per_bin + to_faint @ of_faint @ shapes


def _not_wider(covariance: Array, information: Array) -> Array:
    """A covariance that is nowhere above the inverse of the information, as a Gaussian's is.

    Only that of a posterior with two peaks is; variances could come out negative.
    """
    values, vectors = np.linalg.eigh(covariance)
    root = vectors * np.sqrt(np.maximum(values, 0.0))
    excess, axes = np.linalg.eigh(root.T @ information @ root)
    root = root @ axes / np.sqrt(np.maximum(excess, 1.0))
    return np.asarray(root @ root.T)


def _sideband_bins(
    plan: TemplatePlan, fit: LineBackgroundFit, amounts: SourceAmounts, total: float
) -> EnergyBins:
    """As `sideband_amounts` for each energy bin, with the covariance over the bins."""
    found = amounts.in_energy_bins(fit.theta, plan.bins)
    counts, jac, selected = found.counts.sum(axis=0), found.jacobian.sum(axis=0), plan.selected
    expected, bin_jac = fit.expected, fit.bin_jacobian
    band, band_jac = expected[selected].sum(), bin_jac[:, selected].sum(axis=1)
    shares = counts / counts.sum()
    slope = total * (jac / counts.sum() - np.outer(shares, band_jac / band))
    direct = np.where(selected, counts[:, None] / band, 0.0)
    covariance, per_bin = _propagated(fit, slope, direct)
    ratio = found.per_ratio * (amounts.ratio.error if amounts.ratio else 0.0)
    covariance += np.outer(ratio, ratio)
    if fit.systematic:
        response = fit.systematic * (per_bin * expected - found.in_fit.sum(axis=0))
        covariance += response @ response.T
    n = plan.n_bins
    return EnergyBins.of(plan.bins, shares[None], covariance.reshape(1, n, 1, n), np.zeros(1, bool))
