"""Another agent's `obs/last`: what is good in it, by the time it was measured."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_agent.config import Neighbour
from edge_agent.errors import BadMessage
from edge_agent.sensors.neighbour import LastObservation, as_sensor

GOOD = {
    "id": "5f1c0a9e:mast:8631", "t": "2024-05-01T11:59:58Z", "period_s": 10, "clock": "synced", "historical": False,
    "v": {"temperature": 12.34, "humidity": 71.0, "rain": 0.2},
    "qc": {"temperature": {"flag": 1}, "humidity": {"flag": 3, "test": "step", "why": "x"}, "rain": {"flag": 1}},
    "src": "mast",
    "at": {"temperature": "2024-05-01T11:59:58Z", "humidity": "2024-05-01T11:59:58Z", "rain": "2024-05-01T11:50:00Z"},
}  # fmt: skip


def decode(document: object) -> list[tuple[int | None, str | None, dict[str, float]]]:
    payload = document if isinstance(document, bytes) else json.dumps(document).encode()
    return [(r.t, r.station, dict(r.values)) for r in LastObservation("school").decode(payload)]


def test_good_values_are_read_at_the_time_each_was_measured() -> None:
    assert decode(GOOD) == [
        (1_714_564_200, "school", {"rain": 0.2}),
        (1_714_564_798, "school", {"temperature": 12.34}),
    ]


def test_an_empty_message_deletes_a_retained_one_and_says_nothing() -> None:
    assert decode(b"") == []


@pytest.mark.parametrize(
    "document",
    [
        b"online",
        b"{",
        [],
        GOOD | {"historical": True},
        GOOD | {"at": {}},
        GOOD | {"extra": 1},
        GOOD | {"v": {"a": "1"}},
    ],
)
def test_what_is_no_last_observation_is_refused(document: object) -> None:
    with pytest.raises(BadMessage) as refused:
        decode(document)
    assert refused.value.reason == "not-an-observation"


@settings(max_examples=300)
@given(st.binary(max_size=300) | st.data())
def test_no_bytes_do_more_than_be_refused(data: bytes | st.DataObject) -> None:
    if not isinstance(data, bytes):
        whole = bytearray(json.dumps(GOOD).encode())
        for _ in range(data.draw(st.integers(1, 6))):
            whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
        data = bytes(whole)
    try:
        readings = LastObservation("school").decode(data)
    except BadMessage as error:
        assert error.reason == "not-an-observation"
    else:
        assert all(r.station == "school" and r.t is not None for r in readings)


def test_a_neighbour_s_source_is_named_as_no_sensor_can_be() -> None:
    sensor = as_sensor(Neighbour("school", 47.0, 8.0, 400.0))
    assert (sensor.name, sensor.topic) == ("neighbour:school", "wx/v1/school/obs/last")
