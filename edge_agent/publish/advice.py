"""What a broker's or a socket's refusal means and what to do about it, in words. Pure; never repeats a secret."""

from __future__ import annotations

import socket
import ssl
from datetime import UTC, datetime

from edge_agent.clock import Clock
from edge_agent.config import Mqtt
from edge_agent.wire import SESSION_TAKEN_OVER, UNSUPPORTED_VERSION

NOT_YET_VALID, EXPIRED, HOST_MISMATCH, ADDRESS_MISMATCH = 9, 10, 62, 64  # OpenSSL verification results
CLOCK_OFF_S = 120.0  # so far the system's clock and the agent's may lie apart

TOPIC_INVALID = 0x90
PACKET_TOO_LARGE = 0x95
PAYLOAD_INVALID = 0x99

# A message refused for these is refused whenever it is sent.
HOPELESS = frozenset({TOPIC_INVALID, PACKET_TOO_LARGE, PAYLOAD_INVALID})


def of_error(error: OSError, settings: Mqtt, now: float, clock: Clock | None = None) -> str:
    """Why no connection came about. `now`: UTC seconds of the system's clock, by which certificates are judged;
    `clock`: the agent's, which may know better."""
    where = f"{settings.host}:{settings.port}"
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"{where}: TLS: {_certificate(error, settings, now, clock)}"
    if isinstance(error, ssl.SSLError):
        reason = getattr(error, "reason", None) or ""
        return f"{where}: TLS failed ({reason or error}): {_handshake(reason)}"
    if isinstance(error, socket.gaierror):
        return f"{settings.host}: no such host ({error.strerror}): check mqtt.host and the network's DNS"
    if isinstance(error, ConnectionRefusedError):
        return f"{where}: nothing listens there: is the broker running, and is mqtt.port right?"
    if isinstance(error, TimeoutError):
        return f"{where}: no answer: is the broker up, and does a firewall let port {settings.port} through?"
    return f"{where}: {error.strerror or error}: check the network"


def of_connack(code: int, words: str, settings: Mqtt) -> str:
    """Why the broker refused the connection."""
    where = f"{settings.host}:{settings.port}"
    if code in (0x86, 0x87):
        login = f'user "{settings.username}"' if settings.username else "a client without a user name"
        return f"{where}: the broker refuses {login} ({words}): check mqtt.username and mqtt.password_file"
    if code == 0x85:
        return f"{where}: the broker does not like our client id ({words}): set another mqtt.client_id"
    if code == UNSUPPORTED_VERSION:
        return f"{where}: the broker does not speak this version of MQTT"
    return f"{where}: the broker refuses the connection ({words})"


def of_disconnect(code: int, words: str, settings: Mqtt, client_id: str) -> str:
    """Why the broker ended the connection."""
    where = f"{settings.host}:{settings.port}"
    if code == SESSION_TAKEN_OVER:
        return (
            f'{where}: another client calls itself "{client_id}" and took our place: two agents with one station id, '
            "or a copy of this one? Stop the other, or set mqtt.client_id"
        )
    if code == PACKET_TOO_LARGE:
        return f"{where}: the broker found a message too large: raise its packet size limit"
    return f"{where}: the broker ended the connection ({words})"


def of_short_lives(client_id: str) -> str:
    """Several connections in a row were cut soon after they were made, and the broker did not say why."""
    return f'; again and again: does another client use our client id "{client_id}"? Then set mqtt.client_id'


def of_puback(code: int, words: str, topic: str, settings: Mqtt) -> str:
    """Why the broker did not take a message."""
    if code == 0x87:
        who = f'user "{settings.username}"' if settings.username else "anonymous clients"
        return f"the broker refuses {topic} ({words}): let {who} write to {'/'.join(topic.split('/')[:3])}/#"
    if code == 0x97:
        return f"the broker refuses {topic} ({words}): its quota is used up; raise it or publish less"
    if code == PACKET_TOO_LARGE:
        return f"{topic} is larger than the broker takes: raise its packet size limit"
    return f"the broker refuses {topic} ({words})"


def of_silence(settings: Mqtt, version: str, logged: str) -> str:
    """The connection ended before any answer to CONNECT. `logged`: what the socket said, if anything."""
    words = f"{settings.host}:{settings.port}: closed without an answer to MQTT {version}"
    if logged:
        words += f" ({logged})"
    if settings.tls_ca is None:
        return words + ": a TLS port needs mqtt.tls_ca"
    return words + (
        "" if settings.tls_cert else ": does the broker want a client certificate (mqtt.tls_cert, tls_key)?"
    )


def _certificate(error: ssl.SSLCertVerificationError, settings: Mqtt, now: float, clock: Clock | None) -> str:
    today = datetime.fromtimestamp(now, UTC).strftime("%Y-%m-%d %H:%M UTC")
    if clock is not None and error.verify_code in (NOT_YET_VALID, EXPIRED):
        what = "is not valid yet" if error.verify_code == NOT_YET_VALID else "has expired"
        wrong = f"clock: the broker's certificate {what} by this device's clock, which says {today}"
        if clock.state() == "unsynced":
            return f"{wrong} and is not synchronised: set it (timedatectl set-ntp true); `edge-agent clock` says more"
        if abs(clock.now() - now) > CLOCK_OFF_S:
            right = datetime.fromtimestamp(clock.now(), UTC).strftime("%Y-%m-%d %H:%M UTC")
            return f"{wrong}, where the agent knows that it is {right}: set the system's clock, TLS goes by it"
    if error.verify_code == NOT_YET_VALID:
        return f"the broker's certificate is not valid yet. This device's clock says {today}: set it if that is wrong"
    if error.verify_code == EXPIRED:
        return (
            f"the broker's certificate has expired. This device's clock says {today}: set it if that is wrong, "
            "else renew the certificate"
        )
    if error.verify_code in (HOST_MISMATCH, ADDRESS_MISMATCH):
        return f'the certificate is not for "{settings.host}": set mqtt.host to a name that is in the certificate'
    return (
        f"the broker's certificate is not trusted ({error.verify_message}): mqtt.tls_ca must name the authority that "
        "signed it"
    )


def _handshake(reason: str) -> str:
    if reason in ("WRONG_VERSION_NUMBER", "HTTP_REQUEST", "PACKET_LENGTH_TOO_LONG"):
        return "the port does not speak TLS: use the broker's TLS port (often 8883), or leave out mqtt.tls_ca"
    if "CERTIFICATE" in reason:
        return "check mqtt.tls_cert and mqtt.tls_key, and this device's clock"
    return "check the broker's TLS settings and this device's clock"
