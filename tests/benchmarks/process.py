"""What the footprint benchmarks share: a process that is watched, a disk that counts what it is given, and two
programs: the agent on a clock that may run fast, and a bare logger to compare it with.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TICKS = os.sysconf("SC_CLK_TCK")
SECTOR = 512
IMAGE_MB = 1500
DAY_S = 86_400

# Arguments: agent.toml, the time it is (UTC seconds), how many times as fast as the world its clock runs. pandas, which
# sqlite-utils loads where it finds it, is in no agent's own environment.
AGENT = """
import logging, os, signal, sys, threading
sys.modules["pandas"] = None
from pathlib import Path
from edge_agent.agent import Agent
from edge_agent.board import one_heap
from edge_agent.clock import ReplayClock
from edge_agent.config import load
one_heap()
stop = threading.Event()
signal.signal(signal.SIGTERM, lambda *_: stop.set())
logging.basicConfig(level=logging.WARNING)
Agent(load(Path(sys.argv[1])), ReplayClock(float(sys.argv[2]), float(sys.argv[3]))).run(stop)
os._exit(0)
"""

# The least that does the same with a reading: serial line -> SQLite, committed with every sixth -> MQTT. Arguments: the
# port, a folder, the broker's host and port.
BARE = """
import json, os, signal, sqlite3, sys
import paho.mqtt.client as mqtt
import serial
signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
db = sqlite3.connect(sys.argv[2] + "/bare.sqlite", isolation_level=None)
for pragma in ("journal_mode=WAL", "synchronous=FULL"):
    db.execute("PRAGMA " + pragma)
db.execute("CREATE TABLE readings (t INTEGER PRIMARY KEY, body TEXT)")
client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2)
client.connect(sys.argv[3], int(sys.argv[4]))
client.loop_start()
client.publish("bare/ready", b"1", 1, True)
db.execute("BEGIN")
for n, line in enumerate(iter(serial.Serial(sys.argv[1]).readline, b"")):
    json.loads(line)
    db.execute("INSERT INTO readings VALUES (?, ?)", (n, line.decode()))
    client.publish("bare/obs", line, 1)
    if n % 6 == 5:
        db.execute("COMMIT")
        db.execute("BEGIN")
"""


@dataclass(frozen=True, slots=True)
class Figures:
    """So far: `cpu_s`, `written_mb` and `flushes` (by a device of its own, else by the system's account of the process,
    and then None), `fsyncs` (None without strace), `switches`: threads that went to sleep and were woken. Now:
    `rss_mb`."""

    cpu_s: float
    rss_mb: float
    written_mb: float
    flushes: int | None
    fsyncs: int | None
    switches: int


class Watched:
    """A process with its figures. With a `log`, below strace where that may trace, which then stops it at flushes and
    where threads begin."""

    def __init__(self, command: list[str], disk: Disk, log: Path | None = None) -> None:
        self._disk, self._log = disk, log if _traces() else None
        trace = ["strace", "-f", "--seccomp-bpf", "-e", "trace=fsync,fdatasync", "-o", str(log)] if self._log else []
        path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
        self.process = subprocess.Popen(
            [*trace, *command], env=os.environ | {"PYTHONPATH": path}, stdin=subprocess.DEVNULL
        )
        self._pid: int | None = None if self._log else self.process.pid

    @property
    def pid(self) -> int:
        if self._pid is None:
            children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
            self._pid = int(children[0])
        return self._pid

    def figures(self) -> Figures:
        """Up to this moment."""
        proc = Path(f"/proc/{self.pid}")
        stat = (proc / "stat").read_text().rpartition(")")[2].split()
        status = _pairs(proc / "status")
        switches = sum(int(_pairs(task / "status")["voluntary_ctxt_switches"]) for task in proc.glob("task/*"))
        own = int(_pairs(proc / "io")["write_bytes"]) / 1e6
        written, flushes = self._disk.account() or (own, None)
        return Figures(
            cpu_s=(int(stat[11]) + int(stat[12])) / TICKS,
            rss_mb=int(status["VmRSS"].split()[0]) * 1024 / 1e6,
            written_mb=written,
            flushes=flushes,
            fsyncs=None if self._log is None else self._count(),
            switches=switches,
        )

    def end(self) -> None:
        """As a service manager would."""
        os.kill(self.pid, signal.SIGTERM)
        self.process.wait(60)

    def _count(self) -> int:
        assert self._log is not None
        return sum("sync(" in line for line in self._log.read_text(errors="replace").splitlines())


class Disk:
    """A folder, on a device of its own where this user may make one: an ext4 file system in a file."""

    def __init__(self, folder: Path, device: str | None) -> None:
        self.folder, self._device = folder, device

    @property
    def how(self) -> str:
        """How bytes are counted, in words."""
        if self._device is None:
            return "pages the process gave to the block layer (/proc/PID/io), without the file system's own"
        return "sectors a block device of its own was given (ext4 on a loop device), the file system's own among them"

    def account(self) -> tuple[float, int] | None:
        """MB written and flushes so far, by the device; None where it has none of its own."""
        if self._device is None:
            return None
        fields = Path(f"/sys/block/{self._device}/stat").read_text().split()
        return int(fields[6]) * SECTOR / 1e6, int(fields[15]) if len(fields) > 15 else 0


@contextmanager
def disk(folder: Path) -> Iterator[Disk]:
    """A fresh one below `folder`."""
    place = folder / "disk"
    place.mkdir()
    with ExitStack() as closing:
        image = folder / "disk.img"
        with image.open("wb") as file:
            file.truncate(IMAGE_MB * 1_000_000)
        steps = (["mkfs.ext4", "-q", str(image)], ["mount", "-o", "loop,noatime", str(image), str(place)])
        if os.geteuid() or any(_fails(step) for step in steps):
            yield Disk(place, None)
            return
        closing.callback(subprocess.run, ["umount", "--lazy", str(place)], check=False)
        mounted = next(line.split() for line in Path("/proc/mounts").read_text().splitlines() if str(place) in line)
        yield Disk(place, Path(mounted[0]).name)


def python(code: str, *arguments: object) -> list[str]:
    """The command that runs it."""
    return [sys.executable, "-c", code, *map(str, arguments)]


def _fails(command: list[str]) -> bool:
    return shutil.which(command[0]) is None or bool(
        subprocess.run(command, capture_output=True, check=False).returncode
    )


def _traces() -> bool:
    return not _fails(["strace", "--seccomp-bpf", "-f", "-e", "trace=fsync", "-o", os.devnull, "true"])


def _pairs(path: Path) -> dict[str, str]:
    lines = (line.split(":", 1) for line in path.read_text().splitlines())
    return {name: value.strip() for name, value in lines}
