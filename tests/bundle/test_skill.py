"""Pooling a skill table keeps what the scores mean."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.bundle.manifest import SkillRow
from edge_agent.bundle.skill import pool


def row(n: int, rmse: float, network: str = "a", **changes: object) -> SkillRow:
    fixed = {"setting": "s", "variable": "temperature", "lead_s": 900, "rmse_fp32": None, "mae": 1.0, "crps": 1.0}
    return SkillRow(**(fixed | {"coverage80": 0.8, "n": n, "rmse": rmse, "network": network} | changes))  # type: ignore[arg-type]


def test_root_mean_squares_pool_as_squares() -> None:
    """1 over 100 pairs and 2 over 300: sqrt((100 + 1200) / 400) = 1.803."""
    [pooled] = pool([row(100, 1.0), row(300, 2.0, "b")])
    assert pooled.n == 400
    assert pooled.rmse == pytest.approx(1.803, abs=5e-4)


def test_a_ratio_is_formed_where_the_baseline_exists() -> None:
    [pooled] = pool([row(100, 1.0, ridge=2.0), row(100, 50.0, "b")])
    assert pooled.ratio == {"ridge": pytest.approx(0.5)}
    assert pooled.baseline == {"ridge": pytest.approx(2.0)}
    assert not pooled.complete
    [pooled] = pool([row(100, 1.0, ridge=2.0), row(100, 50.0, "b", ridge=3.0)])
    assert pooled.complete == {"ridge"}


def test_empty_cells_count_nothing() -> None:
    assert pool([row(0, math.inf)]) == []


@given(st.lists(st.tuples(st.integers(1, 1000), st.floats(0.01, 100)), min_size=1, max_size=8))
def test_the_pool_lies_between_its_cells(cells: list[tuple[int, float]]) -> None:
    [pooled] = pool([row(n, rmse, str(i)) for i, (n, rmse) in enumerate(cells)])
    low, high = min(r for _, r in cells), max(r for _, r in cells)
    assert low * (1 - 1e-9) <= pooled.rmse <= high * (1 + 1e-9)


def test_settings_keep_their_order_and_leads_ascend() -> None:
    rows = [row(1, 1.0, lead_s=1800), row(1, 1.0, setting="t"), row(1, 1.0, lead_s=900), row(1, 1.0, variable="rain")]
    keys = [(p.setting, p.variable, p.lead_s) for p in pool(rows)]
    assert keys == [
        ("s", "temperature", 900),
        ("s", "temperature", 1800),
        ("s", "rain", 900),
        ("t", "temperature", 900),
    ]
