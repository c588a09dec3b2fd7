"""What a request tells of itself: rows of what is recorded, folded where there are many, and how each node stands."""

from __future__ import annotations

from typing import Any

import pytest

from faasflow import Retry
from faasflow.engine.folding import SHOWN, fold
from faasflow.engine.lifecycle import RequestState
from faasflow.engine.outlook import Moment, outlook
from faasflow.graph import Definition, outline
from faasflow.runtime import definer
from faasflow.stores.memory import MemoryStateStore
from faasflow.testing import FlowTester
from faasflow.testing.counting import CountingStore


def node(path: str, started: float = 0.0, ended: float | None = 1.0, state: str = "FINISHED", **more: Any) -> dict:
    return {"path": path, "state": state, "started": started, "ended": ended, **more}


def split(path: str, branches: int, **more: Any) -> dict:
    return {"path": path, "branches": branches, "started": 0.0, "ended": 1.0, **more}


def pipeline(flow, context) -> None:
    """read -> each[ one -> two ] -> case[ x: left | y: right ] -> last"""
    dag = flow.dag()
    dag.node("read").apply("reader")
    each = dag.foreach_branch("each", lambda data: {key: key for key in data.decode()}, aggregator=lambda found: "xy")
    each.node("one").apply("first")
    each.node("two").modify(lambda data: data)
    each.edge("one", "two")
    cases = dag.conditional_branch("case", ["x", "y"], lambda data: ["x"], aggregator=lambda found: "done")
    cases["x"].node("left").modify(lambda data: data)
    cases["y"].node("right").modify(lambda data: data)
    dag.node("last").modify(lambda data: data)
    for source, target in (("read", "each"), ("each", "case"), ("case", "last")):
        dag.edge(source, target)


def joined(flow, context) -> None:
    """start -> { a, b } -> join"""
    dag = flow.dag()
    dag.node("start").modify(lambda data: data)
    dag.node("a").apply("slow", retry=Retry(attempts=3, delay=30.0, jitter=0.0))
    dag.node("b").modify(lambda data: data)
    dag.node("join", aggregator=lambda parts: "both").modify(lambda data: data)
    for name in "ab":
        dag.edge("start", name)
        dag.edge(name, "join")


@pytest.fixture
def definition() -> Definition:
    return FlowTester(pipeline).engine.definition()


def states(tester: FlowTester, request_id: str = "r") -> dict[str, str]:
    return {row["path"]: str(row["state"]) for row in graph_of(tester, request_id)}


def graph_of(tester: FlowTester, request_id: str = "r") -> Any:
    return tester.engine.story(request_id)["graph"]


def place_of(tester: FlowTester, path: str) -> Any:
    return next(row for row in graph_of(tester) if row["path"] == path)


def seen(definition: Definition, *rows: dict, state: RequestState = RequestState.RUNNING, now: float = 2.0) -> dict:
    found = outlook(outline(definition), rows, Moment(state, 0.0, now))
    return {row["path"]: row for row in found}


# How each node stands


def test_the_graph_of_a_finished_request_tells_what_was_not_chosen() -> None:
    tester = FlowTester(pipeline)
    tester.function("reader", lambda body: b"ab")
    tester.function("first", lambda body: body)
    tester.run(request_id="r")

    assert states(tester) == {
        "read": "FINISHED",
        "each": "FINISHED",
        "each/one": "FINISHED",
        "each/two": "FINISHED",
        "case": "FINISHED",
        "case=x/left": "FINISHED",
        "case=y/right": "SKIPPED",
        "last": "FINISHED",
    }
    assert place_of(tester, "each/one")["executions"] == {"FINISHED": 2}
    assert place_of(tester, "each")["branches"] == {"done": 2, "failed": 0, "of": 2}
    assert [row["functions"] for row in graph_of(tester)][:3] == [("reader",), (), ("first",)]


def test_what_never_ran_in_a_failed_request_is_cancelled() -> None:
    tester = FlowTester(pipeline)
    tester.function("reader", lambda body: b"ab")
    tester.function("first", lambda body: 1 // 0 if body == b"b" else body)
    tester.run(request_id="r")

    assert states(tester) == {
        "read": "FINISHED",
        "each": "FAILED",
        "each/one": "FAILED",
        "each/two": "CANCELLED",
        "case": "CANCELLED",
        "case=x/left": "CANCELLED",
        "case=y/right": "CANCELLED",
        "last": "CANCELLED",
    }
    assert place_of(tester, "each/one")["executions"] == {"FINISHED": 1, "FAILED": 1}
    assert place_of(tester, "each")["branches"] == {"done": 1, "failed": 1, "of": 2}


def test_a_foreach_of_nothing_skips_its_nodes() -> None:
    tester = FlowTester(pipeline)
    tester.function("reader", lambda body: b"")
    tester.run(request_id="r")

    assert (states(tester)["each"], states(tester)["each/one"]) == ("FINISHED", "SKIPPED")


def test_a_join_names_whom_it_waits_for_and_a_retry_until_when() -> None:
    tester = FlowTester(joined)
    tester.function("slow", lambda body: 1 // 0)
    tester.engine.start(b"x", request_id="r")
    tester.drain()
    row, join = place_of(tester, "a"), place_of(tester, "join")

    assert states(tester) == {"start": "FINISHED", "a": "RETRYING", "b": "FINISHED", "join": "WAITING"}
    assert join["waits"] == {"for": "nodes", "nodes": ["a"]}
    assert row["waits"]["for"] == "attempt"
    assert row["waits"]["until"] == pytest.approx(tester.clock.now() + 30, abs=1)


def test_a_step_that_is_ready_runs_and_after_a_while_is_still_in_the_queue() -> None:
    tester = FlowTester(joined)
    tester.engine.start(b"x", request_id="r")
    fresh = place_of(tester, "start")
    tester.clock.sleep(60)
    late = place_of(tester, "start")

    assert (fresh["state"], fresh["waits"]) == ("RUNNING", None)
    assert (late["state"], late["waits"]) == ("WAITING", {"for": "queue"})
    assert late["since"] == fresh["since"] == tester.engine.story("r")["created"]


def test_what_is_parked_waits_to_be_resumed() -> None:
    tester = FlowTester(joined)
    tester.engine.start(b"x", request_id="r")
    tester.engine.pause("r")
    tester.drain()

    assert (place_of(tester, "start")["state"], place_of(tester, "start")["waits"]) == ("WAITING", {"for": "resume"})
    assert place_of(tester, "join")["waits"] == {"for": "nodes", "nodes": ["a", "b"]}


def test_what_a_stop_cut_off_is_cancelled_though_it_was_tried() -> None:
    tester = FlowTester(joined)
    tester.function("slow", lambda body: 1 // 0)
    tester.engine.start(b"x", request_id="r")
    tester.drain()
    tester.engine.stop("r")

    assert states(tester) == {"start": "FINISHED", "a": "CANCELLED", "b": "FINISHED", "join": "CANCELLED"}


def test_a_foreach_under_way_counts_its_branches(definition: Definition) -> None:
    rows = [split("each", 4), *(node(f"each/one@{key}") for key in "abc"), node("each/two@a")]
    found = seen(definition, node("read"), *rows)

    assert (found["each"]["state"], found["each"]["waits"]) == ("RUNNING", {"for": "branches", "done": 1, "of": 4})
    assert (found["each/one"]["state"], found["each/one"]["of"]) == ("RUNNING", 4)
    assert found["each/one"]["executions"] == {"FINISHED": 3}
    assert found["case"]["waits"] == {"for": "nodes", "nodes": ["each"]}
    assert found["case=x/left"]["waits"] == {"for": "nodes", "nodes": ["case"]}


def test_before_a_foreach_has_opened_nobody_knows_how_often_its_nodes_run(definition: Definition) -> None:
    found = seen(definition)

    assert (found["each/one"]["of"], found["each/one"]["state"]) == (None, "WAITING")
    assert found["each/one"]["waits"] == {"for": "nodes", "nodes": ["each"]}
    assert found["each/two"]["waits"] == {"for": "nodes", "nodes": ["each/one"]}


def test_branches_that_all_wait_for_another_attempt_are_retrying(definition: Definition) -> None:
    again = [
        node(f"each/one@{key}", ended=None, state="RETRYING", waits={"for": "attempt", "until": until})
        for key, until in (("a", 9.0), ("b", 7.0))
    ]
    waiting = seen(definition, node("read"), split("each", 3), *again, node("each/one@c"))
    running = seen(definition, node("read"), split("each", 4), *again, node("each/one@c"))

    assert waiting["each/one"]["state"] == "RETRYING"
    assert waiting["each/one"]["waits"] == {"for": "attempt", "until": 7.0}
    assert running["each/one"]["state"] == "RUNNING"


def test_a_tolerated_failure_of_a_branch_is_counted_and_not_that_of_the_node(definition: Definition) -> None:
    rows = [split("each", 2), node("each/one@a", state="FAILED"), node("each/two@a", state="FAILED")]
    rows += [node("each/one@b"), node("each/two@b"), node("each")]
    found = seen(definition, node("read"), *rows)

    assert (found["each"]["state"], found["each"]["branches"]) == ("FINISHED", {"done": 2, "failed": 1, "of": 2})
    assert (found["each/one"]["state"], found["each/one"]["executions"]) == ("FINISHED", {"FAILED": 1, "FINISHED": 1})


def test_a_condition_is_skipped_where_it_chose_otherwise_also_in_branches() -> None:
    def define(flow, context):
        each = flow.dag().foreach_branch("each", lambda data: {}, aggregator=len)
        cases = each.conditional_branch("case", ["x", "y", "z"], lambda data: "x", aggregator=len)
        for key in "xyz":
            cases[key].node(key).modify(bytes)

    rows = [split("each", 3), split("each/case@a", 1, options=["x"]), split("each/case@b", 2, options=["x", "y"])]
    definition = FlowTester(define).engine.definition()
    some = seen(definition, *rows)
    every = seen(definition, *rows, split("each/case@c", 1, options=["y"]))

    assert [some[f"each/case={key}/{key}"]["of"] for key in "xyz"] == [None, None, None]
    assert [every[f"each/case={key}/{key}"]["of"] for key in "xyz"] == [2, 2, 0]
    assert every["each/case=z/z"]["state"] == "SKIPPED"


def test_a_flow_that_was_changed_or_is_broken_still_tells_what_is_recorded() -> None:
    tester = FlowTester(joined)
    tester.function("slow", lambda body: body)
    tester.run(request_id="r")
    for define, reason in ((pipeline, "was changed"), (lambda flow, context: 1 // 0, "cannot be defined now")):
        object.__setattr__(tester.engine._parts, "define", definer(define))
        story = tester.engine.story("r")

        assert (story["state"], story["graph"]) == ("FINISHED", None)
        assert reason in str(story["graph_error"])
        assert len(story["nodes"]) == 4


def test_failures_that_were_tolerated_are_not_those_of_a_request_that_was_stopped(definition: Definition) -> None:
    rows = [node("read"), split("each", 3), node("each/one@a", state="FAILED"), node("each/two@a", state="FAILED")]
    rows.append(node("each/one@b"))
    stopped = seen(definition, *rows, state=RequestState.STOPPED)

    assert (stopped["each"]["state"], stopped["each/one"]["state"]) == ("CANCELLED", "CANCELLED")
    assert stopped["each"]["branches"] == {"done": 1, "failed": 1, "of": 3}


def test_a_node_that_is_leased_runs_since_it_was_ready() -> None:
    definition = FlowTester(joined).engine.definition()
    lease = {"for": "lease", "until": 20.0, "owner": "x"}
    found = seen(definition, node("start", ended=1.5), node("a", ended=None, state="RUNNING", waits=lease))

    assert (found["a"]["since"], found["a"]["waits"]) == (1.5, lease)


# What is told of a request as a whole


def test_a_callback_is_told_by_its_host_alone() -> None:
    tester = FlowTester(joined)
    tester.engine.start(b"x", request_id="r", callback="http://hooks.example.com/a-secret")
    tester.engine.start(b"x", request_id="s")

    assert tester.engine.story("r")["callback"] == "hooks.example.com"
    assert tester.engine.story("s")["callback"] is None


def test_attempts_at_opening_branches_belong_to_the_node_that_could_not() -> None:
    def define(flow, context):
        flow.retry(Retry(attempts=3, delay=1.0, jitter=0.0))
        each = flow.dag().foreach_branch("each", lambda data: 1 // 0, aggregator=len)
        each.node("one").modify(bytes)

    tester = FlowTester(define)
    tester.run(request_id="r")
    (row,) = tester.engine.story("r")["nodes"]

    assert (row["path"], row["state"], len(row["attempts"])) == ("each", "FAILED", 2)


# Folded


def test_branches_share_a_row_that_counts_them_and_keeps_the_first_failures() -> None:
    failed = [
        node(f"each/one@{number}", number, number + 5, state="FAILED", failure={"node": f"each/one@{number}"})
        for number in range(50)
    ]
    fine = [node(f"each/one@f{number}", 0, 1) for number in range(900)]
    again = node("each/one@r", ended=None, state="RETRYING", attempts=[{"started": 0.5}])
    split_row, row = fold([split("each", 1000), *fine, *failed, again])

    assert split_row == split("each", 1000)
    assert (row["path"], row["of"], row["started"], row["ended"]) == ("each/one", 1000, 0, 54)
    assert row["executions"] == {"FINISHED": 900, "FAILED": 50, "RETRYING": 1}
    assert [one["path"] for one in row["failures"]] == [f"each/one@{number}" for number in range(SHOWN)]


def test_what_runs_once_and_what_is_asked_for_keep_their_rows() -> None:
    rows = [split("each", 2), node("each/one@a"), node("each/one@b", attempt=3), node("each")]
    found = fold(rows, keep="each/one@b")

    assert [row["path"] for row in found] == ["each", "each/one", "each", "each/one@b"]
    assert found[-1] == rows[2]


def test_the_end_of_a_branch_that_failed_before_is_no_failure_of_its_own() -> None:
    failure = {"node": "each/one@a"}
    rows = [split("each", 1), *(node(f"each/{name}@a", state="FAILED", failure=failure) for name in ("one", "two"))]
    one, two = fold(rows)[1:]

    assert ([row["path"] for row in one["failures"]], two["failures"]) == (["each/one@a"], [])
    assert two["executions"] == {"FAILED": 1}


def test_folding_again_changes_nothing() -> None:
    rows = [split("out", 2), split("out/in@a", 3), split("out/in@b", 1), *(node(f"out/in/x@a/{n}") for n in range(3))]
    once = fold(rows)

    assert fold(once) == once
    assert [row.get("of") for row in once if row["path"] == "out/in/x"] == [4]


def test_a_story_of_many_branches_is_one_read_and_short() -> None:
    state = CountingStore(MemoryStateStore())
    tester = FlowTester(pipeline, state=state)
    tester.function("reader", lambda body: "".join(map(chr, range(0x4E00, 0x4E00 + 1000))).encode())
    tester.function("first", lambda body: body)
    tester.engine.start(b"", request_id="r")
    for _ in range(400):
        message = tester.transport.pending.popleft()
        tester.engine.deliver(message.request_id, message.body)
    state.reset()
    folded = tester.engine.story("r", is_folded=True)

    assert (state.reads, state.writes) == (1, 0)
    assert len(str(folded)) < 4_000 < len(str(tester.engine.story("r")))
    assert [row["path"] for row in folded["nodes"]] == ["each", "each/one", "read"]
