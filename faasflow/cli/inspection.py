"""Looks at a flow without running it: loads its handler in a process of its own, as the gateway would, and builds the
graph for one query.

A process of its own, because handlers bear the same module names, print, and may end the process they are loaded in.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import traceback
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from faasflow.errors import DefinitionError, FaasflowError

if TYPE_CHECKING:
    from faasflow import graph
    from faasflow.local.stack import FunctionSpec, Stack

LIMIT = 60.0


class BrokenFlowError(FaasflowError, ValueError):
    """A flow that cannot be loaded or built, for this reason."""

    def __init__(self, flow: str, reason: str, *, hint: str = "") -> None:
        super().__init__(f"Flow {flow!r}: {reason}", hint=hint)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Inspection:
    """A flow that can run.

    `waits_for` has every node by its path (without the options of foreach branches), in the order of definition, with
    the paths that are done before it starts; `None` where the graph alone does not tell. `calls` has every function
    that is called, with the first node that does; `drawings` the graph by format.
    """

    waits_for: Mapping[str, list[str] | None]
    calls: Mapping[str, str]
    drawings: Mapping[str, str] = field(repr=False)

    @property
    def nodes(self) -> int:
        return len(self.waits_for)

    def missing(self, stack: Stack) -> dict[str, str]:
        """The functions it calls that the stack does not have, each with the first node that calls it."""
        return {name: node for name, node in self.calls.items() if name.partition(".")[0] not in stack.functions}


class Inspector:
    """An inspection under way; started when this is made, so that other things can be done meanwhile."""

    def __init__(self, spec: FunctionSpec, *, query: str = "") -> None:
        from faasflow.local.process import process_environment

        self._spec = spec
        command = [sys.executable, "-P", "-m", __name__, "--handler", str(spec.handler), "--name", spec.name]
        self._child = subprocess.Popen(
            [*command, "--query", query],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=process_environment(
                os.environ, {"OPENFAAS_NAME": spec.name, **spec.environment}, packages=spec.packages
            ),
        )

    def wait(self) -> Inspection:
        """What there is to know; `BrokenFlowError` says why the flow cannot run, and at which line."""
        try:
            output, errors = self._child.communicate(timeout=LIMIT)
        except subprocess.TimeoutExpired:
            raise self._broken(f"define() of its handler did not end within {LIMIT:g} s.") from None
        finally:
            self.close()
        if not output:
            last = errors.decode("utf-8", "replace").strip().rpartition("\n")[2]
            code = self._child.returncode
            raise self._broken(f"Its handler ended the process (exit code {code}). It said last: {last or 'nothing'}")
        found = json.loads(output)
        if "error" in found:
            raise self._broken(found["error"], hint=found["hint"])
        return Inspection(**found)

    def close(self) -> None:
        """End it, whatever it is doing. Calling it again is fine."""
        if self._child.poll() is None:
            self._child.kill()
        self._child.communicate()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _broken(self, reason: str, *, hint: str = "") -> BrokenFlowError:
        return BrokenFlowError(self._spec.name, reason, hint=hint)


def main() -> None:
    """The process: writes what it found as one JSON document; whatever the handler prints goes to stderr."""
    parser = argparse.ArgumentParser()
    for option in ("handler", "name", "query"):
        parser.add_argument(f"--{option}", required=True)
    options = parser.parse_args()
    output = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    json.dump(_look(Path(options.handler), options.name, options.query), output)
    output.close()


def _look(handler: Path, name: str, query: str) -> dict[str, Any]:
    from faasflow.engine.context import Context
    from faasflow.graph import outline
    from faasflow.graph.steady import steady
    from faasflow.local.packages import install_hint
    from faasflow.runtime import definer, load_handler

    try:
        define = definer(load_handler(handler).define)
        definition = steady(lambda: define(Context(name, "", query)))
    except FaasflowError as error:
        folder = handler.resolve() if handler.is_dir() else handler.resolve().parent
        hint = error.hint or install_hint(error, folder)
        return {"error": error.message + _place(error, folder), "hint": hint}
    places = outline(definition)
    return {
        "waits_for": {place.path: place.after for place in places if not place.is_virtual},
        "calls": _calls(places),
        "drawings": _draw(definition),
    }


def _place(error: BaseException, folder: Path) -> str:
    """The line of the handler's files that made the mistake, as ` (handler.py:12)`, where its text does not say it."""
    frames = traceback.extract_tb((error.__cause__ or error).__traceback__)
    files = [(Path(frame.filename), frame.lineno) for frame in frames]
    found = [f"{file.relative_to(folder)}:{line}" for file, line in files if file.is_relative_to(folder)]
    return f" ({found[-1]})" if found and isinstance(error, DefinitionError) else ""


def _calls(places: Iterable[graph.Place]) -> dict[str, str]:
    calls: dict[str, str] = {}
    for place in places:
        for function in place.functions:
            calls.setdefault(function, place.id)
    return calls


def _draw(definition: graph.Definition) -> dict[str, str]:
    from faasflow.graph.export import to_dot, to_json, to_mermaid

    exported = json.dumps(to_json(definition), indent=2)
    return {"json": exported, "mermaid": to_mermaid(definition), "dot": to_dot(definition)}


if __name__ == "__main__":
    main()
