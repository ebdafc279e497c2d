"""`edge-agent hindcast --guidance`: no look ahead, better than raw where raw errs, one row a pair, what it refuses."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from edge_agent.cli import main
from edge_agent.clock import format_time, parse_time
from edge_agent.forecast import from_file
from edge_agent.guidance.files import ONLY, read_guidance
from tests.guidance.archives import DAY_S, START, daily, hourly, write
from tests.tiny_bundle import make_tiny_bundle

SITE = ["--latitude", "52", "--longitude", "9", "--elevation", "60"]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory) -> Path:
    return make_tiny_bundle(tmp_path_factory.mktemp("bundle") / "tiny.bundle")


@pytest.fixture(autouse=True)
def untried(monkeypatch):
    monkeypatch.setattr(from_file, "verify_golden", lambda path, digest: None)


def run(files: tuple[Path, Path], bundle: Path, *options: str, site: bool = True) -> Result:
    history, guidance = files
    place = SITE if site else []
    words = ["hindcast", str(history), *place, "--guidance", str(guidance), "--bundle", str(bundle), *options]
    return CliRunner().invoke(main, words)


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def test_a_steady_error_is_learned_from_daily_records_alone(tmp_path, bundle):
    result = run(daily(tmp_path, 200), bundle, "--every", "1d", "--start", format_time(START + 110 * DAY_S), "--json")
    assert result.exit_code == 0, result.output
    for entry in json.loads(result.output)["skill"]:
        assert entry["guidance"]["rmse_below"] > 0.3
        assert abs(entry["bias"]) < 0.5


def test_many_stations_share_what_is_learned_and_keep_their_own_errors(tmp_path, bundle):
    files = daily(tmp_path, 40, stations=12)
    result = run(files, bundle, "--every", "1d", "--json", "--start", format_time(START + 20 * DAY_S), site=False)
    assert result.exit_code == 0, result.output
    told = json.loads(result.output)
    assert told["stations"] == 12
    assert all(entry["guidance"]["rmse_below"] > 0.5 for entry in told["skill"])


def test_nothing_later_than_an_origin_enters_its_forecast(tmp_path, bundle):
    history, guidance = hourly(tmp_path, 6)
    out, again = tmp_path / "all.csv", tmp_path / "cut.csv"
    cut = START + 4 * DAY_S
    for name, target in (("whole", out), ("cut", again)):
        if name == "cut":
            for path, column in ((history, "time"), (guidance, "issued")):
                kept = [row for row in rows(path) if parse_time(row[column]) <= cut]
                with path.open("w", encoding="utf-8", newline="") as stream:
                    writer = csv.DictWriter(stream, fieldnames=list(kept[0]))
                    writer.writeheader()
                    writer.writerows(kept)
        result = run((history, guidance), bundle, "--every", "6h", "--end", format_time(cut), "--out", str(target))
        assert result.exit_code == 0, result.output
    strip = [{k: v for k, v in row.items() if k != "observed"} for row in rows(out)]
    assert strip == [{k: v for k, v in row.items() if k != "observed"} for row in rows(again)]


@pytest.mark.parametrize("off_s", [0, 120])
def test_readings_off_the_grid_that_come_later_change_no_forecast(tmp_path, bundle, off_s):
    """A reading 120 s after a valid time verifies it, and is not known before."""
    history, guidance = hourly(tmp_path, 3)
    cut = START + 2 * DAY_S
    write(guidance, [{**row, "rain": i % 4 / 2} for i, row in enumerate(rows(guidance))])
    read = [(parse_time(row["time"]) + off_s, float(row["temperature"])) for row in rows(history)]
    found = []
    for later in (0.0, 25.0):
        moved = [(t, value + later * (t > cut)) for t, value in read]
        write(history, [{"time": format_time(t), "temperature": x, "rain": abs(x)} for t, x in moved])
        out = tmp_path / f"{later}.csv"
        result = run((history, guidance), bundle, "--every", "1h", "--end", format_time(cut), "--out", str(out))
        assert result.exit_code == 0, result.output
        found.append([{**row, "observed": ""} for row in rows(out)])
    assert {row["variable"] for row in found[0]} >= {"temperature", "rain"}
    assert found[0] == found[1]


def test_what_is_learned_does_not_depend_on_which_origins_are_written(tmp_path, bundle):
    files = hourly(tmp_path, 4)
    at = {}
    for every in ("15min", "1h", "12h"):
        out = tmp_path / f"{every}.csv"
        result = run(files, bundle, "--every", every, "--out", str(out))
        assert result.exit_code == 0, result.output
        at[every] = {(r["origin"], r["valid_time"], r["variable"]): r for r in rows(out)}
    assert at["12h"]
    for seldom, often in (("12h", "1h"), ("1h", "15min")):
        assert all(at[often][key] == row for key, row in at[seldom].items())


def test_one_row_an_origin_valid_time_and_variable_to_the_last_lead(tmp_path, bundle):
    out = tmp_path / "out.csv"
    result = run(hourly(tmp_path, 5), bundle, "--every", "6h", "--out", str(out))
    assert result.exit_code == 0, result.output
    found = rows(out)
    keys = [(row["origin"], row["valid_time"], row["variable"]) for row in found]
    assert len(keys) == len(set(keys))
    found = [row for row in found if not row["variable"].startswith("event:")]
    sources = {row["source"] for row in found}
    assert sources == {"blend", "corrected"}
    assert max(int(row["lead_s"]) for row in found) == 48 * 3600
    assert {row["source"] for row in found if int(row["lead_s"]) > 6 * 3600} == {"corrected"}
    columns = [name for name in found[0] if name.startswith("q")]
    for row in found:
        quantiles = [float(row[name]) for name in columns if row[name]]
        assert quantiles == sorted(quantiles)


def test_events_are_those_of_a_hindcast_without_guidance(tmp_path, bundle):
    history, guidance = hourly(tmp_path, 3)
    read = [{**row, "wind_gust": 14.0 * (i % 2), "rain": 0.0} for i, row in enumerate(rows(history))]
    write(history, read)
    out, plain = tmp_path / "out.csv", tmp_path / "plain.csv"
    assert run((history, guidance), bundle, "--every", "3h", "--out", str(out)).exit_code == 0
    words = ["hindcast", str(history), *SITE, "--bundle", str(bundle), "--every", "3h", "--out", str(plain)]
    assert CliRunner().invoke(main, words).exit_code == 0
    events = [[row for row in rows(path) if row["variable"].startswith("event:")] for path in (out, plain)]
    key = ("origin", "valid_time", "variable", "observed", "p")
    ours, theirs = ({tuple(row[name] for name in key) for row in found} for found in events)
    assert {row["variable"] for row in events[0]} == {"event:rain", "event:frost", "event:gust"}
    assert ours == theirs


def test_the_newest_error_helps_in_the_first_hours(tmp_path, bundle):
    start = format_time(START + 6 * DAY_S)
    result = run(hourly(tmp_path, 12), bundle, "--every", "3h", "--start", start, "--json")
    assert result.exit_code == 0, result.output
    below = {e["lead_s"]: e["guidance"]["rmse_below"] for e in json.loads(result.output)["skill"]}
    assert below[3600] > 0.5
    assert below[3600] > below[6 * 3600] > 0.0


def test_the_interval_holds_what_it_promises(tmp_path, bundle):
    found = []
    for seed in range(3):
        files = daily(tmp_path, 300, seed=seed)
        result = run(files, bundle, "--every", "1d", "--start", format_time(START + 100 * DAY_S), "--json")
        found += [entry["coverage80"] for entry in json.loads(result.output)["skill"]]
    assert np.mean(found) == pytest.approx(0.8, abs=0.06)


@pytest.mark.parametrize(
    ("header", "row", "said"),
    [
        ("valid_time,temperature", "2020-01-02T00:00:00Z,1", 'no "issued" column'),
        ("issued,valid_time,temprature", "2020-01-02T00:00:00Z,2020-01-03T00:00:00Z,1", "no column of the vocabulary"),
        ("issued,valid_time,temperature", "2020-01-02,2020-01-03T00:00:00Z,1", "row 2"),
        ("issued,valid_time,temperature", "2020-01-02T00:00:00Z,2020-01-03T00:00:00Z,warm", "not a number"),
        ("issued,valid_time,temperature", "2020-01-02T00:00:00Z,2020-01-03T00:00:00Z,1_5", "not a number"),
        ("issued,valid_time,temperature", "", "nothing to read"),
        ("issued;valid_time;temperature", "2020-01-02T00:00:00Z;2020-01-03T00:00:00Z;1", "semicolons"),
        ("issued,valid_time,temperature", "2020-01-02T00:00:00Z,2020-01-03T00:00:00Z,nan", "all are missing"),
        ("issued,valid_time,temperature", "2020-01-02T00:00:00Z,2020-01-03T00:00:00Z,inf", "1 infinite values"),
        ("issued,valid_time,temperature", "2020-01-02T00:00:00Z,2020-01-03T00:00:00Z,280", "column is in K"),
        ("issued,valid_time,temperature", "2020-01-03T00:00:00Z,2020-01-02T00:00:00Z,1", "columns exchanged"),
        ("issued,valid_time,humidity", "2020-01-02T00:00:00Z,2020-01-03T00:00:00Z,50", "no variable in common"),
    ],
)
def test_a_file_that_is_no_guidance_is_refused_by_row(tmp_path, bundle, header, row, said):
    history, guidance = daily(tmp_path, 5)
    guidance.write_text(f"{header}\n{row}\n", encoding="utf-8")
    result = run((history, guidance), bundle)
    assert result.exit_code == 1
    assert said in result.output
    assert "Traceback" not in result.output


@pytest.mark.parametrize(
    ("name", "bad", "said"),
    [
        ("temperature", "280.15", "-95..65 degC taken as missing, the first 280.15: in K they would be 7.0 degC"),
        ("temperature", "77", "the first 77: in degF they would be 25.0 degC"),
        ("pressure", "101300", "the first 101300: in Pa they would be 1013.0 hPa"),
        ("temperature", "1e300", "the first 1e+300"),
        ("temperature__control", "1e200", "outside -1e+09..1e+09 taken as missing"),
        ("temperature__spread", "-1e10", "outside -1e+09..1e+09 taken as missing"),
    ],
)
def test_values_that_cannot_be_are_missing_and_counted_with_the_likely_unit(tmp_path, name, bad, said):
    _, guidance = hourly(tmp_path, 2)
    told = [{**row, name: bad} for row in rows(guidance)]
    write(guidance, [{**row, "wind_speed": 1.0} for row in told])
    runs, _, table = read_guidance(guidance)
    [warning] = table.warnings
    assert f"{name}: {len(told)} values outside" in warning and said in warning
    assert all(np.isnan(run.values[name]).all() for run in runs[ONLY])


def test_one_wrong_value_is_no_other_unit(tmp_path):
    _, guidance = hourly(tmp_path, 2)
    told = rows(guidance)
    told[7]["temperature"] = "99999"
    write(guidance, told)
    [warning] = read_guidance(guidance)[2].warnings
    assert "1 values outside" in warning and "is the column in" not in warning


@pytest.mark.parametrize("value", ["60", "1e8"])
def test_no_forecast_is_beyond_what_can_be(tmp_path, bundle, value):
    """Whatever a predictor says; 60 degC is guidance, if hardly of this place."""
    history, guidance = hourly(tmp_path, 6)
    told = [{**row, "temperature__control": row["temperature"]} for row in rows(guidance)]
    for row in told[-900:]:
        row["temperature__control" if value == "1e8" else "temperature"] = value
    write(guidance, told)
    out = tmp_path / "out.csv"
    assert run((history, guidance), bundle, "--every", "6h", "--out", str(out)).exit_code == 0
    for row in rows(out):
        for key in row:
            if row[key] and row["variable"] == "temperature" and (key == "mean" or key.startswith("q")):
                assert -95.0 <= float(row[key]) <= 65.0


def test_rows_that_come_twice_and_columns_that_are_exchanged_are_told(tmp_path, bundle):
    history, guidance = hourly(tmp_path, 3)
    told = rows(guidance)
    write(guidance, [*told, *told[:7]])
    assert "7 rows repeat the times of another" in run((history, guidance), bundle, "--every", "1d").output
    swapped = [{**row, "issued": row["valid_time"], "valid_time": row["issued"]} for row in told[1:]]
    late = {**told[0], "valid_time": told[5]["valid_time"]}
    write(guidance, [late, *swapped])
    said = run((history, guidance), bundle, "--every", "1d").output
    assert f"{len(swapped)} of {len(told)} rows" in said and "exchanged" in said


def test_stations_that_only_one_file_has_and_places_that_change_are_told(tmp_path, bundle):
    history, guidance = daily(tmp_path, 12, stations=4)
    read = [row for row in rows(history) if row["station"] != "s0"]
    for row in read[-3:]:
        row["latitude"] = "53.5"
    write(history, [*read, read[0]])
    write(guidance, [row for row in rows(guidance) if row["station"] not in ("s1", "s2")])
    said = run((history, guidance), bundle, "--every", "1d", site=False).output
    assert f"{history}: left out, as {guidance} does not have them: 2 of 3 stations: s1, s2" in said
    assert f"{guidance}: left out, as {history} does not have them: 1 of 2 stations: s0" in said
    assert 'station "s3": 3 rows have another latitude' in said
    assert f"{history}: 1 rows repeat the time of another" in said


def test_guidance_without_the_history_s_stations_asks_for_the_column(tmp_path, bundle):
    history, guidance = daily(tmp_path, 5, stations=2)
    told = [row for row in rows(guidance) if row.pop("station") == "s0"]
    write(guidance, told)
    assert "has a station column, this file has none" in run((history, guidance), bundle, site=False).output


def test_bytes_that_are_no_csv_are_refused(tmp_path, bundle):
    history, guidance = daily(tmp_path, 5)
    history.write_bytes(b"a\rb,c\n\x00\xff" * 9)
    result = run((history, guidance), bundle)
    assert result.exit_code == 1 and "not CSV" in result.output and str(history) in result.output


@pytest.mark.parametrize("day", ["2001-01-02", "2039-01-02"])
def test_guidance_of_other_years_is_refused_instead_of_left_out(tmp_path, bundle, day):
    history, guidance = daily(tmp_path, 5)
    guidance.write_text(f"issued,valid_time,temperature\n{day}T00:00:00Z,{day}T06:00:00Z,1\n", encoding="utf-8")
    result = run((history, guidance), bundle)
    assert result.exit_code == 1
    assert "no run could be used" in result.output


def test_runs_that_end_before_the_next_origin_ask_for_a_smaller_every(tmp_path, bundle):
    history, guidance = daily(tmp_path, 5)
    lines = ["issued,valid_time,temperature"]
    lines += [f"2020-01-0{d}T04:00:00Z,2020-01-0{d}T12:00:00Z,1" for d in range(1, 6)]
    guidance.write_text("\n".join(lines), encoding="utf-8")
    assert "smaller --every" in run((history, guidance), bundle, "--every", "1d").output
    assert "smaller --every" not in run((history, guidance), bundle, "--every", "6h").output


def test_a_station_without_a_place_is_asked_for(tmp_path, bundle):
    result = run(daily(tmp_path, 5), bundle, site=False)
    assert result.exit_code == 1
    assert "--latitude" in result.output


def test_rain_stays_at_or_above_nothing(tmp_path, bundle):
    history, guidance = daily(tmp_path, 60)
    rng = np.random.default_rng(3)
    for path in (history, guidance):
        lines = path.read_text(encoding="utf-8").replace("temperature", "rain_24h").splitlines()
        body = [line.rsplit(",", 1)[0] + f",{max(rng.normal(0, 4), 0):.1f}" for line in lines[1:]]
        path.write_text("\n".join([lines[0], *body]) + "\n", encoding="utf-8")
    out = tmp_path / "out.csv"
    result = run((history, guidance), bundle, "--every", "1d", "--out", str(out))
    assert result.exit_code == 0, result.output
    assert all(float(row[name]) >= 0 for row in rows(out) for name in row if name[0] == "q" or name == "mean")


def test_what_is_read_is_never_written_over(tmp_path, bundle):
    history, guidance = files = daily(tmp_path, 5)
    for file in (history, guidance, bundle):
        before = file.read_bytes()
        result = run(files, bundle, "--out", str(file))
        assert result.exit_code == 1 and "this command reads that file" in result.output
        assert file.read_bytes() == before
