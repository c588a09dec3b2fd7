"""`faasflow dead-letters`: the requests that failed for good, which `faasflow retry` can make go on."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlencode

import click

from faasflow.cli.app import FAILED
from faasflow.cli.console import note, report_error, show, show_table
from faasflow.cli.options import remote_options
from faasflow.errors import FaasflowError

if TYPE_CHECKING:
    from faasflow.cli.remote import Remote

_PAGE = 200


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A request that failed, or whose callback was given up. `node` is the path of the node that failed, `ended` in
    seconds since the epoch."""

    flow: str
    request_id: str
    ended: float
    node: str
    error_type: str
    message: str
    row: dict[str, Any]

    @classmethod
    def from_row(cls, flow: str, row: dict[str, Any]) -> DeadLetter:
        """One row of what a flow answers."""
        node, error_type, message = (str(row.get(name) or "") for name in ("node", "error_type", "message"))
        return cls(flow, str(row["request_id"]), float(row.get("ended") or 0.0), node, error_type, message, row)

    @property
    def error(self) -> str:
        """What went wrong, in one line."""
        return " ".join(f"{self.error_type}: {self.message}".removeprefix(": ").split())

    @property
    def has_failed(self) -> bool:
        """Whether the request failed, and not only its callback."""
        return bool(self.row.get("state") == "FAILED")


@click.command("dead-letters", short_help="List the requests that failed for good.")
@click.argument("flow", required=False)
@click.option("--limit", type=click.IntRange(1, 1000), default=20, help="How many, 1 to 1000 (default: 20).")
@click.option("--json", "as_json", is_flag=True, help="Write JSON; times are seconds since the epoch.")
@remote_options
@click.pass_context
def dead_letters(context: click.Context, remote: Remote, flow: str | None, limit: int, as_json: bool) -> None:
    """List the newest requests of FLOW that failed, or whose callback was given up, and why. Without
    FLOW those of every flow of the gateway.

    What they were started with and what they got done is kept, and `faasflow retry` goes on from there.

    \b
    Examples:
      faasflow dead-letters
      faasflow dead-letters orders --limit 100 --json
    """
    found, failed = dead_letters_of(remote, [flow] if flow else remote.flows(), limit=limit)
    if as_json:
        show(json.dumps([{"flow": letter.flow, **letter.row} for letter in found[:limit]], indent=2))
    elif found:
        show_dead_letters(found[:limit], with_flow=flow is None)
    elif not failed:
        note("No request has failed.")
    for error in failed:
        report_error(error.message, hint=error.hint)
    if failed:
        context.exit(FAILED)


def dead_letters_of(
    remote: Remote, flows: Sequence[str], *, limit: int | None = None, since: float = 0.0
) -> tuple[list[DeadLetter], list[FaasflowError]]:
    """The dead letters of several flows that ended at `since` or later, the newest first, at most `limit` of each; and
    why a flow did not tell its own."""
    found: list[DeadLetter] = []
    failed: list[FaasflowError] = []
    for flow in flows:
        try:
            for letter in _read(remote, flow, limit):
                if letter.ended < since:
                    break
                found.append(letter)
        except FaasflowError as error:
            error.message = f"{flow}: {error.message}"
            failed.append(error)
    return sorted(found, key=lambda letter: letter.ended, reverse=True), failed


def show_dead_letters(letters: Sequence[DeadLetter], *, with_flow: bool) -> None:
    """A table of dead letters."""
    rows = [
        (letter.flow, letter.request_id, _time(letter.ended), unquote(letter.node), letter.error) for letter in letters
    ]
    first = 0 if with_flow else 1
    show_table(("Flow", "Request", "Ended", "Node", "Error")[first:], [row[first:] for row in rows], is_cut=True)


def _read(remote: Remote, flow: str, limit: int | None) -> Iterator[DeadLetter]:
    """The newest first, page by page."""
    from faasflow.cli.remote import story_of

    after, size = "", min(limit or _PAGE, _PAGE)
    read = 0
    while limit is None or read < limit:
        query = urlencode({"limit": size, **({"after": after} if after else {})})
        rows = story_of(remote.read(flow, "/flow/dead-letters", query=query), of="dead_letters")["dead_letters"]
        yield from (DeadLetter.from_row(flow, row) for row in rows)
        if len(rows) < size:
            return
        read, after = read + len(rows), rows[-1]["cursor"]


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds).strftime("%Y-%m-%d %H:%M:%S")
