"""What is compiled is compiled once, and found again by every later process."""

import importlib
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_allclose
from spectra import simulated_spectrum, tutorial_model

from cosi_linebkg_plugin.fit.objective import Objective
from cosi_linebkg_plugin.spectrum.priors import Prior

TESTS = Path(__file__).resolve().parents[1]

#: Fits, and prints how many functions were compiled on the way, and the deviance.
FIT = """
import numpy as np
from numba.core import event
from spectra import simulated_spectrum, tutorial_model
from cosi_linebkg_plugin.fit.minimise import fit_spectrum

with event.install_recorder("numba:compile") as compiled:
    model = tutorial_model(index=-2.0, sigma=3.0)
    spectrum = simulated_spectrum(model, np.linspace(1500, 2000, 100), np.random.default_rng(2))
    fit = fit_spectrum(model, spectrum)
print(sum(e.is_start for _, e in compiled.buffer), fit.deviance.hex())
"""


def run(code: str, cache: Path) -> list[str]:
    """What a new process prints that compiles into `cache`."""
    path = [str(TESTS / "helpers"), str(TESTS.parent), os.environ.get("PYTHONPATH", "")]
    environment = {"NUMBA_CACHE_DIR": str(cache), "PYTHONPATH": os.pathsep.join(path)}
    done = subprocess.run(
        [sys.executable, "-c", code], env=os.environ | environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def written(cache: Path) -> dict[Path, int]:
    return {f: f.stat().st_mtime_ns for f in cache.rglob("*") if f.is_file()}


def test_a_second_process_compiles_nothing_and_leaves_no_file(tmp_path):
    compiled, deviance = run(FIT, tmp_path)
    files = written(tmp_path)
    assert int(compiled) > 0 and files
    assert run(FIT, tmp_path) == ["0", deviance]
    assert written(tmp_path) == files


@pytest.mark.parametrize("module", ["spectrum.kernels", "events.kernels", "histograms.slices"])
def test_no_compiled_function_is_a_closure(module):
    """numba looks a function up by its code and what it closes over, and another compiled
    function is not the same to it in two processes."""
    names = vars(importlib.import_module(f"cosi_linebkg_plugin.{module}"))
    functions = [f.py_func for f in names.values() if hasattr(f, "py_func")]
    assert functions
    assert [f.__name__ for f in functions if f.__closure__] == []


@pytest.mark.parametrize("prior", [None, Prior.gaussian(-2.1, 0.01)])
def test_the_loops_in_python_do_as_the_compiled_ones(prior):
    """Those of models with Python functions, tried on a model without."""
    model = tutorial_model(index=-2.0, sigma=3.0)
    spectrum = simulated_spectrum(model, np.linspace(1500, 2000, 100), np.random.default_rng(2))
    model = tutorial_model(index=-1.5, sigma=2.0)
    parameters = [
        replace(p, prior=prior if p.name == "index_1" else None) for p in model.parameters
    ]
    model = replace(model, parameters=tuple(parameters))
    compiled, plain = Objective(model, spectrum), Objective(model, spectrum)
    plain._args = None
    theta, free = model.values, model.free
    for ours, theirs in zip(plain.scoring(theta), compiled.scoring(theta), strict=True):
        assert_allclose(ours, theirs, rtol=1e-9, atol=1e-9 * np.abs(theirs).max())
    (end, value), (expected, least) = (o.score_to_minimum(theta, free) for o in (plain, compiled))
    assert value == pytest.approx(least, rel=1e-9)
    assert_allclose(end, expected, rtol=1e-6)
    steps = 1e-4 * np.abs(end[free])
    hessian = compiled.hessian(end, free, steps)
    assert_allclose(plain.hessian(end, free, steps), hessian, rtol=1e-5, atol=1e-9)
