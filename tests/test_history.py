"""HISTORY.csv as people have it: what is read, what is doubted aloud, what is refused with the row named."""

from __future__ import annotations

import gzip
import lzma
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edge_agent import grid, history
from edge_agent.clock import format_time
from edge_agent.config import Station
from edge_agent.errors import DataError
from edge_agent.history import History, read_history
from edge_agent.observation import Flag, Judged, Observation
from edge_agent.quality import QualityControl, slips
from edge_agent.store import Store
from edge_agent.variables import VARIABLES
from tests.forecast.series import START, recorded


def read(tmp_path: Path, text: str | bytes, name: str = "station.csv", **options: float) -> History:
    path = tmp_path / name
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return read_history(path, **options)


def refusal(tmp_path: Path, text: str | bytes, name: str = "station.csv") -> str:
    with pytest.raises(DataError) as caught:
        read(tmp_path, text, name)
    return str(caught.value)


PLAIN = "time,temperature,rain\n2024-05-01T12:00:00Z,11.5,0.2\n2024-05-01T12:10:00Z,,\n2024-05-01T12:20:00Z,12.5,0\n"


def test_names_times_and_missing_values_are_read(tmp_path):
    past = read(tmp_path, PLAIN)
    assert past.times.tolist() == [1714564800, 1714565400, 1714566000]
    np.testing.assert_array_equal(past.values["temperature"], [11.5, np.nan, 12.5])
    np.testing.assert_array_equal(past.values["rain"], [0.2, np.nan, 0.0])
    assert past.warnings == []


def test_each_row_says_its_time_in_its_own_way(tmp_path):
    past = read(
        tmp_path,
        "time,temperature\n1714564800,1\n2024-05-01T14:10:00+02:00,2\n1714566000.0,3\n2024-05-01T12:30:00Z,4\n",
    )
    assert past.times.tolist() == [1714564800, 1714565400, 1714566000, 1714566600]


@pytest.mark.parametrize("word", ["", "NaN", "null", "NA", " ", "none"])
def test_words_for_missing(tmp_path, word):
    past = read(tmp_path, f"time,temperature,humidity\n0,{word},50\n")
    assert np.isnan(past.values["temperature"][0]) and past.warnings == []


def test_infinities_are_missing_and_counted(tmp_path):
    past = read(tmp_path, "time,temperature\n0,inf\n600,-Infinity\n1200,3\n")
    np.testing.assert_array_equal(past.values["temperature"], [np.nan, np.nan, 3.0])
    [warning] = past.warnings
    assert "infinite" in warning and "2, the first in row 2" in warning


def test_columns_not_known_are_named_once_with_the_nearest_name(tmp_path):
    past = read(tmp_path, "time,temprature,temperature,note\n0,1,2,hello\n600,1,3,\n")
    [warning] = past.warnings
    assert 'temprature (did you mean "temperature"?)' in warning and "note" in warning


def test_windows_files_are_read(tmp_path):
    past = read(tmp_path, b"\xef\xbb\xbf" + PLAIN.replace("\n", "\r\n").encode())
    np.testing.assert_array_equal(past.values["temperature"], [11.5, np.nan, 12.5])


@pytest.mark.parametrize(
    ("pack", "name"), [(gzip.compress, "a.csv.gz"), (lzma.compress, "a.csv.xz"), (gzip.compress, "a.csv")]
)
def test_compressed_files_are_read(tmp_path, pack, name):
    assert read(tmp_path, pack(PLAIN.encode()), name).times.tolist() == [1714564800, 1714565400, 1714566000]


@pytest.mark.parametrize(
    ("text", "row", "remedy"),
    [
        ("time;temperature\n0;1\n", 1, "semicolons"),
        ("time\ttemperature\n0\t1\n", 1, "tabs"),
        ('time,temperature\n0,1.5\n600,"2,5"\n', 3, "decimal comma: write a point"),
        ("time,temperature\n0,1.5\n600,2,5\n", 3, "3 values in 2 columns"),
        ("time,temperature\n0,1\n2024-05-01T12:00:00,1\n", 3, "has no time zone"),
        ("time,temperature\n2024-05-01 12:00,1\n", 2, "has no time zone"),
        ("time,temperature\nyesterday,1\n", 2, "not a time"),
        ("time,temperature\n1714564800000,1\n", 2, "milliseconds"),
        ("time,temperature\n1_714_564_800,1\n", 2, "not a time"),
        ("time,temperature\n20240501,1\n", 2, "is a date, not a time"),
        ("time,temperature\n0,warm\n", 2, "not a number"),
        ("time,temperature\n0,1_5\n", 2, "not a number"),
        ("date,temperature\n0,1\n", 1, 'no "time" column'),
        ("time,t2m\n0,1\n", 1, "no column of the vocabulary"),
        ("time,temperature,Temperature\n0,1,2\n", 1, "there twice"),
        ("time,temperature\n", 2, "no rows"),
        ("", 1, "empty"),
        ("time,temperature\n0;1\n", 2, "commas"),
        ("time,station,temperature\n0,a,1\n600,,2\n0,b,1\n", 4, "give each its own file"),
    ],
)
def test_a_refusal_names_the_row_and_the_remedy(tmp_path, text, row, remedy):
    message = refusal(tmp_path, text)
    assert f"station.csv, row {row}: " in message and remedy in message


def test_an_unpaired_quote_swallows_no_rows_unseen(tmp_path):
    """Neither up to the end of the file nor up to the next one."""
    rows = [f"{600 * i},,1" for i in range(50)]
    rows[10] = '6000,"lost,1'
    table = "\n".join(["time,note,temperature", *rows])
    assert "row 12: not CSV" in refusal(tmp_path, table) and "is a quote unpaired?" in refusal(tmp_path, table)
    rows[20] = '12000,"'
    message = refusal(tmp_path, "\n".join(["time,note,temperature", *rows]))
    assert "row 12: goes on over 11 lines: is a quote unpaired?" in message


def test_a_value_of_several_lines_is_told_though_it_is_read(tmp_path):
    past = read(tmp_path, 'time,temperature,note\n0,1,"new\nsensor"\n600,2,\n')
    assert past.times.tolist() == [0, 600] and "rows of several lines" in past.warnings[1]
    assert "1, the first in row 2" in past.warnings[1]


def test_a_row_with_an_unpaired_quote_ends_in_an_error_and_not_in_a_swallowed_file(tmp_path):
    text = 'time,temperature,note\n0,1,"lost\n' + "".join(f"{600 * i},1,\n" for i in range(1, 20_000))
    assert "quote" in refusal(tmp_path, text)


def test_lines_that_end_with_a_carriage_return_alone_are_told_apart_from_a_quote(tmp_path):
    assert "carriage return" in refusal(tmp_path, PLAIN.replace("\n", "\r"))


def test_other_kinds_of_files_are_told_apart(tmp_path):
    assert "zip" in refusal(tmp_path, b"PK\x03\x04 rest", "a.xlsx")
    assert "UTF-16" in refusal(tmp_path, PLAIN.encode("utf-16"))
    long = PLAIN + "".join(f"{1714567000 + i},{i % 30}.5,0\n" for i in range(1000))
    assert "broken" in refusal(tmp_path, gzip.compress(long.encode())[:-20], "a.csv.gz")
    assert "broken" in refusal(tmp_path, lzma.compress(long.encode())[:-20], "a.csv.xz")
    with pytest.raises(DataError, match="cannot be read"):
        read_history(tmp_path / "nowhere.csv")


def test_lines_and_files_have_a_bound(tmp_path, monkeypatch):
    assert "row 2: longer than" in refusal(tmp_path, "time,temperature\n0," + "1" * 70_000 + "\n")
    monkeypatch.setattr(history, "MAX_FILE_BYTES", 1000)
    assert "split the file" in refusal(tmp_path, gzip.compress(b"time,temperature\n" + b"0,1\n" * 1000))


def test_rows_out_of_order_are_sorted_and_told(tmp_path):
    past = read(tmp_path, "time,temperature\n1200,3\n0,1\n600,2\n")
    assert past.times.tolist() == [0, 600, 1200] and past.values["temperature"].tolist() == [1, 2, 3]
    assert "not in order" in past.warnings[0]


DECADE_S = 10 * 365 * 86_400


@pytest.mark.parametrize("stray", [0, START - DECADE_S, START + DECADE_S, 4_070_908_800])
@pytest.mark.parametrize("at", ["first", "middle", "last"])
def test_a_row_decades_away_is_left_out_and_named(tmp_path, stray, at):
    rows = [f"{START + 600 * i},{i % 30}" for i in range(50)]
    place = {"first": 0, "middle": 25, "last": 50}[at]
    past = read(tmp_path, "\n".join(["time,temperature", *rows[:place], f"{stray},99", *rows[place:]]))
    assert past.times.tolist() == [START + 600 * i for i in range(50)] and (past.values["temperature"] < 30).all()
    [warning] = past.warnings
    assert f"left out, as a year or more lies between them and all other rows: row {place + 2} (" in warning
    assert format_time(stray) in warning


def test_many_stray_rows_are_left_out_and_counted_while_few_are_named(tmp_path):
    rows = [f"{START + 600 * i},1" for i in range(1000)] + [f"{60 * i},99" for i in range(10)]
    past = read(tmp_path, "\n".join(["time,temperature", *rows]))
    assert len(past.times) == 1000
    [warning] = past.warnings
    assert "row 1002 (1970-01-01T00:00:00Z), row 1003 (1970-01-01T00:01:00Z)," in warning and "7 more" in warning


@pytest.mark.parametrize(("rows", "step_s"), [(30, 600), (2, 86_400)])
def test_a_station_that_rested_for_years_keeps_both_its_parts_and_the_gap_is_told(tmp_path, rows, step_s):
    """More than 1 % of the rows, or a day and more of them, are no accident."""
    new = [f"{START + 600 * i},1" for i in range(1000)]
    old = [f"{START - DECADE_S + step_s * i},2" for i in range(rows)]
    past = read(tmp_path, "\n".join(["time,temperature", *old, *new]))
    assert len(past.times) == 1000 + rows
    assert f"to {format_time(START)}: is either side stamped by a clock that was not set?" in past.warnings[0]


def test_months_without_rows_are_nothing_to_tell(tmp_path):
    rows = [f"{START + 600 * i},1" for i in range(1000)] + [f"{START + 300 * 86_400},2"]
    past = read(tmp_path, "\n".join(["time,temperature", *rows]))
    assert len(past.times) == 1001 and past.warnings == []


def test_of_rows_at_one_time_the_last_reading_of_each_variable_stands(tmp_path):
    past = read(tmp_path, "time,temperature,humidity\n0,1,50\n600,2,\n600,3,\n600,,60\n1200,4,70\n")
    assert past.times.tolist() == [0, 600, 1200]
    np.testing.assert_array_equal(past.values["temperature"], [1, 3, 4])
    np.testing.assert_array_equal(past.values["humidity"], [50, 60, 70])
    assert "2 rows repeat" in past.warnings[0]


def test_truncated_rows_are_left_out_and_counted_and_empty_lines_are_nothing(tmp_path):
    past = read(tmp_path, "time,temperature,humidity\n0,1,50\n\n600,2\n1200,3,60,\n")
    assert past.times.tolist() == [0, 1200]
    assert "too few values left out: 1, the first in row 4" in past.warnings[0]


def test_impossible_values_are_missing_and_counted_unless_quality_control_follows(tmp_path):
    text = "time,temperature\n0,-9999\n600,20\n"
    past = read(tmp_path, text)
    np.testing.assert_array_equal(past.values["temperature"], [np.nan, 20])
    assert "1 values outside -95..65 degC" in past.warnings[0] and "-9999" in past.warnings[0]
    assert read(tmp_path, text, limits=False).values["temperature"].tolist() == [-9999, 20]


def column(tmp_path: Path, name: str, values: list[float], **options: float) -> History:
    return read(tmp_path, f"time,{name}\n" + "".join(f"{600 * i},{v}\n" for i, v in enumerate(values)), **options)


def test_a_column_of_which_some_would_fit_in_fahrenheit_is_said_to_be_so(tmp_path):
    past = column(tmp_path, "temperature", [float(f) for f in range(41, 78, 3)])
    [told] = past.warnings
    assert "temperature: 4 values outside -95..65 degC taken as missing, the first 68: in degF they would be" in told
    assert "convert all of it: value * 0.555556 - 17.7778" in told and "not used" not in told
    assert np.isnan(past.values["temperature"]).sum() == 4


@pytest.mark.parametrize(
    ("name", "unit", "values", "how"),
    [
        ("temperature", "K", [271.0, 280.5, 295.0], "value - 273.15"),
        ("dew_point", "degF", [50.0, 62.0, 71.0], "value * 0.555556 - 17.7778"),
        ("temperature_max", "degF", [80.0, 82.0, 71.0], "value * 0.555556 - 17.7778"),
        ("pressure", "Pa", [96_500.0, 101_300.0, 99_000.0], "value * 0.01"),
        ("pressure", "inHg", [28.1, 29.92, 30.3], "value * 33.8639"),
        ("pressure_msl", "kPa", [99.1, 101.3, 102.0], "value * 10"),
    ],
)
def test_a_column_in_another_unit_is_not_used_and_how_to_convert_it_is_told(tmp_path, name, unit, values, how):
    past = column(tmp_path, name, values * 10)
    [told] = past.warnings
    assert "the column is not used" in told and np.isnan(past.values[name]).all()
    assert f"if the column is in {unit}, convert all of it: {how}" in told


def test_the_few_values_that_another_unit_leaves_possible_go_with_their_column(tmp_path):
    past = column(tmp_path, "pressure", [*[29.9] * 30, 320.0])
    assert "30 of 31 values outside" in past.warnings[0] and np.isnan(past.values["pressure"]).all()


@given(st.lists(st.floats(-30, 45), min_size=3, max_size=50), st.integers(1, 3))
def test_a_sensor_that_now_and_then_says_85_or_9999_is_not_taken_for_another_unit(ordinary, times):
    for spike in (85.0, -9999.0, -127.0, 999.9):
        values = np.array(ordinary * 10 + [spike] * times)
        assert slips.other_unit("temperature", values, values == spike, None) is None


def test_a_column_of_nothing_but_impossible_values_is_not_used_and_no_unit_is_made_up(tmp_path):
    [told] = column(tmp_path, "temperature", [-9999.0] * 5).warnings
    assert told.endswith("5 of 5 values outside -95..65 degC taken as missing, the first -9999: the column is not used")
    past = column(tmp_path, "temperature", [*[-9999.0] * 95, *[12.0] * 5])
    assert np.isnan(past.values["temperature"]).sum() == 95 and "not used" not in past.warnings[0]


def test_gusts_in_kilometres_an_hour_are_known_by_a_storm_and_spikes_are_not(tmp_path):
    storm = [20.0 + 2 * i for i in range(66)]
    [told] = column(tmp_path, "wind_gust", storm).warnings
    assert "if the column is in km/h" in told and "value * 0.277778" in told
    [told] = column(tmp_path, "wind_gust", [*[3.0] * 50, 150.0]).warnings
    assert "km/h" not in told


def test_humidity_is_completed_from_dew_point_only_where_the_file_has_none(tmp_path):
    past = read(tmp_path, "time,temperature,dew_point\n0,20,10\n600,20,\n")
    np.testing.assert_allclose(past.values["humidity"], [52.5, np.nan], atol=0.05)
    assert "completed" in past.warnings[0]
    own = read(tmp_path, "time,temperature,dew_point,humidity\n0,20,10,40\n600,20,10,\n")
    np.testing.assert_array_equal(own.values["humidity"], [40, np.nan])


def test_ages_and_span_are_those_of_readings_and_not_of_rows(tmp_path):
    past = read(tmp_path, "time,temperature,rain,dew_point\n0,1,,\n600,,0,\n1200,,,5\n")
    assert (past.first, past.last) == (0, 600)
    assert past.ages(1000) == {"temperature": 1000, "rain": 400}
    assert past.ages(599) == {"temperature": 599}
    assert past.ages(30 * 86_400) == {"rain": 30 * 86_400 - 600}


def test_a_file_without_readings_says_so_when_asked_for_its_last(tmp_path):
    past = read(tmp_path, "time,temperature\n0,\n")
    with pytest.raises(DataError, match="all values are missing"):
        _ = past.last


@settings(max_examples=25, suppress_health_check=[HealthCheck.too_slow])
@given(
    phase=st.integers(0, 899),
    step_s=st.sampled_from([60, 300, 600, 900, 1800, 3600]),
    later=st.floats(-40, 40),
    cut=st.booleans(),
)
def test_nothing_later_than_the_last_step_enters_the_grid(phase, step_s, later, cut):
    past = recorded(3, step_s)
    origin = START + 2 * 86_400 + phase
    after = past.times > origin
    changed = {name: np.where(after, later, column) for name, column in past.values.items()}
    other = History(past.times, changed, [])
    if cut:
        other = History(past.times[~after], {name: column[~after] for name, column in changed.items()}, [])
    np.testing.assert_array_equal(past.grid_ending(origin), other.grid_ending(origin))


def test_the_grid_is_that_of_the_one_rule():
    past = recorded(31)
    origin = past.last - 450
    steps = origin - 900 * np.arange(2879, -1, -1)
    kept = past.times <= origin
    expected = grid.on_grid(past.times[kept], past.values["wind_gust"][kept], "wind_gust", steps)
    ours = past.grid_ending(origin)[:, grid.GRID_VARIABLES.index("wind_gust")]
    np.testing.assert_array_equal(ours[4:], expected.astype(np.float32)[4:])


@pytest.mark.parametrize("step_s", [300, 600, 3600])
def test_a_file_and_the_store_give_the_bundle_the_same_history(tmp_path, step_s):
    past = recorded(3, step_s)
    origin = past.last // 900 * 900 - 1800
    with Store.open(tmp_path / "store.sqlite") as store:
        for seq, t in enumerate(past.times.tolist()):
            values = {name: float(column[seq]) for name, column in past.values.items()}
            store.add(Judged(Observation("roof", "mast", t, values, "boot", seq), {}))
        np.testing.assert_allclose(store.history(["roof"], origin)[0], past.grid_ending(origin), rtol=1e-5, atol=1e-5)
        assert store.ages(["roof"], origin)[0] == past.ages(origin)


# --- one rule for a file and a running agent ----------------------------------------------------------------------

ANY = st.dictionaries(
    st.sampled_from(sorted(VARIABLES)), st.floats(-120, 1200).map(lambda x: round(x, 1)), min_size=1, max_size=6
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    values=ANY,
    pressure=st.floats(300, 1150).map(lambda x: round(x, 1)),
    elevation=st.sampled_from([-400.0, 0.0, 258.0, 1560.0, 3580.0]),
)
def test_a_file_leaves_out_what_a_running_agent_fails(tmp_path, values, pressure, elevation):
    values = {**values, "pressure": pressure}
    path = tmp_path / "station.csv"
    path.write_text(f"time,{','.join(values)}\n0,{','.join(map(str, values.values()))}\n")
    past = read_history(path, elevation_m=elevation)
    qc = QualityControl([Station("roof", 47.0, 8.0, elevation)])
    judged = qc.judge(Observation("roof", "mast", 0, values, "boot", 0))
    failed = {name for name, verdict in judged.verdicts.items() if verdict.flag is Flag.FAIL}
    assert {name for name in values if np.isnan(past.values[name][0])} == failed


def test_pressure_is_held_against_the_elevation(tmp_path):
    text = "time,temperature,pressure\n0,10,820\n600,10,900\n"
    at_sea = read(tmp_path, text, elevation_m=0.0)
    assert np.isnan(at_sea.values["pressure"]).tolist() == [True, False]
    assert "1 values outside 300..1100 hPa or no pressure at 0 m taken as missing, the first 820" in at_sea.warnings[0]
    assert not np.isnan(read(tmp_path, text, elevation_m=1560.0).values["pressure"]).any()
    assert not np.isnan(read(tmp_path, text).values["pressure"]).any()  # where it stands is not known


def test_rain_of_a_row_after_a_gap_is_no_quarter_hours_own(tmp_path):
    times = [*range(0, 6000, 600), *range(24_000, 30_000, 600)]
    rows = "".join(f"{t},{12.4 if t == 24_000 else 0.2}\n" for t in times)
    past = read(tmp_path, "time,rain\n" + rows)
    assert past.times[np.isnan(past.values["rain"])].tolist() == [24_000]
    assert "rain: 1 sums of rows after a gap taken as missing" in past.warnings[0]
    assert not np.isnan(read(tmp_path, "time,rain\n" + rows, limits=False).values["rain"]).any()


def test_an_hourly_series_and_a_dry_gap_have_no_sums_to_leave_out(tmp_path):
    hourly = "".join(f"{3600 * n},0.2\n" for n in range(20))
    assert read(tmp_path, "time,rain\n" + hourly).warnings == []
    dry = "".join(f"{t},0\n" for t in (0, 600, 1200, 1800, 90_000, 90_600))
    assert read(tmp_path, "time,rain\n" + dry).warnings == []
