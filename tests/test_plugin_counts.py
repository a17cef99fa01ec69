"""Counts of the source range that a plugin gives: expected ones and observed ones."""

import numpy as np
import pytest
from following import RATIO, Case, restored_spectrum, tracer_of
from numpy.testing import assert_allclose
from scipy import stats

from cosi_linebkg_plugin import LineBackgroundLike, background_model
from cosi_linebkg_plugin.app.simulation import DEMO_LINE_RATIO
from cosi_linebkg_plugin.errors import LineBackgroundError, ModelError, TemplateError

pytestmark = pytest.mark.filterwarnings("ignore::cosi_linebkg_plugin.errors.LineBackgroundWarning")


@pytest.fixture(scope="module")
def case():
    return Case()


@pytest.fixture
def spectrum(case):
    yield from restored_spectrum(case)


def test_source_counts_are_those_of_the_fit(case):
    expected = case.fit.expected_counts(case.range)
    got = case.plugin.source_counts(case.range)
    assert_allclose(list(got.values()), expected.values, rtol=1e-12)
    with_ratio = case.plugin.source_counts(case.range, line_ratio=RATIO)
    theta = {name: p.value for name, p in case.fit.parameters.items()}
    n = tracer_of(case)
    # the same Gaussian, written down anew
    share = np.diff(stats.norm.cdf(case.range, 1808.65, theta["sigma_2"]))[0]
    added = DEMO_LINE_RATIO * theta[f"F_{n}"] * share
    assert with_ratio["lines"] - got["lines"] == pytest.approx(added, rel=1e-10)


def test_source_counts_follow_the_parameters(case, spectrum):
    before = case.plugin.source_counts(case.range, line_ratio=RATIO)
    spectrum.K_1.value *= 1.1
    getattr(spectrum, f"F_{tracer_of(case)}").value *= 0.5
    after = case.plugin.source_counts(case.range, line_ratio=RATIO)
    assert after["continuum"] == pytest.approx(1.1 * before["continuum"])
    assert after["lines"] == pytest.approx(0.5 * before["lines"], rel=1e-3)  # tails of others


def test_source_counts_of_a_new_model(case):
    """The plugin of a session gets other models; nothing of the old one stays."""
    plugin = LineBackgroundLike("other", (case.edges, case.fit.spectrum.counts))
    with pytest.raises(ModelError, match="no model yet"):
        plugin.source_counts(case.range)
    for k in (1000.0, 3000.0):
        model = background_model(pivot=1800)
        model.sources["linebkg"].spectrum.main.shape.K.value = k
        plugin.set_model(model)
        width = case.range[1] - case.range[0]
        expected = k * width * (np.mean(case.range) / 1800.0) ** -2.0
        assert plugin.source_counts(case.range)["continuum"] == pytest.approx(expected, rel=1e-4)
    with pytest.raises(TemplateError, match="no fitted line"):
        plugin.source_counts(case.range, line_ratio=RATIO)


def test_observed_counts_are_the_events_of_whole_bins(case):
    observed = case.plugin.observed_counts(case.range)
    assert observed.axes["Em"].nbins == 1
    expected = sum(
        case.simulation.observed(low, high)
        for low, high in zip(case.edges[60:62], case.edges[61:63], strict=True)
    )
    assert_allclose(observed.contents[0], expected)
    template = case.template()
    fit = template.fit_norms(observed)  # a free Poisson fit keeps the total
    assert fit.values.sum() == pytest.approx(expected.sum(), rel=1e-6)
    with pytest.raises(TemplateError, match=r"cuts through energy bins .* bin edges"):
        case.plugin.observed_counts((1805, 1812))
    bare = LineBackgroundLike("bare", (case.edges, case.fit.spectrum.counts))
    with pytest.raises(LineBackgroundError, match="a spectrum alone"):
        bare.observed_counts(case.range)
