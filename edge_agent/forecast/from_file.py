"""A forecast from a file, and what the commands that read files share: the site, the bundle, the warnings."""

from __future__ import annotations

import re
from pathlib import Path

import click
import numpy as np

from edge_agent.bundle.golden import verify_golden
from edge_agent.bundle.reader import default_bundle, read_bundle
from edge_agent.bundle.refusal import naming
from edge_agent.clock import SystemClock, format_time, parse_time
from edge_agent.config import Station
from edge_agent.config_values import value_problem
from edge_agent.console import keep_inputs, tell
from edge_agent.errors import ConfigError, DataError
from edge_agent.forecast.fan import fans_of
from edge_agent.forecast.near import near_of
from edge_agent.forecast.nowcast import Nowcaster
from edge_agent.grid import GRID_VARIABLES, STEP_S
from edge_agent.history import History, read_history
from edge_agent.inference.opening import open_session
from edge_agent.network import keep_network

EXPIRY_S = 3600


def nowcast_command(
    history: Path,
    latitude: float,
    longitude: float,
    elevation: float,
    neighbours: Path | None,
    origin: str | None,
    bundle: Path | None,
    format_: str,
    plot: Path | None,
    adapt: bool,
) -> None:
    """`edge-agent nowcast`: one forecast, printed. Raises StationcastError."""
    keep_inputs("--plot", plot, history, bundle)
    keep_network("--plot", plot, neighbours)
    if plot is not None:
        from edge_agent.forecast import plots

        plots.check(plot)
    station = given_station(history, latitude, longitude, elevation)
    nowcaster = load_nowcaster(bundle)
    near = near_of(neighbours, nowcaster, station, history)
    past = read_history(history, elevation_m=station.elevation_m)
    tell(past.warnings)
    check_readings(past, history)
    at = given_time("--origin", origin)
    if at is None:
        at = past.last // STEP_S * STEP_S if adapt else past.last
    _check_origin(past, at, history)
    issued = int(SystemClock().now())
    if adapt:
        from edge_agent.adaptation.past import adapted

        if at % STEP_S:
            raise ConfigError(f"--origin {origin}: what is learned is learned at full quarter hours: give one of these")
        made = adapted(past, station, nowcaster, at, near)
        forecast = nowcaster.issue(made, 0, station.id, past.ages(at), at, issued)
    else:
        seen = [(station, past), *(near.histories(at, at) if near else ())]
        x = np.stack([its.grid_ending(at) for _, its in seen])
        forecast, *_ = nowcaster.forecast(
            [each for each, _ in seen], x, [its.ages(at) for _, its in seen], at, issued,
            group=np.zeros(len(seen), np.int64),
        )  # fmt: skip
    if format_ == "json":
        from edge_agent.publish.payloads import forecast_payload, to_json

        click.echo(to_json(forecast_payload(forecast, EXPIRY_S)).decode())
    elif format_ == "csv":
        from edge_agent.forecast.rows import forecast_csv

        click.echo(forecast_csv(forecast))
    else:
        from edge_agent.forecast.terminal import forecast_table

        click.echo(forecast_table(forecast))
    if plot is not None:
        plots.draw_nowcast(plot, fans_of(forecast, x[0]), title=f"{history.name}, from {format_time(at)}")


def load_nowcaster(bundle: Path | None) -> Nowcaster:
    """A nowcaster with the bundle in a file, or with the one shipped. Another than that is tried on its golden samples
    before it is let into this process. Raises BundleError: refused, with its file and what to do."""
    path = bundle or default_bundle()
    with naming(path):
        read = read_bundle(path)
        if read.trust != "package":
            verify_golden(path, read.digest)
        return Nowcaster(open_session(read))


def given_station(history: Path, latitude: float, longitude: float, elevation: float) -> Station:
    """The station that the options describe, named after the file.

    Raises:
        ConfigError: coordinates that do not exist.
    """
    for key, value in (("latitude", latitude), ("longitude", longitude), ("elevation_m", elevation)):
        problem = value_problem(Station, key, value)
        if problem:
            raise ConfigError(f"--{key.removesuffix('_m')} {problem}")
    slug = re.sub(r"[^a-z0-9]+", "-", history.name.lower().split(".")[0]).strip("-")[:40]
    id_ = slug if len(slug) >= 3 else "station"
    return Station(id=id_, latitude=latitude, longitude=longitude, elevation_m=elevation)


def check_readings(past: History, path: Path) -> None:
    """Raises DataError: the file has no reading that a nowcast begins with."""
    if past.variables:
        return
    wanted = ", ".join(GRID_VARIABLES)
    there = [name for name, column in past.values.items() if not np.isnan(column).all()]
    if not there:
        raise DataError(f"{path}: no readings of {wanted}: all values are missing")
    raise DataError(
        f"{path}: has {', '.join(there)}, and nothing that this command forecasts ({wanted}): other variables, daily"
        " records among them, need `hindcast --guidance`"
    )


def given_time(option: str, text: str | None) -> int | None:
    """An option's time as UTC seconds. Raises ConfigError: not a time, or without a zone."""
    if text is None:
        return None
    try:
        return parse_time(text)
    except DataError as error:
        raise ConfigError(f"{option}: {error}") from None


def _check_origin(past: History, origin: int, path: Path) -> None:
    if not past.ages(origin):
        raise DataError(
            f"{path}: no readings in the 30 days up to {format_time(origin)}: they go from {format_time(past.first)} to"
            f" {format_time(past.last)}; choose another --origin"
        )
