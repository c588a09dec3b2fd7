"""`faasflow unreadable`: the records that a flow cannot read and has set aside."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

import click

from faasflow.cli.app import FAILED
from faasflow.cli.console import note, report_error, show, show_table
from faasflow.cli.options import remote_options
from faasflow.errors import FaasflowError

if TYPE_CHECKING:
    from faasflow.cli.remote import Remote


@click.command(short_help="List the records that a flow cannot read.")
@click.argument("flow", required=False)
@click.option("--limit", type=click.IntRange(1, 1000), default=100, help="How many, 1 to 1000 (default: 100).")
@click.option(
    "--remove", metavar="NAME", help="Remove the request or record NAME of FLOW, with all that is stored of it."
)
@click.option("--json", "as_json", is_flag=True, help="Write JSON.")
@remote_options
@click.pass_context
def unreadable(
    context: click.Context, remote: Remote, flow: str | None, limit: int, remove: str | None, as_json: bool
) -> None:
    """List the records of FLOW that its version cannot read, and why: requests, timers and entries of lists. Without
    FLOW those of every flow of the gateway.

    They were written by a newer version, or are damaged. They are set aside, so that everything else goes on, and are
    gone on with by themselves once they can be read, such as after an upgrade.

    \b
    Examples:
      faasflow unreadable orders
      faasflow unreadable orders --remove order-17
    """
    if remove is not None:
        _remove(remote, flow, remove)
        return
    rows, failed = _read(remote, [flow] if flow else remote.flows(), limit)
    if as_json:
        show(json.dumps(rows, indent=2))
    elif rows:
        first = 0 if flow is None else 1
        lines = [[row["flow"], _name(row), " ".join(row["why"].split())][first:] for row in rows]
        show_table(("Flow", "Name", "Why")[first:], lines, is_cut=True)
    elif not failed:
        note("Everything can be read.")
    for error in failed:
        report_error(error.message, hint=error.hint)
    if failed:
        context.exit(FAILED)


def _remove(remote: Remote, flow: str | None, name: str) -> None:
    if flow is None:
        raise click.UsageError("--remove needs the FLOW that the record belongs to.")
    remote.post(flow, "/flow/unreadable", query=urlencode({"remove": name}))
    note(f"Successfully removed {name}")


def _read(remote: Remote, flows: Sequence[str], limit: int) -> tuple[list[dict[str, Any]], list[FaasflowError]]:
    """What the flows cannot read, and why a flow did not tell."""
    rows: list[dict[str, Any]] = []
    failed: list[FaasflowError] = []
    for flow in flows:
        try:
            rows += [{"flow": flow, **row} for row in unreadable_of(remote, flow, limit=limit)]
        except FaasflowError as error:
            error.message = f"{flow}: {error.message}"
            failed.append(error)
    return rows, failed


def unreadable_of(remote: Remote, flow: str, *, limit: int = 100, timeout: float | None = None) -> list[dict[str, Any]]:
    """The records that a flow cannot read: `key`, `request_id` where it names one, and `why`."""
    from faasflow.cli.remote import story_of

    answer = remote.read(flow, "/flow/unreadable", query=urlencode({"limit": limit}), timeout=timeout)
    found: list[dict[str, Any]] = story_of(answer, of="unreadable")["unreadable"]
    return found


def _name(row: dict[str, Any]) -> str:
    return str(row["request_id"] or row["key"])
