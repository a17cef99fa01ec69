"""The norms of a background in a session of cosipy 0.4.3: rates, what is known of them, limits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ..errors import ModelError, TemplateError
from ..io.guard import listed

if TYPE_CHECKING:
    from astromodels.core.parameter import Parameter
    from astropy.units import Quantity

    from ..template.template import BackgroundTemplate
    from .constraint import NormConstraint

Array = NDArray[np.float64]

#: Where a norm starts of which nothing is known, as a share of the other components' counts.
START_SHARE = 0.01

#: The highest norm: of the known ones in terms of their own amount, of others of the whole.
_HIGHEST_KNOWN, _HIGHEST_UNKNOWN = 10.0, 100.0


#: Amplitudes of differences of lines, 0 +- 1, are between minus this and this.
MOST = 5.0


class Followed(Protocol):
    """Amounts that follow the spectrum of a session, as `template.following` makes them."""

    counts: Array
    covariance: Array

    def factors(self) -> Array:
        """Amounts over `counts`, shape (n_labels,)."""

    def tilts(self) -> Array | None:
        """Further factors on each energy bin, shape (n_labels, n_em); None for one bin."""


class CosipyPlugin(Protocol):
    """What is used of cosipy's ThreeMLPluginInterface."""

    name: str

    @property
    def bkg_parameter(self) -> Any:
        """Parameters of the session by the background's own names."""


@dataclass(frozen=True)
class Norm:
    """One parameter of a background.

    Attributes
    ----------
    name : str
        In the session: the prefix and the label.
    label : str
        The component's.
    index : int
        Its place among the components.
    start : float
        Rate in Hz, or the factor 1 of an amount that follows a spectrum.
    error : float
        Standard error in the same unit; 0 if it is known exactly, infinite if not at all.
    highest : float
        Upper limit in a session.
    is_factor : bool
    lowest : float
        Lower limit; below 0 for the amplitude of a difference, which is no component's norm.
    """

    name: str
    label: str
    index: int
    start: float
    error: float
    highest: float
    is_factor: bool = False
    lowest: float = 0.0


class BackgroundNorms:
    """The norms of a background, as cosipy 0.4.3's ``BackgroundInterface`` has them.

    A rate times the livetime is the component's counts. The amounts are copied: the template is
    not changed by what a session does to them.

    Parameters
    ----------
    template : BackgroundTemplate
    livetime : float, s
        Of the template's counts.
    prefix : str
        Put before the labels, so that the parameters of two backgrounds in a session differ:
        cosipy 0.4.3 registers them in threeML by these names, and the second takes the place of
        the first.
    followed : Followed, optional
        Then only what the spectrum leaves open has a norm: a factor of 1 on an amount whose
        error the spectrum does not hold (a line ratio's), a rate for one that it does not know.
    amplitudes : sequence of str
        Names of further parameters without unit, 0 +- 1: differences of lines.

    Raises
    ------
    TemplateError
        If a name is no Python identifier.
    """

    def __init__(
        self,
        template: BackgroundTemplate,
        livetime: float,
        prefix: str = "",
        followed: Followed | None = None,
        amplitudes: Sequence[str] = (),
    ) -> None:
        self.labels = tuple(template.labels)
        self._livetime = livetime
        self._prefix = prefix
        self._followed = followed
        counts = np.array([template.counts[label] for label in self.labels])
        covariance = template.covariance / livetime**2
        if followed is not None:
            counts, covariance = followed.counts, followed.covariance
        self._base = counts
        self._covariance = with_amplitudes(covariance, len(amplitudes))
        self.norms = (
            *self._norms(counts, np.sqrt(np.diag(covariance))),
            *(
                Norm(prefix + name, name, counts.size + i, 0.0, 1.0, MOST, True, -MOST)
                for i, name in enumerate(amplitudes)
            ),
        )
        self._names = [norm.name for norm in self.norms]
        self._values = np.array([norm.start for norm in self.norms])
        self._sessions: list[tuple[CosipyPlugin, Norm]] = []

    def _norms(self, counts: Array, errors: Array) -> list[Norm]:
        norms = []
        whole = counts.sum() / self._livetime
        for i, (label, n, error) in enumerate(zip(self.labels, counts, errors, strict=True)):
            name = self._prefix + label
            if not name.isidentifier():
                raise TemplateError(
                    f"The parameter name {name!r} is no Python identifier; choose a prefix of "
                    "letters, digits and underscores."
                )
            rate = n / self._livetime
            if np.isinf(error):  # off the lower limit, where a minimiser would stay
                start = max(rate, START_SHARE * whole)
                norms.append(Norm(name, label, i, start, np.inf, _HIGHEST_UNKNOWN * whole))
            elif self._followed is not None:
                if error > 0:
                    highest = max(_HIGHEST_KNOWN, 1.0 + 10.0 * error)
                    norms.append(Norm(name, label, i, 1.0, float(error), highest, True))
            else:
                highest = max(_HIGHEST_KNOWN * rate, rate + 10.0 * error) or whole
                norms.append(Norm(name, label, i, rate, float(error), highest))
        return norms

    @property
    def parameters(self) -> dict[str, Quantity]:
        """The norms by name: rates in Hz; factors where amounts follow a spectrum."""
        import astropy.units as u

        return {
            norm.name: value * (u.dimensionless_unscaled if norm.is_factor else u.Hz)
            for norm, value in zip(self.norms, self._values.tolist(), strict=True)
        }

    def set_parameters(self, **parameters: Quantity) -> None:
        """Set norms.

        Parameters
        ----------
        **parameters : Quantity
            Rates >= 0 in a unit convertible to Hz; factors >= 0 without unit.

        Raises
        ------
        TemplateError
            For a name or a unit that is not one of these, and for a norm below 0, from which
            threeML's sessions step back.
        """
        import astropy.units as u

        values = self._values.copy()
        for name, given in parameters.items():
            if name not in self._names:
                raise TemplateError(
                    f"The background has no norm {name!r}; it has "
                    f"{', '.join(self._names) or 'none: all amounts follow the spectrum'}."
                )
            i = self._names.index(name)
            unit = u.dimensionless_unscaled if self.norms[i].is_factor else u.Hz
            try:
                value = float(u.Quantity(given).to_value(unit))
            except u.UnitConversionError:
                kind = "a factor without unit" if self.norms[i].is_factor else "a rate in Hz"
                raise TemplateError(f"The norm {name!r} must be {kind}, got {given!r}.") from None
            lowest = self.norms[i].lowest
            if not (np.isfinite(value) and value >= lowest):
                raise forbidden_norm(
                    f"The norm {name!r} must be finite and >= {lowest:g}, got {given}."
                )
            values[i] = value
        self._values = values

    @property
    def counts(self) -> dict[str, float]:
        """Counts of each component in the template's livetime, by label.

        After a fit ``template.set_parameters(**background.counts)`` takes them over.
        """
        return dict(zip(self.labels, self.amounts().tolist(), strict=True))

    def amounts(self) -> Array:
        """Counts of each component at the current norms, shape (n_labels,)."""
        counts: Array = self._base.copy()
        if self._followed is not None:
            counts *= self._followed.factors()
        for norm, value in zip(self.norms, self._values.tolist(), strict=True):
            if norm.index >= counts.size:
                continue
            counts[norm.index] = (
                counts[norm.index] * value if norm.is_factor else value * self._livetime
            )
        return counts

    def amplitudes(self) -> Array:
        """Those of the differences of lines, shape (n_amplitudes,)."""
        return self._values[[norm.index >= self._base.size for norm in self.norms]]

    def tilts(self) -> Array | None:
        """Factors on the energy bins of each component, which follow a spectrum; or None."""
        return None if self._followed is None else self._followed.tilts()

    # --- a session -------------------------------------------------------------------------------

    def configure(self, cosi: CosipyPlugin) -> None:
        """Give a cosipy plugin's norms their start values, limits, steps and flat priors.

        cosipy 0.4.3 gives them neither limits, so that JointLikelihood tries rates below 0, nor
        priors, without which a BayesianAnalysis does not start. What is known of the norms is in
        `constraint`, for both kinds of session: the priors are flat, so that it counts once. An
        amount that is known exactly is fixed.

        Parameters
        ----------
        cosi : cosipy.interfaces.ThreeMLPluginInterface
            Made with this background.

        Raises
        ------
        TemplateError
            If it was made with another one.
        """
        # a plugin that is made anew takes the place of the one of its name
        self._sessions = [(c, norm) for c, norm in self._sessions if c.name != cosi.name]
        for norm in self.norms:
            try:
                parameter = cosi.bkg_parameter[norm.name]
            except KeyError:
                raise TemplateError(
                    f"The plugin {cosi.name!r} has no parameter {norm.name!r}: it was made with "
                    "another background. Configure it with its own."
                ) from None
            _configure(parameter, norm)
            self._sessions.append((cosi, norm))

    def constraint(self, free: Sequence[str] = (), name: str | None = None) -> NormConstraint:
        """The plugin with what is known of the norms, for the session's DataList.

        Its Gaussian term has the covariance of the template's counts divided by the livetime
        squared, and acts on the parameters by the names that cosipy 0.4.3 gives them.

        Parameters
        ----------
        free : sequence of str
            Labels whose norms are left without it. Those of unknown amount are free anyhow, those
            that are known exactly are fixed by `configure`.
        name : str, optional
            The plugin's own name, ``<prefix>norms`` unless given.

        Raises
        ------
        TemplateError
            If the background has no such component.
        """
        from .constraint import NormConstraint

        free = labels_in(free, self.labels)
        known = [n for n in self.norms if n.label not in free and 0 < n.error < np.inf]
        rows = [norm.index for norm in known]
        return NormConstraint(
            name or f"{self._prefix}norms",
            [norm.name for norm in known],
            self._covariance[np.ix_(rows, rows)],
            mean=[norm.start for norm in known],
            check=self._require_own_parameters,
        )

    def _require_own_parameters(self, session: Mapping[str, Parameter]) -> None:
        """Refuse a session in which another background's norms have the names of these."""
        for cosi, norm in self._sessions:
            own = cosi.bkg_parameter[norm.name]
            if session.get(norm.name, own) is not own:
                raise ModelError(
                    f"Two backgrounds of this session have a norm called {norm.name!r}, and "
                    "threeML varies one of them only. Make each with a prefix of its own: "
                    'binned_background(data, prefix="first_").'
                )


def with_amplitudes(covariance: Array, n: int) -> Array:
    """The covariance of norms and, behind them, of n independent amplitudes 0 +- 1."""
    k = len(covariance)
    out = np.eye(k + n)
    out[:k, :k] = covariance
    return out


def labels_in(given: str | Sequence[str] | None, labels: Sequence[str]) -> tuple[str, ...]:
    """Labels of components that a template has; one may stand alone, None stands for all.

    Raises
    ------
    TemplateError
        Naming one that is none of `labels`.
    """
    if given is None:
        return tuple(labels)
    asked = (given,) if isinstance(given, str) else tuple(given)
    for label in asked:
        if label not in labels:
            raise TemplateError(
                f"The template has no component {label!r}; it has {listed(labels)}."
            )
    return asked


def forbidden_norm(message: str) -> TemplateError:
    """For norms that a minimiser tries: threeML steps back from them instead of failing."""
    from .constraint import ForbiddenNorm

    return ForbiddenNorm(message)


def _configure(parameter: Parameter, norm: Norm) -> None:
    from astromodels.functions.priors import Uniform_prior

    parameter.bounds = (norm.lowest, norm.highest)
    parameter.value = norm.start
    parameter.free = norm.error > 0
    step = min(norm.error, 0.5 * norm.start) if np.isfinite(norm.error) else 0.5 * norm.start
    step = 0.5 if norm.lowest < 0 else step
    parameter.delta = step or START_SHARE * norm.highest
    parameter.prior = Uniform_prior(
        lower_bound=norm.lowest,
        upper_bound=norm.highest,
        value=1.0 / (norm.highest - norm.lowest),
    )
