"""A flow of one synchronous node, to start from.

`flow.dag()` gives a graph of nodes in its place, with functions to call, branches and joins: see docs/ and examples/ of
the project that this template comes from.
"""


def define(flow, context):
    flow.sync_node().modify(answer)


def answer(data: str) -> str:
    """What the caller sent, said back."""
    return f'you said "{data}"'
