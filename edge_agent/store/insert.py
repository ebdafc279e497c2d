"""An observation into all tables that it concerns, at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from edge_agent.observation import Judged, RainState
from edge_agent.store.cells import WORST_RANK
from edge_agent.store.observations import Fate
from edge_agent.store.outbox import priority_of
from edge_agent.store.tables import Tables


def insert(tables: Tables, judged: Judged, destinations: Sequence[str], totals: Mapping[str, RainState]) -> Fate:
    """As `Store.add`."""
    o = judged.observation
    tables.connection.begin()
    station = tables.observations.station(o.station, make=True)
    assert station is not None
    series = tables.observations.series(station, o.source)
    tables.grid.load(station, o.t)
    tables.newest.of(station)
    with tables.connection.together():
        fate, added = tables.observations.insert(series, judged)
        if added is None:
            return fate
        if added.part is not None:
            tables.outbox.keep_part(series, o.t, added.earlier)
        priority = min(o.rank, WORST_RANK) if added.grid else priority_of(added.judged)
        for destination in destinations:
            tables.outbox.put(destination, series, o.t, added.bytes, added.part, priority)
    tables.open_steps.add(station, o.t)
    tables.grid.put(station, o.t, added.grid, o.rank)
    tables.newest.put(station, added.judged)
    tables.rain.put(o.source, o.station, totals)
    tables.connection.unsaved += 1
    return fate
