"""A simulated data set whose background follows the spectrum of a session."""

import numpy as np

from cosi_linebkg_plugin import LineBackgroundLike, background_model
from cosi_linebkg_plugin.app.demo import resolved_lines, simulated_events
from cosi_linebkg_plugin.app.simulation import DEMO_LINE_RATIO, simulate

RATIO = {"line": 1808.65, "tracer": 1778.97, "value": DEMO_LINE_RATIO, "error": 0.015}
SKY_COUNTS = 5000.0


class Case:
    """A simulated data set, its spectrum fitted; the source range is two whole bins."""

    def __init__(self):
        self.simulation = simulate(4, nside=2, sky_counts=SKY_COUNTS)
        events = simulated_events(self.simulation)
        self.edges = self.simulation.energy_edges
        self.range = float(self.edges[60]), float(self.edges[62])
        self.plugin = LineBackgroundLike("linebkg", events)
        self.plugin.set_mask((1790, 1825))
        self.model = background_model(resolved_lines(), pivot=1800)
        self.fit = self.plugin.fit(self.model)
        self.plugin.set_model(self.model)

    def template(self, **options):
        options = {"line_ratio": RATIO, "l_cut": 4} | options
        return self.plugin.background_template(self.fit, self.range, **options)

    def restore(self):
        self.plugin.fit(self.model)


def restored_spectrum(case):
    """The spectrum of the case's model, whose parameters are put back afterwards."""
    shape = case.model.sources["linebkg"].spectrum.main.shape
    before = {name: p.value for name, p in shape.parameters.items() if p.free}
    yield shape
    for name, value in before.items():
        getattr(shape, name).value = value


def tracer_of(case):
    lines = resolved_lines()
    return 2 + int(np.argmin(np.abs(np.array(lines) - 1778.97)))
