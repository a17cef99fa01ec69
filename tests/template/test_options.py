"""Options and data that no template can be made of, refused before a fit."""

from dataclasses import dataclass, field, fields

import astropy.units as u
import histpy
import numpy as np
import pytest
from trials import RATIO

from cosi_linebkg_plugin.app.simulation import SOURCE_RANGE
from cosi_linebkg_plugin.errors import TemplateError
from cosi_linebkg_plugin.histograms.read import open_events
from cosi_linebkg_plugin.options import about
from cosi_linebkg_plugin.template.filters import Filter
from cosi_linebkg_plugin.template.options import OF_THE_RANGE, TemplateOptions
from cosi_linebkg_plugin.template.plan import check_template

pytestmark = pytest.mark.filterwarnings("ignore::cosi_linebkg_plugin.errors.LineBackgroundWarning")


def test_observed_and_sky_are_checked_before_a_fit(trial):
    used = trial.fit.spectrum.used
    flat = histpy.Histogram(trial.events.axes[:2], np.ones((99, 60)))
    for options in ({"observed": flat}, {"observed": trial.observed, "sky": flat}):
        with pytest.raises(TemplateError, match="axes"):
            check_template(
                open_events(trial.events), used, SOURCE_RANGE, TemplateOptions(**options)
            )
    whole = TemplateOptions(sky=trial.sky, observed=trial.observed)
    with pytest.raises(TemplateError, match="cuts through energy bins"):
        check_template(open_events(trial.events), used, SOURCE_RANGE, whole)
    no_maps = trial.events.project("Em", "Phi")
    with pytest.raises(TemplateError, match="rebin_phi= works on PsiChi"):
        check_template(open_events(no_maps), used, SOURCE_RANGE, TemplateOptions(rebin_phi=5))


@dataclass(frozen=True)
class WithMore(TemplateOptions):
    """What new options look like."""

    sharp: bool = field(default=False, metadata=about("Whether.", "flag"))
    colour: str | None = field(
        default=None, metadata=about("Which.", "choice", choices=("red", "blue"))
    )
    others: object = field(default=None, metadata=about("Where.", "energies", "keV"))


def test_a_new_option_is_checked_and_part_of_the_recipe():
    """Control ranges are tried with the recipe: an option that it lacked would go untested."""
    for wrong in ({"sharp": 1}, {"colour": "green"}, {"others": 5.0}):
        with pytest.raises(TemplateError, match=f"{next(iter(wrong))} must be"):
            WithMore(**wrong)
    given = {"sharp": True, "colour": "blue", "others": [1.0]}
    chosen = Filter(l_cut=4)
    assert WithMore(**given).recipe(chosen) == {"l_cut": 4, **given}
    here = WithMore(
        method="interpolated", validate=True, line_ratio=RATIO, smoothing="auto", **given
    )
    there = here.elsewhere(chosen, window=(1, 2))
    assert there == WithMore(method="interpolated", l_cut=4, window=(1, 2), **given)
    assert WithMore(livetime=5.0, validate=True, smoothing="auto").recipe(Filter()) == {}
    assert set(OF_THE_RANGE) <= {f.name for f in fields(TemplateOptions)}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(line_ratio={**RATIO, "tracer": 1700}), "no fitted line lies within"),
        (dict(line_ratio={"line": 1808.65}), "line_ratio takes"),
        (dict(line_ratio={**RATIO, "value": -1}), "value > 0"),
        (dict(tracers=[1855.0]), "tracers names a line at 1855 keV"),
        (dict(line_ratio=RATIO, window=(1820, 1885), tracers=[1779]), "lend them its distribution"),
        (dict(line_ratio={**RATIO, "line": 1908.65}), "falls into the source range"),
        (dict(line_ratio={**RATIO, "line": 1779.0, "tracer": 1764}), "counted twice|falls into"),
        (dict(pool=2), "groups the bins of a Time or of a ScAtt axis; the events have neither"),
        (dict(shift="no"), "shift must be True or False"),
        (dict(sidebands=5), "sidebands must be a list"),
        (dict(order=3), "order must be 0, 1 or 2"),
        (dict(smoothing="yes"), "smoothing must be 'auto', 'none' or nothing, got 'yes'; a width"),
        (dict(method="best"), "method must be 'components', .* or 'auto', got 'best'"),
        (dict(method=None), "method must be"),
        (dict(norms=np.ones(2)), "norms must be 'per_time' or nothing"),
        (dict(smoothing="auto", l_cut=3), "chooses the filter itself"),
        (dict(window=(1795, 1820)), "No unmasked energy bin of the window is left"),
        (dict(window=(1780, 1828.3)), "1 energy bin cannot tell apart 2 distributions"),
        (dict(window=(1780, 1836)), "cannot tell apart"),
        (dict(sky=1), "needs observed="),
        (dict(l_cut=4, smoothing_fwhm=10.0), "l_cut"),
        (dict(l_cut="4"), "l_cut must be a whole number >= 0, got '4'"),
        (dict(smoothing_fwhm=20 * u.keV), "The smoothing_fwhm must be an angle"),
        (dict(smoothing_fwhm=[20, 30] * u.deg), "The smoothing_fwhm must be an angle"),
        (dict(order=1.0), "order must be 0, 1 or 2, got 1.0"),
        (dict(order=True), "order must be 0, 1 or 2, got True"),
        (dict(line_ratio={**RATIO, "eror": 0.1}), "got {.*'eror': 0.1}"),
    ],
)  # fmt: skip
def test_refusals(trial, options, message):
    with pytest.raises(TemplateError, match=message):
        trial.template(**options)


@pytest.mark.parametrize("width", [20 * u.deg, 20.0, np.radians(20) * u.rad, 1200 * u.arcmin])
def test_a_width_of_smoothing_may_have_a_unit(width):
    assert TemplateOptions(smoothing_fwhm=width).filter.smoothing_fwhm == pytest.approx(20)
