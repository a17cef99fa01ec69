"""Templates cut into parts along energy."""

import numpy as np
import pytest
from trials import RATIO

from cosi_linebkg_plugin.app.simulation import SOURCE_RANGE
from cosi_linebkg_plugin.errors import TemplateError

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
