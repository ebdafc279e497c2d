"""Learning from a recorded past: it is what the agent would have learned, and the agent goes on from it."""

from __future__ import annotations

import csv
import io
import json

import numpy as np
import pytest
from click.testing import CliRunner

from edge_agent.adaptation.live import Adaptation
from edge_agent.adaptation.past import learned, recorded
from edge_agent.adaptation.saved import _places, pack
from edge_agent.bundle.reader import read_bundle
from edge_agent.bundle.trial import Loaded
from edge_agent.cli import main
from edge_agent.clock import format_time, parse_time
from edge_agent.config import load
from edge_agent.forecast.hindcast import origins_between
from edge_agent.forecast.nowcast import Nowcaster
from edge_agent.inference.onnx import OnnxSession
from edge_agent.observation import Flag, Judged, Observation, Verdict
from edge_agent.transfer import open_store
from tests.adaptation.station import STATION, filled, follow
from tests.agents import write_config
from tests.forecast.series import STATES, write_csv
from tests.forecast.series import recorded as series
from tests.tiny_bundle import make_tiny_bundle

DIGEST = "a" * 64


@pytest.fixture(scope="module")
def loaded(tmp_path_factory) -> Loaded:
    path = make_tiny_bundle(tmp_path_factory.mktemp("bundle") / "tiny.bundle")
    return Loaded(OnnxSession(read_bundle(path)), "tiny", DIGEST)


def test_a_past_teaches_what_the_running_agent_would_have_learned_and_it_goes_on_from_there(tmp_path, loaded):
    past = series(1.4, 900, names=STATES)
    *before, last = origins_between(past, 900).tolist()
    nowcaster = Nowcaster(loaded.session)
    with filled(tmp_path / "s.sqlite", past) as store:
        live, late = Adaptation(store, ["home"]), Adaptation(store, ["home"])
        for adaptation in (live, late):
            adaptation.take_up(nowcaster, DIGEST)
        for origin in before:
            follow(live, store, nowcaster, origin)
        follow(late, store, nowcaster, before[-1])
        learner = learned(recorded(store.observations("home", None, before[-1])), STATION, loaded, expert=True)
        for ours, theirs in zip(_places(learner), _places(live._learner("home")), strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=1e-4)
        store.hand_learned("home", pack(learner))
        late.save_at_stop()
        assert store.learned("home") == pack(learner)  # not overwritten by what `late` knows
        assert set(follow(late, store, nowcaster, last).adapted) == set(STATES)
        assert not store.learned_is_handed("home")


def judged(source: str, t: int, rank: int, flag: Flag = Flag.GOOD, **more) -> Judged:
    values = {"temperature": float(t % 1000) + rank, "pressure": 1000.0}
    observation = Observation("home", source, t, values, source, t, rank=rank, **more)
    return Judged(observation, {"temperature": Verdict(flag, "range", "")})


def test_the_best_source_of_a_quarter_hour_stands_and_what_is_doubted_or_without_a_time_does_not():
    found = recorded(
        [
            judged("roof", 1000, 0), judged("yard", 1000, 1), judged("yard", 1200, 1),
            judged("yard", 2000, 1), judged("roof", 2100, 0, Flag.FAIL),
            judged("roof", 3000, 0, clock="unsynced", stamped=True), judged("roof", 3100, 0, clock="unsynced"),
        ]
    )  # fmt: skip
    there = ~np.isnan(found.values["temperature"])
    assert found.times[there].tolist() == [1000, 2000, 3100]
    assert found.values["temperature"][there].tolist() == [0.0, 1.0, 100.0]
    assert 3000 not in found.times and set(found.variables) == {"temperature", "pressure"}


def test_import_then_learn_then_show(tmp_path):
    bundle = make_tiny_bundle(tmp_path / "tiny.bundle")
    config = write_config(tmp_path, bundle=str(bundle), allow_unsigned=True)
    file = write_csv(tmp_path / "past.csv", series(1.3, 900, names=STATES))
    run = CliRunner().invoke
    imported = run(main, ["import", str(file), "--config", str(config)])
    assert imported.exit_code == 0 and "adaptation learn" in imported.stdout, imported.output
    counts = []
    for _ in range(2):  # a second time begins anew: no verdict counts twice
        taught = run(main, ["adaptation", "learn", "--config", str(config)])
        assert taught.exit_code == 0 and "station home: learned from" in taught.stdout, taught.output
        shown = json.loads(run(main, ["adaptation", "show", "--config", str(config), "--json"]).stdout)
        counts.append({(row["variable"], row["lead_s"]): row["verdicts"] for row in shown["rows"]})
    assert counts[0] == counts[1] and counts[0]["temperature", 900] > 20


def test_where_nothing_can_be_learned_it_says_why(tmp_path):
    bundle = make_tiny_bundle(tmp_path / "tiny.bundle")
    config = write_config(tmp_path, bundle=str(bundle), allow_unsigned=True, adapt=False)
    run = CliRunner().invoke
    off = run(main, ["adaptation", "learn", "--config", str(config)])
    assert off.exit_code == 1 and "adapt = false" in off.stderr
    config = write_config(tmp_path, bundle=str(bundle), allow_unsigned=True)
    file = write_csv(tmp_path / "past.csv", series(0.5, 900, names=STATES))
    assert run(main, ["import", str(file), "--config", str(config)]).exit_code == 0
    short = run(main, ["adaptation", "learn", "--config", str(config)])
    assert short.exit_code == 1 and "h of readings" in short.stderr and "edge-agent import" in short.stderr


@pytest.mark.parametrize("command", ["reset", "learn", "show"])
def test_without_a_store_none_is_made_and_its_remedy_is_told(tmp_path, command):
    config = write_config(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    done = CliRunner().invoke(main, ["adaptation", command, "--config", str(config)])
    assert done.exit_code == 1 and not done.stdout
    assert f"store {load(config).store.path}: not there yet" in done.stderr and "edge-agent import" in done.stderr
    assert sorted(tmp_path.rglob("*")) == before


def test_from_an_empty_store_nothing_is_learned_and_import_is_named(tmp_path):
    config = write_config(tmp_path)
    open_store(load(config)).close()
    done = CliRunner().invoke(main, ["adaptation", "learn", "--config", str(config)])
    assert done.exit_code == 1 and "0.0 h of readings" in done.stderr and "edge-agent import" in done.stderr


def test_a_nowcast_from_a_file_may_learn_from_it_first(tmp_path):
    bundle = make_tiny_bundle(tmp_path / "tiny.bundle")
    file = write_csv(tmp_path / "past.csv", series(1.3, 900, names=STATES))
    site = ["--latitude", "47", "--longitude", "8", "--elevation", "400", "--bundle", str(bundle)]
    run = CliRunner().invoke
    told = [run(main, ["nowcast", str(file), *site, "--format", "json", *more]) for more in ([], ["--adapt"])]
    alone, own = (json.loads(one.stdout) for one in told)
    assert "adapted" not in alone and set(own["adapted"]) == set(STATES)
    out = tmp_path / "rows.csv"
    origin = format_time(parse_time(own["start"]) - 900)
    done = run(
        main, ["hindcast", str(file), *site, "--start", origin, "--end", origin, "--every", "15min", "--out", str(out)]
    )
    assert done.exit_code == 0, done.output
    rows = [row for row in csv.DictReader(io.StringIO(out.read_text())) if row["variable"] == "temperature"]
    np.testing.assert_allclose([float(row["mean"]) for row in rows], own["vars"]["temperature"]["mean"], atol=0.06)
    odd = run(main, ["nowcast", str(file), *site, "--adapt", "--origin", origin.replace(":00Z", ":07Z")])
    assert odd.exit_code == 1 and "quarter hours" in odd.stderr
