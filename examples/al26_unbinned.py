"""The flux of 26Al without bins, with cosipy 0.4.3: the background as a density at each event.

Runs on the demo's data (``cosi-linebkg demo`` writes them), beside cosipy 0.4.3 (Python 3.12):
python al26_unbinned.py [FOLDER]
"""

import sys
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from _demo_instrument import (
    DemoSkyDensity,
    coarse_events,
    demo_events,
    demo_history,
    sky_model,
    true_flux,
)
from cosipy.interfaces import ThreeMLPluginInterface
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
source_range = float(edges[60]), float(edges[62])  # 1803.0-1813.1 keV
template = linebkg.background_template(
    fit,
    source_range,
    l_cut=4,
    line_ratio={"line": 1808.65, "tracer": 1778.97, "value": 0.149, "error": 0.015},
    livetime=DEMO_LIVETIME,  # s: cosipy's norms are rates
)

# --- the events, and what is expected of them ----------------------------------------------------
events = demo_events(source_range)
background = template.background_density(events, demo_history())
sky = DemoSkyDensity(events, source_range)
likelihood = background.likelihood(sky)
cosi = ThreeMLPluginInterface("cosi", likelihood, sky, background)
background.configure(cosi)
model, flux = sky_model()
session = JointLikelihood(model, DataList(cosi, background.constraint()))
table, _ = session.fit(quiet=True)
print(table)

error = float(table["error"].iloc[0])
truth = true_flux(5000.0)
print(f"{background.nevents} events, {background.expected_counts():.0f} of them background")
print(f"26Al: ({flux.value:.3g} +- {error:.2g}) photons/cm2/s; simulated: {truth:.3g}")

# --- what was seen: the chance of each event to be from the sky ----------------------------------
chance = sky.expectation_density() / (sky.expectation_density() + background.expectation_density())
figure, axes = plt.subplots(figsize=(6.4, 4.0), layout="constrained")
bins = np.linspace(*source_range, 41)
axes.hist(events.energy_keV, bins, color="0.8", label="all events")
axes.hist(
    events.energy_keV, bins, weights=chance, color="C0", label="by their chance to be of the sky"
)
units = r"$\times 10^{-4}$ cm$^{-2}$ s$^{-1}$"
name = rf"$^{{26}}$Al, ({flux.value * 1e4:.2f} ± {error * 1e4:.2f}) {units}"
axes.set(xlabel="measured energy [keV]", ylabel="events per bin", title=name, yscale="log")
axes.legend()
save_figure(figure, folder / "example_al26_unbinned.png")
