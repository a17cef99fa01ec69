"""What lines that the counts do not show do to the continuum, and which seen lines suffer.

``PYTHONPATH=tests/helpers python tests/studies/faint_lines.py``; a minute. Set OMP_NUM_THREADS=1.
The case "demo" of interval_coverage.py: first, at 1/100 of DC3's counts, the pull of the
continuum's K with all twenty lines or only the five above 5 sigma in the truth and in the fit;
then, at DC3's counts, the lines above 5 sigma whose two standard errors do not cover.
"""

from __future__ import annotations

import numpy as np
from interval_coverage import DEMO_CONTINUUM, LINE_SIGMA, Case, case, readable, run
from spectra import line_model

from cosi_linebkg_plugin.errors import FitError
from cosi_linebkg_plugin.fit.minimise import fit_spectrum
from cosi_linebkg_plugin.spectrum.components import SpectralModel


def of_seen_lines(full: Case) -> SpectralModel:
    """The truth without the fainter lines."""
    windows = {p.name: (p.low, p.high) for p in full.truth.parameters}
    numbers = [n[2:] for n in full.values if n.startswith("F_") and full.is_seen(n)]
    lines = [(full.values[f"mu_{k}"], full.values[f"F_{k}"], windows[f"mu_{k}"]) for k in numbers]
    law = DEMO_CONTINUUM
    return line_model(lines, k=full.values["K_1"], index=law.index, sigma=LINE_SIGMA, pivot=law.piv)


def main() -> None:
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


if __name__ == "__main__":
    main()
