"""Templates on other axes: more of them, other orders, coarser Phi."""

import astropy.units as u
import histpy
import numpy as np
import pytest
import sparse
from numpy.testing import assert_allclose
from trials import RATIO

from cosi_linebkg_plugin import LineBackgroundLike, background_model
from cosi_linebkg_plugin.app.demo import resolved_lines
from cosi_linebkg_plugin.app.simulation import SOURCE_RANGE
from cosi_linebkg_plugin.errors import TemplateError

pytestmark = pytest.mark.filterwarnings("ignore::cosi_linebkg_plugin.errors.LineBackgroundWarning")


def test_more_axes_and_nested_pixels_give_the_same(trial):
    import healpy as hp

    reference = trial.template(line_ratio=RATIO, l_cut=4)
    dense = trial.events.to_dense().contents
    axes = list(trial.events.axes)
    nested = histpy.HealpixAxis(nside=4, scheme="nested", coordsys="galactic", label="PsiChi")
    scatt = histpy.Axis([0, 1, 2], label="ScAtt")
    order = hp.nest2ring(4, np.arange(192))
    twice = np.stack([dense[..., order]] * 2)
    events = histpy.Histogram(
        histpy.Axes([scatt, axes[0], axes[1], nested]), contents=sparse.COO(twice),
        track_overflow=False,
    )  # fmt: skip
    plugin = LineBackgroundLike("bkg", events)
    plugin.set_mask((1790, 1825))
    fit = plugin.fit(background_model(resolved_lines(), pivot=1800))
    t = plugin.background_template(fit, SOURCE_RANGE, line_ratio=RATIO, l_cut=4)
    got = np.asarray(t.histogram.contents)
    assert_allclose(got[0], got[1], rtol=1e-9)
    expected = np.asarray(reference.histogram.contents)[..., order]
    assert_allclose(got[0], expected, rtol=1e-3, atol=1e-3 * expected.mean())


def test_like_may_have_a_coarser_phi_axis(trial):

    t = trial.template(line_ratio=RATIO)
    axes = list(t.axes)
    axes[1] = histpy.Axis(np.linspace(0, 180, 31) * u.deg, label="Phi")
    like = histpy.Histogram(histpy.Axes(axes), track_overflow=False)
    coarse = trial.template(line_ratio=RATIO, like=like)
    fine = np.asarray(t.histogram.contents)
    assert_allclose(
        np.asarray(coarse.histogram.contents), fine.reshape(1, 30, 2, -1).sum(axis=2), rtol=1e-10
    )
    axes[1] = histpy.Axis(np.linspace(0, 180, 42) * u.deg, label="Phi")
    with pytest.raises(TemplateError, match="Axis Phi of the histogram given as like= differs"):
        trial.template(
            line_ratio=RATIO, like=histpy.Histogram(histpy.Axes(axes), track_overflow=False)
        )
