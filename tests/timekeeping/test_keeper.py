"""What the clock hears from devices and people, and what of it outlasts a restart and a power cut."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge_agent.acceptance import DESTINATIONS, Acceptance
from edge_agent.clock import ManualClock, format_time
from edge_agent.config import Config, Station
from edge_agent.config import Store as StoreSection
from edge_agent.errors import StoreError
from edge_agent.observation import Reading
from edge_agent.sensors import Health
from edge_agent.store import Keeper
from edge_agent.timekeeping.command import confirm
from edge_agent.timekeeping.keeper import KEEP_S, Timekeeper, read_kept
from edge_agent.timekeeping.sources import Report
from edge_agent.timekeeping.station_clock import StationClock
from tests.store.disks import LimitedFiles
from tests.timekeeping.device import SENSOR, START, Device

DAY = 86_400


@pytest.fixture
def device(tmp_path: Path) -> Device:
    device = Device(tmp_path / "store.sqlite")
    device.boot(30.0)
    return device


def heard(device: Device, driver: str, ahead_s: float = 0.0) -> Health:
    """A source whose device has just said what time it is."""
    says = (device.truth + ahead_s, device.clock.monotonic())
    return Health("port", driver, "reading", "", 0, {}, None, 0, {}, says)


def test_a_gps_synchronises_a_device_without_a_network(device: Device) -> None:
    device.run(300)
    assert device.keeper.look([heard(device, "nmea", -0.4)])  # its sentence took a while
    assert device.clock.state() == "synced" and device.clock.known.source == "gps"
    device.run(60)
    device.check(1.7)
    device.run(5 * 3600)
    assert device.clock.state() == "holdover"  # it has said nothing since


def test_a_console_is_good_for_forecasts_and_a_time_server_corrects_what_it_stamped(device: Device) -> None:
    device.run(120)
    device.keeper.look([heard(device, "davis_vantage", 45.0)])
    assert device.clock.state() == "holdover" and not device.clock.unfit()
    device.run(300)
    device.check(46.0)
    device.sync()
    device.run(30)
    device.check()


def test_a_console_an_hour_off_does_not_stand_against_a_time_server(device: Device) -> None:
    device.sync()
    device.run(30)
    device.keeper.look([heard(device, "davis_vantage", 3600.0)])
    assert device.clock.state() == "synced" and abs(device.clock.now() - device.truth) < 1
    assert "console: contradicts a better source" in device.clock.detail()


def test_a_word_is_heard_once_however_often_it_is_looked_at(device: Device) -> None:
    health = heard(device, "davis_vantage")
    device.keeper.look([health])
    device.run(3600, 60)
    device.keeper.look([health])
    (told,) = device.clock.sources.all(device.clock.monotonic())
    assert told.report.steady_s == health.device_clock[1]  # type: ignore[index]


def test_a_person_confirms_the_time_and_the_readings_get_it(device: Device) -> None:
    device.run(600)
    device.commit()
    confirm(device.store, device.machine, device.truth + 20, device.machine.monotonic())
    device.run(30)
    assert device.clock.state() == "holdover" and device.clock.known.source == "operator"
    assert not device.clock.unfit()
    device.check(21.0)
    device.stop()
    device.start()  # an agent that restarts still knows
    assert device.clock.state() == "holdover"
    device.sync()
    device.run(30)
    device.check()


def test_a_confirmation_does_not_outlast_the_run_of_the_machine_it_was_for(device: Device) -> None:
    confirm(device.store, device.machine, device.truth, device.machine.monotonic())
    device.run(90)
    device.commit()
    device.power_cut(7200)
    device.boot(0.0)
    device.keeper.look()
    assert device.clock.state() == "unsynced"


def test_what_is_known_is_written_now_and_then_and_when_it_changes(device: Device) -> None:
    writes: list[str] = []
    keep = device.store.set
    device.store.set = lambda key, value: (writes.append(key), keep(key, value))  # type: ignore[assignment, method-assign]
    device.run(3600, 5)
    quiet = writes.count("clock")
    assert quiet <= 3600 / KEEP_S + 1 + len(device.issued)
    device.sync()
    device.keeper.look()
    assert writes.count("clock") == quiet + 1
    kept = read_kept(device.store)
    assert kept is not None and kept.boot.source == "ntp" and kept.good_s == pytest.approx(device.truth)


def test_a_clock_with_a_battery_is_believed_after_a_power_cut_if_it_was_right_before(tmp_path: Path) -> None:
    device = Device(tmp_path / "store.sqlite")

    def with_rtc(ahead_s: float) -> None:
        machine, synced = device.machine, device.machine.readings
        machine.readings = lambda: [  # type: ignore[method-assign]
            *synced(),
            Report("rtc", device.truth + ahead_s, machine.monotonic(), 0.5),
        ]
        device.keeper.look()

    device.boot(START, "synced")
    with_rtc(2.0)
    device.run(600)
    device.commit()
    device.power_cut(3 * DAY)
    device.boot(0.0)
    assert device.clock.state() == "unsynced"
    with_rtc(3.0)
    assert device.clock.state() == "holdover" and device.clock.known.source == "rtc"
    bound = device.clock.error_s()
    assert bound is not None and abs(device.clock.now() - device.truth) <= bound < 120
    device.run(60)
    device.power_cut(60)
    device.boot(0.0)
    with_rtc(-5 * 365 * DAY)  # its battery died
    assert device.clock.state() == "unsynced"


def test_a_kept_state_of_another_version_is_as_none(device: Device) -> None:
    device.store.set("clock", '{"boot": 7}')
    device.stop()
    device.start()
    device.sync()
    device.run(30)
    assert device.clock.state() == "synced", format_time(device.clock.now())


def test_while_the_disk_fails_readings_wait_for_their_time_and_have_it_when_it_works_again(
    tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    disk = LimitedFiles(tmp_path)
    request.addfinalizer(disk.free)
    machine = ManualClock(30.0, "unsynced")
    clock = StationClock(machine)
    config = Config(Station("roof", 47, 8, 400), StoreSection(str(tmp_path / "store.sqlite")), sensor=[SENSOR])
    with Keeper(config.store, clock) as store:
        time, acceptance = Timekeeper(clock, store, DESTINATIONS), Acceptance(config, clock, store)
        for n in range(6):
            if n == 3:
                disk.fill()
                store.commit(clock.now())
            steady = clock.monotonic()
            assert acceptance.take(SENSOR, Reading({"temperature": 1.0 + n}), clock.at(steady), steady).kept
            machine.advance(10)
        store.commit(clock.now())
        machine.set(START, "synced")
        assert not store.on_disk and time.look() and time.owing
        with pytest.raises(StoreError, match="no observation gets its time meanwhile"):
            time.restamp()
        assert time.owing
        disk.free()
        store.commit(clock.now())
        time.look()
        while time.restamp():
            pass
        assert store.on_disk and not time.owing and time.restamped == 6
        came = [judged.observation.t for judged in store.observations("roof")]
        assert all(abs(t - (START - 60 + 10 * n)) <= 1 for n, t in enumerate(came)) and len(came) == 6
