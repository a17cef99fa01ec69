"""Lines that a masked source range may hide: against spectra whose lines are known."""

import json

import astropy.units as u
import numpy as np
import pytest
from histpy import Axes, Axis, Histogram
from trials import RATIO

from cosi_linebkg_plugin import BackgroundTemplate, LineBackgroundLike, background_model
from cosi_linebkg_plugin.app.simulation import SOURCE_RANGE
from cosi_linebkg_plugin.lines.catalogue import CatalogueLine
from cosi_linebkg_plugin.template.hidden import HiddenLines, hidden_lines
from cosi_linebkg_plugin.template.options import TemplateOptions
from cosi_linebkg_plugin.template.plan import plan_for_fit

pytestmark = pytest.mark.filterwarnings("ignore::cosi_linebkg_plugin.errors.LineBackgroundWarning")

EDGES = np.arange(1500.0, 2101.0, 5.0)
CENTRES = 0.5 * (EDGES[1:] + EDGES[:-1])
RANGE = (1800.0, 1810.0)
PER_BIN = 40_000.0


@pytest.fixture
def catalogue(monkeypatch):
    """Puts rows at some energies in place of the catalogue's."""

    def give(*energies):
        rows = [CatalogueLine(e, None, "99Xx", "", "", "") for e in energies]

        def within(limits):
            return tuple(row for row in rows if limits[0] <= row.energy <= limits[1])

        monkeypatch.setattr("cosi_linebkg_plugin.template.hidden.instrumental_lines", within)

    return give


def fitted(lines, areas, rng=None):
    """A fit with the range masked: a flat continuum, lines in the middle of their bins."""
    expected = np.full(CENTRES.size, PER_BIN)
    expected[np.searchsorted(EDGES, lines) - 1] += areas
    counts = expected if rng is None else rng.poisson(expected).astype(float)
    events = Histogram(Axes([Axis(EDGES * u.keV, label="Em")]), contents=counts)
    plugin = LineBackgroundLike("lines", events)
    plugin.set_mask(RANGE)
    model = background_model([x for x in lines if not 1800 < x < 1810], pivot=1800, sigma=0.5)
    for name, parameter in model.linebkg.spectrum.main.shape.parameters.items():
        if name.startswith(("sigma", "mu")) and not parameter.has_auxiliary_variable:
            parameter.free = False
    return plugin, plugin.fit(model)


def judged(lines, areas, rng=None, **options):
    plugin, fit = fitted(lines, areas, rng)
    options = {"method": "interpolated"} | options
    return hidden_lines(plan_for_fit(plugin.events, fit, RANGE, TemplateOptions(**options)), fit)


def test_it_is_what_the_lines_of_other_ranges_add(catalogue):
    catalogue()
    lines, shares = CENTRES[[4, 20, 40, 90, 110]], np.array([0.1, 0.2, 0.05, 0.1, 0.2])
    found = judged(lines, 2 * PER_BIN * shares)
    # 60 and 58 bins make 59 and 57 ranges, and the last bin one; each line lies in two of them
    assert (found.n_lines, found.n_ranges, found.names) == (5, 59, ())
    assert found.mean == pytest.approx(2 * shares.sum() / 117, rel=1e-3)
    square = 2 * np.sum(shares**2) / 117 - 1 / (2 * PER_BIN)
    assert found.rms == pytest.approx(np.sqrt(square * 5 / 4), rel=2e-3)


def test_ranges_are_compared_that_hold_energies_of_the_catalogue_as_the_source_range_does(
    catalogue,
):
    lines = CENTRES[[4, 20, 40, 90, 110]]
    catalogue(1805.0, 1808.0, *lines, *CENTRES[[10, 30, 100]])
    with_rows = judged(lines, np.full(5, 8000.0))
    # five of the eight energies have a line of a tenth; two ranges each
    assert with_rows.n_ranges == 8 and with_rows.mean == pytest.approx(0.1 * 5 / 8, rel=1e-3)
    assert with_rows.names == ("1805.0 keV 99Xx", "1808.0 keV 99Xx")
    catalogue(*lines, *CENTRES[[10, 30, 100]])
    without = judged(lines, np.full(5, 8000.0))
    assert without.mean == pytest.approx(0.0, abs=1e-4) and without.rms < 0.005
    catalogue(1805.0, *lines[:3])  # three ranges apart: too few, all are taken
    assert judged(lines, np.full(5, 8000.0)).n_ranges == 59


def test_the_rms_is_that_of_lines_that_nobody_sees(catalogue):
    """Exponential strengths, a line in one of 12 bins, noise: the root of the mean of squares.

    40 spectra of some ten lines each: the mean of squares is known to 15 %, its root to 8 %.
    """
    catalogue()
    rng = np.random.default_rng(5)
    outside = CENTRES[(CENTRES < 1800) | (CENTRES > 1810)]
    told = []
    for _ in range(40):
        lines = outside[rng.random(outside.size) < 1 / 12]
        found = judged(lines, 0.1 * PER_BIN * 2 * rng.exponential(size=lines.size), rng)
        told.append((found.mean, found.rms))
    mean, rms = np.mean(told, axis=0)[0], np.sqrt(np.mean(np.square(told), axis=0)[1])
    assert mean == pytest.approx(0.1 / 6, rel=0.25)
    # two bins, each with a chance of 1/12 of a line whose mean square is 2 * 0.1^2
    assert 0.85 < rms / np.sqrt(2 / 12 * 2 * 0.1**2) < 1.25


def test_nothing_hides_where_it_is_known_or_seen_or_cannot_be_told(catalogue, trial):
    catalogue()
    ratio = {"line": 1805.0, "tracer": CENTRES[20], "value": 0.5, "error": 0.05}
    lines, areas = CENTRES[[20, 90]], [8000.0, 8000.0]
    assert judged(lines, areas).rms > 0.0
    assert judged(lines, areas, line_ratio=ratio) is None
    assert judged([], []) is None  # no line tells how strong they are
    plugin, fit = fitted(lines, areas)
    plan = plan_for_fit(plugin.events, fit, (1850.0, 1860.0), TemplateOptions())
    assert hidden_lines(plan, fit) is None  # not masked


# --- in a template --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def sideband(trial):
    return trial.template(method="sideband", reach=80.0, validate=True)


def test_the_truth_of_the_simulation_lies_within_it(trial, sideband):
    """The demo hides a line; its sideband template alone is wrong by many of its own errors."""
    hidden = sideband.control_ranges.hidden
    truth = trial.simulation.observed(*SOURCE_RANGE).sum() - 500.0  # of the sky, some of it outside
    own = sideband.counts["background"]
    plain = trial.template(method="sideband", reach=80.0)
    assert plain.counts["background"] == pytest.approx(own)
    assert truth - own > 3 * np.hypot(plain.total_error, truth**0.5)
    assert abs(truth - own) < 2 * sideband.total_error
    assert sideband.record.hidden_percent == pytest.approx(100 * hidden.rms)
    included = sideband.total_error**2 - (hidden.rms * own) ** 2
    assert included >= plain.total_error**2 * 0.999


def test_it_is_said_kept_and_not_added_twice(trial, sideband, tmp_path):
    (note,) = [n for n in sideband.notes if "the mask hides" in n]
    assert "1808.7 keV 26Al" in note and "its error includes the rms" in note
    assert "may hide" in repr(sideband)
    sideband.write(tmp_path / "template.h5")
    read = BackgroundTemplate.open(tmp_path / "template.h5")
    assert read.record == sideband.record
    error = read.total_error
    trial.plugin.validate(read)
    assert read.total_error == pytest.approx(error)


def test_components_leave_it_to_the_free_norm_of_their_lines(trial):
    template = trial.template(validate=True)
    hidden = template.control_ranges.hidden
    assert hidden.rms > 0.0 and template.record.hidden_percent == 0.0
    assert template.unknown == ("lines",)
    (note,) = [n for n in template.notes if "the mask hides" in n]
    assert 'it is what "lines"' in note
    own = sum(template.counts.values())
    compared = template.compare(trial.observed)
    assert compared.error == pytest.approx(np.hypot(template.errors["continuum"], hidden.rms * own))
    assert trial.template(line_ratio=RATIO, validate=True).control_ranges.hidden is None


def test_damaged_files_are_refused():
    good = HiddenLines(0.02, 0.05, 12, 4, ("1808.7 keV 26Al",))
    assert HiddenLines.from_dict(json.loads(json.dumps(good.to_dict()))) == good
    for damage in ({"fraction_rms": -1.0}, {"catalogue": [3]}, {"n_lines": "x"}):
        with pytest.raises((ValueError, TypeError)):
            HiddenLines.from_dict(good.to_dict() | damage)


def test_the_sentence_names_three_lines_at_most():
    names = tuple(f"{1800 + i}.0 keV 26Al" for i in range(5))
    text = HiddenLines(0.02, 0.05, 12, 4, names).summary()
    assert "1802.0 keV 26Al and 2 more)" in text and "rms 5 %" in text
    assert "that the catalogue lacks" in HiddenLines(0.02, 0.05, 12, 4).summary()
