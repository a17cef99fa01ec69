"""Several regions in one configuration: what they share, what they are refused for, their page."""

import json
import re

import pytest
import yaml
from event_lists import make_events, write_hdf5

from cosi_linebkg_plugin.app.cli import main
from cosi_linebkg_plugin.app.config import load_config, load_regions
from cosi_linebkg_plugin.app.demo import simulated_events
from cosi_linebkg_plugin.app.pipeline import prepare, run
from cosi_linebkg_plugin.app.regions import run_regions
from cosi_linebkg_plugin.app.simulation import simulate
from cosi_linebkg_plugin.errors import (
    BinningError,
    ConfigError,
    FileError,
    FitError,
    ModelError,
    TemplateError,
    one_line,
)
from cosi_linebkg_plugin.histograms.write import write_histogram

SHARED = {
    "events": "events.hdf5",
    "mask": [[1500, 1700], [1790, 1825], [1880, 2000]],
    "model": {"pivot": 1800, "lines": [1723, 1757.5, 1764, 1779]},
}
REGIONS = [
    {"name": "al26", "source_range": [1805, 1812]},
    {
        "name": "upper",
        "source_range": [1845, 1855],
        "mask": [[1500, 1700], [1790, 1825], [1840, 1860], [1880, 2000]],
        "template": {"method": "interpolated"},
    },
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("regions")
    write_histogram(folder / "events.hdf5", simulated_events(simulate(1, nside=1)))
    return folder


@pytest.fixture
def write(folder, tmp_path):
    def write(regions=REGIONS, **shared):
        path = folder / f"{tmp_path.name}.yaml"
        path.write_text(yaml.safe_dump(SHARED | shared | {"regions": regions}))
        return path

    return write


def test_regions_share_what_they_do_not_give(write):
    configs = load_regions(write())
    al26, upper = configs["al26"], configs["upper"]
    assert list(configs) == ["al26", "upper"]
    assert al26.model == upper.model and al26.events == upper.events
    assert len(al26.mask) == 3 and len(upper.mask) == 4
    assert (al26.template.method, upper.template.method) == ("components", "interpolated")
    assert load_config(write(), "upper") == upper


def test_a_configuration_without_regions_is_one(folder):
    path = folder / "plain.yaml"
    path.write_text(yaml.safe_dump(SHARED))
    assert list(load_regions(path)) == [""]
    assert load_config(path) == load_regions(path)[""]
    with pytest.raises(ConfigError, match="got 'al26'; its regions are: none"):
        load_config(path, "al26")


@pytest.mark.parametrize(
    ("regions", "message"),
    [
        ([], r"regions: got \[\]; a list of mappings with the keys name, source_range"),
        ("al26", "regions: got 'al26'; a list"),
        ([3], r"regions\[0\]: got 3; a mapping"),
        ([{"source_range": [1, 2]}], r"regions\[0\].name: got nothing; a name of letters"),
        ([{"name": "../up"}], r"regions\[0\].name: got '../up'; a name of letters"),
        ([{"name": "a"}, {"name": "A"}], r"regions\[1\].name: A is there already"),
        ([{"name": "a", "souce_range": [1, 2]}], "souce_range: unknown key; did you mean source_r"),
        ([{"name": "a", "events": "x"}], r"regions\[0\].events: unknown key"),
        ([{"name": "a", "mask": [[2, 1]]}], r"regions\[0\] \(a\): mask\[0\]: got \[2, 1\]"),
    ],
)
def test_what_is_wrong_with_regions_is_named(write, regions, message):
    with pytest.raises(ConfigError, match=message):
        load_regions(write(regions))


def test_a_run_makes_each_region_and_a_page_of_all(folder, write, capsys):
    out = folder / "out"
    assert main(["run", str(write()), "--out", str(out)]) == 0
    text = capsys.readouterr().out
    assert re.search(r"region +source range +continuum +lines +background +deviance / dof", text)
    assert "upper: deviance/dof =" in text and "not known" in text
    for name in ("al26", "upper"):
        data = json.loads((out / name / "fit.json").read_text())
        assert data["valid"] and (out / name / "template.h5").exists()
        assert "regions" not in (out / name / "report.html").read_text()
    page = (out / "report.html").read_text()
    assert 'href="al26/report.html"' in page and 'href="upper/report.html"' in page
    assert "1845\u20131855 keV" in page and page.count("data:image/png") == 2


def test_what_was_noted_of_the_binning_is_said_once(folder, write, capsys):
    """Regions without a template have nothing else that repeats the notes."""
    write_hdf5(folder / "list.hdf5", make_events(20_000))
    binning = {"energy_edges": "1500:2000:5", "phi_pix_size": 35, "nside": 1}
    regions = [{"name": "al"}, {"name": "si", "mask": [[1500, 1700], [1850, 2000]]}]
    path = write(regions, events="list.hdf5", binning=binning)
    assert main(["run", str(path), "--out", str(folder / "noted")]) == 0
    out = capsys.readouterr().out
    assert out.count("does not divide") == 1 and out.count("events read") == 1


def test_one_region_alone(folder, write, capsys):
    out = folder / "alone"
    arguments = [str(write()), "--out", str(out), "--region", "upper", "--quiet"]
    assert main(["fit", *arguments]) == 0
    fit = str(out / "fit.json")
    assert main(["template", *arguments, "--fit", fit]) == 0
    assert (out / "background_background.hdf5").exists()
    assert main(["template", str(write()), "--out", str(out), "--fit", fit]) == 2
    assert "its regions are: al26, upper. Name one with --region" in capsys.readouterr().err


def test_nothing_is_written_if_a_region_is_wrong(folder, write, capsys):
    bad = [REGIONS[0], {"name": "far", "source_range": [3000, 3010]}]
    out = folder / "none"
    assert main(["run", str(write(bad)), "--out", str(out)]) == 2
    assert "region far: source_range:" in capsys.readouterr().err
    assert not out.exists()


#: Four lines of which the bins of 5 keV show one.
BLEND = {
    "mask": [[1790, 1825]],
    "model": {"lines": [{"energy": e, "window": [e - 0.5, e + 0.5]} for e in range(1722, 1726)]},
}


def test_a_region_that_fails_midway_is_named_and_leaves_no_old_page(folder, write, capsys):
    bad = [REGIONS[0], {"name": "b", "source_range": [1845, 1855]} | BLEND]
    out = folder / "midway"
    out.mkdir()
    (out / "report.html").write_text("old")
    assert main(["run", str(write(bad)), "--out", str(out)]) == 1
    assert "cosi-linebkg: region b: The fit did not converge" in capsys.readouterr().err
    assert (out / "al26" / "report.html").exists() and not (out / "report.html").exists()


RATIO = {"line": 1850, "tracer": 1600, "value": 0.1}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"template": {"line_ratio": RATIO}}, "template: line_ratio names a line at 1600 keV"),
        ({"template": {"tracers": [1779, 1700]}}, "template: tracers names a line at 1700 keV"),
        ({"model": {"lines": [1810]}}, "model: The line at 1810 keV (mu_2) lies in the mask"),
        ({"model": {"lines": [2500]}}, "model: The line at 2500 keV (mu_2) lies in the mask"),
        ({"template": {"window": [1845, 1855]}}, "template: No unmasked energy bin of the window"),
    ],
)
def test_what_can_be_refused_is_refused_before_any_fit(folder, write, capsys, change, message):
    """None of these waits for the fit of the first region."""
    out = folder / "refused"
    bad = [REGIONS[0], {"name": "b", "source_range": [1845, 1855]} | change]
    assert main(["run", str(write(bad)), "--out", str(out)]) == 2
    assert f"region b: {message}" in capsys.readouterr().err
    assert not out.exists()


def test_a_tracer_that_the_fit_may_reach_is_not_refused(folder, write):
    """The line starts 9 keV away; its window lets it come."""
    ratio = {"line": 1850, "tracer": 1779, "value": 0.1}
    config = load_config(
        write(
            [
                {
                    "name": "a",
                    "source_range": [1845, 1855],
                    "model": {"lines": [{"energy": 1770, "window": [1765, 1785]}]},
                    "template": {"line_ratio": ratio},
                }
            ]
        ),
        "a",
    )
    assert not any("tracer" in note for note in prepare(config).notes)


def test_one_region_of_a_folder_of_all_is_updated_with_the_page(folder, write, capsys):
    out = folder / "updated"
    assert main(["run", str(write()), "--out", str(out), "--quiet"]) == 0
    page, other = (out / "report.html").read_text(), (out / "al26" / "fit.json").read_bytes()
    changed = [REGIONS[0], REGIONS[1] | {"source_range": [1850, 1860]}]
    path = str(write(changed))
    assert main(["run", path, "--out", str(out), "--region", "upper"]) == 0
    assert f"written to {out / 'upper'}: fit.json" in capsys.readouterr().out
    assert sorted(p.name for p in out.iterdir()) == ["al26", "report.html", "upper"]
    new = (out / "report.html").read_text()
    assert new != page and "1850\u20131860 keV" in new and "1805\u20131812 keV" in new
    assert new.count("data:image/png") == 2 and new.index("al26/") < new.index("upper/")
    assert (out / "al26" / "fit.json").read_bytes() == other
    # results of one region, or of another configuration, do not stay beside the folders
    for name in ("fit.json", "template.h5", "phi.png"):
        (out / name).write_text("of an earlier run")
    (out / "mine.txt").write_text("")
    assert main(["run", path, "--out", str(out), "--region", "upper", "--quiet"]) == 0
    assert sorted(p.name for p in out.iterdir()) == ["al26", "mine.txt", "report.html", "upper"]
    # a region that is missing is left out of the page; one that is damaged is named before work
    (out / "al26" / "fit.json").unlink()
    assert main(["run", path, "--out", str(out), "--region", "upper", "--quiet"]) == 0
    assert (out / "report.html").read_text().count("data:image/png") == 1
    (out / "al26" / "fit.json").write_text("{}")
    assert main(["run", path, "--out", str(out), "--region", "upper", "--quiet"]) == 2
    assert "al26/fit.json" in capsys.readouterr().err
    assert (out / "report.html").exists()


@pytest.mark.parametrize(
    ("region", "kind", "line"),
    [
        (
            {"source_range": [3000, 3010]},
            BinningError,
            "region b: source_range: The source range 3000",
        ),
        ({"mask": [[1000, 3000]]}, BinningError, "region b: mask: "),
        ({"model": {"lines": list(range(1510, 1990, 10))}}, ModelError, "region b: model: "),
        (
            {"source_range": [1845, 1855], "template": {"pool": 2}},
            TemplateError,
            "region b: template: pool= groups",
        ),
    ],
)
def test_an_error_of_a_region_keeps_its_class(folder, write, region, kind, line):
    """Fault 5 of the house: every error was a bare LineBackgroundError, or a ConfigError."""
    path = write([REGIONS[0], {"name": "b"} | region])
    with pytest.raises(kind) as caught:
        run_regions(load_regions(path), folder / "classes")
    assert one_line(caught.value).startswith(f"{path}: {line}")
    assert caught.value.__notes__[-2:] == [
        "in the configuration, at region b",
        f"in the configuration, at {path}",
    ]


def test_a_fit_that_fails_keeps_its_result_and_its_region(folder, write):
    bad = {"name": "b"} | BLEND
    with pytest.raises(FitError) as caught:
        run_regions(load_regions(write([{"name": "a"}, bad])), folder / "failing")
    assert one_line(caught.value).startswith("region b: ") and not caught.value.result.valid


def test_a_damaged_file_is_a_file_error_wherever_it_stands(folder, write):
    whole = (folder / "events.hdf5").read_bytes()
    (folder / "damaged.hdf5").write_bytes(whole[:20_000])
    path = write(events="damaged.hdf5")
    with pytest.raises(FileError, match="damaged.hdf5") as caught:
        run(load_config(path, "al26"), folder / "damaged")
    assert one_line(caught.value).startswith(f"{path}: events: ")
    like = [REGIONS[0] | {"template": {"like": "damaged.hdf5"}}]
    path = write(like)
    with pytest.raises(FileError, match="damaged.hdf5") as caught:
        run_regions(load_regions(path), folder / "damaged")
    assert one_line(caught.value).startswith(f"{path}: region al26: template: ")
