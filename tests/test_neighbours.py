"""`--neighbours DIR`: a forecast from a file sees the others of its network as it would have on a gateway."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edge_agent import grid
from edge_agent.adaptation.learner import Learner
from edge_agent.bundle.reader import read_bundle
from edge_agent.cli import main
from edge_agent.config import Station
from edge_agent.forecast import from_file
from edge_agent.forecast.hindcast import hindcast
from edge_agent.forecast.near import MOST, Near
from edge_agent.forecast.nowcast import Nowcaster
from edge_agent.history import History, read_history
from edge_agent.inference.onnx import OnnxSession
from tests.forecast.series import DAY_S, START, recorded, write_csv
from tests.tiny_bundle import make_tiny_bundle

NAMES = ("temperature", "humidity", "pressure", "wind_speed", "rain")
ROOF = Station("roof", 47.4, 8.5, 406.0)
SITE = ["--latitude", "47.4", "--longitude", "8.5", "--elevation", "406"]
PLACES = {"lake": (47.41, 8.55), "hill": (47.5, 8.45), "far": (52.0, 13.0)}
CADENCES = {"roof": 600, "lake": 900, "hill": 3600, "far": 600}


@pytest.fixture(scope="module")
def bundle(tmp_path_factory) -> Path:
    return make_tiny_bundle(tmp_path_factory.mktemp("bundle") / "near.bundle", near=True)


@pytest.fixture(scope="module")
def session(bundle) -> OnnxSession:
    return OnnxSession(read_bundle(bundle))


@pytest.fixture(autouse=True)
def untried(monkeypatch):
    """The child process of the golden samples takes a second a time; `nowcast` is tested with it."""
    monkeypatch.setattr(from_file, "verify_golden", lambda path, digest: None)


def network(folder: Path, series: dict[str, History], places: dict[str, tuple[float, float]] = PLACES) -> Path:
    """A folder of stations."""
    folder.mkdir(exist_ok=True)
    for name, history in series.items():
        write_csv(folder / f"{name}.csv", history)
    rows = [f"{name},{north},{east},400" for name, (north, east) in places.items()]
    (folder / "stations.csv").write_text("\n".join(["station,latitude,longitude,elevation", *rows]) + "\n")
    return folder


def series(name: str, days: float = 3) -> History:
    return recorded(days, CADENCES[name], NAMES, seed=len(name) + ord(name[0]))


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return network(tmp_path_factory.mktemp("net") / "near", {name: series(name) for name in PLACES})


@pytest.fixture(scope="module")
def roof(tmp_path_factory) -> Path:
    return write_csv(tmp_path_factory.mktemp("own") / "roof.csv", series("roof"))


def run(command: str, path: Path, *options: object) -> Result:
    return CliRunner().invoke(main, [command, str(path), *SITE, *map(str, options)])


# --- what is seen ---------------------------------------------------------------------------------


@pytest.mark.parametrize("chunk", [1, 7, 64])
def test_a_hindcast_is_what_a_gateway_of_all_would_have_issued(session, folder, roof, chunk):
    own, nowcaster = read_history(roof), Nowcaster(session)
    origins = np.arange(START + DAY_S, own.last, 7 * 3600 + 900)
    parts = list(hindcast(own, ROOF, nowcaster, origins, near=Near(folder, ROOF, roof), chunk=chunk))
    made = np.concatenate([part.batch.mean for part in parts])
    assert [o for part in parts for o in part.origins.tolist()] == origins.tolist()
    gateway = [ROOF, *(Station(name, *PLACES[name], 400.0) for name in ("lake", "hill"))]
    pasts = [own, *(read_history(folder / f"{station.id}.csv") for station in gateway[1:])]
    for row, origin in enumerate(origins.tolist()):
        live, *_ = nowcaster.forecast(
            gateway, np.stack([past.grid_ending(origin) for past in pasts]), [past.ages(origin) for past in pasts],
            origin, origin, group=np.zeros(3, np.int64),
        )  # fmt: skip
        for v, name in enumerate(nowcaster.variables):
            if name in live.variables:
                np.testing.assert_allclose(made[row, :, v], live.variables[name].mean, rtol=1e-6, atol=1e-6)


@settings(max_examples=5, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(hours=st.integers(26, 60), later=st.floats(-30, 30), cut=st.booleans())
def test_nothing_a_neighbour_reads_after_the_origin_changes_a_forecast(session, roof, tmp_path, hours, later, cut):
    origin, own = START + hours * 3600, read_history(roof)
    pasts = {name: series(name) for name in PLACES}
    other = {}
    for name, past in pasts.items():
        after = past.times > origin
        changed = {
            key: np.where(after, abs(later) if key != "temperature" else later, c) for key, c in past.values.items()
        }
        kept = ~after if cut else np.ones_like(after)
        other[name] = History(past.times[kept], {key: column[kept] for key, column in changed.items()}, [])
    ours, theirs = (
        list(hindcast(own, ROOF, Nowcaster(session), np.array([origin - 3600, origin]), near=Near(near, ROOF, roof)))
        for near in (network(tmp_path / "a", pasts), network(tmp_path / "b", other))
    )
    np.testing.assert_array_equal(ours[0].batch.quantiles, theirs[0].batch.quantiles)


def test_a_neighbour_that_is_late_says_nothing_and_holds_nobody_up(session, roof, tmp_path):
    own, origin = read_history(roof), START + 2 * DAY_S
    past = series("lake")
    cut = past.times <= origin - 3600
    late = History(past.times[cut], {name: column[cut] for name, column in past.values.items()}, [])
    folder = network(tmp_path / "near", {"lake": late}, {"lake": PLACES["lake"]})
    [part] = hindcast(own, ROOF, Nowcaster(session), np.array([origin]), near=Near(folder, ROOF, roof))
    [alone] = hindcast(own, ROOF, Nowcaster(session), np.array([origin]))
    np.testing.assert_allclose(part.batch.mean, alone.batch.mean, rtol=1e-6)


def test_what_was_learned_is_learned_from_forecasts_with_neighbours(session, folder, roof):
    """It adapts what was issued with the neighbours in sight, and `alone` is that before it was adapted."""
    own, nowcaster = read_history(roof), Nowcaster(session)
    origins = np.arange(START + DAY_S + 6 * 3600, own.last, 6 * 3600)
    learner = Learner(nowcaster.leads_s, nowcaster.levels, nowcaster.events)
    learned = list(hindcast(own, ROOF, nowcaster, origins, learner=learner, near=Near(folder, ROOF, roof)))
    plain = list(hindcast(own, ROOF, nowcaster, origins, near=Near(folder, ROOF, roof)))
    alone = np.concatenate([part.alone.mean for part in learned if part.alone])
    np.testing.assert_allclose(alone, np.concatenate([part.batch.mean for part in plain]), rtol=1e-6)
    assert any(part.batch.adapted.any() for part in learned)


def test_the_nearest_few_of_a_crowd_are_seen(roof, tmp_path):
    places = {f"s{i:02d}": (47.4 + (i + 1) / 100, 8.5) for i in range(20)}
    short = recorded(1, 3600, ("temperature",))
    folder = network(tmp_path / "near", dict.fromkeys(places, short), places)
    near = Near(folder, ROOF, roof)
    assert len(list(near.histories(START, START + DAY_S))) == MOST
    assert near.names == [f"s{i:02d}" for i in range(MOST)]


# --- the commands ---------------------------------------------------------------------------------


def test_the_table_says_who_was_seen(bundle, folder, roof):
    told = run("hindcast", roof, "--neighbours", folder, "--bundle", bundle, "--no-adapt", "--every", "6h")
    assert told.exit_code == 0, told.output
    assert "sees 2 neighbours: lake, hill" in told.stdout and max(map(len, told.stdout.splitlines())) <= 80
    as_json = run("hindcast", roof, "--neighbours", folder, "--bundle", bundle, "--no-adapt", "--json")
    assert json.loads(as_json.stdout)["neighbours"] == ["lake", "hill"]


def test_a_forecast_from_a_file_sees_them_too(bundle, folder, roof):
    told = run("nowcast", roof, "--neighbours", folder, "--bundle", bundle, "--format", "csv")
    alone = run("nowcast", roof, "--bundle", bundle, "--format", "csv")
    assert told.exit_code == alone.exit_code == 0, told.output
    here, there = (
        float(next(r["mean"] for r in csv.DictReader(result.stdout.splitlines()) if r["variable"] == "temperature"))
        for result in (told, alone)
    )
    at = read_history(roof).last
    column = grid.GRID_VARIABLES.index("temperature")
    newest = [read_history(p).grid_ending(at)[-1, column] for p in (roof, folder / "lake.csv", folder / "hill.csv")]
    assert here == pytest.approx(np.nanmean(newest), abs=0.01)
    assert there == pytest.approx(newest[0], abs=0.01)


def guidance(path: Path) -> Path:
    """A run of the weather model every six hours."""
    lines = ["issued,valid_time,temperature"]
    for run_at in range(START, START + 3 * DAY_S, 6 * 3600):
        lines += [f"{run_at},{run_at + lead},12" for lead in range(3600, 24 * 3600 + 1, 3600)]
    path.write_text("\n".join(lines) + "\n")
    return path


def test_guidance_is_blended_with_forecasts_that_saw_them(bundle, folder, roof, tmp_path):
    options = ["--guidance", guidance(tmp_path / "g.csv"), "--bundle", bundle, "--every", "12h", "--no-adapt"]
    told = run("hindcast", roof, "--neighbours", folder, *options, "--json")
    assert told.exit_code == 0, told.output
    assert json.loads(told.stdout)["neighbours"] == ["lake", "hill"]
    assert json.loads(run("hindcast", roof, *options, "--json").stdout)["neighbours"] == []


def test_guidance_of_many_stations_sees_nobody_and_says_so(bundle, folder, tmp_path):
    for name, column in (("h.csv", "time,station,temperature"), ("g.csv", "issued,valid_time,station,temperature")):
        times = [START + 900 * i for i in range(200)]
        rows = [f"{t},{f'{t + 3600},' if name == 'g.csv' else ''}a,10" for t in times]
        (tmp_path / name).write_text("\n".join([column, *rows]) + "\n")
    told = run(
        "hindcast", tmp_path / "h.csv", "--guidance", tmp_path / "g.csv", "--neighbours", folder, "--bundle", bundle
    )
    assert told.exit_code == 1 and "is for one station" in told.output


def test_a_bundle_that_looks_at_nobody_says_so(folder, roof, tmp_path):
    plain = make_tiny_bundle(tmp_path / "plain.bundle")
    told = run("hindcast", roof, "--neighbours", folder, "--bundle", plain, "--no-adapt", "--every", "12h")
    assert told.exit_code == 0 and "does not look at neighbours" in told.stderr and "sees" not in told.stdout


@pytest.mark.parametrize("name", ["stations.csv", "lake.csv"])
@pytest.mark.parametrize(("command", "option"), [("hindcast", "--out"), ("hindcast", "--plot"), ("nowcast", "--plot")])
def test_no_file_of_a_neighbour_is_written_over(bundle, folder, roof, name, command, option):
    before = (folder / name).read_bytes()
    result = run(command, roof, "--neighbours", folder, "--bundle", bundle, option, folder / name)
    assert result.exit_code == 1 and "this command reads that file" in result.output
    assert (folder / name).read_bytes() == before


def test_what_else_lies_beside_the_neighbours_may_be_replaced(bundle, folder, roof):
    out = folder / "forecasts.csv"
    for _ in range(2):
        result = run("hindcast", roof, "--neighbours", folder, "--bundle", bundle, "--every", "1d", "--out", out)
        assert result.exit_code == 0, result.output
    out.unlink()


def test_the_station_itself_is_not_its_own_neighbour(session, tmp_path, capsys):
    past = recorded(2, 900, NAMES)
    places = {"roof": (47.6, 8.5), "twin": (47.4, 8.5), "lake": PLACES["lake"], "copy": (47.45, 8.5)}
    folder = network(tmp_path / "near", dict.fromkeys(places, past), places)
    own = folder / "copy.csv"
    near = Near(folder, ROOF, own)
    assert [station.id for station, _ in near.histories(START, START + DAY_S)] == ["lake"]
    told = capsys.readouterr().err
    assert "roof is left out: the same name" in told and "twin is left out: the same place" in told
    assert "copy is left out: the same file" in told


def test_nobody_near_and_nothing_read_are_told(roof, tmp_path, capsys):
    Near(network(tmp_path / "empty", {"far": series("far")}, {"far": PLACES["far"]}), ROOF, roof)
    assert "no other station within 60 km" in capsys.readouterr().err
    old = Near(network(tmp_path / "old", {"lake": series("lake")}, {"lake": PLACES["lake"]}), ROOF, roof)
    assert not list(old.histories(START + 90 * DAY_S, START + 99 * DAY_S)) and not old.names
    assert "no readings from" in capsys.readouterr().err


def test_missing_files_are_named_and_are_not_called_a_want_of_stations(roof, tmp_path, capsys):
    folder = network(tmp_path / "lacking", {"far": series("far")})
    lacking = Near(folder, ROOF, roof)
    told = capsys.readouterr().err
    assert not list(lacking.histories(START, START + DAY_S))
    assert "no lake.csv, hill.csv for stations of stations.csv" in told and "the forecast sees nobody" in told
    assert "within 60 km" not in told


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        (None, "stations.csv: cannot be read"),
        ("name,lat\nlake,1\n", "its first line must name"),
        (
            "station,latitude,longitude,elevation\nlake,47.4,8.55,400\nlake,47.4,8.55,400\n",
            "row 3: station lake stands",
        ),
        ("station,latitude,longitude,elevation\nlake,147,8,400\n", "row 2: latitude"),
    ],
)
def test_a_folder_that_is_none_is_refused_with_its_row(bundle, folder, roof, tmp_path, rows, words):
    if rows is not None:
        (tmp_path / "stations.csv").write_text(rows)
    told = run("hindcast", roof, "--neighbours", tmp_path, "--bundle", bundle, "--no-adapt")
    assert told.exit_code == 1 and words in told.output


def test_a_broken_row_of_a_neighbour_is_named(bundle, roof, tmp_path):
    folder = network(tmp_path / "near", {"lake": series("lake")})
    with (folder / "lake.csv").open("a") as file:
        file.write("2023-11-20T00:00:00Z,warm,1,1,1,1\n")
    told = run("hindcast", roof, "--neighbours", folder, "--bundle", bundle, "--no-adapt")
    assert told.exit_code == 1 and "lake.csv, row" in told.output and '"warm" is not a number' in told.output
