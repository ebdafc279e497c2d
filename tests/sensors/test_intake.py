"""What happens to a message whatever carried it: bounds, times, running totals, and an account of everything."""

from __future__ import annotations

import json
import math

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edge_agent.clock import ManualClock
from edge_agent.observation import Reading
from edge_agent.publish.schemas import validate
from edge_agent.sensors.mapping import Count, Origin, uncounted
from edge_agent.sensors.source import Intake
from tests.sensors.conftest import NOW
from tests.sensors.heartbeats import heartbeat_of

MAP = {"t": ("temperature", "degC")}


def message(**values) -> bytes:
    return json.dumps(values).encode()


def test_a_message_larger_than_the_bound_is_counted_and_not_read(make_sensor, make_desk):
    desk = make_desk(make_sensor("mqtt_json", MAP, max_message_bytes=100))
    desk.intake.message(message(t=1, pad="x" * 100))
    assert desk.rejected == {"too-large": 1} and not desk.readings


def test_messages_beyond_the_rate_are_counted_and_time_lets_more_pass(make_sensor, make_desk):
    desk = make_desk(make_sensor("mqtt_json", MAP, max_messages_s=2.0))
    for _ in range(1000):
        desk.intake.message(message(t=1))
    assert desk.accepted == 120 and desk.rejected == {"too-fast": 880}  # a minute's worth may come at once
    desk.clock.advance(10.0)
    for _ in range(100):
        desk.intake.message(message(t=1))
    assert desk.accepted == 140


def test_a_retained_message_is_a_reading_only_if_it_says_when(make_sensor, make_desk):
    desk = make_desk(make_sensor("mqtt_json", MAP))
    desk.intake.message(message(t=1), retained=True)
    assert desk.rejected == {"retained-without-time": 1} and not desk.readings
    timed = make_desk(make_sensor("mqtt_json", MAP, time="at"))
    timed.intake.message(message(t=1, at=1_699_999_000), retained=True)
    assert timed.readings[0].t == 1_699_999_000


@pytest.mark.parametrize(("ahead", "accepted"), [(-86400, 1), (0, 1), (600, 1), (601, 0), (86400, 0)])
def test_a_time_far_in_the_future_is_refused(make_sensor, make_desk, ahead, accepted):
    desk = make_desk(make_sensor("json_lines", MAP, time="at"))
    desk.intake.message(message(t=1, at=desk.clock.now() + ahead))
    assert desk.accepted == accepted and desk.rejected.get("bad-time", 0) == 1 - accepted


def test_a_device_that_woke_up_in_1970_does_not_call_its_sensors_wrong(make_sensor, make_desk):
    desk = make_desk(make_sensor("json_lines", MAP, time="at"), now=60.0)
    desk.intake.message(message(t=1, at=1_700_000_000))
    assert desk.accepted == 1


def test_a_station_in_the_topic_must_be_one_of_ours(make_sensor, make_desk):
    desk = make_desk(make_sensor("mqtt_json", MAP, topic="raw/{station}"), stations=("home", "hill"))
    for station in ("hill", "elsewhere", "", "home"):
        desk.intake.message(message(t=1), station=station)
    assert [reading.station for reading in desk.readings] == ["hill", "home"]
    assert desk.rejected == {"unknown-station": 2}


def test_what_the_agent_cannot_take_is_counted(make_sensor, make_desk):
    desk = make_desk(make_sensor("json_lines", MAP))
    desk.full = True
    desk.intake.message(message(t=1))
    assert desk.rejected == {"queue-full": 1} and desk.accepted == 0


RAIN = {"t": ("temperature", "degC"), "r": ("rain", "in", True)}


def test_a_running_total_becomes_rain_since_the_last_reading(make_sensor, make_desk):
    desk = make_desk(make_sensor("json_lines", RAIN))
    for total in (10.0, 10.0, 10.01):
        desk.intake.message(message(t=1, r=total))
        desk.clock.advance(60)
    assert [reading.values.get("rain") for reading in desk.readings] == [None, 0.0, pytest.approx(0.254)]
    assert desk.rejected == {"first-total": 1}


def test_each_station_of_a_topic_has_its_own_total(make_sensor, make_desk):
    desk = make_desk(make_sensor("mqtt_json", RAIN, topic="raw/{station}"), stations=("home", "hill"))
    for station, total in (("home", 10.0), ("hill", 90.0), ("home", 10.01), ("hill", 90.02)):
        desk.intake.message(message(t=1, r=total), station=station)
        desk.clock.advance(60)
    assert [r.values.get("rain") for r in desk.readings[2:]] == [pytest.approx(0.254), pytest.approx(0.508)]


def test_a_negative_total_is_counted_and_its_neighbours_stay(make_sensor, make_desk):
    desk = make_desk(make_sensor("json_lines", RAIN))
    desk.intake.message(message(t=1, r=-1))
    assert desk.readings[0].values == {"temperature": 1.0} and desk.rejected == {"negative-total": 1}


def test_rain_is_not_lost_while_the_agent_cannot_take_it(make_sensor, make_desk):
    desk = make_desk(make_sensor("json_lines", RAIN))
    for i in range(10):
        desk.full = 3 <= i < 6
        desk.intake.message(message(t=1, r=i / 100))
        desk.clock.advance(60)
    assert sum(r.values.get("rain", 0.0) for r in desk.readings) == pytest.approx(9 * 0.254)


def restarted(make_desk, desk, off_s: float, sensor=None, **more):
    """The next run of an intake, so many seconds later."""
    gauges = {(None, name): state for name, state in desk.readings[-1].gauges.items()}
    return make_desk(sensor or desk.intake.sensor, now=desk.clock.now() + off_s, gauges=gauges, **more)


def counted(desk, *totals: float) -> list[float | None]:
    """What came of totals, a minute apart."""
    before = len(desk.readings)
    for total in totals:
        desk.intake.message(message(t=1, r=total))
        desk.clock.advance(60)
    return [reading.values.get("rain") for reading in desk.readings[before:]]


MM = {"t": ("temperature", "degC"), "r": ("rain", "mm", True)}


@pytest.mark.parametrize("timed", [False, True])
def test_rain_that_falls_while_the_agent_is_stopped_comes_in_one_reading(make_sensor, make_desk, timed):
    def send(desk, *totals):
        for total in totals:
            desk.intake.message(message(t=1, r=total, at=desk.clock.now()))
            desk.clock.advance(60)

    first = make_desk(make_sensor("json_lines", MM, **({"time": "at"} if timed else {})))
    send(first, 10.0, 10.2, 10.4)
    second = restarted(make_desk, first, 5 * 3600)
    send(second, 22.4, 22.6)
    assert [reading.values["rain"] for reading in second.readings] == pytest.approx([12.0, 0.2])
    assert [reading.gathered_s for reading in second.readings] == [5 * 3600 + 60, None]
    assert second.rejected == {}


def test_a_short_stop_is_no_gap(make_sensor, make_desk):
    first = make_desk(make_sensor("json_lines", MM))
    counted(first, 10.0, 10.2)
    second = restarted(make_desk, first, 600)
    assert counted(second, 11.0) == [0.8] and second.readings[0].gathered_s is None


def test_the_rules_of_totals_hold_over_a_stop(make_sensor, make_desk):
    first = make_desk(make_sensor("json_lines", MM))
    counted(first, 990.0, 998.0, 998.2)
    corrupt, true = counted(restarted(make_desk, first, 3600), 49.0, 998.6)
    assert (corrupt, true) == (None, 0.4)
    assert counted(restarted(make_desk, first, 3600), 1.0, 1.2) == [None, 3.0]  # wrapped at 1,000
    assert counted(restarted(make_desk, first, 3600), 0.4, 0.6) == [None, 2.4]  # that too
    reset = make_desk(make_sensor("json_lines", MM))
    counted(reset, 10.0, 10.2, 10.4)
    assert counted(restarted(make_desk, reset, 3600), 0.4, 0.6) == [None, 0.6]  # began anew


@pytest.mark.parametrize("off_s", [-86_400, -1.6e9])
def test_a_clock_that_stands_before_its_own_past_still_counts_what_fell(make_sensor, make_desk, off_s):
    """A device without a battery wakes up yesterday, or in 1970."""
    first = make_desk(make_sensor("json_lines", MM))
    counted(first, 10.0, 10.2)
    second = restarted(make_desk, first, off_s)
    assert sum(mm or 0.0 for mm in counted(second, 16.2, 16.4)) == pytest.approx(6.2)


def test_totals_in_another_unit_are_begun_anew(make_sensor, make_desk):
    first = make_desk(make_sensor("json_lines", MM))
    counted(first, 10.0, 10.2)
    second = restarted(make_desk, first, 60, sensor=make_sensor("json_lines", RAIN))
    assert counted(second, 0.5) == [None] and second.rejected == {"first-total": 1}


def test_rain_the_agent_could_not_take_is_part_of_what_is_put_down(make_sensor, make_desk):
    first = make_desk(make_sensor("json_lines", MM))
    counted(first, 10.0, 10.2)
    first.full = True
    counted(first, 10.4)
    first.full = False
    second = restarted(make_desk, first, 60)
    assert counted(second, 10.6) == pytest.approx([0.4])


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(payloads=st.lists(st.binary(max_size=40) | st.just(b'{"t": 1}') | st.just(b'{"t": null}'), max_size=30))
def test_every_message_is_accounted_for(make_sensor, make_desk, payloads):
    """Accepted, or refused under at least one name; only blank lines and comments are neither."""
    desk = make_desk(make_sensor("json_lines", MAP))
    for payload in payloads:
        before = desk.accepted + sum(desk.rejected.values())
        desk.intake.message(payload)
        silent = not payload.strip(b" \t\r\n\0") or payload.strip(b" \t\r\n\0").startswith(b"#")
        assert (desk.accepted + sum(desk.rejected.values()) > before) != silent
    assert desk.accepted == len(desk.readings)


def test_health_tells_when_the_last_reading_was(make_sensor, make_desk):
    desk = make_desk(make_sensor("json_lines", MAP))
    assert desk.intake.health("reading", "", 0).last_t is None
    desk.intake.message(message(t=1))
    health = desk.intake.health("waiting", "gone", 2)
    assert health.last_t == desk.clock.now()
    assert (health.name, health.driver, health.state, health.detail, health.reopened) == (
        "roof",
        "json_lines",
        "waiting",
        "gone",
        2,
    )


class ByTopic:
    """Reads the topic's last level as the variable."""

    detects_cuts = True

    def __init__(self) -> None:
        self.origins: list[Origin] = []

    def decode(self, payload: bytes, count: Count = uncounted) -> list[Reading]:
        raise AssertionError("the topic matters")

    def decode_from(self, payload: bytes, origin: Origin, count: Count = uncounted) -> list[Reading]:
        self.origins.append(origin)
        return [Reading({"temperature": float(payload)}, device=origin.topic)]


def test_a_decoder_that_needs_it_is_told_the_topic_and_how_far_messages_lie_apart(make_sensor, monkeypatch):
    decoder, clock, readings = ByTopic(), ManualClock(NOW), []
    sensor = make_sensor("mqtt_json", MAP)
    intake = Intake(sensor, decoder, lambda s, reading, arrived: not readings.append(reading), clock, ())
    intake.message(b"1", topic="a/b")
    clock.advance(2.5)
    clock.set(0.0)  # be set to another time: differences do not notice
    intake.message(b"2", topic="a/c")
    assert [origin.topic for origin in decoder.origins] == ["a/b", "a/c"]
    assert decoder.origins[1].at - decoder.origins[0].at == 2.5
    assert [reading.device for reading in readings] == ["a/b", "a/c"]


def test_a_variable_from_several_devices_is_told_in_words(make_sensor):
    intake = Intake(make_sensor("mqtt_json", MAP), ByTopic(), lambda *_: True, ManualClock(NOW), ())
    for topic in ("garden", "garden"):
        intake.message(b"1", topic=topic)
    assert intake.mixed == ""
    intake.message(b"1", topic="neighbour")
    assert intake.mixed == "temperature comes from 2 devices (garden, neighbour)"
    for i in range(1000):
        intake.message(b"1", topic=f"radio {i}")
    assert "from 64 devices" in intake.mixed  # and no more are remembered


class Gauge:
    """A device with batteries and a rain counter."""

    detects_cuts = True

    def __init__(self) -> None:
        self.next = Reading({})

    def decode(self, payload: bytes, count: Count = uncounted) -> list[Reading]:
        return [self.next]


def test_batteries_and_counters_are_told_by_part_and_device(make_sensor):
    gauge = Gauge()
    intake = Intake(make_sensor("mqtt_json", MAP), gauge, lambda *_: True, ManualClock(NOW), ())
    gauge.next = Reading({}, totals={"rain": 12.4}, battery={"outdoor": "ok", "console": 4.5})
    intake.message(b"x")
    gauge.next = Reading({}, totals={"rain": 3.0}, battery={"outdoor": "low"}, device="shed")
    intake.message(b"x")
    health = intake.health("reading", "", 0)
    assert health.battery == {"outdoor": "ok", "console": 4.5, "shed outdoor": "low"}
    assert health.counters == {"rain": 12.4, "shed rain": 3.0}


def test_what_devices_call_their_parts_can_always_be_published(make_sensor):
    gauge = Gauge()
    intake = Intake(make_sensor("mqtt_json", MAP), gauge, lambda *_: True, ManualClock(NOW), ())
    states: dict[str, str | float] = {
        "": "ok",
        "\ud800": "ok",
        "a\nb": "ok",
        "x" * 500: "y" * 500,
        "nan": math.nan,
        "e": "",
    }
    gauge.next = Reading({}, totals={"rain": 1.0}, battery=states, device="\x1b\udfff")
    for _ in range(3):
        intake.message(b"x")
    health = intake.health("reading", "", 0)
    assert set(health.battery) == {"ab", "x" * 100} and health.battery["x" * 100] == "y" * 100
    assert validate("status", heartbeat_of(health)).sensors["roof"].battery == health.battery


def test_a_neighbourhood_of_radios_takes_bounded_memory(make_sensor):
    gauge = Gauge()
    intake = Intake(make_sensor("mqtt_json", MAP, max_messages_s=10_000), gauge, lambda *_: True, ManualClock(NOW), ())
    for i in range(500):
        gauge.next = Reading({}, totals={"rain": 1.0}, battery={"sensor": "ok"}, device=f"radio {i}")
        intake.message(b"x")
    health = intake.health("reading", "", 0)
    assert len(health.battery) == 64 and len(health.counters) == 64


def test_the_total_stands_beside_the_rain_that_is_made_of_it(make_sensor, make_desk):
    desk = make_desk(make_sensor("json_lines", RAIN))
    for total in (10.0, 10.01):
        desk.intake.message(message(t=1, r=total))
    assert [reading.totals for reading in desk.readings] == [
        {"rain": pytest.approx(254.0)},
        {"rain": pytest.approx(254.254)},
    ]
