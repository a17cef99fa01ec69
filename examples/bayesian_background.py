"""The posterior of the background, from threeML's BayesianAnalysis, as a template's norm.

Runs on the demo's data (``cosi-linebkg demo`` writes them): python bayesian_background.py [FOLDER]
"""

import sys
from pathlib import Path

import numpy as np
from threeML import BayesianAnalysis, DataList

from cosi_linebkg_plugin import LineBackgroundLike, background_model, default_priors
from cosi_linebkg_plugin.show.figure import save_figure
from cosi_linebkg_plugin.show.posterior import plot_corner

folder = Path(sys.argv[1] if len(sys.argv) > 1 else "demo")
source_range = (1805, 1812)
linebkg = LineBackgroundLike("linebkg", folder / "events.hdf5")
# energies without other lines keep the number of parameters small
linebkg.set_mask((1500, 1682), (1712, 1770), (1790, 1825), (1880, 2000))

model = background_model([1779], pivot=1800)
best = linebkg.fit(model)  # where the walkers start
default_priors(model)
session = BayesianAnalysis(model, DataList(linebkg))
session.set_sampler("emcee")
session.sampler.setup(n_iterations=1500, n_burn_in=500, n_walkers=40, seed=1)
np.random.seed(1)  # noqa: NPY002  # what threeML draws the walkers' places from
session.sample(quiet=True)

posterior = linebkg.result(session)  # values, covariance, samples
template = linebkg.background_template(
    posterior,
    source_range,
    l_cut=4,
    # the simulator's truth; a real one comes from a calculation or a measurement
    line_ratio={"line": 1808.65, "tracer": 1778.97, "value": 0.149, "error": 0.015},
)
print(posterior)
print(template)
prior = template.cosilike("cosi")["nuisance_param"].prior
print(f"the prior that a COSILike's norm gets: 1 +- {prior.sigma.value:.3f}")

figure = plot_corner(posterior, source_range=source_range, reference=best)
save_figure(figure, folder / "example_bayesian.png")
