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
    parser.add_argument("--out", type=Path, default=Path("build/fuzz"), help="where findings are kept")
    parser.add_argument("--input", type=Path, help="run one target on this file only, without the fuzzer")
    chosen = parser.parse_args()
    if chosen.input:
        targets()[chosen.names[0]](chosen.input.read_bytes())
        return 0
    chosen.out.mkdir(parents=True, exist_ok=True)
    stood = [fuzz(name, chosen.runs, chosen.seconds, chosen.out) for name in chosen.names or sorted(targets())]
    return 0 if all(stood) else 1


def fuzz(name: str, runs: int, seconds: int, out: Path) -> bool:
    """Whether a target stood; its line is printed."""
    with tempfile.TemporaryDirectory() as corpus:
        for n, seed in enumerate(seeds_of(name)):
            (Path(corpus) / f"seed-{n}").write_bytes(seed)
        bounds = [f"-runs={runs}", f"-max_total_time={seconds}", f"-timeout={INPUT_S}", f"-rss_limit_mb={MEMORY_MB}"]
        kept = [f"-max_len={min(MOST, 4096)}", f"-artifact_prefix={out}/{name}-", "-print_final_stats=1"]
        command = [sys.executable, "-W", "ignore", "-c", CHILD, name, corpus, *bounds, *kept]
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    told = done.stdout + done.stderr
    executed = re.findall(r"stat::number_of_executed_units:\s*(\d+)", told)
    edges = re.findall(r"cov: (\d+)", told)
    peak = re.findall(r"stat::peak_rss_mb:\s*(\d+)", told)
    ended = "stood" if done.returncode == 0 else f"FELL (exit {done.returncode}), see {out}/{name}-*"
    print(f"{name:24} {executed[-1] if executed else '?':>9} runs, {edges[-1] if edges else '?':>5} edges, "
          f"{peak[-1] if peak else '?':>4} MB: {ended}", flush=True)  # fmt: skip
    if done.returncode:
        print(told[-3000:], file=sys.stderr)
    return done.returncode == 0


if __name__ == "__main__":
    sys.exit(main())
