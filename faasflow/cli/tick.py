"""`faasflow tick`: lets the clock of flows run from outside, once or again and again."""

from __future__ import annotations

import signal
import time
from collections.abc import Mapping, Sequence
from types import FrameType
from typing import TYPE_CHECKING, NoReturn

import click

from faasflow.cli.app import FAILED
from faasflow.cli.console import note, report_error, show, show_table
from faasflow.cli.options import duration, remote_options
from faasflow.errors import FaasflowError

if TYPE_CHECKING:
    from faasflow.cli.remote import Remote

_TIMEOUT = 60.0
_COUNTS = ("fired", "repaired", "removed")


@click.command(short_help="Let the clock of flows run, once or again and again.")
@click.argument("flows", metavar="[FLOW]...", nargs=-1)
@click.option(
    "--every",
    type=duration,
    metavar="DURATION",
    help="Tick again and again, e.g. each 10s, until Ctrl-C (default: once).",
)
@remote_options
@click.pass_context
def tick(context: click.Context, remote: Remote, flows: tuple[str, ...], every: float | None) -> None:
    """Let the clock of each FLOW run: do what is due, repair what was lost, remove what was kept long enough.

    Without FLOW it is every function of the gateway with the label faas-flow: "1". Flows do this by themselves unless
    their setting tick_interval is 0, or no replica of them runs. Ends with 1 if a flow could not do it.

    \b
    Examples:
      faasflow tick
      faasflow tick orders greet --every 10s --key-file faasflow-hmac-secret
    """
    if every is not None:
        _tick_forever(remote, flows, every)
    ticked = _Round(remote, flows)
    if ticked.done:
        rows = [(flow, *map(str, counts)) for flow, counts in ticked.done.items()]
        show_table(("Flow", *map(str.capitalize, _COUNTS)), rows)
    elif not ticked.failed:
        note('No function of the gateway has the label faas-flow: "1".')
    for flow, error in ticked.failed.items():
        report_error(f"{flow}: {error.message}", hint=error.hint)
    if ticked.failed:
        context.exit(FAILED)


class _Round:
    """What came of one tick of each flow."""

    def __init__(self, remote: Remote, flows: Sequence[str]) -> None:
        self.done: dict[str, list[int]] = {}
        self.failed: dict[str, FaasflowError] = {}
        for flow in flows or remote.flows():
            try:
                self.done[flow] = _tick(remote, flow)
            except FaasflowError as error:
                self.failed[flow] = error


def _tick(remote: Remote, flow: str) -> list[int]:
    from faasflow.cli.remote import story_of

    counts = story_of(remote.post(flow, "/flow/tick", timeout=_TIMEOUT), of=_COUNTS[0])
    return [int(counts.get(name) or 0) for name in _COUNTS]


def _tick_forever(remote: Remote, flows: Sequence[str], every: float) -> NoReturn:
    """A line for each flow that had something to do; a fault is told when it begins, and when it is over."""
    signal.signal(signal.SIGTERM, _end)
    failing: dict[str, FaasflowError] = {}
    while True:
        began = time.monotonic()
        try:
            ticked = _Round(remote, flows)
            done, failed = ticked.done, ticked.failed
        except FaasflowError as error:  # the list of flows is asked for anew each time
            done, failed = {}, {**failing, "gateway": error}
        _tell_changes(failing, failed)
        failing = failed
        for flow, counts in done.items():
            if any(counts):
                show(f"{flow}: " + ", ".join(f"{name} {count}" for name, count in zip(_COUNTS, counts, strict=True)))
        time.sleep(max(0.0, every - (time.monotonic() - began)))


def _tell_changes(before: Mapping[str, FaasflowError], now: Mapping[str, FaasflowError]) -> None:
    for name, error in now.items():
        if name not in before:
            report_error(f"{name}: {error.message}", hint=error.hint)
    for name in before.keys() - now.keys():
        note(f"{name} is back.")


def _end(_number: int, _frame: FrameType | None) -> NoReturn:
    raise SystemExit(0)
