"""What a bundle costs: measured here, taken up from boards where somebody measured, estimated for the others. The two
never stand in one row, and a row says how its figures came about."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec

from edge_agent.bundle.benchmark import SUFFIX, Benchmark, benchmark
from edge_agent.bundle.manifest import Budget, Device
from edge_agent.errors import ConfigError, DataError

MEASURED = ((1, 1, 100), (4, 1, 100), (1, 64, 10))  # threads, stations, runs
INSTRUCTIONS = "instructions.json"
# The devices an artefact is for, and how much slower than one core of an x86-64 server each is taken to be: assumed, on
# the slow side, because nothing was run on one.
SLOWER: dict[str, dict[Device, float]] = {
    "int8": {"raspberry_pi_4": 8.0, "jetson_nano": 8.0, "browser": 12.0},
    "int4": {"mobile": 5.0, "browser": 12.0},
    "fp32": {"raspberry_pi_4": 8.0, "jetson_nano": 8.0},
}
CLOCK_HZ: dict[Device, float] = {"raspberry_pi_4": 1.5e9, "jetson_nano": 1.43e9}


class Instructions(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """RUN/instructions.json, as `tests/benchmarks/instructions.py` writes it: those of one forecast of one station."""

    model_sha256: str
    cpu: str
    instructions: int


def measure(bundle: Path) -> tuple[Benchmark, ...]:
    """A bundle on this machine: one station with one thread and with four, 64 stations in one run."""
    return tuple(benchmark(bundle, threads=t, stations=s, runs=runs, quiet=True) for t, s, runs in MEASURED)


def meant_for(precision: str, chosen: Sequence[str]) -> tuple[Device, ...]:
    """The devices an artefact is for: those chosen, or all that its precision is for.

    Raises:
        ConfigError: one of them is none for that precision.
    """
    known = SLOWER[precision]
    for name in chosen:
        if name not in known:
            raise ConfigError(f"--device {name}: {precision} is for {', '.join(known)}")
    return tuple(device for device in known if device in chosen or not chosen)


def budgets(here: Sequence[Benchmark], run: Path, devices: Sequence[Device]) -> tuple[Budget, ...]:
    """A row for each device: as measured there, where RUN holds such a file for this model, else estimated from what
    was measured here.

    Raises:
        DataError: a file in RUN is not what it should be.
    """
    first = here[0]
    there = [one for one in boards(run) if one.model_sha256 == first.model_sha256]
    rows = {one.device: _measured(one, one.device) for one in there if one.device and one.stations == 1}
    count = _instructions(run, first.model_sha256)
    for device in devices:
        rows.setdefault(device, _estimated(first, device, SLOWER[first.precision][device], count))
    return tuple(rows[device] for device in sorted(rows))


def boards(run: Path) -> list[Benchmark]:
    """The files of `edge-agent benchmark` in a run's folder."""
    found = []
    for path in sorted(run.glob(f"*{SUFFIX}")):
        try:
            found.append(msgspec.json.decode(path.read_bytes(), type=Benchmark))
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise DataError(f"{path}: not a file of `edge-agent benchmark` ({error})") from error
    return found


def _measured(one: Benchmark, device: Device) -> Budget:
    note = f"{one.board}, {one.cores} cores, {one.runtime}, {one.threads} threads, {one.runs} runs, {one.measured}"
    cost = one.cost
    return Budget(
        device=device,
        basis="measured",
        model_bytes=one.model_bytes,
        peak_rss_mb=cost.peak_rss_mb,
        p50_ms=cost.p50_ms,
        p95_ms=cost.p95_ms,
        note=note,
    )


def _estimated(here: Benchmark, device: Device, slower: float, count: Instructions | None) -> Budget:
    cost = here.cost
    note = (
        f"one station, one thread: {cost.cpu_p50_ms:.2g} and {cost.cpu_p95_ms:.2g} ms of processor time measured on "
        f"{here.board}, times {slower:g} (assumed); memory as measured there; nothing was run on such a device"
    )
    if count is not None and device in CLOCK_HZ:
        least = 1000.0 * count.instructions / CLOCK_HZ[device]
        note += (
            f". {count.instructions / 1e6:.1f} million instructions as {count.cpu}, counted under emulation: at one a "
            f"cycle of {CLOCK_HZ[device] / 1e9:g} GHz {least:.1f} ms"
        )
    return Budget(
        device=device,
        basis="estimated",
        model_bytes=here.model_bytes,
        peak_rss_mb=cost.peak_rss_mb,
        p50_ms=round(slower * cost.cpu_p50_ms, 1),
        p95_ms=round(slower * cost.cpu_p95_ms, 1),
        note=note,
    )


def _instructions(run: Path, model_sha256: str) -> Instructions | None:
    path = run / INSTRUCTIONS
    if not path.exists():
        return None
    try:
        found = msgspec.json.decode(path.read_bytes(), type=Instructions)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: not a count of instructions ({error})") from error
    return found if found.model_sha256 == model_sha256 else None
