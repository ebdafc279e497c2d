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


class Triple:
    """What is usual between the three of one source."""

    def __init__(self) -> None:
        self._usual = self._offset = 0.0
        self._readings = 0
        self._agreed: tuple[int, dict[str, float]] | None = None
        self._accused: tuple[str, ...] = ()
        self._last: dict[str, float] = {}
        self._still = dict.fromkeys(_UNITS, 0)  # readings for which each has not changed

    def see(self, t: int, temperature: float, humidity: float, dew_point: float) -> dict[str, Verdict]:
        """Objections to a reading. The one that jumped when they parted is suspect, or all three where none did."""
        computed = dew_point_of(temperature, humidity)
        if computed is None:
            return {}
        now = {"temperature": temperature, "humidity": humidity, "dew_point": dew_point}
        for name, value in now.items():
            self._still[name] = self._still[name] + 1 if value == self._last.get(name) else 0
        self._last = now
        off = dew_point - computed
        rest = off - self._offset
        known = self._readings >= limits.TRIPLE_READINGS
        least, times = limits.TRIPLE_ROOM
        room = max(least, times * self._usual) + limits.TRIPLE_COLD * max(-temperature, 0.0) + 10.0 / humidity
        if not known or abs(rest) <= room:
            self._accused = ()
            self._agreed = (t, now)
            if not known or abs(rest) <= room / 2:  # what begins to part teaches nothing
                self._learn(off, rest)
            return {}
        if len(self._accused) != 1:
            self._accused = self._accuse(t, now)
        why = (
            f"dew point {dew_point:g} degC, but {temperature:g} degC and {humidity:g} % make {computed:.1f}; here they "
            f"usually agree within {room:.1f}: {', '.join(self._accused)} left the others"
        )
        return {name: Verdict(Flag.SUSPECT, "consistency", why, room, now[name]) for name in self._accused}

    def _learn(self, off: float, rest: float) -> None:
        self._readings += 1
        share = max(1.0 / limits.TRIPLE_MEMORY, 1.0 / self._readings)
        self._usual += share * (min(abs(rest), limits.TRIPLE_OFFSET) - self._usual)
        most = limits.TRIPLE_OFFSET
        self._offset += share * (min(max(off, -most), most) - self._offset)

    def _accuse(self, t: int, now: dict[str, float]) -> tuple[str, ...]:
        """Who stands still while the others move, or who moved most since they agreed; all, where it is not clear."""
        order = sorted(self._still, key=lambda name: -self._still[name])
        if self._still[order[0]] >= limits.STILL_ACCUSED > 4 * self._still[order[1]]:
            return (order[0],)
        if self._agreed is not None and t - self._agreed[0] <= limits.STEP_GAP_S:
            moves = sorted(((abs(now[name] - self._agreed[1][name]) / unit, name) for name, unit in _UNITS.items()))
            if moves[-1][0] >= _CLEAR and moves[-1][0] >= _TWICE * moves[-2][0]:
                return (moves[-1][1],)
        return tuple(now)
