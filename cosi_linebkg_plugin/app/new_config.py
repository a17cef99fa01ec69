"""``cosi-linebkg init``: a first configuration, commented, from the axes of somebody's events."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import BinningError, FileError, LineBackgroundError
from ..io.progress import Progress

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

#: A given energy this close to a line of the sky is that line [keV].
NEAR = 4.0

#: Half-widths [keV] of the source range, of the mask, and of the energies that are fitted; the line
#: of annihilation is broad.
HALF_RANGE, HALF_MASK, HALF_FIT = 3.5, 17.5, 250.0

HALF_RANGE_BROAD = 6.0

#: The ends of a source range are at least this far from the line [keV].
LEAST_HALF = 2.5

#: What is fitted to either side, at most, as a share of the line's energy.
SHARE = 0.25

#: A line this close to the end of the axis has too little beside it [keV].
EDGE = 25.0

#: An end of the axis is masked if it reaches further than this [keV].
FAR = 100.0

#: With fewer bins than these the far ends of an axis are not masked.
LEAST_BINS = 20

#: Width of the bins of event lists [keV].
BIN_WIDTH = 5.0

#: Wider bins hold a line and what is beside it in one [keV].
WIDEST_BIN = 40.0

#: Column of the comments.
WIDE = 32


@dataclass(frozen=True)
class Proposal:
    """What a first configuration says of energies, all in keV.

    Attributes
    ----------
    line : float
        The line looked for; the middle of the axis where the catalogue has none.
    name : str
        Of the line; empty where there is none.
    source_range : (low, high)
    mask : tuple of (low, high)
        The line, and the far ends of a wide axis.
    others : tuple of float
        Further lines of the sky on the axis.
    """

    line: float
    name: str
    source_range: tuple[float, float]
    mask: tuple[tuple[float, float], ...]
    others: tuple[float, ...]

    @property
    def is_annihilation(self) -> bool:
        """Whether the line is the broad one at 511 keV."""
        from ..model.spec import is_annihilation

        return is_annihilation(self.line)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of the command."""
    parser.add_argument(
        "events",
        nargs="*",
        type=Path,
        metavar="EVENTS",
        help="your histogram, or event lists; none: the names of files are left for you to fill in",
    )
    parser.add_argument(
        "--out", type=Path, default=Path("config.yaml"), metavar="CONFIG.yaml",
        help="default: config.yaml; a file that exists is never overwritten",
    )  # fmt: skip
    parser.add_argument(
        "--line",
        metavar="KEV",
        help="energy of the line, or its nuclide, as 44Ti; default: one of the sky",
    )


def run_init(options: argparse.Namespace, progress: Progress) -> list[str]:
    """Write the configuration; what came of it, as lines to print."""
    out: Path = options.out
    if out.exists() or out.is_symlink():
        raise FileError(f"{out} is there already and stays; choose another name with --out.")
    progress.say("reading the axes of the events")
    line = None if options.line is None else _line_energy(options.line)
    text = first_config(options.events, out.parent, line)
    from ..io.atomic import whole_file

    with whole_file(out) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return [
        f"written: {out}. Look through it, then:",
        f"  cosi-linebkg check {out}",
        f"  cosi-linebkg run {out} --out results",
    ]


def first_config(events: Sequence[Path], folder: Path = Path(), line: float | None = None) -> str:
    """A configuration as YAML with comments.

    Parameters
    ----------
    events : sequence of path
        Histograms on the same axes, or event lists; empty: a file that is called total.hdf5.
    folder : path
        Where the configuration will be: paths in it are relative to that.
    line : float, keV, optional
        The line that is looked for; default: the first of the catalogue's `SKY_LINES` on the axis.

    Raises
    ------
    LineBackgroundError
        Events that cannot be read, or a line that is not on their axis.
    """
    if not events:
        return _text(propose(_new_axis(line), line), ["total.hdf5"], Found())
    paths = [_relative(path, folder) for path in events]
    found, edges = _look(events, _new_axis(line))
    if found.alone and line is None and not _sky_lines(edges):
        return _text_of_fit(paths, edges)
    return _text(propose(edges, line), paths, found)


@dataclass(frozen=True)
class Found:
    """What is known of the events.

    Attributes
    ----------
    nside : int
        Of PsiChi, if it covers the sphere; 0 if it does not, or there is none.
    livetime : float or None, s
        What the histogram says.
    axis : str
        Of event lists, which are to be binned: the energy axis as "low:high:width".
    alone : bool
        Whether they have no axis but Em: a spectrum.
    """

    nside: int = 16
    livetime: float | None = None
    axis: str = ""
    alone: bool = False


def _look(
    events: Sequence[Path], new_axis: NDArray[np.float64]
) -> tuple[Found, NDArray[np.float64]]:
    """What is known of the events, and their energy axis, or the one that they will get [keV]."""
    from ..events.files import find_event_files, open_event_file
    from ..histograms.read import open_events
    from ..template.axes import partial_sky

    try:
        files = find_event_files(events)
        histogram = open_events([*files])
    except LineBackgroundError as error:
        for path in events:
            if not path.exists():
                raise
        try:
            for path in find_event_files(events):
                open_event_file(path)
        except LineBackgroundError:
            raise error from None  # neither: the message on histograms is the one that helps
        return Found(axis=_spaced(new_axis)), new_axis
    axes = {str(axis.label): axis for axis in histogram.axes}
    sphere = "PsiChi" in axes and not partial_sky(axes["PsiChi"])
    livetime = None if histogram.livetime is None else histogram.livetime.seconds
    nside = (axes["PsiChi"].nside or 0) if sphere else 0
    return Found(nside, livetime, alone=list(axes) == ["Em"]), histogram.energy_edges


def _line_energy(text: str) -> float:
    """The energy in keV of what follows ``--line``: "1157.02", or "44Ti"."""
    from ..lines.catalogue import SKY_LINES

    named = [energy for energy, name in SKY_LINES.items() if name == text]
    try:
        return named[0] if named else float(text)
    except ValueError:
        known = ", ".join(name for name in dict.fromkeys(SKY_LINES.values()) if " " not in name)
        raise BinningError(
            f"--line takes an energy in keV, as 1157.02, or one of {known}; got {text!r}."
        ) from None


def _new_axis(line: float | None) -> NDArray[np.float64]:
    """Edges [keV] around a line for events that are not binned yet, or not known."""
    import numpy as np

    from ..lines.catalogue import SKY_LINES

    energy = next(iter(SKY_LINES)) if line is None else line
    if not 50.0 <= energy <= 10_000.0:
        raise BinningError(f"--line takes an energy from 50 to 10000 keV, got {energy:g}.")
    reach = BIN_WIDTH * (min(HALF_FIT, SHARE * energy) // BIN_WIDTH)
    middle = BIN_WIDTH * round(energy / BIN_WIDTH)
    return np.arange(middle - reach, middle + reach + 1.0, BIN_WIDTH)


def _spaced(edges: NDArray[np.float64]) -> str:
    return f"{edges[0]:g}:{edges[-1]:g}:{edges[1] - edges[0]:g}"


def propose(edges: NDArray[np.float64], line: float | None = None) -> Proposal:
    """Source range and mask for an energy axis.

    Parameters
    ----------
    edges : ndarray, shape (n_bins + 1,), keV
    line : float, keV, optional
        The line that is looked for.

    Raises
    ------
    BinningError
        If the line is not on the axis, or its bins are too wide.
    """
    import numpy as np

    from ..lines.catalogue import SKY_LINES
    from ..model.spec import is_annihilation

    first, last = float(edges[0]), float(edges[-1])
    there = _sky_lines(edges)
    if line is not None and not first < line < last:
        raise BinningError(
            f"--line {line:g} keV is outside the energy axis of the events, {first:g}-{last:g} keV."
        )
    energy = line if line is not None else there[0] if there else 0.5 * (first + last)
    near = [sky for sky in SKY_LINES if abs(sky - energy) < NEAR]
    energy = near[0] if near else energy
    i = min(max(int(np.searchsorted(edges, energy)) - 1, 0), edges.size - 2)
    if edges[i + 1] - edges[i] > WIDEST_BIN:
        raise BinningError(
            f"The energy bin at {energy:g} keV is {edges[i + 1] - edges[i]:.4g} keV wide: a line "
            f"cannot be told from what is beside it. Bin the events again, with {BIN_WIDTH:g} keV."
        )
    broad = is_annihilation(energy)
    half = HALF_RANGE_BROAD if broad else HALF_RANGE
    reach = min(HALF_FIT, SHARE * energy)
    ends = [(first, energy - reach), (energy + reach, last)]
    far = [(low, high) for low, high in ends if high - low > FAR]
    used = sum(not any(low < e < high for low, high in far) for e in edges)
    # the instrument's own annihilation line is far brighter than the sky's, and is fitted
    mask = [] if broad else [(energy - HALF_MASK, energy + HALF_MASK)]
    if used >= LEAST_BINS:
        mask += far
    limits = [(max(round(low), first), min(round(high), last)) for low, high in mask]
    return Proposal(
        energy,
        SKY_LINES.get(near[0], "") if near else "",
        _on_edges(edges, energy, half),
        tuple(sorted(limits)),
        tuple(sky for sky in there if sky not in near),
    )


def _on_edges(edges: NDArray[np.float64], energy: float, half: float) -> tuple[float, float]:
    """The edges nearest to the ends of a range, each at least `LEAST_HALF` from its middle [keV].

    Data on the events' own bins then fit the template.
    """
    import numpy as np

    below, above = edges[edges <= energy - LEAST_HALF], edges[edges >= energy + LEAST_HALF]
    low = below[np.argmin(np.abs(below - energy + half))] if below.size else edges[0]
    high = above[np.argmin(np.abs(above - energy - half))] if above.size else edges[-1]
    return float(low), float(high)


def _sky_lines(edges: NDArray[np.float64]) -> list[float]:
    """Lines of the sky on an axis; those near its ends only if there are no others [keV]."""
    first, last = float(edges[0]), float(edges[-1])
    return _inside(first + EDGE, last - EDGE) or _inside(first + HALF_RANGE, last - HALF_RANGE)


def _inside(low: float, high: float) -> list[float]:
    """Lines of the sky between two energies [keV]."""
    from ..lines.catalogue import SKY_LINES

    return [energy for energy in SKY_LINES if low < energy < high]


def _relative(path: Path, folder: Path) -> str:
    """A path as a configuration in a folder says it."""
    return Path(os.path.relpath(path, folder)).as_posix()


def _beside(key: str, comment: str) -> str:
    """A line with its comment."""
    return f"{key:<{WIDE}}  # {comment}"


def _listed(paths: Sequence[str]) -> str:
    """The events as a value of YAML."""
    import json

    return json.dumps(paths[0] if len(paths) == 1 else list(paths), ensure_ascii=False)


_ABOUT = (
    "# Energies are in keV, or strings with a unit. Every key: docs/start.md, in the folder that",
    "# cosi-linebkg --version names.",
)

_MODEL = (
    "model:",
    _beside("  lines: auto", "search for the instrumental lines; or a list of energies"),
    _beside("  # tail: true", "lines with a low-energy tail"),
    _beside("  # continuum: broken_powerlaw", "if a power law does not do"),
)


def _text_of_fit(paths: Sequence[str], edges: NDArray[np.float64]) -> str:
    """The configuration for a spectrum alone, without a line of the sky: a fit, and no template."""
    lines = [
        f"# The fit of a spectrum, {edges[0]:g}-{edges[-1]:g} keV.",
        *_ABOUT,
        f"events: {_listed(paths)}",
        "# no known line of the sky is here: --line KEV, or source_range, asks for counts under",
        "# a line, which the mask then leaves out of the fit",
        _beside("# source_range: [LOW, HIGH]", "the energies of the source, on edges of bins"),
        _beside("# mask: [[LOW, HIGH]]", "energies that are left out of the fit"),
        *_MODEL,
    ]
    return "\n".join([*lines, ""])


def _text(found: Proposal, paths: Sequence[str], events: Found) -> str:
    """The configuration."""
    low, high = found.source_range
    mask = ", ".join(f"[{a:.10g}, {b:.10g}]" for a, b in found.mask)
    what = f"{found.name}, {found.line:g} keV" if found.name else f"{found.line:g} keV"
    lines = [
        f"# The background of a gamma-ray line: {what}.",
        *_ABOUT,
        f"events: {_listed(paths)}",
    ]
    if events.axis:
        lines += [
            "binning:                     # these are event lists",
            f'  energy_edges: "{events.axis}"  # low:high:width, low:high:Nbins, or a list',
            "  phi_pix_size: 3            # deg",
            f"  nside: {events.nside}",
            "  # orientation: FILE        # .ori or FITS: gives the livetime",
        ]
    if found.others:
        from ..lines.catalogue import SKY_LINES

        others = ", ".join(f"{energy:g} ({SKY_LINES[energy]})" for energy in found.others)
        lines.append(f"# other lines of the sky on this axis, for --line: {others}")
    broad = found.is_annihilation
    left_out = "left out of the fit: the source, and what is far from it"
    if broad:
        left_out = "what is far; the line is fitted: it is the instrument's own, by far"
    lines += [
        _beside(
            f"source_range: [{low:.10g}, {high:.10g}]",
            "the energies of the source, on edges of bins",
        ),
        _beside(f"mask: [{mask}]", left_out),
        *_MODEL,
    ]
    if broad:
        lines.append(_beside("  step: true", "scattered photons of a line lie below it"))
    return "\n".join([*lines, *_template_text(found, events), ""])


def _template_text(found: Proposal, events: Found) -> list[str]:
    """The section on the template."""
    lines = ["template:", _beside("  method: components", "continuum and lines apart")]
    if events.nside > 1:
        lines += [_beside("  # l_cut: 4", "smooths PsiChi; without it the data choose the filter")]
    if found.is_annihilation:
        lines += [
            '  # the amount of "lines" is that of instrument and sky together: leave its norm free',
            "  # in the likelihood of the sky",
        ]
    else:
        lines += [
            "  # a line of the instrument that hides in the mask is invisible to the fit: say how",
            "  # many counts it has for each of a fitted line of the same origin, if you know it",
            "  # for your instrument and orbit; a copied ratio invents background. Without value",
            "  # and error the line has its energies, and its amount stays free",
            f"  # line_ratio: {{line: {found.line:g}, tracer: ENERGY, value: RATIO, error: ERROR}}",
        ]
    if events.livetime is None:
        lines.append(_beside("  # livetime: 90 d", "makes the norms rates in Hz (cosipy 0.4)"))
    else:
        lines.append(
            f"  # livetime: {events.livetime:.6g} s is what the events say; taken as it is"
        )
    return lines
