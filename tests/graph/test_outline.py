"""The nodes of a flow as one list."""

from __future__ import annotations

from faasflow.dsl import Dag, Flow
from faasflow.graph import Place, PlaceKind, outline


def places(define) -> dict[str, Place]:
    flow = Flow()
    define(flow)
    return {place.path: place for place in outline(flow.build())}


def nested(flow: Flow) -> None:
    inner = Dag()
    inner.node("first").apply("cut").apply("sew").apply("cut")
    inner.node("last").request("http://example.com/mend")
    inner.edge("first", "last")
    dag = flow.dag()
    dag.node("a b").apply("weave")
    dag.sub_dag("sub", inner)
    each = dag.foreach_branch("each", lambda data: {}, aggregator=len)
    each.node("dye").apply("dye")
    cases = dag.conditional_branch("case", ["x", "y"], lambda data: ["x"], aggregator=len)
    cases["x"].node("one").modify(bytes)
    cases["y"].sub_dag("two", inner)
    for source, target in (("a b", "sub"), ("sub", "each"), ("sub", "case")):
        dag.edge(source, target)


def test_a_node_has_its_path_and_what_is_done_before_it() -> None:
    found = places(nested)

    assert {path: place.after for path, place in found.items()} == {
        "a%20b": (),
        "sub/first": ("a%20b",),
        "sub/last": ("sub/first",),
        "each": ("sub/last",),
        "each/dye": None,
        "case": ("sub/last",),
        "case=x/one": None,
        "case=y/two/first": None,
        "case=y/two/last": ("case=y/two/first",),
        "end_0": ("each", "case"),
    }


def test_a_node_with_branches_names_the_nodes_they_end_with() -> None:
    found = places(nested)

    assert (found["each"].kind, found["each"].ends) == (PlaceKind.FOREACH, ("each/dye",))
    assert (found["case"].kind, found["case"].ends) == (PlaceKind.CONDITION, ("case=x/one", "case=y/two/last"))
    assert (found["a%20b"].kind, found["a%20b"].ends, found["a%20b"].id) == (PlaceKind.NODE, (), "a b")


def test_functions_are_named_once_and_urls_are_none() -> None:
    found = places(nested)

    assert found["sub/first"].functions == ("cut", "sew")
    assert found["sub/last"].functions == ()


def test_what_only_joins_several_ends_is_virtual() -> None:
    assert [path for path, place in places(nested).items() if place.is_virtual] == ["end_0"]
