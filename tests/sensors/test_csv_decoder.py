"""Lines of separated values: columns by name or by number, and lines that have lost or gained some."""

from __future__ import annotations

import math
from collections import Counter

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edge_agent.errors import BadMessage
from edge_agent.sensors import DRIVERS
from edge_agent.sensors.csv_lines import STEADY

BY_NUMBER = {"1": ("temperature", "degC"), "3": ("humidity", "%")}
BY_NAME = {"temp": ("temperature", "degC"), "hum": ("humidity", "%")}


@pytest.fixture
def build(make_sensor):
    return lambda fields=BY_NUMBER, **more: DRIVERS["csv_lines"].decoder(make_sensor("csv_lines", fields, **more))


def refusal(decoder, payload: bytes) -> str:
    with pytest.raises(BadMessage) as caught:
        decoder.decode(payload)
    return caught.value.reason


def values(decoder, payload: bytes):
    (reading,) = decoder.decode(payload)
    return dict(reading.values)


def test_columns_by_number_count_from_one(build):
    assert values(build(), b"21.5,17,40\r\n") == {"temperature": 21.5, "humidity": 40.0}


def test_columns_by_name_wait_for_the_header_and_follow_it(build):
    decoder = build(BY_NAME)
    assert refusal(decoder, b"21.5,40") == "no-header"
    assert decoder.decode(b"temp,hum") == []
    assert values(decoder, b"21.5,40") == {"temperature": 21.5, "humidity": 40.0}
    assert decoder.decode(b'"hum" , millis, "temp"') == []  # the board was given another program
    assert values(decoder, b"40,123456,21.5") == {"temperature": 21.5, "humidity": 40.0}


@pytest.mark.parametrize(
    ("delimiter", "line"),
    [
        (";", b"21.5; x ;40"),
        ("\t", b"21.5\tx\t40"),
        ("\t", b"21.5\t\t40"),
        (" ", b"  21.5   x 40 "),
        ("|", b"21.5|x|40"),
        (",", b'"21.5","a, b","40"'),
    ],
)
def test_any_delimiter_and_quotes(build, delimiter, line):
    assert values(build(delimiter=delimiter), line) == {"temperature": 21.5, "humidity": 40.0}


def test_an_empty_cell_is_missing_and_counted(build):
    counts: Counter[str] = Counter()
    (reading,) = build().decode(b"21.5,17,", lambda why: counts.update([why]))
    assert reading.values == {"temperature": 21.5}
    assert counts == {"null": 1}


def test_a_line_with_another_number_of_columns_is_refused(build):
    decoder = build()
    assert refusal(decoder, b"21.5,17") == "columns"  # fewer than the map needs
    values(decoder, b"21.5,17,40,1013")
    for line in (b"5,17,40", b"21.5,17,40,1013,9", b"WiFi: connected"):
        assert refusal(decoder, line) == "columns"
    assert values(decoder, b"21.5,17,40,1013")["humidity"] == 40.0


def test_a_steady_new_number_of_columns_is_taken_up(build):
    """A board with another program, or a first line that was cut and set the wrong number."""
    decoder = build()
    values(decoder, b"17,40,1013")
    for _ in range(STEADY):
        assert refusal(decoder, b"21.5,17,40,1013") == "columns"
    assert values(decoder, b"21.5,17,40,1013") == {"temperature": 21.5, "humidity": 40.0}


def test_with_a_header_only_another_header_changes_the_columns(build):
    decoder = build(BY_NAME)
    decoder.decode(b"temp,hum")
    for _ in range(2 * STEADY):
        assert refusal(decoder, b"21.5,17,40") == "columns"


def test_debug_chatter_is_refused_and_comments_are_no_messages(build):
    decoder = build()
    assert refusal(decoder, b"DHT22 read failed, retry, soon") == "no-usable-value"
    assert refusal(decoder, b"Booting") == "columns"
    assert refusal(decoder, b"\xff\xfe\x80,1,2") == "not-text"
    for line in (b"", b"\r\n", b"   ", b"# temp, x, hum"):
        assert decoder.decode(line) == []


def test_own_time_by_number_and_by_name(build):
    (reading,) = build(time="2").decode(b"21.5,1700000000,40")
    assert reading.t == 1_700_000_000
    decoder = build(BY_NAME, time="at")
    decoder.decode(b"at,temp,hum")
    (reading,) = decoder.decode(b"2023-11-14T22:13:20Z,21.5,40")
    assert reading.t == 1_700_000_000
    assert refusal(decoder, b",21.5,40") == "bad-time"
    decoder.decode(b"temp,hum")
    assert refusal(decoder, b"21.5,40") == "bad-time"


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(lines=st.lists(st.binary(max_size=60) | st.from_regex(rb"[0-9a-z,.#\"' -]{0,40}", fullmatch=True), max_size=20))
def test_noise_is_refused_and_nothing_else_happens(build, lines):
    for decoder in (build(), build(BY_NAME)):
        for line in [b"temp,hum,x", *lines]:
            try:
                readings = decoder.decode(line)
            except BadMessage:
                continue
            assert all(math.isfinite(v) for reading in readings for v in reading.values.values())
