"""Claims on steps that are forwarded again, so that no step is put into the queue more often than it has to be.

Many may find that a step was not begun: each double of a step before it, and each clock. Nobody can tell a message that
is lost from one that waits, so the first to create the claim forwards the step, and nobody else does. Keys, relative to
the request: `again/<run>/<step>/<attempt>.double` for whoever was delivered a double, once for each attempt, and
`again/<run>/<step>/<attempt>-<since>.<round>` for the clock, where `since` names what the clock's patience starts from:
the lease that ran out, or the last resume.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TypeVar

from faasflow.engine.ledger import REQUEST, Ledger, StoredRequest
from faasflow.engine.position import Step

AGAIN = "again/"
_AT_ONCE = 20

T = TypeVar("T")


def double_key(run: int, step: Step, attempt: int) -> str:
    """The claim of one who was delivered a double."""
    return f"{AGAIN}{run}/{step.key}/{attempt}.double"


def rounds_key(run: int, step: Step, attempt: int, since: str) -> str:
    """What the claims of clocks on a step start with, before the number of the round."""
    return f"{AGAIN}{run}/{step.key}/{attempt}-{since}."


def rounds(keys: Iterable[str]) -> dict[str, int]:
    """The last round that was claimed, by what `rounds_key` gives."""
    last: dict[str, int] = {}
    for key in keys:
        if key.startswith(AGAIN):
            head, dot, number = key.rpartition(".")
            if number.isdigit():
                last[head + dot] = max(int(number), last.get(head + dot, 0))
    return last


def claimed(ledger: Ledger, request: StoredRequest, wanted: Mapping[str, T]) -> list[T]:
    """Create the claims that are the keys of `wanted`, while the request is as it was read; the values of those that
    nobody else has created."""
    left, won = list(wanted), []
    while left:
        some = left[:_AT_ONCE]
        taken = ledger.commit(request, create=dict.fromkeys(some, b"")).conflicts
        if REQUEST in taken:
            break  # it was paused or has ended meanwhile
        if not taken:
            won += some
        left = [key for key in some if taken and key not in taken] + left[_AT_ONCE:]
    return [wanted[key] for key in won]
