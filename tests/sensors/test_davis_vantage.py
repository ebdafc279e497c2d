"""What a Davis Vantage console sends, as readings: packets, archive pages, answers; and a recording of a real one."""

from __future__ import annotations

import math
import os
from collections import Counter
from datetime import datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_agent.config import Sensor
from edge_agent.errors import BadMessage, ConfigError
from edge_agent.observation import Reading
from edge_agent.sensors import DRIVERS
from edge_agent.sensors.davis_vantage import CLOCK, SETUP, Vantage, VantageOptions, archive_message
from edge_agent.sensors.driver import options_of
from edge_agent.sensors.framing import Refusal
from edge_agent.sensors.vantage_packets import VantageFrames, sound, with_crc
from tests.sensors.vantage_console import loop, loop2, page, record

CORPUS = Path(os.environ.get("STATIONCAST_CORPUS", Path(__file__).parents[2].parent / "shared" / "data"))
ZURICH = ZoneInfo("Europe/Zurich")
NOON = datetime(2024, 7, 1, 12, 0)


def sensor(**options: object) -> Sensor:
    return msgspec.convert({"name": "roof", "driver": "davis_vantage", "port": "/dev/null", "options": options}, Sensor)


def decoder(**options: object) -> Vantage:
    return Vantage(sensor(**options))


def one(payload: bytes, **options: object) -> Reading:
    (reading,) = decoder(**options).decode(payload)
    return reading


def refusal(payload: bytes) -> str:
    with pytest.raises(BadMessage) as caught:
        decoder().decode(payload)
    return caught.value.reason


def times(readings: list[Reading]) -> list[str]:
    return [datetime.fromtimestamp(r.t or 0, ZoneInfo("UTC")).strftime("%d %H:%M") for r in readings]


# --- packets ----------------------------------------------------------------------------------------------------------


def test_the_checksum_is_the_one_of_the_manual():
    assert with_crc(bytes.fromhex("C6CEA203")) == bytes.fromhex("C6CEA203E2B4")
    assert sound(bytes.fromhex("C6CEA203E2B4")) and not sound(bytes.fromhex("C6CEA203E2B5"))


def test_a_loop_packet_is_read_in_the_vocabularys_units():
    reading = one(
        loop(
            bar=29920,
            temperature=685,
            wind=13,
            wind10=10,
            direction=360,
            soil=150,
            humidity=45,
            rate=10,
            uv=35,
            solar=500,
        ),
        rain_click_mm=0.2,
    )
    assert reading.values == pytest.approx(
        {
            "pressure_msl": 29.92 * 33.863886667,
            "temperature": (68.5 - 32) / 1.8,
            "wind_gust": 13 * 0.44704,
            "wind_speed": 10 * 0.44704,
            "wind_direction": 360.0,
            "soil_temperature": (60 - 32) / 1.8,
            "humidity": 45.0,
            "rain_rate": 2.0,
            "uv_index": 3.5,
            "solar_radiation": 500.0,
        }
    )
    assert reading.t is None and not reading.historical


def test_station_pressure_comes_from_loop2_alone():
    reading = one(loop2(bar=29920, absolute=28500, temperature=685, dew=50, wind10=105, direction=90))
    assert reading.values == pytest.approx(
        {
            "pressure_msl": 29.92 * 33.863886667,
            "pressure": 28.5 * 33.863886667,
            "temperature": (68.5 - 32) / 1.8,
            "dew_point": 10.0,
            "wind_speed": 10.5 * 0.44704,
            "wind_direction": 90.0,
        }
    )
    assert "pressure" not in one(loop(bar=29920)).values


def test_dashes_are_missing_and_counted_and_direction_0_is_none():
    counts: Counter[str] = Counter()
    (reading,) = decoder().decode(loop(temperature=-400, direction=0), lambda why: counts.update([why]))
    assert reading.values == {"temperature": pytest.approx(-40.0)}
    assert counts == {"dashed": 10}  # nine other values, and the year's rain
    assert refusal(loop()) == refusal(loop2()) == "no-usable-value"
    assert refusal(loop2(dew=255)) == "no-usable-value"


def test_winds_of_two_resolutions_are_not_mixed_once_loop2_has_come():
    station = decoder()
    (first,) = station.decode(loop(wind10=10))
    (fine,) = station.decode(loop2(wind10=105))
    (then,) = station.decode(loop(wind10=10, wind=12))
    assert first.values["wind_speed"] == pytest.approx(10 * 0.44704)
    assert fine.values["wind_speed"] == pytest.approx(10.5 * 0.44704)
    assert then.values == {"wind_gust": pytest.approx(12 * 0.44704)}


@pytest.mark.parametrize(("bits", "mm"), [(0x00, 0.254), (0x10, 0.2), (0x20, 0.1), (0xDF, 0.2)])
def test_a_click_of_rain_is_what_the_console_says_unless_the_operator_says_otherwise(bits, mm):
    for options, click in (({}, mm), ({"rain_click_mm": "0.5"}, 0.5)):
        station = decoder(**options)
        station.decode(SETUP + bytes([bits, 1, 5]))
        (reading,) = station.decode(loop(rate=10, year=828, day=3))
        assert reading.values["rain_rate"] == pytest.approx(10 * click)
        assert reading.totals["rain"] == pytest.approx(828 * click)


def test_rain_without_a_click_size_is_counted_and_left_out_and_no_rain_is_none():
    counts: Counter[str] = Counter()
    (reading,) = decoder().decode(loop(rate=0, year=828), lambda why: counts.update([why]))
    assert reading.values == {"rain_rate": 0.0} and not reading.totals
    assert counts["no-rain-click"] == 1


def test_the_total_is_the_years_of_loop_or_the_days_of_both():
    packets = loop(year=828, day=3), loop2(day=3, absolute=29000)
    by_year, by_day = (decoder(rain_click_mm=0.2, rain_counter=name) for name in ("year", "day"))
    assert [dict(by_year.decode(p)[0].totals) for p in packets] == [{"rain": pytest.approx(165.6)}, {}]
    assert [dict(by_day.decode(p)[0].totals) for p in packets] == [{"rain": pytest.approx(0.6)}] * 2


def test_batteries_are_told_of_transmitters_that_have_spoken_up():
    station = decoder()
    assert station.decode(loop(volts=800, uv=1))[0].battery == {"console": 4.69, "transmitter 1": "ok"}
    assert station.decode(loop(low=0b101, uv=1))[0].battery == {"transmitter 1": "low", "transmitter 3": "low"}
    assert station.decode(loop(uv=1))[0].battery == {"transmitter 1": "ok", "transmitter 3": "ok"}
    assert station.decode(loop2(absolute=29000))[0].battery == {}


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (b"", "not-a-packet"),
        (b"LOO", "not-a-packet"),
        (loop(uv=1)[:98] + b"\0", "bad-checksum"),
        (with_crc(loop(uv=1)[:4] + b"\x02" + loop(uv=1)[5:97]), "packet-type"),
        (page(0, [record(NOON)])[:-1] + b"\0", "bad-checksum"),
        (SETUP + b"\x10", "not-a-packet"),
        (CLOCK + bytes(6), "bad-time"),
        (CLOCK + bytes(7), "not-a-packet"),
    ],
)
def test_what_cannot_be_used_is_refused_by_name(payload, reason):
    assert refusal(payload) == reason


def test_the_consoles_clock_is_told_in_utc_save_in_the_hour_that_comes_twice():
    def shown(*parts: int) -> list[Reading]:
        year, month, day, hour, minute, second = parts
        answer = CLOCK + bytes([second, minute, hour, day, month, year - 1900])
        return decoder(timezone="Europe/Zurich").decode(answer)

    (reading,) = shown(2024, 7, 1, 12, 0, 30)
    assert reading.device_clock == datetime(2024, 7, 1, 12, 0, 30, tzinfo=ZURICH).timestamp() and not reading.values
    assert shown(2024, 10, 27, 2, 30, 0) == shown(1999, 12, 31, 0, 0, 0) == []


# --- the archive ------------------------------------------------------------------------------------------------------


def test_a_page_of_the_archive_is_five_historical_readings_of_their_own_time():
    whole = page(0, [record(NOON + i * timedelta(minutes=5), 680 + i, i) for i in range(5)])
    readings = decoder(timezone="Europe/Zurich", rain_click_mm=0.2).decode(whole)
    assert times(readings) == ["01 10:00", "01 10:05", "01 10:10", "01 10:15", "01 10:20"]
    assert {r.historical for r in readings} == {True} and {r.period_s for r in readings} == {300}
    assert [r.values["rain"] for r in readings] == pytest.approx([0, 0.2, 0.4, 0.6, 0.8])
    assert readings[4].values["temperature"] == pytest.approx((68.4 - 32) / 1.8) and not readings[4].totals


def test_a_record_has_its_means_and_its_largest_gust_and_keeps_its_pressure_apart():
    (bar_low, bar_high), north = (29920).to_bytes(2, "little"), 0
    one_record = record(NOON, b14=bar_low, b15=bar_high, b23=81, b24=7, b25=19, b27=north, b28=20)
    (reading,) = decoder().decode(page(3, [one_record]))
    assert reading.values == pytest.approx(
        {
            "temperature": 20.0,
            "pressure_msl": 29.92 * 33.863886667,
            "humidity": 81.0,
            "wind_speed": 7 * 0.44704,
            "wind_gust": 19 * 0.44704,
            "wind_direction": 360.0,
            "uv_index": 2.0,
            "rain": 0.0,
        }
    )
    assert reading.period_s is None  # one record alone does not show how far apart they are


def test_records_that_are_unused_of_revision_a_or_of_no_date_are_left_out():
    counts: Counter[str] = Counter()
    no_date = record(NOON)[:2] + b"\xff\xff" + record(NOON)[4:]
    records = [record(NOON), record(NOON + timedelta(minutes=5), b42=255), no_date, record(NOON), b"\xff" * 52]
    assert len(decoder().decode(page(0, records), lambda why: counts.update([why]))) == 1
    assert {name: counts[name] for name in ("archive-revision", "bad-time", "old-record")} == {
        "archive-revision": 1,
        "bad-time": 1,
        "old-record": 1,
    }
    assert decoder().decode(page(0, [])) == []


def test_a_night_of_25_hours_is_told_apart_by_the_order_of_its_records():
    start = datetime(2024, 10, 27, 1, 30, tzinfo=ZURICH).timestamp()
    stamps = [datetime.fromtimestamp(start + i * 1800, ZURICH).replace(tzinfo=None) for i in range(10)]
    assert [stamp.hour for stamp in stamps] == [1, 2, 2, 2, 2, 3, 3, 4, 4, 5]
    station = decoder(timezone="Europe/Zurich")
    pages = [page(n, [record(stamp) for stamp in stamps[5 * n : 5 * n + 5]]) for n in range(2)]
    readings = [reading for p in pages for reading in station.decode(p)]
    assert [reading.t for reading in readings] == [start + i * 1800 for i in range(10)]


def test_another_download_in_the_same_recording_begins_anew():
    station = decoder()
    first, later = page(0, [record(NOON)]), page(0, [record(NOON + timedelta(days=9))])
    assert [len(station.decode(p)) for p in (later, first, later)] == [1, 1, 1]


def test_records_that_the_conversation_dated_are_believed():
    station = decoder(rain_click_mm=0.2)
    station.decode(SETUP + bytes([0, 1, 10]))
    readings = station.decode(archive_message([(1_700_000_000, record(NOON)), (1_700_000_600, record(NOON))]))
    assert [r.t for r in readings] == [1_700_000_000, 1_700_000_600] and readings[0].period_s == 600


# --- options and streams ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"rain_click": 0.2}, 'did you mean "rain_click_mm"'),
        ({"rain_click_mm": 0}, "0.254"),
        ({"timezone": "Mars/Olympus"}, "Europe/Zurich"),
        ({"catch_up_days": -1}, "between 0 and 3650"),
        ({"rain_counter": "month"}, '"year" or "day"'),
    ],
)
def test_a_wrong_option_is_a_configuration_error_that_names_the_sensor(options, words):
    with pytest.raises(ConfigError, match=words) as caught:
        options_of(sensor(**options), VantageOptions)
    assert 'sensor "roof"' in str(caught.value)


def test_packets_and_pages_are_found_in_one_stream():
    sent = [loop(uv=1), page(7, [record(NOON)]), loop2(absolute=29000), page(0, [record(NOON)] * 5)]
    stream = b"\x06" + sent[0] + b"\n\r\x06" + sent[1] + sent[2] + b"\n\r" + sent[3]
    assert list(VantageFrames().feed(stream)) == sent
    damaged = sent[1][:100] + b"\x55" + sent[1][101:]
    told = list(VantageFrames().feed(sent[0] + damaged + sent[2]))
    assert [m for m in told if isinstance(m, bytes)] == [sent[0], sent[2]]
    assert Refusal("noise", "267 bytes between messages") in told


@settings(max_examples=300)
@given(
    payload=st.one_of(
        st.binary(max_size=300),
        st.binary(min_size=97, max_size=97).map(lambda b: with_crc(b"LOO" + b[3:])),
        st.binary(min_size=265, max_size=265).map(with_crc),
        st.tuples(st.sampled_from([SETUP, CLOCK, b"DMPAFT\n"]), st.binary(max_size=130)).map(b"".join),
    )
)
def test_noise_is_refused_and_nothing_else_happens(payload):
    try:
        readings = decoder(rain_click_mm=0.2, timezone="Europe/Zurich").decode(payload)
    except BadMessage:
        return
    assert all(math.isfinite(value) for r in readings for value in (*r.values.values(), *r.totals.values()))


@settings(max_examples=300)
@given(st.sampled_from([loop(temperature=1), loop2(absolute=1), page(0, [record(NOON)] * 3)]), st.data())
def test_a_message_that_was_changed_or_cut_is_refused(whole, data):
    at = data.draw(st.integers(0, len(whole) - 1))
    changed = whole[:at] + bytes([whole[at] ^ data.draw(st.integers(1, 255))]) + whole[at + 1 :]
    for payload in (changed, whole[:at], whole[at + 1 :]):
        assert refusal(payload) in ("bad-checksum", "not-a-packet")


def test_a_packet_of_a_real_console_is_read():
    file = CORPUS / "raw-sensors" / "davis-vantage" / "vantage_pro2_packet_0_99bytes.hex"
    if not file.is_file():
        pytest.skip(f"no recording at {file} (STATIONCAST_CORPUS)")
    counts: Counter[str] = Counter()
    (message,) = VantageFrames().feed(bytes.fromhex(file.read_text()))
    assert isinstance(message, bytes)
    (reading,) = decoder(rain_click_mm=0.254).decode(message, lambda why: counts.update([why]))
    assert reading.values == {"pressure_msl": pytest.approx(1069.15, abs=0.01)}  # no outdoor sensors near it
    assert reading.totals == {"rain": pytest.approx(210.312)}
    assert reading.battery == {"console": 0.82, "transmitter 1": "ok"} and counts == {"dashed": 9}


def test_the_driver_says_what_its_pressure_and_its_stamps_are():
    spec = DRIVERS["davis_vantage"]
    assert (spec.pressure, spec.baud, spec.binary) == ("station", 19200, True) and "timezone" in spec.stamps
