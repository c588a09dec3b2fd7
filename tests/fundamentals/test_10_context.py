"""10. The context: the request as the flow's code sees it. `query` and `request_id` are known when the flow is
defined; values that are `set` are seen by every later node; `result` looks at the result of any node before;
`node_input` has the inputs of a join one by one.
"""

from __future__ import annotations

from functools import partial


def from_query(flow, context):
    flow.sync_node().modify(partial(greet, context=context))


def greet(name: str, *, context) -> str:
    greeting = context.query.get("greeting", "Hello")
    titles = " ".join(context.query.get_all("title"))
    return f"{greeting} {titles} {name}, you are {context.request_id} of {context.name}"


def test_the_query_of_the_request_is_at_hand(run_flow):
    flow = run_flow(from_query)

    outcome = flow.run(b"Ada", query={"greeting": "Good day", "title": ["Prof", "Dr"]}, request_id="nr-1")

    assert outcome.result == b"Good day Prof Dr Ada, you are nr-1 of flow"


def shape_by_query(flow, context):
    node = flow.sync_node().modify(bytes.strip)
    if "loud" in context.query:
        node.modify(bytes.upper)


def test_the_query_may_decide_how_the_flow_looks(run_flow):
    flow = run_flow(shape_by_query)

    assert flow.run(b" hey ").result == b"hey"
    assert flow.run(b" hey ", query={"loud": "yes"}).result == b"HEY"


def remembering(flow, context):
    dag = flow.dag()
    dag.node("measure").modify(partial(measure, context=context))
    dag.node("forget").modify(partial(forget, context=context))
    dag.node("report").modify(partial(report, context=context))
    dag.edge("measure", "forget")
    dag.edge("forget", "report")


def measure(data: bytes, *, context) -> str:
    context.set("size", len(data))
    context.set("words", {"first": data.split()[0].decode()})
    context.set("raw", data)
    context.set("draft", "to be forgotten")
    return "measured"


def forget(data: bytes, *, context) -> str:
    context.delete("draft")
    return "forgotten"


def report(data: bytes, *, context) -> list:
    return [
        context.get("size"),
        context.get("words"),
        context.get("raw").decode(),
        context.get("draft", "gone"),
        context.node,
        context.state,
    ]


def test_values_are_kept_for_later_nodes_with_their_types(run_flow):
    outcome = run_flow(remembering).run(b"some bytes")

    assert outcome.result == b'[10,{"first":"some"},"some bytes","gone","report","ongoing"]'


def looking_back(flow, context):
    dag = flow.dag()
    dag.node("original").apply("fetch")
    dag.node("small").modify(shrink)
    dag.node("compare").modify(partial(compare, context=context))
    dag.edge("original", "small")
    dag.edge("small", "compare")


def shrink(data: bytes) -> bytes:
    return data[::2]


def compare(small: str, *, context) -> str:
    return f"{context.result('original').decode()} became {small}"


def test_the_result_of_any_node_before_can_be_looked_up(run_flow):
    flow = run_flow(looking_back, functions={"fetch": lambda body: b"abcdef"})

    assert flow.run().result == b"abcdef became ace"


def votes(flow, context):
    dag = flow.dag()
    dag.node("ask").modify(bytes.strip)
    dag.node("yes").modify(bytes.upper)
    dag.node("no").modify(bytes.lower)
    dag.node("decide", aggregator=first_of).modify(partial(decide, context=context))
    for answer in ("yes", "no"):
        dag.edge("ask", answer)
        dag.edge(answer, "decide")


def first_of(results: dict[str, bytes]) -> bytes:
    return results["yes"]


def decide(data: str, *, context) -> str:
    inputs = {node: value.decode() for node, value in context.node_input.items()}
    return f"{data} out of {inputs}"


def test_a_join_can_see_its_inputs_one_by_one(run_flow):
    assert run_flow(votes).run(b"Maybe").result == b"MAYBE out of {'yes': 'MAYBE', 'no': 'maybe'}"
