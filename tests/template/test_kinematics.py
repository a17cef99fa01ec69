"""Compton features: angles, sidebands that keep them, matrices that move them."""

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.special import ndtr
from spectra import TUTORIAL_MASK, line_model

from cosi_linebkg_plugin.errors import BinningError, DataError, LineBackgroundError, ModelError
from cosi_linebkg_plugin.fit.result import LineBackgroundFit
from cosi_linebkg_plugin.spectrum.axis import EnergySpectrum, overlapping_bins
from cosi_linebkg_plugin.template.kinematics import (
    ELECTRON_MASS,
    FEATURES,
    FIRST_DEPOSITS,
    Feature,
    feature_angle,
    feature_shares,
    shift_matrices,
    suggest_sidebands,
)

SOURCE_RANGE = (1805.0, 1812.0)
SOURCE = 1808.5
EDGES = np.linspace(1650, 1950, 61)
CENTERS = 0.5 * (EDGES[1:] + EDGES[:-1])
PHI = {step: np.arange(0, 180 + step / 2, step) for step in (1.0, 3.0)}


def angle(energy, feature):
    return feature_angle(energy, feature.photon, feature.scattered)


def expected_counts(phi, shares, total=1e5, width=1.2, energies=CENTERS, features=FEATURES):
    """A smooth distribution, constant in energy, plus features; shape (n_em, n_phi)."""
    center = 0.5 * (phi[1:] + phi[:-1])
    smooth = center * np.exp(-center / 40) * np.diff(phi)
    counts = np.tile((1 - sum(shares)) * smooth / smooth.sum(), (len(energies), 1))
    for share, feature in zip(shares, features, strict=True):
        at = angle(energies, feature)[:, None]
        counts += share * np.diff(ndtr((phi - at) / width))
    return total * counts


def shifted(matrices, counts):
    return np.einsum("eij,ej->ei", matrices, counts)


# --- angles --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("feature", "degrees", "slope"),
    [
        (FEATURES[0], 73.6, 0.0093),
        (FEATURES[1], 27.3, -0.0184),
        (FEATURES[2], 38.5, 0.0144),
        (FIRST_DEPOSITS[0], 50.7, -0.0496),
        (FIRST_DEPOSITS[1], 61.4, -0.0724),
    ],
)
def test_angles_and_slopes_at_the_26al_line(feature, degrees, slope):
    """Known of the DC3 background: 73.6, 27.3, 38.5 deg at 1808.5 keV, +0.0093, -0.0184 deg/keV.

    The other slopes are derivatives of the formula, m / (E^2 sin phi) for the third.
    """
    assert angle(SOURCE, feature) == pytest.approx(degrees, abs=0.05)
    change = np.diff(angle([SOURCE - 0.5, SOURCE + 0.5], feature)).item()
    assert change == pytest.approx(slope, abs=1e-4)


def test_angle_conserves_energy_and_momentum():
    """The scattered photon of the Klein-Nishina kinematics, E2 = E / (1 + E/m (1 - cos phi))."""
    for energy in (700.0, 1808.65, 6000.0):
        for photon, scattered in ((400.0, True), (300.0, False)):
            cosine = np.cos(np.radians(feature_angle(energy, photon, scattered)))
            second = energy / (1 + energy / ELECTRON_MASS * (1 - cosine))
            assert second == pytest.approx(photon if scattered else energy - photon, rel=1e-12)


def test_forbidden_angles_are_nan():
    assert np.isnan(feature_angle(1500.0, 1368.6, False))  # E2 = 131 keV needs cos(phi) < -1
    assert np.isnan(feature_angle([500.0, 511.0, 510.0], 512.0, True)).all()
    assert np.isnan(feature_angle(511.0, 511.0, False))
    assert feature_angle(600.0, 600.0, True) == 0.0


# --- shares and matrices -------------------------------------------------------------------------


@pytest.mark.parametrize("step", [1.0, 3.0])
def test_shares_are_found(step):
    truth = (0.05, 0.03, 0.02)
    counts = expected_counts(PHI[step], truth)
    amplitudes, errors, shares = feature_shares(EDGES, PHI[step], counts)
    assert_allclose(amplitudes, truth, rtol=0.12)
    assert (errors > 0).all() and (errors < 0.002).all()
    assert (shares >= 0).all() and (shares.sum(axis=0) <= 1 + 1e-12).all()
    found = (shares * counts).sum(axis=(1, 2)) / counts.sum()
    assert_allclose(found, amplitudes, rtol=0.05)


def test_amplitude_errors_are_those_of_repeated_draws():
    """Standard deviation of 60 draws, known to 9 %; seed fixed, 4 sigma allowed."""
    rng = np.random.default_rng(4)
    mean = expected_counts(PHI[3.0], (0.05, 0.03, 0.02), total=2e3)
    rows = [feature_shares(EDGES, PHI[3.0], rng.poisson(mean))[:2] for _ in range(60)]
    amplitudes, errors = np.array(rows).transpose(1, 0, 2)
    assert_allclose(amplitudes.std(axis=0) / errors.mean(axis=0), 1.0, atol=0.37)


@pytest.mark.parametrize("step", [1.0, 3.0])
def test_matrices_conserve_counts_and_are_not_negative(step):
    rng = np.random.default_rng(2)
    counts = rng.poisson(expected_counts(PHI[step], (0.05, 0.03, 0.02), total=1e4))
    matrices = shift_matrices(EDGES, PHI[step], SOURCE, counts)
    assert matrices.shape == (CENTERS.size, PHI[step].size - 1, PHI[step].size - 1)
    assert (matrices >= 0).all()
    assert_allclose(matrices.sum(axis=1), 1.0, rtol=0, atol=1e-12)
    assert_allclose(shifted(matrices, counts).sum(axis=1), counts.sum(axis=1), rtol=1e-12)


def test_identity_at_the_source_energy():
    counts = expected_counts(PHI[3.0], (0.05, 0.03, 0.02))
    matrices = shift_matrices(EDGES, PHI[3.0], CENTERS[30], counts)
    assert_allclose(matrices[30], np.eye(60), rtol=0, atol=1e-12)
    assert not np.allclose(matrices[0], np.eye(60), atol=0.1)


def test_bare_features_move_into_the_right_bins():
    """Nothing but one feature: all of it stands at the source's angle afterwards."""
    for feature in FEATURES:
        shares = [float(f is feature) for f in FEATURES]
        counts = expected_counts(PHI[1.0], shares, width=0.3)
        options = {"features": [feature], "width": 0.3}
        moved = shifted(shift_matrices(EDGES, PHI[1.0], SOURCE, counts, **options), counts)
        truth = expected_counts(PHI[1.0], shares, width=0.3, energies=[SOURCE])
        assert_allclose(moved, np.repeat(truth, CENTERS.size, axis=0), atol=1e-3 * 1e5)
        assert (np.argmax(moved, axis=1) == int(angle(SOURCE, feature))).all()


@pytest.mark.parametrize("step", [1.0, 3.0])
def test_features_on_a_smooth_distribution_move_and_the_rest_stays(step):
    counts = expected_counts(PHI[step], (0.05, 0.03, 0.02))
    truth = expected_counts(PHI[step], (0.05, 0.03, 0.02), energies=[SOURCE])
    matrices = shift_matrices(EDGES, PHI[step], SOURCE, counts, features=FEATURES)
    moved = shifted(matrices, counts)
    before, after = (np.abs(c - truth).sum(axis=1) for c in (counts, moved))
    far = np.abs(CENTERS - SOURCE) > 60
    assert (after[far] < 0.25 * before[far]).all()
    near = np.min([np.abs(PHI[step][:-1] + step / 2 - angle(SOURCE, f)) for f in FEATURES], 0)
    assert_allclose(moved[:, near > 13], counts[:, near > 13], rtol=1e-12)


def test_a_distribution_without_features_stays():
    """But for the curvature of the smooth part, which looks like 0.1 % of the events."""
    counts = expected_counts(PHI[3.0], (0.0, 0.0, 0.0))
    assert (feature_shares(EDGES, PHI[3.0], counts)[0] < 0.002).all()
    matrices = shift_matrices(EDGES, PHI[3.0], SOURCE, counts)
    assert_allclose(shifted(matrices, counts), counts, rtol=0.015)


def test_features_without_an_angle_and_slices_without_counts_stay():
    edges = np.array([480.0, 500.0, 520.0, 540.0, 560.0])
    counts = np.tile(expected_counts(PHI[3.0], (0.0, 0.0, 0.0))[:1], (4, 1))
    counts[2] = 0.0
    amplitudes, errors, _ = feature_shares(edges, PHI[3.0], counts)
    assert np.isfinite(amplitudes).tolist() == [True, False, False]  # E1 and 1022 keV: forbidden
    assert np.isfinite(errors).tolist() == [True, False, False]
    matrices = shift_matrices(edges, PHI[3.0], 550.0, counts)
    assert_allclose(matrices[:1], np.eye(60)[None], rtol=0, atol=1e-12)
    assert_allclose(matrices.sum(axis=1), 1.0, rtol=0, atol=1e-12)


def test_what_would_leave_the_axis_stays_in_its_last_bin():
    phi = np.arange(60.0, 75.0, 3.0)  # ends at 72 deg, below 73.6
    counts = expected_counts(phi, (0.2, 0.0, 0.0))
    matrices = shift_matrices(EDGES, phi, SOURCE, counts, features=FEATURES[:1])
    assert_allclose(matrices.sum(axis=1), 1.0, rtol=0, atol=1e-12)
    assert (matrices >= 0).all() and matrices[0, -1, -2] > 0


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"counts": np.ones((60, 59))}, DataError, r"\(60, 60\): \(60, 59\)"),
        ({"counts": -np.ones((60, 60))}, DataError, "not negative"),
        ({"counts": np.full((60, 60), np.nan)}, DataError, "finite"),
        ({"counts": np.zeros((60, 60))}, DataError, "not all of them 0"),
        ({"phi_edges": np.linspace(0, 190, 61)}, BinningError, "0-180 deg"),
        ({"phi_edges": np.zeros(61)}, BinningError, "rising"),
        ({"energy_edges": EDGES[::-1]}, BinningError, "must increase"),
        ({"source_energy": 0.0}, BinningError, "above 0 keV, got 0"),
        ({"source_energy": np.nan}, BinningError, "got nan"),
        ({"width": 0.0}, ModelError, "width above 0 deg"),
        ({"features": []}, ModelError, "Give features"),
    ],
)
def test_unusable_input_is_refused(options, error, message):
    good = {
        "energy_edges": EDGES,
        "phi_edges": PHI[3.0],
        "source_energy": SOURCE,
        "counts": np.ones((60, 60)),
    }
    with pytest.raises(error, match=message):
        shift_matrices(**{**good, **options})


def test_photons_of_the_first_site_are_moved_by_default():
    """They move 0.05 and 0.07 deg/keV: at 80 keV from the source they are one or two bins off."""
    every = FEATURES + FIRST_DEPOSITS
    shares = (0.05, 0.03, 0.025, 0.015, 0.01)
    counts = expected_counts(PHI[3.0], shares, features=every)
    truth = expected_counts(PHI[3.0], shares, energies=[SOURCE], features=every)
    near = np.abs(CENTERS - SOURCE) < 80
    left = {}
    for name, options in {"all": {}, "three": {"features": FEATURES}}.items():
        moved = shifted(shift_matrices(EDGES, PHI[3.0], SOURCE, counts, **options), counts)
        left[name] = np.abs(moved - truth)[near].sum() / np.abs(counts - truth)[near].sum()
    assert left["all"] < 0.2 < 0.4 < left["three"]


# --- sidebands -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def fit():
    """A power law and three lines of the background around 26Al, with the tutorial's mask."""
    lines = [(e, n, (e - 5, e + 5)) for e, n in ((1666, 82200.0), (1723, 27800.0), (1779, 39500.0))]
    model = line_model(lines)
    counts = model.bind(EDGES).counts(model.values)
    spectrum = EnergySpectrum(EDGES, counts).with_mask([TUTORIAL_MASK])
    return LineBackgroundFit(model, spectrum, model.values, (), np.zeros((0, 0)))


def bins_of(proposal):
    return sum(
        (overlapping_bins(EDGES, *r) for r in proposal.ranges), np.zeros(CENTERS.size, bool)
    ).astype(bool)


def test_sidebands_avoid_lines_mask_and_source(fit):
    proposals = suggest_sidebands(fit, SOURCE_RANGE, PHI[3.0])
    assert len(proposals) > 1
    spectra = fit.component_spectra
    for proposal in proposals:
        chosen = bins_of(proposal)
        assert (spectra[1:].sum(axis=0)[chosen] <= 0.02 * spectra[0, chosen]).all()
        assert not (chosen & fit.spectrum.mask).any()
        assert not (chosen & overlapping_bins(EDGES, *SOURCE_RANGE)).any()
        assert proposal.counts == pytest.approx(fit.expected[chosen].sum())
        mean = np.average(CENTERS[chosen], weights=fit.expected[chosen])
        assert proposal.mean_energy == pytest.approx(mean)


def test_the_source_range_is_left_out_without_a_mask(fit):
    bare = LineBackgroundFit(
        fit.model, EnergySpectrum(EDGES, fit.spectrum.counts), fit.theta, (), fit.covariance
    )
    (proposal,) = suggest_sidebands(bare, (1803, 1812), PHI[3.0], max_moved=[1.0])
    assert not (bins_of(proposal) & overlapping_bins(EDGES, 1803, 1812)).any()
    assert (1795.0, 1800.0) in proposal.ranges or any(b == 1800.0 for _, b in proposal.ranges)
    assert any(a == 1815.0 for a, _ in proposal.ranges)


def test_features_keep_their_bins(fit):
    """With a tiny width: each feature's angle lies in the bin that it has at the source."""
    (proposal,) = suggest_sidebands(fit, SOURCE_RANGE, PHI[3.0], width=1e-6, max_moved=[0.5])
    for feature in FEATURES:
        home = np.digitize(angle(SOURCE, feature), PHI[3.0])
        for low, high in proposal.ranges:
            assert (np.digitize(angle([low, high], feature), PHI[3.0]) == home).all()
        inside = np.digitize(angle(CENTERS, feature), PHI[3.0]) == home
        assert not inside.all()
    assert all(high < SOURCE for _, high in proposal.ranges)  # above, E1 = 511 keV leaves 27-30 deg


def test_no_more_than_the_limit_moves(fit):
    for proposal in suggest_sidebands(fit, SOURCE_RANGE, PHI[3.0], max_moved=(0.3, 0.5)):
        for feature in FEATURES:
            at = [angle(e, feature) for e in (SOURCE, *np.ravel(proposal.ranges))]
            profile = np.array([np.diff(ndtr((PHI[3.0] - a) / 1.2)) for a in at])
            moved = 0.5 * np.abs(profile[1:] - profile[0]).sum(axis=1)
            assert (moved <= proposal.max_moved + 1e-9).all()


def test_the_cost_is_relative_to_all_line_free_bins(fit):
    strict, loose = suggest_sidebands(fit, SOURCE_RANGE, PHI[3.0], max_moved=(1.0, 0.3))
    assert (strict.max_moved, loose.max_moved) == (0.3, 1.0)
    assert loose.cost == pytest.approx(1.0)
    assert strict.relative_error == pytest.approx(strict.counts**-0.5)
    assert strict.cost == pytest.approx(strict.relative_error / loose.relative_error)


def test_a_proposal_reads_well(fit):
    proposal = suggest_sidebands(fit, SOURCE_RANGE, PHI[3.0])[-1]
    low, high = proposal.ranges[0][0], proposal.ranges[-1][1]
    for feature in FEATURES:
        shift = angle([low, high], feature) - angle(SOURCE, feature)
        assert_allclose(proposal.shifts[feature.name], shift)
        assert f"{feature.name}: {shift[0]:+.2f} deg at {low:.1f} keV, {shift[1]:+.2f}" in str(
            proposal
        )
    assert f"{proposal.counts:.0f} counts" in str(proposal)
    assert str(proposal).startswith(f"{low:.1f}-")


def test_features_that_exist_on_one_side_only_count_as_moved(fit):
    appears = Feature(1700.0, True, "E2 = 1700 keV")  # from 1700 keV on
    (proposal,) = suggest_sidebands(
        fit, SOURCE_RANGE, PHI[3.0], features=[appears], width=50.0, max_moved=[0.9]
    )
    assert proposal.ranges[0][0] >= 1700.0
    never = Feature(5000.0, True, "E2 = 5000 keV")
    (proposal,) = suggest_sidebands(fit, SOURCE_RANGE, PHI[3.0], features=[never], max_moved=[0.0])
    assert proposal.cost == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"max_moved": [0.01]}, BinningError, "No energy bin is left.*Raise max_moved"),
        ({"max_moved": [1.5]}, ModelError, r"in 0-1.*got \[1.5\]"),
        ({"max_moved": []}, ModelError, "max_moved"),
        ({"max_line_share": -1.0}, ModelError, "max_line_share"),
        ({"width": -1.0}, ModelError, "width above 0 deg"),
        ({"phi_edges": [0.0]}, BinningError, "2 or more rising"),
        ({"source_range": (1900, 2100)}, BinningError, "outside the energy axis"),
    ],
)
def test_unusable_sideband_options_are_refused(fit, options, error, message):
    assert issubclass(error, LineBackgroundError)
    good = {"source_range": SOURCE_RANGE, "phi_edges": PHI[3.0]}
    with pytest.raises(error, match=message):
        suggest_sidebands(fit, **{**good, **options})
