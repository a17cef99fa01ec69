"""The amounts of a template that follow the spectrum of a session."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import TemplateError
from .amounts import LABELS, LineRatio, SourceAmounts

Array = NDArray[np.float64]


class FollowedAmounts:
    """A template's amounts at the parameters of a plugin, relative to those of its own fit.

    Parameters
    ----------
    template : BackgroundTemplate
    plugin : LineBackgroundLike
        With the spectrum that the template was made from. At that fit the amounts are the
        template's own. An amount that the fit knows nothing of (0 counts) does not follow.
    line_ratio : mapping, optional
        In place of the template's own; it makes an amount known that the template does not know.

    Attributes
    ----------
    counts : ndarray, shape (n_labels,)
        What the factors are relative to: the template's own amounts.
    covariance : ndarray, shape (n_labels, n_labels)
        Of the factors on the amounts that the spectrum gives: from the line ratio's error, and
        from the systematic error of a fit that is not adequate. Infinite variance for what the
        spectrum does not know.
    """

    def __init__(self, template: Any, plugin: Any, line_ratio: Any = None) -> None:
        if not hasattr(plugin, "source_counts_per_bin"):
            raise TemplateError(
                "follow= takes the LineBackgroundLike whose spectrum the amounts follow, got "
                f"{type(plugin).__name__}."
            )
        if template.record.split:
            raise TemplateError(
                "A split template cannot follow a spectrum, which knows nothing of its parts; use "
                "the template as it was before split(), or leave out follow=."
            )
        if template.fit.offset is not None:
            raise TemplateError(
                "A template made with sky= cannot follow a spectrum that holds the sky's photons "
                "as well; make it without sky=, or leave out follow=."
            )
        if template.fit.faint is not None:
            raise TemplateError(
                "A template whose fit has faint lines cannot follow a spectrum that knows nothing "
                "of them; make it from a fit without faint_lines, or leave out follow=."
            )
        fit = template.fit
        ratio = template.record.line_ratio
        self._ratio = ratio if line_ratio is None else LineRatio.of(line_ratio)
        self._range = template.source_range
        self._energy_bins = template.energy_bins
        self._inside = template.bins_inside
        self._n_em = template.event_axes["Em"].nbins
        self._plugin = plugin
        edges = fit.spectrum.edges
        own = SourceAmounts(fit.model, fit.theta, edges, template.source_range, self._ratio)
        amounts, jac = own.counts_and_jacobian(fit.theta)
        beyond = np.diag([0.0, own.ratio_variance(fit.theta)])
        if fit.systematic:
            beyond += fit.systematic_covariance(jac, own.counts_in_bins(fit.theta))
        # rows: what each component of the template takes of the amounts
        self._rows = np.array(
            [[label in (x, "background") for x in LABELS] for label in template.labels], dtype=float
        )
        self._reference = self._rows @ amounts
        counts = np.array([template.counts[label] for label in template.labels])
        known = np.isfinite(np.diag(template.covariance)) & (counts > 0)
        if line_ratio is None:
            self.counts = counts
        else:  # as the template has them, but for what the other ratio changes
            before = SourceAmounts(fit.model, fit.theta, edges, template.source_range, ratio)
            stood = self._rows @ before.counts(fit.theta)
            share = np.divide(counts, stood, out=np.ones(counts.size), where=known & (stood > 0))
            self.counts = share * self._reference
            known |= self._rows[:, LABELS.index("lines")] > 0
        self._known = known & (self._reference > 0)
        scale = np.where(self._known, self._reference, np.inf)
        self.covariance = self._rows @ beyond @ self._rows.T / np.outer(scale, scale)
        self.covariance[np.diag_indices_from(self.covariance)] += np.where(self._known, 0, np.inf)

    def factors(self) -> Array:
        """Amounts over those of the template's fit, shape (n_labels,); 1 for what is unknown."""
        amounts = self._plugin.source_counts(self._range, line_ratio=self._ratio)
        out = np.ones(len(self._reference))
        present = self._rows @ np.array([amounts[label] for label in LABELS])
        np.divide(present, self._reference, out=out, where=self._known)
        return out

    def tilts(self) -> Array | None:
        """How the shares of the energy bins differ from the template's.

        Returns
        -------
        ndarray, shape (n_labels, n_em), or None
            Factors on each bin of the template's energy axis; 1 for what is unknown. None if the
            source range is one bin.
        """
        bins = self._energy_bins
        if bins is None:
            return None
        amounts = self._plugin.source_counts_per_bin(bins.edges, line_ratio=self._ratio)
        present = self._rows @ np.array([amounts[label] for label in LABELS])
        totals = present.sum(axis=1, keepdims=True)
        where = self._known[:, None] & (totals > 0) & (bins.shares > 0)
        ratio = np.ones(present.shape)
        np.divide(present, totals * bins.shares, out=ratio, where=where)
        out = np.ones((len(self._rows), self._n_em))
        out[:, self._inside] = ratio
        return out
