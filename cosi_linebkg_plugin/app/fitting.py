"""The fit that a configuration describes: its model, the search for lines, the engine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import ConfigError, FitError
from ..fit.minimise import fit_spectrum
from ..fit.numbers import hides_width
from ..fit.result import LineBackgroundFit
from ..io.progress import Progress, say
from ..model.spec import numerical_model, spectrum_parts
from ..spectrum.axis import EnergySpectrum
from ..spectrum.components import SpectralModel
from .config import Config
from .terminal import quiet_threeml

if TYPE_CHECKING:
    from astromodels import Model

    from ..lines.found import LineSearch


def spectral_model(
    config: Config, search: LineSearch | None = None, spectrum: EnergySpectrum | None = None
) -> SpectralModel:
    """The model that a configuration describes, or the one that its search has found.

    Widths that the bins of the spectrum, if it is given, do not show are held.
    """
    if search is not None:
        return search.numerical_model()
    model = numerical_model(spectrum_parts(_lines(config), **_options(config)))
    hidden = hidden_widths(model, spectrum) if spectrum is not None else set()
    held = (replace(p, free=p.free and p.name not in hidden) for p in model.parameters)
    return replace(model, parameters=tuple(held))


def hidden_widths(model: SpectralModel, spectrum: EnergySpectrum) -> set[str]:
    """Names of the free widths of lines of which no line has bins that show them."""
    theta = model.resolve(np.array([p.value for p in model.parameters]))
    shown: dict[str, bool] = {}
    for line in (model.components[i] for i in model.lines):
        i = int(np.searchsorted(spectrum.edges, theta[line.energy], side="right")) - 1
        width = spectrum.widths[min(max(i, 0), spectrum.n_bins - 1)]
        hidden = hides_width(float(width), line.sigma(theta))
        for slot in line.width_slots:
            if model.parameters[slot].free:
                name = model.parameters[slot].name
                shown[name] = shown.get(name, False) or not hidden
    return {name for name, seen in shown.items() if not seen}


def model_of(
    config: Config, search: LineSearch | None = None, spectrum: EnergySpectrum | None = None
) -> Model:
    """The same as an astromodels model, for the engines of threeML."""
    from ..model.build import background_model

    if search is not None:
        return search.model()
    model = background_model(_lines(config), **_options(config))
    targets = model.linebkg.spectrum.main.shape.parameters
    for parameter in spectral_model(config, None, spectrum).parameters:
        target = targets[parameter.name]
        target.value, target.free = parameter.value, parameter.free
    return model


def _lines(config: Config) -> Sequence[Any]:
    given: Any = config.model.lines
    return [line.model_dump() for line in given]


def _options(config: Config) -> dict[str, Any]:
    """What the spectrum is made of, apart from its lines."""
    m = config.model
    options = {"sigma": m.sigma, "width": m.width, "tail": m.tail, "step": m.step}
    return options | {"continuum": m.continuum, "pivot": pivot_of(config)}


def pivot_of(config: Config) -> float | None:
    """The pivot energy [keV]: the middle of the source range, if none is given."""
    pivot = config.model.pivot
    if pivot is None and config.source_range is not None:
        pivot = sum(config.source_range) / 2
    return pivot


def search_options(config: Config) -> dict[str, Any]:
    """Arguments of `find_lines` for ``lines: auto``."""
    m = config.model
    assert m.search is not None
    return _options(config) | m.search.model_dump()


def fit_config(
    config: Config, spectrum: EnergySpectrum, progress: Progress | None = None
) -> LineBackgroundFit:
    """Fit with the engine that the configuration names, after a search with ``lines: auto``."""
    search = None
    if config.model.lines == "auto":
        from ..lines.search import find_lines

        say(progress, "searching for lines")
        search = find_lines(spectrum, **search_options(config))
    say(progress, f"fitting the spectrum ({config.engine})")
    found = _with_faint_lines(config, _fit_with_engine(config, spectrum, search, progress))
    fit = with_p_value(found, progress)
    return replace(fit, line_search=search.to_dict()) if search else fit


def _with_faint_lines(config: Config, fit: LineBackgroundFit) -> LineBackgroundFit:
    asked = config.model.faint_lines
    if asked is False:
        return fit
    from ..lines.faint import marginalise_faint

    return marginalise_faint(fit, asked, config.source_range)


def with_p_value(fit: LineBackgroundFit, progress: Progress | None) -> LineBackgroundFit:
    """The fit with a p-value: from toys, where counts are too low for the chi-square law."""
    if fit.p_value is not None or fit.dof <= 0:
        return fit
    from ..fit.toys import with_toys

    say(progress, "simulating spectra, as counts are low")
    return with_toys(fit, rng=1, progress=progress)


def _fit_with_engine(
    config: Config,
    spectrum: EnergySpectrum,
    search: LineSearch | None,
    progress: Progress | None,
) -> LineBackgroundFit:
    if config.engine == "joint_likelihood":
        return _joint_likelihood(spectrum, model_of(config, search, spectrum))
    best = fit_spectrum(spectral_model(config, search, spectrum), spectrum)
    if config.engine == "minuit":
        return best
    say(progress, "sampling the posterior (steps)")
    return best.sample(seed=1, progress=progress)


def _joint_likelihood(spectrum: EnergySpectrum, model: Model) -> LineBackgroundFit:
    """The fit by threeML."""
    quiet_threeml()
    from threeML import DataList, JointLikelihood

    from ..plugin import LineBackgroundLike

    plugin = LineBackgroundLike("linebkg", spectrum)
    plugin.fit(model)  # a start in the right minimum
    try:
        analysis = JointLikelihood(model, DataList(plugin))
        analysis.fit(quiet=True)
    except Exception as error:  # threeML's own classes share no base
        raise FitError(
            f"threeML's JointLikelihood failed ({type(error).__name__}: {error}); try "
            "engine: minuit, or a simpler model."
        ) from error
    fit = plugin.result(analysis)
    if not fit.valid:
        raise FitError(f"The fit is not valid: {fit.message}; try engine: minuit.", fit)
    return fit


def require_fit_of(spectrum: EnergySpectrum, fit: LineBackgroundFit) -> None:
    """Refuse a saved fit that was made with another mask than the configuration's."""
    same = fit.spectrum.mask.shape == spectrum.mask.shape
    if same and (fit.spectrum.mask == spectrum.mask).all():
        return
    raise ConfigError(
        f"mask: the fit was made with {ranges_text(fit.mask)} masked, the configuration masks "
        f"{ranges_text(spectrum.masked_ranges())}; fit again with this configuration."
    )


def ranges_text(ranges: Sequence[Sequence[float]]) -> str:
    """Energy ranges [keV] in words."""
    text = ", ".join(f"{low:.6g}-{high:.6g}" for low, high in ranges)
    return f"{text} keV" if text else "nothing"
