"""Templates that take the background apart: counts, distributions, parts, files."""

import numpy as np
import pytest
from numpy.testing import assert_allclose
from trials import RATIO

from cosi_linebkg_plugin import BackgroundTemplate
from cosi_linebkg_plugin.app.simulation import SOURCE_RANGE
from cosi_linebkg_plugin.errors import TemplateError

pytestmark = pytest.mark.filterwarnings("ignore::cosi_linebkg_plugin.errors.LineBackgroundWarning")


def chi2_per_bin(template, label, truth):
    counts, errors = template.project("Phi", label)
    truth = truth.sum(axis=-1) * counts.sum() / truth.sum()
    return np.mean((counts - truth) ** 2 / (errors**2 + truth))


def test_components_recover_counts_and_distributions(trial):
    t = trial.template(line_ratio=RATIO, l_cut=4)
    s = trial.simulation
    truth = {
        "continuum": s.expected_continuum(*SOURCE_RANGE),
        "lines": s.expected_lines(*SOURCE_RANGE),
    }
    for label, expected in truth.items():
        # 4.5 sigma for either of two numbers of one seeded data set: false alarm 1e-5
        assert abs(t.counts[label] - expected.sum()) < 4.5 * t.errors[label]
    assert chi2_per_bin(t, "continuum", truth["continuum"]) < 1.5
    assert chi2_per_bin(t, "lines", truth["lines"]) < 2.5
    wrong = trial.template(method="sideband", sidebands=[(1680, 1710), (1735, 1750), (1820, 1875)])
    total = truth["continuum"] + truth["lines"]
    assert chi2_per_bin(wrong, None, total) > 3 * chi2_per_bin(t, None, total)
    assert t.record.tracers and all(1700 < e < 1930 for e in t.record.tracers)


def test_split_gives_each_part_its_own_norm(trial):
    t = trial.template(line_ratio=RATIO, l_cut=4)
    parts = t.split("Phi", 20)
    assert parts.labels == tuple(
        f"{label}_phi_{i}" for label in ("continuum", "lines") for i in range(3)
    )
    assert sum(parts.counts.values()) == pytest.approx(sum(t.counts.values()))
    assert_allclose(
        np.asarray(parts.histogram.contents), np.asarray(t.histogram.contents), rtol=1e-10
    )
    # cutting alone teaches nothing about the sum
    assert parts.total_error == pytest.approx(t.total_error, rel=1e-9)
    again = parts.split("Phi", 10)
    assert len(again.labels) == 12
    assert sum(again.counts.values()) == pytest.approx(sum(t.counts.values()))
    unknown = trial.template(l_cut=4).split("Phi", 30)
    assert np.isinf(np.diag(unknown.covariance)).sum() == 2
    assert np.isinf(unknown.covariance).sum() == 2
    with pytest.raises(TemplateError, match="must be in one group"):
        t.split("Phi", [[0, 1], [3]])
    with pytest.raises(TemplateError, match="no axis 'Time'"):
        t.split("Time", 1)


def test_file_round_trip_keeps_an_unknown_amount(trial, tmp_path):
    t = trial.template(smoothing="auto")
    t.write(tmp_path / "t.h5")
    back = BackgroundTemplate.open(tmp_path / "t.h5")
    assert back.record == t.record and back.notes == t.notes
    assert np.isinf(back.errors["lines"]) and back.counts == pytest.approx(t.counts)
    back.set_parameters(lines=1000.0)
    t.set_parameters(lines=1000.0)
    assert_allclose(np.asarray(back.histogram.contents), np.asarray(t.histogram.contents))
