"""Writes the hash-locked requirement files of the agent, and checks them for every platform and Python it runs on.

For `make lock`. Only the public index is asked: a wheel that exists on this machine alone must never enter a lock.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
ARCHITECTURES = ("x86_64", "aarch64")
PYTHONS = ("311", "312", "313")
GLIBC = ("manylinux_2_28", "manylinux_2_17")  # what Debian 10 and Raspberry Pi OS 10 and newer can load
OPTIONS = (
    "--allow-unsafe", "--generate-hashes", "--no-annotate", "--no-emit-find-links", "--no-emit-index-url",
    "--no-emit-trusted-host", "--no-header", "--quiet", "--strip-extras",
)  # fmt: skip


def main() -> None:
    """Compile with the oldest supported Python (its dependencies include what newer ones have built in), then check."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--upgrade", action="store_true", help="take newer releases; default: keep what is locked")
    parser.add_argument("--check", action="store_true", help="only check the files that are there")
    options = parser.parse_args()
    if sys.version_info[:2] != (3, 11):
        sys.exit("lock: run this with Python 3.11, the oldest one supported")
    for kind in ("agent", "demo"):
        if not options.check:
            write(kind, options.upgrade)
        for architecture in ARCHITECTURES:
            for python in PYTHONS:
                check(kind, architecture, python)


def write(kind: str, upgrade: bool) -> None:
    """Lock `agent` (the base dependencies) or `demo` (those and the embedded broker, at the same versions)."""
    first, *others = (HERE / f"{kind}-{architecture}.txt" for architecture in ARCHITECTURES)
    command = [sys.executable, "-m", "piptools", "compile", *OPTIONS, "--output-file", str(first)]
    if upgrade:
        command += ["--upgrade"]
    if kind == "demo":
        command += ["--extra", "demo", "--constraint", str(HERE / f"agent-{ARCHITECTURES[0]}.txt")]
    subprocess.run([*command, str(HERE.parent / "pyproject.toml")], check=True, env=public_index_only())
    pins = first.read_text()
    for path, architecture in zip((first, *others), ARCHITECTURES, strict=True):
        path.write_text(f"# {kind} on {architecture}, Python 3.11-3.13, glibc >= 2.28. Written by `make lock`.\n{pins}")


def check(kind: str, architecture: str, python: str) -> None:
    """Every locked release has a wheel for that platform, and its hash is the one written down."""
    path = HERE / f"{kind}-{architecture}.txt"
    platforms = [word for glibc in GLIBC for word in ("--platform", f"{glibc}_{architecture}")]
    command = [
        sys.executable,
        "-m",
        "pip",
        "download",
        "--quiet",
        "--no-deps",
        "--require-hashes",
        "--only-binary=:all:",
    ]
    with tempfile.TemporaryDirectory() as folder:
        command += ["--require-hashes", "--only-binary=:all:", *platforms, "--python-version", python]
        command += ["--dest", folder, "--requirement", str(path)]
        subprocess.run(command, check=True, env=public_index_only())
        sizes = [wheel.stat().st_size for wheel in Path(folder).iterdir()]
    sys.stdout.write(f"{path.name}, Python {python}: {len(sizes)} wheels, {sum(sizes) / 1e6:.0f} MB\n")


def public_index_only() -> dict[str, str]:
    """This environment without local indexes, wheel folders and constraints."""
    local = ("PIP_FIND_LINKS", "PIP_EXTRA_INDEX_URL", "PIP_CONSTRAINT", "PIP_NO_INDEX")
    return {**{k: v for k, v in os.environ.items() if k not in local}, "PIP_CONFIG_FILE": os.devnull}


if __name__ == "__main__":
    main()
