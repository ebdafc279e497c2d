"""What receivers may rely on in every payload."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field, replace

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.errors import DataError
from edge_agent.forecast import LEADS_S, QUANTILES, Forecast, Level, VariableForecast
from edge_agent.observation import Flag, Judged, Observation, Verdict
from edge_agent.publish.numbers import rounded
from edge_agent.publish.payloads import (
    Latest,
    forecast_payload,
    info_payload,
    observation_payload,
    status_payload,
    to_json,
    verify_payload,
)
from edge_agent.publish.schemas import validate
from edge_agent.variables import VARIABLES, Kind
from edge_agent.verification import ScoreRow
from tests.publish.samples import ORIGIN, STATION, forecast, judged

ANY = st.floats(allow_nan=True, allow_infinity=True)
NAMES = st.sampled_from(sorted(VARIABLES))


def no_constant(text: str) -> float:
    raise AssertionError(f"{text} is not JSON")


def strict(data: bytes) -> dict:
    """Parsed by another parser, which would take NaN unless told not to."""
    return json.loads(data, parse_constant=no_constant)


@st.composite
def judgements(draw: st.DrawFn) -> Judged:
    values = draw(st.dictionaries(NAMES, ANY, min_size=1))
    flags = draw(st.dictionaries(st.sampled_from(sorted(values)), st.sampled_from(Flag)))
    observation = Observation("roof", "mast", ORIGIN, values, "b00t", draw(st.integers(0, 10**9)))
    return Judged(observation, {k: Verdict(f, "range", "out of range" * 100) for k, f in flags.items()})


@st.composite
def forecasts(draw: st.DrawFn) -> Forecast:
    variables = {}
    steps = draw(st.integers(1, 30))
    levels = tuple(sorted(draw(st.sets(st.sampled_from(QUANTILES), min_size=1))))
    for name in draw(st.sets(NAMES, max_size=4)):
        mean = np.array(draw(st.lists(ANY, min_size=steps, max_size=steps)))
        widths = np.array(draw(st.lists(st.floats(0, 1e6), min_size=len(levels), max_size=len(levels))))
        quantiles = np.where(np.isfinite(mean), mean, 0.0)[None] + np.sort(widths)[:, None]
        level = draw(st.sampled_from([Level.NOWCAST_ONLY, Level.PERSISTENCE]))
        none = draw(st.booleans())
        variables[name] = VariableForecast(
            name, Level.NONE if none else level, None if none else mean, None if none else quantiles, 7, "why"
        )
    events = {"rain": np.array(draw(st.lists(ANY, min_size=steps, max_size=steps)))}
    leads = tuple(900 * (i + 1) for i in range(steps))
    return Forecast(
        "roof", ORIGIN, ORIGIN + 5, leads, levels, Level.NOWCAST_ONLY, "bundle", "wx-1", variables, events, "why"
    )


@given(judgements(), st.booleans())
def test_an_observation_is_always_json_that_keeps_to_its_schema(item, historical):
    data = to_json(observation_payload(item, historical))
    strict(data)
    payload = validate("obs/history" if historical else "obs", data)
    assert payload.v.keys() | payload.qc.keys() == item.observation.values.keys()


@given(judgements())
def test_values_are_as_measured_and_missing_ones_are_only_in_qc(item):
    payload = observation_payload(item, False)
    for name, raw in item.observation.values.items():
        if math.isfinite(raw):
            assert payload.v[name] == pytest.approx(raw, abs=0.500001 * 10.0 ** -VARIABLES[name].decimals, rel=1e-12)
        else:
            assert name not in payload.v
            assert payload.qc[name].flag == Flag.MISSING


@given(forecasts())
def test_a_forecast_is_always_json_that_keeps_to_its_schema(item):
    data = to_json(forecast_payload(item, 3600))
    strict(data)
    validate("forecast/nowcast", data)


@given(st.lists(st.floats(-1080, 1080), min_size=1, max_size=10))
def test_directions_are_on_the_circle_and_point_where_they_did(directions):
    values = np.array(directions)
    steps = tuple(900 * (i + 1) for i in range(len(values)))
    series = VariableForecast("wind_direction", Level.NOWCAST_ONLY, values, values[None] + 0.0, 0)
    item = replace(forecast(), leads_s=steps, levels_q=(0.5,), variables={"wind_direction": series}, events={})
    published = forecast_payload(item, 60).vars["wind_direction"]
    for before, after, quantile in zip(directions, published.mean, published.q, strict=True):
        assert 0 <= after < 360 and quantile == [after]
        assert abs((before - after + 180) % 360 - 180) <= 0.5 + 1e-9


@given(ANY, st.integers(0, 4))
def test_rounding_never_gives_minus_zero_or_more_digits(value, decimals):
    short = rounded(value, decimals)
    if not math.isfinite(value):
        assert short is None
    else:
        assert math.copysign(1, short) == 1 or short < 0
        assert round(short, decimals) == short


def test_a_variable_without_a_forecast_is_null_with_its_reason():
    payload = forecast_payload(forecast(rain="no reading for 60 min"), 3600)
    rain = strict(to_json(payload))["vars"]["rain"]
    assert rain == {
        "unit": "mm",
        "level": "none",
        "mean": None,
        "q": None,
        "age_s": None,
        "why": "no reading for 60 min",
    }


def test_a_forecast_reads_as_the_design_says():
    payload = strict(to_json(forecast_payload(forecast(), 3600)))
    assert payload["issued"] == "2024-05-01T12:00:05Z"
    assert payload["start"] == "2024-05-01T12:15:00Z"
    assert payload["expires"] == "2024-05-01T13:00:05Z"
    assert (payload["step_s"], payload["level"], payload["source"]) == (900, "nowcast-only", "wx-test-1")
    assert payload["quantiles"] == list(QUANTILES)
    temperature = payload["vars"]["temperature"]
    assert temperature["unit"] == "degC" and len(temperature["mean"]) == len(LEADS_S)
    assert [len(step) for step in temperature["q"]] == [len(QUANTILES)] * len(LEADS_S)
    assert payload["events"]["rain"]["p"][0] == 0 and payload["events"]["rain"]["p"][-1] == 1
    assert "why" not in payload


def test_its_age_is_that_of_the_oldest_reading_used():
    item = forecast(rain="never read")
    variables = dict(item.variables)
    variables["humidity"] = replace(variables["humidity"], age_s=900)
    assert forecast_payload(replace(item, variables=variables), 60).age_s == 900


def test_leads_that_are_not_equally_spaced_are_an_error_not_a_wrong_time():
    with pytest.raises(DataError, match="not multiples"):
        forecast_payload(replace(forecast(), leads_s=(900, 2700)), 3600)


@given(st.permutations(range(4)))
def test_the_last_values_of_all_sources_come_together_each_with_its_time(order):
    parts = [
        judged(1, t=ORIGIN - 60, temperature=11.0, humidity=70.0),
        judged(2, t=ORIGIN, temperature=12.0),
        judged(3, t=ORIGIN + 30, source="gauge", rain=0.2),
        judged(4, t=ORIGIN - 4000, source="cellar", pressure=960.0),
    ]
    latest = Latest()
    assert latest.payload() is None
    for i in order:
        latest.add(parts[i].observation.t, observation_payload(parts[i], historical=False))
    payload = validate("obs/last", to_json(latest.payload()))
    assert payload.v == {"temperature": 12.0, "humidity": 70.0, "rain": 0.2}
    assert payload.at["temperature"] == "2024-05-01T12:00:00Z" and payload.at["rain"] == payload.t
    assert (payload.id, payload.src) == (parts[2].observation.id, "gauge")


@dataclass
class SensorSays:
    name: str = "mast"
    driver: str = "json_lines"
    state: str = "reading"
    detail: str = "x" * 5000
    accepted: int = 3
    rejected: dict = field(default_factory=lambda: {"truncated": 2})
    last_t: float | None = ORIGIN + 0.7
    reopened: int = 0
    battery: dict = field(default_factory=lambda: {"outdoor": "low", "console": 4.5217})
    counters: dict = field(default_factory=lambda: {"rain": 312.4})
    stuck: int = 0


@dataclass
class Books:
    accepted: int = 10
    acknowledged: int = 4
    queued: int = 5
    dropped: dict = field(default_factory=lambda: {"outbox-full": 1})


@dataclass
class BrokerSays:
    protocol: str = "5"
    detail: str = ""
    published: int = 9
    in_flight: int = 1
    reconnects: int = 0
    refused: dict = field(default_factory=dict)


def test_status_tells_of_sensors_clock_outbox_forecast_store_and_flags():
    payload = status_payload(
        ORIGIN,
        uptime_s=61.9,
        clock="unsynced",
        sensors=[SensorSays()],
        outbox={"mqtt": Books()},
        forecast=forecast(),
        flags={Flag.GOOD: 7, Flag.FAIL: 1},
        broker=BrokerSays(),
        rss_mb=81.234,
        store_mb=12.0,
    )
    status = strict(to_json(validate("status", to_json(payload))))
    assert status["sensors"]["mast"]["rejected"] == {"truncated": 2}
    assert status["sensors"]["mast"]["battery"] == {"outdoor": "low", "console": 4.52}
    assert status["sensors"]["mast"]["counters"] == {"rain": 312.4}
    assert status["outbox"]["mqtt"] == {"accepted": 10, "acknowledged": 4, "queued": 5, "dropped": {"outbox-full": 1}}
    assert status["flags"] == {"good": 7, "not_evaluated": 0, "suspect": 0, "fail": 1, "missing": 0}
    assert status["forecast"]["level"] == "nowcast-only" and status["forecast"]["origin"] == "2024-05-01T12:00:00Z"
    assert (status["clock"], status["uptime_s"], status["rss_mb"]) == ("unsynced", 61, 81.2)


def test_books_that_do_not_balance_are_noticed():
    payload = status_payload(
        ORIGIN, uptime_s=0, clock="synced", sensors=[], outbox={"mqtt": Books(queued=6)}, forecast=None, flags={}
    )
    with pytest.raises(DataError, match=r"outbox\.mqtt"):
        validate("status", to_json(payload))


def test_info_does_not_tell_where_exactly_a_station_stands():
    payload = info_payload(STATION, ["temperature", "rain"], "wx-mid-40", "a" * 64)
    text = to_json(payload).decode()
    assert validate("info", text.encode()).wire == "wx/v1"
    assert (payload.site.latitude, payload.site.longitude, payload.site.elevation_m) == (47.38, 8.54, 408)
    assert "47.376" not in text and "8.541" not in text
    assert payload.variables == {"temperature": "degC", "rain": "mm"}


@pytest.mark.parametrize(
    ("publish", "site"),
    [
        ("rounded", {"latitude": 47.38, "longitude": 8.54, "elevation_m": 408}),
        ("exact", {"latitude": 47.37689, "longitude": 8.54169, "elevation_m": 408.4}),
        ("none", {"latitude": None, "longitude": None, "elevation_m": None}),
    ],
)
def test_the_operator_says_how_much_of_the_place_is_told(publish, site):
    station = msgspec.structs.replace(STATION, publish_position=publish)
    payload = to_json(info_payload(station, ["temperature"], None))
    validate("info", payload)
    assert msgspec.json.decode(payload)["site"] == site | {"timezone": "Europe/Zurich"}


def test_scores_of_a_day_come_by_source_variable_and_lead():
    rows = [
        ScoreRow("roof", "2024-05-01", "bundle", "temperature", 900, 4, 2.0, 3.0, 4.0, 1.0, 3),
        ScoreRow("roof", "2024-05-01", "bundle", "temperature", 1800, 0, 0.0, 0.0, 0.0, 0.0, 0),
        ScoreRow("roof", "2024-05-01", "persistence", "event:rain", 900, 4, 0.4, 0.8, 0.3, 0.3, 0),
    ]
    payload = validate("verify/daily", to_json(verify_payload("2024-05-01", rows)))
    assert payload.leads_s == [900, 1800]
    mine = payload.scores["bundle"]["temperature"]
    assert (mine.n, mine.bias, mine.mae, mine.rmse, mine.crps) == (
        [4, 0],
        [0.5, None],
        [0.75, None],
        [1, None],
        [0.25, None],
    )
    assert mine.coverage80 == [0.75, None] and mine.unit == "degC"
    assert payload.scores["persistence"]["event:rain"].n == [4, 0]


def test_every_variable_has_a_kind_the_publisher_knows_how_to_write():
    assert {v.kind for v in VARIABLES.values()} == set(Kind)
