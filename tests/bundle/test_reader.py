"""A bundle is read whole and checked, or refused by a word an operator can look up in docs/bundle.md."""

from __future__ import annotations

import json
import logging
import os
import re
import stat
import struct
import zipfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edge_agent.bundle import reader, station_task
from edge_agent.bundle.limits import Limits
from edge_agent.bundle.reader import read_bundle
from edge_agent.errors import BundleError
from tests.bundle.crafted import directory_at, files, refused
from tests.tiny_bundle import make_tiny_bundle, tiny_manifest, tiny_model, write_zip

ROOT = Path(__file__).resolve().parents[2]


def test_a_good_bundle_is_read_with_all_it_holds(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = make_tiny_bundle(tmp_path / "a.bundle", extra={"skill.png": b"\x89PNG"}, counter=7)
    with caplog.at_level(logging.WARNING):
        bundle = read_bundle(path, device="raspberry_pi_4")
    assert bundle.manifest.counter == 7
    assert bundle.manifest.output_variables() == station_task.OUTPUT_VARIABLES
    assert bundle.model == tiny_model()
    assert bundle.plots == {"skill.png": b"\x89PNG"}
    assert json.loads(bundle.manifest_json)["name"] == "tiny"
    assert "last value" in bundle.card
    assert bundle.trust == "unsigned"
    assert "not signed" in caplog.text


def test_an_unsigned_file_is_refused_where_the_configuration_says_so(tmp_path: Path) -> None:
    error = refused(make_tiny_bundle(tmp_path / "a.bundle"), allow_unsigned=False)
    assert error.refused == "unsigned"


def test_the_bundle_in_the_package_is_trusted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    shipped = make_tiny_bundle(tmp_path / "default.bundle")
    monkeypatch.setattr(reader, "default_bundle", lambda: shipped)
    assert read_bundle(shipped, allow_unsigned=False).trust == "package"
    assert not caplog.records


def test_what_is_not_a_zip_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.bundle"
    for content in (b"", b"PK\x03\x04", b"hello" * 100, make_tiny_bundle(path).read_bytes()[:-5]):
        path.write_bytes(content)
        assert refused(path).refused == "not-a-zip"


def test_bytes_before_or_after_the_zip_are_refused(tmp_path: Path) -> None:
    path = make_tiny_bundle(tmp_path / "a.bundle")
    good = path.read_bytes()
    for content in (b"#!/bin/sh\n" + good, good + b"more", b"PK\x03\x04" + good):
        path.write_bytes(content)
        assert refused(path).refused == "not-a-zip"


def test_missing_files_folders_and_pipes_are_refused_at_once(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for path in (tmp_path / "none", tmp_path, pipe):
        assert refused(path).refused == "unreadable"


def test_compressed_entries_are_refused(tmp_path: Path) -> None:
    path = make_tiny_bundle(tmp_path / "a.bundle", compression=zipfile.ZIP_DEFLATED)
    assert refused(path).refused == "compressed"


def test_encrypted_entries_are_refused(tmp_path: Path) -> None:
    path = make_tiny_bundle(tmp_path / "a.bundle")
    raw = bytearray(path.read_bytes())
    raw[directory_at(raw) + 8] |= 1
    path.write_bytes(bytes(raw))
    assert refused(path).refused == "encrypted"


UNSAFE = (
    "../evil.png",
    "/etc/evil.png",
    "a/b.png",
    "a\\b.png",
    "..\\b.png",
    "C:b.png",
    ".hidden.png",
    "",
    "a\nb.png",
    "é.png",
)


@pytest.mark.parametrize("name", [*UNSAFE, "x" * 80 + ".png"])
def test_names_that_could_leave_the_folder_are_refused(tmp_path: Path, name: str) -> None:
    assert refused(make_tiny_bundle(tmp_path / "a.bundle", extra={name: b"x"})).refused == "unsafe-name"


def test_a_name_cut_by_a_null_byte_is_refused(tmp_path: Path) -> None:
    path = make_tiny_bundle(tmp_path / "a.bundle", extra={"okay1.png": b"x"})
    path.write_bytes(path.read_bytes().replace(b"okay1.png", b"oka\x001.png"))
    assert refused(path).refused == "unsafe-name"


def test_files_of_other_kinds_are_refused(tmp_path: Path) -> None:
    for name in ("run.sh", "weights.pkl", "lib.so", "second.onnx", "golden.npz.bak"):
        assert refused(make_tiny_bundle(tmp_path / "a.bundle", extra={name: b"x"})).refused == "unknown-file"


def test_links_are_refused(tmp_path: Path) -> None:
    path = make_tiny_bundle(tmp_path / "a.bundle")
    link = zipfile.ZipInfo("link.png")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(link, "/etc/passwd")
    assert refused(path).refused == "symlink"


@pytest.mark.parametrize("twin", ["card.md", "CARD.md"])
def test_two_files_of_one_name_are_refused(tmp_path: Path, twin: str) -> None:
    path = make_tiny_bundle(tmp_path / "a.bundle")
    raw = path.read_bytes()
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("CARD.mx", "other")
    path.write_bytes(path.read_bytes().replace(b"CARD.mx", twin.encode()))
    assert raw != path.read_bytes()
    expected = {"card.md": "duplicate-name", "CARD.md": "unknown-file"}
    assert refused(path).refused == expected[twin]


def test_names_that_differ_only_in_case_are_refused(tmp_path: Path) -> None:
    path = make_tiny_bundle(tmp_path / "a.bundle", extra={"a.png": b"x", "A.png": b"y"})
    assert refused(path).refused == "duplicate-name"


def test_unlisted_and_missing_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.bundle"
    parts = files()
    manifest = json.dumps(tiny_manifest(parts)).encode()
    write_zip(path, {"bundle.json": manifest, "more.png": b"x"} | parts)
    assert refused(path).refused == "unlisted-file"
    for name in parts:
        write_zip(path, {"bundle.json": manifest} | {k: v for k, v in parts.items() if k != name})
        assert refused(path).refused == "missing-file"
    write_zip(path, parts)
    assert refused(path).refused == "missing-file"
    manifest = json.dumps(tiny_manifest(parts | {"skill.png": b"x"})).encode()
    write_zip(path, {"bundle.json": manifest} | parts)
    assert refused(path).refused == "missing-file"


def test_changed_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.bundle"
    parts = files()
    manifest = json.dumps(tiny_manifest(parts)).encode()
    write_zip(path, {"bundle.json": manifest} | parts | {"card.md": b"# tinY\n"})
    assert refused(path).refused == "digest-mismatch"
    write_zip(path, {"bundle.json": manifest} | parts | {"card.md": b"# tiny and longer\n"})
    assert refused(path).refused == "size-mismatch"


def test_damage_inside_the_zip_is_refused(tmp_path: Path) -> None:
    path = make_tiny_bundle(tmp_path / "a.bundle")
    raw = bytearray(path.read_bytes())
    raw[raw.index(b"# tiny")] ^= 1
    path.write_bytes(bytes(raw))
    assert refused(path).refused == "not-a-zip"


@pytest.mark.parametrize(
    "limits",
    [
        Limits(bundle_bytes=1000), Limits(json_bytes=1000), Limits(files=3), Limits(card_bytes=5),
        Limits(model_bytes=1000), Limits(golden_bytes=1000), Limits(directory_bytes=100),
    ],
)  # fmt: skip
def test_oversize_is_refused_before_it_is_read(tmp_path: Path, limits: Limits) -> None:
    assert refused(make_tiny_bundle(tmp_path / "a.bundle"), limits=limits).refused == "oversize"


def test_entries_that_share_bytes_cannot_multiply_them(tmp_path: Path) -> None:
    path = make_tiny_bundle(tmp_path / "a.bundle", extra={"a.png": b"x" * 200_000, "b.png": b"y" * 200_000})
    raw = bytearray(path.read_bytes())
    at = directory_at(raw)
    while raw[at : at + 4] == b"PK\x01\x02":  # let every plot claim most of the file
        name = int.from_bytes(raw[at + 28 : at + 30], "little")
        if raw[at + 46 : at + 46 + name].endswith(b".png"):
            raw[at + 20 : at + 28] = struct.pack("<LL", 400_000, 400_000)
        at += 46 + name
    path.write_bytes(bytes(raw))
    assert refused(path).refused in ("oversize", "not-a-zip")


@given(st.data())
@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_damaged_file_is_refused_or_read_never_a_crash(tmp_path: Path, data: st.DataObject) -> None:
    path = make_tiny_bundle(tmp_path / "a.bundle")
    raw = bytearray(path.read_bytes())
    directory = directory_at(raw)
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.one_of(st.integers(0, len(raw) - 1), st.integers(directory, len(raw) - 1)))
        raw[at] = data.draw(st.integers(0, 255))
    path.write_bytes(bytes(raw[: data.draw(st.one_of(st.just(len(raw)), st.integers(0, len(raw))))]))
    try:
        read_bundle(path)
    except BundleError as error:
        assert error.refused


def test_every_refusal_is_explained_in_the_documentation() -> None:
    """Words are stable names: docs/bundle.md lists each one the code can raise, and no other."""
    code = "\n".join(
        p.read_text() for room in ("bundle", "inference") for p in (ROOT / "edge_agent" / room).glob("*.py")
    )
    words = set(re.findall(r'BundleError\(\s*"([a-z-]+)"', code)) | {"input", "output", "oversize"}
    page = (ROOT / "docs" / "bundle.md").read_text()
    section = page.split("## Why a bundle is refused")[1].split("\n## ")[0]
    documented = set(re.findall(r"^\| `([a-z-]+)` \|", section, re.MULTILINE))
    assert words == documented
