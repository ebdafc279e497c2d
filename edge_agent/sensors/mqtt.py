"""The one subscriber for all MQTT sensors: one connection to the configured broker, one thread, messages by topic.

Never publishes, never reads the agent's own topics, never takes what a broker kept for a new reading.
"""

from __future__ import annotations

import logging
import socket
import ssl
import time
import zlib
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from paho.mqtt.client import MQTT_ERR_SUCCESS, Client, MQTTMessage, topic_matches_sub
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.subscribeoptions import SubscribeOptions

from edge_agent.clock import Clock, format_time
from edge_agent.config import Config, Mqtt
from edge_agent.errors import ConfigError, NetworkError
from edge_agent.mqtt_client import BoundedClient
from edge_agent.sensors.source import Health, Intake
from edge_agent.sensors.supervisor import Pauses, Supervisor, Users
from edge_agent.wire import SESSION_TAKEN_OVER, TAKEN_OVER_WAIT_S, UNSUPPORTED_VERSION, V5, WIRE, VersionChoice

log = logging.getLogger(__name__)

STATION = "{station}"
MAX_PACKET = 4 * 1024 * 1024  # bytes; with MQTT 5 the broker keeps larger messages to itself
_LOOP_S = 0.25  # how soon `stop` is heard
_ANSWER_S = 5.0  # real seconds a broker may take to answer; some say nothing to a version they do not know
_LASTING_S = 60.0  # a connection that stood so long was a good one; a message is no proof: some brokers keep one for us
_QUIET_S = 900.0
_OF_THE_CLOCK = (9, 10)  # OpenSSL's verification results for a certificate that is not valid yet, or no more


@dataclass(frozen=True, slots=True)
class Session:
    """How the subscriber appears to the broker. `expiry_s`: how long the broker keeps messages for it while it is away;
    0 = not at all."""

    client_id: str
    expiry_s: int = 86_400


class Subscriber:
    """The connection. Sources join before it starts; it runs from the first start to the last stop."""

    def __init__(self, mqtt: Mqtt, session: Session, clock: Clock, pauses: Pauses | None = None) -> None:
        self._mqtt, self._session, self._clock = mqtt, session, clock
        self._choice = VersionChoice(mqtt.protocol)
        self._routes: dict[str, list[MqttSource]] = defaultdict(list)
        self._refused: dict[str, str] = {}
        self._awaited: dict[int, str] = {}  # subscriptions under way: message id -> filter
        self._ended = ""  # what the broker said when it ended or refused the connection
        self._answered = self._unsupported = self._taken_over = False
        self.supervisor = Supervisor("mqtt sensors", self._work, clock, self._bug, pauses)
        self.users = Users(self.supervisor)

    def join(self, source: MqttSource) -> None:
        self._routes[source.filter].append(source)

    def refusal(self, topic: str) -> str:
        """Why the broker does not let us read a topic, empty if it does."""
        return self._refused.get(topic, "")

    # --- the thread ---

    def _work(self) -> None:
        """One connection; at once a second one where the broker says that it needs another version of MQTT. Raises as
        `_converse`."""
        try:
            self._converse()
        except NetworkError:
            if not (self._unsupported and self._choice.refused()):
                raise
            log.info("mqtt sensors: the broker speaks MQTT %s only", self._choice.current)
            self._converse()

    def _converse(self) -> None:
        """One connection, from its beginning to its end. Raises NetworkError or ConfigError with the remedy."""
        self._ended = ""
        self._answered = self._unsupported = self._taken_over = False
        self._awaited.clear()
        client = self._client()
        where = f"broker {self._mqtt.host}:{self._mqtt.port}"
        try:
            self._connect(client)
            began, asked = self._clock.monotonic(), time.monotonic()
            while not self.supervisor.stopping.is_set():
                if client.socket() is None or client.loop(_LOOP_S) != MQTT_ERR_SUCCESS:
                    retry_s = TAKEN_OVER_WAIT_S if self._taken_over else 0.0
                    why = self._ended or _too_large(client.oversize) or self._unanswered()
                    raise NetworkError(f"{where} {why}", retry_s=retry_s)
                if not self._answered and time.monotonic() - asked > _ANSWER_S:
                    raise NetworkError(f"{where} {self._unanswered()}")
                if self._clock.monotonic() - began > _LASTING_S:
                    self.supervisor.progress()
        except OSError as error:
            raise NetworkError(f"{where} {_why(error, self._clock)}") from None
        finally:
            client.disconnect()

    def _client(self) -> BoundedClient:
        mqtt, modern = self._mqtt, self._modern
        client = BoundedClient(
            CallbackAPIVersion.VERSION2,
            self._session.client_id,
            largest=MAX_PACKET,
            clean_session=None if modern else self._session.expiry_s == 0,
            protocol=MQTTProtocolVersion.MQTTv5 if modern else MQTTProtocolVersion.MQTTv311,
        )
        client.on_connect = self._on_connect
        client.on_subscribe = self._on_subscribe
        client.on_disconnect = self._on_disconnect
        client.on_message = self._on_message
        client.introduce(mqtt)
        return client

    def _connect(self, client: Client) -> None:
        mqtt = self._mqtt
        if not self._modern:
            client.connect(mqtt.host, mqtt.port, mqtt.keepalive_s)
            return
        properties = _properties(PacketTypes.CONNECT)
        properties.SessionExpiryInterval = self._session.expiry_s
        properties.MaximumPacketSize = MAX_PACKET
        start = self._session.expiry_s == 0
        client.connect(mqtt.host, mqtt.port, mqtt.keepalive_s, clean_start=start, properties=properties)

    @property
    def _modern(self) -> bool:
        return self._choice.current == V5

    def _unanswered(self) -> str:
        if self._answered:
            name = self._session.client_id
            return f'closed the connection. Is it being restarted, or does another client call itself "{name}" too?'
        hint = ""
        if self._choice.closed_early():
            hint = f" Trying MQTT {self._choice.current} next."
        elif self._modern:
            hint = ' If it speaks only MQTT 3.1.1, set protocol = "3.1.1".'
        return f"does not answer.{hint}"

    def _on_connect(self, client: Client, userdata: Any, flags: Any, reason: Any, properties: Any) -> None:
        self._answered = True
        if reason.is_failure:
            self._unsupported = reason.value == UNSUPPORTED_VERSION
            self._ended = f"refuses us: {reason}. {_remedy(str(reason))}".strip()
            return
        self._choice.accepted()
        self._refused = {}
        numbered = self._modern and getattr(properties, "SubscriptionIdentifierAvailable", 1) == 1
        for topic, sources in self._routes.items():
            # what the broker keeps for us is only of use if it says when it was measured
            qos = 1 if all(source.has_time for source in sources) else 0
            own: Any = None
            if numbered:
                own = _properties(PacketTypes.SUBSCRIBE)
                own.SubscriptionIdentifier = _identifier(topic)
            if self._modern:
                _, mid = client.subscribe(topic, options=SubscribeOptions(qos=qos), properties=own)
            else:
                _, mid = client.subscribe(topic, qos)
            if mid is not None:
                self._awaited[mid] = topic

    def _on_subscribe(self, client: Client, userdata: Any, mid: int, reasons: Sequence[Any], properties: Any) -> None:
        topic = self._awaited.pop(mid, "")
        for reason in reasons:
            if reason.is_failure:
                self._refused |= {
                    topic: f'The broker does not let us read "{topic}" ({reason}). Check its access rules.'
                }
                log.warning("mqtt sensors: %s", self._refused[topic])
        if not self._awaited:
            self.supervisor.opened()

    def _on_disconnect(self, client: Client, userdata: Any, flags: Any, reason: Any, properties: Any) -> None:
        if flags.is_disconnect_packet_from_server:
            self._taken_over = reason.value == SESSION_TAKEN_OVER
            self._ended = f"ended the connection: {reason}. {_remedy(str(reason), self._session.client_id)}".strip()

    def _on_message(self, client: Client, userdata: Any, message: MQTTMessage) -> None:
        numbers = getattr(message.properties, "SubscriptionIdentifier", None)
        for topic, sources in self._routes.items():
            # one message comes once for each subscription it matches; without numbers, once for all of them
            mine = numbers is None or _identifier(topic) in numbers
            if mine and topic_matches_sub(_plain(topic), message.topic):
                for source in sources:
                    try:
                        source.message(message)
                    except Exception as error:  # this sensor's top: its neighbours share the thread
                        source.intake.refuse("internal-error", f"{type(error).__name__}: {error}")
                        log.exception("sensor %s: internal error", source.name)

    def _bug(self, error: Exception) -> None:
        for sources in self._routes.values():
            for source in sources:
                source.intake.refuse("internal-error", f"{type(error).__name__}: {error}")


class MqttSource:
    """One sensor of the shared connection. `neighbour`: its topic is another agent's, and may be one of ours."""

    def __init__(
        self, intake: Intake, subscriber: Subscriber, clock: Clock, *, timed: bool = False, neighbour: bool = False
    ) -> None:
        """`timed`: its messages always carry their own time. Raises ConfigError if the sensor has no topic, or one that
        no broker takes."""
        sensor = intake.sensor
        if not sensor.topic:
            raise ConfigError(f'sensor "{sensor.name}": add topic = "tele/roof/SENSOR"')
        levels = _plain(sensor.topic).split("/")
        mixed = any(mark in level and mark != level for level in levels for mark in ("+", "#", STATION))
        if mixed or "#" in levels[:-1] or levels.count(STATION) > 1:
            rule = "+, # and {station} must be whole levels, # the last one, {station} the only one"
            raise ConfigError(f'sensor "{sensor.name}": topic "{sensor.topic}": {rule}')
        self.name = sensor.name
        self.filter = sensor.topic.replace(STATION, "+")
        self.has_time = timed or sensor.time is not None
        self.intake = intake
        self._level = levels.index(STATION) if STATION in levels else None
        self._subscriber, self._clock = subscriber, clock
        self._heard = clock.monotonic()
        self._active = False
        self._neighbour = neighbour
        subscriber.join(self)

    def start(self) -> None:
        self._active = True
        self._subscriber.users.start(self.name)

    def stop(self) -> None:
        """End it; the connection ends with its last sensor, within a second."""
        self._active = False
        self._subscriber.users.stop(self.name)

    def health(self) -> Health:
        return self.intake.standing(self._subscriber.supervisor.state(), self._hint, active=self._active)

    @property
    def problem(self) -> str:
        """Why nothing can come and what to do, empty if it can."""
        return self._subscriber.supervisor.state().problem or self._subscriber.refusal(self.filter)

    @property
    def complaint(self) -> str:
        """The latest refusal in words."""
        return self.intake.last_complaint

    def message(self, message: MQTTMessage) -> None:
        """A message on this sensor's topic."""
        if not self._active:
            return
        self._heard = self._clock.monotonic()
        if message.topic.startswith(f"{WIRE}/") and not self._neighbour:
            self.intake.refuse("own-topic", f"{message.topic} is one of the agent's own; choose a narrower topic")
            return
        station = None if self._level is None else message.topic.split("/")[self._level]
        self.intake.message(bytes(message.payload), retained=message.retain, station=station, topic=message.topic)

    def _hint(self, health: Health) -> str:
        refusal = self._subscriber.refusal(self.filter)
        if refusal:
            return refusal
        if health.rejected and not health.accepted:
            return f"nothing usable yet ({self.intake.last_complaint}). Do the map and the topic fit?"
        mixed = self.intake.mixed
        if mixed:
            return f"{mixed}: narrow the topic or the options to one, or make a sensor of each."
        silence = self._clock.monotonic() - self._heard
        if silence > _QUIET_S:
            return f'nothing on "{self.filter}" for {silence:.0f} s. Does the sensor publish there?'
        return ""


def client_id(config: Config, suffix: str) -> str:
    """The agent's name to the broker: lasting, and its own for each connection."""
    return f"{config.mqtt.client_id or f'stationcast-{config.stations[0].id}'}-{suffix}"


def _properties(packet: int) -> Any:
    return Properties(packet)  # type: ignore[no-untyped-call]  # and its attributes come into being by assignment


def _plain(topic: str) -> str:
    """A topic filter without what makes it a shared one."""
    return topic.split("/", 2)[-1] if topic.startswith("$share/") else topic


def _identifier(topic: str) -> int:
    """A number for a subscription that is the same after a restart: the broker may deliver what it kept under it."""
    return zlib.crc32(topic.encode()) % 268_435_455 + 1


def _too_large(oversize: str) -> str:
    return oversize and f"{oversize}. Is a topic too wide, or does the broker keep such a message (retained)?"


def _why(error: OSError, clock: Clock) -> str:
    """Why there is no connection, and the remedy."""
    if isinstance(error, ssl.SSLCertVerificationError) and error.verify_code in _OF_THE_CLOCK:
        wrong = f"cannot be trusted: {error.verify_message} by this device's clock ({format_time(time.time())})"
        return f"{wrong}, which is {clock.state()}. Set the clock, or renew the certificate."
    if isinstance(error, ssl.SSLError):
        authority = "Does tls_ca hold the authority that signed its certificate, and is the port its TLS port?"
        return f"cannot be trusted ({error.reason or error}). {authority}"
    if isinstance(error, ConnectionRefusedError):
        return "refuses connections. Is it running, and is the port right?"
    if isinstance(error, socket.gaierror):
        return "is unknown by that name. Check host and the network."
    if isinstance(error, TimeoutError):
        return "does not answer. Check host, port and firewall."
    return f"cannot be reached ({error}). Check host and the network."


def _remedy(reason: str, client: str = "") -> str:
    words = reason.lower()
    if "user name" in words or "authorized" in words:
        return "Check username and password_file in [mqtt]."
    if "protocol version" in words:
        return "It speaks none of the versions that protocol in [mqtt] allows."
    if "taken over" in words:
        return f'Another client calls itself "{client}": give each agent its own client_id.'
    return ""
