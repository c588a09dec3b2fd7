"""Requests that failed for good: how they are listed, and how they go on."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable

import pytest

from faasflow.errors import BadRequestError, RequestConflictError, RequestNotFoundError
from faasflow.testing import FlowTester, OutgoingCall, RequestState, Response

HOOK = "https://hooks.example/end"
DAY = 86400.0


class Functions:
    """Stand-ins for functions that put their names behind what they are given; `broken` ones answer 500."""

    def __init__(self, define: Callable, names: Iterable[str], *, broken: Iterable[str] = ()) -> None:
        self.broken = set(broken)
        self.called: list[str] = []
        self.tester = FlowTester(define)
        for name in names:
            self.tester.function(name, lambda body, name=name: self._run(name, body))

    def _run(self, name: str, body: bytes) -> bytes:
        self.called.append(name)
        if name in self.broken:
            raise OSError(f"{name} is broken")
        return body + name.encode()

    def mend(self) -> FlowTester:
        """Let all work from now on, and forget who was called."""
        self.broken.clear()
        self.called.clear()
        return self.tester


def chain(flow, context):
    dag = flow.dag()
    for name in "abcd":
        dag.node(name).apply(name)
    for before, after in ("ab", "bc", "cd"):
        dag.edge(before, after)


def diamond(flow, context):
    dag = flow.dag()
    for name in "abc":
        dag.node(name).apply(name)
    dag.node("d", aggregator=lambda parts: b"+".join(parts.values())).apply("d")
    for before, after in ("ab", "ac", "bd", "cd"):
        dag.edge(before, after)


def foreach(flow, context):
    dag = flow.dag()
    dag.node("a").apply("a")
    branch = dag.foreach_branch("each", by_letter, aggregator=lambda parts: b"+".join(parts.values()))
    for name in "bc":
        branch.node(name).apply(name)
    branch.edge("b", "c")
    dag.node("d").apply("d")
    dag.edge("a", "each")
    dag.edge("each", "d")


def by_letter(text: str) -> dict[str, str]:
    return {letter: letter for letter in text}


def condition(flow, context):
    dag = flow.dag()
    cases = dag.conditional_branch("case", ["yes", "no"], lambda data: "yes", aggregator=lambda parts: parts["yes"])
    cases["no"].node("a").apply("a")
    for name in "bc":
        cases["yes"].node(name).apply(name)
    cases["yes"].edge("b", "c")
    dag.node("d").apply("d")
    dag.edge("case", "d")


def go_on(tester: FlowTester, request_id: str = "r", *, node: str = "", input: bytes | None = None) -> bytes | None:
    """Retry a request, and its result at its next end."""
    assert tester.engine.retry(request_id, node=node, input=input) is RequestState.RUNNING
    tester.settle()
    outcome = tester.outcome(request_id)
    assert outcome.state is RequestState.FINISHED, outcome.error
    return outcome.result


def rows(tester: FlowTester) -> dict[str, dict]:
    return {row["path"]: row for row in tester.engine.story("r")["nodes"]}


# What is listed


def test_a_dead_letter_says_which_node_failed_and_why() -> None:
    tester = Functions(chain, "abcd", broken="c").tester
    tester.run(request_id="r")

    (row,) = tester.engine.dead_letters()

    assert (row["request_id"], row["state"]) == ("r", RequestState.FAILED)
    assert (row["node"], row["error_type"], row["attempt"]) == ("c", "CallError", 1)
    assert row["operation"] == "c"
    assert row["message"] == "Function 'c' answered 500."
    assert row["created"] <= row["ended"]


def test_dead_letters_are_listed_page_by_page_the_last_that_failed_first() -> None:
    functions = Functions(chain, "abcd", broken="b")
    for number in range(5):
        functions.tester.run(request_id=str(number))
        functions.tester.clock.advance(1)
    functions.broken.clear()
    functions.tester.run(request_id="fine")

    pages, after = [], ""
    while page := functions.tester.engine.dead_letters(limit=2, after=after):
        pages.append([row["request_id"] for row in page])
        after = page[-1]["cursor"]

    assert pages == [["4", "3"], ["2", "1"], ["0"]]


def test_a_request_that_goes_on_is_no_dead_letter_any_more() -> None:
    functions = Functions(chain, "abcd", broken="b")
    functions.tester.run(request_id="r")
    tester = functions.mend()

    tester.engine.retry("r")

    assert tester.engine.dead_letters() == []
    tester.settle()
    assert tester.engine.dead_letters() == []


def test_a_request_that_fails_again_is_one_dead_letter() -> None:
    tester = Functions(chain, "abcd", broken="b").tester
    tester.run(request_id="r")
    tester.clock.advance(10)

    tester.engine.retry("r")
    tester.settle()

    assert [row["request_id"] for row in tester.engine.dead_letters()] == ["r"]


def test_a_removed_request_is_no_dead_letter() -> None:
    tester = Functions(chain, "abcd", broken="b").tester
    tester.run(request_id="r")

    tester.engine.remove("r")

    assert tester.engine.dead_letters() == []


# Going on from the node that failed


def test_a_request_goes_on_from_the_node_that_failed() -> None:
    functions = Functions(chain, "abcd", broken="c")
    functions.tester.run(b"<", request_id="r")
    tester = functions.mend()

    assert go_on(tester) == b"<abcd"

    assert functions.called == ["c", "d"]
    assert tester.outcome("r").failure is None


def test_the_failed_attempt_stays_in_the_story_and_the_run_has_a_number() -> None:
    functions = Functions(chain, "abcd", broken="c")
    functions.tester.run(request_id="r")
    assert functions.tester.engine.story("r")["run"] == 0
    go_on(functions.mend())

    assert functions.tester.engine.story("r")["run"] == 1
    row = rows(functions.tester)["c"]
    assert row["attempt"] == 2
    assert [(one["attempt"], one["error_type"], one["code"]) for one in row["attempts"]] == [(1, "CallError", 500)]


def test_a_call_of_the_next_run_has_another_idempotency_key() -> None:
    functions = Functions(chain, "abcd", broken="c")
    functions.tester.run(request_id="r")
    go_on(functions.mend())

    first, second = (call.headers["Idempotency-Key"] for call in functions.tester.calls("c"))
    assert first != second


def test_branches_that_were_not_reached_run_when_the_request_goes_on() -> None:
    functions = Functions(diamond, "abcd", broken="b")
    functions.tester.run(b"<", request_id="r")
    assert functions.called == ["a", "b"]
    tester = functions.mend()

    assert go_on(tester) == b"<ab+<acd"

    assert sorted(functions.called) == ["b", "c", "d"]


def test_finished_branches_of_a_foreach_are_not_run_again() -> None:
    functions = Functions(foreach, "abcd", broken="d")
    functions.tester.run(b"xy", request_id="r")
    tester = functions.mend()

    assert go_on(tester) == b"xbc+ybc+abcd"

    assert functions.called == ["d"]


def test_one_branch_of_a_foreach_goes_on() -> None:
    functions = Functions(foreach, "abcd")
    is_broken = True

    def fails_for_y(body: bytes) -> bytes:
        functions.called.append("c")
        if is_broken and body == b"yb":
            raise OSError("not this one")
        return body + b"c"

    functions.tester.function("c", fails_for_y)
    functions.tester.run(b"yx", request_id="r")
    assert functions.tester.engine.dead_letters()[0]["node"] == "each/c@y"
    is_broken = False
    tester = functions.mend()

    assert go_on(tester) == b"ybc+xbc+abcd"

    assert functions.called.count("a") == 0
    assert functions.called.count("b") <= 1  # that of x may not have run before the end


def test_attempts_of_a_foreach_are_not_those_of_its_branches() -> None:
    is_broken = True

    def joined(parts: dict[str, bytes]) -> bytes:
        if is_broken:
            raise ValueError("no")
        return b"+".join(parts.values())

    def define(flow, context):
        branch = flow.dag().foreach_branch("each", by_letter, aggregator=joined)
        branch.node("b").apply("b")

    functions = Functions(define, "b", broken="b")
    functions.tester.run(b"x", request_id="r")
    functions.mend()
    functions.tester.engine.retry("r")
    functions.tester.settle()
    assert functions.tester.engine.dead_letters()[0]["node"] == "each"
    is_broken = False

    assert go_on(functions.tester) == b"xb"
    assert [one["attempt"] for one in rows(functions.tester)["each"]["attempts"]] == [1]
    assert [one["attempt"] for one in rows(functions.tester)["each/b@x"]["attempts"]] == [1]


def test_an_aggregator_that_failed_runs_again_over_the_recorded_branches() -> None:
    is_broken = True

    def joined(parts: dict[str, bytes]) -> bytes:
        if is_broken:
            raise ValueError("no")
        return b"+".join(parts.values())

    def define(flow, context):
        branch = flow.dag().foreach_branch("each", by_letter, aggregator=joined)
        branch.node("b").apply("b")

    functions = Functions(define, "b")
    functions.tester.run(b"xy", request_id="r")
    is_broken = False

    assert go_on(functions.mend()) == b"xb+yb"
    assert functions.called == []


def test_a_chooser_of_branches_that_failed_runs_again() -> None:
    is_broken = True

    def choose(text: str) -> dict[str, str]:
        if is_broken:
            raise ValueError("no")
        return by_letter(text)

    def define(flow, context):
        branch = flow.dag().foreach_branch("each", choose, aggregator=lambda parts: b"+".join(parts.values()))
        branch.node("b").apply("b")

    functions = Functions(define, "b")
    functions.tester.run(b"xy", request_id="r")
    is_broken = False

    assert go_on(functions.mend()) == b"xb+yb"


def test_a_request_goes_on_as_often_as_it_fails() -> None:
    functions = Functions(chain, "abcd", broken="bd")
    functions.tester.run(b"<", request_id="r")
    tester = functions.tester
    for _ in range(3):
        tester.engine.retry("r")
        tester.settle()
        assert tester.outcome("r").state is RequestState.FAILED
    functions.broken = {"d"}
    tester.engine.retry("r")
    tester.settle()
    tester = functions.mend()

    assert go_on(tester) == b"<abcd"

    assert len(rows(tester)["b"]["attempts"]) == 4
    assert len(rows(tester)["d"]["attempts"]) == 1
    assert tester.engine.story("r")["run"] == 5


def test_given_input_replaces_that_of_the_node_that_failed() -> None:
    functions = Functions(chain, "abcd", broken="c")
    functions.tester.run(b"<", request_id="r")

    assert go_on(functions.mend(), input=b"new:") == b"new:cd"
    assert functions.called == ["c", "d"]


def test_large_given_input_takes_the_way_of_large_values() -> None:
    functions = Functions(chain, "abcd", broken="c")
    functions.tester.run(b"<", request_id="r")

    assert go_on(functions.mend(), input=b"x" * 100_000) == b"x" * 100_000 + b"cd"


def test_given_input_stays_when_the_node_fails_again() -> None:
    functions = Functions(chain, "abcd", broken="c")
    functions.tester.run(b"<", request_id="r")
    functions.tester.engine.retry("r", input=b"new:")
    functions.tester.settle()

    assert go_on(functions.mend()) == b"new:cd"


def test_input_given_later_replaces_input_given_before() -> None:
    functions = Functions(chain, "abcd", broken="c")
    functions.tester.run(b"<", request_id="r")
    functions.tester.engine.retry("r", input=b"wrong:")
    functions.tester.settle()

    assert go_on(functions.mend(), input=b"right:") == b"right:cd"


# Going on from an earlier node


def test_an_earlier_node_of_a_chain_runs_again_with_all_behind_it() -> None:
    functions = Functions(chain, "abcd", broken="d")
    functions.tester.run(b"<", request_id="r")
    tester = functions.mend()

    assert go_on(tester, node="b", input=b"new:") == b"new:bcd"

    assert functions.called == ["b", "c", "d"]


def test_the_first_node_runs_again_with_the_input_of_the_request() -> None:
    functions = Functions(chain, "abcd", broken="d")
    functions.tester.run(b"<", request_id="r")

    assert go_on(functions.mend(), node="a") == b"<abcd"
    assert functions.called == ["a", "b", "c", "d"]


def test_one_side_of_a_diamond_runs_again_and_is_joined_with_the_other_as_recorded() -> None:
    functions = Functions(diamond, "abcd", broken="d")
    functions.tester.run(b"<", request_id="r")
    tester = functions.mend()

    assert go_on(tester, node="b", input=b"new:") == b"new:b+<acd"

    assert functions.called == ["b", "d"]


def test_a_node_in_a_branch_of_a_foreach_runs_again_and_the_other_branches_do_not() -> None:
    functions = Functions(foreach, "abcd", broken="d")
    functions.tester.run(b"xy", request_id="r")
    tester = functions.mend()

    assert go_on(tester, node="each/b@y", input=b"new:") == b"xbc+new:bc+abcd"

    assert functions.called == ["b", "c", "d"]


def test_a_foreach_runs_again_as_a_whole() -> None:
    functions = Functions(foreach, "abcd", broken="d")
    functions.tester.run(b"xyz", request_id="r")
    tester = functions.mend()

    assert go_on(tester, node="each", input=b"pq") == b"pbc+qbcd"

    assert sorted(functions.called) == ["b", "b", "c", "c", "d"]
    assert "each/b@x" not in rows(tester)


def test_a_foreach_of_which_a_branch_failed_runs_again_as_a_whole() -> None:
    functions = Functions(foreach, "abcd", broken="c")
    functions.tester.run(b"xy", request_id="r")
    tester = functions.mend()

    assert go_on(tester, node="each", input=b"pq") == b"pbc+qbcd"

    assert sorted(functions.called) == ["b", "b", "c", "c", "d"]


def test_a_node_before_a_foreach_runs_again_with_all_of_its_branches() -> None:
    functions = Functions(foreach, "abcd", broken="d")
    functions.tester.run(b"xy", request_id="r")

    assert go_on(functions.mend(), node="a", input=b"z") == b"zbc+abcd"
    assert sorted(functions.called) == ["a", "b", "b", "c", "c", "d"]


def test_a_wide_foreach_is_joined_anew_after_one_branch_ran_again() -> None:
    def define(flow, context):
        dag = flow.dag()
        branch = dag.foreach_branch("each", numbered, aggregator=lambda parts: str(len(parts)))
        branch.node("b").apply("b")
        dag.node("d").apply("d")
        dag.edge("each", "d")

    functions = Functions(define, "bd", broken="d")
    functions.tester.run(b"200", request_id="r")

    assert go_on(functions.mend(), node="each/b@150") == b"200d"
    assert functions.called == ["b", "d"]


def numbered(count: int) -> dict[str, str]:
    return {str(number): str(number) for number in range(count)}


def test_a_node_in_a_branch_of_a_condition_runs_again() -> None:
    functions = Functions(condition, "abcd", broken="d")
    functions.tester.run(b"<", request_id="r")

    assert go_on(functions.mend(), node="case=yes/c", input=b"new:") == b"new:cd"
    assert functions.called == ["c", "d"]


def test_a_condition_runs_again_as_a_whole() -> None:
    functions = Functions(condition, "abcd", broken="d")
    functions.tester.run(b"<", request_id="r")

    assert go_on(functions.mend(), node="case") == b"<bcd"
    assert functions.called == ["b", "c", "d"]


def test_an_earlier_node_runs_again_after_a_branch_behind_it_failed() -> None:
    functions = Functions(foreach, "abcd", broken="c")
    functions.tester.run(b"xy", request_id="r")

    assert go_on(functions.mend(), node="a", input=b"z") == b"zbc+abcd"
    assert functions.called.count("b") == functions.called.count("c") == 2


def test_a_node_beside_the_one_that_failed_runs_again_with_it() -> None:
    functions = Functions(diamond, "abcd", broken="c")
    functions.tester.run(b"<", request_id="r")
    tester = functions.mend()

    assert go_on(tester, node="b", input=b"new:") == b"new:b+<acd"

    assert sorted(functions.called) == ["b", "c", "d"]
    assert len(rows(tester)["c"]["attempts"]) == 1


# What is refused


def test_a_request_that_nobody_knows_is_not_retried() -> None:
    with pytest.raises(RequestNotFoundError):
        FlowTester(chain).engine.retry("r")


def test_a_request_that_has_not_failed_is_not_retried() -> None:
    tester = Functions(chain, "abcd").tester
    tester.engine.start(b"", request_id="r")

    with pytest.raises(RequestConflictError, match="is RUNNING and cannot be retried"):
        tester.engine.retry("r")
    tester.settle()
    with pytest.raises(RequestConflictError, match="is FINISHED and cannot be retried"):
        tester.engine.retry("r")
    tester.engine.start(b"", request_id="s")
    tester.engine.stop("s")
    with pytest.raises(RequestConflictError, match="is STOPPED and cannot be retried"):
        tester.engine.retry("s")


def test_the_second_of_two_retries_is_refused() -> None:
    functions = Functions(chain, "abcd", broken="c")
    functions.tester.run(b"<", request_id="r")
    tester = functions.mend()
    tester.engine.retry("r")

    with pytest.raises(RequestConflictError) as caught:
        tester.engine.retry("r")
    tester.settle()

    assert caught.value.status == 409
    assert functions.called == ["c", "d"]


def test_a_request_whose_flow_was_changed_is_not_retried() -> None:
    old = Functions(chain, "abcd", broken="c").tester
    old.run(request_id="r")
    new = FlowTester(diamond, state=old.state, data=old.data)

    with pytest.raises(RequestConflictError, match="its flow was changed") as caught:
        new.engine.retry("r")

    assert caught.value.status == 409
    assert new.engine.state("r") is RequestState.FAILED


@pytest.mark.parametrize("node", ["nobody", "d", "each/b@x", "b/c", "$finally"])
def test_a_node_that_was_not_reached_is_not_retried(node: str) -> None:
    tester = Functions(chain, "abcd", broken="c").tester
    tester.run(request_id="r")

    with pytest.raises(BadRequestError, match="has no outcome in this request") as caught:
        tester.engine.retry("r", node=node)

    assert caught.value.status == 400
    assert tester.engine.state("r") is RequestState.FAILED
    assert len(tester.engine.dead_letters()) == 1


def test_a_join_of_branches_takes_no_input() -> None:
    def define(flow, context):
        branch = flow.dag().foreach_branch("each", by_letter, aggregator=lambda parts: 1 // 0)
        branch.node("b").apply("b")

    tester = Functions(define, "b").tester
    tester.run(b"xy", request_id="r")

    with pytest.raises(BadRequestError, match="has no input of its own"):
        tester.engine.retry("r", input=b"new")


# What comes late


def test_a_message_of_the_run_before_counts_for_nothing() -> None:
    functions = Functions(diamond, "abcd", broken="b")
    tester = functions.tester
    tester.engine.start(b"<", request_id="r")
    late = list(tester.transport.pending)  # that of a
    while functions.called != ["a", "b"]:
        message = tester.transport.pending.popleft()
        tester.engine.deliver("r", message.body)
    late += tester.transport.pending  # that of c
    tester.transport.pending.clear()
    functions.mend()
    tester.engine.retry("r")

    tester.transport.pending.extendleft(late)
    tester.settle()

    assert sorted(functions.called) == ["b", "c", "d"]
    assert tester.outcome("r").result == b"<ab+<acd"


def test_an_outcome_of_the_run_before_counts_for_nothing() -> None:
    functions = Functions(diamond, "abcd", broken="c")
    tester, results = functions.tester, [b"first", b"second"]

    def slow(body: bytes) -> bytes:
        result = results.pop(0)
        if result == b"first":  # while it works, c fails and the request goes on
            tester.drain()
            assert tester.engine.state("r") is RequestState.FAILED
            functions.mend()
            tester.engine.retry("r")
        return result

    tester.function("b", slow)
    tester.run(b"<", request_id="r")

    assert tester.outcome("r").result == b"second+<acd"
    assert results == []


def test_a_timer_of_the_run_before_forwards_nothing() -> None:
    functions = Functions(chain, "abcd", broken="c")
    tester = functions.tester
    tester.engine.start(b"<", request_id="r")
    tester.drain()
    functions.mend()
    tester.engine.retry("r")
    tester.drain()
    tester.clock.advance(3600)
    tester.engine.tick()

    assert not tester.transport.pending
    assert functions.called == ["c", "d"]
    assert tester.engine.next_timer() is None


# The end


def closing(flow, context):
    chain(flow, context)
    flow.on_failure(lambda error: f"{error.node} failed")
    flow.finally_(lambda state: context.set("last", state))


def test_closing_steps_run_again_at_the_next_end_and_the_callback_is_another_event() -> None:
    functions = Functions(closing, "abcd", broken="c")
    tester = functions.tester
    told: list[OutgoingCall] = []
    tester.answer(HOOK, lambda call: told.append(call) or Response(200, {}, b""))
    tester.run(b"<", request_id="r", callback=HOOK)
    assert json.loads(tester.state.get("faasflow/flow/r/data/last")) is not None
    go_on(functions.mend())

    assert [call.headers["X-Faas-Flow-State"] for call in told] == ["FAILED", "FINISHED"]
    assert [call.body for call in told] == [b"c failed", b"<abcd"]
    assert len({call.headers["X-Faas-Flow-Event-Id"] for call in told}) == 2
    assert tester.engine.story("r")["closing"] == ("$finally.1", "$callback.1")
    assert {"$on_failure", "$finally", "$callback", "$finally.1", "$callback.1"} <= rows(tester).keys()


def test_a_request_that_took_too_long_goes_on_with_new_time() -> None:
    def define(flow, context):
        chain(flow, context)
        flow.timeout(60)

    functions = Functions(define, "abcd")
    tester = functions.tester
    tester.engine.start(b"<", request_id="r")
    tester.engine.deliver("r", tester.transport.pending.popleft().body)
    tester.transport.pending.clear()
    tester.clock.advance(61)
    tester.engine.tick()
    assert tester.outcome("r").failure.error_type == "RequestTimeoutError"
    functions.mend()

    assert go_on(tester) == b"<abcd"

    assert functions.called == ["b", "c", "d"]


def test_input_for_a_request_that_took_too_long_needs_a_node() -> None:
    def define(flow, context):
        chain(flow, context)
        flow.timeout(60)

    functions = Functions(define, "abcd")
    functions.tester.engine.start(b"<", request_id="r")
    functions.tester.engine.deliver("r", functions.tester.transport.pending.popleft().body)
    functions.tester.transport.pending.clear()
    functions.tester.clock.advance(61)
    functions.tester.engine.tick()

    with pytest.raises(BadRequestError, match="No node has failed"):
        functions.tester.engine.retry("r", input=b"new")
    assert go_on(functions.tester, node="a", input=b"new:") == b"new:abcd"


# Callbacks


class Hook:
    """The target of a callback, which takes it or not."""

    def __init__(self, tester: FlowTester) -> None:
        self.status = 500
        self.events: list[str] = []
        tester.answer(HOOK, self._answer)

    def _answer(self, call: OutgoingCall) -> Response:
        self.events.append(call.headers["X-Faas-Flow-Event-Id"])
        return Response(self.status, {}, b"")


def test_a_callback_that_was_given_up_is_delivered_again() -> None:
    tester = Functions(chain, "abcd").tester
    hook = Hook(tester)
    tester.run(b"<", request_id="r", callback=HOOK)
    tried = len(hook.events)
    (row,) = tester.engine.dead_letters()
    assert (row["state"], row["node"], row["message"]) == (
        RequestState.FINISHED,
        "$callback",
        "The callback was given up.",
    )
    hook.status = 200

    assert tester.engine.retry("r", node="$callback") is RequestState.FINISHED
    tester.settle()

    assert len(hook.events) == tried + 1
    assert len(set(hook.events)) == 1
    assert tester.engine.dead_letters() == []


def test_a_callback_that_is_given_up_again_is_a_dead_letter_again() -> None:
    tester = Functions(chain, "abcd").tester
    hook = Hook(tester)
    tester.run(b"<", request_id="r", callback=HOOK)
    tried = len(hook.events)

    tester.engine.retry("r", node="$callback")
    tester.settle()

    assert len(hook.events) == 2 * tried
    assert [row["request_id"] for row in tester.engine.dead_letters()] == ["r"]


@pytest.mark.parametrize("node", ["", "$callback"])
def test_the_clock_goes_on_where_the_message_of_a_retry_is_lost(node: str) -> None:
    functions = Functions(chain, "abcd", broken="" if node else "c")
    tester = functions.tester
    hook = Hook(tester)
    tester.run(b"<", request_id="r", callback=HOOK)
    tried = len(hook.events)
    hook.status = 200
    functions.mend()

    tester.engine.retry("r", node=node)
    tester.transport.pending.clear()
    tester.settle()

    assert tester.outcome("r").state is RequestState.FINISHED
    assert len(hook.events) == tried + 1
    assert tester.engine.dead_letters() == []


def test_a_callback_that_was_delivered_or_never_was_is_not_delivered_again() -> None:
    tester = Functions(chain, "abcd").tester
    hook = Hook(tester)
    hook.status = 200
    tester.run(b"<", request_id="told", callback=HOOK)
    tester.run(b"<", request_id="silent")

    with pytest.raises(RequestConflictError, match="was delivered"):
        tester.engine.retry("told", node="$callback")
    with pytest.raises(RequestConflictError, match="has no callback that was given up"):
        tester.engine.retry("silent", node="$callback")

    assert len(hook.events) == 1
