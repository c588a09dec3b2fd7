"""What a TARGET on the command line stands for: a flow of the stack file, a handler file, or the folder of one."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from faasflow.errors import FaasflowError

if TYPE_CHECKING:
    from faasflow.local.stack import FunctionSpec, Stack

HANDLER = "handler.py"


class TargetError(FaasflowError, LookupError):
    """A target that stands for nothing, or for something else than a flow."""


@dataclass(frozen=True, slots=True)
class Target:
    """A flow, and the stack with the functions it may call; the flow is one of them."""

    name: str
    stack: Stack

    @property
    def spec(self) -> FunctionSpec:
        return self.stack.functions[self.name]


def stack_file(start: Path) -> Path | None:
    """The stack file in `start` or in the nearest folder above it."""
    from faasflow.local.stack import find_stack

    folders = (start.absolute(), *start.absolute().parents)
    return next(filter(None, map(find_stack, folders)), None)


def read_stack(given: Path | None) -> Stack:
    """The stack that `-f` names, else the one found from the current folder upwards."""
    from faasflow.local.stack import load_stack

    return load_stack(given or stack_file(Path()) or Path())


def find_target(text: str, given: Path | None) -> Target:
    """What `text` stands for; a name in the stack comes before a path. `TargetError` if it is no flow."""
    path = Path(text)
    is_path = path.exists() and (path.is_dir() or path.suffix == ".py")
    if given is None and stack_file(Path()) is None and is_path:
        return _at(path, None)
    stack = read_stack(given)
    if text in stack.functions:
        return _checked(Target(text, stack))
    if is_path:
        return _at(path, given)
    raise _unknown(text, stack)


def with_environment(target: Target, given: Mapping[str, str], settings: Mapping[str, str]) -> Target:
    """The target whose functions are given more variables than the stack file has; flows are given `settings` too."""
    functions = {
        name: replace(spec, environment={**spec.environment, **given, **(settings if spec.is_flow else {})})
        for name, spec in target.stack.functions.items()
    }
    return replace(target, stack=replace(target.stack, functions=functions))


def flows(stack: Stack) -> list[FunctionSpec]:
    """The flows of a stack, in its order."""
    return [spec for spec in stack.functions.values() if spec.is_flow]


def _at(path: Path, given: Path | None) -> Target:
    """The flow of a handler file or its folder; what it calls comes from the stack file that is given, or nearest."""
    from faasflow.local.stack import FunctionSpec, Stack, load_stack

    path = path.resolve()
    handler = path.parent if path.name == HANDLER else path
    folder = path if path.is_dir() else path.parent
    if path.is_dir() and not (path / HANDLER).is_file():
        raise TargetError(f"{str(path)!r} is no flow: it has no {HANDLER}.", hint="Name the folder of one.")
    file = given or stack_file(folder)
    stack = load_stack(file) if file else Stack(functions={})
    for spec in stack.functions.values():
        if spec.handler == handler:
            return _checked(Target(spec.name, stack))
    name = re.sub(r"[^a-z0-9]+", "-", handler.stem.lower()).strip("-") or "flow"
    added = FunctionSpec(name=name, lang="faas-flow", handler=handler)
    return Target(name, replace(stack, functions={**stack.functions, name: added}))


def _checked(target: Target) -> Target:
    spec = target.spec
    if spec.mistake:
        raise TargetError(f"Function {target.name!r} cannot be run: {spec.mistake}")
    if spec.unhosted:
        raise TargetError(f"Function {target.name!r} cannot be run here: {spec.unhosted}.")
    if not spec.is_flow:
        raise TargetError(
            f"Function {target.name!r} is no flow: its lang is {target.spec.lang!r}.",
            hint=f"Serve it with `faasflow up` and call it with `faasflow invoke {target.name}`.",
        )
    return target


def _unknown(text: str, stack: Stack) -> TargetError:
    names = [spec.name for spec in flows(stack)]
    near = difflib.get_close_matches(text, names, n=1)
    known = f"Its flows are {', '.join(names)}." if names else "It lists no flow; `faasflow new NAME` adds one."
    return TargetError(
        f"There is no flow {text!r} in {stack.path}, and no folder with a {HANDLER} of this name.",
        hint=f"Did you mean {near[0]!r}?" if near else known,
    )
