"""The limits the agent knows are the ones written down for each device."""

from __future__ import annotations

import tomllib
from dataclasses import asdict
from pathlib import Path
from typing import get_args

import pytest

from edge_agent.bundle.devices import DEVICES
from edge_agent.bundle.manifest import Device

FOLDER = Path(__file__).resolve().parents[2] / "firmware_configs" / "devices"


@pytest.mark.parametrize("device", get_args(Device))
def test_the_table_and_the_file_agree(device: Device) -> None:
    written = tomllib.loads((FOLDER / f"{device}.toml").read_text())
    assert written == {"name": device} | asdict(DEVICES[device])


def test_there_is_one_file_for_each_device() -> None:
    assert {path.stem for path in FOLDER.glob("*.toml")} == set(get_args(Device)) == set(DEVICES)
