"""4. Edges that do more than hand on a result. `forward=False` keeps the order only: the target gets no data over
this edge. `forwarder=` changes the data for this one target.
"""

from __future__ import annotations


def backup(flow, context):
    dag = flow.dag()
    dag.node("save").apply("save")
    dag.node("notify").apply("notify")
    dag.edge("save", "notify", forward=False)


def test_an_edge_without_forwarding_keeps_the_order_and_hands_on_nothing(run_flow):
    flow = run_flow(backup, functions={"save": lambda body: b"saved", "notify": lambda body: b"told"})

    outcome = flow.run(b"file")

    assert outcome.ran == ["save", "notify"]
    assert flow.calls("notify")[0].body == b""
    assert outcome.result == b"told"


def letter(flow, context):
    dag = flow.dag()
    dag.node("write").modify(same)
    dag.node("short").apply("short")
    dag.node("long").apply("long")
    dag.node("join", aggregator=both)
    dag.edge("write", "short", forwarder=first_line)
    dag.edge("write", "long")
    dag.edge("short", "join")
    dag.edge("long", "join")


def same(data):
    return data


def first_line(text: str) -> str:
    return text.splitlines()[0]


def both(results: dict[str, str]) -> str:
    return f"{results['short']} / {results['long']}"


def test_a_forwarder_changes_the_data_for_one_target(run_flow):
    flow = run_flow(letter, functions={"short": same, "long": same})

    assert flow.run(b"Dear Ada\nhow are you").result == b"Dear Ada / Dear Ada\nhow are you"


def one_source(flow, context):
    dag = flow.dag()
    dag.node("start").modify(same)
    dag.node("lock").apply("lock")
    dag.node("work").modify(same)
    dag.edge("start", "lock")
    dag.edge("start", "work")
    dag.edge("lock", "work", forward=False)


def test_a_node_that_gets_data_over_one_edge_only_needs_no_aggregator(run_flow):
    flow = run_flow(one_source, functions={"lock": lambda body: b"locked"})

    outcome = flow.run(b"data")

    assert outcome.ran == ["start", "lock", "work"]
    assert outcome.result == b"data"
