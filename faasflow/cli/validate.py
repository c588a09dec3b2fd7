"""`faasflow validate`: whether flows can run, and what is wrong with those that cannot."""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from faasflow.cli.app import FAILED
from faasflow.cli.console import mark, note, show
from faasflow.cli.inspection import BrokenFlowError, Inspection, Inspector
from faasflow.cli.options import query_option, query_text, stack_option

if TYPE_CHECKING:
    from faasflow.cli.target import Target
    from faasflow.local.stack import Stack

_AT_ONCE = 2


@click.command(short_help="Check flows without running them.")
@click.argument("targets", metavar="[TARGET]...", nargs=-1)
@stack_option
@query_option
@click.pass_context
def validate(
    context: click.Context, targets: tuple[str, ...], stack: Path | None, query: list[tuple[str, str]]
) -> None:
    """Check flows: load each handler and build its graph, without running it.

    TARGET is a flow of the stack file, a handler.py, or its folder; without one, every flow of the stack file is
    checked, and whether the handlers of its other functions are there. Ends with 1 if something is broken. That a
    function is called which the stack file does not have, or is not hosted here, is a warning.

    \b
    Examples:
      faasflow validate
      faasflow validate greet
    """
    from faasflow.cli.target import find_target

    broken = 0
    if targets:
        chosen = [find_target(target, stack) for target in targets]
    else:
        chosen, broken = _all_of(stack)
    for target, found in zip(chosen, _inspected(chosen, query_text(query)), strict=True):
        _show(target, found)
        broken += isinstance(found, BrokenFlowError)
    if broken:
        context.exit(FAILED)


def _all_of(given: Path | None) -> tuple[list[Target], int]:
    """The flows of a stack file that can be looked at, and how many functions have mistakes in it. What else there is
    to say of the stack file is written."""
    from faasflow.cli.target import Target, flows, read_stack
    from faasflow.local.templates import missing_template

    stack = read_stack(given)
    for spec in stack.functions.values():
        if spec.mistake:
            show(f"{mark('bad', stream=sys.stdout)} {spec.name}: {spec.mistake}")
        elif spec.unhosted:
            show(f"{mark('warning', stream=sys.stdout)} {spec.name}: not hosted here: {spec.unhosted}")
        if problem := missing_template(spec, stack):
            show(f"{mark('warning', stream=sys.stdout)} {spec.name}: {problem}")
    for text in stack.notes:
        show(f"{mark('warning', stream=sys.stdout)} {text}")
    sound = [Target(spec.name, stack) for spec in flows(stack) if not spec.mistake]
    if not sound:
        note("There is no flow in the stack file.")
    return sound, sum(bool(spec.mistake) for spec in stack.functions.values())


def _inspected(targets: list[Target], query: str) -> Iterator[Inspection | BrokenFlowError]:
    """What each target is, in order; while one is waited for, the next is under way."""
    under_way: deque[Inspector] = deque()
    try:
        for target in targets:
            under_way.append(Inspector(target.spec, query=query))
            if len(under_way) == _AT_ONCE:
                yield _result(under_way.popleft())
        while under_way:
            yield _result(under_way.popleft())
    finally:
        for inspector in under_way:
            inspector.close()


def _result(inspector: Inspector) -> Inspection | BrokenFlowError:
    try:
        return inspector.wait()
    except BrokenFlowError as error:
        return error


def _show(target: Target, found: Inspection | BrokenFlowError) -> None:
    if not isinstance(found, Inspection):
        show(f"{mark('bad', stream=sys.stdout)} {target.name}: {found.reason}")
        if found.hint:
            show(f"  {found.hint}")
        return
    nodes = "1 node" if found.nodes == 1 else f"{found.nodes} nodes"
    show(f"{mark('good', stream=sys.stdout)} {target.name}: {nodes}")
    sign = mark("warning", stream=sys.stdout)
    for name, node in found.calls.items():
        problem = _problem(name, target.stack)
        if problem:
            show(f"{sign} {target.name}: node {node!r} calls function {name!r}, {problem}")


def _problem(name: str, stack: Stack) -> str:
    """What is to be said of a call of a function, if anything."""
    spec = stack.functions.get(name.partition(".")[0])
    if spec is None:
        return f"which {stack.path.name} does not have" if stack.path else "and there is no stack file that has it"
    if spec.is_flow:
        return 'a flow: the call fails if it only starts it. Wait for its result with query={"wait": "30s"}'
    return "which is not hosted here" if spec.unhosted and not spec.url else ""
