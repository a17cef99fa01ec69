"""What COSILike of cosipy 0.3 takes: a background with one norm, or one for each component."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..errors import TemplateError
from ..histograms.write import make_histogram
from .cells import ConsumerCells
from .rates import MOST, START_SHARE, Followed, labels_in, with_amplitudes

if TYPE_CHECKING:
    from astromodels.core.parameter import Parameter
    from histpy import Histogram

    from ..template.template import BackgroundTemplate
    from .constraint import NormConstraint

Array = NDArray[np.float64]

#: A norm varies between 0 and this, or 10 standard errors above 1.
_MAX_NORM = 10.0

# ---------------------------------------------------------------------------- cosipy 0.3: COSILike


def cosilike(
    template: BackgroundTemplate,
    name: str = "cosi",
    *,
    data: Histogram | None = None,
    outside: str = "raise",
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
    outside : "raise" or "drop"
        What to do with energy bins outside the source range, where a template made with ``like=``
        holds nothing. "drop" sets them to NaN, which makes COSILike leave them out altogether.

    Returns
    -------
    dict
        ``bkg``, a histpy.Histogram of expected counts on Em, Phi, PsiChi, and ``nuisance_param``,
        the astromodels Parameter ``<name>_bkg``: 1 is the template's own amount. Its prior is a
        Gaussian of the template's relative error, or flat where nothing is known; threeML uses
        priors in Bayesian sessions alone: see `NormConstraint` for the others. It is None for an
        amount that is known exactly: COSILike frees each parameter that it is given.

    Raises
    ------
    TemplateError
        Naming what does not fit.
    """
    _require_identifier(name, "COSILike")
    cells = ConsumerCells.of(template, data, outside)
    error = template.total_error / cells.counts.sum()
    return {
        "bkg": make_histogram(cells.axes, cells.sum(cells.counts / cells.units)),
        "nuisance_param": _norm_parameter(f"{name}_bkg", error) if error > 0 else None,
    }


class ComponentMix:
    """A background with a norm for each component, for the unchanged COSILike.

    ::

        mix = template.component_mix(data=data)
        cosi = COSILike("cosi", dr, data, mix, orientation)  # no nuisance_param
        JointLikelihood(model, DataList(cosi, mix.constraint(free=["lines"])))

    Its contents follow the parameters, which the constraint plugin brings into the session. The
    norms are absolute (1 is the template's own amount, or that of all other components where the
    template has none), so COSILike gets no norm of its own: an overall norm beside them would be
    degenerate. Without the constraint plugin in the DataList, nothing varies the norms.

    With ``follow=`` the amounts are those that the spectrum's parameters give at each step of the
    session, and the norms are factors on them::

        mix = template.component_mix(data=data, follow=linebkg)
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
    followed : Followed, optional
        What makes the amounts follow the spectrum of a plugin in the same session.

    Attributes
    ----------
    axes : histpy.Axes
        Em, Phi, PsiChi.
    parameters : dict of str to Parameter
        ``<name>_<label>``; priors are flat, since the constraint is a term of the likelihood.
        Of a template made with ``lines="spread"`` also ``<name>_lines_spread_1`` ..., amplitudes
        of what the line in the source range may differ by: 0 +- 1 in the constraint.
    """

    def __init__(
        self,
        template: BackgroundTemplate,
        name: str = "norms",
        *,
        data: Histogram | None = None,
        outside: str = "raise",
        followed: Followed | None = None,
    ) -> None:
        _require_identifier(name, "constraint plugin")
        self._cells = ConsumerCells.of(template, data, outside)
        self._followed = followed
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
                p.value = START_SHARE  # off the lower limit, where a minimiser would stay
        self._order = tuple(self.parameters.values())
        shapes = {f"{name}_{own}": _amplitude(f"{name}_{own}") for own in self._cells.amplitudes}
        self._amplitudes = tuple(shapes.values())
        self.parameters |= shapes
        self._state: Array | None = None
        self._contents: Array | None = None

    @property
    def contents(self) -> Array:
        """Expected counts at the parameters' values, shape of the axes; not to be changed."""
        values = self._norms()
        tilts = None if self._followed is None else self._followed.tilts()
        amplitudes = np.array([p.value for p in self._amplitudes])
        state = np.concatenate([values, amplitudes, *([] if tilts is None else [tilts.ravel()])])
        if self._contents is None or self._state is None or (state != self._state).any():
            self._contents = self._cells.sum(values, tilts, amplitudes)
            self._contents.flags.writeable = False
            self._state = state
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

        free = labels_in(free, self.labels)
        for label in free:
            self.parameters[f"{self.name}_{label}"].free = True
        variances = np.diag(self._covariance)
        known = [
            i
            for i, label in enumerate(self.labels)
            if label not in free and 0 < variances[i] < np.inf
        ]
        paths = [f"{self.name}_{self.labels[i]}" for i in known]
        mean = (self._cells.counts / self._cells.units)[known]
        return NormConstraint(
            self.name,
            [*paths, *(p.name for p in self._amplitudes)],
            with_amplitudes(self._covariance[np.ix_(known, known)], len(self._amplitudes)),
            mean=np.concatenate([mean, np.zeros(len(self._amplitudes))]),
            nuisance=self.parameters,
        )


def _require_identifier(name: str, what: str) -> None:
    if not name.isidentifier():
        raise TemplateError(
            f"The name of the {what} must be letters, digits and underscores, as threeML demands, "
            f"got {name!r}."
        )


def _amplitude(name: str) -> Parameter:
    from astromodels.core.parameter import Parameter
    from astromodels.functions.priors import Uniform_prior

    parameter = Parameter(
        name, 0.0, min_value=-MOST, max_value=MOST, delta=0.5, desc="Difference of the line, 0 +- 1"
    )
    parameter.prior = Uniform_prior(lower_bound=-MOST, upper_bound=MOST, value=0.5 / MOST)
    return parameter


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
