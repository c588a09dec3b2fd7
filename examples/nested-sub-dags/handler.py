"""Seventeen nodes, two of which stand for DAGs of their own: n12, and inside it n15. Their results meet in joins.

n1 → n2  → { { n3, n4 } → n5, n6 } → n7                        ┐
n1 → n8  → { n9, n10 } → n11                                   ├→ n17
n1 → n12 = [ n13 → { n14, n15 = [ n15.1 → … → n15.5 ] } → n16 ] ┘
"""

from faasflow import Dag


def define(flow, context):
    dag = flow.dag()
    add_steps(dag, "n1 n2 n3 n4 n6 n8 n9 n10", joins="n5 n7 n11 n17")
    dag.sub_dag("n12", middle())
    link(dag, "n1 > n2 n8 n12", "n2 > n3 n4 n6", "n3 n4 > n5", "n5 n6 > n7")
    link(dag, "n8 > n9 n10", "n9 n10 > n11", "n7 n11 n12 > n17")


def middle():
    """What n12 stands for."""
    dag = Dag()
    add_steps(dag, "n13 n14", joins="n16")
    dag.sub_dag("n15", innermost())
    link(dag, "n13 > n14 n15", "n14 n15 > n16")
    return dag


def innermost():
    """What n15 stands for."""
    dag = Dag()
    add_steps(dag, "n15.1 n15.2 n15.3 n15.4", joins="n15.5")
    link(dag, "n15.1 > n15.2 n15.4", "n15.2 > n15.3", "n15.3 n15.4 > n15.5")
    return dag


def add_steps(dag, plain, *, joins):
    """Nodes that wrap what comes in, those of `joins` after putting their inputs together."""
    for name in plain.split():
        dag.node(name).modify(step(name))
    for name in joins.split():
        dag.node(name, aggregator=together).modify(step(name))


def link(dag, *lines):
    """Edges from each name left of `>` to each name right of it."""
    for line in lines:
        sources, targets = line.split(">")
        for source in sources.split():
            for target in targets.split():
                dag.edge(source, target)


def step(name):
    """Code that wraps what comes in, so that the way of the data can be read from the result."""

    def run(data: str) -> str:
        return f"{name}({data})"

    return run


def together(results: list[str]) -> str:
    """The inputs of a join, in the order of its edges."""
    return " + ".join(results)
