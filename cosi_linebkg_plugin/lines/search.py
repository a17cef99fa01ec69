"""Which lines a spectrum holds: one line at a time, until no more is significant.

Each step fits all lines found so far and scans the residuals with the score test for one more line
(Rao 1948, Proc. Camb. Phil. Soc. 44, 50), with what the model's own parameters can explain
projected out. The best candidate is confirmed by a refit: its TS, twice the gain in log-likelihood,
must exceed u^2, where a spectrum without a further line has the chance

    p(u) = n Phi(-u) + L / (2 pi) exp(-u^2 / 2)

of such a candidate anywhere. L is the length of the curve that the projected line shape, scaled to
unit length, draws as its energy runs over the n unmasked segments of the axis: Rice's rate of
up-crossings (1944, Bell Syst. Tech. J. 23, 282) in the geometry of Pilla, Loader & Taylor (2005,
PRL 95, 230202), which Gross & Vitells (2010, EPJ C 70, 525) count in simulations.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_ndtr, ndtri_exp

from ..errors import DataError, FitError, ModelError
from ..fit.minimise import fit_spectrum
from ..fit.objective import Objective
from ..fit.result import LineBackgroundFit
from ..model.spec import SIGMA_LIMITS, numerical_model, spectrum_parts
from ..spectrum.axis import EnergySpectrum, bins_to_ranges
from ..spectrum.components import Component, Parameter, SpectralModel
from ..spectrum.lineshapes import gaussian_counts, tailed_gaussian_counts
from ..units import in_kev, to_kev
from .identify import IdentifiedLine, identify_lines, match_energy

if TYPE_CHECKING:
    from astromodels import Model

#: Default chance of a false line in a spectrum without further lines.
FALSE_ALARM = 0.05

#: Two lines are at least this many widths apart (the width with that of a bin in it).
SEPARATION = 2.0

#: A line is at least this many widths away from the mask and from the ends of the axis.
MARGIN = 1.0

#: Share of the fitted bins that stays as degrees of freedom: 40 of 90.
FREE_SHARE = 4.0 / 9.0

#: The scan's energies per width; the refit moves a line in between.
_STEPS_PER_WIDTH = 4

#: A line moves by at most this many widths in one fit; its window then follows it.
_WINDOW = 2.0

#: The width is fitted, within this factor of its start value, once a line is this significant,
#: and the tail once one is this significant: weaker lines leave them undetermined.
_WIDTH_FACTOR, _WIDTH_FROM, _TAIL_FROM = 3.0, 10.0, 30.0

_TAIL_START, _TAIL_LENGTHS = (0.2, 10.0), (0.5, 200.0)  # share and keV; keV

#: How often a line that ends on the limit of its window may be followed before it is dropped.
_MAX_MOVES = 5

#: A line this many times weaker than another within this many widths may be that one's shape.
_SATELLITE_RATIO, _SATELLITE_REACH = 20.0, 8.0

#: Lines closer than this many bins may take as many parameters as they have bins.
_CROWDED = 2.5

#: Candidates with this share of the best one's significance are added with it, if far from it.
_TOGETHER = 0.5

#: A new line puts in question those within this many separations.
_NEIGHBOURS = 3.0

#: A candidate is not looked at if the model explains more than this share of its square.
_EXPLAINED = 0.9

#: Numbers in one block of line shapes.
_BLOCK = 500_000


@dataclass(frozen=True)
class FoundLine(IdentifiedLine):
    """A line that `find_lines` found; it may stand among the lines of a `background_model`.

    Attributes
    ----------
    parameter, energy, error, matches
        See `IdentifiedLine`; the error is None for an energy fixed to the catalogue.
    counts, counts_error : float
    significance : float
        Square root of TS, the gain in deviance over the refit without this line: the significance
        at an energy known beforehand.
    global_significance : float
        The same with the chance counted that a candidate may turn up at any energy.
    window : (low, high), keV
        Where the last fit let the line move.
    """

    counts: float
    counts_error: float | None
    significance: float
    global_significance: float
    window: tuple[float, float]

    @property
    def global_p_value(self) -> float:
        """Chance of such a line anywhere in a spectrum without it."""
        return math.exp(float(log_ndtr(-self.global_significance)))


@dataclass(frozen=True)
class LineSearch:
    """What `find_lines` found.

    Attributes
    ----------
    lines : tuple of FoundLine
        In order of energy.
    fit : LineBackgroundFit
        The power law and all lines.
    false_alarm : float
        Chance of a false line in a spectrum without further lines.
    threshold : float
        The local significance that this asks of a line.
    stopped : str
        Why no further line was added.
    notes : tuple of str
        What a user must know.
    """

    lines: tuple[FoundLine, ...]
    fit: LineBackgroundFit
    false_alarm: float
    threshold: float
    stopped: str
    notes: tuple[str, ...] = ()

    def model(self, *, pivot: Any = None, source: str | None = None) -> Model:
        """The astromodels model of the fit, its values set, ready for any threeML session.

        A line at 511 keV gets a width of its own, which the search does not have.

        Parameters
        ----------
        pivot : Quantity or float, optional
            Pivot energy of the power law (keV); default: that of the search.
        source : str, optional
            See `background_model`.
        """
        from ..model.build import DEFAULT_SOURCE, background_model

        numbers = self.numerical_model(pivot=pivot)
        source = DEFAULT_SOURCE if source is None else source
        pivot, tail = self._pivot_and_tail(pivot)
        model = background_model(self.lines, pivot=pivot, tail=tail, source=source)
        shape = getattr(model, source).spectrum.main.shape
        for parameter in numbers.parameters:
            target = shape.parameters[parameter.name]
            target.value, target.free = parameter.value, parameter.free
        return model

    def numerical_model(self, *, pivot: Any = None) -> SpectralModel:
        """The same model in numbers, which needs no astromodels.

        Parameters
        ----------
        pivot : Quantity or float, optional
            As of `model`.
        """
        values, found = self.fit.values, {p.name: p for p in self.fit.model.parameters}
        pivot, tail = self._pivot_and_tail(pivot)
        values["K_1"] *= (pivot / values["piv_1"]) ** values["index_1"]
        values["piv_1"] = pivot
        model = numerical_model(spectrum_parts(self.lines, pivot=pivot, tail=tail))
        parameters = []
        for parameter in model.parameters:
            name = parameter.name if self.lines else f"{parameter.name}_1"
            if name.startswith("sigma_"):  # a line at 511 keV has a width of its own
                name = "sigma_2"
            parameters.append(replace(parameter, value=values[name], free=found[name].free))
        return SpectralModel(tuple(parameters), model.components, model.links)

    def _pivot_and_tail(self, pivot: Any) -> tuple[float, bool]:
        tail = any(c.kind == "tailed_gaussian" for c in self.fit.model.components)
        return self.fit.values["piv_1"] if pivot is None else to_kev(pivot), tail

    def to_dict(self) -> dict[str, Any]:
        """What was found as plain Python types, ready for JSON."""
        return {
            "false_alarm": self.false_alarm,
            "threshold": self.threshold,
            "stopped": self.stopped,
            "notes": list(self.notes),
            "lines": [
                {
                    "parameter": x.parameter,
                    "energy": x.energy,
                    "error": x.error,
                    "counts": x.counts,
                    "counts_error": x.counts_error,
                    "significance": x.significance,
                    "global_significance": x.global_significance,
                    "name": x.name,
                    "catalogue": [
                        {"isotope": m.line.isotope, "energy": m.line.energy}
                        for m in x.matches
                        if m.agrees
                    ],
                }
                for x in self.lines
            ],
        }

    def __str__(self) -> str:
        return f"{search_table(self.to_dict())}\n{self.fit.summary()}"


def search_table(search: Mapping[str, Any]) -> str:
    """A search as text, from `LineSearch.to_dict` or the key "line_search" of a fit.json."""
    lines = search["lines"]
    text = []
    if lines:
        text.append(
            f"{'energy [keV]':<18} {'counts':>15} {'local':>6} {'global':>6}  {'name':<6} "
            "catalogue [keV]"
        )
    for x in lines:
        energy = f"{x['energy']:.2f} " + ("fixed" if x["error"] is None else f"± {x['error']:.2f}")
        counts = f"{x['counts']:.0f} ± {x['counts_error'] or 0.0:.0f}"
        rows = ", ".join(f"{m['isotope']} {m['energy']:.2f}" for m in x["catalogue"])
        text.append(
            f"{energy:<18} {counts:>15} {x['significance']:>6.1f} "
            f"{x['global_significance']:>6.1f}  {x['name'] or '-':<6} {rows or '-'}"
        )
    number = {0: "no line", 1: "1 line"}.get(len(lines), f"{len(lines)} lines")
    text.append(
        f"{number} found above {search['threshold']:.2f} sigma, the chance of a false one anywhere "
        f"being {search['false_alarm']:.2g}; {search['stopped']}."
    )
    return "\n".join([*text, *(f"note: {note}" for note in search["notes"])])


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
    search = _Search(spectrum, _settings(spectrum, sigma, tail, false_alarm, max_lines, pivot))
    search.run()
    return search.result(fix_to_catalogue)


def check_search(spectrum: EnergySpectrum, **options: Any) -> None:
    """Refuse options of `find_lines` that a spectrum cannot be searched with, without any work.

    Raises
    ------
    ModelError
    """
    known = ("sigma", "tail", "false_alarm", "max_lines", "pivot")
    _settings(spectrum, *(options[name] for name in known))


# --- the model of a step ----------------------------------------------------------------------


@dataclass(frozen=True)
class _Settings:
    sigma: float
    tail: bool
    false_alarm: float
    max_lines: int
    pivot: float
    asked: bool = False  # whether max_lines is the user's


@dataclass(frozen=True)
class _Line:
    """Start values of a line, and the energies that it may take."""

    energy: float
    counts: float
    window: tuple[float, float] = (0.0, 0.0)
    fixed: bool = False


@dataclass(frozen=True)
class _Shape:
    """Width and tail that the lines share, and which of them are fitted."""

    sigma: float
    fraction: float = 0.0
    length: float = 1.0
    tail: bool = False
    free_sigma: bool = False
    free_tail: bool = False

    def counts(self, edges: NDArray[np.float64], energies: NDArray[np.float64]):
        """Counts per bin of lines of unit amplitude, shape (n_energies, n_bins)."""
        if self.tail:
            shape = (self.sigma, self.fraction, self.length)
            return tailed_gaussian_counts(edges, 1.0, energies, *shape)[1][:, 0]
        return gaussian_counts(edges, 1.0, energies, self.sigma)[1][:, 0]


def _spectral_model(
    settings: _Settings, continuum: tuple[float, float], lines: list[_Line], shape: _Shape
) -> SpectralModel:
    """A power law and lines of one shape, with the names that `background_model` gives."""
    k, index = continuum
    parameters = [
        Parameter("K_1", k, "1/keV", 1e-10),
        Parameter("piv_1", settings.pivot, "keV", free=False),
        Parameter("index_1", index, "", -20.0, 20.0),
    ]
    components = [Component("powerlaw", (0, 1, 2))]
    limits = (
        max(settings.sigma / _WIDTH_FACTOR, SIGMA_LIMITS[0]),
        min(settings.sigma * _WIDTH_FACTOR, SIGMA_LIMITS[1]),
    )
    shared: list[Parameter] = [
        Parameter("sigma", shape.sigma, "keV", *limits, free=shape.free_sigma)
    ]
    if shape.tail:
        free = shape.free_tail
        shared += [
            Parameter("fraction", shape.fraction, "", 0.0, 1.0, free=free),
            Parameter("length", shape.length, "keV", *_TAIL_LENGTHS, free=free),
        ]
    links: dict[str, str] = {}
    slots: tuple[int, ...] = ()
    for n, line in enumerate(lines, start=2):
        own = len(parameters)
        parameters.append(Parameter(f"F_{n}", line.counts, "", 0.0))
        parameters.append(
            Parameter(f"mu_{n}", line.energy, "keV", *line.window, free=not line.fixed)
        )
        if not slots:
            slots = tuple(range(own + 2, own + 2 + len(shared)))
            parameters += [replace(p, name=f"{p.name}_{n}") for p in shared]
        else:
            links |= {f"{p.name}_{n}": f"{p.name}_2" for p in shared}
        kind = "tailed_gaussian" if shape.tail else "gaussian"
        components.append(Component(kind, (own, own + 1, *slots)))
    return SpectralModel(tuple(parameters), tuple(components), links)


class _Search:
    """The state of a search: lines, shared shape, fit, and energies that were ruled out."""

    def __init__(self, spectrum: EnergySpectrum, settings: _Settings):
        self.spectrum, self.settings = spectrum, settings
        self.segments = bins_to_ranges(spectrum.edges, spectrum.used)
        self.bin_width = float(np.median(spectrum.widths[spectrum.used]))
        self.shape = _Shape(settings.sigma, *_TAIL_START, tail=settings.tail)
        self.banned: list[float] = []
        self.lines: list[_Line] = []
        self.stopped = ""
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

    def _windows(self, lines: list[_Line]) -> list[_Line]:
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

    def _model(self, lines, shape, continuum=None):
        if continuum is None:
            values = self.fit.values
            continuum = (values["K_1"], values["index_1"])
        return _spectral_model(self.settings, continuum, lines, shape)

    def _refit(self, lines: list[_Line], shape: _Shape) -> LineBackgroundFit | None:
        """The fit with these lines, or None if it fails."""
        try:
            return fit_spectrum(self._model(self._windows(lines), shape), self.spectrum)
        except (FitError, ModelError):
            return None

    @staticmethod
    def _lines_of(fit: LineBackgroundFit) -> list[_Line]:
        """The lines of a fit at their fitted values."""
        found = []
        for c in fit.model.components:
            if c.label == "lines":
                mu = fit.model.parameters[c.slots[1]]
                values = fit.theta[list(c.slots[:2])]
                found.append(
                    _Line(float(values[1]), float(values[0]), (mu.low, mu.high), not mu.free)
                )
        return found

    @staticmethod
    def _shape_of(fit: LineBackgroundFit, shape: _Shape) -> _Shape:
        values = fit.values
        if "sigma_2" not in values:
            return shape
        shape = replace(shape, sigma=values["sigma_2"])
        if shape.tail:
            shape = replace(shape, fraction=values["fraction_2"], length=values["length_2"])
        return shape

    def _accept(self, fit: LineBackgroundFit, shape: _Shape) -> None:
        self.fit, self.lines, self.shape = fit, self._lines_of(fit), self._shape_of(fit, shape)

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
        self, z: NDArray, energies: NDArray, amplitudes: NDArray
    ) -> Iterator[list[_Line]]:
        """Lines to add: the best with those far from it and hardly weaker, then the best alone."""
        new: list[_Line] = []
        apart = 2.0 * _NEIGHBOURS * self.separation
        least = max(_TOGETHER * z.max(), 2.0 * self.threshold)
        for i in np.argsort(-z, kind="stable"):
            if new and (z[i] < least or len(self.lines) + len(new) >= self.settings.max_lines):
                break
            if all(abs(energies[i] - x.energy) > apart for x in new):
                new.append(_Line(float(energies[i]), max(float(amplitudes[i]), 1.0)))
        yield new
        if len(new) > 1:
            yield new[:1]

    def _free_shape(self) -> bool:
        """Fit width and tail too, once a line is strong enough; whether that is new."""
        strongest = max(c / e for c, e in self._amplitudes())
        shape = replace(
            self.shape,
            free_sigma=self.shape.free_sigma or strongest > _WIDTH_FROM,
            free_tail=self.shape.free_tail or (self.shape.tail and strongest > _TAIL_FROM),
        )
        fit = self._refit(self.lines, shape) if shape != self.shape else None
        if fit is not None:
            self._accept(fit, shape)
            self.banned.clear()  # ruled out with another shape
        return fit is not None

    def _settle(self, near: list[_Line]) -> None:
        """Let windows follow the lines; drop those that end on a limit, and of those around the
        lines `near` those that explain nothing."""
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
        return [i for i in range(len(self.lines)) if f"mu_{i + 2}" in at]

    def _amplitudes(self) -> list[tuple[float, float]]:
        """Counts of each line and their error; infinite for one on a limit."""
        errors = self.fit.errors
        return [(x.counts, errors.get(f"F_{i + 2}", math.inf)) for i, x in enumerate(self.lines)]

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
        lines = [c.slots for c in model.components if c.label == "lines"]
        held = {slots[1] for slots in lines}
        gains = []
        for slots in lines:
            start = theta.copy()
            start[slots[0]] = 0.0
            free = np.array([k for k in model.free if k not in held and k != slots[0]])
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

    def _scan(self) -> tuple[NDArray, NDArray, NDArray]:
        """Score test of one more line: significance, energy [keV], counts, shape (n,) each.

        Sets the threshold.
        """
        step = self.width / _STEPS_PER_WIDTH
        energies = [
            np.linspace(low, high, max(2, math.ceil((high - low) / step) + 1))
            for low, high in self.allowed
        ]
        self.trials = (max(len(energies), 1), sum(self._curve_length(e) for e in energies))
        self.threshold = _threshold(self.settings.false_alarm, *self.trials)
        allowed = np.concatenate([np.zeros(0), *energies])
        keep = np.ones(allowed.size, bool)
        for line in self.lines:
            keep &= np.abs(allowed - line.energy) >= self.separation
        for energy in self.banned:
            keep &= np.abs(allowed - energy) >= 0.5 * self.separation
        allowed = allowed[keep]
        residual, scale, basis = self._residuals(self.fit.covariance_names)
        z, amplitude = np.zeros(allowed.size), np.zeros(allowed.size)
        for part in self._blocks(allowed.size):
            shapes = self.shape.counts(self.spectrum.edges, allowed[part])[:, self.spectrum.used]
            shapes = shapes * scale
            full = np.sum(shapes**2, axis=1)
            shapes -= (shapes @ basis) @ basis.T
            own = np.sum(shapes**2, axis=1)
            ok = own > (1.0 - _EXPLAINED) * full
            projected = shapes @ residual
            z[part] = np.where(ok, projected / np.sqrt(np.maximum(own, 1e-300)), 0.0)
            amplitude[part] = np.where(ok, projected / np.maximum(own, 1e-300), 0.0)
        return z, allowed, amplitude

    def _residuals(self, free: Sequence[str]):
        """Pearson residuals, weights of the bins, and an orthonormal basis of what the parameters
        `free` can change, shapes (n_used,), (n_used,), (n_used, n_free)."""
        used, fit = self.spectrum.used, self.fit
        expected, jac = fit.model.bind(self.spectrum.edges).counts_and_jacobian(fit.theta)
        rows = [fit.model.names.index(name) for name in free]
        scale = 1.0 / np.sqrt(np.maximum(expected[used], 1e-9))
        basis = np.linalg.qr((jac[rows][:, used] * scale).T)[0]
        return (self.spectrum.counts[used] - expected[used]) * scale, scale, basis

    def _curve_length(self, energies: NDArray) -> float:
        """Length of the curve that the normalised line shapes draw over one segment, with what
        the continuum can explain projected out."""
        _, scale, basis = self._residuals(("K_1", "index_1"))
        total, last = 0.0, None
        for part in self._blocks(energies.size):
            shapes = self.shape.counts(self.spectrum.edges, energies[part])[:, self.spectrum.used]
            shapes = shapes * scale
            shapes -= (shapes @ basis) @ basis.T
            shapes /= np.maximum(np.linalg.norm(shapes, axis=1, keepdims=True), 1e-300)
            if last is not None:
                shapes = np.vstack([last, shapes])
            cosines = np.sum(shapes[1:] * shapes[:-1], axis=1)
            total += float(np.sum(np.arccos(np.clip(cosines, -1.0, 1.0))))
            last = shapes[-1:]
        return total

    def _blocks(self, n: int) -> Iterator[slice]:
        size = max(2, _BLOCK // (5 * self.spectrum.n_bins))
        for start in range(0, n, size):
            yield slice(start, start + size)

    # --- the end ---

    def result(self, fix_to_catalogue: bool) -> LineSearch:
        if fix_to_catalogue:
            self._fix()
        errors, found = self.fit.errors, []
        known = {x.parameter: x.matches for x in identify_lines(self.fit)}
        for i, (line, gain) in enumerate(zip(self.lines, self._gains_in_place(), strict=True)):
            significance = math.sqrt(max(gain, 0.0))
            error = errors.get(f"mu_{i + 2}")
            found.append(
                FoundLine(
                    f"mu_{i + 2}",
                    line.energy,
                    error,
                    known.get(f"mu_{i + 2}", ()),
                    line.counts,
                    errors.get(f"F_{i + 2}"),
                    significance,
                    _global_significance(significance, *self.trials),
                    line.window,
                )
            )
        return LineSearch(
            tuple(found), self.fit, self.settings.false_alarm, self.threshold, self.stopped,
            tuple(self._notes()),
        )  # fmt: skip

    def _notes(self) -> Iterator[str]:
        shape, unknown = self.shape, "no line is strong enough to tell"
        if self.lines and not shape.free_sigma:
            yield f"the width is held at {shape.sigma:g} keV: {unknown}"
        if self.lines and shape.tail and not shape.free_tail:
            tail = f"a share of {shape.fraction:g} and a length of {shape.length:g} keV"
            yield f"the tail is held at {tail}: {unknown}"
        for name in self.fit.at_limits:
            yield f"{name} sits on its limit, {self.fit.values[name]:.5g}"
        satellites = [
            f"{x.energy:.1f}"
            for x in self.lines
            if any(
                abs(x.energy - o.energy) < _SATELLITE_REACH * self.width
                and _SATELLITE_RATIO * x.counts < o.counts
                for o in self.lines
            )
        ]
        if satellites:
            yield (
                f"{', '.join(satellites)} keV: beside a line {_SATELLITE_RATIO:g} times as strong; "
                "the shape of that one may explain it"
            )
        crowds = [f"{low:.0f}-{high:.0f}" for low, high in self._crowds()]
        if crowds:
            yield (
                f"{', '.join(crowds)} keV: the lines have as many parameters as bins; residuals of "
                "0 say nothing there"
            )

    def _crowds(self) -> Iterator[tuple[float, float]]:
        """Ranges [keV] in which the lines leave no bins over."""
        crowd: list[float] = []
        spectrum = self.spectrum
        for energy in [*(x.energy for x in self.lines), math.inf]:
            if crowd and energy - crowd[-1] > _CROWDED * self.bin_width:
                low, high = crowd[0] - self.width, crowd[-1] + self.width
                bins = (spectrum.edges[1:] > low) & (spectrum.edges[:-1] < high) & spectrum.used
                if len(crowd) > 1 and 2 * len(crowd) >= bins.sum():
                    yield low, high
                crowd = []
            crowd.append(energy)

    def _fix(self) -> None:
        """Fix the energies of lines that the catalogue knows, each row for one line."""
        errors = self.fit.errors
        best: dict[float, tuple[float, int]] = {}
        for i, line in enumerate(self.lines):
            match = next(iter(match_energy(line.energy, errors.get(f"mu_{i + 2}"))), None)
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


# --- chance -----------------------------------------------------------------------------------


def _log_chance(u: float, segments: int, length: float) -> float:
    """Natural logarithm of p(u), the chance of a candidate above u anywhere; see the module."""
    crossings = math.log(max(length, 1e-300) / (2.0 * math.pi)) - 0.5 * u * u
    return float(np.logaddexp(math.log(segments) + log_ndtr(-u), crossings))


def _threshold(false_alarm: float, segments: int, length: float) -> float:
    """The u at which p(u) is the false-alarm probability."""
    low, high = 0.0, 40.0
    for _ in range(60):
        middle = 0.5 * (low + high)
        if _log_chance(middle, segments, length) > math.log(false_alarm):
            low = middle
        else:
            high = middle
    return high


def _global_significance(u: float, segments: int, length: float) -> float:
    """The significance, in standard deviations of one side, of the chance p(u)."""
    return max(0.0, -float(ndtri_exp(min(_log_chance(u, segments, length), -1e-12))))


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


def _settings(spectrum, sigma, tail, false_alarm, max_lines, pivot) -> _Settings:
    width = to_kev(sigma, "width of the lines")
    if not SIGMA_LIMITS[0] < width < SIGMA_LIMITS[1]:
        raise ModelError(
            f"sigma= is the expected width of the lines, between {SIGMA_LIMITS[0]:g} and "
            f"{SIGMA_LIMITS[1]:g} keV, got {width:g} keV."
        )
    if not 0.0 < false_alarm < 0.5:
        raise ModelError(
            f"false_alarm= is a probability above 0 and below 0.5, got {false_alarm:g}."
        )
    middle = 0.5 * float(spectrum.edges[0] + spectrum.edges[-1])
    pivot = middle if pivot is None else to_kev(pivot, "pivot energy")
    if not (math.isfinite(pivot) and pivot > 0):
        raise ModelError(f"The pivot energy must be positive, got {pivot:g} keV.")
    n_used = int(spectrum.used.sum())
    shared = 2 + 1 + 2 * bool(tail)
    room = max((n_used - math.ceil(FREE_SHARE * n_used) - shared) // 2, 0)
    asked = max_lines is not None
    if max_lines is None:
        max_lines = room
    elif not 0 <= max_lines <= room:
        raise ModelError(
            f"max_lines={max_lines} is not possible: from 0 to {room} lines leave 4/9 of the "
            f"{n_used} fitted bins as degrees of freedom."
        )
    return _Settings(width, bool(tail), false_alarm, max_lines, pivot, asked)
