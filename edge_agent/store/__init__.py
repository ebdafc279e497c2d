"""The station's memory: one SQLite file with observations, the 15-minute grid, forecasts, scores and the outbox.

`Store` is the file, and raises where the disk fails; `Keeper` is the running agent's, and goes on from memory then.

Loss window: writes gather in one open transaction that `commit` ends (the agent commits every `[store] commit_s`, 60 s,
and when it stops). A power cut, a crash of the machine and a kill -9 of the agent alike lose what came since the last
commit: at most `commit_s` seconds of readings. What was committed stays (`synchronous=FULL`, write-ahead log). Must
never be used from more than one thread; another process may read at any time and write between two commits.
"""

from edge_agent.store.keeper import Keeper
from edge_agent.store.observations import Fate
from edge_agent.store.outbox import OutboxCounts, Queued
from edge_agent.store.pruning import Pruned
from edge_agent.store.salvage import Salvaged
from edge_agent.store.store import Store

__all__ = ["Fate", "Keeper", "OutboxCounts", "Pruned", "Queued", "Salvaged", "Store"]
