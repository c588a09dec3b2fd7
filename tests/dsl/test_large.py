"""Large graphs are built at a cost that grows with their edges, not with their paths; the cost is counted in calls."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from faasflow import Dag
from faasflow.graph.export import to_dot, to_json, to_mermaid
from tests.dsl.support import built, calls_of, join, work, working

LONG = 20_000
Edges = list[tuple[str, str]]


def chain(length: int, order: Callable[[Edges], Edges]) -> Callable[[Dag], None]:
    def write(dag: Dag) -> None:
        for number in range(length):
            dag.node(f"n{number}").modify(work)
        for source, target in order([(f"n{number}", f"n{number + 1}") for number in range(length - 1)]):
            dag.edge(source, target)

    return write


def ladder(steps: int) -> Callable[[Dag], None]:
    """`steps` diamonds in a row: 2 to the power of `steps` paths."""

    def write(dag: Dag) -> None:
        dag.node("0").modify(work)
        for step in range(steps):
            dag.node(f"{step}left").modify(work)
            dag.node(f"{step}right").modify(work)
            dag.node(f"{step + 1}", aggregator=join)
            for side in ("left", "right"):
                dag.edge(f"{step}", f"{step}{side}")
                dag.edge(f"{step}{side}", f"{step + 1}")

    return write


def shuffled(edges: Edges) -> Edges:
    random.Random(5).shuffle(edges)
    return edges


ORDERS = {"from the start": list, "from the end": lambda edges: edges[::-1], "shuffled": shuffled}


@pytest.mark.parametrize("order", ORDERS)
def test_a_chain_of_20000_nodes_is_built(order: str) -> None:
    root = built(chain(LONG, ORDERS[order])).root

    assert (root.start, root.end, len(root.nodes)) == ("n0", f"n{LONG - 1}", LONG)


@pytest.mark.parametrize("order", ORDERS)
def test_a_node_of_a_long_chain_costs_hardly_more_than_one_of_a_short_chain(order: str) -> None:
    write = {length: chain(length, ORDERS[order]) for length in (500, 5000)}
    per_node = {length: calls_of(lambda write=write[length]: built(write)) / length for length in write}

    assert per_node[5000] < 2 * per_node[500]


def test_a_ladder_of_200_diamonds_is_built() -> None:
    root = built(ladder(200)).root

    assert (len(root.nodes), len(list(root.edges())), root.end) == (601, 800, "200")


def test_a_diamond_of_a_long_ladder_costs_as_much_as_one_of_a_short_ladder() -> None:
    per_diamond = {steps: calls_of(lambda steps=steps: built(ladder(steps))) / steps for steps in (20, 200)}

    assert per_diamond[200] < 1.2 * per_diamond[20]


def test_copying_a_ladder_costs_as_much_as_its_edges() -> None:
    dags = {steps: Dag() for steps in (20, 200)}
    for steps, dag in dags.items():
        ladder(steps)(dag)
    per_diamond = {steps: calls_of(lambda dag=dag: Dag().sub_dag("S", dag)) / steps for steps, dag in dags.items()}

    assert per_diamond[200] < 1.2 * per_diamond[20]


@pytest.mark.parametrize("export", [to_json, to_mermaid, to_dot])
def test_exports_cost_as_much_as_what_they_show(export: Callable) -> None:
    small, large = built(ladder(20)), built(ladder(200))

    assert calls_of(lambda: export(large)) < 12 * calls_of(lambda: export(small))


def test_a_dag_with_10000_branches_side_by_side_is_built() -> None:
    def write(dag: Dag) -> None:
        dag.node("first").modify(work)
        dag.node("last", aggregator=join)
        for number in range(10_000):
            dag.node(f"n{number}").modify(work)
            dag.edge("first", f"n{number}")
            dag.edge(f"n{number}", "last")

    assert len(built(write).root.predecessors["last"]) == 10_000


def test_sub_dags_may_be_nested_50_deep() -> None:
    dag = working("core")
    for level in range(50):
        outer = Dag()
        outer.sub_dag(f"level {level}", dag)
        dag = outer
    definition = built(lambda root: root.append(dag))

    assert definition.is_single_node
    assert to_json(definition)["start-node"] == "level 49"
    assert "core" in to_mermaid(definition)
