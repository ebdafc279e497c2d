"""Modbus answers by register maps: published vectors, the two wind scales, what devices send instead of a value."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edge_agent.errors import BadMessage, ConfigError
from edge_agent.observation import Reading
from edge_agent.sensors import DRIVERS
from edge_agent.sensors.modbus import BEAUFORT, beaufort
from edge_agent.sensors.modbus_frames import answer, crc, question, refusal
from edge_agent.sensors.register_map import built_in, read_map
from tests.sensors.modbus_answers import RENKE, renke

# Seeed Studio's own examples; the checksums of some others on that page are wrong, and left out here
MINUS_ONE = bytes.fromhex("01 04 04 FF FF FC 18") + crc(bytes.fromhex("01 04 04 FF FF FC 18"))
PARTICLES = bytes.fromhex("26 04 08 00 00 90 88 00 00 A4 10 13 FA")
S900 = (
    bytes.fromhex("26 04 40 00 00 70 80 00 00 95 10 06 07 94 40") + bytes(44) + bytes.fromhex("00 00 6A 7C 00 00 00 00")
)

Make = Callable[..., Any]


@pytest.fixture
def build(make_sensor) -> Make:
    def make(map: str = "renke", **options: Any) -> Any:
        return DRIVERS["modbus"].decoder(make_sensor("modbus", {}, options={"map": map, **options}))

    return make


def one(decoder: Any, payload: bytes, counts: Counter[str] | None = None) -> Reading:
    (reading,) = decoder.decode(payload, lambda why: counts is None or counts.update([why]))
    return reading


def refused(decoder: Any, payload: bytes) -> str:
    with pytest.raises(BadMessage) as caught:
        decoder.decode(payload)
    return caught.value.reason


def test_the_published_vectors():
    assert crc(bytes.fromhex("01 03 01 F4 00 0F")) == bytes.fromhex("45 C0")
    assert question(1, 3, 500, 15, tcp=False) == bytes.fromhex("01 03 01 F4 00 0F 45 C0")
    assert question(2, 3, 0, 1, tcp=False) == bytes.fromhex("02 03 00 00 00 01 84 39")
    assert question(1, 4, 0, 2, tcp=False) == bytes.fromhex("01 04 00 00 00 02 71 CB")
    assert answer(1, 4, [0, 0x6E8C], tcp=False) == bytes.fromhex("01 04 04 00 00 6E 8C D6 41")


def test_a_sensecap_one_is_read_from_seeeds_own_examples(build):
    decoder = build("sensecap_one")
    reading = one(decoder, S900 + crc(S900))
    assert reading.values == {
        "temperature": 28.8,
        "humidity": 38.16,
        "pressure": 1011.6,
        "wind_speed": 0.0,
        "wind_gust": 0.0,
        "wind_direction": 0.0,
        "rain_rate": 0.0,
    }
    assert reading.totals == {"rain": 0.0}
    assert one(decoder, PARTICLES).values == {"pm2_5": 37.0, "pm10": 42.0}
    assert one(build("sensecap_one", address=0), MINUS_ONE).values == {"temperature": -1.0}


def test_both_blocks_of_a_poll_are_one_reading(build):
    asked = question(0x26, 4, 0, 32, tcp=False) + S900 + crc(S900) + question(0x26, 4, 48, 4, tcp=False) + PARTICLES
    values = one(build("sensecap_one"), asked).values
    assert values["temperature"] == 28.8 and values["pm10"] == 42.0


def test_an_orch_s4_has_16_and_32_bits(build):
    payload = answer(1, 4, [0xFF05, 6834, 0x0001, 0x87D5, 0x0005, 0xFA00], tcp=False)
    assert one(build("sensecap_orch_s4"), payload).values == {
        "temperature": -2.51,
        "humidity": 68.34,
        "pressure": pytest.approx(1003.09),
    }


@pytest.mark.parametrize(
    ("map", "registers", "values"),
    [
        ("sen0483", [87], {"wind_speed": 8.7}),
        ("sen0482", [655, 3], {"wind_direction": 65.5}),
        ("sen0482_v1", [4], {"wind_direction": 90.0}),
        ("renke_8in1", [52, 270, 1013], {"wind_speed": 5.2, "wind_direction": 270.0, "pressure": 1013.0}),
    ],
)
def test_small_devices(build, map, registers, values):
    assert one(build(map), answer(2, 3, registers, tcp=False)).values == values


def test_a_renke_station(build):
    reading = one(build(), renke())
    assert reading.values == {
        "wind_speed": 5.2,
        "wind_direction": 90.0,
        "humidity": 55.3,
        "temperature": -24.5,
        "pm2_5": 12.0,
        "pm10": 30.0,
        "pressure": 1013.0,
    }
    assert reading.totals == {"rain": 12.7} and reading.t is None


@pytest.mark.parametrize("count", [14, 15, 16])
def test_a_renke_answer_of_any_of_its_lengths(build, count):
    assert one(build(), answer(1, 3, [*RENKE, 0, 0][:count], tcp=False)).values["temperature"] == -24.5


def test_modbus_tcp_has_another_frame(build):
    payload = bytes.fromhex("00 07 00 00 00 1F 01 03 1C") + renke()[3:-2]
    assert one(build(tcp=True), payload).values["temperature"] == -24.5
    assert refused(build(), payload) == "bad-checksum" == refused(build(tcp=True), renke())


# --- the wind scale ---


def test_beaufort_numbers_begin_where_the_scale_says():
    assert [beaufort(low) for low in BEAUFORT] == list(range(1, 13))
    assert [beaufort(low - 0.01) for low in BEAUFORT] == list(range(12))
    assert beaufort(340 * 0.01) == 3  # 3.4000000000000004 either way


@given(st.floats(0.35, 45), st.sampled_from([0.01, 0.1]))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_the_beaufort_number_shows_which_scale_a_device_uses(build, speed, scale):
    raw = round(speed / scale)
    values = one(build(), renke(r500=raw, r501=beaufort(raw * scale))).values
    other = 0.1 if scale == 0.01 else 0.01
    if beaufort(raw * scale) != beaufort(raw * other) or raw > 600:
        assert values["wind_speed"] == pytest.approx(raw * scale)
    else:
        assert "wind_speed" not in values


def test_calm_or_a_device_without_beaufort_numbers_decides_nothing(build):
    decoder, counts = build(), Counter()
    assert one(decoder, renke(r500=0, r501=0), counts).values["wind_speed"] == 0.0
    for _ in range(50):
        assert "wind_speed" not in one(decoder, renke(r500=25, r501=0), counts).values
    assert counts == {"wind-scale-unknown": 50}
    one(decoder, renke(r500=345, r501=3), counts)  # 3.45 m/s
    assert one(decoder, renke(r500=25, r501=0), counts).values["wind_speed"] == 0.25


@pytest.mark.parametrize(
    ("raw", "force", "speed"),
    [
        (52, 4, 5.2),  # 5.2 m/s is Beaufort 3, and 0.52 is 1: a device that rounds in its own way
        (52, 2, None),
        (700, 0, 7.0),  # 70 m/s is beyond what it measures
        (600, 0, None),
    ],
)
def test_a_number_that_is_not_quite_right_still_rules_one_scale_out(build, raw, force, speed):
    assert one(build(), renke(r500=raw, r501=force)).values.get("wind_speed") == speed


def test_one_odd_reading_does_not_turn_a_scale_that_is_known(build):
    decoder = build()
    for _ in range(3):
        one(decoder, renke(r500=345, r501=3))
    assert one(decoder, renke(r500=60, r501=4)).values["wind_speed"] == 0.6  # 6 m/s would be Beaufort 4
    for _ in range(60):
        one(decoder, renke(r500=60, r501=4))
    assert one(decoder, renke(r500=60, r501=4)).values["wind_speed"] == 6.0  # the device was replaced


@pytest.mark.parametrize(("option", "speed"), [("0.1", 34.5), (0.01, 3.45), ("auto", 3.45)])
def test_a_wind_scale_that_is_given_is_used(build, option, speed):
    assert one(build(wind_scale=option), renke(r500=345, r501=3)).values["wind_speed"] == pytest.approx(speed)


# --- no value ---


def test_sensors_that_are_not_fitted_answer_zero(build):
    counts: Counter[str] = Counter()
    values = one(build(), renke(r504=0, r505=0, r509=0, r507=0, r508=0), counts).values
    assert set(values) == {"wind_speed", "wind_direction"}
    assert counts == {"not-fitted": 5}
    assert one(build(), renke(r505=0)).values["temperature"] == 0.0  # there is humidity: it freezes
    assert one(build(), renke(r507=0)).values["pm2_5"] == 0.0


def test_what_a_model_does_not_measure_can_be_left_out(build):
    reading = one(build(without="rain, pm2_5,pm10"), renke())
    assert "pm2_5" not in reading.values and not reading.totals
    with pytest.raises(ConfigError, match="no such variable"):
        build(without="snow_depth")


def test_refusals_strangers_and_other_lengths_are_named(build):
    assert refused(build(), refusal(1, 3, 2, tcp=False)) == "modbus-exception"
    assert refused(build(unit=7), renke()) == "other-unit"
    assert refused(build(), answer(1, 3, [1] * 9, tcp=False)) == "other-registers"
    assert refused(build(), question(1, 3, 500, 15, tcp=False) + renke()) == "other-registers"
    assert refused(build(), question(1, 3, 0, 14, tcp=False) + renke()) == "other-registers"
    assert refused(build(), renke()[:-1] + b"\0") == "bad-checksum"
    assert refused(build("sen0483", without="wind_speed"), answer(2, 3, [1], tcp=False)) == "other-registers"
    assert build().decode(b"") == []


def test_a_refusal_beside_an_answer_is_counted(build):
    counts: Counter[str] = Counter()
    one(build(), renke() + refusal(1, 3, 4, tcp=False), counts)
    assert counts == {"modbus-exception": 1}


def test_devices_of_one_recording_have_their_own_rain(make_sensor, make_desk):
    desk = make_desk(make_sensor("modbus", {}, options={"map": "renke"}))
    for unit, total in ((1, 100), (2, 900), (1, 102), (2, 904)):
        desk.intake.message(answer(unit, 3, [*RENKE[:13], total], tcp=False))
        desk.clock.advance(60)
    assert [reading.values.get("rain") for reading in desk.readings] == [None, None, 0.2, 0.4]
    assert [reading.device for reading in desk.readings[:2]] == ["unit 1", "unit 2"]


# --- maps ---

GAS = """
title = "a gas sensor"
unit = 3
[[block]]
function = 3
address = 10
count = 4
[[register]]
address = 10
variable = "no2"
unit = "ppb"
missing = [65535]
[[register]]
address = 11
variable = "nox"
unit = "ppb"
scale = 0.1
offset = 2.0
[[register]]
address = 12
variable = "temperature"
unit = "K"
type = "int32"
words = "low-high"
scale = 0.01
"""


@pytest.fixture
def gas(tmp_path) -> str:
    path = tmp_path / "gas.toml"
    path.write_text(GAS)
    return str(path)


def test_a_map_of_ones_own_with_gases_in_ppb(build, gas):
    payload = answer(3, 3, [40, 380, 29315, 0], tcp=False)
    values = one(build(gas), payload).values
    assert values["no2"] == pytest.approx(76.5, abs=0.01)  # 40 x 1.9125
    assert values["nox"] == pytest.approx(40 * 1.9125, abs=0.01)
    assert values["temperature"] == pytest.approx(20.0)
    american = one(build(gas, gas_temperature_c=25), payload).values
    assert american["no2"] == pytest.approx(40 * 1.8804, abs=0.01)
    high = one(build(gas, gas_pressure_hpa=506.625), payload).values
    assert high["no2"] == pytest.approx(values["no2"] / 2)


def test_a_missing_marker_is_counted(build, gas):
    counts: Counter[str] = Counter()
    assert "no2" not in one(build(gas), answer(3, 3, [65535, 0, 1, 0], tcp=False), counts).values
    assert counts == {"missing-marker": 1}


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ('"no2"', '"nitrogen"', "unknown variable"),
        ('variable = "no2"\nunit = "ppb"', 'variable = "pm10"\nunit = "ppb"', "not one of"),
        ("count = 4", "count = 3", "no block holds register 12"),
        ("count = 4", "count = 126", "1 to 125 registers"),
        ("function = 3", "function = 6", "function"),
        ("address = 11", 'address = 11\ntyp = "x"', "typ"),
        ('"nox"', '"no2"', "each of another variable"),
        ('"nox"\nunit = "ppb"', '"rain"\nunit = "mm"', "running total"),
        ("[[block]]\nfunction", "[[block]]\nask = false\nfunction", "to ask for"),
        ("title", "]", "register map"),
        ("unit = 3\n", 'unit = 3\nabsent = [["humidity"]]\n', "no register holds"),
    ],
)
def test_a_map_that_is_wrong_says_what_is(build, tmp_path, old, new, told):
    path = tmp_path / "wrong.toml"
    assert old in GAS
    path.write_text(GAS.replace(old, new, 1))
    with pytest.raises(ConfigError, match=told):
        build(str(path))


def test_a_map_that_is_not_there_is_told(build, tmp_path):
    with pytest.raises(ConfigError, match='did you mean "renke"'):
        build("renk")
    with pytest.raises(ConfigError, match="cannot be read"):
        build(str(tmp_path / "none.toml"))
    with pytest.raises(ConfigError, match="this is no map"):
        (tmp_path / "big.toml").write_bytes(b"#" * 100_000)
        build(str(tmp_path / "big.toml"))


@pytest.mark.parametrize(
    "options",
    [
        {"unit": 300},
        {"interval_s": 0},
        {"wind_scale": "big"},
        {"wind_scale": -1},
        {"parity": "M"},
        {"gas_pressure_hpa": 1},
        {"units": 1},
        {"map": 5},
    ],
)
def test_options_that_cannot_be_are_refused(build, options):
    with pytest.raises(ConfigError):
        build(**options)


@pytest.mark.parametrize("name", built_in())
def test_every_built_in_map_can_be_asked_and_read(build, name):
    known = read_map(name)
    decoder = build(name)
    for block in known.block:
        assert one(decoder, answer(1, block.function, [300] * block.count, tcp=False)).values
    covered = {a for block in known.asked() for a in range(block.address, block.address + block.count)}
    assert all(register.address in covered for register in known.register)
