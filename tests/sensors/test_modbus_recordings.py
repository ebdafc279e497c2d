"""A recorded Modbus bus cut into messages, and whatever else may come."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edge_agent.errors import BadMessage
from edge_agent.sensors import DRIVERS
from edge_agent.sensors.framing import Refusal
from edge_agent.sensors.modbus_frames import answer, question, refusal
from tests.sensors.modbus_answers import RENKE, renke


def cut(make_sensor, data: bytes, chunk: int = 4096, **options: Any) -> list[bytes | Refusal]:
    framer = DRIVERS["modbus"].framer(make_sensor("modbus", {}, options={"map": "renke", **options}))
    return [m for start in range(0, len(data), chunk) for m in framer.feed(data[start : start + chunk])]


def kinds(found: list[bytes | Refusal]) -> list[str]:
    return [m.reason if isinstance(m, Refusal) else "message" for m in found]


@pytest.mark.parametrize("chunk", [1, 7, 4096])
@pytest.mark.parametrize("tcp", [False, True])
def test_a_recorded_bus_is_cut_into_answers_with_their_questions(make_sensor, chunk, tcp):
    asked, said = question(1, 3, 500, 14, tcp), answer(1, 3, RENKE, tcp)
    no = refusal(1, 3, 2, tcp)
    found = cut(make_sensor, said + asked + said + asked + asked + no + said, chunk, tcp=tcp)
    assert found == [said, asked + said, Refusal("no-answer", found[2].detail), asked + no, said]


@pytest.mark.parametrize("chunk", [1, 7, 4096])
def test_noise_and_damage_cost_what_they_hit(make_sensor, chunk):
    said = renke()
    lost = said[:10] + said[11:]
    flipped = bytes([*said[:12], said[12] ^ 1, *said[13:]])
    found = cut(make_sensor, said + b"\xff\x00\x55" + said + lost + said + flipped + said, chunk)
    assert kinds(found) == ["message", "noise", "message", "bad-checksum", "message", "bad-checksum", "message"]


def test_noise_alone_is_told_and_not_kept(make_sensor):
    found = cut(make_sensor, b"\xff" * 100_000)
    assert set(kinds(found)) == {"noise"} and 50 < len(found) < 150


def test_answers_of_a_device_the_map_does_not_know_are_handed_on(make_sensor):
    other = answer(1, 3, [1] * 9, tcp=False)
    assert cut(make_sensor, other * 3) == [other] * 3


# --- whatever comes ---

FRAMES = st.sampled_from(
    [renke(), renke(r500=345), question(1, 3, 500, 14, False), refusal(1, 3, 2, False), answer(2, 4, [1, 2], False)]
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=300)
@given(
    parts=st.lists(FRAMES | st.binary(max_size=40), max_size=12),
    hits=st.lists(st.tuples(st.integers(0, 600), st.integers(1, 255)), max_size=4),
    tcp=st.booleans(),
    chunk=st.integers(1, 600),
)
def test_noise_is_refused_and_nothing_else_happens(make_sensor, parts, hits, tcp, chunk):
    data = bytearray(b"".join(parts))
    for at, flip in hits:
        if at < len(data):
            data[at] ^= flip
    sensor = make_sensor("modbus", {}, options={"map": "renke", "tcp": tcp})
    spec = DRIVERS["modbus"]
    decoder, framer = spec.decoder(sensor), spec.framer(sensor)
    messages = [m for start in range(0, len(data), chunk) for m in framer.feed(bytes(data[start : start + chunk]))]
    for message in [*messages, bytes(data), *parts]:
        if isinstance(message, Refusal):
            continue
        try:
            readings = decoder.decode(message)
        except BadMessage:
            continue
        assert all(math.isfinite(v) for r in readings for v in [*r.values.values(), *r.totals.values()])


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=200)
@given(before=st.binary(max_size=60), chunk=st.integers(1, 100))
def test_no_noise_hides_the_answer_after_the_next(make_sensor, before, chunk):
    """Bytes that look like a beginning may take one answer with them, and never more."""
    found = cut(make_sensor, before + renke() * 3, chunk)
    assert found.count(renke()) >= 2
