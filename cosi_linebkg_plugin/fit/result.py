"""LineBackgroundFit: what a fit found, frozen, with its errors, in memory and as JSON."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, cached_property
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError
from ..io import checks
from ..io.atomic import whole_file
from ..io.guard import brief, parse_json, reading, require_file
from ..spectrum.axis import EnergySpectrum
from ..spectrum.components import (
    N_NODES,
    ROLES,
    Component,
    Parameter,
    SpectralModel,
    bin_counts,
    counts_in_bins,
    range_counts,
    tabulate,
)
from ..spectrum.statistic import chi2_p_value, half_deviance, saturated_log_likelihood
from ..units import in_kev
from .adequacy import Adequacy, describe, judge

if TYPE_CHECKING:
    from .minimise import Told

FORMAT = "cosi-linebkg fit 1"

#: Parameters times bins of a fit in a file: it is evaluated with derivatives, for each component
#: in turn. A fit of 100 lines to 4,000 bins has 8e5, and 200 components.
_MAX_VALUES = 20_000_000

_CURE = f'Give the fit.json of a run; its "format" should be "{FORMAT}".'

#: Width of a line that is looked for where the model has none [keV].
DEFAULT_WIDTH = 3.0


@cache
def installed_versions() -> dict[str, str]:
    """Versions of this package and of those that a result depends on."""
    found = {}
    for name in ("cosi-linebkg-plugin", "numpy", "scipy", "iminuit", "histpy", "threeML"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


@dataclass(frozen=True)
class FittedParameter:
    """One parameter of a fit.

    Attributes
    ----------
    value : float
    error : float or None
        Standard error; None if fixed, or if the value sits on a limit.
    unit : str
    free : bool
    low, high : float
        Limits, infinite where there is none.
    link : str or None
        The parameter that this one equals.
    minos : (float, float) or None
        Profile-likelihood errors, the lower one negative.
    """

    value: float
    error: float | None
    unit: str = ""
    free: bool = True
    low: float = -math.inf
    high: float = math.inf
    link: str | None = None
    minos: tuple[float, float] | None = None


@dataclass(frozen=True)
class RangeCounts:
    """Expected counts in an energy range, per component label.

    Attributes
    ----------
    labels : tuple of str
    values : ndarray, shape (n_labels,), counts
    covariance : ndarray, shape (n_labels, n_labels), counts^2
    """

    labels: tuple[str, ...]
    values: NDArray[np.float64]
    covariance: NDArray[np.float64]

    @property
    def errors(self) -> NDArray[np.float64]:
        """Standard errors, shape (n_labels,)."""
        return np.sqrt(np.diag(self.covariance))

    @property
    def total(self) -> float:
        """Sum of the values."""
        return float(self.values.sum())

    @property
    def total_error(self) -> float:
        """Standard error of the total, correlations included."""
        return float(np.sqrt(self.covariance.sum()))


@dataclass(frozen=True)
class LineBackgroundFit:
    """A background spectrum fitted to the unmasked energy bins.

    Attributes
    ----------
    model : SpectralModel
        Components and parameters; their values are those that the fit started from.
    spectrum : EnergySpectrum
        The data and the mask.
    theta : ndarray, shape (n_parameters,)
        Best values of the model's parameters (or posterior medians).
    covariance : ndarray, shape (n, n)
        Of `covariance_names`: the free parameters that sit on no limit.
    valid : bool
    engine : str
        "minuit", "joint_likelihood" or "bayesian".
    message : str
        What stands against the fit, or "".
    at_limits : tuple of str
        Free parameters whose best value is a limit.
    minos : mapping of str to (float, float)
    samples : ndarray or None, shape (n_samples, n_free)
        Posterior samples of `free_names`.
    n_calls : int
        Likelihood evaluations.
    offset : ndarray or None, shape (n_bins,), counts
        Expected counts of a known source in the data, which are not background.
    toys : (float, int) or None
        p-value of the deviance from simulated spectra, and their number: see `fit.with_toys`.
    line_search : mapping or None
        The search that found the lines, as `LineSearch.to_dict` gives it.
    """

    model: SpectralModel
    spectrum: EnergySpectrum
    theta: NDArray[np.float64]
    covariance_names: tuple[str, ...]
    covariance: NDArray[np.float64]
    valid: bool = True
    engine: str = "minuit"
    message: str = ""
    at_limits: tuple[str, ...] = ()
    minos: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    samples: NDArray[np.float64] | None = None
    n_calls: int = 0
    offset: NDArray[np.float64] | None = None
    toys: tuple[float, int] | None = None
    line_search: Mapping[str, Any] | None = None
    versions: Mapping[str, str] = field(default_factory=lambda: dict(installed_versions()))

    # --- numbers ---------------------------------------------------------------------------------

    @property
    def free_names(self) -> list[str]:
        """Names of the free parameters, in the order of the samples."""
        return [p.name for p in self.model.parameters if p.free]

    @property
    def values(self) -> dict[str, float]:
        """Best values by name, linked parameters included."""
        values = dict(zip(self.model.names, self.theta.tolist(), strict=True))
        return values | {name: values[target] for name, target in self.model.links.items()}

    @property
    def errors(self) -> dict[str, float]:
        """Standard errors of `covariance_names`."""
        return dict(
            zip(self.covariance_names, np.sqrt(np.diag(self.covariance)).tolist(), strict=True)
        )

    @property
    def parameters(self) -> dict[str, FittedParameter]:
        """All parameters by name: free, fixed and linked."""
        errors = self.errors
        table = {
            p.name: FittedParameter(
                float(value),
                errors.get(p.name),
                p.unit,
                p.free,
                p.low,
                p.high,
                minos=self.minos.get(p.name),
            )
            for p, value in zip(self.model.parameters, self.theta, strict=True)
        }
        for name, target in self.model.links.items():
            t = table[target]
            table[name] = FittedParameter(t.value, t.error, t.unit, False, t.low, t.high, target)
        return table

    @property
    def mask(self) -> list[tuple[float, float]]:
        """Masked energy ranges, keV."""
        return self.spectrum.masked_ranges()

    @property
    def expected(self) -> NDArray[np.float64]:
        """Expected counts per energy bin, masked bins included, shape (n_bins,)."""
        return self.component_spectra.sum(axis=0)

    @property
    def expected_total(self) -> NDArray[np.float64]:
        """Background and offset: what the data are compared with, shape (n_bins,)."""
        return self.expected if self.offset is None else self.expected + self.offset

    @property
    def component_spectra(self) -> NDArray[np.float64]:
        """Expected counts per component and energy bin, shape (n_components, n_bins)."""
        return self._bins[0]

    @property
    def bin_jacobian(self) -> NDArray[np.float64]:
        """Derivatives of `expected` to every parameter, shape (n_parameters, n_bins)."""
        return self._bins[1]

    @cached_property
    def _bins(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        spectra, jac = bin_counts(self.model, self.theta, self.spectrum.edges)
        spectra.flags.writeable = jac.flags.writeable = False
        return spectra, jac

    @property
    def _columns(self) -> list[int]:
        """Slots of the parameters of the covariance matrix."""
        index = {p.name: i for i, p in enumerate(self.model.parameters)}
        return [index[name] for name in self.covariance_names]

    @property
    def deviance(self) -> float:
        """Raw Poisson deviance of the fitted bins (Baker & Cousins 1984, NIM 221, 437)."""
        s = self.spectrum
        return 2.0 * half_deviance(s.counts, s.used, self.expected_total)

    @property
    def log_likelihood(self) -> float:
        """Poisson log-likelihood of the fitted bins, with its constant term."""
        s = self.spectrum
        return saturated_log_likelihood(s.counts[s.used]) - 0.5 * self.deviance

    @property
    def dof(self) -> int:
        """Fitted bins minus free parameters."""
        return int(self.spectrum.used.sum()) - len(self.free_names)

    @property
    def p_value(self) -> float | None:
        """Chance of a larger deviance if the model is right.

        From `toys` if there are any, else by the chi-square law; None where a fitted bin expects
        fewer than 5 counts.
        """
        if self.toys is not None:
            return self.toys[0]
        return chi2_p_value(self.deviance, self.dof, self.expected_total[self.spectrum.used])

    @cached_property
    def adequacy(self) -> Adequacy | None:
        """Tests of the fit, its residuals, and its systematic error.

        None if the fit is not valid, has no covariance, or as many free parameters as bins.
        """
        if not self.valid or self.dof < 1 or (self.free_names and not self.covariance_names):
            return None
        s = self.spectrum
        return judge(
            s.edges,
            s.counts,
            s.used,
            self.expected_total,
            self.bin_jacobian[self._columns],
            deviance=self.deviance,
            dof=self.dof,
            deviance_p_value=self.p_value,
            n_toys=0 if self.toys is None else self.toys[1],
            line_width=self._line_width,
        )

    @property
    def lines(self) -> list[tuple[float, float]]:
        """Energy and width [keV] of each line with counts."""
        theta = self.theta
        return [
            (float(theta[c.slots[1]]), c.sigma(theta))
            for c in self.model.components
            if c.label == "lines" and theta[c.slots[0]] > 0
        ]

    def _line_width(self, energies: NDArray[np.float64]) -> NDArray[np.float64]:
        """Width [keV] of a further line at `energies` [keV]: that of the nearest line."""
        finest = 0.5 * float(np.median(self.spectrum.widths))
        table = np.array(self.lines or [(0.0, DEFAULT_WIDTH)])
        nearest = np.abs(energies[:, None] - table[:, 0]).argmin(axis=1)
        return np.maximum(table[nearest, 1], finest)

    @property
    def systematic(self) -> float:
        """Fractional error of each bin, uncorrelated, that makes the fit adequate; 0 if it is.

        The errors of `expected_counts` and of templates include it, those of the parameters do
        not.
        """
        return 0.0 if self.adequacy is None else self.adequacy.applied

    def systematic_covariance(
        self, jac: NDArray[np.float64], inside: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """What the systematic error adds to the covariance of some expected counts.

        The true content of bin i is mu_i (1 + s g_i) with independent g of unit variance. It
        enters twice: through the fit, whose parameters answer by C J g s (C the covariance, J the
        derivatives of mu in fitted bins), and because the counts themselves are made of such bins.

        Parameters
        ----------
        jac : ndarray, shape (n, n_parameters)
            Derivatives of the counts to the parameters.
        inside : ndarray, shape (n, n_bins), counts
            What each bin holds of them.

        Returns
        -------
        ndarray, shape (n, n), counts^2
        """
        columns = self._columns
        pull = jac[:, columns] @ self.covariance @ self.bin_jacobian[columns]
        response = self.systematic * (pull * self.spectrum.used - inside)
        return response @ response.T

    def expected_counts(self, energy_range: Sequence[Any], *, by: str = "label") -> RangeCounts:
        """Expected counts in any energy range inside the axis, with their covariance.

        Parameters
        ----------
        energy_range : (low, high)
            keV, or quantities.
        by : "label" or "component"
            "label" adds up what belongs to the "continuum" and to the "lines".

        Returns
        -------
        RangeCounts
            The covariance is J C J^T from the fit, or that of the posterior samples; where the fit
            is not adequate, its systematic error is added.
        """
        low, high = in_kev(energy_range)
        edges = self.spectrum.edges
        value, jac = range_counts(self.model, self.theta, low, high, edges)
        unique, collect = self._collected(by)
        value, jac = collect @ value, collect @ jac
        tabulated = any(c.table is not None for c in self.model.components)
        if self.samples is not None and not tabulated:
            draws = self.sampled_counts((low, high), by=by)
            value, covariance = draws.mean(axis=0), np.atleast_2d(np.cov(draws.T))
        else:
            j = jac[:, self._columns]
            covariance = j @ self.covariance @ j.T
        if self.systematic:
            inside = collect @ counts_in_bins(self.model, self.theta, low, high, edges)
            covariance = covariance + self.systematic_covariance(jac, inside)
        return RangeCounts(unique, value, covariance)

    def sampled_counts(
        self, energy_range: Sequence[Any], *, by: str = "label"
    ) -> NDArray[np.float64]:
        """Expected counts in an energy range for each posterior sample.

        Parameters
        ----------
        energy_range, by
            As of `expected_counts`.

        Returns
        -------
        ndarray, shape (n, n_labels), counts
            For at most 2000 samples, evenly spread; the order of `expected_counts`' labels.

        Raises
        ------
        DataError
            If the fit holds no samples.
        """
        low, high = in_kev(energy_range)
        theta, free = self.theta.copy(), self.model.free
        rows = []
        for sample in self.thinned_samples():
            theta[free] = sample
            rows.append(range_counts(self.model, theta, low, high, self.spectrum.edges)[0])
        return np.array(rows) @ self._collected(by)[1].T

    def sample(
        self, n_samples: int = 4000, *, seed: int | None = None, told: Told | None = None
    ) -> LineBackgroundFit:
        """Sample the posterior with emcee on the compiled likelihood, starting around this fit.

        Priors are flat within the limits of each parameter, times its Gaussian prior if it has one.

        Parameters
        ----------
        n_samples : int
            At least this many are returned, unless 20,000 steps give fewer.
        seed : int, optional
            The same seed gives the same samples.
        told : callable, optional
            Is told after each thousand steps how many are done, and how many are needed as far as
            the chain shows.

        Returns
        -------
        LineBackgroundFit
            With medians as values, the samples, and their covariance.

        Raises
        ------
        DataError
            If n_samples is below 1.
        FitError
            If the chain is still shorter than 30 autocorrelation times after 20,000 steps; its
            ``result`` holds the samples.
        FitInterrupted
            At Ctrl-C after 200 steps or more; its ``result`` holds the samples so far, not valid.

        References
        ----------
        Foreman-Mackey et al. 2013, PASP 125, 306 (emcee).
        """
        from .posterior import sample_posterior

        return sample_posterior(self, n_samples=n_samples, seed=seed, told=told)

    def thinned_samples(self, at_most: int = 2000) -> NDArray[np.float64]:
        """Posterior samples, evenly spread over the chain, shape (n, n_free).

        Raises
        ------
        DataError
            If the fit holds none.
        """
        if self.samples is None:
            raise DataError(
                "The fit has no posterior samples: sample it with fit.sample(), with "
                "engine: bayesian, or with a BayesianAnalysis and plugin.result()."
            )
        number = min(at_most, len(self.samples))
        return self.samples[np.linspace(0, len(self.samples) - 1, number).round().astype(int)]

    def _collected(self, by: str) -> tuple[tuple[str, ...], NDArray[np.float64]]:
        """Names, and which components belong to each, shape (n_names, n_components)."""
        components = self.model.components
        if by not in ("label", "component"):
            raise DataError(f'by must be "label" or "component", got {by!r}.')
        if by == "component":
            labels = [self.model.component_name(i, self.theta) for i in range(len(components))]
        else:
            labels = [c.label for c in components]
        unique = tuple(dict.fromkeys(labels))
        return unique, np.array([[float(x == y) for x in labels] for y in unique])

    # --- words -----------------------------------------------------------------------------------

    def __str__(self) -> str:
        lines = [f"{'parameter':<12} {'value':>14} {'error':>12}  unit"]
        for name, p in self.parameters.items():
            if p.link:
                continue
            if not p.free:
                note = "fixed"
            elif p.error is None:
                note = "at limit"
            else:
                note = f"{p.error:.3g}"
            lines.append(f"{name:<12} {p.value:>14.7g} {note:>12}  {p.unit}")
        for target in dict.fromkeys(self.model.links.values()):
            names = [name for name, t in self.model.links.items() if t == target]
            span = names[0] if len(names) == 1 else f"{names[0]} ... {names[-1]}"
            lines.append(f"{span} = {target}")
        lines.append(self.summary())
        return "\n".join(lines)

    def summary(self) -> str:
        """In words: how well the model does, whether a template may use it, and what to try."""
        if not self.valid:
            return f"The fit is not valid: {self.message}. It cannot be used for a template."
        if self.adequacy is None:
            return (
                "The model cannot be tested: it has as many free parameters as fitted bins, or no "
                "covariance."
            )
        tail = any("tailed" in c.kind for c in self.model.components)
        values = self.values
        at_limit = [values[name] for name in self.at_limits if name.startswith("mu")]
        text = describe(self.adequacy, self.lines, tail, at_limit)
        return f"{text} Note: {self.message}." if self.message else text

    # --- JSON ------------------------------------------------------------------------------------

    def to_dict(self, source_range: Sequence[Any] | None = None) -> dict[str, Any]:
        """Everything as plain Python types, ready for JSON.

        Parameters
        ----------
        source_range : (low, high), keV, optional
            Adds the expected counts there as "source_counts".
        """
        spectrum = self.spectrum
        model = tabulate(self.model, self.theta, spectrum.edges)
        out: dict[str, Any] = {
            "format": FORMAT,
            "valid": self.valid,
            "message": self.message,
            "engine": self.engine,
            "deviance": self.deviance,
            "dof": self.dof,
            "p_value": self.p_value,
            "log_likelihood": self.log_likelihood,
            "adequacy": None if self.adequacy is None else self.adequacy.to_dict(),
            **({} if self.toys is None else {"toys": list(self.toys)}),
            "mask": [list(r) for r in self.mask],
            "parameters": {
                name: {
                    "value": p.value,
                    "error": _or_none(p.error),
                    "unit": p.unit,
                    "free": p.free,
                    "limits": [_or_none(p.low), _or_none(p.high)],
                    **({"link": p.link} if p.link else {}),
                    **({"minos": list(p.minos)} if p.minos else {}),
                }
                for name, p in self.parameters.items()
            },
            "covariance": {
                "names": list(self.covariance_names),
                # JSON knows no NaN: what a failed fit could not find is null
                "matrix": finite_or_null(self.covariance),
            },
            "at_limits": list(self.at_limits),
            "n_calls": self.n_calls,
            "components": [
                {
                    "kind": c.kind,
                    "label": c.label,
                    "parameters": [model.parameters[i].name for i in c.slots],
                    **({"table": c.table.tolist()} if c.table is not None else {}),
                }
                for c in model.components
            ],
            "spectrum": {
                "energy_edges": spectrum.edges.tolist(),
                "counts": spectrum.counts.tolist(),
                "mask": spectrum.mask.tolist(),
                **({} if self.offset is None else {"offset": self.offset.tolist()}),
            },
            "versions": dict(self.versions),
        }
        if self.line_search is not None:
            out["line_search"] = dict(self.line_search)
        if self.samples is not None:
            out["samples"] = {"names": self.free_names, "values": self.samples.tolist()}
        if source_range is not None:
            low, high = in_kev(source_range)
            counts = self.expected_counts((low, high))
            out["source_range"] = [low, high]
            out["source_counts"] = {
                label: {"value": float(v), "error": float(e)}
                for label, v, e in zip(counts.labels, counts.values, counts.errors, strict=True)
            }
        return out

    def to_json(
        self,
        path: str | os.PathLike[str] | None = None,
        *,
        source_range: Sequence[Any] | None = None,
    ) -> str:
        """The fit as JSON, which `from_json` reads.

        Parameters
        ----------
        path : path, optional
            Where the text is written, too (whole or not at all).
        source_range : (low, high), keV, optional
            As of `to_dict`.

        Returns
        -------
        str
        """
        text = json.dumps(self.to_dict(source_range), indent=1, allow_nan=False)
        if path is not None:
            with whole_file(path) as temporary:
                temporary.write_text(text + "\n", encoding="utf-8")
        return text

    @classmethod
    def from_json(cls, source: str | os.PathLike[str]) -> LineBackgroundFit:
        """Read a fit from JSON text, or from a file's path.

        Raises
        ------
        FileError
            Naming the file and what is missing or damaged in it.
        """
        if not isinstance(source, os.PathLike) and str(source).lstrip().startswith("{"):
            return cls.from_text(str(source), "The JSON text")
        path = require_file(source, "give the fit.json of a run.")
        with reading(path, "cannot be read", _CURE):
            text = path.read_text(encoding="utf-8")
        return cls.from_text(text, str(path))

    @classmethod
    def from_text(cls, text: str, where: str) -> LineBackgroundFit:
        """Read a fit from JSON text; `where` it comes from is for the message."""
        with reading(where, "is not JSON", _CURE):
            data = parse_json(text)
        with reading(where, "is no fit of this package, or damaged", _CURE):
            fit = cls.from_dict(data)
            with np.errstate(all="ignore"):
                if fit.valid and not np.isfinite([*fit.expected_total, fit.deviance]).all():
                    raise ValueError("its parameters give no finite counts")
                if fit.adequacy is not None:  # a fit that cannot be judged in numbers is none
                    json.dumps(fit.adequacy.to_dict(), allow_nan=False)
        return fit

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> LineBackgroundFit:
        """The inverse of `to_dict`."""
        if checks.mapping(data, "it").get("format") != FORMAT:
            raise ValueError(f'its format is "{brief(data.get("format"), 60)}"')
        rows = {
            name: checks.mapping(row, name) for name, row in _mapping(data, "parameters").items()
        }
        links = {name: row["link"] for name, row in rows.items() if "link" in row}
        own = [name for name in rows if name not in links]
        for name, target in links.items():
            checks.text(target, f"the link of {name}", own)
        parameters = tuple(_parameter(name, rows[name]) for name in own)
        stored = _mapping(data, "spectrum")
        mask = stored["mask"]
        if not isinstance(mask, list) or not all(isinstance(x, bool) for x in mask):
            raise ValueError("the mask is no list of true and false")
        edges = checks.numbers(stored["energy_edges"], "energy_edges", (None,))
        spectrum = EnergySpectrum(
            edges, checks.numbers(stored["counts"], "counts", (None,)), np.array(mask, bool)
        )
        n_bins = (spectrum.n_bins,)
        n_components, n_values = len(data["components"]), len(own) * spectrum.n_bins
        if n_values > _MAX_VALUES or n_components * n_values > 50 * _MAX_VALUES:
            raise ValueError(
                f"{n_components} components, {len(own)} parameters and {spectrum.n_bins} bins are "
                "more derivatives than a fit has"
            )
        components = tuple(_component(c, own, *n_bins) for c in data["components"])
        free = [p.name for p in parameters if p.free]
        valid = checks.truth(data["valid"], "valid")
        names = checks.texts(_mapping(data, "covariance")["names"], "names of the covariance", free)
        matrix, n = data["covariance"]["matrix"], len(names)
        if valid:
            covariance = checks.covariance(matrix, "the covariance", n)
        else:  # whatever was found
            covariance = checks.numbers(matrix, "the covariance", (n, n), np.nan)
        samples, toys, search = (data.get(key) for key in ("samples", "toys", "line_search"))
        if samples is not None:
            samples = checks.numbers(
                checks.mapping(samples, "samples")["values"], "samples", (None, len(free))
            )
        if toys is not None:
            p_value, n_toys = checks.numbers(toys, "toys", (2,)).tolist()
            toys = checks.number(p_value, "the p-value of toys", 0, 1), int(n_toys)
        if search is not None:
            _check_search(search)
        minos = {n: row["minos"] for n, row in rows.items() if "minos" in row}
        offset = stored.get("offset")
        return cls(
            SpectralModel(parameters, components, links),
            spectrum,
            np.array([p.value for p in parameters]),
            names,
            covariance,
            valid,
            checks.text(data["engine"], "the engine"),
            checks.text(data["message"], "the message"),
            checks.texts(data["at_limits"], "at_limits", own),
            {n: tuple(checks.numbers(m, f"minos of {n}", (2,)).tolist()) for n, m in minos.items()},
            samples,
            int(checks.number(data["n_calls"], "n_calls")),
            None if offset is None else checks.numbers(offset, "the offset", n_bins),
            toys,
            search,
            {n: checks.text(v, "a version") for n, v in _mapping(data, "versions").items()},
        )


def _mapping(data: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    return checks.mapping(data[key], key)


def _parameter(name: str, row: Mapping[str, Any]) -> Parameter:
    """A parameter as `LineBackgroundFit.to_dict` writes it; figures show its name."""
    if brief(name, 100) != name or "$" in name:
        raise ValueError(f"a parameter has the name {brief(name)!r}")
    low, high = (
        infinity if limit is None else checks.number(limit, f"a limit of {name}")
        for limit, infinity in zip(row["limits"], (-math.inf, math.inf), strict=True)
    )
    return Parameter(
        name,
        checks.number(row["value"], name),
        checks.text(row["unit"], f"the unit of {name}"),
        low,
        high,
        checks.truth(row["free"], f"whether {name} is free"),
    )


def _component(row: Any, names: Sequence[str], n_bins: int) -> Component:
    """A component as `LineBackgroundFit.to_dict` writes it."""
    row = checks.mapping(row, "a component")
    kind = checks.text(row["kind"], "the kind of a component", [*ROLES, "function"])
    slots = tuple(
        names.index(checks.text(name, f"a parameter of {kind}", names))
        for name in row["parameters"]
    )
    if kind != "function":
        if len(slots) != len(ROLES[kind]) or "table" in row:
            raise ValueError(f"{kind} has the parameters {', '.join(ROLES[kind])}, and no table")
        return Component(kind, slots)
    table = checks.numbers(row["table"], "a table", (1 + len(slots), n_bins, N_NODES))
    return Component(kind, slots, table=table)


def _check_search(search: Any) -> None:
    """Refuse what is no line search as `LineSearch.to_dict` writes it."""
    search = checks.mapping(search, "line_search")
    for key in ("false_alarm", "threshold"):
        checks.number(search[key], key)
    checks.text(search["stopped"], "stopped")
    checks.texts(search["notes"], "notes")
    for line in search["lines"]:
        for key in ("parameter", "name"):
            checks.text(line[key], key)
        for key in ("energy", "counts", "significance", "global_significance"):
            checks.number(line[key], key)
        for key in ("error", "counts_error"):
            checks.number(line[key] or 0.0, key)
        for row in line["catalogue"]:
            checks.text(row["isotope"], "isotope")
            checks.number(row["energy"], "energy")


def finite_or_null(matrix: NDArray[np.float64]) -> list[list[float | None]]:
    """A matrix as lists for JSON, which knows neither NaN nor infinity."""
    return [[_or_none(x) for x in row] for row in matrix.tolist()]


def _or_none(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None
