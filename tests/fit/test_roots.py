"""Zeros of functions: those of scipy, to the last bit."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import brentq

from cosi_linebkg_plugin.fit.roots import find_root

FUNCTIONS = {
    "line": lambda x: 3.0 * x - 1.0,
    "cubic, flat at its zero": lambda x: (x - 0.7) ** 3,
    "step": lambda x: math.copysign(1.0, x - 1.3),
    "pole": lambda x: 1.0 / (x - 0.4) if x != 0.4 else 1e300,
    "sum of fractions": lambda x: sum(k / (1.0 + k * x * x) for k in (1.0, 5.0, 80.0)) - 9.0,
    "falling exponential": lambda x: math.exp(-5.0 * x) - 1e-3,
    "tiny values": lambda x: 1e-300 * (x - 0.31) * (x + 2.0),
}


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("near", [1e-7, 1e-12, 2e-9])
@given(low=st.floats(-2.0, 0.2), high=st.floats(0.9, 40.0))
def test_the_result_is_that_of_scipy(name, near, low, high):
    f = FUNCTIONS[name]
    if f(low) * math.copysign(1.0, f(high)) >= 0.0 and f(low) != 0.0 and f(high) != 0.0:
        with pytest.raises(ValueError, match="does not change its sign"):
            find_root(f, low, high, near)
        return
    assert find_root(f, low, high, near) == brentq(f, low, high, xtol=near, maxiter=1000)


def test_a_zero_at_an_end_is_found_at_once():
    assert find_root(lambda x: x, 0.0, 3.0, 1e-9) == 0.0
    assert find_root(lambda x: x - 3.0, 0.0, 3.0, 1e-9) == 3.0


@pytest.mark.parametrize("function", [lambda x: 1.0 + x, lambda x: math.nan, lambda x: x - 1.0])
def test_what_has_no_bracket_is_refused(function):
    high = math.inf if function(1.0) == 0.0 else 2.0
    with pytest.raises(ValueError, match="between 0 and"):
        find_root(function, 0.0, high, 1e-9)
