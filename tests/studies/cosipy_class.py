"""What LineBackgroundEstimation of cosipy 0.4.3 has by now, and where it goes wrong, in numbers.

Runs beside cosipy 0.4.3, with tests/helpers and tests/benchmarks on PYTHONPATH:
python tests/studies/cosipy_class.py

The fit is that of the real DC3 spectrum with the tutorial's model; the templates are of the demo's
data, with the spectrum fitted by this package, so that the sums alone are compared. The table is in
docs/consumers.md.
"""

from __future__ import annotations

import inspect
import time

import astropy.units as u
import numpy as np
from cosipy import LineBackgroundEstimation
from histpy import Axes, Axis, Histogram
from spectra import TUTORIAL_MASK, tutorial_model
from timing import DATA

from cosi_linebkg_plugin import LineBackgroundLike, background_model
from cosi_linebkg_plugin.app.demo import resolved_lines, simulated_events
from cosi_linebkg_plugin.app.simulation import simulate
from cosi_linebkg_plugin.fit.minimise import fit_spectrum
from cosi_linebkg_plugin.spectrum.axis import EnergySpectrum

SOURCE = (1805.0, 1812.0)
SIDEBANDS = [(1680, 1710), (1735, 1750), (1820, 1875), (1940, 1990)]


def density_of(n_lines):
    """A power law and lines of one width, with its arguments spelled out for Minuit."""

    def density(x, a, b, *rest):
        total = a * (x / 1800.0) ** b
        for amplitude, mu in zip(rest[:-1:2], rest[1:-1:2], strict=True):
            total = total + amplitude / rest[-1] / np.sqrt(2 * np.pi) * np.exp(
                -((x - mu) ** 2) / (2 * rest[-1] ** 2)
            )
        return total

    names = ["K", "index", *(f"{x}{n}" for n in range(n_lines) for x in ("F", "mu")), "sigma"]
    density.__signature__ = inspect.Signature(
        [inspect.Parameter(n, inspect.Parameter.POSITIONAL_OR_KEYWORD) for n in ["x", *names]]
    )
    return density


def slots_of(model):
    lines = range(2, 2 + len(model.lines))
    names = ["K_1", "index_1", *(f"{x}_{n}" for n in lines for x in ("F", "mu")), "sigma_2"]
    return model.slots(names)


def fit_of_dc3() -> None:
    """Seconds, validity and deviance of both fits."""
    table = np.loadtxt(DATA / "dc3_al26_total_spectrum.csv", delimiter=",", comments="#",
                       skiprows=4)  # fmt: skip
    edges = np.append(table[:, 0], table[-1, 1])
    spectrum = EnergySpectrum(edges, table[:, 2]).with_mask([TUTORIAL_MASK])
    model = tutorial_model()
    events = Histogram(
        Axes([Axis(edges * u.keV, label="Em"), Axis([0, 180] * u.deg, label="Phi")]),
        contents=spectrum.counts[:, None],
    )
    slots = slots_of(model)
    theirs = LineBackgroundEstimation(events)
    theirs.set_bkg_energy_spectrum_model(density_of(len(model.lines)), list(model.values[slots]))
    theirs.set_mask(TUTORIAL_MASK * u.keV)
    limits = {0: (1e-3, None), len(slots) - 1: (0.1, 50.0)}
    for k, parameter in enumerate(model.parameters[s] for s in slots):
        if np.isfinite(parameter.low) or np.isfinite(parameter.high):
            limits[k] = tuple(
                x if np.isfinite(x) else None for x in (parameter.low, parameter.high)
            )
    own = fit_spectrum(model, spectrum)
    start = time.perf_counter()
    own = fit_spectrum(model, spectrum)
    ours_s = time.perf_counter() - start
    start = time.perf_counter()
    minuit = theirs.fit_energy_spectrum(param_limits=limits)
    theirs_s = time.perf_counter() - start
    n = spectrum.counts[spectrum.used]
    deviance = 2 * (minuit.fval - np.sum(n - n * np.log(n)))
    print(f"fit of DC3: cosipy {theirs_s:.1f} s, valid {minuit.valid}, deviance {deviance:.4f}")
    print(f"  ours {1e3 * ours_s:.1f} ms, valid {own.valid}, deviance {own.deviance:.4f}")


def templates_of_the_demo(exposure: float) -> None:
    """Sums and filters of the same slices with the same spectrum.

    Parameters
    ----------
    exposure : float
        Relative to three months.
    """
    print(f"--- {90 * exposure:g} days")
    events = simulated_events(simulate(1, exposure_scale=exposure))
    plugin = LineBackgroundLike("linebkg", events)
    plugin.set_mask((1790, 1825))
    fit = plugin.fit(background_model(resolved_lines(), pivot=1800))
    dense = Histogram(Axes(list(events.axes)),
                      contents=np.asarray(events.contents.todense(), float))  # fmt: skip

    def cosipys(histogram=dense):
        made = LineBackgroundEstimation(histogram)
        values = list(fit.theta[slots_of(fit.model)])
        made.set_bkg_energy_spectrum_model(density_of(len(fit.model.lines)), values)
        return made

    def made(source=SOURCE * u.keV, sidebands=SIDEBANDS, histogram=dense, **options):
        ranges = [s * u.keV for s in sidebands]
        result = cosipys(histogram).generate_bkg_model_histogram(source, ranges, **options)
        return np.asarray(result.to_dense().contents)

    raw = made()
    ours = plugin.background_template(fit, SOURCE, method="sideband", sidebands=SIDEBANDS)
    print(f"sideband sum: cosipy {raw.sum():.1f}, ours {ours.counts['background']:.1f} counts; "
          f"largest difference of a cell {np.abs(raw - ours.histogram.contents).max():.1e}; "
          f"{np.mean(raw == 0):.1%} of its cells are 0")  # fmt: skip
    phi = tuple(i for i, a in enumerate(dense.axes) if a.label != "Phi")
    filtered = plugin.background_template(
        fit, SOURCE, method="sideband", sidebands=SIDEBANDS, l_cut=4
    ).histogram.contents
    for name, cells in (("cosipy", made(l_cut=4)), ("ours", filtered)):
        slices = cells.sum(axis=phi) / raw.sum(axis=phi) - 1
        full = raw.sum(axis=phi) > 0
        change, most = cells.sum() / raw.sum() - 1, np.abs(slices[full]).max()
        print(f"l_cut=4, {name}: total {change:+.2%}, a Phi slice up to {most:.1%}")
        print(f"  {np.mean(cells <= 0):.1%} of its cells are 0")
    smooth = made(smoothing_fwhm=20 * u.deg)
    print(f"smoothing 20 deg, cosipy: {np.count_nonzero(smooth < 0)} cells below 0, "
          f"{np.mean(smooth == 0):.1%} are 0")  # fmt: skip
    print("rebin_phi=10 alone changes the result:", bool((made(rebin_phi=10) != raw).any()))
    mev = np.array(SOURCE) / 1e3 * u.MeV
    try:
        print(f"source range in MeV: {made(source=mev).sum():.3g} counts")
    except Exception as error:
        print(f"source range in MeV: {type(error).__name__}: {error}")
    overlap = made(sidebands=[(1680, 1750), (1720, 1790), (1800, 1875)])
    print(f"sidebands that overlap each other and the source: accepted, {overlap.sum():.1f} counts")
    try:
        made(histogram=dense.project("PsiChi", "Phi", "Em"))
    except Exception as error:
        print(f"axes PsiChi, Phi, Em: {type(error).__name__}: {error}")


if __name__ == "__main__":
    for exposure in (1.0, 0.02):
        templates_of_the_demo(exposure)
    fit_of_dc3()
