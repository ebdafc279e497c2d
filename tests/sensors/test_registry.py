"""Drivers that other packages bring, and the one that docs/drivers.md shows how to write."""

from __future__ import annotations

import json
import re
import sys
import tomllib
from collections.abc import Callable, Iterator
from functools import reduce
from pathlib import Path

import pytest
from click.testing import CliRunner

from edge_agent.cli import main
from edge_agent.config import Sensor, parse
from edge_agent.errors import ConfigError
from edge_agent.sensors import DRIVERS
from edge_agent.sensors.driver import ENTRY_POINTS, DriverSpec
from edge_agent.sensors.registry import driver, find, names

PAGE = (Path(__file__).parents[2] / "docs" / "drivers.md").read_text()
GUIDE = PAGE[PAGE.index("## Write a driver in 60 lines") :]
CONFIG = """
[station]
id = "home"
latitude = 47.0
longitude = 8.0
elevation_m = 400
[store]
path = "store.sqlite"
[[sensor]]
name = "mast"
driver = "acme_ws1"
port = "/dev/ttyUSB0"
"""

Install = Callable[[str, str, dict[str, str]], None]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """Installs a package of one module with entry points, as pip would leave it, for this test."""
    made: list[str] = []

    def install(module: str, source: str, points: dict[str, str]) -> None:
        site = tmp_path / module
        info = site / f"{module}-1.0.dist-info"
        info.mkdir(parents=True)
        (site / f"{module}.py").write_text(source)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {module}\nVersion: 1.0\n")
        rows = "".join(f"{name} = {value}\n" for name, value in points.items())
        (info / "entry_points.txt").write_text(f"[{ENTRY_POINTS}]\n{rows}")
        monkeypatch.syspath_prepend(str(site))
        made.append(module)

    yield install
    for module in made:
        sys.modules.pop(module, None)


@pytest.fixture
def acme(install: Install) -> None:
    """The package of the guide, word for word."""
    (code,) = re.findall(r"```python\n(.*?)```", GUIDE, re.DOTALL)
    (project,) = re.findall(r"```toml\n(.*?)```", GUIDE, re.DOTALL)
    assert len(code.splitlines()) <= 60
    install("stationcast_acme", code, tomllib.loads(project)["project"]["entry-points"][ENTRY_POINTS])


def test_the_driver_of_the_guide_reads_the_line_of_the_guide(acme, tmp_path):
    (line,) = re.findall(r"`(\$W,[^`]*)`", GUIDE)
    body = b"W,3.5,355,118.6"
    told = b"$%s*%02X" % (body, reduce(int.__xor__, body))
    recording = tmp_path / "ws1.txt"
    recording.write_bytes(b"cut*00\r\n" + line.encode() + b"\r\n" + told + b"\r\n")
    result = CliRunner().invoke(main, ["decode", "acme_ws1", str(recording), "--option", "offset=10"])
    first, second = (json.loads(row) for row in result.stdout.splitlines())
    assert first["v"] == {"wind_speed": 3.4, "wind_direction": 281.0} and first["totals"] == {"rain": 118.4}
    assert second["v"] == {"wind_speed": 3.5, "wind_direction": 5.0, "rain": 0.2}
    assert result.stderr == '{"accepted": 2, "rejected": {"bad-checksum": 1, "first-total": 1}}\n'


def test_an_installed_driver_is_known_to_the_configuration(acme, tmp_path):
    assert names() == [*DRIVERS, "acme_ws1"]
    config = parse(CONFIG, tmp_path / "agent.toml")
    assert driver(config.sensor[0]).baud == 4800
    with pytest.raises(ConfigError, match=r'unknown option "ofset" \(did you mean "offset"\?\)'):
        parse(CONFIG + "options = { ofset = 3 }\n", tmp_path / "agent.toml")


def test_an_unknown_driver_is_told_with_the_nearest_of_all(acme, tmp_path):
    with pytest.raises(ConfigError, match=r'"acme_ws" .* \(did you mean "acme_ws1"\?\)|did you mean "acme_ws1"'):
        parse(CONFIG.replace("acme_ws1", "acme_ws"), tmp_path / "agent.toml")
    with pytest.raises(ConfigError, match=r'sensor "mast": unknown driver "wewx" \(did you mean "weewx"\?\)'):
        driver(Sensor("mast", "wewx"))


@pytest.mark.parametrize(
    ("source", "value", "words"),
    [
        ("import no_such_module", "broken_pkg:SPEC", "cannot be imported .*no_such_module.*: update or remove"),
        ("SPEC =", "broken_pkg:SPEC", "cannot be imported"),
        ("", "broken_pkg:SPEC", "cannot be imported"),
        ("SPEC = 3", "broken_pkg:SPEC", "is no DriverSpec of that name: update or remove the package broken_pkg"),
    ],
)
def test_a_broken_package_is_told_only_when_its_driver_is_asked_for(acme, install, source, value, words):
    install("broken_pkg", source, {"broken": value})
    assert isinstance(find("acme_ws1"), DriverSpec) and "broken" in names()
    with pytest.raises(ConfigError, match=f'driver "broken".*{words}'):
        find("broken")


def test_a_package_cannot_take_the_place_of_a_built_in_driver(install):
    install("usurper", "raise SystemExit", {"json_lines": "usurper:SPEC"})
    assert find("json_lines") is DRIVERS["json_lines"] and names().count("json_lines") == 1


@pytest.mark.parametrize(
    ("name", "words", "said"),
    [
        ("modbus", (), 'missing option "map"'),
        ("davis_vantage", ("rain_click_mm=little",), '"rain_click_mm" must be a number, not text'),
        ("nmea", ("pressure=sea",), '"pressure" is "sea": must be "station" or "sea_level" or "altimeter"'),
        ("nmea", ("elevation_m=99999",), '"elevation_m" is "99999": must be a number within -430 to 9000'),
        ("modbus", ("map=renke", "stopbits=3"), '"stopbits" is "3": must be 1 or 2'),
        ("vaisala_wxt", ("address=12",), '"address" is "12": must be text of the form'),
    ],
)
def test_a_wrong_option_says_what_it_may_be(tmp_path, name, words, said):
    recording = tmp_path / "recording"
    recording.write_bytes(b"")
    options = [part for word in words for part in ("--option", word)]
    result = CliRunner().invoke(main, ["decode", name, str(recording), *options])
    assert result.exit_code == 1
    assert said in result.stderr
