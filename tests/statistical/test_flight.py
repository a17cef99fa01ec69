"""Templates on real events: a part of the study of COSI's balloon flight.

Limits are those of the table in docs/validation.md, rounded up; nothing is drawn at random.
"""

import warnings

import numpy as np
import pytest
from flight import FILE, METHODS, WINDOWS, Flight, Result, best_fit, compared, study

from cosi_linebkg_plugin.errors import LineBackgroundWarning, TemplateError

pytestmark = pytest.mark.filterwarnings("ignore::cosi_linebkg_plugin.errors.LineBackgroundWarning")


@pytest.fixture(scope="module")
def flight(shared_data):
    if not (shared_data / FILE).is_file():
        pytest.skip(f"no {FILE} in {shared_data}")
    return Flight(shared_data)


@pytest.fixture(scope="module")
def calm(flight):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", LineBackgroundWarning)
        return best_fit(flight, (2100, 2125))


def test_uneven_bins_and_pixels_that_are_no_healpix_make_a_template(calm):
    plugin, fit, _ = calm
    template = plugin.background_template(fit, (2100, 2125), method="interpolated", reach=150.0,
                                          rebin_phi=5, validate=True)  # fmt: skip
    widths = {round(r.high - r.low) for r in template.control_ranges.ranges}
    assert len(widths) > 1 and max(widths) <= 50
    assert set(template.control_ranges.shapes) == {"Phi"}
    assert template.components["background"].axes["PsiChi"].nbins == 1145
    with pytest.raises(TemplateError, match="a plain axis of 1145 bins"):
        plugin.background_template(fit, (2100, 2125), l_cut=4)


def test_auto_is_right_along_phi(calm):
    plugin, fit, _ = calm
    result = compared(plugin, fit, (2100, 2125), METHODS["auto"])
    assert result.chi2 < 1.3 and abs(result.pull) < 3 and result.control.usable


def test_511_kev_is_refused(flight):
    plugin, fit, _ = best_fit(flight, (506, 516))
    control = compared(plugin, fit, (506, 516), METHODS["auto"]).control
    assert not control.usable and control.source_ratio > 3
    assert "times the template's counts" in control.summary()


def test_lines_that_the_mask_hides_are_named(flight):
    """1802-1816 keV holds 17 % more than its surroundings say: 26Al and 26Na."""
    plugin, fit, _ = best_fit(flight, (1802, 1816))
    result = compared(plugin, fit, (1802, 1816), METHODS["auto"])
    hidden = result.control.hidden
    assert hidden.n_ranges >= 10 and {"1808.7 keV 26Al", "1808.7 keV 26Na"} <= set(hidden.names)
    assert 0.02 < hidden.rms < 0.08
    assert result.difference > 5 * result.known and result.difference < 5 * result.error


@pytest.mark.slow
def test_all_ranges(flight):
    table = study(flight)
    assert set(table) == set(WINDOWS)
    rows = [row["auto"] for window, row in table.items() if window != (506, 516)]
    assert np.median([r.chi2 for r in rows]) < 1.3
    assert np.median([r.chi2_measured for r in rows]) < 1.3
    assert max(r.chi2_measured for r in rows) < 2.5
    pulls = np.array([r.pull for r in rows])
    assert 0.6 < np.sqrt(np.mean(pulls**2)) < 1.5
    # what the mask hides is most of it
    assert np.sqrt(np.mean([(r.difference / r.known) ** 2 for r in rows])) > 2.5
    for name in ("components", "interpolated", "sideband"):
        others = [row[name].chi2 for row in table.values() if isinstance(row[name], Result)]
        assert np.median(others) > np.median([r.chi2 for r in rows])
