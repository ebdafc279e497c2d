"""Station series as tensors to train on: every series on the 15-minute grid, with what came at each step.

Splits are by time within each station: nothing after the split enters training, not even as a target.
"""

from __future__ import annotations

import csv
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from edge_agent.bundle.station_task import OUTPUT_VARIABLES
from edge_agent.errors import DataError
from edge_agent.forecast.groups import REACH_KM
from edge_agent.grid import GRID_VARIABLES, HISTORY_STEPS, STEP_S, STEPS_PER_DAY, cadence_s, on_grid, step_of, verifying
from edge_agent.history import History, read_history
from edge_agent.network import SAME_PLACE_KM
from edge_agent.quality.spatial import distance_km
from model_factory.models.front import LEADS

log = logging.getLogger(__name__)

# Share of training samples per network; a network not named here gets the default. Real stations count more than
# reanalysis points, which are smoother than any sensor.
SHARES = {
    "zurich-lake": 0.20,
    "macleish-2015": 0.18,
    "nerrs-apaeb": 0.14,
    "vlinder-2022-09": 0.10,
    "beijing-prsa": 0.15,
    "nyc-airports-2013": 0.07,
}
DEFAULT_SHARE = 0.05
TOGETHER = 5  # rows of a batch that belong together: one series, or a station and its neighbours at one time
JOINT = 0.6  # of the groups that have neighbours, so many see them


@dataclass(frozen=True, slots=True)
class StationFile:
    """One station of DATA/<network>/: its place and its CSV."""

    network: str
    station: str
    latitude: float
    longitude: float
    elevation: float
    path: Path


@dataclass(frozen=True, slots=True)
class Series:
    """One station on one phase of the grid: history [T, 8] and target [T, 7] at `steps` [T]; `end`: first step index
    that belongs to the part kept out; `stride`: steps between readings, 1 where they come at least every 15 minutes.
    `steps` begin at a reading."""

    network: str
    site: tuple[float, float, float]
    steps: NDArray[np.int64]
    history: NDArray[np.float32]
    target: NDArray[np.float32]
    end: int
    stride: int


def station_files(data: Path, hold_out: tuple[str, ...] = ()) -> list[StationFile]:
    """All stations below DATA, less the networks held out.

    Raises:
        DataError: no network there, or a stations.csv that names a missing file.
    """
    found = []
    for listing in sorted(data.glob("*/stations.csv")):
        network = listing.parent.name
        if network in hold_out:
            continue
        with listing.open(newline="") as file:
            for row in csv.DictReader(file):
                path = listing.parent / f"{row['station']}.csv"
                if not path.exists():
                    raise DataError(f"{listing}: station {row['station']} has no {path.name}; import the network again")
                latitude, longitude, elevation = (
                    float(row[k] or "nan") for k in ("latitude", "longitude", "elevation")
                )
                found.append(StationFile(network, row["station"], latitude, longitude, elevation, path))
    if not found:
        raise DataError(f"{data}: no <network>/stations.csv below it; run `model-factory import` first")
    return found


def split_time(times: NDArray[np.int64], test_fraction: float) -> int:
    """UTC seconds at which a series' final, kept-out part begins."""
    return int(times[0] + (times[-1] - times[0]) * (1.0 - test_fraction))


def phases_of(history: History) -> tuple[int, ...]:
    """Offsets of the grid from quarter hours worth training on: finer readings can meet it at several."""
    return (0,) if cadence_s(history.times) >= STEP_S else (0, 300, 600)


def load_series(file: StationFile, test_fraction: float) -> Iterator[Series]:
    """A station's series, one per phase of the grid."""
    history = read_history(file.path)
    split = split_time(history.times, test_fraction)
    stride = max(round(cadence_s(history.times) / STEP_S), 1)
    for phase in phases_of(history):
        steps = np.arange(step_of(history.times[:1], phase)[0], history.times[-1] + 1, STEP_S, dtype=np.int64)
        nothing = np.full(len(history.times), np.nan)
        on = [on_grid(history.times, history.values.get(v, nothing), v, steps) for v in GRID_VARIABLES]
        came = [verifying(history.times, history.values.get(v, nothing), v, steps) for v in OUTPUT_VARIABLES]
        if file.network.startswith("era5"):
            _finer_pressure(history, steps, on, came)
        yield Series(
            file.network,
            (file.latitude, file.longitude, file.elevation),
            steps,
            np.stack(on, 1).astype(np.float32),
            np.stack(came, 1).astype(np.float32),
            int(np.searchsorted(steps, split)),
            stride,
        )


def _finer_pressure(
    history: History, steps: NDArray[np.int64], on: list[NDArray[np.float64]], came: list[NDArray[np.float64]]
) -> None:
    """Reanalysis pressure between its hours: smooth enough for a straight line, so that it teaches short leads too."""
    pressure = history.values.get("pressure")
    if pressure is None or np.isnan(pressure).any():
        return
    line = np.interp(steps, history.times, pressure)
    on[GRID_VARIABLES.index("pressure")] = line
    came[OUTPUT_VARIABLES.index("pressure")] = line


@dataclass(frozen=True, slots=True)
class Drawn:
    """A batch: history [B, 2880, 8], site [B, 4], origin [B], group [B], target [B, L, 8], index of the network [B]."""

    history: Tensor
    site: Tensor
    origin: Tensor
    group: Tensor
    target: Tensor
    network: Tensor


class Corpus:
    """Series end to end in two tensors, with windows drawn by share of network; before each lie 30 days of NaN."""

    def __init__(self, series: list[Series], device: torch.device) -> None:
        """Raises DataError when no series is long enough to train on."""
        histories, targets, self.rows = [], [], []
        offset = 0
        for one in series:
            first, last = STEPS_PER_DAY, one.end - LEADS  # targets end before the split
            if last <= first:
                continue
            pad = HISTORY_STEPS
            histories += [np.full((pad, len(GRID_VARIABLES)), np.nan, np.float32), one.history[: one.end]]
            targets += [np.full((pad, len(OUTPUT_VARIABLES)), np.nan, np.float32), one.target[: one.end]]
            self.rows.append((offset + pad, first, last, one))
            offset += pad + one.end
        if not self.rows:
            raise DataError("no series is long enough to train on: more than 30 hours of readings are needed")
        self.history = torch.from_numpy(np.concatenate(histories)).to(device)
        self.target = torch.from_numpy(np.concatenate(targets)).to(device)
        self._prepare(device)

    def _prepare(self, device: torch.device) -> None:
        """Per series: where it starts, its place, and how often it is drawn."""
        length = np.array([last - first for _, first, last, _ in self.rows], float)
        networks = [one.network for *_, one in self.rows]
        self.networks = sorted(set(networks))
        total = {n: sum(le for le, m in zip(length, networks, strict=True) if m == n) for n in set(networks)}
        chance = [SHARES.get(n, DEFAULT_SHARE) * le / total[n] for n, le in zip(networks, length, strict=True)]
        self.chance = torch.tensor(chance, dtype=torch.float64)
        self.start = torch.tensor([at for at, *_ in self.rows], device=device)
        self.first = torch.tensor([first for _, first, _, _ in self.rows], device=device)
        self.span = torch.tensor(length, device=device)
        self.stride = torch.tensor([one.stride for *_, one in self.rows], device=device)
        self.network = torch.tensor([self.networks.index(n) for n in networks], device=device)
        self.site = torch.tensor([one.site for *_, one in self.rows], device=device, dtype=torch.float32)
        self.time = torch.tensor([int(one.steps[0]) for *_, one in self.rows], device=device)
        self.near = self._near().to(device)
        self.window = torch.arange(-HISTORY_STEPS + 1, 1, device=device)
        self.ahead = torch.arange(1, LEADS + 1, device=device)

    def draw(self, count: int, generator: torch.Generator) -> Drawn:
        """A random batch, in groups of `TOGETHER` rows: of one series, or, mostly where it has neighbours, of its
        network at one time. `count` is a multiple of `TOGETHER`. `generator` is one of the CPU on every device, so that
        a GPU draws the same rows.

        Where readings come less often than every step, origins lie on readings: between them a forecast 15 minutes
        ahead would be scored on a value that is up to an hour away from its newest reading.
        """
        device = self.history.device
        seed = torch.multinomial(self.chance, count // TOGETHER, replacement=True, generator=generator).to(device)
        which = seed.repeat_interleave(TOGETHER)
        step = self._random_steps(which, generator)
        row = torch.arange(count, device=device)
        first = row // TOGETHER * TOGETHER
        beside, begin = self._beside(seed, self.time[seed] + step[::TOGETHER] * STEP_S, generator)
        ask = torch.rand(len(seed), generator=generator).to(device) < JOINT
        joint = (beside >= 0) & ask[:, None]
        step = torch.where(joint, begin, step.view_as(joint)).flatten()
        which = torch.where(joint, beside, which.view_as(joint)).flatten()
        at = self.start[which] + step
        window, ahead = at[:, None] + self.window, at[:, None] + self.ahead
        return Drawn(
            self.history[window],
            torch.cat((self.site[which], torch.full((count, 1), torch.nan, device=device)), 1),
            self.time[which] + step * STEP_S,
            torch.where(joint.flatten(), first, row),
            self.target[ahead],
            self.network[which],
        )

    def _random_steps(self, which: Tensor, generator: torch.Generator) -> Tensor:
        """A random origin of each series, as its step."""
        place = torch.rand(len(which), generator=generator, dtype=torch.float64).to(which.device)
        stride = self.stride[which]
        return self.first[which] + (place * self.span[which]).long() // stride * stride

    def _beside(self, seed: Tensor, origin: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Series that were there at the origin of each seed, [G, TOGETHER], the seed first, -1 where there are no more;
        and their step then."""
        order = torch.rand(len(seed), self.near.shape[1], generator=generator).argsort(1).to(seed.device)
        others = self.near[seed].gather(1, order)
        step = (origin[:, None] - self.time[others]) // STEP_S
        there = (others >= 0) & (step >= self.first[others]) & (step < self.first[others] + self.span[others])
        best = there.float().argsort(dim=1, descending=True, stable=True)[:, : TOGETHER - 1]
        others = torch.where(there, others, -1).gather(1, best)
        whole = torch.cat((torch.where(others[:, :1] >= 0, seed[:, None], -1), others), 1)
        return whole, (origin[:, None] - self.time[whole]) // STEP_S

    def _near(self) -> Tensor:
        """[R, N]: for each series the other places of its network within reach and on the same phase, -1 behind."""
        rows = [one for *_, one in self.rows]
        found = [[k for k, b in enumerate(rows) if is_neighbour(a, b)] for a in rows]
        width = max(TOGETHER - 1, *map(len, found))
        return torch.tensor([ks + [-1] * (width - len(ks)) for ks in found])


def is_neighbour(a: Series, b: Series) -> bool:
    """True where two series are of one network, on one phase of the grid, and within reach, but not of one place."""
    aligned = (int(a.steps[0]) - int(b.steps[0])) % (STEP_S * max(a.stride, b.stride)) == 0
    return a.network == b.network and aligned and SAME_PLACE_KM < distance_km(a.site[:2], b.site[:2]) <= REACH_KM
