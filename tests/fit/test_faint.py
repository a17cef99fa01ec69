"""Lines that may be there, marginalised."""

from dataclasses import replace

import numpy as np
import pytest
from spectra import line_model

import cosi_linebkg_plugin.fit.faint as faint
from cosi_linebkg_plugin.errors import DataError, FileError
from cosi_linebkg_plugin.fit.faint import refit, with_faint_lines
from cosi_linebkg_plugin.fit.minimise import fit_spectrum, from_best
from cosi_linebkg_plugin.fit.numbers import FaintLine
from cosi_linebkg_plugin.fit.result import LineBackgroundFit
from cosi_linebkg_plugin.fit.toys import toy_p_value
from cosi_linebkg_plugin.fit.words import shown_parameters
from cosi_linebkg_plugin.spectrum.axis import EnergySpectrum
from cosi_linebkg_plugin.spectrum.priors import Prior

EDGES = np.arange(1500.0, 1701.0, 5.0)
#: One seen line; faint ones at 1540, 1575 and 1660 keV.
SEEN = line_model([(1610.0, 900.0, (1600.0, 1620.0))], k=20.0, index=-1.0, pivot=1600.0)
LINES = (FaintLine(1540.0), FaintLine(1575.0), FaintLine(1660.0))
WHERE = (1500.0, 1700.0)


def expected_counts(faint_counts):
    lines = [(1610.0, 900.0, (1600.0, 1620.0))]
    lines += [
        (x.energy, n, (x.energy - 5, x.energy + 5))
        for x, n in zip(LINES, faint_counts, strict=True)
    ]
    truth = line_model(lines, k=20.0, index=-1.0, pivot=1600.0)
    return truth.bind(EDGES).counts(truth.values)


def spectrum(faint_counts=(0.0, 0.0, 0.0), seed=1, mask=()):
    expected = expected_counts(faint_counts)
    counts = np.random.default_rng(seed).poisson(expected).astype(float)
    return EnergySpectrum(EDGES, counts).with_mask(mask)


@pytest.fixture(scope="module")
def plain():
    return fit_spectrum(SEEN, spectrum((60.0, 0.0, 50.0)))


@pytest.fixture(scope="module")
def marginalised(plain):
    return with_faint_lines(plain, LINES, WHERE)


def by_quadrature(information, pull, unit, foretold):
    """Mean and covariance of two lines' counts, by sums over grids of s and F.

    The prior is linear in p for each open line, and its mean over p is known.
    """
    # the slab as cells of F above 0, and the spike as one cell of its own
    x = np.linspace(0.0, 12.0, 1201)[1:] - 0.005
    cells = np.append(0.0, x)
    f = [cells * u for u in unit]
    log_l = (
        pull[0] * f[0][:, None]
        + pull[1] * f[1]
        - 0.5 * information[0, 0] * f[0][:, None] ** 2
        - 0.5 * information[1, 1] * f[1] ** 2
        - information[0, 1] * np.outer(*f)
    )
    likelihood = np.exp(log_l - log_l.max())

    def slab(mean):
        """The mass of each cell, exactly: the mean may be as small as a cell."""
        return np.append(0.0, np.exp(-(x - 0.005) / mean) - np.exp(-(x + 0.005) / mean))

    spike = np.where(cells == 0.0, 1.0, 0.0)
    total = np.zeros((cells.size, cells.size))
    for s in faint.LARGEST_MEAN * np.exp(-faint._STEP * np.arange(faint._MEANS)):
        own = slab(s)
        if foretold[1] > 0:
            total += np.outer(0.5 * (spike + own), slab(foretold[1] / unit[1]))
        else:
            alike = np.outer(spike, spike) + np.outer(own, own)
            total += alike / 3.0 + (np.outer(spike, own) + np.outer(own, spike)) / 6.0
    density = total * likelihood
    density /= density.sum()
    mean = np.array([density.sum(axis=1) @ f[0], density.sum(axis=0) @ f[1]])
    square = np.array(
        [
            [density.sum(axis=1) @ f[0] ** 2, f[0] @ density @ f[1]],
            [f[0] @ density @ f[1], density.sum(axis=0) @ f[1] ** 2],
        ]
    )
    return mean, square - np.outer(mean, mean)


@pytest.mark.parametrize("significance", [(0.0, -1.5), (2.5, 0.5)])
@pytest.mark.parametrize("foretold", [(0.0, 0.0), (0.0, 15.0)])
def test_sampling_against_quadrature(significance, foretold):
    unit = np.array([10.0, 6.0])
    information = np.array([[0.9, 0.3], [0.3, 0.8]]) / np.outer(unit, unit)
    pull = np.array(significance) * np.sqrt(np.diag(information))
    rng = np.random.default_rng(3)
    mean, covariance = faint._sample(information, pull, unit, np.array(foretold), 100_000, 500, rng)
    true_mean, true_covariance = by_quadrature(information, pull, unit, foretold)
    errors = np.sqrt(np.diag(true_covariance))
    # the chain's own noise: below 1 % of an error with 100,000 sweeps
    assert np.all(abs(mean - true_mean) < 0.03 * errors)
    assert np.all(abs(covariance - true_covariance) < 0.04 * np.outer(errors, errors))


def test_lines_that_are_there_are_taken_out_of_the_continuum(plain, marginalised):
    true = 20.0 * 1600.0 * np.log(1700.0 / 1500.0)
    (before, error), (after, wider) = marginalised.faint.before, marginalised.faint.after
    assert before - true > 1.0 * error  # what left-out lines do
    assert after < before and wider > error
    assert abs(after - true) < 2.0 * wider
    # all together are what was observed
    assert marginalised.expected.sum() == pytest.approx(plain.spectrum.counts.sum(), rel=2e-3)


def test_its_numbers_are_those_of_its_parts(plain, marginalised):
    fit = marginalised
    counts = fit.expected_counts(WHERE)
    k = counts.labels.index("continuum")
    assert fit.faint.after == pytest.approx((counts.values[k], counts.errors[k]))
    areas = [fit.model.names[fit.model.components[i].area] for i in fit.model.faint]
    assert fit.covariance_names == (*plain.covariance_names, *areas)
    assert len(areas) == 3 and np.linalg.eigvalsh(fit.covariance)[0] > 0
    assert all(fit.values[name] > 0 and fit.errors[name] > 0 for name in areas)
    assert fit.free_names == plain.free_names
    assert 0 < fit.faint.effective < 3
    assert fit.dof == plain.dof - round(fit.faint.effective)
    # lists of lines show what was fitted
    assert len(fit.lines) == len(fit.model.lines) == 1
    assert "faint" not in str(fit).replace("below detection", "")


def test_covariance_is_that_of_repeated_fits(marginalised):
    """Fits with the lines held at draws of their posterior scatter as the covariance says."""
    fit, rng = marginalised, np.random.default_rng(5)
    n = len(fit.model.faint)
    own = fit.covariance[-n:, -n:]
    model = fit.model.without_faint()
    bare = fit_spectrum(model, fit.spectrum)
    shapes = faint._shapes(faint._extended(model, fit.theta, LINES), bare)
    mean = np.array([fit.theta[fit.model.components[i].area] for i in fit.model.faint])
    k = fit.covariance_names.index("K_1")
    # the linear answer: K changes by the covariance of K with F, over that of F
    slope = fit.covariance[k, -n:] @ np.linalg.inv(own)
    for _ in range(3):
        change = rng.uniform(-0.3, 0.3, n) * np.sqrt(np.diag(own))
        ends = [
            fit_spectrum(from_best(bare), fit.spectrum, offset=(mean + s * change) @ shapes)
            for s in (-1.0, 1.0)
        ]
        moved = 0.5 * (ends[1].values["K_1"] - ends[0].values["K_1"])
        assert moved == pytest.approx(slope @ change, abs=0.02 * fit.errors["K_1"])


@pytest.mark.parametrize("prior", [None, Prior.gaussian(19.8, 0.2)])
def test_likelihood_of_the_counts_is_that_of_fits_with_the_lines_held(prior):
    """The quadratic form, a prior on K included, against the fit's own optimum at some counts."""
    parameters = tuple(
        replace(p, prior=prior if p.name == "K_1" else None) for p in SEEN.parameters
    )
    # without noise, so that expected and observed information are one
    data = EnergySpectrum(EDGES, expected_counts((6.0, 0.0, 5.0)))
    fit = fit_spectrum(replace(SEEN, parameters=parameters), data)
    shapes = faint._shapes(faint._extended(fit.model, fit.theta, LINES), fit)
    residuals, own, _ = faint._projected(fit, shapes)
    change = np.array([1.5, -1.0, 2.0])

    def height(counts):
        held = fit_spectrum(from_best(fit), fit.spectrum, offset=counts @ shapes)
        return -0.5 * held.deviance - (prior.penalty(held.values["K_1"]) if prior else 0.0)

    up, here, down = (height(x * change) for x in (1.0, 0.0, -1.0))
    assert 0.5 * (up - down) == pytest.approx(own @ residuals @ change, rel=0.01)
    assert 2.0 * here - up - down == pytest.approx(np.sum((change @ own) ** 2), rel=0.03)


def test_a_line_that_may_as_well_be_there_as_not_is_worth_one_parameter_at_most():
    """Its posterior has two peaks, and a variance above that of the counts alone."""
    fit = fit_spectrum(SEEN, spectrum((0.0, 40.0, 0.0), seed=3))
    found = with_faint_lines(fit, LINES[1:2])
    assert found.faint.effective == 1.0 and found.dof == fit.dof - 1
    assert LineBackgroundFit.from_json(found.to_json()).faint == found.faint


def test_tables_show_what_was_fitted(plain, marginalised):
    for text in (str(marginalised), marginalised._repr_html_()):
        assert "F_2" in text and "F_faint" not in text and "mu_faint" not in text
    assert set(shown_parameters(marginalised)) == set(plain.parameters)
    assert "F_faint_1" in marginalised.parameters


def test_the_same_spectrum_gives_the_same_numbers(plain, marginalised):
    again = with_faint_lines(plain, LINES, WHERE)
    np.testing.assert_array_equal(again.theta, marginalised.theta)
    np.testing.assert_array_equal(again.covariance, marginalised.covariance)


def test_masked_and_explained_lines_are_left_out():
    data = spectrum(mask=[(1645.0, 1675.0)])
    fit = fit_spectrum(SEEN, data)
    lines = (*LINES, FaintLine(1610.0))  # in the mask, and on top of the seen line
    found = with_faint_lines(fit, lines)
    energies = [found.theta[found.model.components[i].energy] for i in found.model.faint]
    assert energies == [1540.0, 1575.0]
    assert found.faint.where == (1645.0, 1675.0) and found.faint.lines == lines
    alone = with_faint_lines(fit, lines[2:])
    assert alone.faint.before == alone.faint.after and alone.model is fit.model
    assert "No line below detection changes" in alone.summary()


def test_foretold_counts_act():
    """A line of a seen nuclide has more counts, and one foretold far too strong is as any other."""
    fit = fit_spectrum(SEEN, spectrum())

    def counts(foretold):
        found = with_faint_lines(fit, [replace(LINES[1], counts=foretold)])
        return found.values["F_faint_1"]

    assert counts(30.0) > 1.2 * counts(None)
    assert counts(1e4) == counts(None)


def test_without_lines_the_width_is_a_typical_one():
    model = line_model([], k=20.0, index=-1.0, pivot=1600.0)
    counts = np.random.default_rng(1).poisson(100.0, EDGES.size - 1).astype(float)
    fit = with_faint_lines(fit_spectrum(model, EnergySpectrum(EDGES, counts)), LINES)
    assert fit.values["sigma_faint"] == 3.0 and len(fit.model.faint) == 3


def test_refits_marginalise_anew(plain, marginalised):
    other = refit(marginalised, from_best(marginalised), spectrum((0.0, 0.0, 0.0), seed=2))
    assert other.faint.lines == LINES and other.values["F_faint_1"] < 40.0
    assert refit(plain, from_best(plain), plain.spectrum).faint is None
    assert 0 < toy_p_value(marginalised, 5, rng=1)[0] <= 1


def test_json_keeps_them(marginalised):
    read = LineBackgroundFit.from_json(marginalised.to_json())
    assert read.faint == marginalised.faint
    np.testing.assert_allclose(read.covariance, marginalised.covariance)
    before, after = (x.expected_counts((1550.0, 1600.0)) for x in (marginalised, read))
    np.testing.assert_allclose(before.covariance, after.covariance)
    assert read.summary() == marginalised.summary()


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda d: d.pop("faint_lines"), "faint_lines is missing"),
        (lambda d: d["faint_lines"].update(effective=7.0), "effective is no number"),
        (lambda d: d["faint_lines"]["lines"].clear(), "0 faint lines, the model has 3"),
        (lambda d: d["faint_lines"].update(range=[2.0, 1.0]), "range of the faint lines is empty"),
        (lambda d: d["components"][0].update(faint=True), "powerlaw is no line, and faint"),
        (lambda d: d["components"][1].update(faint=True), "a parameter of a faint line is free"),
        (lambda d: d["parameters"]["mu_faint_2"].update(free=True), "of a faint line is free"),
    ],
)
def test_damaged_files_are_refused(marginalised, damage, message):
    import json

    data = json.loads(marginalised.to_json())
    damage(data)
    with pytest.raises(FileError, match=message):
        LineBackgroundFit.from_json(json.dumps(data))


def test_what_cannot_be_marginalised_or_sampled(marginalised):
    with pytest.raises(DataError, match="faint lines already"):
        with_faint_lines(marginalised, LINES)
    with pytest.raises(DataError, match="not sampled"):
        marginalised.sample(100)


def test_part_of_the_covariance_that_noise_makes(plain, marginalised):
    noise, response, of_faint = marginalised.covariance_parts
    np.testing.assert_allclose(
        noise + response @ of_faint @ response.T, marginalised.covariance, rtol=1e-9
    )
    n = len(plain.covariance_names)
    # of the fit with the lines held at their means
    mean = marginalised.theta[[marginalised.model.components[i].area for i in (2, 3, 4)]]
    shapes = marginalised.component_spectra[2:]
    assert shapes.sum(axis=1) == pytest.approx(mean, rel=1e-3)
    held = fit_spectrum(from_best(plain), plain.spectrum, offset=shapes.sum(axis=0))
    np.testing.assert_allclose(noise[:n, :n], held.covariance, rtol=1e-3, atol=1e-12)
    scale = np.abs(marginalised.covariance).max()
    np.testing.assert_allclose(noise[n:], 0.0, atol=1e-12 * scale)
    noise, response, of_faint = plain.covariance_parts
    np.testing.assert_array_equal(noise, plain.covariance)
    assert response.shape == (n, 0) and of_faint.shape == (0, 0)
