"""Every interleaving over small flows, within bounds that fit a test run; the long form has a command of its own."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.battery.explore import BOUNDED, Budget, Exploration, Plan, Variant, explore, main, replay
from tests.battery.flows import INPUT, evaluate


@pytest.mark.parametrize("plan", BOUNDED, ids=[f"{flow} with {budget}" for flow, budget in BOUNDED])
def test_no_order_of_events_loses_doubles_or_falsifies_anything(plan: Plan) -> None:
    report = explore(*plan)

    assert report.violations == [], str(report)
    assert report.is_complete
    assert report.ends > 0


def test_payloads_in_the_data_store_are_explored_too() -> None:
    report = explore("diamond", Budget(drops=1, doubles=1), Variant(inline_limit=0))

    assert report.violations == [], str(report)
    assert report.states > explore("diamond", Budget(drops=1, doubles=1)).states


def test_payloads_in_the_data_store_of_an_id_that_is_used_again_are_explored_too() -> None:
    for budget in (Budget(doubles=1, removals=1), Budget(crashes=1, removals=1), Budget(removals=2)):
        report = explore("chain", budget, Variant(inline_limit=0))

        assert report.violations == [], str(report)
        assert report.is_complete


def test_what_may_run_at_most_once_never_runs_twice_whenever_a_worker_dies() -> None:
    exploration = Exploration("once", Budget())
    expected = evaluate(exploration.definition, INPUT, may_fail=True)

    for budget in (Budget(crashes=1), Budget(doubles=1, pauses=1)):
        report = explore("once", budget, expected=expected)

        assert report.violations == [], str(report)
        assert report.is_complete


def test_every_budget_leads_to_more_states_than_none() -> None:
    nothing = explore("chain", Budget()).states
    each = [Budget(**{name: 1}) for name in ("doubles", "drops", "crashes", "early", "pauses", "stops", "removals")]

    assert all(explore("chain", budget).states > nothing for budget in each)


def test_the_number_of_states_is_the_same_in_every_run() -> None:
    code = "from tests.battery.explore import *; print(explore('diamond', Budget(doubles=1)).states)"

    runs = {subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout for _ in range(2)}

    assert runs == {f"{explore('diamond', Budget(doubles=1)).states}\n".encode()}


def test_a_path_that_violates_is_printed_and_can_be_walked_alone(capsys) -> None:
    name = "a pause that also forwards"
    assert main(["--flow", "chain", "--pauses", "1", "--mutant", name]) == 1
    printed = capsys.readouterr().out
    path = printed.partition('--path "')[2].partition('"')[0]

    assert main(["--flow", "chain", "--pauses", "1", "--mutant", name, "--path", path]) == 0
    assert "I9: request 'r'" in capsys.readouterr().out


def test_a_path_that_cannot_be_says_what_can() -> None:
    with pytest.raises(ValueError, match="'stop' cannot happen here"):
        replay("chain", Budget(), ["stop"])


def test_an_exploration_that_is_cut_off_says_so() -> None:
    report = explore("diamond", Budget(doubles=1), most=50)

    assert not report.is_complete
    assert "cut off" in str(report)


def test_a_wrong_expectation_is_seen() -> None:
    """The result is compared, not only that there is one."""
    exploration = Exploration("chain", Budget())
    other = evaluate(exploration.definition, INPUT + b"?")

    report = explore("chain", Budget(), expected=other)

    assert {violation.invariant for violation in report.violations} == {"I4"}
