"""Training: what a run promises, on a few invented days. Slow training is not for tests; these take seconds."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

torch = pytest.importorskip("torch")

from edge_agent.bundle.devices import DEVICES  # noqa: E402
from edge_agent.clock import format_time  # noqa: E402
from edge_agent.errors import ConfigError, DataError  # noqa: E402
from edge_agent.grid import GRID_VARIABLES, HISTORY_STEPS  # noqa: E402
from model_factory import cli  # noqa: E402
from model_factory.models.station import SIZES, Size, StationModel, departure  # noqa: E402
from model_factory.training import station as training  # noqa: E402
from model_factory.training.augment import augment  # noqa: E402
from model_factory.training.data import Corpus, Drawn, load_series, station_files  # noqa: E402
from model_factory.training.loss import pinball  # noqa: E402
from model_factory.training.mix import mix  # noqa: E402

CPU = torch.device("cpu")
SETTINGS = training.Settings(steps=4, batch=32, samples=1000, size=Size(members=2, width=16, blocks=1))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network of three stations every 10 minutes, the third out of the others' reach, and one hourly station; 12
    days."""
    folder = tmp_path_factory.mktemp("data")
    for network, cadence, count in (("fine", 600, 3), ("hourly", 3600, 1)):
        (folder / network).mkdir()
        places = [f"{network}-{n},{47.0 + n * n / 5},8.0,400\n" for n in range(count)]
        (folder / network / "stations.csv").write_text("station,latitude,longitude,elevation\n" + "".join(places))
        (folder / network / "network.json").write_text(json.dumps({"name": network, "licence": "CC0-1.0"}))
        times = np.arange(1_600_000_200 // 3600 * 3600, 1_600_000_200 + 12 * 86_400, cadence)
        wave = np.sin(times / 86_400 * 2 * np.pi)
        rows = [
            f"{format_time(t)},{10 + 5 * w:.2f},{70 - 10 * w:.1f},{1000 + w:.2f},{3 + w:.2f},{int(180 + 90 * w)}"
            for t, w in zip(times, wave, strict=True)
        ]
        header = "time,temperature,humidity,pressure,wind_speed,wind_direction"
        for n in range(count):
            (folder / network / f"{network}-{n}.csv").write_text("\n".join([header, *rows]) + "\n")
    return folder


@pytest.fixture(scope="module")
def corpus(data: Path) -> Corpus:
    return training.read_corpus(data, SETTINGS, CPU)


def draws(corpus: Corpus, count: int = 200) -> Drawn:
    return corpus.draw(count, torch.Generator().manual_seed(1))


def test_nothing_of_the_kept_out_part_is_drawn(data: Path, corpus: Corpus) -> None:
    """Not in a history, and not as a target either: all of it lies before each station's split."""
    drawn = draws(corpus, 500)
    for index, name in enumerate(corpus.networks):
        file, *_ = [f for f in station_files(data) if f.network == name]
        series = next(iter(load_series(file, SETTINGS.test_fraction)))
        split = series.steps[series.end]
        latest_target = drawn.origin[drawn.network == index].max() + 6 * 3600
        assert latest_target < split


def test_an_hourly_station_is_forecast_from_its_readings(corpus: Corpus) -> None:
    drawn = draws(corpus, 500)
    hourly = drawn.network == corpus.networks.index("hourly")
    assert (drawn.origin[hourly] % 3600 == 0).all()
    reported = ~torch.isnan(drawn.target[hourly][..., 0]).all(0)
    assert torch.equal(torch.nonzero(reported).flatten() % 4, torch.full((6,), 3))  # only whole hours ahead
    assert drawn.history.shape[1:] == (HISTORY_STEPS, len(GRID_VARIABLES))


def test_rows_of_a_group_are_neighbours_at_one_time(corpus: Corpus) -> None:
    drawn = draws(corpus, 500)
    sizes = torch.bincount(drawn.group)
    assert set(sizes.tolist()) == {0, 1, 2}  # alone, or the two that are within reach
    for group in torch.nonzero(sizes == 2).flatten():
        one, other = torch.nonzero(drawn.group == group).flatten()
        assert drawn.origin[one] == drawn.origin[other] and drawn.network[one] == drawn.network[other]
        assert sorted(drawn.site[[one, other], 0].tolist()) == pytest.approx([47.0, 47.2])


def test_networks_keep_their_shares_whoever_has_neighbours(corpus: Corpus) -> None:
    network = draws(corpus, 5000).network
    assert (network == corpus.networks.index("fine")).float().mean() == pytest.approx(0.5, abs=0.05)


def test_breaking_a_history_never_adds_to_it(corpus: Corpus) -> None:
    """What was missing stays missing, and only coarser displays change a target."""
    drawn = draws(corpus)
    history, target = drawn.history, drawn.target
    broken, _, coarse = augment(history, drawn.site, target, torch.Generator().manual_seed(2))
    fine = ~torch.isnan(broken)
    held = torch.roll(~torch.isnan(history), 4, 1) | torch.roll(~torch.isnan(history), 3, 1)
    for back in (0, 1, 2):
        held |= torch.roll(~torch.isnan(history), back, 1)
    assert (fine & ~held).sum() == 0
    assert torch.equal(torch.isnan(target), torch.isnan(coarse))
    assert (target - coarse)[..., 0].abs().nan_to_num().max() <= 0.25 + 1e-4  # half a step of 0.5 degC


def test_the_same_seed_gives_the_same_samples(corpus: Corpus) -> None:
    one, two = (training.fill_bank(corpus, SETTINGS, CPU) for _ in range(2))
    for a, b in zip(one.columns(), two.columns(), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0, equal_nan=True)


def test_a_network_left_out_is_not_in_the_samples(corpus: Corpus) -> None:
    bank = training.fill_bank(corpus, SETTINGS, CPU)
    rest = bank.without(("hourly",))
    assert 0 < len(rest.features) < len(bank.features)
    assert (rest.network == bank.networks.index("fine")).all()


def test_an_interrupted_run_ends_where_an_uninterrupted_one_does(corpus: Corpus, tmp_path: Path) -> None:
    bank = training.fill_bank(corpus, SETTINGS, CPU)
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    for folder in (whole, parts):
        folder.mkdir()
    expected = training.train(bank, SETTINGS, whole, CPU)
    state = training.begin(bank, SETTINGS, CPU)
    prior = training.usual_scales(state.model)
    for _ in range(2):
        training.one_step(state, bank, SETTINGS, prior)
    training.save_checkpoint(state, SETTINGS, parts)
    torch.manual_seed(99)  # whatever else the process drew meanwhile
    resumed = training.train(bank, SETTINGS, parts, CPU)
    assert resumed.step == expected.step == SETTINGS.steps
    for a, b in zip(resumed.averaged.parameters(), expected.averaged.parameters(), strict=True):
        torch.testing.assert_close(a, b)


def test_a_checkpoint_of_other_settings_is_refused(corpus: Corpus, tmp_path: Path) -> None:
    bank = training.fill_bank(corpus, SETTINGS, CPU)
    training.save_checkpoint(training.begin(bank, SETTINGS, CPU), SETTINGS, tmp_path)
    other = training.Settings(steps=4, batch=64, samples=1000, size=SETTINGS.size)
    with pytest.raises(ConfigError, match="batch"):
        training.train(bank, other, tmp_path, CPU)


def runs_of_different_length(corpus: Corpus, data: Path, folder: Path) -> tuple[Path, Path]:
    """A run of 2 steps and one of 6 on the same samples."""
    bank = training.fill_bank(corpus, SETTINGS, CPU)
    for steps in (2, 6):
        out, settings = folder / str(steps), replace(SETTINGS, steps=steps)
        out.mkdir()
        training.write_run(training.train(bank, settings, out, CPU).averaged, settings, data, out, CPU)
    return folder / "2", folder / "6"


def test_a_mix_forecasts_the_average_of_the_members_it_has_from_each_run(
    corpus: Corpus, data: Path, tmp_path: Path
) -> None:
    brief, long = runs_of_different_length(corpus, data, tmp_path)
    mix([brief, long], tmp_path)
    ours, one, other = (training.load_model(run).core for run in (tmp_path, brief, long))
    x = torch.randn(5, len(one.center))
    linear = (one.skip(x) + other.skip(x)) / 2
    members = (one.members[0](x) + other.members[1](x)) / 2
    expected = departure(torch.cat((members[:, : linear.shape[1]] + linear, members[:, linear.shape[1] :]), 1))
    torch.testing.assert_close(ours(x * ours.width + ours.center).mean, expected.mean, rtol=1e-3, atol=1e-4)
    told = json.loads((tmp_path / "config.json").read_text())["mixed"]
    assert [one["settings"]["steps"] for one in told.values()] == [2, 6]


def test_a_mix_with_itself_is_the_run(corpus: Corpus, data: Path, tmp_path: Path) -> None:
    run, _ = runs_of_different_length(corpus, data, tmp_path)
    mix([run, run], tmp_path)
    held, mixed = (torch.load(path / "weights.pt", weights_only=True) for path in (run, tmp_path))
    assert all(torch.equal(held[name], mixed[name]) for name in held)


def test_both_sizes_are_one_definition_and_keep_within_the_boards() -> None:
    """An INT8 weight is a byte; a quarter more is what the rest of the graph takes at most."""
    [option] = [one for one in cli.station.params if one.name == "size"]
    assert tuple(option.type.choices) == tuple(SIZES) == ("weather_station", "gateway")  # type: ignore[attr-defined]
    count = {name: sum(p.numel() for p in StationModel(size).parameters()) for name, size in SIZES.items()}
    assert 1.25 * count["weather_station"] < DEVICES["browser"].model_bytes
    assert 1.25 * count["gateway"] < DEVICES["raspberry_pi_4"].model_bytes


def trained(data: Path, out: Path, **changes: object) -> None:
    options: dict[str, object] = {
        "hold_out": (),
        "test_fraction": 0.2,
        "seed": 0,
        "steps": None,
        "samples": 1000,
        "device": "cpu",
        "resume": False,
        "export": False,
        "bank": None,
        "size": "weather_station",
    }
    training.train_command(data, out, **(options | changes))  # type: ignore[arg-type]


def test_the_recipe_is_two_runs_in_one_and_goes_on_where_it_was_left(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training, "LENGTHS", {"brief": 2, "long": 3})
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    trained(data, whole)
    told = json.loads((whole / "config.json").read_text())["mixed"]
    assert {name: one["settings"]["steps"] for name, one in told.items()} == {"brief": 2, "long": 3}
    trained(data, parts)
    for lost in ("weights.pt", "long/weights.pt", "long/checkpoint.pt"):
        (parts / lost).unlink()
    trained(data, parts, resume=True)
    one, other = (torch.load(run / "weights.pt", weights_only=True) for run in (whole, parts))
    assert all(torch.equal(one[name], other[name]) for name in one)
    with pytest.raises(ConfigError, match="--resume"):
        trained(data, whole, steps=2)
    with pytest.raises(ConfigError, match="without --steps"):
        trained(data, whole, steps=2, resume=True)
    with pytest.raises(ConfigError, match="other samples"):
        trained(data, whole, samples=1000, test_fraction=0.2, hold_out=(), resume=True, bank=spoiled(data, tmp_path))


def spoiled(data: Path, folder: Path) -> Path:
    """A bank of the right name whose samples are others."""
    bank = training.ready_bank(data, replace(SETTINGS, size=Size()), CPU, folder / "bank.pt")
    held = torch.load(folder / "bank.pt", weights_only=True)
    held["columns"][0] = bank.features + 1.0
    torch.save(held, folder / "bank.pt")
    return folder / "bank.pt"


def test_a_folder_without_networks_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="model-factory import"):
        station_files(tmp_path)


def test_pinball_is_least_at_the_quantile() -> None:
    """The mean pinball loss of a constant forecast is least where that constant is the sample's own quantile."""
    sample = torch.linspace(0, 1, 1001)
    grid = torch.linspace(0, 1, 101)
    losses = torch.stack([pinball((sample - c)[:, None].expand(-1, 11)).mean(0) for c in grid])
    best = grid[losses.argmin(0)]
    expected = torch.tensor([0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95])
    torch.testing.assert_close(best, expected, atol=0.011, rtol=0)


@pytest.mark.training
@pytest.mark.filterwarnings("ignore")
def test_the_exported_graph_forecasts_as_the_model_does(data: Path, tmp_path: Path) -> None:
    import onnxruntime

    bank = training.ready_bank(data, SETTINGS, CPU, tmp_path / "bank.pt")
    state = training.train(bank, SETTINGS, tmp_path, CPU)
    training.write_run(state.averaged, SETTINGS, data, tmp_path, CPU)
    training.export_command(tmp_path, data)
    with np.load(tmp_path / "calibration.npz") as held:
        inputs = {name: held[name][:50] for name in ("history", "site", "origin", "group")}
    assert len(set(inputs["group"].tolist())) < 50  # some see each other
    session = onnxruntime.InferenceSession(str(tmp_path / "model_fp32.onnx"))
    with torch.no_grad():
        expected = training.load_model(tmp_path)(*(torch.from_numpy(v) for v in inputs.values()))
    for got, want in zip(session.run(None, inputs), expected, strict=True):
        np.testing.assert_allclose(got, want.numpy(), atol=5e-3)


@pytest.mark.parametrize("config", [None, "{", "{}", "[]", '{"settings": {"hold_out": [], "size": {"width": "x"}}}'])
def test_an_export_without_a_config_names_the_file_and_the_remedy(
    data: Path, tmp_path: Path, config: str | None
) -> None:
    if config is not None:
        (tmp_path / "config.json").write_text(config)
    told = failed_export(tmp_path, data)
    assert f"{tmp_path}/config.json" in told and "model-factory train station" in told


@pytest.mark.parametrize("weights", [None, b"", b"not weights"])
def test_an_export_without_weights_names_the_file_and_the_remedy(
    data: Path, tmp_path: Path, weights: bytes | None
) -> None:
    training.write_run(StationModel(SETTINGS.size), SETTINGS, data, tmp_path, CPU)
    (tmp_path / "weights.pt").unlink()
    if weights is not None:
        (tmp_path / "weights.pt").write_bytes(weights)
    told = failed_export(tmp_path, data)
    assert f"{tmp_path}/weights.pt" in told and "model-factory train station" in told


def failed_export(run: Path, data: Path) -> str:
    """The one line that `model-factory export` ends with."""
    done = CliRunner().invoke(cli.main, ["export", str(run), str(data)])
    assert done.exit_code == 1 and isinstance(done.exception, SystemExit), done.exception
    assert done.output.count("\n") == 1
    return done.output
