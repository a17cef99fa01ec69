"""Small random histograms, and weighted sums of their slices by einsum."""

import astropy.units as u
import histpy
import numpy as np
import sparse

EDGES = np.array([1500.0, 1505.0, 1512.5, 1520.0, 1540.0])


ORDERS = [
    ("Time", "Em", "Phi", "PsiChi"),
    ("Em", "Phi", "PsiChi"),
    ("PsiChi", "Phi", "Em"),
    ("ScAtt", "Phi", "Em", "PsiChi"),
    ("Em",),
]


def make_axis(label, energy_unit=u.keV):
    edges = EDGES if energy_unit is None else (EDGES * u.keV).to(energy_unit)
    return {
        "Em": lambda: histpy.Axis(edges, label="Em", scale="log"),
        "Time": lambda: histpy.Axis(np.array([0.0, 10.0, 30.0]) * u.s, label="Time"),
        "ScAtt": lambda: histpy.Axis(np.arange(4), label="ScAtt"),
        "Phi": lambda: histpy.Axis(np.linspace(0, 180, 7) * u.deg, label="Phi"),
        "PsiChi": lambda: histpy.HealpixAxis(nside=1, coordsys="galactic", label="PsiChi"),
    }[label]()


def make_events(labels=ORDERS[0], seed=1, *, filled="sparse", overflow=False, unit=u.keV, **kw):
    """Random counts; with overflow, the same ones plus counts outside the ranges."""
    axes = [make_axis(label, unit) for label in labels]
    rng = np.random.default_rng(seed)
    contents = rng.poisson(0.5, [axis.nbins for axis in axes]).astype(float)
    if overflow:
        inside = contents
        contents = rng.poisson(0.5, [n + 2 for n in inside.shape]).astype(float)
        contents[(slice(1, -1),) * inside.ndim] = inside
    if filled == "sparse":
        contents = sparse.COO.from_numpy(contents)
    return histpy.Histogram(axes, contents, track_overflow=overflow, **kw)


def dense_contents(histogram):
    contents = histogram.contents
    return contents.todense() if hasattr(contents, "todense") else np.asarray(contents)


def reference(histogram, weights):
    """T = w @ M by einsum on the dense contents, and the same with w^2."""
    axis = [a.label for a in histogram.axes].index("Em")
    slabs = np.moveaxis(dense_contents(histogram), axis, 0)
    return [np.einsum("ke,e...->k...", w, slabs) for w in (weights, weights**2)]
