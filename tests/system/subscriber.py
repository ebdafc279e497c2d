"""A subscriber of another make: the `mosquitto_sub` binary, and what it printed."""

from __future__ import annotations

import json
import shutil
import subprocess
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType

import pytest

from edge_agent.publish.topics import kind_of

PATIENCE_S = 20.0
READY = "ready"


@dataclass(frozen=True, slots=True)
class Received:
    """One message as it came over the wire. `stale`: it was waiting at the broker, retained; `expiry_s`: 0 = none."""

    stale: bool
    qos: int
    expiry_s: int
    content_type: str
    topic: str
    payload: bytes


def of_kind(messages: list[Received], *kinds: str) -> list[dict[str, object]]:
    """Observations among the messages as they came, each id once."""
    found = [json.loads(m.payload) for m in messages if kind_of(m.topic) in kinds]
    return list({payload["id"]: payload for payload in found}.values())


def wait_for(condition: Callable[[], object], what: str, meanwhile: Callable[[], object] = lambda: None) -> None:
    """Until a condition holds; fails the test with `what` was awaited if it does not in time."""
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        if time.monotonic() > deadline:
            pytest.fail(f"waited in vain for {what}")
        meanwhile()
        time.sleep(0.01)


class Subscriber:
    """Listens to `topic` in the background from `with` on, once it is known that the broker has taken it on."""

    def __init__(self, host: str, port: int, *options: str, topic: str = "wx/v1/#", version: str = "mqttv5") -> None:
        executable = shutil.which("mosquitto_sub")
        if executable is None:
            pytest.skip("mosquitto_sub is not installed (apt-get install mosquitto-clients)")
        self._where = ["-h", host, "-p", str(port), "-V", version, *options]
        form = r"%r\t%q\t%E\t%C\t%t\t%p"
        self._command = [executable, *self._where, "-q", "1", "-t", topic, "-t", READY, "-F", form]
        self._all: list[Received] = []

    @property
    def received(self) -> list[Received]:
        return [m for m in self._all if m.topic != READY]

    def on(self, topic: str) -> list[Received]:
        """What came on exactly this topic."""
        return [m for m in self._all if m.topic == topic]

    def words(self, topic: str) -> list[str]:
        """The payloads on a topic, as text."""
        return [m.payload.decode() for m in self.on(topic)]

    def __enter__(self) -> Subscriber:
        self._process = subprocess.Popen(self._command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        self._reader = threading.Thread(target=self._read)
        self._reader.start()
        wait_for(lambda: self.on(READY), "the subscriber to be taken on", self._announce)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.wait()
        self._reader.join()
        assert self._process.stdout is not None
        self._process.stdout.close()

    def _announce(self) -> None:
        publish = shutil.which("mosquitto_pub")
        assert publish is not None
        subprocess.run([publish, *self._where, "-t", READY, "-m", "now"], check=False, capture_output=True)

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            parts = line.rstrip(b"\n").split(b"\t", 5)
            if len(parts) == 6:
                retain, qos, expiry, content, topic, payload = parts
                self._all.append(
                    Received(retain == b"1", int(qos), int(expiry or 0), content.decode(), topic.decode(), payload)
                )


def retained(host: str, port: int, topic: str = "wx/v1/#", options: tuple[str, ...] = ()) -> dict[str, Received]:
    """What the broker holds for whoever comes now."""
    with Subscriber(host, port, *options, topic=topic) as late:
        return {m.topic: m for m in late.received if m.stale}
