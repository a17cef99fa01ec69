"""Bin integrals and their derivatives: against mpmath, and the properties they must have."""

import mpmath as mp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from cosi_linebkg_plugin.errors import BinningError
from cosi_linebkg_plugin.lineshapes import (
    gaussian_counts,
    powerlaw_counts,
    tailed_gaussian_counts,
    tailed_gaussian_density,
)

mp.mp.dps = 50


def _exact_gaussian(low, high, mu, sigma):
    z0, z1 = (mp.mpf(low) - mu) / sigma, (mp.mpf(high) - mu) / sigma
    if z0 > 0:
        return (mp.erfc(z0 / mp.sqrt(2)) - mp.erfc(z1 / mp.sqrt(2))) / 2
    return (mp.erfc(-z1 / mp.sqrt(2)) - mp.erfc(-z0 / mp.sqrt(2))) / 2


def _exact_tail(low, high, mu, sigma, length):
    mu, sigma, length = map(mp.mpf, (mu, sigma, length))

    def excess(y):
        shift = sigma / (mp.sqrt(2) * length)
        return mp.exp(y / length + shift**2) * mp.erfc(y / (mp.sqrt(2) * sigma) + shift) / 2

    y0, y1 = mp.mpf(low) - mu, mp.mpf(high) - mu
    return _exact_gaussian(low, high, mu, sigma) + excess(y1) - excess(y0)


@pytest.mark.parametrize("index", [-1.0, -1.0 + 1e-14, -1.0 - 1e-9, -0.97, -2.03, 0.0, 3.5, -9.0])
@pytest.mark.parametrize("edges", [(1500.0, 1505.0), (100.0, 101.0), (0.2, 5000.0)])
def test_power_law_agrees_with_mpmath(index, edges):
    low, high = edges
    counts, derivatives = powerlaw_counts(edges, 3000.0, 1800.0, index)

    def exact(k, piv, a):
        c = mp.mpf(a) + 1
        ratio = lambda e: (mp.mpf(e) / piv) ** c / c  # noqa: E731
        if c == 0:
            return k * piv * mp.log(mp.mpf(high) / low)
        return k * piv * (ratio(high) - ratio(low))

    assert_allclose(counts[0], float(exact(3000, 1800, index)), rtol=1e-12)
    assert_allclose(derivatives[0, 0], float(exact(1, 1800, index)), rtol=1e-12)
    slope = mp.diff(lambda p: exact(3000, p, index), 1800)
    assert_allclose(derivatives[1, 0], float(slope), rtol=1e-11, atol=1e-9)
    step = mp.mpf("1e-12")
    up, down = (exact(3000, 1800, mp.mpf(index) + s) for s in (step, -step))
    slope = (up - down) / (2 * step)
    assert_allclose(derivatives[2, 0], float(slope), rtol=1e-11)


@pytest.mark.parametrize("sigma", [1e-3, 0.1, 1.0, 3.0, 30.0, 1000.0])
@pytest.mark.parametrize("z", [-37.0, -30.0, -8.4, -1.0, 0.0, 0.4, 5.0, 30.0, 37.0])
def test_gaussian_agrees_with_mpmath(sigma, z):
    mu = 1800.3 - z * sigma
    counts, derivatives = gaussian_counts([1800.0, 1801.0], 1.0, mu, sigma)
    got = [counts[0], *derivatives[0, 1:, 0]]
    exact = [
        _exact_gaussian(1800, 1801, mp.mpf(mu), mp.mpf(sigma)),
        mp.diff(lambda m: _exact_gaussian(1800, 1801, m, mp.mpf(sigma)), mp.mpf(mu)),
        mp.diff(lambda s: _exact_gaussian(1800, 1801, mp.mpf(mu), s), mp.mpf(sigma)),
    ]
    for value, reference in zip(got, exact, strict=True):
        if abs(reference) > 1e-290:
            assert_allclose(value, float(reference), rtol=2e-12)


@pytest.mark.parametrize("sigma", [0.01, 0.3, 3.0, 100.0])
@pytest.mark.parametrize("ratio", [1e-6, 1e-3, 0.1, 1.0, 4.0, 1e3])
@pytest.mark.parametrize("z", [-60.0, -9.0, -1.0, 0.3, 4.0, 25.0])
def test_tail_agrees_with_mpmath(sigma, ratio, z):
    mu, length = 1800.3 - z * sigma, ratio * sigma
    counts, _ = tailed_gaussian_counts([1800.0, 1801.0], 1.0, mu, sigma, 1.0, length)
    exact = _exact_tail(1800, 1801, mu, sigma, length)
    if exact > 1e-290:
        assert_allclose(counts[0], float(exact), rtol=2e-11)


def test_tail_density_integrates_to_the_counts():
    x, w = np.polynomial.legendre.leggauss(40)
    edges = np.linspace(1700, 1830, 27)
    counts, _ = tailed_gaussian_counts(edges, 1.0, 1809.0, 2.9, 0.23, 12.5)
    half = np.diff(edges) / 2
    nodes = edges[:-1, None] + half[:, None] * (1 + x)
    density = tailed_gaussian_density(nodes, 1809.0, 2.9, 0.23, 12.5)
    assert_allclose((density @ w) * half, counts, rtol=1e-12, atol=1e-18)


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
