"""Calls whose target cannot be connected to are waited for; calls whose answer got lost are attempts."""

from __future__ import annotations

import pytest

from faasflow import Retry
from faasflow.errors import CallTimeoutError, NoAnswerError, UnreachableError
from faasflow.ports import OutgoingCall, Response
from faasflow.testing import FlowTester, RequestState
from tests.engine.test_retry import EagerQueue, Function, LazyQueue, node_row

AWAY = UnreachableError("Function 'fn' cannot be connected to: Connection refused.")
LOST = NoAnswerError("Function 'fn' gave no answer: IncompleteRead.")
SOON = Retry(attempts=3, delay=1.0, factor=2.0, jitter=0.0)
URL = "http://there.test/"


def one_call(name: str, handled: list[Exception] | None = None, **options):
    """Nodes `a`, which calls a function or URL, and `z` behind it."""
    on_failure = None if handled is None else lambda error: handled.append(error) or b"fallback"

    def define(flow, context):
        dag = flow.dag()
        node = dag.node("a", **options)
        node.request(name, on_failure=on_failure) if "://" in name else node.apply(name, on_failure=on_failure)
        dag.node("z").modify(lambda data: data)
        dag.edge("a", "z")

    return define


# No connection


@pytest.mark.parametrize("queue", [FlowTester, LazyQueue, EagerQueue])
@pytest.mark.parametrize("name", ["fn", URL])
def test_a_target_that_cannot_be_connected_to_is_waited_for_with_growing_gaps(queue, name) -> None:
    handled: list[Exception] = []
    tester = queue(one_call(name, handled))
    function = Function(tester, name, AWAY, AWAY, AWAY, AWAY, 200)

    outcome = tester.run(b"x")

    assert (outcome.result, handled) == (b"from x", [])
    assert function.waits == [pytest.approx(expected, abs=1) for expected in (1, 2, 4, 8)]
    assert len(set(function.headers("Idempotency-Key"))) == 1
    assert set(function.headers("X-Faas-Flow-Attempt")) == {"1"}


def test_waiting_for_a_connection_is_no_attempt() -> None:
    tester = FlowTester(one_call("fn", retry=SOON))
    function = Function(tester, "fn", AWAY, 500, AWAY, AWAY, 500, AWAY, 200)

    outcome = tester.run(b"x")

    row = node_row(tester, outcome.request_id, "a")
    assert outcome.state is RequestState.FINISHED
    assert function.headers("X-Faas-Flow-Attempt") == ["1", "1", "2", "2", "2", "3", "3"]
    assert (row["attempt"], [one["attempt"] for one in row["attempts"]]) == (3, [1, 2])


@pytest.mark.parametrize("name", ["fn", URL])
def test_waiting_for_a_connection_ends_in_a_failure_by_name_that_no_policy_repeats(name) -> None:
    tester = FlowTester(one_call(name, retry=SOON))
    function = Function(tester, name, AWAY)

    outcome = tester.run(b"x")

    assert outcome.error == f"a: UnreachableError: {AWAY}"
    assert len(function.calls) == 15
    assert 400 < function.times[-1] - function.times[0] < 700
    assert outcome.failure is not None
    assert outcome.failure.attempt == 1


def test_on_failure_of_a_call_is_asked_when_the_wait_for_a_connection_is_over() -> None:
    handled: list[Exception] = []
    tester = FlowTester(one_call("fn", handled))
    function = Function(tester, "fn", AWAY)

    outcome = tester.run(b"x")

    assert (outcome.result, len(function.calls), handled) == (b"fallback", 15, [AWAY])


def test_a_redelivery_does_not_begin_the_wait_again() -> None:
    tester = EagerQueue(one_call("fn"))
    function = Function(tester, "fn", AWAY)

    tester.run(b"x")

    assert len(function.calls) == 15


def test_a_process_that_ends_does_not_begin_the_wait_again() -> None:
    tester = FlowTester(one_call("fn"))
    function = Function(tester, "fn", AWAY)
    started = tester.engine.start(b"x")
    for _ in range(20):
        tester.drain()
        after = FlowTester(one_call("fn"), state=tester.state, data=tester.data, clock=tester.clock)
        after.transport = tester.transport
        due = tester.engine.next_timer()
        assert due is not None
        tester.clock.sleep(max(0.0, due - tester.clock.now()))
        tester.engine.tick()
    tester.settle()

    assert tester.outcome(started.request_id).state is RequestState.FAILED
    assert len(function.calls) == 15


def test_what_a_node_did_before_the_wait_is_not_done_again() -> None:
    ran: list[bytes] = []

    def first(data: bytes) -> bytes:
        ran.append(data)
        return data + b"1"

    def define(flow, context):
        dag = flow.dag()
        dag.node("a").modify(first).apply("fn").apply("gn")
        dag.node("z").modify(lambda data: data)
        dag.edge("a", "z")

    tester = FlowTester(define)
    Function(tester, "fn", AWAY, AWAY, 200)
    other = Function(tester, "gn", AWAY, 200)

    assert tester.run(b"x").result == b"from from x1"
    assert ran == [b"x"]
    assert len(other.calls) == 2


def test_a_node_that_runs_at_most_once_fails_without_a_connection() -> None:
    tester = FlowTester(one_call("fn", at_most_once=True))
    function = Function(tester, "fn", AWAY, 200)

    assert tester.run(b"x").error == f"a: UnreachableError: {AWAY}"
    assert len(function.calls) == 1


def test_the_story_says_since_when_there_is_no_connection_and_how_often_it_was_tried() -> None:
    tester = FlowTester(one_call("fn"))
    function = Function(tester, "fn", AWAY)
    started = tester.engine.start(b"x")
    tester.drain()
    tester.clock.advance(1.5)
    tester.engine.tick()
    tester.drain()

    row = node_row(tester, started.request_id, "a")
    [place] = [place for place in tester.engine.story(started.request_id)["graph"] if place["path"] == "a"]

    assert (row["state"], row["attempts"], place["waits"]) == ("RETRYING", [], row["waits"])
    waits = row["waits"]
    assert (waits["for"], waits["tries"], waits["operation"], waits["message"]) == ("connection", 2, "fn", str(AWAY))
    assert waits["since"] <= function.times[0] < function.times[1] < waits["until"]


def test_branches_that_wait_for_a_connection_say_so() -> None:
    def define(flow, context):
        dag = flow.dag()
        dag.foreach_branch("each", lambda data: {"a": data, "b": data}, forward=False).node("in").apply("fn")

    tester = FlowTester(define)
    Function(tester, "fn", AWAY)
    started = tester.engine.start(b"x")
    tester.drain()

    places = {place["path"]: place for place in tester.engine.story(started.request_id)["graph"]}
    assert places["each/in"]["waits"]["for"] == "connection"


def test_an_error_of_user_code_is_not_taken_for_a_missing_connection() -> None:
    def broken(data: bytes) -> bytes:
        raise UnreachableError("mine")

    def define(flow, context):
        flow.sync_node().modify(broken)

    assert FlowTester(define).run(b"x").error.endswith("UnreachableError: mine")


# Lost answers


@pytest.mark.parametrize("queue", [FlowTester, LazyQueue, EagerQueue])
@pytest.mark.parametrize("name", ["fn", URL])
@pytest.mark.parametrize("lost", [LOST, CallTimeoutError("too late")])
def test_a_lost_answer_is_an_attempt_under_the_policy_with_the_same_key(queue, name, lost) -> None:
    tester = queue(one_call(name, retry=SOON))
    function = Function(tester, name, lost)

    outcome = tester.run(b"x")

    assert outcome.failure is not None
    assert (outcome.failure.error_type, outcome.failure.attempt) == (type(lost).__name__, 3)
    assert outcome.failure.is_open
    assert function.waits == [1, 2]
    assert len(set(function.headers("Idempotency-Key"))) == 1


def test_a_lost_answer_without_a_policy_fails_the_node_at_once() -> None:
    tester = FlowTester(one_call("fn"))
    function = Function(tester, "fn", LOST)

    assert tester.run(b"x").error == f"a: NoAnswerError: {LOST}"
    assert len(function.calls) == 1


def test_on_failure_of_a_call_is_asked_after_a_lost_answer() -> None:
    handled: list[Exception] = []
    tester = FlowTester(one_call("fn", handled))
    Function(tester, "fn", LOST)

    assert tester.run(b"x").result == b"fallback"
    assert handled == [LOST]


# Redirects


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_that_was_not_followed_fails_the_call_with_the_new_address(status) -> None:
    tester = FlowTester(one_call(URL))
    moved = Response(status, {"location": "http://user:password@new.test/here?token=secret#part"}, b"")
    Function(tester, URL, moved)

    assert tester.run(b"x").error == (
        f"a: CallError: URL '{URL}' answered {status} and points to 'http://…@new.test/here'."
    )


def test_a_callback_that_is_redirected_is_not_delivered() -> None:
    def define(flow, context):
        flow.sync_node().modify(lambda data: data)

    calls: list[OutgoingCall] = []

    def moved(call: OutgoingCall) -> Response:
        calls.append(call)
        if len(calls) > 1:
            return Response(200, {}, b"")
        return Response(302, {"Location": "https://user:password@hooks.test/v2/secret-path?token=x"}, b"")

    tester = FlowTester(define)
    tester.answer("http://hooks.test/secret-path", moved)
    outcome = tester.run(b"x", callback="http://hooks.test/secret-path")

    [attempt] = node_row(tester, outcome.request_id, "$callback")["attempts"]
    assert [(call.method, call.body) for call in calls] == [("POST", b"x")] * 2
    assert attempt["message"].endswith("was answered 302 and points to 'https://…@hooks.test/v2/…'.")
