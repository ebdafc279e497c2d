"""The station task's tensors: what goes in and out of every station bundle, with names, units and order.

The reader holds a bundle against these; the factory writes them. They never depend on a bundle.
"""

from __future__ import annotations

from edge_agent.bundle.manifest import Axis, Event, Tensor
from edge_agent.forecast import LEADS_S, QUANTILES
from edge_agent.grid import GRID_VARIABLES, HISTORY_STEPS, STEP_S
from edge_agent.variables import VARIABLES

TASK_STEP_S = STEP_S
REQUIRED_QUANTILES: tuple[float, ...] = (0.05, 0.1, 0.5, 0.9, 0.95)
OUTPUT_VARIABLES: tuple[str, ...] = (
    "temperature", "humidity", "pressure", "wind_speed", "wind_gust", "wind_direction", "rain", "solar_radiation",
)  # fmt: skip
WIND_AXIS = (Axis("eastward_wind", "m/s"), Axis("northward_wind", "m/s"))  # towards; CF names
RAIN_EVENT = Event("rain", "rain", 0.2, "mm")
EVENTS: tuple[Event, ...] = (RAIN_EVENT,)
# What quantiles say besides, so that no bundle needs an output for it (`forecast.chances`): air frost, and a gust of
# Beaufort 7 (near gale), from 13.9 m/s on (WMO-No. 8, part I, table 5.1).
DERIVED_EVENTS: tuple[Event, ...] = (
    Event("frost", "temperature", 0.0, "degC", "<"),
    Event("gust", "wind_gust", 13.9, "m/s"),
)


def _axis(names: tuple[str, ...]) -> tuple[Axis, ...]:
    return tuple(Axis(name, VARIABLES[name].unit) for name in names)


HISTORY = Tensor("history", "float32", ("S", HISTORY_STEPS, len(GRID_VARIABLES)), _axis(GRID_VARIABLES))
SITE = Tensor(
    "site",
    "float32",
    ("S", 4),
    (Axis("latitude", "degree"), Axis("longitude", "degree"), Axis("elevation", "m"), Axis("guidance_elevation", "m")),
)
ORIGIN = Tensor("origin", "int64", ("S",), (Axis("origin", "s"),))
INPUTS: tuple[Tensor, ...] = (HISTORY, SITE, ORIGIN)

# Attention only between rows of equal group and origin; a bundle that has no neighbours does not name it.
GROUP = Tensor("group", "int64", ("S",), (Axis("group", "1"),))


def outputs(
    leads: int = len(LEADS_S), levels: int = len(QUANTILES), events: tuple[Event, ...] = EVENTS
) -> tuple[Tensor, ...]:
    """The outputs of a station bundle with that many leads and quantile levels. Quantiles of `wind_direction` are
    unwrapped around the mean direction; the axis of `quantiles` is its third, that of the others the last."""
    variables = _axis(OUTPUT_VARIABLES)
    return (
        Tensor("mean", "float32", ("S", leads, len(variables)), variables),
        Tensor("quantiles", "float32", ("S", leads, len(variables), levels), variables),
        Tensor("wind_uv", "float32", ("S", leads, 2), WIND_AXIS),
        Tensor("probability", "float32", ("S", leads, len(events)), tuple(Axis(event.name, "1") for event in events)),
    )
