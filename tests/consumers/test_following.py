"""Amounts that follow the spectrum: of a plugin, of a background in a joint session."""

import numpy as np
import pytest
from astromodels import Parameter
from numpy.testing import assert_allclose
from scipy import stats
from threeML import DataList, JointLikelihood
from threeML.plugin_prototype import PluginPrototype

from cosi_linebkg_plugin import LineBackgroundLike, background_model
from cosi_linebkg_plugin.app.demo import resolved_lines, simulated_events
from cosi_linebkg_plugin.app.simulation import DEMO_LINE_RATIO, simulate
from cosi_linebkg_plugin.errors import LineBackgroundError, ModelError, TemplateError

pytestmark = pytest.mark.filterwarnings("ignore::cosi_linebkg_plugin.errors.LineBackgroundWarning")

RATIO = {"line": 1808.65, "tracer": 1778.97, "value": DEMO_LINE_RATIO, "error": 0.015}
SKY_COUNTS = 5000.0


class Case:
    """A simulated data set, its spectrum fitted; the source range is two whole bins."""

    def __init__(self):
        self.simulation = simulate(4, nside=2, sky_counts=SKY_COUNTS)
        events = simulated_events(self.simulation)
        self.edges = self.simulation.energy_edges
        self.range = float(self.edges[60]), float(self.edges[62])
        self.plugin = LineBackgroundLike("linebkg", events)
        self.plugin.set_mask((1790, 1825))
        self.model = background_model(resolved_lines(), pivot=1800)
        self.fit = self.plugin.fit(self.model)
        self.plugin.set_model(self.model)

    def template(self, **options):
        options = {"line_ratio": RATIO, "l_cut": 4} | options
        return self.plugin.background_template(self.fit, self.range, **options)

    def restore(self):
        self.plugin.fit(self.model)


@pytest.fixture(scope="module")
def case():
    return Case()


@pytest.fixture
def spectrum(case):
    """The model's parameters, put back afterwards."""
    shape = case.model.sources["linebkg"].spectrum.main.shape
    before = {name: p.value for name, p in shape.parameters.items() if p.free}
    yield shape
    for name, value in before.items():
        getattr(shape, name).value = value


def tracer_of(case):
    lines = resolved_lines()
    return 2 + int(np.argmin(np.abs(np.array(lines) - 1778.97)))


# --- the plugin ----------------------------------------------------------------------------------


def test_source_counts_are_those_of_the_fit(case):
    expected = case.fit.expected_counts(case.range)
    got = case.plugin.source_counts(case.range)
    assert_allclose(list(got.values()), expected.values, rtol=1e-12)
    with_ratio = case.plugin.source_counts(case.range, line_ratio=RATIO)
    theta = {name: p.value for name, p in case.fit.parameters.items()}
    n = tracer_of(case)
    # the same Gaussian, written down anew
    share = np.diff(stats.norm.cdf(case.range, 1808.65, theta["sigma_2"]))[0]
    added = DEMO_LINE_RATIO * theta[f"F_{n}"] * share
    assert with_ratio["lines"] - got["lines"] == pytest.approx(added, rel=1e-10)


def test_source_counts_follow_the_parameters(case, spectrum):
    before = case.plugin.source_counts(case.range, line_ratio=RATIO)
    spectrum.K_1.value *= 1.1
    getattr(spectrum, f"F_{tracer_of(case)}").value *= 0.5
    after = case.plugin.source_counts(case.range, line_ratio=RATIO)
    assert after["continuum"] == pytest.approx(1.1 * before["continuum"])
    assert after["lines"] == pytest.approx(0.5 * before["lines"], rel=1e-3)  # tails of others


def test_source_counts_of_a_new_model(case):
    """The plugin of a session gets other models; nothing of the old one stays."""
    plugin = LineBackgroundLike("other", (case.edges, case.fit.spectrum.counts))
    with pytest.raises(ModelError, match="no model yet"):
        plugin.source_counts(case.range)
    for k in (1000.0, 3000.0):
        model = background_model(pivot=1800)
        model.sources["linebkg"].spectrum.main.shape.K.value = k
        plugin.set_model(model)
        width = case.range[1] - case.range[0]
        expected = k * width * (np.mean(case.range) / 1800.0) ** -2.0
        assert plugin.source_counts(case.range)["continuum"] == pytest.approx(expected, rel=1e-4)
    with pytest.raises(TemplateError, match="no fitted line"):
        plugin.source_counts(case.range, line_ratio=RATIO)


def test_observed_counts_are_the_events_of_whole_bins(case):
    observed = case.plugin.observed_counts(case.range)
    assert observed.axes["Em"].nbins == 1
    expected = sum(
        case.simulation.observed(low, high)
        for low, high in zip(case.edges[60:62], case.edges[61:63], strict=True)
    )
    assert_allclose(observed.contents[0], expected)
    template = case.template()
    fit = template.fit_norms(observed)  # a free Poisson fit keeps the total
    assert fit.values.sum() == pytest.approx(expected.sum(), rel=1e-6)
    with pytest.raises(TemplateError, match=r"cuts through energy bins .* bin edges"):
        case.plugin.observed_counts((1805, 1812))
    bare = LineBackgroundLike("bare", (case.edges, case.fit.spectrum.counts))
    with pytest.raises(LineBackgroundError, match="a spectrum alone"):
        bare.observed_counts(case.range)


# --- a background that follows -------------------------------------------------------------------


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


def test_a_split_template_cannot_follow(case):
    with pytest.raises(TemplateError, match="split template cannot follow"):
        case.template().split("Phi", 30).component_mix(follow=case.plugin)


class Sky(PluginPrototype):
    """A stand-in for COSILike: Poisson counts of `bkg` and of a sky map with a free norm."""

    def __init__(self, data, bkg, sky):
        self.data, self.bkg, self.sky = data, bkg, sky
        norm = Parameter("cosi_sky", 1.0, min_value=0.0, max_value=10.0, delta=0.05)
        super().__init__("cosi", {"cosi_sky": norm})

    def set_model(self, model):
        pass

    def get_number_of_data_points(self):
        return self.data.size

    def get_log_like(self):
        norm = self.nuisance_parameters["cosi_sky"].value
        expectation = norm * self.sky + self.bkg.contents
        return float(np.sum(self.data * np.log(expectation) - expectation))

    def inner_fit(self):
        return self.get_log_like()


def test_a_joint_session_agrees_with_the_two_steps(case):
    """Spectrum and norms at once, or the spectrum first and its covariance as a constraint.

    In the Gaussian limit they are the same estimate: sky norm and background counts agree to a
    fifth of their errors, the errors to a tenth.
    """
    data = case.plugin.observed_counts(case.range).contents
    sky = case.simulation.expected_sky(*case.range)[None]
    template = case.template()

    apart = template.component_mix()
    steps = JointLikelihood(
        background_model([], source="other"),  # a session needs a free parameter of its model
        DataList(
            Sky(data, apart, sky),
            apart.constraint(),
            LineBackgroundLike("dummy", ([100.0, 200.0, 300.0, 400.0], [50, 30, 20]),
                               source="other"),
        ),
    )  # fmt: skip
    two, _ = steps.fit(quiet=True)

    case.restore()
    together = template.component_mix(follow=case.plugin)
    session = JointLikelihood(
        case.model, DataList(case.plugin, Sky(data, together, sky), together.constraint())
    )
    one, _ = session.fit(quiet=True)

    error = two.loc["cosi_sky", "error"]
    assert one.loc["cosi_sky", "error"] == pytest.approx(error, rel=0.1)
    assert abs(one.loc["cosi_sky", "value"] - two.loc["cosi_sky", "value"]) < 0.2 * error
    # the truth is 1: 4 sigma, false alarm 6e-5 for one seeded data set
    assert abs(one.loc["cosi_sky", "value"] - 1.0) < 4 * error
    for label, counts in apart.counts.items():
        assert abs(together.counts[label] - counts) < 0.2 * template.errors[label]
    # the data of the source range act on the spectrum as well
    assert case.plugin.result(session).valid
    case.restore()
