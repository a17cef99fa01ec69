"""The maps of several energy bins: each has the distribution of its own energy."""

import itertools

import astropy.units as u
import histpy
import numpy as np
import pytest
from trials import RATIO

from cosi_linebkg_plugin import LineBackgroundLike, background_model
from cosi_linebkg_plugin.app.demo import simulated_events
from cosi_linebkg_plugin.app.simulation import SOURCE_RANGE, simulate
from cosi_linebkg_plugin.errors import TemplateError

pytestmark = pytest.mark.filterwarnings("ignore::cosi_linebkg_plugin.errors.LineBackgroundWarning")

LOW, HIGH = SOURCE_RANGE
METHODS = {
    "components 0": {"order": 0, "window": (1728, 1890)},
    "components 1": {"window": (1728, 1890)},
    "components 2": {"order": 2, "window": (1728, 1890)},
    "interpolated": {"method": "interpolated"},
    "sideband": {"method": "sideband", "sidebands": [(1680, 1710), (1940, 1990)]},
    "shift": {"method": "interpolated", "sidebands": [(1780, 1790), (1830, 1840)], "shift": True},
}


@pytest.mark.parametrize("options", METHODS.values(), ids=METHODS)
def test_each_bin_is_a_template_of_its_own_energy(trial, options):
    """Its distribution is that of a template whose source range has its middle there."""
    edges = [LOW, 1806.0, 1807.5, HIGH]
    template = trial.template(line_ratio=RATIO, energy_edges=edges, **options)
    whole = trial.template(line_ratio=RATIO, **options)
    assert template.event_axes.shape == (3, *whole.event_axes.shape[1:])
    np.testing.assert_allclose(template.axes["Em"].edges.to_value(u.keV), edges, rtol=1e-14)
    for label in whole.labels:
        # exactly as of the whole range
        assert template.counts[label] == pytest.approx(whole.counts[label], rel=1e-12)
        assert template.errors[label] == pytest.approx(whole.errors[label], rel=1e-12)
        found = template.components[label]
        for b, (low, high) in enumerate(itertools.pairwise(edges)):
            # as wide as the source range, so that the same slices are left out
            middle, half = 0.5 * (low + high), 0.5 * (HIGH - LOW)
            own = trial.plugin.background_template(
                trial.fit, (middle - half, middle + half), **{"line_ratio": RATIO} | options
            ).components[label]
            for ours, theirs in (
                (found.contents[b], own.contents[0]),
                (np.asarray(found.sumw2.contents)[b], np.asarray(own.sumw2.contents)[0]),
            ):
                scale = ours.sum() / theirs.sum()
                np.testing.assert_allclose(ours, scale * theirs, rtol=2e-9, atol=1e-12 * ours.max())


@pytest.mark.parametrize("filtered", [{}, {"l_cut": 4}, {"rebin_phi": 10}])
@pytest.mark.parametrize("name", ["components 0", "components 1", "components 2", "shift"])
def test_the_sums_variance_in_each_bin_is_that_of_a_template_of_its_own(trial, name, filtered):
    """Continuum and lines are anticorrelated in each bin."""
    options = {"line_ratio": RATIO} | METHODS[name] | filtered
    if name == "shift":
        options |= {"method": "components", "sidebands": None, "window": (1755, 1860)}
    edges = [LOW, 1806.0, 1807.5, 1809.0, HIGH] if name == "components 1" else [LOW, 1807.5, HIGH]
    template = trial.template(energy_edges=edges, **options)
    assert template.labels == ("continuum", "lines")
    found = np.asarray(template.histogram.sumw2.contents)
    parts = template.components
    apart = sum(np.asarray(part.sumw2.contents) for part in parts.values())
    assert found.sum() < 0.95 * apart.sum()
    for b, (low, high) in enumerate(itertools.pairwise(edges)):
        middle, half = 0.5 * (low + high), 0.5 * (HIGH - LOW)
        own = trial.plugin.background_template(trial.fit, (middle - half, middle + half), **options)
        own.set_parameters(**{label: part.contents[b].sum() for label, part in parts.items()})
        exact = np.asarray(own.histogram.sumw2.contents)[0]
        rtol = 0.02 if filtered else 1e-4
        np.testing.assert_allclose(found[b].sum(axis=-1), exact.sum(axis=-1), rtol=rtol)
        np.testing.assert_allclose(found[b].sum(), exact.sum(), rtol=1e-4)
        if not filtered:  # all but slices with cells that were filled up at another energy
            same = np.isclose(found[b], exact, rtol=1e-4, atol=1e-6 * exact.max())
            assert same.mean() > 0.95


@pytest.mark.parametrize("options", METHODS.values(), ids=METHODS)
def test_projections_over_energy_have_the_errors_of_one_bin(trial, options):
    """Energy bins come from the same slices, and are no independent measurements."""
    whole = trial.template(line_ratio=RATIO, **options)
    bins = trial.template(line_ratio=RATIO, energy_edges="1805:1812:1", **options)
    for label in (None, *whole.labels):
        one, several = whole.project("Phi", label)[1], bins.project("Phi", label)[1]
        assert several.sum() == pytest.approx(one.sum(), rel=0.02)
        np.testing.assert_allclose(several, one, rtol=0.05)
    np.testing.assert_allclose(
        bins.split("Em").project("Phi")[1], bins.project("Phi")[1], rtol=1e-5
    )


def test_one_bin_is_as_without_edges(trial):
    plain = trial.template(line_ratio=RATIO)
    for same in (
        trial.template(line_ratio=RATIO, energy_edges=[LOW, HIGH]),
        trial.template(line_ratio=RATIO, energy_edges="1805:1812:7"),
    ):
        assert same.energy_bins is None
        assert np.array_equal(same.covariance, plain.covariance)
        assert same.counts == plain.counts
        for label in plain.labels:
            for a, b in zip(
                (same.components[label].contents, same.components[label].sumw2.contents),
                (plain.components[label].contents, plain.components[label].sumw2.contents),
                strict=True,
            ):
                assert np.array_equal(a, b)
    counts, errors = plain.energy_counts()
    assert counts[0] == pytest.approx(sum(plain.counts.values()))
    assert errors[0] == pytest.approx(plain.total_error)


def test_like_with_several_bins_in_the_source_range(trial):
    edges = [1795.0, LOW, 1808.0, HIGH, 1820.0]
    axes = [histpy.Axis(edges * u.keV, label="Em"), *list(trial.events.axes)[1:]]
    phi = histpy.Axis(axes[1].edges[::2], label="Phi")
    like = histpy.Histogram(histpy.Axes([axes[2], phi, axes[0]]))
    template = trial.template(line_ratio=RATIO, like=like)
    own = trial.template(line_ratio=RATIO, energy_edges=[LOW, 1808.0, HIGH])
    assert template.project("Em")[1][1:3] == pytest.approx(own.project("Em")[1], rel=1e-5)
    contents = np.moveaxis(template.expected(), 2, 0)
    assert not contents[[0, 3]].any()
    expected = np.add.reduceat(own.expected(), np.arange(0, own.expected().shape[1], 2), axis=1)
    np.testing.assert_allclose(contents[1:3], np.swapaxes(expected, 1, 2), rtol=1e-12)
    np.testing.assert_allclose(template.energy_counts()[1], own.energy_counts()[1], rtol=1e-12)
    parts = template.split("Em")
    np.testing.assert_allclose(parts.covariance, own.split("Em").covariance, rtol=1e-9)


def test_the_slices_totals_are_kept_by_filters(trial):
    plain = trial.template(line_ratio=RATIO, energy_edges="1805:1812:1")
    smooth = trial.template(line_ratio=RATIO, energy_edges="1805:1812:1", l_cut=4, rebin_phi=5)
    np.testing.assert_allclose(
        smooth.expected("lines").sum(axis=-1), plain.expected("lines").sum(axis=-1), rtol=1e-9
    )
    assert smooth.expected().min() > 0


def test_a_time_axis_before_em(trial):
    events = trial.events
    axes = [histpy.Axis([0, 1, 2], label="Time"), *list(events.axes)]
    contents = np.asarray(events.contents.todense() if events.is_sparse else events.contents)
    half = np.floor(contents / 2)
    both = histpy.Histogram(axes, np.stack([half, contents - half]))
    plugin = LineBackgroundLike("timed", both)
    plugin.set_mask((1790, 1825))
    fit = plugin.fit(background_model([1778.97], pivot=1800))
    edges = [LOW, 1808.0, HIGH]
    template = plugin.background_template(fit, SOURCE_RANGE, energy_edges=edges)
    assert template.event_axes.labels == ("Time", "Em", "Phi", "PsiChi")
    plugin = LineBackgroundLike("one", events)
    plugin.set_mask((1790, 1825))
    summed = plugin.background_template(fit=plugin.fit(background_model([1778.97], pivot=1800)),
                                        source_range=SOURCE_RANGE, energy_edges=edges)  # fmt: skip
    ours = template.project("Em")[0]
    np.testing.assert_allclose(ours, summed.project("Em")[0], rtol=1e-6)


@pytest.mark.parametrize("edges", [[LOW, 1808.0, HIGH], [LOW, 1806.0, 1808.0, 1810.0, HIGH]])
@pytest.mark.parametrize("method", ["components", "interpolated", "sideband"])
def test_a_spectrum_without_other_axes(trial, method, edges):
    spectrum = trial.events.project("Em")
    plugin = LineBackgroundLike("alone", spectrum)
    plugin.set_mask((1790, 1825))
    options = METHODS["sideband"] if method == "sideband" else {"method": method}
    template = plugin.background_template(
        trial.fit, SOURCE_RANGE, line_ratio=RATIO, energy_edges=edges, **options
    )
    assert template.event_axes.labels == ("Em",)
    for label, part in template.components.items():
        ours = np.asarray(part.contents)
        np.testing.assert_allclose(ours, template.energy_counts(label)[0], rtol=1e-9)
        assert np.all(ours > 0)


def test_sky_and_observed_with_bins(bright):
    """The sky is taken out of the slices, and its norm is fitted on the bins."""
    edges = [1805.0, 1808.0, 1812.0]
    trial = bright
    sky = trial.sky
    in_range = np.stack([trial.simulation.expected_sky(a, b) for a, b in itertools.pairwise(edges)])
    plain = trial.template(line_ratio=RATIO, energy_edges=edges)
    rng = np.random.default_rng(5)
    observed = histpy.Histogram(plain.axes, rng.poisson(plain.expected() + in_range) * 1.0)
    template = trial.template(
        line_ratio=RATIO,
        energy_edges=edges,
        sky=(sky, histpy.Histogram(plain.axes, in_range)),
        observed=observed,
    )
    norm, error = template.record.sky_norm
    assert abs(norm - 1.0) < 5 * error
    assert template.energy_bins is not None
    assert sum(template.counts.values()) == pytest.approx(template.expected().sum())


def test_a_bin_without_a_positive_sum_is_named():
    """Far from the window the noise of an extrapolation is larger than the counts."""
    axes = [
        histpy.Axis(np.arange(1600, 2001, 10.0) * u.keV, label="Em"),
        histpy.Axis(np.linspace(0, 180, 4) * u.deg, label="Phi"),
    ]
    counts = np.random.default_rng(0).poisson(4.0, (40, 3)) * 1.0
    plugin = LineBackgroundLike("few", histpy.Histogram(axes, counts))
    plugin.set_mask((1700, 2000))
    fit = plugin.fit(background_model(pivot=1650))
    with pytest.raises(TemplateError, match="not positive in the energy bin 1800-1820 keV"):
        plugin.background_template(
            fit, (1800, 2000), energy_edges="1800:2000:20", window=(1600, 1700), order=2
        )


@pytest.mark.parametrize("filtered", [{}, {"l_cut": 4}, {"rebin_phi": 10, "smoothing_fwhm": 30}])
@pytest.mark.parametrize("order", [1, 2])
def test_each_slice_of_each_bin_keeps_its_total_and_is_positive(filtered, order):
    """With so few counts that most cells are empty; totals straight from weights and slices."""
    simulation = simulate(2, nside=8)
    counts = np.random.default_rng(3).binomial(
        simulated_events(simulation).contents.todense().astype(int), 0.5
    )
    events = histpy.Histogram(simulated_events(simulation).axes, counts * 1.0)
    plugin = LineBackgroundLike("few", events)
    plugin.set_mask((1790, 1825))
    fit = plugin.fit(background_model([1778.97], pivot=1800))
    options = {"order": order, "window": (1650, 1980), "line_ratio": RATIO}
    edges = np.linspace(LOW, HIGH, 9)
    template = plugin.background_template(
        fit, SOURCE_RANGE, energy_edges=edges, **options, **filtered
    )
    for label in template.labels:
        found = template.components[label]
        assert found.contents.min() > 0
        assert np.asarray(found.sumw2.contents).min() >= 0
    by_phi = counts.sum(axis=-1)
    for b in (0, 3, 7):
        middle, half = 0.5 * (edges[b] + edges[b + 1]), 0.5 * (HIGH - LOW)
        own = plugin.background_template(fit, (middle - half, middle + half), **options)
        expected = own.weights[0] @ by_phi
        expected *= template.energy_counts("continuum")[0][b] / expected.sum()
        found = template.components["continuum"].contents[b].sum(axis=-1)
        np.testing.assert_allclose(found, expected, rtol=1e-8)


def test_memory_is_that_of_the_maps(trial):
    """At most the maps, their covariances and a tenth of both above what one energy bin takes."""
    import tracemalloc

    def peak(edges):
        tracemalloc.start()
        template = trial.template(line_ratio=RATIO, energy_edges=edges)
        found = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert len(template.labels) == 2
        return found, (2 * 16 + 4) * template.expected().size

    one, maps_of_one = peak(None)
    many, maps = peak("1805:1812:0.1")
    assert many < one - maps_of_one + 1.1 * maps
