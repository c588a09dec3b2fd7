"""Operations of a user's own kind."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol, cast

from faasflow import graph
from faasflow.dsl.callables import Given, check_code
from faasflow.dsl.place import Place


class CustomOperation(Protocol):
    """What `Node.add` takes: an object of your own that does one step, such as calling a gRPC service.

    `name` is shown in graphs, errors and traces. It is part of the flow's shape, so it is the same at every call of
    `define`. `run` returns the new data; it may be `async`, and its first parameter may be annotated like that of any
    code. It is repeated after a crash or an error, and `context.idempotency_key` lets the other side recognise that.

    Two more attributes are optional. `may_retry` (`True`) says whether a retry policy may run it again, after it or a
    later operation of its node failed. `properties`, a dict of texts, is shown in the exported graph and in traces:
    nothing secret belongs there.
    """

    @property
    def name(self) -> str: ...

    def run(self, data: Any, context: Any, /) -> Any: ...


def custom_operation(place: Place, node: str, given: CustomOperation) -> graph.Operation:
    """The operation that `add` of `node` asks for; `DefinitionError` for what cannot be one."""
    call = f"add() of node {node!r}"
    if isinstance(given, type):
        raise place.error(f"{call} got the class {given.__name__!r}. Give an object of it: {given.__name__}(…).")
    for member in ("name", "run"):
        if not hasattr(given, member):
            raise place.error(
                f"{call} got {type(given).__name__}, which has no {member!r}. "
                "Give an object with a name and run(data, context)."
            )
    place.check_text(given.name, call, "the name of its operation")
    check_code(place, given.run, f"run() of {given.name!r} in {call}", Given.DATA, count=2)
    may_retry = getattr(given, "may_retry", True)
    if not isinstance(may_retry, bool):
        raise place.error(f"The may_retry of {given.name!r} in {call} is {may_retry!r}. Give True or False.")
    return graph.Operation(
        graph.OperationKind.CUSTOM,
        given.name,
        code=given.run,
        may_retry=may_retry,
        properties=_properties(place, given, call),
    )


def _properties(place: Place, given: CustomOperation, call: str) -> Mapping[str, str]:
    found = getattr(given, "properties", None) or {}
    if not isinstance(found, Mapping) or not all(isinstance(one, str) for pair in found.items() for one in pair):
        raise place.error(f"The properties of {given.name!r} in {call} are {found!r}. Give a dict of texts.")
    return dict(cast("Mapping[str, str]", found))
