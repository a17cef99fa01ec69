"""Reading an astromodels spectrum, ours or a user's own, into numbers."""

from dataclasses import replace

import numpy as np
import pytest
from astromodels import (
    Band,
    Constant,
    Gaussian,
    Line,
    Log_parabola,
    Model,
    ParticleSource,
    PointSource,
    Powerlaw,
)
from numpy.testing import assert_allclose
from spectra import simulated_spectrum

from cosi_linebkg_plugin import background_model
from cosi_linebkg_plugin.errors import ModelError
from cosi_linebkg_plugin.fit.minimise import fit_spectrum
from cosi_linebkg_plugin.model.read import SpectrumReader, shape_of, spectrum_of

EDGES = np.linspace(1500.0, 2000.0, 101)


def reader(function):
    return SpectrumReader([shape_of(Model(ParticleSource("linebkg", function)))])


def shape(model):
    return model.linebkg.spectrum.main.shape


def counts(r):
    return r.model.bind(EDGES).counts(r.values())


def test_density_is_what_is_integrated():
    model = background_model([1612, 1635], tail=True)
    x, w = np.polynomial.legendre.leggauss(20)
    nodes = EDGES[:-1, None] + 2.5 * (1 + x)
    density = shape(model)(nodes.ravel()).reshape(nodes.shape)
    assert_allclose(counts(spectrum_of(model, "linebkg")), 2.5 * density @ w, rtol=1e-10)


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


@pytest.mark.parametrize("kind", ["curved", "product", "sum"])
def test_any_astromodels_function_is_a_continuum(kind):
    tilt, law, second = Line(), Powerlaw(), Powerlaw()
    for p in (law, second):
        p.K.bounds, p.K.value, p.piv.value, p.index.value = (1e-10, None), 500.0, 1800.0, -2.0
    tilt.a.value, tilt.b.value, tilt.b.fix = 1.0, 1e-4, True
    tilt.a.fix, second.index.value, second.index.fix = True, 1.0, True
    curved = Log_parabola()
    curved.K.bounds, curved.K.value, curved.piv.value = (1e-10, None), 1e3, 1800.0
    function = {"curved": curved, "product": law * tilt, "sum": law + second}[kind]
    model = background_model([1633, 1779], continuum=function)
    truth = spectrum_of(background_model([1633, 1779], pivot=1800), "linebkg").current_model()
    spectrum = simulated_spectrum(truth, EDGES, np.random.default_rng(2))
    lines = [n for n in shape(model).parameters if n.startswith("F_")]
    assert len(lines) == 2
    fit = fit_spectrum(spectrum_of(model, "linebkg").current_model(), spectrum)
    assert fit.expected_counts((1500, 2000)).labels == ("continuum", "lines")
    assert fit.expected_counts((1500, 2000)).total == pytest.approx(spectrum.counts.sum(), rel=2e-3)


@pytest.mark.parametrize("source", ["particle", "point", "none"])
def test_units_are_those_of_counts(source):
    """On a PointSource the F of a line was printed in 1/(s cm2)."""
    own = _powerlaw(-2.0) + _gaussian(1700, 5.0)
    if source == "particle":
        Model(ParticleSource("linebkg", own))
    elif source == "point":
        Model(PointSource("star", 0.0, 0.0, spectral_shape=own))
    units = {p.name: p.unit for p in SpectrumReader([own]).current_model().parameters}
    assert units == {
        "K_1": "counts / keV", "piv_1": "keV", "index_1": "",
        "F_2": "counts", "mu_2": "keV", "sigma_2": "keV",
    }  # fmt: skip


def test_units_of_the_other_shapes():
    model = background_model(
        [1612, 1700], width="linear", tail=True, continuum="broken_powerlaw", pivot=1800
    )
    units = {p.name: p.unit for p in spectrum_of(model, "linebkg").model.parameters}
    assert units["a_2"] == "keV2" and units["b_2"] == units["length_2"] == "keV"
    assert units["xb_1"] == "keV" and units["fraction_2"] == units["alpha_1"] == ""
