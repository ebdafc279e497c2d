"""The demo's shipped recordings are what their script makes of the raw rows, and their rows are good ones."""

from __future__ import annotations

import json
import lzma
import os
from itertools import pairwise
from pathlib import Path

import pytest

import edge_agent.demo
from edge_agent.clock import parse_time
from edge_agent.history import read_history
from model_factory.sources import demo_data

DATA = Path(edge_agent.demo.__file__).parent / "data"
CORPUS = Path(__file__).resolve().parents[2].parent / "shared" / "data"
RAW = Path(os.environ.get("STATIONCAST_CORPUS", CORPUS)) / "vlinder-2022-09"
HISTORIES = sorted(DATA.glob("*-history.csv.xz"))


def lines(name: str) -> list[str]:
    return (DATA / name).read_text(encoding="utf-8").splitlines()


def test_shipped_files_are_what_the_script_writes() -> None:
    if not RAW.is_dir():
        pytest.skip(f"{RAW} is not here: the corpus is not part of the project (STATIONCAST_CORPUS names it)")
    for name, text in demo_data.files(RAW).items():
        data = (DATA / name).read_bytes()
        assert (lzma.decompress(data) if name.endswith(".xz") else data).decode() == text, name


@pytest.mark.parametrize("path", HISTORIES, ids=lambda p: p.name)
def test_history_spans_a_week_and_holds_no_repeated_message(path: Path) -> None:
    text = lzma.decompress(path.read_bytes()).decode()
    rows = [line.partition(",")[2] for line in text.splitlines()]
    assert not [a for a, b, c in zip(rows, rows[1:], rows[2:], strict=False) if a == b == c]
    history = read_history(path)
    assert history.warnings == []
    assert history.last - history.first >= 7 * 86_400
    assert len(history.times) >= 7 * 288  # a week of readings, gaps aside


def test_recordings_begin_where_the_histories_end() -> None:
    for place, kind in (("melle", "serial"), ("de-haan", "mqtt")):
        times = [parse_time(line.partition("\t")[0]) for line in lines(f"{place}-{kind}.tsv")]
        assert times[0] - read_history(DATA / f"{place}-history.csv.xz").last == 300
        assert all(a < b for a, b in pairwise(times))


def test_two_lines_of_the_serial_recording_are_damaged() -> None:
    hot, broken = 0, 0
    for line in lines("melle-serial.tsv"):
        try:
            hot += json.loads(line.partition("\t")[2])["temp"] > 60
        except json.JSONDecodeError:
            broken += 1
    assert (hot, broken) == (1, 1)


def test_notice_of_the_datas_licence_is_shipped() -> None:
    text = (DATA / "ATTRIBUTION.md").read_text(encoding="utf-8")
    assert "Copyright (c) 2023 Atmospheric Physics group Ghent University" in text
    assert "Permission is hereby granted, free of charge" in text
