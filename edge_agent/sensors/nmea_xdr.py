"""The transducers of an NMEA XDR sentence, and what a value's characters mean.

Pure. Only ids whose meaning their maker documents are read, and those that the configuration names: a temperature may
be of water, a room, or felt. Sources: Airmar technical manuals (PB200, LB150) for STNP and its kin; Vaisala user guides
M210470EN, M210906EN and M211840EN for the numbers, which are counted from the transmitter's address.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from edge_agent.errors import BadMessage, ConfigError
from edge_agent.observation import Reading
from edge_agent.sensors.mapping import Count, number
from edge_agent.sensors.vaisala_wxt import PRESSURE, RAIN, RAIN_RATE, SPEED, TEMPERATURE
from edge_agent.variables import conversion, convert, variable

TYPES = "CPHASVR"  # types that can be of the weather
VOLT = "V"  # a unit beside those of the vocabulary, for
VOLTS = ("supply", "heating")  # which stand among the batteries
UNITS: dict[str, dict[str, str]] = {
    "temperature": TEMPERATURE,
    "dew_point": TEMPERATURE,
    "soil_temperature": TEMPERATURE,
    "humidity": {"P": "%", "": "%"},
    "soil_moisture": {"P": "%", "": "%"},
    "pressure": PRESSURE,
    "pressure_msl": PRESSURE,
    "wind_direction": {"D": "degree", "": "degree"},
    "wind_speed": SPEED,
    "wind_gust": SPEED,
    "rain": RAIN,
    "rain_rate": RAIN_RATE,
    "supply": {"V": VOLT},
    "heating": dict.fromkeys("VNFW", VOLT),  # the letter says whether it heats
}

# (type, number counted from the address). The table of Vaisala's guides has U 0 and U 1 the other way round; their
# examples, and what the unit letters can only mean, are as here.
VAISALA = {
    ("A", 1): "wind_direction",
    ("S", 1): "wind_speed",
    ("S", 2): "wind_gust",
    ("P", 0): "pressure",
    ("C", 0): "temperature",
    ("H", 0): "humidity",
    ("V", 0): "rain",
    ("R", 0): "rain_rate",
    ("U", 0): "heating",
    ("U", 1): "supply",
}
# Extremes and lulls, its own temperatures, hail, durations, peaks, reference voltage, analog inputs, the info text.
VAISALA_UNUSED = {
    "A": (0, 2),
    "S": (0,),
    "C": (1, 2, 3),
    "V": (1,),
    "Z": (0, 1),
    "R": (1, 2, 3),
    "U": (2, 3, 4),
    "G": (4,),
}
AIRMAR = {("P", "STNP"): "pressure"}  # the raw station pressure
AIRMAR_UNUSED = frozenset([("C", "WCHR"), ("C", "WCHT"), ("C", "HINX"), ("A", "PTCH"), ("A", "ROLL")])

MOST_BAR = 2.0  # more than that, where bars belong, is hPa (Lambrecht)

Table = Mapping[tuple[str, str], str]  # (type, id) -> variable, or empty: known and of no use


class Value(NamedTuple):
    """What a sentence says of a variable: its characters, and their unit (empty: a letter that is none)."""

    variable: str
    text: str
    unit: str


def named(words: str, address: str) -> dict[tuple[str, str], str]:
    """(type, id) of every transducer that is known: Airmar's, Vaisala's at that address, and those of the option, in
    which an id stands for itself with any type.

    Raises:
        ConfigError: a word without `:`, or an unknown variable.
    """
    first = number_of(address)
    table = dict(AIRMAR) | dict.fromkeys(AIRMAR_UNUSED, "")
    table |= {(kind, str(first + at)): name for (kind, at), name in VAISALA.items()}
    table |= {(kind, str(first + at)): "" for kind, unused in VAISALA_UNUSED.items() for at in unused}
    for word in re.split(r"[\s,]+", words.strip()) if words.strip() else []:
        key, colon, name = word.rpartition(":")
        if not colon or not key:
            raise ConfigError(f'options: transducers "{word[:40]}": write ID:variable, as in TempAir:temperature')
        if variable(name).name not in UNITS:  # raises for what is no variable
            raise ConfigError(f'options: transducers "{word[:40]}": no transducer measures {name}')
        table |= {(kind, key): name for kind in TYPES}
    return table


def number_of(address: str) -> int:
    """The number a Vaisala address counts as: 0-9, A = 10 to Z = 35, a = 36 to z = 61."""
    if address.isdigit():
        return int(address)
    return ord(address) - ord("A") + 10 if address.isupper() else ord(address) - ord("a") + 36


def transducers(data: list[str], table: Table, count: Count) -> Reading:
    """The transducers of one sentence, four fields each. `rain` stands among the values, whatever it is.

    Raises:
        BadMessage: `other-sentence` if none of them is of use.
    """
    values: dict[str, float] = {}
    volts: dict[str, str | float] = {}
    seen = False
    for at in range(0, len(data) - 3, 4):
        kind, text, letter, key = (cell.strip() for cell in data[at : at + 4])
        name = table.get((kind, key))
        seen = seen or bool(name)
        if not text or name == "":
            continue
        try:
            if name is None:
                raise BadMessage("unknown-transducer", "an id whose meaning is not known")
            value = value_of(Value(name, text, UNITS[name].get(letter, "")))
        except BadMessage as error:
            count(error.reason)
            continue
        if name in VOLTS:
            volts[name] = value
        else:
            values[name] = value
    if not seen:
        raise BadMessage("other-sentence", "XDR without a transducer that is known")
    return Reading(values, battery=volts)


def finer(values: Iterable[Value]) -> list[Value]:
    """One of several prints of a value: the first that shows a tenth of its variable's unit, else that with the
    smallest step. What is empty, or no value, yields."""
    return sorted((value for value in values if value.text), key=lambda value: max(_step(value), 0.1 + 1e-9))[:1]


def value_of(value: Value) -> float:
    """The number in the variable's own unit.

    Raises:
        BadMessage: `bad-unit`, `missing` (an instrument's code for no value), or as `number`.
    """
    name, text, unit = value
    raw = number(text)
    if not unit:
        raise BadMessage("bad-unit", f"a letter that is no unit of {name}")
    if unit == VOLT:
        return raw
    if _is_code(name, raw, unit):
        raise BadMessage("missing", "the instrument's code for no value")
    if unit == "bar" and raw > MOST_BAR:
        unit = "hPa"
    return number(round(convert(name, raw, unit), 6))  # 1001.1, where 1.0011 bar makes 1001.1000000000001


def _is_code(name: str, raw: float, unit: str) -> bool:
    """True for the numbers that Lambrecht's instruments send for "no value" (manual of the met[LOG], NMEA telegrams).
    99.9 % or 99.9 knots, and 999.9 hPa, can be the weather."""
    if name in ("rain", "rain_rate"):
        return False
    if raw == 99.9:
        return unit in ("m/s", "degC")
    return raw == 9999.9 or (raw == 999.9 and not name.startswith("pressure"))


def _step(value: Value) -> float:
    """The last digit printed, in the variable's unit; infinite for what is no value."""
    try:
        raw = number(value.text)
        value_of(value)
    except BadMessage:
        return float("inf")
    unit = "hPa" if value.unit == "bar" and raw > MOST_BAR else value.unit
    decimals = len(value.text.partition(".")[2])
    return float(10.0**-decimals * conversion(value.variable, unit)[0])
