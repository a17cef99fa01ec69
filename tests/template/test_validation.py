"""Control ranges of templates on simulated data, where the truth is known."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
from numpy.testing import assert_allclose
from spectra import line_model, simulated_spectrum
from trials import RATIO, Trial

from cosi_linebkg_plugin import BackgroundTemplate, LineBackgroundLike, background_model
from cosi_linebkg_plugin.app.demo import resolved_lines, simulated_events
from cosi_linebkg_plugin.app.simulation import SOURCE_RANGE, simulate
from cosi_linebkg_plugin.errors import TemplateError
from cosi_linebkg_plugin.fit.minimise import fit_spectrum
from cosi_linebkg_plugin.histograms.axis import EventAxes, EventAxis
from cosi_linebkg_plugin.histograms.write import make_histogram
from cosi_linebkg_plugin.lines.faint import marginalise_faint
from cosi_linebkg_plugin.spectrum.components import Parameter
from cosi_linebkg_plugin.template.options import TemplateOptions
from cosi_linebkg_plugin.template.plan import plan_for_fit
from cosi_linebkg_plugin.template.steps import make_recipe
from cosi_linebkg_plugin.template.validation import choose_ranges, control_ranges, refit_without

#: The notes of these templates are tested elsewhere.
pytestmark = pytest.mark.filterwarnings("ignore::cosi_linebkg_plugin.errors.LineBackgroundWarning")

SIDEBANDS = [[1680, 1710], [1735, 1750], [1820, 1875], [1940, 1990]]


@pytest.fixture(scope="module")
def template(trial):
    return trial.template(line_ratio=RATIO, l_cut=4, validate=True)


def planned(trial, **options):
    return plan_for_fit(trial.plugin.events, trial.fit, SOURCE_RANGE, TemplateOptions(**options))


def test_ranges_lie_apart_and_hold_no_line(trial):
    plan = planned(trial)
    ranges = choose_ranges(plan, trial.fit)
    assert len(ranges) >= 12
    lines = [energy for energy, _ in trial.fit.lines]
    for low, high in ranges:
        assert 3.5 <= high - low <= 14.0
        assert high <= 1790 or low >= 1825  # the mask
        counts = trial.fit.expected_counts((low, high))
        inside = [e for e in lines if low <= e <= high]
        if inside:  # too faint to matter
            assert dict(zip(counts.labels, counts.values, strict=True))["lines"] < np.sqrt(
                counts.total
            )
    for (_, a), (b, _) in itertools.pairwise(sorted(ranges)):
        assert b >= a
    assert {high <= 1805 for _, high in ranges[:2]} == {True, False}


def test_a_refit_does_not_know_what_it_predicts(trial):
    fit = refit_without(trial.fit, (1838.4, 1843.4), SOURCE_RANGE)
    spectrum = fit.spectrum
    counts = spectrum.counts.copy()
    hidden = spectrum.mask & ~trial.fit.spectrum.mask
    assert hidden.sum() == 1
    counts[hidden] *= 2.0
    other = replace(trial.fit, spectrum=replace(trial.fit.spectrum, counts=counts))
    again = refit_without(other, (1838.4, 1843.4), SOURCE_RANGE)
    assert_allclose(again.theta, fit.theta, rtol=1e-9)


def test_faint_lines_are_marginalised_in_each_refit():
    """Anew, and without a hold on the width of a line that nothing sees, which they share."""
    edges = np.arange(1600.0, 2001.0, 5.0)
    model = line_model([(1700.0, 2000.0, (1690.0, 1710.0)), (1850.0, 2000.0, (1840.0, 1860.0))])
    own = Parameter("sigma_own", 3.0, "keV", 0.1, 50.0)
    last = replace(model.components[2], slots=(6, 7, 8))
    model = replace(
        model,
        parameters=(*model.parameters, own),
        components=(*model.components[:2], last),
        links={},
    )
    data = simulated_spectrum(model, edges, np.random.default_rng(1), [(1790.0, 1825.0)])
    fit = marginalise_faint(fit_spectrum(model, data), True)
    other = refit_without(fit, (1900.0, 1910.0), (1838.0, 1862.0))
    assert other.valid and other.faint.lines == fit.faint.lines
    assert 0 < len(other.model.faint) < len(fit.model.faint)
    assert other.values["sigma_own"] == fit.values["sigma_own"]
    assert not other.parameters["sigma_own"].free


def test_a_line_that_the_mask_hides_keeps_its_values(trial):
    line = min(trial.fit.lines, key=lambda row: abs(row[0] - 1892.8))[0]
    fit = refit_without(trial.fit, (line + 20, line + 26), (line - 8, line + 8))
    kept = [name for name in trial.fit.free_names if name not in fit.free_names]
    assert len(kept) >= 2
    assert all(fit.values[name] == trial.fit.values[name] for name in kept)


def test_the_template_of_a_control_range_is_made_as_the_real_one(trial):
    """By hand: the same mask, fit and options give the row of the table."""
    for options in ({"order": 2, "l_cut": 4}, {"method": "interpolated"}):
        control = control_ranges(
            planned(trial, **options), make_recipe(planned(trial, **options), trial.fit, None)
        )
        row = control.ranges[-1]
        plugin = LineBackgroundLike("again", trial.events)
        # the margins of the mask around 1805-1812 come along
        ((low, high),) = trial.fit.mask
        hidden = (row.low - (1805 - low), row.high + (high - 1812))
        plugin.set_mask((1790, 1825), hidden)
        own = refit_without(trial.fit, (row.low, row.high), hidden)
        by_hand = plugin.background_template(own, (row.low, row.high), **options)
        observed = plugin.observed_counts((row.low, row.high))
        compared = by_hand.compare(observed)
        assert row.expected == pytest.approx(compared.counts, rel=1e-3)
        assert row.error == pytest.approx(compared.error, rel=1e-2)
        assert row.observed == compared.observed
        for axis in ("Phi", "PsiChi"):
            assert row.shapes[axis].chi2 == pytest.approx(compared.projections[axis].chi2, rel=0.01)


def test_a_line_of_a_control_range_alone_is_left_out(trial):
    """As in a masked source range, nobody would know of it."""
    line = min(trial.fit.lines, key=lambda row: abs(row[0] - 1892.8))[0]
    fit = refit_without(trial.fit, (line - 12, line + 12))
    gone = [p for name, p in fit.values.items() if name.startswith("F_") and p == 0.0]
    assert gone
    inside = fit.expected_counts((line - 12, line + 12))
    lines = dict(zip(inside.labels, inside.values, strict=True)).get("lines", 0.0)
    assert lines < 0.01 * inside.total


@pytest.mark.parametrize(
    "options", [{}, {"method": "interpolated"}, {"method": "sideband", "sidebands": SIDEBANDS}]
)
def test_totals_of_a_right_spectrum_agree(trial, options):
    control = trial.template(**options, validate=True).control_ranges
    assert len(control.ranges) == 12
    # 12 pulls of unit width: a chance of 10^-5 each side
    assert 1.4 < np.sum(control.pulls**2) < 46
    assert control.amount.value < 0.02


def test_a_template_that_is_wrong_along_phi_is_seen(trial, template):
    """The sidebands' features lie elsewhere in Phi; components follow them."""
    sideband = trial.template(method="sideband", sidebands=SIDEBANDS, validate=True)
    wrong, right = (t.control_ranges.shapes["Phi"] for t in (sideband, template))
    assert wrong.low > 2 * right.value
    assert not sideband.control_ranges.usable and template.control_ranges.usable
    assert any("Control ranges: " in note for note in sideband.notes)
    assert not any("Control ranges" in note for note in template.notes)


def scattered(seed=3, spread=0.03):
    """Events whose energy bins hold a few per cent more or less than any smooth model says."""
    trial = Trial(seed)
    rng = np.random.default_rng(1)
    histogram = simulated_events(trial.simulation).to_dense()
    factors = 1.0 + spread * rng.normal(size=histogram.contents.shape[0])
    counts = rng.binomial(
        histogram.contents.astype(int), np.clip(factors / 1.15, 0, 1)[:, None, None]
    )
    return make_histogram(histogram.axes, counts.astype(float))


def test_an_error_that_bins_share_is_measured_and_enters_the_covariance():
    plugin = LineBackgroundLike("bkg", scattered())
    plugin.set_mask((1790, 1825))
    fit = plugin.fit(background_model(resolved_lines(), pivot=1800))
    template = plugin.background_template(fit, SOURCE_RANGE, line_ratio=RATIO)
    before = template.covariance.copy()
    control = plugin.validate(template)
    assert template.control_ranges is control
    assert 0.015 < control.amount.value < 0.06
    expected = (control.amount.value * template.counts["continuum"]) ** 2
    if template.record.measured_percent:
        added = template.covariance[0, 0] - before[0, 0]
        assert 0 < added <= expected
    assert (
        template.errors["continuum"] >= control.amount.value * template.counts["continuum"] * 0.99
    )
    once = template.covariance.copy()
    plugin.validate(template)  # a second time adds nothing
    assert_allclose(template.covariance, once)


def test_norms_that_were_fitted_keep_their_errors(trial):
    template = trial.template(line_ratio=RATIO)
    template.fit_norms(trial.observed)
    before = template.covariance.copy()
    trial.plugin.validate(template)
    assert_allclose(template.covariance, before)
    assert template.record.measured_percent == 0.0


def test_a_file_keeps_what_was_measured(trial, template, tmp_path):
    template.write(tmp_path / "template.h5")
    read = BackgroundTemplate.open(tmp_path / "template.h5")
    assert read.control_ranges == template.control_ranges
    assert_allclose(read.covariance, template.covariance)
    assert read.record.recipe == {"l_cut": 4}
    assert trial.plugin.validate(read).to_dict() == template.control_ranges.to_dict()


def test_options_of_the_recipe_come_along(trial):
    options = {"window": (1720, 1900), "order": 2, "tracers": [1778.97], "rebin_phi": 10}
    template = trial.template(**options, line_ratio=RATIO, validate=True)
    assert template.record.recipe == {
        "window": [1720.0, 1900.0], "order": 2, "tracers": [1778.97], "rebin_phi": 10,
    }  # fmt: skip
    again = trial.template(**options, line_ratio=RATIO)
    assert trial.plugin.validate(again).to_dict() == template.control_ranges.to_dict()


def test_what_cannot_be_validated_is_refused(trial):
    with pytest.raises(TemplateError, match="split along Phi"):
        trial.plugin.validate(trial.template().split("Phi", 30))
    template = trial.template(l_cut=4)
    template._record = replace(template.record, recipe={})  # as in files of earlier versions
    with pytest.raises(TemplateError, match="does not say how it was made"):
        trial.plugin.validate(template)
    with pytest.raises(TemplateError, match="validate must be True or False"):
        trial.template(validate="yes")


def test_the_source_does_not_matter(bright):
    """26Al of DC3, with sky=: its photons are taken out of the control ranges as well."""
    control = bright.template(
        line_ratio=RATIO, validate=True, sky=(bright.sky, bright.sky_in_range),
        observed=bright.observed,
    ).control_ranges  # fmt: skip
    assert len(control.ranges) == 12 and control.amount.value < 0.02


def test_batches_give_the_same(trial, template, monkeypatch):
    monkeypatch.setattr("cosi_linebkg_plugin.template.validation.AT_ONCE", 1.0)
    again = trial.template(line_ratio=RATIO, l_cut=4, validate=True)
    assert again.control_ranges.to_dict() == template.control_ranges.to_dict()


def test_features_that_move_are_moved_in_control_ranges_too(trial):
    options = {"method": "sideband", "sidebands": [[1735, 1750], [1820, 1875]]}
    plain = trial.template(**options, validate=True).control_ranges.shapes["Phi"]
    moved = trial.template(**options, shift=True, validate=True).control_ranges.shapes["Phi"]
    assert moved.high < plain.low


def test_any_axes_can_be_validated(trial):
    """Time is compared too; with Em alone there are the totals."""
    simulation = simulate(5, nside=1, n_time=3)
    events = simulated_events(simulation)
    for chosen, shapes in ((None, {"Phi", "PsiChi", "Time"}), ("Em", set()), ("Phi", {"Phi"})):
        histogram = events.to_dense()
        if chosen:
            histogram = histogram.project(["Em"] if chosen == "Em" else ["Em", chosen])
        plugin = LineBackgroundLike("axes", histogram)
        plugin.set_mask((1790, 1825))
        fit = plugin.fit(background_model(resolved_lines(), pivot=1800))
        for method in ("components", "auto"):
            template = plugin.background_template(fit, SOURCE_RANGE, method=method, validate=True)
            assert set(template.control_ranges.shapes) == shapes
            assert len(template.control_ranges.ranges) == 12


def test_weighted_events_and_few_counts_are_validated():
    histogram = simulated_events(simulate(5, nside=1, exposure_scale=0.01)).to_dense()
    weighted = make_histogram(histogram.axes, 0.5 * histogram.contents, 0.25 * histogram.contents)
    for events in (histogram, weighted):
        plugin = LineBackgroundLike("few", events)
        plugin.set_mask((1790, 1825))
        fit = plugin.fit(background_model([1612, 1634, 1666, 1723, 1779], pivot=1800))
        control = plugin.background_template(fit, SOURCE_RANGE, validate=True).control_ranges
        assert len(control.ranges) == 12
        assert 1.4 < np.sum(control.pulls**2) < 46  # as above
        assert all(r.noise > 0 for r in control.ranges)
    # counts of half the weight have half the errors of as many events
    assert control.ranges[0].noise == pytest.approx(0.5 * np.sqrt(2 * control.ranges[0].expected))


@pytest.mark.filterwarnings("error::RuntimeWarning")
@pytest.mark.parametrize("method", ["interpolated", "auto"])
@pytest.mark.parametrize("weight", [1.0, 0.5])
def test_ranges_without_counts_are_counted(method, weight):
    """Half a count for each range: most hold none, which says nothing of a distribution."""
    em = EventAxis("Em", np.arange(1600.0, 2001.0, 5.0), "keV")
    phi = EventAxis("Phi", np.array([0.0, 60.0, 120.0, 180.0]), "deg")
    psichi = EventAxis("PsiChi", np.arange(13), kind="HealpixAxis", nside=1, scheme="RING")
    counts = np.random.default_rng(1).poisson(0.25 / 36, (80, 3, 12))
    weighted = make_histogram(EventAxes((em, phi, psichi)), weight * counts, weight**2 * counts)
    plugin = LineBackgroundLike("sparse", weighted)
    plugin.set_mask((1790, 1825))
    fit = plugin.fit(background_model(pivot=1800))
    template = plugin.background_template(fit, (1805, 1815), method=method, validate=True)
    control = template.control_ranges
    empty = [r for r in control.ranges if r.observed == 0]
    assert len(empty) >= 3
    for r in control.ranges:
        assert r.noise == pytest.approx(np.sqrt(weight * r.expected))
        assert r.shapes["PsiChi"].dof == (11 if r.observed else 0)
    assert control.amount.value < 0.5  # the counts are Poisson's
    assert "inf" not in str(control)


def test_few_counts_are_not_an_error_of_the_background():
    """Errors from the observed counts made ranges that hold few outliers: tau was 90 %."""
    rng = np.random.default_rng(2)
    em = EventAxis("Em", np.arange(1600.0, 2001.0, 5.0), "keV")
    measured = []
    for _ in range(20):
        plugin = LineBackgroundLike("few", make_histogram([em], rng.poisson(2.5, 80)))
        plugin.set_mask((1790, 1825))
        fit = plugin.fit(background_model(pivot=1800))
        template = plugin.background_template(
            fit, (1805, 1815), method="interpolated", validate=True
        )
        measured.append(template.control_ranges.amount)
    # tau is 0 in half of the cases where there is none: of 20 fewer than 5 have a chance of 0.6 %
    assert sum(error.value == 0.0 for error in measured) >= 5
    # said to be there in 5 %: of 20 more than 4 have a chance of 0.3 %
    assert sum(error.least > 0.0 for error in measured) <= 4
    assert sum(error.value > 0.05 for error in measured) > 4  # which alone is no objection


def test_a_spectrum_without_room_is_no_test(trial):
    histogram = trial.events.to_dense().slice[{"Em": slice(55, 67)}]
    plugin = LineBackgroundLike("few", histogram)
    plugin.set_mask((1790, 1825))
    fit = plugin.fit(background_model(pivot=1800))
    template = plugin.background_template(fit, SOURCE_RANGE, method="interpolated", validate=True)
    assert not template.control_ranges.tested
    said = " ".join(template.notes)  # few bins, which the model does not describe either
    assert "tested on 0 control ranges; should not be used: the model is off by" in said
