"""A station against its neighbours: the laws of the comparison, and what a gateway says of a station that is off."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.config import Neighbour, Station
from edge_agent.observation import Flag, Observation, Verdict
from edge_agent.quality import QualityControl, limits
from edge_agent.quality.neighbours import Difference, Neighbours, Place
from edge_agent.quality.spatial import (
    QUANTITY,
    Expected,
    Voter,
    dew_point_of,
    distance_km,
    expected,
    lapse_rate,
    objections,
    quantities,
    tolerance,
)

HOUR = 3600
T0 = 1_717_200_000
HERE = Station("here", 47.0, 8.0, 500.0)


def test_distance_is_that_of_the_great_circle() -> None:
    assert distance_km((47.3570, 8.5363), (47.3483, 8.5596)) == pytest.approx(2.00, abs=0.01)
    assert distance_km((0, 0), (0, 180)) == pytest.approx(math.pi * 6371, rel=1e-6)
    assert distance_km((90, 0), (90, 77)) == pytest.approx(0.0, abs=1e-6)


@pytest.mark.parametrize(("t", "rh", "dew_point"), [(20.0, 50.0, 9.27), (0.0, 100.0, 0.0), (-10.0, 80.0, -12.8)])
def test_dew_point_follows_magnus(t: float, rh: float, dew_point: float) -> None:
    assert dew_point_of(t, rh) == pytest.approx(dew_point, abs=0.1)


@given(st.floats(-90, 60), st.floats(-5, 110))
def test_dew_point_never_lies_above_the_temperature_of_air_that_is_not_saturated(t: float, rh: float) -> None:
    found = dew_point_of(t, rh)
    assert found is not None or rh < 0.01
    if found is not None and rh <= 100.0:
        assert found <= t + 1e-6


heights = st.floats(-700, 700)
voters = st.lists(st.builds(Voter, st.floats(0, 100), heights, st.floats(-40, 45)), min_size=1, max_size=5)


@given(voters)
def test_the_lapse_rate_stays_within_what_air_does(found: list[Voter]) -> None:
    low, high = limits.LAPSE_RANGE
    assert low <= lapse_rate(found) <= high


def test_without_heights_to_tell_the_prior_stands() -> None:
    assert lapse_rate([Voter(1, 0, 10), Voter(2, 40, 3), Voter(3, -30, 25)]) == 6.5


@pytest.mark.parametrize("lapse", [-8.0, -2.0, 6.5, 9.0])
def test_the_lapse_rate_of_the_neighbours_is_found_though_one_of_them_is_wrong(lapse: float) -> None:
    found = [Voter(5, z, 12.0 - lapse * z / 1000) for z in (-400.0, -200.0, 150.0, 380.0)]
    found.append(Voter(5, 10.0, 40.0))
    assert lapse_rate(found) == pytest.approx(lapse, abs=3.6)


@given(voters, st.floats(-30, 30))
def test_neighbours_that_are_all_warmer_by_so_much_say_so_much_more(found: list[Voter], shift: float) -> None:
    moved = [Voter(v.km, v.higher_m, v.value + shift) for v in found]
    one, other = expected("temperature", found), expected("temperature", moved)
    assert other.value - one.value == pytest.approx(shift, abs=1e-6)
    assert other.spread == pytest.approx(one.spread, abs=1e-6)


@given(st.floats(0, 100), st.floats(0, 800), st.floats(0, 100), st.floats(0, 800))
def test_the_tolerance_grows_with_distance_and_height(km: float, z: float, km2: float, z2: float) -> None:
    near = Expected((1.0,), 1.0, 0.0, min(km, km2), min(z, z2))
    far = Expected((1.0,), 1.0, 0.0, max(km, km2), max(z, z2))
    for name in limits.NEAR:
        assert tolerance(name, near, 0.3) <= tolerance(name, far, 0.3) <= tolerance(name, far, None) + 5
    assert set(limits.NEAR) == set(QUANTITY)


@given(voters, st.floats(-40, 45), st.floats(0.1, 10))
def test_never_more_object_than_there_are(found: list[Voter], value: float, room: float) -> None:
    assert 0 <= objections(value, 0.0, expected("temperature", found), room) <= len(found)


def test_pressures_of_unequal_heights_are_compared_at_the_sea() -> None:
    low = dict(quantities({"pressure": 1000.0, "temperature": 15.0}, 110.0))
    high = dict(quantities({"pressure": 954.6, "temperature": 12.0}, 500.0))
    assert low["pressure"] == pytest.approx(high["pressure"], abs=1.0)


# --- a gateway ---------------------------------------------------------------------------------------------------


def network(n: int = 7, *, heights_m: tuple[float, ...] = ()) -> list[Station]:
    chance = random.Random(3)
    return [
        Station(
            f"near-{i}",
            47.0 + chance.uniform(-0.1, 0.1),
            8.0 + chance.uniform(-0.1, 0.1),
            heights_m[i] if heights_m else 500.0,
        )
        for i in range(n)
    ]


class Gateway:
    """Stations that all measure the same air, each with its own small error."""

    def __init__(self, others: list[Station], days: float = 0.0) -> None:
        self.others, self.chance = others, random.Random(5)
        self.control = QualityControl([HERE, *others])
        self.t = T0
        self.error = {s.id: self.chance.gauss(0, 0.3) for s in others}
        for _ in range(int(days * 144)):
            self.step()

    def air(self) -> float:
        return 14 + 6 * math.sin(2 * math.pi * (self.t % 86_400) / 86_400)

    def step(
        self, here: dict[str, float] | None = None, silent: tuple[str, ...] = (), **other: float
    ) -> dict[str, Verdict]:
        self.t += 600
        for s in self.others:
            if s.id not in silent:
                value = other.get(s.id.replace("-", "_"), self.air() + self.error[s.id] + self.chance.gauss(0, 0.1))
                value -= 0.0065 * (s.elevation_m - 500.0) if s.id.replace("-", "_") not in other else 0.0
                self.judge(s.id, {"temperature": round(value, 2)})
        return self.judge("here", here or {"temperature": round(self.air() + self.chance.gauss(0, 0.1), 2)})

    def judge(self, station: str, values: dict[str, float]) -> dict[str, Verdict]:
        return dict(self.control.judge(Observation(station, "mast", self.t, values, "boot", self.t)).verdicts)


def test_stations_that_measure_the_same_air_leave_each_other_in_peace() -> None:
    gateway = Gateway(network(), days=4)
    assert all(gateway.step()["temperature"].flag == Flag.GOOD for _ in range(300))


def test_a_station_that_is_off_is_suspect_and_the_reason_names_the_neighbours() -> None:
    gateway = Gateway(network(), days=4)
    for _ in range(40):  # it comes there slowly, so that no step tells
        gateway.step({"temperature": round(gateway.air() + 0.2 * (_ + 1), 2)})
    verdict = gateway.step({"temperature": round(gateway.air() + 8.0, 2)})["temperature"]
    assert (verdict.flag, verdict.test) == (Flag.SUSPECT, "spatial")
    assert "5 neighbours" in verdict.why


def test_one_missing_value_among_the_neighbours_does_not_let_the_others_pass() -> None:
    """Six stations, one of them without a value: what is off by 35 degC is found (libraries have failed here)."""
    gateway = Gateway(network(5))
    for _ in range(12):
        gateway.step(silent=("near-2",))
    gateway.judge("near-2", {"temperature": math.nan})
    gateway.t += 7200  # too long for a step to tell
    for s in gateway.others:
        gateway.judge(s.id, {"temperature": math.nan if s.id == "near-2" else 5.0})
    verdict = gateway.judge("here", {"temperature": 40.0})["temperature"]
    assert verdict.flag == Flag.SUSPECT and verdict.test in ("spatial", "role", "step")


def test_a_silent_neighbour_makes_room_for_the_next() -> None:
    around = Neighbours([Place("here", 47, 8, 500), *(Place(f"n{i}", 47 + 0.01 * (i + 1), 8, 500) for i in range(8))])
    for i in range(8):
        if i not in (0, 3):
            around.hear(f"n{i}", T0, {"temperature": float(i)})
    assert [v.value for v in around.voters("here", "temperature", T0 + 60)] == [1.0, 2.0, 4.0, 5.0, 6.0]
    assert around.voters("here", "temperature", T0 + 2 * HOUR) == []


def test_heights_are_taken_off_before_the_comparison() -> None:
    """Neighbours in a valley and on a ridge: as warm as their height says is not too warm."""
    gateway = Gateway(network(6, heights_m=(60.0, 150.0, 350.0, 700.0, 900.0, 1200.0)), days=3)
    assert all(gateway.step()["temperature"].flag == Flag.GOOD for _ in range(100))


def test_what_a_neighbour_s_own_tests_doubt_is_not_heard() -> None:
    gateway = Gateway(network(5), days=3)
    wild = {f"near_{i}": 55.0 for i in range(3)}  # a step that nothing explains
    assert gateway.step(**wild)["temperature"].flag == Flag.GOOD


def test_a_front_that_the_wind_announces_is_no_fault() -> None:
    """It is here an hour before it is at the neighbours."""
    gateway = Gateway(network(), days=4)
    gateway.step({"temperature": round(gateway.air(), 2), "wind_speed": 2.0})
    verdicts = gateway.step({"temperature": round(gateway.air() - 5.0, 2), "wind_speed": 9.0})
    assert verdicts["temperature"].flag == Flag.GOOD


def test_a_step_is_believed_where_a_neighbour_makes_it_too() -> None:
    """Also though it was doubted there, where it came first."""
    gateway, alone = (Gateway(network(3), days=2) for _ in range(2))
    cold = round(gateway.air() - 4.5, 2)
    gateway.step(**{f"near_{i}": cold for i in range(3)})
    gateway.step(**{f"near_{i}": cold for i in range(3)})
    alone.step()
    moved = {f"near_{i}": cold for i in range(3)}
    assert gateway.step({"temperature": cold}, **moved)["temperature"].flag == Flag.GOOD
    assert alone.step({"temperature": cold})["temperature"].test == "step"


def test_a_drift_is_seen_in_the_difference_of_days() -> None:
    gateway = Gateway(network(), days=14)
    told = []
    for i in range(6 * 144):
        told.append(gateway.step({"temperature": round(gateway.air() + 0.5 * i / 144, 2)})["temperature"])
    found = [verdict for verdict in told if verdict.flag == Flag.SUSPECT]
    assert found and "has drifted by +" in found[0].why
    assert told[-1].flag == Flag.SUSPECT


def test_one_neighbour_that_is_known_shows_a_drift_as_well() -> None:
    gateway = Gateway(network(1), days=14)
    told = [
        gateway.step({"temperature": round(gateway.air() + 0.8 * i / 144, 2)})["temperature"] for i in range(6 * 144)
    ]
    assert any("has drifted by +" in verdict.why for verdict in told)


def test_fewer_than_three_neighbours_are_believed_only_when_they_are_known() -> None:
    strangers, known = Gateway(network(2)), Gateway(network(2), days=4)
    for gateway in (strangers, known):
        gateway.step()
        for i in range(30):
            last = gateway.step({"temperature": round(gateway.air() + 0.3 * (i + 1), 2)})["temperature"]
        assert (last.test == "spatial") == (gateway is known)


def test_neighbours_of_other_agents_count_as_well() -> None:
    places = [Neighbour(f"other-{i}", 47.0 + 0.02 * i, 8.01, 500.0) for i in range(4)]
    control = QualityControl([HERE], places)
    for i in range(6):
        for place in places:
            assert control.hear(place.id, T0 + 600 * i, {"temperature": 10.0})
    assert not control.hear("a-stranger", T0, {"temperature": 10.0})
    verdict = control.judge(Observation("here", "mast", T0 + 3100, {"temperature": 22.0}, "boot", 1)).verdicts
    assert verdict["temperature"].test == "spatial"


def test_a_neighbour_whose_clock_was_ahead_is_heard_again() -> None:
    around = Neighbours([Place("here", 47, 8, 500), Place("n", 47.01, 8, 500)])
    around.hear("n", T0 + 400 * 86_400, {"temperature": 1.0})
    around.hear("n", T0, {"temperature": 2.0})
    assert [v.value for v in around.voters("here", "temperature", T0)] == [2.0]


@given(st.lists(st.tuples(st.integers(0, 7200), st.floats(-50, 50)), max_size=60), voters)
def test_whatever_differs_what_is_usual_stays_bounded(rows: list[tuple[int, float]], found: list[Voter]) -> None:
    difference, t = Difference(), T0
    for span, value in rows:
        t += span
        verdict, side = difference.judge("temperature", t, value, found)
        assert side in (-1, 0, 1) and (verdict is None or verdict.flag == Flag.SUSPECT)
    assert all(math.isnan(v) or abs(v) < 500 for v in difference.by_hour)
    assert difference.size >= 0 and difference.hours >= 0
