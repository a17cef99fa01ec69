"""The numbers of a fit: expected counts anywhere, with their covariance."""

from dataclasses import replace

import numpy as np
import pytest
from fits import TWO_LINES
from numpy.testing import assert_allclose

from cosi_linebkg_plugin.fit.minimise import fit_spectrum


def test_expected_counts_anywhere_with_covariance(two_lines):
    fit = fit_spectrum(TWO_LINES, two_lines)
    whole = fit.expected_counts((1500.0, 2000.0))
    assert whole.labels == ("continuum", "lines")
    assert whole.total == pytest.approx(fit.expected.sum(), rel=1e-12)
    parts = [fit.expected_counts(r) for r in ((1500, 1777.7), (1777.7, 1778.3), (1778.3, 2000))]
    assert_allclose(sum(p.values for p in parts), whole.values, rtol=1e-12)
    by_line = fit.expected_counts((1500, 2000), by="component")
    assert len(by_line.labels) == 3 and by_line.labels[0] == "continuum"
    assert by_line.values[1:].sum() == pytest.approx(whole.values[1], rel=1e-12)
    # the error by brute force: move each parameter along the covariance's eigenvectors
    values, vectors = np.linalg.eigh(fit.covariance)
    variance = 0.0
    for k in range(values.size):
        shifted = fit.theta.copy()
        shifted[TWO_LINES.free] += 1e-3 * np.sqrt(values[k]) * vectors[:, k]
        moved = replace(fit, theta=shifted).expected_counts((1760.0, 1790.0)).total
        variance += ((moved - fit.expected_counts((1760.0, 1790.0)).total) / 1e-3) ** 2
    got = fit.expected_counts((1760.0, 1790.0)).total_error
    assert got == pytest.approx(np.sqrt(variance), rel=0.02)
