"""One connection to a broker, from CONNECT to its end, driven by the one thread that owns it.

Nothing survives a session: what it could not get acknowledged is sent again by the next one, from the store and from
the kept messages. That costs duplicates, which receivers drop by `id`, and never a message.
"""

from __future__ import annotations

import math
import select
import socket
import ssl
import time
from collections import deque
from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any, Literal

from paho.mqtt.client import MQTT_LOG_ERR, Client, ConnectFlags, DisconnectFlags
from paho.mqtt.enums import CallbackAPIVersion, LogLevel, MQTTErrorCode, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from edge_agent.clock import Clock
from edge_agent.config import Mqtt
from edge_agent.mqtt_client import BoundedClient
from edge_agent.publish import advice
from edge_agent.publish.policy import Waits
from edge_agent.publish.topics import JSON
from edge_agent.wire import SESSION_TAKEN_OVER, UNSUPPORTED_VERSION, V5

MAX_IN_FLIGHT = 100  # publications without a PUBACK; a broker's receive maximum lowers it
MAX_IN_FLIGHT_311 = 20  # 3.1.1 brokers cannot say how many they bear
SESSION_EXPIRY_S = 3600
UNLIMITED = 0xFFFF_FFFF
MAX_INBOUND = 128 * 1024  # bytes of a packet from the broker: answers, of which none is long

End = Literal["refused-version", "silent", "refused", "taken-over", "lost"]


@dataclass(frozen=True, slots=True)
class Message:
    """What is published. `expires`: UTC seconds after which it is of no use, None = never."""

    topic: str
    payload: bytes
    retain: bool = False
    content_type: str = JSON
    expires: float | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one publication. `reason`: a stable word for why the broker did not take it, empty if it did;
    `hopeless`: sending it again would not help; `advice`: what to do, in words."""

    message: Message
    token: Hashable | None
    reason: str = ""
    hopeless: bool = False
    advice: str = ""


class Session:
    """One connection. `connected` from the broker's consent on, `closed` once it is over, and then `end` and `detail`
    say why. `outcomes` collects what became of publications; whoever reads it empties it."""

    def __init__(self, settings: Mqtt, client_id: str, version: str, will: Message, clock: Clock, waits: Waits) -> None:
        self.connected = False
        self.closed = False
        self.end: End = "lost"
        self.detail = ""
        self.outcomes: deque[Outcome] = deque()
        self._settings, self._client_id, self._version = settings, client_id, version
        self._clock, self._waits = clock, waits
        self._window, self._largest = MAX_IN_FLIGHT if version == V5 else MAX_IN_FLIGHT_311, math.inf
        self._kept: dict[str, Message] = {}
        self._waiting: deque[tuple[Message, Hashable | None]] = deque()
        self._unacked: dict[int, tuple[Message, Hashable | None, float]] = {}
        self._deadline = 0.0
        self._logged = ""
        self._client = self._make_client(will)

    def open(self) -> None:
        """Connect and send CONNECT; blocks for as long as the network takes, at most a few seconds.

        Raises:
            ConfigError: the password or a TLS file cannot be read.
            OSError: the network, the host or TLS refuses.
        """
        self._client.introduce(self._settings)
        where = self._settings.host, self._settings.port, self._settings.keepalive_s
        if self._version == V5:
            properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
            properties.SessionExpiryInterval = SESSION_EXPIRY_S
            properties.MaximumPacketSize = MAX_INBOUND
            self._client.connect(*where, clean_start=False, properties=properties)
        else:
            self._client.connect(*where)
        self._deadline = time.monotonic() + self._waits.answer

    def publish(self, message: Message, token: Hashable | None = None) -> None:
        """Send as soon as there is room. With a `token`: in order, its outcome tells of it. Without: a newer message on
        the same topic may take its place while it waits."""
        if token is None:
            self._kept[message.topic] = message
        else:
            self._waiting.append((message, token))

    @property
    def idle(self) -> bool:
        """Nothing waits and everything is acknowledged."""
        return not (self._kept or self._waiting or self._unacked)

    def clear_waiting(self) -> None:
        """Forget what has not been sent yet."""
        self._kept.clear()
        self._waiting.clear()

    def turn(self, wake: socket.socket, timeout_s: float) -> None:
        """Send, receive, keep alive; returns after `timeout_s`, sooner if anything happens or `wake` is written to."""
        sock = self._client.socket()
        if sock is None:
            self._finish()
            return
        self._fill()
        pending = isinstance(sock, ssl.SSLSocket) and sock.pending() > 0
        writes = [sock] if self._client.want_write() else []
        try:
            readable, writable, _ = select.select([sock, wake], writes, [], 0 if pending else timeout_s)
        except (OSError, ValueError):  # the socket was closed while sending
            self._finish()
            return
        if wake in readable:
            wake.recv(4096)
        if pending or sock in readable:
            self._client.loop_read()
        if sock in writable:
            self._client.loop_write()
        self._client.loop_misc()
        self._check_patience()

    def disconnect(self) -> None:
        """End it in good order: the broker does not publish the last will."""
        self._client.disconnect()
        if self._client.want_write():
            self._client.loop_write()

    def abandon(self) -> None:
        """Let go of the socket, whatever state it is in."""
        sock = self._client.socket()
        if sock is not None:
            sock.close()
        self.closed = True

    @property
    def in_flight(self) -> int:
        """Publications without a PUBACK."""
        return len(self._unacked)

    def _make_client(self, will: Message) -> BoundedClient:
        old = self._version != V5
        client = BoundedClient(
            CallbackAPIVersion.VERSION2,
            largest=MAX_INBOUND,
            client_id=self._client_id,
            protocol=MQTTProtocolVersion.MQTTv311 if old else MQTTProtocolVersion.MQTTv5,
            clean_session=True if old else None,  # nothing of use is in our session, and 3.1.1 would keep it for ever
            reconnect_on_failure=False,
        )
        client.connect_timeout = self._waits.connect
        client.max_inflight_messages = 0  # the window is kept here, where messages that wait can still be replaced
        client.on_connect, client.on_disconnect = self._on_connect, self._on_disconnect
        client.on_publish, client.on_log = self._on_publish, self._on_log
        properties = None
        if not old:
            properties = Properties(PacketTypes.WILLMESSAGE)  # type: ignore[no-untyped-call]
            properties.ContentType = will.content_type
        client.will_set(will.topic, will.payload, qos=1, retain=will.retain, properties=properties)
        return client

    def _fill(self) -> None:
        while self.connected and not self.closed and len(self._unacked) < self._window:
            if self._kept:
                self._send(self._kept.pop(next(iter(self._kept))), None)
            elif self._waiting:
                self._send(*self._waiting.popleft())
            else:
                return

    def _send(self, message: Message, token: Hashable | None) -> None:
        left = None if message.expires is None else message.expires - self._clock.now()
        if left is not None and left <= 0:
            return
        size = len(message.topic.encode()) + len(message.payload) + len(message.content_type) + 40  # header, properties
        if size > self._largest:
            self._refused(message, token, advice.PACKET_TOO_LARGE, "Packet too large")
            return
        properties = None
        if self._version == V5:
            properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
            properties.ContentType = message.content_type
            properties.PayloadFormatIndicator = 1
            if left is not None:
                properties.MessageExpiryInterval = min(max(math.ceil(self._clock.wall(left)), 1), UNLIMITED)
        info = self._client.publish(message.topic, message.payload, 1, message.retain, properties)
        if info.rc is MQTTErrorCode.MQTT_ERR_SUCCESS:
            self._unacked[info.mid] = (message, token, time.monotonic())

    def _check_patience(self) -> None:
        now = time.monotonic()
        where = f"{self._settings.host}:{self._settings.port}"
        if self.closed:
            return
        if not self.connected and now > self._deadline:
            self.end, self.detail = "silent", advice.of_silence(self._settings, self._version, "timed out")
            self.abandon()
        elif self._unacked:
            oldest = next(iter(self._unacked.values()))[2]
            if now - oldest > self._waits.ack:
                self.detail = f"{where}: a message was not acknowledged for {self._waits.ack:.0f} s: connecting anew"
                self.abandon()

    def _finish(self) -> None:
        """The socket is gone: say why, unless the broker did."""
        if not self.closed:
            self.closed = True
            where = f"{self._settings.host}:{self._settings.port}"
            if not self.connected:
                self.end, self.detail = "silent", advice.of_silence(self._settings, self._version, self._logged)
            elif not self.detail:
                self.detail = f"{where}: connection lost" + (f" ({self._logged})" if self._logged else "")

    def _refused(self, message: Message, token: Hashable | None, code: int, words: str) -> None:
        self.outcomes.append(
            Outcome(
                message,
                token,
                reason=words.lower().replace(" ", "-"),
                hopeless=code in advice.HOPELESS,
                advice=advice.of_puback(code, words, message.topic, self._settings),
            )
        )

    # paho's callbacks, all in the thread that calls `turn`

    def _on_connect(
        self, client: Client, userdata: Any, flags: ConnectFlags, reason: ReasonCode, properties: Properties | None
    ) -> None:
        if reason.is_failure:
            self.closed = True
            self.end = "refused-version" if reason.value == UNSUPPORTED_VERSION else "refused"
            self.detail = advice.of_connack(reason.value, str(reason), self._settings)
            return
        self.connected = True
        self._window = min(self._window, getattr(properties, "ReceiveMaximum", self._window))
        self._largest = getattr(properties, "MaximumPacketSize", math.inf)

    def _on_disconnect(
        self, client: Client, userdata: Any, flags: DisconnectFlags, reason: ReasonCode, properties: Properties | None
    ) -> None:
        if flags.is_disconnect_packet_from_server and not self.closed:
            self.end = "taken-over" if reason.value == SESSION_TAKEN_OVER else "lost"
            self.detail = advice.of_disconnect(reason.value, str(reason), self._settings, self._client_id)
            self.closed = True
        self._finish()

    def _on_publish(
        self, client: Client, userdata: Any, mid: int, reason: ReasonCode, properties: Properties | None
    ) -> None:
        sent = self._unacked.pop(mid, None)
        if sent is None:
            return
        message, token, _ = sent
        if reason.is_failure:
            self._refused(message, token, reason.value, str(reason))
        else:
            self.outcomes.append(Outcome(message, token))

    def _on_log(self, client: Client, userdata: Any, level: int | LogLevel, text: str) -> None:
        if level == MQTT_LOG_ERR:
            self._logged = text[:200]
