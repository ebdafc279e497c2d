"""Later verdicts reach receivers: each until the broker has it, and never in the way of observations."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from edge_agent.clock import ManualClock
from edge_agent.observation import Flag, Revision, Verdict
from edge_agent.publish.corrections import BATCH, LOOK_S, PAUSE_S, Corrections
from edge_agent.publish.payloads import revision_payload, to_json
from edge_agent.publish.schemas import validate
from edge_agent.publish.session import Outcome
from tests.publish.samples import ORIGIN
from tests.publish.test_feed import Link


@dataclass
class Record:
    key: int
    revision: Revision
    made: int = ORIGIN
    by_operator: bool = False


class Store:
    def __init__(self, n: int) -> None:
        self.rollbacks = 0
        verdict = Verdict(Flag.SUSPECT, "spike", "left and came back", 2.0)
        self.waiting = {
            k: Record(k, Revision("roof", "mast", "temperature", ORIGIN, ORIGIN, verdict)) for k in range(n)
        }

    def unpublished_revisions(self, limit):
        return list(self.waiting.values())[:limit]

    def revisions_published(self, keys):
        for key in keys:
            self.waiting.pop(key, None)


class Bench:
    def __init__(self, n: int) -> None:
        self.clock, self.link, self.store = ManualClock(ORIGIN), Link(), Store(n)
        self.corrections = Corrections(self.link, self.clock.monotonic)

    def pump(self, after_s: float = LOOK_S) -> None:
        self.clock.advance(after_s)
        self.corrections.pump(self.store)

    def answer(self, reason: str = "", hopeless: bool = False) -> None:
        for message, token in self.link.sent:
            self.corrections.settle(Outcome(message, token, reason, hopeless))
        self.link.sent.clear()


def test_all_go_out_in_batches_and_leave_when_the_broker_has_them() -> None:
    bench = Bench(BATCH + 5)
    bench.link.connect()
    bench.pump()
    assert len(bench.link.sent) == BATCH
    bench.pump()
    assert len(bench.link.sent) == BATCH  # none twice while they are under way
    for _ in range(3):
        bench.answer()
        bench.pump()
    assert not bench.store.waiting and not bench.link.sent


def test_without_a_connection_they_wait_and_after_a_broken_one_they_go_again() -> None:
    bench = Bench(2)
    bench.pump()
    assert not bench.link.sent
    bench.link.connect()
    bench.pump()
    bench.link.disconnect()
    bench.pump()
    bench.link.connect()
    bench.pump()
    assert len(bench.link.sent) == 2 and len(bench.store.waiting) == 2


def test_a_refusal_is_tried_again_after_a_while_and_a_hopeless_one_never() -> None:
    bench = Bench(1)
    bench.link.connect()
    bench.pump()
    bench.answer("not-authorized")
    bench.pump()
    assert not bench.link.sent
    bench.pump(PAUSE_S)
    assert len(bench.link.sent) == 1
    bench.answer("too-large", hopeless=True)
    bench.pump()
    assert not bench.store.waiting


def test_others_outcomes_are_none_of_theirs() -> None:
    bench = Bench(1)
    bench.link.connect()
    bench.pump()
    (message, _) = bench.link.sent[0]
    bench.corrections.settle(Outcome(message, None))
    bench.corrections.settle(Outcome(message, 0))
    bench.pump()
    assert bench.store.waiting


@pytest.mark.parametrize("by_operator", [False, True])
def test_what_goes_out_keeps_to_its_schema(by_operator: bool) -> None:
    verdict = Verdict(Flag.FAIL, "operator" if by_operator else "role", "w" * 900, None)
    payload = revision_payload(Revision("roof", "mast", "wind_speed", 0, 600, verdict), 1e9, by_operator=by_operator)
    said = validate("qc", to_json(payload))
    assert (said.start, said.end, said.flag) == ("1970-01-01T00:00:00Z", "1970-01-01T00:10:00Z", 4)


def test_what_a_lost_transaction_held_is_not_marked_by_an_answer_that_comes_later() -> None:
    """Its key may stand for another verdict by then."""
    bench = Bench(1)
    bench.link.connect()
    bench.pump()
    bench.store.rollbacks += 1
    (sent,) = bench.link.sent
    bench.link.sent.clear()
    bench.corrections.pump(bench.store)
    bench.corrections.settle(Outcome(*sent))
    bench.pump()
    assert bench.store.waiting and len(bench.link.sent) == 1
    bench.answer()
    bench.pump()
    assert not bench.store.waiting
