"""What a WeatherFlow hub broadcasts, heard once or twice, whole or not."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_agent.errors import BadMessage
from edge_agent.sensors import DRIVERS
from edge_agent.variables import VARIABLES
from tests.sensors.recordings import Decoded, recording, sensor

T = 1_588_948_614
# WeatherFlow's own examples
OBS_ST = [T, 0.18, 0.22, 0.27, 144, 6, 1017.57, 22.37, 50.26, 328, 0.03, 3, 0.2, 0, 0, 0, 2.410, 1]
OBS_AIR = [1_493_164_835, 835.0, 10.0, 45, 0, 0, 3.46, 1]
OBS_SKY = [1_493_321_340, 9000, 10, 0.4, 2.6, 4.6, 7.4, 187, 3.12, 1, 130, None, 0, 3]


def said(kind: str, serial: str = "ST-00000512", **more: Any) -> bytes:
    return json.dumps({"serial_number": serial, "type": kind, "hub_sn": "HB-00013030", **more}).encode()


def test_a_tempest_observation_holds_the_stations_pressure_and_the_minutes_rain():
    reading = Decoded("tempest", said("obs_st", obs=[OBS_ST])).only
    assert reading.values == {
        "wind_speed": 0.22, "wind_gust": 0.27, "wind_direction": 144.0, "pressure": 1017.57, "temperature": 22.37,
        "humidity": 50.26, "uv_index": 0.03, "solar_radiation": 3.0, "rain": 0.2,
    }  # fmt: skip
    assert (reading.t, reading.period_s, reading.device) == (T, 60, "ST-00000512")
    assert reading.battery == {"battery": 2.41} and not reading.totals


def test_air_and_sky_are_two_devices():
    air, sky = Decoded(
        "tempest", said("obs_air", "AR-00004049", obs=[OBS_AIR]), said("obs_sky", "SK-00008453", obs=[OBS_SKY])
    ).readings
    assert air.values == {"pressure": 835.0, "temperature": 10.0, "humidity": 45.0}
    assert sky.values == {
        "uv_index": 10.0, "rain": 0.4, "wind_speed": 4.6, "wind_gust": 7.4, "wind_direction": 187.0,
        "solar_radiation": 130.0,
    }  # fmt: skip
    assert (air.device, sky.device) == ("AR-00004049", "SK-00008453")
    assert (air.battery, sky.battery) == ({"battery": 3.46}, {"battery": 3.12})


RAPID = said("rapid_wind", ob=[T, 2.3, 128])


def test_rapid_wind_is_a_gust_or_the_wind_or_nothing():
    assert Decoded("tempest", RAPID).only.values == {"wind_gust": 2.3}
    assert Decoded("tempest", RAPID).only.period_s == 3
    wind = Decoded("tempest", RAPID, rapid_wind="wind")
    assert wind.only.values == {"wind_speed": 2.3, "wind_direction": 128.0}
    assert Decoded("tempest", RAPID, rapid_wind="off").readings == []


def test_a_devices_status_is_its_battery():
    (reading,) = Decoded("tempest", said("device_status", voltage=2.664, timestamp=T)).readings
    assert reading.values == {} and reading.battery == {"battery": 2.664}


@pytest.mark.parametrize("kind", ["evt_precip", "evt_strike", "hub_status"])
def test_events_and_the_hubs_own_state_are_no_readings(kind):
    assert Decoded("tempest", said(kind, evt=[T, 27, 3848])).readings == []


def test_what_is_heard_twice_is_counted_once():
    decoder = DRIVERS["tempest"].decoder(sensor("tempest"))
    first = said("obs_st", obs=[OBS_ST])
    assert decoder.decode(first)
    with pytest.raises(BadMessage, match="duplicate"):
        decoder.decode(first)
    assert decoder.decode(RAPID)  # of the same second, and another kind
    assert decoder.decode(said("obs_st", "ST-00000513", obs=[OBS_ST]))  # another device
    assert decoder.decode(said("obs_st", obs=[[T + 60, *OBS_ST[1:]]]))


def test_several_observations_in_one_message_are_several_readings():
    decoded = Decoded("tempest", said("obs_st", obs=[OBS_ST, [T + 60, *OBS_ST[1:]], OBS_ST, [T + 60, *OBS_ST[1:]]]))
    assert [r.t for r in decoded.readings] == [T, T + 60] and decoded.counted == {"duplicate": 2}


def test_no_more_devices_are_remembered_than_a_network_has():
    decoder = DRIVERS["tempest"].decoder(sensor("tempest"))
    for i in range(1000):
        decoder.decode(said("rapid_wind", f"ST-{i:08}", ob=[T, 1, 2]))
    assert len(decoder._heard) == 64


def test_a_neighbours_device_can_be_left_out():
    assert Decoded("tempest", RAPID, serial="st-00000512, AR-1").only
    with pytest.raises(BadMessage, match="other-device"):
        Decoded("tempest", RAPID, serial="ST-99999999")


def test_nulls_are_counted_and_short_lists_are_older_firmware():
    decoded = Decoded("tempest", said("obs_st", obs=[[T, None, None, None, None, 6, 1000.0, 20.0]]))
    assert decoded.only.values == {"pressure": 1000.0, "temperature": 20.0} and decoded.counted == {"null": 3}
    assert decoded.only.battery == {} and decoded.only.period_s is None


def test_a_hub_without_a_clock_is_stamped_on_arrival():
    decoded = Decoded("tempest", said("rapid_wind", ob=[17, 1.0, 2]))
    assert decoded.only.t is None and decoded.counted == {"clock-unset": 1}


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (b"{", "not-json"),
        (b"[]", "not-object"),
        (b"{}", "bad-shape"),
        (said("obs_st"), "bad-shape"),
        (said("obs_st", obs=[]), "bad-shape"),
        (said("obs_st", obs=[7]), "bad-shape"),
        (said("rapid_wind", ob="x"), "bad-shape"),
        (said("rapid_wind", serial="x" * 33, ob=[T, 1, 2]), "bad-shape"),
        (said("obs_moon", obs=[OBS_ST]), "unknown-type"),
        (said("rapid_wind", ob=[T, None, "x"]), "no-usable-value"),
    ],
)
def test_what_is_no_message_is_refused_by_name(payload, reason):
    with pytest.raises(BadMessage) as refused:
        Decoded("tempest", payload)
    assert refused.value.reason == reason


def test_the_recorded_hub_is_read_without_a_complaint():
    lines = recording("tempest-udp/capture_excerpt_1770728081.tsv").read_bytes().splitlines()
    decoded = Decoded("tempest", *(line.split(b"\t", 1)[1] for line in lines))
    assert not decoded.counted and len(lines) == 24
    measured = [reading for reading in decoded.readings if reading.values]
    assert len(measured) == 20  # two are a device's status, two the hub's
    (whole,) = [reading for reading in measured if "pressure" in reading.values]
    assert (whole.values["temperature"], whole.values["pressure"], whole.t) == (-6.7, 1000.55, 1_770_728_161)


CELL = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.just([])
KINDS = st.sampled_from(["obs_st", "obs_air", "obs_sky", "rapid_wind", "device_status", "evt_precip", "x"])
WHOLE = said("obs_st", obs=[OBS_ST])


@settings(max_examples=400)
@given(
    payload=st.binary(max_size=120)
    | st.builds(
        lambda kind, row, volts: said(kind, obs=row, ob=row, voltage=volts),
        KINDS,
        st.lists(CELL, max_size=20) | st.lists(st.lists(CELL, max_size=20), max_size=3) | CELL,
        CELL,
    )
    | st.tuples(st.integers(0, len(WHOLE) - 1), st.binary(max_size=4)).map(
        lambda cut: WHOLE[: cut[0]] + cut[1] + WHOLE[cut[0] + len(cut[1]) :]
    )
)
def test_nothing_but_a_refusal_comes_of_noise(payload):
    try:
        readings = DRIVERS["tempest"].decoder(sensor("tempest")).decode(payload, lambda reason: None)
    except BadMessage:
        return
    for reading in readings:
        assert all(name in VARIABLES and abs(value) < float("inf") for name, value in reading.values.items())
