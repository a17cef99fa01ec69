"""The root of a function of one number, beside scipy's."""

from __future__ import annotations

import math

import pytest
from scipy.optimize import brentq

from cosi_linebkg_plugin.fit.root import root_between

FALLING = {
    "line": (lambda x: 1.0 - 3.0 * x, 0.0, 1.0),
    "exponential": (lambda x: math.exp(-x) - 1e-12, 0.0, 60.0),
    "steep": (lambda x: -math.atan(1e6 * (x - 0.123)), 0.0, 1.0),
    "flat": (lambda x: -((x - 2.0) ** 3), 0.0, 1e3),
    "at the end": (lambda x: 1.0 - x, 0.0, 1.0),
}


@pytest.mark.parametrize("name", FALLING)
@pytest.mark.parametrize("xtol", [1e-3, 1e-12])
def test_falling_functions(name, xtol):
    function, low, high = FALLING[name]
    expected = brentq(function, low, high, xtol=1e-14, maxiter=1000)
    slack = 1e-4 if name == "flat" else 1e-12  # what a number of 16 digits can tell of a cube
    assert abs(root_between(function, low, high, xtol) - expected) <= xtol + slack


def test_it_ends_at_the_last_digit():
    calls = []

    def function(x):
        calls.append(x)
        return 1e20 - x

    assert root_between(function, 0.0, 3e20, 0.0) == pytest.approx(1e20, rel=1e-15)
    assert len(calls) < 100
