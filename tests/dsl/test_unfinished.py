"""What only the finished definition can show is raised by `build`, with the line at which the node was written."""

from __future__ import annotations

import inspect

import pytest

from faasflow import Dag, DefinitionError, Flow
from tests.dsl.support import built, choose, join, split, work, working


def line_above() -> str:
    """The line above that of the caller, as the errors show it."""
    caller = inspect.currentframe().f_back
    return f"test_unfinished.py:{caller.f_lineno - 1}"


def mistake_of(flow: Flow) -> str:
    """What `build` says."""
    with pytest.raises(DefinitionError) as caught:
        flow.build()
    return str(caught.value)


def test_a_flow_without_a_node() -> None:
    assert mistake_of(Flow()) == ("DAG 'root': It has no node. Add one with flow.sync_node() or flow.dag().node(id).")


def test_an_empty_sub_dag() -> None:
    flow = Flow()
    flow.dag().sub_dag("S", Dag())
    line = line_above()

    assert mistake_of(flow) == f"DAG 'S' ({line}): It has no node. Add one with node(id)."


def test_an_empty_foreach() -> None:
    flow = Flow()
    flow.dag().foreach_branch("F", split, aggregator=join)
    line = line_above()

    assert mistake_of(flow) == f"DAG 'F' ({line}): It has no node. Add one with node(id)."


def test_a_declared_key_without_a_node() -> None:
    flow = Flow()
    dags = flow.dag().conditional_branch("C", ["a", "b"], choose, aggregator=join)
    line = line_above()
    dags["a"].node("n").modify(work)

    assert mistake_of(flow) == f"DAG 'C=b' ({line}): It has no node. Add one with node(id)."


def test_two_start_nodes() -> None:
    flow = Flow()
    dag = flow.dag()
    dag.node("a").modify(work)
    first = line_above()
    dag.node("b").modify(work)
    second = line_above()
    dag.node("c", aggregator=join)
    dag.edge("a", "c")
    dag.edge("b", "c")

    assert mistake_of(flow) == (
        f"DAG 'root': It has 2 start nodes: 'a' ({first}), 'b' ({second}). "
        "Begin with one node and link the others to it with edge()."
    )


def test_many_start_nodes_are_counted_and_the_first_are_named() -> None:
    flow = Flow()
    for number in range(100):
        flow.dag().node(f"n{number}").modify(work)

    said = mistake_of(flow)
    assert "100 start nodes: 'n0'" in said
    assert said.count("test_unfinished.py") == 5


def test_a_sync_node_beside_other_nodes() -> None:
    flow = Flow()
    flow.sync_node().modify(work)
    flow.dag().node("other").modify(work)

    assert "2 start nodes: 'sync'" in mistake_of(flow)


def test_a_join_without_an_aggregator() -> None:
    flow = Flow()
    dag = flow.dag()
    dag.append(working("a", "b"))
    dag.node("join").modify(work)
    line = line_above()
    dag.edge("a", "join")
    dag.edge("b", "join")

    assert mistake_of(flow) == (
        f"DAG 'root': Node 'join' ({line}) joins 'a' and 'b' without an aggregator. "
        "Give node(..., aggregator=), or edge(..., forward=False) for all but one of them."
    )


def test_a_wide_join_without_an_aggregator_names_some_of_what_it_joins() -> None:
    flow = Flow()
    dag = flow.dag()
    dag.node("first").modify(work)
    dag.node("join").modify(work)
    for number in range(50):
        dag.node(f"n{number}").modify(work)
        dag.edge("first", f"n{number}")
        dag.edge(f"n{number}", "join")

    assert "joins 50 nodes (n0, n1, n2, n3, n4)" in mistake_of(flow)


def test_a_join_of_which_only_one_edge_forwards_needs_no_aggregator() -> None:
    def write(dag: Dag) -> None:
        dag.append(working("a", "b"))
        dag.node("join").modify(work)
        dag.edge("a", "join")
        dag.edge("b", "join", forward=False)

    assert built(write).root.nodes["join"].aggregator is None


@pytest.mark.parametrize("place", ["start", "middle", "end"])
def test_a_node_with_nothing_to_do(place: str) -> None:
    flow = Flow()
    dag = flow.dag()
    for id in ("start", "middle", "end"):
        node = dag.node(id)
        line = line_above()
        if id != place:
            node.modify(work)
    dag.edge("start", "middle")
    dag.edge("middle", "end")

    assert mistake_of(flow) == (
        f"DAG 'root': Node {place!r} ({line}) has nothing to do. "
        "Give it apply(), modify(), request(), a sub-DAG or a branch, or remove it."
    )


def test_a_sync_node_with_nothing_to_do() -> None:
    flow = Flow()
    flow.sync_node()
    line = line_above()

    assert f"Node 'sync' ({line}) has nothing to do" in mistake_of(flow)


def test_the_line_is_that_of_the_first_call_of_node() -> None:
    flow = Flow()
    flow.dag().node("a")
    line = line_above()
    flow.dag().node("a")

    assert f"({line})" in mistake_of(flow)


def test_copies_name_the_line_of_the_original() -> None:
    inner = Dag()
    inner.node("idle")
    line = line_above()
    flow = Flow()
    flow.dag().sub_dag("S", inner)

    assert mistake_of(flow).startswith(f"DAG 'S': Node 'idle' ({line}) has nothing to do")


def test_a_mistake_deep_inside_is_named_by_the_way_to_it() -> None:
    flow = Flow()
    each = flow.dag().foreach_branch("F", split, aggregator=join)
    case = each.conditional_branch("C", ["a"], choose, aggregator=join)["a"]
    case.sub_dag("S", Dag())

    assert mistake_of(flow).startswith("DAG 'F/C=a/S'")
