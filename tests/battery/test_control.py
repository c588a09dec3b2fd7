"""Requests that are paused, resumed and stopped at every boundary and at random: nothing is lost, nothing is repeated.

`FAASFLOW_BATTERY=long` lets all flows be steered by all programs on both stores, and races run longer.
"""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace

import pytest

from faasflow.engine.lifecycle import RequestState
from tests.battery.control import (
    PROGRAMS,
    Case,
    all_cases,
    bounded_cases,
    cover,
    places_of,
    reference_for,
    try_seeds,
)
from tests.battery.control_flows import FLOWS
from tests.battery.control_judge import Reference
from tests.battery.control_mutants import MUTANTS
from tests.battery.control_race import race_at, try_races, url_of
from tests.battery.control_run import Places
from tests.servers.consul import ConsulServer
from tests.servers.fixtures import consul_server

__all__ = ["consul_server"]

pytestmark = pytest.mark.timeout(300)

IS_LONG = os.environ.get("FAASFLOW_BATTERY") == "long"
CASES = all_cases() if IS_LONG else bounded_cases()
ON_CONSUL = [case for case in CASES if case.store == "consul"]
ON_SQLITE = [case for case in CASES if case.store == "sqlite"]
SEEDS = range(1, 1001 if IS_LONG else 9)


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """What is refused on purpose, some thousand times, has no news for the log."""
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


@pytest.fixture(scope="module")
def places() -> Iterator[Places]:
    with places_of("memory") as places:
        yield places


@pytest.fixture(scope="module")
def reference(places: Places) -> Reference:
    return reference_for(Case("six", "memory"), places)


@pytest.mark.parametrize("case", ON_SQLITE, ids=[case.flow for case in ON_SQLITE])
def test_commands_at_every_boundary_lose_and_repeat_nothing(case: Case) -> None:
    found = cover([case])

    assert found.failures == []
    assert found.covered == found.total > 60


@pytest.mark.parametrize("case", ON_CONSUL, ids=[case.flow for case in ON_CONSUL])
def test_commands_at_every_boundary_lose_and_repeat_nothing_on_consul(case: Case, consul_server: ConsulServer) -> None:
    found = cover([replace(case, store=consul_server.url)])

    assert found.failures == []
    assert found.covered == found.total > 60


def test_the_boundaries_are_those_of_every_operation_of_six_nodes(reference: Reference) -> None:
    kinds = Counter(name.partition(" ")[0] for name in reference.names)

    assert set(kinds) == {"start", "deliver", "tick", "state", "data", "call", "forward", "code"}
    assert kinds["deliver"] == kinds["forward"] == 12
    assert kinds["call"] == len(reference.calls) + 1  # the callback


def test_the_bounded_form_has_every_flow_and_both_stores_and_the_long_form_everything() -> None:
    assert {case.flow for case in bounded_cases()} == set(FLOWS)
    assert {case.store for case in bounded_cases()} == {"sqlite", "consul"}
    assert {(case.flow, case.store) for case in all_cases()} == {
        (flow, store) for flow in FLOWS for store in ("sqlite", "consul")
    }
    assert all(len(list(case.runs(10))) == 10 * len(PROGRAMS) for case in all_cases())


def test_programs_that_are_dealt_out_are_all_given_between_two_operations() -> None:
    given = list(Case(each=3).runs(9))

    assert [point for point, _ in given] == [point for point in range(1, 10) for _ in range(3)]
    for after in range(2, 9, 2):
        assert {program for point, program in given if point in (after, after + 1)} == set(PROGRAMS)


def test_commands_at_many_boundaries_of_one_run_lose_and_repeat_nothing() -> None:
    found = try_seeds([Case(flow) for flow in FLOWS], range(1, 1001 if IS_LONG else 16))

    assert found.failures == []


@pytest.mark.parametrize("store", ["sqlite", "consul"])
def test_two_clients_that_race_lose_and_repeat_nothing(store: str, request: pytest.FixtureRequest) -> None:
    url = store if store == "sqlite" else request.getfixturevalue("consul_server").url

    assert try_races(url, SEEDS if store == "sqlite" or IS_LONG else SEEDS[:5]) == []


def test_a_race_parks_messages_and_stops_requests_and_refuses_commands() -> None:
    with url_of("sqlite") as url:
        races = [race_at(url, seed, stops=0.1)[0] for seed in (1, 2, 3)]

    answers = Counter((order.command, order.answer) for race in races for order in race.orders)
    assert answers["pause", "PAUSED"] > 5
    assert answers["stop", "STOPPED"] > 1
    assert answers["resume", "RequestConflictError"] > 1
    assert any("parked/" in getattr(event, "key", "") for race in races for event in race.history)


@pytest.mark.parametrize(("store", "count"), [("sqlite", 200), ("consul", 40)])
def test_paused_requests_that_are_resumed_all_at_once_end_each_step_done_once(
    store: str, count: int, request: pytest.FixtureRequest
) -> None:
    with url_of(store if store == "sqlite" else request.getfixturevalue("consul_server").url) as url:
        race, flaws = race_at(url, 1, stampede=True, requests=count, is_recorded=False)

    assert flaws == []
    assert race.ends == {RequestState.FINISHED: count}
    assert race.outside.deepest <= 3 * count


@pytest.mark.parametrize("name", MUTANTS)
def test_a_fault_in_pause_resume_or_stop_is_seen(name: str) -> None:
    mutant = MUTANTS[name]

    found = cover([Case(mutant.flow, "memory", (mutant.program,))], most=1, spoil=mutant.spoil)

    assert found.failures, f"{name} is not seen"
    assert mutant.says in found.failures[0]
