"""`edge-agent decode`: recordings in, observations and an account of them out."""

from __future__ import annotations

import gzip
import json
import lzma
import os
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edge_agent.cli import main
from edge_agent.observation import Reading
from edge_agent.sensors import DRIVERS
from edge_agent.sensors.driver import DriverSpec, Transport
from edge_agent.sensors.framing import Frames
from edge_agent.sensors.mapping import Count, uncounted

CORPUS = Path(os.environ.get("STATIONCAST_CORPUS", Path(__file__).parents[2].parent / "shared" / "data"))
RTL_433 = CORPUS / "raw-sensors" / "rtl433-json" / "weather_sensors.jsonl"
TEMP = ["--option", "map.t=temperature:degC"]
RAIN = ["--option", "map.r=rain:in:counter"]

CONFIG = """
[[station]]
id = "home"
latitude = 47.0
longitude = 8.0
elevation_m = 400

[[station]]
id = "hill"
latitude = 47.1
longitude = 8.1
elevation_m = 900

[store]
path = "store.sqlite"

[[sensor]]
name = "mast"
driver = "mqtt_json"
topic = "raw/{station}"
time = "at"
map = { "t" = { variable = "temperature", unit = "degF" } }

[[sensor]]
name = "shed"
driver = "mqtt_json"
topic = "shed"
station = "home"
map = { "temp" = { variable = "temperature", unit = "degC" } }
"""


class Decoded:
    def __init__(self, result: Result) -> None:
        assert result.exit_code == 0, result.output
        self.lines = [json.loads(line) for line in result.stdout.splitlines()]
        self.summary = json.loads(result.stderr.splitlines()[-1])
        assert self.summary["accepted"] == len(self.lines)

    @property
    def rejected(self) -> dict[str, int]:
        return self.summary["rejected"]


def invoke(driver: str, data: bytes | Path, *more: str) -> Result:
    if isinstance(data, Path):
        return CliRunner().invoke(main, ["decode", driver, str(data), *more])
    return CliRunner().invoke(main, ["decode", driver, "-", *more], input=data)


def decode(driver: str, data: bytes | Path, *more: str) -> Decoded:
    return Decoded(invoke(driver, data, *more))


def test_lines_become_observations_and_what_is_no_reading_is_counted():
    data = b'{"t": 21.5, "h": 60}\nboot: ready\n\n{"t": null}\n{"t": 22.0}'
    found = decode("json_lines", data, *TEMP)
    assert found.lines == [{"source": "json_lines", "v": {"temperature": x}} for x in (21.5, 22.0)]
    assert found.rejected == {"no-usable-value": 1, "not-json": 1, "null": 1}


def test_the_time_of_a_line_is_the_time_of_its_message_unless_that_has_its_own():
    data = b'2024-05-01T14:00:00+02:00\t{"t": 1}\n1714564860.9\t{"t": 2, "at": 1714560000}\n'
    assert [line["t"] for line in decode("json_lines", data, *TEMP).lines] == [
        "2024-05-01T12:00:00Z",
        "2024-05-01T12:01:00Z",
    ]
    found = decode("mqtt_json", data, *TEMP, "--option", "time=at")
    assert [line["t"] for line in found.lines] == ["2024-05-01T10:40:00Z"] and found.rejected == {"bad-time": 1}


def test_a_message_far_ahead_of_its_line_is_refused_as_it_is_live():
    data = b'1714564800\t{"t": 1, "at": 1714565401}\n1714564800\t{"t": 1, "at": 1714565400}\n'
    found = decode("mqtt_json", data, *TEMP, "--option", "time=at")
    assert found.summary == {"accepted": 1, "rejected": {"bad-time": 1}}


def test_a_running_total_becomes_rain_and_stands_beside_it():
    data = b"".join(b'{"r": %.2f}\n' % (10 + i / 100) for i in range(4))
    found = decode("json_lines", data, *RAIN)
    assert [line["v"]["rain"] for line in found.lines] == [0.254, 0.254, 0.254]
    assert found.lines[-1]["totals"] == {"rain": 254.762} and found.rejected == {"first-total": 1}


def test_lines_a_minute_apart_let_rain_fall_that_a_second_would_not():
    totals = [b"%d\t%s" % (1714564800 + 3600 * i, b'{"r": %d}\n' % i) for i in range(3)]
    assert [line["v"]["rain"] for line in decode("json_lines", b"".join(totals), *RAIN).lines] == [25.4, 25.4]


def test_many_messages_are_not_too_fast_for_a_recording():
    assert decode("json_lines", b'{"t": 1}\n' * 5000, *TEMP).summary == {"accepted": 5000, "rejected": {}}


@pytest.mark.parametrize("pack", [lambda data: data, gzip.compress, lzma.compress])
def test_files_may_be_packed_also_on_standard_input(tmp_path, pack):
    data = pack(b'{"t": 1}\n' * 3)
    (tmp_path / "recording").write_bytes(data)
    for source in (data, tmp_path / "recording"):
        assert decode("json_lines", source, *TEMP).summary["accepted"] == 3


def test_what_lies_before_the_damage_of_an_archive_is_read():
    lines = b"".join(b'{"t": %d.%d}\n' % (i % 50, i * 7919 % 1000) for i in range(20_000))
    found = decode("json_lines", gzip.compress(lines)[:-2000], *TEMP)
    assert 0 < found.summary["accepted"] < 20_000 and found.rejected["broken-archive"] == 1


def test_a_map_may_come_from_a_configuration_by_driver_or_by_name(tmp_path):
    config = tmp_path / "agent.toml"
    config.write_text(CONFIG)
    data = b'raw/hill {"t": 50, "at": 1714564800}\nraw/elsewhere {"t": 50, "at": 1714564800}\n'
    by_driver = decode("mqtt_json", data, "--config", str(config))
    assert by_driver.lines == [
        {"t": "2024-05-01T12:00:00Z", "source": "mast", "station": "hill", "v": {"temperature": 10.0}}
    ]
    assert by_driver.rejected == {"unknown-station": 1}
    assert decode("shed", b'{"temp": 5}', "--config", str(config)).lines == [
        {"source": "shed", "v": {"temperature": 5}}
    ]


def test_columns_and_their_delimiter():
    options = ["--option", "map.2=wind_speed:km/h", "--option", "delimiter=;"]
    assert decode("csv_lines", b"1;36\n2;72\n", *options).lines[1]["v"] == {"wind_speed": 20.0}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["json_line"], 'unknown driver "json_line" (did you mean "json_lines"?)'),
        (["json_lines"], "must be told what values mean: --option map.temp=temperature:degC"),
        (["json_lines", "--option", "map.t=temperature"], "write PATH=VARIABLE:UNIT"),
        (["json_lines", "--option", "map.t=temprature:degC"], 'did you mean "temperature"'),
        (["json_lines", "--option", "map.t=temperature:hPa"], "degC, degF, K"),
        (["json_lines", "--option", "t"], "write KEY=VALUE"),
        (["rtl_433", "--option", "map.t=temperature:degC"], "knows what its values mean"),
        (["rtl_433", "--option", "modell=x"], 'did you mean "model"'),
    ],
)
def test_wrong_words_are_told_with_the_remedy(words, said):
    result = invoke(words[0], b"", *words[1:])
    assert result.exit_code == 1 and said in result.stderr and not result.stdout


def test_a_name_that_the_configuration_lacks_is_told_with_those_it_has(tmp_path):
    (tmp_path / "agent.toml").write_text(CONFIG)
    result = invoke("roof", b"", "--config", str(tmp_path / "agent.toml"))
    assert result.exit_code == 1 and "mast (mqtt_json), shed (mqtt_json)" in result.stderr


def test_esphome_topics_stand_before_the_numbers():
    data = b"1714564800\tnode/sensor/out/state 21.5\n1714564800\tnode/sensor/wifi/state -60\n"
    found = decode("esphome", data, "--option", "map.out=temperature:degC")
    assert found.lines == [
        {"t": "2024-05-01T12:00:00Z", "source": "esphome", "device": "node", "v": {"temperature": 21.5}}
    ]
    assert found.rejected == {"no-mapped-value": 1}


class Blips:
    detects_cuts = True

    def decode(self, payload: bytes, count: Count = uncounted) -> list[Reading]:
        return [Reading({"temperature": payload[2] / 10}, battery={"cell": "ok"}, period_s=60, historical=True)]


@pytest.fixture
def blips(monkeypatch: pytest.MonkeyPatch) -> None:
    """A driver of frames with a checksum."""
    spec = DriverSpec(
        "blips",
        Transport.SERIAL,
        lambda sensor: Blips(),
        "for these tests",
        framer=lambda sensor: Frames(b"\xa5\x5a", 4, lambda frame: sum(frame[:3]) % 256 == frame[3]),
        binary=True,
    )
    monkeypatch.setitem(DRIVERS, "blips", spec)


def frame(tenths: int) -> bytes:
    body = bytes([0xA5, 0x5A, tenths])
    return body + bytes([sum(body) % 256])


def test_a_binary_recording_goes_through_the_framer_raw_or_as_hex(blips):
    data = frame(215) + b"\x00\x01" + frame(220) + frame(9)[:3] + b"\x00" + frame(230)[:2]
    raw, text = decode("blips", data), decode("blips", data.hex(" ").encode() + b"\n")
    assert [line["v"]["temperature"] for line in raw.lines] == [21.5, 22.0]
    assert raw.rejected == {"noise": 1, "bad-checksum": 1, "cut-line": 1}
    assert (text.lines, text.summary) == (raw.lines, raw.summary)
    assert raw.lines[0]["battery"] == {"cell": "ok"} and raw.lines[0]["period_s"] == 60 and raw.lines[0]["historical"]


def test_hex_lines_with_times_say_when_frames_came(blips):
    one, two = frame(215), frame(220)
    data = b"1714564800\t%s\n1714564860\t%s\n1714564861\t%s\n" % (
        one.hex().encode(),
        two[:2].hex().encode(),
        two[2:].hex().encode(),
    )
    assert [line["t"] for line in decode("blips", data).lines] == ["2024-05-01T12:00:00Z", "2024-05-01T12:01:01Z"]


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.binary(max_size=300), driver=st.sampled_from(["json_lines", "rtl_433", "weewx", "tasmota"]))
def test_it_exits_with_0_however_bad_the_bytes(data, driver):
    decode(driver, data, *(TEMP if driver == "json_lines" else []))


@pytest.mark.skipif(not RTL_433.is_file(), reason=f"no recording at {RTL_433} (set STATIONCAST_CORPUS)")
def test_the_recorded_radio_frames():
    found = decode("rtl_433", RTL_433)
    assert found.summary == {"accepted": 19, "rejected": {"first-total": 8, "no-mapped-value": 1, "repeat": 2}}
    only = decode("rtl_433", RTL_433, "--option", "model=Fineoffset-WH65B")
    assert only.lines == [
        {
            "source": "rtl_433",
            "device": "Fineoffset-WH65B",
            "v": {
                "temperature": 11.5,
                "humidity": 64.0,
                "wind_speed": 3.442,
                "wind_gust": 4.08,
                "wind_direction": 37.0,
                "uv_index": 0.0,
            },
            "totals": {"rain": 1125.982},
            "battery": {"sensor": "ok"},
        }
    ]
    assert only.rejected == {"first-total": 1, "other-device": 23}
