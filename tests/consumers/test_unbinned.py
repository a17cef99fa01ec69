"""The density of cosipy 0.4.3's unbinned likelihood: by hand, integrated, and in fits."""

import astropy.units as u
import healpy as hp
import histpy
import numpy as np
import pytest
from flights import (
    Events,
    TimeTagEvent,
    angles_of,
    drawn,
    history,
    interpolated,
    rocking,
    vectors_of,
)
from numpy.testing import assert_allclose
from scipy import stats
from scipy.optimize import minimize
from scipy.spatial.transform import Rotation
from spectra import line_model, simulated_spectrum
from templates import template_of

from cosi_linebkg_plugin.errors import DataError, TemplateError
from cosi_linebkg_plugin.fit.minimise import fit_spectrum
from cosi_linebkg_plugin.template.amounts import LineRatio
from cosi_linebkg_plugin.template.record import Record

NSIDE, N_PHI = 2, 6
N_PIXELS = hp.nside2npix(NSIDE)
LOW, HIGH = 1800.0, 1820.0
CELL = np.pi / N_PHI * 4 * np.pi / N_PIXELS  # rad sr
RATIO = {"line": 1809.0, "tracer": 1779.0, "value": 0.15, "error": 0.015}


def spectrum_fit():
    """A power law and a line whose partner lies in the source range."""
    model = line_model([(1779.0, 20000.0, (1770.0, 1790.0))], k=300.0)
    edges = np.linspace(1600.0, 2000.0, 41)
    rng = np.random.default_rng(1)
    return fit_spectrum(model, simulated_spectrum(model, edges, rng, mask=[(LOW, HIGH)]))


FIT = spectrum_fit()


def axes_of(coordsys="galactic", scheme="ring", em=(LOW, HIGH), nside=NSIDE):
    return histpy.Axes(
        [
            histpy.Axis(np.array(em) * u.keV, label="Em"),
            histpy.Axis(np.linspace(0, 180, N_PHI + 1) * u.deg, label="Phi"),
            histpy.HealpixAxis(nside=nside, scheme=scheme, coordsys=coordsys, label="PsiChi"),
        ]
    )


def maps_of(seed=1, n_em=1):
    """Two components that differ in Phi and on the sphere, shape (n_em, N_PHI, N_PIXELS)."""
    rng = np.random.default_rng(seed)
    phi = np.arange(N_PHI) + 0.5
    out = {}
    for label, center in (("continuum", 1.5), ("lines", 3.5)):
        pattern = rng.uniform(0.3, 1.7, (n_em, 1, N_PIXELS))
        out[label] = np.exp(-(((phi - center) / 1.5) ** 2))[:, None] * pattern
    return out


def template_in(frame="galactic", counts=(3000.0, 900.0), livetime=500.0, **options):
    """Amounts, livetime and the ratio of the lines' energies; axes in `frame`."""
    axes = options.pop("axes", axes_of("spacecraftframe" if frame == "local" else frame))
    maps = options.pop("maps", maps_of(n_em=axes["Em"].nbins))
    known = {
        "fit": FIT,
        "source_range": (LOW, HIGH),
        "record": Record("components", line_ratio=LineRatio.of(RATIO)),
    }
    amounts = dict(zip(maps, counts, strict=True))
    return template_of(maps, axes, counts=amounts, livetime=livetime, **(known | options))


def theta(name):
    return FIT.values[name]


def continuum_density(energy):
    """A power law on the source range, normalised: 1/keV."""
    index = theta("index_1")
    norm = (HIGH ** (index + 1) - LOW ** (index + 1)) / (index + 1)
    return energy**index / norm


def lines_density(energy):
    """The fitted line's tail and the partner that the ratio adds, normalised."""
    sigma = theta("sigma_2")
    total = pdf = 0.0
    for center, weight in ((theta("mu_2"), 1.0), (RATIO["line"], RATIO["value"])):
        line = stats.norm(center, sigma)
        pdf = pdf + weight * line.pdf(energy)
        total += weight * (line.cdf(HIGH) - line.cdf(LOW))
    return pdf / total


def events_at_centers(rotations, seconds, frame, energy=1808.0):
    """One event at the middle of every cell, all at the same time."""
    phi = (np.arange(N_PHI) + 0.5) * np.pi / N_PHI
    vectors = np.column_stack(hp.pix2vec(NSIDE, np.arange(N_PIXELS)))
    if frame != "local":
        vectors = interpolated(rotations, seconds).inv().apply(vectors)
    lon, lat = angles_of(vectors)
    n = N_PHI * N_PIXELS
    return Events(
        np.full(n, seconds),
        np.full(n, energy),
        np.repeat(phi, N_PIXELS),
        np.tile(lon, N_PHI),
        np.tile(lat, N_PHI),
    )


# --- the density itself --------------------------------------------------------------------------


@pytest.mark.parametrize("livetime_fraction", [True, False])
@pytest.mark.parametrize("frame", ["local", "galactic", "icrs"])
def test_the_density_by_hand(frame, livetime_fraction):
    """Every cell, at energies across the range, at a time between two samples."""
    rotations = rocking()
    flight = history(rotations, live=0.8, frame="icrs" if frame == "icrs" else "galactic")
    template = template_in(frame)
    for energy in (LOW, 1803.3, 1809.0, np.nextafter(HIGH, 0)):
        events = events_at_centers(rotations, 123.4, frame, energy)
        density = template.background_density(events, flight, livetime_fraction=livetime_fraction)
        share = {label: m.ravel() / m.sum() / CELL for label, m in maps_of().items()}
        expected = (
            3000.0 / 500.0 * share["continuum"] * continuum_density(energy)
            + 900.0 / 500.0 * share["lines"] * lines_density(energy)
        ) * (0.8 if livetime_fraction else 1.0)
        assert_allclose(density.expectation_density(), expected, rtol=3e-4)
        assert density.inside.all() and density.nevents == N_PHI * N_PIXELS


@pytest.mark.parametrize("frame", ["local", "galactic"])
@pytest.mark.parametrize("scheme", ["ring", "nested"])
def test_it_integrates_to_the_expected_counts(frame, scheme):
    """Over energy (Gauss-Legendre), cells, and the live seconds of each interval."""
    rotations = rocking(8)
    live = np.linspace(0.1, 1.0, 7)
    flight = history(rotations, live=live)
    axes = axes_of("spacecraftframe" if frame == "local" else frame, scheme)
    template = template_in(frame, axes=axes, livetime=100.0)
    nodes, weights = np.polynomial.legendre.leggauss(40)
    energies, weights = LOW + 10.0 * (nodes + 1), 10.0 * weights
    total = {True: 0.0, False: 0.0}
    for i in range(7):
        for energy, weight in zip(energies, weights, strict=True):
            events = events_at_centers(rotations, 10.0 * i + 3.0, frame, energy)
            for fraction in total:
                density = template.background_density(events, flight, livetime_fraction=fraction)
                seconds = 10.0 if fraction else 10.0 * live[i]
                total[fraction] += density.expectation_density().sum() * weight * CELL * seconds
    expected = (3000.0 + 900.0) / 100.0 * 10.0 * live.sum()
    assert density.expected_counts() == pytest.approx(expected, rel=1e-12)
    assert total[True] == pytest.approx(expected, rel=1e-3)
    assert total[False] == pytest.approx(expected, rel=1e-3)


def test_several_energy_bins_and_a_wider_axis():
    """A template made with like=: empty outside the source range, shares by bin inside it."""
    axes = axes_of(em=(1700.0, LOW, 1805.0, HIGH, 1900.0))
    maps = maps_of(n_em=4)
    for m in maps.values():
        m[[0, 3]] = 0.0
    template = template_in(axes=axes, maps=maps)
    rotations = rocking()
    flight = history(rotations)
    total = 0.0
    nodes, weights = np.polynomial.legendre.leggauss(30)
    for low, high in ((LOW, 1805.0), (1805.0, HIGH)):
        part = 0.0
        for node, weight in zip(nodes, weights, strict=True):
            energy = low + 0.5 * (high - low) * (node + 1)
            events = events_at_centers(rotations, 55.0, "galactic", energy)
            density = template.background_density(events, flight, livetime_fraction=False)
            part += density.expectation_density().sum() * weight * 0.5 * (high - low) * CELL
        bin_ = 1 if low == LOW else 2
        expected = sum(
            n / 500.0 * m[bin_].sum() / m.sum()
            for n, m in zip((3000.0, 900.0), maps.values(), strict=True)
        )
        assert part == pytest.approx(expected, rel=1e-3)
        total += part
    assert total == pytest.approx(3900.0 / 500.0, rel=1e-3)


def test_orientations_whose_quaternions_change_sign():
    """q and -q are one orientation; between them the telescope does not turn round."""
    rotations = rocking(200, turns=3.0)
    quaternions = rotations.as_quat()
    changes = np.flatnonzero(np.sum(quaternions[1:] * quaternions[:-1], axis=1) < 0)
    assert changes.size >= 3
    rng = np.random.default_rng(1)
    seconds = np.sort(np.append(10.0 * changes + 5.0, rng.uniform(0, 1990.0, 2000)))
    n = seconds.size
    events = Events(seconds, np.full(n, 1808.0), np.full(n, 0.1), rng.uniform(0, 6.28, n),
                    np.arcsin(rng.uniform(-1, 1, n)))  # fmt: skip
    maps = {"background": np.arange(1.0, N_PIXELS + 1)[None, None, :] * np.ones((1, N_PHI, 1))}
    template = template_in(maps=maps, counts=(1000.0,))
    density = template.background_density(events, history(rotations))
    local = vectors_of(events.scattered_lon_rad_sc, events.scattered_lat_rad_sc)
    sky = interpolated(rotations, seconds).apply(local)
    pixel = hp.vec2pix(NSIDE, *sky.T)
    got = density.expectation_density()
    assert_allclose(got / got[0], (pixel + 1) / (pixel[0] + 1), rtol=1e-6)


def test_a_telescope_at_rest_and_a_half_turn():
    still = history(Rotation.from_euler("z", [[30.0], [30.0]], degrees=True))
    events = events_at_centers(
        Rotation.from_euler("z", [[30.0], [30.0]], degrees=True), 4.0, "galactic"
    )
    expected = template_in().background_density(events, still).expectation_density()
    still.attitude = type(still.attitude)(Rotation.from_euler("z", 30.0, degrees=True), "galactic")
    got = template_in().background_density(events, still).expectation_density()
    assert_allclose(got, expected)
    turning = Rotation.from_euler("z", [[0.0], [179.0]], degrees=True)
    events = events_at_centers(turning, 7.0, "galactic")
    got = template_in().background_density(events, history(turning)).expectation_density()
    assert_allclose(got, expected)


@pytest.mark.filterwarnings("ignore:The energies of a line of unknown amount")
def test_energies_of_other_templates():
    """One component: the sum of the spectrum. A hidden line without ratio: even."""
    rotations = rocking()
    flight = history(rotations)
    both = FIT.expected_counts((LOW, HIGH)).values
    for maps, ratio, density_of in (
        (
            {"background": maps_of()["lines"]},
            RATIO,
            lambda e: (
                (both[0] * continuum_density(e) + line_counts() * lines_density(e))
                / (both[0] + line_counts())
            ),
        ),
        ({"lines": maps_of()["lines"]}, None, lambda e: 1.0 / (HIGH - LOW)),
    ):
        options = {}
        if "lines" in maps:
            options["covariance"] = np.array([[np.inf]])
        record = Record("components", line_ratio=LineRatio.of(ratio))
        template = template_in(maps=maps, counts=(800.0,), record=record, **options)
        share = (maps["lines" if "lines" in maps else "background"]).ravel()
        for energy in (1801.0, 1809.0):
            events = events_at_centers(rotations, 44.0, "galactic", energy)
            got = template.background_density(events, flight, livetime_fraction=False)
            start = 800.0 / 500.0
            expected = start * share / share.sum() / CELL * density_of(energy)
            assert_allclose(got.expectation_density(), expected, rtol=3e-4)


def line_counts():
    """Counts of the fitted line and of its partner in the source range."""
    sigma, area = theta("sigma_2"), theta("F_2")
    return sum(
        w * area * np.diff(stats.norm.cdf((LOW, HIGH), c, sigma))[0]
        for c, w in ((theta("mu_2"), 1.0), (RATIO["line"], RATIO["value"]))
    )


def test_parts_of_a_split_template_keep_their_energies():
    rotations = rocking()
    flight, events = history(rotations), events_at_centers(rotations, 44.0, "galactic", 1808.9)
    whole = template_in()
    got = whole.split("Phi", 2).background_density(events, flight)
    expected = whole.background_density(events, flight)
    assert len(got.parameters) == 6
    assert_allclose(got.expectation_density(), expected.expectation_density(), rtol=1e-6)


# --- as an interface -----------------------------------------------------------------------------


def test_norms_are_rates_and_events_keep_their_order():
    rotations = rocking()
    flight = history(rotations, live=0.5)
    events = events_at_centers(rotations, 44.0, "galactic")
    template = template_in()
    density = template.background_density(events, flight, prefix="b_")
    assert density.event_type is TimeTagEvent and density.event_data_type is Events
    assert list(density.parameters) == ["b_continuum", "b_lines"]
    assert density.parameters["b_continuum"] == 6.0 * u.Hz
    live = 59 * 10.0 * 0.5
    assert density.livetime == pytest.approx(live)
    assert density.expected_counts() == pytest.approx(7.8 * live)
    first = density.expectation_density()
    assert isinstance(first, np.ndarray) and first is density.expectation_density()
    assert_allclose(density.event_probability() * density.expected_counts(), first)
    density.set_parameters(b_lines=0 * u.Hz)
    continuum = density.expectation_density()
    density.set_parameters(b_lines=3.6 * u.Hz, b_continuum=12.0 / u.s)
    assert_allclose(density.expectation_density(), 2 * first, rtol=1e-12)
    assert density.counts == pytest.approx({"continuum": 6000.0, "lines": 1800.0})
    assert template.counts == {"continuum": 3000.0, "lines": 900.0}
    columns = (
        np.full(events.energy_keV.size, 44.0),
        events.energy_keV,
        events.scattering_angle_rad,
        events.scattered_lon_rad_sc,
        events.scattered_lat_rad_sc,
    )
    turned = Events(*(column[::-1] for column in columns))
    again = template.background_density(turned, flight)
    assert_allclose(again.expectation_density(), first[::-1])
    assert np.all(continuum < first)


def test_without_a_livetime_the_counts_are_those_of_the_history():
    rotations = rocking()
    flight, events = history(rotations), events_at_centers(rotations, 44.0, "galactic")
    density = template_in(livetime=None).background_density(events, flight)
    assert density.expected_counts() == pytest.approx(3900.0)


# --- what lies outside ---------------------------------------------------------------------------


def test_events_outside_are_counted_or_dropped():
    rotations = rocking(12)
    live = np.ones(11)
    live[4] = 0.0
    flight = history(rotations, live=live)
    seconds = np.array([5.0, 5.0, 5.0, -1.0, 111.0, 45.0, 5.0, 5.0, 110.0])
    energy = np.array([1808.0, 1799.9, HIGH, 1808.0, 1808.0, 1808.0, np.nan, 1808.0, 1808.0])
    latitude = np.array([0.1, 0, 0, 0, 0, 0, 0, 2.0, 0])
    phi = np.full(9, 0.4)
    events = Events(seconds, energy, phi, np.zeros(9), latitude)
    template = template_in()
    message = (
        r"7 of 9 events have no density: 2 with energies outside 1800-1820 keV, 2 outside the "
        r"times of the orientation, 1 at times without livetime, 2 without a finite energy"
    )
    with pytest.raises(DataError, match=message):
        template.background_density(events, flight)
    density = template.background_density(events, flight, outside="drop")
    assert density.inside.tolist() == [True, *[False] * 7, True]
    assert density.nevents == 2 and density.expectation_density().shape == (2,)
    # without the livetime fraction, an event at such a time has a density
    loose = template.background_density(events, flight, outside="drop", livetime_fraction=False)
    assert loose.inside.tolist() == [True, *[False] * 4, True, False, False, True]
    none = Events([5.0], [1700.0], [0.4], [0.0], [0.0])
    with pytest.raises(DataError, match="1 of 1"):
        template.background_density(none, flight, outside="drop")


def test_a_narrow_phi_axis_and_unsorted_times():
    axes = axes_of()
    narrow = histpy.Axes(
        [axes["Em"], histpy.Axis(np.linspace(30, 90, N_PHI + 1) * u.deg, label="Phi"),
         axes["PsiChi"]]
    )  # fmt: skip
    template = template_in(axes=narrow)
    rotations = rocking()
    flight = history(rotations)
    rng = np.random.default_rng(2)
    seconds = rng.uniform(0, 590.0, 300)
    phi = rng.uniform(0, np.pi, 300)
    lon, lat = rng.uniform(-3, 9, 300), np.arcsin(rng.uniform(-1, 1, 300))
    events = Events(seconds, np.full(300, 1804.0), phi, lon, lat)
    density = template.background_density(events, flight, outside="drop")
    inside = (np.degrees(phi) >= 30) & (np.degrees(phi) < 90)
    assert np.array_equal(density.inside, inside)
    sky = interpolated(rotations, seconds).apply(vectors_of(lon, lat))[inside]
    pixel = hp.vec2pix(NSIDE, *sky.T)
    row = ((np.degrees(phi[inside]) - 30) / 10).astype(int)
    cell = CELL / 3
    expected = 0.9 * sum(
        n / 500.0 * m[0, row, pixel] / m.sum() / cell * f(1804.0)
        for n, m, f in zip(
            (3000.0, 900.0), maps_of().values(), (continuum_density, lines_density), strict=True
        )
    )
    assert_allclose(density.expectation_density(), expected, rtol=3e-4)


def test_what_makes_no_density_is_refused():
    rotations = rocking(4)
    flight, events = history(rotations), events_at_centers(rotations, 4.0, "galactic")
    times = histpy.Axes([histpy.Axis([0.0, 1.0, 2.0] * u.s, label="Time"), *axes_of()])
    maps = {"background": np.ones([a.nbins for a in times])}
    with pytest.raises(TemplateError, match="2 bins of Time"):
        template_in(axes=times, maps=maps, counts=(1.0,)).background_density(events, flight)
    with pytest.raises(DataError, match="event data .* got list"):
        template_in().background_density([1.0], flight)
    with pytest.raises(TemplateError, match="'raise' or 'drop'"):
        template_in().background_density(events, flight, outside="keep")
    for nothing in (None, "flight.ori"):
        with pytest.raises(DataError, match="cosipy's SpacecraftHistory"):
            template_in().background_density(events, nothing)
    flight.livetime = 0 * flight.livetime
    with pytest.raises(DataError, match="no livetime at all"):
        template_in().background_density(events, flight)
    plain = histpy.Axes(
        [*list(axes_of())[:2], histpy.Axis(np.arange(N_PIXELS + 1), label="PsiChi")]
    )
    with pytest.raises(TemplateError, match="HealpixAxis"):
        template_in(axes=plain).background_density(events, history(rotations))


# --- fits ----------------------------------------------------------------------------------------


def simulated(rng, frame, numbers, rotations, live):
    maps = {label: m[0] for label, m in maps_of().items()}
    energies = {"continuum": _inverted(continuum_density), "lines": _inverted(lines_density)}
    return drawn(maps, energies, numbers, rotations, rng, nside=NSIDE, frame=frame, live=live)


def _inverted(density):
    """Draws from a density on the source range, by its cumulative sum."""
    grid = np.linspace(LOW, HIGH, 20001)
    middle = 0.5 * (grid[1:] + grid[:-1])
    sums = np.append(0.0, np.cumsum(density(middle)))
    return lambda rng, n: np.interp(rng.uniform(0, sums[-1], n), sums, grid)


def fitted(density):
    """Rates of the highest likelihood, and their errors from the exact Fisher information."""
    names = list(density.parameters)
    start = np.array([q.value for q in density.parameters.values()])

    def cost(rates):
        density.set_parameters(**dict(zip(names, rates * u.Hz, strict=True)))
        values = density.expectation_density()
        gradient = density.livetime - (parts / values).sum(axis=1)
        return density.expected_counts() - np.log(values).sum(), gradient

    parts = []
    for i in range(len(names)):
        one = np.zeros(len(names))
        one[i] = 1.0
        density.set_parameters(**dict(zip(names, one * u.Hz, strict=True)))
        parts.append(density.expectation_density().copy())
    parts = np.array(parts)
    found = minimize(cost, start, jac=True, bounds=[(1e-6, None)] * 2, tol=1e-12)
    values = found.x @ parts
    fisher = np.array([[np.sum(a * b / values**2) for a in parts] for b in parts])
    return found.x, np.sqrt(np.diag(np.linalg.inv(fisher)))


@pytest.mark.parametrize("frame", ["local", "galactic"])
def test_the_unbinned_fit_agrees_with_the_binned_one(frame):
    """The same events, binned in the template's cells and its one energy bin.

    The energies say more: the unbinned errors are smaller, and the two differ by less than the
    difference of their variances allows.
    """
    rng = np.random.default_rng(4)
    rotations = rocking()
    live = np.full(59, 0.8)
    events = simulated(rng, frame, {"continuum": 30000, "lines": 9000}, rotations, live)
    template = template_in(frame, counts=(30000.0, 9000.0), livetime=472.0)
    density = template.background_density(events, history(rotations, live=0.8))
    rates, errors = fitted(density)
    local = vectors_of(events.scattered_lon_rad_sc, events.scattered_lat_rad_sc)
    if frame != "local":
        start = history(rotations).obstime[0]
        seconds = ((events.jd1 - start.jd1) + (events.jd2 - start.jd2)) * 86400.0
        local = interpolated(rotations, seconds).apply(local)
    row = (events.scattering_angle_rad / np.pi * N_PHI).astype(int)
    cells = row * N_PIXELS + hp.vec2pix(NSIDE, *local.T)
    counts = np.bincount(cells, minlength=N_PHI * N_PIXELS).astype(float)
    binned = histpy.Histogram(template.axes, contents=counts.reshape(1, N_PHI, N_PIXELS))
    fit = template.fit_norms(binned)
    binned_errors = np.sqrt(np.diag(template.covariance)) / 472.0
    difference = rates - fit.values / 472.0
    assert np.all(errors < binned_errors)
    allowed = np.sqrt(binned_errors**2 - errors**2)
    assert np.all(np.abs(difference) < 3 * allowed)
    assert rates.sum() * 472.0 == pytest.approx(39000.0, rel=1e-5)  # the total is kept


@pytest.mark.slow
@pytest.mark.parametrize("frame", ["local", "galactic"])
def test_two_components_come_back_unbiased(frame):
    """30 data sets of Poisson(30,000) and Poisson(9,000) events, half live in turns.

    The mean pull of 30 has an error of 0.18; both bounds together fail by chance once in 5,000.
    """
    rotations = rocking()
    live = np.where(np.arange(59) % 2, 0.9, 0.3)
    flight = history(rotations, live=live)
    seconds = 10.0 * live.sum()
    truth = np.array([30000.0, 9000.0])
    pulls = []
    for seed in range(30):
        rng = np.random.default_rng(seed)
        numbers = dict(zip(("continuum", "lines"), rng.poisson(truth), strict=True))
        events = simulated(rng, frame, numbers, rotations, live)
        template = template_in(frame, counts=tuple(1.2 * truth), livetime=seconds)
        rates, errors = fitted(template.background_density(events, flight))
        pulls.append((rates * seconds - truth) / (errors * seconds))
    pulls = np.array(pulls)
    assert np.all(np.abs(pulls.mean(axis=0)) < 4.0 / np.sqrt(30))
    assert np.all((pulls.std(axis=0) > 0.6) & (pulls.std(axis=0) < 1.5))
    assert np.mean(np.abs(pulls) < 1.0) > 0.5
