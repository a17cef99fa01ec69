"""Default priors for Bayesian sessions: flat, proper, and inside every parameter's bounds."""

from __future__ import annotations

from typing import Any

from astromodels import Log_uniform_prior, Model, Uniform_prior
from astromodels.core.parameter import Parameter

from ..errors import ModelError

#: A scale parameter (K) may lie this factor above and below its present value.
_SCALE_FACTOR = 1e3

#: Counts of a line: from 0 to this times the largest present counts of any line.
_AMPLITUDE_FACTOR = 10.0


def default_priors(model: Model) -> None:
    """Give each free parameter that has none a flat prior inside its bounds.

    Samplers need proper priors, priors inside the bounds, and start values that are not 0.

    * Between two bounds: uniform.
    * Positive, without an upper bound (the power law's K): uniform in the logarithm, a factor of
      1000 to either side of the present value.
    * From 0, without an upper bound (the counts F of a line): uniform, up to 10 times the largest
      present counts of a line; one that stands at exactly 0 is set to 1 % of these.
    * One that stands at a lower bound of 0 (the share of a tail): set to 1 % of its upper bound.
    * A parameter that has a prior already keeps it, if that lies inside the bounds.

    Parameters
    ----------
    model : astromodels.Model
        With start values from the data: ``plugin.guess(model)`` or ``plugin.fit(model)``.

    Raises
    ------
    ModelError
        Naming a parameter without a scale, or with a prior beyond its bounds.
    """
    free = model.free_parameters
    amplitudes = {path: p for path, p in free.items() if _is_amplitude(p)}
    largest = max((p.value for p in amplitudes.values()), default=0.0)
    new: dict[str, Any] = {}
    for path, p in free.items():
        low, high = p.bounds
        if p.has_prior():
            _require_inside(path, p)
        elif low is not None and high is not None:
            new[path] = Uniform_prior(lower_bound=low, upper_bound=high, value=1 / (high - low))
        elif path in amplitudes and largest > 0:
            top = _AMPLITUDE_FACTOR * largest
            new[path] = Uniform_prior(lower_bound=0.0, upper_bound=top, value=1 / top)
        elif low is not None and low > 0 and p.value > 0:
            bottom, top = max(low, p.value / _SCALE_FACTOR), p.value * _SCALE_FACTOR
            new[path] = Log_uniform_prior(lower_bound=bottom, upper_bound=top)
        else:
            raise ModelError(
                f"No prior can be chosen for {path}: its bounds are {low} and {high}, its value "
                f"is {p.value:g}. Set bounds, or a prior of your own, or start values from the "
                "data (plugin.guess(model)) first."
            )
    for path, prior in new.items():
        free[path].prior = prior
    for path, p in free.items():
        if path in amplitudes and p.value == 0:
            p.value = 0.01 * largest
        elif p.value == p.bounds[0] == 0 and p.bounds[1] is not None:
            p.value = 0.01 * float(p.bounds[1])


def _is_amplitude(parameter: Parameter) -> bool:
    low, high = parameter.bounds
    return low == 0 and high is None


def _require_inside(path: str, parameter: Parameter) -> None:
    """Refuse a prior that lets a sampler leave the bounds, which ends its run."""
    prior, (low, high) = parameter.prior, parameter.bounds
    if not (hasattr(prior, "lower_bound") and hasattr(prior, "upper_bound")):
        return
    bottom, top = prior.lower_bound.value, prior.upper_bound.value
    if (low is not None and bottom < low) or (high is not None and top > high):
        raise ModelError(
            f"The prior of {path} reaches from {bottom:g} to {top:g}, beyond the parameter's "
            f"bounds {low} and {high}; narrow the prior, or widen the bounds."
        )
