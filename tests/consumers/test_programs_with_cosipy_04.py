"""The real programs of cosipy 0.4.3 on a background of ours."""

import astropy.units as u
import numpy as np
import pytest
from scipy.optimize import minimize

pytest.importorskip("cosipy")

import cosipy04 as c4
from cosipy.pipeline.src.fitting import get_fit_results
from cosipy.pipeline.task.task import cosi_threemlfit
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
            K: {{value: 0.05, min_value: 1.0e-3, max_value: 100.0, unit: keV-1 s-1 cm-2,
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


def test_the_program_itself(tmp_path):
    """It writes its result; then it fails by itself, at the flux, for a name that is not there."""
    from threeML import load_analysis_results_hdf

    case = Case("local")
    case.template.threemlfit_background(case.times).write("background.h5")
    case.data.write("data.h5")
    yaml = c4.FILES / "test_spectral_fit.yaml"
    (tmp_path / "fit.yaml").write_text(
        CONFIG.format(orientation=c4.ORIENTATION, yaml=yaml, response=c4.RESPONSE)
    )
    with pytest.raises(NameError, match="threeML_config"):
        cosi_threemlfit(["--config", str(tmp_path / "fit.yaml"), "-o", str(tmp_path)])
    results = load_analysis_results_hdf(str(tmp_path / "results.h5"))
    table = results.get_data_frame()
    k, rate = case.optimum()
    assert float(table["value"].iloc[0]) == pytest.approx(k, rel=2e-2)
    assert float(table["value"].iloc[1]) == pytest.approx(rate, rel=2e-2)
