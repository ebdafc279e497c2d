"""OpenWeatherMap: the 5 day / 3 hour forecast and One Call 3.0 (openweathermap.org/forecast5, /api/one-call-3).

Pure: a URL, and bytes in, guidance out. Answers do not say their units: we ask for metric ones,
and know the service's own, kelvin, by their size. Nor do they say their
run or their height: they can be used from when they came, and no height is corrected.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from edge_agent.config import Station
from edge_agent.errors import DataError
from edge_agent.guidance import Run
from edge_agent.guidance.sources import Guidance, decoded, number, query, some, valid_times

LEAST_K = 150.0  # no air is so warm in degC, and none so cold in kelvin


class OpenWeatherMap:
    """A source; `key`: of the account. `base`: where its API is; one that ends in `onecall` is One Call."""

    name = "openweathermap"
    licence = "Weather data provided by OpenWeather (openweathermap.org)"

    def __init__(self, key: str, base: str = "https://api.openweathermap.org/data/2.5/forecast") -> None:
        self._key, self._base = key, base

    def url(self, station: Station) -> str:
        more = {"exclude": "minutely,daily,alerts"} if self._base.endswith("onecall") else {}
        return f"{self._base}?" + query(
            lat=station.latitude, lon=station.longitude, units="metric", appid=self._key, **more
        )

    def parse(self, answer: bytes, fetched: int) -> Guidance:
        """The steps of either answer. Raises DataError: it has none."""
        told = decoded(answer, self.name)
        steps = told["hourly"] if "hourly" in told else told.get("list")
        if not isinstance(steps, list) or not all(isinstance(step, dict) for step in steps):
            raise DataError(f"{self.name}: {str(told.get('message', 'the answer has no steps'))[:200]}")
        valid = valid_times([step.get("dt") for step in steps], _seconds, self.name)
        read = [_hourly(step) if "hourly" in told else _three_hourly(step) for step in steps]
        values = {name: np.array([row.get(name, math.nan) for row in read]) for name in {*(n for r in read for n in r)}}
        for name in {"temperature", "dew_point"} & values.keys():
            values[name] = np.where(values[name] > LEAST_K, values[name] - 273.15, values[name])
        return Guidance(self.name, Run(fetched, valid, some(values, self.name)), math.nan, True, self.licence)


def _three_hourly(step: Mapping[str, object]) -> dict[str, float]:
    main, wind = _part(step, "main"), _part(step, "wind")
    return {
        "temperature": number(main.get("temp")), "humidity": number(main.get("humidity")),
        "pressure": number(main.get("grnd_level")), "pressure_msl": number(main.get("sea_level")),
        "wind_speed": number(wind.get("speed")), "wind_gust": number(wind.get("gust")),
        "wind_direction": number(wind.get("deg")), "rain": _fallen(step, "3h"),
    }  # fmt: skip


def _hourly(step: Mapping[str, object]) -> dict[str, float]:
    return {
        "temperature": number(step.get("temp")), "humidity": number(step.get("humidity")),
        "dew_point": number(step.get("dew_point")), "pressure_msl": number(step.get("pressure")),
        "wind_speed": number(step.get("wind_speed")), "wind_gust": number(step.get("wind_gust")),
        "wind_direction": number(step.get("wind_deg")), "uv_index": number(step.get("uvi")),
        "rain": _fallen(step, "1h"),
    }  # fmt: skip


def _fallen(step: Mapping[str, object], span: str) -> float:
    """Rain and molten snow of a step, mm; a step that names neither is dry."""
    parts = [number(_part(step, kind).get(span, 0.0)) for kind in ("rain", "snow")]
    return sum(parts)


def _part(step: Mapping[str, object], name: str) -> Mapping[str, object]:
    part = step.get(name)
    return part if isinstance(part, dict) else {}


def _seconds(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise ValueError(f"{value!r:.40} is no number of seconds")
    return value
