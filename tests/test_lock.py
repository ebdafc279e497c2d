"""The lock files say everything that an agent's environment needs, for both platforms, and nothing of this machine."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
ARCHITECTURES = ("x86_64", "aarch64")
PIN = re.compile(r"([A-Za-z0-9._-]+)==(\S+)((?: \\\n    --hash=sha256:[0-9a-f]{64})+)$", re.M)


def pins(kind: str, architecture: str) -> dict[str, str]:
    """Locked version of each distribution; every line of the file must belong to a hashed pin or be a comment."""
    text = (ROOT / "requirements" / f"{kind}-{architecture}.txt").read_text(encoding="utf-8")
    rest = re.sub(r"^#.*$", "", PIN.sub("", text), flags=re.M)
    assert not rest.strip(), f"not a hashed pin: {rest.strip()[:200]}"
    return {canonicalize_name(name): version for name, version, _ in PIN.findall(text)}


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("kind", ["agent", "demo"])
def test_lock_satisfies_what_the_project_declares(kind: str, architecture: str) -> None:
    wanted = PROJECT["dependencies"] + (PROJECT["optional-dependencies"]["demo"] if kind == "demo" else [])
    locked = pins(kind, architecture)
    for requirement in map(Requirement, wanted):
        version = locked.get(canonicalize_name(requirement.name))
        assert version is not None, f"{requirement} is not locked: run `make lock`"
        assert requirement.specifier.contains(version), f"{requirement} but {version} is locked: run `make lock`"


@pytest.mark.parametrize("kind", ["agent", "demo"])
def test_both_platforms_run_the_same_versions(kind: str) -> None:
    assert pins(kind, "x86_64") == pins(kind, "aarch64")


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_demo_is_the_agent_and_its_broker(architecture: str) -> None:
    assert pins("agent", architecture).items() <= pins("demo", architecture).items()


@pytest.mark.parametrize("path", sorted((ROOT / "requirements").glob("*.txt")), ids=lambda p: p.name)
def test_no_lock_names_an_index_a_path_or_the_factory(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert not re.search(r"https?:|file:/|--(extra-)?index-url|--find-links|@ |(?<!\w)/\w+/", text)
    assert not re.search(r"^(torch|nvidia|pandas|scipy|xarray|onnx==|triton)", text, re.M)
