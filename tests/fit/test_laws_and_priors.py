"""Parameters that follow others by a law, and priors: in fits, samples, tables and files."""

import json

import astromodels
import numpy as np
import pytest
from astromodels import Line, Log_parabola, Powerlaw
from spectra import simulated_spectrum

from cosi_linebkg_plugin import LineBackgroundFit, LineBackgroundLike, background_model
from cosi_linebkg_plugin.errors import DataError, FileError, FitError, ModelError
from cosi_linebkg_plugin.fit.minimise import fit_spectrum
from cosi_linebkg_plugin.fit.toys import with_toys
from cosi_linebkg_plugin.lines.identify import identify_lines
from cosi_linebkg_plugin.model.read import spectrum_of

EDGES = np.linspace(1500.0, 2000.0, 101)
SOURCE = (1770.0, 1790.0)


def shape(model):
    return model.linebkg.spectrum.main.shape


def law(kind=Line, **values):
    function = kind()
    for name, value in values.items():
        getattr(function, name).bounds = (None, None)
        getattr(function, name).value, getattr(function, name).fix = value, True
    return function


def model_with(*links, lines=(1700, 1779)):
    model = background_model(list(lines), pivot=1800)
    p = shape(model).parameters
    p["K_1"].value, p["F_2"].value = 200.0, 1000.0
    for name, of, function in links:
        model.link(p[name], p[of], function)
    return model


def read(model):
    return spectrum_of(model, "linebkg").current_model()


@pytest.fixture(scope="module")
def spectrum():
    truth = background_model([1700, 1779], pivot=1800)
    p = shape(truth).parameters
    p["K_1"].value, p["F_2"].value, p["F_3"].value = 200.0, 3000.0, 400.0
    return simulated_spectrum(read(truth), EDGES, np.random.default_rng(11))


AMOUNT = ("F_3", "F_2", dict(a=0.0, b=0.1333))
LAWS = {
    "amount": [("F_3", "F_2", lambda: law(a=0.0, b=0.1333))],
    "energy": [("mu_3", "mu_2", lambda: law(a=79.0, b=1.0))],
    "both": [
        ("F_3", "F_2", lambda: law(Powerlaw, K=400.0, piv=3000.0, index=1.0)),
        ("mu_3", "mu_2", lambda: law(a=79.0, b=1.0)),
    ],
    "tangent": [("F_3", "F_2", lambda: law(Log_parabola, K=400.0, piv=3000.0, alpha=1.0,
                                          beta=0.0))],
}  # fmt: skip


def fitted(spectrum, kind):
    links = [(name, of, make()) for name, of, make in LAWS[kind]]
    return fit_spectrum(read(model_with(*links)), spectrum)


@pytest.mark.parametrize("kind", LAWS)
def test_laws_hold_at_the_optimum(spectrum, kind):
    """Values, table, lines and expected counts used the start value: 133 "fixed" counts."""
    fit = fitted(spectrum, kind)
    values = fit.values
    if kind != "energy":
        ratio = values["F_3"] / values["F_2"]
        assert ratio == pytest.approx(0.1333, rel=1e-3)
        assert values["F_3"] > 300.0
        assert fit.errors["F_3"] == pytest.approx(ratio * fit.errors["F_2"], rel=1e-6)
    if kind in ("energy", "both"):
        assert values["mu_3"] == pytest.approx(values["mu_2"] + 79.0)
        assert fit.errors["mu_3"] == pytest.approx(fit.errors["mu_2"])
    (energy, _) = fit.lines[-1]
    assert energy == values["mu_3"]
    by_line = fit.expected_counts((1500, 2000), by="component")
    assert by_line.values[-1] == pytest.approx(values["F_3"], rel=1e-6)
    assert "F_3" in str(fit) and f"{values['F_3']:.7g}" in str(fit)
    assert fit.adequacy.p_value > 1e-3


@pytest.mark.parametrize("kind", LAWS)
def test_the_covariance_goes_through_the_law(spectrum, kind):
    """The errors of expected counts against the same model without a link."""
    fit = fitted(spectrum, kind)
    counts = fit.expected_counts(SOURCE, by="component")
    j = np.empty((len(fit.model.components), len(fit.covariance_names)))
    for k, name in enumerate(fit.covariance_names):
        step = 1e-3 * fit.errors[name]
        moved = []
        for sign in (1, -1):
            theta = fit.theta.copy()
            theta[fit.model.names.index(name)] += sign * step
            theta = fit.model.resolve(theta)
            parts = [
                fit.model.select([i]).bind(np.array(SOURCE)).counts(theta).sum()
                for i in range(len(fit.model.components))
            ]
            moved.append(np.array(parts))
        j[:, k] = (moved[0] - moved[1]) / (2 * step)
    assert np.allclose(counts.covariance, j @ fit.covariance @ j.T, rtol=1e-3, atol=1e-6)
    assert counts.errors[-1] > 0.0


@pytest.mark.parametrize("kind", LAWS)
def test_json_keeps_laws(spectrum, kind):
    fit = fitted(spectrum, kind)
    back = LineBackgroundFit.from_json(fit.to_json())
    assert back.values == pytest.approx(fit.values, rel=1e-12)
    assert back.deviance == pytest.approx(fit.deviance, rel=1e-9)
    assert back.errors == pytest.approx(fit.errors, rel=1e-6)
    a, b = (f.expected_counts(SOURCE, by="component") for f in (fit, back))
    assert np.allclose(a.covariance, b.covariance, rtol=1e-6)
    assert back.summary() == fit.summary()
    again = LineBackgroundFit.from_json(back.to_json())
    assert json.loads(again.to_json()) == json.loads(back.to_json())
    if kind == "tangent":
        with pytest.raises(ModelError, match="a law between parameters at the best fit alone"):
            back.sample(seed=1)
    else:
        assert fit_spectrum(back.model, spectrum).deviance == pytest.approx(fit.deviance, abs=1e-3)


def free_law(kind=Line, **values):
    """A law whose last parameter is free."""
    function = law(kind, **values)
    getattr(function, list(values)[-1]).free = True
    return function


FREE = {
    "line": lambda: free_law(a=0.0, b=0.2),
    "power law": lambda: free_law(Powerlaw, piv=3000.0, index=1.0, K=300.0),
}


@pytest.mark.parametrize("kind", FREE)
def test_free_parameters_of_a_law_are_parameters_of_the_fit(spectrum, kind):
    """A free factor between two lines is no link at all: both fits are the same."""
    own = fit_spectrum(read(model_with()), spectrum)
    fit = fit_spectrum(read(model_with(("F_3", "F_2", FREE[kind]()))), spectrum)
    name = {"line": "F_3.Line.b", "power law": "F_3.Powerlaw.K"}[kind]
    assert name in fit.covariance_names and "F_3" not in fit.covariance_names
    assert fit.deviance == pytest.approx(own.deviance, abs=1e-6)
    assert fit.dof == own.dof
    for same in ("F_3", "F_2", "mu_3", "sigma_2"):
        assert fit.values[same] == pytest.approx(own.values[same], abs=1e-3 * own.errors[same])
        assert fit.errors[same] == pytest.approx(own.errors[same], rel=1e-3)
    a, b = (f.expected_counts(SOURCE, by="component").covariance for f in (fit, own))
    assert np.allclose(a, b, rtol=3e-3, atol=1e-3 * np.abs(b).max())
    factor = fit.values["F_3"] / fit.values["F_2"]
    assert fit.values[name] == pytest.approx(factor * (3000.0 if kind == "power law" else 1.0))
    assert f"{fit.values[name]:.6g}" in fit.parameters["F_3"].law
    back = LineBackgroundFit.from_json(fit.to_json())
    assert back.values == pytest.approx(fit.values, rel=1e-12)
    assert back.errors == pytest.approx(fit.errors, rel=1e-6)
    assert fit_spectrum(back.model, spectrum).deviance == pytest.approx(fit.deviance, abs=1e-3)
    sampled = back.sample(seed=1, n_samples=1000)
    assert sampled.errors["F_3"] == pytest.approx(own.errors["F_3"], rel=0.2)


@pytest.mark.parametrize("pivot", [1.0, 3000.0])
def test_free_parameters_of_a_law_that_act_as_one_are_named(spectrum, pivot):
    """Only the noise of the Hessian told them apart: K = 435 +- 57,000, and valid."""
    both = free_law(Powerlaw, piv=pivot, K=400.0 * pivot / 3000.0, index=1.0)
    both.K.free = True
    with pytest.raises(FitError, match=r"tell apart .*F_3\.Powerlaw\.K, F_3\.Powerlaw\.index"):
        fit_spectrum(read(model_with(("F_3", "F_2", both))), spectrum)


def test_a_damaged_law_in_a_file_is_refused(spectrum):
    fit = fit_spectrum(read(model_with(("F_3", "F_2", FREE["line"]()))), spectrum)
    for parameters, problem in (
        (["F_3.Line.a"], "Line has 2 parameters"),
        (["F_3.Line.a", "F_9"], "F_9"),
        (["F_3.Line.a", "F_3"], "follow each other"),
    ):
        data = json.loads(fit.to_json())
        data["parameters"]["F_3"]["law"]["parameters"] = parameters
        with pytest.raises(FileError, match=problem):
            LineBackgroundFit.from_json(json.dumps(data))


def test_sampling_follows_laws(spectrum):
    fit = fitted(spectrum, "amount")
    sampled = fit.sample(seed=1, n_samples=1000)
    assert sampled.values["F_3"] == pytest.approx(0.1333 * sampled.values["F_2"])
    assert sampled.values["F_3"] == pytest.approx(fit.values["F_3"], abs=2 * fit.errors["F_3"])


def test_a_law_inside_a_function_of_ones_own(spectrum):
    """The function took the start value of what its parameter follows."""
    curve = Log_parabola()
    curve.K.bounds, curve.K.value, curve.piv.value = (1e-10, None), 200.0, 1800.0
    curve.alpha.value, curve.beta.value, curve.beta.fix = -1.0, 0.0, True
    model = background_model([1700, 1779], continuum=curve)
    p = shape(model).parameters
    p["F_2"].value = 1000.0
    model.link(p["K_1"], p["F_2"], law(a=0.0, b=200.0 / 3000.0))
    fit = fit_spectrum(read(model), spectrum)
    assert fit.values["K_1"] == pytest.approx(fit.values["F_2"] * 200 / 3000)
    total = fit.expected_counts((1500, 2000)).total
    assert total == pytest.approx(spectrum.counts.sum(), rel=0.02)
    back = LineBackgroundFit.from_json(fit.to_json())
    assert back.deviance == pytest.approx(fit.deviance, rel=1e-6)
    a, b = (f.expected_counts((1500, 2000)) for f in (fit, back))
    assert np.allclose(a.covariance, b.covariance, rtol=1e-4)


def test_a_joint_likelihood_with_a_law_survives_json(spectrum):
    """Reloaded, its error was 0.39 instead of 12.3."""
    import logging

    from threeML import DataList, JointLikelihood

    for name in ("threeML", "astromodels"):
        logging.getLogger(name).setLevel(logging.ERROR)
    plugin = LineBackgroundLike("bkg", spectrum)
    model = model_with(("F_3", "F_2", law(a=0.0, b=0.1333)))
    direct = plugin.fit(model)
    session = JointLikelihood(model, DataList(plugin))
    session.fit(quiet=True)
    result = plugin.result(session)
    for fit in (result, LineBackgroundFit.from_json(result.to_json())):
        assert fit.values["F_3"] == pytest.approx(direct.values["F_3"], rel=1e-3)
        counts, exact = fit.expected_counts(SOURCE), direct.expected_counts(SOURCE)
        assert counts.values == pytest.approx(exact.values, rel=1e-3)
        assert counts.errors == pytest.approx(exact.errors, rel=0.03)


def test_a_line_ratio_on_a_tracer_that_follows(spectrum):
    import histpy
    from astropy import units as u

    axes = [histpy.Axis(EDGES * u.keV, label="Em"), histpy.Axis([0, 180] * u.deg, label="Phi")]
    events = histpy.Histogram(histpy.Axes(axes), contents=spectrum.counts[:, None])
    plugin = LineBackgroundLike("bkg", events)
    plugin.set_mask((1795, 1820))
    fit = plugin.fit(model_with(("F_3", "F_2", law(a=0.0, b=0.1333))))
    ratio = {"line": 1808.65, "tracer": 1779.0, "value": 0.5, "error": 0.0}
    template = plugin.background_template(fit, (1800, 1815), line_ratio=ratio)
    expected = 0.5 * fit.values["F_3"]
    assert template.counts["lines"] == pytest.approx(expected, rel=0.1)
    error = np.sqrt(template.covariance[1, 1])
    assert error == pytest.approx(0.5 * fit.errors["F_3"], rel=0.15)


def test_the_catalogue_knows_the_error_of_an_energy_that_follows(spectrum):
    fit = fitted(spectrum, "energy")
    found = {x.parameter: x for x in identify_lines(fit)}
    assert found["mu_3"].error == pytest.approx(fit.errors["mu_2"])


# --- files from elsewhere ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda p: p["F_3"]["law"].update(of="F_3"), "follow each other"),
        (lambda p: p["F_3"]["law"].update(of="nothing"), "what F_3 follows"),
        (lambda p: p["F_3"]["law"].update(function="eval"), "the function of a law is .*eval"),
        (lambda p: p["F_3"]["law"].update(values=[1.0]), "Line has 2 values"),
        (lambda p: p["F_3"]["law"].update(values=[1.0, "x"]), r"values\.1: values is 'x'"),
        (lambda p: p["F_3"].update(free=True), "F_3 is free or linked, and follows a law"),
        (lambda p: p["F_2"].update(prior={"function": "Gaussian", "values": [1.0, 0.0]}),
         "the prior Gaussian has no width"),
        (lambda p: p["F_2"].update(prior={"function": "Gaussian", "values": [1.0]}),
         "the prior Gaussian has 2 values"),
        (lambda p: p["F_2"].update(prior={"function": "x" * 500, "values": []}), "a prior has the"),
    ],
)  # fmt: skip
def test_damaged_laws_and_priors_are_refused(spectrum, change, message):
    data = json.loads(fitted(spectrum, "amount").to_json())
    change(data["parameters"])
    with pytest.raises(FileError, match=message):
        LineBackgroundFit.from_json(json.dumps(data))


# --- priors --------------------------------------------------------------------------------------


def with_prior(name, **values):
    model = model_with()
    prior = getattr(astromodels, name)()
    for key, value in values.items():
        getattr(prior, key).bounds = (None, None)
        getattr(prior, key).value = value
    shape(model).parameters["F_3"].prior = prior
    shape(model).parameters["F_3"].value = 600.0
    return read(model)


PRIORS = {
    "Gaussian": dict(mu=600.0, sigma=5.0),
    "Truncated_gaussian": dict(mu=600.0, sigma=5.0, lower_bound=598.0, upper_bound=700.0),
    "Uniform_prior": dict(lower_bound=600.0, upper_bound=610.0),
    "Log_normal": dict(mu=np.log(600.0), sigma=0.01),
    "Log_uniform_prior": dict(lower_bound=590.0, upper_bound=605.0),
    "Cauchy": dict(x0=600.0, gamma=1.0),
}


@pytest.mark.parametrize("name", PRIORS)
def test_priors_act_in_fits_samples_and_files(spectrum, name):
    """Saved, loaded and sampled, 600 +- 5 gave 517 +- 65; others were ignored without a word."""
    fit = fit_spectrum(with_prior(name, **PRIORS[name]), spectrum)
    assert 585.0 < fit.values["F_3"] < 612.0
    sampled = fit.sample(seed=2, n_samples=2000)
    assert 585.0 < sampled.values["F_3"] < 612.0 or name == "Cauchy"  # whose tails are heavy
    assert sampled.samples[:, fit.free_names.index("F_3")].std() < 15.0 or name == "Cauchy"
    back = LineBackgroundFit.from_json(fit.to_json())
    assert back.values == fit.values
    if name == "Cauchy":
        with pytest.raises(ModelError, match="keeps a prior at the best fit alone"):
            back.sample(seed=2)
        return
    again = back.sample(seed=2, n_samples=2000)
    assert np.array_equal(again.samples, sampled.samples)


def test_a_gaussian_prior_in_samples_has_its_own_width(spectrum):
    fit = fit_spectrum(with_prior("Gaussian", mu=600.0, sigma=5.0), spectrum)
    back = LineBackgroundFit.from_json(fit.to_json()).sample(seed=3)
    assert back.values["F_3"] == pytest.approx(599.5, abs=1.5)
    assert back.errors["F_3"] == pytest.approx(5.0, rel=0.1)


def test_a_prior_beyond_the_limits_is_refused(spectrum):
    model = model_with()
    p = shape(model).parameters
    p["F_3"].bounds = (0.0, 100.0)
    p["F_3"].prior = astromodels.Uniform_prior(lower_bound=600, upper_bound=700, value=0.01)
    with pytest.raises(ModelError, match="prior of F_3 reaches from 600 to 700, outside"):
        fit_spectrum(read(model), spectrum)


# --- what a table cannot do ----------------------------------------------------------------------


def test_a_table_says_what_it_cannot_do(spectrum):
    """ "'NoneType' object is not callable" """
    curve = Log_parabola()
    curve.K.bounds, curve.K.value, curve.piv.value = (1e-10, None), 200.0, 1800.0
    model = background_model([1700, 1779], continuum=curve)
    fit = fit_spectrum(read(model), spectrum)
    back = LineBackgroundFit.from_json(fit.to_json())
    assert back.expected_counts(SOURCE).total == pytest.approx(fit.expected_counts(SOURCE).total)
    for use in (
        lambda: back.sample(seed=1),
        lambda: with_toys(back, 3, rng=1),
        lambda: fit_spectrum(back.model, spectrum),
    ):
        with pytest.raises(ModelError, match="keeps a continuum function of your own at the best"):
            use()


def test_nothing_free_is_nothing_to_sample(spectrum):
    """It ended in a LinAlgError."""
    model = model_with()
    for p in shape(model).parameters.values():
        p.fix = True
    fit = fit_spectrum(read(model), spectrum)
    with pytest.raises(DataError, match="no free parameter, so there is nothing to sample"):
        fit.sample(seed=1)
    assert with_toys(fit, 3, rng=1).toys[1] == 3
    assert LineBackgroundFit.from_json(fit.to_json()).values == fit.values
