"""The station model's laws: what holds for any weights, at any station."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from edge_agent.bundle.station_task import OUTPUT_VARIABLES  # noqa: E402
from edge_agent.forecast import LEADS_S, persistence  # noqa: E402
from edge_agent.grid import GRID_VARIABLES, HISTORY_STEPS  # noqa: E402
from model_factory.models.front import (  # noqa: E402
    CHANNELS,
    LEADS,
    Front,
    blowing_to,
    ridge,
    wind_from,
)
from model_factory.models.station import Size, StationModel, brightness  # noqa: E402
from model_factory.models.sunlight import clear_sky, sine_of_sun, sunlight  # noqa: E402

TEMPERATURE, HUMIDITY, PRESSURE, SPEED, GUST, DIRECTION, RAIN, SUN = range(8)


@pytest.fixture(scope="module")
def model() -> StationModel:
    """Random weights everywhere, so that nothing is zero by chance."""
    torch.manual_seed(3)
    model = StationModel(Size(members=2, width=16, blocks=1)).eval()
    for parameter in model.core.parameters():
        torch.nn.init.normal_(parameter, std=0.05)
    return model


def weather(stations: int = 3, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Invented stations with a day's cycle and noise: history, site, origin."""
    draw = np.random.default_rng(seed)
    t = np.arange(HISTORY_STEPS) / 96 * 2 * np.pi
    noise = draw.normal(size=(stations, HISTORY_STEPS, len(GRID_VARIABLES)))
    history = np.stack(
        [
            12 + 6 * np.sin(t) + noise[..., 0],
            np.clip(70 - 15 * np.sin(t) + 3 * noise[..., 1], 0, 100),
            1005 + np.sin(2 * t) + 0.3 * noise[..., 2],
            np.abs(3 + noise[..., 3]),
            np.abs(5 + noise[..., 4]),
            (200 + 30 * noise[..., 5]) % 360,
            np.maximum(noise[..., 6] - 2, 0),
            np.maximum(800 * np.sin(t) + noise[..., 7], 0),
        ],
        -1,
    )
    site = np.tile([47.0, 8.0, 400.0, np.nan], (stations, 1))
    origin = 1_600_000_200 + 86_400 * np.arange(stations)
    return torch.tensor(history, dtype=torch.float32), torch.tensor(site, dtype=torch.float32), torch.tensor(origin)


def test_a_rows_result_does_not_depend_on_its_batch_mates(model: StationModel) -> None:
    history, site, origin = weather(4)
    with torch.no_grad():
        together = model(history, site, origin)
        for row in range(4):
            alone = model(history[row : row + 1], site[row : row + 1], origin[row : row + 1])
            for one, many in zip(alone, together, strict=True):
                torch.testing.assert_close(one[0], many[row], rtol=1e-4, atol=1e-3)


def test_quantiles_rise_and_stay_within_what_is_physical(model: StationModel) -> None:
    history, site, origin = weather()
    with torch.no_grad():
        mean, quantiles, _, probability = model(history, site, origin)
    assert (quantiles.diff(dim=-1) >= 0).all()
    for values in (mean[..., HUMIDITY], quantiles[:, :, HUMIDITY]):
        assert ((values >= 0) & (values <= 100)).all()
    for v in (SPEED, GUST, RAIN, SUN):
        assert (quantiles[:, :, v] >= 0).all() and (mean[..., v] >= 0).all()
    assert ((mean[..., DIRECTION] >= 0) & (mean[..., DIRECTION] < 360)).all()
    assert ((probability >= 0) & (probability <= 1)).all()


@pytest.mark.parametrize("missing", range(SUN + 1))
def test_what_is_not_measured_is_not_forecast(model: StationModel, missing: int) -> None:
    history, site, origin = weather()
    history[..., missing] = torch.nan
    with torch.no_grad():
        mean, quantiles, _, probability = model(history, site, origin)
    gone = {missing}
    for v in range(len(OUTPUT_VARIABLES)):
        assert torch.isnan(mean[..., v]).all() == (v in gone)
        assert torch.isnan(quantiles[:, :, v]).all() == (v in gone)
    assert torch.isnan(probability).all() == (missing == RAIN)


def test_pressure_is_forecast_alike_at_any_height(model: StationModel) -> None:
    """200 hPa less everywhere in the history are 200 hPa less in the forecast, and nothing else changes."""
    history, site, origin = weather()
    lower = history.clone()
    lower[..., PRESSURE] -= 200.0
    with torch.no_grad():
        here, there = model(history, site, origin)[0], model(lower, site, origin)[0]
    torch.testing.assert_close(there[..., PRESSURE], here[..., PRESSURE] - 200.0, rtol=0, atol=0.02)
    torch.testing.assert_close(there[..., TEMPERATURE], here[..., TEMPERATURE], rtol=0, atol=0.02)


@pytest.mark.parametrize("days", [30, 12, 3])
def test_without_its_own_regression_the_base_is_the_edges_anomaly_persistence(days: int) -> None:
    history, site, origin = weather()
    history[:, : HISTORY_STEPS - days * 96] = torch.nan
    front = Front()
    front.doubt.fill_(1e12)
    with torch.no_grad():
        base = front(history, site, origin).base.numpy()
    for v, name in enumerate(CHANNELS[:3]):
        expected = persistence.base(history[..., v].numpy(), name, LEADS_S)
        np.testing.assert_allclose(base[..., v], expected, atol=2e-2)


def test_the_own_regression_finds_what_rules_a_station() -> None:
    """A departure that decays by the hour (first-order autoregression): the best forecast is what is left of it."""
    draw = np.random.default_rng(5)
    kept, stations = 0.9, 40
    departure = np.zeros((stations, HISTORY_STEPS))
    for step in range(1, HISTORY_STEPS):
        departure[:, step] = kept * departure[:, step - 1] + draw.normal(size=stations)
    history, site, origin = weather(stations)
    history[..., PRESSURE] = torch.tensor(1000.0 + departure, dtype=torch.float32)
    with torch.no_grad():
        base = Front()(history, site, origin).base[..., PRESSURE].numpy() - 1000.0
    now = departure[:, -1:]
    best = now * kept ** np.arange(1, LEADS + 1)
    persisted = np.sqrt(np.mean((now - best) ** 2, axis=0))
    assert (np.sqrt(np.mean((base - best) ** 2, axis=0))[3:] < 0.5 * persisted[3:]).all()


def test_the_regression_is_solved() -> None:
    draw = torch.Generator().manual_seed(2)
    x = torch.randn(3, 7, 6, 400, generator=draw)
    gram = x @ x.transpose(2, 3) / 400
    cross = torch.randn(3, 7, 6, 6, generator=draw)
    doubt = torch.tensor([0.01, 0.02, 0.05, 0.1, 0.5, 1.0])[None, None, :, None].expand(3, 7, 6, 1)
    exact = torch.linalg.solve(gram[:, :, None] + doubt[..., None] * torch.eye(6), cross[..., None])[..., 0]
    torch.testing.assert_close(ridge(gram, cross, doubt), exact, rtol=1e-3, atol=1e-4)


def test_features_are_finite_even_when_nothing_was_measured(model: StationModel) -> None:
    history, site, origin = weather()
    history[0] = torch.nan
    with torch.no_grad():
        framed = model.front(history, site, origin)
    assert torch.isfinite(framed.features).all() and framed.features.abs().max() <= 8
    assert torch.isnan(framed.base[0]).all() and torch.isfinite(framed.base[1:]).all()


def test_the_sun_stands_where_it_does() -> None:
    """Zurich, 2019-06-21 11:30 UTC: near noon, 66.1 degrees; at the equinox the noon sun of the equator is overhead."""
    hours = torch.zeros(1)
    origin = torch.tensor([1_561_116_600, 1_553_083_650])
    sine, angle = sine_of_sun(origin, torch.tensor([47.36, 0.0]), torch.tensor([8.55, 0.0]), hours)
    assert torch.rad2deg(torch.asin(sine[0, 0])).item() == pytest.approx(66.1, abs=0.2)
    assert abs(torch.rad2deg(angle[0]).item()) < 2
    assert torch.rad2deg(torch.asin(sine[1, 0])).item() > 88


def test_a_clear_sky_is_as_bright_as_the_book_says() -> None:
    sky = clear_sky(torch.tensor([1.0, 0.5, 0.0, -0.5]))
    torch.testing.assert_close(sky, torch.tensor([1037.2, 489.9, 0.0, 0.0]), atol=0.2, rtol=0)


def days_of_sun(stations: int = 1) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Six tenths of the clear sky's light at 47 N, 8 E in June, to the steps before 10:00 UTC."""
    history, site, origin = weather(stations)
    origin = torch.full((stations,), 1_592_042_400)
    hours = torch.arange(-HISTORY_STEPS + 1, 1) / 4.0
    history[..., SUN] = 0.6 * clear_sky(sine_of_sun(origin, site[:, 0], site[:, 1], hours)[0])
    return history, site, origin


def test_the_mean_day_of_the_sun_is_that_of_todays_season_and_of_a_new_station_that_of_the_book() -> None:
    history, site, origin = days_of_sun()
    hours = torch.arange(1, LEADS + 1) / 4.0
    right = 0.6 * clear_sky(sine_of_sun(origin, site[:, 0], site[:, 1], hours)[0])
    kernel = Front().kernel
    whole = sunlight(history[..., SUN], site, origin, kernel)
    torch.testing.assert_close(whole.day[:, :LEADS], right, atol=6.0, rtol=0.03)
    assert whole.bright(4).item() == pytest.approx(1.0, abs=0.03)
    new = sunlight(
        torch.where(torch.arange(HISTORY_STEPS) < HISTORY_STEPS - 8, torch.nan, history[..., SUN]), site, origin, kernel
    )
    torch.testing.assert_close(new.day[:, :LEADS], right, atol=6.0, rtol=0.03)
    nowhere = sunlight(history[..., SUN], torch.full((1, 4), torch.nan), origin, kernel)
    torch.testing.assert_close(nowhere.day[:, :LEADS], right, atol=12.0, rtol=0.06)
    blind = sunlight(torch.full((1, HISTORY_STEPS), torch.nan), torch.full((1, 4), torch.nan), origin, kernel)
    assert torch.isnan(blind.day).all() and torch.isnan(blind.bright(4)).all()


def test_the_sun_does_not_shine_at_night(model: StationModel) -> None:
    history, site, origin = days_of_sun(2)
    origin = origin + 9 * 3600  # 19:00 UTC
    hours = torch.arange(-HISTORY_STEPS + 1, 1) / 4.0
    history[..., SUN] = 0.6 * clear_sky(sine_of_sun(origin, site[:, 0], site[:, 1], hours)[0])
    with torch.no_grad():
        mean, quantiles, _, _ = model(history, site, origin)
    assert mean[:, 8:, SUN].abs().max() < 1.0 and quantiles[:, 8:, SUN].abs().max() < 1.0


def test_a_cloud_now_darkens_the_next_hours_and_is_forgotten() -> None:
    history, site, origin = days_of_sun()
    dull = history.clone()
    dull[:, -4:, SUN] *= 0.2
    bright, dark = (Front()(x, site, origin) for x in (history, dull))
    assert dark.bright.item() < 0.5 * bright.bright.item()
    ahead = [brightness(one)[0] for one in (bright, dark)]
    assert (ahead[1] < ahead[0]).all() and ahead[1][0] < 0.6 < 0.9 < ahead[1][-1] + 0.15


def test_wind_turns_into_a_vector_and_back() -> None:
    direction = torch.arange(0.0, 360.0, 15.0)
    east, north = blowing_to(direction, torch.full_like(direction, 4.0))
    assert north[0] == pytest.approx(-1.0) and abs(east[0]) < 1e-5  # from the north blows to the south
    torch.testing.assert_close(wind_from(east, north), direction, atol=1e-3, rtol=0)


def test_a_calm_blows_nowhere_whatever_the_vane_says() -> None:
    east, north = blowing_to(torch.tensor([90.0, torch.nan, torch.nan]), torch.tensor([0.0, 0.0, 1.0]))
    assert east[:2].tolist() == north[:2].tolist() == [0.0, 0.0] and torch.isnan(east[2])


def test_the_direction_is_that_of_the_vector(model: StationModel) -> None:
    history, site, origin = weather()
    with torch.no_grad():
        mean, _, wind, _ = model(history, site, origin)
    blows = wind.square().sum(-1) > 1e-6
    apart = torch.remainder(wind_from(wind[..., 0], wind[..., 1]) - mean[..., DIRECTION] + 180.0, 360.0) - 180.0
    assert blows.any() and apart[blows].abs().max() < 0.1


def test_a_gust_is_never_below_the_mean_wind(model: StationModel) -> None:
    history, site, origin = weather()
    history[0, :, SPEED] += 6.0
    history[1, :, SPEED] = torch.nan
    with torch.no_grad():
        mean, quantiles, _, _ = model(history, site, origin)
    known = [0, 2]
    assert (mean[known][..., GUST] >= mean[known][..., SPEED]).all()
    assert (quantiles[known][:, :, GUST] >= quantiles[known][:, :, SPEED]).all()
    assert torch.isfinite(mean[1, :, GUST]).all() and torch.isnan(mean[1, :, SPEED]).all()


def test_every_lead_has_a_forecast(model: StationModel) -> None:
    history, site, origin = weather()
    with torch.no_grad():
        mean, quantiles, wind, probability = model(history, site, origin)
    assert mean.shape == (3, LEADS, 8) and quantiles.shape == (3, LEADS, 8, 11)
    assert wind.shape == (3, LEADS, 2) and probability.shape == (3, LEADS, 1)
