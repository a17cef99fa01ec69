"""Start values from the data."""

from dataclasses import replace

import numpy as np
import pytest
from fits import TWO_LINES, scattered

from cosi_linebkg_plugin.fit.guess import guess_values


def test_guess_stays_within_limits_and_respects_what_is_fixed(two_lines):
    rng = np.random.default_rng(3)
    model = scattered(TWO_LINES, rng)
    model = replace(
        model,
        parameters=tuple(
            replace(p, free=False, value=1777.0) if p.name == "mu_3" else p
            for p in model.parameters
        ),
    )
    guess = dict(zip(model.names, guess_values(model, two_lines), strict=True))
    assert guess["mu_3"] == 1777.0 and guess["piv_1"] == 1800.0
    assert guess["mu_2"] == pytest.approx(1633.0, abs=2.0)
    assert guess["K_1"] == pytest.approx(3000.0, rel=0.05)
    assert guess["F_2"] == pytest.approx(8e3, rel=0.2)
    for p in model.parameters:
        assert p.low <= guess[p.name] <= p.high
