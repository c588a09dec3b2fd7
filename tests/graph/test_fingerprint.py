"""What names the shape of a flow: not the order of its lines, unless that decides where arrivals are recorded."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest

from faasflow import Flow
from faasflow.graph.model import ARRIVALS_OF_A_GROUP, Definition


def built(*lines: Callable[[Any], Any]) -> Definition:
    """A flow whose DAG is written line by line."""
    flow = Flow()
    dag = flow.dag()
    for line in lines:
        line(dag)
    return flow.build()


def joined(results: Any) -> str:
    return str(results)


def nodes_of(count: int) -> list[Callable[[Any], Any]]:
    def node(number: int) -> Callable[[Any], Any]:
        return lambda dag: dag.node(f"n{number}").modify(bytes.upper)

    return [node(number) for number in range(count)]


def first_and_last(dag: Any) -> None:
    dag.node("first").modify(bytes.upper)
    dag.node("last", aggregator=joined).modify(bytes.upper)


def wide(count: int, order: list[int]) -> Definition:
    def edges(dag: Any) -> None:
        for number in order:
            dag.edge("first", f"n{number}")
            dag.edge(f"n{number}", "last")

    return built(first_and_last, *nodes_of(count), edges)


@pytest.mark.parametrize("seed", range(10))
def test_the_order_of_nodes_and_edges_does_not_count(seed):
    def edge(*ends: str) -> Callable[[Any], Any]:
        return lambda dag: dag.edge(*ends)

    edges = [edge(*ends) for number in range(6) for ends in (("first", f"n{number}"), (f"n{number}", "last"))]
    nodes = [first_and_last, *nodes_of(6)]
    before = built(*nodes, *edges)
    chance = random.Random(seed)
    chance.shuffle(nodes)
    chance.shuffle(edges)
    after = built(*nodes, *edges)

    assert before.fingerprint == after.fingerprint
    assert after.has_fingerprint(before.fingerprint)


def test_the_order_of_the_keys_of_a_condition_does_not_count():
    def condition(*keys: str) -> Definition:
        flow = Flow()
        branches = flow.dag().conditional_branch("if", list(keys), lambda data: ["yes"], aggregator=joined)
        for key in sorted(keys):
            branches[key].node("n").apply(key)
        return flow.build()

    assert condition("yes", "no").fingerprint == condition("no", "yes").fingerprint
    assert condition("yes", "no").fingerprint != condition("yes", "maybe").fingerprint


def test_another_edge_operation_or_order_of_operations_counts():
    def chain(*operations: str, edges: str = "ab bc") -> str:
        flow = Flow()
        dag = flow.dag()
        for name in "abc":
            node = dag.node(name, aggregator=joined)
            for operation in operations:
                node.apply(operation)
        for source, target in edges.split():
            dag.edge(source, target)
        return flow.build().fingerprint

    assert chain("f", "g") != chain("g", "f")
    assert chain("f") != chain("g")
    assert chain("f", edges="ab bc ac") != chain("f")


def test_of_a_join_whose_arrivals_are_counted_in_groups_the_order_counts():
    narrow, more = ARRIVALS_OF_A_GROUP, ARRIVALS_OF_A_GROUP + 1

    def upwards_and_downwards(count: int) -> set[str]:
        return {wide(count, order).fingerprint for order in ([*range(count)], [*reversed(range(count))])}

    assert len(upwards_and_downwards(narrow)) == 1
    assert len(upwards_and_downwards(more)) == 2


def test_a_fingerprint_of_a_former_version_is_known_by_its_order():
    one, other = wide(3, [0, 1, 2]), wide(3, [2, 1, 0])

    assert one.has_fingerprint(one._in_order)
    assert not other.has_fingerprint(one._in_order)
    assert other.has_fingerprint(one.fingerprint)
