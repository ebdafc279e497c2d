"""Quality control over time: what it says of a series as it comes in, whatever the order it comes in."""

from __future__ import annotations

import math
import random
import tracemalloc
from collections.abc import Iterable

from hypothesis import given, settings
from hypothesis import strategies as st

from edge_agent.config import Station
from edge_agent.observation import Flag, Judged, Observation
from edge_agent.quality import QualityControl
from edge_agent.variables import VARIABLES

SITE = Station(id="roof", latitude=47.36, longitude=8.54, elevation_m=408.0)
NOON = 1_718_881_200  # 2024-06-20 11:00 UTC: the sun stands high at the site
HOUR = 3600


def observation(t: int, values: dict[str, float], source: str = "a", **more: object) -> Observation:
    return Observation("roof", source, t, values, "boot", t, **more)  # type: ignore[arg-type]


def judge(rows: Iterable[tuple[int, dict[str, float]]], qc: QualityControl | None = None) -> list[Judged]:
    qc = qc or QualityControl([SITE])
    return [qc.judge(observation(t, values)) for t, values in rows]


def flags(rows: Iterable[tuple[int, dict[str, float]]], name: str) -> list[int]:
    return [int(judged.verdicts[name].flag) for judged in judge(rows)]


def series(
    name: str, values: Iterable[float], step_s: int = 600, start: int = NOON
) -> list[tuple[int, dict[str, float]]]:
    return [(start + i * step_s, {name: value}) for i, value in enumerate(values)]


def lively(n: int, step_s: int = 600, seed: int = 1) -> list[tuple[int, dict[str, float]]]:
    """An ordinary station: everything moves a little."""
    chance = random.Random(seed)
    return [
        (
            NOON + i * step_s,
            {
                "temperature": round(15 + chance.gauss(0, 0.3), 1),
                "humidity": float(round(70 + chance.gauss(0, 2))),
                "pressure": round(966 + chance.gauss(0, 0.1), 1),
                "wind_speed": round(3 + chance.random(), 1),
                "wind_direction": float(chance.randrange(180, 270)),
            },
        )
        for i in range(n)
    ]


# --- laws --------------------------------------------------------------------------------------------------------

anything = st.one_of(st.floats(-200, 2000), st.sampled_from([math.nan, math.inf, -math.inf, 0.0, -90.0, 1013.0]))
messages = st.dictionaries(st.sampled_from([*sorted(VARIABLES), "unheard_of"]), anything, max_size=6)
times = st.integers(NOON - 200_000, NOON + 200_000) | st.sampled_from([0, -(2**40), 2**40])


@given(st.lists(st.tuples(times, messages, st.sampled_from("ab"), st.sampled_from([None, 600])), max_size=30))
def test_whatever_comes_every_value_is_kept_and_gets_a_verdict_with_reasons(
    rows: list[tuple[int, dict[str, float], str, int | None]],
) -> None:
    qc = QualityControl([SITE])
    for t, values, source, period in rows:
        sent = dict(values)
        judged = qc.judge(observation(t, values, source, period_s=period))
        assert judged.observation.values == sent or any(math.isnan(v) for v in sent.values())
        assert set(judged.verdicts) == set(values)
        for name, verdict in judged.verdicts.items():
            value = values[name]
            assert (verdict.flag == Flag.MISSING) == math.isnan(value)
            if verdict.flag in (Flag.SUSPECT, Flag.FAIL):
                assert verdict.test in ("range", "step", "persistence", "consistency", "role")
                assert verdict.threshold is not None and verdict.value == value
                assert f"{value:g}" in verdict.why or verdict.test in ("step", "persistence", "role")
            elif verdict.flag != Flag.GOOD:
                assert verdict.why


@settings(max_examples=30)
@given(st.data())
def test_late_and_repeated_readings_change_nothing_for_those_on_time(data: st.DataObject) -> None:
    rows = lively(60)
    alone = [j.verdicts for j in judge(rows)]
    qc = QualityControl([SITE])
    mixed = []
    for i, (t, values) in enumerate(rows):
        mixed.append(qc.judge(observation(t, values)).verdicts)
        if data.draw(st.booleans()):
            back = data.draw(st.integers(0, i * 600))
            qc.judge(observation(t - back, {"temperature": data.draw(st.floats(-60, 55)), "wind_speed": 20.0}))
    assert mixed == alone


@given(st.lists(st.floats(-20, 40).map(lambda v: round(v, 1)), min_size=2, max_size=30), st.integers(-300, 300))
def test_the_time_of_day_does_not_matter_for_steps(values: list[float], days: int) -> None:
    here = flags(series("temperature", values), "temperature")
    then = flags(series("temperature", values, start=NOON + days * 86_400 + 4242), "temperature")
    assert here == then


def test_an_ordinary_station_is_left_in_peace() -> None:
    assert all(v.flag == Flag.GOOD for j in judge(lively(1000)) for v in j.verdicts.values())


# --- steps -------------------------------------------------------------------------------------------------------


def test_of_a_spike_only_the_spike_is_suspect() -> None:
    assert flags(series("temperature", [15, 15.1, 15.2, 27.0, 15.3, 15.2]), "temperature") == [1, 1, 1, 3, 1, 1]


def test_a_change_of_level_is_believed_at_its_second_reading() -> None:
    assert flags(series("temperature", [15, 15.1, 24.0, 24.1, 24.0, 23.9]), "temperature") == [1, 1, 3, 1, 1, 1]


def test_faults_beside_good_readings_make_the_good_ones_no_step() -> None:
    """A loose wire at -90 degC is caught by range, and what follows is compared with what was good before."""
    assert flags(series("temperature", [-4.0, -90.0, -90.1, -4.2, -127.0, -4.1]), "temperature") == [1, 3, 3, 1, 4, 1]


def test_a_front_is_no_fault_but_the_same_step_in_still_air_is_suspect() -> None:
    still = {"temperature": 22.0, "wind_speed": 2.0, "pressure": 966.0}
    front = {"temperature": 17.5, "wind_speed": 9.0, "pressure": 967.2}
    alone = still | {"temperature": 17.5}
    assert judge([(NOON, still), (NOON + 600, front)])[1].verdicts["temperature"].flag == Flag.GOOD
    assert judge([(NOON, still), (NOON + 600, alone)])[1].verdicts["temperature"].flag == Flag.SUSPECT


def test_a_spike_that_a_gust_excuses_does_not_accuse_its_neighbours() -> None:
    gust = {"temperature": 26.0, "wind_speed": 9.0}
    still = {"temperature": 22.0, "wind_speed": 2.0}
    rows = [(NOON, still), (NOON + 600, gust)] + [(NOON + 600 * i, still) for i in range(2, 6)]
    assert set(flags(rows, "temperature")) == {1}


def test_no_front_explains_a_step_beyond_nature() -> None:
    rows = [(NOON, {"temperature": 22.0, "wind_speed": 2.0}), (NOON + 600, {"temperature": 44.0, "wind_speed": 9.0})]
    verdict = judge(rows)[1].verdicts["temperature"]
    assert (verdict.flag, verdict.test, verdict.value) == (Flag.SUSPECT, "step", 44.0)


def test_evidence_may_come_from_another_sensor_of_the_station() -> None:
    qc = QualityControl([SITE])
    qc.judge(observation(NOON, {"temperature": 22.0}, "thermometer"))
    qc.judge(observation(NOON, {"wind_speed": 2.0}, "mast"))
    qc.judge(observation(NOON + 590, {"wind_speed": 9.0}, "mast"))
    assert (
        qc.judge(observation(NOON + 600, {"temperature": 17.5}, "thermometer")).verdicts["temperature"].flag
        == Flag.GOOD
    )


def test_a_quick_cadence_is_not_held_to_a_fraction_of_the_minute() -> None:
    """One second apart, half a degree of noise is noise."""
    values = [15 + 0.5 * (-1) ** i for i in range(200)]
    assert set(flags(series("temperature", values, step_s=1), "temperature")) == {1}


def test_a_coarse_sensor_may_move_by_its_own_units() -> None:
    """Whole degrees, a minute apart: two of them at once are no fault once the resolution is known."""
    values = [15.0, 16.0] * 30 + [18.0, 15.0, 17.0]
    assert set(flags(series("temperature", values, step_s=60), "temperature")) == {1}


def test_a_station_where_the_air_often_changes_is_learned() -> None:
    """4 degC within ten minutes every 250 readings: suspect at first, ordinary here after 10,000."""
    values = [15.0 + 0.1 * (i % 7) + 4.0 * (i // 250 % 2) for i in range(12_001)]
    told = flags(series("temperature", values), "temperature")
    assert told[250] == Flag.SUSPECT
    assert set(told[11_200:]) == {1}


def test_but_no_number_of_spikes_makes_spikes_ordinary() -> None:
    values = [15.0 + 0.1 * (i % 7) + (4.0 if i % 100 == 99 else 0.0) for i in range(11_001)]
    told = flags(series("temperature", values), "temperature")
    assert [i for i, flag in enumerate(told) if flag != Flag.GOOD] == list(range(99, 11_001, 100))


def test_after_a_long_gap_nothing_is_said_about_steps() -> None:
    assert flags([(NOON, {"temperature": 5.0}), (NOON + 4 * HOUR, {"temperature": 25.0})], "temperature") == [1, 1]


def test_a_late_reading_is_not_compared_with_an_older_neighbour() -> None:
    rows = [(NOON, {"temperature": 15.0}), (NOON + 1200, {"temperature": 15.0}), (NOON + 600, {"temperature": 30.0})]
    assert flags(rows, "temperature") == [1, 1, 1]


def test_sources_of_one_station_are_judged_apart() -> None:
    qc = QualityControl([SITE])
    qc.judge(observation(NOON, {"temperature": 5.0}, "cellar"))
    assert qc.judge(observation(NOON + 60, {"temperature": 25.0}, "roof")).verdicts["temperature"].flag == Flag.GOOD


# --- the sun, missing values, strangers --------------------------------------------------------------------------


def test_radiation_at_night_is_suspect_unless_the_clock_is_unsure() -> None:
    night = NOON + 12 * HOUR
    qc = QualityControl([SITE])
    assert qc.judge(observation(night, {"solar_radiation": 300.0})).verdicts["solar_radiation"].flag == Flag.SUSPECT
    unsure = qc.judge(observation(night + 600, {"solar_radiation": 301.0}, clock="unsynced"))
    assert unsure.verdicts["solar_radiation"].flag == Flag.GOOD
    assert qc.judge(observation(NOON, {"solar_radiation": 900.0}, "b")).verdicts["solar_radiation"].flag == Flag.GOOD


def test_an_hourly_mean_after_sunset_still_holds_the_evening() -> None:
    """At the site the sun is 9 degrees down at 20:30 UTC; an hour before it had just set."""
    dusk = NOON + int(9.5 * HOUR)
    hourly = QualityControl([SITE]).judge(observation(dusk, {"solar_radiation": 30.0}, period_s=3600))
    sharp = QualityControl([SITE]).judge(observation(dusk, {"solar_radiation": 30.0}, period_s=60))
    assert (hourly.verdicts["solar_radiation"].flag, sharp.verdicts["solar_radiation"].flag) == (
        Flag.GOOD,
        Flag.SUSPECT,
    )


def test_missing_is_missing_and_leaves_the_others_alone() -> None:
    verdicts = judge([(NOON, {"temperature": math.nan, "humidity": 50.0})])[0].verdicts
    assert (verdicts["temperature"].flag, verdicts["humidity"].flag) == (Flag.MISSING, Flag.GOOD)
    none = QualityControl([SITE]).judge(observation(NOON, {"temperature": None}))  # type: ignore[dict-item]
    assert none.verdicts["temperature"].flag == Flag.MISSING


def test_a_failed_partner_proves_nothing() -> None:
    """The dew point is not suspect because the thermometer's wire is loose."""
    verdicts = judge([(NOON, {"temperature": -127.0, "dew_point": 8.0, "pressure": 966.0})])[0].verdicts
    assert {name: int(v.flag) for name, v in verdicts.items()} == {"temperature": 4, "dew_point": 1, "pressure": 1}


def test_what_is_not_known_is_not_evaluated_and_says_so() -> None:
    strange = judge([(NOON, {"smell": 3.0})])[0].verdicts["smell"]
    elsewhere = QualityControl([SITE]).judge(Observation("garden", "a", NOON, {"temperature": 3.0}, "boot", 1))
    assert strange.flag == elsewhere.verdicts["temperature"].flag == Flag.NOT_EVALUATED
    assert "vocabulary" in strange.why and "garden" in elsewhere.verdicts["temperature"].why


def test_only_what_fails_is_kept_from_the_forecast() -> None:
    judged = judge([(NOON, {"temperature": -90.0, "humidity": -5.0, "pressure": math.nan, "wind_speed": 2.0})])[0]
    assert judged.usable() == {"temperature": -90.0, "wind_speed": 2.0}


# --- state -------------------------------------------------------------------------------------------------------


def test_a_seeded_past_is_what_the_first_reading_is_compared_with() -> None:
    qc = QualityControl([SITE])
    qc.seed(observation(t, values) for t, values in series("temperature", [12.7] * 40))
    assert qc.judge(observation(NOON + 40 * 600, {"temperature": 12.7})).verdicts["temperature"].test == "persistence"
    assert qc.judge(observation(NOON + 41 * 600, {"temperature": 30.0})).verdicts["temperature"].test == "step"


def test_one_reading_from_the_future_does_not_silence_the_tests() -> None:
    qc = QualityControl([SITE])
    qc.judge(observation(NOON + 80 * 365 * 86_400, {"temperature": 15.0}))
    rows = series("temperature", [15.0] * 14 + [29.0])
    assert [j.verdicts["temperature"].flag for j in judge(rows, qc)][-1] == Flag.SUSPECT


def test_catching_up_does_not_unlearn_a_sensor() -> None:
    """A long catch-up of the same source, then live again: whole hectopascals stay whole hectopascals."""
    qc = QualityControl([SITE])
    judge(series("pressure", [965.0, 966.0] * 30), qc)
    judge(series("pressure", [965.5 + 0.5 * (i % 2) for i in range(30)], start=NOON - 86_400), qc)
    told = judge(series("pressure", [966.0] * 60, start=NOON + 90 * 600), qc)
    assert {int(j.verdicts["pressure"].flag) for j in told} == {1}


def test_memory_does_not_grow_with_the_series_nor_with_invented_sources() -> None:
    qc = QualityControl([SITE])
    rows = lively(100, step_s=10)

    def feed(rounds: int, start: int) -> None:
        for r in range(rounds):
            for t, values in rows:
                qc.judge(observation(start + r * 1000 + t, values, f"s{r}" if r % 4 == 0 else "a"))

    feed(70 * 4, 0)
    tracemalloc.start()
    before = tracemalloc.take_snapshot()
    feed(40, 10_000_000)
    grown = sum(s.size_diff for s in tracemalloc.take_snapshot().compare_to(before, "filename"))
    tracemalloc.stop()
    assert grown < 400_000


# --- sums over more than their interval ----------------------------------------------------------------------------


def test_rain_that_gathered_over_hours_is_not_judged_as_the_last_intervals() -> None:
    qc = QualityControl([SITE])
    qc.judge(observation(NOON, {"rain": 0.0, "humidity": 60.0}))
    values = {"rain": 80.0, "humidity": 20.0}  # in ten minutes a record, and too dry for it
    gathered = qc.judge(observation(NOON + 6 * HOUR, values, gathered_s=6 * HOUR))
    rain = gathered.verdicts["rain"]
    assert (rain.flag, rain.test) == (Flag.NOT_EVALUATED, "period") and "80 mm fell over 6.0 h" in rain.why
    assert gathered.verdicts["humidity"].flag is Flag.GOOD
    assert gathered.usable() == {"humidity": 20.0} and gathered.observation.values == values


def test_what_is_impossible_stays_so_however_long_it_took() -> None:
    judged = QualityControl([SITE]).judge(observation(NOON, {"rain": 4000.0}, gathered_s=HOUR))
    assert (judged.verdicts["rain"].flag, judged.verdicts["rain"].test) == (Flag.FAIL, "range")


def test_humidity_of_another_sensor_of_the_station_doubts_particulates_for_half_an_hour() -> None:
    qc = QualityControl([SITE])
    dust = {"pm2_5": 12.0}

    def flag(t: int) -> int:
        return int(qc.judge(observation(t, dust, "dust")).verdicts["pm2_5"].flag)

    assert flag(NOON) == 1
    qc.judge(observation(NOON + 60, {"humidity": 93.0}, "mast"))
    assert [flag(NOON + 60 + after) for after in (60, 1800, 1860)] == [3, 3, 1]
    qc.judge(observation(NOON + 2000, {"humidity": 60.0}, "mast"))
    assert flag(NOON + 2060) == 1
    own = qc.judge(observation(NOON + 2120, dust | {"humidity": 90.0}, "dust"))
    assert own.verdicts["pm2_5"].flag == 3 and own.verdicts["humidity"].flag == 1
