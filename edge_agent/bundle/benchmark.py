"""`edge-agent benchmark`: what a bundle costs on this very board, measured in a process of its own.

The process reads the bundle, opens the model as the agent does, and forecasts its golden samples over and over;
it checks nothing and publishes nothing. The figures go to a file beside the bundle, from where a bundle's card can take
them up as the `measured` row of a device.
"""

from __future__ import annotations

import hashlib
import os
import platform
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import click
import msgspec
import numpy as np

from edge_agent.bundle.check import installed_runtime
from edge_agent.bundle.devices import DEVICES
from edge_agent.bundle.golden import unpack_golden
from edge_agent.bundle.manifest import Device
from edge_agent.bundle.reader import default_bundle, read_bundle
from edge_agent.bundle.refusal import naming
from edge_agent.clock import SystemClock, format_time
from edge_agent.console import keep_inputs
from edge_agent.errors import BundleError, ConfigError

RUNS = 200
TIMEOUT_S = 300.0
SUFFIX = ".measured.json"
_BOARD = Path("/proc/device-tree/model")
_CPUINFO = Path("/proc/cpuinfo")
_STATUS = Path("/proc/self/status")


class Cost(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the process says of itself: from its start to its first forecast, and the time of each further one, ms;
    `cpu_`: the processor's time for one, which other work on the machine does not lengthen; its largest resident
    memory, MB (millions of bytes), -1 where the system does not tell."""

    startup_ms: float
    p50_ms: float
    p95_ms: float
    cpu_p50_ms: float
    cpu_p95_ms: float
    peak_rss_mb: float


class Benchmark(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A measurement, as it stands in the file. `model_sha256` says of which model: a bundle made again with this row in
    its card is another file with the same model. `stations`: in one run."""

    bundle: str
    precision: str
    model_sha256: str
    model_bytes: int
    device: Device | None
    board: str
    machine: str
    cores: int
    runtime: str
    threads: int
    stations: int
    runs: int
    measured: str
    cost: Cost


def benchmark_command(
    path: Path | None, device: Device | None, threads: int, stations: int, runs: int, json_: bool, out: Path | None
) -> None:
    """`edge-agent benchmark`: see its help.

    Raises:
        BundleError: the bundle is refused, or its process failed; ConfigError: the file is the bundle, or cannot be
            written.
    """
    measured = path or default_bundle()
    keep_inputs("--out", out, measured)
    found = benchmark(measured, threads=threads, stations=stations, runs=runs, device=device)
    raw = msgspec.json.format(msgspec.json.encode(found))
    where = out or (None if path is None else path.with_suffix(SUFFIX))
    if where is not None:
        try:
            where.write_bytes(raw + b"\n")
        except OSError as error:
            raise ConfigError(f"{where}: cannot be written: {error.strerror}: name another file with --out") from error
    click.echo(raw.decode() if json_ else "\n".join(lines(found, where)))


def benchmark(
    path: Path, *, threads: int = 1, stations: int = 1, runs: int = RUNS, device: Device | None = None,
    quiet: bool = False,
) -> Benchmark:  # fmt: skip
    """Measure a bundle here. `quiet`: as `read_bundle`.

    Raises:
        BundleError: it is refused, the process failed or took more than 5 minutes.
    """
    with naming(path):
        bundle = read_bundle(path, quiet=quiet)
    command = [sys.executable, "-P", "-m", "edge_agent.bundle.benchmark", str(path)]
    started = time.monotonic()
    try:
        child = subprocess.run(
            [*command, str(threads), str(stations), str(runs), str(started), device or ""],
            capture_output=True,
            timeout=TIMEOUT_S,
            check=True,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(entry or "." for entry in sys.path)},
        )
        cost = msgspec.json.decode(child.stdout, type=Cost)
    except subprocess.TimeoutExpired:
        raise BundleError("runtime", f"{runs} runs took more than {TIMEOUT_S:g} s: ask for fewer with --runs") from None
    except subprocess.CalledProcessError as error:
        told = error.stderr.decode(errors="replace").strip().splitlines()[-1:] or [f"exit status {error.returncode}"]
        raise BundleError("runtime", f"the process that was to be measured failed: {told[0][:300]}") from error
    except (OSError, msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BundleError("runtime", f"the process that was to be measured could not be asked: {error}") from error
    runtime = ", ".join(f"{name} {installed_runtime(name)}" for name in bundle.manifest.runtime)
    return Benchmark(
        bundle.manifest.name, bundle.manifest.precision, hashlib.sha256(bundle.model).hexdigest(), len(bundle.model),
        device, board(), platform.machine(), os.cpu_count() or 1, runtime, threads,
        stations, runs, format_time(SystemClock().now()), cost,
    )  # fmt: skip


def lines(found: Benchmark, where: Path | None) -> list[str]:
    """For a person."""
    cost = found.cost
    told = [
        f"{found.bundle}, {found.precision}, model {found.model_bytes / 1e6:.2f} MB",
        f"{found.board}, {found.machine}, {found.cores} cores; {found.runtime}, {found.threads} threads",
        f"start to first forecast  {cost.startup_ms:.0f} ms",
        f"a forecast               {cost.p50_ms:.2f} ms (p50), {cost.p95_ms:.2f} ms (p95) of {found.runs} runs,"
        f" stations in each: {found.stations}",
        f"peak memory              {cost.peak_rss_mb:.0f} MB",
    ]
    for name, limits in DEVICES.items():
        if name == found.device:
            fits = cost.p95_ms <= limits.p95_ms and cost.peak_rss_mb <= limits.peak_rss_mb
            told.append(
                f"{name} allows {limits.p95_ms:g} ms, {limits.peak_rss_mb:g} MB: {'fits' if fits else 'TOO MUCH'}"
            )
    return [*told, f"written to {where}"] if where else told


def board() -> str:
    """What this machine calls itself."""
    try:
        return _BOARD.read_text(errors="replace").strip("\0 \n")[:100]
    except OSError:
        pass
    try:
        told = _CPUINFO.read_text(errors="replace").splitlines()
    except OSError:
        told = []
    named = (line.partition(":")[2].strip() for line in told if line.startswith("model name"))
    return next(named, platform.processor() or "unknown processor")[:100]


def main(arguments: Sequence[str]) -> int:
    """The process measured: bundle, threads, stations, runs, when it was started (monotonic seconds), and device."""
    path, threads, stations, runs, started, named = arguments
    device = next((one for one in DEVICES if one == named), None)
    from edge_agent.inference.opening import open_session

    bundle = read_bundle(Path(path))
    session = open_session(bundle, int(threads), device)
    inputs, _ = unpack_golden(bundle.golden)
    feed = {name: np.resize(value, (int(stations), *value.shape[1:])) for name, value in inputs.items()}
    session.run(feed)
    startup_s = time.monotonic() - float(started)
    times = []
    for _ in range(int(runs)):
        before = time.perf_counter(), time.process_time()
        session.run(feed)
        times.append((time.perf_counter() - before[0], time.process_time() - before[1]))
    p50s, p95s = (1000.0 * np.quantile(times, (0.5, 0.95), axis=0)).round(3).tolist()
    (p50, cpu_p50), (p95, cpu_p95) = p50s, p95s
    cost = Cost(round(1000.0 * startup_s, 1), p50, p95, cpu_p50, cpu_p95, round(_peak_mb(), 1))
    sys.stdout.write(msgspec.json.encode(cost).decode())
    return 0


def _peak_mb() -> float:
    """Not `getrusage`: that counts the parent's memory at the fork."""
    try:
        told = _STATUS.read_text().splitlines()
    except OSError:
        return -1.0
    return next((int(line.split()[1]) * 1024 / 1e6 for line in told if line.startswith("VmHWM:")), -1.0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
