"""`edge-agent run` as a user starts it: a process of its own, its log, and the signals it gets."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

from tests.agents import Kept, until

PATIENCE_S = 60.0


class AgentProcess:
    """A running agent. Its store lies beside `config`; `stop_s`: how long it took to end; `environ`: more of it;
    `program`: what Python runs."""

    def __init__(
        self,
        config: Path,
        *flags: str,
        environ: dict[str, str] | None = None,
        program: tuple[str, ...] = ("-m", "edge_agent.cli", "run", "--verbose", "--config"),
    ) -> None:
        self.config = config
        self.stop_s: float | None = None
        self._lines: list[str] = []
        command = [sys.executable, *program, str(config), *flags]
        if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # a shell's background job: its children would ignore it
            signal.signal(signal.SIGINT, signal.default_int_handler)
        self.process = subprocess.Popen(
            command, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True, env=os.environ | (environ or {})
        )
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    @property
    def log(self) -> str:
        return "".join(self._lines)

    def says(self, words: str, times: int = 1) -> None:
        """Wait until its log does."""
        until(lambda: self.log.count(words) >= times or self.process.poll() is not None, words)
        assert self.log.count(words) >= times, self.log

    def reads(self, *sensors: str, times: int = 1) -> AgentProcess:
        """Wait until the sensors' ports are open: what a board printed before is not read."""
        for sensor in sensors:
            self.says(f"sensor {sensor}: open", times)
        return self

    def pause(self) -> None:
        self.process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        self.process.send_signal(signal.SIGCONT)

    def limit_files_to(self, size: int) -> None:
        """No file of its may grow beyond that: a full disk, for this process only."""
        resource.prlimit(self.process.pid, resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))

    def stop(self, how: signal.Signals = signal.SIGTERM) -> Kept:
        """End it as a service manager would; what it left. It must end with 0."""
        assert self.ended_with(how) == 0, self.log
        return Kept(self.config)

    def ended_with(self, how: signal.Signals) -> int:
        """Its exit status after a signal."""
        began = time.monotonic()
        self.process.send_signal(how)
        status = self.process.wait(PATIENCE_S)
        self._reader.join()
        self.stop_s = time.monotonic() - began
        print(f"the agent ended {self.stop_s:.2f} s after {how.name}")
        return status

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(PATIENCE_S)
        self._reader.join()
        assert self.process.stderr is not None
        self.process.stderr.close()

    def _read(self) -> None:
        assert self.process.stderr is not None
        self._lines.extend(iter(self.process.stderr.readline, ""))
