"""Fit the background around 26Al, make a template, look at both.

Runs on the demo's data (``cosi-linebkg demo`` writes them): python fit_and_export.py [FOLDER]
"""

import sys
from pathlib import Path

import astropy.units as u

from cosi_linebkg_plugin import LineBackgroundLike, background_model
from cosi_linebkg_plugin.show.figure import save_figure
from cosi_linebkg_plugin.show.spectrum import plot_spectrum

folder = Path(sys.argv[1] if len(sys.argv) > 1 else "demo")
plugin = LineBackgroundLike("linebkg", folder / "events.hdf5")
plugin.set_mask((1790, 1825) * u.keV)  # the line itself stays out of the fit

lines = [1506, 1515, 1526, 1538, 1565, 1612, 1634, 1652, 1666, 1675, 1723, 1757.5, 1764, 1779]
model = background_model([*lines, 1893, 1903, 1920, 1928], pivot=1800 * u.keV)
fit = plugin.fit(model)  # starts from the data by itself; the model is left at the optimum
print(fit)

template = plugin.background_template(
    fit,
    (1805, 1812) * u.keV,
    method="interpolated",
    sidebands=[(1680, 1710), (1735, 1750), (1820, 1875), (1940, 1990)],
    livetime=90 * u.day,
)
print(template)
print("expected rate:", template.rates["background"])

fit.to_json(folder / "example_fit.json", source_range=template.source_range)
template.write(folder / "example_template.h5")
save_figure(plot_spectrum(fit, template=template), folder / "example_spectrum.png")
