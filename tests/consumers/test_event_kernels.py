"""Compiled loops over events, against numpy, scipy and healpy."""

import healpy as hp
import numpy as np
import pytest
from flights import angles_of, interpolated, rocking, vectors_of
from numpy.testing import assert_allclose, assert_array_equal
from scipy.spatial.transform import Rotation

from cosi_linebkg_plugin.consumers.event_kernels import (
    fill_densities,
    place_in_time,
    sky_vectors,
    sum_of_logs,
    weighted_densities,
)


def placed(times, samples):
    interval, fraction = np.empty(len(times), np.int64), np.empty(len(times))
    place_in_time(np.asarray(times, float), np.asarray(samples, float), interval, fraction)
    return interval, fraction


def turned(vectors, quaternions, interval, fraction):
    """Directions in the other frame, shape (n, 3); nan where nothing was written."""
    out = np.full((3, len(vectors)), np.nan)
    interval, fraction = np.asarray(interval, np.int64), np.asarray(fraction, float)
    sky_vectors(*angles_of(vectors), np.asarray(quaternions, float), interval, fraction, out)
    return out.T


def directions(n, seed=1):
    vectors = np.random.default_rng(seed).normal(size=(n, 3))
    return vectors / np.linalg.norm(vectors, axis=1)[:, None]


# --- times ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("in_order", [True, False])
def test_places_in_time_are_those_of_numpy(in_order):
    rng = np.random.default_rng(1)
    samples = np.cumsum(rng.uniform(0.1, 30.0, 50))
    times = rng.uniform(samples[0], samples[-1], 1000)
    times = np.sort(times) if in_order else times
    interval, fraction = placed(times, samples)
    assert_array_equal(interval, np.searchsorted(samples, times, side="right") - 1)
    # the place as a number of samples
    assert_allclose(interval + fraction, np.interp(times, samples, np.arange(50)), rtol=1e-12)


def test_ends_belong_to_the_history_and_nothing_beyond():
    inside = [0.0, 10.0, 20.0, 30.0]
    beyond = [-1e-9, 30.0 + 1e-9, np.nan, np.inf, -np.inf]
    interval, fraction = placed(inside + beyond, [0.0, 10.0, 20.0, 30.0])
    assert interval.tolist() == [0, 1, 2, 2, *[-1] * 5]
    assert fraction.tolist() == [0.0, 0.0, 0.0, 1.0, *[0.0] * 5]


def test_samples_of_the_same_time_make_no_interval():
    interval, fraction = placed([5.0, 10.0, 15.0], [0.0, 10.0, 10.0, 20.0])
    assert interval.tolist() == [0, 2, 2] and fraction.tolist() == [0.5, 0.0, 0.5]
    interval, fraction = placed([10.0], [0.0, 10.0, 10.0])  # at the end: no division by zero
    assert interval.tolist() == [1] and fraction.tolist() == [0.0]


# --- directions ----------------------------------------------------------------------------------


def test_directions_are_turned_like_those_of_scipy():
    rotations, vectors = rocking(), directions(2000)
    seconds = np.random.default_rng(2).uniform(0.0, 590.0, 2000)
    where = placed(seconds, 10.0 * np.arange(60))
    got = turned(vectors, rotations.as_quat(), *where)
    assert_allclose(got, interpolated(rotations, seconds).apply(vectors), rtol=0, atol=1e-12)
    assert_array_equal(
        hp.vec2pix(8, *got.T), hp.vec2pix(8, *interpolated(rotations, seconds).apply(vectors).T)
    )


def test_the_sign_of_a_quaternion_says_nothing():
    rotations, vectors = rocking(), directions(500)
    where = placed(np.linspace(0.0, 590.0, 500), 10.0 * np.arange(60))
    signs = np.random.default_rng(3).choice([-1.0, 1.0], (60, 1))
    assert np.unique(signs).size == 2
    one = turned(vectors, rotations.as_quat(), *where)
    other = turned(vectors, signs * rotations.as_quat(), *where)
    assert_allclose(other, one, rtol=0, atol=1e-12)


@pytest.mark.parametrize("angle", [0.0, 1e-7, 1e-5, 2e-5, 4e-5, 1e-3, 0.01, 0.08, 1.0, 3.1])
def test_small_and_large_turns(angle):
    """Linear between neighbours, spherical else: a part of the turn about z is that part of it."""
    quaternions = Rotation.from_euler("z", [[0.2], [0.2 + angle]]).as_quat()
    vectors = vectors_of(np.array([0.0, 1.0, -2.0]), np.array([0.0, 0.7, -1.2]))
    fraction = np.array([0.0, 0.3, 1.0])
    expected = vectors_of(
        np.array([0.0, 1.0, -2.0]) + 0.2 + fraction * angle, np.array([0.0, 0.7, -1.2])
    )
    got = turned(vectors, quaternions, np.zeros(3), fraction)
    assert_allclose(got, expected, rtol=0, atol=1e-13)
    assert_allclose(np.linalg.norm(got, axis=1), 1.0, rtol=1e-14)


def test_events_without_an_interval_are_left_alone():
    got = turned(directions(3), rocking().as_quat(), [0, -1, 4], [0.5, 0.0, 0.5])
    assert np.isfinite(got[[0, 2]]).all() and np.isnan(got[1]).all()


# --- densities -----------------------------------------------------------------------------------


def test_densities_are_maps_times_tables_between_their_steps():
    rng = np.random.default_rng(4)
    n, n_labels, n_cells, n_em, n_steps = 1000, 3, 40, 2, 16
    maps = rng.uniform(0.1, 1.0, (n_labels, n_cells))
    tables = rng.uniform(0.1, 1.0, (n_labels, n_em, n_steps))
    grid = np.array([[1800.0, 1808.0], [0.5, 0.25]])  # begin and step of both bins
    cells, bins = rng.integers(0, n_cells, n), rng.integers(0, n_em, n)
    energies = grid[0, bins] + rng.uniform(0.5, n_steps - 0.5, n) * grid[1, bins]
    factors = rng.uniform(0.1, 1.0, n)
    out = np.empty((n_labels, n), np.float32)
    fill_densities(cells, bins, energies, factors, maps, grid, tables, out)
    for label in range(n_labels):
        expected = np.empty(n)
        for e in range(n_em):
            middles = grid[0, e] + (np.arange(n_steps) + 0.5) * grid[1, e]
            expected[bins == e] = np.interp(energies[bins == e], middles, tables[label, e])
        assert_allclose(out[label], maps[label, cells] * expected * factors, rtol=3e-7)


def test_the_last_half_steps_go_on_in_a_line_and_not_below_zero():
    """The table holds the middles of steps: at the ends of a bin it goes on to its edges."""
    tables = np.array([[[1.0, 3.0, 5.0, 7.0]], [[1.0, 4.0, 4.0, 0.5]]])
    energies = np.array([10.0, 10.25, 12.0])
    grid, maps = np.array([[10.0], [0.5]]), np.ones((2, 1))
    zeros = np.zeros(3, np.int64)
    out = np.empty((2, 3), np.float32)
    fill_densities(zeros, zeros, energies, np.ones(3), maps, grid, tables, out)
    assert_allclose(out, [[0.0, 1.0, 8.0], [0.0, 1.0, 0.0]])  # -0.5 and -1.25 else


@pytest.mark.parametrize("n", [0, 1, 2047, 2048, 2049, 5000])
@pytest.mark.parametrize("n_labels", [1, 2, 5])
def test_sums_over_components_are_those_of_numpy(n, n_labels):
    """In blocks of 2048 events; what stood in the result before does not matter."""
    rng = np.random.default_rng(5)
    densities = rng.uniform(0.0, 1.0, (n_labels, n)).astype(np.float32)
    rates = rng.uniform(0.0, 10.0, n_labels)
    out = np.full(n, np.nan)
    weighted_densities(rates, densities, out)
    assert_allclose(out, rates @ densities.astype(float), rtol=1e-13)


# --- sums of logarithms --------------------------------------------------------------------------


@pytest.mark.parametrize("n", [0, 1, 2047, 2048, 2049, 10_000])
@pytest.mark.parametrize("scale", [1.0, 1e-17, 1e-30, 1e17, 1e30])
def test_the_sum_of_logarithms_is_that_of_numpy(n, scale):
    rng = np.random.default_rng(n)
    densities = (scale * rng.uniform(1e-3, 1e3, (3, n))).astype(np.float32)
    rates, others = np.array([0.3, 0.0, 5.0]), scale * rng.uniform(0.0, 1e3, n)
    for more in (np.empty(0), others):
        values = rates @ densities.astype(float) + (more if more.size else 0.0)
        got = sum_of_logs(rates, densities, more)
        # of the terms, which may cancel
        assert abs(got - np.log(values).sum()) <= 1e-13 * np.abs(np.log(values)).sum()


@pytest.mark.parametrize("place", [0, 5000, 9999])
def test_a_density_that_is_not_positive_makes_it_impossible(place):
    densities, rates = np.ones((1, 10_000), np.float32), np.array([2.0])
    densities[0, place] = 0.0
    assert sum_of_logs(rates, densities, np.empty(0)) == -np.inf
    others = np.zeros(10_000)
    others[place] = 3.0
    assert sum_of_logs(rates, densities, others) == pytest.approx(9999 * np.log(2) + np.log(3))
    densities[0, place] = np.nan
    assert np.isnan(sum_of_logs(rates, densities, np.empty(0)))
