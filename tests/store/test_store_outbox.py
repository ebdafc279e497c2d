"""The outbox: everything accepted arrives, still waits, or was dropped for a reason that is counted."""

from __future__ import annotations

import resource
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edge_agent.errors import StoreError
from edge_agent.observation import Flag
from edge_agent.store import OutboxCounts, Store
from tests.store.readings import DAY, elsewhere, judged

OPERATIONS = st.lists(
    st.one_of(
        st.tuples(st.just("add"), st.integers(0, 30)),
        st.tuples(st.just("acknowledge"), st.lists(st.integers(1, 40), max_size=6)),
        st.tuples(st.just("drop"), st.lists(st.integers(1, 40), max_size=3)),
        st.tuples(st.just("commit"), st.none()),
        st.tuples(st.just("prune"), st.none()),
    ),
    max_size=60,
)


def balanced(books: OutboxCounts) -> bool:
    return books.accepted == books.acknowledged + books.queued + sum(books.dropped.values())


@given(operations=OPERATIONS)
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_the_books_balance_whatever_happens(path: Path, operations: list[tuple[str, object]]) -> None:
    """Also across a restart, and with a bound so small that rows are dropped all the time."""
    path.unlink(missing_ok=True)
    store = Store.open(path, outbox_mb=0.002)
    accepted = 0
    for what, argument in operations:
        if what == "add":
            accepted += bool(store.add(judged(DAY + argument, {"temperature": 1.0}), ("mqtt",)))  # type: ignore[operator]
        elif what == "acknowledge":
            store.acknowledge("mqtt", argument)  # type: ignore[arg-type]
        elif what == "drop":
            store.drop("mqtt", argument, "refused")  # type: ignore[arg-type]
        elif what == "commit":
            store.commit()
        else:
            store.prune(DAY + 500 * 86_400)
        books = store.counts("mqtt")
        assert balanced(books)
        assert books.accepted == accepted
        assert books.queued <= 0.002e6 / 160
        assert len(store.queued("mqtt", 100)) == books.queued
    books = store.counts("mqtt")
    store.close()
    with Store.open(path, read_only=True) as reader:
        assert reader.counts("mqtt") == books


def test_rows_wait_in_the_order_in_which_they_were_accepted(store: Store) -> None:
    for t in (DAY, DAY + 20, DAY + 10):
        store.add(judged(t, {"temperature": 1.0}, flags={"temperature": Flag.SUSPECT}), ("mqtt", "cloud"))
    rows = store.queued("mqtt", 10)
    assert [row.judged.observation.t - DAY for row in rows] == [0, 20, 10]
    assert rows[0].judged.verdicts["temperature"].why == "temperature is odd"
    assert [row.key for row in store.queued("mqtt", 1, after=rows[0].key)] == [rows[1].key]
    assert [row.key for row in store.queued("cloud", 10)] != [row.key for row in rows]
    assert store.destinations() == ["cloud", "mqtt"]


def test_an_acknowledgement_counts_once_and_only_where_it_belongs(store: Store) -> None:
    store.add(judged(DAY, {"temperature": 1.0}), ("mqtt", "cloud"))
    (row,) = store.queued("mqtt", 10)
    assert store.acknowledge("cloud", [row.key]) == 0
    assert store.acknowledge("mqtt", [row.key, row.key, 999]) == 1
    assert store.acknowledge("mqtt", [row.key]) == 0
    assert store.counts("mqtt") == OutboxCounts(1, 1, 0, {})
    assert store.counts("cloud") == OutboxCounts(1, 0, 1, {})
    assert store.counts("nowhere") == OutboxCounts(0, 0, 0, {})


def test_a_key_is_never_given_again(store: Store) -> None:
    """An acknowledgement that comes late must not be taken for a newer row's."""
    store.add(judged(DAY, {"temperature": 1.0}), ("mqtt",))
    (first,) = store.queued("mqtt", 1)
    store.drop("mqtt", [first.key], "refused")
    store.add(judged(DAY + 10, {"temperature": 1.0}), ("mqtt",))
    assert store.acknowledge("mqtt", [first.key]) == 0
    assert store.counts("mqtt") == OutboxCounts(2, 0, 1, {"refused": 1})


def test_beyond_the_bound_the_oldest_go_and_are_counted(path: Path) -> None:
    with Store.open(path, outbox_mb=0.01) as store:
        for t in range(DAY, DAY + 2000, 10):
            store.add(judged(t, {"temperature": 1.0}), ("mqtt",))
        books = store.counts("mqtt")
        assert 10 < books.queued < 70
        assert books.dropped == {"outbox-full": 200 - books.queued}
        assert [row.judged.observation.t for row in store.queued("mqtt", 999)][-1] == DAY + 1990
        assert len(list(store.observations("roof"))) == 200  # the observations themselves stay


def test_each_part_of_an_observation_that_came_in_two_messages_goes_out_under_its_own_id(store: Store) -> None:
    store.add(judged(DAY, {"temperature": 1.0}, seq=1), ("mqtt",))
    store.add(judged(DAY, {"temperature": 1.0, "rain": 0.2}, seq=2, boot_id="later"), ("mqtt",))
    store.add(judged(DAY, {"humidity": 50.0}, seq=3), ("mqtt",))
    sent = [(row.judged.observation.id, row.judged.observation.values) for row in store.queued("mqtt", 10)]
    assert sent == [
        ("boot:mast:1", {"temperature": 1.0}),
        ("later:mast:2", {"rain": 0.2}),
        ("boot:mast:3", {"humidity": 50.0}),
    ]
    assert store.queued("mqtt", 10)[1].judged.verdicts.keys() == {"rain"}


def test_what_still_waits_is_not_pruned(store: Store) -> None:
    for t in (DAY, DAY + 10):
        store.add(judged(t, {"temperature": 1.0}), ("mqtt",))
    store.acknowledge("mqtt", [store.queued("mqtt", 1)[0].key])
    assert store.prune(DAY + 365 * 86_400).observations == 1
    (waiting,) = store.queued("mqtt", 10)
    assert waiting.judged.observation.t == DAY + 10
    assert len(list(store.observations("roof"))) == 1


@pytest.mark.parametrize("destinations", [(), ("mqtt",)])
def test_nothing_is_queued_for_a_destination_that_was_not_named(store: Store, destinations: tuple[str, ...]) -> None:
    _, rows = elsewhere([judged(DAY, {"temperature": 1.0})])
    store.add(rows[0], destinations)
    assert store.destinations() == list(destinations)


def test_a_key_is_not_given_again_where_its_transaction_was_lost(store: Store) -> None:
    """Whoever sent the lost row may still acknowledge it: that must not settle another."""
    store.add(judged(DAY, {"temperature": 1.0}), ("mqtt",))
    store.commit()
    store.add(judged(DAY + 10, {"temperature": 1.0}), ("mqtt",))
    gone = store.queued("mqtt", 10)[-1].key
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, hard))
    try:
        with pytest.raises(StoreError, match="The 1 readings since the last commit are lost") as failure:
            store.commit()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert failure.value.lost == 1 and store.rollbacks == 1
    store.add(judged(DAY + 20, {"temperature": 1.0}), ("mqtt",))
    assert store.queued("mqtt", 10)[-1].key > gone
    assert store.acknowledge("mqtt", [gone]) == 0


# --- bounds and policies ---------------------------------------------------------------------------------------------


def test_the_lowest_priority_goes_first_and_of_it_the_oldest(path: Path) -> None:
    """What nobody can use, then the sensors that stand last in the configuration."""
    with Store.open(path, outbox_mb=0.01, outbox_policy="drop_lowest_priority") as store:
        for i in range(120):
            rank, flags = i % 3, {"temperature": Flag.FAIL} if i % 10 == 9 else {}
            one = judged(DAY + i, {"temperature": 1.0}, source=f"s{rank}", rank=rank, flags=flags)
            store.add(one, ("mqtt",))
        left = [row.judged for row in store.queued("mqtt", 200)]
        books = store.counts("mqtt")
        assert balanced(books) and books.dropped == {"outbox-full": 120 - len(left)}
        assert all(one.usable() for one in left)
        times = {rank: [one.observation.t - DAY for one in left if one.observation.rank == rank] for rank in range(3)}
        assert len(times[0]) == 36 and not times[2] and 0 < len(times[1]) < 36
        assert times[1] == [i for i in range(120) if i % 3 == 1 and i % 10 != 9][-len(times[1]) :]


def test_a_full_outbox_that_rejects_keeps_what_it_has(path: Path) -> None:
    with Store.open(path, outbox_mb=0.01, outbox_policy="reject") as store:
        for t in range(DAY, DAY + 2000, 10):
            assert store.add(judged(t, {"temperature": 1.0}), ("mqtt",))
        books, rows = store.counts("mqtt"), store.queued("mqtt", 999)
        assert balanced(books) and books.accepted == 200 and books.dropped == {"outbox-full": 200 - len(rows)}
        assert [row.judged.observation.t for row in rows] == [DAY + 10 * i for i in range(len(rows))]
        store.acknowledge("mqtt", [rows[0].key])
        store.add(judged(DAY + 5000, {"temperature": 1.0}), ("mqtt",))
        assert store.queued("mqtt", 999)[-1].judged.observation.t == DAY + 5000
        assert len(list(store.observations("roof"))) == 201  # the observations themselves stay


def test_what_waits_for_too_long_is_dropped_and_counted(store: Store) -> None:
    hour, day = 3600, 86_400
    for n in range(10 * 24):
        store.add(judged(DAY + n * hour, {"temperature": 1.0}), ("mqtt", "cloud"))
        store.expire(DAY + n * hour, 3)
        assert store.counts("mqtt").queued <= 3 * 24 + 1
    store.acknowledge("cloud", [row.key for row in store.queued("cloud", 1000)])
    assert store.expire(DAY + 20 * day, 3) == store.counts("mqtt").dropped["outbox-old"] - (10 * 24 - 3 * 24)
    assert store.counts("mqtt") == OutboxCounts(240, 0, 0, {"outbox-old": 240})
    assert balanced(store.counts("cloud"))


def test_the_age_of_a_row_counts_from_when_a_believed_clock_first_saw_it(store: Store) -> None:
    """Rows of a clock that stood at 1970, or of an archive, are not old because their own time is."""
    for t in (100, 200):
        store.add(judged(t, {"temperature": 1.0}), ("mqtt",))
    for day in range(4):
        assert store.expire(DAY + day * 86_400, 5) == 0
    assert store.expire(DAY - 3 * 86_400, 5) == 0  # a clock that was set back
    assert store.expire(DAY + 86_400, 5) == 0
    assert store.expire(DAY + 4 * 86_400, 5) == 2


def test_what_is_published_of_the_books_is_what_was_committed(store: Store) -> None:
    store.add(judged(DAY, {"temperature": 1.0}), ("mqtt",))
    store.acknowledge("mqtt", [store.queued("mqtt", 1)[0].key])
    assert store.counts("mqtt") == OutboxCounts(1, 1, 0, {})
    assert store.books() == {}
    store.commit()
    assert store.books() == {"mqtt": OutboxCounts(1, 1, 0, {})}
