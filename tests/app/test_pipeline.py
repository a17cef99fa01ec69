"""The job of a configuration from Python: what is checked first, what is written, what is drawn."""

import base64
import gc
import re
import weakref

import h5py
import numpy as np
import pytest
import yaml
from histpy import Histogram
from matplotlib.figure import Figure

from cosi_linebkg_plugin.app import pipeline
from cosi_linebkg_plugin.app.cli import _settings_of_python, main
from cosi_linebkg_plugin.app.config import load_config
from cosi_linebkg_plugin.app.demo import simulated_events
from cosi_linebkg_plugin.app.simulation import simulate
from cosi_linebkg_plugin.errors import (
    ConfigError,
    FileError,
    LineBackgroundError,
    TemplateError,
    one_line,
)
from cosi_linebkg_plugin.histograms.orientation import Livetime, write_binning
from cosi_linebkg_plugin.histograms.write import write_histogram

pytestmark = pytest.mark.filterwarnings(  # what a template notes is printed by commands
    "ignore::cosi_linebkg_plugin.errors.LineBackgroundWarning"
)

CONFIG = {
    "events": "events.hdf5",
    "source_range": [1805, 1812],
    "mask": [[1500, 1700], [1790, 1825], [1880, 2000]],
    "model": {"pivot": 1800, "lines": [1723, 1757.5, 1764, 1779]},
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pipeline")
    write_histogram(folder / "events.hdf5", simulated_events(simulate(1, nside=1)))
    return folder


@pytest.fixture
def load(folder, tmp_path):
    def load(**changes):
        path = folder / f"{tmp_path.name}.yaml"
        path.write_text(yaml.safe_dump(CONFIG | changes))
        return load_config(path)

    return load


class Told:
    """A progress that keeps what it is told."""

    def __init__(self):
        self.said, self.counted = [], []

    def say(self, text):
        self.said.append(text)

    def count(self, done, total, what=""):
        self.counted.append((done, total, what))


def test_a_figure_is_drawn_once_and_the_report_holds_the_same(load, tmp_path, monkeypatch):
    from matplotlib.figure import Figure

    drawn = []
    savefig = Figure.savefig
    monkeypatch.setattr(
        Figure, "savefig", lambda self, *a, **k: (drawn.append(self), savefig(self, *a, **k))[1]
    )
    progress = Told()
    outcome = pipeline.run(load(), tmp_path / "out", progress=progress)
    pictures = {p.read_bytes() for p in outcome.files if p.suffix == ".png"}
    report = (tmp_path / "out" / "report.html").read_text()
    held = {base64.b64decode(x) for x in re.findall(r"data:image/png;base64,([^\"]+)", report)}
    assert len(drawn) == len(pictures) == 6 and held == pictures
    assert progress.said[0] == "reading the events" and "making the template" in progress.said


def test_everything_is_checked_before_anything_is_fitted(load, monkeypatch):
    monkeypatch.setattr("cosi_linebkg_plugin.fit.minimise.fit_spectrum", None)
    prepared = pipeline.prepare(load())
    assert prepared.plan is not None
    (note,) = prepared.notes  # for data on these bins
    assert "cuts through energy bins" in note and "[1803.030303, 1813.131313]" in note
    assert prepared.spectrum.masked_ranges()[1] == pytest.approx((1787.88, 1828.28), abs=0.01)
    with pytest.raises(TemplateError, match="line_ratio names a line at 1600 keV"):
        ratio = {"line": 1808.65, "tracer": 1600, "value": 0.1}
        pipeline.prepare(load(template={"line_ratio": ratio}))
    again = pipeline.prepare(load(source_range=[1845, 1855]), known=prepared.events)
    assert again.events is prepared.events


def test_a_configuration_without_a_source_range_has_no_plan(load):
    prepared = pipeline.prepare(load(source_range=None))
    with pytest.raises(LineBackgroundError, match="names no source_range"):
        pipeline.require_plan(prepared)


def with_livetime(folder, name="with_livetime.hdf5"):
    """The events beside what `cosi-linebkg bin` writes of their times."""
    path = folder / name
    path.write_bytes((folder / "events.hdf5").read_bytes())
    with h5py.File(path, "a") as file:
        write_binning(
            file, Livetime(80.0, np.array([[1.8e9, 1.8e9 + 40], [1.9e9, 1.9e9 + 60]])), {}
        )
    return name


@pytest.mark.parametrize("by_option", [False, True])
def test_the_background_of_cosi_threemlfit(load, folder, tmp_path, by_option):
    """From the configuration, or the option of run and of template; the times of the livetime."""
    given = {} if by_option else {"output": {"pipeline": True}}
    load(events=with_livetime(folder), **given)
    path, out = str(folder / f"{tmp_path.name}.yaml"), tmp_path / "out"
    option = ["--pipeline", "--quiet"] if by_option else ["--quiet"]
    assert main(["run", path, "--out", str(out), *option]) == 0
    again = ["--fit", str(out / "fit.json"), "--out", str(tmp_path / "again")]
    assert main(["template", path, *again, *option]) == 0
    total = np.asarray(Histogram.open(out / "background.hdf5").contents)
    for made in (out, tmp_path / "again"):
        found = Histogram.open(made / "background_threemlfit.hdf5")
        assert [axis.label for axis in found.axes] == ["Time", "Em", "Phi", "PsiChi"]
        assert found.axes["Time"].edges.to_value("s").tolist() == [1.8e9, 1.9e9 + 60]
        np.testing.assert_allclose(found.contents[0], total, rtol=1e-12)
    assert main(["template", path, *again, "--quiet"]) == 0
    assert (tmp_path / "again" / "background_threemlfit.hdf5").exists() != by_option


def test_a_background_of_unknown_times_is_refused_before_the_fit(load, folder, monkeypatch):
    monkeypatch.setattr("cosi_linebkg_plugin.fit.minimise.fit_spectrum", None)
    output = {"pipeline": True}
    for changes, message in (
        ({}, "output.pipeline: cosi-threemlfit needs the times of the events"),
        ({"source_range": None}, "output.pipeline: A background needs source_range"),
        (
            {
                "events": with_livetime(folder),
                "source_range": [1500 + 500 * k / 99 for k in (60, 61)],
                "template": {"like": "events.hdf5"},
            },
            "output.pipeline: cosi-threemlfit uses the whole energy axis, 1500-2000 keV",
        ),
    ):
        with pytest.raises(LineBackgroundError) as error:
            pipeline.prepare(load(output=output, **changes))
        assert message in one_line(error.value)
    with pytest.raises(ConfigError, match="output.pipelines: unknown key; did you mean pipeline?"):
        load(output={"pipelines": True})


def test_an_output_that_is_read_is_refused(load, folder):
    (folder / "background.hdf5").write_bytes((folder / "events.hdf5").read_bytes())
    config = load(events="background.hdf5")
    pipeline.check_outputs(folder / "elsewhere", config)
    with pytest.raises(FileError, match="would replace a file that is read"):
        pipeline.check_outputs(folder, config)


def test_observed_counts_stand_in_the_figure_along_phi(load, folder, tmp_path):
    from histpy import Histogram

    from cosi_linebkg_plugin.histograms.axes import source_axis
    from cosi_linebkg_plugin.histograms.write import make_histogram

    events = Histogram.open(str(folder / "events.hdf5"))
    edges = events.axes["Em"].edges.to_value("keV")
    low, high = float(edges[60]), float(edges[62])
    axes = [source_axis(events.axes["Em"], low, high), *list(events.axes)[1:]]
    counts = events.to_dense().contents[60:62].sum(axis=0)
    write_histogram(tmp_path / "observed.hdf5", make_histogram(axes, counts[None]))
    for options, labels in (
        ({}, []),
        ({"observed": str(tmp_path / "observed.hdf5")}, ["observed"]),
    ):
        config = load(source_range=[low, high], template=options)
        prepared = pipeline.prepare(config)
        fit = pipeline.fit_config(config, prepared.spectrum)
        template = pipeline.template_config(prepared.plan, fit)
        figure = dict(pipeline._figures(fit, template, prepared.plan.observed))["phi"]
        named = figure.axes[0].get_legend_handles_labels()[1]
        assert [name for name in named if name == "observed"] == labels
        assert len(figure.axes) == 1 + len(labels)  # chi below
        if labels:
            (seen,) = [x for x in figure.axes[0].containers if x.get_label() == "observed"]
            assert seen[0].get_ydata().sum() == counts.sum()
            (note,) = pipeline._against_observed(template, prepared.plan)  # the source is in them
            assert "does NOT describe the counts" in note and "PsiChi chi2" in note
        else:
            assert pipeline._against_observed(template, prepared.plan) == ()


@pytest.mark.parametrize("edges", ["1805:1812:1", [1805, 1807.5, 1812]])
def test_energy_bins_of_a_configuration(load, tmp_path, edges):
    """Template, figures and report of several energy bins; what was planned is what is written."""
    config = load(template={"energy_edges": edges, "validate": False})
    prepared = pipeline.prepare(config)
    planned = pipeline.planned_files(config, prepared)
    done = pipeline.run(config, tmp_path)
    written = {path.name for path in tmp_path.iterdir()}
    assert {"energies.png", "phi_energy.png"} <= set(planned) <= written
    assert done.template.event_axes["Em"].nbins == (7 if isinstance(edges, str) else 2)
    report = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "Compton scattering angle against energy" in report
    assert "The background&#39;s spectrum inside" in report or "background's spectrum" in report


def test_bad_energy_bins_are_refused_before_any_work(load):
    for edges, message in (
        ([1804, 1808, 1812], "energy_edges.*outside the source range"),
        ([1805, 1808, 1807, 1812], "energy_edges.*increase"),
        ("1805:1812:2", "energy_edges.*does not divide"),
    ):
        with pytest.raises(LineBackgroundError, match=message):
            pipeline.prepare(load(template={"energy_edges": edges}))


def test_the_filter_is_chosen_from_the_data_where_none_is_given(load, tmp_path):
    """Whole counts with directions allow it; a filter, or "none", is kept."""
    for given, chosen in (({}, True), ({"smoothing": "none"}, False), ({"l_cut": 1}, False)):
        plan = pipeline.prepare(load(template=given)).plan
        assert plan.options.chooses_filter == chosen
    assert plan.options.l_cut == 1


def test_a_figure_is_let_go_before_the_next_is_made():
    """Five of them would take 40 MB until Python looks for unused objects."""
    made = []

    def figure():
        assert [ref() for ref in made] == [None] * len(made)
        new = Figure(layout="constrained")
        new.subplots(2, 1)
        made.append(weakref.ref(new))
        return new

    def figures():
        for name in ("first", "second", "third"):
            yield name, figure()

    before = gc.get_freeze_count()
    with _settings_of_python():
        pictures = pipeline.drawn(figures())
    assert list(pictures) == ["first", "second", "third"] and len(made) == 3
    assert all(picture.startswith(b"\x89PNG") for picture in pictures.values())
    assert gc.get_freeze_count() <= before
