"""The background file of cosi-threemlfit."""

import astropy.units as u
import histpy
import numpy as np
import pytest
from astropy.time import Time
from numpy.testing import assert_allclose
from templates import SOURCE, axes, axis, cells, template_of

from cosi_linebkg_plugin.consumers.programs import program_axes
from cosi_linebkg_plugin.errors import TemplateError


def test_it_has_a_time_axis_in_front():
    some = axes("PsiChi", "Time", "Em", "Phi")
    parts = {"continuum": cells(some, 1), "lines": cells(some, 2)}
    template = template_of(parts, some)
    got = template.threemlfit_background((100.0, 2 * u.min + 80 * u.s))
    assert [a.label for a in got.axes] == ["Time", "Em", "Phi", "PsiChi"]
    assert_allclose(got.axes["Time"].edges.to_value(u.s), [100.0, 200.0])
    total = (parts["continuum"] + parts["lines"])[:, 0].transpose(1, 2, 0)
    assert_allclose(got.contents[0], total, rtol=1e-14)
    assert got.unit is None


def test_a_time_axis_of_the_template_is_kept():
    """Edges in days, or astropy times, become Unix seconds; the sum over them is the template."""
    days = axis("Time", edges=(1.8e9 + np.array([0.0, 100.0, 250.0])) / 86400 * u.d)
    some = axes("Time", "Em", "PsiChi", "Phi", Time=days)
    parts = {"continuum": cells(some, 1), "lines": cells(some, 2)}
    template = template_of(parts, some)
    got = template.threemlfit_background()
    assert [a.label for a in got.axes] == ["Time", "Em", "Phi", "PsiChi"]
    assert_allclose(got.axes["Time"].edges.to_value(u.s), [1.8e9, 1.8e9 + 100, 1.8e9 + 250])
    total = (parts["continuum"] + parts["lines"]).transpose(0, 1, 3, 2)
    assert_allclose(got.contents, total, rtol=1e-14)
    if hasattr(histpy, "TimeAxis"):
        edges = Time([1.8e9, 1.8e9 + 50], format="unix")
        times = axes("Time", "Em", "Phi", "PsiChi", Time=histpy.TimeAxis(edges, label="Time"))
        axis_made, order = program_axes(times, SOURCE)
        assert axis_made.unit == "s"
        assert_allclose(axis_made.edges, [1.8e9, 1.8e9 + 50], rtol=1e-12)
        assert order == ("Time", "Em", "Phi", "PsiChi")


def test_what_it_cannot_be_is_refused():
    template = template_of({"background": cells(axes())}, axes())
    for wrong in ((5.0, 5.0), (5.0, 4.0), (0.0, np.inf)):
        with pytest.raises(TemplateError, match="must increase"):
            template.threemlfit_background(wrong)
    for wrong in (5.0, (1.0, 2.0, 3.0)):
        with pytest.raises(TemplateError, match=r"must be \(start, stop\), two Unix times in s"):
            template.threemlfit_background(wrong)
    some = axes("Time", "Em", "Phi", "PsiChi", Time=axis("Time", edges=[0.0, 1.0, 2.0] * u.s))
    with pytest.raises(TemplateError, match="2 bins of Time"):
        template_of({"background": cells(some)}, some).threemlfit_background((0.0, 2.0))
    with pytest.raises(TemplateError, match="give the time range"):
        template.threemlfit_background()
    bare = axes("Time", "Em", "Phi", "PsiChi", Time=axis("Time", edges=[0.0, 1.0, 2.0]))
    with pytest.raises(TemplateError, match=r"Unix times with a unit, got Axis \[None\]"):
        template_of({"background": cells(bare)}, bare).threemlfit_background()
    energies = axes("Time", "Em", "Phi", "PsiChi", Time=axis("Time", edges=[0.0, 1.0] * u.keV))
    with pytest.raises(TemplateError, match=r"got Axis \[keV\]"):
        program_axes(energies, SOURCE)
    wide = axes(Em=axis("Em", edges=[1800.0, 1805.0, 1812.0] * u.keV))
    with pytest.raises(TemplateError, match="whole energy axis, 1800-1812 keV"):
        template_of({"background": cells(wide)}, wide).threemlfit_background((0.0, 2.0))
    with pytest.raises(TemplateError, match="without PsiChi"):
        program_axes(axes("Time", "Em", "Phi"), SOURCE)
    turning = axes("ScAtt", "Em", "Phi", "PsiChi", ScAtt=axis("ScAtt", edges=[0, 1, 2]))
    with pytest.raises(TemplateError, match="2 bins of ScAtt"):
        program_axes(turning, SOURCE, (0.0, 2.0))
