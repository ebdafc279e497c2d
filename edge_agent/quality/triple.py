"""Temperature, humidity and dew point: three measurements of two things. Where all are sent, one that leaves the others
is found, also when it stays away."""

from __future__ import annotations

from edge_agent.observation import Flag, Verdict
from edge_agent.quality import limits
from edge_agent.quality.spatial import dew_point_of

# Changes since the three last agreed are told apart in these: degC, degC, %.
_UNITS = {"temperature": 1.0, "dew_point": 1.0, "humidity": 5.0}
_CLEAR = 3.0  # the accused moved by so many of them,
_TWICE = 2.0  # and so many times as far as the next
_SLOW = 0.01


class Triple:
    """What is usual between the three of one source."""

    def __init__(self) -> None:
        self._usual = self._offset = 0.0
        self._readings = 0
        self._agreed: tuple[int, dict[str, float]] | None = None
        self._accused: tuple[str, ...] = ()

    def see(self, t: int, temperature: float, humidity: float, dew_point: float) -> dict[str, Verdict]:
        """Objections to a reading. The one that jumped when they parted is suspect, or all three where none did."""
        computed = dew_point_of(temperature, humidity)
        if computed is None:
            return {}
        now = {"temperature": temperature, "humidity": humidity, "dew_point": dew_point}
        off = dew_point - computed
        rest = off - self._offset
        known = self._readings >= limits.TRIPLE_READINGS
        least, times = limits.TRIPLE_ROOM
        room = max(least, times * self._usual) + limits.TRIPLE_COLD * max(-temperature, 0.0) + 10.0 / humidity
        if not known or abs(rest) <= room:
            self._accused = ()
            self._agreed = (t, now)
            self._readings += 1
            share = max(_SLOW, 1.0 / self._readings)
            self._usual += share * (abs(rest) - self._usual)
            self._offset += share * min(max(rest, -least), least)
            return {}
        self._accused = self._accused or self._accuse(t, now)
        why = (
            f"dew point {dew_point:g} degC, but {temperature:g} degC and {humidity:g} % make {computed:.1f}; here they "
            f"usually agree within {room:.1f}: {', '.join(self._accused)} left the others"
        )
        return {name: Verdict(Flag.SUSPECT, "consistency", why, room, now[name]) for name in self._accused}

    def _accuse(self, t: int, now: dict[str, float]) -> tuple[str, ...]:
        """Who moved most since they agreed; all, where that is long ago or not clear."""
        if self._agreed is not None and t - self._agreed[0] <= limits.STEP_GAP_S:
            moves = sorted(((abs(now[name] - self._agreed[1][name]) / unit, name) for name, unit in _UNITS.items()))
            if moves[-1][0] >= _CLEAR and moves[-1][0] >= _TWICE * moves[-2][0]:
                return (moves[-1][1],)
        return tuple(now)
