"""Every call and option of the DSL, and what it becomes in the graph."""

from __future__ import annotations

import pytest

import faasflow
from faasflow import Dag, Flow
from faasflow.graph import Condition, Edge, Foreach, OperationKind, SubDag
from tests.dsl.support import built, choose, handle, join, split, work, working

ANY_TEXT = ["a/b", "..", "%2f", "é😀", " ", "a\nb", "\x00", "--", "end_0", "x" * 5000, "$requests", "@", "="]


def test_the_dsl_is_what_the_package_exports() -> None:
    assert {"Flow", "Dag", "Node", "DefinitionError"} <= set(faasflow.__all__)


def test_a_synchronous_node_is_one_node_called_sync() -> None:
    flow = Flow()
    flow.sync_node().apply("func1").modify(work)
    flow.sync_node().apply("func2")
    definition = flow.build()

    assert list(definition.root.nodes) == ["sync"]
    assert [operation.name for operation in definition.root.nodes["sync"].operations] == ["func1", "work", "func2"]
    assert definition.is_single_node


def test_node_makes_a_node_once_and_returns_it_again() -> None:
    dag = Dag()

    assert dag.node("n1") is dag.node("n1")
    assert dag.node("n1") is not dag.node("n2")


def test_a_node_keeps_its_operations_in_the_order_of_the_calls() -> None:
    def write(dag: Dag) -> None:
        dag.node("n").apply("f").request("http://host/x")
        dag.node("n").modify(work).apply("g")

    operations = built(write).root.nodes["n"].operations
    assert [(operation.kind, operation.name) for operation in operations] == [
        (OperationKind.FUNCTION, "f"),
        (OperationKind.REQUEST, "http://host/x"),
        (OperationKind.MODIFIER, "work"),
        (OperationKind.FUNCTION, "g"),
    ]


@pytest.mark.parametrize("call", ["apply", "request"])
def test_apply_and_request_take_the_same_options(call: str) -> None:
    def write(dag: Dag) -> None:
        getattr(dag.node("n"), call)(
            "http://host/name",
            headers={"X-One": "1", "X-Two": 2},
            query={"a": "1", "b": ["2", "3"], "c": 4},
            method="put",
            timeout=2.5,
            on_failure=handle,
            on_request=work,
            on_response=split,
        )

    (operation,) = built(write).root.nodes["n"].operations
    assert operation.headers == {"X-One": "1", "X-Two": "2"}
    assert operation.query == (("a", "1"), ("b", "2"), ("b", "3"), ("c", "4"))
    assert (operation.method, operation.timeout) == ("PUT", 2.5)
    assert (operation.on_failure, operation.on_request, operation.on_response) == (handle, work, split)


def test_without_options_the_defaults_are_left_to_the_engine() -> None:
    (operation,) = built(lambda dag: dag.node("n").apply("f")).root.nodes["n"].operations

    assert (dict(operation.headers), operation.query, operation.method, operation.timeout) == ({}, (), None, None)


def test_a_modifier_is_named_by_its_code() -> None:
    class Shrink:
        def __call__(self, data: bytes) -> bytes:
            return data

    def write(dag: Dag) -> None:
        dag.node("n").modify(work).modify(lambda data: data).modify(Shrink()).modify(Shrink().__call__)

    assert [operation.name for operation in built(write).root.nodes["n"].operations] == [
        *("work", "modifier", "Shrink", "__call__")
    ]


def test_an_aggregator_may_be_given_with_the_node_or_later() -> None:
    def write(dag: Dag) -> None:
        dag.node("n").modify(work)
        dag.node("n", aggregator=join)
        dag.node("n", aggregator=join)

    assert built(write).root.nodes["n"].aggregator is join


def test_edges_carry_data_or_only_the_order_or_changed_data() -> None:
    def write(dag: Dag) -> None:
        dag.append(working("a", "b"))
        dag.node("c", aggregator=join)
        dag.node("d").modify(work)
        dag.edge("a", "c", forward=False)
        dag.edge("b", "c", forwarder=work)
        dag.edge("c", "d")

    assert list(built(write).root.edges()) == [
        *(Edge("a", "b"), Edge("a", "c", forward=False), Edge("b", "c", forwarder=work), Edge("c", "d"))
    ]


def test_nodes_and_edges_keep_the_order_in_which_they_were_written() -> None:
    def write(dag: Dag) -> None:
        dag.node("z").modify(work)
        for id in ("y", "m", "b", "k"):
            dag.node(id).modify(work)
            dag.edge("z", id)
        dag.node("a", aggregator=join)
        for id in ("k", "b", "y", "m"):
            dag.edge(id, "a")

    root = built(write).root
    assert list(root.nodes) == ["z", "y", "m", "b", "k", "a"]
    assert [node.index for node in root.nodes.values()] == [1, 2, 3, 4, 5, 6]
    assert [edge.target for edge in root.successors["z"]] == ["y", "m", "b", "k"]
    assert [edge.source for edge in root.predecessors["a"]] == ["k", "b", "y", "m"]


def test_a_sub_dag_stands_as_one_node() -> None:
    def write(dag: Dag) -> None:
        dag.node("a").modify(work)
        dag.sub_dag("s", working("x", "y"))
        dag.edge("a", "s")

    root = built(write).root
    body = root.nodes["s"].body
    assert isinstance(body, SubDag)
    assert (list(body.dag.nodes), body.dag.start, body.dag.end, body.dag.id) == (["x", "y"], "x", "y", "2")


def test_a_sub_dag_may_join_what_comes_in() -> None:
    def write(dag: Dag) -> None:
        dag.append(working("a", "b"))
        dag.sub_dag("s", working("x"), aggregator=join)
        dag.edge("a", "s")
        dag.edge("b", "s")

    assert built(write).root.nodes["s"].aggregator is join


def test_append_brings_nodes_and_edges_to_be_linked() -> None:
    def write(dag: Dag) -> None:
        dag.append(working("a", "b"))
        dag.append(working("c", "d"))
        dag.edge("b", "c")

    root = built(write).root
    assert [(node.id, node.index) for node in root.nodes.values()] == [("a", 1), ("b", 2), ("c", 3), ("d", 4)]
    assert [(edge.source, edge.target) for edge in root.edges()] == [("a", "b"), ("b", "c"), ("c", "d")]


def test_appending_an_empty_dag_changes_nothing() -> None:
    def write(dag: Dag) -> None:
        dag.append(Dag())
        dag.append(working("a"))

    assert list(built(write).root.nodes) == ["a"]


def test_foreach_gives_the_dag_of_its_branches() -> None:
    def write(dag: Dag) -> None:
        branch = dag.foreach_branch("F", split, aggregator=join, max_parallel=3)
        assert isinstance(branch, Dag)
        branch.node("n").modify(work)

    body = built(write).root.nodes["F"].body
    assert isinstance(body, Foreach)
    assert (body.split, body.aggregator, body.forward, body.max_parallel) == (split, join, True, 3)
    assert list(body.dag.nodes) == ["n"]


def test_a_condition_gives_one_dag_for_each_key_in_their_order() -> None:
    def write(dag: Dag) -> None:
        dags = dag.conditional_branch("C", ["b", "a"], choose, aggregator=join)
        assert list(dags) == ["b", "a"]
        for key, branch in dags.items():
            branch.node(f"n{key}").modify(work)

    body = built(write).root.nodes["C"].body
    assert isinstance(body, Condition)
    assert (body.choose, body.aggregator, body.forward) == (choose, join, True)
    assert {key: list(dag.nodes) for key, dag in body.dags.items()} == {"b": ["nb"], "a": ["na"]}


def test_keys_may_come_from_any_iterable() -> None:
    dags = Dag().conditional_branch("C", (key for key in "ab"), choose, aggregator=join)

    assert list(dags) == ["a", "b"]


def test_the_dict_of_a_condition_is_the_writers_own() -> None:
    def write(dag: Dag) -> None:
        dags = dag.conditional_branch("C", ["a", "b"], choose, aggregator=join)
        for branch in dags.values():
            branch.node("n").modify(work)
        del dags["a"]

    assert list(built(write).root.nodes["C"].body.dags) == ["a", "b"]


@pytest.mark.parametrize("forward", [True, False])
def test_branches_need_an_aggregator_only_where_they_forward(forward: bool) -> None:
    def write(dag: Dag) -> None:
        options = {"aggregator": join} if forward else {"forward": False}
        dag.foreach_branch("F", split, **options).node("n").modify(work)
        dag.conditional_branch("C", ["a"], choose, **options)["a"].node("n").modify(work)
        dag.edge("F", "C")

    root = built(write).root
    assert [root.nodes[id].body.forward for id in ("F", "C")] == [forward, forward]


def test_branches_and_sub_dags_fill_a_node_that_was_made_and_linked_before() -> None:
    def write(dag: Dag) -> None:
        for id in "abcd":
            dag.node(id)
        for source, target in zip("abc", "bcd", strict=True):
            dag.edge(source, target)
        dag.node("a").modify(work)
        dag.sub_dag("b", working("x"))
        dag.foreach_branch("c", split, aggregator=join).node("y").modify(work)
        dag.conditional_branch("d", ["k"], choose, aggregator=join)["k"].node("z").modify(work)

    root = built(write).root
    assert (root.start, root.end) == ("a", "d")
    assert [type(node.body) for node in root.nodes.values()] == [type(None), SubDag, Foreach, Condition]


def test_several_ends_meet_in_a_virtual_node() -> None:
    def write(dag: Dag) -> None:
        dag.append(working("a", "b"))
        dag.node("c").modify(work)
        dag.edge("a", "c", forward=False)

    root = built(write).root
    assert (root.end, root.nodes["end_0"].is_virtual) == ("end_0", True)
    assert [edge.source for edge in root.predecessors["end_0"]] == ["b", "c"]


def test_the_virtual_node_takes_an_id_that_is_free() -> None:
    def write(dag: Dag) -> None:
        dag.append(working("a", "end_0"))
        dag.node("end_0_").modify(work)
        dag.edge("a", "end_0_")

    assert built(write).root.end == "end_0__"


def test_end_combines_several_ends() -> None:
    def write(dag: Dag) -> None:
        dag.append(working("a", "b"))
        dag.node("c").modify(work)
        dag.edge("a", "c")
        dag.end(aggregator=join)

    assert built(write).root.nodes["end_0"].aggregator is join


def test_a_join_without_operations_hands_on_what_it_joined() -> None:
    def write(dag: Dag) -> None:
        dag.append(working("a", "b"))
        dag.node("join", aggregator=join)
        dag.edge("a", "join")
        dag.edge("b", "join")

    assert built(write).root.nodes["join"].operations == ()


def test_set_dag_replaces_the_dag_of_the_flow() -> None:
    flow = Flow()
    flow.dag().node("old").modify(work)
    flow.set_dag(working("new"))
    flow.dag().node("newer").modify(work)
    flow.dag().edge("new", "newer")

    assert list(flow.build().root.nodes) == ["new", "newer"]


def test_the_handlers_of_the_flow_are_kept_and_the_last_one_counts() -> None:
    flow = Flow()
    flow.sync_node().modify(work)
    flow.on_failure(work)
    flow.on_failure(handle)
    flow.finally_(print)
    definition = flow.build()

    assert (definition.on_failure, definition.finally_) == (handle, print)


@pytest.mark.parametrize("text", ANY_TEXT)
def test_ids_and_keys_may_be_any_text(text: str) -> None:
    def write(dag: Dag) -> None:
        dag.node(text).apply(text)
        dag.sub_dag(text + "s", working(text, text + "2"))
        dag.foreach_branch(text + "f", split, aggregator=join).append(working(text))
        for branch in dag.conditional_branch(text + "c", [text, ""], choose, aggregator=join).values():
            branch.append(working(text))
        for source, target in ("", "s"), ("s", "f"), ("f", "c"):
            dag.edge(text + source, text + target)

    root = built(write).root
    assert list(root.nodes) == [text, text + "s", text + "f", text + "c"]
    assert list(root.nodes[text + "c"].body.dags) == [text, ""]


def test_building_twice_gives_the_same_flow() -> None:
    flow = Flow()
    flow.dag().append(working("a", "b"))
    branch = flow.dag().foreach_branch("F", split, aggregator=join)
    branch.node("n").modify(work)
    flow.dag().edge("b", "F")

    assert flow.build().fingerprint == flow.build().fingerprint
    assert flow.build().root == flow.build().root
