"""Tasmota: blocks, units said beside them, and a civil time without a zone."""

from __future__ import annotations

import json
from collections import Counter

import pytest

from edge_agent.clock import parse_time
from edge_agent.errors import BadMessage, ConfigError
from edge_agent.sensors.mapping import Origin
from edge_agent.sensors.tasmota import Tasmota

TOPIC = "tele/shed/SENSOR"
BME = {"Temperature": 21.5, "Humidity": 45.1, "DewPoint": 9.1, "Pressure": 965.3, "SeaPressure": 1013.2}


@pytest.fixture
def build(make_sensor):
    return lambda **options: Tasmota(make_sensor("tasmota", {}, options=options))


def message(time: object = "2024-05-01T14:00:00", **blocks: object) -> bytes:
    return json.dumps({"Time": time, **blocks}).encode()


def test_a_block_is_a_reading_of_its_device(build):
    payload = message(BME280=BME, **{"DS18B20-1": {"Id": "01", "Temperature": 4.0}}, PressureUnit="hPa", TempUnit="C")
    first, second = build().decode_from(payload, Origin(TOPIC, 0.0))
    assert first.values == {
        "temperature": 21.5,
        "humidity": 45.1,
        "dew_point": 9.1,
        "pressure": 965.3,
        "pressure_msl": 1013.2,
    }
    assert (first.device, second.device) == ("shed/BME280", "shed/DS18B20-1")
    assert second.values == {"temperature": 4.0}


def test_one_block_may_be_asked_for(build):
    payload = message(BME280=BME, DS18B20={"Temperature": 4.0})
    (reading,) = build(block="DS18B20").decode_from(payload, Origin(TOPIC, 0.0))
    assert reading.values == {"temperature": 4.0}


def test_units_are_those_that_the_message_says(build):
    payload = message(
        BME280={"Temperature": 50.0, "Pressure": 29.92},
        TX23={"Speed": {"Act": 14.8, "Avg": 7.2, "Max": 36.0}, "Dir": {"Card": "WSW", "Deg": 247.5}},
        TempUnit="F",
        PressureUnit="inHg",
        SpeedUnit="km/h",
    )
    air, wind = build().decode_from(payload, Origin(TOPIC, 0.0))
    assert air.values == pytest.approx({"temperature": 10.0, "pressure": 1013.2075}, abs=1e-3)
    assert wind.values == pytest.approx({"wind_speed": 2.0, "wind_gust": 10.0, "wind_direction": 247.5})


def test_a_speed_without_its_unit_is_counted(build):
    counts: Counter[str] = Counter()
    payload = message(TX23={"Speed": {"Avg": 7.2}, "Dir": {"Deg": 90}})
    (reading,) = build().decode_from(payload, Origin(TOPIC, 0.0), lambda reason: counts.update([reason]))
    assert reading.values == {"wind_direction": 90.0} and counts == {"no-unit": 1}


def test_the_processors_temperature_is_no_weather(build):
    with pytest.raises(BadMessage, match="no-mapped-value"):
        build().decode_from(message(ESP32={"Temperature": 53.3}, TempUnit="C"), Origin(TOPIC, 0.0))


def test_a_sensor_that_failed_says_null(build):
    with pytest.raises(BadMessage, match="no-usable-value"):
        build().decode_from(message(BME280={"Temperature": None}), Origin(TOPIC, 0.0))


@pytest.mark.parametrize(
    ("time", "zone", "t"),
    [
        ("2024-05-01T14:00:00", "", None),
        ("2024-05-01T14:00:00", "Europe/Zurich", "2024-05-01T12:00:00Z"),
        ("2024-01-01T14:00:00", "Europe/Zurich", "2024-01-01T13:00:00Z"),
        ("2024-05-01T14:00:00+02:00", "", "2024-05-01T12:00:00Z"),
        ("2024-05-01T14:00:00+02:00", "America/Denver", "2024-05-01T12:00:00Z"),
        ("2024-03-31T02:30:00", "Europe/Zurich", None),  # no such hour
        ("2024-10-27T02:30:00", "Europe/Zurich", None),  # twice
        ("2024-10-27T03:30:00", "Europe/Zurich", "2024-10-27T02:30:00Z"),
        ("1970-01-01T00:00:09", "Europe/Zurich", None),
        ("0001-01-01T00:00:00", "Asia/Tokyo", None),
        ("soon", "Europe/Zurich", None),
        (12, "Europe/Zurich", None),
    ],
)
def test_a_civil_time_is_read_only_where_it_is_one_moment(build, time, zone, t):
    (reading,) = build(timezone=zone).decode_from(message(time, BME280=BME), Origin(TOPIC, 0.0))
    assert reading.t == (None if t is None else parse_time(t))


def test_other_messages_of_the_device_are_none(build):
    for topic in ("tele/shed/LWT", "tele/shed/STATE", "tele/shed/INFO1"):
        assert build().decode_from(b"Online", Origin(topic, 0.0)) == []


def test_the_answer_to_a_command_is_read_too(build):
    payload = json.dumps({"StatusSNS": {"Time": "2024-05-01T14:00:00", "BME280": BME}}).encode()
    (reading,) = build().decode_from(payload, Origin("stat/shed/STATUS10", 0.0))
    assert reading.device == "shed/BME280"


@pytest.mark.parametrize("zone", ["Europe/Zurch", "../../etc/passwd", "\0"])
def test_an_unknown_time_zone_is_a_configuration_error(build, zone):
    with pytest.raises(ConfigError, match="write a name like"):
        build(timezone=zone)
