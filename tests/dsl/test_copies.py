"""`sub_dag` and `append` take copies: what is written on a DAG afterwards is its own affair."""

from __future__ import annotations

from faasflow import Dag, Flow
from faasflow.testing import FlowTester
from tests.dsl.support import built, choose, join, split, work, working


def nested() -> Dag:
    """A DAG with one of everything inside."""
    dag = working("a", "b")
    dag.sub_dag("S", working("x"))
    dag.foreach_branch("F", split, aggregator=join).append(working("y"))
    dag.conditional_branch("C", ["k"], choose, aggregator=join)["k"].append(working("z"))
    for source, target in ("b", "S"), ("S", "F"), ("F", "C"):
        dag.edge(source, target)
    return dag


def test_what_is_added_after_sub_dag_does_not_come_along() -> None:
    inner = working("x")
    flow = Flow()
    flow.dag().sub_dag("S", inner)
    before = flow.build().fingerprint
    inner.node("x").apply("late")
    inner.node("late").modify(work)
    inner.edge("x", "late")

    assert flow.build().fingerprint == before


def test_what_is_added_after_append_does_not_come_along() -> None:
    donor = nested()
    flow = Flow()
    flow.dag().append(donor)
    before = flow.build().fingerprint
    donor.node("a").apply("late")
    donor.node("late").modify(work)
    donor.edge("a", "late", forward=False)

    assert flow.build().fingerprint == before


def test_what_is_added_to_an_inner_branch_later_does_not_come_along() -> None:
    donor = Dag()
    branch = donor.foreach_branch("F", split, aggregator=join)
    branch.node("n").modify(work)
    flow = Flow()
    flow.dag().append(donor)
    before = flow.build().fingerprint
    branch.node("n").apply("late")

    assert flow.build().fingerprint == before


def test_what_is_added_to_the_copy_does_not_reach_the_donor() -> None:
    donor = working("a", "b")
    dag = Dag()
    dag.append(donor)
    dag.node("a").apply("more")
    dag.node("c").modify(work)
    dag.edge("b", "c")

    root = built(lambda root: root.append(donor)).root
    assert list(root.nodes) == ["a", "b"]
    assert [operation.name for operation in root.nodes["a"].operations] == ["work"]


def test_one_dag_may_be_used_twice() -> None:
    shared = Dag()
    shared.node("x").modify(lambda data: data + b"x")
    shared.node("y").modify(lambda data: data + b"y")
    shared.edge("x", "y")

    def define(flow, context):
        dag = flow.dag()
        dag.sub_dag("first", shared)
        dag.sub_dag("second", shared)
        dag.append(shared)
        dag.edge("first", "second")
        dag.edge("second", "x")

    outcome = FlowTester(define).run(b"-")
    assert outcome.result == b"-xyxyxy"
    assert outcome.ran == ["first/x", "first/y", "second/x", "second/y", "x", "y"]


def test_copies_of_one_dag_have_ids_of_their_own() -> None:
    shared = nested()

    def write(dag: Dag) -> None:
        dag.sub_dag("one", shared)
        dag.sub_dag("two", shared)
        dag.edge("one", "two")

    root = built(write).root
    first, second = (root.nodes[id].body.dag for id in ("one", "two"))
    assert (first.id, second.id) == ("1", "2")
    assert first.nodes["F"].body.dag.id == "1_4"
    assert second.nodes["F"].body.dag.id == "2_4"
    assert (first.label, second.nodes["C"].body.dags["k"].label) == ("one", "two/C=k")


def test_appended_nodes_are_numbered_anew_so_that_no_two_are_alike() -> None:
    def write(dag: Dag) -> None:
        dag.append(nested())
        other = Dag()
        other.sub_dag("T", working("x"))
        dag.append(other)
        dag.edge("C", "T")

    root = built(write).root
    assert [node.index for node in root.nodes.values()] == [1, 2, 3, 4, 5, 6]
    assert len({root.nodes[id].body.dag.id for id in ("S", "F", "T")}) == 3


def test_a_dag_may_hold_a_copy_of_a_former_self() -> None:
    def define(flow, context):
        dag = Dag()
        dag.node("add").modify(lambda data: data + b"1")
        for _ in range(3):
            outer = Dag()
            outer.sub_dag("before", dag)
            outer.sub_dag("after", dag)
            outer.edge("before", "after")
            dag = outer
        flow.set_dag(dag)

    assert FlowTester(define).run(b"").result == b"1" * 8


def test_the_aggregator_of_several_ends_is_copied_with_a_sub_dag() -> None:
    inner = working("a", "b")
    inner.node("c").modify(work)
    inner.edge("a", "c")
    inner.end(aggregator=lambda results: "+".join(results))

    assert FlowTester(lambda flow, context: flow.dag().sub_dag("S", inner)).run(b"x").result == b"b+c"


def test_a_flow_written_twice_from_one_dag_is_the_same_flow() -> None:
    donor = nested()

    assert built(lambda dag: dag.append(donor)).fingerprint == built(lambda dag: dag.append(donor)).fingerprint
