"""Fixtures that give real servers: one of each kind per test process, started when the first test asks for it. A server
that does not start fails the test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TypeVar

import pytest

from tests.servers.certificates import Certificates, make_certificates
from tests.servers.consul import ConsulServer
from tests.servers.etcd import EtcdServer
from tests.servers.process import Server
from tests.servers.redis import RedisServer
from tests.servers.seaweed import SeaweedServer

S = TypeVar("S", bound=Server)
Run = Callable[[S], S]


@pytest.fixture(scope="session")
def consul_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ConsulServer]:
    yield from _running(ConsulServer(tmp_path_factory.mktemp("consul")))


@pytest.fixture(scope="session")
def etcd_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EtcdServer]:
    yield from _running(EtcdServer(tmp_path_factory.mktemp("etcd")))


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    yield from _running(RedisServer(tmp_path_factory.mktemp("redis")))


@pytest.fixture(scope="session")
def seaweed_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SeaweedServer]:
    yield from _running(SeaweedServer(tmp_path_factory.mktemp("seaweed")))


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    """Certificates for servers on 127.0.0.1 and for those who call them."""
    return make_certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture
def run_server(tmp_path: Path) -> Iterator[Run[S]]:
    """Starts a server of the test's own, which ends with the test."""
    with ExitStack() as ended:

        def run(server: S) -> S:
            ended.callback(server.kill)
            server.start()
            return server

        yield run


def _running(server: S) -> Iterator[S]:
    try:
        server.start()
        yield server
    finally:
        server.stop()
