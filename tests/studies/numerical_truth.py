"""Worst errors of bin integrals and derivatives against mpmath.

``PYTHONPATH=tests/helpers python tests/studies/numerical_truth.py [--write]`` compares the whole
grid of ``tests/truth.py`` and prints the table; with ``--write`` it goes into docs/validation.md.
"""

from __future__ import annotations

import truth
from study import publish

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
    publish("numerical_truth", table())
