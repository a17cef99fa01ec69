"""A goodness of fit on two engines of ipyparallel; prints how many of its toys are different.

A program of its own, so that a cluster that hangs does not hold up other tests.
"""

import json
import logging
import sys

import ipyparallel
import numpy as np
from threeML import DataList, GoodnessOfFit, JointLikelihood, parallel_computation

from cosi_linebkg_plugin import LineBackgroundLike, background_model
from cosi_linebkg_plugin.consumers.constraint import NormConstraint

TOYS = 12


def main() -> None:
    """Fit, simulate on the cluster, and print [toys, distinct ones of either plugin]."""
    logging.disable(logging.WARNING)
    edges = np.linspace(1700.0, 1900.0, 21)
    counts = np.random.default_rng(3).poisson(500.0, 20)
    model = background_model(pivot=1800)
    path = next(name for name in model.parameters if name.endswith("index"))
    plugin = LineBackgroundLike("bkg", (edges, counts))
    plugin.seed(3)
    session = JointLikelihood(
        model, DataList(plugin, NormConstraint("known", [path], 0.1**2, mean=[-0.2]))
    )
    session.fit(quiet=True)
    cluster = ipyparallel.Cluster(n=2, cluster_id="", profile="default")
    cluster.start_and_connect_sync(activate=False)
    try:
        with parallel_computation(start_cluster=False):
            _, _, likelihoods = GoodnessOfFit(session).by_mc(TOYS)
    finally:
        cluster.stop_cluster_sync()
    terms = likelihoods["-log(likelihood)"]
    different = [len(set(terms[:, name])) for name in ("bkg_sim", "known_sim")]
    sys.stdout.write("\n" + json.dumps([TOYS, *different]) + "\n")


if __name__ == "__main__":
    main()
