"""Every MQTT driver: whatever comes ends in readings or in a refusal with a name, and the intake accounts for it."""

from __future__ import annotations

import json
import math

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from edge_agent.errors import BadMessage
from edge_agent.publish.schemas import validate
from edge_agent.sensors import DRIVERS
from edge_agent.sensors.driver import Transport
from edge_agent.variables import VARIABLES
from tests.sensors.heartbeats import heartbeat_of

NAMES = ["rtl_433", "weewx", "tasmota", "esphome", "zigbee2mqtt"]
TOPICS = [
    "",
    "a/b/devices/Acurite-5n1/A/839/temperature_C",
    "devices/rain_mm",
    "weather/loop",
    "tele/shed/SENSOR",
    "balcony/sensor/t/state",
    "zigbee2mqtt/terrace",
]
SEEDS: list[dict[str, object]] = [
    {"time": "@0.25s", "model": "Acurite-5n1", "channel": "A", "temperature_C": 1, "rain_in": 0.6, "battery_ok": 1},
    {"dateTime": "1714564800", "outTemp": "5", "usUnits": "16", "rain_mm": "0.2", "altimeter_mbar": "1013"},
    {"Time": "2024-05-01T12:00:00", "BME280": {"Temperature": 21.5, "Pressure": 965}, "TempUnit": "C"},
    {"temperature": 21.5, "battery": 97, "last_seen": 1_714_564_800_000},
]
KEYS = sorted({key for seed in SEEDS for key in seed} | {"id", "subtype", "interval", "windSpeed_kph", "wind_dir_deg"})
LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=12)
TREES = st.recursive(
    LEAVES, lambda each: st.lists(each, max_size=3) | st.dictionaries(st.text(max_size=8), each, max_size=3)
)


@st.composite
def payloads(draw: st.DrawFn) -> bytes:
    """A message with some fields replaced, and some bytes of it; or just bytes."""
    if draw(st.integers(0, 4)) == 0:
        return draw(st.binary(max_size=60))
    fields = dict(draw(st.sampled_from(SEEDS)))
    fields |= draw(st.dictionaries(st.sampled_from(KEYS), TREES, max_size=4))
    raw = bytearray(json.dumps(fields).encode())
    for at in draw(st.lists(st.integers(0, len(raw) - 1), max_size=draw(st.sampled_from([0, 0, 3])))):
        raw[at] = draw(st.integers(0, 255))
    return bytes(raw)


def sensor_for(make_sensor, name: str):
    fields = {"t": ("temperature", "degC"), "r": ("rain", "mm", True)} if DRIVERS[name].maps else {}
    options = {"timezone": "Europe/Zurich"} if name == "tasmota" else {"elevation_m": 400} if name == "weewx" else {}
    return make_sensor(name, fields, options=options)


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(messages=st.lists(st.tuples(payloads(), st.sampled_from(TOPICS)), min_size=1, max_size=4))
@example(messages=[(b'{"model":' + b"[" * 900 + b"]" * 900 + b', "humidity": 5}', "")])
@example(messages=[(b'{"model": "\\ud800", "humidity": 5, "battery_ok": 1, "rain_mm": 3}', "")])
@example(messages=[(b'{"dateTime": 1714564800, "interval": 1e308, "outHumidity": 5}', "weather/loop")])
def test_any_bytes_end_in_readings_or_in_refusals_that_the_status_can_tell(make_sensor, make_desk, name, messages):
    desk = make_desk(sensor_for(make_sensor, name))
    for payload, topic in messages:
        desk.intake.message(payload, topic=topic)
    assert "internal-error" not in desk.rejected and desk.accepted == len(desk.readings)
    for reading in desk.readings:
        assert reading.values and reading.values.keys() <= VARIABLES.keys()
        assert all(math.isfinite(value) for value in reading.values.values())
        assert reading.t is None or isinstance(reading.t, int)
    validate("status", heartbeat_of(desk.intake.health("reading", "", 0)))


@pytest.mark.parametrize("name", NAMES)
@given(payload=st.binary(max_size=200) | payloads())
@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_decoder_by_itself_raises_nothing_else(make_sensor, name, payload):
    decoder = DRIVERS[name].decoder(sensor_for(make_sensor, name))
    try:
        decoder.decode(payload)
    except BadMessage as error:
        assert error.reason


def test_they_say_what_they_deliver():
    for name in NAMES:
        spec = DRIVERS[name]
        assert spec.transport is Transport.MQTT and spec.stamps and spec.help
        assert spec.timed == (name == "weewx")
