"""Other agents' stations near by: their `obs/last` messages, to compare with. `[[neighbour]]` in agent.toml names them.

Pure: bytes in, readings out. Only what their own quality control let pass is read; nothing of it is ever kept.
"""

from __future__ import annotations

from edge_agent.clock import parse_time
from edge_agent.config import Neighbour, Sensor
from edge_agent.errors import BadMessage, DataError
from edge_agent.observation import Flag, Reading
from edge_agent.sensors.mapping import Count, uncounted
from edge_agent.wire import WIRE

DRIVER = "neighbour"
MAX_MESSAGE_BYTES = 65_536


class LastObservation:
    """Decodes the `obs/last` of one neighbour."""

    detects_cuts = True

    def __init__(self, station: str) -> None:
        self._station = station

    def decode(self, payload: bytes, count: Count = uncounted) -> list[Reading]:
        """A reading for each time at which good values were measured, oldest first; none for an empty message, which
        only deletes a retained one.

        Raises:
            BadMessage: `not-an-observation`.
        """
        from edge_agent.publish.schemas import validate  # late: most agents have no neighbours

        if not payload:
            return []
        try:
            said = validate("obs/last", payload)
            by_time: dict[int, dict[str, float]] = {}
            for name, value in said.v.items():
                if said.qc[name].flag == Flag.GOOD:
                    by_time.setdefault(parse_time(said.at[name]), {})[name] = value
        except DataError as error:
            raise BadMessage("not-an-observation", str(error)[:200]) from None
        return [Reading(values, t, self._station) for t, values in sorted(by_time.items())]


def as_sensor(neighbour: Neighbour) -> Sensor:
    """A neighbour as what the intake and the subscriber know: a source of messages, named as no sensor can be."""
    return Sensor(
        name=f"neighbour:{neighbour.id}",
        driver=DRIVER,
        topic=f"{WIRE}/{neighbour.id}/obs/last",
        time="t",
        station=neighbour.id,
        max_message_bytes=MAX_MESSAGE_BYTES,
    )
