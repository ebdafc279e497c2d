"""`edge-agent check`: one line for each part of an installation, and what to do where one fails."""

from __future__ import annotations

import os
import re
import socket
import sqlite3
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from tiny_bundle import make_tiny_bundle

from edge_agent.bundle.trial import load_session
from edge_agent.cli import main
from edge_agent.clock import ManualClock
from edge_agent.config import load
from edge_agent.errors import ConfigError, StoreError
from edge_agent.setup import check

STATION = """\
[station]
id = "my-roof"
latitude = 47.36
longitude = 8.54
elevation_m = 408
[store]
path = "data/stationcast.sqlite"
[mqtt]
port = {port}
[forecast]
bundle = "tiny.bundle"
allow_unsigned = true
"""

SENSOR = """
[[sensor]]
name = "{name}"
driver = "json_lines"
port = "{port}"
map = {{ "t" = {{ variable = "temperature", unit = "degC" }} }}
"""


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_bundle(tmp_path_factory.mktemp("bundle") / "tiny.bundle")


@pytest.fixture
def closed_port() -> int:
    """A port of this machine where nothing listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def config(tmp_path: Path, tiny: Path, closed_port: int) -> Path:
    (tmp_path / "tiny.bundle").symlink_to(tiny)
    path = tmp_path / "agent.toml"
    path.write_text(STATION.format(port=closed_port))
    return path


@contextmanager
def board(line: bytes) -> Iterator[str]:
    """A pseudo-terminal on which a board prints a line every 0.2 s; yields its path."""
    ours, theirs = os.openpty()
    stop = threading.Event()

    def talk() -> None:
        while not stop.wait(0.2):
            os.write(ours, line)

    thread = threading.Thread(target=talk)
    thread.start()
    yield os.ttyname(theirs)
    stop.set()
    thread.join()
    os.close(ours)
    os.close(theirs)


def run(config: Path, *flags: str) -> Result:
    return CliRunner().invoke(main, ["check", "--config", str(config), *flags])


def line(result: Result, what: str) -> str:
    (found,) = (x for x in result.output.splitlines() if x[6:].startswith(f"{what}:"))
    return found


def test_offline_only_the_file_is_read(config: Path) -> None:
    result = run(config, "--offline")
    assert (result.exit_code, result.output) == (0, f"ok    {config}: 1 station, 0 sensors\n")
    assert sorted(p.name for p in config.parent.iterdir()) == ["agent.toml", "tiny.bundle"]


def test_every_problem_of_the_file_is_a_line(config: Path) -> None:
    config.write_text(config.read_text().replace("47.36", "147").replace("408", "'x'"))
    result = run(config)
    assert result.exit_code == 1
    assert [x.startswith(f"FAIL  {config}, line") for x in result.output.splitlines()] == [True, True]


def test_each_part_has_its_line_and_one_failure_hides_no_other(config: Path, closed_port: int) -> None:
    with board(b'{"t": 21.5}\r\n') as port:
        sensors = SENSOR.format(name="roof", port=port) + SENSOR.format(name="mast", port="/dev/serial/by-id/not-there")
        config.write_text(config.read_text() + sensors)
        result = run(config)
    assert result.exit_code == 1
    assert line(result, "sensor roof").startswith("ok    sensor roof: temperature 21.50 degC")
    assert line(result, "sensor mast").startswith("FAIL  sensor mast: /dev/serial/by-id/not-there is not there. Plug")
    assert line(result, "broker").startswith(f"FAIL  broker: localhost:{closed_port}: nothing listens there")
    assert line(result, "store").startswith("ok    store: ")
    assert line(result, "bundle").startswith("ok    bundle: tiny")
    assert line(result, "clock")[:5].strip() in ("ok", "note")
    assert not (config.parent / "data").exists()


def test_a_sensor_that_speaks_another_language_is_told_apart_from_a_silent_one(
    config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(check, "PROBE_S", 1.0)
    with board(b"\xff\x00\x81garbage\n") as noisy, board(b"") as silent:
        config.write_text(
            config.read_text() + SENSOR.format(name="noisy", port=noisy) + SENSOR.format(name="silent", port=silent)
        )
        result = run(config)
    assert "cannot be used" in line(result, "sensor noisy")
    assert "nothing came" in line(result, "sensor silent")


def test_without_a_sensor_it_says_that_nothing_would_be_read(config: Path) -> None:
    assert line(run(config), "sensors").startswith("FAIL  sensors: there is none: add a [[sensor]]")


# --- store -------------------------------------------------------------------------------------------------------


def test_a_store_that_is_there_is_opened_and_its_size_told(config: Path) -> None:
    from edge_agent.store import Store

    found = load(config)
    Store.open(Path(found.store.path)).close()
    assert " MB, " in check.check_store(found)


def test_a_file_of_another_program_is_refused_and_left_as_it_is(config: Path) -> None:
    found = load(config)
    path = Path(found.store.path)
    path.parent.mkdir()
    with sqlite3.connect(path) as other:
        other.execute("CREATE TABLE theirs (x)")
    other.close()
    before = path.read_bytes()
    with pytest.raises(StoreError, match="another program"):
        check.check_store(found)
    assert path.read_bytes() == before


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_may_not_be_written_is_named(config: Path) -> None:
    config.parent.chmod(0o500)
    try:
        with pytest.raises(StoreError, match="may not be written"):
            check.check_store(load(config))
    finally:
        config.parent.chmod(0o700)


def test_a_full_disk_is_seen_before_it_hurts(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(check, "MIN_FREE_MB", 1e12)
    with pytest.raises(StoreError, match="make room"):
        check.check_store(load(config))


# --- broker (passwords and TLS: tests/system/test_check_with_broker.py) ---------------------------------------


@contextmanager
def old_broker() -> Iterator[int]:
    """A broker that knows MQTT 3.1.1 only; yields its port."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            for _ in range(2):
                peer, _ = server.accept()
                with peer:
                    connect = peer.recv(1024)
                    modern = connect[connect.index(b"MQTT") + 4] == 5
                    peer.sendall(b"\x20\x03\x00\x84\x00" if modern else b"\x20\x02\x00\x00")
                    peer.recv(1024)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield server.getsockname()[1]
        thread.join()


def test_an_old_broker_is_worth_a_note_and_no_failure(config: Path) -> None:
    with old_broker() as port, board(b'{"t": 21.5}\n') as tty:
        sensor = SENSOR.format(name="roof", port=tty)
        config.write_text(re.sub("port = .*", f'host = "127.0.0.1"\nport = {port}', config.read_text()) + sensor)
        result = run(config)
    assert "MQTT 3.1.1 only" in line(result, "broker")
    assert line(result, "broker").startswith("note")
    assert result.exit_code == 0, result.output


# --- bundle and clock --------------------------------------------------------------------------------------------


def damage(config: Path, tiny: Path) -> None:
    damaged = config.parent / "damaged.bundle"
    raw = bytearray(tiny.read_bytes())
    raw[len(raw) // 2] ^= 0xFF
    damaged.write_bytes(raw)
    config.write_text(config.read_text().replace("tiny.bundle", "damaged.bundle"))


def test_of_a_refused_bundle_it_says_what_the_agent_forecasts_with_instead(
    config: Path, tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    damage(config, tiny)
    monkeypatch.setattr("edge_agent.bundle.trial.default_bundle", lambda: tiny)
    said = line(run(config), "bundle")
    assert said.startswith("FAIL  bundle: damaged.bundle: refused (")
    assert said.endswith(". The shipped bundle is used instead: tiny 0.0.1 (fp32)")
    assert load_session(load(config).forecast).why in said.replace("FAIL  bundle:", "bundle")  # as `run` says it


def test_without_any_good_bundle_it_says_persistence(config: Path, tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    damage(config, tiny)
    monkeypatch.setattr("edge_agent.bundle.trial.default_bundle", lambda: config.parent / "shipped.bundle")
    said = line(run(config), "bundle")
    assert "damaged.bundle: refused (" in said and "shipped.bundle: refused (unreadable)" in said
    assert said.endswith("Without a bundle, forecasts are persistence")


def test_a_runtime_that_cannot_be_loaded_is_a_line_too(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edge_agent.bundle.trial.verify_golden", lambda path, digest: None)
    monkeypatch.setitem(sys.modules, "edge_agent.inference.onnx", None)
    assert "its runtime cannot be loaded here" in line(run(config), "bundle")


def test_an_unsigned_bundle_needs_consent(config: Path) -> None:
    config.write_text(config.read_text().replace("allow_unsigned = true", ""))
    assert "allow_unsigned = true" in line(run(config), "bundle")


def test_a_clock_that_was_never_set_fails() -> None:
    with pytest.raises(ConfigError, match="1970-01-01"):
        check.check_clock(ManualClock(0.0))
    assert "synced" in check.check_clock(ManualClock(1_800_000_000.0))
