"""Goodness of fit from simulated spectra."""

import numpy as np
import pytest
from fits import EDGES, TWO_LINES
from spectra import line_model

from cosi_linebkg_plugin.fit.minimise import fit_spectrum
from cosi_linebkg_plugin.fit.toys import toy_p_value
from cosi_linebkg_plugin.spectrum.axis import EnergySpectrum


def test_toys_agree_with_chi_square_where_that_holds(two_lines):
    fit = fit_spectrum(TWO_LINES, two_lines)
    p_value, deviances = toy_p_value(fit, 100, rng=4)
    # mean deviance of 100 toys: within 4 standard errors of dof, false-alarm rate 6e-5
    assert abs(deviances.mean() - fit.dof) < 4 * np.sqrt(2 * fit.dof / 100)
    assert p_value == pytest.approx(fit.p_value, abs=0.2)
    # the data are one of them (Davison & Hinkley 1997, Eq. 4.11): never 0
    assert p_value == (np.sum(deviances >= fit.deviance) + 1) / 101


def test_toys_without_counts_are_toys():
    """At 0.5 expected counts in all, most simulated spectra hold none."""
    model = line_model([], k=1e-3)
    data = EnergySpectrum(EDGES, np.where(np.arange(EDGES.size - 1) == 7, 1.0, 0.0))
    fit = fit_spectrum(model, data)
    p_value, deviances = toy_p_value(fit, 40, rng=1)
    assert 0.3 < np.mean(deviances < 1e-3) < 0.8 and 0 < p_value <= 1
