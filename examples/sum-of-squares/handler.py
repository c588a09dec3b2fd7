"""A foreach over numbers: each is squared in a branch of its own, by a function, and another function adds them up."""


def define(flow, context):
    dag = flow.dag()
    numbers = dag.foreach_branch("square-each", each_number, aggregator=listed)
    numbers.node("square").apply("square")
    dag.node("add").apply("add")
    dag.edge("square-each", "add")


def each_number(text: str) -> dict[str, str]:
    """One branch for every number between commas, keyed by its place: the same number may come twice."""
    return {str(place): number for place, number in enumerate(text.split(",")) if number.strip()}


def listed(squares: list[str]) -> str:
    """The squares, separated by commas as `add` wants them."""
    return ",".join(square.strip() for square in squares)
