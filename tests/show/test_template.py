"""Figures of a template: projections, chi and weights, on any axes."""

import numpy as np
import pytest
from figures import SOURCE, curve, legend, spans
from numpy.testing import assert_allclose, assert_array_equal
from templates import axes as make_axes
from templates import template_of

from cosi_linebkg_plugin.errors import TemplateError
from cosi_linebkg_plugin.histograms.axis import EventAxis
from cosi_linebkg_plugin.show.template import plot_projection, plot_weights

pytestmark = pytest.mark.usefixtures("no_warnings")


def test_projection_shows_counts_errors_and_degrees(template):
    (axes,) = plot_projection(template, "Phi").axes
    counts, errors = template.project("Phi")
    steps = next(p for p in axes.patches if p.get_label() == "template").get_data()
    assert_allclose(steps.values, counts)
    assert_allclose(steps.edges, np.linspace(0, 180, 7))
    band = next(p for p in axes.patches if p.get_label().startswith("template ±")).get_data()
    assert_allclose(band.values - band.baseline, 2 * errors)
    assert axes.get_xlabel() == "φ [deg]"
    assert axes.get_xlim() == (0.0, pytest.approx(180.0))


def test_components_without_counts_are_no_curves():
    rng = np.random.default_rng(2)
    cells = {"continuum": rng.uniform(50, 90, (1, 6, 12)), "lines": rng.uniform(1, 3, (1, 6, 12))}
    assert {"continuum", "lines"} <= set(
        legend(plot_projection(template_of(cells, make_axes())).axes[0])
    )
    unknown = template_of(cells, make_axes(), counts={"continuum": 5000.0, "lines": 0.0})
    names = legend(plot_projection(unknown).axes[0])
    assert "lines" not in names and "template" in names


@pytest.mark.parametrize(
    ("axis", "label", "end"),
    [
        ("Time", "time since start [d]", 1.0),
        ("PsiChi", "ψχ [pixel]", 12.0),
        ("Em", "energy [keV]", 1812.0),
    ],
)
def test_projection_along_any_axis(template, axis, label, end):
    n_bins = template.project(axis)[0].size
    figure = plot_projection(template, axis, truth=np.ones(n_bins))
    assert figure.axes[-1].get_xlabel() == label
    assert figure.axes[-1].get_xlim()[1] == pytest.approx(end)


def test_chi_divides_by_the_error_of_what_is_compared(template):
    counts, errors = template.project("Phi")
    figure = plot_projection(template, observed=counts + 7.0, truth=counts - 3.0)
    upper, lower = figure.axes
    by_label = {line.get_label().split(":")[0]: line.get_ydata() for line in lower.lines}
    # the truth has no noise, and is compared at the template's total: its shape is judged
    truth = (counts - 3.0) * counts.sum() / (counts - 3.0).sum()
    assert_allclose(by_label["truth at the template's total"], (counts - truth) / errors)
    assert_allclose(by_label["observed"], -7.0 / np.sqrt(errors**2 + counts))
    assert {"observed", "truth"} <= set(legend(upper))
    chi2 = np.sum(((counts - truth) / errors) ** 2)
    assert legend(lower)[1] == f"truth at the template's total: χ² / bins = {chi2:.1f} / 6"
    assert lower.get_ylabel() == "χ"


class EmptyBins:
    """A template whose second bin holds nothing and has no error."""

    def __init__(self):
        self.event_axes = {"Phi": EventAxis("Phi", np.array([0.0, 90.0, 180.0]), "deg")}

        self.labels, self.unknown, self.counts, self.total_error = ("a",), (), {"a": 4.0}, 2.0

    def project(self, axis):
        return np.array([4.0, 0.0]), np.array([2.0, 0.0])


def test_bins_without_error_have_no_chi():
    lower = plot_projection(EmptyBins(), truth=[2.0, 1.0]).axes[1]
    chi = next(line for line in lower.lines if line.get_label().startswith("truth"))
    assert_array_equal(chi.get_xdata(), [45.0])
    assert_allclose(chi.get_ydata(), [(4.0 - 2.0 * 4.0 / 3.0) / 2.0])


def test_comparison_of_the_wrong_length_is_refused(template):
    with pytest.raises(TemplateError, match=r"truth counts have the shape \(3,\).* 6 bins"):
        plot_projection(template, truth=[1, 2, 3])


def test_weights_are_drawn_over_energy(template):
    (axes,) = plot_weights(template).axes
    edges = template.fit.spectrum.edges
    used = np.flatnonzero(template.weights.any(axis=0))
    low, high = axes.get_xlim()
    assert edges[0] <= low <= edges[used[0]] and edges[used[-1] + 1] <= high <= edges[-1]
    assert high - low <= 1.2 * (edges[used[-1] + 1] - edges[used[0]]) + 1e-9
    assert_allclose(curve(axes, "background"), template.weights[0])
    assert_allclose(spans(axes, "source range"), [SOURCE])
    assert axes.get_xlabel() == "energy [keV]"
