"""A broker of the demo's own: Mosquitto if it is installed, else an embedded one. Only on the loopback interface, on a
free port, keeping nothing. Never touches a broker that is already running on this machine.
"""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from edge_agent.errors import NetworkError

HOST = "127.0.0.1"
START_S = 10.0
ADMIN_PATHS = ("/usr/sbin", "/usr/local/sbin")  # where Debian puts daemons; not on every user's PATH


@dataclass(frozen=True, slots=True)
class Broker:
    """Where a broker listens, and the newest `protocol` it speaks: "5" or "3.1.1"."""

    name: str
    port: int
    protocol: str
    host: str = HOST


def program(name: str) -> str | None:
    """Full path of an installed program, also of a daemon; None if it is not installed."""
    return shutil.which(name, path=os.pathsep.join((os.environ.get("PATH", os.defpath), *ADMIN_PATHS)))


@contextmanager
def broker(folder: Path) -> Iterator[Broker]:
    """A running broker, stopped at the end. `folder`: for its configuration and log.

    Raises:
        NetworkError: neither Mosquitto nor the embedded broker is installed, or it does not start.
    """
    executable = program("mosquitto")
    with _mosquitto(executable, folder) if executable else _embedded() as running:
        yield running


@contextmanager
def _mosquitto(executable: str, folder: Path) -> Iterator[Broker]:
    port, log = free_port(), folder / "mosquitto.log"
    config = folder / "mosquitto.conf"
    config.write_text(f"listener {port} {HOST}\nallow_anonymous true\npersistence false\nlog_dest stderr\n")
    with log.open("wb") as out:
        # A session of its own: Ctrl-C on the terminal is for the demo, which then stops the broker last.
        process = subprocess.Popen([executable, "-c", str(config)], stdout=out, stderr=out, start_new_session=True)
    try:
        deadline = time.monotonic() + START_S
        while not _listens(port):
            if process.poll() is not None or time.monotonic() > deadline:
                raise NetworkError(f"{executable} did not start: {log.read_text(errors='replace')[-500:].strip()}")
            time.sleep(0.02)
        yield Broker("Mosquitto", port, "5")
    finally:
        end(process)


def end(process: subprocess.Popen[bytes]) -> None:
    """End a process, by force where it does not heed."""
    process.terminate()
    try:
        process.wait(timeout=5)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


@contextmanager
def _embedded() -> Iterator[Broker]:
    """The broker of the `demo` extra, on an event loop in a thread of its own."""
    try:
        from amqtt.broker import Broker as Server  # type: ignore[import-untyped]
    except ImportError:
        remedy = (
            "install mosquitto (sudo apt-get install mosquitto), or the demo extra (pip install 'stationcast[demo]')"
        )
        raise NetworkError(f"there is no broker for the demo: {remedy}") from None
    for library in ("amqtt", "transitions"):
        logging.getLogger(library).setLevel(logging.CRITICAL)  # it logs each disconnection as an error
    port = free_port()
    config = {
        "listeners": {"default": {"type": "tcp", "bind": f"{HOST}:{port}"}},
        "plugins": {"amqtt.plugins.authentication.AnonymousAuthPlugin": {"allow_anonymous": True}},
    }
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="embedded broker", daemon=True)
    thread.start()
    server = Server(config, loop)
    try:
        asyncio.run_coroutine_threadsafe(server.start(), loop).result(START_S)
        yield Broker("embedded broker (amqtt)", port, "3.1.1")
    except TimeoutError:
        raise NetworkError("the embedded broker did not start: install mosquitto instead") from None
    finally:
        asyncio.run_coroutine_threadsafe(_cancel_all(), loop).result(START_S)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(START_S)
        loop.close()


async def _cancel_all() -> None:
    """End everything on this loop. The broker's own shutdown waits seconds for tasks that never end by themselves."""
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    if tasks:
        await asyncio.wait(tasks, timeout=1.0)


def free_port() -> int:
    """A port of the loopback interface that nothing listens on."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(0.5)
        return probe.connect_ex((HOST, port)) == 0
