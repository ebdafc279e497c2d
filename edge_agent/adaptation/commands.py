"""`edge-agent adaptation`: what a station has learned, and how to make it begin anew."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click
import numpy as np

from edge_agent.adaptation.calibration import Calibration
from edge_agent.adaptation.features import CORRECTED
from edge_agent.adaptation.learner import BY_BUNDLE, MIXED, NETWORK, Learner
from edge_agent.adaptation.live import MOST_EXPERTS
from edge_agent.adaptation.saved import unpack
from edge_agent.bundle.station_task import EVENTS, OUTPUT_VARIABLES
from edge_agent.clock import format_time
from edge_agent.config import load
from edge_agent.errors import DataError
from edge_agent.forecast import LEADS_S, QUANTILES
from edge_agent.transfer import open_store, station_of

SHOWN_LEADS_S = (900, 3600, 10_800, 21_600)


def show_command(config: Path, station: str | None, json_: bool) -> None:
    """`edge-agent adaptation show`: from the store, as it was kept last.

    Raises:
        ConfigError: the configuration, or no such station.
        DataError: nothing was kept, or it cannot be used; StoreError: the store.
    """
    settings = load(config)
    where = station_of(settings, station)
    learner = Learner(LEADS_S, QUANTILES, EVENTS, expert=len(settings.stations) <= MOST_EXPERTS)
    with open_store(settings, read_only=True) as store:
        kept = store.learned(where.id)
    if not kept:
        raise DataError(f"station {where.id}: nothing is kept yet: it is, once a day and when the agent is stopped")
    try:
        unpack(kept, learner)
    except DataError as error:
        raise DataError(f"station {where.id}: what it has learned is not used: {error}") from None
    rows = [row for name in OUTPUT_VARIABLES for row in _rows(learner, name)]
    if not rows:
        raise DataError(
            f"station {where.id}: nothing is learned yet: it is from verdicts, hours after a first forecast"
        )
    about = {"station": where.id, "learned_until": format_time(learner.learned_until), "bytes": len(kept)}
    click.echo(json.dumps(about | {"rows": rows}, indent=1) if json_ else _table(about, rows))


def reset_command(config: Path, station: str | None) -> None:
    """`edge-agent adaptation reset`: forget it; a running agent begins anew at its next forecast.

    Raises:
        ConfigError: the configuration, or no such station.
        StoreError: the store, or there is none yet.
    """
    settings = load(config)
    where = station_of(settings, station)
    open_store(settings, read_only=True).close()  # says so where there is none, and makes none
    with open_store(settings) as store:
        store.hand_learned(where.id, b"")
        store.commit()
    click.echo(f"station {where.id}: what it had learned is gone; it begins anew at the next forecast")


def _rows(learner: Learner, name: str) -> list[dict[str, Any]]:
    """One variable at the leads that are shown. `rmse_ratio`: of the corrected mean to the bundle's, of late; `used`:
    the corrected mean is; `width_80`: of the central interval over the bundle's."""
    v, rows = OUTPUT_VARIABLES.index(name), []
    used = learner.used()
    for lead in SHOWN_LEADS_S:
        i = learner.leads_s.index(lead)
        verdicts = int(learner.calibration.verdicts[BY_BUNDLE, i, v])
        if not verdicts:
            continue
        row: dict[str, Any] = {"variable": name, "lead_s": lead, "verdicts": verdicts}
        if name in CORRECTED:
            c = CORRECTED.index(name)
            ratio = np.sqrt(learner.squares[MIXED, i, c] / learner.squares[NETWORK, i, c])
            row |= {"rmse_ratio": round(float(ratio), 4), "used": bool(used[i, c])}
        rows.append(row | {"width_80": round(_width(learner.calibration, i, v), 3)})
    return rows


def _width(calibration: Calibration, lead: int, variable: int) -> float:
    """By how much the outer quantiles of the central 80 % lie farther out than the bundle's, on a daily average."""
    at = [int(np.argmin(np.abs(calibration.levels - level))) for level in (0.1, 0.9)]
    here = (BY_BUNDLE, lead, variable, at)
    return float(np.exp(calibration.terms[*here, 0] + calibration.quick[here]).mean())


def _table(about: dict[str, Any], rows: list[dict[str, Any]]) -> str:
    lines = [
        f"{about['station']}: learned until {about['learned_until']}, {about['bytes'] / 1e6:.1f} MB",
        "",
        "RMSE  of the corrected mean over that of the bundle alone, of late",
        "80 %  width of the central 80 % interval over that of the bundle alone",
        "",
        f"{'variable':<15} {'lead':>7} {'verdicts':>8} {'RMSE':>6} {'used':>5} {'80 %':>6}",
    ]
    for row in rows:
        ratio, used = (f"{row['rmse_ratio']:.3f}", "yes" if row["used"] else "no") if "used" in row else ("", "")
        lead = f"{row['lead_s'] // 60} min"
        lines.append(
            f"{row['variable']:<15} {lead:>7} {row['verdicts']:>8} {ratio:>6} {used:>5} {row['width_80']:>6.2f}"
        )
    return "\n".join(lines)
