"""NMEA 0183 weather instruments (Airmar, Lambrecht, Vaisala's NMEA profile, ...): one checked sentence a line.

Pure: bytes in, readings out. Taking a sentence apart belongs to pynmea2 (extra `nmea`), which is given nothing but one
short line of printable characters: its own pattern backtracks on long runs of spaces. A GPS receiver's time is handed
on as a hint for the clock and never as a reading. Transducers (XDR) stand in `nmea_xdr.py`.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, date, datetime, time
from functools import cache
from typing import Annotated, Any, Literal

from msgspec import Meta

from edge_agent.config import Sensor
from edge_agent.errors import BadMessage, ConfigError
from edge_agent.observation import Reading
from edge_agent.sensors.driver import DriverSpec, Options, Pressure, Transport, options_of
from edge_agent.sensors.mapping import EARLIEST, Count, uncounted
from edge_agent.sensors.nmea_xdr import Value, finer, named, transducers, value_of
from edge_agent.sensors.pressure import station_pressure

LONGEST = 255  # characters of a sentence; the standard has 82, and instruments go beyond it
ADJUSTED_HPA = 1.5  # so far from the station pressure of XDR, the pressure of MDA or MMB is another kind

_SENTENCE = re.compile(rb"\$[A-Z0-9]{5,7},[ -)+-~]*\*[0-9A-Fa-f]{2}")
_UNCHECKED = re.compile(rb"\$[A-Z0-9]{5,7},[ -)+-~]*\*?")
_PREFIX = re.compile(rb"[\t -~]*")
_OWN = re.compile(rb"\$P[A-Z0-9]{3,7}[,*]")  # a manufacturer's own

_SPEED = {"K": "km/h", "M": "m/s", "N": "kn", "S": "mph"}


class NmeaOptions(Options, frozen=True):
    """`mounting_offset`: degrees from true north to the instrument's own zero, added to relative wind (MWV R).
    `theoretical`: what the angle of MWV T counts from. `pressure`: which kind MDA and MMB bring, with `elevation_m` for
    an altimeter setting. `address`: of a Vaisala transmitter, which shifts its transducer numbers. `rain`: what its V
    is. `transducers`: further XDR ids, as in `TempAir:temperature Baro:pressure`. `ignore`: sentences left out, as in
    `MWV,MWD`."""

    mounting_offset: Annotated[float, Meta(ge=-360, le=360)] = 0.0
    theoretical: Literal["north", "bow"] = "north"
    pressure: Literal["station", "sea_level", "altimeter"] = "station"
    elevation_m: Annotated[float, Meta(ge=-430, le=9000)] | None = None
    address: Annotated[str, Meta(pattern=r"\A[0-9A-Za-z]\Z")] = "0"
    rain: Literal["total", "increment"] = "total"
    transducers: str = ""
    ignore: str = ""


class Nmea:
    """Decodes the sentences of one line of instruments. Remembers whether a GPS receiver has a fix, and the station
    pressure of XDR."""

    detects_cuts = True  # a sentence begins with $ and ends with a checksum

    def __init__(self, sensor: Sensor) -> None:
        """Raises ConfigError: as `options_of`, `elevation_m` missing, an unknown variable, or pynmea2 not installed."""
        self._options = options_of(sensor, NmeaOptions)
        if self._options.pressure == "altimeter" and self._options.elevation_m is None:
            raise ConfigError(f'sensor "{sensor.name}": options: pressure = "altimeter" needs elevation_m')
        try:
            self._named = named(self._options.transducers, self._options.address)
            self._library = _library()
        except ConfigError as error:
            raise ConfigError(f'sensor "{sensor.name}": {error}') from None
        self._ignored = frozenset(re.findall(r"\w+", self._options.ignore.upper()))
        self._station_hpa: float | None = None
        self._fix = True
        self._readers: dict[str, Callable[[Any, Count], Reading]] = {
            "MDA": self._mda,
            "MWV": self._mwv,
            "MWD": lambda message, count: Reading(_wind(message, count)),
            "MTA": lambda message, count: Reading(_plain(message, count, "temperature")),
            "MHU": lambda message, count: Reading(_plain(message, count, "humidity", "dew_point")),
            "MMB": lambda message, count: Reading(self._pressure(message, count)),
            "XDR": self._xdr,
            "RMC": self._rmc,
            "ZDA": lambda message, count: self._clock(message),
        }

    def decode(self, payload: bytes, count: Count = uncounted) -> list[Reading]:
        """The reading of one line; none for a blank line and for a sentence that is ignored. What stands before the `$`
        (a logger's time, a tag block) is no part of it.

        Raises:
            BadMessage: `not-nmea`, `too-large`, `no-checksum`, `bad-checksum`, `other-sentence`, `not-valid`,
                `bad-time` or `no-usable-value`.
        """
        line = payload.strip(b" \t\r\n\0")
        if not line:
            return []
        before, dollar, rest = line.rpartition(b"$")
        if b"$" in before:
            count("cut-line")
        elif not _PREFIX.fullmatch(before):
            count("noise")
        message = self._parse(dollar + rest)
        if message.sentence_type in self._ignored:
            return []
        found = self._readers[message.sentence_type](message, count)
        if not (found.values or found.totals or found.battery) and found.device_clock is None:
            raise BadMessage("no-usable-value", f"nothing usable in {message.sentence_type}")
        return [found]

    def _parse(self, sentence: bytes) -> Any:
        """The sentence as pynmea2's object, of a kind that is read here."""
        if len(sentence) > LONGEST:
            raise BadMessage("too-large", f"a sentence of more than {LONGEST} characters")
        if _OWN.match(sentence):
            raise BadMessage("other-sentence", "a manufacturer's own")
        if not _SENTENCE.fullmatch(sentence):
            if _UNCHECKED.fullmatch(sentence):
                raise BadMessage("no-checksum", "a sentence without its checksum")
            raise BadMessage("not-nmea", f"{len(sentence)} bytes that are no sentence: is the baud rate right?")
        try:
            message = self._library.parse(sentence.decode("ascii"), check=True)
        except self._library.ChecksumError:
            raise BadMessage("bad-checksum", "a sentence that was damaged on its way") from None
        except self._library.SentenceTypeError:
            raise BadMessage("other-sentence", "without weather in it") from None
        except self._library.ParseError:
            raise BadMessage("not-nmea", "a sentence without a talker and a type") from None
        if not isinstance(message, self._library.TalkerSentence) or message.sentence_type not in self._readers:
            raise BadMessage("other-sentence", "without weather in it")
        return message

    # --- one method a sentence: its fields are named by pynmea2 ---

    def _mda(self, message: Any, count: Count) -> Reading:
        """Meteorological composite."""
        plain = _plain(message, count, "temperature", "humidity", "dew_point")
        return Reading({**plain, **_wind(message, count), **self._pressure(message, count)})

    def _mwv(self, message: Any, count: Count) -> Reading:
        """Wind against the instrument's zero (R) or as `theoretical` says (T)."""
        if _cell(message, "status") != "A":
            raise BadMessage("not-valid", "MWV whose status is not A")
        unit = _SPEED.get(_cell(message, "wind_speed_units"), "")
        found = _collect([Value("wind_speed", _cell(message, "wind_speed"), unit)], count)
        reference = _cell(message, "reference")
        unit = "degree" if reference in ("R", "T") else ""
        from_zero = reference == "R" or self._options.theoretical == "bow"
        turn = self._options.mounting_offset if from_zero else 0.0
        for angle in _collect([Value("wind_direction", _cell(message, "wind_angle"), unit)], count).values():
            found["wind_direction"] = (angle + turn) % 360
        return Reading(found)

    def _xdr(self, message: Any, count: Count) -> Reading:
        found = transducers(message.data, self._named, count)
        self._station_hpa = found.values.get("pressure", self._station_hpa)
        if "rain" not in found.values or self._options.rain == "increment":
            return found
        values = {name: value for name, value in found.values.items() if name != "rain"}
        return Reading(values, totals={"rain": found.values["rain"]}, battery=found.battery)

    def _rmc(self, message: Any, _: Count) -> Reading:
        """A GPS receiver's time, with its own word for whether it has a fix."""
        mode = _cell(message, "mode_indicator")
        self._fix = _cell(message, "status") == "A" and mode not in ("N", "E", "M", "S")
        return self._clock(message)

    def _clock(self, message: Any) -> Reading:
        """Raises BadMessage `not-valid`, `bad-time`. The receiver's two-digit years and week count are for the clock to
        judge; a date before 2000 is none."""
        if not self._fix:
            raise BadMessage("not-valid", "the GPS receiver has no fix")
        try:
            day, of_day = message.datestamp, message.timestamp
        except (TypeError, ValueError, OverflowError):  # as pynmea2 makes a date of fields that hold none
            day = of_day = None
        if not isinstance(day, date) or not isinstance(of_day, time):
            raise BadMessage("bad-time", "a date or time that is none")
        t = datetime.combine(day, of_day.replace(tzinfo=UTC)).timestamp()
        if t < EARLIEST:
            raise BadMessage("bad-time", "its time is before 2000")
        return Reading({}, device_clock=t)

    def _pressure(self, message: Any, count: Count) -> dict[str, float]:
        """A pressure that stands twice. Lambrecht writes hPa where bars belong: more than 2 bar is hPa."""
        both = [
            Value("pressure", _cell(message, "b_pressure_bar"), _unit(message, "bars", "B", "bar")),
            Value("pressure", _cell(message, "b_pressure_inch"), _unit(message, "inches", "I", "inHg")),
        ]
        found = _collect(finer(both), count)
        kind, elevation_m = self._options.pressure, self._options.elevation_m
        for hpa in found.values():
            if kind == "sea_level":
                return {"pressure_msl": hpa}
            if kind == "altimeter" and elevation_m is not None:
                return _collect([Value("pressure", str(station_pressure(hpa, elevation_m)), "hPa")], count)
            try:
                self._uncontradicted(hpa)
            except BadMessage as error:
                count(error.reason)
                return {}
        return found

    def _uncontradicted(self, hpa: float) -> None:
        """Raises BadMessage: the instrument itself has said another station pressure, so this one is adjusted."""
        if self._station_hpa is not None and abs(hpa - self._station_hpa) > ADJUSTED_HPA:
            raise BadMessage("adjusted-pressure", "not the station pressure that XDR brings")


# variable -> its field, the field of its unit, the letter there, the unit
_PLAIN = {
    "temperature": ("air_temp", "a_celsius", "C", "degC"),
    "humidity": ("rel_humidity", "", "", "%"),
    "dew_point": ("dew_point", "d_celsius", "C", "degC"),
}


def _cell(message: Any, field: str) -> str:
    """The characters of a field; empty where the sentence ends before it. pynmea2's own conversions are not used: they
    give text where a number is damaged."""
    at = message.name_to_idx.get(field)
    return message.data[at].strip() if at is not None and at < len(message.data) else ""


def _unit(message: Any, field: str, letter: str, unit: str) -> str:
    """The unit of a value, empty (no unit) if another letter stands there."""
    return unit if _cell(message, field) in (letter, "") else ""


def _plain(message: Any, count: Count, *variables: str) -> dict[str, float]:
    """Values of fields whose unit is fixed."""
    return _collect(
        [Value(name, _cell(message, _PLAIN[name][0]), _unit(message, *_PLAIN[name][1:])) for name in variables], count
    )


def _wind(message: Any, count: Count) -> dict[str, float]:
    """Direction from true north, and a speed that stands twice. A magnetic direction is left out: the declination
    is not known here."""
    speeds = [
        Value("wind_speed", _cell(message, "wind_speed_meters"), _unit(message, "meters", "M", "m/s")),
        Value("wind_speed", _cell(message, "wind_speed_knots"), _unit(message, "knots", "N", "kn")),
    ]
    direction = Value("wind_direction", _cell(message, "direction_true"), _unit(message, "true", "T", "degree"))
    return _collect([direction, *finer(speeds)], count)


def _collect(found: list[Value], count: Count) -> dict[str, float]:
    """Values by variable. An empty field is a sensor that is not fitted; what else is no value is counted."""
    values: dict[str, float] = {}
    for value in found:
        if value.text:
            try:
                values[value.variable] = value_of(value)
            except BadMessage as error:
                count(error.reason)
    return values


@cache
def _library() -> Any:
    """pynmea2 with the sentences it lacks. Raises ConfigError: not installed."""
    try:
        import pynmea2  # type: ignore[import-untyped]
    except ImportError:
        raise ConfigError('driver "nmea" needs pynmea2: pip install "stationcast[nmea]"') from None

    def sentence(name: str, *fields: str) -> None:
        base = pynmea2.TalkerSentence
        type(base)(name, (base,), {"fields": tuple((field, field) for field in fields)})

    sentence("MTA", "air_temp", "a_celsius")
    sentence("MHU", "rel_humidity", "abs_humidity", "dew_point", "d_celsius")
    sentence("MMB", "b_pressure_inch", "inches", "b_pressure_bar", "bars")
    return pynmea2


DRIVERS = (
    DriverSpec(
        "nmea",
        Transport.SERIAL,
        Nmea,
        "a weather instrument that sends NMEA 0183 sentences",
        options=NmeaOptions,
        pressure=Pressure.STATION,
        stamps="on arrival; a GPS receiver's time is a hint for the clock",
        baud=4800,
    ),
)
