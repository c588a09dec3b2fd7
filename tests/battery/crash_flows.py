"""The flows whose runs are cut off at every point: what they are, what their callers do, and how they have to end.

A function that a flow does not say otherwise of answers its body in its own name: `b` answers `a(x)` with `b(a(x))`.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from faasflow.engine.lifecycle import RequestState
from faasflow.graph import Retry
from faasflow.ports import Response
from tests.battery.crash_worker import Note

CALLBACK = "http://caller/told"
LIFETIME = 3600.0
"""Seconds that an ended request is kept."""

Define = Callable[[Any, Any], None]


class Caller(Protocol):
    """What the callers of a flow can do in a run."""

    def command(self, name: str) -> None:
        """Give a command for the request; again where the worker died before it took hold."""

    def until_called(self, function: str) -> None:
        """Let the flow go on until `function` is called."""

    def until_quiet(self) -> None:
        """Deliver what is queued, and let a minute pass twice."""

    def until_ended(self) -> None:
        """Let the flow go on until the request has ended, with all that runs after the end."""

    def until_removed(self) -> None:
        """Let the request's time be over and the clock go on until nothing of it is left."""


def to_its_end(caller: Caller) -> None:
    """What most callers do: nothing but wait."""
    caller.until_ended()


@dataclass(frozen=True)
class CrashFlow:
    """A flow, what its caller does once it is started with `x`, and its end.

    `answers` has the functions that do not just answer; they are told how many idempotency keys they have seen for this
    body. `drops` says how many messages for a step the queue loses in any case. Where it is not `is_exact`, a crash may
    decide how far the flow came before its end. `once` names a function that is never called twice; the request may
    then fail instead, with a lost start."""

    define: Callable[[Note], Define]
    result: bytes | None
    state: RequestState = RequestState.FINISHED
    script: Callable[[Caller], None] = to_its_end
    answers: Mapping[str, Callable[[int, bytes], Response]] = field(default_factory=dict)
    callback: str = ""
    drops: Mapping[str, float] = field(default_factory=dict)
    is_exact: bool = True
    once: str = ""


def _joined(results: dict[str, bytes]) -> bytes:
    return b"+".join(results.values())


def _chain(*names: str, **options: Mapping[str, Any]) -> Callable[[Note], Define]:
    """A chain of nodes that call the function of their name; `options` are those of a node, by its name."""

    def with_note(note: Note) -> Define:
        def define(flow: Any, context: Any) -> None:
            dag = flow.dag()
            for name in names:
                dag.node(name, **options.get(name, {})).apply(name)
            for source, target in itertools.pairwise(names):
                dag.edge(source, target)

        return define

    return with_note


def _diamond(note: Note) -> Define:
    def define(flow: Any, context: Any) -> None:
        dag = flow.dag()
        dag.node("first").apply("first")
        dag.node("left").apply("left")
        dag.node("right").apply("right")
        dag.node("join", aggregator=_joined).apply("join")
        for side in ("left", "right"):
            dag.edge("first", side)
            dag.edge(side, "join")

    return define


def _six(note: Note) -> Define:
    def define(flow: Any, context: Any) -> None:
        dag = flow.dag()
        for name in "abcef":
            dag.node(name).apply(name)
        dag.node("d", aggregator=_joined).apply("d")
        for source, target in ("ab", "ac", "bd", "cd", "de", "ef"):
            dag.edge(source, target)

    return define


def _foreach(**options: Any) -> Callable[[Note], Define]:
    def with_note(note: Note) -> Define:
        def define(flow: Any, context: Any) -> None:
            dag = flow.dag()
            keys = {"one": "1", "two": "22222222222", "three": "3"}
            each = dag.foreach_branch("each", lambda data: keys, aggregator=_joined, **options)
            each.node("work").apply("work")
            dag.node("last").apply("last")
            dag.edge("each", "last")

        return define

    return with_note


def _single(note: Note) -> Define:
    def define(flow: Any, context: Any) -> None:
        flow.sync_node().apply("a")

    return define


def _condition(note: Note) -> Define:
    def define(flow: Any, context: Any) -> None:
        dag = flow.dag()
        dag.node("first").apply("first")
        branches = dag.conditional_branch(
            "decide", ["low", "middle", "high"], lambda data: ["low", "high"], aggregator=_joined
        )
        for key, branch in branches.items():
            branch.node(key).apply(key)
        dag.node("last").apply("last")
        dag.edge("first", "decide")
        dag.edge("decide", "last")

    return define


def _closing(*names: str, timeout: float | None = None) -> Callable[[Note], Define]:
    """A chain with all that can run after the end of a request."""
    chain = _chain(*names)

    def with_note(note: Note) -> Define:
        def on_failure(error: Any) -> str:
            note("on_failure", error.error_type)
            return "it failed"

        def define(flow: Any, context: Any) -> None:
            chain(note)(flow, context)
            flow.on_failure(on_failure)
            flow.finally_(lambda state: note("finally", state))
            if timeout is not None:
                flow.timeout(timeout)

        return define

    return with_note


def _refused(number: int, body: bytes) -> Response:
    return Response(500, {}, b"no")


def _refused_at_first(number: int, body: bytes) -> Response:
    if number == 1:
        return Response(503, {"Retry-After": "7"}, b"not now")
    return Response(200, {}, b"b(%b)" % body)


def _refused_for_two(number: int, body: bytes) -> Response:
    return _refused(number, body) if body.startswith(b"2") else Response(200, {}, b"work(%b)" % body)


def _paused(caller: Caller) -> None:
    caller.until_called("first")
    caller.command("pause")
    caller.until_quiet()
    caller.command("resume")
    caller.until_ended()


def _stopped(caller: Caller) -> None:
    caller.until_called("a")
    caller.command("stop")
    caller.until_ended()


def _redriven(caller: Caller) -> None:
    caller.until_ended()
    caller.command("retry")
    caller.until_ended()


def _removed(caller: Caller) -> None:
    caller.until_ended()
    caller.until_removed()


FLOWS: Mapping[str, CrashFlow] = {
    "single": CrashFlow(_single, b"a(x)", callback=CALLBACK),
    "chain": CrashFlow(_chain("a", "b", "c"), b"c(b(a(x)))"),
    "diamond": CrashFlow(_diamond, b"join(left(first(x))+right(first(x)))"),
    "six": CrashFlow(_six, b"f(e(d(b(a(x))+c(a(x)))))"),
    "foreach": CrashFlow(_foreach(max_parallel=2), b"last(work(1)+work(22222222222)+work(3))"),
    "collected": CrashFlow(_foreach(on_error="collect"), b"last(work(1)+work(3))", answers={"work": _refused_for_two}),
    "condition": CrashFlow(_condition, b"last(low(first(x))+high(first(x)))"),
    "failing": CrashFlow(
        _closing("a", "b", "c"), b"it failed", RequestState.FAILED, answers={"b": _refused}, callback=CALLBACK
    ),
    "retried": CrashFlow(
        _chain("a", "b", "c", b={"retry": Retry(attempts=3)}), b"c(b(a(x)))", answers={"b": _refused_at_first}
    ),
    "once": CrashFlow(_chain("a", "b", "c", b={"at_most_once": True}), b"c(b(a(x)))", once="b"),
    "expired": CrashFlow(
        _closing("a", "b", timeout=40.0),
        b"it failed",
        RequestState.FAILED,
        callback=CALLBACK,
        drops={"node/b": math.inf},
    ),
    "repaired": CrashFlow(_diamond, b"join(left(first(x))+right(first(x)))", drops={"node/left": 1, "node/join": 1}),
    "redriven": CrashFlow(_chain("a", "b", "c"), b"c(b(a(x)))", script=_redriven, answers={"b": _refused_at_first}),
    "paused": CrashFlow(_diamond, b"join(left(first(x))+right(first(x)))", script=_paused),
    "stopped": CrashFlow(
        _closing("a", "b"), None, RequestState.STOPPED, script=_stopped, callback=CALLBACK, is_exact=False
    ),
    "removed": CrashFlow(_chain("a", "b"), b"b(a(x))", script=_removed),
}
