"""The fit of a configuration is that of the astromodels composite by the plugin."""

import json
from dataclasses import replace

import numpy as np
import pytest
import yaml

from cosi_linebkg_plugin import LineBackgroundLike, find_lines
from cosi_linebkg_plugin.app.config import parse_config
from cosi_linebkg_plugin.app.fitting import (
    fit_config,
    hidden_widths,
    model_of,
    require_fit_of,
    search_options,
    spectral_model,
)
from cosi_linebkg_plugin.errors import ConfigError
from cosi_linebkg_plugin.model.read import spectrum_of
from cosi_linebkg_plugin.model.spec import numerical_model, spectrum_parts
from cosi_linebkg_plugin.spectrum.axis import EnergySpectrum

EDGES = np.arange(1500.0, 2000.1, 5.0)


def assert_same(numbers, composite):
    """The same but for the last digit of a value that astromodels keeps as a logarithm."""
    for ours, theirs in zip(numbers.parameters, composite.parameters, strict=True):
        assert ours.value == pytest.approx(theirs.value, rel=1e-14, abs=0)
        assert replace(ours, value=0.0) == replace(theirs, value=0.0)
    assert numbers.links == composite.links and numbers.components == composite.components


def config_of(folder, **model):
    (folder / "total.hdf5").touch()
    return parse_config({"events": "total.hdf5", "model": model}, folder)


@pytest.fixture(scope="module")
def spectrum():
    truth = {"K_1": 900.0, "index_1": -2.2, "F_2": 2e4, "F_3": 3e4, "sigma_2": 2.9}
    model = numerical_model(spectrum_parts([1634, 1779], pivot=1750))
    theta = np.array([truth.get(p.name, p.value) for p in model.parameters])
    counts = np.random.default_rng(4).poisson(model.bind(EDGES).counts(theta)).astype(float)
    return EnergySpectrum(EDGES, counts).with_mask([(1790, 1825)])


@pytest.mark.parametrize(
    "model",
    [
        {"lines": [1634, 1779]},
        {"lines": [1634, {"energy": 1779, "width": "own"}], "continuum": "broken_powerlaw"},
        {"lines": [1634, 1779], "width": "linear", "continuum": "powerlaw_polynomial"},
        {"lines": [1634, 1779], "tail": True, "pivot": 1700},
        {"lines": [1634, 1779], "step": True},
        {"lines": "auto"},
        {"lines": "auto", "tail": True, "search": {"fix_to_catalogue": True}},
        {"lines": "auto", "width": "linear", "search": {"fix_to_catalogue": True}},
        {"lines": "auto", "search": {"max_lines": 0}},
    ],
)
def test_fits_are_those_of_the_plugin(tmp_path, spectrum, model):
    config = config_of(tmp_path, **model)
    direct = fit_config(config, spectrum)
    search = None
    if model["lines"] == "auto":
        search = find_lines(spectrum, **search_options(config))
    composite = model_of(config, search)
    assert_same(spectral_model(config, search), spectrum_of(composite, "linebkg").current_model())
    through = LineBackgroundLike("linebkg", spectrum).fit(composite)
    for name, error in direct.errors.items():
        assert abs(direct.values[name] - through.values[name]) < 1e-5 * error
    np.testing.assert_allclose(direct.covariance, through.covariance, rtol=1e-4, atol=1e-12)
    a, b = (json.loads(fit.to_json(source_range=(1805, 1812))) for fit in (direct, through))
    assert a.keys() - {"line_search"} == b.keys()
    assert a["covariance"]["names"] == b["covariance"]["names"] and a["dof"] == b["dof"]
    assert a["deviance"] == pytest.approx(b["deviance"], abs=1e-7)
    for name, row in a["parameters"].items():
        assert row["unit"] == b["parameters"][name]["unit"]
        assert row["free"] == b["parameters"][name]["free"]
    assert list(a["parameters"]) == list(b["parameters"])
    if search is not None and config.model.continuum == "powerlaw":
        assert search.numerical_model().names == spectrum_of(search.model(), "linebkg").model.names
        moved = spectrum_of(search.model(pivot=1700), "linebkg").current_model()
        assert_same(search.numerical_model(pivot=1700), moved)


@pytest.mark.parametrize("engine", ["minuit", "joint_likelihood"])
def test_faint_lines_are_marginalised_and_told(tmp_path, spectrum, engine):
    (tmp_path / "total.hdf5").touch()
    model = {"lines": [1634, 1779], "pivot": 1750, "faint_lines": [1652]}
    given = {"events": "total.hdf5", "engine": engine, "source_range": [1805, 1812]}
    fit = fit_config(parse_config(given | {"model": model}, tmp_path), spectrum)
    assert fit.engine == engine and fit.faint.where == (1805, 1812)
    assert 1652 in [x.energy for x in fit.faint.lines]
    counts = fit.expected_counts((1805, 1812))
    assert fit.faint.after == pytest.approx((counts.values[0], counts.errors[0]))
    assert "below detection" in fit.summary()
    assert json.loads(fit.to_json())["faint_lines"]["range"] == [1805, 1812]
    plain = fit_config(config_of(tmp_path, lines=[1634, 1779], pivot=1750), spectrum)
    assert plain.faint is None and "faint_lines" not in json.loads(plain.to_json())


def test_the_configuration_of_the_composite_loads(tmp_path):
    config = config_of(tmp_path, lines=[1634, 1779], tail=True)
    assert yaml.safe_load(config.to_yaml())["model"]["tail"] is True
    assert list(model_of(config).free_parameters)


def test_a_fit_with_another_mask_is_refused(tmp_path, spectrum):
    fit = fit_config(config_of(tmp_path, lines=[1634, 1779]), spectrum)
    require_fit_of(spectrum, fit)
    other = spectrum.with_mask([(1600, 1610)])
    with pytest.raises(ConfigError, match="made with 1790-1825 keV masked, .* masks 1600-1610 keV"):
        require_fit_of(other, fit)
    with pytest.raises(ConfigError, match="masks nothing"):
        require_fit_of(spectrum.with_mask([]), fit)


def test_a_width_that_the_bins_do_not_show_is_held_in_every_engine():
    config = parse_config(
        {"events": __file__, "model": {"pivot": 1800, "lines": [1700, 1850]}}, "/"
    )
    wide, fine = (
        EnergySpectrum(np.arange(1500.0, 2001.0, w), np.full(int(500 / w), 100.0)) for w in (20, 5)
    )
    model = spectral_model(config)
    assert hidden_widths(model, wide) == {"sigma_2"} and hidden_widths(model, fine) == set()
    held = {p.name: p.free for p in spectral_model(config, None, wide).parameters}
    assert not held["sigma_2"] and held["mu_2"]
    assert {p.name: p.free for p in spectral_model(config, None, fine).parameters}["sigma_2"]
    shape = model_of(config, None, wide).linebkg.spectrum.main.shape
    assert not shape.sigma_2.free and shape.sigma_2.value == 3.0
