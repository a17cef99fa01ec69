"""The background file of cosi-threemlfit."""

import astropy.units as u
import numpy as np
import pytest
from numpy.testing import assert_allclose
from templates import axes, axis, cells, template_of

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


def test_what_it_cannot_be_is_refused():
    template = template_of({"background": cells(axes())}, axes())
    for wrong in ((5.0, 5.0), (5.0, 4.0), (0.0, np.inf)):
        with pytest.raises(TemplateError, match="must increase"):
            template.threemlfit_background(wrong)
    some = axes("Time", "Em", "Phi", "PsiChi", Time=axis("Time", edges=[0.0, 1.0, 2.0] * u.s))
    with pytest.raises(TemplateError, match="2 bins of Time"):
        template_of({"background": cells(some)}, some).threemlfit_background((0.0, 2.0))
