"""How the agent's runs ended, kept in a small file beside the store: a crash loop is met with safe mode.

A run that ended with its machine, by a power cut or a reset, is no crash: the kernel's boot id has changed since.
Counts in running time, not by the clock, which may stand anywhere after a power cut. Never keeps the agent from
starting: what cannot be read counts as nothing, what cannot be written is said.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import msgspec

from edge_agent.errors import StationcastError

log = logging.getLogger(__name__)

UNCLEAN_ENDS = 5  # within `WITHIN_S` seconds of running: the next run is in safe mode
WITHIN_S = 3600.0
STABLE_S = 3600.0  # a run so long is no part of a loop; a safe mode so long is left
FIRST_MARK_S = 30.0  # age at which a run is first written down, then at twice the age each time; where that matters
MAX_BYTES = 10_000
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
MAX_BOOT = 100  # characters


class _Kept(msgspec.Struct):
    """The file. `ends`: for each unclean end, the newest last, the seconds of running since the one before; `since_s`:
    those since the newest; `running`: a run has begun and not ended cleanly; `boot`: of the machine, when it began."""

    ends: list[float] = []
    since_s: float = 0.0
    running: bool = False
    boot: str = ""


class Run:
    """The present run. `safe`: it is in safe mode."""

    def __init__(self, path: Path, *, normal: bool = False, boot: str | None = None) -> None:
        """Begin it. `normal`: forget how earlier ones ended; `boot`: which boot of the machine this is, empty = not
        known."""
        self._path = path
        self._unwritten = False
        self._kept = kept = _Kept() if normal else _read(path)
        boot = boot_of_machine() if boot is None else boot
        cut = bool(boot and kept.boot) and boot != kept.boot
        if kept.running and not cut:
            kept.ends, kept.since_s = [*kept.ends, kept.since_s][-UNCLEAN_ENDS:], 0.0
        self.safe = len(kept.ends) == UNCLEAN_ENDS and self._span_s() <= WITHIN_S
        self._before_s = kept.since_s
        self._mark_s, self._stable_s = FIRST_MARK_S, STABLE_S
        kept.running, kept.boot = True, boot
        self._write()

    @property
    def mode(self) -> Literal["normal", "safe"]:
        return "safe" if self.safe else "normal"

    @property
    def why(self) -> str:
        """Why it is in safe mode and how that ends, in words; empty if it is not."""
        if not self.safe:
            return ""
        return (
            f"safe mode: the last {UNCLEAN_ENDS} runs of the agent ended without being told to, within "
            f"{max(self._span_s() / 60, 1):.0f} min of running. No bundle is loaded; forecasts are persistence. It "
            "ends after an hour, or with edge-agent run --normal"
        )

    def lasted(self, age_s: float) -> bool:
        """The run is `age_s` old, on a clock that never jumps. True where safe mode ends with that."""
        self._kept.since_s = self._before_s + age_s
        if age_s >= self._stable_s:
            left, self.safe = self.safe, False
            # after safe mode a single such end returns to it, for another hour; else all is forgotten
            known, self._kept.ends = self._kept.ends, [0.0] * (UNCLEAN_ENDS - 1) if left else []
            self._kept.since_s, self._before_s = 0.0, -age_s
            self._stable_s = age_s + STABLE_S
            if known:
                self._write()
            return left
        if self._kept.ends and age_s >= self._mark_s:
            self._mark_s = 2 * age_s
            self._write()
        return False

    def end(self) -> None:
        """It ended as told, or with an error that says what to do."""
        self._kept.running = False
        self._write()

    def _span_s(self) -> float:
        """Seconds of running from the first to the last of the unclean ends."""
        return sum(self._kept.ends[1:])

    def _write(self) -> None:
        fresh = self._path.with_name(f"{self._path.name}.new")
        try:
            with fresh.open("wb") as file:
                file.write(msgspec.json.encode(self._kept))
                file.flush()
                os.fsync(file.fileno())
            fresh.replace(self._path)
        except OSError as error:
            if not self._unwritten:
                log.warning("%s cannot be written (%s): a crash loop will not be noticed", self._path, error.strerror)
            self._unwritten = True


@contextmanager
def begun(store: Path, *, normal: bool = False) -> Iterator[Run]:
    """A run with that store, from its beginning to its end. What escapes from it is an unclean end, unless it is an
    error that says what to do."""
    run = Run(Path(f"{store}.runs"), normal=normal)
    try:
        yield run
    except StationcastError:
        run.end()
        raise
    run.end()


def boot_of_machine() -> str:
    """The kernel's name for the time since it started; empty where it has none."""
    try:
        return BOOT_ID.read_text().strip()[:MAX_BOOT]
    except (OSError, UnicodeDecodeError):
        return ""


def _read(path: Path) -> _Kept:
    try:
        with path.open("rb") as file:
            kept = msgspec.json.decode(file.read(MAX_BYTES), type=_Kept)
    except FileNotFoundError:
        return _Kept()
    except (OSError, msgspec.DecodeError, UnicodeDecodeError) as error:
        log.warning("%s cannot be read (%s): how earlier runs ended is not known", path, error)
        return _Kept()
    return kept if all(0.0 <= span < 1e12 for span in (*kept.ends, kept.since_s)) else _Kept()
