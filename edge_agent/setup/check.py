"""Testing an installation before it runs: one line for each part, and what to do where one fails.

Opens what the agent would open, publishes nothing, and changes nothing but bringing an older store up to date.
"""

from __future__ import annotations

import logging
import os
import shutil
import socket
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import click

from edge_agent.clock import Clock, SystemClock, format_time
from edge_agent.config import Config, Mqtt, Sensor, load
from edge_agent.errors import ConfigError, NetworkError, StationcastError, StoreError
from edge_agent.timekeeping.sources import RELEASED
from edge_agent.timekeeping.station_clock import StationClock

PROBE_S = 10.0
LONGEST_PROBE_S = 75.0  # for sensors that say they speak less often
MAX_AT_ONCE = 32
MIN_FREE_MB = 100.0

Check = Callable[[], str]  # says what is fine, or raises what is wrong and what to do


class _Note(Exception):
    """Worth saying, but the agent works all the same."""


def run_checks(config: Path, offline: bool) -> int:
    """Check a configuration, then (unless `offline`) clock, store, bundle, broker and each sensor, all at once.

    Prints one line each: `ok`, `note` or `FAIL`. Returns 1 if anything failed, else 0.
    """
    try:
        found = load(config)
    except ConfigError as error:
        for line in str(error).splitlines():
            click.echo(f"FAIL  {line}")
        return 1
    click.echo(f"ok    {config}: {_summary(found)}")
    if offline:
        return 0
    logging.disable(logging.WARNING)  # what goes wrong is told in the lines below, once
    try:
        return int(_all(dict(_checks(found, SystemClock()))))
    finally:
        logging.disable(logging.NOTSET)


def _all(checks: dict[str, Check]) -> bool:
    """Make all checks at once and print their lines; whether one failed."""
    failed = False
    with ThreadPoolExecutor(min(len(checks), MAX_AT_ONCE)) as pool:
        running = {what: pool.submit(_line, what, check) for what, check in checks.items()}
        for waiting in running.values():
            line = waiting.result()
            failed |= line.startswith("FAIL")
            click.echo(line)
    return failed


def check_clock(clock: Clock) -> str:
    """The device's time, and whether it is kept right."""
    station = StationClock(clock)
    station.look()
    now, state, error_s = clock.now(), station.state(), station.error_s()
    if now < RELEASED:
        raise ConfigError(
            f"it says {format_time(now)}: set it (timedatectl set-ntp true), or add a battery-backed clock"
        )
    if state != "synced":
        bound = "off by an unknown time" if error_s is None else f"within {error_s:.0f} s by {station.known.source}"
        advice = "the agent works and marks its readings so; timedatectl set-ntp true keeps it right"
        limits = "" if error_s is not None else ", and forecasts are persistence until then (`edge-agent clock`)"
        raise _Note(f"{format_time(now)}, {state}, {bound}: {advice}{limits}")
    return f"{format_time(now)}, synced"


def check_store(config: Config) -> str:
    """The file, or where it will be: permitted, of a schema we know, with room to grow."""
    from edge_agent.store import Store

    path = Path(config.store.path)
    folder = next(parent for parent in path.parents if parent.exists())
    there = path if path.exists() else folder
    if not os.access(there, os.W_OK) or not os.access(folder, os.W_OK | os.X_OK):
        raise StoreError(
            f"{there} may not be written: change its owner, or [store] path; check as the agent's own user"
        )
    free_mb = shutil.disk_usage(folder).free / 1e6
    if free_mb < MIN_FREE_MB:
        raise StoreError(f"{folder} has {free_mb:.0f} MB free: make room, or set [store] path to another disk")
    room = f"{free_mb / 1000:.1f} GB free"
    if not path.exists():
        return f"{path} will be made, {room}"
    with Store.open(path) as store:
        return f"{path}, {store.size_mb():.1f} MB, {room}"


def check_bundle(config: Config) -> str:
    """Which bundle the agent would forecast with, found as it finds it: checked, tried on its golden samples, loaded.

    Raises:
        ConfigError: it would not be the configured one, or none.
    """
    from edge_agent.bundle.trial import load_session

    loaded = load_session(config.forecast)
    if loaded.session is None:
        raise ConfigError(f"{loaded.why}. Without a bundle, forecasts are persistence")
    manifest = loaded.session.manifest
    bundle = f"{manifest.name} {manifest.version} ({manifest.precision})"
    if loaded.why:
        raise ConfigError(f"{loaded.why}: {bundle}")
    seen = f", {_in_sight(config)}" if manifest.looks_around else ""
    return f"{bundle}, golden samples right here{seen}"


def _in_sight(config: Config) -> str:
    """How many stations see others, for a bundle that looks at neighbours."""
    from edge_agent.forecast.groups import REACH_KM, groups

    group = groups(config.stations).tolist()
    near = sum(group.count(number) > 1 for number in group)
    return f"sees neighbours: {near} of {len(group)} stations have some within {REACH_KM:g} km"


def check_broker(config: Config, clock: Clock) -> str:
    """Connect as the agent would, with its user, password, TLS and version of MQTT; publish nothing."""
    settings = config.mqtt
    where = f"{settings.host}:{settings.port}{' with TLS' if settings.tls_ca else ''}"
    try:
        refused = _connect(config, settings.protocol, clock)
        old = bool(refused) and settings.protocol == "5" and not _connect(config, "3.1.1", clock)
    except OSError as error:
        raise NetworkError(_why(error, settings, clock)) from None
    if old:
        raise _Note(f"{where} speaks MQTT 3.1.1 only: it works, but forecasts do not expire on the broker")
    if refused:
        raise NetworkError(refused)
    return f"connected to {where}, MQTT {settings.protocol}"


def check_sensor(sensor: Sensor, config: Config) -> str:
    """One message of the sensor, read as the agent would."""
    from edge_agent.sensors import probe

    wait_s = min(max(PROBE_S, 1.25 * (sensor.period_s or 0)), LONGEST_PROBE_S)
    return probe(sensor, config, wait_s)


# --- helpers -----------------------------------------------------------------------------------------------------


def _checks(config: Config, clock: Clock) -> Iterator[tuple[str, Check]]:
    yield "clock", partial(check_clock, clock)
    yield "store", partial(check_store, config)
    yield "bundle", partial(check_bundle, config)
    yield "broker", partial(check_broker, config, clock)
    for sensor in config.sensor:
        yield f"sensor {sensor.name}", partial(check_sensor, sensor, config)
    if not config.sensor:
        yield "sensors", _no_sensor


def _no_sensor() -> str:
    raise ConfigError("there is none: add a [[sensor]]; nothing would be read")


def _line(what: str, check: Check) -> str:
    try:
        return f"ok    {what}: {check()}"
    except _Note as note:
        return f"note  {what}: {note}"
    except StationcastError as error:
        return f"FAIL  {what}: {str(error).removeprefix(what).removeprefix(':').strip()}"


def _summary(config: Config) -> str:
    counts = ((len(config.stations), "station"), (len(config.sensor), "sensor"))
    return ", ".join(f"{n} {word}{'s' if n != 1 else ''}" for n, word in counts)


def _connect(config: Config, version: str, clock: Clock) -> str:
    """One connection from CONNECT to DISCONNECT. Empty if the broker took it; why not, where another version of MQTT
    may help. Raises OSError, ConfigError or NetworkError where none will."""
    from edge_agent.publish.policy import Waits
    from edge_agent.publish.session import Message, Session
    from edge_agent.sensors.mqtt import client_id
    from edge_agent.wire import WIRE

    # A name and a will of its own: the running agent keeps its connection, and subscribers hear of nothing.
    will = Message(f"{WIRE}/{config.stations[0].id}/check", b"")
    session = Session(config.mqtt, client_id(config, "check"), version, will, clock, Waits())
    wake, waker = socket.socketpair()
    with wake, waker:
        try:
            session.open()
            while not (session.connected or session.closed):
                session.turn(wake, 0.2)
            if session.connected:
                session.disconnect()
                return ""
        finally:
            session.abandon()
    if session.end in ("refused-version", "silent"):
        return session.detail
    raise NetworkError(session.detail)


def _why(error: OSError, settings: Mqtt, clock: Clock) -> str:
    from edge_agent.publish.advice import of_error

    if settings.tls_ca and isinstance(error, ConnectionResetError):
        where = f"{settings.host}:{settings.port}"
        return f"{where}: closed during the TLS handshake: is this the broker's TLS port (often 8883)?"
    return of_error(error, settings, clock.now(), clock)
