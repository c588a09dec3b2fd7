"""The way of the data: what a node, an aggregator and a forwarder get, and what `node_input` and the query hold."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from faasflow import Dag
from faasflow.testing import FlowTester, Response
from tests.golden.support import shown

BINARY = bytes(range(256)) * 4


def wrap(name: str) -> Callable[[bytes], bytes]:
    return lambda data: name.encode() + b"(" + data + b")"


def run(write: Callable[[Dag], Any], body: bytes = b"x") -> bytes | None:
    outcome = FlowTester(lambda flow, context: write(flow.dag())).run(body)
    assert outcome.error == ""
    return outcome.result


def nodes(dag: Dag, *names: str) -> None:
    """Nodes that wrap their input, not linked."""
    for name in names:
        dag.node(name).modify(wrap(name))


def test_operations_of_a_node_hand_their_results_on() -> None:
    tester = FlowTester(lambda flow, context: flow.sync_node().apply("f").modify(wrap("m")).request("http://host/g"))
    tester.function("f", wrap("f"))
    tester.answer("http://host/g", lambda call: Response(200, {}, wrap("g")(call.body)))

    assert tester.run(b"x").result == b"g(m(f(x)))"


def test_an_edge_hands_the_result_on_as_it_is() -> None:
    def write(dag: Dag) -> None:
        dag.node("a").modify(lambda data: BINARY)
        dag.node("b").modify(lambda data: data)
        dag.edge("a", "b")

    assert run(write) == BINARY


def test_a_forwarder_changes_the_data_for_one_edge() -> None:
    def write(dag: Dag) -> None:
        nodes(dag, "a", "b", "c")
        dag.node("end", aggregator=shown)
        dag.edge("a", "b", forwarder=wrap("to b"))
        dag.edge("a", "c")
        dag.edge("b", "end", forwarder=wrap("from b"))
        dag.edge("c", "end")

    assert run(write) == b"b=from b(b(to b(a(x))));c=c(a(x));"


def test_an_edge_that_only_orders_hands_on_nothing() -> None:
    def write(dag: Dag) -> None:
        nodes(dag, "a", "b")
        dag.edge("a", "b", forward=False)

    assert run(write) == b"b()"


def test_none_is_empty_data_and_not_the_input_again() -> None:
    def write(dag: Dag) -> None:
        dag.node("a").modify(wrap("a")).modify(lambda data: None).modify(wrap("after none"))
        dag.node("b").modify(lambda data: None)
        dag.node("c").modify(wrap("c"))
        dag.edge("a", "b")
        dag.edge("b", "c")

    assert run(write) == b"c()"


@pytest.mark.parametrize("empty", [b"", None, ""])
def test_empty_data_is_data(empty: bytes | str | None) -> None:
    def write(dag: Dag) -> None:
        nodes(dag, "a", "c")
        dag.node("b").modify(lambda data: empty)
        dag.node("end", aggregator=shown)
        for source, target in ("a", "b"), ("a", "c"), ("b", "end"), ("c", "end"):
            dag.edge(source, target)

    assert run(write) == b"b=;c=c(a(x));"


def test_an_aggregator_gets_data_by_node_id_in_the_order_of_the_edges() -> None:
    def write(dag: Dag) -> None:
        nodes(dag, "first", "z", "a", "m/n")
        dag.node("end", aggregator=shown)
        for name in ("z", "a", "m/n"):
            dag.edge("first", name)
            dag.edge(name, "end")

    assert run(write) == b"z=z(first(x));a=a(first(x));m/n=m/n(first(x));"


def test_what_an_aggregator_gives_is_what_the_operations_work_on() -> None:
    def write(dag: Dag) -> None:
        nodes(dag, "a", "b")
        dag.node("end", aggregator=lambda results: {"seen": sorted(results)}).modify(wrap("end"))
        dag.edge("a", "b")
        dag.edge("a", "end")
        dag.edge("b", "end")

    assert run(write) == b'end({"seen":["a","b"]})'


def test_an_aggregator_gets_only_what_edges_forward() -> None:
    def write(dag: Dag) -> None:
        nodes(dag, "a", "b")
        dag.node("end", aggregator=shown)
        dag.edge("a", "b")
        dag.edge("a", "end", forward=False)
        dag.edge("b", "end")

    assert run(write) == b"b=b(a(x));"


def test_an_aggregator_of_edges_that_only_order_gets_nothing() -> None:
    def write(dag: Dag) -> None:
        nodes(dag, "a")
        dag.node("b", aggregator=lambda results: f"got {results}").modify(wrap("b"))
        dag.edge("a", "b", forward=False)

    assert run(write) == b"b(got {})"


def test_an_aggregator_is_called_for_a_single_predecessor_too() -> None:
    def write(dag: Dag) -> None:
        nodes(dag, "a")
        dag.node("b", aggregator=shown).modify(wrap("b"))
        dag.edge("a", "b")

    assert run(write) == b"b(a=a(x);)"


def test_a_join_of_which_one_edge_forwards_gets_its_data() -> None:
    def write(dag: Dag) -> None:
        nodes(dag, "a", "b", "end")
        dag.edge("a", "b")
        dag.edge("a", "end")
        dag.edge("b", "end", forward=False)

    assert run(write) == b"end(a(x))"


def test_the_aggregator_of_a_first_node_is_not_called() -> None:
    def never(results: dict) -> bytes:
        raise AssertionError("A first node has nothing to join.")

    def write(dag: Dag) -> None:
        dag.node("first", aggregator=never).modify(wrap("first"))
        inner = dag.foreach_branch("F", lambda data: {"k": data}, aggregator=shown)
        inner.node("a", aggregator=never).modify(wrap("a"))
        sub = Dag()
        sub.node("s", aggregator=never).modify(wrap("s"))
        dag.sub_dag("S", sub)
        dag.edge("first", "F")
        dag.edge("F", "S")

    assert run(write) == b"s(k=a(first(x));)"


def test_a_sub_dag_joins_with_its_own_aggregator_and_hands_on_its_last_result() -> None:
    def write(dag: Dag) -> None:
        nodes(dag, "a", "b", "c", "last")
        sub = Dag()
        nodes(sub, "x", "y")
        sub.edge("x", "y")
        dag.sub_dag("S", sub, aggregator=shown)
        for source, target in ("a", "b"), ("a", "c"), ("b", "S"), ("c", "S"), ("S", "last"):
            dag.edge(source, target)

    assert run(write) == b"last(y(x(b=b(a(x));c=c(a(x));)))"


def test_joins_inside_and_outside_a_sub_dag_may_have_the_same_ids() -> None:
    def diamond() -> Dag:
        dag = Dag()
        nodes(dag, "a", "b", "c")
        dag.node("d", aggregator=shown)
        for source, target in ("a", "b"), ("a", "c"), ("b", "d"), ("c", "d"):
            dag.edge(source, target)
        return dag

    def write(dag: Dag) -> None:
        dag.append(diamond())
        dag.sub_dag("e", diamond())
        dag.edge("d", "e")

    outer = "b=b(a(x));c=c(a(x));"
    assert run(write) == f"b=b(a({outer}));c=c(a({outer}));".encode()


def test_a_join_of_sub_dags_and_branches_names_them_by_their_own_ids() -> None:
    def write(dag: Dag) -> None:
        sub = Dag()
        nodes(sub, "inside")
        nodes(dag, "first")
        dag.sub_dag("S", sub)
        nodes(dag.foreach_branch("F", lambda data: {"k": b"v"}, aggregator=shown), "n")
        dag.node("end", aggregator=shown)
        for source, target in ("first", "S"), ("first", "F"), ("S", "end"), ("F", "end"):
            dag.edge(source, target)

    assert run(write) == b"S=inside(first(x));F=k=n(v);;"


class TestNodeInput:
    """`context.node_input`: the data by predecessor, before it is aggregated."""

    def seen_by(self, write: Callable[[Dag, Callable[[str], Callable]], Any]) -> dict[str, dict[str, bytes]]:
        seen: dict[str, dict[str, bytes]] = {}

        def define(flow, context):
            def look(name: str) -> Callable[[bytes], bytes]:
                def code(data: bytes) -> bytes:
                    seen[name] = dict(context.node_input)
                    return name.encode()

                return code

            write(flow.dag(), look)

        assert FlowTester(define).run(b"x").error == ""
        return seen

    def test_it_has_what_the_edges_forward(self) -> None:
        def write(dag: Dag, look: Callable) -> None:
            for name in ("a", "b", "c"):
                dag.node(name).modify(look(name))
            dag.node("end", aggregator=lambda results: b"joined").modify(look("end"))
            dag.edge("a", "b")
            dag.edge("a", "c", forward=False)
            dag.edge("b", "end", forwarder=wrap("f"))
            dag.edge("c", "end")
            dag.edge("a", "end", forward=False)

        assert self.seen_by(write) == {"a": {}, "b": {"a": b"a"}, "c": {}, "end": {"b": b"f(b)", "c": b"c"}}

    def test_it_is_empty_for_the_first_node_of_a_branch(self) -> None:
        def write(dag: Dag, look: Callable) -> None:
            dag.node("a").modify(look("a"))
            branch = dag.foreach_branch("F", lambda data: {"k": data}, aggregator=shown)
            branch.node("first").modify(look("first"))
            branch.node("second").modify(look("second"))
            branch.edge("first", "second")
            dag.edge("a", "F")

        assert self.seen_by(write) == {"a": {}, "first": {}, "second": {"first": b"first"}}

    def test_the_first_node_of_a_sub_dag_has_that_of_the_sub_dag(self) -> None:
        def write(dag: Dag, look: Callable) -> None:
            dag.node("a").modify(look("a"))
            sub = Dag()
            sub.node("inside").modify(look("inside"))
            dag.sub_dag("S", sub)
            dag.edge("a", "S")

        assert self.seen_by(write) == {"a": {}, "inside": {"a": b"a"}}


class TestContext:
    """What the handler sees of the request, in every delivery."""

    def test_the_query_of_the_start_is_there_in_every_node(self) -> None:
        seen = []

        def define(flow, context):
            def look(data: bytes) -> bytes:
                seen.append((context.node, context.query["a"], context.query.get_all("b"), context.query.get("c", "-")))
                return data

            dag = flow.dag()
            dag.node("n1").modify(look)
            dag.foreach_branch("F", lambda data: look(data) and {"k": data}, aggregator=shown).node("n2").modify(look)
            dag.node("n3").modify(look)
            dag.edge("n1", "F")
            dag.edge("F", "n3")
            flow.finally_(lambda state: look(b""))

        FlowTester(define).run(b"x", query={"a": "1 &=é", "b": ["2", "3"]})

        assert seen == [(name, "1 &=é", ["2", "3"], "-") for name in ("n1", "F", "n2", "n3", "")]

    def test_define_may_write_another_flow_for_another_query(self) -> None:
        def define(flow, context):
            dag = flow.dag()
            nodes(dag, "a")
            for number in range(int(context.query.get("more", "0"))):
                nodes(dag, f"n{number}")
                dag.edge(f"n{number - 1}" if number else "a", f"n{number}")

        tester = FlowTester(define)

        assert tester.run(b"x").result == b"a(x)"
        assert tester.run(b"x", query={"more": 2}).result == b"n1(n0(a(x)))"

    def test_names_and_states_are_there(self) -> None:
        seen = []

        def define(flow, context):
            dag = flow.dag()
            look = lambda data: seen.append((context.name, context.request_id, context.node, context.state))  # noqa: E731
            dag.node("n1").modify(look)
            sub = Dag()
            sub.node("n2").modify(look)
            dag.sub_dag("S", sub)
            dag.edge("n1", "S")
            flow.finally_(look)

        FlowTester(define, name="my-flow").run(b"x", request_id="my-id")

        assert seen == [
            ("my-flow", "my-id", "n1", "ongoing"),
            ("my-flow", "my-id", "n2", "ongoing"),
            ("my-flow", "my-id", "", "success"),
        ]

    def test_what_is_stored_is_there_for_every_later_node_and_branch(self) -> None:
        values = {"text": "é", "bytes": BINARY, "number": 7, "none": None, "list": [1, {"a": None}], "a/b": True}

        def define(flow, context):
            dag = flow.dag()
            dag.node("set").modify(lambda data: [context.set(key, value) for key, value in values.items()] and data)
            look = lambda data: str({key: context.get(key) for key in values} == values)  # noqa: E731
            dag.foreach_branch("F", lambda data: {"k": data}, aggregator=shown).node("n").modify(look)
            dag.node("delete").modify(lambda data: [context.delete(key) for key in [*values, "unknown"]] and data)
            dag.node("gone").modify(lambda data: data + str({context.get(key, "-") for key in values}).encode())
            for source, target in ("set", "F"), ("F", "delete"), ("delete", "gone"):
                dag.edge(source, target)

        assert FlowTester(define).run(b"x").result == b"k=True;{'-'}"

    def test_user_keys_never_meet_those_of_the_engine(self) -> None:
        def define(flow, context):
            dag = flow.dag()
            keys = ["request", "input", "node/b", "../request", "arrived/c", "branches/F", ""]
            dag.node("a").modify(lambda data: [context.set(key, b"mine") for key in keys] and data)
            nodes(dag, "b")
            dag.edge("a", "b")

        assert FlowTester(define).run(b"x").result == b"b(x)"

    def test_the_result_of_an_earlier_node_can_be_asked_for(self) -> None:
        def define(flow, context):
            dag = flow.dag()
            nodes(dag, "a", "b")
            branch = dag.foreach_branch("F", lambda data: {"k": b"v"}, aggregator=shown)
            branch.node("n").modify(lambda data: context.result("a") + b" " + context.result("b"))
            dag.edge("a", "b")
            dag.edge("b", "F")

        assert FlowTester(define).run(b"x").result == b"k=a(x) b(a(x));"
