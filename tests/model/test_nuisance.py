"""Nuisance parameters of plugins and of their simulated data sets."""

import pickle

import pytest
from astromodels import Gaussian, Powerlaw, Uniform_prior

from cosi_linebkg_plugin import background_model
from cosi_linebkg_plugin.model.nuisance import nuisance_parameters, simulated_parameters
from cosi_linebkg_plugin.model.read import shape_of


def test_copies_carry_everything_but_the_name():
    shape = shape_of(background_model([1612, 1700], pivot=1800))
    own = shape.parameters
    own["mu_2"].fix = True
    own["F_2"].value, own["F_2"].prior = 321.0, Uniform_prior(lower_bound=0.0, upper_bound=1e3)
    copies = nuisance_parameters("lb", shape)
    assert list(copies) == [f"lb_{name}" for name in own if name != "sigma_3"]  # sigma_3 is linked
    for key, copy in copies.items():
        original = own[key.removeprefix("lb_")]
        assert copy.name == key and copy.stands_for == ""
        for what in ("value", "bounds", "free", "delta", "is_normalization", "transformation"):
            assert getattr(copy, what) == getattr(original, what), (key, what)
    assert copies["lb_F_2"].prior is own["F_2"].prior
    copies["lb_F_2"].value = 5.0
    assert own["F_2"].value == 321.0


def test_simulated_parameters_stand_for_the_original():
    originals = nuisance_parameters("lb", Powerlaw() + Gaussian())
    originals["lb_K_1"].fix = True
    originals["lb_F_2"].value = 7.0
    simulated = nuisance_parameters("toy", Powerlaw() + Gaussian())
    simulated_parameters(simulated, originals)
    assert [p.name for p in simulated.values()] == list(simulated)
    assert [p.stands_for for p in simulated.values()] == list(originals)
    assert not simulated["toy_K_1"].free and simulated["toy_F_2"].value == 7.0
    again = pickle.loads(pickle.dumps(simulated["toy_F_2"]))
    assert again.stands_for == "lb_F_2" and again.value == 7.0
    with pytest.raises(ValueError, match="zip"):
        simulated_parameters(simulated, {"lb_K_1": originals["lb_K_1"]})
