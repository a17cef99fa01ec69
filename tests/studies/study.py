"""What the studies share: published data, number of runs, a Poisson fit, and where tables go."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

DOCS = Path(__file__).resolve().parents[2] / "docs"
END = "<!-- end -->"


def published_data() -> Path:
    """The folder with COSI's published data and the germanium spectra; see docs/CONTRIBUTING.md."""
    if "COSI_LINEBKG_DATA" not in os.environ:
        raise SystemExit("COSI_LINEBKG_DATA must name the folder of the published data.")
    return Path(os.environ["COSI_LINEBKG_DATA"])


def number_of_runs(default: int) -> int:
    """The number on the command line, or the default."""
    return next((int(word) for word in sys.argv[1:] if word.isdigit()), default)


def publish(name: str, text: str, page: str = "validation.md") -> None:
    """Print a text; with --write also put it between the marks of this name in a page of docs."""
    print(text)
    if "--write" in sys.argv:
        write_section(DOCS / page, name, text)


def write_section(page: Path, name: str, text: str) -> None:
    """Put a text between the marks of this name."""
    begin = f"<!-- {name} -->"
    head, rest = page.read_text(encoding="utf-8").split(begin)
    page.write_text(f"{head}{begin}\n{text}\n{END}{rest.split(END, 1)[1]}", encoding="utf-8")


def poisson_fit(
    observed: Array,
    slopes: Callable[[Array], Array],
    start: Array,
    amplitudes: int,
    known: tuple[float, float],
    least: Array | None = None,
) -> tuple[Array, Array]:
    """Parameters and their covariance by Fisher scoring of a Poisson likelihood.

    Parameters
    ----------
    observed : ndarray, shape (n_cells,), counts
    slopes : callable
        Derivatives of the expected counts at some parameters, shape (n_parameters, n_cells).
    start : ndarray, shape (n_parameters,)
        Those in front are amplitudes: the expected counts are their sum of their slopes.
    amplitudes : int
        How many.
    known : (float, float)
        Value and error of the first parameter, from the spectrum.
    least : ndarray, shape (amplitudes,), optional
        Lower limits.

    Raises
    ------
    RuntimeError
        If it does not converge.
    """
    theta, (value, error) = start.astype(float), known
    constraint = np.zeros((theta.size, theta.size))
    constraint[0, 0] = error**-2
    for _ in range(100):
        rows = slopes(theta)
        expected = np.maximum(theta[:amplitudes] @ rows[:amplitudes], 1e-12)
        gradient = rows @ (observed / expected - 1.0)
        gradient[0] -= (theta[0] - value) / error**2
        information = (rows / expected) @ rows.T + constraint
        step = np.linalg.solve(information, gradient)
        theta = theta + step
        if least is not None:
            theta[:amplitudes] = np.maximum(theta[:amplitudes], least)
        if abs(step @ gradient) < 1e-8:
            return theta, np.linalg.inv(information)
    raise RuntimeError("The Poisson fit did not converge.")
