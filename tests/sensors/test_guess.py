"""What unknown lines may hold: guesses that a person can check."""

from __future__ import annotations

import json
import tomllib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_agent.config import Field
from edge_agent.sensors.guess import text_of
from edge_agent.variables import conversion


def test_json_lines_are_told_with_their_paths():
    line = {"bme": {"temp": 21.5, "press": 96530}, "hum": "45.1", "uptime": 12, "note": "x"}
    text = text_of(b'p": 1}\n' + (json.dumps(line) + "\r\n").encode() * 5 + b'{"bme"')
    assert text is not None and text.kind == "json_lines"
    assert list(text.map_lines()) == [
        "[sensor.map]",
        '"bme.temp" = { variable = "temperature", unit = "degC" }  # 21.5',
        '"bme.press" = { variable = "pressure", unit = "Pa" }  # 96530',
        '"hum" = { variable = "humidity", unit = "%" }  # 45.1',
        '#"uptime" = { variable = "...", unit = "..." }  # 12',
    ]


@pytest.mark.parametrize(("name", "counter"), [("rain_total", True), ("dailyrainmm", True), ("rain", False)])
def test_a_running_total_of_rain_is_not_taken_for_rain_of_each_message(name, counter):
    text = text_of(json.dumps({name: 12.4, "temp": 3}).encode() + b"\n" + json.dumps({name: 12.6}).encode())
    assert text is not None
    lines = list(text.map_lines())
    assert ("counter" in tomllib.loads("\n".join(lines))["sensor"]["map"][name]) == counter
    assert "counter = true" in lines[1]


@pytest.mark.parametrize("delimiter", [",", ";", "\t", " "])
@pytest.mark.parametrize("header", [True, False])
def test_separated_values_are_told_with_their_columns(delimiter, header):
    rows = [["temp", "rh", "n"]] * header + [["21.5", "45", str(i)] for i in range(9)]
    text = text_of("\n".join([delimiter.join(["0", "0", "0"])] + [delimiter.join(row) for row in rows]).encode())
    assert text is not None and (text.kind, text.delimiter) == ("csv_lines", delimiter)
    assert [path for path, _ in text.values] == (["temp", "rh", "n"] if header else ["1", "2", "3"])


def test_other_text_is_text_and_bytes_are_none():
    text = text_of(b"booting\nWi-Fi ok\nready\n")
    assert text is not None and text.kind == "" and text.lines == ("Wi-Fi ok",)
    assert text_of(bytes(range(256))) is None and text_of(b"") is None


@settings(max_examples=300)
@given(
    st.binary(max_size=300)
    | st.dictionaries(st.text(max_size=12), st.floats() | st.text(max_size=4), max_size=6).map(
        lambda fields: (json.dumps(fields) + "\n").encode() * 3
    )
    | st.text("0123456789.,; \t\ntempwind", max_size=200).map(str.encode)
)
def test_whatever_came_the_block_is_toml_with_units_that_fit(data):
    text = text_of(data)
    if text is not None:
        fields = tomllib.loads("\n".join(text.map_lines()))["sensor"]["map"]
        for field in fields.values():
            conversion(Field(**field).variable, field["unit"])
