"""Bias and coverage of the sky flux in the joint fit with the template's norms, as a table.

``python tests/studies/sky_flux.py [n_seeds] [--write]`` prints the table; with ``--write`` it goes
into docs/validation.md. 100 seeds, the default, take some five minutes. Set OMP_NUM_THREADS=1.

The data sets are those of template_bias.py, the methods the two that are to be used. The error of
the sky flux is the standard error of the joint fit; the true flux should lie within one of it in
68.27 and within two in 95.45 % of the data sets.
"""

from __future__ import annotations

import warnings

from interval_coverage import NOMINAL
from study import number_of_runs, publish
from template_bias import METHODS, summary, trial

from cosi_linebkg_plugin.errors import LineBackgroundWarning

JOINT = {name: METHODS[name] for name in ("components, l <= 4", "components, l <= 4, sky=")}


def markdown(table: dict[str, dict[str, float]], n: int) -> str:
    """The rows of the table; the errors of the shares are binomial, at the nominal coverage."""
    lines = [
        "| template | sky flux, bias [%] | its standard error [%] | pulls: mean, width | "
        "68.27 % | 95.45 % |",
        "|---|---|---|---|---|---|",
    ]
    spread = {key: 100 * (p * (1 - p) / n) ** 0.5 for key, p in NOMINAL.items()}
    for name, row in table.items():
        shares = [f"{100 * row[f'covered_{k}']:.0f} ± {spread[k]:.1f}" for k in NOMINAL]
        lines.append(
            f"| {name} | {row['sky_percent']:+.2f} ± {row['sky_percent_error']:.2f} | "
            f"{row['error_percent']:.2f} | {row['pull_mean']:+.2f}, {row['pull_width']:.2f} | "
            f"{shares[0]} | {shares[1]} |"
        )
    return "\n".join(lines)


def main() -> None:
    warnings.simplefilter("ignore", LineBackgroundWarning)
    n = number_of_runs(100)
    publish("sky_flux", markdown(summary([trial(seed, JOINT) for seed in range(1, n + 1)]), n))


if __name__ == "__main__":
    main()
