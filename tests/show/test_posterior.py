"""Figures of a posterior: medians, marks, bands and ranks."""

import numpy as np
import pytest
from matplotlib.figure import Figure
from posteriors import SOURCE, best_fit, right_posterior

from cosi_linebkg_plugin.errors import DataError
from cosi_linebkg_plugin.show.posterior import plot_corner, plot_predictive


@pytest.fixture(scope="module")
def right():
    return right_posterior()


@pytest.mark.parametrize("draw", [plot_corner, plot_predictive])
def test_a_fit_without_samples_is_refused(draw):
    with pytest.raises(DataError, match="no posterior samples: sample it with"):
        draw(best_fit())


def test_the_corner_shows_medians_and_marks(right):
    best = best_fit()
    figure = plot_corner(right, source_range=SOURCE, reference=best)
    assert isinstance(figure, Figure) and len(figure.axes) == 16  # K, index, sigma, counts
    titles = [axes.get_title() for axes in figure.axes[::5]]
    assert [t.split("\n")[0] for t in titles] == ["K_1", "index_1", "sigma_2", "continuum"]
    for title, name in zip(titles, ("K_1", "index_1", "sigma_2"), strict=False):
        shown = float(title.split("$")[1].split("^")[0])
        assert shown == pytest.approx(right.values[name], abs=0.1 * right.errors[name])
    bottom = figure.axes[12:]
    assert bottom[0].get_xlabel() == "K_1 [1/keV]"
    marked = [line.get_xdata()[0] for line in figure.axes[0].lines]
    assert best.values["K_1"] in marked
    with pytest.raises(DataError, match="nonsense is no free parameter"):
        plot_corner(right, ["nonsense"])
    with pytest.raises(DataError, match="Nothing is left to draw"):
        plot_corner(right, [])
    assert len(plot_corner(right, ["K_1"]).axes) == 1


def test_the_predictive_figure_shows_band_and_ranks(right):
    figure = plot_predictive(right, seed=3)
    upper, lower = figure.axes
    band = next(p for p in upper.patches if p.get_label().endswith("68.3 %"))
    inside = (band.get_data().baseline <= right.expected) & (
        right.expected <= band.get_data().values
    )
    assert inside.all()
    ranks = lower.lines[0].get_ydata()
    assert ranks.size == right.spectrum.used.sum() and ranks.min() >= 0 and ranks.max() <= 1
    assert abs(ranks.mean() - 0.5) < 4.5 * np.sqrt(1 / 12 / ranks.size)  # uniform
    assert lower.get_xlabel() == "energy [keV]"
