"""What sources answer: recorded and invented answers, errors of every kind, and answers that are none."""

from __future__ import annotations

import json
import os
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_agent.clock import parse_time
from edge_agent.config import Station
from edge_agent.errors import DataError
from edge_agent.grid import humidity_from_dew_point
from edge_agent.guidance import Run, beyond_limits
from edge_agent.guidance.place import at_height, dew_point
from edge_agent.guidance.sources import Source
from edge_agent.guidance.sources.background import Background
from edge_agent.guidance.sources.open_meteo import OpenMeteo
from edge_agent.guidance.sources.openweathermap import OpenWeatherMap
from edge_agent.variables import VARIABLES

CORPUS = Path(os.environ.get("STATIONCAST_CORPUS", Path(__file__).parents[3] / "shared" / "data"))
RECORDED = pytest.mark.skipif(not (CORPUS / "api-open-meteo").is_dir(), reason="STATIONCAST_CORPUS has no answers")
NOW = 1_800_000_000
SOURCES: list[Source] = [OpenMeteo(), OpenWeatherMap("key"), Background("https://weather.example")]
STATION = Station(id="roof", latitude=47.4, longitude=8.5, elevation_m=500.0)


def answer(folder: str, name: str) -> bytes:
    return (CORPUS / folder / f"{name}.json").read_bytes()


def open_meteo(**hourly: object) -> bytes:
    units = {"time": "unixtime", "temperature_2m": "°C", "dew_point_2m": "°C", "relative_humidity_2m": "%"}
    told = {"latitude": 47.4, "longitude": 8.5, "elevation": 600.0, "utc_offset_seconds": 0}
    return json.dumps({**told, "hourly_units": units, "hourly": {"time": [NOW, NOW + 3600], **hourly}}).encode()


@RECORDED
@pytest.mark.parametrize(
    ("name", "steps", "first", "elevation"),
    [
        ("forecast_7d_current_hourly_daily", 168, "2025-10-25T00:00:00Z", 19.0),
        ("forecast_14d_newyork", 336, "2025-12-28T00:00:00Z", 93.0),
        ("forecast_8d_toronto", 192, "2026-03-04T05:00:00Z", 165.0),
        ("forecast_3d_hourly", 72, "2026-07-15T14:30:00Z", 12.0),
    ],
)
def test_recorded_open_meteo_answers_are_read_in_our_units_and_in_utc(name, steps, first, elevation):
    found = OpenMeteo().parse(answer("api-open-meteo", name), NOW)
    assert len(found.run.valid) == steps
    assert found.run.valid[0] == parse_time(first)
    assert found.elevation_m == elevation
    assert found.run.issued == NOW
    assert "Open-Meteo" in found.licence
    told = json.loads(answer("api-open-meteo", name))
    said = float(told["hourly"]["temperature_2m"][0])
    expected = (said - 32) / 1.8 if told["hourly_units"]["temperature_2m"] == "°F" else said
    assert found.run.values["temperature"][0] == pytest.approx(expected)
    for variable, values in found.run.values.items():
        low, high = VARIABLES[variable].fail
        assert np.nanmin(values) >= low and np.nanmax(values) <= high


def with_quarters(**more: object) -> bytes:
    """Two hours, and the recorded steps of 15 minutes, of the same place."""
    told = json.loads(answer("api-open-meteo", "forecast_minutely15_unixtime"))
    hours = json.loads(open_meteo(temperature_2m=[10.0, 11.0]))
    return json.dumps({**told, "hourly": hours["hourly"], "hourly_units": hours["hourly_units"], **more}).encode()


def test_hours_are_asked_for_with_six_hours_of_quarters():
    asked = parse_qs(urlsplit(OpenMeteo().url(STATION)).query)
    hours, quarters = (asked[block][0].split(",") for block in ("hourly", "minutely_15"))
    assert "temperature_2m" in hours and "temperature_2m" in quarters
    assert "precipitation" in hours and "precipitation" not in quarters
    assert asked["forecast_minutely_15"] == ["24"]


@RECORDED
def test_quarter_hours_are_marked_native_only_where_a_model_has_them():
    found = OpenMeteo().parse(with_quarters(), NOW)
    assert found.quarters is not None and found.quarters.native
    assert set(np.diff(found.quarters.run.valid)) == {900}
    assert len(found.run.valid) == 2
    moved = OpenMeteo().parse(with_quarters(latitude=-30.0), NOW)
    assert moved.quarters is not None and not moved.quarters.native


@RECORDED
@pytest.mark.parametrize("block", [None, {}, {"time": [NOW]}, {"time": "now"}])
def test_hours_do_without_quarters_that_cannot_be_read(block):
    found = OpenMeteo().parse(with_quarters(minutely_15=block), NOW)
    assert found.quarters is None
    np.testing.assert_allclose(found.run.values["temperature"], [10.0, 11.0])


@RECORDED
@pytest.mark.parametrize("name", ["forecast25_5d3h_a", "forecast25_5d3h_c", "onecall_b", "onecall_with_alerts"])
def test_recorded_openweathermap_answers_are_read(name):
    found = OpenWeatherMap("key").parse(answer("api-openweathermap", name), NOW)
    step = 3600 if name.startswith("onecall") else 3 * 3600
    assert set(np.diff(found.run.valid)) == {step}
    assert {"temperature", "humidity", "wind_speed", "rain"} <= found.run.values.keys()
    assert np.isnan(found.elevation_m)
    assert "OpenWeather" in found.licence


@RECORDED
@pytest.mark.parametrize(
    ("source", "path"),
    [(OpenMeteo(), p) for p in sorted((CORPUS / "api-open-meteo").glob("error_*"))]
    + [(OpenWeatherMap("key"), p) for p in sorted((CORPUS / "api-openweathermap").glob("error_*"))],
    ids=lambda x: x.stem if isinstance(x, Path) else "",
)
def test_an_error_that_comes_as_an_answer_is_told_in_its_own_words(source, path):
    told = json.loads(path.read_text(encoding="utf-8"))
    with pytest.raises(DataError, match=r".") as refused:
        source.parse(path.read_bytes(), NOW)
    assert str(told.get("reason") or told.get("message"))[:60] in str(refused.value)


def test_the_station_s_own_height_is_asked_for_and_only_the_difference_corrected():
    assert "elevation=500.0" in OpenMeteo().url(STATION)
    told = OpenMeteo().parse(open_meteo(temperature_2m=[10.0, 11.0]), NOW)
    np.testing.assert_allclose(told.at(STATION).values["temperature"], [10.65, 11.65])
    same = Station(id="roof", latitude=47.4, longitude=8.5, elevation_m=600.0)
    np.testing.assert_allclose(told.at(same).values["temperature"], [10.0, 11.0])


@given(st.floats(-40, 45), st.floats(1, 100), st.floats(-400, 4000), st.floats(-400, 4000), st.floats(500, 1050))
def test_moved_guidance_stays_physical(temperature, humidity, there, here, pressure):
    before = {
        "temperature": np.array([temperature]), "humidity": np.array([humidity]), "pressure": np.array([pressure]),
        "dew_point": dew_point(np.array([temperature]), np.array([humidity])),
    }  # fmt: skip
    moved = at_height(before, there, here)
    assert (moved["dew_point"] <= moved["temperature"]).all()
    assert 0.0 <= moved["humidity"][0] <= 100.0
    assert (moved["pressure"] - pressure) * (there - here) >= 0.0  # lower down there is more of it
    if there != here:
        expected = humidity_from_dew_point(moved["temperature"], moved["dew_point"])
        np.testing.assert_allclose(moved["humidity"], expected, rtol=1e-6)
    np.testing.assert_allclose(before["temperature"], temperature)  # the answer is left as it was


def test_what_is_impossible_at_the_station_s_height_is_missing():
    told = background(elevation=9000.0, variables={"temperature": {"unit": "degC", "values": [60.0, 1.0]}})
    moved = Background("https://weather.example").parse(told, NOW).at(STATION)
    np.testing.assert_allclose(moved.values["temperature"], [np.nan, 1.0 + 0.0065 * 8500.0])


def test_pressure_moves_as_the_standard_atmosphere_does():
    """1013.25 hPa and 15 degC at the sea are 954.61 hPa at 500 m."""
    moved = at_height({"temperature": np.array([15.0]), "pressure": np.array([1013.25])}, 0.0, 500.0)
    assert moved["pressure"][0] == pytest.approx(954.61, abs=0.02)


def background(**more: object) -> bytes:
    told = {
        "model": "gfs", "run": "2027-01-15T00:00:00Z", "issued": "2027-01-15T05:00:00Z", "latitude": 47.5,
        "longitude": 8.5, "elevation": 450.0, "valid_time": ["2027-01-15T09:00:00Z", "2027-01-15T10:00:00Z"],
        "variables": {
            "temperature": {"unit": "K", "values": [280.15, None]},
            "temperature__spread": {"unit": "K", "values": [1.5, 2.0]},
            "cloud_cover": {"unit": "%", "values": [1, 2]},
        },
    }  # fmt: skip
    return json.dumps(told | more).encode()


def test_a_background_knows_when_its_run_could_first_be_used():
    found = Background("https://weather.example/").parse(background(), NOW)
    assert found.run.issued == parse_time("2027-01-15T05:00:00Z")
    np.testing.assert_allclose(found.run.values["temperature"], [7.0, np.nan])
    np.testing.assert_allclose(found.run.values["temperature__spread"], [1.5, 2.0])  # a spread is no temperature
    assert "cloud_cover" not in found.run.values


@pytest.mark.parametrize(
    "wrong",
    [
        {"issued": "2200-01-01T00:00:00Z"},
        {"issued": "yesterday"},
        {"valid_time": ["2027-01-15T10:00:00Z", "2027-01-15T09:00:00Z"]},
        {"valid_time": []},
        {"variables": {"temperature": {"unit": "K", "values": [280.0]}}},
        {"variables": {"temperature": {"unit": "furlong", "values": [280.0, 281.0]}}},
        {"variables": {}},
        {"variables": {"temperature": {"unit": "degC", "values": [1e9, 1e9]}}},
        {"elevation": 1e300},
        {"elevation": -9999.0},
        {"elevation": 9001.0},
    ],
)
def test_a_background_that_contradicts_itself_is_refused(wrong):
    with pytest.raises(DataError):
        Background("https://weather.example").parse(background(**wrong), NOW)


@settings(max_examples=300)
@given(st.sampled_from(SOURCES), st.binary(max_size=300))
def test_bytes_that_are_no_answer_are_refused(source, data):
    with pytest.raises(DataError):
        source.parse(data, NOW)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


@settings(max_examples=300)
@given(st.data())
def test_an_answer_with_anything_in_any_place_is_read_or_refused(data):
    """Nothing but DataError comes out, and what is read is within what the variable can be."""
    source, whole = data.draw(
        st.sampled_from(
            [(SOURCES[0], json.loads(open_meteo(temperature_2m=[1, 2]))), (SOURCES[2], json.loads(background()))]
        )
    )
    part = whole
    for _ in range(data.draw(st.integers(1, 3))):
        key = data.draw(st.sampled_from(sorted(part)))
        if not isinstance(part[key], dict) or not part[key]:
            break
        part = part[key]
        key = data.draw(st.sampled_from(sorted(part)))
    part[key] = data.draw(json_values)
    try:
        found = source.parse(json.dumps(whole).encode(), NOW)
    except DataError:
        return
    assert isinstance(found.run, Run)
    for values_of in (found.run.values, found.at(STATION).values):
        for name, values in values_of.items():
            assert len(values) == len(found.run.valid)
            assert not beyond_limits(name, values).any()
