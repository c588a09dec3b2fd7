"""Whether the timeouts of a flow and of what stands in front of it fit together.

of-watchdog ends a call after `exec_timeout`, and cuts its connection after `write_timeout` or `read_timeout`: what a
node still waits for then is lost.
"""

from __future__ import annotations

from collections.abc import Iterator

from faasflow.config import Settings
from faasflow.graph import Dag, Definition, OperationKind
from faasflow.graph.model import inner_dags


def timeout_warnings(settings: Settings, definition: Definition | None = None) -> list[str]:
    """One line for each timeout that is too short, with the one to raise; for the calls of `definition` as well, if it
    is given. Nothing where nothing stands in front of the flow."""
    if not settings.is_watched:
        return []
    return [*_connections(settings), *_calls(settings, definition)]


def _connections(settings: Settings) -> Iterator[str]:
    for name, seconds in (("read_timeout", settings.read_timeout), ("write_timeout", settings.write_timeout)):
        if 0 < seconds < settings.exec_timeout:
            yield (
                f"{name} ({seconds:g} s) cuts a delivery before exec_timeout ({settings.exec_timeout:g} s) ends it. "
                f"Raise {name} to more than {settings.exec_timeout:g} s."
            )
        elif seconds and not settings.exec_timeout:
            yield f"{name} ({seconds:g} s) cuts a delivery without an exec_timeout. Set one, and {name} above it."


def _calls(settings: Settings, definition: Definition | None) -> Iterator[str]:
    limit = settings.exec_timeout
    if not limit:
        return
    own = [] if definition is None else [*_own_timeouts(definition.root)]
    if settings.call_timeout > limit:
        yield _too_long(f"call_timeout ({settings.call_timeout:g} s)", settings.call_timeout, limit)
    if own and max(own)[0] > limit:
        seconds, node, operation = max(own)
        yield _too_long(f"The timeout of {operation!r} in node {node!r} ({seconds:g} s)", seconds, limit)


def _too_long(what: str, seconds: float, limit: float) -> str:
    return (
        f"{what} is longer than exec_timeout ({limit:g} s), which ends the delivery before. "
        f"Raise exec_timeout to more than {seconds:g} s, and read_timeout and write_timeout above it."
    )


def _own_timeouts(dag: Dag) -> Iterator[tuple[float, str, str]]:
    for node in dag.nodes.values():
        for operation in node.operations:
            if operation.kind is not OperationKind.MODIFIER and operation.timeout is not None:
                yield operation.timeout, node.id, operation.name
        for _, inner in inner_dags(node):
            yield from _own_timeouts(inner)
