"""`edge-agent qc` on files as broken stations and loggers leave them: what is wrong is flagged and nothing else."""

from __future__ import annotations

import csv
import os
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from edge_agent.cli import main
from edge_agent.clock import format_time
from tests.quality.stations import DAY, START, STEP_S, ordinary

PLACE = ["--latitude", "47.36", "--longitude", "8.54", "--elevation", "408", "--no-forecast"]
AT = 10 * DAY  # where a fault begins: after ten days that were in order
HOUR = 6  # rows
MANY_DAYS = int(os.environ.get("STATIONCAST_QC_DAYS", "60"))

Row = dict[str, float]
Fault = Callable[[Row], Row]


def station(days: float = 13) -> list[Row]:
    """An ordinary station with a rain gauge, on which a shower falls each second evening."""
    rows = []
    for i, row in enumerate(ordinary(days)):
        wet = i % (2 * DAY) in range(110, 116) and row["humidity"] > 50
        rows.append({**row, "rain": 0.4 if wet else 0.0})
    return rows


def write(path: Path, rows: list[Row], times: list[int] | None = None) -> Path:
    with path.open("w", newline="") as file:
        out = csv.DictWriter(file, ["time", *rows[0]])
        out.writeheader()
        for i, row in enumerate(rows):
            t = START + i * STEP_S if times is None else times[i]
            out.writerow({"time": format_time(t), **{name: round(value, 3) for name, value in row.items()}})
    return path


def qc(file: Path, *more: str | Path) -> tuple[Result, dict[tuple[str, str], dict[str, str]]]:
    """The command's answer, and FLAGS.csv by time and variable."""
    out = file.with_name("FLAGS.csv")
    told = CliRunner().invoke(main, ["qc", str(file), *PLACE, *map(str, more), "--out", str(out)])
    if told.exit_code:
        return told, {}
    with out.open(newline="") as lines:
        return told, {(row["time"], row["variable"]): row for row in csv.DictReader(lines)}


def put(**values: float) -> Fault:
    return lambda row: {**row, **values}


def added(name: str, by: float) -> Fault:
    return lambda row: {**row, name: row[name] + by}


def scaled(name: str, factor: float, offset: float = 0.0) -> Fault:
    return lambda row: {**row, name: row[name] * factor + offset}


def swapped(one: str, other: str) -> Fault:
    return lambda row: {**row, one: row[other], other: row[one]}


@pytest.mark.parametrize(
    ("fault", "rows", "tests", "words"),
    [
        (added("temperature", 9), 1, {"step", "spike"}, "changed|left"),
        (added("pressure", -7), 1, {"step", "spike"}, "changed|left"),
        (added("temperature", 8), 5 * HOUR, {"step"}, "what lies between is off|changed"),
        (added("pressure", 8), 12 * HOUR, {"step"}, "what lies between is off|changed"),
        (put(temperature=14.3), 15 * HOUR, {"persistence", "step"}, "has been 14.3|and back"),
        (put(wind_speed=0.0, wind_gust=0.0), 90 * HOUR, {"persistence"}, "has been 0 m/s"),
        (scaled("temperature", 1.8, 32), 20 * HOUR, {"role", "range"}, "degF"),
        (scaled("pressure", 1 / 33.8639), 20 * HOUR, {"role", "range"}, "inHg"),
        (swapped("temperature", "humidity"), 20 * HOUR, {"role", "step", "range"}, "swapped|changed"),
        (swapped("wind_direction", "humidity"), 20 * HOUR, {"role", "step", "spike", "range"}, "swapped|humidity"),
        (put(temperature=-999.0), 4, {"range"}, "impossible"),
        (put(temperature=-90.0), 4, {"range"}, "beyond ordinary records"),
        (put(temperature=85.0), 1, {"range"}, "impossible"),
        (put(pressure=0.0), 4, {"range"}, "impossible"),
        (put(humidity=-999.0), 4, {"range"}, "impossible"),
        (put(wind_speed=-1.0), 4, {"range"}, "impossible"),
        (put(wind_direction=999.0), 4, {"range"}, "impossible"),
        (added("rain", 51.2), 1, {"range"}, "a fifth of the records"),
        (added("rain", -51.2), 1, {"range"}, "impossible"),
        (added("rain", 13107.2), 1, {"range"}, "impossible"),
    ],
)
def test_what_is_wrong_is_flagged_with_its_reason_and_nothing_else(
    tmp_path: Path, fault: Fault, rows: int, tests: set[str], words: str
) -> None:
    days = 14 if rows > 3 * DAY else 13
    good = station(days)
    bad = [fault(row) if AT <= i < AT + rows else row for i, row in enumerate(good)]
    wrong = {
        (format_time(START + i * STEP_S), name)
        for i in range(AT, AT + rows)
        for name in good[i]
        if abs(good[i][name] - bad[i][name]) > 1e-6
    }
    told, found = qc(write(tmp_path / "HISTORY.csv", bad))
    assert told.exit_code == 0, told.output
    hits = [found[key] for key in wrong if key in found]
    assert len(hits) >= 0.9 * len(wrong)
    deciding = [row for row in hits if row["test"] in tests]
    assert len(deciding) >= 0.9 * len(hits)
    assert any(word in row["reason"] for row in deciding for word in words.split("|"))
    variables = {name for _, name in wrong}
    shadow = {format_time(START + i * STEP_S) for i in range(AT - HOUR, AT + rows + HOUR)}
    beside = [row for key, row in found.items() if key not in wrong]
    assert all(row["time"] in shadow for row in beside), "readings far from the fault are doubted"
    assert sum(row["variable"] in variables and row["time"] not in {t for t, _ in wrong} for row in beside) <= 3


def test_a_slip_of_one_hourly_reading_leaves_the_next_ones_in_peace(tmp_path: Path) -> None:
    rows = station(40)[::6]
    rows[800] = scaled("temperature", 1.8, 32)(rows[800])
    times = [START + i * 3600 for i in range(len(rows))]
    _, found = qc(write(tmp_path / "HISTORY.csv", rows, times))
    assert [key for key in found if key[1] == "temperature"] == [(format_time(times[800]), "temperature")]


def test_five_millimetres_do_not_fall_through_dry_air(tmp_path: Path) -> None:
    rows = station()
    rows[AT] = {**rows[AT], "rain": 6.0, "humidity": 42.0}
    rows[AT + 30] = {**rows[AT + 30], "rain": 6.0}
    assert rows[AT + 30]["humidity"] > 50
    _, found = qc(write(tmp_path / "HISTORY.csv", rows))
    assert {time for time, name in found if name == "rain"} == {format_time(START + AT * STEP_S)}
    assert "would not reach the gauge" in found[format_time(START + AT * STEP_S), "rain"]["reason"]


def test_times_that_come_twice_or_out_of_order_are_told_and_harm_no_reading(tmp_path: Path) -> None:
    rows, chance = station(), random.Random(7)
    order = list(range(len(rows)))
    for i in range(0, len(rows) - 8, 97):  # a few blocks in the wrong order
        block = order[i : i + 6]
        chance.shuffle(block)
        order[i : i + 6] = block
    order += order[500:520]  # and some rows sent again
    file = write(tmp_path / "HISTORY.csv", [rows[i] for i in order], [START + i * STEP_S for i in order])
    told, found = qc(file)
    assert told.exit_code == 0 and found == {}
    assert "not in order of time" in told.stderr and "20 rows repeat the time of another" in told.stderr


def test_hundreds_of_rows_that_are_not_there_are_told_and_their_ends_stay_good(tmp_path: Path) -> None:
    rows, times = station(), [START + i * STEP_S for i in range(13 * DAY)]
    file = write(tmp_path / "HISTORY.csv", rows[:700] + rows[1000:], times[:700] + times[1000:])
    told, found = qc(file)
    assert told.exit_code == 0 and found == {}
    assert (
        f"no rows in 1 gaps, 300 of one in 600 s in all; the longest is from {format_time(times[699])}" in told.stderr
    )


def test_a_front_is_no_fault(tmp_path: Path) -> None:
    """Within half an hour 9 degrees colder and 30 % more humid, with a squall, rising pressure and rain."""
    rows = station()
    for i in range(AT, len(rows)):
        share = min((i - AT + 1) / 3, 1.0)
        row = rows[i]
        row["temperature"] -= 9 * share
        row["humidity"] = min(row["humidity"] + 30 * share, 98.0) + (i % 3) * 0.5
        row["pressure"] += 2.5 * share
        if i < AT + 4:
            row["wind_speed"], row["wind_gust"], row["rain"] = 9.5, 17.0, 3.2
    _, found = qc(write(tmp_path / "HISTORY.csv", rows))
    assert found == {}


@pytest.mark.parametrize("name", ["gone.csv", "folder.csv"])
def test_a_file_that_cannot_be_read_is_refused_by_its_name(tmp_path: Path, name: str) -> None:
    (tmp_path / "folder.csv").mkdir()
    told, _ = qc(tmp_path / name)
    assert told.exit_code and name in told.output and not (tmp_path / "FLAGS.csv").exists()


def test_flags_that_cannot_be_written_are_said(tmp_path: Path) -> None:
    file = write(tmp_path / "HISTORY.csv", station(1))
    told = CliRunner().invoke(main, ["qc", str(file), *PLACE, "--out", str(tmp_path / "nowhere" / "FLAGS.csv")])
    assert told.exit_code == 1 and "cannot be written" in told.output


def test_memory_does_not_grow_with_the_length_of_a_series_in_order(tmp_path: Path) -> None:
    """Peak memory of the command on months of rows, beside that on days. STATIONCAST_QC_DAYS=365 makes it a year."""
    few = _peak(write(tmp_path / "few.csv", station(3)))
    many = _peak(write(tmp_path / "many.csv", station(MANY_DAYS)))
    print(f"{few / 1e6:.1f} MB for 3 days, {many / 1e6:.1f} MB for {MANY_DAYS}")
    assert many - few < 5_000_000 + MANY_DAYS * DAY * 7 * 8 * 6  # the columns themselves, in a few copies


def _peak(file: Path) -> int:
    """Peak resident bytes of `edge-agent qc` on a file, in a process of its own."""
    peak = "next(line.split()[1] for line in open('/proc/self/status') if line.startswith('VmHWM'))"
    code = f"import sys; from edge_agent.cli import main; main(sys.argv[1:], standalone_mode=False); print({peak})"
    command = [sys.executable, "-c", code, "qc", str(file), *PLACE, "--out", f"{file}.flags"]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return int(done.stdout.split()[-1]) * 1024
