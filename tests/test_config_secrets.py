"""Secrets that agent.toml names: their files, and what is told of them."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec
import pytest

from edge_agent.config import read_secret, redacted
from edge_agent.errors import ConfigError
from tests.test_config import SENSOR, SMALLEST, read


def secret_file(folder: Path, content: bytes, mode: int = 0o600) -> Path:
    path = folder / "secret"
    path.write_bytes(content)
    path.chmod(mode)
    return path


@pytest.mark.parametrize(
    ("content", "secret"), [(b"pass\n", "pass"), (b"pass\r\n", "pass"), (b" a b ", " a b "), (b"x\n\n", "x\n")]
)
def test_a_secret_is_its_file_without_the_last_line_end(tmp_path: Path, content: bytes, secret: str) -> None:
    assert read_secret(str(secret_file(tmp_path, content))) == secret


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o666, 0o620])
def test_a_secret_others_can_touch_is_refused_with_the_command_that_helps(tmp_path: Path, mode: int) -> None:
    path = secret_file(tmp_path, b"hunter2", mode)
    with pytest.raises(ConfigError, match=f"chmod 600 {path}") as caught:
        read_secret(str(path))
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"\n", b"\xff\xff", b"x" * 70_000])
def test_an_unusable_secret_is_refused(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(ConfigError, match="secret"):
        read_secret(str(secret_file(tmp_path, content)))


def test_a_secret_that_is_not_a_file_is_refused_without_waiting(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for name in ("pipe", ".", "absent"):
        with pytest.raises(ConfigError):
            read_secret(str(tmp_path / name))


def test_a_systemd_credential_is_read_from_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mqtt").write_text("pass\n")
    (tmp_path / "mqtt").chmod(0o440)  # as systemd leaves it
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    assert read_secret("credential:mqtt") == "pass"
    with pytest.raises(ConfigError, match="name is made of"):
        read_secret("credential:../mqtt")
    monkeypatch.delenv("CREDENTIALS_DIRECTORY")
    with pytest.raises(ConfigError, match="LoadCredential=mqtt"):
        read_secret("credential:mqtt")


def test_what_is_published_about_the_configuration_holds_no_secret_and_no_exact_place() -> None:
    text = SMALLEST.replace("47.36", "47.36789") + SENSOR
    text += '[mqtt]\nusername = "someone"\npassword_file = "credential:hidden"\ntls_ca = "ca.pem"\n'
    shown = redacted(read(text))
    told = msgspec.json.encode(shown).decode()
    assert shown["station"][0]["latitude"] == 47.37
    assert shown["mqtt"] == {"host": "localhost", "port": 1883, "protocol": "5", "tls": True, "login": True}
    assert not [word for word in ("47.36789", "someone", "hidden") if word in told]
