"""Covariances of components: the sum's variance is exact, in memory, in files and after filters."""

from dataclasses import replace
from functools import partial

import histpy
import numpy as np
import pytest
from two_components import (
    RATIO,
    SOURCE,
    apart,
    events_of,
    expectation,
    make_axes,
    plugin_of,
    sumw2_of,
)

from cosi_linebkg_plugin import LineBackgroundLike, background_model
from cosi_linebkg_plugin.histograms.read import open_events
from cosi_linebkg_plugin.template.bin_maps import template_maps
from cosi_linebkg_plugin.template.options import TemplateOptions
from cosi_linebkg_plugin.template.plan import plan_for_fit
from cosi_linebkg_plugin.template.products import (
    filter_product,
    slice_correlations,
    variance_of_sum,
)
from cosi_linebkg_plugin.template.steps import make_recipe

pytestmark = pytest.mark.filterwarnings("ignore::cosi_linebkg_plugin.errors.LineBackgroundWarning")


@pytest.fixture(scope="module")
def plugin():
    return plugin_of(1, 1.0)


@pytest.fixture(scope="module")
def fit(plugin):
    return plugin.fit(background_model([1775], pivot=1800))


@pytest.fixture(scope="module")
def template(plugin, fit):
    return plugin.background_template(fit, SOURCE, line_ratio=RATIO)


def test_the_sums_variance_is_that_of_the_summed_weights(template, plugin):
    sums = plugin.events.weighted_sums(template.weights)[0].reshape(2, -1).sum(axis=1)
    factors = np.array([template.counts[label] for label in template.labels]) / sums
    exact = plugin.events.weighted_sums(factors @ template.weights)[1][0]
    np.testing.assert_allclose(sumw2_of(template.histogram)[0], exact, rtol=1e-5)
    assert np.all(apart(template)[0] > 1.1 * exact)  # what it would be without
    errors = template.project("Phi")[1]
    np.testing.assert_allclose(errors**2, exact.sum(axis=-1), rtol=1e-5)
    for label in template.labels:  # of one component, nothing changes
        own = sumw2_of(template.components[label]).sum(axis=(0, 2))
        np.testing.assert_allclose(template.project("Phi", label)[1] ** 2, own)


@pytest.mark.parametrize("options", [{}, {"smoothing_fwhm": 60.0}, {"rebin_phi": 3}])
@pytest.mark.parametrize("scale", [1.0, 0.02])
@pytest.mark.parametrize("edges", [None, [SOURCE[0], 1806.0, SOURCE[1]]])
def test_scatter_of_poisson_slices(plugin, fit, options, scale, edges):
    """400 sets of slices and the same weights: the scatter of the sum against its variance.

    At a fiftieth of the counts, a fifth of a count per cell and bin, every slice is filled up.
    """
    given = TemplateOptions(line_ratio=RATIO, energy_edges=edges, **options)
    plan = plan_for_fit(plugin.events, fit, SOURCE, given)
    recipe = make_recipe(plan, fit, None)
    rng = np.random.default_rng(2)
    factors = {"continuum": 1.0, "lines": 1.0}
    sums, variances, independent, of_all = [], [], [], []
    for _ in range(400):
        events = open_events(events_of(rng.poisson(expectation(scale)).astype(float)))
        found = template_maps(replace(plan, events=events), recipe, None)
        sums.append(sum(factors[k] * m.sum(axis=2) for k, (m, _) in found.maps.items()))
        of_sum = partial(variance_of_sum, found.maps, factors=factors, summed=(2,))
        variances.append(of_sum(found.products))
        independent.append(of_sum({}))
        of_all.append(of_sum(found.products, summed=(0, 2), energy=0))
    scatter = np.var(sums, axis=0, ddof=1)
    # six variances of 400, twice in two bins, scatter by 7 % each, their mean by 3 %: 4 sigma
    assert abs(np.mean(scatter / np.mean(variances, axis=0)) - 1) < 0.12
    assert np.mean(scatter / np.mean(independent, axis=0)) < 0.85  # what it would be without
    # energy bins have the same slices: together they scatter as one bin does
    together = np.var(np.sum(sums, axis=1), axis=0, ddof=1)
    assert abs(np.mean(together / np.mean(of_all, axis=0)) - 1) < 0.15


def test_cells_that_no_filter_touched_stay_exact(plugin, fit):
    """Pooled slices follow the variances' model: no correlation beyond one, projections exact."""
    rng = np.random.default_rng(3)
    v = rng.uniform(0.5, 2.0, (2, 3, 4, 12))
    product = (-0.5 * np.sqrt(v[0] * v[1]) * rng.uniform(0.8, 1.2, v.shape[1:])).astype(np.float32)
    kept = rng.random((3, 4, 1)) < 0.5
    rho = slice_correlations(v, product[None], [(0, 1)], 2)[0]
    shares = rng.dirichlet(np.ones(12), (2, 3, 4))
    after = [
        np.where(kept, x, x.sum(axis=-1, keepdims=True) * p) for x, p in zip(v, shares, strict=True)
    ]
    new = product.copy()
    filter_product(new, rho, *after, kept, 2)
    np.testing.assert_array_equal(new[kept[..., 0]], product[kept[..., 0]])
    assert np.all(np.abs(new) <= np.sqrt(after[0] * after[1]) * (1 + 1e-6))
    mild = [np.where(kept, x, x.sum(axis=-1, keepdims=True) / 12) for x in v]
    new = product.copy()
    filter_product(new, rho, *mild, kept, 2)
    np.testing.assert_allclose(new.sum(axis=-1), product.sum(axis=-1), rtol=1e-5)


def test_axes_in_any_order(plugin, fit, template):
    order = ("PsiChi", "Phi", "Em")
    contents = np.asarray(events_of(plugin_contents(plugin)).contents).transpose(2, 1, 0)
    turned = LineBackgroundLike(
        "turned", histpy.Histogram(make_axes(order), contents=contents, track_overflow=False)
    )
    turned.set_mask((1790, 1825))
    other = turned.background_template(
        turned.fit(background_model([1775], pivot=1800)), SOURCE, line_ratio=RATIO, rebin_phi=2
    )
    same = plugin.background_template(fit, SOURCE, line_ratio=RATIO, rebin_phi=2)
    found = sumw2_of(other.histogram).transpose(2, 1, 0)
    np.testing.assert_allclose(found, sumw2_of(same.histogram), rtol=1e-3)


def plugin_contents(plugin):
    return plugin.events.weighted_sums(np.eye(40))[0]


def test_parts_of_a_split_keep_it(template):
    parts = template.split("Phi", 2)
    np.testing.assert_allclose(sumw2_of(parts.histogram), sumw2_of(template.histogram), rtol=1e-6)


def test_energies_alone_have_it():
    spectrum = expectation(1.0).sum(axis=(1, 2))
    plugin = LineBackgroundLike(
        "bkg", histpy.Histogram(make_axes(["Em"]), contents=spectrum, track_overflow=False)
    )
    plugin.set_mask((1790, 1825))
    own = plugin.fit(background_model([1775], pivot=1800))
    template = plugin.background_template(own, SOURCE, line_ratio=RATIO)
    assert sumw2_of(template.histogram)[0] < apart(template)[0]
