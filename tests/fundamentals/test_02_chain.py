"""2. A chain. `flow.dag()` is a graph of nodes, and an edge says which node comes after which.

Each node is a delivery of its own: the flow may run on another replica, or after a restart, from one node to the
next.
"""

from __future__ import annotations


def order(flow, context):
    dag = flow.dag()
    dag.node("check").apply("check-stock")
    dag.node("price").modify(with_price)
    dag.node("ship").apply("shipping")
    dag.edge("check", "price")
    dag.edge("price", "ship")


def with_price(item: str) -> str:
    return f"{item} for 3 coins"


FUNCTIONS = {"check-stock": lambda body: body.strip(), "shipping": lambda body: b"shipped: " + body}


def test_a_node_works_on_the_result_of_the_one_before(run_flow):
    flow = run_flow(order, functions=FUNCTIONS)

    assert flow.run(b" tea ").result == b"shipped: tea for 3 coins"


def test_every_node_runs_once_in_the_order_of_the_edges(run_flow):
    flow = run_flow(order, functions=FUNCTIONS)

    assert flow.run(b"tea").ran == ["check", "price", "ship"]
