"""What a search has found: as a model, as JSON, as text."""

import json
import re

import astropy.units as u
import numpy as np
import pytest
from line_spectra import draw

from cosi_linebkg_plugin import LineBackgroundLike, background_model, find_lines
from cosi_linebkg_plugin.fit.minimise import fit_spectrum
from cosi_linebkg_plugin.lines.found import search_table
from cosi_linebkg_plugin.spectrum.axis import EnergySpectrum
from cosi_linebkg_plugin.spectrum.lineshapes import gaussian_counts, powerlaw_counts


@pytest.fixture(scope="module")
def three():
    return find_lines(draw([(1633.6, 40900.0), (1778.99, 39500.0), (1893.0, 3900.0)], 5))


@pytest.mark.parametrize("tail", [False, True])
def test_model_is_the_fit(tail):
    spectrum = draw([(1633.6, 40900.0), (1778.99, 39500.0)], 3, fraction=0.23 * tail)
    found = find_lines(spectrum, tail=tail)
    plugin = LineBackgroundLike("linebkg", spectrum)
    model = found.model(pivot=1.8 * u.MeV)
    plugin.set_model(model)
    assert plugin.get_model() == pytest.approx(found.fit.expected, rel=1e-9)
    fit = plugin.fit(model)
    assert fit.deviance == pytest.approx(found.fit.deviance, abs=1e-4)
    # the lines themselves are lines of a model as well
    again = background_model(found.lines, tail=tail)
    assert plugin.fit(again).deviance == pytest.approx(found.fit.deviance, abs=1e-3)


@pytest.mark.parametrize("counts", [400.0, 20000.0])
def test_widths_beside_511_kev_are_those_of_the_search(counts):
    edges = np.arange(450.0, 651.0, 2.0)
    mean = powerlaw_counts(edges, 500.0, 550.0, -1.8)[0]
    mean = mean + gaussian_counts(edges, [counts] * 2, [511.0, 574.0], 2.1)[0]
    found = find_lines(EnergySpectrum(edges, np.random.default_rng(4).poisson(mean).astype(float)))
    assert len(found.lines) == 2
    parameters = found.model().linebkg.spectrum.main.shape.parameters
    free = {p.name: p.free for p in found.fit.model.parameters}
    assert parameters["sigma_2"].value != parameters["sigma_3"].value
    for name in ("sigma_2", "sigma_3"):  # that of 511 keV is its own, and fitted from the start
        assert parameters[name].value == found.fit.values[name]
        assert parameters[name].free == free[name]
    assert free["sigma_2"]


def test_model_without_lines_is_the_continuum():
    found = find_lines(draw([], 1))
    assert found.lines == () and "no line found above" in str(found)
    assert list(found.model().linebkg.spectrum.main.shape.parameters) == ["K", "piv", "index"]


def test_search_as_json_and_text(three):
    data = json.loads(json.dumps(three.to_dict(), allow_nan=False))
    assert [x["name"] for x in data["lines"]] == ["20F", "28Al", "?"]
    text = search_table(data)
    assert str(three).startswith(text)
    assert re.search(r"177[89]\.\d\d ± 0\.0\d +39\d\d\d ± \d+ .*28Al +28Al 1778\.99", text)


def test_windows_of_a_model_leave_room_for_the_errors():
    """Two close lines, as far apart as a search allows: sessions draw from the covariance."""
    found = find_lines(draw([(1919.3, 3100.0), (1927.0, 1600.0), (1633.6, 40900.0)], 8))
    close = [x for x in found.lines if x.energy > 1900]
    assert len(close) == 2
    inner = [close[0].window[1] - close[0].energy, close[1].energy - close[1].window[0]]
    errors = [x.error for x in close]
    assert min(np.divide(inner, errors)) < 3.0  # of the search
    parameters = {p.name: p for p in found.numerical_model().parameters}
    left, right = (parameters[x.parameter] for x in close)
    assert left.high - close[0].energy > 4.0 * errors[0]
    assert close[1].energy - right.low > 4.0 * errors[1]
    assert left.high < close[1].energy and right.low > close[0].energy
    for x in found.lines:
        p = parameters[x.parameter]
        assert p.low <= x.window[0] and p.high >= x.window[1]
    # the fit does not leave for elsewhere
    again = fit_spectrum(found.numerical_model(), found.fit.spectrum)
    assert again.deviance == pytest.approx(found.fit.deviance, abs=1e-3)
