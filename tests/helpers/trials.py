"""A simulated data set with its fit, for tests of templates."""

import numpy as np

from cosi_linebkg_plugin import LineBackgroundLike, background_model
from cosi_linebkg_plugin.app.demo import resolved_lines, simulated_events
from cosi_linebkg_plugin.app.simulation import DEMO_LINE_RATIO, SOURCE_RANGE, simulate
from cosi_linebkg_plugin.histograms.axes import source_axis
from cosi_linebkg_plugin.histograms.write import make_histogram

RATIO = {"line": 1808.65, "tracer": 1778.97, "value": DEMO_LINE_RATIO, "error": 0.015}


class Trial:
    """One simulated data set, fitted."""

    def __init__(self, seed=3, **options):
        self.simulation = simulate(seed, nside=4, **options)
        self.events = simulated_events(self.simulation)
        self.plugin = LineBackgroundLike("bkg", self.events)
        self.plugin.set_mask((1790, 1825))
        self.fit = self.plugin.fit(background_model(resolved_lines(), pivot=1800))

    def template(self, **options):
        return self.plugin.background_template(self.fit, SOURCE_RANGE, **options)

    def in_range(self, contents):
        axes = list(self.events.axes)
        axes[0] = source_axis(axes[0], *SOURCE_RANGE)
        return make_histogram(axes, contents[None])

    @property
    def observed(self):
        return self.in_range(self.simulation.observed(*SOURCE_RANGE))

    @property
    def sky_in_range(self):
        return self.in_range(self.simulation.expected_sky(*SOURCE_RANGE))

    @property
    def sky(self):
        return make_histogram(
            self.events.axes, np.array(list(self.simulation.expected_sky_slices()))
        )
