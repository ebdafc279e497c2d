"""Peet Bros Ultimeter: hexadecimal lines of three lengths, missing fields, rain that runs on."""

from __future__ import annotations

import math
from collections import Counter

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from edge_agent.config import Sensor
from edge_agent.errors import BadMessage, ConfigError
from edge_agent.observation import Reading
from edge_agent.sensors import DRIVERS
from edge_agent.sensors.pressure import station_pressure

VECTOR = b"!!000000BE02EB000027700000023A023A0025005800000000\r\n"


def line(
    speed="00C8", direction="0040", temperature="02EB", total="0064", pressure="2770", humidity="023A", minute="0064"
) -> bytes:
    return f"!!{speed}{direction}{temperature}{total}{pressure}02EE{humidity}0190002500580000{minute}".encode()


def decoder(**options: object):
    return DRIVERS["ultimeter"].decoder(Sensor(name="roof", driver="ultimeter", port="/dev/null", options=options))


def one(payload: bytes, **options: object) -> Reading:
    (reading,) = decoder(**options).decode(payload)
    return reading


def refusal(payload: bytes) -> str:
    with pytest.raises(BadMessage) as caught:
        decoder().decode(payload)
    return caught.value.reason


def test_the_vector_is_read_and_its_pressure_kept_apart():
    reading = one(VECTOR)
    assert reading.values == pytest.approx(
        {
            "wind_speed": 0.0,
            "wind_direction": 268.235,
            "temperature": (74.7 - 32) / 1.8,
            "pressure_msl": 1009.6,
            "humidity": 57.0,
        },
        abs=1e-3,
    )
    assert reading.totals == {"rain": 0.0} and reading.t is None


def test_units_are_tenths_of_km_h_and_hundredths_of_an_inch():
    reading = one(line())
    assert reading.values["wind_speed"] == pytest.approx(20.0 / 3.6)
    assert reading.totals == {"rain": pytest.approx(25.4)}
    assert one(line(), rain="0.1mm").totals == {"rain": pytest.approx(10.0)}


@pytest.mark.parametrize("direction", ["0040", "FF40", "--40"])
def test_a_direction_calibration_is_no_direction(direction):
    assert one(line(direction=direction)).values["wind_direction"] == pytest.approx(64 * 360 / 255)


@given(st.integers(-999, 1500))
def test_temperatures_below_zero_are_twos_complement(tenths):
    digits = f"{tenths & 0xFFFF:04X}"
    assert one(line(temperature=digits)).values["temperature"] == pytest.approx((tenths / 10 - 32) / 1.8)


def test_the_minute_mean_takes_the_place_of_the_current_wind_where_asked():
    reading = one(line(), wind="minute")
    assert reading.values["wind_speed"] == pytest.approx(10.0 / 3.6)
    assert reading.values["wind_gust"] == pytest.approx(20.0 / 3.6)
    short = one(line()[:46], wind="minute").values  # an older model
    assert "wind_speed" not in short and short["wind_gust"] == pytest.approx(20.0 / 3.6)


@pytest.mark.parametrize("length", [42, 46, 50])
def test_all_three_lengths_hold_the_same(length):
    assert one(line()[:length]) == one(line())


def test_pressure_is_what_the_configuration_says():
    assert one(line()).values["pressure_msl"] == pytest.approx(1009.6)
    assert one(line(), pressure="station").values["pressure"] == pytest.approx(1009.6)
    inverted = one(line(), pressure="altimeter", elevation_m="500").values
    assert inverted["pressure"] == pytest.approx(station_pressure(1009.6, 500)) and "pressure_msl" not in inverted
    with pytest.raises(ConfigError, match="elevation_m"):
        decoder(pressure="altimeter")


def test_missing_fields_are_missing_and_counted():
    counts: Counter[str] = Counter()
    payload = line(pressure="----", total="----", direction="00--")
    (reading,) = decoder().decode(payload, lambda why: counts.update([why]))
    assert set(reading.values) == {"wind_speed", "temperature", "humidity"} and not reading.totals
    assert counts == {"missing": 3}
    assert refusal(b"!!" + b"-" * 48) == "no-usable-value"


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (b"$ULTW0000000002EB", "not-logger"),
        (b"00BE02EB000027700000023A023A0025005800000000", "not-logger"),
        (VECTOR.strip()[:-1], "bad-length"),
        (b"!!" + VECTOR, "bad-length"),
        (VECTOR.replace(b"B", b"G"), "not-hex"),
        (VECTOR.replace(b"02EB", b"0-EB"), "not-hex"),
        (VECTOR.replace(b"02EB", b"0\xffEB"), "not-hex"),
        (VECTOR.replace(b"02EB", b"\xd9\xa0\xd9\xa1"), "not-hex"),
    ],
)
def test_what_is_no_logger_line_is_refused(payload, reason):
    assert refusal(payload) == reason


def test_blank_lines_are_no_messages():
    assert decoder().decode(b"\r\n") == []


def test_rain_is_made_from_the_running_total(make_desk):
    desk = make_desk(Sensor(name="roof", driver="ultimeter", port="/dev/null"))
    for total in ("0064", "0064", "0066"):
        desk.intake.message(line(total=total))
        desk.clock.advance(60)
    assert [reading.values.get("rain") for reading in desk.readings] == [None, 0.0, pytest.approx(0.508)]
    assert desk.rejected == {"first-total": 1}


@settings(max_examples=300)
@given(
    st.binary(max_size=80)
    | st.from_regex(rb"!!([0-9A-F]{4}|-{4}){10,12}", fullmatch=True)
    | st.builds(lambda at, new: VECTOR[:at] + new + VECTOR[at + len(new) :], st.integers(0, 51), st.binary(max_size=8))
)
@example(b"!!" + b"0" * 8000)
def test_noise_is_refused_or_read_and_nothing_else_happens(payload):
    for options in ({}, {"pressure": "altimeter", "elevation_m": 9000, "wind": "minute"}):
        try:
            readings = decoder(**options).decode(payload, lambda _: None)
        except BadMessage as error:
            assert error.reason
            continue
        for reading in readings:
            assert all(math.isfinite(value) for value in [*reading.values.values(), *reading.totals.values()])
