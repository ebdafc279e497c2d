"""Answers of a Renke station, made after its manual."""

from __future__ import annotations

from edge_agent.sensors.modbus_frames import answer

# Bft 3, 90 degrees, 55.3 %, -24.5 degC, 12 and 30 ug/m3, 101.3 kPa, 12.7 mm
RENKE = [52, 3, 2, 90, 553, 65291, 451, 12, 30, 1013, 0, 5000, 50, 127]


def renke(**changes: int) -> bytes:
    """An answer of a Renke station; `r509=0` changes a register."""
    values = list(RENKE)
    for name, value in changes.items():
        values[int(name[1:]) - 500] = value
    return answer(1, 3, values, tcp=False)
