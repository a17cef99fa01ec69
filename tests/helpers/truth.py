"""Bin integrals and their derivatives to 50 digits and more, and the cases they are compared on.

The reference takes the very doubles that the compiled code gets (edges and parameters) and works
from the antiderivatives in energy of the density and of its derivatives, in mpmath, with as many
digits as the differences below need.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import NamedTuple

import mpmath as mp
import numpy as np

from cosi_linebkg_plugin.spectrum.components import ROLES, Component, Parameter, SpectralModel
from cosi_linebkg_plugin.spectrum.kernels import FULL_REACH

#: Digits of the reference. A power law of index -1 + 1e-16 loses 32 of them, and the polynomial
#: times it as many; the tail of a line loses 20.
DIGITS = {"powerlaw": 130, "broken_powerlaw": 130, "powerlaw_polynomial": 130}
LINE_DIGITS = 75
#: The row of the derivative to the share of a broad part: of counts, F, mu, sigma, this.
_BROAD = 4
#: Values below this in magnitude are not compared: they, or what they are made of, underflow.
SMALLEST = 1e-290


class Case(NamedTuple):
    kind: str
    edges: tuple[float, ...]
    values: tuple[float, ...]


def computed(case: Case) -> np.ndarray:
    """Counts and derivatives of the compiled code, shape (1 + n_parameters, n_bins)."""
    names = ROLES[case.kind]
    model = SpectralModel(
        tuple(Parameter(n, v) for n, v in zip(names, case.values, strict=True)),
        (Component(case.kind, tuple(range(len(names)))),),
    )
    counts, jac = model.bind(np.array(case.edges), FULL_REACH).counts_and_jacobian(model.values)
    return np.vstack([counts, jac])


class Reference:
    """The exact numbers of one case."""

    def __init__(self, case: Case):
        self.case = case
        self.is_line = ROLES[case.kind][0] == "F"
        self.digits = DIGITS.get(case.kind, LINE_DIGITS)
        with mp.workdps(self.digits):
            values = [mp.mpf(v) for v in case.values]
            self._at = _ANTIDERIVATIVES[case.kind](*values)
            self._edges = [mp.mpf(e) for e in case.edges]
            self._ends = [self._at(e) for e in self._edges]

    def exact(self) -> list[list[mp.mpf]]:
        """Counts and derivatives, one list of bins each."""
        with mp.workdps(self.digits):
            return [
                [_count(a, b) for a, b in itertools.pairwise(row)]
                for row in zip(*self._ends, strict=True)
            ]

    def scale(self, row: int, i: int) -> mp.mpf:
        """Natural scale of a derivative (see `compare`)."""
        with mp.workdps(self.digits):
            low, high = self._edges[i], self._edges[i + 1]
            if self.case.kind == "annihilation" and row == _BROAD:  # the parts' difference
                return _count(self._ends[i][0], self._ends[i + 1][0])
            inner = [self._at(low + (high - low) * k / 8)[row] for k in range(1, 8)]
            path = [self._ends[i][row], *inner, self._ends[i + 1][row]]
            varied = sum(abs(_count(a, b)) for a, b in itertools.pairwise(path))
            if not self.is_line or isinstance(path[0], _Cumulative):
                return varied
            return min(varied, abs(path[0]) + abs(path[-1]))


class _Cumulative(NamedTuple):
    """Counts below an energy (above: negative), with the sum that makes the two meet."""

    signed: mp.mpf
    above: bool
    norm: mp.mpf


def _count(a, b):
    if isinstance(a, _Cumulative):
        return b.signed - a.signed + (a.norm if b.above and not a.above else 0)
    return b - a


# --- continua ------------------------------------------------------------------------------------


def _power_integrals(u, c):
    """Antiderivatives in v = ln u of e^(cv) and of v e^(cv), each 0 at u = 1."""
    v = mp.log(u)
    if c == 0:
        return v, v * v / 2
    e = mp.exp(c * v)
    return (e - 1) / c, (v * e - (e - 1) / c) / c


def _powerlaw(K, piv, index):
    def at(energy):
        j0, j1 = (piv * j for j in _power_integrals(energy / piv, index + 1))
        return K * j0, j0, -index / piv * K * j0, K * j1

    return at


def _broken(K, piv, alpha, xb, beta):
    ratio = mp.log(xb / piv)

    def at(energy):
        if energy <= xb:
            j0, j1 = (piv * j for j in _power_integrals(energy / piv, alpha + 1))
            return K * j0, j0, -alpha / piv * K * j0, K * j1, mp.mpf(0), mp.mpf(0)
        b0, b1 = (piv * j for j in _power_integrals(xb / piv, alpha + 1))
        norm = mp.exp(alpha * ratio) * xb
        a0, a1 = (norm * j for j in _power_integrals(energy / xb, beta + 1))
        j0 = b0 + a0
        return (
            K * j0,
            j0,
            -alpha / piv * K * j0,
            K * (b1 + ratio * a0),
            K * (alpha - beta) / xb * a0,
            K * a1,
        )

    return at


def _polynomial(K, piv, index, c2, c3):
    square, cube = (1, -2, 1, 0), (-1, 3, -3, 1)
    shape = [(1 if n == 0 else 0) + c2 * square[n] + c3 * cube[n] for n in range(4)]

    def at(energy):
        parts = [_power_integrals(energy / piv, index + 1 + n) for n in range(4)]

        def total(weights, which):
            return piv * sum(w * p[which] for w, p in zip(weights, parts, strict=True))

        slope = [-k * (index + n) / piv for n, k in enumerate(shape)]
        value = total(shape, 0)
        return (
            K * value,
            value,
            K * total(slope, 0),
            K * total(shape, 1),
            K * total(square, 0),
            K * total(cube, 0),
        )

    return at


# --- lines ---------------------------------------------------------------------------------------


def _line(F, mu, sigma, fraction=None, length=None):
    """Cumulative counts and their derivatives to F, mu, sigma (, fraction, length)."""
    root2 = mp.sqrt(2)

    def at(energy):
        z = (energy - mu) / sigma
        above = z >= 0
        n = mp.exp(-z * z / 2) / (mp.sqrt(2 * mp.pi) * sigma)
        q = mp.erfc(abs(z) / root2) / 2
        gauss = -q if above else q
        if fraction is None:
            both = _Cumulative(F * gauss, above, F), _Cumulative(gauss, above, mp.mpf(1))
            return *both, -F * n, -F * z * n
        d = sigma / (root2 * length)
        a = z / root2 + d
        t = mp.exp(root2 * z * d + d * d) * mp.erfc(a) / (2 * length)
        tail = gauss + length * t
        share = (1 - fraction) * gauss + fraction * tail
        return (
            _Cumulative(F * share, above, F),
            _Cumulative(share, above, mp.mpf(1)),
            -F * ((1 - fraction) * n + fraction * t),
            F * (-(1 - fraction) * z * n + fraction * sigma * (t - n) / length),
            F * length * t,
            F * fraction * 2 * d * (d * n - a * t),
        )

    return at


def _step(F, mu, sigma, step):
    """Minus the counts still to come, and its derivatives to F, mu, sigma, step."""

    def at(energy):
        z = (energy - mu) / sigma
        above = z >= 0
        p = mp.exp(-z * z / 2) / mp.sqrt(2 * mp.pi)
        q = mp.erfc(abs(z) / mp.sqrt(2)) / 2
        to_come = sigma * (p - z * (q if above else 1 - q))
        gauss = _Cumulative(F * step * (-q if above else q), above, F * step)
        return -F * step * to_come, -step * to_come, gauss, -F * step * p, -F * to_come

    return at


def _linear_step(F, mu, a, b, step):
    return _with_linear_width(_step, F, mu, a, b, step)


def _linear(F, mu, a, b, *tail):
    return _with_linear_width(_line, F, mu, a, b, *tail)


def _with_linear_width(shape, F, mu, a, b, *others):
    sigma = mp.sqrt(a + b * mu)
    inner = shape(F, mu, sigma, *others)

    def at(energy):
        total, share, d_mu, d_sigma, *rest = inner(energy)
        d_variance = d_sigma / (2 * sigma)
        if isinstance(d_mu, _Cumulative):
            d_mu = d_mu._replace(signed=d_mu.signed + b * d_variance)
        else:
            d_mu += b * d_variance
        return total, share, d_mu, d_variance, mu * d_variance, *rest

    return at


def _annihilation(F, mu, sigma, broad, ratio):
    """Cumulative counts and their derivatives to F, mu, sigma, broad, ratio."""
    narrow, wide = _line(mp.mpf(1), mu, sigma), _line(mp.mpf(1), mu, ratio * sigma)

    def at(energy):
        n, _, n_mu, n_sigma = narrow(energy)
        w, _, w_mu, w_sigma = wide(energy)
        share = (1 - broad) * n.signed + broad * w.signed
        above = n.above
        return (
            _Cumulative(F * share, above, F),
            _Cumulative(share, above, mp.mpf(1)),
            F * ((1 - broad) * n_mu + broad * w_mu),
            F * ((1 - broad) * n_sigma + broad * ratio * w_sigma),
            F * (w.signed - n.signed),
            F * broad * sigma * w_sigma,
        )

    return at


_ANTIDERIVATIVES = {
    "annihilation": _annihilation,
    "powerlaw": _powerlaw,
    "broken_powerlaw": _broken,
    "powerlaw_polynomial": _polynomial,
    "gaussian": _line,
    "tailed_gaussian": _line,
    "linear_gaussian": _linear,
    "linear_tailed_gaussian": _linear,
    "step": _step,
    "linear_step": _linear_step,
}


# --- the cases -----------------------------------------------------------------------------------

_MINUS_ONE = [-1.0, np.nextafter(-1.0, 0.0), np.nextafter(-1.0, -2.0)] + [
    -1.0 + sign * c for c in (1e-14, 1e-9, 1e-5, 1e-2) for sign in (1, -1)
]
_INDICES = [*_MINUS_ONE, -0.5, 0.0, 1.0, 3.5, -2.0, -2.03, -4.0, -9.0]
_BINS = [
    (1500.0, 1505.0, 1510.0),
    (1795.0, 1800.0, 1805.0, 1810.0),
    (1799.9, 1800.05, 1800.1),
    (1800.0, 1800.0 * (1 + 2.0**-30), 1801.0),
    (100.0, 101.0, 140.0, 250.0),
    (50.0, 500.0, 3000.0),
    (0.2, 5000.0),
    (1e-3, 1.0, 1e4),
]
_PIVOTS = [1800.0, 1800.0123, 1507.5, 511.0, 1.0, 1e5]
#: Distance of a bin's low edge from the line, in sigma.
_DISTANCES = [0.0, 1e-3, 0.1, 0.4, 0.9, 1.0, 1.3, 2.0, 3.1, 4.5, 6.0, 8.3, 12.0, 15.0, 21.0, 30.0,
              36.0]  # fmt: skip
_WIDTHS = [1e-3, 1e-2, 0.1, 0.5, 1.0, 3.7, 10.0, 100.0, 1e3]
#: Tail lengths in sigma.
_LENGTHS = [1e-3, 1e-2, 0.05, 0.1, 0.2, 0.235, 0.3, 0.36, 0.5, 1.0, 3.0, 5.0, 10.0, 35.0, 100.0,
            1e3]  # fmt: skip
#: Energies below the line, in tail lengths.
_FOLDS = [0.3, 1.0, 5.0, 30.0, 200.0, 600.0]
_LINE_BINS = (1798.0, 1799.5, 1800.0, 1801.0, 1803.0)


def continuum_cases() -> list[Case]:
    """Every branch of the three continua."""
    cases = [
        Case("powerlaw", edges, (3000.0, piv, float(index)))
        for edges, piv, index in itertools.product(_BINS, _PIVOTS, _INDICES)
    ]
    for edges, piv in itertools.product(_BINS, (1800.0, 511.0)):
        middle = 0.5 * (edges[0] + edges[1])
        breaks = [middle, edges[1], np.nextafter(edges[1], 0.0), np.nextafter(edges[0], 1e9),
                  edges[0] / 2, edges[-1] * 3, piv]  # fmt: skip
        slopes = [(-1.0, -2.5), (-2.5, -1.0), (-1.0 + 1e-9, -3.0), (0.7, -9.0), (-2.0, -2.0)]
        cases += [
            Case("broken_powerlaw", edges, (3000.0, piv, alpha, float(xb), beta))
            for xb, (alpha, beta) in itertools.product(breaks, slopes)
        ]
    for edges, piv in itertools.product(_BINS, _PIVOTS[:5]):
        if max(edges[-1] / piv, piv / edges[0]) < 1e6:
            curves = [(0.0, 0.0), (12.0, -30.0), (0.5, 1e-3), (-102.78, 388.9)]
            cases += [
                Case("powerlaw_polynomial", edges, (3000.0, piv, float(index), *curve))
                for index, curve in itertools.product(_INDICES[::3], curves)
            ]
    return cases


def gaussian_cases() -> list[Case]:
    """Lines from 1e-3 to 1e3 bins wide, out to 36 sigma on either side, and centred on a bin."""
    cases = []
    for sigma, z, sign in itertools.product(_WIDTHS, _DISTANCES, (1, -1)):
        mu = 1800.0 - sign * z * sigma
        cases.append(Case("gaussian", _LINE_BINS, (1e4, mu, sigma)))
        if mu > 0:
            law = (0.3 * sigma**2, 0.7 * sigma**2 / mu)
            cases.append(Case("linear_gaussian", _LINE_BINS, (1e4, mu, *law)))
    cases += [Case("gaussian", _LINE_BINS, (1e4, 1800.5, sigma)) for sigma in _WIDTHS]
    return cases


def tail_cases() -> list[Case]:
    """The same with tails of 1e-3 to 1e3 sigma, and out to 600 tail lengths."""
    cases = []
    for sigma, ratio in itertools.product(_WIDTHS, _LENGTHS):
        length = ratio * sigma
        places = [1800.0 - sign * z * sigma for z in _DISTANCES for sign in (1, -1)]
        places += [1800.0 + k * length for k in _FOLDS if k * ratio > 1.0] + [1800.5]
        for n, mu in enumerate(places):
            fraction = (1.0, 0.23)[n % 2]
            cases.append(Case("tailed_gaussian", _LINE_BINS, (1e4, mu, sigma, fraction, length)))
            if mu > 0 and n % 5 == 0:
                law = (0.3 * sigma**2, 0.7 * sigma**2 / mu)
                cases.append(
                    Case("linear_tailed_gaussian", _LINE_BINS, (1e4, mu, *law, fraction, length))
                )
    return cases


def step_cases() -> list[Case]:
    """The cases of a Gaussian with its step in its place, and bins far below it."""
    cases = []
    for case in gaussian_cases():
        kind = case.kind.replace("gaussian", "step")
        cases.append(Case(kind, case.edges, (*case.values, (2e-3, 0.7)[len(cases) % 2])))
    for sigma, far in itertools.product(_WIDTHS, (30.0, 38.0, 39.0, 60.0, 1e3)):
        cases.append(Case("step", _LINE_BINS, (1e4, 1800.0 + far * sigma, sigma, 2e-3)))
    return cases


def annihilation_cases() -> list[Case]:
    """The cases of a Gaussian with a broad part."""
    cases = []
    for case in gaussian_cases():
        if case.kind == "gaussian":
            for shape in ((0.5, 2.0), (0.1, 1.2), (0.9, 7.0))[len(cases) % 3 :][:2]:
                cases.append(Case("annihilation", case.edges, (*case.values, *shape)))
    return cases


#: What is compared in a default run: every n-th case, n a prime that no loop above repeats with.
GROUPS = {
    "continuum": (continuum_cases, 23),
    "gaussian": (gaussian_cases, 7),
    "annihilation": (annihilation_cases, 7),
    "step": (step_cases, 7),
    "tail": (tail_cases, 19),
}
#: Largest error of any count and any derivative.
TOLERANCE = 1e-12


class Compared(NamedTuple):
    """One number against the exact one."""

    name: str
    case: Case
    bin: int
    relative: float
    #: The error relative to the natural scale.
    natural: float


def compare(case: Case) -> Iterator[Compared]:
    """Compare all counts and derivatives of a case.

    The natural scale of a derivative is the integral over the bin of the magnitude of what it
    integrates, the derivative of the density: the magnitude of the derivative itself, but where
    the integrand changes sign within the bin. For a line it is never taken larger than the sum
    of the magnitudes of the two terms, one for each edge, whose difference the derivative is.
    """
    reference = Reference(case)
    exact, got = reference.exact(), computed(case)
    for k, name in enumerate(("counts", *ROLES[case.kind])):
        for i, true in enumerate(exact[k]):
            if abs(true) < SMALLEST:
                continue
            difference = abs(mp.mpf(float(got[k, i])) - true)
            relative = natural = float(difference / abs(true))
            if not relative <= 0.1 * TOLERANCE:
                natural = float(difference / max(reference.scale(k, i), abs(true)))
            yield Compared(name, case, i, relative, natural)
