"""`edge-agent init`: a first agent.toml, from flags in a script and from answers on a terminal."""

from __future__ import annotations

import os
import re
import select
import subprocess
import sys
import tomllib
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner, Result
from hypothesis import given
from hypothesis import strategies as st

from edge_agent import config as c
from edge_agent.cli import main
from edge_agent.config import load, parse
from edge_agent.sensors import DRIVERS
from edge_agent.setup import init, questions

PLACE = ["--station-id", "my-roof", "--latitude", "47.36", "--longitude", "8.54", "--elevation", "408"]
SERIAL = ["--serial", "/dev/ttyUSB0", "--driver", "csv_lines"]


def run(*flags: str) -> Result:
    return CliRunner().invoke(main, ["init", *flags])


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("more", [[], SERIAL, ["--serial", "/dev/ttyUSB0"], ["--driver", "mqtt_json"]])
def test_what_it_writes_is_accepted_unchanged(more: list[str]) -> None:
    result = run(*PLACE, "--mqtt", "broker.example:1884", *more)
    assert result.exit_code == 0, result.output
    config = load(Path("agent.toml"))
    station = config.stations[0]
    assert (station.id, station.latitude, station.longitude, station.elevation_m) == ("my-roof", 47.36, 8.54, 408.0)
    assert (config.mqtt.host, config.mqtt.port) == ("broker.example", 1884)
    assert [sensor.driver for sensor in config.sensor] == (
        [] if not more else ["json_lines"] if len(more) == 2 and "--serial" in more else [more[-1]]
    )
    assert "edge-agent check" in result.output and "edge-agent run" in result.output


@pytest.mark.parametrize("driver", sorted(DRIVERS))
def test_it_writes_a_sensor_of_any_driver(driver: str) -> None:
    serial = ["--serial", "/dev/ttyUSB0"] if DRIVERS[driver].transport == "serial" else []
    result = run(*PLACE, "--driver", driver, *serial)
    assert result.exit_code == 0, result.output
    (sensor,) = load(Path("agent.toml")).sensor
    assert sensor.driver == driver and bool(sensor.map) == DRIVERS[driver].maps
    assert ("map of your sensor" in result.output) == DRIVERS[driver].maps


@pytest.mark.parametrize("more", [[], SERIAL, ["--driver", "mqtt_json"]])
def test_its_optional_keys_are_all_there_and_all_work(more: list[str]) -> None:
    """With every `#key` made a key the file is still a configuration, and no key of one is missing from it."""
    run(*PLACE, *more)
    text = re.sub(r"^#(?! )", "", Path("agent.toml").read_text(), flags=re.MULTILINE)
    parse(text, Path("agent.toml"))
    raw = tomllib.loads(text)
    for table in ("station", "mqtt", "store", "forecast"):
        assert set(raw[table]) == {f.name for f in msgspec.structs.fields(getattr(c, table.capitalize()))}
    if more:
        shown = {key for sensor in raw["sensor"] for key in sensor}
        of_other_transports = {"listen", "allow", "token_file", "host", "options"}
        assert shown == {f.name for f in msgspec.structs.fields(c.Sensor)} - of_other_transports


def test_optional_keys_show_their_defaults() -> None:
    run(*PLACE, *SERIAL)
    text = Path("agent.toml").read_text()
    for section in (c.Mqtt, c.Store, c.Sensor, c.Forecast):
        for field in msgspec.structs.fields(section):
            shown = re.search(rf"^#{field.name} = (.*)$", text, re.MULTILINE)
            if shown and field.default not in (None, msgspec.NODEFAULT):
                assert tomllib.loads(f"x = {shown[1]}")["x"] == field.default, field.name


def test_the_time_zone_is_the_given_one_else_the_systems(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(questions, "guess_timezone", lambda: "Asia/Tokyo")
    for flags, timezone in ((["--timezone", "America/Lima"], "America/Lima"), ([], "Asia/Tokyo")):
        assert run(*PLACE, *flags, "--force").exit_code == 0
        assert load(Path("agent.toml")).stations[0].timezone == timezone


def test_a_script_is_told_every_flag_that_is_missing() -> None:
    result = run("--latitude", "47")
    assert result.exit_code == 1
    assert "missing --station-id, --longitude, --elevation" in result.output
    assert "--serial" in run(*PLACE, "--driver", "json_lines").output
    assert not Path("agent.toml").exists()


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--latitude", "147"], "--latitude is 147: must lie within -90 to 90"),
        (["--elevation", "nan"], "--elevation is nan"),
        (["--timezone", "Europe/Zuerich"], 'did you mean "Europe/Zurich"?'),
        (["--timezone", ""], "--timezone is"),
        (["--timezone", "localtime"], "which is not a time zone"),
        (["--station-id", "My Roof"], "3 to 40 of a-z"),
        (["--mqtt", "mqtt://broker"], "without mqtt://"),
        (["--mqtt", "broker:99999"], "1 to 65535"),
        (["--mqtt", "broker:"], "--mqtt HOST"),
        (["--mqtt", ""], "--mqtt HOST"),
        (["--driver", "json_line"], 'did you mean "json_lines"?'),
        (["--driver", "mqtt_json", "--serial", "/dev/ttyUSB0"], "reads no serial port"),
        (["--serial", "/dev/tty\n[x]"], "cannot be shown"),
    ],
)
def test_wrong_flags_are_refused_as_the_file_would_be(flags: list[str], words: str) -> None:
    result = run(*PLACE, *flags)
    assert result.exit_code == 1
    assert words in result.output
    assert not Path("agent.toml").exists()


def test_a_file_that_is_there_is_replaced_only_when_forced() -> None:
    Path("agent.toml").write_text("mine")
    refused = run(*PLACE)
    assert refused.exit_code == 1 and "--force" in refused.output
    assert Path("agent.toml").read_text() == "mine"
    assert run(*PLACE, "--force").exit_code == 0
    assert load(Path("agent.toml")).stations[0].id == "my-roof"


def test_a_folder_that_is_not_there_is_named() -> None:
    result = run(*PLACE, "--out", "nowhere/agent.toml")
    assert result.exit_code == 1 and "nowhere/agent.toml: cannot be written" in result.output


def test_the_port_of_tls_turns_tls_on() -> None:
    run(*PLACE, "--mqtt", "broker:8883")
    assert load(Path("agent.toml")).mqtt.tls_ca == init.PUBLIC_AUTHORITIES


def test_an_ipv6_address_stands_in_brackets() -> None:
    assert run(*PLACE, "--mqtt", "[::1]:1884").exit_code == 0
    mqtt = load(Path("agent.toml")).mqtt
    assert (mqtt.host, mqtt.port) == ("::1", 1884)


printable = st.text(st.characters(exclude_categories=["C", "Z"]), min_size=1, max_size=20)


@given(port=printable, latitude=st.floats(-90, 90), longitude=st.floats(-180, 180), elevation=st.floats(-430, 9000))
def test_every_accepted_answer_comes_back_out_of_the_file(
    port: str, latitude: float, longitude: float, elevation: float
) -> None:
    answers = questions.Answers("my-roof", latitude, longitude, elevation, "UTC", port, "json_lines", "localhost", 1883)
    config = parse(init.compose(answers), Path("agent.toml"))
    assert config.sensor[0].port == (port if "://" in port else str(Path.cwd() / port))
    assert config.stations[0].latitude == pytest.approx(latitude)
    assert config.stations[0].elevation_m == pytest.approx(elevation)


@pytest.mark.parametrize(
    ("timezone", "localtime", "guess"),
    [
        ("Europe/Zurich\n", None, "Europe/Zurich"),
        (None, "/usr/share/zoneinfo/America/New_York", "America/New_York"),
        ("Etc/UTC", "/usr/share/zoneinfo/Etc/UTC", "UTC"),
        ("nonsense\n", "/usr/share/zoneinfo/Asia/Tokyo", "Asia/Tokyo"),
        (None, "/somewhere/else", "UTC"),
        (None, None, "UTC"),
    ],
)
def test_the_time_zone_is_guessed_from_the_system(
    tmp_path: Path, timezone: str | None, localtime: str | None, guess: str
) -> None:
    if timezone:
        (tmp_path / "timezone").write_text(timezone)
    if localtime:
        (tmp_path / "localtime").symlink_to(localtime)
    assert questions.guess_timezone(tmp_path) == guess


def converse(flags: list[str], answers: list[tuple[str, str]]) -> str:
    """Run `init` on a real terminal, give each answer when its question stands there, and return all that was shown."""
    ours, theirs = os.openpty()
    environment = os.environ | {"PYTHONPATH": str(Path(init.__file__).parents[2])}
    command = [sys.executable, "-m", "edge_agent.cli", "init", *flags]
    process = subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, env=environment)
    os.close(theirs)
    shown = ""
    waiting = list(answers)
    while select.select([ours], [], [], 30)[0]:
        try:
            shown += os.read(ours, 4096).decode()
        except OSError:  # the other end is closed
            break
        if waiting and waiting[0][0] in shown.rpartition("\n")[2]:
            os.write(ours, waiting.pop(0)[1].encode() + b"\n")
    os.close(ours)
    assert process.wait(timeout=30) == 0, shown
    assert not waiting, shown
    return shown


def test_on_a_terminal_it_asks_again_until_the_answer_is_right() -> None:
    shown = converse(
        ["--longitude", "8.54"],
        [
            ("Station id", "My Roof"),
            ("Station id", "my-roof"),
            ("Latitude", "north"),
            ("Latitude", "47.36"),
            ("Elevation", "408"),
            ("Time zone", "Europe/Zurich"),
            ("serial port", "/dev/ttyACM7"),
            ("Driver", "csv_lines"),
            ("Broker", "broker:1884"),
        ],
    )
    config = load(Path("agent.toml"))
    assert "3 to 40 of a-z" in shown and "write a number" in shown
    assert config.stations[0] == c.Station("my-roof", 47.36, 8.54, 408.0, "Europe/Zurich")
    assert (config.sensor[0].driver, config.sensor[0].port) == ("csv_lines", "/dev/ttyACM7")
    assert (config.mqtt.host, config.mqtt.port) == ("broker", 1884)


def test_on_a_terminal_everything_but_the_place_has_a_default() -> None:
    converse(PLACE, [("Time zone", ""), ("serial port", ""), ("Broker", "")])
    config = load(Path("agent.toml"))
    assert config.sensor == [] and config.mqtt.host == "localhost"


def test_on_a_terminal_a_given_time_zone_is_not_asked_for() -> None:
    shown = converse([*PLACE, "--timezone", "Asia/Tokyo"], [("serial port", ""), ("Broker", "")])
    assert "Time zone" not in shown and load(Path("agent.toml")).stations[0].timezone == "Asia/Tokyo"
