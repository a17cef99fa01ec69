"""Templates in files against observed counts: what ``cosi-linebkg compare`` does."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import ConfigError
from ..io.atomic import output_folder, together, whole_file
from ..template.comparison import Comparison, compare_all, to_csv, to_json
from ..template.template import BackgroundTemplate

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def compare_files(
    templates: Sequence[Path], observed: Path, out: Path | None, *, nside: int = 4
) -> tuple[list[Comparison], list[Path]]:
    """Templates in files against observed counts; tables and figures go into `out`, if given.

    Returns
    -------
    comparisons : list of Comparison
        Named by the files, with their folders where these alone tell them apart.
    files : list of Path
    """
    from ..show.figure import MANY_STYLES, save_figure

    if not (nside > 0 and nside & (nside - 1) == 0):
        raise ConfigError(f"--nside must be a power of 2 (1, 2, 4, ...), got {nside}.")
    stems = [path.stem for path in templates]
    names = [
        stem if stems.count(stem) == 1 else str(path.parent / stem)
        for stem, path in zip(stems, templates, strict=True)
    ]
    for name in names:
        if names.count(name) > 1:
            raise ConfigError(f"The template {name} is given twice; give each file once.")
    if len(templates) > len(MANY_STYLES):
        raise ConfigError(f"At most {len(MANY_STYLES)} templates at a time, got {len(templates)}.")
    with ExitStack() as stack:
        folder = None if out is None else stack.enter_context(output_folder(out))
        opened = {n: BackgroundTemplate.open(p) for n, p in zip(names, templates, strict=True)}
        rows = compare_all(opened, observed, nside=nside)
        if folder is None:
            return rows, []
        figures = _comparison_figures(opened, rows, observed, nside)
        with together(folder):
            files = [folder / "comparison.csv", folder / "comparison.json"]
            for path, text in zip(files, (to_csv(rows), to_json(rows)), strict=True):
                with whole_file(path) as temporary:
                    temporary.write_text(text, encoding="utf-8")
            for name, figure in figures.items():
                files.append(folder / name)
                save_figure(figure, files[-1])
    return rows, files


def _comparison_figures(
    opened: Mapping[str, BackgroundTemplate],
    rows: Sequence[Comparison],
    observed: Path,
    nside: int,
) -> dict[str, Figure]:
    """The figures of `compare_files`, by the names of their files."""
    from ..show.comparison import plot_comparison
    from ..show.maps import plot_maps

    figures = {
        f"comparison_{axis.lower()}.png": plot_comparison(rows, axis)
        for axis in ("Phi", "PsiChi", "Em")
        if all(axis in row.projections for row in rows)
    }
    for (name, template), row in zip(opened.items(), rows, strict=True):
        if "PsiChi" in row.projections:
            safe = re.sub(r"\W+", "_", name).strip("_")
            file = f"maps_{safe}.png"
            number = 2
            while file in figures:
                file, number = f"maps_{safe}_{number}.png", number + 1
            figures[file] = plot_maps(template, observed=observed, nside=nside)
    return figures
