"""`model-factory promote`: the champion moves to what is not worse, and to nothing else."""

from __future__ import annotations

import shutil
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner

from edge_agent.bundle.reader import read_bundle
from edge_agent.errors import DataError
from model_factory.bundles.registry import Index, read_index
from model_factory.cli import main
from model_factory.verification.paired import save
from tests.factory.test_bundle_build import run
from tests.factory.test_gate import made, scaled

__all__ = ["run"]


def promote(candidate: Path, registry: Path, code: int) -> str:
    done = CliRunner().invoke(main, ["promote", str(candidate), "--registry", str(registry)])
    assert done.exit_code == code, done.output
    return done.output


def candidate(run: Path, name: str, by: float) -> Path:
    """A run whose model's errors are so many times those of the first one."""
    folder = run.parent / name
    shutil.copytree(run, folder)
    save(scaled(made(), by), folder)
    return folder


def test_a_better_candidate_becomes_champion_and_a_worse_one_does_not(run: Path, tmp_path: Path) -> None:
    registry = tmp_path / "registry"
    assert "promoted" in promote(candidate(run, "first", 1.0), registry, 0)
    refused = promote(candidate(run, "worse", 1.05), registry, 1)
    assert "refused" in refused and "above that of champion" in refused
    assert read_index(registry).champion == 1
    promote(candidate(run, "better", 0.97), registry, 0)
    index = read_index(registry)
    assert index.champion == 3 and [one.verdict for one in index.releases] == ["promoted", "refused", "promoted"]
    assert [one.champion_before for one in index.releases] == [None, 1, 1]
    current = index.current()
    assert current is not None
    bundle = read_bundle(registry / current.bundle)
    assert bundle.digest == current.sha256 and bundle.manifest.counter == 3
    assert "## The promotion gate" in bundle.card and "| champion | temperature | 0.970 | 7 of 7 |" in bundle.card


def test_a_registry_that_lost_its_champion_is_not_written_to(run: Path, tmp_path: Path) -> None:
    registry = tmp_path / "registry"
    registry.mkdir()
    (registry / "index.json").write_bytes(msgspec.json.encode(Index(champion=4)))
    with pytest.raises(DataError, match="release 4, is not there"):
        read_index(registry)
    (registry / "index.json").write_text("[]")
    with pytest.raises(DataError, match="not a registry's index"):
        read_index(registry)


def test_a_candidate_without_pairs_is_told_how_to_make_them(run: Path) -> None:
    done = CliRunner().invoke(main, ["promote", str(run)])
    assert done.exit_code == 1 and "model-factory evaluate" in done.output


def test_a_run_without_its_config_is_not_promoted(run: Path, tmp_path: Path) -> None:
    one = candidate(run, "one", 1.0)
    (one / "config.json").write_text("{}")
    assert "config.json" in promote(one, tmp_path / "registry", 1)


def test_a_registry_that_is_a_file_is_refused_before_anything_is_judged(run: Path, tmp_path: Path) -> None:
    file = tmp_path / "registry"
    file.write_text("mine")
    told = promote(candidate(run, "first", 1.0), file, 1)
    assert told.strip() == (
        f"model-factory: --registry {file}: is a file: name a folder, which is made where it is not there"
    )
    assert file.read_text() == "mine"
