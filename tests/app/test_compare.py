"""Templates in files against observed counts: names, refusals, files."""

import pytest

from cosi_linebkg_plugin.app.compare import compare_files
from cosi_linebkg_plugin.app.config import parse_config
from cosi_linebkg_plugin.app.demo import simulated_events
from cosi_linebkg_plugin.app.pipeline import run
from cosi_linebkg_plugin.app.simulation import simulate
from cosi_linebkg_plugin.errors import ConfigError
from cosi_linebkg_plugin.histograms.axes import source_axis
from cosi_linebkg_plugin.histograms.write import make_histogram, write_histogram

pytestmark = pytest.mark.filterwarnings(  # what a template notes is printed by commands
    "ignore::cosi_linebkg_plugin.errors.LineBackgroundWarning"
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("compare")
    simulation = simulate(1, nside=1)
    events = simulated_events(simulation)
    write_histogram(folder / "events.hdf5", events)
    low, high = map(float, simulation.energy_edges[[61, 63]])
    axes = list(events.axes)
    axes[0] = source_axis(axes[0], low, high)
    observed = events.to_dense().contents[61:63].sum(axis=0)
    write_histogram(folder / "observed.hdf5", make_histogram(axes, observed[None]))
    mapping = {
        "events": "events.hdf5", "source_range": [low, high],
        "mask": [[1500, 1700], [1790, 1825], [1880, 2000]],
        "model": {"pivot": 1800, "lines": [1723, 1757.5, 1764, 1779]},
        "template": {"method": "sideband", "sidebands": [[1830, 1875]]},
    }  # fmt: skip
    for name in ("a", "b"):
        run(parse_config(mapping, folder), folder / name)
    return folder


def test_templates_are_named_by_their_folders_where_files_have_one_name(folder, tmp_path):
    paths = [folder / name / "template.h5" for name in ("a", "b")]
    rows, files = compare_files(paths, folder / "observed.hdf5", tmp_path / "out", nside=1)
    assert [row.name for row in rows] == [str(folder / n / "template") for n in ("a", "b")]
    assert rows[0].counts == rows[1].counts and rows[0].observed > 0
    names = [file.name for file in files]
    assert names[:3] == ["comparison.csv", "comparison.json", "comparison_phi.png"]
    assert len([n for n in names if n.startswith("maps_")]) == 2
    assert all(file.stat().st_size for file in files)
    alone, nothing = compare_files(paths[:1], folder / "observed.hdf5", None, nside=1)
    assert alone[0].name == "template" and nothing == []


def test_what_cannot_be_compared_is_refused(folder, tmp_path):
    path = folder / "a" / "template.h5"
    with pytest.raises(ConfigError, match="--nside must be a power of 2"):
        compare_files([path], folder / "observed.hdf5", None, nside=3)
    with pytest.raises(ConfigError, match="is given twice"):
        compare_files([path, path], folder / "observed.hdf5", tmp_path / "out")
    many = [folder / str(i) / "template.h5" for i in range(7)]
    with pytest.raises(ConfigError, match="At most 6 templates at a time, got 7"):
        compare_files(many, folder / "observed.hdf5", None)
