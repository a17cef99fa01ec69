"""An image of the 26Al sky with cosipy 0.4.3: Richardson-Lucy, a free norm for each component.

Runs on the demo's data (``cosi-linebkg demo`` writes them), beside cosipy 0.4.3 (Python 3.12):
python al26_image.py [FOLDER]
"""

import os
import sys
from pathlib import Path

import healpy as hp
import matplotlib.pyplot as plt
import numpy as np
import yaml
from _demo_instrument import NSIDE, coarse_events, true_flux, write_response
from cosipy.image_deconvolution import DataIF_COSI_DC2, ImageDeconvolution
from histpy import Histogram

from cosi_linebkg_plugin import LineBackgroundLike, background_model
from cosi_linebkg_plugin.app.demo import resolved_lines
from cosi_linebkg_plugin.app.simulation import DEMO_LIVETIME, DEMO_SKY
from cosi_linebkg_plugin.show.figure import save_figure

folder = Path(sys.argv[1] if len(sys.argv) > 1 else "demo").resolve()
os.chdir(folder)  # cosipy writes scratch files into the current folder

# --- the background ------------------------------------------------------------------------------
linebkg = LineBackgroundLike("linebkg", coarse_events("events.hdf5"))
linebkg.set_mask((1790, 1825))
fit = linebkg.fit(background_model(resolved_lines(), pivot=1800))
edges = fit.spectrum.edges
source_range = float(edges[60]), float(edges[62])  # two whole bins: 1803.0-1813.1 keV
template = linebkg.background_template(
    fit,
    source_range,
    l_cut=4,
    livetime=DEMO_LIVETIME,
    line_ratio={"line": 1808.65, "tracer": 1778.97, "value": 0.149, "error": 0.015},
)
print(fit.summary())

# --- data, background and response ---------------------------------------------------------------
events = linebkg.observed_counts(source_range)
background = template.deconvolution_input(events, components=True)  # a key for each component
write_response("response.h5", source_range)
data = DataIF_COSI_DC2.load("demo", events, background, Histogram.open("response.h5"))

# --- the image -----------------------------------------------------------------------------------
unit = "cm-2 s-1 sr-1"
parameters = {
    "model_definition": {
        "class": "AllSkyImage",
        "property": {
            "coordinate": "galactic", "nside": NSIDE, "scheme": "ring", "unit": unit,
            "energy_edges": {"value": list(source_range), "unit": "keV"},
        },
        "initialization": {"algorithm": "flat", "parameter": {"value": [1e-5], "unit": unit}},
    },
    "deconvolution": {
        "algorithm": "RL",
        "parameter": {
            "iteration_max": 30,
            "minimum_flux": {"value": 0.0, "unit": unit},
            "background_normalization_optimization": {
                "activate": True, "range": template.deconvolution_ranges(list(background)),
            },
            "stopping_criteria": {"statistics": "log-likelihood", "threshold": 1e-3},
        },
    },
}  # fmt: skip
Path("imaging.yml").write_text(yaml.safe_dump(parameters))
imaging = ImageDeconvolution()
imaging.set_dataset([data])
imaging.read_parameterfile("imaging.yml")
imaging.initialize()
imaging.run_deconvolution()
last = imaging.results[-1]
image = np.asarray(last["model"].contents.value).ravel()  # photons / cm2 / s / sr

# Of what is spread over the sky the image takes a part for itself, as long as a norm is free to
# give way: a flux is a matter of the likelihoods, not of the image.
flux, truth = image.sum() * hp.nside2pixarea(NSIDE), true_flux(5000.0)
norms = {label: float(norm) for label, norm in last["background_normalization"].items()}
print(f"norms of the background: {norms}")
print(f"the image holds {flux:.3g} photons/cm2/s; simulated: {truth:.3g}")

# --- beside the truth ----------------------------------------------------------------------------
lon, lat, weight = DEMO_SKY.T
simulated = np.bincount(
    hp.ang2pix(NSIDE, lon, lat, lonlat=True), weights=weight, minlength=image.size
)
simulated *= truth / simulated.sum() / hp.nside2pixarea(NSIDE)
figure, axes = plt.subplots(
    2, 1, figsize=(6.4, 6.8), subplot_kw={"projection": "mollweide"}, layout="constrained"
)
grid = np.meshgrid(np.linspace(-179.5, 179.5, 360), np.linspace(-89.5, 89.5, 180))
pixels = hp.ang2pix(NSIDE, -grid[0], grid[1], lonlat=True)
style = {"cmap": "cividis", "vmin": 0.0, "vmax": simulated.max(), "rasterized": True}
for panel, values, title in zip(axes, (image, simulated), ("image", "simulated"), strict=True):
    drawn = panel.pcolormesh(*np.radians(grid), values[pixels], **style)
    panel.set_title(title, fontsize=9)
    panel.set_xticks(np.radians([-120, -60, 0, 60, 120]), ["120°", "60°", "0°", "300°", "240°"])
    panel.set_xlabel("l", fontsize=9)
    panel.set_ylabel("b", fontsize=9)
    panel.tick_params(labelsize=7)
    panel.tick_params(axis="x", labelcolor="white")
    panel.grid(visible=True, lw=0.3)
bar = figure.colorbar(drawn, ax=axes, shrink=0.6, extend="max")
bar.set_label("photons cm⁻² s⁻¹ sr⁻¹", fontsize=9)
bar.ax.tick_params(labelsize=7)
save_figure(figure, "example_al26_image.png")
