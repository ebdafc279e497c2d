"""Attention over neighbours: who is heard, how much, and what it is good for."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from edge_agent.grid import GRID_VARIABLES, HISTORY_STEPS  # noqa: E402
from model_factory.models.front import LEADS, Front  # noqa: E402
from model_factory.models.neighbours import DOUBT, attention, heard  # noqa: E402
from model_factory.models.station import Size, StationModel  # noqa: E402

ORIGIN = 1_600_000_200
TEMPERATURE, PRESSURE = 0, 2


def sites(*places: tuple[float, float, float]) -> torch.Tensor:
    return torch.tensor([[*place, torch.nan] for place in places])


def at_once(count: int, group: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.full((count,), ORIGIN), torch.full((count,), group)


def weather_from_the_west(stations: int, seed: int = 0) -> torch.Tensor:
    """[S, T, 8]: one red noise in temperature and pressure that reaches each station an hour after the one before."""
    draw = np.random.default_rng(seed)
    series = np.zeros(HISTORY_STEPS + 4 * stations)
    for step in range(1, len(series)):
        series[step] = 0.95 * series[step - 1] + draw.normal()
    history = np.full((stations, HISTORY_STEPS, len(GRID_VARIABLES)), np.nan, np.float32)
    for n in range(stations):
        late = 4 * (stations - n)
        history[n, :, TEMPERATURE] = 10.0 + series[late : late + HISTORY_STEPS]
        history[n, :, PRESSURE] = 1000.0 + series[late : late + HISTORY_STEPS]
    return torch.tensor(history)


def test_only_rows_of_one_group_and_origin_are_heard_and_nobody_hears_itself() -> None:
    site = sites(*[(47.0 + n / 10, 8.0, 400.0) for n in range(4)])
    origin = torch.tensor([0, 0, 0, 900])
    weights = attention(site, origin, torch.tensor([1, 1, 2, 1])).sum(0)
    expected = torch.zeros(4, 4, dtype=torch.bool)
    expected[0, 1] = expected[1, 0] = True
    assert torch.equal(weights > 0, expected)


def test_the_nearer_and_the_more_level_is_heard_the_more() -> None:
    site = sites((47.0, 8.0, 400.0), (47.1, 8.0, 400.0), (47.3, 8.0, 400.0), (47.1, 8.0, 900.0))
    north = attention(site, *at_once(4))[0, 0]
    assert north[1] > north[2] > 0 and north[1] > north[3] > 0
    assert north[1] == pytest.approx(np.exp(-11.12 / 60.0), abs=1e-3)


def test_each_head_listens_to_its_sector() -> None:
    east = sites((0.0, 0.0, 0.0), (0.0, 0.1, 0.0))
    north_head, east_head, west_head = attention(east, *at_once(2))[:, 0, 1].tolist()
    assert north_head == pytest.approx(0.0, abs=1e-6) and west_head == 0.0 and east_head > 0.5


def test_a_station_without_a_place_hears_nobody_and_is_heard_by_nobody() -> None:
    site = sites((47.0, 8.0, 400.0), (torch.nan, torch.nan, torch.nan), (47.1, 8.0, torch.nan))
    weights = attention(site, *at_once(3)).sum(0)
    assert torch.isfinite(weights).all() and (weights[1] == 0).all() and (weights[:, 1] == 0).all()
    assert weights[0, 2] > 0  # an unknown height is no wall


def test_neighbours_across_the_date_line_are_near() -> None:
    assert attention(sites((0.0, 179.95, 0.0), (0.0, -179.95, 0.0)), *at_once(2))[1, 0, 1] > 0.5


def test_what_is_heard_is_a_mean_drawn_towards_nothing() -> None:
    weights = torch.tensor([[[0.0, 0.6, 0.6], [0.0, 0.0, 0.0], [0.0, 0.0, 0.0]]])
    values, known = torch.tensor([[[9.0]], [[1.0]], [[2.0]]]), torch.ones(3, 1, 1)
    mean, share = heard(weights, values, known)
    assert mean[0, 0, 0, 0] == pytest.approx(1.8 / (1.2 + DOUBT)) and share[0, 0, 0, 0] == pytest.approx(0.8)
    assert mean[0, 1:].abs().max() == share[0, 1:].abs().max() == 0.0
    silent, _ = heard(weights, values, torch.zeros(3, 1, 1))
    assert silent.abs().max() == 0.0


def test_a_rows_result_depends_on_its_group_and_not_on_its_batch_mates() -> None:
    torch.manual_seed(3)
    model = StationModel(Size(members=2, width=16, blocks=1)).eval()
    for parameter in model.core.parameters():
        torch.nn.init.normal_(parameter, std=0.05)
    history = weather_from_the_west(4)
    site = sites(*[(47.0, 8.0 + n / 5, 400.0) for n in range(4)])
    origin, group = torch.full((4,), ORIGIN), torch.tensor([5, 5, 9, 5])
    order = torch.tensor([3, 2, 0, 1])
    with torch.no_grad():
        together = model(history, site, origin, group)
        shuffled = model(history[order], site[order], origin[order], group[order])
        ours = torch.tensor([0, 1, 3])
        apart = model(history[ours], site[ours], origin[ours], group[ours] * 0)
        alone = model(history, site, origin)
    for all_rows, other_order, own_group, nobody in zip(together, shuffled, apart, alone, strict=True):
        torch.testing.assert_close(other_order, all_rows[order], rtol=1e-4, atol=1e-3, equal_nan=True)
        torch.testing.assert_close(own_group, all_rows[ours], rtol=1e-4, atol=1e-3, equal_nan=True)
        torch.testing.assert_close(nobody[2], all_rows[2], rtol=1e-4, atol=1e-3, equal_nan=True)
    assert (together[0][1] - alone[0][1]).abs().nan_to_num().max() > 0.01


@pytest.mark.parametrize("channel", [TEMPERATURE, PRESSURE])
def test_weather_that_comes_from_a_neighbour_is_forecast(channel: int) -> None:
    """Two stations that hear each other over 30 days: the eastern one gets an hour later what the western one has."""
    errors: dict[str, list[float]] = {"alone": [], "together": []}
    site = sites((47.0, 8.0, 400.0), (47.0, 8.2, 400.0))
    front = Front()
    for seed in range(12):
        whole = weather_from_the_west(2, seed)
        with torch.no_grad():
            for name, group in (("together", torch.zeros(2, dtype=torch.long)), ("alone", None)):
                base = front(whole, site, torch.full((2,), ORIGIN), group).base[1, :4, channel]
                errors[name] += (base - whole[0, -4:, channel]).tolist()
    alone, together = (np.sqrt(np.mean(np.square(errors[name]))) for name in ("alone", "together"))
    assert together < 0.6 * alone


def test_neighbours_without_readings_change_nothing() -> None:
    history = weather_from_the_west(3)
    history[1:] = torch.nan
    site = sites(*[(47.0, 8.0 + n / 5, 400.0) for n in range(3)])
    with torch.no_grad():
        one, many = (Front()(history, site, torch.full((3,), ORIGIN), g) for g in (None, torch.zeros(3).long()))
    torch.testing.assert_close(one.base[0], many.base[0], equal_nan=True)
    assert one.base.shape == (3, LEADS, 7)
