"""What a template says of itself: of options without effect, and of what is not known."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from ..fit.result import LineBackgroundFit
from ..lines.catalogue import SKY_LINES, SKY_REACH
from ..spectrum.axis import bins_to_ranges, overlapping_bins
from .amounts import SourceAmounts
from .control import ControlRanges
from .options import TemplateOptions
from .plan import TemplatePlan
from .record import Record

#: The low-energy tail of a sky line in the estimate of its own contamination of the sidebands:
#: share of its photons, and mean loss [keV]; as simulated for 26Al.
SKY_TAIL = (0.25, 120.0)


#: A shape that is this far off, and a component with this share, are said.
LARGE_SHAPE_ERROR, LARGE_SHARE = 0.02, 0.3


def unused_options(options: TemplateOptions) -> list[str]:
    """A note on options that the method does not use, if there are any."""
    own = options.method == "components"
    ignored = {"sidebands": own and options.sidebands is not None}
    for name, default in (("window", None), ("tracers", None), ("order", 1)):
        ignored[name] = not own and getattr(options, name) != default
    names = [f"{name}=" for name, is_ignored in ignored.items() if is_ignored]
    return [f"method='{options.method}' does not use {', '.join(names)}."] if names else []


def fitted_source(
    plan: TemplatePlan, fit: LineBackgroundFit, tracers: Sequence[float]
) -> list[str]:
    """Notes on photons of sources that the fit, or the component "lines", takes for background.

    Parameters
    ----------
    tracers : sequence of float, keV
        What "lines" takes its distribution from; other fitted lines are kept out of it.
    """
    notes = []
    own = [energy for energy in tracers if plan.low <= energy <= plan.high]
    if own and plan.sky is None:
        notes.append(
            f'"lines" takes its distribution from the wings of {own[0]:.2f} keV, in the source '
            "range itself: those of a source count as background. Take other lines (tracers=), "
            "add some beside it to the model, or give sky= and observed=."
        )
    fitted = fit.spectrum.used & plan.in_source
    if fitted.any() and plan.sky is None:
        notes.append(
            f"The fit includes the energy bins {_ranges(plan.edges, fitted)} of the source range: "
            "the photons of a source in it count as background. Leave the norm free beside that of "
            "your source, or mask the source range and fit again, or give sky= and observed=."
        )
    apart = []
    if plan.options.method == "components":
        lines = (fit.model.components[i] for i in fit.model.lines)
        apart = [
            energy
            for line in lines
            if (energy := round(float(fit.theta[line.energy]), 3)) not in tracers
        ]
    near = [
        energy
        for energy in sorted(SKY_LINES)
        if not plan.low - SKY_REACH <= energy <= plan.high + SKY_REACH
        and (plan.selected & _around(plan.edges, energy)).any()
        and not any(abs(energy - line) <= SKY_REACH for line in apart)
    ]
    if near and plan.sky is None:
        energies = ", ".join(f"{energy:.2f}" for energy in near)
        notes.append(
            f"The energies that the template is made from hold {energies} keV, looked for in the "
            "sky as well: photons of your source there count as background. Mask what it emits, or "
            "choose a window, sidebands or tracers without it."
        )
    return notes


def _around(edges: NDArray[np.float64], energy: float) -> NDArray[np.bool_]:
    return overlapping_bins(edges, energy - SKY_REACH, energy + SKY_REACH)


def _ranges(edges: NDArray[np.float64], bins: NDArray[np.bool_]) -> str:
    return ", ".join(f"{low:.6g}-{high:.6g} keV" for low, high in bins_to_ranges(edges, bins))


def unknown_without_sky(
    plan: TemplatePlan,
    fit: LineBackgroundFit,
    amounts: SourceAmounts,
    counts: Mapping[str, float],
    weights: NDArray[np.float64],
) -> list[str]:
    """Notes on what is not known without sky= or line_ratio=.

    Parameters
    ----------
    counts : mapping of label to float
        Of the template.
    weights : ndarray, shape (n_labels, n_em)
    """
    notes = []
    hidden = fit.spectrum.mask & plan.in_source
    if hidden.any() and not plan.options.knows_hidden_line and "lines" not in counts:
        notes.append(
            "The source range is masked: an instrumental line inside it is not in this "
            "template. Leave the norm free in your likelihood, or give line_ratio=."
        )
    excess, share = _own_photons(plan, fit, amounts, counts, weights)
    if share > 1e-3:
        notes.append(
            f"If the excess of {excess:,.0f} counts in the masked range is a sky line of which "
            f"{100 * SKY_TAIL[0]:.0f} % lose {SKY_TAIL[1]:.0f} keV on average, about "
            f"{100 * share:.1f} % of the template are the source's own photons; sky= takes "
            "them out."
        )
    return notes


def _own_photons(
    plan: TemplatePlan,
    fit: LineBackgroundFit,
    amounts: SourceAmounts,
    counts: Mapping[str, float],
    weights: NDArray[np.float64],
) -> tuple[float, float]:
    """Excess counts over the background in the masked range, and their share of the template.

    The lost photons are spread as an exponential below the source range.
    """
    spectrum = fit.spectrum
    near = spectrum.mask & overlapping_bins(plan.edges, plan.low - 5, plan.high + 5)
    excess = float((spectrum.counts - fit.expected)[near].sum())
    excess -= amounts.ratio_counts(fit.theta)
    if excess < 5.0 * np.sqrt(max(float(fit.expected[near].sum()), 1.0)):
        return max(excess, 0.0), 0.0
    lost, length = SKY_TAIL
    reach = np.exp(np.minimum(plan.edges - plan.middle, 0.0) / length)
    tail = excess * lost / (1 - lost) * np.diff(reach)
    own = weights @ tail
    total = counts["continuum"] if plan.options.method == "components" else 1.0
    source = float(abs(own[0] * total))
    return excess, source / max(source, sum(counts.values()), 1.0)


def of_control_ranges(record: Record, counts: Mapping[str, float]) -> list[str]:
    """Notes on what control ranges object to, what no error includes, and what they cannot show.

    Parameters
    ----------
    record : Record
        Of a template.
    counts : mapping of label to float
        Of it, at the present norms.
    """
    control = record.control
    if control is None:
        return []
    notes = _of_hidden_lines(record, control, "lines" in counts)
    if not control.usable:
        return [f"Control ranges: {control.summary()}.", *notes]
    phi = control.shapes.get("Phi")
    if phi is not None and phi.value > LARGE_SHAPE_ERROR:
        text = (
            f"On control ranges Phi is off by {100 * phi.value:.2g} % a bin beyond its errors: "
            "sumw2 does not include this, a comparison with counts does."
        )
        if record.method == "components" and not record.shift:
            text += " Try shift=True, as features in Phi move with energy, or a smaller window."
        notes.append(text)
    share = counts.get("lines", 0.0) / max(sum(counts.values()), 1e-300)
    if share > LARGE_SHARE:
        notes.append(
            'Control ranges hold no strong lines: they say nothing of "lines", '
            f"{100 * share:.0f} % of this template."
        )
    return notes


def _of_hidden_lines(record: Record, control: ControlRanges, free: bool) -> list[str]:
    """A note on what the mask may hide, and where it counts.

    Parameters
    ----------
    free : bool
        Whether the template has a component of lines, of unknown amount.
    """
    if control.hidden is None or not control.hidden.rms > 0.0:
        return []
    where = "no error of the template includes this"
    if record.hidden_percent:
        where = "the template holds none of it, its error includes the rms"
    elif free:
        where = 'it is what "lines", of unknown amount, may hold'
    text = control.hidden.summary()
    return [f"{text[0].upper()}{text[1:]}; {where}."]


def of_systematic_error(fit: LineBackgroundFit, included: bool) -> list[str]:
    """A note where the model does not describe the spectrum.

    Parameters
    ----------
    included : bool
        Whether the errors of the template's counts include the systematic error.
    """
    if not fit.systematic:
        return []
    percent = f"a systematic error of {100 * fit.systematic:.2g} % of each energy bin"
    what = f"the template's errors include {percent}"
    if not included:
        what = f"it needs {percent}; the template's counts are those of observed="
    return [
        f"The model does NOT describe the spectrum: {what}. fit.summary() says where, and "
        "what to try."
    ]
