"""The targets under a coverage-guided fuzzer, each in a process of its own: `python -m tests.fuzz.run [NAME ...]`.

Needs atheris (pip install atheris; x86-64 Linux). Prints one line a target: executions, edges found, and how it ended;
what a target fell over is kept as a file, to be given to `--input`.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from tests.fuzz.seeds import seeds_of
from tests.fuzz.targets import MOST, targets

INPUT_S = 10  # one input that takes longer is a finding
MEMORY_MB = 1_500  # one that takes more, too
CHILD = """
import sys
import atheris
with atheris.instrument_imports(include=["edge_agent"]):
    from tests.fuzz.targets import targets
target = targets()[sys.argv.pop(1)]
atheris.Setup(sys.argv, target)
atheris.Fuzz()
"""


def main() -> int:
    """0 if every target stood."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(sorted(targets()))}; default: all")
    parser.add_argument("--runs", type=int, default=1_000_000)
    parser.add_argument("--seconds", type=int, default=0, help="at most so long a target; 0 = as long as it takes")
    parser.add_argument("--jobs", type=int, default=1, help="processes at a time")
    parser.add_argument("--split", type=int, default=1, help="processes of a target, each with its own seed")
    parser.add_argument("--seed", type=int, default=1, help="of the first process; the others count on from it")
    parser.add_argument("--out", type=Path, default=Path("build/fuzz"), help="where findings are kept")
    parser.add_argument("--input", type=Path, help="run one target on this file only, without the fuzzer")
    chosen = parser.parse_args()
    if chosen.input:
        targets()[chosen.names[0]](chosen.input.read_bytes())
        return 0
    chosen.out.mkdir(parents=True, exist_ok=True)
    names = chosen.names or sorted(targets())
    runs = -(-chosen.runs // chosen.split)
    with ThreadPoolExecutor(chosen.jobs) as pool:
        going = {
            name: [
                pool.submit(fuzz, name, runs, chosen.seconds, chosen.out, chosen.seed + n) for n in range(chosen.split)
            ]
            for name in names
        }
        stood = [told(name, [one.result() for one in parts]) for name, parts in going.items()]
    return 0 if all(stood) else 1


@dataclass(frozen=True, slots=True)
class Run:
    """How one process went: inputs tried, edges found, most memory in MB, the exit status and what it printed."""

    executed: int
    edges: int
    peak_mb: int
    status: int
    text: str


def fuzz(name: str, runs: int, seconds: int, out: Path, seed: int) -> Run:
    """One target in a process of its own."""
    with tempfile.TemporaryDirectory() as corpus:
        for n, known in enumerate(seeds_of(name)):
            (Path(corpus) / f"seed-{n}").write_bytes(known)
        bounds = [f"-runs={runs}", f"-max_total_time={seconds}", f"-timeout={INPUT_S}", f"-rss_limit_mb={MEMORY_MB}"]
        kept = [f"-max_len={min(MOST, 4096)}", f"-artifact_prefix={out}/{name}-", "-print_final_stats=1"]
        command = [sys.executable, "-W", "ignore", "-c", CHILD, name, corpus, *bounds, *kept, f"-seed={seed}"]
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    text = done.stdout + done.stderr

    def last(pattern: str) -> int:
        return int(([0, *re.findall(pattern, text)])[-1])

    executed, peak = last(r"stat::number_of_executed_units:\s*(\d+)"), last(r"stat::peak_rss_mb:\s*(\d+)")
    return Run(executed, last(r"cov: (\d+)"), peak, done.returncode, text)


def told(name: str, parts: list[Run]) -> bool:
    """Whether a target stood; its line is printed."""
    fell = [part for part in parts if part.status]
    ended = f"FELL ({len(fell)} of {len(parts)})" if fell else "stood"
    print(f"{name:24} {sum(part.executed for part in parts):>9} runs, {max(part.edges for part in parts):>5} edges, "
          f"{max(part.peak_mb for part in parts):>4} MB: {ended}", flush=True)  # fmt: skip
    if fell:
        print(fell[0].text[-3000:], file=sys.stderr)
    return not fell


if __name__ == "__main__":
    sys.exit(main())
