"""`model-factory evaluate --neighbours`: a model sees the others of a network beside the station it is scored at."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edge_agent.clock import format_time
from model_factory.training.data import station_files
from model_factory.verification import evaluate, pairs
from model_factory.verification.models import forecasts, onnx_model
from tests.factory.test_evaluate import run, skill, write_data
from tests.forecast.series import START
from tests.tiny_bundle import tiny_model

__all__ = ["run"]
PLACES = {"one": (47.0, 8.0), "near": (47.05, 8.0), "wide": (47.3, 8.0), "far": (49.0, 8.0)}
VALUES = {"one": 10.0, "near": 20.0, "wide": 30.0, "far": 90.0}


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Four days of a network whose stations each read one temperature all the time; the last is out of reach."""
    write_data(tmp_path / "data", "town", 1)
    folder = tmp_path / "data" / "town"
    for name, value in VALUES.items():
        rows = [f"{format_time(START + 900 * n)},{value}" for n in range(4 * 96)]
        (folder / f"{name}.csv").write_text("\n".join(["time,temperature", *rows]) + "\n")
    places = [f"{name},{latitude},{longitude},400" for name, (latitude, longitude) in PLACES.items()]
    (folder / "stations.csv").write_text("\n".join(["station,latitude,longitude,elevation", *places]) + "\n")
    return tmp_path / "data"


@pytest.fixture
def near_run(run: Path) -> Path:
    (run / "model_fp32.onnx").write_bytes(tiny_model(near=True))
    return run


def plan(data: Path, neighbours: int) -> evaluate.Plan:
    files = station_files(data)
    return evaluate.Plan(files, 0.5, (), "final-period", 3600, None, neighbours=neighbours)


def test_the_nearest_within_reach_are_chosen_and_never_the_station_itself(data: Path) -> None:
    one = pairs.load_record(plan(data, 9).files[0], 0.5)
    assert [other.station for other in plan(data, 9).around(one)] == ["near", "wide"]
    assert [other.station for other in plan(data, 1).around(one)] == ["near"]
    assert plan(data, 0).around(one) == []


def test_a_forecast_rests_on_the_station_and_those_shown_beside_it(data: Path, near_run: Path) -> None:
    model, seen = onnx_model(near_run / "model_fp32.onnx"), plan(data, 9)
    one = pairs.load_record(seen.files[0], 0.5)
    at = pairs.held_out_origins(one, 3600)
    alone, together = (forecasts(model, one, at, others)[0][..., 0] for others in ((), seen.around(one)))
    assert alone.shape == together.shape
    np.testing.assert_allclose(together - alone, np.mean([10.0, 20.0, 30.0]) - 10.0, atol=1e-3)


def test_a_neighbour_that_has_ended_is_not_seen(data: Path, near_run: Path) -> None:
    model, seen = onnx_model(near_run / "model_fp32.onnx"), plan(data, 1)
    one = pairs.load_record(seen.files[0], 0.5)
    at = pairs.held_out_origins(one, 3600)
    path = data / "town" / "near.csv"
    path.write_text("\n".join(path.read_text().splitlines()[: 2 * 96]) + "\n")  # ends before the part that is scored
    alone, together = (forecasts(model, one, at, others)[0][..., 0] for others in ((), seen.around(one)))
    np.testing.assert_allclose(together, alone, atol=1e-5)


def test_rows_stand_under_a_setting_of_their_own_and_a_lone_station_is_left_out(
    data: Path, near_run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for neighbours in (0, 3):
        evaluate.evaluate_command(near_run, data, (), "final-period", False, "1h", None, neighbours=neighbours)
    assert {row.setting for row in skill(near_run)} == {"final-period", "final-period with neighbours"}
    assert "no neighbour within 60 km" in " ".join(capsys.readouterr().out.split())
