"""`edge-agent qc`: a file in, flags out, by the code that judges live readings; and an operator's word against one."""

from __future__ import annotations

import csv
import math
import os
import random
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from edge_agent.cli import main
from edge_agent.clock import format_time
from edge_agent.config import Station
from edge_agent.history import History
from edge_agent.observation import Flag
from edge_agent.quality.series import judge_series
from edge_agent.store import Store
from tests.quality.stations import DAY, SITE, START, STEP_S, flags, history, judge, ordinary

CORPUS = Path(os.environ.get("STATIONCAST_CORPUS", Path(__file__).parents[2].parent / "shared" / "data"))
PLACE = ["--latitude", "47.36", "--longitude", "8.54", "--elevation", "408"]


def write(path: Path, past: History) -> Path:
    names = list(past.values)
    with path.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["time", *names])
        for i, t in enumerate(past.times.tolist()):
            cells = (past.values[name][i] for name in names)
            rows.writerow([format_time(t), *("" if math.isnan(v) else repr(float(v)) for v in cells)])
    return path


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, ["qc", *map(str, arguments)])


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def spoiled() -> History:
    """Three days with a spike, a hygrometer stuck for half a day, an impossible value and an empty cell."""
    rows = [dict(row) for row in ordinary(3)]
    rows[200]["temperature"] += 9
    rows[210]["pressure"] = 28.6
    for row in rows[300:385]:
        row["humidity"] = 55.5
    del rows[400]["wind_speed"]
    return history(rows)


def test_each_doubted_value_has_a_row_with_the_deciding_test_and_its_reason(tmp_path: Path) -> None:
    file, out = write(tmp_path / "HISTORY.csv", spoiled()), tmp_path / "FLAGS.csv"
    told = run(file, *PLACE, "--no-forecast", "--out", out)
    assert told.exit_code == 0, told.output
    rows = rows_of(out)
    assert list(rows[0]) == ["time", "variable", "value", "flag", "test", "reason"]
    by_place = {(row["time"], row["variable"]): row for row in rows}
    spike = by_place[format_time(START + 200 * STEP_S), "temperature"]
    assert spike["flag"] in ("3", "4") and spike["test"] in ("step", "spike") and spike["reason"]
    pressure = by_place[format_time(START + 210 * STEP_S), "pressure"]
    assert (pressure["flag"], pressure["value"]) == ("4", "28.6") and "inHg" in pressure["reason"]
    missing = by_place[format_time(START + 400 * STEP_S), "wind_speed"]
    assert (missing["flag"], missing["test"], missing["value"]) == ("9", "missing", "")
    assert sum(row["variable"] == "humidity" and row["test"] == "persistence" for row in rows) >= 84
    assert [row["time"] for row in rows] == sorted(row["time"] for row in rows)
    assert "persistence" in told.output and f"{len(rows)} values flagged" in told.output


def test_a_file_is_judged_as_the_same_readings_are_live() -> None:
    past = spoiled()
    rows = [{n: float(c[i]) for n, c in past.values.items() if not math.isnan(c[i])} for i in range(len(past.times))]
    live = judge(rows)
    found = judge_series(SITE, past).found
    for name in past.values:
        told = flags(live, name)
        assert {row for row, flag in enumerate(told) if flag in (3, 4)} == set(found.get(name, {}))
        assert all(int(verdict.flag) == told[row] for row, verdict in found.get(name, {}).items())


def test_nothing_later_than_a_row_decides_what_is_said_of_it_save_as_a_revision() -> None:
    past, cut = spoiled(), 350
    short = History(past.times[:cut], {name: column[:cut] for name, column in past.values.items()}, [])
    whole, part = judge_series(SITE, past).found, judge_series(SITE, short).found
    for name, found in part.items():
        assert all(whole[name][row].flag >= verdict.flag for row, verdict in found.items())
    for name, found in whole.items():
        extra = {row for row in found if row < cut} - set(part.get(name, {}))
        assert all(found[row].test in ("spike", "step", "persistence", "role") for row in extra)


def test_without_a_position_the_tests_that_need_none_are_made_and_it_says_so(tmp_path: Path) -> None:
    file, out = write(tmp_path / "HISTORY.csv", spoiled()), tmp_path / "FLAGS.csv"
    told = run(file, "--out", out)
    assert told.exit_code == 0
    assert "not tested without --latitude and --longitude and --elevation" in told.stderr
    assert {"step", "persistence"} & {row["test"] for row in rows_of(out)}


def test_with_forecasts_it_makes_them_from_what_was_usable_before(tmp_path: Path) -> None:
    file, out = write(tmp_path / "HISTORY.csv", spoiled()), tmp_path / "FLAGS.csv"
    assert run(file, *PLACE, "--out", out).exit_code == 0
    assert all(row["flag"] == "3" for row in rows_of(out) if row["test"] == "anomaly")


def test_neighbours_are_read_from_a_folder(tmp_path: Path) -> None:
    """Five copies of the same air; the station itself is off for a day, and lies in the folder too."""
    rows, folder = ordinary(8), tmp_path / "near"
    folder.mkdir()
    lines = ["station,latitude,longitude,elevation"]
    for n in range(5):
        lines.append(f"n{n},47.{36 + n},8.6,420")
        chance = random.Random(n)
        noisy = [{"temperature": round(row["temperature"] + chance.gauss(0, 0.1), 2)} for row in rows]
        write(folder / f"n{n}.csv", history(noisy))
    lines += ["roof,47.36,8.54,408", "far,52.0,13.0,40", "gone,47.4,8.5,400"]
    write(folder / "roof.csv", history(rows))
    (folder / "stations.csv").write_text("\n".join(lines) + "\n")
    off = [dict(row) for row in rows]
    for i in range(6 * DAY, 7 * DAY):
        off[i]["temperature"] = round(off[i]["temperature"] + min((i - 6 * DAY) * 0.3, 9.0), 2)
    file, out = write(tmp_path / "HISTORY.csv", history(off)), tmp_path / "FLAGS.csv"
    told = run(file, *PLACE, "--neighbours", folder, "--no-forecast", "--out", out)
    assert told.exit_code == 0, told.output
    assert "no gone.csv" in told.stderr and "far" not in told.stderr
    found = [row for row in rows_of(out) if row["test"] == "spatial"]
    assert len(found) > 80 and {row["variable"] for row in found} == {"temperature"}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("name,lat\na,1\n", "its first line must name"),
        ("station,latitude,longitude,elevation\na,95,8,400\n", "row 2: latitude"),
        ("station,latitude,longitude,elevation\na,,8,400\n", "is not a number"),
        ("station,latitude,longitude,elevation\n../a,47,8,400\n", "without slashes"),
    ],
)
def test_a_list_of_stations_that_is_none_is_refused_with_its_row(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "stations.csv").write_text(text)
    file = write(tmp_path / "HISTORY.csv", history(ordinary(0.2)))
    told = run(file, *PLACE, "--neighbours", tmp_path, "--no-forecast", "--out", tmp_path / "FLAGS.csv")
    assert told.exit_code == 1 and words in told.output


def test_a_position_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    file = write(tmp_path / "HISTORY.csv", history(ordinary(0.2)))
    told = run(file, "--latitude", "97", "--out", tmp_path / "FLAGS.csv")
    assert told.exit_code == 1 and "--latitude" in told.output


def test_a_file_with_gaps_and_nonsense_is_judged_to_its_end(tmp_path: Path) -> None:
    chance = random.Random(4)
    names = ["temperature", "humidity", "rain", "wind_direction", "pressure"]
    lines = ["time," + ",".join(names)]
    for i in range(400):
        t = START + i * 600 + (chance.randrange(10**7) if chance.random() < 0.05 else 0)
        pick = ["", "nan", "1e300", "-1e300", "0", "-127", "85", f"{chance.uniform(-50, 1100):.2f}"]
        lines.append(f"{t}," + ",".join(chance.choice(pick) for _ in names))
    file, out = tmp_path / "HISTORY.csv", tmp_path / "FLAGS.csv"
    file.write_text("\n".join(lines) + "\n")
    told = run(file, *PLACE, "--out", out)
    assert told.exit_code == 0, told.output
    assert {row["flag"] for row in rows_of(out)} <= {"3", "4", "9"}


# --- the permuted columns of the Zurich lake ---------------------------------------------------------------------


@pytest.mark.skipif(not CORPUS.is_dir(), reason=f"no recorded stations at {CORPUS} (set STATIONCAST_CORPUS)")
@pytest.mark.parametrize("name", ["mythenquai", "tiefenbrunnen"])
def test_the_fifty_days_of_permuted_columns_are_caught(name: str) -> None:
    """Every wrong value of them fails or is suspect, from the first row to the last; the temperature, which stayed in
    its column, is left alone, and so is what came after."""
    import lzma

    from edge_agent.clock import parse_time
    from tests.quality.test_quality_on_recorded_stations import STATIONS, ZURICH

    def read(file: str, time: str) -> History:
        with lzma.open(CORPUS / "zurich-lake" / file, "rt") as lines:
            rows = [row for row in csv.DictReader(lines) if "2019-06" <= row[time] < "2019-11"]
        times = np.array([parse_time(row[time].replace(" ", "T")) for row in rows], np.int64)
        columns = {ours: theirs for theirs, ours in ZURICH.items() if theirs in rows[0]}
        return History(times, {o: np.array([float(row[c]) for row in rows]) for o, c in columns.items()}, [])

    found_file = read(f"as-found/messwerte_{name}_2019.csv.xz", "timestamp_cet")
    true = read(f"{name}_2019.csv.xz", "time_utc")
    latitude, longitude, elevation = STATIONS[name][3]
    found = judge_series(Station(name, latitude, longitude, float(elevation)), found_file).found
    permuted = np.zeros(len(true.times), bool)
    for variable, column in found_file.values.items():
        permuted |= column != true.values[variable]
    assert 7000 < permuted.sum() < 7300
    for variable, column in found_file.values.items():
        wrong = np.flatnonzero(column != true.values[variable])
        verdicts = found.get(variable, {})
        assert sum(row in verdicts for row in wrong.tolist()) >= 0.999 * len(wrong)
        reasons = {verdicts[row].why for row in wrong.tolist() if verdicts[row].test == "role"}
        assert len(wrong) == 0 or any("swapped" in why for why in reasons)
        after = np.flatnonzero(~permuted & (true.times > true.times[permuted][-1]))
        assert sum(row in verdicts and verdicts[row].test == "role" for row in after.tolist()) <= 2
    assert not any(verdict.test == "role" for verdict in found.get("temperature", {}).values())


# --- an operator's word ------------------------------------------------------------------------------------------

CONFIG = """
[station]
id = "my-roof"
latitude = 47.36
longitude = 8.54
elevation_m = 408

[store]
path = "store.sqlite"
"""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "agent.toml"
    path.write_text(CONFIG)
    file = write(tmp_path / "HISTORY.csv", spoiled())
    done = CliRunner().invoke(main, ["import", str(file), "--config", str(path)])
    assert done.exit_code == 0, done.output
    return path


def overrule(config: Path, first: int, last: int, flag: str, **more: str) -> Result:
    span = ["--start", format_time(START + first * STEP_S), "--end", format_time(START + last * STEP_S)]
    words = [x for key, value in more.items() for x in (f"--{key}", value)]
    said = ["--variable", "temperature", *span, "--flag", flag, "--why", "the roof was being tiled", *words]
    return run("overrule", "--config", config, *said)


def test_a_flag_is_overruled_and_the_grid_follows_and_it_stays_on_record(config: Path) -> None:
    told = overrule(config, 100, 120, "fail")
    assert told.exit_code == 0, told.output
    assert "21 values of temperature are fail now" in told.output
    with Store.open(config.with_name("store.sqlite"), read_only=True) as store:
        rows = list(store.observations("my-roof", START + 90 * STEP_S, START + 130 * STEP_S))
        found = [row.verdicts["temperature"] for row in rows]
        assert [v.flag for v in found] == [1] * 10 + [4] * 21 + [1] * 10
        assert {v.why for v in found if v.test == "operator"} == {"the roof was being tiled"}
        grid = store.history(["my-roof"], START + 130 * STEP_S // 900 * 900)[0]
        held = np.isnan(grid[-25:, 0])
        assert held.any() and not np.isnan(grid[-25:, 1]).any()
    listed = run("overrule", "--config", config, "--list")
    assert "temperature" in listed.output and "21 values: the roof was being tiled" in listed.output


def test_a_flag_that_was_wrong_is_good_again_and_no_test_takes_it_back(config: Path) -> None:
    assert overrule(config, 200, 200, "good").exit_code == 0
    again = CliRunner().invoke(main, ["import", str(config.with_name("HISTORY.csv")), "--config", str(config)])
    assert again.exit_code == 0
    with Store.open(config.with_name("store.sqlite"), read_only=True) as store:
        t = START + 200 * STEP_S
        verdict = next(iter(store.observations("my-roof", t, t))).verdicts["temperature"]
        assert (verdict.flag, verdict.test) == (Flag.GOOD, "operator")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"variable": "temprature"}, 'did you mean "temperature"'),
        ({"source": "mast"}, 'no source "mast"; there are import'),
        ({"why": "  "}, "--why must say why"),
        ({"start": "yesterday"}, "--start"),
        ({"station": "garden"}, 'no station "garden"'),
    ],
)
def test_what_cannot_be_overruled_is_said_with_the_remedy(config: Path, arguments: dict[str, str], words: str) -> None:
    told = overrule(config, 100, 101, "fail", **arguments)
    assert told.exit_code == 1 and words in told.output


def test_where_nothing_is_nothing_is_overruled(config: Path) -> None:
    told = overrule(config, -9000, -8000, "fail")
    assert told.exit_code == 1 and "no value of temperature" in told.output
    assert "no flag was overruled" in run("overrule", "--config", config, "--list").output
    assert run("overrule", "--config", config, "--flag", "fail").exit_code == 2
