"""Whether a flow is the same each time it is defined, as it has to be: every delivery defines it."""

from __future__ import annotations

import itertools
from collections.abc import Callable

from faasflow.errors import DefinitionError
from faasflow.graph.model import Definition, shape

STEADY_HINT = "Ids and names must not depend on chance, on the time, or on the order of a set."


def steady(define: Callable[[], Definition]) -> Definition:
    """What `define` gives; `DefinitionError` if it does not give the same graph twice."""
    first, second = define(), define()
    if first.fingerprint != second.fingerprint:
        raise DefinitionError(unsteady(first, second), hint=STEADY_HINT)
    return first


def unsteady(one: Definition, other: Definition) -> str:
    """Says where two graphs differ that one `define` gave."""
    for left, right in itertools.zip_longest(shape(one.root), shape(other.root), fillvalue="nothing"):
        if left != right:
            return f"define() gives another graph each time: once {left.strip()[:200]}, then {right.strip()[:200]}."
    return "define() gives another graph each time."
