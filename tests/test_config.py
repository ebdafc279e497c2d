"""agent.toml: what a person writing one relies on."""

from __future__ import annotations

import json
import re
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent import config as c
from edge_agent.config import Config, load, parse
from edge_agent.errors import ConfigError
from edge_agent.toml_lines import key_lines

SMALLEST = """\
[station]
id = "my-roof"
latitude = 47.36
longitude = 8.54
elevation_m = 408

[store]
path = "stationcast.sqlite"
"""

SENSOR = """
[[sensor]]
name = "roof"
driver = "json_lines"
port = "/dev/ttyUSB0"
map = { "t" = { variable = "temperature", unit = "degC" } }
"""

MQTT_SENSOR = """
[[sensor]]
name = "garden"
driver = "mqtt_json"
topic = "tele/garden/SENSOR"
[sensor.map]
"BME280.Temperature" = { variable = "temperature", unit = "degC" }
"BME280.Pressure" = { variable = "pressure", unit = "hPa" }
"""

GATEWAY = (
    SMALLEST.replace("[station]", "[[station]]")
    + """
[[station]]
id = "my-garden"
latitude = 47.0
longitude = 8.0
elevation_m = 500
"""
)


def read(text: str) -> Config:
    return parse(text, Path("agent.toml"))


def refused(text: str) -> list[str]:
    """The lines of the refusal."""
    with pytest.raises(ConfigError) as caught:
        read(text)
    return str(caught.value).splitlines()


def test_the_smallest_file_is_enough() -> None:
    config = read(SMALLEST)
    assert config.stations[0].id == "my-roof"
    assert config.stations[0].timezone == "UTC"
    assert config.mqtt.host == "localhost"
    assert config.sensor == []


def test_a_file_with_a_byte_order_mark_and_windows_line_ends_is_read(tmp_path: Path) -> None:
    path = tmp_path / "agent.toml"
    path.write_bytes(b"\xef\xbb\xbf" + (SMALLEST + SENSOR).replace("\n", "\r\n").encode())
    assert load(path).sensor[0].name == "roof"


def test_a_misspelt_key_is_named_with_its_line_its_section_and_the_nearest_name() -> None:
    text = SMALLEST + SENSOR.replace("port =", "prot =")
    line = text.splitlines().index('prot = "/dev/ttyUSB0"') + 1
    assert f'agent.toml, line {line}: sensor "roof": unknown key "prot" (did you mean "port"?)' in refused(text)


def test_everything_wrong_is_told_at_once_in_the_order_of_the_file() -> None:
    text = SMALLEST.replace("47.36", "147.36").replace("408", '"408"') + "keep_days = 3\n[mqt]\nhost = 'x'\n"
    lines = refused(text)
    assert [int(re.search(r"line (\d+)", line)[1]) for line in lines] == [3, 5, 9, 10]  # type: ignore[index]
    assert "latitude" in lines[0] and "-90 to 90" in lines[0]
    assert '"elevation_m" must be a number, not text' in lines[1]
    assert "35 to" in lines[2]
    assert 'unknown section "mqt" (did you mean "mqtt"?)' in lines[3]


def test_thousands_of_problems_are_cut_to_a_page() -> None:
    lines = refused(SMALLEST + (SENSOR.replace("port", "prot")) * 2000)
    assert len(lines) == c.MAX_PROBLEMS + 1
    assert lines[-1].endswith("more")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (("id = ", "# id = "), 'missing key "id": add id = "my-station"'),
        (('"my-roof"', '"My Roof"'), "3 to 40 of a-z, 0-9 and -"),
        (('"my-roof"', '"my-roof\\n"'), "3 to 40 of a-z, 0-9 and -"),
        (("8.54", "nan"), "-180 to 180"),
        (("408", "9001"), "-430 to 9000"),
        (("408", "true"), "must be a number, not true or false"),
        (("408", "1979-05-27"), "must be a number, not a date or time"),
        (("408", '408\ntimezone = "Europe/Zurch"'), 'did you mean "Europe/Zurich"?'),
        (("408", '408\ntimezone = "../../etc/passwd"'), "not a time zone"),
        (("408", '408\ntimezone = "Europe"'), "not a time zone"),
        (("[store]", "[stroe]"), 'unknown section "stroe" (did you mean "store"?)'),
        (("[store]", "[[store]]"), "write [store] on a line of its own"),
        (('"stationcast.sqlite"', '""'), "must not be empty"),
        (('sqlite"', 'sqlite"\nkeep_days = 34'), "35 to"),
        (('sqlite"', 'sqlite"\ncommit_s = 0.5'), "1 to 600"),
        (('sqlite"', 'sqlite"\noutbox_mb = -1'), "megabytes"),
        (('sqlite"', 'sqlite"\noutbox_mb = inf'), "megabytes"),
        (('sqlite"', 'sqlite"\n[mqtt]\nport = 0'), "1 to 65535"),
        (('sqlite"', 'sqlite"\n[mqtt]\nprotocol = "4"'), '"5" or "3.1.1"'),
        (('sqlite"', 'sqlite"\n[mqtt]\nhost = "mqtt://broker"'), "without mqtt://"),
        (('sqlite"', 'sqlite"\n[mqtt]\nhost = "broker:1883"'), 'host = "broker" and port = 1883'),
        (('sqlite"', 'sqlite"\n[mqtt]\npassword_file = "p"'), "add username"),
        (('sqlite"', 'sqlite"\n[mqtt]\ntls_ca = "ca"\ntls_cert = "c"'), "go together"),
        (('sqlite"', 'sqlite"\n[mqtt]\ntls_key = "k"\ntls_cert = "c"'), "add tls_ca"),
        (('sqlite"', 'sqlite"\n[forecast]\nthreads = 0'), "1 to 64"),
        (("[station]", "bundle = 'x'\n[station]"), "key outside any section"),
    ],
)
def test_each_wrong_value_is_refused_with_what_would_be_right(change: tuple[str, str], words: str) -> None:
    assert words in "\n".join(refused(SMALLEST.replace(*change)))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (("json_lines", "jsonlines"), 'did you mean "json_lines"?'),
        (("json_lines", "mqtt_json"), "add topic ="),
        (("json_lines", "mqtt_json"), '"port" has no meaning here'),
        (('port = "/dev/ttyUSB0"', ""), "add port ="),
        (('port = "/dev/ttyUSB0"', 'port = "/dev/ttyUSB0"\ntopic = "a/b"'), '"topic" has no meaning here'),
        (("temperature", "temprature"), 'did you mean "temperature"?'),
        (('"degC"', '"C"'), "known: degC, degF, K"),
        (('"degC"', '"degc"'), 'did you mean "degC"?'),
        ((', unit = "degC"', ""), 'missing key "unit"'),
        (('{ "t" = { variable = "temperature", unit = "degC" } }', '{ "t" = "temperature" }'), "{ variable ="),
        (('map = { "t" = { variable = "temperature", unit = "degC" } }', "map = {}"), '"map" says nothing'),
        (('map = { "t" = { variable = "temperature", unit = "degC" } }', ""), '"map" says nothing'),
        (('unit = "degC" }', 'unit = "degC", counter = true }'), "running totals"),
        (('"degC" } }', '"degC" }, "u" = { variable = "temperature", unit = "K" } }'), "mapped twice"),
        (('"roof"', '"ro:of"'), "1 to 40 of letters"),
        (('"roof"', '"roof"\nbaud = 1'), "50 to 4000000"),
        (('"roof"', '"roof"\ndelimiter = ";;"'), "one character"),
        (('"roof"', '"roof"\nmax_message_bytes = 0'), "bytes"),
        (('"roof"', '"roof"\nmax_messages_s = 0'), "messages a second"),
        (('"roof"', '"roof"\nperiod_s = 0'), "seconds"),
        (('"roof"', '"roof"\nstation = "my-rof"'), 'did you mean "my-roof"?'),
        (("[[sensor]]", "[sensor]"), "write [[sensor]] on a line of its own"),
    ],
)
def test_each_wrong_sensor_is_refused_with_what_would_be_right(change: tuple[str, str], words: str) -> None:
    assert words in "\n".join(refused(SMALLEST + SENSOR.replace(*change)))


@pytest.mark.parametrize(
    ("topic", "words"),
    [
        ("wx/v1/my-roof/obs", "it would read itself"),
        ("wx/v1/#", "it would read itself"),
        ("$share/group/wx/v1/#", "it would read itself"),
        ("tele/ro+of", "whole level"),
        ("tele/{station}-x/y", "whole level"),
        ("tele/#/x", "last level"),
        ("{station}/{station}", "only once"),
        ("", "1 to 1024 bytes"),
    ],
)
def test_a_topic_that_cannot_work_is_refused(topic: str, words: str) -> None:
    assert words in "\n".join(refused(SMALLEST + MQTT_SENSOR.replace("tele/garden/SENSOR", topic)))


@pytest.mark.parametrize("topic", ["tele/+/SENSOR", "weather/#", "{station}/obs", "wx/v10/x", "$share/g/tele/x"])
def test_ordinary_topics_are_accepted(topic: str) -> None:
    assert read(SMALLEST + MQTT_SENSOR.replace("tele/garden/SENSOR", topic)).sensor[0].topic == topic


def test_two_sensors_share_neither_name_nor_port() -> None:
    told = "\n".join(refused(SMALLEST + SENSOR + SENSOR))
    assert 'name "roof" is already taken' in told
    assert 'port "/dev/ttyUSB0" is already taken' in told


def test_two_stations_do_not_share_an_id() -> None:
    assert "already taken by another station" in refused(GATEWAY.replace("my-garden", "my-roof"))[0]


def test_a_gateway_must_say_whose_sensor_it_is() -> None:
    assert "there are 2 stations" in refused(GATEWAY + MQTT_SENSOR)[0]
    named = read(GATEWAY + MQTT_SENSOR.replace("[sensor.map]", 'station = "my-garden"\n[sensor.map]'))
    assert named.station_of(named.sensor[0]) == "my-garden"
    by_topic = read(GATEWAY + MQTT_SENSOR.replace("tele/garden", "tele/{station}"))
    assert by_topic.station_of(by_topic.sensor[0]) is None


def test_station_and_placeholder_together_are_refused() -> None:
    text = MQTT_SENSOR.replace("tele/garden", "tele/{station}").replace(
        "[sensor.map]", 'station = "my-roof"\n[sensor.map]'
    )
    assert "contradict" in refused(GATEWAY + text)[0]


def test_a_password_in_the_file_is_refused_and_not_repeated() -> None:
    told = "\n".join(refused(SMALLEST + '[mqtt]\nusername = "me"\npassword = "hunter2"\n'))
    assert "password_file" in told
    assert "hunter2" not in told


def test_broken_toml_names_line_and_column() -> None:
    assert re.match(
        r"agent\.toml, line 2, column \d+: not TOML: .*text needs quotes", refused("[station]\nid = my-roof\n")[0]
    )


@pytest.mark.parametrize("text", ["a = " + "[" * 100_000, "a = " + "9" * 10_000, 'a = "unclosed', "\0"])
def test_hostile_toml_is_refused_not_a_crash(text: str) -> None:
    assert "not TOML" in refused(text)[0]


@pytest.mark.parametrize("content", [b"\xff\xfe[station]", b"#" * (c.MAX_BYTES + 1)])
def test_files_that_are_no_configuration_are_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "agent.toml"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=r"UTF-8|larger"):
        load(path)


def test_a_missing_file_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="edge-agent init"):
        load(tmp_path / "agent.toml")
    with pytest.raises(ConfigError, match="cannot be read"):
        load(tmp_path)


def test_relative_paths_start_at_the_folder_of_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "etc").mkdir()
    path = tmp_path / "etc" / "agent.toml"
    mqtt = '[mqtt]\nusername = "u"\npassword_file = "secret"\ntls_ca = "/etc/ssl/ca.pem"\n'
    path.write_text(SMALLEST + mqtt + '[forecast]\nbundle = "own.bundle"\n')
    monkeypatch.chdir(tmp_path)
    config = load(Path("etc/agent.toml"))
    assert config.store.path == str(tmp_path / "etc" / "stationcast.sqlite")
    assert config.mqtt.password_file == str(tmp_path / "etc" / "secret")
    assert config.mqtt.tls_ca == "/etc/ssl/ca.pem"
    assert config.forecast.bundle == str(tmp_path / "etc" / "own.bundle")
    assert load(path) == config


def test_a_credential_and_the_default_bundle_stay_as_they_are() -> None:
    config = read(SMALLEST + '[mqtt]\nusername = "u"\npassword_file = "credential:mqtt"\n')
    assert config.mqtt.password_file == "credential:mqtt"
    assert config.forecast.bundle == ""


# --- places ------------------------------------------------------------------------------------------------------


def test_lines_are_found_through_every_form_of_toml() -> None:
    text = '''# head
a.b = 1
list = [ # ]
  "]", 'x = 1',
]
text = """
key = 1
[no]
"""
"dotted.key" = { x = 1, y = [1, 2] }

[one."t.wo"]
z = '\\' # not an escape
[[many]]
k = 1
  [[many.inner]]
  i = 1
[[many]]
  k = 2
  [[many.inner]]
  i = 2
  [many.sub]
  s = 3
'''
    lines = key_lines(text)
    assert lines[("a", "b")] == 2
    assert lines[("list",)] == 3
    assert lines[("text",)] == 6
    assert lines[("dotted.key",)] == 10
    assert lines[("one", "t.wo")] == 12
    assert lines[("one", "t.wo", "z")] == 13
    assert lines[("many", 0, "inner", 0, "i")] == 17
    assert lines[("many", 1, "k")] == 19
    assert lines[("many", 1, "inner", 0, "i")] == 21
    assert lines[("many", 1, "sub", "s")] == 23
    assert ("key",) not in lines


toml_values = st.recursive(
    st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


def _inline(value: object) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_inline(k)} = {_inline(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_inline, value)) + "]"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return '"' + "".join(f"\\U{ord(x):08x}" for x in value) + '"'
    return repr(value)


KEYS = sorted({f.name for s in (c.Config, c.Station, c.Mqtt, c.Sensor, c.Field) for f in msgspec.structs.fields(s)})


@given(
    st.lists(
        st.tuples(st.sampled_from(["", "[station]", "[mqtt]", "[[sensor]]"]), st.sampled_from(KEYS), toml_values),
        max_size=6,
    )
)
def test_any_toml_is_either_read_or_refused_in_words(entries: list[tuple[str, str, object]]) -> None:
    """No content makes anything but a ConfigError."""
    text = "\n".join(f"{header}\n{key} = {_inline(value)}" for header, key, value in entries)
    try:
        read(text)
    except ConfigError as error:
        assert str(error).startswith("agent.toml")


# --- documentation -----------------------------------------------------------------------------------------------


def test_every_key_is_documented_with_its_default() -> None:
    text = (Path(__file__).parents[1] / "docs" / "configuration.md").read_text()
    chapters = dict(re.findall(r"^## `\[+(\w+)\]+`.*?\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL))
    chapters["field"] = dict(re.findall(r"^### (The map).*?\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL))[
        "The map"
    ]
    for name in ("Station", "Mqtt", "Store", "Sensor", "Neighbour", "Forecast", "Field"):
        for field in msgspec.structs.fields(getattr(c, name)):
            row = re.search(rf"^\| `{field.name}` \|([^|]*)\|", chapters[name.lower()], re.MULTILINE)
            assert row, f"docs/configuration.md does not explain {name}.{field.name}"
            shown = row[1].strip().strip("`")
            if field.required:
                assert shown == "needed"
            elif field.default not in (msgspec.NODEFAULT, None):
                assert shown == json.dumps(field.default).removesuffix(".0"), field.name
