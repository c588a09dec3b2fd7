"""9. Several ends. Where more than one node has no successor, the result is a JSON object by node id, or what the
aggregator of `dag.end` makes of the results.
"""

from __future__ import annotations

import json


def statistics(flow, context):
    add_statistics(flow.dag())


def add_statistics(dag):
    dag.node("read").modify(words)
    dag.node("count").modify(count)
    dag.node("longest").modify(longest)
    dag.node("upper").apply("upper")
    for part in ("count", "longest", "upper"):
        dag.edge("read", part)


def words(text: str) -> list[str]:
    return text.split()


def count(words: list[str]) -> int:
    return len(words)


def longest(words: list[str]) -> str:
    return max(words, key=len)


FUNCTIONS = {"upper": lambda body: body.upper()}


def test_the_result_is_a_json_object_by_node(run_flow):
    flow = run_flow(statistics, functions=FUNCTIONS)

    result = json.loads(flow.run(b"to be or not").result)

    assert result == {"count": 4, "longest": "not", "upper": ["TO", "BE", "OR", "NOT"]}


def combined(flow, context):
    dag = flow.dag()
    add_statistics(dag)
    dag.end(aggregator=sentence)


def sentence(results: dict[str, str]) -> str:
    return f"{results['count']} words, the longest is {results['longest']}"


def test_the_ends_may_be_combined_by_an_aggregator(run_flow):
    flow = run_flow(combined, functions=FUNCTIONS)

    assert flow.run(b"to be or what").result == b"4 words, the longest is what"
