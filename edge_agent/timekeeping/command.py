"""`edge-agent clock`: what says the time here and within what, and `edge-agent clock confirm`: a person's word.

Reads the store beside a running agent; only `confirm` writes to it. Never sets the system's clock.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import click
import msgspec

from edge_agent.clock import Clock, SystemClock, format_time, parse_time
from edge_agent.config import load
from edge_agent.errors import DataError, StoreError
from edge_agent.store import Store
from edge_agent.timekeeping import kernel
from edge_agent.timekeeping.keeper import CONFIRMED, OPERATOR_ERROR_S, Confirmation, Kept, read_kept
from edge_agent.timekeeping.sources import RELEASED
from edge_agent.timekeeping.station_clock import StationClock
from edge_agent.transfer import open_store


class SourceLine(msgspec.Struct, frozen=True):
    """A source of time: what it says now, within `error_s`; `note`: why it is not believed, empty where it is."""

    source: str
    time: str
    error_s: float
    note: str


class ClockReport(msgspec.Struct, frozen=True):
    """What `edge-agent clock --json` prints. `time`: the station's, from `source`, within `error_s` (null = not known);
    `system`: this device's own clock, and what its kernel says of it; `running`: whether an agent of this run of the
    machine has kept what devices said; `last_known`: when the time was last synchronised."""

    time: str
    state: str
    source: str
    error_s: float | None
    detail: str
    system: str
    kernel: str
    running: bool
    last_known: str | None
    sources: list[SourceLine]


def clock_command(config: Path, json_: bool) -> None:
    """`edge-agent clock`.

    Raises:
        ConfigError: the configuration; StoreError: the store cannot be read.
    """
    settings, kept, newest = load(config), None, None
    if Path(settings.store.path).exists():
        with open_store(settings, read_only=True) as store:
            kept, newest = read_kept(store), store.as_of()
    report = report_of(SystemClock(), kept, newest)
    if json_:
        click.echo(msgspec.json.format(msgspec.json.encode(report)).decode())
    else:
        for line in render(report):
            click.echo(line)


def confirm_command(config: Path, time: str | None) -> None:
    """`edge-agent clock confirm`.

    Raises:
        ConfigError: the configuration; DataError: no time, or one before this program was made; StoreError: the store
            is not there or cannot be written.
    """
    settings, clock = load(config), SystemClock()
    steady, utc = clock.monotonic(), clock.now() if time is None else float(parse_time(time))
    if utc < RELEASED:
        where = "this device's clock says" if time is None else "--time"
        raise DataError(f"{where} {format_time(utc)}, which has passed long ago: add --time with the right time")
    if not Path(settings.store.path).exists():
        raise StoreError(f"store {settings.store.path}: not there yet: start the agent first, with `edge-agent run`")
    with open_store(settings) as store:
        confirm(store, clock, utc, steady)
    click.echo(f"Confirmed: it was {format_time(utc)}, within {OPERATOR_ERROR_S:.0f} s. A running agent takes it up.")


def confirm(store: Store, clock: Clock, utc_s: float, steady_s: float) -> None:
    """Keep a person's word that it was `utc_s` at `steady_s` of this clock; a running agent finds it there."""
    said = Confirmation(clock.boot_id, utc_s, steady_s)
    store.set(CONFIRMED, msgspec.json.encode(said).decode())
    store.commit()


def report_of(machine: Clock, kept: Kept | None, newest: int | None = None) -> ClockReport:
    """How well the time is known on this machine. `kept`: what an agent kept; `newest`: UTC seconds of its last
    commit."""
    clock = clock_of(machine, kept, newest)
    running = kept is not None and kept.boot.machine == machine.boot_id
    steady, error_s = machine.monotonic(), clock.error_s()
    discipline = kernel.discipline()
    says = discipline.why if discipline.error_s is None else f"synchronised, within {discipline.error_s:.1f} s"
    return ClockReport(
        time=format_time(clock.now()),
        state=clock.state(),
        source=clock.known.source,
        error_s=None if error_s is None else round(error_s, 1),
        detail=clock.detail(),
        system=format_time(machine.now()),
        kernel=says,
        running=running,
        last_known=None if kept is None or kept.good_s is None else format_time(kept.good_s),
        sources=[
            SourceLine(
                told.report.source,
                format_time(steady + told.report.offset_s),
                round(told.report.error_at(steady), 1),
                told.note,
            )
            for told in clock.sources.all(steady)
        ],
    )


def clock_of(machine: Clock, kept: Kept | None, newest: int | None) -> StationClock:
    """The station's clock as an agent on this machine would have it. Arguments as in `report_of`."""
    clock = StationClock(machine)
    running = kept is not None and kept.boot.machine == machine.boot_id
    if kept is not None:
        clock.trust_rtc(kept.rtc_right)
        if running:
            clock.go_on([word.report() for word in kept.words], kept.boot.offset_s)
    if newest is not None and not running:
        clock.not_before(newest)
    clock.look()
    return clock


def render(report: ClockReport) -> Iterator[str]:
    """The report as lines for people."""
    bound = "by how much it is off is not known" if report.error_s is None else f"within {report.error_s:g} s"
    yield f"{report.time}  {report.state}, from {report.source}, {bound}"
    yield f"  system    {report.system}, {report.kernel}"
    for line in report.sources:
        yield f"  {line.source:<9} {line.time}, within {line.error_s:g} s" + (f": {line.note}" if line.note else "")
    if report.last_known is not None:
        yield f"  last synchronised {report.last_known}"
    if report.detail:
        yield f"  {report.detail}"
    if report.error_s is None:
        yield ""
        yield "Forecasts are persistence until the time is known. Connect the device to a network, or say the time:"
        yield "edge-agent clock confirm --time 2026-05-01T12:00:00+02:00"
