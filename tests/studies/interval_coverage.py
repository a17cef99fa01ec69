"""Coverage of the intervals of a fit, pulls and p-values over simulated spectra, as tables.

``PYTHONPATH=tests/helpers python tests/studies/interval_coverage.py [n_toys] [--write]`` prints
the tables; with ``--write`` they go into docs/validation.md. 1,000 toys, the default, take some
ten minutes. Set OMP_NUM_THREADS=1.

Spectra are drawn from the model that is fitted to them, in 99 bins from 1500 to 2000 keV of which
1790-1825 keV are masked:

* "tutorial": a power law and the six lines of cosipy's tutorial, with the values that a fit to the
  published DC3 spectrum finds (2,017,218 counts); starts and limits are the tutorial's;
* "demo": a power law and the twenty lines of the demo's simulation, of 340 to 82,200 counts.

Both at DC3's counts and at 1/100 of them. An interval covers if it holds the true value: value +-
one and two standard errors of the covariance (68.27 and 95.45 %); at 1/100 also that of MINOS, and
that of twice the log-likelihood ratio < 4 (a second fit with the parameter held at its true value).
A parameter without an interval, because it sits on a limit or MINOS found none, does not cover.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
from scipy.stats import binom, kstest, norm
from spectra import TUTORIAL_MASK, line_model, simulated_spectrum, tutorial_model
from study import number_of_runs, publish

from cosi_linebkg_plugin.app.demo import resolved_lines
from cosi_linebkg_plugin.app.simulation import (
    DEMO_CONTINUUM,
    DEMO_LINE_RATIO,
    DEMO_LINES,
    LINE_SIGMA,
    SOURCE_RANGE,
)
from cosi_linebkg_plugin.errors import FitError, LineBackgroundWarning
from cosi_linebkg_plugin.fit.minimise import fit_spectrum, from_best
from cosi_linebkg_plugin.fit.result import LineBackgroundFit
from cosi_linebkg_plugin.fit.toys import with_toys
from cosi_linebkg_plugin.spectrum.axis import EnergySpectrum
from cosi_linebkg_plugin.spectrum.components import SpectralModel
from cosi_linebkg_plugin.template.amounts import LineRatio, SourceAmounts

EDGES = np.linspace(1500.0, 2000.0, 100)
#: A range in fitted bins with a line in it (28Al), for the counts of "lines".
LINE_RANGE = (1775.0, 1785.0)
RATIO = LineRatio(1808.65, 1778.97, DEMO_LINE_RATIO, 0.015)
NOMINAL = {"68": norm.cdf(1) - norm.cdf(-1), "95": norm.cdf(2) - norm.cdf(-2)}
#: A line is seen if its true counts are this many of the standard errors expected for them.
SEEN = 5.0
#: A coverage with a smaller chance, by the binomial law, is marked.
MARKED = 1e-4
# a fit of the tutorial's model to the published DC3 spectrum, rounded
_TUTORIAL = {
    "K_1": 3300.0, "index_1": -2.03, "sigma_2": 2.96,
    "F_2": 13400.0, "F_3": 35800.0, "F_4": 73500.0, "F_5": 23900.0, "F_6": 12700.0, "F_7": 35100.0,
    "mu_2": 1612.0, "mu_3": 1633.1, "mu_4": 1665.4, "mu_5": 1722.6, "mu_6": 1764.1, "mu_7": 1778.4,
}  # fmt: skip


@dataclass(frozen=True, eq=False)
class Case:
    """What is simulated and fitted.

    Attributes
    ----------
    truth : SpectralModel
        Its values are the truth.
    start : SpectralModel
        What the fits start from.
    """

    truth: SpectralModel
    start: SpectralModel

    def spectrum(self, rng: np.random.Generator) -> EnergySpectrum:
        """One simulated spectrum."""
        return simulated_spectrum(self.truth, EDGES, rng, [TUTORIAL_MASK])

    @property
    def values(self) -> dict[str, float]:
        """True values of the free parameters."""
        return {p.name: p.value for p in self.truth.parameters if p.free}

    @cached_property
    def expected_errors(self) -> dict[str, float]:
        """Standard errors of the fit to the expected counts themselves, by parameter."""
        blank = self.spectrum(np.random.default_rng(0))
        expected = self.truth.bind(EDGES).counts(self.truth.values)
        return fit_spectrum(self.truth, replace(blank, counts=expected)).errors

    def is_seen(self, name: str) -> bool:
        """Whether a parameter belongs to the continuum, the width, or a line that is seen."""
        kind, number = name.split("_")
        if kind not in ("F", "mu"):
            return True
        error = self.expected_errors.get(f"F_{number}", np.inf)
        return self.values[f"F_{number}"] >= SEEN * error


def case(name: str, scale: float = 1.0) -> Case:
    """The case "tutorial", "demo" or "continuum", with `scale` times the counts of DC3."""
    model = {"tutorial": tutorial_model, "demo": _demo_model, "continuum": _continuum}[name]()
    values = _TUTORIAL if name == "tutorial" else {}
    truth = replace(
        model,
        parameters=tuple(
            replace(p, value=values.get(p.name, p.value) * (scale if p.name[0] in "KF" else 1.0))
            for p in model.parameters
        ),
    )
    return Case(truth, model)


def _demo_model() -> SpectralModel:
    """The demo's resolved lines, within the windows that `background_model` gives them."""
    counts = {line.energy: line.counts for line in DEMO_LINES}
    energies = np.array(resolved_lines())
    room = np.minimum(10.0, np.diff(energies, prepend=-np.inf, append=np.inf) / 2.0)
    lines = [
        (e, counts[e], (e - below, e + above))
        for e, below, above in zip(energies, room[:-1], room[1:], strict=True)
    ]
    law = DEMO_CONTINUUM
    return line_model(lines, k=law.K, index=law.index, sigma=LINE_SIGMA, pivot=law.piv)


def _continuum() -> SpectralModel:
    law = DEMO_CONTINUUM
    return line_model([], k=law.K, index=law.index, pivot=law.piv)


@dataclass
class Tally:
    """Of one quantity, over toys.

    Attributes
    ----------
    pulls : list of float
        (found - true) / error; NaN without an error.
    covered : dict of str to list of bool
        Whether an interval held the truth: "68" and "95" of the covariance, "profile 68" (MINOS)
        and "profile 95".
    """

    pulls: list[float] = field(default_factory=list)
    covered: dict[str, list[bool]] = field(default_factory=dict)

    def add(self, off: float, error: float, **profile: bool) -> None:
        self.pulls.append(off / error)
        inside = {"68": abs(off) < error, "95": abs(off) < 2.0 * error}
        for key, value in (inside | {f"profile {k[1:]}": v for k, v in profile.items()}).items():
            self.covered.setdefault(key, []).append(bool(value))

    def missed_by_chance(self, key: str) -> float:
        """Chance that a right interval covers as badly as this, on either side."""
        found, n = sum(self.covered[key]), len(self.covered[key])
        nominal = NOMINAL[key.split()[-1]]
        return float(2 * min(0.5, binom.cdf(found, n, nominal), binom.sf(found - 1, n, nominal)))


@dataclass
class Toys:
    """What a number of simulated spectra gave.

    Attributes
    ----------
    tallies : dict of str to Tally
        By parameter, and by "label, range" for expected counts.
    p_values : list of float or None
        Of the deviance.
    at_limits, failed, missing, disagree : int
        Parameters on a limit; fits without a valid minimum; MINOS intervals that were not found;
        those that contradict the likelihood ratio at the truth.
    """

    tallies: dict[str, Tally] = field(default_factory=dict)
    p_values: list[float | None] = field(default_factory=list)
    at_limits: int = 0
    failed: int = 0
    missing: int = 0
    disagree: int = 0

    def tally(self, name: str) -> Tally:
        return self.tallies.setdefault(name, Tally())


def run(
    case: Case, n_toys: int, seed: int, *, profile: Iterable[str] = (), counts: bool = True
) -> Toys:
    """Fit `n_toys` simulated spectra.

    Parameters
    ----------
    profile : iterable of str
        Parameters that get profile-likelihood intervals.
    counts : bool
        Expected counts as well: those in the source range and in `LINE_RANGE`, and those of a
        template, whose line ratio is drawn anew for each spectrum.
    """
    rng, toys, profile = np.random.default_rng(seed), Toys(), list(profile)
    for _ in range(n_toys):
        spectrum = case.spectrum(rng)
        try:
            fit = fit_spectrum(case.start, spectrum, minos=bool(profile))
        except FitError:
            toys.failed += 1
            continue
        toys.p_values.append(fit.p_value)
        toys.at_limits += len(fit.at_limits)
        for name, true in case.values.items():
            inside = _profile_intervals(toys, fit, name, true) if name in profile else {}
            toys.tally(name).add(fit.values[name] - true, fit.errors.get(name, np.nan), **inside)
        if counts:
            _tally_counts(toys, case.truth, fit, rng)
    return toys


def _profile_intervals(toys: Toys, fit: LineBackgroundFit, name: str, true: float):
    """Whether MINOS's interval and that of 2 ln(likelihood ratio) < 4 hold the true value."""
    parameters = tuple(
        replace(p, value=true, free=False) if p.name == name else p
        for p in from_best(fit).parameters
    )
    try:
        held = fit_spectrum(replace(fit.model, parameters=parameters), fit.spectrum)
    except FitError as error:
        held = error.result
    ratio = held.deviance - fit.deviance
    if name not in fit.minos:
        toys.missing += 1
        return {"_68": False, "_95": ratio < 4.0}
    low, high = fit.minos[name]
    inside = low < true - fit.values[name] < high
    # MINOS finds its ends to some thousandths: next to them either may be right
    toys.disagree += inside != (ratio < 1.0) and abs(ratio - 1.0) > 0.02
    return {"_68": inside, "_95": ratio < 4.0}


def _tally_counts(toys: Toys, truth: SpectralModel, fit: LineBackgroundFit, rng) -> None:
    """Add the counts of each range and of a template."""
    found = {}
    for where in (SOURCE_RANGE, LINE_RANGE):
        expected = fit.expected_counts(where)
        name = f"{where[0]:g}-{where[1]:g} keV"
        found[name] = _counts(truth, where), expected.values, expected.covariance
    ratio = replace(RATIO, value=rng.normal(RATIO.value, RATIO.error))
    counts, covariance = _template_counts(fit, ratio)
    found["template"] = _counts(truth, SOURCE_RANGE, RATIO), counts, covariance
    for name, (true, value, covariance) in found.items():
        for k, label in enumerate(("continuum", "lines")):
            if true[k] > 1e-6 * true.sum():  # else no line reaches there
                toys.tally(f"{label}, {name}").add(value[k] - true[k], covariance[k, k] ** 0.5)
        if true[1] > 1e-6 * true.sum():
            toys.tally(f"total, {name}").add((value - true).sum(), covariance.sum() ** 0.5)


def _counts(truth: SpectralModel, where, ratio: LineRatio | None = None):
    """True counts of continuum and lines."""
    return SourceAmounts(truth, truth.values, EDGES, where, ratio).counts(truth.values)


def _template_counts(fit: LineBackgroundFit, ratio: LineRatio):
    """Counts and covariance of a template's components, from a histogram of energies alone."""
    import astropy.units as u
    import histpy

    from cosi_linebkg_plugin.histograms.read import open_events
    from cosi_linebkg_plugin.histograms.write import make_histogram
    from cosi_linebkg_plugin.template.build import make_template
    from cosi_linebkg_plugin.template.options import TemplateOptions
    from cosi_linebkg_plugin.template.plan import plan_for_fit

    axis = histpy.Axis(EDGES * u.keV, label="Em")
    events = open_events(make_histogram([axis], fit.spectrum.counts))
    template = make_template(
        plan_for_fit(events, fit, SOURCE_RANGE, TemplateOptions(line_ratio=ratio)), fit
    )
    return np.array(list(template.counts.values())), template.covariance


def toy_p_values(case: Case, n_trials: int, n_toys: int, seed: int) -> list[float]:
    """p-values from `n_toys` toys each, where counts are too few for the chi-square law."""
    rng, found = np.random.default_rng(seed), []
    while len(found) < n_trials:
        try:
            fit = fit_spectrum(case.start, case.spectrum(rng))
        except FitError:
            continue
        found.append(with_toys(fit, n_toys, rng).p_value)
    return found


def flatness(p_values: list[float]) -> float:
    """Chance that flat p-values look as little flat as these (Kolmogorov-Smirnov)."""
    return float(kstest(p_values, "uniform").pvalue)


# --- tables --------------------------------------------------------------------------------------


def single(toys: Toys, case: Case) -> dict[str, list[str]]:
    """Each quantity in a row of its own, lines by their energies."""
    return {readable(name, case): [name] for name in toys.tallies}


def grouped(toys: Toys, case: Case) -> dict[str, list[str]]:
    """The parameters of the lines in four rows: counts and energies, seen and fainter ones."""
    rows: dict[str, list[str]] = {}
    for name in toys.tallies:
        kind = name.split("_")[0]
        if kind not in ("F", "mu"):
            rows[readable(name, case)] = [name]
        else:
            seen = f"lines above {SEEN:g} sigma" if case.is_seen(name) else "fainter lines"
            rows.setdefault(f"{kind} of {seen}", []).append(name)
    return rows


def readable(name: str, case: Case) -> str:
    """The name of a quantity, lines by their energies."""
    kind, _, number = name.partition("_")
    if kind in ("F", "mu") and number in [n[3:] for n in case.values if n.startswith("mu_")]:
        return f"{kind}, {case.values[f'mu_{number}']:g} keV"
    return name.removesuffix("_1").removesuffix("_2")


def cells(toys: Toys, names: list[str], keys: Iterable[str]) -> list[str]:
    """Mean and width of the pulls, then the coverage of each kind of interval."""
    tallies = [toys.tallies[name] for name in names]
    pulls = np.concatenate([t.pulls for t in tallies])
    pulls = pulls[np.isfinite(pulls)]
    row = [f"{pulls.mean():+.2f}, {pulls.std(ddof=1):.2f}"]
    for key in keys:
        known = [t for t in tallies if key in t.covered]
        shares = [100.0 * np.mean(t.covered[key]) for t in known]
        text = ""
        if known:
            text = f"{np.mean(shares):.1f}"
            if any(t.missed_by_chance(key) < MARKED for t in known):
                text = f"**{text}**"
            if len(known) > 1:
                text += f" ({min(shares):.1f}-{max(shares):.1f})"
        row.append(text)
    return row


def table(many: Toys, few: Toys, large: Case, small: Case, rows) -> str:
    """A table of the coverage at DC3's counts and at 1/100 of them, in percent."""
    lines = [
        "| | pulls | 68.27 % | 95.45 % | 1/100: pulls | 68.27 % | 95.45 % | profile 68.27 % | "
        "profile 95.45 % |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    of_many, of_few = rows(many, large), rows(few, small)
    nothing = [""] * 5
    for name in dict.fromkeys([*of_many, *of_few]):
        left = cells(many, of_many[name], NOMINAL) if name in of_many else nothing[:3]
        keys = [*NOMINAL, *(f"profile {k}" for k in NOMINAL)]
        right = cells(few, of_few[name], keys) if name in of_few else nothing
        lines.append(f"| {' | '.join([name, *left, *right])} |")
    return "\n".join(lines)


def main() -> None:
    warnings.simplefilter("ignore", LineBackgroundWarning)
    n_toys = number_of_runs(1000)
    text, judged = [], []
    for name, rows in (("tutorial", single), ("demo", grouped)):
        large, small = case(name), case(name, 0.01)
        many = run(large, n_toys, seed=1)
        few = run(small, n_toys, seed=2, profile=filter(small.is_seen, small.values))
        n_lines = [sum(c.is_seen(n) for n in c.values if n[0] == "F") for c in (large, small)]
        caption = f"{n_lines[0]} and {n_lines[1]} of its lines are above {SEEN:g} sigma."
        text += [f"**{name}**: {caption}", "", table(many, few, large, small, rows), ""]
        for scale, toys in (("1", many), ("1/100", few)):
            judged.append((f"{name}, {scale}", toys.p_values, toys))
    for scale in (1000, 2500):
        toys = run(case("continuum", 1 / scale), n_toys, seed=3, counts=False)
        known = [p for p in toys.p_values if p is not None]
        judged.append((f"continuum, 1/{scale}", known, toys))
    by_toys = toy_p_values(case("continuum", 1e-4), n_toys // 5, 100, seed=4)
    judged.append(("continuum, 1/10000, by 100 toys", by_toys, None))
    text += [
        "| spectra, counts | fits | p-values flat: KS p | below 5 % | below 1 % | fits failed | "
        "parameters on a limit | MINOS missing | MINOS against the likelihood ratio |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for name, p_values, toys in judged:
        p = np.array(p_values)
        row = [name, f"{p.size}", f"{flatness(p_values):.2g}", f"{100 * np.mean(p < 0.05):.1f} %",
               f"{100 * np.mean(p < 0.01):.1f} %"]  # fmt: skip
        found = [toys.failed, toys.at_limits, toys.missing, toys.disagree] if toys else [""] * 4
        text.append(f"| {' | '.join([*row, *map(str, found)])} |")
    publish("interval_coverage", "\n".join(text))


if __name__ == "__main__":
    main()
