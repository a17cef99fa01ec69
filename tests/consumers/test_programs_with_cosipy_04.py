"""The real programs of cosipy 0.4.3 on a background of ours."""

import shutil

import astropy.units as u
import h5py
import numpy as np
import pytest
import yaml
from astropy.time import Time
from event_lists import START, make_events, write_hdf5, write_orientation
from numpy.testing import assert_allclose
from scipy.optimize import minimize

from cosi_linebkg_plugin.app.cli import main

pytest.importorskip("cosipy")

import cosipy04 as c4
from cosipy import SpacecraftHistory
from cosipy.data_io import EmCDSBinnedData
from cosipy.pipeline.src.fitting import get_fit_results
from cosipy.pipeline.task.task import cosi_threemlfit
from cosipy.response import FullDetectorResponse
from histpy import Axes, Axis, Histogram

TRUE_K = 0.02


@pytest.fixture(autouse=True)
def in_tmp(tmp_path, monkeypatch):
    """cosipy writes scratch files into the current folder."""
    monkeypatch.chdir(tmp_path)


class Case:
    """Faint enough for the program's limit of 20 Hz."""

    def __init__(self, frame):
        self.axes = c4.axes_in(frame)
        self.maps = {k: 0.008 * m for k, m in c4.components(self.axes).items()}
        self.template = c4.template_on(self.axes, self.maps)
        obstime = c4.history().obstime
        self.times = float(obstime[0].unix), float(obstime[-1].unix)
        self.sky = c4.sky_counts(frame)
        truth = TRUE_K * self.sky + sum(self.maps.values())
        self.counts = np.random.default_rng(4).poisson(truth).astype(float)
        timed = Axes([Axis(np.array(self.times) * u.s, label="Time"), *self.axes])
        self.data = Histogram(timed, contents=self.counts[None])

    def optimum(self):
        """K and the background's rate, without cosipy."""
        background = sum(self.maps.values())
        total = background.sum()

        def cost(x):
            e = x[0] * TRUE_K * self.sky + x[1] * background
            return np.sum(e - self.counts * np.log(e))

        found = minimize(cost, [1.0, 1.0], method="Nelder-Mead", tol=1e-10)
        return found.x[0] * TRUE_K, found.x[1] * total / c4.livetime()


@pytest.mark.parametrize("frame", ["local", "galactic"])
def test_the_fit_of_cosi_threemlfit(frame):
    """The function that the program calls, with the histogram as it reads it from the file."""
    case = Case(frame)
    background = case.template.threemlfit_background(case.times)
    background.write("background.h5")
    opened = Histogram.open("background.h5")
    assert list(opened.axes.labels) == ["Time", "Em", "Phi", "PsiChi"]
    model = c4.sky(0.05)[0]
    results, expected = get_fit_results(
        case.data, opened, c4.RESPONSE, c4.history(), c4.history(), model
    )
    table = results.get_data_frame()
    k, rate = case.optimum()
    assert float(table["value"].iloc[0]) == pytest.approx(k, rel=2e-3)
    # the minimiser stops within a hundredth of the rate's error, which is half of it
    assert float(table["value"].iloc[1]) == pytest.approx(rate, rel=1e-2)
    assert rate < 20.0
    assert float(np.sum(expected)) == pytest.approx(case.counts.sum(), rel=5e-3)


CONFIG = """
threemlfit:
  model:
    source (point source):
      position:
        l: {{value: 50.0, min_value: 0.0, max_value: 360.0, unit: deg, free: false}}
        b: {{value: -45.0, min_value: -90.0, max_value: 90.0, unit: deg, free: false}}
        equinox: J2000
      spectrum:
        main:
          Band:
            K: {{value: {start}, min_value: 1.0e-7, max_value: 100.0, unit: keV-1 s-1 cm-2,
                is_normalization: true, delta: 0.01, free: true}}
            alpha: {{value: -1.0, min_value: -1.5, max_value: 3.0, unit: '', free: false}}
            xp: {{value: 500.0, min_value: 10.0, unit: keV, free: false}}
            beta: {{value: -2.0, min_value: -5.0, max_value: -1.6, unit: '', free: false}}
            piv: {{value: 500.0, unit: keV, free: false}}
          polarization: {{}}
  sc_file: {orientation}
  data: {{args: [data.h5], kwargs: {{input_yaml: {yaml}}}}}
  background: {{args: [background.h5], kwargs: {{input_yaml: {yaml}}}}}
  response: {{args: [{response}]}}
  cuts: {{kwargs: {{tstart: null, tstop: null}}}}
"""


def run_program(folder, *options, orientation=c4.ORIENTATION, response=c4.RESPONSE, start=0.05):
    """K and rate as it writes them; then it fails, at the flux, for a name that is not there."""
    from threeML import load_analysis_results_hdf

    yaml = c4.FILES / "test_spectral_fit.yaml"
    (folder / "fit.yaml").write_text(
        CONFIG.format(orientation=orientation, yaml=yaml, response=response, start=start)
    )
    with pytest.raises(NameError, match="threeML_config"):
        cosi_threemlfit(["--config", str(folder / "fit.yaml"), "-o", str(folder), *options])
    table = load_analysis_results_hdf(str(folder / "results.h5")).get_data_frame()
    return table["value"].to_numpy(float), table["error"].to_numpy(float)


def test_the_program_itself(tmp_path):
    case = Case("local")
    case.template.threemlfit_background(case.times).write("background.h5")
    case.data.write("data.h5")
    (k, rate), _ = run_program(tmp_path)
    expected = case.optimum()
    assert k == pytest.approx(expected[0], rel=2e-2)
    assert rate == pytest.approx(expected[1], rel=2e-2)


# --- what `cosi-linebkg run` writes --------------------------------------------------------------

DURATION = 1000.0


def cut_response(path):
    """The response of one of its bins of measured energy, and that bin's edges in keV."""
    shutil.copy(c4.RESPONSE, path)
    with h5py.File(path, "a") as file:
        for name, cut in (("COUNTS", np.s_[:, :, 5:6]), ("AXES/2", np.s_[5:7])):
            dataset = file["DRM"][name]
            values, attributes = dataset[cut], dict(dataset.attrs)
            del file["DRM"][name]
            file["DRM"].create_dataset(name, data=values).attrs.update(attributes)
    return [float(e) for e in FullDetectorResponse.open(path).axes["Em"].edges.to_value(u.keV)]


@pytest.mark.parametrize("frame", ["local", "galactic"])
@pytest.mark.parametrize(("own_time", "cut"), [(True, False), (True, True), (False, False)])
def test_the_program_on_what_a_run_writes(tmp_path, frame, own_time, cut):
    """From an event list to the program's result, with the optimum by hand.

    The times are those of a Time axis of two bins, or of the livetime beside the histogram. Where
    the program cuts the data, it keeps the whole background: it takes seconds for days.
    """
    low, high = cut_response(tmp_path / "response.h5")
    times = START + np.arange(0.0, DURATION + 1, 50.0)
    n = len(times)
    longitude = np.linspace(45.0, 55.0, n)  # of a telescope at rest cosipy cannot cut the times
    orientation = write_orientation(
        tmp_path / "o.ori", times, np.full(n, 40.0), np.full(n, -30.0), longitude,
        np.full(n, 60.0), longitude,
    )  # fmt: skip
    events = make_events(100_000, duration=DURATION)
    write_hdf5(tmp_path / "events.hdf5", events)
    edges = [*np.linspace(650, low, 15), *np.linspace(low, high, 21)[1:],
             *np.linspace(high, 1750, 9)[1:]]  # fmt: skip
    axis = {"time_edges": [START, START + 400.0, START + DURATION]}
    config = {
        "events": "events.hdf5",
        "binning": {
            "energy_edges": [float(e) for e in edges], "phi_pix_size": 6, "nside": 1,
            "frame": "spacecraftframe" if frame == "local" else frame, "orientation": "o.ori",
            **(axis if own_time else {}),
        },
        "source_range": [low, high],
        "template": {"method": "sideband", "sidebands": [[650, low], [high, 1750]]},
        "output": {"pipeline": True},
    }  # fmt: skip
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(config))
    assert main(["run", str(tmp_path / "run.yaml"), "--out", str(tmp_path / "out")]) == 0
    background = Histogram.open(tmp_path / "out" / "background_threemlfit.hdf5")
    found = background.axes["Time"].edges.to_value(u.s)
    assert_allclose(found, axis["time_edges"] if own_time else [START, START + DURATION])
    total = Histogram.open(tmp_path / "out" / "background.hdf5").project("Em", "Phi", "PsiChi")
    template = np.asarray(total.contents)
    assert_allclose(np.sum(background.contents, axis=0), template, rtol=1e-12)
    shutil.move(tmp_path / "out" / "background_threemlfit.hdf5", tmp_path / "background.h5")

    # the events of the source range, and a source
    stop = START + (400.0 if cut else DURATION)
    own = (events["Energies"] >= low) & (events["Energies"] < high) & (events["TimeTags"] < stop)
    counts = binned(events, own, frame, total.axes["PsiChi"])
    share = (stop - START) / DURATION
    assert abs(share * template.sum() - counts.sum()) < 5 * np.sqrt(counts.sum())
    history = SpacecraftHistory.open(orientation)
    history = history.select_interval(*Time([START, stop], format="unix"))
    detector = FullDetectorResponse.open(tmp_path / "response.h5")
    made = c4.folding(EmCDSBinnedData(c4.counts_of(total.axes, counts[None])), detector, history)
    made.set_model(c4.sky(1.0)[0])
    sky = np.asarray(made.expectation(copy=True).to_dense().contents)
    true_k = 500.0 / sky.sum()
    counts = counts[None] + np.random.default_rng(2).poisson(true_k * sky)
    one_bin = Axes([Axis([START, stop] * u.s, label="Time"), *total.axes])
    Histogram(one_bin, contents=counts[None]).write(tmp_path / "data.h5")

    def cost(x):
        e = x[0] * true_k * sky + x[1] * template
        return np.sum(e - counts * np.log(e))

    best = minimize(cost, [1.0, 1.0], method="Nelder-Mead", tol=1e-10).x
    cuts = [f"--tstart={START}", f"--tstop={stop}"] if cut else []
    inputs = {"orientation": orientation, "response": tmp_path / "response.h5", "start": true_k}
    (k, rate), errors = run_program(tmp_path, *cuts, **inputs)
    expected = best[0] * true_k, best[1] * template.sum() / (0.8 * DURATION)
    assert np.all(np.abs(np.array([k, rate]) - expected) < 0.05 * errors)
    assert abs(k - true_k) < 4 * errors[0] and rate < 20.0


def binned(events, chosen, frame, psichi):
    """Counts of events on Phi and PsiChi."""
    import healpy as hp

    if frame == "local":
        pixel = hp.ang2pix(psichi.nside, events["Psi local"], events["Chi local"])
    else:
        angles = events["Chi galactic"], events["Psi galactic"]
        pixel = hp.ang2pix(psichi.nside, *angles, lonlat=True)
    phi = np.degrees(events["Phi"])[chosen]
    edges = [np.linspace(0, 180, 31), np.arange(psichi.nbins + 1)]
    return np.histogram2d(phi, pixel[chosen], edges)[0]
