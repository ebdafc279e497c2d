"""MQTT sensors against a real Mosquitto: what comes, what is never a reading, and a broker that goes and comes back."""

from __future__ import annotations

import shutil
import socket
import subprocess
import threading
import time
import tracemalloc
from pathlib import Path

import paho.mqtt.publish as publish
import pytest
from paho.mqtt.client import Client
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.reasoncodes import ReasonCode

from edge_agent.clock import SystemClock
from edge_agent.config import Mqtt
from edge_agent.errors import ConfigError, NetworkError, SensorError
from edge_agent.replay import mqtt_writer, replay_command
from edge_agent.sensors import open_sources, probe
from edge_agent.sensors.mqtt import MqttSource
from tests.agents import until
from tests.system.listening import a_config, a_sensor, send

pytestmark = pytest.mark.system


def test_messages_become_readings_by_topic(mosquitto, run, protocol):
    agent = run(a_config(mosquitto, a_sensor(), a_sensor("raw/+/out", name="out"), protocol=protocol))
    for topic, t in (("raw/roof", 1), ("raw/x/out", 2), ("raw/none", 3), ("raw/roof", 4)):
        send(mosquitto, topic, {"t": t})
    until(lambda: len(agent.readings) == 3, "three readings")
    assert agent.temperatures() == [1, 4] and agent.temperatures("out") == [2]
    assert agent.rejected() == {} and agent.sources[0].health().accepted == 2


def test_one_message_is_one_reading_whatever_the_topics_overlap(mosquitto, run, protocol):
    sensors = [
        a_sensor("raw/#", name="all"),
        a_sensor("raw/roof"),
        a_sensor("raw/+", name="level"),
        a_sensor(name="twin"),
    ]
    agent = run(a_config(mosquitto, *sensors, protocol=protocol))
    for t in range(5):
        send(mosquitto, "raw/roof", {"t": t})
    until(lambda: len(agent.readings) >= 20, "five readings from each")
    send(mosquitto, "raw/end", {"t": 99})
    until(lambda: 99 in agent.temperatures("all"), "the last one")
    assert agent.temperatures() == agent.temperatures("twin") == [0, 1, 2, 3, 4]
    assert agent.temperatures("all") == agent.temperatures("level") == [0, 1, 2, 3, 4, 99]


def test_a_broker_that_knows_only_3_1_1_is_read_in_it_by_default(broker_311, run):
    agent = run(a_config(broker_311, a_sensor()))
    send(broker_311, "raw/roof", {"t": 1})
    until(lambda: agent.temperatures() == [1], "a reading")
    assert agent.sources[0].health().detail == ""


def test_a_broker_that_says_it_needs_3_1_1_is_asked_in_it_at_once():
    """Also by `check`, for which a refused connection would be a problem of the sensor."""
    levels: list[int] = []

    def answer(listener: socket.socket) -> None:
        for _ in range(2):
            connection, _ = listener.accept()
            with connection:
                levels.append(connection.recv(4096)[8])  # of the protocol, in CONNECT
                connection.sendall(b"\x20\x02\x00\x01" if levels[-1] == 5 else b"\x20\x02\x00\x00")
                while levels[-1] != 5 and (request := connection.recv(4096)):
                    if request[0] == 0x82:  # SUBSCRIBE: granted
                        connection.sendall(b"\x90\x03" + request[2:4] + b"\x00")

    with socket.create_server(("127.0.0.1", 0)) as listener:
        broker = Mqtt(host="127.0.0.1", port=listener.getsockname()[1])
        thread = threading.Thread(target=answer, args=(listener,))
        thread.start()
        config = a_config(broker, a_sensor())
        with pytest.raises(SensorError, match="nothing came on raw/roof"):
            probe(config.sensor[0], config, 2.0)
        thread.join(20)
    assert levels == [5, 4]


def test_a_retained_message_without_its_own_time_is_never_a_reading(mosquitto, run, protocol):
    send(mosquitto, "raw/roof", {"t": 1}, retain=True)
    agent = run(a_config(mosquitto, a_sensor(), protocol=protocol))
    until(lambda: agent.rejected() == {"retained-without-time": 1}, "the retained one being counted")
    send(mosquitto, "raw/roof", {"t": 2}, retain=True)  # live now, though the broker keeps it too
    until(lambda: agent.temperatures() == [2], "the live one")


def test_a_retained_message_with_its_own_time_is_a_reading_of_that_time(mosquitto, run, protocol):
    send(mosquitto, "raw/roof", {"t": 1, "at": "2023-11-14T22:13:20Z"}, retain=True)
    agent = run(a_config(mosquitto, a_sensor(time="at"), protocol=protocol))
    until(lambda: agent.readings, "the reading")
    assert agent.readings[0][1].t == 1_700_000_000


def test_the_agents_own_topics_are_never_ingested(mosquitto, run):
    agent = run(a_config(mosquitto, a_sensor("#"), a_sensor("wx/+/home/obs", name="other")))
    send(mosquitto, "wx/v1/home/obs", {"t": 1})
    send(mosquitto, "wx/v10/home", {"t": 2})
    until(lambda: agent.temperatures() == [2], "the foreign one")
    assert agent.rejected(0) == {"own-topic": 1} == agent.rejected(1)
    assert agent.temperatures("other") == []


def test_size_and_rate_are_bounded(mosquitto, run, protocol):
    agent = run(
        a_config(
            mosquitto, a_sensor(max_message_bytes=100, max_messages_s=0.1), a_sensor(name="twin"), protocol=protocol
        )
    )
    send(mosquitto, "raw/roof", b"x" * 1_000_000)
    for t in range(8):
        send(mosquitto, "raw/roof", {"t": t})
    until(lambda: len(agent.temperatures("twin")) == 8, "all at the neighbour's")
    assert agent.temperatures() == [0, 1, 2, 3, 4, 5]
    assert agent.rejected() == {"too-large": 1, "too-fast": 2}
    assert agent.rejected(1) == {"too-large": 1}


def test_the_topic_names_the_station(mosquitto, run, protocol):
    sensor = a_sensor("raw/{station}/out")
    agent = run(a_config(mosquitto, sensor, stations=("home", "hill"), protocol=protocol))
    for station in ("home", "hill", "elsewhere", "home"):
        send(mosquitto, f"raw/{station}/out", {"t": 1})
    until(lambda: len(agent.readings) == 3, "three readings")
    assert [reading.station for _, reading in agent.readings] == ["home", "hill", "home"]
    assert agent.rejected() == {"unknown-station": 1}


def test_noise_is_counted_and_the_next_message_read(mosquitto, run):
    agent = run(a_config(mosquitto, a_sensor()))
    for payload in (b"\xff\x00\xfe", b"{", b"", b'{"t": NaN}', b'{"t": null, "x": 1}', b"21.5"):
        send(mosquitto, "raw/roof", payload)
    send(mosquitto, "raw/roof", {"t": 1})
    until(lambda: agent.temperatures() == [1], "the good one")
    assert agent.rejected() == {"not-json": 2, "nan": 1, "null": 1, "no-usable-value": 2, "not-object": 1}
    assert agent.sources[0].health().detail == ""


def test_a_broker_that_comes_late_goes_and_comes_back(mosquitto, run, protocol):
    mosquitto.stop()
    agent = run(a_config(mosquitto, a_sensor(), protocol=protocol), ready=False)
    agent.await_state("waiting")
    assert "refuses connections. Is it running" in agent.sources[0].health().detail
    for round_, end in enumerate((mosquitto.kill, mosquitto.stop)):
        mosquitto.start()
        agent.await_state("reading")
        send(mosquitto, "raw/roof", {"t": round_})
        until(lambda n=round_: len(agent.temperatures()) == n + 1, "a reading")
        assert agent.sources[0].health().reopened == round_
        end()
        agent.await_state("waiting")
    assert agent.temperatures() == [0, 1]


def test_what_came_while_away_is_read_only_if_it_says_when(mosquitto, run, protocol):
    config = a_config(
        mosquitto, a_sensor("raw/timed", name="timed", time="at"), a_sensor("raw/untimed"), protocol=protocol
    )
    first = run(config)
    first.stop()
    now = int(time.time())
    for i in range(3):
        send(mosquitto, "raw/timed", {"t": i, "at": now + i})
        send(mosquitto, "raw/untimed", {"t": i})
    mosquitto.stop()
    mosquitto.start()  # the broker keeps the session over its own restart too
    agent = run(config)
    until(lambda: len(agent.temperatures("timed")) == 3, "what was kept")
    send(mosquitto, "raw/untimed", {"t": 9})
    until(lambda: agent.temperatures() == [9], "only the live one")
    assert [reading.t for sensor, reading in agent.readings if sensor == "timed"] == [now, now + 1, now + 2]


def test_packets_of_weewx_are_kept_while_the_agent_is_away(mosquitto, run, protocol):
    davis = {"name": "davis", "driver": "weewx", "topic": "weather/loop"}
    config = a_config(mosquitto, davis, protocol=protocol)
    run(config).stop()
    now = int(time.time())
    for i in range(3):
        send(mosquitto, "weather/loop", {"dateTime": f"{now + i}.0", "rain_mm": "0.2"})
    agent = run(config)
    until(lambda: len(agent.readings) == 3, "what was kept")
    assert [(reading.t, reading.values) for _, reading in agent.readings] == [
        (now + i, {"rain": 0.2}) for i in range(3)
    ]


def test_a_driver_sees_the_topic_of_each_message(mosquitto, run, protocol):
    node = a_sensor("+/sensor/+/state", name="nodes") | {"driver": "esphome"}
    agent = run(a_config(mosquitto, node, protocol=protocol))
    for topic, payload in (("balcony/sensor/t/state", b"21.5"), ("balcony/sensor/wifi/state", b"-60")):
        send(mosquitto, topic, payload)
    until(lambda: agent.rejected() == {"no-mapped-value": 1}, "the second one")
    assert [(r.device, r.values) for _, r in agent.readings] == [("balcony", {"temperature": 21.5})]
    assert agent.sources[0].health().detail == ""
    send(mosquitto, "cellar/sensor/t/state", b"12.0")
    until(lambda: "temperature comes from 2 devices (balcony, cellar)" in agent.sources[0].health().detail, "the hint")


def test_one_connection_serves_all_sensors_until_the_last_stops(mosquitto, run):
    agent = run(a_config(mosquitto, a_sensor(), a_sensor(name="twin"), client_id="my-agent"))
    agent.sources[0].stop()
    send(mosquitto, "raw/roof", {"t": 1})
    until(lambda: agent.temperatures("twin") == [1], "the one that still runs")
    assert agent.sources[0].health().state == "stopped" and agent.temperatures() == []
    assert mosquitto.log.read_text().count("as my-agent-sensors") == 1


def test_password_and_protocol_go_to_the_broker(start_mosquitto, run, tmp_path, protocol):
    tool = shutil.which("mosquitto_passwd")
    if tool is None:
        pytest.skip("mosquitto_passwd is not installed (apt-get install mosquitto)")
    users, secret = tmp_path / "users", tmp_path / "secret"
    subprocess.run([tool, "-b", "-c", str(users), "agent", "s3cret"], check=True)
    users.chmod(0o644)
    broker = start_mosquitto(f"allow_anonymous false\npassword_file {users}")
    secret.write_text("wrong\n")
    secret.chmod(0o600)
    login = {"username": "agent", "password_file": str(secret), "protocol": protocol}
    agent = run(a_config(broker, a_sensor(), **login), ready=False)
    agent.await_state("waiting")
    assert "Check username and password_file" in agent.sources[0].health().detail
    assert "wrong" not in agent.sources[0].health().detail
    secret.write_text("s3cret\n")
    agent.await_state("reading")
    # Mosquitto's words: p5 is MQTT 5, p2 is 3.1.1, c0 a session that it keeps
    assert f"p{5 if protocol == '5' else 2}, c0" in broker.log.read_text()


def certificates(folder: Path) -> tuple[Path, Path]:
    """A certificate for the loopback address that is its own authority, and its key."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    certificate, key = folder / "cert.pem", folder / "key.pem"
    wish = ["-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1", "-days", "2"]
    made = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", str(key), "-out", str(certificate)]
    subprocess.run([*made, *wish], check=True, capture_output=True)
    return certificate, key


# paho leaves the socket of a failed handshake to the garbage collector
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_tls_with_a_named_authority_and_not_without(start_mosquitto, run, tmp_path):
    certificate, key = certificates(tmp_path)
    broker = start_mosquitto(f"certfile {certificate}\nkeyfile {key}")
    agent = run(a_config(broker, a_sensor(), tls_ca=str(certificate)))
    tls = {"ca_certs": str(certificate)}
    publish.single("raw/roof", b'{"t": 1}', qos=1, hostname=broker.host, port=broker.port, tls=tls)
    until(lambda: agent.temperatures() == [1], "a reading")
    (tmp_path / "other").mkdir()
    stranger, _ = certificates(tmp_path / "other")
    doubting = run(a_config(broker, a_sensor(), tls_ca=str(stranger), client_id="doubt"), ready=False)
    doubting.await_state("waiting")
    assert "Does tls_ca hold the authority" in doubting.sources[0].health().detail
    missing = run(a_config(broker, a_sensor(), tls_ca=str(tmp_path / "none.pem"), client_id="none"), ready=False)
    missing.await_state("waiting")
    assert "none.pem" in missing.sources[0].health().detail


def test_two_agents_of_one_name_are_told_so(mosquitto, run):
    config = a_config(mosquitto, a_sensor(), client_id="same")
    first = run(config)
    second = run(config, ready=False)
    words = 'does another client call itself "same-sensors" too?'
    until(lambda: any(words in agent.sources[0].health().detail for agent in (first, second)), "the advice")


def test_after_another_client_took_its_name_it_waits_long_and_says_so(run):
    """A broker that says so (0x8E), which this Mosquitto does not; two that come back at once would never end it."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(20)
        agent = run(a_config(Mqtt(host="127.0.0.1", port=listener.getsockname()[1]), a_sensor()), ready=False)
        connection, _ = listener.accept()
        with connection:
            connection.recv(4096)
            connection.sendall(bytes.fromhex("2003000000"))  # CONNACK
            request = connection.recv(4096)  # SUBSCRIBE
            connection.sendall(b"\x90\x04" + request[2:4] + b"\x00\x00" + bytes.fromhex("e0018e"))
            agent.await_state("waiting")
    detail = agent.sources[0].health().detail
    assert 'Another client calls itself "stationcast-home-sensors": give each agent its own client_id' in detail
    assert int(detail.rsplit("Trying again in ", 1)[1].split()[0]) >= 600


@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
def test_a_packet_that_claims_to_be_huge_is_refused_before_there_is_memory_for_it(run, protocol):
    """MQTT 3.1.1 has no word to tell a broker of a bound, and a broken one keeps to none."""
    connack = "2003000000" if protocol == "5" else "20020000"
    claimed = b"\x30" + b"\xff\xff\xff\x7f"  # PUBLISH of 268,435,455 bytes
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(20)
        tracemalloc.start()
        broker = Mqtt(host="127.0.0.1", port=listener.getsockname()[1])
        agent = run(a_config(broker, a_sensor(), protocol=protocol), ready=False)
        connection, _ = listener.accept()
        with connection:
            connection.recv(4096)
            connection.sendall(bytes.fromhex(connack))
            connection.recv(4096)
            connection.sendall(claimed + b"\x00\x08raw/roof" + b"x" * 5000)
            agent.await_state("waiting")
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    detail = agent.sources[0].health().detail
    assert "begins a packet of 268435455 bytes, and at most 4194304 are taken in" in detail
    assert peak < 3_000_000


def test_a_topic_that_the_broker_refuses_is_said_and_its_neighbour_read(mosquitto, run, monkeypatch):
    def refuse(self: Client, *args: object) -> object:
        """As a broker with access rules for subscriptions answers; Mosquitto itself accepts and stays silent."""
        self.on_subscribe(self, None, 1, [ReasonCode(PacketTypes.SUBACK, "Not authorized")], None)
        self.on_subscribe(self, None, 2, [ReasonCode(PacketTypes.SUBACK, "Granted QoS 0")], None)
        return 0

    monkeypatch.setattr(Client, "_handle_suback", refuse)
    agent = run(a_config(mosquitto, a_sensor("secret/#", name="secret"), a_sensor()))
    assert 'does not let us read "secret/#"' in agent.sources[0].health().detail
    assert agent.sources[1].health().detail == ""
    send(mosquitto, "raw/roof", {"t": 1})
    until(lambda: agent.temperatures() == [1], "the neighbour")


def test_a_topic_that_no_broker_takes_is_a_configuration_error(mosquitto):
    for topic in ("raw/#/x", "raw/x+", "raw/{station}x", "{station}/{station}"):
        with pytest.raises(ConfigError, match="must be whole levels"):
            open_sources(a_config(mosquitto, a_sensor(topic)), lambda *_: True, SystemClock())


def test_probing_leaves_the_running_agent_alone(mosquitto, run):
    config = a_config(mosquitto, a_sensor())
    agent = run(config)
    send(mosquitto, "raw/roof", {"t": 1}, retain=True)
    with pytest.raises(SensorError, match="retained-without-time"):
        probe(config.sensor[0], config, 1.0)
    assert agent.sources[0].health().state == "reading" and agent.sources[0].health().reopened == 0
    mosquitto.stop()
    with pytest.raises(SensorError, match="Is it running"):
        probe(config.sensor[0], config, 10.0)


def test_a_bug_in_one_sensor_leaves_its_neighbour_alone(mosquitto, run, monkeypatch):
    agent = run(a_config(mosquitto, a_sensor(), a_sensor(name="twin")))
    first = agent.sources[0]
    assert isinstance(first, MqttSource)

    def fail(*args: object, **kwargs: object) -> None:
        raise ZeroDivisionError("our bug")

    monkeypatch.setattr(first.intake, "message", fail)
    for t in range(2):
        send(mosquitto, "raw/roof", {"t": t})
    until(lambda: agent.temperatures("twin") == [0, 1], "the neighbour")
    assert agent.rejected() == {"internal-error": 2}


def test_a_recording_played_to_the_broker_arrives(mosquitto, run, tmp_path):
    agent = run(a_config(mosquitto, a_sensor("raw/home/roof")))
    recording = tmp_path / "recording.txt"
    recording.write_bytes(b"".join(b'{"t": %d}\n' % t for t in range(20)))
    url = f"mqtt://me@{mosquitto.host}:{mosquitto.port}/raw/home/roof"
    replay_command(recording, None, url, speed=1000.0, loop=False)
    until(lambda: len(agent.readings) == 20, "all of it")
    assert agent.temperatures() == list(range(20))


def test_a_broker_that_goes_while_a_recording_is_played_is_an_error(mosquitto):
    with (
        pytest.raises(NetworkError, match="went away"),
        mqtt_writer(f"mqtt://{mosquitto.host}:{mosquitto.port}/raw") as write,
    ):
        write(b"a")
        mosquitto.kill()
        write(b"b")
