"""One delivery under way, and what its step works on: which records that is read from, and how it is put together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from faasflow import graph
from faasflow.codec import decode_each, encode, parameter_type
from faasflow.engine import plan, split
from faasflow.engine.context import Context
from faasflow.engine.ledger import INPUT, Ledger, Snapshot
from faasflow.engine.message import Message
from faasflow.engine.operations import call_user_code
from faasflow.engine.payload import Payload, Payloads
from faasflow.engine.position import Frame, FrameKind, Step
from faasflow.engine.records import BranchesRecord, NodeRecord, RequestRecord, load
from faasflow.errors import TryAgainError


@dataclass(slots=True)
class Work:
    """One delivery under way. `extra` is recorded with its outcome; `ended` is the request, once it has ended here."""

    message: Message
    definition: graph.Definition
    context: Context
    ledger: Ledger
    payloads: Payloads
    started: float
    extra: Mapping[str, bytes] = field(default_factory=dict)
    ended: RequestRecord | None = None

    @property
    def request_id(self) -> str:
        return self.message.request_id

    @property
    def step(self) -> Step:
        return self.message.step

    @property
    def node(self) -> graph.Node:
        """The node that the step is about."""
        return plan.node_at(self.definition, self.step)

    def needs(self) -> tuple[list[str], list[str]]:
        """The keys and prefixes that the step's own record and its input are read from."""
        keys, prefixes = [self.step.key], []
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
                    prefixes = [split.chunks_prefix(sources.split)]
                    prefixes += [sources.prefix] if sources.body.forward else []
                elif sources.body.forward:
                    keys += [sources.key(self.definition, self._frame(key)) for key in sources.body.dags]
        return keys, prefixes

    def input(self, snapshot: Snapshot) -> bytes:
        """What a NODE or SPLIT works on."""
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
        if sources.body.aggregator is None or not sources.body.forward:
            return b""
        opened = load(entry(snapshot, sources.split.key), BranchesRecord, sources.split.key)
        results = {}
        for option, _ in split.read_branches(opened, sources.split, snapshot.entries):
            results[option] = self._result(snapshot, sources.key(self.definition, self._frame(option)))
        return self._aggregated(sources.body.aggregator, results)

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
        inputs = {source.id: self._forwarded(snapshot, sources, source) for source in sources.forwarding}
        self.context.node_input = inputs
        if sources.aggregator is not None:
            return self._aggregated(sources.aggregator, inputs)
        return next(iter(inputs.values()), b"")

    def _forwarded(self, snapshot: Snapshot, sources: plan.Predecessors, source: plan.Predecessor) -> bytes:
        if self.message.data is not None and self._brings(sources):
            value = self.payloads.load(self.message.data)
        else:
            value = self._result(snapshot, source.key)
        if source.edge.forwarder is None:
            return value
        what = f"Forwarder of edge {source.edge.source!r} to {source.edge.target!r}"
        return call_user_code(source.edge.forwarder, value, what)

    def _result(self, snapshot: Snapshot, key: str) -> bytes:
        return self.payloads.load(load(entry(snapshot, key), NodeRecord, key).result)

    def _aggregated(self, aggregator: graph.Callback, inputs: Mapping[str, bytes]) -> bytes:
        what = f"Aggregator of node {self.step.position.node!r}"
        return encode(aggregator(decode_each(inputs, parameter_type(aggregator), what)), what)


def entry(snapshot: Snapshot, key: str) -> bytes:
    """A record that has to be there before this step; without it the message came before its time."""
    try:
        return snapshot.entries[key]
    except KeyError:
        raise TryAgainError(f"{key!r} is not recorded yet.") from None
