"""The background of cosipy 0.4.3's unbinned likelihood: a density at each event."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError, TemplateError
from ..events.kernels import add_bins
from ..events.rules import ColumnAxis
from ..histograms.axes import ENERGY_LABEL, axis_in_kev
from ..histograms.healpix import ang2pix, vec2pix
from .cells import ConsumerCells, check_outside
from .event_kernels import (
    Array,
    Integers,
    Singles,
    fill_densities,
    place_in_time,
    sky_vectors,
    sum_of_logs,
    weighted_densities,
)
from .likelihood import NoSource, OnePassLikelihood, SourceDensity
from .rates import BackgroundNorms

if TYPE_CHECKING:
    from astropy.coordinates import BaseCoordinateFrame
    from astropy.time import Time
    from astropy.units import Quantity
    from histpy import Axes
    from scoords import Attitude

    from ..template.energies import EnergyDensity
    from ..template.template import BackgroundTemplate

#: Events that are worked on at a time; more only cost memory.
_BLOCK = 1 << 17

#: Why an event has no density, in the order of the numbers in `_fates`.
_REASONS = (
    "with energies outside {low:g}-{high:g} keV",
    "outside the Phi axis",
    "outside the times of the orientation",
    "at times without livetime",
    "without a finite energy or direction",
)
_ENERGY, _PHI, _TIME, _DEAD, _BROKEN = range(1, 6)


class EventData(Protocol):
    """What is used of cosipy's TimeTagEmCDSEventDataInSCFrameInterface."""

    event_type: type
    jd1: Any
    jd2: Any
    energy_keV: Any
    scattering_angle_rad: Any
    scattered_lon_rad_sc: Any
    scattered_lat_rad_sc: Any


class History(Protocol):
    """What is used of cosipy's SpacecraftHistory."""

    obstime: Time
    attitude: Attitude
    livetime: Quantity


class BackgroundDensity(BackgroundNorms):
    """A template as cosipy 0.4.3's ``BackgroundDensityInterface``, for unbinned likelihoods.

    ::

        background = template.background_density(events, history)
        likelihood = background.likelihood(response)
        cosi = ThreeMLPluginInterface("cosi", likelihood, response, background)
        background.configure(cosi)
        JointLikelihood(model, DataList(cosi, background.constraint()))

    ``UnbinnedLikelihood(SumExpectationDensity(response, background))`` is the same likelihood.
    The density of component k at an event is

        rate_k  m_k(phi, psi chi) / (d_phi d_Omega)  f_k(E)  [livetime fraction at t]

    in counts keV^-1 rad^-1 sr^-1 s^-1: m_k is its share in the template's cell, f_k the density of
    its energies in the source range after the fitted spectrum. Over energies, directions and
    times it integrates to `expected_counts`.

    Parameters
    ----------
    template : BackgroundTemplate
        Em, Phi and PsiChi, in the spacecraft's frame or on the sky.
    events : TimeTagEmCDS event data of cosipy
        With energies inside the source range: a response must be cut alike.
    sc_history : cosipy.SpacecraftHistory
        Of the time of the events. Between its samples the orientation turns evenly, the short
        way.
    densities : list of EnergyDensity or None, one per energy bin of the template
    prefix : str
        As of `BackgroundNorms`.
    livetime_fraction : bool
        Whether the density is multiplied with the fraction of time that was live around an event.
        Source and background of a session must agree: True goes with cosipy's IRFAdaptive response
        and normalising flows, False with its Trapz point source and its FreeNorm density. The sum
        over time is over all seconds with True, over live seconds with False.
    outside : "raise" or "drop"
        What to do with events that the template or the history do not cover. "drop" leaves them
        out; `inside` tells which remain, for the response to be made of the same events.

    Attributes
    ----------
    inside : ndarray of bool, shape (n_given,)
        The events that have a density.
    livetime : float, s
        Of the history.

    Raises
    ------
    TemplateError
        If the axes are not those of an unbinned analysis.
    DataError
        Counting the events that are outside, by reason.
    """

    def __init__(
        self,
        template: BackgroundTemplate,
        events: EventData,
        sc_history: History,
        densities: Sequence[EnergyDensity | None],
        *,
        prefix: str = "",
        livetime_fraction: bool = True,
        outside: str = "raise",
    ) -> None:
        check_outside(outside)
        self._events_class = type(events)
        self._event_type = _event_type(events)
        pointing = _Pointing(sc_history)
        self.livetime = pointing.livetime
        own = self.livetime if template.livetime is None else float(template.livetime)
        super().__init__(template, own, prefix)
        cells = _Cells(template, densities)
        columns = _columns(events)
        self.inside = np.ones(columns["energy"].size, bool)
        self._densities = self._fill(cells, pointing, columns, livetime_fraction, outside)
        self._last: tuple[Array, Array] | None = None

    @property
    def event_type(self) -> type:
        """The class of the events, cosipy's own."""
        return self._event_type

    @property
    def event_data_type(self) -> type:
        """The class of the event data that were given."""
        return self._events_class

    @property
    def nevents(self) -> int:
        """Events with a density."""
        return int(self._densities.shape[1])

    def expected_counts(self) -> float:
        """Counts of all components in the history's livetime."""
        return float(self._rates().sum() * self.livetime)

    def expectation_density(self) -> Array:
        """Density at each event, shape (nevents,), in their order; not to be changed.

        Unit: counts keV^-1 rad^-1 sr^-1 s^-1.
        """
        rates = self._rates()
        if self._last is None or not np.array_equal(rates, self._last[0]):
            density = np.empty(self.nevents)
            weighted_densities(rates, self._densities, density)
            density.flags.writeable = False
            self._last = rates, density
        return self._last[1]

    def event_probability(self) -> Array:
        """`expectation_density` over `expected_counts`, shape (nevents,)."""
        return self.expectation_density() / self.expected_counts()

    def likelihood(self, response: SourceDensity | None = None) -> OnePassLikelihood:
        """The likelihood of these events, in the place of cosipy's UnbinnedLikelihood.

        Parameters
        ----------
        response : UnbinnedThreeMLModelFolding, optional
            Of the same events.

        Returns
        -------
        OnePassLikelihood
            The same number, in less time; for a ThreeMLPluginInterface.
        """
        return OnePassLikelihood(self, response)

    def no_source(self) -> NoSource:
        """What takes the place of a response where the background is fitted alone.

        ::

            cosi = ThreeMLPluginInterface(
                "cosi", background.likelihood(), background.no_source(), background
            )
            background.configure(cosi)
            JointLikelihood(Model(), DataList(cosi, background.constraint()))
        """
        return NoSource(self.event_type, self.nevents)

    def sum_of_logs(self, others: Array) -> float:
        """Sum over events of log(density + others).

        Parameters
        ----------
        others : ndarray, shape (nevents,) or (0,)
            Densities of something else at each event; empty: none.
        """
        return float(sum_of_logs(self._rates(), self._densities, others))

    def _rates(self) -> Array:
        return self.amounts() / self._livetime

    def _fill(
        self,
        cells: _Cells,
        pointing: _Pointing,
        columns: dict[str, Array],
        livetime_fraction: bool,
        outside: str,
    ) -> Singles:
        """Densities at 1 Hz of each component, shape (n_labels, n_inside)."""
        n, filled = self.inside.size, 0
        densities = np.empty((len(self.labels), n), np.float32)
        counted = np.zeros(len(_REASONS) + 1, np.int64)
        for start in range(0, n, _BLOCK):
            block = {name: column[start : start + _BLOCK] for name, column in columns.items()}
            fate = np.zeros(block["energy"].size, np.uint8)
            interval, fraction = pointing.places(block, fate, livetime_fraction)
            flat, energy_bins = cells.places(block, fate, pointing, interval, fraction)
            good = fate == 0
            counted += np.bincount(fate, minlength=counted.size)
            self.inside[start : start + _BLOCK] = good
            factors = pointing.live[interval] if livetime_fraction else np.ones(interval.size)
            stop = filled + int(good.sum())
            fill_densities(
                flat[good],
                energy_bins[good],
                block["energy"][good],
                factors[good],
                cells.maps,
                cells.grid,
                cells.tables,
                densities[:, filled:stop],
            )
            filled = stop
        if filled < n:
            low, high = cells.source_range
            reasons = ", ".join(
                f"{number} {reason.format(low=low, high=high)}"
                for reason, number in zip(_REASONS, counted[1:].tolist(), strict=True)
                if number
            )
            if outside == "raise" or not filled:
                raise DataError(
                    f"{n - filled} of {n} events have no density: {reasons}. Select the others "
                    "beforehand, or give outside='drop' and make the response of events[inside]."
                )
        return densities if filled == n else np.ascontiguousarray(densities[:, :filled])


class _Cells:
    """The template's maps as densities, and how events find their cell in them."""

    def __init__(
        self, template: BackgroundTemplate, densities: Sequence[EnergyDensity | None]
    ) -> None:
        cells = ConsumerCells.of(template, None, None)
        axes, self.source_range = cells.axes, template.source_range
        self._psichi = axes["PsiChi"]
        self._frame = _frame(self._psichi)
        self._em, self._phi = _energy_axis(axes), _phi_axis(axes)
        # shares of each component, per rad and sr
        widths = np.diff(np.radians(self._phi.edges)) * 4 * np.pi / self._psichi.nbins
        rows = cells.rows.reshape(len(cells.labels), -1, widths.size, self._psichi.nbins)
        shares = rows / rows.sum(axis=(1, 2, 3), keepdims=True)
        self.maps = (shares / widths[:, None]).reshape(len(cells.labels), -1)
        longest = max(d.density.shape[1] for d in densities if d is not None)
        self.grid = np.array([np.zeros(len(densities)), np.ones(len(densities))])
        self.tables = np.zeros((len(cells.labels), len(densities), longest))
        for i, d in enumerate(densities):
            if d is not None:
                middles = (np.arange(longest) + 0.5) / longest * d.density.shape[1] - 0.5
                known = np.arange(d.density.shape[1])
                self.grid[:, i] = d.low, (d.high - d.low) / longest
                for row, values in zip(self.tables[:, i], d.density, strict=True):
                    row[:] = np.interp(middles, known, values)

    def places(
        self,
        block: dict[str, Array],
        fate: NDArray[np.uint8],
        pointing: _Pointing,
        interval: Integers,
        fraction: Array,
    ) -> tuple[Integers, Integers]:
        """Flat cells and energy bins of events; what has none is marked in `fate`."""
        energies = block["energy"]
        low, high = self.source_range
        fate[(fate == 0) & ~np.isfinite(energies)] = _BROKEN
        fate[(fate == 0) & ~((energies >= low) & (energies < high))] = _ENERGY
        flat = np.zeros(fate.size, np.int64)
        em, phi = self._em, self._phi
        add_bins(energies, em.factor, em.edges, em.guesses, fate, _ENERGY, _ENERGY, flat)
        energy_bins = flat.copy()
        add_bins(block["phi"], phi.factor, phi.edges, phi.guesses, fate, _PHI, _PHI, flat)
        pixels = self._pixels(block, fate, pointing, interval, fraction)
        return flat * self._psichi.nbins + pixels, energy_bins

    def _pixels(
        self,
        block: dict[str, Array],
        fate: NDArray[np.uint8],
        pointing: _Pointing,
        interval: Integers,
        fraction: Array,
    ) -> Integers:
        longitude, latitude = block["longitude"], block["latitude"]
        known = np.isfinite(longitude) & (np.abs(latitude) <= np.pi / 2)
        fate[(fate == 0) & ~known] = _BROKEN
        good = np.flatnonzero(fate == 0)
        nside, nested = self._psichi.nside, self._psichi.scheme == "NESTED"
        pixels = np.zeros(fate.size, np.int64)
        if self._frame is None:
            angles = np.pi / 2 - latitude[good], longitude[good]
            pixels[good] = ang2pix(nside, *angles, nest=nested)
        else:
            vectors = np.empty((3, good.size))
            quaternions = pointing.quaternions(self._frame)
            where = interval[good], fraction[good]
            sky_vectors(longitude[good], latitude[good], quaternions, *where, vectors)
            pixels[good] = vec2pix(nside, *vectors, nest=nested)
        return pixels


class _Pointing:
    """Orientation and livetime of a history at the times of events."""

    def __init__(self, history: History) -> None:
        import astropy.units as u

        if not all(hasattr(history, name) for name in ("obstime", "livetime", "attitude")):
            raise DataError(
                "The orientation must be cosipy's SpacecraftHistory, from its open(file); "
                f"got {type(history).__name__}."
            )
        time = history.obstime.utc
        self._t0 = time[0]
        self._samples = _days_since(self._t0, time.jd1, time.jd2)
        seconds = (time[1:] - time[:-1]).to_value(u.s)
        live = history.livetime.to_value(u.s)
        self.livetime = float(live.sum())
        if not self.livetime > 0:
            raise DataError("The orientation has no livetime at all; give the one of these events.")
        self.live: Array = np.divide(live, seconds, out=np.zeros(live.size), where=seconds > 0)
        self._attitude = history.attitude
        self._turned: dict[str, Array] = {}

    def places(
        self, block: dict[str, Array], fate: NDArray[np.uint8], livetime_fraction: bool
    ) -> tuple[Integers, Array]:
        """Interval and place in it of each event; what has none is marked in `fate`."""
        times = _days_since(self._t0, block["jd1"], block["jd2"])
        interval, fraction = np.empty(times.size, np.int64), np.empty(times.size)
        place_in_time(times, self._samples, interval, fraction)
        fate[interval < 0] = _TIME
        if livetime_fraction:
            fate[(fate == 0) & (self.live[interval] <= 0)] = _DEAD
        return interval, fraction

    def quaternions(self, frame: BaseCoordinateFrame) -> Array:
        """Spacecraft to `frame` at each sample, shape (n_samples, 4), scalar last."""
        if frame.name not in self._turned:
            found = np.atleast_2d(self._attitude.transform_to(frame).rot.as_quat())
            if len(found) == 1:  # a telescope at rest
                found = np.repeat(found, self._samples.size, axis=0)
            self._turned[frame.name] = np.ascontiguousarray(found)
        return self._turned[frame.name]


def _days_since(start: Time, jd1: Array, jd2: Array) -> Array:
    """Days of UTC, without loss of digits."""
    days: Array = (jd1 - start.jd1) + (jd2 - start.jd2)
    return days


def _event_type(events: Any) -> type:
    found = getattr(events, "event_type", None)
    if not isinstance(found, type) or not hasattr(events, "scattered_lon_rad_sc"):
        raise DataError(
            "events must be cosipy's event data with time, energy and Compton angles, for example "
            f"a TimeTagEmCDSEventDataInSCFrameFromDC3Fits, got {type(events).__name__}."
        )
    return found


def _columns(events: EventData) -> dict[str, Array]:
    names = {
        "jd1": "jd1",
        "jd2": "jd2",
        "energy": "energy_keV",
        "phi": "scattering_angle_rad",
        "longitude": "scattered_lon_rad_sc",
        "latitude": "scattered_lat_rad_sc",
    }
    columns = {}
    for own, theirs in names.items():
        values = getattr(events, theirs)
        values = values if hasattr(values, "__len__") else list(values)
        columns[own] = np.asarray(values, dtype=float)
    return columns


def _frame(psichi: Any) -> BaseCoordinateFrame | None:
    """The frame of directions on the sky; None in the spacecraft's frame."""
    frame = getattr(psichi, "coordsys", None)
    if frame is None or psichi.nbins != 12 * psichi.nside**2:
        raise TemplateError(
            "A density needs PsiChi as a HealpixAxis of the whole sphere with a coordsys; bin the "
            "events anew with it."
        )
    return None if frame.name == "spacecraftframe" else frame


def _energy_axis(axes: Axes) -> ColumnAxis:
    return ColumnAxis(ENERGY_LABEL, "energy", 1.0, axis_in_kev(axes[ENERGY_LABEL]))


def _phi_axis(axes: Axes) -> ColumnAxis:
    import astropy.units as u

    axis = axes["Phi"]
    if axis.unit is None or not axis.unit.is_equivalent(u.deg):
        raise TemplateError(f"The Phi axis must have a unit of angle, got {axis.unit}.")
    return ColumnAxis("Phi", "phi", 180.0 / np.pi, axis.edges.to_value(u.deg))
