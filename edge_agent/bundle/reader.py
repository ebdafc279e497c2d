"""Reading a bundle: one uncompressed zip becomes a checked `Bundle`, or is refused by name.

Everything is bounded before it is read, and nothing in the file is executed: running a model is for `golden` (in a
child process) and `inference`. A file that passes here is well formed, not necessarily good.
"""

from __future__ import annotations

import hashlib
import io
import logging
import re
import stat
import struct
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from edge_agent.bundle.check import LITERT, check_manifest, check_model, decode_manifest
from edge_agent.bundle.limits import Limits
from edge_agent.bundle.manifest import Device, FileEntry, Manifest
from edge_agent.errors import BundleError

log = logging.getLogger(__name__)

MANIFEST, MODEL, GOLDEN, CARD = "bundle.json", "model.onnx", "golden.npz", "card.md"
TFLITE = "model.tflite"  # in place of model.onnx, for the other runtime
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}")
_END = struct.Struct("<4s4H2LH")  # end of central directory: signature, 4 counts, size, offset, length of the comment


@dataclass(frozen=True, slots=True)
class Bundle:
    """A bundle that passed every check. `digest`: sha256 of the whole file; `trust`: `package` for the one that came
    with the agent, else `unsigned`; `manifest_json`: bundle.json as it stands; `plots`: PNG files by name."""

    manifest: Manifest
    model: bytes
    golden: bytes
    card: str
    digest: str
    trust: Literal["package", "unsigned"]
    manifest_json: bytes
    plots: Mapping[str, bytes]


def default_bundle() -> Path:
    """The bundle shipped with the agent."""
    return Path(__file__).parent / "default.bundle"


def read_bundle(
    path: Path,
    *,
    device: Device | None = None,
    allow_unsigned: bool = True,
    limits: Limits | None = None,
    quiet: bool = False,
) -> Bundle:
    """The bundle in a file, checked against the manifest, the task's tensors and the graph itself.

    Args:
        device: also hold it against this device class's limits.
        allow_unsigned: False refuses every file but the one shipped with the agent.
        quiet: no warning that it is not signed, as of a file this process has just written.

    Raises:
        BundleError: refused; the words are listed in docs/bundle.md.
    """
    limits = limits or Limits()
    trust: Literal["package", "unsigned"] = "package" if _is_packaged(path) else "unsigned"
    raw = _read_file(path, limits)
    members = _read_members(raw, limits)
    manifest = decode_manifest(members[MANIFEST])
    _check_files(manifest.files, members)
    model = members.get(TFLITE if LITERT in manifest.runtime else MODEL)
    if model is None or (MODEL in members and TFLITE in members):
        raise BundleError("missing-file", "its one model is not that of the runtime it names")
    check_manifest(manifest, device, len(model))
    check_model(manifest, model)
    if trust == "unsigned" and not allow_unsigned:
        raise BundleError("unsigned", "it is not signed and the configuration does not allow that")
    if trust == "unsigned" and not quiet:
        log.warning(
            "bundle %s (%s) is not signed: whoever could write the file decides the forecasts", manifest.name, path
        )
    return Bundle(
        manifest=manifest,
        model=model,
        golden=members[GOLDEN],
        card=_text(members[CARD]),
        digest=hashlib.sha256(raw).hexdigest(),
        trust=trust,
        manifest_json=members[MANIFEST],
        plots={name: content for name, content in members.items() if name.endswith(".png")},
    )


def _is_packaged(path: Path) -> bool:
    shipped = default_bundle()
    return path.exists() and shipped.exists() and path.resolve() == shipped.resolve()


def _read_file(path: Path, limits: Limits) -> bytes:
    """The whole file; only regular files, so that a pipe cannot block."""
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise BundleError("unreadable", f"{path} is not a regular file")
        if status.st_size > limits.bundle_bytes:
            raise BundleError("oversize", f"the file has {status.st_size} bytes, allowed are {limits.bundle_bytes}")
        with path.open("rb") as file:
            raw = file.read(limits.bundle_bytes + 1)
    except OSError as error:
        raise BundleError("unreadable", f"{path}: {error.strerror}") from error
    if len(raw) > limits.bundle_bytes:
        raise BundleError("oversize", f"the file has more than {limits.bundle_bytes} bytes")
    return raw


def _read_members(raw: bytes, limits: Limits) -> dict[str, bytes]:
    """Every file in the zip, by name, once the zip's directory is known to be harmless."""
    _check_directory(raw, limits)
    try:
        with zipfile.ZipFile(io.BytesIO(raw)) as archive:
            entries = archive.infolist()
            _check_entries(entries, limits)
            if sum(entry.file_size for entry in entries) > len(raw):
                raise BundleError("oversize", "its files overlap: together they are larger than the zip")
            members = {entry.filename: archive.read(entry) for entry in entries}
    except (zipfile.BadZipFile, NotImplementedError, struct.error, zlib.error, EOFError, ValueError) as error:
        raise BundleError("not-a-zip", f"the zip is damaged: {error}") from error
    for name in (MANIFEST, MODEL, GOLDEN, CARD):
        if name not in members and not (name == MODEL and TFLITE in members):
            raise BundleError("missing-file", f"there is no {name} in it")
    return members


def _check_directory(raw: bytes, limits: Limits) -> None:
    """Bound the zip's directory before anything parses it: no comment, no zip64, few entries, nothing around it."""
    if raw[:4] != b"PK\x03\x04" or len(raw) < _END.size or raw[-_END.size :][:4] != b"PK\x05\x06":
        raise BundleError("not-a-zip", "it is not a zip file, or it was cut short")
    _, disk, first_disk, here, total, size, offset, _ = _END.unpack(raw[-_END.size :])
    if raw[-42:-38] == b"PK\x06\x07" or disk or first_disk or here != total:
        raise BundleError("not-a-zip", "it is a zip64 or split archive; a plain zip is needed")
    if total > limits.files or size > limits.directory_bytes:
        raise BundleError("oversize", f"it lists {total} files, allowed are {limits.files}")
    if offset + size + _END.size != len(raw):
        raise BundleError("not-a-zip", "there are bytes around the zip that do not belong to it")


def _check_entries(entries: list[zipfile.ZipInfo], limits: Limits) -> None:
    seen: set[str] = set()
    for entry in entries:
        name = entry.orig_filename
        _check_name(name)
        if name.casefold() in seen:
            raise BundleError("duplicate-name", f'"{name}" stands in it twice')
        seen.add(name.casefold())
        kind = stat.S_IFMT(entry.external_attr >> 16)
        if kind not in (0, stat.S_IFREG):
            raise BundleError("symlink", f'"{name}" is a link or a special file')
        if entry.flag_bits & 0x1:
            raise BundleError("encrypted", f'"{name}" is encrypted')
        if entry.compress_type != zipfile.ZIP_STORED or entry.compress_size != entry.file_size:
            raise BundleError("compressed", f'"{name}" is compressed; a bundle is stored as it is')
        allowed = limits.bytes_of(name)
        if entry.file_size > allowed:
            raise BundleError("oversize", f'"{name}" has {entry.file_size} bytes, allowed are {allowed}')


def _check_name(name: str) -> None:
    if "\\" in name or "/" in name or name.startswith("..") or ":" in name or not _NAME.fullmatch(name):
        raise BundleError("unsafe-name", f"{name[:80]!r}: names are plain, without folders: letters, digits, _ . -")
    if name not in (MANIFEST, MODEL, TFLITE, GOLDEN, CARD) and not name.endswith(".png"):
        raise BundleError("unknown-file", f'"{name}" is no part of a bundle')


def _check_files(listed: tuple[FileEntry, ...], members: Mapping[str, bytes]) -> None:
    """Names, sizes and digests of bundle.json against what is there."""
    names = [entry.name for entry in listed]
    if len(set(names)) != len(names):
        raise BundleError("duplicate-name", "bundle.json lists a file twice")
    for name in members:
        if name not in names and name != MANIFEST:
            raise BundleError("unlisted-file", f'"{name}" is not listed in bundle.json')
    for entry in listed:
        content = members.get(entry.name)
        if content is None or entry.name == MANIFEST:
            raise BundleError("missing-file", f'bundle.json lists "{entry.name[:80]}", which is not in the zip')
        if len(content) != entry.bytes:
            raise BundleError(
                "size-mismatch", f'"{entry.name}" has {len(content)} bytes, bundle.json says {entry.bytes}'
            )
        if hashlib.sha256(content).hexdigest() != entry.sha256:
            raise BundleError("digest-mismatch", f'"{entry.name}" is not what bundle.json says (sha256 differs)')


def _text(card: bytes) -> str:
    try:
        return card.decode()
    except UnicodeDecodeError:
        raise BundleError("card", "card.md is not UTF-8 text") from None
