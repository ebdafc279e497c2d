"""Disks that fail when a test says so: full, and working again."""

from __future__ import annotations

import os
import resource
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Protocol


class Disk(Protocol):
    """`folder`: a place on it."""

    folder: Path

    def fill(self) -> None: ...
    def free(self) -> None: ...


class SmallDisk:
    """A file system of a few megabytes in memory; for root only. It can also be read-only, while no file is open."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()
        mounting = ["mount", "-t", "tmpfs", "-o", "size=8m", "stationcast-test", str(folder)]
        self.mounted = not subprocess.run(mounting, check=False, capture_output=True).returncode
        self._ballast = folder / "ballast"

    def fill(self) -> None:
        ballast = os.open(self._ballast, os.O_WRONLY | os.O_CREAT)
        with suppress(OSError):
            while os.write(ballast, bytes(4096)):
                pass
        os.close(ballast)

    def free(self) -> None:
        self._ballast.unlink()

    def read_only(self, yes: bool) -> None:
        how = "remount,ro" if yes else "remount,rw"
        subprocess.run(["mount", "-o", how, str(self.folder)], check=True)

    def close(self) -> None:
        if self.mounted:
            subprocess.run(["umount", "--lazy", str(self.folder)], check=True)


class LimitedFiles:
    """What any user can have: no file of this process may grow."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._limits = resource.getrlimit(resource.RLIMIT_FSIZE)

    def fill(self) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100, self._limits[1]))

    def free(self) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, self._limits)


@contextmanager
def small_disk(folder: Path) -> Iterator[SmallDisk | None]:
    """A small disk; None where nobody may mount one."""
    if os.geteuid():
        yield None
        return
    disk = SmallDisk(folder)
    try:
        yield disk if disk.mounted else None
    finally:
        disk.close()
