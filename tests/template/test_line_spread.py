"""What lines differ by: patterns, norms that are fitted with them, the file."""

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.optimize import minimize
from templates import axes, axis, cells, histogram_of, template_of, tilted

from cosi_linebkg_plugin import BackgroundTemplate
from cosi_linebkg_plugin.errors import TemplateError
from cosi_linebkg_plugin.template.line_spread import LineSpread, spread_errors

AXES = axes()
CONTINUUM, LINES, SKY = 400 * cells(AXES, 1), 300 * cells(AXES, 2), 200 * cells(AXES, 3)


def template(**options):
    return template_of({"continuum": CONTINUUM, "lines": LINES}, AXES, record=tilted(6), **options)


def difference(lines=LINES):
    (found,) = tilted(6).line_spread.differences(lines, ["Em", "Phi", "PsiChi"])
    return found


def test_a_pattern_moves_no_counts_in_or_out():
    assert difference().shape == (1, 6, 1)
    assert np.sum(LINES * difference()) == pytest.approx(0.0, abs=1e-9 * LINES.sum())
    steps = np.diff(difference().ravel())
    assert_allclose(steps, 0.12, rtol=1e-12)  # the tilt, moved by its mean


def test_fit_norms_finds_a_difference_and_frees_the_sky_of_it():
    truth = CONTINUUM + LINES * (1 + 1.5 * difference()) + SKY
    sky = histogram_of(AXES, SKY)
    plain = template_of({"continuum": CONTINUUM, "lines": LINES}, AXES)
    wrong = plain.fit_norms(histogram_of(AXES, truth), sky=[sky])["sky_1"][0]
    found = template().fit_norms(histogram_of(AXES, truth), sky=[sky])
    assert found.labels == ("continuum", "lines", "sky_1", "lines_spread_1")
    assert abs(wrong - 1) > 0.02 and abs(found["sky_1"][0] - 1) < 0.002
    assert found["lines_spread_1"][0] == pytest.approx(1.5, abs=0.05)
    assert 0 < found["lines_spread_1"][1] < 1


def test_fit_norms_is_the_highest_posterior():
    """Against a direct search, with an amplitude that is relative to the lines' counts."""
    rng = np.random.default_rng(4)
    data = rng.poisson(0.02 * (CONTINUUM + LINES * (1 - difference()) + SKY)).astype(float)
    maps = [0.02 * x for x in (CONTINUUM, LINES, SKY)]
    some = template_of({"continuum": maps[0], "lines": maps[1]}, AXES, record=tilted(6))
    found = some.fit_norms(histogram_of(AXES, data), sky=[histogram_of(AXES, maps[2])])
    held = found["lines"][0] / maps[1].sum()

    def cost(x):
        a, b, c, d = x
        expected = a * maps[0] + maps[1] * (b + d * difference()) + c * maps[2]
        # the width is that of the lines' counts where they end
        return np.sum(expected - data * np.log(expected)) + 0.5 * (d / held) ** 2

    by_hand = minimize(cost, [1, 1, 1, 0], method="Nelder-Mead", tol=1e-10,
                       options={"maxiter": 4000, "maxfev": 4000}).x  # fmt: skip
    ratios = [found[x][0] / y for x, y in (("continuum", maps[0].sum()), ("lines", maps[1].sum()))]
    assert_allclose([*ratios, found["sky_1"][0]], by_hand[:3], rtol=1e-3)
    assert found["lines_spread_1"][0] == pytest.approx(by_hand[3] / by_hand[1], abs=1e-3)


def test_errors_of_cells_are_those_of_the_lines():
    assert_allclose(template().spread_errors(), np.abs(LINES * difference()), rtol=1e-12)
    assert not template_of({"continuum": CONTINUUM}, AXES).spread_errors().any()
    assert not spread_errors(None, {"lines": LINES}, []).any()


def test_a_split_template_has_none():
    parts = template().split("Phi", 3)
    assert parts.record.line_spread is None and not parts.spread_errors().any()


def test_write_and_open(tmp_path):
    template().write(tmp_path / "t.h5")
    assert BackgroundTemplate.open(tmp_path / "t.h5").record.line_spread == tilted(6).line_spread


@pytest.mark.parametrize(
    "damage",
    [
        {"axes": {"Time": {}}},
        {"axes": 3},
        {"lines": ["a"]},
        {"patterns": [{"axis": "Em", "values": [1.0]}]},
        {"patterns": [{"axis": "Phi", "values": [[1.0]]}]},
        {"patterns": [{"axis": "Phi"}]},
        {"patterns": [3]},
    ],
)
def test_a_damaged_file_is_refused(damage):
    with pytest.raises((ValueError, KeyError, TypeError)):
        LineSpread.from_dict(tilted(6).line_spread.to_dict() | damage)


def test_a_pattern_of_other_bins_is_refused():
    other = template_of({"continuum": CONTINUUM, "lines": LINES}, AXES, record=tilted(5))
    with pytest.raises(TemplateError, match="6 bins of Phi, but a pattern.* has 5"):
        other.fit_norms(histogram_of(AXES, CONTINUUM + LINES))


def test_axes_in_another_order():
    some = axes("PsiChi", "Phi", "Em")
    turned = template_of(
        {"continuum": CONTINUUM.transpose(2, 1, 0), "lines": LINES.transpose(2, 1, 0)},
        some,
        record=tilted(6),
    )
    assert_allclose(turned.spread_errors(), np.abs(LINES * difference()).transpose(2, 1, 0))
    assert axis("Phi").nbins == 6


def test_what_it_says():
    said = str(tilted(6).line_spread)
    assert said == "The distributions of 3 lines differ along Phi by 30 % (68 %: 24 to 39)."
