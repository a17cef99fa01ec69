"""Templates of several energy bins, made from events, in the sessions of the real cosipy 0.4.3."""

import astropy.units as u
import healpy as hp
import line_instrument as li
import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.optimize import minimize, minimize_scalar

pytest.importorskip("cosipy")

from astromodels import DiracDelta
from astropy.coordinates import GCRS, CartesianRepresentation
from astropy.time import Time
from cosipy import SpacecraftHistory
from cosipy.data_io import EmCDSBinnedData
from cosipy.data_io.EmCDSUnbinnedData import TimeTagEmCDSEventDataInSCFrameFromArrays
from cosipy.image_deconvolution import DataIF_COSI_DC2, ImageDeconvolution
from cosipy.interfaces import ThreeMLPluginInterface
from cosipy.interfaces.event import TimeTagEmCDSEventInSCFrameInterface
from cosipy.interfaces.expectation_interface import SumExpectationDensity
from cosipy.response import BinnedThreeMLExtendedSourceResponse, BinnedThreeMLModelFolding
from cosipy.response.ExtendedSourceResponse import ExtendedSourceResponse
from cosipy.statistics import PoissonLikelihood, UnbinnedLikelihood
from cosipy.ts_map import FastTSMap, MOCTSMap
from histpy import Histogram
from scipy.spatial.transform import Rotation
from scoords import Attitude
from threeML import DataList, JointLikelihood

from cosi_linebkg_plugin.app.simulation import sky_spectrum

N_BINS = li.BINS.size - 1


@pytest.fixture(autouse=True)
def in_tmp(tmp_path, monkeypatch):
    """cosipy writes scratch files into the current folder."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module")
def response(tmp_path_factory):
    return li.write_response(tmp_path_factory.mktemp("response") / "response.h5")


class Case:
    """Events of background and source, and a template whose bins each have a norm, or not."""

    def __init__(self, split=False, **options):
        self.flight = li.Flight()
        self.template = self.flight.template(**options)
        if split:
            self.template = self.template.split("Em")
        drawn = np.random.default_rng(5).poisson(li.TRUE_FLUX * li.sky_counts())
        self.counts = (self.flight.counts + drawn).astype(float)
        self.maps = np.array(
            [np.asarray(m.contents) / m.contents.sum() for m in self.template.components.values()]
        )

    def folding(self, response):
        """cosipy's data and model folding; a fresh one for each model."""
        data = EmCDSBinnedData(li.histogram(self.template, self.counts))
        sky = ExtendedSourceResponse.open(str(response))
        return data, BinnedThreeMLModelFolding(
            data=data, extended_source_response=BinnedThreeMLExtendedSourceResponse(data, sky)
        )

    def session(self, response, follow=None, **options):
        """cosipy's plugin, our background, and a fitted session's table."""
        data, folding = self.folding(response)
        background = self.template.binned_background(data, follow=follow, **options)
        likelihood = PoissonLikelihood(data, folding, background)
        cosi = ThreeMLPluginInterface("cosi", likelihood, folding, background)
        background.configure(cosi)
        model, _ = li.sky_model(1.5 * li.TRUE_FLUX)
        plugins = [] if follow is None else [follow]
        session = JointLikelihood(model, DataList(*plugins, cosi, background.constraint()))
        table, _ = session.fit(quiet=True)
        return background, cosi, table

    def log_like(self, flux, counts):
        """Without cosipy, and without the package."""
        e = flux * li.sky_counts() + np.tensordot(counts, self.maps, axes=1)
        return np.sum(self.counts * np.log(e) - e)

    def errors(self, flux, counts):
        """Of flux and counts in the Gaussian limit, with what the template knows."""
        shapes = np.array([li.sky_counts(), *self.maps])
        e = np.tensordot([flux, *counts], shapes, axes=1)
        fisher = np.array([[np.sum(a * b / e) for a in shapes] for b in shapes])
        fisher[1:, 1:] += np.linalg.inv(self.template.covariance)
        return np.sqrt(np.diag(np.linalg.inv(fisher)))


@pytest.mark.parametrize("split", [False, True])
def test_a_binned_session(response, split):
    """Value, optimum and errors, all by hand; norms of bins move together but for what is loose."""
    case = Case(split)
    background, cosi, table = case.session(response)
    assert len(table) == 1 + (2 * N_BINS if split else 2)
    flux = float(table["value"].iloc[0])
    counts = np.array(list(background.counts.values()))
    assert float(cosi.get_log_like()) == pytest.approx(case.log_like(flux, counts), rel=1e-9)
    errors = case.errors(flux, counts)
    got = table["error"].to_numpy(float, copy=True)
    got[1:] *= case.template.livetime
    # MINUIT's errors of nearly degenerate norms are finite differences
    assert_allclose(got, errors, rtol=0.08)
    assert abs(flux - li.TRUE_FLUX) < 4 * errors[0]  # false alarm 6e-5, one seeded data set
    # the gradient at the optimum, in errors: Newton's step from there
    shapes = np.array([li.sky_counts(), *case.maps])
    e = np.tensordot([flux, *counts], shapes, axes=1)
    known = np.linalg.inv(case.template.covariance)
    gradient = np.tensordot(shapes, case.counts / e - 1.0, axes=3)
    gradient[1:] -= known @ (counts - list(case.template.counts.values()))
    fisher = np.einsum("iepx,jepx->ij", shapes / e, shapes)
    fisher[1:, 1:] += known
    assert (np.abs(np.linalg.solve(fisher, gradient)) < 0.1 * errors).all()


def test_one_norm_norms_of_bins_and_a_followed_spectrum_agree(response):
    """The same knowledge in three ways: the flux to a fifth of its error, the error to 8 %."""
    found = {}
    for name, split, follow in (
        ("one", False, False),
        ("split", True, False),
        ("follow", False, True),
    ):
        case = Case(split)
        table = case.session(response, case.flight.plugin if follow else None)[2]
        found[name] = table["value"].iloc[0], table["error"].iloc[0]
    flux, error = found["one"]
    for name in ("split", "follow"):
        assert abs(found[name][0] - flux) < 0.2 * error, name
        assert found[name][1] == pytest.approx(error, rel=0.08), name


def test_bins_follow_the_lines_of_the_session(response):
    """At other energies, widths and amounts of the lines: cosipy's likelihood, by hand."""
    case = Case()
    plugin = case.flight.plugin
    data, folding = case.folding(response)
    background = case.template.binned_background(data, follow=plugin)
    cosi = ThreeMLPluginInterface(
        "cosi", PoissonLikelihood(data, folding, background), folding, background
    )
    background.configure(cosi)
    cosi.set_model(li.sky_model()[0])
    before = float(cosi.get_log_like())
    values = plugin.nuisance_parameters
    values["linebkg_K_1"].value *= 0.9
    values["linebkg_F_5"].value *= 1.2
    values["linebkg_sigma_2"].value *= 1.2
    expected = li.TRUE_FLUX * li.sky_counts()
    for b, (low, high) in enumerate(zip(li.BINS[:-1], li.BINS[1:], strict=True)):
        now = plugin.source_counts((low, high), line_ratio=li.RATIO)
        for label, m in zip(case.template.labels, case.maps, strict=True):
            expected[b] += now[label] * m[b] / m[b].sum()
    by_hand = np.sum(case.counts * np.log(expected) - expected)
    assert float(cosi.get_log_like()) == pytest.approx(by_hand, rel=1e-9)
    assert abs(by_hand - before) > 10.0


@pytest.mark.parametrize("split", [False, True])
def test_a_ts_map(response, split):
    """Of all bins, and of two of them: by hand at the centers of the response's pixels."""
    case = Case(split)
    given = case.template.ts_map_input(li.histogram(case.template, case.counts))
    every = case.template.energy_channel(given["data"])
    assert every == [0, N_BINS]
    background = np.tensordot(list(case.template.counts.values()), case.maps, axes=1)
    spectrum = DiracDelta(zero_point=li.SKY_ENERGY, value=1e-4)
    for low, high in (every, [2, 4]):
        ts = FastTSMap(**given, response_path=response, cds_frame="galactic").fit(
            li.NSIDE, spectrum, [low, high]
        )
        data, bkg = (x[low:high].sum(axis=0) for x in (case.counts, background))
        for nested in range(0, 48, 7):
            shape = 1e-4 * li.DEMO_LIVETIME * li.cones()[hp.nest2ring(li.NSIDE, nested), 0]
            shape = shape[low:high].sum(axis=0)

            def gain(norm, shape=shape, data=data, bkg=bkg):
                e = bkg + norm * shape
                return np.sum(data * np.log(e / bkg)) - norm * shape.sum()

            best = minimize_scalar(lambda x, g=gain: -g(x), bounds=(0.0, 100.0), method="bounded",
                                   options={"xatol": 1e-9})  # fmt: skip
            assert ts[nested] == pytest.approx(-2 * best.fun, rel=2e-3, abs=2e-3)
        assert ts.max() > 100.0


def test_a_multi_resolution_ts_map(response):
    """Of all bins, and of two of them: that of one resolution at the same places."""
    case = Case()
    given = case.template.ts_map_input(li.histogram(case.template, case.counts))
    spectrum = DiracDelta(zero_point=li.SKY_ENERGY, value=1e-4)
    options = {"response_path": response, "cds_frame": "galactic"}
    for channel in (case.template.energy_channel(given["data"]), [2, 4]):
        ts, uniq = MOCTSMap(**given, **options).fit(li.NSIDE, spectrum, channel)
        assert ts.max() > 100.0 and (uniq >= 16).any()
        for nside in (1, 2):
            own = (uniq >= 4 * nside**2) & (uniq < 16 * nside**2)
            whole = FastTSMap(**given, **options).fit(nside, spectrum, channel)
            assert_allclose(ts[own], whole[uniq[own] - 4 * nside**2], rtol=1e-6)


PARAMETERS = """
model_definition:
  class: "AllSkyImage"
  property:
    coordinate: "galactic"
    nside: {nside}
    scheme: "ring"
    energy_edges: {{value: {energies}, unit: "keV"}}
    unit: "cm-2 s-1 sr-1"
  initialization:
    algorithm: "flat"
    parameter: {{value: [1e-30], unit: "cm-2 s-1 sr-1"}}
deconvolution:
  algorithm: "{algorithm}"
  parameter:
    iteration_max: 300
    minimum_flux: {{value: 0.0, unit: "cm-2 s-1 sr-1"}}
    background_normalization_optimization: {{activate: True, range: {ranges}}}
    stopping_criteria: {{statistics: "log-likelihood", threshold: 1.0e-9}}
    {prior}
"""


@pytest.mark.parametrize("algorithm", ["RL", "MAP_RL"])
@pytest.mark.parametrize("split", [False, True])
def test_an_image_deconvolution(response, split, algorithm, tmp_path):
    """Without a source the norms go to the highest likelihood within their ranges, by hand."""
    case = Case(split)
    events = li.histogram(case.template, case.flight.counts.astype(float))
    given = case.template.deconvolution_input(events, components=True)
    assert list(given) == list(case.template.labels)
    ranges = case.template.deconvolution_ranges(list(given))
    loaded = DataIF_COSI_DC2.load("test", events, given, Histogram.open(response))
    path = tmp_path / "par.yml"
    energies = li.BINS[[0, -1]].tolist()
    options = {"algorithm": algorithm, "prior": "prior: {}" if algorithm == "MAP_RL" else ""}
    path.write_text(PARAMETERS.format(nside=li.NSIDE, energies=energies, ranges=ranges, **options))
    imaging = ImageDeconvolution()
    imaging.set_dataset([loaded])
    imaging.read_parameterfile(path)
    imaging.initialize()
    imaging.run_deconvolution()
    norms = imaging.results[-1]["background_normalization"]
    own = np.array(list(case.template.counts.values()))
    scaled = case.maps * own[:, None, None, None]

    def cost(x):
        e = np.tensordot(x, scaled, axes=1)
        slope = np.tensordot(scaled, 1.0 - case.flight.counts / e, axes=3)
        return np.sum(e - case.flight.counts * np.log(e)), slope

    by_hand = minimize(cost, np.ones(own.size), jac=True, method="L-BFGS-B",
                       bounds=list(ranges.values()), tol=1e-12)  # fmt: skip
    assert by_hand.success
    found = np.array([norms[label] for label in given])
    assert cost(found)[0] - by_hand.fun < 0.05 < cost(np.ones(own.size))[0] - by_hand.fun


# --- unbinned ------------------------------------------------------------------------------------


class Unbinned:
    """The events of a case one by one, even in their cells of 0.5 keV, Phi and PsiChi."""

    event_type = TimeTagEmCDSEventInSCFrameInterface  # of the source

    def __init__(self, split=False):
        fine = np.arange(li.BINS[0], li.BINS[-1] + 0.25, 0.5)
        flight = li.Flight(extra_edges=fine)
        self.template = flight.template()
        if split:
            self.template = self.template.split("Em")
        rng = np.random.default_rng(6)
        lines = sky_spectrum(1.0, 0.0, fine)
        of_sky = li.sky_counts()[2] / sky_spectrum(1.0, 0.0, li.BINS)[2]  # of the whole line
        self.sky_counts = of_sky.sum() * lines.sum()
        columns = []
        for low, share in zip(fine[:-1], lines, strict=True):
            cells = flight.simulation.observed(low, low + 0.5)
            cells = cells + rng.poisson(li.TRUE_FLUX * share * of_sky)
            phi, pixel = (
                np.repeat(i.ravel(), cells.ravel().astype(int)) for i in np.indices(cells.shape)
            )
            columns.append([rng.uniform(low, low + 0.5, phi.size), phi, pixel])
        energy, phi, pixel = np.concatenate(columns, axis=1)
        self.energy, self.row, self.pixel = energy, phi.astype(int), pixel.astype(int)
        n = energy.size
        nested = hp.ring2nest(li.NSIDE, self.pixel) * 4**6 + rng.integers(0, 4**6, n)
        lon, lat = np.radians(hp.pix2ang(2**6 * li.NSIDE, nested, nest=True, lonlat=True))
        self.history = history()
        times = self.history.obstime[0] + rng.uniform(0, li.DEMO_LIVETIME, n) * u.s
        angle = (phi + rng.uniform(size=n)) * np.pi / of_sky.shape[0]
        self.events = TimeTagEmCDSEventDataInSCFrameFromArrays(
            times.jd1, times.jd2, energy, lon, lat, angle
        )
        self.cell = np.pi / of_sky.shape[0] * hp.nside2pixarea(li.NSIDE)
        step = np.array([-0.005, 0.005])
        profile = [sky_spectrum(1.0, 0.0, e + step)[0] / 0.01 for e in energy]
        self.sky = of_sky[self.row, self.pixel] * profile / self.cell / li.DEMO_LIVETIME

    # what cosipy's plugin asks of a source
    def set_model(self, model):
        self._flux = model.sources["source"].spectrum.main.shape.value

    def expected_counts(self):
        return self._flux.value * self.sky_counts

    def expectation_density(self):
        return self._flux.value * self.sky


def history():
    """A telescope at rest, its axes those of the Galactic frame, always live."""
    times = Time("2028-03-01", scale="utc") + np.array([0.0, li.DEMO_LIVETIME]) * u.s
    place = GCRS(CartesianRepresentation(np.array([[7000.0] * 2, [0.0] * 2, [0.0] * 2]) * u.km))
    attitude = Attitude(Rotation.identity(2), "galactic")
    return SpacecraftHistory(times, attitude, place, np.array([li.DEMO_LIVETIME]) * u.s)


@pytest.mark.parametrize("split", [False, True])
def test_the_density_of_events(split):
    """By hand: rate, share of the cell in the bin's map, and the fitted spectrum inside the bin."""
    case = Unbinned(split)
    background = case.template.background_density(case.events, case.history)
    got = background.expectation_density()
    parts = case.template.components
    some = np.random.default_rng(7).choice(case.energy.size, 50, replace=False)
    bins = np.searchsorted(li.BINS, case.energy, side="right") - 1
    edges = np.stack([li.BINS[:-1], li.BINS[1:]], axis=1)
    for i in some:
        energy, b = case.energy[i], bins[i]
        near, whole = (energy - 0.02, energy + 0.02), edges[b]
        expected = 0.0
        for label, m in parts.items():
            kind = label.split("_")[0]
            inside, total = (li.amounts(case.template.fit, pair)[kind] for pair in (near, whole))
            share = np.asarray(m.contents)[b, case.row[i], case.pixel[i]]
            expected += share / li.DEMO_LIVETIME / case.cell * inside / total / 0.04
        assert got[i] == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize("split", [False, True])
def test_an_unbinned_session(split):
    """Value, optimum and errors by hand, and the flux of the simulation."""
    case = Unbinned(split)
    background = case.template.background_density(case.events, case.history)
    rows = []
    for label in case.template.labels:
        rates = {other: float(label == other) * u.Hz for other in case.template.labels}
        background.set_parameters(**rates)
        rows.append(background.expectation_density().astype(float))
    own = np.array(list(case.template.counts.values()))
    shapes = np.array([case.sky, *(np.array(rows) / li.DEMO_LIVETIME)])
    totals = np.array([case.sky_counts, *np.ones(own.size)])
    known = np.linalg.inv(case.template.covariance)
    for likelihood in (
        background.likelihood(case),
        UnbinnedLikelihood(SumExpectationDensity(case, background)),
    ):
        cosi = ThreeMLPluginInterface("cosi", likelihood, case, background)
        background.configure(cosi)
        model, _ = li.sky_model(1.5 * li.TRUE_FLUX)
        session = JointLikelihood(model, DataList(cosi, background.constraint()))
        table, _ = session.fit(quiet=True)
        found = table["value"].to_numpy(float, copy=True)
        errors = table["error"].to_numpy(float, copy=True)
        found[1:] *= li.DEMO_LIVETIME
        errors[1:] *= li.DEMO_LIVETIME
        density = found @ shapes
        by_hand = np.log(density).sum() - found @ totals
        assert float(cosi.get_log_like()) == pytest.approx(by_hand, rel=1e-6)
        fisher = (shapes / density**2) @ shapes.T
        fisher[1:, 1:] += known
        gradient = (shapes / density).sum(axis=1) - totals
        gradient[1:] -= known @ (found[1:] - own)
        right = np.sqrt(np.diag(np.linalg.inv(fisher)))
        assert_allclose(errors, right, rtol=0.08)
        assert (np.abs(np.linalg.solve(fisher, gradient)) < 0.1 * right).all()
        assert abs(found[0] - li.TRUE_FLUX) < 4 * right[0]  # false alarm 6e-5
