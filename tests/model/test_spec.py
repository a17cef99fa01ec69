"""The model in numbers is what is read out of the astromodels composite, for every part of it."""

import itertools
from dataclasses import replace

import numpy as np
import pytest

from cosi_linebkg_plugin import background_model, find_lines
from cosi_linebkg_plugin.fit.minimise import fit_spectrum
from cosi_linebkg_plugin.model.read import spectrum_of
from cosi_linebkg_plugin.model.spec import CONTINUA, WIDTHS, numerical_model, spectrum_parts
from cosi_linebkg_plugin.spectrum.axis import EnergySpectrum


def assert_same(numbers, composite):
    """The same but for the last digit of a value that astromodels keeps as a logarithm."""
    for ours, theirs in zip(numbers.parameters, composite.parameters, strict=True):
        assert ours.value == pytest.approx(theirs.value, rel=1e-14, abs=0)
        assert replace(ours, value=0.0) == replace(theirs, value=0.0)
    assert numbers.links == composite.links and numbers.components == composite.components


LINES = {
    "none": [],
    "one": [1779.0],
    "some": [1612, (1635, (1620, 1640)), 1666, 1779],
    "annihilation": [511, 600, {"energy": 700, "width": "own"}, {"energy": 900, "width": "shared"}],
    "two": [
        480,
        {"energy": 600, "width": "annihilation"},
        {"energy": 900, "width": "annihilation"},
    ],
    "own": [{"energy": 511, "width": "shared"}, {"energy": 800, "width": "own"}],
}


@pytest.mark.parametrize("lines", LINES)
@pytest.mark.parametrize(
    ("continuum", "width", "tail", "step"),
    list(itertools.product(CONTINUA, WIDTHS, (False, True), (False, True))),
)
def test_numbers_are_those_of_the_composite(lines, continuum, width, tail, step):
    options = {"sigma": 2.5, "width": width, "tail": tail, "step": step, "continuum": continuum}
    for pivot in (None, 1750.0):
        composite = background_model(LINES[lines], pivot=pivot, **options)
        numbers = numerical_model(spectrum_parts(LINES[lines], pivot=pivot, **options))
        assert_same(numbers, spectrum_of(composite, "linebkg").current_model())


def test_a_search_from_511_kev_gives_the_same_numbers():
    edges = np.arange(450.0, 700.1, 2.0)
    truth = numerical_model(spectrum_parts([{"energy": 511, "width": "shared"}, 600], pivot=550))
    theta = np.array([{"F_2": 3e4, "F_3": 2e4}.get(p.name, p.value) for p in truth.parameters])
    counts = np.random.default_rng(5).poisson(truth.bind(edges).counts(theta)).astype(float)
    search = find_lines(EnergySpectrum(edges, counts))
    numbers = search.numerical_model()
    assert {"sigma_2", "sigma_3"} <= set(numbers.names)
    assert_same(numbers, spectrum_of(search.model(), "linebkg").current_model())
    assert fit_spectrum(numbers, EnergySpectrum(edges, counts)).valid


def test_what_cannot_be_is_refused_alike():
    for bad in ({"lines": [1, 1]}, {"width": "wide"}, {"continuum": "flat"}, {"sigma": 99}):
        messages = []
        for make in (background_model, spectrum_parts):
            with pytest.raises(Exception) as caught:
                make(**bad)
            messages.append(f"{type(caught.value).__name__}: {caught.value}")
        assert messages[0] == messages[1] and messages[0].startswith("ModelError")
