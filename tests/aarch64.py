"""A Debian root for 64-bit ARM with the agent's locked wheels in it, run under user-mode emulation.

Made once below build/ and kept there until the lock changes. Nothing in it is configured: packages are only unpacked,
which is all that Python and Mosquitto need.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[1]
LOCK = PROJECT / "requirements" / "agent-aarch64.txt"
SUITE, MIRROR = "bookworm", "http://deb.debian.org/debian"
PACKAGES = "python3,libstdc++6,tzdata,mosquitto"
PLATFORMS = ("manylinux_2_28", "manylinux_2_27", "manylinux_2_17", "manylinux2014")
TOOLS = ("debootstrap", "proot", "qemu-aarch64-static", "dpkg-deb")


class NoRoot(Exception):
    """The root cannot be built here; the words say why."""


def ready_root() -> Path:
    """The root, built now if it is not there. Raises NoRoot."""
    missing = [tool for tool in TOOLS if shutil.which(tool) is None]
    if missing:
        raise NoRoot(f"no {', '.join(missing)} here (apt install debootstrap proot qemu-user-static)")
    recipe = hashlib.sha256(LOCK.read_bytes() + f"{SUITE} {PACKAGES} {PLATFORMS}".encode()).hexdigest()[:16]
    root = PROJECT / "build" / f"aarch64-{recipe}"
    if root.exists():
        return root
    if os.geteuid() != 0:
        raise NoRoot("debootstrap works for root only")
    draft = root.with_suffix(".draft")
    shutil.rmtree(draft, ignore_errors=True)
    draft.parent.mkdir(exist_ok=True)
    _unpack_debian(draft)
    _install_lock(draft)
    draft.rename(root)
    return root


def emulated(root: Path, *command: str, timeout_s: float) -> subprocess.CompletedProcess[str]:
    """Run the project's Python code in the root: `python3 *command`, the sources at /src. /sys stays the root's own:
    runtimes read the processor from it."""
    env = {"PATH": "/usr/sbin:/usr/bin:/bin", "PYTHONPATH": "/src:/wheels", "HOME": "/tmp", "LANG": "C.UTF-8"}
    binds = [word for place in ("/proc", "/dev", f"{PROJECT}:/src") for word in ("-b", place)]
    proot = ["proot", "-q", "qemu-aarch64-static", "-r", str(root), "-i", "1000:1000", *binds, "-w", "/tmp"]
    return subprocess.run(
        [*proot, "/usr/bin/python3", *command],
        capture_output=True, text=True, timeout=timeout_s, env=env, check=False,
    )  # fmt: skip


def _unpack_debian(root: Path) -> None:
    _run(
        "debootstrap",
        "--foreign",
        "--arch=arm64",
        "--variant=minbase",
        f"--include={PACKAGES}",
        SUITE,
        str(root),
        MIRROR,
    )
    for package in sorted((root / "var/cache/apt/archives").glob("*.deb")):
        _run("dpkg-deb", "-x", str(package), str(root))
    (root / "tmp").chmod(0o1777)


def _install_lock(root: Path) -> None:
    platforms = [word for name in PLATFORMS for word in ("--platform", f"{name}_aarch64")]
    python = ["--python-version", "3.11", "--implementation", "cp"]
    abis = [word for abi in ("cp311", "abi3", "none") for word in ("--abi", abi)]
    _run(
        sys.executable, "-m", "pip", "install", "--quiet", "--target", str(root / "wheels"), *platforms, *python, *abis,
        "--only-binary=:all:", "--no-deps", "--require-hashes", "--requirement", str(LOCK),
    )  # fmt: skip


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, timeout=900, check=False)
    if done.returncode:
        raise NoRoot(f"{' '.join(command[:3])} ...: {(done.stderr or done.stdout).strip()[-300:]}")
