"""Brokers that refuse: a station, a size, a password, a certificate, an id, a version of MQTT."""

from __future__ import annotations

import socket
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from edge_agent import config as c
from edge_agent.publish.policy import Waits
from edge_agent.publish.schemas import validate
from edge_agent.publish.session import MAX_IN_FLIGHT
from edge_agent.publish.topics import kind_of
from tests.publish.samples import STATION, forecast
from tests.system.certificates import certificates
from tests.system.publishing import QUICK, YARD, at, ids, publish_states
from tests.system.subscriber import Subscriber

pytestmark = pytest.mark.system


def test_a_refused_station_does_not_hold_up_another_and_says_what_to_allow(start_mosquitto, make_agent, tmp_path):
    rules = tmp_path / "acl"
    rules.write_text("topic readwrite ready\ntopic readwrite wx/v1/yard/#\ntopic read wx/v1/#\n")
    rules.chmod(0o600)
    broker = start_mosquitto(f"acl_file {rules}")
    agent = make_agent(at(broker), STATION, YARD).connected()
    agent.read(5, station="roof")
    sent = agent.read(5, station="yard")
    with Subscriber(broker.host, broker.port) as live:
        agent.read(5, station="roof")
        sent += agent.read(5, station="yard")
        agent.until(lambda: agent.store.counts("mqtt").acknowledged == len(sent), "the other station's rows")
        assert set(ids(live.received, "obs")) <= set(sent)
    health = agent.publisher.health()
    assert health.refused["not-authorized"] >= 5
    assert "write to wx/v1/roof/#" in health.detail
    assert agent.store.counts("mqtt").queued == 10


def test_a_message_larger_than_the_broker_takes_stops_nothing_else(start_mosquitto, make_agent):
    broker = start_mosquitto("max_packet_size 2000")
    agent = make_agent(at(broker)).connected()
    now = int(agent.clock.now())
    agent.publisher.forecast(forecast(issued=now))
    agent.read(10)
    agent.drained()
    health = agent.publisher.health()
    assert (health.refused, health.reconnects) == ({"packet-too-large": 1}, 0)
    assert "forecast/nowcast is larger" in health.detail


def test_a_wrong_password_is_explained_without_showing_it(start_mosquitto, make_agent, tmp_path):
    broker, secret = with_password(start_mosquitto, tmp_path, "right")
    secret.write_text("wrong-one\n")
    agent = make_agent(at(broker, username="station", password_file=str(secret)))
    agent.until(lambda: "station" in agent.publisher.health().detail, "the advice")
    assert "mqtt.password_file" in agent.publisher.health().detail
    assert "wrong-one" not in agent.publisher.health().detail
    secret.write_text("right\n")  # corrected while running
    agent.connected()


def with_password(start_mosquitto, folder: Path, password: str, config: str = ""):
    users = folder / "users"
    subprocess.run(["mosquitto_passwd", "-b", "-c", users, "station", password], check=True, capture_output=True)
    secret = folder / "secret"
    secret.write_text(f"{password}\n")
    secret.chmod(0o600)
    return start_mosquitto(f"allow_anonymous false\npassword_file {users}\n{config}"), secret


def test_tls_with_password_and_client_certificate(start_mosquitto, make_agent, tmp_path):
    keys = certificates(tmp_path)
    tls = f"cafile {keys}/ca.pem\ncertfile {keys}/server.pem\nkeyfile {keys}/server.key\nrequire_certificate true"
    broker, secret = with_password(start_mosquitto, tmp_path, "s3cret", tls)
    files = {"tls_ca": f"{keys}/ca.pem", "tls_cert": f"{keys}/client.pem", "tls_key": f"{keys}/client.key"}
    agent = make_agent(at(broker, username="station", password_file=str(secret), **files)).connected()
    sent = agent.read(3)
    mine = ("--cafile", files["tls_ca"], "--cert", files["tls_cert"], "--key", files["tls_key"])
    with Subscriber(broker.host, broker.port, "-u", "station", "-P", "s3cret", *mine) as live:
        publish_states(agent)
        agent.drained()
        sent += agent.read(MAX_IN_FLIGHT)
        agent.until(lambda: len(ids(live.received, "obs")) >= MAX_IN_FLIGHT, "rows over TLS")
    agent.drained()


def test_an_untrusted_certificate_and_a_missing_one_are_explained(start_mosquitto, make_agent, tmp_path):
    keys = certificates(tmp_path)
    (tmp_path / "other").mkdir()
    other = certificates(tmp_path / "other")
    tls = f"cafile {keys}/ca.pem\ncertfile {keys}/server.pem\nkeyfile {keys}/server.key\nrequire_certificate true"
    broker = start_mosquitto(tls)
    agent = make_agent(at(broker, tls_ca=f"{other}/ca.pem"))
    agent.until(lambda: "not trusted" in agent.publisher.health().detail, "the advice on the authority")
    bare = make_agent(at(broker, tls_ca=f"{keys}/ca.pem"))
    bare.until(lambda: "mqtt.tls_cert" in bare.publisher.health().detail, "the advice on the client certificate")
    assert "3.1.1 only" not in bare.publisher.health().detail


def test_after_another_client_took_our_id_it_waits_long_and_says_so(make_agent):
    with socket.create_server(("127.0.0.1", 0)) as broker:
        broker.settimeout(20)
        agent = make_agent(c.Mqtt(host="127.0.0.1", port=broker.getsockname()[1]))
        ours, _ = broker.accept()
        with ours:
            ours.recv(1000)
            ours.sendall(bytes.fromhex("2003000000") + bytes.fromhex("e0018e"))  # CONNACK, DISCONNECT: taken over
            agent.until(lambda: "Trying again" in agent.publisher.health().detail, "the advice")
    detail = agent.publisher.health().detail
    assert 'another client calls itself "stationcast-roof"' in detail and "mqtt.client_id" in detail
    assert int(detail.rsplit("Trying again in ", 1)[1].split()[0]) >= Waits().takeover >= 600


@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
def test_a_broker_whose_answer_claims_to_be_huge_is_left_and_that_is_said(make_agent, protocol):
    connack = "2003000000" if protocol == "5" else "20020000"
    with socket.create_server(("127.0.0.1", 0)) as broker:
        broker.settimeout(20)
        agent = make_agent(c.Mqtt(host="127.0.0.1", port=broker.getsockname()[1], protocol=protocol))
        ours, _ = broker.accept()
        with ours:
            ours.recv(1000)
            ours.sendall(bytes.fromhex(connack) + b"\x40\xff\xff\xff\x7f" + b"x" * 1000)
            agent.until(lambda: "Trying again" in agent.publisher.health().detail, "the words")
    assert "begins a packet of 268435455 bytes, and at most 131072" in agent.publisher.health().detail


def test_a_fight_over_a_client_id_is_suspected_where_the_broker_does_not_tell(mosquitto, make_agent):
    rival = ["mosquitto_sub", "-h", mosquitto.host, "-p", str(mosquitto.port), "-i", "stationcast-roof", "-t", "x"]
    agent = make_agent(at(mosquitto)).connected()
    with subprocess.Popen(rival, stderr=subprocess.DEVNULL) as process:  # comes back each time it is thrown out
        agent.until(lambda: "does another client use our client id" in agent.publisher.health().detail, "the advice")
        process.kill()


def test_two_agents_of_one_name_on_a_broker_that_does_not_tell_both_say_it_and_make_no_storm(mosquitto, make_agent):
    """Each connection throws the other out. They come back with pauses that grow: the connections of the one are no
    more than those of its own doublings."""
    waits = replace(QUICK, cap=30.0, stable=30.0)
    agents = [make_agent(at(mosquitto), waits=waits) for _ in range(2)]
    for agent in agents:
        agent.until(lambda agent=agent: "does another client use our" in agent.publisher.health().detail, "the advice")
    connects = mosquitto.log.read_text().count("as stationcast-roof")
    assert 4 <= connects <= 2 * 12  # pauses of 0.1, 0.2, 0.4 ... s: the twelfth comes after more than 100 s


def test_a_broker_that_knows_only_3_1_1_is_served_in_it_with_a_warning(broker_311, make_agent, caplog):
    agent = make_agent(broker_311).connected()
    health = agent.publisher.health()
    assert health.protocol == "3.1.1" and "3.1.1 only" in health.detail
    assert any("3.1.1 only" in record.message for record in caplog.records)
    with Subscriber(broker_311.host, broker_311.port, version="mqttv311") as live:
        sent = agent.read(30)
        publish_states(agent)
        agent.drained()
        agent.until(lambda: len(ids(live.received, "obs")) == 30, "every row")
        assert ids(live.received, "obs") == sent
        for message in live.received:
            validate(kind_of(message.topic), message.payload)


def test_3_1_1_is_spoken_where_it_is_configured(mosquitto, make_agent):
    agent = make_agent(at(mosquitto, protocol="3.1.1")).connected()
    sent = agent.read(3)
    with Subscriber(mosquitto.host, mosquitto.port) as live:
        agent.drained()
        sent += agent.read(3)
        agent.drained()
        agent.until(lambda: len(ids(live.received, "obs")) >= 3, "rows")
    assert agent.publisher.health().protocol == "3.1.1" and agent.publisher.health().detail == ""


def test_a_proxy_whose_broker_is_down_does_not_cost_version_5_for_good(make_agent):
    spoken = []
    with socket.create_server(("127.0.0.1", 0)) as proxy:
        proxy.settimeout(20)
        make_agent(c.Mqtt(host="127.0.0.1", port=proxy.getsockname()[1]))
        for _ in range(5):  # takes each connection and, with nobody behind it, drops it
            taken, _ = proxy.accept()
            with taken:
                _, version = taken.recv(1000).split(b"MQTT", 1)
                spoken.append(version[0])
    assert spoken == [5, 5, 4, 4, 5]
