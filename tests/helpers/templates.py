"""Background templates of given counts on given axes, for tests of their consumers."""

import astropy.units as u
import histpy
import numpy as np
import scoords  # noqa: F401  # registers the spacecraft frame
from spectra import line_model, simulated_spectrum

from cosi_linebkg_plugin import BackgroundTemplate
from cosi_linebkg_plugin.fit.minimise import fit_spectrum
from cosi_linebkg_plugin.template.energy_bins import EnergyBins
from cosi_linebkg_plugin.template.extra_error import ExtraError
from cosi_linebkg_plugin.template.line_spread import LineSpread, Pattern
from cosi_linebkg_plugin.template.record import Record

SOURCE = (1805.0, 1812.0)


def axis(name, **changed):
    """An axis of the usual Compton data space; one energy bin, the source range."""
    if name == "PsiChi":
        options = {"nside": 1, "scheme": "ring", "coordsys": "galactic"} | changed
        return histpy.HealpixAxis(label="PsiChi", **options)
    edges = {
        "Em": SOURCE * u.keV,
        "Phi": np.linspace(0, 180, 7) * u.deg,
        "Time": [0.0, 100.0] * u.s,
        "ScAtt": np.array([0.0, 1.0]),
    }
    return histpy.Axis(changed.get("edges", edges[name]), label=name)


def axes(*order, **changed):
    """`changed` names axes to put in place of the usual ones."""
    order = order or ("Em", "Phi", "PsiChi")
    return histpy.Axes([changed.get(name) or axis(name) for name in order])


def shape(some_axes):
    return tuple(a.nbins for a in some_axes)


def cells(some_axes, seed=1, low=0.5, high=2.0):
    return np.random.default_rng(seed).uniform(low, high, shape(some_axes))


def small_fit():
    model = line_model([], k=300.0)
    edges = np.linspace(1600.0, 2000.0, 41)
    spectrum = simulated_spectrum(model, edges, np.random.default_rng(1), mask=[(1800.0, 1820.0)])
    return fit_spectrum(model, spectrum)


FIT = small_fit()


def template_of(maps, some_axes, *, covariance=None, counts=None, **options):
    """A template whose components hold the counts given, 5 % uncertain unless said otherwise.

    Parameters
    ----------
    maps : mapping of label to ndarray
    """
    counts = counts or {label: float(np.nansum(m)) for label, m in maps.items()}
    if covariance is None:
        covariance = np.diag([(0.05 * c) ** 2 for c in counts.values()])
    known = {
        "fit": FIT,
        "record": Record("components"),
        "source_range": SOURCE,
        "sidebands": [(1700.0, 1790.0)],
        "weights": np.zeros((len(maps), 40)),
    }
    both = {label: (np.asarray(m, float), np.asarray(m, float)) for label, m in maps.items()}
    return BackgroundTemplate(some_axes, both, counts, covariance, **(known | options))


def tilted(n_phi, size=0.3):
    """A record of lines that differ along Phi by a tilt, of `size` at its ends."""
    pattern = Pattern("Phi", tuple(np.linspace(-size, size, n_phi).tolist()))
    error = ExtraError(size, 0.8 * size, 1.3 * size, 8, 0.7 * size)
    spread = LineSpread((1634.0, 1764.0, 1779.0), {"Phi": error}, (pattern,))
    return Record("components", line_spread=spread)


def with_energy_bins(template, error=0.1):
    """The same, which knows the counts of its energy bins: their errors are independent."""
    edges = template.axes["Em"].edges.to_value(u.keV)
    rows = np.array([template.project("Em", label)[0] for label in template.labels])
    n = rows.size
    covariance = np.diag((error * rows.ravel()) ** 2).reshape(*rows.shape, *rows.shape)
    assert covariance.size == n * n
    shares = rows / rows.sum(axis=1, keepdims=True)
    bins = EnergyBins.of(edges, shares, covariance, np.zeros(len(rows), bool))
    return rebuilt(
        template,
        covariance=np.diag(((error * rows) ** 2).sum(axis=1)),
        energy_bins=bins,
    )


def rebuilt(template, **changed):
    """The same template with some arguments of its constructor changed."""
    known = {
        "covariance": template.covariance,
        "fit": template.fit,
        "source_range": template.source_range,
        "sidebands": template.sidebands,
        "weights": template.weights,
        "record": template.record,
        "livetime": template.livetime,
    }
    maps = {
        label: (np.asarray(h.contents), np.asarray(getattr(h.sumw2, "contents", h.sumw2)))
        for label, h in template.components.items()
    }
    return BackgroundTemplate(template.axes, maps, template.counts, **(known | changed))


def histogram_of(some_axes, contents, unit=None):
    return histpy.Histogram(some_axes, contents=contents, unit=unit, track_overflow=False)
