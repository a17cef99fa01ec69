"""Fixtures shared by the tests."""

from __future__ import annotations

import os
from pathlib import Path

import hypothesis
import pytest

# The same examples in every run, so that a change is judged by what it changes; RANDOM_EXAMPLES=1
# draws others.
hypothesis.settings.register_profile("same", derandomize=True)
if not os.environ.get("RANDOM_EXAMPLES"):
    hypothesis.settings.load_profile("same")


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of published data sets; tests that need it are skipped where it is missing.

    It is COSI_LINEBKG_DATA, or shared/data beside the repository.
    """
    beside = Path(__file__).resolve().parents[2] / "shared" / "data"
    folder = Path(os.environ.get("COSI_LINEBKG_DATA", beside))
    if not folder.is_dir():
        pytest.skip(f"no published data sets in {folder}; set COSI_LINEBKG_DATA to their folder")
    return folder
