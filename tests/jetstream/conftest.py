from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest

from tests.jetstream.support import Gateway, Stream, WorkerProcess, gateway
from tests.servers.fixtures import certificates, run_server
from tests.servers.nats import NatsServer

__all__ = ["certificates", "run_server"]

_numbers = itertools.count()


@pytest.fixture(scope="session")
def nats_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NatsServer]:
    server = NatsServer(tmp_path_factory.mktemp("nats"))
    try:
        server.start()
        yield server
    finally:
        server.stop()


@pytest.fixture
def stream(nats_server: NatsServer) -> Stream:
    return Stream(nats_server, f"test-{next(_numbers)}")


@pytest.fixture
def functions() -> Iterator[Gateway]:
    """A gateway that answers 200 unless the test says otherwise."""
    with gateway() as made:
        yield made


@pytest.fixture
def run_worker(tmp_path, functions: Gateway) -> Iterator:
    """Starts workers as processes, which end with the test."""
    started: list[WorkerProcess] = []

    def run(stream: Stream, *options: str) -> WorkerProcess:
        started.append(WorkerProcess(tmp_path, stream.url, functions.url, *options, name=f"worker-{len(started)}"))
        return started[-1]

    yield run
    for worker in started:
        worker.kill()
