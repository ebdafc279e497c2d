"""What reaches subscribers through real brokers, and what happens when those brokers misbehave."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from edge_agent.observation import Flag, Revision, Verdict
from edge_agent.publish.schemas import validate
from edge_agent.publish.session import MAX_IN_FLIGHT
from edge_agent.publish.topics import KINDS, kind_of, topic
from edge_agent.sensors.supervisor import MAX_HUNG
from tests.publish.samples import STATION, forecast
from tests.system.publishing import QUICK, YARD, at, ids, publish_states
from tests.system.subscriber import Subscriber, retained, wait_for

pytestmark = pytest.mark.system


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
    assert agent.pump() == 20 and agent.store.counts("mqtt").queued == 20  # sent, and no answer of the broker taken yet
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
