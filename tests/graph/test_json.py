"""The JSON of `?export-dag=true`: the keys of the original, with what it left out."""

from __future__ import annotations

import json

import pytest

from faasflow import Dag
from faasflow.graph.export import to_json
from tests.graph.flows import built, choose, collect, order_only, photos, shrink, split, two_ends

DAG_KEYS = ["id", "start-node", "end-node", "has-branch", "has-edge", "exec-only-dag", "nodes", "is-valid"]
NODE_KEYS = [
    *("id", "node-index", "unique-id", "is-dynamic", "is-condition", "is-foreach", "has-aggregator"),
    *("has-sub-aggregator", "has-subdag", "in-degree", "out-degree", "dynamic-exec-only", "child-exec-only"),
]
OPTIONAL_KEYS = ["sub-dag", "foreach-dag", "conditional-dags", "operations", "childrens"]


def dags(exported: dict) -> list[dict]:
    """A DAG and those inside it, outermost first."""
    found = [exported]
    for node in exported["nodes"].values():
        inner = [node[key] for key in ("sub-dag", "foreach-dag") if key in node]
        for dag in [*inner, *node.get("conditional-dags", {}).values()]:
            found += dags(dag)
    return found


def nodes(exported: dict) -> list[dict]:
    return [node for dag in dags(exported) for node in dag["nodes"].values()]


def test_every_dag_has_the_keys_of_the_original() -> None:
    exported = dags(to_json(built(photos)))

    assert len(exported) == 6
    assert [list(dag) for dag in exported] == [DAG_KEYS] * 6


def test_every_node_has_the_keys_of_the_original() -> None:
    for node in nodes(to_json(built(photos))):
        assert set(NODE_KEYS) <= set(node) <= set(NODE_KEYS + OPTIONAL_KEYS)


def test_a_chain_in_full() -> None:
    def chain(dag: Dag) -> None:
        dag.node("n1").apply("func1", on_failure=shrink)
        dag.node("n2").modify(shrink)
        dag.edge("n1", "n2")

    plain = {
        "is-dynamic": False,
        "is-condition": False,
        "is-foreach": False,
        "has-aggregator": False,
        "has-sub-aggregator": False,
        "has-subdag": False,
        "dynamic-exec-only": False,
    }
    flags = {"isMod": ["false"], "isFunction": ["false"], "isHttpRequest": ["false"]}
    handlers = {"hasFailureHandler": ["false"], "hasResponseHandler": ["false"]}
    assert to_json(built(chain)) == {
        "id": "0",
        "start-node": "n1",
        "end-node": "n2",
        "has-branch": False,
        "has-edge": True,
        "exec-only-dag": False,
        "is-valid": True,
        "nodes": {
            "n1": {
                **plain,
                "id": "n1",
                "node-index": 1,
                "unique-id": "0_1_n1",
                "in-degree": 0,
                "out-degree": 1,
                "operations": [
                    {
                        "name": "func1",
                        "properties": {**flags, "isFunction": ["true"], **handlers, "hasFailureHandler": ["true"]},
                    }
                ],
                "childrens": ["n2"],
                "child-exec-only": {"n2": False},
            },
            "n2": {
                **plain,
                "id": "n2",
                "node-index": 2,
                "unique-id": "0_2_n2",
                "in-degree": 1,
                "out-degree": 0,
                "operations": [{"name": "shrink", "properties": {**flags, "isMod": ["true"], **handlers}}],
                "child-exec-only": {},
            },
        },
    }


def test_nested_dags_and_nodes_have_the_ids_of_the_original() -> None:
    exported = to_json(built(photos))

    assert [dag["id"] for dag in dags(exported)] == ["0", "2", "3_small", "3_very big", "3_very big_1", "4"]
    assert [node["unique-id"] for node in nodes(exported)] == [
        *("0_1_fetch", "0_2_photos", "0_3_size", "0_4_pack", "0_5_audit", "0_6_all"),
        *("2_1_detect", "2_2_crop", "3_small_1_keep", "3_very big_1_tiles", "3_very big_1_1_tile"),
        *("4_1_zip", "4_2_sign"),
    ]


def test_each_kind_of_node_says_what_it_is() -> None:
    exported = {node["id"]: node for node in nodes(to_json(built(photos)))}

    flags = ("is-dynamic", "is-foreach", "is-condition", "has-subdag", "has-aggregator", "has-sub-aggregator")
    said = {id: {flag for flag in flags if node[flag]} for id, node in exported.items()}
    assert {id: flags for id, flags in said.items() if flags} == {
        "photos": {"is-dynamic", "is-foreach", "has-sub-aggregator"},
        "size": {"is-dynamic", "is-condition", "has-sub-aggregator"},
        "tiles": {"is-dynamic", "is-foreach"},
        "pack": {"has-subdag"},
        "all": {"has-aggregator"},
    }
    assert [id for id, node in exported.items() if node["dynamic-exec-only"]] == ["tiles"]
    assert list(exported["size"]["conditional-dags"]) == ["small", "very big"]


def test_degrees_are_filled() -> None:
    degrees = {node["id"]: (node["in-degree"], node["out-degree"]) for node in nodes(to_json(built(photos)))}

    assert degrees["fetch"] == (0, 3)
    assert degrees["size"] == (1, 1)
    assert degrees["all"] == (3, 0)
    assert degrees["detect"] == (0, 1)


def test_nested_dags_are_valid() -> None:
    assert all(dag["is-valid"] for dag in dags(to_json(built(photos))))


def test_children_stand_in_the_order_of_the_edges_with_those_that_get_no_data() -> None:
    fetch = to_json(built(photos))["nodes"]["fetch"]

    assert fetch["childrens"] == ["photos", "size", "audit"]
    assert fetch["child-exec-only"] == {"photos": False, "size": False, "audit": True}


def test_a_request_is_named_by_its_url_without_credentials_and_query() -> None:
    operation = to_json(built(photos))["nodes"]["audit"]["operations"][0]

    assert operation["name"] == "https://audit.example.com/log"
    assert operation["properties"]["isHttpRequest"] == ["true"]
    assert operation["properties"]["hasResponseHandler"] == ["true"]
    assert "secret" not in json.dumps(to_json(built(photos)))


def test_several_ends_meet_in_a_virtual_node_with_an_id_of_its_own() -> None:
    exported = to_json(built(two_ends))

    assert exported["end-node"] == "end_0"
    end = exported["nodes"]["end_0"]
    assert (end["unique-id"], end["node-index"], end["in-degree"]) == ("0_4_end_0", 4, 2)
    assert end["operations"] == [{"name": "end", "properties": {}}]


def test_a_single_node_has_no_edges_and_no_branches() -> None:
    exported = to_json(built(lambda dag: dag.node("only").apply("f")))

    assert (exported["start-node"], exported["end-node"]) == ("only", "only")
    assert (exported["has-branch"], exported["has-edge"], exported["exec-only-dag"]) == (False, False, True)


def forwarding_branch(dag: Dag) -> None:
    dag.foreach_branch("each", split, aggregator=collect).node("n").apply("f")


def ordering_branch(dag: Dag) -> None:
    dag.foreach_branch("each", split, forward=False).node("n").apply("f")


def data_inside_a_sub_dag(dag: Dag) -> None:
    inner = Dag()
    two_nodes(inner)
    dag.sub_dag("sub", inner)


def data_inside_a_condition(dag: Dag) -> None:
    two_nodes(dag.conditional_branch("if", ["a"], choose, forward=False)["a"])


def two_nodes(dag: Dag) -> None:
    dag.node("a").apply("a")
    dag.node("b").apply("b")
    dag.edge("a", "b")


@pytest.mark.parametrize(
    ("write", "branch", "edge", "exec_only"),
    [
        (two_nodes, False, True, False),
        (order_only, False, True, True),
        (two_ends, True, True, False),
        (forwarding_branch, True, True, False),
        (ordering_branch, True, True, True),
        (data_inside_a_sub_dag, False, True, False),
        (data_inside_a_condition, True, True, False),
    ],
)
def test_a_dag_says_whether_it_branches_has_edges_and_carries_data(write, branch, edge, exec_only) -> None:
    exported = to_json(built(write))

    assert (exported["has-branch"], exported["has-edge"], exported["exec-only-dag"]) == (branch, edge, exec_only)


def test_the_same_flow_is_exported_the_same() -> None:
    assert json.dumps(to_json(built(photos))) == json.dumps(to_json(built(photos)))
