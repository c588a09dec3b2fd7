"""A queue that is slow is not flooded: how often each step is put is bounded, whatever the flow, the queue and the
clocks; and the faults that would flood it are noticed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import pytest

from faasflow.engine.again import T
from faasflow.engine.ledger import Ledger, StoredRequest
from faasflow.engine.parts import Parts
from faasflow.engine.queue_wait import QueueWait
from tests.battery.flood import Flood, Plan, Queue, plan_of, play

SEEDS = range(1, 31)


def put(floods: Iterable[Flood]) -> float:
    """How many messages were put for one that was needed."""
    floods = list(floods)
    return sum(flood.put.total() for flood in floods) / sum(flood.needed for flood in floods)


def test_each_step_is_put_as_often_as_the_longest_wait_allows_whatever_the_flow_the_queue_and_the_clocks() -> None:
    floods = [play(plan_of(seed)) for seed in SEEDS]

    assert [flood for flood in floods if max(flood.put.values()) > flood.most] == []
    assert [flood for flood in floods if flood.finished < flood.plan.requests] == []
    assert sum(flood.longest > 3 * flood.plan.repair_after for flood in floods) > 5
    assert put(floods) < 1.2


@pytest.mark.parametrize(("width", "requests", "work"), [(40, 3, 1.5), (60, 4, 1.0)])
def test_two_wide_layers_with_joins_need_no_message_more_where_the_queue_is_slow(
    width: int, requests: int, work: float
) -> None:
    queue = Queue(slots=8)
    flood = play(Plan(layers=(width, 1, width), requests=requests, work=work, queue=queue, repair_after=10.0))

    assert flood.finished == requests
    assert flood.put.total() == flood.needed
    assert set(flood.ran.values()) == {1}


@pytest.mark.parametrize("repair_after", [10.0, 30.0])
def test_a_queue_that_runs_one_at_a_time_and_forgets_finishes_a_hundred_requests_of_twenty_nodes(
    repair_after: float,
) -> None:
    queue = Queue(slots=1, forgets=True)
    flood = play(
        Plan(layers=(1, 4, 1, 5, 1, 5, 1), requests=100, work=2.0, queue=queue, apart=True, repair_after=repair_after)
    )

    assert flood.finished == 100
    assert flood.longest > 60 * repair_after / 10
    assert flood.put.total() <= 2 * flood.needed


def test_a_clock_that_is_never_delivered_to_knows_how_long_the_queue_takes() -> None:
    plan = Plan(layers=(40, 1, 40), requests=3, work=1.5, engines=1, apart=True, repair_after=10.0)

    assert put([play(plan)]) < 1.2


def _claims_all(ledger: Ledger, request: StoredRequest, wanted: Mapping[str, T]) -> list[T]:
    return list(wanted.values())


def test_clocks_that_forward_without_a_claim_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("faasflow.engine.again.claimed", _claims_all)

    floods = [play(plan_of(seed)) for seed in SEEDS]

    assert any(max(flood.put.values()) > flood.most for flood in floods)


def test_doubles_that_forward_without_a_claim_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    plan = Plan(layers=(30, 1, 30), work=0.1, queue=Queue(slots=4, delay=90.0), repair_after=10.0)
    monkeypatch.setattr(QueueWait, "longest", lambda self, period, read=False: 0.0)
    bounded = play(plan)
    monkeypatch.setattr("faasflow.engine.following.claimed", _claims_all)
    flood = play(plan)

    assert max(bounded.put.values()) <= bounded.most
    assert max(flood.put.values()) > flood.most


def test_a_patience_that_does_not_know_the_queue_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Parts, "patience", lambda self, read=False: self.repair_after)

    assert put(play(plan_of(seed)) for seed in range(1, 13)) > 1.3


def test_a_wait_that_is_not_shared_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(QueueWait, "_read", lambda self, now: None)
    plan = Plan(layers=(40, 1, 40), requests=3, work=1.5, engines=1, apart=True, repair_after=10.0)

    assert put([play(plan)]) > 1.3
