"""Events with a continuum and one line of other distributions, and the errors of their sum."""

import astropy.units as u
import histpy
import numpy as np

from cosi_linebkg_plugin import LineBackgroundLike
from cosi_linebkg_plugin.spectrum.lineshapes import powerlaw_counts, tailed_gaussian_counts

EDGES, SOURCE = np.linspace(1600.0, 2000.0, 41), (1805.0, 1812.0)
ORDER = ("Em", "Phi", "PsiChi")
RATIO = {"line": 1808.0, "tracer": 1775.0, "value": 0.15, "error": 0.02}


def expectation(scale):
    """Continuum and a line at 1775 keV with Phi distributions of their own, (40, 6, 12)."""
    continuum = powerlaw_counts(EDGES, 300.0, 1800.0, -2.0)[0]
    line = tailed_gaussian_counts(EDGES, [2.0e4], [1775.0], 3.0, 0.0, 10.0)[0]
    phi = np.array([np.linspace(2, 1, 6), np.linspace(1, 3, 6)])
    phi /= 12 * phi.sum(axis=1, keepdims=True)
    table = np.outer(continuum, phi[0]) + np.outer(line, phi[1])
    return np.broadcast_to(scale * table[:, :, None], (40, 6, 12))


def make_axes(order):
    axes = {
        "Em": histpy.Axis(EDGES * u.keV, label="Em"),
        "Phi": histpy.Axis(np.linspace(0, 180, 7) * u.deg, label="Phi"),
        "PsiChi": histpy.HealpixAxis(nside=1, scheme="ring", coordsys="galactic", label="PsiChi"),
    }
    return histpy.Axes([axes[name] for name in order])


def events_of(contents):
    return histpy.Histogram(make_axes(ORDER), contents=contents, track_overflow=False)


def plugin_of(seed, scale):
    plugin = LineBackgroundLike(
        "bkg", events_of(np.random.default_rng(seed).poisson(expectation(scale)).astype(float))
    )
    plugin.set_mask((1790, 1825))
    return plugin


def sumw2_of(histogram):
    return np.asarray(getattr(histogram.sumw2, "contents", histogram.sumw2))


def apart(template):
    """The variance that the sum would have if its components were independent."""
    return sum(sumw2_of(h) for h in template.components.values())
