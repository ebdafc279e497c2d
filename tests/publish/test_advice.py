"""What a person reads when the broker cannot be reached or refuses us."""

from __future__ import annotations

import re
import socket
import ssl

import pytest

from edge_agent.config import Mqtt
from edge_agent.publish import advice

PLAIN = Mqtt(host="broker.example", port=8883, username="station")
TLS = Mqtt(host="broker.example", port=8883, tls_ca="/etc/ca.pem")


def unverified(code: int) -> ssl.SSLCertVerificationError:
    error = ssl.SSLCertVerificationError(1, "certificate verify failed")
    error.verify_code, error.verify_message = code, "self-signed certificate"
    return error


def handshake(reason: str) -> ssl.SSLError:
    error = ssl.SSLError(1, f"[SSL: {reason}]")
    error.reason = reason
    return error


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (unverified(advice.NOT_YET_VALID), r"clock says 1970-01-01 00:00 UTC: set it"),
        (unverified(advice.EXPIRED), r"expired.*clock says 1970.*renew"),
        (unverified(advice.HOST_MISMATCH), r"mqtt\.host"),
        (unverified(18), r"self-signed certificate.*mqtt\.tls_ca"),
        (handshake("WRONG_VERSION_NUMBER"), r"does not speak TLS.*8883"),
        (handshake("TLSV13_ALERT_CERTIFICATE_REQUIRED"), r"mqtt\.tls_cert"),
        (ssl.SSLError(1, "something else"), r"something else"),
        (ConnectionRefusedError(111, "Connection refused"), r"is the broker running"),
        (socket.gaierror(-2, "Name or service not known"), r"no such host.*mqtt\.host"),
        (TimeoutError(), r"firewall"),
        (OSError(101, "Network is unreachable"), r"Network is unreachable"),
    ],
)
def test_each_failure_names_the_broker_and_what_to_do(error, words):
    text = advice.of_error(error, TLS, now=0)
    assert "broker.example" in text
    assert re.search(words, text), text


def test_a_refused_login_names_the_user_and_the_keys_to_look_at():
    text = advice.of_connack(0x86, "Bad user name or password", PLAIN)
    assert '"station"' in text and "mqtt.password_file" in text


def test_a_takeover_says_which_id_and_why_that_happens():
    text = advice.of_disconnect(0x8E, "Session taken over", PLAIN, "stationcast-roof")
    assert "stationcast-roof" in text and "mqtt.client_id" in text


def test_a_refused_publication_says_what_to_allow():
    text = advice.of_puback(0x87, "Not authorized", "wx/v1/roof/obs", PLAIN)
    assert 'let user "station" write to wx/v1/roof/#' in text


def test_silence_is_explained_by_what_is_configured():
    assert "needs mqtt.tls_ca" in advice.of_silence(PLAIN, "5", "")
    assert "mqtt.tls_cert" in advice.of_silence(TLS, "5", "alert certificate required")
