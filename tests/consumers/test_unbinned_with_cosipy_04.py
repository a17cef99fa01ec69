"""The real unbinned likelihood of cosipy 0.4.3, its events, orientations and own background."""

import astropy.units as u
import healpy as hp
import histpy
import numpy as np
import pytest
from astropy.time import Time
from flights import angles_of, drawn, interpolated, rocking, vectors_of
from numpy.testing import assert_allclose
from scipy.optimize import minimize
from scipy.spatial.transform import Rotation, Slerp
from templates import SOURCE, axes, template_of

pytest.importorskip("cosipy")

import cosipy04 as c4
from astromodels import Model, PointSource, Powerlaw
from astropy.coordinates import GCRS, CartesianRepresentation
from cosipy import SpacecraftHistory, test_data
from cosipy.background_estimation.free_norm_threeml_binned_bkg import (
    FreeNormBackgroundInterpolatedDensityTimeTagEmCDS,
)
from cosipy.data_io.EmCDSUnbinnedData import (
    TimeTagEmCDSEventDataInSCFrameFromArrays,
    TimeTagEmCDSEventDataInSCFrameFromDC3Fits,
)
from cosipy.interfaces import (
    BackgroundDensityInterface,
    ThreeMLPluginInterface,
    UnbinnedLikelihoodInterface,
)
from cosipy.interfaces.event import TimeTagEmCDSEventInSCFrameInterface
from cosipy.interfaces.expectation_interface import SumExpectationDensity
from cosipy.response.instrument_response_function import (
    UnpolarizedDC3InterpolatedFarFieldInstrumentResponseFunction,
)
from cosipy.statistics import UnbinnedLikelihood
from cosipy.threeml.psr_fixed_ei import UnbinnedThreeMLPointSourceResponseTrapz
from cosipy.threeml.unbinned_model_folding import UnbinnedThreeMLModelFolding
from event_lists import write_fits
from scoords import Attitude, SpacecraftFrame
from threeML import BayesianAnalysis, DataList, JointLikelihood

from cosi_linebkg_plugin.errors import ModelError

FRAMES = ["local", "galactic"]
LOW, HIGH = SOURCE
N_PHI, NSIDE = 6, 1
N_PIXELS = hp.nside2npix(NSIDE)
CELL = np.pi / N_PHI * 4 * np.pi / N_PIXELS
NUMBERS = {"continuum": 3000, "lines": 900}
N_SKY = 400


def space_history(rotations, step=10.0, live=0.8, frame="galactic"):
    """A real SpacecraftHistory."""
    n = len(rotations)
    times = Time("2028-03-01T00:00:00", scale="utc") + np.arange(n) * step * u.s
    place = GCRS(CartesianRepresentation(np.tile([7000.0, 0.0, 0.0], (n, 1)).T * u.km))
    livetime = np.full(n - 1, step * live) * u.s
    return SpacecraftHistory(times, Attitude(rotations, frame), place, livetime)


def maps_of():
    """Background and source, shape (N_PHI, N_PIXELS)."""
    rng = np.random.default_rng(3)
    phi = np.arange(N_PHI) + 0.5
    return {
        label: np.exp(-(((phi - center) / 1.2) ** 2))[:, None] * rng.uniform(0.2, 1.8, N_PIXELS)
        for label, center in (("continuum", 1.5), ("lines", 3.5), ("sky", 2.5))
    }


class Source:
    """A model folding of a source with a known density; the norm of its spectrum is free.

    Any UnbinnedThreeMLModelFolding has these methods.
    """

    event_type = TimeTagEmCDSEventInSCFrameInterface

    def __init__(self, density, counts):
        self._density, self._counts = density, counts

    def set_model(self, model):
        self._norm = model.sources["source"].spectrum.main.shape.K

    def expected_counts(self):
        return self._norm.value * self._counts

    def expectation_density(self):
        return self._norm.value * self._density


def point_source(norm=0.5):
    spectrum = Powerlaw(K=norm, piv=1.0, index=0.0)
    spectrum.K.bounds = (1e-3, 1e2)
    spectrum.index.fix = True
    return Model(PointSource("source", l=0.0, b=0.0, spectral_shape=spectrum)), spectrum


class Case:
    """Events of a background and a source, both flat in energy."""

    def __init__(self, frame, seed=1):
        self.rotations, self.maps = rocking(), maps_of()
        self.history = space_history(self.rotations)
        rng = np.random.default_rng(seed)
        flat = {label: lambda rng, n: rng.uniform(LOW, HIGH, n) for label in self.maps}
        numbers = NUMBERS | {"sky": N_SKY}
        self.own = drawn(self.maps, flat, numbers, self.rotations, rng, nside=NSIDE, frame=frame)
        self.events = TimeTagEmCDSEventDataInSCFrameFromArrays(*self.own.columns())
        self.livetime = self.history.cumulative_livetime().to_value(u.s)
        some = axes(PsiChi=histpy.HealpixAxis(
            nside=NSIDE, label="PsiChi",
            coordsys=SpacecraftFrame() if frame == "local" else "galactic",
        ))  # fmt: skip
        self.template = template_of(
            {label: self.maps[label][None] for label in NUMBERS},
            some,
            counts={label: float(n) for label, n in NUMBERS.items()},
            covariance=np.diag([100.0**2, 60.0**2]),
            livetime=self.livetime,
        )
        start = self.history.obstime[0]
        seconds = ((self.own.jd1 - start.jd1) + (self.own.jd2 - start.jd2)) * 86400.0
        vectors = vectors_of(self.own.scattered_lon_rad_sc, self.own.scattered_lat_rad_sc)
        if frame != "local":
            vectors = interpolated(self.rotations, seconds).apply(vectors)
        row = (self.own.scattering_angle_rad / np.pi * N_PHI).astype(int)
        cells = row * N_PIXELS + hp.vec2pix(NSIDE, *vectors.T)
        # per count: in the cell, per rad, sr, and live second times its fraction
        self.shares = {k: m.ravel()[cells] / m.sum() / CELL for k, m in self.maps.items()}
        self.live = 0.8

    def energies(self, label):
        """The template's spectrum is a power law without lines; lines are then even."""
        if label != "continuum":
            return 1.0 / (HIGH - LOW)
        index = self.template.fit.values["index_1"]
        norm = (HIGH ** (index + 1) - LOW ** (index + 1)) / (index + 1)
        return self.own.energy_keV**index / norm

    def density(self, label, fraction=True):
        """At 1 Hz, by hand."""
        return self.shares[label] * self.energies(label) * (self.live if fraction else 1.0)

    def source(self):
        return Source(N_SKY / self.livetime * self.density("sky"), N_SKY)

    def minus_log_like(self, norm, rates):
        values = norm * N_SKY / self.livetime * self.density("sky")
        for rate, label in zip(rates, NUMBERS, strict=True):
            values = values + rate * self.density(label)
        return norm * N_SKY + sum(rates) * self.livetime - np.log(values).sum()

    def optimum(self, constrained):
        start = np.array([1.0, *(n / self.livetime for n in NUMBERS.values())])
        mean, errors = start[1:], np.array([100.0, 60.0]) / self.livetime

        def cost(x):
            norm, *rates = x * start
            known = np.sum(((np.array(rates) - mean) / errors) ** 2) if constrained else 0.0
            return self.minus_log_like(norm, rates) + 0.5 * known

        found = minimize(cost, np.ones(3), method="Nelder-Mead", tol=1e-9,
                         options={"maxiter": 4000, "maxfev": 4000})  # fmt: skip
        assert found.success
        return found.x * start

    def session(self, **options):
        background = self.template.background_density(self.events, self.history, **options)
        source = self.source()
        likelihood = UnbinnedLikelihood(SumExpectationDensity(source, background))
        cosi = ThreeMLPluginInterface("cosi", likelihood, source, background)
        background.configure(cosi)
        return background, cosi


@pytest.mark.parametrize("frame", FRAMES)
def test_it_is_a_background_density(frame):
    case = Case(frame)
    for fraction in (True, False):
        background = case.template.background_density(
            case.events, case.history, livetime_fraction=fraction
        )
        assert isinstance(background, BackgroundDensityInterface)
        assert background.event_type is TimeTagEmCDSEventInSCFrameInterface
        assert background.livetime == pytest.approx(case.livetime)
        assert background.expected_counts() == pytest.approx(3900.0)
        expected = sum(
            n / case.livetime * case.density(label, fraction) for label, n in NUMBERS.items()
        )
        assert_allclose(background.expectation_density(), expected, rtol=1e-6)


@pytest.mark.parametrize("frame", FRAMES)
@pytest.mark.parametrize("constrained", [True, False])
def test_an_unbinned_session_finds_the_optimum(frame, constrained):
    case = Case(frame)
    background, cosi = case.session()
    free = () if constrained else tuple(NUMBERS)
    data = DataList(cosi, background.constraint(free=free))
    table, _ = JointLikelihood(point_source()[0], data).fit(quiet=True)
    assert_allclose(table["value"].to_numpy(float), case.optimum(constrained), rtol=2e-3)
    norm, *rates = table["value"].to_numpy(float)
    assert cosi.get_log_like() == pytest.approx(-case.minus_log_like(norm, rates), rel=1e-6)
    assert cosi.get_number_of_data_points() == 3900 + N_SKY
    assert case.template.counts == NUMBERS  # a session leaves the template as it was
    assert background.counts != pytest.approx(NUMBERS, rel=1e-6)


@pytest.mark.parametrize("frame", FRAMES)
def test_the_likelihood_in_one_pass_is_cosipys(frame):
    """At any parameters the number of cosipy's classes, and the same optimum in a session."""
    case = Case(frame)
    background, source = case.template.background_density(case.events, case.history), case.source()
    source.set_model(point_source()[0])
    own = background.likelihood(source)
    theirs = UnbinnedLikelihood(SumExpectationDensity(source, background))
    assert isinstance(own, UnbinnedLikelihoodInterface)
    assert own.nobservations == theirs.nobservations
    cosi = ThreeMLPluginInterface("cosi", own, source, background)
    background.configure(cosi)
    data = DataList(cosi, background.constraint())
    table, _ = JointLikelihood(point_source()[0], data).fit(quiet=True)
    assert_allclose(table["value"].to_numpy(float), case.optimum(True), rtol=2e-3)
    for factor in (0.1, 1.0, 3.0):
        background.set_parameters(continuum=factor * 20.0 * u.Hz)
        assert own.get_log_like() == pytest.approx(theirs.get_log_like(), rel=1e-13)
    background.set_parameters(continuum=0.0 * u.Hz, lines=0.0 * u.Hz)
    alone = background.likelihood(), UnbinnedLikelihood(background)
    assert alone[0].get_log_like() == alone[1].get_log_like() == -np.inf


def test_the_background_alone_is_fitted_without_a_response():
    case = Case("galactic")
    alone = case.own.energy_keV[: sum(NUMBERS.values())]  # the sky's events are the last
    assert alone.size < case.own.energy_keV.size
    columns = [column[: alone.size] for column in case.own.columns()]
    events = TimeTagEmCDSEventDataInSCFrameFromArrays(*columns)
    background = case.template.background_density(events, case.history)
    cosi = ThreeMLPluginInterface(
        "cosi", background.likelihood(), background.no_source(), background
    )
    background.configure(cosi)
    data = DataList(cosi, background.constraint(free=tuple(NUMBERS)))
    table, _ = JointLikelihood(Model(), data).fit(quiet=True)
    rates = table["value"].to_numpy(float)
    assert rates.sum() * case.livetime == pytest.approx(alone.size, rel=1e-3)
    errors = table["error"].to_numpy(float)
    truth = np.array([*NUMBERS.values()]) / case.livetime
    assert np.all(np.abs(rates - truth) < 4.0 * errors)
    # the same by cosipy's own sum
    both = UnbinnedLikelihood(SumExpectationDensity(background.no_source(), background))
    assert cosi.get_log_like() == pytest.approx(both.get_log_like(), rel=1e-12)
    with pytest.raises(ModelError, match="has the source source, but .* without a response"):
        cosi.set_model(point_source()[0])


@pytest.mark.parametrize("frame", FRAMES)
def test_a_session_with_cosipys_own_response(frame):
    """Its Trapz point source of its test response, which carries no livetime fraction.

    150 events even in all but the logarithm of the energy; ten bins of energy.
    """
    n, rng = 150, np.random.default_rng(1)
    flight = c4.history()
    times = flight.obstime[0] + rng.uniform(0, c4.livetime(), n) * u.s
    local = angles_of(Rotation.random(n, rng=2).apply([0.0, 0.0, 1.0]))
    events = TimeTagEmCDSEventDataInSCFrameFromArrays(
        times.jd1, times.jd2, 10 ** rng.uniform(2, 4, n), *local, np.arccos(rng.uniform(-1, 1, n))
    )
    irf = UnpolarizedDC3InterpolatedFarFieldInstrumentResponseFunction(c4.detector())
    energies = np.geomspace(110, 9000, 7) * u.keV
    response = UnbinnedThreeMLModelFolding(
        UnbinnedThreeMLPointSourceResponseTrapz(events, irf, flight, energies)
    )
    model, spectrum = c4.sky(0.005)
    response.set_model(model)
    sky, sky_counts = response.expectation_density() / 0.005, response.expected_counts() / 0.005
    own = {"continuum": 80.0, "lines": 40.0}
    covariance = np.diag([15.0**2, 15.0**2])
    template = c4.template_on(c4.axes_in(frame), counts=own, covariance=covariance)
    background = template.background_density(events, flight, livetime_fraction=False)
    parts = []
    for label in own:
        rates = {other: float(label == other) * u.Hz for other in own}
        background.set_parameters(**rates)
        parts.append(background.expectation_density().copy())

    def minus_log_like(k, counts):
        density = k * sky + np.array(counts) / c4.livetime() @ parts
        return k * sky_counts + sum(counts) - np.log(density).sum()

    def cost(x):
        counts = x[1:] * list(own.values())
        known = np.sum(((counts - list(own.values())) / 15.0) ** 2)
        return minus_log_like(0.005 * x[0], counts) + 0.5 * known

    best = minimize(cost, np.ones(3), method="Nelder-Mead", tol=1e-9)
    assert best.success
    by_hand = best.x * [0.005, *(c / c4.livetime() for c in own.values())]
    for likelihood in (
        UnbinnedLikelihood(SumExpectationDensity(response, background)),
        background.likelihood(response),
    ):
        cosi = ThreeMLPluginInterface("cosi", likelihood, response, background)
        background.configure(cosi)
        spectrum.K.value = 0.005
        data = DataList(cosi, background.constraint())
        table, _ = JointLikelihood(model, data).fit(quiet=True)
        assert_allclose(table["value"].to_numpy(float), by_hand, rtol=5e-3)
        counts = list(background.counts.values())
        expected = -minus_log_like(spectrum.K.value, counts)
        assert cosi.get_log_like() == pytest.approx(expected, rel=1e-9)


def test_a_bayesian_unbinned_session():
    from astromodels import Uniform_prior

    case = Case("galactic")
    background, cosi = case.session()
    model, spectrum = point_source(1.0)
    spectrum.K.prior = Uniform_prior(lower_bound=1e-3, upper_bound=10.0, value=0.1)
    session = BayesianAnalysis(model, DataList(cosi, background.constraint()))
    session.set_sampler("emcee")
    session.sampler.setup(n_iterations=150, n_burn_in=60, n_walkers=12, seed=1)
    session.sample(quiet=True)
    samples = np.array(list(session.samples.values()))
    optimum = case.optimum(True)
    assert np.all(np.abs(samples.mean(axis=1) - optimum) < 0.5 * samples.std(axis=1))
    # the background's rates are known better than from their constraint, by the data
    assert np.all(samples[1:].std(axis=1) < np.array([100.0, 60.0]) / case.livetime)


def test_dropped_events_are_left_out_of_source_and_background():
    case = Case("galactic")
    columns = case.own.columns()
    columns[2] = columns[2].copy()
    columns[2][::7] = 1700.0
    events = TimeTagEmCDSEventDataInSCFrameFromArrays(*columns)
    background = case.template.background_density(events, case.history, outside="drop")
    assert np.array_equal(np.flatnonzero(~background.inside), np.arange(0, 4300, 7))
    inside = TimeTagEmCDSEventDataInSCFrameFromArrays(*case.own.columns(background.inside))
    again = case.template.background_density(inside, case.history)
    assert_allclose(background.expectation_density(), again.expectation_density())


# --- beside cosipy's own density -----------------------------------------------------------------


def uniform_template(seconds, n_em=2):
    """Even in everything, so that cosipy's interpolation between cells is exact."""
    some = histpy.Axes(
        [
            histpy.Axis(np.linspace(LOW, HIGH, n_em + 1) * u.keV, label="Em"),
            histpy.Axis(np.linspace(0, 180, N_PHI + 1) * u.deg, label="Phi"),
            histpy.HealpixAxis(nside=NSIDE, coordsys="galactic", label="PsiChi"),
        ]
    )
    return template_of({"lines": np.ones((n_em, N_PHI, N_PIXELS))}, some, livetime=seconds)


def test_where_cosipys_density_is_exact_both_are_equal():
    """Even cells; cosipy's density carries no livetime fraction."""
    case = Case("galactic")
    template = uniform_template(case.livetime)
    theirs = FreeNormBackgroundInterpolatedDensityTimeTagEmCDS(
        case.events, template.free_norm_histograms(), case.history
    )
    ours = template.background_density(case.events, case.history, livetime_fraction=False)
    for background in (theirs, ours):
        background.set_parameters(lines=7.0 * u.Hz)
    assert_allclose(ours.expectation_density(), theirs.expectation_density(), rtol=1e-6)
    assert ours.expected_counts() == pytest.approx(theirs.expected_counts())


def test_cosipys_density_fails_where_ours_works():
    """What the documentation says of cosipy 0.4.3."""
    one = uniform_template(1.0, n_em=1)
    case = Case("galactic")
    with pytest.raises(IndexError):
        FreeNormBackgroundInterpolatedDensityTimeTagEmCDS(
            case.events, one.free_norm_histograms(), case.history
        )
    assert one.background_density(case.events, case.history).nevents == 4300


# --- orientations --------------------------------------------------------------------------------


def test_a_quaternion_that_changes_sign():
    """interp_attitude of 0.4.3 turns the telescope round between such samples; we do not."""
    turn = Rotation.from_euler("z", [[170.0], [190.0]], degrees=True)
    quaternions = turn.as_quat()
    quaternions *= np.where(quaternions[:, 3:] < 0, -1.0, 1.0)
    assert quaternions[0] @ quaternions[1] < 0
    flight = space_history(Rotation.from_quat(quaternions))
    middle = flight.obstime[0] + 5 * u.s
    theirs = flight.interp_attitude(Time([middle])).rot.apply([[1.0, 0.0, 0.0]])
    assert abs(theirs[0, 0] + 1.0) > 0.1  # not at l = 180 deg
    maps = np.arange(1.0, N_PIXELS + 1) * np.ones((1, N_PHI, 1))
    template = template_of({"background": maps}, axes(), livetime=10.0)
    lon, lat = angles_of(np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]))
    events = TimeTagEmCDSEventDataInSCFrameFromArrays(
        middle.jd1, middle.jd2, np.full(2, 1808.0), lon, lat, np.full(2, 0.1)
    )
    got = template.background_density(events, flight).expectation_density()
    pixels = hp.vec2pix(NSIDE, [-1.0, 0.0], [0.0, -1.0], [0.0, 0.0])
    assert got[1] / got[0] == pytest.approx((pixels[1] + 1) / (pixels[0] + 1))


@pytest.mark.parametrize(
    "name",
    [
        "20280301_2s.ori",
        "20280301_2s.fits",
        "DC3-3mo-arbitrary-10s.ori",
        "DC3-3mo-arbitrary-10s.fits",
    ],
)
def test_the_orientations_of_cosipys_test_data(name):
    """Directions as scipy's Slerp on the file's own samples gives them."""
    flight = SpacecraftHistory.open(test_data.path / name)
    seconds = (flight.obstime - flight.obstime[0]).to_value(u.s)
    attitude = flight.attitude.transform_to("galactic")
    rng = np.random.default_rng(1)
    n = 500
    at = np.sort(rng.uniform(0, seconds[-1], n))
    times = flight.obstime[0] + at * u.s
    local = angles_of(Rotation.random(n, rng=1).apply([0.0, 0.0, 1.0]))
    events = TimeTagEmCDSEventDataInSCFrameFromArrays(
        times.jd1, times.jd2, np.full(n, 1808.0), *local, np.full(n, 0.1)
    )
    nside = 16
    some = axes(PsiChi=histpy.HealpixAxis(nside=nside, coordsys="galactic", label="PsiChi"))
    pixels = hp.nside2npix(nside)
    maps = np.arange(1.0, pixels + 1) * np.ones((1, N_PHI, 1))
    template = template_of({"background": maps}, some, livetime=1.0)
    got = template.background_density(events, flight, livetime_fraction=False)
    sky = Slerp(seconds, attitude.rot)(at).apply(vectors_of(*local))
    expected = hp.vec2pix(nside, *sky.T) + 1
    ratio = got.expectation_density() / expected
    assert_allclose(ratio, np.median(ratio), rtol=1e-6)


def test_an_event_list_from_fits(tmp_path):
    """The columns of DC3's files, through cosipy's own reader."""
    rng = np.random.default_rng(5)
    n = 200
    flight = SpacecraftHistory.open(test_data.path / "20280301_first_10sec.ori")
    start = flight.obstime[0].unix
    columns = {
        "TimeTags": start + np.sort(rng.uniform(0, 9.0, n)),
        "Energies": rng.uniform(LOW, HIGH, n),
        "Phi": rng.uniform(0, np.pi, n),
        "Psi local": np.arccos(rng.uniform(-1, 1, n)),
        "Chi local": rng.uniform(0, 2 * np.pi, n),
    }
    path = write_fits(tmp_path / "events.fits.gz", columns)
    events = TimeTagEmCDSEventDataInSCFrameFromDC3Fits(path)
    local = axes(PsiChi=histpy.HealpixAxis(nside=4, coordsys=SpacecraftFrame(), label="PsiChi"))
    maps = np.random.default_rng(6).uniform(0.5, 2.0, (1, N_PHI, 192))
    template = template_of({"lines": maps}, local, livetime=10.0)
    got = template.background_density(events, flight, livetime_fraction=False)
    row = (columns["Phi"] / np.pi * N_PHI).astype(int)
    pixel = hp.ang2pix(4, columns["Psi local"], columns["Chi local"])
    expected = maps[0, row, pixel] / (np.pi / N_PHI * 4 * np.pi / 192) / (HIGH - LOW) / 10.0
    assert_allclose(got.expectation_density(), expected, rtol=1e-6)
