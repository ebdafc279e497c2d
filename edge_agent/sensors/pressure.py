"""From an altimeter setting back to the pressure at the station. Pure."""

from __future__ import annotations

import math

_P0 = 1013.25  # hPa at sea level in the standard atmosphere
_T0 = 288.0  # K there
_LAPSE = 0.0065  # K/m
_N = 0.190284  # lapse rate x gas constant / gravity
_DEPTH = 0.3  # hPa: the barometer stands 10 ft below the surface the altimeter shows


def station_pressure(altimeter_hpa: float, elevation_m: float) -> float:
    """Station pressure (hPa) whose altimeter setting at that elevation is `altimeter_hpa`; NaN where there is none.

    Solves A = (p - 0.3) [1 + (1013.25^n 0.0065 / 288) h / (p - 0.3)^n]^(1/n), n = 0.190284, for p.
    Source: Smithsonian Meteorological Tables, 6th edition, page 269; also used by the US National Weather Service.
    Example: 1013.25 hPa at 1000 m is 899.0 hPa.
    """
    if altimeter_hpa <= 0:
        return math.nan
    root = altimeter_hpa**_N - _P0**_N * _LAPSE / _T0 * elevation_m
    return math.nan if root <= 0 else root ** (1 / _N) + _DEPTH
