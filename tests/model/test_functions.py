"""Widths that change with energy, lines with a width of their own, and the continua."""

import itertools
import subprocess
import sys
from dataclasses import replace

import astropy.units as u
import histpy
import numpy as np
import pytest
from astromodels import load_model
from numpy.testing import assert_allclose
from spectra import simulated_spectrum

from cosi_linebkg_plugin import LineBackgroundLike, background_model
from cosi_linebkg_plugin.errors import FitError, LineBackgroundWarning
from cosi_linebkg_plugin.fit.minimise import fit_spectrum
from cosi_linebkg_plugin.fit.objective import Objective
from cosi_linebkg_plugin.model.functions import FUNCTIONS
from cosi_linebkg_plugin.model.read import spectrum_of
from cosi_linebkg_plugin.model.spec import CONTINUA
from cosi_linebkg_plugin.spectrum.axis import EnergySpectrum
from cosi_linebkg_plugin.spectrum.components import ROLES
from cosi_linebkg_plugin.spectrum.lineshapes import gaussian_counts

EDGES = np.linspace(1500.0, 2000.0, 101)
WIDE = np.arange(100.0, 3000.0 + 1e-9, 4.0)


def with_values(model, **values):
    """The numbers of an astromodels model, with some of its parameters changed."""
    numbers = spectrum_of(model, "linebkg").current_model()
    assert set(values) <= set(numbers.names)
    parameters = tuple(replace(p, value=values.get(p.name, p.value)) for p in numbers.parameters)
    return replace(numbers, parameters=parameters)


def step(value):
    return min(1e-5 * max(abs(value), 1e-2), 1e-3)


def shape(model):
    return model.linebkg.spectrum.main.shape


def test_linear_width_is_sigma_squared_equal_to_a_plus_b_e():
    numbers = with_values(
        background_model([600, 1800], width="linear"), F_2=1e4, F_3=2e4, a_2=1.5, b_2=0.004
    )
    sigmas = [c.sigma(numbers.values) for c in numbers.components[1:]]
    assert_allclose(sigmas, np.sqrt([1.5 + 2.4, 1.5 + 7.2]), rtol=1e-14)
    lines = numbers.select([1, 2]).bind(WIDE).counts(numbers.values)
    assert_allclose(lines, gaussian_counts(WIDE, [1e4, 2e4], [600, 1800], sigmas)[0], atol=1e-10)
    assert numbers.links == {"a_3": "a_2", "b_3": "b_2"}


OPTIONS = {
    "linear": dict(lines=[1600, 1650, 1900], width="linear"),
    "linear, tail": dict(lines=[1600, 1650, 1900], width="linear", tail=True),
    "own width": dict(lines=[1600, {"energy": 1650, "width": "own"}, 1900], tail=True),
    "annihilation": dict(
        lines=[1600, {"energy": 1650, "width": "annihilation"}, 1900], tail=True, step=True
    ),
    "broken": dict(lines=[1600], continuum="broken_powerlaw", pivot=1777.0),
    "polynomial": dict(lines=[1600], continuum="powerlaw_polynomial", pivot=1700.0),
    "step": dict(lines=[1600, {"energy": 1650, "width": "own"}, 1900], step=True),
    "linear, tail, step": dict(lines=[1600, 1650, 1900], width="linear", tail=True, step=True),
}
VALUES = {
    "linear": dict(a_2=1.1, b_2=0.004, F_3=5e3),
    "linear, tail": dict(a_2=1.1, b_2=0.004, F_3=5e3, fraction_2=0.3),
    "own width": dict(sigma_2=2.0, sigma_3=4.0),
    "annihilation": dict(sigma_2=2.0, sigma_3=2.5, broad_3=0.4, ratio_3=2.6, step_5=4e-3),
    "broken": dict(alpha_1=-1.2, beta_1=-3.1, xb_1=1712.3),
    "polynomial": dict(index_1=-1.7, c2_1=9.0, c3_1=-40.0),
    "step": dict(sigma_2=2.0, sigma_3=4.0, step_5=4e-3),
    "linear, tail, step": dict(a_2=1.1, b_2=0.004, F_3=5e3, fraction_2=0.3, step_5=4e-3),
}


def test_every_function_is_compared_with_its_closed_form():
    kinds = {
        c.kind for o in OPTIONS.values() for c in with_values(background_model(**o)).components
    }
    assert kinds == set(FUNCTIONS) == set(ROLES)


@pytest.mark.parametrize("name", OPTIONS)
def test_derivatives_are_those_of_finite_differences(name):
    numbers = with_values(background_model(**OPTIONS[name]), **VALUES[name])
    bound, theta = numbers.bind(EDGES), numbers.values
    assert bound.kernel is not None  # everything compiled
    counts, jac = bound.counts_and_jacobian(theta)
    assert_allclose(bound.counts(theta), counts, rtol=1e-14)
    for i, p in enumerate(numbers.parameters):
        up, down = theta.copy(), theta.copy()
        up[i], down[i] = (theta[i] + sign * step(theta[i]) for sign in (1, -1))
        numeric = (bound.counts(up) - bound.counts(down)) / (up[i] - down[i])
        scale = np.abs(numeric).max()
        assert_allclose(jac[i], numeric, rtol=1e-5, atol=1e-6 * scale, err_msg=p.name)


@pytest.mark.parametrize("name", OPTIONS)
def test_closed_form_integrates_the_density_of_astromodels(name):
    model = background_model(**OPTIONS[name])
    for key, value in VALUES[name].items():
        shape(model).parameters[key].value = value
    edges = np.sort(np.append(EDGES, 1712.3))  # quadrature does not cross the break
    x, w = np.polynomial.legendre.leggauss(30)
    half = 0.5 * np.diff(edges)[:, None]
    nodes = edges[:-1, None] + half * (1 + x)
    density = shape(model)(nodes.ravel()).reshape(nodes.shape)
    r = spectrum_of(model, "linebkg")
    fine = r.model.bind(edges).counts(r.values())
    assert_allclose(fine, half[:, 0] * (density @ w), rtol=1e-10)
    # a bin that holds the break
    k = int(np.searchsorted(EDGES, 1712.3)) - 1
    assert r.model.bind(EDGES).counts(r.values())[k] == pytest.approx(fine[k : k + 2].sum())


def test_every_shape_loads_in_a_fresh_process(tmp_path):
    expected = []
    for name, options in OPTIONS.items():
        model = background_model(**options)
        for key, value in VALUES[name].items():
            shape(model).parameters[key].value = value
        model.save(str(tmp_path / f"{len(expected)}.yml"))
        copy = load_model(str(tmp_path / f"{len(expected)}.yml"))
        assert list(copy.free_parameters) == list(model.free_parameters)
        assert spectrum_of(copy, "linebkg").model.links == spectrum_of(model, "linebkg").model.links
        expected.append(float(shape(model)(1648.0)))
    code = (
        "import cosi_linebkg_plugin.model.functions, astromodels\n"
        f"for i in range({len(expected)}):\n"
        f"    m = astromodels.load_model({str(tmp_path)!r} + f'/{{i}}.yml')\n"
        "    print('value', m.linebkg.spectrum.main.shape(1648.0))\n"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    found = [float(x.split()[1]) for x in run.stdout.splitlines() if x.startswith("value")]
    assert_allclose(found, expected, rtol=1e-12)


# --- widths in fits ------------------------------------------------------------------------------

WIDE_LINES = [198, 472, 585, 843, 1014, 1369, 1779, 2223, 2754]


def wide_truth(**options):
    model = background_model([511, *WIDE_LINES], width="linear", pivot=1000, **options)
    names = [p.name for p in spectrum_of(model, "linebkg").model.parameters]
    values = {n: 2e4 for n in names if n.startswith("F_")}
    return with_values(model, K_1=400.0, index_1=-1.3, a_2=1.4, b_2=0.0035, **values)


@pytest.fixture(scope="module")
def wide():
    """A spectrum from 100 to 3000 keV; the annihilation line is broader than its neighbours."""
    truth = wide_truth()
    own = next(p.name for p in truth.parameters if p.name.startswith("sigma"))
    parameters = tuple(replace(p, value=3.0) if p.name == own else p for p in truth.parameters)
    truth = replace(truth, parameters=parameters)
    return truth, simulated_spectrum(truth, WIDE, np.random.default_rng(21))


def test_a_wide_window_gives_back_its_widths(wide):
    truth, spectrum = wide
    start = spectrum_of(
        background_model([511, *WIDE_LINES], width="linear", pivot=1000), "linebkg"
    ).current_model()
    fit = fit_spectrum(start, spectrum)
    pulls = {p.name: (fit.values[p.name] - p.value) / fit.errors[p.name]
             for p in truth.parameters if p.free}  # fmt: skip
    # 25 pulls of one seeded data set: |pull| > 4.2 has a false-alarm rate of 7e-4
    assert len(pulls) == 25 and max(map(abs, pulls.values())) < 4.2
    assert fit.p_value > 1e-3
    # one width for all lines does not describe these data, and shifts what it is told to fit
    constant = spectrum_of(background_model([511, *WIDE_LINES], pivot=1000), "linebkg")
    assert fit_spectrum(constant.current_model(), spectrum).p_value < 1e-12


def test_the_gradient_to_a_and_b_vanishes_at_the_optimum(wide):
    truth, spectrum = wide
    fit = fit_spectrum(truth, spectrum)
    objective = Objective(truth, spectrum)
    assert objective.compiled_arguments is not None
    newton = fit.covariance @ objective.gradient(fit.theta)[truth.free]
    assert np.all(np.abs(newton) < 1e-4 * np.sqrt(np.diag(fit.covariance)))


def test_joint_likelihood_reaches_the_same_widths():
    import logging

    from threeML import DataList, JointLikelihood

    for name in ("threeML", "astromodels"):
        logging.getLogger(name).setLevel(logging.ERROR)
    edges = np.arange(400.0, 2400.0 + 1e-9, 5.0)
    options = dict(lines=[511, 600, 1369, 2223], width="linear", pivot=1000)
    truth = with_values(
        background_model(**options), K_1=300.0, a_3=1.4, b_3=0.0035, sigma_2=3.0,
        **{f"F_{n}": 3e4 for n in range(2, 6)},
    )  # fmt: skip
    spectrum = simulated_spectrum(truth, edges, np.random.default_rng(5))
    plugin = LineBackgroundLike("bkg", spectrum)
    direct = plugin.fit(background_model(**options))
    model = background_model(**options)
    plugin.guess(model)
    session = JointLikelihood(model, DataList(plugin))
    session.fit(quiet=True)
    result = plugin.result(session)
    assert result.deviance == pytest.approx(direct.deviance, abs=0.05)
    for name in ("a_3", "b_3", "sigma_2", "F_4", "mu_5"):
        error = direct.errors[name]
        assert abs(result.values[name] - direct.values[name]) < 0.1 * error
        assert result.errors[name] == pytest.approx(error, rel=0.05)


# --- continua ------------------------------------------------------------------------------------


def test_a_broken_power_law_is_recovered_from_its_own_start():
    options = dict(lines=[1779], continuum="broken_powerlaw", pivot=1800)
    truth = with_values(
        background_model(**options), K_1=20000.0, alpha_1=-1.0, beta_1=-3.0, xb_1=1640.0, F_2=1e5
    )
    spectrum = simulated_spectrum(truth, EDGES, np.random.default_rng(8))
    start = spectrum_of(background_model(**options), "linebkg").current_model()
    fit = fit_spectrum(start, spectrum)
    # pulls of one seeded data set: |pull| > 4 has a false-alarm rate of 6e-5 each
    for p in truth.parameters:
        if p.free:
            assert abs(fit.values[p.name] - p.value) < 4 * fit.errors[p.name]
    assert fit.p_value > 1e-3


def test_a_polynomial_is_recovered_from_its_own_start():
    options = dict(lines=[1779], continuum="powerlaw_polynomial", pivot=1750)
    truth = with_values(
        background_model(**options), K_1=20000.0, index_1=-2.0, c2_1=12.0, c3_1=-30.0, F_2=1e5
    )
    spectrum = simulated_spectrum(truth, EDGES, np.random.default_rng(9))
    start = spectrum_of(background_model(**options), "linebkg").current_model()
    fit = fit_spectrum(start, spectrum)
    for p in truth.parameters:
        if p.free:
            assert abs(fit.values[p.name] - p.value) < 4 * fit.errors[p.name]
    assert fit.p_value > 1e-3
    plain = spectrum_of(background_model([1779], pivot=1750), "linebkg").current_model()
    assert fit_spectrum(plain, spectrum).p_value < 1e-12


def test_a_continuum_below_zero_is_no_valid_fit():
    """Nothing but the data keeps a polynomial above zero, and a mask hides them."""
    options = dict(continuum="powerlaw_polynomial", pivot=1600)
    # zeros at 1840 and 1920 keV
    truth = with_values(background_model(**options), K=1e4, index=0.0, c2=-102.78, c3=388.9)
    expected = truth.bind(EDGES).counts(truth.values)
    mask = (EDGES[:-1] >= 1830) & (EDGES[1:] <= 1930)
    assert expected[mask].min() < 0 < expected[~mask].min()
    spectrum = EnergySpectrum(EDGES, np.where(mask, 0.0, expected), mask)
    with pytest.raises(FitError, match=r"the continuum is negative at 18\d\d") as caught:
        fit_spectrum(truth, spectrum)
    assert not caught.value.result.valid


def events(counts):
    axes = [
        histpy.Axis(EDGES * u.keV, label="Em"),
        histpy.Axis(np.linspace(0, 180, 7) * u.deg, label="Phi"),
    ]
    share = np.array([1, 3, 5, 4, 2, 1]) / 16.0
    rng = np.random.default_rng(4)
    contents = rng.multinomial(counts.astype(int), share)
    return histpy.Histogram(histpy.Axes(axes), contents=contents.astype(float))


@pytest.mark.parametrize(
    ("continuum", "width", "tail"),
    [*itertools.product(CONTINUA, ["constant"], [False]), ("powerlaw", "linear", True)],
)
def test_templates_from_every_shape(continuum, width, tail):
    options = dict(lines=[1633, 1764, 1779], pivot=1800, width=width, tail=tail)
    truth = with_values(background_model(**options), K_1=2000.0, F_2=2e4, F_3=2e4, F_4=2e4)
    spectrum = simulated_spectrum(truth, EDGES, np.random.default_rng(6))
    plugin = LineBackgroundLike("bkg", events(spectrum.counts))
    plugin.set_mask((1790, 1825))
    fit = plugin.fit(background_model(**options, continuum=continuum))
    ratio = {"line": 1808.65, "tracer": 1779, "value": 0.15, "error": 0.01}
    for method, extra in (("components", {}), ("sideband", {"sidebands": [(1830, 1900)]})):
        t = plugin.background_template(fit, (1805, 1812), method=method, line_ratio=ratio, **extra)
        edges = np.array([1805.0, 1812.0])
        inside = truth.select([0]).bind(edges).counts(truth.values)[0]
        line = truth.components[3]
        sigma = line.sigma(truth.values)
        if not tail:
            inside += 0.15 * gaussian_counts(edges, 2e4, 1808.65, sigma)[0][0]
            assert abs(sum(t.counts.values()) - inside) < 4.5 * t.total_error
        assert 0 < t.total_error < 0.1 * inside
        assert t.record.line_share > 0.3


def test_the_ratios_jacobian_follows_the_width_law():
    """Its error by brute force: fits of the data moved along the covariance."""
    from cosi_linebkg_plugin.spectrum.components import line_share

    numbers = with_values(
        background_model([1600, 1779], width="linear", tail=True), a_2=1.2, b_2=0.004, F_3=1e4
    )
    theta, where = numbers.values, (1805.0, 1812.0)
    share, slopes = line_share(numbers, theta, 2, 1808.65, where)
    assert 0 < share < 1
    for i in range(theta.size):
        up, down = theta.copy(), theta.copy()
        up[i], down[i] = (theta[i] + sign * step(theta[i]) for sign in (1, -1))
        numeric = line_share(numbers, up, 2, 1808.65, where)[0]
        numeric = (numeric - line_share(numbers, down, 2, 1808.65, where)[0]) / (up[i] - down[i])
        assert slopes[i] == pytest.approx(numeric, rel=1e-5, abs=1e-10)


def test_a_tail_loads_in_a_fresh_process(tmp_path):
    model = background_model([1612, 1635], tail=True)
    model.save(str(tmp_path / "model.yml"))
    code = (
        "import cosi_linebkg_plugin.model.functions, astromodels; "
        f"m = astromodels.load_model({str(tmp_path / 'model.yml')!r}); "
        "print(m.linebkg.spectrum.main.shape(1600.0))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert float(run.stdout.split()[-1]) == pytest.approx(shape(model)(1600.0))


pytestmark = pytest.mark.filterwarnings(
    f"ignore::{LineBackgroundWarning.__module__}.LineBackgroundWarning"
)
