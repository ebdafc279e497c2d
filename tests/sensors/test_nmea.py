"""NMEA 0183 weather sentences: vectors of the makers, quirks, damage, a GPS clock, recordings of an Airmar 110WX."""

from __future__ import annotations

import builtins
import math
from collections import Counter
from functools import reduce

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from edge_agent.config import Sensor
from edge_agent.errors import BadMessage, ConfigError
from edge_agent.observation import Reading
from edge_agent.sensors import DRIVERS, nmea
from edge_agent.sensors.framing import Lines
from edge_agent.sensors.pressure import station_pressure
from tests.sensors.wire_recordings import recording

MDA = "$WIMDA,30.2269,I,1.0236,B,17.7,C,,,43.3,,5.0,C,131.5,T,128.6,M,0.8,N,0.4,M*54"
FIX = "GPRMC,221320.00,A,4717.11,N,00833.91,E,0.0,77.5,141123,,,A"


def sensor(**options: object) -> Sensor:
    return Sensor(name="mast", driver="nmea", port="/dev/null", options=options, max_messages_s=1000)


def decoder(**options: object):
    return DRIVERS["nmea"].decoder(sensor(**options))


def checked(body: str) -> bytes:
    """A sentence with its checksum."""
    return f"${body}*{reduce(lambda a, b: a ^ b, body.encode(), 0):02X}".encode()


def one(body: str | bytes, **options: object) -> Reading:
    (reading,) = decoder(**options).decode(body if isinstance(body, bytes) else checked(body))
    return reading


def refusal(payload: str | bytes, **options: object) -> str:
    with pytest.raises(BadMessage) as caught:
        decoder(**options).decode(payload if isinstance(payload, bytes) else checked(payload))
    return caught.value.reason


def counted(body: str | bytes, **options: object) -> tuple[dict[str, float], Counter[str]]:
    counts: Counter[str] = Counter()
    payload = body if isinstance(body, bytes) else checked(body)
    (reading,) = decoder(**options).decode(payload, lambda why: counts.update([why]))
    return dict(reading.values), counts


# --- the sentences ---


def test_the_composite_sentence_is_read_whole():
    assert one(MDA.encode()).values == pytest.approx(
        {
            "pressure": 1023.6,
            "temperature": 17.7,
            "humidity": 43.3,
            "dew_point": 5.0,
            "wind_direction": 131.5,
            "wind_speed": 0.4,
        }
    )


@pytest.mark.parametrize(
    ("payload", "direction", "speed"),
    [(b"$WIMWV,39,R,1.3,M,A*06", 39.0, 1.3), (b"$WIMWV,61,R,1.0,M,A*08", 61.0, 1.0)],
)
def test_relative_wind_turns_with_the_mount(payload, direction, speed):
    assert one(payload).values == {"wind_direction": direction, "wind_speed": speed}
    turned = one(payload, mounting_offset="-50").values
    assert turned == {"wind_direction": (direction - 50) % 360, "wind_speed": speed}


def test_theoretical_wind_counts_from_north_unless_told_otherwise():
    body = "WIMWV,39.0,T,1.3,M,A"
    assert one(body, mounting_offset=10).values["wind_direction"] == 39.0
    assert one(body, mounting_offset=10, theoretical="bow").values["wind_direction"] == 49.0


@pytest.mark.parametrize(("letter", "factor"), [("K", 1 / 3.6), ("M", 1.0), ("N", 1852 / 3600), ("S", 0.44704)])
def test_every_unit_of_speed_is_converted(letter, factor):
    assert one(f"WIMWV,39.0,R,10.0,{letter},A").values["wind_speed"] == pytest.approx(10 * factor, abs=1e-5)


def test_wind_that_the_instrument_doubts_is_refused():
    assert refusal("WIMWV,39.0,R,1.3,M,V") == "not-valid"
    assert refusal("WIMWV,39.0,R,1.3,M") == "not-valid"
    assert refusal("WIMWV,,R,,N,A") == "no-usable-value"


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("WIMTA,-25.0,C", {"temperature": -25.0}),
        ("WIMTA, -25.0, C", {"temperature": -25.0}),
        ("WIMHU,51.5,8.4,10.2,C", {"humidity": 51.5, "dew_point": 10.2}),
        ("WIMHU,51.5,,,", {"humidity": 51.5}),
        ("WIMWD,270.0,T,268.0,M,10.0,N,5.1,M", {"wind_direction": 270.0, "wind_speed": 5.1}),
        ("WIMWD,270.0,T,268.0,M,10.0,N,,", {"wind_direction": 270.0, "wind_speed": 5.144444}),
        ("WIMWD,,T,268.0,M,10.0,N,5.1,M", {"wind_speed": 5.1}),
        ("WIMMB,29.9,I,1.0132,B", {"pressure": 1013.2}),
        ("WIMMB,29.9213,I,1.01,B", {"pressure": 1013.2515}),  # bars too coarse to be used
        ("WIMMB,,,1050.0,B", {"pressure": 1050.0}),  # hPa where bars belong
        ("WIMMB,,,999.9,B", {"pressure": 999.9}),
    ],
)
def test_further_sentences_and_their_quirks(body, expected):
    values, counts = counted(body)
    assert values == pytest.approx(expected, abs=1e-3) and not counts


@pytest.mark.parametrize(
    ("body", "left"),
    [
        ("WIMWV,999.9,R,5.2,M,A", {"wind_speed": 5.2}),
        ("WIMWV,357.0,R,99.9,M,A", {"wind_direction": 357.0}),
        ("WIMHU,999.9,,10.2,C", {"dew_point": 10.2}),
        ("WIMDA,,,9999.9,B,17.7,C,,,,,,,,,,,,,,", {"temperature": 17.7}),
        ("WIMDA,,,1.0,B,999.9,C,,,,,,,,,,,,,,", {"pressure": 1000.0}),
    ],
)
def test_codes_for_no_value_are_missing_and_counted(body, left):
    values, counts = counted(body)
    assert values == pytest.approx(left) and counts == {"missing": 1}


def test_numbers_like_those_codes_can_be_the_weather():
    assert one("WIMHU,99.9,,,").values == {"humidity": 99.9}
    assert one("WIMWV,10.0,R,99.9,K,A").values["wind_speed"] == pytest.approx(27.75)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("WIMDA,,,1.0,B,17.7,F,,,,,,,,,,,,,,", "bad-unit"),
        ("WIMDA,,,1.0,B,NaN,C,,,,,,,,,,,,,,", "nan"),
        ("WIMDA,,,1.0,B,1_0,C,,,,,,,,,,,,,,", "not-numeric"),
        ("WIMDA,,,1.0,B,1e999,C,,,,,,,,,,,,,,", "infinite"),
    ],
)
def test_a_value_that_is_none_is_counted_and_its_neighbours_stay(body, reason):
    values, counts = counted(body)
    assert values == {"pressure": 1000.0} and counts == {reason: 1}


# --- pressure ---


def test_the_kind_of_pressure_is_the_configurations_to_say():
    assert one("WIMMB,,,1.0132,B", pressure="sea_level").values == {"pressure_msl": 1013.2}
    inverted = one("WIMMB,,,1.0132,B", pressure="altimeter", elevation_m="500").values
    assert inverted == {"pressure": pytest.approx(station_pressure(1013.2, 500), abs=1e-5)}
    with pytest.raises(ConfigError, match="elevation_m"):
        decoder(pressure="altimeter")


def test_a_pressure_that_contradicts_the_station_pressure_of_the_same_instrument_is_left_out():
    """An Airmar with a known altitude: MDA then carries the altimeter setting, XDR the raw pressure."""
    instrument, counts = decoder(), Counter()
    instrument.decode(checked("YXXDR,C,,C,WCHR,C,,C,WCHT,C,,C,HINX,P,0.9532,B,STNP"))
    (reading,) = instrument.decode(MDA.encode(), lambda why: counts.update([why]))
    assert "pressure" not in reading.values and reading.values["temperature"] == 17.7
    assert counts == {"adjusted-pressure": 1}


# --- transducers ---


def test_only_the_station_pressure_of_an_airmars_transducers_is_weather():
    values, counts = counted("YXXDR,C,12.0,C,WCHR,C,11.0,C,WCHT,C,30.0,C,HINX,P,1.0012,B,STNP")
    assert values == {"pressure": 1001.2} and not counts


@pytest.mark.parametrize(
    ("body", "address", "values", "totals", "battery"),
    [
        (
            "WIXDR,A,302,D,0,A,320,D,1,A,330,D,2,S,0.1,M,0,S,0.2,M,1,S,0.3,M,2",
            "0",
            {"wind_direction": 320.0, "wind_speed": 0.2, "wind_gust": 0.3},
            {},
            {},
        ),
        (
            "WIXDR,A,341,D,8,A,347,D,9,A,357,D,10,S,0.1,M,8,S,0.2,M,9,S,0.2,M,10",
            "8",
            {"wind_direction": 347.0, "wind_speed": 0.2, "wind_gust": 0.2},
            {},
            {},
        ),
        (
            "WIXDR,C,23.5,C,10,C,24.3,C,11,H,49.3,P,10,P,1010.1,H,10",
            "A",
            {"temperature": 23.5, "humidity": 49.3, "pressure": 1010.1},
            {},
            {},
        ),
        ("WIXDR,C,68.0,F,36,P,1.0101,B,36", "a", {"temperature": 20.0, "pressure": 1010.1}, {}, {}),
        (
            "WIXDR,V,0.02,I,0,Z,30,s,0,R,2.7,M,0,V,0.0,M,1,Z,0,s,1,R,0.0,M,1,R,6.3,M,2,R,0.0,M,3",
            "0",
            {"rain_rate": 2.7},
            {"rain": 0.508},
            {},
        ),
        (
            "WIXDR,C,20.4,C,2,U,12.0,N,0,U,12.5,V,1,U,3.460,V,2,G,HEL/___,,4",
            "0",
            {},
            {},
            {"heating": 12.0, "supply": 12.5},
        ),
    ],
)
def test_vaisalas_transducers_are_counted_from_its_address(body, address, values, totals, battery):
    reading = one(body, address=address)
    assert reading.values == pytest.approx(values)
    assert reading.totals == pytest.approx(totals)
    assert reading.battery == battery


@pytest.mark.parametrize(
    "sentence",
    [
        b"$WIXDR,A,330,D,4,A,331,D,5,A,333,D,6,S,0.1,M,4,S,0.1,M,5,S,0.2,M,6*55",
        b"$WIXDR,A,341,D,8,A,347,D,9,A,357,D,10,S,0.1,M,8,S,0.2,M,9,S,0.2,M,10*53",
    ],
)
def test_sentences_of_the_manual_whose_checksum_holds_are_read(sentence):
    """Other examples printed there carry wrong checksums and are refused."""
    address = "4" if b"*55" in sentence else "8"
    assert set(one(sentence, address=address).values) == {"wind_direction", "wind_speed", "wind_gust"}
    assert refusal(b"$WIXDR,C,25.8,C,6,U,10.6,N,4,U,10.9,V,5,U,3.362,V,6*78", address="4") == "bad-checksum"


def test_an_unknown_transducer_is_counted_and_one_that_is_named_is_read():
    body = "YDXDR,C,19.5,C,TempAir,C,11.0,C,Water,P,1.0248,B,STNP"
    values, counts = counted(body)
    assert values == {"pressure": 1024.8} and counts == {"unknown-transducer": 2}
    values, counts = counted(body, transducers="TempAir:temperature, Baro:pressure_msl")
    assert values == {"temperature": 19.5, "pressure": 1024.8} and counts == {"unknown-transducer": 1}
    assert refusal("YXXDR,A,1.0,D,PTCH,A,2.0,D,PITCH") == "other-sentence"
    assert refusal("YXXDR,C,,C,WCHR,P,,B,STNP") == "no-usable-value"


@pytest.mark.parametrize(
    ("words", "complaint"),
    [("TempAir", "ID:variable"), ("TempAir:temprature", "did you mean"), ("Rain:snow_depth", "no transducer")],
)
def test_a_wrong_transducer_is_a_configuration_error(words, complaint):
    with pytest.raises(ConfigError, match=complaint) as caught:
        decoder(transducers=words)
    assert 'sensor "mast"' in str(caught.value)


# --- what else a line can hold ---


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (b"WIMWV,224.8,R,0.3,N,A*2C", "not-nmea"),
        (b"3,N,A*20", "not-nmea"),
        (b"$WIMWV,224.8,R,0.3,N,A", "no-checksum"),
        (b"$WIMWV,224.8,R,0.3,N,A*", "no-checksum"),
        (b"$WIMWV,224.8,R,0.3,N,A*2", "not-nmea"),
        (b"$WIMWV,224.8,R,0.3,N,A*2D", "bad-checksum"),
        (b"$WIMWV,224.8,R,0.3\xb2,N,A*2C", "not-nmea"),
        (b"$PAMTT,QPS,110WXS-DR232-01,60979729,3*78", "other-sentence"),
        (b"$PUBX*00", "other-sentence"),
        (checked("HCHDG,98.0,,,,"), "other-sentence"),
        (checked("WIXYZ,1,2"), "other-sentence"),
        (checked("CCGPQ,GGA"), "other-sentence"),
        (checked("WIMWVXX,1"), "not-nmea"),
        (b"!AIVDM,1,1,,A,14eG;o@034o8sd<L9i:a;WF>062D,0*7D", "not-nmea"),
        (b"$" + b"A" * 300, "too-large"),
    ],
)
def test_what_is_no_weather_sentence_is_refused_by_name(payload, reason):
    assert refusal(payload) == reason


def test_what_stands_before_the_sentence_is_no_part_of_it():
    whole = checked("WIMWV,61.0,R,1.0,M,A")
    for before, counts in (
        (b"13:01:27.755: <- ", {}),
        (b"\\s:r1,c:1700000000*11\\", {}),
        (b"\xff\x00\x13", {"noise": 1}),
        (b"$WIMWV,6", {"cut-line": 1}),
    ):
        values, found = counted(before + whole + b"\r\n")
        assert values == {"wind_direction": 61.0, "wind_speed": 1.0} and found == counts


def test_sentences_can_be_ignored():
    assert decoder(ignore="mwv, MWD").decode(checked("WIMWV,61.0,R,1.0,M,A")) == []
    assert decoder(ignore="mwv, MWD").decode(MDA.encode()) != []


def test_blank_lines_are_no_messages():
    for line in (b"", b"\r\n", b"\0 "):
        assert decoder().decode(line) == []


# --- the whole ---


def test_without_pynmea2_the_configuration_is_told_which_extra_to_install(monkeypatch):
    real = builtins.__import__

    def absent(name, *more):
        if name == "pynmea2":
            raise ImportError(name)
        return real(name, *more)

    monkeypatch.setattr(builtins, "__import__", absent)
    nmea._library.cache_clear()
    try:
        with pytest.raises(ConfigError, match=r"stationcast\[nmea\]"):
            decoder()
    finally:
        nmea._library.cache_clear()


@pytest.mark.parametrize(
    ("name", "accepted", "rejected"),
    [
        ("20241230-141756.nmea", 22, {"not-nmea": 1}),
        ("20241230-142124.nmea", 11, {"not-nmea": 1}),
        ("20241230-142246.nmea", 21, {}),
        ("20241230-142558.nmea", 47, {}),
        ("20241230-142645.nmea", 16, {}),
        # the boot banner and replies of an Airmar, and a log line without a sentence
        ("Dec_28_2024_60979729_0183.LOG", 308, {"not-nmea": 1, "other-sentence": 34}),
    ],
)
def test_recordings_of_an_airmar_are_read_whole(make_desk, name, accepted, rejected):
    desk = make_desk(sensor())
    for line in Lines(8192).feed(recording("airmar-110wx", name).read_bytes() + b"\n"):
        desk.intake.message(line)
    assert (desk.accepted, desk.rejected) == (accepted, rejected)
    found = {variable for reading in desk.readings for variable in reading.values}
    assert found == {"temperature", "humidity", "dew_point", "pressure", "wind_speed", "wind_direction"}
    pressures = [reading.values["pressure"] for reading in desk.readings if "pressure" in reading.values]
    assert max(pressures) - min(pressures) < 0.11  # MDA and XDR agree


@pytest.mark.parametrize("kind", [b"MDA", b"XDR", b"MWV", b"RMC"])
@given(st.text(st.sampled_from("0123456789.,-+eENaABCDIMNPRSTVWX *$"), max_size=120))
@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_a_checked_sentence_holds_it_is_refused_or_read(kind, rest):
    for address in ("0", "a"):
        _survives(checked("WI" + kind.decode() + "," + rest.replace("*", "").replace("$", "")), address=address)


MUTATED = st.builds(
    lambda whole, at, n, new: whole[:at] + new + whole[at + n :],
    st.sampled_from([MDA.encode(), checked(FIX), checked("WIXDR,C,23.5,C,0,H,49.3,P,0,P,1010.1,H,0")]),
    st.integers(0, 90),
    st.integers(0, 30),
    st.binary(max_size=20),
)


@settings(max_examples=300)
@given(st.binary(max_size=300) | MUTATED)
@example(b"$WIMDA," + b"\r\n" * 4000 + b"*zz")
@example(b"$WIMDA," + b" " * 8000 + b"*ZZ")
@example(b"$WIMDA," + b" " * 240 + b"*ZZ")
@example(b"$" * 8000)
def test_noise_is_refused_or_read_and_nothing_else_happens(payload):
    _survives(payload)


def _survives(payload: bytes, **options: object) -> None:
    try:
        readings = decoder(**options).decode(payload, lambda _: None)
    except BadMessage as error:
        assert error.reason
        return
    for reading in readings:
        assert all(math.isfinite(value) for value in [*reading.values.values(), *reading.totals.values()])
