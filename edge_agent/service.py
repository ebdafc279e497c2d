"""What the agent tells the service manager that started it: sd_notify(3), one datagram a word.

Says nothing where nobody asked. Never fails and never waits: a manager that does not listen must not stop the agent.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress

FEEDS = 4  # times the watchdog is fed within the time it allows
MAX_STATUS = 200  # characters


def summary(states: Collection[str], connected: bool, mode: str) -> str:
    """The agent in one line. `states`: of its sensors."""
    parts = [f"{sum(state == 'reading' for state in states)} of {len(states)} sensors reading"]
    parts.append("broker connected" if connected else "broker away")
    return "; ".join(parts + ["safe mode"] * (mode == "safe"))


class ServiceManager:
    """The manager behind NOTIFY_SOCKET in `environ`; `watchdog_s`: it ends the agent when it was not fed for so long,
    None = it does not watch (WATCHDOG_USEC, WATCHDOG_PID)."""

    def __init__(self, environ: Mapping[str, str], monotonic: Callable[[], float] = time.monotonic) -> None:
        self._address = _address(environ.get("NOTIFY_SOCKET", ""))
        self.watchdog_s = _watchdog_s(environ) if self._address else None
        self._monotonic = monotonic
        self._feed_at = monotonic()
        self._status = ""

    def ready(self) -> None:
        """The agent works; until then the manager lets nothing start that waits for it."""
        self._send("READY=1")

    def stopping(self) -> None:
        """The agent ends because it was told to."""
        self._send("STOPPING=1")

    def status(self, words: str) -> None:
        """How it is doing, in one line; told where it has changed."""
        words = " ".join(words.split())[:MAX_STATUS]
        if words != self._status:
            self._status = words
            self._send(f"STATUS={words}")

    def feed(self) -> None:
        """The agent got something done. To be called often: as often as needed it is passed on."""
        if self.watchdog_s is not None and (now := self._monotonic()) >= self._feed_at:
            self._feed_at = now + self.watchdog_s / FEEDS
            self._send("WATCHDOG=1")

    def _send(self, words: str) -> None:
        if self._address is None:
            return
        with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as manager:
            manager.sendto(words.encode(), self._address)


def _address(text: str) -> str | None:
    """A path, or a name in the abstract namespace (@); None where there is no such address."""
    return {"/": text, "@": f"\0{text[1:]}"}.get(text[:1])


def _watchdog_s(environ: Mapping[str, str]) -> float | None:
    """The watchdog's patience, if it is meant for this process."""
    if environ.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return None
    try:
        patience_s = int(environ.get("WATCHDOG_USEC", "0")) / 1e6
    except ValueError:
        return None
    return patience_s if patience_s > 0 else None
