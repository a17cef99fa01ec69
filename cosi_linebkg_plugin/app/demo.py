"""The demo: simulate a DC3-like data set, run the job on it, compare with the truth."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import FileError
from ..histograms.axes import HISTOGRAM
from ..histograms.axis import EventAxes, EventAxis
from ..histograms.write import sparse_histogram, write_cells
from ..io.atomic import output_folder, together, whole_file, whole_hdf5
from ..io.progress import Progress, say
from ..template.build import make_template
from ..template.options import TemplateOptions
from ..template.plan import plan_for_fit
from ..template.template import BackgroundTemplate
from .config import load_config
from .pipeline import RESULTS, Outcome, prepare, run
from .simulation import DEMO_LINE_RATIO, DEMO_LINES, SOURCE_RANGE, DemoLine, Simulation, simulate

if TYPE_CHECKING:
    from histpy import Histogram

#: The tutorial's sidebands, keV.
SIDEBANDS = ((1680.0, 1710.0), (1735.0, 1750.0), (1820.0, 1875.0), (1940.0, 1990.0))

MASK = (1790.0, 1825.0)

#: First line of the configuration that the demo writes.
TITLE = "# The background of the 26Al line, on simulated data."


def demo_config() -> str:
    """The configuration that the demo runs, as YAML."""
    lines = ", ".join(f"{energy:g}" for energy in resolved_lines())
    return f"""\
{TITLE}
events: events.hdf5
source_range: [{SOURCE_RANGE[0]:g}, {SOURCE_RANGE[1]:g}]     # keV
mask: [[{MASK[0]:g}, {MASK[1]:g}]]           # the line itself stays out of the fit
model:
  pivot: 1800
  sigma: 3.0
  lines: [{lines}]
engine: minuit
template:
  method: components
  window: [1750, 1870]
  shift: true                  # features in Phi that move with energy
  l_cut: 4
  # the ratio that the simulator put in; yours comes from a calculation or a measurement for your
  # instrument and orbit: a copied one invents background
  line_ratio: {{line: 1808.65, tracer: 1778.97, value: {DEMO_LINE_RATIO}, error: 0.015}}
  livetime: 7776000
"""


def resolved_lines() -> list[float]:
    """Energies [keV] of the simulated lines that bins of 5 keV can tell apart, outside the mask.

    Of two lines closer than 6 keV the stronger stands for both.
    """
    kept: list[DemoLine] = []
    for line in sorted(DEMO_LINES, key=lambda x: -x.counts):
        apart = all(abs(line.energy - other.energy) > 6.0 for other in kept)
        if apart and not MASK[0] < line.energy < MASK[1]:
            kept.append(line)
    return sorted(line.energy for line in kept)


def run_demo(
    out: str | os.PathLike[str], *, seed: int = 1, progress: Progress | None = None
) -> tuple[Outcome, list[dict[str, Any]]]:
    """Simulate, run, compare; leaves in `out` what `run` writes, the data and the configuration.

    Parameters
    ----------
    out : path
    seed : int
        Of the simulation.

    Returns
    -------
    outcome : Outcome
    rows : list of dict
        The comparison of each template method with the simulated truth.
    """
    data = ("events.hdf5", "config.yaml")
    _refuse_foreign_files(Path(out))
    with output_folder(out, (*data, *RESULTS)) as folder:
        outcome, rows = _run_demo(folder, seed, progress)
        return replace(outcome, files=(*outcome.files, *(folder / name for name in data))), rows


def _run_demo(
    folder: Path, seed: int, progress: Progress | None
) -> tuple[Outcome, list[dict[str, Any]]]:
    """`run_demo` in a folder that it holds."""
    say(progress, "simulating three months of data")
    simulation = simulate(seed)
    with together(folder, outdated=RESULTS):
        with whole_hdf5(folder / "events.hdf5") as whole:
            write_cells(whole, HISTOGRAM, _axes(simulation), simulation.coords, simulation.counts)
        with whole_file(folder / "config.yaml") as temporary:
            temporary.write_text(demo_config(), encoding="utf-8")
    config = load_config(folder / "config.yaml")
    rows: list[dict[str, Any]] = []

    def compare(template: BackgroundTemplate) -> tuple[list[dict[str, Any]], dict[str, Any]]:
        from ..show.template import plot_projection

        prepared = prepare(config)
        rows.append(compare_with_truth(template, simulation))
        for method in ("interpolated", "sideband"):
            options = TemplateOptions(method, SIDEBANDS)
            plan = plan_for_fit(prepared.events, template.fit, SOURCE_RANGE, options)
            other = make_template(plan, template.fit)
            rows.append(compare_with_truth(other, simulation))
        truth = simulation.expected_background(*SOURCE_RANGE).sum(axis=-1)
        return rows, {"phi_truth": plot_projection(template, "Phi", truth=truth)}

    outcome = run(
        config, folder, progress=progress, comparison=compare, title="Demo: 26Al background"
    )
    return outcome, rows


def _refuse_foreign_files(folder: Path) -> None:
    """The demo writes events.hdf5 and config.yaml: not over files of somebody else."""
    config = folder / "config.yaml"
    own = config.is_file() and config.read_text(encoding="utf-8", errors="replace").startswith(
        TITLE
    )
    for name in ("config.yaml", "events.hdf5"):
        if (folder / name).exists() and not own:
            raise FileError(
                f"{folder / name} is there already, not from a demo; choose another --out."
            )


def simulated_events(simulation: Simulation) -> Histogram:
    """The simulated data as a sparse histpy histogram (Em, Phi, PsiChi)."""
    axes = _axes(simulation)
    return sparse_histogram(axes, simulation.coords, simulation.counts, in_order=True)


def _axes(simulation: Simulation) -> EventAxes:
    axes = [
        EventAxis("Em", simulation.energy_edges, "keV"),
        EventAxis("Phi", simulation.phi_edges, "deg"),
        EventAxis.of_directions(simulation.nside, "RING", "galactic"),
    ]
    if simulation.time_edges is not None:
        axes.insert(0, EventAxis("Time", simulation.time_edges, "s"))
    return EventAxes(tuple(axes))


def compare_with_truth(template: BackgroundTemplate, simulation: Simulation) -> dict[str, Any]:
    """Counts and Phi distribution of a template against the simulated background.

    Returns
    -------
    dict
        template, counts, error, truth, difference_percent, and phi_chi2_per_bin: of the Phi
        projection against the noiseless truth at the same total, with the template's own errors.
    """
    truth = simulation.expected_background(*template.source_range)
    counts, errors = template.project("Phi")
    expected = truth.sum(axis=-1)
    expected = expected * counts.sum() / expected.sum()
    chi2 = np.mean((counts - expected) ** 2 / errors**2)
    total = float(truth.sum())
    return {
        "template": template.method,
        "counts": float(counts.sum()),
        "error": template.total_error,
        "truth": total,
        "difference_percent": 100.0 * (float(counts.sum()) / total - 1.0),
        "phi_chi2_per_bin": float(chi2),
    }
