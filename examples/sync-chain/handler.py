"""A chain inside one synchronous node: two functions and code of its own, in order, while the caller waits."""


def define(flow, context):
    flow.sync_node().apply("func1").apply("func2").modify(modifier)


def modifier(data: str) -> str:
    """What came in, wrapped so that the order can be read from the result."""
    return f"modifier({data})"
