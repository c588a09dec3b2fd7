"""How a flow says what is to be done when something fails, and what of that cannot be meant."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator
from dataclasses import MISSING, fields
from typing import Any, ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from faasflow import Dag, DefinitionError, Flow, Node, Retry, graph
from tests.dsl.support import built, choose, handle, join, split, work, working

OFTEN, ONCE_MORE = Retry(attempts=9), Retry(attempts=2, codes=[503])


class TestCalls:
    """What the calls and options become in the graph."""

    @pytest.mark.parametrize("call", ["apply", "request"])
    def test_a_call_may_have_a_policy_of_its_own(self, call: str) -> None:
        definition = built(lambda dag: getattr(dag.node("n"), call)("http://host/f", retry=OFTEN))

        assert definition.root.nodes["n"].operations[0].retry is OFTEN

    def test_a_node_takes_every_option(self) -> None:
        def write(dag: Dag) -> None:
            dag.node("n", aggregator=join, retry=OFTEN, timeout=30, on_error="continue").modify(work)
            dag.node("m", timeout=0.5, at_most_once=True).modify(work)
            dag.edge("n", "m")

        nodes = built(write).root.nodes
        assert (nodes["n"].aggregator, nodes["n"].retry, nodes["n"].timeout) == (join, OFTEN, 30)
        assert (nodes["n"].at_most_once, nodes["n"].continues) == (False, True)
        assert (nodes["m"].timeout, nodes["m"].at_most_once, nodes["m"].continues) == (0.5, True, False)

    def test_a_synchronous_node_takes_those_that_fit_it(self) -> None:
        flow = Flow()
        flow.sync_node(retry=OFTEN, timeout=3).modify(work)
        node = flow.build().root.nodes["sync"]

        assert (node.retry, node.timeout, node.at_most_once) == (OFTEN, 3, False)

    def test_a_synchronous_node_may_run_at_most_once(self) -> None:
        flow = Flow()
        flow.sync_node().modify(work)
        flow.sync_node(at_most_once=True)

        assert flow.build().root.nodes["sync"].at_most_once

    def test_the_flow_has_a_policy_and_a_timeout_and_the_last_ones_count(self) -> None:
        flow = Flow()
        flow.retry(ONCE_MORE)
        flow.timeout(5)
        flow.sync_node().modify(work)
        flow.retry(OFTEN)
        flow.timeout(3600)
        definition = flow.build()

        assert (definition.retry, definition.timeout) == (OFTEN, 3600)

    def test_without_options_nothing_is_tried_again_or_timed(self) -> None:
        definition = built(lambda dag: dag.node("n").apply("f"))
        node = definition.root.nodes["n"]

        assert (definition.retry, definition.timeout) == (None, None)
        assert (node.retry, node.timeout, node.at_most_once, node.continues) == (None, None, False, False)
        assert node.operations[0].retry is None

    def test_later_calls_add_options(self) -> None:
        def write(dag: Dag) -> None:
            dag.node("n", retry=OFTEN).modify(work)
            dag.node("n", timeout=4)
            dag.node("n", aggregator=join, on_error="stop")
            dag.node("n", retry=Retry(attempts=9), timeout=4.0, at_most_once=False)

        node = built(write).root.nodes["n"]
        assert (node.retry, node.timeout, node.aggregator, node.continues) == (OFTEN, 4, join, False)

    def test_the_policy_of_the_flow_may_stand_beside_nodes_that_run_at_most_once(self) -> None:
        flow = Flow()
        flow.retry(OFTEN)
        flow.sync_node(at_most_once=True).apply("pay")

        assert flow.build().root.nodes["sync"].retry is None

    @pytest.mark.parametrize("make", [lambda dag: each(dag, "n"), lambda dag: case(dag, "n")])
    @pytest.mark.parametrize("is_first", [True, False])
    def test_the_code_that_opens_and_joins_branches_may_be_tried_again_and_timed(
        self, make: Callable[[Dag], Any], is_first: bool
    ) -> None:
        def write(dag: Dag) -> None:
            if is_first:
                dag.node("n", retry=OFTEN, timeout=5, at_most_once=False, on_error="stop")
            make(dag)
            if not is_first:
                dag.node("n", retry=OFTEN, timeout=5, at_most_once=False, on_error="stop")

        node = built(write).root.nodes["n"]
        assert (node.retry, node.timeout) == (OFTEN, 5)

    @pytest.mark.parametrize(
        ("on_error", "tolerated"),
        [("stop", None), ("collect", 1.0), (0, 0), (2, 2), (10**9, 10**9), (0.0, 0.0), (0.25, 0.25), (1.0, 1.0)],
    )
    def test_a_foreach_says_how_many_branches_may_fail(self, on_error: Any, tolerated: float | None) -> None:
        found = built(lambda dag: each(dag, "n", on_error=on_error)).root.nodes["n"].body.tolerated

        assert (found, type(found)) == (tolerated, type(tolerated))

    def test_unless_it_says_so_a_foreach_tolerates_no_failure(self) -> None:
        assert built(lambda dag: each(dag, "n")).root.nodes["n"].body.tolerated is None


def each(dag: Dag, id: str, **options: Any) -> None:
    dag.foreach_branch(id, split, aggregator=join, **options).append(working("x"))


def case(dag: Dag, id: str) -> None:
    dag.conditional_branch(id, ["k"], choose, aggregator=join)["k"].append(working("x"))


# What stands in the DAG, the call, and its whole error.
AGAIN = "What may run at most once is never tried again; remove one of the two."
ONCE = "Give it once."
MISTAKES: dict[str, tuple[Callable[[Dag], Any], Callable[[Dag], Any], str]] = {
    "policy that is a number": (
        lambda dag: dag.append(working("a")),
        lambda dag: dag.node("a", retry=3),
        "The retry of node 'a' is 3. Give a Retry, such as Retry(attempts=3).",
    ),
    "policy of a new node that is a class": (
        lambda dag: dag.append(working("a")),
        lambda dag: dag.node("new", retry=Retry),
        "The retry of node 'new' is <class 'faasflow.graph.policy.Retry'>. Give a Retry, such as Retry(attempts=3).",
    ),
    "policy of a call that is a dict": (
        lambda dag: dag.append(working("a")),
        lambda dag: dag.node("a").apply("f", retry={"attempts": 3}),
        "The retry of 'f' of node 'a' is {'attempts': 3}. Give a Retry, such as Retry(attempts=3).",
    ),
    "policy of a request that is False": (
        lambda dag: dag.append(working("a")),
        lambda dag: dag.node("a").request("http://h", retry=False),
        "The retry of 'http://h' of node 'a' is False. Give a Retry, such as Retry(attempts=3).",
    ),
    "at_most_once that is a number": (
        lambda dag: dag.append(working("a")),
        lambda dag: dag.node("a", at_most_once=1),
        "The at_most_once of node 'a' is 1. Give True or False.",
    ),
    "on_error of a node that is that of a foreach": (
        lambda dag: dag.append(working("a")),
        lambda dag: dag.node("a", on_error="collect"),
        "The on_error of node 'a' is 'collect'. Give 'stop' or 'continue'.",
    ),
    "on_error of a node that is a handler": (
        lambda dag: dag.append(working("a")),
        lambda dag: dag.node("a", on_error=[]),
        "The on_error of node 'a' is []. Give 'stop' or 'continue'.",
    ),
    "call with a misspelled option": (
        lambda dag: dag.append(working("a")),
        lambda dag: dag.node("a").apply("f", tiemout=3),
        "apply() of node 'a' has no option 'tiemout'. Did you mean 'timeout'?",
    ),
    "call with an unknown option": (
        lambda dag: dag.append(working("a")),
        lambda dag: dag.node("a").request("http://h", xyz=None),
        "request() of node 'a' has no option 'xyz'. It has headers, query, method, timeout, retry, on_failure, "
        "on_request, on_response.",
    ),
    "second policy": (
        lambda dag: dag.node("a", retry=OFTEN).modify(work),
        lambda dag: dag.node("a", retry=ONCE_MORE),
        "Node 'a' has retry=Retry(attempts=9) already and cannot have retry=Retry(attempts=2, codes=frozenset({503})) "
        "as well. Give it once.",
    ),
    "second timeout": (
        lambda dag: dag.node("a", timeout=5).modify(work),
        lambda dag: dag.node("a", timeout=6, at_most_once=True),
        f"Node 'a' has timeout=5 already and cannot have timeout=6 as well. {ONCE}",
    ),
    "at_most_once and not": (
        lambda dag: dag.node("a", at_most_once=True).modify(work),
        lambda dag: dag.node("a", at_most_once=False),
        f"Node 'a' has at_most_once=True already and cannot have at_most_once=False as well. {ONCE}",
    ),
    "on_error of both kinds": (
        lambda dag: dag.node("a", on_error="continue").modify(work),
        lambda dag: dag.node("a", on_error="stop"),
        f"Node 'a' has on_error='continue' already and cannot have on_error='stop' as well. {ONCE}",
    ),
    "at_most_once with a policy": (
        lambda dag: dag.append(working("a")),
        lambda dag: dag.node("new", at_most_once=True, retry=OFTEN),
        f"Node 'new' has at_most_once=True, but retry=Retry(attempts=9) for the node. {AGAIN}",
    ),
    "at_most_once after a policy": (
        lambda dag: dag.node("a", retry=OFTEN).modify(work),
        lambda dag: dag.node("a", at_most_once=True),
        f"Node 'a' has at_most_once=True, but retry=Retry(attempts=9) for the node. {AGAIN}",
    ),
    "at_most_once before a call with a policy": (
        lambda dag: dag.node("a", at_most_once=True).modify(work),
        lambda dag: dag.node("a").apply("pay", retry=OFTEN),
        f"Node 'a' has at_most_once=True, but retry=Retry(attempts=9) for 'pay'. {AGAIN}",
    ),
    "at_most_once after a call with a policy": (
        lambda dag: dag.node("a").modify(work).apply("pay", retry=OFTEN),
        lambda dag: dag.node("a", at_most_once=True),
        f"Node 'a' has at_most_once=True, but retry=Retry(attempts=9) for 'pay'. {AGAIN}",
    ),
    "policy of a sub-DAG": (
        lambda dag: dag.sub_dag("S", working("x")),
        lambda dag: dag.node("S", retry=OFTEN),
        "Node 'S' stands for a sub-DAG and cannot have retry=Retry(attempts=9). Give it to the nodes inside.",
    ),
    "sub-DAG in the place of a node with a timeout": (
        lambda dag: dag.node("S", aggregator=join, timeout=3),
        lambda dag: dag.sub_dag("S", working("x")),
        "Node 'S' stands for a sub-DAG and cannot have timeout=3. Give it to the nodes inside.",
    ),
    "sub-DAG at most once": (
        lambda dag: dag.sub_dag("S", working("x")),
        lambda dag: dag.node("S", at_most_once=True),
        "Node 'S' stands for a sub-DAG and cannot have at_most_once=True. Give it to the nodes inside.",
    ),
    "sub-DAG after whose failure the flow goes on": (
        lambda dag: dag.sub_dag("S", working("x")),
        lambda dag: dag.node("S", on_error="continue"),
        "Node 'S' stands for a sub-DAG and cannot have on_error='continue'. Give it to the nodes inside.",
    ),
    "foreach after whose failure the flow goes on": (
        lambda dag: each(dag, "F"),
        lambda dag: dag.node("F", on_error="continue"),
        "Node 'F' stands for a foreach branch and cannot have on_error='continue'. "
        "Give foreach_branch() its on_error instead.",
    ),
    "foreach in the place of a node that runs at most once": (
        lambda dag: dag.node("F", aggregator=join, at_most_once=True),
        lambda dag: each(dag, "F"),
        "Node 'F' stands for a foreach branch and cannot have at_most_once=True. Give it to the nodes inside.",
    ),
    "condition after whose failure the flow goes on": (
        lambda dag: dag.node("C", aggregator=join, on_error="continue"),
        lambda dag: case(dag, "C"),
        "Node 'C' stands for a conditional branch and cannot have on_error='continue'. Give it to the nodes inside.",
    ),
    "condition at most once": (
        lambda dag: case(dag, "C"),
        lambda dag: dag.node("C", at_most_once=True),
        "Node 'C' stands for a conditional branch and cannot have at_most_once=True. Give it to the nodes inside.",
    ),
}


def written(write: Callable[[Dag], Any]) -> Flow:
    flow = Flow()
    write(flow.dag())
    return flow


@pytest.mark.parametrize("mistake", MISTAKES)
def test_what_cannot_be_meant_is_refused_by_the_call_that_says_it(mistake: str) -> None:
    before, call, text = MISTAKES[mistake]
    with pytest.raises(DefinitionError, match=f"^DAG 'root': {re.escape(text)}$"):
        call(written(before).dag())


@pytest.mark.parametrize("mistake", MISTAKES)
def test_what_is_refused_changes_nothing(mistake: str) -> None:
    before, call, _ = MISTAKES[mistake]
    flow = written(before)
    with pytest.raises(DefinitionError):
        call(flow.dag())

    assert flow.build() == written(before).build()


@pytest.mark.parametrize("seconds", [0, -1, math.nan, math.inf, -math.inf, True, False, "5", b"5", [5]])
class TestTimeout:
    """A timeout is a number of seconds above 0, wherever it is given."""

    @pytest.mark.parametrize(
        ("give", "owner"),
        [
            (lambda dag, seconds: dag.node("n", timeout=seconds), "node 'n'"),
            (lambda dag, seconds: dag.node("n").apply("f", timeout=seconds), "'f' of node 'n'"),
            (lambda dag, seconds: dag.node("n").request("http://h", timeout=seconds), "'http://h' of node 'n'"),
        ],
    )
    def test_of_a_node_or_a_call(self, give: Callable[[Dag, Any], Node], owner: str, seconds: Any) -> None:
        text = f"DAG 'new': The timeout of {owner} is {seconds!r}. Give a number of seconds above 0."
        with pytest.raises(DefinitionError, match=f"^{re.escape(text)}$"):
            give(Dag(), seconds)

    def test_of_a_flow(self, seconds: Any) -> None:
        text = f"DAG 'root': The timeout of the flow is {seconds!r}. Give a number of seconds above 0."
        with pytest.raises(DefinitionError, match=f"^{re.escape(text)}$"):
            Flow().timeout(seconds)


@pytest.mark.parametrize("policy", [None, 3, "3", Retry, {}])
def test_the_policy_of_a_flow_has_to_be_one(policy: Any) -> None:
    with pytest.raises(DefinitionError, match=r"^DAG 'root': The retry of the flow is .* Give a Retry, such as Retry"):
        Flow().retry(policy)


def test_the_timeout_of_a_flow_has_to_be_given() -> None:
    with pytest.raises(DefinitionError, match="The timeout of the flow is None"):
        Flow().timeout(None)


@pytest.mark.parametrize(
    "on_error", [True, False, -1, -0.1, 1.1, math.nan, math.inf, "continue", "", "2", None, [], b"stop"]
)
def test_how_many_branches_may_fail_has_to_be_a_number_a_share_or_a_word(on_error: Any) -> None:
    text = (
        f"DAG 'new': The on_error of node 'F' is {on_error!r}. "
        "Give 'stop', 'collect', how many branches may fail (2), or what share of them, from 0.0 to 1.0."
    )
    with pytest.raises(DefinitionError, match=f"^{re.escape(text)}$"):
        Dag().foreach_branch("F", split, aggregator=join, on_error=on_error)


class Publish:
    """A custom operation that uses every option."""

    name = "publish"
    may_retry = False
    properties: ClassVar = {"topic": "orders"}

    def run(self, data: bytes, context: Any) -> bytes:
        return data


PUBLISH = Publish()


def everything(dag: Dag) -> None:
    """A DAG in which every option of nodes, calls and foreach branches is used."""
    call = {"headers": {"X": "1"}, "query": {"a": "1"}, "method": "PUT", "timeout": 2, "retry": ONCE_MORE}
    handlers = {"on_failure": handle, "on_request": work, "on_response": split}
    dag.node("a", retry=OFTEN, timeout=5, on_error="continue").modify(work).apply("f", **call, **handlers)
    dag.node("b", aggregator=join, at_most_once=True).modify(work).add(PUBLISH)
    dag.foreach_branch("F", split, aggregator=join, forward=False, max_parallel=3, on_error=0.5).node(
        "inner", retry=OFTEN, on_error="continue"
    ).apply("g", retry=ONCE_MORE)
    dag.conditional_branch("C", ["k"], choose, aggregator=join, forward=False)["k"].node(
        "inner", timeout=7, at_most_once=True
    ).modify(work)
    dag.node("F", retry=ONCE_MORE, timeout=8)
    dag.node("C", aggregator=join, retry=ONCE_MORE, timeout=9)
    inner = working("x", "y")
    inner.node("z", timeout=6).modify(work)
    inner.edge("x", "z")
    inner.end(aggregator=join)
    dag.sub_dag("S", inner, aggregator=join)
    for source, target in zip("abFC", "bFCS", strict=True):
        dag.edge(source, target)


def without_names(dag: graph.Dag) -> Any:
    """What is in a DAG, without the number and the label that tell where it is."""

    def inner(body: Any) -> Any:
        if body is None:
            return None
        rest = {field.name: getattr(body, field.name) for field in fields(body) if field.name not in ("dag", "dags")}
        dags = body.dags if isinstance(body, graph.Condition) else {"": body.dag}
        return rest, {key: without_names(dag) for key, dag in dags.items()}

    nodes = [
        {field.name: getattr(node, field.name) for field in fields(node)}
        | {"body": inner(node.body), "id": node.id if not node.is_virtual else "end"}
        for node in dag.nodes.values()
    ]
    return nodes, [(edge.forward, edge.forwarder) for edge in dag.edges()]


def all_of(dag: graph.Dag) -> Iterator[graph.Node | graph.Operation | graph.Foreach | graph.Condition]:
    """The nodes of a DAG, their operations and bodies, and those inside."""
    for node in dag.nodes.values():
        yield from (node, *node.operations, node.body)
        for _, inner in graph.inner_dags(node):
            yield from all_of(inner)


class TestCopies:
    """A copy has every option of what it was made of."""

    @pytest.mark.parametrize("kind", [graph.Node, graph.Operation, graph.Foreach, graph.Condition])
    def test_everything_uses_every_option_there_is(self, kind: type) -> None:
        made = [one for one in all_of(built(everything).root) if isinstance(one, kind)]
        plain = kind(*[None for field in fields(kind) if (field.default, field.default_factory) == (MISSING, MISSING)])

        for field in fields(kind):
            assert any(getattr(one, field.name) != getattr(plain, field.name) for one in made), field.name

    def test_of_a_sub_dag(self) -> None:
        dag = Dag()
        everything(dag)
        root = built(lambda root: root.sub_dag("copy", dag)).root

        assert without_names(root.nodes["copy"].body.dag) == without_names(built(everything).root)

    def test_of_a_sub_dag_of_a_sub_dag(self) -> None:
        dag, outer = Dag(), Dag()
        everything(dag)
        outer.sub_dag("inner", dag)
        root = built(lambda root: root.sub_dag("outer", outer)).root
        copy = root.nodes["outer"].body.dag.nodes["inner"].body.dag

        assert without_names(copy) == without_names(built(everything).root)

    def test_of_what_is_appended(self) -> None:
        dag = Dag()
        everything(dag)

        assert built(lambda root: root.append(dag)).root == built(everything).root

    def test_what_a_copy_is_given_does_not_reach_the_donor(self) -> None:
        donor = working("a")
        dag = Dag()
        dag.append(donor)
        dag.node("a", timeout=5)
        donor.node("a", timeout=7)

        assert built(lambda root: root.append(dag)).root.nodes["a"].timeout == 5
        assert built(lambda root: root.append(donor)).root.nodes["a"].timeout == 7


class TestAppendedEnds:
    """A DAG whose ends are combined has a result of its own, and keeps it only as a sub-DAG."""

    def test_a_dag_with_an_end_is_not_appended(self) -> None:
        donor = working("a")
        donor.end(aggregator=join)
        text = (
            "DAG 'root': append() brings a DAG with an end(), but its nodes become part of this DAG and no longer have "
            "an end of their own. Use sub_dag() instead, or give this DAG its end()."
        )
        with pytest.raises(DefinitionError, match=f"^{re.escape(text)}$"):
            Flow().dag().append(donor)

    def test_nothing_of_it_is_appended(self) -> None:
        donor = working("a")
        donor.end(aggregator=join)
        dag = working("b")
        with pytest.raises(DefinitionError):
            dag.append(donor)

        assert list(built(lambda root: root.append(dag)).root.nodes) == ["b"]

    def test_what_is_inside_an_appended_dag_keeps_its_end(self) -> None:
        inner, donor = working("a", "b"), Dag()
        inner.node("c").modify(work)
        inner.edge("a", "c")
        inner.end(aggregator=join)
        donor.sub_dag("S", inner)
        dag = built(lambda root: root.append(donor)).root.nodes["S"].body.dag

        assert dag.nodes[dag.end].aggregator is join


def shaped(
    *,
    of_flow: Retry | None = None,
    of_node: Retry | None = None,
    of_call: Retry | None = None,
    seconds: float | None = None,
    at_most_once: bool = False,
    on_error: Any = None,
    tolerated: Any = "stop",
) -> str:
    """The fingerprint of one and the same flow, with other options."""
    flow = Flow()
    if of_flow and seconds:
        flow.retry(of_flow)
        flow.timeout(seconds)
    flow.dag().node("a", retry=of_node, timeout=seconds, on_error=on_error).apply("f", retry=of_call, timeout=seconds)
    flow.dag().node("b", at_most_once=at_most_once).apply("g")
    each(flow.dag(), "F", on_error=tolerated)
    flow.dag().edge("a", "b")
    flow.dag().edge("b", "F")
    return flow.build().fingerprint


policies = st.builds(Retry, attempts=st.integers(1, 9))


@given(
    of_flow=st.none() | policies,
    of_node=st.none() | policies,
    of_call=st.none() | policies,
    seconds=st.none() | st.floats(0.001, 1e6),
    at_most_once=st.booleans(),
    on_error=st.sampled_from([None, "stop", "continue"]),
    tolerated=st.sampled_from(["stop", "collect", 0, 3, 0.5]),
)
def test_how_failures_are_met_is_no_part_of_the_shape(**options: Any) -> None:
    assert shaped(**options) == shaped()
