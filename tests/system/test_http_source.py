"""Devices that push over real sockets: honest ones, slow ones, strangers, floods, and a port that another has."""

from __future__ import annotations

import contextlib
import errno
import socket
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from edge_agent.clock import SystemClock
from edge_agent.config import Config, Sensor, parse
from edge_agent.errors import ConfigError, SensorError
from edge_agent.observation import Reading
from edge_agent.sensors import DRIVERS, open_sources, probe
from edge_agent.sensors.http import HttpSource, Limits, serve
from edge_agent.sensors.listen import AllowList, Listener, Listeners
from edge_agent.sensors.source import Intake
from edge_agent.sensors.supervisor import Pauses

pytestmark = pytest.mark.system

TOKEN = "s3cret-token-of-the-roof"
SECRET = "0123456789ABCDEF"
QUICK = Limits(request_s=1.0, connections=6, per_sender=4, wait_s=0.05)


def until(condition: Callable[[], object], what: str, timeout_s: float = 20.0) -> None:
    """Wait for something that happens in another thread."""
    for _ in range(int(timeout_s / 0.01)):
        if condition():
            return
        time.sleep(0.01)
    pytest.fail(f"waited in vain for: {what}")


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


class Desk:
    """Sensors at one address, and what came of them."""

    def __init__(self) -> None:
        self.clock = SystemClock()
        self.port = free_port()
        self.readings: dict[str, list[Reading]] = {}
        self.sources: dict[str, HttpSource] = {}
        self.listeners = Listeners(self.clock)
        self.limits = QUICK

    def add(self, name: str, driver: str = "ecowitt", **more: Any) -> HttpSource:
        listen = {"listen": f"127.0.0.1:{self.port}", **more}
        sensor = msgspec.convert({"name": name, "driver": driver, **listen}, Sensor)
        intake = Intake(sensor, DRIVERS[driver].decoder(sensor), self._emit, self.clock, ["home"])
        if not self.sources:
            quick = Listener(sensor.listen or "", lambda own: serve(own, self.limits), self.clock, Pauses(0.05, 0.2))
            self.listeners._found[sensor.listen or "", serve] = quick
        self.sources[name] = HttpSource(intake, self.listeners, self.clock, DRIVERS[driver].path(sensor))
        return self.sources[name]

    def _emit(self, sensor: Sensor, reading: Reading, arrived: float) -> bool:
        self.readings.setdefault(sensor.name, []).append(reading)
        return True

    def open(self) -> None:
        for source in self.sources.values():
            source.start()
        until(lambda: all(s.health().state == "reading" for s in self.sources.values()), "the listener")

    def rejected(self, name: str, reason: str) -> int:
        return self.sources[name].health().rejected.get(reason, 0)

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), 10)

    def send(self, raw: bytes) -> bytes:
        """Raw bytes of a request; all that is answered."""
        with self.connect() as connection:
            connection.sendall(raw)
            answer = b""
            while chunk := connection.recv(4096):
                answer += chunk
            return answer

    def post(self, path: str, body: bytes) -> bytes:
        head = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-www-form-urlencoded\r\n"
        return self.send(head.encode() + b"Content-Length: %d\r\n\r\n" % len(body) + body)

    def get(self, target: str) -> bytes:
        return self.send(f"GET {target} HTTP/1.1\r\nHost: x\r\n\r\n".encode())


@pytest.fixture
def desk() -> Iterator[Desk]:
    desk = Desk()
    yield desk
    for source in desk.sources.values():
        source.stop()


@pytest.fixture
def token_file(tmp_path: Path) -> str:
    return written(tmp_path / "token", TOKEN)


def written(path: Path, secret: str) -> str:
    path.write_text(f"{secret}\n")
    path.chmod(0o600)
    return str(path)


BODY = f"PASSKEY={SECRET}&tempf=50&humidity=60&yearlyrainin=1".encode()
UPLOAD = f"/weatherstation/updateweatherstation.php?ID=K&PASSWORD={SECRET}&dateutc=now&tempf=50"


# --- honest devices ----------------------------------------------------------------------------------------------


def test_a_gateway_posts_and_is_thanked(desk):
    desk.add("roof")
    desk.open()
    answer = desk.post("/data/report/", BODY)
    assert answer.startswith(b"HTTP/1.1 200 OK\r\n") and answer.endswith(b"\r\n\r\nsuccess\n")
    assert desk.readings["roof"][0].values["temperature"] == pytest.approx(10.0)
    assert desk.sources["roof"].health().accepted == 1


def test_an_upload_is_a_get_with_everything_in_its_query(desk):
    desk.add("roof", "wunderground")
    desk.open()
    assert desk.get(UPLOAD).endswith(b"success\n")
    assert desk.readings["roof"][0].values == {"temperature": pytest.approx(10.0)}


@pytest.mark.parametrize("target", ["/data/report/?tempf=50", "/data/report?tempf=50", "/data/report/tempf=50&x=1"])
def test_a_console_may_leave_out_slash_or_question_mark(desk, target):
    desk.add("roof", "ambient")
    desk.open()
    assert b" 200 " in desk.get(target)
    assert desk.readings["roof"][0].values == {"temperature": pytest.approx(10.0)}


def test_a_client_that_asks_before_it_sends_its_body_is_told_to_go_on(desk):
    desk.add("roof")
    desk.open()
    with desk.connect() as connection:
        connection.sendall(
            b"POST /data/report/ HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: %d\r\n\r\n" % len(BODY)
        )
        assert connection.recv(100).startswith(b"HTTP/1.1 100 ")
        connection.sendall(BODY)
        assert b" 200 " in connection.recv(100)


def test_sensors_share_an_address_and_are_told_apart_by_path(desk):
    desk.add("gateway")
    desk.add("console", "wunderground")
    desk.add("second", options={"path": "/second"})
    desk.open()
    desk.get(UPLOAD)
    desk.post("/data/report/", BODY)
    desk.post("/second/", BODY)
    desk.post("/SECOND", BODY)
    assert {name: len(found) for name, found in desk.readings.items()} == {"gateway": 1, "console": 1, "second": 2}


def test_what_cannot_be_read_is_counted_and_the_device_none_the_wiser(desk):
    desk.add("roof")
    desk.open()
    assert b" 200 " in desk.post("/data/report/", b"a=1")  # it would only send it again
    assert desk.sources["roof"].health().rejected == {"no-mapped-value": 1}
    assert "no-mapped-value" in desk.sources["roof"].health().detail


# --- tokens ------------------------------------------------------------------------------------------------------


def test_with_a_token_the_path_must_begin_with_it(desk, token_file):
    desk.add("roof", token_file=token_file)
    desk.open()
    assert b" 200 " in desk.post(f"/{TOKEN}/data/report/", BODY)
    assert b" 200 " in desk.post(f"/{TOKEN}/", BODY)  # whatever follows
    for path in (
        "/data/report/",
        f"/{TOKEN[:-1]}/data/report/",
        f"/{TOKEN}x/",
        f"/{TOKEN.upper()}/",
        "/",
        "//",
        "/\xe9/",
    ):
        assert b" 404 " in desk.post(path, BODY)
    assert len(desk.readings["roof"]) == 2 and desk.rejected("roof", "wrong-path") == 7


def test_sensors_with_one_token_are_told_apart_by_what_follows(desk, token_file):
    desk.add("gateway", token_file=token_file)
    desk.add("console", "wunderground", token_file=token_file)
    desk.open()
    desk.get(f"/{TOKEN}{UPLOAD}")
    desk.post(f"/{TOKEN}/data/report/", BODY)
    assert {name: len(found) for name, found in desk.readings.items()} == {"gateway": 1, "console": 1}


def test_a_token_file_that_cannot_be_read_closes_only_its_own_sensor(desk, tmp_path):
    missing = tmp_path / "not-yet"
    desk.add("roof", token_file=str(missing))
    desk.add("shed", options={"path": "/shed"})
    desk.open()
    assert b" 404 " in desk.post("//data/report/", BODY) and b" 200 " in desk.post("/shed", BODY)
    assert "no such file" in desk.sources["roof"].problem and not desk.sources["shed"].problem
    assert "no such file" in desk.sources["roof"].health().detail
    written(missing, TOKEN)
    assert b" 200 " in desk.post(f"/{TOKEN}/data/report/", BODY)
    assert not desk.sources["roof"].problem


@pytest.mark.parametrize("secret", ["short", "with/slash/in/it", "with space in it", "x" * 129])
def test_a_token_that_no_path_can_hold_is_told(desk, tmp_path, secret):
    desk.add("roof", token_file=written(tmp_path / "token", secret))
    desk.open()
    assert "a token is 8 to 128" in desk.sources["roof"].problem
    assert secret not in desk.sources["roof"].problem


def test_two_sensors_that_would_take_the_same_messages_are_an_error_of_the_configuration(desk):
    desk.add("roof")
    with pytest.raises(ConfigError, match='sensor "roof" takes the same messages'):
        desk.add("shed")
    desk.add("barn", allow=["192.0.2.7"])  # another sender: fine


# --- who may send ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("allow", "address", "may"),
    [
        ([], "127.0.0.1", True), ([], "192.168.7.3", True), ([], "10.0.0.1", True), ([], "172.31.0.1", True),
        ([], "::1", True), ([], "fe80::1%eth0", True), ([], "fd12::1", True), ([], "::ffff:192.168.7.3", True),
        ([], "8.8.8.8", False), ([], "172.32.0.1", False), ([], "2001:db8::1", False), ([], "::ffff:8.8.8.8", False),
        (["192.168.7.0/24"], "192.168.7.3", True), (["192.168.7.0/24"], "192.168.8.3", False),
        (["192.168.7.0/24"], "127.0.0.1", False), (["192.168.7.3"], "192.168.7.3", True),
        (["192.168.7.9/24"], "192.168.7.3", True), (["0.0.0.0/0"], "8.8.8.8", True),
    ],
)  # fmt: skip
def test_who_may_send(allow, address, may):
    assert (address in AllowList("roof", allow)) is may


def test_a_sender_who_is_not_allowed_is_not_read(desk):
    desk.add("roof", allow=["192.0.2.0/24"])
    desk.open()
    with contextlib.suppress(ConnectionError):
        assert desk.post("/data/report/", BODY) == b""
    until(lambda: desk.rejected("roof", "not-allowed") == 1, "the refusal")
    assert not desk.readings and "not in allow" in desk.sources["roof"].health().detail


def test_each_sensor_has_its_own_list(desk):
    desk.add("closed", allow=["192.0.2.0/24"])
    desk.add("open", allow=["127.0.0.0/8"])
    desk.open()
    assert b" 200 " in desk.post("/data/report/", BODY)
    assert set(desk.readings) == {"open"}


# --- a hostile network -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("request_line", "status"),
    [
        (b"POST /data/report/ HTTP/1.1\r\nContent-Length: 9000\r\n\r\n", b" 413 "),
        (b"POST /data/report/ HTTP/1.1\r\nContent-Length: 999999999999\r\n\r\n", b" 411 "),
        (b"POST /data/report/ HTTP/1.1\r\nContent-Length: -1\r\n\r\n", b" 411 "),
        (b"POST /data/report/ HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab", b" 411 "),
        (b"POST /data/report/ HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n", b" 411 "),
        (b"POST /data/report/ HTTP/1.1\r\n\r\n", b" 400 "),
        (b"GET /data/report/ HTTP/1.1\r\n\r\n", b" 400 "),
        (b"DELETE /data/report/ HTTP/1.1\r\n\r\n", b" 501 "),
        (b"GET /data/report/ HTTP/9.1\r\n\r\n", b" 505 "),
        (b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n", b" 400 "),
        (b"GET /data/report/?" + b"a" * 20_000 + b" HTTP/1.1\r\n\r\n", b" 431 "),
        (b"GET /data/report/ HTTP/1.1\r\n" + b"X: y\r\n" * 5_000 + b"\r\n", b" 431 "),
        (b"GET /data/report/ HTTP/1.1\r\n" + b"X: y\r\n" * 150 + b"\r\n", b" 431 "),
    ],
)
def test_what_is_no_request_is_refused_and_the_next_one_read(desk, request_line, status):
    desk.add("roof")
    desk.open()
    assert status in desk.send(request_line).split(b"\r\n")[0]
    assert sum(desk.sources["roof"].health().rejected.values()) == 1
    assert b" 200 " in desk.post("/data/report/", BODY)


def test_a_body_that_ends_early_is_no_reading(desk):
    desk.add("roof")
    desk.open()
    with desk.connect() as connection:
        connection.sendall(b"POST /data/report/ HTTP/1.1\r\nContent-Length: 100\r\n\r\ntempf=50")
        connection.shutdown(socket.SHUT_WR)
        assert b" 400 " in connection.recv(200)
    assert desk.rejected("roof", "cut-request") == 1 and not desk.readings


@pytest.mark.parametrize(
    "start", [b"", b"POST /data/rep", b"POST /data/report/ HTTP/1.1\r\nContent-Length: 90\r\n\r\na"]
)
def test_a_sender_who_drips_is_cut_off_and_honest_ones_are_served(desk, start):
    desk.add("roof")
    desk.open()
    slow = [desk.connect() for _ in range(3)]
    try:
        for connection in slow:
            connection.sendall(start)
        stop = threading.Event()

        def drip() -> None:
            while not stop.wait(0.1):
                for connection in slow:
                    with contextlib.suppress(OSError):
                        connection.sendall(b"x")

        thread = threading.Thread(target=drip)
        thread.start()
        try:
            assert b" 200 " in desk.post("/data/report/", BODY)
            until(lambda: desk.rejected("roof", "timed-out") == 3, "all three being cut off")
        finally:
            stop.set()
            thread.join()
    finally:
        for connection in slow:
            connection.close()


def test_one_sender_cannot_hold_all_connections(desk):
    desk.limits = Limits(request_s=30.0, connections=6, per_sender=4, wait_s=0.05)
    desk.add("roof")
    desk.open()
    held = [desk.connect() for _ in range(10)]
    try:
        until(lambda: desk.rejected("roof", "too-many-connections") == 6, "six being turned away")
        for connection in held:
            connection.close()
        until(lambda: b" 200 " in quietly(lambda: desk.post("/data/report/", BODY)), "being served again")
    finally:
        for connection in held:
            connection.close()


def quietly(call: Callable[[], bytes]) -> bytes:
    try:
        return call()
    except OSError:
        return b""


def test_a_flood_of_requests_is_bounded_by_the_sensors_rate(desk):
    desk.add("roof", max_messages_s=0.5)  # thirty at once
    desk.open()
    for _ in range(100):
        desk.post("/data/report/", BODY)
    health = desk.sources["roof"].health()
    assert health.accepted <= 35 and health.accepted + health.rejected["too-fast"] == 100


def test_a_hundred_thousand_bytes_of_headers_a_connection_take_no_memory(desk):
    desk.add("roof")
    desk.open()
    desk.post("/data/report/", BODY)
    tracemalloc.start()
    for _ in range(100):
        quietly(lambda: desk.send(b"GET / HTTP/1.1\r\n" + b"X: " + b"y" * 100_000))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 4_000_000
    assert b" 200 " in desk.post("/data/report/", BODY)


def test_stopping_ends_connections_that_hang(desk):
    desk.limits = Limits(request_s=600.0, wait_s=0.05)
    desk.add("roof")
    desk.open()
    with desk.connect() as connection:
        connection.sendall(b"POST ")
        until(lambda: any(t.name.startswith("Thread-") for t in threading.enumerate()), "its thread")
        desk.sources["roof"].stop()
        connection.settimeout(5)
        with contextlib.suppress(ConnectionError):
            while connection.recv(100):
                pass
    assert desk.sources["roof"].health().state == "stopped"


def test_nothing_secret_is_ever_logged_or_told(desk, token_file, caplog):
    caplog.set_level("DEBUG")
    desk.add("roof", token_file=token_file)
    desk.open()
    for body in (BODY, f"PASSKEY={SECRET}".encode(), f'{{"PASSKEY": "{SECRET}'.encode(), SECRET.encode()):
        desk.post(f"/{TOKEN}/data/report/", body)
        desk.get(f"/{TOKEN}/x?PASSWORD={SECRET}")
        desk.get(f"/{TOKEN}x/x?PASSWORD={SECRET}")
        desk.send(f"GET /{TOKEN}/x?PASSWORD={SECRET} HTTP/7.0\r\n\r\n".encode())
        desk.send(f"{SECRET} /{TOKEN} HTTP/1.1\r\n\r\n".encode())
    health = desk.sources["roof"].health()
    told = f"{health} {desk.sources['roof'].complaint} {caplog.text}"
    assert health.rejected and SECRET not in told and TOKEN not in told


def test_a_fault_of_ours_costs_one_message_and_shows(desk, monkeypatch, caplog):
    desk.add("roof")
    monkeypatch.setattr(type(desk.sources["roof"].intake), "message", lambda self, payload: int(payload))
    desk.open()
    assert b" 200 " in desk.post("/data/report/", BODY)
    assert desk.rejected("roof", "internal-error") == 1
    assert "ValueError" in caplog.text and SECRET not in caplog.text


# --- opening -----------------------------------------------------------------------------------------------------


def test_a_port_that_another_program_has_is_told_and_tried_again(desk):
    desk.add("roof")
    with socket.socket() as other:
        other.bind(("127.0.0.1", desk.port))
        other.listen()
        desk.sources["roof"].start()
        until(lambda: desk.sources["roof"].health().state == "waiting", "the collision")
        words = desk.sources["roof"].health().detail
        assert f"127.0.0.1:{desk.port} is already taken by another program" in words and "Trying again" in words
    until(lambda: desk.sources["roof"].health().state == "reading", "the port")
    assert b" 200 " in desk.post("/data/report/", BODY)


def test_an_address_of_another_machine_is_told(desk):
    source = desk.add("roof", listen="192.0.2.1:8080")
    source.start()
    until(lambda: source.health().state == "waiting", "the problem")
    assert "no address of this machine" in source.health().detail


def test_a_port_below_1024_is_told(desk, monkeypatch):
    def refuse(*args: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    source = desk.add("roof", listen="127.0.0.1:80")
    monkeypatch.setattr(socket.socket, "bind", refuse)  # the tests may run as root
    source.start()
    until(lambda: source.health().state == "waiting", "the problem")
    assert "ports below 1024" in source.health().detail and "8080" in source.health().detail


CONFIG = """
[station]
id = "home"
latitude = 47
longitude = 8
elevation_m = 408
[store]
path = "x.sqlite"
[[sensor]]
name = "roof"
driver = "ecowitt"
listen = "127.0.0.1:%d"
allow = %s
token_file = "token"
"""


def config(tmp_path: Path, port: int, allow: str = "[]") -> Config:
    return parse(CONFIG % (port, allow), tmp_path / "agent.toml")


def test_the_agent_opens_it_from_its_configuration(tmp_path):
    port, came = free_port(), []
    written(tmp_path / "token", TOKEN)  # beside the file that names it

    def emit(sensor: Sensor, reading: Reading, arrived: float) -> bool:
        came.append(reading)
        return True

    (source,) = open_sources(config(tmp_path, port), emit, SystemClock())
    source.start()
    try:
        until(lambda: source.health().state == "reading", "the listener")
        helper = Desk()
        helper.port = port
        assert b" 200 " in helper.post(f"/{TOKEN}/data/report/", BODY)
        assert came[0].values["humidity"] == 60.0
    finally:
        source.stop()


def test_an_allow_list_that_says_nothing_is_told_with_its_line(tmp_path):
    with pytest.raises(ConfigError, match=r'line 13: sensor "roof": "allow" holds "my network"'):
        config(tmp_path, 8080, '["my network"]')


def test_checking_says_when_nothing_came(tmp_path):
    written(tmp_path / "token", TOKEN)
    found = config(tmp_path, free_port())
    with pytest.raises(SensorError, match="nothing came on"):
        probe(found.sensor[0], found, 0.5)
