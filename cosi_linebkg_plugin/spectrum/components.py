"""A background spectrum as numbers: parameters, components, and their expected counts."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import ModelError
from .axis import check_edges, check_inside, overlapping_bins
from .kernels import (
    BROADENED,
    BROKEN,
    FIT_REACH,
    FULL_REACH,
    GAUSSIAN,
    MIN_VARIANCE,
    POLYNOMIAL,
    POWERLAW,
    ROW,
    STEP,
    TAILED,
    accumulate,
    tables,
)
from .laws import Law
from .lineshapes import EnergyGrid, tail_folds
from .priors import Prior

Array = NDArray[np.float64]

#: Continua that bend, by the kind of their component.
BENT_CONTINUA = ("broken_powerlaw", "powerlaw_polynomial")

#: Parameter roles of each kind of component, in the order of its slots.
ROLES = {
    "powerlaw": ("K", "piv", "index"),
    "broken_powerlaw": ("K", "piv", "alpha", "xb", "beta"),
    "powerlaw_polynomial": ("K", "piv", "index", "c2", "c3"),
    "gaussian": ("F", "mu", "sigma"),
    "tailed_gaussian": ("F", "mu", "sigma", "fraction", "length"),
    "linear_gaussian": ("F", "mu", "a", "b"),
    "linear_tailed_gaussian": ("F", "mu", "a", "b", "fraction", "length"),
    "annihilation": ("F", "mu", "sigma", "broad", "ratio"),
    "step": ("F", "mu", "sigma", "step"),
    "linear_step": ("F", "mu", "a", "b", "step"),
}

#: The number of each kind in the table of the compiled functions.
_NUMBERS = {
    "powerlaw": POWERLAW,
    "broken_powerlaw": BROKEN,
    "powerlaw_polynomial": POLYNOMIAL,
    "gaussian": GAUSSIAN,
    "tailed_gaussian": TAILED,
    "linear_gaussian": GAUSSIAN,
    "linear_tailed_gaussian": TAILED,
    "annihilation": BROADENED,
    "step": STEP,
    "linear_step": STEP,
}

_STEPS = ("step", "linear_step")

_LINES = tuple(k for k, roles in ROLES.items() if roles[0] == "F" and k not in _STEPS)

#: Lines and steps whose variance is a + b mu, and those with a sigma.
_LINEAR = tuple(k for k in ROLES if k.startswith("linear"))

_ONE_WIDTH = tuple(k for k, roles in ROLES.items() if roles[0] == "F" and k not in _LINEAR)

#: Gauss-Legendre nodes per energy bin for densities without a closed-form integral.
N_NODES = 8

_NODES, _NODE_WEIGHTS = np.polynomial.legendre.leggauss(N_NODES)


@dataclass(frozen=True)
class Parameter:
    """One number of the model.

    Attributes
    ----------
    name : str
        As in the astromodels composite: K_1, index_1, F_2, mu_2, sigma_2 ...
    value : float
        Start value; energies in keV.
    unit : str
    low, high : float
        Limits, infinite where there is none.
    free : bool
    prior : Prior or None
        Penalty on the likelihood of a fit; density of a posterior.
    """

    name: str
    value: float
    unit: str = ""
    low: float = -np.inf
    high: float = np.inf
    free: bool = True
    prior: Prior | None = None

    @property
    def limits(self) -> tuple[float, float]:
        """Where it may be: its own limits, within the support of its prior.

        Raises
        ------
        ModelError
            If these have nothing in common.
        """
        if self.prior is None:
            return self.low, self.high
        below, above = self.prior.support
        low, high = max(self.low, below), min(self.high, above)
        if low > high:
            raise ModelError(
                f"The prior of {self.name} reaches from {below:g} to {above:g}, outside the "
                f"parameter's limits {self.low:g} to {self.high:g}; change one of them."
            )
        return low, high


@dataclass(frozen=True, eq=False)
class Component:
    """A power law, a line, or any other density.

    Attributes
    ----------
    kind : str
        A key of `ROLES`, or "function".
    slots : tuple of int
        Which parameters it takes, in the order of its roles.
    norm : int or None
        For "function": the parameter in which it is linear, if one is known.
    density : callable or None
        For "function": ``density(energies, values) -> counts/keV``.
    table : ndarray or None, shape (1 + n_slots, n_bins, N_NODES), counts/keV
        For "function" read back from a file: its density at the nodes of each bin, followed by
        the derivatives to its parameters, at the best fit.
    faint : bool
        A line that may be there although the counts do not show it; see `fit.faint`.
    """

    kind: str
    slots: tuple[int, ...]
    density: Callable[[Array, Array], Array] | None = None
    table: Array | None = None
    norm: int | None = None
    faint: bool = False

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Component):
            return NotImplemented
        mine = (self.kind, self.slots, self.density, self.norm, self.faint)
        if mine != (other.kind, other.slots, other.density, other.norm, other.faint):
            return False
        if self.table is None or other.table is None:
            return self.table is other.table
        return bool(np.array_equal(self.table, other.table))

    def __hash__(self) -> int:
        return hash((self.kind, self.slots, self.norm))

    @property
    def is_line(self) -> bool:
        """Whether it is a line, which has an energy and a width."""
        return self.kind in _LINES

    @property
    def is_step(self) -> bool:
        """Whether it is the step under a line, with which it shares area, energy and width."""
        return self.kind in _STEPS

    @property
    def label(self) -> str:
        """What the component belongs to: "lines", or "continuum", as the step under a line does."""
        return "lines" if self.is_line else "continuum"

    @property
    def amplitude(self) -> int | None:
        """The parameter in which the counts are linear: K, F, or a function's norm."""
        return self.norm if self.kind == "function" else self.slots[0]

    @property
    def area(self) -> int:
        """Of a line or its step: the parameter F, the line's counts."""
        return self.slots[0]

    @property
    def energy(self) -> int:
        """Of a line or its step: the parameter mu, its energy [keV]."""
        return self.slots[1]

    @property
    def width_slots(self) -> tuple[int, ...]:
        """Of a line or its step: sigma, or the two a and b of sigma^2 = a + b mu."""
        return self.slots[2:4] if self.kind in _LINEAR else self.slots[2:3]

    @property
    def tail_slots(self) -> tuple[int, ...]:
        """Of a line with a low-energy tail: fraction and length."""
        return self.slots[-2:] if self.kind.endswith("tailed_gaussian") else ()

    @property
    def broad_slots(self) -> tuple[int, ...]:
        """Of an annihilation line: share of its broad part, and the ratio of the widths."""
        return self.slots[-2:] if self.kind == "annihilation" else ()

    def sigma(self, theta: Array) -> float:
        """Of a line or its step: its width [keV], that of the narrow part if there are two."""
        if self.kind not in _LINEAR:
            return float(theta[self.slots[2]])
        a, b = theta[self.slots[2]], theta[self.slots[3]]
        return math.sqrt(max(a + b * theta[self.energy], MIN_VARIANCE))


@dataclass(frozen=True)
class SpectralModel:
    """Components that draw their parameters from one list.

    Attributes
    ----------
    parameters : tuple of Parameter
        A shared parameter stands once.
    components : tuple of Component
    links : dict
        Names of linked parameters, to the name of the one that they equal.
    derived : tuple of (int, int, Law)
        Slots that follow another slot by a law: (slot, source slot, law); a source that follows
        another one itself comes first.
    """

    parameters: tuple[Parameter, ...]
    components: tuple[Component, ...]
    links: dict[str, str] = field(default_factory=dict)
    derived: tuple[tuple[int, int, Law], ...] = ()

    def __post_init__(self) -> None:
        if not self.components:
            raise ModelError("The background model has no component; add a power law or a line.")

    @property
    def values(self) -> Array:
        """Start values, shape (n_parameters,)."""
        return np.array([p.value for p in self.parameters])

    @property
    def free(self) -> NDArray[np.int64]:
        """Slots of the free parameters."""
        return np.flatnonzero([p.free for p in self.parameters])

    @property
    def names(self) -> list[str]:
        """Names of the parameters, in the order of their slots."""
        return [p.name for p in self.parameters]

    @property
    def lines(self) -> tuple[int, ...]:
        """Which of the components are lines, faint ones left out."""
        return tuple(i for i, c in enumerate(self.components) if c.is_line and not c.faint)

    @property
    def faint(self) -> tuple[int, ...]:
        """Which of the components are faint lines; their parameters are the last ones."""
        return tuple(i for i, c in enumerate(self.components) if c.faint)

    def without_faint(self) -> SpectralModel:
        """The model without its faint lines."""
        if not self.faint:
            return self
        first = min(self.components[i].area for i in self.faint)
        kept = tuple(c for c in self.components if not c.faint)
        return replace(self, parameters=self.parameters[:first], components=kept)

    @property
    def continuum(self) -> tuple[int, ...]:
        """Which of the components are none of the lines."""
        return tuple(i for i, c in enumerate(self.components) if not c.is_line)

    @property
    def smooth_continuum(self) -> tuple[int, ...]:
        """The continuum without the steps under lines."""
        return tuple(i for i in self.continuum if not self.components[i].is_step)

    @property
    def continuum_slots(self) -> list[int]:
        """Slots of the parameters that the smooth continuum takes."""
        return sorted({slot for i in self.smooth_continuum for slot in self.components[i].slots})

    def slots(self, names: Iterable[str]) -> list[int]:
        """Slots of parameters by name, e.g. the columns of a covariance matrix."""
        index = {p.name: i for i, p in enumerate(self.parameters)}
        return [index[name] for name in names]

    def resolve(self, theta: Array) -> Array:
        """`theta`, shape (n_parameters,), with the values of those that follow others by a law."""
        if not self.derived:
            return theta
        theta = np.array(theta, dtype=float)
        for slot, source, law in self.derived:
            theta[slot] = law.at(theta)(theta[source])
        return theta

    def slopes(self, theta: Array) -> Array:
        """Derivatives of `resolve`, shape (n_parameters, n_parameters): row i is that of slot i."""
        out = np.eye(len(self.parameters))
        theta = self.resolve(theta)
        for slot, source, law in self.derived:
            here = law.at(theta)
            out[slot] = here.slope(theta[source]) * out[source]
            if law.slots:
                out[slot] += here.slopes_of_values(theta[source]) @ out[list(law.slots)]
        return out

    def require_functions(self) -> None:
        """Refuse what can be evaluated at the best fit alone, as it was read from a file.

        Raises
        ------
        ModelError
        """
        lost = []
        if [c for c in self.components if c.kind == "function" and c.density is None]:
            lost.append("a continuum function of your own")
        if [law for _, _, law in self.derived if law.tangent]:
            lost.append("a law between parameters")
        if [p for p in self.parameters if p.prior is not None and not p.prior.is_known]:
            lost.append("a prior")
        if lost:
            raise ModelError(
                f"This fit was read from a file, which keeps {' and '.join(lost)} at the best fit "
                "alone: its counts, errors and templates are right, but it cannot be fitted again "
                "or sampled. Fit the spectrum again with the model itself."
            )

    def component_name(self, index: int, theta: Array) -> str:
        """A short name: "continuum", "1778.97 keV", or "step at 1778.97 keV"."""
        component = self.components[index]
        if component.is_line or component.is_step:
            return f"{'step at ' * component.is_step}{theta[component.energy]:.2f} keV"
        same = self.smooth_continuum
        return "continuum" if len(same) == 1 else f"continuum {same.index(index) + 1}"

    def bind(self, bins: Array | EnergyGrid, reach: float = FIT_REACH) -> BoundModel:
        """The model on energy bins (edges in keV, or a grid), ready to be evaluated many times."""
        return BoundModel(self, bins, reach)

    def select(self, indices: Sequence[int]) -> SpectralModel:
        """The same parameters with some of the components only."""
        chosen = tuple(self.components[i] for i in indices)
        return SpectralModel(self.parameters, chosen, self.links, self.derived)


class BoundModel:
    """A `SpectralModel` on fixed energy bins.

    Parameters
    ----------
    model : SpectralModel
    bins : ndarray, shape (n_bins + 1,), keV; or EnergyGrid
    reach : float
        `FIT_REACH` for fits, `FULL_REACH` where every last digit of a tail counts.
    """

    def __init__(
        self,
        model: SpectralModel,
        bins: Array | EnergyGrid,
        reach: float = FIT_REACH,
    ) -> None:
        self.model = model
        self.grid = bins if isinstance(bins, EnergyGrid) else EnergyGrid.from_edges(bins)
        self.n_bins = self.grid.log_mid.size
        self._reach, self._folds = reach, tail_folds(reach)
        self._tables = tables(_row(c) for c in model.components if c.kind != "function")
        self._functions = [c for c in model.components if c.kind == "function"]
        self._no_jac = np.empty((0, 0))

    @property
    def kernel(self) -> tuple[Any, ...] | None:
        """Arguments of the compiled likelihood, or None if part of the model is not compiled."""
        if self._functions or self.model.derived:
            return None
        return (*self.grid, *self._tables, self._reach, self._folds)

    def counts(self, theta: Array) -> Array:
        """Expected counts per bin, shape (n_bins,)."""
        theta = self.model.resolve(theta)
        total = np.zeros(self.n_bins)
        self.accumulate(theta, total, self._no_jac)
        for component in self._functions:
            total += _function_counts(component, self.grid.edges, theta)
        return total

    def counts_and_jacobian(self, theta: Array) -> tuple[Array, Array]:
        """Expected counts, shape (n_bins,), and derivatives, shape (n_parameters, n_bins)."""
        resolved = self.model.resolve(theta)
        total, jac = np.zeros(self.n_bins), np.zeros((theta.size, self.n_bins))
        self.accumulate(resolved, total, jac)
        for component in self._functions:
            value, derivatives = _function_counts_and_jacobian(component, self.grid.edges, resolved)
            total += value
            for slot, derivative in zip(component.slots, derivatives, strict=True):
                jac[slot] += derivative
        for slot, source, law in reversed(self.model.derived):
            here = law.at(resolved)
            jac[source] += jac[slot] * here.slope(resolved[source])
            if law.slots:
                own = here.slopes_of_values(resolved[source])
                for parameter, slope in zip(law.slots, own, strict=True):
                    jac[parameter] += jac[slot] * slope
        return total, jac

    def accumulate(self, theta: Array, total: Array, jac: Array) -> None:
        """Add the counts of compiled components to `total`, derivatives to `jac`, if not empty."""
        accumulate(*self.grid, theta, *self._tables, self._reach, self._folds, total, jac)


def range_counts(
    model: SpectralModel,
    theta: Array,
    low: float,
    high: float,
    edges: Array,
) -> tuple[Array, Array]:
    """Expected counts of each component in one energy range, and their derivatives.

    Parameters
    ----------
    model : SpectralModel
    theta : ndarray, shape (n_parameters,)
    low, high : float, keV
        Inside the energy axis `edges`, anywhere within its bins.
    edges : ndarray, shape (n_bins + 1,), keV

    Returns
    -------
    counts : ndarray, shape (n_components,)
    jacobian : ndarray, shape (n_components, n_parameters)
    """
    low, high = check_inside(edges, low, high, "energy range")
    counts = np.zeros(len(model.components))
    jac = np.zeros((len(model.components), len(model.parameters)))
    for i, component in enumerate(model.components):
        if component.table is not None:
            density = _integrate_table(component.table, edges, low, high)
            counts[i] = density[0]
            jac[i] = density[1:] @ model.slopes(theta)[list(component.slots)]
        else:
            inside = edges[(edges > low) & (edges < high)]
            bound = model.select([i]).bind(
                np.concatenate(([low], inside, [high])), reach=FULL_REACH
            )
            value, derivative = bound.counts_and_jacobian(theta)
            counts[i], jac[i] = value.sum(), derivative.sum(axis=1)
    return counts, jac


def component_counts(
    model: SpectralModel, index: int, theta: Array, bins: Array, edges: Array
) -> tuple[Array, Array]:
    """Expected counts of one component in each of some energy bins, and their derivatives.

    Parameters
    ----------
    bins : ndarray, shape (n + 1,), keV
        None reaches across an edge of the fit.
    edges : ndarray, shape (n_bins + 1,), keV
        Those of the fit: a function read back from a file is known there alone.

    Returns
    -------
    counts : ndarray, shape (n,)
    derivatives : ndarray, shape (n_parameters, n)
    """
    if model.components[index].table is None:
        return model.select([index]).bind(bins, FULL_REACH).counts_and_jacobian(theta)
    alone, pairs = model.select([index]), itertools.pairwise(bins.tolist())
    found = [range_counts(alone, theta, a, b, edges) for a, b in pairs]
    return np.array([c[0] for c, _ in found]), np.array([j[0] for _, j in found]).T


def line_share(
    model: SpectralModel,
    theta: Array,
    index: int,
    energy: float,
    energy_range: tuple[float, float],
) -> tuple[float, Array]:
    """Share of a line in an energy range [keV], were it at `energy`, and its derivatives.

    Parameters
    ----------
    index : int
        The component whose shape (width, tail) the line has.

    Returns
    -------
    share : float
    derivatives : ndarray, shape (n_parameters,)
    """
    bins = np.array(energy_range, dtype=float)
    share, slopes = line_shares(model, theta, index, energy, bins)
    return float(share[0]), slopes[:, 0]


def line_shares(
    model: SpectralModel, theta: Array, index: int, energy: float, bins: Array
) -> tuple[Array, Array]:
    """As `line_share` in each bin between edges `bins` [keV]; shapes (n,) and (n_parameters, n)."""
    n = len(model.parameters)
    moved = replace(model.components[index], slots=(n, n + 1, *model.components[index].slots[2:]))
    parameters = (*model.parameters, Parameter("F", 1.0), Parameter("mu", energy))
    alone = SpectralModel(parameters, (moved,), derived=model.derived)
    shares, slopes = alone.bind(bins, FULL_REACH).counts_and_jacobian(
        np.append(theta, [1.0, energy])
    )
    return shares, slopes[:n]


def bin_counts(model: SpectralModel, theta: Array, edges: Array) -> tuple[Array, Array]:
    """Expected counts of each component in each bin of the fit, and derivatives of their sum.

    Parameters
    ----------
    edges : ndarray, shape (n_bins + 1,), keV
        Those of the fit: a function read back from a file is known there alone.

    Returns
    -------
    counts : ndarray, shape (n_components, n_bins)
    jacobian : ndarray, shape (n_parameters, n_bins)
    """
    counts, grid = [], EnergyGrid.from_edges(edges)
    plain = [i for i, component in enumerate(model.components) if component.table is None]
    if plain:
        _, jac = model.select(plain).bind(grid).counts_and_jacobian(theta)
    else:
        jac = np.zeros((len(model.parameters), edges.size - 1))
    for i, component in enumerate(model.components):
        if component.table is None:
            counts.append(model.select([i]).bind(grid).counts(theta))
        else:
            counts.append(_integrate(component.table[0], edges))
            slopes = model.slopes(theta)
            for slot, derivative in zip(component.slots, component.table[1:], strict=True):
                jac += np.outer(slopes[slot], _integrate(derivative, edges))
    return np.array(counts), jac


def counts_in_bins(
    model: SpectralModel,
    theta: Array,
    low: float,
    high: float,
    edges: Array,
) -> Array:
    """Expected counts of each component in what an energy range [keV] covers of each bin.

    Returns
    -------
    ndarray, shape (n_components, n_bins)
    """
    out = np.zeros((len(model.components), edges.size - 1))
    for i in np.flatnonzero(overlapping_bins(edges, low, high)):
        a, b = max(low, float(edges[i])), min(high, float(edges[i + 1]))
        out[:, i] = range_counts(model, theta, a, b, edges)[0]
    return out


def tabulate(model: SpectralModel, theta: Array, edges: Array) -> SpectralModel:
    """The model with its functions replaced by their values, so that it can go into a file."""
    components = []
    theta = model.resolve(theta)
    for component in model.components:
        if component.density is not None and component.table is None:
            nodes = _nodes(edges)
            rows = [component.density(nodes, theta[list(component.slots)])]
            rows += _derivatives(component, nodes, theta)
            component = replace(component, table=np.array(rows, dtype=float))
        components.append(component)
    derived = tuple((i, k, law.for_a_file(theta[k])) for i, k, law in model.derived)
    return SpectralModel(model.parameters, tuple(components), model.links, derived)


def _row(component: Component) -> tuple[int, ...]:
    """Its kind and slots as `kernels.accumulate` takes them."""
    slots, kind = component.slots, component.kind
    if kind in _ONE_WIDTH:
        slots = (*slots[:3], -1, *slots[3:])
    return (_NUMBERS[kind], *slots, *(-1,) * (ROW - 1 - len(slots)))


def _nodes(edges: Array) -> Array:
    """Gauss-Legendre nodes of each bin, shape (n_bins, N_NODES), keV."""
    half = 0.5 * np.diff(edges)[:, None]
    return edges[:-1, None] + half * (1.0 + _NODES)


def _integrate(density: Array, edges: Array) -> Array:
    return 0.5 * np.diff(edges) * (density @ _NODE_WEIGHTS)


def _function_counts(component: Component, edges: Array, theta: Array) -> Array:
    if component.density is None:
        raise ModelError(
            "A fit read from a file keeps the counts of its functions, not the functions; "
            "fit again with the model to change their parameters."
        )
    return _integrate(component.density(_nodes(edges), theta[list(component.slots)]), edges)


def _function_counts_and_jacobian(
    component: Component, edges: Array, theta: Array
) -> tuple[Array, list[Array]]:
    counts = _function_counts(component, edges, theta)
    derivatives = _derivatives(component, _nodes(edges), theta)
    return counts, [_integrate(d, edges) for d in derivatives]


def _derivatives(component: Component, nodes: Array, theta: Array) -> list[Array]:
    """Central differences of a density that comes without derivatives."""
    assert component.density is not None
    values = theta[list(component.slots)].astype(float)
    rows = []
    for k in range(values.size):
        step = 1e-5 * max(abs(values[k]), 1e-5)
        shifted = values.copy()
        shifted[k] += step
        up = component.density(nodes, shifted)
        shifted[k] -= 2 * step
        rows.append((up - component.density(nodes, shifted)) / (2 * step))
    return rows


def _integrate_table(table: Array, edges: Array, low: float, high: float) -> Array:
    """Integrate tabulated densities over [low, high], exact for the nodes' polynomial."""
    check_edges(edges)
    total = np.zeros(table.shape[0])
    vandermonde = np.polynomial.legendre.legvander(_NODES, N_NODES - 1)
    inverse = np.linalg.inv(vandermonde)
    for i in range(edges.size - 1):
        a, b = max(low, edges[i]), min(high, edges[i + 1])
        if a >= b:
            continue
        half = 0.5 * (edges[i + 1] - edges[i])
        middle = 0.5 * (edges[i + 1] + edges[i])
        for row in range(table.shape[0]):
            primitive = np.polynomial.legendre.legint(inverse @ table[row, i])
            total[row] += (
                half
                * np.diff(
                    np.polynomial.legendre.legval((np.array([a, b]) - middle) / half, primitive)
                )[0]
            )
    return total
