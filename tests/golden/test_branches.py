"""Foreach and conditional branches: how many run, with what, and what their aggregator gets."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from faasflow import Dag
from faasflow.testing import FlowTester, Outcome, RequestState
from tests.golden.support import shown


def run(write: Callable[[Dag], Any], body: bytes = b"x") -> Outcome:
    return FlowTester(lambda flow, context: write(flow.dag())).run(body)


def wrap(name: str) -> Callable[[bytes], bytes]:
    return lambda data: name.encode() + b"(" + data + b")"


def foreach(values: Any, **options: Any) -> Callable[[Dag], None]:
    """A foreach over `values`, then a node that shows its result."""

    def write(dag: Dag) -> None:
        branch = dag.foreach_branch("F", lambda data: values, **({"aggregator": shown} | options))
        branch.node("n").modify(wrap("n"))
        dag.node("last").modify(wrap("last"))
        dag.edge("F", "last")

    return write


def condition(chosen: Any, **options: Any) -> Callable[[Dag], None]:
    """A condition of the keys `a`, `b` and `c`, then a node that shows its result."""

    def write(dag: Dag) -> None:
        options_ = {"aggregator": shown} | options
        for key, branch in dag.conditional_branch("C", ["a", "b", "c"], lambda data: chosen, **options_).items():
            branch.node("n").modify(wrap(key))
        dag.node("last").modify(wrap("last"))
        dag.edge("C", "last")

    return write


@pytest.mark.parametrize(
    ("values", "result"),
    [
        ({}, b"last()"),
        ({"k": b"1"}, b"last(k=n(1);)"),
        ({"z": b"1", "a": b"2", "m": b"3"}, b"last(z=n(1);a=n(2);m=n(3);)"),
        ({"k": "text", "j": {"a": 1}, "n": None}, b'last(k=n(text);j=n({"a":1});n=n();)'),
        ({"a/b": b"1", "..": b"2", "": b"3", "é\x00": b"4"}, "last(a/b=n(1);..=n(2);=n(3);é\x00=n(4);)".encode()),
        ([b"one", b"two"], b"last(0=n(one);1=n(two);)"),
    ],
)
def test_a_foreach_runs_once_for_each_key_and_joins_in_their_order(values: dict, result: bytes) -> None:
    assert run(foreach(values)).result == result


def test_a_foreach_of_300_keys_joins_them_all_in_their_order() -> None:
    values = {f"k{number * 7 % 300}": f"{number}" for number in range(300)}
    outcome = run(foreach(values))

    assert outcome.result == ("last(" + "".join(f"{key}=n({value});" for key, value in values.items()) + ")").encode()
    assert len(outcome.ran) == len(set(outcome.ran)) == 302


@pytest.mark.parametrize("values", [None, {b"1"}, b"text", 7])
def test_a_foreach_that_gives_no_dict_and_no_list_fails_its_node(values: Any) -> None:
    outcome = run(foreach(values))

    assert outcome.state is RequestState.FAILED
    assert outcome.error.startswith("F: BranchError: Foreach of node 'F' returned ")
    assert "Return a dict" in outcome.error


@pytest.mark.parametrize("key", [1, b"1", None, 1.5, True])
def test_a_foreach_with_a_key_that_is_no_text_fails_its_node_by_name(key: Any) -> None:
    assert f"returned the key {key!r}, " in run(foreach({"1": b"a", key: b"b"})).error


@pytest.mark.parametrize(
    ("chosen", "result"),
    [
        ([], b"last()"),
        (None, b"last()"),
        ("b", b"last(b=b(x);)"),
        (["b"], b"last(b=b(x);)"),
        (["c", "a"], b"last(a=a(x);c=c(x);)"),
        (("a", "b", "c"), b"last(a=a(x);b=b(x);c=c(x);)"),
        ({"a": 1}, b"last(a=a(x);)"),
        (["a", "a", "a"], b"last(a=a(x);)"),
        (["b", "a", "b"], b"last(a=a(x);b=b(x);)"),
    ],
)
def test_a_condition_runs_the_chosen_branches_and_joins_in_the_order_of_its_keys(chosen: Any, result: bytes) -> None:
    assert run(condition(chosen)).result == result


@pytest.mark.parametrize("chosen", [[None], [1], ["a", b"b"]])
def test_a_condition_that_chooses_what_is_no_text_fails_its_node_by_name(chosen: Any) -> None:
    outcome = run(condition(chosen))

    assert outcome.state is RequestState.FAILED
    assert outcome.error.startswith(f"C: BranchError: Condition of node 'C' returned the key {chosen[-1]!r}, ")


@pytest.mark.parametrize("chosen", [["d"], "d", ["a", "d"], [""]])
def test_a_condition_that_chooses_an_unknown_key_fails_its_node_by_name(chosen: Any) -> None:
    outcome = run(condition(chosen))

    assert outcome.state is RequestState.FAILED
    assert outcome.ran == ["C"]
    assert outcome.error.startswith("C: BranchError: Condition of node 'C' chose ")
    assert "Declared are 'a', 'b', 'c'" in outcome.error


@pytest.mark.parametrize("chosen", [7, b"a", 1.5])
def test_a_condition_that_gives_no_keys_fails_its_node(chosen: Any) -> None:
    assert "Return a key, or a list of keys" in run(condition(chosen)).error


@pytest.mark.parametrize("write", [foreach({"k": b"1", "l": b"2"}, aggregator=None, forward=False), foreach({})])
def test_a_foreach_without_results_goes_on_with_empty_data(write: Callable[[Dag], None]) -> None:
    assert run(write).result == b"last()"


@pytest.mark.parametrize("chosen", [["a", "c"], []])
def test_a_condition_that_does_not_forward_goes_on_with_empty_data(chosen: list[str]) -> None:
    outcome = run(condition(chosen, aggregator=None, forward=False))

    assert outcome.result == b"last()"
    assert len(outcome.ran) == len(chosen) + 2


def test_an_aggregator_is_not_called_where_results_are_not_forwarded() -> None:
    def never(results: dict) -> bytes:
        raise AssertionError("Nothing is forwarded.")

    assert run(foreach({"k": b"1"}, aggregator=never, forward=False)).result == b"last()"


@pytest.mark.parametrize("order_only", [True, False])
def test_branches_get_their_values_whether_or_not_data_flows_elsewhere(order_only: bool) -> None:
    """In the original this depended on the other edges of the DAG."""
    got = []

    def write(dag: Dag) -> None:
        branch = dag.foreach_branch("F", lambda data: {"k": b"v1", "l": b"v2"}, forward=False)
        branch.node("n").modify(got.append)
        dag.node("last").modify(wrap("last"))
        dag.edge("F", "last", forward=not order_only)

    assert run(write).result == b"last()"
    assert sorted(got) == [b"v1", b"v2"]


def test_branches_nest_three_levels_and_stay_apart() -> None:
    def write(dag: Dag) -> None:
        outer = dag.foreach_branch("F", lambda data: {"1": b"a", "2": b"b"}, aggregator=shown)
        cases = outer.conditional_branch("C", ["x", "y"], lambda data: ["x", "y"], aggregator=shown)
        for key, case in cases.items():
            inner = case.foreach_branch("F", lambda data: {"1": data + b"1", "2": data + b"2"}, aggregator=shown)
            inner.node("n").modify(wrap(key))

    def level(value: str) -> str:
        case = [f"{key}=" + "".join(f"{n}={key}({value}{n});" for n in "12") + ";" for key in "xy"]
        return "".join(case)

    outcome = run(write)
    assert outcome.result == f"1={level('a')};2={level('b')};".encode()
    assert len([path for path in outcome.ran if "/n@" in path]) == 8


def test_a_branch_may_have_several_ends() -> None:
    def write(dag: Dag) -> None:
        branch = dag.foreach_branch("F", lambda data: {"k": b"v", "l": b"w"}, aggregator=shown)
        for name in ("a", "b", "c"):
            branch.node(name).modify(wrap(name))
        branch.edge("a", "b")
        branch.edge("a", "c")

    assert run(write).result == b'k={"b":"b(a(v))","c":"c(a(v))"};l={"b":"b(a(w))","c":"c(a(w))"};'


def test_dynamic_nodes_may_begin_and_end_a_dag_and_follow_each_other() -> None:
    def write(dag: Dag) -> None:
        for name in ("F", "G"):
            branch = dag.foreach_branch(name, lambda data: {"k": data}, aggregator=lambda results: results["k"])
            branch.node("n").modify(wrap(name))
        dag.conditional_branch("C", ["a"], lambda data: "a", aggregator=shown)["a"].node("n").modify(wrap("a"))
        dag.edge("F", "G")
        dag.edge("G", "C")

    assert run(write).result == b"a=a(G(F(x)));"


def test_a_dynamic_node_joins_what_comes_in_before_it_splits() -> None:
    def write(dag: Dag) -> None:
        for name in ("a", "b"):
            dag.node(name).modify(wrap(name))
        dag.node("F", aggregator=shown)
        dag.foreach_branch("F", lambda data: {"k": data}, aggregator=lambda results: results["k"]).node("n").modify(
            wrap("n")
        )
        for source, target in ("a", "b"), ("a", "F"), ("b", "F"):
            dag.edge(source, target)

    assert run(write).result == b"n(a=a(x);b=b(a(x));)"


@pytest.mark.parametrize("width", [1, 2, 5])
def test_max_parallel_bounds_how_many_branches_are_under_way(width: int) -> None:
    def define(flow, context):
        branch = flow.dag().foreach_branch(
            "F", lambda data: {f"{n}": f"{n}" for n in range(7)}, aggregator=shown, max_parallel=width
        )
        branch.node("n").modify(wrap("n"))

    tester = FlowTester(define)
    request = tester.engine.start(b"x").request_id
    waiting = []
    while tester.transport.pending:
        message = tester.transport.pending.popleft()
        tester.engine.deliver(request, message.body)
        waiting.append(len(tester.transport.pending))

    assert max(waiting) == width
    assert tester.outcome(request).result == b"".join(f"{n}=n({n});".encode() for n in range(7))


def failing(data: Any) -> bytes:
    raise ValueError("broken on purpose")


@pytest.mark.parametrize(
    ("write", "path"),
    [
        (lambda dag: dag.foreach_branch("F", failing, aggregator=shown).node("n").modify(wrap("n")), "F"),
        (
            lambda dag: dag.foreach_branch("F", lambda data: {"k": b"1"}, aggregator=shown).node("n").modify(failing),
            "F/n@k",
        ),
        (
            lambda dag: (
                dag.foreach_branch("F", lambda data: {"k": b"1"}, aggregator=failing).node("n").modify(wrap("n"))
            ),
            "F",
        ),
        (
            lambda dag: dag.conditional_branch("C", ["a"], failing, aggregator=shown)["a"].node("n").modify(wrap("n")),
            "C",
        ),
        (
            lambda dag: (
                dag.conditional_branch("C", ["a"], lambda data: "a", aggregator=shown)["a"].node("n").modify(failing)
            ),
            "C=a/n",
        ),
        (
            lambda dag: (
                dag.conditional_branch("C", ["a"], lambda data: "a", aggregator=failing)["a"]
                .node("n")
                .modify(wrap("n"))
            ),
            "C",
        ),
    ],
)
def test_what_fails_in_a_branch_fails_the_request_and_is_named_by_its_path(write: Callable, path: str) -> None:
    outcome = run(write)

    assert outcome.state is RequestState.FAILED
    assert outcome.error == f"{path}: ValueError: broken on purpose"
