"""`faasflow graph`: a flow's graph, or that of a request, for other programs or to look at."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from faasflow.cli.console import show
from faasflow.cli.finding import flow_of
from faasflow.cli.options import query_option, query_text, remote_options, stack_option
from faasflow.cli.request import named_request
from faasflow.errors import FaasflowError

if TYPE_CHECKING:
    from faasflow.cli.remote import Remote
    from faasflow.cli.target import Target

_PROGRAM = "dot"


class DrawingError(FaasflowError):
    """A graph that cannot be drawn."""


@click.command(short_help="Write the graph of a flow or a request.")
@click.argument("words", metavar="TARGET | [FLOW] REQUEST", nargs=-1, required=True)
@stack_option
@click.option(
    "-o",
    "--format",
    "form",
    type=click.Choice(["json", "mermaid", "dot", "svg"]),
    default="mermaid",
    help="json as the original exports it, mermaid, dot for Graphviz, or svg as Graphviz draws it (default: mermaid).",
)
@query_option
@remote_options
def graph(remote: Remote, words: Sequence[str], stack: Path | None, form: str, query: list[tuple[str, str]]) -> None:
    """Write the graph of a flow: TARGET is a flow of the stack file, a handler.py, or its folder. Of a REQUEST that the
    gateway knows each node has the colour of its state.

    \b
    Examples:
      faasflow graph greet
      faasflow graph greet -o svg > greet.svg
      faasflow graph greet cv6bo1rkf1nc73a2dmv0 -o svg > request.svg
    """
    from faasflow.cli.inspection import Inspector
    from faasflow.cli.target import Target

    written = "dot" if form == "svg" else form
    target = _target(words[0], stack) if len(words) == 1 else None
    if isinstance(target, Target):
        text = Inspector(target.spec, query=query_text(query)).wait().drawings[written]
    else:
        text = _of_request(remote, words, written, target)
    show((_drawn(text) if form == "svg" else text).rstrip("\n"))


def _target(word: str, stack: Path | None) -> Target | FaasflowError | None:
    """The flow that is meant; for what may be a request why it is no flow, if there is more to say of it."""
    from faasflow.cli.target import TargetError, find_target, stack_file

    if "://" in word or (stack is None and stack_file(Path()) is None and not Path(word).exists()):
        return None
    try:
        return find_target(word, stack)
    except TargetError as error:
        if stack is not None or Path(word).exists():
            raise
        return error


def _of_request(remote: Remote, words: Sequence[str], form: str, no_flow: FaasflowError | None) -> str:
    from faasflow.cli.remote import story_of, story_path
    from faasflow.cli.request_graph import draw_request

    named = named_request(words)
    remote = remote.at(named.gateway) if named.gateway else remote
    flow = named.flow or _flow_of(remote, named.id, no_flow)
    story: dict[str, Any] = story_of(remote.read(flow, story_path(named.id), query="fold=true"))
    if story["graph"] is None:
        raise DrawingError(f"The graph of request {named.id!r} is not known: {story['graph_error']}")
    return draw_request(story, form)


def _flow_of(remote: Remote, request: str, no_flow: FaasflowError | None) -> str:
    try:
        return flow_of(remote, request)
    except FaasflowError as error:
        if no_flow is None:
            raise
        raise DrawingError(f"{no_flow.message} Nor is it a request: {error.message}", hint=no_flow.hint) from error


def _drawn(text: str) -> str:
    """What Graphviz makes of a graph."""
    program = shutil.which(_PROGRAM)
    if program is None:
        raise DrawingError(
            "SVG is drawn by Graphviz, whose program 'dot' is not installed.",
            hint="Install it (apt install graphviz, brew install graphviz), or draw what `-o mermaid` writes.",
        )
    done = subprocess.run([program, "-Tsvg"], input=text.encode(), capture_output=True)
    if done.returncode:
        raise DrawingError(f"Graphviz cannot draw it: {done.stderr.decode('utf-8', 'replace').strip()}")
    return done.stdout.decode()
