"""The agent on 64-bit ARM, emulated: Debian's Python, the locked wheels, Mosquitto. Tells nothing of speed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from tests.aarch64 import NoRoot, emulated, ready_root

pytestmark = pytest.mark.system

Emulate = Callable[..., "CompletedProcess[str]"]


@pytest.fixture(scope="module")
def root() -> Path:
    try:
        return ready_root()
    except NoRoot as reason:
        pytest.skip(f"no root for aarch64: {reason}")


def test_the_shipped_bundle_answers_its_golden_samples_on_arm(root: Path) -> None:
    done = emulated(root, "-m", "edge_agent.cli", "bundle", "show", "--verify", timeout_s=300)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "golden    verified here" in done.stdout


def test_the_demo_forecasts_with_the_bundle_on_arm(root: Path) -> None:
    done = emulated(root, "-m", "edge_agent.cli", "demo", "--once", timeout_s=600)
    assert done.returncode == 0, f"{done.stdout[-3000:]}\n{done.stderr[-1000:]}"
    assert "level nowcast-only" in done.stdout
