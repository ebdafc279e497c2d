"""The demo's recordings from VLINDER rows: nine days of history, then seven hours as two sensors would send them.

`python -m model_factory.sources.demo_data RAW`, RAW being the folder of `vlinder-2022-09`, writes them into the agent's
package. Changes no measured value; the two damaged lines it adds are named below.
"""

from __future__ import annotations

import json
import lzma
from dataclasses import replace
from pathlib import Path

import click
import numpy as np

import edge_agent.demo
from edge_agent.clock import format_time
from edge_agent.demo.scene import END, START
from model_factory.sources import vlinder
from model_factory.sources.stations import history_csv
from model_factory.sources.table import StationTable, instants, read_columns

SERIAL, MQTT = "vlinder01", "vlinder21"  # Melle, inland; De Haan, on the coast
SPIKE_AT, CUT_AT = START + 420, START + 720  # between two messages, where the line is free

# A logger's names -> the source's columns, in the source's units.
LOGGER = {
    "temp": "Temperatuur",
    "hum": "Vochtigheid",
    "pres": "Luchtdruk",
    "wind": "Windsnelheid",
    "gust": "Rukwind",
    "dir": "Windrichting",
    "rain": "Neerslagsom",
}


def serial_recording(folder: Path) -> str:
    """The source's rows as a logger prints them, without a time of its own: `time<TAB>{"temp":...}`.

    Two lines are added: one whose temperature jumped to 85 degC, and one cut off in the middle, as by a loose plug.

    Raises:
        DataError: the raw file cannot be read.
    """
    path = next(folder.glob("vlinder_*.csv*"))
    raw = read_columns(path, ["Datum", "Tijd (UTC)", "Vlinder", *LOGGER.values()], delimiter=";")
    rows = [i for i, name in enumerate(raw["Vlinder"]) if name == SERIAL]
    times = instants([f"{raw['Datum'][i]}T{raw['Tijd (UTC)'][i]}Z" for i in rows])
    lines: list[tuple[int, str]] = []
    for t, i in sorted(zip(times.tolist(), rows, strict=True)):
        if START <= t <= END:
            lines.append((t, _json({name: float(raw[column][i]) for name, column in LOGGER.items()})))
    before = next(text for t, text in reversed(lines) if t < SPIKE_AT)
    lines.append((SPIKE_AT, _json({**json.loads(before), "temp": 85.0})))
    lines.append((CUT_AT, before[: len(before) // 2]))
    return "".join(f"{format_time(t)}\t{text}\n" for t, text in sorted(lines))


def mqtt_recording(table: StationTable) -> str:
    """A station's readings as a gateway publishes them, with their time: `time<TAB>{"time":...,"wind":{...}}`."""
    lines = []
    for i in np.flatnonzero((table.times >= START) & (table.times <= END)):
        here = {name: round(float(v[i]), 2) for name, v in table.values.items() if not np.isnan(v[i])}
        time = format_time(int(table.times[i]))
        wind = {name.removeprefix("wind_"): here.pop(name) for name in list(here) if name.startswith("wind_")}
        lines.append(f"{time}\t{_json({'time': time, **here, 'wind': wind})}\n")
    return "".join(lines)


def history(table: StationTable) -> str:
    """A station's HISTORY.csv up to where its recording begins."""
    before = table.times < START
    cut = replace(table, times=table.times[before], values={name: v[before] for name, v in table.values.items()})
    return history_csv(cut)


def files(raw: Path) -> dict[str, str]:
    """Name and text of every file of the demo's data, compressed or not."""
    tables = {table.station: table for table in vlinder.parse(raw)}
    return {
        "melle-history.csv.xz": history(tables[SERIAL]),
        "melle-serial.tsv": serial_recording(raw),
        "de-haan-history.csv.xz": history(tables[MQTT]),
        "de-haan-mqtt.tsv": mqtt_recording(tables[MQTT]),
    }


def _json(value: object) -> str:
    return json.dumps(value, separators=(",", ":"))


@click.command()
@click.argument("raw", type=click.Path(path_type=Path, exists=True, file_okay=False))
def write(raw: Path) -> None:
    """Write the demo's data from RAW, the raw folder of vlinder-2022-09."""
    folder = Path(edge_agent.demo.__file__).parent / "data"
    folder.mkdir(exist_ok=True)
    for name, text in files(raw).items():
        data = text.encode()
        (folder / name).write_bytes(lzma.compress(data, preset=9) if name.endswith(".xz") else data)
        click.echo(f"{name}: {text.count(chr(10))} lines, {(folder / name).stat().st_size} bytes")


if __name__ == "__main__":
    write()
