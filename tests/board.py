"""Boards on serial cables: pseudo-terminals."""

from __future__ import annotations

import os
import select
import time
from pathlib import Path


class Board:
    """Behind a path that stays the same: `plug` and `unplug` it; `prints` what a sensor would."""

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


class Console:
    """A device on a pseudo-terminal that takes nothing more: writing to it waits for ever."""

    def __init__(self) -> None:
        self.device, self.line = os.openpty()
        self.path = os.ttyname(self.line)
        os.set_blocking(self.line, False)
        self.full = refused = 0
        while refused < 5:  # the kernel makes room a little later by moving what came
            try:
                self.full += os.write(self.line, b"x" * 1000)
                refused = 0
            except BlockingIOError:
                refused += 1
                time.sleep(0.02)

    def empty(self) -> None:
        """It takes again what is sent to it."""
        left = self.full
        while left > 0:
            left -= len(os.read(self.device, min(left, 4096)))

    def answer(self, line: bytes) -> bool:
        """Answer if something was asked."""
        asked, _, _ = select.select([self.device], [], [], 0)
        if asked:
            os.read(self.device, 4096)
            os.write(self.device, line)
        return True

    def close(self) -> None:
        os.close(self.device)
        os.close(self.line)
