"""`edge-agent skill`: whether the forecasts were any good here, from the sums of scores that the agent keeps.

Reads the store only, beside a running agent or long after it. Computes no score: adds up, and sets side by side.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from textwrap import wrap

import click
import msgspec

from edge_agent.clock import SystemClock, format_time
from edge_agent.config import load
from edge_agent.console import keep_inputs, tell
from edge_agent.forecast.baselines import BESIDE
from edge_agent.store.cells import DAY_S
from edge_agent.transfer import open_store, station_of
from edge_agent.variables import VARIABLES
from edge_agent.verification import EVENT, ScoreRow

WINDOWS_DAYS = (7, 30, 90)
YEAR_DAYS = 400  # all that the store keeps
SHOWN_LEADS_S = (900, 1800, 3600, 7200, 10_800, 21_600)
BAR = "anomaly-persistence"  # what skill is stated against; of events: how often they came
ISSUED = ("bundle", "fallback", "forecast")
AHEAD = {
    "hourly": "hours",
    "daily": "days; a day's lead counts the days up to its end, today's is one",
    "nightly": "nights, at any time; the lead counts them, that of the one that has begun or is the next is one",
}
GUIDANCE = "guidance"  # what the skill of hours, days and nights is stated against
_HEADS = {"persistence": "persist.", "anomaly-persistence": "anomaly", "climatology": "climate"}
_WORDS = {
    "persistence": "persist.  the last value stays",
    "anomaly-persistence": "anomaly   it moves along the station's mean day (event:rain: how often it came in 30 days)",
    "climatology": "climate   what the last 30 days were like at that time of day",
}

Key = tuple[str, int]  # variable or `event:<name>`, lead in seconds


class Score(msgspec.Struct, frozen=True):
    """Of one source, variable (or event) and lead. Of an event `brier` is there, of a variable the others, in its
    unit. A source other than `bundle` and `fallback` has the pairs of `bundle` where its `n` is the same. Sources that
    begin with `hourly:`, `daily:` and `nightly:` are of hours, days and nights, as `verification.ScoreRow` has them."""

    variable: str
    unit: str
    lead_s: int
    source: str
    n: int
    bias: float | None
    rmse: float | None = None
    mae: float | None = None
    crps: float | None = None
    coverage80: float | None = None
    brier: float | None = None


class Window(msgspec.Struct, frozen=True):
    """The scores of so many days; `since`: the first day that has a part in them. Days older than five weeks are kept
    as weeks: a window that begins in one takes in the whole of it."""

    days: int
    since: str
    scores: list[Score]


class Verified(msgspec.Struct, frozen=True):
    """What `edge-agent skill --json` prints."""

    station: str
    t: str
    windows: list[Window]


@dataclass(frozen=True, slots=True)
class Table:
    """Scores of a span of time, added up. `sums`: variable and lead -> source -> sums; `since`: its first day."""

    since: str
    sums: dict[Key, dict[str, ScoreRow]]

    @classmethod
    def of(cls, rows: Iterable[ScoreRow], since: str, kind: str = "") -> Table:
        """Rows from a day on, whole weeks where they are kept so; of nowcasts, or of a `kind` of `AHEAD`."""
        sums: dict[Key, dict[str, ScoreRow]] = {}
        first = "9999"
        for row in rows:
            of_kind, _, source = row.source.rpartition(":")
            if row.day >= since and of_kind == kind:
                by_source = sums.setdefault((row.variable, row.lead_s), {})
                by_source[source] = by_source[source] + row if source in by_source else row
                first = min(first, row.day)
        return cls(first if sums else since, dict(sorted(sums.items(), key=lambda item: _place(item[0]))))

    def issued(self, key: Key) -> ScoreRow | None:
        """What was forecast: by the model where it ran, else by what stood in for it."""
        by_source = self.sums.get(key, {})
        return next((by_source[source] for source in ISSUED if source in by_source), None)

    def variables(self) -> list[str]:
        """Variables and events that were forecast, in order."""
        return list(dict.fromkeys(name for name, lead in self.sums if self.issued((name, lead))))

    def others(self) -> list[str]:
        """What a forecast is held against: baselines first, then whatever else was scored, by name."""
        found = {source for by_source in self.sums.values() for source in by_source} - {*ISSUED}
        return [s for s in BESIDE if s in found] + sorted(found - {*BESIDE})

    def skill(self, name: str, bar: str = BAR) -> float | None:
        """1 - RMSE / RMSE of the bar, of events 1 - Brier / Brier: the ratio is a geometric mean over the leads. None
        where the two share no pairs."""
        logs = []
        for (variable, _), by_source in self.sums.items():
            own, other = by_source.get("bundle") or by_source.get("forecast"), by_source.get(bar)
            if variable == name and own and other and own.n == other.n and own.sum_sq > 0 and other.sum_sq > 0:
                exponent = 1.0 if name.startswith(EVENT) else 0.5
                logs.append(exponent * math.log(own.sum_sq / other.sum_sq))
        return 1.0 - math.exp(sum(logs) / len(logs)) if logs else None


def skill_command(config: Path, station: str | None, days: int, json_: bool, plot: Path | None) -> None:
    """`edge-agent skill`.

    Raises:
        ConfigError: the configuration, no such station, or a plot that cannot be drawn; StoreError: the store cannot be
            read.
    """
    settings = load(config)
    chosen = station_of(settings, station).id
    keep_inputs("--plot", plot, config, Path(settings.store.path))
    if plot is not None:
        from edge_agent.forecast import plots

        plots.check(plot)
    now = SystemClock().now()
    with open_store(settings, read_only=True) as store:
        rows = store.scores(chosen, _day_before(now, YEAR_DAYS))
    spans = sorted({*WINDOWS_DAYS, days})
    tables, *ahead = (
        {span: Table.of(rows, _day_before(now, span - 1), kind) for span in spans} for kind in ("", *AHEAD)
    )
    if json_:
        windows = [
            Window(span, table.since, [score for one in (tables, *ahead) for score in _scores(one[span])])
            for span, table in tables.items()
        ]
        verified = Verified(chosen, format_time(now), windows)
        click.echo(msgspec.json.format(msgspec.json.encode(verified)).decode())
    else:
        click.echo("\n".join(render(chosen, days, tables)))
        for kind, of_kind in zip(AHEAD.values(), ahead, strict=True):
            if of_kind[days].variables():
                click.echo("\n".join(["", *render_ahead(kind, of_kind, days)]))
    if plot is not None and not tables[days].variables():
        tell([f"--plot {plot}: nothing was scored, and nothing is drawn"])
    elif plot is not None:
        plots.draw_verified(plot, tables[days], weekly(rows), f"{chosen}: forecasts of the last {days} days")


def weekly(rows: Sequence[ScoreRow]) -> dict[str, Table]:
    """All that is kept by week, the key being its Monday."""
    weeks: dict[str, list[ScoreRow]] = {}
    for row in rows:
        day = date.fromisoformat(row.day)
        weeks.setdefault((day - timedelta(days=day.weekday())).isoformat(), []).append(row)
    return {monday: Table.of(part, "") for monday, part in sorted(weeks.items())}


def render(station: str, days: int, tables: dict[int, Table]) -> Iterator[str]:
    """For a terminal."""
    table = tables[days]
    if not table.variables():
        yield f"{station}: no forecast was scored in the last {days} days: one is, six and a half hours on."
        return
    yield f"{station}: forecasts of the last {days} days, from {table.since} on, against what was read"
    yield ""
    yield "RMSE of the forecast and, on the same pairs, of what it is held against:"
    others = table.others()
    for source in others:
        yield f"  {_WORDS.get(source, f'{source[:9]:<9} as it came')}"
    yield "skill: 1 - RMSE / RMSE of anomaly persistence; 80 %: readings within the central 80 % interval"
    for name in table.variables():
        yield ""
        yield from _block(table, name, others)
    yield ""
    yield from _windows(tables)
    yield from _fallback(table)


def render_ahead(words: str, tables: dict[int, Table], days: int) -> Iterator[str]:
    """Hours, days or nights, against the guidance as it came."""
    table = tables[days]
    yield f"Forecasts of {words}. skill: 1 - RMSE / RMSE of guidance, of events Brier's"
    others = table.others()
    for name in table.variables():
        yield ""
        yield from _block(table, name, others, GUIDANCE)
    yield ""
    yield from _windows(tables, GUIDANCE)


def _block(table: Table, name: str, others: Sequence[str], against: str = BAR) -> Iterator[str]:
    event = name.startswith(EVENT)
    yield f"{name}, {'Brier score' if event else VARIABLES[name].unit}"
    heads = "".join(f"{_HEADS.get(source, source[:9]):>10}" for source in others)
    yield f"{'lead':>8}{'pairs':>8}{'forecast':>10}{heads}{'skill':>8}" + ("" if event else f"{'CRPS':>8}{'80 %':>6}")
    digits = 4 if event else max(VARIABLES[name].decimals, 1) + 1
    starred = False
    leads = [lead for variable, lead in table.sums if variable == name]
    for lead in (lead for lead in leads if against != BAR or lead in SHOWN_LEADS_S):
        own, by_source = table.issued((name, lead)), table.sums[name, lead]
        if own is None or not own.n:
            continue
        cells = []
        for source in others:
            row = by_source.get(source)
            same = row is not None and row.n == own.n
            starred |= row is not None and not same
            cells.append("-" if row is None else f"{_main(row):.{digits}f}{'' if same else '*'}")
        bar = by_source.get(against)
        skill = f"{100 * (1 - _main(own) / _main(bar)):.0f} %" if bar and bar.n == own.n and bar.sum_sq > 0 else "-"
        tail = "" if event else f"{own.crps:>8.{digits}f}{100 * own.coverage80:>6.0f}"
        row_cells = "".join(f"{cell:>10}" for cell in (f"{_main(own):.{digits}f}", *cells))
        yield f"{_lead(lead):>8}{own.n:>8}{row_cells}{skill:>8}{tail}"
    if starred:
        yield "        * on other pairs than the forecast's"


def _windows(tables: dict[int, Table], against: str = BAR) -> Iterator[str]:
    """Skill over all leads in each window: is it getting better or worse?"""
    yield "Skill over all leads:" + "".join(f"{f'{days} days':>10}" for days in tables)
    for name in tables[max(tables)].variables():
        cells = (table.skill(name, against) for table in tables.values())
        yield f"  {name:<19}" + "".join(f"{'-' if s is None else f'{100 * s:.0f} %':>10}" for s in cells)


def _fallback(table: Table) -> Iterator[str]:
    """Which share was forecast by persistence because no model ran, or it had too little to go by."""
    shares = []
    for name in table.variables():
        n = [sum(by[source].n for (v, _), by in table.sums.items() if v == name and source in by) for source in ISSUED]
        if n[1]:
            shares.append(f"{name} {100 * n[1] / sum(n):.0f} %")
    if shares:
        yield ""
        yield from wrap(
            f"Persistence stood in for the model (not in the table where both are): {', '.join(shares)}", 80
        )


def _scores(table: Table) -> Iterator[Score]:
    for (name, lead), by_source in table.sums.items():
        for row in by_source.values():
            if name.startswith(EVENT):
                yield Score(name, "1", lead, row.source, row.n, _number(row.bias), brier=_number(row.crps))
            else:
                numbers = (_number(x) for x in (row.bias, row.rmse, row.mae, row.crps, row.coverage80))
                yield Score(name, VARIABLES[name].unit, lead, row.source, row.n, *numbers)


def _main(row: ScoreRow) -> float:
    """The score that stands first: RMSE, of an event Brier's."""
    return row.crps if row.variable.startswith(EVENT) else row.rmse


def _place(key: Key) -> tuple[int, str, int]:
    names = list(VARIABLES)
    return names.index(key[0]) if key[0] in names else len(names), key[0], key[1]


def _day_before(now: float, days: int) -> str:
    return format_time(now - days * DAY_S)[:10]


def _number(value: float) -> float | None:
    return None if math.isnan(value) else round(value, 5)


def _lead(lead_s: int) -> str:
    return f"{lead_s // 60} min" if lead_s < 3600 else f"{lead_s / 3600:g} h"
