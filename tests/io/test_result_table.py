"""Tables of results print whole, and keep every digit."""

import pickle

import numpy as np
from astropy.table import Table

from cosi_linebkg_plugin.io.tables import Column, make_table

NAMES = [f"a_rather_long_column_{i}" for i in range(9)]
VALUES = np.random.default_rng(1).uniform(1e3, 1e4, 3)


def wide():
    columns = [Column(name, VALUES, "keV") for name in NAMES]
    return make_table([*columns, Column("text", ["a", None, "c"])])


def test_all_columns_are_printed_with_few_digits(monkeypatch):
    monkeypatch.setenv("COLUMNS", "60")
    table = wide()
    for text in (str(table), repr(table)):
        assert all(name in text for name in NAMES) and " ... " not in text
        assert f"{VALUES[0]:.7g}" in text and repr(float(VALUES[0])) not in text
    assert repr(table).startswith("<ResultTable length=3>") and "--" in str(table)


def test_printing_changes_nothing_and_files_get_every_digit(tmp_path):
    table = wide()
    str(table)
    assert all(column.format is None for column in table.itercols())
    table.write(tmp_path / "table.csv")
    assert list(Table.read(tmp_path / "table.csv")[NAMES[0]]) == list(VALUES)
    again = pickle.loads(pickle.dumps(table[:2]))
    assert type(again) is type(table) and list(again[NAMES[1]]) == list(VALUES[:2])


def test_a_format_of_ones_own_is_kept():
    table = wide()
    table[NAMES[0]].format = ".1f"
    assert f"{VALUES[0]:.1f}" in str(table).split()
