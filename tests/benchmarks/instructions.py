"""How many instructions one forecast takes on 64-bit ARM: the part of a board's speed that is the same everywhere.

    python tests/benchmarks/instructions.py BUNDLE [--out RUN/instructions.json]

Counted by a plugin of qemu's user mode, which runs the agent's code and the locked aarch64 wheels as a Cortex-A72: so
many runs of the bundle's golden samples, less the same with fewer, on one thread. Printed beside the count of an empty
Python, and what it comes to at one instruction a cycle of 1.5 GHz: an estimate, not a measurement. Needs gcc, and
qemu-user beside what tests/aarch64.py needs (the static qemu has no plugins).
"""

from __future__ import annotations

import argparse
import hashlib
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import msgspec

PROJECT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(PROJECT))

from edge_agent.bundle.reader import default_bundle, read_bundle  # noqa: E402
from tests.aarch64 import NoRoot, ready_root  # noqa: E402

PLUGIN = Path(__file__).with_name("count_instructions.c")
CPU = "cortex-a72"
FEW, MANY = 5, 405
HERTZ = 1.5e9


def build_plugin(folder: Path) -> Path:
    """The plugin, compiled. Raises NoRoot: no gcc or no qemu with plugins."""
    missing = [tool for tool in ("gcc", "qemu-aarch64") if shutil.which(tool) is None]
    if missing:
        raise NoRoot(f"no {', '.join(missing)} here (apt install gcc qemu-user)")
    made = folder / "count.so"
    subprocess.run(["gcc", "-shared", "-fPIC", "-O2", "-o", str(made), str(PLUGIN)], check=True)
    return made


def counted(root: Path, folder: Path, *command: str) -> int:
    """Instructions of `python3 *command` in the root; `folder` is there under its own name."""
    out = folder / "count.txt"
    plugin = f"{folder / 'count.so'},out={out}"
    binds = [word for place in ("/proc", "/dev", f"{PROJECT}:/src", str(folder)) for word in ("-b", place)]
    proot = ["proot", "-q", f"qemu-aarch64 -cpu {CPU} -plugin {plugin}", "-r", str(root), *binds, "-w", "/tmp"]
    env = {"PATH": "/usr/bin:/bin:/usr/sbin", "PYTHONPATH": "/src:/wheels", "HOME": "/tmp", "PYTHONHASHSEED": "0"}
    done = subprocess.run(
        [*proot, "/usr/bin/python3", *command], env=env, capture_output=True, text=True, timeout=500, check=False
    )
    if done.returncode:
        raise NoRoot(f"the emulated process failed: {done.stderr.strip()[-300:]}")
    return int(out.read_text())


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("bundle", type=Path, nargs="?", default=default_bundle())
    options.add_argument("--out", type=Path)
    given = options.parse_args()
    bundle = read_bundle(given.bundle)
    try:
        root = ready_root()
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            build_plugin(folder)
            shutil.copy(given.bundle, folder / "tried.bundle")
            measured = ["-m", "edge_agent.bundle.benchmark", str(folder / "tried.bundle"), "1", "1"]
            empty = counted(root, folder, "-c", "pass")
            few, many = (counted(root, folder, *measured, str(runs), "0", "") for runs in (FEW, MANY))
    except NoRoot as why:
        print(f"not counted: {why}", file=sys.stderr)
        return 1
    a_run = (many - few) // (MANY - FEW)
    print(f"an empty Python                  {empty / 1e6:10.1f} million instructions")
    print(f"start to first forecast          {(few - FEW * a_run) / 1e6:10.1f} million")
    print(f"one forecast of one station      {a_run / 1e6:10.2f} million")
    print(f"at 1 instruction a cycle of 1.5 GHz: {1000 * a_run / HERTZ:.1f} ms (estimated)")
    if given.out:
        digest = hashlib.sha256(bundle.model).hexdigest()
        given.out.write_bytes(msgspec.json.encode({"model_sha256": digest, "cpu": CPU, "instructions": a_run}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
