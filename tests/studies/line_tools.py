"""Four ways to find lines, on windows of real germanium spectra.

``python tests/studies/line_tools.py [--write] [--detail]`` (becquerel beside the package; some
minutes; OMP_NUM_THREADS=1) reads every ``*.csv`` with the columns low_keV, high_keV, counts in the
folder ``spectra`` of COSI_LINEBKG_DATA, and prints a table; ``--write`` puts it into docs/lines.md,
``--detail`` prints what each tool missed and what it found without a cause.

Causes. A window's known lines are those of the nuclides that laboratories hold (40K, the chains of
238U and 232Th, 137Cs, 60Co, 207Bi), from 0.02 photons per 100 decays of the chain on (ENSDF), what
neutrons and protons make in germanium, aluminium, iron and cadmium (the catalogue's rows), and
511 keV. 152Eu and 56Co are known where the source or the beam made them.

Expected lines. Each known line is looked for by a zero-area filter that no tool uses: the counts
within 1.5 sigma less those of the two sides next to them (2 to 5 sigma), in units of their
Poisson error. It is expected where this has a peak above 6 within 0.7 keV of its energy on the
window's scale (the shift of its strongest line); of lines within 2 sigma of each other the
strongest one counts.
In the flight spectrum, with bins of 10 keV, three lines stand out of both neighbouring bins.

Found: within 1.5 sigma (at least 0.7 keV, at least half a bin) of the expected energy.
Without a cause: a found line that is no closer than that to any known line. All tools are told
the same width: that of the window's highest peak, or for 511 keV that of the detector.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d
from scipy.signal import find_peaks
from study import publish, published_data

from cosi_linebkg_plugin import find_lines
from cosi_linebkg_plugin.spectrum.axis import EnergySpectrum

Array = NDArray[np.float64]

#: keV, by nuclide: from 0.02 photons per 100 decays on, of ENSDF, in the windows.
CHAINS = {
    "228Ac": (503.82, 508.96, 520.15, 523.13, 546.47, 562.50, 570.91, 572.14, 583.41, 651.51,
              674.75, 1065.18, 1095.68, 1110.61, 1117.63, 1153.52, 1245.05, 1247.08, 1250.04,
              1286.27, 1287.68, 1459.14, 1495.91, 1501.57, 1537.89, 1548.65, 1557.11, 1702.43,
              1724.21, 1758.11, 1823.22, 1835.43, 1842.13, 1887.10),
    "208Tl": (510.77, 583.19, 587.70, 650.10, 1093.90, 1282.80, 2614.51),
    "212Bi": (1078.62, 1512.70, 1806.00),
    "214Pb": (533.66, 543.82, 580.13),
    "214Bi": (536.78, 542.81, 572.77, 609.31, 615.76, 633.09, 639.61, 649.20, 660.87, 665.45,
              1051.96, 1067.40, 1069.97, 1103.70, 1104.68, 1118.90, 1120.29, 1130.38, 1133.66,
              1155.21, 1173.01, 1207.68, 1226.70, 1238.12, 1280.98, 1303.75, 1316.99, 1341.49,
              1377.67, 1385.31, 1401.52, 1407.99, 1415.49, 1479.19, 1509.21, 1538.53, 1543.33,
              1729.60, 1764.49, 1838.36, 1847.43, 1873.16, 1890.30, 1896.05, 1898.68, 2694.66),
    "others": (511.00, 549.73, 569.70, 661.66, 1063.66, 1115.54, 1173.23, 1332.49, 1460.82,
               1737.75, 1770.23),
    # 74Ge(n, n'), 76Ge(n, g), 27Al, 56Fe, 113Cd(n, g), 63Cu, 65Cu, 207Pb
    "neutrons": (558.46, 562.93, 574.71, 595.85, 608.35, 651.26, 669.62, 1097.30, 1204.20, 1238.29,
                 1293.56, 1368.63, 1434.07, 1481.84, 1778.99, 1810.77),
}  # fmt: skip
#: Further causes of single spectra: the source, or the beam that activated the detector.
OWN = {
    "aegis": (1769.09,),  # 152Eu
    "osiris": (1408.01, 2598.50),  # 152Eu, 56Co
    "cosi_balloon": (159.50, 174.95, 198.39, 238.60, 351.90, 409.00, 438.63, 472.20, 569.70, 583.00,
                     595.85),
}  # fmt: skip
#: Width [keV] where the window's highest peak is not a line of the detector's own width.
WIDTHS = {"495_530": 0.75, "490_535": 0.8, "cosi_balloon": 3.0}
LEAST, NEAR = 6.0, 0.7
#: The strongest lines of the windows, which tell the shift of their scales, keV.
REFERENCES = (511.0, 583.19, 609.31, 661.66, 1173.23, 1332.49, 1377.67, 1460.82, 1764.49, 2614.51)
#: Bins of 10 keV have no sides for the filter: lines that stand out of both neighbours, keV.
SEEN = {"cosi_balloon2016_143_600": (198.39, 438.63, 511.0)}


@dataclass(frozen=True)
class Window:
    """A spectrum, the width of its lines, and its known and expected lines on its own scale."""

    name: str
    edges: Array
    counts: Array
    sigma: float
    known: Array
    expected: Array

    @property
    def tolerance(self) -> float:
        """How far a found line may be from a known one, keV."""
        return max(NEAR, 1.5 * self.sigma, 0.5 * float(np.diff(self.edges).max()))


def read_windows(folder: Path) -> Iterator[Window]:
    """Every spectrum of the folder."""
    for path in sorted(folder.glob("*.csv")):
        low, high, counts = np.loadtxt(path, delimiter=",", skiprows=1).T
        edges = np.append(low, high[-1])
        own = [e for key, energies in OWN.items() if key in path.stem for e in energies]
        known = np.array(sorted({e for x in CHAINS.values() for e in x} | set(own)))
        known = known[(known > edges[0] + 1) & (known < edges[-1] - 1)]
        wanted = [width for key, width in WIDTHS.items() if key in path.stem]
        sigma = wanted[0] if wanted else half_width(edges, counts)
        yield _with_expected(path.stem, edges, counts, sigma, known)


def _with_expected(name: str, edges: Array, counts: Array, sigma: float, known: Array) -> Window:
    grid = np.arange(edges[0], edges[-1], 0.2 * sigma)
    z = np.array([zero_area(edges, counts, e, sigma) for e in grid])

    peaks = find_peaks(z)[0]
    z, grid = z[peaks], grid[peaks]

    def best(energy: float, reach: float) -> tuple[float, float]:
        near = np.flatnonzero(np.abs(grid - energy) <= reach)
        i = int(near[z[near].argmax()]) if near.size else 0
        return (float(z[i]), float(grid[i])) if near.size else (0.0, energy)

    if name in SEEN:
        return Window(name, edges, counts, sigma, known, np.array(SEEN[name]))
    reference = max(REFERENCES, key=lambda e: best(e, 2.7)[0])
    shift = best(reference, 2.7)[1] - reference
    looked = {e: best(e + shift, NEAR) for e in known}
    expected: list[float] = []
    for e in sorted(known, key=lambda e: -looked[e][0]):
        found, place = looked[e]
        if found > LEAST and all(abs(place - x) > 2 * sigma for x in expected):
            expected.append(place)
    return Window(name, edges, counts, sigma, known + shift, np.sort(expected))


def zero_area(edges: Array, counts: Array, energy: float, sigma: float) -> float:
    """Counts of a peak less those of its two sides, in their error; 0 where a side is missing."""
    unit = max(sigma, float(np.diff(edges).max()) / 1.5)
    x = (0.5 * (edges[1:] + edges[:-1]) - energy) / unit
    inside = np.abs(x) <= 1.5
    left, right = (x < -2) & (x >= -5), (x > 2) & (x <= 5)
    if not (inside.any() and left.any() and right.any()):
        return 0.0
    weight = inside - 0.5 * inside.sum() * (left / left.sum() + right / right.sum())
    return float(weight @ counts / np.sqrt(max(weight**2 @ counts, 1.0)))


def half_width(edges: Array, counts: Array) -> float:
    """Width of the highest peak from its full width at half maximum, keV."""
    density = gaussian_filter1d(counts / np.diff(edges), 0.7)
    top = int(density.argmax())
    half = 0.5 * (density[top] + np.median(density))
    low = top - int(np.argmax(density[top::-1] < half))
    high = top + int(np.argmax(density[top:] < half))
    return float(edges[high + 1] - edges[low] - (edges[top + 1] - edges[top])) / 2.3548


# --- the tools ------------------------------------------------------------------------------------


def ours(window: Window) -> list[float]:
    """`find_lines` as docs/lines.md shows it."""
    search = find_lines(EnergySpectrum(window.edges, window.counts), sigma=window.sigma)
    return [x.energy for x in search.lines]


def ours_with_tail(window: Window) -> list[float]:
    """The same with low-energy tails."""
    spectrum = EnergySpectrum(window.edges, window.counts)
    return [x.energy for x in find_lines(spectrum, sigma=window.sigma, tail=True).lines]


def becquerel(window: Window) -> list[float]:
    """PeakFinder with its Gaussian kernel, above 5."""
    from becquerel import GaussianPeakFilter, PeakFinder, Spectrum

    middle = 0.5 * (window.edges[0] + window.edges[-1])
    fwhm = 2.3548 * window.sigma
    spectrum = Spectrum(counts=window.counts, bin_edges_raw=window.edges)
    finder = PeakFinder(spectrum, GaussianPeakFilter(middle, fwhm, fwhm))
    try:
        finder.find_peaks(min_snr=5, max_num=500)
    except Exception as error:
        print(f"becquerel, {window.name}: {error}", file=sys.stderr)
    return [float(x) for x in finder.centroids]


def second_difference(window: Window) -> list[float]:
    """Mariscotti's generalised second difference (1967, NIM 50, 309), above 5."""
    width = window.sigma / float(np.median(np.diff(window.edges)))
    half = max(2, round(5 * width))
    x = np.arange(-half, half + 1) / max(width, 0.7)
    kernel = (1 - x**2) * np.exp(-0.5 * x**2)
    kernel -= kernel.mean()
    padded = np.pad(window.counts, half, mode="edge")
    z = np.convolve(padded, kernel, "valid")
    z /= np.sqrt(np.maximum(np.convolve(padded, kernel**2, "valid"), 1.0))
    return _centers(window, find_peaks(z, height=5.0, distance=max(1, round(2 * width)))[0])


def snip(window: Window) -> list[float]:
    """SNIP (Ryan et al. 1988, NIM B 34, 396) and scipy's find_peaks, prominence above 5 sigma."""
    width = window.sigma / float(np.median(np.diff(window.edges)))
    level = np.log(np.log(np.sqrt(window.counts + 1) + 1) + 1)
    for m in range(1, max(3, round(6 * width)) + 1):
        level[m:-m] = np.minimum(level[m:-m], 0.5 * (level[: -2 * m] + level[2 * m :]))
    background = (np.exp(np.exp(level) - 1) - 1) ** 2 - 1
    smooth = max(width, 0.7)
    net = gaussian_filter1d(window.counts - background, smooth)
    noise = np.sqrt(np.maximum(background, 1.0) / (2 * np.sqrt(np.pi) * smooth))
    peaks = find_peaks(net / noise, prominence=5.0, distance=max(1, round(2 * width)))[0]
    return _centers(window, peaks)


def _centers(window: Window, bins: NDArray[np.intp]) -> list[float]:
    return [float(x) for x in 0.5 * (window.edges[1:] + window.edges[:-1])[bins]]


TOOLS: dict[str, Callable[[Window], list[float]]] = {
    "`find_lines`": ours,
    "`find_lines`, `tail=True`": ours_with_tail,
    "becquerel's PeakFinder": becquerel,
    "second difference": second_difference,
    "SNIP and find_peaks": snip,
}


def judge(window: Window, found: list[float]) -> tuple[list[float], list[float]]:
    """Expected lines that are missing, and found ones without a cause, keV."""
    energies = np.array([*found, np.inf])
    near = window.tolerance
    missing = [e for e in window.expected if np.abs(energies - e).min() > near]
    stray = [e for e in found if np.abs(window.known - e).min(initial=np.inf) > near]
    return missing, stray


def table(windows: list[Window], detail: bool) -> str:
    """Lines of the table, in Markdown."""
    n_expected = sum(w.expected.size for w in windows)
    rows = [
        f"| tool | found of {n_expected} expected | lines in all | without a cause | CPU [s] |",
        "|---|---|---|---|---|",
    ]
    for name, tool in TOOLS.items():
        n_missing = n_found = n_stray = 0
        start = time.process_time()
        for w in windows:
            before = time.process_time()
            found = sorted(tool(w))
            missing, stray = judge(w, found)
            n_missing, n_stray = n_missing + len(missing), n_stray + len(stray)
            n_found += len(found)
            if detail:
                spent = time.process_time() - before
                print(f"{name}, {w.name} ({w.sigma:.2f} keV, {spent:.2f} s): {len(found)} lines, "
                      f"{w.expected.size} expected; missing {np.round(missing, 1)}, "
                      f"without a cause {np.round(stray, 1)}", flush=True)  # fmt: skip
        spent = time.process_time() - start
        share = 100 * (n_expected - n_missing) / n_expected
        rows.append(
            f"| {name} | {n_expected - n_missing} ({share:.0f} %) | {n_found} | {n_stray} "
            f"| {spent:.1f} |"
        )
    return "\n".join(rows)


def main() -> None:
    folder = published_data() / "spectra"
    windows = list(read_windows(folder))
    if not windows:
        raise SystemExit(f"{folder} holds no spectra.")
    for tool in TOOLS.values():  # compiles and imports
        tool(windows[0])
    publish("tools table", table(windows, "--detail" in sys.argv), "lines.md")


if __name__ == "__main__":
    main()
