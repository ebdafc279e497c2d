"""What Ecowitt gateways, Ambient consoles and Weather Underground uploads say, and what comes of noise: nothing."""

from __future__ import annotations

import json
from urllib.parse import urlencode

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_agent.errors import BadMessage, ConfigError
from edge_agent.sensors import DRIVERS
from edge_agent.sensors.fields import split_target
from edge_agent.sensors.pressure import station_pressure
from edge_agent.variables import VARIABLES
from tests.sensors.recordings import Decoded, recording, sensor

PUSHED = ("ecowitt", "ambient", "wunderground")
SECRET = "0123456789ABCDEF0123456789ABCDEF"
FORM = (
    f"PASSKEY={SECRET}&stationtype=GW2000A_V3.1.5&runtime=1574073&dateutc=2024-10-03+19%3A42%3A19&tempinf=71.78"
    "&baromrelin=30.035&baromabsin=29.394&tempf=51.44&humidity=76&winddir=181&windspeedmph=1.79&windgustmph=4.25"
    "&solarradiation=12.5&uv=1&rainratein=0.1&yearlyrainin=3.909&wh65batt=1&model=GW2000A&interval=16"
).encode()


def form(**fields: object) -> bytes:
    return urlencode(fields).encode()


def without(payload: bytes, name: str) -> bytes:
    return b"&".join(pair for pair in payload.split(b"&") if not pair.startswith(name.encode() + b"="))


# --- Ecowitt -----------------------------------------------------------------------------------------------------


def test_a_form_becomes_one_reading_in_our_units():
    decoded = Decoded("ecowitt", FORM)
    assert decoded.only.values == pytest.approx(
        {
            "temperature": 10.8,
            "humidity": 76.0,
            "pressure": 29.394 * 33.863886667,  # the station's, not the one somebody adjusted
            "wind_speed": 1.79 * 0.44704,
            "wind_gust": 4.25 * 0.44704,
            "wind_direction": 181.0,
            "solar_radiation": 12.5,
            "uv_index": 1.0,
            "rain_rate": 2.54,
        }
    )
    assert decoded.only.totals == {"rain": pytest.approx(3.909 * 25.4)}
    assert decoded.only.t == 1_727_984_539 and decoded.only.period_s == 16
    assert decoded.battery == {"wh65": "low"} and not decoded.counted


def test_a_form_and_the_same_in_json_say_the_same():
    pairs = dict(pair.split("=") for pair in FORM.decode().split("&"))
    pairs["dateutc"] = "2024-10-03 19:42:19"
    assert Decoded("ecowitt", json.dumps(pairs).encode()).readings == Decoded("ecowitt", FORM).readings


@pytest.mark.parametrize(
    "line", [b"POST /data/report/?%s HTTP/1.1", b"GET /data/report/%s", b"/data/report?%s", b"?%s"]
)
def test_a_recorded_request_line_is_read_as_its_query(line):
    assert Decoded("ecowitt", line % FORM).readings == Decoded("ecowitt", FORM).readings


def test_metric_names_are_metric_values():
    metric = form(tempc=10.8, baromabshpa=995.4, windspeedkmh=3.6, windgustms=2, rainratemm=1, yearlyrainmm=99.3)
    assert Decoded("ecowitt", metric).only.values == pytest.approx(
        {"temperature": 10.8, "pressure": 995.4, "wind_speed": 1.0, "wind_gust": 2.0, "rain_rate": 1.0}
    )
    assert Decoded("ecowitt", metric).only.totals == {"rain": 99.3}


def test_hectopascals_under_an_imperial_name_make_the_whole_message_metric():
    mixed = form(tempf=-4.4, baromabsin=837.793, windspeedmph=36, yearlyrainin=112.8)
    reading = Decoded("ecowitt", mixed).only
    assert reading.values == pytest.approx({"temperature": -4.4, "pressure": 837.793, "wind_speed": 10.0})
    assert reading.totals == {"rain": 112.8}
    told = Decoded("ecowitt", mixed, units="imperial").only
    assert told.values["pressure"] == pytest.approx(837.793 * 33.863886667)  # quality control's to judge


def test_the_counter_that_is_followed_depends_on_names_only():
    """Another counter for one message would look like rain."""
    full = {"totalrainin": "10.0", "yearlyrainin": "2.0", "dailyrainin": "0.5", "tempf": "50"}
    assert Decoded("ecowitt", form(**full)).only.totals == {"rain": 254.0}
    broken = Decoded("ecowitt", form(**full | {"totalrainin": ""}))
    assert broken.only.totals == {} and broken.counted == {"null": 1}
    assert Decoded("ecowitt", form(dailyrainin="0.5")).only.totals == {"rain": 12.7}


def test_of_two_gauges_the_tipping_one_counts_unless_told_otherwise():
    both = form(yearlyrainin="3.909", rainratein="0.1", yrain_piezo="4.114", rrain_piezo="0.2", wh90batt="3.2")
    tipping, piezo = Decoded("ecowitt", both), Decoded("ecowitt", both, gauge="piezo")
    assert tipping.only.totals == {"rain": pytest.approx(3.909 * 25.4)} and tipping.only.values["rain_rate"] == 2.54
    assert piezo.only.totals == {"rain": pytest.approx(4.114 * 25.4)} and piezo.only.values["rain_rate"] == 5.08
    assert tipping.only.device != piezo.only.device  # so that one's total never follows the other's
    assert tipping.battery == piezo.battery == {"wh90": 3.2}


def test_batteries_are_read_by_their_kind():
    fields = form(
        wh65batt=0, batt1=1, wh57batt=1, leakbatt1=5, pm25batt1=6, wh40batt="1.4", soilbatt2="1.7", wh90batt="3.04",
        ws90cap_volt="5.0", wh26batt="?", tempf=50,
    )  # fmt: skip
    assert Decoded("ecowitt", fields).battery == {
        "wh65": "ok", "channel 1": "low", "wh57": "low", "leak1": "ok", "pm251": "ok", "wh40": 1.4, "soil2": 1.7,
        "wh90": 3.04,
    }  # fmt: skip
    assert Decoded("ecowitt", form(wh40batt=0, tempf=50)).battery == {"wh40": "ok"}  # older firmware: a flag


@pytest.mark.parametrize(
    ("dateutc", "t"),
    [
        ("2024-10-03 19:42:19", 1_727_984_539),
        ("2024-1-5 3:4:5", 1_704_423_845),
        ("1727984539", 1_727_984_539),
        ("now", None),
    ],
)
def test_the_gateways_time_is_utc(dateutc, t):
    decoded = Decoded("ecowitt", form(dateutc=dateutc, tempf=50))
    assert decoded.only.t == t and not decoded.counted


@pytest.mark.parametrize("dateutc", ["2000-01-01 00:01:10", "1970-01-01 00:00:00", "2024-13-03 19:42:19", "soon", ""])
def test_a_gateway_whose_clock_is_not_set_is_stamped_on_arrival(dateutc):
    decoded = Decoded("ecowitt", form(dateutc=dateutc, tempf=50))
    assert decoded.only.t is None and decoded.counted == {"clock-unset": 1}


def test_stamps_can_be_ours():
    assert Decoded("ecowitt", FORM, stamp="arrival").only.t is None


@pytest.mark.parametrize(
    "fields", [{"tf_ch1": "soil_temperature", "pm25_ch1": "pm2_5"}, "tf_ch1=soil_temperature, pm25_ch1=pm2_5"]
)
def test_fields_whose_place_only_the_operator_knows_can_be_named(fields):
    decoded = Decoded("ecowitt", form(tf_ch1="50", pm25_ch1="21.0"), fields=fields)
    assert decoded.only.values == {"soil_temperature": pytest.approx(10.0), "pm2_5": 21.0}


def test_a_named_field_goes_before_the_usual_one():
    decoded = Decoded("ecowitt", form(tempf="90", temp1f="50"), fields="temp1f=temperature")
    assert decoded.only.values == {"temperature": pytest.approx(10.0)}


@pytest.mark.parametrize("fields", ["tf_ch1=soil_temprature", "tf_ch1"])
def test_a_field_without_a_variable_is_an_error_of_the_configuration(fields):
    with pytest.raises(ConfigError, match="option fields"):
        DRIVERS["ecowitt"].decoder(sensor("ecowitt", options={"fields": fields}))


def test_missing_values_are_counted_and_their_neighbours_stay():
    decoded = Decoded("ecowitt", form(tempf="", humidity="-9999", winddir="--", uv="3"))
    assert decoded.only.values == {"uv_index": 3.0}
    assert decoded.counted == {"null": 1, "missing-marker": 1, "not-numeric": 1}


def test_recorded_gateways_are_read_without_a_complaint():
    found = {}
    for path in sorted(recording("ecowitt-http").glob("payload_[guw][nsw]*.json")):
        decoded = Decoded("ecowitt", path.read_bytes())
        assert not decoded.counted and decoded.only.t is not None
        assert set(decoded.only.totals) == {"rain"}
        assert set(decoded.only.values) <= set(VARIABLES)
        found[path.stem] = decoded.only.values
    assert len(found) == 9
    # the same message in two unit systems, as its editor rounded it
    imperial, metric = found["payload_gw1000bpro"], found["payload_gw1000bpro_metric"]
    assert imperial["pressure"] == pytest.approx(metric["pressure"], abs=0.01)
    assert found["payload_gw2000a_4"]["pressure"] == pytest.approx(995.4, abs=0.05)


# --- Ambient Weather ---------------------------------------------------------------------------------------------


def test_an_ambient_console_is_read_by_its_own_names():
    fields = form(
        stationtype="AMBWeatherV4.3.4", PASSKEY=SECRET, dateutc="2022-11-26 22:25:29", tempf="50", baromrelin="29.6",
        baromabsin="24.679", hourlyrainin="0.1", yearlyrainin="1", pm25="12", soiltemp1f="41", soilhum1="30",
        battout="1", battin="0", batt_lightning="0", batt_co2="1",
    )  # fmt: skip
    decoded = Decoded("ambient", fields)
    assert decoded.only.values == pytest.approx(
        {
            "temperature": 10.0, "pressure": 24.679 * 33.863886667, "rain_rate": 2.54, "pm2_5": 12.0,
            "soil_temperature": 5.0, "soil_moisture": 30.0,
        }
    )  # fmt: skip
    assert decoded.only.totals == {"rain": 25.4} and decoded.only.t == 1_669_501_529
    # 1 is good in this protocol, but for lightning
    assert decoded.battery == {"out": "ok", "in": "low", "lightning": "ok", "co2": "ok"}


def test_the_recorded_ambient_console():
    decoded = Decoded("ambient", recording("ecowitt-http/payload_ambweather.json").read_bytes())
    assert decoded.only.values["pressure"] == pytest.approx(835.73, abs=0.01)  # in the mountains
    assert decoded.only.totals == {"rain": pytest.approx(48.811 * 25.4)} and not decoded.counted


# --- Weather Underground -----------------------------------------------------------------------------------------

UPLOAD = form(
    ID="KXX", PASSWORD=SECRET, dateutc="now", tempf="50", dewptf="41", humidity="54", winddir="269", windspeedmph="1",
    windgustmph="-9999", rainin="0.3", dailyrainin="0.5", yearlyrainin="2", baromin="30", UV="6", lowbatt="1",
    action="updateraw", realtime="1", rtfreq="5", **{"AqPM2.5": "7"},
)  # fmt: skip


def test_an_upload_is_read_with_its_barometer_kept_apart():
    decoded = Decoded("wunderground", UPLOAD)
    assert decoded.only.values == pytest.approx(
        {
            "temperature": 10.0, "dew_point": 5.0, "humidity": 54.0, "wind_direction": 269.0, "wind_speed": 0.44704,
            "uv_index": 6.0, "pm2_5": 7.0, "pressure_msl": 1015.9166,
        }
    )  # fmt: skip
    assert decoded.only.t is None and decoded.only.totals == {"rain": 50.8}
    assert decoded.counted == {"missing-marker": 1} and decoded.battery == {"outdoor": "low"}


def test_a_station_pressure_beside_it_is_the_pressure():
    values = Decoded("wunderground", UPLOAD + b"&absbaromin=28").only.values
    assert values["pressure"] == pytest.approx(948.1888) and values["pressure_msl"] == pytest.approx(1015.9166)


def test_baromin_is_what_the_configuration_says():
    assert Decoded("wunderground", UPLOAD, pressure="station").only.values["pressure"] == pytest.approx(1015.9166)
    values = Decoded("wunderground", UPLOAD, pressure="altimeter", elevation_m=408).only.values
    assert values["pressure"] == pytest.approx(station_pressure(1015.9166, 408), abs=1e-3)
    assert "pressure_msl" not in values
    with pytest.raises(ConfigError, match="elevation_m"):
        DRIVERS["wunderground"].decoder(sensor("wunderground", options={"pressure": "altimeter"}))


@given(pressure=st.floats(500, 1080), elevation=st.floats(-400, 4000))
def test_the_altimeter_setting_of_a_station_pressure_gives_it_back(pressure, elevation):
    n = 0.190284
    c = 0.0065 * 1013.25**n / 288 * elevation
    altimeter = (pressure - 0.3) * (1 + c / (pressure - 0.3) ** n) ** (1 / n)
    assert station_pressure(altimeter, elevation) == pytest.approx(pressure, abs=1e-6)


def test_the_worked_altimeter_setting():
    assert station_pressure(1013.25, 408) == pytest.approx(965.47, abs=0.005)


def test_the_recorded_upload():
    decoded = Decoded("wunderground", recording("ecowitt-http/payload_wunderground.json").read_bytes())
    assert decoded.only.values["temperature"] == pytest.approx(31.9) and "pressure" not in decoded.only.values
    assert decoded.only.totals == {"rain": pytest.approx(4.831 * 25.4)} and not decoded.counted


# --- all of them -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("driver", PUSHED)
@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (b"{", "not-json"),
        (b'{"tempf": 1', "not-json"),
        (b"[1, 2]", "not-object"),
        (b"hello", "not-form"),
        (b"\xff\xfe=1", "not-text"),
        (b"&".join(b"a%d=1" % i for i in range(1001)), "not-form"),
        (b"a=1&b=2", "no-mapped-value"),
        (b"tempf=warm", "no-usable-value"),
        (b"[" * 100_000, "not-json"),
    ],
)
def test_what_is_no_message_is_refused_by_name(driver, payload, reason):
    with pytest.raises(BadMessage) as refused:
        Decoded(driver, payload)
    assert refused.value.reason == reason


@pytest.mark.parametrize("driver", PUSHED)
def test_no_password_is_ever_in_the_words(driver):
    for payload in (f"PASSKEY={SECRET}", f"ID={SECRET}&PASSWORD={SECRET}", f'{{"PASSKEY": "{SECRET}"', SECRET):
        with pytest.raises(BadMessage) as refused:
            Decoded(driver, payload.encode())
        assert SECRET not in str(refused.value)


@pytest.mark.parametrize("driver", PUSHED)
def test_blank_messages_are_none(driver):
    assert Decoded(driver, b"", b" \r\n").readings == []


@pytest.mark.parametrize(
    ("target", "parts"),
    [
        ("/data/report/?a=1&b=2", ("/data/report/", "a=1&b=2")),
        ("/data/report", ("/data/report", "")),
        ("/data/report/a=1&b=2", ("/data/report/", "a=1&b=2")),
        ("/data/report/&a=1", ("/data/report/", "a=1")),
        ("", ("", "")),
    ],
)
def test_a_console_that_leaves_out_the_question_mark_is_understood(target, parts):
    assert split_target(target) == parts


NAMES = st.sampled_from(
    ["tempf", "humidity", "baromabsin", "baromin", "dateutc", "yearlyrainin", "yrain_piezo", "wh65batt", "batt1",
     "battout", "lowbatt", "interval", "UV", "PASSKEY", "windspeedmph", "soilmoisture1"]
)  # fmt: skip
RAW = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=12), st.just("-9999"), st.just("1e400"),
    st.lists(st.integers(), max_size=2), st.dictionaries(st.text(max_size=3), st.integers(), max_size=2),
)  # fmt: skip


@pytest.mark.parametrize("driver", PUSHED)
@settings(max_examples=300)
@given(
    payload=st.binary(max_size=200)
    | st.dictionaries(NAMES, RAW, max_size=8).map(lambda d: json.dumps(d).encode())
    | st.dictionaries(NAMES, st.text(max_size=12), max_size=8).map(lambda d: urlencode(d).encode())
    | st.tuples(st.integers(0, len(FORM) - 1), st.binary(max_size=6)).map(
        lambda cut: FORM[: cut[0]] + cut[1] + FORM[cut[0] + len(cut[1]) :]
    )
)
def test_nothing_but_a_refusal_comes_of_noise(driver, payload):
    """Random bytes, messages of the right names with wrong values, and damaged messages."""
    counted: list[str] = []
    try:
        readings = DRIVERS[driver].decoder(sensor(driver)).decode(payload, counted.append)
    except BadMessage:
        return
    for reading in readings:
        assert all(name in VARIABLES and abs(value) < float("inf") for name, value in reading.values.items())
        assert all(abs(total) < float("inf") for total in reading.totals.values())
        assert len(reading.battery) <= 64 and all(len(part) <= 32 for part in reading.battery)
