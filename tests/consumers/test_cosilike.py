"""What COSILike of cosipy 0.3 is given: one norm, or one for each component."""

import numpy as np
import pytest
from astromodels import Uniform_prior
from numpy.testing import assert_allclose
from sessions import Counting, data_on, fit_of, nothing
from templates import axes, axis, cells, template_of, tilted
from threeML import BayesianAnalysis, DataList

from cosi_linebkg_plugin.consumers.constraint import ForbiddenNorm
from cosi_linebkg_plugin.consumers.cosilike import ComponentMix, cosilike
from cosi_linebkg_plugin.errors import TemplateError

AXES = axes()
CONTINUUM, LINES = cells(AXES, 1), cells(AXES, 2)


@pytest.fixture
def template():
    return template_of({"continuum": CONTINUUM, "lines": LINES}, AXES, livetime=1000.0)


def test_cosilike_gives_dense_positive_counts_in_its_order(template):
    data = data_on()
    got = cosilike(template, data=data)
    bkg, norm = got["bkg"], got["nuisance_param"]
    assert [a.label for a in bkg.axes] == ["Em", "Phi", "PsiChi"]
    assert type(bkg.contents) is np.ndarray and bkg.contents.dtype == np.float64
    assert bkg.unit is None and bkg.contents.shape == (1, 6, 12)
    assert_allclose(bkg.contents, CONTINUUM + LINES, rtol=1e-14)
    assert bkg.axes["PsiChi"].coordsys.name == "galactic"
    assert norm.name == "cosi_bkg" and norm.value == 1 and norm.free
    error = template.total_error / sum(template.counts.values())
    assert norm.prior.name == "Truncated_gaussian" and norm.delta == pytest.approx(error)
    assert norm.prior.sigma.value == pytest.approx(error)
    assert norm.prior.lower_bound.value == norm.min_value == 0
    assert norm.prior.upper_bound.value == norm.max_value
    assert cosilike(template, name="second")["nuisance_param"].name == "second_bkg"


def test_the_norms_are_the_current_ones(template):
    template.set_parameters(lines=0.0)
    assert_allclose(cosilike(template)["bkg"].contents, CONTINUUM, rtol=1e-14)


def test_an_unknown_amount_gets_a_flat_prior():
    some = template_of({"background": CONTINUUM}, AXES, covariance=np.array([[np.inf]]))
    norm = cosilike(some)["nuisance_param"]
    assert norm.prior.name == "Uniform_prior" and norm.prior.upper_bound.value == norm.max_value
    assert norm.prior(0.5 * norm.max_value) > 0


@pytest.mark.parametrize("name", ["my cosi", "2nd", ""])
def test_names_that_threeml_refuses_are_refused_first(template, name):
    with pytest.raises(TemplateError, match="letters, digits and underscores"):
        cosilike(template, name)
    with pytest.raises(TemplateError, match="letters, digits and underscores"):
        ComponentMix(template, name)


# --- several components --------------------------------------------------------------------------


def test_a_mix_follows_its_parameters(template):
    mix = ComponentMix(template, data=data_on())
    assert list(mix.parameters) == ["norms_continuum", "norms_lines"]
    assert_allclose(mix.contents, CONTINUUM + LINES, rtol=1e-14)
    assert mix.contents is mix.contents  # nothing is summed again
    mix.parameters["norms_lines"].value = 0.5
    assert_allclose(mix.contents, CONTINUUM + 0.5 * LINES, rtol=1e-14)
    assert mix.counts["lines"] == pytest.approx(0.5 * LINES.sum())
    template.set_parameters(**mix.counts)
    assert_allclose(template.histogram.contents, mix.contents)


def test_the_components_of_a_mix_are_fitted(template):
    truth = 400 * CONTINUUM + 150 * LINES
    big = template_of({"continuum": 400 * CONTINUUM, "lines": 100 * LINES}, AXES)
    mix = ComponentMix(big)
    _, (table, _) = fit_of(Counting("cosi", truth, mix), mix.constraint(free=["lines"]))
    assert_allclose(table["value"], [1.0, 1.5], rtol=1e-2)
    mix = ComponentMix(big)
    free_error = table.loc["norms_lines", "error"]
    _, (table, _) = fit_of(Counting("cosi", truth, mix), mix.constraint())
    assert 1.0 < table.loc["norms_lines", "value"] < 1.5
    assert table.loc["norms_lines", "error"] < free_error


def test_all_components_may_be_free():
    a, b = 100 * CONTINUUM, 100 * LINES
    mix = ComponentMix(template_of({"a": a, "b": b}, AXES))
    constraint = mix.constraint(free=["a", "b"])
    _, (table, _) = fit_of(Counting("cosi", 1.1 * a + 0.8 * b, mix), constraint)
    assert_allclose(table["value"], [1.1, 0.8], rtol=1e-3)
    assert constraint.get_log_like() == 0.0
    assert constraint.get_simulated_dataset("sim").name == "sim"


def test_a_mix_in_a_bayesian_session(template):
    big = template_of({"continuum": 400 * CONTINUUM, "lines": 100 * LINES}, AXES)
    mix = ComponentMix(big)
    model = nothing()
    index = model.sources["nothing"].spectrum.main.shape.index  # emcee wants a free parameter
    index.free, index.prior = True, Uniform_prior(lower_bound=-3, upper_bound=0, value=1 / 3)
    session = BayesianAnalysis(
        model, DataList(Counting("cosi", mix.contents, mix), mix.constraint())
    )
    session.set_sampler("emcee")
    session.sampler.setup(n_iterations=200, n_burn_in=100, n_walkers=16, seed=1)
    session.sample(quiet=True)
    # the likelihood alone, with the constraint in it and flat priors, knows them to some 0.5 %
    assert session.samples["norms_continuum"].mean() == pytest.approx(1.0, abs=0.03)
    assert session.samples["norms_continuum"].std() < 0.05


def test_a_component_without_counts_or_knowledge_is_free(template):
    some = template_of(
        {"continuum": CONTINUUM, "lines": LINES},
        AXES,
        counts={"continuum": 500.0, "lines": 0.0},
        covariance=np.diag([25.0**2, np.inf]),
    )
    mix = ComponentMix(some)
    constraint = mix.constraint()
    constraint.set_model(nothing())
    assert mix.counts == pytest.approx({"continuum": 500.0, "lines": 5.0})
    mix.parameters["norms_lines"].value = 0.08  # of all others, since the template has none
    assert mix.counts["lines"] == pytest.approx(40.0)
    assert mix.contents.sum() == pytest.approx(540.0)
    assert constraint.get_log_like() == 0.0
    with pytest.raises(TemplateError, match="no component 'dust'"):
        mix.constraint(free=["dust"])


def test_a_component_known_exactly_is_fixed_unless_asked_for():
    parts = {"continuum": CONTINUUM, "lines": LINES}
    some = template_of(
        parts, AXES, counts={"continuum": 50.0, "lines": 0.0}, covariance=np.diag([9.0, 0.0])
    )
    mix = ComponentMix(some)
    mix.constraint().set_model(nothing())
    assert [p.free for p in mix.parameters.values()] == [True, False]
    assert mix.counts == pytest.approx({"continuum": 50.0, "lines": 0.0})
    mix.constraint(free=["lines"])
    assert mix.parameters["norms_lines"].free


def test_a_mix_is_summed_again_only_where_a_norm_has_changed():
    some = axes(PsiChi=axis("PsiChi", nside=16))
    parts = {f"part_{i}": cells(some, i) for i in range(4)}
    mix = ComponentMix(template_of(parts, some))
    before = mix.contents
    assert mix.contents is before
    mix.parameters["norms_part_0"].value = 1.1
    after = mix.contents
    assert after is not before and mix.contents is after
    assert_allclose(after, sum(parts.values()) + 0.1 * parts["part_0"])


# --- an amount that is known exactly -------------------------------------------------------------


def test_an_amount_known_exactly_has_a_fixed_norm():
    some = template_of({"background": CONTINUUM}, AXES, covariance=np.zeros((1, 1)))
    given = cosilike(some, data=data_on())
    assert given["nuisance_param"] is None  # COSILike would free any parameter
    assert_allclose(given["bkg"].contents, CONTINUUM)
    with pytest.raises(TemplateError, match="known exactly, so the norm is fixed"):
        some.norm_constraint()
    mix = some.component_mix()
    assert not mix.parameters["norms_background"].free


def test_a_mix_knows_that_lines_may_differ():
    own = {"continuum": 400 * CONTINUUM, "lines": 100 * LINES}
    mix = ComponentMix(template_of(own, AXES, record=tilted(6)))
    assert list(mix.parameters) == ["norms_continuum", "norms_lines", "norms_lines_spread_1"]
    (difference,) = tilted(6).line_spread.differences(LINES, ["Em", "Phi", "PsiChi"])
    amplitude = mix.parameters["norms_lines_spread_1"]
    assert amplitude.value == 0.0 and amplitude.min_value < 0 and amplitude.free
    amplitude.value, mix.parameters["norms_lines"].value = -1.5, 0.8
    assert_allclose(
        mix.contents, own["continuum"] + 80 * LINES * (1 - 1.5 * difference), rtol=1e-12
    )
    assert mix.counts["lines"] == pytest.approx(80 * LINES.sum())
    constraint = mix.constraint(free=["continuum", "lines"])
    constraint.set_model(nothing())
    assert constraint.get_log_like() == pytest.approx(-0.5 * 1.5**2)
    truth = own["continuum"] + own["lines"] * (1 + difference)
    mix = ComponentMix(template_of(own, AXES, record=tilted(6)))
    _, (table, _) = fit_of(Counting("cosi", truth, mix), mix.constraint())
    assert_allclose(table["value"], [1.0, 1.0, 1.0], atol=0.05)
    assert 0 < table.loc["norms_lines_spread_1", "error"] < 0.5


def test_a_session_steps_back_from_amplitudes_that_leave_nothing():
    own = {"continuum": CONTINUUM, "lines": 100 * LINES}
    mix = ComponentMix(template_of(own, AXES, record=tilted(6, 0.9)))
    mix.parameters["norms_lines_spread_1"].value = 5.0
    with pytest.raises(ForbiddenNorm, match="lines_spread_1 = .* make the background negative"):
        _ = mix.contents
