"""Observed counts of a known pattern and templates of it, for tests of comparisons."""

import astropy.units as u
import healpy as hp
import numpy as np
from templates import axes, axis, histogram_of, template_of

NSIDE = 8
AXES = axes(
    Phi=axis("Phi", edges=np.linspace(0, 180, 31) * u.deg), PsiChi=axis("PsiChi", nside=NSIDE)
)
SHAPE = (1, 30, hp.nside2npix(NSIDE))


def pattern(total=40000.0):
    phi = np.exp(-0.5 * ((np.arange(30) - 8) / 5.0) ** 2) + 1e-6
    pixel = np.stack(hp.pix2vec(NSIDE, np.arange(SHAPE[2])))
    sky = np.exp(0.4 * pixel[2])
    cells = phi[:, None] * sky
    return (total * cells / cells.sum())[None]


def exact(cells, some_axes=AXES, **options):
    """A template without noise of its own."""
    template = template_of({"background": cells}, some_axes, **options)
    template._maps = {k: (m, 0 * m) for k, (m, _) in template._maps.items()}
    return template


def observed_of(expected, seed=1, some_axes=AXES):
    return histogram_of(some_axes, np.random.default_rng(seed).poisson(expected).astype(float))
