"""The same events in bins of 1, 2 and 5 keV: do the results agree? As a table.

``PYTHONPATH=tests/helpers python tests/studies/binning.py [n_toys] [--write]``; with ``--write``
the table goes into docs/validation.md. 100 toys, the default, take a minute. Set
OMP_NUM_THREADS=1.

Spectra of the model "tutorial" of interval_coverage.py are drawn in bins of 1 keV and added up to
bins of 2 and 5 keV. Wider bins know less, so that results differ: those of an efficient estimator
scatter about those of the finer bins with the difference of the two variances (Hausman 1978,
Econometrica 46, 1251).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from interval_coverage import LINE_RANGE, Case, case
from spectra import TUTORIAL_MASK
from study import number_of_runs, publish

from cosi_linebkg_plugin.app.simulation import SOURCE_RANGE
from cosi_linebkg_plugin.errors import FitError
from cosi_linebkg_plugin.fit.minimise import fit_spectrum
from cosi_linebkg_plugin.spectrum.axis import EnergySpectrum

FINE = np.linspace(1500.0, 2000.0, 501)
WIDTHS = (1, 2, 5)


@dataclass(frozen=True)
class Difference:
    """Results of wider bins minus those of 1 keV, over toys, in standard errors of the latter.

    Attributes
    ----------
    mean, mean_error : float
    scatter, expected_scatter : float
        Standard deviation, and the square root of the difference of the expected variances.
    """

    mean: float
    mean_error: float
    scatter: float
    expected_scatter: float


def of_width(scale: float, sigma: float, known: bool = False) -> Case:
    """The tutorial's case with lines of this width [keV], which is fitted or known."""
    plain = case("tutorial", scale)

    def changed(model):
        return replace(
            model,
            parameters=tuple(
                replace(p, value=sigma, free=not known) if p.name == "sigma_2" else p
                for p in model.parameters
            ),
        )

    return Case(changed(plain.truth), changed(plain.start) if known else plain.start)


def results(case: Case, counts: np.ndarray) -> dict[int, dict[str, tuple[float, float]]]:
    """Value and error of each parameter and range count, by bin width; raises FitError.

    Parameters
    ----------
    counts : ndarray, shape (500,)
        In bins of 1 keV.
    """
    found = {}
    for width in WIDTHS:
        merged = counts.reshape(-1, width).sum(axis=1)
        spectrum = EnergySpectrum(FINE[::width], merged).with_mask([TUTORIAL_MASK])
        fit = fit_spectrum(case.start, spectrum)
        row = {name: (fit.values[name], fit.errors.get(name, np.nan)) for name in case.values}
        for where in (SOURCE_RANGE, LINE_RANGE):
            c = fit.expected_counts(where)
            row[f"counts, {where[0]:g}-{where[1]:g} keV"] = c.total, c.total_error
        found[width] = row
    return found


def compare(case: Case, n_toys: int, seed: int) -> tuple[dict[int, dict[str, Difference]], int]:
    """Differences by bin width and quantity, and how many toys failed in any of the widths."""
    rng, toys, failed = np.random.default_rng(seed), [], 0
    expected = case.truth.bind(FINE).counts(case.truth.values)
    of_truth = results(case, expected)  # what errors to expect
    for _ in range(n_toys):
        try:
            toys.append(results(case, rng.poisson(expected).astype(float)))
        except FitError:
            failed += 1
    table: dict[int, dict[str, Difference]] = {}
    for width in WIDTHS[1:]:
        table[width] = {}
        for name, (_, error) in of_truth[1].items():
            off = np.array([toy[width][name][0] - toy[1][name][0] for toy in toys]) / error
            spread = float(off.std(ddof=1))
            more = (of_truth[width][name][1] / error) ** 2 - 1.0
            table[width][name] = Difference(
                float(off.mean()), spread / len(toys) ** 0.5, spread, max(more, 0.0) ** 0.5
            )
    return table, failed


#: Counts over those of DC3, width of the lines [keV], and whether the fit knows it.
SETTINGS = (
    (1.0, 2.96, False), (0.01, 2.96, False), (1.0, 1.5, False), (0.01, 1.5, True), (0.01, 0.5, True)
)  # fmt: skip


def pooled(rows: dict[str, Difference], which: str) -> str:
    """Means of the differences and their scatter over what is expected, of some quantities."""
    found = [d for name, d in rows.items() if name.startswith(which)]
    means = np.array([d.mean for d in found])
    error = np.sqrt(np.mean([d.mean_error**2 for d in found]))
    ratio = np.array([d.scatter / d.expected_scatter for d in found])
    expected = np.mean([d.expected_scatter for d in found])
    farthest = means[np.abs(means).argmax()]
    return f"{farthest:+.3f} ± {error:.3f} | {expected:.2f} | {ratio.mean():.2f}"


def main() -> None:
    n_toys = number_of_runs(100)
    text = [
        "| counts, width of the lines | bins | quantity | farthest mean difference | "
        "scatter expected | found / expected |",
        "|---|---|---|---|---|---|",
    ]
    quantities = {"K": "K_", "index": "index", "F of 6 lines": "F_", "mu of 6 lines": "mu_",
                  "sigma": "sigma", "counts, 2 ranges": "counts"}  # fmt: skip
    for scale, sigma, known in SETTINGS:
        setting = f"{'1' if scale == 1 else '1/100'}, {sigma:g} keV{' (known)' if known else ''}"
        try:
            found, failed = compare(of_width(scale, sigma, known), n_toys, seed=1)
        except FitError:  # of the expected counts themselves
            text.append(f"| {setting} | | no fit: bins of some width do not determine it | | | |")
            continue
        if failed:
            setting += f", {failed} fits failed"
        for width, rows in found.items():
            for name, which in quantities.items():
                if any(key.startswith(which) for key in rows):
                    text.append(f"| {setting} | {width} keV | {name} | {pooled(rows, which)} |")
    publish("binning", "\n".join(text))


if __name__ == "__main__":
    main()
