"""A board on a serial cable: a pseudo-terminal behind a path that stays the same."""

from __future__ import annotations

import os
from pathlib import Path


class Board:
    """`plug` and `unplug` it; `prints` what a sensor would."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._ends: tuple[int, ...] = ()

    def plug(self) -> None:
        self._ends = os.openpty()
        self.path.symlink_to(os.ttyname(self._ends[1]))

    def unplug(self) -> None:
        if self._ends:
            self.path.unlink()
            for end in self._ends:
                os.close(end)
            self._ends = ()

    def prints(self, data: bytes) -> None:
        while data:
            data = data[os.write(self._ends[0], data[:2048]) :]
