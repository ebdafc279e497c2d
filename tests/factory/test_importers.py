"""Raw folders become series in the vocabulary: right units and times, faults missing and counted, nothing invented."""

from __future__ import annotations

import json
import lzma
import math
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.clock import parse_time
from edge_agent.errors import DataError
from edge_agent.history import read_history
from edge_agent.variables import VARIABLES
from model_factory.sources import beijing, era5_points, macleish, nerrs, nyc, vlinder, zurich
from model_factory.sources.stations import IMPORTERS, import_network
from model_factory.sources.table import Place, StationTable, station_table

CORPUS = Path(os.environ.get("STATIONCAST_CORPUS", Path(__file__).resolve().parents[2].parent / "shared" / "data"))

ZURICH = """\
time_utc,air_temperature,barometric_pressure_qfe,dew_point,global_radiation,humidity,precipitation,water_temperature,\
wind_direction,wind_force_avg_10min,wind_gust_max_10min,wind_speed_avg_10min,windchill,columns_repaired
2019-01-07T23:10:00Z,3.0,981.0,0.1,0.0,81.0,0.2,6.2,273.0,2.0,5.3,2.6,0.0,0
2019-01-07T23:20:00Z,2.9,980.9,0.0,0.0,81.0,0.0,6.2,0.0,0.0,0.0,0.0,0.9,1
"""


def write(folder: Path, name: str, text: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    raw = text.encode()
    (folder / name).write_bytes(lzma.compress(raw) if name.endswith(".xz") else raw)
    return folder


def value(table: StationTable, name: str, time: str) -> float:
    return float(table.values[name][table.times.tolist().index(parse_time(time))])


def test_zurich_reads_the_repaired_file_and_gives_a_calm_no_direction(tmp_path: Path) -> None:
    folder = write(tmp_path, "mythenquai_2019.csv.xz", ZURICH)
    write(folder / "as-found", "messwerte_mythenquai_2019.csv.xz", "not,to,be,read\n")
    [station] = zurich.parse(folder)
    assert station.station == "mythenquai" and station.elevation == 406.0
    assert value(station, "rain", "2019-01-07T23:10:00Z") == 0.2
    assert value(station, "wind_gust", "2019-01-07T23:10:00Z") == 5.3
    assert value(station, "wind_direction", "2019-01-07T23:10:00Z") == 273.0
    assert math.isnan(value(station, "wind_direction", "2019-01-07T23:20:00Z"))
    assert station.masked == {"direction of a calm": 1}
    assert "water_temperature" not in station.values


def macleish_rows(speeds: list[float]) -> str:
    head = "when,temperature,wind_speed,wind_dir,rel_humidity,pressure,rainfall\n"
    rows = [
        f"2015-01-01T{i // 6:02d}:{i % 6}0:00-05:00,-9.5,{speed},200,60,1020,0.0\n" for i, speed in enumerate(speeds)
    ]
    return head + "".join(rows)


def test_macleish_time_is_eastern_and_orchards_pressure_is_at_sea_level(tmp_path: Path) -> None:
    [station] = macleish.parse(write(tmp_path, "orchard_2015.csv.xz", macleish_rows([1.0, 2.0])))
    assert value(station, "pressure_msl", "2015-01-01T05:00:00Z") == 1020.0
    assert "pressure" not in station.values


def test_an_iced_anemometer_is_missing_but_a_short_standstill_stays(tmp_path: Path) -> None:
    speeds = [1.5] * 12 + [2.0] + [3.25] * 25 + [4.0]
    [station] = macleish.parse(write(tmp_path, "whately_2015.csv.xz", macleish_rows(speeds)))
    missing = np.isnan(station.values["wind_speed"])
    assert missing.tolist() == [False] * 13 + [True] * 25 + [False]
    assert np.isnan(station.values["wind_direction"]).sum() == 25
    assert station.masked["frozen wind_speed"] == 25


def test_a_broken_sensors_values_are_missing_and_counted(tmp_path: Path) -> None:
    rows = macleish_rows([1.0, 2.0, 3.0]).replace(",-9.5,3.0,200,60,1020", ",-90.1,3.0,200,-4,50.8")
    [station] = macleish.parse(write(tmp_path, "orchard_2015.csv.xz", rows))
    for name in ("temperature", "humidity", "pressure_msl"):
        assert math.isnan(station.values[name][2])
    assert station.values["wind_speed"][2] == 3.0
    assert station.masked == {
        "impossible humidity": 1,
        "impossible pressure_msl": 1,
        "temperature of a broken sensor": 1,
    }


NERRS = """\
datetimestamp,atemp,f_atemp,rh,f_rh,bp,f_bp,wspd,f_wspd,maxwspd,f_maxwspd,wdir,f_wdir,totpar,f_totpar,totprcp,f_totprcp
2012-01-01T05:00:00Z,12.5,<0>,99,<1> [SOC],1022,<0>,1.1,<0>,1.4,<0>,35,<0>,22.0,<0>,0.4,<-3> (CSM)
2012-01-01T05:15:00Z,12.2,<-3> [GPR],99,<0>,1022,<0>,1.0,<0>,1.3,<0>,31,<0>,19.6,<0>,0.5,<1> [SSM]
2012-01-01T05:30:00Z,12.0,<0>,,<-2> [GPD],1022,<0>,1.0,<0>,1.6,<0>,56,<0>,16.7,<0>,0.6,<0> (CRE)
"""


def test_nerrs_keeps_what_its_codes_let_stand(tmp_path: Path) -> None:
    [station] = nerrs.parse(write(tmp_path, "apaebmet_2012.csv.xz", NERRS))
    np.testing.assert_array_equal(station.values["temperature"], [12.5, np.nan, 12.0])
    np.testing.assert_array_equal(station.values["humidity"], [99, 99, np.nan])
    np.testing.assert_array_equal(station.values["rain"], [np.nan, np.nan, 0.6])
    np.testing.assert_array_equal(station.values["wind_gust"], [1.4, 1.3, 1.6])
    assert "solar_radiation" not in station.values  # photons are counted there
    assert station.masked == {"flagged rain": 2, "flagged temperature": 1}


VLINDER_HEAD = (
    "Datum;Tijd (UTC);Temperatuur;Vochtigheid;Luchtdruk;Neerslagintensiteit;Neerslagsom;Windrichting;Windsnelheid;"
    "Rukwind;Luchtdruk_Zeeniveau;Globe Temperatuur;Vlinder\n"
)


def vlinder_folder(folder: Path, messages: list[str]) -> Path:
    write(folder, "stations.csv", "Vlinder,lat,lon,stad\nvlinder01,50.98,3.82,Melle\nvlinder02,51.02,3.71,Gent\n")
    rows = [
        f"2022-09-01;{i // 12:02d}:{5 * (i % 12):02d}:00;{message};vlinder01\n" for i, message in enumerate(messages)
    ]
    return write(folder, "vlinder_2022.csv.xz", VLINDER_HEAD + "".join(rows))


def test_vlinder_is_converted_to_the_vocabularys_units(tmp_path: Path) -> None:
    [station] = vlinder.parse(vlinder_folder(tmp_path, ["18.8;65;101739;0.0;0.0;65;3.6;10.8;102005;"]))
    assert {name: float(column[0]) for name, column in station.values.items() if name != "rain"} == pytest.approx(
        {
            "temperature": 18.8,
            "humidity": 65,
            "pressure": 1017.39,
            "wind_speed": 1,
            "wind_gust": 3,
            "wind_direction": 65,
        }
    )
    assert (station.station, station.elevation) == ("vlinder01", 20.0)


def test_a_message_repeated_three_times_counts_once_and_twice_stays(tmp_path: Path) -> None:
    a, b = (f"{t};65;101739;0.0;0.0;65;3.6;10.8;102005;" for t in ("18.8", "18.9"))
    [station] = vlinder.parse(vlinder_folder(tmp_path, [a, a, b, b, b, b, a]))
    minutes = [(int(t) - parse_time("2022-09-01T00:00:00Z")) // 60 for t in station.times]
    assert minutes == [0, 5, 10, 30]
    assert station.masked["repeated temperature"] == 3 and station.masked["row without a value"] == 3


@given(st.lists(st.tuples(st.integers(0, 40), st.booleans()), min_size=2, max_size=60))
def test_rain_from_a_daily_sum_adds_up_to_what_fell(steps: list[tuple[int, bool]]) -> None:
    """Whatever falls between rows comes back, also over midnight; a restart can only hide what fell before it."""
    sums, fell, total = [0.0], [], 0  # in tenths: 0.2 + 0.4 is a little more than 0.6
    for amount, midnight in steps:
        restart = midnight and amount < total  # otherwise the sum shows no restart
        total = amount if restart else total + amount
        sums.append(total / 10)
        fell.append(amount / 10)
    times = np.arange(len(sums), dtype=np.int64) * 300
    rain, left_out = vlinder.rain_from_day_sum(times, np.array(sums))
    assert math.isnan(rain[0]) and left_out == 0
    np.testing.assert_allclose(rain[1:], fell, atol=1e-6)


def test_rain_of_a_long_silence_belongs_to_no_row() -> None:
    times = np.array([0, 300, 9000, 9300], np.int64)
    rain, left_out = vlinder.rain_from_day_sum(times, np.array([1.0, 1.2, 7.2, 7.4]))
    np.testing.assert_allclose(rain, [np.nan, 0.2, np.nan, 0.2])
    assert left_out == 1


BEIJING = """\
No,year,month,day,hour,PM2.5,PM10,SO2,NO2,CO,O3,TEMP,PRES,DEWP,RAIN,wd,WSPM,station
1,2013,3,1,0,4,4,4,7,300,77,20,1023,10,0.5,WSW,4.4,X
2,2013,3,1,1,8,8,4,7,300,77,NA,1023.2,NA,0,NA,4.7,X
"""


def test_beijing_takes_the_distinct_series_in_beijing_time(tmp_path: Path) -> None:
    write(tmp_path, "PRSA_Data_Dongsi_2013.csv.xz", BEIJING)
    write(tmp_path, "PRSA_Data_Tiantan_2013.csv.xz", BEIJING)  # repeats Dongsi's weather
    [station] = beijing.parse(tmp_path)
    assert station.station == "beijing-dongsi"
    assert value(station, "humidity", "2013-02-28T16:00:00Z") == pytest.approx(52.5, abs=0.1)
    assert value(station, "wind_direction", "2013-02-28T16:00:00Z") == 247.5
    assert math.isnan(value(station, "temperature", "2013-02-28T17:00:00Z"))


NYC = """\
origin,year,month,day,hour,temp,dewp,humid,wind_dir,wind_speed,wind_gust,precip,pressure,visib,time_hour
LGA,2013,1,1,1,59,50,72,260,10,NA,0.1,1013.25,10,2013-01-01T06:00:00Z
LGA,2013,1,1,1,59,50,72,260,11,NA,0.1,1013.25,10,2013-01-01T06:00:00Z
JFK,2013,1,1,1,32,14,47,NA,0,20,0,NA,10,2013-01-01T06:00:00Z
"""


def test_new_york_is_converted_and_its_doubles_dropped(tmp_path: Path) -> None:
    jfk, lga = nyc.parse(write(tmp_path, "weather_2013.csv.xz", NYC))
    got = {name: float(column[0]) for name, column in lga.values.items()}
    assert got["temperature"] == pytest.approx(15.0) and got["rain"] == pytest.approx(2.54)
    assert got["wind_speed"] == pytest.approx(4.4704) and math.isnan(got["wind_gust"])
    assert got["pressure"] == pytest.approx(1012.41, abs=0.005)
    assert len(lga.times) == 1 and lga.masked == {"duplicate time": 1}
    assert float(jfk.values["wind_gust"][0]) == pytest.approx(8.9408)
    assert math.isnan(float(jfk.values["pressure"][0]))


def era5_file(path: Path, raw: dict[str, tuple[list[float], str]]) -> None:
    from scipy.io import netcdf_file

    with netcdf_file(path, "w") as file:
        for name, values, unit in (
            ("time", [0, 1, 2], "hours since 2020-01-01 00:00:00"),
            ("latitude", [47.0], "degrees_north"),
            ("longitude", [9.0, 9.25], "degrees_east"),
        ):
            file.createDimension(name, len(values))
            axis = file.createVariable(name, "f8", (name,))
            axis[:], axis.units = values, unit
        for name, (values, unit) in raw.items():
            column = file.createVariable(name, "f8", ("time", "latitude", "longitude"))
            column[:], column.units = np.repeat(values, 2).reshape(3, 1, 2), unit


def test_era5_points_become_stations_in_the_vocabulary(tmp_path: Path) -> None:
    era5_file(
        tmp_path / "SURF_202001.nc",
        {
            "t2m": ([293.15, 273.15, 283.15], "K"),
            "d2m": ([283.15, 273.16, 278.15], "K"),  # the second: a dew point above the temperature
            "sp": ([95_000.0, 95_100.0, 95_200.0], "Pa"),
            "u10": ([3.0, 0.0, -2.0], "m s**-1"),
            "v10": ([0.0, -4.0, 0.0], "m s**-1"),
            "tp": ([0.0, 0.0012, -1e-19], "m"),
            "ssrd": ([0.0, 720_000.0, 0.0], "J m**-2"),
            "z": ([9806.65] * 3, "m**2 s**-2"),
        },
    )
    first, second = era5_points.parse(tmp_path, name="era5-x", pattern="SURF_*.nc")
    assert (first.station, second.station) == ("era5-x-n4700-e0900", "era5-x-n4700-e0925")
    assert first.elevation == 1000.0 and first.times[1] == parse_time("2020-01-01T01:00:00Z")
    assert first.values["temperature"] == pytest.approx([20.0, 0.0, 10.0])
    assert first.values["humidity"][0] == pytest.approx(52.5, abs=0.1) and first.values["humidity"][1] <= 100.0
    assert first.values["wind_direction"] == pytest.approx([270.0, 0.0, 90.0])
    assert first.values["rain"] == pytest.approx([0.0, 1.2, 0.0])
    assert first.values["solar_radiation"] == pytest.approx([0.0, 200.0, 0.0])


def test_era5_units_that_a_source_converted_are_believed(tmp_path: Path) -> None:
    import xarray

    hours = np.array(["2015-01-01T00", "2015-01-01T01"], "datetime64[ns]")
    columns = {
        "t2m": ([10.0, 11.0], "degrees_Celsius"),
        "sp": ([1.01e5, 1.01e5], "Pa"),
        "tp": ([0.0, 1e-6], "m s-1"),
    }
    data = xarray.Dataset(
        {name: ("time", values, {"units": unit}) for name, (values, unit) in columns.items()},
        coords={"time": hours, "lat": 50.4, "lng": -4.2},
    )
    data.to_netcdf(tmp_path / "era5_2015.nc", engine="h5netcdf")
    [station] = era5_points.parse(tmp_path, name="era5-point", elevation_m=60.0)
    assert (station.station, station.latitude, station.elevation) == ("era5-point", 50.4, 60.0)
    assert station.values["temperature"] == pytest.approx([10.0, 11.0])
    assert station.values["rain"] == pytest.approx([0.0, 3.6])


@given(
    st.lists(st.tuples(st.integers(0, 50), st.floats(-200, 200), st.floats(-50, 1200)), min_size=1, max_size=40),
)
def test_a_closed_series_is_ascending_possible_and_counts_what_it_lost(rows: list[tuple[int, float, float]]) -> None:
    times = np.array([t for t, _, _ in rows], np.int64) * 600
    values = {"temperature": np.array([x for _, x, _ in rows]), "pressure": np.array([p for _, _, p in rows])}
    table = station_table(Place("x", 0.0, 0.0, 0.0), times, values, {})
    assert (np.diff(table.times) > 0).all()
    kept = 0
    for name, column in table.values.items():
        low, high = VARIABLES[name].fail
        there = column[~np.isnan(column)]
        assert ((there >= low) & (there <= high)).all()
        kept += len(there)
    unique = len(set(times.tolist()))
    lost = sum(n for reason, n in table.masked.items() if reason.startswith("impossible"))
    assert kept + lost == 2 * unique
    assert table.masked.get("duplicate time", 0) == len(times) - unique


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("time_utc,air_temperature\n2019-01-01T00:00:00Z,1\n", "no column"),
        (ZURICH.replace("23:20:00Z", "23:20:00"), "time zone"),
        (ZURICH.replace("2.9,980.9", "2,9,980.9"), "row 3"),
        (ZURICH.replace(",980.9,", ",ab,"), "pressure"),
    ],
)
def test_a_file_that_is_not_as_published_is_refused_by_name(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(DataError, match=says):
        zurich.parse(write(tmp_path, "mythenquai_2019.csv.xz", text))


def test_a_broken_archive_is_refused(tmp_path: Path) -> None:
    (tmp_path / "mythenquai_2019.csv.xz").write_bytes(lzma.compress(ZURICH.encode())[:-20])
    with pytest.raises(DataError, match="mythenquai_2019"):
        zurich.parse(tmp_path)


def test_an_imported_network_is_read_back_as_it_was(tmp_path: Path) -> None:
    """What `import` writes is HISTORY.csv: the agent's own reader finds nothing to doubt in it."""
    raw = write(tmp_path / "raw", "mythenquai_2019.csv.xz", ZURICH)
    import_network("zurich-lake", raw, tmp_path / "data")
    folder = tmp_path / "data" / "zurich-lake"
    history = read_history(folder / "mythenquai.csv")
    [station] = zurich.parse(raw)
    assert history.warnings == [] and history.times.tolist() == station.times.tolist()
    for name, column in station.values.items():
        np.testing.assert_allclose(history.values[name], column, atol=1e-3)
    assert (folder / "stations.csv").read_text() == (
        "station,latitude,longitude,elevation\nmythenquai,47.357,8.5363,406\n"
    )
    about = json.loads((folder / "network.json").read_text())
    assert about["licence"] == "CC0-1.0" and about["masked"] == {"direction of a calm": 1}
    assert about["period"] == ["2019-01-07T23:10:00Z", "2019-01-07T23:20:00Z"] and about["reanalysis"] is False


def test_all_imports_what_is_there_and_says_when_nothing_is(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="none of the known folders"):
        import_network("all", tmp_path, tmp_path / "data")
    write(tmp_path / "raw" / "zurich-lake", "mythenquai_2019.csv.xz", ZURICH)
    import_network("all", tmp_path / "raw", tmp_path / "data")
    assert [path.name for path in (tmp_path / "data").iterdir()] == ["zurich-lake"]


def test_the_wrong_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no file of zurich-lake"):
        import_network("zurich-lake", tmp_path, tmp_path / "data")


@pytest.mark.parametrize("kind", sorted(IMPORTERS))
def test_a_real_folder_is_imported_without_doubts(kind: str, tmp_path: Path) -> None:
    if not (CORPUS / kind).is_dir():
        pytest.skip(f"{CORPUS / kind} is not there: set STATIONCAST_CORPUS")
    tables = IMPORTERS[kind].parse(CORPUS / kind)
    assert tables
    for table in tables:
        assert (np.diff(table.times) > 0).all() and -90 <= table.latitude <= 90
        for name, column in table.values.items():
            there = column[~np.isnan(column)]
            low, high = VARIABLES[name].fail
            assert len(there) and low <= there.min() and there.max() <= high, (table.station, name)


def test_the_vlinder_networks_silent_night_is_missing_everywhere() -> None:
    if not (CORPUS / "vlinder-2022-09").is_dir():
        pytest.skip(f"{CORPUS / 'vlinder-2022-09'} is not there: set STATIONCAST_CORPUS")
    start, end = parse_time("2022-09-02T15:30:00Z"), parse_time("2022-09-03T01:30:00Z")
    tables = vlinder.parse(CORPUS / "vlinder-2022-09")
    assert len(tables) == 22
    assert sum(int(((t.times >= start) & (t.times < end)).sum()) for t in tables) == 0
