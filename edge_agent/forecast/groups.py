"""Which stations see each other in a forecast: those that stand near each other, in groups a model takes in one run.

Pure: places in, numbers out. The same places give the same groups, in whatever order they are told.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from edge_agent.config import Station
from edge_agent.quality.spatial import EARTH_KM

REACH_KM = 60.0  # what the weather of the next hours comes across, and stations still share
MOST = 32  # stations of a group: a run of the model holds all of them

Groups = NDArray[np.int64]


def groups(stations: Sequence[Station]) -> Groups:
    """The group of each station, [S]: a number that those of one group share, the row of the first of them.

    Stations at most `REACH_KM` apart are of one group, and so are those that others between them join. Where these are
    more than `MOST`, they are cut in half across the direction in which they lie widest, until they are not. A station
    whose place is not known (NaN) is a group of its own.
    """
    place = _on_the_globe(stations)
    by_name = np.array(sorted(range(len(stations)), key=lambda row: stations[row].id), np.int64)
    known = np.isfinite(place[by_name]).all(axis=1)
    found = np.arange(len(stations), dtype=np.int64)
    for joined in _joined(place, by_name[known]):
        for rows in _halved(place, joined):
            found[rows] = rows.min()
    return found


def whole(group: Groups, most: int) -> Iterator[slice]:
    """Slices of at most `most` rows that cut no group; a larger group is a slice by itself.

    Raises:
        ValueError: rows of one group do not stand side by side.
    """
    if not len(group):
        return
    ends = [*(np.flatnonzero(np.diff(group)) + 1).tolist(), len(group)]
    if len(ends) != len(np.unique(group)):
        raise ValueError("rows of one group must stand side by side")
    start = end = 0
    for next_ in ends:
        if next_ - start > most and end > start:
            yield slice(start, end)
            start = end
        end = next_
    yield slice(start, end)


def _on_the_globe(stations: Sequence[Station]) -> NDArray[np.float64]:
    """Cartesian places, km, [S, 3]: no date line and no pole where distances would go wrong."""
    degrees = np.array([(station.latitude, station.longitude) for station in stations], np.float64).reshape(-1, 2)
    north, east = np.radians(degrees).T
    return EARTH_KM * np.stack([np.cos(north) * np.cos(east), np.cos(north) * np.sin(east), np.sin(north)], axis=1)


def _joined(place: NDArray[np.float64], rows: Groups) -> Iterator[Groups]:
    """Sets of rows that steps of at most `REACH_KM` from station to station join."""
    straight = 2 * EARTH_KM * np.sin(REACH_KM / EARTH_KM / 2)  # the chord, as places are in three dimensions
    left = rows
    while len(left):
        found, waiting, left = [left[:1]], left[:1].tolist(), left[1:]
        while waiting:
            near = np.linalg.norm(place[left] - place[waiting.pop()], axis=1) <= straight
            found.append(left[near])
            waiting += left[near].tolist()
            left = left[~near]
        yield np.concatenate(found)


def _halved(place: NDArray[np.float64], rows: Groups) -> Iterator[Groups]:
    """The rows in cells of at most `MOST`."""
    if len(rows) <= MOST:
        yield rows
        return
    widest = int(np.ptp(place[rows], axis=0).argmax())
    ordered = rows[np.argsort(place[rows, widest], kind="stable")]
    yield from _halved(place, ordered[: len(rows) // 2])
    yield from _halved(place, ordered[len(rows) // 2 :])
