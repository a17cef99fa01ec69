"""Which lines may be there although the counts do not show them."""

import astropy.units as u
import numpy as np
import pytest
from faint_lines import continuum
from spectra import TUTORIAL_MASK, line_model, simulated_spectrum

from cosi_linebkg_plugin.errors import ModelError
from cosi_linebkg_plugin.fit.minimise import fit_spectrum
from cosi_linebkg_plugin.lines.catalogue import instrumental_lines
from cosi_linebkg_plugin.lines.faint import candidates, marginalise_faint

EDGES = np.linspace(1500.0, 2000.0, 101)


@pytest.fixture(scope="module")
def fit():
    model = line_model([(1778.97, 4000.0, (1770.0, 1790.0))], k=300.0)
    data = simulated_spectrum(model, EDGES, np.random.default_rng(1), [TUTORIAL_MASK])
    return fit_spectrum(model, data)


def test_candidates_are_the_catalogue_apart_from_each_other_and_from_fitted_lines(fit):
    found = candidates(fit)
    energies = np.array([x.energy for x in found])
    assert len(found) > 25 and np.all(np.diff(energies) > 2.0)
    assert np.abs(energies - fit.lines[0][0]).min() > 3.0
    assert not any("26Al" in x.name or "56Mn" in x.name for x in found)  # looked for in the sky
    # 214Bi and others at 1764.3 and 1764.5 keV are one line
    (near,) = [x for x in found if 1762.0 < x.energy < 1767.0]
    assert near.name == "205Bi, 214Bi" and near.counts is None


def test_energies_of_a_user_are_taken_as_well(fit):
    added = candidates(fit, [1652.0])
    assert [x.energy for x in added if x not in candidates(fit)] == [1652.0]
    assert marginalise_faint(fit, False) is fit
    asked = marginalise_faint(fit, [1652.0 * u.keV])
    assert asked.faint.lines == added
    assert asked.faint.where == TUTORIAL_MASK
    assert marginalise_faint(fit, 1652.0).faint.lines == added
    with pytest.raises(ModelError, match="at 2100 keV lies outside the energy axis"):
        marginalise_faint(fit, [2.1 * u.MeV])
    with pytest.raises(ModelError, match="at nan keV lies outside the energy axis"):
        marginalise_faint(fit, [np.nan])
    with pytest.raises(ModelError, match="faint_lines= must be energies"):
        marginalise_faint(fit, "catalogue")


def test_a_seen_nuclide_foretells_its_other_lines():
    rows = [x for x in instrumental_lines((500.0, 2400.0)) if x.isotope == "214Bi"]
    strong = [x for x in rows if x.intensity and x.intensity > 4.0]
    lines = [(x.energy, 1000.0 * x.intensity, (x.energy - 4, x.energy + 4)) for x in strong]
    model = line_model(lines, k=100.0, sigma=1.5, pivot=1400.0)
    edges = np.arange(500.0, 2400.0, 1.0)
    fit = fit_spectrum(model, simulated_spectrum(model, edges, np.random.default_rng(2)))
    told = {round(x.energy): x.counts for x in candidates(fit) if x.counts is not None}
    weak = next(x for x in rows if round(x.energy) == 1661)
    assert 0.1 * weak.intensity < told[1661] / 1000.0 < 3.0 * weak.intensity


@pytest.mark.parametrize("there", [True, False])
def test_coverage(there):
    """Of 60 spectra 68 % are 41 +- 4; the bias of lines left out is 3 standard errors."""
    found = continuum(0.1, there, 60, seed=3, ways=("left out", "catalogue and own"))
    marginalised = found["catalogue and own"]
    # false-alarm rate 1e-3 for either
    assert 28 <= round(60 * marginalised.covered()) <= 52
    assert abs(marginalised.pulls.mean()) < 0.75
    if there:
        error = np.median(marginalised.errors)
        assert np.mean(found["left out"].values) - marginalised.true > 2.0 * error
