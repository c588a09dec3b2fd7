"""Random DAGs with nested branches: what the engine does equals a straightforward recursive evaluation."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from faasflow.codec import readable
from faasflow.errors import TryAgainError
from faasflow.stores import open_data_store, open_state_store
from faasflow.testing import FlowTester, RequestState
from tests.engine.random_flows import DagSpec, Evaluated, Written, dag_specs, digest

BODY = b"the input"
_settings = settings(
    max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)


@pytest.fixture(params=["memory", "sqlite"])
def stores(request, tmp_path: Path) -> Iterator[dict]:
    url = "memory:" if request.param == "memory" else f"sqlite://{tmp_path}/flow.db"
    stores = {"state": open_state_store(url), "data": open_data_store(url)}
    for store in stores.values():
        store.init()
    yield stores
    for store in stores.values():
        store.close()


def test_no_digest_is_read_as_a_number() -> None:
    digests = [digest(str(number).encode()) for number in range(20_000)]

    assert [readable(data) for data in digests] == [data.decode() for data in digests]


@_settings
@given(spec=dag_specs())
def test_every_node_runs_once_and_the_result_is_that_of_recursion(stores: dict, spec: DagSpec) -> None:
    written, evaluated = Written(spec), Evaluated(spec)

    outcome = FlowTester(written.define, **stores).run(BODY)

    assert outcome.error == ""
    assert outcome.result == evaluated.result(BODY)
    assert written.runs == evaluated.runs


@_settings
@given(spec=dag_specs(), seed=st.integers(0, 2**32))
def test_messages_delivered_up_to_three_times_in_any_order_change_nothing(
    stores: dict, spec: DagSpec, seed: int
) -> None:
    written, evaluated = Written(spec), Evaluated(spec)
    tester = FlowTester(written.define, **stores)
    started = tester.engine.start(BODY)

    deliver_in_disorder(tester, random.Random(seed))

    outcome = tester.outcome(started.request_id)
    assert outcome.state is RequestState.FINISHED
    assert outcome.result == evaluated.result(BODY)
    assert written.runs == evaluated.runs


def deliver_in_disorder(tester: FlowTester, chance: random.Random) -> None:
    """Deliver every message one to three times, in a random order over all that are known by then."""
    waiting: list = []
    pending = tester.transport.pending
    while waiting or pending:
        while pending:
            message = pending.popleft()
            waiting += [message] * chance.randint(1, 3)
        message = waiting.pop(chance.randrange(len(waiting)))
        try:
            tester.engine.deliver(message.request_id, message.body)
        except TryAgainError:
            waiting.append(message)
            tester.clock.advance(chance.random())
