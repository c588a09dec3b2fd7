"""Faults put into the engine by hand, to show that the battery sees them: each goes red with it and is green without.

They stand here only, as wrappers of stores and subclasses of the engine's parts; nothing in the package knows of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import TypeVar

import msgspec

from faasflow import graph
from faasflow.engine import joins, operations, plan
from faasflow.engine.context import Context
from faasflow.engine.engine import Engine
from faasflow.engine.executor import Executor
from faasflow.engine.following import Following
from faasflow.engine.ledger import Snapshot, StoredRequest
from faasflow.engine.message import Message
from faasflow.engine.parts import Parts
from faasflow.engine.payload import EMPTY, Payload
from faasflow.engine.plan import Target
from faasflow.engine.removal import Removal
from faasflow.engine.work import Work
from faasflow.errors import TryAgainError
from faasflow.ports import Check, Create, Op, Outcome, Put, Version
from faasflow.stores.base import conflicts_of
from faasflow.testing.wrappers import StateStoreWrapper
from tests.battery.explore import Budget, Ports, Variant

T = TypeVar("T")


class ReadComparePut(StateStoreWrapper):
    """Compare-and-set in two steps: what is there is read and compared, and then written whatever is there by now."""

    def _run(self, operation: str, call: Callable[[], T], *, is_write: bool) -> T:
        return call()

    def transact(self, ops: Sequence[Op]) -> Outcome:
        guarded = [op.key for op in ops if isinstance(op, Check | Create)]
        found = self._store.read(guarded)
        conflicts = conflicts_of(ops, {key: entry.version for key, entry in found.items()})
        if conflicts:
            return Outcome(conflicts)
        blind = [Put(op.key, op.value) if isinstance(op, Create) else op for op in ops if not isinstance(op, Check)]
        return self._store.transact(blind)


class CountedArrivals(StateStoreWrapper):
    """Joins by a counter: every arrival counts one more, whoever it is that arrives. It ends at two, which is what the
    join of the diamond waits for, so that there are not endlessly many states."""

    def _run(self, operation: str, call: Callable[[], T], *, is_write: bool) -> T:
        return call()

    def transact(self, ops: Sequence[Op]) -> Outcome:
        while True:
            counted = [self._counted(op) if isinstance(op, Put) and "/arrived/" in op.key else op for op in ops]
            outcome = self._store.transact(counted)
            if not any("/arrived/" in key for key in outcome.conflicts):
                return outcome

    def _counted(self, op: Put) -> Op:
        group = op.key.rpartition("/")[0] + "/"
        count = len(self._store.read([], [group]))
        return Create(f"{group}{count}", op.value) if count < 2 else Put(f"{group}{count - 1}", op.value)


class TrustingWork(Work):
    """A join that trusts the count: what is not recorded is taken for empty."""

    def _payload(self, snapshot: Snapshot, sources: plan.Predecessors, key: str) -> Payload:
        return super()._payload(snapshot, sources, key) if key in snapshot.entries else EMPTY


class CountingFollowing(Following):
    """Starts a join when enough have been counted."""

    def _complete(self, work: Work, target: Target, entries: Mapping[str, bytes]) -> float | None:
        place = joins.place(target)
        return 0.0 if sum(key.startswith(place.group) for key in entries) >= place.size else None


class CountingExecutor(Executor):
    def __init__(self, parts: Parts) -> None:
        super().__init__(parts)
        self._settlement._following = CountingFollowing(parts)

    def work(self, message: Message, context: Context, definition: graph.Definition) -> Work:
        work = super().work(message, context, definition)
        return TrustingWork(**{item.name: getattr(work, item.name) for item in fields(Work) if item.init})


class HastyExecutor(Executor):
    """Acknowledges a message when it begins with the step, before there is an outcome."""

    ports: Ports

    def run(self, work: Work, request: StoredRequest, snapshot: Snapshot) -> None:
        self.ports.ask("acknowledge")
        super().run(work, request, snapshot)


class DeletingExecutor(Executor):
    """Deletes the value that a node works on before the node runs."""

    def _node(self, work: Work, request: StoredRequest, snapshot: Snapshot) -> bytes:
        data = work.input(snapshot)
        if work.message.data is not None and work.message.data.ref is not None:
            work.payloads._view.delete(work.message.data.ref)
        return operations.run(work.node, data, self._caller(work))


class HastyStartExecutor(Executor):
    """Records that a node starts that may run at most once, whatever outcome it has by then."""

    def _start_once(self, work: Work, request: StoredRequest) -> None:
        assert work.running is not None
        if not self._parts.leases.start_once(work.running, work.step.start, "nothing"):
            raise TryAgainError("Another delivery was faster.")


class ForwardingExecutor(Executor):
    """Parks the message of a paused request, and forwards it all the same."""

    def _park(self, work: Work, request: StoredRequest) -> None:
        super()._park(work, request)
        self._parts.forward([work.message])


class ForgetfulExecutor(Executor):
    """Carries out a message whatever request of the same id it was sent for."""

    def deliver(self, message: Message) -> None:
        stored = self._parts.ledger(message.request_id).stored()
        super().deliver(message if stored is None else msgspec.structs.replace(message, life=stored.record.life))


class UnreservedExecutor(Executor):
    """Writes the values of a start without a timer that would remove them."""

    def work(self, message: Message, context: Context, definition: graph.Definition) -> Work:
        work = super().work(message, context, definition)
        work.payloads = self._parts.payloads(message.request_id, message.life.incarnation)
        return work


class BlindRemoval(Removal):
    """Deletes whatever stands under the keys of the request by now."""

    def _commit(self, request_id: str, version: Version | None, ops: list[Op]) -> bool:
        return self._parts.state.transact(ops).committed


def with_blind_removal(parts: Parts, ports: Ports) -> Engine:
    """Makes engines that remove requests blindly."""
    engine = Engine(parts, make_incarnation=ports.incarnation)
    engine._removal = BlindRemoval(parts)
    return engine


def with_executor(kind: type[Executor]) -> Callable[[Parts, Ports], Engine]:
    """Makes engines whose deliveries are carried out by `kind`."""

    def made(parts: Parts, ports: Ports) -> Engine:
        engine = Engine(parts, make_incarnation=ports.incarnation)
        engine._executor = kind(parts)
        engine._executor.ports = ports  # type: ignore[attr-defined]
        return engine

    return made


@dataclass(frozen=True, slots=True, kw_only=True)
class Mutant:
    """A fault, the smallest exploration that shows it, and the invariants of which it breaks at least one."""

    variant: Variant
    flow: str
    budget: Budget
    breaks: frozenset[str]
    healthy: Variant = field(default_factory=Variant)


MUTANTS: Mapping[str, Mutant] = {
    "compare-and-set is read, compare, put": Mutant(
        variant=Variant(state=ReadComparePut), flow="chain", budget=Budget(doubles=1), breaks=frozenset({"I3"})
    ),
    "a join by counter": Mutant(
        variant=Variant(state=CountedArrivals, engine=with_executor(CountingExecutor)),
        flow="diamond",
        budget=Budget(doubles=1, drops=1),
        breaks=frozenset({"I4", "I8"}),
    ),
    "a message acknowledged before its outcome is recorded": Mutant(
        variant=Variant(engine=with_executor(HastyExecutor), has_clock=False),
        healthy=Variant(has_clock=False),
        flow="chain",
        budget=Budget(crashes=1, losses=False),
        breaks=frozenset({"I1"}),
    ),
    "inputs deleted before the node runs": Mutant(
        variant=Variant(engine=with_executor(DeletingExecutor), inline_limit=0),
        healthy=Variant(inline_limit=0),
        flow="chain",
        budget=Budget(crashes=1),
        breaks=frozenset({"I1"}),
    ),
    "a start that looks for no outcome": Mutant(
        variant=Variant(engine=with_executor(HastyStartExecutor)),
        flow="once",
        budget=Budget(doubles=1),
        breaks=frozenset({"I6"}),
    ),
    "messages without an incarnation": Mutant(
        variant=Variant(engine=with_executor(ForgetfulExecutor)),
        flow="chain",
        budget=Budget(doubles=1, removals=1),
        breaks=frozenset({"I22"}),
    ),
    "a start without a timer": Mutant(
        variant=Variant(engine=with_executor(UnreservedExecutor), inline_limit=0),
        healthy=Variant(inline_limit=0),
        flow="chain",
        budget=Budget(crashes=1),
        breaks=frozenset({"I12"}),
    ),
    "a removal that checks nothing": Mutant(
        variant=Variant(engine=with_blind_removal),
        flow="chain",
        budget=Budget(removals=2),
        breaks=frozenset({"I22"}),
    ),
    "a pause that also forwards": Mutant(
        variant=Variant(engine=with_executor(ForwardingExecutor)),
        flow="chain",
        budget=Budget(pauses=1),
        breaks=frozenset({"I9"}),
    ),
}
