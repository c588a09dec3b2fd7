"""What a request costs the stores, counted in round trips and compared with the table the design promises."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from faasflow.stores import open_data_store, open_state_store
from faasflow.testing import FlowTester
from faasflow.testing.counting import CountingDataStore, CountingStore


@pytest.fixture(params=["memory", "sqlite"])
def counted(request, tmp_path: Path) -> Iterator[dict]:
    url = "memory:" if request.param == "memory" else f"sqlite://{tmp_path}/flow.db"
    state, data = open_state_store(url), open_data_store(url)
    state.init()
    data.init()
    yield {"state": CountingStore(state), "data": CountingDataStore(data)}
    state.close()
    data.close()


def run(define, counted: dict, body: bytes = b"x") -> tuple[int, int, int]:
    """Writes, reads and data store operations of one request from its start to its end."""
    tester = FlowTester(define, **counted)
    tester.engine.tick()  # as a process does when it starts
    for store in counted.values():
        store.reset()
    tester.engine.start(body)
    tester.drain()
    state, data = counted["state"], counted["data"]
    return state.writes, state.reads, data.sets + data.gets + data.others


def echo(data: bytes) -> bytes:
    return data


def test_one_synchronous_node_is_one_write(counted: dict) -> None:
    def define(flow, context):
        flow.sync_node().modify(echo)

    assert run(define, counted) == (1, 0, 0)


@pytest.mark.parametrize("length", [2, 10, 100])
def test_a_chain_is_one_write_and_one_read_a_node(counted: dict, length: int) -> None:
    def define(flow, context):
        dag = flow.dag()
        for index in range(length):
            dag.node(f"n{index}").modify(echo)
        for index in range(length - 1):
            dag.edge(f"n{index}", f"n{index + 1}")

    writes, reads, data = run(define, counted)

    assert writes == length + 1
    assert reads <= length
    assert data == 0


@pytest.mark.parametrize("width", [2, 10, 60])
def test_a_join_costs_nothing_beside_its_nodes(counted: dict, width: int) -> None:
    def define(flow, context):
        dag = flow.dag()
        dag.node("first").modify(echo)
        dag.node("join", aggregator=lambda inputs: b"".join(inputs.values())).modify(echo)
        for index in range(width):
            dag.node(f"n{index}").modify(echo)
            dag.edge("first", f"n{index}")
            dag.edge(f"n{index}", "join")

    writes, reads, data = run(define, counted)

    nodes = width + 2
    assert writes == nodes + 1
    assert reads <= nodes
    assert data == 0


@pytest.mark.parametrize(
    ("width", "length"), [(0, 1), (1, 1), (2, 3), (64, 1), (65, 1), (200, 2), (1000, 1), (4200, 1)]
)
def test_a_foreach_costs_its_nodes_and_little_more(counted: dict, width: int, length: int) -> None:
    def define(flow, context):
        branch = flow.dag().foreach_branch(
            "each", lambda data: {str(index): b"v" for index in range(width)}, aggregator=lambda results: len(results)
        )
        for index in range(length):
            branch.node(f"n{index}").modify(echo)
        for index in range(length - 1):
            branch.edge(f"n{index}", f"n{index + 1}")

    writes, reads, data = run(define, counted)

    assert writes <= width * length + width / 32 + 3
    assert reads <= width * length + 2
    assert data == 0


def test_the_cost_of_a_branch_is_the_same_for_1000_and_10000(counted: dict) -> None:
    def define(flow, context):
        branch = flow.dag().foreach_branch(
            "each",
            lambda data: {str(index): b"v" for index in range(int(data))},
            aggregator=lambda results: len(results),
        )
        branch.node("n").modify(echo)

    per_branch = {}
    for width in (1000, 10_000):
        writes, reads, data = run(define, counted, body=str(width).encode())
        per_branch[width] = (round(writes / width, 2), round(reads / width, 2), data)

    assert per_branch[1000] == pytest.approx(per_branch[10_000], abs=0.02)


def test_a_large_value_is_stored_once_and_read_where_it_is_needed(counted: dict) -> None:
    def define(flow, context):
        dag = flow.dag()
        dag.node("grow").modify(lambda data: data * 100_000)
        dag.node("use").modify(lambda data: str(len(data)))
        dag.edge("grow", "use")

    writes, reads, data = run(define, counted)

    assert (writes, reads) == (3, 2)
    assert data == 2
