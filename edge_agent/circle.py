"""Angles in degrees: differences on the circle. Wind from 350 and from 10 is 20 degrees apart, not 340."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]


def wrap(difference: ArrayLike) -> Floats:
    """A difference of directions as the shorter way round, -180 <= d < 180 degrees. Worked: 10 - 350 -> 20."""
    return np.asarray((np.asarray(difference, np.float64) + 180.0) % 360.0 - 180.0)


def near(direction: ArrayLike, reference: ArrayLike) -> Floats:
    """`direction` unwrapped: the same, written within half a turn of `reference`. Worked: 350 near 10 -> -10."""
    start = np.asarray(reference, np.float64)
    return np.asarray(start + wrap(np.asarray(direction, np.float64) - start))


def compass(direction: ArrayLike) -> Floats:
    """A direction in [0, 360)."""
    turned = np.asarray(direction, np.float64) % 360.0
    return np.asarray(np.where(turned >= 360.0, 0.0, turned))  # -1e-20 % 360 rounds up to 360
