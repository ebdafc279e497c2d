"""A hostile network at the HTTP listener: what is no request, who drips, floods and holds on."""

from __future__ import annotations

import contextlib
import socket
import threading
import tracemalloc
from collections.abc import Callable

import pytest

from edge_agent.sensors.http import Limits
from tests.agents import until
from tests.system.http_desk import BODY, SECRET, TOKEN

pytestmark = pytest.mark.system


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
        quietly(lambda: desk.post("/data/report/", BODY))  # the next may come before the thread of the last has ended
    health, crowd = desk.sources["roof"].health(), desk.rejected("roof", "too-many-connections")
    assert health.accepted <= 35 and health.accepted + health.rejected["too-fast"] + crowd == 100


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
