"""The flows whose requests are paused, resumed and stopped at every boundary, and what their first client does to them.

All have six nodes, among them a join, a condition and a foreach that keeps one of its branches back. A function that a
flow does not say otherwise of answers its body in its own name: `b` answers `a(x)` with `b(a(x))`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from faasflow.engine.lifecycle import RequestState
from faasflow.graph import Retry
from faasflow.ports import OutgoingCall, Response
from tests.battery.flows import echo

CALLBACK = "http://target/told"

Note = Callable[[str, str], None]
"""Told when code of the handler runs: what, and on which data."""

Define = Callable[[Any, Any], None]
Answer = Callable[[OutgoingCall], Response]


class FirstClient(Protocol):
    """Who starts a request and may steer it, while a second client does what it likes."""

    def command(self, name: str) -> None:
        """Give a command for the request; it may be refused."""

    def until_called(self, function: str) -> None:
        """Let the flow go on until `function` is called, or nothing goes on."""

    def until_quiet(self) -> None:
        """Let the flow go on until nothing is queued, and then let a minute pass."""


def waits(client: FirstClient) -> None:
    """What most clients do."""


def answered(call: OutgoingCall) -> Response:
    """What a healthy function answers."""
    return Response(200, {}, echo(call.function or call.url, call.body))


@dataclass(frozen=True)
class SteeredFlow:
    """A flow, how its functions answer, what its first client does, and how a request ends that nobody stops. Where two
    may end it at a time, the callback `may_repeat`."""

    answer: Answer = answered
    options: Mapping[str, Any] | None = None
    script: Callable[[FirstClient], None] = waits
    state: RequestState = RequestState.FINISHED
    may_repeat: bool = False

    def define(self, note: Note) -> Define:
        """The handler's `define`; `note` is told when its code runs."""
        return _six(note, self.options or {})


def _six(note: Note, options: Mapping[str, Any]) -> Define:
    def parts(data: bytes) -> dict[str, bytes]:
        note("foreach", "each")
        return {key: key.encode() + data for key in ("one", "two", "three")}

    def joined(results: dict[str, bytes]) -> bytes:
        note("aggregator", " ".join(results))
        return b"[" + b"+".join(results.values()) + b"]"

    def chosen(data: bytes) -> list[str]:
        note("condition", "choose")
        return ["high"]

    def on_failure(error: Any) -> str:
        note("on_failure", error.node)
        return "it failed"

    def define(flow: Any, context: Any) -> None:
        dag = flow.dag()
        dag.node("first").apply("first")
        dag.node("left").apply("left").apply("lefter")
        each = dag.foreach_branch("each", parts, aggregator=joined, max_parallel=2)
        each.node("work").apply("work")
        dag.node("join", aggregator=joined, **options).apply("join")
        for key, branch in dag.conditional_branch("choose", ["low", "high"], chosen, aggregator=joined).items():
            branch.node(key).apply(key)
        dag.node("last").apply("last")
        for source, target in _EDGES:
            dag.edge(source, target)
        flow.on_failure(on_failure)
        flow.finally_(lambda state: note("finally", state))

    return define


_EDGES = (
    ("first", "left"),
    ("first", "each"),
    ("left", "join"),
    ("each", "join"),
    ("join", "choose"),
    ("choose", "last"),
)


def _join_refused_at_first(call: OutgoingCall) -> Response:
    if call.function == "join" and call.headers.get("X-Faas-Flow-Attempt") == "1":
        return Response(500, {}, b"not now")
    return answered(call)


def _lefter_refused(call: OutgoingCall) -> Response:
    return Response(500, {}, b"no") if call.function == "lefter" else answered(call)


def _pauses(client: FirstClient) -> None:
    client.until_called("left")
    client.command("pause")
    client.until_quiet()
    client.command("resume")


def _stops(client: FirstClient) -> None:
    client.until_called("left")
    client.command("stop")


FLOWS: Mapping[str, SteeredFlow] = {
    "six": SteeredFlow(),
    "retried": SteeredFlow(_join_refused_at_first, {"retry": Retry(attempts=3, delay=5)}),
    "failing": SteeredFlow(_lefter_refused, state=RequestState.FAILED),
    "paused": SteeredFlow(script=_pauses),
    "stopped": SteeredFlow(script=_stops, state=RequestState.STOPPED, may_repeat=True),
}
