"""3. Parallel nodes and a join. Two edges out of a node: both targets run, at the same time. Two edges into a node:
it waits for both, and its `aggregator` makes one input of their results, which it gets by the ids of the nodes.
"""

from __future__ import annotations


def portrait(flow, context):
    dag = flow.dag()
    dag.node("load").modify(bytes.strip)
    dag.node("face").apply("face-detect")
    dag.node("size").apply("measure")
    dag.node("join", aggregator=describe).modify(bytes.upper)
    for part in ("face", "size"):
        dag.edge("load", part)
        dag.edge(part, "join")


def describe(parts: dict[str, str]) -> str:
    return f"{parts['face']}, {parts['size']}"


FUNCTIONS = {"face-detect": lambda body: b"one face", "measure": lambda body: b"%d bytes" % len(body)}


def test_a_join_gets_the_results_of_all_branches(run_flow):
    flow = run_flow(portrait, functions=FUNCTIONS)

    assert flow.run(b"picture").result == b"ONE FACE, 7 BYTES"


def test_a_join_runs_once_after_all_branches(run_flow):
    flow = run_flow(portrait, functions=FUNCTIONS)

    ran = flow.run(b"picture").ran

    assert ran[0] == "load"
    assert sorted(ran[1:3]) == ["face", "size"]
    assert ran[3:] == ["join"]


def fan(flow, context):
    dag = flow.dag()
    dag.node("start").modify(same)
    dag.node("join", aggregator=names)
    for index in range(20):
        dag.node(f"n{index}").modify(same)
        dag.edge("start", f"n{index}")
        dag.edge(f"n{index}", "join")


def same(data):
    return data


def names(results):
    return " ".join(results)


def test_an_aggregator_gets_the_results_in_the_order_of_the_edges(run_flow):
    expected = " ".join(f"n{index}" for index in range(20))

    assert run_flow(fan).run().result == expected.encode()
