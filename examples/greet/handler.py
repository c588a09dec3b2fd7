"""The smallest flow: one synchronous node that runs code of its own. The caller waits and is given the result."""


def define(flow, context):
    flow.sync_node().modify(greet)


def greet(name: str) -> str:
    """A greeting for the name that was sent."""
    return f"Hello {name.strip() or 'world'}"
