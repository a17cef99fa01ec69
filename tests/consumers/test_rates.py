"""Norms as cosipy 0.4.3 takes them: start values, limits, what is known of them."""

import astropy.units as u
import numpy as np
import pytest
from numpy.testing import assert_allclose
from sessions import PoissonPlugin, fit_of
from templates import axes, cells, template_of

from cosi_linebkg_plugin.consumers.binned import BinnedBackground
from cosi_linebkg_plugin.consumers.constraint import ForbiddenNorm
from cosi_linebkg_plugin.consumers.rates import START_SHARE, BackgroundNorms
from cosi_linebkg_plugin.errors import ModelError, TemplateError

AXES = axes()
CONTINUUM, LINES = cells(AXES, 1), cells(AXES, 2)


@pytest.fixture
def template():
    return template_of({"continuum": CONTINUUM, "lines": LINES}, AXES, livetime=1000.0)


def norms_of(counts, variances, livetime=10.0, **options):
    """Norms of uncorrelated components that are named as in `counts`."""
    parts = dict.fromkeys(counts, CONTINUUM)
    some = template_of(parts, AXES, counts=counts, covariance=np.diag(variances), livetime=livetime)
    return BackgroundNorms(some, livetime, **options)


# --- start values and limits ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("counts", "variance", "start", "highest"),
    [
        (40.0, 25.0, 4.0, 40.0),  # ten times the rate
        (2.0, 25.0, 0.2, 0.2 + 10 * 0.5),  # or ten errors above it
        (40.0, 0.0, 4.0, 40.0),
        (0.0, 25.0, 0.0, 5.0),
        (0.0, 0.0, 0.0, 6.0),  # nothing and no error: the rate of all components
        (0.0, np.inf, START_SHARE * 6.0, 100 * 6.0),  # not known: off the lower limit
    ],
)
def test_start_and_limit_of_a_rate(counts, variance, start, highest):
    norms = norms_of({"continuum": 60.0, "lines": counts}, [9.0, variance])
    continuum, lines = norms.norms
    assert (continuum.start, continuum.highest) == (6.0, 60.0)
    assert (lines.name, lines.label, lines.index, lines.is_factor) == ("lines", "lines", 1, False)
    assert lines.start == pytest.approx(start) and lines.highest == pytest.approx(highest)
    assert lines.error == pytest.approx(np.sqrt(variance) / 10.0)
    assert norms.parameters["lines"] == lines.start * u.Hz


class Fixed:
    """Amounts of a spectrum that stays where it is, 1.5 times that of the template's fit."""

    def __init__(self, counts, variances):
        self.counts, self.covariance = np.array(counts), np.diag(variances)

    def factors(self):
        return np.where(np.isfinite(np.diag(self.covariance)), 1.5, 1.0)


def test_followed_amounts_leave_norms_for_what_the_spectrum_does_not_know():
    """Known: no norm. Known with an error beyond the spectrum's: a factor. Not known: a rate."""
    counts = {"continuum": 60.0, "lines": 20.0, "dust": 0.0}
    followed = Fixed(list(counts.values()), [0.0, 0.04, np.inf])
    norms = norms_of(counts, [9.0, 9.0, np.inf], followed=followed)
    lines, dust = norms.norms
    assert (lines.label, lines.start, lines.error, lines.is_factor) == ("lines", 1.0, 0.2, True)
    assert lines.highest == 10.0  # and 1 + ten errors, where these reach further
    wide = norms_of(counts, [9.0, 9.0, np.inf], followed=Fixed(followed.counts, [0.0, 4.0, np.inf]))
    assert wide.norms[0].highest == 21.0
    assert (dust.label, dust.is_factor, dust.error) == ("dust", False, np.inf)
    assert dust.start == pytest.approx(START_SHARE * 8.0)
    assert norms.parameters["lines"].unit == u.dimensionless_unscaled
    assert norms.counts == pytest.approx({"continuum": 90.0, "lines": 30.0, "dust": 0.8})
    norms.set_parameters(lines=0.5, dust=120.0 / u.min)
    assert norms.counts == pytest.approx({"continuum": 90.0, "lines": 15.0, "dust": 20.0})
    with pytest.raises(TemplateError, match="a factor without unit"):
        norms.set_parameters(lines=1 * u.Hz)
    with pytest.raises(TemplateError, match="no norm 'continuum'; it has lines, dust"):
        norms.set_parameters(continuum=1 * u.Hz)


def test_nothing_is_set_if_one_norm_is_wrong():
    norms = norms_of({"continuum": 60.0, "lines": 20.0}, [9.0, 9.0])
    with pytest.raises(ForbiddenNorm, match="must be finite and >= 0"):
        norms.set_parameters(continuum=3 * u.Hz, lines=np.nan * u.Hz)
    assert norms.counts == {"continuum": 60.0, "lines": 20.0}
    norms.set_parameters(continuum=180 / u.min)
    assert_allclose(norms.amounts(), [30.0, 20.0])


def test_two_backgrounds_of_one_name_are_refused_in_a_session(template):
    one, two = BinnedBackground(template), BinnedBackground(template)
    plugins = [
        PoissonPlugin(name, CONTINUUM, bkg) for name, bkg in (("first", one), ("second", two))
    ]
    for plugin, bkg in zip(plugins, (one, two), strict=True):
        bkg.configure(plugin)
    with pytest.raises(ModelError, match="Two backgrounds of this session have a norm"):
        fit_of(*plugins, one.constraint(name="a"), two.constraint(name="b"))


def test_a_plugin_that_is_made_anew_is_no_second_background(template):
    """A cell of a notebook that is run again; two plugins of one background remain refused."""
    bkg = BinnedBackground(template)
    for _ in range(2):
        cosi = PoissonPlugin("cosi", CONTINUUM, bkg)
        bkg.configure(cosi)
        fit_of(cosi, bkg.constraint())
    second = PoissonPlugin("second", CONTINUUM, bkg)
    bkg.configure(second)
    with pytest.raises(ModelError, match="Two backgrounds of this session have a norm"):
        fit_of(cosi, second, bkg.constraint())


def test_names_and_norms_are_checked(template):
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
