"""Import and export: a station's past goes in once, and comes out as it went in."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from edge_agent import grid
from edge_agent.cli import main
from edge_agent.clock import parse_time
from edge_agent.errors import DataError
from edge_agent.history import History, read_history
from edge_agent.observation import Flag, Judged, Observation, Verdict
from edge_agent.store import Store
from edge_agent.transfer import export_rows, import_history

DAY = 1_700_006_400  # a midnight, UTC

STATION = """
[[station]]
id = "{id}"
latitude = 47.0
longitude = 8.0
elevation_m = 400
"""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    return write_config(tmp_path / "agent.toml", "my-roof")


def write_config(path: Path, *stations: str) -> Path:
    tables = "".join(STATION.format(id=station) for station in stations)
    sensor = '[[sensor]]\nname = "mast"\ndriver = "json_lines"\nport = "/dev/null"\n'
    sensor += 'map = { t = { variable = "temperature", unit = "degC" } }\n'
    sensor += f'station = "{stations[0]}"\n'
    path.write_text(f'{tables}\n[store]\npath = "store.sqlite"\n\n{sensor}')
    return path


def write_history(path: Path, hours: int = 48, step_s: int = 600) -> Path:
    """A plain two days: humidity missing now and then, one impossible temperature."""
    with path.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["time", "temperature", "humidity", "rain"])
        for i, t in enumerate(range(DAY, DAY + hours * 3600, step_s)):
            temperature = 400.0 if i == 100 else round(10 + 5 * np.sin(i / 23), 2)
            rows.writerow([t, temperature, "" if i % 10 == 3 else 60 + i % 7, 0.2 if i % 30 == 0 else 0])
    return path


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def opened(config: Path) -> Store:
    return Store.open(config.parent / "store.sqlite", read_only=True)


def observations(config: Path, station: str = "my-roof") -> list[Judged]:
    with opened(config) as store:
        return list(store.observations(station))


def test_imported_rows_are_judged_historical_and_never_queued(config: Path, tmp_path: Path) -> None:
    result = run("import", write_history(tmp_path / "past.csv"), "--config", config)
    assert result.exit_code == 0, result.output
    assert "288 rows for station my-roof, source import: 288 new, 0 there already" in result.output
    assert "1 fail" in result.output
    rows = observations(config)
    assert len(rows) == 288
    assert all(row.observation.historical and row.observation.source == "import" for row in rows)
    assert rows[100].verdicts["temperature"].flag is Flag.FAIL
    assert rows[100].observation.values["temperature"] == 400.0  # the raw value is kept
    assert "humidity" not in rows[3].observation.values
    with opened(config) as store:
        assert store.destinations() == []
        assert store.ages(["my-roof"], DAY + 48 * 3600)[0]["temperature"] == 600


def test_importing_a_file_twice_changes_nothing(config: Path, tmp_path: Path) -> None:
    past = write_history(tmp_path / "past.csv")
    run("import", past, "--config", config)
    before = observations(config)
    with opened(config) as store:
        grid_before = store.history(["my-roof"], DAY + 48 * 3600)
    result = run("import", past, "--config", config)
    assert "0 new, 288 there already" in result.output
    assert observations(config) == before
    with opened(config) as store:
        np.testing.assert_array_equal(store.history(["my-roof"], DAY + 48 * 3600), grid_before)


def test_rows_with_other_values_than_the_store_has_are_told_and_change_nothing(config: Path, tmp_path: Path) -> None:
    past = tmp_path / "past.csv"
    past.write_text(f"time,temperature,humidity\n{DAY},20,\n{DAY + 600},21,50\n")
    run("import", past, "--config", config)
    past.write_text(f"time,temperature,humidity\n{DAY},25,60\n{DAY + 600},21,50\n")
    result = run("import", past, "--config", config)
    assert "1 new, 1 there already, 1 of which the store has other values, which stay" in result.output
    assert observations(config)[0].observation.values == {"temperature": 20.0, "humidity": 60.0}


def test_importing_the_same_past_under_two_names_does_not_double_the_rain(config: Path, tmp_path: Path) -> None:
    past = write_history(tmp_path / "past.csv")
    run("import", past, "--config", config)
    with opened(config) as store:
        before = store.history(["my-roof"], DAY + 48 * 3600)
    run("import", past, "--config", config, "--source", "again")
    with opened(config) as store:
        np.testing.assert_array_equal(store.history(["my-roof"], DAY + 48 * 3600), before)


def test_a_live_reading_stands_above_an_imported_one(config: Path, tmp_path: Path) -> None:
    run("import", write_history(tmp_path / "past.csv"), "--config", config)
    live = Observation("my-roof", "mast", DAY + 3300, {"temperature": -1.0}, "boot", 1)
    with Store.open(tmp_path / "store.sqlite") as store:
        store.add(Judged(live, {"temperature": Verdict(Flag.GOOD)}))
        assert store.history(["my-roof"], DAY + 3600)[0, -1, 0] == -1.0


@pytest.mark.parametrize("flags", [[], ["--flags"]])
def test_what_is_exported_imports_as_the_same_observations(config: Path, tmp_path: Path, flags: list[str]) -> None:
    run("import", write_history(tmp_path / "past.csv"), "--config", config)
    result = run("export", "--config", config, "--out", tmp_path / "out.csv", *flags)
    assert result.exit_code == 0, result.output
    (tmp_path / "other").mkdir()
    other = write_config(tmp_path / "other" / "agent.toml", "my-roof")
    result = run("import", tmp_path / "out.csv", "--config", other)
    assert result.exit_code == 0, result.output
    assert observations(other) == observations(config)


def test_humidity_that_was_only_computed_is_not_imported_as_measured(config: Path, tmp_path: Path) -> None:
    past = tmp_path / "dew.csv"
    past.write_text(f"time,temperature,dew_point\n{DAY},20,10\n{DAY + 600},21,\n")
    run("import", past, "--config", config)
    assert [row.observation.values for row in observations(config)] == [
        {"temperature": 20.0, "dew_point": 10.0},
        {"temperature": 21.0},
    ]
    with opened(config) as store:
        assert round(float(store.history(["my-roof"], DAY + 900)[0, -2, 1]), 1) == 52.5


def test_export_to_standard_output_is_a_history_file(config: Path, tmp_path: Path) -> None:
    run("import", write_history(tmp_path / "past.csv"), "--config", config)
    result = run("export", "--config", config, "--start", DAY + 600, "--end", "2023-11-15T00:30:00Z")
    assert result.stdout.splitlines() == [
        "time,temperature,humidity,rain",
        "2023-11-15T00:10:00Z,10.22,61.0,0.0",
        "2023-11-15T00:20:00Z,10.43,62.0,0.0",
        "2023-11-15T00:30:00Z,10.65,,0.0",
    ]
    (tmp_path / "again.csv").write_text(result.stdout)
    assert read_history(tmp_path / "again.csv").warnings == []


def test_flags_stand_beside_the_values(config: Path, tmp_path: Path) -> None:
    run("import", write_history(tmp_path / "past.csv"), "--config", config)
    rows = list(csv.DictReader(run("export", "--config", config, "--flags").stdout.splitlines()))
    assert list(rows[0]) == [
        "time",
        "temperature",
        "temperature_flag",
        "humidity",
        "humidity_flag",
        "rain",
        "rain_flag",
    ]
    assert (rows[100]["temperature"], rows[100]["temperature_flag"]) == ("400.0", "4")
    assert (rows[3]["humidity"], rows[3]["humidity_flag"]) == ("", "")


def test_of_two_sources_in_the_same_quarter_hour_the_better_one_is_exported(tmp_path: Path) -> None:
    """Else rain that two gauges measured would come back as their sum."""
    with Store.open(tmp_path / "store.sqlite") as store:
        for t, source, rank, values in (
            (DAY + 10, "second", 1, {"rain": 5.0, "pressure": 1000.0}),
            (DAY + 20, "first", 0, {"rain": 0.2}),
            (DAY + 1000, "second", 1, {"rain": 7.0}),
        ):
            store.add(Judged(Observation("roof", source, t, values, "boot", t, rank=rank)))
        assert list(export_rows(store, "roof", None, None)) == [
            ["time", "pressure", "rain"],
            ["2023-11-15T00:00:10Z", "1000.0", ""],
            ["2023-11-15T00:00:20Z", "", "0.2"],
            ["2023-11-15T00:16:40Z", "", "7.0"],
        ]
        with pytest.raises(DataError, match="no observations in that time"):
            list(export_rows(store, "roof", 0, 1))


def test_a_long_past_is_imported_in_batches_that_others_can_read_and_write_between(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edge_agent.transfer.BATCH_ROWS", 10)
    times = DAY + 600 * np.arange(45)
    past = History(times, {"temperature": np.where(times % 1800 == 0, np.nan, 1.0)}, [])
    path = tmp_path / "store.sqlite"
    seen: list[int] = []

    def advance(rows: int) -> None:
        with Store.open(path, read_only=True) as reader:
            seen.append(len(list(reader.observations("roof"))))

    with Store.open(path) as store:
        done = import_history(store, past, "roof", "old", Judged, advance)
    assert (done.new, done.duplicate, done.empty) == (30, 0, 15)
    assert seen == [6, 13, 20, 26, 30]


def test_a_row_decades_ahead_is_not_imported_and_named(config: Path, tmp_path: Path) -> None:
    """It would be the newest reading for decades."""
    past = write_history(tmp_path / "past.csv", hours=1)
    past.write_text(past.read_text() + "4070908800,1,50,0\n")
    result = run("import", past, "--config", config)
    assert result.exit_code == 0 and "row 8 (2099-01-01T00:00:00Z)" in result.stderr
    assert [row.observation.t for row in observations(config)] == [DAY + 600 * i for i in range(6)]


def test_rows_older_than_the_store_keeps_are_told(config: Path, tmp_path: Path) -> None:
    past = tmp_path / "long.csv"
    past.write_text(f"time,temperature\n{DAY - 100 * 86_400},1\n{DAY},2\n")
    result = run("import", past, "--config", config)
    assert "1 rows lie more than 90 days before the last one" in result.output


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--station", "my-rof"], 'no station "my-rof" (did you mean "my-roof"?)'),
        (["--source", "mast"], "is the name of a sensor"),
        (["--source", ""], "--source is"),
        (["--source", "a\nb"], "letters, digits"),
        (["--config", "gateway.toml"], "--station is needed: the configuration has north, south"),
    ],
)
def test_what_import_cannot_do_it_says(config: Path, tmp_path: Path, arguments: list[str], said: str) -> None:
    write_config(tmp_path / "gateway.toml", "north", "south")
    past = write_history(tmp_path / "past.csv", hours=1)
    arguments = [str(tmp_path / word) if word.endswith(".toml") else word for word in arguments]
    result = run("import", past, *(["--config", config] if "--config" not in arguments else []), *arguments)
    assert result.exit_code == 1
    assert said in result.output


@pytest.mark.parametrize("name", ["store.sqlite", "agent.toml"])
def test_an_export_never_replaces_what_it_comes_from(config: Path, tmp_path: Path, name: str) -> None:
    run("import", write_history(tmp_path / "past.csv", hours=1), "--config", config)
    before = (tmp_path / name).read_bytes()
    result = run("export", "--config", config, "--out", tmp_path / name)
    assert result.exit_code == 1 and "this command reads that file" in result.output
    assert (tmp_path / name).read_bytes() == before


def test_export_without_a_store_or_with_a_wrong_time_says_what_to_do(config: Path, tmp_path: Path) -> None:
    result = run("export", "--config", config)
    assert result.exit_code == 1
    assert "not there yet" in result.output
    run("import", write_history(tmp_path / "past.csv", hours=1), "--config", config)
    assert "has no time zone" in run("export", "--config", config, "--start", "2024-05-01T00:00:00").output
    result = run("export", "--config", config, "--out", tmp_path)
    assert result.exit_code == 1
    assert "cannot be written" in result.output


def test_a_real_recording_goes_through(tmp_path: Path) -> None:
    """A year of hours at 1,000 rows a commit, as JSON-safe numbers all the way."""
    times = parse_time("2023-01-01T00:00:00Z") + 3600 * np.arange(24 * 60)
    rng = np.random.default_rng(1)
    past = History(times, {"temperature": rng.normal(10, 5, len(times)), "rain": rng.gamma(0.1, 1, len(times))}, [])
    with Store.open(tmp_path / "store.sqlite") as store:
        done = import_history(store, past, "roof", "old", Judged)
        assert done.new == len(times)
        exact = [row.observation.values["rain"] for row in store.observations("roof")]
    np.testing.assert_array_equal(exact, past.values["rain"])
    assert json.loads(json.dumps(exact)) == exact


def test_rain_of_an_imported_row_after_a_gap_is_kept_and_is_no_steps_own(config: Path, tmp_path: Path) -> None:
    times = [*range(DAY, DAY + 6000, 600), *range(DAY + 24_000, DAY + 30_000, 600)]
    path = tmp_path / "gap.csv"
    path.write_text("time,rain\n" + "".join(f"{t},{12.4 if t == DAY + 24_000 else 0.2}\n" for t in times))
    run("import", path, "--config", config)
    gathered = [one for one in observations(config) if one.verdicts["rain"].test == "period"]
    assert [(one.observation.t, one.observation.values["rain"]) for one in gathered] == [(DAY + 24_000, 12.4)]
    with opened(config) as store:
        rain = store.history(["my-roof"], (DAY + 30_000) // 900 * 900)[0, :, grid.GRID_VARIABLES.index("rain")]
    assert np.nansum(rain) == pytest.approx(0.2 * (len(times) - 2), abs=0.3)
