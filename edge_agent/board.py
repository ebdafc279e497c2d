"""How the device itself is doing, as far as it tells: power, heat, memory, and the storage below the store.

Reads a few small files of the kernel's. What is not there is left out; nothing is guessed, and nothing ever fails.
"""

from __future__ import annotations

import ctypes
import os
import re
import resource
from collections.abc import Iterator
from pathlib import Path

from edge_agent.publish.structs import BoardStatus, CardHealth, DiskSpace, Memory, Reserve, Trouble

_ARENA_MAX = -8  # M_ARENA_MAX of malloc.h
MAX_BYTES = 4096  # of a file of the kernel's
MAX_CARDS = 8
MAX_DIGITS = 15
CPU = re.compile(r"(cpu|soc|x86_pkg)", re.IGNORECASE)  # how thermal zones of processors are called
POSSIBLE_C = (-50.0, 150.0)
# Bits of the Raspberry Pi firmware's GET_THROTTLED; the same 16 higher: has happened.
THROTTLED: dict[int, Trouble] = {0: "undervoltage", 1: "frequency-capped", 2: "throttled", 3: "hot"}
HAPPENED = 16
EXCEEDED = 0x0B  # of life_time: beyond what the maker estimated
PRE_EOL: dict[int, Reserve] = {
    1: "normal",
    2: "warning",
    3: "urgent",
}  # JEDEC eMMC 5.0: reserve blocks all there, 80 %, 90 % used up


class Board:
    """The device below `root`, and the file system that holds `store`."""

    def __init__(self, store: Path, root: Path = Path("/")) -> None:
        self._folder, self._sys, self._proc = store.parent, root / "sys", root / "proc"

    def status(self) -> BoardStatus:
        """What it tells at this moment."""
        now, before = self._troubles()
        return BoardStatus(
            cpu_c=self._cpu_c(),
            trouble=now,
            trouble_before=before,
            memory=self._memory(),
            disk=disk_space(self._folder),
            cards=dict(self._cards()) or None,
        )

    def _cpu_c(self) -> float | None:
        """The hottest of the processor's thermal zones, degC."""
        found = []
        for zone in sorted(self._sys.glob("class/thermal/thermal_zone*")):
            milli = _number(_text(zone / "temp"), 10)
            if milli is not None and CPU.match(_text(zone / "type")) and POSSIBLE_C[0] <= milli / 1000 <= POSSIBLE_C[1]:
                found.append(round(milli / 1000, 1))
        return max(found, default=None)

    def _troubles(self) -> tuple[list[Trouble] | None, list[Trouble] | None]:
        """What the firmware complains of now, and what it has complained of before; None where it says nothing."""
        for path in sorted(self._sys.glob("devices/platform/soc*/*firmware*/get_throttled")):
            bits = _number(_text(path), 16)
            if bits is not None:
                return (
                    [word for bit, word in THROTTLED.items() if bits >> bit & 1],
                    [word for bit, word in THROTTLED.items() if bits >> (bit + HAPPENED) & 1],
                )
        for monitor in sorted(self._sys.glob("class/hwmon/hwmon*")):
            alarm = _number(_text(monitor / "in0_lcrit_alarm"), 10)
            if _text(monitor / "name") == "rpi_volt" and alarm is not None:
                return ["undervoltage"] if alarm else [], None
        return None, None

    def _memory(self) -> Memory | None:
        lines = (line.split() for line in _text(self._proc / "meminfo").splitlines())
        kib = {words[0]: _number(words[1], 10) for words in lines if len(words) == 3 and words[2] == "kB"}
        total, available = kib.get("MemTotal:"), kib.get("MemAvailable:")
        if not total or available is None:
            return None
        return Memory(total_mb=round(total * 1024 / 1e6), available_mb=round(available * 1024 / 1e6))

    def _cards(self) -> Iterator[tuple[str, CardHealth]]:
        """Flash memory that keeps account of its wear; SD cards do not."""
        for device in sorted(self._sys.glob("block/mmcblk*/device"))[:MAX_CARDS]:
            ages = [_number(word, 16) for word in _text(device / "life_time").split()]
            used = max((age for age in ages if age is not None and 0 < age <= EXCEEDED), default=None)
            reserve = PRE_EOL.get(_number(_text(device / "pre_eol_info"), 16) or 0)
            if used is not None or reserve is not None:
                yield device.parent.name, CardHealth(life_used_percent=used and used * 10, reserve=reserve)


def disk_space(folder: Path) -> DiskSpace | None:
    """The file system of a folder; None where it does not answer."""
    try:
        found = os.statvfs(folder)
    except OSError:
        return None
    return DiskSpace(
        size_mb=round(found.f_blocks * found.f_frsize / 1e6),
        free_mb=round(found.f_bavail * found.f_frsize / 1e6),
        read_only=bool(found.f_flag & os.ST_RDONLY),
    )


def rss_mb() -> float:
    """Memory this process holds now, MB; its peak where the system does not tell."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except (OSError, ValueError, IndexError):
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return pages * resource.getpagesize() / 1e6


def one_heap() -> None:
    """Let all threads share one heap, where the C library is glibc: each would keep freed memory of its own, some 3 MB
    that an agent of a dozen mostly sleeping threads need not hold. To be called before there are threads."""
    _glibc("mallopt", _ARENA_MAX, 1)


def hand_back_freed() -> None:
    """Hand freed memory back to the system, where the C library is glibc, which keeps pages between those in use: 30 MB
    of a gateway of 1,000 stations. To be called after what takes much for a moment."""
    _glibc("malloc_trim", 0)


def _glibc(name: str, *arguments: int) -> None:
    """Call one of its functions; nothing happens where the C library is another one."""
    try:
        function = getattr(ctypes.CDLL(None), name)
    except (OSError, AttributeError):
        return
    function(*arguments)


def _text(path: Path) -> str:
    """A file of the kernel's, empty where it cannot be read: some that are there refuse to be."""
    try:
        with path.open("rb") as file:
            return file.read(MAX_BYTES).decode(errors="replace").strip()
    except OSError:
        return ""


def _number(text: str, base: int) -> int | None:
    try:
        return int(text, base) if len(text) <= MAX_DIGITS else None
    except ValueError:
        return None
