"""7. DAGs in DAGs. A `Dag()` can be written once and put into others: as a node, with `sub_dag`, or among their
nodes, with `append`. Both take copies. Branches hold DAGs too, so everything nests.
"""

from __future__ import annotations

from faasflow import Dag


def wash() -> Dag:
    dag = Dag()
    dag.node("soak").modify(soaked)
    dag.node("rinse").modify(rinsed)
    dag.edge("soak", "rinse")
    return dag


def soaked(data: str) -> str:
    return f"soaked({data})"


def rinsed(data: str) -> str:
    return f"rinsed({data})"


def twice(flow, context):
    dag, program = flow.dag(), wash()
    dag.sub_dag("first", program)
    dag.sub_dag("second", program)
    dag.edge("first", "second")


def test_a_sub_dag_is_a_node_and_may_be_used_twice(run_flow):
    outcome = run_flow(twice).run(b"shirt")

    assert outcome.result == b"rinsed(soaked(rinsed(soaked(shirt))))"
    assert outcome.ran == ["first/soak", "first/rinse", "second/soak", "second/rinse"]


def appended(flow, context):
    dag = flow.dag()
    dag.node("sort").modify(sorted_out)
    dag.append(wash())
    dag.edge("sort", "soak")


def sorted_out(data: str) -> str:
    return f"sorted({data})"


def test_append_puts_the_nodes_of_a_dag_among_the_others(run_flow):
    outcome = run_flow(appended).run(b"shirt")

    assert outcome.result == b"rinsed(soaked(sorted(shirt)))"
    assert outcome.ran == ["sort", "soak", "rinse"]


def whole(flow, context):
    flow.set_dag(wash())


def test_a_dag_may_become_the_whole_flow(run_flow):
    assert run_flow(whole).run(b"shirt").result == b"rinsed(soaked(shirt))"


def laundry(flow, context):
    each = flow.dag().foreach_branch("each", pieces, aggregator=in_lines)
    cases = each.conditional_branch("how", ["hand", "machine"], how, aggregator=only_one)
    cases["hand"].node("by-hand").modify(by_hand)
    cases["machine"].sub_dag("program", wash())


def pieces(data: str) -> dict[str, str]:
    return {piece: piece for piece in data.split()}


def how(piece: str) -> str:
    return "hand" if piece == "silk" else "machine"


def by_hand(piece: str) -> str:
    return f"washed({piece})"


def only_one(results: list[str]) -> str:
    return results[0]


def in_lines(results: dict[str, bytes]) -> bytes:
    return b"\n".join(results.values())


def test_a_sub_dag_in_a_condition_in_a_foreach(run_flow):
    outcome = run_flow(laundry).run(b"silk cotton")

    assert outcome.result == b"washed(silk)\nrinsed(soaked(cotton))"
