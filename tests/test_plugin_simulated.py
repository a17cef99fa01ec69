"""Data sets that the plugin simulates: goodness of fit, copies, forks, clusters."""

import copy
import json
import logging
import multiprocessing
import pickle
import subprocess
import sys
from pathlib import Path

import dill
import numpy as np
import pytest
from numpy.testing import assert_array_equal
from plugin_cases import make_model, masked_plugin, nuisance_plugin, point_source_model

threeML = pytest.importorskip("threeML")

from astromodels import clone_model
from threeML import DataList, GoodnessOfFit, JointLikelihood

import cosi_linebkg_plugin
from cosi_linebkg_plugin.consumers.constraint import NormConstraint

logging.getLogger("threeML").setLevel(logging.ERROR)
logging.getLogger("astromodels").setLevel(logging.ERROR)


@pytest.fixture
def plugin():
    return masked_plugin()


def test_goodness_of_fit(plugin):
    model = make_model()
    session = JointLikelihood(model, DataList(plugin))
    session.fit(quiet=True)
    gof, _, likelihoods = GoodnessOfFit(session).by_mc(20, continue_on_failure=False)
    fit = plugin.result(session)
    # 20 toys resolve p to 0.1; the chi-square p-value may differ by 4 of those: 1e-4
    assert gof["bkg"] == pytest.approx(fit.p_value, abs=0.45)
    spread = likelihoods["-log(likelihood)"][:, "bkg_sim"].std()
    assert 2.0 < spread < 9.0  # sqrt(n_bins / 2) = 4.2, thanks to the constant term


def test_simulated_data_sets_are_independent(plugin):
    plugin.set_model(make_model())
    first, second = (plugin.get_simulated_dataset(f"sim{i}") for i in range(2))
    assert first.name == "sim0" and first is not second
    assert not np.array_equal(first.spectrum.counts, second.spectrum.counts)
    assert np.array_equal(first.spectrum.mask, plugin.spectrum.mask)
    mean = np.mean([plugin.get_simulated_dataset().spectrum.counts for _ in range(200)], axis=0)
    pull = (mean - plugin.get_model()) / np.sqrt(plugin.get_model() / 200)
    assert np.abs(pull).max() < 4.5  # 40 bins: false alarm 3e-4


def _counts_in_a_fork(plugin):
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(
        target=lambda: sender.send_bytes(plugin.get_simulated_dataset().spectrum.counts.tobytes())
    )
    process.start()
    counts = np.frombuffer(receiver.recv_bytes())
    process.join()
    return counts


@pytest.mark.parametrize(
    "duplicate",
    [
        copy.deepcopy,
        lambda plugin: pickle.loads(pickle.dumps(plugin)),
        lambda plugin: dill.loads(dill.dumps(plugin)),
    ],
)
@pytest.mark.parametrize("generation", [0, 1])
def test_copies_simulate_other_data_sets(plugin, duplicate, generation):
    """The generator went along with each copy: every engine of a cluster drew the same toy."""
    plugin.set_model(make_model())
    known = NormConstraint("known", ["linebkg.spectrum.main.composite.F_2"], 0.1)
    known.set_model(make_model())
    known.seed(3)
    if generation:  # a simulated data set can be simulated from in turn
        plugin, known = (p.get_simulated_dataset("sim") for p in (plugin, known))
        plugin.set_model(make_model())
        known.set_model(make_model())
    drawn, means = [], []
    for _ in range(3):
        copied, other = duplicate(plugin), duplicate(known)
        for p in (copied, other):
            p.set_model(make_model())
        drawn.append(copied.get_simulated_dataset().spectrum.counts)
        means.append(other.get_simulated_dataset("toy")._mean[0])
    drawn.append(plugin.get_simulated_dataset().spectrum.counts)
    means.append(known.get_simulated_dataset("toy")._mean[0])
    assert len({tuple(c) for c in drawn}) == len(set(means)) == 4


def test_forks_simulate_other_data_sets_and_the_original_stays_reproducible(plugin):
    plugin.set_model(make_model())
    plugin.seed(5)
    expected = plugin.get_simulated_dataset().spectrum.counts
    plugin.seed(5)
    forked = [_counts_in_a_fork(plugin) for _ in range(2)]
    pickle.dumps(plugin)
    assert_array_equal(plugin.get_simulated_dataset().spectrum.counts, expected)
    assert len({tuple(c) for c in [expected, *forked]}) == 3


@pytest.mark.slow
def test_engines_of_a_cluster_simulate_other_data_sets(tmp_path, monkeypatch):
    """All toys of a real cluster were the same one, and the p-value was 0 or 1."""
    pytest.importorskip("ipyparallel")
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", str(Path(cosi_linebkg_plugin.__file__).parents[1]))
    done = subprocess.run(
        [sys.executable, Path(__file__).parent / "helpers" / "cluster_toys.py"],
        capture_output=True, text=True, timeout=400, cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    toys, bkg, known = json.loads(done.stdout.splitlines()[-1])
    assert (bkg, known) == (toys, toys)


@pytest.mark.parametrize("first", ["plugin", "constraint"])
def test_goodness_of_fit_with_a_constraint_on_a_nuisance_parameter(first):
    """The simulated plugin renames its parameters, and the constraint asked for the old names."""
    nuisance = nuisance_plugin()
    known = NormConstraint("known", ["nui_F_2"], 5.0**2, mean=[2000.0])
    model = point_source_model()
    star = model.star.spectrum.main.Powerlaw
    star.K.fix = star.index.fix = True
    data = DataList(*([nuisance, known] if first == "plugin" else [known, nuisance]))
    session = JointLikelihood(model, data)
    session.fit(quiet=True)
    known.seed(1)
    _, frame, likelihoods = GoodnessOfFit(session).by_mc(12)
    values = frame["value"][:, "nui_sim_F_2"].to_numpy(float)
    # the constraint is 20 times sharper than the data: toys follow its drawn means
    assert 2.0 < np.std(values) < 9.0 and abs(values.mean() - 2000) < 10
    terms = likelihoods["-log(likelihood)"][:, "known_sim"].to_numpy(float)
    assert np.all(terms >= 0) and np.all(terms < 8)


def test_a_simulated_data_set_keeps_what_was_set_on_its_nuisance_parameters():
    nuisance = nuisance_plugin()
    nuisance.set_model(point_source_model())
    own = nuisance.nuisance_parameters
    own["nui_mu_2"].fix = True
    own["nui_F_2"].bounds = (500.0, 4000.0)
    own["nui_F_2"].value = 1500.0
    simulated = nuisance.get_simulated_dataset("again").nuisance_parameters
    assert not simulated["again_mu_2"].free
    assert simulated["again_F_2"].bounds == (500.0, 4000.0)
    assert simulated["again_F_2"].value == 1500.0


def test_a_constraint_follows_through_two_generations_of_simulated_data_sets():
    nuisance, known = nuisance_plugin(), NormConstraint("known", ["nui_F_2"], 5.0**2, mean=[2e3])
    model = point_source_model()
    for name in ("a", "b"):
        JointLikelihood(clone_model(model), DataList(known, nuisance))
        assert np.isfinite(known.get_log_like() + nuisance.get_log_like())
        nuisance = nuisance.get_simulated_dataset(f"nui_{name}")
        known = known.get_simulated_dataset(f"known_{name}")
    JointLikelihood(clone_model(model), DataList(known, nuisance))
    nuisance.nuisance_parameters["nui_b_F_2"].value = 2100.0
    assert known.get_model() == [2100.0]


def test_goodness_of_fit_in_nuisance_mode_leaves_no_orphans():
    nuisance = nuisance_plugin()
    model = point_source_model()
    session = JointLikelihood(model, DataList(nuisance))
    model.star.spectrum.main.Powerlaw.K.fix = True
    model.star.spectrum.main.Powerlaw.index.fix = True
    session.fit(quiet=True)
    _, frame, _ = GoodnessOfFit(session).by_mc(3)
    names = set(frame.index.get_level_values(1))
    assert names == {f"nui_sim_{n}" for n in ("K_1", "index_1", "F_2", "mu_2", "sigma_2")}
