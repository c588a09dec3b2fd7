"""The three kinds of parallel work side by side, and one join over all: a foreach, a plain node and a condition."""


def define(flow, context):
    dag = flow.dag()
    dag.node("start").modify(lambda data: data or b"aa-bb-cc")

    parts = dag.foreach_branch("foreach", each_part, aggregator=by_key)
    chain(parts)
    dag.node("parallel").modify(step("parallel1")).modify(step("parallel2"))
    cases = dag.conditional_branch("condition", ["left", "right"], lambda data: ["left", "right"], aggregator=by_key)
    chain(cases["left"])
    chain(cases["right"])

    dag.node("end", aggregator=by_key)
    for branch in ("foreach", "parallel", "condition"):
        dag.edge("start", branch)
        dag.edge(branch, "end")


def chain(dag):
    """Two nodes, one after the other."""
    dag.node("node1").modify(step("node1"))
    dag.node("node2").modify(step("node2"))
    dag.edge("node1", "node2")


def step(name):
    """Code that wraps what comes in, so that the order can be read from the result."""

    def run(data: str) -> str:
        return f"{name}({data})"

    return run


def each_part(text: str) -> dict[str, str]:
    """One branch for every part between dashes."""
    return {str(number): part for number, part in enumerate(text.split("-"))}


def by_key(results: dict[str, str]) -> str:
    """What the branches gave, by their keys."""
    return "[" + " ".join(f"{key}={result}" for key, result in results.items()) + "]"
