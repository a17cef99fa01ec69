"""Events and orientations with the attributes that cosipy 0.4.3's have, without cosipy."""

from dataclasses import dataclass

import astropy.units as u
import numpy as np
from astropy.time import Time
from scipy.spatial.transform import Rotation, Slerp
from scoords import Attitude

START = Time("2028-03-01T00:00:00", scale="utc")


class TimeTagEvent:
    """In place of cosipy's class of the same kind; compared by identity there."""


class Events:
    """Arrays by the names of cosipy's TimeTagEmCDSEventDataInSCFrameFromArrays.

    Parameters
    ----------
    seconds : ndarray, s
        Since START.
    energy : ndarray, keV
    phi, longitude, latitude : ndarray, rad
        The direction in the spacecraft's frame.
    """

    event_type = TimeTagEvent

    def __init__(self, seconds, energy, phi, longitude, latitude):
        times = START + np.asarray(seconds, float) * u.s
        self.jd1, self.jd2 = np.broadcast_arrays(times.jd1, times.jd2)
        self.energy_keV = np.asarray(energy, float)
        self.scattering_angle_rad = np.asarray(phi, float)
        self.scattered_lon_rad_sc = np.asarray(longitude, float)
        self.scattered_lat_rad_sc = np.asarray(latitude, float)

    def columns(self, chosen=slice(None)):
        """As arguments of cosipy's class."""
        names = ("jd1", "jd2", "energy_keV", "scattered_lon_rad_sc", "scattered_lat_rad_sc",
                 "scattering_angle_rad")  # fmt: skip
        return [getattr(self, name)[chosen] for name in names]


@dataclass
class History:
    """obstime, attitude and livetime of cosipy's SpacecraftHistory."""

    obstime: Time
    attitude: Attitude
    livetime: u.Quantity


def history(rotations, step=10.0, live=0.9, frame="galactic"):
    """Orientations in equal steps.

    Parameters
    ----------
    rotations : scipy Rotation of n samples
        Spacecraft to `frame`.
    live : float or ndarray, shape (n - 1,)
        Fraction of time that is live.
    """
    n = len(rotations)
    times = START + np.arange(n) * step * u.s
    return History(times, Attitude(rotations, frame), np.full(n - 1, step) * live * u.s)


def rocking(n=60, turns=1.3):
    """A scan with a slow rocking: some quaternions change sign between two samples."""
    t = np.linspace(0.0, 1.0, n)
    angles = np.column_stack([360.0 * turns * t, 40.0 * np.sin(12.0 * t), 25.0 * np.cos(7.0 * t)])
    quaternions = Rotation.from_euler("ZYX", angles, degrees=True).as_quat()
    # one hemisphere of w: as most files and scipy's own from_matrix have it
    quaternions *= np.where(quaternions[:, 3:] < 0, -1.0, 1.0)
    return Rotation.from_quat(quaternions)


def interpolated(rotations, seconds, step=10.0):
    """scipy's own spherical interpolation, shape (n,)."""
    return Slerp(np.arange(len(rotations)) * step, rotations)(seconds)


def angles_of(vectors):
    """Longitude and latitude of unit vectors, shape (n, 3), rad."""
    x, y, z = vectors.T
    return np.arctan2(y, x), np.arcsin(np.clip(z, -1.0, 1.0))


def vectors_of(longitude, latitude):
    c = np.cos(latitude)
    return np.column_stack([c * np.cos(longitude), c * np.sin(longitude), np.sin(latitude)])


def drawn(maps, energies, numbers, rotations, rng, *, nside, frame, step=10.0, live=None):
    """Events of several components: cells by their maps, even within phi and pixels.

    Parameters
    ----------
    maps : dict of label to ndarray, shape (n_phi, n_pixels)
        RING; phi from 0 to 180 deg.
    energies : dict of label to callable(rng, n) -> keV
    numbers : dict of label to int
    rotations : scipy Rotation
    frame : "local" or "galactic"
    live : ndarray, optional
        Fraction of time that is live between samples; even unless given.

    Returns
    -------
    Events
        In the order of time.
    """
    import healpy as hp

    columns = []
    for label, n in numbers.items():
        m = maps[label]
        cell = rng.choice(m.size, size=n, p=m.ravel() / m.sum())
        phi = (cell // m.shape[1] + rng.uniform(size=n)) * np.pi / m.shape[0]
        share = np.ones(len(rotations) - 1) if live is None else np.asarray(live, float)
        intervals = rng.choice(share.size, size=n, p=share / share.sum())
        seconds = (intervals + rng.uniform(size=n)) * step
        # even in a pixel: one of its 4096 parts, which have the same area
        part = hp.ring2nest(nside, cell % m.shape[1]) * 4096 + rng.integers(0, 4096, n)
        vectors = np.column_stack(hp.pix2vec(64 * nside, part, nest=True))
        if frame != "local":
            vectors = interpolated(rotations, seconds, step).inv().apply(vectors)
        columns.append([seconds, energies[label](rng, n), phi, *angles_of(vectors)])
    joined = np.concatenate([np.array(c) for c in columns], axis=1)
    return Events(*joined[:, np.argsort(joined[0], kind="stable")])
