"""What a driver is: how bytes become messages and messages become readings, and what it says of itself.

A driver names a transport and brings a pure decoder. Bytes of a stream are cut into messages by its framer; a device
that must be asked is spoken to by its `Talk`. Opening, retrying, bounds and counting stand once, around all of them.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, runtime_checkable

import msgspec

from edge_agent.clock import Clock
from edge_agent.config import Sensor, Station
from edge_agent.errors import ConfigError
from edge_agent.sensors.framing import Lines, Refusal
from edge_agent.sensors.mapping import Decoder

if TYPE_CHECKING:
    from edge_agent.sensors.source import Intake, OpenSource

ENTRY_POINTS = "edge_agent.sensors"  # packages that bring a driver name a DriverSpec in this group


T = TypeVar("T", bound="Options")


class Transport(StrEnum):
    """What carries the bytes."""

    SERIAL = "serial"  # a serial port, or a serial line behind tcp://host:port
    MQTT = "mqtt"
    HTTP = "http"  # devices push to us
    UDP = "udp"  # devices broadcast
    POLL = "poll"  # we ask a device over the network


class Pressure(StrEnum):
    """Which pressure a driver delivers as `pressure`. Only station pressure may stand there; the others are inverted
    by a stated formula, or kept apart as `pressure_msl`."""

    STATION = "station"
    MAPPED = "as the map says"  # the configuration declares it
    SEA_LEVEL = "sea level, kept apart as pressure_msl"
    ALTIMETER = "altimeter setting, inverted to station pressure"
    NONE = "none"


class Options(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Base of a driver's own options: `[sensor.options]` in agent.toml, `--option KEY=VALUE` on the command line."""


class Framer(Protocol):
    """Cuts a stream of bytes into messages; holds a bounded number of bytes, whatever comes."""

    def feed(self, chunk: bytes) -> Iterator[bytes | Refusal]:
        """The messages that this chunk completes, and what had to be left out."""

    def skip(self) -> None:
        """Leave out everything up to the next beginning of a message."""

    def drop(self) -> bool:
        """Forget a message that was begun; True if there was one."""


class Port(Protocol):
    """What a `Talk` may do with an open port (pyserial's own names). `timeout`: seconds a read waits."""

    timeout: float | None

    def read(self, size: int = 1) -> bytes: ...

    def write(self, data: bytes) -> int | None: ...

    def flush(self) -> None: ...

    def reset_input_buffer(self) -> None: ...


class Talk(Protocol):
    """A conversation with a device that must be asked."""

    def run(self, port: Port, take: Callable[[bytes | Refusal], None], stopping: threading.Event) -> None:
        """Ask and hand over every answer until `stopping` is set.

        Raises:
            SensorError: the device does not answer, with the remedy. The port is then closed and opened again.
        """


class Poll(Protocol):
    """Asks a device over the network, again and again."""

    def run(self, take: Callable[[bytes | Refusal], None], stopping: threading.Event, clock: Clock) -> None:
        """Ask and hand over every answer until `stopping` is set; `clock` says how long to wait.

        Raises:
            SensorError: the device does not answer, with the remedy. It is asked again after a pause.
        """


@runtime_checkable
class CatchesUp(Talk, Protocol):
    """A `Talk` that also fetches what the device kept while nobody listened. Its source sets `newest`: UTC seconds of
    the newest reading there is of it, None where there is none."""

    newest: Callable[[], float | None]


@dataclass(frozen=True, slots=True)
class DriverSpec:
    """One driver.

    `decoder` builds its decoder and raises ConfigError. `options`: the struct its options are read into; `decoder`,
    `framer` and `talk` find it in `sensor.options` through `options_of`; `talk` gives None where the options say that
    the device sends by itself. `binary`: recordings are raw bytes or hex.
    `path`: where devices that push send to. `poll`: how a device on the network is asked.
    `maps`: the configuration must say what values mean (`map`). `pressure` and `stamps` declare what the values are.
    `baud`: what such devices use unless told otherwise. `timed`: every message carries its own time, so a broker may
    keep them while the agent is away.

    Where several sensors may share a port, `place` says the port's settings, which must be the same, and the device's
    address, which must not, both in words; and `source` builds the source itself: its third argument holds what the
    sources of one configuration share. `files`: options that name a file where their value has a dot in
    it. `needs`: options without which there is no sensor, as an example in TOML.
    """

    name: str
    transport: Transport
    decoder: Callable[[Sensor], Decoder]
    help: str
    options: type[Options] = Options
    framer: Callable[[Sensor], Framer] = field(default=lambda sensor: Lines(sensor.max_message_bytes))
    talk: Callable[[Sensor], Talk | None] | None = None
    binary: bool = False
    maps: bool = False
    pressure: Pressure = Pressure.NONE
    stamps: str = "on arrival"
    baud: int = 9600
    place: Callable[[Sensor], tuple[str, str]] | None = None
    source: Callable[[Intake, Clock, dict[str, Any]], OpenSource] | None = None
    files: tuple[str, ...] = ()
    needs: str = ""
    path: Callable[[Sensor], str] = field(default=lambda sensor: "/")
    poll: Callable[[Sensor], Poll] | None = None
    timed: bool = False


def options_of(sensor: Sensor, kind: type[T]) -> T:
    """A sensor's own options as its driver's struct.

    Raises:
        ConfigError: an unknown option (with the nearest name), or a value of the wrong type.
    """
    from edge_agent.config_values import nearest, type_problem  # late: the configuration reads the drivers

    fields = {f.name: f for f in msgspec.structs.fields(kind)}
    where = f'sensor "{sensor.name}"'
    for name, value in sensor.options.items():
        if name not in fields:
            raise ConfigError(f'{where}: unknown option "{name[:60]}"{nearest(name, list(fields))}')
        if problem := type_problem(fields[name].type, value, strict=False):
            raise ConfigError(f'{where}: option "{name}" {problem}')
    if missing := [name for name, field in fields.items() if field.required and name not in sensor.options]:
        raise ConfigError(f'{where}: missing option "{missing[0]}": docs/drivers.md says what it may be')
    try:
        return msgspec.convert(dict(sensor.options), kind, strict=False)
    except msgspec.ValidationError as error:
        raise ConfigError(f"{where}: options: {error}") from None


PLACE = ("latitude", "longitude", "elevation_m", "timezone")


def at_station(sensor: Sensor, kind: type[Options], station: Station) -> Sensor:
    """The sensor with those options of `kind` that say where it stands taken from its station, unless it has them."""
    known = [f.name for f in msgspec.structs.fields(kind)]
    place = {name: getattr(station, name) for name in PLACE if name in known}
    return msgspec.structs.replace(sensor, options={**place, **sensor.options})


def options_from(words: list[str]) -> dict[str, Any]:
    """`KEY=VALUE` words as options. Raises ConfigError: a word without `=`."""
    found: dict[str, Any] = {}
    for word in words:
        key, equals, value = word.partition("=")
        if not equals or not key:
            raise ConfigError(f"--option {word}: write KEY=VALUE, as in --option elevation_m=408")
        found[key] = value
    return found
