"""`faasflow graph`: a flow's graph for other programs, or to look at."""

from __future__ import annotations

from pathlib import Path

import click

from faasflow.cli.console import show
from faasflow.cli.options import query_option, query_text, stack_option


@click.command(short_help="Write a flow's graph as Mermaid, dot or JSON.")
@click.argument("target")
@stack_option
@click.option(
    "--format",
    "form",
    type=click.Choice(["json", "mermaid", "dot"]),
    default="mermaid",
    help="json as the original exports it, mermaid, or dot for Graphviz (default: mermaid).",
)
@query_option
def graph(target: str, stack: Path | None, form: str, query: list[tuple[str, str]]) -> None:
    """Write the graph of a flow: TARGET is a flow of the stack file, a handler.py, or its folder.

    \b
    Examples:
      faasflow graph greet
      faasflow graph greet --format dot | dot -Tsvg > greet.svg
    """
    from faasflow.cli.inspection import Inspector
    from faasflow.cli.target import find_target

    found = Inspector(find_target(target, stack).spec, query=query_text(query)).wait()
    show(found.drawings[form].rstrip("\n"))
