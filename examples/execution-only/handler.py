"""Order without data: every edge says "after" and hands nothing on. What the nodes have to tell stands in the context.

The DAG `checks` has two ends; `publish` waits for both.
"""

from faasflow import Dag


def define(flow, context):
    dag = flow.dag()
    dag.node("build").modify(done("build", context))
    dag.sub_dag("checks", checks(context))
    dag.node("publish").modify(lambda data: report(context))
    dag.edge("build", "checks", forward=False)
    dag.edge("checks", "publish", forward=False)


def checks(context):
    """Two checks after a preparation, neither of which needs the other."""
    dag = Dag()
    for name in ("prepare", "lint", "test"):
        dag.node(name).modify(done(name, context))
    dag.edge("prepare", "lint", forward=False)
    dag.edge("prepare", "test", forward=False)
    return dag


def done(name, context):
    """Code that notes under the node's own name that it ran, and how many bytes it was given."""

    def run(data: bytes) -> None:
        context.set(name, f"{name} was given {len(data)} bytes")

    return run


def report(context):
    """What the nodes noted, in the order in which they must have run."""
    return "\n".join(context.get(name) for name in ("build", "prepare", "lint", "test"))
