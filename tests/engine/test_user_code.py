"""How the code of a handler is called: async code, lists and keys of branches, values of the context, hints, and a
define() that does not hold still."""

from __future__ import annotations

import asyncio
import itertools
import json
import math
import os
import signal
import threading
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from faasflow import DefinitionError, Flow, Retry
from faasflow.engine.user_code import call
from faasflow.errors import DataError
from faasflow.events import Event, EventHandler
from faasflow.graph.export import to_dot, to_json, to_mermaid
from faasflow.runtime import SystemClock
from faasflow.scope import current_scope
from faasflow.testing import FlowTester, RequestState, Response
from tests.support import wait_until


def one(code: Callable[..., Any], **options: Any) -> Callable[[Any, Any], None]:
    def define(flow: Any, context: Any) -> None:
        flow.dag().node("n", **options).modify(code)

    return define


def each(split: Callable[[Any], Any]) -> Callable[[Any, Any], None]:
    def define(flow: Any, context: Any) -> None:
        flow.dag().foreach_branch("each", split, aggregator=lambda results: results).node("n").modify(bytes.upper)

    return define


async def loop_of(data: bytes) -> int:
    return id(asyncio.get_running_loop())


def test_a_thread_keeps_its_event_loop() -> None:
    assert call(loop_of, b"") == call(loop_of, b"")


def test_async_code_works_for_the_request_of_its_thread() -> None:
    async def scope(data: bytes) -> str:
        found = await asyncio.create_task(inner())
        return f"{found.flow} {found.node} {found.attempt}"

    async def inner() -> Any:
        return current_scope()

    assert FlowTester(one(scope)).run().result == b"flow n 1"


def test_what_async_code_leaves_behind_is_cancelled_before_another_request_runs() -> None:
    cancelled = []

    async def forever() -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.append(True)
            raise

    async def code(data: bytes) -> bytes:
        task = asyncio.create_task(forever())
        await asyncio.sleep(0)
        return b"" if task.done() else b"left"

    assert FlowTester(one(code)).run().result == b"left"
    assert cancelled == [True]


def test_async_code_is_cancelled_when_the_time_of_its_node_is_over() -> None:
    cancelled = threading.Event()

    async def code(data: bytes) -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.set()
            raise

    outcome = FlowTester(one(code, timeout=0.1), clock=SystemClock()).run()

    assert outcome.error == "n: NodeTimeoutError: Node 'n' did not end within 0.1 s."
    assert cancelled.is_set()


def test_a_flow_runs_where_an_event_loop_runs_already() -> None:
    async def notebook() -> bytes | None:
        return FlowTester(one(loop_of)).run().result

    assert asyncio.run(notebook())


def test_async_code_that_cancels_itself_fails_its_node() -> None:
    async def code(data: bytes) -> None:
        raise asyncio.CancelledError

    outcome = FlowTester(one(code)).run()

    assert outcome.error == "n: RuntimeError: The code was cancelled, by itself or by a task of its own."


def test_ctrl_c_ends_async_code_and_what_runs_it() -> None:
    async def code(data: bytes) -> None:
        signal.raise_signal(signal.SIGINT)
        await asyncio.sleep(60)

    former = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            FlowTester(one(code)).run()
    finally:
        signal.signal(signal.SIGINT, former)


def test_the_loop_of_a_thread_is_closed_with_it() -> None:
    loops: list[asyncio.AbstractEventLoop] = []

    async def note() -> None:
        loops.append(asyncio.get_running_loop())

    thread = threading.Thread(target=call, args=(note,))
    thread.start()
    thread.join()

    wait_until(lambda: loops[0].is_closed(), "the loop is closed")


@pytest.mark.parametrize(
    "split",
    [
        lambda data: [data, b"y"],
        lambda data: (data, b"y"),
        lambda data: iter([data, b"y"]),
        lambda data: {"a": data, "b": b"y"}.values(),
    ],
    ids=["list", "tuple", "iterator", "values"],
)
def test_a_foreach_takes_a_list_whose_positions_are_the_keys(split: Any) -> None:
    def define(flow: Any, context: Any) -> None:
        branch = flow.dag().foreach_branch("each", split, aggregator=text)
        branch.node("n").modify(bytes.upper)

    def text(results: dict[str, str]) -> dict[str, str]:
        return results

    assert FlowTester(define).run(b"x").result == b'{"0":"X","1":"Y"}'


def test_a_foreach_may_yield_its_values() -> None:
    def split(data: str) -> Any:
        yield from data

    def text(results: list[str]) -> str:
        return "-".join(results)

    def define(flow: Any, context: Any) -> None:
        flow.dag().foreach_branch("each", split, aggregator=text).node("n").modify(bytes.upper)

    assert FlowTester(define).run(b"abc").result == b"A-B-C"
    assert FlowTester(define).run(b"").result == b""


@pytest.mark.parametrize(
    ("found", "reason"),
    [
        ({1: "a"}, "returned the key 1, a int. Make it a text."),
        ({b"a": "a"}, "returned the key b'a', a bytes. Make it a text."),
        ({None: "a"}, "returned the key None, a NoneType. Make it a text."),
        ({os.fsdecode(b"caf\xe9"): "a"}, "returned the key 'caf\\udce9', which is not valid Unicode."),
        ({"a", "b"}, "returned set. Return a dict of keys and values, or a list"),
        ("text", "returned str. Return a dict"),
        (b"bytes", "returned bytes. Return a dict"),
        (5, "returned int. Return a dict"),
        ({"a": math.nan}, "for 'a', returned float, which JSON cannot hold: $ is nan"),
        ([b"a", {"b": b"c"}], "for '1', returned dict, which JSON cannot hold: $.b is bytes"),
    ],
)
def test_a_foreach_that_gives_no_branches_fails_by_name(found: Any, reason: str) -> None:
    outcome = FlowTester(each(lambda data: found)).run()

    assert outcome.state is RequestState.FAILED
    assert f"Foreach of node 'each'{'' if reason.startswith('returned') else ', '}" in outcome.error
    assert reason in outcome.error


@pytest.mark.parametrize("chosen", [1, [1], {b"a"}, ["\udce9"]])
def test_a_condition_that_chooses_what_is_no_text_fails_by_name(chosen: Any) -> None:
    def define(flow: Any, context: Any) -> None:
        flow.dag().conditional_branch("C", ["a"], lambda data: chosen, forward=False)["a"].node("n").modify(bytes.upper)

    assert FlowTester(define).run().error.startswith("C: BranchError: Condition of node 'C' ")


@dataclass
class Kept:
    name: str
    tags: list[str] = field(default_factory=list)
    count: int = 2


@pytest.mark.parametrize(
    ("value", "found"),
    [
        (b"\xff", b"\xff"),
        (bytearray(b"\xff"), b"\xff"),
        ("text", "text"),
        (None, None),
        (Kept("a"), {"name": "a", "tags": [], "count": 2}),
        (2**80, 2**80),
        ([1.5, True], [1.5, True]),
    ],
)
def test_the_context_gives_back_what_was_set(value: Any, found: Any) -> None:
    seen = []

    def define(flow: Any, context: Any) -> None:
        flow.dag().node("n").modify(lambda data: (context.set("key", value), seen.append(context.get("key")))[1])

    assert FlowTester(define).run().error == ""
    assert seen == [found]


@pytest.mark.parametrize("value", [math.nan, {"a": b"x"}, "\ud800", Kept("a", count=math.inf)])
def test_the_context_refuses_what_it_could_not_give_back(value: Any) -> None:
    def define(flow: Any, context: Any) -> None:
        flow.dag().node("n").modify(lambda data: context.set("key", value))

    assert FlowTester(define).run().error.startswith("n: DataError: context.set('key') got ")


def test_binary_results_of_several_ends_are_refused_by_name() -> None:
    def define(flow: Any, context: Any) -> None:
        dag = flow.dag()
        dag.node("start").modify(bytes.upper)
        for id in ("text", "image"):
            dag.node(id).modify(lambda data: data)
            dag.edge("start", id, forwarder=lambda data: data)

    def image(data: bytes) -> bytes:
        return b"\x89PNG"

    def with_image(flow: Any, context: Any) -> None:
        define(flow, context)
        flow.dag().node("image").modify(image)

    outcome = FlowTester(with_image).run(b"x")

    assert "The result of 'image' is binary" in outcome.error
    assert outcome.failure is not None
    assert "dag.end(aggregator=code)" in outcome.failure.hint
    assert FlowTester(define).run(b"x").result == b'{"text":"X","image":"X"}'


@pytest.mark.parametrize(
    ("code", "data", "hint"),
    [
        (lambda items: items["a"], b'{"a": 1}', "`items` has no annotation, so it is bytes; write `items: dict`."),
        (lambda items: items.append(1), b"[1]", "`items` has no annotation, so it is bytes; write `items: list`."),
        (lambda name: name.format(1), b"a{}", "`name` has no annotation, so it is bytes; write `name: str`."),
        (lambda ids: [id["a"] for id in ids], b"[1]", "`ids` has no annotation, so it is bytes; write `ids: list`."),
        (lambda name: json.dumps([name]), b"a", "`name` has no annotation, so it is bytes; write `name: str`."),
        (lambda size: {"size": size}, b"5", "`size` has no annotation, so it is bytes; write `size: int`."),
        (lambda image: image["a"], b"\xff", ""),
    ],
)
def test_code_that_is_given_bytes_for_want_of_an_annotation_is_told_so(code: Any, data: bytes, hint: str) -> None:
    outcome = FlowTester(one(code)).run(data)

    assert outcome.failure is not None
    assert outcome.failure.hint == hint


def test_an_error_that_comes_from_elsewhere_gets_no_hint() -> None:
    def annotated(data: bytes) -> None:
        data["a"]  # type: ignore[call-overload]

    def elsewhere(data: Any) -> None:
        annotated(data)

    for code in (annotated, elsewhere, lambda data: 1 / 0):
        outcome = FlowTester(one(code)).run(b"{}")
        assert outcome.failure is not None
        assert outcome.failure.hint == ""


def test_an_aggregator_without_annotation_is_told_what_its_results_are() -> None:
    def define(flow: Any, context: Any) -> None:
        branch = flow.dag().foreach_branch("each", lambda data: [{"a": 1}], aggregator=lambda found: found["0"]["a"])
        branch.node("n").modify(lambda data: data)

    failure = FlowTester(define).run().failure

    assert failure is not None
    assert failure.hint == "`found` has no annotation, so its values are bytes; write `found: dict[str, dict]`."


def test_an_aggregator_that_returns_bytes_inside_json_is_told_what_its_results_are() -> None:
    failure = FlowTester(each(lambda data: ["a"])).run().failure

    assert failure is not None
    assert "$.0 is bytes" in failure.message
    assert failure.hint == "`results` has no annotation, so its values are bytes; write `results: dict[str, str]`."


def test_a_define_that_gives_another_graph_each_time_is_refused_by_name() -> None:
    def define(flow: Any, context: Any) -> None:
        flow.dag().node(f"node-{uuid.uuid4()}").modify(bytes.upper)

    with pytest.raises(DefinitionError, match=r"define\(\) gives another graph each time: once 'node-") as raised:
        FlowTester(define)
    assert "must not depend on chance" in raised.value.hint


def test_a_define_that_changes_later_fails_the_request_by_name() -> None:
    number = itertools.count()
    is_wild = False

    def define(flow: Any, context: Any) -> None:
        dag = flow.dag()
        dag.node("a").modify(bytes.upper)
        dag.node(f"b{next(number)}" if is_wild else "b").modify(bytes.upper)
        dag.edge("a", f"b{next(number) - 1}" if is_wild else "b")

    tester = FlowTester(define)
    id = tester.engine.start(b"x").request_id
    is_wild = True
    tester.settle()

    assert "define() gives another graph each time: once" in tester.outcome(id).error


class Send:
    """A custom operation."""

    name = "send"
    properties = {"service": "grpc://pay", "isMod": "what programs read stays as it is"}  # noqa: RUF012

    def run(self, data: bytes, context: Any) -> bytes:
        return context.idempotency_key.encode()


def sending(flow: Any, context: Any) -> None:
    dag = flow.dag()
    dag.node("pay", retry=Retry(delay=0)).add(Send()).add(Send())


def test_a_custom_operation_is_shown_in_graphs_with_its_properties() -> None:
    definition = FlowTester(sending).engine.definition()
    exported = to_json(definition)["nodes"]["pay"]["operations"][0]

    assert exported["name"] == "send"
    assert exported["properties"]["service"] == ["grpc://pay"]
    assert exported["properties"]["isMod"] == ["false"]
    assert "send" in to_mermaid(definition)
    assert "send" in to_dot(definition)


def test_a_custom_operation_has_an_idempotency_key_of_its_own() -> None:
    tester = FlowTester(sending)
    first, second = (tester.run(b"x", request_id=id).result for id in ("r1", "r2"))

    assert first
    assert first != second
    assert len(first) == 32


class Lossy:
    """Does its work, and then loses the connection, so that nobody knows of it."""

    name = "lossy"

    def __init__(self, keys: list[str]) -> None:
        self.keys = keys

    def run(self, data: bytes, context: Any) -> bytes:
        self.keys.append(context.idempotency_key)
        if len(self.keys) in (1, 2, 4):
            raise ConnectionError("broken off")
        return data


def test_a_custom_operation_that_failed_is_repeated_with_the_same_key() -> None:
    keys: list[str] = []
    tester = FlowTester(
        lambda flow, context: flow.dag().node("n", retry=Retry(attempts=3, delay=0)).add(Lossy(keys)) and None
    )
    first, other = (tester.run(request_id=id) for id in ("r1", "r2"))

    assert (first.state, other.state, len(keys)) == (RequestState.FINISHED, RequestState.FINISHED, 5)
    assert len(set(keys[:3])) == 1
    assert len(set(keys[3:])) == 1
    assert keys[0] != keys[3]


def test_a_custom_operation_keeps_its_key_when_a_failed_request_is_retried() -> None:
    keys: list[str] = []
    tester = FlowTester(lambda flow, context: flow.dag().node("n").add(Lossy(keys)) and None)
    failed = tester.run(request_id="r1")
    for _ in range(2):
        tester.engine.retry("r1")
        tester.settle()

    assert failed.state is RequestState.FAILED
    assert tester.outcome("r1").state is RequestState.FINISHED
    assert len(keys) == 3
    assert len(set(keys)) == 1


class Once:
    """Must not run again, whatever happens."""

    name = "once"
    may_retry = False

    def __init__(self) -> None:
        self.runs = 0

    def run(self, data: bytes, context: Any) -> bytes:
        self.runs += 1
        return data


@pytest.mark.parametrize(
    ("order", "runs", "failures"),
    [(("once", "broken"), 1, 1), (("broken", "once"), 0, 3), (("once", "own policy"), 1, 3)],
)
def test_a_policy_never_runs_a_custom_operation_again_that_may_not_be_retried(
    order: tuple[str, str], runs: int, failures: int
) -> None:
    once = Once()
    calls: list[Any] = []

    def answer(call: Any) -> Response:
        calls.append(call)
        return Response(503, {}, b"")

    def define(flow: Any, context: Any) -> None:
        node = flow.dag().node("n", retry=Retry(attempts=3, delay=0))
        for name in order:
            if name == "once":
                node.add(once)
            else:
                node.apply("f", retry=Retry(attempts=3, delay=0) if name == "own policy" else None)

    tester = FlowTester(define)
    tester.answer("f", answer)
    outcome = tester.run(b"x")

    assert outcome.state is RequestState.FAILED
    assert (once.runs, len(calls)) == (runs, failures)


def test_a_node_that_took_too_long_is_not_run_again_if_an_operation_of_it_may_not_be_retried() -> None:
    once = Once()

    def define(flow: Any, context: Any) -> None:
        node = flow.dag().node("n", timeout=5, retry=Retry(attempts=3, delay=0)).add(once)
        node.modify(lambda data: tester.clock.sleep(6)).apply("f")

    tester = FlowTester(define)
    tester.function("f", lambda body: body)
    outcome = tester.run(b"x")

    assert outcome.failure is not None
    assert outcome.failure.error_type == "NodeTimeoutError"
    assert once.runs == 1


def test_event_handlers_receive_the_properties_of_a_custom_operation() -> None:
    found: list[Event] = []

    class Watch(EventHandler):
        def report_operation_start(self, event: Event) -> None:
            found.append(event)

    FlowTester(sending, events=[Watch()]).run()

    assert [(event.operation, event.properties) for event in found] == [("send", Send.properties)] * 2


class Odd:
    def __init__(self, **members: Any) -> None:
        self.__dict__.update({"name": "odd", "run": lambda data, context: data} | members)


class NoName:
    def run(self, data: bytes, context: Any) -> bytes:
        return data


@pytest.mark.parametrize(
    ("operation", "reason"),
    [
        (Send, "got the class 'Send'. Give an object of it: Send("),
        (NoName(), "got NoName, which has no 'name'"),
        ("send", "got str, which has no 'name'"),
        (Odd(name=""), "got '' for the name of its operation"),
        (Odd(name=5), "got 5 for the name of its operation"),
        (Odd(run=5), "run() of 'odd' in add() of node 'n' is 5"),
        (Odd(run=lambda data: data), "cannot be called with 2 arguments"),
        (Odd(may_retry="no"), "The may_retry of 'odd' in add() of node 'n' is 'no'. Give True or False."),
        (Odd(properties=["a"]), "Give a dict of texts"),
        (Odd(properties={"a": 1}), "Give a dict of texts"),
    ],
)
def test_what_is_no_operation_is_refused_where_it_is_added(operation: Any, reason: str) -> None:
    with pytest.raises(DefinitionError) as raised:
        Flow().dag().node("n").add(operation)

    assert reason in str(raised.value)


def test_a_value_that_json_cannot_hold_fails_its_node_by_its_place() -> None:
    outcome = FlowTester(one(lambda data: {"mean": math.nan})).run()

    assert outcome.failure is not None
    assert outcome.failure.error_type == DataError.__name__
    assert "$.mean is nan" in outcome.error
