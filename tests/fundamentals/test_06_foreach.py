"""6. Foreach. Code makes a dict of the data; the branch runs once for every key, all at the same time, with the value
as its input. The aggregator gets the results by key, in the order of the dict.
"""

from __future__ import annotations

import threading


def sum_of_squares(flow, context):
    dag = flow.dag()
    branch = dag.foreach_branch("each", by_place, aggregator=list_of)
    branch.node("square").apply("square")
    dag.node("sum").modify(total)
    dag.edge("each", "sum")


def by_place(numbers: list[int]) -> dict[str, int]:
    return {str(place): number for place, number in enumerate(numbers)}


def list_of(squares: list[int]) -> list[int]:
    return squares


def total(numbers: list[int]) -> int:
    return sum(numbers)


def square(body: bytes) -> str:
    return str(int(body) ** 2)


def test_the_branch_runs_for_every_value(run_flow):
    flow = run_flow(sum_of_squares, functions={"square": square})

    assert flow.run(b"[1, 2, 3, 4]").result == b"30"
    assert sorted(call.body for call in flow.calls("square")) == [b"1", b"2", b"3", b"4"]


def test_no_value_is_an_empty_aggregation(run_flow):
    flow = run_flow(sum_of_squares, functions={"square": square})

    assert flow.run(b"[]").result == b"0"
    assert flow.calls("square") == []


def test_the_key_tells_the_branches_apart_in_what_ran(run_flow):
    flow = run_flow(sum_of_squares, functions={"square": square})

    ran = flow.run(b"[5, 6]").ran

    assert sorted(ran[:2]) == ["each/square@0", "each/square@1"]
    assert ran[2:] == ["each", "sum"]


def gentle(flow, context):
    dag = flow.dag()
    branch = dag.foreach_branch("each", by_place, aggregator=list_of, max_parallel=2)
    branch.node("square").apply("square")


class Gauge:
    """A stand-in that remembers how many of its calls ran side by side."""

    def __init__(self):
        self.lock = threading.Lock()
        self.running = self.most = 0

    def __call__(self, body: bytes) -> str:
        with self.lock:
            self.running += 1
            self.most = max(self.most, self.running)
        result = square(body)
        with self.lock:
            self.running -= 1
        return result


def test_max_parallel_bounds_how_many_branches_run_at_a_time(run_flow):
    gauge = Gauge()
    flow = run_flow(gentle, functions={"square": gauge})

    assert flow.run(b"[1, 2, 3, 4, 5]").result == b"[1,4,9,16,25]"
    assert gauge.most <= 2


def mail(flow, context):
    dag = flow.dag()
    dag.foreach_branch("each", by_name, forward=False).node("send").apply("send")
    dag.node("done").modify(report)
    dag.edge("each", "done")


def by_name(names: list[str]) -> dict[str, str]:
    return {name: f"Dear {name}" for name in names}


def report(data: bytes) -> str:
    return f"all sent, {len(data)} bytes came back"


def test_without_forwarding_the_results_are_not_collected(run_flow):
    flow = run_flow(mail, functions={"send": lambda body: b"a long receipt"})

    assert flow.run(b'["Ada", "Alan"]').result == b"all sent, 0 bytes came back"
    assert sorted(call.body for call in flow.calls("send")) == [b"Dear Ada", b"Dear Alan"]
