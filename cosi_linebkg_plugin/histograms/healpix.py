"""HEALPix pixels and harmonics, by healpy's compiled functions without the rest of healpy.

``import healpy`` takes half a second, for astropy and pyplot. Its extension modules need neither:
they are loaded alone, and healpy as a whole where that does not work.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import cache, partial
from importlib.machinery import EXTENSION_SUFFIXES
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Pixels = NDArray[np.int64]

_PIXELS, _HARMONICS = "_healpy_pixel_lib", "_healpy_sph_transform_lib"


@cache
def _extension(name: str) -> ModuleType:
    """One of healpy's extension modules, without healpy if that is not loaded."""
    full = f"healpy.{name}"
    if full in sys.modules:
        return sys.modules[full]
    healpy = find_spec("healpy")
    folders = healpy.submodule_search_locations if healpy is not None else None
    for folder in folders or ():
        for suffix in EXTENSION_SUFFIXES:
            path = Path(folder) / f"{name}{suffix}"
            spec = spec_from_file_location(full, path) if path.is_file() else None
            if spec is not None and spec.loader is not None:
                module = module_from_spec(spec)
                spec.loader.exec_module(module)
                return module
    raise ImportError(f"healpy has no {name}")


def _pixel_function(name: str, nest: bool) -> Callable[..., Any]:
    try:
        compiled: Callable[..., Any] = getattr(
            _extension(_PIXELS), f"_{name}_{'nest' if nest else 'ring'}"
        )
    except (ImportError, AttributeError):
        import healpy

        return partial(getattr(healpy, name), nest=nest)
    return compiled


def ang2pix(nside: int, theta: Array, phi: Array, *, nest: bool = False) -> Pixels:
    """Pixels of directions: colatitudes from 0 to pi and longitudes, rad."""
    return np.asarray(_pixel_function("ang2pix", nest)(nside, theta, phi))


def pix2ang(nside: int, pixels: Pixels, *, nest: bool = False) -> tuple[Array, Array]:
    """Colatitude and longitude of the centres of pixels, rad."""
    theta, phi = _pixel_function("pix2ang", nest)(nside, pixels)
    return theta, phi


def pix2vec(nside: int, pixels: Pixels, *, nest: bool = False) -> tuple[Array, Array, Array]:
    """Unit vectors x, y, z of the centres of pixels."""
    x, y, z = _pixel_function("pix2vec", nest)(nside, pixels)
    return x, y, z


def vec2pix(nside: int, x: Array, y: Array, z: Array, *, nest: bool = False) -> Pixels:
    """Pixels of directions, given as vectors."""
    return np.asarray(_pixel_function("vec2pix", nest)(nside, x, y, z))


def reordered(nside: int, pixels: Pixels, *, to_nest: bool) -> Pixels:
    """RING numbers of pixels as NESTED ones, or the other way round."""
    name = "ring2nest" if to_nest else "nest2ring"
    try:
        convert = getattr(_extension(_PIXELS), f"_{name}")
    except (ImportError, AttributeError):
        import healpy

        convert = getattr(healpy, name)
    return np.asarray(convert(nside, pixels))


def map2alm(values: Array, iterations: int) -> NDArray[np.complex128]:
    """The harmonics of a RING map up to l = 3 nside - 1, as healpy's ``map2alm`` (iter)."""
    try:
        compiled = _extension(_HARMONICS)._map2alm
    except (ImportError, AttributeError):
        import healpy

        return np.asarray(healpy.map2alm(values, iter=iterations, pol=False))
    l_max = 3 * nside_of(values.size) - 1
    values = np.ascontiguousarray(values, float)
    return np.asarray(compiled(values, lmax=l_max, mmax=l_max, iter=iterations))


def alm2map(alm: NDArray[np.complex128], nside: int) -> Array:
    """The RING map of harmonics, as healpy's."""
    try:
        compiled = _extension(_HARMONICS)._alm2map
    except (ImportError, AttributeError):
        import healpy

        return np.asarray(healpy.alm2map(alm, nside, pol=False))
    return np.asarray(compiled(alm, nside, lmax=-1, mmax=-1))


def degrees_of(l_max: int) -> NDArray[np.int64]:
    """The degree l of each harmonic, in healpy's order: m by m, each from l = m to `l_max`."""
    return np.concatenate([np.arange(m, l_max + 1) for m in range(l_max + 1)])


def position_of(l_max: int, degree: int, m: int) -> int:
    """Where a harmonic is in that order."""
    return m * (2 * l_max + 1 - m) // 2 + degree


def nside_of(n_pix: int) -> int:
    """The nside of a whole sphere of so many pixels; 0 if no sphere has so many."""
    nside = round((n_pix / 12) ** 0.5)
    return nside if nside > 0 and 12 * nside**2 == n_pix else 0
