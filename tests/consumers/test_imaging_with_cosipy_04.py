"""The real TS maps and image deconvolution of cosipy 0.4.3, beside numbers by hand."""

import astropy.units as u
import healpy as hp
import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.optimize import minimize, minimize_scalar

from cosi_linebkg_plugin.consumers.imaging import deconvolution_ranges
from cosi_linebkg_plugin.errors import TemplateError

pytest.importorskip("cosipy")

import cosipy04 as c4
from astromodels import Powerlaw
from cosipy.image_deconvolution import (
    CoordsysConversionMatrix,
    DataIF_COSI_DC2,
    ImageDeconvolution,
    TimeBinnedExposureTable,
)
from cosipy.ts_map import FastTSMap, MOCTSMap
from histpy import Axes, Axis, Histogram

FRAMES = ["local", "galactic"]
PRECOMPUTED = c4.FILES / "test_precomputed_response.h5"


@pytest.fixture(autouse=True)
def in_tmp(tmp_path, monkeypatch):
    """cosipy writes scratch files into the current folder."""
    monkeypatch.chdir(tmp_path)


# --- TS maps -------------------------------------------------------------------------------------


class SourceRange:
    """Two of ten energy bins are the source range; a template made with like= is 0 elsewhere."""

    channel = [3, 5]

    def __init__(self, frame, seed=1):
        self.frame, self.axes = frame, c4.axes_in(frame)
        self.maps = c4.components(self.axes)
        truth = 0.05 * c4.sky_counts(frame) + sum(self.maps.values())
        self.counts = np.random.default_rng(seed).poisson(truth).astype(float)
        self.data = c4.counts_of(self.axes, self.counts)
        for m in self.maps.values():
            m[[i for i in range(10) if i not in (3, 4)]] = 0.0
        edges = self.axes["Em"].edges.to_value(u.keV)
        self.template = c4.template_on(self.axes, self.maps, source_range=(edges[3], edges[5]))

    def map_of(self, kind, given):
        if self.frame == "local":
            return kind(**given, response_path=c4.RESPONSE, orientation=c4.history(),
                        cds_frame="local")  # fmt: skip
        return kind(**given, response_path=PRECOMPUTED, cds_frame="galactic")


def spectrum():
    return Powerlaw(K=1e-3, piv=500.0, index=-2.0)


@pytest.mark.parametrize("frame", FRAMES)
def test_a_ts_map(frame):
    case = SourceRange(frame)
    assert case.template.energy_channel(case.data) == case.channel
    given = case.template.ts_map_input(case.data)
    ts = case.map_of(FastTSMap, given).fit(1, spectrum(), case.template.energy_channel(case.data))
    plain = c4.counts_of(case.axes, sum(case.maps.values()))
    reference = case.map_of(FastTSMap, {"data": case.data, "bkg_model": plain})
    assert ts.shape == (12,) and np.isfinite(ts).all() and ts.max() > 10
    assert_allclose(ts, reference.fit(1, spectrum(), case.channel), rtol=1e-10)


def test_the_ts_by_hand():
    """At the centers of the response's own pixels, without cosipy's map."""
    case = SourceRange("galactic")
    given = case.template.ts_map_input(case.data)
    ts = case.map_of(FastTSMap, given).fit(1, spectrum(), case.channel)
    response = Histogram.open(PRECOMPUTED)
    edges = response.axes["Ei"].edges.to_value(u.keV)
    flux = 1e-3 * 500.0**2 * (1 / edges[:-1] - 1 / edges[1:])
    shapes = np.einsum("pe...,e->p...", response.contents.value, flux)[:, 3:5].sum(axis=1)
    data = case.counts[3:5].sum(axis=0)
    background = sum(case.maps.values())[3:5].sum(axis=0)
    for nested in range(12):
        shape = shapes[hp.nest2ring(1, nested)]

        def gain(norm, shape=shape):
            e = background + norm * shape
            return np.sum(data * np.log(e / background)) - norm * shape.sum()

        best = minimize_scalar(lambda x, g=gain: -g(x), bounds=(0.0, 100.0), method="bounded",
                               options={"xatol": 1e-9})  # fmt: skip
        assert ts[nested] == pytest.approx(-2 * best.fun, rel=2e-3, abs=2e-3)


@pytest.mark.parametrize("frame", FRAMES)
def test_a_multi_resolution_ts_map(frame):
    case = SourceRange(frame)
    given = case.template.ts_map_input(case.data)
    ts, uniq = case.map_of(MOCTSMap, given).fit(2, spectrum(), case.channel)
    whole = case.map_of(FastTSMap, given)
    for order, nside in ((0, 1), (1, 2)):
        own = (uniq >= 4 * nside**2) & (uniq < 16 * nside**2)
        if own.any():
            expected = whole.fit(nside, spectrum(), case.channel)
            assert_allclose(ts[own], expected[uniq[own] - 4 * nside**2], rtol=1e-6, err_msg=order)
    assert (uniq >= 16).any()


def test_an_empty_cell_is_refused_before_cosipy_leaves_out_its_data():
    """A bright cell without background: cosipy's TS falls and nothing is said."""
    case = SourceRange("galactic")
    holes = {label: m.copy() for label, m in case.maps.items()}
    cell = np.unravel_index(np.argmax(case.counts[3] / 1.0), case.counts[3].shape)
    for m in holes.values():
        m[3:5, cell[0], cell[1]] = 0.0
    some = c4.template_on(case.axes, holes, source_range=case.template.source_range)
    with pytest.raises(TemplateError, match=r"2 cells .* not positive"):
        some.ts_map_input(case.data)
    with pytest.raises(TemplateError, match="got frame galactic, expected spacecraftframe"):
        case.template.ts_map_input(SourceRange("local").data)
    full, less = (
        case.map_of(
            FastTSMap, {"data": case.data, "bkg_model": c4.counts_of(case.axes, sum(m))}
        ).fit(1, spectrum(), case.channel)
        for m in (list(case.maps.values()), list(holes.values()))
    )
    assert not np.allclose(full, less, rtol=0.01)


# --- image deconvolution -------------------------------------------------------------------------


def dataset(frame):
    """Events of two backgrounds that are 20 % more and 30 % fewer than their templates say."""
    axes = c4.axes_in(frame)
    maps = c4.components(axes)
    truth = 1.2 * maps["continuum"] + 0.7 * maps["lines"]
    counts = np.random.default_rng(3).poisson(truth).astype(float)
    if frame == "galactic":
        events = c4.counts_of(axes, counts)
        template = c4.template_on(axes, maps)
        return template, events, counts, maps, Histogram.open(PRECOMPUTED), None
    history = c4.history()
    times = history.obstime[[0, -1]]
    table = TimeBinnedExposureTable.from_orientation(history, times[:1], times[1:])
    matrix = CoordsysConversionMatrix.from_exposure_table(table, c4.detector())
    timed = Axes([Axis(np.arange(2), label="Time"), *axes])
    maps = {label: m[None] for label, m in maps.items()}
    template = c4.template_on(timed, maps)
    events = c4.counts_of(timed, counts[None])
    return template, events, counts[None], maps, c4.detector(), matrix


PARAMETERS = """
model_definition:
  class: "AllSkyImage"
  property:
    coordinate: "galactic"
    nside: 1
    scheme: "ring"
    energy_edges: {{value: {energies}, unit: "keV"}}
    unit: "cm-2 s-1 sr-1"
  initialization:
    algorithm: "flat"
    parameter: {{value: {start}, unit: "cm-2 s-1 sr-1"}}
deconvolution:
  algorithm: "{algorithm}"
  parameter:
    iteration_max: {iterations}
    minimum_flux: {{value: 0.0, unit: "cm-2 s-1 sr-1"}}
    background_normalization_optimization: {{activate: True, range: {ranges}}}
    stopping_criteria: {{statistics: "log-likelihood", threshold: 1.0e-9}}
    {prior}
"""


def deconvolved(loaded, path, algorithm, ranges, iterations):
    energies = c4.detector().axes["Ei"].edges.to_value(u.keV).tolist()
    prior = "prior: {}" if algorithm == "MAP_RL" else ""
    path.write_text(
        PARAMETERS.format(energies=energies, start=[1e-12] * 10, algorithm=algorithm,
                          ranges=ranges, iterations=iterations, prior=prior)
    )  # fmt: skip
    imaging = ImageDeconvolution()
    imaging.set_dataset([loaded])
    imaging.read_parameterfile(path)
    imaging.initialize()
    imaging.run_deconvolution()
    return imaging.results


@pytest.mark.parametrize("algorithm", ["RL", "MAP_RL"])
@pytest.mark.parametrize("frame", FRAMES)
def test_an_image_deconvolution_with_a_norm_for_each_component(frame, algorithm, tmp_path):
    """Without a source the norms go to those of the highest likelihood, found by hand."""
    template, events, counts, maps, response, matrix = dataset(frame)
    given = template.deconvolution_input(events, components=True)
    assert list(given) == ["continuum", "lines"]
    loaded = DataIF_COSI_DC2.load("test", events, given, response, matrix)
    ranges = template.deconvolution_ranges(list(given), n_sigma=10.0)
    assert ranges == {label: pytest.approx([0.5, 1.5]) for label in given}  # 5 % known
    results = deconvolved(loaded, tmp_path / "par.yml", algorithm, ranges, 60)

    def cost(norms):
        e = sum(x * m for x, m in zip(norms, maps.values(), strict=True))
        return np.sum(e - counts * np.log(e))

    by_hand = minimize(cost, [1.0, 1.0], method="Nelder-Mead", tol=1e-10).x
    norms = results[-1]["background_normalization"]
    assert_allclose([norms[label] for label in given], by_hand, rtol=5e-3)
    assert abs(norms["continuum"] - 1.2) < 0.1 and abs(norms["lines"] - 0.7) < 0.15
    assert template.counts == pytest.approx({k: m.sum() for k, m in maps.items()})


def test_norms_stay_in_their_ranges(tmp_path):
    template, events, _, _, response, matrix = dataset("galactic")
    given = template.deconvolution_input(events, components=True)
    loaded = DataIF_COSI_DC2.load("test", events, given, response, matrix)
    ranges = deconvolution_ranges(template, list(given), n_sigma=1.0)
    results = deconvolved(loaded, tmp_path / "par.yml", "RL", ranges, 30)
    norms = results[-1]["background_normalization"]
    assert norms["continuum"] == pytest.approx(1.05) and norms["lines"] == pytest.approx(0.95)
    assert deconvolution_ranges(template, ["bkg"])["bkg"][1] < 1.25
    unknown = c4.template_on(events.axes, covariance=np.diag([1.0, np.inf]))
    assert deconvolution_ranges(unknown, ["lines"]) == {"lines": [0.0, 100.0]}
