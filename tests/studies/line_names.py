"""Names of the lines found in real germanium spectra against the nuclides that are known there.

``python tests/studies/line_names.py [--write] [--detail]`` (spectra and windows: line_tools.py;
half a minute) prints a table; ``--write`` puts it into docs/lines.md, ``--detail`` adds each line.

The right names of a found line are the nuclides of the window's known lines within a width of it
(at least 0.7 keV and half a bin) on the window's scale. Natural radioactivity, the source, and
annihilation at 511 keV go before what neutrons make within that reach. A line with a cause has a
right name, a wrong one, several candidates that nothing in the window tells apart ("?"), candidates
whose other lines are missing ("?"), or no row near; one without a cause should have no name.
"""

from __future__ import annotations

import sys
from collections import Counter

import numpy as np
from line_tools import CHAINS, NEAR, Window, read_windows
from study import publish, published_data

from cosi_linebkg_plugin import find_lines
from cosi_linebkg_plugin.lines.found import FoundLine
from cosi_linebkg_plugin.spectrum.axis import EnergySpectrum

#: Nuclides of the known lines that line_tools lists without their names, by energy [keV].
NATURAL = {name: CHAINS[name] for name in CHAINS.keys() - {"others", "neutrons"}} | {
    "e+e-": (511.00,), "220Rn": (549.73,), "207Bi": (569.70, 1063.66, 1770.23), "137Cs": (661.66,),
    "65Zn": (1115.54,), "60Co": (1173.23, 1332.49), "40K": (1460.82,), "234mPa": (1737.75,),
}  # fmt: skip
NEUTRONS = {
    "76Ge": (562.93,), "114Cd": (558.46, 651.26), "75Ge": (574.71,),
    "74Ge": (595.85, 608.35, 1204.20), "63Cu": (669.62,), "63Zn": (669.62,), "65Cu": (1481.84,),
    "65Ni": (1481.84,), "56Fe": (1238.29,), "56Co": (1238.29,), "116In": (1097.30, 1293.56),
    "24Na": (1368.63,), "24Mg": (1368.63,), "52V": (1434.07,), "52Mn": (1434.07,),
    "52mMn": (1434.07,), "52Cr": (1434.07,), "28Al": (1778.99,), "56Mn": (1810.77,),
}  # fmt: skip
#: What the source or the beam made, by spectrum.
OWN = {
    "aegis": {"152Eu": (1769.09,)},
    "osiris": {"152Eu": (1408.01,), "56Co": (2598.50,)},
    "cosi_balloon": {
        "77mGe": (159.50,), "71mGe": (174.95, 198.39), "212Pb": (238.60,), "214Pb": (351.90,),
        "69mZn": (438.63,), "24mNa": (472.20,),
    },
}  # fmt: skip
KINDS = ("right", "wrong", "undecided", "contradicted", "no row")


def right_names(window: Window, energy: float, shift: float) -> set[str]:
    """Nuclides that make a line at a fitted energy of a window."""
    reach = max(NEAR, window.sigma, 0.5 * float(np.diff(window.edges).max()))
    own = [lines for key, lines in OWN.items() if key in window.name]
    natural = {name: lines for known in (NATURAL, *own) for name, lines in known.items()}
    for known in (natural, NEUTRONS):
        off = {name: min(abs(energy - shift - e) for e in lines) for name, lines in known.items()}
        near = {name for name, distance in off.items() if distance <= reach}
        if "e+e-" in near:
            return {"e+e-"}
        if near:
            return near
    return set()


def kind(line: FoundLine, right: set[str]) -> str:
    """How a line with a cause is named."""
    if line.match is not None:
        return "right" if line.match.line.isotope in right else "wrong"
    if any(m.agrees for m in line.matches):
        return "undecided"
    return "contradicted" if line.name == "?" else "no row"


def shift_of(window: Window) -> float:
    """By how much the window's scale is off, keV; line_tools moved its known lines by that."""
    every = np.array(sorted({e for lines in CHAINS.values() for e in lines}))
    inside = every[(every > window.edges[0] + 1) & (every < window.edges[-1] - 1)]
    if window.name.startswith("cosi_balloon") or not inside.size:
        return 0.0
    moves = np.round(window.known[:, None] - inside, 6).ravel()
    values, counts = np.unique(moves[np.abs(moves) < 3.0], return_counts=True)
    often = values[counts == counts.max()]
    return float(often[np.abs(often).argmin()])


def table(windows: list[Window], detail: bool) -> str:
    """Rows of the table, in Markdown."""
    rows = [
        "| lines of | with a cause | right | wrong | undecided | contradicted | no row near | "
        "without a cause | of these named |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    wrong: list[str] = []
    for title, options in (
        ("`find_lines`", {}),
        ("`tail=True`", {"tail": True}),
        ("`calibrate=True`", {"calibrate": True}),
    ):
        kinds: Counter[str] = Counter()
        stray = named = 0
        for w in windows:
            spectrum, shift = EnergySpectrum(w.edges, w.counts), shift_of(w)
            for line in find_lines(spectrum, sigma=w.sigma, **options).lines:
                right = right_names(w, line.energy, shift)
                what = kind(line, right) if right else "stray"
                if detail:
                    print(f"{title} {w.name} ({shift:+.2f}) {line.energy:.2f}: {line.name!r}, "
                          f"{what} ({', '.join(sorted(right)) or '-'})", flush=True)  # fmt: skip
                if not right:
                    stray, named = stray + 1, named + (line.match is not None)
                    continue
                kinds[what] += 1
                if what == "wrong":
                    wrong.append(f"{line.energy:.1f} {line.name} ({w.name}, {title})")
        counts = " | ".join(str(kinds[x]) for x in KINDS)
        rows.append(f"| {title} | {kinds.total()} | {counts} | {stray} | {named} |")
    return "\n".join([*rows, "", "Wrong: " + ("; ".join(wrong) or "none") + "."])


def main() -> None:
    folder = published_data() / "spectra"
    windows = list(read_windows(folder))
    if not windows:
        raise SystemExit(f"{folder} holds no spectra.")
    publish("names table", table(windows, "--detail" in sys.argv), "lines.md")


if __name__ == "__main__":
    main()
