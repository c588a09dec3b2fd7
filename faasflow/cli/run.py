"""`faasflow run`: one request of one flow from its start to its end, with nothing else running."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from faasflow.cli.app import FAILED
from faasflow.cli.console import note, report_error, show, write_result
from faasflow.cli.environment import environment_options
from faasflow.cli.options import body_of, data_option, duration, query_option, query_text, stack_option
from faasflow.cli.written import LEVELS
from faasflow.naming import readable_path

if TYPE_CHECKING:
    from faasflow.cli.execution import Outcome

DEFAULT_TIMEOUT = "10m"


@click.command(short_help="Run a flow once, here, and write its result.")
@click.argument("target")
@stack_option
@data_option
@query_option
@click.option("--id", "request_id", default="", help="Id of the request (default: one is made).")
@click.option(
    "--timeout",
    type=duration,
    metavar="DURATION",
    default=DEFAULT_TIMEOUT,
    help=f"Give up after this long, e.g. 30s (default: {DEFAULT_TIMEOUT}).",
)
@click.option(
    "--state-dir",
    type=click.Path(path_type=Path, file_okay=False),
    help="Keep queue and stores in this folder (default: a temporary one, removed at the end).",
)
@click.option(
    "--json",
    "as_json",
    is_flag=True,
    help="Write the request with its result and nodes as JSON; result_encoding is json, text or base64.",
)
@environment_options
@click.option(
    "--log-level",
    type=click.Choice(LEVELS, case_sensitive=False),
    help="Show what functions log from this level on (default: info; debug: what faasflow itself logs, too).",
)
@click.option("-q", "--quiet", is_flag=True, help="Write the result and errors only.")
@click.pass_context
def run(
    context: click.Context,
    target: str,
    stack: Path | None,
    data: str | None,
    query: list[tuple[str, str]],
    request_id: str,
    timeout: float,
    state_dir: Path | None,
    as_json: bool,
    environment: Mapping[str, str],
    log_level: str | None,
    quiet: bool,
) -> None:
    """Run a flow once, here, to its end, and write its result to stdout.

    TARGET is a flow of the stack file, a handler.py, or its folder. The functions it calls come from the stack file and
    are started when they are called. They get the environment of the stack file, and what -e and --env-file add.

    To stderr go the id of the request, its progress, and what the functions print and log. Ends with 1 if the flow
    fails; stderr then says where and why.

    \b
    Examples:
      faasflow run greet --data Ada
      faasflow run ./flows/report --query year=2015 < records.csv > report.html
      faasflow run greet -e GREETING=Hi -e API_TOKEN --env-file local.env --log-level debug
    """
    from faasflow.cli.execution import Wishes, execute
    from faasflow.cli.target import find_target, with_environment

    logging = {"log_level": log_level} if log_level else {}
    wishes = Wishes(
        query=query_text(query),
        request_id=request_id,
        timeout=timeout,
        state_dir=state_dir,
        again=["faasflow", "run", target, *(["-f", str(stack)] if stack else [])],
        level=log_level or "info",
        is_quiet=quiet,
    )
    outcome = execute(with_environment(find_target(target, stack), environment, logging), body_of(data), wishes)
    if as_json:
        show(_document(outcome))
    elif outcome.is_success:
        write_result(outcome.body or b"")
    if not outcome.is_success:
        _report(outcome, with_answer=not as_json)
        context.exit(FAILED)


def _document(outcome: Outcome) -> str:
    encoding, result = _in_json(outcome.body)
    return json.dumps({**outcome.story, "result": result, "result_encoding": encoding}, indent=2)


def _in_json(data: bytes | None) -> tuple[str | None, Any]:
    """What JSON shows for the bytes of a result: what they hold if they are JSON, else text, else base64."""
    if data is None:
        return None, None
    from faasflow.codec import readable

    found = readable(data)
    if not isinstance(found, str):
        return "json", found
    if found.encode() == data:
        return "text", found
    return ("base64", found) if found.encode() == base64.b64encode(data) else ("json", found)


def _report(outcome: Outcome, *, with_answer: bool) -> None:
    failure = outcome.story["failure"] or {}
    if not failure:
        report_error(f"Request {outcome.story['request_id']!r} is {outcome.story['state']}.")
        return
    operation = f" in {failure['operation']!r}" if failure.get("operation") else ""
    report_error(
        f"Node {readable_path(failure['node'])!r} failed{operation}: {failure['error_type']}: {failure['message']}",
        hint=failure.get("hint", ""),
    )
    for line in outcome.log:
        note(f"  {line}")
    if outcome.body and with_answer:
        note(f"on_failure answered: {outcome.body.decode('utf-8', 'replace')}")
