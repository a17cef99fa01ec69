"""A template in a line, as a short table, as an astropy table."""

import numpy as np
import pytest
from observed import AXES, pattern
from templates import template_of

MAPS = {"continuum": pattern(900.0), "lines": pattern(90.0)}


def test_a_line_names_method_range_counts_and_errors():
    template = template_of(MAPS, AXES)
    low, high = template.source_range
    line = repr(template)
    assert line.startswith(f"BackgroundTemplate({template.method}, {low:g}-{high:g} keV, counts: ")
    for label, error in template.errors.items():
        assert f"{label} {template.counts[label]:.1f} +- {error:.1f}" in line


def test_the_table_of_a_template_has_rates_with_a_livetime_and_masks_what_is_not_known():
    table = template_of(MAPS, AXES, livetime=10.0).to_table()
    assert list(table["component"]) == ["continuum", "lines", "total"]
    assert table["counts"][-1] == pytest.approx(990.0) and table["rate"][-1] == pytest.approx(99.0)
    assert table["rate"].unit == "Hz"
    unknown = template_of(MAPS, AXES, covariance=np.diag([1.0, np.inf]))
    table = unknown.to_table()
    assert "rate" not in table.colnames
    assert [bool(np.ma.is_masked(x)) for x in table["error"]] == [False, True, True]
    assert "not known" in unknown._repr_html_() and "total" not in unknown._repr_html_()
