"""How a request ends: its result, `on_failure`, `finally_` and the callback."""

from __future__ import annotations

import json
from typing import Any

import pytest

from faasflow import Dag
from faasflow.errors import NodeError
from faasflow.testing import FlowTester, OutgoingCall, RequestState, Response
from tests.golden.support import shown


def wrap(name: str):
    return lambda data: name.encode() + b"(" + data + b")"


def failing(data: Any) -> bytes:
    raise ValueError("broken on purpose")


def chain(*codes, **handlers):
    """A chain of nodes n1, n2, … that run `codes`, with handlers that note what they get."""

    def define(flow, context):
        dag = flow.dag()
        for number, code in enumerate(codes, 1):
            dag.node(f"n{number}").modify(code)
        for number in range(1, len(codes)):
            dag.edge(f"n{number}", f"n{number + 1}")
        for name, handler in handlers.items():
            getattr(flow, name)(handler)

    return define


lengths = pytest.mark.parametrize("before", [[], [wrap("n1")]], ids=["one node", "two nodes"])


def test_the_result_is_that_of_the_last_node() -> None:
    assert FlowTester(chain(wrap("n1"), wrap("n2"))).run(b"x").result == b"n2(n1(x))"


class TestSeveralEnds:
    """A DAG in which several nodes have no successor."""

    def write(self, dag: Dag) -> None:
        for name in ("a", "z", "b"):
            dag.node(name).modify(wrap(name))
        dag.edge("a", "z")
        dag.edge("a", "b")

    def run(self, write) -> bytes:
        return FlowTester(lambda flow, context: write(flow.dag())).run(b"x").result

    def test_the_result_is_a_json_object_by_node_id(self) -> None:
        assert self.run(self.write) == b'{"z":"z(a(x))","b":"b(a(x))"}'

    def test_json_stays_json(self) -> None:
        def write(dag: Dag) -> None:
            self.write(dag)
            dag.node("z").modify(lambda data: {"n": 1})

        assert json.loads(self.run(write)) == {"z": {"n": 1}, "b": "b(a(x))"}

    def test_bytes_that_are_no_text_fail_the_request_by_name(self) -> None:
        def write(dag: Dag) -> None:
            self.write(dag)
            dag.node("b").modify(lambda data: b"\xff\x00")

        outcome = FlowTester(lambda flow, context: write(flow.dag())).run(b"x")
        assert "The result of 'b' is binary" in outcome.error

    def test_an_aggregator_may_combine_them(self) -> None:
        def write(dag: Dag) -> None:
            self.write(dag)
            dag.end(aggregator=shown)

        assert self.run(write) == b"z=z(a(x));b=b(a(x));"

    def test_ends_of_edges_that_only_order_are_ends_too(self) -> None:
        def write(dag: Dag) -> None:
            dag.node("a").modify(wrap("a"))
            dag.node("b").modify(wrap("b"))
            dag.node("c").modify(wrap("c"))
            dag.edge("a", "b", forward=False)
            dag.edge("a", "c")

        assert self.run(write) == b'{"b":"b()","c":"c(a(x))"}'

    def test_inside_a_sub_dag_they_are_the_data_of_what_follows(self) -> None:
        def write(dag: Dag) -> None:
            inner = Dag()
            self.write(inner)
            dag.sub_dag("S", inner)
            dag.node("last").modify(wrap("last"))
            dag.edge("S", "last")

        assert self.run(write) == b'last({"z":"z(a(x))","b":"b(a(x))"})'


class TestOnFailure:
    """`on_failure(error)`, where its bytes go, and what it cannot do."""

    @lengths
    def test_it_is_called_once_with_the_node_and_the_cause(self, before: list) -> None:
        errors: list[NodeError] = []
        tester = FlowTester(chain(*before, failing, on_failure=errors.append))
        tester.run(b"x")

        (error,) = errors
        assert (error.node, error.operation, error.error_type) == (f"n{len(before) + 1}", "failing", "ValueError")
        assert isinstance(error.__cause__, ValueError)
        assert "broken on purpose" in str(error)

    @lengths
    def test_what_it_returns_is_the_body_of_the_answer_and_the_flow_has_failed_all_the_same(self, before: list) -> None:
        outcome = FlowTester(chain(*before, failing, wrap("never"), on_failure=lambda error: b"sorry")).run(b"x")

        assert outcome.state is RequestState.FAILED
        assert outcome.result == b"sorry"
        assert "never" not in str(outcome.ran)

    @lengths
    def test_an_error_of_its_own_does_not_hide_the_first(self, before: list) -> None:
        def broken(error: Exception) -> bytes:
            raise KeyError("a second one")

        states: list[str] = []
        outcome = FlowTester(chain(*before, failing, on_failure=broken, finally_=states.append)).run(b"x")

        assert outcome.state is RequestState.FAILED
        assert "broken on purpose" in outcome.error
        assert states == ["failure"]

    def test_it_is_not_called_when_nothing_fails(self) -> None:
        FlowTester(chain(wrap("n1"), wrap("n2"), on_failure=failing)).run(b"x")

    def test_the_on_failure_of_a_call_may_rescue_the_call(self) -> None:
        errors: list[Exception] = []

        def define(flow, context):
            flow.sync_node().apply("f", on_failure=lambda error: errors.append(error) or b"rescued").modify(wrap("m"))
            flow.on_failure(failing)

        tester = FlowTester(define)
        tester.answer("f", lambda call: Response(418, {}, b"short and stout"))

        assert tester.run(b"x").result == b"m(rescued)"
        (error,) = errors
        assert (error.code, error.body) == (418, b"short and stout")

    def test_the_on_failure_of_a_call_may_raise_or_return_another_error(self) -> None:
        def raising(error: Exception) -> bytes:
            raise LookupError("another") from error

        for handler in (raising, lambda error: LookupError("another")):
            tester = FlowTester(lambda flow, context, handler=handler: flow.sync_node().apply("f", on_failure=handler))
            assert tester.run(b"x").error == "sync: LookupError: another"


class TestFinally:
    """`finally_(state)`."""

    @lengths
    def test_it_is_called_once_with_success(self, before: list) -> None:
        states: list[str] = []
        outcome = FlowTester(chain(*before, wrap("last"), finally_=states.append)).run(b"x")

        assert states == ["success"]
        assert outcome.state is RequestState.FINISHED

    @lengths
    def test_it_is_called_once_with_failure_after_on_failure(self, before: list) -> None:
        seen: list[Any] = []
        FlowTester(
            chain(*before, failing, on_failure=lambda error: seen.append("on_failure"), finally_=seen.append)
        ).run(b"x")

        assert seen == ["on_failure", "failure"]

    def test_it_is_called_once_with_stopped(self) -> None:
        states: list[str] = []
        tester = FlowTester(chain(wrap("n1"), wrap("n2"), finally_=states.append))
        request = tester.engine.start(b"x").request_id
        tester.engine.stop(request)
        tester.engine.stop(request)
        tester.drain()

        assert states == ["stopped"]
        assert tester.outcome(request).ran == ["$finally"]

    @lengths
    def test_an_error_in_it_changes_nothing(self, before: list) -> None:
        outcome = FlowTester(chain(*before, wrap("last"), finally_=failing)).run(b"x")

        assert outcome.state is RequestState.FINISHED
        assert outcome.result is not None

    def test_it_may_use_what_was_stored(self) -> None:
        seen: list[Any] = []

        def define(flow, context):
            dag = flow.dag()
            dag.node("n1").modify(lambda data: context.set("key", "value"))
            dag.node("n2").modify(failing)
            dag.edge("n1", "n2")
            flow.finally_(lambda state: seen.append((state, context.get("key"), context.result("n1"))))

        FlowTester(define).run(b"x")

        assert seen == [("failure", "value", b"")]


class TestCallback:
    """The target that the caller names is told of the end."""

    TARGET = "http://receiver/done"

    def run(self, define) -> list[OutgoingCall]:
        tester = FlowTester(define)
        tester.answer(self.TARGET, lambda call: Response(200, {}, b""))
        tester.run(b"x", request_id="mine", callback=self.TARGET)
        return tester.transport.calls

    @lengths
    def test_it_gets_the_result_and_the_id(self, before: list) -> None:
        (call,) = self.run(chain(*before, wrap("last")))

        assert call.method == "POST"
        assert call.body == (b"last(n1(x))" if before else b"last(x)")
        assert (call.headers["X-Faas-Flow-Reqid"], call.headers["X-Faas-Flow-State"]) == ("mine", "FINISHED")

    @lengths
    def test_it_gets_what_on_failure_returned(self, before: list) -> None:
        (call,) = self.run(chain(*before, failing, on_failure=lambda error: b"sorry"))

        assert (call.body, call.headers["X-Faas-Flow-State"]) == (b"sorry", "FAILED")

    @lengths
    def test_it_gets_the_failure_as_json(self, before: list) -> None:
        (call,) = self.run(chain(*before, failing))

        told = json.loads(call.body)
        assert (told["request_id"], told["error_type"]) == ("mine", "ValueError")
        assert "broken on purpose" in told["error"]


def test_no_new_node_starts_after_a_failure() -> None:
    ran: list[bytes] = []

    def define(flow, context):
        dag = flow.dag()
        dag.foreach_branch("F", lambda data: {f"{n}": f"{n}" for n in range(4)}, aggregator=shown).node("n").modify(
            lambda data: failing(data) if data == b"1" else ran.append(data)
        )

    outcome = FlowTester(define).run(b"x")

    assert outcome.error == "F/n@1: ValueError: broken on purpose"
    assert ran == [b"0"]
