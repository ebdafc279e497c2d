"""Runs the benchmarks beside this file, one after the other, each in a process of its own: `make bench`, or

    .venv-agent/bin/python tests/benchmarks/run.py [NAME ...]

Run them in the agent's own environment: some libraries load more where pandas and the like are installed. They print
figures of this machine, each with the ratio to a baseline measured beside it in the same run. Nothing passes or fails.
"""

from __future__ import annotations

import platform
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
NOT_ONES = (
    "run",
    "parts",
    "process",
    "footprint",
    "quality_errors",
    "quality_study",
)  # the last takes long, and measures no speed


def main(names: list[str]) -> int:
    there = sorted(path.stem for path in HERE.glob("*.py") if path.stem not in NOT_ONES)
    unknown = [name for name in names if name not in there]
    if unknown:
        print(f"no benchmark {', '.join(unknown)}; there are: {', '.join(there)}")
        return 2
    print(f"{platform.machine()}, {platform.system()} {platform.release()}, Python {platform.python_version()}")
    failed = 0
    for name in names or there:
        print(f"\n== {name}: python tests/benchmarks/{name}.py", flush=True)
        failed += bool(subprocess.run([sys.executable, str(HERE / f"{name}.py")], check=False).returncode)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
