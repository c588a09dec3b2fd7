"""The topological order: a cycle is found at the edge that closes it, at a cost that does not grow with the graph."""

from __future__ import annotations

import graphlib
import itertools
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from faasflow.graph.order import TopologicalOrder


class CountingOrder(TopologicalOrder):
    """Counts the nodes that are looked at when an order has to be changed."""

    visited = 0

    def _reach(self, *arguments):
        found = super()._reach(*arguments)
        self.visited += len(found)
        return found


def closes_a_cycle(edges: set[tuple[str, str]]) -> bool:
    """What the standard library says of a set of edges."""
    before: dict[str, set[str]] = {}
    for source, target in edges:
        before.setdefault(target, set()).add(source)
    try:
        graphlib.TopologicalSorter(before).prepare()
    except graphlib.CycleError:
        return True
    return False


edges_of = st.integers(2, 9).flatmap(
    lambda count: st.lists(st.tuples(*[st.integers(0, count - 1).map(lambda number: f"n{number}")] * 2), max_size=40)
)


@given(edges=edges_of)
def test_an_edge_is_refused_exactly_when_it_would_close_a_cycle(edges: list[tuple[str, str]]) -> None:
    order, accepted = TopologicalOrder(), set()
    for source, target in edges:
        order.add(source)
        order.add(target)
        cycle = order.link(source, target)

        assert bool(cycle) == closes_a_cycle({*accepted, (source, target)})
        if not cycle:
            accepted.add((source, target))


@given(edges=edges_of)
def test_a_reported_cycle_is_one_with_the_refused_edge(edges: list[tuple[str, str]]) -> None:
    order, accepted = TopologicalOrder(), set()
    for source, target in edges:
        order.add(source)
        order.add(target)
        cycle = order.link(source, target)
        if not cycle:
            accepted.add((source, target))
            continue

        assert (cycle[0], cycle[-1]) == (target, source)
        assert len(set(cycle)) == len(cycle)
        assert set(itertools.pairwise(cycle)) <= accepted


@given(edges=edges_of)
def test_a_refused_edge_leaves_no_trace(edges: list[tuple[str, str]]) -> None:
    order, again = TopologicalOrder(), TopologicalOrder()
    accepted = []
    for source, target in edges:
        order.add(source)
        order.add(target)
        if not order.link(source, target):
            accepted.append((source, target))
    for source, target in accepted:
        again.add(source)
        again.add(target)

        assert again.link(source, target) == []


def chain(count: int) -> list[tuple[str, str]]:
    return [(f"n{number}", f"n{number + 1}") for number in range(count - 1)]


@pytest.mark.parametrize("direction", [1, -1])
def test_a_chain_of_20000_reorders_nothing_from_either_end(direction: int) -> None:
    order = CountingOrder()
    for edge in chain(20_000)[::direction]:
        for node in edge[::direction]:
            order.add(node)
        assert order.link(*edge) == []

    assert order.visited == 0


def test_a_chain_written_with_its_nodes_first_reorders_nothing() -> None:
    for nodes_reversed in (False, True):
        for edges_reversed in (False, True):
            order, edges = CountingOrder(), chain(20_000)
            for number in sorted(range(20_000), reverse=nodes_reversed):
                order.add(f"n{number}")
            for edge in reversed(edges) if edges_reversed else edges:
                assert order.link(*edge) == []

            assert order.visited == 0


def test_a_shuffled_chain_visits_few_nodes_for_each_edge() -> None:
    for count in (2_000, 20_000):
        order, edges = CountingOrder(), chain(count)
        random.Random(7).shuffle(edges)
        for source, target in edges:
            order.add(source)
            order.add(target)
            assert order.link(source, target) == []

        assert order.visited < 40 * count


def test_the_last_edge_of_a_chain_of_20000_to_its_first_node_is_refused() -> None:
    order = TopologicalOrder()
    for source, target in chain(20_000):
        order.add(source)
        order.add(target)
        order.link(source, target)

    assert order.link("n19999", "n0") == [f"n{number}" for number in range(20_000)]


def test_a_ladder_of_200_diamonds_has_2_to_the_200_paths_and_costs_as_much_as_its_edges() -> None:
    ladder = [
        edge
        for step in range(200)
        for side in ("left", "right")
        for edge in ((f"{step}", f"{step}{side}"), (f"{step}{side}", f"{step + 1}"))
    ]
    for seed in range(5):
        edges, order = list(ladder), CountingOrder()
        if seed:
            random.Random(seed).shuffle(edges)
        for source, target in edges:
            order.add(source)
            order.add(target)
            assert order.link(source, target) == []
        assert order.link("200", "0")[0] == "0"

        assert order.visited < 100 * len(edges)


def test_a_node_that_is_added_again_stays_where_it_is() -> None:
    order = TopologicalOrder()
    for node in ("a", "b", "a"):
        order.add(node)
    order.link("a", "b")

    assert order.link("b", "a") == ["a", "b"]
