"""The footprint of the agent, all of it: `python -m tests.benchmarks.footprint [--quick]`, some twenty minutes on a
quiet machine. What each part measures, how, and its options: `agent_day.py --help`, `gateway.py --help`.
"""

from __future__ import annotations

import argparse
import os
import platform
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
PARTS = {
    "agent_day.py": ["--hours", "2", "--idle", "10", "--days", "2"],
    "gateway.py": ["--seconds", "15", "--flood", "2000"],
}  # with --quick


def main() -> int:
    """0 if every part ran; budgets that are missed are printed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="two minutes, to see that it works")
    chosen = parser.parse_args()
    here = f"{platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}"
    print(f"{here}, Python {platform.python_version()}")
    path = os.pathsep.join(filter(None, (str(HERE.parents[1]), os.environ.get("PYTHONPATH"))))
    environ = os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    failed = 0
    for name, quick in PARTS.items():
        command = [sys.executable, str(HERE / name), *(quick if chosen.quick else [])]
        print(f"\n== tests/benchmarks/{name} {' '.join(command[2:])}", flush=True)
        failed += bool(subprocess.run(command, env=environ, check=False).returncode)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
