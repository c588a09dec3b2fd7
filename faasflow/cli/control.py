"""`faasflow pause`, `resume` and `stop`: steers requests, those that are named or all that fit."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import wraps
from typing import TYPE_CHECKING, Any

import click

from faasflow.cli.app import FAILED
from faasflow.cli.console import counted, note, report_error, show
from faasflow.cli.finding import flow_of
from faasflow.cli.listing import show_requests
from faasflow.cli.options import remote_options
from faasflow.cli.request import several_requests
from faasflow.cli.selection import Selection, requests_of, selection_options
from faasflow.engine.lifecycle import Command, RequestState, transition
from faasflow.errors import FaasflowError, RequestConflictError

if TYPE_CHECKING:
    from faasflow.cli.remote import Remote

_GONE = (404, 409)
_LIVE = (RequestState.RUNNING, RequestState.PAUSED)
_DONE = {Command.PAUSE: "paused", Command.RESUME: "resumed", Command.STOP: "stopped"}


@dataclass(frozen=True, slots=True)
class _Order:
    """What is asked for: `requests`, in the words of the command line, or all of the `selection`."""

    requests: tuple[str, ...]
    flow: str | None
    is_all: bool
    selection: Selection
    is_dry: bool
    as_json: bool

    def check(self, command: Command) -> None:
        """A misuse if it contradicts itself, or would pause or stop whatever there is."""
        if bool(self.requests) == self.is_all:
            raise click.UsageError("Name a REQUEST or several, or ask for --all that the options fit.")
        if not self.is_all and not self.selection.is_all:
            raise click.UsageError("--state, --since and --before choose among --all requests, not for a REQUEST.")
        is_everything = self.is_all and not self.flow and self.selection.is_all
        if is_everything and command is not Command.RESUME and not self.is_dry:
            raise click.UsageError(
                f"This would {command} every request of every flow. "
                "Say which with --flow, --state, --since or --before."
            )


def _steering(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options that all three commands have. The command is given what they name as `order`."""

    @wraps(command)
    def with_order(
        *arguments: Any,
        request: tuple[str, ...],
        flow: str | None,
        is_all: bool,
        selection: Selection,
        dry_run: bool,
        as_json: bool,
        **options: Any,
    ) -> None:
        order = _Order(request, flow, is_all, selection, dry_run, as_json)
        command(*arguments, order=order, **options)

    wrapped: Callable[..., Any] = remote_options(with_order)
    for option in (
        click.option("--json", "as_json", is_flag=True, help="Write JSON: what became of each."),
        click.option("--dry-run", is_flag=True, help="Show which requests are meant, and do nothing."),
        selection_options("With --all", [state.value for state in _LIVE]),
        click.option("--all", "is_all", is_flag=True, help="All requests that the options fit, instead of named ones."),
        click.option(
            "--flow", metavar="NAME", help="The flow (default: the one that knows REQUEST; with --all every flow)."
        ),
        click.argument("request", metavar="[FLOW] REQUEST...", nargs=-1),
    ):
        wrapped = option(wrapped)
    return wrapped


@click.command(short_help="Let requests start no further node.")
@_steering
@click.pass_context
def pause(context: click.Context, remote: Remote, order: _Order) -> None:
    """Let each REQUEST start no further node, until it is resumed. Nodes that run come to their end.

    Ends with 1 if a request could not be paused: it has ended, or no flow knows it. To pause a paused one is fine.
    --all without a filter is refused.

    \b
    Examples:
      faasflow pause cv6bo1rkf1nc73a2dmv0
      faasflow pause orders order-1 order-2
      faasflow pause --all --flow orders
    """
    _steer(context, remote, order, Command.PAUSE)


@click.command(short_help="Let paused requests go on.")
@_steering
@click.pass_context
def resume(context: click.Context, remote: Remote, order: _Order) -> None:
    """Let each REQUEST that is paused go on from where it stands.

    Ends with 1 if a request could not be resumed: it has ended, or no flow knows it. To resume a running one is fine.

    \b
    Examples:
      faasflow resume cv6bo1rkf1nc73a2dmv0
      faasflow resume --all --flow orders
    """
    _steer(context, remote, order, Command.RESUME)


@click.command(short_help="End requests.")
@_steering
@click.pass_context
def stop(context: click.Context, remote: Remote, order: _Order) -> None:
    """End each REQUEST. Nothing more of it starts, and what running nodes come to is refused. It cannot go on.

    Ends with 1 if a request could not be stopped: it has ended by itself, or no flow knows it. With --all those that
    run or are paused are stopped; without a filter it is refused.

    \b
    Examples:
      faasflow stop orders order-1 order-2
      faasflow stop --all --flow orders --before 2h --dry-run
      faasflow stop --all --state paused
    """
    _steer(context, remote, order, Command.STOP)


def _steer(context: click.Context, remote: Remote, order: _Order, command: Command) -> None:
    order.check(command)
    report = _Report(command, order)
    try:
        rows = _selected(remote, order, command, report) if order.is_all else _named(remote, order, report)
        if order.is_dry:
            _preview(remote, command, rows, report)
        else:
            _carry_out(remote, command, rows, report)
    except KeyboardInterrupt:
        report.finish(is_interrupted=True)
        raise
    report.finish()
    if report.has_failed:
        context.exit(FAILED)


@dataclass(slots=True)
class _Report:
    """What became of each request, for people at once and for machines at the end."""

    command: Command
    order: _Order
    rows: list[dict[str, Any]] = field(default_factory=list)
    total: int = 0
    done: int = 0
    ended: int = 0
    has_failed: bool = False

    def succeed(self, row: dict[str, Any], said: str) -> None:
        """The flow has done it, and said so."""
        self.done += 1
        state = transition(RequestState.RUNNING, self.command)
        self.rows.append({"flow": row["flow"], "request_id": row["request_id"], "state": state, "error": None})
        if not self.order.as_json:
            show(said)

    def pass_over(self, row: dict[str, Any], error: FaasflowError) -> None:
        """It ended by itself before its turn came: nothing is wrong."""
        self.ended += 1
        self._record(row["flow"], row["request_id"], error)
        note(f"{row['flow']}: {error.message}")

    def fail(self, flow: str | None, request_id: str | None, error: FaasflowError) -> None:
        """It could not be done."""
        self.has_failed = True
        self._record(flow, request_id, error)
        report_error(f"{flow}: {error.message}" if flow else error.message, hint=error.hint)

    def show(self, rows: Sequence[dict[str, Any]]) -> None:
        """These would be meant."""
        self.done = self.total = len(rows)
        self.rows += [
            {"flow": row["flow"], "request_id": row["request_id"], "state": row["state"], "error": None} for row in rows
        ]
        if rows and not self.order.as_json:
            show_requests(rows, with_flow=True)

    def finish(self, *, is_interrupted: bool = False) -> None:
        """Say how far it came."""
        if self.order.as_json:
            show(json.dumps(self.rows, indent=2))
        if is_interrupted:
            note(f"Interrupted: {self.done} of {self.total} {_DONE[self.command]}.")
        elif self.order.is_all or self.total > 1:
            note(self._summary())

    def _summary(self) -> str:
        done = _DONE[self.command]
        if self.order.is_dry:
            return f"{self.done} would be {done}."
        if not self.total and not self.has_failed:
            return "No request fits."
        return f"{self.done} of {self.total} {done}" + (f", {self.ended} had ended." if self.ended else ".")

    def _record(self, flow: str | None, request_id: str | None, error: FaasflowError) -> None:
        self.rows.append({"flow": flow, "request_id": request_id, "state": None, "error": error.message})


def _selected(remote: Remote, order: _Order, command: Command, report: _Report) -> list[dict[str, Any]]:
    """The requests that fit, the oldest first. A flow that cannot be asked leaves out its own."""
    rows: list[dict[str, Any]] = []
    usual = [state for state in _LIVE if transition(state, command) is not state]
    chosen = Selection(order.selection.states or tuple(usual), order.selection.since, order.selection.before)
    for flow in [order.flow] if order.flow else remote.flows():
        try:
            rows += [{"flow": flow, **row} for row in requests_of(remote, flow, chosen)]
        except FaasflowError as error:
            report.fail(flow, None, error)
    return sorted(rows, key=lambda row: float(row["created"]))


def _named(remote: Remote, order: _Order, report: _Report) -> list[dict[str, Any]]:
    """The named requests with their flows, which are looked for before anything is done."""
    rows: list[dict[str, Any]] = []
    requests = several_requests(remote, order.requests, order.flow)
    for named in requests:
        there = remote.at(named.gateway) if named.gateway else remote
        try:
            flow = named.flow or flow_of(there, named.id)
            rows.append({"flow": flow, "request_id": named.id, "remote": there})
        except FaasflowError as error:
            report.fail(None, named.id, error)
    report.total = len(requests)
    return rows


def _preview(remote: Remote, command: Command, rows: Sequence[dict[str, Any]], report: _Report) -> None:
    fitting = []
    for row in rows:
        try:
            fitting.append(row if "state" in row else _looked_at(remote, command, row))
        except FaasflowError as error:
            report.fail(row["flow"], row["request_id"], error)
    report.show(fitting)


def _looked_at(remote: Remote, command: Command, row: dict[str, Any]) -> dict[str, Any]:
    """A named request with what its flow knows of it; `RequestConflictError` where the command does not apply."""
    from faasflow.cli.remote import story_of, story_path

    story = story_of(row.get("remote", remote).read(row["flow"], story_path(row["request_id"])))
    if transition(RequestState(story["state"]), command) is None:
        raise RequestConflictError(f"Request {row['request_id']!r} is {story['state']}; {command} does not apply.")
    return {**row, **{name: story[name] for name in ("state", "created", "ended")}}


def _carry_out(remote: Remote, command: Command, rows: Sequence[dict[str, Any]], report: _Report) -> None:
    from faasflow.cli.remote import RemoteError

    report.total = report.total or len(rows)
    for row in counted(rows):
        flow, id = row["flow"], row["request_id"]
        try:
            report.succeed(row, _told(row.get("remote", remote), flow, id, command))
        except RemoteError as error:
            if report.order.is_all and error.code in _GONE:
                report.pass_over(row, error)
            else:
                report.fail(flow, id, error)
        except FaasflowError as error:
            report.fail(flow, id, error)


def _told(remote: Remote, flow: str, request_id: str, command: Command) -> str:
    """What a flow says when it has done it; `RemoteError` for what another function may answer to anything."""
    from faasflow.cli.remote import RemoteError, story_path

    answer = remote.post(flow, story_path(request_id, command))
    said = answer.text.strip()
    if not said.startswith("Successfully"):
        raise RemoteError(f"{flow!r} did not answer as a flow does.", code=answer.status_code, hint="Is it a flow?")
    return said
