"""A station with a past in its store, and a forecast from it."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from edge_agent.adaptation.live import Adaptation
from edge_agent.config import Station
from edge_agent.forecast import Forecast
from edge_agent.forecast.nowcast import Nowcaster
from edge_agent.history import History
from edge_agent.observation import Judged, Observation
from edge_agent.store import Store

STATION = Station(id="home", latitude=47.0, longitude=8.0, elevation_m=400.0)


def filled(path: Path, past: History) -> Store:
    store = Store.open(path)
    for n, t in enumerate(past.times.tolist()):
        values = {name: float(column[n]) for name, column in past.values.items() if not np.isnan(column[n])}
        store.add(Judged(Observation("home", "import", t, values, "past", n, historical=True, rank=250)))
    store.commit()
    return store


def follow(adaptation: Adaptation, store: Store, nowcaster: Nowcaster, origin: int) -> Forecast:
    history, ages = store.history(["home"], origin), store.ages(["home"], origin)
    return nowcaster.forecast([STATION], history, ages, origin, origin + 5, adaptation)[0]
