"""Vaisala WXT in ASCII: every unit, invalid and damaged fields, checksums, and a recording of a WXT536."""

from __future__ import annotations

import math
from collections import Counter

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from edge_agent.config import Sensor
from edge_agent.errors import BadMessage, ConfigError
from edge_agent.observation import Reading
from edge_agent.sensors import DRIVERS
from edge_agent.sensors.vaisala_wxt import FIELDS, crc, sound
from tests.sensors.wire_recordings import recording

COMPOSITE = (
    b"0R0,Dn=236D,Dm=283D,Dx=031D,Sn=0.0M,Sm=1.0M,Sx=2.2M,Ta=23.6C,Ua=14.2P,Pa=1026.6H,"
    b"Rc=1.20M,Rd=30s,Ri=2.7M,Hc=0.0M,Hd=0s,Hi=0.0M,Rp=6.3M,Hp=0.0M,Th=25.6C,Vh=12.0N,Vs=15.2V,Vr=3.475V,Id=HEL___\r\n"
)


def sensor(**options: object) -> Sensor:
    return Sensor(name="mast", driver="vaisala_wxt", port="/dev/null", options=options)


def decoder(**options: object):
    return DRIVERS["vaisala_wxt"].decoder(sensor(**options))


def one(payload: bytes, **options: object) -> Reading:
    (reading,) = decoder(**options).decode(payload)
    return reading


def refusal(payload: bytes, **options: object) -> str:
    with pytest.raises(BadMessage) as caught:
        decoder(**options).decode(payload)
    return caught.value.reason


def counted(payload: bytes) -> tuple[dict[str, float], Counter[str]]:
    counts: Counter[str] = Counter()
    (reading,) = decoder().decode(payload, lambda why: counts.update([why]))
    return {**reading.values, **reading.totals}, counts


def test_a_composite_message_is_one_reading_and_rain_a_running_total():
    reading = one(COMPOSITE)
    assert reading.values == {
        "wind_direction": 283.0,
        "wind_speed": 1.0,
        "wind_gust": 2.2,
        "temperature": 23.6,
        "humidity": 14.2,
        "pressure": 1026.6,
        "rain_rate": 2.7,
    }
    assert reading.totals == {"rain": 1.2}
    assert reading.battery == {"supply": 15.2, "heating": 12.0}
    assert reading.t is None and reading.device == ""


@pytest.mark.parametrize(
    ("field", "variable", "expected"),
    [
        ("Sm=10.0M", "wind_speed", 10.0),
        ("Sm=36.0K", "wind_speed", 10.0),
        ("Sm=10.0S", "wind_speed", 4.4704),
        ("Sm=10.0N", "wind_speed", 5.14444),
        ("Ta=-4.0C", "temperature", -4.0),
        ("Ta=+68.0F", "temperature", 20.0),
        ("Pa=1013.2H", "pressure", 1013.2),
        ("Pa=101325P", "pressure", 1013.25),
        ("Pa=1.0132B", "pressure", 1013.2),
        ("Pa=760.0M", "pressure", 1013.25),
        ("Pa=29.92I", "pressure", 1013.2075),
        ("Ua=50.0P", "humidity", 50.0),
        ("Rc=1.0I", "rain", 25.4),
        ("Ri=1.0I", "rain_rate", 25.4),
    ],
)
def test_every_unit_letter_is_converted(field, variable, expected):
    values, counts = counted(f"0R0,{field}".encode())
    assert values == {variable: pytest.approx(expected, rel=1e-6)} and not counts


@pytest.mark.parametrize(
    ("field", "reason"),
    [
        ("Ta=0.0#", "missing"),
        ("Ta=#", "missing"),
        ("Ta=23.6P", "bad-unit"),
        ("Ta=23.6", "bad-field"),
        ("Ta=C", "bad-field"),
        ("Ta23.6C", "bad-field"),
        ("Ta=2=3.6C", "bad-field"),
        ("Ta=", "bad-field"),
        ("Ta=1e5C", "bad-field"),
        ("Ta=nanC", "bad-field"),
        ("", "bad-field"),
        ("Ta=1.0C,Ta=2.0C", "bad-field"),
        ("Xy=1.0C", "unknown-field"),
    ],
)
def test_a_field_that_is_invalid_or_damaged_is_left_out_alone(field, reason):
    values, counts = counted(f"0R0,{field},Ua=50.0P".encode())
    assert values == {"humidity": 50.0}
    assert counts and set(counts) == {reason}


def test_the_truncated_line_of_the_field_loses_one_field():
    values, counts = counted(b"0R1,Dn=0m=032D,Dm=040D,Sm=1.0M")
    assert values == {"wind_direction": 40.0, "wind_speed": 1.0} and counts == {"bad-field": 1}


def test_a_line_that_lost_its_end_of_line_loses_one_field():
    values, counts = counted(b"0R1,Dm=040D,Sm=1.0M,Sx=5.8M0R2,Ta=16.1C,Ua=79.3P,Pa=959.7H")
    assert set(values) == {"wind_direction", "wind_speed", "temperature", "humidity", "pressure"}
    assert counts == {"bad-field": 1}


@pytest.mark.parametrize(
    ("text", "three"),
    [
        ("0+3.14", "OqZ"),  # SDI-12 specification
        ("0r1", "Goe"),  # these of the WXT520 and WXT530 guides
        ("0r2", "Gje"),
        ("0r3", "Kid"),
        ("0r5", "Kcd"),
        ("0r", "BVT"),
        ("0r0", "Kld"),
        ("0tX,Use chksum Goe", "IU~"),
    ],
)
def test_checksums_are_those_of_the_manuals(text, three):
    assert crc(text) == three
    assert sound(text + three)


@given(st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=80), st.integers(0, 200), st.integers(1, 7))
def test_a_checksum_finds_every_single_changed_bit(text, at, bit):
    whole = text + crc(text)
    at %= len(whole)
    changed = whole[:at] + chr(ord(whole[at]) ^ 1 << (bit - 1)) + whole[at + 1 :]
    assert sound(whole) and not sound(changed)


def test_a_lower_case_message_needs_its_checksum():
    text = "0r0,Ta=23.6C,Ua=14.2P"
    assert one((text + crc(text)).encode()).values == {"temperature": 23.6, "humidity": 14.2}
    assert refusal((text + "xxx").encode()) == "bad-checksum"
    assert refusal(text.encode()) == "bad-checksum"
    assert refusal(b"0R0,Ta=23.6C", crc=True) == "no-checksum"


def test_other_addresses_are_devices_of_their_own_unless_one_is_chosen():
    assert one(b"BR2,Ta=16.1C").device == "B"
    assert one(b"BR2,Ta=16.1C", address="B").device == ""
    assert refusal(b"0R2,Ta=16.1C", address="B") == "other-address"


def test_rain_that_is_reset_by_every_message_is_an_increment():
    reading = one(b"0R3,Rc=0.01M,Ri=0.6M", rain="increment")
    assert reading.values == {"rain": 0.01, "rain_rate": 0.6} and not reading.totals


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (b"dud line", "not-wxt"),
        (b"n=160D,Dm=182D", "not-wxt"),
        (b"0r0Kle", "not-wxt"),
        (b"0TX,Start-up", "device-text"),
        (b"0tX,Use chksum GoeIU~", "device-text"),
        (b"0R1,Dm=\xff\xfe", "not-text"),
        (b"0R1,Dm=1\x00D", "not-text"),
        (b"0R1,Dm=", "no-usable-value"),
        (b"0r1," + b"Sm=1.0M," * 200, "too-large"),
        (b"0R3,Hc=0.0M", "no-usable-value"),
    ],
)
def test_what_cannot_be_used_is_refused_by_name(payload, reason):
    assert refusal(payload) == reason


@pytest.mark.parametrize("line", [b"", b"\r\n", b"\0", b"0R0\r\n", b"0R\r\n", b"0r0Kld\r\n"])
def test_blank_lines_and_echoes_of_questions_are_no_messages(line):
    assert decoder().decode(line) == []


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"address": "10"}, "address"),
        ({"address": "0\n"}, "address"),
        ({"poll_s": -1}, "poll_s"),
        ({"rain": "daily"}, "rain"),
        ({"pol_s": 1}, 'did you mean "poll_s"'),
    ],
)
def test_wrong_options_are_configuration_errors(options, words):
    with pytest.raises(ConfigError, match=words):
        decoder(**options)


def test_it_is_asked_only_if_it_does_not_send_by_itself():
    talk = DRIVERS["vaisala_wxt"].talk
    assert talk is not None
    assert talk(sensor(poll_s="0")) is None
    assert talk(sensor()) is not None


def test_the_recording_of_a_wxt536_is_read_up_to_its_dud_line(make_desk):
    desk = make_desk(sensor(poll_s=0))
    for line in recording("vaisala-wxt536", "wxt536_ascii_messages.txt").read_bytes().split(b"\r\n"):
        desk.intake.message(line)
    # eight of wind, one of rain, one of the air; three of the supply give no reading
    assert desk.rejected == {"not-wxt": 1, "first-total": 1}
    assert desk.accepted == 10
    assert desk.readings[0].values == {"wind_direction": 182.0, "wind_speed": 4.1, "wind_gust": 5.8}
    assert desk.readings[-1].values == {"temperature": 16.1, "humidity": 79.3, "pressure": 959.7}
    assert desk.intake.health("reading", "", 0).battery == {"supply": 14.3, "heating": 14.1}


MUTATED = st.builds(
    lambda at, n, new: COMPOSITE[:at] + new + COMPOSITE[at + n :],
    st.integers(0, len(COMPOSITE)),
    st.integers(0, 40),
    st.binary(max_size=20),
)


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.one_of(st.binary(max_size=300), MUTATED, MUTATED.map(lambda m: m.replace(b"0R0", b"0r0"))))
@example(b"0R0," + b"=" * 8000)
@example(b"0R0," + b"Ta=1C," * 1300)
@example(b"0R0,Ta=" + b"9" * 8000 + b"C")
def test_noise_is_refused_or_read_and_nothing_else_happens(payload):
    try:
        readings = decoder().decode(payload, lambda _: None)
    except BadMessage as error:
        assert error.reason
        return
    known = {field.variable for field in FIELDS.values()}
    for reading in readings:
        assert {*reading.values, *reading.totals} <= known
        assert all(math.isfinite(value) for value in [*reading.values.values(), *reading.totals.values()])
