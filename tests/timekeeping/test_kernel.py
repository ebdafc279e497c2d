"""What a machine itself says of the time: read as the kernel writes it, believed no further than it goes."""

from __future__ import annotations

import os
import struct
import time
from pathlib import Path

import pytest

from edge_agent.clock import SystemClock
from edge_agent.timekeeping import kernel
from edge_agent.timekeeping.kernel import Places, discipline, is_virtual, judge, rtc_time
from edge_agent.timekeeping.sources import RELEASED


def timex(max_error_us: int, status: int) -> bytes:
    """A struct timex of a 64-bit Linux, as adjtimex(2) fills it in."""
    return struct.pack("=I4xqqqqi4x", 0, 0, 0, max_error_us, 0, status).ljust(512, b"\0")


@pytest.fixture
def places(tmp_path: Path) -> Places:
    return Places(*(tmp_path / name for name in ("rtc", "adjtime", "timesyncd", "clocksource", "cpuinfo", "boot_id")))


def test_a_clock_that_nothing_disciplines_is_not_synchronised() -> None:
    assert judge(timex(16_000_000, 0x40)).error_s is None
    assert judge(timex(1_000, 0x41)).error_s is None  # a date set by hand: the flag alone counts
    assert judge(timex(16_000_000, 0x01)).error_s is None  # hours after the last word of a time server


def test_a_disciplined_clock_is_right_within_what_the_kernel_says() -> None:
    assert judge(timex(250_000, 0x2001)).error_s == 0.25
    assert judge(timex(0, 0x2001)).error_s == kernel.LEAST_ERROR_S  # no time server is that good


def test_this_machine_can_be_asked() -> None:
    found = discipline()
    assert (found.error_s is None) == bool(found.why)
    clock = SystemClock()
    assert clock.state() in ("synced", "unsynced")
    assert all(abs(word.utc_s - clock.now()) < 86_400 for word in clock.readings())
    assert clock.boot_id == SystemClock().boot_id  # the same for every process of this run of the machine


def test_where_the_kernel_may_not_be_asked_timesyncd_is(places: Places, monkeypatch: pytest.MonkeyPatch) -> None:
    class Denied:
        def adjtimex(self, buffer: object) -> int:
            kernel.ctypes.set_errno(1)
            return -1

    monkeypatch.setattr(kernel.ctypes, "CDLL", lambda *args, **more: Denied())
    assert "adjtimex" in discipline(places).why
    places.timesyncd.touch()
    error_s = discipline(places).error_s
    assert error_s is not None and error_s < 0.2
    os.utime(places.timesyncd, (time.time() - 90_000, time.time() - 90_000))
    assert discipline(places).error_s is None


def test_a_battery_backed_clock_is_read_where_it_keeps_utc(places: Places) -> None:
    assert rtc_time(places) is None
    (places.rtc / "rtc0").mkdir(parents=True)
    assert rtc_time(places) is None  # no battery: its driver has no time
    (places.rtc / "rtc0" / "since_epoch").write_text("1772366833\n")
    assert rtc_time(places) == 1_772_366_833.5
    places.adjtime.write_text("0.0 0 0.0\n0\nUTC\n")
    assert rtc_time(places) == 1_772_366_833.5
    places.adjtime.write_text("0.0 0 0.0\n0\nLOCAL\n")
    assert rtc_time(places) is None


def test_a_raspberry_pi_is_no_virtual_machine(places: Places) -> None:
    assert not is_virtual(places)
    places.clocksources.write_text("arch_sys_counter\n")
    places.cpus.write_text("processor\t: 0\nFeatures\t: fp asimd evtstrm crc32 cpuid\n")
    assert not is_virtual(places)
    places.clocksources.write_text("kvm-clock tsc acpi_pm\n")
    assert is_virtual(places)


def test_a_clock_before_this_program_was_made_is_synchronised_by_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernel, "discipline", lambda: kernel.Discipline(0.2))
    clock = SystemClock()
    monkeypatch.setattr(clock, "now", lambda: 30.0)  # whatever the kernel says of it
    assert {word.source for word in clock.readings()} <= {"rtc"}
    monkeypatch.setattr(clock, "now", lambda: RELEASED + 1.0)
    assert next(iter(clock.readings())).source == "ntp"
