"""Unbinned events in cosipy's columns and file layouts, simulated for tests and benchmarks."""

from __future__ import annotations

import gzip
import shutil
from pathlib import Path

import numpy as np

UNITS = {
    "Energies": "keV", "TimeTags": "s", "Xpointings": "rad", "Ypointings": "rad",
    "Zpointings": "rad", "Phi": "rad", "Chi local": "rad", "Psi local": "rad",
    "Distance": "cm", "Chi galactic": "deg", "Psi galactic": "deg",
}  # fmt: skip
#: cosipy's names of the pointing columns.
POINTINGS = {f"{axis}pointings": f"{axis}pointings (glon,glat)" for axis in "XYZ"}
START = 1835478000.0  # s, Unix: the beginning of the data challenges' orbit


def make_events(n: int, seed: int = 1, duration: float = 86400.0, start: float = START) -> dict:
    """Columns of n events: energies like a background, directions all over the sphere.

    Energies have four decimals and times are in order, as in lists made from .tra files.
    """
    rng = np.random.default_rng(seed)
    energies = np.round(200.0 * rng.random(n) ** -0.6, 4)
    in_line = rng.random(n) < 0.1
    energies[in_line] = np.round(rng.normal(1778.97, 3.0, np.count_nonzero(in_line)), 4)
    columns = {
        "Energies": np.minimum(energies, 5000.0),
        "TimeTags": np.sort(start + np.round(duration * rng.random(n), 6)),
        "Phi": np.arccos(rng.uniform(-1.0, 1.0, n)),
        "Chi local": 2 * np.pi * rng.random(n),
        "Psi local": np.arccos(rng.uniform(-1.0, 1.0, n)),
        "Distance": np.round(rng.exponential(3.0, n), 6),
        "Chi galactic": 360.0 * rng.random(n),
        "Psi galactic": np.degrees(np.arcsin(rng.uniform(-1.0, 1.0, n))),
    }
    angle = 2 * np.pi * (columns["TimeTags"] - start) / 5700.0  # an orbit
    for name, phase in (("X", 0.0), ("Y", np.pi / 2), ("Z", np.pi)):
        columns[f"{name}pointings"] = np.stack(
            [np.mod(angle + phase, 2 * np.pi) - np.pi, 0.4 * np.sin(angle + phase)], axis=1
        )
    return {name: columns[name] for name in UNITS}


def write_hdf5(path: Path, columns: dict, compression: str | None = "gzip") -> Path:
    """As cosipy writes it: every column a dataset at the root."""
    import h5py

    with h5py.File(path, "w") as file:
        for name, values in columns.items():
            name = POINTINGS.get(name, name)
            file.create_dataset(name, data=values, compression=compression)
    return path


def write_fits(path: Path, columns: dict) -> Path:
    """As cosipy writes it: one table with units, through gzip where the name ends in .gz."""
    from astropy.table import Table

    names = [POINTINGS.get(name, name) for name in columns]
    units = [UNITS.get(name) for name in columns]
    table = Table(list(columns.values()), names=names, units=units, meta={"version": "0.3.4"})
    plain = path.with_suffix("") if path.suffix == ".gz" else path
    table.write(plain, overwrite=True)
    if plain != path:
        with open(plain, "rb") as source, gzip.open(path, "wb", compresslevel=6) as target:
            shutil.copyfileobj(source, target)
        plain.unlink()
    return path


def special_events(nside: int, energies: list[float], times: list[float]) -> dict:
    """Events on edges of bins, on the poles, and where pixels meet, with some just beside.

    All are directions, and no angle is NaN, so that cosipy can bin them too.
    """
    import healpy

    rng = np.random.default_rng(5)
    n_pixels = healpy.nside2npix(nside)
    pixels = np.arange(n_pixels) if nside <= 16 else rng.integers(0, n_pixels, 4000)
    vectors = np.concatenate([healpy.boundaries(nside, pix, step=2).T for pix in pixels])
    theta, lon = healpy.vec2ang(vectors)
    theta = np.concatenate([theta, np.repeat([0.0, np.pi, np.pi / 2], 100)])
    lon = np.concatenate([lon, np.tile(np.linspace(-2 * np.pi, 4 * np.pi, 100), 3)])
    theta = np.concatenate([theta, np.nextafter(theta, 0), np.nextafter(theta, np.pi)])
    lon = np.concatenate([lon, np.nextafter(lon, -9), np.nextafter(lon, 9)])
    n = theta.size
    phi_edges = np.radians(np.linspace(0, 180, 26))

    def near(edges: np.ndarray) -> np.ndarray:
        chosen = rng.choice(edges, n)
        return np.where(
            rng.random(n) < 0.5, chosen, np.nextafter(chosen, rng.choice([-1e99, 1e99], n))
        )

    columns = make_events(n)
    columns |= {
        "Energies": near(np.array(energies)),
        "TimeTags": near(np.array(times)),
        "Phi": near(phi_edges),
        "Chi local": lon,
        "Psi local": theta,
        "Chi galactic": np.degrees(lon),
        "Psi galactic": np.clip(90.0 - np.degrees(theta), -90.0, 90.0),
    }
    return columns


def write_orientation(path, times, livetimes, z_lat, z_lon, x_lat=None, x_lon=None):
    """A file in cosipy's format; angles in deg."""
    lines = ["Type OrientationsGalactic"]
    nothing = np.zeros(len(times))
    x_lat, x_lon = (nothing if x is None else x for x in (x_lat, x_lon))
    for row in zip(times, x_lat, x_lon, z_lat, z_lon, livetimes, strict=True):
        *angles, live = (repr(float(x)) for x in row)
        lines.append(f"OG {' '.join(angles)} 550.0 0.0 0.0 {live}")
    path.write_text("\n".join([*lines, "EN"]) + "\n")
    return path


def write_fits_orientation(path, times, livetimes, z, units=None, **cards):
    """A file in the layout of cosipy 0.4.3's SpacecraftHistory; z as (longitude, latitude)."""
    from astropy.io import fits

    units = {"TimeStamp": "s", "ZPointings": "deg", "LiveTime": "s"} | (units or {})
    columns = {
        "TimeStamp": times, "XPointings": np.zeros_like(z), "ZPointings": z,
        "EarthZenith": np.zeros_like(z), "Altitude": np.full(len(z), 550.0), "LiveTime": livetimes,
    }  # fmt: skip
    table = fits.BinTableHDU.from_columns(
        [
            fits.Column(name, "D" if np.ndim(values) == 1 else f"{np.shape(values)[1]}D",
                        unit=units.get(name), array=values)
            for name, values in columns.items()
        ]
    )  # fmt: skip
    table.header["VERSION"] = "20260130"
    table.header.update(cards)
    plain = path.with_suffix("") if path.suffix == ".gz" else path
    fits.HDUList([fits.PrimaryHDU(), table]).writeto(plain, overwrite=True)
    if plain != path:
        path.write_bytes(gzip.compress(plain.read_bytes()))
        plain.unlink()
    return path


def rocking_orbit(times):
    """Unit vectors of the x and z axes, shape (n, 3), of a zenith scan that rocks by 22 deg.

    Each orbit of 5700 s turns the attitude through all signs of its quaternions.
    """
    angle, inclination = 2 * np.pi * times / 5700, np.radians(28)
    zenith = np.stack(
        [np.cos(angle), np.sin(angle) * np.cos(inclination), np.sin(angle) * np.sin(inclination)],
        axis=1,
    )
    normal = np.array([0.0, -np.sin(inclination), np.cos(inclination)])
    tilt = np.radians(22) * np.sin(2 * np.pi * times / 11400)[:, None]
    x = np.cos(tilt) * normal - np.sin(tilt) * zenith
    return x, np.cos(tilt) * zenith + np.sin(tilt) * normal
