"""A story of any number of branches becomes one row per node."""

from __future__ import annotations

from typing import Any

from faasflow.cli.story import Row, is_closed, rows, running


def node(path: str, started: float, ended: float, state: str = "FINISHED") -> dict[str, Any]:
    return {"path": path, "state": state, "started": started, "ended": ended}


def split(path: str, branches: int, at: float = 0.0) -> dict[str, Any]:
    return {"path": path, "branches": branches, "started": at, "ended": at}


def story(*nodes: dict[str, Any], state: str = "RUNNING", closing: tuple[str, ...] = ()) -> dict[str, Any]:
    return {"state": state, "nodes": [*nodes], "closing": closing}


def row_of(path: str, *nodes: dict[str, Any]) -> Row:
    return next(row for row in rows(story(*nodes)) if row.path == path)


def test_plain_nodes_come_in_the_order_in_which_they_started() -> None:
    found = rows(story(node("b", 2, 3), node("a", 1, 2)))

    assert [(row.path, row.done, row.total, row.seconds) for row in found] == [("a", 1, 1, 1), ("b", 1, 1, 1)]


def test_a_node_that_is_tried_again_is_not_done() -> None:
    failed_once = {"path": "$on_failure", "state": "RETRYING", "started": None, "ended": None}
    told = story(node("a", 1, 2), failed_once | {"path": "b"}, failed_once, state="FAILED", closing=("$on_failure",))

    assert [row.path for row in rows(told)] == ["a"]
    assert running(told, {"a": [], "b": ["a"]}) == ["b"]
    assert not is_closed(told)


def test_branches_of_a_foreach_share_a_row() -> None:
    branches = [node(f"each/work@{number}", number, number + 5) for number in range(400)]

    row = row_of("each/work", split("each", 1000), *branches)

    assert (row.done, row.total, row.is_complete, row.seconds) == (400, 1000, False, 404)


def test_the_row_of_a_dynamic_node_lasts_from_its_opening_to_its_join() -> None:
    row = row_of("each", split("each", 2, at=1), node("each/work@0", 2, 3), node("each", 8, 9))

    assert (row.branches, row.is_complete, row.seconds) == (2, True, 8)


def test_a_nested_foreach_is_as_wide_as_all_its_branches_together() -> None:
    opened = [split("out", 2), split("out/in@a", 3), split("out/in@b", 1)]
    records = [node(f"out/in/work@a/{number}", 0, 1) for number in range(3)]

    assert row_of("out/in/work", *opened, *records).total == 4
    assert row_of("out/in/work", *opened[:2], *records).total is None, "b has not opened its branches yet"


def test_a_sub_dag_in_a_foreach_counts_as_its_nodes() -> None:
    assert row_of("each/sub/work", split("each", 2), node("each/sub/work@0", 0, 1)).total == 2


def test_how_many_branches_a_condition_in_a_foreach_will_choose_is_not_known() -> None:
    row = row_of("each/case=a/work", split("each", 2), split("each/case@0", 1), node("each/case=a/work@0", 0, 1))

    assert (row.done, row.total) == (1, None)


def test_a_foreach_in_a_condition_counts() -> None:
    row = row_of("case=a/each/work", split("case", 1), split("case=a/each", 7), node("case=a/each/work@0", 0, 1))

    assert row.total == 7


def test_a_failed_branch_is_counted() -> None:
    assert row_of("each/work", split("each", 2), node("each/work@0", 0, 1, "FAILED")).failed == 1


def test_names_are_shown_as_they_were_given() -> None:
    assert row_of("caf%C3%A9/a%2Fb", node("caf%C3%A9/a%2Fb", 0, 1)).name == "café/a/b"
    assert row_of("$finally", node("$finally", 0, 1)).name == "finally"


def test_running_is_what_is_not_done_and_waits_for_nothing_more() -> None:
    plan = {"a": [], "b": ["a"], "c": ["a"], "d": ["b", "c"], "e/x": None}

    assert running(story(), plan) == ["a"]
    assert running(story(node("a", 0, 1)), plan) == ["b", "c"]
    assert running(story(node("a", 0, 1), node("b", 1, 2)), plan) == ["c"]


def test_a_dynamic_node_runs_until_it_has_joined() -> None:
    plan = {"each": [], "each/work": None, "after": ["each"]}

    assert running(story(split("each", 2)), plan) == ["each"]
    assert running(story(split("each", 2), node("each", 0, 1)), plan) == ["after"]


def test_a_request_is_over_when_what_runs_after_its_end_has_run() -> None:
    closing = ("$on_failure", "$finally", "$callback")
    failed, answered, finally_ = node("a", 0, 1), node("$on_failure", 1, 2), node("$finally", 2, 3)

    assert is_closed(story(failed, state="FAILED"))
    assert not is_closed(story(failed, state="FAILED", closing=closing))
    assert not is_closed(story(failed, answered, state="FAILED", closing=closing))
    assert is_closed(story(failed, answered, finally_, state="FAILED", closing=closing))
    assert not is_closed(story())


def test_what_runs_after_the_end_of_a_retry_is_told_from_what_ran_before() -> None:
    once = node("$finally", 1, 2)

    assert not is_closed(story(once, state="FINISHED", closing=("$finally.1",)))
    assert is_closed(story(once, node("$finally.1", 3, 4), state="FINISHED", closing=("$finally.1",)))
    assert [row.name for row in rows(story(once, node("$finally.1", 3, 4)))] == ["finally", "finally of retry 1"]
