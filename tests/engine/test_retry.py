"""Retries: when a failed step is tried again, with what, and what the flow does when it fails for good."""

from __future__ import annotations

import contextlib

import pytest

from faasflow import Fatal, Retry
from faasflow.errors import CallTimeoutError, NoAnswerError, TryAgainError
from faasflow.testing import FlowTester, OutgoingCall, RequestState, Response

SOON = Retry(attempts=3, delay=1.0, factor=2.0, jitter=0.0)


class LazyQueue(FlowTester):
    """A queue that delivers once, whatever comes of it."""

    def drain(self) -> None:
        while self.transport.pending:
            self._deliver(self.transport.pending.popleft())

    def _deliver(self, message) -> None:
        with contextlib.suppress(TryAgainError):
            self.engine.deliver(message.request_id, message.body)


class EagerQueue(LazyQueue):
    """A queue that delivers each message three times, and all messages it ever had whenever it delivers any."""

    def drain(self) -> None:
        pending = self.transport.pending
        self.delivered = getattr(self, "delivered", [])
        while pending:
            self.delivered += pending
            pending.clear()
            for message in [one for one in self.delivered for _ in range(3)]:
                self._deliver(message)


class Function:
    """A function that answers what it is told to, one after the other, and the last for ever. Errors are raised."""

    def __init__(self, tester: FlowTester, name: str, *answers: int | Response | Exception) -> None:
        self._clock = tester.clock
        self._answers = list(answers)
        self.times: list[float] = []
        self.calls: list[OutgoingCall] = []
        tester.answer(name, self)

    def __call__(self, call: OutgoingCall) -> Response:
        self.times.append(self._clock.now())
        self.calls.append(call)
        answer = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer if isinstance(answer, Response) else Response(answer, {}, b"from " + call.body)

    @property
    def waits(self) -> list[float]:
        """Whole seconds between the calls."""
        return [round(later - former) for former, later in zip(self.times, self.times[1:], strict=False)]

    def headers(self, name: str) -> list[str]:
        return [call.headers[name] for call in self.calls]


def calling(function: str, **options):
    """A node `a` that calls `function`, and one behind it."""

    def define(flow, context):
        dag = flow.dag()
        dag.node("a", **options).apply(function)
        dag.node("z").modify(lambda data: data)
        dag.edge("a", "z")

    return define


def node_row(tester: FlowTester, request_id: str, path: str) -> dict:
    return next(row for row in tester.engine.story(request_id)["nodes"] if row["path"] == path)


# When, and with what


@pytest.mark.parametrize("queue", [FlowTester, LazyQueue, EagerQueue])
def test_each_attempt_is_made_once_and_at_its_time_whatever_the_queue_repeats(queue) -> None:
    tester = queue(calling("fn", retry=SOON))
    asked = Response(503, {"Retry-After": "7"}, b"busy")
    function = Function(tester, "fn", asked, 500, 200)

    outcome = tester.run(b"x")

    assert (outcome.state, outcome.result) == (RequestState.FINISHED, b"from x")
    assert function.waits == [7, 2]
    assert function.headers("X-Faas-Flow-Attempt") == ["1", "2", "3"]
    assert len(set(function.headers("Idempotency-Key"))) == 3


@pytest.mark.parametrize("queue", [LazyQueue, EagerQueue])
def test_the_story_tells_every_attempt(queue) -> None:
    tester = queue(calling("fn", retry=SOON))
    function = Function(tester, "fn", Response(503, {"Retry-After": "7"}, b"busy"), 500, 200)

    outcome = tester.run(b"x")

    row = node_row(tester, outcome.request_id, "a")
    first, second = row["attempts"]
    assert (row["state"], row["attempt"]) == ("FINISHED", 3)
    assert [(one["attempt"], one["code"], one["error_type"]) for one in (first, second)] == [
        (1, 503, "CallError"),
        (2, 500, "CallError"),
    ]
    assert (first["operation"], first["message"]) == ("fn", "Function 'fn' answered 503.")
    assert first["started"] < function.times[0] < first["ended"] < second["started"] < second["ended"] < row["started"]
    assert first["next"] - first["ended"] == pytest.approx(7)
    assert second["next"] - second["ended"] == pytest.approx(2)


def test_a_step_between_two_attempts_is_told_to_be_retrying() -> None:
    tester = FlowTester(calling("fn", retry=SOON))
    Function(tester, "fn", 500, 200)
    started = tester.engine.start(b"x")
    tester.drain()

    row = node_row(tester, started.request_id, "a")

    assert (row["state"], row["ended"], len(row["attempts"])) == ("RETRYING", None, 1)


@pytest.mark.parametrize(
    ("unknown", "is_new"),
    [
        (CallTimeoutError("no answer in time"), False),
        (502, False),
        (504, False),
        (408, False),
        (500, True),
        (503, True),
        (429, True),
    ],
)
def test_the_idempotency_key_changes_only_after_an_answer_that_says_what_became_of_the_call(unknown, is_new) -> None:
    tester = FlowTester(calling("fn", retry=SOON))
    function = Function(tester, "fn", unknown, 200)

    tester.run(b"x")

    first, second = function.headers("Idempotency-Key")
    assert (first != second) is is_new
    assert function.headers("X-Faas-Flow-Attempt") == ["1", "2"]


def test_a_url_that_gave_no_answer_is_called_again_with_the_same_key() -> None:
    def define(flow, context):
        dag = flow.dag()
        dag.node("a", retry=SOON).request("http://there.test/")
        dag.node("z").modify(lambda data: data)
        dag.edge("a", "z")

    tester = FlowTester(define)
    function = Function(tester, "http://there.test/", NoAnswerError("refused"), 200)

    outcome = tester.run(b"x")

    assert outcome.result == b"from x"
    assert len(function.calls) == 2
    assert len(set(function.headers("Idempotency-Key"))) == 1


def test_the_last_attempt_fails_the_request_with_its_number() -> None:
    tester = EagerQueue(calling("fn", retry=SOON))
    function = Function(tester, "fn", 500)

    outcome = tester.run(b"x")

    assert outcome.state is RequestState.FAILED
    assert outcome.failure is not None
    assert (outcome.failure.attempt, outcome.failure.code) == (3, 500)
    assert function.waits == [1, 2]


def test_a_repeated_message_does_not_forward_a_step_that_waits_for_its_next_attempt() -> None:
    def define(flow, context):
        dag = flow.dag()
        dag.node("a").modify(lambda data: data)
        dag.node("b", retry=Retry(delay=60.0)).apply("fn")
        dag.edge("a", "b")

    tester = FlowTester(define)
    Function(tester, "fn", 500, 200)
    tester.engine.start(b"x")
    first = tester.transport.pending[0]
    tester.drain()
    tester.clock.advance(10)

    tester.engine.deliver(first.request_id, first.body)

    assert not tester.transport.pending


# What is retried


def test_fatal_ends_the_retries_at_once() -> None:
    calls: list[bytes] = []

    def refuse(data: bytes) -> bytes:
        calls.append(data)
        raise Fatal("never like this")

    def define(flow, context):
        flow.retry(SOON)
        dag = flow.dag()
        dag.node("a").modify(refuse)
        dag.node("z").modify(lambda data: data)
        dag.edge("a", "z")

    outcome = FlowTester(define).run(b"x")

    assert outcome.error == "a: Fatal: never like this"
    assert calls == [b"x"]


@pytest.mark.parametrize(
    ("codes", "answered", "calls"), [((418,), 418, 3), ((418,), 500, 1), (None, 404, 1), (None, 429, 3)]
)
def test_only_the_codes_of_the_policy_are_retried(codes, answered, calls) -> None:
    policy = SOON if codes is None else Retry(attempts=3, delay=1.0, codes=codes)
    tester = FlowTester(calling("fn", retry=policy))
    function = Function(tester, "fn", answered)

    tester.run(b"x")

    assert len(function.calls) == calls


@pytest.mark.parametrize(("raised", "calls"), [(KeyError, 3), (ValueError, 1)])
def test_only_the_exceptions_of_the_policy_are_retried(raised, calls) -> None:
    made: list[bytes] = []

    def broken(data: bytes) -> bytes:
        made.append(data)
        raise raised("broken")

    def define(flow, context):
        dag = flow.dag()
        dag.node("a", retry=Retry(attempts=3, delay=1.0, exceptions=(LookupError,))).modify(broken)
        dag.node("z").modify(lambda data: data)
        dag.edge("a", "z")

    FlowTester(define).run(b"x")

    assert len(made) == calls


def two_calls(*, own: Retry | None = None, whole: Retry | None = None):
    def define(flow, context):
        dag = flow.dag()
        dag.node("a", retry=whole).apply("first").apply("second", retry=own).apply("third")
        dag.node("z").modify(lambda data: data)
        dag.edge("a", "z")

    return define


def three_functions(tester: FlowTester, *second: int) -> list[Function]:
    return [Function(tester, "first", 200), Function(tester, "second", *second), Function(tester, "third", 200)]


@pytest.mark.parametrize("queue", [FlowTester, EagerQueue])
def test_the_policy_of_an_operation_goes_on_from_that_operation(queue) -> None:
    tester = queue(two_calls(own=SOON))
    functions = three_functions(tester, 500, 500, 200)

    outcome = tester.run(b"x")

    assert [len(function.calls) for function in functions] == [1, 3, 1]
    assert {call.body for call in functions[1].calls} == {b"from x"}
    assert outcome.result == b"from from from x"


def test_the_policy_of_a_node_runs_all_of_it_again() -> None:
    tester = FlowTester(two_calls(whole=SOON))
    functions = three_functions(tester, 500, 200)

    outcome = tester.run(b"x")

    assert [len(function.calls) for function in functions] == [2, 2, 1]
    assert len(set(functions[0].headers("Idempotency-Key"))) == 1  # its call was answered well, and is the same again
    assert outcome.result == b"from from from x"


def test_the_attempts_of_an_operation_are_not_counted_against_the_node() -> None:
    tester = FlowTester(two_calls(own=SOON, whole=SOON))
    functions = three_functions(tester, 500, 500, 200)
    functions[2] = Function(tester, "third", 500, 500, 200)

    outcome = tester.run(b"x")

    assert outcome.state is RequestState.FINISHED
    assert [len(function.calls) for function in functions] == [3, 5, 3]


def test_a_node_without_a_policy_has_that_of_the_flow() -> None:
    def define(flow, context):
        flow.retry(Retry(attempts=2, delay=1.0, jitter=0.0))
        dag = flow.dag()
        dag.node("a").apply("default")
        dag.node("b", retry=SOON).apply("own")
        dag.edge("a", "b")

    tester = FlowTester(define)
    default, own = Function(tester, "default", 500, 200), Function(tester, "own", 500)

    tester.run(b"x")

    assert [len(default.calls), len(own.calls)] == [2, 3]


def test_a_node_that_may_run_at_most_once_is_not_tried_again() -> None:
    def define(flow, context):
        flow.retry(SOON)
        dag = flow.dag()
        dag.node("a", at_most_once=True).apply("fn")
        dag.node("z").modify(lambda data: data)
        dag.edge("a", "z")

    tester = EagerQueue(define)
    function = Function(tester, "fn", 500)

    outcome = tester.run(b"x")

    assert outcome.state is RequestState.FAILED
    assert len(function.calls) == 1


@pytest.mark.parametrize("queue", [FlowTester, EagerQueue])
def test_a_flow_of_one_synchronous_node_is_tried_again_too(queue) -> None:
    tester = queue(lambda flow, context: flow.sync_node(retry=SOON).apply("fn"))
    function = Function(tester, "fn", 500, 500, 200)

    outcome = tester.run(b"x")

    assert outcome.result == b"from x"
    assert function.waits == [1, 2]


def test_a_foreach_whose_dict_is_not_given_at_first_is_tried_again() -> None:
    asked: list[bytes] = []

    def split(data: bytes) -> dict[str, bytes]:
        asked.append(data)
        if len(asked) < 3:
            raise OSError("not yet")
        return {"k": data}

    def define(flow, context):
        flow.retry(SOON)
        dag = flow.dag()
        branch = dag.foreach_branch("each", split, aggregator=lambda results: results["k"])
        branch.node("n").modify(lambda data: data)

    outcome = EagerQueue(define).run(b"x")

    assert (outcome.result, len(asked)) == (b"x", 3)


# Going on after a failure


@pytest.mark.parametrize("queue", [FlowTester, EagerQueue])
def test_a_flow_goes_on_with_empty_data_after_a_node_that_may_fail(queue) -> None:
    def define(flow, context):
        dag = flow.dag()
        dag.node("a", on_error="continue", retry=SOON).apply("fn")
        dag.node("b").modify(lambda data: data + b"|" + context.failure("a").error_type.encode())
        dag.node("c").modify(lambda data: data + (b"|none" if context.failure("b") is None else b"|some"))
        dag.edge("a", "b")
        dag.edge("b", "c")

    tester = queue(define)
    function = Function(tester, "fn", 500)

    outcome = tester.run(b"x")

    assert (outcome.state, outcome.result) == (RequestState.FINISHED, b"|CallError|none")
    assert len(function.calls) == 3
    assert node_row(tester, outcome.request_id, "a")["state"] == "FAILED"


def foreach(on_error, *, width: int = 4, seen: dict | None = None):
    """Branches 0 to `width`, of which those in the request's body fail."""
    seen = {} if seen is None else seen

    def define(flow, context):
        def gather(results: dict[str, bytes]) -> bytes:
            seen.update({key: error.error_type for key, error in context.failed_branches.items()})
            return ",".join(results).encode()

        def refuse(data: bytes) -> bytes:
            if data in context.query["fails"].encode():
                raise ValueError(f"branch {data!r}")
            return data

        dag = flow.dag()
        names = [str(number) for number in range(width)]
        branch = dag.foreach_branch(
            "each", lambda data: {name: name for name in names}, aggregator=gather, on_error=on_error
        )
        branch.node("n").modify(refuse)
        branch.node("m").modify(lambda data: data)
        branch.edge("n", "m")

    return define


@pytest.mark.parametrize("queue", [FlowTester, EagerQueue])
@pytest.mark.parametrize(
    ("on_error", "fails", "left"),
    [
        ("collect", "13", b"0,2"),
        ("collect", "0123", b""),
        (2, "13", b"0,2"),
        (0.5, "13", b"0,2"),
        (1.0, "0123", b""),
        (0, "", b"0,1,2,3"),
    ],
)
def test_a_foreach_goes_on_without_the_branches_that_may_fail(queue, on_error, fails, left) -> None:
    seen: dict[str, str] = {}
    outcome = queue(foreach(on_error, seen=seen)).run(b"x", query={"fails": fails})

    assert (outcome.state, outcome.result) == (RequestState.FINISHED, left)
    assert seen == dict.fromkeys(fails, "ValueError")


@pytest.mark.parametrize("queue", [FlowTester, EagerQueue])
@pytest.mark.parametrize(("on_error", "fails"), [(1, "13"), (0, "1"), (0.49, "13"), (0.0, "2"), (3, "0123")])
def test_more_failed_branches_than_a_foreach_tolerates_fail_the_request(queue, on_error, fails) -> None:
    outcome = queue(foreach(on_error)).run(b"x", query={"fails": fails})

    assert outcome.state is RequestState.FAILED
    assert outcome.failure is not None
    assert (outcome.failure.node, outcome.failure.error_type) == ("each", "BranchesFailedError")


def test_a_foreach_that_stops_fails_with_what_its_branch_failed_with() -> None:
    outcome = FlowTester(foreach("stop")).run(b"x", query={"fails": "2"})

    assert outcome.failure is not None
    assert (outcome.state, outcome.failure.error_type) == (RequestState.FAILED, "ValueError")


@pytest.mark.parametrize("queue", [FlowTester, EagerQueue])
def test_two_nodes_that_fail_in_one_branch_fail_it_once(queue) -> None:
    seen: dict[str, str] = {}

    def define(flow, context):
        def gather(results: dict[str, bytes]) -> bytes:
            seen.update({key: error.error_type for key, error in context.failed_branches.items()})
            return ",".join(results).encode()

        def fail(data: bytes) -> bytes:
            if data == b"bad":
                raise ValueError(data)
            return data

        dag = flow.dag()
        items = {"a": "bad", "b": "good"}
        branch = dag.foreach_branch("each", lambda data: items, aggregator=gather, on_error=1)
        branch.node("start").modify(lambda data: data)
        for side in ("left", "right"):
            branch.node(side).modify(fail)
            branch.edge("start", side)
        branch.node("end", aggregator=lambda results: b"".join(results.values())).modify(lambda data: data)
        branch.edge("left", "end")
        branch.edge("right", "end")
        dag.node("after").modify(lambda data: b"after " + data)
        dag.edge("each", "after")

    outcome = queue(define).run(b"x")

    assert (outcome.state, outcome.result) == (RequestState.FINISHED, b"after b")
    assert seen == {"a": "ValueError"}


@pytest.mark.parametrize("queue", [FlowTester, EagerQueue])
@pytest.mark.parametrize(("inner", "outer", "result"), [("collect", "stop", b"a:1,b:0 1"), (0, "collect", b"b:0 1")])
def test_the_nearest_foreach_that_tolerates_a_failure_takes_it(queue, inner, outer, result) -> None:
    def define(flow, context):
        def fail(data: bytes) -> bytes:
            if data == b"a0":
                raise ValueError(data)
            return data[1:]

        def outermost(results: dict[str, bytes]) -> bytes:
            return b",".join(key.encode() + b":" + value for key, value in results.items())

        dag = flow.dag()
        branch = dag.foreach_branch("out", lambda data: {"a": "a", "b": "b"}, aggregator=outermost, on_error=outer)
        nested = branch.foreach_branch(
            "in",
            lambda data: {number: data.decode() + number for number in "01"},
            aggregator=lambda results: b" ".join(results.values()),
            on_error=inner,
        )
        nested.node("n").modify(fail)

    outcome = queue(define).run(b"x")

    assert (outcome.state, outcome.result) == (RequestState.FINISHED, result)


def test_a_branch_is_tried_again_before_it_counts_as_failed() -> None:
    def define(flow, context):
        dag = flow.dag()
        branch = dag.foreach_branch(
            "each",
            lambda data: {"a": "a", "b": "b"},
            aggregator=lambda results: b",".join(results.values()),
            on_error="collect",
        )
        branch.node("n", retry=SOON).apply("fn")

    tester = EagerQueue(define)
    calls: list[bytes] = []

    def flaky(call: OutgoingCall) -> Response:
        calls.append(call.body)
        return Response(200 if call.body == b"a" and calls.count(b"a") == 3 else 500, {}, call.body)

    tester.answer("fn", flaky)

    outcome = tester.run(b"x")

    assert outcome.result == b"a"
    assert (calls.count(b"a"), calls.count(b"b")) == (3, 3)
