"""A run's folder: what lies in it, and what a command may replace there."""

from __future__ import annotations

from pathlib import Path

PRODUCTS = (".bundle", ".png", ".html")  # made from a run, and made again


def run_files(run: Path | None) -> list[Path]:
    """All files of a run, in its folders too, that are no products of it."""
    return [path for path in run.rglob("*") if path.is_file() and path.suffix not in PRODUCTS] if run else []
