"""Packed files: what was put in comes out, and an archive takes no more memory or time than is allowed."""

from __future__ import annotations

import gzip
import lzma
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edge_agent import packed
from edge_agent.errors import DataError
from edge_agent.packed import BROKEN, unpacked

PACKS: list[Callable[[bytes], bytes]] = [bytes, gzip.compress, lzma.compress]
TEXT = b"time,temperature\n" + b"0,1\n" * 50_000


def read(path: Path, data: bytes, most: int = 10**6) -> bytes:
    path.write_bytes(data)
    with unpacked(path, most) as file:
        return file.read()


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(parts=st.lists(st.binary(min_size=1).map(lambda text: b"# " + text), min_size=1, max_size=3))
@pytest.mark.parametrize("pack", PACKS)
def test_what_was_packed_comes_out_also_of_archives_joined_together(tmp_path, pack, parts):
    assert read(tmp_path / "f", b"".join(pack(part) for part in parts)) == b"".join(parts)


def test_padding_between_xz_streams_is_no_data(tmp_path):
    padded = lzma.compress(b"a") + b"\0" * 200_000 + lzma.compress(b"b") + b"\0" * 8
    assert read(tmp_path / "f", padded) == b"ab"


@pytest.mark.parametrize("pack", PACKS)
def test_a_file_has_a_bound_unpacked(tmp_path, pack):
    assert read(tmp_path / "f", pack(TEXT), len(TEXT)) == TEXT
    with pytest.raises(DataError, match=r"longer than 0\.2 MB, unpacked: split"):
        read(tmp_path / "f", pack(TEXT), 200_000)


def test_an_archive_that_asks_for_much_memory_is_refused(tmp_path, monkeypatch):
    data = lzma.compress(TEXT, preset=6)
    assert read(tmp_path / "f", data) == TEXT
    monkeypatch.setattr(packed, "XZ_MEMORY", 1024 * 1024)
    with pytest.raises(lzma.LZMAError, match=r"[Mm]emory"):
        read(tmp_path / "f", data)


@pytest.mark.parametrize("pack", PACKS[1:])
def test_a_cut_archive_is_broken(tmp_path, pack):
    with pytest.raises(BROKEN):
        read(tmp_path / "f", pack(TEXT)[:-20])
