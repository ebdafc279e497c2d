"""`model-factory bundle`: a run's model, golden samples, card and provenance become one file, read back before it is
given out. Trains nothing and scores nothing; a bundle that its own reader refuses is never written."""

from __future__ import annotations

import hashlib
import io
import json
import math
import os
import tempfile
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import click
import msgspec
import numpy as np

from edge_agent import __version__
from edge_agent.bundle import station_task
from edge_agent.bundle.benchmark import Benchmark
from edge_agent.bundle.check import LITERT, ONNX
from edge_agent.bundle.golden import pack_golden, verify_golden
from edge_agent.bundle.manifest import SCHEMA_VERSION, FileEntry, Manifest, Provenance, SkillRow
from edge_agent.bundle.reader import CARD, GOLDEN, MANIFEST, MODEL, TFLITE, Bundle, read_bundle
from edge_agent.clock import SystemClock, format_time
from edge_agent.console import keep_inputs
from edge_agent.errors import ConfigError, DataError
from edge_agent.forecast import LEADS_S, QUANTILES
from edge_agent.inference import Array
from edge_agent.inference.litert import Runner
from edge_agent.inference.onnx import open_model
from edge_agent.variables import VARIABLES, Kind
from model_factory.bundles.budget import budgets, meant_for, measure
from model_factory.bundles.card import Card, crps_changes, render_card
from model_factory.bundles.golden_inputs import golden_inputs
from model_factory.bundles.graph import read_without_notes
from model_factory.bundles.plot import skill_plot
from model_factory.bundles.proof import Proof, prove
from model_factory.quantize.measure import compare_models
from model_factory.run_files import run_files
from model_factory.verification.evaluate import skill_file
from model_factory.verification.gate import Precision, read_verdict

Runtime = Literal["onnxruntime", "ai-edge-litert"]

RUNTIME_FLOORS = {ONNX: "1.20", LITERT: "2.0"}
PLOT = "skill.png"
CRPS_LOSS = {"int8": 1.0, "int4": 2.0}  # per cent against FP32
LICENCE = "Apache-2.0"
# What rounding may do to a golden answer on another processor: below what a reading itself is worth.
TOLERANCE = {
    "temperature": 0.2, "humidity": 2.0, "pressure": 0.3, "wind_speed": 0.3, "wind_gust": 0.5, "wind_direction": 20.0,
    "rain": 0.3, "solar_radiation": 20.0, "eastward_wind": 0.3, "northward_wind": 0.3, "event:rain": 0.05,
}  # fmt: skip


def bundle_command(
    run: Path,
    out: Path,
    name: str,
    counter: int,
    precision: Precision | None,
    runtime: Runtime = ONNX,
    proof: Path | None = None,
    device: Sequence[str] = (),
) -> None:
    """`model-factory bundle`: see its help."""
    keep_inputs("--out", out, *run_files(run), *run_files(proof))
    bundle = build_bundle(
        run, out, name=name, counter=counter, precision=precision, runtime=runtime, proof=proof, device=device
    )
    manifest = bundle.manifest
    click.echo(
        f"{out}: {manifest.name} release {manifest.counter}, {manifest.precision}, {out.stat().st_size / 1e6:.2f} MB"
    )
    click.echo(f"golden samples verified; {len(manifest.skill)} cells of skill; sha256 {bundle.digest}")
    if not manifest.skill:
        click.echo(
            f"no {run}/skill.json: the card says that nothing is known about its skill (model-factory evaluate; for a"
            " run that learned from whole records, --proof)"
        )
    elif manifest.precision in CRPS_LOSS and not crps_changes(manifest.skill):
        click.echo(
            f"what {manifest.precision} costs in skill was not measured: run `model-factory evaluate` where"
            " model_fp32.onnx lies beside it, without --adapt"
        )


def build_bundle(
    run: Path,
    out: Path,
    *,
    name: str,
    counter: int,
    precision: Precision | None = None,
    runtime: Runtime = ONNX,
    version: str = __version__,
    proof: Path | None = None,
    device: Sequence[str] = (),
) -> Bundle:
    """Write RUN's model as a bundle to `out` and return it as read back.

    RUN holds model_<precision>.onnx (or model.tflite) and config.json as training writes them; skill.json and further
    skill-*.json (of runs of the same recipe) where evaluated; golden_inputs.npz to replace the made-up samples.
    `proof`: the run that was evaluated in its place, where RUN learned from whole records; skill and verdict are its.
    `device`: those it is meant for and held against; none: all that its precision is for.

    Raises:
        ConfigError: `counter` below 1, or a device that its precision is not for.
        DataError: a file of RUN is missing or unreadable, the model answers nonsense, or `proof` proves another.
        BundleError: what was written is refused by the reader or its own golden samples.
    """
    if counter < 1:
        raise ConfigError(f"--release {counter}: release counters start at 1 and only grow")
    config = run_config(run)
    precision = precision or ("fp32" if runtime == LITERT else "int8")
    if runtime == LITERT and precision != "fp32":
        raise ConfigError(f"--precision {precision}: a LiteRT model is FP32")
    devices = meant_for(precision, device)
    file = TFLITE if runtime == LITERT else MODEL
    path = run / (TFLITE if runtime == LITERT else f"model_{precision}.onnx")
    litert = f"`python -m model_factory.quantize.litert {run}` makes it, in an environment of its own (docs/bundle.md)"
    model = _bytes(path, litert) if runtime == LITERT else read_without_notes(path)
    inputs = _golden_inputs(run, looks_around(model, runtime, str(path)))
    outputs = _answers(model, runtime, inputs)
    check_answers(inputs, outputs)
    rows = read_skill(proof or run, precision)
    check_loss(rows, precision)
    proved = prove(run, config, proof, run_config(proof), precision, rows) if proof else None
    if proved:
        config = config | {"proof": {"test_fraction": proved.part}}
    files = {file: model, GOLDEN: pack_golden(inputs, outputs)}
    if rows:
        files[PLOT] = skill_plot(rows)
    manifest = _manifest(config, rows, name=name, counter=counter, precision=precision, version=version)
    manifest = msgspec.structs.replace(manifest, runtime={runtime: RUNTIME_FLOORS[runtime]})
    if station_task.GROUP.name in inputs:
        manifest = msgspec.structs.replace(manifest, inputs=(*manifest.inputs, station_task.GROUP))
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent) as folder:
        draft = Path(folder) / out.name
        _write(draft, manifest, files | {CARD: b"# draft\n"})
        read_bundle(draft, quiet=True)
        measured = measure(draft)
        manifest = msgspec.structs.replace(manifest, budgets=budgets(measured, run, devices))
        card = _card(run, config, manifest, measured, inputs, proof or run, proved)
        _write(draft, manifest, files | {CARD: render_card(card).encode()})
        for one in devices:
            bundle = read_bundle(draft, device=one, quiet=True)
        verify_golden(draft, bundle.digest)
        os.replace(draft, out)
    return bundle


def _answers(model: bytes, runtime: Runtime, inputs: Mapping[str, Array]) -> dict[str, Array]:
    """What a model answers, all stations in one run or, on LiteRT, one after the other."""
    if runtime == LITERT:
        runner = Runner(model)
        stations = range(len(inputs["history"]))
        rows = [runner.run({name: value[i : i + 1] for name, value in inputs.items()}) for i in stations]
        return {name: np.concatenate([row[name] for row in rows]) for name in rows[0]}
    session = open_model(model)
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, dict(inputs)), strict=True))


def check_answers(inputs: Mapping[str, Array], outputs: Mapping[str, Array]) -> None:
    """What any station model must answer to the golden samples.

    Raises:
        DataError: quantiles that fall, a forecast missing where the last reading is there, or one where there was no
            reading in the last 2 hours (rain, whose absence is dryness, apart).
    """
    if np.any(np.diff(outputs["quantiles"], axis=-1) < -1e-4):
        raise DataError("the model's quantiles are not monotone")
    variables = [tensor.name for tensor in station_task.HISTORY.axis]
    for i, name in enumerate(station_task.OUTPUT_VARIABLES):
        history = inputs["history"][..., variables.index(name)]
        mean = outputs["mean"][..., i]
        there, silent = ~np.isnan(history[:, -1]), np.isnan(history[:, -8:]).all(axis=1)
        if np.isnan(mean[there]).any():
            raise DataError(f"the model gives no {name} where its last reading is there")
        if VARIABLES[name].kind is not Kind.SUM and not np.isnan(mean[silent]).all():
            raise DataError(f"the model makes up a {name} where there was no reading for two hours: it must be NaN")


def check_loss(rows: Sequence[SkillRow], precision: Precision) -> None:
    """Quantization may cost so much CRPS and no more, at any lead of any variable.

    Raises:
        DataError: it costs more.
    """
    limit = CRPS_LOSS.get(precision, math.inf)
    lost = {cell: change for cell, change in crps_changes(rows).items() if change > limit}
    if lost:
        (name, lead_s), most = max(lost.items(), key=lambda item: item[1])
        raise DataError(
            f"{precision} costs {most:.2f} % of CRPS in {name} at {lead_s // 60} min, and more than {limit:g} % in "
            f"{len(lost)} cells: keep layers in float, or train with the rounding"
        )


def read_skill(run: Path, precision: Precision = "int8") -> tuple[SkillRow, ...]:
    """Rows of RUN/skill.json and RUN/skill-*.json with pairs in them, rounded to five digits; of INT4 those of
    RUN/skill_int4.json.

    Raises:
        DataError: a file is not a list of skill rows, or two rows describe the same cell.
    """
    rows: list[SkillRow] = []
    paths = [*run.glob(skill_file(precision)), *sorted(run.glob("skill-*.json"))]
    for path in paths[:1] if precision == "int4" else paths:
        try:
            rows += msgspec.json.decode(path.read_bytes(), type=list[SkillRow])
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise DataError(f"{path}: not a list of skill rows ({error}): evaluate again") from error
    cells = [(row.setting, row.network, row.variable, row.lead_s) for row in rows]
    if len(set(cells)) != len(cells):
        twice = next(cell for cell in cells if cells.count(cell) > 1)
        raise DataError(f"{run}: two skill rows for {', '.join(map(str, twice))}")
    return tuple(_rounded(row) for row in rows if row.n > 0)


def _rounded(row: SkillRow) -> SkillRow:
    values = {key: value for key, value in msgspec.structs.asdict(row).items() if isinstance(value, float)}
    return msgspec.structs.replace(row, **{key: float(f"{value:.5g}") for key, value in values.items()})


def _manifest(
    config: Mapping[str, Any],
    rows: tuple[SkillRow, ...],
    *,
    name: str,
    counter: int,
    precision: Precision,
    version: str,
) -> Manifest:
    """The manifest without files and budgets."""
    return Manifest(
        schema=SCHEMA_VERSION,
        name=name,
        version=version,
        counter=counter,
        task="station",
        created=format_time(SystemClock().now()),
        inputs=station_task.INPUTS,
        outputs=station_task.outputs(),
        step_s=station_task.TASK_STEP_S,
        leads_s=LEADS_S,
        quantiles=QUANTILES,
        events=station_task.EVENTS,
        precision=precision,
        runtime={},
        files=(),
        budgets=(),
        tolerance=TOLERANCE,
        skill=rows,
        provenance=Provenance(
            data=tuple(dict(network) for network in _networks(config)),
            code={str(key): str(value) for key, value in config.get("software", {}).items()}
            | {"stationcast": __version__},
            training=dict(_flat({k: v for k, v in config.items() if k not in ("networks", "software")})),
        ),
        licence=LICENCE,
    )


def _write(path: Path, manifest: Manifest, files: Mapping[str, bytes]) -> None:
    """The zip: bundle.json first, everything stored as it is, with one fixed date."""
    entries = tuple(FileEntry(name, len(data), hashlib.sha256(data).hexdigest()) for name, data in files.items())
    raw = msgspec.json.encode(msgspec.structs.replace(manifest, files=entries))
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for name, data in ({MANIFEST: raw} | dict(files)).items():
            archive.writestr(zipfile.ZipInfo(name, (2020, 1, 1, 0, 0, 0)), data)


def _card(
    run: Path,
    config: Mapping[str, Any],
    manifest: Manifest,
    measured: tuple[Benchmark, ...],
    inputs: Mapping[str, Array],
    judged: Path,
    proof: Proof | None,
) -> Card:
    both = (run / "model_fp32.onnx", run / f"model_{manifest.precision}.onnx")
    verdict = read_verdict(judged)
    samples = {name: np.resize(value, (64, *value.shape[1:])) for name, value in inputs.items()}
    return Card(
        manifest=manifest,
        networks=_networks(config),
        hold_out=tuple(config["hold_out"]),
        test_fraction=float(config["test_fraction"]),
        measured=measured,
        comparison=compare_models(*both, samples) if both[0] != both[1] and both[0].exists() else None,
        plot=PLOT if manifest.skill else None,
        verdict=verdict if verdict is not None and verdict.precision == manifest.precision else None,
        proof=proof,
    )


def run_config(run: Path) -> dict[str, Any]:
    """RUN/config.json. Raises DataError: it is not one that training writes."""
    try:
        config = json.loads(_bytes(run / "config.json", "train, quantize and evaluate first"))
        float(config["test_fraction"]), list(config["hold_out"]), [dict(network) for network in config["networks"]]
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{run}/config.json: {error!r}: train the run again") from error
    return dict(config)


def _networks(config: Mapping[str, Any]) -> list[dict[str, str]]:
    """Each network trained on as text, its name first, lists joined, other values as JSON."""
    rows = []
    for network in config["networks"]:
        named = {"name": network.get("name", network.get("network", "?"))} | network
        rows.append({key: _text(value) for key, value in named.items() if value not in ("", [], {})})
    return rows


def _text(value: object) -> str:
    if isinstance(value, list):
        return "; ".join(map(_text, value))
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _flat(value: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str | int | float]]:
    """Nested settings as dotted names with plain values."""
    rows: list[tuple[str, str | int | float]] = []
    for key, entry in value.items():
        if isinstance(entry, Mapping):
            rows += _flat(entry, f"{prefix}{key}.")
        elif isinstance(entry, (list, tuple)):
            rows.append((prefix + key, " ".join(map(str, entry))))
        else:
            rows.append(
                (prefix + key, entry if isinstance(entry, (int, float)) and not isinstance(entry, bool) else str(entry))
            )
    return rows


def looks_around(model: bytes, runtime: Runtime, name: str) -> bool:
    """Whether a model takes groups of neighbours; a LiteRT model, which sees one station at a time, never does. Raises
    BundleError: ONNX Runtime cannot load it; `name` is told."""
    return runtime == ONNX and station_task.GROUP.name in [t.name for t in open_model(model, name=name).get_inputs()]


def _golden_inputs(run: Path, group: bool) -> dict[str, Array]:
    """Inputs of the golden samples, with or without a group."""
    path = run / "golden_inputs.npz"
    try:
        found = _unpacked(path.read_bytes()) if path.exists() else golden_inputs()
    except (ValueError, OSError, zipfile.BadZipFile) as error:
        raise DataError(f"{path} cannot be read: {error}") from error
    alone = {station_task.GROUP.name: np.arange(len(found["origin"]), dtype=np.int64)}
    names = [tensor.name for tensor in (*station_task.INPUTS, *([station_task.GROUP] if group else []))]
    return {name: value for name, value in (alone | found).items() if name in names}


def _unpacked(raw: bytes) -> dict[str, Array]:
    with np.load(io.BytesIO(raw), allow_pickle=False) as archive:
        return {name: archive[name] for name in archive.files}


def _bytes(path: Path, remedy: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}: {remedy}") from error
