"""Weights on energy slices, alone and in templates."""

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy import stats
from trials import RATIO

from cosi_linebkg_plugin.errors import LineBackgroundWarning, TemplateError
from cosi_linebkg_plugin.show.figure import raised
from cosi_linebkg_plugin.show.template import plot_weights
from cosi_linebkg_plugin.template.weights import component_weights

pytestmark = pytest.mark.filterwarnings("ignore::cosi_linebkg_plugin.errors.LineBackgroundWarning")


def mixture(n_bins=60):
    """A falling continuum and two lines, expected counts per bin."""
    edges = np.linspace(1700.0, 1900.0, n_bins + 1)
    energies = 0.5 * (edges[1:] + edges[:-1])
    continuum = 5000.0 * (energies / 1800.0) ** -2.0 * np.diff(edges) / 5.0
    shape = [np.diff(stats.norm.cdf(edges, mu, 3.0)) for mu in (1764.0, 1779.0)]
    return edges, energies, np.array([continuum, 9000.0 * shape[0] + 20000.0 * shape[1]])


def test_weights_are_the_sweights_of_the_package_sweights():
    sweights = pytest.importorskip("sweights")
    _, energies, parts = mixture(400)
    norm = 1.0 / (1 / 1700.0 - 1 / 1900.0)

    def line(x):
        return (9.0 * stats.norm.pdf(x, 1764, 3) + 20.0 * stats.norm.pdf(x, 1779, 3)) / 29.0

    def continuum(x):
        return norm * np.asarray(x, dtype=float) ** -2.0

    def total(x):
        return (counts[0] * continuum(x) + counts[1] * line(x)) / counts.sum()

    counts = parts.sum(axis=1)
    cow = sweights.Cow((1700.0, 1900.0), line, continuum, total)
    ours = component_weights(
        parts, parts.sum(axis=0), energies, np.ones(energies.size, bool), 1808.5, order=0
    )
    # ours are per count of the component, theirs per event of the sample
    assert_allclose(ours[1] * counts[1], cow.get_weight(0, energies), rtol=2e-3, atol=2e-3)
    assert_allclose(ours[0] * counts[0], cow.get_weight(1, energies), rtol=2e-3, atol=2e-3)


@pytest.mark.parametrize("order", [0, 1, 2])
def test_weights_take_the_components_apart(order):
    _, energies, parts = mixture()
    selected = (energies < 1790) | (energies > 1825)
    w = component_weights(parts, parts.sum(axis=0), energies, selected, 1808.5, order)
    assert_allclose(w @ parts.T, np.eye(2), atol=1e-12)
    assert not w[:, ~selected].any()
    x = energies - 1808.5
    for power in range(1, order + 1):  # what changes with energy is 0 at the source energy
        assert_allclose(w @ (parts[0] * x**power), 0.0, atol=1e-9 * np.abs(x**power).max())


def test_weights_have_the_least_variance():
    _, energies, parts = mixture()
    total = parts.sum(axis=0)
    everything = np.ones(energies.size, bool)
    w = component_weights(parts, total, energies, everything, 1808.5, order=1)
    constraints = np.array([parts[0], parts[0] * (energies - 1808.5), parts[1]])
    for direction in np.linalg.svd(constraints)[2][3::7]:
        for row in w:
            assert np.sum((row + 1e-6 * direction) ** 2 * total) > np.sum(row**2 * total)


def test_too_few_bins_are_refused():
    _, energies, parts = mixture()
    few = (energies > 1840) & (energies < 1850)
    with pytest.raises(TemplateError, match="3 energy bins cannot tell apart 3 distributions"):
        component_weights(parts, parts.sum(axis=0), energies, few, 1808.5, 1)


def test_order_and_window_change_the_weights(trial):
    a = trial.template(line_ratio=RATIO)
    assert a.sidebands[0][0] >= 1728 and a.sidebands[-1][1] <= 1889
    wide = trial.template(line_ratio=RATIO, window=(1670, 1960))
    assert wide.sidebands[0][0] < 1675
    assert not np.allclose(a.weights, trial.template(line_ratio=RATIO, order=0).weights)
    for t in (a, wide):
        assert np.all(t.weights[:, trial.fit.spectrum.mask] == 0)


def test_figure_of_the_weights(trial):
    template = trial.template(line_ratio=RATIO)
    (axes,) = plot_weights(template).axes
    power = int(np.floor(np.log10(np.abs(template.weights).max())))
    edges = template.fit.spectrum.edges
    curves = [p for p in axes.patches if p.get_label() in template.labels]
    assert [p.get_label() for p in curves] == list(template.labels)
    for curve, weights in zip(curves, template.weights, strict=True):
        assert_allclose(curve.get_data().values * 10.0**power, weights, rtol=1e-12)
        assert_allclose(curve.get_data().edges, edges)
    assert axes.get_ylabel() == f"weight of a slice [10{raised(str(power))}]"
    used = edges[:-1][template.weights.any(axis=0)]
    low, high = axes.get_xlim()
    assert axes.get_xlabel() == "energy [keV]" and edges[0] < low < used[0]
    assert used[-1] < high < edges[-1]


def test_a_line_in_the_source_range_is_no_tracer_if_there_are_others(trial):
    """Its wings beside the range hold those of a source: 1778.97 keV is fitted, 1765 is near."""
    inside = trial.plugin.background_template(trial.fit, (1776.0, 1783.0))
    energies = np.array(inside.record.tracers)
    assert energies.size > 2 and not np.any((energies > 1776.0) & (energies < 1783.0))
    assert not any("wings of" in note for note in inside.notes)
    with pytest.warns(LineBackgroundWarning, match="wings of 1778.9"):
        alone = trial.plugin.background_template(trial.fit, (1776.0, 1783.0), tracers=[1778.97])
    assert alone.record.tracers[0] == pytest.approx(1778.97, abs=0.5)
