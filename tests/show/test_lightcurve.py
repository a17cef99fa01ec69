"""The light curve of a template's components."""

import numpy as np
import pytest
from templates import axes, axis, cells, template_of

from cosi_linebkg_plugin.errors import TemplateError
from cosi_linebkg_plugin.show.lightcurve import plot_light_curve


def test_it_shows_the_rate_of_each_component():
    import astropy.units as u

    uneven = axis("Time", edges=[0.0, 10.0, 30.0, 100.0] * u.s)
    some = axes("Time", "Em", "Phi", "PsiChi", Time=uneven)
    maps = {"continuum": cells(some, 1), "lines": cells(some, 2)}
    figure = plot_light_curve(template_of(maps, some))
    assert [ax.get_ylabel() for ax in figure.axes] == ["continuum / mean", "lines / mean"]
    drawn = figure.axes[0].containers[0].lines[0].get_ydata()
    counts = maps["continuum"].sum(axis=(1, 2, 3))
    rates = counts / counts.sum() * 100.0 / np.array([10.0, 20.0, 70.0])
    np.testing.assert_allclose(drawn, rates)


def test_one_bin_of_time_has_none():
    some = axes()
    with pytest.raises(TemplateError, match="two or more bins of Time"):
        plot_light_curve(template_of({"continuum": cells(some)}, some))
