"""The background of cosipy 0.4.3's binned likelihood, beside a stand-in for it."""

from typing import Any, Protocol, runtime_checkable

import astropy.units as u
import histpy
import numpy as np
import pytest
from astromodels import Parameter
from numpy.testing import assert_allclose
from sessions import data_on, fit_of
from templates import axes, cells, histogram_of, template_of
from threeML.plugin_prototype import PluginPrototype

from cosi_linebkg_plugin.consumers.binned import BinnedBackground, free_norm_histograms
from cosi_linebkg_plugin.errors import TemplateError

AXES = axes()
CONTINUUM, LINES = cells(AXES, 1), cells(AXES, 2)


@pytest.fixture
def template():
    return template_of({"continuum": CONTINUUM, "lines": LINES}, AXES, livetime=1000.0)


@runtime_checkable
class BinnedBackgroundInterface(Protocol):
    """As cosipy 0.4.3 has it in cosipy.interfaces, written down here: it needs Python 3.12."""

    @property
    def axes(self) -> histpy.Axes: ...

    def expectation(self, copy: bool) -> histpy.Histogram: ...

    def set_parameters(self, **parameters: u.Quantity) -> None: ...

    @property
    def parameters(self) -> dict[str, u.Quantity]: ...


class Signal:
    """A ``BinnedExpectationInterface`` of sky counts: a map of its own that callers may change."""

    def __init__(self, contents):
        self.contents = contents

    def expectation(self, copy: bool) -> histpy.Histogram:
        assert copy, "with a background, the caller adds it in place"
        return histogram_of(AXES, self.contents.copy())


class PoissonPlugin(PluginPrototype):
    """The calls of cosipy 0.4.3: ThreeMLPluginInterface around PoissonLikelihood.

    As in its threeml_plugin_interface.py and likelihood_functions.py: norms come as parameters
    without limits, are set by bare name as quantities at each call, and the background's own
    histogram is added in place to the signal's.
    """

    def __init__(self, name: str, data: Any, bkg: BinnedBackgroundInterface, sky: float = 0.0):
        super().__init__(name, {})
        self.data, self.bkg, self.response = data, bkg, Signal(np.full_like(data, sky))
        self.own = {
            f"{name}_{label}": Parameter(label, norm.value, unit=norm.unit)
            for label, norm in bkg.parameters.items()
        }
        self.bkg_parameter = {key[len(name) + 1 :]: p for key, p in self.own.items()}

    @property
    def nuisance_parameters(self):
        return self.own

    def set_model(self, model):
        pass

    def get_number_of_data_points(self):
        return self.data.size

    def get_log_like(self):
        start = len(self.name) + 1
        self.bkg.set_parameters(**{key[start:]: p.as_quantity for key, p in self.own.items()})
        expectation = self.response.expectation(copy=True)
        expectation += self.bkg.expectation(copy=False)
        contents = expectation.contents
        return float(np.nansum(self.data * np.log(contents) - contents))

    def inner_fit(self):
        return self.get_log_like()


def test_the_background_satisfies_the_protocol_and_the_template_does_not(template):
    background = BinnedBackground(template, prefix="x_")
    assert isinstance(background, BinnedBackgroundInterface)
    assert background.axes == AXES
    for key, norm in background.parameters.items():
        assert key.isidentifier() and norm.unit == u.Hz
    assert_allclose(background.expectation(copy=True).contents, CONTINUUM + LINES, rtol=1e-14)
    shared = background.expectation(copy=False)
    assert shared is background.expectation(copy=False)
    assert background.expectation(copy=True) is not shared
    assert background.parameters["x_lines"].value == pytest.approx(LINES.sum() / 1000.0)
    assert template.rates["lines"] == background.parameters["x_lines"]
    assert not isinstance(template, BinnedBackgroundInterface)
    with pytest.raises(AttributeError, match="binned_background"):
        PoissonPlugin("cosi", CONTINUUM, template)


def test_two_views_never_collide(template):
    one, two = (BinnedBackground(template, prefix=x) for x in ("one_", "two_"))
    assert not set(one.parameters) & set(two.parameters)
    one.set_parameters(one_lines=0 * u.Hz)
    assert_allclose(one.expectation(copy=False).contents, CONTINUUM, rtol=1e-14)
    assert_allclose(two.expectation(copy=False).contents, CONTINUUM + LINES, rtol=1e-14)
    one.set_parameters(one_lines=LINES.sum() * 0.06 / u.min)
    assert one.parameters["one_lines"].to_value(u.Hz) == pytest.approx(LINES.sum() / 1000.0)


def test_views_in_a_session_of_two_plugins():
    big = template_of({"background": 100 * CONTINUUM}, AXES, livetime=1000.0)
    truth = 100 * CONTINUUM
    _, (table, _) = fit_of(
        PoissonPlugin("first", 1.1 * truth, BinnedBackground(big, prefix="a_")),
        PoissonPlugin("second", 0.9 * truth, BinnedBackground(big, prefix="b_")),
    )
    rate = truth.sum() / 1000.0
    assert table.loc["a_background", "value"] == pytest.approx(1.1 * rate, rel=1e-3)
    assert table.loc["b_background", "value"] == pytest.approx(0.9 * rate, rel=1e-3)


@pytest.mark.parametrize("configured", [False, True])
def test_a_session_steps_back_from_norms_below_zero(configured):
    """cosipy 0.4.3 gives the norms no limits: near 0 a minimiser tries negative ones."""
    parts = {"continuum": 100 * CONTINUUM, "lines": 100 * LINES}
    bkg = BinnedBackground(template_of(parts, AXES, livetime=1000.0))
    truth = 100 * CONTINUUM + 0.02 * LINES
    cosi = PoissonPlugin("cosi", truth, bkg)
    if configured:
        bkg.configure(cosi)
    _, (table, _) = fit_of(cosi)
    rates = parts["continuum"].sum() / 1000.0, 0.02 * LINES.sum() / 1000.0
    assert table.loc["continuum", "value"] == pytest.approx(rates[0], rel=5e-3)
    error = np.sqrt(truth.sum()) / 1000.0
    assert 0 <= table.loc["lines", "value"] < rates[1] + error


def test_a_norm_of_unknown_amount_is_found_by_a_session():
    counts = {"continuum": 100 * CONTINUUM.sum(), "lines": 0.0}
    parts = {"continuum": 100 * CONTINUUM, "lines": LINES}
    some = template_of(
        parts, AXES, counts=counts, covariance=np.diag([25.0, np.inf]), livetime=1000.0
    )
    view = BinnedBackground(some)
    assert view.parameters["lines"].value == pytest.approx(0.01 * counts["continuum"] / 1000.0)
    _, (table, _) = fit_of(PoissonPlugin("cosi", 100 * CONTINUUM + 20 * LINES, view))
    assert table.loc["lines", "value"] == pytest.approx(20 * LINES.sum() / 1000.0, rel=0.01)


def test_expectations_are_plain_for_the_sake_of_sums(template):
    """Their sumw2 would be dropped, with a message, at every step of a fit."""
    assert BinnedBackground(template).expectation(copy=False).sumw2 is None
    assert template.histogram.sumw2 is not None


def test_views_refuse_what_makes_no_sense(template):
    with pytest.raises(TemplateError, match="livetime"):
        BinnedBackground(template_of({"background": CONTINUUM}, AXES))
    with pytest.raises(TemplateError, match="identifier"):
        BinnedBackground(template, prefix="2nd ")
    view = BinnedBackground(template, prefix="x_")
    with pytest.raises(TemplateError, match="no norm 'lines'; it has x_continuum, x_lines"):
        view.set_parameters(lines=1 * u.Hz)
    for wrong in (1 * u.keV, 1.0):
        with pytest.raises(TemplateError, match="rate in Hz"):
            view.set_parameters(x_lines=wrong)
    with pytest.raises(TemplateError, match=">= 0"):
        view.set_parameters(x_lines=-1 * u.Hz)


def test_free_norm_histograms(template):
    template.set_parameters(lines=0.0)
    first, again = free_norm_histograms(template), free_norm_histograms(template)
    assert list(first) == ["continuum", "lines"] and first is not again
    assert all(h.contents.dtype == np.float64 and h.unit is None for h in first.values())
    assert_allclose(first["continuum"].contents, CONTINUUM)
    assert first["lines"].contents.sum() == pytest.approx(1.0)
    first["continuum"] /= 2.0  # 0.4.3 overwrites what it is given
    assert_allclose(template.components["continuum"].contents, CONTINUUM)
    assert list(free_norm_histograms(template, data_on(), prefix="a_")) == [
        "a_continuum",
        "a_lines",
    ]


# --- what a session is told -----------------------------------------------------------------------


def test_configure_sets_start_limits_step_and_a_flat_prior(template):
    bkg = BinnedBackground(template)
    cosi = PoissonPlugin("cosi", CONTINUUM, bkg)
    bkg.configure(cosi)
    for label, norm in bkg.parameters.items():
        p = cosi.bkg_parameter[label]
        assert p.value == norm.value and p.free
        assert p.min_value == 0.0 and p.max_value == pytest.approx(10 * norm.value)
        assert p.delta == pytest.approx(0.05 * norm.value)  # the template's error
        assert p.prior(0.5 * p.max_value) == pytest.approx(1 / p.max_value)
    other = BinnedBackground(template, prefix="other_")
    with pytest.raises(TemplateError, match="no parameter 'other_continuum'"):
        other.configure(cosi)


def test_an_amount_that_is_known_exactly_is_fixed():
    parts = {"continuum": CONTINUUM, "lines": LINES}
    for covariance, counts in (
        (np.diag([9.0, 0.0]), {"continuum": 50.0, "lines": 10.0}),
        (np.diag([9.0, 0.0]), {"continuum": 50.0, "lines": 0.0}),
    ):
        some = template_of(parts, AXES, counts=counts, covariance=covariance, livetime=10.0)
        bkg = BinnedBackground(some)
        cosi = PoissonPlugin("cosi", CONTINUUM, bkg)
        bkg.configure(cosi)
        assert [p.free for p in cosi.bkg_parameter.values()] == [True, False]
        assert cosi.bkg_parameter["lines"].value == counts["lines"] / 10.0
        assert bkg.counts == pytest.approx(counts)
        known = bkg.constraint()
        _, (table, _) = fit_of(cosi, known)
        assert list(table.index) == ["continuum"]


def test_the_constraint_is_the_covariance_of_the_rates():
    covariance = np.array([[9.0, -4.0], [-4.0, 25.0]])
    some = template_of(
        {"continuum": CONTINUUM, "lines": LINES},
        AXES,
        counts={"continuum": 50.0, "lines": 40.0},
        covariance=covariance,
        livetime=10.0,
    )
    bkg = BinnedBackground(some, prefix="b_")
    cosi = PoissonPlugin("cosi", CONTINUUM, bkg)
    for free in ([], ["lines"], ["continuum", "lines"]):
        known = bkg.constraint(free=free, name="known")
        fit_of(cosi, known)
        cosi.bkg_parameter["b_continuum"].value = 5.0 + 0.2
        cosi.bkg_parameter["b_lines"].value = 4.0 - 0.3
        rows = [i for i, label in enumerate(("continuum", "lines")) if label not in free]
        d = np.array([0.2, -0.3])[rows]
        precision = np.linalg.inv(covariance[np.ix_(rows, rows)] / 100.0)
        assert known.get_log_like() == pytest.approx(-0.5 * d @ precision @ d)
    assert bkg.constraint().name == "b_norms"
    with pytest.raises(TemplateError, match="no component 'dust'"):
        bkg.constraint(free=["dust"])


def test_data_may_be_held_by_another_object(template):
    """As cosipy's EmCDSBinnedData does."""

    class Held:
        data = data_on(axes("PsiChi", "Em", "Phi"))

    bkg = BinnedBackground(template, Held())
    assert [a.label for a in bkg.axes] == ["PsiChi", "Em", "Phi"]
    total = (CONTINUUM + LINES).transpose(2, 0, 1)
    assert_allclose(bkg.expectation().contents, total, rtol=1e-14)
    with pytest.raises(TemplateError, match="EmCDSBinnedData, got list"):
        BinnedBackground(template, [1.0])
    with pytest.raises(TemplateError, match="'raise' or 'drop', got 'refuse'"):
        BinnedBackground(template, outside="refuse")


@pytest.mark.parametrize("order", [("Phi", "Em"), ("Time", "Em", "Phi", "PsiChi")])
def test_data_of_other_axes_are_refused(template, order):
    with pytest.raises(TemplateError, match="in this order"):
        BinnedBackground(template, data_on(axes(*order)))


def test_a_line_ratio_goes_with_follow(template):
    with pytest.raises(TemplateError, match="goes with follow="):
        template.binned_background(line_ratio={"line": 1, "tracer": 2, "value": 3})
