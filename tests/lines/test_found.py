"""What a search has found: as a model, as JSON, as text."""

import json
import re

import astropy.units as u
import numpy as np
import pytest
from line_spectra import draw

from cosi_linebkg_plugin import LineBackgroundLike, background_model, find_lines
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
