"""What the lines of a fit may be: energies, partner lines, the energy scale."""

import numpy as np
import pytest

from cosi_linebkg_plugin.fit.result import LineBackgroundFit
from cosi_linebkg_plugin.lines.catalogue import instrumental_lines
from cosi_linebkg_plugin.lines.identify import (
    energy_scale,
    identify_lines,
    match_energy,
    spacing,
)
from cosi_linebkg_plugin.spectrum.axis import EnergySpectrum
from cosi_linebkg_plugin.spectrum.components import Component, Parameter, SpectralModel


def fit_with(lines, *, edges=None, level=20.0, mask=None, error=0.05):
    """A fit to its own expectation: lines as {energy: counts} on a flat continuum, counts/keV."""
    edges = np.arange(100.0, 2801.0) if edges is None else edges
    middle = float(edges.mean())
    parameters = [
        Parameter("K_1", level),
        Parameter("piv_1", middle, free=False),
        Parameter("index_1", 0.0),
    ]
    components = [Component("powerlaw", (0, 1, 2))]
    for n, (energy, counts) in enumerate(sorted(lines.items()), start=2):
        k = len(parameters)
        parameters += [
            Parameter(f"F_{n}", counts),
            Parameter(f"mu_{n}", energy),
            Parameter(f"sigma_{n}", 1.0, free=False),
        ]
        components.append(Component("gaussian", (k, k + 1, k + 2)))
    model = SpectralModel(tuple(parameters), tuple(components))
    expected = model.bind(edges).counts(model.values)
    free = tuple(p.name for p in model.parameters if p.free)
    covariance = np.eye(len(free)) * error**2
    mask = np.zeros(edges.size - 1, bool) if mask is None else mask
    spectrum = EnergySpectrum(edges, expected, mask)
    return LineBackgroundFit(model, spectrum, model.values, free, covariance)


def names(fit, **options):
    return [x.name for x in identify_lines(fit, **options)]


def lines_of(isotope, counts):
    """All lines of a nuclide, with `counts` per photon in 100 decays."""
    rows = [x for x in instrumental_lines((100, 2800)) if x.isotope == isotope and x.intensity]
    return {x.energy: counts * x.intensity for x in rows}


BISMUTH = lines_of("214Bi", 200.0)


def test_a_nuclide_whose_lines_are_all_there_is_named():
    found = identify_lines(fit_with(BISMUTH))
    assert len(found) > 15 and {x.name for x in found} == {"214Bi"}
    assert all(len(x.match.partners) >= 1 for x in found)


def test_one_line_hidden_in_another_does_not_take_the_name_away():
    hidden = {e: n for e, n in BISMUTH.items() if e != 1238.122}
    assert names(fit_with(hidden))[list(hidden).index(1120.294)] == "214Bi"
    alone = {1120.294: BISMUTH[1120.294], 1764.491: BISMUTH[1764.491]}
    assert names(fit_with(alone))[0] != "214Bi"


def test_a_line_alone_is_not_what_would_have_brought_others():
    alone = fit_with({1120.40: 30_000.0})
    (line,) = identify_lines(alone)
    near = {m.line.isotope: m for m in line.matches if m.is_near}
    # 46Sc brings 889 keV with it, and 214Bi 609 and 1764 keV
    assert near["46Sc"].missing == (889.277,)
    assert near["214Bi"].missing[0] == 609.321
    assert line.name == "?" and line.match is None


def test_what_the_spectrum_does_not_show_is_not_missed():
    masked = np.zeros(2700, bool)
    masked[785:793] = True  # 889 keV
    assert names(fit_with({1120.40: 30_000.0}, mask=masked)) == ["46Sc"]
    above = np.arange(1000.0, 1201.0)
    (line,) = identify_lines(fit_with({1120.40: 30_000.0}, edges=above))
    assert {"46Sc", "214Bi"} <= {m.line.isotope for m in line.matches if m.agrees}
    # too faint for the other lines to be seen: nothing tells the two apart
    (line,) = identify_lines(fit_with({1120.40: 40.0}, level=2000.0))
    assert {"46Sc", "214Bi"} <= {m.line.isotope for m in line.matches if m.agrees}
    assert line.name == "?" and line.match is None and line.rivals


def test_of_two_nuclides_that_energy_alone_speaks_for_none_is_the_name():
    """57Ni has 20 times the intensity at 1377.6 keV; that says nothing of which is there."""
    window = np.arange(1360.0, 1400.0, 0.5)
    (line,) = identify_lines(fit_with({1377.70: 900.0}, edges=window))
    assert {"57Ni", "214Bi"} == {m.line.isotope for m in line.matches if m.agrees}
    assert line.name == "?" and line.match is None
    assert [m.line.isotope for m in line.rivals] == ["214Bi"]
    # parents of one level make one line
    window = np.arange(1312.0, 1353.0, 0.5)
    assert names(fit_with({1332.50: 900.0}, edges=window)) == ["60Co"]


def test_a_fainter_line_with_the_counts_foretold_decides():
    window = np.arange(1700.0, 1901.0, 0.5)
    # 205Bi, 32 photons per 100 decays, is as near
    right = {1729.60: 960.0, 1764.40: 5000.0, 1847.43: 650.0}
    assert names(fit_with(right, edges=window)) == ["214Bi"] * 3
    for wrong in ({1764.40: 5000.0}, {**right, 1729.60: 20_000.0, 1847.43: 20_000.0}):
        named = {x.energy: x.name for x in identify_lines(fit_with(wrong, edges=window))}
        assert named[1764.40] == "?"
    window = np.arange(590.0, 680.0, 0.5)  # on a scale that is off by 0.5 keV
    assert names(fit_with({608.82: 36_000.0, 664.95: 1200.0}, edges=window)) == ["214Bi"] * 2


def test_annihilation_is_in_every_spectrum():
    window = np.arange(495.0, 530.0, 0.25)
    for energy in (510.4, 510.8, 511.35):  # nearer to 208Tl, 71mZn
        assert names(fit_with({energy: 9000.0}, edges=window)) == ["e+e-"]
    wide = np.arange(400.0, 611.0, 10.0)  # several rows to a bin
    assert names(fit_with({511.3: 90_000.0, 583.2: 5000.0}, edges=wide)) == ["e+e-", ""]


def test_the_weak_lines_of_natural_radioactivity_have_rows():
    window = np.arange(1530.0, 1550.0, 0.25)
    assert names(fit_with({1538.55: 500.0, 1543.35: 350.0}, edges=window)) == ["214Bi"] * 2


def test_a_partner_far_too_faint_is_none():
    """62mCo has lines at 1163.5 and 1172.9 keV of 70 and 98 photons per 100 decays."""
    (_, line, other) = identify_lines(
        fit_with({1163.5: 50.0, 1173.228: 20_000.0, 1332.492: 19_000.0})
    )
    assert line.name == other.name == "60Co"  # not 60Cu, 0.01 keV from the second
    co62 = next(m for m in line.matches if m.line.isotope == "62mCo")
    assert co62.partners == () or line.match.line.isotope == "60Co"


def test_no_row_near_is_no_name():
    assert names(fit_with({2850.0: 1e4}, edges=np.arange(2700.0, 3000.0))) == [""]


def test_escape_peaks_need_their_line():
    both = {2614.511: 20_000.0, 2103.51: 2_000.0}
    assert names(fit_with(both))[0] == "208Tl"
    (line,) = identify_lines(fit_with({2103.51: 2_000.0}))
    thallium = next(m for m in line.matches if m.line.isotope == "208Tl")
    assert thallium.missing == (2614.511,)


def test_one_line_fixes_no_scale():
    assert energy_scale(fit_with({1460.8: 100.0})) is None


def test_calibration_moves_names_and_nothing_else():
    true = BISMUTH | lines_of("208Tl", 100.0) | {1460.82: 8000.0}
    shifted = {e + 2.5: n for e, n in sorted(true.items())}
    fit = fit_with(shifted)
    before = fit.to_json()
    scale = energy_scale(fit)
    assert scale.original(1400.0) - 1400.0 == pytest.approx(2.5, abs=0.1)
    assert "offset" in str(scale)
    plain, calibrated = identify_lines(fit), identify_lines(fit, scale=scale)
    assert "214Bi" not in [x.name for x in plain]
    right = dict(zip(shifted, ("40K" if e == 1460.82 else "214Bi" if e in BISMUTH else "208Tl"
                               for e in sorted(true)), strict=True))  # fmt: skip
    named = {x.energy: x.name for x in calibrated}
    wrong = {e: n for e, n in named.items() if n != right[min(right, key=lambda r: abs(r - e))]}
    assert len(wrong) <= 1, wrong
    np.testing.assert_allclose([x.energy for x in calibrated], sorted(shifted), atol=1e-9)
    assert fit.to_json() == before


def test_an_energy_that_is_known_less_well_than_rows_are_apart_has_no_name():
    near = spacing(1779.0)
    assert 3.0 < near <= 10.0 and spacing(511.0) < near and spacing(5000.0) == 10.0
    assert match_energy(1779.0, 0.9 * near)[0].agrees
    assert not any(m.agrees or m.is_near for m in match_energy(1779.0, 1.1 * near))
    assert match_energy(1779.0, 0.1, 5.0)[0].agrees
    assert not any(m.agrees for m in match_energy(1779.0, 0.1, 2.1 * near))
