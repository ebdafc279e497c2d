"""Forecasts that `edge-agent hindcast` wrote are scored as an operator gets them, on the pairs of everything else."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest
from click.testing import CliRunner

from edge_agent.bundle.manifest import SkillRow
from edge_agent.cli import main
from edge_agent.errors import DataError
from model_factory.training.data import station_files
from model_factory.verification import evaluate
from model_factory.verification.issued import read_issued
from model_factory.verification.paired import load_all
from model_factory.verification.pairs import held_out_origins, load_record
from model_factory.verification.scoring import ANOMALY, MODEL
from tests.factory.test_evaluate import run, write_data

__all__ = ["run"]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """DATA and the forecasts of its station, by the command that writes them."""
    root = tmp_path_factory.mktemp("issued")
    data, out = root / "data", root / "forecasts"
    write_data(data, "seen", 5)
    (out / "seen").mkdir(parents=True)
    result = CliRunner().invoke(
        main,
        ["hindcast", str(data / "seen" / "one.csv"), "--latitude", "47", "--longitude", "8", "--elevation", "400",
         "--every", "3h", "--out", str(out / "seen" / "one.csv")],
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    return data, out


def test_what_was_issued_is_read_as_it_was_written(folders: tuple[Path, Path]) -> None:
    data, out = folders
    one = load_record(station_files(data)[0], 0.5)
    hourly = held_out_origins(one, 3600)
    at, mean, quantiles, probability = read_issued(out / "seen" / "one.csv", one, hourly)
    assert 0 < len(at) < len(hourly) and (one.steps[at] % 10_800 == 0).all()
    lines = [line.split(",") for line in (out / "seen" / "one.csv").read_text().splitlines()]
    last = next(line for line in reversed(lines) if line[3] == "temperature")
    assert mean[-1, -1, 0] == pytest.approx(float(last[5])) and quantiles[-1, -1, 0, -1] == pytest.approx(
        float(last[-1])
    )
    assert not np.isnan(mean[..., 0]).any() and np.isnan(mean[..., 1:]).all() and np.isnan(probability).all()


def test_they_are_scored_in_place_of_the_model_and_kept_apart_from_it(run: Path, folders: tuple[Path, Path]) -> None:
    data, out = folders
    evaluate.evaluate_command(run, data, (), "final-period", False, "1h", None, pairs=True, forecasts=out)
    rows = msgspec.json.decode((out / "skill.json").read_bytes(), type=list[SkillRow])
    assert rows and not (run / "skill.json").exists() and not (run / "pairs").exists()
    kept = load_all(out)["seen"]
    one = load_record(station_files(data)[0], 0.5)
    at, mean, *_ = read_issued(out / "seen" / "one.csv", one, held_out_origins(one, 3600))
    np.testing.assert_allclose(kept.means[MODEL][:, 2, 0], mean[:, 3, 0], rtol=1e-6)  # an hour ahead
    assert (kept.origin == one.steps[at]).all() and ANOMALY in kept.means


def test_a_station_without_forecasts_is_named(run: Path, folders: tuple[Path, Path], tmp_path: Path) -> None:
    data, _ = folders
    with pytest.raises(DataError, match="seen one: no forecasts in"):
        evaluate.evaluate_command(run, data, (), "final-period", False, "1h", None, forecasts=tmp_path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("time,temperature\n2024-01-01T00:00:00Z,3\n", "no column origin"),
        ("", "no column"),
        (None, "not forecasts"),
    ],
)
def test_another_file_is_refused(folders: tuple[Path, Path], tmp_path: Path, text: str | None, message: str) -> None:
    data, out = folders
    one = load_record(station_files(data)[0], 0.5)
    if text is None:  # a word where the mean should be
        text = (out / "seen" / "one.csv").read_text().replace(",900,temperature,", ",900,temperature,9,word,")
    (tmp_path / "one.csv").write_text(text)
    with pytest.raises(DataError, match=message):
        read_issued(tmp_path / "one.csv", one, held_out_origins(one, 900))
