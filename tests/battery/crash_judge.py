"""What was wrong about a run whose workers were killed: by the checker of histories, and by comparison with a run in
which nobody died."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum

import msgspec

from faasflow import graph
from faasflow.engine import plan
from faasflow.engine.position import Step
from faasflow.errors import LostStartError
from tests.battery.checker import Expected, check, payload_sha
from tests.battery.crash_run import REQUEST_ID, Effect, Run
from tests.battery.history import Called, Wrote


class Kind(Enum):
    """What a flaw comes to."""

    LOST = "lost"
    DOUBLED = "doubled"
    WRONG = "wrong"


@dataclass(frozen=True)
class Flaw:
    """Something that was wrong about a run."""

    kind: Kind
    text: str

    def __str__(self) -> str:
        return f"{self.kind.value}: {self.text}"


Identity = tuple[str, bytes, str]
"""Who was called, with what, and in which attempt."""


@dataclass(frozen=True)
class Reference:
    """What a run did in which nobody died. `keys` counts the idempotency keys of each call."""

    expected: Expected
    keys: Mapping[Identity, int]


_KINDS = {
    "I1": Kind.LOST,
    "I3": Kind.DOUBLED,
    "I5": Kind.LOST,
    "I6": Kind.DOUBLED,
    "I7": Kind.DOUBLED,
    "I13": Kind.LOST,
}


def reference_of(run: Run, left: Iterable[str]) -> Reference:
    """What other runs of the same flow have to do; `AssertionError` if this one was not right itself."""
    calls: dict[tuple[str, str], list[str]] = defaultdict(list)
    for event in run.history:
        if isinstance(event, Called) and not event.event:
            calls[event.step, event.operation].append(event.body_sha256)
    records = [msgspec.json.decode(value) for key, value in _written(run) if key == "request"]
    expected = Expected(
        result=run.flow.result,
        calls={place: tuple(bodies) for place, bodies in calls.items()},
        results=_results(run) if run.flow.is_exact else {},
        needs=_needs(run),
        may_fail=bool(run.flow.once) or any(record["state"] == "FAILED" for record in records),
    )
    reference = Reference(expected, {identity: len(used) for identity, used in _keys(run.effects).items()})
    flaws = judge(run, reference, left)
    assert not flaws, f"Without a death: {'; '.join(map(str, flaws))}"
    return reference


def judge(run: Run, reference: Reference, left: Iterable[str]) -> list[Flaw]:
    """Everything that was wrong about a run that came to its end; `left` is what the stores still hold."""
    violations = check(run.history, {REQUEST_ID: reference.expected}, is_drained=True, left=left)
    flaws = [Flaw(_KINDS.get(one.invariant, Kind.WRONG), str(one)) for one in violations]
    return [*flaws, *_wrong_end(run), *_wrong_effects(run, reference), *_wrong_keys(run, reference)]


def _wrong_end(run: Run) -> Iterator[Flaw]:
    answer, flow = run.answer, run.flow
    if answer is None:
        yield Flaw(Kind.LOST, "the request did not come to an end")
    elif (answer.state, answer.body) != (flow.state, flow.result) and not _lost_its_start(run):
        reason = f" ({answer.failure.error_type}: {answer.failure.message})" if answer.failure else ""
        text = f"it is {answer.state} with {answer.body!r}{reason}, not {flow.state} with {flow.result!r}"
        yield Flaw(Kind.WRONG, text)


def _lost_its_start(run: Run) -> bool:
    """Whether the request failed as it may: somebody died over a node that runs at most once."""
    failure = run.answer.failure if run.answer else None
    return bool(run.flow.once and run.deaths and failure and failure.error_type == LostStartError.__name__)


def _wrong_effects(run: Run, reference: Reference) -> Iterator[Flaw]:
    seen = _keys(run.effects)
    for what, body, attempt in reference.keys:
        if (what, body, attempt) not in seen and not _lost_its_start(run):
            yield Flaw(Kind.LOST, f"{what} was never called with {body!r}")
    for what, body, attempt in seen:
        if (what, body, attempt) not in reference.keys:
            yield Flaw(Kind.WRONG, f"{what} was called with {body!r} in attempt {attempt!r}")
    # More than once needs a death in between: whoever is alive knows what it has done.
    for effect, count in Counter((one.what, one.body, one.attempt, one.key, one.life) for one in run.effects).items():
        if count > 1:
            yield Flaw(Kind.DOUBLED, f"{effect[0]} was called {count} times by one worker with {effect[1]!r}")
    if run.flow.once and sum(one.what == run.flow.once for one in run.effects) > 1:
        yield Flaw(Kind.DOUBLED, f"{run.flow.once} may be called once, and was called again")


def _wrong_keys(run: Run, reference: Reference) -> Iterator[Flaw]:
    owners: dict[str, set[tuple[str, bytes]]] = defaultdict(set)
    for (what, body, attempt), used in _keys(run.effects).items():
        usual = reference.keys.get((what, body, attempt), 1)
        if len(used) > usual:
            yield Flaw(Kind.DOUBLED, f"{what} got {len(used)} idempotency keys for {body!r}, not {usual}")
        for key in used - {""}:
            owners[key].add((what, body))
    for key, calls in owners.items():
        if len(calls) > 1:
            yield Flaw(Kind.WRONG, f"the idempotency key {key} stood for {len(calls)} calls")


def _keys(effects: Iterable[Effect]) -> dict[Identity, set[str]]:
    keys: dict[Identity, set[str]] = defaultdict(set)
    for one in effects:
        keys[one.what, one.body, one.attempt].add(one.key)
    return keys


def _written(run: Run) -> Iterator[tuple[str, bytes]]:
    for event in run.history:
        if isinstance(event, Wrote) and event.request == REQUEST_ID and event.value is not None:
            yield event.key, event.value


def _results(run: Run) -> dict[str, str]:
    """What was recorded of each node that finished."""
    records = {key: msgspec.json.decode(value) for key, value in _written(run) if key.startswith("node/")}
    return {
        key: payload_sha(record.get("result") or {})
        for key, record in records.items()
        if record["state"] == "FINISHED" and "$" not in key
    }


def _needs(run: Run) -> dict[str, tuple[str, ...]]:
    """The keys that must be recorded before each step that a message asked for."""
    return {key: tuple(_before(step, run)) for key, step in run.steps.items() if "$" not in key}


def _before(step: Step, run: Run) -> Iterator[str]:
    match plan.inputs(run.definition, step):
        case plan.BranchInput(split=split):
            yield split.key
        case plan.Predecessors(entries=entries):
            yield from (entry.key for entry in entries)
        case plan.BranchResults(split=split, body=body) as sources:
            yield split.key
            if isinstance(body, graph.Foreach):
                yield from (key for key in run.seen_keys if key.startswith(sources.prefix))
