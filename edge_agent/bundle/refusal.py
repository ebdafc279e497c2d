"""What a command says of a bundle that is refused: which file, what is wrong with it, and what to do."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from edge_agent.errors import BundleError

AGAIN = "copy the file again, or make it anew with `model-factory bundle`"
_NEWER = "update Stationcast, or take a bundle made for this version"
_OTHER = "take another bundle, or another version of the runtime"
REMEDIES = {
    "unreadable": "name a bundle that can be read",
    "schema-version": _NEWER,
    "task": _NEWER,
    "unknown-key": _NEWER,
    "opset": _NEWER,
    "operator": _NEWER,
    "over-budget": "take a bundle made for this device",
    "unsigned": "set allow_unsigned = true in [forecast] if you trust it",
    "runtime": _OTHER,
    "golden": _OTHER,
    "golden-crash": _OTHER,
    "golden-timeout": _OTHER,
}


def remedy(refused: str) -> str:
    """What to do about a bundle that was refused with this word; where the file itself is at fault: `AGAIN`."""
    return REMEDIES.get(refused, AGAIN)


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """A refusal within names the bundle's file and a remedy. Raises BundleError."""
    try:
        yield
    except BundleError as error:
        raise BundleError(error.refused, f"{error.detail}: {remedy(error.refused)}", bundle=str(path)) from error
