"""A simulated data set like COSI's DC3: three months of background and the 26Al sky.

The truth is known: the expected counts of each component in any energy range. Assumptions:

* **Energies.** A power-law continuum and the instrumental lines that a fit to the DC3 spectrum
  finds at 1500-2000 keV. One line, at 1808.65 keV, lies inside the source range; its counts are
  `DEMO_LINE_RATIO` times those of 28Al at 1778.97 keV. All lines share one shape: a Gaussian,
  on request with an exponential low-energy tail.
* **Phi.** Continuum and lines have a smooth distribution each (the lines' is broader), which
  changes slowly with energy, and ridges where a photon of the first Compton scatter has a fixed
  energy (`DEMO_RIDGES`, `feature_angle`), which move. Within an energy slice (a bin, or its part
  where `extra_edges` split it) the distribution is the mean over the slice's energies.
* **PsiChi.** Continuum and lines have a smooth pattern of low multipoles each, which changes
  mildly with Phi and not with energy.
* **Sky.** Point sources in the inner Galactic disk, Cygnus and Vela at 1808.65 keV. Events lie
  on the cone PsiChi-source angle = Phi, smeared by the ARM; Phi follows Klein and Nishina. A
  quarter of the events lose energy, and keep the directions of the others. Exposure is uniform.
  On request each direction has a radial velocity, which shifts all energies of its events
  (`DEMO_VELOCITY`); the width of the line stays. On request (`SkyLine`) the line stands on the
  three-photon continuum of positronium: full-energy events alone, from the same directions, with
  the Phi distribution of the line.
* **Time.** The continuum varies slowly, the lines build up as activation does, the sky is steady.

A component (of a sky with velocities: the directions of one velocity) is thus spectrum x Phi
distribution x pattern x time, and is drawn factor by factor: a Poisson number per (slice, Phi bin),
then pixels and times. In law that is an independent Poisson number in every cell.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, partial
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import gammainc, log_ndtr, ndtr

from ..errors import BinningError, DataError, LineBackgroundError
from ..histograms.healpix import pix2vec, reordered
from ..histograms.orientation import unit_vectors
from ..spectrum.axis import EDGE_TOLERANCE, check_edges, check_inside
from ..spectrum.lineshapes import gaussian_counts, powerlaw_counts, tailed_gaussian_counts
from ..template.kinematics import ELECTRON_MASS, feature_angle

Array = NDArray[np.float64]

SOURCE_RANGE = (1805.0, 1812.0)  # keV

DEMO_RANGE = (1500.0, 2000.0)  # keV, where the constants below hold

ANY_RANGE = (100.0, 10000.0)  # keV, for a continuum and lines of one's own

DEMO_LIVETIME = 7776000.0  # s, three months


@dataclass(frozen=True)
class DemoContinuum:
    """Power law ``K (E/piv)^index``: counts/keV in three months, keV, 1."""

    K: float
    piv: float
    index: float


class DemoLine(NamedTuple):
    """Line energy [keV], its counts in three months, its isotope ("" if unknown)."""

    energy: float
    counts: float
    isotope: str = ""


class Ridge(NamedTuple):
    """A feature in Phi where a photon of the first scatter has a fixed energy.

    Photon energy [keV], whether it is the scattered photon (E2) or the first deposit (E1), standard
    deviation in Phi [deg], and the share of each component's events.
    """

    photon: float
    scattered: bool
    width: float
    continuum: float
    lines: float


# Continuum and lines: rounded from a Poisson fit to the published DC3 spectrum (26Al and
# background, 99 bins; power law and 22 tailed Gaussians of one shape; deviance 337 for 64 degrees
# of freedom, so the real spectrum holds a little more than this). Lines with an isotope stand at
# its tabulated energy or, blends, where the fit has them; 1666 and 1723 keV look like artefacts of
# the DC3 simulation. At 1808.65 keV the fit finds 41,450 counts, mostly sky: the instrumental
# line is set by the ratio to 28Al instead.
DEMO_CONTINUUM = DemoContinuum(K=3376.0, piv=1750.0, index=-1.807)

DEMO_LINE_RATIO = 0.149

# fmt: off
DEMO_LINES = (
    DemoLine(1505.0, 2500.0), DemoLine(1509.5, 2900.0), DemoLine(1515.4, 13100.0),
    DemoLine(1525.84, 2800.0, "69Ge"), DemoLine(1537.8, 2450.0, "69Ge"), DemoLine(1565.3, 1800.0),
    DemoLine(1611.72, 16400.0, "25Na"), DemoLine(1633.60, 40900.0, "20F"), DemoLine(1652.0, 2050.0),
    DemoLine(1666.0, 82200.0), DemoLine(1674.73, 860.0, "58Co"),
    DemoLine(1723.0, 27800.0), DemoLine(1757.55, 800.0, "57Ni"), DemoLine(1764.3, 12300.0, "205Bi"),
    DemoLine(1778.97, 39500.0, "28Al"), DemoLine(1808.65, DEMO_LINE_RATIO * 39500.0, "26Na"),
    DemoLine(1861.7, 340.0, "205Bi"), DemoLine(1883.16, 540.0, "68Ga"),
    DemoLine(1892.9, 3870.0, "68Ga"), DemoLine(1903.45, 1000.0, "205Bi"),
    DemoLine(1919.52, 3530.0, "57Ni"), DemoLine(1927.8, 1350.0, "57Ni"),
)

# fmt: on
LINE_SIGMA = 2.9  # keV

TAIL_FRACTION, TAIL_LENGTH = 0.23, 12.5  # share, keV: the low-energy tail of DC3's 26Al line

SKY_ENERGY = 1808.65  # keV

SKY_SIGMA = float(np.hypot(LINE_SIGMA, 0.6))  # keV, with the Doppler width of Galactic rotation


@dataclass(frozen=True)
class SkyLine:
    """A line of the sky, and what it stands on.

    Attributes
    ----------
    energy, sigma : float, keV
        At rest, and the standard deviation of the detected line.
    positronium : float
        Counts of the three-photon continuum (Ore & Powell 1949, Phys. Rev. 75, 1696), which ends
        in a step at `energy`, per full-energy count of the line.
    """

    energy: float = SKY_ENERGY
    sigma: float = SKY_SIGMA
    positronium: float = 0.0


DEMO_SKY_LINE = SkyLine()

SKY_LOSS_FRACTION, SKY_LOSS = 0.25, 120.0  # share of events that lose energy, mean loss in keV

SPEED_OF_LIGHT = 299792.458  # km/s

FASTEST = 3000.0  # km/s: Doppler shifts are taken as linear in velocity

ARM_SIGMA = 2.0  # deg

DEMO_RIDGES = (
    Ridge(ELECTRON_MASS, True, 1.2, 0.050, 0.020),  # an annihilation photon leaves the scatter
    Ridge(ELECTRON_MASS, False, 1.2, 0.030, 0.015),  # ... or is absorbed in the first site
    Ridge(2 * ELECTRON_MASS, True, 1.0, 0.025, 0.010),  # both of them leave
    Ridge(2 * ELECTRON_MASS, False, 1.4, 0.015, 0.008),  # both are absorbed
    Ridge(1173.228, False, 1.5, 0.010, 0.005),  # 60Co, absorbed
)

# Smooth Phi distribution phi^(k-1) exp(-phi/scale): k, scale [deg] at 1750 keV, and the change of
# ln(scale) per 250 keV.
_PHI_SHAPES = {"continuum": (2.4, 22.0, -0.08), "lines": (3.0, 24.0, -0.05)}

# Pattern exp(a n.u + b (n.v)^2 + c cos(Phi) n.w): amplitudes, and u, v, w as (glon, glat) [deg].
_PATTERNS = {
    "continuum": ((0.35, 0.30, 0.20), ((120.0, 27.0), (30.0, 60.0), (200.0, -40.0))),
    "lines": ((0.45, -0.40, 0.25), ((250.0, -35.0), (300.0, 10.0), (60.0, 20.0))),
}


class DemoCourse(NamedTuple):
    """Amplitudes of rates in time, relative to 1."""

    swing: float  # of the continuum, times a sine over the live time
    build_up: float  # of the lines, times exp(-t / (live time / 4))


DEMO_COURSE = DemoCourse(0.15, -0.4)


def _demo_sky() -> Array:
    lon, lat = np.meshgrid(np.arange(-40.0, 41.0, 5.0), np.array([-8.0, -4.0, 0.0, 4.0, 8.0]))
    weight = np.exp(-0.5 * (lon / 20.0) ** 2 - np.abs(lat) / 5.0)
    disk = np.stack([lon.ravel() % 360.0, lat.ravel(), 0.9 * weight.ravel() / weight.sum()], 1)
    sky = np.vstack([disk, [[80.0, 1.0, 0.06], [264.0, -1.0, 0.04]]])  # Cygnus, Vela
    sky.flags.writeable = False
    return sky


#: The 26Al sky: Galactic longitude [deg], latitude [deg], weight; shape (n_directions, 3).
DEMO_SKY = _demo_sky()


def _demo_velocity() -> Array:
    speed, radius, ours = 220.0, 4.0, 8.2  # km/s, kpc, kpc
    velocity = speed * (ours / radius - 1.0) * np.sin(np.radians(DEMO_SKY[:, 0]))
    velocity[-2:] = 0.0  # Cygnus and Vela are near
    velocity.flags.writeable = False
    return velocity


#: Radial velocities [km/s] of `DEMO_SKY`, away from us above 0, shape (n_directions,): a disk that
#: circles the Galactic centre at 4 kpc with 220 km/s, as we do at 8.2 kpc. From 0.9 keV above the
#: energy at rest at longitude -40 deg to 0.9 keV below it at 40 deg.
DEMO_VELOCITY = _demo_velocity()


@dataclass(frozen=True, eq=False)
class _Component:
    """Spectrum x Phi distribution x pattern x time; the last three are normalised."""

    spectrum: Callable[[Array], Array]  # edges [keV], shape (n + 1,) -> counts, shape (n,)
    phi: Array  # (n_slices, n_phi)
    pattern: Array  # (n_phi, n_pixels)
    time: Array  # (n_time,)

    def draw(self, slice_edges: Array, rng: np.random.Generator) -> NDArray[np.int64]:
        """Flat (slice, time, Phi, pixel) index of each event, sorted, shape (n_events,)."""
        number = rng.poisson(self.spectrum(slice_edges)[:, None] * self.phi)
        (n_slices, n_phi), n_pixels = number.shape, self.pattern.shape[1]
        key = np.repeat(np.tile(np.arange(n_slices), n_phi), number.T.ravel()) * self.time.size
        if self.time.size > 1:
            key += _choose(self.time, key.size, rng)
        start = 0
        for j, stop in enumerate(np.cumsum(number.sum(axis=0))):
            pixel = _choose(self.pattern[j], stop - start, rng)
            key[start:stop] = (key[start:stop] * n_phi + j) * n_pixels + pixel
            start = stop
        key.sort()
        return key

    def expected(self, edges: Array, first: int) -> Array:
        """Expected counts between energies [keV], shape (n_time, n_phi, n_pixels).

        Parameters
        ----------
        edges : ndarray, shape (n + 1,), keV
            Parts of the slices first, ..., first + n - 1.
        """
        counts = self.spectrum(edges) @ self.phi[first : first + edges.size - 1]
        return self.time[:, None, None] * (counts[:, None] * self.pattern)


@dataclass(frozen=True, eq=False)
class _Mixture:
    """Components that count as one."""

    parts: tuple[_Component, ...]

    def spectrum(self, edges: Array) -> Array:
        """Expected counts per energy bin, shape (n,); edges [keV] of shape (n + 1,)."""
        return np.asarray(sum(part.spectrum(edges) for part in self.parts))

    def draw(self, slice_edges: Array, rng: np.random.Generator) -> NDArray[np.int64]:
        """As `_Component.draw`."""
        return np.sort(np.concatenate([part.draw(slice_edges, rng) for part in self.parts]))

    def expected(self, edges: Array, first: int) -> Array:
        """As `_Component.expected`."""
        return np.asarray(sum(part.expected(edges, first) for part in self.parts))


@dataclass(frozen=True, eq=False)
class Simulation:
    """A drawn data set and the expectation that it was drawn from.

    Maps have the shape (n_phi, n_pixels), with n_time in front if there is a Time axis.

    Attributes
    ----------
    energy_edges : ndarray, shape (n_energy + 1,), keV
    phi_edges : ndarray, shape (n_phi + 1,), deg
    nside : int
        PsiChi is healpix, RING, Galactic.
    time_edges : ndarray, shape (n_time + 1,), s, or None
        From 0 to the live time; None without a Time axis.
    livetime : float, s
    slice_edges : ndarray, shape (n_slices + 1,), keV
        The energy edges and the extra edges: `observed` takes ranges between these.
    coords : ndarray of int64, shape (ndim, nnz)
        Cells of the drawn histogram that hold counts; axes [Time,] Em, Phi, PsiChi.
    counts : ndarray, shape (nnz,)
    shape : tuple of int, of that histogram
    """

    energy_edges: Array
    phi_edges: Array
    nside: int
    time_edges: Array | None
    livetime: float
    slice_edges: Array
    coords: NDArray[np.int64] = field(repr=False)
    counts: Array = field(repr=False)
    shape: tuple[int, ...]
    _components: Mapping[str, _Component | _Mixture] = field(repr=False)
    _events: Mapping[str, NDArray[np.int64]] = field(repr=False)

    def expected_continuum(self, low: float, high: float) -> Array:
        """Map of the continuum's expected counts in [low, high] keV."""
        return self._expected("continuum", low, high)

    def expected_lines(self, low: float, high: float) -> Array:
        """Map of the instrumental lines' expected counts in [low, high] keV."""
        return self._expected("lines", low, high)

    def expected_background(self, low: float, high: float) -> Array:
        """Map of the expected background counts (continuum and lines) in [low, high] keV."""
        return self.expected_continuum(low, high) + self.expected_lines(low, high)

    def expected_sky(self, low: float, high: float) -> Array:
        """Map of the expected counts of the sky line in [low, high] keV."""
        return self._expected("sky", low, high)

    def expected_positronium(self, low: float, high: float) -> Array:
        """Map of the expected counts of the positronium continuum in [low, high] keV."""
        if "positronium" not in self._components:
            return np.zeros_like(self.expected_sky(low, high))
        return self._expected("positronium", low, high)

    def expected_sky_slices(self) -> Iterator[Array]:
        """Maps of the expected counts of the sky line, one per energy bin, in order."""
        for low, high in zip(self.energy_edges[:-1], self.energy_edges[1:], strict=True):
            yield self.expected_sky(low, high)

    def expected_spectrum(self) -> dict[str, Array]:
        """Expected counts per energy bin of each component; shape (n_energy,)."""
        return {name: part.spectrum(self.energy_edges) for name, part in self._components.items()}

    def observed(self, low: float, high: float, component: str | None = None) -> Array:
        """Map of the drawn counts in [low, high] keV, both of them among `slice_edges`.

        Of all events, or of one `component`: "continuum", "lines", "background" (both of them),
        "sky" or, with a positronium continuum, "positronium".
        """
        first, last = self._slice_index(low), self._slice_index(high)
        check_inside(self.slice_edges, low, high, "observed range")
        names = tuple(self._events) if component is None else (component,)
        if component == "background":
            names = ("continuum", "lines")
        if not set(names) <= set(self._events):
            known = [*self._events, "background"]
            raise LineBackgroundError(f"component must be None or in {known}, got {component!r}.")
        shape = (*self.shape[:-3], *self.shape[-2:])
        cells = int(np.prod(shape))
        total = np.zeros(cells)
        for name in names:
            key = self._events[name]
            start, stop = np.searchsorted(key, [first * cells, last * cells])
            total += np.bincount(key[start:stop] % cells, minlength=cells)
        return total.reshape(shape)

    def _expected(self, name: str, low: float, high: float) -> Array:
        low, high = check_inside(self.slice_edges, low, high, "energy range")
        inner = self.slice_edges[(self.slice_edges > low) & (self.slice_edges < high)]
        edges = np.concatenate([[low], inner, [high]])
        first = int(np.searchsorted(self.slice_edges, low, side="right")) - 1
        total = self._components[name].expected(edges, first)
        return total[0] if self.time_edges is None else total

    def _slice_index(self, energy: float) -> int:
        edges = self.slice_edges
        i = int(np.argmin(np.abs(edges - energy)))
        if not abs(edges[i] - energy) <= EDGE_TOLERANCE * np.diff(self.energy_edges).max():
            raise BinningError(
                f"Events were not drawn apart at {energy:g} keV (nearest: {edges[i]:.6g} keV); "
                f"simulate with extra_edges=[{energy:g}, ...] to have it."
            )
        return i


def simulate(
    seed: int | np.random.Generator = 1,
    *,
    energy_edges: ArrayLike | None = None,
    phi_edges: ArrayLike | None = None,
    nside: int = 16,
    n_time: int | None = None,
    sky_counts: float = 5000.0,
    exposure_scale: float = 1.0,
    line_tail: bool = False,
    extra_edges: Sequence[float] | None = None,
    continuum: DemoContinuum = DEMO_CONTINUUM,
    lines: Sequence[DemoLine] = DEMO_LINES,
    sky: ArrayLike = DEMO_SKY,
    sky_velocity: ArrayLike | None = None,
    sky_line: SkyLine = DEMO_SKY_LINE,
    ridges: Sequence[Ridge] = DEMO_RIDGES,
    course: DemoCourse = DEMO_COURSE,
) -> Simulation:
    """Draw a DC3-like data set; the module's docstring says what it assumes.

    Parameters
    ----------
    seed : int or numpy Generator
        The same seed gives the same data set.
    energy_edges : array_like, shape (n_energy + 1,), keV, optional
        Inside 1500-2000 keV, or 100-10000 keV with `continuum` and `lines` of your own.
        Default: ``np.linspace(1500, 2000, 100)``.
    phi_edges : array_like, shape (n_phi + 1,), deg, optional
        Inside 0-180 deg; all events fall inside them. Default: 60 bins of 3 deg.
    nside : int
        A power of 2.
    n_time : int, optional
        Number of equal bins of a Time axis. Default: no such axis.
    sky_counts : float
        Expected sky events in the full-energy line in three months; a third as many come on top
        with less energy. DC3's spectrum holds about 35,600; the default is a seventh of that.
    exposure_scale : float
        Factor on the live time, and with it on all expected counts.
    line_tail : bool
        Give all lines an exponential low-energy tail.
    extra_edges : sequence of float, keV, optional
        Energies at which bins are split while drawing, for `Simulation.observed`. Default: those
        of 1805 and 1812 keV that lie inside the axis.
    continuum, lines, sky, sky_line, ridges
        As `DEMO_CONTINUUM`, `DEMO_LINES`, `DEMO_SKY`, `DEMO_SKY_LINE`, `DEMO_RIDGES`.
    sky_velocity : array_like, shape (n_directions,), km/s, optional
        Radial velocity of each direction of `sky`, away from us above 0, like `DEMO_VELOCITY`: its
        energies are those at rest less ``sky_line.energy * velocity / c``. Default: at rest.
    course : DemoCourse
        How continuum and lines vary in time; both amplitudes between -1 and 1.

    Raises
    ------
    LineBackgroundError
        If an argument is unusable; says which and what is allowed.
    """
    energy = check_edges(np.linspace(*DEMO_RANGE, 100) if energy_edges is None else energy_edges)
    own = continuum is not DEMO_CONTINUUM and lines is not DEMO_LINES
    check_inside(
        np.array(ANY_RANGE if own else DEMO_RANGE), energy[0], energy[-1], "simulated energy axis"
    )
    phi_edges = _check_phi(np.linspace(0.0, 180.0, 61) if phi_edges is None else phi_edges)
    _check_settings(nside, n_time, sky_counts, exposure_scale)
    table, directions = _check_sources(continuum, lines, sky, sky_line)
    _check_ridges(ridges)
    rng = _generator(seed)
    slices = _slices(energy, extra_edges)
    time = np.linspace(0.0, 1.0, (n_time or 1) + 1)
    tail = TAIL_FRACTION if line_tail else 0.0
    spectra = {
        "continuum": partial(_continuum_spectrum, exposure_scale, continuum),
        "lines": partial(_line_spectrum, table * [1.0, exposure_scale], tail),
    }
    grid = slices, phi_edges, nside, time
    components: dict[str, _Component | _Mixture] = {**_background(spectra, ridges, *grid, course)}
    moving = _by_velocity(directions, sky_velocity)
    for name, law in _sky_spectra(exposure_scale * sky_counts, tail, sky_line).items():
        components[name] = _sky_component(law, moving, sky_line.energy, *grid)
    events = {name: part.draw(slices, rng) for name, part in components.items()}
    shape = (n_time or 1, energy.size - 1, phi_edges.size - 1, 12 * nside**2)
    fine = (slices.size - 1, shape[0], *shape[2:])
    em = np.searchsorted(energy, slices[:-1], side="right") - 1
    coords, counts = _cells(np.concatenate(list(events.values())), fine, em, shape)
    livetime = DEMO_LIVETIME * exposure_scale
    return Simulation(
        energy_edges=energy,
        phi_edges=phi_edges,
        nside=int(nside),
        time_edges=None if n_time is None else livetime * time,
        livetime=livetime,
        slice_edges=slices,
        coords=coords[1:] if n_time is None else coords,
        counts=counts.astype(float),
        shape=shape[1:] if n_time is None else shape,
        _components=components,
        _events=events,
    )


def _cells(
    events: NDArray[np.int64], fine: tuple[int, ...], em: NDArray[np.int64], shape: tuple[int, ...]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Coordinates of the cells that hold events, in order, and how many.

    `events` are flat cells of the slices, of shape `fine`; `em` is the energy bin of each slice.
    """
    n_cells = int(np.prod(fine[2:]))
    index, flat = np.divmod(events, n_cells)
    index, time = np.divmod(index, fine[1])
    flat += (time * shape[1] + em[index]) * n_cells
    flat, counts = np.unique(flat, return_counts=True)
    coords = np.empty((len(shape), flat.size), np.int64)
    for axis in reversed(range(1, len(shape))):
        np.divmod(flat, shape[axis], out=(flat, coords[axis]))
    coords[0] = flat
    return coords, counts


def _check_settings(
    nside: int, n_time: int | None, sky_counts: float, exposure_scale: float
) -> None:
    if not (isinstance(nside, int | np.integer) and nside > 0 and not nside & (nside - 1)):
        raise BinningError(f"nside must be a power of 2 (1, 2, 4, ...), got {nside!r}.")
    if n_time is not None and not (isinstance(n_time, int | np.integer) and n_time > 0):
        raise BinningError(f"n_time must be a whole number above 0, or None, got {n_time!r}.")
    if not (np.isfinite(sky_counts) and sky_counts >= 0):
        raise DataError(f"sky_counts must be a finite number, 0 or more, got {sky_counts!r}.")
    if not (np.isfinite(exposure_scale) and exposure_scale > 0):
        raise DataError(f"exposure_scale must be finite and above 0, got {exposure_scale!r}.")


def _check_sources(
    continuum: DemoContinuum, lines: Sequence[DemoLine], sky: ArrayLike, sky_line: SkyLine
) -> tuple[Array, Array]:
    """Energies and counts of the lines, and directions and weights of the sky, as arrays."""
    table = _check_table("lines", [line[:2] for line in lines], 2)
    law = (continuum.K, continuum.piv, continuum.index)
    if not (np.isfinite(law).all() and continuum.K >= 0 and continuum.piv > 0):
        raise DataError(f"The continuum must be finite, K >= 0 and piv > 0, got {continuum}.")
    directions = _check_table("sky", sky, 3)
    if not directions[:, 2].sum() > 0 or np.abs(directions[:, 1]).max() > 90:
        raise DataError("sky needs a weight above 0 and latitudes within -90 to 90 deg.")
    good = np.isfinite([sky_line.energy, sky_line.sigma, sky_line.positronium]).all()
    if not (good and min(sky_line.energy, sky_line.sigma) > 0 and sky_line.positronium >= 0):
        raise DataError(
            "sky_line must be finite, energy and sigma above 0 and positronium 0 or more, got "
            f"{sky_line}."
        )
    return table, directions


def _check_ridges(ridges: Sequence[Ridge]) -> None:
    table = np.array(ridges, dtype=float).reshape(-1, len(DEMO_RIDGES[0]))
    photon, _, width, *shares = table.T
    good = np.isfinite(table).all() and (photon > 0).all() and (width > 0).all()
    if not (good and np.min(shares, initial=0.0) >= 0 and np.sum(shares, axis=1).max() < 1):
        raise DataError(
            "ridges must be finite, photon and width above 0, and the shares of each component 0 "
            f"or more and together below 1; got {list(ridges)}."
        )


def _slices(energy: Array, extra_edges: Sequence[float] | None) -> Array:
    """Edges of the energies that are drawn as one: those of the bins, and extra ones."""
    if extra_edges is None:
        extra_edges = [e for e in SOURCE_RANGE if energy[0] < e < energy[-1]]
    for edge in extra_edges:
        check_inside(energy, edge - 1e-9, edge + 1e-9, "extra edge")
    return np.union1d(energy, np.clip(extra_edges, energy[0], energy[-1]))


def _generator(seed: int | np.random.Generator) -> np.random.Generator:
    try:
        return np.random.default_rng(seed)
    except (TypeError, ValueError) as error:
        raise LineBackgroundError(f"seed must be a whole number >= 0, got {seed!r}.") from error


def _background(
    spectra: Mapping[str, Callable[[Array], Array]],
    ridges: Sequence[Ridge],
    slices: Array,
    phi_edges: Array,
    nside: int,
    time: Array,
    course: DemoCourse,
) -> dict[str, _Component]:
    """Continuum and lines, each with its own course of time."""
    if not (abs(course.swing) < 1 and abs(course.build_up) < 1):
        raise LineBackgroundError(f"The amplitudes of course must be between -1 and 1: {course}.")
    courses = {
        "continuum": time + course.swing / (2 * np.pi) * (1 - np.cos(2 * np.pi * time)),
        "lines": time - 0.25 * course.build_up * np.exp(-4 * time),
    }
    return {
        name: _Component(
            spectrum,
            _phi_distribution(name, slices, phi_edges, ridges),
            _pattern(name, phi_edges, nside),
            _normalised(np.diff(courses[name])),
        )
        for name, spectrum in spectra.items()
    }


def _sky_component(
    spectrum: Callable[..., Array],
    moving: Sequence[tuple[float, Array]],
    energy: float,
    slices: Array,
    phi_edges: Array,
    nside: int,
    time: Array,
) -> _Component | _Mixture:
    """The sky: `moving` holds velocities and the directions of each, `energy` is that at rest.

    `spectrum` takes share of the sky, energy shift [keV] and edges [keV] to counts.
    """
    total = sum(directions[:, 2].sum() for _, directions in moving)
    parts = []
    for velocity, directions in moving:
        phi, pattern = sky_response(directions, phi_edges, nside, energy)
        share = float(directions[:, 2].sum() / total)
        shift = -energy * velocity / SPEED_OF_LIGHT
        of_phi = np.broadcast_to(phi, (slices.size - 1, phi.size))
        law = partial(spectrum, share, shift)
        parts.append(_Component(law, of_phi, pattern, np.diff(time)))
    return parts[0] if len(parts) == 1 else _Mixture(tuple(parts))


def _by_velocity(directions: Array, velocity: ArrayLike | None) -> list[tuple[float, Array]]:
    """The velocities of a sky, and the directions of each."""
    if velocity is None:
        return [(0.0, directions)]
    speeds = np.array(velocity, dtype=float)
    good = speeds.shape == (len(directions),) and np.isfinite(speeds).all()
    if not (good and np.abs(speeds).max() <= FASTEST):
        raise DataError(
            f"sky_velocity must be {len(directions)} numbers (one for each direction of the sky), "
            f"in km/s, of {FASTEST:g} at most; got shape {speeds.shape}, values {velocity!r:.60}."
        )
    parts = ((float(v), directions[speeds == v]) for v in np.unique(speeds))
    return [(v, part) for v, part in parts if part[:, 2].sum() > 0]


def _sky_spectra(counts: float, tail: float, line: SkyLine) -> dict[str, Callable[..., Array]]:
    """Of line and positronium: share of the sky, energy shift [keV], edges [keV] -> counts."""

    def of_line(share: float, shift: float, edges: Array) -> Array:
        return sky_spectrum(counts * share, tail, edges - shift, line)

    def of_positronium(share: float, shift: float, edges: Array) -> Array:
        return positronium_spectrum(counts * line.positronium * share, line, edges - shift)

    return {"sky": of_line} | ({"positronium": of_positronium} if line.positronium else {})


def _continuum_spectrum(scale: float, law: DemoContinuum, edges: Array) -> Array:
    return powerlaw_counts(edges, scale * law.K, law.piv, law.index)[0]


def _line_spectrum(lines: ArrayLike, tail: float, edges: Array, sigma: float = LINE_SIGMA) -> Array:
    energy, counts = np.reshape(lines, (-1, 2)).T
    if not energy.size:
        return np.zeros(edges.size - 1)
    if not tail:  # its compiled code is not waited for
        return gaussian_counts(edges, counts, energy, sigma)[0]
    return tailed_gaussian_counts(edges, counts, energy, sigma, tail, TAIL_LENGTH)[0]


def sky_spectrum(counts: float, tail: float, edges: Array, line: SkyLine = DEMO_SKY_LINE) -> Array:
    """Expected counts per energy bin of a sky line at rest, shape (n_bins,).

    Parameters
    ----------
    counts : float
        In the full-energy line, all energies; a third as many come on top with less energy.
    tail : float
        Share of the full-energy counts in the low-energy tail of the detector's line shape.
    edges : ndarray, shape (n_bins + 1,), keV
    line : SkyLine
        Its energy and sigma are used.
    """
    lossy = counts * SKY_LOSS_FRACTION / (1 - SKY_LOSS_FRACTION)
    z, d = (edges - line.energy) / line.sigma, line.sigma / SKY_LOSS
    late = np.exp(z * d + 0.5 * d * d + log_ndtr(-z - d))  # would be below, had they lost nothing
    below, above = ndtr(z) + late, ndtr(-z) - late
    lost = np.where(z[:-1] > 0.0, above[:-1] - above[1:], np.diff(below))
    whole = _line_spectrum([line.energy, counts], tail, edges, line.sigma)
    return np.asarray(whole + lossy * np.maximum(lost, 0.0))


@cache
def _three_photons() -> tuple[Array, Array]:
    """Energies of photons of orthopositronium, in units of the end, and their shares."""
    node, weight = np.polynomial.legendre.leggauss(1000)  # at 511 keV at most 0.8 keV apart
    x = 0.5 * (1.0 + node)
    rest, log = 1.0 - x, np.log1p(-x)
    density = x * rest / (2 - x) ** 2 - 2 * rest**2 / (2 - x) ** 3 * log
    density += (2 - x) / x + 2 * rest / x**2 * log
    return x, weight * density / (np.pi**2 - 9)


def positronium_spectrum(counts: float, line: SkyLine, edges: Array) -> Array:
    """Expected counts per energy bin of a three-photon continuum, shape (n_bins,).

    Ore & Powell (1949), folded with the Gaussian of the line.

    Parameters
    ----------
    counts : float
        At all energies.
    line : SkyLine
        The continuum ends at its energy.
    edges : ndarray, shape (n_bins + 1,), keV
    """
    x, share = _three_photons()
    below = ndtr((edges[:, None] - line.energy * x) / line.sigma)
    return np.asarray(counts * (np.diff(below, axis=0) @ share))


def _phi_distribution(
    name: str, slice_edges: Array, phi_edges: Array, ridges: Sequence[Ridge]
) -> Array:
    """Share of each Phi bin in each energy slice, shape (n_slices, n_phi)."""
    node, weight = np.polynomial.legendre.leggauss(5)
    low, high = slice_edges[:-1, None], slice_edges[1:, None]
    energy = (0.5 * (low + high) + 0.5 * (high - low) * node)[:, :, None]
    k, scale, slope = _PHI_SHAPES[name]
    width = scale * np.exp(slope * (energy - 1750.0) / 250.0)
    # a ridge that the kinematics forbid at an energy is part of the smooth distribution there
    angles = [feature_angle(energy, ridge.photon, ridge.scattered) for ridge in ridges]
    shares = [
        getattr(ridge, name) * np.isfinite(angle)
        for ridge, angle in zip(ridges, angles, strict=True)
    ]
    cumulative = (1.0 - sum(shares)) * gammainc(k, phi_edges / width)
    for ridge, angle, share in zip(ridges, angles, shares, strict=True):
        cumulative += share * ndtr((phi_edges - np.nan_to_num(angle)) / ridge.width)
    return _normalised(np.diff(np.einsum("k,skp->sp", 0.5 * weight, cumulative)))


def _pattern(name: str, phi_edges: Array, nside: int) -> Array:
    """Share of each pixel in each Phi bin, positive, shape (n_phi, n_pixels)."""
    (a, b, c), directions = _PATTERNS[name]
    pixel = np.stack(pix2vec(nside, np.arange(12 * nside**2)))
    u, v, w = unit_vectors(*np.radians(directions).T) @ pixel
    cos_phi = np.cos(np.radians(0.5 * (phi_edges[1:] + phi_edges[:-1])))
    return _normalised(np.exp(a * u + b * v**2 + c * cos_phi[:, None] * w))


def sky_response(
    sky: Array, phi_edges: Array, nside: int, energy: float = SKY_ENERGY
) -> tuple[Array, Array]:
    """Where in Phi and PsiChi the events of a sky at rest in the frame of PsiChi lie.

    Only the angle between source and PsiChi matters: count for each pixel how often its sub-pixels
    and the sources are at which angle, and evaluate the cone once per angle.

    Parameters
    ----------
    sky : ndarray, shape (n_directions, 3)
        Longitude [deg], latitude [deg], weight.
    phi_edges : ndarray, shape (n_phi + 1,), deg
    nside : int
        Of PsiChi, RING.
    energy : float, keV
        Of the photons.

    Returns
    -------
    phi : ndarray, shape (n_phi,)
        Share of each Phi bin.
    pattern : ndarray, shape (n_phi, n_pixels)
        Share of each pixel in each Phi bin.
    """
    phi = 0.5 * (phi_edges[1:] + phi_edges[:-1])
    step = 0.5  # deg, well below the ARM
    theta = np.arange(0.5 * step, 180.0, step)[:, None]
    cone = np.maximum(np.diff(ndtr((phi_edges - theta) / ARM_SIGMA)), 0.0)
    cone *= _klein_nishina(phi, energy) / np.sin(np.radians(theta))

    fine = max(64, 2 * nside)
    n_fine, n_pixels = 12 * fine**2, 12 * nside**2
    vectors = np.stack(pix2vec(fine, np.arange(n_fine), nest=True))
    parent = reordered(nside, np.arange(n_fine) // (n_fine // n_pixels), to_nest=False) * theta.size
    angles = np.zeros(n_pixels * theta.size)
    places, weights = unit_vectors(*np.radians(np.transpose(sky)[:2])), np.transpose(sky)[2]
    for place, weight in zip(places, weights, strict=True):
        cosine = np.clip(place @ vectors, -1.0, 1.0)
        index = np.minimum((np.degrees(np.arccos(cosine)) / step).astype(int), theta.size - 1)
        angles += np.bincount(parent + index, minlength=angles.size) * weight
    counts = (angles.reshape(n_pixels, theta.size) @ cone).T
    return _normalised(counts.sum(axis=1)), _normalised(counts)


def _klein_nishina(phi: Array, energy: float) -> Array:
    """Density in the Compton angle [deg] of photons of this energy [keV], not normalised."""
    phi = np.radians(phi)
    ratio = 1.0 / (1.0 + energy / ELECTRON_MASS * (1.0 - np.cos(phi)))
    return np.asarray(ratio**2 * (ratio + 1.0 / ratio - np.sin(phi) ** 2) * np.sin(phi))


def _normalised(array: Array) -> Array:
    return np.asarray(array / array.sum(axis=-1, keepdims=True))


def _choose(probability: Array, size: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """`size` random indices with these probabilities."""
    cumulative = np.cumsum(probability)
    drawn = rng.random(size) * cumulative[-1]
    return np.asarray(np.searchsorted(cumulative[:-1], drawn, side="right"))


def _check_phi(edges: ArrayLike) -> Array:
    array = np.array(edges, dtype=float)
    increasing = array.ndim == 1 and array.size > 1 and (np.diff(array) > 0).all()
    if not (increasing and array[0] >= 0.0 and array[-1] <= 180.0 + 1e-9):
        raise BinningError(f"phi_edges must be 2 or more rising angles in 0-180 deg: {edges!r}.")
    return array


def _check_table(name: str, rows: ArrayLike, n_columns: int) -> Array:
    """Rows of floats; the last column (counts or weights) must not be negative."""
    table = np.array(rows, dtype=float)
    table = table.reshape(-1, n_columns) if table.size in (0, n_columns) else table
    good = table.ndim == 2 and table.shape[1] == n_columns and np.isfinite(table).all()
    if not (good and (table[:, -1] >= 0).all()):
        need = f"{n_columns} finite numbers, the last one 0 or more"
        raise DataError(f"{name} must be rows of {need}; got shape {table.shape}.")
    return table
