"""One delivery under way, and what its step works on: which records that is read from, and how it is put together."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

from faasflow import graph
from faasflow.codec import decode_each, results_type
from faasflow.engine import plan, split
from faasflow.engine.attempts import Attempts
from faasflow.engine.context import Context
from faasflow.engine.guard import user_code
from faasflow.engine.leases import Running
from faasflow.engine.ledger import INPUT, Ledger, Snapshot
from faasflow.engine.message import Message
from faasflow.engine.payload import Payload, Payloads
from faasflow.engine.position import Frame, FrameKind, Step
from faasflow.engine.records import BranchesRecord, NodeRecord, RequestRecord, load, node_error
from faasflow.engine.reports import Reports
from faasflow.engine.user_code import call_user_code, encoded_result
from faasflow.errors import BranchesFailedError, NodeError, TryAgainError
from faasflow.scope import Scope, entered


@dataclass(slots=True)
class Work:
    """One delivery under way. `extra` is recorded with its outcome; `ended` is the request, once it has ended here.
    `attempts` are those before this one; `running` holds the step's lease, if it has one."""

    message: Message
    definition: graph.Definition
    context: Context
    ledger: Ledger
    payloads: Payloads
    reports: Reports
    started: float
    extra: Mapping[str, bytes] = field(default_factory=dict)
    ended: RequestRecord | None = None
    attempts: Attempts = field(default_factory=Attempts)
    running: Running | None = None

    @contextmanager
    def delivering(self) -> Iterator[None]:
        """The time of the delivery: what is logged in it is marked with the request, and event handlers are told when
        it is over."""
        with entered(Scope(self.context.name, self.request_id)):
            try:
                yield
            finally:
                self.reports.flush()

    @property
    def request_id(self) -> str:
        return self.message.request_id

    @property
    def step(self) -> Step:
        return self.message.step

    @property
    def attempt(self) -> int:
        """The number of the attempt, without those that could not connect to what they were to call."""
        return self.message.attempt - self.attempts.unsent

    @property
    def node(self) -> graph.Node:
        """The node that the step is about."""
        return plan.node_at(self.definition, self.step)

    @property
    def leased(self) -> list[str]:
        """The keys that go when the step's outcome is recorded."""
        if self.running is None:
            return []
        leased = [self.step.lease] if self.running.held is not None else []
        return [*leased, self.running.start] if self.running.start else leased

    def own(self) -> tuple[list[str], list[str]]:
        """The keys and prefixes of what is recorded of the step itself."""
        step = self.step
        keys = [*dict.fromkeys((step.key, step.outcome, step.lease))]
        return [*keys, step.override] if self.message.life.run else keys, [step.attempts]

    def needs(self) -> tuple[list[str], list[str]]:
        """The keys and prefixes that the step's own record and its input are read from."""
        keys, prefixes = self.own()
        if self.node.at_most_once:
            keys.append(self.step.start)
        match plan.inputs(self.definition, self.step):
            case plan.RequestInput() if self.message.data is None:
                keys.append(INPUT)
            case plan.BranchInput(split=opened) if self.message.data is None:
                keys.append(opened.key)
            case plan.Predecessors() as sources if not self._brings(sources):
                keys += [entry.key for entry in sources.forwarding]
            case plan.BranchResults() as sources:
                keys.append(sources.split.key)
                if isinstance(sources.body, graph.Foreach):
                    prefixes.append(split.chunks_prefix(sources.split))
                    prefixes += [sources.prefix] if _reads_branches(sources.body) else []
                elif sources.body.forward:
                    keys += [sources.key(self.definition, self._frame(key)) for key in sources.body.dags]
        return keys, prefixes

    def input(self, snapshot: Snapshot) -> bytes:
        """What a NODE or SPLIT works on."""
        if self.step.override in snapshot.entries:
            return self.payloads.load(load(snapshot.entries[self.step.override], Payload, self.step.override))
        match plan.inputs(self.definition, self.step):
            case plan.RequestInput():
                return self.payloads.load(self.message.data or load(entry(snapshot, INPUT), Payload, INPUT))
            case plan.BranchInput(opened, frame):
                return self.payloads.load(self.message.data or self._branch_value(snapshot, opened, frame))
            case plan.Predecessors() as sources:
                return self._gathered(snapshot, sources)
        raise AssertionError("a JOIN has no input of its own")

    def joined(self, snapshot: Snapshot) -> bytes:
        """The result of a JOIN: that of its aggregator, or nothing where results are not collected."""
        sources = plan.inputs(self.definition, self.step)
        assert isinstance(sources, plan.BranchResults)
        if not _reads_branches(sources.body):
            return b""
        opened = load(entry(snapshot, sources.split.key), BranchesRecord, sources.split.key)
        results: dict[str, Payload] = {}
        failed: dict[str, NodeError] = {}
        for option, _ in split.read_branches(opened, sources.split, snapshot.entries):
            key = sources.key(self.definition, self._frame(option))
            record = load(entry(snapshot, key), NodeRecord, key)
            if record.has_failed and record.failure is not None:
                failed[option] = node_error(record.failure)
            elif sources.body.forward:
                results[option] = record.result
        if isinstance(sources.body, graph.Foreach):
            self._check_failed(sources.body, failed, opened.count)
        self.context.failed_branches = failed
        if sources.body.aggregator is None or not sources.body.forward:
            return b""
        return self._aggregated(sources.body.aggregator, self.payloads.load_each(results))

    def _check_failed(self, body: graph.Foreach, failed: Mapping[str, NodeError], of: int) -> None:
        tolerated = body.tolerated if body.tolerated is not None else 0
        allowed = tolerated if isinstance(tolerated, int) else int(tolerated * of + 1e-9)
        if len(failed) > allowed:
            option, error = next(iter(failed.items()))
            raise BranchesFailedError(
                f"{len(failed)} of {of} branches of node {self.node.id!r} failed; {allowed} may. "
                f"The first, {option!r}: {error}"
            )

    def _brings(self, sources: plan.Predecessors) -> bool:
        """Whether the message has the one result that the step works on."""
        return self.message.data is not None and len(sources.forwarding) <= 1

    def _frame(self, option: str) -> Frame:
        kind = FrameKind.FOREACH if isinstance(self.node.body, graph.Foreach) else FrameKind.CONDITION
        return Frame(self.node.id, kind, option)

    def _branch_value(self, snapshot: Snapshot, opened: Step, frame: Frame) -> Payload:
        record = load(entry(snapshot, opened.key), BranchesRecord, opened.key)
        return record.input or split.read_branch(self.ledger, record, opened, frame.index)[1]

    def _gathered(self, snapshot: Snapshot, sources: plan.Predecessors) -> bytes:
        """The results of the nodes before, edge by edge, then joined."""
        values = self.payloads.load_each(
            {source.key: self._payload(snapshot, sources, source.key) for source in sources.forwarding}
        )
        inputs = {source.id: _forwarded(source.edge, values[source.key]) for source in sources.forwarding}
        self.context.node_input = inputs
        if sources.aggregator is not None:
            return self._aggregated(sources.aggregator, inputs)
        return next(iter(inputs.values()), b"")

    def _payload(self, snapshot: Snapshot, sources: plan.Predecessors, key: str) -> Payload:
        if self.message.data is not None and self._brings(sources):
            return self.message.data
        return load(entry(snapshot, key), NodeRecord, key).result

    def _aggregated(self, aggregator: graph.Callback, inputs: Mapping[str, bytes]) -> bytes:
        what = f"Aggregator of node {self.step.position.node!r}"
        with user_code():
            return encoded_result(aggregator, decode_each(inputs, results_type(aggregator), what), what)


def _forwarded(edge: graph.Edge, value: bytes) -> bytes:
    if edge.forwarder is None:
        return value
    return call_user_code(edge.forwarder, value, f"Forwarder of edge {edge.source!r} to {edge.target!r}")


def _reads_branches(body: graph.Foreach | graph.Condition) -> bool:
    """Whether a JOIN has to look at the results of its branches."""
    if isinstance(body, graph.Foreach) and body.tolerated is not None and body.tolerated != 1.0:
        return True
    return body.forward and body.aggregator is not None


class NotRecordedError(TryAgainError):
    """A record that is read for a step is not there: the message came before its time, or the record was lost."""


def entry(snapshot: Snapshot, key: str) -> bytes:
    """A record that has to be there before this step; without it the message came before its time."""
    try:
        return snapshot.entries[key]
    except KeyError:
        raise NotRecordedError(f"{key!r} is not recorded yet.") from None
