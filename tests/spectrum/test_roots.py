import math

import pytest

from cosi_linebkg_plugin.spectrum.roots import root


@pytest.mark.parametrize(
    ("function", "low", "high", "expected"),
    [
        (lambda x: x * x - 2.0, 0.0, 2.0, math.sqrt(2.0)),
        (lambda x: 2.0 - x * x, 0.0, 1e3, math.sqrt(2.0)),
        (lambda x: math.exp(-x) - 1e-9, 0.0, 1e3, 9.0 * math.log(10.0)),
        (lambda x: 1.0 / (1.0 + x * x) - 1e-6, 0.0, 1e6, math.sqrt(1e6 - 1.0)),
        (lambda x: x**9, -1.0, 2.0, 0.0),
        (lambda x: math.copysign(1.0, x - 0.3), 0.0, 1.0, 0.3),  # a step
    ],
)
def test_a_root_is_found_to_the_tolerance(function, low, high, expected):
    calls = []

    def counted(x):
        calls.append(x)
        return function(x)

    assert abs(root(counted, low, high, 1e-9) - expected) <= 2e-9
    assert all(low <= x <= high for x in calls) and len(calls) < 200


def test_a_root_at_an_end_is_that_end():
    assert root(lambda x: x - 1.0, 1.0, 5.0, 1e-9) == 1.0
    assert root(lambda x: x - 5.0, 1.0, 5.0, 1e-9) == 5.0


def test_numbers_next_to_each_other_end_the_search():
    found = root(lambda x: x * x - 2.0, 1.0, 2.0, 0.0)
    assert abs(found - math.sqrt(2.0)) <= 5e-16


def test_one_sign_is_refused():
    with pytest.raises(ValueError, match="one sign at 1 and 2"):
        root(lambda x: x, 1.0, 2.0, 1e-9)
