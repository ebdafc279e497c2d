"""Errors of known kinds in clean recorded series: how many are found, how many good values are doubted, beside ioos_qc.

    python tests/benchmarks/quality_study.py [--part tune|report] [--kinds spike,step] [--without-ioos|--only-ioos]

Needs the recorded stations (STATIONCAST_CORPUS, by default ../shared/data beside the checkout) and ioos-qc (in the dev
extra); says so and ends where one is missing. Thresholds were chosen on the stations and months of `tune`;
figures to quote are those of `report`. ioos_qc gets this project's range limits and resolutions, and those multiples of
our spike and step limits and that time for a flat line which find most spikes, steps and stuck values of `tune` while
no more of its good values are doubted than we doubt; and once more for 0.1 % of them.
"""

from __future__ import annotations

import argparse
import csv
import importlib.util
import lzma
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from itertools import product
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from quality_errors import Kind, Mask, Spoiled, kinds, spoil

from edge_agent.config import Station
from edge_agent.history import History
from edge_agent.observation import Flag
from edge_agent.quality import limits
from edge_agent.quality.series import judge_series
from edge_agent.variables import VARIABLES

CORPUS = Path(os.environ.get("STATIONCAST_CORPUS", Path(__file__).parents[2].parent / "shared" / "data"))

ZURICH = {
    "air_temperature": "temperature", "humidity": "humidity", "dew_point": "dew_point",
    "barometric_pressure_qfe": "pressure", "wind_speed_avg_10min": "wind_speed", "wind_gust_max_10min": "wind_gust",
    "wind_direction": "wind_direction", "precipitation": "rain", "global_radiation": "solar_radiation",
}  # fmt: skip
MACLEISH = {
    "temperature": "temperature", "rel_humidity": "humidity", "wind_speed": "wind_speed", "wind_dir": "wind_direction",
    "rainfall": "rain", "solar_radiation": "solar_radiation",
}  # fmt: skip
NERRS = {
    "atemp": "temperature", "rh": "humidity", "bp": "pressure", "wspd": "wind_speed", "maxwspd": "wind_gust",
    "wdir": "wind_direction", "totprcp": "rain",
}  # fmt: skip
VLINDER = {
    "Temperatuur": ("temperature", 1.0), "Vochtigheid": ("humidity", 1.0), "Luchtdruk": ("pressure", 0.01),
    "Windrichting": ("wind_direction", 1.0), "Windsnelheid": ("wind_speed", 1 / 3.6), "Rukwind": ("wind_gust", 1 / 3.6),
}  # fmt: skip

# A vane that points to 5 degrees in 2,628 of 3,168 readings is no clean series.
FAULTY = {("vlinder19", "wind_direction")}


@dataclass(frozen=True)
class Series:
    """A clean series, where it was measured, and its neighbours by name."""

    name: str
    station: Station
    history: History
    neighbours: tuple[str, ...] = ()


@cache
def _table(file: str, delimiter: str = ",") -> list[dict[str, str]]:
    with lzma.open(CORPUS / file, "rt") as rows:
        return list(csv.DictReader(rows, delimiter=delimiter))


def _read(file: str, time: str, columns: dict[str, str], start: str = "", end: str = "9999") -> History:
    """A recorded series without the faults that are known of it: values out of range, and those its owners flagged."""
    rows = [row for row in _table(file) if start <= row[time] < end]
    times = np.array([int(datetime.fromisoformat(row[time]).timestamp()) for row in rows], np.int64)
    values = {}
    for theirs, ours in columns.items():
        if theirs not in rows[0]:
            continue
        column = np.array([float(row[theirs] or "nan") for row in rows])
        bad = np.array([row.get(f"f_{theirs}", "<0>")[:3] != "<0>" for row in rows])
        low, high = VARIABLES[ours].suspect
        low, high = {"temperature": (-45.0, high), "pressure_msl": (900.0, high)}.get(ours, (low, high))
        values[ours] = np.where(bad | (column < low) | (column > high), np.nan, column)
    return History(times, values, [])


def _vlinder(name: str) -> History:
    """Without rows that repeat the one before in every column: the network's own known fault."""
    rows = _table("vlinder-2022-09/vlinder_22stations_2022-09-01_11.csv.xz", ";")
    mine = [row for row in rows if row["Vlinder"] == name]
    new = [i for i, row in enumerate(mine) if i == 0 or any(row[c] != mine[i - 1][c] for c in VLINDER)]
    stamps = [f"{mine[i]['Datum']}T{mine[i]['Tijd (UTC)']}" for i in new]
    times = np.array([int(datetime.fromisoformat(s).replace(tzinfo=UTC).timestamp()) for s in stamps], np.int64)
    values = {
        ours: np.round(np.array([float(mine[i][theirs] or "nan") for i in new]) * factor, 3)
        for theirs, (ours, factor) in VLINDER.items()
        if (name, ours) not in FAULTY
    }
    return History(times, values, [])


@cache
def series(name: str) -> Series:
    """A station of the study by name."""
    zurich, macleish = "zurich-lake/{}_2019.csv.xz", "macleish-2015/{}_2015_jan-sep.csv.xz"
    if name.startswith("mythenquai"):  # its anemometer was frozen before
        history = _read(zurich.format("mythenquai"), "time_utc", ZURICH, "2019-02-01")
        return Series(name, Station(name, 47.357, 8.5363, 406.0), history, ("tiefenbrunnen",))
    if name.startswith("tiefenbrunnen"):
        history = _read(zurich.format("tiefenbrunnen"), "time_utc", ZURICH)
        return Series(name, Station(name, 47.3483, 8.5596, 406.0), history, ("mythenquai",))
    if name == "whately":
        history = _read(macleish.format("whately"), "when", MACLEISH | {"pressure": "pressure"})
        return Series(name, Station(name, 42.4485, -72.6806, 276.0), history, ("orchard",))
    if name == "orchard":
        history = _read(macleish.format("orchard"), "when", MACLEISH | {"pressure": "pressure_msl"})
        return Series(name, Station(name, 42.4497, -72.6803, 258.0), history, ("whately",))
    if name.startswith("nerrs"):
        start, end = ("2012-01", "2012-07") if name.endswith("spring") else ("2012-07", "2013")
        history = _read("nerrs-apaeb/apaebmet_2012.csv.xz", "datetimestamp", NERRS, start, end)
        return Series(name, Station(name, 29.79, -84.88, 2.0), history)
    with (CORPUS / "vlinder-2022-09" / "stations.csv").open(encoding="utf-8") as file:
        places = {row["Vlinder"]: (float(row["lat"]), float(row["lon"])) for row in csv.DictReader(file)}
    there = {row["Vlinder"] for row in _table("vlinder-2022-09/vlinder_22stations_2022-09-01_11.csv.xz", ";")}
    others = tuple(sorted(there - {name}))
    return Series(name, Station(name, *places[name], 15.0), _vlinder(name), others)


PARTS = {
    "tune": ("tiefenbrunnen", "whately", "nerrs-spring", "vlinder01", "vlinder21"),
    "report": ("mythenquai", "orchard", "nerrs-autumn", "vlinder11", "vlinder19", "vlinder27"),
}


# --- both ways of judging ----------------------------------------------------------------------------------------


def ours(station: Series, history: History, *, near: bool) -> Mask:
    """Values this project doubts."""
    others = [series(other) for other in station.neighbours[:8]] if near else []
    found = judge_series(station.station, history, [(other.station, other.history) for other in others]).found
    doubted = {name: np.zeros(len(history.times), bool) for name in history.values}
    for name, rows in found.items():
        for row, verdict in rows.items():
            doubted[name][row] = verdict.flag in (Flag.SUSPECT, Flag.FAIL)
    return doubted


@dataclass(frozen=True)
class Settings:
    """How ioos_qc is set: multiples of our spike and step limits; flat line after so many hours."""

    spike: float
    rate: float
    flat_h: float


EVERY = tuple(Settings(*factors) for factors in product((0.5, 1.0, 2.0), (0.7, 1.0, 1.5, 3.0), (6.0, 12.0, 24.0)))
THRESHOLD_KINDS = (
    "spike",
    "step",
    "stuck",
)  # what those thresholds decide; the rest is its range test's, which has none


def theirs(history: History, every: Sequence[Settings] = EVERY) -> Callable[[Settings], Mask]:
    """Values that ioos_qc doubts at any of the settings: gross range, spike (differential), rate of change and flat
    line, each where it has a meaning. The tests are run once, and put together by setting."""
    from ioos_qc import qartod

    step = float(np.median(np.diff(history.times)))
    found: dict[str, dict[tuple[str, float], NDArray[np.bool_]]] = {}
    for name, column in history.values.items():
        about, mine = VARIABLES[name], found.setdefault(name, {})
        mine["range", 0.0] = _bad(qartod.gross_range_test(column, about.fail, about.suspect))
        for factor in {s.spike for s in every} if name in limits.SPIKES else ():
            limit = limits.SPIKES[name].limit(step) * factor
            mine["spike", factor] = _bad(qartod.spike_test(column, limit, 10 * limit, method="differential"))
        for factor in {s.rate for s in every} if name in limits.STEPS else ():
            limit = limits.STEPS[name].limit(step) / step * factor
            mine["rate", factor] = _bad(qartod.rate_of_change_test(column, history.times, limit))
        if name in ("temperature", "humidity", "pressure", "pressure_msl", "dew_point", "wind_speed"):
            grain = float(np.min(np.diff(np.unique(column[~np.isnan(column)]))))
            for hours in {s.flat_h for s in every}:
                still = int(hours * 3600)
                flags = qartod.flat_line_test(column, history.times, still, 10 * still, tolerance=grain / 2)
                mine["flat", hours] = _bad(flags)

    def at(settings: Settings) -> Mask:
        wanted = {("range", 0.0), ("spike", settings.spike), ("rate", settings.rate), ("flat", settings.flat_h)}
        return {
            name: np.logical_or.reduce([bad for key, bad in mine.items() if key in wanted])
            & ~np.isnan(history.values[name])
            for name, mine in found.items()
        }

    return at


def _bad(flags: np.ma.MaskedArray) -> NDArray[np.bool_]:
    return np.isin(np.ma.filled(flags, 2), (3, 4))


# --- figures -----------------------------------------------------------------------------------------------------


@dataclass
class Tally:
    """Values and events of one kind of error; `beside`: good values newly doubted because of the errors."""

    wrong: int = 0
    hit: int = 0
    events: int = 0
    noticed: int = 0
    good: int = 0
    beside: int = 0

    def add(self, spoiled: Spoiled, doubted: Mask, before: Mask) -> None:
        for name, wrong in spoiled.wrong.items():
            present = ~np.isnan(spoiled.history.values[name])
            self.wrong += int(wrong.sum())
            self.hit += int((wrong & doubted[name]).sum())
            self.good += int((present & ~wrong).sum())
            self.beside += int((present & ~wrong & doubted[name] & ~before[name]).sum())
        for first, last, names in spoiled.events:
            self.events += 1
            self.noticed += any((doubted[n][first:last] & spoiled.wrong[n][first:last]).any() for n in names)

    @property
    def row(self) -> str:
        if not self.events:
            return "-"
        share = self.hit / max(self.wrong, 1)
        return f"{share:6.3f} {self.noticed / self.events:6.3f} {100 * self.beside / max(self.good, 1):8.4f} %"


@dataclass
class Result:
    clean: dict[str, tuple[int, int]] = field(default_factory=dict)
    tallies: dict[str, Tally] = field(default_factory=dict)

    @property
    def false(self) -> float:
        return sum(doubted for doubted, _ in self.clean.values()) / sum(n for _, n in self.clean.values())


Judge = Callable[[Series, History], Mask]


def spoiled_series(name: str, wanted: list[Kind], seed: int) -> Iterator[tuple[Kind, Spoiled]]:
    """A station's series with the errors of each kind in it; the same at the same seed."""
    after = 0.5 if name.startswith("vlinder") else 0.3
    every = [kind.name for kind in kinds()]
    for kind in wanted:
        spoiled = spoil(series(name).history, kind, seed + every.index(kind.name), after=after)
        if spoiled.events:
            yield kind, spoiled


def run(part: str, wanted: list[Kind], judge: Judge, seed: int) -> Result:
    """All errors of all wanted kinds in all series of a part, judged."""
    result = Result()
    for name in PARTS[part]:
        station = series(name)
        clean = judge(station, station.history)
        result.clean[name] = _counts(station.history, clean)
        for kind, spoiled in spoiled_series(name, wanted, seed):
            result.tallies.setdefault(kind.name, Tally()).add(spoiled, judge(station, spoiled.history), clean)
        print(".", end="", file=sys.stderr, flush=True)
    return result


def best_settings(wanted: list[Kind], limits_: Sequence[float], seed: int) -> list[Settings]:
    """For each share of good values of `tune` that may be doubted: of all settings of ioos_qc that doubt no more, those
    that find most errors there, each kind counted alike."""
    false = {settings: np.zeros(2) for settings in EVERY}
    hits = {settings: dict.fromkeys(THRESHOLD_KINDS, np.zeros(2)) for settings in EVERY}
    for name in PARTS["tune"]:
        history = series(name).history
        clean = theirs(history)
        for settings in EVERY:
            false[settings] += _counts(history, clean(settings))
        for kind, spoiled in spoiled_series(name, [kind for kind in wanted if kind.name in THRESHOLD_KINDS], seed):
            at = theirs(spoiled.history)
            for settings in EVERY:
                found = at(settings)
                n = sum(int((wrong & found[v]).sum()) for v, wrong in spoiled.wrong.items())
                of = sum(int(wrong.sum()) for wrong in spoiled.wrong.values())
                hits[settings][kind.name] = hits[settings][kind.name] + (n, of)
        print("-", end="", file=sys.stderr, flush=True)
    shares = {settings: sum(n / max(of, 1) for n, of in each.values()) for settings, each in hits.items()}
    chosen_ = []
    for most in limits_:
        fit = [settings for settings in EVERY if false[settings][0] <= most * false[settings][1]]
        chosen_.append(max(fit, key=lambda one: shares[one]) if fit else min(EVERY, key=lambda one: false[one][0]))
    return chosen_


def _counts(history: History, doubted: Mask) -> tuple[int, int]:
    """How many values are doubted, and how many there are."""
    present = {name: ~np.isnan(column) for name, column in history.values.items()}
    return sum(int((doubted[n] & mask).sum()) for n, mask in present.items()), sum(
        int(mask.sum()) for mask in present.values()
    )


def show(title: str, result: Result) -> None:
    """A table of one way of judging."""
    print(f"\n{title}: good values doubted {100 * result.false:.4f} %")
    for name, (doubted, n) in result.clean.items():
        print(f"  {name:15s} {doubted:6d} of {n:7d}  {100 * doubted / n:.4f} %")
    print(f"  {'kind':16s} {'values':>6s} {'events':>6s} {'beside':>10s}")
    for kind, tally in result.tallies.items():
        print(f"  {kind:16s} {tally.row}  ({tally.wrong} values, {tally.events} errors)")


def chosen(names: str | None) -> list[Kind]:
    every = list(kinds())
    return [kind for kind in every if names is None or kind.name in names.split(",")]


def _missing() -> Iterator[str]:
    if not CORPUS.is_dir():
        yield f"no recorded stations at {CORPUS} (set STATIONCAST_CORPUS)"
    if importlib.util.find_spec("ioos_qc") is None:
        yield "no ioos_qc: pip install ioos-qc"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", choices=sorted(PARTS), default="report")
    parser.add_argument("--kinds")
    parser.add_argument("--seed", type=int, default=20)
    parser.add_argument("--near", action="store_true", help="with neighbours")
    parser.add_argument("--without-ioos", action="store_true")
    parser.add_argument("--only-ioos", action="store_true")
    arguments = parser.parse_args()
    for why in _missing():
        print(f"not run: {why}")
        return
    wanted = chosen(arguments.kinds)

    def stationcast(station: Series, history: History) -> Mask:
        return ours(station, history, near=arguments.near)

    if not arguments.only_ioos:
        found = run(arguments.part, wanted, stationcast, arguments.seed)
        show(f"{arguments.part}, Stationcast{' with neighbours' if arguments.near else ''}", found)
    if not arguments.without_ioos:
        allowed = run("tune", [], stationcast, arguments.seed).false
        shares = (allowed, 1e-3)
        for most, settings in zip(shares, best_settings(wanted, shares, arguments.seed), strict=True):
            other = run(arguments.part, wanted, lambda s, h, use=settings: theirs(h, (use,))(use), arguments.seed)
            title = f"at most {100 * most:.4f} % of good values doubted in tune"
            show(f"{arguments.part}, ioos_qc ({title}): {settings}", other)


if __name__ == "__main__":
    main()
