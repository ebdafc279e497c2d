"""`model-factory evaluate`: a run's models on the part of each series that no training saw, beside the baselines.

Networks that the run held out are scored under `leave-one-network-out`, the others under the setting given. Nothing is
tuned here, and nothing here is ever trained on.
"""

from __future__ import annotations

import json
import os
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import msgspec
import numpy as np
from numpy.typing import NDArray

from edge_agent.bundle.manifest import SkillRow
from edge_agent.bundle.station_task import EVENTS, OUTPUT_VARIABLES
from edge_agent.errors import ConfigError, DataError
from edge_agent.forecast import LEADS_S, QUANTILES
from edge_agent.forecast.hindcast import parse_every
from model_factory.training.data import StationFile, station_files
from model_factory.verification.adapted import adapted_forecasts
from model_factory.verification.baselines import TARGETS, TREE_TARGETS, Regressions, cached_regressions
from model_factory.verification.distributions import station_pairs
from model_factory.verification.features import LEAD_STEPS, base_forecasts
from model_factory.verification.paired import Pairs, joined, save
from model_factory.verification.pairs import Index, Record, held_out_origins, load_record, observed, windows
from model_factory.verification.scoring import ANOMALY, FP32, LIGHTGBM, MODEL, PERSISTENCE, RIDGE, Sums

HELD_OUT = "leave-one-network-out"
CACHE = ".baselines"  # below DATA: they depend on the data alone
CHUNK = 256

Rows = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Plan:
    """What is scored: the stations, the part of each that is kept out, and how far apart the origins lie."""

    files: list[StationFile]
    test_fraction: float
    hold_out: tuple[str, ...]
    setting: str
    every_s: int
    cache: Path | None
    pairs: bool = False
    adapt: bool = False

    def setting_of(self, network: str) -> str:
        """What a network's rows are called."""
        setting = HELD_OUT if network in self.hold_out else self.setting
        return f"{setting}, adapted" if self.adapt else setting


class Model(Protocol):
    """Windows [S, 8, 2880], site [4], origins [S], UTC s -> mean [S, 24, 7], quantiles [S, 24, 7, 11], probability of
    events [S, 24, E]."""

    def __call__(self, history: Rows, site: Rows, origin: Index) -> tuple[Rows, Rows, Rows]: ...


@dataclass(frozen=True, slots=True)
class Evaluated:
    """The skill rows; which stations were left out and why; the pairs of each network, where they were asked for."""

    rows: list[SkillRow]
    left_out: list[str]
    pairs: dict[str, Pairs]


def evaluate_command(
    run: Path,
    data: Path,
    network: Sequence[str],
    setting: str,
    baselines: bool,
    every: str,
    plot: Path | None,
    html: Path | None = None,
    pairs: bool = False,
    precision: str | None = None,
    adapt: bool = False,
) -> None:
    """Score RUN's models and write RUN/skill.json; rows of the same setting and network are replaced. With `pairs` or
    `html` the pairs themselves go to RUN/pairs/ and, as a report for people, to `html`.

    Raises:
        DataError: no model in RUN, an unknown network, or nothing to score.
        ConfigError: RUN has no readable config.json, or `every` is not a span.
    """
    from model_factory.verification.report import draw, show

    leading = precision or ("int8" if _there(run, "int8") else "fp32")
    models = {name: onnx_model(run / f"model_{name}.onnx") for name in (leading, "fp32") if _there(run, name)}
    if leading not in models:
        raise DataError(f"{run}: no model_{leading}.onnx; run `model-factory train station` or `quantize` first")
    settings = _run_settings(run)
    cache = data / CACHE if baselines else None
    files = chosen_files(data, network)
    plan = Plan(files, *settings, setting, parse_every(every), cache, pairs or html is not None, adapt)
    done = evaluate(models, plan)
    if not done.rows:
        raise DataError(f"nothing to score: {'; '.join(done.left_out) or 'no pairs of forecast and reading'}")
    merge_skill(run / skill_file(leading), done.rows)
    show(done.rows, done.left_out)
    for network_pairs in done.pairs.values():
        save(network_pairs, run)
    if plot is not None:
        draw(done.rows, plot)
    if html is not None:
        from model_factory.verification.html import write_report

        write_report(html, done, run.name)


def evaluate(models: dict[str, Model], plan: Plan) -> Evaluated:
    """Score models: the first leads, `fp32` stands beside it where it is there."""
    from rich.progress import Progress

    sums: dict[str, Sums] = defaultdict(Sums)
    left_out: list[str] = []
    kept: dict[str, list[Pairs]] = defaultdict(list)
    with Progress(transient=True) as progress:
        stations = progress.add_task("stations", total=len(plan.files))
        leads = progress.add_task("baselines", total=len(LEAD_STEPS), visible=False)
        for file in plan.files:
            progress.update(stations, description=f"{file.network} {file.station}")
            progress.reset(leads, visible=plan.cache is not None)
            why = _add_station(
                sums[file.network], kept[file.network], models, plan, file, lambda: progress.advance(leads)
            )
            if why:
                left_out.append(f"{file.network} {file.station}: {why}")
            progress.advance(stations)
    rows = [row for name, total in sums.items() for row in total.rows(plan.setting_of(name), name)]
    return Evaluated(rows, left_out, {name: joined(parts) for name, parts in kept.items() if parts})


def forecasts(model: Model, one: Record, at: Index) -> tuple[Rows, Rows, Rows]:
    """A model's mean [O, 24, 7], quantiles [O, 24, 7, 11] and probability [O, 24, E] from the origins `at`, in chunks
    of 256."""
    mean = np.empty((len(at), len(LEADS_S), len(OUTPUT_VARIABLES)), np.float32)
    quantiles = np.empty((*mean.shape, len(QUANTILES)), np.float32)
    probability = np.empty((len(at), len(LEADS_S), len(EVENTS)), np.float32)
    for start in range(0, len(at), CHUNK):
        part = slice(start, start + CHUNK)
        made = model(windows(one, at[part]), one.site, one.steps[at[part]])
        mean[part], quantiles[part], probability[part] = made
    return mean, quantiles, probability


def onnx_model(path: Path) -> Model:
    """An ONNX graph of the station task as a `Model`."""
    import onnxruntime  # type: ignore[import-untyped]

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = os.cpu_count() or 1
    session = onnxruntime.InferenceSession(path.read_bytes(), options, providers=["CPUExecutionProvider"])

    def run(history: Rows, site: Rows, origin: Index) -> tuple[Rows, Rows, Rows]:
        inputs = {
            "history": np.ascontiguousarray(history.transpose(0, 2, 1)),
            "site": np.tile(site, (len(origin), 1)),
            "origin": origin,
        }
        mean, quantiles, probability = session.run(["mean", "quantiles", "probability"], inputs)
        return np.asarray(mean), np.asarray(quantiles), np.asarray(probability)

    return run


def chosen_files(data: Path, networks: Sequence[str]) -> list[StationFile]:
    """Stations of the networks named; of all but reanalyses where none is.

    Raises:
        DataError: a network that is not there.
    """
    files = station_files(data)
    known = {file.network for file in files}
    unknown = [name for name in networks if name not in known]
    if unknown:
        raise DataError(f"{data}: no network {', '.join(unknown)} (there are: {', '.join(sorted(known))})")
    wanted = set(networks) or {name for name in known if not _reanalysis(data / name)}
    return [file for file in files if file.network in wanted]


def skill_file(precision: str) -> str:
    """Where a run keeps its skill rows: those of INT4 apart, a bundle of the one must not show the other's."""
    return "skill_int4.json" if precision == "int4" else "skill.json"


def merge_skill(path: Path, rows: list[SkillRow]) -> None:
    """Write skill.json: the rows that are there, less those of the same setting and network, and the new ones."""
    fresh = {(row.setting, row.network) for row in rows}
    try:
        held = msgspec.json.decode(path.read_bytes(), type=list[SkillRow]) if path.exists() else []
    except msgspec.DecodeError as error:
        raise DataError(f"{path}: not a list of skill rows ({error}); move it away and evaluate again") from error
    kept = [row for row in held if (row.setting, row.network) not in fresh]
    lines = ",\n".join(msgspec.json.encode(row).decode() for row in [*kept, *rows])
    part = path.with_suffix(".part")
    part.write_text(f"[\n{lines}\n]\n", encoding="utf-8")
    part.replace(path)


def _add_station(
    total: Sums,
    kept: list[Pairs],
    models: dict[str, Model],
    plan: Plan,
    file: StationFile,
    tick: Callable[[], None],
) -> str | None:
    """Add a station's pairs to its network's; why not, where there are none to add."""
    one = load_record(file, plan.test_fraction)
    at = held_out_origins(one, plan.every_s)
    if not len(at):
        return "no origin in the part kept out"
    own: Regressions | None = None
    if plan.cache is not None:
        own = cached_regressions(one, at, plan.cache, tick)
        if own is None:
            return "too few readings to train ridge and LightGBM on"
    leading, *others = models
    made = adapted_forecasts if plan.adapt else forecasts
    mean, quantiles, probability = made(models[leading], one, at)
    means = {MODEL: mean}
    before = quantiles if leading == FP32 else None
    if others:
        means[FP32], before, _ = forecasts(models[FP32], one, at)
    elif leading == FP32:
        means[FP32] = mean
    means |= {PERSISTENCE: base_forecasts(one, at, cycle=False), ANOMALY: base_forecasts(one, at, cycle=True)}
    asked = {}
    if own is not None:
        means |= {RIDGE: _at_leads(own.ridge), LIGHTGBM: _at_leads(own.lightgbm)}
        asked = {RIDGE: _cells((*TARGETS, "wind_direction")), LIGHTGBM: _cells(TREE_TARGETS)}
    came = observed(one, at)
    total.add(came, means, quantiles, asked, before)
    if plan.pairs:
        pairs = station_pairs(one, at, plan.setting_of(file.network), came, means, quantiles, probability)
        kept.append(replace(pairs, precision=leading))
    return None


def _at_leads(values: Rows) -> Rows:
    """[O, K, 7] at the regressions' leads as [O, 24, 7], NaN between."""
    out = np.full((len(values), len(LEADS_S), len(OUTPUT_VARIABLES)), np.nan, np.float32)
    out[:, np.array(LEAD_STEPS) - 1] = values
    return out


def _cells(names: tuple[str, ...]) -> NDArray[np.bool_]:
    """[24, 7]: the cells that a regression of these variables answers for."""
    out = np.zeros((len(LEADS_S), len(OUTPUT_VARIABLES)), bool)
    for i, name in enumerate(OUTPUT_VARIABLES):
        out[np.array(LEAD_STEPS) - 1, i] = name in names
    return out


def _there(run: Path, name: str) -> bool:
    return (run / f"model_{name}.onnx").exists()


def _run_settings(run: Path) -> tuple[float, tuple[str, ...]]:
    """(test fraction, networks held out) of a run."""
    path = run / "config.json"
    try:
        config: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return float(config["test_fraction"]), tuple(config["hold_out"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(
            f"{path}: cannot tell what was kept out of training ({error!r}); train the run again"
        ) from error


def _reanalysis(folder: Path) -> bool:
    path = folder / "network.json"
    return path.exists() and bool(json.loads(path.read_text(encoding="utf-8")).get("reanalysis", False))
