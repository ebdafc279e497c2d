"""Observations and the verdicts on them, as they are published."""

from __future__ import annotations

from operator import itemgetter
from typing import cast

import msgspec
from msgspec import UNSET

from edge_agent.clock import format_time
from edge_agent.observation import Flag, Judged, Revision, Verdict
from edge_agent.publish.numbers import rounded
from edge_agent.publish.structs import (
    MAX_TEXT,
    ClockState,
    LastObservationPayload,
    ObservationPayload,
    Quality,
    RevisionPayload,
)
from edge_agent.variables import VARIABLES

MAX_LAST_AGE_S = 3600  # `obs/last` leaves out what is older than this against its newest value


def observation_payload(judged: Judged, historical: bool) -> ObservationPayload:
    """An observation as published. `historical`: arrived late or by import."""
    values, quality = _judged(judged)
    observation = judged.observation
    return ObservationPayload(
        id=observation.id,
        t=format_time(observation.t),
        period_s=observation.period_s or None,
        clock=cast(ClockState, observation.clock),
        historical=historical,
        v=values,
        qc=quality,
        src=observation.source,
        restamped_from=UNSET if observation.restamped_from is None else format_time(observation.restamped_from),
    )


class Latest:
    """The newest value of each variable of one station, from all its sources: what `obs/last` tells."""

    def __init__(self) -> None:
        self._newest: tuple[int, ObservationPayload] | None = None
        self._parts: dict[str, tuple[int, ObservationPayload]] = {}

    def add(self, t: int, payload: ObservationPayload) -> None:
        """Take up an observation, in whatever order they come. `t`: its time, UTC seconds. One whose time was put right
        takes the place of itself."""
        if payload.restamped_from is not UNSET:
            self._parts = {name: part for name, part in self._parts.items() if part[1].id != payload.id}
            if self._newest is not None and self._newest[1].id == payload.id:
                self._newest = max(self._parts.values(), key=itemgetter(0), default=None)
        if self._newest is None or t >= self._newest[0]:
            self._newest = (t, payload)
        for name in payload.v:
            if name not in self._parts or t >= self._parts[name][0]:
                self._parts[name] = (t, payload)

    def payload(self) -> LastObservationPayload | None:
        """Identity and time of the newest observation, with the values that are at most an hour older; None before the
        first."""
        if self._newest is None:
            return None
        now, newest = self._newest
        parts = {name: part for name, (t, part) in self._parts.items() if now - t <= MAX_LAST_AGE_S}
        return LastObservationPayload(
            id=newest.id,
            t=newest.t,
            period_s=newest.period_s,
            clock=newest.clock,
            historical=False,
            v={name: part.v[name] for name, part in parts.items()},
            qc={name: part.qc[name] for name, part in parts.items()},
            src=newest.src,
            at={name: part.t for name, part in parts.items()},
        )


def revision_payload(revision: Revision, made: float, *, by_operator: bool) -> RevisionPayload:
    """A later verdict on values of a source."""
    v = revision.verdict
    document = {
        "src": revision.source,
        "variable": revision.variable,
        "start": format_time(revision.start),
        "end": format_time(revision.end),
        "flag": v.flag.value,
        "test": v.test[:100],
        "why": v.why[:MAX_TEXT],
        "made": format_time(made),
        "by": "operator" if by_operator else "test",
    }
    return msgspec.convert(document, RevisionPayload)


def _judged(judged: Judged) -> tuple[dict[str, float], dict[str, Quality]]:
    values: dict[str, float] = {}
    quality: dict[str, Quality] = {}
    for name, raw in judged.observation.values.items():
        known = VARIABLES.get(name)
        value = rounded(raw, known.decimals if known else 6)
        verdict = judged.verdicts.get(name, Verdict(Flag.NOT_EVALUATED))
        test, why = verdict.test[:MAX_TEXT], verdict.why[:MAX_TEXT]
        if value is None:
            quality[name] = Quality(flag=9, test=test, why=why or "no number")
        else:
            values[name] = value
            quality[name] = Quality(flag=verdict.flag.value, test=test, why=why)
    return values, quality
