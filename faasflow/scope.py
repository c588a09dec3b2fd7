"""What the current thread works for. The engine says so; logs, and whatever a handler prints, are marked with it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Scope:
    """A request, and the attempt at a node of it; without a `node` (its path), the request as a whole."""

    flow: str
    request_id: str
    node: str = ""
    attempt: int = 0


_current: ContextVar[Scope | None] = ContextVar("faasflow_scope", default=None)


def current_scope() -> Scope | None:
    """What this thread works for now; `None` for nothing in particular. Threads that a handler starts begin with none,
    unless they are run in a copy of its context (`contextvars.copy_context`)."""
    return _current.get()


@contextmanager
def entered(scope: Scope) -> Iterator[None]:
    """Work for `scope` within a `with`."""
    token = _current.set(scope)
    try:
        yield
    finally:
        _current.reset(token)
