"""The tables of one database, as those see them who move rows between two."""

from __future__ import annotations

from dataclasses import dataclass

from edge_agent.store.connection import Connection
from edge_agent.store.forecasts import Forecasts
from edge_agent.store.observations import Observations
from edge_agent.store.open_steps import OpenSteps
from edge_agent.store.outbox import Outbox
from edge_agent.store.state import GridDays, Newest, RainTotals


@dataclass(frozen=True, slots=True)
class Tables:
    """Everything in one file, over one connection."""

    connection: Connection
    observations: Observations
    open_steps: OpenSteps
    grid: GridDays
    newest: Newest
    rain: RainTotals
    forecasts: Forecasts
    outbox: Outbox
