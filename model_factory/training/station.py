"""Training the station model, in reading order: settings, data, loop, checkpoint, export. Seeded and resumable.

Runs on torch 2.11 and newer, on a CPU or one GPU; the same file made the bundle that ships. All chance is the CPU's:
both draw the same samples, the same noise and the same batches; what differs is rounding, and what grows from it.
"""

from __future__ import annotations

import json
import logging
import pickle
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import torch
from torch import Tensor, nn

from edge_agent import __version__
from edge_agent.errors import ConfigError, DataError
from edge_agent.grid import GRID_VARIABLES
from model_factory.models.front import LEADS, SCALE_LEADS, Framed, Front, interpolation
from model_factory.models.station import SIZES, Core, Size, StationModel
from model_factory.training.augment import augment
from model_factory.training.data import Corpus, load_series, station_files
from model_factory.training.loss import station_loss
from model_factory.training.mix import mix

log = logging.getLogger(__name__)

DRAWN_AT_ONCE = 500
FRAMED_AT_ONCE = {"cpu": 50, "cuda": 500}  # what a cache holds; what fills a GPU
LENGTHS = {"brief": 200, "long": 800}  # steps of the two runs that a network is made of
TRAINED = "name a folder that `model-factory train station` wrote, or train again"
JOURNAL_EVERY = 20
CHECKPOINT_EVERY = 50
CALIBRATION = 255
CALIBRATION_SEED = 1
ALIKE = 1e-3  # of a feature's width: so far rounding may move what features are standardized by


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything that decides a run."""

    steps: int = 200
    batch: int = 1024
    samples: int = 300_000  # windows drawn, broken and framed once, before the loop
    rate: float = 2e-3
    weight_decay: float = 0.5
    average: float = 0.995  # of the weights, per step
    seed: int = 0
    test_fraction: float = 0.2
    hold_out: tuple[str, ...] = ()
    size: Size = field(default_factory=Size)


class Config(msgspec.Struct):
    """Of config.json what an export needs."""

    settings: Settings


@dataclass(slots=True)
class Bank:
    """Windows already through `Front`, which has no weights, so that the loop only pays for the network. Rows: features
    [N, F], base and scale [N, L, C], day [N, L], bright [N], target [N, L, 8], network [N]: its index in `networks`."""

    features: Tensor
    base: Tensor
    scale: Tensor
    day: Tensor
    bright: Tensor
    target: Tensor
    network: Tensor
    networks: list[str]

    def without(self, hold_out: tuple[str, ...]) -> Bank:
        """The rows of the other networks, in their shares."""
        if not set(hold_out) & set(self.networks):
            return self
        gone = torch.tensor(
            [self.networks.index(n) for n in hold_out if n in self.networks], device=self.network.device
        )
        keep = ~torch.isin(self.network, gone)
        return Bank.of([rows[keep] for rows in self.columns()], self.networks)

    @classmethod
    def of(cls, columns: Sequence[Tensor], networks: list[str]) -> Bank:
        """The inverse of `columns`."""
        features, base, scale, day, bright, target, network = columns
        return cls(features, base, scale, day, bright, target, network, networks)

    def columns(self) -> tuple[Tensor, ...]:
        """All tensors, in the order of the constructor."""
        return self.features, self.base, self.scale, self.day, self.bright, self.target, self.network

    def rows(self, index: Tensor) -> tuple[Framed, Tensor]:
        """The chosen rows, as a batch."""
        base = self.base[index]
        nothing = base[:, 0, 0]  # the loss needs neither now nor the rain's mean
        framed = Framed(
            self.features[index].float(), base, self.scale[index], nothing, nothing, self.day[index], self.bright[index]
        )
        return framed, self.target[index]


@dataclass(slots=True)
class State:
    """What a checkpoint holds."""

    model: StationModel
    averaged: StationModel
    optimizer: torch.optim.Optimizer
    schedule: torch.optim.lr_scheduler.LRScheduler
    generator: torch.Generator
    step: int = 0


def train_command(
    data: Path,
    out: Path,
    hold_out: tuple[str, ...],
    test_fraction: float,
    seed: int,
    steps: int | None,
    samples: int | None,
    device: str,
    resume: bool,
    export: bool,
    bank: Path | None,
    size: str,
) -> None:
    """`model-factory train station`: see its help."""
    if not 0.0 <= test_fraction < 1.0:
        raise ConfigError(f"--test-fraction {test_fraction}: give a part from 0 (train on all) to below 1")
    usual = Settings(seed=seed, test_fraction=test_fraction, hold_out=hold_out, size=SIZES[size])
    settings = replace(usual, samples=samples or usual.samples)
    parts = {out / name: count for name, count in LENGTHS.items()}
    lengths = {out: steps} if steps else parts
    where = torch.device(
        "cuda" if device == "auto" and torch.cuda.is_available() else "cpu" if device == "auto" else device
    )
    for folder in (out, *parts):
        if (folder / "checkpoint.pt").exists():
            if not resume:
                raise ConfigError(f"{out} holds a run already: add --resume to go on with it, or choose another folder")
            if folder not in lengths:
                raise ConfigError(
                    f"{folder} holds a run with{'out' if steps else ''} --steps: go on with it as it began"
                )
    rows = ready_bank(data, settings, where, bank).without(hold_out)
    for folder, count in lengths.items():
        one = replace(settings, steps=count)
        folder.mkdir(parents=True, exist_ok=True)
        write_run(train(rows, one, folder, where).averaged, one, data, folder, where)
    if not steps:
        mix(list(lengths), out)
    if export:
        export_command(out, data)


def export_command(run: Path, data: Path) -> None:
    """`model-factory export`: see its help.

    Raises:
        DataError: RUN has no config.json or weights.pt as training writes them, or DATA cannot be read.
    """
    load_model(run)  # before minutes of reading
    export_run(run, read_corpus(data, read_settings(run), torch.device("cpu")))


def read_corpus(data: Path, settings: Settings, device: torch.device) -> Corpus:
    """All series to train on, with a progress bar."""
    from rich.progress import track

    files = station_files(data, settings.hold_out)
    return Corpus([s for f in track(files, "reading stations") for s in load_series(f, settings.test_fraction)], device)


def train(bank: Bank, settings: Settings, out: Path, device: torch.device) -> State:
    """Run the loop to its end from the newest checkpoint in `out`, or from the start."""
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    state = begin(bank, settings, device)
    if (out / "checkpoint.pt").exists():
        load_checkpoint(state, settings, out, device)
    prior = usual_scales(state.model)
    columns = (
        TextColumn("training"),
        BarColumn(),
        TextColumn("{task.completed}/{task.total} loss {task.fields[loss]}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns) as progress, (out / "log.jsonl").open("a") as journal:
        task = progress.add_task("", total=settings.steps, completed=state.step, loss="-")
        while state.step < settings.steps:
            losses = one_step(state, bank, settings, prior)
            if state.step % JOURNAL_EVERY == 0 or state.step == settings.steps:
                row = {
                    "step": state.step,
                    "time": round(time.time(), 1),
                    **{k: round(float(v), 5) for k, v in losses.items()},
                }
                journal.write(json.dumps(row) + "\n")
                journal.flush()
                progress.update(task, loss=f"{sum(map(float, losses.values())):.4f}")
            progress.update(task, completed=state.step)
            if state.step % CHECKPOINT_EVERY == 0 or state.step == settings.steps:
                save_checkpoint(state, settings, out)
    return state


def fill_bank(corpus: Corpus, settings: Settings, device: torch.device) -> Bank:
    """Draw, break and frame the samples of a run; the same seed gives the same bank."""
    from rich.progress import track

    generator = torch.Generator().manual_seed(settings.seed)
    front = Front().to(device)
    parts: list[tuple[Tensor, ...]] = []
    with torch.no_grad():
        for _ in track(range(max(settings.samples // DRAWN_AT_ONCE, 1)), "framing samples"):
            drawn = corpus.draw(DRAWN_AT_ONCE, generator)
            history, site, target = augment(drawn.history, drawn.site, drawn.target, generator)
            whole = history, site, drawn.origin, drawn.group, target, drawn.network
            for *inputs, came, network in zip(*(x.split(FRAMED_AT_ONCE[device.type]) for x in whole), strict=True):
                framed = front(*inputs)
                parts.append(
                    (framed.features.half(), framed.base, framed.scale, framed.day, framed.bright, came, network)
                )
    return Bank.of([torch.cat(column) for column in zip(*parts, strict=True)], corpus.networks)


def ready_bank(data: Path, settings: Settings, device: torch.device, path: Path | None) -> Bank:
    """The samples of all networks: from the file, else framed now and kept there.

    Raises:
        ConfigError: the file was made with other settings.
    """
    key = {
        "samples": settings.samples,
        "seed": settings.seed,
        "test_fraction": settings.test_fraction,
        "features": Front().count,
        "chance": "of the processor",
        "files": [f"{f.network}/{f.station} {f.path.stat().st_size}" for f in station_files(data)],
    }
    if path is not None and path.exists():
        held = torch.load(path, map_location=device, weights_only=True)
        if held["key"] != key:
            differ = [name for name in key if held["key"].get(name) != key[name]]
            raise ConfigError(f"{path} was made from other {', '.join(differ)}: name another file")
        return Bank.of(held["columns"], held["networks"])
    bank = fill_bank(read_corpus(data, replace(settings, hold_out=()), device), settings, device)
    if path is not None:
        torch.save({"key": key, "columns": list(bank.columns()), "networks": bank.networks}, path)
    return bank


def begin(bank: Bank, settings: Settings, device: torch.device) -> State:
    """A fresh model with its inputs standardized on what it will see."""
    torch.manual_seed(settings.seed)
    model = StationModel(settings.size).to(device)
    some = bank.features[:8192].float()
    model.core.center.copy_(some.mean(0))
    model.core.width.copy_(some.std(0).clamp(min=0.1))
    averaged = StationModel(settings.size).to(device)
    averaged.load_state_dict(model.state_dict())
    averaged.eval()
    decayed = [p for p in model.parameters() if p.ndim > 1]
    others = [p for p in model.parameters() if p.ndim <= 1]
    groups = [{"params": decayed, "weight_decay": settings.weight_decay}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=settings.rate)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, settings.rate, total_steps=settings.steps + 1, pct_start=0.15
    )
    return State(model, averaged, optimizer, schedule, torch.Generator().manual_seed(settings.seed))


def one_step(state: State, bank: Bank, settings: Settings, prior: Tensor) -> dict[str, Tensor]:
    """Forecast a batch, learn from what came; returns the loss's parts."""
    count = len(bank.features)
    index = torch.randint(count, (settings.batch,), generator=state.generator)
    framed, target = bank.rows(index.to(bank.features.device))
    state.model.train()
    losses = ensemble_loss(state.model.core, framed, target, prior)
    state.optimizer.zero_grad(set_to_none=True)
    torch.stack(list(losses.values())).sum().backward()
    for part in state.model.core.learners():
        nn.utils.clip_grad_norm_(part.parameters(), 1.0)
    state.optimizer.step()
    state.schedule.step()
    state.step += 1
    keep = min(settings.average, 1.0 - 10.0 / (state.step + 10.0))
    with torch.no_grad():
        for slow, fast in zip(state.averaged.parameters(), state.model.parameters(), strict=True):
            slow.lerp_(fast, 1.0 - keep)
    return {name: part.detach() for name, part in losses.items()}


def usual_scales(model: StationModel) -> Tensor:
    """The base's usual errors over all stations, [L, C]."""
    return (model.front.prior.T @ interpolation(SCALE_LEADS, LEADS).to(model.front.prior.device)).T


def ensemble_loss(core: Core, framed: Framed, target: Tensor, prior: Tensor) -> dict[str, Tensor]:
    """Each member learns by itself, on inputs with a noise of its own, so that errors differ and the average gains; the
    parts are sums over members. Noise is drawn on the CPU, so that a GPU draws the same."""
    x = core.standardize(framed.features)
    each = []
    for member in core.members:
        noisy = x + core.noise * torch.randn(x.shape).to(x.device)
        each.append(station_loss(framed, core.said(member(noisy), noisy), target, prior))
    return {name: torch.stack([losses[name] for losses in each]).sum() for name in each[0]}


def save_checkpoint(state: State, settings: Settings, out: Path) -> None:
    """Everything needed to go on, written beside and moved into place."""
    held = {
        "settings": asdict(settings),
        "step": state.step,
        "model": state.model.state_dict(),
        "averaged": state.averaged.state_dict(),
        "optimizer": state.optimizer.state_dict(),
        "schedule": state.schedule.state_dict(),
        "generator": state.generator.get_state(),
        "random": torch.get_rng_state(),
    }
    torch.save(held, out / "checkpoint.tmp")
    (out / "checkpoint.tmp").replace(out / "checkpoint.pt")


def load_checkpoint(state: State, settings: Settings, out: Path, device: torch.device) -> None:
    """Continue where the newest checkpoint stopped.

    Raises:
        ConfigError: the checkpoint was made with other settings, or from other samples.
    """
    held = torch.load(out / "checkpoint.pt", map_location=device, weights_only=True)
    if held["settings"] != asdict(settings):
        differ = [k for k, v in asdict(settings).items() if held["settings"].get(k) != v]
        raise ConfigError(
            f"{out}/checkpoint.pt was made with other settings ({', '.join(differ)}): use them, or another folder"
        )
    for name, value in (("core.center", state.model.core.center), ("core.width", state.model.core.width)):
        if float(((held["model"][name] - value).abs() / state.model.core.width).max()) > ALIKE:
            raise ConfigError(
                f"{out}/checkpoint.pt was made from other samples: has DATA changed? Choose another folder"
            )
    state.model.load_state_dict(held["model"])
    state.averaged.load_state_dict(held["averaged"])
    state.optimizer.load_state_dict(held["optimizer"])
    state.schedule.load_state_dict(held["schedule"])
    state.generator.set_state(held["generator"].cpu())
    torch.set_rng_state(held["random"].cpu())
    state.step = held["step"]


def write_run(model: StationModel, settings: Settings, data: Path, out: Path, device: torch.device) -> None:
    """weights.pt and config.json: the model, and how it came about."""
    torch.save(model.state_dict(), out / "weights.pt")
    networks = sorted({file.network for file in station_files(data, settings.hold_out)})
    config: dict[str, Any] = {
        "task": "station",
        "settings": asdict(settings),
        "test_fraction": settings.test_fraction,
        "hold_out": list(settings.hold_out),
        "networks": [json.loads((data / n / "network.json").read_text()) | {"network": n} for n in networks],
        "presentations": settings.steps * settings.batch,
        "parameters": sum(p.numel() for p in model.parameters()),
        "software": {"stationcast": __version__, "torch": torch.__version__},
        "device": torch.cuda.get_device_name() if device.type == "cuda" else "cpu",
    }
    (out / "config.json").write_text(json.dumps(config, indent=2) + "\n")


def export_run(run: Path, corpus: Corpus) -> None:
    """model_fp32.onnx, and calibration.npz: inputs from the training part, unbroken, to calibrate and to test with."""
    generator = torch.Generator().manual_seed(CALIBRATION_SEED)
    drawn = corpus.draw(CALIBRATION, generator)
    inputs = {name: getattr(drawn, name).cpu().numpy() for name in ("history", "site", "origin", "group")}
    np.savez_compressed(run / "calibration.npz", **inputs)
    export_onnx(load_model(run), run / "model_fp32.onnx")


def read_settings(run: Path) -> Settings:
    """The settings in a run's config.json. Raises DataError: it is not there, or not as training writes it."""
    path = run / "config.json"
    try:
        return msgspec.json.decode(path.read_bytes(), type=Config).settings
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}: {TRAINED}") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: not the config.json of a run ({error}): {TRAINED}") from error


def load_model(run: Path) -> StationModel:
    """The trained model of a run's folder, ready to forecast. Raises DataError: no weights that fit its settings."""
    model, path = StationModel(read_settings(run).size), run / "weights.pt"
    try:
        model.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    except OSError as error:
        raise DataError(f"{path}: {error.strerror or error}: {TRAINED}") from error
    except (RuntimeError, ValueError, TypeError, EOFError, pickle.UnpicklingError) as error:
        why = str(error).strip().splitlines()[:1] or [type(error).__name__]
        raise DataError(f"{path}: not the weights of this run ({why[0][:200]}): {TRAINED}") from error
    return model.eval()


def export_onnx(model: StationModel, path: Path) -> None:
    """The whole model as one ONNX graph with a free number of stations."""
    model = model.cpu().eval()
    history = torch.randn(2, model.front.kernel.shape[0] * 30, len(GRID_VARIABLES)).abs()
    site = torch.tensor([[47.0, 8.0, 400.0, float("nan")]] * 2)
    origin = torch.tensor([1_500_000_000, 1_600_000_200])
    group = torch.tensor([0, 1])
    stations = torch.export.Dim("S", min=1, max=65_536)
    program = torch.onnx.export(
        model,
        (history, site, origin, group),
        dynamo=True,
        opset_version=18,
        input_names=["history", "site", "origin", "group"],
        output_names=["mean", "quantiles", "wind_uv", "probability"],
        dynamic_shapes=({0: stations},) * 4,
        external_data=False,
        verbose=False,
    )
    assert program is not None
    program.save(str(path), external_data=False)
