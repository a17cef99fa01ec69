"""Spectrum, background norms and sky in one session: the background follows the spectrum.

Instead of a fit of the spectrum whose covariance constrains the background of a second fit, one
likelihood holds both. The spectrum's parameters belong to the plugin, since cosipy 0.4.3 refuses
their ParticleSource. Runs on the demo's data (``cosi-linebkg demo`` writes them), beside cosipy
0.3.4 or 0.4.3: python joint_session.py [FOLDER]
"""

import sys
from pathlib import Path

import cosipy
from _demo_instrument import coarse_events, sky_folding, sky_model, true_flux, write_response
from threeML import DataList, JointLikelihood

from cosi_linebkg_plugin import LineBackgroundLike, background_model
from cosi_linebkg_plugin.app.simulation import DEMO_LIVETIME
from cosi_linebkg_plugin.show.figure import save_figure
from cosi_linebkg_plugin.show.spectrum import plot_spectrum

folder = Path(sys.argv[1] if len(sys.argv) > 1 else "demo")
spectrum = background_model([1723, 1757.5, 1764, 1779], pivot=1800)
linebkg = LineBackgroundLike("linebkg", coarse_events(folder / "events.hdf5"), spectrum=spectrum)
linebkg.set_mask((1500, 1700), (1790, 1825), (1880, 2000))  # near energies alone: fewer lines
edges = linebkg.spectrum.edges
source_range = float(edges[60]), float(edges[62])  # two whole bins: 1803.0-1813.1 keV

model, flux = sky_model()
linebkg.set_model(model)
fit = linebkg.fit()
template = linebkg.background_template(
    fit,
    source_range,
    l_cut=4,
    # the simulator's truth; a real one comes from a calculation or a measurement
    line_ratio={"line": 1808.65, "tracer": 1778.97, "value": 0.149, "error": 0.015},
    livetime=DEMO_LIVETIME,
)

data = linebkg.observed_counts(source_range)
response = folder / "response.h5"
write_response(response, source_range)
if hasattr(cosipy, "COSILike"):  # 0.3.4
    background = template.component_mix(data=data, follow=linebkg)
    cosi = cosipy.COSILike(
        "cosi", str(response), data, background, None, precomputed_psr_file=str(response)
    )
else:  # 0.4.3
    from cosipy.interfaces import ThreeMLPluginInterface
    from cosipy.statistics import PoissonLikelihood

    held, sky_response = sky_folding(data, response)
    background = template.binned_background(held, follow=linebkg)
    likelihood = PoissonLikelihood(held, sky_response, background)
    cosi = ThreeMLPluginInterface("cosi", likelihood, sky_response, background)
    background.configure(cosi)
session = JointLikelihood(model, DataList(linebkg, cosi, background.constraint()))
table, _ = session.fit(quiet=True)
print(table)

error = float(table.loc[flux.path, "error"])
print(f"26Al: ({flux.value:.3g} +- {error:.2g}) photons/cm2/s; simulated: {true_flux(5000.0):.3g}")
print("background:", {label: round(n) for label, n in background.counts.items()}, "counts")

joint = linebkg.result(session)
figure = plot_spectrum(joint, template=template)
units = r"$\times 10^{-4}$ cm$^{-2}$ s$^{-1}$"
figure.suptitle(rf"$^{{26}}$Al: ({flux.value * 1e4:.2f} ± {error * 1e4:.2f}) {units}")
save_figure(figure, folder / "example_joint.png")
