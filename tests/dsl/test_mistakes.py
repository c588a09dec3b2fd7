"""Every mistake is a `DefinitionError`, raised by the call that makes it; the text names the DAG, the node and the way
out."""

from __future__ import annotations

import pytest

from faasflow import Dag, DefinitionError, FaasflowError, Flow
from tests.dsl.support import choose, handle, join, split, work, working


@pytest.fixture
def dag() -> Dag:
    """The DAG of a flow: a chain from `a` to `b`, a sub-DAG `S`, a foreach `F` and a condition `C`."""
    flow = Flow()
    dag = flow.dag()
    dag.append(working("a", "b"))
    dag.node("joins", aggregator=join)
    dag.sub_dag("S", working("x"))
    dag.foreach_branch("F", split, aggregator=join).node("y").modify(work)
    dag.conditional_branch("C", ["k"], choose, aggregator=join)["k"].node("z").modify(work)
    return dag


# The call, what its error names, and the way out it shows.
MISTAKES = {
    "node without an id": (lambda dag: dag.node(""), "node() got ''", "not empty"),
    "node with an id that is no text": (lambda dag: dag.node(7), "node() got 7", "Give a text"),
    "aggregator that cannot be called": (
        lambda dag: dag.node("a", aggregator=b"x"),
        "aggregator of node 'a' is b'x'",
        "Give a callable",
    ),
    "aggregator of a new node that cannot be called": (
        lambda dag: dag.node("new", aggregator=1),
        "aggregator of node 'new' is 1",
        "Give a callable",
    ),
    "second aggregator": (
        lambda dag: dag.node("joins", aggregator=work),
        "Node 'joins' has aggregator=join already and cannot have aggregator=work",
        "Give it once",
    ),
    "apply without a name": (lambda dag: dag.node("a").apply(""), "apply() of node 'a' got ''", "Give a text"),
    "apply with a callable": (
        lambda dag: dag.node("a").apply(work),
        "apply() of node 'a' got <function",
        "Give a text",
    ),
    "request without a scheme": (
        lambda dag: dag.node("a").request("host/path"),
        "request() of node 'a' got 'host/path'",
        "http://",
    ),
    "request with bytes": (lambda dag: dag.node("a").request(b"http://h"), "node 'a' got b'http://h'", "http://"),
    "modify without code": (lambda dag: dag.node("a").modify("code"), "modify() of node 'a' is 'code'", "callable"),
    "on_failure that cannot be called": (
        lambda dag: dag.node("a").apply("f", on_failure=1),
        "on_failure of 'f' of node 'a' is 1",
        "callable",
    ),
    "on_request that cannot be called": (
        lambda dag: dag.node("a").apply("f", on_request={}),
        "on_request of 'f' of node 'a' is {}",
        "callable",
    ),
    "on_response that cannot be called": (
        lambda dag: dag.node("a").request("http://h", on_response="x"),
        "on_response of 'http://h' of node 'a' is 'x'",
        "callable",
    ),
    "timeout of nothing": (
        lambda dag: dag.node("a").apply("f", timeout=0),
        "timeout of 'f' of node 'a' is 0",
        "seconds above 0",
    ),
    "timeout below nothing": (
        lambda dag: dag.node("a").apply("f", timeout=-1.5),
        "timeout of 'f' of node 'a' is -1.5",
        "seconds above 0",
    ),
    "timeout that is not a number": (
        lambda dag: dag.node("a").apply("f", timeout=float("nan")),
        "timeout of 'f' of node 'a' is nan",
        "seconds above 0",
    ),
    "timeout that is text": (
        lambda dag: dag.node("a").apply("f", timeout="10s"),
        "timeout of 'f' of node 'a' is '10s'",
        "seconds above 0",
    ),
    "headers that are no mapping": (
        lambda dag: dag.node("a").apply("f", headers="X: 1"),
        "headers of 'f' of node 'a' is 'X: 1'",
        "Give a dict",
    ),
    "query that is no mapping": (
        lambda dag: dag.node("a").request("http://h", query="a=1"),
        "query of 'http://h' of node 'a' is 'a=1'",
        "Give a dict",
    ),
    "method that is no text": (
        lambda dag: dag.node("a").apply("f", method=1),
        "method of 'f' of node 'a' is 1",
        "'PUT'",
    ),
    "operation of a sub-DAG": (
        lambda dag: dag.node("S").modify(work),
        "Node 'S' stands for a sub-DAG and cannot run 'work'",
        "node of its own",
    ),
    "operation of a foreach": (
        lambda dag: dag.node("F").apply("f"),
        "Node 'F' stands for a foreach branch and cannot run 'f'",
        "node of its own",
    ),
    "operation of a condition": (
        lambda dag: dag.node("C").request("http://h"),
        "Node 'C' stands for a conditional branch and cannot run 'http://h'",
        "node of its own",
    ),
    "edge from an unknown node": (
        lambda dag: dag.edge("joint", "a"),
        "Edge 'joint' to 'a' names node 'joint', which does not exist",
        "Did you mean 'joins'?",
    ),
    "edge to an unknown node": (
        lambda dag: dag.edge("a", "elsewhere"),
        "Edge 'a' to 'elsewhere' names node 'elsewhere', which does not exist",
        "Make it with node()",
    ),
    "edge to a node inside a sub-DAG": (lambda dag: dag.edge("a", "x"), "names node 'x'", "Make it with node()"),
    "edge to a number": (lambda dag: dag.edge("a", 7), "names node 7", "Make it with node()"),
    "edge from a node to itself": (
        lambda dag: dag.edge("a", "a"),
        "Edge 'a' to itself",
        "remove the edge",
    ),
    "edge that exists": (
        lambda dag: dag.edge("a", "b", forward=False),
        "Edge 'a' to 'b' exists already",
        "Remove one of the two",
    ),
    "edge that closes a cycle": (
        lambda dag: dag.edge("b", "a"),
        "Edge 'b' to 'a' closes a cycle (a, b)",
        "Remove one of its edges",
    ),
    "forwarder that cannot be called": (
        lambda dag: dag.edge("a", "joins", forwarder="x"),
        "forwarder of edge 'a' to 'joins' is 'x'",
        "callable",
    ),
    "forwarder where nothing is forwarded": (
        lambda dag: dag.edge("a", "joins", forward=False, forwarder=work),
        "Edge 'a' to 'joins' has a forwarder but forward=False",
        "Remove one of them",
    ),
    "sub-DAG that is none": (lambda dag: dag.sub_dag("T", {}), "sub_dag('T') got dict", "Give it a Dag"),
    "sub-DAG of itself": (
        lambda dag: dag.sub_dag("T", dag),
        "sub_dag('T') would put the DAG into itself",
        "a DAG of its own",
    ),
    "sub-DAG in the place of operations": (
        lambda dag: dag.sub_dag("a", working("n")),
        "sub_dag() names node 'a', which has the operation 'work' already",
        "Use another id",
    ),
    "sub-DAG in the place of a foreach": (
        lambda dag: dag.sub_dag("F", working("n")),
        "sub_dag() names node 'F', which has a foreach branch already",
        "Use another id",
    ),
    "sub-DAG without an id": (lambda dag: dag.sub_dag("", working("n")), "got ''", "Give a text"),
    "sub-DAG with an aggregator that cannot be called": (
        lambda dag: dag.sub_dag("T", working("n"), aggregator=1),
        "aggregator of node 'T' is 1",
        "callable",
    ),
    "append of something else": (lambda dag: dag.append([]), "append() got list", "Give it a Dag"),
    "append of an id that exists": (
        lambda dag: dag.append(working("n", "b")),
        "append() brings node 'b', which exists already",
        "Rename one of the two",
    ),
    "append of itself": (lambda dag: dag.append(dag), "append() brings node 'a'", "Rename"),
    "foreach without code": (lambda dag: dag.foreach_branch("G", None), "foreach of node 'G' is None", "callable"),
    "foreach without an aggregator": (
        lambda dag: dag.foreach_branch("G", split),
        "foreach_branch() of node 'G' has no aggregator",
        "forward=False",
    ),
    "foreach with an aggregator that cannot be called": (
        lambda dag: dag.foreach_branch("G", split, aggregator=[]),
        "aggregator of node 'G' is []",
        "callable",
    ),
    "foreach of no branch at a time": (
        lambda dag: dag.foreach_branch("G", split, aggregator=join, max_parallel=0),
        "max_parallel of node 'G' is 0",
        "above 0",
    ),
    "foreach of half a branch at a time": (
        lambda dag: dag.foreach_branch("G", split, aggregator=join, max_parallel=1.5),
        "max_parallel of node 'G' is 1.5",
        "whole number",
    ),
    "foreach of a truth at a time": (
        lambda dag: dag.foreach_branch("G", split, aggregator=join, max_parallel=True),
        "max_parallel of node 'G' is True",
        "whole number",
    ),
    "foreach in the place of operations": (
        lambda dag: dag.foreach_branch("b", split, aggregator=join),
        "foreach_branch() names node 'b', which has the operation 'work' already",
        "Use another id",
    ),
    "foreach without an id": (lambda dag: dag.foreach_branch("", split, aggregator=join), "got ''", "Give a text"),
    "condition without code": (
        lambda dag: dag.conditional_branch("D", ["a"], "a"),
        "condition of node 'D' is 'a'",
        "callable",
    ),
    "condition without an aggregator": (
        lambda dag: dag.conditional_branch("D", ["a"], choose),
        "conditional_branch() of node 'D' has no aggregator",
        "forward=False",
    ),
    "condition without keys": (
        lambda dag: dag.conditional_branch("D", [], choose, aggregator=join),
        "conditional_branch('D') got the keys []",
        "at least one text",
    ),
    "condition with keys that are no text": (
        lambda dag: dag.conditional_branch("D", ["a", 1], choose, aggregator=join),
        "conditional_branch('D') got the keys ['a', 1]",
        "at least one text",
    ),
    "condition with a key that is given twice": (
        lambda dag: dag.conditional_branch("D", ["a", "b", "a"], choose, aggregator=join),
        "conditional_branch('D') got the key 'a' twice",
        "Give each key once",
    ),
    "condition with a key that is not valid Unicode": (
        lambda dag: dag.conditional_branch("D", ["a\udce9"], choose, aggregator=join),
        "conditional_branch('D') got the key 'a\\udce9'",
        "Rename it",
    ),
    "condition with one text for its keys": (
        lambda dag: dag.conditional_branch("D", "abc", choose, aggregator=join),
        "conditional_branch('D') got the keys 'abc'",
        "Give a list of texts",
    ),
    "condition with nothing for its keys": (
        lambda dag: dag.conditional_branch("D", None, choose, aggregator=join),
        "conditional_branch('D') got the keys None",
        "Give a list of texts",
    ),
    "condition with keys that cannot be compared": (
        lambda dag: dag.conditional_branch("D", [["a"]], choose, aggregator=join),
        "conditional_branch('D') got the keys [['a']]",
        "at least one text",
    ),
    "condition in the place of another": (
        lambda dag: dag.conditional_branch("C", ["a"], choose, aggregator=join),
        "conditional_branch() names node 'C', which has a conditional branch already",
        "Use another id",
    ),
    "end without an aggregator": (lambda dag: dag.end(aggregator=None), "aggregator of end() is None", "callable"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_raised_by_the_call_that_makes_it(dag: Dag, mistake: str) -> None:
    call, names, way_out = MISTAKES[mistake]
    with pytest.raises(DefinitionError) as caught:
        call(dag)

    assert str(caught.value).startswith("DAG 'root': ")
    assert names in str(caught.value)
    assert way_out in str(caught.value)


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_refused_call_changes_nothing(dag: Dag, mistake: str) -> None:
    flow = Flow()
    flow.set_dag(dag)
    link_all(dag)
    before = flow.build()
    with pytest.raises(DefinitionError):
        MISTAKES[mistake][0](dag)

    assert flow.build() == before


def link_all(dag: Dag) -> None:
    """Make the DAG of the fixture one that can be built."""
    for source, target in ("b", "S"), ("S", "F"), ("F", "C"), ("C", "joins"):
        dag.edge(source, target)


def test_a_definition_error_is_one_of_ours_and_a_value_error() -> None:
    with pytest.raises(ValueError, match="node") as caught:
        Dag().node("")

    assert isinstance(caught.value, DefinitionError)
    assert isinstance(caught.value, FaasflowError)


@pytest.mark.parametrize(
    ("make", "label"),
    [
        (lambda flow: flow.dag(), "root"),
        (lambda flow: Dag(), "new"),
        (lambda flow: flow.dag().foreach_branch("F", split, aggregator=join), "F"),
        (lambda flow: flow.dag().conditional_branch("C", ["a", "b"], choose, aggregator=join)["b"], "C=b"),
        (
            lambda flow: (
                flow.dag()
                .foreach_branch("F", split, aggregator=join)
                .conditional_branch("C", ["a"], choose, aggregator=join)["a"]
                .foreach_branch("G", split, forward=False)
            ),
            "F/C=a/G",
        ),
    ],
)
def test_an_error_names_its_dag_by_the_way_to_it(make, label: str) -> None:
    dag = make(Flow())
    with pytest.raises(DefinitionError) as caught:
        dag.edge("x", "y")

    assert str(caught.value).startswith(f"DAG {label!r}: ")


def test_a_dag_that_was_set_is_the_root() -> None:
    flow, dag = Flow(), Dag()
    flow.set_dag(dag)
    with pytest.raises(DefinitionError) as caught:
        dag.node("")

    assert str(caught.value).startswith("DAG 'root': ")


def test_a_cycle_is_shown_from_its_first_node_to_its_last() -> None:
    dag = working("n1", "n2", "n3", "n4")
    with pytest.raises(DefinitionError) as caught:
        dag.edge("n4", "n2")

    assert str(caught.value) == ("DAG 'new': Edge 'n4' to 'n2' closes a cycle (n2, n3, n4). Remove one of its edges.")


def test_a_long_cycle_is_shown_by_its_ends() -> None:
    dag = working(*[f"n{number}" for number in range(1000)])
    with pytest.raises(DefinitionError) as caught:
        dag.edge("n999", "n0")

    assert "(n0, n1, n2, n3, …, n997, n998, n999)" in str(caught.value)


def test_a_dag_can_be_written_on_after_a_refused_edge() -> None:
    dag = working("a", "b", "c")
    with pytest.raises(DefinitionError):
        dag.edge("c", "a")
    dag.edge("a", "c", forward=False)
    flow = Flow()
    flow.set_dag(dag)

    assert [(edge.source, edge.target) for edge in flow.build().root.edges()] == [("a", "b"), ("a", "c"), ("b", "c")]


def test_a_dag_cannot_be_put_into_a_branch_of_itself() -> None:
    flow = Flow()
    branch = flow.dag().foreach_branch("F", split, aggregator=join)
    inner = branch.conditional_branch("C", ["a"], choose, aggregator=join)["a"]
    for around in (flow.dag(), branch, inner):
        with pytest.raises(DefinitionError, match=r"DAG 'F/C=a': .* into itself"):
            inner.sub_dag("S", around)


class TestFlow:
    """The mistakes that are made on the flow itself."""

    def test_set_dag_wants_a_dag(self) -> None:
        flow = Flow()
        with pytest.raises(DefinitionError, match=r"set_dag\(\) got NoneType\. Give it a Dag\."):
            flow.set_dag(None)

    def test_set_dag_refuses_a_dag_that_is_part_of_another(self) -> None:
        flow = Flow()
        branch = flow.dag().foreach_branch("F", split, aggregator=join)
        with pytest.raises(DefinitionError, match=r"DAG 'F': set_dag\(\) got a DAG that is part .* Make one with Dag"):
            flow.set_dag(branch)

    def test_handlers_have_to_be_callable(self) -> None:
        flow = Flow()
        with pytest.raises(DefinitionError, match=r"handler of on_failure\(\) is b'x'\. Give a callable"):
            flow.on_failure(b"x")
        with pytest.raises(DefinitionError, match=r"handler of finally_\(\) is None\. Give a callable"):
            flow.finally_(None)
        flow.on_failure(handle)
