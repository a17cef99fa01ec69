"""Intervals cover, p-values are flat, bins do not matter: parts of the studies, all seeded.

The full numbers: tests/studies/interval_coverage.py and binning.py, in docs/validation.md.
"""

import warnings

import numpy as np
import pytest
from binning import compare, of_width
from interval_coverage import NOMINAL, case, flatness, run

from cosi_linebkg_plugin.errors import LineBackgroundWarning
from cosi_linebkg_plugin.fit.minimise import fit_spectrum

#: Chance that a test of coverages or pulls fails although all is right, shared among its checks.
ALARM = 1e-3
PROFILE = [f"profile {key}" for key in NOMINAL]


def toys_of(name, scale, n, seed, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", LineBackgroundWarning)
        return run(case(name, scale), n, seed, **options)


def assert_covered(toys, names, keys=NOMINAL):
    """Binomial, two-sided; Bonferroni over quantities and kinds of interval."""
    names, keys = list(names), list(keys)
    for name in names:
        for key in keys:
            covered = toys.tallies[name].covered[key]
            chance = toys.tallies[name].missed_by_chance(key)
            assert chance > ALARM / len(names) / len(keys), (
                f"{name}: {key} % interval holds {sum(covered)} of {len(covered)}"
            )


def assert_pulls(toys, names, bias=0.0):
    """Mean and width at 4.5 standard errors: 7e-6 for each of up to 60; `bias` is allowed."""
    for name in names:
        pulls = np.array(toys.tallies[name].pulls)
        n = pulls.size
        assert abs(pulls.mean()) < bias + 4.5 / np.sqrt(n), name
        assert abs(pulls.std(ddof=1) - 1.0) < 4.5 / np.sqrt(2 * n), name


# --- in the default run: seconds -------------------------------------------------------------


def test_intervals_cover_at_the_counts_of_dc3_in_brief():
    toys = toys_of("tutorial", 1.0, 100, seed=11)
    assert toys.failed == 0 and toys.at_limits == 0 and len(toys.tallies) == 15 + 7
    assert_covered(toys, toys.tallies)
    assert_pulls(toys, toys.tallies)


def test_minos_agrees_with_the_likelihood_ratio_at_the_truth():
    low = case("tutorial", 0.01)
    toys = run(low, 8, 12, profile=low.values, counts=False)
    # 120 intervals; no chance enters: both ask the same likelihood
    assert toys.missing == 0 and toys.disagree == 0
    assert all(len(t.covered[PROFILE[0]]) == 8 for t in toys.tallies.values())


def test_fit_gets_away_from_a_ridge_between_two_energies_of_faint_lines():
    # this used to run out of Newton steps
    low, rng = case("demo", 0.01), np.random.default_rng(2)
    for _ in range(15):
        low.spectrum(rng)
    assert fit_spectrum(low.start, low.spectrum(rng)).valid


def assert_bins_do_not_matter(found, failed, factor):
    """Means within 4.5 standard errors of 0 (7e-6 each); scatter as the lost information says."""
    assert failed == 0
    for width, rows in found.items():
        assert len(rows) == 17
        for name, d in rows.items():
            assert abs(d.mean) < 4.5 * d.mean_error, (width, name)
            assert d.scatter < factor * d.expected_scatter, (width, name)


def test_bins_of_1_2_and_5_keV_agree_in_brief():
    # a scatter of 25 is known to 14 %: 1.7 is 5 standard errors
    assert_bins_do_not_matter(*compare(of_width(1.0, 2.96), 25, seed=13), factor=1.7)


# --- slow ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tutorial():
    return toys_of("tutorial", 1.0, 500, seed=21)


@pytest.fixture(scope="module")
def demo():
    return toys_of("demo", 1.0, 300, seed=22)


@pytest.mark.slow
def test_tutorial_at_the_counts_of_dc3(tutorial):
    assert tutorial.failed == 0
    assert_covered(tutorial, tutorial.tallies)
    assert_pulls(tutorial, tutorial.tallies)


@pytest.mark.slow
def test_demo_at_the_counts_of_dc3(demo):
    """Continuum, width, lines above 5 sigma and away from their windows' ends, and all counts."""
    truth = case("demo")
    assert demo.failed == 0
    names = [n for n in truth.values if truth.is_seen(n)]
    names += [n for n in demo.tallies if "keV" in n or "template" in n]
    assert_covered(demo, names)


@pytest.mark.slow
def test_profile_intervals_at_a_hundredth_of_the_counts():
    low = case("tutorial", 0.01)
    toys = toys_of("tutorial", 0.01, 150, seed=23, profile=low.values)
    assert toys.failed == 0 and toys.missing == 0 and toys.disagree == 0
    assert_covered(toys, low.values, [*NOMINAL, *PROFILE])
    counts = [n for n in toys.tallies if n not in low.values]
    assert len(counts) == 7
    assert_covered(toys, counts)


@pytest.mark.slow
@pytest.mark.parametrize("which", ["tutorial", "demo"])
def test_p_values_of_right_models_are_flat(which, request):
    # Kolmogorov-Smirnov: false alarm 1e-3 each
    assert flatness(request.getfixturevalue(which).p_values) > 1e-3


@pytest.mark.slow
@pytest.mark.parametrize(
    ("scale", "sigma"), [(1.0, 2.96), (0.01, 2.96)], ids=["DC3", "1/100 of it"]
)
def test_bins_of_1_2_and_5_keV_agree(scale, sigma):
    # a scatter of 150 is known to 5.8 %: 1.3 is 5 standard errors
    assert_bins_do_not_matter(*compare(of_width(scale, sigma), 150, seed=24), factor=1.3)
