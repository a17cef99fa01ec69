"""Sky flux and hidden line in bins of 1 keV over three data sets; the study has thirty."""

import numpy as np
import pytest
from energy_bins import EVEN, OWN, SETUPS, TRUE, trial

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::cosi_linebkg_plugin.errors.LineBackgroundWarning"),
]


@pytest.fixture(scope="module")
def runs():
    """By set-up: (seed, (deviation, error, truth), (continuum, line, sky, shift))."""
    setups = {name: SETUPS[name] for name in (OWN, EVEN, TRUE)}
    found = [trial(seed, setups) for seed in (1, 2, 3)]
    return {name: np.array([run[name] for run in found]) for name in setups}


def test_a_hidden_line_with_its_own_energies_does_not_count_as_sky(runs):
    off, error, truth = runs[OWN].transpose(1, 0, 2)
    # sky flux and shift: 4 errors of the mean, false alarm 6e-5 each
    for i in (2, 3):
        assert abs(off[:, i].mean()) < 4 * error[:, i].mean() / np.sqrt(3)
    assert abs(off[:, 1].mean()) < 0.2 * truth[0, 1]  # found from its own profile alone
    assert runs[EVEN][:, 0, 2].mean() > 0.1  # why even energies are warned of


def test_with_the_true_background_all_amounts_are_right(runs):
    off, error, _ = runs[TRUE].transpose(1, 0, 2)
    # 4 errors of the mean, false alarm 6e-5 each
    assert (abs(off.mean(axis=0)) < 4 * error.mean(axis=0) / np.sqrt(3))[1:].all()
