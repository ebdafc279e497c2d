"""The wheel, installed alone from the lock as a station operator does: small, without torch, and it works."""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

pytestmark = pytest.mark.system

ROOT = Path(__file__).resolve().parent.parent.parent
LOCK = ROOT / "requirements" / f"agent-{platform.machine()}.txt"
NEVER = ("torch", "nvidia", "triton", "pandas", "scipy", "xarray", "onnx", "lightgbm", "scikit-learn")


def run(*command: str | Path, cwd: Path) -> str:
    """Standard output of a command that must succeed; the child sees none of this environment's packages."""
    clean = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "VIRTUAL_ENV", "PYTHONHOME")}
    done = subprocess.run(command, capture_output=True, text=True, cwd=cwd, env=clean, timeout=600, check=False)
    assert done.returncode == 0, f"{' '.join(map(str, command))}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
    return done.stdout


@pytest.fixture(scope="module", autouse=True)
def index(tmp_path_factory: pytest.TempPathFactory) -> None:
    """A package index that pip reaches; without one these tests cannot be run."""
    target = str(tmp_path_factory.mktemp("index"))
    reach = [
        sys.executable,
        "-m",
        "pip",
        "download",
        "--quiet",
        "--no-deps",
        "--retries",
        "0",
        "--dest",
        target,
        "click",
    ]
    if subprocess.run(reach, capture_output=True, timeout=600, check=False).returncode:
        pytest.skip("pip reaches no package index from here")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package's wheel, built from a copy of the sources so that nothing is left in the tree."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    source.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    for name in ("edge_agent", "model_factory"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    run(sys.executable, "-m", "build", "--wheel", "--outdir", folder, source, cwd=folder)
    return next(folder.glob("stationcast-*.whl"))


@pytest.fixture(scope="module")
def agent(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fresh environment's bin folder: the lock with its hashes, then the wheel and nothing else."""
    if not LOCK.exists():
        pytest.skip(f"no lock for {platform.machine()}")
    folder = tmp_path_factory.mktemp("agent")
    run(sys.executable, "-m", "venv", folder, cwd=folder)
    pip: tuple[str | Path, ...] = (folder / "bin" / "python", "-m", "pip")
    run(*pip, "install", "--require-hashes", "--only-binary", ":all:", "--requirement", LOCK, cwd=folder)
    run(*pip, "install", "--no-deps", wheel, cwd=folder)
    run(*pip, "check", cwd=folder)
    return folder / "bin"


def test_agents_environment_holds_no_torch_and_no_gpu_library(agent: Path) -> None:
    listed = json.loads(run(agent / "python", "-m", "pip", "list", "--format", "json", cwd=agent))
    names = {entry["name"].lower() for entry in listed}
    assert {"stationcast", "onnxruntime", "numpy", "paho-mqtt"} <= names
    assert not [name for name in names if name.split("-")[0] in NEVER or name in NEVER]


def test_installed_command_prints_its_help(agent: Path) -> None:
    text = run(agent / "edge-agent", "--help", cwd=agent)
    assert "edge-agent demo" in text
    assert "edge-agent run" in text


def test_installed_agent_shows_the_bundle_it_ships(agent: Path) -> None:
    manifest = json.loads(run(agent / "edge-agent", "bundle", "show", "--json", cwd=agent))
    assert manifest["precision"] == "int8"
    assert manifest["task"] == "station"


def test_wheel_carries_what_the_commands_need(wheel: Path) -> None:
    """Data files are easily forgotten: the bundle, the wire's schemas, the demo's recordings, the licence."""
    names = zipfile.ZipFile(wheel).namelist()
    for needed in (
        "edge_agent/bundle/default.bundle",
        "edge_agent/publish/schemas/",
        "edge_agent/demo/data/",
        ".dist-info/licenses/LICENSE",
    ):
        assert any(needed in name for name in names), f"{needed} is not in the wheel"
    assert not [name for name in names if name.startswith("tests/")]
