"""Zigbee2MQTT: what a device exposes, and what around it is no reading."""

from __future__ import annotations

import json

import pytest

from edge_agent.clock import parse_time
from edge_agent.errors import BadMessage
from edge_agent.sensors.mapping import Origin
from edge_agent.sensors.zigbee2mqtt import Zigbee2Mqtt

TERRACE = {"temperature": 21.5, "humidity": 45.1, "pressure": 965.3, "battery": 97, "voltage": 2995, "linkquality": 120}


@pytest.fixture
def build(make_sensor):
    return lambda **options: Zigbee2Mqtt(make_sensor("zigbee2mqtt", {}, options=options))


def read(decoder: Zigbee2Mqtt, topic: str, **fields: object):
    return decoder.decode_from(json.dumps(fields).encode(), Origin(topic, 0.0))


def test_properties_are_read_in_the_units_that_devices_expose(build):
    (reading,) = read(build(), "zigbee2mqtt/north side/terrace", **TERRACE, pm25=7, soil_moisture=31)
    assert reading.values == {
        "temperature": 21.5,
        "humidity": 45.1,
        "pressure": 965.3,
        "pm2_5": 7.0,
        "soil_moisture": 31.0,
    }
    assert reading.device == "north side/terrace" and reading.t is None


def test_another_base_topic(build):
    assert read(build(base="zig/upper/"), "zig/upper/terrace", **TERRACE)[0].device == "terrace"


@pytest.mark.parametrize(
    ("last_seen", "t"),
    [
        (1_714_564_800_500, "2024-05-01T12:00:00Z"),
        ("2024-05-01T12:00:00.500Z", "2024-05-01T12:00:00Z"),
        ("2024-05-01T14:00:00+02:00", "2024-05-01T12:00:00Z"),
        ("2024-05-01T14:00:00", None),
        (True, None),
        (1e300, None),
        (None, None),
    ],
)
def test_last_seen_is_the_time_in_every_form_it_may_have(build, last_seen, t):
    (reading,) = read(build(), "zigbee2mqtt/terrace", **TERRACE, last_seen=last_seen)
    assert reading.t == (None if t is None else parse_time(t))


@pytest.mark.parametrize(
    ("fields", "state"),
    [({"battery": 97}, "ok"), ({"battery": 12}, "low"), ({"battery_low": True, "battery": 97}, "low")],
)
def test_the_battery_is_ok_or_low(build, fields, state):
    assert read(build(), "zigbee2mqtt/terrace", **fields)[0].battery == {"sensor": state}


def test_the_bridge_availability_and_commands_are_no_messages(build):
    for topic in ("bridge/state", "bridge/devices", "terrace/availability", "terrace/set", "a/b/get"):
        assert build().decode_from(b"online", Origin(f"zigbee2mqtt/{topic}", 0.0)) == []


def test_a_lamp_is_no_weather_station(build):
    with pytest.raises(BadMessage, match="no-mapped-value"):
        read(build(), "zigbee2mqtt/lamp", state="ON", linkquality=120)
    with pytest.raises(BadMessage, match="no-usable-value"):
        read(build(), "zigbee2mqtt/terrace", temperature=None)
