"""Fixtures shared by the whole suite."""

import os
from pathlib import Path

import pytest

CSI300 = Path(os.environ.get("MIMSTOCR_CSI300", Path(__file__).resolve().parents[2] / "shared/data/csi300"))


@pytest.fixture(scope="session")
def csi300() -> Path:
    """A folder of real CSI 300 data in Qlib's format; tests that need it skip without it."""
    if not (CSI300 / "calendars/day.txt").is_file():
        pytest.skip(f"no CSI 300 data at {CSI300}; set MIMSTOCR_CSI300 to a folder in Qlib's format")
    return CSI300
