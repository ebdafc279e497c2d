"""Made-up stations for golden samples: full, hourly, broken and half-empty histories from calm to stormy.

Invented rather than taken from a data set, so that a bundle carries nobody's measurements. Seeded: the same every time.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge_agent.grid import GRID_VARIABLES, HISTORY_STEPS, STEP_S, STEPS_PER_DAY
from edge_agent.inference import Array

Rows = NDArray[np.float64]
_AT = {name: i for i, name in enumerate(GRID_VARIABLES)}
_DECIMALS = (1, 0, 1, 1, 1, 0, 1, 0)  # as cheap stations report, and small in the file


@dataclass(frozen=True, slots=True)
class Station:
    """One made-up station: where and when it stands, its climate, what is wrong with its history, and whether it stands
    beside the one before it."""

    latitude: float
    longitude: float
    elevation_m: float
    origin: int
    temperature: float
    swing: float  # half the daily range, K
    wind: float
    damage: Callable[[Rows], None]
    beside: bool = False


def _none(history: Rows) -> None:
    """A perfect record."""


def _hourly(history: Rows) -> None:
    history[np.arange(HISTORY_STEPS) % 4 != (HISTORY_STEPS - 1) % 4] = np.nan


def _two_days_of_temperature(history: Rows) -> None:
    history[: -2 * STEPS_PER_DAY] = np.nan
    history[:, 1:] = np.nan


def _holes(history: Rows) -> None:
    gaps = np.random.default_rng(9).random((HISTORY_STEPS // 40, len(GRID_VARIABLES))) < 0.5
    history[np.repeat(gaps, 40, axis=0)] = np.nan
    history[-1] = np.nan


def _no_wind_or_rain(history: Rows) -> None:
    history[:, _AT["wind_speed"] : _AT["rain"] + 1] = np.nan


def _silent(history: Rows) -> None:
    history[-8:] = np.nan


STATIONS: tuple[Station, ...] = (
    Station(47.4, 8.5, 410.0, 1_561_982_400, 21.0, 6.0, 2.5, _none),
    Station(47.3, 8.7, 520.0, 1_561_982_400, 20.0, 6.5, 2.0, _none, beside=True),
    Station(64.1, -21.9, 60.0, 1_578_009_600, 1.0, 1.0, 9.0, _none),
    Station(-33.9, 151.2, 40.0, 1_546_300_800, 24.0, 4.0, 4.0, _hourly),
    Station(1.3, 103.8, 15.0, 1_583_020_800, 28.0, 3.0, 1.5, _holes),
    Station(40.0, 116.3, 45.0, 1_483_272_900, -4.0, 7.0, 2.0, _no_wind_or_rain),
    Station(float("nan"), float("nan"), float("nan"), 1_601_557_200, 14.0, 5.0, 3.0, _none),
    Station(51.0, 3.7, 10.0, 1_662_041_700, 18.0, 5.0, 3.5, _two_days_of_temperature),
    Station(39.7, -105.2, 1730.0, 1_620_000_000, 10.0, 9.0, 3.0, _silent),
)


def golden_inputs() -> dict[str, Array]:
    """history [9, 2880, 8], site [9, 4], origin [9] and group [9] of the made-up stations."""
    histories = [history_of(station, seed) for seed, station in enumerate(STATIONS)]
    sites = [[s.latitude, s.longitude, s.elevation_m, np.nan] for s in STATIONS]
    return {
        "history": np.stack(histories).astype(np.float32),
        "site": np.array(sites, np.float32),
        "origin": np.array([s.origin for s in STATIONS], np.int64) // STEP_S * STEP_S,
        "group": np.cumsum([not s.beside for s in STATIONS], dtype=np.int64) - 1,
    }


def history_of(station: Station, seed: int) -> Rows:
    """[2880, 8]: a daily cycle, weather that comes and goes over a day or two, and noise; then the damage."""
    rng = np.random.default_rng(seed)
    hours = (station.origin + STEP_S * np.arange(1 - HISTORY_STEPS, 1)) / 3600.0
    shift = 0.0 if np.isnan(station.longitude) else station.longitude / 15.0
    day = np.cos((hours + shift - 15.0) * (2 * np.pi / 24.0))
    weather = np.stack([_red_noise(rng) for _ in range(6)], 1)
    temperature = station.temperature + station.swing * day + 2.5 * weather[:, 0]
    humidity = np.clip(70.0 - 3.0 * station.swing * day - 9.0 * weather[:, 1], 12.0, 100.0)
    elevation = 0.0 if np.isnan(station.elevation_m) else station.elevation_m
    pressure = 1013.25 * np.exp(-elevation / 8400.0) + 7.0 * weather[:, 2]
    wind = np.abs(
        station.wind * (1.0 + 0.3 * day) + 0.4 * station.wind * weather[:, 3] + 0.3 * rng.standard_normal(HISTORY_STEPS)
    )
    gust = 1.5 * wind + 0.5 * np.abs(rng.standard_normal(HISTORY_STEPS))
    direction = (230.0 + 70.0 * weather[:, 4] + 10.0 * rng.standard_normal(HISTORY_STEPS)) % 360.0
    rain = np.where(weather[:, 5] > 1.2, rng.exponential(0.6, HISTORY_STEPS), 0.0)
    sun = np.clip(800.0 * day, 0.0, None) * np.clip(1.0 - 0.3 * weather[:, 1], 0.1, 1.0)
    columns = (temperature, humidity, pressure, wind, gust, direction, rain, sun)
    history = np.stack([np.round(c, d) for c, d in zip(columns, _DECIMALS, strict=True)], 1)
    station.damage(history)
    return history


def _red_noise(rng: np.random.Generator) -> Rows:
    """[2880] of mean 0 and deviation about 1 that forgets itself over a day."""
    memory = np.exp(-1.0 / STEPS_PER_DAY)
    steps = rng.standard_normal(HISTORY_STEPS) * np.sqrt(1.0 - memory**2)
    out = np.empty(HISTORY_STEPS)
    value = rng.standard_normal()
    for i, step in enumerate(steps):
        value = memory * value + step
        out[i] = value
    return out
