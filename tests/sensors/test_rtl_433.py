"""rtl_433: fields and units, repeats, which device is meant, one value a topic."""

from __future__ import annotations

import json
import os
from collections import Counter
from pathlib import Path

import pytest

from edge_agent.clock import parse_time
from edge_agent.errors import BadMessage, ConfigError
from edge_agent.sensors.mapping import Origin
from edge_agent.sensors.rtl_433 import Rtl433

CORPUS = Path(os.environ.get("STATIONCAST_CORPUS", Path(__file__).parents[2].parent / "shared" / "data"))
RECORDING = CORPUS / "raw-sensors" / "rtl433-json" / "weather_sensors.jsonl"
EVENTS = "rtl_433/pi/events"
ADOPTED = "rtl_433/pi/devices/Acurite-5n1/#"


@pytest.fixture
def build(make_sensor):
    """With a device that was adopted by its topic, so that options need not."""
    return lambda **options: Rtl433(make_sensor("rtl_433", {}, options=options, topic=ADOPTED))


def event(**fields: object) -> bytes:
    return json.dumps(
        {"time": "2024-05-01T12:00:00Z", "model": "Acurite-5n1", "id": 839, "channel": "A", **fields}
    ).encode()


def refusal(decoder: Rtl433, payload: bytes, topic: str = EVENTS, at: float = 0.0) -> str:
    with pytest.raises(BadMessage) as caught:
        decoder.decode_from(payload, Origin(topic, at))
    return caught.value.reason


@pytest.mark.parametrize(
    ("field", "raw", "variable", "value"),
    [
        ("temperature_C", 16.9, "temperature", 16.9),
        ("temperature_F", 30.2, "temperature", -1.0),
        ("temperature_1_C", 4.5, "temperature", 4.5),
        ("humidity", 63, "humidity", 63.0),
        ("moisture", 41, "soil_moisture", 41.0),
        ("wind_avg_m_s", 3.442, "wind_speed", 3.442),
        ("wind_avg_km_h", 36.0, "wind_speed", 10.0),
        ("wind_avg_mi_h", 10, "wind_speed", 4.4704),
        ("wind_max_km_h", 25.704, "wind_gust", 7.14),
        ("gust_speed_mi_h", 10, "wind_gust", 4.4704),
        ("wind_dir_deg", 337.5, "wind_direction", 337.5),
        ("rain_rate_mm_h", 1.5, "rain_rate", 1.5),
        ("rain_rate_in_h", 0.1, "rain_rate", 2.54),
        ("pressure_hPa", 1005, "pressure", 1005.0),
        ("pressure_inHg", 29.92, "pressure", 1013.2075),
        ("pressure_psi", 14.5, "pressure", 999.7398),
        ("uvi", 3.5, "uv_index", 3.5),
        ("pm2_5_ug_m3", 12, "pm2_5", 12.0),
        ("pm10_0_ug_m3", 30, "pm10", 30.0),
    ],
)
def test_every_unit_that_it_prints_arrives_in_the_vocabularys(build, field, raw, variable, value):
    (reading,) = build().decode(event(**{field: raw}))
    assert reading.values == {variable: pytest.approx(value, abs=1e-4)} and not reading.totals


@pytest.mark.parametrize(("field", "raw", "mm"), [("rain_mm", 56.1, 56.1), ("rain_in", 0.66, 16.764)])
def test_rain_is_the_gauges_running_total(build, field, raw, mm):
    (reading,) = build().decode(event(**{field: raw}))
    assert reading.totals == {"rain": pytest.approx(mm)} and not reading.values


def test_the_index_is_preferred_to_the_raw_count_of_a_uv_sensor(build):
    (reading,) = build().decode(event(uv=1234, uvi=3.0))
    assert reading.values == {"uv_index": 3.0}


def test_a_name_without_its_unit_is_counted_and_not_guessed(build):
    counts: Counter[str] = Counter()
    (reading,) = build().decode(event(wind_speed=2.0, humidity=50), lambda reason: counts.update([reason]))
    assert reading.values == {"humidity": 50.0} and counts == {"no-unit": 1}
    (older,) = build().decode(event(model="Bresser-5in1", wind_speed=2.0, wind_gust=2.4))
    assert older.values == {"wind_speed": 2.0, "wind_gust": 2.4}


@pytest.mark.parametrize(
    ("fields", "state"),
    [
        ({"battery_ok": 1}, "ok"),
        ({"battery_ok": 0}, "low"),
        ({"battery_ok": 0.1}, "low"),
        ({"battery_ok": 0.6, "battery_V": 1.3}, "ok"),
        ({"battery_V": 1.3}, 1.3),
        ({"battery_mV": 1300}, 1.3),
        ({"battery": "LOW"}, "low"),
    ],
)
def test_the_battery_is_ok_low_or_volts(build, fields, state):
    (reading,) = build().decode(event(humidity=50, **fields))
    assert reading.battery == {"sensor": pytest.approx(state) if isinstance(state, float) else state}


def test_a_bare_battery_number_means_nothing(build):
    (reading,) = build().decode(event(humidity=50, battery=1))
    assert reading.battery == {}


@pytest.mark.parametrize(
    ("time", "t"),
    [
        ("2024-05-01T12:00:00Z", "2024-05-01T12:00:00Z"),
        ("2024-05-01T14:00:00+0200", "2024-05-01T12:00:00Z"),
        ("1714564800.123456", "2024-05-01T12:00:00Z"),
        (1714564800, "2024-05-01T12:00:00Z"),
        ("2024-05-01 12:00:00", None),
        ("@0.067586s", None),
        ("1970-01-01T00:00:10Z", None),
        (None, None),
        ([1], None),
    ],
)
def test_only_a_time_beyond_doubt_is_the_readings_time(build, time, t):
    (reading,) = build().decode(event(humidity=50, time=time))
    assert reading.t == (None if t is None else parse_time(t))


@pytest.mark.parametrize(
    ("first", "second", "dropped"),
    [
        ("@0.25s", "@0.55s", True),
        ("@0.25s", "@2.26s", False),
        ("2024-05-01 12:00:00", "2024-05-01 12:00:02", True),
        ("2024-05-01 12:00:00", "2024-05-01 12:00:03", False),
        ("1714564800.5", "1714564802.4", True),
        ("1714564800.5", "1714564816.5", False),
        ("2024-05-01T12:00:00Z", "2024-05-01T14:00:01+02:00", True),
    ],
)
def test_a_repeat_within_two_seconds_is_one_message(build, first, second, dropped):
    decoder = build()
    assert decoder.decode(event(time=first, humidity=50, sequence_num=0))
    if dropped:
        assert refusal(decoder, event(time=second, humidity=50, sequence_num=1)) == "repeat"
    else:
        assert decoder.decode(event(time=second, humidity=50, sequence_num=1))


def test_without_a_time_repeats_are_known_by_when_they_came(build):
    decoder = build()
    payload = event(time=None, humidity=50)
    assert decoder.decode_from(payload, Origin(EVENTS, 100.0))
    assert refusal(decoder, payload, at=101.0) == "repeat"
    assert decoder.decode_from(payload, Origin(EVENTS, 160.0))


def test_another_value_or_another_unit_of_the_model_is_no_repeat(build):
    decoder = build()
    for fields in ({"humidity": 50}, {"humidity": 51}, {"humidity": 50, "id": 12}, {"humidity": 50, "channel": "B"}):
        assert decoder.decode(event(**fields))


def test_a_device_is_known_by_model_channel_and_subtype_and_not_by_its_id(build):
    names = {build().decode(event(humidity=50, **more))[0].device for more in ({"id": 1}, {"id": 2})}
    assert names == {"Acurite-5n1/A"}
    (reading,) = build().decode(event(humidity=50, subtype=32))
    assert reading.device == "Acurite-5n1/A/32"


@pytest.mark.parametrize(
    ("options", "taken"),
    [
        ({"model": "Acurite-5n1"}, True),
        ({"model": "Acurite-5n1", "channel": "A", "id": 839}, True),
        ({"model": "Acurite-5n1", "id": "839"}, True),
        ({"model": "Acurite-3n1"}, False),
        ({"channel": "B"}, False),
        ({"id": 840}, False),
        ({"subtype": 0}, False),
    ],
)
def test_options_narrow_to_one_device(build, options, taken):
    for topic, payload in (
        (EVENTS, event(humidity=50)),
        ("rtl_433/pi/devices/Acurite-5n1/A/839/humidity", b"50"),
    ):
        if taken:
            assert build(**options).decode_from(payload, Origin(topic, 0.0))
        else:
            assert refusal(build(**options), payload, topic) == "other-device"


@pytest.mark.parametrize(
    ("topic", "options", "adopted"),
    [
        ("rtl_433/+/events", {}, False),
        ("rtl_433/+/events", {"channel": "A"}, False),
        ("rtl_433/+/events", {"id": 839}, False),
        ("rtl_433/+/devices/#", {}, False),
        ("rtl_433/+/devices/+/+/+/temperature_C", {}, False),
        ("rtl_433/+/events", {"model": "Acurite-5n1"}, True),
        ("rtl_433/+/devices/Acurite-5n1/#", {}, True),
        (None, {}, True),
    ],
)
def test_a_neighbours_device_is_not_read_unless_its_model_was_named(make_sensor, make_desk, topic, options, adopted):
    """A recording has no topic: what it holds is shown, so that a device can be chosen."""
    desk = make_desk(make_sensor("rtl_433", {}, topic=topic, options=options))
    desk.intake.message(event(humidity=50, time="2023-11-14T22:13:00Z"), topic=EVENTS)
    desk.intake.message(b"16.5", topic="rtl_433/pi/devices/Acurite-5n1/A/839/temperature_C")
    assert desk.accepted == (2 if adopted else 0)
    assert desk.rejected == ({} if adopted else {"not-adopted": 2})
    if not adopted:
        assert "heard Acurite-5n1/A; say which is yours" in desk.intake.last_complaint


def test_of_many_devices_that_nobody_adopted_a_few_are_named(make_sensor, make_desk):
    desk = make_desk(make_sensor("rtl_433", {}, topic=EVENTS))
    for n in range(500):
        desk.intake.message(event(humidity=50, model=f"Model-{n}\n" + "x" * 500), topic=EVENTS)
    assert desk.rejected == {"not-adopted": 500}
    assert "heard Model-0x" in desk.intake.last_complaint and len(desk.intake.last_complaint) < 500


def test_an_unknown_option_is_told_with_the_nearest_name(make_sensor):
    with pytest.raises(ConfigError, match=r'unknown option "chanel" \(did you mean "channel"\?\)'):
        Rtl433(make_sensor("rtl_433", {}, options={"chanel": 1}))


def test_one_value_a_topic_is_a_reading_and_what_is_none_is_silent(build):
    decoder = build()
    base = "home/rtl_433/pi/devices/Acurite-5n1/A/839"
    (reading,) = decoder.decode_from(b"71.6", Origin(f"{base}/temperature_F", 0.0))
    assert reading.values == {"temperature": pytest.approx(22.0)} and reading.device == "Acurite-5n1/A"
    (rain,) = decoder.decode_from(b"0.5", Origin(f"{base}/rain_in", 0.0))
    assert rain.totals == {"rain": pytest.approx(12.7)}
    (battery,) = decoder.decode_from(b"0", Origin(f"{base}/battery_ok", 0.0))
    assert battery.battery == {"sensor": "low"}
    for field, raw in (("time", b"2024-05-01 12:00:00"), ("id", b"839"), ("mic", b"CRC")):
        assert decoder.decode_from(raw, Origin(f"{base}/{field}", 0.0)) == []
    assert decoder.decode_from(b"online", Origin("rtl_433/pi/availability", 0.0)) == []
    assert refusal(decoder, b"71.6", f"{base}/temperature_F", at=0.5) == "repeat"


def test_a_tyre_is_no_weather_station(build):
    assert refusal(build(), event(type="TPMS", pressure_kPa=220)) == "no-mapped-value"


@pytest.mark.skipif(not RECORDING.is_file(), reason=f"no recording at {RECORDING} (set STATIONCAST_CORPUS)")
def test_the_recorded_frames_are_read_but_for_a_clock_signal_and_two_repeats(make_sensor, make_desk):
    desk = make_desk(make_sensor("rtl_433", {}, topic=None))
    for line in RECORDING.read_bytes().splitlines():
        desk.intake.message(line, topic=EVENTS)
        desk.clock.advance(1.0)
    assert desk.accepted == 19
    assert desk.rejected == {"first-total": 8, "no-mapped-value": 1, "repeat": 2}
    station = next(r for r in desk.readings if r.device == "Fineoffset-WH65B")
    assert station.values == {
        "temperature": 11.5,
        "humidity": 64.0,
        "wind_speed": 3.442,
        "wind_gust": 4.08,
        "wind_direction": 37.0,
        "uv_index": 0.0,
    }
