"""Bytes and messages in, readings out. One file a protocol; whatever a sensor does, its neighbours and the agent go on.

Never judges a value: that is `quality`. Decoders are pure; opening, retrying and counting stand once, around them.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import msgspec

from edge_agent.clock import Clock, SystemClock
from edge_agent.config import Config, Neighbour, Sensor
from edge_agent.errors import ConfigError, SensorError
from edge_agent.observation import RainState, Reading
from edge_agent.sensors.driver import DriverSpec, Transport, at_station
from edge_agent.sensors.mapping import Decoder
from edge_agent.sensors.registry import DRIVERS, driver
from edge_agent.sensors.source import Emit, Health, Intake, OpenSource, Source
from edge_agent.variables import variable

if TYPE_CHECKING:
    from edge_agent.sensors.listen import Listeners
    from edge_agent.sensors.mqtt import Session, Subscriber

__all__ = [
    "DRIVERS",
    "Decoder",
    "DriverSpec",
    "Emit",
    "Health",
    "Past",
    "Source",
    "open_sources",
    "probe",
    "serial_ports",
]


@dataclass(frozen=True, slots=True)
class Past:
    """What the store knows of the sensors from before. `gauges`: sensor -> (station, gauge) -> its running total at the
    end of the last run. `newest`: sensor -> UTC seconds of its newest reading that was kept, from which its device's
    archive is caught up."""

    gauges: Mapping[str, Mapping[tuple[str, str], RainState]] = field(default_factory=dict)
    newest: Mapping[str, float] = field(default_factory=dict)


def open_sources(config: Config, emit: Emit, clock: Clock, past: Past | None = None) -> list[Source]:
    """One source for each sensor, in the order of the configuration, and then for each neighbour; not started yet.

    `emit(sensor, reading, arrived)` is called from the sources' threads; it returns False if it cannot take a reading.

    Raises:
        ConfigError: a sensor cannot be built: unknown driver, variable or unit, no port or topic.
    """
    from edge_agent.sensors.mqtt import Session, client_id

    session = Session(client_id(config, "sensors"))
    return list(_build(config, config.sensor, emit, clock, session, past or Past(), config.neighbour))


def probe(sensor: Sensor, config: Config, timeout_s: float) -> str:
    """Open a sensor, wait for one message and say what came. A retained message is no sign of life.

    Raises:
        SensorError: it cannot be opened, nothing came, or nothing that came can be used; with the remedy.
        ConfigError: as `open_sources`.
    """
    from edge_agent.sensors.mqtt import Session, client_id

    came: list[Reading] = []
    done = threading.Event()

    def emit(_: Sensor, reading: Reading, arrived: float) -> bool:
        came.append(reading)
        done.set()
        return True

    # a name of its own, so that the running agent keeps its connection
    session = Session(client_id(config, f"check-{threading.get_native_id()}"), expiry_s=0)
    clock = SystemClock()
    past = Past(newest={sensor.name: clock.now()})  # a device's archive is no sign of life either
    (source,) = _build(config, [sensor], emit, clock, session, past)
    place = sensor.port or sensor.topic or sensor.listen or sensor.host
    source.start()
    try:
        for _ in range(max(int(timeout_s / 0.05), 1)):
            if done.wait(0.05) or source.problem or source.health().rejected.get("first-total"):
                break
        health, problem, complaint = source.health(), source.problem, source.complaint
    finally:
        source.stop()
    if came:
        return f"{_words(came[0])} ({sensor.driver} on {place})"
    if health.rejected.get("first-total"):
        return f"a running total came; rain is known from the next one on ({sensor.driver} on {place})"
    if problem:
        raise SensorError(f"sensor {sensor.name}: {problem}")
    if health.rejected:
        counts = ", ".join(f"{n} x {reason}" for reason, n in sorted(health.rejected.items()))
        raise SensorError(f"sensor {sensor.name}: what came on {place} cannot be used: {counts}. The last: {complaint}")
    remedy = f"is {sensor.baud or driver(sensor).baud} baud right?" if sensor.port else "does it send there?"
    raise SensorError(
        f"sensor {sensor.name}: nothing came on {place} in {timeout_s:.0f} s. Is it powered, and {remedy}"
    )


def serial_ports() -> list[tuple[str, str]]:
    """Serial ports of this machine: the path that survives replugging where there is one, and what is said to be
    there."""
    from edge_agent.sensors.serial import serial_ports

    return serial_ports()


def _build(
    config: Config,
    sensors: Sequence[Sensor],
    emit: Emit,
    clock: Clock,
    session: Session,
    past: Past,
    neighbours: Sequence[Neighbour] = (),
) -> list[OpenSource]:
    from edge_agent.sensors.listen import Listeners
    from edge_agent.sensors.mqtt import MqttSource, Subscriber
    from edge_agent.sensors.neighbour import LastObservation, as_sensor

    subscriber, listeners = Subscriber(config.mqtt, session, clock), Listeners(clock)
    stations = {station.id: station for station in config.stations}
    shared: dict[str, Any] = {}
    sources: list[OpenSource] = []
    for sensor in sensors:
        spec, mine = driver(sensor), config.station_of(sensor)
        if spec.source is None:
            sensor = msgspec.structs.replace(sensor, baud=sensor.baud or spec.baud)
        if mine in stations:
            sensor = at_station(sensor, spec.options, stations[mine])
        stood, newest = _stood(mine, past.gauges.get(sensor.name, {})), past.newest.get(sensor.name)
        intake = Intake(sensor, spec.decoder(sensor), emit, clock, list(stations), stood, newest=newest)
        sources.append(_source(spec, intake, clock, subscriber, listeners, shared))
    for neighbour in neighbours:
        intake = Intake(as_sensor(neighbour), LastObservation(neighbour.id), emit, clock, [neighbour.id])
        sources.append(MqttSource(intake, subscriber, clock, neighbour=True))
    return sources


def _stood(mine: str | None, gauges: Mapping[tuple[str, str], RainState]) -> dict[tuple[str | None, str], RainState]:
    """A sensor's gauges by the station that its messages name; `mine` where they name none."""
    return {
        (station if mine is None else None, gauge): state
        for (station, gauge), state in gauges.items()
        if mine in (None, station)
    }


def _source(
    spec: DriverSpec,
    intake: Intake,
    clock: Clock,
    subscriber: Subscriber,
    listeners: Listeners,
    shared: dict[str, Any],
) -> OpenSource:
    """What carries a sensor's messages. Raises ConfigError as `open_sources`."""
    from edge_agent.sensors.mqtt import MqttSource
    from edge_agent.sensors.serial import SerialSource

    sensor = intake.sensor
    if spec.source is not None:
        return spec.source(intake, clock, shared)
    if spec.transport is Transport.MQTT:
        return MqttSource(intake, subscriber, clock, timed=spec.timed)
    if spec.transport is Transport.SERIAL:
        talk = spec.talk(sensor) if spec.talk is not None else None
        return SerialSource(intake, clock, framer=lambda: spec.framer(sensor), talk=talk)
    if spec.transport is Transport.HTTP:
        from edge_agent.sensors.http import HttpSource

        return HttpSource(intake, listeners, clock, spec.path(sensor))
    if spec.transport is Transport.UDP:
        from edge_agent.sensors.udp import udp_source

        return udp_source(intake, listeners, clock)
    if spec.poll is not None:
        from edge_agent.sensors.poll import PollSource

        return PollSource(intake, spec.poll(sensor), clock)
    raise ConfigError(f'sensor "{sensor.name}": nothing carries {spec.transport} yet')


def _words(reading: Reading) -> str:
    parts = [
        f"{name} {value:.{variable(name).decimals}f} {variable(name).unit}" for name, value in reading.values.items()
    ]
    return (f"station {reading.station}: " if reading.station else "") + ", ".join(parts)
