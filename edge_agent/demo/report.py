"""What a person sees of the demo: a line for each observation's fate, a table and a fan chart for forecasts.

Text only. Never slows the agent's loop down by more than the writing of it.
"""

from __future__ import annotations

import sys
from collections import Counter, defaultdict
from collections.abc import Iterable

import click
import numpy as np

from edge_agent import grid
from edge_agent.clock import format_time
from edge_agent.events import Event
from edge_agent.forecast import Forecast, Level
from edge_agent.forecast.fan import fans_of
from edge_agent.forecast.terminal import fan_chart, forecast_table
from edge_agent.history import History
from edge_agent.observation import Flag, Judged
from edge_agent.variables import VARIABLES

CHARTED = "temperature"
FULL_EVERY_S = 3600  # table and chart at the first forecast of the model, then every hour
REASONS = {
    "not-json": "a line that is no JSON: cut off, or noise",
    "first-total": "the first total of a counter says no amount yet",
}  # of the recordings; any other reason stands for itself
_SHORT = {
    "temperature": "T", "humidity": "RH", "pressure": "p", "wind_speed": "wind", "wind_gust": "gust",
    "wind_direction": "from", "rain": "rain", "solar_radiation": "sun",
}  # fmt: skip


class Report:
    """Prints events as they come. `counts`: how many of each fate."""

    def __init__(self, histories: dict[str, History]) -> None:
        self.counts: Counter[str] = Counter()
        self._past = {station: _Past(history) for station, history in histories.items()}
        self._charted: dict[str, int] = {}
        self._why: dict[str, str] = {}
        self._unicode = "utf" in (sys.stdout.encoding or "").lower()

    def event(self, event: Event) -> None:
        """What the agent tells of itself. Called from its loop."""
        if event.judged is not None:
            if event.kind == "observation":
                self._past[event.judged.observation.station].add(event.judged)
            self._observation(event.judged, event.kind)
        elif event.forecast is not None:
            self._forecast(event.forecast)
        elif event.text:
            click.echo(f"{'':8}  {event.kind}: {event.text}")

    def refused(self, station: str, sensor: str, reason: str, n: int) -> None:
        """Messages or values that were left out, as the agent's published status tells."""
        self.counts["left out"] += n
        text = f"{n} from {sensor}: {reason}" + (f", {REASONS[reason]}" if reason in REASONS else "")
        self._line("", station, "LEFT OUT", text, "yellow")

    def _observation(self, judged: Judged, kind: str) -> None:
        o = judged.observation
        at = format_time(o.t)[11:19]
        values = "  ".join(_value(name, o.values[name]) for name in VARIABLES if name in o.values)
        fate = "accepted" if kind == "observation" else kind.upper()
        self.counts[fate.lower()] += 1
        self._line(at, o.station, fate, values)
        for name, verdict in judged.verdicts.items():
            if verdict.flag in (Flag.SUSPECT, Flag.FAIL):
                self.counts["flagged"] += 1
                text = f"{name} {o.values[name]:g} {VARIABLES[name].unit}: {verdict.flag.name.lower()}, {verdict.why}"
                self._line(at, o.station, "FLAGGED", text, "red")

    def _forecast(self, forecast: Forecast) -> None:
        self.counts["forecasts"] += 1
        model = forecast.level is Level.NOWCAST_ONLY
        last = self._charted.get(forecast.station)
        if model and (last is None or forecast.origin - last >= FULL_EVERY_S):
            self._charted[forecast.station] = forecast.origin
            click.echo(f"\n{forecast_table(forecast)}\n")
            history = self._past[forecast.station].grid(forecast.origin)
            for fan in fans_of(forecast, history):
                if fan.variable == CHARTED:
                    click.echo(f"{fan_chart(fan, unicode=self._unicode)}\n")
            return
        new = forecast.why != self._why.get(forecast.station, "")
        self._why[forecast.station] = forecast.why
        why = f" ({forecast.why})" if forecast.why and new else ""
        text = f"level {forecast.level}{why}{_in_hours(forecast, 3)}"
        self._line(format_time(forecast.origin)[11:19], forecast.station, "forecast", text, "cyan")

    def _line(self, at: str, station: str, fate: str, text: str, colour: str | None = None) -> None:
        click.echo(f"{at:8}  {station:<8} {click.style(f'{fate:<9}', fg=colour)} {text}")


class _Past:
    """The last day of one station, for its charts."""

    def __init__(self, history: History) -> None:
        self._series: dict[str, list[tuple[int, float]]] = defaultdict(list)
        recent = history.times > history.times[-1] - 86_400
        for name, column in history.values.items():
            self._series[name] = list(zip(history.times[recent].tolist(), column[recent].tolist(), strict=True))

    def add(self, judged: Judged) -> None:
        for name, value in judged.usable().items():
            self._series[name].append((judged.observation.t, value))

    def grid(self, origin: int) -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
        """[96, 8] as `grid.GRID_VARIABLES`, ending at the origin."""
        steps = origin + grid.STEP_S * np.arange(1 - grid.STEPS_PER_DAY, 1, dtype=np.int64)
        out = np.full((len(steps), len(grid.GRID_VARIABLES)), np.nan, np.float32)
        for column, name in enumerate(grid.GRID_VARIABLES):
            if name in self._series:
                times, values = _columns(self._series[name])
                out[:, column] = grid.on_grid(times, values, name, steps)
        return out


def _columns(series: Iterable[tuple[int, float]]) -> tuple[grid.Times, grid.Values]:
    times, values = zip(*sorted(series), strict=True)
    return np.array(times, np.int64), np.array(values, np.float64)


def _value(name: str, value: float) -> str:
    about = VARIABLES[name]
    return f"{_SHORT.get(name, name)} {value:.{min(about.decimals, 1)}f}"


def _in_hours(forecast: Forecast, hours: int) -> str:
    """The charted variable at one lead, where there is a forecast of it."""
    own = forecast.variables.get(CHARTED)
    if own is None or own.mean is None or own.quantiles is None or hours * 3600 not in forecast.leads_s:
        return ""
    at = forecast.leads_s.index(hours * 3600)
    low, high = (own.quantiles[forecast.levels_q.index(q), at] for q in (0.1, 0.9))
    return f", {CHARTED} in {hours} h {own.mean[at]:.1f} ({low:.1f} to {high:.1f}) {VARIABLES[CHARTED].unit}"
