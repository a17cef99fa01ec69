"""Templates on the events of COSI's balloon flight of 2016, which are background, as a table.

``python tests/studies/flight.py [--data FOLDER] [--write]`` prints the table; with ``--write`` it
goes into docs/validation.md. It takes a minute. FOLDER holds the file
``cosi_flight_2016_background.npz`` (default: what COSI_LINEBKG_DATA names): all events of the
flight in the instrument's frame, 174 energy bins of 6 to 250 keV, 30 of Phi of 6 deg, 1,145 pixels
that are no healpix. Set OMP_NUM_THREADS=1.

Each source range is one energy bin. It is masked; lines are searched for within 20 % of its energy
and fitted on a power law times a polynomial, all with the 3 keV (1 sigma) that the detector had,
as bins are wider than lines. Where that does not describe the spectrum, 15, 12 and 10 % are tried,
and the range with the smallest systematic error is kept. The template is then compared with the
counts of the source range, which no step has used. The errors of what a mask may hide
were made on the other bins between 1 and 2.2 MeV; the summary has them as well.
"""

from __future__ import annotations

import argparse
import os
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from study import publish

from cosi_linebkg_plugin import LineBackgroundLike, background_model, find_lines
from cosi_linebkg_plugin.errors import LineBackgroundError, LineBackgroundWarning

FILE = "cosi_flight_2016_background.npz"
WINDOWS = (
    (1090, 1105), (1150, 1164), (1325, 1339), (1440, 1455), (1585, 1600), (1700, 1720),
    (1802, 1816), (1860, 1880), (2100, 2125), (506, 516),
)  # fmt: skip
#: The other energy bins between these, of 10 to 25 keV, are source ranges of the summary.
OTHERS = (1000, 2200)
SPANS = (0.20, 0.15, 0.12, 0.10)
SIGMA = 3.0  # keV
#: The methods that auto chooses from, at the energies that they take where none are named.
METHODS = {
    "auto": {"method": "auto"},
    "components": {"method": "components"},
    "interpolated": {"method": "interpolated"},
    "sideband": {"method": "sideband", "reach": 80.0},
}


class Flight:
    """The events of the flight.

    Attributes
    ----------
    edges : ndarray, shape (175,), keV
    counts : ndarray, shape (174, 30, 1145)
    """

    def __init__(self, folder):
        with np.load(Path(folder) / FILE) as data:
            self.edges = data["energy_bin_edges"].astype(float)
            per_bin = data["n_bg_ph_per_bin"][:, None, None]
            self.counts = np.rint(data["bg_response"] * per_bin)

    def histogram(self, low, high):
        """The whole energy bins from `low` to `high` keV: Em, Phi and a plain PsiChi axis."""
        import astropy.units as u
        from histpy import Axes, Axis, Histogram

        inside = (self.edges[:-1] >= low) & (self.edges[1:] <= high)
        edges = [*self.edges[:-1][inside], self.edges[1:][inside][-1]]
        axes = [
            Axis(np.array(edges) * u.keV, label="Em"),
            Axis(np.linspace(0, 180, 31) * u.deg, label="Phi"),
            Axis(np.arange(self.counts.shape[2] + 1), label="PsiChi"),
        ]
        return Histogram(Axes(axes), contents=self.counts[inside])


def fitted(flight, window, span):
    """A plugin of the energies within `span` of the window, and the fit without the window."""
    middle = 0.5 * sum(window)
    plugin = LineBackgroundLike(
        "flight", flight.histogram(middle * (1 - span), middle * (1 + span))
    )
    plugin.set_mask(window)
    lines = find_lines(plugin, sigma=SIGMA, pivot=middle).lines
    model = background_model(lines, pivot=middle, sigma=SIGMA, continuum="powerlaw_polynomial")
    shape = model.linebkg.spectrum.main.shape
    for name, parameter in shape.parameters.items():
        if name.startswith("sigma") and not parameter.has_auxiliary_variable:
            parameter.free = False
    return plugin, plugin.fit(model)


def best_fit(flight, window):
    """The widest range with an adequate fit; if there is none, the best one."""
    found = []
    for span in SPANS:
        try:
            plugin, fit = fitted(flight, window, span)
        except LineBackgroundError:
            continue
        found.append((fit.systematic, plugin, fit, span))
        if not fit.systematic:
            break
    return min(found, key=lambda row: row[0])[1:]


@dataclass(frozen=True)
class Result:
    """A template against the counts of its source range.

    Attributes
    ----------
    recipe : str
    difference, error : float, percent
        Observed over expected counts, less 1; the error is that of template and observation.
    known : float, percent
        The same error without lines that the mask may hide.
    chi2 : float
        Of Phi, per degree of freedom, with the template's own errors.
    chi2_measured : float
        The same with the error of the shape that control ranges measured.
    control : ControlRanges
    """

    recipe: str
    difference: float
    error: float
    known: float
    chi2: float
    chi2_measured: float
    control: object

    @property
    def pull(self):
        return self.difference / self.error

    @property
    def hidden(self):
        """Mean and rms of lines that the mask may hide, percent."""
        found = self.control.hidden
        return (100.0 * found.mean, 100.0 * found.rms) if found else (0.0, 0.0)


def compared(plugin, fit, window, options):
    """Make a template and compare it."""
    template = plugin.background_template(fit, window, **options, validate=True)
    row = template.compare(plugin.observed_counts(window))
    phi, control = row.projections["Phi"], template.control_ranges
    extra = control.shapes["Phi"].value if control.shapes else 0.0
    own = phi.variances - (extra * phi.expected) ** 2
    chi2 = float(np.sum((phi.observed - phi.expected) ** 2 / own))
    error = 100.0 * float(np.hypot(row.error, row.observed**0.5)) / row.counts
    hidden = 100.0 * control.hidden.rms if control.hidden else 0.0
    scores = template.record.method_scores
    return Result(
        scores[0].method if scores else template.method,
        100.0 * (row.observed / row.counts - 1.0),
        error,
        float(np.sqrt(error**2 - hidden**2)),
        chi2 / phi.dof,
        phi.chi2 / phi.dof,
        control,
    )


def study(flight, windows=WINDOWS, methods=METHODS):
    """By window: how the spectrum was fitted, and each method's result or why there is none."""
    table = {}
    for window in windows:
        plugin, fit, span = best_fit(flight, window)
        row = {"span": span, "systematic": 100.0 * fit.systematic}
        for name, options in methods.items():
            try:
                row[name] = compared(plugin, fit, window, options)
            except LineBackgroundError as error:
                row[name] = str(error)
        table[window] = row
    return table


def markdown(table):
    """The rows of the table, and what is asked of it."""
    lines = [
        "| source range [keV] | fit: range, systematic | `auto` takes | counts, observed over "
        "expected | hidden lines: mean, rms | pull | Phi chi2 / dof, without the measured error | "
        "with it | components, interpolated, sideband | may it be used? |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for (low, high), row in table.items():
        auto = row["auto"]
        others = ", ".join(
            f"{r.chi2:.1f}" if isinstance(r := row[name], Result) else "none"
            for name in METHODS
            if name != "auto"
        )
        lines.append(
            f"| {low}-{high} | ± {100 * row['span']:.0f} %, {row['systematic']:.1f} % | "
            f"{auto.recipe} | {auto.difference:+.1f} ± {auto.known:.1f} % | "
            f"{auto.hidden[0]:.1f}, {auto.hidden[1]:.1f} % | {auto.pull:+.1f} | "
            f"{auto.chi2:.2f} | {auto.chi2_measured:.2f} | {others} | "
            f"{'yes' if auto.control.usable else 'no'}: "
            f"{_errors(auto.control)} |"
        )
    return "\n".join([*lines, "", *_summary(table)])


def _errors(control):
    phi = control.shapes["Phi"].value if control.shapes else float("nan")
    return f"{100 * control.amount.value:.1f} %, Phi {100 * phi:.1f} %"


def others(flight):
    """The table of `study` for the other bins, `auto` alone."""
    bins = zip(flight.edges[:-1].tolist(), flight.edges[1:].tolist(), strict=True)
    windows = [b for b in bins if OTHERS[0] <= b[0] < OTHERS[1] and b not in WINDOWS]
    return study(flight, windows, {"auto": METHODS["auto"]})


def summary_of_others(table):
    """Pulls of the totals with and without what the mask may hide."""
    rows = [row["auto"] for row in table.values() if isinstance(row["auto"], Result)]
    pulls = np.array([row.pull for row in rows])
    without = np.array([row.difference / row.known for row in rows])
    rms, rms_without = (np.sqrt(np.mean(np.square(x))) for x in (pulls, without))
    above, above_without = (100 * np.mean(np.abs(x) > 2) for x in (pulls, without))
    return (
        f"{len(rows)} other bins of 10 to 25 keV between {OTHERS[0]} and {OTHERS[1]} keV: pulls of "
        f"the totals have an rms of {rms:.2f} (without hidden lines {rms_without:.1f}), "
        f"{above:.0f} % are above 2 ({above_without:.0f} %)."
    )


def _summary(table):
    rows = [row["auto"] for window, row in table.items() if window != (506, 516)]
    chi2, measured = (np.array([getattr(r, n) for r in rows]) for n in ("chi2", "chi2_measured"))
    pulls = np.array([r.pull for r in rows])
    rest = [row["auto"].pull for window, row in table.items() if window[0] not in (506, 1802)]
    known = [r.difference / r.known for r in rows]
    rms, rms_of_others, rms_known = (np.sqrt(np.mean(np.square(x))) for x in (pulls, rest, known))
    return [
        f"Without 511 keV: Phi chi2 per degree of freedom {np.median(measured):.2f} (median), "
        f"{measured.max():.2f} (largest); without the measured error {np.median(chi2):.2f} and "
        f"{chi2.max():.2f}. Pulls of the totals have an rms of {rms:.1f}, {rms_of_others:.1f} "
        f"without 1802-1816 keV; without hidden lines {rms_known:.1f}."
    ]


def main():
    warnings.simplefilter("ignore", LineBackgroundWarning)
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", default=os.environ.get("COSI_LINEBKG_DATA"), type=Path)
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args()
    if options.data is None or not (options.data / FILE).is_file():
        parser.error(f"--data, or COSI_LINEBKG_DATA, must name a folder with {FILE}")
    flight = Flight(options.data)
    publish("flight", f"{markdown(study(flight))}\n\n{summary_of_others(others(flight))}")


if __name__ == "__main__":
    main()
