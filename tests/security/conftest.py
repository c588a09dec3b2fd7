"""A flow under way behind a real server, whose stores are compared before and after."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from faasflow.engine.engine import Engine
from faasflow.http import create_app
from faasflow.ports import Forward
from faasflow.testing import FlowTester
from tests.http.conftest import define_chain
from tests.http.support import KEY, Client, Reply, contents, served, settings
from tests.support import free_port


@pytest.fixture(scope="session")
def httpserver_listen_address() -> tuple[str, int]:
    return "127.0.0.1", free_port()


class Attacked:
    """A flow of two nodes whose request `r1` has started: its first message, and what is done with others."""

    def __init__(self, *, key: bytes | None = KEY, **changes: Any) -> None:
        self.tester = FlowTester(define_chain, key=key)
        self.app = create_app(self.tester.engine, settings=settings(key=key, **changes))
        self.client: Client
        self.tester.engine.start(b"x", request_id="r1")
        self.message: Forward = self.tester.transport.pending.popleft()
        self.before = self.state()

    @property
    def engine(self) -> Engine:
        return self.tester.engine

    def send(self, body: bytes, *, id: str = "r1") -> Reply:
        return self.client.post(f"/flow/{id}/forward", body)

    def state(self) -> Any:
        """All that could have changed."""
        tester = self.tester
        return contents(tester.state), {key: tester.data.get(key) for key in tester.data.list("")}, [*self._outside()]

    def _outside(self) -> Iterator[Any]:
        yield from self.tester.transport.pending
        yield from self.tester.transport.calls


@pytest.fixture
def attack() -> Iterator[Any]:
    """Makes flows under attack."""
    with ExitStack() as stack:

        def start(**changes: Any) -> Attacked:
            attacked = Attacked(**changes)
            attacked.client = stack.enter_context(served(attacked.app))
            return attacked

        yield start


@pytest.fixture
def attacked(attack: Any) -> Attacked:
    flow: Attacked = attack()
    return flow
