"""The line search: what it finds, what it does not, its rules, its numbers, its input."""

import json
import math
import re
from types import SimpleNamespace

import astropy.units as u
import numpy as np
import pytest
from line_spectra import EDGES, draw, expected
from scipy.stats import norm
from spectra import TUTORIAL_MASK, dc3_spectrum, line_model

from cosi_linebkg_plugin import LineBackgroundLike, find_lines
from cosi_linebkg_plugin.app.simulation import simulate
from cosi_linebkg_plugin.errors import BinningError, DataError, ModelError
from cosi_linebkg_plugin.lines import search as linesearch
from cosi_linebkg_plugin.lines.places import SEPARATION
from cosi_linebkg_plugin.lines.trial import FREE_SHARE, Form, Settings
from cosi_linebkg_plugin.spectrum.axis import EnergySpectrum
from cosi_linebkg_plugin.spectrum.lineshapes import (
    annihilation_counts,
    powerlaw_counts,
    tailed_gaussian_counts,
)

#: Lines that the published spectrum holds (fits by hand to it), keV.
DC3_LINES = (1612.0, 1633.0, 1666.0, 1723.0, 1764.0, 1779.0, 1893.0, 1920.0)
#: 23 lines that 5 keV bins can tell apart: energy [keV], counts; 4 to 200 sigma.
RESOLVED = tuple(
    (1508.0 + 21.3 * i + 3.0 * math.sin(5 * i), counts)
    for i, counts in enumerate(
        [2500, 13100, 2800, 2450, 1800, 16400, 40900, 2050, 82200, 1100, 27800, 3000, 12300, 39500,
         5900, 2400, 1500, 3870, 1000, 3530, 2000, 6000, 1400]
    )
)  # fmt: skip


@pytest.fixture(scope="module")
def dc3(shared_data):
    return find_lines(dc3_spectrum(shared_data), tail=True)


@pytest.fixture(scope="module")
def three():
    return find_lines(draw([(1633.6, 40900.0), (1778.99, 39500.0), (1893.0, 3900.0)], 5))


def test_published_spectrum(dc3):
    assert dc3.fit.deviance / dc3.fit.dof < 5.0  # 58 with the tutorial's six lines
    energies = np.array([x.energy for x in dc3.lines])
    for energy in DC3_LINES:
        assert np.min(np.abs(energies - energy)) < 3.5  # bins of 5 keV
    names = {x.name: x.energy for x in dc3.lines}
    assert names["28Al"] == pytest.approx(1778.99, abs=0.5)
    assert names["20F"] == pytest.approx(1633.6, abs=0.5)
    # artefacts of the simulation: found, and not named
    for energy in (1666.0, 1723.1):
        line = dc3.lines[np.argmin(np.abs(energies - energy))]
        assert line.significance > 90 and line.name == ""
    assert "does NOT describe" in str(dc3)
    assert sum("the shape of that one may explain it" in note for note in dc3.notes) == 1


def test_rules_hold_on_the_published_spectrum(dc3):
    """Where the model cannot describe the data, only the rules bound the number of lines."""
    fit = dc3.fit
    width = math.hypot(fit.values["sigma_2"], 500 / 99 / math.sqrt(12))
    energies = np.array([x.energy for x in dc3.lines])
    assert np.all(np.diff(energies) >= SEPARATION * width - 1e-6)
    for low, high in fit.mask:
        assert not np.any((energies > low - 0.99 * width) & (energies < high + 0.99 * width))
    used = int(fit.spectrum.used.sum())
    assert used == 91 and fit.dof >= math.ceil(FREE_SHARE * used) == 41
    assert fit.valid and not fit.at_limits


def test_lines_are_found_where_they_are(three):
    # of 203Bi 1893.0 and 68Ga 1892.8 keV nothing in the window tells which
    assert [x.name for x in three.lines] == ["20F", "28Al", "?"]
    assert {"203Bi", "68Ga"} <= {m.line.isotope for m in three.lines[2].matches if m.agrees}
    for line, energy, counts in zip(
        three.lines, (1633.6, 1778.99, 1893.0), (40900, 39500, 3900), strict=True
    ):
        # six pulls of one seeded data set: |pull| > 4 has a false-alarm rate of 4e-4
        assert abs(line.energy - energy) < 4 * line.error
        assert abs(line.counts - counts) < 4 * line.counts_error
        assert line.window[0] < line.energy < line.window[1]
    assert three.fit.p_value > 1e-3
    assert three.notes == () and three.stopped == "no further candidate reaches that"


def test_significance_is_the_likelihood_ratio(three):
    from cosi_linebkg_plugin.fit.minimise import fit_spectrum

    weak = three.lines[2]
    others = [(x.energy, x.counts, x.window) for x in three.lines[:2]]
    without = fit_spectrum(line_model(others, k=3376.0, sigma=2.9), three.fit.spectrum)
    assert weak.significance**2 == pytest.approx(without.deviance - three.fit.deviance, rel=1e-3)
    assert 0 < weak.global_significance < weak.significance
    assert weak.global_p_value == pytest.approx(norm.sf(weak.global_significance))


def test_threshold_is_what_the_scan_exceeds_by_chance():
    """The chance p(u) against the scan of 400 Gaussian spectra of a flat continuum.

    The largest of 99 bins' scan is above u in 5 % of them: 20 +- 4.4; 4 sigma is 38 and 2.
    """
    rng = np.random.default_rng(2)
    level, above, count = 1e4, 0, 400
    for _ in range(count):
        search = linesearch._Search(
            EnergySpectrum(EDGES, rng.poisson(level, 99).astype(float)),
            Settings(3.0, Form(), 0.05, 20, 1750.0),
        )
        z, _, _ = search._scan()
        above += z.max() > search.threshold
    assert 2 < above < 38


def test_spectra_without_lines_hold_none():
    """At 5 % each, more than 6 of 30 with a line have a chance of 3e-4."""
    with_line = sum(bool(find_lines(draw([], seed)).lines) for seed in range(30))
    assert with_line <= 6


def test_resolved_lines_are_all_found():
    """23 pulls: |pull| > 4 has a false-alarm rate of 1.5e-3; the seed is fixed."""
    spectrum = draw(RESOLVED, 1)
    found = find_lines(spectrum)
    energies = np.array([x.energy for x in found.lines])
    mean, n_strong = expected(RESOLVED), 0
    for energy, counts in RESOLVED:
        shape = tailed_gaussian_counts(EDGES, counts, energy, 2.9, 0.0, 1.0)[0]
        if np.sqrt(np.sum(shape**2 / mean)) > 8.0:
            n_strong += 1
            line = found.lines[np.argmin(np.abs(energies - energy))]
            assert abs(line.energy - energy) < 4 * line.error
    assert n_strong >= 17
    assert all(np.min(np.abs(np.array(RESOLVED)[:, 0] - e)) < 6 for e in energies)


def test_tail_explains_what_gaussians_take_for_lines():
    lines = [(1633.6, 40900.0), (1778.99, 39500.0)]
    spectrum = draw(lines, 3, fraction=0.23)
    with_tail, without = (find_lines(spectrum, tail=tail) for tail in (True, False))
    assert [round(x.energy) for x in with_tail.lines] == [1634, 1779]
    assert with_tail.fit.values["fraction_2"] == pytest.approx(0.23, abs=0.05)
    assert len(without.lines) > 2 and without.fit.deviance > with_tail.fit.deviance
    assert any("the shape of that one may explain it" in note for note in without.notes)


def test_a_line_inside_the_mask_is_not_found_beside_it():
    spectrum = draw([(1809.0, 40000.0)], 4, mask=[TUTORIAL_MASK], fraction=0.23)
    low, high = spectrum.masked_ranges()[0]
    for line in find_lines(spectrum, tail=True).lines:
        assert not low - 3 < line.energy < high + 3
    assert not find_lines(draw([(1809.0, 40000.0)], 4), mask=(1780, 1840)).lines


def test_result_is_deterministic(three):
    again = find_lines(draw([(1633.6, 40900.0), (1778.99, 39500.0), (1893.0, 3900.0)], 5))
    assert again.lines == three.lines and str(again) == str(three)


def test_weak_lines_leave_the_shape_alone():
    spectrum = draw([(1700.0, 1400.0)], 6)
    found = find_lines(spectrum, tail=True, sigma=2.5)
    (line,) = found.lines
    assert line.significance < 10
    assert found.fit.values["sigma_2"] == 2.5 and found.fit.values["fraction_2"] == 0.2
    assert [note.split(" is held")[0] for note in found.notes] == ["the width", "the tail"]
    shape = found.model().linebkg.spectrum.main.shape
    assert not shape.sigma_2.free and not shape.fraction_2.free and shape.mu_2.free


@pytest.mark.parametrize("energy", [1597.3, 1700.0, 1701.3, 1702.6, 1703.9, 1850.0])
def test_a_tail_that_is_held_shifts_lines_that_have_none(energy):
    """What docs/lines.md says of it, from the expected counts themselves."""
    (line,) = find_lines(EnergySpectrum(EDGES, expected([(energy, 3000.0)])), tail=True).lines
    assert 0.2 < line.energy - energy < 0.45


def test_energies_may_be_fixed_to_the_catalogue():
    spectrum = draw([(1666.0, 8e4), (1778.987, 3.9e4), (1919.3, 5e3)], 7)
    found = find_lines(spectrum, fix_to_catalogue=True)
    free, al, ni = found.lines
    assert free.error > 0 and free.name == ""
    assert (al.energy, al.error, al.name) == (1778.987, None, "28Al")
    assert (ni.energy, ni.error, ni.name) == (1919.52, None, "57Ni")
    assert "1778.99 fixed" in str(found)
    assert found.fit.free_names == ["K_1", "index_1", "F_2", "mu_2", "sigma_2", "F_3", "F_4"]
    shape = found.model().linebkg.spectrum.main.shape
    assert not shape.mu_3.free and shape.mu_3.value == 1778.987


def test_spectra_come_in_many_ways(three):
    spectrum = three.fit.spectrum
    plugin = LineBackgroundLike("linebkg", spectrum)
    pair = (EDGES / 1e3 * u.MeV, spectrum.counts)
    for given in (plugin, plugin.spectrum, pair):
        energies = [x.energy for x in find_lines(given, pivot=1.75 * u.MeV).lines]
        assert energies == pytest.approx([x.energy for x in three.lines])
    masked = find_lines(spectrum, mask=[(1620, 1650) * u.keV, (1880, 1900)])
    assert [x.name for x in masked.lines] == ["28Al"]
    plugin.set_mask((1620, 1650))
    assert [x.name for x in find_lines(plugin).lines] == ["28Al", "?"]
    assert [x.name for x in find_lines(plugin, mask=()).lines] == ["20F", "28Al", "?"]


def test_few_counts():
    """Half a count per bin: 5 % of such spectra hold a false line; a real one is found."""
    rng = np.random.default_rng(3)
    mean = expected([(1700.0, 40.0 * 3e4)]) / 3e4
    found = find_lines((EDGES, rng.poisson(mean).astype(float)))
    assert [round(x.energy / 4) for x in found.lines] == [425]
    empty = sum(bool(find_lines((EDGES, rng.poisson(0.5, 99).astype(float))).lines)
                for _ in range(20))  # fmt: skip
    assert empty <= 5  # 5 % each: a chance of 3e-4


def test_number_of_lines_may_be_limited():
    found = find_lines(draw(RESOLVED, 1), max_lines=3)
    assert [round(x.energy) for x in found.lines] == sorted(
        round(e) for e, _ in sorted(RESOLVED, key=lambda x: -x[1])[:3]
    )
    assert "left out: 3 lines are as many as max_lines allows" in found.stopped


def test_a_width_that_outgrows_the_room_takes_the_line_with_it():
    """15 keV between two masks, a broad bump in them: no crash, and no line on the mask."""
    edges = np.linspace(1500.0, 1600.0, 101)
    mean = 1e3 + 2e4 * np.exp(-0.5 * ((edges[1:] - 1550.5) / 8.0) ** 2)
    found = find_lines((edges, np.round(mean)), mask=[(1500, 1540), (1560, 1600)])
    for line in found.lines:
        assert 1541 < line.energy < 1559
    assert found.fit.valid


SPECTRUM = EnergySpectrum(EDGES, np.full(99, 1e4))


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"spectrum": [1, 2, 3]}, DataError, "takes an EnergySpectrum, .* got list"),
        ({"spectrum": (EDGES, np.ones(5))}, DataError, "99 energy bins but counts of shape"),
        ({"spectrum": SimpleNamespace(spectrum=3)}, DataError, "got int"),
        ({"sigma": 0}, ModelError, "above 0.1 and below 50 keV, got 0 keV"),
        ({"sigma": "wide"}, BinningError, "width of the lines must be an energy"),
        ({"false_alarm": 1.0}, ModelError, "above 0 and below 0.5, got 1"),
        ({"false_alarm": math.nan}, ModelError, "above 0 and below 0.5"),
        ({"max_lines": 40}, ModelError, "from 0 to 26 lines leave 4/9 of the 99 fitted bins"),
        ({"pivot": -1}, ModelError, "pivot energy must be positive"),
        ({"mask": (3000, 4000)}, BinningError, "outside the energy axis"),
        ({"mask": [(1, 2, 3)]}, BinningError, "two energies"),
        ({"mask": (1400, 2100)}, BinningError, "excludes every energy bin"),
        ({"mask": (1500, 1992)}, ModelError, "2 free parameters but only 1 of 99"),
    ],
)
def test_bad_input_is_named(arguments, error, message):
    with pytest.raises(error, match=message):
        find_lines(**({"spectrum": SPECTRUM} | arguments))


def test_no_room_is_no_line():
    found = find_lines(draw(RESOLVED, 1), mask=(1520, 2000))
    assert found.lines == () and math.isfinite(found.threshold)
    narrow = find_lines(draw(RESOLVED, 1), mask=(1520, 2000), sigma=20.0)
    assert narrow.lines == () and "nowhere is there room" in str(narrow)
    assert json.dumps(narrow.to_dict(), allow_nan=False)


def test_no_counts_are_refused():
    with pytest.raises(DataError, match="hold no counts, so there is nothing to fit"):
        find_lines((EDGES, np.zeros(99)))


HPGE = np.linspace(1000.0, 1400.0, 1001)
HPGE_CENTERS = 0.5 * (HPGE[1:] + HPGE[:-1])


def hpge(lines, continuum, seed, sigma=0.9):
    """A laboratory's germanium spectrum: 0.4 keV bins."""
    mean = np.diff(HPGE) * continuum
    for energy, counts in lines:
        mean = mean + counts * np.diff(norm.cdf((HPGE - energy) / sigma))
    return EnergySpectrum(HPGE, np.random.default_rng(seed).poisson(mean).astype(float))


@pytest.mark.parametrize("level", [300.0, 3e3, 3e5])
@pytest.mark.parametrize("shape", ["edge", "hump"])
def test_no_comb_fills_what_the_continuum_does(shape, level):
    """A Compton edge, and a hump: the one line is found; a second one has the stated chance."""
    x = (HPGE_CENTERS - 1240.0) / 6.0
    if shape == "edge":
        continuum = level * (0.4 + (0.6 + 0.002 * (HPGE_CENTERS - 1240.0)) * norm.sf(x))
    else:
        continuum = level * (0.3 + np.exp(-0.5 * ((HPGE_CENTERS - 1200.0) / 60.0) ** 2))
    found = find_lines(hpge([(1120.3, 20 * level**0.5 * 3)], continuum, 5), sigma=0.9)
    energies = [x.energy for x in found.lines]
    assert min(abs(e - 1120.3) for e in energies) < 0.3
    assert len(energies) <= 2


def test_significances_are_withheld_where_the_fit_does_not_describe_the_data():
    continuum = 3e4 * (0.3 + np.exp(-0.5 * ((HPGE_CENTERS - 1250.0) / 15.0) ** 2))
    spectrum = hpge([(1100.0, 3e4), (1250.0, 3e4)], continuum, 6)
    found = find_lines(spectrum, sigma=0.9, bend=False)
    near, far = (min(found.lines, key=lambda x: abs(x.energy - e)) for e in (1250.0, 1100.0))
    assert not near.described
    row = next(x for x in found.to_dict()["lines"] if x["energy"] == near.energy)
    assert row["significance"] is None and row["global_significance"] is None
    line = next(x for x in str(found).splitlines() if x.startswith(f"{near.energy:.2f}"))
    assert re.search(r" - +- ", line)
    assert "a dash in place of a significance" in str(found)
    assert far.energy == pytest.approx(1100.0, abs=0.2)
    json.dumps(found.to_dict(), allow_nan=False)


def test_the_search_bends_only_what_bends():
    straight = find_lines(hpge([(1120.3, 5e3)], np.full(1000, 3e3), 7), sigma=0.9)
    assert straight.form["continuum"] == "powerlaw" and straight.notes == ()
    bent = 3e3 * (1.0 + 3.0 * ((HPGE_CENTERS - 1200.0) / 200.0) ** 2)
    spectrum = hpge([(1120.3, 5e3)], bent, 7)
    found = find_lines(spectrum, sigma=0.9)
    assert found.form["continuum"] == "powerlaw_polynomial" and found.fit.p_value > 1e-3
    assert "the data asked for more than was asked for" in found.notes[0]
    held = find_lines(spectrum, sigma=0.9, bend=False)
    assert held.form["continuum"] == "powerlaw" and held.fit.p_value < 1e-10
    asked = find_lines(spectrum, sigma=0.9, bend=False, continuum="powerlaw_polynomial")
    assert asked.fit.deviance == pytest.approx(found.fit.deviance, abs=1e-3)
    assert asked.notes == ()


def test_a_width_that_grows_is_found_and_handed_on():
    edges = np.linspace(500.0, 2500.0, 2001)
    energies = np.linspace(550.0, 2450.0, 30)
    sigma = np.sqrt(1.0 + 0.004 * energies)
    mean = 200.0 + np.diff(norm.cdf((edges[:, None] - energies) / sigma), axis=0) @ np.full(30, 6e3)
    spectrum = EnergySpectrum(edges, np.random.default_rng(8).poisson(mean).astype(float))
    found = find_lines(spectrum, sigma=2.0)
    assert len(found.lines) == 30 and found.form["width"] == "linear"
    assert found.fit.values["b_2"] == pytest.approx(0.004, rel=0.1)
    again = LineBackgroundLike("linebkg", spectrum).fit(found.model())
    assert again.deviance == pytest.approx(found.fit.deviance, abs=1e-3)


def test_a_width_that_grows_is_seen_before_lines_fill_what_it_leaves(monkeypatch):
    """In a wide range what one width leaves beside strong lines looked like groups of lines."""
    edges, energies = np.linspace(500.0, 4500.0, 4001), np.linspace(510.0, 4490.0, 100)
    sigma = np.sqrt(1.0 + 0.002 * energies)
    mean = 150.0 + np.diff(norm.cdf((edges[:, None] - energies) / sigma), axis=0) @ np.full(
        100, 2e4
    )
    fill, filled = linesearch._Search._fill, []
    monkeypatch.setattr(
        linesearch._Search, "_fill", lambda self, e: filled.append(e) or fill(self, e)
    )
    spectrum = EnergySpectrum(edges, np.random.default_rng(8).poisson(mean).astype(float))
    found = find_lines(spectrum, sigma=1.6)
    assert found.form["width"] == "linear" and len(found.lines) == 100
    assert len(filled) < 5


@pytest.mark.parametrize("sigma", [0.45, 0.9, 1.8])
def test_a_wrong_width_makes_no_further_lines_of_a_weak_one(sigma):
    """82 counts on next to nothing; the start is half, all and twice of what is right."""
    for seed in range(5):
        spectrum = hpge([(1200.0, 82.0)], np.full(1000, 0.5), seed)
        (line,) = find_lines(spectrum, sigma=sigma).lines
        assert abs(line.energy - 1200.0) < 0.5
        assert line.counts == pytest.approx(82.0, abs=40.0)


def test_names_may_go_by_the_scale_that_the_lines_tell():
    known = (583.187, 609.321, 727.33, 860.557, 911.204, 968.971, 1120.294, 1460.82, 1764.491)
    edges = np.linspace(550.0, 1800.0, 2501)
    energies = np.array(known) + 2.2
    mean = 40.0 + np.diff(norm.cdf(edges[:, None] - energies), axis=0) @ np.full(9, 4e3)
    spectrum = EnergySpectrum(edges, np.random.default_rng(9).poisson(mean).astype(float))
    plain = find_lines(spectrum, sigma=1.0)
    found = find_lines(spectrum, sigma=1.0, calibrate=True)
    assert plain.scale is None and found.scale.original(1000.0) == pytest.approx(1002.2, abs=0.2)
    assert [x.energy for x in found.lines] == [x.energy for x in plain.lines]
    assert found.fit.values == plain.fit.values
    right = ["208Tl", "214Bi", "212Bi", "208Tl", "228Ac", "228Ac", "214Bi", "40K", "214Bi"]
    assert sum(x.name == n for x, n in zip(found.lines, right, strict=True)) >= 5
    assert sum(x.name == n for x, n in zip(plain.lines, right, strict=True)) <= 2
    assert "energy scale: offset" in str(found) and "energy scale" not in str(plain)
    few = find_lines(draw([(1778.99, 4e4)], 1), calibrate=True)
    assert few.scale is None and "no energy scale: too few lines" in str(few)
    with pytest.raises(ModelError, match="choose one of them"):
        find_lines(spectrum, calibrate=True, fix_to_catalogue=True)


def demo_spectrum(bin_width):
    from cosi_linebkg_plugin.app.simulation import simulate

    s = simulate(1, nside=1, energy_edges=np.arange(1500.0, 2001.0, bin_width))
    counts = np.bincount(s.coords[0], weights=s.counts, minlength=s.energy_edges.size - 1)
    return EnergySpectrum(s.energy_edges, counts).with_mask([(1790.0, 1825.0)])


def test_wide_bins_give_no_names_and_no_width():
    """Bins of 20 keV gave energies within 1e5 keV, a width of 9 keV, and names all the same."""
    search = find_lines(demo_spectrum(20.0))
    assert search.lines and [line.name for line in search.lines] == [""] * len(search.lines)
    assert all(not m.agrees for line in search.lines for m in line.matches)
    assert search.fit.values["sigma_2"] == 3.0 and "sigma_2" not in search.fit.free_names
    said = " ".join(search.notes)
    assert "the width is held at 3 keV: bins of 20 keV do not show it" in said
    assert "known less well than the catalogue's lines are apart" in said
    assert all(line.error is None or line.error < 50.0 for line in search.lines)


def test_bins_that_show_the_width_let_it_free():
    search = find_lines(demo_spectrum(10.0))
    assert "sigma_2" in search.fit.free_names and search.fit.errors["sigma_2"] < 0.5
    assert "28Al" in [line.name for line in search.lines]
    assert not any("held" in note for note in search.notes)


@pytest.mark.parametrize("seed", [2, 25])
def test_lines_that_hide_each_others_peaks_are_found(seed):
    """1506, 1515, 1526 and 1538 keV in bins of 5 keV at the end of the axis; no bend instead."""
    drawn = simulate(seed, nside=1)
    counts = np.bincount(drawn.coords[0], weights=drawn.counts, minlength=99)
    found = find_lines((drawn.energy_edges, counts), mask=TUTORIAL_MASK)
    energies = np.array([x.energy for x in found.lines])
    for energy in (1506.2, 1515.4, 1525.7, 1537.9, 1612.0, 1652.0, 1892.9):
        assert np.min(np.abs(energies - energy)) < 3.0, energy
    assert found.fit.deviance / found.fit.dof < 2.0


@pytest.mark.parametrize("sigma", [0.6, 2.0, 3.0])
def test_the_start_width_does_not_decide_the_shape_of_511_kev(sigma):
    """One Gaussian in place of the two parts takes 5 % of the counts for continuum."""
    edges = np.arange(495.0, 530.01, 0.2)
    expected = powerlaw_counts(edges, 400.0, 511.0, -1.0)[0]
    expected += annihilation_counts(edges, 10_000.0, 511.0, 0.8, 0.5, 2.6)[0]
    found = find_lines((edges, np.random.default_rng(5).poisson(expected)), sigma=sigma)
    assert len(found.lines) == 1 and found.form["continuum"] == "powerlaw"
    assert found.fit.values["F_2"] == pytest.approx(10_000.0, abs=3 * found.fit.errors["F_2"])
    assert "broad_2" in found.fit.values
