"""Filters: totals, positivity and noise on random templates; healpy's own results."""

from __future__ import annotations

import tracemalloc

import healpy as hp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cosi_linebkg_plugin.errors import TemplateError
from cosi_linebkg_plugin.template.filters import Filter, apply_filter, low_pass_matrices, smooth

pytestmark = pytest.mark.filterwarnings("error:::cosi_linebkg_plugin")

relaxed = settings(deadline=None, max_examples=80)

FILTERS = [
    Filter(),
    Filter(smoothing_fwhm=20.0),
    Filter(smoothing_fwhm=0.5),
    Filter(l_cut=0),
    Filter(l_cut=4),
    Filter(l_cut=40),
    Filter(rebin_phi=2),
    Filter(pool=2),
    Filter(l_cut=2, rebin_phi=3, pool=3),
    Filter(smoothing_fwhm=45, rebin_phi=100, pool=100),
]


@st.composite
def templates(draw, n_energies=4):
    """A weighted sum of sparse Poisson slices, its variances, and the generator.

    Some have empty slices or one count alone; with weights of both signs cells are negative.
    """
    nside = draw(st.sampled_from([1, 2, 4]))
    shape = (draw(st.integers(1, 4)), draw(st.integers(1, 6)), 12 * nside**2)
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    level = draw(st.sampled_from([0.001, 0.05, 1.0, 100.0]))
    counts = rng.poisson(level * rng.random((*shape[:2], 1)), (n_energies, *shape))
    counts = counts * (rng.random((*shape[:2], 1)) < draw(st.sampled_from([0.5, 1.0])))
    counts[0, rng.integers(shape[0]), rng.integers(shape[1]), rng.integers(shape[2])] += 1
    weights = rng.normal(0.3, draw(st.sampled_from([0.0, 0.3])), n_energies)
    scale = draw(st.sampled_from([1.0, 1e-9, 1e6]))
    weights = scale * np.where(np.arange(n_energies) == 0, np.abs(weights), weights)
    maps = np.einsum("e,e...->...", weights, counts)
    return maps, np.einsum("e,e...->...", weights**2, counts), rng


def smooth_truth(shape, nside):
    """A positive pattern of low multipoles, other in each slice; sums to 1 in each."""
    x, y, z = hp.pix2vec(nside, np.arange(hp.nside2npix(nside)))
    phase = np.arange(np.prod(shape)).reshape(*shape, 1) / 10
    pattern = np.exp(0.8 * x * np.cos(phase) + 0.5 * y * z + 0.5 * z * np.sin(phase))
    return pattern / pattern.sum(axis=-1, keepdims=True)


def healpy_smoothed(maps, options):
    """The same by healpy's own functions, map by map."""
    nside = hp.npix2nside(maps.shape[-1])
    if options.smoothing_fwhm is not None:
        fwhm = np.radians(options.smoothing_fwhm)
        return np.array([hp.smoothing(one, fwhm=fwhm) for one in maps])
    keep = (np.arange(3 * nside) <= options.l_cut).astype(float)
    alm = (hp.almxfl(hp.map2alm(one, iter=3), keep) for one in maps)
    return np.array([hp.alm2map(a, nside) for a in alm])


# --- totals and positivity -----------------------------------------------------------------------


@relaxed
@given(templates(), st.sampled_from(FILTERS), st.booleans())
def test_totals_are_kept_and_all_cells_are_positive(template, options, nest):
    maps, variances, _ = template
    before = maps.copy(), variances.copy()
    totals = maps.sum(axis=-1)
    if not totals.sum() > 0:
        with pytest.raises(TemplateError, match="not positive"):
            apply_filter(maps, variances, options, nest=nest)
        return
    result = apply_filter(maps, variances, options, nest=nest)
    np.testing.assert_array_equal(maps, before[0])
    np.testing.assert_array_equal(variances, before[1])
    assert np.isfinite(result.maps).all() and (result.maps > 0).all()
    assert np.isfinite(result.variances).all() and (result.variances >= 0).all()
    np.testing.assert_allclose(result.maps.sum(), totals.sum(), rtol=1e-12)
    np.testing.assert_allclose(result.variances.sum(), variances.sum(), rtol=1e-12)
    assert result.pooled == tuple(zip(*(i.tolist() for i in np.nonzero(totals <= 0)), strict=True))
    alone = np.ones(totals.shape, bool)
    for time in {time for time, _ in result.pooled}:
        alone[time] = False  # which neighbours share is tested below
    if (totals.sum(axis=1) > 0).all():
        got = result.maps.sum(axis=-1)
        np.testing.assert_allclose(got[alone], totals[alone], rtol=1e-12)
        np.testing.assert_allclose(got.sum(axis=1), totals.sum(axis=1), rtol=1e-12)
        np.testing.assert_allclose(
            result.variances.sum(axis=-1)[alone], variances.sum(axis=-1)[alone], rtol=1e-12
        )
    for fraction in (result.shrinkage, result.clipped):
        assert fraction.shape == totals.shape
        assert ((fraction >= 0) & (fraction <= 1)).all()


@relaxed
@given(templates(), st.sampled_from(FILTERS))
def test_nested_gives_the_reordered_ring_result(template, options):
    maps, variances, _ = template
    if not maps.sum() > 0:
        return
    nest = hp.ring2nest(hp.npix2nside(maps.shape[-1]), np.arange(maps.shape[-1]))
    nested = np.empty_like(maps), np.empty_like(maps)
    for new, old in zip(nested, (maps, variances), strict=True):
        new[..., nest] = old
    ring = apply_filter(maps, variances, options)
    got = apply_filter(*nested, options, nest=True)
    if ring.pooled == got.pooled:  # sums in another order may differ in which one is exactly 0
        scale = np.abs(maps).sum(axis=-1, keepdims=True).max() / maps.shape[-1]
        np.testing.assert_allclose(got.maps[..., nest], ring.maps, rtol=1e-6, atol=1e-9 * scale)


@pytest.mark.parametrize("options", FILTERS)
@pytest.mark.parametrize("weight", [1.0, 1e-6, 1e-100, 1e6])
def test_one_count_alone(options, weight):
    maps, variances = np.zeros((2, 2, 5, 48))
    maps[1, 2, 7], variances[1, 2, 7] = weight, weight**2
    result = apply_filter(maps, variances, options)
    assert (result.maps > 0).all() and np.isfinite(result.maps).all()
    np.testing.assert_allclose(result.maps.sum(), weight, rtol=1e-12)
    np.testing.assert_allclose(result.variances.sum(), weight**2, rtol=1e-12)
    assert len(result.pooled) == 9


def test_slices_without_counts_share_with_their_neighbours_and_no_other():
    maps = np.random.default_rng(1).poisson(5.0, (1, 6, 48)).astype(float)
    maps[0, 4] = 0.0
    maps[0, 3] *= 0.1  # the smaller neighbour
    result = apply_filter(maps, np.abs(maps), Filter())
    before, after = maps.sum(axis=-1)[0], result.maps.sum(axis=-1)[0]
    assert result.pooled == ((0, 4),)
    np.testing.assert_allclose(after[:4], before[:4], rtol=1e-12)
    np.testing.assert_allclose(after[4:].sum(), before[5], rtol=1e-12)
    # one prior count over two slices: the empty one gets half of it
    np.testing.assert_allclose(after[4], 0.5 * before[5] / (1 + before[5]), rtol=1e-12)
    assert result.shrinkage[0, 4] == 1.0


def test_a_negative_slice_takes_more_neighbours_until_the_sum_is_positive():
    maps = np.full((1, 7, 12), 1.0)
    maps[0, 3] = -2.5
    result = apply_filter(maps, np.abs(maps), Filter())
    after = result.maps.sum(axis=-1)[0]
    assert result.pooled == ((0, 3),)
    np.testing.assert_allclose(after.sum(), 12 * 3.5, rtol=1e-12)
    np.testing.assert_allclose(after[4:], 12.0, rtol=1e-12)  # three neighbours are needed
    assert (after[:4] < 12.0).all()


def test_shares_follow_the_other_times():
    rng = np.random.default_rng(2)
    shape = np.array([1.0, 10.0, 30.0, 2.0])
    maps = rng.poisson(shape[:, None], (40, 4, 48)).astype(float)
    maps[5] = 0.0
    maps[5, 2, 0] = 1.0
    after = apply_filter(maps, maps, Filter()).maps.sum(axis=-1)[5]
    # one count says nothing about Phi
    np.testing.assert_allclose(after, shape / shape.sum(), rtol=0.2)
    np.testing.assert_allclose(after.sum(), 1.0, rtol=1e-12)


def test_a_time_bin_without_counts_gets_little():
    maps = np.random.default_rng(3).poisson(5.0, (4, 3, 48)).astype(float)
    maps[2] = 0.0
    result = apply_filter(maps, maps, Filter())
    before, after = maps.sum(axis=(1, 2)), result.maps.sum(axis=(1, 2))
    assert result.pooled == ((2, 0), (2, 1), (2, 2))
    assert 0.2 < after[2] < 0.6
    np.testing.assert_allclose(after.sum(), before.sum(), rtol=1e-12)
    assert np.sum(np.abs(after - before) > 1e-9) == 2


@pytest.mark.parametrize("seed", range(3))
def test_a_positive_template_comes_back_untouched(seed):
    rng = np.random.default_rng(seed)
    maps = rng.poisson(3.0, (2, 7, 48)) + 0.1
    result = apply_filter(maps, 2 * maps, Filter())
    np.testing.assert_array_equal(result.maps, maps)
    np.testing.assert_array_equal(result.variances, 2 * maps)
    assert result.pooled == () and not result.shrinkage.any() and not result.clipped.any()
    assert result.maps is not maps and not np.shares_memory(result.maps, maps)
    assert not np.shares_memory(result.variances, maps)


def test_whole_numbers_and_strided_arrays():
    counts = np.random.default_rng(4).poisson(2.0, (48, 5, 3))
    maps = counts.transpose(2, 1, 0)
    for options in FILTERS:
        got = apply_filter(maps, maps, options)
        plain = np.ascontiguousarray(maps).astype(float)
        np.testing.assert_allclose(got.maps, apply_filter(plain, plain, options).maps, rtol=1e-10)


# --- smoothing -----------------------------------------------------------------------------------


@pytest.mark.parametrize("nside", [1, 2, 4, 8, 16])
@pytest.mark.parametrize("l_cut", range(9))
def test_low_pass_is_healpys(nside, l_cut):
    maps = np.random.default_rng(l_cut).normal(size=(3, 12 * nside**2))
    options = Filter(l_cut=l_cut)
    np.testing.assert_allclose(smooth(maps, options), healpy_smoothed(maps, options), atol=1e-12)


@pytest.mark.parametrize("options", [Filter(l_cut=15), Filter(smoothing_fwhm=20)])
@pytest.mark.parametrize("nside", [2, 3, 16])
def test_smoothing_by_transforms_is_healpys(options, nside):
    maps = np.random.default_rng(5).normal(size=(2, 12 * nside**2))
    np.testing.assert_allclose(smooth(maps, options), healpy_smoothed(maps, options), atol=1e-12)


@pytest.mark.parametrize("options", [Filter(l_cut=4), Filter(l_cut=9), Filter(smoothing_fwhm=20)])
def test_a_filtered_map_is_healpys_with_the_slices_total(options):
    rng = np.random.default_rng(6)
    maps = rng.poisson(1e4 * smooth_truth((1, 3), 8)).astype(float)
    expected = healpy_smoothed(maps[0], options)
    assert expected.min() > 0
    expected *= (maps.sum(axis=-1) / expected.sum(axis=-1))[0, :, None]
    result = apply_filter(maps, maps, options)
    np.testing.assert_allclose(result.maps[0], expected, rtol=1e-12)
    per_count = result.variances / result.maps
    np.testing.assert_allclose(per_count, 1.0, rtol=1e-12)  # apportioned like the counts


def test_matrices_are_cached_and_read_only():
    matrices = low_pass_matrices(4, 3)
    assert low_pass_matrices(4, 3) is matrices
    for matrix in matrices:
        assert matrix.shape == (16, 192)
        with pytest.raises(ValueError, match="read-only"):
            matrix[0, 0] = 1.0


# --- pooling -------------------------------------------------------------------------------------


def test_phi_bins_share_a_pattern_leftovers_too():
    maps = np.random.default_rng(7).poisson(20.0, (2, 7, 48)) * np.arange(1.0, 8.0)[:, None]
    result = apply_filter(maps, maps, Filter(rebin_phi=3))
    shares = result.maps / result.maps.sum(axis=-1, keepdims=True)
    for start in (0, 3, 6):
        group = maps[:, start : start + 3].sum(axis=1)
        expected = (group / group.sum(axis=-1, keepdims=True))[:, None]
        np.testing.assert_allclose(
            shares[:, start : start + 3],
            np.broadcast_to(expected, (2, min(3, 7 - start), 48)),
            rtol=1e-12,
        )
    np.testing.assert_allclose(result.maps.sum(axis=-1), maps.sum(axis=-1), rtol=1e-12)
    np.testing.assert_allclose(result.variances.sum(axis=-1), maps.sum(axis=-1), rtol=1e-12)


def test_times_share_a_pattern_leftovers_too():
    maps = np.random.default_rng(8).poisson(20.0, (5, 2, 48)).astype(float)
    result = apply_filter(maps, maps, Filter(pool=2))
    by_phi = apply_filter(maps.transpose(1, 0, 2), maps.transpose(1, 0, 2), Filter(rebin_phi=2))
    np.testing.assert_allclose(result.maps, by_phi.maps.transpose(1, 0, 2), rtol=1e-12)
    np.testing.assert_allclose(result.variances, by_phi.variances.transpose(1, 0, 2), rtol=1e-12)


def test_groups_of_one_are_no_filter():
    maps = np.random.default_rng(9).poisson(0.5, (2, 3, 48)).astype(float)
    plain = apply_filter(maps, maps, Filter())
    ones = apply_filter(maps, maps, Filter(rebin_phi=1, pool=1))
    np.testing.assert_array_equal(ones.maps, plain.maps)
    np.testing.assert_array_equal(ones.variances, plain.variances)


# --- shrinkage -----------------------------------------------------------------------------------


def test_intensity_is_hausser_and_strimmers():
    rng = np.random.default_rng(10)
    maps = rng.poisson(np.array([2.0, 0.4, 6.0])[:, None], (1, 3, 192)).astype(float)
    counts = maps[0, 1]
    n, p, q = counts.sum(), counts / counts.sum(), maps[0].sum(axis=0) / maps.sum()
    assert counts.min() == 0 and q.min() > 0
    expected = (1 - np.sum(p**2)) / ((n - 1) * np.sum((q - p) ** 2))  # their Eq. 8
    result = apply_filter(maps, maps, Filter())
    np.testing.assert_allclose(result.shrinkage[0, 1], min(1.0, expected), rtol=1e-12)
    shrunk = result.shrinkage[0, 1] * q + (1 - result.shrinkage[0, 1]) * p
    # q is made of the slices as they were
    np.testing.assert_allclose(result.maps[0, 1], n * shrunk, rtol=1e-12)


def test_a_filter_lets_its_share_of_the_noise_through():
    """Of the white noise of 192 pixels l <= 2 keeps 9 multipoles."""
    maps = np.random.default_rng(12).poisson(0.3, (1, 2, 192)).astype(float)
    maps[0] += 4.0 * (np.arange(192) < 30), np.full(192, 2.0)  # swings below 0 beside a step
    totals = maps[0].sum(axis=1, keepdims=True)
    patterns = np.maximum(smooth(maps[0], Filter(l_cut=2)), 0.0)
    patterns /= patterns.sum(axis=1, keepdims=True)
    assert patterns[0].min() == 0.0
    q = np.sum(totals * patterns, axis=0) / totals.sum()
    n = totals[0, 0]
    noise = 9 / 192 * (1 - np.sum((maps[0, 0] / n) ** 2)) / (n - 1)
    expected = noise / np.sum((patterns[0] - q) ** 2)
    assert 2 / (1 + n) < expected < 1
    result = apply_filter(maps, maps, Filter(l_cut=2))
    np.testing.assert_allclose(result.shrinkage[0, 0], expected, rtol=1e-9)


def test_shrinkage_is_small_for_many_counts_and_large_for_few():
    truth = np.stack([np.linspace(0, 1, 192), np.linspace(1, 0.2, 192)])
    truth /= truth.sum(axis=-1, keepdims=True)
    intensity = []
    for n in (2, 300, 1e8):
        maps = np.random.default_rng(11).poisson(n * truth)[None].astype(float)
        maps[0, 0, 0] = 0.0
        intensity.append(apply_filter(maps, maps, Filter()).shrinkage[0, 0])
    assert intensity[0] == 1.0
    assert 1e-4 < intensity[1] < 1.0
    assert 0 < intensity[2] < 1e-4


def test_an_empty_cell_gets_the_share_of_one_prior_count():
    maps = np.ones((1, 2, 48))
    maps[0, 1] = np.where(np.arange(48) == 5, 100.0, 0.0)  # proportions without noise
    result = apply_filter(maps, maps, Filter())
    q = maps[0].sum(axis=0) / maps.sum()
    np.testing.assert_allclose(result.shrinkage[0], [0, 1 / 101], rtol=1e-12)
    np.testing.assert_allclose(result.maps[0, 1, 6:], 100 * q[6:] / 101, rtol=1e-12)


def test_counts_without_a_variance_are_taken_as_unweighted():
    maps = np.full((1, 2, 48), 1e6)
    maps[0, 1, 5] = 0.0
    result = apply_filter(maps, np.zeros_like(maps), Filter())
    assert 0 < result.shrinkage[0, 1] < 1e-3 and result.shrinkage[0, 0] == 0
    assert (result.maps > 0).all() and not result.variances.any()


@pytest.mark.parametrize("nest", [False, True])
def test_the_pooled_pattern_is_averaged_over_larger_pixels(nest):
    maps = np.zeros((1, 1, 192))
    pixels = hp.nest2ring(4, np.arange(192)) if not nest else np.arange(192)
    maps[0, 0, pixels[::4]] = np.arange(1.0, 49.0)  # one cell in four, all parents filled
    result = apply_filter(maps, np.full_like(maps, 1e6), Filter(), nest=nest)  # n < 1: all q
    assert result.shrinkage[0, 0] == 1.0
    np.testing.assert_allclose(
        result.maps[0, 0, pixels], np.repeat(np.arange(1.0, 49.0), 4) / 4, rtol=1e-12
    )


def test_smooth_tails_are_no_estimate():
    maps = np.zeros((1, 2, 3072))
    maps[0, 0, 100] = 5.0
    maps[0, 1] = 2.0
    result = apply_filter(maps, maps, Filter(smoothing_fwhm=20))
    assert healpy_smoothed(maps[0], Filter(smoothing_fwhm=20))[0].min() < 1e-9
    assert result.maps[0, 0].min() > 0.1 * 5.0 / 3072 / 6


@pytest.mark.parametrize("options", [Filter(), Filter(l_cut=4), Filter(smoothing_fwhm=40)])
def test_filtered_patterns_are_closer_to_the_truth(options):
    truth = 300 * smooth_truth((1, 30), 16)
    maps = np.random.default_rng(12).poisson(truth).astype(float)
    scale = (maps.sum(axis=-1) / 300)[..., None]
    raw = np.sum((maps - scale * truth) ** 2, axis=-1)
    filtered = np.sum((apply_filter(maps, maps, options).maps - scale * truth) ** 2, axis=-1)
    assert (filtered < 0.5 * raw).all()


# --- refusals, reports, memory -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"smoothing_fwhm": 20, "l_cut": 4}, "smoothing_fwhm .20. or l_cut .4., not both"),
        ({"smoothing_fwhm": 0}, "smoothing_fwhm must be a number of degrees from 0.1 to 180"),
        ({"smoothing_fwhm": 181.0}, "got 181.0"),
        ({"smoothing_fwhm": float("nan")}, "got nan"),
        ({"smoothing_fwhm": "20 deg"}, "got '20 deg'"),
        ({"smoothing_fwhm": True}, "got True"),
        ({"l_cut": -1}, "l_cut must be a whole number >= 0, got -1"),
        ({"l_cut": 4.0}, "l_cut must be a whole number"),
        ({"rebin_phi": 0}, "rebin_phi must be a whole number >= 1, got 0"),
        ({"pool": 2.5}, "pool must be a whole number >= 1, got 2.5"),
        ({"pool": True}, "got True"),
    ],
)
def test_bad_options_are_refused(options, message):
    with pytest.raises(TemplateError, match=message):
        Filter(**options)


@pytest.mark.parametrize(
    ("maps", "variances", "nest", "message"),
    [
        (np.ones((2, 12)), np.ones((2, 12)), False, r"one shape \(n_time, n_phi, 12 nside"),
        (np.ones((1, 2, 12)), np.ones((1, 1, 12)), False, r"got \(1, 2, 12\) and \(1, 1, 12\)"),
        (np.ones((1, 2, 13)), np.ones((1, 2, 13)), False, "12 nside"),
        (np.ones((0, 2, 12)), np.ones((0, 2, 12)), False, "one shape"),
        (np.ones((1, 1, 108)), np.ones((1, 1, 108)), True, "power of 2 for NESTED"),
        (np.full((1, 1, 12), np.nan), np.ones((1, 1, 12)), False, "not finite"),
        (np.ones((1, 1, 12)), np.full((1, 1, 12), np.inf), False, "not finite"),
        (np.ones((1, 1, 12)), -np.ones((1, 1, 12)), False, "negative variances"),
        (np.zeros((1, 2, 12)), np.zeros((1, 2, 12)), False, "add up to 0 .* not positive"),
        (-np.ones((1, 2, 12)), np.ones((1, 2, 12)), False, "add up to -24 .* not positive"),
    ],
)
def test_bad_templates_are_refused(maps, variances, nest, message):
    with pytest.raises(TemplateError, match=message):
        apply_filter(maps, variances, Filter(), nest=nest)


def test_any_nside_in_ring_order():
    maps = np.random.default_rng(13).poisson(0.5, (1, 2, 12 * 6**2)).astype(float)
    for options in FILTERS:
        result = apply_filter(maps, maps, options)
        assert (result.maps > 0).all()
        np.testing.assert_allclose(result.maps.sum(axis=-1), maps.sum(axis=-1), rtol=1e-12)


def test_filters_describe_themselves_and_compare():
    assert Filter().describe() == "no filter"
    assert Filter(smoothing_fwhm=20).describe() == "Gaussian smoothing, 20 deg FWHM"
    text = Filter(l_cut=4, rebin_phi=10, pool=3).describe()
    assert text == (
        "multipoles up to l = 4; one pattern per 10 Phi bins; one pattern per 3 Time or ScAtt bins"
    )
    assert Filter(l_cut=4) == Filter(l_cut=np.int64(4)) != Filter()


def test_progress_is_told():
    told = []

    class Told:
        def say(self, text):
            told.append(text)

        def count(self, done, total, what=""):
            raise AssertionError

    apply_filter(np.ones((3, 1, 12)), np.ones((3, 1, 12)), Filter(pool=2), progress=Told())
    assert [text[-10:] for text in told] == ["bin 2 of 3", "bin 3 of 3"]


@pytest.mark.parametrize("options", [Filter(), Filter(l_cut=4), Filter(rebin_phi=4, pool=7)])
def test_memory_is_the_output_and_a_few_time_bins(options):
    maps = np.random.default_rng(14).poisson(0.5, (40, 20, 768)).astype(float)
    apply_filter(maps[:2], maps[:2], options)
    tracemalloc.start()
    result = apply_filter(maps, maps, options)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < result.maps.nbytes + result.variances.nbytes + 10 * maps[0].nbytes


@pytest.mark.parametrize(
    "options", [Filter(), Filter(l_cut=4), Filter(rebin_phi=4, pool=7), Filter(smoothing_fwhm=40.0)]
)
def test_overwriting_gives_the_same_without_new_maps(options):
    rng = np.random.default_rng(11)
    maps = rng.poisson(0.6, (9, 8, 48)).astype(float) - 0.3 * rng.poisson(0.5, (9, 8, 48))
    maps[4] = 0.0
    variances = np.abs(maps) + 0.1
    fresh = apply_filter(maps.copy(), variances.copy(), options)
    kept, spread = maps.copy(), variances.copy()
    again = apply_filter(kept, spread, options, overwrite=True)
    assert again.maps is kept and again.variances is spread
    np.testing.assert_array_equal(kept, fresh.maps)
    np.testing.assert_array_equal(spread, fresh.variances)
    assert again.pooled == fresh.pooled and again.moved == fresh.moved
    tracemalloc.start()
    apply_filter(maps, variances, options, overwrite=True)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < maps.nbytes + variances.nbytes


def test_what_pooling_moves_is_said():
    """A slice of -3 counts takes them from a neighbour of 13, which keeps less than 10."""
    maps = np.full((1, 3, 12), 100.0)
    maps[0, 1], maps[0, 2] = -3.0 / 12.0, 13.0 / 12.0
    result = apply_filter(maps, np.abs(maps), Filter())
    totals = result.maps.sum(axis=2)[0]
    assert result.pooled == ((0, 1),)
    before = maps.sum(axis=2)[0]
    changed = [abs(totals[i] / before[i] - 1.0) for i in (0, 2)]
    assert result.moved == pytest.approx(max(changed)) and result.moved > 0
    assert totals.sum() == pytest.approx(before.sum())
    assert apply_filter(np.abs(maps), np.abs(maps), Filter()).moved == 0.0


def test_after_a_low_pass_the_errors_of_pixels_are_upper_limits():
    """Docs/limits.md: too large by sqrt(n_pix) / (l_cut + 1); those of the slices are right."""
    expected, options = np.full((1, 4, 192), 200.0), Filter(l_cut=4)
    rng = np.random.default_rng(3)
    maps = rng.poisson(expected, (400, *expected.shape)).astype(float)
    filtered = [apply_filter(m, m, options) for m in maps]
    scatter = np.var([f.maps for f in filtered], axis=0, ddof=1)
    said = np.mean([f.variances for f in filtered], axis=0)
    assert np.sqrt(said.mean() / scatter.mean()) == pytest.approx(192**0.5 / 5, rel=0.05)
    of_slices = np.var([f.maps.sum(axis=2) for f in filtered], axis=0, ddof=1)
    assert said.sum() / of_slices.sum() == pytest.approx(1.0, abs=0.15)  # 4 x 400: 3.5 %
