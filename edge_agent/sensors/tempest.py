"""WeatherFlow Tempest, Air and Sky: JSON that the hub broadcasts over UDP, port 50222.

Pure. Source: WeatherFlow Tempest UDP Reference v171. Stamps are the hub's epoch seconds, pressure is the station's,
rain is what fell in the minute, never a total. What is heard twice, over two networks, is counted the second time.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Iterator, Mapping
from typing import Literal

from edge_agent.config import Sensor
from edge_agent.errors import BadMessage
from edge_agent.observation import Reading
from edge_agent.sensors.driver import DriverSpec, Options, Pressure, Transport, options_of
from edge_agent.sensors.fields import device_time, json_object, present
from edge_agent.sensors.mapping import Count, number, uncounted

# Position in the list -> variable, in the vocabulary's units. Position 0 is the time.
OBSERVED: Mapping[str, Mapping[int, str]] = {
    "obs_st": {
        2: "wind_speed", 3: "wind_gust", 4: "wind_direction", 6: "pressure", 7: "temperature", 8: "humidity",
        10: "uv_index", 11: "solar_radiation", 12: "rain",
    },
    "obs_air": {1: "pressure", 2: "temperature", 3: "humidity"},
    "obs_sky": {2: "uv_index", 3: "rain", 5: "wind_speed", 6: "wind_gust", 7: "wind_direction", 10: "solar_radiation"},
}  # fmt: skip
_BATTERY = {"obs_st": 16, "obs_air": 6, "obs_sky": 8}  # volts
_MINUTES = {"obs_st": 17, "obs_air": 7, "obs_sky": 9}  # of the reporting interval
_RAPID = {
    "wind": {1: "wind_speed", 2: "wind_direction"},
    "gust": {1: "wind_gust"},
    "off": {},
}
_RAPID_S = 3
# Messages that measure nothing of the vocabulary: a first drop, a strike of lightning, the hub's own state.
_EVENTS = frozenset({"evt_precip", "evt_strike", "hub_status", "light_debug", "rain_debug", "wind_debug"})
_DEVICES, _STAMPS = 64, 8  # remembered: one network may be a few messages behind the other


class TempestOptions(Options, frozen=True):
    """`serial`: devices to take, where a neighbour's hub is heard too (`ST-00012345`, several with commas).
    `rapid_wind`: what the three-second samples are: a `gust` (of which the largest counts), `wind` (the latest of them
    then stands for the minute's mean), or `off`."""

    serial: str = ""
    rapid_wind: Literal["gust", "wind", "off"] = "gust"


class Tempest:
    """Decodes the broadcasts of one or more hubs."""

    detects_cuts = True

    def __init__(self, sensor: Sensor) -> None:
        """Raises ConfigError: an option that is not one."""
        options = options_of(sensor, TempestOptions)
        self._serials = frozenset(options.serial.replace(",", " ").upper().split())
        self._rapid = _RAPID[options.rapid_wind]
        self._heard: OrderedDict[tuple[str, str], deque[int]] = OrderedDict()  # (device, kind) -> its latest stamps

    def decode(self, payload: bytes, count: Count = uncounted) -> list[Reading]:
        """The readings of one datagram; none for an event, only a battery for a device's status.

        Raises:
            BadMessage: `not-json`, `not-object`, `unknown-type`, `other-device`, `bad-shape`, `duplicate`,
                `no-usable-value`.
        """
        if not payload.strip():
            return []
        message = json_object(payload)
        kind, serial = message.get("type"), message.get("serial_number")
        if not isinstance(kind, str) or not isinstance(serial, str) or len(serial) > 32:
            raise BadMessage("bad-shape", "no type or no serial number")
        if kind in _EVENTS:
            return []
        if kind not in OBSERVED and kind not in ("rapid_wind", "device_status"):
            raise BadMessage("unknown-type", kind[:24])
        if self._serials and serial.upper() not in self._serials:
            raise BadMessage("other-device", f"{serial} is not one of those in the option serial")
        if kind == "device_status":
            return [Reading({}, device=serial, battery=_battery(message.get("voltage")))]
        if kind == "rapid_wind":
            return self._rapid_wind(serial, message.get("ob"), count)
        return self._observations(kind, serial, message.get("obs"), count)

    def _rapid_wind(self, serial: str, row: object, count: Count) -> list[Reading]:
        if not self._rapid:
            return []
        cells = _row(row)
        values = _values(cells, self._rapid, count)
        return [Reading(values, self._new(serial, "rapid_wind", cells, count), device=serial, period_s=_RAPID_S)]

    def _observations(self, kind: str, serial: str, rows: object, count: Count) -> list[Reading]:
        if not isinstance(rows, list) or not rows:
            raise BadMessage("bad-shape", f"{kind} without a list of observations")
        found = []
        for row in rows:
            cells = _row(row)
            try:
                t = self._new(serial, kind, cells, count)
            except BadMessage as error:
                if len(rows) == 1:
                    raise
                count(error.reason)
                continue
            values = _values(cells, OBSERVED[kind], count)
            battery = _battery(_cell(cells, _BATTERY[kind]))
            minutes = _number(_cell(cells, _MINUTES[kind]))
            period = int(60 * minutes) if minutes is not None and 1 <= minutes <= 1440 else None
            found.append(Reading(values, t, device=serial, battery=battery, period_s=period))
        return found

    def _new(self, serial: str, kind: str, cells: list[object], count: Count) -> int | None:
        """The time of an observation. Raises BadMessage `duplicate`: this one has come already."""
        t = device_time(cells[0], count)
        if t is not None:
            heard = self._heard.setdefault((serial, kind), deque(maxlen=_STAMPS))
            self._heard.move_to_end((serial, kind))
            if len(self._heard) > _DEVICES:
                self._heard.popitem(last=False)
            if t in heard:
                raise BadMessage("duplicate", f"{kind} of {serial} came twice")
            heard.append(t)
        return t


def _row(row: object) -> list[object]:
    if not isinstance(row, list) or len(row) < 2:
        raise BadMessage("bad-shape", "an observation is a list of numbers")
    return row


def _values(cells: list[object], positions: Mapping[int, str], count: Count) -> dict[str, float]:
    """The values at known positions; a short list comes from older firmware and lacks the last ones. Raises BadMessage
    `no-usable-value`."""
    values: dict[str, float] = {}
    for name, raw in _known(cells, positions):
        try:
            values[name] = present(raw)
        except BadMessage as error:
            count(error.reason)
    if not values:
        raise BadMessage("no-usable-value", "no known position holds a number")
    return values


def _known(cells: list[object], positions: Mapping[int, str]) -> Iterator[tuple[str, object]]:
    return ((name, cells[i]) for i, name in positions.items() if i < len(cells))


def _cell(cells: list[object], position: int) -> object:
    return cells[position] if position < len(cells) else None


def _number(raw: object) -> float | None:
    try:
        return number(raw)
    except BadMessage:
        return None


def _battery(raw: object) -> dict[str, str | float]:
    volts = _number(raw)
    return {} if volts is None or volts <= 0 else {"battery": volts}


DRIVERS = (
    DriverSpec(
        "tempest",
        Transport.UDP,
        Tempest,
        "WeatherFlow Tempest, Air and Sky over their hub",
        options=TempestOptions,
        pressure=Pressure.STATION,
        stamps="the hub's epoch seconds, on arrival while its clock is not set",
    ),
)
