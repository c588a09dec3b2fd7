"""Flows behind real servers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from faasflow.testing import FlowTester
from tests.http.support import Client, front, served
from tests.support import free_port

Serve = Callable[..., Client]


@pytest.fixture(scope="session")
def httpserver_listen_address() -> tuple[str, int]:
    return "127.0.0.1", free_port()


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Serves the flow of a tester, with changes to the settings."""
    with ExitStack() as stack:

        def start(tester: FlowTester, *, threads: int = 8, **changes: Any) -> Client:
            app = front(tester, threads=threads, **changes)
            return stack.enter_context(served(app, threads=2 * threads))

        yield start


@pytest.fixture
def shout(serve: Serve) -> Client:
    """A flow of one synchronous node that answers in capitals."""
    return serve(FlowTester(define_shout))


@pytest.fixture
def chain() -> FlowTester:
    """A flow of two nodes, which runs when its messages are delivered."""
    return FlowTester(define_chain)


def define_shout(flow: Any, context: Any) -> None:
    flow.sync_node().modify(bytes.upper)


def define_chain(flow: Any, context: Any) -> None:
    dag = flow.dag()
    dag.node("first").modify(lambda data: data + b"1")
    dag.node("second").modify(lambda data: data + b"2")
    dag.edge("first", "second")
