"""`edge-agent status`: how the agent is doing, told from its store. Reads only, so it works beside a running agent (it
sees what was committed, and says when that was) and long after the last one."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path

import click
import msgspec

from edge_agent.clock import SystemClock, format_time, parse_time
from edge_agent.config import Config, load
from edge_agent.errors import StoreError
from edge_agent.forecast import Level
from edge_agent.heartbeat import last_said
from edge_agent.observation import Flag
from edge_agent.publish.structs import BoardStatus, SensorStatus, StatusPayload
from edge_agent.store import Salvaged, Store
from edge_agent.store.cells import DAY_S
from edge_agent.store.lock import holder
from edge_agent.store.salvage import last_salvage
from edge_agent.timekeeping.command import clock_of
from edge_agent.timekeeping.keeper import read_kept
from edge_agent.transfer import open_store
from edge_agent.variables import VARIABLES
from edge_agent.verification import ScoreRow

SILENT_S = 180  # without a word for longer than this and between two commits, the agent is not running
SKILL_DAYS = 7
SAFE_MODE = (
    "safe, after a crash loop: no bundle is loaded, forecasts are persistence. It ends after an hour, or with "
    "`edge-agent run --normal`; what happened is in the log"
)
SHOWN_LEADS_S = (3600, 10_800, 21_600)


class Newest(msgspec.Struct, frozen=True):
    """The newest reading of a variable, whatever its flag."""

    t: str
    age_s: int
    value: float
    unit: str
    flag: str


class LastForecast(msgspec.Struct, frozen=True):
    """The last forecast issued; `age_s`: of its origin; `variables`: level by variable."""

    origin: str
    issued: str
    age_s: int
    level: Level
    source: str
    why: str
    variables: dict[str, Level]


class SkillLine(msgspec.Struct, frozen=True):
    """Verified skill of a variable (or event) at a lead. `source`: `bundle`, or `fallback` where no model ran. Root
    mean square errors in the variable's unit, those of the baselines on the same pairs; `coverage80`: share within the
    80 % interval."""

    variable: str
    lead_s: int
    source: str
    n: int
    rmse: float | None
    persistence: float | None
    anomaly_persistence: float | None
    coverage80: float | None


class StationReport(msgspec.Struct, frozen=True):
    """One station. `agent`: what the agent last said of itself, null if it never ran; `silent_s`: how long ago."""

    station: str
    agent: StatusPayload | None
    silent_s: int | None
    newest: dict[str, Newest]
    forecast: LastForecast | None
    skill: list[SkillLine]


class Books(msgspec.Struct, frozen=True):
    """A destination's outbox: accepted = acknowledged + queued + dropped."""

    accepted: int
    acknowledged: int
    queued: int
    dropped: dict[str, int]


class Report(msgspec.Struct, frozen=True):
    """What `edge-agent status --json` prints at `t`. `as_of`: when the agent last wrote to the store, null if it never
    did: everything else is of then; `as_of_age_s`: how long ago. `salvage`: what became of the last store that was
    damaged. `hints`: what to do, in words."""

    t: str
    as_of: str | None
    as_of_age_s: int | None
    store: str
    store_mb: float | None
    outbox: dict[str, Books]
    stations: list[StationReport]
    hints: list[str]
    salvage: Salvaged | None = None


def status_command(config: Path, json_: bool) -> None:
    """`edge-agent status`.

    Raises:
        ConfigError: the configuration; StoreError: the store cannot be read.
    """
    settings = load(config)
    machine = SystemClock()
    path = Path(settings.store.path)
    if path.exists():
        try:
            with open_store(settings, read_only=True) as store:
                now = clock_of(machine, read_kept(store), store.as_of()).now()  # the system's may stand in 1970
                report = report_of(settings, store, now, config)
        except StoreError as error:
            raise StoreError(". ".join([error.what, *_unheard(path)]), reason=error.reason) from error
    else:
        hint = f"No store yet: the agent has not run here. {_start(config)} `edge-agent import HISTORY.csv` seeds it."
        hint = " ".join(_unheard(path)) or hint
        report = Report(format_time(machine.now()), None, None, settings.store.path, None, {}, [], [hint])
    if json_:
        click.echo(msgspec.json.format(msgspec.json.encode(report)).decode())
    else:
        for line in render(report):
            click.echo(line)


def report_of(config: Config, store: Store, now: float, config_path: Path = Path("agent.toml")) -> Report:
    """Everything `edge-agent status` says, at `now` (UTC seconds)."""
    heartbeats, hints = _heartbeats(store, [station.id for station in config.stations])
    stations = [_station(store, station.id, heartbeats, now) for station in config.stations]
    said = [store.as_of(), *(parse_time(payload.t) for payload in heartbeats.values())]
    as_of = max((t for t in said if t is not None), default=None)
    age_s = None if as_of is None else int(now) - as_of
    if not hints and (not heartbeats or abs(age_s or 0) > SILENT_S + config.store.commit_s):
        silent = f"said nothing for {_span(abs(age_s or 0))}: is it running?"
        since = silent if heartbeats else "not run with this store yet."
        hints += list(_unheard(store.path)) or [f"The agent has {since} {_start(config_path)}"]
    outbox = {
        name: Books(books.accepted, books.acknowledged, books.queued, books.dropped)
        for name, books in ((name, store.counts(name)) for name in store.destinations())
    }
    when = None if as_of is None else format_time(as_of)
    size = round(store.size_mb(), 1)
    salvage = last_salvage(store)
    return Report(format_time(now), when, age_s, str(store.path), size, outbox, stations, hints, salvage)


def render(report: Report) -> Iterator[str]:
    """The report as lines for people."""
    size = "" if report.store_mb is None else f" ({report.store_mb:g} MB)"
    since = "" if report.as_of_age_s is None else f", as of {report.as_of}, {_span(report.as_of_age_s)} ago"
    yield f"{report.t}  store {report.store}{size}{since}"
    if report.salvage is not None:
        yield _render_salvage(report.salvage)
    for station in report.stations:
        yield ""
        yield from _render_station(station)
    if report.outbox:
        yield ""
    for name, books in report.outbox.items():
        dropped = ", ".join(f"{n} {reason}" for reason, n in sorted(books.dropped.items())) or "none"
        yield (
            f"outbox {name}: {books.acknowledged} of {books.accepted} arrived, {books.queued} wait; dropped: {dropped}"
        )
    for hint in report.hints:
        yield ""
        yield hint


def _station(store: Store, station: str, heartbeats: dict[str, StatusPayload], now: float) -> StationReport:
    agent = heartbeats.get(station)
    newest = {
        name: Newest(format_time(t), int(now) - t, value, VARIABLES[name].unit, Flag(flag).name.lower())
        for name, (t, value, flag) in sorted(store.newest(station).items(), key=lambda item: _place(item[0]))
    }
    since = format_time(now - SKILL_DAYS * DAY_S)[:10]
    silent_s = None if agent is None else int(now) - parse_time(agent.t)
    skill = list(_skill(store.scores(station, since)))
    return StationReport(station, agent, silent_s, newest, _last_forecast(store, station, now), skill)


def _last_forecast(store: Store, station: str, now: float) -> LastForecast | None:
    last = store.last_forecast(station)
    if last is None:
        return None
    return LastForecast(
        format_time(last.origin),
        format_time(last.issued),
        int(now) - last.origin,
        last.level,
        last.source,
        last.why,
        {name: variable.level for name, variable in last.variables.items()},
    )


def _skill(rows: list[ScoreRow]) -> Iterator[SkillLine]:
    """Sums over days as lines; the model's where it ran, else those of what stood in for it."""
    sums: dict[tuple[str, int], dict[str, ScoreRow]] = defaultdict(dict)
    for row in rows:
        if row.lead_s in SHOWN_LEADS_S:
            sources = sums[row.variable, row.lead_s]
            sources[row.source] = sources[row.source] + row if row.source in sources else row
    for (variable, lead_s), sources in sorted(sums.items(), key=lambda item: (_place(item[0][0]), item[0][1])):
        source = "bundle" if "bundle" in sources else "fallback"
        if source in sources:
            own = sources[source]
            yield SkillLine(
                variable,
                lead_s,
                source,
                own.n,
                _rmse(own),
                _rmse(sources.get("persistence")),
                _rmse(sources.get("anomaly-persistence")),
                None if ":" in variable else round(own.coverage80, 3),
            )


def _heartbeats(store: Store, stations: Iterable[str]) -> tuple[dict[str, StatusPayload], list[str]]:
    """What the agent last said by station, and hints where that cannot be read."""
    try:
        return last_said(store, stations), []
    except msgspec.DecodeError as error:
        return {}, [
            f"What the agent wrote of itself cannot be read ({error}): is it of another version than this command?"
        ]


def _render_station(report: StationReport) -> Iterator[str]:
    yield f"station {report.station}"
    if report.agent is not None and report.silent_s is not None:
        agent = report.agent
        up = f"up {_span(agent.uptime_s)}, clock {agent.clock}{_clock(agent)}, version {agent.version}"
        yield f"  agent     heard {_span(report.silent_s)} ago: {up}"
        if agent.mode == "safe":
            yield f"  mode      {SAFE_MODE}"
        if agent.board is not None:
            yield from (f"  board     {line}" for line in _board(agent.board))
        for name, sensor in agent.sensors.items():
            yield f"  sensor    {name} ({sensor.driver}): {_sensor(sensor)}"
        if agent.timekeeping is not None and agent.timekeeping.detail:
            yield f"  clock     {agent.timekeeping.detail}"
        if agent.lost:
            yield f"  lost      {', '.join(f'{n} {reason}' for reason, n in sorted(agent.lost.items()))}"
        if agent.store is not None and agent.store.detail:
            yield f"  store     on from {agent.store.state} ({agent.store.in_memory} readings): {agent.store.detail}"
        if agent.broker is not None:
            broker = agent.broker
            counts = f"{broker.published} published, {broker.in_flight} in flight"
            yield f"  broker    MQTT {broker.protocol}: {'; '.join(filter(None, (counts, broker.detail)))}"
    if not report.newest:
        yield "  readings  none yet"
    for name, reading in report.newest.items():
        value = f"{reading.value:.{VARIABLES[name].decimals}f} {reading.unit}"
        yield f"  reading   {name:<16} {value:>14}  {_span(reading.age_s)} ago, {reading.flag.replace('_', ' ')}"
    if report.forecast is None:
        yield "  forecast  none yet"
    else:
        f = report.forecast
        why = f" ({f.why})" if f.why else ""
        yield f"  forecast  from {f.origin}, {_span(f.age_s)} ago: {f.level}{why}, by {f.source}"
    if report.skill:
        yield from _render_skill(report.skill)
    else:
        yield "  skill     none yet: a forecast is scored six and a half hours after its origin"


def _render_salvage(salvage: Salvaged) -> str:
    rows = f"{salvage.observations} observations, {salvage.queued} waiting rows, {salvage.forecasts} forecasts"
    how = f"{rows} and {salvage.scores} scores taken over{'' if salvage.done else ' so far'}"
    parts = f"{salvage.unreadable} unreadable part{'s' * (salvage.unreadable != 1)}"
    return (
        f"store was damaged, and put aside as {salvage.file}: {how}, {parts}. Delete that file when you need it no more"
    )


def _unheard(store: Path) -> Iterator[str]:
    """Why a store may say nothing though an agent runs."""
    pid = holder(store)
    if pid is not None:
        yield (
            f"An agent runs with it (pid {pid}) and has written nothing here of late: where the disk is"
            " full, read-only or damaged it goes on from memory, and its log and the `status` that it publishes say so"
        )


def _render_skill(lines: list[SkillLine]) -> Iterator[str]:
    yield f"  skill, {SKILL_DAYS} days: RMSE, beside persistence without and with the station's mean day"
    heads = " ".join(f"{head:>9}" for head in ("forecast", "persist.", "with day"))
    yield f"    {'variable':<20} {'lead':>4} {'pairs':>6} {heads} {'in 80 %':>7}"
    for s in lines:
        errors = (s.rmse, s.persistence, s.anomaly_persistence)
        cells = " ".join(f"{'-' if error is None else f'{error:.2f}':>9}" for error in errors)
        share = "-" if s.coverage80 is None else f"{100 * s.coverage80:.0f} %"
        note = "  no model" if s.source == "fallback" else ""
        yield f"    {s.variable:<20} {s.lead_s // 3600:>2} h {s.n:>6} {cells} {share:>7}{note}"


def _sensor(sensor: SensorStatus) -> str:
    """A sensor's health in words."""
    rejected = ", ".join(f"{n} {reason}" for reason, n in sorted(sensor.rejected.items()))
    parts = [sensor.state, f"{sensor.accepted} accepted"]
    if rejected:
        parts.append(f"rejected: {rejected}")
    if sensor.reopened:
        parts.append(f"reopened {sensor.reopened} times")
    parts += [f"battery {part} {state:g} V" for part, state in sensor.battery.items() if isinstance(state, float)]
    parts += [f"battery {part} {state}" for part, state in sensor.battery.items() if isinstance(state, str)]
    parts += [f"counter {gauge} {total:g}" for gauge, total in sensor.counters.items()]
    if sensor.stuck:
        parts.append(f"stuck {sensor.stuck} times")
    if sensor.detail:
        parts.append(sensor.detail)
    return "; ".join(parts)


def _clock(agent: StatusPayload) -> str:
    """Whose time it is, and how far it may be off."""
    kept = agent.timekeeping
    if kept is None:
        return ""
    return f" ({kept.source}, {'unknown bound' if kept.error_s is None else f'within {kept.error_s:g} s'})"


def _board(board: BoardStatus) -> Iterator[str]:
    """The device in words; what asks for a hand on a line of its own."""
    parts = [] if board.cpu_c is None else [f"processor {board.cpu_c:.0f} degC"]
    if board.memory is not None:
        parts.append(f"{board.memory.available_mb} of {board.memory.total_mb} MB of memory available")
    if board.disk is not None:
        parts.append(f"{board.disk.free_mb} of {board.disk.size_mb} MB of disk free")
    for name, card in (board.cards or {}).items():
        used = "" if card.life_used_percent is None else f" at most {card.life_used_percent} % of its life used"
        parts.append(f"{name}{used}{f', reserve {card.reserve}' if card.reserve else ''}")
    if parts:
        yield ", ".join(parts)
    if board.trouble or board.trouble_before:
        now, before = (", ".join(words or ["nothing"]) for words in (board.trouble, board.trouble_before))
        yield f"the firmware complains of: {now}; before: {before}. {_remedy(board)}".rstrip()
    if board.disk is not None and board.disk.read_only:
        yield "the disk is read-only: nothing is kept. Check it, and mount it for writing"
    if any(card.reserve in ("warning", "urgent") for card in (board.cards or {}).values()):
        yield "the flash memory wears out: replace it, and keep a copy of the store"


def _remedy(board: BoardStatus) -> str:
    told = {*(board.trouble or ()), *(board.trouble_before or ())}
    if "undervoltage" in told:
        return "Use a stronger power supply and a shorter, thicker cable"
    return "Give it air, or a heat sink" if "hot" in told else ""


def _start(config: Path) -> str:
    return f"Start it with `edge-agent run --config {config}`."


def _place(name: str) -> int:
    """Position in the vocabulary; others behind it."""
    return list(VARIABLES).index(name) if name in VARIABLES else len(VARIABLES)


def _rmse(row: ScoreRow | None) -> float | None:
    return round(row.rmse, 4) if row is not None and math.isfinite(row.rmse) else None


def _span(seconds: float) -> str:
    """A length of time in words: 12 s, 5 min, 3 h 20 min, 2 d 4 h."""
    s = int(seconds)
    if s < 0:
        return f"-{_span(-s)}"
    if s < 120:
        return f"{s} s"
    if s < 7200:
        return f"{s // 60} min"
    if s < 2 * DAY_S:
        return f"{s // 3600} h {s % 3600 // 60} min"
    return f"{s // DAY_S} d {s % DAY_S // 3600} h"
