"""Receivers of spans, of each kind that spans are sent to."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tests.local.conftest import project, run_gateway, start_gateway
from tests.tracing.support import Agent, Collector, Receiver

__all__ = ["project", "run_gateway", "start_gateway"]


@pytest.fixture
def agent() -> Iterator[Agent]:
    agent = Agent()
    yield agent
    agent.close()


@pytest.fixture
def start_collector() -> Iterator[Callable[..., Collector]]:
    """Starts OTLP receivers that answer as they are told to."""
    started: list[Collector] = []

    def start(*statuses: int) -> Collector:
        started.append(Collector(*statuses))
        return started[-1]

    yield start
    for collector in started:
        collector.close()


@pytest.fixture
def collector(start_collector: Callable[..., Collector]) -> Collector:
    return start_collector()


@pytest.fixture(params=["agent", "collector"])
def receiver(request: pytest.FixtureRequest) -> Receiver:
    """Each kind of receiver."""
    receiver: Receiver = request.getfixturevalue(request.param)
    return receiver
