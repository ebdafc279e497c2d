"""Davis WeatherLink Live: its current conditions over HTTP, and its broadcasts over UDP, both JSON.

Pure. Source: WeatherLink Live Local API. US units; rain in counts of the collector's size; `bar_absolute` is the
pressure at the station. Each transmitter is a device of its own.
"""

from __future__ import annotations

from collections.abc import Mapping

from edge_agent.config import Sensor
from edge_agent.errors import BadMessage
from edge_agent.observation import Reading
from edge_agent.sensors.driver import DriverSpec, Pressure, Transport, options_of
from edge_agent.sensors.fields import device_time, entry, json_object, present, values_of
from edge_agent.sensors.mapping import Count, Entry, number, uncounted
from edge_agent.sensors.weatherlink_poll import LiveOptions, LivePoll

ISS, SOIL, BAROMETER = 1, 2, 3  # data_structure_type; 4 is the room
RAIN_MM = {1: 0.254, 2: 0.2, 3: 0.1, 4: 0.0254}  # rain_size -> millimetres a count
LOST = 2  # rx_state while it scans: ten packets missed in a row, so what the record holds is from before

_WEATHER = (
    entry("temp", "temperature", "degF"),
    entry("hum", "humidity", "%"),
    entry("dew_point", "dew_point", "degF"),
    entry("wind_speed_hi_last_10_min", "wind_gust", "mph"),
    entry("solar_rad", "solar_radiation", "W/m2"),
    entry("uv_index", "uv_index", "1"),
)
_WIND: Mapping[str, tuple[Entry, ...]] = {
    "mean": (
        entry("wind_speed_avg_last_10_min", "wind_speed", "mph"),
        entry("wind_dir_scalar_avg_last_10_min", "wind_direction", "degree"),
    ),
    "last": (entry("wind_speed_last", "wind_speed", "mph"), entry("wind_dir_last", "wind_direction", "degree")),
}
_SHARED = {
    BAROMETER: (entry("bar_absolute", "pressure", "inHg"),),
    SOIL: (entry("temp_1", "soil_temperature", "degF"),),
}
_COUNTERS = ("rainfall_year", "rainfall_monthly", "rainfall_daily")
_MAX_RECORDS = 64  # a device tracks eight transmitters


class WeatherlinkLive:
    """Decodes conditions and broadcasts of one device."""

    detects_cuts = True

    def __init__(self, sensor: Sensor) -> None:
        """Raises ConfigError: an option that is not one."""
        options = options_of(sensor, LiveOptions)
        self._rows = (*_WIND[options.wind], *_WEATHER)
        self._txid = options.txid

    def decode(self, payload: bytes, count: Count = uncounted) -> list[Reading]:
        """One reading for each transmitter, the barometer's pressure in the first. What two transmitters measure is
        taken from the first of them in the message; rain from the first with a collector, also while it is not heard:
        its total brings later what another's would bring now.

        Raises:
            BadMessage: `not-json`, `not-object`, `device-error`, `bad-shape`, `no-usable-value`.
        """
        if not payload.strip():
            return []
        message = json_object(payload)
        data = message.get("data", message)
        if data is None:
            raise BadMessage("device-error", "an error in place of conditions")
        records = data.get("conditions") if isinstance(data, dict) else None
        if not isinstance(data, dict) or not isinstance(records, list) or len(records) > _MAX_RECORDS:
            raise BadMessage("bad-shape", "no list of conditions")
        t = None if data.get("ts") is None else device_time(data["ts"], count)
        readings = self._readings([record for record in records if isinstance(record, dict)], t, count)
        if not readings:
            raise BadMessage("no-usable-value", "no record of conditions holds a number")
        return readings

    def _readings(self, records: list[dict[str, object]], t: int | None, count: Count) -> list[Reading]:
        shared: dict[str, float] = {}
        for record in records:
            found, _ = values_of(record, _SHARED.get(_whole(record.get("data_structure_type")), ()), count)
            shared = {**found, **shared}
        readings: list[Reading] = []
        taken = set(shared)
        heard = [record for record in records if _whole(record.get("data_structure_type")) == ISS]
        heard = [record for record in heard if self._txid in (0, record.get("txid"))]
        gauge = next((record for record in heard if _whole(record.get("rain_size")) in RAIN_MM), None)
        for record in heard:
            if gauge is not None and record is not gauge:
                record = {name: value for name, value in record.items() if not name.startswith("rain")}
            try:
                reading = self._transmitter(record, t, {} if readings else shared, taken, count)
            except BadMessage as error:
                count(error.reason)
                continue
            readings.append(reading)
            taken |= set(reading.values)
        return readings or ([Reading(shared, t)] if shared else [])

    def _transmitter(
        self, record: Mapping[str, object], t: int | None, shared: Mapping[str, float], taken: set[str], count: Count
    ) -> Reading:
        """What one transmitter says that is not `taken` yet, and what is `shared`.

        Raises:
            BadMessage: `no-signal`, or `no-usable-value`.
        """
        if record.get("rx_state") == LOST:
            raise BadMessage("no-signal")
        values, _ = values_of(record, self._rows, count)
        counter = next((name for name in _COUNTERS if name in record), _COUNTERS[0])
        total, rate = _rain(record, counter, count), _rain(record, "rain_rate_last", count)
        if rate is not None:
            values["rain_rate"] = rate
        values = {name: value for name, value in values.items() if name not in taken}
        flag = record.get("trans_battery_flag")
        battery: dict[str, str | float] = {} if flag is None else {"transmitter": "ok" if flag == 0 else "low"}
        totals = {} if total is None else {"rain": total}
        if not values and not totals and not battery:
            raise BadMessage("no-usable-value", "a record without numbers")
        device = f"tx{_whole(record.get('txid'))}"
        return Reading({**shared, **values}, t, totals=totals, device=device, battery=battery)


def _rain(record: Mapping[str, object], name: str, count: Count) -> float | None:
    """A number of counts in millimetres; None without a collector, or without a number."""
    raw, size = record.get(name), RAIN_MM.get(_whole(record.get("rain_size")))
    if name not in record or (size is None and not raw):
        return None
    try:
        if size is None:
            raise BadMessage("no-rain-size")
        return number(present(raw) * size)
    except BadMessage as error:
        count(error.reason)
        return None


def _whole(raw: object) -> int:
    """A small whole number; -1 for anything else."""
    return raw if isinstance(raw, int) and not isinstance(raw, bool) and 0 <= raw < 1_000 else -1


DRIVERS = (
    DriverSpec(
        "weatherlink_live",
        Transport.POLL,
        WeatherlinkLive,
        "Davis WeatherLink Live",
        options=LiveOptions,
        poll=LivePoll,
        pressure=Pressure.STATION,
        stamps="the device's epoch seconds, on arrival while its clock is not set",
    ),
)
