"""Verification beside the loop: what is due is scored a part a turn, and once a day the day before is closed.

Only the loop calls it, which owns the store.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import partial

from edge_agent.config import Config
from edge_agent.guard import Guard
from edge_agent.guidance.waiting import score_waiting
from edge_agent.publish.mqtt import Publisher
from edge_agent.publish.payloads import verify_payload
from edge_agent.retention import Retention
from edge_agent.store import Keeper
from edge_agent.timekeeping.station_clock import StationClock
from edge_agent.verification import score_due

DAY_CLOSES_S = 7 * 3600  # after midnight UTC: when a day's last forecasts have come due


class Scoring:
    """Scores the forecasts of all stations of a configuration. `due`: some may wait for it, as who makes them says."""

    def __init__(
        self, config: Config, clock: StationClock, store: Keeper, retention: Retention, publisher: Publisher,
        guard: Guard,
    ) -> None:  # fmt: skip
        self.due = False
        self._stations, self._clock, self._store = config.stations, clock, store
        self._retention, self._publisher, self._guard = retention, publisher, guard
        self._day = ""

    def work(self, now: float) -> None:
        """Score what is due, a part of it a turn so that readings need not wait; then see whether a day is over."""
        known = self._clock.error_s() is not None  # else readings stand where they do not belong
        nowcasts = partial(score_due, self._store, self._stations, now)
        ahead = partial(score_waiting, self._store, now)
        self.due = known and any(self._guard("verification", score) for score in (nowcasts, ahead))
        if not self.due:
            self._guard("daily", partial(self._close_day, now))

    def _close_day(self, now: float) -> None:
        """Once a day publish the scores of the day before and let go of what is too old."""
        day = (datetime.fromtimestamp(now - DAY_CLOSES_S, UTC) - timedelta(days=1)).strftime("%Y-%m-%d")
        if day == self._store.get("verified-day"):
            return
        if day != self._day:  # believed at the second sight: a clock that is wrong for minutes must not delete the past
            self._day = day
            return
        for station in self._stations:
            rows = [row for row in self._store.scores(station.id, day) if row.day == day]
            if rows:
                self._publisher.verify_daily(station.id, verify_payload(day, rows))
        self._retention.look()
        self._store.set("verified-day", day)
