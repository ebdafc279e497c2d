"""The one UDP listener for devices that broadcast: one an address, however many sensors name it.

A flood costs a bounded share of the processor; who is not allowed is counted and not read.
"""

from __future__ import annotations

import select
import socket
from dataclasses import dataclass

from edge_agent.clock import Clock
from edge_agent.sensors.listen import Listener, Listeners, ListeningSource
from edge_agent.sensors.source import Intake

MAX_DATAGRAM = 65_535


@dataclass(frozen=True, slots=True)
class Limits:
    """`batch` datagrams are taken in a row, then the processor is left to others for `gather_s`. `wait_s`: how soon
    `stop` is heard."""

    batch: int = 50
    gather_s: float = 0.02
    wait_s: float = 0.25


LIMITS = Limits()


def serve(listener: Listener, limits: Limits = LIMITS) -> None:
    """Take datagrams until told to stop. Raises SensorError: the address cannot be had, or is lost."""
    stopping = listener.supervisor.stopping
    with listener.opened(socket.SOCK_DGRAM) as opened:
        while not stopping.is_set():
            if not select.select([opened], [], [], limits.wait_s)[0]:
                continue
            for _ in range(limits.batch):
                try:
                    payload, sender = opened.recvfrom(MAX_DATAGRAM)
                except BlockingIOError:
                    break
                for source in listener.heard_by(sender[0]):
                    source.take(payload)
            stopping.wait(limits.gather_s)


def udp_source(intake: Intake, listeners: Listeners, clock: Clock) -> ListeningSource:
    """The source of one sensor. Raises ConfigError: no address, or an allow-list that says nothing."""
    return ListeningSource(intake, listeners.at(intake, serve), clock)
