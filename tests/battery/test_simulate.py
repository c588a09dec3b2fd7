"""What seeds show, that they repeat, and that the simulation notices what it is there for."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from faasflow.ports import Create, Op, Outcome, Put
from faasflow.stores.memory import MemoryStateStore
from tests.battery import simulate
from tests.battery.simulate import KINDS, RATES, explain, plan_of, run_seeds
from tests.battery.simulate_tally import EXERCISED


def test_nothing_is_lost_doubled_or_wrong_whatever_strikes():
    numbers = run_seeds(1, 200)

    assert not numbers.failures, "\n".join(explain(seed) for seed in numbers.failures[:3])
    assert numbers.requests > 200
    assert set(numbers.faults) == set(RATES)
    assert {name for name in EXERCISED if not numbers.exercised[name]} == set()
    assert len(numbers.repairs) > 20
    assert numbers.p99 < 300


def test_a_seed_is_the_same_life_each_time():
    first, second = simulate.simulate(3), simulate.simulate(3)

    assert first.faults
    assert list(first.history.dump()) == list(second.history.dump())


def test_without_any_fault_every_function_is_called_as_often_as_recursion_says():
    result = simulate.simulate(3, without=KINDS)

    assert not result.faults
    assert not result.violations


class LastWriterWins(MemoryStateStore):
    """A store whose creations overwrite."""

    def transact(self, ops: Sequence[Op]) -> Outcome:
        return super().transact([Put(op.key, op.value) if isinstance(op, Create) else op for op in ops])


def test_a_store_whose_creations_overwrite_is_noticed_and_made_small(monkeypatch):
    monkeypatch.setattr(simulate, "MemoryStateStore", LastWriterWins)

    numbers = run_seeds(1, 60)

    assert numbers.doubled
    told = explain(numbers.failures[0])
    assert f"python -m tests.battery.simulate --seed {numbers.failures[0]}\n" in told
    assert "Smallest: " in told
    assert "--without" in told


def test_a_queue_that_forgets_without_a_clock_that_repairs_is_noticed(monkeypatch):
    monkeypatch.setattr("faasflow.engine.repair.round_of", lambda *times: 0)
    monkeypatch.setattr(simulate, "_MOST_STEPS", 500)

    assert run_seeds(1, 20).lost


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_smaller_flow_is_the_beginning_of_the_whole_one(seed):
    whole, part = plan_of(seed), plan_of(seed, nodes=1)

    assert part.spec.nodes == whole.spec.nodes[:1]
    assert part.rates == whole.rates
