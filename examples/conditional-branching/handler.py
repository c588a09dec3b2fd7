"""A condition inside a condition: the outer one takes both of its cases, the inner one two of three."""


def define(flow, context):
    dag = flow.dag()
    dag.node("n1").modify(modifier)

    outer = dag.conditional_branch("C", ["c1", "c2"], lambda data: ["c1", "c2"], aggregator=by_key)
    outer["c2"].node("n1").apply("func1").modify(modifier)

    inner = outer["c1"].conditional_branch("X", ["x1", "x2", "x3"], lambda data: ["x2", "x3"], aggregator=by_key)
    inner["x1"].node("n1").modify(modifier)
    inner["x2"].node("n1").apply("func1").modify(modifier)
    inner["x2"].node("n2").apply("func2")
    inner["x2"].edge("n1", "n2")
    inner["x3"].node("n1").apply("func1").apply("func2")

    dag.node("n2").apply("fake-storage")
    dag.edge("n1", "C")
    dag.edge("C", "n2")


def modifier(data: str) -> str:
    """What came in, wrapped so that the order can be read from the result."""
    return f"modifier({data})"


def by_key(results: dict[str, str]) -> str:
    """What the cases gave, by their keys."""
    return " + ".join(f"({key}={result})" for key, result in results.items())
