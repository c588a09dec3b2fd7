"""Whole flows behind a gateway with a durable queue, each hop over HTTP."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from faasflow.http import create_app
from faasflow.local import Gateway
from faasflow.runtime import Handler, build_engine
from tests.http.support import Client, segment, served, settings
from tests.support import free_port


def define(flow: Any, context: Any) -> None:
    dag = flow.dag()
    dag.node("start").modify(bytes.upper)
    branches = dag.foreach_branch("each", lambda data: {key: key for key in data.decode()}, aggregator=_join)
    branches.node("double").modify(lambda data: data * 2)
    dag.node("end").modify(lambda data: data + b".")
    dag.edge("start", "each")
    dag.edge("each", "end")


def _join(results: dict[str, bytes]) -> bytes:
    return b"-".join(results.values())


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[Client]:
    """A gateway in front of the flow, which reaches its queue through it."""
    gateway = Gateway(state_dir=tmp_path, port=free_port())
    own = settings(gateway=gateway.url)
    engine = build_engine(Handler(define=define), own)
    with served(create_app(engine, settings=own), threads=32) as function:
        gateway.add_upstream("flow", [f"http://127.0.0.1:{function.port}"])
        gateway.start()
        yield Client(int(gateway.url.rpartition(":")[2]))
        gateway.stop(grace=5)


def test_a_flow_with_branches_runs_to_its_end(gateway: Client) -> None:
    reply = gateway.post("/function/flow?wait=30s", b"abc")

    assert (reply.status, reply.body) == (200, b"AA-BB-CC.")


@pytest.mark.parametrize("id", ["..", "a/b", "%2f", "a?b#c", "😀", "x" * 200])
def test_a_request_of_any_id_runs_to_its_end(gateway: Client, id: str) -> None:
    reply = gateway.post("/function/flow?wait=30s", b"ab", {"X-Faas-Flow-Reqid": id.encode()})
    state = gateway.get(f"/function/flow/flow/{segment(id)}/state")

    assert (reply.status, reply.body) == (200, b"AA-BB.")
    assert state.body == b"FINISHED"
    assert gateway.get(f"/function/flow?state={quote(id, safe='')}").body == b"FINISHED"


def test_many_requests_at_once_all_end_with_their_own_result(gateway: Client) -> None:
    texts = [f"{chr(97 + number % 26)}{number}" for number in range(50)]
    with ThreadPoolExecutor(16) as pool:
        replies = list(pool.map(lambda text: gateway.post("/function/flow?wait=30s", text.encode()), texts))

    expected = ["-".join(key * 2 for key in dict.fromkeys(text.upper())) + "." for text in texts]
    assert [(reply.status, reply.body.decode()) for reply in replies] == [(200, text) for text in expected]


def test_a_start_through_the_queue_is_a_start(gateway: Client) -> None:
    queued = gateway.post("/async-function/flow", b"ab", {"X-Faas-Flow-Reqid": b"r1"})
    started = gateway.post("/function/flow?wait=30s", b"ab", {"X-Faas-Flow-Reqid": b"r1"})

    assert queued.status == 202
    assert (started.status, started.body) == (200, b"AA-BB.")
