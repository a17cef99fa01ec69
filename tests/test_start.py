"""What each command imports: nothing that it does not need (docs/benchmarks.md says what it gains).

Every command runs in a process of its own, which lists the libraries that it has loaded at the end.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

#: Libraries that take time to import, and that something of this package uses.
HEAVY = {
    "IPython", "astromodels", "astropy", "corner", "dask", "distributed", "emcee", "h5py", "healpy",
    "histpy", "iminuit", "jinja2", "matplotlib", "mhealpy", "numba", "numpy", "pandas", "pydantic",
    "rich", "scipy", "scipy.optimize", "scipy.stats", "scoords", "sparse", "threeML", "yaml",
}  # fmt: skip

#: numba loads the compiled functions of `sparse`, where that is installed.
NUMBERS = {"numpy", "scipy", "numba", "sparse"}

CONFIGURATION = {"pydantic", "yaml"}

#: What each command may load.
FIT = NUMBERS | CONFIGURATION | {"h5py", "iminuit", "matplotlib"}
ALLOWED = {
    "--version": set(),
    "--help": set(),
    "run --help": set(),
    "bin --help": set(),
    "lines": {"numpy", "rich"},
    "init": NUMBERS | {"h5py", "yaml"},
    "check": FIT,
    "bin": NUMBERS | {"h5py", "yaml"},
    "bin, FITS": NUMBERS | {"astropy", "h5py", "yaml"},
    "fit": FIT,
    "run": FIT | {"jinja2"},
    "run, bayesian": FIT | {"jinja2", "emcee", "corner", "scipy.optimize", "scipy.stats"},
    "template": FIT,
    "demo": FIT | {"jinja2", "rich"},
    "compare": NUMBERS | CONFIGURATION | {"h5py", "rich"},
}

CODE = """
import json, sys
from cosi_linebkg_plugin.app.cli import main
try:
    code = main(sys.argv[1:])
except SystemExit as exit:
    code = exit.code
sys.stdout.write("\\n" + json.dumps([code, sorted(sys.modules)]))
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    from event_lists import make_events, write_fits, write_hdf5

    from cosi_linebkg_plugin.app.demo import simulated_events
    from cosi_linebkg_plugin.app.simulation import simulate
    from cosi_linebkg_plugin.histograms.axes import source_axis
    from cosi_linebkg_plugin.histograms.write import make_histogram, write_histogram

    folder = tmp_path_factory.mktemp("start")
    simulation = simulate(1, nside=1)
    events = simulated_events(simulation)
    write_histogram(folder / "events.hdf5", events)
    low, high = map(float, simulation.energy_edges[[61, 63]])
    axes = list(events.axes)
    axes[0] = source_axis(axes[0], low, high)
    observed = events.to_dense().contents[61:63].sum(axis=0)
    write_histogram(folder / "observed.hdf5", make_histogram(axes, observed[None]))
    write_hdf5(folder / "list.hdf5", make_events(1000))
    write_fits(folder / "list.fits.gz", make_events(1000))
    config = {
        "events": "events.hdf5",
        "source_range": [low, high],
        "mask": [[1500, 1740], [1790, 1825], [1880, 2000]],
        "model": {"pivot": 1800, "lines": [1764.3, 1779.0]},
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    (folder / "bayesian.yaml").write_text(yaml.safe_dump(config | {"engine": "bayesian"}))
    return folder


def loaded(folder, *arguments):
    """The libraries of `HEAVY` that a command loads."""
    path = str(Path(__file__).resolve().parents[1])
    run = subprocess.run(
        [sys.executable, "-c", CODE, *arguments],
        cwd=folder, capture_output=True, text=True, check=False,
        env=os.environ | {"PYTHONPATH": path, "MPLBACKEND": "Agg", "COLUMNS": "200"},
    )  # fmt: skip
    code, modules = json.loads(run.stdout.splitlines()[-1])
    assert code == 0, run.stderr
    return {name for name in HEAVY if name in modules}


@pytest.mark.parametrize("command", ["--version", "--help", "run --help", "bin --help", "lines"])
def test_what_needs_no_events_loads_next_to_nothing(folder, command):
    assert loaded(folder, *command.split()) <= ALLOWED[command]


def test_init_and_check_load_no_more_than_they_need(folder):
    found = loaded(folder, "init", "events.hdf5", "--out", "first.yaml")
    assert found <= ALLOWED["init"]
    assert loaded(folder, "check", "config.yaml") <= ALLOWED["check"]


@pytest.mark.parametrize(("command", "name"), [("bin", "hdf5"), ("bin, FITS", "fits.gz")])
def test_bin_loads_no_configuration_and_no_fit(folder, command, name):
    found = loaded(
        folder, "bin", f"list.{name}", "--out", "binned.hdf5", "--energy-edges", "200:5000:100",
        "--phi-pix-size", "30", "--nside", "2",
    )  # fmt: skip
    assert found <= ALLOWED[command]


def test_fit_run_template_demo_and_compare_load_neither_threeml_nor_astromodels(folder):
    commands = {
        "fit": ["fit", "config.yaml", "--out", "fit"],
        "run": ["run", "config.yaml", "--out", "run"],
        "template": ["template", "config.yaml", "--fit", "fit/fit.json", "--out", "made"],
        "compare": ["compare", "run/template.h5", "observed.hdf5", "--nside", "1"],
        "run, bayesian": ["run", "bayesian.yaml", "--out", "sampled"],
        "demo": ["demo", "--out", "demo"],
    }
    for name, command in commands.items():
        more = loaded(folder, *command) - ALLOWED[name]
        assert not more, f"{name} loads {', '.join(sorted(more))}"


def test_the_engine_of_threeml_loads_it(folder):
    config = yaml.safe_load((folder / "config.yaml").read_text())
    (folder / "joint.yaml").write_text(yaml.safe_dump(config | {"engine": "joint_likelihood"}))
    found = loaded(folder, "fit", "joint.yaml", "--out", "joint", "--quiet")
    assert {"threeML", "astromodels"} <= found
