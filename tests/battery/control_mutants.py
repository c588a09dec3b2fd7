"""Faults in pause, resume and stop, put in by hand, to show that steering at every boundary sees them.

They are wrappers of what the engine sees of its state store; nothing in the package knows of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import msgspec

from faasflow.ports import Check, Create, Delete, Entry, Op, Outcome, Put
from faasflow.testing.wrappers import StateStoreWrapper
from tests.battery.control_run import REQUEST_ID, Spoil

T = TypeVar("T")


class Spoiled(StateStoreWrapper):
    """Passes everything on as it is."""

    def _run(self, operation: str, call: Callable[[], T], *, is_write: bool) -> T:
        return call()


class ParksNothing(Spoiled):
    """Acknowledges the messages of a paused request, and keeps none."""

    def transact(self, ops: Sequence[Op]) -> Outcome:
        return Outcome() if any(isinstance(op, Put) and _is_parked(op.key) for op in ops) else super().transact(ops)


class RemovesNothing(Spoiled):
    """Forwards what is parked, and leaves it where it is."""

    def transact(self, ops: Sequence[Op]) -> Outcome:
        return super().transact([op for op in ops if not (isinstance(op, Delete) and _is_parked(op.key))])


class TakesFromOthers(Spoiled):
    """Forwards what was parked, though another one has removed it."""

    def transact(self, ops: Sequence[Op]) -> Outcome:
        outcome = super().transact(ops)
        return Outcome() if any(isinstance(op, Delete) and _is_parked(op.key) for op in ops) else outcome


class SeesNoPause(Spoiled):
    """Takes a paused request for a running one."""

    def read(self, keys: Sequence[str], prefixes: Sequence[str] = ()) -> dict[str, Entry]:
        found = super().read(keys, prefixes)
        return {
            key: Entry(entry.value.replace(b'"PAUSED"', b'"RUNNING"'), entry.version) if _is_request(key) else entry
            for key, entry in found.items()
        }


class IgnoresStop(Spoiled):
    """Records results whatever has become of the request."""

    def transact(self, ops: Sequence[Op]) -> Outcome:
        is_result = any(isinstance(op, Create) and "/node/" in op.key for op in ops)
        return super().transact([op for op in ops if not (is_result and isinstance(op, Check) and _is_request(op.key))])


class ComparesNothing(Spoiled):
    """Pauses and resumes whatever the request is by then."""

    def transact(self, ops: Sequence[Op]) -> Outcome:
        is_command = any(_state_in(op) in ("PAUSED", "RUNNING") for op in ops)
        kept = [op for op in ops if not (is_command and isinstance(op, Check) and op.version is not None)]
        return super().transact(kept)


class LosesClosing(Spoiled):
    """Does not record what `finally_` came to."""

    def transact(self, ops: Sequence[Op]) -> Outcome:
        is_lost = any(isinstance(op, Create) and op.key.endswith("/node/$finally") for op in ops)
        return Outcome() if is_lost else super().transact(ops)


class ForgetsCallback(Spoiled):
    """Loses the callback of a request that is paused."""

    def transact(self, ops: Sequence[Op]) -> Outcome:
        return super().transact([_changed(op, callback="") if _state_in(op) == "PAUSED" else op for op in ops])


def _is_parked(key: str) -> bool:
    return "/parked/" in key


def _is_request(key: str) -> bool:
    return key.endswith(f"/{REQUEST_ID}/request")


def _state_in(op: Op) -> str:
    """The state that an operation gives to a request."""
    if not isinstance(op, Put) or not _is_request(op.key):
        return ""
    return str(msgspec.json.decode(op.value)["state"])


def _changed(op: Op, **fields: Any) -> Op:
    assert isinstance(op, Put)
    return Put(op.key, msgspec.json.encode(msgspec.json.decode(op.value) | fields))


@dataclass(frozen=True)
class Mutant:
    """A fault, a flow and a program that show it, and what is said of it."""

    spoil: Spoil
    program: str
    says: str
    flow: str = "six"


MUTANTS: Mapping[str, Mutant] = {
    "a pause that parks nothing": Mutant(ParksNothing, "pause", "I9: lost"),
    "a resume that removes nothing of what it forwards": Mutant(RemovesNothing, "pause", "is parked still"),
    "two resumes that both forward": Mutant(TakesFromOthers, "pause, resume", "beside the parked ones", "paused"),
    "a delivery that sees no pause": Mutant(SeesNoPause, "pause", "by who began after the pause"),
    "a result that is recorded after a stop": Mutant(IgnoresStop, "stop", "I2: "),
    "a pause that brings a stopped request back": Mutant(ComparesNothing, "stop", "I2: ", "paused"),
    "a stop that does not record its end": Mutant(LosesClosing, "pause, later stop", "timers of an ended request"),
    "a pause that forgets the callback": Mutant(ForgetsCallback, "pause", "I13: "),
}
