"""Lines and frames: however a stream is cut, the same messages come of it; little is held; a lost byte costs one."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import pairwise

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from edge_agent.sensors.driver import Framer
from edge_agent.sensors.framing import Frames, Lines, Refusal
from edge_agent.sensors.vantage_packets import PAGE, VantageFrames
from tests.sensors.vantage_console import loop, loop2

LIMIT = 20
MARKER, LENGTH = b"\xaa\xc0", 10

Message = bytes | Refusal


def frame(body: bytes) -> bytes:
    """A frame with a sum at its end, as particulate sensors have it."""
    return MARKER + body + bytes([sum(body) % 256])


def sound(data: bytes) -> bool:
    return sum(data[2:-1]) % 256 == data[-1]


def frames() -> Frames:
    return Frames(MARKER, LENGTH, sound)


MAKERS: dict[str, Callable[[], Framer]] = {
    "lines": lambda: Lines(LIMIT),
    "frames": frames,
    "vantage": VantageFrames,
}
MOST_HELD = {"lines": LIMIT, "frames": 2 * LENGTH, "vantage": 2 * PAGE}

bodies = st.binary(min_size=LENGTH - 3, max_size=LENGTH - 3).filter(lambda body: MARKER[0] not in body)
whole_frames = bodies.map(frame).filter(lambda data: MARKER[0] not in data[1:])
pieces = st.one_of(
    st.binary(max_size=40),
    whole_frames,
    st.sampled_from([b"\n", b"\r\n", b"t=1\r\n", MARKER, b"LOO", loop(temperature=1), loop2(3), b"x" * 50]),
)
streams = st.lists(pieces, max_size=12).map(b"".join)


def cut(data: bytes, at: Iterable[int]) -> list[bytes]:
    """The same bytes in chunks."""
    places = sorted({0, len(data), *(n % (len(data) + 1) for n in at)})
    return [data[a:b] for a, b in pairwise(places)] or [data]


def feed(framer: Framer, chunks: Iterable[bytes]) -> list[Message]:
    return [message for chunk in chunks for message in framer.feed(chunk)]


def held(framer: Framer) -> int:
    return len(framer._held)  # type: ignore[attr-defined]


@pytest.mark.parametrize("kind", MAKERS)
@given(data=streams, at=st.lists(st.integers(0, 1000), max_size=30))
def test_however_a_stream_is_cut_the_same_messages_come_of_it(kind, data, at):
    whole, by_bytes, cut_up = (MAKERS[kind]() for _ in range(3))
    messages = feed(whole, [data])
    assert feed(cut_up, cut(data, at)) == messages
    assert feed(by_bytes, (data[i : i + 1] for i in range(len(data)))) == messages
    assert whole.drop() == by_bytes.drop() == cut_up.drop()


@pytest.mark.parametrize("kind", MAKERS)
@given(data=st.lists(st.tuples(pieces, st.integers(1, 200)).map(lambda p: p[0] * p[1]), max_size=6))
def test_whatever_comes_little_is_held(kind, data):
    framer = MAKERS[kind]()
    for chunk in data:
        for _ in framer.feed(chunk):
            assert held(framer) <= MOST_HELD[kind]
        assert held(framer) <= MOST_HELD[kind]


@pytest.mark.parametrize("kind", MAKERS)
@given(data=streams)
def test_a_framer_that_dropped_what_it_held_is_as_new(kind, data):
    used, new = MAKERS[kind](), MAKERS[kind]()
    feed(used, [data])
    used.drop()
    assert not used.drop()
    after = [b"t=1\n", frame(b"1234567"), loop(temperature=7)]
    assert feed(used, after) == feed(new, after)


@pytest.mark.parametrize("kind", MAKERS)
def test_four_megabytes_that_are_no_message_are_told_of_once(kind):
    framer = MAKERS[kind]()
    told = feed(framer, [b"x" * 4096] * 1024)
    assert len(told) == 1 and isinstance(told[0], Refusal)


# --- lines ------------------------------------------------------------------------------------------------------------

texts = st.binary(min_size=1, max_size=LIMIT).filter(lambda t: b"\r" not in t and b"\n" not in t)


@given(st.lists(st.tuples(texts, st.sampled_from([b"\n", b"\r", b"\r\n", b"\n\n\r"]))))
def test_each_line_comes_once_without_its_end(lines):
    assert feed(Lines(LIMIT), [b"".join(text + end for text, end in lines)]) == [text for text, _ in lines]


@given(texts, st.binary(min_size=LIMIT + 1, max_size=200).filter(lambda t: b"\r" not in t and b"\n" not in t), texts)
def test_a_line_that_is_too_long_is_refused_once_and_the_next_one_comes(before, long, after):
    messages = feed(Lines(LIMIT), [b"\n".join([before, long, after, b""])])
    assert messages == [before, Refusal("too-large", f"a line of more than {LIMIT} bytes"), after]


@given(texts, texts)
def test_a_stream_entered_in_the_middle_begins_with_the_next_line(rest, text):
    framer = Lines(LIMIT)
    framer.skip()
    assert feed(framer, [rest + b"\n" + text + b"\n"]) == [text]


@given(texts)
def test_half_a_line_is_something_that_was_begun(text):
    framer = Lines(LIMIT)
    assert feed(framer, [text]) == [] and framer.drop() and not framer.drop()


# --- frames -----------------------------------------------------------------------------------------------------------


@given(st.lists(whole_frames, max_size=10))
def test_each_frame_comes_once(sent):
    assert feed(frames(), [b"".join(sent)]) == sent


@given(st.lists(whole_frames, min_size=2, max_size=8), st.data())
def test_a_lost_byte_costs_the_frame_it_was_of_and_no_other(sent, data):
    which = data.draw(st.integers(0, len(sent) - 2))
    at = data.draw(st.integers(0, LENGTH - 1))
    broken = sent[which][:at] + sent[which][at + 1 :]
    assume(not sound(broken + MARKER[:1]))  # what it then looks like has one chance in 256 of the right sum
    messages = feed(frames(), [b"".join([*sent[:which], broken, *sent[which + 1 :]])])
    assert [m for m in messages if isinstance(m, bytes)] == sent[:which] + sent[which + 1 :]
    assert any(isinstance(m, Refusal) for m in messages)


@given(st.lists(whole_frames, min_size=1, max_size=8), st.data())
def test_a_damaged_byte_costs_the_frame_it_was_in_and_is_counted(sent, data):
    which, at = data.draw(st.integers(0, len(sent) - 1)), data.draw(st.integers(2, LENGTH - 1))
    bad = bytearray(sent[which])
    bad[at] = (bad[at] + data.draw(st.integers(1, 255))) % 256
    framer = frames()
    messages = feed(framer, [b"".join([*sent[:which], bytes(bad), *sent[which + 1 :]])])
    assert [m for m in messages if isinstance(m, bytes)] == sent[:which] + sent[which + 1 :]
    assert "bad-checksum" in {m.reason for m in messages if isinstance(m, Refusal)} or framer.drop()


@given(whole_frames, st.binary(min_size=1, max_size=LENGTH - 1).filter(lambda b: MARKER[0] not in b), whole_frames)
def test_noise_between_frames_is_told_of_once_and_measured(first, noise, second):
    messages = feed(frames(), [first + noise + second])
    assert messages == [first, Refusal("noise", f"{len(noise)} bytes between frames"), second]
