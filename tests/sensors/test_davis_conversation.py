"""A Davis console on a pseudo-terminal and on a TCP socket: woken, caught up, listened to, through every fault."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import msgspec
import pytest

from edge_agent.clock import ManualClock
from edge_agent.config import Sensor
from edge_agent.observation import Reading
from edge_agent.sensors import DRIVERS, vantage_talk
from edge_agent.sensors.serial import Limits, SerialSource
from edge_agent.sensors.source import Intake
from edge_agent.sensors.vantage_packets import stamp_bytes
from tests.sensors.vantage_console import Console, Plugged, record

pytestmark = pytest.mark.system

ZURICH = ZoneInfo("Europe/Zurich")
NOON = datetime(2024, 7, 1, 12, 0)
NOW = NOON.replace(tzinfo=ZURICH).timestamp()
FIVE = timedelta(minutes=5)


def until(condition: Callable[[], object], what: str, timeout_s: float = 30.0) -> None:
    """Wait for something that happens in another thread."""
    for _ in range(int(timeout_s / 0.01)):
        if condition():
            return
        time.sleep(0.01)
    pytest.fail(f"waited in vain for: {what}")


def archive(n: int, last: datetime = NOON, *, clicks: int = 0) -> list[bytes]:
    """Records five minutes apart up to `last`; the temperature is their number, tenths of a degree Fahrenheit."""
    return [record(last - (n - 1 - i) * FIVE, i, clicks) for i in range(n)]


class Station:
    """A source that listens to a console, and what came of it. `newest`: what was kept before it started."""

    def __init__(self, plugged: Plugged, now: float = NOW, newest: float | None = None, **options: object) -> None:
        self.readings: list[Reading] = []
        options = {"timezone": "Europe/Zurich", **options}
        raw = {"name": "roof", "driver": "davis_vantage", "port": plugged.port, "options": options}
        sensor = msgspec.convert(raw, Sensor)
        spec = DRIVERS["davis_vantage"]
        assert spec.talk is not None
        self.clock = ManualClock(now)
        self.intake = Intake(sensor, spec.decoder(sensor), self._emit, self.clock, ["home"], newest=newest)
        self.source = SerialSource(self.intake, self.clock, Limits(read=0.03), talk=spec.talk(sensor))

    def _emit(self, sensor: Sensor, reading: Reading, arrived: float) -> bool:
        self.readings.append(reading)
        return True

    @property
    def live(self) -> list[Reading]:
        return [r for r in self.readings if not r.historical]

    @property
    def caught_up(self) -> list[Reading]:
        return [r for r in self.readings if r.historical]

    @property
    def rejected(self) -> dict[str, int]:
        return {name: n for name, n in self.source.health().rejected.items() if name != "dashed"}

    def detail(self, words: str) -> bool:
        return words in self.source.health().detail


@pytest.fixture(params=["pty", "tcp"])
def plug(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[[Console], Plugged]]:
    """Plugs a console in; unplugged at the end."""
    there: list[Plugged] = []

    def plug(console: Console) -> Plugged:
        there.append(Plugged(console, tmp_path / f"usb-console-{len(there)}" if request.param == "pty" else None))
        there[-1].plug()
        return there[-1]

    yield plug
    for plugged in there:
        plugged.close()


@pytest.fixture
def listen() -> Iterator[Callable[..., Station]]:
    running: list[Station] = []

    def listen(plugged: Plugged, **more: object) -> Station:
        running.append(Station(plugged, **more))  # type: ignore[arg-type]
        running[-1].source.start()
        return running[-1]

    yield listen
    for station in running:
        station.source.stop()
        assert station.source.health().state == "stopped"


@pytest.fixture(autouse=True)
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """The console answers at once; what it does not answer need not be waited for as long as in the world."""
    for name, seconds in (("WAKE_S", 0.1), ("ANSWER_S", 0.2), ("SILENCE_S", 0.6)):
        monkeypatch.setattr(vantage_talk, name, seconds)


def test_it_wakes_the_console_reads_its_setup_and_listens_to_both_packets(plug, listen):
    console = Console(NOON, setup=0x10)
    console.fields |= {"year": 828, "low": 0b10, "volts": 800}
    console.faults.deaf = 2
    station = listen(plug(console))
    until(lambda: len(station.live) > 6, "packets")
    assert console.asked == [b"EEBRD 2B 03", b"GETTIME", b"DMPAFT", b"LPS 3 200"]
    assert {"pressure", "wind_speed"} <= station.live[1].values.keys()
    until(lambda: any(r.values.get("rain") == 0.0 for r in station.live), "rain since the last packet")
    assert station.rejected == {"first-total": 1}
    battery = station.source.health().battery
    assert battery == {"console": 4.69, "transmitter 1": "ok", "transmitter 2": "low"}
    assert station.source.health().device_clock == (NOW, 0.0)


def test_a_console_that_does_not_know_lps_is_asked_for_loop(plug, listen):
    console = Console(NOON)
    console.faults.old = True
    station = listen(plug(console), catch_up_days=0)
    until(lambda: len(station.live) > 3, "packets")
    assert console.asked[-1] == b"LOOP 200" and station.rejected == {"no-answer": 1}


def test_batch_follows_batch(plug, listen, monkeypatch):
    monkeypatch.setattr(vantage_talk, "BATCH", 4)
    monkeypatch.setattr(vantage_talk, "BATCHES", 2)
    console = Console(NOON)
    station = listen(plug(console), catch_up_days=0)
    until(lambda: console.asked.count(b"GETTIME") == 3, "the clock being asked again")
    assert console.asked[:6] == [b"EEBRD 2B 03", b"GETTIME", b"LPS 3 4", b"LPS 3 4", b"GETTIME", b"LPS 3 4"]
    assert len(station.live) >= 16 and station.rejected == {}


def test_refusals_silence_and_damaged_answers_are_met_by_asking_again(plug, listen):
    console = Console(NOON)
    console.faults.refuse = {b"EEBRD": 1, b"LPS": 2}
    console.faults.mute = {b"GETTIME": 2}
    console.faults.spoil_answers = 1
    station = listen(plug(console), catch_up_days=0)
    until(lambda: len(station.live) > 3, "packets")
    assert station.rejected == {"bad-checksum": 1} and b"LOOP 200" not in console.asked


def test_damaged_and_half_packets_are_counted_and_cost_one_each(plug, listen):
    console = Console(NOON)
    console.faults.spoil_packets = 2
    station = listen(plug(console), catch_up_days=0)
    until(lambda: len(station.live) > 4, "packets")
    assert station.rejected["bad-checksum"] == 2
    console.faults.cut_packets = 1
    before = len(station.live)
    until(lambda: len(station.live) > before + 4, "packets after half a one")
    assert station.source.health().reopened == 0


# --- the archive ------------------------------------------------------------------------------------------------------


def test_at_the_first_start_the_whole_archive_is_history(plug, listen):
    console = Console(NOON, archive(23))
    station = listen(plug(console))
    until(lambda: station.live, "a packet")
    assert [r.t for r in station.caught_up] == [NOW - 300 * (22 - i) for i in range(23)]
    assert [r.values["temperature"] for r in station.caught_up] == pytest.approx(
        [(i / 10 - 32) / 1.8 for i in range(23)]
    )
    assert {r.period_s for r in station.caught_up} == {300} and station.rejected == {}


def test_what_was_kept_before_is_not_fetched_again(plug, listen):
    console = Console(NOON, archive(100))
    station = listen(plug(console), newest=NOW - 3 * 300 - 17)
    until(lambda: station.live, "a packet")
    assert console.stamps == [stamp_bytes(NOON - 4 * FIVE)]  # the record before it
    assert [r.t for r in station.caught_up] == [NOW - 900, NOW - 600, NOW - 300, NOW]


def test_a_console_that_does_not_find_the_stamp_sends_everything_and_what_is_old_is_left_out(plug, listen):
    console = Console(NOON, archive(40))
    station = listen(plug(console), newest=NOW - 40 * 86_400)
    until(lambda: station.live, "a packet")
    assert len(station.caught_up) == 40
    other = listen(plug(Console(NOON, archive(40))), newest=NOW - 86_400, catch_up_days=0.02)
    until(lambda: other.live, "a packet")
    assert [r.t for r in other.caught_up] == [NOW - 300 * i for i in range(5, -1, -1)] and other.rejected == {}


def test_the_archive_is_a_ring_and_old_records_behind_the_newest_are_no_news(plug, listen):
    ring = [*archive(12), *archive(3, NOON - timedelta(days=8))]
    station = listen(plug(Console(NOON, ring)), newest=NOW - 7 * 300)
    until(lambda: station.live, "a packet")
    assert [r.t for r in station.caught_up] == [NOW - 300 * i for i in range(6, -1, -1)] and station.rejected == {}


def test_damaged_pages_are_sent_again(plug, listen):
    console = Console(NOON, archive(20))
    console.faults.spoil_pages = 2
    station = listen(plug(console))
    until(lambda: station.live, "a packet")
    assert len(station.caught_up) == 20 and station.rejected == {"bad-checksum": 2}


def test_an_archive_that_cannot_be_had_holds_nothing_up_and_is_asked_for_again(plug, listen, monkeypatch):
    monkeypatch.setattr(vantage_talk, "BATCH", 4)
    monkeypatch.setattr(vantage_talk, "BATCHES", 2)
    console = Console(NOON, archive(20))
    console.faults.slow_pages = True
    station = listen(plug(console))
    until(lambda: station.live, "packets without an archive")
    assert station.rejected["no-archive"] >= 1 and not station.caught_up
    console.faults.slow_pages = False
    until(lambda: len(station.caught_up) == 20, "the archive after all")


def test_a_clock_that_was_wrong_for_a_while_spoils_no_other_record(plug, listen):
    wrong = [record(datetime(2031, 1, 1, 0, 5), 1), record(NOON - 9 * FIVE, 2)]
    records = [*archive(6, NOON - 5 * FIVE), *wrong, *archive(5)]
    station = listen(plug(Console(NOON, records)), newest=NOW - 3600)
    until(lambda: station.live, "a packet")
    assert [r.t for r in station.caught_up] == [NOW - 300 * i for i in range(10, -1, -1)]
    assert station.rejected == {"bad-time": 1, "old-record": 1}


@pytest.mark.parametrize(("day", "hours"), [(datetime(2024, 3, 31), 23), (datetime(2024, 10, 27), 25)])
@pytest.mark.parametrize("before_h", [0.5, 1.5, 2.5, 3.5])
def test_after_a_night_in_which_the_clock_was_changed_each_record_has_its_own_time(plug, listen, day, hours, before_h):
    start = day.replace(tzinfo=ZURICH).timestamp()
    steps = [start + 300 * i for i in range(12 * hours + 1)]
    stamps = [datetime.fromtimestamp(t, ZURICH).replace(tzinfo=None) for t in steps]
    console = Console(stamps[-1], [record(stamp, i) for i, stamp in enumerate(stamps)])
    newest = start + 3600 * before_h
    station = listen(plug(console), now=steps[-1], newest=newest)
    until(lambda: station.live, "a packet")
    assert [r.t for r in station.caught_up] == [t for t in steps if t > newest] and station.rejected == {}


# --- an outage --------------------------------------------------------------------------------------------------------


def test_after_an_outage_the_archive_fills_the_gap_and_no_rain_is_lost_or_counted_twice(plug, listen):
    """Live until 12:02 with 0.4 mm; gone for an hour in which 0.2 mm falls every five minutes."""
    console = Console(NOON + timedelta(minutes=2), archive(3), setup=0x10)
    console.fields["year"] = 100
    plugged = plug(console)
    station = listen(plugged, now=NOW + 120, newest=NOW)
    until(lambda: len(station.live) > 3, "packets")
    console.fields["year"] = 102
    until(lambda: rain(station) == pytest.approx(0.4), "live rain")
    plugged.unplug()
    until(lambda: station.source.health().state == "waiting", "noticing that it is gone")
    station.clock.advance(3600)
    console.clock += timedelta(hours=1)
    console.archive += [record(NOON + i * FIVE, 680, 1) for i in range(1, 13)]
    console.fields["year"] = 102 + 12 + 1  # and one click since the last record
    seen = len(station.live)
    plugged.plug()
    until(lambda: len(station.live) > seen + 4, "packets after it")
    assert [r.t for r in station.caught_up] == [NOW + 300 * i for i in range(1, 13)]
    assert "rain" not in station.caught_up[0].values and station.rejected["overlapping-sum"] == 1
    assert [r.values["rain"] for r in station.caught_up[1:]] == pytest.approx([0.2] * 11)
    assert rain(station) == pytest.approx(0.2 * (2 + 12 + 1))
    assert station.source.health().reopened == 1


def rain(station: Station) -> float:
    return sum(r.values.get("rain", 0.0) for r in station.readings)


# --- nothing to talk to -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ({"never_awake": True}, "does not answer"),
        ({"silent": True}, "sends none"),
        ({"refuse": {b"LPS": 99, b"LOOP": 99}}, "takes no commands"),
    ],
)
def test_a_console_that_gives_nothing_is_named_with_the_remedy_and_tried_again(plug, listen, fault, words):
    console = Console(NOON)
    for name, value in fault.items():
        setattr(console.faults, name, value)
    station = listen(plug(console), catch_up_days=0)
    until(lambda: station.detail(words), f'"{words}"')
    console.faults.never_awake = console.faults.silent = False
    console.faults.refuse = {}
    until(lambda: station.live, "a packet after all")


def test_unplugged_in_the_middle_of_the_archive_it_goes_on_from_there(plug, listen, monkeypatch):
    monkeypatch.setattr(vantage_talk, "ANSWER_S", 5.0)
    console = Console(NOON, archive(60))
    console.faults.pages_left = 4
    plugged = plug(console)
    station = listen(plugged)
    until(lambda: len(station.caught_up) == 20, "the first pages")
    plugged.unplug()
    console.faults.pages_left = 999
    plugged.plug()
    until(lambda: station.live, "a packet")
    assert [r.t for r in station.caught_up] == [NOW - 300 * i for i in range(59, -1, -1)]
    assert console.stamps[1] == stamp_bytes(NOON - 40 * FIVE)


@pytest.mark.parametrize("fault", ["never_awake", "silent", "slow_pages", "none"])
def test_stop_is_heard_at_once_whatever_the_console_does(plug, listen, monkeypatch, fault):
    for name in ("WAKE_S", "ANSWER_S", "SILENCE_S"):
        monkeypatch.setattr(vantage_talk, name, 60.0)
    console = Console(NOON, archive(60))
    if fault != "none":
        setattr(console.faults, fault, True)
    station = listen(plug(console))
    until(lambda: fault == "never_awake" or console.asked, "the conversation")
    time.sleep(0.3)
    thread = next(t for t in threading.enumerate() if t.name == "sensor roof")
    station.source.stop()  # waits a second at most
    assert not thread.is_alive()


def test_another_program_chattering_on_the_port_is_no_console_and_no_flood(plug, listen):
    console = Console(NOON)
    console.says = lambda: b"hello " * 100  # type: ignore[method-assign]
    station = listen(plug(console), catch_up_days=0)
    until(lambda: station.detail("Trying again"), "giving up for now")
    assert not station.live
