"""The shapes on the wire: one struct per payload, with the bounds that the JSON Schemas are generated from.

Shapes only: they are built in `payloads`. Never changed in a way that breaks a receiver without a new `WIRE`.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from edge_agent.forecast import Level

MAX_TEXT = 500  # characters of any free text
MAX_STEPS = 1000
MAX_LEVELS = 99

Time = Annotated[str, Meta(pattern=r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z$")]
Day = Annotated[str, Meta(pattern=r"^[0-9]{4}-[0-9]{2}-[0-9]{2}$")]
StationId = Annotated[str, Meta(pattern=r"^[a-z0-9-]{3,40}$")]
Name = Annotated[str, Meta(pattern=r"^[a-z][a-z0-9_]{0,39}$")]
Word = Annotated[str, Meta(min_length=1, max_length=100)]
Text = Annotated[str, Meta(max_length=MAX_TEXT)]
Count = Annotated[int, Meta(ge=0)]
Probability = Annotated[float, Meta(ge=0, le=1)]
Series = Annotated[list[float | None], Meta(max_length=MAX_STEPS)]
Probabilities = Annotated[list[Probability | None], Meta(max_length=MAX_STEPS)]
Fan = Annotated[list[Annotated[list[float | None], Meta(max_length=MAX_LEVELS)]], Meta(max_length=MAX_STEPS)]
ClockState = Literal["synced", "holdover", "unsynced"]
Mode = Literal["normal", "safe"]
Trouble = Literal["undervoltage", "frequency-capped", "throttled", "hot"]
Reserve = Literal["normal", "warning", "urgent"]
FlagName = Literal["good", "not_evaluated", "suspect", "fail", "missing"]
Availability = Literal["online", "stopped", "offline"]  # the one payload that is plain text, not JSON


class Payload(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of everything on the wire."""


class Quality(Payload, frozen=True, omit_defaults=True):
    """The verdict on one value. `flag`: 1 good, 2 not evaluated, 3 suspect, 4 fail, 9 missing; a value that is not good
    names the `test` that decided and says `why`."""

    flag: Literal[1, 2, 3, 4, 9]
    test: Text = ""
    why: Text = ""


class ObservationPayload(Payload, frozen=True, kw_only=True):
    """One observation. Receivers deduplicate on `id`. `t`: end of its interval; `v`: values as measured, whatever the
    verdict in `qc`; a missing value stands in `qc` only. `restamped_from`: the `t` it had before the time was known;
    with it, it replaces what came under its `id`."""

    id: Annotated[str, Meta(pattern=r"^[^:]+:.+:[0-9]+$", max_length=200)]
    t: Time
    period_s: Annotated[int, Meta(ge=1)] | None
    clock: ClockState
    historical: bool
    v: dict[Name, float]
    qc: dict[Name, Quality]
    src: Word
    restamped_from: Time | msgspec.UnsetType = msgspec.UNSET


class LastObservationPayload(ObservationPayload, frozen=True):
    """The newest value of each variable from all sources of a station: the newest observation, joined with values at
    most an hour older. `at`: when each value was measured."""

    at: dict[Name, Time]


class RevisionPayload(Payload, frozen=True):
    """A later verdict on values that went out before: those of one `variable` of one source, `start` <= `t` <= `end`.
    `made`: when; `by`: a test that needed later values, or an operator. A test makes a flag worse and never better, and
    an operator's word stands against it. Taking one twice changes nothing."""

    src: Word
    variable: Name
    start: Time
    end: Time
    flag: Literal[1, 2, 3, 4]
    test: Word
    why: Text
    made: Time
    by: Literal["test", "operator"]


class VariableSeries(Payload, frozen=True, omit_defaults=True):
    """One variable's forecast: `mean` [L] and `q` [L] of [Q], in `unit`; both null where there is none, and then `why`
    says so. `age_s`: age of its newest reading at the origin. Directions lie within 0-360, so their quantiles may pass
    north."""

    unit: Word
    level: Level
    mean: Series | None
    q: Fan | None
    age_s: Count | None
    why: Text = ""


class EventSeries(Payload, frozen=True):
    """Probability [L] of an event in the step that ends at each valid time."""

    p: Probabilities


class ForecastPayload(Payload, frozen=True, omit_defaults=True):
    """A forecast of one station. `start`: first valid time, one step after the origin; step k is valid at `start` + k
    `step_s`. `expires`: not to be used after. `level`: full, background-stale, nowcast-only, persistence or none;
    `why`: why not the best. `adapted`: variables whose numbers the station's own verdicts have moved. `age_s`: age at
    the origin of the oldest reading that a variable's forecast starts from."""

    issued: Time
    start: Time
    step_s: Annotated[int, Meta(ge=1, le=86_400)]
    expires: Time
    level: Level
    source: Word
    age_s: Count | None
    bundle: Text
    quantiles: Annotated[list[Annotated[float, Meta(gt=0, lt=1)]], Meta(max_length=MAX_LEVELS)]
    vars: dict[Name, VariableSeries]
    events: dict[Word, EventSeries]
    why: Text = ""
    adapted: list[Name] = []


class DayValue(Payload, frozen=True):
    """One value of a civil day: `mean` and, by level, `q`, in `unit`."""

    unit: Word
    mean: float
    q: Annotated[list[float], Meta(max_length=MAX_LEVELS)]


class DayForecast(Payload, frozen=True):
    """A civil day, from `start` to `end`."""

    day: Day
    start: Time
    end: Time
    vars: dict[Name, DayValue]


class NightForecast(Payload, frozen=True):
    """A night, from `start` to `end`. `events`: by name the probability that it comes at any time of it."""

    start: Time
    end: Time
    events: dict[Word, Probability | None]


class DailyPayload(Payload, frozen=True, omit_defaults=True):
    """Minimum, maximum and rain sum of a station's civil days (`timezone`), and what its nights may bring. Otherwise as
    `ForecastPayload`."""

    issued: Time
    expires: Time
    level: Level
    source: Word
    age_s: Count | None
    timezone: Word
    quantiles: Annotated[list[Annotated[float, Meta(gt=0, lt=1)]], Meta(max_length=MAX_LEVELS)]
    days: Annotated[list[DayForecast], Meta(max_length=10)]
    why: Text = ""
    nights: Annotated[list[NightForecast], Meta(max_length=10)] = []


class SensorStatus(Payload, frozen=True):
    """One source. `detail`: what is wrong and what to do; `rejected`: messages not taken, by reason; `last`: time
    of the newest reading. `battery`: by part of the device, `ok`, `low` or volts; `counters`: running totals as last
    read, by gauge (rain: mm); `stuck`: how often its device held the agent's thread, which was replaced."""

    driver: Word
    state: Literal["opening", "reading", "waiting", "hung", "stopped"]
    detail: Text
    accepted: Count
    rejected: dict[Word, Count]
    last: Time | None
    reopened: Count
    battery: dict[Word, Word | float] = {}
    counters: dict[Word, float] = {}
    stuck: Count = 0


class OutboxStatus(Payload, frozen=True):
    """One destination's books: accepted = acknowledged + queued + dropped."""

    accepted: Count
    acknowledged: Count
    queued: Count
    dropped: dict[Word, Count]


class ForecastStatus(Payload, frozen=True):
    """The last forecast issued."""

    origin: Time
    issued: Time
    level: Level
    why: Text


class BrokerStatus(Payload, frozen=True):
    """The connection this message came over. `refused`: publications the broker refused, by reason."""

    protocol: Text
    detail: Text
    published: Count
    in_flight: Count
    reconnects: Count
    refused: dict[Word, Count]


class Memory(Payload, frozen=True):
    """The device's memory, MB; `available`: without pushing anything out."""

    total_mb: Count
    available_mb: Count


class DiskSpace(Payload, frozen=True):
    """The file system that holds the store, MB; `free`: for the agent's user."""

    size_mb: Count
    free_mb: Count
    read_only: bool


class CardHealth(Payload, frozen=True, omit_defaults=True):
    """Flash memory by its own account. `life_used_percent`: at most so much of its estimated life, in tens; 110 = more
    than all. `reserve`: of its reserve blocks most are left (`normal`), 80 % are used up (`warning`), or 90 %
    (`urgent`)."""

    life_used_percent: Annotated[int, Meta(ge=10, le=110)] | None = None
    reserve: Reserve | None = None


class BoardStatus(Payload, frozen=True, omit_defaults=True):
    """The device itself, as far as it tells; what it does not tell is absent. `cpu_c`: degC. `trouble`: what a
    Raspberry Pi's firmware complains of now, `trouble_before`: and has complained of. `cards`: by device name."""

    cpu_c: float | None = None
    trouble: list[Trouble] | None = None
    trouble_before: list[Trouble] | None = None
    memory: Memory | None = None
    disk: DiskSpace | None = None
    cards: dict[Word, CardHealth] | None = None


class SalvageStatus(Payload, frozen=True):
    """What became of the last store that was found damaged. `file`: its name, beside the store; `done`: all that can be
    read was taken over; rows taken over by kind; `unreadable`: parts, of a row or many, that are lost."""

    file: Text
    done: bool
    observations: Count
    queued: Count
    forecasts: Count
    scores: Count
    unreadable: Count


class StoreStatus(Payload, frozen=True):
    """Where readings are kept: on `disk`, or in `memory` while the disk fails, and then `detail` says why and what to
    do. `in_memory`: readings that a power cut would lose besides those since the last commit; they are not in the
    outbox' books yet."""

    state: Literal["disk", "memory"]
    detail: Text
    in_memory: Count
    salvage: SalvageStatus | None = None


class ClockStatus(Payload, frozen=True):
    """Where the time comes from, and how good it is. `error_s`: how far it may be off, null = not known; `detail`: what
    is wrong and what to do; `restamped`: observations since the agent's start that got another time."""

    state: ClockState
    source: Word
    error_s: float | None
    detail: Text
    restamped: Count


class StatusPayload(Payload, frozen=True):
    """How the agent is doing at `t`. `flags`: values judged since its start, by verdict. `lost`: what the agent itself
    could not keep or do since then, by reason, duplicates included. The outbox, store, memory and lost figures are
    those of the whole agent, also on a gateway. The outbox' figures are those of the last commit. `mode`: `safe` after
    a crash loop: persistence only, no bundle."""

    t: Time
    version: Word
    uptime_s: Count
    rss_mb: float | None
    store_mb: float | None
    clock: ClockState
    sensors: dict[Word, SensorStatus]
    outbox: dict[Word, OutboxStatus]
    forecast: ForecastStatus | None
    flags: dict[FlagName, Count]
    lost: dict[Word, Count]
    broker: BrokerStatus | None
    mode: Mode = "normal"
    board: BoardStatus | None = None
    store: StoreStatus | None = None
    timekeeping: ClockStatus | None = None


class BundleInfo(Payload, frozen=True):
    """The bundle in use; `digest`: SHA-256 of its file."""

    name: Word
    digest: Annotated[str, Meta(pattern=r"^(sha256:)?[0-9a-f]{64}$")]


class Site(Payload, frozen=True):
    """Where a station stands, as far as its operator lets it be told: coordinates rounded to 0.01 degree (about 1 km)
    and the elevation to 1 m, exact ones, or null."""

    latitude: Annotated[float, Meta(ge=-90, le=90)] | None
    longitude: Annotated[float, Meta(ge=-180, le=360)] | None
    elevation_m: float | None
    timezone: Word


class InfoPayload(Payload, frozen=True):
    """What a station runs. `wire`: the version of topics and payloads; `variables`: what it forecasts, with units;
    `bundle`: null = persistence only; `mode`: as in the status."""

    wire: Literal["wx/v1"]
    version: Word
    station: StationId
    site: Site
    bundle: BundleInfo | None
    variables: dict[Name, Word]
    mode: Mode = "normal"
    timekeeping: ClockStatus | None = None


class ScoreSeries(Payload, frozen=True):
    """Scores [L] of one source and variable, in `unit`; null where nothing came due. `bias`: forecast minus
    observed."""

    unit: Word
    n: Annotated[list[Count], Meta(max_length=MAX_STEPS)]
    bias: Series
    mae: Series
    rmse: Series
    crps: Series
    coverage80: Probabilities


class VerifyPayload(Payload, frozen=True):
    """How good the forecasts that came due on a UTC day were: by source (what was issued, and the baselines on the same
    pairs; `hourly:`, `daily:` and `nightly:` before it: of hours, days and nights), then by variable (or
    `event:<name>`), then by lead."""

    day: Day
    leads_s: Annotated[list[Annotated[int, Meta(ge=1)]], Meta(max_length=MAX_STEPS)]
    scores: dict[Word, dict[Word, ScoreSeries]]
