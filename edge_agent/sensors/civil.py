"""Civil time stamps without an offset, in the order in which they were written, as UTC. Pure.

In the hour that comes twice a stamp alone does not say which of the two it is of; that they were written one after the
other does. In the hour that does not come at all a stamp means the instant that a clock which was not advanced showed.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta, tzinfo

_SECOND = timedelta(seconds=1)


def instants(stamp: datetime, zone: tzinfo) -> list[int]:
    """The UTC seconds that a clock of that zone may have meant by `stamp` (naive), ascending: one or two.

    The very end of a period belongs to it: where the clock goes back from 3:00 to 2:00, both stamps may be of that
    instant, and both also of the one an hour before or after.
    """
    found = set()
    for before in (timedelta(0), _SECOND):
        for fold in (0, 1):
            at = _at(stamp - before, zone, fold)
            if at is not None:
                found.add(int((at + before).timestamp()))
    if not found:  # the hour that does not come
        found.add(int((stamp - _offset(stamp, zone, 0)).replace(tzinfo=UTC).timestamp()))
    return sorted(found)


def in_order(stamps: Sequence[datetime], zone: tzinfo, after: int | None) -> list[int | None]:
    """The UTC seconds of stamps that were written one after the other; None for one that is not later than those
    before it. `after`: the one before the first, where it is known.

    Each is the earliest instant later than the one before. Where the first may mean two instants, that one stands
    which leaves out fewer of the others, then that which leaves the smaller gaps, then the earlier.
    """
    if not stamps:
        return []
    starts = [after] if after is not None else [t - 1 for t in instants(stamps[0], zone)]
    return min((_follow(stamps, zone, start) for start in starts), key=_badness)


def civil(t: float, zone: tzinfo) -> datetime:
    """What a clock of that zone shows at UTC seconds `t`, naive."""
    return datetime.fromtimestamp(t, zone).replace(tzinfo=None)


def _follow(stamps: Sequence[datetime], zone: tzinfo, after: int) -> list[int | None]:
    found: list[int | None] = []
    for stamp in stamps:
        later = next((t for t in instants(stamp, zone) if t > after), None)
        found.append(later)
        after = after if later is None else later
    return found


def _badness(found: list[int | None]) -> tuple[int, int]:
    known = [t for t in found if t is not None]
    return len(found) - len(known), known[-1] - known[0] if known else 0


def _at(stamp: datetime, zone: tzinfo, fold: int) -> datetime | None:
    """The instant, if a clock of that zone shows `stamp` then."""
    at = (stamp - _offset(stamp, zone, fold)).replace(tzinfo=UTC)
    return at if at.astimezone(zone).replace(tzinfo=None, fold=0) == stamp else None


def _offset(stamp: datetime, zone: tzinfo, fold: int) -> timedelta:
    offset = stamp.replace(tzinfo=zone, fold=fold).utcoffset()
    assert offset is not None  # a zone of the data base has one at all times
    return offset
