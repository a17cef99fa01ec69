"""Amounts of each time bin: the fit, the template that follows it, and what is refused."""

import numpy as np
import pytest
from two_components import sumw2_of

from cosi_linebkg_plugin import BackgroundTemplate, LineBackgroundLike, background_model
from cosi_linebkg_plugin.app.demo import MASK, resolved_lines, simulated_events
from cosi_linebkg_plugin.app.simulation import SOURCE_RANGE, simulate
from cosi_linebkg_plugin.errors import TemplateError
from cosi_linebkg_plugin.histograms.read import open_events
from cosi_linebkg_plugin.template.options import TemplateOptions
from cosi_linebkg_plugin.template.per_time import (
    ORDERS,
    TimeCourse,
    TimeSpectra,
    fit_time_course,
    walk_precision,
)
from cosi_linebkg_plugin.template.plan import check_template

N_T = 30
EDGES = np.concatenate([[0.0], np.cumsum(np.linspace(1.0, 3.0, N_T))])
SHAPES = np.array([np.full(20, 4000.0), 12000.0 * np.exp(-0.5 * ((np.arange(20) - 9) / 2.0) ** 2)])
RATIO = {"line": 1808.65, "tracer": 1778.97, "value": 0.149, "error": 0.015}
PHASE = 0.5 * (EDGES[1:] + EDGES[:-1]) / EDGES[-1]


def truth():
    rates = np.array([1 + 0.15 * np.sin(2 * np.pi * PHASE), 1 - 0.5 * np.exp(-4 * PHASE)])
    shares = rates * np.diff(EDGES)
    return shares / shares.sum(axis=1, keepdims=True)


def course(seed, scale=1.0, dead=()):
    mu = scale * truth().T @ SHAPES
    mu[list(dead)] = 0.0
    counts = np.random.default_rng(seed).poisson(mu).astype(float)
    return fitted(counts, scale * SHAPES)


def fitted(counts, shapes=SHAPES, known=0.0):
    known = np.zeros_like(counts) + known
    spectra = TimeSpectra(counts, shapes, known, EDGES, counts.any(axis=1))
    return fit_time_course(spectra, ("continuum", "lines"))


@pytest.mark.parametrize("scale", [1.0, 0.1])
def test_shares_are_unbiased_and_their_errors_right(scale):
    pulls = []
    for seed in range(20):
        found = course(seed, scale)
        errors = np.sqrt(np.diag(found.covariance)).reshape(2, N_T)
        pulls.append((found.shares - truth()) / errors)
    width = np.sqrt(np.mean(np.square(pulls), axis=(0, 2)))
    assert np.all((width > 0.75) & (width < 1.2))  # 20 x 30 correlated pulls
    assert np.all(np.abs(np.mean(pulls, axis=(0, 2))) < 0.2)


@pytest.mark.parametrize("order", ORDERS)
def test_walks_have_the_size_that_is_said(order):
    gaps = np.array([1.0, 2.0, 1.5, 4.0, 1.0, 3.0])
    bands, log_det = walk_precision(gaps, [order, 1], [0.3, 5.0])
    n = bands.shape[1]
    dense = sum(np.diag(row[: n - i], -i) for i, row in enumerate(bands))
    dense += np.tril(dense, -1).T
    assert log_det == pytest.approx(np.linalg.slogdet(dense)[1])
    covariance = np.linalg.inv(dense)[::2, ::2]  # of the first component
    change = np.array([-1, 0, 0, 0, 0, 0, 1])
    size = np.sqrt(change @ covariance @ change)
    # an integrated walk changes by its first slope, and by its bends as much again
    assert size == pytest.approx(0.3 if order == 1 else 0.3 * np.sqrt(2.0), rel=0.15)
    assert covariance[0, 0] == pytest.approx(4.0)


def test_the_data_choose_how_smooth_a_course_is():
    smooth = course(1)
    assert (smooth.weights @ smooth.orders)[0] > 1.9  # a sine
    rough = np.exp(np.cumsum(np.random.default_rng(2).normal(0.0, 0.05, (2, N_T)), axis=1))
    counts = np.random.default_rng(3).poisson(10 * (rough / N_T).T @ SHAPES).astype(float)
    found = fitted(counts)
    assert (found.weights @ found.orders)[0] < 1.1
    assert found.weights.sum() == pytest.approx(1.0)


def test_changes_that_the_counts_hardly_show_are_in_the_errors():
    """A most probable size is often 0 here: with it alone the width of the pulls was above 100."""
    pulls = []
    for seed in range(12):
        rng = np.random.default_rng(seed)
        rates = np.exp(np.cumsum(rng.normal(0.0, 0.02, (2, N_T)), axis=1)) * np.diff(EDGES)
        shares = rates / rates.sum(axis=1, keepdims=True)
        found = fitted(rng.poisson(0.05 * shares.T @ SHAPES).astype(float), 0.05 * SHAPES)
        errors = np.sqrt(np.diag(found.covariance)).reshape(2, N_T)
        pulls.append((found.shares - shares) / errors)
    width = np.sqrt(np.mean(np.square(pulls), axis=(0, 2)))
    assert np.all(width < 1.5)


def test_smoothing_gains_where_the_counts_are_few():
    found = course(1, 0.1)
    errors = np.sqrt(np.diag(found.covariance)).reshape(2, N_T)
    alone = np.sqrt(truth()[1] / (0.1 * SHAPES[1].sum()))  # Poisson, had the lines no continuum
    assert np.median(errors[1] / alone) < 0.8


def test_dead_bins_get_nothing_and_the_walk_bridges_them():
    found = course(2, dead=(4, 5, 17))
    assert list(np.flatnonzero(~found.live)) == [4, 5, 17]
    assert np.all(found.shares[:, [4, 5, 17]] < 1e-11)
    assert np.all(np.diag(found.covariance).reshape(2, N_T)[:, 4] == 0)
    expected = np.where(found.live, truth(), 0)
    expected /= expected.sum(axis=1, keepdims=True)
    errors = np.sqrt(np.diag(found.covariance)).reshape(2, N_T)[:, found.live]
    assert np.all(np.abs(found.shares - expected)[:, found.live] < 5 * errors)


def test_two_bins_of_time_are_enough():
    counts = np.array([[300.0, 300, 900, 300], [300, 300, 600, 300]])
    shapes = np.array([[600.0, 600, 600, 600], [0, 0, 900, 0]])
    spectra = TimeSpectra(counts, shapes, 0 * counts, np.array([0.0, 1, 2]), np.ones(2, bool))
    found = fit_time_course(spectra, ("continuum", "lines"))
    errors = np.sqrt(np.diag(found.covariance)).reshape(2, 2)
    np.testing.assert_allclose(found.shares[0], 0.5, atol=0.02)
    assert abs(found.shares[1, 0] - 2 / 3) < 2 * errors[1, 0] < 0.1


def test_another_shape_in_a_time_bin_is_told():
    assert course(3).notes() == []
    mu = truth().T @ SHAPES
    mu[7] *= np.linspace(0.6, 1.4, 20)
    counts = np.random.default_rng(3).poisson(mu).astype(float)
    assert "in time bin 7" in fitted(counts).notes()[0]


def test_a_sky_that_is_known_is_in_no_course():
    sky = np.zeros((N_T, 20))
    sky[20:] = 0.4 * SHAPES[1] / N_T  # a source that rises
    counts = np.random.default_rng(6).poisson(truth().T @ SHAPES + sky).astype(float)
    off = []
    for known in (sky, 0.0):
        found = fitted(counts, known=known)
        errors = np.sqrt(np.diag(found.covariance)).reshape(2, N_T)
        off.append(np.mean(np.square((found.shares - truth()) / errors)[1]))
    assert off[0] < 2 < 10 < off[1]


def test_a_file_keeps_it():
    found = course(4, dead=(3,))
    again = TimeCourse.from_dict(found.to_dict())
    np.testing.assert_array_equal(again.shares, found.shares)
    np.testing.assert_array_equal(again.covariance, found.covariance)
    walks = (("orders", found.orders + 0.5), ("sizes", -found.sizes))
    for key, bad in (("live", [True]), ("gaps", [[1.0]]), ("dof", -1), *walks):
        with pytest.raises((ValueError, TypeError)):
            TimeCourse.from_dict(found.to_dict() | {key: np.asarray(bad).tolist()})


@pytest.fixture(scope="module")
def made():
    simulation = simulate(5, nside=2, n_time=6, sky_counts=0.0)
    plugin = LineBackgroundLike("linebkg", simulated_events(simulation))
    plugin.set_mask(MASK)
    fit = plugin.fit(background_model(resolved_lines(), pivot=1800))
    options = {"line_ratio": RATIO, "norms": "per_time"}
    return simulation, plugin, fit, plugin.background_template(fit, SOURCE_RANGE, **options)


def test_the_template_follows_it(made):
    simulation, _, _, template = made
    counts, covariance = template.time_counts()
    for label, row in zip(template.labels, counts, strict=True):
        own, errors = template.project("Time", label)
        in_map = template.component(label).project("Time").contents
        np.testing.assert_allclose(own, row, rtol=1e-9)
        np.testing.assert_allclose(np.asarray(in_map), row, rtol=1e-9)
        assert np.all(errors > 0)
        known = getattr(simulation, f"expected_{label}")(*SOURCE_RANGE).sum(axis=(1, 2))
        shares = known / known.sum()
        np.testing.assert_allclose(own / own.sum(), shares, atol=5 * (errors / own.sum()).max())
    np.testing.assert_allclose(covariance.sum(), template.covariance.sum(), rtol=1e-6)


def test_split_takes_counts_and_covariance(made):
    template = made[3]
    counts, covariance = template.time_counts()
    split = template.split("Time", 1)
    np.testing.assert_allclose(list(split.counts.values()), counts.ravel(), rtol=1e-9)
    np.testing.assert_allclose(split.covariance, covariance, rtol=1e-9, atol=1e-6)
    halves = template.split("Time", [[0, 1, 2], [3, 4, 5]])
    assert halves.covariance.sum() == pytest.approx(template.covariance.sum())
    for ask in (split.time_counts, lambda: template.split("Phi", 30).split("Time")):
        with pytest.raises(TemplateError, match="split along Time first"):
            ask()
    both = template.split("Time", 3).split("Phi", 30)
    assert both.total_error == pytest.approx(template.total_error, rel=1e-6)


def test_the_sums_variance_is_that_of_the_slices_as_they_are_scaled(made):
    """Per time bin, sum_e (sum_k a_k f_kt w_ke)^2 n_te, with f_kt the factor to the bin's share."""
    _, plugin, _, template = made
    counts = plugin.events.counts_along("Time")
    own = counts @ template.weights.T
    factors = template.time_counts()[0].T / own
    exact = ((factors @ template.weights) ** 2 * counts).sum(axis=1)
    apart = (factors**2 * (counts @ template.weights.T**2)).sum(axis=1)
    variances = sumw2_of(template.histogram.project("Time"))
    np.testing.assert_allclose(variances, exact, rtol=1e-3)  # some slices are pooled
    assert np.all(apart > 1.1 * exact)


def test_a_recipe_is_tried_on_control_ranges_with_it(made):
    _, plugin, fit, template = made
    plain = plugin.background_template(fit, SOURCE_RANGE, line_ratio=RATIO)
    of_time = [plugin.validate(t).shapes["Time"] for t in (template, plain)]
    assert of_time[0] != of_time[1]
    assert of_time[0].value < 0.1


def test_write_and_open(made, tmp_path):
    template = made[3]
    template.write(tmp_path / "bkg.h5")
    again = BackgroundTemplate.open(tmp_path / "bkg.h5")
    np.testing.assert_array_equal(again.time_counts()[1], template.time_counts()[1])


def test_counts_along_time():
    histogram = simulated_events(simulate(1, nside=1, n_time=3))
    truth = histogram.contents.todense().sum(axis=(2, 3))
    np.testing.assert_array_equal(open_events(histogram).counts_along("Time"), truth)
    dense = open_events(histogram.to_dense())
    np.testing.assert_array_equal(dense.counts_along("Time"), truth)


@pytest.mark.parametrize(
    ("n_time", "options", "words"),
    [
        (None, {}, "needs a Time axis"),
        (1, {}, "two or more bins of Time"),
        (2, {"norms": "all"}, "norms must be"),
        (2, {"method": "interpolated"}, "use method='components'"),
        (2, {"method": "auto"}, "use method='components'"),
        (
            2,
            {"energy_edges": "1805:1812:1"},
            r"would have 7 energy bins there; leave out energy_edges=",
        ),
    ],
)
def test_refused_before_any_work(n_time, options, words):
    events = open_events(simulated_events(simulate(1, nside=1, n_time=n_time)))
    used = np.ones(events.energy_edges.size - 1, bool)
    with pytest.raises(TemplateError, match=words):
        options = TemplateOptions(**({"norms": "per_time"} | options))
        check_template(events, used, SOURCE_RANGE, options)
