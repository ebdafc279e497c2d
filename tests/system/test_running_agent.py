"""`edge-agent run` as a process among real brokers and serial pairs, which fail while it runs."""

from __future__ import annotations

import json
import subprocess
import time

import pytest
from paho.mqtt.publish import single

from edge_agent.clock import ManualClock
from edge_agent.publish.schemas import validate
from edge_agent.publish.topics import KINDS, kind_of
from tests.agents import HOME, Kept, Running, fill, line, sensor, tell_time, until, write_config
from tests.board import Board
from tests.system.agent_process import AgentProcess
from tests.system.subscriber import Received, Subscriber, of_kind, retained

pytestmark = pytest.mark.system

GUIDED = ("forecast/hourly", "forecast/daily")  # kinds that need a source of guidance


def times(payloads: list[dict[str, object]]) -> list[object]:
    return [payload["t"] for payload in payloads]


# --- what is published ----------------------------------------------------------------------------------------------


def test_a_run_publishes_what_its_schemas_say_and_ends_with_stopped(mosquitto, start, board, tiny, tmp_path):
    now = int(time.time())
    fill(tmp_path / "store.sqlite", now, hours=48)
    tell_time(tmp_path / "store.sqlite")
    config = write_config(tmp_path, sensor("roof", board, time="at"), port=mosquitto.port, **tiny)
    with Subscriber(mosquitto.host, mosquitto.port) as live:
        agent = start(config).reads("roof")
        board.prints(line(now) + line(now - 7200) + b"noise\n" + line(now + 1, 99))
        until(
            lambda: {kind_of(m.topic) for m in live.received} >= KINDS.keys() - {"verify/daily", "qc", *GUIDED},
            "each kind",
        )
        until(lambda: len(of_kind(live.received, "obs")) == 2, "the live readings")
        kept = agent.stop()
        until(lambda: live.words("wx/v1/home/availability") == ["online", "stopped"], "the end to be announced")
    for message in live.received:
        kind = KINDS[kind_of(message.topic)]
        validate(kind.name, message.payload)
        assert message.qos == 1 and message.content_type == kind.content_type
    waiting = retained(mosquitto.host, mosquitto.port)
    assert {kind_of(topic) for topic in waiting} == {k.name for k in KINDS.values() if k.retained} - {
        "verify/daily",
        *GUIDED,
    }
    forecast = json.loads(waiting["wx/v1/home/forecast/nowcast"].payload)
    assert (forecast["level"], forecast["source"]) == ("nowcast-only", "tiny")
    status = json.loads(waiting["wx/v1/home/status"].payload)
    assert status["sensors"]["roof"]["rejected"] == {"not-json": 1}
    assert status["flags"]["fail"] == 1
    assert of_kind(live.received, "obs/history")[0]["historical"] is True
    assert kept.books.acknowledged == kept.books.accepted == 3


def test_a_spike_is_published_as_it_came_and_corrected_when_the_next_reading_tells(
    mosquitto, start, board, tiny, tmp_path
):
    now = int(time.time())
    config = write_config(tmp_path, sensor("roof", board, time="at"), port=mosquitto.port, **tiny)
    with Subscriber(mosquitto.host, mosquitto.port) as live:
        agent = start(config).reads("roof")
        board.prints(line(now - 40) + line(now - 30) + line(now - 20, 14.5) + line(now - 10))
        until(lambda: live.on("wx/v1/home/qc"), "the later verdict")
        kept = agent.stop()
    said = validate("qc", live.on("wx/v1/home/qc")[0].payload)
    assert (said.src, said.variable, said.flag, said.test, said.by) == ("roof", "temperature", 3, "spike", "test")
    assert said.start == said.end
    flags = [judged.verdicts["temperature"].flag for judged in kept.observations["home"]]
    assert flags == [1, 1, 3, 1]


def test_neighbours_of_other_agents_are_heard_over_the_broker(mosquitto, start, board, tiny, tmp_path):
    """Their `obs/last`, retained: three of them, all 12 degC colder than what comes here."""
    now = int(time.time())
    moment = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(now))
    neighbours = ""
    for n in range(3):
        neighbours += (
            f'\n[[neighbour]]\nid = "near-{n}"\nlatitude = 47.0{n + 1}\nlongitude = 8.0\nelevation_m = 400.0\n'
        )
        last = {"id": "b:mast:1", "t": moment, "period_s": None, "clock": "synced", "historical": False}
        last |= {"v": {"temperature": 0.5}, "qc": {"temperature": {"flag": 1}}, "src": "mast"}
        topic, payload = f"wx/v1/near-{n}/obs/last", json.dumps(last | {"at": {"temperature": moment}})
        single(topic, payload, qos=1, retain=True, hostname=mosquitto.host, port=mosquitto.port)
    config = write_config(tmp_path, sensor("roof", board, time="at"), neighbours, port=mosquitto.port, **tiny)
    with Subscriber(mosquitto.host, mosquitto.port, topic="wx/v1/home/obs") as live:
        agent = start(config).reads("roof")

        def doubted() -> bool:
            board.prints(line(time.time()))  # one a second counts
            time.sleep(0.2)
            return any(json.loads(m.payload)["qc"]["temperature"]["flag"] != 1 for m in live.received)

        until(doubted, "a reading that came after the three neighbours'")
    kept = agent.stop()
    verdicts = [judged.verdicts["temperature"] for judged in kept.observations["home"]]
    assert {(verdict.flag, verdict.test) for verdict in verdicts if verdict.flag != 1} == {(3, "spatial")}
    sensors = kept.status["home"]["sensors"]
    assert [sensors[f"neighbour:near-{n}"]["accepted"] for n in range(3)] == [1, 1, 1]
    assert set(kept.observations) == {"home"}


def test_a_gateway_tells_its_stations_apart_by_topic(mosquitto, start, tmp_path):
    stations = (HOME, {**HOME, "id": "yard"})
    lines = sensor("nodes", "nodes/{station}/air", time="at")
    agent = start(write_config(tmp_path, lines, stations=stations, port=mosquitto.port))
    agent.says("mqtt sensors: open")
    now = int(time.time())
    for n, station in enumerate(("home", "yard", "elsewhere")):
        publish(mosquitto, f"nodes/{station}/air", line(now, 10 + n))
    with Subscriber(mosquitto.host, mosquitto.port) as live:
        publish(mosquitto, "nodes/yard/air", line(now + 1, 20))
        until(lambda: live.on("wx/v1/yard/obs"), "an observation of one of them")
        until(lambda: live.on("wx/v1/yard/status"), "its status")
    status = json.loads(live.on("wx/v1/yard/status")[-1].payload)
    assert status["sensors"]["nodes"]["rejected"] == {"unknown-station": 1}
    kept = agent.stop()
    assert (kept.values("nodes", station="home"), kept.values("nodes", station="yard")) == ([10], [11, 20])
    for station in ("home", "yard"):
        assert retained(mosquitto.host, mosquitto.port, f"wx/v1/{station}/availability")


def publish(broker, topic: str, payload: bytes) -> None:
    where = ["-h", broker.host, "-p", str(broker.port), "-q", "1", "-t", topic]
    subprocess.run(["mosquitto_pub", *where, "-s"], input=payload, check=True)


def test_forecasts_that_came_due_are_scored_and_the_scores_of_a_day_published(mosquitto, tiny, tmp_path):
    """A day in seconds: the agent in this process, on a clock that the test advances."""
    midnight = 1_700_006_400
    fill(tmp_path / "store.sqlite", midnight + 33 * 3600, hours=81)
    clock = ManualClock(midnight + 60)
    agent = Running(write_config(tmp_path, port=mosquitto.port, **tiny), clock)
    try:
        with Subscriber(mosquitto.host, mosquitto.port) as live:
            for n in range(33):
                until(lambda n=n: len(agent.forecasts()) == n + 1, "the hour's forecast")
                clock.advance(3600)
            for _ in range(20):  # scoring takes turns, and a new day is believed at the second sight
                if live.on("wx/v1/home/verify/daily"):
                    break
                time.sleep(0.5)
                clock.advance(900)
            until(lambda: live.on("wx/v1/home/verify/daily"), "the day's scores")
            (message,) = live.on("wx/v1/home/verify/daily")
    finally:
        agent.end()
    validate("verify/daily", message.payload)
    payload = json.loads(message.payload)
    assert payload["day"] == "2023-11-15"
    assert payload["scores"].keys() == {"bundle", "persistence", "anomaly-persistence", "climatology"}
    assert payload["scores"]["bundle"]["temperature"]["n"] == [24 - lead // 3600 for lead in payload["leads_s"]]
    assert Kept(agent.config).status["home"]["lost"] == {}


# --- brokers that come and go ---------------------------------------------------------------------------------------


def test_a_broker_absent_killed_and_back_without_memory_gets_everything_once_and_in_order(
    start_mosquitto, start, board, tiny, tmp_path
):
    broker = start_mosquitto("persistence false")
    broker.stop()
    now = int(time.time())
    fill(tmp_path / "store.sqlite", now, hours=48)
    agent = start(write_config(tmp_path, sensor("roof", board, time="at"), port=broker.port, **tiny)).reads("roof")
    agent.says("is the broker running")
    agent.says("forecast of home")  # forecasting does not wait for a broker
    for n in range(5):
        board.prints(line(now - 5000 + n) + line(now + n))
    agent.says("observation", 10)
    got: list[Received] = []
    with joined(agent, broker) as live:
        until(lambda: len(of_kind(live.received, "obs", "obs/history")) == 10, "what was queued")
        board.prints(line(now + 5))
        until(lambda: len(of_kind(live.received, "obs")) == 6, "a live reading")
        got += live.received
    broker.kill()
    for n in range(6, 12):
        board.prints(line(now + n))
    agent.says("observation", 17)
    with joined(agent, broker) as live:
        until(lambda: len(of_kind([*got, *live.received], "obs")) == 12, "what came in between")
        until(lambda: live.on("wx/v1/home/status"), "the status")
        got += live.received
    kept = agent.stop()
    assert times(of_kind(got, "obs/history")) == [stamp(now - 5000 + n) for n in range(5)]
    assert times(of_kind(got, "obs")) == [stamp(now + n) for n in range(12)]
    waiting = {kind_of(topic) for topic in retained(broker.host, broker.port)}
    assert waiting == {k.name for k in KINDS.values() if k.retained} - {"verify/daily", *GUIDED}
    assert (kept.books.accepted, kept.books.acknowledged, kept.books.queued) == (17, 17, 0)
    assert kept.status["home"]["broker"]["reconnects"] == 1


class joined:
    """A subscriber that is there before the agent finds the broker up."""

    def __init__(self, agent: AgentProcess, broker) -> None:
        self._agent, self._broker = agent, broker
        self._subscriber = Subscriber(broker.host, broker.port)

    def __enter__(self) -> Subscriber:
        self._agent.pause()
        self._broker.start()
        subscriber = self._subscriber.__enter__()
        self._agent.resume()
        return subscriber

    def __exit__(self, *failure: object) -> None:
        self._subscriber.__exit__(*failure)  # type: ignore[arg-type]


def stamp(t: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(t))


# --- sensors that come and go ---------------------------------------------------------------------------------------


def test_unplugged_and_replugged_while_running_and_its_neighbour_does_not_notice(start, board, tmp_path):
    other = Board(tmp_path / "usb-other")
    other.plug()
    config = write_config(tmp_path, sensor("roof", board, time="at"), sensor("other", other, time="at"))
    agent = start(config).reads("roof", "other")
    now = int(time.time())
    board.prints(line(now))
    agent.says("observation", 1)
    board.unplug()
    agent.says("Plug the sensor in")
    other.prints(line(now))
    agent.says("observation", 2)
    board.plug()
    agent.reads("roof", times=2)
    board.prints(line(now + 1))
    agent.says("observation", 3)
    kept = agent.stop()
    other.unplug()
    assert (len(kept.values("roof")), len(kept.values("other"))) == (2, 1)
    assert kept.status["home"]["sensors"]["roof"]["reopened"] == 1
