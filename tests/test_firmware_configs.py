"""The ready-made files for devices: each is read by the program it is for."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import time
from pathlib import Path

import pytest

from edge_agent.config import load

FOLDER = Path(__file__).parents[1] / "firmware_configs"
STATIONS = sorted((FOLDER / "stations").glob("*.toml"))
UNIT = FOLDER / "systemd" / "stationcast.service"


@pytest.mark.parametrize("path", STATIONS, ids=lambda path: path.stem)
def test_a_ready_station_loads_and_measures_what_a_forecast_needs(path: Path) -> None:
    config = load(path)
    measured = {field.variable for sensor in config.sensor for field in sensor.map.values()}
    assert {"temperature", "humidity", "pressure", "wind_speed", "wind_direction"} <= measured
    assert config.store.path.startswith("/var/lib/stationcast/")  # what the unit lets the agent write to


@pytest.mark.parametrize("path", STATIONS, ids=lambda path: path.stem)
def test_it_shows_the_messages_it_is_for(path: Path) -> None:
    """The example in its head decodes to every variable of its map."""
    from edge_agent.sensors import DRIVERS

    lines = [line for line in path.read_text().splitlines() if line.startswith("#") and "{" in line]
    messages = [line[line.index("{") :].encode() for line in lines]
    for sensor, message in zip(load(path).sensor, messages, strict=True):
        (reading,) = DRIVERS[sensor.driver].decoder(sensor).decode(message)
        assert set(reading.values) == {field.variable for field in sensor.map.values()}


def test_both_transports_have_an_example() -> None:
    assert {bool(sensor.port) for path in STATIONS for sensor in load(path).sensor} == {True, False}


def test_systemd_has_nothing_to_say_against_the_unit(tmp_path: Path) -> None:
    """`systemd-analyze verify` ends with 0 for bad units too: what counts is that it prints nothing."""
    analyze, program = shutil.which("systemd-analyze"), shutil.which("true")
    if analyze is None or program is None:
        pytest.skip("systemd-analyze is not installed")
    unit = tmp_path / UNIT.name
    unit.write_text(UNIT.read_text().replace("/usr/local/bin/edge-agent", program))
    done = subprocess.run([analyze, "verify", str(unit)], capture_output=True, text=True, check=False)
    assert done.stderr == ""


def test_the_unit_leaves_the_agent_little_to_do_harm_with() -> None:
    """systemd's own score of what a service may do: 10 is everything, below 3 counts as safe."""
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        pytest.skip("systemd-analyze is not installed")
    command = [analyze, "security", "--offline=yes", "--threshold=25", "--no-pager", str(UNIT)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-500:] + done.stderr


def test_the_unit_runs_the_agent_as_itself_and_lets_it_read_serial_ports() -> None:
    unit = UNIT.read_text()
    assert re.search(r"^ExecStart=\S+/edge-agent run --config /etc/stationcast/agent.toml$", unit, re.MULTILINE)
    for line in (
        "Type=notify",
        "WatchdogSec=180",
        "Restart=always",
        "DynamicUser=yes",
        "SupplementaryGroups=dialout",
        "StateDirectory=stationcast",
    ):
        assert f"\n{line}\n" in unit
    assert "#LoadCredential=mqtt:" in unit
    assert 'credential:mqtt"' in (FOLDER / "stations" / "esp_mqtt.toml").read_text()


def test_mosquitto_starts_with_its_file(tmp_path: Path) -> None:
    broker = shutil.which("mosquitto", path=os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin")
    if broker is None:
        pytest.skip("mosquitto is not installed (apt-get install mosquitto)")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    text = (FOLDER / "mosquitto" / "stationcast.conf").read_text()
    text = text.replace("listener 1883 localhost", f"listener {port} 127.0.0.1").replace(
        "/var/lib/mosquitto/", f"{tmp_path}/"
    )
    if os.geteuid() == 0:
        text += "user root\n"
    conf = tmp_path / "stationcast.conf"
    conf.write_text(text)
    process = subprocess.Popen([broker, "-c", str(conf)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        for _ in range(200):
            with socket.socket() as probe:
                if process.poll() is not None or probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.05)
        assert process.poll() is None
    finally:
        process.terminate()
        said, _ = process.communicate(timeout=10)
    assert "Error" not in said, said


def test_udev_rules_are_rules() -> None:
    """Where udevadm can check them it does; each line is comma-separated KEY, operator, quoted value everywhere."""
    rules = FOLDER / "udev" / "99-stationcast.rules"
    entry = r'[A-Z]+(\{\w+\})?(==|!=|\+=|=)"[^"]*"'
    lines = [line.removeprefix("#") for line in rules.read_text().splitlines() if "==" in line]
    assert lines and all(re.fullmatch(rf"{entry}(, {entry})*", line) for line in lines)
    if (
        shutil.which("udevadm")
        and "verify" in subprocess.run(["udevadm", "--help"], capture_output=True, text=True).stdout
    ):
        subprocess.run(["udevadm", "verify", str(rules)], check=True)
