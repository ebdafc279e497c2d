"""Whatever bytes come, a decoder counts them and a reader says what is wrong: nothing else escapes."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fuzz.seeds import SEEDS, seeds_of
from tests.fuzz.targets import targets

TARGETS = targets()


@pytest.mark.parametrize("name", sorted(TARGETS))
@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_nothing_escapes(name: str, data: st.DataObject) -> None:
    seed = data.draw(st.sampled_from(seeds_of(name)))
    at = data.draw(st.integers(0, len(seed)))
    gone = data.draw(st.integers(0, 8))
    TARGETS[name](seed[:at] + data.draw(st.binary(max_size=48)) + seed[at + gone :])


@pytest.mark.parametrize("name", sorted(TARGETS))
def test_every_target_has_an_input_it_knows(name: str) -> None:
    for seed in seeds_of(name):
        TARGETS[name](seed)
    assert len(seeds_of(name)) > 1


def test_no_seed_is_of_nothing() -> None:
    assert set(SEEDS) <= set(TARGETS)
