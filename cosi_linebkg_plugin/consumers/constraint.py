"""NormConstraint: what is known of the background's norms, as a term of a joint likelihood."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from astromodels import Model, ModelAssertionViolation
from astromodels.core.parameter import Parameter
from numpy.typing import ArrayLike, NDArray
from threeML.plugin_prototype import PluginPrototype

from ..errors import ModelError, TemplateError
from ..model.nuisance import NuisanceParameter
from .draws import Draws, Seed

if TYPE_CHECKING:
    from ..template.template import BackgroundTemplate


class ForbiddenNorm(TemplateError, ModelAssertionViolation):  # type: ignore[misc]
    """A norm below 0; threeML's sessions step back from it and go on."""


class NormConstraint(PluginPrototype):  # type: ignore[misc]
    """A Gaussian constraint on parameters of the session, -0.5 d^T C^-1 d with d = values - mean.

    threeML ignores priors in maximum-likelihood sessions; this term says the same there:
    ``DataList(cosi, NormConstraint("known", ["cosi_bkg"], 0.05**2))``. In a BayesianAnalysis use
    either the priors or this term: both together would count the knowledge twice.

    Parameters
    ----------
    name : str
        The plugin's own name, unique in the DataList.
    parameters : sequence of str
        Paths of parameters in the session's model, those of other plugins among them.
    covariance : array_like, shape (n, n), or float
        Of the parameters; a float is the variance of a single one.
    mean : array_like, shape (n,), optional
        Default: 1 for each.
    nuisance : mapping of str to Parameter, optional
        Parameters that this plugin brings into the session; the keys contain its name.
    check : callable, optional
        Is given the session's parameters by name, once, and raises if they are not right.

    Raises
    ------
    TemplateError
        If the covariance does not fit the parameters, or is not positive definite.
    """

    def __init__(
        self,
        name: str,
        parameters: Sequence[str],
        covariance: ArrayLike,
        *,
        mean: ArrayLike | None = None,
        nuisance: Mapping[str, Parameter] | None = None,
        check: Callable[[Mapping[str, Parameter]], None] | None = None,
    ) -> None:
        if isinstance(parameters, str):
            parameters = [parameters]
        self._paths = tuple(parameters)
        n = len(self._paths)
        matrix = np.asarray(covariance, dtype=float)
        if n == 1 and matrix.ndim == 0:
            matrix = matrix.reshape(1, 1)
        self._mean = np.ones(n) if mean is None else np.atleast_1d(np.array(mean, dtype=float))
        if len(set(self._paths)) != n or matrix.shape != (n, n) or self._mean.shape != (n,):
            raise TemplateError(
                f"{n} parameters ({', '.join(self._paths)}) need different names, {n} mean values "
                f"and a covariance of {n} x {n}; got the shapes {self._mean.shape} and "
                f"{matrix.shape}."
            )
        for key in nuisance or {}:
            if name not in key:
                raise TemplateError(
                    f"The nuisance parameter {key!r} must contain the plugin's name {name!r}."
                )
        self._covariance = matrix
        self._precision = _inverse(matrix, self._paths)
        self._model: Model | None = None
        self._sources: list[Parameter] | None = None
        self._draws = Draws()
        self._check = check
        super().__init__(name, dict(nuisance or {}))

    @classmethod
    def of_template(
        cls, template: BackgroundTemplate, cosi: str = "cosi", name: str = "norm_constraint"
    ) -> NormConstraint:
        """The constraint on the norm that `cosilike` gives to a COSILike.

        Parameters
        ----------
        template : BackgroundTemplate
        cosi : str
            The COSILike's name.
        name : str
            This plugin's own name.
        """
        if template.unknown:
            raise TemplateError(
                f"The amount of {', '.join(template.unknown)} is not known, so there is nothing to "
                "constrain; give line_ratio= or observed=, or use component_mix(), which leaves it "
                "free and constrains the others."
            )
        if template.total_error == 0:
            raise TemplateError(
                "The amount of this template is known exactly, so the norm is fixed and there is "
                "nothing to constrain; leave norm_constraint() out of the session."
            )
        total = sum(template.counts.values())
        return cls(name, [f"{cosi}_bkg"], (template.total_error / total) ** 2)

    def seed(self, seed: Seed = None) -> None:
        """Seed what draws the simulated data sets, as of `LineBackgroundLike.seed`."""
        self._draws = Draws(seed)

    def set_model(self, likelihood_model_instance: Model) -> None:
        """Take the session's model; parameters are looked up at the first call of the likelihood.

        They may come from plugins that stand behind this one in the DataList.
        """
        self._model = likelihood_model_instance
        self._sources = None

    def get_model(self) -> NDArray[np.float64]:
        """The parameters' values, shape (n,)."""
        return np.array([p.value for p in self._found()])

    def get_log_like(self) -> float:
        """-0.5 d^T C^-1 d; 0 at the mean."""
        d = self.get_model() - self._mean
        return float(-0.5 * (d @ self._precision @ d))

    def inner_fit(self) -> float:
        """The same as `get_log_like`: nothing is fitted inside."""
        return self.get_log_like()

    def get_number_of_data_points(self) -> int:
        """0: the constraint adds no bins, and AIC and BIC count the data's."""
        return 0

    def __repr__(self) -> str:
        errors = np.sqrt(np.diag(self._covariance))
        known = ", ".join(
            f"{path} {mean:.4g} +- {error:.2g}"
            for path, mean, error in zip(self._paths, self._mean, errors, strict=True)
        )
        return f"NormConstraint({self.name}: {known or 'nothing'})"

    def get_simulated_dataset(self, new_name: str) -> NormConstraint:
        """The same constraint around values drawn as if measured anew, given the current ones.

        Parameters
        ----------
        new_name : str

        Returns
        -------
        NormConstraint
            Without parameters of its own: it finds those of the session.
        """
        mean = self.get_model()
        if mean.size:  # nothing to draw where all norms are free
            mean = self._draws.generator.multivariate_normal(mean, self._covariance)
        paths = [p.path for p in self._found()]
        simulated = NormConstraint(new_name, paths, self._covariance, mean=mean)
        simulated._draws = self._draws.child()
        return simulated

    def _found(self) -> list[Parameter]:
        if self._sources is None:
            if self._model is None:
                raise ModelError(
                    f"The plugin {self.name!r} has no model yet; call set_model, or put it into a "
                    "JointLikelihood."
                )
            known = {**self._model.parameters, **self.nuisance_parameters}
            for p in list(known.values()):
                if isinstance(p, NuisanceParameter) and p.stands_for:
                    known.setdefault(p.stands_for, p)
            missing = [path for path in self._paths if path not in known]
            if missing:
                raise ModelError(
                    f"The plugin {self.name!r} constrains {', '.join(missing)}, which the session "
                    f"does not have; it has {', '.join(known)}."
                )
            if self._check is not None:
                self._check(known)
            self._sources = [known[path] for path in self._paths]
        return self._sources


def _inverse(covariance: NDArray[np.float64], paths: Sequence[str]) -> NDArray[np.float64]:
    errors = np.sqrt(np.abs(np.diag(covariance)))
    if np.all(np.isfinite(covariance)) and np.allclose(covariance, covariance.T) and errors.all():
        correlation = covariance / np.outer(errors, errors)  # norms differ by orders of magnitude
        if not len(paths) or np.linalg.eigvalsh(correlation)[0] > 1e-12:
            precision: NDArray[np.float64] = np.linalg.inv(correlation) / np.outer(errors, errors)
            return precision
    raise TemplateError(
        f"The covariance of {', '.join(paths)} must be finite, symmetric and positive definite; "
        f"got the variances {np.diag(covariance).tolist()}. Leave out what is unknown."
    )
