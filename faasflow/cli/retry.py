"""`faasflow retry`: lets failed requests go on from where they failed, one of them or all that fit."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO
from urllib.parse import unquote, urlencode

import click

from faasflow.cli.app import FAILED
from faasflow.cli.console import counted, note, report_error, show
from faasflow.cli.finding import flow_of
from faasflow.cli.options import body_of, duration, moment, remote_options
from faasflow.cli.request import optional_request_argument
from faasflow.cli.result import write_ended
from faasflow.cli.waiting import wait_for_end
from faasflow.errors import FaasflowError, RequestConflictError

if TYPE_CHECKING:
    from faasflow.cli.dead_letters import DeadLetter
    from faasflow.cli.remote import Remote


@dataclass(frozen=True, slots=True)
class Filter:
    """Which dead letters are meant: all that fit each part that is given. Times are in seconds since the epoch."""

    node: str = ""
    error: str = ""
    since: float = 0.0
    before: float = float("inf")

    def takes(self, letter: DeadLetter) -> bool:
        """Whether a dead letter fits."""
        return (
            self.node in ("", letter.node, unquote(letter.node))
            and self.error in ("", letter.error_type)
            and self.since <= letter.ended <= self.before
        )


@click.command(short_help="Let failed requests go on from where they failed.")
@click.option("--node", metavar="NODE", help="Go on from this node instead; with --all: those that failed in it.")
@click.option("-d", "--data", metavar="TEXT|@FILE", help="New input of the node (default: the one it had).")
@click.option("--input", "given", type=click.File("rb"), hidden=True, help="As --data @FILE.")
@click.option("--wait", type=duration, metavar="DURATION", help="Wait this long, e.g. 30s, and write the result.")
@click.option("--all", "is_all", is_flag=True, help="All dead letters that the options fit, instead of one REQUEST.")
@click.option("--error", metavar="TYPE", help="With --all: those that failed with this type of error.")
@click.option(
    "--since", type=moment, metavar="TIME", help="With --all: those that failed since; 2h, 7d ago, or RFC 3339."
)
@click.option("--before", type=moment, metavar="TIME", help="With --all: those that failed earlier than that.")
@click.option("--dry-run", is_flag=True, help="Show what would be retried, and do nothing.")
@remote_options
@optional_request_argument
@click.pass_context
def retry(
    context: click.Context,
    remote: Remote,
    request: str | None,
    flow: str | None,
    node: str | None,
    data: str | None,
    given: BinaryIO | None,
    wait: float | None,
    is_all: bool,
    error: str | None,
    since: float | None,
    before: float | None,
    dry_run: bool,
) -> None:
    """Let a REQUEST that failed go on from the node that failed, with what the nodes before it recorded. It has its
    attempts anew, and the input it had unless another is given.

    Ends with 1 if a request could not be retried: it has not failed, or its flow was changed.

    \b
    Examples:
      faasflow retry cv6bo1rkf1nc73a2dmv0
      faasflow retry orders order-1 --node check --data @corrected.json --wait 1m
      faasflow retry --all --flow orders --error CallError --since 2h --dry-run
    """
    _check_use(request, is_all, (data, given, wait), (error, since, before))
    if request is not None:
        name = flow or flow_of(remote, request)
        if dry_run:
            _show_one(remote, name, request, node or "")
        else:
            _retry_one(remote, name, request, node=node or "", data=_input(data, given), wait=wait)
        return
    wanted = Filter(
        node=node or "",
        error=error or "",
        since=since if since is not None else 0.0,
        before=before if before is not None else float("inf"),
    )
    if not _retry_all(remote, [flow] if flow else remote.flows(), wanted, dry_run=dry_run):
        context.exit(FAILED)


def _check_use(
    request: str | None, is_all: bool, of_one: Sequence[object], filters: Sequence[str | float | None]
) -> None:
    if (request is None) != is_all:
        raise click.UsageError("Name one REQUEST, or ask for --all dead letters.")
    if is_all and any(one is not None for one in of_one):
        raise click.UsageError("--data and --wait belong to one REQUEST.")
    if not is_all and any(one is not None for one in filters):
        raise click.UsageError("--error, --since and --before choose among --all dead letters, not for one REQUEST.")


def _input(text: str | None, given: BinaryIO | None) -> bytes:
    if text is None and given is None:
        return b""
    data = given.read() if given is not None else body_of(text)
    if not data:
        raise click.BadParameter("It is empty. Without it the node has the input it had.", param_hint="'--data'")
    return data


def _retry_one(remote: Remote, flow: str, request: str, *, node: str, data: bytes, wait: float | None) -> None:
    until = time.monotonic() + (wait or 0.0)
    said = _retried(remote, flow, request, node=node, data=data)
    if wait is None:
        show(said)
        return
    note(said)
    write_ended(flow, request, wait_for_end(remote, flow, request, until))


def _show_one(remote: Remote, flow: str, request: str, node: str) -> None:
    """Show a request that would be retried; `RequestConflictError` unless it has failed."""
    from faasflow.cli.dead_letters import DeadLetter, show_dead_letters
    from faasflow.cli.remote import story_of, story_path

    story = story_of(remote.read(flow, story_path(request)))
    if story["state"] != "FAILED":
        raise RequestConflictError(
            f"Request {request!r} of {flow!r} is {story['state']}.", hint="Only a failed one is retried."
        )
    letter = DeadLetter.from_row(flow, {**story, **(story["failure"] or {})})
    show_dead_letters([letter], with_flow=True)
    note(f"It would go on from node {node or unquote(letter.node)!r}.")


def _retry_all(remote: Remote, flows: Sequence[str], wanted: Filter, *, dry_run: bool) -> bool:
    """Retry all that fit, the oldest first; False if one could not be."""
    from faasflow.cli.dead_letters import dead_letters_of, show_dead_letters

    found, failed = dead_letters_of(remote, flows, since=wanted.since)
    letters = [letter for letter in reversed(found) if wanted.takes(letter)]
    for error in failed:
        report_error(error.message, hint=error.hint)
    if dry_run and letters:
        show_dead_letters(letters, with_flow=True)
    done = 0 if dry_run else _retry_each(remote, letters)
    note(f"{len(letters)} would be retried." if dry_run else f"{done} of {len(letters)} retried.")
    return not failed and (dry_run or done == len(letters))


def _retry_each(remote: Remote, letters: Sequence[DeadLetter]) -> int:
    done = 0
    for letter in counted(letters):
        try:
            # A request that has not failed is a dead letter for its callback.
            node = "" if letter.has_failed else letter.node
            show(_retried(remote, letter.flow, letter.request_id, node=node))
            done += 1
        except FaasflowError as error:
            report_error(f"{letter.flow}: {error.message}", hint=error.hint)
    return done


def _retried(remote: Remote, flow: str, request: str, *, node: str = "", data: bytes = b"") -> str:
    """Retry one request, and what its flow says to it."""
    from faasflow.cli.remote import story_path

    query = urlencode({"node": node}) if node else ""
    return remote.post(flow, story_path(request, "retry"), query=query, body=data).text.strip()
