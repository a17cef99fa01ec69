"""A template's maps on a consumer's axes: order, comparison, refusals."""

import astropy.units as u
import numpy as np
import pytest
from numpy.testing import assert_allclose
from sessions import data_on
from templates import SOURCE, axes, axis, cells, template_of

from cosi_linebkg_plugin.consumers.cosilike import cosilike
from cosi_linebkg_plugin.errors import TemplateError

AXES = axes()
CONTINUUM, LINES = cells(AXES, 1), cells(AXES, 2)


@pytest.fixture
def template():
    return template_of({"continuum": CONTINUUM, "lines": LINES}, AXES, livetime=1000.0)


@pytest.mark.parametrize(
    "order", [("Phi", "Time", "PsiChi", "Em"), ("ScAtt", "Em", "PsiChi", "Phi")]
)
def test_axes_are_put_in_order_and_those_of_one_bin_dropped(order):
    some = axes(*order)
    contents = cells(some)
    bkg = cosilike(template_of({"background": contents}, some), data=data_on())["bkg"]
    places = [order.index(name) for name in ("Em", "Phi", "PsiChi")]
    extra = next(i for i in range(4) if i not in places)
    assert_allclose(bkg.contents, contents.transpose(*places, extra)[..., 0], rtol=1e-14)


MISMATCHES = [
    ({"Em": axis("Em", edges=[1800.0, 1812.0] * u.keV)}, None, "Em: got edge 0 at 1805, expected"),
    ({"Em": axis("Em", edges=[1.805, 1.812] * u.MeV)}, None, "Em: got unit keV, expected MeV"),
    ({"PsiChi": axis("PsiChi", nside=2)}, None, "Bin the events that the template is made from"),
    ({"Em": axis("Em", edges=[1700.0, *SOURCE] * u.keV)}, None, "Em: got number of bins 1, exp"),
    ({"Phi": axis("Phi", edges=np.linspace(0, 180, 4) * u.deg)}, None, "Phi: got number of bins 6"),
    ({"Phi": axis("Phi", edges=np.linspace(0, np.pi, 7) * u.rad)}, None, "got unit deg, exp"),
    ({"PsiChi": axis("PsiChi", nside=2)}, None, "PsiChi: got number of bins 12, expected 48"),
    ({"PsiChi": axis("PsiChi", scheme="nested")}, None, "got scheme RING, expected NESTED"),
    (
        {"PsiChi": axis("PsiChi", coordsys="spacecraftframe")},
        None,
        "got frame galactic, expected spacecraftframe",
    ),
    ({}, u.cm, "unit cm"),
]


@pytest.mark.parametrize(("changed", "unit", "message"), MISMATCHES)
def test_data_on_other_axes_are_refused_by_name(template, changed, unit, message):
    with pytest.raises(TemplateError, match=message):
        cosilike(template, data=data_on(axes(**changed), unit))


@pytest.mark.parametrize("order", [("Phi", "Em", "PsiChi"), ("Time", "Em", "Phi", "PsiChi")])
def test_data_in_another_order_are_refused(template, order):
    with pytest.raises(TemplateError, match="in this order"):
        cosilike(template, data=data_on(axes(*order)))


def test_templates_that_no_likelihood_can_use_are_refused(template):
    times = axes("Time", "Em", "Phi", "PsiChi", Time=axis("Time", edges=[0.0, 1.0, 2.0] * u.s))
    with pytest.raises(TemplateError, match="2 bins of Time"):
        cosilike(template_of({"background": cells(times)}, times))
    with pytest.raises(TemplateError, match="without PsiChi"):
        flat = axes("Em", "Phi")
        cosilike(template_of({"background": cells(flat)}, flat))
    holes = CONTINUUM.copy()
    holes[0, 2, 3] = 0.0
    with pytest.raises(TemplateError, match=r"1 cells .* \(0, 2, 3\)"):
        cosilike(template_of({"background": holes}, AXES))
    template.set_parameters(continuum=0.0, lines=0.0)
    with pytest.raises(TemplateError, match="norms above 0"):
        cosilike(template)


def test_energies_outside_the_source_range_are_refused_or_dropped():
    wide = axes(Em=axis("Em", edges=[1700.0, *SOURCE, 1900.0] * u.keV))
    contents = cells(wide)
    contents[[0, 2]] = 0.0
    template = template_of({"background": contents}, wide)
    with pytest.raises(TemplateError, match="empty outside its source range 1805-1812 keV"):
        cosilike(template, data=data_on(wide))
    bkg = cosilike(template, data=data_on(wide), outside="drop")["bkg"]
    assert np.isnan(bkg.contents[[0, 2]]).all()
    assert_allclose(bkg.contents[1], contents[1])
    with pytest.raises(TemplateError, match="'keep'"):
        cosilike(template, outside="keep")
