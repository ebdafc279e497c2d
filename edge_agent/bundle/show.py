"""`edge-agent bundle show`: what a bundle says of itself, for a person or as its bundle.json. Loads no model itself."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import click

from edge_agent.bundle.golden import verify_golden
from edge_agent.bundle.manifest import Budget, Manifest, Tensor
from edge_agent.bundle.reader import Bundle, default_bundle, read_bundle
from edge_agent.bundle.refusal import naming
from edge_agent.bundle.skill import BASELINES, pool

_LEADS_S = (900, 1800, 3600, 10_800, 21_600)


def show_command(bundle_: Path | None, json_: bool, verify: bool) -> None:
    """Print a bundle; with `verify`, run its golden samples first. Raises `BundleError` as reading and verifying do."""
    path = bundle_ or default_bundle()
    with naming(path):
        bundle = read_bundle(path)
        if verify:
            verify_golden(path, bundle.digest)
    if json_:
        click.echo(bundle.manifest_json.decode(), nl=not bundle.manifest_json.endswith(b"\n"))
        return
    click.echo(printable("\n".join(describe(bundle, verified=verify))))
    click.echo(printable(bundle.card.rstrip()))


def describe(bundle: Bundle, *, verified: bool = False) -> Iterator[str]:
    """The summary, line by line, without the card."""
    manifest = bundle.manifest
    leads, levels = manifest.leads_s, manifest.quantiles
    yield f"{manifest.name} {manifest.version}, release {manifest.counter}, {manifest.task} task, {manifest.precision}"
    yield f"  made      {manifest.created}, licence {manifest.licence}"
    yield f"  file      sha256 {bundle.digest}"
    yield f"  trust     {'shipped with the agent' if bundle.trust == 'package' else 'unsigned'}"
    yield f"  needs     {', '.join(f'{name} >= {floor}' for name, floor in manifest.runtime.items())}"
    yield f"  leads     {len(leads)}, from {leads[0] // 60} min to {leads[-1] // 60} min; quantiles {_numbers(levels)}"
    if manifest.looks_around:
        yield "  sees      stations near by, where a gateway or a folder of neighbours has some"
    for event in manifest.events:
        reached = f"{event.variable} {event.comparison} {event.threshold:g} {event.unit}"
        yield f"  event     {event.name}: {reached} in a step"
    yield f"  golden    {'verified here' if verified else 'not run (--verify runs them)'}"
    yield ""
    for kind, tensors in (("input", manifest.inputs), ("output", manifest.outputs)):
        for tensor in tensors:
            yield _tensor(kind, tensor)
    yield ""
    yield from (_budget(row) for row in manifest.budgets)
    yield from _skill(manifest)
    yield from _provenance(manifest)


def printable(text: str) -> str:
    """Text without control characters: what a file says must not drive the terminal."""
    return "".join(c if c.isprintable() or c in "\n\t" else "?" for c in text)


def _numbers(levels: tuple[float, ...]) -> str:
    return " ".join(f"{level:g}" for level in levels)


def _tensor(kind: str, tensor: Tensor) -> str:
    shape = ", ".join(str(length) for length in tensor.shape)
    axis = ", ".join(f"{axis.name} {axis.unit}" for axis in tensor.axis)
    return f"  {kind:<6}  {tensor.name} {tensor.dtype} [{shape}]: {axis}"


def _budget(row: Budget) -> str:
    figures = [f"model {row.model_bytes / 1e6:.2f} MB"]
    for value, words in (
        (row.peak_rss_mb, "peak memory {:g} MB"),
        (row.p50_ms, "p50 {:g} ms"),
        (row.p95_ms, "p95 {:g} ms"),
    ):
        if value is not None:
            figures.append(words.format(value))
    note = f" ({row.note})" if row.note else ""
    return f"  budget  {row.device}, {row.basis}: {', '.join(figures)}{note}"


def _skill(manifest: Manifest) -> Iterator[str]:
    """RMSE at a few leads, all networks of a setting pooled, with its ratio to each baseline's."""
    rows = [row for row in pool(manifest.skill) if row.lead_s in _LEADS_S]
    setting = None
    for row in rows:
        if row.setting != setting:
            setting = row.setting
            yield ""
            yield f"  skill, {setting}: RMSE, and its ratio to the baselines' (below 1 is better)"
            heads = "".join(f"{name.replace('_', ' '):>21}" for name in BASELINES)
            yield f"    {'variable':<16}{'lead':>8}{'pairs':>9}{'RMSE':>9}{'80 %':>7}{heads}"
        ratios = "".join(f"{row.ratio[name]:>21.3f}" if name in row.ratio else f"{'-':>21}" for name in BASELINES)
        lead = f"{row.lead_s // 60} min"
        yield f"    {row.variable:<16}{lead:>8}{row.n:>9}{row.rmse:>9.3f}{row.coverage80:>7.2f}{ratios}"


def _provenance(manifest: Manifest) -> Iterator[str]:
    origin = manifest.provenance
    yield ""
    for entry in origin.data:
        rest = "; ".join(f"{key} {value}" for key, value in entry.items() if key != "name")
        yield f"  data      {entry.get('name', '?')}: {rest}"
    yield f"  code      {', '.join(f'{key} {value}' for key, value in origin.code.items())}"
    yield f"  training  {', '.join(f'{key} {value}' for key, value in origin.training.items())}"
    yield ""
