"""The registry: a folder with every bundle that passed the gate, one of which is the champion.

    DIR/index.json             which release is champion, and what became of each candidate
    DIR/<name>-<counter>/      <name>-<counter>.bundle, verdict.json, pairs/ to compare the next candidate with

Moves `champion` only on the gate's verdict. A release is whole or not there: it is made beside and moved into place.
"""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import click
import msgspec

from edge_agent.clock import SystemClock, format_time
from edge_agent.errors import ConfigError, DataError
from model_factory.bundles.build import build_bundle, run_config
from model_factory.verification.gate import VERDICT, Score, Verdict, judge, summary, write_verdict
from model_factory.verification.paired import FOLDER, load_all

INDEX = "index.json"
SHOWN_REASONS = 12


class Release(msgspec.Struct, frozen=True):
    """A candidate and what became of it. `folder`, `bundle` and `sha256` are empty where it was refused."""

    counter: int
    verdict: Literal["promoted", "refused"]
    decided: str
    champion_before: int | None
    folder: str = ""
    bundle: str = ""
    sha256: str = ""
    why: tuple[str, ...] = ()


class Index(msgspec.Struct, frozen=True):
    """index.json, format 1; `champion`: a counter."""

    schema: int = 1
    champion: int | None = None
    releases: tuple[Release, ...] = ()

    def current(self) -> Release | None:
        """The champion."""
        return next((one for one in self.releases if one.counter == self.champion), None)


def promote_command(
    candidate: Path, champion: Path | None, registry: Path | None, name: str, ship: Path | None = None
) -> bool:
    """`model-factory promote`: see its help.

    Raises:
        ConfigError: `ship` without a registry, or the registry is no folder.
        DataError: pairs are missing or share nothing, the registry's index cannot be read, or the bundle cannot be
            built; BundleError: it is refused by its own reader.
    """
    if ship and not registry:
        raise ConfigError("--ship puts weights into a registry's bundle: name it, --registry DIR")
    if registry and registry.exists() and not registry.is_dir():
        raise ConfigError(f"--registry {registry}: is a file: name a folder, which is made where it is not there")
    run_config(candidate)
    index = read_index(registry) if registry else Index()
    current = index.current()
    if champion is None and registry is not None and current is not None:
        champion = registry / current.folder
    verdict = judge(load_all(candidate), load_all(champion) if champion else None)
    write_verdict(verdict, candidate)
    for line in render(verdict):
        click.echo(line)
    if registry is not None:
        decide(registry, index, candidate, verdict, name, ship)
    return verdict.promoted


def decide(
    registry: Path, index: Index, candidate: Path, verdict: Verdict, name: str, ship: Path | None = None
) -> None:
    """Put a promoted candidate into the registry and write down the verdict of any. `ship`: the run whose weights go
    into the bundle, with the candidate as their proof."""
    counter = max((one.counter for one in index.releases), default=0) + 1
    now = format_time(SystemClock().now())
    registry.mkdir(parents=True, exist_ok=True)
    if not verdict.promoted:
        release = Release(counter, "refused", now, index.champion, why=verdict.why)
        return write_index(registry, Index(1, index.champion, (*index.releases, release)))
    folder = f"{name}-{counter}"
    if (registry / folder).exists():
        raise DataError(f"{registry / folder} is there, but not in {INDEX}: move it away")
    with tempfile.TemporaryDirectory(dir=registry) as scratch:
        draft = Path(scratch) / folder
        draft.mkdir()
        made, proof = (ship, candidate) if ship else (candidate, None)
        out = draft / f"{folder}.bundle"
        build_bundle(made, out, name=name, counter=counter, precision=verdict.precision, proof=proof)
        shutil.copytree(candidate / FOLDER, draft / FOLDER)
        shutil.copy(candidate / VERDICT, draft / VERDICT)
        draft.rename(registry / folder)
    digest = hashlib.sha256((registry / folder / f"{folder}.bundle").read_bytes()).hexdigest()
    release = Release(counter, "promoted", now, index.champion, folder, f"{folder}/{folder}.bundle", digest)
    write_index(registry, Index(1, counter, (*index.releases, release)))
    click.echo(f"champion: {registry / release.bundle}")


def read_index(registry: Path) -> Index:
    """DIR/index.json; an empty one where there is none.

    Raises:
        DataError: it is not an index, or its champion is not there.
    """
    path = registry / INDEX
    if not path.exists():
        return Index()
    try:
        index = msgspec.json.decode(path.read_bytes(), type=Index)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: not a registry's index ({error})") from error
    current = index.current()
    if index.champion is not None and (current is None or not (registry / current.bundle).is_file()):
        raise DataError(f"{path}: its champion, release {index.champion}, is not there: put it back")
    return index


def write_index(registry: Path, index: Index) -> None:
    """Write index.json beside and move it into place."""
    part = registry / f"{INDEX}.part"
    part.write_bytes(msgspec.json.format(msgspec.json.encode(index)))
    part.replace(registry / INDEX)


def render(verdict: Verdict) -> Iterator[str]:
    """A verdict for a terminal."""
    scores: tuple[Score, ...] = ("rmse", "crps")
    for score in scores:
        yield f"{'against':<22}{'variable':<18}{f'{score.upper()} ratio':>11}{'better':>8}{'worse':>7}{'cells':>7}"
        for rival, variable, cells, better, worse, ratio in summary(verdict, score):
            yield f"{rival.replace('_', ' '):<22}{variable:<18}{ratio:>11.3f}{better:>8}{worse:>7}{cells:>7}"
    yield "refused:" if not verdict.promoted else "not worse: promoted"
    yield from (f"  {why}" for why in verdict.why[:SHOWN_REASONS])
    if len(verdict.why) > SHOWN_REASONS:
        yield f"  and {len(verdict.why) - SHOWN_REASONS} more, in {VERDICT}"
