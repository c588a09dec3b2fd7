"""A chain of three nodes. Each is a delivery of its own through the queue, and the last one stores what came out."""

import logging

log = logging.getLogger(__name__)


def define(flow, context):
    dag = flow.dag()
    dag.node("n1").apply("func1")
    dag.node("n2").apply("func2").modify(modifier)
    dag.node("n3").apply("fake-storage")
    dag.edge("n1", "n2")
    dag.edge("n2", "n3")

    flow.finally_(lambda state: log.info("Request %s ended with %s.", context.request_id, state))


def modifier(data: str) -> str:
    """What came in, wrapped so that the order can be read from the result."""
    return f"modifier({data})"
