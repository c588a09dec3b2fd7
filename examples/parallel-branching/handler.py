"""Two branches that run at the same time, and a join that waits for both."""


def define(flow, context):
    dag = flow.dag()
    dag.node("n1").modify(modifier)
    dag.node("n2").apply("func1")
    dag.node("n3").apply("func2").modify(modifier)
    dag.node("n4", aggregator=both).apply("fake-storage")
    dag.edge("n1", "n2")
    dag.edge("n1", "n3")
    dag.edge("n2", "n4")
    dag.edge("n3", "n4")


def modifier(data: str) -> str:
    """What came in, wrapped so that the order can be read from the result."""
    return f"modifier({data})"


def both(results: dict[str, str]) -> str:
    """The results of the two branches, by the ids of their nodes."""
    return f"{results['n2']} and {results['n3']}"
