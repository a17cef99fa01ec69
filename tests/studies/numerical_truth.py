"""Worst errors of bin integrals and derivatives against mpmath.

``PYTHONPATH=tests/helpers python tests/studies/numerical_truth.py [--write]`` compares the whole
grid of ``tests/truth.py`` and prints the table; with ``--write`` it goes into docs/validation.md.
"""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
import truth

from cosi_linebkg_plugin.spectrum.components import ROLES


def table() -> str:
    worst: dict[tuple[str, str], float] = {}
    number: dict[str, int] = {}
    for cases, _ in truth.GROUPS.values():
        for case in cases():
            for c in truth.compare(case):
                key = case.kind, c.name
                worst[key] = max(worst.get(key, 0.0), c.natural)
                number[case.kind] = number.get(case.kind, 0) + 1
    lines = ["| shape | numbers | counts | derivatives |", "|---|---|---|---|"]
    for kind, n in number.items():
        slopes = ", ".join(f"{r} {worst[kind, r]:.1e}" for r in ROLES[kind])
        lines.append(f"| {kind} | {n:,} | {worst[kind, 'counts']:.1e} | {slopes} |")
    return "\n".join(lines)


if __name__ == "__main__":
    text = table()
    print(text)
    if "--write" in sys.argv:
        path = ROOT / "docs" / "validation.md"
        begin, end = "<!-- numerical_truth -->", "<!-- end numerical_truth -->"
        before, rest = path.read_text(encoding="utf-8").split(begin)
        page = before + begin + "\n" + text + "\n" + end + rest.split(end)[1]
        path.write_text(page, encoding="utf-8")
