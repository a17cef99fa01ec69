"""The covariance of the parts of a template, against sums of draws."""

import numpy as np

from cosi_linebkg_plugin.template.parts import split_covariance, sums_covariance


def test_sums_of_time_bins_have_the_covariance_of_sums():
    root = np.random.default_rng(1).normal(size=(8, 8))
    covariance = root @ root.T
    groups = [[0, 3], [1, 2]]
    sums = np.zeros((4, 8))
    for row, (label, group) in enumerate((k, g) for k in (0, 1) for g in groups):
        sums[row, [4 * label + i for i in group]] = 1.0
    np.testing.assert_allclose(sums_covariance(covariance, 4, groups), sums @ covariance @ sums.T)
    covariance[6, 6] = np.inf
    assert list(np.isinf(np.diag(sums_covariance(covariance, 4, groups)))) == [0, 0, 0, 1]


def test_noise_of_slices_moves_counts_between_parts_alone():
    covariance = np.array([[9.0]])
    parts = split_covariance(
        covariance, np.zeros(2, int), np.array([0.25, 0.75]), np.array([4.0, 2.0])
    )
    np.testing.assert_allclose(parts.sum(), 9.0)
    assert parts[0, 1] < 9.0 * 0.25 * 0.75
