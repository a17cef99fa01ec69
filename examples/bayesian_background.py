"""The posterior of the background, from threeML's BayesianAnalysis, as a template's norm.

Runs on the demo's data (``cosi-linebkg demo`` writes them): python bayesian_background.py [FOLDER]
"""

import sys
from pathlib import Path

import matplotlib.pyplot as plt
from threeML import BayesianAnalysis, DataList

from cosi_linebkg_plugin import LineBackgroundLike, background_model, default_priors
from cosi_linebkg_plugin.plot import save_figure

folder = Path(sys.argv[1] if len(sys.argv) > 1 else "demo")
source_range = (1805, 1812)
linebkg = LineBackgroundLike("linebkg", folder / "events.hdf5")
linebkg.set_mask((1500, 1737), (1790, 1825), (1880, 2000))  # near energies alone: fewer lines

model = background_model([1757.5, 1764, 1779], pivot=1800)
best = linebkg.fit(model)  # where the walkers start
default_priors(model)
session = BayesianAnalysis(model, DataList(linebkg))
session.set_sampler("emcee")
session.sampler.setup(n_iterations=2000, n_burn_in=1500, n_walkers=40, seed=1)
session.sample(quiet=True)

posterior = linebkg.result(session)  # values, covariance, samples
template = linebkg.background_template(
    posterior,
    source_range,
    l_cut=4,
    line_ratio={"line": 1808.65, "tracer": 1778.97, "value": 0.149, "error": 0.015},
)
print(posterior)
print(template)
prior = template.cosilike("cosi")["nuisance_param"].prior
print(
    "prior of the norm in a COSILike's own session:", prior.name, f"sigma {prior.sigma.value:.3f}"
)

figure, (left, right) = plt.subplots(1, 2, figsize=(9.0, 3.6), layout="constrained")
counts = posterior.sampled_counts(source_range)
left.hist(counts[:, 0], bins=40, color="0.75")
for fit, style, name in ((posterior, "-", "posterior"), (best, "--", "maximum likelihood")):
    expected = fit.expected_counts(source_range)
    mean, error = expected.values[0], expected.errors[0]
    left.axvline(mean, color="k", ls=style, label=f"{name}: {mean:.0f} ± {error:.0f}")
left.set_ylim(0, 1.35 * left.get_ylim()[1])
left.set(xlabel="continuum counts in the source range", ylabel="samples")
left.legend()
names = ("index_1", "K_1")
columns = [posterior.free_names.index(name) for name in names]
right.plot(*posterior.samples[::25, columns].T, "k.", ms=2, alpha=0.4)
right.set(xlabel="index", ylabel="K [counts/keV]", title="power law")
save_figure(figure, folder / "example_bayesian.png")
