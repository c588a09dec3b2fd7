"""`run_flow(define, functions={...})`: a flow to use, in every way that this folder runs flows."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from faasflow.stores import open_data_store, open_state_store
from tests.cluster.installation import Cluster, running_cluster
from tests.fundamentals.running import InProcessFlow, RunningFlow, StandIn

RunFlow = Callable[..., RunningFlow]


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    folder = tmp_path_factory.mktemp("cluster")
    with running_cluster(
        folder, state_store=f"sqlite://{folder}/flow.db", data_store=f"sqlite://{folder}/flow.db"
    ) as cluster:
        yield cluster


@pytest.fixture(params=["memory", "sqlite", "cluster"])
def run_flow(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[RunFlow]:
    if request.param == "cluster":
        cluster: Cluster = request.getfixturevalue("cluster")
        yield lambda define, functions=None: cluster.run_flow(define, functions or {})
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
