"""What requests cost Consul and etcd, counted by a proxy in front of them, against the design's table."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from faasflow.ports import StateStore
from faasflow.stores import open_state_store
from faasflow.testing import FlowTester
from tests.servers.counting import CountingProxy, is_consul_write, is_etcd_write


@pytest.fixture(params=["consul", "etcd"])
def counted(request: pytest.FixtureRequest) -> Iterator[tuple[StateStore, CountingProxy]]:
    server = request.getfixturevalue(f"{request.param}_server")
    proxy = CountingProxy(f"127.0.0.1:{server.port}", is_consul_write if request.param == "consul" else is_etcd_write)
    store = open_state_store(f"{request.param}://127.0.0.1:{proxy.port}")
    store.init()
    store.cleanup()
    yield store, proxy
    store.close()
    proxy.close()


def run(define, counted: tuple[StateStore, CountingProxy]) -> tuple[int, int]:
    """Writes and reads of one request from its start to its end."""
    store, proxy = counted
    tester = FlowTester(define, state=store)
    proxy.reset()
    tester.engine.start(b"x")
    tester.drain()
    return proxy.writes, proxy.reads


def echo(data: bytes) -> bytes:
    return data


def test_one_synchronous_node_is_one_write(counted) -> None:
    assert run(lambda flow, context: flow.sync_node().modify(echo), counted) == (1, 0)


def test_a_chain_is_one_write_and_one_read_a_node(counted) -> None:
    def define(flow, context):
        dag = flow.dag()
        for index in range(10):
            dag.node(f"n{index}").modify(echo)
        for index in range(9):
            dag.edge(f"n{index}", f"n{index + 1}")

    writes, reads = run(define, counted)

    assert writes == 11
    assert reads <= 10


def test_a_join_costs_nothing_beside_its_nodes(counted) -> None:
    def define(flow, context):
        dag = flow.dag()
        dag.node("first").modify(echo)
        dag.node("join", aggregator=lambda inputs: b"".join(inputs.values()))
        for index in range(20):
            dag.node(f"n{index}").modify(echo)
            dag.edge("first", f"n{index}")
            dag.edge(f"n{index}", "join")

    writes, reads = run(define, counted)

    assert writes == 22 + 1
    assert reads <= 22


@pytest.mark.parametrize(("width", "length"), [(1, 1), (64, 1), (65, 1), (100, 2), (500, 1)])
def test_a_foreach_costs_its_nodes_and_little_more(counted, width: int, length: int) -> None:
    def define(flow, context):
        branch = flow.dag().foreach_branch(
            "each", lambda data: {str(index): b"v" for index in range(width)}, aggregator=lambda results: len(results)
        )
        for index in range(length):
            branch.node(f"n{index}").modify(echo)
        for index in range(length - 1):
            branch.edge(f"n{index}", f"n{index + 1}")

    writes, reads = run(define, counted)

    assert writes <= width * length + width / 32 + 3
    assert reads <= width * length + 2
