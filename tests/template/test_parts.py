"""Templates cut into parts along energy."""

import numpy as np
import pytest
from trials import RATIO

from cosi_linebkg_plugin.app.simulation import SOURCE_RANGE
from cosi_linebkg_plugin.errors import TemplateError
from cosi_linebkg_plugin.template.parts import covariance_of_groups, groups_of, split_covariance

pytestmark = pytest.mark.filterwarnings("ignore::cosi_linebkg_plugin.errors.LineBackgroundWarning")

LOW, HIGH = SOURCE_RANGE
METHODS = {
    "components 0": {"order": 0, "window": (1728, 1890)},
    "components 1": {"window": (1728, 1890)},
    "components 2": {"order": 2, "window": (1728, 1890)},
    "interpolated": {"method": "interpolated"},
    "sideband": {"method": "sideband", "sidebands": [(1680, 1710), (1940, 1990)]},
    "shift": {"method": "interpolated", "sidebands": [(1780, 1790), (1830, 1840)], "shift": True},
}


def test_split_gives_each_bin_a_norm_with_the_covariance_of_the_spectrum(trial):
    template = trial.template(line_ratio=RATIO, energy_edges="1805:1812:1")
    parts = template.split("Em")
    assert parts.labels[:2] == ("continuum_em_0", "continuum_em_1")
    assert len(parts.labels) == 14
    assert parts.total_error == pytest.approx(template.total_error, rel=5e-3)
    for label in template.labels:
        counts, errors = template.energy_counts(label)
        own = [f"{label}_em_{b}" for b in range(7)]
        np.testing.assert_allclose([parts.counts[name] for name in own], counts, rtol=1e-9)
        # they may move apart by a tenth of them
        np.testing.assert_allclose([parts.errors[name] for name in own], errors * 1.01**0.5)
    np.linalg.cholesky(parts.covariance)  # something a constraint can invert
    np.testing.assert_allclose(parts.expected(), template.expected(), rtol=1e-12)
    both = template.split("Em", 4).split("Phi", 20)
    assert "lines_em_1_phi_2" in both.labels
    assert both.total_error == pytest.approx(template.total_error, rel=5e-3)
    with pytest.raises(TemplateError, match=r"split along Phi.*split along Em first"):
        template.split("Phi", 20).split("Em")


@pytest.mark.parametrize("groups", [np.int64(20), 20])
def test_groups_of_a_number_of_bins(groups):
    assert [len(group) for group in groups_of("Phi", 50, groups)] == [20, 20, 10]


@pytest.mark.parametrize("groups", [2.0, [1, 2, 3], None])
def test_groups_that_are_none_are_refused(groups):
    with pytest.raises(TemplateError, match="a whole number of bins, or lists of bin numbers"):
        groups_of("Phi", 3, groups)


def test_groups_of_bins_have_the_covariance_of_sums():
    root = np.random.default_rng(1).normal(size=(8, 8))
    covariance = root @ root.T
    rows = np.array([0, 0, 1])  # the second component has nothing in its last bins
    inside = np.array([[1.0, 0, 0, 1], [0, 1, 1, 0], [1, 0, 0, 1]])
    sums = np.zeros((3, 8))
    sums[0, [0, 3]] = sums[1, [1, 2]] = sums[2, [4, 7]] = 1.0
    found = covariance_of_groups(covariance, rows, inside)
    np.testing.assert_allclose(found, sums @ covariance @ sums.T)
    covariance[7, 7] = np.inf
    assert list(np.isinf(np.diag(covariance_of_groups(covariance, rows, inside)))) == [0, 0, 1]


def test_noise_of_slices_moves_counts_between_parts_alone():
    covariance = np.array([[9.0]])
    parts = split_covariance(
        covariance, np.zeros(2, int), np.array([0.25, 0.75]), np.array([4.0, 2.0])
    )
    np.testing.assert_allclose(parts.sum(), 9.0)
    assert parts[0, 1] < 9.0 * 0.25 * 0.75
