"""The spectral model: which parameters its components take, and counts anywhere on the axis."""

from dataclasses import replace

import pytest
from fits import EDGES, TWO_LINES, function_model
from numpy.testing import assert_allclose

from cosi_linebkg_plugin.errors import BinningError, ModelError
from cosi_linebkg_plugin.spectrum.components import (
    BENT_CONTINUA,
    ROLES,
    SpectralModel,
    bin_counts,
    counts_in_bins,
    range_counts,
    tabulate,
)


@pytest.mark.parametrize("kind", ["powerlaw", *BENT_CONTINUA])
def test_continua_begin_with_what_a_fit_starts_from(kind):
    """`fit.guess` finds pivot and index by their places."""
    amplitude, pivot, index, *_ = ROLES[kind]
    assert (amplitude, pivot) == ("K", "piv") and index in ("index", "alpha")


def test_lines_and_continuum_by_their_parameters():
    model = TWO_LINES
    assert model.lines == (1, 2) and model.continuum == (0,)
    assert [model.names[model.components[i].area] for i in model.lines] == ["F_2", "F_3"]
    assert [model.names[model.components[i].energy] for i in model.lines] == ["mu_2", "mu_3"]
    assert {model.names[i] for i in model.continuum_slots} == {"K_1", "piv_1", "index_1"}
    assert [model.names[i] for i in model.slots(["mu_3", "K_1"])] == ["mu_3", "K_1"]
    assert model.component_name(0, model.values) == "continuum"
    assert model.component_name(1, model.values) == "1633.00 keV"


def test_ranges_add_up_to_bins():
    theta = TWO_LINES.values
    whole, _ = bin_counts(TWO_LINES, theta, EDGES)
    assert whole.shape == (3, 100)
    counts, jac = range_counts(TWO_LINES, theta, 1600.0, 1702.5, EDGES)
    parts = counts_in_bins(TWO_LINES, theta, 1600.0, 1702.5, EDGES)
    assert_allclose(parts.sum(axis=1), counts, rtol=1e-12)
    assert_allclose(parts[:, 20:40], whole[:, 20:40], rtol=1e-9, atol=1e-9)
    assert jac.shape == (3, len(TWO_LINES.parameters))
    with pytest.raises(BinningError, match="outside the energy axis"):
        range_counts(TWO_LINES, theta, 1400.0, 1600.0, EDGES)


def test_a_table_keeps_counts_and_derivatives_of_a_function():
    model = function_model()
    kept = tabulate(model, model.values, EDGES)
    assert kept.components[0].table.shape[:2] == (3, 100)
    for low, high in ((1500.0, 2000.0), (1612.3, 1618.9)):
        a, b = (range_counts(m, m.values, low, high, EDGES) for m in (model, kept))
        assert_allclose(b[0], a[0], rtol=1e-10)
        assert_allclose(b[1], a[1], rtol=1e-6, atol=1e-9)
    assert_allclose(bin_counts(kept, kept.values, EDGES)[1],
                    bin_counts(model, model.values, EDGES)[1], rtol=1e-6, atol=1e-9)  # fmt: skip
    first = replace(kept.components[0], density=None)
    kept = replace(kept, components=(first, *kept.components[1:]))
    with pytest.raises(ModelError, match="read from a file"):
        kept.bind(EDGES).counts_and_jacobian(kept.values)  # "'NoneType' object is not callable"


def test_a_model_needs_a_component():
    with pytest.raises(ModelError, match="no component"):
        SpectralModel((), ())
