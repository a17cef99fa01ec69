"""Copies of a model are made in silence; what astromodels says of real values is heard."""

import logging

import pytest
from astromodels import Gaussian, clone_model

from cosi_linebkg_plugin import background_model


@pytest.fixture
def said():
    """What passes the logger of astromodels' parameters."""
    records = []

    class Keep(logging.Handler):
        def emit(self, record):
            records.append(record.getMessage())

    logger, handler = logging.getLogger("astromodels.core.parameter"), Keep()
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.WARNING)
    yield records
    logger.removeHandler(handler)
    logger.setLevel(level)


@pytest.mark.parametrize("options", [{}, {"tail": True, "step": True}, {"width": "linear"}])
def test_a_copy_says_nothing_and_is_the_same(said, options):
    model = background_model([511.0, 1779.0, 1809.0], pivot=1800, sigma=1.5, **options)
    copy = clone_model(model)
    assert said == []
    for name, parameter in model.parameters.items():
        assert copy.parameters[name].value == parameter.value
        assert copy.parameters[name].bounds == parameter.bounds


def test_other_warnings_are_heard(said):
    background_model([1779.0])
    line = Gaussian()
    line.mu.value = 1700.0
    line.mu.min_value = 1750.0
    line.F.min_value = 2.0
    assert len(said) == 2 and "mu (1700.0) was below" in said[0] and "F (1.0)" in said[1]
