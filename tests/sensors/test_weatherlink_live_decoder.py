"""What a WeatherLink Live answers and broadcasts: its transmitters, its collector's size, its barometer."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_agent.errors import BadMessage, ConfigError
from edge_agent.sensors import DRIVERS
from edge_agent.sensors.weatherlink_poll import LivePoll
from edge_agent.variables import VARIABLES
from tests.sensors.recordings import Decoded, recording, sensor

T = 1_531_754_005
ISS: dict[str, Any] = {
    "lsid": 48308, "data_structure_type": 1, "txid": 1, "temp": 50.0, "hum": 60.5, "dew_point": 41.0,
    "wind_speed_last": 2.0, "wind_dir_last": 200, "wind_speed_avg_last_10_min": 10.0,
    "wind_dir_scalar_avg_last_10_min": 90, "wind_speed_hi_last_10_min": 20.0, "rain_size": 2, "rain_rate_last": 3,
    "solar_rad": 747, "uv_index": 5.5, "rx_state": 0, "trans_battery_flag": 0, "rainfall_daily": 6,
    "rainfall_monthly": 60, "rainfall_year": 600,
}  # fmt: skip
BAROMETER = {"data_structure_type": 3, "bar_sea_level": 30.008, "bar_absolute": 29.0}
ROOM = {"data_structure_type": 4, "temp_in": 78.0, "hum_in": 41.1}


def answer(*records: Any, ts: Any = T) -> bytes:
    return json.dumps({"data": {"did": "001D0A700002", "ts": ts, "conditions": records}, "error": None}).encode()


def broadcast(*records: Any) -> bytes:
    return json.dumps({"did": "001D0A700002", "ts": T, "conditions": records}).encode()


def test_current_conditions_become_one_reading_in_our_units():
    decoded = Decoded("weatherlink_live", answer(ISS, ROOM, BAROMETER))
    reading = decoded.only
    assert reading.values == pytest.approx(
        {
            "pressure": 29.0 * 33.863886667, "temperature": 10.0, "humidity": 60.5, "dew_point": 5.0,
            "wind_speed": 4.4704, "wind_direction": 90.0, "wind_gust": 8.9408, "solar_radiation": 747.0,
            "uv_index": 5.5, "rain_rate": 0.6,
        }
    )  # fmt: skip
    assert reading.totals == {"rain": pytest.approx(120.0)} and reading.t == T
    assert reading.device == "tx1" and reading.battery == {"transmitter": "ok"} and not decoded.counted


@pytest.mark.parametrize(("size", "mm"), [(1, 0.254), (2, 0.2), (3, 0.1), (4, 0.0254)])
def test_a_count_of_rain_is_as_large_as_the_collector_says(size, mm):
    reading = Decoded("weatherlink_live", answer(ISS | {"rain_size": size, "rainfall_year": 100})).only
    assert reading.totals == {"rain": pytest.approx(100 * mm)}
    assert reading.values["rain_rate"] == pytest.approx(3 * mm)


@pytest.mark.parametrize("size", [0, None, 5, "2", True])
def test_rain_of_an_unknown_size_is_counted_and_makes_none(size):
    decoded = Decoded("weatherlink_live", answer(ISS | {"rain_size": size}))
    assert not decoded.only.totals and "rain_rate" not in decoded.only.values
    assert decoded.counted == {"no-rain-size": 2}


def test_a_transmitter_without_a_collector_is_nothing_to_complain_of():
    dry = {name: 0 for name in ISS if name.startswith("rain")}
    assert not Decoded("weatherlink_live", answer(ISS | dry)).counted


def test_a_null_total_is_missing_and_no_other_total_stands_in_for_it():
    decoded = Decoded("weatherlink_live", answer(ISS | {"rainfall_year": None}))
    assert not decoded.only.totals and decoded.counted == {"null": 1}


def test_each_transmitter_is_a_device_and_gives_what_the_ones_before_it_do_not():
    wind = {"data_structure_type": 1, "txid": 2, "temp": 99.0, "wind_speed_avg_last_10_min": 1.0, "rain_size": 0,
            "rainfall_year": 0, "trans_battery_flag": 1}  # fmt: skip
    rest = {name: value for name, value in ISS.items() if not name.startswith("wind")}
    first, second = Decoded("weatherlink_live", answer(rest, wind, BAROMETER)).readings
    assert first.device == "tx1" and first.values["pressure"] and first.values["temperature"] == pytest.approx(10.0)
    assert second.device == "tx2" and second.values == {"wind_speed": pytest.approx(0.44704)}
    assert first.totals and not second.totals and second.battery == {"transmitter": "low"}


@pytest.mark.parametrize("state", [0, 2])
def test_of_two_collectors_the_first_counts_also_while_it_is_not_heard(state):
    """Rain that two gauges caught fell once; the first one's total brings it when it is heard again."""
    readings = Decoded("weatherlink_live", answer(ISS | {"rx_state": state}, ISS | {"txid": 2, "hum": 1})).readings
    assert {r.device for r in readings if r.totals} == ({"tx1"} if state == 0 else set())


def test_one_transmitter_can_be_chosen():
    other = ISS | {"txid": 4, "temp": 32.0}
    assert Decoded("weatherlink_live", answer(ISS, other), txid=4).only.values["temperature"] == pytest.approx(0.0)


def test_a_transmitter_that_is_not_heard_says_nothing():
    """Its record holds what was measured before it was lost."""
    decoded = Decoded("weatherlink_live", answer(ISS | {"rx_state": 2}, BAROMETER))
    assert set(decoded.only.values) == {"pressure"} and decoded.counted == {"no-signal": 1}


def test_the_mean_wind_comes_with_the_conditions_and_the_last_on_demand():
    quick = {name: ISS[name] for name in ("data_structure_type", "txid", "wind_speed_last", "wind_dir_last",
             "wind_speed_hi_last_10_min", "rain_size", "rain_rate_last", "rainfall_year")}  # fmt: skip
    mean = Decoded("weatherlink_live", broadcast(quick)).only
    assert set(mean.values) == {"wind_gust", "rain_rate"} and mean.totals == {"rain": pytest.approx(120.0)}
    last = Decoded("weatherlink_live", broadcast(quick), wind="last").only
    assert last.values["wind_speed"] == pytest.approx(0.89408) and last.values["wind_direction"] == 200.0


def test_soil_temperature_comes_from_its_own_transmitter():
    soil = {"data_structure_type": 2, "txid": 3, "temp_1": 41.0, "temp_2": None, "moist_soil_1": 12}
    assert Decoded("weatherlink_live", answer(soil, BAROMETER)).only.values["soil_temperature"] == pytest.approx(5.0)


def test_a_device_whose_clock_is_not_set_is_stamped_on_arrival():
    decoded = Decoded("weatherlink_live", answer(ISS, ts=12))
    assert decoded.only.t is None and decoded.counted == {"clock-unset": 1}


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (b"<html>", "not-json"),
        (b"3", "not-object"),
        (b'{"data": null, "error": {"code": 409, "message": "x"}}', "device-error"),
        (b'{"data": {"broadcast_port": 22222, "duration": 3600}, "error": null}', "bad-shape"),
        (b'{"data": [], "error": null}', "bad-shape"),
        (answer(*([ISS] * 65)), "bad-shape"),
        (answer(), "no-usable-value"),
        (answer(7, None, {}), "no-usable-value"),
        (answer(ROOM), "no-usable-value"),
    ],
)
def test_what_is_no_message_is_refused_by_name(payload, reason):
    with pytest.raises(BadMessage) as refused:
        Decoded("weatherlink_live", payload)
    assert refused.value.reason == reason


def test_the_recorded_device():
    path = recording("davis-weatherlink-live/current_conditions_1634925911.json")
    decoded = Decoded("weatherlink_live", path.read_bytes())
    reading = decoded.only
    assert not decoded.counted and reading.t == 1_634_925_911 and reading.device == "tx5"
    assert reading.values["pressure"] == pytest.approx(1007.62, abs=0.005)
    assert reading.values["temperature"] == pytest.approx(14.39, abs=0.005)
    assert reading.totals == {"rain": pytest.approx(986 * 0.254)}


@pytest.mark.parametrize("options", [{"poll_s": 5}, {"poll_s": 1e9}, {"broadcast_s": -1}])
def test_intervals_that_the_device_cannot_bear_are_refused(options):
    with pytest.raises(ConfigError, match="must lie within"):
        LivePoll(sensor("weatherlink_live", host="192.0.2.1", options=options))


CELL = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.just([])
RECORD = st.dictionaries(st.sampled_from(sorted({*ISS, *BAROMETER, "temp_1"})), CELL, max_size=10)
KIND = st.sampled_from([1, 2, 3, 4, 5])
WHOLE = answer(ISS, ROOM, BAROMETER)


@settings(max_examples=400)
@given(
    payload=st.binary(max_size=120)
    | st.builds(
        lambda records, kinds, ts: answer(
            *(r | {"data_structure_type": k} for r, k in zip(records, kinds, strict=False)), ts=ts
        ),
        st.lists(RECORD, max_size=4),
        st.lists(KIND, max_size=4),
        CELL,
    )
    | st.tuples(st.integers(0, len(WHOLE) - 1), st.binary(max_size=4)).map(
        lambda cut: WHOLE[: cut[0]] + cut[1] + WHOLE[cut[0] + len(cut[1]) :]
    )
)
def test_nothing_but_a_refusal_comes_of_noise(payload):
    try:
        readings = DRIVERS["weatherlink_live"].decoder(sensor("weatherlink_live")).decode(payload, lambda reason: None)
    except BadMessage:
        return
    for reading in readings:
        assert all(name in VARIABLES and abs(value) < float("inf") for name, value in reading.values.items())
        assert all(abs(total) < float("inf") for total in reading.totals.values())
