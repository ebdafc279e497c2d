"""WeeWX over MQTT: names, labels and unit systems, kinds of pressure, rain that is told once."""

from __future__ import annotations

import json
import math
from collections import Counter

import pytest

from edge_agent.errors import BadMessage, ConfigError
from edge_agent.sensors.mapping import Origin
from edge_agent.sensors.weewx import Weewx

T = 1_714_564_800


@pytest.fixture
def build(make_sensor):
    return lambda **options: Weewx(make_sensor("weewx", {}, options=options))


def packet(**fields: object) -> bytes:
    return json.dumps({"dateTime": f"{T}.0", **fields}).encode()


WEATHER = {  # one weather in the three unit systems, as strings
    1: {"outTemp": "50.0", "barometer": "29.92", "windSpeed": "10.0", "rain": "0.10", "rainRate": "0.5"},
    16: {"outTemp": "10.0", "barometer": "1013.2075", "windSpeed": "16.09344", "rain": "0.254", "rainRate": "1.27"},
    17: {"outTemp": "10.0", "barometer": "1013.2075", "windSpeed": "4.4704", "rain": "2.54", "rainRate": "12.7"},
}
VALUES = {"temperature": 10.0, "pressure_msl": 1013.2075, "wind_speed": 4.4704, "rain": 2.54, "rain_rate": 12.7}
LABELS = {
    1: {"outTemp": "F", "barometer": "inHg", "windSpeed": "mph", "rain": "in", "rainRate": "inch_per_hour"},
    16: {"outTemp": "C", "barometer": "mbar", "windSpeed": "kph", "rain": "cm", "rainRate": "cm_per_hour"},
    17: {"outTemp": "C", "barometer": "mbar", "windSpeed": "mps", "rain": "mm", "rainRate": "mm_per_hour"},
}


@pytest.mark.parametrize("system", [1, 16, 17])
def test_one_weather_is_the_same_in_all_unit_systems(build, system):
    (reading,) = build().decode(packet(**WEATHER[system], usUnits=f"{system}.0"))
    assert reading.values == pytest.approx(VALUES, abs=1e-3)
    assert reading.t == T and not reading.totals  # rain is what fell since the packet before
    (from_option,) = build(us_units=system).decode(packet(**WEATHER[system]))
    assert from_option.values == reading.values


@pytest.mark.parametrize("system", [1, 16, 17])
@pytest.mark.parametrize("said", [1, 17, None])
def test_a_label_says_the_unit_whatever_the_system(build, system, said):
    fields = {f"{name}_{LABELS[system][name]}": value for name, value in WEATHER[system].items()}
    (reading,) = build().decode(packet(**fields, **({} if said is None else {"usUnits": said})))
    assert reading.values == pytest.approx(VALUES, abs=1e-3)


def test_what_needs_no_unit_is_read_without_any(build):
    fields = {"outHumidity": "81", "windDir": "270", "radiation_Wpm2": "512", "UV": "3.1", "pm2_5": "7.5"}
    (reading,) = build().decode(packet(**fields))
    assert reading.values == {
        "humidity": 81.0,
        "wind_direction": 270.0,
        "solar_radiation": 512.0,
        "uv_index": 3.1,
        "pm2_5": 7.5,
    }


def test_without_label_and_system_a_value_is_counted(build):
    counts: Counter[str] = Counter()
    (reading,) = build().decode(packet(outTemp="50", outHumidity="81"), lambda reason: counts.update([reason]))
    assert reading.values == {"humidity": 81.0} and counts == {"no-unit": 1}


def test_only_station_pressure_is_pressure(build):
    fields = {"pressure_mbar": "965.2", "barometer_mbar": "1013.1", "altimeter_mbar": "1013.3"}
    (reading,) = build(elevation_m=408).decode(packet(**fields))
    assert reading.values == {"pressure": 965.2, "pressure_msl": 1013.1}


def test_an_altimeter_setting_is_inverted_with_the_elevation_or_left_out(build):
    counts: Counter[str] = Counter()
    fields = {"altimeter_mbar": "1013.25", "outHumidity": "50"}
    (reading,) = build(elevation_m="408").decode(packet(**fields))
    assert reading.values["pressure"] == pytest.approx(965.2, abs=0.5)  # standard atmosphere
    (without,) = build().decode(packet(**fields), lambda reason: counts.update([reason]))
    assert without.values == {"humidity": 50.0} and counts == {"no-elevation": 1}


@pytest.mark.parametrize("raw", ["0", "-5", "99", "1e300", "nan", "high"])
def test_an_altimeter_setting_that_is_none_gives_no_pressure(build, raw):
    (reading,) = build(elevation_m=408).decode(packet(altimeter_mbar=raw, outHumidity="50"))
    assert reading.values == {"humidity": 50.0}


def test_a_packet_must_say_when(build):
    for payload in (b'{"outHumidity": "50"}', b'{"dateTime": "soon", "outHumidity": "50"}'):
        with pytest.raises(BadMessage, match="bad-time"):
            build().decode(payload)


def test_rain_is_taken_from_one_topic_and_from_each_packet_once(build):
    decoder = build()
    first = packet(rain_mm="0.2")
    assert decoder.decode_from(first, Origin("weather/loop", 0.0))[0].values == {"rain": 0.2}
    with pytest.raises(BadMessage, match="repeat"):
        decoder.decode_from(first, Origin("weather/loop", 1.0))
    with pytest.raises(BadMessage, match="other-topic"):
        decoder.decode_from(packet(rain_mm="0.2", interval_minute="5"), Origin("weather/archive", 2.0))


def test_a_topic_without_a_good_packet_is_not_the_one(build):
    decoder = build()
    with pytest.raises(BadMessage, match="not-object"):
        decoder.decode_from(b"12.5", Origin("weather/outTemp_C", 0.0))
    assert decoder.decode_from(packet(rain_mm="0.2"), Origin("weather/loop", 1.0))


def test_batteries_and_the_length_of_an_archive_record(build):
    fields = {"outTempBatteryStatus": "0.0", "rainBatteryStatus": "1.0", "consBatteryVoltage_volt": "4.52"}
    (reading,) = build().decode(packet(**fields, interval_minute="5.0", outHumidity="50"))
    assert reading.battery == {"outdoor": "ok", "rain": "low", "console": 4.52} and reading.period_s == 300


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"elevation_m": "high"}, 'option "elevation_m" must be a number, not text'),
        ({"elevation_m": math.inf}, "must lie within -430 to 9000 m"),
        ({"us_units": 2}, "1 \\(US\\), 16 \\(METRIC\\) or 17"),
    ],
)
def test_options_that_cannot_be_are_told(build, options, said):
    with pytest.raises(ConfigError, match=said):
        build(**options)
