"""1. The smallest flow: one synchronous node. Whoever starts it waits and is given its result.

A flow is a function `define(flow, context)`. A node has operations: `apply` calls a function, `modify` runs code of
the flow itself. They run in order; what one gives is what the next gets.
"""

from __future__ import annotations

from faasflow.testing import RequestState


def greet(flow, context):
    flow.sync_node().modify(hello)


def hello(name: str) -> str:
    return f"Hello {name}"


def test_the_result_of_the_node_is_the_result_of_the_flow(run_flow):
    flow = run_flow(greet)

    outcome = flow.run(b"Ada")

    assert outcome.state is RequestState.FINISHED
    assert outcome.result == b"Hello Ada"


def shout(flow, context):
    flow.sync_node().apply("upper").modify(hello).apply("exclaim")


def test_operations_of_a_node_run_one_after_the_other(run_flow):
    flow = run_flow(shout, functions={"upper": lambda body: body.upper(), "exclaim": lambda body: body + b"!"})

    assert flow.run(b"Ada").result == b"Hello ADA!"
    assert [call.body for call in flow.calls("upper")] == [b"Ada"]
    assert [call.body for call in flow.calls("exclaim")] == [b"Hello ADA"]
