"""Lead bands: which forecasts are corrected alike.

Up to 12 h, where a station reads often enough for its newest error to count, a band is a span of leads from the origin.
Beyond, and for daily records, it is a span of leads of the guidance itself: how old its run is then matters more.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

SHORT_HOURS = (0.25, 0.5, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11)
LONG_HOURS = (
    3, 6, 9, 12, 15, 18, 21, 24, 27, 30, 33, 36, 42, 48, 54, 60, 72, 84, 96, 108, 120, 144, 168, 192, 240, 288, 336,
)  # fmt: skip
SHORT = len(SHORT_HOURS)
BANDS = SHORT + len(LONG_HOURS) + 1
SHORT_S = 12 * 3600  # from here on a lead is long


def bands(origin: int, issued: int, valid: NDArray[np.int64], often: bool) -> NDArray[np.int64]:
    """The band of each valid time, [L]; below `SHORT`: a short one. `often`: the station reads every 3 h or oftener."""
    lead_h = (valid - origin) / 3600.0
    long = SHORT + np.searchsorted(LONG_HOURS, (valid - issued) / 3600.0)
    short = np.minimum(np.searchsorted(SHORT_HOURS, lead_h), SHORT - 1)
    return np.asarray(np.where(often & (valid - origin < SHORT_S), short, long))


def hours_ahead(band: int) -> float:
    """Up to how many hours ahead a short band reaches; a day where it is a long one."""
    return float((*SHORT_HOURS, 12)[band]) if band < SHORT else 24.0
