"""How much memory a process takes that reads a bundle and runs its golden samples, and nothing else. Linux only."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from edge_agent.bundle.golden import check_golden
from edge_agent.bundle.reader import read_bundle
from edge_agent.errors import DataError


def peak_rss_mb(bundle: Path, timeout_s: float = 120.0) -> float:
    """Largest resident memory of such a process, MB.

    Raises:
        DataError: the process failed.
    """
    command = [sys.executable, "-m", "model_factory.bundles.memory", str(bundle)]
    try:
        child = subprocess.run(command, capture_output=True, text=True, timeout=timeout_s, check=True)
    except subprocess.SubprocessError as error:
        raise DataError(f"the memory of {bundle} could not be measured: {error}") from error
    return int(child.stdout) / 1024.0


def main(arguments: Sequence[str]) -> int:
    """The process measured; prints its own peak in KB. Not `getrusage`: that counts the parent's memory at the fork."""
    check_golden(read_bundle(Path(arguments[0])))
    status = Path("/proc/self/status").read_text().splitlines()
    peak = next(line.split()[1] for line in status if line.startswith("VmHWM:"))
    sys.stdout.write(f"{peak}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
