"""Rules of a binning: columns, cells, reasons to leave an event out."""

from dataclasses import fields

import numpy as np
import pytest
from binned import COARSE

from cosi_linebkg_plugin.events.files import COLUMNS
from cosi_linebkg_plugin.events.options import BinningOptions
from cosi_linebkg_plugin.events.rules import GALACTIC, LOCAL, SELECTIONS, Reason
from cosi_linebkg_plugin.events.selections import Selections
from cosi_linebkg_plugin.events.sums import sum_blocks
from cosi_linebkg_plugin.options import options_of


def test_only_the_columns_that_are_needed_are_read():
    binning = BinningOptions(**COARSE).binning
    assert binning.columns == ("Energies", "Phi", "Chi galactic", "Psi galactic")


def test_selections_need_columns_of_their_own():
    binning = BinningOptions(**COARSE, tmin=0, tmax=1e10, distance_range=[0.5, 20]).binning
    assert set(binning.columns) == {
        "Energies", "Phi", "Chi galactic", "Psi galactic", "TimeTags", "Distance",
    }  # fmt: skip


def test_every_selection_has_a_column_that_is_read():
    assert set(SELECTIONS) == {field.name for field in fields(Selections)}
    assert {column for column, _ in SELECTIONS.values()} <= set(COLUMNS)


RANGES = [name for name, option in options_of(BinningOptions).items() if option.kind == "range"]


@pytest.mark.parametrize("option", RANGES)
def test_every_range_that_is_an_option_selects(option):
    name = option.removesuffix("_range")
    binning = BinningOptions(**COARSE, **{option: (1.0, 2.0)}).binning
    assert binning.selected_by == (name,)
    column, factor = SELECTIONS[name]
    assert column in binning.columns
    rows = np.array([0.5, 1.0, 1.5, 2.0]) / factor
    block = {key: np.full(4, 1.0) for key in binning.columns} | {column: rows}
    block["Energies"] = rows if name == "energy" else np.full(4, 1700.0)
    fates = sum_blocks(binning, [block]).fates
    assert fates[binning.fate("selection", name)] == 2  # below, and at the end


def test_every_reason_has_a_fate_of_its_own_above_that_of_the_kept():
    binning = BinningOptions(**COARSE, frame="spacecraftframe", energy_range=[300, 4000]).binning
    assert binning.frame == LOCAL != GALACTIC
    fates = [binning.fate(reason.what, reason.name) for reason in binning.reasons]
    assert fates == list(range(1, len(fates) + 1))
    assert Reason("selection", "energy") in binning.reasons
    assert Reason("selection", "phi") not in binning.reasons
