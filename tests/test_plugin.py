"""The threeML plugin: every session that its users run."""

import logging
import pickle

import astropy.units as u
import numpy as np
import pytest
from numpy.testing import assert_allclose
from plugin_cases import (
    EDGES,
    draw,
    make_model,
    masked_plugin,
    nuisance_plugin,
    point_source_model,
)
from spectra import dc3_spectrum

threeML = pytest.importorskip("threeML")

from astromodels import (
    Gaussian,
    Line,
    Log_parabola,
    Log_uniform_prior,
    Model,
    Powerlaw,
    Uniform_prior,
    astromodels_config,
    clone_model,
)
from threeML import (
    BayesianAnalysis,
    DataList,
    JointLikelihood,
    JointLikelihoodSet,
    LikelihoodRatioTest,
    XYLike,
    load_analysis_results,
)

from cosi_linebkg_plugin import LineBackgroundLike, background_model, find_lines
from cosi_linebkg_plugin.app.simulation import simulate
from cosi_linebkg_plugin.consumers.constraint import NormConstraint
from cosi_linebkg_plugin.errors import (
    BinningError,
    DataError,
    FitError,
    LineBackgroundError,
    LineBackgroundWarning,
    ModelError,
)
from cosi_linebkg_plugin.fit.guess import guess_values
from cosi_linebkg_plugin.fit.result import LineBackgroundFit
from cosi_linebkg_plugin.model.priors import default_priors
from cosi_linebkg_plugin.model.read import spectrum_of
from cosi_linebkg_plugin.spectrum.axis import EnergySpectrum
from cosi_linebkg_plugin.spectrum.lineshapes import powerlaw_counts

logging.getLogger("threeML").setLevel(logging.ERROR)
logging.getLogger("astromodels").setLevel(logging.ERROR)


@pytest.fixture
def plugin():
    return masked_plugin()


@pytest.mark.parametrize("name", ["line-bkg", "1st", "", "total", 3])
def test_names_that_threeml_cannot_use_are_refused(name):
    with pytest.raises(
        LineBackgroundError, match="must be of letters, digits and _, and not total"
    ):
        LineBackgroundLike(name, (EDGES, draw()))


def test_mask_excludes_overlapping_bins_alone(plugin):
    masked = EDGES[:-1][plugin.spectrum.mask]
    assert_allclose(masked, [1800, 1805, 1810, 1815])  # the neighbours merely touch
    assert plugin.get_number_of_data_points() == 36
    plugin.set_mask([(1700, 1710), (1.8, 1.805) * u.MeV])  # a list, as configurations have it
    assert_allclose(EDGES[:-1][plugin.spectrum.mask], [1700, 1705, 1800])
    plugin.set_mask((1801 * u.keV, 1.8011 * u.MeV))  # replaces
    assert_allclose(EDGES[:-1][plugin.spectrum.mask], [1800])
    plugin.set_mask()
    assert not plugin.spectrum.mask.any()


def test_joint_likelihood_and_direct_fit_agree(plugin):
    model = make_model()
    direct = plugin.fit(clone_model(model))
    session = JointLikelihood(model, DataList(plugin))
    session.fit(quiet=True)
    result = plugin.result(session)
    assert result.engine == "joint_likelihood" and result.valid and not result.message
    for name, error in direct.errors.items():
        assert abs(result.values[name] - direct.values[name]) < 0.05 * error
        assert result.errors[name] == pytest.approx(error, rel=0.02)
    assert result.log_likelihood == pytest.approx(-session.current_minimum, abs=1e-9)
    a, b = (f.expected_counts((1805, 1812)) for f in (direct, result))
    assert_allclose(a.values, b.values, rtol=1e-3, atol=1e-9)
    assert_allclose(a.errors[0], b.errors[0], rtol=0.02)


def test_fit_leaves_the_model_at_the_optimum(plugin):
    model = make_model()
    fit = plugin.fit(model)
    plugin.set_model(model)
    assert plugin.get_log_like() == pytest.approx(fit.log_likelihood, abs=1e-9)
    assert isinstance(plugin.get_log_like(), float)


def test_tutorials_case_on_the_real_spectrum(shared_data):
    spectrum = dc3_spectrum(shared_data)
    plugin = LineBackgroundLike("linebkg", (spectrum.edges, spectrum.counts))
    plugin.set_mask((1790.0, 1825.0) * u.keV)
    windows = [(1600, 1620), (1620, 1640), (1650, 1675), (1700, 1730), (1750, 1770), (1770, 1790)]
    energies = [1612, 1635, 1670, 1725, 1765, 1780]
    model = background_model(list(zip(energies, windows, strict=True)), pivot=1800, sigma=1.0)
    p = model.linebkg.spectrum.main.shape.parameters
    p["K_1"].value, p["index_1"].value = 5000.0, -1.0
    for n, value in enumerate([4e4, 5e4, 5e4, 5e4, 1e4, 3e4], start=2):
        p[f"F_{n}"].value = value
    direct = plugin.fit(clone_model(model))
    session = JointLikelihood(model, DataList(plugin))
    session.fit(quiet=True)
    result = plugin.result(session)
    for fit in (direct, result):
        assert fit.valid
        assert fit.values["sigma_2"] == pytest.approx(2.96, abs=0.005)
        assert fit.values["index_1"] == pytest.approx(-2.03, abs=0.005)
        assert fit.values["F_4"] == pytest.approx(7.3e4, abs=0.06e4)
        assert fit.deviance / fit.dof == pytest.approx(58, abs=0.1)
        assert "NOT" in fit.summary()
    assert result.errors["sigma_2"] == pytest.approx(direct.errors["sigma_2"], rel=0.01)


def test_guess_sets_start_values_within_limits(plugin):
    model = make_model()
    p = model.linebkg.spectrum.main.shape.parameters
    p["F_2"].value, p["K_1"].value, p["sigma_2"].value = 1.0, 1e-3, 30.0
    plugin.guess(model)
    assert p["K_1"].value == pytest.approx(300, rel=0.2)
    assert p["F_2"].value == pytest.approx(2000, rel=0.5)


#: The lines of the demo, two of which (1757.5 and 1764 keV) the bins hardly tell apart.
DEMO_LINES = [1506, 1515, 1526, 1538, 1565, 1612, 1634, 1652, 1666, 1675, 1723, 1757.5, 1764,
                1779, 1893, 1903, 1920, 1928]  # fmt: skip


@pytest.fixture(scope="module")
def demo_spectrum():
    simulation = simulate(1, nside=1)
    return simulation.energy_edges, sum(simulation.expected_spectrum().values())


def demo_plugin(demo_spectrum, seed):
    edges, expected = demo_spectrum
    counts = np.random.default_rng(seed).poisson(expected).astype(float)
    plugin = LineBackgroundLike("linebkg", (edges, counts))
    plugin.set_mask((1790, 1825))
    return plugin


@pytest.mark.parametrize(
    "seeds",
    # 110: a line of 0 counts, where MIGRAD failed; 69, 159: a weak line fits in two places
    [(110,), (69, 159), (3, 4), pytest.param(range(200), marks=pytest.mark.slow)],
    ids=["line at 0", "two minima", "two draws", "200 draws"],
)
def test_a_session_after_guess_ends_at_the_optimum(demo_spectrum, seeds):
    """From start values that were merely near, it ended in false minima or raised FitFailed."""
    for seed in seeds:
        plugin = demo_plugin(demo_spectrum, seed)
        direct = plugin.fit(background_model(DEMO_LINES))
        model = background_model(DEMO_LINES)
        plugin.guess(model)
        session = JointLikelihood(model, DataList(plugin))
        session.fit(quiet=True)
        result = plugin.result(session)
        assert result.valid, (seed, result.message)
        assert abs(result.deviance - direct.deviance) < 0.01, seed


@pytest.mark.parametrize(
    "seeds", [range(2), pytest.param(range(100), marks=pytest.mark.slow)], ids=["2", "100 draws"]
)
def test_a_session_with_the_model_of_a_search_ends_at_the_optimum(demo_spectrum, seeds):
    """README's example: without guess, as the model of a search has the optimum's values."""
    for seed in seeds:
        plugin = demo_plugin(demo_spectrum, seed)
        model = find_lines(plugin).model()
        direct = plugin.fit(clone_model(model))
        session = JointLikelihood(model, DataList(plugin))
        session.fit(quiet=True)
        result = plugin.result(session)
        assert result.valid, (seed, result.message)
        assert abs(result.deviance - direct.deviance) < 0.01, seed


def test_a_session_after_guess_keeps_the_tail_short():
    """threeML's fit knows no limit in widths: guess sets it on the parameter."""
    model = background_model([1761.0], sigma=0.8, tail=True, step=True)
    p = model.linebkg.spectrum.main.shape.parameters
    p["K_1"].value, p["F_2"].value, p["step_3"].value = 400.0, 2e5, 2e-3
    p["fraction_2"].value = 0.0
    truth = spectrum_of(model, "linebkg").current_model()
    edges = np.arange(1741.0, 1781.0, 0.4)
    counts = np.random.default_rng(5).poisson(truth.bind(edges).counts(truth.values))
    plugin = LineBackgroundLike("linebkg", (edges, counts.astype(float)))
    model = background_model([1761.0], sigma=0.8, tail=True)
    plugin.guess(model)
    length = model.linebkg.spectrum.main.shape.length_2
    assert length.max_value == pytest.approx(6 * 0.8, rel=0.1) and length.min_value == 0.5
    session = JointLikelihood(model, DataList(plugin))
    session.fit(quiet=True)
    result = plugin.result(session)
    assert result.adequacy.long_tails == ("length_2",)
    direct = plugin.fit(background_model([1761.0], sigma=0.8, tail=True))
    assert result.values["F_2"] == pytest.approx(direct.values["F_2"], rel=1e-3)


def test_a_session_in_a_false_minimum_is_not_valid(demo_spectrum):
    """It said valid, and nothing more; the direct fit from there stayed there, too."""
    plugin = demo_plugin(demo_spectrum, 1)
    model = background_model(DEMO_LINES)
    reader = spectrum_of(model, "linebkg")
    reader.set_values(guess_values(reader.current_model(), plugin.spectrum))
    session = JointLikelihood(model, DataList(plugin))
    session.fit(quiet=True)
    before = {path: p.value for path, p in model.free_parameters.items()}
    result = plugin.result(session)
    gap = result.deviance - plugin.fit(background_model(DEMO_LINES)).deviance
    assert gap > 5  # of the case itself
    assert not result.valid
    assert f"{gap:.2f} lower" in result.message and "mu_13 = 1759" in result.message
    assert {path: p.value for path, p in model.free_parameters.items()} == before
    assert "not valid" in result.summary() and "lower minimum" in result.summary()
    plugin.guess(model)
    session.fit(quiet=True)
    assert plugin.result(session).valid


def test_guess_leaves_a_line_in_the_mask_to_the_session(plugin):
    model = make_model(lines=(1779.0, 1810.0))
    plugin.guess(model)  # plugin.fit refuses it; another plugin of the session may see the line
    assert model.linebkg.spectrum.main.shape.K_1.value == pytest.approx(300, rel=0.2)


def test_errors_with_the_transformations_of_astromodels_switched_off(plugin):
    """threeML's matrix is that of log10 K all the same: K's error was 1e-3 of the right one."""
    direct = plugin.fit(make_model())
    astromodels_config.modeling.use_parameter_transforms = False
    try:
        session = JointLikelihood(make_model(), DataList(plugin))
        session.fit(quiet=True)
        result = plugin.result(session)
    finally:
        astromodels_config.modeling.use_parameter_transforms = True
    assert not result.message  # threeML's matrix itself was read right, none took its place
    for name, error in direct.errors.items():
        assert result.errors[name] == pytest.approx(error, rel=0.02)
    a, b = (f.expected_counts((1770, 1790)) for f in (direct, result))
    assert_allclose(a.covariance, b.covariance, rtol=0.03)


@pytest.mark.parametrize("what", ["errors", "correlations", "nothing"])
def test_a_wrong_matrix_of_threeml_is_replaced(plugin, monkeypatch, what):
    session = JointLikelihood(make_model(), DataList(plugin))
    session.fit(quiet=True)
    matrix = session.covariance_matrix.copy()
    if what == "errors":
        matrix[1] *= 3.0
        matrix[:, 1] *= 3.0
    elif what == "correlations":
        matrix = np.diag(np.diag(matrix))
    monkeypatch.setattr(JointLikelihood, "covariance_matrix", property(lambda _: matrix))
    result, direct = plugin.result(session), plugin.fit(make_model())
    assert result.valid
    assert result.message.startswith("threeML's covariance matrix is wrong") == (what != "nothing")
    assert_allclose(result.covariance, direct.covariance, rtol=0.1, atol=1e-3)
    if what != "nothing":
        assert result.message in result.summary()


@pytest.mark.parametrize("transforms", [True, False])
def test_a_joint_session_keeps_what_other_plugins_know(plugin, transforms):
    """Its matrix is compared with nothing, and its minimum is that of the whole session."""
    path = "linebkg.spectrum.main.composite.F_2"
    known = NormConstraint("known", [path], 10.0**2, mean=[1500.0])
    astromodels_config.modeling.use_parameter_transforms = transforms
    try:
        session = JointLikelihood(make_model(), DataList(plugin, known))
        session.fit(quiet=True)
        result = plugin.result(session)
    finally:
        astromodels_config.modeling.use_parameter_transforms = True
    direct = plugin.fit(make_model())  # F_2 and K hardly know of each other
    assert result.errors["K_1"] == pytest.approx(direct.errors["K_1"], rel=0.1)
    assert result.valid and not result.message
    assert result.values["F_2"] == pytest.approx(1500, abs=20)
    assert result.errors["F_2"] == pytest.approx(10, rel=0.05)


def fixed_law(slope):
    law = Line()
    law.a.value, law.b.value = 0.0, slope
    law.a.fix = law.b.fix = True
    return law


def followed_model():
    model = make_model(lines=(1740.0, 1779.0))
    p = model.linebkg.spectrum.main.shape.parameters
    model.link(p["F_2"], p["F_3"], fixed_law(0.1333))
    return model


@pytest.mark.parametrize("bayesian", [False, True])
def test_a_session_with_a_parameter_that_follows_a_law(plugin, bayesian):
    """Values are those of the law at the optimum, and its slope is in the errors of counts."""
    direct, model = plugin.fit(followed_model()), followed_model()
    plugin.guess(model)
    if bayesian:
        np.random.seed(1)  # noqa: NPY002  # what threeML's samplers draw from
        default_priors(model)
        session = BayesianAnalysis(model, DataList(plugin))
        session.set_sampler("emcee")
        session.sampler.setup(n_iterations=150, n_burn_in=50, n_walkers=20, seed=1)
        session.sample(quiet=True)
        # a sampler leaves its last point behind: what follows must follow the medians
        model.linebkg.spectrum.main.shape.parameters["F_3"].value = 100.0
    else:
        session = JointLikelihood(model, DataList(plugin))
        session.fit(quiet=True)
    result = plugin.result(session)
    assert result.valid and not result.message
    assert result.values["F_2"] == pytest.approx(0.1333 * result.values["F_3"], rel=1e-12)
    assert result.values["F_2"] == pytest.approx(267, rel=0.05)
    a, b = (f.expected_counts((1730, 1750)) for f in (direct, result))
    if not bayesian:  # so short a chain says nothing of errors
        assert_allclose(a.errors, b.errors, rtol=0.01)


def freely_followed_model(law):
    model = make_model(lines=(1740.0, 1779.0))
    p = model.linebkg.spectrum.main.shape.parameters
    model.link(p["F_2"], p["F_3"], law)
    p["F_3"].value = 2000.0
    return model


@pytest.mark.parametrize("nuisance", [False, True])
def test_the_free_parameters_of_a_law_are_in_the_errors_of_a_session(plugin, nuisance):
    law = fixed_law(0.1333)
    law.b.free = True
    law.b.bounds = (0.01, 1.0)
    model = freely_followed_model(law)
    if nuisance:
        plugin = LineBackgroundLike("lb", plugin.spectrum, spectrum=model)
        star = point_source_model()
        shape = star.star.spectrum.main.Powerlaw
        shape.K.fix = shape.index.fix = True
        session = JointLikelihood(star, DataList(plugin))
        assert "lb_F_2_Line_b" in plugin.nuisance_parameters
    else:
        session = JointLikelihood(model, DataList(plugin))
    plugin.guess()
    session.fit(quiet=True)
    result = plugin.result(session)
    assert result.valid and not result.message
    assert law.b.value == pytest.approx(result.values["F_2.Line.b"])  # written back
    assert result.values["F_2"] == pytest.approx(law.b.value * result.values["F_3"])
    own = plugin.fit()
    assert_allclose(result.errors["F_2"], own.errors["F_2"], rtol=0.02)
    a, b = (f.expected_counts((1730, 1750)) for f in (own, result))
    assert_allclose(a.errors, b.errors, rtol=0.02)


def test_the_free_parameters_of_another_law_are_missed_in_words(plugin):
    law = Log_parabola()
    law.K.bounds, law.K.value = (None, None), 267.0
    law.piv.value, law.alpha.value, law.beta.value = 2000.0, 1.0, 0.0
    law.alpha.fix = law.beta.fix = True
    law.K.bounds = (10.0, 1000.0)
    model = freely_followed_model(law)
    session = JointLikelihood(model, DataList(plugin))
    session.fit(quiet=True)
    result = plugin.result(session)
    assert "law that F_2 follows has free parameters" in result.summary()
    with pytest.raises(ModelError, match="only threeML's fits vary"):
        plugin.fit(model)


def test_minos_errors_and_contours(plugin):
    session = JointLikelihood(make_model(), DataList(plugin))
    session.fit(quiet=True)
    errors = session.get_errors(quiet=True)
    assert np.all(errors["negative_error"] < 0) and np.all(errors["positive_error"] > 0)
    path = "linebkg.spectrum.main.composite.F_2"
    centre = session.likelihood_model[path].value
    _a, _b, values, _ = session.get_contours(
        path, 0.95 * centre, 1.05 * centre, 4,
        "linebkg.spectrum.main.composite.sigma_2", 2.5, 3.5, 3, progress=False,
    )  # fmt: skip
    assert values.shape == (4, 3) and np.all(np.isfinite(values))


def test_faint_lines_of_a_fit_and_of_a_session(plugin):
    model = make_model()
    plain = plugin.fit(model)
    fit = plugin.fit(model, faint_lines=[1852.0])
    values = plain.values
    # the model is left at the optimum without them
    assert spectrum_of(model, "linebkg").values()[0] == pytest.approx(values["K_1"], rel=1e-9)
    assert fit.faint is not None and fit.model.faint
    assert 1852.0 in [x.energy for x in fit.faint.lines]
    session = JointLikelihood(model, DataList(plugin))
    session.fit(quiet=True)
    of_session = plugin.result(session, faint_lines=True)
    assert of_session.engine == "joint_likelihood" and of_session.model.faint
    assert of_session.values["K_1"] == pytest.approx(fit.values["K_1"], rel=0.01)
    assert plugin.result(session).faint is None
    with pytest.raises(LineBackgroundError, match="leave out minos, or faint_lines"):
        plugin.fit(model, minos=True, faint_lines=True)
    other = LineBackgroundLike("other", (EDGES, draw(2)))
    both = JointLikelihood(model, DataList(plugin, other))
    both.fit(quiet=True)
    with pytest.raises(LineBackgroundError, match="JointLikelihood with no other plugin"):
        plugin.result(both, faint_lines=True)


def test_a_parameter_at_its_limit_has_no_error(plugin):
    model = make_model()
    model.linebkg.spectrum.main.shape.parameters["sigma_2"].bounds = (0.1, 2.0)
    direct = plugin.fit(model)
    session = JointLikelihood(model, DataList(plugin))
    session.fit(quiet=True)
    fit = plugin.result(session)
    assert fit.at_limits == direct.at_limits == ("sigma_2",)
    assert fit.covariance_names == direct.covariance_names
    assert fit.parameters["sigma_2"].error is None
    assert fit.errors["F_2"] == pytest.approx(direct.errors["F_2"], rel=0.05)


def test_a_line_that_is_not_there_leaves_a_session_valid():
    rng = np.random.default_rng(3)  # a dip at the line
    mean = powerlaw_counts(EDGES, 300, 1800, -1.8)[0]
    plugin = LineBackgroundLike("bkg", (EDGES, rng.poisson(mean).astype(float)))
    model = make_model()
    parameters = model.linebkg.spectrum.main.shape.parameters
    parameters["mu_2"].fix = parameters["sigma_2"].fix = True
    direct = plugin.fit(model)
    session = JointLikelihood(model, DataList(plugin))
    session.fit(quiet=True)
    fit = plugin.result(session)
    assert direct.at_limits == fit.at_limits == ("F_2",)
    assert fit.valid and set(fit.errors) == {"K_1", "index_1"}
    for name, error in direct.errors.items():
        assert fit.errors[name] == pytest.approx(error, rel=1e-3)


def test_a_mask_that_changed_after_the_fit_is_noticed(plugin):
    before = plugin.spectrum.masked_ranges()
    session = JointLikelihood(make_model(), DataList(plugin))
    session.fit(quiet=True)
    try:
        plugin.set_mask((1740, 1760))
        with pytest.raises(LineBackgroundError, match="mask, the data or the model have changed"):
            plugin.result(session)
    finally:
        plugin.set_mask(*before)
    assert plugin.result(session).valid


def test_names_must_be_names(plugin):
    with pytest.raises(LineBackgroundError, match="name must be of letters"):
        LineBackgroundLike("a b", plugin.spectrum)
    with pytest.raises(ModelError, match="source must be a name"):
        background_model([1779], pivot=1800, source="a b")
    with pytest.raises(DataError, match='by must be "label" or "component"'):
        plugin.fit(make_model()).expected_counts((1770, 1790), by="componnt")


def test_joint_likelihood_set(plugin):
    model = make_model()
    plugin.set_model(model)

    def data(i):
        return DataList(plugin.get_simulated_dataset(f"sim{i}"))

    frame, _ = JointLikelihoodSet(data, lambda i: clone_model(model), 4).go()
    values = frame["value"][:, "linebkg.spectrum.main.composite.F_2"]
    assert len(set(values)) == 4 and values.mean() == pytest.approx(2000, rel=0.3)


def test_likelihood_ratio_test(plugin):
    null = JointLikelihood(make_model(lines=()), DataList(plugin))
    null.fit(quiet=True)
    alternative = JointLikelihood(make_model(), DataList(plugin))
    alternative.fit(quiet=True)
    p_value, ts, *_ = LikelihoodRatioTest(null, alternative).by_mc(5)
    assert p_value == 0.0  # the line is there at many sigma
    assert np.all(ts < 30)


def test_results_are_written_and_read_back(plugin, tmp_path):
    session = JointLikelihood(make_model(), DataList(plugin))
    session.fit(quiet=True)
    session.results.write_to(str(tmp_path / "result.fits"), overwrite=True)
    back = load_analysis_results(str(tmp_path / "result.fits"))
    assert_allclose(
        back.get_data_frame()["value"].to_numpy(dtype=float),
        session.results.get_data_frame()["value"].to_numpy(dtype=float),
    )


def test_pickling(plugin):
    model = make_model()
    plugin.set_model(model)
    copy = pickle.loads(pickle.dumps(plugin))
    copy.set_model(model)
    assert copy.get_log_like() == plugin.get_log_like()


def test_pickling_with_events_in_memory_and_in_a_file(tmp_path):
    import histpy

    axes = [histpy.Axis(EDGES * u.keV, label="Em"), histpy.Axis([0, 90, 180] * u.deg, label="Phi")]
    contents = np.repeat(draw()[:, None], 2, axis=1)
    events = histpy.Histogram(histpy.Axes(axes), contents=contents, track_overflow=False)
    events.write(str(tmp_path / "events.hdf5"))
    for source in (events, tmp_path / "events.hdf5"):
        plugin = LineBackgroundLike("bkg", source)
        copy = pickle.loads(pickle.dumps(plugin))
        assert_allclose(copy.events.weighted_sums(np.ones(40))[0], 2 * draw().sum() / 2)


def test_the_fit_of_events_with_weights_is_warned_of():
    """It took counts for whole events without a word: lines of 7 sigma where there were none."""
    import histpy

    axes = histpy.Axes([histpy.Axis(EDGES * u.keV, label="Em")])
    with pytest.warns(LineBackgroundWarning, match="errors are too small by a factor of 3.16"):
        heavy = LineBackgroundLike("w", histpy.Histogram(axes, 10 * draw(), sumw2=100 * draw()))
    plain = LineBackgroundLike("w", histpy.Histogram(axes, draw(), sumw2=draw()))
    found, right = (plugin.fit(make_model()) for plugin in (heavy, plain))
    # what the note says: errors of ten times the counts are those of right ones times root 10
    ratio = 10 * right.errors["F_2"] / found.errors["F_2"]
    assert ratio == pytest.approx(10**0.5, rel=0.01)


def test_spectra_that_share_their_parameters_know_it():
    """Each counted all parameters as its own: right models were called wrong."""
    first, second = (LineBackgroundLike(name, (EDGES, draw(i))) for i, name in enumerate("ab"))
    model = make_model()
    first.guess(model)
    session = JointLikelihood(model, DataList(first, second))
    session.fit(quiet=True)
    one, other = first.result(session), second.result(session)
    assert (one.shared_with, other.shared_with) == (("b",), ("a",))
    k = len(one.free_names)
    assert one.dof + other.dof == pytest.approx(2 * 40 - k, abs=1)
    assert one.sample(400, seed=1).shared_with == ()
    both = make_model(source="other")
    apart = Model(model.sources["linebkg"], both.sources["other"])
    third = LineBackgroundLike("c", (EDGES, draw(3)), source="other")
    third.guess(apart)
    session = JointLikelihood(apart, DataList(first, third))
    session.fit(quiet=True)
    assert first.result(session).shared_with == third.result(session).shared_with == ()
    assert first.result(session).dof == 40 - k


def test_priors_stay_out_of_the_likelihood(plugin):
    """They were counted twice in a BayesianAnalysis, and pulled a JointLikelihood."""
    from astromodels import Gaussian as GaussianPrior

    model = make_model()
    plugin.set_model(model)
    before = plugin.get_log_like()
    prior = GaussianPrior()
    prior.F.value, prior.mu.value, prior.sigma.value = 1.0, 400.0, 1.0
    model.linebkg.spectrum.main.shape.parameters["K_1"].prior = prior
    plugin.set_model(model)
    assert plugin.get_log_like() == before
    assert plugin.fit(model).values["K_1"] > 330  # the direct fit takes it as a penalty


def test_a_result_without_covariance_is_not_valid(plugin):
    session = JointLikelihood(make_model(), DataList(plugin))
    session.fit(quiet=True, compute_covariance=False)
    result = plugin.result(session)
    assert not result.valid and "covariance" in result.message
    result.to_json()


def test_nuisance_values_go_back_into_the_function():
    model = make_model()
    nuisance = LineBackgroundLike("nui", (EDGES, draw()), spectrum=model)
    nuisance.set_mask((1800, 1820))
    nuisance.set_model(point_source_model())
    fit = nuisance.fit()
    own = model.linebkg.spectrum.main.shape.parameters
    assert own["K_1"].value == pytest.approx(fit.values["K_1"])


def test_two_components_of_a_source_keep_their_names_apart():
    from astromodels import ParticleSource
    from astromodels.core.spectral_component import SpectralComponent

    law, line = Powerlaw(), Gaussian()
    law.K.value, law.piv.value = 300.0, 1800.0
    line.F.value, line.mu.value, line.sigma.value = 2000.0, 1779.0, 3.0
    parts = [SpectralComponent("smooth", law), SpectralComponent("peak", line)]
    model = Model(ParticleSource("linebkg", components=parts))
    plugin = LineBackgroundLike("bkg", (EDGES, draw()))
    plugin.set_model(model)
    fit = plugin.fit(model)
    assert {"smooth_K", "peak_F", "peak_mu"} <= set(fit.values)


def test_several_plugins_in_one_session(plugin):
    other = LineBackgroundLike("other", (EDGES, draw(7)), source="second")
    model = Model(make_model().linebkg, make_model("second").second)
    session = JointLikelihood(model, DataList(plugin, other))
    session.fit(quiet=True)
    alone = plugin.fit(make_model())
    assert plugin.result(session).values["F_2"] == pytest.approx(
        alone.values["F_2"], abs=0.05 * alone.errors["F_2"]
    )
    assert other.result(session).values["F_2"] != alone.values["F_2"]


def test_two_plugins_may_share_one_source(plugin):
    other = LineBackgroundLike("other", (EDGES, draw(7)))
    session = JointLikelihood(make_model(), DataList(plugin, other))
    session.fit(quiet=True)
    joint, single = plugin.result(session), plugin.fit(make_model())
    assert joint.errors["F_2"] < 0.85 * single.errors["F_2"]


def test_joint_with_a_plugin_that_has_a_point_source(plugin):
    x = np.linspace(1, 10, 20)
    star = XYLike("star_data", x, 5.0 * x**-2.0, yerr=0.05 * x**-2.0)
    model = Model(point_source_model().star, make_model().linebkg)
    session = JointLikelihood(model, DataList(plugin, star))
    session.fit(quiet=True)
    assert model.star.spectrum.main.Powerlaw.K.value == pytest.approx(5.0, rel=0.05)
    alone = plugin.fit(make_model())
    assert plugin.result(session).values["K_1"] == pytest.approx(
        alone.values["K_1"], abs=0.05 * alone.errors["K_1"]
    )


# --- nuisance mode -------------------------------------------------------------------------------


def test_nuisance_mode_gives_the_same_fit(plugin):
    nuisance = nuisance_plugin()
    names = list(nuisance.nuisance_parameters)
    assert names == ["nui_K_1", "nui_piv_1", "nui_index_1", "nui_F_2", "nui_mu_2", "nui_sigma_2"]
    assert all(n == p.name for n, p in nuisance.nuisance_parameters.items())
    session = JointLikelihood(point_source_model(), DataList(nuisance))
    session.likelihood_model.star.spectrum.main.Powerlaw.K.fix = True
    session.likelihood_model.star.spectrum.main.Powerlaw.index.fix = True
    session.fit(quiet=True)
    assert set(session.likelihood_model.free_parameters) == set(names) - {"nui_piv_1"}
    result, direct = nuisance.result(session), plugin.fit(make_model())
    for name, error in direct.errors.items():
        assert abs(result.values[name] - direct.values[name]) < 0.05 * error


def test_two_nuisance_plugins_keep_their_parameters_apart():
    one, two = nuisance_plugin("one"), nuisance_plugin("two", seed=9)
    model = point_source_model()
    session = JointLikelihood(model, DataList(one, two))
    model.star.spectrum.main.Powerlaw.K.fix = True
    model.star.spectrum.main.Powerlaw.index.fix = True
    session.fit(quiet=True)
    assert one.result(session).values["F_2"] != two.result(session).values["F_2"]
    assert len(model.free_parameters) == 10


# --- Bayesian ------------------------------------------------------------------------------------


def set_priors(model):
    p = model.linebkg.spectrum.main.shape.parameters
    p["K_1"].prior = Log_uniform_prior(lower_bound=100, upper_bound=1000)
    p["index_1"].prior = Uniform_prior(lower_bound=-10, upper_bound=5)
    p["F_2"].prior = Uniform_prior(lower_bound=500, upper_bound=5000)
    p["mu_2"].prior = Uniform_prior(lower_bound=1775, upper_bound=1783)
    p["sigma_2"].prior = Uniform_prior(lower_bound=1, upper_bound=8)


@pytest.mark.parametrize("sampler", ["emcee", "dynesty_nested"])
def test_bayesian_analysis(plugin, sampler):
    pytest.importorskip(sampler.split("_")[0])
    np.random.seed(1)  # noqa: NPY002  # what threeML's samplers draw from
    direct = plugin.fit(make_model())
    model = make_model()
    plugin.guess(model)
    set_priors(model)
    session = BayesianAnalysis(model, DataList(plugin))
    session.set_sampler(sampler)
    if sampler == "emcee":
        session.sampler.setup(n_iterations=400, n_burn_in=200, n_walkers=20, seed=1)
    else:
        session.sampler.setup(nlive=100)
    session.sample(quiet=True)
    result = plugin.result(session)
    assert result.engine == "bayesian" and result.samples.shape[1] == 5
    for name, error in direct.errors.items():
        assert abs(result.values[name] - direct.values[name]) < 0.7 * error
        assert result.errors[name] == pytest.approx(error, rel=0.45)
    counts = result.expected_counts((1805, 1812))
    reference = direct.expected_counts((1805, 1812))
    assert counts.total == pytest.approx(reference.total, abs=1.5 * reference.total_error)
    assert counts.total_error == pytest.approx(reference.total_error, rel=0.5)
    back = LineBackgroundFit.from_json(result.to_json())
    assert_allclose(back.samples, result.samples)


# --- input ---------------------------------------------------------------------------------------


def test_a_users_composite_of_astromodels(plugin):
    law, line = Powerlaw(), Gaussian()
    law.K.bounds, law.K.value, law.piv.value = (1e-5, 1e6), 300.0, 1800.0
    line.F.value, line.mu.value, line.sigma.value = 1000.0, 1779.0, 2.0
    line.F.min_value, line.sigma.bounds = 0.0, (0.5, 20.0)
    line.mu.bounds = (1770, 1790)
    own = LineBackgroundLike("own", (EDGES, plugin.spectrum.counts), spectrum=law + line)
    own.set_mask((1800, 1820))
    model = point_source_model()
    own.set_model(model)
    fit, reference = own.fit(model), plugin.fit(make_model())
    assert fit.deviance == pytest.approx(reference.deviance, abs=1e-4)


def test_data_may_be_a_spectrum_or_edges_and_counts():
    spectrum = EnergySpectrum(EDGES, draw())
    quantities = [edge * u.keV for edge in EDGES], [n * u.ct for n in draw()]
    for events in (spectrum, (EDGES, draw()), (EDGES / 1e3 * u.MeV, draw()), quantities):
        plugin = LineBackgroundLike("x", events)
        assert_allclose(plugin.spectrum.edges, EDGES)
        assert plugin.events is None


@pytest.mark.parametrize(
    ("counts", "message"),
    [
        (np.full(40, -1.0), r"bin 0 \(1700-1705 keV\) holds -1 \(40 such"),
        (np.full(40, np.nan), "holds nan"),
        (np.zeros(39), "40 energy bins but counts of shape"),
    ],
)
def test_impossible_counts_are_refused(counts, message):
    with pytest.raises(DataError, match=message):
        LineBackgroundLike("x", (EDGES, counts))


def test_bad_masks_are_refused(plugin):
    with pytest.raises(BinningError, match="excludes every energy bin"):
        plugin.set_mask((1000, 3000))
    with pytest.raises(BinningError, match="2500-2600 keV lies outside the energy axis"):
        plugin.set_mask((2500, 2600))
    with pytest.raises(BinningError, match="low < high"):
        plugin.set_mask((1820, 1800))


def test_a_missing_source_is_named(plugin):
    with pytest.raises(ModelError, match="no source named 'linebkg'; it has star"):
        JointLikelihood(point_source_model(), DataList(plugin))
    with pytest.raises(ModelError, match="has no model yet"):
        LineBackgroundLike("fresh", (EDGES, draw())).get_log_like()


def test_a_model_is_checked_before_it_is_fitted(plugin):
    model = make_model()
    before = {name: p.value for name, p in model.parameters.items()}
    plugin.check_model(model)
    assert before == {name: p.value for name, p in model.parameters.items()}
    with pytest.raises(ModelError, match="star"):
        plugin.check_model(point_source_model())
    plugin.set_mask((1715, 1900))
    with pytest.raises(ModelError, match="only 3 of 40"):
        plugin.check_model(model)


def test_too_few_bins_are_refused(plugin):
    plugin.set_mask((1715, 1900))
    with pytest.raises(ModelError, match="5 free parameters but only 3 of 40"):
        plugin.fit(make_model())


def test_a_result_needs_a_fit_of_this_plugin(plugin):
    session = JointLikelihood(make_model(), DataList(plugin))
    with pytest.raises(LineBackgroundError, match="no result yet"):
        plugin.result(session)
    session.fit(quiet=True)
    with pytest.raises(LineBackgroundError, match="not in the analysis' data list"):
        LineBackgroundLike("other", (EDGES, draw())).result(session)


def test_a_law_with_free_parameters_that_cannot_be_told_apart(plugin):
    """A line through one point: the message names them."""
    model = make_model(lines=(1760.0, 1779.0))
    p = model.linebkg.spectrum.main.shape.parameters
    model.unlink(p["sigma_3"])
    model.link(p["sigma_3"], p["sigma_2"], Line())
    with pytest.raises(FitError, match=r"do not tell apart .*sigma_3.Line.b"):
        plugin.fit(model)
    plugin.set_model(model)
    before = plugin.get_log_like()
    p["sigma_3"].auxiliary_variable[1].a.value = 2.0
    assert plugin.get_log_like() != before
    p["sigma_3"].auxiliary_variable[1].a.fix = True
    p["sigma_3"].auxiliary_variable[1].b.fix = True
    assert plugin.fit(model).valid
