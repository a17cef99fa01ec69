"""The astromodels composite, and reading it (or a user's own) into numbers."""

import subprocess
import sys
from dataclasses import replace

import astropy.units as u
import numpy as np
import pytest
from astromodels import (
    Band,
    Constant,
    Gaussian,
    Line,
    Model,
    ParticleSource,
    Powerlaw,
    clone_model,
    load_model,
)
from numpy.testing import assert_allclose

from cosi_linebkg_plugin import background_model
from cosi_linebkg_plugin.errors import BinningError, ModelError
from cosi_linebkg_plugin.model.read import SpectrumReader, shape_of, spectrum_of

EDGES = np.linspace(1500.0, 2000.0, 101)


def shape(model):
    return model.linebkg.spectrum.main.shape


def reader(function):
    return SpectrumReader([shape_of(Model(ParticleSource("linebkg", function)))])


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


def test_density_is_what_is_integrated():
    model = background_model([1612, 1635], tail=True)
    x, w = np.polynomial.legendre.leggauss(20)
    nodes = EDGES[:-1, None] + 2.5 * (1 + x)
    density = shape(model)(nodes.ravel()).reshape(nodes.shape)
    assert_allclose(counts(spectrum_of(model, "linebkg")), 2.5 * density @ w, rtol=1e-10)


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


# --- a user's own composite ----------------------------------------------------------------------


def _gaussian(mu, sigma, f=1e4):
    line = Gaussian()
    line.F.value, line.mu.value, line.sigma.value = f, mu, sigma
    return line


def _powerlaw(index, k=500.0):
    law = Powerlaw()
    law.piv.value, law.index.value, law.K.value = 1800.0, index, k
    return law


def test_any_number_of_closed_forms_with_free_widths():
    own = _powerlaw(-1.0) + _gaussian(1612, 2.0) + _powerlaw(-3.0) + _gaussian(1700, 5.0)
    r = reader(own)
    assert [c.kind for c in r.model.components] == ["powerlaw", "gaussian", "powerlaw", "gaussian"]
    assert r.model.links == {}
    fine = np.linspace(1500, 2000, 100001)
    mid = 0.5 * (fine[1:] + fine[:-1])
    midpoint = (own(mid) * np.diff(fine)).reshape(100, -1).sum(axis=1)
    assert_allclose(counts(r), midpoint, rtol=1e-6)


def test_other_functions_and_products_are_integrated_by_quadrature():
    tilt = Line()
    tilt.a.value, tilt.b.value = 1.0, 2e-4
    own = _powerlaw(-2.0) * tilt + _gaussian(1700, 5.0)
    r = reader(own)
    assert [c.kind for c in r.model.components] == ["function", "gaussian"]
    fine = np.linspace(1500, 2000, 100001)
    mid = 0.5 * (fine[1:] + fine[:-1])
    midpoint = (own(mid) * np.diff(fine)).reshape(100, -1).sum(axis=1)
    assert_allclose(counts(r), midpoint, rtol=1e-6)
    bound = r.model.bind(EDGES)
    theta = r.values()
    _, jac = bound.counts_and_jacobian(theta)
    for i, p in enumerate(r.model.parameters):
        if not p.free:
            continue
        step = 1e-6 * max(abs(theta[i]), 1e-2)
        up, down = theta.copy(), theta.copy()
        up[i] += step
        down[i] -= step
        numeric = (bound.counts(up) - bound.counts(down)) / (2 * step)
        assert_allclose(jac[i], numeric, rtol=1e-5, atol=1e-5 * np.abs(numeric).max())
    assert shape_of(own).parameters["b_2"].value == 2e-4  # evaluation leaves the function alone


def test_difference_and_band_are_quadrature_too():
    band = Band()
    band.K.value = 0.5
    constant = Constant()
    constant.k.value = 3.0
    own = band + constant - _gaussian(1700, 5.0, 1.0)
    r = reader(own)
    assert [c.kind for c in r.model.components] == ["function"]
    assert np.all(np.isfinite(counts(r)))


def test_a_width_that_follows_a_law():
    model = background_model([1612, 1900])
    p = shape(model).parameters
    p["sigma_3"].remove_auxiliary_variable()
    law = Line()
    law.a.value, law.b.value = 1.0, 1.1
    law.a.fix = law.b.fix = True
    model.link(p["sigma_3"], p["sigma_2"], law)
    r = spectrum_of(model, "linebkg")
    assert r.values()[r.model.names.index("sigma_3")] == pytest.approx(1.0 + 1.1 * 3.0)
    bound, theta = r.model.bind(EDGES), r.values()
    i = r.model.names.index("sigma_2")
    _, jac = bound.counts_and_jacobian(theta)
    up, down = theta.copy(), theta.copy()
    up[i] += 1e-4
    down[i] -= 1e-4
    numeric = (bound.counts(up) - bound.counts(down)) / 2e-4
    assert_allclose(jac[i], numeric, rtol=1e-6, atol=1e-6 * np.abs(numeric).max())


def test_a_missing_source_is_named():
    model = background_model([1612], source="other")
    with pytest.raises(ModelError, match="no source named 'linebkg'; it has other"):
        spectrum_of(model, "linebkg")


def test_spectrum_must_be_a_function():
    with pytest.raises(ModelError, match="got str"):
        shape_of("powerlaw")


def test_values_written_back_respect_bounds():
    model = background_model([1612])
    r = spectrum_of(model, "linebkg")
    theta = r.values()
    theta[r.model.names.index("F_2")] = -1e-12
    r.set_values(theta)
    assert shape(model).parameters["F_2"].value == 0.0
    start = r.current_model()
    assert replace(start.parameters[3]).value == 0.0
