"""Weighted sums of energy slices against plain numpy."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cosi_linebkg_plugin.histograms import slices
from cosi_linebkg_plugin.histograms.slices import (
    DenseContents,
    Layout,
    SparseContents,
    add_sparse,
    count_sparse,
    dense_sums,
    energy_runs,
    new_sums,
)

pytestmark = pytest.mark.filterwarnings("error:::cosi_linebkg_plugin")

# The first call of a kernel compiles it, which no deadline allows for.
relaxed = settings(deadline=None, max_examples=60)


@st.composite
def stored_contents(draw):
    """A layout and random dense contents, overflow cells included."""
    n_bins = tuple(draw(st.lists(st.integers(1, 5), min_size=1, max_size=4)))
    offsets = tuple(draw(st.integers(0, 1)) for _ in n_bins)
    layout = Layout(n_bins, draw(st.integers(0, len(n_bins) - 1)), offsets)
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    stored = tuple(n + 2 * offset for n, offset in zip(n_bins, offsets, strict=True))
    contents = rng.poisson(draw(st.sampled_from([0.3, 5.0])), stored).astype(float)
    return layout, contents, rng


def inside(layout, contents):
    """The contents without overflow cells."""
    bins = zip(layout.n_bins, layout.offsets, strict=True)
    return contents[tuple(slice(o, o + n) for n, o in bins)]


def reference_sums(layout, contents, weights):
    """T = w @ M by einsum."""
    slabs = np.moveaxis(inside(layout, contents), layout.energy_axis, 0)
    return np.einsum("ke,e...->k...", weights, slabs).reshape(len(weights), -1)


def random_weights(rng, n_sets, n_energies):
    """Weights of both signs, some of them 0."""
    return rng.normal(size=(n_sets, n_energies)) * (rng.random(n_energies) < 0.6)


def sparse_of(layout, contents, order=None):
    coords = np.array(np.nonzero(contents), dtype=np.int64)
    data = contents[tuple(coords)]
    if order is not None:
        shuffled = order.permutation(data.size)
        coords, data = coords[:, shuffled], data[shuffled]
    return SparseContents(layout, coords, data)


def sums_of(contents, weights):
    out = new_sums(len(weights), int(np.prod(contents.layout.other_shape)))
    contents.add(weights, out)
    return out


@given(stored_contents(), st.integers(1, 4))
@relaxed
def test_sparse_and_dense_sums_equal_einsum(case, n_sets):
    layout, contents, rng = case
    weights = random_weights(rng, n_sets, layout.n_energies)
    expected = reference_sums(layout, contents, weights)
    for stored in (
        sparse_of(layout, contents),
        sparse_of(layout, contents, order=rng),
        DenseContents(layout, contents),
    ):
        np.testing.assert_allclose(sums_of(stored, weights), expected, rtol=1e-12, atol=1e-12)


@given(stored_contents())
@relaxed
def test_energy_counts_leave_out_the_overflow_of_any_axis(case):
    layout, contents, rng = case
    expected = inside(layout, contents).sum(axis=layout.other_axes)
    for stored in (sparse_of(layout, contents, order=rng), DenseContents(layout, contents)):
        counts, bad = stored.energy_counts()
        assert bad is None
        np.testing.assert_array_equal(counts, expected)  # whole numbers add up exactly


@given(stored_contents(), st.sampled_from([1, 3, 7]))
@relaxed
def test_the_size_of_the_blocks_does_not_matter(case, block):
    layout, contents, rng = case
    weights = random_weights(rng, 2, layout.n_energies)
    whole = DenseContents(layout, contents)
    expected, counts = sums_of(whole, weights), whole.energy_counts()[0]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(slices, "BLOCK", block)
        np.testing.assert_allclose(sums_of(whole, weights), expected, rtol=1e-12, atol=1e-12)
        np.testing.assert_array_equal(whole.energy_counts()[0], counts)


@given(stored_contents())
@relaxed
def test_sets_of_weights_at_once_equal_one_by_one(case):
    layout, contents, rng = case
    weights = random_weights(rng, 3, layout.n_energies)
    stored = sparse_of(layout, contents)
    one_by_one = np.concatenate([sums_of(stored, row[None]) for row in weights])
    np.testing.assert_array_equal(sums_of(stored, weights), one_by_one)


def test_spans_longer_than_the_buffer():
    """More filled cells in one energy run than the kernel handles at once."""
    rng = np.random.default_rng(1)
    layout = Layout((7, 3, 5000), 1, (0, 0, 0))
    contents = rng.poisson(2.0, layout.n_bins).astype(float)
    weights = np.array([[0.5, 0.0, -2.0]])
    np.testing.assert_allclose(
        sums_of(sparse_of(layout, contents), weights),
        reference_sums(layout, contents, weights),
        rtol=1e-12,
    )


@pytest.mark.parametrize("index_type", [np.int64, np.int32, np.uint16])
@pytest.mark.parametrize("data_type", [np.float64, np.float32, np.int32, np.uint8])
def test_any_type_and_memory_order(index_type, data_type):
    layout = Layout((2, 3, 4), 1, (0, 1, 0))
    contents = np.arange(2 * 5 * 4).reshape(2, 5, 4) % 7
    coords = np.asfortranarray(np.array(np.nonzero(contents), dtype=index_type))
    data = np.repeat(contents[tuple(coords)].astype(data_type), 2)[::2]
    weights = np.array([[1.0, 0.0, 3.0]])
    out = new_sums(1, 8)
    add_sparse(layout, coords, data, weights, out, energy_runs(coords[1]))
    np.testing.assert_array_equal(out, reference_sums(layout, contents, weights))
    counts = np.zeros(3)
    assert count_sparse(layout, coords, data, counts) == (0, -1)
    np.testing.assert_array_equal(counts, inside(layout, contents).sum(axis=(0, 2)))


@given(stored_contents(), st.data())
@relaxed
def test_impossible_cells_are_counted_inside_the_axes_alone(stored, data):
    layout, contents, rng = stored
    spoilt = rng.random(contents.shape) < data.draw(st.sampled_from([0.0, 0.1, 0.5]))
    contents = np.where(spoilt, rng.choice([np.nan, -1.0, np.inf, -np.inf], spoilt.shape), contents)
    coords = np.argwhere(np.ones(contents.shape, bool))
    rng.shuffle(coords)
    coords, values = coords.T, contents[tuple(coords.T)]
    counts = np.zeros(layout.n_energies)
    n_bad, first = count_sparse(layout, coords, values, counts)
    is_inside = [
        all(0 <= i - o < n for i, o, n in zip(c, layout.offsets, layout.n_bins, strict=True))
        for c in coords.T
    ]
    wrong = np.flatnonzero(np.array(is_inside) & ~((values >= 0) & (values < np.inf)))
    assert (n_bad, first) == (wrong.size, wrong[0] if wrong.size else -1)
    good = np.where((contents >= 0) & (contents < np.inf), contents, 0.0)
    axes = tuple(i for i in range(contents.ndim) if i != layout.energy_axis)
    np.testing.assert_array_equal(counts, inside(layout, good).sum(axis=axes))


@pytest.mark.parametrize(
    ("energies", "runs"),
    [([], [0]), ([3], [0, 1]), ([3, 3, 1, 1, 1, 3], [0, 2, 5, 6]), ([0, 1, 2], [0, 1, 2, 3])],
)
def test_energy_runs(energies, runs):
    np.testing.assert_array_equal(energy_runs(np.array(energies, int)), runs)


def test_cells_that_appear_twice_add_up():
    layout = Layout((2, 2), 0, (0, 0))
    out = new_sums(1, 2)
    coords = np.array([[0, 0, 1], [1, 1, 1]])
    SparseContents(layout, coords, np.array([1.0, 2.0, 4.0])).add(np.array([[1.0, 10.0]]), out)
    np.testing.assert_array_equal(out, [[0.0, 43.0]])


def test_sums_are_added_to_what_is_there():
    layout = Layout((2, 2), 0, (0, 0))
    contents = DenseContents(layout, np.ones((2, 2)))
    out = np.full((1, 2), 5.0)
    contents.add(np.array([[1.0, 1.0]]), out)
    np.testing.assert_array_equal(out, [[7.0, 7.0]])


@pytest.mark.parametrize("value", [-1.0, np.nan, np.inf])
def test_impossible_counts_are_counted_and_located(value):
    layout = Layout((3, 4), 1, (0, 1))
    contents = np.ones((3, 6))
    contents[2, 3] = contents[1, 2] = value  # bins (2, 2) and (1, 1)
    contents[0, 0] = value  # underflow: left out anyway
    for stored in (sparse_of(layout, contents), DenseContents(layout, contents)):
        _, bad = stored.energy_counts()
        assert (bad.number, bad.bins) == (2, (1, 1))
        np.testing.assert_equal(bad.value, value)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_dense_sums_keep_the_order_of_axes(axis):
    block = np.random.default_rng(2).random((2, 3, 4))
    weights = np.random.default_rng(3).random((5, block.shape[axis]))
    expected = np.einsum("ke,e...->k...", weights, np.moveaxis(block, axis, 0))
    np.testing.assert_allclose(dense_sums(block, axis, weights), expected, rtol=1e-13)


def test_energies_without_weight_are_not_touched():
    """A slice of NaN with weight 0 leaves the sum finite: it is skipped, not multiplied."""
    layout = Layout((2, 3), 0, (0, 0))
    contents = np.array([[np.nan] * 3, [1.0, 2.0, 3.0]])
    out = sums_of(sparse_of(layout, contents), np.array([[0.0, 2.0]]))
    np.testing.assert_array_equal(out, [[2.0, 4.0, 6.0]])
