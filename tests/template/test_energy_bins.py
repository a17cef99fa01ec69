"""Templates of several energy bins: distribution, counts and errors of each bin."""

import itertools

import astropy.units as u
import histpy
import numpy as np
import pytest
from trials import RATIO

from cosi_linebkg_plugin import BackgroundTemplate
from cosi_linebkg_plugin.app.simulation import SOURCE_RANGE
from cosi_linebkg_plugin.errors import BinningError, TemplateError
from cosi_linebkg_plugin.template.energy_bins import EnergyBins

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


@pytest.mark.parametrize("options", [METHODS["components 1"], METHODS["interpolated"]])
def test_counts_and_errors_of_bins_are_those_of_the_spectrum(trial, options):
    edges = np.linspace(LOW, HIGH, 8)
    template = trial.template(line_ratio=RATIO, energy_edges=edges, **options)
    for b, (low, high) in enumerate(itertools.pairwise(edges)):
        alone = trial.plugin.background_template(
            trial.fit, (low, high), line_ratio=RATIO, **options
        )
        for label in template.labels:
            counts, errors = template.energy_counts(label)
            assert counts[b] == pytest.approx(alone.counts[label], rel=1e-9)
            assert errors[b] == pytest.approx(alone.errors[label], rel=1e-6)
        counts, errors = template.energy_counts()
        assert counts[b] == pytest.approx(sum(alone.counts.values()), rel=1e-9)
        assert errors[b] == pytest.approx(alone.total_error, rel=1e-6)
    np.testing.assert_allclose(template.project("Em")[0], template.energy_counts()[0], rtol=1e-9)


def test_a_sidebands_bins_have_the_errors_of_its_events(trial):
    options = METHODS["sideband"]
    edges = np.linspace(LOW, HIGH, 4)
    template = trial.template(line_ratio=RATIO, energy_edges=edges, **options)
    counts, errors = template.energy_counts()
    for b, (low, high) in enumerate(itertools.pairwise(edges)):
        alone = trial.plugin.background_template(
            trial.fit, (low, high), line_ratio=RATIO, **options
        )
        assert counts[b] == pytest.approx(alone.counts["background"], rel=1e-9)
        assert errors[b] == pytest.approx(alone.total_error, rel=1e-6)


def test_errors_of_bins_follow_the_norms(trial):
    """Fitted norms have other errors; the bins of each then have theirs."""
    finer = trial.template(energy_edges="1805:1812:1")
    assert np.isinf(finer.energy_counts("lines")[1]).all()
    known = trial.template(line_ratio=RATIO, energy_edges="1805:1812:1")
    for template in (finer, known):
        observed = histpy.Histogram(
            template.axes,
            np.random.default_rng(1).poisson(known.histogram.contents).astype(float),
        )
        template.fit_norms(observed)
        parts = template.split("Em")
        for label in template.labels:
            rows = [parts.labels.index(x) for x in parts.labels if x.startswith(label)]
            total = parts.covariance[np.ix_(rows, rows)].sum()
            # parts may move apart by a tenth of their errors
            diagonal = np.diag(parts.covariance)[rows].sum()
            loose = diagonal * (1 - 1 / 1.01)
            assert total - loose == pytest.approx(template.errors[label] ** 2, rel=1e-9)
        assert parts.total_error == pytest.approx(template.total_error, rel=5e-3)
        assert template.counts["lines"] == pytest.approx(
            known.counts["lines"], abs=5 * template.errors["lines"]
        )


def test_conditional_law_of_bins():
    """Against the textbook formula for a Gaussian given linear combinations of it."""
    rng = np.random.default_rng(2)
    root = rng.normal(size=(6, 6))
    covariance = root @ root.T
    bins = EnergyBins.of(
        np.arange(1.0, 5.0),
        np.full((2, 3), 1 / 3),
        covariance.reshape(2, 3, 2, 3),
        np.zeros(2, bool),
    )
    sums = np.kron(np.eye(2), np.ones(3))
    norms = sums @ covariance @ sums.T
    np.testing.assert_allclose(bins.covariance(norms).reshape(6, 6), covariance, atol=1e-12)
    gain = covariance @ sums.T @ np.linalg.inv(norms)
    given = covariance - gain @ sums @ covariance
    new = np.diag([2.0, 3.0])
    np.testing.assert_allclose(
        bins.covariance(new).reshape(6, 6), given + gain @ new @ gain.T, atol=1e-12
    )


@pytest.mark.parametrize(
    ("edges", "message"),
    [
        (
            [1804.0, 1808.0, 1812.0],
            r"energy_edges= runs from 1804.*reaches outside the source range",
        ),
        ([1805.0, 1808.0, 1813.0], "reaches outside"),
        ([1806.0, 1808.0, 1812.0], "leaves out a part of the source range"),
        ([1805.0, 1808.0, 1807.0, 1812.0], "energy_edges=: Energy edges must increase"),
        ([1805.0, 1808.0, 1808.0005, 1812.0], "narrower than 0.001 keV"),
        (np.linspace(1805, 1812, 700), "699 energy bins, at most 500"),
        ("1805:1812:0.01", "energy_edges=.*700 bins, at most 500"),
        ("1805:1812:2", "energy_edges=.*does not divide"),
        ([1805.0], "two or more"),
        ("nonsense", "energy_edges=.*low:high:width"),
        ([1805.0, np.nan, 1812.0], "finite"),
    ],
)
def test_bad_edges(trial, edges, message):
    with pytest.raises(TemplateError, match=message):
        trial.template(energy_edges=edges)


def test_bins_of_like_that_cut_the_source_range(trial):
    axes = [histpy.Axis([1800, 1806, 1812, 1820] * u.keV, label="Em"), *list(trial.events.axes)[1:]]
    like = histpy.Histogram(axes)
    with pytest.raises(TemplateError, match="like= cut the source range 1805-1812 keV"):
        trial.template(like=like)
    with pytest.raises(TemplateError, match="energy_edges= and like= both"):
        trial.template(like=like, energy_edges=[1805, 1808, 1812])


def test_observed_counts_in_bins(trial):
    """On the template's own bins, or on finer ones whose edges hold them; else refused."""
    template = trial.template(line_ratio=RATIO, energy_edges=[LOW, 1807.0, HIGH])
    others = list(trial.events.axes)[1:]
    fine = histpy.Axis(np.arange(1800.0, 1821.0) * u.keV, label="Em")
    counts = np.random.default_rng(1).poisson(3.0, (20, *template.event_axes.shape[1:])) * 1.0
    found = template.counts_on_axes(histpy.Histogram([fine, *others], counts))
    np.testing.assert_array_equal(found, [counts[5:7].sum(axis=0), counts[7:12].sum(axis=0)])
    own = histpy.Histogram(template.axes, found)
    np.testing.assert_array_equal(template.counts_on_axes(own), found)
    with pytest.raises(
        TemplateError, match="cuts through energy bins.*in the template's own energy"
    ):
        template.counts_on_axes(trial.events)
    with pytest.raises(TemplateError, match="number of bins 1, not 2"):
        template.counts_on_axes(trial.observed)
    short = histpy.Axis(np.arange(1806.0, 1821.0) * u.keV, label="Em")
    with pytest.raises(BinningError, match="outside the energy axis"):
        template.counts_on_axes(histpy.Histogram([short, *others], counts[:14]))


def test_a_hidden_line_of_unknown_amount_has_its_own_energies(trial, tmp_path):
    """A ratio without a value: the profile that it gives with one, the norm free."""
    edges = np.arange(1795.0, 1823.0)
    plugin, fit = trial.plugin, trial.fit
    alone = {"line": RATIO["line"], "tracer": RATIO["tracer"]}
    free, even, known = (
        plugin.background_template(fit, (1795, 1822), line_ratio=ratio, energy_edges=edges)
        for ratio in (alone, None, RATIO)
    )
    assert free.unknown == ("lines",) and free.counts["lines"] == even.counts["lines"]
    shares = free.energy_bins.shares[1]
    assert shares.sum() == pytest.approx(1.0) and abs(edges[shares.argmax()] + 0.5 - 1808.65) < 0.6
    # with a value the tail of the tracer, of some ten counts, is added
    assert np.abs(shares - known.energy_bins.shares[1]).max() < 0.002
    assert np.ptp(even.energy_bins.shares[1]) < 1e-9
    free.write(tmp_path / "t.h5")
    again = BackgroundTemplate.open(tmp_path / "t.h5")
    assert again.record.line_ratio == free.record.line_ratio and again.unknown == ("lines",)
    np.testing.assert_allclose(again.energy_bins.shares, free.energy_bins.shares)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"line_ratio": {"line": 1808.65, "tracer": 1779, "error": 0.1}}, "but no value"),
        (
            {"line_ratio": {"line": 1808.65, "tracer": 1779}, "method": "interpolated"},
            "needs a norm of its own: method='components', not 'interpolated'",
        ),
        ({"line_ratio": {"line": 1700, "tracer": 1779}}, "falls into the source range"),
    ],
)
def test_ratios_without_a_value_that_say_nothing(trial, options, message):
    with pytest.raises(TemplateError, match=message):
        trial.template(**options)
