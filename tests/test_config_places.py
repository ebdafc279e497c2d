"""agent.toml: neighbours, and sensors that share a port."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from edge_agent.config import parse, redacted
from edge_agent.errors import ConfigError
from tests.test_config import SENSOR, SMALLEST, read

NEIGHBOUR = """
[[neighbour]]
id = "{id}"
latitude = {latitude}
longitude = 8.5
elevation_m = 430
"""


def test_neighbours_are_places_with_an_id() -> None:
    config = read(SMALLEST + NEIGHBOUR.format(id="the-school", latitude=47.3) + NEIGHBOUR.format(id="n-2", latitude=47))
    assert [(n.id, n.latitude, n.elevation_m) for n in config.neighbour] == [
        ("the-school", 47.3, 430),
        ("n-2", 47, 430),
    ]
    assert redacted(config)["neighbour"] == ["the-school", "n-2"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (NEIGHBOUR.format(id="my-roof", latitude=47), "is a station of this file"),
        (NEIGHBOUR.format(id="a-b", latitude=47) * 2, "already taken by another neighbour"),
        (NEIGHBOUR.format(id="A", latitude=47), "3 to 40 of a-z"),
        (NEIGHBOUR.format(id="abc", latitude=97), "must lie within -90 to 90"),
        ('[[neighbour]]\nid = "abc"\n', 'missing key "latitude"'),
        ('[neighbour]\nid = "abc"\n', "write [[neighbour]]"),
        ("".join(NEIGHBOUR.format(id=f"n-{i}", latitude=47) for i in range(51)), "the nearest 50 are enough"),
    ],
)
def test_a_neighbour_that_is_none_is_refused_with_the_remedy(text: str, words: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(words)):
        read(SMALLEST + text)


def bus(*options: str, driver: str = "modbus", extra: str = "") -> str:
    return SMALLEST + "".join(
        f'[[sensor]]\nname = "s{i}"\ndriver = "{driver}"\nport = "/dev/ttyUSB0"\n{extra}[sensor.options]\n{text}\n'
        for i, text in enumerate(options)
    )


def test_devices_of_a_modbus_line_may_share_its_port():
    config = parse(bus('map = "renke"\nunit = 1', 'map = "renke"\nunit = 2', extra="baud = 4800\n"), Path("agent.toml"))
    assert [sensor.options["unit"] for sensor in config.sensor] == [1, 2]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (bus('map = "renke"', 'map = "renke"'), 's1": port "/dev/ttyUSB0" is shared with sensor "s0", which is unit 1'),
        (bus('map = "renke"', 'map = "sen0483"'), "give both the same settings (4800 baud 8N1"),
        (bus('map = "renke"', 'map = "renke"\nunit = 2\nparity = "E"'), "4800 baud 8E1"),
        (bus("", "", driver="sds011"), "already taken by another sensor"),
        (bus('map = "renke"') + SENSOR, "already taken by another sensor"),
        (bus('map = "renke"\nunti = 1'), 'unknown option "unti" (did you mean "unit"?)'),
        (bus("unit = 1"), "map"),
        (bus("duty_s = 5", driver="sds011"), "duty_s must be 0, or at least"),
    ],
)
def test_who_cannot_share_a_port_is_told_why(text, told):
    with pytest.raises(ConfigError, match=re.escape(told)):
        parse(text, Path("agent.toml"))


def test_a_file_in_the_options_is_found_from_the_folder_of_the_configuration(tmp_path):
    (sensor,) = parse(bus('map = "maps/my.toml"'), tmp_path / "agent.toml").sensor
    assert sensor.options["map"] == str(tmp_path / "maps" / "my.toml")
    (sensor,) = parse(bus('map = "renke"'), tmp_path / "agent.toml").sensor
    assert sensor.options["map"] == "renke"


def test_a_relative_port_starts_in_the_files_folder_and_an_address_stays() -> None:
    for port, found in (("ttyS0", "/etc/stationcast/ttyS0"), ("/dev/ttyS0", "/dev/ttyS0"), ("tcp://h:1", "tcp://h:1")):
        text = SMALLEST + SENSOR.replace('port = "/dev/ttyUSB0"', f'port = "{port}"')
        assert parse(text, Path("/etc/stationcast/agent.toml")).sensor[0].port == found


def test_a_home_folder_of_nobody_is_told() -> None:
    with pytest.raises(ConfigError, match="no such home folder"):
        read(SMALLEST.replace('path = "', 'path = "~nobody-of-that-name/'))
