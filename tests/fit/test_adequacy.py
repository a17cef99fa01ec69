"""Is the model adequate: tests, the systematic error and where it goes, and the words."""

import itertools
import json
from dataclasses import replace

import astropy.units as u
import histpy
import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.stats import norm, poisson
from spectra import dc3_spectrum, line_model, simulated_spectrum, tutorial_model

from cosi_linebkg_plugin import LineBackgroundLike, background_model
from cosi_linebkg_plugin.app.config import parse_config
from cosi_linebkg_plugin.app.fitting import fit_config
from cosi_linebkg_plugin.app.pipeline import prepare
from cosi_linebkg_plugin.errors import ModelError
from cosi_linebkg_plugin.fit.adequacy import LEVEL, TOLERABLE, runs_test
from cosi_linebkg_plugin.fit.minimise import fit_spectrum
from cosi_linebkg_plugin.fit.result import LineBackgroundFit
from cosi_linebkg_plugin.fit.score import Residuals
from cosi_linebkg_plugin.fit.toys import with_toys
from cosi_linebkg_plugin.fit.words import describe
from cosi_linebkg_plugin.model.read import spectrum_of
from cosi_linebkg_plugin.spectrum.components import range_counts
from cosi_linebkg_plugin.spectrum.lineshapes import step_counts
from cosi_linebkg_plugin.spectrum.statistic import deviance_residuals

EDGES = np.linspace(1500.0, 2000.0, 101)
MASK = (1790.0, 1825.0)
SOURCE = (1805.0, 1812.0)
LINES = [(1633.0, 3e4, (1623.0, 1643.0)), (1712.0, 3e4, (1702.0, 1722.0)),
         (1778.9, 2e4, (1768.0, 1790.0))]  # fmt: skip
MODEL = line_model(LINES, k=3000.0, sigma=2.9)
pytestmark = pytest.mark.filterwarnings("ignore::cosi_linebkg_plugin.errors.LineBackgroundWarning")


def spectrum(seed=1, model=MODEL):
    return simulated_spectrum(model, EDGES, np.random.default_rng(seed), [MASK])


def scattered(rng, s, scale=1.0):
    """A spectrum whose true content scatters by the fraction s in each bin."""
    expected = scale * MODEL.bind(EDGES).counts(MODEL.values)
    true = np.maximum(expected * (1.0 + s * rng.standard_normal(expected.size)), 0.0)
    return replace(spectrum(), counts=rng.poisson(true).astype(float))


def shared_fit(halves):
    """One of two spectra, with the parameters that both of them tell.

    At the optimum of a session that shares all parameters: the fit of the sum, amplitudes halved.
    """
    both = fit_spectrum(MODEL, replace(halves[0], counts=halves[0].counts + halves[1].counts))
    names = both.model.names
    factors = np.array([0.5 if name[:2] in ("K_", "F_") else 1.0 for name in names])
    own = factors[[names.index(name) for name in both.covariance_names]]
    return replace(
        both,
        spectrum=halves[0],
        theta=both.theta * factors,
        covariance=both.covariance * np.outer(own, own),
        shared_with=("other",),
    )


# --- the tests themselves ------------------------------------------------------------------------


@pytest.mark.parametrize(("a", "b"), [(1, 6), (4, 4), (5, 3)])
def test_runs_have_the_probability_of_counting_all_arrangements(a, b):
    arrangements = [
        np.array([1.0 if i in chosen else -1.0 for i in range(a + b)])
        for chosen in itertools.combinations(range(a + b), a)
    ]
    runs = np.array([1 + np.sum(x[1:] != x[:-1]) for x in arrangements])
    for x, number in zip(arrangements[::5], runs[::5], strict=True):
        found, expected, p = runs_test(x)
        assert found == number and expected == pytest.approx(runs.mean())
        assert p == pytest.approx(np.mean(runs <= number))


def test_runs_of_one_sign_say_nothing():
    assert runs_test(np.ones(5)) == (1, 1.0, 1.0)


def test_pulls_have_unit_width_though_the_fit_takes_part_of_the_noise():
    pulls = np.array([fit_spectrum(MODEL, spectrum(i)).adequacy.residuals for i in range(60)])
    assert np.array_equal(np.isnan(pulls[0]), spectrum().mask)
    pulls = pulls[:, ~spectrum().mask]
    # 60 numbers in each of 93 bins: their mean square within 5 standard errors in all of them,
    # false-alarm rate 5e-5; raw residuals would have 0.2 to 0.7 in the lines
    assert np.all(np.abs(np.mean(pulls**2, axis=0) - 1.0) < 5 * np.sqrt(2 / 60))


def test_a_right_model_is_called_adequate():
    """At a level of 5 %, at least 95 % of the time; at the default level, 99 %."""
    trials = 300
    p_values = np.array([fit_spectrum(MODEL, spectrum(i)).adequacy.p_value for i in range(trials)])
    for level in (0.05, LEVEL):
        # 4 standard deviations above the stated rate: false-alarm rate below 5e-4
        allowed = trials * level + 4 * np.sqrt(trials * level * (1 - level))
        assert np.sum(p_values < level) <= allowed
    assert np.sum(p_values < 0.2) > 0.05 * trials  # Bonferroni's price is a factor below 4


# --- the systematic error ------------------------------------------------------------------------


def test_a_right_model_that_other_data_tell_too_is_called_adequate():
    """All parameters counted as this spectrum's own, 47 of 100 right models were called wrong."""
    fits = [shared_fit([spectrum(2 * i), spectrum(2 * i + 1)]) for i in range(100)]
    k = len(fits[0].free_names)
    alone = [replace(fit, shared_with=()) for fit in fits]
    assert {fit.dof - other.dof for fit, other in zip(fits, alone, strict=True)} <= {
        k // 2,
        k // 2 + 1,
    }
    deviances = np.array([fit.deviance for fit in fits])
    n = fits[0].dof
    assert abs(deviances.mean() - n) < 4 * np.sqrt(2 * n / 100)
    # 1 in 100 is right, 6 or more have a chance of 5e-4
    assert sum(not fit.adequacy.is_adequate() for fit in fits) < 6
    assert sum(not fit.adequacy.is_adequate() for fit in alone) > 20
    pulls = np.array([fit.adequacy.residuals for fit in fits])[:, ~spectrum().mask]
    assert np.all(np.abs(np.mean(pulls**2, axis=0) - 1.0) < 5 * np.sqrt(2 / 100))


def test_a_scatter_is_recovered_where_other_data_tell_the_parameters_too():
    rng = np.random.default_rng(5)
    found = [shared_fit([scattered(rng, 0.02), scattered(rng, 0.0)]) for _ in range(40)]
    values = np.array([fit.adequacy.systematic for fit in found])
    assert abs(values.mean() - 0.02) < 4 * values.std(ddof=1) / np.sqrt(40) + 2e-4


def test_what_these_data_take_of_shared_parameters():
    """Of parameters that other data tell as well half of the noise is absorbed, of none all."""
    fit = shared_fit([spectrum(1), spectrum(2)])
    used, columns = fit.spectrum.used, fit.columns
    n, mu = fit.spectrum.counts[used], fit.expected_total[used]
    jacobian = fit.bin_jacobian[columns][:, used]
    alone = np.linalg.inv((jacobian / mu) @ jacobian.T)
    scaled = jacobian / np.sqrt(mu)
    for covariance in (alone, 0.5 * alone, fit.covariance):
        basis = Residuals.of(n, mu, jacobian, covariance).basis
        assert_allclose(basis @ basis.T, scaled.T @ covariance @ scaled, atol=1e-6)
    whole = Residuals.of(n, mu, jacobian)
    assert_allclose(basis.shape, whole.basis.shape)
    assert whole.absorbed == pytest.approx(len(columns))


def test_toys_of_one_spectrum_say_nothing_of_shared_parameters():
    with pytest.raises(ModelError, match="the data of other tell too"):
        with_toys(shared_fit([spectrum(1), spectrum(2)]), 3)


def test_json_keeps_with_whom_parameters_are_shared():
    fit = shared_fit([spectrum(1), spectrum(2)])
    read = LineBackgroundFit.from_json(fit.to_json())
    assert read.shared_with == ("other",) and read.dof == fit.dof
    assert read.adequacy.to_dict() == fit.adequacy.to_dict()


def test_an_injected_scatter_is_recovered():
    rng = np.random.default_rng(2)
    found, inside = [], 0
    for _ in range(100):
        a = fit_spectrum(MODEL, scattered(rng, 0.01, scale=8.0)).adequacy
        low, high = a.systematic_range
        found.append(a.systematic)
        inside += low <= 0.01 <= high
        assert not a.is_adequate()
    # 100 trials of 93 bins: s to 7.3 % each, their mean within 4 standard errors; 68 +- 4 sigma
    assert np.mean(found) == pytest.approx(0.01, rel=4 * 0.073 / 10 + 0.01)
    assert 50 <= inside <= 86


@pytest.mark.parametrize("missing", [0, 2])
def test_the_systematic_error_is_the_same_with_and_without_all_tests(missing):
    """Control ranges ask for it alone: no search for lines, no tails, no limits where it is 0."""
    lines = LINES[missing:]
    fit = fit_spectrum(line_model(lines, k=3000.0, sigma=2.9), spectrum())
    alone = fit.systematic
    assert "adequacy" not in fit.__dict__
    assert alone == fit.adequacy.applied == replace(fit).systematic
    assert (alone > 0.0) == bool(missing)
    assert fit.adequacy.excesses or not missing


def test_no_systematic_error_where_none_is_needed():
    fit = fit_spectrum(MODEL, spectrum(1))
    a = fit.adequacy
    assert a.is_adequate() and fit.systematic == 0.0
    assert a.systematic_range[0] <= a.systematic <= a.systematic_range[1] < 0.01
    counts = fit.expected_counts(SOURCE, by="component")
    assert np.array_equal(fit.systematic_covariance(np.ones((2, 12)), np.ones((2, 100))),
                          np.zeros((2, 2)))  # fmt: skip
    columns = [fit.model.names.index(n) for n in fit.covariance_names]
    jac = range_counts(fit.model, fit.theta, *SOURCE, EDGES)[1][:, columns]
    assert np.array_equal(counts.covariance, jac @ fit.covariance @ jac.T)


def test_a_drift_within_poisson_noise_gets_the_upper_limit():
    """Its bins scatter less than expected, but all in a row to one side, then to the other."""
    expected = MODEL.bind(EDGES).counts(MODEL.values)
    wave = np.sin(np.arange(100) * 2 * np.pi / 16)
    fit = fit_spectrum(MODEL, replace(spectrum(), counts=expected + 1.4 * wave * expected**0.5))
    a = fit.adequacy
    assert a.deviance < a.dof and a.runs_p_value < 1e-6 and not a.is_adequate()
    assert a.systematic == 0.0 and fit.systematic == a.systematic_range[1] > 0.0
    assert f"{a.runs} runs of equal signs" in fit.summary()


def with_systematic(fit, s):
    """A fit whose adequacy demands the systematic error s."""
    fit.__dict__["adequacy"] = replace(fit.adequacy, systematic=s, deviance_p_value=0.0)
    return fit


def scatter_of(quantity, s, n):
    """Standard deviation of a quantity over fits of spectra that scatter by s."""
    rng = np.random.default_rng(7)
    expected = MODEL.bind(EDGES).counts(MODEL.values)
    values = []
    for _ in range(n):
        counts = expected * (1.0 + s * rng.standard_normal(expected.size))
        values.append(quantity(fit_spectrum(MODEL, replace(spectrum(), counts=counts)), counts))
    return np.std(values)


@pytest.mark.parametrize("source", [SOURCE, (1792.5, 1820.0), (1700.0, 1725.0)])
def test_the_errors_of_counts_are_those_of_fits_to_scattered_spectra(source):
    """The last range is not masked: there the fit follows the scatter in part."""
    s = 0.01
    expected = MODEL.bind(EDGES).counts(MODEL.values)
    share = np.clip(
        (np.minimum(EDGES[1:], source[1]) - np.maximum(EDGES[:-1], source[0])) / 5, 0, 1
    )

    def error(fit, counts):
        # what the fit expects, less what the spectrum truly holds (in whole bins but for edges
        # in the flat part, where a bin's share is that of its width)
        return fit.expected_counts(source).total - share @ counts

    found = scatter_of(error, s, n=120)
    exact = fit_spectrum(MODEL, replace(spectrum(), counts=expected))
    quiet = exact.expected_counts(source).covariance
    total = with_systematic(replace(exact), s).expected_counts(source).covariance
    # 120 trials: 4 standard errors are 26 %
    assert np.sqrt((total - quiet).sum()) == pytest.approx(found, rel=0.26)


def events(counts):
    axes = [
        histpy.Axis(EDGES * u.keV, label="Em"),
        histpy.Axis([0, 60, 180] * u.deg, label="Phi"),
    ]
    contents = np.column_stack([0.25 * counts, 0.75 * counts])
    return histpy.Histogram(histpy.Axes(axes), contents=contents, track_overflow=False)


@pytest.mark.parametrize("method", ["components", "interpolated", "sideband"])
def test_the_errors_of_templates_are_those_of_fits_to_scattered_spectra(method):
    s, ratio = 0.01, {"line": 1808.65, "tracer": 1778.9, "value": 0.3}
    options = dict(method=method, line_ratio=ratio)
    if method == "sideband":
        options["sidebands"] = [(1740, 1760), (1830, 1860)]
    expected = MODEL.bind(EDGES).counts(MODEL.values)

    def template(fit):
        plugin = LineBackgroundLike("bkg", events(fit.spectrum.counts))
        plugin.set_mask(MASK)
        return plugin.background_template(fit, SOURCE, **options)

    exact = fit_spectrum(MODEL, replace(spectrum(), counts=expected))
    quiet, t = template(exact), template(with_systematic(replace(exact), s))
    added = np.sqrt(t.total_error**2 - quiet.total_error**2)
    assert t.record.systematic_percent == pytest.approx(1.0)
    assert "systematic error 1 % per bin included" in repr(t)

    share = np.clip(
        (np.minimum(EDGES[1:], SOURCE[1]) - np.maximum(EDGES[:-1], SOURCE[0])) / 5, 0, 1
    )
    # the hidden line scatters with its bins
    line = np.zeros(100)
    edges = np.array([1805.0, 1810.0, 1812.0])
    sigma = exact.values["sigma_2"]
    line[61:63] = 0.3 * 2e4 * np.diff(norm.cdf(edges, 1808.65, sigma))

    def error(fit, counts):
        truth = share @ counts + line @ (counts / expected)
        return sum(template(fit).counts.values()) - truth

    found = scatter_of(error, s, n=80)
    # 80 trials: 4 standard errors are 32 %
    assert added == pytest.approx(found, rel=0.32)


# --- words ---------------------------------------------------------------------------------------


def test_a_missing_line_is_named():
    data = spectrum(3)
    fit = fit_spectrum(line_model([LINES[0], LINES[2]], sigma=2.9), data)
    text = fit.summary()
    assert "does NOT describe the data" in text and "should NOT be used for a template" in text
    best = fit.adequacy.excesses[0]
    assert abs(best.energy - 1712.0) < 2.0 and best.z > 20
    assert f"a line near {best.energy:.1f} keV" in text
    low, high = fit.adequacy.worst_range
    assert low - 5 <= 1712.0 <= high + 5 and f"{low:.6g}-{high:.6g} keV" in text
    # with what it asks for it is adequate
    again = fit_spectrum(
        line_model([LINES[0], (best.energy, 1e3, (best.energy - 5, best.energy + 5)), LINES[2]]),
        data,
    )
    assert again.adequacy.is_adequate()
    assert again.summary().endswith("It may be used for a template.")


def read(model):
    return spectrum_of(model, "linebkg").current_model()


def test_a_missing_step_is_named():
    lines = [1633.0, 1779.0]
    values = {"K_1": 3000.0, "F_2": 5e4, "F_3": 1e5}
    truth = read(background_model(lines, pivot=1800, step=True))
    for ratio, proposed in ((2e-3, True), (0.0, False)):
        height = next(n for n in truth.names if n.startswith("step"))
        drawn = replace(
            truth,
            parameters=tuple(
                replace(p, value=(values | {height: ratio}).get(p.name, p.value))
                for p in truth.parameters
            ),
        )
        data = simulated_spectrum(drawn, np.linspace(1500, 2000, 251), np.random.default_rng(3))
        fit = fit_spectrum(read(background_model(lines, pivot=1800)), data)
        assert (fit.adequacy.step_z > 10) == proposed
        assert ("Try a step under the lines (step: true, +" in fit.summary()) == proposed
        assert fit.adequacy.is_adequate() == (not proposed)
        assert fit.adequacy.to_dict()["step_z"] == fit.adequacy.step_z
        # the square of a score is the gain in deviance of a small effect
        better = fit_spectrum(truth, data)
        assert better.adequacy.step_z is None and better.adequacy.is_adequate()
        if not proposed:
            gain = fit.deviance - better.deviance
            assert max(fit.adequacy.step_z, 0.0) ** 2 == pytest.approx(gain, abs=0.05)
    no_line = fit_spectrum(read(background_model(pivot=1800)), data)
    assert no_line.adequacy.step_z is None
    dark = [name.startswith("F_") for name in fit.model.names]
    dark = replace(fit, theta=np.where(dark, 0.0, fit.theta))  # lines without counts
    assert dark.adequacy.step_z is None


def test_the_step_that_is_tested_for_is_that_of_the_model():
    model = read(background_model([1633.0, 1779.0], pivot=1800, width="linear"))
    data = simulated_spectrum(model, np.linspace(1500, 2000, 251), np.random.default_rng(3))
    fit = fit_spectrum(model, data)
    lines = [fit.model.components[i] for i in fit.model.lines]
    rows = [(fit.theta[c.area], fit.theta[c.energy], c.sigma(fit.theta), 1.0) for c in lines]
    expected = step_counts(data.edges, *np.transpose(rows))[0]
    np.testing.assert_allclose(fit._missing_step(), expected, atol=1e-9 * expected.max())


def test_a_missing_tail_is_named():
    energies = [line[0] for line in LINES]
    truth = read(background_model(energies, pivot=1800, tail=True))
    truth = replace(truth, parameters=tuple(
        replace(p, value=4e4) if p.name.startswith("F_") else p for p in truth.parameters
    ))  # fmt: skip
    data = spectrum(4, truth)
    text = fit_spectrum(read(background_model(energies, pivot=1800)), data).summary()
    assert "NOT describe" in text and "a low-energy tail (tail: true) for the line at 1" in text
    with_tail = fit_spectrum(read(background_model(energies, pivot=1800, tail=True)), data)
    assert with_tail.adequacy.is_adequate()


def test_a_wrong_continuum_is_named():
    truth = read(background_model(continuum="broken_powerlaw", pivot=1700))
    start = {"K": 3000.0, "alpha": -1.0, "beta": -3.0}
    truth = replace(truth, parameters=tuple(
        replace(p, value=start.get(p.name, p.value)) for p in truth.parameters
    ))  # fmt: skip
    fit = fit_spectrum(read(background_model(pivot=1700)), spectrum(5, truth))
    assert fit.adequacy.runs_p_value < 1e-3
    assert "another continuum (broken_powerlaw, powerlaw_polynomial)" in fit.summary()
    assert "NOT" in fit.summary()
    # one that is in use is no advice
    in_use = describe(fit.adequacy, fit.lines, {"broken_powerlaw"})
    assert "another continuum (powerlaw_polynomial)" in in_use


def test_a_line_at_the_end_of_its_window_is_named():
    near = [(1627.0, 3e4, (1617.0, 1629.0)), *LINES[1:]]
    text = fit_spectrum(line_model(near, sigma=2.9), spectrum(3)).summary()
    assert "Try a wider window for the line at 1629.0 keV, which is at its end" in text


def test_a_small_systematic_error_is_tolerated_and_said():
    fit = fit_spectrum(MODEL, scattered(np.random.default_rng(5), 0.012, scale=8.0))
    assert 0 < fit.systematic < TOLERABLE
    text = fit.summary()
    assert "does NOT describe" in text and "So small an error covers it: it may be used" in text
    assert f"scatter by {100 * fit.systematic:.2g} %" in text
    assert "Try another continuum" in text or "Try a line" in text


def test_what_cannot_be_tested_is_said():
    fit = fit_spectrum(MODEL, spectrum(1))
    assert "cannot be tested" in replace(fit, covariance_names=(), covariance=np.zeros((0, 0))
                                         ).summary()  # fmt: skip
    assert "cannot be used" in replace(fit, valid=False, message="lost").summary()


def test_every_p_value_says_what_it_is_of():
    """ "p = 0.082" stood beside "its p-value 0.7": three times the smallest of three, unsaid."""
    fit = fit_spectrum(MODEL, spectrum(1))
    a = fit.adequacy
    assert [t.name for t in a.tests] == ["deviance", "runs of equal signs", "largest residual"]
    assert a.tests[0].p_value == fit.p_value == a.deviance_p_value
    assert a.p_value == min(1.0, 3 * min(t.p_value for t in a.tests))
    text = fit.summary()
    assert f"{a.deviance / a.dof:.2f} (p = {fit.p_value:.2g}, chi-square law); all tests: p = " in (
        text
    )
    assert (
        f"p = {a.p_value:.2g} (3 times the smallest of deviance, runs of equal signs and " in text
    )
    data = json.loads(fit.to_json())
    assert data["p_value"] == data["adequacy"]["deviance_p_value"] == fit.p_value
    assert data["adequacy"]["p_value"] == a.p_value and a.combination in data["adequacy"].values()
    model, few = thin(3e-4, 3)
    toyed = with_toys(fit_spectrum(model, few), 50, rng=1)
    assert f"(p = {toyed.p_value:.2g}, 50 toys)" in toyed.summary()
    assert "2 times the smallest of deviance and largest residual" in toyed.summary()
    assert toyed.adequacy.tests[1].law == "counts too low"


def test_the_worst_residual_is_one_of_the_residuals_shown():
    """In the text it was scaled by what the fit absorbs (-4.09), in the figure not (-3.3)."""
    fit = fit_spectrum(line_model([LINES[0], LINES[2]], sigma=2.9), spectrum(3))
    used, a = fit.spectrum.used, fit.adequacy
    shown = fit.residuals
    k = np.flatnonzero(used)[np.abs(shown[used]).argmax()]
    assert shown[k] == a.worst and a.worst_range == (EDGES[k], EDGES[k + 1])
    assert f"{a.worst:+.1f} sigma" in fit.summary()
    assert np.isfinite(shown).all()
    plain = deviance_residuals(fit.spectrum.counts, fit.expected_total)
    assert np.array_equal(shown[~used], plain[~used]) and np.all(
        np.abs(shown[used]) >= np.abs(plain[used])
    )
    assert np.array_equal(replace(fit, valid=False).residuals, plain)


# --- few counts ----------------------------------------------------------------------------------


def thin(factor, seed):
    model = line_model(LINES, k=3000.0 * factor, sigma=2.9)
    model = replace(model, parameters=tuple(
        replace(p, value=p.value * factor) if p.name.startswith("F_") else p
        for p in model.parameters
    ))  # fmt: skip
    return model, spectrum(seed, model)


def test_the_largest_residual_is_judged_among_all_fitted_bins():
    fit = fit_spectrum(MODEL, spectrum(1))
    single = 2.0 * norm.sf(abs(fit.adequacy.worst))
    n = int(fit.spectrum.used.sum())
    assert fit.adequacy.tests[2].p_value == pytest.approx(1 - (1 - single) ** n, rel=1e-9)


def test_residuals_of_few_counts_are_those_of_poissons_tails():
    fit = fit_spectrum(*thin(3e-4, 3))
    n, mu = fit.spectrum.counts, fit.expected
    above, below = poisson.sf(n - 1, mu), poisson.cdf(n, mu)
    expected = np.where(n >= mu, norm.isf(np.minimum(above, 0.5)), norm.ppf(np.minimum(below, 0.5)))
    used = fit.spectrum.used
    assert_allclose(fit.adequacy.residuals[used], expected[used], atol=1e-9)
    assert_allclose(fit.residuals, expected, atol=1e-9)  # masked bins as well


def test_few_counts_are_judged_by_toys():
    model, data = thin(3e-4, 3)  # 4 to 6 counts a bin
    fit = fit_spectrum(model, data)
    a = fit.adequacy
    assert fit.p_value is None and a.runs_p_value is None and a.excesses == ()
    assert "use toys" in fit.summary()
    toyed = with_toys(fit, 50, rng=1)
    assert toyed.adequacy.n_toys == 50 and toyed.p_value == toyed.adequacy.deviance_p_value
    assert "50 toys)" in toyed.summary() and toyed.adequacy.is_adequate()
    back = LineBackgroundFit.from_json(toyed.to_json())
    assert back.toys == toyed.toys and back.summary() == toyed.summary()


def test_the_command_line_makes_its_toys_itself(tmp_path):
    _, data = thin(3e-4, 3)
    events(data.counts).write(str(tmp_path / "events.hdf5"))
    config = parse_config(
        {
            "events": "events.hdf5",
            "mask": [list(MASK)],
            "model": {"pivot": 1800, "lines": [{"energy": e, "window": w} for e, _, w in LINES]},
        },
        tmp_path,
    )
    fit = fit_config(config, prepare(config).spectrum)
    assert fit.toys is not None and fit.toys[1] == 200 and "200 toys)" in fit.summary()
    assert fit_config(config, prepare(config).spectrum).toys == fit.toys  # seeded


def test_a_burst_of_counts_in_one_bin_is_seen_without_toys():
    model, data = thin(3e-4, 3)
    counts = data.counts.copy()
    counts[80] += 20
    fit = fit_spectrum(model, replace(data, counts=counts))
    assert not fit.adequacy.is_adequate()
    assert fit.adequacy.worst_range == (EDGES[80], EDGES[81])


# --- files and the real spectrum -----------------------------------------------------------------


@pytest.mark.parametrize("kind", ["closed", "function"])
def test_json_keeps_the_verdict(kind):
    model = line_model([LINES[0], LINES[2]], sigma=2.9)
    if kind == "function":
        first = model.components[0]
        function = replace(first, kind="function", slots=(0, 2), density=lambda e, v: (
            v[0] * (e / 1800.0) ** v[1]))  # fmt: skip
        model = replace(model, components=(function, *model.components[1:]))
    fit = fit_spectrum(model, spectrum(3))
    text = fit.to_json(source_range=SOURCE)
    data = json.loads(text)["adequacy"]
    assert data["adequate"] is False and data["systematic_percent"] == pytest.approx(
        100 * fit.systematic
    )
    assert data["largest_residual_range"] == list(fit.adequacy.worst_range)
    assert data["excesses"][0]["energy"] == fit.adequacy.excesses[0].energy
    back = LineBackgroundFit.from_json(text)
    assert back.systematic == pytest.approx(fit.systematic, rel=1e-6)
    assert back.summary() == fit.summary()
    assert_allclose(
        back.expected_counts(SOURCE).errors, fit.expected_counts(SOURCE).errors, rtol=1e-5
    )


def test_the_real_spectrum(shared_data):
    """The tutorial's six lines, and 17: neither describes it, and the words say where."""
    data = dc3_spectrum(shared_data)
    six = fit_spectrum(tutorial_model(), data)
    assert six.deviance / six.dof == pytest.approx(58.0, abs=0.1)
    assert six.systematic == pytest.approx(0.054, abs=0.002)
    assert "should NOT be used" in six.summary() and "a line near 1515" in six.summary()
    lines = [1506, 1515, 1526, 1538, 1565, 1612, 1633, 1650, 1666, 1723, 1764, 1779, 1882, 1893,
             1904, 1920, 1928]  # fmt: skip
    many = fit_spectrum(read(background_model(lines, pivot=1800)), data)
    assert many.deviance / many.dof == pytest.approx(14.1, abs=0.2)
    assert many.systematic == pytest.approx(0.026, abs=0.001)
    assert "a low-energy tail (tail: true) for the line at 1764.1 keV" in many.summary()
    tail = fit_spectrum(read(background_model(lines, pivot=1800, tail=True)), data)
    assert tail.systematic == pytest.approx(0.017, abs=0.001)
    assert "it may be used for a template" in tail.summary()
