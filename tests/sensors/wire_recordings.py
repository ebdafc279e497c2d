"""Recordings of real devices, which are no part of the project: a test that needs one skips where it is not."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

CORPUS = Path(os.environ.get("STATIONCAST_CORPUS", Path(__file__).parents[2].parent / "shared" / "data"))


def recording(*parts: str) -> Path:
    """The path of a recording below `raw-sensors`."""
    path = CORPUS.joinpath("raw-sensors", *parts)
    if not path.exists():
        pytest.skip(f"{path} is not there: set STATIONCAST_CORPUS")
    return path
