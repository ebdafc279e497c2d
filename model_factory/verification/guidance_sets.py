"""Forecast archives with their observations as HISTORY.csv and GUIDANCE.csv, and what the correction is worth on each.

    python -m model_factory.verification.guidance_sets RAW OUT [SET ...]

RAW holds the sets' folders, OUT gets the files and a FORECASTS.csv a set; the table is printed. Each forecast stands
beside the guidance as it came and beside a static linear MOS, y = a + b x, fitted on all pairs before the scored part.
SET `emos` scores a rolling EMOS at Magdeburg.
"""

from __future__ import annotations

import csv
import io
import lzma
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_agent.clock import format_time, parse_time
from edge_agent.guidance.hindcast import guided_hindcast_command
from edge_agent.verification import crps, rmse
from model_factory.verification.emos import rolling_crps

Floats = NDArray[np.float64]
Row = dict[str, str]
DISSEMINATION = timedelta(hours=7)  # from a global model's run until its last step can be had
KELVIN = 273.15


@dataclass(frozen=True, slots=True)
class Archive:
    """One set. `write` makes the two files. `scored`: first valid time that is scored, as a date, and the last.
    `leads`: lead from the origin (s) -> label."""

    folder: str
    write: Callable[[Path, Path, Path], None]
    every: str
    leads: dict[int, str]
    scored: tuple[str, str]
    place: tuple[float, float, float] | None = None


def rows_of(folder: Path, pattern: str) -> list[Row]:
    """A packed CSV's rows."""
    [path] = sorted(folder.glob(pattern))
    with lzma.open(path, "rt", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def write_csv(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    """Rows as a file; the first row names the columns."""
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def day(text: str) -> datetime:
    """20020102 or 2002-01-02 as 00 UTC of that day."""
    return datetime.strptime(text.replace("-", ""), "%Y%m%d").replace(tzinfo=UTC)


def stamp(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def _run(valid: datetime, lead_h: int, **values: Any) -> dict[str, Any]:
    issued = valid - timedelta(hours=lead_h) + DISSEMINATION
    return {"issued": stamp(issued), "valid_time": stamp(valid), **values}


def hannover(raw: Path, history: Path, guidance: Path) -> None:
    """The ensemble's mean, its spread at every lead, and its other variables a day ahead."""
    rows = rows_of(raw, "hannover_t2m*")
    more = {row["date"]: row for row in rows_of(raw, "hannover_10predictors*")}
    names = ["d2m", "p", "sr", "u10m", "v10m", "r2m", "tcc", "ws10m", "wg10m"]
    out, seen = [], {}
    for row in rows:
        valid, lead = day(row["date"]) + timedelta(hours=12), int(row["lt"])
        other = more[row["date"]] if lead == 24 and row["date"] in more else {}
        predictors = {f"temperature__{n}": other.get(f"{n}_mean", "") for n in names}
        out.append(_run(valid, lead, temperature=row["t2m_mean"], temperature__spread=row["t2m_sd"], **predictors))
        seen[valid] = {"time": stamp(valid), "temperature": row["obs"]}
    write_csv(guidance, out)
    write_csv(history, [seen[t] for t in sorted(seen)])


def magdeburg(raw: Path, history: Path, guidance: Path) -> None:
    """HRES as the guidance; control, mean and spread of the 50 members as predictors."""
    out, seen = [], {}
    for lead in (24, 48):
        for row in rows_of(raw, f"magdeburg_{lead}h*"):
            valid = day(row["date"]) + timedelta(hours=12)
            members = [float(v) for k, v in row.items() if k.startswith("forc.") and k[5:].isdigit() and _number(v)]
            mean, spread = (np.mean(members), np.std(members)) if members else ("", "")
            out.append(_run(valid, lead, temperature=_or_empty(row["forc.HRES"]),
                            temperature__control=_or_empty(row["forc.CTRL"]), temperature__mean=mean,
                            temperature__spread=spread))  # fmt: skip
            seen[valid] = {"time": stamp(valid), "temperature": _or_empty(row["obs"])}
    write_csv(guidance, out)
    write_csv(history, [seen[t] for t in sorted(seen)])


def frankfurt(raw: Path, history: Path, guidance: Path) -> None:
    """HRES rain as the guidance; control, mean and spread of the members as predictors."""
    out, seen = [], {}
    for row in rows_of(raw, "frankfurt*"):
        valid = day(row["date"]) + timedelta(hours=30)
        members = np.array([float(row[f"P{i}"]) for i in range(1, 51)])
        out.append(_run(valid, 30, rain_24h=row["HRES"], rain_24h__control=row["CTR"], rain_24h__mean=members.mean(),
                        rain_24h__spread=members.std()))  # fmt: skip
        seen[valid] = {"time": stamp(valid), "rain_24h": row["obs"]}
    write_csv(guidance, out)
    write_csv(history, [seen[t] for t in sorted(seen)])


def sonderborg(raw: Path, history: Path, guidance: Path) -> None:
    """Hourly means; each row's forecasts are the newest at its time."""
    rows, out, seen = rows_of(raw, "weather_obs*"), [], []
    for row in rows:
        t = parse_time(row["time_utc"])
        seen.append({"time": row["time_utc"], "temperature": _or_empty(row["Taobs"]),
                     "solar_radiation": _or_empty(row["Iobs"])})  # fmt: skip
        out += [
            {"issued": row["time_utc"], "valid_time": format_time(t + 3600 * k),
             "temperature": _or_empty(row[f"Ta_k{k}"]), "solar_radiation": _or_empty(row[f"I_k{k}"])}
            for k in range(1, 37)
        ]  # fmt: skip
    write_csv(history, seen)
    write_csv(guidance, out)


def seoul(raw: Path, history: Path, guidance: Path) -> None:
    """Next day's maximum and minimum at 25 stations; a record stands at the end of its civil day (UTC + 9 h).

    What a row says of its own day is of 21 hours: it counts only where no row before it tells of the whole day."""
    rows = [row for row in rows_of(raw, "bias*") if row["station"] and row["Date"]]
    seen: dict[tuple[str, datetime], dict[str, Any]] = {}
    out = []
    for row in rows:
        end = day(row["Date"][:10]) + timedelta(hours=15)
        at = {"station": f"{float(row['station']):.0f}", "latitude": row["lat"], "longitude": row["lon"],
              "elevation": row["DEM"]}  # fmt: skip
        for moment, which in ((end, "Present"), (end + timedelta(days=1), "Next")):
            key = at["station"], moment
            if row[f"{which}_Tmax"] and (which == "Next" or key not in seen):
                seen[key] = {"time": stamp(moment), **at, "temperature_max": row[f"{which}_Tmax"],
                             "temperature_min": row[f"{which}_Tmin"]}  # fmt: skip
        more = {f"temperature_max__{name[6:].lower()}": value for name, value in row.items()
                if name.startswith("LDAPS_") and "_lapse" not in name}  # fmt: skip
        out.append({"issued": stamp(end), "valid_time": stamp(end + timedelta(days=1)), **at,
                    "temperature_max": row["LDAPS_Tmax_lapse"], "temperature_min": row["LDAPS_Tmin_lapse"],
                    **more})  # fmt: skip
    write_csv(guidance, out)
    write_csv(history, [seen[key] for key in sorted(seen)])


def uwme(raw: Path, history: Path, guidance: Path) -> None:
    """The mean of eight models as the guidance, each of them as a predictor, 48 h ahead at 969 stations."""
    models = ("CMCG", "ETA", "GASP", "GFS", "JMA", "NGPS", "TCWB", "UKMO")
    out, seen = [], []
    for row in rows_of(raw, "srft*"):
        valid = day(row["date"][:8]) + timedelta(hours=int(row["date"][8:]))
        at = {"station": row["station"].strip(), "latitude": row["latitude"], "longitude": row["longitude"],
              "elevation": row["elevation"]}  # fmt: skip
        each = {f"temperature__{name.lower()}": float(row[name]) - KELVIN for name in models}
        out.append(_run(valid, 48, **at, temperature=float(np.mean(list(each.values()))), **each))
        seen.append({"time": stamp(valid), **at, "temperature": float(row["observation"]) - KELVIN})
    write_csv(guidance, out)
    write_csv(history, seen)


H = 3600
HOURLY = {k * H: f"{k} h" for k in (1, 2, 3, 6, 9, 12, 18, 24, 30, 36)}
SETS = {
    "hannover": Archive("ifs-hannover", hannover, "1d", {(24 * k + 12) * H: f"{24 * k + 24} h" for k in range(5)},
                        ("2017-07-01", "2019-07-01"), (52.4644, 9.6779, 59.0)),
    "hannover-first": Archive("ifs-hannover", hannover, "1d", {(24 * k + 12) * H: f"{24 * k + 24} h" for k in range(5)},
                              ("2016-01-01", "2017-07-01"), (52.4644, 9.6779, 59.0)),
    "magdeburg": Archive("ifs-magdeburg", magdeburg, "1d", {12 * H: "24 h", 36 * H: "48 h"},
                         ("2003-01-01", "2012-01-01"), (52.13, 11.6, 79.0)),
    "frankfurt": Archive("ifs-frankfurt-rain", frankfurt, "1d", {30 * H: "30 h", 6 * H: "30 h"},
                         ("2008-01-01", "2014-01-01"), (50.03, 8.58, 112.0)),
    "sonderborg": Archive("dmi-sonderborg", sonderborg, "1h", HOURLY, ("2010-12-25", "2011-02-11"), (54.91, 9.8, 5.0)),
    "seoul": Archive("ldaps-seoul", seoul, "1d", {15 * H: "next day"}, ("2015-01-01", "2017-01-01")),
    "seoul-first": Archive("ldaps-seoul", seoul, "1d", {15 * H: "next day"}, ("2013-01-01", "2015-01-01")),
    "uwme": Archive("uwme-pnw-2004", uwme, "1d", {24 * H: "48 h"}, ("2004-01-11", "2004-02-08")),
}  # fmt: skip


def _number(text: str) -> bool:
    return text.strip().lower() not in ("", "na", "nan")


def _or_empty(text: str) -> str:
    return text if _number(text) else ""


def evaluate(archive: Archive, raw: Path, out: Path) -> Iterator[str]:
    """Convert, hindcast, and tell the table line by line."""
    out.mkdir(parents=True, exist_ok=True)
    history, guidance, forecasts = (out / f"{name}.csv" for name in ("HISTORY", "GUIDANCE", "FORECASTS"))
    archive.write(raw / archive.folder, history, guidance)
    latitude, longitude, elevation = archive.place or (None, None, None)
    start = format_time(parse_time(f"{archive.scored[0]}T00:00:00Z") - 400 * 86_400)
    end = f"{archive.scored[1]}T00:00:00Z"
    first = min(row["time"] for row in csv.DictReader(history.open(encoding="utf-8")))
    start = max(start, format_time(parse_time(first) + 86_400))
    with redirect_stdout(io.StringIO()):
        guided_hindcast_command(
            history,
            latitude,
            longitude,
            elevation,
            archive.every,
            start,
            end,
            None,
            forecasts,
            True,
            guidance,
            adapt=True,
        )
    yield f"{'variable':<16} {'lead':>8} {'pairs':>6} {'raw':>6} {'MOS':>6} {'here':>6} {'MOS less':>8} {'less':>6}" \
          f" {'CRPS':>6} {'80 %':>5}"  # fmt: skip
    told = _guided(guidance)
    levels: list[float] = []
    cells: dict[tuple[str, int], list[list[float]]] = {}
    with forecasts.open(encoding="utf-8", newline="") as stream:
        for row in csv.DictReader(stream):
            levels = levels or [float(name[1:]) for name in row if name.startswith("q")]
            lead = int(row["lead_s"])
            key = row.get("station", ""), row["valid_time"], row["variable"]
            if lead in archive.leads and row["observed"] and row["mean"] and key in told:
                before = [(issued, x) for issued, x in told[key] if issued <= row["origin"]]
                if before and not np.isnan(before[-1][1]):
                    numbers = [parse_time(row["valid_time"]), before[-1][1], float(row["observed"]), float(row["mean"]),
                               *(float(row[f"q{level:g}"]) for level in levels)]  # fmt: skip
                    cells.setdefault((row["variable"], lead), []).append(numbers)
    for (variable, lead), pairs in sorted(cells.items()):
        yield from _line(archive, variable, archive.leads[lead], np.array(pairs), levels)


def _line(archive: Archive, variable: str, label: str, table: Floats, levels: list[float]) -> Iterator[str]:
    first, end = (parse_time(f"{date}T00:00:00Z") for date in archive.scored)
    scored = (table[:, 0] >= first) & (table[:, 0] < end)
    if not scored.any():
        return
    before, (_, raw, observed, mean) = table[table[:, 0] < first], table[scored].T[:4]
    mos = np.full(len(raw), np.nan)
    if len(before) > 2:
        slope, constant = np.polyfit(before[:, 1], before[:, 2], 1)
        mos = constant + slope * raw
    q = table[scored][:, 4:]
    score = float(np.mean(crps(q, observed, levels)))
    inside = np.mean((q[:, levels.index(0.1)] <= observed) & (observed <= q[:, levels.index(0.9)]))
    errors = [rmse(forecast, observed) for forecast in (raw, mos, mean)]
    yield (
        f"{variable:<16} {label:>8} {len(raw):>6} {errors[0]:6.3f} {errors[1]:6.3f} {errors[2]:6.3f}"
        f" {100 * (1 - errors[1] / errors[0]):7.1f}% {100 * (1 - errors[2] / errors[0]):5.1f}% {score:6.3f}"
        f" {100 * inside:5.1f}"
    )


def _guided(path: Path) -> dict[tuple[str, str, str], list[tuple[str, float]]]:
    """(station, valid time, variable) -> the guidance for it, by `issued`, ascending."""
    found: dict[tuple[str, str, str], list[tuple[str, float]]] = {}
    with path.open(encoding="utf-8", newline="") as stream:
        for row in csv.DictReader(stream):
            for name in row:
                if name in ("temperature", "temperature_max", "temperature_min", "rain_24h", "solar_radiation"):
                    value = float(row[name]) if row[name] else float("nan")
                    key = row.get("station", ""), row["valid_time"], name
                    found.setdefault(key, []).append((row["issued"], value))
    return {key: sorted(values) for key, values in found.items()}


def emos_lines(raw: Path) -> Iterator[str]:
    """The CRPS of a rolling EMOS at Magdeburg, with the predictors that `magdeburg` gives, by window."""
    first = SETS["magdeburg"].scored[0].replace("-", "")
    for lead in (24, 48):
        pairs, days = [], []
        for row in rows_of(raw / "ifs-magdeburg", f"magdeburg_{lead}h*"):
            members = [float(v) for k, v in row.items() if k.startswith("forc.") and k[5:].isdigit() and _number(v)]
            if members and all(_number(row[name]) for name in ("forc.HRES", "forc.CTRL", "obs")):
                said = [float(row[name]) for name in ("forc.HRES", "forc.CTRL")]
                pairs.append([*said, float(np.mean(members)), float(np.std(members)), float(row["obs"])])
                days.append(row["date"])
        table, start = np.array(pairs), sum(day < first for day in days)
        for window in (60, 365):
            score = rolling_crps(table[:, :3], table[:, 3], table[:, 4], start, window, lead // 24).mean()
            yield f"EMOS {lead} h, {window} days: CRPS {score:.3f}, {len(days) - start} pairs"


def main(arguments: Sequence[str]) -> None:
    """Print the table of each set named, or of all."""
    raw, out, *names = arguments
    for name in names or (*SETS, "emos"):
        if name == "emos":
            sys.stdout.writelines(f"{line}\n" for line in emos_lines(Path(raw)))
            continue
        sys.stdout.write(f"{name}, scored {' to '.join(SETS[name].scored)}\n")
        for line in evaluate(SETS[name], Path(raw), Path(out) / name):
            sys.stdout.write(f"  {line}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main(sys.argv[1:])
