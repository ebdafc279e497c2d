"""Devices that push over real sockets: honest ones, slow ones, strangers, floods, and a port that another has."""

from __future__ import annotations

import contextlib
import errno
import socket
from pathlib import Path

import pytest

from edge_agent.clock import SystemClock
from edge_agent.config import Config, Sensor, parse
from edge_agent.errors import ConfigError, SensorError
from edge_agent.observation import Reading
from edge_agent.sensors import open_sources, probe
from edge_agent.sensors.listen import AllowList
from tests.agents import until
from tests.system.http_desk import BODY, TOKEN, UPLOAD, Desk, free_port, written

pytestmark = pytest.mark.system

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
