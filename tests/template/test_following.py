"""Amounts of a template that follow the spectrum of a session."""

import itertools
from dataclasses import replace

import astropy.units as u
import histpy
import numpy as np
import pytest
from following import RATIO, Case, restored_spectrum, tracer_of
from numpy.testing import assert_allclose
from templates import rebuilt

from cosi_linebkg_plugin.app.simulation import DEMO_LINE_RATIO
from cosi_linebkg_plugin.errors import TemplateError
from cosi_linebkg_plugin.lines.faint import marginalise_faint
from cosi_linebkg_plugin.template.following import FollowedAmounts

pytestmark = pytest.mark.filterwarnings("ignore::cosi_linebkg_plugin.errors.LineBackgroundWarning")


@pytest.fixture(scope="module")
def case():
    return Case()


@pytest.fixture
def spectrum(case):
    yield from restored_spectrum(case)


@pytest.mark.parametrize("options", [{}, {"method": "interpolated"}, {"order": 0}])
def test_at_the_fit_the_amounts_are_the_templates_own(case, options):
    template = case.template(**options)
    mix = template.component_mix(follow=case.plugin)
    assert_allclose(mix.contents, template.histogram.contents, rtol=1e-9)


def test_the_background_follows_the_spectrum(case, spectrum):
    template = case.template()
    mix = template.component_mix(follow=case.plugin)
    own = {label: h.contents for label, h in template.components.items()}
    spectrum.K_1.value *= 0.9
    assert_allclose(mix.contents, 0.9 * own["continuum"] + own["lines"], rtol=1e-9)
    assert mix.counts["continuum"] == pytest.approx(0.9 * template.counts["continuum"])
    assert mix.contents is mix.contents  # nothing moved: nothing is summed again
    getattr(spectrum, f"F_{tracer_of(case)}").value *= 1.2
    mix.parameters["norms_lines"].value = 1.5
    assert mix.counts["lines"] == pytest.approx(1.8 * template.counts["lines"], rel=1e-3)


def test_the_constraint_holds_what_the_spectrum_does_not_know(case):
    mix = case.template().component_mix(follow=case.plugin)
    constraint = mix.constraint()
    assert not mix.parameters["norms_continuum"].free
    constraint.set_model(case.model)
    lines = mix.parameters["norms_lines"]
    share = mix._followed._reference[1]
    counts = case.plugin.source_counts(case.range)
    ratio_part = 1 - counts["lines"] / share  # the fitted lines' own tails are known
    error = ratio_part * 0.015 / DEMO_LINE_RATIO
    lines.value = 1.0 + error
    assert constraint.get_log_like() == pytest.approx(-0.5, rel=1e-6)
    assert mix.constraint(free=["continuum"]) and mix.parameters["norms_continuum"].free


def test_an_unknown_amount_does_not_follow(case, spectrum):
    template = case.template(line_ratio=None)
    assert template.counts["lines"] == 0.0
    mix = template.component_mix(follow=case.plugin)
    before = mix.counts["lines"]
    spectrum.K_1.value *= 0.9
    assert mix.counts["lines"] == before > 0
    mix.constraint()
    assert mix.parameters["norms_lines"].free


@pytest.mark.parametrize("wrong", ["linebkg", 3, object()])
def test_what_has_no_spectrum_is_not_followed(case, wrong):
    """It was taken, and failed in the middle of a session."""
    with pytest.raises(TemplateError, match="follow= takes the LineBackgroundLike"):
        case.template(livetime=1e6).binned_background(follow=wrong)


def test_a_split_template_cannot_follow(case):
    with pytest.raises(TemplateError, match="split template cannot follow"):
        case.template().split("Phi", 30).component_mix(follow=case.plugin)


@pytest.mark.parametrize("ours", [{}, {"like": True}])
def test_energy_bins_follow_energy_width_and_amount_of_the_lines(case, spectrum, ours):
    """Each bin against the counts of that bin alone at the session's parameters."""
    low, high = case.range
    edges = np.linspace(low, high, 7)
    options = {"energy_edges": edges}
    if ours:
        around = np.concatenate([[low - 10.0], edges, [high + 5.0]])
        names = list(case.template().axes)
        options = {"like": histpy.Histogram([*names[1:], histpy.Axis(around * u.keV, label="Em")])}
    template = case.template(**options)
    mix = template.component_mix(follow=case.plugin, outside=None if ours else "raise")
    binned = rebuilt_livetime(template).binned_background(
        follow=case.plugin, outside=None if ours else "raise"
    )
    cells = dict(zip(mix.labels, mix._cells.rows, strict=True))
    assert_allclose(mix.contents, mix._cells.sum(mix._cells.counts / mix._cells.units), rtol=1e-9)
    n = tracer_of(case)
    spectrum.K_1.value *= 0.9
    spectrum.index_1.value -= 0.5
    getattr(spectrum, f"F_{n}").value *= 1.2
    spectrum.sigma_2.value *= 1.15
    expected = 0.0
    for label in mix.labels:
        rows = cells[label].reshape(mix.contents.shape) / cells[label].sum()
        now = [
            case.plugin.source_counts(pair, line_ratio=RATIO)[label]
            for pair in itertools.pairwise(edges)
        ]
        first = 1 if ours else 0
        for b, counts in enumerate(now):
            part = np.zeros(rows.shape)
            part[first + b] = rows[first + b] * (counts / rows[first + b].sum())
            expected = expected + part
    assert_allclose(mix.contents, expected, rtol=1e-8)
    assert_allclose(binned.expectation().contents, expected, rtol=1e-8)
    assert_allclose(binned.expectation(copy=False).contents, expected, rtol=1e-8)
    assert sum(mix.counts.values()) == pytest.approx(expected.sum(), rel=1e-9)


def rebuilt_livetime(template):
    """The same with a livetime, as cosipy 0.4 wants it."""
    return template._with(livetime=1000.0)


# --- the amounts themselves ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "n_labels"), [({}, 2), ({"method": "sideband", "sidebands": [(1830, 1880)]}, 1)]
)
def test_counts_times_factors_are_the_amounts_of_the_spectrum(case, spectrum, options, n_labels):
    template = case.template(**options)
    assert len(template.labels) == n_labels
    followed = FollowedAmounts(template, case.plugin)
    assert_allclose(followed.counts, list(template.counts.values()))
    assert_allclose(followed.factors(), 1.0, rtol=1e-9)
    at_the_fit = case.plugin.source_counts(case.range, line_ratio=RATIO)
    spectrum.K_1.value *= 1.2
    getattr(spectrum, f"F_{tracer_of(case)}").value *= 0.7
    present = case.plugin.source_counts(case.range, line_ratio=RATIO)
    if len(template.labels) == 1:  # one component holds both
        expected = [sum(present.values()) / sum(at_the_fit.values())]
    else:
        expected = [present[label] / at_the_fit[label] for label in template.labels]
    assert_allclose(followed.factors(), expected, rtol=1e-9)


def test_a_ratio_of_the_session_makes_an_amount_known(case):
    template = case.template(line_ratio=None)
    lines = template.labels.index("lines")
    unknown = FollowedAmounts(template, case.plugin)
    assert unknown.counts[lines] == 0.0 and np.isinf(unknown.covariance[lines, lines])
    assert unknown.covariance[1 - lines, 1 - lines] == 0.0
    known = FollowedAmounts(template, case.plugin, RATIO)
    at_the_fit = case.plugin.source_counts(case.range, line_ratio=RATIO)
    assert known.counts[lines] == pytest.approx(at_the_fit["lines"], rel=1e-9)
    assert known.counts[1 - lines] == pytest.approx(template.counts["continuum"], rel=1e-9)
    own = case.plugin.source_counts(case.range)["lines"]  # tails of the fitted lines
    error = (1 - own / at_the_fit["lines"]) * RATIO["error"] / RATIO["value"]
    assert np.sqrt(known.covariance[lines, lines]) == pytest.approx(error, rel=1e-6)


def test_another_ratio_takes_the_place_of_the_templates(case):
    template = case.template()
    lines = template.labels.index("lines")
    twice = RATIO | {"value": 2 * RATIO["value"]}
    followed = FollowedAmounts(template, case.plugin, twice)
    expected = case.plugin.source_counts(case.range, line_ratio=twice)["lines"]
    assert followed.counts[lines] == pytest.approx(expected, rel=1e-6)
    assert_allclose(followed.factors(), 1.0, rtol=1e-9)


def test_a_template_made_with_a_sky_cannot_follow(case):
    template = case.template()
    with_sky = replace(case.fit, offset=np.ones(case.edges.size - 1))
    with pytest.raises(TemplateError, match="made with sky= cannot follow"):
        FollowedAmounts(rebuilt(template, fit=with_sky), case.plugin)


def test_a_template_whose_fit_has_faint_lines_cannot_follow(case):
    template = case.template()
    other = rebuilt(template, fit=marginalise_faint(template.fit, True))
    with pytest.raises(TemplateError, match="faint lines cannot follow"):
        FollowedAmounts(other, case.plugin)
