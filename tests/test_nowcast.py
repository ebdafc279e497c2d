"""`edge-agent nowcast`: one forecast from a file, for people and for programs."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import msgspec
import numpy as np
import pytest
from click.testing import CliRunner, Result

from edge_agent.bundle.golden import pack_golden
from edge_agent.cli import main
from edge_agent.clock import format_time
from edge_agent.forecast.fan import fans_of
from edge_agent.forecast.nowcast import Nowcaster
from edge_agent.forecast.terminal import fan_chart, forecast_table
from edge_agent.history import History
from edge_agent.publish.structs import ForecastPayload
from tests.forecast.series import STATES, recorded, write_csv
from tests.tiny_bundle import make_tiny_bundle, tiny_expected, tiny_inputs

SITE = ["--latitude", "47.4", "--longitude", "8.5", "--elevation", "406"]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory) -> Path:
    return make_tiny_bundle(tmp_path_factory.mktemp("bundle") / "tiny.bundle")


@pytest.fixture(scope="module")
def recording(tmp_path_factory) -> tuple[Path, History]:
    past = recorded(3)
    return write_csv(tmp_path_factory.mktemp("data") / "My Roof.csv", past), past


def nowcast(path: Path, bundle: Path, *options: str, site: list[str] = SITE) -> Result:
    return CliRunner().invoke(main, ["nowcast", str(path), *site, "--bundle", str(bundle), *options])


def test_a_bundle_that_answers_otherwise_here_is_refused_before_it_is_loaded(tmp_path, recording):
    inputs = tiny_inputs()
    outputs = tiny_expected(inputs)
    outputs["mean"][0, 3, 2] += 0.5
    wrong = make_tiny_bundle(tmp_path / "wrong.bundle", golden=pack_golden(inputs, outputs))
    result = nowcast(recording[0], wrong)
    assert result.exit_code == 1 and "refused (golden)" in result.stderr and not result.stdout


def test_a_person_sees_numbers_with_level_source_and_age(recording, bundle):
    path, past = recording
    result = nowcast(path, bundle)
    assert result.exit_code == 0, result.output
    text = result.stdout
    assert f"my-roof: forecast from {format_time(past.last)}" in text
    for word in (
        "level nowcast-only, source tiny",
        "temperature degC",
        "rain mm",
        "reading 0 min old",
        "90 %",
        "event rain",
        "6 h",
    ):
        assert word in text
    assert "warning" not in text
    assert max(map(len, text.splitlines())) <= 80


def test_a_program_reads_the_payload_that_is_published(recording, bundle):
    result = nowcast(recording[0], bundle, "--format", "json")
    payload = msgspec.json.decode(result.stdout, type=ForecastPayload)
    assert payload.level == "nowcast-only" and payload.start == format_time(recording[1].last + 900)
    assert json.loads(result.stdout)["vars"]["temperature"]["unit"] == "degC"


def test_a_table_program_reads_csv(recording, bundle):
    result = nowcast(recording[0], bundle, "--format", "csv")
    rows = list(csv.DictReader(io.StringIO(result.stdout)))
    assert len(rows) == 24 * 11  # eight variables and three events
    assert list(rows[0])[:6] == ["lead_s", "valid_time", "variable", "mean", "p", "q0.05"]
    first = rows[0]
    assert (first["lead_s"], first["variable"], first["p"]) == ("900", "temperature", "")
    assert float(first["mean"]) == pytest.approx(recording[1].values["temperature"][-1], abs=0.006)
    quantiles = [float(first[f"q{level:g}"]) for level in (0.05, 0.1, 0.5, 0.9, 0.95)]
    assert quantiles == sorted(quantiles)
    event = next(row for row in rows if row["variable"] == "event:rain")
    assert event["p"] == "0.1000" and event["mean"] == event["q0.5"] == ""


def test_only_what_was_read_before_the_origin_counts(recording, bundle, tmp_path):
    path, past = recording
    origin = past.last - 7200 - 300
    cut = past.times <= origin
    short = History(past.times[cut], {k: v[cut] for k, v in past.values.items()}, [])
    earlier = write_csv(tmp_path / "My Roof.csv", short)
    at = ["--origin", format_time(origin), "--format", "csv"]
    assert nowcast(path, bundle, *at).stdout == nowcast(earlier, bundle, *at).stdout


@pytest.mark.parametrize("stray", ["1970-01-01T00:00:00Z", "2099-12-31T23:50:00Z"])
def test_a_row_decades_away_changes_no_forecast(recording, bundle, tmp_path, stray):
    path, past = recording
    odd = tmp_path / path.name
    odd.write_text(path.read_text() + f"{stray}{',1' * len(past.values)}\n")
    ours, theirs = (nowcast(file, bundle, "--format", "csv") for file in (path, odd))
    assert ours.stdout == theirs.stdout and f"row {len(past.times) + 2} ({stray})" in theirs.stderr


def test_warnings_go_beside_the_numbers(bundle, tmp_path):
    path = write_csv(tmp_path / "a.csv", recorded(2, names=STATES))
    path.write_text(path.read_text().replace("pressure", "preasure"))
    result = nowcast(path, bundle, "--format", "csv")
    assert 'did you mean "pressure"?' in result.stderr and "preasure" not in result.stdout
    assert {row["variable"] for row in csv.DictReader(io.StringIO(result.stdout))} == {
        "temperature", "humidity", "wind_speed", "event:frost",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("options", "site", "message"),
    [
        (["--origin", "2024-05-01T12:00:00"], SITE, "no time zone"),
        (["--origin", "2020-01-01T00:00:00Z"], SITE, "choose another --origin"),
        ([], ["--latitude", "95", "--longitude", "0", "--elevation", "0"], "--latitude is 95"),
    ],
)
def test_what_cannot_be_is_said_without_a_traceback(recording, bundle, options, site, message):
    result = nowcast(recording[0], bundle, *options, site=site)
    assert result.exit_code == 1 and message in result.stderr and "Traceback" not in result.output


def test_a_picture_is_drawn(recording, bundle, tmp_path):
    pytest.importorskip("matplotlib")
    result = nowcast(recording[0], bundle, "--plot", str(tmp_path / "fan.png"))
    assert result.exit_code == 0 and (tmp_path / "fan.png").read_bytes().startswith(b"\x89PNG")


def test_a_picture_never_replaces_the_recording(recording, bundle):
    before = recording[0].read_bytes()
    result = nowcast(recording[0], bundle, "--plot", str(recording[0]))
    assert result.exit_code == 1 and "this command reads that file" in result.stderr
    assert recording[0].read_bytes() == before


def test_without_the_plot_extra_the_remedy_is_named(recording, bundle, tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "matplotlib.figure", None)
    result = nowcast(recording[0], bundle, "--plot", str(tmp_path / "fan.png"))
    assert result.exit_code == 1 and "pip install stationcast[plot]" in result.stderr and not result.stdout


# --- charts in the terminal ------------------------------------------------------------------------------------------


def made(past: History):
    from edge_agent.config import Station

    x = past.grid_ending(past.last)
    station = Station(id="roof", latitude=47.4, longitude=8.5, elevation_m=406.0)
    [forecast] = Nowcaster(None).forecast([station], x[None], [past.ages(past.last)], past.last, past.last)
    return forecast, x


@pytest.mark.parametrize("width", [30, 60, 80, 132])
@pytest.mark.parametrize("unicode", [True, False])
def test_charts_keep_to_their_width_and_to_their_characters(recording, width, unicode):
    forecast, x = made(recording[1])
    came = {name: own.mean + 1.0 for name, own in forecast.variables.items()}
    for fan in fans_of(forecast, x, came):
        lines = fan_chart(fan, width, 7, unicode=unicode).splitlines()
        assert len(lines) == 9 and max(map(len, lines)) <= width
        assert unicode or "".join(lines).isascii()
        assert "now" in lines[-1] and ("●" if unicode else "o") in "".join(lines)


def test_a_chart_of_a_dead_calm_is_still_a_chart(recording):
    past = recording[1]
    still = History(past.times, {name: np.zeros_like(v) for name, v in past.values.items()}, [])
    forecast, x = made(still)
    for fan in fans_of(forecast, x):
        assert len(fan_chart(fan).splitlines()) == 11
    assert "wind_direction" in forecast_table(forecast)


def test_a_table_says_why_a_variable_is_not_forecast(recording):
    past = recording[1]
    gone = past.values | {"humidity": np.where(past.times > past.last - 7200, np.nan, past.values["humidity"])}
    forecast, _ = made(History(past.times, gone, []))
    assert "humidity %: no forecast: no reading for 120 min" in forecast_table(forecast)
