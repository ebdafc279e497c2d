"""What reaches subscribers through real brokers, and what happens when those brokers misbehave."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import date
from pathlib import Path

import msgspec
import numpy as np
import pytest

from edge_agent import config as c
from edge_agent.clock import SystemClock
from edge_agent.guidance.daily import DayOutlook
from edge_agent.observation import Flag, Revision, Verdict
from edge_agent.publish.mqtt import Publisher
from edge_agent.publish.payloads import info_payload, status_payload, verify_payload
from edge_agent.publish.policy import Waits
from edge_agent.publish.schemas import validate
from edge_agent.publish.session import MAX_IN_FLIGHT
from edge_agent.publish.topics import KINDS, kind_of, topic
from edge_agent.sensors.supervisor import MAX_HUNG
from edge_agent.store import Store
from edge_agent.verification import ScoreRow
from tests.publish.samples import STATION, forecast, judged
from tests.system.certificates import certificates
from tests.system.subscriber import Subscriber, retained, wait_for

pytestmark = pytest.mark.system

QUICK = Waits(first=0.1, cap=0.5, stable=10.0, connect=2.0, answer=2.0)
YARD = c.Station(id="yard", latitude=1, longitude=2, elevation_m=3)


class Agent:
    """The part of the agent that publishes: a store with an outbox, a publisher, and the main loop's turns."""

    def __init__(self, store: Store, broker: c.Mqtt, stations: list[c.Station], expiry_s: int, waits: Waits) -> None:
        config = c.Config(stations, c.Store("unused"), broker, forecast=c.Forecast(expiry_s=expiry_s))
        self.store, self.clock = store, SystemClock()
        self.publisher = Publisher(config, self.clock, waits)
        self.seq = 0
        self.publisher.start()

    def read(self, n: int = 1, station: str = "roof", source: str = "mast", *, late: bool = False) -> list[str]:
        """Readings of an hourly sensor, live or long overdue; their ids."""
        ids = []
        for _ in range(n):
            self.seq += 1
            t = int(self.clock.now()) - (10_000 if late else 3600) + self.seq
            item = judged(self.seq, t=t, station=station, source=source, period_s=3600)
            assert self.store.add(item, ("mqtt",))
            ids.append(item.observation.id)
        return ids

    def pump(self) -> int:
        return self.publisher.pump(self.store)

    def until(self, condition: Callable[[], object], what: str) -> None:
        wait_for(condition, what, self.pump)

    def connected(self) -> Agent:
        self.until(lambda: self.publisher.health().connected, "the connection")
        return self

    def drained(self) -> None:
        self.until(lambda: self.store.counts("mqtt").queued == 0, "the outbox to be empty")


@pytest.fixture
def make_agent(tmp_path: Path) -> Iterator[Callable[..., Agent]]:
    agents: list[Agent] = []

    def make(broker: c.Mqtt, *stations: c.Station, expiry_s: int = 3600, waits: Waits = QUICK) -> Agent:
        store = Store.open(tmp_path / f"store-{len(agents)}.db")
        agents.append(Agent(store, broker, list(stations) or [STATION], expiry_s, waits))
        return agents[-1]

    yield make
    for agent in agents:
        agent.publisher.stop()
        agent.store.close()


def at(broker, **options: object) -> c.Mqtt:
    return c.Mqtt(host=broker.host, port=broker.port, **options)


def ids(messages: list, *kinds: str) -> list[str]:
    """Of the observations among them, in order of arrival, each once."""
    return list(dict.fromkeys(msgspec.json.decode(m.payload)["id"] for m in messages if kind_of(m.topic) in kinds))


def test_every_message_on_the_wire_keeps_to_its_schema_and_its_manners(mosquitto, make_agent):
    with Subscriber(mosquitto.host, mosquitto.port) as live:
        agent = make_agent(at(mosquitto)).connected()
        agent.read(2)
        agent.read(late=True)
        spike = Verdict(Flag.SUSPECT, "spike", "it left and came back", 2.0)
        agent.store.revise(Revision("roof", "mast", "temperature", 0, 2**40, spike), agent.clock.now())
        publish_states(agent)
        agent.drained()
        agent.until(lambda: {kind_of(m.topic) for m in live.received} == KINDS.keys(), "one message of each kind")
    waiting = retained(mosquitto.host, mosquitto.port)
    for message in [*live.received, *waiting.values()]:
        kind = KINDS[kind_of(message.topic)]
        validate(kind.name, message.payload)
        assert message.qos == 1 and message.content_type == kind.content_type
        assert (message.expiry_s > 0) == kind.expires
    assert {kind_of(t) for t in waiting} == {k.name for k in KINDS.values() if k.retained}


def publish_states(agent: Agent, station: c.Station = STATION) -> None:
    now = int(agent.clock.now())
    status = status_payload(
        now,
        uptime_s=1,
        clock="synced",
        sensors=[],
        outbox={"mqtt": agent.store.counts("mqtt")},
        forecast=None,
        flags={},
        broker=agent.publisher.health(),
    )
    row = ScoreRow(station.id, "2024-05-01", "bundle", "temperature", 900, 4, 2.0, 3.0, 4.0, 1.0, 3)
    agent.publisher.info(station.id, info_payload(station, ["temperature"], "wx-1", "a" * 64))
    agent.publisher.status(station.id, status)
    agent.publisher.verify_daily(station.id, verify_payload("2024-05-01", [row]))
    made = forecast(station.id, origin=now - now % 900, issued=now)
    agent.publisher.forecast(made)
    agent.publisher.hourly(made)
    day = DayOutlook(date(2024, 5, 2), now, now + 86_400, {"temperature_max": (20.0, np.linspace(15.0, 25.0, 11))})
    agent.publisher.daily(made, [day], "UTC")


def test_a_station_that_dies_is_offline_for_all_who_look(mosquitto):
    script = Path(__file__).with_name("publishing_process.py")
    with Subscriber(mosquitto.host, mosquitto.port) as live:
        process = subprocess.Popen([sys.executable, script, mosquitto.host, str(mosquitto.port), "roof"])
        wait_for(lambda: live.words("wx/v1/roof/availability") == ["online"], "online")
        process.kill()
        process.wait()
        wait_for(lambda: live.words("wx/v1/roof/availability") == ["online", "offline"], "the last will")
    assert retained(mosquitto.host, mosquitto.port)["wx/v1/roof/availability"].payload == b"offline"


def test_a_clean_stop_says_stopped_for_every_station_and_the_will_stays_unspoken(mosquitto, make_agent):
    agent = make_agent(at(mosquitto), STATION, YARD).connected()
    agent.publisher.stop()
    held = retained(mosquitto.host, mosquitto.port)
    assert held["wx/v1/roof/availability"].payload == b"stopped"
    assert held["wx/v1/yard/availability"].payload == b"stopped"


def test_what_the_broker_took_before_the_stop_is_settled_after_it(mosquitto, make_agent):
    agent = make_agent(at(mosquitto)).connected()
    agent.read(20)
    agent.until(lambda: agent.store.counts("mqtt").queued == 20 and agent.pump() == 0, "all to be sent")
    agent.publisher.stop()
    agent.pump()
    assert agent.store.counts("mqtt").acknowledged == 20


def test_what_was_handed_over_just_before_the_stop_still_goes_out(mosquitto, make_agent):
    agent = make_agent(at(mosquitto)).connected()
    with Subscriber(mosquitto.host, mosquitto.port) as live:
        sent = agent.read(20)
        publish_states(agent)
        agent.pump()
        agent.publisher.stop()
        wait_for(lambda: "stopped" in live.words("wx/v1/roof/availability"), "stopped")
        assert ids(live.received, "obs") == sent and live.on("wx/v1/roof/forecast/nowcast")
        assert kind_of(live.received[-1].topic) == "availability"


def test_a_stop_without_a_broker_is_a_stop(start_mosquitto, make_agent):
    broker = start_mosquitto()
    broker.stop()
    agent = make_agent(at(broker))
    agent.read(3)
    agent.publisher.stop()
    assert agent.pump() == 0 and agent.store.counts("mqtt").queued == 3


def test_a_broker_that_stops_answering_is_left_and_found_again(mosquitto, make_agent):
    agent = make_agent(at(mosquitto), waits=replace(QUICK, ack=0.3)).connected()
    freeze(mosquitto)
    sent = agent.read(5)
    agent.until(lambda: "not acknowledged" in agent.publisher.health().detail, "the connection to be given up")
    mosquitto._process.send_signal(signal.SIGCONT)
    agent.drained()
    assert agent.store.counts("mqtt").acknowledged == len(sent)


class NameServer:
    """Asked for a name it does not answer, the first few times, until it is told to."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, silent: int) -> None:
        self.asked: list[threading.Thread] = []
        self.answers = threading.Event()
        real = socket.getaddrinfo

        def ask(*args: object, **more: object) -> object:
            self.asked.append(threading.current_thread())
            if len(self.asked) <= silent:
                self.answers.wait(30)
            return real(*args, **more)

        monkeypatch.setattr(socket, "getaddrinfo", ask)


def test_a_publishing_thread_that_hangs_is_replaced_and_does_no_harm_when_it_comes_back(
    mosquitto, make_agent, monkeypatch
):
    names = NameServer(monkeypatch, silent=1)
    agent = make_agent(at(mosquitto), waits=replace(QUICK, hung=1.5))
    agent.until(lambda: not agent.publisher.hung and agent.publisher.health().connected, "another thread to connect")
    agent.read(5)
    agent.drained()
    names.answers.set()
    names.asked[0].join(10)
    assert not names.asked[0].is_alive()
    agent.read(5)
    agent.drained()
    health = agent.publisher.health()
    assert health.connected and not agent.publisher.hung
    assert (health.reconnects, health.detail) == (0, "")


def test_a_publisher_all_of_whose_threads_hang_says_so_until_one_comes_back(mosquitto, make_agent, monkeypatch):
    names = NameServer(monkeypatch, silent=MAX_HUNG)
    agent = make_agent(at(mosquitto), waits=replace(QUICK, hung=1.5))
    agent.read(5)
    agent.until(lambda: agent.publisher.hung, "all threads to hang")
    assert len(names.asked) == MAX_HUNG and agent.store.counts("mqtt").queued == 5
    names.answers.set()
    agent.until(lambda: not agent.publisher.hung and agent.publisher.health().connected, "a thread that comes back")
    agent.drained()


def test_an_expired_forecast_is_not_shown_to_who_comes_later(mosquitto, make_agent):
    agent = make_agent(at(mosquitto), expiry_s=2).connected()
    now = int(agent.clock.now())
    agent.publisher.forecast(forecast(issued=now))
    place = topic("roof", "forecast/nowcast")
    wait_for(lambda: place in retained(mosquitto.host, mosquitto.port), "the forecast")
    wait_for(lambda: place not in retained(mosquitto.host, mosquitto.port), "its end")


def freeze(broker) -> None:
    """It keeps its connections and answers nothing any more."""
    broker._process.send_signal(signal.SIGSTOP)


def test_a_broker_that_dies_with_all_it_knew_costs_nothing(mosquitto, make_agent):
    agent = make_agent(at(mosquitto)).connected()
    publish_states(agent)
    with Subscriber(mosquitto.host, mosquitto.port) as before:
        sent = agent.read(30)
        agent.until(lambda: len(ids(before.received, "obs")) == 30, "the first rows")
        freeze(mosquitto)
        sent += agent.read(MAX_IN_FLIGHT + 20)
        while agent.pump():
            pass  # all of these are under way, none will be acknowledged
        mosquitto.kill()
    agent.until(lambda: not agent.publisher.health().connected, "the loss of the connection")
    sent += agent.read(10)
    mosquitto.start()
    with Subscriber(mosquitto.host, mosquitto.port) as after:
        agent.drained()
        agent.until(lambda: len(ids(before.received + after.received, "obs")) == len(sent), "every row")
        assert ids(before.received + after.received, "obs") == sent
    books = agent.store.counts("mqtt")
    assert (books.accepted, books.acknowledged, books.dropped) == (len(sent), len(sent), {})
    kinds = {kind_of(t) for t in retained(mosquitto.host, mosquitto.port)}
    assert kinds == {k.name for k in KINDS.values() if k.retained}


def test_a_broker_that_comes_late_gets_everything_and_nobody_waits_for_it(start_mosquitto, make_agent):
    broker = start_mosquitto()
    broker.stop()
    agent = make_agent(at(broker))
    sent = agent.read(5, source="mast") + agent.read(5, source="gauge")
    agent.until(lambda: "is the broker running" in agent.publisher.health().detail, "the advice")
    assert agent.pump() == 0
    broker.start()
    with Subscriber(broker.host, broker.port) as live:
        agent.until(lambda: len(ids(live.received, "obs")) == 10, "every row")
        assert ids(live.received, "obs") == sent
    assert agent.publisher.health().detail == ""


def test_overdue_rows_go_to_history_in_the_order_of_each_source(mosquitto, make_agent):
    agent = make_agent(at(mosquitto))
    sent: dict[str, list[str]] = {"mast": [], "gauge": []}
    for _ in range(20):
        for source, mine in sent.items():
            mine += agent.read(2, source=source, late=True)
    live_ids = agent.read(3)
    with Subscriber(mosquitto.host, mosquitto.port) as live:
        agent.drained()
        agent.until(lambda: len(ids(live.received, "obs", "obs/history")) == 83, "every row")
        late = ids(live.received, "obs/history")
        assert {s: [i for i in late if f":{s}:" in i] for s in sent} == sent
        assert ids(live.received, "obs") == live_ids
        for message in live.received:
            if kind_of(message.topic) == "obs/history":
                assert msgspec.json.decode(message.payload)["historical"] is True


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
