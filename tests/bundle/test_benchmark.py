"""`edge-agent benchmark`: figures of this very machine, in a file that says what they are of."""

from __future__ import annotations

import hashlib
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner

from edge_agent.bundle.benchmark import Benchmark, benchmark
from edge_agent.bundle.devices import DEVICES
from edge_agent.bundle.reader import read_bundle
from edge_agent.cli import DEVICE_NAMES, main
from edge_agent.errors import BundleError
from model_factory.bundles.budget import boards, budgets, meant_for
from tests.tiny_bundle import make_tiny_bundle


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.bundle"
    make_tiny_bundle(path)
    return path


def test_the_file_beside_the_bundle_becomes_a_measured_row_of_that_device(bundle: Path, tmp_path: Path) -> None:
    command = ["benchmark", str(bundle), "--runs", "5", "--threads", "2", "--device", "raspberry_pi_4"]
    done = CliRunner().invoke(main, command)
    assert done.exit_code == 0 and "raspberry_pi_4 allows 200 ms, 300 MB: fits" in done.output
    [found] = boards(tmp_path)
    assert found.model_sha256 == hashlib.sha256(read_bundle(bundle).model).hexdigest()
    assert (found.threads, found.stations, found.runs) == (2, 1, 5)
    assert 0 < found.cost.p50_ms <= found.cost.p95_ms < found.cost.startup_ms and found.cost.peak_rss_mb > 20
    devices = meant_for("fp32", ())
    rows = {row.device: row for row in budgets([found], tmp_path, devices)}
    assert rows["raspberry_pi_4"].basis == "measured" and rows["raspberry_pi_4"].p95_ms == found.cost.p95_ms
    assert rows["jetson_nano"].basis == "estimated" and "assumed" in rows["jetson_nano"].note
    other = msgspec.structs.replace(found, model_sha256="0" * 64)
    of_another = budgets([other], tmp_path, devices)
    assert {row.basis for row in of_another} == {"estimated"}  # measured of another model: not taken up


def test_json_is_the_whole_measurement(bundle: Path, tmp_path: Path) -> None:
    done = CliRunner().invoke(main, ["benchmark", str(bundle), "--runs", "5", "--json", "--out", str(tmp_path / "f")])
    found = msgspec.json.decode(done.output, type=Benchmark)
    assert found == msgspec.json.decode((tmp_path / "f").read_bytes(), type=Benchmark)
    assert found.precision == "fp32" and found.device is None and found.runtime.startswith("onnxruntime ")


def test_the_bundle_is_never_written_over(bundle: Path) -> None:
    before = bundle.read_bytes()
    done = CliRunner().invoke(main, ["benchmark", str(bundle), "--runs", "5", "--out", str(bundle)])
    assert done.exit_code == 1 and "this command reads that file" in done.output
    assert bundle.read_bytes() == before


def test_a_process_that_fails_is_told_in_one_line(bundle: Path) -> None:
    with pytest.raises(BundleError, match="the process that was to be measured failed"):
        benchmark(bundle, runs=-1)


def test_the_command_knows_every_device() -> None:
    assert set(DEVICE_NAMES) == set(DEVICES)
