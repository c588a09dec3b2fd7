"""The fixture `cluster`: Consul, S3, a gateway and a flow in two processes, started once in a test process."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.cluster.installation import Cluster, running_cluster
from tests.jetstream.support import WorkerProcess
from tests.servers.consul import ConsulServer
from tests.servers.nats import NatsServer
from tests.servers.seaweed import SeaweedServer


@pytest.fixture(scope="session")
def nats_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NatsServer]:
    server = NatsServer(tmp_path_factory.mktemp("nats"))
    try:
        server.start()
        yield server
    finally:
        server.stop()


@pytest.fixture(scope="session")
def jetstream_cluster(
    tmp_path_factory: pytest.TempPathFactory,
    consul_server: ConsulServer,
    seaweed_server: SeaweedServer,
    nats_server: NatsServer,
) -> Iterator[Cluster]:
    """The same, with messages between nodes in JetStream, and a worker that is killed again and again."""
    folder = tmp_path_factory.mktemp("jetstream")
    stream = f"{nats_server.url}?stream=fundamentals"
    stores = {"state_store": consul_server.url, "data_store": seaweed_server.url(bucket="jetstream")}
    with (
        running_cluster(folder, **stores, dispatcher=stream) as cluster,
        mortal_worker(folder, stream, cluster.url),
    ):
        yield cluster


@contextmanager
def mortal_worker(folder: Path, nats: str, gateway: str, *, every: float = 3.0) -> Iterator[None]:
    """A worker that dies by kill -9 every few seconds, and is followed by another."""
    ended = threading.Event()

    def live_and_die() -> None:
        for number in itertools.count():
            worker = WorkerProcess(folder, nats, gateway, name=f"worker-{number}")
            is_last = ended.wait(every)
            worker.kill()
            if is_last:
                return

    thread = threading.Thread(target=live_and_die)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


@pytest.fixture(scope="session")
def cluster(
    tmp_path_factory: pytest.TempPathFactory, consul_server: ConsulServer, seaweed_server: SeaweedServer
) -> Iterator[Cluster]:
    folder = tmp_path_factory.mktemp("cluster")
    with running_cluster(folder, state_store=consul_server.url, data_store=seaweed_server.url()) as cluster:
        yield cluster
