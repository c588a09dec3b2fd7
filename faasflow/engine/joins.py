"""Wide joins without a counter: arrivals are recorded in groups, so that each reads back only its own group.

Who completes a group of 64 arrives, for the group, one level up, and so on; who completes the topmost group starts
the join. An arrival therefore costs the same in a join of 10 and of 10,000, and the additional writes are at most 1
in 32. An arrival holds when what arrives was recorded, that of a group when the last of it was.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from faasflow.engine.plan import Arrival, Target
from faasflow.graph.model import ARRIVALS_OF_A_GROUP
from faasflow.naming import escape

GROUP = ARRIVALS_OF_A_GROUP


@dataclass(frozen=True, slots=True)
class Place:
    """Where one arrival is recorded: its key, the prefix of its group, how many complete the group, and
    whether the group is the only one at its level."""

    key: str
    group: str
    size: int
    is_top: bool


def stamp(time: float) -> bytes:
    """What an arrival holds; `time` is in seconds since the epoch."""
    return f"{time:.3f}".encode()


def time_of(arrivals: Iterable[bytes]) -> float:
    """When the last of these arrivals was recorded; 0 if none says so."""
    return max((float(arrival or 0) for arrival in arrivals), default=0.0)


def place(target: Target, level: int = 0) -> Place:
    """The place of an arrival at `level`; above 0 it is that of the group that the arrival completed below."""
    arrival = target.arrival
    assert arrival is not None
    index, of = _at_level(arrival, level)
    number = index // GROUP
    group = f"{target.step.arrivals}{level}.{number}/"
    who = escape(arrival.who) if level == 0 else str(index)
    return Place(group + who, group, min(GROUP, of - number * GROUP), of <= GROUP)


def _at_level(arrival: Arrival, level: int) -> tuple[int, int]:
    index, of = arrival.index, arrival.of
    for _ in range(level):
        index, of = index // GROUP, -(-of // GROUP)
    return index, of
