"""rtl_433: what radio weather sensors say, as JSON events or one value a topic (`devices`). Pure: messages in, readings
out.

Fields and their units: rtl_433, docs/DATA_FORMAT.md. A device is known by model, channel and subtype, since its id
changes with its batteries. A receiver hears the neighbours' devices too: on a topic none is read that was not adopted
by its model. Radio sensors say everything two or three times: repeats within two seconds are one message.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime

from edge_agent.config import Sensor
from edge_agent.errors import BadMessage
from edge_agent.observation import Reading
from edge_agent.sensors.driver import DriverSpec, Options, Pressure, Transport, options_of
from edge_agent.sensors.json_lines import object_of
from edge_agent.sensors.mapping import Count, Origin, clear_time, measured, number, uncounted, word

REPEATS_S = 2.0
REMEMBERED = 256  # messages among which a repeat is looked for
LOW_LEVEL = 0.2  # battery_ok is a level from 0 to 1; most devices know only the two ends
MOST_HEARD = 5  # devices that are named to who might adopt one
PART = "sensor"  # what its battery is called

_TEMPERATURE = {"C": "degC", "F": "degF"}
_SPEED = {"m_s": "m/s", "km_h": "km/h", "mi_h": "mph", "kt": "kn"}
_PRESSURE = {"hPa": "hPa", "mbar": "mbar", "kPa": "kPa", "inHg": "inHg", "psi": "psi"}
_LENGTH = {"mm": "mm", "in": "in", "inch": "in"}
_RATE = {"mm_h": "mm/h", "in_h": "in/h", "inch_h": "in/h"}
_DUST = {"ug_m3": "ug/m3"}

# name without its unit -> variable, and its unit by the name's ending; the first name of a variable is preferred
_NAMES: dict[str, tuple[str, dict[str, str]]] = {
    "temperature": ("temperature", _TEMPERATURE),
    "temperature_1": ("temperature", _TEMPERATURE),
    "humidity": ("humidity", {"": "%"}),
    "humidity_1": ("humidity", {"": "%"}),
    "dew_point": ("dew_point", _TEMPERATURE),
    "dewpoint": ("dew_point", _TEMPERATURE),
    "moisture": ("soil_moisture", {"": "%"}),
    "pressure": ("pressure", _PRESSURE),
    "wind_avg": ("wind_speed", _SPEED),
    "wind_speed": ("wind_speed", _SPEED),
    "wind_max": ("wind_gust", _SPEED),
    "wind_gust": ("wind_gust", _SPEED),
    "gust_speed": ("wind_gust", _SPEED),
    "wind_dir": ("wind_direction", {"deg": "degree"}),
    "rain": ("rain", _LENGTH),
    "rain_rate": ("rain_rate", _RATE),
    "uvi": ("uv_index", {"": "1"}),
    "uv": ("uv_index", {"": "1"}),
    "pm2_5": ("pm2_5", _DUST),
    "pm10_0": ("pm10", _DUST),
    "pm10": ("pm10", _DUST),
}
_FIELDS = {f"{name}_{end}".rstrip("_"): (v, unit) for name, (v, ends) in _NAMES.items() for end, unit in ends.items()}
# a name that lacks its unit is counted, not guessed
_FIELDS |= {name: (variable, "") for name, (variable, ends) in _NAMES.items() if "" not in ends}

# Names without units that releases before 2020 used, by model.
_OLDER: dict[str, dict[str, tuple[str, str]]] = {
    "Bresser-5in1": {"wind_speed": ("wind_speed", "m/s"), "wind_gust": ("wind_gust", "m/s")},
    "WGR800": {
        "average": ("wind_speed", "m/s"),
        "gust": ("wind_gust", "m/s"),
        "direction": ("wind_direction", "degree"),
    },
}

Key = tuple[object, ...]


class Rtl433Options(Options, frozen=True):
    """Which device is meant, as its messages name it; empty = any, but for `model` where a receiver is listened to."""

    model: str = ""
    channel: str | int = ""
    subtype: str | int = ""
    id: str | int = ""


class Rtl433:
    """Decodes the messages of one rtl_433; remembers the last ones to know repeats."""

    detects_cuts = True

    def __init__(self, sensor: Sensor) -> None:
        """Raises ConfigError as `options_of`."""
        options = options_of(sensor, Rtl433Options)
        self._wanted = {
            name: str(value)
            for name, value in (
                ("model", options.model),
                ("channel", options.channel),
                ("subtype", options.subtype),
                ("id", options.id),
            )
            if value != ""
        }
        self._adopted = bool(options.model) or not sensor.topic or _names_device(sensor.topic)
        self._heard: dict[str, None] = {}  # devices that nobody adopted
        self._recent: dict[Key, tuple[str, float]] = {}

    def decode(self, payload: bytes, count: Count = uncounted) -> list[Reading]:
        """The reading of one event. Repeats are known by the message's own time.

        Raises:
            BadMessage: `not-json`, `not-object`, `other-device`, `no-mapped-value`, `no-usable-value`, `not-adopted` or
                `repeat`.
        """
        return self._event(payload, None, count) if payload else []

    def decode_from(self, payload: bytes, origin: Origin, count: Count = uncounted) -> list[Reading]:
        """The reading of one event, or of one value under `.../devices/...`; none for an `availability`.

        Raises:
            BadMessage: as `decode`, and `not-text` for a value.
        """
        levels = origin.topic.split("/")
        if not payload or levels[-1] == "availability":
            return []
        if "devices" in levels[:-2] and not payload.lstrip().startswith(b"{"):
            return self._value(payload, levels[levels.index("devices") + 1 :], origin.at, count)
        return self._event(payload, origin.at, count)

    def _event(self, payload: bytes, at: float | None, count: Count) -> list[Reading]:
        message = object_of(payload)
        for name, wanted in self._wanted.items():
            if word(message.get(name)) != wanted:
                raise BadMessage("other-device", f"not the {name} that is asked for")
        if message.get("type") == "TPMS":
            raise BadMessage("no-mapped-value", "a tyre is no weather station")
        device = _name(message)
        moment = _moment(message.get("time"))
        if moment is None and at is not None:
            moment = ("arrival", at)
        reading = _reading(message, device, clear_time(message.get("time")), count)
        self._refuse_unadopted(device)
        self._refuse_repeat((device, word(message.get("id")), *_content(reading)), moment)
        return [reading]

    def _value(self, payload: bytes, levels: list[str], at: float, count: Count) -> list[Reading]:
        """One value below `devices`: [type,] model, [subtype,] [channel,] [id,] then the field's name."""
        *names, field = levels
        for name, wanted in self._wanted.items():
            if wanted not in names:
                raise BadMessage("other-device", f"not the {name} that is asked for")
        known = _fields_of(names[0] if names else "")
        if "TPMS" in names or (field not in known and field not in ("battery_ok", "battery_V", "battery_mV")):
            return []  # time, id, signal strength: a message each, and none of them a reading
        try:
            raw = payload.decode().strip()
        except UnicodeDecodeError:
            raise BadMessage("not-text", "bytes that are no text") from None
        device = "/".join(names[:-1] or names)
        self._refuse_unadopted(device)
        reading = _reading({"model": names[0] if names else "", field: raw}, device, None, count)
        self._refuse_repeat(("value", *names, *_content(reading)), ("arrival", at))
        return [reading]

    def _refuse_unadopted(self, device: str) -> None:
        """Raises BadMessage `not-adopted`, with the devices that were heard so far."""
        if self._adopted:
            return
        if len(self._heard) < MOST_HEARD:
            self._heard["".join(c for c in device if c.isprintable())[:60]] = None
        names = ", ".join(self._heard)
        raise BadMessage(
            "not-adopted", f"heard {names}; say which is yours: options = {{ model = ..., channel = ... }}"
        )

    def _refuse_repeat(self, key: Key, moment: tuple[str, float] | None) -> None:
        """Raises BadMessage `repeat` for what was said within two seconds on the same scale of time."""
        if moment is None:
            return
        before = self._recent.get(key)
        if before is not None and before[0] == moment[0] and abs(moment[1] - before[1]) <= REPEATS_S:
            raise BadMessage("repeat", "the same message again")
        self._recent.pop(key, None)
        self._recent[key] = moment
        if len(self._recent) > REMEMBERED:
            del self._recent[next(iter(self._recent))]


def _names_device(topic: str) -> bool:
    """Whether a topic filter names a device below `devices`."""
    _, _, below = topic.partition("/devices/")
    return any(level not in ("", "+", "#") for level in below.split("/")[:-1])


def _reading(message: Mapping[str, object], device: str, t: int | None, count: Count) -> Reading:
    """What the fields of a message say. Raises BadMessage: nothing that is known."""
    found = list(_found(message))
    battery = _battery(message)
    values = measured(found, count)
    if not found and not battery:
        raise BadMessage("no-mapped-value", "no field of the vocabulary is in the message")
    if not values and not battery:
        raise BadMessage("no-usable-value", "no field of the vocabulary holds a number with its unit")
    totals = {"rain": values.pop("rain")} if "rain" in values else {}
    return Reading(values, t, totals=totals, device=device, battery=battery)


def _fields_of(model: str) -> Mapping[str, tuple[str, str]]:
    """The fields that are read: field -> variable, unit (empty: needed and not said)."""
    return {**_FIELDS, **_OLDER[model]} if model in _OLDER else _FIELDS


def _found(message: Mapping[str, object]) -> Iterator[tuple[str, object, str]]:
    for field, (variable, unit) in _fields_of(word(message.get("model"))).items():
        if field in message:
            yield variable, message[field], unit


def _battery(message: Mapping[str, object]) -> dict[str, str | float]:
    """`ok` or `low` where it is said, else volts. A bare number under `battery` meant low in some older releases and
    full in others: not read."""
    said = word(message.get("battery")).lower()
    if said in ("ok", "low"):
        return {PART: said}
    for name, factor in (("battery_ok", 0.0), ("battery_V", 1.0), ("battery_mV", 0.001)):
        if name in message:
            try:
                level = number(message[name])
            except BadMessage:
                continue
            return {PART: level * factor if factor else "low" if level < LOW_LEVEL else "ok"}
    return {}


def _name(message: Mapping[str, object]) -> str:
    return "/".join(filter(None, (word(message.get(name)) for name in ("model", "channel", "subtype"))))


def _content(reading: Reading) -> Key:
    return (
        tuple(sorted(reading.values.items())),
        tuple(reading.totals.items()),
        tuple(reading.battery.items()),
    )


def _moment(raw: object) -> tuple[str, float] | None:
    """When a message says it was heard, on the scale it uses: good enough to tell how far two of them lie apart."""
    text = word(raw)
    try:
        if text.startswith("@"):
            return "file", number(text[1:].removesuffix("s"))
        if text[:1].isdigit() and "-" not in text:
            return "epoch", number(text)
        moment = datetime.fromisoformat(text)
        scale = "local" if moment.tzinfo is None else "utc"
        return scale, (moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)).timestamp()
    except (BadMessage, ValueError, OverflowError):
        return None


DRIVERS = (
    DriverSpec(
        "rtl_433",
        Transport.MQTT,
        Rtl433,
        "radio weather sensors heard by rtl_433",
        options=Rtl433Options,
        pressure=Pressure.STATION,
        stamps="`time` in epoch seconds or with a zone, else on arrival",
    ),
)
