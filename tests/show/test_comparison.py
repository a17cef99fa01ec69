"""Figures of templates against observed counts: what is drawn is what was compared."""

import numpy as np
import pytest
from numpy.testing import assert_allclose
from observed import exact, observed_of, pattern

from cosi_linebkg_plugin.errors import TemplateError
from cosi_linebkg_plugin.show.comparison import plot_comparison
from cosi_linebkg_plugin.template.comparison import compare, compare_all


@pytest.mark.parametrize("name", ["Phi", "PsiChi"])
def test_the_figure_of_a_comparison(name):
    rows = compare_all({"a": exact(pattern()), "b": exact(0.9 * pattern())}, observed_of(pattern()))
    figure = plot_comparison(rows, name)
    upper, *below = figure.axes
    assert len(below) == 2
    for panel, row in zip(below, rows, strict=True):
        part = row.projections[name]
        assert_allclose(panel.lines[0].get_ydata(), part.chi)
        low, high = panel.get_ylim()
        assert -low == high > np.abs(part.chi).max()
        title = panel.get_title(loc="left")
        assert title.startswith(f"{row.name}: its own total {row.counts:,.0f}, observed 40,0")
        assert f"({row.difference_percent:+.1f} ± {row.difference_error_percent:.1f} %)" in title
        assert f"drawn times {row.observed / row.counts:.3g}\n" in title
        assert f"{part.chi2:.0f}/{part.dof}" in title
    assert "templates scaled" in upper.get_ylabel()
    labels = [text.get_text() for text in upper.get_legend().get_texts()]
    assert {"a", "b", "observed"} == set(labels)
    expected = [line for line in upper.lines if line.get_label() == "b"]
    assert_allclose(expected[0].get_ydata(), rows[1].projections[name].expected)
    assert ("deg" if name == "Phi" else "nside 4") in below[-1].get_xlabel()


def test_a_figure_of_too_many_or_of_none_is_refused():
    row = compare(exact(pattern()), observed_of(pattern()))
    for rows in ([], [row] * 7):
        with pytest.raises(TemplateError, match="Between 1 and 6"):
            plot_comparison(rows)
