"""What the agent tells whoever watches it, in this process: the demo, a test, the log of `--verbose`."""

from __future__ import annotations

import logging
from dataclasses import dataclass

from edge_agent.clock import format_time
from edge_agent.forecast import Forecast
from edge_agent.observation import Flag, Judged

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Event:
    """Something a person watching would want to see. `kind`: `observation`, `duplicate` or `same-second` (with
    `judged`), `forecast`, or `bundle` (with `text`)."""

    kind: str
    judged: Judged | None = None
    forecast: Forecast | None = None
    text: str = ""


def log_event(event: Event) -> None:
    """Say it in the log: for `--verbose`."""
    if event.judged is not None:
        o = event.judged.observation
        doubts = {name: v.why for name, v in event.judged.verdicts.items() if v.flag in (Flag.SUSPECT, Flag.FAIL)}
        values = ", ".join(f"{name} {value:g}" for name, value in o.values.items())
        log.info("%s %s of %s at %s: %s %s", event.kind, o.id, o.station, format_time(o.t), values, doubts or "")
    elif event.forecast is not None:
        f = event.forecast
        log.info("forecast of %s from %s: %s %s", f.station, format_time(f.origin), f.level.value, f.why)
    else:
        log.info("%s: %s", event.kind, event.text)
