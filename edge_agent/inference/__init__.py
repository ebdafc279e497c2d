"""Running a bundle's graph: one `Session` protocol, one file a runtime.

Must never transform what goes in or comes out: that is the graph's.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from edge_agent.bundle.manifest import Manifest

Array = NDArray[Any]


class Session(Protocol):
    """A loaded bundle, ready to forecast."""

    manifest: Manifest

    def run(self, inputs: Mapping[str, Array]) -> dict[str, NDArray[np.float32]]:
        """Named tensors in, named tensors out, shapes and units as the manifest says.

        Raises:
            BundleError: an input is missing or has the wrong shape, or the runtime failed.
        """
