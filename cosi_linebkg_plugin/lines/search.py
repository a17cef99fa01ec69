"""Which lines a spectrum holds: one line at a time, until no more is significant.

Each step fits all lines found so far and scans the residuals for one more by the score test. The
best candidate that stands out of its neighbourhood as a peak (`cosi_linebkg_plugin.lines.peaks`) is
confirmed by a refit: its TS, twice the gain in log-likelihood, must exceed u^2, where a spectrum
without a further line has the given chance of a significance above u anywhere (see
`cosi_linebkg_plugin.fit.score` for test and chance). On the way fits are scored from where the last
one ended, and what a single line changes is fitted in its neighbourhood; the last fit is that of
`fit_spectrum`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import FitError, ModelError
from ..fit.minimise import check_degrees_of_freedom, fit_spectrum
from ..fit.numbers import hides_width, unseen_widths
from ..fit.result import LineBackgroundFit
from ..model.spec import SHOWS_PARTS, TAIL_START
from ..spectrum.axis import EnergySpectrum, bins_to_ranges
from ..spectrum.components import SpectralModel
from ..spectrum.lineshapes import EnergyGrid
from .found import FoundLine, LineSearch
from .identify import energy_scale, identify_lines, match_energy
from .neighbourhood import Neighbourhood
from .notes import search_notes
from .peaks import described, is_peak
from .places import SEPARATION, allowed_ranges, are_away, in_windows
from .scan import Scans, Trials, maxima
from .trial import (
    FREE_SHARE,
    TAIL_FROM,
    WIDTH_FROM,
    Form,
    Settings,
    Shape,
    TrialFit,
    TrialLine,
    check_scale_options,
    checked_settings,
    expected_fall,
    fit_quickly,
    fitted_shape,
    given_spectrum,
    lines_of,
    trial_model,
)

Array = NDArray[np.float64]

#: Default chance of a false line in a spectrum without further lines.
FALSE_ALARM = 0.05

#: How often a line that ends on the limit of its window may be followed before it is dropped.
_MAX_MOVES = 5

#: Candidates with this share of the best one's significance are added with it, if far from it.
_TOGETHER = 0.3

#: A new line puts in question those within this many separations.
_NEIGHBOURS = 3.0

#: Lines of which each hides the others' peaks: at most this many, within as many widths.
_CLUSTER, _CLUSTER_REACH = 4, 15.0

#: Another form must lower deviance plus ln(bins) per parameter (BIC) by more than this: strong
#: evidence on the scale of Kass & Raftery (1995, J. Am. Stat. Assoc. 90, 773).
_LEAST_GAIN = 6.0

#: A break must be better than a polynomial by this.
_BREAK_GAIN = 20.0

#: Fewer lines than this are the strongest ones, which do not tell the continuum.
_FEW = 6

_POLYNOMIAL = "powerlaw_polynomial"

#: Parameters of single lines: on a limit they say nothing of what all have in common.
_OF_LINES = ("F_", "mu_", "broad_", "ratio_")

#: A width that is held is let go if that lowers the deviance by more than this.
_WIDTH_GAIN = 9.0


def find_lines(
    spectrum: Any,
    *,
    mask: Any = None,
    sigma: Any = 3.0,
    width: str = "constant",
    tail: bool = False,
    step: bool = False,
    continuum: str = "powerlaw",
    bend: bool = True,
    false_alarm: float = FALSE_ALARM,
    max_lines: int | None = None,
    fix_to_catalogue: bool = False,
    calibrate: bool = False,
    pivot: Any = None,
) -> LineSearch:
    """Find the lines of a spectrum on a continuum.

    Parameters
    ----------
    spectrum : EnergySpectrum, (edges, counts), or a plugin with a spectrum
        Edges in keV or a quantity, shape (n_bins + 1,); counts, shape (n_bins,).
    mask : (low, high) or a list of these, optional
        Energies left out, replacing the spectrum's own mask; no line is placed there.
    sigma : Quantity or float
        Expected width of the lines (keV). It is fitted, within a factor 3, once a line is strong
        enough to tell (10 sigma, or less where the data insist).
    width : {"constant", "linear"}
        Of the lines, as of `background_model`.
    tail : bool
        Lines with a shared exponential low-energy tail (fitted from 30 sigma on).
    step : bool
        A step under each line (fitted from 30 sigma on).
    continuum : {"powerlaw", "broken_powerlaw", "powerlaw_polynomial"}
    bend : bool
        Whether the search may replace a power law by one of the other continua, add the step, and
        let the width grow with energy, each where the Bayesian information criterion asks for it.
    false_alarm : float
        Chance, between 0 and 0.5, of a false line where none is left to find.
    max_lines : int, optional
        Default: as many as leave 4/9 of the fitted bins as degrees of freedom.
    fix_to_catalogue : bool
        Fix the energies of lines that agree with a row of the catalogue (no doubtful one) to it,
        and fit again.
    calibrate : bool
        Compare with the catalogue on the energy scale that the lines themselves tell (offset and
        gain); data and fitted energies stay as they are. Not with `fix_to_catalogue`.
    pivot : Quantity or float, optional
        Of the continuum (keV); default: the middle of the axis.

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
    square), as a neighbour, the tail or the continuum then explains it. What was ruled out is tried
    again at the end, with all lines in place.
    """
    spectrum = given_spectrum(spectrum, mask)
    check_scale_options(calibrate, fix_to_catalogue)
    form = Form(continuum, width, bool(tail), bool(step))
    options = (form, false_alarm, max_lines, pivot, bend)
    search = _searched(spectrum, checked_settings(spectrum, sigma, *options))
    found = search.width_of_annihilation()
    if found and (found < SHOWS_PARTS) != (search.settings.sigma < SHOWS_PARTS):
        again = _searched(spectrum, checked_settings(spectrum, found, *options))
        search = min(search, again, key=lambda x: x.score(x.fit))
    return search.result(fix_to_catalogue, calibrate)


def _searched(spectrum: EnergySpectrum, settings: Settings) -> _Search:
    """A finished search."""
    search = _Search(spectrum, settings)
    search.run()
    if search.shape.form.continuum == settings.form.continuum:
        return search
    # a bend that lines caused which are found more easily without it
    straight = _Search(spectrum, replace(settings, bend=False))
    straight.run()
    return min(search, straight, key=lambda x: x.score(x.fit))


def check_search(spectrum: EnergySpectrum, **options: Any) -> None:
    """Refuse options of `find_lines` by a ModelError, without any work."""
    form = Form(*(options[name] for name in ("continuum", "width", "tail", "step")))
    known = ("sigma", "false_alarm", "max_lines", "pivot", "bend")
    sigma, false_alarm, max_lines, pivot, bend = (options[name] for name in known)
    checked_settings(spectrum, sigma, form, false_alarm, max_lines, pivot, bend)
    check_scale_options(options["calibrate"], options["fix_to_catalogue"])


class _Search:
    """The state of a search: lines, common shape, fit, and energies that were ruled out."""

    def __init__(self, spectrum: EnergySpectrum, settings: Settings) -> None:
        self.spectrum, self.settings = spectrum, settings
        self.grid = EnergyGrid.from_edges(spectrum.edges)
        self.segments = bins_to_ranges(spectrum.edges, spectrum.used)
        self.bin_width = float(np.median(spectrum.widths[spectrum.used]))
        self.banned: list[float] = []
        self.clusters: list[float] = []
        self.refused: set[Form] = set()
        self.scans = Scans(spectrum, settings.false_alarm)
        self.lines: list[TrialLine] = []
        self.stopped, self.unseen, self.lines_tried = "", False, 0
        middle = 0.5 * float(spectrum.edges[0] + spectrum.edges[-1])
        share = 0.5 * settings.sigma**2
        values = {"sigma": settings.sigma, "a": share, "b": share / middle, "step": 0.0}
        values |= dict(zip(("fraction", "length"), TAIL_START, strict=True))
        self.shape = Shape(values, settings.form)
        self.fit = TrialFit.of(fit_spectrum(self._model([], self.shape), spectrum))
        self.shape = fitted_shape(self.fit, self.shape)
        self.trials = Trials(len(self.segments), 0.0, math.inf)

    # --- geometry ---

    def width(self, energy: Any) -> Any:
        """Width of a line at some energies as the bins show it, keV."""
        return np.hypot(self.shape.sigma(energy), self.bin_width / math.sqrt(12.0))

    def separation(self, energy: Any) -> Any:
        """Least distance of two lines, keV."""
        return SEPARATION * self.width(energy)

    def width_of_annihilation(self) -> float | None:
        """Width of the lines at 511 keV, or of the one there if that is less; None if held."""
        line = next((x for x in self.lines if x.is_annihilation), None)
        if line is None:
            return None
        widths = [x for role, x in line.own if role == "sigma"]
        if len(self.lines) > 1 and self.shape.form.free_width:
            widths.append(float(self.shape.sigma(line.energy)))
        return min(widths, default=None)

    @property
    def threshold(self) -> float:
        """What a line's significance must exceed, standard deviations."""
        return self.trials.threshold

    @property
    def allowed(self) -> list[tuple[float, float]]:
        """Where lines may be, keV."""
        return allowed_ranges(self.segments, self.width)

    def _windows(self, lines: Sequence[TrialLine]) -> list[TrialLine]:
        return in_windows(lines, self.width, self.allowed)

    # --- fits ---

    def _model(self, lines: Sequence[TrialLine], shape: Shape) -> SpectralModel:
        return trial_model(self.settings, lines, shape)

    def _refit(
        self, lines: Sequence[TrialLine], shape: Shape, enough: float | None = None
    ) -> TrialFit | None:
        """The optimum close to these values, or None if there is none; as of `fit_quickly`."""
        try:
            model = self._model(self._windows(lines), shape)
            check_degrees_of_freedom(model, self.spectrum)
            return fit_quickly(model, self.spectrum, self.grid, enough=enough)
        except ModelError:
            return None

    def _accept(self, fit: TrialFit, shape: Shape) -> None:
        self.fit, self.lines, self.shape = fit, lines_of(fit), fitted_shape(fit, shape)

    def _room(self, form: Form) -> int:
        """How many lines leave 4/9 of the bins as degrees of freedom."""
        n_used = int(self.spectrum.used.sum())
        shared = 2 + 2 * (form.continuum != "powerlaw") + 1 + (form.width == "linear")
        shared += 2 * form.tail + form.step + any(x.is_annihilation for x in self.lines)
        room = (n_used - math.ceil(FREE_SHARE * n_used) - shared) // 2
        return min(self.settings.max_lines, max(room, 0))

    # --- steps ---

    def run(self) -> None:
        """Add lines until none is left that is significant.

        Once there is none other forms are tried. What was ruled out on the way is tried again with
        all lines in place, as long as that lowers the deviance, each line counted with the
        threshold's square.
        """
        best = math.inf
        state = (self.fit, self.lines, self.shape)
        bend = self.settings.bend
        while True:
            while self._step():
                if bend:
                    self._bend_early()
            self._settle(self.lines)
            if self._add_cluster() or (bend and (self._bend(_LEAST_GAIN) or self._straighten())):
                best = math.inf
                continue
            self._drop_what_is_no_peak()
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
        peaks = self._peaks()
        first = next(peaks, None)
        if first is None:
            self.stopped = (
                "no further candidate reaches that"
                if self.allowed
                else "nowhere is there room for a line between the mask and the ends of the axis"
            )
            return False
        room = self._room(self.shape.form)
        if len(self.lines) >= room:
            asked = self.settings.asked and room == self.settings.max_lines
            reason = "max_lines" if asked else "the number of fitted bins"
            self.stopped = (
                f"further candidates are left out: {room} lines are as many as {reason} allows"
            )
            return False
        new = self._together(first, peaks, room)
        for added in [new, new[:1]] if len(new) > 1 else [new]:
            fit = self._refit([*self.lines, *added], self.shape)
            gain = 0.0 if fit is None else self.fit.deviance - fit.deviance
            if fit is not None and gain > len(added) * self.threshold**2:
                break
        else:
            self.banned.append(new[0].energy)
            return True
        self._accept(fit, self.shape)
        self._settle(self.lines if self._free_shape() else added)
        for one in added:
            width = float(self.width(one.energy))
            if not any(abs(x.energy - one.energy) < width for x in self.lines):
                self.banned.append(one.energy)
        return True

    def _add_cluster(self) -> bool:
        """Add lines that hide each other's peaks, if with them the fit describes what is there."""
        banned, self.banned = self.banned, []  # each was ruled out without the others
        for _, start in self._candidates():
            if any(abs(start.energy - x) < self.separation(x) for x in self.clusters):
                continue
            self.clusters.append(start.energy)
            state, added = (self.fit, self.lines, self.shape), self._fill(start.energy)
            if added and self._describes(start.energy):
                self._settle(added)
                return True
            self.fit, self.lines, self.shape = state
        self.banned = banned
        return False

    def _fill(self, energy: float) -> list[TrialLine]:
        """Add the best candidates around an energy until the fit describes what is there."""
        reach = _CLUSTER_REACH * float(self.width(energy))
        added: list[TrialLine] = []
        room = min(_CLUSTER, self._room(self.shape.form) - len(self.lines))
        while len(added) < room and not self._describes(energy):
            found = self._candidates((energy - reach, energy + reach))
            line = next((x for _, x in found if abs(x.energy - energy) < reach), None)
            fit = None if line is None else self._refit([*self.lines, line], self.shape)
            if line is None or fit is None or self.fit.deviance - fit.deviance < self.threshold**2:
                break
            self._accept(fit, self.shape)
            added.append(line)
        return added

    def _describes(self, energy: float) -> bool:
        """Whether the fit describes the wider neighbourhood of an energy."""
        place = (energy, float(self.width(energy)))
        return described(self.spectrum, self.fit.counts_of_lines()[0], place, wide=True)

    def _candidates(
        self, near: tuple[float, float] | None = None
    ) -> Iterator[tuple[float, TrialLine]]:
        """Maxima of a scan and their significance, the largest first, peaks or not."""
        z, energies, amplitudes = self._scan(near)
        # the likelihood ratio differs by less where it matters
        likely = np.flatnonzero(maxima(z) & (z >= 0.9 * self.threshold))
        for i in likely[np.argsort(-z[likely], kind="stable")]:
            yield float(z[i]), TrialLine(float(energies[i]), max(float(amplitudes[i]), 1.0))

    def _peaks(self) -> Iterator[tuple[float, TrialLine]]:
        """Those of the candidates that are peaks, with their significance."""
        expected, of_lines = self.fit.counts_of_lines()
        residual = self.spectrum.counts - expected
        for z, line in self._candidates():
            if self._is_peak(line.energy, residual, (expected, of_lines)):
                yield z, line

    def _is_peak(self, energy: float, residual: Array, expected: tuple[Array, Array]) -> bool:
        edges, used = self.spectrum.edges, self.spectrum.used
        width = float(self.width(energy))
        low, high = np.searchsorted(edges, [energy - 20 * width, energy + 20 * width])
        part = slice(max(int(low) - 6, 0), min(int(high) + 5, used.size))
        inside = edges[part.start : part.stop + 1]
        line = self.shape.counts(inside, np.array([energy]))[0]
        return is_peak(
            (inside, used[part]), residual[part], (expected[0][part], expected[1][part]), line,
            (energy, width), self.threshold,
        )  # fmt: skip

    def _together(
        self, first: tuple[float, TrialLine], peaks: Iterator[tuple[float, TrialLine]], room: int
    ) -> list[TrialLine]:
        """The best candidate with those far from it and hardly weaker."""
        new = [first[1]]
        least = max(_TOGETHER * first[0], 2.0 * self.threshold)
        apart = 2.0 * _NEIGHBOURS * float(self.separation(first[1].energy))
        for z, line in peaks:
            if z < least or len(self.lines) + len(new) >= room:
                break
            if all(abs(line.energy - x.energy) > apart for x in new):
                new.append(line)
        return new

    def _free_shape(self) -> bool:
        """Fit width, tail and step too, once a line is strong enough; whether that is new."""
        form = self.shape.form
        strongest = max(c / e for c, e in self._amplitudes())
        free_tail = form.free_tail or ((form.tail or form.step) and strongest > TAIL_FROM)
        middle = float(np.mean([x.energy for x in self.lines]))
        seen = not hides_width(self.bin_width, float(self.shape.sigma(middle)))
        free_width = form.free_width or (seen and strongest > WIDTH_FROM)
        strong = replace(form, free_width=free_width, free_tail=free_tail)
        released = strong != form
        if seen and not strong.free_width:
            strong = replace(strong, free_width=True)
        if strong == form:
            return False
        values = dict(self.shape.values)
        if strong.step and strong.free_tail and not form.free_tail:
            values["step"] = 1e-3
        fit = self._refit(self.lines, Shape(values, strong))
        if fit is None or not (released or self.fit.deviance - fit.deviance > _WIDTH_GAIN):
            return False
        if strong.free_width and unseen_widths(fit):
            self.unseen = True  # further lines may show it
            return False
        self.unseen = False
        self._accept(fit, Shape(values, strong))
        self.banned.clear()  # ruled out with another shape
        return True

    # --- other forms ---

    def score(self, fit: TrialFit) -> float:
        """Deviance and ln(bins) for each parameter: the Bayesian information criterion."""
        return fit.deviance + math.log(int(self.spectrum.used.sum())) * fit.model.free.size

    def _bend_early(self) -> None:
        """Take another form on the way, where it halves the deviance.

        Any while there are few lines: those still to be found bend the continuum too, but not that
        much. Later a width that grows, each time there are half as many lines again: lines of the
        wrong width leave residuals that look like further lines.
        """
        n_lines, half = len(self.lines), 0.5 * self.fit.deviance
        if n_lines < _FEW:
            self._bend(half)
        elif n_lines >= 1.5 * self.lines_tried and self.shape.form.width == "constant":
            self.lines_tried = n_lines
            self._bend(half, "linear")

    def _bend(self, least: float, width: str | None = None) -> bool:
        """Take the other form that BIC prefers most, by `least`; whether there is one.

        With `width` of those with such a width only.
        """
        best, found = self.score(self.fit) - least, None
        for shape in self._other_forms():
            if width not in (None, shape.form.width):
                continue
            if shape.form in self.refused or len(self.lines) > self._room(shape.form):
                continue
            if not self._is_promising(shape, best):
                continue
            fit = self._refit(self.lines, shape)
            if fit is None or not self.score(fit) < best:
                continue
            limits = {x for x in fit.at_limits if not x.startswith(_OF_LINES)}
            if fit.is_determined and not limits - set(self.fit.at_limits):
                best, found = self.score(fit), (fit, shape)
                # a break fits lines that are still to be found better than it should
                best -= _BREAK_GAIN * (shape.form.continuum == _POLYNOMIAL)
        if found is None:
            return False
        self._accept(*found)
        self.banned.clear()
        self._settle(self.lines)
        return True

    def _is_promising(self, shape: Shape, best: float) -> bool:
        """Whether one step of scoring in another form may lead to this value of BIC."""
        model = self._model(self._windows(self.lines), shape)
        fall, value = expected_fall(model, self.spectrum, self.grid)
        n_used = int(self.spectrum.used.sum())
        return value - 3.0 * fall + math.log(n_used) * model.free.size < best

    def _straighten(self) -> bool:
        """Go back to a simpler form, where all lines together no longer need the other one."""
        form, asked = self.shape.form, self.settings.form
        for name in ("step", "width", "continuum"):
            if getattr(form, name) == getattr(asked, name):
                continue
            shape = self._simpler_shape(replace(form, **{name: getattr(asked, name)}))
            fit = self._refit(self.lines, shape)
            if fit is not None and self.score(fit) <= self.score(self.fit) + _LEAST_GAIN:
                self.refused.add(form)
                self._accept(fit, shape)
                self.banned.clear()
                self._settle(self.lines)
                return True
        return False

    def _simpler_shape(self, form: Form) -> Shape:
        """The common shape in a simpler form."""
        values = dict(self.shape.values)
        if form.width != self.shape.form.width:
            values["sigma"] = float(self.shape.sigma(np.mean([x.energy for x in self.lines])))
        if self.shape.form.continuum == "broken_powerlaw" != form.continuum:
            values["index"] = 0.5 * (values["alpha"] + values["beta"])
        return Shape(values, form)

    def _other_forms(self) -> Iterator[Shape]:
        form, values = self.shape.form, self.shape.values
        if form.continuum == "powerlaw":
            index = values["index"]
            yield Shape({**values, "c2": 0.0, "c3": 0.0}, replace(form, continuum=_POLYNOMIAL))
            used = self.spectrum.centers[self.spectrum.used]
            for share in (0.25, 0.5, 0.75):
                broken = {"alpha": index, "beta": index, "xb": float(used[int(share * used.size)])}
                yield Shape({**values, **broken}, replace(form, continuum="broken_powerlaw"))
        ratios = [c / e for c, e in self._amplitudes()] if self.lines else []
        if not form.step and max(ratios, default=0.0) > TAIL_FROM:
            yield Shape({**values, "step": 0.0}, replace(form, step=True, free_tail=True))
        strong = [x.energy for x, r in zip(self.lines, ratios, strict=True) if r > WIDTH_FROM]
        if form.width == "constant" and form.free_width and len(strong) > 2:
            growing = {"a": values["sigma"] ** 2, "b": 0.0}
            yield Shape({**values, **growing}, replace(form, width="linear"))

    # --- dropping lines ---

    def _settle(self, near: Sequence[TrialLine]) -> None:
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
        names = enumerate(self._names())
        return [i for i, (_, mu) in names if mu in at and not self.lines[i].is_annihilation]

    def _names(self) -> list[tuple[str, str]]:
        """Names of each line's parameters: its counts and its energy."""
        model = self.fit.model
        names = model.names
        lines = [model.components[i] for i in model.lines]
        return [(names[line.area], names[line.energy]) for line in lines]

    def _amplitudes(self) -> list[tuple[float, float]]:
        """Counts of each line and their error; infinite for one on a limit."""
        errors = self.fit.errors
        names = [counts for counts, _ in self._names()]
        return [(x.counts, errors.get(n, math.inf)) for x, n in zip(self.lines, names, strict=True)]

    def _weakest(self, near: list[float]) -> int | None:
        """The least significant line around these energies, if it is below the threshold."""
        ratios = [counts / max(error, 1e-300) for counts, error in self._amplitudes()]
        energies = np.array(near)
        for i in np.argsort(ratios):
            if ratios[i] > 2.0 * self.threshold:  # no refit needed to tell
                return None
            energy = self.lines[i].energy
            if not np.any(np.abs(energies - energy) < _NEIGHBOURS * self.separation(energy)):
                continue
            if not self._gain(i) > self.threshold**2:
                return int(i)
        return None

    def _gain(self, i: int) -> float:
        """TS of a line, all others free to move: the deviance without it less that with it.

        Exact only where it comes to comparing it with the threshold.
        """
        around = self._around(i)
        if around.is_whole:
            enough = self.fit.deviance + self.threshold**2
            without = self._refit(self.lines[:i] + self.lines[i + 1 :], self.shape, enough)
            return math.inf if without is None else without.deviance - self.fit.deviance
        gain = self._gain_around(i, around, move=True)
        if not self.threshold**2 < gain < 3.0 * self.threshold**2:
            return gain
        without = self._refit(self.lines[:i] + self.lines[i + 1 :], self.shape)
        return math.inf if without is None else without.deviance - self.fit.deviance

    def _around(self, i: int) -> Neighbourhood:
        """The neighbourhood of a line."""
        energy = self.lines[i].energy
        return Neighbourhood.of(self.fit, (self.spectrum, self.grid), energy, self.width(energy))

    def _gain_around(self, i: int, around: Neighbourhood, *, move: bool) -> float:
        """TS of a line in its neighbourhood.

        Lines in it are free, and their energies with `move`; what lies outside is as in the fit.
        """
        with_it = [self.lines[k] for k in around.lines]
        without = [self.lines[k] for k in around.lines if k != i]
        if move:
            without = self._windows(without)
        else:
            without, with_it = ([replace(x, fixed=True) for x in y] for y in (without, with_it))
        lower, higher = (around.fit(self._model(x, self.shape)) for x in (with_it, without))
        return higher.deviance - lower.deviance if lower and higher else math.inf

    def _drop(self, i: int) -> bool:
        """Take a line out, for good; False if the others cannot be fitted without it."""
        self.banned.append(self.lines[i].energy)
        fit = self._refit(self.lines[:i] + self.lines[i + 1 :], self.shape)
        if fit is not None:
            self._accept(fit, self.shape)
        return fit is not None

    def _drop_what_is_no_peak(self) -> None:
        """Take out lines that do not stand out of their neighbourhood, the weakest first."""
        while self.lines:
            expected, of_lines = self.fit.counts_of_lines()
            ratios = [counts / max(error, 1e-300) for counts, error in self._amplitudes()]
            for i in np.argsort(ratios):
                line = self.lines[i]
                if line.is_annihilation:
                    continue
                shape = self.shape.counts(self.spectrum.edges, np.array([line.energy]))[0]
                own = line.counts * shape
                rest = (np.maximum(expected - own, 0.0), np.maximum(of_lines - own, 0.0))
                if not self._is_peak(line.energy, self.spectrum.counts - expected + own, rest):
                    break
            else:
                return
            if not self._drop(int(i)):
                return

    # --- scan ---

    def _scan(self, near: tuple[float, float] | None = None) -> tuple[Array, Array, Array]:
        """Score test of one more line: significance, energy [keV], counts, shape (n,) each.

        At energies away from the lines, and from what was ruled out. Sets the threshold. Where
        `near` is given, energies elsewhere may be missing.
        """
        found, self.trials = self.scans.of(self.fit, self.shape, self.width, self.allowed, near)
        energies, least = found.energies, self.separation(found.energies)
        free = are_away(energies, [x.energy for x in self.lines], least)
        free &= are_away(energies, self.banned, 0.5 * least)
        return found.significance[free], energies[free], found.amplitudes[free]

    # --- the end ---

    def result(self, fix_to_catalogue: bool, calibrate: bool) -> LineSearch:
        """The last fit, by `fit_spectrum`, and what it says of each line."""
        fit = self._last_fit()
        if fix_to_catalogue:
            fit = self._fixed(fit)
        scale = energy_scale(fit) if calibrate else None
        errors, found = fit.errors, []
        known = {x.parameter: x.matches for x in identify_lines(fit, scale=scale)}
        expected = self.fit.objective.bound.counts(fit.theta)
        for i, (line, (counts, energy)) in enumerate(zip(self.lines, self._names(), strict=True)):
            gain = self._gain_around(i, self._around(i), move=False)
            significance = math.sqrt(max(gain, 0.0))
            place = (line.energy, float(self.width(line.energy)))
            found.append(
                FoundLine(
                    energy,
                    line.energy,
                    errors.get(energy),
                    known.get(energy, ()),
                    line.counts,
                    errors.get(counts),
                    significance,
                    self.trials.global_significance(significance),
                    line.window,
                    described(self.spectrum, expected, place),
                )
            )
        middle = 0.5 * float(self.spectrum.edges[0] + self.spectrum.edges[-1])
        hidden = self.unseen or hides_width(self.bin_width, float(self.shape.sigma(middle)))
        vague = [x.energy for x in found if any(not match.known for match in x.matches)]
        notes = search_notes(
            fit, self.lines, self.shape, self.settings.form, self.bin_width, hidden, vague
        )
        return LineSearch(
            tuple(found), fit, self.settings.false_alarm, self.threshold, self.stopped,
            tuple(notes), self.shape.form.options, scale, calibrate,
        )  # fmt: skip

    def _last_fit(self) -> LineBackgroundFit:
        """The fit of all that was found; lines that end on a limit there are left out."""
        for attempt in range(_MAX_MOVES + 1):
            model = self._model(self._windows(self.lines), self.shape)
            try:
                fit = fit_spectrum(model, self.spectrum)
            except FitError:
                if attempt == _MAX_MOVES or not self._simpler():
                    raise
                continue
            self._accept(TrialFit.of(fit), self.shape)
            stuck = self._stuck()
            if not stuck or attempt == _MAX_MOVES:
                break
            if not self._moved() or self._stuck():
                self._drop(min(self._stuck() or stuck, key=lambda i: self.lines[i].counts))
        return fit

    def _simpler(self) -> bool:
        """Take what the data do not determine out of the fit; False if nothing is left to take.

        First a tail without counts is held, then the form asked for comes back, then any tail is
        held where it began, then the weakest line goes.
        """
        asked, form = self.settings.form, self.shape.form
        held = replace(form, free_tail=False)
        simple = replace(asked, free_width=form.free_width, free_tail=form.free_tail)
        shapes = []
        if form.tail and form.free_tail and self.shape.values["fraction"] < 1e-3:
            shapes.append(Shape({**self.shape.values, "fraction": 0.0}, held))
        if form.options != asked.options:
            shapes.append(self._simpler_shape(simple))
        if form.tail and form.free_tail:
            start = dict(zip(("fraction", "length"), TAIL_START, strict=True))
            shapes.append(Shape({**self.shape.values, **start}, held))
        for shape in shapes:
            fit = self._refit(self.lines, shape)
            if fit is not None:
                self._accept(fit, shape)
                self._settle(self.lines)
                return True
        ratios = [counts / max(error, 1e-300) for counts, error in self._amplitudes()]
        if not ratios or min(ratios) > 2.0 * self.threshold:
            return False
        return self._drop(int(np.argmin(ratios)))

    def _fixed(self, fit: LineBackgroundFit) -> LineBackgroundFit:
        """The fit with energies fixed where the catalogue knows them, each row for one line."""
        errors = fit.errors
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
        try:
            fixed = fit_spectrum(self._model(self._windows(lines), self.shape), self.spectrum)
        except FitError as error:
            raise FitError(
                "The fit with the energies fixed to the catalogue failed; leave them free.", fit
            ) from error
        self._accept(TrialFit.of(fixed), self.shape)
        return fixed
