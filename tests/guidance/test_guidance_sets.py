"""The archives as files that the hindcast reads, and the EMOS they are held against."""

from __future__ import annotations

import csv
import lzma
import os
from pathlib import Path

import numpy as np
import pytest

from edge_agent.guidance.files import has_stations, read_guidance
from edge_agent.history import read_history
from model_factory.verification.emos import normal_crps, rolling_crps
from model_factory.verification.guidance_sets import DISSEMINATION, SETS, seoul

CORPUS = Path(os.environ.get("STATIONCAST_CORPUS", Path(__file__).parents[3] / "shared" / "data"))


@pytest.mark.parametrize("name", ["hannover", "frankfurt", "sonderborg", "seoul"])
def test_an_archive_becomes_files_that_are_read_without_a_warning(tmp_path, name):
    archive = SETS[name]
    if not (CORPUS / archive.folder).is_dir():
        pytest.skip(f"STATIONCAST_CORPUS has no {archive.folder}")
    history, guidance = tmp_path / "history.csv", tmp_path / "guidance.csv"
    archive.write(CORPUS / archive.folder, history, guidance)
    runs, columns, table = read_guidance(guidance)
    assert not table.warnings
    assert len(columns) == len(set(columns))
    for mine in runs.values():
        issued = [run.issued for run in mine]
        assert issued == sorted(set(issued))
        assert all(run.valid[-1] > run.issued for run in mine)
    if not has_stations(history):
        assert read_history(history).values.keys() <= set(columns)
    if name == "hannover":
        [mine] = runs.values()
        assert (mine[10].valid[0] - mine[10].issued) == 24 * 3600 - DISSEMINATION.total_seconds()


def test_a_day_that_two_rows_tell_of_is_the_whole_day(tmp_path):
    """`Present_` is of 21 hours, `Next_` of the row before of 24."""
    rows = [
        {"station": "1", "Date": "2013-07-01", "Present_Tmax": "28", "Present_Tmin": "21", "Next_Tmax": "30",
         "Next_Tmin": "20", "LDAPS_Tmax_lapse": "29", "LDAPS_Tmin_lapse": "21", "lat": "37", "lon": "127", "DEM": "9"},
        {"station": "1", "Date": "2013-07-02", "Present_Tmax": "29", "Present_Tmin": "22", "Next_Tmax": "31",
         "Next_Tmin": "23", "LDAPS_Tmax_lapse": "29", "LDAPS_Tmin_lapse": "21", "lat": "37", "lon": "127", "DEM": "9"},
    ]  # fmt: skip
    lines = [",".join(rows[0]), *(",".join(row.values()) for row in rows)]
    (tmp_path / "bias.csv.xz").write_bytes(lzma.compress("\n".join(lines).encode()))
    seoul(tmp_path, tmp_path / "history.csv", tmp_path / "guidance.csv")
    with (tmp_path / "history.csv").open(encoding="utf-8", newline="") as stream:
        seen = {row["time"][:10]: row["temperature_max"] for row in csv.DictReader(stream)}
    assert seen == {"2013-07-01": "28", "2013-07-02": "30", "2013-07-03": "31"}


def test_the_crps_of_a_normal_forecast():
    found = normal_crps(np.array([0.0, 0.0]), np.array([1.0, 1e-6]), np.array([0.0, 2.0]))
    np.testing.assert_allclose(found, [0.2337, 2.0], atol=1e-4)  # a sharp forecast's is its absolute error


def test_a_rolling_emos_learns_bias_and_spread():
    rng = np.random.default_rng(0)
    spread = rng.uniform(0.5, 2.0, 160)
    x = rng.normal(size=(160, 1))
    observed = 3.0 + x[:, 0] + spread * rng.normal(size=160)
    scores = rolling_crps(x, spread, observed, first=100, window=90, delay=1)
    ideal = normal_crps(3.0 + x[100:, 0], spread[100:], observed[100:])
    climate = normal_crps(np.full(60, observed[:100].mean()), np.full(60, observed[:100].std()), observed[100:])
    assert scores.mean() < 1.15 * ideal.mean() < climate.mean()
