"""healpy's compiled functions, loaded alone, give what healpy gives, to the last digit."""

from __future__ import annotations

import subprocess
import sys

import healpy
import numpy as np
import pytest
from numpy.testing import assert_array_equal

from cosi_linebkg_plugin.histograms import healpix

SIDES = [1, 2, 16, 128]


@pytest.fixture(params=["compiled", "whole"])
def way(request, monkeypatch):
    """With the extension modules alone, and with healpy as a whole in their place."""
    if request.param == "whole":

        def none(name):
            raise ImportError(name)

        monkeypatch.setattr(healpix, "_extension", none)


def directions():
    rng = np.random.default_rng(1)
    theta = np.concatenate([np.arccos(rng.uniform(-1, 1, 20_000)), [0.0, np.pi, np.pi / 2, 1e-9]])
    phi = np.concatenate([rng.uniform(-7, 7, 20_000), [0.0, 2 * np.pi, np.pi / 4, 6.3]])
    return theta, phi


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("nside", SIDES)
@pytest.mark.parametrize("nest", [False, True])
def test_pixels(nside, nest):
    theta, phi = directions()
    pixels = healpy.ang2pix(nside, theta, phi, nest=nest)
    assert_array_equal(healpix.ang2pix(nside, theta, phi, nest=nest), pixels)
    assert_array_equal(
        healpix.pix2ang(nside, pixels, nest=nest), healpy.pix2ang(nside, pixels, nest=nest)
    )
    vectors = healpy.pix2vec(nside, pixels, nest=nest)
    assert_array_equal(healpix.pix2vec(nside, pixels, nest=nest), vectors)
    assert_array_equal(
        healpix.vec2pix(nside, *vectors, nest=nest), healpy.vec2pix(nside, *vectors, nest=nest)
    )
    convert = healpy.nest2ring if nest else healpy.ring2nest
    assert_array_equal(healpix.reordered(nside, pixels, to_nest=not nest), convert(nside, pixels))


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("nside", [1, 2, 16])
@pytest.mark.parametrize("iterations", [0, 3])
def test_harmonics(nside, iterations):
    values = np.random.default_rng(2).normal(size=(12 * nside**2, 2)).T[0]  # not contiguous
    alm = healpy.map2alm(values, iter=iterations, pol=False)
    assert_array_equal(healpix.map2alm(values, iterations), alm)
    assert_array_equal(healpix.alm2map(alm, nside), healpy.alm2map(alm, nside, pol=False))
    l_max = 3 * nside - 1
    degrees, orders = healpy.Alm.getlm(l_max)
    assert_array_equal(healpix.degrees_of(l_max), degrees)
    for i in range(0, degrees.size, 7):
        assert healpix.position_of(l_max, degrees[i], orders[i]) == i
    window = np.exp(-0.01 * np.arange(3 * nside))
    assert_array_equal(alm * window[healpix.degrees_of(l_max)], healpy.almxfl(alm, window))


def test_sides():
    for n in range(1, 4000):
        assert healpix.nside_of(n) == (healpy.npix2nside(n) if healpy.isnpixok(n) else 0)
    assert healpix.nside_of(0) == 0


ALONE = """
import sys, numpy as np
from cosi_linebkg_plugin.histograms import healpix
values = np.arange(48.0)
before = healpix.alm2map(healpix.map2alm(values, 3), 2)
pixels = healpix.ang2pix(2, np.array([0.3]), np.array([1.0]))
assert "healpy" not in sys.modules and "astropy" not in sys.modules
import healpy
assert (healpy.alm2map(healpy.map2alm(values, iter=3, pol=False), 2, pol=False) == before).all()
assert (healpy.ang2pix(2, [0.3], [1.0]) == pixels).all()
assert (healpix.alm2map(healpix.map2alm(values, 3), 2) == before).all()
"""


def test_healpy_is_not_imported_and_can_be_afterwards():
    done = subprocess.run([sys.executable, "-c", ALONE], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
