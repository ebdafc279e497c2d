"""JSON lines and JSON messages: paths, units, and values that are no numbers."""

from __future__ import annotations

import json
import math
from collections import Counter

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edge_agent.errors import BadMessage, ConfigError
from edge_agent.sensors import DRIVERS, Decoder

MAP = {"t": ("temperature", "degC"), "h": ("humidity", "%")}


@pytest.fixture(params=["json_lines", "mqtt_json"])
def build(request, make_sensor):
    def build(fields=MAP, **more) -> Decoder:
        return DRIVERS[request.param].decoder(make_sensor(request.param, fields, **more))

    return build


def refusal(decoder: Decoder, payload: bytes) -> str:
    with pytest.raises(BadMessage) as caught:
        decoder.decode(payload)
    return caught.value.reason


def test_mapped_values_arrive_in_the_vocabularys_units(build):
    fields = {"t": ("temperature", "degF"), "p": ("pressure", "Pa"), "w": ("wind_speed", "km/h")}
    (reading,) = build(fields).decode(b'{"t": 68, "p": 101325, "w": 36.0, "uptime": 5}')
    assert reading.values == pytest.approx({"temperature": 20.0, "pressure": 1013.25, "wind_speed": 10.0})
    assert reading.t is None and reading.station is None


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("BME280.Temperature", {"BME280": {"Temperature": 7}}),
        ("sensors.0.temp", {"sensors": [{"temp": 7}]}),
        ("sensors.1", {"sensors": [1, 7]}),
        ("a.b", {"a.b": 7, "a": {"b": 8}}),
        ("a.b.c", {"a.b": {"c": 7}, "a": {"b": {"c": 8}}}),
        ("a.b.c", {"a.b": {"x": 1}, "a": {"b": {"c": 7}}}),
        ("0", {"0": 7}),
        ("lufttemperatur °C", {"lufttemperatur °C": "7.0"}),
    ],
)
def test_paths_reach_into_objects_and_arrays_and_keys_with_dots_come_first(build, path, message):
    (reading,) = build({path: ("temperature", "degC")}).decode(json.dumps(message).encode())
    assert reading.values == {"temperature": 7.0}


@pytest.mark.parametrize("path", ["t.", "t.x", "s.2", "s.-1", "s.00000001", "s.x", "s", "", ".", "o"])
def test_a_path_to_nothing_is_no_value(build, path):
    assert refusal(build({path: ("temperature", "degC")}), b'{"t": 7, "s": [1, 2], "o": {}}').startswith("no-")


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        ("null", "null"),
        ('""', "null"),
        ("NaN", "nan"),
        ("nan", "nan"),
        ("-nan", "nan"),
        ('"nan"', "nan"),
        ("Infinity", "infinite"),
        ("inf", "nan"),
        ("ovf", "nan"),
        ("1e999", "infinite"),
        ("1" + "0" * 400, "infinite"),
        ("true", "boolean"),
        ('"21,5"', "not-numeric"),
        ('"1_0"', "not-numeric"),
        ('"--"', "not-numeric"),
        ("[1]", "not-numeric"),
        ("{}", "not-numeric"),
    ],
)
def test_what_is_no_number_is_missing_and_counted_and_its_neighbours_stay(build, raw, reason):
    counts: Counter[str] = Counter()
    (reading,) = build().decode(b'{"t": %s, "h": " 40.5 "}' % raw.encode(), lambda why: counts.update([why]))
    assert reading.values == {"humidity": 40.5}
    assert counts == {reason: 1}


def test_a_value_that_only_conversion_makes_infinite_is_missing(build):
    assert refusal(build({"p": ("pressure", "inHg")}), b'{"p": 1e308}') == "no-usable-value"


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (b'{"t": 21.5, "h"', "not-json"),
        (b'.5, "h": 40}', "not-json"),
        (b"Booting... WiFi connected", "not-json"),
        (b"\xff\xfe\x00\x80noise", "not-json"),
        (b"[" * 8000, "not-json"),
        (b'{"t":' * 1500 + b"1" + b"}" * 1500, "not-json"),
        (b'{"t": ' + b"9" * 8000 + b"}", "not-json"),
        (b"42", "not-object"),
        (b'"t"', "not-object"),
        (b"[1, 2]", "not-object"),
        (b"{}", "no-mapped-value"),
        (b'{"T": 1}', "no-mapped-value"),
        (b'{"t": null}', "no-usable-value"),
    ],
)
def test_what_cannot_be_used_is_refused_by_name(build, payload, reason):
    assert refusal(build(), payload) == reason


@pytest.mark.parametrize("line", [b"psk=hunter2 ssid=home", b"\xffhunter2", b'{"t": 1, "at": "hunter2"}'])
def test_words_that_are_published_repeat_nothing_of_the_line(build, line):
    with pytest.raises(BadMessage) as caught:
        build(time="at").decode(line)
    assert "hunter2" not in str(caught.value)
    assert caught.value.reason == "bad-time" or f"{len(line)} bytes" in str(caught.value)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(payload=st.binary(max_size=300))
def test_noise_is_refused_and_nothing_else_happens(build, payload):
    try:
        readings = build().decode(payload)
    except BadMessage:
        return
    assert all(math.isfinite(v) for reading in readings for v in reading.values.values())


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(t=st.floats(-90, 60), h=st.floats(0, 100), cut=st.integers(1, 200))
def test_a_line_that_was_cut_never_passes_for_a_whole_one(build, t, h, cut):
    line = json.dumps({"x": {"t": 1}, "t": t, "h": h}).encode()
    for part in (line[cut:], line[: -min(cut, len(line))]):
        if part.strip():
            assert refusal(build(), part) in ("not-json", "not-object")


def test_own_time_is_read_in_both_forms(build):
    decoder = build(time="meta.at")
    for at in (1700000000, 1700000000.9, "1700000000", "2023-11-14T22:13:20Z", "2023-11-14T23:13:20+01:00"):
        (reading,) = decoder.decode(json.dumps({"t": 1, "meta": {"at": at}}).encode())
        assert reading.t == 1_700_000_000


@pytest.mark.parametrize("at", [None, True, "", "soon", "2023-11-14T22:13:20", 0, 123.4, 1700000000000, 1e300, [1]])
def test_a_time_that_cannot_be_right_refuses_the_message(build, at):
    assert refusal(build(time="at"), json.dumps({"t": 1, "at": at}).encode()) == "bad-time"
    assert refusal(build(time="when"), json.dumps({"t": 1, "at": at}).encode()) == "bad-time"


def test_blank_lines_and_comments_are_no_messages(make_sensor):
    decoder = DRIVERS["json_lines"].decoder(make_sensor("json_lines", MAP))
    for line in (b"", b"\r\n", b"  \t", b"\0\0", b"# DHT22 ready\r\n", b" # again"):
        assert decoder.decode(line) == []
    (reading,) = decoder.decode(b'\xef\xbb\xbf{"t": 1}\r\n')
    assert reading.values == {"temperature": 1.0}


def test_a_deleted_retained_message_is_no_message(make_sensor):
    assert DRIVERS["mqtt_json"].decoder(make_sensor("mqtt_json", MAP)).decode(b"") == []


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({}, '"map" says nothing'),
        ({"t": ("temprature", "degC")}, 'did you mean "temperature"'),
        ({"t": ("temperature", "hPa")}, "degC, degF, K"),
    ],
)
@pytest.mark.parametrize("driver", sorted(name for name, spec in DRIVERS.items() if spec.maps))
def test_a_wrong_map_is_a_configuration_error_that_names_the_sensor(make_sensor, driver, fields, words):
    with pytest.raises(ConfigError, match=words) as caught:
        DRIVERS[driver].decoder(make_sensor(driver, fields))
    assert 'sensor "roof"' in str(caught.value)
