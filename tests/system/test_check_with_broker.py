"""`edge-agent check` against real brokers: what it says of passwords, certificates and old protocols."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from edge_agent.clock import SystemClock
from edge_agent.config import Config, Mqtt, Station, Store
from edge_agent.errors import ConfigError, NetworkError
from edge_agent.setup.check import check_broker

pytestmark = pytest.mark.system


def config(mqtt: Mqtt) -> Config:
    return Config(
        station=Station(id="my-roof", latitude=47.36, longitude=8.54, elevation_m=408.0),
        store=Store("unused"),
        mqtt=mqtt,
    )


def secret(folder: Path, text: str, mode: int = 0o600) -> str:
    path = folder / "mqtt.password"
    path.write_text(text + "\n")
    path.chmod(mode)
    return str(path)


def passwords(folder: Path) -> Path:
    path = folder / "passwords"
    subprocess.run(["mosquitto_passwd", "-b", "-c", path, "me", "right"], check=True)
    path.chmod(0o644)
    return path


def test_a_broker_that_takes_us_is_ok_and_hears_nothing(mosquitto: Any) -> None:
    told = check_broker(config(Mqtt(host=mosquitto.host, port=mosquitto.port)), SystemClock())
    assert told == f"connected to {mosquitto.host}:{mosquitto.port}, MQTT 5"
    assert "PUBLISH" not in mosquitto.log.read_text()


def test_a_wrong_password_is_told_from_a_right_one(start_mosquitto: Callable[..., Any], tmp_path: Path) -> None:
    if not shutil.which("mosquitto_passwd"):
        pytest.skip("mosquitto_passwd is not installed (apt-get install mosquitto)")
    broker = start_mosquitto(f"allow_anonymous false\npassword_file {passwords(tmp_path)}")
    settings = Mqtt(host=broker.host, port=broker.port, username="me", password_file=secret(tmp_path, "right"))
    assert "connected" in check_broker(config(settings), SystemClock())
    secret(tmp_path, "wrong")
    with pytest.raises(NetworkError, match=r'refuses user "me".*password_file'):
        check_broker(config(settings), SystemClock())
    secret(tmp_path, "right", 0o644)
    with pytest.raises(ConfigError, match="chmod 600"):
        check_broker(config(settings), SystemClock())
    with pytest.raises(NetworkError, match="without a user name"):
        check_broker(config(Mqtt(host=broker.host, port=broker.port)), SystemClock())


def certificate(folder: Path, name: str) -> tuple[Path, Path]:
    """A self-signed certificate for localhost, and its key."""
    cert, key = folder / f"{name}.crt", folder / f"{name}.key"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", str(key), "-out", str(cert)]
    command += ["-days", "2", "-subj", f"/CN={name}", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
    subprocess.run(command, check=True, capture_output=True)
    key.chmod(0o644)
    return cert, key


def refusal(settings: Mqtt) -> str:
    """What `check` says against these settings."""
    try:
        check_broker(config(settings), SystemClock())
    except (NetworkError, ConfigError) as error:
        return str(error)
    return ""


def test_tls_works_and_a_stranger_s_certificate_does_not(start_mosquitto: Callable[..., Any], tmp_path: Path) -> None:
    if not shutil.which("openssl"):
        pytest.skip("openssl is not installed")
    cert, key = certificate(tmp_path, "broker")
    other, _ = certificate(tmp_path, "other")
    broker = start_mosquitto(f"certfile {cert}\nkeyfile {key}")
    settings = Mqtt(host="localhost", port=broker.port, tls_ca=str(cert))
    assert "with TLS" in check_broker(config(settings), SystemClock())
    assert "tls_ca must name the authority" in refusal(msgspec.structs.replace(settings, tls_ca=str(other)))
    assert "cannot be used as a PEM certificate" in refusal(msgspec.structs.replace(settings, tls_ca=str(key)))
    assert "needs mqtt.tls_ca" in refusal(msgspec.structs.replace(settings, tls_ca=None))


def test_a_port_without_tls_is_named_as_one(mosquitto: Any, tmp_path: Path) -> None:
    if not shutil.which("openssl"):
        pytest.skip("openssl is not installed")
    cert, _ = certificate(tmp_path, "broker")
    assert "TLS port" in refusal(Mqtt(host=mosquitto.host, port=mosquitto.port, tls_ca=str(cert)))


def test_no_such_host_is_named() -> None:
    with pytest.raises(NetworkError, match="no such host"):
        check_broker(config(Mqtt(host="broker.invalid", port=1883)), SystemClock())
