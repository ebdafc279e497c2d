"""The `edge-agent` command. Commands hold no logic: they parse, call a room, print. Rooms are imported late, so that
`--help` stays fast on a small device."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import click

from edge_agent import __version__
from edge_agent.cli_qc import qc
from edge_agent.cli_sensors import decode, replay, sniff
from edge_agent.console import FILE, NEIGHBOURS, PATH, Group

DEVICE_NAMES = (
    "raspberry_pi_4",
    "jetson_nano",
    "mobile",
    "browser",
)  # as `bundle.manifest.Device`, without its imports


def _site(command: Callable[..., Any], *, required: bool = True) -> Callable[..., Any]:
    """The three options that say where a station stands."""
    for flag, text in (
        ("--elevation", "Metres above sea level."),
        ("--longitude", "Degrees, east positive."),
        ("--latitude", "Degrees, north positive."),
    ):
        command = click.option(flag, type=float, required=required, help=text)(command)
    return command


@click.group(name="edge-agent", cls=Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="edge-agent")
def main() -> None:
    """Forecasts that live at your weather station.

    \b
    New here?   edge-agent demo                 watch it work on recorded data
    Your own?   edge-agent init                 write agent.toml
                edge-agent check                test it: sensors, broker, store, bundle
                edge-agent import HISTORY.csv   optional: a forecast on the first day
                edge-agent run                  go
    """


@main.command()
@click.option("--station-id", help="3-40 of a-z, 0-9 and -; it becomes part of every topic.")
@click.option("--latitude", type=float, help="Degrees, north positive.")
@click.option("--longitude", type=float, help="Degrees, east positive.")
@click.option("--elevation", type=float, help="Metres above sea level.")
@click.option("--timezone", metavar="NAME", help="IANA name such as Europe/Zurich.  [default: this system's, else UTC]")
@click.option("--serial", metavar="PORT", help="Port of the sensor; a /dev/serial/by-id path survives replugging.")
@click.option("--driver", help="How the sensor speaks; docs/drivers.md lists them.")
@click.option("--mqtt", metavar="HOST[:PORT]", help="The broker to publish to.")
@click.option("--out", type=PATH, default=Path("agent.toml"), show_default=True, help="The file to write.")
@click.option("--force", is_flag=True, help="Replace the file if it exists.")
def init(**answers: Any) -> None:
    """Write a commented agent.toml.

    Asks on a terminal for what no flag gave; in a script every needed flag must be there. Lists the serial ports it
    sees by their lasting names.
    """
    from edge_agent.setup.init import write_config

    write_config(**answers)


@main.command()
@click.option("--config", type=PATH, default=Path("agent.toml"), show_default=True, help="The agent's configuration.")
@click.option("--offline", is_flag=True, help="Only read the file; open nothing.")
def check(config: Path, offline: bool) -> None:
    """Test a configuration: first the file, then each sensor, the broker, the store and the bundle.

    One line each, with what to do about it. Exits with 1 if anything would keep the agent from working as configured.
    """
    from edge_agent.setup.check import run_checks

    sys.exit(run_checks(config, offline=offline))


@main.command()
@click.option("--config", type=PATH, default=Path("agent.toml"), show_default=True, help="The agent's configuration.")
@click.option("--verbose", "-v", is_flag=True, help="Log each observation and each forecast.")
@click.option("--normal", is_flag=True, help="Not in safe mode, however earlier runs ended.")
def run(config: Path, verbose: bool, normal: bool) -> None:
    """Run the agent until SIGTERM or Ctrl-C: read, check, store, forecast, publish.

    After five runs that were killed or crashed within an hour it starts in safe mode: forecasts are persistence, no
    bundle is loaded. An hour later it leaves that by itself.
    """
    from edge_agent.agent import run_agent

    run_agent(config, verbose=verbose, normal=normal)


@main.command()
@click.argument("history", type=FILE)
@_site
@NEIGHBOURS
@click.option("--origin", help="Forecast from this time (RFC 3339 with zone, or epoch seconds); default: last reading.")
@click.option("--bundle", type=FILE, help="A bundle file; default: the one shipped with the agent.")
@click.option("--format", "format_", type=click.Choice(["table", "json", "csv"]), default="table", show_default=True)
@click.option("--plot", type=PATH, metavar="PNG", help="Also draw the fan charts to a file (needs the plot extra).")
@click.option(
    "--adapt/--no-adapt", default=False, show_default=True, help="Learn from the file first, as `hindcast` does."
)
def nowcast(history: Path, latitude: float, longitude: float, elevation: float, **options: Any) -> None:
    """One forecast from a file: 15-minute steps to 6 hours.

    HISTORY.csv has a `time` column (RFC 3339 with zone, or epoch seconds; the end of each interval) and columns named
    by the vocabulary in its units: temperature degC, humidity %, dew_point degC, pressure hPa (station level),
    wind_speed and wind_gust m/s, wind_direction degree, rain mm since the previous row, solar_radiation W/m2. Empty =
    missing. 24 hours make a forecast, 30 days a good one. A few rows that a year or more separates from all others are
    left out with a warning: the clock that stamped them was not set.

    With --neighbours the forecast sees what the others of the network had read, as on a gateway that holds them all, if
    the bundle looks at neighbours.
    """
    from edge_agent.forecast.from_file import nowcast_command

    nowcast_command(history, latitude, longitude, elevation, **options)


@main.command()
@click.argument("history", type=FILE)
@partial(_site, required=False)
@NEIGHBOURS
@click.option("--guidance", type=FILE, metavar="GUIDANCE.csv", help="Correct this guidance, blend it, score it too.")
@click.option("--every", default="3h", show_default=True, help="Spacing of the origins: 15min, 1h, 3h, 1d.")
@click.option("--start", help="First origin; default: once there are 24 hours of history.")
@click.option("--end", help="Last origin; default: the last reading.")
@click.option("--bundle", type=FILE, help="A bundle file; default: the one shipped with the agent.")
@click.option("--out", type=PATH, metavar="FORECASTS.csv", help="Write every forecast beside what came.")
@click.option("--json", "json_", is_flag=True, help="Print the skill table as JSON.")
@click.option("--plot", type=PATH, metavar="PNG", help="Draw skill by lead and an example fan (needs the plot extra).")
@click.option("--adapt/--no-adapt", default=True, show_default=True, help="Learn from each verdict, as the agent does.")
def hindcast(history: Path, guidance: Path | None, **options: Any) -> None:
    """Would this have worked at my station?

    Forecasts from every origin in HISTORY.csv using only what came before it, scored against what came after: RMSE,
    MAE, CRPS and 80 % coverage per variable and lead, beside persistence and diurnal-anomaly persistence. HISTORY.csv
    as for `nowcast`.

    The forecast is adapted to the station as in the running agent: from a day after the first reading on, every quarter
    hour, whatever --every, --start and --end choose for the table; beside it stands the bundle alone (and MAE only in
    the JSON, for want of room).

    With --neighbours the forecast sees the others of the network, as on a gateway that holds them all: the 12 nearest
    of those that steps of at most 60 km join to the station, each at the same origins and by its own cadence. Run it
    without, too, to see what they are worth. A station that stands in DIR itself is left out, by file, name or place.
    Bundles that do not look at neighbours say so.

    GUIDANCE.csv has columns `issued` (when a run could first be used), `valid_time`, and vocabulary names; further
    predictors are named like temperature__spread. With it, nowcasts and corrected guidance are blended to the last lead
    of the guidance. Where both files have a `station` column with latitude, longitude and elevation, what is learned is
    shared by all stations; daily records will do (temperature_max, temperature_min, rain_24h).
    """
    if guidance is not None:
        from edge_agent.guidance.hindcast import guided_hindcast_command

        if options.pop("plot") is not None:
            raise click.UsageError("--plot draws the nowcast's skill: leave it out, or leave out --guidance")
        guided_hindcast_command(history, guidance=guidance, **options)
        return
    from edge_agent.forecast.hindcast import hindcast_command

    missing = [f"--{key}" for key in ("latitude", "longitude", "elevation") if options[key] is None]
    if missing:
        raise click.UsageError(f"Missing option {', '.join(missing)}: where does the station stand?")
    hindcast_command(history, **options)


@main.group()
def bundle() -> None:
    """Look at bundles."""


@bundle.command()
@click.argument("bundle_", metavar="[BUNDLE]", type=FILE, required=False)
@click.option("--json", "json_", is_flag=True, help="Print bundle.json itself.")
@click.option("--verify", is_flag=True, help="Also run its golden samples here, in a child process.")
def show(bundle_: Path | None, **options: Any) -> None:
    """What a bundle says of itself: its bundle.json and card. Without BUNDLE: the one shipped with the agent."""
    from edge_agent.bundle.show import show_command

    show_command(bundle_, **options)


@main.command()
@click.argument("path", metavar="[BUNDLE]", type=FILE, required=False)
@click.option("--threads", type=click.IntRange(1, 64), default=1, show_default=True, help="As [forecast] threads.")
@click.option("--stations", type=click.IntRange(1, 1000), default=1, show_default=True, help="Forecast in one run.")
@click.option("--runs", type=click.IntRange(5, 10_000), default=200, show_default=True)
@click.option("--device", type=click.Choice(DEVICE_NAMES), help="What this board is: also compare with its limits.")
@click.option("--out", type=PATH, metavar="FILE", help="Where the figures go; default: BUNDLE.measured.json.")
@click.option("--json", "json_", is_flag=True, help="Print the figures as JSON.")
def benchmark(**options: Any) -> None:
    """What a bundle costs on this board: start-up, time of a forecast (p50, p95) and peak memory.

    Measured in a process of its own, on the bundle's golden samples. `model-factory bundle` takes the file up from a
    run's folder, as the measured row of the device in the card. Without BUNDLE: the one shipped with the agent.
    """
    from edge_agent.bundle.benchmark import benchmark_command

    benchmark_command(**options)


@main.group()
def adaptation() -> None:
    """What a station has learned on the device: show it, make it begin anew, or teach it its past."""


@adaptation.command("show")
@click.option("--config", type=PATH, default=Path("agent.toml"), show_default=True, help="The agent's configuration.")
@click.option("--station", help="Which station, where the configuration has several.")
@click.option("--json", "json_", is_flag=True, help="Print JSON.")
def adaptation_show(**options: Any) -> None:
    """How much the forecasts gained from what was learned, by variable and lead, as it was kept last."""
    from edge_agent.adaptation.commands import show_command

    show_command(**options)


@adaptation.command("reset")
@click.option("--config", type=PATH, default=Path("agent.toml"), show_default=True, help="The agent's configuration.")
@click.option("--station", help="Which station, where the configuration has several.")
def adaptation_reset(**options: Any) -> None:
    """Throw away what a station has learned, as after it was moved. A running agent need not be stopped."""
    from edge_agent.adaptation.commands import reset_command

    reset_command(**options)


@adaptation.command("learn")
@click.option("--config", type=PATH, default=Path("agent.toml"), show_default=True, help="The agent's configuration.")
@click.option("--station", help="Which station, where the configuration has several.")
def adaptation_learn(**options: Any) -> None:
    """Learn from all readings of a station in the store, as after `import`, in place of what it has learned so far.

    The forecasts these readings allow are made again, in order, and their verdicts taken: minutes for a year on a PC. A
    running agent need not be stopped: it goes on from what was learned at its next forecast.
    """
    from edge_agent.adaptation.past import learn_command

    learn_command(**options)


@main.command("import")
@click.argument("history", type=FILE)
@click.option("--config", type=PATH, default=Path("agent.toml"), show_default=True, help="The agent's configuration.")
@click.option("--station", help="Which station, where the configuration has several.")
@click.option("--source", default="import", show_default=True, help="Name the rows are kept under.")
@click.option("--publish", is_flag=True, help="Also queue new rows for the broker: they go to obs/history.")
def import_(history: Path, **options: Any) -> None:
    """Seed the store from HISTORY.csv (as for `nowcast`), so that there is a forecast on the first day.

    Rows pass quality control like live ones, are kept as historical, and importing a file twice changes nothing.
    """
    from edge_agent.transfer import import_command

    import_command(history, **options)


@main.command()
@click.option("--config", type=PATH, default=Path("agent.toml"), show_default=True, help="The agent's configuration.")
@click.option("--station", help="Which station, where the configuration has several.")
@click.option("--start", help="First time; default: the oldest row.")
@click.option("--end", help="Last time; default: the newest row.")
@click.option("--flags", is_flag=True, help="Add a column with the quality flag beside each variable.")
@click.option("--out", type=PATH, help="The file to write; default: standard output.")
def export(**options: Any) -> None:
    """Write the store's observations as a HISTORY.csv that `nowcast`, `hindcast` and `import` read."""
    from edge_agent.transfer import export_command

    export_command(**options)


@main.command()
@click.option("--config", type=PATH, default=Path("agent.toml"), show_default=True, help="The agent's configuration.")
@click.option("--json", "json_", is_flag=True, help="Print JSON.")
def status(config: Path, json_: bool) -> None:
    """How the agent is doing: sensors, newest readings, last forecast, what waits for the broker, skill so far.

    Told from the store, as of the agent's last commit: at most [store] commit_s (a minute) ago, seconds ago where a
    sensor or the broker has just come or gone. The first line says when that was.
    """
    from edge_agent.status import status_command

    status_command(config, json_=json_)


@main.group(invoke_without_command=True)
@click.option("--config", type=PATH, default=Path("agent.toml"), show_default=True, help="The agent's configuration.")
@click.option("--json", "json_", is_flag=True, help="Print JSON.")
@click.pass_context
def clock(context: click.Context, config: Path, json_: bool) -> None:
    """What time it is, who says so, and how far it may be off.

    Sources, best first: ntp (the kernel's clock is disciplined), gps, operator (`confirm`), host (of a virtual
    machine), console, rtc; without any, what the store last knew. What GPS receivers and consoles say is told as of the
    agent's last commit.
    """
    if context.invoked_subcommand is None:
        from edge_agent.timekeeping.command import clock_command

        clock_command(config, json_)


@clock.command()
@click.option("--config", type=PATH, help="The agent's configuration.  [default: agent.toml]")
@click.option("--time", help="What time it is (RFC 3339 with zone, or epoch seconds); default: this device's clock.")
@click.pass_context
def confirm(context: click.Context, config: Path | None, time: str | None) -> None:
    """Say that the time is right, to a minute, where nothing else does.

    A running agent takes it up within seconds, and gives what it read since the machine was started its time.
    """
    from edge_agent.timekeeping.command import confirm_command

    confirm_command(config or (context.parent.params["config"] if context.parent else Path("agent.toml")), time)


@main.command()
@click.option("--config", type=PATH, default=Path("agent.toml"), show_default=True, help="The agent's configuration.")
@click.option("--station", help="Which station, where the configuration has several.")
@click.option("--days", type=click.IntRange(1, 400), default=30, show_default=True, help="How far back the table goes.")
@click.option("--json", "json_", is_flag=True, help="Print JSON: the last 7, 30 and 90 days at all leads.")
@click.option("--plot", type=PATH, metavar="PNG", help="Draw it, and the year by week (needs the plot extra).")
def skill(config: Path, **options: Any) -> None:
    """Whether the forecasts were any good here: those the running agent issued, against what was then read.

    RMSE, CRPS and 80 % coverage per variable and lead, beside persistence, diurnal-anomaly persistence, climatology and
    whatever else was scored, and skill over 7, 30 and 90 days; where there is guidance, the same of hours, days and
    nights, beside the guidance as it came. Scores are kept for 400 days, by week once they are five weeks
    old.
    """
    from edge_agent.verified import skill_command

    skill_command(config, **options)


@main.command()
@click.option("--once", is_flag=True, help="Stop with exit 0 after two checked forecasts and one flagged line.")
@click.option("--speed", type=float, default=120.0, show_default=True, help="How many times faster than recorded.")
@click.option("--keep", type=PATH, metavar="DIR", help="Keep the demo's configuration and store in this folder.")
def demo(**options: Any) -> None:
    """Watch it work: two recorded stations, one on a serial line and one over MQTT, forecast on the spot.

    Uses Mosquitto if it is installed, else an embedded broker (the demo extra).
    """
    from edge_agent.demo.run import demo_command

    sys.exit(demo_command(**options))


for command in (decode, qc, replay, sniff):
    main.add_command(command)

if __name__ == "__main__":
    main()
