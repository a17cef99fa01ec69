"""The background of an unbinned likelihood at each event, against cosipy 0.4.3's own.

Both densities are those of a template that is even in energy, angle and on the sky, where
cosipy's interpolation between cells is exact; the work is that of any template.
"""

from __future__ import annotations

import ctypes
import json
import sys
import time
from pathlib import Path

import numpy as np
from timing import Comparison, Row, measured_in_new_process, memory

#: Of the data: three hours in steps of 10 s.
N_SAMPLES, STEP = 1081, 10.0
LABELS = ("continuum", "lines")
#: Bytes an event and component that the memory may grow by, above the events.
MOST_BYTES = 40.0


def flight():
    """A slow scan, as cosipy's SpacecraftHistory."""
    import astropy.units as u
    from astropy.coordinates import GCRS, CartesianRepresentation
    from astropy.time import Time
    from cosipy import SpacecraftHistory
    from flights import rocking
    from scoords import Attitude

    times = Time("2028-03-01T00:00:00", scale="utc") + np.arange(N_SAMPLES) * STEP * u.s
    place = GCRS(CartesianRepresentation(np.tile([7000.0, 0.0, 0.0], (N_SAMPLES, 1)).T * u.km))
    live = np.full(N_SAMPLES - 1, 0.8 * STEP) * u.s
    return SpacecraftHistory(times, Attitude(rocking(N_SAMPLES), "galactic"), place, live)


def event_data(n: int, history):
    """Even events, as cosipy's own class."""
    import astropy.units as u
    from cosipy.data_io.EmCDSUnbinnedData import TimeTagEmCDSEventDataInSCFrameFromArrays
    from templates import SOURCE

    rng = np.random.default_rng(1809)
    times = history.obstime[0] + np.sort(rng.uniform(0, (N_SAMPLES - 1) * STEP, n)) * u.s
    return TimeTagEmCDSEventDataInSCFrameFromArrays(
        times.jd1,
        times.jd2,
        rng.uniform(*SOURCE, n),
        rng.uniform(-np.pi, np.pi, n),
        np.arcsin(rng.uniform(-1, 1, n)),
        rng.uniform(0, np.pi, n),
    )


def even_template(livetime: float, nside: int = 16):
    """Two components, even in everything; the amounts are free."""
    import astropy.units as u
    import histpy
    from templates import SOURCE, template_of

    axes = histpy.Axes(
        [
            histpy.Axis(np.linspace(*SOURCE, 3) * u.keV, label="Em"),
            histpy.Axis(np.linspace(0, 180, 61) * u.deg, label="Phi"),
            histpy.HealpixAxis(nside=nside, coordsys="galactic", label="PsiChi"),
        ]
    )
    shape = [axis.nbins for axis in axes]
    maps = {label: np.ones(shape) for label in LABELS}
    # an amount that is not known has even energies
    covariance = np.diag([np.inf, np.inf])
    return template_of(maps, axes, covariance=covariance, livetime=livetime)


def set_up_and_call(
    n_events: int = 1_000_000, repeats: int = 3, aims: tuple[float, float] | None = None
) -> list[Row]:
    """Set-up, densities and likelihoods."""
    import astropy.units as u
    from cosipy.background_estimation.free_norm_threeml_binned_bkg import (
        FreeNormBackgroundInterpolatedDensityTimeTagEmCDS,
    )

    history = flight()
    events = event_data(int(n_events), history)
    template = even_template(history.cumulative_livetime().to_value(u.s))
    made = {}

    def ours():
        made["ours"] = template.background_density(events, history, livetime_fraction=False)

    def theirs():
        made["theirs"] = FreeNormBackgroundInterpolatedDensityTimeTagEmCDS(
            events, template.free_norm_histograms(), history
        )

    ours()  # compiles where no cache is
    theirs()
    rates = {"continuum": 30.0 * u.Hz, "lines": 9.0 * u.Hz}
    for background in made.values():
        background.set_parameters(**rates)
    np.testing.assert_allclose(
        made["ours"].expectation_density(), made["theirs"].expectation_density(), rtol=1e-6
    )
    setup_aim, call_aim = aims or (None, None)
    peer = "cosipy 0.4.3's interpolated density"
    what = f"unbinned background of {n_events:.0e} events, 2 components"
    rows = [Comparison(f"{what}: set-up", peer, ours, theirs, setup_aim, repeats).row()]
    return rows + _calls(made["ours"], made["theirs"], what, peer, call_aim, max(7, repeats))


class _EvenSource:
    """A response of cosipy's with a source that is even in everything."""

    def __init__(self, background):
        self.event_type = background.event_type
        self._density = 0.1 * np.asarray(background.expectation_density())

    def expected_counts(self):
        return 1000.0

    def expectation_density(self):
        return self._density


def _calls(ours, theirs, what, peer, aim, repeats) -> list[Row]:
    """Densities and likelihoods at norms that change from call to call; equal results."""
    import astropy.units as u
    from cosipy.interfaces.expectation_interface import SumExpectationDensity
    from cosipy.statistics import UnbinnedLikelihood

    source = _EvenSource(ours)
    turn = {"n": 0}

    def at_new_norms(background, work):
        def run():
            turn["n"] += 1
            rate = 30.0 * (1 + 1e-6 * turn["n"])
            background.set_parameters(continuum=rate * u.Hz, lines=0.3 * rate * u.Hz)
            return work()

        return run

    whole = UnbinnedLikelihood(SumExpectationDensity(source, theirs)).get_log_like
    alone = UnbinnedLikelihood(theirs).get_log_like
    pairs = (
        ("density", ours.expectation_density, theirs.expectation_density, None),
        ("likelihood", ours.likelihood().get_log_like, alone, aim),
        ("likelihood with a source", ours.likelihood(source).get_log_like, whole, None),
        ("in cosipy's UnbinnedLikelihood", UnbinnedLikelihood(ours).get_log_like, alone, None),
    )
    rows = []
    for name, own, other, wanted in pairs:
        for background in (ours, theirs):
            background.set_parameters(continuum=30.0 * u.Hz, lines=9.0 * u.Hz)
        np.testing.assert_allclose(own(), other(), rtol=1e-6)
        runs = at_new_norms(ours, own), at_new_norms(theirs, other)
        rows.append(Comparison(f"{what}: {name} at new norms", peer, *runs, wanted, repeats).row())
    same = (ours.expectation_density, theirs.expectation_density)
    name = f"{what}: density at the same norms"
    return [*rows, Comparison(name, peer, *same, None, repeats).row()]


def memory_of_density(n_events: int = 1_000_000) -> list[Row]:
    """Peak memory above the events, of a process of its own."""
    found = measured_in_new_process("bench_unbinned.py", int(n_events))
    per = found["MB"] * 1e6 / (n_events * len(LABELS))
    if per > MOST_BYTES:
        raise AssertionError(f"{per:.0f} bytes an event and component, at most {MOST_BYTES:.0f}")
    what = f"unbinned background of {n_events:.0e} events: memory above the events"
    return [Row(f"{what} ({per:.0f} bytes an event and component)", found["MB"], "MB")]


def _measure(n_events: int) -> None:
    import astropy.units as u

    history = flight()
    livetime = history.cumulative_livetime().to_value(u.s)
    even_template(livetime).background_density(event_data(1000, history), history)
    events = event_data(n_events, history)
    template = even_template(livetime)
    ctypes.CDLL("libc.so.6").malloc_trim(0)  # what is free is not there; Linux
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    before = memory("VmRSS")
    start = time.perf_counter()
    density = template.background_density(events, history)
    density.expectation_density()
    seconds = time.perf_counter() - start
    print(json.dumps({"MB": memory("VmHWM") - before, "seconds": seconds}))


if __name__ == "__main__":
    _measure(int(sys.argv[1]))
