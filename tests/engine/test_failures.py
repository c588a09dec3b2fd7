"""Whatever user code raises or returns, its node fails by name, once, and the request ends."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from faasflow.errors import (
    CallError,
    FaasflowError,
    ForwardError,
    NoAnswerError,
    StoreUnavailableError,
    TryAgainError,
    ValueTooLargeError,
)
from faasflow.events import EventHandler
from faasflow.ports import Create, Op, Outcome, Put
from faasflow.stores.memory import MemoryDataStore, MemoryStateStore
from faasflow.testing import FlowTester, RequestState, Response
from faasflow.testing.faults import FlakyStore

LARGEST_VALUE = 512 * 1024


class Cancelled(BaseException):
    """As trio.Cancelled, gevent.Timeout and the outcomes of pytest are."""


class LooksAway(StoreUnavailableError):
    """A library's or handler's own, for a store of its own."""


class Hollow(FaasflowError):
    """An error that never called its base class."""

    def __init__(self) -> None:
        pass


class Unspeakable(CallError):
    """An error whose every part is something else than it should be."""

    code: Any = "five hundred"
    retry_after: Any = 7
    hint: Any = b"no text"

    def __init__(self) -> None:
        pass

    def __str__(self) -> str:
        raise Cancelled


RAISED = [
    asyncio.CancelledError(),
    GeneratorExit(),
    StopIteration(),
    SystemExit(3),
    Cancelled(),
    StoreUnavailableError("my own store is away"),
    LooksAway("my own store is away"),
    TryAgainError("later, please"),
    ForwardError("my own queue is full"),
    NoAnswerError("my own service is away"),
    Hollow(),
    Unspeakable(),
    RecursionError(),
    MemoryError(),
]


def raising(error: BaseException) -> Callable[..., Any]:
    def code(*_: object) -> bytes:
        raise error

    return code


def echo(data: Any) -> Any:
    return data


def in_modifier(dag: Any, error: BaseException) -> None:
    dag.node("bad").modify(raising(error))


def in_forwarder(dag: Any, error: BaseException) -> None:
    dag.node("bad").modify(echo)
    dag.edge("first", "bad", forwarder=raising(error))


def in_aggregator(dag: Any, error: BaseException) -> None:
    dag.node("bad", aggregator=raising(error)).modify(echo)


def in_on_request(dag: Any, error: BaseException) -> None:
    dag.node("bad").apply("fn", on_request=raising(error))


def in_on_response(dag: Any, error: BaseException) -> None:
    dag.node("bad").apply("fn", on_response=raising(error))


def in_on_failure(dag: Any, error: BaseException) -> None:
    dag.node("bad").apply("broken", on_failure=raising(error))


def in_foreach(dag: Any, error: BaseException) -> None:
    dag.foreach_branch("bad", raising(error), aggregator=echo).node("n").modify(echo)


def in_foreach_aggregator(dag: Any, error: BaseException) -> None:
    dag.foreach_branch("bad", lambda data: {"a": b"1"}, aggregator=raising(error)).node("n").modify(echo)


def in_condition(dag: Any, error: BaseException) -> None:
    dag.conditional_branch("bad", ["yes"], raising(error), aggregator=echo)["yes"].node("n").modify(echo)


PLACES = [
    in_modifier,
    in_forwarder,
    in_aggregator,
    in_on_request,
    in_on_response,
    in_on_failure,
    in_foreach,
    in_foreach_aggregator,
    in_condition,
]


def flow_of(place: Callable[[Any, BaseException], None], error: BaseException) -> Callable[[Any, Any], None]:
    def define(flow: Any, context: Any) -> None:
        dag = flow.dag()
        dag.node("first").modify(echo)
        place(dag, error)
        if place is not in_forwarder:
            dag.edge("first", "bad")

    return define


@pytest.mark.parametrize("error", RAISED, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("place", PLACES, ids=lambda place: place.__name__)
def test_whatever_user_code_raises_fails_its_node_by_name(
    place: Callable[[Any, BaseException], None], error: BaseException
) -> None:
    tester = FlowTester(flow_of(place, error))
    tester.answer("fn", lambda call: Response(200, {}, b"fine"))
    tester.answer("broken", lambda call: Response(500, {}, b"broken"))

    outcome = tester.run(b"x")

    assert outcome.state is RequestState.FAILED
    assert outcome.failure is not None
    assert (outcome.failure.node, outcome.failure.error_type) == ("bad", type(error).__name__)
    assert [row["request_id"] for row in tester.engine.dead_letters()] == [outcome.request_id]
    assert not tester.transport.pending


@pytest.mark.parametrize("error", RAISED, ids=lambda error: type(error).__name__)
def test_whatever_closing_steps_raise_is_recorded_once_as_their_failure(error: BaseException) -> None:
    def define(flow: Any, context: Any) -> None:
        flow.dag().node("bad").modify(raising(ValueError("bad input")))
        flow.on_failure(raising(error))
        flow.finally_(raising(error))

    tester = FlowTester(define)
    outcome = tester.run(b"x")
    rows = {row["path"]: row for row in tester.engine.story(outcome.request_id)["nodes"]}

    assert outcome.failure is not None
    assert outcome.failure.error_type == "ValueError"
    assert {rows[name]["failure"].error_type for name in ("$on_failure", "$finally")} == {type(error).__name__}


@pytest.mark.parametrize("error", RAISED, ids=lambda error: type(error).__name__)
def test_whatever_an_event_handler_raises_the_request_goes_on(error: BaseException) -> None:
    class Broken(EventHandler):
        report_node_start = report_node_end = report_request_end = flush = raising(error)

    outcome = FlowTester(flow_of(in_modifier_that_works, error), events=[Broken()]).run(b"x")

    assert outcome.state is RequestState.FINISHED


def in_modifier_that_works(dag: Any, error: BaseException) -> None:
    dag.node("bad").modify(echo)


def test_ctrl_c_ends_the_process_and_not_the_node() -> None:
    tester = FlowTester(flow_of(in_modifier, KeyboardInterrupt()))

    with pytest.raises(KeyboardInterrupt):
        tester.run(b"x")

    assert not tester.engine.dead_letters()


def test_a_keyboard_interrupt_that_user_code_raises_in_a_thread_of_the_server_fails_the_node() -> None:
    tester, found = FlowTester(flow_of(in_modifier, KeyboardInterrupt())), []
    thread = threading.Thread(target=lambda: found.append(tester.run(b"x")))
    thread.start()
    thread.join(20)

    assert found[0].error.startswith("bad: KeyboardInterrupt")


@pytest.mark.parametrize("call", ["get", "set", "delete", "result"])
def test_a_store_that_is_away_when_user_code_asks_for_it_fails_no_node(call: str) -> None:
    is_away, ran = [False], []

    def define(flow: Any, context: Any) -> None:
        def use(data: bytes) -> bytes:
            is_away[0] = not ran
            ran.append(data)
            try:
                getattr(context, call)("first", *([b"1"] if call == "set" else []))
            finally:
                is_away[0] = False
            return data

        dag = flow.dag()
        dag.node("first").modify(echo)
        dag.node("use").modify(use)
        dag.edge("first", "use")

    tester = FlowTester(define, state=FlakyStore(MemoryStateStore(), before=lambda operation: is_away[0]))
    id = tester.engine.start(b"x").request_id
    tester.engine.deliver(id, tester.transport.pending.popleft().body)
    message = tester.transport.pending.popleft()
    with pytest.raises(StoreUnavailableError):
        tester.engine.deliver(id, message.body)
    tester.engine.deliver(id, message.body)

    assert tester.outcome(id).result == b"x"
    assert ran == [b"x", b"x"]


def test_a_definition_that_raises_what_the_engine_raises_is_a_mistake_of_the_definition() -> None:
    with pytest.raises(ValueError, match=r"define\(\) failed with StoreUnavailableError: the registry is away"):
        FlowTester(raising(StoreUnavailableError("the registry is away")))


class Narrow(MemoryStateStore):
    """A store that takes values of so many bytes, as Consul does, and says how large the largest was."""

    limit = LARGEST_VALUE
    largest = 0

    def transact(self, ops: Sequence[Op]) -> Outcome:
        for op in ops:
            if isinstance(op, Create | Put):
                type(self).largest = max(type(self).largest, len(op.value))
                if len(op.value) > self.limit:
                    raise ValueTooLargeError(f"{len(op.value)} bytes are more than the store takes.")
        return super().transact(ops)


def nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value


DEEP = b"[" * 3000 + b"]" * 3000
UNRECORDABLE: dict[str, Callable[[Any], Any]] = {
    "text that is no Unicode": lambda data: "caf\udce9.txt",
    "JSON with text that is no Unicode": lambda data: {"name": "caf\udce9.txt"},
    "nested too deeply": lambda data: nested(100_000),
    "an object": lambda data: object(),
}


@pytest.mark.parametrize("name", UNRECORDABLE)
def test_a_result_that_cannot_be_recorded_fails_its_node_once(name: str) -> None:
    ran = []

    def work(data: bytes) -> Any:
        ran.append(data)
        return UNRECORDABLE[name](data)

    def define(flow: Any, context: Any) -> None:
        dag = flow.dag()
        dag.node("first").modify(echo)
        dag.node("bad").modify(work)
        dag.edge("first", "bad")

    outcome = FlowTester(define).run(b"x")

    assert outcome.error.startswith("bad: DataError")
    assert ran == [b"x"]


KEYS: dict[str, Callable[[Any], Any]] = {
    "of a foreach": lambda flow: flow.dag().foreach_branch("bad", lambda data: {"caf\udce9": b"1"}, aggregator=echo),
    "of a condition": lambda flow: flow.dag().conditional_branch(
        "bad", ["yes"], lambda data: ["caf\udce9"], aggregator=echo
    )["yes"],
}


@pytest.mark.parametrize("name", KEYS)
def test_a_key_that_is_no_unicode_fails_its_node_and_is_named(name: str) -> None:
    """Seen: the delivery raised UnicodeEncodeError behind the code that records failures, and was repeated for ever."""

    def define(flow: Any, context: Any) -> None:
        KEYS[name](flow).node("n").modify(echo)

    outcome = FlowTester(define).run(b"x")

    assert outcome.error.startswith("bad: BranchError")
    assert "'caf\\udce9'" in outcome.error


@pytest.mark.parametrize("size", [1000, 20_000, 32 * 1024])
@pytest.mark.parametrize("text", ["\x01", '"', "é", "\N{GRINNING FACE}", "\xff"])
def test_a_value_takes_no_more_room_in_a_record_than_the_inline_limit(size: int, text: str) -> None:
    """Seen: 32 KiB of control characters, which JSON escapes sixfold, made records and messages of 200 KB."""
    value = (text.encode("latin-1") if text == "\xff" else text.encode()) * (size // len(text.encode()))

    def define(flow: Any, context: Any) -> None:
        dag = flow.dag()
        dag.node("a").modify(lambda data: value)
        dag.node("b").modify(echo)
        dag.edge("a", "b")

    class Measured(Narrow):
        largest = 0

    tester = FlowTester(define, state=Measured())
    outcome = tester.run(b"x")

    assert outcome.result == value
    assert Measured.largest < 32 * 1024 + 1000


@pytest.mark.parametrize(
    "branches",
    [
        {f"k{index}": b"\x01" * 1000 for index in range(2000)},
        {f"{index}" + "\x01" * 5000: b"1" for index in range(300)},
        {f"k{index}": b"x" * 40_000 for index in range(1500)},
    ],
    ids=["control characters", "long keys", "references"],
)
def test_the_records_of_a_wide_foreach_are_no_larger_than_a_store_takes(branches: dict[str, bytes]) -> None:
    def define(flow: Any, context: Any) -> None:
        branch = flow.dag().foreach_branch("each", lambda data: branches, aggregator=lambda results: str(len(results)))
        branch.node("n").modify(lambda data: b"")

    class Measured(Narrow):
        largest = 0

    outcome = FlowTester(define, state=Measured()).run(b"x")

    assert outcome.result == str(len(branches)).encode()
    assert Measured.largest < LARGEST_VALUE * 3 // 4  # in base64, as Consul's transactions take it


@pytest.mark.parametrize("kind", ["node", "foreach", "condition", "single"])
def test_an_outcome_that_the_store_refuses_for_its_size_fails_the_node(kind: str) -> None:
    class Tiny(Narrow):
        limit = 4000

    def define(flow: Any, context: Any) -> None:
        if kind == "single":
            flow.sync_node().modify(lambda data: b"x" * 5000)
            return
        dag = flow.dag()
        if kind == "node":
            dag.node("bad").modify(lambda data: b"x" * 5000)
        elif kind == "foreach":
            split = {str(index): b"x" * 100 for index in range(60)}
            dag.foreach_branch("bad", lambda data: split, aggregator=echo).node("n").modify(echo)
        else:
            options = [str(index) * 100 for index in range(60)]
            for branch in dag.conditional_branch("bad", options, lambda data: options, aggregator=echo).values():
                branch.node("n").modify(echo)

    outcome = FlowTester(define, state=Tiny()).run(b"x")

    assert outcome.state is RequestState.FAILED
    assert "ValueTooLargeError" in outcome.error


@pytest.mark.parametrize("text", ["\x01" * 50_000, "\udc80" * 50_000, "\N{GRINNING FACE}" * 50_000, '"' * 50_000])
def test_a_failure_whose_text_is_huge_is_recorded_in_a_record_of_bounded_size(text: str) -> None:
    class Measured(Narrow):
        largest = 0

    outcome = FlowTester(flow_of(in_modifier, ValueError(text)), state=Measured()).run(b"x")

    assert outcome.error.startswith("bad: ValueError")
    assert Measured.largest < 100_000


def test_a_failure_that_cannot_be_recorded_with_its_details_is_recorded_without_them() -> None:
    class Tiny(Narrow):
        limit = 2000

    def define(flow: Any, context: Any) -> None:
        dag = flow.dag()
        dag.node("first").modify(echo)
        dag.node("bad").modify(raising(ValueError("x" * 3000)))
        dag.edge("first", "bad")

    outcome = FlowTester(define, state=Tiny()).run(b"x")

    assert outcome.error.startswith("bad: ValueError: xxx")
    assert "bytes are more than the store takes" in outcome.error


def test_what_a_failed_operation_worked_on_is_left_out_where_the_data_store_refuses_it() -> None:
    class Small(MemoryDataStore):
        def set(self, key: str, value: bytes) -> None:
            if "failed" in key:
                raise ValueTooLargeError("The object is too large.")
            super().set(key, value)

    outcome = FlowTester(flow_of(in_modifier, ValueError("no")), data=Small(), inline_limit=10).run(b"x" * 100)

    assert outcome.error == "bad: ValueError: no"


def test_json_nested_thousands_deep_passes_through_a_flow_as_the_bytes_it_is() -> None:
    def define(flow: Any, context: Any) -> None:
        dag = flow.dag()
        dag.node("a").modify(lambda data: DEEP)
        dag.node("b", aggregator=lambda inputs: inputs["a"]).modify(echo)
        dag.edge("a", "b")

    assert FlowTester(define).run(b"x").result == DEEP


def test_json_nested_too_deep_for_the_annotation_of_user_code_fails_the_node() -> None:
    def read(data: list) -> list:
        return data

    def define(flow: Any, context: Any) -> None:
        dag = flow.dag()
        dag.node("bad").modify(read)

    outcome = FlowTester(define).run(DEEP)

    assert outcome.error.startswith("bad: DataError")


@pytest.mark.parametrize("value", ["caf\udce9", {"name": "caf\udce9"}, {"caf\udce9"}, nested(100_000)], ids=range(4))
def test_a_value_that_context_cannot_store_fails_the_node(value: Any) -> None:
    def define(flow: Any, context: Any) -> None:
        flow.dag().node("bad").modify(lambda data: context.set("key", value))

    outcome = FlowTester(define).run(b"x")

    assert outcome.error.startswith("bad: DataError: context.set('key')")


def test_a_key_that_is_no_unicode_serves_in_context_as_any_other() -> None:
    def define(flow: Any, context: Any) -> None:
        def use(data: bytes) -> Any:
            context.set("caf\udce9", json.loads(data))
            return context.get("caf\udce9")

        flow.dag().node("n").modify(use)

    assert FlowTester(define).run(b"[1]").result == b"[1]"
