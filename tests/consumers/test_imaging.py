"""What TS maps and image deconvolution are given."""

import astropy.units as u
import numpy as np
import pytest
from numpy.testing import assert_allclose
from sessions import data_on
from templates import SOURCE, axes, axis, cells, template_of

from cosi_linebkg_plugin.consumers.cosilike import cosilike
from cosi_linebkg_plugin.consumers.imaging import deconvolution_input, energy_channel, ts_map_input
from cosi_linebkg_plugin.errors import TemplateError

AXES = axes()
CONTINUUM, LINES = cells(AXES, 1), cells(AXES, 2)


@pytest.fixture
def template():
    return template_of({"continuum": CONTINUUM, "lines": LINES}, AXES, livetime=1000.0)


@pytest.mark.parametrize("leading", [(), ("Time",), ("ScAtt",)])
def test_deconvolution_input_has_the_order_and_axes_of_the_events(leading):
    order = (*leading, "Em", "Phi", "PsiChi")
    own = axes("PsiChi", "Phi", *leading, "Em")
    contents = cells(own)
    events = data_on(axes(*order))
    template = template_of({"background": contents}, own)
    given = deconvolution_input(template, events)
    bkg = given["bkg"]
    assert [a.label for a in bkg.axes] == list(order)
    for mine, theirs in zip(bkg.axes, events.axes, strict=True):
        assert np.all(mine.edges == theirs.edges)
    places = [[a.label for a in own].index(name) for name in order]
    assert_allclose(bkg.contents, contents.transpose(places), rtol=1e-14)
    assert deconvolution_input(template, events) is not given


def test_deconvolution_input_refuses_other_events(template):
    with pytest.raises(TemplateError, match="without Time"):
        deconvolution_input(template, data_on(axes("Time", "Em", "Phi", "PsiChi")))
    with pytest.raises(TemplateError, match="in this order"):
        deconvolution_input(template, data_on(axes("Em", "PsiChi", "Phi")))


def test_ranges_of_one_key_and_of_a_number_of_errors_that_is_none(template):
    assert template.deconvolution_ranges("lines") == template.deconvolution_ranges(["lines"])
    for n_sigma in (0, -1.0, np.nan, np.inf):  # -1 put the upper limit below the lower one
        with pytest.raises(TemplateError, match="n_sigma must be a number above 0"):
            template.deconvolution_ranges(["lines"], n_sigma=n_sigma)
    with pytest.raises(TemplateError, match=r"must be a histpy.Histogram or .* got str"):
        template.deconvolution_input("events.hdf5")


def test_ts_map_input_lies_on_the_full_energy_axis():
    wide = axes(Em=axis("Em", edges=[1700.0, *SOURCE, 1900.0] * u.keV))
    contents = cells(wide)
    contents[[0, 2]] = 0.0
    template, data = template_of({"background": contents}, wide), data_on(wide)
    given = ts_map_input(template, data)
    assert given["data"] is data
    assert_allclose(given["bkg_model"].contents, contents, rtol=1e-14)
    assert energy_channel(template, data) == [1, 2]
    contents = contents.copy()
    contents[1, 2, 3] = 0.0
    with pytest.raises(TemplateError, match=r"1 cells .* \(1, 2, 3\)"):
        ts_map_input(template_of({"background": contents}, wide), data)
    with pytest.raises(TemplateError, match="number of bins 3, expected 1"):
        ts_map_input(template, data_on())


def test_the_templates_own_methods_are_these_functions(template):
    events = data_on()
    assert set(template.cosilike("cosi")) == set(cosilike(template, "cosi"))
    assert set(template.free_norm_histograms()) == set(template.labels)
    assert template.norm_constraint("cosi").name == "norm_constraint"
    assert np.all(template.component_mix().axes["Em"].edges == events.axes["Em"].edges)
    assert all(name.startswith("a_") for name in template.binned_background(prefix="a_").parameters)
    assert (
        template.deconvolution_input(events).keys() == deconvolution_input(template, events).keys()
    )
