"""`model-factory evaluate`: a run's models on the part of each series that no training saw, beside the baselines.

Networks that the run held out are scored under `leave-one-network-out`, the others under the setting given. Nothing is
tuned here, and nothing here is ever trained on.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from operator import itemgetter
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from edge_agent.bundle.manifest import SkillRow
from edge_agent.bundle.station_task import OUTPUT_VARIABLES
from edge_agent.console import keep_inputs
from edge_agent.errors import ConfigError, DataError
from edge_agent.forecast import LEADS_S
from edge_agent.forecast.groups import REACH_KM
from edge_agent.forecast.hindcast import parse_every
from edge_agent.network import SAME_PLACE_KM
from edge_agent.quality.spatial import distance_km
from model_factory.run_files import run_files
from model_factory.training.data import StationFile, station_files
from model_factory.verification.adapted import adapted_forecasts
from model_factory.verification.baselines import TARGETS, TREE_TARGETS, Regressions, cached_regressions
from model_factory.verification.distributions import station_pairs
from model_factory.verification.features import LEAD_STEPS, base_forecasts
from model_factory.verification.issued import read_issued
from model_factory.verification.models import Model, forecasts, onnx_model
from model_factory.verification.paired import Pairs, joined, save
from model_factory.verification.pairs import Index, Record, held_out_origins, load_record, observed
from model_factory.verification.pooled import at_origins, pooled_forecasts
from model_factory.verification.scoring import (
    ANOMALY,
    FOUNDATION,
    FP32,
    HELD_OUT,
    LIGHTGBM,
    LIGHTGBM_ALL,
    MODEL,
    PERSISTENCE,
    RIDGE,
    Sums,
)
from model_factory.verification.zero_shot import zero_shot_forecasts

CACHE = ".baselines"  # below DATA: they depend on the data alone
CHUNK = 256

Rows = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Plan:
    """What is scored: the stations, the part of each that is kept out, and how far apart the origins lie.

    `issued`: a folder with <network>/<station>.csv, forecasts to score in place of a model's. `all_stations`,
    `zero_shot`: further comparisons, in pairs alone. `neighbours`: so many of the nearest stations of its network, at
    most, does a model see beside a station. `adapt`: as a station gets it, having learned from the whole record or,
    with `adapt_days`, from so many days before the part that is scored.
    """

    files: list[StationFile]
    test_fraction: float
    hold_out: tuple[str, ...]
    setting: str
    every_s: int
    cache: Path | None
    pairs: bool = False
    issued: Path | None = None
    all_stations: bool = False
    zero_shot: bool = False
    neighbours: int = 0
    adapt: bool = False
    adapt_days: int | None = None

    def setting_of(self, network: str) -> str:
        """What a network's rows are called."""
        seen = HELD_OUT if network in self.hold_out else self.setting
        begins = f" from {self.adapt_days} days before" if self.adapt_days else ""
        return seen + (" with neighbours" if self.neighbours else "") + (", adapted" + begins if self.adapt else "")

    def around(self, one: Record) -> list[Record]:
        """The neighbours that a model sees beside a station, nearest first."""
        here = float(one.site[0]), float(one.site[1])
        others = [file for file in self.files if file.network == one.network]
        apart = [(distance_km(here, (file.latitude, file.longitude)), file) for file in others]
        near = sorted((each for each in apart if SAME_PLACE_KM < each[0] <= REACH_KM), key=itemgetter(0))
        return [_neighbour(file, self.test_fraction) for _, file in near[: self.neighbours]]


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
    forecasts: Path | None = None,
    all_stations: bool = False,
    zero_shot: bool = False,
    neighbours: int = 0,
    adapt: bool = False,
    adapt_days: int | None = None,
) -> None:
    """Score RUN's models and write RUN/skill.json; rows of the same setting and network are replaced. With `pairs` or
    `html` the pairs themselves go to RUN/pairs/ and, as a report for people, to `html`. With `forecasts`, what lies
    there is scored in place of the models, and skill and pairs go there.

    Raises:
        DataError: no model in RUN, an unknown network, or nothing to score.
        ConfigError: RUN has no readable config.json, or kept nothing out of training; `every` is not a span; or `plot`
            or `html` is a file of RUN or `forecasts`.
    """
    from model_factory.verification.report import draw, show, show_aims

    for option, written in (("--plot", plot), ("--html", html)):
        keep_inputs(option, written, *run_files(run), *run_files(forecasts))
    leading = precision or ("int8" if _there(run, "int8") else "fp32")
    models = {name: onnx_model(run / f"model_{name}.onnx") for name in (leading, "fp32") if _there(run, name)}
    if leading not in models:
        raise DataError(f"{run}: no model_{leading}.onnx; run `model-factory train station` or `quantize` first")
    fraction, hold_out = _run_settings(run)
    if not fraction:
        raise ConfigError(
            f"{run} learned from whole records, and nothing is left to score it on: evaluate its proof, a run with"
            " --test-fraction 0.2 and all else alike"
        )
    cache = data / CACHE if baselines else None
    plan = Plan(
        chosen_files(data, network), fraction, hold_out, setting, parse_every(every), cache, pairs or html is not None,
        forecasts, all_stations, zero_shot, neighbours, adapt or adapt_days is not None, adapt_days,
    )  # fmt: skip
    if (all_stations or zero_shot) and plan.cache is None:
        raise ConfigError("--all-stations and --zero-shot are baselines: leave out --no-baselines")
    done = evaluate(models, plan, chosen_files(data, ()) if all_stations else [])
    if not done.rows:
        raise DataError(f"nothing to score: {'; '.join(done.left_out) or 'no pairs of forecast and reading'}")
    out = forecasts or run
    merge_skill(out / skill_file(leading), done.rows)
    show(done.rows, done.left_out)
    show_aims(done.pairs)
    for network_pairs in done.pairs.values():
        save(network_pairs, out)
    if plot is not None:
        draw(done.rows, plot)
    if html is not None:
        from model_factory.verification.html import write_report

        write_report(html, done, out.name)


def evaluate(models: dict[str, Model], plan: Plan, shared: Sequence[StationFile] = ()) -> Evaluated:
    """Score models: the first leads, `fp32` stands beside it where it is there. `shared`: the stations that LightGBM on
    all of them is grown from."""
    from rich.progress import Progress

    pooled: dict[tuple[str, str], Rows] = {}
    sums: dict[str, Sums] = defaultdict(Sums)
    left_out: list[str] = []
    kept: dict[str, list[Pairs]] = defaultdict(list)
    with Progress(transient=True) as progress:
        stations = progress.add_task("stations", total=len(plan.files))
        leads = progress.add_task("baselines", total=len(LEAD_STEPS), visible=False)
        if shared and plan.cache is not None:
            progress.update(leads, visible=True)
            pooled = pooled_forecasts(
                shared, plan.hold_out, plan.test_fraction, plan.cache, lambda: progress.advance(leads)
            )
        for file in plan.files:
            progress.update(stations, description=f"{file.network} {file.station}")
            progress.reset(leads, visible=plan.cache is not None)
            why = _add_station(
                sums[file.network], kept[file.network], models, plan, file,
                pooled.get((file.network, file.station)), lambda: progress.advance(leads),
            )  # fmt: skip
            if why:
                left_out.append(f"{file.network} {file.station}: {why}")
            progress.advance(stations)
    rows = [row for name, total in sums.items() for row in total.rows(plan.setting_of(name), name)]
    return Evaluated(rows, left_out, {name: joined(parts) for name, parts in kept.items() if parts})


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
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
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
    pooled: Rows | None,
    tick: Callable[[], None],
) -> str | None:
    """Add a station's pairs to its network's; why not, where there are none to add."""
    if plan.issued is not None and not (plan.issued / file.network / file.path.name).exists():
        return f"no forecasts in {plan.issued}"
    one = load_record(file, plan.test_fraction)
    at = held_out_origins(one, plan.every_s)
    if not len(at):
        return "no origin in the part kept out"
    beside = plan.around(one) if plan.neighbours else []
    if plan.neighbours and not beside:
        return f"no neighbour within {REACH_KM:g} km"
    at, means, quantiles, probability, before = _answers(models, plan, one, at, beside)
    if not len(at):
        return "no forecast of the part kept out"
    own: Regressions | None = None
    if plan.cache is not None:
        own = cached_regressions(one, at, plan.cache, tick)
        if own is None:
            return "too few readings to train ridge and LightGBM on"
    means |= {PERSISTENCE: base_forecasts(one, at, cycle=False), ANOMALY: base_forecasts(one, at, cycle=True)}
    asked = {}
    if own is not None:
        means |= {RIDGE: _at_leads(own.ridge), LIGHTGBM: _at_leads(own.lightgbm)}
        asked = {RIDGE: _cells((*TARGETS, "wind_direction")), LIGHTGBM: _cells(TREE_TARGETS)}
    came = observed(one, at)
    total.add(came, means, quantiles, asked, before)
    if plan.pairs:
        if pooled is not None:
            means[LIGHTGBM_ALL] = _at_leads(at_origins(pooled, one, at))
        if plan.zero_shot and plan.cache is not None:
            means[FOUNDATION] = _at_leads(zero_shot_forecasts(one, at, plan.cache))
        pairs = station_pairs(one, at, plan.setting_of(file.network), came, means, quantiles, probability)
        kept.append(replace(pairs, precision=next(iter(models))))
    return None


def _answers(
    models: dict[str, Model], plan: Plan, one: Record, at: Index, beside: Sequence[Record]
) -> tuple[Index, dict[str, Rows], Rows, Rows, Rows | None]:
    """The origins that there are forecasts from; the means by source, the quantiles and probabilities of the leading
    one, and the quantiles before quantization."""
    if plan.issued is not None:
        at, mean, quantiles, probability = read_issued(plan.issued / one.network / f"{one.station}.csv", one, at)
        return at, {MODEL: mean}, quantiles, probability, None
    leading, *others = models
    if plan.adapt:  # alone: what rounding costs is told where neither is adapted
        mean, quantiles, probability = adapted_forecasts(models[leading], one, at, beside, plan.adapt_days)
        return at, {MODEL: mean}, quantiles, probability, None
    mean, quantiles, probability = forecasts(models[leading], one, at, beside)
    means, before = {MODEL: mean}, quantiles if leading == FP32 else None
    if others:
        means[FP32], before, _ = forecasts(models[FP32], one, at, beside)
    elif leading == FP32:
        means[FP32] = mean
    return at, means, quantiles, probability, before


@lru_cache(maxsize=32)
def _neighbour(file: StationFile, test_fraction: float) -> Record:
    """A station's series, kept while the next stations ask for it too."""
    return load_record(file, test_fraction)


def _at_leads(values: Rows) -> Rows:
    """[O, K, 8] at the regressions' leads as [O, 24, 8], NaN between."""
    out = np.full((len(values), len(LEADS_S), len(OUTPUT_VARIABLES)), np.nan, np.float32)
    out[:, np.array(LEAD_STEPS) - 1] = values
    return out


def _cells(names: tuple[str, ...]) -> NDArray[np.bool_]:
    """[24, 8]: the cells that a regression of these variables answers for."""
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
