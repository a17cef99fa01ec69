"""Rules of a binning: columns, cells, reasons to leave an event out."""

from binned import COARSE

from cosi_linebkg_plugin.events.options import BinningOptions
from cosi_linebkg_plugin.events.rules import GALACTIC, LOCAL, Reason


def test_only_the_columns_that_are_needed_are_read():
    binning = BinningOptions(**COARSE).binning
    assert binning.columns == ("Energies", "Phi", "Chi galactic", "Psi galactic")


def test_selections_need_columns_of_their_own():
    binning = BinningOptions(**COARSE, tmin=0, tmax=1e10, distance_range=[0.5, 20]).binning
    assert set(binning.columns) == {
        "Energies", "Phi", "Chi galactic", "Psi galactic", "TimeTags", "Distance",
    }  # fmt: skip


def test_every_reason_has_a_fate_of_its_own_above_that_of_the_kept():
    binning = BinningOptions(**COARSE, frame="spacecraftframe", energy_range=[300, 4000]).binning
    assert binning.frame == LOCAL != GALACTIC
    fates = [binning.fate(reason.what, reason.name) for reason in binning.reasons]
    assert fates == list(range(1, len(fates) + 1))
    assert Reason("selection", "energy") in binning.reasons
    assert Reason("selection", "phi") not in binning.reasons
