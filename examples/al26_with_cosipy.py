"""The flux of 26Al with cosipy 0.4.3: the background from adjacent energies, with its error.

Runs on the demo's data (``cosi-linebkg demo`` writes them), beside cosipy 0.4.3 (Python 3.12):
python al26_with_cosipy.py [FOLDER]
"""

import sys
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from _demo_instrument import coarse_events, sky_folding, sky_model, true_flux, write_response
from cosipy.interfaces import ThreeMLPluginInterface
from cosipy.statistics import PoissonLikelihood
from threeML import DataList, JointLikelihood

from cosi_linebkg_plugin import LineBackgroundLike, background_model
from cosi_linebkg_plugin.app.demo import resolved_lines
from cosi_linebkg_plugin.app.simulation import DEMO_LIVETIME
from cosi_linebkg_plugin.show.figure import save_figure

folder = Path(sys.argv[1] if len(sys.argv) > 1 else "demo")

# --- the background ------------------------------------------------------------------------------
linebkg = LineBackgroundLike("linebkg", coarse_events(folder / "events.hdf5"))
linebkg.set_mask((1790, 1825))
fit = linebkg.fit(background_model(resolved_lines(), pivot=1800))
edges = fit.spectrum.edges
source_range = float(edges[60]), float(edges[62])  # two whole bins: 1803.0-1813.1 keV
template = linebkg.background_template(
    fit,
    source_range,
    l_cut=4,
    livetime=DEMO_LIVETIME,  # s: cosipy's norms are rates
    line_ratio={"line": 1808.65, "tracer": 1778.97, "value": 0.149, "error": 0.015},
)
print(template)

# --- the sky, in cosipy's binned likelihood ------------------------------------------------------
response = folder / "response.h5"
write_response(response, source_range)
data, sky_response = sky_folding(linebkg.observed_counts(source_range), response)
background = template.binned_background(data)  # a rate for the continuum, and one for the lines
likelihood = PoissonLikelihood(data, sky_response, background)
cosi = ThreeMLPluginInterface("cosi", likelihood, sky_response, background)
background.configure(cosi)
model, flux = sky_model()
session = JointLikelihood(model, DataList(cosi, background.constraint()))
table, _ = session.fit(quiet=True)
print(table)

error = float(table["error"].iloc[0])
truth = true_flux(5000.0)
print(f"26Al: ({flux.value:.3g} +- {error:.2g}) photons/cm2/s; simulated: {truth:.3g}")

# --- what was seen -------------------------------------------------------------------------------
phi = linebkg.observed_counts(source_range).axes["Phi"].edges.to_value("deg")
observed, expected, sky = (
    np.asarray(x.contents).sum(axis=(0, 2))
    for x in (data.data, background.expectation(), sky_response.expectation(copy=True))
)
units = r"$\times 10^{-4}$ cm$^{-2}$ s$^{-1}$"
name = rf"$^{{26}}$Al, ({flux.value * 1e4:.2f} ± {error * 1e4:.2f}) {units}"
figure, axes = plt.subplots(figsize=(6.4, 4.0), layout="constrained")
centers = 0.5 * (phi[1:] + phi[:-1])
axes.errorbar(
    centers, observed - expected, np.sqrt(observed), fmt="ko", ms=4, label="data - background"
)
axes.stairs(sky, phi, color="C0", label=name)
axes.axhline(0.0, color="0.6", lw=0.8)
axes.set(
    xlabel=r"Compton angle $\phi$ [deg]",
    ylabel="counts per bin",
    xlim=(0, 180),
    title=f"{source_range[0]:.1f}-{source_range[1]:.1f} keV, {observed.sum():.0f} events",
)
axes.legend()
save_figure(figure, folder / "example_al26.png")
