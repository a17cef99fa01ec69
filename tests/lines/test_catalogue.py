"""The catalogue of instrumental lines: its rows, its flags, and what a fitted line may be."""

import csv
import re
from dataclasses import FrozenInstanceError
from pathlib import Path

import astropy.units as u
import numpy as np
import pytest
from spectra import line_model, simulated_spectrum

import cosi_linebkg_plugin
from cosi_linebkg_plugin import background_model, instrumental_lines
from cosi_linebkg_plugin.errors import BinningError
from cosi_linebkg_plugin.fit.minimise import fit_spectrum
from cosi_linebkg_plugin.lines.catalogue import (
    BLEND_REACH,
    SKY_LINES,
    SKY_REACH,
)
from cosi_linebkg_plugin.lines.identify import identify_lines, match_energy

FLAGS = {"sky", "blend", "sum", "escape", "broad", "doubtful"}


def row(energy, isotope):
    found = [x for x in instrumental_lines(near=energy) if x.isotope == isotope]
    assert found, f"no {isotope} near {energy}"
    return found[0]


def test_every_row_is_whole_and_names_a_source_to_look_up():
    rows = instrumental_lines()
    assert len(rows) > 400
    assert [x.energy for x in rows] == sorted(x.energy for x in rows)
    assert len({(x.energy, x.isotope) for x in rows}) == len(rows)
    for x in rows:
        assert 0 < x.energy < 1e4
        assert x.uncertainty is None or 0 < x.uncertainty <= 0.5
        assert re.fullmatch(r"\d+m?[A-Z][a-z]?|e\+e-", x.isotope)
        assert x.process and re.fullmatch(r"prompt|[\d.e]+ (ms|s|min|h|d|y)", x.half_life)
        assert re.match(
            r"ENSDF: \w+|EGAF: \w+|NUBASE2020: \w+|CODATA 2018|Kessler et al\. 1999", x.source
        )
        assert set(x.flags) <= FLAGS
    with pytest.raises(FrozenInstanceError):
        rows[0].energy = 1.0


def test_the_shipped_file_holds_the_rows():
    path = Path(cosi_linebkg_plugin.__file__).parent / "lines" / "instrumental_lines.csv"
    with path.open(newline="") as file:
        energies = [float(x["energy_kev"]) for x in csv.DictReader(file)]
    assert sorted(energies) == [x.energy for x in instrumental_lines()]


# Energies in keV as ENSDF has them (2.2232 MeV: deuteron binding energy less the recoil).
@pytest.mark.parametrize(
    ("energy", "isotope"),
    [
        (1778.987, "28Al"),
        (1368.625, "24Na"),
        (2754.008, "24Na"),
        (1633.602, "20F"),
        (1808.65, "26Al"),
        (1460.820, "40K"),
        (569.698, "207Bi"),
        (1764.30, "205Bi"),
        (1173.228, "60Co"),
        (1332.492, "60Co"),
        (2223.248, "2H"),
    ],
)
def test_well_known_lines_are_there(energy, isotope):
    assert row(energy, isotope).energy == pytest.approx(energy, abs=1e-3)


def test_sums_are_the_sums_of_their_parts():
    # K binding energies of Ga, Cu, Co, Zn: X-Ray Data Booklet, Table 1-1
    for energy, isotope, photon, shell in [
        (584.48, "69Ge", 574.11, 10.367),
        (1117.14, "69Ge", 1106.77, 10.367),
        (1346.97, "69Ge", 1336.60, 10.367),
        (1124.518, "65Zn", 1115.539, 8.979),
        (1927.23, "57Ni", 1919.52, 7.709),
        (1892.82, "68Ga", 1883.16, 9.659),
        (1785.54, "22Na", 1274.537, 510.999),
        (1504.81, "57Ni", 127.16, 1377.63),
        (1633.356, "207mPb", 1063.656, 569.698),
    ]:
        x = row(energy, isotope)
        assert "sum" in x.flags
        assert x.energy == pytest.approx(photon + shell, abs=0.03)
    neutron = row(2223.248, "2H").energy  # binding energy 2224.566 keV, Kessler et al. 1999
    assert neutron == pytest.approx(2224.566 - 2223.248**2 / (2 * 1875612.9), abs=1e-3)


def test_artefacts_and_unverified_rows_stay_out():
    for energy in (1666.0, 1723.1, 1720.3, 1515.1):
        assert all(abs(x.energy - energy) > 0.5 for x in instrumental_lines(near=energy))
    assert not {"unknown", "83Rb", "116mIn", "124Sb", "88Y"} & {
        x.isotope for x in instrumental_lines()
    }


def test_blends_and_sky_lines_are_flagged():
    rows = instrumental_lines()
    for x in rows:
        close = [
            o for o in rows if abs(o.energy - x.energy) <= BLEND_REACH and o.isotope != x.isotope
        ]
        assert ("blend" in x.flags) == bool(close), x
        sky = min(abs(x.energy - energy) for energy in SKY_LINES)
        assert ("sky" in x.flags) == (sky <= SKY_REACH), x
    for energy in (510.999, 1157.022, 1173.228, 1332.492, 1808.65):
        assert "sky" in instrumental_lines(near=energy)[0].flags


def test_ranges_and_nearness():
    rows = instrumental_lines((1500, 2000))
    assert rows and all(1500 <= x.energy <= 2000 for x in rows)
    assert instrumental_lines((1.5, 2.0) * u.MeV) == rows
    near = instrumental_lines(near=1779)
    assert near[0].isotope == "28Al"
    distances = [abs(x.energy - 1779) for x in near]
    assert distances == sorted(distances) and distances[-1] <= 10
    assert instrumental_lines(near=1.779 * u.MeV) == near
    assert instrumental_lines((1770, 1775), near=1779) == tuple(
        x for x in near if 1770 <= x.energy <= 1775
    )
    assert instrumental_lines(near=3500) == ()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"energy_range": (2000, 1500)}, "low < high"),
        ({"energy_range": 1500}, "two energies"),
        ({"near": -5}, "above 0 keV"),
        ({"near": "here"}, "a quantity or a number in keV"),
        ({"near": 5 * u.s}, "a quantity or a number in keV"),
    ],
)
def test_bad_input_is_named(arguments, message):
    with pytest.raises(BinningError, match=message):
        instrumental_lines(**arguments)


def test_rows_are_lines_of_a_background_model():
    rows = instrumental_lines((1600, 1790))
    distinct = [x for x in rows if "blend" not in x.flags]
    model = background_model([*distinct, instrumental_lines(near=1633.6)[0]])
    mu = sorted(p.value for name, p in model.parameters.items() if ".mu_" in name)
    assert mu == pytest.approx(sorted([*(x.energy for x in distinct), 1633.602]))


def test_matches_weigh_distance_against_errors():
    first, *_ = match_energy(1779.3, 0.1)
    assert first.line.isotope == "28Al" and first.agrees
    assert first.difference == pytest.approx(0.313, abs=1e-3)
    assert first.sigmas == pytest.approx(0.313 / np.hypot(0.1, 0.5), rel=1e-2)
    assert not any(m.agrees for m in match_energy(1782.0, 0.1) if m.line.isotope == "28Al")
    assert match_energy(1782.0, 1.0)[0].agrees
    # 207mPb is nearer to 1633.4 keV, but doubtful
    assert [m.line.isotope for m in match_energy(1633.4, 0.05)][:2] == ["20F", "207mPb"]


def test_lines_of_a_fit_are_identified():
    model = line_model(
        [(1666.0, 8e4, (1656.0, 1676.0)), (1779.0, 4e4, (1769.0, 1789.0))], sigma=2.9
    )
    spectrum = simulated_spectrum(model, np.linspace(1500, 2000, 100), np.random.default_rng(1))
    unknown, known = identify_lines(fit_spectrum(model, spectrum))
    assert (unknown.parameter, known.parameter) == ("mu_2", "mu_3")
    assert unknown.match is None and unknown.name == ""
    assert known.name == "28Al" and known.match.line.energy == 1778.987
    assert known.energy == pytest.approx(1779.0, abs=0.2) and 0 < known.error < 0.1
