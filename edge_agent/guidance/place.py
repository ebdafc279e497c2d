"""Guidance brought from the height its model answered for to the station's. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from edge_agent.grid import humidity_from_dew_point
from edge_agent.guidance import Floats
from edge_agent.quality.checks import LAPSE, sea_level

STANDARD_C = 15.0  # of the air where guidance has no temperature


def at_height(values: Mapping[str, Floats], elevation_m: float, station_m: float) -> dict[str, Floats]:
    """Guidance [L] of a point at `elevation_m` as of one at `station_m`; either NaN: nothing is moved.

    Temperature by 6.5 K/km; pressure hypsometrically, p exp(g dz / (R_d T)), T the mean of both heights; the dew point
    stays and is held at or below the temperature; humidity is recomputed from both. Only the difference is corrected:
    a model that answered for the station's own height is left as it is.
    """
    out = {name: np.array(value, np.float64) for name, value in values.items()}
    higher = elevation_m - station_m
    if not math.isfinite(higher):
        higher = 0.0
    warmer = LAPSE * higher
    if higher and "dew_point" not in out and {"temperature", "humidity"} <= out.keys():
        out["dew_point"] = dew_point(out["temperature"], out["humidity"])
    for name in ("temperature", "temperature_max", "temperature_min"):
        if name in out:
            out[name] += warmer
    if higher and "pressure" in out:
        celsius = out.get("temperature", np.full(len(out["pressure"]), STANDARD_C))
        kelvin = np.where(np.isnan(celsius), STANDARD_C, celsius) + 273.15 - warmer / 2
        out["pressure"] = np.asarray(sea_level(out["pressure"], higher, kelvin))
    if {"temperature", "dew_point"} <= out.keys():
        out["dew_point"] = np.fmin(out["dew_point"], np.where(np.isnan(out["temperature"]), np.inf, out["temperature"]))
        if higher and "humidity" in out:
            humid = humidity_from_dew_point(out["temperature"], out["dew_point"])
            out["humidity"] = np.where(np.isnan(humid), out["humidity"], np.clip(humid, 0.0, 100.0))
        if "dew_point" not in values:
            del out["dew_point"]
    return out


def dew_point(temperature: Floats, humidity: Floats) -> Floats:
    """Dew point, degC, of air at `temperature` degC and `humidity` %.

    Td = 243.5 v / (17.67 - v), v = ln(RH / 100) + 17.67 t / (t + 243.5): Bolton (1980), eq. 10, solved for Td. Worked:
    20 degC and 52.5 % -> 10.0 degC.
    """
    v = np.log(np.clip(humidity, 0.1, 100.0) / 100.0) + 17.67 * temperature / (temperature + 243.5)
    return np.asarray(243.5 * v / (17.67 - v))
