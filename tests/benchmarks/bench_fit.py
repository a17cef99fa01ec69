"""The likelihood call and the fit against named peers, in one run.

``pytest tests/benchmarks/bench_fit.py`` (not part of the default run); OMP_NUM_THREADS=1. Each
benchmark asserts that the results agree, runs both sides warm and in turns, and keeps the medians
and their ratio in ``extra_info``; the last line of the output is the table of ratios. The real
spectrum is used where it is at hand, a simulated one like it elsewhere.
"""

from __future__ import annotations

import logging
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from iminuit import Minuit
from timing import in_turns

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from spectra import (
    TUTORIAL_LINES,
    TUTORIAL_MASK,
    dc3_spectrum,
    line_model,
    simulated_spectrum,
    tutorial_model,
)

from cosi_linebkg_plugin.fit import fit_spectrum
from cosi_linebkg_plugin.objective import Objective
from cosi_linebkg_plugin.simulation import DEMO_LINES

EDGES = np.linspace(1500.0, 2000.0, 100)
TABLE: list[str] = []


@pytest.fixture(scope="module")
def spectrum(request):
    shared = Path(__file__).resolve().parents[3] / "shared" / "data"
    if shared.is_dir():
        return dc3_spectrum(shared)
    model = tutorial_model(index=-2.0, sigma=2.96)
    return simulated_spectrum(model, EDGES, np.random.default_rng(1), [TUTORIAL_MASK])


@pytest.fixture(scope="module", autouse=True)
def table():
    logging.getLogger("threeML").setLevel(logging.ERROR)
    yield
    print("\n" + "\n".join(TABLE))


def record(benchmark, name, theirs, ours):
    row = {"theirs_ms": 1e3 * theirs, "ours_ms": 1e3 * ours, "ratio": theirs / ours}
    benchmark.extra_info.update(row)
    TABLE.append(f"{name:45s} {row['theirs_ms']:11.4g} {row['ours_ms']:9.4g} {row['ratio']:9.4g}")


def wide_model():
    """23 lines with windows that do not overlap: those of the demo, one every so often."""
    energies = [line.energy for line in DEMO_LINES if not 1785 < line.energy < 1830]
    kept: list[float] = []
    for energy in energies:
        if not kept or energy - kept[-1] > 8:
            kept.append(energy)
    kept += (1590.0, 1695.0, 1742.0, 1845.0, 1955.0, 1975.0)[: 23 - len(kept)]
    lines = [(e, 3000.0, (e - 3.5, e + 3.5)) for e in sorted(kept)]
    assert len(lines) == 23
    return line_model(lines)


def peer(model, spectrum):
    """iminuit's ExtendedBinnedNLL with numba_stats: migrad and hesse from the same start."""
    from iminuit.cost import ExtendedBinnedNLL
    from numba_stats import norm

    free = [p for p in model.parameters if p.free]
    slot = {p.name: i for i, p in enumerate(free)}
    lines = [
        [slot[model.parameters[s].name] for s in c.slots]
        for c in model.components
        if c.kind == "gaussian"
    ]

    def integral(edges, *x):
        c = x[1] + 1.0
        total = x[0] * 1800.0 * (np.log(edges) if c == 0 else (edges / 1800.0) ** c / c)
        for f, mu, sigma in lines:
            total = total + x[f] * norm.cdf(edges, x[mu], x[sigma])
        return total

    cost = ExtendedBinnedNLL(spectrum.counts, spectrum.edges, integral)
    cost.mask = spectrum.used

    def fit():
        minuit = Minuit(cost, *(p.value for p in free), name=[p.name for p in free])
        minuit.limits = [(p.low, p.high) for p in free]
        minuit.migrad()
        minuit.hesse()
        return minuit

    return cost, fit


@pytest.mark.parametrize("n_lines", [6, 23])
def test_likelihood_call(benchmark, spectrum, n_lines):
    model = tutorial_model(index=-2.0) if n_lines == 6 else wide_model()
    cost, _ = peer(model, spectrum)
    objective, theta = Objective(model, spectrum), model.values
    free = [p.value for p in model.parameters if p.free]
    assert cost(*free) == pytest.approx(2 * objective.value(theta), rel=1e-9)

    def many(call, *arguments):
        for _ in range(200):
            call(*arguments)

    theirs, ours = in_turns(
        lambda: many(cost, *free), lambda: many(objective.value, theta), repeats=21
    )
    record(benchmark, f"likelihood call, {n_lines} lines / ExtendedBinnedNLL", theirs / 200,
           ours / 200)  # fmt: skip
    benchmark(objective.value, theta)


@pytest.mark.parametrize("n_lines", [6, 23])
def test_direct_fit(benchmark, spectrum, n_lines):
    model = tutorial_model() if n_lines == 6 else wide_model()
    if n_lines == 23:
        rng = np.random.default_rng(2)
        spectrum = simulated_spectrum(model, EDGES, rng, [TUTORIAL_MASK])
    _, fit = peer(model, spectrum)
    reference, own = fit(), fit_spectrum(model, spectrum)
    assert own.deviance <= reference.fval + 1e-3
    if reference.valid and not own.at_limits:
        for name, error in own.errors.items():
            assert abs(own.values[name] - reference.values[name]) < 0.1 * error
    theirs, ours = in_turns(fit, lambda: fit_spectrum(model, spectrum), repeats=15)
    record(benchmark, f"fit, {n_lines} lines / ExtendedBinnedNLL", theirs, ours)
    benchmark(fit_spectrum, model, spectrum)


def test_joint_likelihood_fit(benchmark, spectrum):
    """threeML's own loop on our plugin, from the tutorial's start, against the same peer."""
    from threeML import DataList, JointLikelihood

    from cosi_linebkg_plugin import LineBackgroundLike, background_model

    plugin = LineBackgroundLike("linebkg", spectrum)
    model = background_model([(e, w) for e, _, w in TUTORIAL_LINES], pivot=1800, sigma=1.0)
    parameters = model.linebkg.spectrum.main.shape.parameters
    start = {"K_1": 5000.0, "index_1": -1.0, "sigma_2": 1.0}
    for n, (energy, counts, _) in enumerate(TUTORIAL_LINES, start=2):
        start |= {f"F_{n}": counts, f"mu_{n}": energy}
    session = JointLikelihood(model, DataList(plugin))

    def ours():
        for name, value in start.items():
            parameters[name].value = value
        session.fit(quiet=True)

    _, fit = peer(tutorial_model(), spectrum)
    ours()
    assert plugin.result(session).deviance == pytest.approx(fit().fval, abs=1e-2)
    theirs, own = in_turns(fit, ours, repeats=15)
    record(benchmark, "JointLikelihood.fit, 6 lines / ExtendedBinnedNLL", theirs, own)
    benchmark(ours)


def test_cosipys_class(benchmark, spectrum):
    """cosipy 0.3.4's LineBackgroundEstimation.fit_energy_spectrum, one run: it takes minutes."""
    pytest.importorskip("cosipy")
    import astropy.units as u
    from cosipy import LineBackgroundEstimation
    from histpy import Axes, Axis, Histogram

    events = Histogram(
        Axes([Axis(spectrum.edges * u.keV, label="Em"), Axis([0, 180] * u.deg, label="Phi")]),
        contents=spectrum.counts[:, None], track_overflow=False,
    )  # fmt: skip

    def density(x, a, b, *rest):
        total = a * (x / 1800.0) ** b
        for amplitude, mu in zip(rest[:-1:2], rest[1:-1:2], strict=True):
            total += amplitude / rest[-1] / np.sqrt(2 * np.pi) * np.exp(
                -((x - mu) ** 2) / (2 * rest[-1] ** 2)
            )  # fmt: skip
        return total

    start = [5000.0, -1.0]
    for energy, counts, _ in TUTORIAL_LINES:
        start += [counts, energy]
    start.append(1.0)

    import inspect

    # cosipy hands the function to Minuit, which counts its arguments: spell them out
    names = [f"p{i}" for i in range(len(start))]
    density.__signature__ = inspect.Signature(
        [inspect.Parameter(n, inspect.Parameter.POSITIONAL_OR_KEYWORD) for n in ["x", *names]]
    )
    instance = LineBackgroundEstimation(events)
    instance.set_bkg_energy_spectrum_model(density, list(start))
    instance.set_mask(TUTORIAL_MASK * u.keV)
    begin = time.perf_counter()
    instance.fit_energy_spectrum()
    theirs = time.perf_counter() - begin
    fit_spectrum(tutorial_model(), spectrum)
    ours = in_turns(lambda: fit_spectrum(tutorial_model(), spectrum), repeats=31)[0]
    record(benchmark, "fit, 6 lines / cosipy 0.3.4", theirs, ours)
    benchmark(fit_spectrum, tutorial_model(), spectrum)
