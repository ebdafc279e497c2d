"""The `model-factory` command. Commands hold no logic; heavy rooms are imported late."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from edge_agent.console import FOLDER, PATH, Group
from model_factory.sources.stations import KINDS


def _split(command: Callable[..., Any]) -> Callable[..., Any]:
    """Options that say which rows are for what."""
    fraction = click.option(
        "--test-fraction", default=0.2, show_default=True, help="Final part of a series, kept out; 0: nothing."
    )
    hold_out = click.option(
        "--hold-out", multiple=True, metavar="NETWORK", help="Leave a whole network out of training."
    )
    return hold_out(fraction(command))


class _Factory(Group):
    """Says which extra is missing where only the agent is installed."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except ModuleNotFoundError as error:
            if error.name is None or error.name.split(".")[0] in ("edge_agent", "model_factory"):
                raise
            click.echo(f'{self.name}: needs {error.name}: pip install "stationcast[factory]"', err=True)
            ctx.exit(1)


@click.group(name="model-factory", cls=_Factory, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="stationcast", prog_name="model-factory")
def main() -> None:
    """From station data to a bundle a station can run.

    \b
    model-factory import zurich-lake RAW/ DATA/   raw folders -> the vocabulary's CSV form
    model-factory train station DATA/ --out RUN/  -> FP32 weights
    model-factory quantize RUN/                   -> INT8
    model-factory evaluate RUN/ DATA/             -> scores beside persistence, ridge and LightGBM
    model-factory bundle RUN/ --out FILE.bundle   -> golden samples, card, one file
    model-factory promote RUN/ --registry DIR/    -> champion, if it is not worse
    """


@main.command("import")
@click.argument("kind", type=click.Choice(KINDS))
@click.argument("raw", type=FOLDER)
@click.argument("data", type=PATH)
def import_(kind: str, raw: Path, data: Path) -> None:
    """Turn a raw folder RAW into DATA/<network>/: one <station>.csv each, stations.csv and network.json.

    KIND `all` takes every known folder below RAW.
    """
    from model_factory.sources.stations import import_network

    import_network(kind, raw, data)


@main.group()
def train() -> None:
    """Train a model."""


@train.command()
@click.argument("data", type=FOLDER)
@click.option("--out", type=PATH, required=True, help="The run's folder: checkpoints, log, weights.")
@_split
@click.option("--seed", default=0, show_default=True)
@click.option(
    "--steps",
    default=None,
    type=click.IntRange(min=1),
    help="One run of so many optimizer steps; default: the recipe's two.",
)
@click.option(
    "--samples",
    default=None,
    type=click.IntRange(min=500),
    help="Samples to frame before the first step; default: the recipe's.",
)
@click.option(
    "--size",
    type=click.Choice(["weather_station", "gateway"]),
    default="weather_station",
    show_default=True,
    help="How large a network: 4 members, or 16 (better trained on a GPU).",
)
@click.option("--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto", show_default=True)
@click.option("--resume", is_flag=True, help="Go on from the newest checkpoint in --out.")
@click.option("--bank", type=PATH, metavar="FILE", help="Framed samples, shared between runs; made if not there.")
@click.option("--export/--no-export", default=True, show_default=True, help="Write model_fp32.onnx at the end.")
def station(data: Path, **options: Any) -> None:
    """Train the station model on every network below DATA (folders as `import` writes them).

    The recipe of the bundle that ships: half of the network is trained briefly, which is better at stations nobody
    trained on, and half for longer, which is better at known ones; one set of samples serves both. The same seed draws
    the same samples, noise and batches on a CPU and on a GPU.

    \b
    --test-fraction 0.2   to prove a recipe: `evaluate` scores it on the part that is kept out
    --test-fraction 0     to ship: learns from whole records; `bundle RUN --proof PROOF` shows the skill of the proof
    """
    from model_factory.training.station import train_command

    train_command(data, **options)


@main.command()
@click.argument("run", type=FOLDER)
@click.argument("data", type=FOLDER)
def export(run: Path, data: Path) -> None:
    """Write RUN/model_fp32.onnx from its weights, where training left that out (as on a machine without onnxscript)."""
    from model_factory.training.station import export_command

    export_command(run, data)


@main.command()
@click.argument("run", type=FOLDER)
@click.option("--calibration", default=256, show_default=True, help="Calibration samples, from the training part.")
@click.option("--bits", type=click.Choice(["8", "4"]), default="8", show_default=True, help="4: weights alone.")
def quantize(run: Path, bits: str, **options: Any) -> None:
    """Static INT8 (QDQ, per channel) of RUN's model, calibrated on samples that training kept in RUN; or its weights in
    INT4 (blocks of 128), which needs no calibration and suits the `mobile` budget."""
    from model_factory.quantize.int8 import quantize_command

    quantize_command(run, bits=int(bits), **options)


@main.command()
@click.argument("run", type=FOLDER)
@click.argument("data", type=FOLDER)
@click.option("--network", multiple=True, help="Only these networks.")
@click.option("--setting", default="final-period", show_default=True, help="What to call this evaluation in the card.")
@click.option("--baselines/--no-baselines", default=True, show_default=True, help="Ridge and LightGBM per station.")
@click.option("--every", default="1h", show_default=True, help="Spacing of the test origins.")
@click.option("--plot", type=PATH, metavar="PNG", help="Skill by lead.")
@click.option(
    "--precision", type=click.Choice(["int8", "int4", "fp32"]), help="Which model leads; default: INT8, if it is there."
)
@click.option("--pairs", is_flag=True, help="Keep every pair in RUN/pairs/: `promote` compares them.")
@click.option(
    "--neighbours", default=0, metavar="N", help="Show the model the N nearest stations of each network, too."
)
@click.option("--adapt", is_flag=True, help="As a station gets it: adapted by its own verdicts over the whole record.")
@click.option(
    "--adapt-days",
    type=click.IntRange(1, 3650),
    metavar="N",
    help="The same, but learning begins N days before the part that is scored.",
)
@click.option("--html", type=PATH, metavar="FILE", help="One page with tables and plots; keeps the pairs, too.")
@click.option(
    "--forecasts",
    type=FOLDER,
    metavar="DIR",
    help="Score DIR/<network>/<station>.csv, written by `edge-agent hindcast --out`, in place of RUN's model.",
)
@click.option("--all-stations", is_flag=True, help="Beside the pairs: LightGBM trained on all stations of DATA.")
@click.option("--zero-shot", is_flag=True, help="Beside the pairs: a foundation model (the package fracast).")
def evaluate(run: Path, data: Path, **options: Any) -> None:
    """RMSE, MAE, CRPS and coverage on the final part of DATA, beside persistence, diurnal-anomaly persistence, ridge
    and LightGBM on the same pairs. Adds to RUN/skill.json (INT4: skill_int4.json). With the pairs kept, prints what is
    aimed at beside what was reached."""
    from model_factory.verification.evaluate import evaluate_command

    evaluate_command(run, data, **options)


@main.command()
@click.argument("run", type=FOLDER)
@click.option("--out", type=PATH, required=True, metavar="FILE.bundle")
@click.option("--name", default="station-default", show_default=True)
@click.option("--release", "counter", default=1, show_default=True, help="Counter; grows with every release.")
@click.option(
    "--precision", type=click.Choice(["int8", "int4", "fp32"]), help="Default: int8; fp32 for the LiteRT runtime."
)
@click.option(
    "--runtime", type=click.Choice(["onnxruntime", "ai-edge-litert"]), default="onnxruntime", show_default=True
)
@click.option(
    "--proof", type=FOLDER, metavar="RUN", help="The evaluated run of the same recipe, where RUN saw whole records."
)
@click.option(
    "--device", multiple=True, help="What it is meant for, and held against; default: all that its precision is for."
)
def bundle(run: Path, **options: Any) -> None:
    """Put RUN's model, golden samples, card and provenance into one bundle file, and read it back."""
    from model_factory.bundles.build import bundle_command

    bundle_command(run, **options)


@main.command()
@click.argument("candidate", type=FOLDER)
@click.option("--champion", type=FOLDER, metavar="RUN", help="Compare with this run; default: the registry's champion.")
@click.option("--registry", type=PATH, metavar="DIR", help="Build the bundle into this folder and move its champion.")
@click.option("--name", default="station-default", show_default=True, help="Of the bundle.")
@click.option(
    "--ship", type=FOLDER, metavar="RUN", help="Put this run's weights into the bundle: same recipe, whole records."
)
def promote(candidate: Path, **options: Any) -> None:
    """Make the run CANDIDATE champion, if it is not worse.

    Worse: than the champion, persistence, anomaly persistence or the station's own ridge, in any variable at any lead,
    by a paired test on pairs that no training saw; or with 80 % intervals that hold less well. Compares the pairs that
    `evaluate --pairs` left in both runs. The verdict goes to CANDIDATE/verdict.json, and from there into the card.
    Exits with 1 where it is refused.
    """
    import sys

    from model_factory.bundles.registry import promote_command

    sys.exit(0 if promote_command(candidate, **options) else 1)


if __name__ == "__main__":
    main()
