"""The battery can fail: with each fault put in by hand the exploration goes red, and without it stays green."""

from __future__ import annotations

import pytest

from tests.battery.explore import explore, replay
from tests.battery.mutants import MUTANTS


@pytest.mark.parametrize("name", MUTANTS)
def test_the_exploration_goes_red_with_the_fault(name: str) -> None:
    mutant = MUTANTS[name]

    report = explore(mutant.flow, mutant.budget, mutant.variant)
    lines = replay(mutant.flow, mutant.budget, report.path, mutant.variant)

    assert {violation.invariant for violation in report.violations} & mutant.breaks
    assert any(str(violation) in line for violation in report.violations for line in lines)


@pytest.mark.parametrize("name", MUTANTS)
def test_the_same_exploration_is_green_without_the_fault(name: str) -> None:
    mutant = MUTANTS[name]

    report = explore(mutant.flow, mutant.budget, mutant.healthy)

    assert report.violations == []
    assert report.is_complete
