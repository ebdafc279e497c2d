"""Bytes and messages in, readings out. One file a protocol; whatever a sensor does, its neighbours and the agent go on.

Never judges a value: that is `quality`. Decoders are pure; opening, retrying and counting stand once, around them.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING

import msgspec

from edge_agent.clock import Clock, SystemClock
from edge_agent.config import Config, Neighbour, Sensor
from edge_agent.errors import ConfigError, SensorError
from edge_agent.observation import Reading
from edge_agent.sensors.driver import DriverSpec, Transport
from edge_agent.sensors.mapping import Decoder
from edge_agent.sensors.registry import DRIVERS, driver
from edge_agent.sensors.source import Emit, Health, Intake, Source
from edge_agent.variables import variable

if TYPE_CHECKING:
    from edge_agent.sensors.mqtt import MqttSource, Session, Subscriber
    from edge_agent.sensors.serial import SerialSource

    AnySource = SerialSource | MqttSource

__all__ = ["DRIVERS", "Decoder", "DriverSpec", "Emit", "Health", "Source", "open_sources", "probe", "serial_ports"]


def open_sources(config: Config, emit: Emit, clock: Clock) -> list[Source]:
    """One source for each sensor, in the order of the configuration, and then for each neighbour; not started yet.

    `emit(sensor, reading, arrived)` is called from the sources' threads; it returns False if it cannot take a reading.

    Raises:
        ConfigError: a sensor cannot be built: unknown driver, variable or unit, no port or topic.
    """
    from edge_agent.sensors.mqtt import Session, client_id

    return list(_build(config, config.sensor, emit, clock, Session(client_id(config, "sensors")), config.neighbour))


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
    (source,) = _build(config, [sensor], emit, SystemClock(), session)
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
    neighbours: Sequence[Neighbour] = (),
) -> list[AnySource]:
    from edge_agent.sensors.mqtt import MqttSource, Subscriber
    from edge_agent.sensors.neighbour import LastObservation, as_sensor

    subscriber = Subscriber(config.mqtt, session, clock)
    stations = [station.id for station in config.stations]
    sources = [_source(sensor, stations, emit, clock, subscriber) for sensor in sensors]
    for neighbour in neighbours:
        intake = Intake(as_sensor(neighbour), LastObservation(neighbour.id), emit, clock, [neighbour.id])
        sources.append(MqttSource(intake, subscriber, clock, neighbour=True))
    return sources


def _source(sensor: Sensor, stations: Sequence[str], emit: Emit, clock: Clock, subscriber: Subscriber) -> AnySource:
    from edge_agent.sensors.mqtt import MqttSource
    from edge_agent.sensors.serial import SerialSource

    spec = driver(sensor)
    sensor = msgspec.structs.replace(sensor, baud=sensor.baud or spec.baud)
    intake = Intake(sensor, spec.decoder(sensor), emit, clock, stations)
    if spec.transport is Transport.MQTT:
        return MqttSource(intake, subscriber, clock)
    if spec.transport is Transport.SERIAL:
        talk = spec.talk(sensor) if spec.talk is not None else None
        return SerialSource(intake, clock, framer=lambda: spec.framer(sensor), talk=talk)
    raise ConfigError(f'sensor "{sensor.name}": nothing carries {spec.transport} yet')


def _words(reading: Reading) -> str:
    parts = [
        f"{name} {value:.{variable(name).decimals}f} {variable(name).unit}" for name, value in reading.values.items()
    ]
    return (f"station {reading.station}: " if reading.station else "") + ", ".join(parts)
