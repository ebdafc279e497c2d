"""`edge-agent replay`, `decode` and `sniff`: what sensors say, from a file or a port. As thin as `cli.py`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from edge_agent.console import FILE


@click.command()
@click.argument("file", type=FILE)
@click.option("--port", metavar="PTY", help="Serial port or pseudo-terminal to write to.")
@click.option("--mqtt", metavar="URL", help="mqtt://[user@]host[:port]/topic to publish to.")
@click.option("--speed", type=float, default=1.0, show_default=True, help="How many times faster than recorded.")
@click.option("--loop", is_flag=True, help="Start again at the end.")
def replay(file: Path, **options: Any) -> None:
    """Play a recording as a sensor would: one line a message, optionally `time<TAB>message`.

    With times, lines keep their recorded spacing divided by --speed; without, they come once a second divided by
    --speed.
    """
    from edge_agent.replay import replay_command

    replay_command(file, **options)


@click.command()
@click.argument("driver")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, allow_dash=True))
@click.option("--option", multiple=True, metavar="KEY=VALUE", help="An option of the driver; may come several times.")
@click.option("--config", type=FILE, help="Take map, time and options of the sensor with that driver from agent.toml.")
def decode(driver: str, file: str, option: tuple[str, ...], config: Path | None) -> None:
    """What a driver reads from a recording: observations as JSON lines, then what was rejected and why.

    FILE (- = standard input; .gz and .xz are unpacked) holds raw bytes or hex text for binary drivers, else one
    message a line, optionally `time<TAB>message`, for MQTT optionally with its topic before it. A file that is one JSON
    document is one message. The last line goes to standard error: `{"accepted": N, "rejected": {reason: n}}`.

    A driver that needs a map gets it from --config, where DRIVER may be a sensor's name too, or from
    `--option map.PATH=VARIABLE:UNIT` (`:counter` behind it for a running total), with `--option time=PATH`.
    """
    from edge_agent.sensors.decode import decode_command

    decode_command(driver, file, option, config)


@click.command()
@click.argument("port")
@click.option("--baud", type=click.IntRange(50, 4_000_000), help="Try only this one.")
@click.option("--seconds", type=click.FloatRange(0.1, 600), default=3.0, show_default=True, help="At each baud.")
@click.option("--ask", is_flag=True, help="Also send what wakes a Davis console (LF) and a Vaisala WXT (?).")
def sniff(port: str, baud: int | None, seconds: float, ask: bool) -> None:
    """What is on a serial port (or tcp://host:port): tries the usual bauds and every serial driver.

    Prints the driver that reads it with a [[sensor]] block for agent.toml; for JSON, separated values or other text
    what came and what could be mapped. Only listens, unless --ask. Exits with 1 if nothing was made out.
    """
    from edge_agent.sensors.sniff import sniff_command

    sys.exit(0 if sniff_command(port, baud, seconds, ask=ask) else 1)
