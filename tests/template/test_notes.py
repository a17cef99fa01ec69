"""What a template says of itself."""

import re
import warnings

import astropy.units as u
import histpy
import numpy as np
import pytest
from trials import RATIO

from cosi_linebkg_plugin import LineBackgroundLike, background_model
from cosi_linebkg_plugin.app.demo import resolved_lines
from cosi_linebkg_plugin.app.simulation import SOURCE_RANGE
from cosi_linebkg_plugin.errors import LineBackgroundWarning
from cosi_linebkg_plugin.histograms.write import make_histogram

pytestmark = pytest.mark.filterwarnings("ignore::cosi_linebkg_plugin.errors.LineBackgroundWarning")


def test_the_size_of_the_contamination_is_said(bright, trial):
    notes = " ".join(bright.template().notes)
    assert "the source's own photons; sky= takes them out" in notes
    assert re.search(r"excess of \d+,\d{3} counts .* 25 % lose 120 keV .* about \d\.\d % of", notes)
    assert "own photons" not in " ".join(trial.template(line_ratio=RATIO).notes)


def test_notes_follow_the_norms(bright):
    t = bright.template(l_cut=4)
    assert "not known" in " ".join(t.notes)
    t.fit_norms(bright.observed, sky=[bright.sky_in_range])
    assert "not known" not in " ".join(t.notes)


def notes_of(plugin, fit, source_range=SOURCE_RANGE, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", LineBackgroundWarning)
        return " ".join(plugin.background_template(fit, source_range, **options).notes)


def test_a_source_range_that_was_fitted_is_said(bright):
    """Without a mask the source's photons are in the fit, and count as background."""
    open_plugin = LineBackgroundLike("bkg", bright.events)
    model = background_model([*resolved_lines(), 1808.65], pivot=1800)
    fit = open_plugin.fit(model)
    edges = fit.spectrum.edges
    inside = np.flatnonzero((edges[:-1] < SOURCE_RANGE[1]) & (edges[1:] > SOURCE_RANGE[0]))
    bins = f"{edges[inside[0]]:.6g}-{edges[inside[-1] + 1]:.6g} keV"
    for options in (
        dict(),
        dict(method="interpolated"),
        dict(method="sideband", sidebands=[(1820, 1875)]),
    ):
        assert f"includes the energy bins {bins} of" in notes_of(open_plugin, fit, **options)
    assert "includes the energy bins" not in notes_of(bright.plugin, bright.fit)
    # half of it masked: the other half is named
    open_plugin.set_mask((edges[inside[0]], edges[inside[1]]))
    fit = open_plugin.fit(model)
    rest = f"{edges[inside[1]]:.6g}-{edges[inside[-1] + 1]:.6g} keV"
    assert f"includes the energy bins {rest} of" in notes_of(open_plugin, fit)


@pytest.mark.parametrize(
    "source_range, window, said",
    [
        ((1150.0, 1164.0), (1100.0, 1220.0), "1173.23"),  # 44Ti beside 60Fe
        ((1166.0, 1180.0), (1100.0, 1340.0), "1157.02, 1274.54, 1332.49"),
        ((1325.0, 1340.0), (1290.0, 1380.0), None),  # its own line is none of its partners
        ((1200.0, 1210.0), (1190.0, 1240.0), None),
    ],
)
def test_a_sky_line_among_the_energies_used_is_said(source_range, window, said):
    edges = np.linspace(1050.0, 1450.0, 81)
    counts = np.round(np.linspace(9000.0, 7000.0, 80))
    events = make_histogram([histpy.Axis(edges * u.keV, label="Em")], counts)
    plugin = LineBackgroundLike("bkg", events)
    plugin.set_mask(source_range)
    fit = plugin.fit(background_model(pivot=1250))
    notes = notes_of(plugin, fit, source_range, window=window)
    assert ("looked for in the sky" in notes) == (said is not None)
    if said:
        assert f"hold {said} keV" in notes
