"""The README's pipeline on a queue that refuses every third message and loses every tenth, and what is left of it.

More requests: BAD_QUEUE_REQUESTS=1000 (a tenth of that on Consul), SOAK_REQUESTS=10000; `make battery` sets both.
"""

from __future__ import annotations

import gc
import os
import tracemalloc
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from faasflow.stores import open_data_store, open_state_store
from faasflow.testing import FlakyTransport, FlowTester, RequestState
from tests.servers.fixtures import consul_server

__all__ = ["consul_server"]

REQUESTS = int(os.environ.get("BAD_QUEUE_REQUESTS", "60"))
SOAKED = int(os.environ.get("SOAK_REQUESTS", "240"))
WEEK = 7 * 86400.0


@pytest.fixture(params=["sqlite", "consul"])
def tester(request, tmp_path: Path) -> Iterator[FlowTester]:
    url = f"sqlite://{tmp_path}/flow.db"
    if request.param == "consul":
        url = request.getfixturevalue("consul_server").url
    state, data = open_state_store(url), open_data_store(f"sqlite://{tmp_path}/data.db")
    for store in (state, data):
        store.init()
    yield pipeline(state=state, data=data)
    state.configure("bad-queue", "").cleanup()
    state.close()
    data.close()


def pipeline(**options) -> FlowTester:
    def bad(inner):
        return FlakyTransport(
            inner, before=lambda one: is_forward(one) and one.number % 3 == 0, loses=lambda one: one.number % 10 == 0
        )

    tester = FlowTester(define, name="bad-queue", wrap=bad, **options)
    tester.function("image-resizer", lambda body: b"small " + body)
    tester.function("face-detect", lambda body: b", faces in " + body)
    tester.function("file-storage", lambda body: b"stored " + body)
    return tester


def is_forward(operation) -> bool:
    return operation.name == "forward"


def define(flow, context):
    dag = flow.dag()
    dag.node("read").modify(lambda body: body.strip())
    dag.node("shrink").apply("image-resizer", query={"width": "400"})
    dag.node("faces").apply("face-detect", timeout=20)
    dag.node("store", aggregator=lambda parts: parts["shrink"] + parts["faces"]).apply("file-storage")
    for middle in ("shrink", "faces"):
        dag.edge("read", middle)
        dag.edge(middle, "store")


def test_a_queue_that_refuses_and_loses_messages_delays_requests_and_harms_none(tester: FlowTester, request) -> None:
    count = REQUESTS if "sqlite" in request.node.callspec.id else max(10, REQUESTS // 10)
    for number in range(count):
        tester.engine.start(b" picture %d " % number, request_id=f"bad-{number}")

    tester.settle()

    for number in range(count):
        outcome = tester.outcome(f"bad-{number}")
        assert outcome.state is RequestState.FINISHED
        assert outcome.result == b"stored small picture %d, faces in picture %d" % (number, number)
    keys = Counter((call.function, call.headers["Idempotency-Key"]) for call in tester.transport.calls)
    assert len(keys) == 3 * count


def test_without_the_clock_such_a_queue_does_lose_requests(tmp_path: Path) -> None:
    tester = pipeline()
    for number in range(20):
        tester.engine.start(b"picture", request_id=f"bad-{number}")

    tester.drain()

    assert any(tester.engine.state(f"bad-{number}") is RequestState.RUNNING for number in range(20))


def test_after_retention_the_stores_are_as_small_as_before_and_memory_does_not_grow(tmp_path: Path) -> None:
    stores = {"state": open_state_store(f"sqlite://{tmp_path}/flow.db"), "data": open_data_store("memory:")}
    for store in stores.values():
        store.init()
    tester = FlowTester(define, name="soak", inline_limit=64, **stores)
    for name in ("image-resizer", "face-detect", "file-storage"):
        tester.function(name, lambda body: body * 2)
    used = []
    tracemalloc.start()
    for _ in range(6):
        for number in range(SOAKED // 6):
            tester.run(b"x" * 100, request_id=f"soak-{number}")
        tester.clock.advance(WEEK + 61)
        tester.engine.tick()
        tester.transport.calls.clear()
        assert [key.rpartition("/")[2] for key in stores["state"].list("")] == ["$clock"]
        assert not stores["data"].list("")
        gc.collect()
        used.append(tracemalloc.get_traced_memory()[0])
    tracemalloc.stop()
    for store in stores.values():
        store.close()

    assert max(used[2:]) < used[1] * 1.1 + 100_000
