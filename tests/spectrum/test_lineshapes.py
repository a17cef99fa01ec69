"""Bin integrals and their derivatives: against mpmath, and the properties they must have."""

import mpmath as mp
import numpy as np
import pytest
import truth
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from cosi_linebkg_plugin.errors import BinningError
from cosi_linebkg_plugin.fit.objective import Objective
from cosi_linebkg_plugin.spectrum.axis import EnergySpectrum
from cosi_linebkg_plugin.spectrum.components import ROLES, Component, Parameter, SpectralModel
from cosi_linebkg_plugin.spectrum.kernels import FIT_REACH, FULL_REACH
from cosi_linebkg_plugin.spectrum.lineshapes import (
    annihilation_counts,
    gaussian_counts,
    powerlaw_counts,
    step_counts,
    step_density,
    tailed_gaussian_counts,
    tailed_gaussian_density,
)


def _check(cases):
    n = 0
    for case in cases:
        for c in truth.compare(case):
            n += 1
            assert c.natural <= truth.TOLERANCE, c
    return n


@pytest.mark.parametrize("group", truth.GROUPS)
def test_counts_and_derivatives_are_exact(group):
    """Against mpmath, on a part of the grid of `truth` that meets every branch."""
    cases, part = truth.GROUPS[group]
    assert _check(cases()[::part]) > 900


def test_every_kind_is_compared():
    cases = [case for group, _ in truth.GROUPS.values() for case in group()]
    assert {case.kind for case in cases} == set(ROLES)


@pytest.mark.slow
@pytest.mark.parametrize("group", truth.GROUPS)
def test_counts_and_derivatives_are_exact_everywhere(group):
    cases, _ = truth.GROUPS[group]
    assert _check(cases()) > 9000


@pytest.mark.parametrize(
    ("function", "kind", "values"),
    [
        (powerlaw_counts, "powerlaw", (3000.0, 1790.0, -1.0)),
        (gaussian_counts, "gaussian", (1e4, 1809.3, 2.9)),
        (tailed_gaussian_counts, "tailed_gaussian", (1e4, 1809.3, 2.9, 0.23, 12.5)),
        (annihilation_counts, "annihilation", (1e4, 511.3, 0.9, 0.4, 2.5)),
        (step_counts, "step", (1e4, 1809.3, 2.9, 2e-3)),
    ],
)
def test_the_public_functions_are_what_is_compared(function, kind, values):
    counts, derivatives = function(EDGES, *values)
    got = truth.computed(truth.Case(kind, tuple(EDGES), values))
    assert np.array_equal(np.vstack([counts, derivatives.reshape(-1, counts.size)]), got)


@pytest.mark.parametrize("ratio", [0.0, 1e-3, 0.1, 0.25, 1.0, 4.0, 100.0])
@pytest.mark.parametrize("sigma", [0.3, 3.0, 40.0])
def test_the_reach_of_a_fit_costs_no_counts(sigma, ratio):
    span = sigma * (50.0 + 800.0 * ratio)
    edges = np.linspace(1e7 - span, 1e7 + 50.0 * sigma, 4000)
    kind, values = "gaussian", np.array([1.0, 1e7, sigma])
    if ratio:
        kind, values = "tailed_gaussian", np.array([1.0, 1e7, sigma, 1.0, ratio * sigma])
    model = SpectralModel(
        tuple(Parameter(n, v) for n, v in zip(ROLES[kind], values, strict=True)),
        (Component(kind, tuple(range(values.size))),),
    )
    full = model.bind(edges, FULL_REACH).counts(values)
    cut = model.bind(edges, FIT_REACH).counts(values)
    assert np.count_nonzero(cut) < np.count_nonzero(full)
    assert np.array_equal(cut[cut > 0], full[cut > 0])
    assert np.sum(full[cut == 0]) < 1e-15


def test_tail_density_integrates_to_the_counts():
    x, w = np.polynomial.legendre.leggauss(40)
    edges = np.linspace(1700, 1830, 27)
    counts, _ = tailed_gaussian_counts(edges, 1.0, 1809.0, 2.9, 0.23, 12.5)
    half = np.diff(edges) / 2
    nodes = edges[:-1, None] + half[:, None] * (1 + x)
    density = tailed_gaussian_density(nodes, 1809.0, 2.9, 0.23, 12.5)
    assert_allclose((density @ w) * half, counts, rtol=1e-12, atol=1e-18)


def test_step_density_integrates_to_the_counts():
    x, w = np.polynomial.legendre.leggauss(40)
    edges = np.linspace(1700, 1830, 27)
    counts, _ = step_counts(edges, 1.0, 1809.0, 2.9, 2e-3)
    half = np.diff(edges) / 2
    nodes = edges[:-1, None] + half[:, None] * (1 + x)
    density = step_density(nodes, 1809.0, 2.9, 2e-3)
    assert_allclose((density @ w) * half, counts, rtol=1e-12, atol=1e-18)
    assert counts[0] == pytest.approx(2e-3 * 5.0)


def test_a_step_reaches_from_its_line_to_the_lowest_bin():
    below, above = step_counts([1000, 1010, 1020], [5e3, 7e3], [1500, 900], 2.0, 1e-3)[0]
    assert below == above == pytest.approx(50.0, rel=1e-15)


@pytest.mark.parametrize("mu", [900.0, 999.0, 1001.0, 1499.0, 1500.5, 1600.0])
def test_the_reach_of_a_fit_costs_no_counts_of_a_step(mu):
    """Lines below, on and above the axis, on either reach."""
    values, edges = np.array([1.0, mu, 3.0, 0.5]), np.linspace(1000.0, 1500.0, 251)
    parameters = tuple(Parameter(n, v) for n, v in zip(ROLES["step"], values, strict=True))
    model = SpectralModel(parameters, (Component("step", (0, 1, 2, 3)),))
    full, cut = (model.bind(edges, reach).counts(values) for reach in (FULL_REACH, FIT_REACH))
    assert_allclose(cut, full, rtol=1e-15, atol=1e-15)


@pytest.mark.parametrize(
    "parts",
    [
        {"tailed_gaussian": (3, 4, 5, 6, 7)},
        {"gaussian": (3, 4, 5), "step": (3, 4, 5, 6)},
    ],
    ids=lambda parts: "+".join(parts),
)
def test_the_hessian_of_a_fit_agrees_with_mpmath(parts):
    """Second derivatives of half the deviance, from the steps that a fit takes.

    They are differences of the exact gradient; errors are relative to the diagonal.
    """
    edges = tuple(np.linspace(1750.0, 1830.0, 17))
    line = (2e4, 1790.3, 2.9, 5e-3) if "step" in parts else (2e4, 1790.3, 2.9, 0.23, 12.5)
    theta = np.array([300.0, 1800.0, -1.3, *line])
    parts = {"powerlaw": (0, 1, 2), **parts}
    model = SpectralModel(
        tuple(Parameter(f"p{i}", v) for i, v in enumerate(theta)),
        tuple(Component(kind, slots) for kind, slots in parts.items()),
    )
    rng = np.random.default_rng(3)
    counts = rng.poisson(model.bind(np.array(edges)).counts(theta)).astype(float)
    objective = Objective(model, EnergySpectrum(np.array(edges), counts))

    def gradient(values):
        exact = [
            truth.Reference(truth.Case(kind, edges, tuple(values[s] for s in slots))).exact()
            for kind, slots in parts.items()
        ]
        expected = [sum(bins) for bins in zip(*(rows[0] for rows in exact), strict=True)]
        residual = [1 - mp.mpf(n) / e for n, e in zip(counts, expected, strict=True)]
        out = [mp.mpf(0)] * theta.size
        for slots, rows in zip(parts.values(), exact, strict=True):
            for slot, row in zip(slots, rows[1:], strict=True):
                out[slot] += mp.fdot(residual, row)
        return out

    exact = np.empty((theta.size, theta.size))
    with mp.workdps(truth.LINE_DIGITS):
        for i in range(theta.size):
            up, down = ([mp.mpf(v) for v in theta] for _ in range(2))
            up[i] += mp.mpf("1e-20")
            down[i] -= mp.mpf("1e-20")
            pairs = zip(gradient(up), gradient(down), strict=True)
            exact[i] = [float((u - d) / mp.mpf("2e-20")) for u, d in pairs]
    free = np.delete(np.arange(theta.size), 1)  # a pivot is never free
    sigma = 1.0 / np.sqrt(np.diag(objective.scoring(theta)[2])[free])
    steps = np.minimum(1e-2 * sigma, 1e-3 * np.maximum(np.abs(theta[free]), 1e-3))
    got, exact = objective.hessian(theta, free, steps), exact[np.ix_(free, free)]
    scale = np.sqrt(np.diag(exact))
    difference = np.abs(got - exact) / np.outer(scale, scale)
    assert difference.max() < 2e-6
    gradients = [float(g) for g in gradient([mp.mpf(v) for v in theta])]
    spread = np.sqrt(np.diag(objective.scoring(theta)[2]))
    assert_allclose(objective.gradient(theta) / spread, gradients / spread, rtol=1e-12, atol=1e-12)


lines = st.lists(
    st.tuples(
        st.floats(1.0, 1e6), st.floats(1500.0, 2000.0), st.floats(1e-2, 50.0),
        st.floats(0.0, 1.0), st.floats(1e-2, 100.0),
    ),
    min_size=1, max_size=5,
)  # fmt: skip
EDGES = np.linspace(1400.0, 2100.0, 71)


@given(lines)
def test_splitting_bins_conserves_counts(table):
    columns = np.array(table).T
    fine = np.linspace(EDGES[0], EDGES[-1], 7 * (EDGES.size - 1) + 1)
    coarse, _ = tailed_gaussian_counts(EDGES, *columns)
    split, _ = tailed_gaussian_counts(fine, *columns)
    assert_allclose(split.reshape(-1, 7).sum(axis=1), coarse, rtol=1e-11, atol=1e-9)


@given(lines, st.randoms())
def test_order_of_lines_does_not_matter(table, random):
    shuffled = random.sample(table, len(table))
    a, _ = tailed_gaussian_counts(EDGES, *np.array(table).T)
    b, _ = tailed_gaussian_counts(EDGES, *np.array(shuffled).T)
    assert_allclose(a, b, rtol=1e-12, atol=1e-9)


@given(st.floats(1500.0, 2000.0), st.floats(0.5, 30.0), st.floats(0.01, 0.99), st.floats(0.5, 60.0))
def test_tail_derivatives_agree_with_finite_differences(mu, sigma, fraction, length):
    start = np.array([1e4, mu, sigma, fraction, length])
    _, derivatives = tailed_gaussian_counts(EDGES, *start)
    for k in range(5):
        step = 1e-4 * start[k] if k != 1 else 1e-4 * sigma
        shift = np.zeros(5)
        shift[k] = step
        # five-point difference: error of order step^4
        f = [tailed_gaussian_counts(EDGES, *(start + i * shift))[0] for i in (-2, -1, 1, 2)]
        numeric = (f[0] - 8 * f[1] + 8 * f[2] - f[3]) / (12 * step)
        rounding = 1e-15 * f[0].max() / step
        scale = np.max(np.abs(derivatives[0, k]))
        assert_allclose(derivatives[0, k], numeric, rtol=1e-6, atol=1e-6 * scale + rounding)


@given(st.floats(-8.0, 6.0), st.floats(500.0, 3000.0))
def test_power_law_derivatives_agree_with_finite_differences(index, piv):
    _, derivatives = powerlaw_counts(EDGES, 10.0, piv, index)
    up, _ = powerlaw_counts(EDGES, 10.0, piv, index + 1e-5)
    down, _ = powerlaw_counts(EDGES, 10.0, piv, index - 1e-5)
    assert_allclose(derivatives[2], (up - down) / 2e-5, rtol=1e-6, atol=1e-8 * up.max())


@given(st.floats(-1e-3, 1e-3))
def test_power_law_is_continuous_at_index_minus_one(offset):
    at, derivatives = powerlaw_counts(EDGES, 3000.0, 1800.0, -1.0)
    near, _ = powerlaw_counts(EDGES, 3000.0, 1800.0, -1.0 + offset)
    assert_allclose(near, at + derivatives[2] * offset, rtol=1e-6)


def test_tiny_tail_is_a_gaussian_and_no_tail_is_exactly_one():
    gauss, _ = gaussian_counts(EDGES, 1e5, 1809.0, 2.9)
    tiny, _ = tailed_gaussian_counts(EDGES, 1e5, 1809.0, 2.9, 1.0, 1e-9)
    none, _ = tailed_gaussian_counts(EDGES, 1e5, 1809.0, 2.9, 0.0, 10.0)
    assert_allclose(tiny, gauss, rtol=1e-7, atol=1e-12)
    assert_allclose(none, gauss, rtol=1e-14)


def test_a_line_inside_the_range_keeps_all_its_counts():
    for sigma in (1e-3, 1.0, 20.0):
        counts, _ = gaussian_counts(np.linspace(1000, 2600, 321), 7.0, 1809.3, sigma)
        assert counts.sum() == pytest.approx(7.0, rel=1e-13)


def test_no_lines_give_no_counts():
    counts, derivatives = gaussian_counts(EDGES, [], [], [])
    assert counts.shape == (70,) and not counts.any() and derivatives.shape == (0, 3, 70)


def test_bad_edges_are_refused():
    with pytest.raises(BinningError, match="edge 2 .* follows edge 1"):
        gaussian_counts([1.0, 3.0, 2.0], 1.0, 2.0, 1.0)
