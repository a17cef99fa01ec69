"""Fixtures shared by the tests."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


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
