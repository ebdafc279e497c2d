"""An altimeter setting and the station pressure it was made from."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.sensors.pressure import station_pressure

N = 0.190284


def altimeter(p: float, h: float) -> float:
    """The forward formula, as published."""
    return (p - 0.3) * (1 + 1013.25**N * 0.0065 / 288 * h / (p - 0.3) ** N) ** (1 / N)


@given(st.floats(500, 1060), st.floats(-400, 5000))
def test_the_inverse_of_the_published_formula_gives_the_pressure_back(p, h):
    assert station_pressure(altimeter(p, h), h) == pytest.approx(p, abs=1e-6)


@pytest.mark.parametrize(("elevation_m", "hpa"), [(0, 1013.25), (1000, 898.75), (2000, 794.95), (3000, 701.09)])
def test_the_standard_atmosphere_is_met_within_half_a_hectopascal(elevation_m, hpa):
    assert station_pressure(1013.25, elevation_m) == pytest.approx(hpa, abs=0.5)


@pytest.mark.parametrize(("hpa", "elevation_m"), [(0.0, 0), (-5.0, 100), (1e-9, 9000)])
def test_what_has_no_solution_is_no_number(hpa, elevation_m):
    assert math.isnan(station_pressure(hpa, elevation_m))
