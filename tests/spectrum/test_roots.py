import math

import pytest

from cosi_linebkg_plugin.spectrum.roots import falls_to_zero


@pytest.mark.parametrize(
    ("function", "high", "expected"),
    [
        (lambda x: 2.0 - x * x, 2.0, math.sqrt(2.0)),
        (lambda x: 2.0 - x * x, 1e3, math.sqrt(2.0)),
        (lambda x: math.exp(-x) - 1e-9, 1e3, 9.0 * math.log(10.0)),
        (lambda x: 1.0 / (1.0 + x * x) - 1e-6, 1e6, math.sqrt(1e6 - 1.0)),
        (lambda x: -((x - 1.0) ** 9), 2.0, 1.0),
        (lambda x: math.copysign(1.0, 0.3 - x), 1.0, 0.3),  # a step
        (lambda x: 5.0 - x, 5.0, 5.0),  # at its end
    ],
)
@pytest.mark.parametrize("bits", [10, 40])
def test_a_root_is_found_to_the_bits(function, high, expected, bits):
    calls = []

    def counted(x):
        calls.append(x)
        return function(x)

    assert abs(falls_to_zero(counted, high, bits) - expected) <= high / 2.0**bits
    assert all(0.0 <= x <= high for x in calls) and len(calls) <= bits + 1
