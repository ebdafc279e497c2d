"""The tables, and how an older file becomes a current one. A migration that was ever released is never edited."""

from __future__ import annotations

from sqlite_utils import Database, Migrations

SCHEMA = Migrations("stationcast-store")


def observations(db: Database) -> None:
    """A row per station, source and time; names and boot ids stand once, rows refer to them."""
    db.execute("CREATE TABLE stations (id INTEGER PRIMARY KEY, station TEXT NOT NULL UNIQUE, newest TEXT)")
    db.execute(
        "CREATE TABLE series (id INTEGER PRIMARY KEY, station INTEGER NOT NULL REFERENCES stations(id),"
        " source TEXT NOT NULL, UNIQUE (station, source))"
    )
    db.execute("CREATE TABLE boots (id INTEGER PRIMARY KEY, boot_id TEXT NOT NULL UNIQUE)")
    db.execute(
        "CREATE TABLE observations (series INTEGER NOT NULL REFERENCES series(id), t INTEGER NOT NULL,"
        " readings TEXT NOT NULL, flags TEXT, boot INTEGER NOT NULL REFERENCES boots(id), seq INTEGER NOT NULL,"
        " clock TEXT NOT NULL, period_s INTEGER, historical INTEGER NOT NULL, rank INTEGER NOT NULL,"
        " PRIMARY KEY (series, t)) WITHOUT ROWID"
    )


def grid_days(db: Database) -> None:
    """`cells`: a `DayCells`, packed. `day`: days since 1970-01-01 UTC."""
    db.execute(
        "CREATE TABLE grid_days (station INTEGER NOT NULL REFERENCES stations(id), day INTEGER NOT NULL,"
        " cells BLOB NOT NULL, PRIMARY KEY (station, day))"
    )


def outbox(db: Database) -> None:
    """What waits for a destination. `boot`, `seq`, `names` only where a row stands for a part of its observation."""
    db.execute(
        "CREATE TABLE outbox (id INTEGER PRIMARY KEY AUTOINCREMENT, destination TEXT NOT NULL, series INTEGER NOT NULL,"
        " t INTEGER NOT NULL, bytes INTEGER NOT NULL, boot INTEGER, seq INTEGER, names TEXT)"
    )
    db.execute("CREATE INDEX outbox_destination ON outbox (destination)")
    db.execute("CREATE INDEX outbox_observation ON outbox (series, t)")
    db.execute(
        "CREATE TABLE outbox_totals (destination TEXT PRIMARY KEY, accepted INTEGER NOT NULL DEFAULT 0,"
        " acknowledged INTEGER NOT NULL DEFAULT 0, bytes INTEGER NOT NULL DEFAULT 0) WITHOUT ROWID"
    )
    db.execute(
        "CREATE TABLE outbox_dropped (destination TEXT NOT NULL, reason TEXT NOT NULL, n INTEGER NOT NULL,"
        " PRIMARY KEY (destination, reason)) WITHOUT ROWID"
    )


def forecasts_and_scores(db: Database) -> None:
    """`body`: a forecast, packed. Scores are sums, so rows of the same key add up."""
    db.execute(
        "CREATE TABLE forecasts (station TEXT NOT NULL, origin INTEGER NOT NULL, body BLOB NOT NULL,"
        " PRIMARY KEY (station, origin))"
    )
    db.execute("CREATE INDEX forecasts_origin ON forecasts (origin)")
    db.execute(
        "CREATE TABLE scores (station TEXT NOT NULL, day TEXT NOT NULL, source TEXT NOT NULL, variable TEXT NOT NULL,"
        " lead_s INTEGER NOT NULL, n INTEGER NOT NULL, sum_error REAL NOT NULL, sum_abs REAL NOT NULL,"
        " sum_sq REAL NOT NULL, sum_crps REAL NOT NULL, inside80 INTEGER NOT NULL,"
        " PRIMARY KEY (station, day, source, variable, lead_s)) WITHOUT ROWID"
    )


def meta(db: Database) -> None:
    """Small things by name."""
    db.execute("CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID")


def small_forecasts(db: Database) -> None:
    """Forecasts a fifth as large, their quantiles and the baselines beside them apart, because they are needed for less
    long. Rows of the old form go; scores stay. Time comes first in the keys: what is written together lies together, so
    a round of a gateway's forecasts changes few pages. Rows of more than a kilobyte would each take a page of their own
    in a table without row ids."""
    db.execute("DROP TABLE forecasts")
    db.execute("CREATE TABLE forecast_forms (id INTEGER PRIMARY KEY, form BLOB NOT NULL UNIQUE)")
    db.execute(
        "CREATE TABLE forecasts (origin INTEGER NOT NULL, station TEXT NOT NULL,"
        " form INTEGER NOT NULL REFERENCES forecast_forms(id), body BLOB NOT NULL,"
        " PRIMARY KEY (origin, station)) WITHOUT ROWID"
    )
    db.execute(
        "CREATE TABLE forecast_quantiles (origin INTEGER NOT NULL, station TEXT NOT NULL, body BLOB NOT NULL,"
        " PRIMARY KEY (origin, station))"
    )
    db.execute(
        "CREATE TABLE baselines (origin INTEGER NOT NULL, station TEXT NOT NULL, source TEXT NOT NULL,"
        " form INTEGER NOT NULL REFERENCES forecast_forms(id), body BLOB NOT NULL, quantiles BLOB,"
        " PRIMARY KEY (origin, station, source))"
    )


def rain_totals(db: Database) -> None:
    """How a sensor's running totals stood after the last reading that was kept; `state`: a `RainState` as JSON."""
    db.execute(
        "CREATE TABLE rain_totals (source TEXT NOT NULL, station TEXT NOT NULL, variable TEXT NOT NULL,"
        " state TEXT NOT NULL, PRIMARY KEY (source, station, variable)) WITHOUT ROWID"
    )


def revisions(db: Database) -> None:
    """Later verdicts on rows of `observations`, `start` <= t <= `end`; `made`: when, `rows`: how many they changed."""
    db.execute(
        "CREATE TABLE revisions (id INTEGER PRIMARY KEY AUTOINCREMENT, station TEXT NOT NULL, source TEXT NOT NULL,"
        " variable TEXT NOT NULL, start INTEGER NOT NULL, end INTEGER NOT NULL, flag INTEGER NOT NULL,"
        " test TEXT NOT NULL, why TEXT NOT NULL, threshold REAL, made INTEGER NOT NULL, rows INTEGER NOT NULL,"
        " published INTEGER NOT NULL)"
    )
    db.execute("CREATE INDEX revisions_unpublished ON revisions (id) WHERE published = 0")


def open_steps(db: Database) -> None:
    """Quarter hours whose readings are not all in `grid_days` and `stations.newest` yet: see `open_steps.py`."""
    db.execute(
        "CREATE TABLE open_steps (step INTEGER NOT NULL, station INTEGER NOT NULL REFERENCES stations(id),"
        " PRIMARY KEY (step, station)) WITHOUT ROWID"
    )


def outbox_order(db: Database) -> None:
    """`priority`: see `outbox.py`. `outbox_marks`: up to which row the outbox went at a time, for their age."""
    db.execute("ALTER TABLE outbox ADD COLUMN priority INTEGER NOT NULL DEFAULT 0")
    db.execute("CREATE TABLE outbox_marks (t INTEGER PRIMARY KEY, key INTEGER NOT NULL)")


def times_of_arrival(db: Database) -> None:
    """When an observation arrived on the steady clock of which run of the machine (`machine`, '' = not known), so that
    a time nobody knew then can be told later. `stamped`: 1 = its `t` is from that clock; `was`: the `t` it had before.
    `parts`: observations that filled up an earlier one while the time was not known: what was published of them has ids
    of their own."""
    db.execute("ALTER TABLE boots ADD COLUMN machine TEXT NOT NULL DEFAULT ''")
    db.execute("ALTER TABLE observations ADD COLUMN steady_ms INTEGER")
    db.execute("ALTER TABLE observations ADD COLUMN stamped INTEGER NOT NULL DEFAULT 0")
    db.execute("ALTER TABLE observations ADD COLUMN was INTEGER")
    db.execute(
        "CREATE INDEX observations_doubtful ON observations (series, steady_ms, boot, clock)"
        " WHERE stamped = 1 AND clock <> 'synced'"
    )
    db.execute(
        "CREATE TABLE parts (series INTEGER NOT NULL, boot INTEGER NOT NULL, seq INTEGER NOT NULL, t INTEGER NOT NULL,"
        " names TEXT NOT NULL, PRIMARY KEY (series, boot, seq)) WITHOUT ROWID"
    )


def learned(db: Database) -> None:
    """What a station has learned, packed; large and seldom written."""
    db.execute("CREATE TABLE learned (station TEXT PRIMARY KEY, body BLOB NOT NULL)")


def waiting(db: Database) -> None:
    """Forecasts of hours and days that wait for what comes, packed: see `edge_agent.guidance.waiting`."""
    db.execute(
        "CREATE TABLE waiting (due INTEGER NOT NULL, station TEXT NOT NULL, origin INTEGER NOT NULL,"
        " kind TEXT NOT NULL, body BLOB NOT NULL, PRIMARY KEY (due, station, origin, kind)) WITHOUT ROWID"
    )


# In order; new ones at the end.
_MIGRATIONS = (
    observations,
    grid_days,
    outbox,
    forecasts_and_scores,
    meta,
    small_forecasts,
    rain_totals,
    revisions,
    open_steps,
    outbox_order,
    times_of_arrival,
    learned,
    waiting,
)
for _migration in _MIGRATIONS:
    SCHEMA()(_migration)
KNOWN = frozenset(_migration.__name__ for _migration in _MIGRATIONS)
