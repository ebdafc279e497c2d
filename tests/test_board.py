"""What the device says of itself is told as it says it; what it does not say is not told."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from edge_agent.board import Board, disk_space, rss_mb
from edge_agent.publish.payloads import status_payload, to_json
from edge_agent.publish.schemas import validate

THROTTLED = "sys/devices/platform/soc/soc:firmware/get_throttled"


class Device:
    """A device's /sys and /proc, as files in a folder."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def has(self, path: str, text: str) -> Device:
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        return self

    def says(self) -> dict[str, object]:
        found: dict[str, object] = msgspec.to_builtins(Board(self.root / "store.sqlite", self.root).status())
        found.pop("disk")  # of the machine that runs the test
        return found


@pytest.fixture
def device(tmp_path: Path) -> Device:
    return Device(tmp_path)


def test_a_device_that_tells_nothing_of_itself_has_nothing_said_of_it(device):
    assert device.says() == {}


def test_a_raspberry_pi_with_a_weak_power_supply(device):
    device.has(THROTTLED, "50005\n").has("sys/class/thermal/thermal_zone0/type", "cpu-thermal\n")
    device.has("sys/class/thermal/thermal_zone0/temp", "61342\n")
    device.has("proc/meminfo", "MemTotal:        3884360 kB\nMemFree:  99 kB\nMemAvailable:    3214032 kB\n")
    assert device.says() == {
        "cpu_c": 61.3,
        "trouble": ["undervoltage", "throttled"],
        "trouble_before": ["undervoltage", "throttled"],
        "memory": {"total_mb": 3978, "available_mb": 3291},
    }


@pytest.mark.parametrize(
    ("bits", "now", "before"),
    [
        ("0", [], []),
        ("e0008", ["hot"], ["frequency-capped", "throttled", "hot"]),
        ("0x20002", ["frequency-capped"], ["frequency-capped"]),
    ],
)
def test_each_bit_of_the_firmware_has_its_word(device, bits, now, before):
    device.has(THROTTLED, f"{bits}\n")
    assert device.says() == {"trouble": now, "trouble_before": before}


@pytest.mark.parametrize(("alarm", "now"), [("1", ["undervoltage"]), ("0", [])])
def test_a_kernel_without_the_firmwares_file_still_tells_of_undervoltage(device, alarm, now):
    device.has("sys/class/hwmon/hwmon0/name", "cpu_thermal\n").has("sys/class/hwmon/hwmon0/in0_lcrit_alarm", "1\n")
    device.has("sys/class/hwmon/hwmon1/name", "rpi_volt\n").has("sys/class/hwmon/hwmon1/in0_lcrit_alarm", alarm)
    assert device.says() == {"trouble": now}


def test_of_several_heat_sensors_the_processors_hottest_counts(device):
    for n, (kind, milli) in enumerate([("GPU-therm", 90_000), ("CPU-therm", 45_500), ("soc-thermal", 47_000)]):
        device.has(f"sys/class/thermal/thermal_zone{n}/type", kind).has(
            f"sys/class/thermal/thermal_zone{n}/temp", f"{milli}"
        )
    assert device.says() == {"cpu_c": 47.0}


@pytest.mark.parametrize(
    ("life", "reserve", "told"),
    [
        ("0x01 0x00", "0x01", {"life_used_percent": 10, "reserve": "normal"}),
        ("0x03 0x0b", "0x03", {"life_used_percent": 110, "reserve": "urgent"}),
        ("0x00 0x00", "0x02", {"reserve": "warning"}),
        ("0x05 0xff", "0x00", {"life_used_percent": 50}),
    ],
)
def test_flash_memory_tells_how_worn_it_is(device, life, reserve, told):
    device.has("sys/block/mmcblk0/device/life_time", life).has("sys/block/mmcblk0/device/pre_eol_info", reserve)
    device.has("sys/block/mmcblk1/device/name", "an SD card, which keeps no account")
    assert device.says() == {"cards": {"mmcblk0": told}}


@pytest.mark.parametrize("nonsense", ["", "\0", "unknown", "-999999999", "9" * 5000, "0x", "Input/output error"])
def test_nonsense_is_nothing(device, nonsense):
    for path in (THROTTLED, "sys/class/thermal/thermal_zone0/temp", "sys/class/hwmon/hwmon0/in0_lcrit_alarm"):
        device.has(path, nonsense)
    device.has("sys/class/thermal/thermal_zone0/type", "cpu-thermal").has("proc/meminfo", f"MemTotal: {nonsense} kB\n")
    device.has("sys/block/mmcblk0/device/life_time", nonsense).has("sys/block/mmcblk0/device/pre_eol_info", nonsense)
    device.has("sys/class/hwmon/hwmon0/name", "rpi_volt")
    device.says()


def test_the_disk_of_the_store_is_there_and_an_unknown_one_is_not(tmp_path):
    space = disk_space(tmp_path)
    assert space is not None and 0 <= space.free_mb <= space.size_mb and not space.read_only
    assert disk_space(tmp_path / "nowhere") is None


def test_this_machine_fits_the_schema_and_invents_nothing(tmp_path):
    board = Board(tmp_path / "store.sqlite").status()
    payload = status_payload(0, uptime_s=0, clock="synced", sensors=[], outbox={}, forecast=None, flags={}, board=board)
    assert validate("status", to_json(payload)).board == board
    assert rss_mb() > 1


def test_freed_memory_between_what_is_in_use_goes_back_to_the_system():
    """Where the C library is glibc; elsewhere it is left to that."""
    code = """
import os
from edge_agent.board import hand_back_freed, one_heap, rss_mb
one_heap()
held = [bytearray(20_000) for _ in range(4_000)]
del held[::2]
before = rss_mb()
hand_back_freed()
print(before - rss_mb(), "CS_GNU_LIBC_VERSION" in os.confstr_names and bool(os.confstr("CS_GNU_LIBC_VERSION")))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    handed, glibc = done.stdout.split()
    assert float(handed) > 20 or glibc == "False"
