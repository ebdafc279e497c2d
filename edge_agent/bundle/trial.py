"""From a bundle's file to a session the agent may use: read, trusted, tried on its golden samples in a child process.

Must never let a model that was not tried on this device into the agent's own process. It is tried at every start: a
memory card may have moved to another device, or the runtime been replaced, since the last.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from edge_agent.bundle.devices import DEVICES
from edge_agent.bundle.golden import verify_golden
from edge_agent.bundle.reader import default_bundle, read_bundle
from edge_agent.bundle.refusal import remedy
from edge_agent.config import Forecast as ForecastConfig
from edge_agent.errors import BundleError
from edge_agent.inference import Session


@dataclass(frozen=True, slots=True)
class Loaded:
    """`session`, or None and `why`; `name` and `digest` of the bundle in use. With a session `why` is not empty where
    the configured bundle was refused and the shipped one stands in for it."""

    session: Session | None
    name: str | None = None
    digest: str = ""
    why: str = ""


def load_session(config: ForecastConfig) -> Loaded:
    """The configured bundle, or the shipped one where none is configured or the configured one is refused. Takes
    seconds; never raises for a bad bundle, nor for a runtime that is not there."""
    shipped = default_bundle()
    chosen = _try(Path(config.bundle) if config.bundle else shipped, config)
    if chosen.session is not None or not config.bundle:
        return chosen
    instead = _try(shipped, config)
    if instead.session is None:
        return Loaded(None, why=f"{chosen.why}; {instead.why}")
    return Loaded(instead.session, instead.name, instead.digest, f"{chosen.why}. The shipped bundle is used instead")


def _try(path: Path, config: ForecastConfig) -> Loaded:
    try:
        device = next((name for name in DEVICES if name == config.device), None)
        bundle = read_bundle(path, device=device, allow_unsigned=config.allow_unsigned)
        verify_golden(path, bundle.digest)
        from edge_agent.inference.opening import open_session  # runtimes are large: nobody waits for them to load

        return Loaded(open_session(bundle, config.threads, device), bundle.manifest.name, bundle.digest)
    except BundleError as error:
        hint = f": {remedy(error.refused)}" if error.refused == "unsigned" else ""
        return Loaded(None, why=f"bundle {path.name}: {error}{hint}")
    except ImportError as error:
        return Loaded(None, why=f"bundle {path.name}: its runtime cannot be loaded here ({error})")
