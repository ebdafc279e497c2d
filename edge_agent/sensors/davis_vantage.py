"""Davis Vantage Pro, Pro2 and Vue, through the console's serial, USB or network logger: 19200 baud, binary packets.

The decoder is pure: packets, archive pages and answers in, readings out. The conversation is in `vantage_talk`.
"""

from __future__ import annotations

import struct
from datetime import datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from edge_agent.config import Sensor
from edge_agent.errors import BadMessage
from edge_agent.observation import Reading
from edge_agent.sensors import vantage_packets as packets
from edge_agent.sensors.civil import in_order, instants
from edge_agent.sensors.driver import DriverSpec, Options, Pressure, Talk, Transport, options_of
from edge_agent.sensors.mapping import EARLIEST, Count, uncounted

# Answers reach the decoder with the command that they answer, as they do not say themselves what was asked.
SETUP, CLOCK, ARCHIVE = b"EEBRD 2B 03\n", b"GETTIME\n", b"DMPAFT\n"
_CLICKS_MM = (0.254, 0.2, 0.1)  # of the setup byte's bits 4 and 5: 0.01 inch, 0.2 mm, 0.1 mm
_NEW_DUMP = timedelta(days=1)  # a page so much older than the one before begins another download
FORGET_LOOP2 = 4  # packets in a row that were none, and it is not sent any more
_STAMPED = struct.Struct(f"<q{packets.RECORD}s")  # UTC seconds, and the record


class VantageOptions(Options, frozen=True):
    """`rain_click_mm`: rain of one tip; None = the console says it. `timezone`: of the console's clock, an IANA name;
    the station's unless told otherwise. `catch_up_days`: so far back the archive is fetched, 0 = never.
    `rain_counter`: the console's total that rain is counted by, `year` or `day`."""

    rain_click_mm: float | None = None
    timezone: str = "UTC"
    catch_up_days: float = 60.0
    rain_counter: str = "year"

    def __post_init__(self) -> None:
        if self.rain_click_mm is not None and not 0 < self.rain_click_mm <= 10:
            raise ValueError("rain_click_mm must be above 0 and at most 10: 0.254 (0.01 inch), 0.2 or 0.1")
        if not 0 <= self.catch_up_days <= 3650:
            raise ValueError("catch_up_days must be between 0 and 3650")
        if self.rain_counter not in ("year", "day"):
            raise ValueError('rain_counter must be "year" or "day"')
        try:
            ZoneInfo(self.timezone)
        except (ZoneInfoNotFoundError, ValueError, OSError):
            raise ValueError(f'timezone "{self.timezone[:60]}" is not known: write a name like Europe/Zurich') from None


class Vantage:
    """Decodes what one console sends. Learns from its answers what a click of rain is and how long its archive's
    intervals are, and from its packets whether it sends LOOP2."""

    detects_cuts = True  # by length and checksum

    def __init__(self, sensor: Sensor) -> None:
        """Raises ConfigError: a wrong option."""
        options = options_of(sensor, VantageOptions)
        self._zone = ZoneInfo(options.timezone)
        self._told_click = options.rain_click_mm
        self._by_year = options.rain_counter == "year"
        self._click = options.rain_click_mm
        self._period_s: int | None = None
        self._since_loop2 = FORGET_LOOP2  # packets
        self._low = 1  # transmitters that a battery state is told of, bit by bit: the first, and those ever low
        self._last: tuple[datetime, int] | None = None  # the latest record of a recorded archive: its stamp, and in UTC

    def decode(self, payload: bytes, count: Count = uncounted) -> list[Reading]:
        """The reading of a packet; those of an archive page, `historical`; of the console's clock one without values.

        Raises:
            BadMessage: `bad-checksum`, `packet-type`, `not-a-packet`, `bad-time` or `no-usable-value`.
        """
        if len(payload) == packets.PACKET and payload.startswith(packets.MARKER):
            return [self._packet(_whole(payload), count)]
        if len(payload) == packets.PAGE:
            return self._page(_whole(payload), count)
        if payload.startswith(ARCHIVE) and (len(payload) - len(ARCHIVE)) % _STAMPED.size == 0:
            stamped = _STAMPED.iter_unpack(payload[len(ARCHIVE) :])
            return [reading for t, record in stamped for reading in self._record(record, t, self._period_s, count)]
        if payload.startswith(SETUP) and len(payload) == len(SETUP) + 3:
            self._set_up(payload[len(SETUP) :])
            return []
        if payload.startswith(CLOCK) and len(payload) == len(CLOCK) + 6:
            return self._clock(payload[len(CLOCK) :])
        raise BadMessage("not-a-packet", f"{len(payload)} bytes that are neither packet nor archive page")

    # --- live ---------------------------------------------------------------------------------------------------------

    def _packet(self, data: bytes, count: Count) -> Reading:
        kind = data[4]
        if kind not in (packets.LOOP, packets.LOOP2):
            raise BadMessage("packet-type", f"packet type {kind} is not known")
        self._since_loop2 = 0 if kind == packets.LOOP2 else self._since_loop2 + 1
        if kind == packets.LOOP2:
            values = packets.values_of(data, packets.LOOP2_FIELDS, count)
        else:  # its wind is in whole mph: not mixed with the finer one
            wind = (packets.LOOP_WIND,) if self._since_loop2 > FORGET_LOOP2 else ()
            values = packets.values_of(data, (*packets.LOOP_FIELDS, *wind), count)
        values |= self._clicks(data, packets.RAIN_RATE, count)
        totals: dict[str, float] = {}
        if not self._by_year:
            totals = self._clicks(data, packets.DAY_RAIN, count)
        elif kind == packets.LOOP:  # the other has none
            totals = self._clicks(data, packets.YEAR_RAIN, count)
        battery = self._battery(data) if kind == packets.LOOP else {}
        if not values and not totals:
            raise BadMessage("no-usable-value", "the console shows dashes for everything")
        return Reading(values, totals=totals, battery=battery)

    def _battery(self, data: bytes) -> dict[str, str | float]:
        """Volts = raw * 300 / 512 / 100. A transmitter's bit says that its battery is low, not that it is there."""
        low, volts = data[86], int.from_bytes(data[87:89], "little") * 300 / 512 / 100
        self._low |= low
        parts = [n for n in range(8) if self._low >> n & 1]
        found: dict[str, str | float] = {f"transmitter {n + 1}": "low" if low >> n & 1 else "ok" for n in parts}
        return {"console": round(volts, 2), **found} if volts else found

    def _clicks(self, data: bytes, field: packets.Field, count: Count) -> dict[str, float]:
        """Rain in a field of clicks, mm. No rain is none whatever a click is."""
        clicks = packets.raw(data, field)
        if clicks is None:
            count("dashed")
        elif clicks and self._click is None:
            count("no-rain-click")
        else:
            return {field.variable: clicks * (self._click or 0.0)}
        return {}

    # --- answers ------------------------------------------------------------------------------------------------------

    def _set_up(self, answer: bytes) -> None:
        """Setup bits, month in which the rain year begins, minutes of an archive interval."""
        size = answer[0] >> 4 & 3
        if self._told_click is None:
            self._click = _CLICKS_MM[size] if size < len(_CLICKS_MM) else None
        self._period_s = answer[2] * 60 if answer[2] in packets.PERIODS else None

    def _clock(self, answer: bytes) -> list[Reading]:
        """Raises BadMessage."""
        shown = clock_of(answer)
        if shown is None:
            raise BadMessage("bad-time", "the console's clock shows no time")
        meant = instants(shown, self._zone)
        if len(meant) > 1 or meant[0] < EARLIEST:
            return []  # the hour that comes twice, or a clock that was never set: it says nothing
        return [Reading({}, device_clock=float(meant[0]))]

    # --- the archive --------------------------------------------------------------------------------------------------

    def _page(self, page: bytes, count: Count) -> list[Reading]:
        """A page of a recording: its stamps are told apart by their order alone."""
        dated = [(record, packets.stamp_of(record)) for record in packets.records_of(page)]
        for _ in range(sum(stamp is None for _, stamp in dated)):
            count("bad-time")
        whole = [(record, stamp) for record, stamp in dated if stamp is not None]
        if not whole:
            return []
        stamps = [stamp for _, stamp in whole]
        if self._last is not None and stamps[0] < self._last[0] - _NEW_DUMP:
            self._last = None
        times = in_order(stamps, self._zone, self._last[1] if self._last else None)
        for _ in range(times.count(None)):
            count("old-record")
        known = [(record, stamp, t) for (record, stamp), t in zip(whole, times, strict=True) if t is not None]
        if known:
            self._last = known[-1][1:]
        period_s = self._period_s or _period_s([t for _, _, t in known])
        return [reading for record, _, t in known for reading in self._record(record, t, period_s, count)]

    def _record(self, record: bytes, t: int, period_s: int | None, count: Count) -> list[Reading]:
        if record[42] != packets.REVISION_B:
            count("archive-revision")
            return []
        values = packets.values_of(record, packets.RECORD_FIELDS, count)
        values |= self._clicks(record, packets.RECORD_RAIN, count)
        code = record[27]
        if code < 16:
            values["wind_direction"] = code * 22.5 or 360.0
        else:
            count("dashed")
        return [Reading(values, t, period_s=period_s, historical=True)] if values else []


def clock_of(answer: bytes) -> datetime | None:
    """What a console's clock shows: second, minute, hour, day, month, year - 1900; None where no clock shows that."""
    second, minute, hour, day, month, year = answer
    try:
        return datetime(1900 + year, month, day, hour, minute, second)
    except ValueError:
        return None


def archive_message(records: list[tuple[int, bytes]]) -> bytes:
    """Records with their UTC seconds, as the decoder takes them."""
    return ARCHIVE + b"".join(_STAMPED.pack(t, record) for t, record in records)


def _whole(data: bytes) -> bytes:
    if not packets.sound(data):
        raise BadMessage("bad-checksum", "it was damaged on its way")
    return data


def _period_s(times: list[int]) -> int | None:
    """The interval of records so far apart; None where they do not show one."""
    steps = {later - earlier for earlier, later in pairwise(times)}
    shortest = min(steps, default=0)
    return shortest if shortest in {60 * minutes for minutes in packets.PERIODS} else None


def _talk(sensor: Sensor) -> Talk:
    from edge_agent.sensors.vantage_talk import VantageTalk

    options = options_of(sensor, VantageOptions)
    return VantageTalk(ZoneInfo(options.timezone), options.catch_up_days)


DRIVERS = (
    DriverSpec(
        "davis_vantage",
        Transport.SERIAL,
        Vantage,
        "Davis Vantage Pro, Pro2 and Vue: the console's serial, USB or network logger",
        options=VantageOptions,
        framer=lambda sensor: packets.VantageFrames(),
        talk=_talk,
        binary=True,
        pressure=Pressure.STATION,
        stamps="live on arrival; the archive's are the console's civil time (`timezone`)",
        baud=19200,
    ),
)
