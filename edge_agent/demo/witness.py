"""An independent subscriber, a process of another make where there is one, and the check of what it received.

Knows only the wire. Never looks into the agent or its store.
"""

from __future__ import annotations

import subprocess
import sys
import threading
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from edge_agent.bundle.manifest import Manifest
from edge_agent.clock import parse_time
from edge_agent.demo.broker import Broker, end, program
from edge_agent.errors import DataError
from edge_agent.forecast import Level
from edge_agent.observation import Flag
from edge_agent.publish.schemas import validate
from edge_agent.publish.structs import ForecastPayload, ObservationPayload, StatusPayload
from edge_agent.publish.topics import kind_of

TOPICS = "wx/v1/#"
ORIGINS_NEEDED = 2
CUT = "not-json"  # what a sensor's status counts a line under that lost its end


@dataclass(slots=True)
class Findings:
    """What has been received so far. `origins`: station -> origins of its forecasts that came from the model alone;
    `flagged`: values that failed quality control; `faults`: messages that break the schemas; `kinds`: messages each."""

    origins: dict[str, set[int]] = field(default_factory=lambda: defaultdict(set))
    flagged: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    kinds: Counter[str] = field(default_factory=Counter)
    rejected: dict[tuple[str, str, str], int] = field(default_factory=dict)  # (station, sensor, reason)
    other: str = ""  # the latest forecast that was not from the model, and why

    def missing(self, stations: tuple[str, ...]) -> list[str]:
        """What has not been seen yet, in words; empty when all has."""
        short = [
            f"{station}: nowcast-only forecasts at {len(self.origins.get(station, ()))} of {ORIGINS_NEEDED} origins"
            + (f" ({self.other})" if self.other else "")
            for station in stations
            if len(self.origins.get(station, ())) < ORIGINS_NEEDED
        ]
        if not self.flagged:
            short.append("no observation with a failed value (the reading of 85 degC)")
        if not any(reason == CUT for _, _, reason in self.rejected):
            short.append("no status that counts the line which was cut off")
        return short


class Witness:
    """Checks messages as they come, in the subscriber's thread; what it found may be asked from any."""

    def __init__(self, manifest: Manifest, stations: tuple[str, ...]) -> None:
        self.name = ""  # of the program that receives
        self._manifest, self._stations = manifest, stations
        self._findings = Findings()
        self._lock = threading.Lock()

    def message(self, topic: str, payload: bytes) -> None:
        """Take one message as it came from the broker."""
        kind = kind_of(topic)
        station = topic.split("/")[2] if kind else ""
        with self._lock:
            self._findings.kinds[kind or topic] += 1
            if kind is None:
                self._findings.faults.append(f"{topic}: no topic of ours")
                return
            try:
                content = validate(kind, payload)
            except DataError as error:
                self._findings.faults.append(f"{topic}: {error}")
                return
            if isinstance(content, ForecastPayload):
                self._forecast(station, content)
            elif isinstance(content, ObservationPayload):
                failed = (f"{name} {qc.why}" for name, qc in content.qc.items() if qc.flag == Flag.FAIL.value)
                self._findings.flagged += [f"{station}: {text}" for text in failed]
            elif isinstance(content, StatusPayload):
                for name, sensor in content.sensors.items():
                    self._findings.rejected |= {(station, name, reason): n for reason, n in sensor.rejected.items()}

    def missing(self) -> list[str]:
        """What has not been seen yet, in words; empty when all has."""
        with self._lock:
            return self._findings.missing(self._stations)

    def rejected(self) -> dict[tuple[str, str, str], int]:
        """(station, sensor, reason) -> messages that were no reading, as the last status tells."""
        with self._lock:
            return dict(self._findings.rejected)

    @property
    def faults(self) -> list[str]:
        """Messages that break the schemas."""
        with self._lock:
            return list(self._findings.faults)

    @property
    def summary(self) -> str:
        """What came, in one line."""
        with self._lock:
            return ", ".join(f"{n} {kind}" for kind, n in sorted(self._findings.kinds.items()))

    def _forecast(self, station: str, forecast: ForecastPayload) -> None:
        model = forecast.source == self._manifest.name and self._manifest.precision == "int8"
        if forecast.level is Level.NOWCAST_ONLY and model:
            self._findings.origins[station].add(parse_time(forecast.start) - forecast.step_s)
        else:
            self._findings.other = f"the last other one: {forecast.level} from {forecast.source}, {forecast.why}"


@contextmanager
def listening(broker: Broker, witness: Witness) -> Iterator[None]:
    """Run the subscriber and hand the witness what it receives. `mosquitto_sub` if it is installed, else paho; both in
    a process of their own."""
    own = [sys.executable, "-m", "edge_agent.demo.subscriber", broker.host, str(broker.port), TOPICS]
    installed = program("mosquitto_sub")
    theirs = [str(installed), "-h", broker.host, "-p", str(broker.port), "-q", "1", "-v", "-t", TOPICS]
    witness.name = "mosquitto_sub" if installed else "paho, in a process of its own"
    process = subprocess.Popen(theirs if installed else own, stdout=subprocess.PIPE, start_new_session=True)
    reader = threading.Thread(target=_read, args=(process, witness), name="subscriber", daemon=True)
    reader.start()
    try:
        yield
    finally:
        end(process)
        reader.join(timeout=5)


def _read(process: subprocess.Popen[bytes], witness: Witness) -> None:
    assert process.stdout is not None
    with process.stdout as lines:
        for line in lines:
            topic, _, payload = line.rstrip(b"\n").partition(b" ")
            witness.message(topic.decode("utf-8", "replace"), payload)
