"""Files of templates of several energy bins."""

import h5py
import numpy as np
import pytest
from trials import RATIO

from cosi_linebkg_plugin import BackgroundTemplate
from cosi_linebkg_plugin.app.simulation import SOURCE_RANGE

pytestmark = pytest.mark.filterwarnings("ignore::cosi_linebkg_plugin.errors.LineBackgroundWarning")

LOW, HIGH = SOURCE_RANGE
METHODS = {
    "components 0": {"order": 0, "window": (1728, 1890)},
    "components 1": {"window": (1728, 1890)},
    "components 2": {"order": 2, "window": (1728, 1890)},
    "interpolated": {"method": "interpolated"},
    "sideband": {"method": "sideband", "sidebands": [(1680, 1710), (1940, 1990)]},
    "shift": {"method": "interpolated", "sidebands": [(1780, 1790), (1830, 1840)], "shift": True},
}


def test_the_file_keeps_the_bins_and_old_files_still_open(trial, tmp_path):
    path = tmp_path / "t.h5"
    template = trial.template(line_ratio=RATIO, energy_edges="1805:1812:1")
    template.write(path)
    again = BackgroundTemplate.open(path)
    for name in ("edges", "shares", "response", "spread"):
        np.testing.assert_array_equal(
            getattr(again.energy_bins, name), getattr(template.energy_bins, name)
        )
    np.testing.assert_allclose(again.expected(), template.expected(), rtol=1e-12)
    with h5py.File(path) as file:
        assert (
            file.attrs["format"] == "cosi-linebkg template 2"
        )  # others must not take it for one bin
    plain = trial.template(line_ratio=RATIO)
    plain.write(path)
    with h5py.File(path) as file:
        assert file.attrs["format"] == "cosi-linebkg template 1"
        assert "energy_bins" not in file
    template.write(path)
    with h5py.File(path, "a") as file:
        file["energy_bins/spread"][0, 0, 0, 0] = np.nan
    with pytest.raises(
        Exception, match="damaged template.*spread of its energy bins is not finite"
    ):
        BackgroundTemplate.open(path)
