"""What a broker and its subscribers see of a device that does not know the time."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import reduce
from operator import xor
from pathlib import Path

import pytest

from edge_agent.clock import ManualClock, format_time, parse_time
from edge_agent.publish.schemas import validate
from edge_agent.publish.topics import kind_of
from tests.agents import Running, fill, sensor, until, write_config
from tests.board import Board
from tests.system.subscriber import Subscriber
from tests.tiny_bundle import make_tiny_bundle

pytestmark = pytest.mark.system

TRUTH = parse_time("2026-03-01T12:07:13Z")


@pytest.fixture
def board(tmp_path: Path) -> Iterator[Board]:
    board = Board(tmp_path / "usb-roof")
    board.plug()
    yield board
    board.unplug()


def certificate(folder: Path, since: str, until_: str) -> Path:
    """An authority, and a certificate of it for localhost that is valid from one day to another (YYMMDD... as openssl
    writes them)."""

    def openssl(*words: str) -> None:
        subprocess.run(["openssl", *words], check=True, capture_output=True, cwd=folder)

    new = ("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
    constraints = ("-addext", "basicConstraints=critical,CA:TRUE", "-addext", "keyUsage=critical,keyCertSign")
    openssl(*new, "-x509", "-days", "2", "-subj", "/CN=test ca", *constraints, "-keyout", "ca.key", "-out", "ca.pem")
    openssl(*new, "-subj", "/CN=localhost", "-keyout", "server.key", "-out", "server.csr")
    (folder / "index.txt").touch()
    (folder / "serial").write_text("01\n")
    (folder / "ca.cnf").write_text(
        "[ca]\ndefault_ca = d\n[d]\ndatabase = index.txt\nserial = serial\nnew_certs_dir = .\ndefault_md = sha256\n"
        "policy = p\nx509_extensions = x\n[p]\ncommonName = supplied\n"
        "[x]\nsubjectAltName = DNS:localhost,IP:127.0.0.1\n"
    )
    signing = ("ca", "-batch", "-config", "ca.cnf", "-cert", "ca.pem", "-keyfile", "ca.key", "-in", "server.csr")
    openssl(*signing, "-startdate", since, "-enddate", until_, "-out", "server.pem")
    return folder


@pytest.mark.parametrize(
    ("since", "until_", "words"),
    [
        ("20700101000000Z", "20710101000000Z", "is not valid yet"),  # as after a boot in 1970
        ("20000101000000Z", "20010101000000Z", "has expired"),
    ],
)
def test_a_tls_failure_that_the_clock_may_cause_says_clock(start_mosquitto, tmp_path, since, until_, words):
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    keys = certificate(tmp_path, since, until_)
    broker = start_mosquitto(f"certfile {keys}/server.pem\nkeyfile {keys}/server.key")
    config = write_config(tmp_path, sensor("node", "node/air"), port=broker.port)
    config.write_text(config.read_text().replace("[mqtt]", f'[mqtt]\ntls_ca = "{keys}/ca.pem"'))
    agent = Running(config, ManualClock(30.0, "unsynced"))
    try:
        until(lambda: hasattr(agent._agent, "_publisher"), "the publisher")
        until(lambda: words in agent._agent._publisher.health().detail, "what is wrong")
        detail = agent._agent._publisher.health().detail
        assert "TLS: clock: " in detail and "is not synchronised" in detail and "edge-agent clock" in detail
        node = agent._agent._sources[0]
        until(lambda: "certificate" in node.health().detail, "the sensors' connection")
        assert "by this device's clock" in node.health().detail and "unsynced" in node.health().detail
    finally:
        agent.end()


def test_a_device_that_woke_in_1970_tells_again_what_it_told_wrong(mosquitto, board, tmp_path):
    fill(tmp_path / "store.sqlite", TRUTH - 600, hours=48)
    bundle = {"bundle": str(make_tiny_bundle(tmp_path / "tiny.bundle")), "allow_unsigned": True}
    config = write_config(tmp_path, sensor("roof", board), port=mosquitto.port, **bundle)
    clock = ManualClock(30.0, "unsynced")
    truths: list[int] = []
    with Subscriber(mosquitto.host, mosquitto.port) as live:
        agent = Running(config, clock).reads()
        try:
            for n in range(10):
                board.prints(b'{"t": %d, "h": 60}\n' % (10 + n))
                until(lambda n=n: len(agent.seen("roof")) == n + 1, "the reading")
                truths.append(TRUTH + 60 * n)
                clock.advance(60)
            until(lambda: len(live.on("wx/v1/home/obs")) >= 10, "what it tells at first")
            until(agent.forecasts, "a forecast")
            clock.set(TRUTH + 600, "synced")
            clock.advance(1)
            until(lambda: len(live.on("wx/v1/home/obs/history")) >= 10, "what it tells again")
            clock.advance(20)  # the least between two forecasts
            until(lambda: agent.forecasts()[-1].origin > TRUTH - 900, "a forecast of now")
            clock.advance(61)
            until(lambda: live.on("wx/v1/home/status"), "a status")
            until(lambda: said(live, "status")["timekeeping"]["restamped"] == 10, "a status that tells of it")
        finally:
            kept = agent.stop()
    first = {p["id"]: p for p in told(live, "obs")}
    again = {p["id"]: p for p in told(live, "obs/history")}
    assert first.keys() == again.keys() and len(again) == 10
    for payload, truth in zip(again.values(), truths, strict=True):
        was = first[payload["id"]]
        assert was["clock"] == "unsynced" and was["t"].startswith("1970") and "restamped_from" not in was
        assert payload["restamped_from"] == was["t"] and payload["clock"] == "synced" and payload["historical"]
        assert abs(parse_time(payload["t"]) - truth) <= 1 and payload["v"] == was["v"]
    assert [j.observation.t for j in kept.observations["home"] if j.observation.source == "roof"] == truths
    assert kept.books.accepted == kept.books.acknowledged == 20
    levels = {f.origin < 1000: f.level.value for f in agent.forecasts()}
    assert levels[True] in ("persistence", "none") and levels[False] == "nowcast-only"
    assert said(live, "info")["timekeeping"]["state"] == "synced"
    assert said(live, "status")["timekeeping"]["source"] == "ntp" and said(live, "status")["clock"] == "synced"
    assert parse_time(said(live, "obs/last")["t"]) >= TRUTH, format_time(TRUTH)
    for message in live.received:
        validate(kind_of(message.topic), message.payload)


def sentence(t: float) -> bytes:
    """What a GPS receiver with a fix sends at that time."""
    body = datetime.fromtimestamp(t, UTC).strftime("GPRMC,%H%M%S.00,A,4722.8,N,00832.4,E,0.0,,%d%m%y,,,A")
    return f"${body}*{reduce(xor, body.encode()):02X}\r\n".encode()


def test_a_gps_on_a_serial_line_tells_a_device_without_a_network_the_time(mosquitto, board, tmp_path):
    gps = Board(tmp_path / "usb-gps")
    gps.plug()
    receiver = f'\n[[sensor]]\nname = "gps"\ndriver = "nmea"\nport = "{gps.path}"\n'
    config = write_config(tmp_path, sensor("roof", board), receiver, port=mosquitto.port)
    clock = ManualClock(30.0, "unsynced")
    agent = Running(config, clock).reads()
    try:
        for n in range(5):
            board.prints(b'{"t": %d, "h": 60}\n' % (10 + n))
            until(lambda n=n: len(agent.seen("roof")) == n + 1, "the reading")
            clock.advance(60)
        assert {o.clock for o in agent.seen("roof")} == {"unsynced"}
        gps.prints(sentence(TRUTH + 300))
        until(lambda: agent._agent._sources[1].health().device_clock, "the receiver's time")
        clock.advance(2)
        until(lambda: agent._agent._clock.state() == "synced", "the time")
        until(lambda: not agent._agent._time.owing, "the readings to have it")
    finally:
        kept = agent.stop()
        gps.unplug()
    times = [j.observation.t for j in kept.observations["home"]]
    assert all(abs(t - TRUTH - 60 * n) <= 1 for n, t in enumerate(times)) and len(times) == 5
    assert kept.status["home"]["timekeeping"]["source"] == "gps"


def told(live: Subscriber, kind: str) -> list[dict[str, object]]:
    return [json.loads(m.payload) for m in live.on(f"wx/v1/home/{kind}")]


def said(live: Subscriber, kind: str) -> dict[str, object]:
    return told(live, kind)[-1]
