"""Filters on sums of slices, and their choice from the data."""

import astropy.units as u
import healpy as hp
import histpy
import numpy as np
import pytest
from numpy.testing import assert_allclose
from trials import RATIO

from cosi_linebkg_plugin import LineBackgroundLike, background_model
from cosi_linebkg_plugin.app.demo import resolved_lines
from cosi_linebkg_plugin.app.simulation import SOURCE_RANGE
from cosi_linebkg_plugin.errors import TemplateError
from cosi_linebkg_plugin.histograms.read import open_events
from cosi_linebkg_plugin.show.template import plot_filter_scores
from cosi_linebkg_plugin.template.record import FilterScore
from cosi_linebkg_plugin.template.smoothing import choose_filter

pytestmark = pytest.mark.filterwarnings("ignore::cosi_linebkg_plugin.errors.LineBackgroundWarning")


def test_filters_keep_each_slices_total(trial):
    raw, smooth = (
        trial.template(line_ratio=RATIO),
        trial.template(line_ratio=RATIO, smoothing_fwhm=20),
    )
    for label in raw.labels:
        assert_allclose(smooth.project("Phi", label)[0], raw.project("Phi", label)[0], rtol=1e-10)
    for t in (raw, smooth):
        assert np.all(np.asarray(t.histogram.contents) > 0)


def test_auto_smoothing_beats_no_filter(trial):
    auto = trial.template(line_ratio=RATIO, smoothing="auto")
    raw = trial.template(line_ratio=RATIO)
    truth = trial.simulation.expected_background(*SOURCE_RANGE)

    def predictive(template):
        contents = np.asarray(template.histogram.contents)[0]
        pattern = contents / contents.sum(axis=-1, keepdims=True)
        return np.sum(truth * np.log(pattern))

    assert predictive(auto) > predictive(raw)
    scores = auto.record.filter_scores
    assert max(s.score for s in scores) > 0 and scores[0] == FilterScore("no filter", 0)
    best = max(scores, key=lambda s: s.score)
    assert auto.record.filter == best.filter
    (axes,) = plot_filter_scores(auto).axes
    assert [t.get_text() for t in axes.get_yticklabels()] == [s.filter for s in scores]
    assert axes.get_xlabel() == "gain in log-likelihood over no filter"
    assert_allclose(axes.get_ylim(), (-0.7, len(scores) - 0.3))
    bars = {round(b.get_y() + 0.35): b.get_width() for c in axes.containers for b in c}
    assert [bars[k] for k in sorted(bars, reverse=True)] == [s.score for s in scores]
    with pytest.raises(TemplateError, match="no filter scores"):
        plot_filter_scores(raw)


def test_the_data_choose_whether_times_share_a_pattern():
    """A dipole that turns in time is followed; one that stays is taken from all times."""
    x, _, z = hp.pix2vec(4, np.arange(192))
    rng = np.random.default_rng(3)
    axes = [
        histpy.Axis(np.arange(5) * 100.0 * u.s, label="Time"),
        histpy.Axis(np.arange(1500.0, 1521.0, 5) * u.keV, label="Em"),
        histpy.Axis(np.linspace(0, 180, 4) * u.deg, label="Phi"),
        histpy.HealpixAxis(nside=4, label="PsiChi"),
    ]
    for turning in (False, True):
        angle = np.arange(4) * 0.5 * np.pi * turning
        dipole = np.cos(angle)[:, None] * x + np.sin(angle)[:, None] * z
        expected = np.repeat(3.0 * (1 + 0.9 * dipole)[:, None, None], 4, axis=1).repeat(3, axis=2)
        events = open_events(histpy.Histogram(axes, contents=rng.poisson(expected) * 1.0))
        chosen, scores = choose_filter(events, np.ones((1, 4)), [1.0])
        assert (chosen.pool is None) == turning
        assert scores[0] == FilterScore("no filter", 0.0) and len(scores) < 10
        assert max(scores, key=lambda s: s.score).filter == chosen.describe()


def test_auto_smoothing_needs_whole_counts(trial):
    weighted = trial.events * 0.5
    plugin = LineBackgroundLike("bkg", weighted)
    plugin.set_mask((1790, 1825))
    fit = plugin.fit(background_model(resolved_lines(), pivot=1800))
    with pytest.raises(TemplateError, match="needs whole numbers"):
        plugin.background_template(fit, SOURCE_RANGE, smoothing="auto")
