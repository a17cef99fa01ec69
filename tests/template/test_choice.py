"""method="auto": scores against the exact law, what may be chosen, and what is chosen."""

from dataclasses import replace

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.stats import nbinom, poisson
from trials import RATIO

from cosi_linebkg_plugin import BackgroundTemplate, LineBackgroundLike, background_model
from cosi_linebkg_plugin.app.simulation import SOURCE_RANGE
from cosi_linebkg_plugin.errors import TemplateError
from cosi_linebkg_plugin.template.choice import (
    HANDICAP,
    LARGEST_MISFIT,
    candidates,
    choose_method,
    describe,
    log_predictive,
    slices_by_axis,
)
from cosi_linebkg_plugin.template.options import TemplateOptions
from cosi_linebkg_plugin.template.plan import plan_for_fit
from cosi_linebkg_plugin.template.weights import slice_weights

pytestmark = pytest.mark.filterwarnings("ignore::cosi_linebkg_plugin.errors.LineBackgroundWarning")


def planned(trial, fit=None, **options):
    fit = fit or trial.fit
    return plan_for_fit(
        trial.plugin.events, fit, SOURCE_RANGE, TemplateOptions(method="auto", **options)
    )


@pytest.fixture(scope="module")
def chosen(trial):
    return trial.template(method="auto", line_ratio=RATIO)


def test_the_score_is_the_negative_binomial_law():
    n, e, v = np.array([3.0, 0.0, 250.0]), np.array([4.0, 1.5, 230.0]), np.array([2.0, 0.1, 90.0])
    r = e**2 / v
    assert log_predictive(n, e, v) == pytest.approx(
        nbinom(r, r / (r + e)).logpmf(n).sum(), rel=1e-9
    )
    exact = log_predictive(n, e, np.zeros(3))
    assert exact == pytest.approx(poisson(e).logpmf(n).sum(), rel=1e-6)


def test_slices_along_an_axis_are_those_of_the_events(trial):
    slices = slices_by_axis(trial.plugin.events)
    dense = trial.events.to_dense().contents
    assert set(slices) == {"Phi", "PsiChi"}
    assert_allclose(slices["Phi"].counts, dense.sum(axis=2))
    assert_allclose(slices["Phi"].variances, dense.sum(axis=2))
    assert slices["PsiChi"].counts.shape == (dense.shape[0], 192)
    assert_allclose(slices["PsiChi"].counts.sum(), dense.sum())


def test_slices_do_not_depend_on_how_many_are_summed_at_once(trial, monkeypatch):
    whole = slices_by_axis(trial.plugin.events)
    monkeypatch.setattr("cosi_linebkg_plugin.template.choice.AT_ONCE", 16.0 * 60 * 192 * 7)
    for axis, part in slices_by_axis(trial.plugin.events).items():
        assert_allclose(part.counts, whole[axis].counts)


def test_components_win_where_features_move(trial, chosen):
    assert chosen.method == "components"
    scores = chosen.record.method_scores
    assert scores[0].score == 0.0 and scores[0].method.startswith("components, order")
    assert [s.score for s in scores] == sorted((s.score for s in scores), reverse=True)
    assert any(s.method.startswith("sideband") for s in scores)
    assert any("without lines" in s.method for s in scores)


def test_the_choice_can_be_repeated_by_hand(trial, chosen, tmp_path):
    by_hand = trial.template(method=chosen.method, line_ratio=RATIO, **chosen.record.recipe)
    for a, b in zip(chosen.project("Phi"), by_hand.project("Phi"), strict=True):
        assert_allclose(a, b)
    chosen.write(tmp_path / "template.h5")
    read = BackgroundTemplate.open(tmp_path / "template.h5")
    assert read.record == chosen.record
    assert len(trial.plugin.validate(read).ranges) == 12


def test_an_inadequate_spectrum_rules_components_out(trial):
    """Six lines of twenty."""
    fit = trial.plugin.fit(background_model([1612, 1634, 1666, 1723, 1764, 1779], pivot=1800))
    assert not fit.adequacy.is_adequate()
    plan = planned(trial, fit)
    assert all(options.method != "components" for options in candidates(plan, fit))
    found, ladder = choose_method(plan, fit)
    assert found.options.method in ("interpolated", "sideband")
    assert not any("components" in row.method for row in ladder)


def needs(fit, systematic):
    """The fit with a spectrum that needs this systematic error."""
    found = replace(fit)
    judged = replace(fit.adequacy, systematic=systematic, deviance_p_value=0.0)
    found.__dict__["adequacy"] = judged
    return found


def test_components_must_be_better_by_ten_where_the_spectrum_is_a_little_off(trial):
    def gap(fit):
        ladder = choose_method(planned(trial, fit), fit)[1]
        best = {row.method.split(",")[0]: row.score for row in reversed(ladder)}
        return best["components"] - max(best["interpolated"], best["sideband"])

    assert gap(trial.fit) > 10.0
    assert gap(needs(trial.fit, 0.008)) == pytest.approx(gap(trial.fit) - HANDICAP)
    plan = planned(trial, needs(trial.fit, 0.021))
    assert all(o.method != "components" for o in candidates(plan, needs(trial.fit, 0.021)))


def test_a_bright_source_does_not_rule_components_out(bright):
    """Its own degraded photons bend the spectrum; sidebands would be wrong along Phi."""
    assert LARGEST_MISFIT < bright.fit.systematic < 0.02
    assert bright.template(method="auto", line_ratio=RATIO).method == "components"


def test_a_recipe_whose_map_would_not_be_positive_is_not_tried(trial, monkeypatch):
    def weights(plan, fit, source):
        found = slice_weights(plan, fit, source)
        if plan.options.method == "components" and plan.options.order == 2:
            return replace(found, rows=found.rows * [[1.0], [-1.0]])
        return found

    monkeypatch.setattr("cosi_linebkg_plugin.template.choice.slice_weights", weights)
    names = [row.method for row in choose_method(planned(trial), trial.fit)[1]]
    assert any("order 1" in name for name in names)
    assert not any("order 2" in name for name in names)


def test_energies_that_are_named_are_kept(trial):
    plan = planned(trial, window=(1700, 1900))
    windows = {o.window for o in candidates(plan, trial.fit) if o.method == "components"}
    assert windows == {(1700, 1900)}
    bands = [[1735, 1750], [1828.3, 1875]]
    plan = planned(trial, sidebands=bands)
    others = [o for o in candidates(plan, trial.fit) if o.method != "components"]
    assert [(o.method, o.sidebands) for o in others] == [
        ("interpolated", bands), ("sideband", bands)
    ]  # fmt: skip


def test_recipes_in_words():
    options = TemplateOptions(method="interpolated", reach=42.0, avoid_lines=True)
    assert describe(options) == "interpolated, 42 keV to either side, without lines"
    assert describe(TemplateOptions(order=2)) == "components, order 2"


def test_without_room_for_control_ranges_it_says_so(trial):
    histogram = trial.events.to_dense().slice[{"Em": slice(55, 67)}]
    plugin = LineBackgroundLike("few", histogram)
    plugin.set_mask((1790, 1825))
    fit = plugin.fit(background_model(pivot=1800))
    with pytest.raises(TemplateError, match="control ranges, of which there is none"):
        plugin.background_template(fit, SOURCE_RANGE, method="auto")


def test_no_shift_with_auto():
    with pytest.raises(TemplateError, match="cannot shift"):
        TemplateOptions(method="auto", shift=True)


# --- reach and avoid_lines ------------------------------------------------------------------------


def test_reach_is_measured_from_the_mask(trial):
    template = trial.template(method="interpolated", reach=25.0, line_ratio=RATIO)
    ((low, high),) = trial.fit.mask
    (a, b), (c, d) = template.sidebands
    assert (b, c) == pytest.approx((low, high))
    assert low - 25 <= a < low - 15 and high + 15 < d <= high + 25


def test_bins_with_lines_are_avoided(trial):
    template = trial.template(method="sideband", reach=100.0, avoid_lines=True, line_ratio=RATIO)
    used = template.weights[0] != 0
    lines = trial.fit.component_spectra[list(trial.fit.model.lines)].sum(axis=0)
    assert used.any() and (lines[used] < 0.05 * trial.fit.expected[used]).all()
    everything = trial.template(method="sideband", reach=100.0, line_ratio=RATIO)
    assert (everything.weights[0] != 0).sum() > used.sum()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"reach": -1.0}, "reach must be above 0"),
        ({"reach": 20.0, "window": (1700, 1900)}, "give one of them"),
        ({"reach": 1.0, "method": "sideband"}, "within reach=1 keV is left"),
        ({"avoid_lines": 1}, "avoid_lines must be True or False"),
    ],
)
def test_a_reach_that_cannot_be_is_refused(trial, options, message):
    with pytest.raises(TemplateError, match=message):
        trial.template(**options)


def test_candidates_name_every_method_once_the_spectrum_is_right(trial):
    methods = {o.method for o in candidates(planned(trial), trial.fit)}
    assert methods == {"components", "interpolated", "sideband"}
    assert all(
        replace(o, method="auto").order in (0, 1, 2) for o in candidates(planned(trial), trial.fit)
    )


def test_energy_bins_do_not_change_the_choice(trial, chosen):
    """The recipes are compared on the range as a whole."""
    several = trial.template(method="auto", line_ratio=RATIO, energy_edges=[1805, 1808, 1812])
    assert several.record.method_scores == chosen.record.method_scores
    assert several.several_bins and several.record.recipe == chosen.record.recipe
