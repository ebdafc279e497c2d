"""Golden samples: inputs and the outputs the factory saw for them. A bundle that answers differently here is refused.

`verify_golden` runs them in a child process, because a runtime built for another processor dies with SIGILL, and that
must refuse a bundle and not end the agent. Never runs a model in the caller's process.
"""

from __future__ import annotations

import ctypes
import io
import os
import re
import signal
import struct
import subprocess
import sys
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from contextlib import suppress
from math import prod
from pathlib import Path

import numpy as np

from edge_agent.bundle.limits import Limits
from edge_agent.bundle.manifest import Manifest
from edge_agent.bundle.reader import Bundle, read_bundle
from edge_agent.errors import BundleError
from edge_agent.inference import Array, Session
from edge_agent.variables import VARIABLES, Kind

_REFUSED = 3  # the child's exit status when it refused the bundle itself: `word<TAB>detail` stands on its output
_MIN_TIMEOUT_S = 1.0
_AXIS = 2  # the variable axis, in every output
_CALM_M_S = 0.5
_UNREADABLE = (zipfile.BadZipFile, NotImplementedError, zlib.error, EOFError, ValueError, RuntimeError, struct.error)
_HEADER = re.compile(
    rb"\{'descr': '(<f4|<i8)', 'fortran_order': (True|False), 'shape': \(((?:\d{1,9}, ?)*\d{0,9})\), \} *\n"
)


def verify_golden(path: Path, digest: str, limits: Limits | None = None) -> None:
    """Run a bundle's golden samples in a child process, which is killed after `limits.golden_s`.

    Args:
        digest: of the bundle that was read from `path`, so that what is tried is what will be loaded.

    Raises:
        BundleError: `golden` (different answers), `golden-crash` (the child died), `golden-timeout`, `digest-mismatch`
            (the file is another one by now), or whatever reading the bundle refuses.
    """
    run_child(
        [sys.executable, "-P", "-m", "edge_agent.bundle.golden", str(path), digest], (limits or Limits()).golden_s
    )


def run_child(command: Sequence[str], timeout_s: float) -> None:
    """Run a checking process and turn how it ended into nothing or a `BundleError` (see `verify_golden`)."""
    package = str(Path(__file__).parents[2])
    inherited = os.environ.get("PYTHONPATH")
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([package, inherited] if inherited else [package])}
    try:
        ended = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=max(timeout_s, _MIN_TIMEOUT_S),
            env=environment,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise BundleError("golden-timeout", f"its golden samples took longer than {timeout_s:g} s here") from None
    except OSError as error:
        raise BundleError("golden-crash", f"its golden samples could not be started: {error.strerror}") from error
    if ended.returncode == 0:
        return
    if ended.returncode == _REFUSED:
        word, _, detail = ended.stdout.decode(errors="replace").strip().partition("\t")
        raise BundleError(word or "golden", detail[:2000])
    raise BundleError("golden-crash", _death(ended.returncode, ended.stderr.decode(errors="replace")))


def pack_golden(inputs: Mapping[str, Array], outputs: Mapping[str, Array]) -> bytes:
    """golden.npz: arrays `in_<tensor>` and `out_<tensor>`."""
    buffer = io.BytesIO()
    named = {f"in_{name}": value for name, value in inputs.items()}
    named |= {f"out_{name}": value for name, value in outputs.items()}
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for name, value in named.items():
            member = io.BytesIO()
            np.lib.format.write_array(member, np.ascontiguousarray(value), allow_pickle=False)
            archive.writestr(zipfile.ZipInfo(f"{name}.npy"), member.getvalue(), zipfile.ZIP_DEFLATED)
    return buffer.getvalue()


def unpack_golden(data: bytes, limits: Limits | None = None) -> tuple[dict[str, Array], dict[str, Array]]:
    """(inputs, outputs) of golden.npz, by tensor name. No pickles; bounded in number and unpacked size.

    Raises:
        BundleError: `golden`, it is not such a file; `oversize`.
    """
    limits = limits or Limits()
    arrays: dict[str, Array] = {}
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            entries = archive.infolist()
            total = sum(entry.file_size for entry in entries)
            if len(entries) > limits.golden_arrays or total > limits.golden_unpacked_bytes:
                raise BundleError("oversize", f"golden.npz unpacks to {total} bytes in {len(entries)} arrays")
            for entry in entries:
                if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                    raise BundleError("golden", f"golden.npz: {entry.filename[:60]} is packed in an unusual way")
                with archive.open(entry) as member:
                    arrays[entry.filename.removesuffix(".npy")] = _array(member.read(entry.file_size), entry.filename)
    except _UNREADABLE as error:
        raise BundleError("golden", f"golden.npz cannot be read: {error}") from error
    inputs = {name[3:]: value for name, value in arrays.items() if name.startswith("in_")}
    outputs = {name[4:]: value for name, value in arrays.items() if name.startswith("out_")}
    if len(inputs) + len(outputs) != len(arrays) or not inputs or not outputs:
        raise BundleError(
            "golden", f"golden.npz must hold in_* and out_* arrays, it has {', '.join(sorted(arrays))[:200]}"
        )
    return inputs, outputs


def compare(manifest: Manifest, expected: Mapping[str, Array], found: Mapping[str, Array]) -> list[str]:
    """Where the answers differ by more than the manifest's tolerance, one line a variable; empty: all is well.

    NaN must meet NaN. Directions differ along the circle, and only count where the wind blows with at least 0.5 m/s.
    """
    problems = []
    calm = _calm(expected.get("wind_uv"))
    for tensor in manifest.outputs:
        if tensor.name not in expected:
            problems.append(f"golden.npz has no out_{tensor.name}")
            continue
        want, have = expected[tensor.name], found[tensor.name]
        if want.shape != have.shape:
            problems.append(f"{tensor.name}: golden {want.shape}, here {have.shape}")
            continue
        for i, axis in enumerate(tensor.axis):
            key = f"event:{axis.name}" if tensor.name == "probability" else axis.name
            then, here = want.take(i, _AXIS), have.take(i, _AXIS)  # [S, L] or [S, L, Q]
            circular = _circular(axis.name)
            if circular and calm is not None and calm.shape == then.shape[:2]:
                here = np.where(calm.reshape(calm.shape + (1,) * (then.ndim - 2)), then, here)
            line = _difference(then, here, manifest.tolerance[key], circular)
            if line:
                problems.append(f"{tensor.name} of {axis.name}: {line}")
    return problems


def check_golden(bundle: Bundle) -> None:
    """Run the golden samples in this process: only for the child and for the factory.

    Raises:
        BundleError: `golden`, with the differences, also from the same rows without those of other groups; what loading
            and running raise.
    """
    from edge_agent.inference.opening import open_session

    inputs, outputs = unpack_golden(bundle.golden)
    session = open_session(bundle)
    problems = compare(bundle.manifest, outputs, session.run(inputs))
    if not problems and bundle.manifest.looks_around:
        problems = _mixed(session, inputs, outputs)
    if problems:
        raise BundleError("golden", "; ".join(problems[:5]))


def _mixed(session: Session, inputs: Mapping[str, Array], outputs: Mapping[str, Array]) -> list[str]:
    """Where a row answers otherwise without the rows of other groups and origins, of which it may know nothing."""
    origin = inputs["origin"]
    pairs = np.stack([inputs.get("group", np.arange(len(origin))), origin], axis=1)
    problems = []
    for pair in np.unique(pairs, axis=0):
        rows = (pairs == pair).all(axis=1)
        alone = session.run({name: value[rows] for name, value in inputs.items()})
        problems += compare(session.manifest, {name: value[rows] for name, value in outputs.items()}, alone)
    return [f"without the rows of other groups, {problem}" for problem in problems]


def main(arguments: Sequence[str]) -> int:
    """The child, told a path and a digest: exit status 0, or 3 with the refusal on standard output."""
    path, digest = arguments
    try:
        bundle = read_bundle(Path(path))
        if bundle.digest != digest:
            raise BundleError("digest-mismatch", f"{path} was replaced while it was tried: try again")
        check_golden(bundle)
    except BundleError as error:
        sys.stdout.write(f"{error.refused}\t{' '.join(error.detail.split())}\n")
        return _REFUSED
    return 0


def _array(data: bytes, name: str) -> Array:
    """One .npy of version 1.0 as numpy writes it; its header is held against the bytes that follow before anything is
    allocated. Numpy's own parser evaluates headers as Python literals: too much for a foreign file."""
    end = 10 + int.from_bytes(data[8:10], "little")
    header = _HEADER.fullmatch(data[10:end])
    if data[:8] != b"\x93NUMPY\x01\x00" or header is None:
        raise BundleError("golden", f"golden.npz: {name[:60]} is not a plain float32 or int64 array")
    shape = tuple(int(length) for length in header[3].replace(b",", b" ").split())
    if prod(shape) * int(header[1][-1:]) != len(data) - end:
        raise BundleError("golden", f"golden.npz: {name[:60]} says {shape}, which is not what the bytes hold")
    return np.frombuffer(data, header[1].decode(), offset=end).reshape(
        shape, order="F" if header[2] == b"True" else "C"
    )


def _difference(want: Array, have: Array, tolerance: float, circular: bool) -> str:
    """Words for the largest difference above the tolerance, or nothing."""
    odd = int(np.sum(np.isnan(want) != np.isnan(have)))
    if odd:
        return f"{odd} of {want.size} values are missing here or were missing there"
    same = np.isnan(want) | (want == have)  # equal infinities differ by nothing
    with np.errstate(invalid="ignore"):
        apart = np.where(same, 0.0, np.abs(have.astype(np.float64) - want))
    if circular:
        apart = np.minimum(apart % 360.0, 360.0 - apart % 360.0)
    worst = float(np.max(apart, initial=0.0))
    return "" if worst <= tolerance else f"differs by {worst:.4g}, allowed are {tolerance:g}"


def _calm(wind: Array | None) -> Array | None:
    """[S, L]: where the golden wind vector is too short for its direction to mean anything."""
    if wind is None or wind.ndim != 3 or wind.shape[_AXIS] != 2:
        return None
    return np.asarray(np.hypot(wind[..., 0], wind[..., 1]) < _CALM_M_S)


def _circular(name: str) -> bool:
    return name in VARIABLES and VARIABLES[name].kind is Kind.DIRECTION


def _death(status: int, stderr: str) -> str:
    """How the child ended, and what to do."""
    last = " ".join(stderr.strip().splitlines()[-1:])[:300]
    if status >= 0:
        return f"its golden samples ended with status {status}: {last}"
    try:
        name = signal.Signals(-status).name
    except ValueError:
        name = f"signal {-status}"
    remedy = {
        "SIGILL": "this onnxruntime was built for another processor: install a version made for this one",
        "SIGKILL": "the system ended it, most likely for lack of memory",
    }.get(name, "the runtime crashed: try another onnxruntime version")
    return f"its golden samples died with {name}: {remedy}"


def _die_with_parent() -> None:
    """Nobody waits for the answer of a child whose parent has ended: prctl(2), PR_SET_PDEATHSIG."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)


if __name__ == "__main__":
    _die_with_parent()
    sys.exit(main(sys.argv[1:]))
