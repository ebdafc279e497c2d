"""From the outbox to the broker: in order, nothing lost, nobody blocked, the books always right."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

import msgspec
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from edge_agent.clock import ManualClock
from edge_agent.errors import StoreError
from edge_agent.observation import Judged
from edge_agent.publish.feed import BATCH, MAX_PAUSE_S, MAX_TRIES, Feed, is_late
from edge_agent.publish.session import MAX_IN_FLIGHT, Message, Outcome
from edge_agent.publish.topics import kind_of
from tests.publish.samples import ORIGIN, judged


@dataclass
class Row:
    key: int
    judged: Judged


class Outbox:
    """The store's outbox, in memory."""

    def __init__(self) -> None:
        self.rows: dict[int, Row] = {}
        self.accepted, self.acknowledged = 0, 0
        self.dropped: Counter[str] = Counter()
        self.broken = False
        self.rollbacks = 0

    def add(self, judged: Judged) -> int:
        self.accepted += 1
        self.rows[self.accepted] = Row(self.accepted, judged)
        return self.accepted

    def queued(self, destination: str, limit: int, after: int = 0) -> list[Row]:
        return [row for key, row in self.rows.items() if key > after][:limit]

    def acknowledge(self, destination: str, keys: Iterable[int]) -> None:
        if self.broken:
            raise StoreError("disk full")
        for key in keys:
            self.acknowledged += self.rows.pop(key, None) is not None

    def drop(self, destination: str, keys: Iterable[int], reason: str) -> None:
        for key in keys:
            self.dropped[reason] += self.rows.pop(key, None) is not None


class Link:
    """A connection whose broker does what the test says."""

    def __init__(self) -> None:
        self.session: int | None = None
        self.sessions = 0
        self.sent: list[tuple[Message, int]] = []
        self.kept: dict[str, Message] = {}
        self.arrived: list[tuple[str, int]] = []  # (topic, seq), as a subscriber sees them
        self.ready: list[Outcome] = []

    def send(self, session: int, message: Message, token: int) -> None:
        if session == self.session:
            self.sent.append((message, token))

    def keep(self, message: Message) -> None:
        self.kept[message.topic] = message

    def outcomes(self) -> list[Outcome]:
        ready, self.ready = self.ready, []
        return ready

    def connect(self) -> None:
        self.sessions += 1
        self.session = self.sessions

    def disconnect(self) -> None:
        self.session, self.sent = None, []

    def answer(self, n: int = 1, reason: str = "", hopeless: bool = False, *, tell: bool = True) -> None:
        """The broker handles the next `n` messages; `tell`: and its answers reach us."""
        for message, token in self.sent[:n]:
            if not reason:
                seq = int(msgspec.json.decode(message.payload)["id"].rsplit(":")[-1])
                self.arrived.append((message.topic, seq))
            if tell:
                self.ready.append(Outcome(message, token, reason, hopeless))
        del self.sent[:n]


class Bench:
    """A feed with its outbox, link and time."""

    def __init__(self) -> None:
        self.clock = ManualClock(ORIGIN)
        self.outbox, self.link = Outbox(), Link()
        self.feed = Feed(self.link, self.clock, self.clock.monotonic)
        self.seq = 0

    def add(self, n: int = 1, station: str = "roof", source: str = "mast", age_s: int = 0) -> None:
        for _ in range(n):
            self.seq += 1
            row = judged(self.seq, t=int(self.clock.now()) - age_s, station=station, source=source)
            self.outbox.add(row)

    def pump(self) -> int:
        return self.feed.pump(self.outbox)

    def drain(self) -> None:
        """A broker that takes everything, for as long as it takes."""
        for _ in range(200):
            self.pump()
            self.link.answer(MAX_IN_FLIGHT)
            if not self.outbox.rows:
                return
            self.clock.advance(MAX_PAUSE_S / 10)
        pytest.fail(f"{len(self.outbox.rows)} rows never left")


@pytest.fixture
def bench() -> Bench:
    bench = Bench()
    bench.link.connect()
    return bench


def test_a_row_leaves_the_outbox_only_when_the_broker_has_it(bench):
    bench.add()
    assert bench.pump() == 1 and bench.outbox.rows
    bench.pump()
    assert bench.outbox.rows
    bench.link.answer()
    bench.pump()
    assert not bench.outbox.rows and bench.outbox.acknowledged == 1


def test_nothing_is_sent_twice_on_one_connection(bench):
    bench.add(5)
    assert [bench.pump(), bench.pump(), bench.pump()] == [5, 0, 0]


def test_what_was_under_way_when_the_connection_broke_is_sent_again(bench):
    bench.add(3)
    bench.pump()
    bench.link.answer(1)
    bench.link.answer(1, tell=False)  # it arrived, but we never heard
    bench.link.disconnect()
    assert bench.pump() == 0
    bench.link.connect()
    assert bench.pump() == 2
    bench.drain()
    assert [seq for _, seq in bench.link.arrived] == [1, 2, 2, 3]


def test_a_broker_that_never_answers_gets_a_bounded_number(bench):
    bench.add(500)
    while bench.pump():
        pass
    assert len(bench.link.sent) == MAX_IN_FLIGHT


def test_one_call_does_a_bounded_amount_of_work(bench):
    bench.add(500)
    assert bench.pump() == BATCH


def test_without_a_broker_rows_wait(bench):
    bench.link.disconnect()
    bench.add(10)
    assert bench.pump() == 0 and len(bench.outbox.rows) == 10


def test_late_and_imported_rows_are_history_and_say_so(bench):
    bench.add(age_s=121)
    bench.add(age_s=119)
    bench.outbox.add(judged(9, t=int(bench.clock.now()), historical=True))
    bench.pump()
    found = [(kind_of(m.topic), msgspec.json.decode(m.payload)["historical"]) for m, _ in bench.link.sent]
    assert found == [("obs/history", True), ("obs", False), ("obs/history", True)]
    assert not any(m.retain for m, _ in bench.link.sent)


def test_a_slow_sensor_is_late_after_two_of_its_periods():
    hourly = judged(t=ORIGIN, period_s=3600).observation
    assert not is_late(hourly, ORIGIN + 7200) and is_late(hourly, ORIGIN + 7201)


def test_the_last_values_of_all_sources_are_kept_for_who_comes_later(bench):
    bench.outbox.add(judged(1, t=ORIGIN, temperature=10.0))
    bench.outbox.add(judged(2, t=ORIGIN + 5, source="gauge", rain=0.2))
    bench.outbox.add(judged(3, t=ORIGIN - 60, temperature=99.0))  # out of order: not the newest
    bench.pump()
    message = bench.link.kept["wx/v1/roof/obs/last"]
    assert message.retain
    assert msgspec.json.decode(message.payload)["v"] == {"rain": 0.2, "temperature": 10.0}


def test_what_is_history_is_no_last_value_however_new(bench):
    bench.outbox.add(judged(1, t=ORIGIN, temperature=10.0))
    bench.outbox.add(judged(2, t=ORIGIN + 5, historical=True, temperature=99.0))
    bench.outbox.add(judged(3, t=ORIGIN - 121, source="gauge", rain=0.2))  # late
    bench.pump()
    assert msgspec.json.decode(bench.link.kept["wx/v1/roof/obs/last"].payload)["v"] == {"temperature": 10.0}


def test_a_station_the_broker_refuses_does_not_hold_up_the_others(bench):
    for _ in range(60):
        bench.add(station="roof")
        bench.add(station="yard")
    for _ in range(20):
        bench.pump()
        for message, token in bench.link.sent[:]:
            refused = "/roof/" in message.topic
            bench.link.ready.append(Outcome(message, token, "not-authorized" if refused else ""))
        bench.link.sent.clear()
    assert {row.judged.observation.station for row in bench.outbox.rows.values()} == {"roof"}
    assert len(bench.outbox.rows) == 60 and not bench.outbox.dropped


def test_while_refused_only_the_oldest_row_is_tried_now_and_then(bench):
    bench.add(30)
    bench.pump()
    bench.link.answer(30, "not-authorized")
    for _ in range(5):
        assert bench.pump() == 0
    bench.clock.advance(MAX_PAUSE_S)
    assert bench.pump() == 1


def test_once_allowed_again_everything_arrives_in_order(bench):
    bench.add(30)
    bench.pump()
    bench.link.answer(30, "quota-exceeded")
    bench.pump()
    bench.add(10)
    bench.drain()
    assert [seq for _, seq in bench.link.arrived] == list(range(1, 41))


def test_a_row_that_is_refused_again_and_again_is_dropped_with_its_reason(bench):
    bench.add(2)
    while not bench.outbox.dropped:
        bench.pump()
        refused = 0
        while bench.link.sent:
            message, token = bench.link.sent.pop(0)
            refused += 1
            bench.link.ready.append(Outcome(message, token, "quota-exceeded" if token == 1 else ""))
        bench.clock.advance(MAX_PAUSE_S)
        assert refused <= MAX_TRIES
    bench.drain()
    assert bench.outbox.dropped == {"quota-exceeded": 1} and bench.outbox.acknowledged == 1


def test_a_hopeless_row_is_dropped_at_once(bench):
    bench.add(2)
    bench.pump()
    bench.link.answer(1, "packet-too-large", hopeless=True)
    bench.drain()
    assert bench.outbox.dropped == {"packet-too-large": 1} and bench.outbox.acknowledged == 1


def test_a_store_that_fails_for_a_moment_loses_no_acknowledgement(bench):
    bench.add()
    bench.pump()
    bench.link.answer()
    bench.outbox.broken = True
    with pytest.raises(StoreError):
        bench.pump()
    bench.outbox.broken = False
    bench.pump()
    assert bench.outbox.acknowledged == 1


@pytest.mark.parametrize("paused", [False, True])
def test_rows_whose_settlement_the_store_lost_are_sent_again_without_a_reconnect(bench, paused):
    if paused:
        bench.add(station="yard")
        bench.pump()
        bench.link.answer(1, "not-authorized")
    bench.add(3)
    bench.pump()
    before = dict(bench.outbox.rows)
    bench.link.answer(2)
    bench.link.answer(1, "packet-too-large", hopeless=True)
    bench.pump()
    assert len(bench.outbox.rows) == paused
    bench.outbox.rows, bench.outbox.acknowledged = before, 0
    bench.outbox.dropped.clear()
    bench.outbox.rollbacks += 1
    assert [bench.pump(), bench.pump()] == [3, 0]
    bench.drain()
    assert not bench.outbox.rows and bench.link.sessions == 1


class AnyBroker(RuleBasedStateMachine):
    """Whatever broker and network do: the books balance, and in the end everything arrived, in order per source."""

    def __init__(self) -> None:
        super().__init__()
        self.bench = Bench()
        self.refusals = False

    @rule(n=st.integers(1, 70), station=st.sampled_from("ab"), source=st.sampled_from("xy"))
    def read(self, n: int, station: str, source: str) -> None:
        self.bench.add(n, station * 3, source)

    @rule()
    def pump(self) -> None:
        self.bench.pump()

    @rule(n=st.integers(1, 100), tell=st.booleans())
    def broker_takes(self, n: int, tell: bool) -> None:
        self.bench.link.answer(n, tell=tell)
        if not tell:
            self.bench.link.disconnect()

    @rule(n=st.integers(1, 3))
    def broker_refuses(self, n: int) -> None:
        self.refusals = self.refusals or bool(self.bench.link.sent)
        self.bench.link.answer(n, "not-authorized")

    @rule()
    def disconnect(self) -> None:
        self.bench.link.disconnect()

    @precondition(lambda self: self.bench.link.session is None)
    @rule()
    def connect(self) -> None:
        self.bench.link.connect()

    @rule(span=st.floats(0, 2 * MAX_PAUSE_S))
    def wait(self, span: float) -> None:
        self.bench.clock.advance(span)

    @invariant()
    def books_balance(self) -> None:
        box = self.bench.outbox
        assert box.accepted == box.acknowledged + len(box.rows) + sum(box.dropped.values())

    def teardown(self) -> None:
        bench = self.bench
        if bench.link.session is None:
            bench.link.connect()
        bench.drain()
        first = list(dict.fromkeys(seq for _, seq in bench.link.arrived))  # deduplicated, as receivers do
        assert len(first) + sum(bench.outbox.dropped.values()) == bench.outbox.accepted
        if not self.refusals:
            assert first == sorted(first)


AnyBroker.TestCase.settings = settings(max_examples=60, stateful_step_count=30)
TestAnyBroker = AnyBroker.TestCase
