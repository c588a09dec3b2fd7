"""What was wrong about a run that was steered: by the checker of histories, and by comparison with one that was not."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import msgspec

from faasflow.engine.lifecycle import RequestState
from tests.battery.checker import Expected, check
from tests.battery.control_run import REQUEST_ID, STOP, Run
from tests.battery.history import Acknowledged, Called, Wrote

_HANDLERS = ("finally", "on_failure")


@dataclass(frozen=True)
class Reference:
    """What a run did that nobody steered but its first client. `forwards` are those that no pause made necessary."""

    expected: Expected
    names: tuple[str, ...]
    calls: Counter[tuple[str, str, int, str]]
    notes: Counter[tuple[str, str]]
    forwards: int
    repaired: int

    @property
    def points(self) -> int:
        """How many boundaries the run has."""
        return 2 * len(self.names)


def reference_of(run: Run) -> Reference:
    """What other runs of the same flow are compared with; `AssertionError` if this one was not right itself."""
    reference = Reference(
        run.expected(),
        tuple(run.points.names),
        run.calls(),
        Counter(run.notes),
        run.forwards() - run.unparked(),
        run.repaired,
    )
    flaws = judge(run, reference)
    assert not flaws, f"Without a second client: {'; '.join(flaws)}"
    return reference


def judge(run: Run, reference: Reference) -> list[str]:
    """Everything that was wrong about a run that came to its end."""
    violations = check(run.history, {REQUEST_ID: reference.expected}, is_drained=True, left=run.left)
    return [*map(str, violations), *run.wrong, *_wrong_end(run, reference), *_wrong_closing(run)]


def _wrong_end(run: Run, reference: Reference) -> Iterator[str]:
    assert run.answer is not None
    state, is_stopped = run.answer.state, _is_stopped(run)
    wanted = RequestState.STOPPED if is_stopped else run.flow.state
    if state is not wanted:
        yield f"it is {state}, not {wanted}"
    bodies = {RequestState.FINISHED: reference.expected.result, RequestState.FAILED: b"it failed"}
    if run.answer.body != bodies.get(state):
        yield f"I1: it is {state} with {run.answer.body!r}"
    if state is RequestState.FINISHED:
        yield from _not_exact(run, reference)
    else:
        yield from _too_much(run, reference)


def _not_exact(run: Run, reference: Reference) -> Iterator[str]:
    """What a pause lost or repeated in a request that came to its end."""
    for call in reference.calls - run.calls():
        yield f"I9: lost: {call[1]!r} was not called for {call[0]!r} in attempt {call[2]}"
    for call in run.calls() - reference.calls:
        yield f"I9: repeated: {call[1]!r} was called again for {call[0]!r} in attempt {call[2]}"
    if Counter(run.notes) != reference.notes:
        yield f"I9: code of the handler ran otherwise: {Counter(run.notes)}, not {reference.notes}"
    if any(key.startswith("parked/") for key in _keys_at_the_end(run)):
        yield "I9: a message is parked still"
    forwards = run.forwards() - run.unparked()
    if forwards != reference.forwards:
        yield f"I9: {forwards} messages were forwarded beside the parked ones, not {reference.forwards}"
    if run.repaired != reference.repaired:
        yield f"I9: the clock had to forward {run.repaired} messages, not {reference.repaired}"


def _too_much(run: Run, reference: Reference) -> Iterator[str]:
    """What was done that is done in no run, in one that was cut off."""
    for call, count in run.calls().items():
        if count > 1:
            yield f"I6: {call[1]!r} was called {count} times for {call[0]!r}"
    for (what, data), count in Counter(run.notes).items():
        if what not in _HANDLERS and count > reference.notes.get((what, data), 1):
            yield f"I6: the {what} ran {count} times over {data!r}"


def _wrong_closing(run: Run) -> Iterator[str]:
    """`finally_` runs and is recorded once, and the callback is told once, both with the right end."""
    assert run.answer is not None
    state, handlers = run.answer.state, [note for note in run.notes if note[0] in _HANDLERS]
    wanted = [("finally", state.outcome)]
    if state is RequestState.FAILED:
        wanted.insert(0, ("on_failure", "left"))
    if handlers != wanted:
        yield f"I10: after the end ran {handlers}, not {wanted}"
    records = [event for event in run.history if isinstance(event, Wrote) and event.key == "node/$finally"]
    if [msgspec.json.decode(event.value or b"")["state"] for event in records if event.value] != ["FINISHED"]:
        yield f"I10: the result of finally_ was recorded {len(records)} times"
    if set(run.told) != {state.value} or (len(run.told) > 1 and not run.flow.may_repeat):
        yield f"I13: the callback was told {run.told}"
    events = {event.event for event in run.history if isinstance(event, Called) and event.event}
    if len(events) != 1:
        yield f"I13: the callback was told under {len(events)} event ids"


def _is_stopped(run: Run) -> bool:
    return any(isinstance(event, Acknowledged) and event.command == STOP for event in run.history)


def _keys_at_the_end(run: Run) -> set[str]:
    """What stood in the ledger when the request had come to its end, before its time was over."""
    keys: set[str] = set()
    for event in run.history:
        if isinstance(event, Wrote) and event.request == REQUEST_ID:
            if event.key == "request" and msgspec.json.decode(event.value or b"{}").get("is_removed"):
                break
            (keys.add if event.value is not None else keys.discard)(event.key)
    return keys
