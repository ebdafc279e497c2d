"""Standard output that is full, closed, or no longer read: no command answers with a traceback."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from edge_agent.cli import main

ROOT = Path(__file__).resolve().parents[1]
COMMANDS = (["--help"], ["status", "--help"], ["bundle", "show"], ["bundle", "show", "--json"])


def start(*arguments: object, unbuffered: bool = False, **files: object) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1" if unbuffered else ""}
    command = [sys.executable, "-m", "edge_agent.cli", *map(str, arguments)]
    return subprocess.Popen(command, text=True, stderr=subprocess.PIPE, env=environment, **files)  # type: ignore[call-overload, no-any-return]


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """Of a station with a day in its store."""
    config, past = tmp_path / "agent.toml", tmp_path / "past.csv"
    place = 'id = "roof"\nlatitude = 47\nlongitude = 8\nelevation_m = 400'
    config.write_text(f'[station]\n{place}\n[store]\npath = "store.sqlite"\n')
    past.write_text("time,temperature\n" + "".join(f"{1_700_000_000 + 10 * i},{i % 30}\n" for i in range(9000)))
    result = CliRunner().invoke(main, ["import", str(past), "--config", str(config)])
    assert result.exit_code == 0, result.output
    return config


@pytest.mark.parametrize("unbuffered", [False, True])
@pytest.mark.parametrize("command", [*COMMANDS, ["export"], ["export", "--start", "1700089900"]], ids=" ".join)
def test_a_full_device_is_one_line_and_a_failure(config: Path, command: list[str], unbuffered: bool) -> None:
    more = ["--config", config] if command[0] == "export" else []
    with open("/dev/full", "w") as full:
        process = start(*command, *more, unbuffered=unbuffered, stdout=full)
        _, said = process.communicate(timeout=60)
    assert process.returncode == 1
    assert said == "edge-agent: standard output: No space left on device: what was printed is not whole\n"


def test_an_export_without_any_output_asks_for_a_file(config: Path) -> None:
    process = start("export", "--config", config, preexec_fn=lambda: os.close(1))
    _, said = process.communicate(timeout=60)
    assert (process.returncode, said) == (1, "edge-agent: standard output is closed: name a file with --out\n")


@pytest.mark.parametrize("command", [*COMMANDS, ["export"]], ids=" ".join)
def test_a_reader_that_has_enough_ends_it_without_a_word(config: Path, command: list[str]) -> None:
    more = ["--config", config] if command[0] == "export" else []
    theirs, ours = os.pipe()
    os.close(theirs)  # before anything is printed
    process = start(*command, *more, stdout=ours)
    os.close(ours)
    _, said = process.communicate(timeout=60)
    assert (process.returncode, said) == (1, "")
