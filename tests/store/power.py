"""Power cuts: what a process did to a folder, and the folders that a cut at any moment may leave behind.

The model. A flush makes what was written to its file before durable, a flush of the folder makes its names durable.
Everything else that was under way at the cut may have happened or not, sector by sector (512 bytes) and in any order:
of each sector one of the versions that were written since the last flush stands, or none of them. The length of a file
is one of those it had since. Sectors that a file grew by and that were not written hold zeros or leavings. Names change
in order. Nothing that was flushed changes: the disk keeps what it confirmed.
"""

from __future__ import annotations

import os
import random
import shutil
import struct
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
SECTOR = 512
_HEAD = struct.Struct("<cIqq")


class Op(NamedTuple):
    kind: str
    file: int
    at: int
    data: bytes


def record(folder: Path, script: str, *arguments: str) -> list[Op]:
    """What a Python script does to the files of a folder, in order."""
    shim = compiled(folder.with_name("power_record.so"))
    log = folder.with_name(f"{folder.name}.log")
    environment = os.environ | {
        "PYTHONPATH": str(ROOT), "LD_PRELOAD": str(shim), "RECORD_FOLDER": str(folder), "RECORD_LOG": str(log),
    }  # fmt: skip
    subprocess.run([sys.executable, "-c", script, str(folder), *arguments], check=True, env=environment, timeout=120)
    return list(read_log(log.read_bytes()))


def compiled(shim: Path) -> Path:
    """The recorder as a library."""
    if not shim.exists():
        source = Path(__file__).with_name("power_record.c")
        command = ["gcc", "-O2", "-fPIC", "-shared", "-o", str(shim), str(source), "-ldl", "-lpthread"]
        subprocess.run(command, check=True)
    return shim


def read_log(log: bytes) -> Iterator[Op]:
    at = 0
    while at < len(log):
        kind, file, where, length = _HEAD.unpack_from(log, at)
        at += _HEAD.size
        yield Op(kind.decode(), file, where, log[at : at + length])
        at += length


@dataclass
class File:
    """`durable`: as of its last flush; `pending`: writes and truncations since."""

    durable: bytearray = field(default_factory=bytearray)
    pending: list[Op] = field(default_factory=list)

    def flush(self) -> None:
        for op in self.pending:
            apply(self.durable, op)
        self.pending.clear()


class Disk:
    """A folder, operation by operation. `said`: what the process wrote to its file `said` so far, which is no part of
    what is cut."""

    def __init__(self) -> None:
        self.said = ""
        self._files: dict[int, File] = {}
        self._durable: dict[str, int] = {}  # name -> file
        self._names: list[Op] = []  # changes of names since the folder was flushed
        self._speaker = 0

    def take(self, op: Op) -> None:
        if op.kind == "O" and op.data == b"said":
            self._speaker = op.file
        elif op.file == self._speaker and op.kind == "W":
            self.said += op.data.decode()
        elif op.kind in "OUN":
            self._files.setdefault(op.file, File())
            self._names.append(op)
        elif op.kind in "WT":
            self._files[op.file].pending.append(op)
        elif op.kind == "S" and op.file != self._speaker:
            self._files[op.file].flush()
        elif op.kind == "D":
            self._durable = named(self._durable, self._names)
            self._names.clear()

    @property
    def unsettled(self) -> int:
        """Changes that a cut may undo."""
        return len(self._names) + sum(len(file.pending) for file in self._files.values())

    def cut(self, rng: random.Random, folder: Path) -> None:
        """Write one of the folders that a power cut now may leave behind."""
        names = named(self._durable, self._names[: rng.choice((0, len(self._names), rng.randint(0, len(self._names))))])
        for name, number in names.items():
            if name.endswith("-shm"):  # shared memory: whatever it holds must not matter
                (folder / name).write_bytes(rng.randbytes(32_768))
            elif number in self._files:
                (folder / name).write_bytes(left(self._files[number], rng))


def named(names: dict[str, int], changes: list[Op]) -> dict[str, int]:
    names = dict(names)
    for op in changes:
        if op.kind == "O":
            names[op.data.decode()] = op.file
        elif op.kind == "U":
            names.pop(op.data.decode(), None)
        else:
            old, new = op.data.decode().split("\0")
            names[new] = names.pop(old, op.file)
    return names


def left(file: File, rng: random.Random) -> bytes:
    """One content that a file may have after a cut."""
    how = rng.random()
    if how < 0.1 or not file.pending:
        return bytes(file.durable)
    if how < 0.3:  # in order, the last write torn
        return in_order(file, rng)
    versions: dict[int, list[bytes]] = {}
    whole, lengths = bytearray(file.durable), [len(file.durable)]
    for op in file.pending:
        apply(whole, op)
        lengths.append(len(whole))
        if op.kind == "W":
            for sector in range(op.at // SECTOR, -(-(op.at + len(op.data)) // SECTOR)):
                versions.setdefault(sector, []).append(bytes(whole[sector * SECTOR : (sector + 1) * SECTOR]))
    length = rng.choice(lengths)
    rest = rng.randbytes(SECTOR) if rng.random() < 0.2 else bytes(SECTOR)  # leavings of another file
    found = bytearray(file.durable[:length])
    found += (rest * (length // SECTOR + 1))[: length - len(found)]
    lost = rng.choice((0.1, 0.5, 0.9))
    for sector, written in versions.items():
        if rng.random() >= lost:
            part = rng.choice(written)
            found[sector * SECTOR : sector * SECTOR + len(part)] = part
    return bytes(found[:length])


def in_order(file: File, rng: random.Random) -> bytes:
    n = rng.randrange(len(file.pending))
    found = bytearray(file.durable)
    for op in file.pending[:n]:
        apply(found, op)
    op = file.pending[n]
    torn = rng.randrange(0, len(op.data) + 1, SECTOR) if op.kind == "W" else 0
    apply(found, op._replace(data=op.data[:torn]) if op.kind == "W" else op)
    return bytes(found)


def apply(content: bytearray, op: Op) -> None:
    if op.kind == "T":
        del content[op.at :]
        content.extend(bytes(op.at - len(content)))
        return
    if op.at > len(content):
        content.extend(bytes(op.at - len(content)))
    content[op.at : op.at + len(op.data)] = op.data


def cuts(ops: list[Op], n: int, seed: int, folder: Path) -> Iterator[tuple[str, Path]]:
    """Folders after `n` power cuts spread over all moments at which something was unsettled, each with what the process
    had said until then. One folder at a time, which is made anew for each."""
    disk, moments = Disk(), []
    for at, op in enumerate(ops):
        disk.take(op)
        if disk.unsettled:
            moments.append(at)
    rng = random.Random(seed)
    picked = sorted(moments[i * len(moments) // n] for i in range(n)) if len(moments) >= n else sorted(
        moments + rng.choices(moments, k=n - len(moments))
    )  # fmt: skip
    disk, done = Disk(), 0
    for at in picked:
        for op in ops[done : at + 1]:
            disk.take(op)
        done = max(done, at + 1)
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        disk.cut(rng, folder)
        yield disk.said, folder
