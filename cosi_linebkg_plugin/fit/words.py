"""A fit in words: the table of its parameters, how well the model does, and what to try."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ..errors import DataError
from ..io.tables import Column, format_value, make_table, to_html
from ..spectrum.components import BENT_CONTINUA
from .adequacy import LEVEL, TOLERABLE, Adequacy, Excess
from .numbers import FitNumbers, FittedParameter, unseen_widths
from .restarts import LONGEST_TAIL

if TYPE_CHECKING:
    from astropy.table import Table

#: An excess within this many widths of a line tells of the line's shape; below it and within this
#: many, perhaps of its tail.
_SAME_PLACE, _TAIL_REACH = 2.0, 6.0

#: A step is proposed from this significance on.
_STEP_FROM = 4.0


def shown_parameters(fit: FitNumbers) -> dict[str, FittedParameter]:
    """The parameters that tables show: all but those of faint lines."""
    of_faint = set(fit.model.names[len(fit.model.without_faint().parameters) :])
    return {name: p for name, p in fit.parameters.items() if name not in of_faint}


def parameter_table(fit: FitNumbers) -> str:
    """The parameters with their errors, as a table of text."""
    lines = [f"{'parameter':<12} {'value':>14} {'error':>12}  unit"]
    for name, p in shown_parameters(fit).items():
        if p.link:
            continue
        note = "at limit" if p.free else "fixed"
        if p.error is not None:
            note = f"{p.error:.3g}"
        lines.append(f"{name:<12} {p.value:>14.7g} {note:>12}  {p.unit}")
    lines += _links(fit.model.links)
    lines += [f"{name} = {p.law}" for name, p in fit.parameters.items() if p.law]
    return "\n".join(lines)


def _links(links: Mapping[str, str]) -> list[str]:
    """Which parameters equal others: a line for many of one, and for as many of many in turn."""
    spans: dict[Any, list[tuple[str, str]]] = {}
    targets = list(links.values())
    for name, target in links.items():
        (stem, number), (other, first) = _numbered(name), _numbered(target)
        in_turn = targets.count(target) == 1 and stem == other
        key = (stem, number - first) if in_turn else target
        spans.setdefault(key, []).append((name, target))
    return [
        " = ".join(_span(list(dict.fromkeys(side))) for side in zip(*pairs, strict=True))
        for pairs in spans.values()
    ]


def _numbered(name: str) -> tuple[str, int]:
    """A name without its number, and the number; -1 where it has none."""
    stem = name.rstrip("0123456789")
    return stem, int(name[len(stem) :] or -1)


def _span(names: Sequence[str]) -> str:
    """Names, with dots for those whose numbers follow one another."""
    runs: list[list[str]] = []
    for name in names:
        stem, number = _numbered(name)
        if runs and _numbered(runs[-1][-1]) == (stem, number - 1):
            runs[-1].append(name)
        else:
            runs.append([name])
    return ", ".join(f"{x[0]} ... {x[-1]}" if len(x) > 2 else ", ".join(x) for x in runs)


def brief(fit: FitNumbers) -> str:
    """The fit on one line."""
    n, free = len(fit.model.lines), len(fit.free_names)
    state = "valid" if fit.valid else "not valid"
    adequate = "" if fit.adequacy is None or fit.adequacy.is_adequate() else ", not adequate"
    return (
        f"LineBackgroundFit({fit.engine}, {state}{adequate}, {n} line{'' if n == 1 else 's'}, "
        f"{free} free parameters, deviance/dof {fit.deviance:.1f}/{fit.dof})"
    )


def html(fit: FitNumbers) -> str:
    """The fit as a notebook shows it."""
    rows = [
        (
            name,
            format_value(p.value, p.error),
            p.unit,
            "" if p.error is not None else "at limit" if p.free else "fixed",
        )
        for name, p in shown_parameters(fit).items()
        if not p.link
    ]
    return to_html(brief(fit), ("parameter", "value", "unit", ""), rows, [summary(fit)])


def to_table(fit: FitNumbers, of: str) -> Table:
    """See `LineBackgroundFit.to_table`."""
    if of == "lines":
        return _lines_table(fit)
    if of != "parameters":
        raise DataError(f'to_table() makes a table of "parameters" or of "lines", got {of!r}.')
    table = fit.parameters
    finite = {
        name: [x if math.isfinite(x) else None for x in (p.low, p.high)]
        for name, p in table.items()
    }
    return make_table(
        [
            Column("parameter", list(table)),
            Column("value", [p.value for p in table.values()], "", "in the unit of the row"),
            Column("error", [p.error for p in table.values()], "", "standard error"),
            Column("unit", [p.unit for p in table.values()]),
            Column("free", [p.free for p in table.values()]),
            Column("low", [x[0] for x in finite.values()], "", "lower limit"),
            Column("high", [x[1] for x in finite.values()], "", "upper limit"),
            Column("follows", [p.link or p.law or "" for p in table.values()]),
        ],
        deviance=fit.deviance,
        dof=fit.dof,
        valid=fit.valid,
    )


def _lines_table(fit: FitNumbers) -> Table:
    values, errors, model = fit.values, fit.errors, fit.model
    rows = []
    for component in (model.components[i] for i in model.lines):
        energy, area = model.names[component.energy], model.names[component.area]
        width = component.sigma(fit.theta)
        rows.append(
            (energy, values[energy], errors.get(energy), values[area], errors.get(area), width)
        )
    rows.sort(key=lambda row: row[1])
    names, energies, energy_errors, counts, count_errors, widths = (
        zip(*rows, strict=True) if rows else [()] * 6
    )
    return make_table(
        [
            Column("parameter", names, "", "that holds the energy"),
            Column("energy", energies, "keV"),
            Column("energy_error", energy_errors, "keV", "standard error; none if fixed"),
            Column("counts", counts, "ct", "area of the peak"),
            Column("counts_error", count_errors, "ct", "standard error"),
            Column("sigma", widths, "keV", "width at the line's energy"),
        ]
    )


def summary(fit: FitNumbers) -> str:
    """How well the model does, whether a template may use it, and what to try."""
    if not fit.valid:
        return f"The fit is not valid: {fit.message}. It cannot be used for a template."
    if fit.adequacy is None:
        return (
            "The model cannot be tested: it has as many free parameters as fitted bins, or no "
            "covariance."
        )
    kinds = {c.kind for c in fit.model.components}
    shapes = {name for name in ("tail", "step") if any(name in kind for kind in kinds)}
    shapes |= kinds & set(BENT_CONTINUA)
    energies = {fit.model.parameters[fit.model.components[i].energy].name for i in fit.model.lines}
    at_limit = [fit.values[name] for name in fit.at_limits if name in energies]
    in_parts = [fit.theta[c.energy] for c in fit.model.components if c.broad_slots]
    text = describe(fit.adequacy, fit.lines, shapes, at_limit, in_parts)
    notes = [fit.message] if fit.message else []
    widths = unseen_widths(fit)
    if widths:
        shown = ", ".join(f"{n} = {fit.values[n]:.3g} ± {fit.errors[n]:.2g} keV" for n in widths)
        notes.append(f"the bins do not show the lines' width ({shown}); bin finer, or hold it")
    if fit.faint is not None:
        text += f" {faint_sentence(fit)}"
    return " ".join([text, *(f"Note: {note}." for note in notes)])


def faint_sentence(fit: FitNumbers) -> str:
    """What lines that may be there do to the continuum."""
    assert fit.faint is not None
    faint, n = fit.faint, len(fit.model.faint)
    low, high = faint.where
    where = f"the continuum at {low:.6g}-{high:.6g} keV"
    (before, error), (after, wider) = faint.before, faint.after
    if not n or not before > 0.0:
        return f"No line below detection changes {where}."
    return (
        f"{n} line{'' if n == 1 else 's'} below detection, which may be there, "
        f"change{'s' if n == 1 else ''} {where} by {100.0 * (after / before - 1.0):+.2g} %, its "
        f"error from {100.0 * error / before:.2g} to {100.0 * wider / after:.2g} %."
    )


def goodness(adequacy: Adequacy) -> str:
    """The deviance with its own p-value, and that of all tests together, each said to be so."""
    a = adequacy
    text = f"deviance/dof = {a.deviance:.1f}/{a.dof} = {a.deviance / a.dof:.2f}"
    own = a.tests[0]
    text += f" ({own.law})" if own.p_value is None else f" (p {chance(own.p_value)}, {own.law})"
    return f"{text}; all tests: p {chance(a.p_value)} ({a.combination})"


def chance(p_value: float) -> str:
    """A p-value behind the letter p: "= 0.012", or "< 1e-300" where it cannot be told from 0."""
    return f"= {p_value:.2g}" if p_value > 1e-300 else "< 1e-300"


def describe(
    adequacy: Adequacy,
    lines: Sequence[tuple[float, float]],
    shapes: Collection[str] = (),
    at_limit: Sequence[float] = (),
    in_parts: Sequence[float] = (),
) -> str:
    """In words: how well the model does, whether a template may use it, and what to try.

    Parameters
    ----------
    adequacy : Adequacy
    lines : sequence of (float, float), keV
        Energy and width of the fitted lines.
    shapes : collection of str
        What the lines have, "tail", "step", and the continuum, where it is no power law.
    at_limit : sequence of float, keV
        Energies of lines at the end of their window.
    in_parts : sequence of float, keV
        Energies of lines that have a narrow and a broad part, and no further shape.
    """
    a, text = adequacy, goodness(adequacy)
    if a.is_adequate():
        return f"{text}: the model describes the fitted bins. It may be used for a template."
    advice = f". Try {', or '.join(_advice(a, lines, shapes, at_limit, in_parts))}."
    if a.p_value >= LEVEL:
        return f"{text}: the model describes the fitted bins. {_long_tails(a)}{advice}"
    low, high = a.worst_range
    text += (
        f": the model does NOT describe the data. The largest residual is {a.worst:+.1f} sigma at "
        f"{low:.6g}-{high:.6g} keV"
    )
    if a.runs_p_value is not None and a.runs_p_value < LEVEL:
        text += f"; {a.runs} runs of equal signs, {a.expected_runs:.0f} expected"
    least, most = (100.0 * s for s in a.systematic_range)
    text += (
        f". The bins scatter by {100.0 * a.applied:.2g} % ({least:.2g}-{most:.2g}) beyond "
        "Poisson noise, which the errors of expected counts include. "
    )
    if a.long_tails:
        text += _long_tails(a)
    elif a.applied <= TOLERABLE:
        text += "So small an error covers it: it may be used for a template"
    else:
        text += f"It should NOT be used for a template: above {100.0 * TOLERABLE:g} %"
        text += " the counts in the source range are a guess"
    return text + advice


def _long_tails(a: Adequacy) -> str:
    return (
        f"But the tail is as long as a tail may be ({', '.join(a.long_tails)}: {LONGEST_TAIL:g} "
        "widths): it does the work of a step or of the continuum, and the counts of the lines are "
        "too large. It should NOT be used for a template"
    )


def _advice(
    a: Adequacy,
    lines: Sequence[tuple[float, float]],
    shapes: Collection[str],
    at_limit: Sequence[float],
    in_parts: Sequence[float],
) -> list[str]:
    """What may make the model adequate, most promising first."""
    found = []
    # a tail that would end at its limit is called inadequate: it is not proposed
    tail = a.tail_widths is not None and a.tail_widths <= LONGEST_TAIL
    step = 0.0 if a.step_z is None else a.step_z
    advised = f"a step under the lines (step: true, {step:+.1f} sigma)"
    if a.long_tails and a.step_z is not None:
        found.append("a step under the lines (step: true)")
    elif step > max([_STEP_FROM, *(e.z for e in a.excesses)]):
        found.append(advised)
    for e in a.excesses:
        found += _of_excess(e, lines, tail, at_limit, in_parts)
    if step > _STEP_FROM and not a.long_tails:
        found.append(advised)
    drifts = a.runs_p_value is not None and a.runs_p_value < LEVEL
    if drifts or not found or a.long_tails:
        others = [name for name in BENT_CONTINUA if name not in shapes]
        found.append(f"another continuum ({', '.join(others)})")
    return [*dict.fromkeys(found), "fewer energies (mask)"]


def _of_excess(
    excess: Excess,
    lines: Sequence[tuple[float, float]],
    tail: bool,
    at_limit: Sequence[float],
    in_parts: Sequence[float],
) -> list[str]:
    """What an excess asks for: another shape of the line it is at, or a line of its own."""
    distance, line = min(
        ((abs(energy - excess.energy) / width, energy) for energy, width in lines),
        default=(math.inf, 0.0),
    )
    found, stuck = [], line in at_limit
    same = distance < _SAME_PLACE and not stuck
    if stuck and distance < _TAIL_REACH:
        found.append(f"a wider window for the line at {line:.1f} keV, which is at its end")
    elif line not in in_parts:
        if tail and (same or (distance < _TAIL_REACH and excess.energy < line)):
            found.append(f"a low-energy tail (tail: true) for the line at {line:.1f} keV")
        elif same and len(lines) > 1:
            found.append(f"a width of its own (width: own) for the line at {line:.1f} keV")
    if not same:
        found.append(f"a line near {excess.energy:.1f} keV ({excess.z:+.1f} sigma)")
    return found
