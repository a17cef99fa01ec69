"""A fit as JSON: what is kept, and what is refused."""

import json
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from fits import TWO_LINES, function_model
from hostile import STRANGE, changed, places
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from cosi_linebkg_plugin.errors import FileError, FitError, LineBackgroundError
from cosi_linebkg_plugin.fit.minimise import fit_spectrum, from_best
from cosi_linebkg_plugin.fit.result import LineBackgroundFit
from cosi_linebkg_plugin.spectrum.components import Component, Parameter, SpectralModel
from cosi_linebkg_plugin.spectrum.laws import Law
from cosi_linebkg_plugin.spectrum.priors import Prior


@pytest.mark.parametrize("model", [TWO_LINES, function_model()], ids=["closed", "function"])
def test_json_round_trip(two_lines, model, tmp_path):
    fit = fit_spectrum(model, two_lines)
    fit.to_json(tmp_path / "fit.json", source_range=(1805, 1812))
    back = LineBackgroundFit.from_json(tmp_path / "fit.json")
    assert back.values == fit.values and back.errors == fit.errors
    assert back.deviance == pytest.approx(fit.deviance, rel=1e-9)
    assert back.mask == fit.mask and back.valid and back.versions == fit.versions
    a, b = (f.expected_counts((1805, 1812.3)) for f in (fit, back))
    assert_allclose(b.values, a.values, rtol=1e-9)
    assert_allclose(b.covariance, a.covariance, rtol=1e-5)
    data = json.loads((tmp_path / "fit.json").read_text())
    assert set(data) >= {"valid", "deviance", "dof", "p_value", "mask", "parameters", "covariance",
                         "source_counts", "versions"}  # fmt: skip
    assert data["parameters"]["piv_1"] == {
        "value": 1800.0, "error": None, "unit": "keV", "free": False, "limits": [None, None]
    }  # fmt: skip
    assert data["source_counts"]["continuum"]["value"] == pytest.approx(
        fit.expected_counts((1805, 1812)).values[0]
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [("{]", "is not JSON"), ("{}", "is no fit of this package"), ('{"format": "x"}', "no fit")],
)
def test_damaged_json_is_named(tmp_path, text, message):
    (tmp_path / "fit.json").write_text(text)
    with pytest.raises(FileError, match=f"fit.json.*{message}"):
        LineBackgroundFit.from_json(tmp_path / "fit.json")
    with pytest.raises(FileError, match="missing.json does not exist"):
        LineBackgroundFit.from_json(tmp_path / "missing.json")


def test_a_failed_fit_can_be_written(two_lines, tmp_path):
    parameters = (*TWO_LINES.parameters, Parameter("K_9", 1500.0, "1/keV", 1e-10))
    _, piv, index = TWO_LINES.components[0].slots
    same = Component("powerlaw", (len(parameters) - 1, piv, index))
    model = SpectralModel(parameters, (*TWO_LINES.components, same), TWO_LINES.links)
    with pytest.raises(FitError) as caught:
        fit_spectrum(model, two_lines)
    caught.value.result.to_json(tmp_path / "failed.json")
    back = LineBackgroundFit.from_json(tmp_path / "failed.json")
    assert not back.valid and "do not tell apart" in back.message
    assert np.isnan(back.covariance).all()


def with_law_and_prior():
    f2, f3 = (TWO_LINES.names.index(name) for name in ("F_2", "F_3"))
    parameters = tuple(
        replace(p, free=False) if p.name == "F_3" else p for p in TWO_LINES.parameters
    )
    parameters = tuple(
        replace(p, prior=Prior("Truncated_gaussian", (8e3, 500.0, 0.0, np.inf)))
        if p.name == "F_2"
        else p
        for p in parameters
    )
    law = Law("Line", (0.0, 0.625))
    return replace(TWO_LINES, parameters=parameters, derived=((f3, f2, law),))


def test_limits_of_priors_may_be_infinite(two_lines):
    fit = fit_spectrum(with_law_and_prior(), two_lines)
    back = LineBackgroundFit.from_json(fit.to_json())
    assert back.model.parameters == from_best(fit).parameters
    assert back.model.derived == fit.model.derived


@given(st.sampled_from(STRANGE), st.sampled_from(["replace", "remove", "double"]), st.data())
@settings(max_examples=60, deadline=None,
          suppress_health_check=[HealthCheck.function_scoped_fixture])  # fmt: skip
def test_strange_laws_and_priors_are_refused_or_used(two_lines, value, how, data):
    """As tests/robustness does with whole files."""
    text = strange_text(two_lines)
    inside = [p for p in places(json.loads(text)["parameters"]) if {"law", "prior"} & set(p)]
    place = ("parameters", *data.draw(st.sampled_from(inside)))
    changed_text = json.dumps(changed(json.loads(text), place, value, how))
    try:
        fit = LineBackgroundFit.from_json(changed_text)
    except LineBackgroundError as error:
        assert str(error).isprintable() and 20 < len(str(error)) < 1500
    else:
        with np.errstate(all="ignore"):
            assert str(fit) and fit.to_json()


@cache
def _text(key):
    return fit_spectrum(with_law_and_prior(), _SPECTRA[key]).to_json()


_SPECTRA = {}


def strange_text(spectrum):
    _SPECTRA.setdefault("one", spectrum)
    return _text("one")


def test_the_first_problem_is_named_with_its_place(two_lines):
    data = json.loads(fit_spectrum(TWO_LINES, two_lines).to_json())
    for place, value, message in (
        (("parameters", "K_1", "value"), "x", r"parameters.K_1.value: value is 'x'"),
        (("parameters", "K_1", "limits"), [1], r"parameters.K_1.limits"),
        (("spectrum", "counts"), None, r"spectrum.counts: counts is None, but must be n numbers"),
        (("n_calls",), True, r"n_calls is True, but must be a finite number"),
        (("toys",), [2.0, 5], r"toys.0: .* from 0 to 1"),
    ):
        text = json.dumps(changed(data, place, value, "replace"))
        with pytest.raises(FileError, match=message):
            LineBackgroundFit.from_json(text)
    del data["engine"]
    with pytest.raises(FileError, match="'engine' is missing"):
        LineBackgroundFit.from_json(json.dumps(data))
