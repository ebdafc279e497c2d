"""ESPHome: the topic says what a number is."""

from __future__ import annotations

import pytest

from edge_agent.errors import BadMessage
from edge_agent.sensors.esphome import Esphome
from edge_agent.sensors.mapping import Origin

MAP = {
    "outdoor_temperature": ("temperature", "degC"),
    "pressure": ("pressure", "Pa"),
    "shed/rain_total": ("rain", "mm", True),
}


@pytest.fixture
def build(make_sensor):
    return lambda **options: Esphome(make_sensor("esphome", MAP, options=options))


def read(decoder: Esphome, topic: str, payload: bytes):
    return decoder.decode_from(payload, Origin(topic, 0.0))


def test_a_number_is_the_variable_that_its_entity_is_mapped_to(build):
    (reading,) = read(build(), "home/balcony/sensor/outdoor_temperature/state", b"21.5\n")
    assert reading.values == {"temperature": 21.5} and reading.device == "home/balcony" and reading.t is None
    (pressure,) = read(build(), "balcony/sensor/pressure/state", b"96530")
    assert pressure.values == {"pressure": pytest.approx(965.3)}


def test_an_entity_may_be_mapped_for_one_node_only(build):
    assert read(build(), "shed/sensor/rain_total/state", b"12.4")[0].values == {"rain": 12.4}
    with pytest.raises(BadMessage, match="no-mapped-value"):
        read(build(), "balcony/sensor/rain_total/state", b"12.4")


@pytest.mark.parametrize(
    ("topic", "payload", "reason"),
    [
        ("balcony/sensor/wifi_signal/state", b"-61", "no-mapped-value"),
        ("balcony/sensor/outdoor_temperature/state", b"nan", "no-usable-value"),
        ("balcony/sensor/outdoor_temperature/state", b"\xff", "not-text"),
        ("balcony/binary_sensor/rain/state", b"ON", "no-topic"),
        ("balcony/status", b"online", "no-topic"),
        ("", b"21.5", "no-topic"),
    ],
)
def test_what_is_no_reading_is_refused_by_name(build, topic, payload, reason):
    with pytest.raises(BadMessage, match=reason):
        read(build(), topic, payload)


def test_a_number_without_its_topic_says_nothing(build):
    with pytest.raises(BadMessage, match="no-topic"):
        build().decode(b"21.5")


def test_batteries_are_entities_too(build):
    volts, percent = build(battery_volts="cell"), build(battery_percent="charge")
    assert read(volts, "balcony/sensor/cell/state", b"3.91")[0].battery == {"node": 3.91}
    assert read(percent, "balcony/sensor/charge/state", b"12")[0].battery == {"node": "low"}
    assert read(percent, "balcony/sensor/charge/state", b"80")[0].battery == {"node": "ok"}
    with pytest.raises(BadMessage, match="no-usable-value"):
        read(percent, "balcony/sensor/charge/state", b"nan")


def test_a_total_of_an_entity_becomes_rain(make_sensor, make_desk):
    desk = make_desk(make_sensor("esphome", MAP))
    for total in (b"12.4", b"12.4", b"12.6"):
        desk.intake.message(total, topic="shed/sensor/rain_total/state")
        desk.clock.advance(60)
    assert [reading.values for reading in desk.readings] == [{"rain": 0.0}, {"rain": pytest.approx(0.2)}]
    assert desk.rejected == {"first-total": 1}
