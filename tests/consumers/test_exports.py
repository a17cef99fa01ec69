"""What consumers are given: right numbers on the right axes, refusals, norms and constraints."""

import time
from typing import Any, Protocol, runtime_checkable

import astropy.units as u
import histpy
import numpy as np
import pytest
from astromodels import Model, Parameter, ParticleSource, PointSource, Powerlaw, Uniform_prior
from numpy.testing import assert_allclose
from templates import SOURCE, axes, axis, cells, histogram_of, template_of
from threeML import BayesianAnalysis, DataList, GoodnessOfFit, JointLikelihood
from threeML.plugin_prototype import PluginPrototype

from cosi_linebkg_plugin import LineBackgroundLike, background_model
from cosi_linebkg_plugin.consumers.constraint import NormConstraint
from cosi_linebkg_plugin.consumers.cosilike import ComponentMix, cosilike
from cosi_linebkg_plugin.consumers.cosipy04 import ProtocolView, free_norm_histograms
from cosi_linebkg_plugin.consumers.imaging import deconvolution_input, energy_channel, ts_map_input
from cosi_linebkg_plugin.errors import ModelError, TemplateError

AXES = axes()
CONTINUUM, LINES = cells(AXES, 1), cells(AXES, 2)


@pytest.fixture
def template():
    return template_of({"continuum": CONTINUUM, "lines": LINES}, AXES, livetime=1000.0)


def data_on(some_axes=AXES, unit=None):
    return histogram_of(some_axes, np.ones([a.nbins for a in some_axes]), unit)


# --- COSILike ------------------------------------------------------------------------------------


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


@pytest.mark.parametrize(
    "order", [("Phi", "Time", "PsiChi", "Em"), ("ScAtt", "Em", "PsiChi", "Phi")]
)
def test_axes_are_put_in_order_and_those_of_one_bin_dropped(order):
    some = axes(*order)
    contents = cells(some)
    bkg = cosilike(template_of({"background": contents}, some), data=data_on())["bkg"]
    places = [order.index(name) for name in ("Em", "Phi", "PsiChi")]
    extra = next(i for i in range(4) if i not in places)
    assert_allclose(bkg.contents, contents.transpose(*places, extra)[..., 0], rtol=1e-14)


def test_the_norms_are_the_current_ones(template):
    template.set_parameters(lines=0.0)
    assert_allclose(cosilike(template)["bkg"].contents, CONTINUUM, rtol=1e-14)


def test_an_unknown_amount_gets_a_flat_prior():
    some = template_of({"background": CONTINUUM}, AXES, covariance=np.array([[np.inf]]))
    norm = cosilike(some)["nuisance_param"]
    assert norm.prior.name == "Uniform_prior" and norm.prior.upper_bound.value == norm.max_value
    assert norm.prior(0.5 * norm.max_value) > 0


MISMATCHES = [
    ({"Em": axis("Em", edges=[1800.0, 1812.0] * u.keV)}, None, "Em: got edge 0 at 1805, expected"),
    ({"Em": axis("Em", edges=[1.805, 1.812] * u.MeV)}, None, "Em: got unit keV, expected MeV"),
    ({"Em": axis("Em", edges=[1700.0, *SOURCE] * u.keV)}, None, "Em: got number of bins 1, exp"),
    ({"Phi": axis("Phi", edges=np.linspace(0, 180, 4) * u.deg)}, None, "Phi: got number of bins 6"),
    ({"Phi": axis("Phi", edges=np.linspace(0, np.pi, 7) * u.rad)}, None, "got unit deg, exp"),
    ({"PsiChi": axis("PsiChi", nside=2)}, None, "PsiChi: got number of bins 12, expected 48"),
    ({"PsiChi": axis("PsiChi", scheme="nested")}, None, "got scheme RING, expected NESTED"),
    (
        {"PsiChi": axis("PsiChi", coordsys="spacecraftframe")},
        None,
        "got frame galactic, expected spacecraftframe",
    ),
    ({}, u.cm, "unit cm"),
]


@pytest.mark.parametrize(("changed", "unit", "message"), MISMATCHES)
def test_data_on_other_axes_are_refused_by_name(template, changed, unit, message):
    with pytest.raises(TemplateError, match=message):
        cosilike(template, data=data_on(axes(**changed), unit))


@pytest.mark.parametrize("order", [("Phi", "Em", "PsiChi"), ("Time", "Em", "Phi", "PsiChi")])
def test_data_in_another_order_are_refused(template, order):
    with pytest.raises(TemplateError, match="in this order"):
        cosilike(template, data=data_on(axes(*order)))


def test_templates_that_no_likelihood_can_use_are_refused(template):
    times = axes("Time", "Em", "Phi", "PsiChi", Time=axis("Time", edges=[0.0, 1.0, 2.0] * u.s))
    with pytest.raises(TemplateError, match="2 bins of Time"):
        cosilike(template_of({"background": cells(times)}, times))
    with pytest.raises(TemplateError, match="without PsiChi"):
        flat = axes("Em", "Phi")
        cosilike(template_of({"background": cells(flat)}, flat))
    holes = CONTINUUM.copy()
    holes[0, 2, 3] = 0.0
    with pytest.raises(TemplateError, match=r"1 cells .* \(0, 2, 3\)"):
        cosilike(template_of({"background": holes}, AXES))
    template.set_parameters(continuum=0.0, lines=0.0)
    with pytest.raises(TemplateError, match="norms above 0"):
        cosilike(template)


def test_energies_outside_the_source_range_are_refused_or_dropped():
    wide = axes(Em=axis("Em", edges=[1700.0, *SOURCE, 1900.0] * u.keV))
    contents = cells(wide)
    contents[[0, 2]] = 0.0
    template = template_of({"background": contents}, wide)
    with pytest.raises(TemplateError, match="empty outside its source range 1805-1812 keV"):
        cosilike(template, data=data_on(wide))
    bkg = cosilike(template, data=data_on(wide), outside="drop")["bkg"]
    assert np.isnan(bkg.contents[[0, 2]]).all()
    assert_allclose(bkg.contents[1], contents[1])
    with pytest.raises(TemplateError, match="'keep'"):
        cosilike(template, outside="keep")


@pytest.mark.parametrize("name", ["my cosi", "2nd", ""])
def test_names_that_threeml_refuses_are_refused_first(template, name):
    with pytest.raises(TemplateError, match="letters, digits and underscores"):
        cosilike(template, name)
    with pytest.raises(TemplateError, match="letters, digits and underscores"):
        ComponentMix(template, name)


# --- constraint ----------------------------------------------------------------------------------


class Counting(PluginPrototype):
    """A stand-in for COSILike: Poisson counts of `bkg` times its norm."""

    def __init__(self, name, data, bkg, nuisance_param=None):
        self.data, self.bkg = data, bkg
        super().__init__(name, {nuisance_param.name: nuisance_param} if nuisance_param else {})

    def set_model(self, model):
        pass

    def get_number_of_data_points(self):
        return self.data.size

    def get_log_like(self):
        norm = next((p.value for p in self.nuisance_parameters.values()), 1.0)
        expectation = norm * self.bkg.contents + 1e-12
        return float(np.nansum(self.data * np.log(expectation) - expectation))

    def inner_fit(self):
        return self.get_log_like()


def nothing():
    """A model without free parameters; threeML needs one."""
    source = ParticleSource("nothing", Powerlaw())
    for p in source.spectrum.main.shape.parameters.values():
        p.free = False
    return Model(source)


def fit_of(*plugins):
    session = JointLikelihood(nothing(), DataList(*plugins))
    return session, session.fit(quiet=True)


def test_the_constraint_pulls_the_norm_by_its_weight(template):
    # Gaussian limit: the mean of data (1.2 +- s) and knowledge (1 +- e), weighted
    scale = 100.0
    big = template_of({"background": scale * CONTINUUM}, AXES)
    given = cosilike(big)
    n = scale * CONTINUUM.sum()
    cosi = Counting("cosi", 1.2 * given["bkg"].contents, **given)
    known = NormConstraint.of_template(big)
    session, (table, _) = fit_of(known, cosi)  # it stands first: names are looked up later
    norm = table.loc["cosi_bkg", "value"]
    # root of d/dN [1.2 n log N - n N - (N - 1)^2 / (2 e^2)]
    e2 = 0.05**2
    expected = np.roots([1 / e2, n - 1 / e2, -1.2 * n])
    assert norm == pytest.approx(expected[expected > 0][0], rel=1e-4)
    assert session.results.get_statistic_measure_frame() is not None
    assert known.get_number_of_data_points() == 0


def test_the_constraint_with_correlations():
    a, b = Parameter("norms_a", 1.1), Parameter("norms_b", 0.7)
    covariance = np.array([[0.04, 0.01], [0.01, 0.09]])
    plugin = NormConstraint(
        "norms", ["norms_a", "norms_b"], covariance, nuisance={"norms_a": a, "norms_b": b}
    )
    plugin.set_model(nothing())
    d = np.array([0.1, -0.3])
    assert plugin.get_log_like() == pytest.approx(-0.5 * d @ np.linalg.inv(covariance) @ d)
    plugin.seed(1)
    means = np.array([plugin.get_simulated_dataset("sim")._mean for _ in range(4000)])
    # 4000 draws: 4 standard errors are 0.02 of the means, 9 % of the variances
    assert_allclose(means.mean(axis=0), [1.1, 0.7], atol=0.02)
    assert_allclose(np.cov(means.T), covariance, rtol=0.09, atol=0.005)
    assert plugin.get_simulated_dataset("other").name == "other"


def test_the_constraint_takes_part_in_a_goodness_of_fit():
    edges = np.linspace(1700.0, 1900.0, 21)
    counts = np.random.default_rng(3).poisson(500.0, 20)
    model = background_model(pivot=1800)
    path = next(name for name in model.parameters if name.endswith("index"))
    session = JointLikelihood(
        model,
        DataList(
            LineBackgroundLike("linebkg", (edges, counts)),
            NormConstraint("known", [path], 0.1**2, mean=[-0.2]),
        ),
    )
    session.fit(quiet=True)
    goodness, _, likelihoods = GoodnessOfFit(session).by_mc(3)
    assert set(goodness) == {"total", "linebkg", "known"}
    assert np.isfinite(likelihoods["-log(likelihood)"].to_numpy(float)).all()


def test_names_are_checked():
    plugin = NormConstraint("known", ["cosi_bkg"], 0.01)
    with pytest.raises(ModelError, match="no model yet"):
        plugin.get_log_like()
    plugin.set_model(nothing())
    with pytest.raises(ModelError, match="cosi_bkg, which the session does not have"):
        plugin.get_log_like()
    with pytest.raises(TemplateError, match="must contain the plugin's name"):
        NormConstraint("known", ["x"], 1.0, nuisance={"x": Parameter("x", 1.0)})


@pytest.mark.parametrize(
    ("names", "covariance", "message"),
    [
        (["a", "b"], 1.0, "2 x 2"),
        (["a", "a"], np.eye(2), "different names"),
        (["a"], np.inf, "finite"),
        (["a"], 0.0, "positive definite"),
        (["a", "b"], [[1.0, 1.0], [1.0, 1.0]], "positive definite"),
    ],
)
def test_covariances_are_checked(names, covariance, message):
    with pytest.raises(TemplateError, match=message):
        NormConstraint("known", names, covariance)


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


def test_a_mix_costs_no_more_than_the_sum_of_its_arrays():
    some = axes(PsiChi=axis("PsiChi", nside=16))
    parts = {f"part_{i}": cells(some, i) for i in range(4)}
    mix = ComponentMix(template_of(parts, some))
    first = mix.parameters["norms_part_0"]

    def changed_call():
        first.value = 1.0 + 1e-3 * (first.value == 1.0)
        return mix.contents

    def plain_sum():
        return sum(1.01 * m for m in parts.values())

    def seconds(call):
        times = []
        for _ in range(30):
            start = time.perf_counter()
            call()
            times.append(time.perf_counter() - start)
        return min(times)

    assert seconds(changed_call) < 2 * seconds(plain_sum) + 1e-4
    assert seconds(lambda: mix.contents) < 5e-5


# --- cosipy 0.4 ----------------------------------------------------------------------------------


@runtime_checkable
class BinnedBackgroundInterface(Protocol):
    """As cosipy 0.4 documents it (cosipy.interfaces), written down here: it is not on PyPI."""

    @property
    def axes(self) -> histpy.Axes: ...

    def expectation(self, copy: bool) -> histpy.Histogram: ...

    def set_parameters(self, **parameters: u.Quantity) -> None: ...

    @property
    def parameters(self) -> dict[str, u.Quantity]: ...


class Signal:
    """A ``BinnedExpectationInterface`` of sky counts: a map of its own that callers may change."""

    def __init__(self, contents):
        self.contents = contents

    def expectation(self, copy: bool) -> histpy.Histogram:
        assert copy, "with a background, the caller adds it in place"
        return histogram_of(AXES, self.contents.copy())


class PoissonPlugin(PluginPrototype):
    """The calls of cosipy 0.4: ThreeMLPluginInterface around PoissonLikelihood.

    As in its threeml_plugin_interface.py and likelihood_functions.py: norms come as parameters
    without limits, are set by bare name as quantities at each call, and the background's own
    histogram is added in place to the signal's.
    """

    def __init__(self, name: str, data: Any, bkg: BinnedBackgroundInterface, sky: float = 0.0):
        super().__init__(name, {})
        self.data, self.bkg, self.response = data, bkg, Signal(np.full_like(data, sky))
        self.own = {
            f"{name}_{label}": Parameter(label, norm.value, unit=norm.unit)
            for label, norm in bkg.parameters.items()
        }

    @property
    def nuisance_parameters(self):
        return self.own

    def set_model(self, model):
        pass

    def get_number_of_data_points(self):
        return self.data.size

    def get_log_like(self):
        start = len(self.name) + 1
        self.bkg.set_parameters(**{key[start:]: p.as_quantity for key, p in self.own.items()})
        expectation = self.response.expectation(copy=True)
        expectation += self.bkg.expectation(copy=False)
        contents = expectation.contents
        return float(np.nansum(self.data * np.log(contents) - contents))

    def inner_fit(self):
        return self.get_log_like()


def test_template_and_view_satisfy_the_protocol(template):
    for background in (template, ProtocolView(template, "x_")):
        assert isinstance(background, BinnedBackgroundInterface)
        assert background.axes == AXES
        for key, norm in background.parameters.items():
            assert key.isidentifier() and norm.unit == u.Hz
        assert_allclose(background.expectation(copy=True).contents, CONTINUUM + LINES, rtol=1e-14)
        shared = background.expectation(copy=False)
        assert shared is background.expectation(copy=False)
        assert background.expectation(copy=True) is not shared
    assert template.parameters["lines"].value == pytest.approx(LINES.sum() / 1000.0)


def test_two_views_never_collide(template):
    one, two = ProtocolView(template, "one_"), ProtocolView(template, "two_")
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
        PoissonPlugin("first", 1.1 * truth, ProtocolView(big, "a_")),
        PoissonPlugin("second", 0.9 * truth, ProtocolView(big, "b_")),
    )
    rate = truth.sum() / 1000.0
    assert table.loc["a_background", "value"] == pytest.approx(1.1 * rate, rel=1e-3)
    assert table.loc["b_background", "value"] == pytest.approx(0.9 * rate, rel=1e-3)


@pytest.mark.parametrize("through_view", [False, True])
def test_a_session_steps_back_from_norms_below_zero(through_view):
    """cosipy 0.4 gives the norms no limits: near 0 a minimiser tries negative ones."""
    parts = {"continuum": 100 * CONTINUUM, "lines": 100 * LINES}
    big = template_of(parts, AXES, livetime=1000.0)
    bkg = ProtocolView(big) if through_view else big
    truth = 100 * CONTINUUM + 0.02 * LINES
    _, (table, _) = fit_of(PoissonPlugin("cosi", truth, bkg))
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
    view = ProtocolView(some)
    assert view.parameters["lines"].value == pytest.approx(0.01 * counts["continuum"] / 1000.0)
    _, (table, _) = fit_of(PoissonPlugin("cosi", 100 * CONTINUUM + 20 * LINES, view))
    assert table.loc["lines", "value"] == pytest.approx(20 * LINES.sum() / 1000.0, rel=0.01)


def test_expectations_are_plain_for_the_sake_of_sums(template):
    """Their sumw2 would be dropped, with a message, at every step of a fit."""
    assert template.expectation(copy=False).sumw2 is None
    assert ProtocolView(template).expectation(copy=False).sumw2 is None
    assert template.histogram.sumw2 is not None


def test_views_refuse_what_makes_no_sense(template):
    with pytest.raises(TemplateError, match="livetime"):
        ProtocolView(template_of({"background": CONTINUUM}, AXES))
    with pytest.raises(TemplateError, match="identifier"):
        ProtocolView(template, "2nd ")
    view = ProtocolView(template, "x_")
    with pytest.raises(TemplateError, match="no norm 'lines'; it has x_continuum, x_lines"):
        view.set_parameters(lines=1 * u.Hz)
    for wrong in (1 * u.keV, 1.0):
        with pytest.raises(TemplateError, match="rate in Hz"):
            view.set_parameters(x_lines=wrong)
    with pytest.raises(TemplateError, match=">= 0"):
        view.set_parameters(x_lines=-1 * u.Hz)


def test_free_norm_histograms(template):
    template.set_parameters(lines=0.0)
    first, again = free_norm_histograms(template), free_norm_histograms(template)
    assert list(first) == ["continuum", "lines"] and first is not again
    assert all(h.contents.dtype == np.float64 and h.unit is None for h in first.values())
    assert_allclose(first["continuum"].contents, CONTINUUM)
    assert first["lines"].contents.sum() == pytest.approx(1.0)


# --- imaging -------------------------------------------------------------------------------------


@pytest.mark.parametrize("leading", [(), ("Time",), ("ScAtt",)])
def test_deconvolution_input_has_the_order_and_axes_of_the_events(leading):
    order = (*leading, "Em", "Phi", "PsiChi")
    own = axes("PsiChi", "Phi", *leading, "Em")
    contents = cells(own)
    events = data_on(axes(*order))
    template = template_of({"background": contents}, own)
    given = deconvolution_input(template, events)
    bkg = given["bkg"]
    assert [a.label for a in bkg.axes] == list(order)
    for mine, theirs in zip(bkg.axes, events.axes, strict=True):
        assert np.all(mine.edges == theirs.edges)
    places = [[a.label for a in own].index(name) for name in order]
    assert_allclose(bkg.contents, contents.transpose(places), rtol=1e-14)
    assert deconvolution_input(template, events) is not given


def test_deconvolution_input_refuses_other_events(template):
    with pytest.raises(TemplateError, match="without Time"):
        deconvolution_input(template, data_on(axes("Time", "Em", "Phi", "PsiChi")))
    with pytest.raises(TemplateError, match="in this order"):
        deconvolution_input(template, data_on(axes("Em", "PsiChi", "Phi")))


def test_ts_map_input_lies_on_the_full_energy_axis():
    wide = axes(Em=axis("Em", edges=[1700.0, *SOURCE, 1900.0] * u.keV))
    contents = cells(wide)
    contents[[0, 2]] = 0.0
    template, data = template_of({"background": contents}, wide), data_on(wide)
    given = ts_map_input(template, data)
    assert given["data"] is data
    assert_allclose(given["bkg_model"].contents, contents, rtol=1e-14)
    assert energy_channel(template, data) == [1, 2]
    contents = contents.copy()
    contents[1, 2, 3] = 0.0
    with pytest.raises(TemplateError, match=r"1 cells .* \(1, 2, 3\)"):
        ts_map_input(template_of({"background": contents}, wide), data)
    with pytest.raises(TemplateError, match="number of bins 3, expected 1"):
        ts_map_input(template, data_on())


def test_nothing_of_point_sources_is_needed():
    # sessions hold sky sources too: the constraint does not mind them
    source = PointSource("crab", 1.0, 1.0, spectral_shape=Powerlaw())
    plugin = NormConstraint("known", ["crab.spectrum.main.Powerlaw.K"], 0.01)
    plugin.set_model(Model(source))
    assert plugin.get_log_like() == 0.0


def test_the_templates_own_methods_are_these_functions(template):
    events = data_on()
    assert set(template.cosilike("cosi")) == set(cosilike(template, "cosi"))
    assert set(template.free_norm_histograms()) == set(template.labels)
    assert template.norm_constraint("cosi").name == "norm_constraint"
    assert np.all(template.component_mix().axes["Em"].edges == events.axes["Em"].edges)
    assert all(name.startswith("a_") for name in template.with_prefix("a_").parameters)
    assert (
        template.deconvolution_input(events).keys() == deconvolution_input(template, events).keys()
    )
