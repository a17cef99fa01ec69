"""The real cosipy 0.4.3 on its own test files: binned likelihood, TS map, imaging, its programs.

Every number is compared with one found without cosipy's likelihood or without our background.
"""

import astropy.units as u
import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.optimize import minimize
from templates import template_of, tilted, with_energy_bins

from cosi_linebkg_plugin import LineBackgroundLike, background_model
from cosi_linebkg_plugin.consumers.binned import BinnedBackground
from cosi_linebkg_plugin.errors import ModelError, TemplateError

pytest.importorskip("cosipy")

import cosipy04 as c4
from cosipy.background_estimation import FreeNormBinnedBackground
from cosipy.data_io import EmCDSBinnedData
from cosipy.interfaces import BinnedBackgroundInterface
from threeML import BayesianAnalysis, DataList, GoodnessOfFit, JointLikelihood

FRAMES = ["local", "galactic"]
TRUE_K = 0.02  # some 1000 counts of the source


@pytest.fixture(autouse=True)
def in_tmp(tmp_path, monkeypatch):
    """cosipy writes scratch files into the current folder."""
    monkeypatch.chdir(tmp_path)


class Case:
    """Simulated counts of source and background in one frame."""

    def __init__(self, frame, seed=1, sky_norm=TRUE_K):
        self.axes = c4.axes_in(frame)
        self.sky = c4.sky_counts(frame)
        self.maps = c4.components(self.axes)
        truth = sky_norm * self.sky + sum(self.maps.values())
        self.counts = np.random.default_rng(seed).poisson(truth).astype(float)
        self.data = EmCDSBinnedData(c4.counts_of(self.axes, self.counts))
        self.template = c4.template_on(self.axes, self.maps)

    def minus_log_like(self, sky_norm, counts):
        """Without cosipy, and without the package."""
        expected = sky_norm * self.sky
        for n, m in zip(counts, self.maps.values(), strict=True):
            expected = expected + n / m.sum() * m
        return float(np.sum(expected - self.counts * np.log(expected)))

    def optimum(self, covariance=None):
        """K and the components' counts of the highest likelihood, found by hand.

        Parameters
        ----------
        covariance : ndarray, shape (2, 2), optional
            Of the counts, around the template's own.
        """
        own = np.array([m.sum() for m in self.maps.values()])
        start = np.array([TRUE_K, *own])

        def cost(x):
            k, *n = x * start
            penalty = 0.0
            if covariance is not None:
                d = np.array(n) - own
                penalty = 0.5 * d @ np.linalg.inv(covariance) @ d
            return self.minus_log_like(k, n) + penalty

        found = minimize(cost, np.ones(3), method="Nelder-Mead", tol=1e-9,
                         options={"maxiter": 4000, "maxfev": 4000})  # fmt: skip
        assert found.success
        return found.x * start

    def covariance_at(self, optimum):
        """Of K and counts in the Gaussian limit: Fisher's matrix and the template's knowledge."""
        shapes = [self.sky, *(m / m.sum() for m in self.maps.values())]
        expected = sum(x * s for x, s in zip(optimum, shapes, strict=True))
        fisher = np.array([[np.sum(a * b / expected) for a in shapes] for b in shapes])
        fisher[1:, 1:] += np.linalg.inv(self.template.covariance)
        return np.linalg.inv(fisher)


def optimum_of(table):
    """K, and the rates in the order of the components."""
    return np.array([table["value"].iloc[0], *table["value"].iloc[1:]])


# --- PoissonLikelihood ---------------------------------------------------------------------------


@pytest.mark.parametrize("frame", FRAMES)
@pytest.mark.parametrize("free", [[], ["continuum", "lines"]])
def test_a_joint_likelihood_finds_the_optimum(frame, free):
    case = Case(frame)
    background = case.template.binned_background(case.data)
    assert isinstance(background, BinnedBackgroundInterface)
    cosi = c4.plugin(case.data, background)
    background.configure(cosi)
    data = DataList(cosi, background.constraint(free=free))
    table, _ = JointLikelihood(c4.sky(0.01)[0], data).fit(quiet=True)
    expected = case.optimum(None if free else case.template.covariance)
    got = optimum_of(table)
    got[1:] *= case.template.livetime
    assert_allclose(got, expected, rtol=2e-3)
    assert_allclose(list(background.counts.values()), expected[1:], rtol=2e-3)
    assert list(table.index[1:]) == ["continuum", "lines"]
    # the likelihood itself, to the last digits
    cosi.bkg_parameter["lines"].value = 500.0
    k, log_like = float(table["value"].iloc[0]), float(cosi.get_log_like())
    own = [background.counts["continuum"], 500.0 * case.template.livetime]
    assert log_like == pytest.approx(-case.minus_log_like(k, own), rel=1e-9)


@pytest.mark.parametrize("frame", FRAMES)
def test_the_amplitude_of_what_lines_may_differ_by(frame):
    """The optimum of the same problem by hand, with counts whose lines do differ."""
    case = Case(frame)
    record = tilted(case.axes["Phi"].nbins)
    template = c4.template_on(case.axes, case.maps, record=record)
    (difference,) = record.line_spread.differences(case.maps["lines"], ["Em", "Phi", "PsiChi"])
    true = case.sky * TRUE_K + sum(case.maps.values()) + 1.5 * difference * case.maps["lines"]
    case.counts = np.random.default_rng(3).poisson(true).astype(float)
    case.data = EmCDSBinnedData(c4.counts_of(case.axes, case.counts))
    background = template.binned_background(case.data)
    cosi = c4.plugin(case.data, background)
    background.configure(cosi)
    table, _ = JointLikelihood(c4.sky(0.01)[0], DataList(cosi, background.constraint())).fit(
        quiet=True
    )
    assert list(table.index[1:]) == ["continuum", "lines", "lines_spread_1"]
    errors = np.sqrt(np.diag(template.covariance)) / list(template.counts.values())

    def cost(x):
        k, a, b, d = x * [TRUE_K, 1.0, 1.0, 1.0]
        lines = b * case.maps["lines"] * (1.0 + d * difference)
        expected = k * case.sky + a * case.maps["continuum"] + lines
        known = np.sum((np.array([a - 1, b - 1, d]) / [*errors, 1.0]) ** 2)
        return float(np.sum(expected - case.counts * np.log(expected))) + 0.5 * known

    found = minimize(cost, np.array([1.0, 1.0, 1.0, 0.5]), method="Nelder-Mead", tol=1e-9,
                     options={"maxiter": 4000, "maxfev": 4000})  # fmt: skip
    got = optimum_of(table)
    assert got[0] == pytest.approx(found.x[0] * TRUE_K, rel=2e-3)
    assert got[3] == pytest.approx(found.x[3], abs=5e-3) and got[3] > 0.5


@pytest.mark.parametrize("frame", FRAMES)
def test_each_energy_bin_with_a_norm_of_its_own(frame):
    """The optimum of each bin is that of a one-dimensional problem, at the K that was fitted."""
    case = Case(frame)
    template = with_energy_bins(case.template).split("Em")
    background = template.binned_background(case.data)
    cosi = c4.plugin(case.data, background)
    background.configure(cosi)
    table, _ = JointLikelihood(c4.sky(0.01)[0], DataList(cosi, background.constraint())).fit(
        quiet=True
    )
    k = float(table["value"].iloc[0])
    assert len(table) == 1 + 2 * len(case.counts)
    for b, counts in enumerate(case.counts):
        parts = {label: m[b] for label, m in case.maps.items()}
        own = np.array([m.sum() for m in parts.values()])

        def cost(x, counts=counts, parts=parts, sky=case.sky[b]):
            expected = k * sky + sum(f * m for f, m in zip(x, parts.values(), strict=True))
            known = 0.5 * np.sum(((x - 1.0) / 0.1) ** 2)
            return float(np.sum(expected - counts * np.log(expected))) + known

        found = minimize(cost, np.ones(2), method="Nelder-Mead", tol=1e-10).x
        got = [background.counts[f"{label}_em_{b}"] for label in parts]
        assert_allclose(got, found * own, rtol=5e-3)


def test_bins_that_follow_a_spectrum():
    """cosipy's likelihood at bins that a spectrum has moved: that of the same counts by hand."""
    case = Case("galactic")
    tilts = np.random.default_rng(2).uniform(0.5, 1.5, (2, len(case.counts)))

    class Followed:
        counts = np.array(list(case.template.counts.values()))
        covariance = np.diag([0.01, 0.0])

        def factors(self):
            return np.ones(2)

        def tilts(self):
            return tilts

    background = BinnedBackground(case.template, case.data, followed=Followed())
    cosi = c4.plugin(case.data, background)
    cosi.set_model(c4.sky(TRUE_K)[0])
    expected = TRUE_K * case.sky
    for row, m in zip(tilts, case.maps.values(), strict=True):
        expected = expected + row[:, None, None] * m
    by_hand = np.sum(case.counts * np.log(expected) - expected)
    assert float(cosi.get_log_like()) == pytest.approx(by_hand, rel=1e-9)


@pytest.mark.parametrize("frame", FRAMES)
def test_a_bayesian_session(frame):
    """Beside the Gaussian limit of the likelihood by hand: mean and width of the source's norm."""
    case = Case(frame)
    background = case.template.binned_background(case.data)
    cosi = c4.plugin(case.data, background)
    background.configure(cosi)
    model, spectrum = c4.sky(TRUE_K)
    spectrum.K.prior = uniform(1e-3, 1.0)
    session = BayesianAnalysis(model, DataList(cosi, background.constraint()))
    session.set_sampler("emcee")
    session.sampler.setup(n_iterations=150, n_burn_in=80, n_walkers=12, seed=1)
    session.sample(quiet=True)
    samples = np.array(list(session.samples.values()))
    samples[1:] *= case.template.livetime
    optimum = case.optimum(case.template.covariance)
    width = np.sqrt(np.diag(case.covariance_at(optimum)))
    # 1800 correlated samples: some 100 independent ones
    assert np.all(np.abs(samples.mean(axis=1) - optimum) < 0.4 * width)
    assert_allclose(samples.std(axis=1), width, rtol=0.35)


def uniform(low, high):
    from astromodels import Uniform_prior

    return Uniform_prior(lower_bound=low, upper_bound=high, value=1 / (high - low))


def test_without_configure_a_bayesian_session_does_not_start():
    """What the documentation says of cosipy 0.4.3."""
    case = Case("local")
    background = case.template.binned_background(case.data)
    cosi = c4.plugin(case.data, background)
    model, spectrum = c4.sky(TRUE_K)
    spectrum.K.prior = uniform(1e-3, 1.0)
    session = BayesianAnalysis(model, DataList(cosi, background.constraint()))
    session.set_sampler("emcee")
    session.sampler.setup(n_iterations=2, n_burn_in=1, n_walkers=12, seed=1)
    with pytest.raises(TypeError, match="not callable"):
        session.sample(quiet=True)


def test_an_amount_that_is_known_exactly_is_fixed():
    case = Case("local")
    exact = c4.template_on(case.axes, case.maps, covariance=np.diag([100.0**2, 0.0]))
    background = exact.binned_background(case.data)
    cosi = c4.plugin(case.data, background)
    background.configure(cosi)
    data = DataList(cosi, background.constraint())
    table, _ = JointLikelihood(c4.sky(0.01)[0], data).fit(quiet=True)
    assert list(table.index[1:]) == ["continuum"]
    assert background.counts["lines"] == pytest.approx(case.maps["lines"].sum())


def test_an_unknown_amount_is_found():
    case = Case("galactic")
    unknown = c4.template_on(
        case.axes,
        case.maps,
        counts={"continuum": 3000.0, "lines": 0.0},
        covariance=np.diag([150.0**2, np.inf]),
    )
    background = unknown.binned_background(case.data)
    cosi = c4.plugin(case.data, background)
    background.configure(cosi)
    data = DataList(cosi, background.constraint())
    table, _ = JointLikelihood(c4.sky(0.01)[0], data).fit(quiet=True)
    expected = case.optimum(np.diag([150.0**2, 1e12]))
    got = optimum_of(table)
    got[1:] *= unknown.livetime
    assert_allclose(got, expected, rtol=2e-3)


def test_a_session_leaves_the_template_as_it_was():
    case = Case("local")
    before = case.template.counts
    background = case.template.binned_background(case.data)
    cosi = c4.plugin(case.data, background)
    background.configure(cosi)
    data = DataList(cosi, background.constraint(free=["lines", "continuum"]))
    JointLikelihood(c4.sky(0.01)[0], data).fit(quiet=True)
    assert case.template.counts == before
    assert background.counts != pytest.approx(before, rel=1e-6)
    assert not isinstance(case.template, BinnedBackgroundInterface)
    with pytest.raises(AttributeError, match="binned_background"):
        c4.plugin(case.data, case.template)


def test_energies_outside_the_source_range_are_left_out():
    case = Case("local")
    maps = {label: m.copy() for label, m in case.maps.items()}
    for m in maps.values():
        m[[i for i in range(10) if i not in (3, 4)]] = 0.0
    edges = case.axes["Em"].edges.to_value(u.keV)
    some = c4.template_on(case.axes, maps, source_range=(edges[3], edges[5]))
    with pytest.raises(TemplateError, match="empty outside its source range"):
        some.binned_background(case.data)
    background = some.binned_background(case.data, outside="drop")
    cosi = c4.plugin(case.data, background)
    cosi.set_model(c4.sky(TRUE_K)[0])
    expected = TRUE_K * case.sky[3:5] + sum(m[3:5] for m in maps.values())
    by_hand = np.sum(case.counts[3:5] * np.log(expected) - expected)
    assert float(cosi.get_log_like()) == pytest.approx(by_hand, rel=1e-10)


def test_data_in_another_order_of_axes():
    """0.4.3 takes any order of its data's axes, and so does the background."""
    case = Case("local")
    turned = EmCDSBinnedData(case.data.data.project("PsiChi", "Em", "Phi"))
    background = case.template.binned_background(turned)
    assert background.axes == turned.axes
    assert_allclose(
        background.expectation().contents, sum(case.maps.values()).transpose(2, 0, 1), rtol=1e-12
    )


def test_axes_that_differ_are_named():
    """0.4.3 says "Axes mismatch" and no more."""
    local, galactic = Case("local"), Case("galactic")
    with pytest.raises(TemplateError, match="PsiChi: got frame spacecraftframe, expected galactic"):
        local.template.binned_background(galactic.data)
    elsewhere = local.template.binned_background()
    cosi = c4.plugin(galactic.data, elsewhere)
    cosi.set_model(c4.sky(TRUE_K)[0])
    with pytest.raises(ValueError, match="Axes mismatch"):
        cosi.get_log_like()


@pytest.mark.parametrize("prefixes", [("", ""), ("a_", "a_"), ("one_", "two_")])
def test_two_backgrounds_of_the_same_names_are_refused(prefixes, caplog):
    """0.4.3 replaces the first one's parameters and logs it; the first then never varies."""
    cases = Case("local"), Case("galactic")
    plugins = []
    for number, (case, prefix) in enumerate(zip(cases, prefixes, strict=True)):
        background = case.template.binned_background(case.data, prefix=prefix)
        cosi = c4.plugin(case.data, background, f"cosi{number}")
        background.configure(cosi)
        plugins += [cosi, background.constraint(name=f"known{number}")]
    session = JointLikelihood(c4.sky(0.01)[0], DataList(*plugins))
    if prefixes[0] == prefixes[1]:
        with pytest.raises(ModelError, match=f"{prefixes[0]}continuum.*prefix"):
            session.fit(quiet=True)
    else:
        table, _ = session.fit(quiet=True)
        assert len(table) == 5
        k = float(table["value"].iloc[0])
        assert abs(k - TRUE_K) < 3 * float(table["error"].iloc[0])


# --- one session with the spectrum ---------------------------------------------------------------


@pytest.mark.parametrize("frame", FRAMES)
def test_a_joint_session_with_the_spectrum(frame):
    """Spectrum and sky in one likelihood: its value and its optimum, both by hand."""
    from astromodels import Gaussian, Powerlaw

    edges = np.linspace(1700.0, 1900.0, 41)
    truth = Powerlaw(K=90.0, piv=1800.0, index=-2.0)
    line = Gaussian(F=1500.0, mu=1770.0, sigma=3.0)
    centers = 0.5 * (edges[1:] + edges[:-1])
    fine = np.linspace(1700.0, 1900.0, 4001)
    density = truth(fine) + line(fine)
    expected = np.add.reduceat(0.5 * (density[1:] + density[:-1]) * 0.05, np.arange(0, 4000, 100))
    counts = np.random.default_rng(7).poisson(expected)
    linebkg = LineBackgroundLike(
        "linebkg", (edges, counts), spectrum=background_model([1770.0], pivot=1800)
    )
    linebkg.set_mask((1795.0, 1825.0))
    linebkg.set_model(c4.sky()[0])
    fit = linebkg.fit()
    amounts = fit.expected_counts((1800.0, 1820.0))
    assert centers.size == 40 and amounts.values[0] > 1000

    axes = c4.axes_in(frame)
    patterns = c4.components(axes)
    maps = {label: m / m.sum() for label, m in patterns.items()}
    counts_now = dict(zip(("continuum", "lines"), amounts.values.tolist(), strict=True))
    ratio = {"line": 1808.65, "tracer": 1770.0, "value": 0.5, "error": 0.05}
    template = template_of(
        maps,
        axes,
        counts={"continuum": counts_now["continuum"], "lines": 0.0},
        covariance=np.diag([amounts.covariance[0, 0], np.inf]),
        fit=fit,
        source_range=(1800.0, 1820.0),
        livetime=c4.livetime(),
    )
    lines = 0.5 * fit.values["F_2"] * 0.999
    sky = c4.sky_counts(frame)
    observed = np.random.default_rng(8).poisson(
        TRUE_K * sky + counts_now["continuum"] * maps["continuum"] + lines * maps["lines"]
    )
    data = EmCDSBinnedData(c4.counts_of(axes, observed))
    background = template.binned_background(data, follow=linebkg, line_ratio=ratio)
    # the continuum follows the spectrum exactly; of the lines the ratio's error is left
    assert list(background.parameters) == ["lines"]
    assert background.parameters["lines"] == 1.0 * u.dimensionless_unscaled
    cosi = c4.plugin(data, background)
    background.configure(cosi)
    session = JointLikelihood(c4.sky(0.01)[0], DataList(linebkg, cosi, background.constraint()))
    table, _ = session.fit(quiet=True)

    def by_hand():
        own = linebkg.source_counts((1800.0, 1820.0), line_ratio=ratio)
        factor = cosi.bkg_parameter["lines"].value
        k = float(session.likelihood_model.sources["source"].spectrum.main.shape.K.value)
        e = k * sky + own["continuum"] * maps["continuum"] + factor * own["lines"] * maps["lines"]
        return np.sum(observed * np.log(e) - e) - 0.5 * ((factor - 1) / 0.1) ** 2

    known = session.data_list["norms"].get_log_like()
    assert float(cosi.get_log_like()) + known == pytest.approx(by_hand(), rel=1e-10)
    # the optimum of what was written down by hand: no parameter gains by a step
    best = by_hand() + linebkg.get_log_like()
    for name in table.index:
        parameter = session.likelihood_model.free_parameters[name]
        there = parameter.value
        for step in (-0.05, 0.05):
            parameter.value = there + step * float(table.loc[name, "error"])
            assert by_hand() + linebkg.get_log_like() < best + 1e-3
        parameter.value = there
    assert abs(table["value"].iloc[0] - TRUE_K) < 3 * table["error"].iloc[0]


def test_goodness_of_fit_beside_cosipys_plugin():
    """0.4.3's plugin simulates no data; that of the spectrum does, in a session of its own."""
    edges = np.linspace(1700.0, 1900.0, 41)
    expected = 90.0 * np.diff(edges) * (0.5 * (edges[1:] + edges[:-1]) / 1800.0) ** -2
    counts = np.random.default_rng(7).poisson(expected)
    spectrum = background_model([], pivot=1800)
    linebkg = LineBackgroundLike("linebkg", (edges, counts), spectrum=spectrum)
    case = Case("local")
    background = case.template.binned_background(case.data)
    cosi = c4.plugin(case.data, background)
    background.configure(cosi)
    model = c4.sky(0.01)[0]
    linebkg.guess(model)
    joint = JointLikelihood(model, DataList(linebkg, cosi, background.constraint()))
    joint.fit(quiet=True)
    with pytest.raises(AttributeError, match="ThreeMLPluginInterface.*get_simulated_dataset"):
        GoodnessOfFit(joint).by_mc(2)
    p_value = linebkg.result(joint).p_value
    alone, sky = c4.sky(0.01)
    sky.K.free = False
    session = JointLikelihood(alone, DataList(linebkg))
    session.fit(quiet=True)
    linebkg.seed(3)
    gof, _, _ = GoodnessOfFit(session).by_mc(20)
    # 20 data sets resolve p to 0.1; 4 of those: 1e-4
    assert gof["linebkg"] == pytest.approx(p_value, abs=0.45) and 0.05 < p_value < 0.95


# --- FreeNormBinnedBackground --------------------------------------------------------------------


def free_norm_session(case, with_recipe):
    """From cosipy's own start, K = 1, which is ten times too high here."""
    background = FreeNormBinnedBackground(
        case.template.free_norm_histograms(case.data), c4.history()
    )
    cosi = c4.plugin(case.data, background)
    if with_recipe:
        case.template.binned_background(case.data).configure(cosi)
    table, _ = JointLikelihood(c4.sky(1.0)[0], DataList(cosi)).fit(quiet=True)
    found = optimum_of(table)
    found[1:] *= c4.livetime()
    return found


@pytest.mark.parametrize("frame", FRAMES)
def test_the_recipe_for_free_norms_finds_the_optimum(frame):
    case = Case(frame, sky_norm=0.1)
    assert_allclose(free_norm_session(case, True), case.optimum(), rtol=2e-3)
    assert case.template.counts == pytest.approx({k: m.sum() for k, m in case.maps.items()})


def test_without_limits_free_norms_end_in_a_wrong_optimum():
    """Cells below 0 are NaN and leave 0.4.3's sum: the likelihood is then that of fewer cells."""
    found = [free_norm_session(Case(frame, sky_norm=0.1), False) for frame in FRAMES]
    assert min(x[2] for x in found) < -1000.0
