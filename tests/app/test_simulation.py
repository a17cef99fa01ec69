"""The simulator: what it draws is what it says it expects."""

import hashlib
import itertools
import math

import healpy as hp
import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy import integrate
from scipy.stats import chi2

from cosi_linebkg_plugin.app import simulation
from cosi_linebkg_plugin.app.simulation import (
    DemoContinuum,
    DemoLine,
    SkyLine,
    positronium_spectrum,
    simulate,
    sky_spectrum,
)
from cosi_linebkg_plugin.errors import BinningError, LineBackgroundError
from cosi_linebkg_plugin.spectrum.lineshapes import tailed_gaussian_counts
from cosi_linebkg_plugin.template.kinematics import feature_angle

COMPONENTS = ("continuum", "lines", "sky")
ANNIHILATION = {
    "continuum": DemoContinuum(2000.0, 511.0, -1.8),
    "lines": [DemoLine(472.2, 9000.0), DemoLine(511.0, 30000.0)],
    "sky_line": SkyLine(510.999, 3.0, positronium=4.0),
}


@pytest.fixture(scope="module")
def small():
    return simulate(11, nside=8)


def expected(sim, name, low, high):
    return getattr(sim, f"expected_{name}")(low, high)


def tail_probability(observed, mean):
    """Chi-squared probability of counts, cells with an expectation below 20 left out."""
    use = mean > 20
    return chi2.sf(np.sum((observed[use] - mean[use]) ** 2 / mean[use]), use.sum())


def test_default_has_the_binning_of_dc3():
    sim = simulate(1)
    assert sim.shape == (99, 60, 3072)
    assert_allclose(sim.energy_edges, np.linspace(1500, 2000, 100), rtol=0, atol=1e-12)
    assert_allclose(sim.phi_edges, np.arange(0, 181, 3), rtol=0, atol=1e-12)
    assert sim.coords.dtype == np.int64 and sim.coords.shape == (3, sim.counts.size)
    assert sim.counts.dtype == np.float64 and (sim.counts > 0).all()
    assert (np.diff(np.ravel_multi_index(sim.coords, sim.shape)) > 0).all()
    # The DC3 tutorial's true background in the source range is 26,126 counts.
    background = sim.expected_background(1805, 1812).sum()
    assert background == pytest.approx(26126, rel=0.04)
    assert 0.1 < sim.expected_sky(1805, 1812).sum() / background < 0.2


@pytest.mark.parametrize("n_time", [None, 3])
def test_drawn_counts_follow_the_expectation(n_time):
    """Six chi-squared tests, each with a false-alarm rate of 1e-4; the seed is fixed."""
    sim = simulate(5, nside=4, n_time=n_time, sky_counts=20000)
    for name in COMPONENTS:
        mean = expected(sim, name, 1500, 2000)
        drawn = sim.observed(1500, 2000, name)
        assert drawn.shape == mean.shape
        assert tail_probability(drawn, mean) > 1e-4, name


def test_drawn_spectrum_and_source_range_follow_the_expectation(small):
    """Two chi-squared tests, each with a false-alarm rate of 1e-4; the seed is fixed."""
    spectrum = np.bincount(small.coords[0], weights=small.counts, minlength=99)
    assert tail_probability(spectrum, sum(small.expected_spectrum().values())) > 1e-4
    mean = small.expected_background(1805, 1812) + small.expected_sky(1805, 1812)
    pooled = small.observed(1805, 1812).reshape(60, 12, 64).sum(axis=2)
    assert tail_probability(pooled, mean.reshape(60, 12, 64).sum(axis=2)) > 1e-4


def test_histogram_holds_the_observed_events(small):
    dense = np.zeros(small.shape)
    dense[tuple(small.coords)] = small.counts
    edges = small.energy_edges
    assert_allclose(dense[59], small.observed(edges[59], edges[60]))  # holds 1805 keV: split
    assert_allclose(dense[60], small.observed(edges[60], edges[61]))
    assert_allclose(dense.sum(axis=0), small.observed(1500, 2000))
    parts = [small.observed(1805, 1812, name) for name in COMPONENTS]
    assert_allclose(sum(parts), small.observed(1805, 1812))
    assert_allclose(parts[0] + parts[1], small.observed(1805, 1812, "background"))


@pytest.mark.parametrize("line_tail", [False, True])
def test_maps_add_up_to_the_spectrum(line_tail):
    sim = simulate(1, nside=4, line_tail=line_tail, exposure_scale=0.01)
    spectrum = sim.expected_spectrum()
    for name in COMPONENTS:
        maps = [
            expected(sim, name, low, high).sum()
            for low, high in zip(sim.energy_edges[:-1], sim.energy_edges[1:], strict=True)
        ]
        assert_allclose(maps, spectrum[name], rtol=1e-10)
    assert_allclose([m.sum() for m in sim.expected_sky_slices()], spectrum["sky"], rtol=1e-10)


def test_ranges_are_additive(small):
    for name in (*COMPONENTS, "background"):
        whole = expected(small, name, 1777.3, 1850.0)
        parts = [expected(small, name, *r) for r in ((1777.3, 1808.1), (1808.1, 1850.0))]
        assert_allclose(parts[0] + parts[1], whole, rtol=1e-10, atol=1e-15)


def test_spectrum_integrals_are_those_of_the_constants(small):
    law = simulation.DEMO_CONTINUUM
    energy = np.linspace(1805, 1812, 20001)
    density = law.K * (energy / law.piv) ** law.index
    assert small.expected_continuum(1805, 1812).sum() == pytest.approx(
        integrate.trapezoid(density, energy),
        rel=1e-8,
    )
    counts = {line.energy: line.counts for line in simulation.DEMO_LINES}
    assert counts[1808.65] / counts[1778.97] == pytest.approx(0.149)
    # A full-energy line inside the axis, a quarter of all events with less energy of which
    # exp(-308.65/120) fall below it.
    total = 5000 * (1 + (1 - np.exp(-308.65 / 120)) / 3)
    assert small.expected_sky(1500, 2000).sum() == pytest.approx(total, rel=1e-3)


@pytest.mark.parametrize("ridge", simulation.DEMO_RIDGES)
@pytest.mark.parametrize("energy", [1620.0, 1808.5, 1950.0])
def test_ridges_stand_where_kinematics_puts_them(ridge, energy):
    phi = np.linspace(0, 180, 721)  # 0.25 deg
    sim = simulate(1, nside=1, phi_edges=phi, exposure_scale=1e-3)
    profile = sim.expected_continuum(energy - 2, energy + 2).sum(axis=1)
    centre = 0.5 * (phi[1:] + phi[:-1])
    angle = feature_angle(energy, ridge.photon, ridge.scattered)
    near = np.abs(centre - angle) < 3
    peak = centre[near][np.argmax(np.diff(profile, 2, prepend=0, append=0)[near] * -1)]
    assert peak == pytest.approx(angle, abs=0.6)


def test_components_differ(small):
    maps = {name: expected(small, name, 1805, 1812) for name in COMPONENTS}
    phi = small.phi_edges[:-1] + 1.5
    profile = {name: m.sum(axis=1) / m.sum() for name, m in maps.items()}
    width = {n: np.sqrt(p @ phi**2 - (p @ phi) ** 2) for n, p in profile.items()}
    assert width["lines"] > width["continuum"] + 3
    patterns = {n: m.sum(axis=0) / m.sum() for n, m in maps.items()}
    ratio = patterns["lines"] / patterns["continuum"]
    assert ratio.max() / ratio.min() > 2
    for name in ("continuum", "lines"):
        assert (maps[name] > 0).all()
        power = hp.anafast(patterns[name], lmax=12)
        assert power[7:].sum() < 1e-3 * power[1:7].sum()  # smooth
        pattern = maps[name] / maps[name].sum(axis=1, keepdims=True)
        change = pattern[40] / pattern[10]
        assert 0.05 < change.max() - 1 < 0.6  # mild, with Phi


def test_smooth_phi_distribution_changes_with_energy(small):
    def mean_phi(low, high):
        profile = small.expected_lines(low, high).sum(axis=1)
        return profile @ (small.phi_edges[:-1] + 1.5) / profile.sum()

    shift = mean_phi(1900, 2000) - mean_phi(1500, 1600)
    assert -10 < shift < -1


@pytest.mark.parametrize("nside", [8, 16])
def test_single_source_lies_on_cones(nside):
    lon, lat = 80.0, 10.0
    sim = simulate(1, nside=nside, sky=[[lon, lat, 1.0]], exposure_scale=1e-3)
    cone = sim.expected_sky(1805, 1812)
    assert (cone >= 0).all()
    pixels = np.stack(hp.pix2vec(nside, np.arange(hp.nside2npix(nside))))
    angle = np.degrees(np.arccos(hp.ang2vec(lon, lat, lonlat=True) @ pixels))
    phi = sim.phi_edges[:-1] + 1.5
    mean = cone @ angle / cone.sum(axis=1)
    spread = np.sqrt(cone @ angle**2 / cone.sum(axis=1) - mean**2)
    middle = (phi > 20) & (phi < 160)
    assert_allclose(mean[middle], phi[middle], atol=0.5)
    # The ARM, half a Phi bin and the pixel size, in quadrature.
    widest = np.sqrt(2.0**2 + 3**2 / 12 + hp.nside2resol(nside, arcmin=True) ** 2 / 3600 / 6)
    assert (spread[middle] < 1.15 * widest).all() and (spread[middle] > 2.0).all()


def test_cone_agrees_with_a_monte_carlo():
    """Chi-squared per pixel of one cone; false-alarm rate 1e-4, seed fixed."""
    rng = np.random.default_rng(8)
    sim = simulate(1, nside=4, sky=[[0.0, 90.0, 1.0]], exposure_scale=1e-3)
    phi = rng.uniform(60, 63, 400_000)
    theta = phi + rng.normal(0, simulation.ARM_SIGMA, phi.size)
    pixel = hp.ang2pix(4, np.radians(theta), rng.uniform(0, 2 * np.pi, phi.size))
    drawn = np.bincount(pixel, minlength=192)
    mean = sim.expected_sky(1805, 1812)[20]
    mean = mean / mean.sum() * phi.size
    use = mean > 500  # 3 % for the sub-pixels: this is a model, sampled at 1 deg
    pull = (drawn - mean)[use] / np.sqrt(mean[use] + (0.03 * mean[use]) ** 2)
    assert chi2.sf(np.sum(pull**2), use.sum()) > 1e-4


def test_seed_decides():
    first, same, other = (simulate(seed, nside=2) for seed in (3, 3, 4))
    assert np.array_equal(first.coords, same.coords)
    assert np.array_equal(first.counts, same.counts)
    assert first.counts.size != other.counts.size or (first.counts != other.counts).any()


def test_the_demo_stays_as_it_is():
    """The SHA-256 of what the first version of the simulator drew: figures and tests rest on it."""
    sim = simulate(7, nside=2, exposure_scale=0.05)
    cells = np.ascontiguousarray(sim.coords, "<i8"), np.ascontiguousarray(sim.counts, "<f8")
    assert (
        hashlib.sha256(b"".join(x.tobytes() for x in cells))
        .hexdigest()
        .startswith("5b80b5342fd112c3")
    )


def test_sky_does_not_change_the_background_drawn():
    with_sky, without = (simulate(3, nside=2, sky_counts=n) for n in (500, 0))
    assert np.array_equal(
        with_sky.observed(1500, 2000, "background"), without.observed(1500, 2000, "background")
    )
    assert without.observed(1500, 2000, "sky").sum() == 0
    assert without.expected_sky(1500, 2000).sum() == 0


def test_default_sky_is_at_rest():
    plain, still = (
        simulate(3, nside=2, sky_velocity=v) for v in (None, np.zeros(len(simulation.DEMO_SKY)))
    )
    assert np.array_equal(plain.coords, still.coords)
    assert np.array_equal(plain.counts, still.counts)
    assert np.array_equal(plain.expected_sky(1790, 1825), still.expected_sky(1790, 1825))


def test_velocities_shift_the_line_of_each_direction():
    sky = simulation.DEMO_SKY
    ends = [sky[:, 0] == 320.0, sky[:, 0] == 40.0]
    moved = {}
    for end in ends:
        one = simulate(
            1,
            nside=2,
            sky=sky[end],
            sky_velocity=simulation.DEMO_VELOCITY[end],
            extra_edges=np.arange(1790.0, 1826.0),
        )
        edges = np.arange(1800.0, 1817.0)
        counts = [one.expected_sky(a, b).sum() for a, b in itertools.pairwise(edges)]
        counts = np.array(counts) - min(counts)
        moved[float(sky[end][0, 0])] = counts @ (edges[1:] - 0.5) / counts.sum()
    # 220 km/s (8.2 / 4 - 1) sin 40 deg = 148.5 km/s; approaching at 320 deg: 0.896 keV above
    assert moved[320.0] - moved[40.0] == pytest.approx(2 * 0.896, rel=0.1)
    assert moved[320.0] > 1808.65 > moved[40.0]


def test_a_moving_sky_is_drawn_as_expected_and_keeps_the_background():
    plain, moving = (
        simulate(3, nside=2, sky_counts=5e5, sky_velocity=v, n_time=2, extra_edges=[1810, 1814])
        for v in (None, simulation.DEMO_VELOCITY)
    )
    # all of it, but for the shift, is the sky at rest
    full = plain.expected_sky(1500, 2000)
    assert_allclose(moving.expected_sky(1500, 2000), full, rtol=2e-3)
    for low, high in ((1810, 1814), (1500, 2000)):
        mean, drawn = moving.expected_sky(low, high), moving.observed(low, high, "sky")
        assert tail_probability(drawn, mean) > 1e-4
    assert np.array_equal(
        plain.observed(1500, 2000, "background"), moving.observed(1500, 2000, "background")
    )
    flank = 1810, 1814  # where a shift changes the counts most
    at_rest = plain.expected_sky(*flank)
    assert tail_probability(moving.observed(*flank, "sky"), at_rest) < 1e-4


def test_time_axis_splits_the_expectation():
    plain, timed = simulate(1, nside=2), simulate(1, nside=2, n_time=6)
    assert plain.time_edges is None
    assert_allclose(timed.time_edges, np.linspace(0, 7776000, 7))
    assert timed.shape == (6, *plain.shape) and timed.coords.shape[0] == 4
    for name in COMPONENTS:
        maps = expected(timed, name, 1700, 1900)
        assert_allclose(maps.sum(axis=0), expected(plain, name, 1700, 1900), rtol=1e-12)
    rate = {n: expected(timed, n, 1700, 1900).sum(axis=(1, 2)) for n in COMPONENTS}
    assert np.ptp(rate["continuum"]) > 0.1 * rate["continuum"].mean()
    assert (np.diff(rate["lines"]) > 0).all()
    assert_allclose(rate["sky"], rate["sky"].mean())
    dense = np.zeros(timed.shape)
    dense[tuple(timed.coords)] = timed.counts
    assert_allclose(dense.sum(axis=1), timed.observed(1500, 2000))


def test_other_binning_and_exposure():
    edges = np.linspace(1780, 1840, 61)
    sim = simulate(2, energy_edges=edges, nside=2, exposure_scale=0.5, extra_edges=[1800.5])
    assert sim.shape == (60, 60, 48)
    assert sim.livetime == 0.5 * 7776000
    assert sim.observed(1800, 1800.5).sum() + sim.observed(1800.5, 1801).sum() == (
        sim.observed(1800, 1801).sum()
    )
    full = simulate(2, energy_edges=edges, nside=2)
    assert_allclose(2 * sim.expected_background(1785, 1795), full.expected_background(1785, 1795))
    low = simulate(2, energy_edges=np.linspace(1500, 1700, 41), nside=2)
    assert np.array_equal(low.slice_edges, low.energy_edges)  # no source range, nothing to split


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"energy_edges": [1400.0, 1600.0]}, "outside the energy axis"),
        ({"energy_edges": [1600.0, 1500.0]}, "must increase"),
        ({"phi_edges": [0.0, 200.0]}, "0-180 deg"),
        ({"phi_edges": [30.0, 20.0]}, "0-180 deg"),
        ({"nside": 12}, "power of 2"),
        ({"nside": 0}, "power of 2"),
        ({"nside": 4.0}, "power of 2"),
        ({"n_time": 0}, "n_time"),
        ({"n_time": 2.5}, "n_time"),
        ({"sky_counts": -1.0}, "sky_counts"),
        ({"exposure_scale": 0.0}, "exposure_scale"),
        ({"extra_edges": [1000.0]}, "extra edge"),
        ({"extra_edges": [np.nan]}, "extra edge"),
        ({"sky": [[0.0, 0.0]]}, "sky must be rows of 3"),
        ({"sky": [[0.0, 0.0, 0.0]]}, "weight above 0"),
        ({"sky": [[0.0, 95.0, 1.0]]}, "latitudes"),
        ({"sky_velocity": [100.0]}, "sky_velocity must be 87 numbers"),
        ({"sky_velocity": np.full(87, np.nan)}, "km/s, of 3000 at most"),
        ({"sky_velocity": np.full(87, 2e5)}, "km/s, of 3000 at most"),
        ({"lines": [simulation.DemoLine(1800.0, -5.0)]}, "lines must be rows of 2"),
        ({"continuum": simulation.DemoContinuum(-1.0, 1750.0, -2.0)}, "continuum"),
        ({"energy_edges": [450.0, 600.0], "lines": []}, "outside the energy axis"),
        ({"energy_edges": [50.0, 600.0], **ANNIHILATION}, "outside the energy axis"),
        ({"sky_line": SkyLine(energy=0.0)}, "sky_line"),
        ({"sky_line": SkyLine(sigma=-1.0)}, "sky_line"),
        ({"sky_line": SkyLine(positronium=-0.1)}, "sky_line"),
        ({"ridges": [simulation.Ridge(511.0, True, 0.0, 0.1, 0.1)]}, "ridges"),
        ({"ridges": [simulation.Ridge(511.0, True, 1.0, -0.1, 0.1)]}, "ridges"),
        ({"ridges": 2 * [simulation.Ridge(511.0, True, 1.0, 0.5, 0.1)]}, "ridges"),
        ({"seed": -1}, "seed"),
        ({"seed": "first"}, "seed"),
    ],
)
def test_unusable_options_are_refused(options, message):
    with pytest.raises(LineBackgroundError, match=message):
        simulate(**{"nside": 1, **options})


def test_unusable_ranges_are_refused(small):
    with pytest.raises(BinningError, match="outside the energy axis"):
        small.expected_sky(1400, 1600)
    with pytest.raises(BinningError, match="low < high"):
        small.expected_sky(1812, 1805)
    with pytest.raises(BinningError, match="extra_edges"):
        small.observed(1805, 1811)
    with pytest.raises(BinningError, match="low < high"):
        small.observed(1812, 1805)
    with pytest.raises(LineBackgroundError, match="component must be"):
        small.observed(1805, 1812, "line")


def test_no_lines_leaves_the_continuum():
    sim = simulate(1, nside=1, lines=[], exposure_scale=0.01)
    assert sim.expected_lines(1500, 2000).sum() == 0
    assert sim.observed(1500, 2000, "lines").sum() == 0


@pytest.mark.parametrize("tail", [0.0, 0.23])
def test_sky_spectrum_is_a_line_with_what_lost_energy(tail):
    """By distribution functions and, with all counts in the tail, by the fit's own integrals."""
    edges = np.linspace(1500.0, 2000.0, 100)
    line = SkyLine(sigma=3.0)
    table = [900.0, 300.0], line.energy, line.sigma, [tail, 1.0], [12.5, simulation.SKY_LOSS]
    expected = tailed_gaussian_counts(edges, *table)[0]
    found = sky_spectrum(900.0, tail, edges, line)
    assert_allclose(found, expected, rtol=1e-8, atol=1e-13)
    assert (found >= 0).all()


def test_positronium_spectrum_is_that_of_ore_and_powell():
    """Against the unfolded formula, adaptively integrated; its norm is (pi^2 - 9) / 2."""

    def density(x):
        log = np.log1p(-x)
        first = x * (1 - x) / (2 - x) ** 2 - 2 * (1 - x) ** 2 / (2 - x) ** 3 * log
        return 2 / (np.pi**2 - 9) * (first + (2 - x) / x + 2 * (1 - x) / x**2 * log)

    energy, sigma = 511.0, 2.0
    edges = np.array([5.0, 100.0, 100.5, 480.0, 505.0, 508.0, 511.0, 512.0, 520.0, 600.0])
    counts = positronium_spectrum(1000.0, SkyLine(energy, sigma), edges)
    for low, high, found in zip(edges[:-1], edges[1:], counts, strict=True):

        def folded(x, low=low, high=high):
            inside = (np.array([low, high]) - energy * x) / (sigma * np.sqrt(2))
            return density(x) * 0.5 * np.diff([math.erf(z) for z in inside])[0]

        steps = np.clip((np.array([low, high])[:, None] + np.array([-20, 0, 20])) / energy, 0, 1)
        whole = integrate.quad(folded, 1e-9, 1, points=np.unique(steps)[1:-1], limit=500)[0]
        assert found == pytest.approx(1000.0 * whole, rel=1e-6, abs=1e-5)
    everything = positronium_spectrum(1.0, SkyLine(energy, sigma), np.array([-50.0, 600.0]))
    assert everything[0] == pytest.approx(1.0, rel=1e-9)
    # the step: some 2.2 / 511 of the counts per keV below it, none above
    density_at = positronium_spectrum(1.0, SkyLine(energy, 0.5), np.arange(500.0, 521.0, 0.5)) / 0.5
    assert density_at[16] == pytest.approx(density(508.25 / energy) / energy, rel=0.01)
    assert density_at[28] < 1e-6 * density_at[16]


def test_annihilation_line_on_its_positronium_continuum():
    """Five chi-squared tests, each with a false-alarm rate of 1e-4; the seed is fixed."""
    edges = np.arange(450.0, 571.0)
    sim = simulate(6, energy_edges=edges, nside=4, sky_counts=8000.0, **ANNIHILATION)
    names = (*COMPONENTS, "positronium")
    assert set(sim.expected_spectrum()) == set(names)
    for name in names:
        mean = expected(sim, name, 450, 570)
        assert np.isfinite(mean).all()
        assert mean.sum() == pytest.approx(sim.expected_spectrum()[name].sum(), rel=1e-9)
        pooled = [x.reshape(60, 12, 16).sum(axis=2) for x in (sim.observed(450, 570, name), mean)]
        assert tail_probability(*pooled) > 1e-4, name
    counts = np.bincount(sim.coords[0], weights=sim.counts, minlength=120)
    assert tail_probability(counts, sum(sim.expected_spectrum().values())) > 1e-4
    below, above = (sim.expected_positronium(*r).sum() for r in ((490, 500), (522, 532)))
    assert below > 500 and above < 1
    assert sim.expected_positronium(490, 500).shape == sim.expected_sky(490, 500).shape


def test_without_positronium_none_is_expected(small):
    assert small.expected_positronium(1800, 1810).shape == (60, 768)
    assert not small.expected_positronium(1800, 1810).any()
    with pytest.raises(LineBackgroundError, match="component must be"):
        small.observed(1805, 1812, "positronium")


def test_ridges_may_be_left_out_and_are_where_the_kinematics_allow_them():
    """An annihilation photon leaves the scatter above 511 keV only; below, nothing is missing."""
    edges = np.array([480.0, 500.0, 530.0, 535.0])
    options = dict(nside=1, energy_edges=edges, exposure_scale=0.01, extra_edges=[], **ANNIHILATION)
    plain, ridged = (simulate(1, ridges=r, **options) for r in ((), simulation.DEMO_RIDGES))
    below, above = (
        [sim.expected_continuum(*r).sum(axis=1) for sim in (plain, ridged)]
        for r in ((480, 500), (530, 535))
    )
    assert_allclose(*below, rtol=1e-12)
    assert above[0].sum() == pytest.approx(above[1].sum(), rel=1e-12)
    angle = feature_angle(532.5, simulation.ELECTRON_MASS, True)
    extra = above[1] - above[0]
    assert plain.phi_edges[np.argmax(extra)] <= angle <= plain.phi_edges[np.argmax(extra) + 1]
    assert extra[extra > 0].sum() == pytest.approx(0.05 * above[0].sum(), rel=0.1)
