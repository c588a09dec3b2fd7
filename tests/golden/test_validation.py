"""What the original checked of a definition, row by row, and what it let pass. Here all of it is found when the flow is
written, or when it is built, before any request."""

from __future__ import annotations

import pytest

from faasflow import Dag, DefinitionError
from faasflow.testing import FlowTester
from tests.dsl.support import choose, join, split, work, working


def duplicate_edge(dag: Dag) -> None:
    dag.append(working("a", "b"))
    dag.edge("a", "b")


def cycle(dag: Dag) -> None:
    dag.append(working("a", "b", "c"))
    dag.edge("c", "a")


def self_edge(dag: Dag) -> None:
    dag.node("a").modify(work)
    dag.edge("a", "a")


def recursive_sub_dag(dag: Dag) -> None:
    dag.node("a").modify(work)
    dag.sub_dag("S", dag)


def appended_twice(dag: Dag) -> None:
    dag.append(working("a"))
    dag.append(working("a"))


def foreach_without_code(dag: Dag) -> None:
    dag.foreach_branch("F", None, aggregator=join)


def condition_without_code(dag: Dag) -> None:
    dag.conditional_branch("C", ["a"], None, aggregator=join)


def empty_root(dag: Dag) -> None:
    pass


def empty_sub_dag(dag: Dag) -> None:
    dag.sub_dag("S", Dag())


def empty_foreach(dag: Dag) -> None:
    dag.foreach_branch("F", split, aggregator=join)


def empty_key(dag: Dag) -> None:
    dag.conditional_branch("C", ["a", "b"], choose, aggregator=join)["b"].node("n").modify(work)


def two_starts(dag: Dag) -> None:
    dag.append(working("a", "end"))
    dag.node("b").modify(work)
    dag.edge("b", "end", forward=False)


def unreachable_node(dag: Dag) -> None:
    dag.append(working("a", "b"))
    dag.node("lost").modify(work)


def two_starts_inside(dag: Dag) -> None:
    branch = dag.foreach_branch("F", split, aggregator=join)
    branch.node("a").modify(work)
    branch.node("b").modify(work)


def join_without_aggregator(dag: Dag) -> None:
    dag.append(working("a", "b"))
    dag.node("c").modify(work)
    dag.edge("a", "c")
    dag.edge("b", "c")


def foreach_without_aggregator(dag: Dag) -> None:
    dag.foreach_branch("F", split)


def condition_without_aggregator(dag: Dag) -> None:
    dag.conditional_branch("C", ["a"], choose)


def node_without_operations(dag: Dag) -> None:
    dag.append(working("a"))
    dag.node("b")
    dag.edge("a", "b")


def edge_to_a_node_that_does_not_exist(dag: Dag) -> None:
    dag.node("a").modify(work)
    dag.edge("a", "b")


def dynamic_node_with_operations(dag: Dag) -> None:
    dag.foreach_branch("F", split, aggregator=join).node("n").modify(work)
    dag.node("F").modify(work)


def sub_dag_with_operations(dag: Dag) -> None:
    dag.sub_dag("S", working("a"))
    dag.node("S").apply("f")


def sub_dag_that_replaces_a_node(dag: Dag) -> None:
    dag.node("S").modify(work)
    dag.sub_dag("S", working("a"))


@pytest.mark.parametrize(
    ("mistake", "dag", "gist"),
    [
        # Found by the original while the flow was written, as a panic.
        (duplicate_edge, "root", "'a' to 'b' exists already"),
        (cycle, "root", "'c' to 'a' closes a cycle"),
        (recursive_sub_dag, "root", "'S'.* into itself"),
        (appended_twice, "root", "'a', which exists already"),
        (foreach_without_code, "root", "foreach of node 'F'"),
        (condition_without_code, "root", "condition of node 'C'"),
        # Found by the original at each request.
        (empty_root, "root", "no node"),
        (empty_sub_dag, "S", "no node"),
        (empty_foreach, "F", "no node"),
        (empty_key, "C=a", "no node"),
        (two_starts, "root", "2 start nodes: 'a' .*, 'b'"),
        (unreachable_node, "root", "2 start nodes: 'a' .*, 'lost'"),
        (two_starts_inside, "F", "2 start nodes: 'a' .*, 'b'"),
        # Let pass by the original.
        (self_edge, "root", "'a' to itself"),
        (join_without_aggregator, "root", "'c' .* joins 'a' and 'b' without an aggregator"),
        (foreach_without_aggregator, "root", "'F' has no aggregator"),
        (condition_without_aggregator, "root", "'C' has no aggregator"),
        (node_without_operations, "root", "'b' .* has nothing to do"),
        (edge_to_a_node_that_does_not_exist, "root", "node 'b', which does not exist"),
        (dynamic_node_with_operations, "root", "'F' stands for a foreach branch"),
        (sub_dag_with_operations, "root", "'S' stands for a sub-DAG"),
        (sub_dag_that_replaces_a_node, "root", "'S', which has the operation 'work' already"),
    ],
)
def test_a_flow_that_cannot_run_is_refused_before_any_request(mistake, dag: str, gist: str) -> None:
    with pytest.raises(DefinitionError, match=rf"DAG '{dag}'.*: .*{gist}"):
        FlowTester(lambda flow, context: mistake(flow.dag()))


def test_a_definition_that_raises_is_refused_before_any_request() -> None:
    def define(flow, context):
        raise KeyError("nothing of ours")

    with pytest.raises(DefinitionError, match=r"define\(\) failed with KeyError: 'nothing of ours'") as caught:
        FlowTester(define)
    assert isinstance(caught.value.__cause__, KeyError)


def test_several_ends_are_allowed() -> None:
    def define(flow, context):
        dag = flow.dag()
        dag.append(working("a", "b"))
        dag.node("c").modify(work)
        dag.edge("a", "c")

    assert FlowTester(define).run(b"x").result == b'{"b":"x","c":"x"}'


def test_a_node_may_be_called_dynamic() -> None:
    """Which was a word of the original's own."""

    def define(flow, context):
        dag = flow.dag()
        dag.foreach_branch("dynamic", split, aggregator=join).node("dynamic").modify(lambda data: data + b"!")
        dag.node("last").modify(work)
        dag.edge("dynamic", "last")

    assert FlowTester(define).run(b"x").result == b"x!"


def test_whether_a_function_exists_is_seen_when_it_is_called() -> None:
    tester = FlowTester(lambda flow, context: flow.sync_node().apply("nobody-knows"))

    assert "'nobody-knows'" in tester.run(b"x").error


def test_keys_that_are_declared_may_never_be_chosen() -> None:
    def define(flow, context):
        cases = flow.dag().conditional_branch("C", ["a", "b"], choose, aggregator=join)
        for branch in cases.values():
            branch.node("n").modify(work)

    assert FlowTester(define).run(b"x").ran == ["C=a/n", "C"]
