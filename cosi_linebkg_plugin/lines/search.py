"""Which lines a spectrum holds: one line at a time, until no more is significant.

Each step fits all lines found so far and scans the residuals for one more by the score test. The
best candidate is confirmed by a refit: its TS, twice the gain in log-likelihood, must exceed u^2,
where a spectrum without a further line has the given chance of a significance above u anywhere (see
`cosi_linebkg_plugin.fit.score` for test and chance).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError, FitError, ModelError
from ..fit.minimise import fit_spectrum
from ..fit.numbers import hides_width, unseen_widths
from ..fit.objective import Objective
from ..fit.result import LineBackgroundFit
from ..fit.score import Residuals, global_significance, threshold
from ..model.spec import TAIL_START
from ..spectrum.axis import EnergySpectrum, bins_to_ranges
from ..spectrum.components import SpectralModel
from ..units import in_kev
from .found import FoundLine, LineSearch
from .identify import identify_lines, match_energy
from .notes import search_notes
from .trial import (
    TAIL_FROM,
    WIDTH_FROM,
    Settings,
    Shape,
    TrialLine,
    checked_settings,
    fitted_shape,
    lines_of,
    trial_model,
)

Array = NDArray[np.float64]

#: Default chance of a false line in a spectrum without further lines.
FALSE_ALARM = 0.05

#: Two lines are at least this many widths apart (the width with that of a bin in it).
SEPARATION = 2.0

#: A line is at least this many widths away from the mask and from the ends of the axis.
MARGIN = 1.0

#: The scan's energies per width; the refit moves a line in between.
_STEPS_PER_WIDTH = 4

#: A line moves by at most this many widths in one fit; its window then follows it.
_WINDOW = 2.0

#: How often a line that ends on the limit of its window may be followed before it is dropped.
_MAX_MOVES = 5

#: Candidates with this share of the best one's significance are added with it, if far from it.
_TOGETHER = 0.5

#: A new line puts in question those within this many separations.
_NEIGHBOURS = 3.0


def find_lines(
    spectrum: Any,
    *,
    mask: Any = None,
    sigma: Any = 3.0,
    tail: bool = False,
    false_alarm: float = FALSE_ALARM,
    max_lines: int | None = None,
    fix_to_catalogue: bool = False,
    pivot: Any = None,
) -> LineSearch:
    """Find the lines of a spectrum on a power-law continuum.

    Parameters
    ----------
    spectrum : EnergySpectrum, (edges, counts), or a plugin with a spectrum
        Edges in keV or a quantity, shape (n_bins + 1,); counts, shape (n_bins,).
    mask : (low, high) or a list of these, optional
        Energies left out, replacing the spectrum's own mask; no line is placed there.
    sigma : Quantity or float
        Expected width of the lines (keV). It is fitted, within a factor 3, once a line is strong
        enough to tell (10 sigma).
    tail : bool
        Lines with a shared exponential low-energy tail (fitted from 30 sigma on).
    false_alarm : float
        Chance, between 0 and 0.5, of a false line where none is left to find.
    max_lines : int, optional
        Default: as many as leave 4/9 of the fitted bins as degrees of freedom.
    fix_to_catalogue : bool
        Fix the energies of lines that agree with a row of the catalogue (no doubtful one) to it,
        and fit again.
    pivot : Quantity or float, optional
        Of the power law (keV); default: the middle of the axis.

    Returns
    -------
    LineSearch

    Raises
    ------
    LineBackgroundError
        Naming the argument that cannot be used; FitError if the continuum cannot be fitted.

    Notes
    -----
    Lines are at least two widths, sqrt(sigma^2 + bin^2/12) each, apart, and one width away from
    the mask and from the ends of the axis; none ends on the limit of its window. After each step
    a line is dropped when the fit without it is hardly worse (its TS is below the threshold's
    square), as a neighbour or the tail then explains it. What was ruled out is tried again at the
    end, with all lines in place.
    """
    spectrum = _read_spectrum(spectrum, mask)
    search = _Search(
        spectrum, checked_settings(spectrum, sigma, tail, false_alarm, max_lines, pivot)
    )
    search.run()
    return search.result(fix_to_catalogue)


def check_search(spectrum: EnergySpectrum, **options: Any) -> None:
    """Refuse options of `find_lines` that a spectrum cannot be searched with, without any work.

    Raises
    ------
    ModelError
    """
    known = ("sigma", "tail", "false_alarm", "max_lines", "pivot")
    checked_settings(spectrum, *(options[name] for name in known))


class _Search:
    """The state of a search: lines, shared shape, fit, and energies that were ruled out."""

    def __init__(self, spectrum: EnergySpectrum, settings: Settings) -> None:
        self.spectrum, self.settings = spectrum, settings
        self.segments = bins_to_ranges(spectrum.edges, spectrum.used)
        self.bin_width = float(np.median(spectrum.widths[spectrum.used]))
        self.shape = Shape(settings.sigma, *TAIL_START, tail=settings.tail)
        self.banned: list[float] = []
        self.lines: list[TrialLine] = []
        self.stopped, self.unseen = "", False
        self.fit = fit_spectrum(self._model(self.lines, self.shape, (1000.0, -2.0)), spectrum)
        self.trials, self.threshold = (len(self.segments), 0.0), math.inf

    # --- geometry ---

    @property
    def width(self) -> float:
        """Width of a line as the bins show it, keV."""
        return math.hypot(self.shape.sigma, self.bin_width / math.sqrt(12.0))

    @property
    def separation(self) -> float:
        """Least distance of two lines, keV."""
        return SEPARATION * self.width

    @property
    def allowed(self) -> list[tuple[float, float]]:
        """Where lines may be, keV."""
        margin = MARGIN * self.width
        inside = [(low + margin, high - margin) for low, high in self.segments]
        return [(low, high) for low, high in inside if low < high]

    def _windows(self, lines: list[TrialLine]) -> list[TrialLine]:
        """The lines in order, with windows that keep them apart and out of the mask."""
        lines = sorted(lines, key=lambda x: x.energy)
        gap = 0.5 * self.separation
        windows = []
        for i, line in enumerate(lines):
            low, high = self._place(line.energy)
            low = max(low, line.energy - _WINDOW * self.width)
            high = min(high, line.energy + _WINDOW * self.width)
            if i:
                low = max(low, 0.5 * (lines[i - 1].energy + line.energy) + gap)
            if i + 1 < len(lines):
                high = min(high, 0.5 * (lines[i + 1].energy + line.energy) - gap)
            # lines that a growing width has brought too close stay where they are
            slack = 1e-3 * self.width
            windows.append((min(low, line.energy - slack), max(high, line.energy + slack)))
        return [replace(x, window=w) for x, w in zip(lines, windows, strict=True)]

    def _place(self, energy: float) -> tuple[float, float]:
        """Where a line of this energy may be; nowhere else if the width has left no room."""
        beyond = [max(low - energy, energy - high) for low, high in self.allowed]
        return self.allowed[int(np.argmin(beyond))] if beyond else (energy, energy)

    # --- fits ---

    def _model(
        self, lines: Sequence[TrialLine], shape: Shape, continuum: tuple[float, float] | None = None
    ) -> SpectralModel:
        if continuum is None:
            k, _, index = self.fit.theta[self.fit.model.continuum_slots]
            continuum = (float(k), float(index))
        return trial_model(self.settings, continuum, lines, shape)

    def _refit(self, lines: list[TrialLine], shape: Shape) -> LineBackgroundFit | None:
        """The fit with these lines, or None if it fails."""
        try:
            return fit_spectrum(self._model(self._windows(lines), shape), self.spectrum)
        except (FitError, ModelError):
            return None

    def _accept(self, fit: LineBackgroundFit, shape: Shape) -> None:
        self.fit, self.lines, self.shape = fit, lines_of(fit), fitted_shape(fit, shape)

    # --- steps ---

    def run(self) -> None:
        """Add lines until none is left that is significant.

        What was ruled out on the way is tried again with all lines in place, as long as that
        lowers the deviance, each line counted with the threshold's square.
        """
        best = math.inf
        state = (self.fit, self.lines, self.shape)
        while True:
            while self._step():
                pass
            self._settle(self.lines)
            score = self.fit.deviance + self.threshold**2 * len(self.lines)
            if not score < best - 1.0:
                self.fit, self.lines, self.shape = state
                return
            best, state = score, (self.fit, self.lines, self.shape)
            if not self.banned:
                return
            self.banned.clear()

    def _step(self) -> bool:
        """Try the best candidate; False if there is none, or no room for it."""
        z, energies, amplitudes = self._scan()
        # the score test and the likelihood ratio differ by less than this where it matters
        if not z.size or z.max() < 0.9 * self.threshold:
            self.stopped = (
                "no further candidate reaches that"
                if self.allowed
                else "nowhere is there room for a line between the mask and the ends of the axis"
            )
            return False
        if len(self.lines) >= self.settings.max_lines:
            reason = "max_lines" if self.settings.asked else "the number of fitted bins"
            self.stopped = (
                f"further candidates are left out: {self.settings.max_lines} lines are as many as "
                f"{reason} allows"
            )
            return False
        for new in self._candidates(z, energies, amplitudes):
            fit = self._refit([*self.lines, *new], self.shape)
            gain = 0.0 if fit is None else self.fit.deviance - fit.deviance
            if fit is not None and gain > len(new) * self.threshold**2:
                break
        else:
            self.banned.append(new[0].energy)
            return True
        self._accept(fit, self.shape)
        self._settle(self.lines if self._free_shape() else new)
        for one in new:
            if not any(abs(x.energy - one.energy) < self.width for x in self.lines):
                self.banned.append(one.energy)
        return True

    def _candidates(
        self, z: Array, energies: Array, amplitudes: Array
    ) -> Iterator[list[TrialLine]]:
        """Lines to add: the best with those far from it and hardly weaker, then the best alone."""
        new: list[TrialLine] = []
        apart = 2.0 * _NEIGHBOURS * self.separation
        least = max(_TOGETHER * z.max(), 2.0 * self.threshold)
        for i in np.argsort(-z, kind="stable"):
            if new and (z[i] < least or len(self.lines) + len(new) >= self.settings.max_lines):
                break
            if all(abs(energies[i] - x.energy) > apart for x in new):
                new.append(TrialLine(float(energies[i]), max(float(amplitudes[i]), 1.0)))
        yield new
        if len(new) > 1:
            yield new[:1]

    def _free_shape(self) -> bool:
        """Fit width and tail too, once a line is strong enough; whether that is new."""
        strongest = max(c / e for c, e in self._amplitudes())
        seen = not hides_width(self.bin_width, self.shape.sigma)
        shape = replace(
            self.shape,
            free_sigma=self.shape.free_sigma or (seen and strongest > WIDTH_FROM),
            free_tail=self.shape.free_tail or (self.shape.tail and strongest > TAIL_FROM),
        )
        fit = self._refit(self.lines, shape) if shape != self.shape else None
        if fit is not None and shape.free_sigma:
            self.unseen = bool(unseen_widths(fit))
            fit = None if self.unseen else fit  # further lines may show it
        if fit is not None:
            self._accept(fit, shape)
            self.banned.clear()  # ruled out with another shape
        return fit is not None

    def _settle(self, near: list[TrialLine]) -> None:
        """Let windows follow the lines, and drop lines.

        Those that end on a limit, and of those around the lines `near` those that explain nothing.
        """
        moves = 0
        while self.lines:
            bad = self._weakest([x.energy for x in near])
            if bad is None:
                stuck = self._stuck()
                if not stuck:
                    return
                moves += 1
                if moves <= _MAX_MOVES and self._moved():
                    continue
                bad = min(self._stuck() or stuck, key=lambda i: self.lines[i].counts)
            if not self._drop(bad):
                return

    def _moved(self) -> bool:
        """Fit again in windows around where the lines are now; whether that gains anything."""
        fit, before = self._refit(self.lines, self.shape), self.fit.deviance
        if fit is None:
            return False
        self._accept(fit, self.shape)
        return fit.deviance < before - 1e-3

    def _stuck(self) -> list[int]:
        """Lines whose energy sits on a limit of its window."""
        at = set(self.fit.at_limits)
        return [i for i, (_, energy) in enumerate(self._names()) if energy in at]

    def _names(self) -> list[tuple[str, str]]:
        """Names of each line's parameters: its counts and its energy."""
        model = self.fit.model
        lines = [model.components[i] for i in model.lines]
        return [(model.names[line.area], model.names[line.energy]) for line in lines]

    def _amplitudes(self) -> list[tuple[float, float]]:
        """Counts of each line and their error; infinite for one on a limit."""
        errors = self.fit.errors
        names = [counts for counts, _ in self._names()]
        return [(x.counts, errors.get(n, math.inf)) for x, n in zip(self.lines, names, strict=True)]

    def _weakest(self, near: list[float]) -> int | None:
        """The least significant line around these energies, if it is below the threshold."""
        ratios = [counts / error for counts, error in self._amplitudes()]
        reach = _NEIGHBOURS * self.separation
        for i in np.argsort(ratios):
            if ratios[i] > 2.0 * self.threshold:  # no refit needed to tell
                return None
            if not any(abs(self.lines[i].energy - energy) < reach for energy in near):
                continue
            if not self._gain(i) > self.threshold**2:
                return int(i)
        return None

    def _gain(self, i: int) -> float:
        """TS of a line, all others free to move: the deviance without it less that with it."""
        without = self._refit(self.lines[:i] + self.lines[i + 1 :], self.shape)
        return math.inf if without is None else without.deviance - self.fit.deviance

    def _gains_in_place(self) -> list[float]:
        """TS of each line while the others keep their energies, so that none takes its place."""
        model, theta = self.fit.model, self.fit.theta
        objective = Objective(model, self.spectrum)
        lines = [model.components[i] for i in model.lines]
        held = {line.energy for line in lines}
        gains = []
        for line in lines:
            start = theta.copy()
            start[line.area] = 0.0
            free = np.array([k for k in model.free if k not in held and k != line.area])
            _, value = objective.score_to_minimum(start, free)
            gains.append(2.0 * (value - objective.value(theta)))
        return gains

    def _drop(self, i: int) -> bool:
        """Take a line out, for good; False if the others cannot be fitted without it."""
        self.banned.append(self.lines[i].energy)
        fit = self._refit(self.lines[:i] + self.lines[i + 1 :], self.shape)
        if fit is not None:
            self._accept(fit, self.shape)
        return fit is not None

    # --- scan ---

    def _scan(self) -> tuple[Array, Array, Array]:
        """Score test of one more line: significance, energy [keV], counts, shape (n,) each.

        Sets the threshold.
        """
        step = self.width / _STEPS_PER_WIDTH
        energies = [
            np.linspace(low, high, max(2, math.ceil((high - low) / step) + 1))
            for low, high in self.allowed
        ]
        continuum = self._residuals(self.fit.model.continuum_slots)
        length = sum(continuum.curve_length(self._shapes, e) for e in energies)
        self.trials = (max(len(energies), 1), length)
        self.threshold = threshold(self.settings.false_alarm, *self.trials)
        allowed = np.concatenate([np.zeros(0), *energies])
        keep = np.ones(allowed.size, bool)
        for line in self.lines:
            keep &= np.abs(allowed - line.energy) >= self.separation
        for energy in self.banned:
            keep &= np.abs(allowed - energy) >= 0.5 * self.separation
        allowed = allowed[keep]
        z, amplitude = self._residuals(self.fit.columns).score(self._shapes, allowed)
        return z, allowed, amplitude

    def _residuals(self, slots: Sequence[int]) -> Residuals:
        """Those of the fit, with what these parameters can change to be projected out."""
        used, spectrum = self.spectrum.used, self.spectrum
        expected, jac = self.fit.model.bind(spectrum.edges).counts_and_jacobian(self.fit.theta)
        return Residuals.of(spectrum.counts[used], expected[used], jac[np.array(slots)][:, used])

    def _shapes(self, energies: Array) -> Array:
        """Counts per fitted bin of lines of unit area, shape (n_energies, n_used)."""
        return self.shape.counts(self.spectrum.edges, energies)[:, self.spectrum.used]

    # --- the end ---

    def result(self, fix_to_catalogue: bool) -> LineSearch:
        if fix_to_catalogue:
            self._fix()
        errors, found = self.fit.errors, []
        known = {x.parameter: x.matches for x in identify_lines(self.fit)}
        rows = zip(self.lines, self._names(), self._gains_in_place(), strict=True)
        for line, (counts, energy), gain in rows:
            significance = math.sqrt(max(gain, 0.0))
            found.append(
                FoundLine(
                    energy,
                    line.energy,
                    errors.get(energy),
                    known.get(energy, ()),
                    line.counts,
                    errors.get(counts),
                    significance,
                    global_significance(significance, *self.trials),
                    line.window,
                )
            )
        hidden = self.unseen or hides_width(self.bin_width, self.shape.sigma)
        vague = [x.energy for x in found if any(not match.known for match in x.matches)]
        notes = search_notes(
            self.fit, self.lines, self.shape, self.width, self.bin_width, hidden, vague
        )
        return LineSearch(
            tuple(found), self.fit, self.settings.false_alarm, self.threshold, self.stopped,
            tuple(notes),
        )  # fmt: skip

    def _fix(self) -> None:
        """Fix the energies of lines that the catalogue knows, each row for one line."""
        errors = self.fit.errors
        best: dict[float, tuple[float, int]] = {}
        for i, (line, (_, name)) in enumerate(zip(self.lines, self._names(), strict=True)):
            match = next(iter(match_energy(line.energy, errors.get(name), self.bin_width)), None)
            if match is not None and match.agrees and "doubtful" not in match.line.flags:
                known = best.get(match.line.energy)
                if known is None or abs(match.difference) < known[0]:
                    best[match.line.energy] = (abs(match.difference), i)
        lines = self.lines.copy()
        for energy, (_, i) in best.items():
            lines[i] = replace(lines[i], energy=energy, fixed=True)
        fit = self._refit(lines, self.shape)
        if fit is None:
            raise FitError(
                "The fit with the energies fixed to the catalogue failed; leave them free.",
                self.fit,
            )
        self._accept(fit, self.shape)


# --- input ------------------------------------------------------------------------------------


def _read_spectrum(spectrum: Any, mask: Any) -> EnergySpectrum:
    spectrum = getattr(spectrum, "spectrum", spectrum)
    if isinstance(spectrum, tuple) and len(spectrum) == 2:
        spectrum = EnergySpectrum(*spectrum)
    if not isinstance(spectrum, EnergySpectrum):
        raise DataError(
            "find_lines takes an EnergySpectrum, (edges, counts), or a LineBackgroundLike, got "
            f"{type(spectrum).__name__}."
        )
    if mask is None:
        return spectrum
    ranges = list(mask)
    if len(ranges) == 2 and all(np.ndim(x) == 0 for x in ranges):
        ranges = [mask]
    return spectrum.with_mask([in_kev(r, "mask") for r in ranges])
