"""Workers killed at every point of a run, nothing lost, doubled or wrong. And what the runs are judged by can fail."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace

import pytest

from faasflow.engine.engine import Answer
from faasflow.engine.lifecycle import RequestState
from tests.battery.crash import ROOT, Case, Played, all_cases, bounded_cases, cover, play, reference_for, stores_of
from tests.battery.crash_flows import FLOWS, CrashFlow
from tests.battery.crash_judge import Kind, Reference
from tests.battery.crash_run import Queue, Run, Stores, Stuck
from tests.servers.consul import ConsulServer
from tests.servers.fixtures import consul_server, seaweed_server
from tests.servers.seaweed import SeaweedServer

__all__ = ["consul_server", "seaweed_server"]

pytestmark = pytest.mark.timeout(300)

CHAIN = Case("chain")


@pytest.fixture(scope="module")
def stores() -> Iterator[Stores]:
    with stores_of(CHAIN) as stores:
        yield stores


@pytest.fixture(scope="module")
def reference(stores: Stores) -> Reference:
    return reference_for(CHAIN, stores)[0]


@pytest.fixture
def played(stores: Stores) -> Played:
    """A run in which nobody died, to be spoiled."""
    return play(CHAIN, stores, ())


def kinds(played: Played, reference: Reference) -> set[Kind]:
    return {flaw.kind for flaw in played.flaws(reference)}


def play_chain(stores: Stores, name: str, queue: Queue, *kills: int, **changes: object) -> Run:
    """A run of the chain, with changes to what it is."""
    run = Run(name, replace(FLOWS["chain"], **changes), stores, queue, kills)
    try:
        run.play()
    finally:
        run.end_worker()
    return run


def test_a_death_at_any_point_loses_doubles_and_changes_nothing(consul_server: ConsulServer) -> None:
    found = cover(bounded_cases(consul_server.url))

    assert found.failures == []
    assert (found.lost, found.doubled, found.wrong) == (0, 0, 0)
    assert found.covered == found.total > 450


def test_a_second_death_at_any_point_loses_doubles_and_changes_nothing() -> None:
    found = cover([Case("single", pairs=True)])

    assert found.failures == []
    assert found.covered == found.total > 150


def test_a_death_over_objects_in_s3_loses_doubles_and_changes_nothing(seaweed_server: SeaweedServer) -> None:
    found = cover([Case("chain", queue=Queue.LOSES, data=seaweed_server.url(bucket="crash"))])

    assert found.failures == []
    assert found.covered == found.total > 30


def test_the_long_form_has_every_flow_on_both_stores_and_all_pairs_of_six_nodes() -> None:
    cases = all_cases("consul://127.0.0.1")

    assert {(case.flow, case.store.partition(":")[0]) for case in cases} == {
        (flow, store) for flow in FLOWS for store in ("sqlite", "consul")
    }
    assert {(case.store.partition(":")[0], case.queue) for case in cases if case.pairs} == {
        (store, queue) for store in ("sqlite", "consul") for queue in Queue
    }


def test_a_worker_dies_where_it_is_told_and_another_one_goes_on(stores: Stores, reference: Reference) -> None:
    before = play(CHAIN, stores, (2 * _place("call b", stores) - 1,))
    after = play(CHAIN, stores, (2 * _place("call b", stores),))

    assert [_calls(one.run, "b") for one in (before, after)] == [[1], [0, 1]]
    assert [one.flaws(reference) for one in (before, after)] == [[], []]


def test_a_call_that_must_not_be_repeated_is_seen_when_it_is(stores: Stores, reference: Reference) -> None:
    run = play_chain(stores, "careless", Queue.RETRIES, 2 * _place("call b", stores), once="b")

    assert Kind.DOUBLED in kinds(Played(run), reference)


def test_a_run_that_goes_on_for_ever_is_seen(stores: Stores, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.battery.crash_run._LONGEST", 1)

    with pytest.raises(Stuck, match="not enough"):
        play_chain(stores, "hopeless", Queue.LOSES, drops={"node/b": float("inf")})


def test_a_request_that_did_not_end_is_lost(played: Played, reference: Reference) -> None:
    played.run.answer = None

    assert kinds(played, reference) == {Kind.LOST}


def test_a_call_that_was_not_made_is_lost(played: Played, reference: Reference) -> None:
    played.run.effects = [effect for effect in played.run.effects if effect.what != "b"]

    assert kinds(played, reference) == {Kind.LOST}


def test_a_call_made_twice_by_one_worker_is_doubled(played: Played, reference: Reference) -> None:
    played.run.effects.append(played.run.effects[1])

    assert kinds(played, reference) == {Kind.DOUBLED}


def test_a_repeated_call_with_another_key_is_doubled(played: Played, reference: Reference) -> None:
    played.run.effects.append(replace(played.run.effects[1], key="another", life=1))

    assert kinds(played, reference) == {Kind.DOUBLED}


def test_a_call_that_is_never_made_without_a_death_is_wrong(played: Played, reference: Reference) -> None:
    played.run.effects.append(replace(played.run.effects[1], body=b"something else", key="another"))

    assert kinds(played, reference) == {Kind.WRONG}


def test_another_result_is_wrong(played: Played, reference: Reference) -> None:
    played.run.answer = Answer("request", RequestState.FINISHED, b"another")

    assert kinds(played, reference) == {Kind.WRONG}


def test_what_is_left_after_retention_is_wrong(played: Played, reference: Reference) -> None:
    left = Played(played.run, [f"faasflow/{played.run.name}/request/input"])

    assert kinds(left, reference) == {Kind.WRONG}


def test_a_flow_that_is_wrong_without_a_death_is_told_once(stores: Stores, monkeypatch: pytest.MonkeyPatch) -> None:
    wrong: CrashFlow = replace(FLOWS["chain"], result=b"another")
    monkeypatch.setitem(FLOWS, "chain", wrong)  # type: ignore[arg-type]

    with pytest.raises(AssertionError, match=r"Without a death: .*it is FINISHED with"):
        reference_for(CHAIN, stores)


def test_one_run_can_be_played_alone() -> None:
    command = Case("chain", queue=Queue.LOSES).command((17,)).split()
    ended = subprocess.run([sys.executable, *command[1:]], capture_output=True, text=True, cwd=ROOT, timeout=60)

    assert ended.returncode == 0, ended.stderr
    events = [json.loads(line) for line in ended.stdout.splitlines()]
    assert [event["kind"] for event in events if event["what"] == "Fault"] == ["killed"]
    assert "Worker 1: " in ended.stderr


def _place(operation: str, stores: Stores) -> int:
    """The number of an operation in a run in which nobody dies, from 1."""
    return list(play(CHAIN, stores, ()).run.operations[0]).index(operation) + 1


def _calls(run: Run, function: str) -> list[int]:
    """Which workers called a function."""
    return [effect.life for effect in run.effects if effect.what == function]
