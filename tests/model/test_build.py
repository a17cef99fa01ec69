"""The astromodels composite, and reading it (or a user's own) into numbers."""

import astropy.units as u
import numpy as np
import pytest
import yaml
from astromodels import (
    ParticleSource,
    clone_model,
    load_model,
)
from numpy.testing import assert_allclose

from cosi_linebkg_plugin import background_model
from cosi_linebkg_plugin.errors import BinningError, ModelError
from cosi_linebkg_plugin.model.read import spectrum_of

EDGES = np.linspace(1500.0, 2000.0, 101)


def shape(model):
    return model.linebkg.spectrum.main.shape


def counts(r):
    return r.model.bind(EDGES).counts(r.values())


def test_parameters_links_and_limits():
    model = background_model([1635, (1612 * u.keV, (1.6, 1.62) * u.MeV)], pivot=1.8 * u.MeV)
    p = shape(model).parameters
    assert list(p) == ["K_1", "piv_1", "index_1", "F_2", "mu_2", "sigma_2", "F_3", "mu_3",
                       "sigma_3"]  # fmt: skip
    assert p["piv_1"].value == 1800.0 and not p["piv_1"].free
    assert p["mu_2"].value == 1612.0 and p["mu_2"].bounds == (1600.0, 1620.0)
    # without a window: 10 keV, at most half the distance to the neighbour
    assert p["mu_3"].bounds == (1635.0 - 10.0, 1645.0)
    assert p["F_2"].min_value == 0.0 and 0 < p["K_1"].min_value < 1e3
    assert p["sigma_3"].has_auxiliary_variable and not p["sigma_3"].free
    p["sigma_2"].value = 4.5
    assert p["sigma_3"].value == 4.5
    p["K_1"].value = 5000.0  # the tutorial's start; astromodels' own maximum is 1e3
    assert len(model.free_parameters) == 7


def test_no_lines_give_the_continuum_alone():
    model = background_model()
    assert list(model.free_parameters) == [
        "linebkg.spectrum.main.Powerlaw.K", "linebkg.spectrum.main.Powerlaw.index"
    ]  # fmt: skip
    assert isinstance(model.linebkg, ParticleSource)


@pytest.mark.parametrize("tail", [False, True])
def test_survives_a_file_and_a_clone(tmp_path, tail):
    model = background_model([1612, 1635, 1670], tail=tail)
    model.save(str(tmp_path / "model.yml"))
    for copy in (load_model(str(tmp_path / "model.yml")), clone_model(model)):
        assert list(copy.free_parameters) == list(model.free_parameters)
        assert_allclose(counts(spectrum_of(copy, "linebkg")), counts(spectrum_of(model, "linebkg")))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (dict(lines=[1612, 1612.0]), "same energy 1612"),
        (dict(lines=[(1612, (1620, 1630))]), "outside its window"),
        (dict(lines=[(1612, 1620, 1630)]), r"give an energy or \(energy, \(low, high\)\)"),
        (dict(lines=[-3.0]), "must be positive"),
        (dict(sigma=0.0), "sigma is 0 keV"),
        (dict(pivot=-1.0), "pivot energy must be positive"),
    ],
)
def test_bad_input_is_named(arguments, message):
    with pytest.raises(ModelError, match=message):
        background_model(**arguments)


def test_a_bad_window_is_named():
    with pytest.raises(BinningError, match="window of line 1"):
        background_model([(1612, (1630, 1600))])


def test_a_configuration_names_them(tmp_path):
    from cosi_linebkg_plugin.app.config import parse_config
    from cosi_linebkg_plugin.app.fitting import model_of
    from cosi_linebkg_plugin.errors import ConfigError

    (tmp_path / "total.hdf5").touch()
    section = {
        "width": "linear", "tail": True, "continuum": "broken_powerlaw",
        "lines": [511, {"energy": 600, "width": "own"}, {"energy": 900}, 1200],
    }  # fmt: skip
    config = parse_config({"events": "total.hdf5", "model": section}, tmp_path)
    assert parse_config(yaml.safe_load(config.to_yaml()), tmp_path) == config
    numbers = spectrum_of(model_of(config), "linebkg").model
    assert [c.kind for c in numbers.components] == [
        "broken_powerlaw", "annihilation", "tailed_gaussian", *2 * ["linear_tailed_gaussian"]
    ]  # fmt: skip
    assert numbers.links["a_5"] == "a_4" and "sigma_3" in numbers.names
    for key, value, message in (
        ("width", "quadratic", "model.width: got 'quadratic'; allowed is 'constant' or 'linear'"),
        ("continuum", "spline", "model.continuum: got 'spline'; allowed is 'powerlaw', 'broken_po"),
        ("lines", [{"energy": 511, "width": "free"}], r"lines\[0\].width: got 'free'; allowed is"),
    ):
        with pytest.raises(ConfigError, match=message):
            parse_config({"events": "total.hdf5", "model": {key: value}}, tmp_path)


def test_511_kev_has_two_widths_of_its_own():
    p = shape(background_model([500, 511.3, 530], tail=True)).parameters
    assert p["sigma_4"].has_auxiliary_variable and not p["sigma_3"].has_auxiliary_variable
    assert {"broad_3", "ratio_3"} <= set(p) and "length_3" not in p and "broad_2" not in p
    p = shape(background_model([500, {"energy": 511, "width": "own"}, 530])).parameters
    assert not p["sigma_3"].has_auxiliary_variable and "broad_3" not in p
    p = shape(background_model([500, {"energy": 511, "width": "shared"}, 530])).parameters
    assert p["sigma_3"].has_auxiliary_variable
    p = shape(background_model([500, {"energy": 530, "width": "own"}], tail=True)).parameters
    assert not p["sigma_3"].has_auxiliary_variable and p["fraction_3"].has_auxiliary_variable


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            dict(lines=[{"energy": 1612, "width": "free"}]),
            "width of line 1 must be one of shared, own",
        ),
        (dict(lines=[{"energy": 1612, "sigma": 3}]), "takes energy, window and width"),
        (dict(width="quadratic"), "width must be one of constant, linear"),
        (dict(continuum="spline"), "continuum must be one of powerlaw, broken_powerlaw"),
    ],
)
def test_bad_options_are_named(arguments, message):
    with pytest.raises(ModelError, match=message):
        background_model(**arguments)
