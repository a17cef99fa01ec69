"""The plan of a template: what is refused before a fit, and what is opened once."""

from collections import Counter
from pathlib import Path

import h5py
import numpy as np
import pytest

from cosi_linebkg_plugin.app.config import load_config
from cosi_linebkg_plugin.app.demo import resolved_lines, simulated_events
from cosi_linebkg_plugin.app.pipeline import run
from cosi_linebkg_plugin.app.simulation import SOURCE_RANGE, simulate
from cosi_linebkg_plugin.errors import TemplateError
from cosi_linebkg_plugin.histograms.axes import source_axis
from cosi_linebkg_plugin.histograms.read import files_kept_open, open_events
from cosi_linebkg_plugin.histograms.write import make_histogram, write_histogram

pytestmark = pytest.mark.filterwarnings(
    "ignore::cosi_linebkg_plugin.errors.LineBackgroundWarning",
)


@pytest.fixture
def job(tmp_path):
    """A configuration with every kind of file that a template reads."""
    simulation = simulate(3, nside=1, sky_counts=5000.0)
    events = simulated_events(simulation)
    axes = list(events.axes)
    axes[0] = source_axis(axes[0], *SOURCE_RANGE)
    slices = np.array(list(simulation.expected_sky_slices()))
    for name, histogram in {
        "events": events,
        "sky": make_histogram(events.axes, slices),
        "sky_in_range": make_histogram(axes, simulation.expected_sky(*SOURCE_RANGE)[None]),
        "observed": make_histogram(axes, simulation.observed(*SOURCE_RANGE)[None]),
    }.items():
        write_histogram(tmp_path / f"{name}.hdf5", histogram)
    lines = ", ".join(f"{energy:g}" for energy in resolved_lines())
    config = tmp_path / "config.yaml"
    config.write_text(
        f"""\
events: events.hdf5
source_range: [{SOURCE_RANGE[0]:g}, {SOURCE_RANGE[1]:g}]
mask: [[1790, 1825]]
model: {{pivot: 1800, lines: [{lines}]}}
template:
  sky: [sky.hdf5, sky_in_range.hdf5]
  observed: observed.hdf5
  like: observed.hdf5
  livetime: 7776000
"""
    )
    return config


def test_a_run_opens_each_file_once(job, tmp_path, monkeypatch):
    opened = Counter()

    class Counting(h5py.File):
        def __init__(self, name, mode="r", *args, **kwargs):
            if mode == "r" and isinstance(name, str | Path):
                opened[Path(name).name] += 1
            super().__init__(name, mode, *args, **kwargs)

    monkeypatch.setattr(h5py, "File", Counting)
    outcome = run(load_config(job), tmp_path / "out")
    assert outcome.template.record.sky_norm is not None
    files = ("events", "sky", "sky_in_range", "observed")
    assert opened == {f"{name}.hdf5": 1 for name in files}


def test_files_kept_open_are_closed_and_are_not_blamed(job):
    """An error that has nothing to do with a file that is open does not name it."""
    path = job.parent / "observed.hdf5"
    with pytest.raises(TemplateError, match="^something else$"), files_kept_open():
        open_events(path).energy_counts()
        raise TemplateError("something else")
    with h5py.File(path, "r+"):  # HDF5 would refuse if it were open for reading
        pass


def test_a_file_that_is_written_anew_is_opened_anew(job):
    path, other = job.parent / "observed.hdf5", job.parent / "sky_in_range.hdf5"
    with files_kept_open():
        before = open_events(path).energy_counts()
        other.replace(path)
        after = open_events(path).energy_counts()
    assert before != after
