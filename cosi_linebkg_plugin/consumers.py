"""What the consumers of a template take: COSILike of cosipy 0.3, cosipy 0.4, imaging.

cosipy itself is not imported. Each export is dense, finite, positive expected counts without
unit, in the order of axes that the consumer works in.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .amounts import LABELS, LineRatio, SourceAmounts
from .errors import TemplateError
from .exports import COMPTON_AXES, ConsumerCells
from .histograms import ENERGY_LABEL, axis_in_kev, make_histogram
from .spectrum import whole_bins

if TYPE_CHECKING:
    from astromodels.core.parameter import Parameter
    from histpy import Histogram

    from .constraint import NormConstraint

Array = NDArray[np.float64]

#: A norm varies between 0 and this, or 10 standard errors above 1.
_MAX_NORM = 10.0
#: Where a norm starts that the template has at 0, as a share of all others.
_START = 0.01


# ---------------------------------------------------------------------------- cosipy 0.3: COSILike


def cosilike(
    template: Any, name: str = "cosi", *, data: Histogram | None = None, outside: str = "refuse"
) -> dict[str, Any]:
    """Background and its norm for cosipy 0.3's ``COSILike(name, dr, data, **these, ...)``.

    Parameters
    ----------
    template : BackgroundTemplate
    name : str
        The COSILike's name.
    data : histpy.Histogram, optional
        The COSILike's data, whose axes must be the template's: COSILike compares nothing, and
        numpy's broadcasting hides a difference.
    outside : "refuse" or "drop"
        What to do with energy bins outside the source range, where a template made with ``like=``
        holds nothing. "drop" sets them to NaN, which makes COSILike leave them out altogether.

    Returns
    -------
    dict
        ``bkg``, a histpy.Histogram of expected counts on Em, Phi, PsiChi, and ``nuisance_param``,
        the astromodels Parameter ``<name>_bkg``: 1 is the template's own amount. Its prior is a
        Gaussian of the template's relative error, or flat where nothing is known; threeML uses
        priors in Bayesian sessions alone: see `NormConstraint` for the others.

    Raises
    ------
    TemplateError
        Naming what does not fit.
    """
    _require_identifier(name, "COSILike")
    cells = ConsumerCells.of(template, data, outside)
    total = cells.counts.sum()
    return {
        "bkg": make_histogram(cells.axes, cells.sum(cells.counts / cells.units)),
        "nuisance_param": _norm_parameter(f"{name}_bkg", template.total_error / total),
    }


class ComponentMix:
    """A background with a norm for each component, for the unchanged COSILike.

    ::

        mix = ComponentMix(template, data=data)
        cosi = COSILike("cosi", dr, data, mix, orientation)  # no nuisance_param
        JointLikelihood(model, DataList(cosi, mix.constraint(free=["lines"])))

    Its contents follow the parameters, which the constraint plugin brings into the session. The
    norms are absolute (1 is the template's own amount, or that of all other components where the
    template has none), so COSILike gets no norm of its own: an overall norm beside them would be
    degenerate. Without the constraint plugin in the DataList, nothing varies the norms.

    With ``follow=`` the amounts are those that the spectrum's parameters give at each step of the
    session, and the norms are factors on them::

        mix = ComponentMix(template, data=data, follow=linebkg)
        JointLikelihood(model, DataList(linebkg, cosi, mix.constraint()))

    What the spectrum knows of an amount is then in its own likelihood; the constraint holds what
    it does not know, the error of the line ratio.

    Parameters
    ----------
    template : BackgroundTemplate
    name : str
        The constraint plugin's name, which the parameters' names begin with.
    data, outside
        As of `cosilike`.
    follow : LineBackgroundLike, optional
        A plugin of the same session, with the spectrum that the template was made from. At that
        fit the amounts are the template's own. An amount that the fit knows nothing of (0 counts)
        does not follow.

    Attributes
    ----------
    axes : histpy.Axes
        Em, Phi, PsiChi.
    parameters : dict of str to Parameter
        ``<name>_<label>``; priors are flat, since the constraint is a term of the likelihood.
    """

    def __init__(
        self,
        template: Any,
        name: str = "norms",
        *,
        data: Histogram | None = None,
        outside: str = "refuse",
        follow: Any = None,
    ):
        _require_identifier(name, "constraint plugin")
        self._cells = ConsumerCells.of(template, data, outside)
        self._followed = None if follow is None else _Followed(template, follow)
        if self._followed is None:
            self._covariance = template.covariance / np.outer(self._cells.units, self._cells.units)
        else:
            self._covariance = self._followed.covariance
        self.name = name
        self.axes = self._cells.axes
        self.labels = self._cells.labels
        errors = np.sqrt(np.diag(self._covariance))
        self.parameters = {
            f"{name}_{label}": _norm_parameter(f"{name}_{label}", float(error), flat=True)
            for label, error in zip(self.labels, errors, strict=True)
        }
        for p, counts, error in zip(
            self.parameters.values(), self._cells.counts, errors, strict=True
        ):
            p.free = error > 0  # an amount known exactly is not fitted
            if counts == 0 and not p.free:
                p.value = 0.0
            elif counts == 0 or not np.isfinite(error):
                p.value = _START  # off the lower limit, where a minimiser would stay
        self._order = tuple(self.parameters.values())
        self._values: Array | None = None
        self._contents: Array | None = None

    @property
    def contents(self) -> Array:
        """Expected counts at the parameters' values, shape of the axes; not to be changed."""
        values = self._norms()
        if self._contents is None or self._values is None or (values != self._values).any():
            self._contents = self._cells.sum(values)
            self._contents.flags.writeable = False
            self._values = values
        return self._contents

    @property
    def counts(self) -> dict[str, float]:
        """Counts of each component, for ``template.set_parameters(**mix.counts)`` after a fit."""
        return dict(zip(self.labels, (self._cells.units * self._norms()).tolist(), strict=True))

    def _norms(self) -> Array:
        values = np.array([p.value for p in self._order])
        return values if self._followed is None else values * self._followed.factors()

    def constraint(self, free: Sequence[str] = ()) -> NormConstraint:
        """The plugin that brings the norms into the session, and what is known of them.

        Parameters
        ----------
        free : sequence of str
            Labels whose norms are left free; those of unknown amount are free anyhow, those
            without error fixed.
        """
        from .constraint import NormConstraint

        for label in free:
            if label not in self.labels:
                raise TemplateError(
                    f"The template has no component {label!r}; it has {', '.join(self.labels)}."
                )
            self.parameters[f"{self.name}_{label}"].free = True
        variances = np.diag(self._covariance)
        known = [
            i
            for i, label in enumerate(self.labels)
            if label not in free and 0 < variances[i] < np.inf
        ]
        return NormConstraint(
            self.name,
            [f"{self.name}_{self.labels[i]}" for i in known],
            self._covariance[np.ix_(known, known)],
            mean=(self._cells.counts / self._cells.units)[known],
            nuisance=self.parameters,
        )


class _Followed:
    """A template's amounts at the parameters of a plugin, relative to those of its own fit.

    Attributes
    ----------
    covariance : ndarray, shape (n_labels, n_labels)
        Of the factors on the amounts that the spectrum gives: from the line ratio's error, and
        from the systematic error of a fit that is not adequate. Infinite variance for what the
        spectrum does not know.
    """

    def __init__(self, template: Any, plugin: Any):
        if "split" in template.details:
            raise TemplateError(
                "A split template cannot follow a spectrum, which knows nothing of its parts; use "
                "the template as it was before split(), or leave out follow=."
            )
        if template.fit.offset is not None:
            raise TemplateError(
                "A template made with sky= cannot follow a spectrum that holds the sky's photons "
                "as well; make it without sky=, or leave out follow=."
            )
        fit, ratio = template.fit, template.details.get("line_ratio")
        if ratio is not None:
            ratio = {key: ratio[key] for key in ("line", "tracer", "value", "error")}
        self._ratio = LineRatio.of(ratio)
        self._range = template.source_range
        self._plugin = plugin
        own = SourceAmounts(
            fit.model, fit.theta, fit.spectrum.edges, template.source_range, self._ratio
        )
        amounts, jac = own.counts_and_jacobian(fit.theta)
        beyond = np.diag([0.0, own.ratio_variance(fit.theta)])
        if fit.systematic:
            beyond += fit.systematic_covariance(jac, own.counts_in_bins(fit.theta))
        # rows: what each component of the template takes of the amounts
        self._rows = np.array(
            [[label in (x, "background") for x in LABELS] for label in template.labels], dtype=float
        )
        self._reference = self._rows @ amounts
        has_counts = np.array([template.counts[label] > 0 for label in template.labels])
        known = np.isfinite(np.diag(template.covariance))
        self._known = has_counts & known & (self._reference > 0)
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


def _require_identifier(name: str, what: str) -> None:
    if not name.isidentifier():
        raise TemplateError(
            f"The name of the {what} must be letters, digits and underscores, as threeML demands, "
            f"got {name!r}."
        )


def _norm_parameter(name: str, error: float, flat: bool = False) -> Parameter:
    from astromodels.core.parameter import Parameter
    from astromodels.functions.priors import Truncated_gaussian, Uniform_prior

    known = bool(np.isfinite(error) and error > 0)
    highest = max(_MAX_NORM, 1.0 + 10.0 * error) if known else 1e3
    parameter = Parameter(
        name,
        1.0,
        min_value=0.0,
        max_value=highest,
        delta=min(error, 0.5) if known else 0.1,
        desc="Norm of the background; 1 is the template's own amount",
    )
    if known and not flat:
        parameter.prior = Truncated_gaussian(
            mu=1.0, sigma=error, lower_bound=0.0, upper_bound=highest
        )
    else:
        parameter.prior = Uniform_prior(lower_bound=0.0, upper_bound=highest, value=1.0 / highest)
    return parameter


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


# ---------------------------------------------------------------------------- TS map, imaging


def ts_map_input(template: Any, data: Histogram) -> dict[str, Histogram]:
    """Data and background for cosipy 0.3's ``FastTSMap(**these, response_path=..., ...)``.

    Its fits take ``energy_channel=template.energy_channel(data)``.

    Parameters
    ----------
    template : BackgroundTemplate
    data : histpy.Histogram
        On Em, Phi, PsiChi; the background comes on these axes. Where Em has more bins than the
        source range, make the template with ``like=data``: it is 0 in the others.

    Returns
    -------
    dict
        ``data``, as it was given, and ``bkg_model``, a histpy.Histogram of expected counts,
        positive in every cell of the source range, without which the TS would be NaN.
    """
    cells = ConsumerCells.of(template, data, None)  # 0 outside the range is right here
    return {
        "data": data,
        "bkg_model": make_histogram(cells.axes, cells.sum(cells.counts / cells.units)),
    }


def energy_channel(template: Any, data: Histogram) -> list[int]:
    """The energy bins of the source range, as the fits of cosipy 0.3's FastTSMap take them.

    Parameters
    ----------
    template : BackgroundTemplate
    data : histpy.Histogram
        On Em, Phi, PsiChi.

    Returns
    -------
    list of two int
        The first bin of the source range in the data, and the one behind its last.
    """
    edges = axis_in_kev(data.axes[ENERGY_LABEL])
    low, high = template.source_range
    inside = np.flatnonzero(whole_bins(edges, low, high, "source range"))
    return [int(inside[0]), int(inside[-1]) + 1]


def deconvolution_input(template: Any, event_histogram: Histogram) -> dict[str, Histogram]:
    """The background for cosipy 0.3's ``DataIF_COSI_DC2.load(name, event, this, rsp, ccm)``.

    Parameters
    ----------
    template : BackgroundTemplate
    event_histogram : histpy.Histogram
        The events, on [Time or ScAtt,] Em, Phi, PsiChi in this order; its axes are taken over.

    Returns
    -------
    dict
        ``{"bkg": histpy.Histogram}``, made anew: the loader changes what it is given.
    """
    order = [axis.label for axis in event_histogram.axes]
    leading = order[:1] if order and order[0] in ("Time", "ScAtt") else []
    cells = ConsumerCells.of(template, event_histogram, "refuse", (*leading, *COMPTON_AXES))
    return {"bkg": make_histogram(cells.axes, cells.sum(cells.counts / cells.units))}
