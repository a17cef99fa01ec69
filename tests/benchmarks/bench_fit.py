"""The likelihood call, the fit and posterior sampling against named peers.

Each function asserts that the results agree. ``python tests/benchmarks/table.py`` makes the rows of
docs/benchmarks.md of them; ``pytest tests/benchmarks/bench_fit.py`` times the same calls with
pytest-benchmark, to compare two states of the code. The real spectrum around 26Al is used where it
is at hand, a simulated one like it elsewhere.
"""

from __future__ import annotations

import inspect
import logging
import time

import numpy as np
import pytest
from iminuit import Minuit
from spectra import (
    TUTORIAL_LINES,
    TUTORIAL_MASK,
    dc3_spectrum,
    line_model,
    simulated_spectrum,
    tutorial_model,
)
from timing import DATA, Comparison, Row, growth, in_turns

from cosi_linebkg_plugin.app.simulation import DEMO_LINES
from cosi_linebkg_plugin.fit.minimise import fit_spectrum
from cosi_linebkg_plugin.fit.objective import Objective
from cosi_linebkg_plugin.spectrum.axis import EnergySpectrum
from cosi_linebkg_plugin.spectrum.components import SpectralModel

EDGES = np.linspace(1500.0, 2000.0, 100)
PEER = "iminuit ExtendedBinnedNLL + numba-stats"


def spectrum_around_26al() -> EnergySpectrum:
    return dc3_spectrum(DATA) if DATA.is_dir() else simulated(tutorial_like(6))


def simulated(model: SpectralModel, n_bins: int = 99) -> EnergySpectrum:
    edges = np.linspace(EDGES[0], EDGES[-1], n_bins + 1)
    return simulated_spectrum(model, edges, np.random.default_rng(2), [TUTORIAL_MASK])


def tutorial_like(n_lines: int) -> SpectralModel:
    """6: the tutorial's lines near the truth; else so many with windows that do not overlap.

    These are the demo's, one every so often, and more between them.
    """
    if n_lines == 6:
        return tutorial_model(index=-2.0, sigma=2.96)
    energies = [line.energy for line in DEMO_LINES if not 1785 < line.energy < 1830]
    kept: list[float] = []
    for energy in energies:
        if not kept or energy - kept[-1] > 8:
            kept.append(energy)
    kept += (1590.0, 1695.0, 1742.0, 1845.0, 1955.0, 1975.0)
    lines = [(e, 3000.0, (e - 3.5, e + 3.5)) for e in sorted(kept[:n_lines])]
    assert len(lines) == n_lines
    return line_model(lines)


def peer(model: SpectralModel, spectrum: EnergySpectrum):
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


def likelihood_call(
    n_lines: int, aim: float | None = None, calls: int = 50, repeats: int = 41
) -> Comparison:
    spectrum, model = spectrum_around_26al(), tutorial_like(n_lines)
    cost, _ = peer(model, spectrum)
    objective, theta = Objective(model, spectrum), model.values
    free = [p.value for p in model.parameters if p.free]
    assert cost(*free) == pytest.approx(2 * objective.value(theta), rel=1e-9)

    def ours():
        for _ in range(calls):
            objective.value(theta)

    def theirs():
        for _ in range(calls):
            cost(*free)

    return Comparison(
        f"likelihood call, {n_lines} lines, 99 bins", PEER, ours, theirs, aim, repeats, calls
    )


def direct_fit(n_lines: int, aim: float | None = None, repeats: int = 15) -> Comparison:
    if n_lines == 6:
        model, spectrum = tutorial_model(), spectrum_around_26al()
    else:
        model = tutorial_like(n_lines)
        spectrum = simulated(model)
    _, fit = peer(model, spectrum)
    reference, own = fit(), fit_spectrum(model, spectrum)
    assert own.deviance <= reference.fval + 1e-3
    if reference.valid and not own.at_limits:
        for name, error in own.errors.items():
            assert abs(own.values[name] - reference.values[name]) < 0.1 * error
    what = f"fit with covariance, {n_lines} lines, 99 bins"
    return Comparison(
        what, f"{PEER}: migrad, hesse", lambda: fit_spectrum(model, spectrum), fit, aim, repeats
    )


def _silence() -> None:
    """Their messages on each change of a limit would be timed too."""
    for name in ("threeML", "astromodels"):
        logging.getLogger(name).setLevel(logging.ERROR)


def joint_likelihood_fit(aim: float | None = None, repeats: int = 15) -> Comparison:
    """threeML's own loop on our plugin, from the tutorial's start, against the same peer."""
    from threeML import DataList, JointLikelihood

    from cosi_linebkg_plugin import LineBackgroundLike, background_model

    _silence()
    spectrum = spectrum_around_26al()
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

    _, theirs = peer(tutorial_model(), spectrum)
    ours()
    assert plugin.result(session).deviance == pytest.approx(theirs().fval, abs=1e-2)
    what = "threeML JointLikelihood.fit with the plugin, 6 lines"
    return Comparison(what, f"{PEER}: migrad, hesse", ours, theirs, aim, repeats)


def cosipys_class(repeats: int = 31) -> Row:
    """cosipy 0.3.4's LineBackgroundEstimation.fit_energy_spectrum, one run.

    Equal is the function that both minimise; its own fit may end in a worse minimum (quadrature
    misses narrow lines), never in a better one.
    """
    import astropy.units as u
    from cosipy import LineBackgroundEstimation
    from histpy import Axes, Axis, Histogram

    spectrum, model = spectrum_around_26al(), tutorial_model()
    events = Histogram(
        Axes([Axis(spectrum.edges * u.keV, label="Em"), Axis([0, 180] * u.deg, label="Phi")]),
        contents=spectrum.counts[:, None], track_overflow=False,
    )  # fmt: skip

    def density(x, a, b, *rest):
        total = a * np.power(x / 1800.0, b)  # a float would raise where Minuit goes too far
        for amplitude, mu in zip(rest[:-1:2], rest[1:-1:2], strict=True):
            total += amplitude / rest[-1] / np.sqrt(2 * np.pi) * np.exp(
                -((x - mu) ** 2) / (2 * rest[-1] ** 2)
            )  # fmt: skip
        return total

    lines = range(2, 2 + len(TUTORIAL_LINES))
    names = ["K_1", "index_1", *(f"{x}_{n}" for n in lines for x in ("F", "mu")), "sigma_2"]
    slots = [model.names.index(name) for name in names]
    # cosipy hands the function to Minuit, which counts its arguments: spell them out
    density.__signature__ = inspect.Signature(
        [inspect.Parameter(n, inspect.Parameter.POSITIONAL_OR_KEYWORD) for n in ["x", *names]]
    )
    instance = LineBackgroundEstimation(events)
    instance.set_bkg_energy_spectrum_model(density, list(model.values[slots]))
    instance.set_mask(TUTORIAL_MASK * u.keV)
    own = fit_spectrum(model, spectrum)
    n = spectrum.counts[spectrum.used]
    of_the_data = np.sum(n - n * np.log(n))
    theirs_here = 2 * (instance._negative_log_likelihood(*own.theta[slots]) - of_the_data)
    assert theirs_here == pytest.approx(own.deviance, abs=1e-3)
    begin = time.perf_counter()
    instance.fit_energy_spectrum()
    theirs = time.perf_counter() - begin
    end = model.values.copy()
    end[slots] = instance.bkg_spectrum_model_parameter
    assert not 2 * Objective(model, spectrum).value(end) < own.deviance - 1e-3
    (ours,) = in_turns(lambda: fit_spectrum(model, spectrum), repeats=repeats)
    what = "fit with covariance, 6 lines, 99 bins"
    return Row(what, ours, "s", "cosipy 0.3.4 LineBackgroundEstimation (one run)", theirs)


def sampling(
    aim: float | None = None, n_iterations: int = 4000, n_burn_in: int = 1000, repeats: int = 3
) -> Row:
    """Evaluations a second of `fit.sample()` and of threeML's emcee.

    The same plugin, model and flat priors, which end 8 errors from the fit: threeML scatters its
    walkers over a tenth of each value, or as far as the limits let it. A tenth of the tutorial's
    counts, because astromodels cannot copy a power law whose K has a lower limit above 1000.
    """
    from astromodels import Uniform_prior
    from threeML import BayesianAnalysis, DataList, threeML_config

    from cosi_linebkg_plugin import LineBackgroundLike, background_model

    _silence()
    threeML_config.interface.progress_bars = False
    truth = line_model([(e, n / 10, w) for e, n, w in TUTORIAL_LINES], k=500.0, sigma=2.96)
    plugin = LineBackgroundLike("linebkg", simulated(truth))
    model = background_model([(e, w) for e, _, w in TUTORIAL_LINES], pivot=1800)
    fit = plugin.fit(model)
    for path, parameter in model.free_parameters.items():
        error = fit.errors[path.split(".")[-1]]
        low, high = parameter.value - 8 * error, parameter.value + 8 * error
        parameter.bounds = low, high
        parameter.prior = Uniform_prior(lower_bound=low, upper_bound=high, value=1 / (high - low))
    fit = plugin.fit(model)  # with these limits

    n_walkers = 32  # those of fit.sample() here
    session = BayesianAnalysis(model, DataList(plugin))
    session.set_sampler("emcee")
    session.sampler.setup(
        n_iterations=n_iterations, n_burn_in=n_burn_in, n_walkers=n_walkers, seed=1
    )
    np.random.seed(1)  # noqa: NPY002  # where threeML's walkers start
    begin = time.perf_counter()
    session.sample(quiet=True)
    theirs = n_walkers * (n_iterations + n_burn_in) / (time.perf_counter() - begin)
    reference = plugin.result(session)

    rates = []
    fit.sample(seed=0)  # compiles
    for seed in range(repeats):
        begin = time.perf_counter()
        own = fit.sample(n_samples=20000, seed=seed)
        rates.append(own.n_calls / (time.perf_counter() - begin))
        for name, error in reference.errors.items():
            apart = abs(own.values[name] - reference.values[name]) / error
            assert apart < 0.2, f"medians of {name}: {apart:.2f} sigma apart"
            assert own.errors[name] == pytest.approx(error, rel=0.1), f"width of {name}"
    what = "posterior sampling, 6 lines, evaluations a second"
    return Row(what, float(np.median(rates)), "1/s", "threeML's emcee", theirs, aim)


def growth_with_bins(
    sizes: tuple[int, ...] = (99, 396, 1584), repeats: int = 7, aim: float | None = None
) -> list[Row]:
    """The same 6 lines and energies in ever narrower bins."""
    model = tutorial_like(6)
    return _growth("bins", sizes, [(model, simulated(model, n)) for n in sizes], repeats, aim)


def growth_with_lines(
    sizes: tuple[int, ...] = (3, 12, 23), repeats: int = 7, aim: float | None = None
) -> list[Row]:
    models = [tutorial_like(n) for n in sizes]
    return _growth("lines", sizes, [(m, simulated(m)) for m in models], repeats, aim)


def _growth(of: str, sizes, cases, repeats: int, aim: float | None) -> list[Row]:
    calls, fits = [], []
    for model, spectrum in cases:
        objective, theta = Objective(model, spectrum), model.values
        assert fit_spectrum(model, spectrum).valid

        def many(objective=objective, theta=theta):
            for _ in range(100):
                objective.value(theta)

        calls.append(many)
        fits.append(lambda model=model, spectrum=spectrum: fit_spectrum(model, spectrum))
    return [
        growth(f"{what} with {of}", sizes, in_turns(*each, repeats=repeats), aim)
        for what, each in (("likelihood call", calls), ("fit", fits))
    ]


CASES = [
    lambda: likelihood_call(6),
    lambda: likelihood_call(23),
    lambda: direct_fit(6),
    lambda: direct_fit(23),
    lambda: joint_likelihood_fit(),
]


@pytest.mark.parametrize("case", CASES, ids=["call 6", "call 23", "fit 6", "fit 23", "threeML"])
@pytest.mark.parametrize("side", ["ours", "theirs"])
def test_of_call_or_fit(benchmark, case, side):
    comparison = case()
    benchmark.group = f"{comparison.what}; calls: {comparison.calls}"
    benchmark(getattr(comparison, side))
