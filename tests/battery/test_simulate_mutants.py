"""Each feature of the simulation finds a fault that nothing else in it does."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator

import pytest

from tests.battery.checker import Violation
from tests.battery.simulate import RATES, simulate
from tests.battery.simulate_mutants import MUTANTS


def violations(seeds: Iterable[int], *, without: Collection[str]) -> Iterator[Violation]:
    for seed in seeds:
        yield from simulate(seed, without=without).violations


@pytest.mark.parametrize("name", MUTANTS)
def test_the_fault_is_seen_with_the_feature_alone(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    mutant = MUTANTS[name]
    monkeypatch.setattr(mutant.target, mutant.does)

    found = violations(range(1, mutant.seeds + 1), without=frozenset(RATES) - mutant.needs)

    assert any(violation.invariant in mutant.breaks for violation in found)


@pytest.mark.parametrize("name", MUTANTS)
def test_the_fault_is_not_seen_with_all_the_others(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    mutant = MUTANTS[name]
    monkeypatch.setattr(mutant.target, mutant.does)

    found = violations(range(1, 61), without=mutant.needs | mutant.apart)

    assert not list(found)


def test_each_feature_alone_is_green_without_a_fault() -> None:
    for needs in {mutant.needs for mutant in MUTANTS.values()}:
        assert not list(violations(range(1, 11), without=frozenset(RATES) - needs))
