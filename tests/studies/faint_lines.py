"""What lines that the counts do not show do to the continuum, and what marginalising them repairs.

``PYTHONPATH=tests/helpers python tests/studies/faint_lines.py [n_spectra] [--write]``; with 1,000
spectra, the default, four minutes. Set OMP_NUM_THREADS=1. With ``--write`` the table goes into
docs/validation.md.

The case "demo" of interval_coverage.py at DC3's counts, 1/10 and 1/100 of them. Its fainter lines
(below 5 sigma: 4, 12 and 15 of twenty) are in the truth, or not; the fit has the others. In the
source range, which is masked, the continuum of each fit is held against the truth: without faint
lines; with those of the catalogue (on a tenth of the spectra); and with those of the catalogue
and the demo's own energies, some of which the catalogue does not have.

``--pulls`` prints what was measured before there was a cure: at 1/100 the pull of the continuum's K
with all twenty lines, free, or only the seen ones in the truth and in the fit; and at DC3's
counts the lines above 5 sigma whose two standard errors do not cover.
"""

from __future__ import annotations

import sys
import time
import warnings
from dataclasses import dataclass, field

import numpy as np
from interval_coverage import (
    DEMO_CONTINUUM,
    EDGES,
    LINE_SIGMA,
    SOURCE_RANGE,
    Case,
    case,
    readable,
    run,
)
from spectra import line_model
from study import number_of_runs, publish

from cosi_linebkg_plugin.errors import FitError, LineBackgroundWarning
from cosi_linebkg_plugin.fit.minimise import fit_spectrum
from cosi_linebkg_plugin.fit.result import LineBackgroundFit
from cosi_linebkg_plugin.lines.faint import marginalise_faint
from cosi_linebkg_plugin.spectrum.components import SpectralModel
from cosi_linebkg_plugin.template.amounts import SourceAmounts

WAYS = ("left out", "catalogue", "catalogue and own")


def of_seen_lines(full: Case) -> SpectralModel:
    """The truth without the fainter lines."""
    windows = {p.name: (p.low, p.high) for p in full.truth.parameters}
    numbers = [n[2:] for n in full.values if n.startswith("F_") and full.is_seen(n)]
    lines = [(full.values[f"mu_{k}"], full.values[f"F_{k}"], windows[f"mu_{k}"]) for k in numbers]
    law = DEMO_CONTINUUM
    return line_model(lines, k=full.values["K_1"], index=law.index, sigma=LINE_SIGMA, pivot=law.piv)


@dataclass
class Found:
    """The continuum in the source range, over spectra: found, its error, and the truth."""

    true: float
    values: list[float] = field(default_factory=list)
    errors: list[float] = field(default_factory=list)
    failed: int = 0

    def add(self, fit: LineBackgroundFit) -> None:
        counts = fit.expected_counts(SOURCE_RANGE)
        k = counts.labels.index("continuum")
        self.values.append(counts.values[k])
        self.errors.append(counts.errors[k])

    def covered(self, sigmas: float = 1.0) -> float:
        """Share of the spectra whose interval holds the truth."""
        off = np.abs(np.array(self.values) - self.true)
        return float(np.mean(off < sigmas * np.array(self.errors)))

    @property
    def pulls(self) -> np.ndarray:
        return (np.array(self.values) - self.true) / np.array(self.errors)


def continuum(
    scale: float, with_lines: bool, n: int, seed: int, every: int = 1, ways=WAYS
) -> dict[str, Found]:
    """Fit `n` spectra in each way, the catalogue alone for one of `every`."""
    full = case("demo", scale)
    seen = of_seen_lines(full)
    truth = full.truth if with_lines else seen
    simulated = Case(truth, seen)
    true = SourceAmounts(truth, truth.values, EDGES, SOURCE_RANGE).counts(truth.values)[0]
    own = [
        full.values[f"mu_{name[2:]}"]
        for name in full.values
        if name.startswith("F_") and not full.is_seen(name)
    ]
    asked = {"catalogue": True, "catalogue and own": own}
    found = {way: Found(float(true)) for way in ways}
    rng = np.random.default_rng(seed)
    for i in range(n):
        spectrum = simulated.spectrum(rng)
        fit = fit_spectrum(seen, spectrum)
        for way, result in found.items():
            if way == "catalogue" and i % every:
                continue
            try:
                other = fit if way not in asked else marginalise_faint(fit, asked[way])
                result.add(other)
            except FitError:
                result.failed += 1
    return found


def table(n: int) -> str:
    lines = [
        "| counts | faint lines | treated | spectra | bias [%] | scatter [%] | error [%] | pulls | "
        "68.27 % | 95.45 % | fits failed |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for name, scale in (("1", 1.0), ("1/10", 0.1), ("1/100", 0.01)):
        for there in (True, False):
            for way, found in continuum(scale, there, n, seed=11, every=10).items():
                off = 100.0 * (np.array(found.values) / found.true - 1.0)
                error = 100.0 * float(np.median(found.errors)) / found.true
                pulls = found.pulls
                row = [
                    name,
                    "there" if there else "not there",
                    way,
                    f"{off.size}",
                    f"{off.mean():+.2f}",
                    f"{off.std(ddof=1):.2f}",
                    f"{error:.2f}",
                    f"{pulls.mean():+.2f}, {pulls.std(ddof=1):.2f}",
                    f"{100 * found.covered():.1f}",
                    f"{100 * found.covered(2.0):.1f}",
                    f"{found.failed}",
                ]
                lines.append(f"| {' | '.join(row)} |")
    return "\n".join(lines)


def print_pulls() -> None:
    """What lines without a prior do."""
    full = case("demo", 0.01)
    models = {"all lines": (full.truth, full.start), "seen lines": (of_seen_lines(full),) * 2}
    for true, (truth, _) in models.items():
        for fitted, (_, start) in models.items():
            rng, pulls = np.random.default_rng(5), []
            mixed = Case(truth, start)
            for _ in range(150):
                try:
                    fit = fit_spectrum(start, mixed.spectrum(rng))
                except FitError:
                    continue
                pulls.append((fit.values["K_1"] - full.values["K_1"]) / fit.errors["K_1"])
            error = np.std(pulls) / len(pulls) ** 0.5
            print(f"truth: {true}, fit: {fitted}: pull of K {np.mean(pulls):+.2f} +- {error:.2f}")
    large = case("demo")
    toys = run(large, 250, 31, counts=False)
    for name in filter(large.is_seen, large.values):
        tally = toys.tallies[name]
        if (chance := tally.missed_by_chance("95")) < 1e-3:
            share = 100 * np.mean(tally.covered["95"])
            print(f"{readable(name, large)}: {share:.1f} % (chance {chance:.1e})")


def main() -> None:
    warnings.simplefilter("ignore", LineBackgroundWarning)
    if "--pulls" in sys.argv:
        print_pulls()
        return
    publish("faint_lines", table(number_of_runs(1000)))
    print(f"{time.process_time():.0f} s of CPU")


if __name__ == "__main__":
    main()
