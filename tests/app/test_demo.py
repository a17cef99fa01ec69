"""The demo's data, configuration and comparison."""

import itertools

import pytest
import yaml

from cosi_linebkg_plugin.app import demo
from cosi_linebkg_plugin.app.simulation import DEMO_LINE_RATIO, simulate
from cosi_linebkg_plugin.errors import FileError


def test_the_ratio_is_marked_as_the_simulators():
    text = demo.demo_config()
    ratio = yaml.safe_load(text)["template"]["line_ratio"]
    assert ratio["value"] == DEMO_LINE_RATIO
    before = text[: text.index("line_ratio")].splitlines()
    assert "the simulator put in" in before[-3] and "invents background" in before[-2]


def test_lines_that_bins_cannot_tell_apart_stand_once():
    lines = demo.resolved_lines()
    assert lines == sorted(lines) and all(b - a > 6 for a, b in itertools.pairwise(lines))
    assert not any(demo.MASK[0] < line < demo.MASK[1] for line in lines)


def test_files_of_somebody_else_are_not_replaced(tmp_path):
    (tmp_path / "config.yaml").write_text("events: mine.hdf5")
    with pytest.raises(FileError, match="config.yaml is there already, not from a demo"):
        demo.run_demo(tmp_path)
    assert (tmp_path / "config.yaml").read_text() == "events: mine.hdf5"


@pytest.mark.parametrize("n_time", [None, 2])
def test_events_are_a_histogram_on_the_simulations_axes(n_time):
    simulation = simulate(1, nside=1, exposure_scale=1e-3, n_time=n_time)
    histogram = demo.simulated_events(simulation)
    labels = ["Time"] * (n_time is not None) + ["Em", "Phi", "PsiChi"]
    assert [axis.label for axis in histogram.axes] == labels
    assert histogram.contents.sum() == simulation.counts.sum()
