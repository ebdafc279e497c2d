"""Quality control on recorded stations: it finds the known faults and leaves good readings alone.

`python tests/quality/test_quality_on_recorded_stations.py` prints the figures of docs/decisions/0004-quality-limits.md.
"""

from __future__ import annotations

import csv
import lzma
import os
from collections import Counter
from collections.abc import Iterator
from datetime import datetime
from functools import cache
from pathlib import Path

import pytest

from edge_agent.config import Station
from edge_agent.observation import Flag, Judged, Observation
from edge_agent.quality import QualityControl

CORPUS = Path(os.environ.get("STATIONCAST_CORPUS", Path(__file__).parents[2].parent / "shared" / "data"))
pytestmark = pytest.mark.skipif(
    not CORPUS.is_dir(), reason=f"no recorded stations at {CORPUS} (set STATIONCAST_CORPUS)"
)

ZURICH = {
    "air_temperature": "temperature",
    "humidity": "humidity",
    "dew_point": "dew_point",
    "barometric_pressure_qfe": "pressure",
    "wind_speed_avg_10min": "wind_speed",
    "wind_gust_max_10min": "wind_gust",
    "wind_direction": "wind_direction",
    "precipitation": "rain",
    "global_radiation": "solar_radiation",
}
MACLEISH = {
    "temperature": "temperature",
    "rel_humidity": "humidity",
    "wind_speed": "wind_speed",
    "wind_dir": "wind_direction",
    "rainfall": "rain",
}
NERRS = {
    "atemp": "temperature",
    "rh": "humidity",
    "bp": "pressure",
    "wspd": "wind_speed",
    "maxwspd": "wind_gust",
    "wdir": "wind_direction",
    "totprcp": "rain",
}
# file, time column, columns, place; Orchard's pressure is reduced to sea level
STATIONS = {
    "mythenquai": ("zurich-lake/mythenquai_2019.csv.xz", "time_utc", ZURICH, (47.357, 8.5363, 406)),
    "tiefenbrunnen": ("zurich-lake/tiefenbrunnen_2019.csv.xz", "time_utc", ZURICH, (47.3483, 8.5596, 406)),
    "orchard": (
        "macleish-2015/orchard_2015_jan-sep.csv.xz",
        "when",
        MACLEISH | {"pressure": "pressure_msl"},
        (42.4497, -72.6803, 258),
    ),
    "whately": (
        "macleish-2015/whately_2015_jan-sep.csv.xz",
        "when",
        MACLEISH | {"pressure": "pressure", "solar_radiation": "solar_radiation"},
        (42.4485, -72.6806, 276),
    ),
    "nerrs": ("nerrs-apaeb/apaebmet_2012.csv.xz", "datetimestamp", NERRS, (29.79, -84.88, 2)),
}


@cache
def observations(name: str) -> tuple[Observation, ...]:
    return tuple(_read(name))


def _read(name: str) -> Iterator[Observation]:
    file, time_column, columns, _ = STATIONS[name]
    with lzma.open(CORPUS / file, "rt") as rows:
        for i, row in enumerate(csv.DictReader(rows)):
            t = int(datetime.fromisoformat(row[time_column]).timestamp())
            values = {ours: float(row[theirs]) for theirs, ours in columns.items() if row.get(theirs)}
            yield Observation(name, "recording", t, values, "boot", i)


def judged(name: str, change: dict[int, dict[str, float]] | None = None) -> list[Judged]:
    """A recorded station through quality control; `change`: values put in place of the recorded ones, by row."""
    latitude, longitude, elevation = STATIONS[name][3]
    qc = QualityControl([Station(id=name, latitude=latitude, longitude=longitude, elevation_m=elevation)])
    out = []
    for i, observation in enumerate(observations(name)):
        if change and i in change:
            values = {**observation.values, **change[i]}
            observation = Observation(name, "recording", observation.t, values, "boot", i)
        out.append(qc.judge(observation))
    return out


@cache
def shares(name: str) -> dict[str, dict[str, float]]:
    """Share of values that each test flagged in an unchanged recording, by test and variable."""
    flagged: Counter[tuple[str, str]] = Counter()
    present: Counter[str] = Counter()
    for row in judged(name):
        for variable, verdict in row.verdicts.items():
            present[variable] += 1
            flagged[verdict.test, variable] += 1
    tests = ("range", "step", "persistence", "consistency")
    return {test: {variable: flagged[test, variable] / n for variable, n in present.items()} for test in tests}


@pytest.mark.parametrize("name", ["mythenquai", "tiefenbrunnen"])
def test_good_steps_of_the_zurich_lake_are_hardly_ever_doubted(name: str) -> None:
    assert max(shares(name)["step"].values()) < 0.003
    assert max(shares(name)["range"].values()) == 0
    assert max(shares(name)["consistency"].values()) == 0


def test_an_anemometer_frozen_for_nine_days_is_found() -> None:
    """Mythenquai's stood at zero from 16 to 25 January 2019; nothing else there is doubted for standing still."""
    stuck = shares("mythenquai")["persistence"]
    assert stuck["wind_speed"] > 0.015
    assert {name for name, part in stuck.items() if part > 0} == {"wind_speed", "wind_gust", "wind_direction"}


def test_gross_faults_of_the_orchard_are_found() -> None:
    """The recorded pressures far below 900 hPa, and readings of about -90 degC put in as the station has them later."""
    rows = observations("orchard")
    cold = {i: {"temperature": -90.0 - (i % 3)} for i in range(500, len(rows), 240)}
    cold |= {i + 1: {"temperature": -90.0} for i in range(500, len(rows), 960)}
    found = [
        row.verdicts[name].flag >= Flag.SUSPECT
        for i, row in enumerate(judged("orchard", cold))
        for name, value in row.observation.values.items()
        if (name == "pressure_msl" and value < 900) or (name == "temperature" and i in cold)
    ]
    assert len(found) > 200
    assert sum(found) / len(found) > 0.95


def test_good_readings_beside_the_faults_stay_good() -> None:
    rows = observations("orchard")
    cold = {i: {"temperature": -90.0} for i in range(500, len(rows), 240)}
    clean, dirty = judged("orchard"), judged("orchard", cold)
    changed = [
        i
        for i, (a, b) in enumerate(zip(clean, dirty, strict=True))
        if i not in cold and a.verdicts["temperature"].flag < b.verdicts["temperature"].flag
    ]
    assert changed == []


def test_spikes_in_a_good_series_are_found_and_never_become_ordinary() -> None:
    """+-5 degC in ten minutes, once in 97 readings: all but those that come with a gust."""
    rows = observations("tiefenbrunnen")
    spikes = {i: {"temperature": rows[i].values["temperature"] + 5 * (-1) ** i} for i in range(301, len(rows), 97)}
    flags = [row.verdicts["temperature"].flag for i, row in enumerate(judged("tiefenbrunnen", spikes)) if i in spikes]
    assert sum(flag >= Flag.SUSPECT for flag in flags) / len(flags) > 0.93


@pytest.mark.parametrize("name", ["nerrs", "whately", "orchard"])
def test_pressure_in_whole_hectopascals_is_not_taken_for_a_stuck_sensor(name: str) -> None:
    """In these series about one value in twenty belongs to a run of more than six hours."""
    stuck = shares(name)["persistence"]
    assert stuck.get("pressure", stuck.get("pressure_msl")) == 0


if __name__ == "__main__":
    for station in STATIONS:
        print(f"{station}: {len(observations(station))} observations")
        for test, by_variable in shares(station).items():
            parts = {variable: f"{100 * part:.3f} %" for variable, part in by_variable.items() if part}
            print(f"  {test:12s} {parts or 'nothing'}")
