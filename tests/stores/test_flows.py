"""Flows end the same way on every store, also where their nodes need more of the store than it does at once."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from faasflow import Dag
from faasflow.engine.lifecycle import RequestState
from faasflow.ports import StateStore
from faasflow.stores import open_state_store
from faasflow.testing import FlowTester
from tests.stores.network import KINDS


@pytest.fixture(params=["sqlite", *KINDS])
def state(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[StateStore]:
    is_file = request.param == "sqlite"
    url = f"sqlite://{tmp_path / 'store.db'}" if is_file else request.getfixturevalue(f"{request.param}_server").url
    store = open_state_store(url)
    store.init()
    yield store
    store.cleanup()
    store.close()


def every_construct(flow: Any, context: Any) -> None:
    dag = flow.dag()
    dag.node("start").modify(lambda data: data)
    dag.node("end", aggregator=_all).modify(lambda data: data)
    each = dag.foreach_branch(
        "each", lambda data: {f"{number}%/": b"%d" % number for number in range(150)}, aggregator=_all
    )
    each.node("double").modify(lambda data: data * 2)
    for case in dag.conditional_branch("case", ["a/b", "c"], lambda data: ["a/b", "c"], aggregator=_all).values():
        case.node("take").modify(lambda data: data)
    inner = Dag()
    inner.node("inner").modify(bytes.upper)
    dag.sub_dag("sub", inner)
    for middle in ("each", "case", "sub"):
        dag.edge("start", middle)
        dag.edge(middle, "end")


def many_joins(flow: Any, context: Any) -> None:
    dag = flow.dag()
    dag.node("start").modify(lambda data: data)
    dag.node("end", aggregator=_all).modify(lambda data: data)
    for side in "ab":
        dag.node(side).modify(lambda data, side=side: side.encode())
        dag.edge("start", side)
    for number in range(140):
        dag.node(f"join {number}", aggregator=_all).modify(lambda data: data)
        dag.edge("a", f"join {number}")
        dag.edge("b", f"join {number}")
        dag.edge(f"join {number}", "end")


def failing(flow: Any, context: Any) -> None:
    flow.dag().node("only").modify(lambda data: 1 // 0)
    flow.on_failure(lambda error: f"{error.node} {error.error_type}")
    flow.finally_(lambda state: None)


@pytest.mark.parametrize("define", [every_construct, many_joins, failing])
def test_a_flow_ends_as_it_does_in_memory(state: StateStore, define: Any) -> None:
    expected = FlowTester(define).run(b"x", request_id="1/2")
    outcome = FlowTester(define, state=state).run(b"x", request_id="1/2")

    assert outcome.state is expected.state
    assert outcome.result == expected.result
    assert outcome.error == expected.error
    assert sorted(outcome.ran) == sorted(expected.ran)


def test_a_request_that_is_stopped_stays_so_on_every_store(state: StateStore) -> None:
    tester = FlowTester(every_construct, state=state)
    answer = tester.engine.start(b"x")
    tester.engine.stop(answer.request_id)
    tester.drain()

    assert tester.outcome(answer.request_id).state is RequestState.STOPPED


def _all(results: dict[str, bytes]) -> bytes:
    return b",".join(results.values())
