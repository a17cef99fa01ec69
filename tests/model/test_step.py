"""The step under a line: parameters, fits, files, amounts, and what it does for real spectra."""

import logging

import astropy.units as u
import histpy
import numpy as np
import pytest
import yaml
from numpy.testing import assert_allclose
from scipy.stats import norm

from cosi_linebkg_plugin import LineBackgroundFit, LineBackgroundLike, background_model
from cosi_linebkg_plugin.fit.minimise import fit_spectrum
from cosi_linebkg_plugin.model.read import spectrum_of
from cosi_linebkg_plugin.model.spec import numerical_model, spectrum_parts
from cosi_linebkg_plugin.spectrum.axis import EnergySpectrum
from cosi_linebkg_plugin.spectrum.components import SpectralModel
from cosi_linebkg_plugin.spectrum.lineshapes import step_counts

pytestmark = pytest.mark.filterwarnings("ignore::cosi_linebkg_plugin.errors.LineBackgroundWarning")

EDGES = np.linspace(1400.0, 1800.0, 401)
LINES = [1460.8, {"energy": 1600.0, "width": "own"}, 1764.5]
TRUTH = {
    "K_1": 300.0, "piv_1": 1600.0, "index_1": -1.5, "F_2": 4e5, "mu_2": 1460.8, "sigma_2": 1.3,
    "F_3": 1e5, "mu_3": 1600.3, "sigma_3": 4.0, "F_4": 2e5, "mu_4": 1764.5, "step_5": 4e-3,
}  # fmt: skip


def numbers(**options) -> SpectralModel:
    return numerical_model(spectrum_parts(LINES, pivot=1600, step=True, **options))


@pytest.fixture(scope="module")
def truth():
    return np.array([TRUTH[name] for name in numbers().names])


@pytest.fixture(scope="module")
def spectrum(truth):
    counts = numbers().bind(EDGES).counts(truth)
    return EnergySpectrum(EDGES, np.random.default_rng(8).poisson(counts).astype(float))


@pytest.fixture(scope="module")
def fit(spectrum):
    return fit_spectrum(numbers(), spectrum)


def test_each_step_shares_its_lines_parameters():
    model = numbers(tail=True)
    kinds = ["powerlaw", *3 * ["tailed_gaussian"], *3 * ["step"]]
    assert [c.kind for c in model.components] == kinds
    for line, step in zip(model.components[1:4], model.components[4:], strict=True):
        assert step.slots[:3] == line.slots[:3]
        assert (step.is_line, step.is_step, step.label) == (False, True, "continuum")
    assert len({c.slots[-1] for c in model.components[4:]}) == 1
    assert model.links["F_6"] == "F_3" and model.links["step_7"] == "step_5"
    assert (model.lines, model.smooth_continuum) == ((1, 2, 3), (0,))
    assert model.component_name(0, model.values) == "continuum"
    assert model.component_name(4, model.values) == "step at 1460.80 keV"


@pytest.mark.parametrize("width", ["constant", "linear"])
@pytest.mark.parametrize("continuum", ["powerlaw", "broken_powerlaw"])
def test_the_composite_of_astromodels_has_the_same(width, continuum):
    options = dict(pivot=1600, width=width, continuum=continuum, tail=True, step=True)
    model = background_model(LINES, **options)
    read = spectrum_of(model, "linebkg").model
    own = numerical_model(spectrum_parts(LINES, **options))
    assert (read.names, read.links, read.components) == (own.names, own.links, own.components)
    for a, b in zip(read.parameters, own.parameters, strict=True):
        assert (a.free, a.low, a.high) == (b.free, b.low, b.high)
        assert a.value == pytest.approx(b.value)
    assert len(model.free_parameters) == own.free.size


def test_a_fit_finds_it(fit, truth):
    best = dict(zip(fit.model.names, truth, strict=True))
    pulls = [(fit.values[n] - best[n]) / e for n, e in fit.errors.items()]
    assert len(pulls) == 11 and np.abs(pulls).max() < 4
    assert fit.p_value > 1e-3
    assert fit.errors["step_5"] < 0.1 * fit.values["step_5"]
    from_afar = fit_spectrum(numbers(sigma=4.0), fit.spectrum)
    assert from_afar.deviance == pytest.approx(fit.deviance, abs=1e-4)


def test_a_fit_of_threeml_finds_the_same(fit):
    from threeML import DataList, JointLikelihood

    for name in ("threeML", "astromodels"):
        logging.getLogger(name).setLevel(logging.ERROR)
    plugin = LineBackgroundLike("bkg", fit.spectrum)
    model = background_model(LINES, pivot=1600, step=True)
    plugin.guess(model)
    session = JointLikelihood(model, DataList(plugin))
    session.fit(quiet=True)
    result = plugin.result(session)
    assert result.deviance == pytest.approx(fit.deviance, abs=0.05)
    for name in ("F_2", "sigma_3", "step_5"):
        assert abs(result.values[name] - fit.values[name]) < 0.1 * fit.errors[name]


def test_no_step_is_found_where_there_is_none():
    without = numerical_model(spectrum_parts(LINES, pivot=1600))
    theta = np.array([TRUTH[name] for name in without.names])
    counts = without.bind(EDGES).counts(theta)
    spectrum = EnergySpectrum(EDGES, np.random.default_rng(3).poisson(counts).astype(float))
    with_step, plain = fit_spectrum(numbers(), spectrum), fit_spectrum(without, spectrum)
    assert 0 <= with_step.values["step_5"] < 4 * 4e-4
    assert -1e-3 < plain.deviance - with_step.deviance < 16
    assert abs(with_step.values["F_2"] / plain.values["F_2"] - 1) < 0.01


def test_the_amount_of_a_line_is_its_peaks_area(fit):
    """Steps are continuum, whatever the range."""
    values = fit.values
    inside = fit.expected_counts((1440.0, 1480.0))
    assert inside.labels == ("continuum", "lines")
    continuum, lines = inside.values
    assert lines == pytest.approx(values["F_2"], rel=1e-12)
    bare = fit.model.select([0]).bind(np.array([1440.0, 1480.0])).counts(fit.theta)[0]
    steps = 0.0
    for n in (2, 3, 4):
        sigma = values["sigma_3" if n == 3 else "sigma_2"]
        shape = (values[f"F_{n}"], values[f"mu_{n}"], sigma, values["step_5"])
        steps += step_counts([1440.0, 1480.0], *shape)[0][0]
    assert steps > 1e4
    assert continuum == pytest.approx(bare + steps, rel=1e-12)
    below = fit.expected_counts((1405.0, 1415.0))
    assert below.values[1] == pytest.approx(0.0, abs=1e-9)


def test_templates_count_it_as_continuum(fit):
    axes = [
        histpy.Axis(EDGES * u.keV, label="Em"),
        histpy.Axis(np.linspace(0, 180, 5) * u.deg, label="Phi"),
    ]
    contents = fit.spectrum.counts[:, None] * np.array([0.1, 0.2, 0.3, 0.4])
    plugin = LineBackgroundLike("bkg", histpy.Histogram(histpy.Axes(axes), contents=contents))
    where = (1440.0, 1450.0)  # just below the first line
    plugin.set_mask(where)
    own = plugin.fit(background_model(LINES, pivot=1600, step=True))
    template = plugin.background_template(own, where, method="components")
    expected = own.expected_counts(where).values[0]
    assert template.counts["continuum"] == pytest.approx(expected, rel=1e-9)
    bare = own.model.select([0]).bind(np.array(where)).counts(own.theta)[0]
    assert expected - bare > 20 * np.sqrt(bare)


def test_it_survives_a_file(fit, tmp_path):
    fit.to_json(tmp_path / "fit.json")
    copy = LineBackgroundFit.from_json(tmp_path / "fit.json")
    assert copy.model.components == fit.model.components
    assert copy.model.links == fit.model.links
    assert_allclose(copy.expected, fit.expected, rtol=1e-14)
    assert copy.parameters["step_5"].unit == "1 / keV"


def test_a_configuration_names_it(tmp_path):
    from cosi_linebkg_plugin.app.config import parse_config
    from cosi_linebkg_plugin.app.fitting import model_of, spectral_model

    (tmp_path / "total.hdf5").touch()
    section = {"lines": [1460.8], "step": True}
    config = parse_config({"events": "total.hdf5", "model": section}, tmp_path)
    kinds = [c.kind for c in spectral_model(config).components]
    assert kinds == ["powerlaw", "gaussian", "step"]
    assert spectrum_of(model_of(config), "linebkg").model.names == spectral_model(config).names
    assert parse_config(yaml.safe_load(config.to_yaml()), tmp_path) == config


def test_the_density_is_the_upper_tail_of_the_line():
    model = background_model([1460.8], pivot=1600, step=True)
    shape = model.linebkg.spectrum.main.shape
    step = shape.functions[2]
    x = np.array([1450.0, 1460.8, 1465.0])
    expected = 1000.0 * 1e-3 * norm.sf((x - 1460.8) / 3.0)
    assert_allclose(step.evaluate(x, 1000.0, 1460.8, 3.0, 1e-3), expected, rtol=1e-12)


# --- real germanium spectra -----------------------------------------------------------------------


def real(shared_data, name: str, low: float, high: float) -> EnergySpectrum:
    path = shared_data / "spectra" / f"{name}.csv"
    if not path.is_file():
        pytest.skip(f"no {path}")
    table = np.loadtxt(path, delimiter=",", comments="#", skiprows=1)
    table = table[(table[:, 0] >= low) & (table[:, 1] <= high)]
    return EnergySpectrum(np.append(table[:, 0], table[-1, 1]), table[:, 2])


@pytest.mark.parametrize(
    ("name", "energy", "without", "with_step"),
    [("osiris_1400_1560", 1460.8, 6.0, 1.3), ("kelp_1400_1560", 1460.8, 2.5, 1.6)],
)
def test_strong_lines_have_one(shared_data, name, energy, without, with_step):
    """Deviance per degree of freedom within 20 keV of 40K, tail and curvature free in both."""
    spectrum = real(shared_data, name, energy - 20, energy + 20)
    options = dict(tail=True, continuum="powerlaw_polynomial", sigma=1.0, pivot=energy)
    per_dof = []
    for step in (False, True):
        fit = fit_spectrum(
            numerical_model(spectrum_parts([energy], step=step, **options)), spectrum
        )
        per_dof.append(fit.deviance / fit.dof)
    assert per_dof[0] > without and per_dof[1] < with_step


def test_the_area_above_a_step_is_right(shared_data):
    """214Bi at 609 keV: 36,734 +- 190 by other fits with a step; a tail alone makes it 80,000."""
    spectrum = real(shared_data, "problem1_bg_540_680", 590, 630)
    model = numerical_model(spectrum_parts([609.3], step=True, sigma=1.0))
    fit = fit_spectrum(model, spectrum)
    assert fit.values["F_2"] == pytest.approx(36734, rel=0.01)
    assert fit.values["step_3"] > 5 * fit.errors["step_3"]
