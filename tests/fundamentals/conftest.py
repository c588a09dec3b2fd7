"""`run_flow(define, functions={...})`: a flow to use, in every way that this folder runs flows."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from faasflow.stores import open_data_store, open_state_store
from tests.cluster.fixtures import cluster, jetstream_cluster, nats_server
from tests.cluster.installation import Cluster
from tests.fundamentals.running import InProcessFlow, RunningFlow, StandIn
from tests.servers.fixtures import consul_server, seaweed_server

RunFlow = Callable[..., RunningFlow]

__all__ = [
    "RunFlow",
    "cluster",
    "consul_server",
    "jetstream_cluster",
    "nats_server",
    "run_flow",
    "seaweed_server",
]


@pytest.fixture(params=["memory", "sqlite", "cluster", "jetstream_cluster"])
def run_flow(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[RunFlow]:
    """In memory, on SQLite, and in its own processes with Consul and S3, over the gateway's queue and JetStream."""
    if request.param.endswith("cluster"):
        started: Cluster = request.getfixturevalue(request.param)
        yield lambda define, functions=None: started.run_flow(define, functions or {})
        return
    url = "memory:" if request.param == "memory" else f"sqlite://{tmp_path}/flow.db"
    stores = {"state": open_state_store(url), "data": open_data_store(url)}
    for store in stores.values():
        store.init()

    def run_flow(define: Callable, functions: Mapping[str, StandIn] | None = None) -> RunningFlow:
        return InProcessFlow(define, functions or {}, **stores)

    yield run_flow
    for store in stores.values():
        store.close()
