"""The original's golden traces, as they are with one ledger: for each delivery what ran, what was recorded, and what
was forwarded. Where the original had a counter, each arrival has a key here; where it stored the data of every edge,
the result of a node is stored once."""

from __future__ import annotations

from faasflow import Dag
from faasflow.testing import RequestState
from tests.golden.support import Hop, Trace, shown


def test_one_synchronous_node_ends_in_its_start() -> None:
    def write(dag, step) -> None:
        dag.node("only").modify(step("f")).modify(step("g"))

    trace = Trace(write)

    assert trace.start(b"x") == Hop(
        ran=[("f", "x"), ("g", "f(x)")],
        recorded=["incarnation", "input", "node/only", "request"],
        forwarded=[],
    )
    assert (trace.state, trace.result) == (RequestState.FINISHED, b"g(f(x))")


def test_a_chain_is_one_delivery_a_node() -> None:
    def write(dag, step) -> None:
        for name in ("n1", "n2", "n3"):
            dag.node(name).modify(step(name))
        dag.edge("n1", "n2")
        dag.edge("n2", "n3")

    trace = Trace(write)

    assert trace.start(b"x") == Hop([], ["incarnation", "input", "request"], ["n1"])
    assert trace.deliver("n1") == Hop([("n1", "x")], ["node/n1"], ["n2"])
    assert trace.deliver("n2") == Hop([("n2", "n1(x)")], ["node/n2"], ["n3"])
    assert trace.state is RequestState.RUNNING
    assert trace.deliver("n3") == Hop([("n3", "n2(n1(x))")], ["node/n3", "request"], [])
    assert (trace.state, trace.result) == (RequestState.FINISHED, b"n3(n2(n1(x)))")


def parallel(dag, step) -> None:
    for name in ("n1", "n2", "n3"):
        dag.node(name).modify(step(name))
    dag.node("n4", aggregator=shown).modify(step("n4"))
    for source, target in ("n1", "n2"), ("n1", "n3"), ("n2", "n4"), ("n3", "n4"):
        dag.edge(source, target)


def test_parallel_nodes_meet_in_a_join() -> None:
    trace = Trace(parallel)

    trace.start(b"x")
    assert trace.deliver("n1") == Hop([("n1", "x")], ["node/n1"], ["n2", "n3"])
    assert trace.deliver("n2") == Hop([("n2", "n1(x)")], ["arrived/n4#0.0/n2", "node/n2"], [])
    assert trace.deliver("n3") == Hop([("n3", "n1(x)")], ["arrived/n4#0.0/n3", "node/n3"], ["n4"])
    assert trace.deliver("n4") == Hop([("n4", "n2=n2(n1(x));n3=n3(n1(x));")], ["node/n4", "request"], [])
    assert trace.result == b"n4(n2=n2(n1(x));n3=n3(n1(x));)"


def test_whichever_comes_last_starts_the_join_with_the_same_input() -> None:
    trace = Trace(parallel)
    trace.start(b"x")
    trace.deliver("n1")

    assert trace.deliver("n3").forwarded == []
    assert trace.deliver("n2").forwarded == ["n4"]
    assert trace.deliver("n4").ran == [("n4", "n2=n2(n1(x));n3=n3(n1(x));")]


def test_a_foreach_runs_its_branch_for_each_key() -> None:
    def write(dag, step) -> None:
        dag.node("n1").modify(step("n1"))
        branch = dag.foreach_branch("F", lambda data: {"k1": data + b"-1", "k2": data + b"-2"}, aggregator=shown)
        branch.node("a").modify(step("a"))
        branch.node("b").modify(step("b"))
        branch.edge("a", "b")
        dag.node("n2").modify(step("n2"))
        dag.edge("n1", "F")
        dag.edge("F", "n2")

    trace = Trace(write)
    trace.start(b"x")

    assert trace.deliver("n1") == Hop([("n1", "x")], ["node/n1"], ["F (split)"])
    assert trace.deliver("F (split)") == Hop([], ["branches/F"], ["F/a@k1", "F/a@k2"])
    assert trace.deliver("F/a@k1") == Hop([("a", "n1(x)-1")], ["node/F/a@k1"], ["F/b@k1"])
    assert trace.deliver("F/a@k2") == Hop([("a", "n1(x)-2")], ["node/F/a@k2"], ["F/b@k2"])
    assert trace.deliver("F/b@k2") == Hop([("b", "a(n1(x)-2)")], ["arrived/F:branches#0.0/k2", "node/F/b@k2"], [])
    assert trace.deliver("F/b@k1") == Hop(
        [("b", "a(n1(x)-1)")], ["arrived/F:branches#0.0/k1", "node/F/b@k1"], ["F (join)"]
    )
    assert trace.deliver("F (join)") == Hop([], ["node/F"], ["n2"])
    assert trace.deliver("n2") == Hop([("n2", "k1=b(a(n1(x)-1));k2=b(a(n1(x)-2));")], ["node/n2", "request"], [])
    assert trace.state is RequestState.FINISHED


def test_a_condition_runs_the_chosen_branches_and_may_hold_a_foreach_in_a_sub_dag() -> None:
    def write(dag, step) -> None:
        dag.node("n1").modify(step("n1"))
        cases = dag.conditional_branch("C", ["c1", "c2", "c3"], lambda data: ["c1", "c2"], aggregator=shown)
        inner = Dag()
        each = inner.foreach_branch("F", lambda data: {"k1": b"one", "k2": b"two"}, aggregator=shown)
        each.node("a").modify(step("a"))
        cases["c1"].sub_dag("S", inner)
        cases["c2"].node("n1").modify(step("inner n1"))
        cases["c3"].node("never").modify(step("never"))
        dag.node("n2").modify(step("n2"))
        dag.edge("n1", "C")
        dag.edge("C", "n2")

    trace = Trace(write)
    trace.start(b"x")
    trace.deliver("n1")

    assert trace.deliver("C (split)") == Hop([], ["branches/C"], ["C=c1/S/F (split)", "C=c2/n1"])
    assert trace.deliver("C=c1/S/F (split)") == Hop([], ["branches/C=c1/S/F"], ["C=c1/S/F/a@k1", "C=c1/S/F/a@k2"])
    assert trace.deliver("C=c2/n1") == Hop([("inner n1", "n1(x)")], ["arrived/C:branches#0.0/c2", "node/C=c2/n1"], [])
    assert trace.deliver("C=c1/S/F/a@k1").forwarded == []
    assert trace.deliver("C=c1/S/F/a@k2") == Hop(
        [("a", "two")], ["arrived/C=c1/S/F:branches#0.0/k2", "node/C=c1/S/F/a@k2"], ["C=c1/S/F (join)"]
    )
    # The end of the foreach is the end of the sub-DAG, and that the end of the branch.
    assert trace.deliver("C=c1/S/F (join)") == Hop([], ["arrived/C:branches#0.0/c1", "node/C=c1/S/F"], ["C (join)"])
    assert trace.deliver("C (join)") == Hop([], ["node/C"], ["n2"])
    assert trace.deliver("n2").ran == [("n2", "c1=k1=a(one);k2=a(two);;c2=inner n1(n1(x));")]
    assert trace.state is RequestState.FINISHED


def test_a_sub_dag_is_entered_at_its_first_node_and_left_at_its_last() -> None:
    def write(dag, step) -> None:
        inner = Dag()
        for name in ("a", "b"):
            inner.node(name).modify(step(name))
        inner.edge("a", "b")
        outer = Dag()
        outer.sub_dag("T", inner)
        dag.node("n1").modify(step("n1"))
        dag.sub_dag("S", outer)
        dag.node("n2").modify(step("n2"))
        dag.edge("n1", "S")
        dag.edge("S", "n2")

    trace = Trace(write)
    trace.start(b"x")

    assert trace.deliver("n1") == Hop([("n1", "x")], ["node/n1"], ["S/T/a"])
    assert trace.deliver("S/T/a") == Hop([("a", "n1(x)")], ["node/S/T/a"], ["S/T/b"])
    assert trace.deliver("S/T/b") == Hop([("b", "a(n1(x))")], ["node/S/T/b"], ["n2"])
    assert trace.deliver("n2").ran == [("n2", "b(a(n1(x)))")]


def test_a_branch_with_one_key_needs_no_arrivals() -> None:
    def write(dag, step) -> None:
        dag.foreach_branch("F", lambda data: {"k": data}, aggregator=shown).node("a").modify(step("a"))

    trace = Trace(write)
    assert trace.start(b"x") == Hop([], ["incarnation", "input", "request"], ["F (split)"])
    assert trace.deliver("F (split)") == Hop([], ["branches/F"], ["F/a@k"])
    assert trace.deliver("F/a@k") == Hop([("a", "x")], ["node/F/a@k"], ["F (join)"])
    assert trace.deliver("F (join)") == Hop([], ["node/F", "request"], [])
    assert trace.result == b"k=a(x);"


def test_a_branch_set_that_is_empty_goes_to_its_end() -> None:
    def write(dag, step) -> None:
        dag.foreach_branch("F", lambda data: {}, aggregator=lambda results: f"{len(results)}").node("a").modify(
            step("a")
        )

    trace = Trace(write)
    trace.start(b"x")

    assert trace.deliver("F (split)") == Hop([], ["branches/F"], ["F (join)"])
    assert trace.deliver("F (join)") == Hop([], ["node/F", "request"], [])
    assert trace.result == b"0"


def test_several_ends_meet_in_a_join_of_their_own() -> None:
    def write(dag, step) -> None:
        for name in ("a", "b", "c"):
            dag.node(name).modify(step(name))
        dag.edge("a", "b")
        dag.edge("a", "c")

    trace = Trace(write)
    trace.start(b"x")
    trace.deliver("a")

    assert trace.deliver("b") == Hop([("b", "a(x)")], ["arrived/end_0#0.0/b", "node/b"], [])
    assert trace.deliver("c") == Hop([("c", "a(x)")], ["arrived/end_0#0.0/c", "node/c"], ["end_0"])
    assert trace.deliver("end_0") == Hop([], ["node/end_0", "request"], [])
    assert trace.result == b'{"b":"b(a(x))","c":"c(a(x))"}'


def test_edges_that_only_order_join_like_others() -> None:
    def write(dag, step) -> None:
        for name in ("n1", "n2", "n3", "n4"):
            dag.node(name).modify(step(name))
        for source, target in ("n1", "n2"), ("n1", "n3"), ("n2", "n4"), ("n3", "n4"):
            dag.edge(source, target, forward=False)

    trace = Trace(write)
    trace.start(b"x")

    assert trace.deliver("n1") == Hop([("n1", "x")], ["node/n1"], ["n2", "n3"])
    assert trace.deliver("n2") == Hop([("n2", "")], ["arrived/n4#0.0/n2", "node/n2"], [])
    assert trace.deliver("n3") == Hop([("n3", "")], ["arrived/n4#0.0/n3", "node/n3"], ["n4"])
    assert trace.deliver("n4").ran == [("n4", "")]


def test_a_failing_node_ends_the_request_in_its_delivery() -> None:
    def write(dag, step) -> None:
        for name in ("n1", "n2", "n3"):
            dag.node(name).modify(step(name))
        dag.node("n2").modify(lambda data: 1 / 0)
        dag.edge("n1", "n2")
        dag.edge("n2", "n3")

    trace = Trace(write)
    trace.start(b"x")
    trace.deliver("n1")

    assert trace.deliver("n2") == Hop([("n2", "n1(x)")], ["node/n2", "request"], [])
    assert trace.state is RequestState.FAILED
