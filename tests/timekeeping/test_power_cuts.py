"""A device without a clock of its own, over boots, power cuts and late synchronisation: what it read stands where it
belongs, once, and nothing better than persistence is forecast while nobody knows the time."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edge_agent.schedule import GAP_S
from tests.store.readings import forecast
from tests.timekeeping.device import START, Device

HOUR, DAY = 3600, 86_400


@pytest.fixture
def device(tmp_path: Path) -> Device:
    return Device(tmp_path / "store.sqlite")


def test_a_boot_in_1970_that_is_synchronised_after_ten_minutes(device: Device) -> None:
    device.boot(30.0)
    device.run(600)
    assert device.clock.state() == "unsynced" and device.clock.error_s() is None
    assert {judged.observation.clock for judged in device.store.observations("roof")} == {"unsynced"}
    assert all(t < 700 for t, _ in device.sink.values())  # published at 1970
    device.sync()
    device.run(120)
    assert device.clock.state() == "synced"
    assert {judged.observation.clock for judged in device.store.observations("roof")} == {"synced"}
    device.check()
    assert device.keeper.restamped == 60


def test_a_boot_at_the_last_shutdown_goes_on_from_there_and_is_put_right(device: Device) -> None:
    device.boot(START, "synced")
    device.run(3 * HOUR, 5)
    shutdown = device.truth
    device.stop()
    device.truth += 5 * HOUR
    device.boot(shutdown)
    device.run(600)
    times = [judged.observation.t for judged in device.store.observations("roof")]
    assert times == sorted(set(times))  # nothing overlaps
    device.sync()
    device.run(60)
    device.check()


def test_a_clock_that_wakes_before_the_past_goes_on_from_what_the_store_knows(device: Device) -> None:
    device.boot(START, "synced")
    device.run(HOUR, 5)
    device.power_cut(2 * HOUR)
    device.boot(0.0)
    known = device.store.as_of()
    assert known is not None and 0 < device.clock.now() - known < 120
    assert device.clock.state() == "unsynced"
    device.run(600)
    device.sync()
    device.run(60)
    device.check()


def test_weeks_without_a_network_recover_after_each_power_cut(tmp_path: Path) -> None:
    device = Device(tmp_path / "store.sqlite", cadence_s=600)
    device.boot(START, "synced")
    device.run(HOUR, 60)
    newest = device.clock.now()
    for _ in range(3):  # nobody says the time in any of these
        device.power_cut(1234)
        device.boot(0.0)
        assert device.clock.now() > newest - device.commit_s  # time goes forward from what was committed
        device.run(7 * DAY, 600)
        newest = device.clock.now()
        assert device.clock.state() == "unsynced"
    device.power_cut(1234)
    device.boot(0.0)
    device.run(2 * HOUR, 60)
    device.sync()
    device.run(HOUR, 60)
    rows = list(device.store.observations("roof"))
    assert {judged.observation.id for judged in rows} == device.came.keys() | device._uncommitted.keys()
    last = [judged.observation for judged in rows if judged.observation.boot_id == device.acceptance._boot_id]
    assert all(abs(o.t - (device.came | device._uncommitted)[o.id]) <= 1 for o in last)
    assert {judged.observation.clock for judged in rows} == {"synced", "unsynced"}  # the earlier ones say what they are


def test_a_power_cut_right_after_synchronisation_does_not_undo_it(device: Device) -> None:
    device.boot(30.0)
    device.run(600)
    device.sync()
    device.keeper.look()  # the time is known, and nothing has been moved yet
    device.commit()
    came = dict(device.came)
    device.power_cut(600)
    device.boot(0.0)
    device.run(60)
    early = [judged.observation for judged in device.store.observations("roof") if judged.observation.id in came]
    assert len(early) == len(came) and all(abs(o.t - came[o.id]) <= 1 for o in early)
    device.sync()
    device.run(60)
    device.check()


def test_an_agent_that_restarts_before_synchronisation_has_all_its_readings_put_right(device: Device) -> None:
    device.boot(30.0)
    for _ in range(3):
        device.run(200)
        device.stop()
        device.start()
    assert len({id_.partition(":")[0] for id_ in device.came}) == 3
    device.sync()
    device.run(30)
    device.check()


def test_a_jump_of_a_year_forward_is_not_believed_at_once_and_moves_nothing_when_it_goes(device: Device) -> None:
    device.boot(START, "synced")
    device.run(HOUR, 5)
    device.machine.set(device.truth + 365 * DAY)
    device.run(300)
    assert device.clock.state() == "unsynced" and "jumped by +31536000 s" in device.clock.unfit()
    assert abs(device.clock.now() - device.truth) < 1
    device.machine.set(device.truth)
    device.run(HOUR, 5)
    assert device.clock.state() == "synced" and device.keeper.restamped == 0
    device.check()


@pytest.mark.parametrize("jump", [-HOUR, HOUR, 365 * DAY])
def test_a_jump_that_stays_is_believed_after_ten_minutes_and_the_readings_go_with_it(device: Device, jump: int) -> None:
    device.boot(START + jump, "synced")  # wrong, and found out later
    device.run(HOUR, 5)
    device.commit()
    before = {judged.observation.id for judged in device.store.observations("roof")}
    device.sync()
    device.run(620)
    assert device.clock.state() == "synced" and abs(device.clock.now() - device.truth) < 1
    device.run(60)
    for judged in device.store.observations("roof"):
        o = judged.observation
        wrong = jump if o.id in before else 0  # these were stamped by a clock that called itself synchronised
        assert abs(o.t - wrong - (device.came | device._uncommitted)[o.id]) <= 1


@pytest.mark.parametrize("restarts", [False, True])
@pytest.mark.parametrize("jump", [-HOUR, HOUR, 365 * DAY])
def test_a_source_that_was_wrong_for_long_and_comes_back_leaves_nothing_behind(
    device: Device, jump: int, restarts: bool
) -> None:
    device.boot(START, "synced")
    device.run(2 * HOUR, 5)
    device.machine.set(device.truth + jump)  # and its kernel says that it is synchronised
    device.run(1800, 5)
    assert device.clock.state() == "synced" and abs(device.clock.now() - device.truth - jump) < 1  # nobody can know
    device.store.add_forecast(forecast(int(device.clock.now()) // 900 * 900))
    if restarts:
        device.stop()
        device.start()
    device.machine.set(device.truth)
    device.run(700, 5)
    assert device.clock.state() == "synced" and abs(device.clock.now() - device.truth) < 1
    device.check()
    assert not list(device.store.forecasts("roof", since=0, until=2**40))
    device.run(HOUR, 5)
    device.check()


def test_an_hour_back_by_hand_changes_nothing_while_the_time_is_known(device: Device) -> None:
    device.boot(START, "synced")
    device.run(HOUR, 5)
    device.machine.set(device.truth - HOUR, "unsynced")  # date -s
    device.run(3 * HOUR, 5)
    assert "the system's clock is -3600 s off" in device.clock.detail()
    device.check()
    assert [origin for _, origin, _ in device.issued] == sorted({origin for _, origin, _ in device.issued})


def test_holdover_grows_until_forecasts_are_persistence_again(tmp_path: Path) -> None:
    device = Device(tmp_path / "store.sqlite", ppm=60, cadence_s=3600)
    device.boot(START, "synced")
    device.run(HOUR, 60)
    device.machine.set(device.truth, "unsynced")  # the network is gone
    held = {}
    for day in range(1, 21):
        device.run(DAY, 900)
        bound = device.clock.error_s()
        assert bound is not None and abs(device.clock.now() - device.truth) <= bound  # an honest bound
        held[day] = (device.clock.state(), bool(device.clock.unfit()))
    assert held[1] == ("holdover", False) and held[13] == ("holdover", False)
    assert held[15] == ("holdover", True) and held[20] == ("holdover", True)


def test_a_crystal_that_drifts_is_within_a_second_ten_minutes_back(tmp_path: Path) -> None:
    device = Device(tmp_path / "store.sqlite", ppm=-100)
    device.boot(30.0)
    device.run(600)
    device.sync()
    device.run(30)
    device.check(1.1)


def test_a_sensor_that_speaks_each_second_loses_none_when_its_readings_move(tmp_path: Path) -> None:
    device = Device(tmp_path / "store.sqlite", cadence_s=1)
    device.boot(30.75)
    device.run(600)
    device.sync()
    device.keeper.look()
    while device.keeper.restamp():
        pass
    device.publish()
    device.check()


def test_a_day_that_changes_while_nobody_knows_the_time(tmp_path: Path) -> None:
    device = Device(tmp_path / "store.sqlite", truth=START // DAY * DAY + DAY - 300)
    device.boot(DAY - 100.0)  # both the true and the wrong time pass midnight
    device.run(600)
    device.sync()
    device.run(60)
    device.check()


def test_no_forecast_is_better_than_persistence_while_the_time_is_unknown(device: Device) -> None:
    device.boot(30.0)
    device.run(2400)
    assert device.issued and all(why for _, _, why in device.issued)
    assert "the clock is not synchronised" in device.issued[0][2]
    device.sync()
    device.run(2400)
    known = [(origin, why) for truth, origin, why in device.issued if truth > START + 2400]
    assert known and not any(why for _, why in known)
    assert all(abs(b[0] - a[0]) >= GAP_S for a, b in pairwise(device.issued))  # no storm
    assert 3 <= len(known) <= 4  # no standstill: one at once, then each quarter hour


def test_a_broker_that_was_away_gets_each_reading_once_and_right(device: Device) -> None:
    device.broker = False
    device.boot(30.0)
    device.run(600)
    device.sync()
    device.run(30)
    device.broker = True
    device.turn()
    device.check()
    assert device.store.counts("mqtt").accepted == len(device.came | device._uncommitted)


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["run", "restart", "cut", "set", "sync", "lose"]),
            st.integers(20, 900),
            st.integers(-9000, 9000),
        ),
        min_size=3,
        max_size=10,
    )
)
def test_whatever_happens_before_it_nothing_is_lost_and_the_last_boot_is_right(
    tmp_path_factory: pytest.TempPathFactory, events: list[tuple[str, int, int]]
) -> None:
    device = Device(tmp_path_factory.mktemp("device") / "store.sqlite")
    device.boot(100.0)
    for what, span, other in events:
        device.run(span, 5)
        if what == "restart":
            device.stop()
            device.start()
        elif what == "cut":
            device.power_cut(span * 10)
            device.boot(max(device.truth + other, 0))
        elif what == "set":
            device.machine.set(device.machine.now() + other, "unsynced")
        elif what == "lose":
            device.machine.set(device.machine.now(), "unsynced")
        elif what == "sync":
            device.sync()
    device.sync()
    device.run(700, 5)
    assert device.clock.state() == "synced" and abs(device.clock.now() - device.truth) < 1
    rows = {judged.observation.id: judged.observation for judged in device.store.observations("roof")}
    came = device.came | device._uncommitted
    assert rows.keys() == came.keys()
    mine = [o for o in rows.values() if o.boot_id == device.acceptance._boot_id]
    assert all(abs(o.t - came[o.id]) <= 1.1 for o in mine)
    for (before, *_), (after, *_) in pairwise(device.issued):
        assert after - before >= GAP_S or any(before <= start <= after for start in device.starts)
