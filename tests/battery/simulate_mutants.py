"""Faults put into the engine by hand that only one feature of the simulation shows each: where that is left out, seeds
are green in spite of the fault."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import msgspec

from faasflow.engine import operations
from faasflow.engine.closing import Closing
from faasflow.engine.executor import Executor
from faasflow.engine.flow_time import FlowTime
from faasflow.engine.leases import Leases, Running
from faasflow.engine.ledger import Commit, Ledger, StoredRequest
from faasflow.engine.operations import Caller
from faasflow.engine.work import Work
from faasflow.errors import CallError, NoAnswerError, UnreachableError
from faasflow.ports import OutgoingCall, Response
from tests.battery.simulate import APART, DOWN, KINDS, REDRIVE, TIMEOUT

_ADVANCE, _COMMIT, _SEND = Executor.advance, Ledger.commit, Closing._send
_ANSWERED = operations._answered


def _ignores_leases(self: Leases, running: Running, stood: bytes | None) -> bool:
    return stood is not None


def _trusts_leases(
    self: Ledger, request: StoredRequest, *, create: Mapping[str, bytes], delete: Any = (), **others: Any
) -> Commit:
    """Records an outcome whatever stands there, where the step was leased."""
    if any(key.startswith("lease/") for key in delete):
        others |= {"put": {**(others.get("put") or {}), **create}, "absent": ()}
        create = {}
    return _COMMIT(self, request, create=create, delete=delete, **others)


def _takes_any_answer(self: Closing, *about: Any) -> None:
    with suppress(CallError):
        _SEND(self, *about)


def _counts_old_messages(self: Executor, work: Work) -> None:
    request = work.ledger.read().request
    if request is not None:
        work.message = msgspec.structs.replace(work.message, life=request.record.life)
    _ADVANCE(self, work)


def _lets_nodes_be_late(self: Executor, work: Work, request: StoredRequest) -> None:
    pass


def _lets_requests_be_late(self: Executor, work: Work, request: StoredRequest) -> bool:
    return False


def _overwrites(
    self: Ledger, request: StoredRequest, *, create: Mapping[str, bytes], put: Any = None, **others: Any
) -> Commit:
    """Records the result of a node whatever stands there."""
    results = {key: value for key, value in create.items() if key.startswith("node/")}
    rest = {key: value for key, value in create.items() if key not in results}
    return _COMMIT(self, request, create=rest, put={**(put or {}), **results}, **others)


def _waits_for_lost_answers(call: OutgoingCall, caller: Caller) -> Response:
    """Makes a call again whose answer got lost, without counting it."""
    try:
        return _ANSWERED(call, caller)
    except NoAnswerError as error:
        raise operations._UnsentError(UnreachableError(str(error))) from error


def _starts_for_ever(work: Work) -> None:
    """Counts no start that came to nothing."""


def _repeats_for_ever(self: Executor, work: Work) -> None:
    """Counts no delivery that failed."""
    self.advance(work)


def _hears_nobody(self: FlowTime, *sign: Any, **how: Any) -> None:
    """Goes by its own clock, whatever the others say."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mutant:
    """A fault: what takes the place of what. With the kinds in `needs` alone, one of the first `seeds` breaks one of
    the invariants; with all the others none does. What else would show it is left `apart` there."""

    target: str
    does: Callable[..., Any]
    needs: frozenset[str]
    breaks: frozenset[str]
    apart: frozenset[str] = frozenset()
    seeds: int = 150


_FREEZES = frozenset({"freeze", "freeze in a call"})
_ENGINE = "faasflow.engine."

MUTANTS: Mapping[str, Mutant] = {
    "a lease that a delivery ignores": Mutant(
        target=_ENGINE + "leases.Leases.take_over",
        does=_ignores_leases,
        needs=frozenset({"slow"}),
        breaks=frozenset({"I6"}),
        apart=frozenset({"deadly"}),
    ),
    "an outcome that who held a lease records over another": Mutant(
        target=_ENGINE + "ledger.Ledger.commit",
        does=_trusts_leases,
        needs=_FREEZES,
        breaks=frozenset({"I3"}),
        apart=frozenset({"slow", "lag"}),
    ),
    "a callback that was refused and counts as delivered": Mutant(
        target=_ENGINE + "closing.Closing._send",
        does=_takes_any_answer,
        needs=frozenset({DOWN}),
        breaks=frozenset({"I13"}),
    ),
    "messages of the run before that count": Mutant(
        target=_ENGINE + "executor.Executor.advance",
        does=_counts_old_messages,
        needs=frozenset({REDRIVE, "retry"}),
        breaks=frozenset({"I2"}),
    ),
    "a node's timeout that is not recorded": Mutant(
        target=_ENGINE + "executor.Executor._expire",
        does=_lets_nodes_be_late,
        needs=frozenset({"slow"}),
        breaks=frozenset({"I1"}),
    ),
    "a request's timeout that is not recorded": Mutant(
        target=_ENGINE + "executor.Executor.overdue",
        does=_lets_requests_be_late,
        needs=frozenset({TIMEOUT}),
        breaks=frozenset({"I1"}),
    ),
    "a lost answer that is waited for like a connection": Mutant(
        target=_ENGINE + "operations._answered",
        does=_waits_for_lost_answers,
        needs=frozenset({"cut"}),
        breaks=frozenset({"I18"}),
    ),
    "a node that is started for ever": Mutant(
        target=_ENGINE + "executor._check_lost",
        does=_starts_for_ever,
        needs=frozenset({"deadly"}),
        breaks=frozenset({"I1"}),
    ),
    "a delivery that is repeated for ever": Mutant(
        target=_ENGINE + "executor.Executor._advance",
        does=_repeats_for_ever,
        needs=frozenset({"forget"}),
        breaks=frozenset({"I1"}),
    ),
    "a process that goes by its own clock": Mutant(
        target=_ENGINE + "flow_time.FlowTime._take",
        does=_hears_nobody,
        needs=frozenset({"slow", APART}),
        breaks=frozenset({"I6"}),
    ),
    "a result that is recorded over another": Mutant(
        target=_ENGINE + "ledger.Ledger.commit",
        does=_overwrites,
        needs=frozenset({"lag"}),
        breaks=frozenset({"I3"}),
        apart=frozenset(KINDS) - {"lag"},
    ),
}
