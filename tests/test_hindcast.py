"""`edge-agent hindcast`: forecasts of the past that know no future, the table beside the baselines, the file."""

from __future__ import annotations

import csv
import json
import os
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edge_agent import grid
from edge_agent.cli import main
from edge_agent.clock import format_time, parse_time
from edge_agent.config import Station
from edge_agent.errors import ConfigError, DataError
from edge_agent.forecast import LEADS_S, QUANTILES, from_file
from edge_agent.forecast.hindcast import Example, hindcast, origins_between, parse_every
from edge_agent.forecast.nowcast import Nowcaster
from edge_agent.forecast.rows import in_file
from edge_agent.forecast.skill import ISSUED, Skill
from edge_agent.forecast.windows import Windows
from edge_agent.history import History, read_history
from edge_agent.verification import coverage, mae, rmse
from tests.forecast.series import DAY_S, START, STATES, TYPICAL, recorded, write_csv
from tests.tiny_bundle import make_tiny_bundle

CORPUS = Path(os.environ.get("STATIONCAST_CORPUS", Path(__file__).parents[2] / "shared" / "data"))
SITE = ["--latitude", "47.4", "--longitude", "8.5", "--elevation", "406"]
STATION = Station(id="roof", latitude=47.4, longitude=8.5, elevation_m=406.0)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory) -> Path:
    return make_tiny_bundle(tmp_path_factory.mktemp("bundle") / "tiny.bundle")


@pytest.fixture(scope="module")
def recording(tmp_path_factory) -> Path:
    return write_csv(tmp_path_factory.mktemp("data") / "roof.csv", recorded(6))


@pytest.fixture(autouse=True)
def untried(monkeypatch):
    """The child process of the golden samples takes a second a time; `nowcast` is tested with it."""
    monkeypatch.setattr(from_file, "verify_golden", lambda path, digest: None)


def run(path: Path, bundle: Path, *options: str) -> Result:
    return CliRunner().invoke(main, ["hindcast", str(path), *SITE, "--bundle", str(bundle), *options])


def gappy(past: History, share: float, seed: int = 0) -> History:
    rng = np.random.default_rng(seed)
    return History(past.times, {k: np.where(rng.random(len(v)) < share, np.nan, v) for k, v in past.values.items()}, [])


# --- what a forecast may know ---------------------------------------------------------------------


@settings(max_examples=15, suppress_health_check=[HealthCheck.too_slow])
@given(
    step_s=st.sampled_from([300, 600, 900, 1800, 3600]),
    gaps=st.sampled_from([0.0, 0.3, 0.9]),
    phase=st.sampled_from([0, 300, 451]),
    days=st.sampled_from([2, 33]),
)
def test_windows_are_the_histories_that_one_forecast_would_see(step_s, gaps, phase, days):
    past = gappy(recorded(days, step_s), gaps)
    origins = np.arange(START + DAY_S + phase, past.last, 7 * 3600)[-12:]
    windows = Windows(past, int(origins[0]), int(origins[-1]))
    x, ages = windows.ending(origins), windows.ages(origins)
    for row, origin in enumerate(origins.tolist()):
        np.testing.assert_array_equal(x[row], past.grid_ending(origin))
        assert ages[row] == past.ages(origin)


@settings(max_examples=6, suppress_health_check=[HealthCheck.too_slow])
@given(hours=st.integers(25, 70), later=st.floats(-30, 30), cut=st.booleans(), cadence=st.sampled_from([600, 3600]))
def test_nothing_later_than_the_origin_changes_a_forecast(hours, later, cut, cadence):
    past = recorded(4, cadence)
    origin = START + hours * 3600
    after = past.times > origin
    changed = {name: np.where(after, later, column) for name, column in past.values.items()}
    other = History(past.times, changed, [])
    if cut:
        other = History(past.times[~after], {name: column[~after] for name, column in changed.items()}, [])
    origins = np.arange(origin - 3600 * 3, origin + 1, 3600)
    ours, theirs = (list(hindcast(h, STATION, Nowcaster(None), origins)) for h in (past, other))
    for a, b in zip(ours, theirs, strict=True):
        for left, right in (
            (a.batch.mean, b.batch.mean), (a.batch.quantiles, b.batch.quantiles),
            (a.batch.probability, b.batch.probability), (a.batch.rung, b.batch.rung),
            (a.base["persistence"][1], b.base["persistence"][1]),
            (a.base["anomaly-persistence"][1], b.base["anomaly-persistence"][1]),
        ):  # fmt: skip
            np.testing.assert_array_equal(left, right)
        assert a.batch.why == b.batch.why


def test_what_came_is_the_reading_at_the_valid_time_and_never_interpolated():
    past = recorded(2, 600, names=("temperature",))
    [part] = hindcast(past, STATION, Nowcaster(None), np.array([START + DAY_S]))
    observed = part.observed[0, :, 0]
    assert np.isnan(observed[0::2]).all()  # quarter past and quarter to: the readings are 5 minutes away
    at = np.searchsorted(past.times, START + DAY_S + np.asarray(LEADS_S)[1::2])
    np.testing.assert_array_equal(observed[1::2], past.values["temperature"][at])


# --- the scores -----------------------------------------------------------------------------------


def test_the_table_is_what_the_pure_scores_say(tmp_path, recording, bundle):
    result = run(recording, bundle, "--every", "1h", "--json", "--no-adapt", "--out", str(tmp_path / "f.csv"))
    assert result.exit_code == 0, result.output
    table = {(e["variable"], e["lead_s"]): e for e in json.loads(result.stdout)["skill"]}
    rows = list(csv.DictReader((tmp_path / "f.csv").read_text().splitlines()))
    for name, lead in (("temperature", 3600), ("wind_direction", 21_600), ("rain", 1800)):
        ours = [r for r in rows if r["variable"] == name and int(r["lead_s"]) == lead and r["observed"] and r["mean"]]
        f, o, low, high = (np.array([float(r[c]) for r in ours]) for c in ("mean", "observed", "q0.1", "q0.9"))
        entry = table[name, lead]
        circular = name == "wind_direction"
        digits = 1 if circular else 0.002
        assert entry["n"] == len(ours) > 90
        assert entry["rmse"] == pytest.approx(rmse(f, o, circular), abs=digits)
        assert entry["mae"] == pytest.approx(mae(f, o, circular), abs=digits)
        assert entry["coverage80"] == pytest.approx(coverage(low, high, o, circular), abs=0.03)
    persistence = table["temperature", 3600]["persistence"]
    assert persistence["rmse"] == pytest.approx(table["temperature", 3600]["rmse"], rel=1e-3)  # tiny is persistence
    assert set(persistence) == {"rmse", "mae", "crps", "coverage80"}
    assert 0 < table["event:rain", 3600]["brier"] < 1


def test_the_anomaly_wins_where_the_day_rules():
    past = recorded(12, 900, names=("temperature",))
    nowcaster = Nowcaster(None)
    skill = Skill(nowcaster)
    origins = np.arange(START + 8 * DAY_S, past.last, 3 * 3600)
    for part in hindcast(past, STATION, nowcaster, origins):
        skill.add(part)
    anomaly, plain = (skill.row(s, "temperature", 21_600) for s in ("anomaly-persistence", "persistence"))
    assert anomaly.rmse < 0.3 * plain.rmse and anomaly.n == plain.n
    issued = skill.row(ISSUED, "temperature", 21_600)  # without a bundle, what is issued is the anomaly
    assert issued.rmse == pytest.approx(anomaly.rmse) and issued.crps < issued.mae
    assert 0.7 < issued.coverage80 <= 1.0


def test_baselines_with_their_own_spread_are_honest_on_a_station_like_any_other():
    past = recorded(40, 900, names=("temperature", "wind_speed"))
    nowcaster = Nowcaster(None)
    skill = Skill(nowcaster)
    for part in hindcast(past, STATION, nowcaster, np.arange(START + 30 * DAY_S, past.last - 6 * 3600, 3600)):
        skill.add(part)
    for name in ("temperature", "wind_speed"):
        for source in ("persistence", "anomaly-persistence"):
            assert 0.7 < skill.row(source, name, 10_800).coverage80 < 0.9


@pytest.mark.parametrize(("how", "shown"), [("--adapt", "bndl"), ("--no-adapt", "MAE")])
def test_a_table_for_people_fits_a_terminal(recording, bundle, how, shown):
    result = run(recording, bundle, "--every", "3h", how)
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert max(map(len, lines)) <= 80 and all(line == line.rstrip() for line in lines)
    for word in (shown, "temperature, degC", "RMSE", "CRPS", "80 %", "anom", "event:rain", "nowcast-only"):
        assert word in result.stdout


# --- the file -------------------------------------------------------------------------------------


def test_forecasts_are_one_row_per_origin_valid_time_and_variable(tmp_path, recording, bundle):
    assert run(recording, bundle, "--every", "3h", "--out", str(tmp_path / "f.csv")).exit_code == 0
    with (tmp_path / "f.csv").open() as file:
        reader = csv.DictReader(file)
        rows = list(reader)
        header = reader.fieldnames
    quantiles = [f"q{level:g}" for level in QUANTILES]
    assert header == ["origin", "valid_time", "lead_s", "variable", "observed", "mean", "p", *quantiles]
    keys = {(r["origin"], r["valid_time"], r["variable"]) for r in rows}
    variables = {
        "temperature",
        "humidity",
        "pressure",
        "wind_speed",
        "wind_gust",
        "wind_direction",
        "rain",
        "solar_radiation",
        "event:rain",
        "event:frost",
        "event:gust",
    }
    assert {r["variable"] for r in rows} == variables and len(keys) == len(rows)
    origins = sorted({r["origin"] for r in rows})
    assert len(rows) == len(origins) * len(LEADS_S) * len(variables)
    assert origins[0] == format_time(START + DAY_S) and all(parse_time(o) % 10_800 == 0 for o in origins)
    past = read_history(recording)
    for row in rows[:: len(rows) // 200]:
        assert row["origin"].endswith("Z") and parse_time(row["valid_time"]) - parse_time(row["origin"]) == int(
            row["lead_s"]
        )
        values = [float(row[q]) for q in quantiles if row[q]]
        assert values == sorted(values)
        if row["variable"].startswith("event:"):
            assert row["observed"] in ("", "0", "1") and 0 <= float(row["p"]) <= 1 and row["mean"] == "" == row["q0.5"]
        else:
            came = grid.verifying(
                past.times, past.values[row["variable"]], row["variable"], np.array([parse_time(row["valid_time"])])
            )[0]
            assert row["p"] == "" and (
                float(row["observed"]) == pytest.approx(came, abs=0.06) if row["observed"] else np.isnan(came)
            )


def test_gaps_leave_empty_fields_and_never_nan(tmp_path, bundle):
    past = recorded(4, names=(*STATES, "rain"))
    gone = (past.times > START + 2 * DAY_S) & (past.times < START + 2 * DAY_S + 6 * 3600)
    past.values["humidity"][gone] = np.nan
    past.values["rain"][past.times < START + 3 * DAY_S] = np.nan
    path = write_csv(tmp_path / "roof.csv", past)
    result = run(path, bundle, "--every", "1h", "--out", str(tmp_path / "f.csv"))
    assert result.exit_code == 0, result.output
    text = (tmp_path / "f.csv").read_text()
    assert "nan" not in text and "inf" not in text and "-0.000," not in text
    rows = list(csv.DictReader(text.splitlines()))
    middle = format_time(START + 2 * DAY_S + 3 * 3600)
    assert {r["mean"] for r in rows if r["origin"] == middle and r["variable"] == "humidity"} == {""}
    assert not [r for r in rows if r["origin"] == middle and r["variable"] in ("rain", "event:rain")]
    assert "none" in result.stdout and "persistence" in result.stdout


def test_a_picture_is_drawn(tmp_path, recording, bundle):
    pytest.importorskip("matplotlib")
    result = run(recording, bundle, "--every", "6h", "--plot", str(tmp_path / "skill.png"))
    assert result.exit_code == 0 and (tmp_path / "skill.png").read_bytes().startswith(b"\x89PNG")


def test_no_picture_is_drawn_of_nothing(tmp_path, bundle):
    pytest.importorskip("matplotlib")
    past = recorded(3)
    at = past.times % 900 == 600  # 5 minutes from any valid time
    path = write_csv(tmp_path / "off.csv", History(past.times[at], {k: v[at] for k, v in past.values.items()}, []))
    result = run(path, bundle, "--every", "6h", "--plot", str(tmp_path / "skill.png"))
    assert result.exit_code == 0 and "nothing is drawn" in result.stderr
    assert not (tmp_path / "skill.png").exists()


def test_a_direction_in_a_file_is_below_360_after_rounding():
    given = np.array([[359.97, 359.97, 340.0, 362.3], [np.nan, -0.0, -4.0, 3.0]])
    short = in_file("wind_direction", given, mean=1)
    np.testing.assert_array_equal(short, [[360.0, 0.0, 340.0, 362.3], [np.nan, 0.0, -4.0, 3.0]])
    assert in_file("temperature", np.array([360.0]), mean=0) == 360.0


# --- options and errors ---------------------------------------------------------------------------


def test_origins_are_multiples_in_utc_within_the_span():
    past = recorded(3.3)
    assert origins_between(past, 86_400).tolist() == [START + DAY_S, START + 2 * DAY_S, START + 3 * DAY_S]
    odd = origins_between(past, 10_800, START + DAY_S + 1, START + 2 * DAY_S - 1)
    assert odd[0] == START + DAY_S + 10_800 and odd[-1] == START + 2 * DAY_S - 10_800


@pytest.mark.parametrize(
    ("text", "seconds"), [("15min", 900), ("1h", 3600), (" 3H ", 10_800), ("1d", 86_400), ("90 min", 5400)]
)
def test_spacings(text, seconds):
    assert parse_every(text) == seconds


@pytest.mark.parametrize("text", ["", "3", "10min", "0h", "-1h", "1w", "1.5h"])
def test_spacings_that_cannot_be(text):
    with pytest.raises(ConfigError, match="multiple of 15 minutes"):
        parse_every(text)


def test_a_stray_row_decades_earlier_changes_nothing_and_costs_little(monkeypatch):
    past = recorded(3, 900, names=("temperature", "rain"))
    values = {name: np.concatenate([[1.0], column]) for name, column in past.values.items()}
    stray = History(np.concatenate([[0], past.times]), values, [])
    spans = []
    monkeypatch.setattr(
        "edge_agent.forecast.hindcast.Windows", lambda h, *ends: spans.append(ends) or Windows(h, *ends)
    )
    ours, theirs = origins_between(past, 10_800), origins_between(stray, 10_800)
    assert len(theirs) < len(ours) + 31 * 8 and theirs[-len(ours) :].tolist() == ours.tolist()
    parts = [list(hindcast(h, STATION, Nowcaster(None), o)) for h, o in ((past, ours), (stray, theirs))]
    mean, other = (np.concatenate([part.batch.mean for part in each]) for each in parts)
    np.testing.assert_array_equal(mean, other[-len(ours) :])
    assert max(last - first for first, last in spans) < 31 * DAY_S
    example = Example(theirs)
    for part in hindcast(stray, STATION, Nowcaster(None), theirs):
        example.see(part)
    assert example.fans(stray, STATION, Nowcaster(None))[0].origin > START


def test_a_stray_row_in_a_file_changes_no_score_and_stands_in_the_warnings(tmp_path, recording, bundle):
    odd = tmp_path / "odd.csv"
    odd.write_text(recording.read_text() + "2099-12-31T23:50:00Z" + ",1" * len(TYPICAL) + "\n")
    ours, theirs = (json.loads(run(path, bundle, "--every", "1d", "--json").stdout) for path in (recording, odd))
    assert ours["skill"] == theirs["skill"] and ours["origins"] == theirs["origins"]
    assert ours["warnings"] == [] and "2099-12-31T23:50:00Z" in theirs["warnings"][0]


def test_too_little_history_says_what_is_needed():
    with pytest.raises(DataError, match="needs 24 h"):
        origins_between(recorded(0.9), 3600)
    with pytest.raises(DataError, match="choose --start, --end"):
        origins_between(recorded(3), 3600, start=START + 10 * DAY_S)


@pytest.mark.parametrize("option", ["--out", "--plot"])
def test_what_is_read_is_never_written_over(tmp_path, recording, bundle, option):
    alias = tmp_path / "alias.png"
    alias.symlink_to(recording)
    before = recording.read_bytes(), bundle.read_bytes()
    for file in (recording, alias, bundle):
        result = run(recording, bundle, "--every", "1d", option, str(file))
        assert result.exit_code == 1 and "this command reads that file" in result.stderr
    assert (recording.read_bytes(), bundle.read_bytes()) == before


def test_a_picture_that_cannot_be_drawn_is_told_before_any_forecast(tmp_path, recording, bundle, monkeypatch):
    forecasts = tmp_path / "f.csv"
    for place, message in ((tmp_path, "is a folder"), (tmp_path / "no" / "fan.png", "there is no folder")):
        result = run(recording, bundle, "--plot", str(place), "--out", str(forecasts))
        assert result.exit_code == 1 and message in result.stderr
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    result = run(recording, bundle, "--plot", str(tmp_path / "fan.png"), "--out", str(forecasts))
    assert result.exit_code == 1 and "pip install stationcast[plot]" in result.stderr
    assert not result.stdout and not forecasts.exists()


def test_commands_tell_errors_without_a_traceback(tmp_path, recording, bundle):
    short, daily = write_csv(tmp_path / "short.csv", recorded(0.5)), tmp_path / "daily.csv"
    daily.write_text("time,temperature_max,uv_index\n1700000000,12,3\n1700086400,11,4\n", encoding="utf-8")
    for path, options, message in (
        (short, [], "needs 24 h"),
        (short, [], "short.csv"),
        (daily, [], f"{daily}: has temperature_max, uv_index, and nothing that this command forecasts"),
        (daily, [], "need `hindcast --guidance`"),
        (recording, ["--every", "7min"], "multiple of 15 minutes"),
        (recording, ["--start", "2023-11-16"], "no time zone"),
        (recording, ["--out", str(tmp_path / "no" / "f.csv")], "cannot be written"),
    ):
        result = run(path, bundle, *options)
        assert result.exit_code == 1 and message in result.stderr and "Traceback" not in result.output


def test_a_real_lake_station_gets_honest_baselines(tmp_path, bundle):
    source = CORPUS / "zurich-lake" / "mythenquai_2019.csv.xz"
    if not source.exists():
        pytest.skip(f"no recordings at {CORPUS} (STATIONCAST_CORPUS)")
    import lzma

    names = {"time_utc": "time", "air_temperature": "temperature", "wind_speed_avg_10min": "wind_speed"}
    lines = lzma.decompress(source.read_bytes()).decode().splitlines()
    header = [names.get(column, column) for column in lines[0].split(",")]
    path = tmp_path / "lake.csv"
    path.write_text("\n".join([",".join(header), *lines[1 : 60 * 144]]))
    result = run(path, bundle, "--every", "3h", "--start", "2019-02-08T00:00:00Z", "--json")
    assert result.exit_code == 0, result.output
    table = {(e["variable"], e["lead_s"]): e for e in json.loads(result.stdout)["skill"]}
    three_hours = table["temperature", 10_800]
    assert three_hours["anomaly_persistence"]["rmse"] < three_hours["persistence"]["rmse"]
    for name in ("temperature", "humidity", "wind_speed"):
        assert 0.65 < table[name, 10_800]["anomaly_persistence"]["coverage80"] < 0.95


def test_every_variable_of_the_vocabulary_series_is_known():
    assert set(TYPICAL) == set(grid.GRID_VARIABLES)
