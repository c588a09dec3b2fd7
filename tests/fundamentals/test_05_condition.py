"""5. A condition. It names its branches beforehand; code looks at the data and chooses which of them run, with that
data as their input. What the chosen ones give is aggregated by the names of the branches.
"""

from __future__ import annotations


def sort_number(flow, context):
    dag = flow.dag()
    cases = dag.conditional_branch("kind", ["even", "odd", "big"], kinds, aggregator=together)
    cases["even"].node("halve").modify(halve)
    cases["odd"].node("triple").modify(triple)
    cases["big"].node("warn").apply("warn")
    dag.node("answer").modify(bytes.strip)
    dag.edge("kind", "answer")


def kinds(number: int) -> list[str]:
    chosen = ["even" if number % 2 == 0 else "odd"]
    return [*chosen, "big"] if number > 100 else chosen


def halve(number: int) -> int:
    return number // 2


def triple(number: int) -> int:
    return number * 3 + 1


def together(results: dict[str, str]) -> str:
    return " ".join(f"{key}={value}" for key, value in results.items())


def warn(body: bytes) -> bytes:
    return b"!"


def test_only_the_chosen_branch_runs(run_flow):
    flow = run_flow(sort_number, functions={"warn": warn})

    outcome = flow.run(b"10")

    assert outcome.result == b"even=5"
    assert flow.calls("warn") == []


def test_several_branches_may_be_chosen(run_flow):
    flow = run_flow(sort_number, functions={"warn": warn})

    assert flow.run(b"101").result == b"odd=304 big=!"
    assert len(flow.calls("warn")) == 1


def gate(flow, context):
    cases = flow.dag().conditional_branch("open", ["yes"], is_open, aggregator=what_happened)
    cases["yes"].node("enter").modify(same)


def is_open(word: str) -> str | None:
    return "yes" if word == "please" else None


def what_happened(results: dict[str, str]) -> str:
    return "came in" if "yes" in results else "stayed out"


def same(data):
    return data


def test_a_single_key_may_be_returned_as_it_is(run_flow):
    assert run_flow(gate).run(b"please").result == b"came in"


def test_nothing_chosen_is_an_empty_dict_for_the_aggregator(run_flow):
    assert run_flow(gate).run(b"now!").result == b"stayed out"
