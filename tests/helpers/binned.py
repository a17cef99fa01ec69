"""How the tests bin, and the same histogram by numpy and healpy alone."""

import healpy
import numpy as np

EDGES = np.linspace(1500, 2000, 51)
COARSE = dict(energy_edges=[200.0, 1000.0, 5000.0], phi_pix_size=30, nside=2)
#: Events of the fixtures `columns` and `path`.
N = 20_000


def reference(columns, *, edges, n_phi, nside, scheme="ring", frame="galactic", times=None):
    """The histogram by numpy and healpy alone, dense."""
    if frame == "galactic":
        lon, lat = columns["Chi galactic"], columns["Psi galactic"]
        pixels = healpy.ang2pix(nside, lon, lat, lonlat=True, nest=scheme == "nested")
    else:
        theta, phi = columns["Psi local"], columns["Chi local"]
        pixels = healpy.ang2pix(nside, theta, phi, nest=scheme == "nested")
    phi_edges = np.linspace(0, 180, n_phi + 1)
    bins = [np.digitize(columns["Energies"], edges) - 1]
    bins += [np.digitize(np.degrees(columns["Phi"]), phi_edges) - 1, pixels]
    shape = [len(edges) - 1, n_phi, 12 * nside**2]
    if times is not None:
        bins.insert(0, np.digitize(columns["TimeTags"], times) - 1)
        shape.insert(0, len(times) - 1)
    inside = np.all([(b >= 0) & (b < n) for b, n in zip(bins, shape, strict=True)], axis=0)
    counts = np.zeros(shape)
    np.add.at(counts, tuple(b[inside] for b in bins), 1)
    return counts


def dense(histogram):
    return histogram.contents.todense()
