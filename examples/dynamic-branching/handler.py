"""Branches inside branches: a condition takes two cases, and one of them runs a foreach over the words of its input.

How many branches the foreach has is known only when it runs.
"""


def define(flow, context):
    dag = flow.dag()
    dag.node("n1").modify(shout)

    cases = dag.conditional_branch("C", ["c1", "c2"], both_cases, aggregator=by_key)
    cases["c2"].node("n1").apply("func1").modify(modifier)
    words = cases["c1"].foreach_branch("F", each_word, aggregator=by_key)
    words.node("n1").modify(modifier)

    dag.node("n2").apply("fake-storage")
    dag.edge("n1", "C")
    dag.edge("C", "n2")


def shout(text: str) -> str:
    """The text in capitals."""
    return text.upper()


def modifier(data: str) -> str:
    """What came in, wrapped so that the order can be read from the result."""
    return f"modifier({data})"


def both_cases(data: bytes) -> list[str]:
    """The cases to run, all of them with the same input."""
    return ["c1", "c2"]


def each_word(text: str) -> dict[str, str]:
    """One branch for every word, with the word as its input."""
    return {f"f{number}": word for number, word in enumerate(text.split(), 1)}


def by_key(results: dict[str, str]) -> str:
    """What the branches gave, by their keys."""
    return "[" + " ".join(f"{key}={result}" for key, result in results.items()) + "]"
