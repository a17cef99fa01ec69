"""Sky flux and hidden line in bins of 1 keV over three data sets; the study has thirty."""

import numpy as np
import pytest
from energy_bins import SETUPS, trial

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::cosi_linebkg_plugin.errors.LineBackgroundWarning"),
]


def test_a_hidden_line_with_its_own_energies_does_not_count_as_sky():
    own, even, _narrow = SETUPS
    runs = [trial(seed, {name: SETUPS[name] for name in (own, even)}) for seed in (1, 2, 3)]
    off, error, _ = np.array([run[own] for run in runs]).transpose(1, 0, 2)
    # sky flux and shift: 4 errors of the mean, false alarm 6e-5 each
    for i in (2, 3):
        assert abs(off[:, i].mean()) < 4 * error[:, i].mean() / np.sqrt(3)
    of_line = off[:, 1].mean() / np.mean([run[own][2, 1] for run in runs])
    assert abs(of_line) < 0.2  # found from its own profile alone
    assert np.mean([run[even][0, 2] for run in runs]) > 0.1  # why even energies are warned of
