"""What control ranges measure, over twenty simulated data sets; the study has a hundred."""

import numpy as np
import pytest
from control_ranges import EXTRA, summary

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::cosi_linebkg_plugin.errors.LineBackgroundWarning"),
]


@pytest.fixture(scope="module")
def table():
    return summary(20)


def test_pulls_of_the_totals_have_unit_width_where_the_spectrum_is_right(table):
    # 240 pulls: the width scatters by 4.6 %, the mean by 6.5 %; limits are 4 of these
    row = table[0.0]
    assert row["n"] == 240
    assert abs(row["width"] - 1.0) < 0.19 and abs(row["mean"]) < 0.26


def test_an_extra_error_is_measured(table):
    # 20 values, each known to 1 / sqrt(24): 4 standard errors of their root mean square
    assert set(table) == set(EXTRA)
    for extra in EXTRA[1:]:
        limit = 4 * np.sqrt(1 + (0.8 / (100 * extra)) ** 2) / np.sqrt(24 * 20)
        assert abs(table[extra]["measured"] / (100 * extra) - 1.0) < limit
        assert table[extra]["covered"] > 0.35  # binomial: of 0.68, a chance of 2e-3


def test_none_is_often_measured_where_there_is_none(table):
    # the median of chi-square with 12 degrees of freedom is below 12: 0.55 of the data sets
    assert table[0.0]["none"] > 0.15 and table[0.03]["none"] == 0.0
