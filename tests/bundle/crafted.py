"""Bundles made wrong on purpose, for the tests beside."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import onnx
import pytest

from edge_agent.bundle.reader import read_bundle
from edge_agent.errors import BundleError
from tests.tiny_bundle import make_tiny_bundle, tiny_golden, tiny_manifest, tiny_model, write_zip


def refused(path: Path, **options: Any) -> BundleError:
    """The error with which a file is refused."""
    with pytest.raises(BundleError) as caught:
        read_bundle(path, **options)
    return caught.value


def files() -> dict[str, bytes]:
    """The tiny bundle's files without bundle.json."""
    return {"model.onnx": tiny_model(), "golden.npz": tiny_golden(), "card.md": b"# tiny\n"}


def with_manifest(path: Path, change: Any) -> Path:
    """A tiny bundle whose manifest `change` has edited in place."""
    manifest = tiny_manifest(files())
    manifest = json.loads(json.dumps(manifest))
    change(manifest)
    write_zip(path, {"bundle.json": json.dumps(manifest).encode()} | files())
    return path


def with_model(path: Path, change: Any, **changes: Any) -> Path:
    """A tiny bundle whose graph `change` has edited in place."""
    model = onnx.load_from_string(tiny_model())
    change(model)
    return make_tiny_bundle(path, model=model.SerializeToString(), **changes)


def directory_at(raw: bytes | bytearray) -> int:
    """Where the zip's directory begins."""
    return int.from_bytes(raw[-6:-2], "little")
