"""accepted = acknowledged + queued + dropped, for each destination, whatever happens and in whatever order: full
outboxes of each policy, age, restarts, crashes, and a disk that fails and works again."""

from __future__ import annotations

import os
import resource
import shutil
import tempfile
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from edge_agent.clock import ManualClock
from edge_agent.config import Store as Settings
from edge_agent.observation import Flag
from edge_agent.store import Keeper, OutboxCounts, Store
from tests.store.readings import DAY, judged

DESTINATIONS = ("mqtt", "cloud")
POLICIES = ("drop_oldest", "drop_lowest_priority", "reject")
EXAMPLES = int(os.environ.get("LAW_EXAMPLES", "25"))
LIMIT_MB = 0.004  # about twenty rows


class Outbox(RuleBasedStateMachine):
    """`given`: readings that the books must have counted; `durable`: the same as of the last commit, with the books."""

    def __init__(self) -> None:
        super().__init__()
        self.folders = [Path(tempfile.mkdtemp(prefix="law-"))]
        self.clock = ManualClock(DAY)
        self.t = DAY
        self.given = 0
        self.durable: tuple[int, dict[str, OutboxCounts]] = (0, {})
        self.names: dict[tuple[str, int], str] = {}  # of each key the observation's id
        self.limits = resource.getrlimit(resource.RLIMIT_FSIZE)

    @initialize(policy=st.sampled_from(POLICIES))
    def begin(self, policy: str) -> None:
        self.policy = policy
        self.open()

    def open(self) -> None:
        path = str(self.folders[-1] / "store.sqlite")
        self.store = Keeper(Settings(path, outbox_mb=LIMIT_MB, outbox_policy=self.policy), self.clock)

    @rule(n=st.integers(1, 8), rank=st.integers(0, 3), usable=st.booleans(), both=st.booleans())
    def add(self, n: int, rank: int, usable: bool, both: bool) -> None:
        for _ in range(n):
            self.t += 10
            flags = {} if usable else {"temperature": Flag.FAIL}
            one = judged(self.t, {"temperature": 1.0}, rank=rank, flags=flags, source=f"s{rank}")
            assert self.store.add(one, DESTINATIONS if both else DESTINATIONS[:1])
            self.given += 1

    @rule(
        destination=st.sampled_from(DESTINATIONS), n=st.integers(0, 30), why=st.sampled_from(["", "refused"]),
        late=st.lists(st.integers(0, 300), max_size=3),
    )  # fmt: skip
    def settle(self, destination: str, n: int, why: str, late: list[int]) -> None:
        """Also rows that were settled long ago, or never were."""
        keys = [row.key for row in self.store.queued(destination, n)] + late
        if why:
            self.store.drop(destination, keys, why)
        else:
            self.store.acknowledge(destination, keys)

    @rule(days=st.sampled_from([0.2, 1.0, 5.0]))
    def grow_old(self, days: float) -> None:
        self.clock.advance(days * 86_400)
        self.store.expire(self.clock.now(), 2.0)
        self.saved()

    @rule()
    def commit(self) -> None:
        self.store.commit(self.clock.now())
        self.saved()

    @rule()
    def prune(self) -> None:
        self.store.prune(self.clock.now())
        self.saved()

    @rule()
    def fail_at_a_commit(self) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100, self.limits[1]))
        try:
            self.store.commit(self.clock.now())
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, self.limits)
        self.saved()

    @rule()
    def restart(self) -> None:
        self.store.close()
        self.open()
        self.durable = self.given, self.store.books()

    @precondition(lambda self: len(self.folders) < 6)
    @rule()
    def crash(self) -> None:
        """What a killed process leaves: the files as they are now."""
        self.folders.append(Path(tempfile.mkdtemp(prefix="law-")))
        for file in self.folders[-2].glob("store.sqlite*"):
            if not file.name.endswith("-shm"):
                shutil.copy(file, self.folders[-1])
        self.store._refuge._stop_watching()
        if self.store._refuge._file is not None:
            self.store._refuge._file.abandon()
        self.store._refuge._lock.release()
        self.open()
        self.given = self.durable[0]
        assert self.store.books() == self.durable[1], "what was called accepted and acknowledged is still so"

    def saved(self) -> None:
        if self.store.on_disk:
            self.durable = self.given, self.store.books()

    @invariant()
    def the_books_balance(self) -> None:
        if not hasattr(self, "store"):
            return
        for books in self.store.books().values():
            assert books.accepted == books.acknowledged + books.queued + sum(books.dropped.values())
        assert self.store.books() == self.durable[1], "what is not committed counts for nothing"

    @invariant()
    def keys_are_never_given_twice(self) -> None:
        if not hasattr(self, "store"):
            return
        for destination in DESTINATIONS:
            rows = self.store.queued(destination, 1000)
            assert [row.key for row in rows] == sorted({row.key for row in rows})
            assert len(rows) <= LIMIT_MB * 1e6 / 160 or not self.store.on_disk
            for row in rows:
                known = self.names.setdefault((destination, row.key), row.judged.observation.id)
                assert (
                    known == row.judged.observation.id or len(self.folders) > 1
                )  # a crash forgets what was not durable

    def teardown(self) -> None:
        if hasattr(self, "store"):
            self.store.close()
            with Store.open(self.folders[-1] / "store.sqlite", read_only=True) as after:
                assert after.counts("mqtt").accepted == self.given
        for folder in self.folders:
            shutil.rmtree(folder)


TestOutboxLaw = Outbox.TestCase
TestOutboxLaw.settings = settings(max_examples=EXAMPLES, stateful_step_count=30)
