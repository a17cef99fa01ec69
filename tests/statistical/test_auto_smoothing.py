"""The filter chosen from the data against the best of its ladder, judged by the truth."""

import warnings

import numpy as np
import pytest

from cosi_linebkg_plugin import LineBackgroundLike, background_model
from cosi_linebkg_plugin.app.demo import MASK, resolved_lines, simulated_events
from cosi_linebkg_plugin.app.simulation import DEMO_LINE_RATIO, SOURCE_RANGE, simulate
from cosi_linebkg_plugin.errors import LineBackgroundWarning
from cosi_linebkg_plugin.template.smoothing import ladder

pytestmark = pytest.mark.slow
RATIO = {"line": 1808.65, "tracer": 1778.97, "value": DEMO_LINE_RATIO}


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_auto_is_close_to_the_best_of_the_ladder(seed):
    warnings.simplefilter("ignore", LineBackgroundWarning)
    simulation = simulate(seed, nside=8)
    plugin = LineBackgroundLike("linebkg", simulated_events(simulation))
    plugin.set_mask(MASK)
    fit = plugin.fit(background_model(resolved_lines(), pivot=1800))
    truth = simulation.expected_background(*SOURCE_RANGE)

    def predictive(**options):
        """Expected log-likelihood of the truth's patterns, slice by slice."""
        template = plugin.background_template(fit, SOURCE_RANGE, line_ratio=RATIO, **options)
        contents = np.asarray(template.histogram.contents)[0]
        return np.sum(truth * np.log(contents / contents.sum(axis=-1, keepdims=True)))

    raw = predictive()
    gains = [
        predictive(smoothing_fwhm=f.smoothing_fwhm, l_cut=f.l_cut, rebin_phi=f.rebin_phi) - raw
        for f in ladder(60)
    ]
    auto = predictive(smoothing="auto") - raw
    assert auto > 0.9 * max(gains) > 0
