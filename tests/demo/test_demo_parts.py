"""The demo's parts by themselves: both brokers carry messages, and the witness believes only what it received."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import msgspec
import numpy as np
import pytest
from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

from edge_agent.bundle.manifest import Manifest
from edge_agent.config import load
from edge_agent.demo import broker as brokers
from edge_agent.demo import scene
from edge_agent.demo.broker import Broker, broker
from edge_agent.demo.witness import Witness, listening
from edge_agent.errors import NetworkError
from edge_agent.forecast import LEADS_S, QUANTILES, Forecast, Level, VariableForecast
from edge_agent.observation import Flag, Judged, Observation, Verdict
from edge_agent.publish.payloads import forecast_payload, observation_payload, status_payload, to_json
from edge_agent.sensors import Health

MODEL = "station-default"
MANIFEST = cast(Manifest, SimpleNamespace(name=MODEL, precision="int8"))


def nowcast(origin: int, level: Level = Level.NOWCAST_ONLY, source: str = MODEL) -> bytes:
    mean = np.full(len(LEADS_S), 12.0)
    fan = np.array(QUANTILES)[:, None] + mean
    variables = {"temperature": VariableForecast("temperature", level, mean, fan, 60)}
    forecast = Forecast("melle", origin, origin + 5, LEADS_S, QUANTILES, level, source, source, variables, {})
    return to_json(forecast_payload(forecast, 3600))


def reading(flag: Flag) -> bytes:
    observation = Observation("melle", "logger", scene.START, {"temperature": 85.0}, "boot", 1)
    verdict = Verdict(flag, "range", "85.0 degC is above 65")
    return to_json(observation_payload(Judged(observation, {"temperature": verdict}), historical=False))


def status(rejected: dict[str, int]) -> bytes:
    health = Health("logger", "json_lines", "reading", "", 7, rejected, float(scene.START), 0)
    parts = {"uptime_s": 60.0, "clock": "synced", "outbox": {}, "forecast": None, "flags": {}}
    return to_json(status_payload(scene.START, sensors=[health], **cast(Any, parts)))


def hide(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    """Make programs look as if they were not installed, everywhere in the demo."""
    found = brokers.program

    def program(name: str) -> str | None:
        return None if name in names else found(name)

    monkeypatch.setattr(brokers, "program", program)
    monkeypatch.setattr("edge_agent.demo.witness.program", program)


def publish(to: Broker, *messages: tuple[str, bytes]) -> None:
    client = Client(CallbackAPIVersion.VERSION2, protocol=MQTTProtocolVersion.MQTTv311)
    client.connect(to.host, to.port)
    client.loop_start()
    for topic, payload in messages:
        client.publish(topic, payload, qos=1).wait_for_publish(10)
    client.disconnect()
    client.loop_stop()


def eventually(met: Callable[[], bool]) -> bool:
    """Poll for up to 20 s."""
    for _ in range(400):
        if met():
            return True
        time.sleep(0.05)
    return False


@pytest.mark.system
@pytest.mark.parametrize("kind", ["mosquitto", "embedded"])
def test_witness_receives_from_either_broker(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the embedded broker also the subscriber is our own: a machine with nothing installed."""
    if kind == "mosquitto":
        if brokers.program("mosquitto") is None:
            pytest.skip("mosquitto is not installed (apt-get install mosquitto)")
    else:
        pytest.importorskip("amqtt", reason="the demo extra is not installed")
        hide(monkeypatch, "mosquitto", "mosquitto_sub")
    witness = Witness(MANIFEST, ("melle",))
    with broker(tmp_path) as running, listening(running, witness):
        assert running.protocol == {"mosquitto": "5", "embedded": "3.1.1"}[kind]
        assert eventually(lambda: _answers(running, witness))
        publish(
            running,
            ("wx/v1/melle/forecast/nowcast", nowcast(scene.START + 600)),
            ("wx/v1/melle/forecast/nowcast", nowcast(scene.START + 1500)),
            ("wx/v1/melle/obs", reading(Flag.FAIL)),
            ("wx/v1/melle/status", status({"not-json": 1})),
        )
        assert eventually(lambda: not witness.missing())
    assert witness.faults == []
    assert not [t for t in threading.enumerate() if t.name in ("subscriber", "embedded broker")]


def _answers(running: Broker, witness: Witness) -> bool:
    """The subscriber is there once something comes through."""
    publish(running, ("wx/v1/melle/availability", b"online"))
    return "availability" in witness.summary


def test_no_broker_at_all_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hide(monkeypatch, "mosquitto")
    monkeypatch.setitem(cast(Any, __import__("sys").modules), "amqtt.broker", None)
    with pytest.raises(NetworkError, match="apt-get install mosquitto"), broker(tmp_path):
        pass


@pytest.mark.parametrize(
    "payload",
    [
        nowcast(scene.START, Level.PERSISTENCE, "persistence"),
        nowcast(scene.START, Level.NOWCAST_ONLY, "another-model"),
        msgspec.json.encode({"level": "nowcast-only"}),
    ],
    ids=["persistence", "another model", "not a forecast"],
)
def test_witness_takes_nothing_else_for_a_forecast_of_the_model(payload: bytes) -> None:
    witness = Witness(MANIFEST, ("melle",))
    witness.message("wx/v1/melle/obs", reading(Flag.FAIL))
    witness.message("wx/v1/melle/forecast/nowcast", nowcast(scene.START + 600))
    witness.message("wx/v1/melle/forecast/nowcast", nowcast(scene.START + 600))  # the same origin again
    witness.message("wx/v1/melle/forecast/nowcast", payload)
    assert "1 of 2 origins" in witness.missing()[0]


def test_witness_waits_until_the_cut_line_is_counted() -> None:
    witness = Witness(MANIFEST, ())
    witness.message("wx/v1/melle/obs", reading(Flag.FAIL))
    witness.message("wx/v1/melle/status", status({"first-total": 1}))
    assert "cut off" in witness.missing()[0]
    witness.message("wx/v1/melle/status", status({"first-total": 1, "not-json": 1}))
    assert witness.missing() == []
    assert witness.rejected() == {("melle", "logger", "first-total"): 1, ("melle", "logger", "not-json"): 1}


def test_suspect_value_is_not_a_failed_one() -> None:
    witness = Witness(MANIFEST, ())
    witness.message("wx/v1/melle/obs", reading(Flag.SUSPECT))
    assert "no observation with a failed value" in witness.missing()[0]


def test_message_that_breaks_its_schema_is_a_fault() -> None:
    witness = Witness(MANIFEST, ())
    witness.message("wx/v1/melle/forecast/nowcast", b"{}")
    witness.message("wx/v1/melle/no/such/kind", b"{}")
    assert len(witness.faults) == 2


@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
def test_demos_configuration_is_one_the_agent_takes(protocol: str, tmp_path: Path) -> None:
    path = scene.write_config(tmp_path, Broker("any", 1884, protocol), "/dev/pts/1")
    config = load(path)
    assert [station.id for station in config.stations] == [place.id for place in scene.PLACES]
    assert {config.station_of(sensor) for sensor in config.sensor} == {"melle", "de-haan"}
