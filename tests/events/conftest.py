"""Events that the tests of this folder share."""

import pytest
from binned import N
from event_lists import make_events, write_hdf5


@pytest.fixture(scope="module")
def columns():
    return make_events(N, duration=1000.0)


@pytest.fixture(scope="module")
def path(columns, tmp_path_factory):
    return write_hdf5(tmp_path_factory.mktemp("events") / "events.hdf5", columns)
