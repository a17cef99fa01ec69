"""Options that are refused, and what is said of the others."""

import astropy.units as u
import numpy as np
import pytest
from binned import COARSE, EDGES
from event_lists import START

from cosi_linebkg_plugin import bin_events
from cosi_linebkg_plugin.errors import (
    BinningError,
    LineBackgroundError,
    LineBackgroundWarning,
)
from cosi_linebkg_plugin.events.options import BinningOptions


@pytest.mark.parametrize(
    "option, message",
    [
        (dict(nside=3), "nside must be a power of 2"),
        (dict(nside=2.0), "nside must be a power of 2"),
        (dict(scheme="spiral"), "scheme must be one of ring, nested"),
        (dict(frame="local"), "'spacecraftframe'"),
        (dict(energy_edges=[3, 2]), "increas"),
        (dict(energy_edges="1500:2000:7"), "the width does not divide the range"),
        (dict(energy_edges="1500-2000"), "low:high:width"),
        (dict(energy_edges=[1, 2] * u.s), "keV"),
        (dict(phi_pix_size=0), "phi_pix_size must be above 0"),
        (dict(phi_edges=[0, 90]), "either phi_edges or phi_pix_size"),
        (dict(phi_pix_size=None, phi_edges=[0, 190]), "0-180 deg"),
        (dict(phi_pix_size=None, phi_edges=[0, 90, 90]), "edge 2 is 90 after 90"),
        (dict(time_bins=5), "needs tmin and tmax"),
        (dict(time_bins=50, tmin=0, tmax=10), "width"),
        (dict(time_bins=-1, tmin=0, tmax=10), "width"),
        (dict(tmin=5, tmax=5), "tmin must be below tmax"),
        (dict(time_edges=[0, 1], scatt_bins=4), "only one of"),
        (dict(time_edges=[3, 4], tmin=1), "do not cover"),
        (dict(scatt_bins=0), "scatt_bins"),
        (dict(energy_range=(5, 2)), "energy_range must be"),
        (dict(phi_range=5), "phi_range must be"),
        (dict(pointing=(0, 100, 3)), "pointing must be"),
        (dict(pointing=3), "pointing must be"),
        (dict(good_times=[[3, 4]], tmin=8), "No good time"),
        (dict(nside=8192, energy_edges=np.arange(1.0, 1e5), time_edges=np.arange(1e5)), "2\\^62"),
        (dict(workers=3), "needs a scheduler"),
    ],
)  # fmt: skip
def test_bad_options_are_refused(path, option, message):
    with pytest.raises(LineBackgroundError, match=message):
        bin_events(path, **(COARSE | option))


def test_bins_that_differ_from_what_was_asked_for_are_said(path):
    with pytest.warns(LineBackgroundWarning, match="bins are 7.2 deg"):
        bin_events(path, energy_edges=EDGES, phi_pix_size=7, nside=1)
    with pytest.warns(LineBackgroundWarning, match="bins are 3.33333 s"):
        bin_events(path, **COARSE, time_bins=3, tmin=START, tmax=START + 10)


def test_bad_edges_are_binning_errors():
    with pytest.raises(BinningError):
        BinningOptions(energy_edges=[1.0], phi_pix_size=3, nside=1)
