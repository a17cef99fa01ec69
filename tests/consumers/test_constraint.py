"""What is known of the norms, as a term of the likelihood."""

import numpy as np
import pytest
from astromodels import Model, Parameter, PointSource, Powerlaw
from numpy.testing import assert_allclose
from sessions import Counting, fit_of, nothing
from templates import axes, cells, template_of
from threeML import DataList, GoodnessOfFit, JointLikelihood

from cosi_linebkg_plugin import LineBackgroundLike, background_model
from cosi_linebkg_plugin.consumers.constraint import NormConstraint
from cosi_linebkg_plugin.consumers.cosilike import cosilike
from cosi_linebkg_plugin.errors import ModelError, TemplateError

AXES = axes()
CONTINUUM, LINES = cells(AXES, 1), cells(AXES, 2)


@pytest.fixture
def template():
    return template_of({"continuum": CONTINUUM, "lines": LINES}, AXES, livetime=1000.0)


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


def test_nothing_of_point_sources_is_needed():
    # sessions hold sky sources too: the constraint does not mind them
    source = PointSource("crab", 1.0, 1.0, spectral_shape=Powerlaw())
    plugin = NormConstraint("known", ["crab.spectrum.main.Powerlaw.K"], 0.01)
    plugin.set_model(Model(source))
    assert plugin.get_log_like() == 0.0


def test_it_shows_what_it_knows():
    known = NormConstraint("known", ["a", "b"], np.diag([0.04, 0.09]), mean=[1.0, 2.5])
    assert repr(known) == "NormConstraint(known: a 1 +- 0.2, b 2.5 +- 0.3)"
