"""Stations near each other are forecast together, whatever the order, the chunk and the other stations."""

from __future__ import annotations

import math
import threading
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_agent.bundle.reader import read_bundle
from edge_agent.clock import ManualClock
from edge_agent.config import Station, load
from edge_agent.forecast.groups import MOST, REACH_KM, groups, whole
from edge_agent.forecast.nowcast import Nowcaster
from edge_agent.forecasting import CHUNK, Forecasting
from edge_agent.inference.onnx import OnnxSession
from edge_agent.observation import Judged, Observation
from edge_agent.quality.spatial import distance_km
from edge_agent.store import Keeper
from tests.agents import write_config
from tests.forecast.series import START, windows
from tests.tiny_bundle import make_tiny_bundle

ORIGIN = START + 30 * 86_400


def at(*places: tuple[float, float]) -> list[Station]:
    return [Station(f"s{i:03d}", north, east, 100.0) for i, (north, east) in enumerate(places)]


def scattered(seed: int, n: int, spread: float, north: float = 47.0, east: float = 8.0) -> list[Station]:
    rng = np.random.default_rng(seed)
    return at(*(np.array([north, east]) + spread * rng.uniform(-1, 1, (n, 2))).tolist())


def members(stations: list[Station]) -> set[frozenset[str]]:
    found = groups(stations)
    return {
        frozenset(station.id for station, g in zip(stations, found, strict=True) if g == number)
        for number in set(found.tolist())
    }


# --- who is of one group --------------------------------------------------------------------------


@settings(max_examples=40, deadline=None)
@given(
    n=st.integers(0, 90), spread=st.sampled_from([0.0, 0.1, 1.0, 5.0]), north=st.sampled_from([-80.0, 0.0, 47.0]),
    east=st.sampled_from([8.0, 180.0]), seed=st.integers(0, 99), order=st.randoms(use_true_random=False),
)  # fmt: skip
def test_groups_are_of_the_places_and_not_of_their_order(n, spread, north, east, seed, order):
    stations = scattered(seed, n, spread, north, east)
    ours = members(stations)
    assert all(len(group) <= MOST for group in ours)
    order.shuffle(stations)
    assert members(stations) == ours


@settings(max_examples=20, deadline=None)
@given(n=st.integers(2, MOST), spread=st.sampled_from([0.3, 1.0, 3.0]), seed=st.integers(0, 99))
def test_all_within_reach_are_seen_and_nobody_beyond_who_is_not_joined_by_others(n, spread, seed):
    stations = scattered(seed, n, spread)
    found = groups(stations)
    km = [[distance_km((a.latitude, a.longitude), (b.latitude, b.longitude)) for b in stations] for a in stations]
    joined = np.array(km) <= REACH_KM
    for _ in range(n.bit_length()):
        joined = (joined.astype(int) @ joined) > 0
    np.testing.assert_array_equal(found[:, None] == found, joined)


def test_the_date_line_and_the_pole_part_nobody():
    assert len(members(at((-17.0, 179.9), (-17.0, -179.9)))) == 1
    assert len(members(at((89.9, 0.0), (89.9, 180.0)))) == 1


def test_a_station_whose_place_is_not_known_is_by_itself():
    assert members(at((47.0, 8.0), (math.nan, 8.0), (math.nan, math.nan), (47.0, 8.1))) == {
        frozenset({"s000", "s003"}), frozenset({"s001"}), frozenset({"s002"}),
    }  # fmt: skip


def test_a_crowd_is_cut_across_its_width():
    line = at(*((47.0, 8.0 + i / 50) for i in range(2 * MOST)))
    assert members(line) == {frozenset(s.id for s in line[:MOST]), frozenset(s.id for s in line[MOST:])}


@given(sizes=st.lists(st.integers(1, 40), max_size=12), most=st.integers(1, 64))
def test_slices_hold_every_row_once_and_cut_no_group(sizes, most):
    group = np.repeat(np.arange(len(sizes))[::-1], sizes)
    parts = list(whole(group, most))
    assert [row for part in parts for row in range(part.start, part.stop)] == list(range(len(group)))
    own = [set(group[part].tolist()) for part in parts]
    assert sum(map(len, own)) == len(sizes)
    assert all(len(group[p]) <= most or len(numbers) == 1 for p, numbers in zip(parts, own, strict=True))


def test_groups_that_are_scattered_are_not_cut_in_silence():
    with pytest.raises(ValueError, match="side by side"):
        list(whole(np.array([0, 1, 0]), 2))


# --- what they see --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def bundle(tmp_path_factory) -> Path:
    return make_tiny_bundle(tmp_path_factory.mktemp("bundle") / "near.bundle", near=True)


@pytest.fixture(scope="module")
def session(bundle) -> OnnxSession:
    return OnnxSession(read_bundle(bundle))


def told(forecasts, name: str = "temperature") -> np.ndarray:
    return np.array([forecast.variables[name].mean for forecast in forecasts])


@settings(max_examples=15, deadline=None)
@given(chunk=st.integers(1, 12), sizes=st.lists(st.integers(1, 4), min_size=1, max_size=4), seed=st.integers(0, 9))
def test_what_a_station_is_told_depends_on_its_group_alone(session, chunk, sizes, seed):
    group = np.repeat(np.arange(len(sizes)), sizes)
    stations, history = scattered(seed, len(group), 1.0), windows(len(group), seed)
    ages = [dict.fromkeys(("temperature", "humidity"), 0) for _ in group]
    together = Nowcaster(session, chunk=chunk).forecast(stations, history, ages, ORIGIN, ORIGIN, group=group)
    for number in range(len(sizes)):
        rows = np.flatnonzero(group == number)
        alone = Nowcaster(session).forecast(
            [stations[row] for row in rows], history[rows], [ages[row] for row in rows], ORIGIN, ORIGIN,
            group=group[rows],
        )  # fmt: skip
        np.testing.assert_allclose(told(together)[rows], told(alone), rtol=1e-5)
        np.testing.assert_allclose(told(alone)[:, 0], history[rows, -1, 0].mean(), rtol=1e-5)


def test_without_groups_each_station_is_by_itself(session):
    history = windows(3)
    forecasts = Nowcaster(session).forecast(scattered(0, 3, 0.1), history, [{}, {}, {}], ORIGIN, ORIGIN)
    np.testing.assert_allclose(told(forecasts)[:, 0], history[:, -1, 0], rtol=1e-6)


# --- a gateway ------------------------------------------------------------------------------------

NOW = 1_700_049_600
CLUSTERS = ((47.0, 8.0, 40), (48.0, 11.0, 1), (52.0, 13.0, 33))  # the middle one has nobody near


def gateway(folder: Path, bundle: Path) -> Path:
    """A configuration of three clusters, the stations of all mixed."""
    places = [(n, e) for north, east, size in CLUSTERS for n, e in zip(
        north + np.arange(size) % 7 / 50, east + np.arange(size) // 7 / 50, strict=True)]  # fmt: skip
    mixed = np.random.default_rng(3).permutation(len(places)).tolist()
    stations = tuple(
        {"id": f"s{i:03d}", "latitude": float(places[i][0]), "longitude": float(places[i][1]), "elevation_m": 100.0}
        for i in mixed
    )
    return write_config(folder, stations=stations, bundle=str(bundle), allow_unsigned=True, adapt=False)


def readings(store: Keeper, station: str, value: float, end: int) -> None:
    for n, t in enumerate(range(end - 26 * 3600, end + 1, 900)):
        store.add(Judged(Observation(station, "import", t, {"temperature": value}, "past", n), {}))


def taken_up(config, clock: ManualClock, store: Keeper) -> Forecasting:
    forecasting = Forecasting(config, clock, store, threading.Event())
    forecasting.load()
    for thread in threading.enumerate():
        if thread.name == "bundle":
            thread.join()
    assert forecasting.take_up()
    return forecasting


def test_a_gateway_forecasts_each_station_with_those_near_it(tmp_path, bundle):
    config, clock = load(gateway(tmp_path, bundle)), ManualClock(NOW + 100)
    late = config.stations[5].id
    with Keeper(config.store, clock) as store:
        for station in config.stations:
            readings(store, station.id, float(station.id[1:]), NOW - 900 * 2 * (station.id == late))
        forecasting = taken_up(config, clock, store)
        parts = list(forecasting.parts())
        whole_at_once = forecasting.nowcasts([station for part in parts for station in part], NOW, "")
        in_chunks = [forecast for part in parts for forecast in forecasting.nowcasts(part, NOW, "")]
    assert all(len(part) <= CHUNK for part in parts) and len(parts) > 1
    assert sorted(s.id for part in parts for s in part) == sorted(s.id for s in config.stations)
    np.testing.assert_allclose(told(in_chunks), told(whole_at_once), rtol=1e-6)
    near = members(list(config.stations))
    assert {len(group) for group in near} == {20, 1, 16, 17}
    for forecast in in_chunks:
        group = next(group for group in near if forecast.station in group)
        newest = [float(id_[1:]) for id_ in group - {late}]
        if newest:  # one that is late holds nobody up, and is told what the others say
            np.testing.assert_allclose(forecast.variables["temperature"].mean[0], np.mean(newest), rtol=1e-6)


def test_a_bundle_without_groups_takes_the_stations_as_they_are_configured(tmp_path):
    plain = make_tiny_bundle(tmp_path / "plain.bundle")
    config, clock = load(gateway(tmp_path, plain)), ManualClock(NOW + 100)
    with Keeper(config.store, clock) as store:
        forecasting = taken_up(config, clock, store)
        parts = [list(part) for part in forecasting.parts()]
    assert [len(part) for part in parts] == [CHUNK, 74 - CHUNK]
    assert [station for part in parts for station in part] == list(config.stations)
