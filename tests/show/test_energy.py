"""Figures of a template of several energy bins: what is drawn is what the template says."""

import numpy as np
import pytest
from numpy.testing import assert_allclose
from templates import axes, axis, cells, template_of, with_energy_bins

from cosi_linebkg_plugin.errors import TemplateError
from cosi_linebkg_plugin.show.energy import plot_energies, plot_phi_against_energy
from cosi_linebkg_plugin.template.kinematics import feature_angle

EDGES = np.array([1805.0, 1806.0, 1808.0, 1812.0])


@pytest.fixture
def template():
    import astropy.units as u

    some = axes("Phi", "Em", "PsiChi", Em=axis("Em", edges=EDGES * u.keV))
    return with_energy_bins(
        template_of({"continuum": cells(some, 1), "lines": cells(some, 2)}, some)
    )


def steps_of(ax):
    return {p.get_label(): p.get_data() for p in ax.patches if p.get_label()}


def test_the_spectrum_by_component_with_errors_and_observed_counts(template):
    observed = np.random.default_rng(1).poisson(template.expected()) * 1.0
    upper, lower = plot_energies(template, observed=observed).axes
    drawn = steps_of(upper)
    widths = np.diff(EDGES)
    counts, errors = template.energy_counts()
    assert_allclose(drawn["template"].values * widths, counts)
    for label in template.labels:
        assert_allclose(drawn[label].values * widths, template.energy_counts(label)[0])
    bands = [p.get_data() for p in upper.patches if p.get_data().baseline is not None]
    assert_allclose((bands[0].values - bands[0].baseline) * widths, 2 * errors)
    seen = observed.sum(axis=(0, 2))
    assert_allclose(upper.containers[0][0].get_ydata() * widths, seen)
    assert_allclose(lower.lines[0].get_ydata(), (seen - counts) / np.sqrt(errors**2 + counts))


def test_an_unknown_amount_has_no_band(template):
    covariance = template.covariance.copy()
    covariance[1, 1] = np.inf
    loose = template._with(covariance=covariance)
    (upper,) = plot_energies(loose).axes
    labels = [t.get_text() for t in upper.get_legend().get_texts()]
    assert "lines (amount not known, drawn as 10%)" in labels
    drawn = steps_of(upper)["lines (amount not known, drawn as 10%)"].values * np.diff(EDGES)
    assert_allclose(drawn, 0.1 * loose.energy_counts()[0].sum() * loose.energy_bins.shares[1])
    bands = [p for p in upper.patches if p.get_data().baseline is not None]
    assert len(bands) == 1  # the continuum's


def test_phi_against_energy_beside_the_observed_counts(template):
    observed = np.random.default_rng(1).poisson(template.expected()) * 1.0
    figure = plot_phi_against_energy(template, observed=observed)
    ours, theirs, _ = figure.axes
    area = np.outer(np.full(6, 30.0), np.diff(EDGES))
    for panel, contents in ((ours, template.expected()), (theirs, observed)):
        image = np.reshape(panel.collections[0].get_array(), area.shape)  # flat before 3.8
        assert_allclose(image * area, contents.sum(axis=2), rtol=1e-12)
    line = next(x for x in ours.lines if x.get_linestyle() == "--")
    x, y = line.get_data()
    assert_allclose(y, feature_angle(x, 510.99895, True))
    assert "E2 = 511 keV" in {t.get_text() for t in ours.texts}


def test_counts_of_another_shape_and_axes_are_refused(template):
    with pytest.raises(TemplateError, match="shape"):
        plot_energies(template, observed=np.zeros(3))
    without = template_of({"continuum": cells(axes("Em"))}, axes("Em"))
    with pytest.raises(TemplateError, match="no Phi axis"):
        plot_phi_against_energy(without)
