"""The background of cosipy 0.4.3's binned likelihood, beside a stand-in for it."""

import astropy.units as u
import numpy as np
import pytest
from numpy.testing import assert_allclose
from sessions import BinnedBackgroundInterface, PoissonPlugin, data_on, fit_of
from templates import axes, cells, template_of, tilted

from cosi_linebkg_plugin.consumers.binned import BinnedBackground, free_norm_histograms
from cosi_linebkg_plugin.errors import TemplateError

AXES = axes()
CONTINUUM, LINES = cells(AXES, 1), cells(AXES, 2)


@pytest.fixture
def template():
    return template_of({"continuum": CONTINUUM, "lines": LINES}, AXES, livetime=1000.0)


def test_the_background_satisfies_the_protocol_and_the_template_does_not(template):
    background = BinnedBackground(template, prefix="x_")
    assert isinstance(background, BinnedBackgroundInterface)
    assert background.axes == AXES
    for key, norm in background.parameters.items():
        assert key.isidentifier() and norm.unit == u.Hz
    assert_allclose(background.expectation(copy=True).contents, CONTINUUM + LINES, rtol=1e-14)
    shared = background.expectation(copy=False)
    assert shared is background.expectation(copy=False)
    assert background.expectation(copy=True) is not shared
    assert background.parameters["x_lines"].value == pytest.approx(LINES.sum() / 1000.0)
    assert template.rates["lines"] == background.parameters["x_lines"]
    assert not isinstance(template, BinnedBackgroundInterface)
    with pytest.raises(AttributeError, match="binned_background"):
        PoissonPlugin("cosi", CONTINUUM, template)


def test_two_views_never_collide(template):
    one, two = (BinnedBackground(template, prefix=x) for x in ("one_", "two_"))
    assert not set(one.parameters) & set(two.parameters)
    one.set_parameters(one_lines=0 * u.Hz)
    assert_allclose(one.expectation(copy=False).contents, CONTINUUM, rtol=1e-14)
    assert_allclose(two.expectation(copy=False).contents, CONTINUUM + LINES, rtol=1e-14)
    one.set_parameters(one_lines=LINES.sum() * 0.06 / u.min)
    assert one.parameters["one_lines"].to_value(u.Hz) == pytest.approx(LINES.sum() / 1000.0)


def test_views_in_a_session_of_two_plugins():
    big = template_of({"background": 100 * CONTINUUM}, AXES, livetime=1000.0)
    truth = 100 * CONTINUUM
    _, (table, _) = fit_of(
        PoissonPlugin("first", 1.1 * truth, BinnedBackground(big, prefix="a_")),
        PoissonPlugin("second", 0.9 * truth, BinnedBackground(big, prefix="b_")),
    )
    rate = truth.sum() / 1000.0
    assert table.loc["a_background", "value"] == pytest.approx(1.1 * rate, rel=1e-3)
    assert table.loc["b_background", "value"] == pytest.approx(0.9 * rate, rel=1e-3)


@pytest.mark.parametrize("configured", [False, True])
def test_a_session_steps_back_from_norms_below_zero(configured):
    """cosipy 0.4.3 gives the norms no limits: near 0 a minimiser tries negative ones."""
    parts = {"continuum": 100 * CONTINUUM, "lines": 100 * LINES}
    bkg = BinnedBackground(template_of(parts, AXES, livetime=1000.0))
    truth = 100 * CONTINUUM + 0.02 * LINES
    cosi = PoissonPlugin("cosi", truth, bkg)
    if configured:
        bkg.configure(cosi)
    _, (table, _) = fit_of(cosi)
    rates = parts["continuum"].sum() / 1000.0, 0.02 * LINES.sum() / 1000.0
    assert table.loc["continuum", "value"] == pytest.approx(rates[0], rel=5e-3)
    error = np.sqrt(truth.sum()) / 1000.0
    assert 0 <= table.loc["lines", "value"] < rates[1] + error


def test_a_norm_of_unknown_amount_is_found_by_a_session():
    counts = {"continuum": 100 * CONTINUUM.sum(), "lines": 0.0}
    parts = {"continuum": 100 * CONTINUUM, "lines": LINES}
    some = template_of(
        parts, AXES, counts=counts, covariance=np.diag([25.0, np.inf]), livetime=1000.0
    )
    view = BinnedBackground(some)
    assert view.parameters["lines"].value == pytest.approx(0.01 * counts["continuum"] / 1000.0)
    _, (table, _) = fit_of(PoissonPlugin("cosi", 100 * CONTINUUM + 20 * LINES, view))
    assert table.loc["lines", "value"] == pytest.approx(20 * LINES.sum() / 1000.0, rel=0.01)


def test_expectations_are_plain_for_the_sake_of_sums(template):
    """Their sumw2 would be dropped, with a message, at every step of a fit."""
    assert BinnedBackground(template).expectation(copy=False).sumw2 is None
    assert template.histogram.sumw2 is not None


def test_a_template_without_livetime_is_refused():
    with pytest.raises(TemplateError, match="livetime"):
        BinnedBackground(template_of({"background": CONTINUUM}, AXES))


def test_free_norm_histograms(template):
    template.set_parameters(lines=0.0)
    first, again = free_norm_histograms(template), free_norm_histograms(template)
    assert list(first) == ["continuum", "lines"] and first is not again
    assert all(h.contents.dtype == np.float64 and h.unit is None for h in first.values())
    assert_allclose(first["continuum"].contents, CONTINUUM)
    assert first["lines"].contents.sum() == pytest.approx(1.0)
    first["continuum"] /= 2.0  # 0.4.3 overwrites what it is given
    assert_allclose(template.components["continuum"].contents, CONTINUUM)
    assert list(free_norm_histograms(template, data_on(), prefix="a_")) == [
        "a_continuum",
        "a_lines",
    ]


# --- data ----------------------------------------------------------------------------------------


def test_data_may_be_held_by_another_object(template):
    """As cosipy's EmCDSBinnedData does."""

    class Held:
        data = data_on(axes("PsiChi", "Em", "Phi"))

    bkg = BinnedBackground(template, Held())
    assert [a.label for a in bkg.axes] == ["PsiChi", "Em", "Phi"]
    total = (CONTINUUM + LINES).transpose(2, 0, 1)
    assert_allclose(bkg.expectation().contents, total, rtol=1e-14)
    with pytest.raises(TemplateError, match="EmCDSBinnedData, got list"):
        BinnedBackground(template, [1.0])
    with pytest.raises(TemplateError, match="'raise' or 'drop', got 'refuse'"):
        BinnedBackground(template, outside="refuse")


@pytest.mark.parametrize("order", [("Phi", "Em"), ("Time", "Em", "Phi", "PsiChi")])
def test_data_of_other_axes_are_refused(template, order):
    with pytest.raises(TemplateError, match="in this order"):
        BinnedBackground(template, data_on(axes(*order)))


def test_a_line_ratio_goes_with_follow(template):
    with pytest.raises(TemplateError, match="goes with follow="):
        template.binned_background(line_ratio={"line": 1, "tracer": 2, "value": 3})


def test_lines_that_may_differ_have_an_amplitude():
    own = {"continuum": 400 * CONTINUUM, "lines": 100 * LINES}
    some = template_of(own, AXES, livetime=1000.0, record=tilted(6))
    background = BinnedBackground(some, prefix="x_")
    assert list(background.parameters) == ["x_continuum", "x_lines", "x_lines_spread_1"]
    assert background.parameters["x_lines_spread_1"] == 0 * u.dimensionless_unscaled
    (difference,) = tilted(6).line_spread.differences(LINES, ["Em", "Phi", "PsiChi"])
    background.set_parameters(x_lines_spread_1=-1.0 * u.dimensionless_unscaled)
    expected = own["continuum"] + own["lines"] * (1 - difference)
    assert_allclose(background.expectation(copy=False).contents, expected, rtol=1e-12)
    assert background.counts["lines"] == pytest.approx(100 * LINES.sum())
    with pytest.raises(TemplateError, match="must be finite and >= -5, got -6"):
        background.set_parameters(x_lines_spread_1=-6.0 * u.dimensionless_unscaled)
    background = BinnedBackground(some)
    cosi = PoissonPlugin("cosi", expected, background)
    background.configure(cosi)
    _, (table, _) = fit_of(cosi, background.constraint())
    assert table.loc["lines_spread_1", "value"] == pytest.approx(-1.0, abs=0.05)
    assert 0 < table.loc["lines_spread_1", "error"] < 0.5
