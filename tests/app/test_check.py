"""`cosi-linebkg check` and `run --dry-run`: all checks of a run, what it would do, and no file."""

import os

import histpy
import numpy as np
import pytest
import yaml
from event_lists import make_events, write_hdf5

from cosi_linebkg_plugin.app import check, pipeline
from cosi_linebkg_plugin.app.cli import main
from cosi_linebkg_plugin.app.config import load_config
from cosi_linebkg_plugin.app.demo import simulated_events
from cosi_linebkg_plugin.app.simulation import simulate
from cosi_linebkg_plugin.errors import FileError
from cosi_linebkg_plugin.histograms.write import write_histogram

CONFIG = {
    "events": "events.hdf5",
    "source_range": [1805, 1812],
    "mask": [[1500, 1700], [1790, 1825], [1880, 2000]],
    "model": {"pivot": 1800, "lines": [1723, 1757.5, 1764, 1779]},
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("check")
    write_histogram(folder / "events.hdf5", simulated_events(simulate(1, nside=2)))
    return folder


@pytest.fixture
def write(folder, tmp_path):
    def write(**changes):
        path = folder / f"{tmp_path.name}.yaml"
        path.write_text(yaml.safe_dump(CONFIG | changes))
        return path

    return write


def everything(folder):
    return {p: p.stat().st_mtime_ns for p in folder.rglob("*")}


@pytest.mark.parametrize("command", [["check"], ["run", "--dry-run"]])
def test_it_says_what_would_be_done_and_touches_nothing(folder, write, capsys, command):
    path, out = write(), folder / "out"
    before = everything(folder)
    assert main([*command, str(path), "--out", str(out)]) == 0
    assert everything(folder) == before
    said = capsys.readouterr().out
    assert "fit: 27 of 99 energy bins, 1500-2000 keV, " in said
    assert "model: powerlaw and 4 lines, 11 free parameters; engine: minuit" in said
    assert "template: components, source range 1805-1812 keV, made from 1732" in said
    assert f"would write to {out}: fit.json, template.h5" in said
    assert "the configuration is good; nothing was written" in said


def test_a_dry_run_takes_the_option_for_the_pipeline(folder, write, capsys):
    """It was left out: a run that would be refused was called good."""
    path, out = write(), folder / "out"
    run = ["run", str(path), "--out", str(out), "--pipeline"]
    for command in (run, [*run, "--dry-run"]):
        assert main(command) == 2
        assert "output.pipeline: " in capsys.readouterr().err
    assert not out.exists()


@pytest.mark.filterwarnings("ignore::cosi_linebkg_plugin.errors.LineBackgroundWarning")
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"model": {"lines": "auto"}, "template": {"smoothing": "auto"}},
        {"template": {"method": "sideband", "sidebands": [[1830, 1880]]}},
        {"source_range": None},
        {"model": {}, "template": {"order": 0}},
        {"engine": "bayesian"},
    ],
)
def test_the_files_that_it_names_are_those_that_a_run_writes(write, tmp_path, changes):
    config = load_config(write(**changes))
    names = pipeline.planned_files(config, pipeline.prepare(config))
    outcome = pipeline.run(config, tmp_path / "out")
    assert [path.name for path in outcome.files] == names


@pytest.mark.parametrize(
    "mask, said_of_lines",
    [([1790, 1825], "a line hidden in the mask has no known amount"),
     ([1880, 2000], "those fitted in the source range, photons of a source there included")],
)  # fmt: skip
def test_what_is_known_of_the_lines_depends_on_the_mask(write, capsys, mask, said_of_lines):
    assert main(["check", str(write(mask=[mask]))]) == 0
    assert f"its lines: {said_of_lines}" in capsys.readouterr().out


def test_a_method_that_is_still_to_be_chosen(folder, write, capsys):
    assert main(["check", str(write(template={"method": "auto"})), "--out", "o"]) == 0
    said = capsys.readouterr().out
    assert "template: the method that predicts control ranges best" in said
    assert "background_background.hdf5, background_continuum.hdf5, background_lines.hdf5" in said
    assert "of the files background_*.hdf5 those of the method that is chosen" in said


def test_events_with_weights_are_named(folder, tmp_path, capsys):
    events = simulated_events(simulate(1, nside=2)).project("Em")
    counts = events.to_dense().contents
    weighted = histpy.Histogram(events.axes, 4 * counts, sumw2=16 * counts)
    write_histogram(tmp_path / "events.hdf5", weighted)
    path = tmp_path / "c.yaml"
    path.write_text(yaml.safe_dump(CONFIG))
    assert main(["check", str(path)]) == 0
    assert (
        "note: the variances of the events' counts (sumw2) are 4 times" in capsys.readouterr().out
    )


def test_it_says_what_would_be_replaced(write, tmp_path, capsys):
    path = write()
    (tmp_path / "fit.json").write_text("old")
    assert main(["check", str(path), "--out", str(tmp_path)]) == 0
    assert "would replace there: fit.json\n" in capsys.readouterr().out
    assert (tmp_path / "fit.json").read_text() == "old"


def test_each_region_is_checked(folder, write, capsys):
    regions = [{"name": "a"}, {"name": "b", "source_range": [1845, 1855]}]
    path = write(regions=regions)
    assert main(["check", str(path), "--out", str(folder / "out")]) == 0
    said = capsys.readouterr().out
    assert "region a:" in said and "region b:" in said
    assert f"would write to {folder / 'out' / 'b'}: fit.json" in said
    assert f"would write to {folder / 'out'}: report.html" in said
    assert main(["check", str(path), "--region", "b"]) == 0
    assert "region a:" not in capsys.readouterr().out
    bad = [regions[0], regions[1] | {"mask": [[10, 20]]}]
    assert main(["check", str(write(regions=bad))]) == 2
    assert "region b: mask: The mask 10-20 keV lies outside" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"source_range": [2805, 2812]}, "source_range: The source range 2805-2812 keV reaches"),
        ({"source_range": [2805, 2812], "mask": []}, "source_range: The source range 2805"),
        ({"mask": [[100, 200]]}, "mask: The mask 100-200 keV lies outside"),
        ({"template": {"l_cut": 40}}, "template: l_cut=40 smooths nothing: PsiChi of nside 2"),
        ({"template": {"l_cut": 5}}, "holds multipoles up to l = 5 alone"),
        ({"template": {"window": [1, 2]}}, "template: The window 1-2 keV"),
        ({"template": {"window": [1826, 1834]}}, "1 energy bin cannot tell apart 2"),
        ({"template": {"method": "interpolated", "sidebands": [[1828, 1834]]}}, "two or more"),
        ({"template": {"line_ratio": {"line": 1700, "tracer": 1779, "value": 0.1}}},
         "template: line_ratio names a line at 1700 keV, of which nothing falls"),
        ({"source_range": [1775, 1785], "mask": [[1500, 1700]],
          "template": {"line_ratio": {"line": 1779.5, "tracer": 1764, "value": 0.1}}},
         "but the model has one at 1779 keV already; it would be counted twice"),
    ],
)  # fmt: skip
def test_what_can_be_refused_is_refused_with_file_and_key(
    write, folder, capsys, monkeypatch, changes, message
):
    monkeypatch.setattr("cosi_linebkg_plugin.app.pipeline.fit_config", None)  # no fit is reached
    path = write(**changes)
    before = everything(folder)
    for command in (["check"], ["run", "--dry-run", "--out", "o"], ["run", "--out", "o"]):
        assert main([*command[:1], str(path), *command[1:]]) == 2
        error = capsys.readouterr().err
        assert error.startswith(f"cosi-linebkg: {path}: ") and error.count("\n") == 1
        assert message in error
    assert everything(folder) == before


def test_ranges_are_refused_before_event_lists_are_binned(tmp_path, capsys, monkeypatch):
    write_hdf5(tmp_path / "list.hdf5", make_events(1000))
    config = CONFIG | {
        "events": "list.hdf5",
        "source_range": [3000, 3010],
        "binning": {"energy_edges": "1500:2000:5", "phi_pix_size": 30, "nside": 1},
    }
    path = tmp_path / "c.yaml"
    path.write_text(yaml.safe_dump(config))
    monkeypatch.setattr("cosi_linebkg_plugin.app.pipeline.bin_config", None)
    assert main(["check", str(path)]) == 2
    assert f"{path}: source_range: The source range 3000-3010" in capsys.readouterr().err


def test_weighted_counts_have_no_halves(folder, write, tmp_path, capsys):
    from histpy import Histogram

    events = Histogram.open(str(folder / "events.hdf5"))
    write_histogram(tmp_path / "half.hdf5", events * 0.3)
    path = write(events=str(tmp_path / "half.hdf5"), template={"smoothing": "auto"})
    assert main(["check", str(path)]) == 2
    assert "template: smoothing='auto' splits the counts" in capsys.readouterr().err


def test_a_width_that_the_bins_do_not_show_is_said(tmp_path, capsys):
    events = simulated_events(simulate(1, nside=1, energy_edges=np.arange(1500.0, 2001.0, 20.0)))
    write_histogram(tmp_path / "events.hdf5", events)
    path = tmp_path / "c.yaml"
    path.write_text(yaml.safe_dump(CONFIG | {"mask": [[1780, 1840]], "model": {"lines": [1721]}}))
    assert main(["check", str(path)]) == 0
    said = capsys.readouterr().out
    assert "note: model: the width sigma_2 is held at its start: bins of 20 keV do not show" in said
    assert "1 line, 4 free parameters" in said


def test_a_protected_folder_is_refused(tmp_path, monkeypatch):
    tmp_path.chmod(0o500)
    if os.geteuid() == 0:  # root may write everywhere
        monkeypatch.setattr(os, "access", lambda path, mode: not mode & os.W_OK)
    with pytest.raises(FileError, match="may not be written to"):
        check.check_writable(tmp_path / "a" / "b")


def test_a_folder_below_a_file_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(FileError, match="is no folder"):
        check.check_writable(tmp_path / "file" / "out")
    check.check_writable(tmp_path / "new" / "out")
    assert not (tmp_path / "new").exists()
    assert np.any([p.name == "file" for p in tmp_path.iterdir()])
