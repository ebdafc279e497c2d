"""What this machine itself knows of the time: its kernel's discipline, a battery-backed clock, a virtual one's host.

Only reads. A system that does not answer knows nothing.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

UNSYNCHRONISED = 0x40  # STA_UNSYNC, in `status` of struct timex
GIVEN_UP_US = 16_000_000  # the kernel's own bound of an error it still calls one
DRIFT = 100e-6  # a crystal nobody corrects: 100 ppm, 8.6 s a day
LEAST_ERROR_S = 0.1  # time daemons tell the kernel of no error right after they set it
RTC_ERROR_S = 0.5  # it shows whole seconds; half a second is added to them
HOST_ERROR_S = 10.0  # of a virtual machine's clock at its start: its host is taken for synchronised
STAMP_LASTS_S = 86_400
_TIMEX = struct.Struct("=I4xqqqqi")  # modes, offset, freq, maxerror, esterror, status: the same on all 64-bit Linux
_VIRTUAL = ("kvm-clock", "hyperv_clocksource", "xen")


@dataclass(frozen=True, slots=True)
class Discipline:
    """`error_s`: how far the system's clock may be off, seconds; None where nothing disciplines it, and then `why`."""

    error_s: float | None
    why: str = ""


@dataclass(frozen=True, slots=True)
class Places:
    """Where the system tells of its clocks."""

    rtc: Path = Path("/sys/class/rtc")
    adjtime: Path = Path("/etc/adjtime")
    timesyncd: Path = Path("/run/systemd/timesync/synchronized")
    clocksources: Path = Path("/sys/devices/system/clocksource/clocksource0/available_clocksource")
    cpus: Path = Path("/proc/cpuinfo")
    boot_id: Path = Path("/proc/sys/kernel/random/boot_id")


PLACES = Places()


def discipline(places: Places = PLACES) -> Discipline:
    """What the kernel says of its own clock, by adjtimex(2); where that is not allowed, what systemd-timesyncd says."""
    timex = ctypes.create_string_buffer(512)  # larger than struct timex; modes = 0 only reads
    try:
        libc = ctypes.CDLL(None, use_errno=True)
        answer = int(libc.adjtimex(timex))
    except (OSError, AttributeError):
        return Discipline(None, "this system has no adjtimex(2)")
    if answer < 0:
        denied = ctypes.get_errno()
        if denied in (errno.EPERM, errno.EACCES):
            return _timesyncd(places)
        return Discipline(None, f"adjtimex(2): {os.strerror(denied)}")
    return judge(timex.raw)


def judge(timex: bytes) -> Discipline:
    """A struct timex, as the kernel filled it in."""
    _, _, _, max_error_us, _, status = _TIMEX.unpack_from(timex)
    if status & UNSYNCHRONISED or max_error_us >= GIVEN_UP_US:
        return Discipline(None, "nothing synchronises the system's clock")
    return Discipline(max(max_error_us / 1e6, LEAST_ERROR_S))


def rtc_time(places: Places = PLACES) -> float | None:
    """UTC seconds of the battery-backed clock, within `RTC_ERROR_S`; None where there is none, where it keeps local
    time (/etc/adjtime), or where it cannot be read."""
    with suppress(OSError):  # without the file it keeps UTC
        if "LOCAL" in places.adjtime.read_text(errors="replace"):
            return None
    for clock in sorted(places.rtc.glob("rtc*")):
        try:
            return int((clock / "since_epoch").read_text()) + RTC_ERROR_S
        except (OSError, ValueError):
            continue  # its battery is gone, or its driver has no time yet
    return None


def is_virtual(places: Places = PLACES) -> bool:
    """True in a virtual machine, whose clock starts with its host's."""
    for path, words in ((places.clocksources, _VIRTUAL), (places.cpus, (" hypervisor",))):
        try:
            text = path.read_text(errors="replace")
        except OSError:
            continue
        if any(word in text for word in words):
            return True
    return False


def boot_id(places: Places = PLACES) -> str:
    """What names this run of the kernel; empty where it has no name."""
    try:
        return places.boot_id.read_text().strip()
    except OSError:
        return ""


def _timesyncd(places: Places) -> Discipline:
    try:
        age_s = time.time() - places.timesyncd.stat().st_mtime
    except OSError:
        why = "the kernel may not be asked: let the service call adjtimex and clock_adjtime"
        return Discipline(None, why)
    if not 0 <= age_s <= STAMP_LASTS_S:
        return Discipline(None, "systemd-timesyncd has not synchronised the clock for a day")
    return Discipline(LEAST_ERROR_S + DRIFT * age_s)
