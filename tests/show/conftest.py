"""A fit and a template to draw, and no warnings."""

import warnings

import astropy.units as u
import histpy
import numpy as np
import pytest
from figures import BANDS, EDGES, MASK, MODEL, SOURCE
from spectra import simulated_spectrum

from cosi_linebkg_plugin.errors import LineBackgroundWarning
from cosi_linebkg_plugin.fit.minimise import fit_spectrum
from cosi_linebkg_plugin.histograms.read import open_events
from cosi_linebkg_plugin.template.build import make_template
from cosi_linebkg_plugin.template.options import TemplateOptions
from cosi_linebkg_plugin.template.plan import plan_for_fit


@pytest.fixture
def no_warnings():
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        warnings.simplefilter("error", UserWarning)
        warnings.simplefilter("ignore", DeprecationWarning)  # of older matplotlib
        yield


@pytest.fixture(scope="module")
def fit():
    return fit_spectrum(MODEL, simulated_spectrum(MODEL, EDGES, np.random.default_rng(1), MASK))


@pytest.fixture(scope="module")
def template(fit):
    rng = np.random.default_rng(2)
    axes = histpy.Axes(
        [
            histpy.Axis(np.array([0.0, 43200.0, 86400.0]) * u.s, label="Time"),
            histpy.Axis(EDGES * u.keV, label="Em"),
            histpy.Axis(np.radians(np.linspace(0, 180, 7)) * u.rad, label="Phi"),
            histpy.HealpixAxis(nside=1, scheme="ring", coordsys="galactic", label="PsiChi"),
        ]
    )
    counts = fit.spectrum.counts.astype(int)
    spread = rng.multinomial(counts, np.full(144, 1 / 144)).reshape(60, 2, 6, 12)
    events = histpy.Histogram(axes, contents=np.moveaxis(spread, 0, 1).astype(float))
    options = TemplateOptions("interpolated", BANDS)
    with pytest.warns(LineBackgroundWarning, match="The source range is masked"):
        return make_template(plan_for_fit(open_events(events), fit, SOURCE, options), fit)
