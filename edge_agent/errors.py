"""The error tree. A message says what, where, and what to do next.

    StationcastError
    ├── ConfigError      your configuration: agent.toml, flags
    ├── DataError        your data: a CSV row, an import, a recording
    ├── SensorError      the sensor: a port that cannot open, a device that is gone
    │   └── BadMessage   one message that cannot be read; counted by `reason`, never fatal
    ├── NetworkError     the network: broker unreachable, credentials refused
    ├── StoreError       the store: disk full, file not writable, a newer schema
    └── BundleError      the bundle: refused, with the name of what was refused

Anything else that escapes is our bug.
"""


class StationcastError(Exception):
    """Base of every error a user can act on; commands print it without a traceback and exit with 1."""


class ConfigError(StationcastError):
    """The configuration is wrong: the message names the file, the line where known, and the remedy."""


class DataError(StationcastError):
    """Input data is wrong: the message names the file, the row and the remedy."""


class SensorError(StationcastError):
    """A sensor cannot be opened or read: the agent retries with back-off."""


class BadMessage(SensorError):
    """One message could not be decoded. `reason` is a short stable word used as a counter's name."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason = reason


class NetworkError(StationcastError):
    """The broker cannot be reached or refuses us: the agent queues and retries. `retry_s`: not before so many seconds
    have passed."""

    def __init__(self, message: str, *, retry_s: float = 0.0) -> None:
        super().__init__(message)
        self.retry_s = retry_s


class StoreError(StationcastError):
    """The store cannot be opened or written: `what` in words. `reason`: a short stable word for it, empty where it has
    none. `lost`: readings that had been taken and are gone with it."""

    def __init__(self, what: str, *, reason: str = "", lost: int = 0) -> None:
        super().__init__(what + (f". The {lost} readings since the last commit are lost" if lost else ""))
        self.what, self.reason, self.lost = what, reason, lost


class BundleError(StationcastError):
    """A bundle is refused. `refused` is a short stable word for what was wrong with it, `detail` says it in words;
    `bundle`: its file, where that is told."""

    def __init__(self, refused: str, detail: str, *, bundle: str = "") -> None:
        super().__init__(f"{f'bundle {bundle}: ' if bundle else ''}refused ({refused}): {detail}")
        self.refused, self.detail = refused, detail
