"""Line and positronium in bins of 1 keV across 511 keV over two data sets; the study has thirty."""

import numpy as np
import pytest
from positronium import NAMES, QUIET, SETUPS, TRUE, trial

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::cosi_linebkg_plugin.errors.LineBackgroundWarning"),
]


@pytest.fixture(scope="module")
def runs():
    """By set-up: (seed, (deviation, error, truth), name)."""
    setups = {name: SETUPS[name] for name in (QUIET, TRUE)}
    found = [trial(seed, setups) for seed in (1, 2)]
    return {name: np.array([run[name] for run in found]) for name in setups}


@pytest.mark.parametrize("setup", [QUIET, TRUE])
@pytest.mark.parametrize("name", NAMES[1:])
def test_line_step_shift_and_hidden_line_come_out_right(runs, setup, name):
    off, error, _ = runs[setup][:, :, NAMES.index(name)].T
    # 4 errors of the mean, false alarm 6e-5 each
    assert abs(off.mean()) < 4 * error.mean() / np.sqrt(2)


def test_what_the_template_costs(runs):
    """On the same counts, beside the true background: within an error; a tenth more error."""
    quiet, true = runs[QUIET], runs[TRUE]
    cost = ((quiet[:, 0] - true[:, 0]) / true[:, 1]).mean(axis=0)
    assert (np.abs(cost[1:]) < 1.0).all()
    assert (quiet[:, 1, 2:] < 1.1 * true[:, 1, 2:]).all()
