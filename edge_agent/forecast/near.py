"""What a station's forecast sees of the others of its network, from a folder: as on a gateway that holds them all.

Every neighbour is seen at the station's own origins, by its own cadence, and never later than the origin.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge_agent import grid
from edge_agent.clock import format_time
from edge_agent.config import Station
from edge_agent.console import tell
from edge_agent.forecast.groups import REACH_KM, groups
from edge_agent.forecast.nowcast import Nowcaster, Seen, site_of
from edge_agent.forecast.windows import Windows
from edge_agent.history import History, read_history
from edge_agent.network import any_near, others

MOST = 12  # neighbours seen: the nearest of the group


class Beside:
    """The neighbours of a station: those of its group. Their recordings are read one by one when they are asked for,
    and not kept. `names`: of those seen so far."""

    def __init__(self, station: Station, found: Sequence[tuple[Station, Callable[[], History]]]) -> None:
        """`found`: stations nearest first, and how to read each one's recording."""
        group = groups([station, *(other for other, _ in found)])
        self._found = [one for one, number in zip(found, group[1:], strict=True) if number == group[0]]
        self.names: list[str] = []

    def __bool__(self) -> bool:
        return bool(self._found)

    def histories(self, first: int, last: int) -> Iterator[tuple[Station, History]]:
        """Those of the nearest that had readings in the 30 days before `first` or up to `last`.

        Raises:
            DataError: a file that is no history; its name and row are told.
        """
        start, n = first - grid.HISTORY_STEPS * grid.STEP_S, 0
        for other, read in self._found:
            past = read()
            inside = past.times[(past.times > start) & (past.times <= last)]
            if not len(inside) or not past.variables:
                tell([f"{other.id}: no readings from {format_time(start)} to {format_time(last)}: it is not seen"])
                continue
            if other.id not in self.names:
                self.names.append(other.id)
            yield other, past
            n += 1
            if n == MOST:
                return


class Near(Beside):
    """The neighbours that a folder has of a station with the recording `history`.

    Raises:
        DataError: see `network.others`.
    """

    def __init__(self, folder: Path, station: Station, history: Path) -> None:
        found = others(folder, station, history, REACH_KM)
        super().__init__(station, [(other, partial(_from_file, path, other)) for other, path in found])
        if not self:
            far = not any_near(folder, station, history, REACH_KM)  # else their files are missing, which was told
            why = f"no other station within {REACH_KM:g} km: " if far else ""
            tell([f"{folder}: {why}the forecast sees nobody"])


def _from_file(path: Path, station: Station) -> History:
    past = read_history(path, elevation_m=station.elevation_m)
    tell(past.warnings)
    return past


def near_of(folder: Path | None, nowcaster: Nowcaster, station: Station, history: Path) -> Near | None:
    """The neighbours for a command's `--neighbours`; None where there is no folder, or the bundle looks at none, which
    is told. Raises DataError: as `Near`."""
    if folder is None:
        return None
    if not nowcaster.looks_around:
        tell([f"bundle {nowcaster.bundle} does not look at neighbours: --neighbours changes nothing"])
        return None
    return Near(folder, station, history)


class Around:
    """The neighbours of a station (none for `near` None) at origins `first` to `last`, as `Windows` takes them. `len`:
    how many there are.

    Raises:
        DataError: as `Beside.histories`.
    """

    def __init__(self, near: Beside | None, first: int, last: int) -> None:
        self._windows = [
            (np.array(site_of(station), np.float32), Windows(past, first, last))
            for station, past in (near.histories(first, last) if near else ())
        ]

    def __len__(self) -> int:
        return len(self._windows)

    def seen(self, origins: NDArray[np.int64], group: NDArray[np.int64]) -> Seen | None:
        """A row of each neighbour for each origin, [N * S], of the group of the row that sees it, [S]."""
        if not self._windows:
            return None
        return Seen(
            site=np.concatenate([np.tile(site, (len(origins), 1)) for site, _ in self._windows]),
            history=np.concatenate([windows.ending(origins) for _, windows in self._windows]),
            origin=np.tile(origins, len(self)),
            group=np.tile(group, len(self)),
        )
