"""From a bundle to a session on the runtime it names. Runtimes are large: each is imported when one asks for it."""

from __future__ import annotations

from edge_agent.bundle.check import LITERT
from edge_agent.bundle.manifest import Device
from edge_agent.bundle.reader import Bundle
from edge_agent.inference import Session


def open_session(bundle: Bundle, threads: int = 1, device: Device | None = None) -> Session:
    """Ready to forecast. `threads`: how many cores one run may use; `device`: which class this board is.

    Raises:
        BundleError: `runtime`, it cannot load the model; ImportError: the runtime cannot be loaded here.
    """
    if LITERT in bundle.manifest.runtime:
        from edge_agent.inference.litert import LitertSession

        return LitertSession(bundle, threads)
    from edge_agent.inference.onnx import OnnxSession

    return OnnxSession(bundle, threads, device)
