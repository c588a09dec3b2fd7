"""A retry that has much to remove, or branches to run again: at any width, and cut off or met anywhere."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from faasflow import Retry
from faasflow.engine.engine import Engine
from faasflow.engine.parts import Parts
from faasflow.engine.position import recorded_path
from faasflow.errors import BadRequestError, RequestConflictError, StoreUnavailableError
from faasflow.ports import StateStore
from faasflow.runtime import definer
from faasflow.stores import open_state_store
from faasflow.stores.memory import MemoryStateStore
from faasflow.testing import FlowTester, RequestState
from faasflow.testing.faults import FlakyStore, Operation
from tests.servers.consul import ConsulServer
from tests.servers.etcd import EtcdServer
from tests.servers.fixtures import consul_server, etcd_server

__all__ = ["consul_server", "etcd_server"]


class Wide:
    """start → a foreach of `width` branches of two nodes → end, which fails as long as `end` is among the `broken`, as
    does the second node of a branch that is. Counts what runs."""

    def __init__(self, width: int, **options: Any) -> None:
        self.width = width
        self.options = options
        self.broken = {"end"}
        self.ran = Counter[str]()

    def define(self, flow: Any, context: Any) -> None:
        dag = flow.dag()
        dag.node("start").modify(lambda data: self.run("start", data))
        each = dag.foreach_branch("each", self.split, aggregator=self.joined, **self.options)
        each.node("one").modify(lambda data: self.run(f"one {data.decode()}", data))
        each.node("two").modify(lambda data: self.run(f"two {data.decode()}", data))
        each.edge("one", "two")
        dag.node("end").modify(lambda data: self.run("end", data))
        dag.edge("start", "each")
        dag.edge("each", "end")

    def split(self, data: bytes) -> dict[str, str]:
        self.ran["split"] += 1
        return {f"k{number}": f"{data.decode()}{number}" for number in range(self.width)}

    def joined(self, results: dict[str, bytes]) -> bytes:
        self.ran["join"] += 1
        return b",".join(results.values())

    def run(self, name: str, data: bytes) -> bytes:
        self.ran[name] += 1
        if name in self.broken:
            raise RuntimeError(name)
        return data

    def result(self, prefix: str = "x") -> bytes:
        return ",".join(f"{prefix}{number}" for number in range(self.width)).encode()

    def mend(self) -> None:
        """Nothing is broken any more, and nothing ran."""
        self.broken.clear()
        self.ran.clear()

    def all_runs(self, *names: str) -> Counter[str]:
        """That each node of each branch and `names` ran once."""
        branches = [f"{node} x{number}" for node in ("one", "two") for number in range(self.width)]
        return Counter([*branches, *names])


def failed(flow: Wide, state: StateStore | None = None) -> FlowTester:
    """A tester whose request `r` has failed, as it should, with nothing broken any more."""
    tester = FlowTester(flow.define, state=state)
    assert tester.run(b"x", request_id="r").state is RequestState.FAILED
    flow.mend()
    return tester


def other_engine(tester: FlowTester, flow: Wide, state: StateStore) -> Engine:
    """Another process of the same flow, with stores of its own."""
    return Engine(
        Parts(
            flow="flow",
            define=definer(flow.define),
            state=state,
            data=tester.data,
            transport=tester.transport,
            clock=tester.clock,
            key=b"a key for tests",
            lease_after=float("inf"),
        )
    )


@pytest.mark.parametrize(("server", "width"), [("consul_server", 300), ("etcd_server", 300)])
def test_a_retry_of_an_early_node_has_no_limit_of_width(server: str, width: int, request: Any) -> None:
    running: ConsulServer | EtcdServer = request.getfixturevalue(server)
    store = open_state_store(running.url)
    store.init()
    flow = Wide(width)
    tester = failed(flow, store)

    tester.engine.retry("r", node="each")
    tester.settle()

    assert tester.outcome("r").result == flow.result()
    assert flow.ran == flow.all_runs("split", "join", "end")
    tester.engine.remove("r")
    store.close()


def boundaries(flow_of: Callable[[], Wide], node: str) -> range:
    """The numbers of the operations on the state store of a retry."""
    flow, seen = flow_of(), []
    tester = failed(flow)
    engine = other_engine(tester, flow, FlakyStore(tester.state, after=lambda one: bool(seen.append(one.number))))
    engine.retry("r", node=node)
    return range(1, len(seen) + 1)


def wide() -> Wide:
    return Wide(45)


def tolerant() -> Wide:
    flow = Wide(45, on_error=2)
    flow.broken = {f"two x{number}" for number in range(0, 45, 2)}
    return flow


@pytest.mark.parametrize(
    ("flow_of", "node", "names"), [(wide, "each", ("split", "join", "end")), (tolerant, "", ("join", "end"))]
)
@pytest.mark.parametrize("when", ["before", "after"])
def test_a_retry_that_is_cut_off_anywhere_is_finished_by_the_clock(flow_of, node, names, when) -> None:
    for point in boundaries(flow_of, node):
        flow = flow_of()
        tester = failed(flow)
        dead: list[bool] = []

        def dies(operation: Operation, point: int = point, dead: list[bool] = dead) -> bool:
            if operation.number == point:
                dead.append(True)
            return bool(dead)

        engine = other_engine(tester, flow, FlakyStore(tester.state, **{when: dies}))
        with contextlib.suppress(StoreUnavailableError):
            engine.retry("r", node=node)
        if tester.engine.state("r") is RequestState.FAILED:
            tester.engine.retry("r", node=node)
        tester.settle()

        assert (point, tester.outcome("r").result) == (point, flow.result())
        assert (point, expected(flow, names)) == (point, flow.ran)


def expected(flow: Wide, names: tuple[str, ...]) -> Counter[str]:
    if "split" in names:
        return flow.all_runs(*names)
    return Counter([*(f"two x{number}" for number in range(0, 45, 2)), *names])


@pytest.mark.parametrize(
    ("flow_of", "node", "names"), [(wide, "each", ("split", "join", "end")), (tolerant, "", ("join", "end"))]
)
def test_a_retry_that_is_met_by_a_clock_anywhere_removes_nothing_of_the_new_run(flow_of, node, names) -> None:
    for point in boundaries(flow_of, node):
        flow = flow_of()
        tester = failed(flow)

        def met(operation: Operation, point: int = point, tester: FlowTester = tester) -> bool:
            if operation.number == point and tester.engine.state("r") is RequestState.RUNNING:
                tester.clock.advance(31)
                tester.engine.tick()
                tester.settle()
            return False

        other_engine(tester, flow, FlakyStore(tester.state, before=met)).retry("r", node=node)
        tester.settle()

        assert (point, tester.outcome("r").result) == (point, flow.result())
        assert (point, expected(flow, names)) == (point, flow.ran)


def test_nothing_is_put_into_the_queue_before_everything_is_removed() -> None:
    flow = Wide(45)
    tester = failed(flow)
    seen: list[int] = []
    engine = other_engine(
        tester, flow, FlakyStore(tester.state, before=lambda one: bool(seen.append(len(tester.transport.pending))))
    )

    engine.retry("r", node="each")

    assert set(seen) == {0}
    assert len(tester.transport.pending) == 1


def test_a_pause_and_a_resume_in_the_middle_of_a_retry_lose_nothing() -> None:
    for point in boundaries(wide, "each"):
        flow = wide()
        tester = failed(flow)

        def steered(operation: Operation, point: int = point, tester: FlowTester = tester) -> bool:
            if operation.number == point and tester.engine.state("r") is RequestState.RUNNING:
                tester.engine.pause("r")
            return False

        other_engine(tester, flow, FlakyStore(tester.state, before=steered)).retry("r", node="each")
        tester.settle()
        with contextlib.suppress(RequestConflictError):
            tester.engine.resume("r")
        tester.settle()

        assert (point, tester.outcome("r").result) == (point, flow.result())
        assert (point, flow.ran) == (point, flow.all_runs("split", "join", "end"))


def test_what_a_timeout_cuts_off_is_removed_by_the_next_retry() -> None:
    flow, plain = Wide(45), Wide.define

    def limited(one: Any, context: Any) -> None:
        one.timeout(100)
        plain(flow, one, context)

    flow.define = limited  # type: ignore[method-assign]
    for point in boundaries(wide, "each"):
        flow.broken = {"end"}
        tester = failed(flow)
        fuse = FlakyStore(tester.state, before=lambda one, point=point: one.number >= point)
        with contextlib.suppress(StoreUnavailableError):
            other_engine(tester, flow, fuse).retry("r", node="each")
        tester.clock.advance(200)
        tester.engine.tick()
        again = "" if tester.engine.answer("r").failure.error_type == "RequestTimeoutError" else "each"
        tester.engine.retry("r", node=again)
        tester.settle()

        assert (point, tester.outcome("r").result) == (point, flow.result())
        assert (point, flow.ran) == (point, flow.all_runs("split", "join", "end"))


# The branches of a foreach that failed over its tolerance


@pytest.mark.parametrize("on_error", ["collect", 0, 1, 0.2])
@pytest.mark.parametrize("max_parallel", [None, 1, 2])
def test_a_retry_runs_the_failed_branches_of_a_foreach_again(on_error, max_parallel) -> None:
    flow = Wide(6, on_error=on_error, max_parallel=max_parallel)
    flow.broken = {"two x1", "two x3", "one x4"}
    if on_error == "collect":
        flow.broken.add("end")
    tester = failed(flow)

    tester.engine.retry("r")
    tester.settle()

    if on_error == "collect":  # those that failed were tolerated
        assert flow.ran == Counter(["end"])
    else:
        assert flow.ran == Counter(["two x1", "two x3", "one x4", "two x4", "join", "end"])
        assert tester.outcome("r").result == flow.result()


def test_a_retry_of_a_foreach_by_name_runs_all_its_branches_again() -> None:
    flow = Wide(4, on_error=0)
    flow.broken = {"two x1"}
    tester = failed(flow)

    tester.engine.retry("r", node="each")
    tester.settle()

    assert flow.ran == flow.all_runs("split", "join", "end")


def test_a_retry_of_a_foreach_by_name_takes_an_input() -> None:
    flow = Wide(4, on_error=0)
    flow.broken = {"two x1"}
    tester = failed(flow)

    tester.engine.retry("r", node="each", input=b"y")
    tester.settle()

    assert tester.outcome("r").result == flow.result("y")


def test_a_join_has_no_input_and_says_how_to_give_one() -> None:
    flow = Wide(4, on_error=0)
    flow.broken = {"two x1"}
    tester = failed(flow)

    with pytest.raises(BadRequestError, match="'each' joins branches and has no input") as refused:
        tester.engine.retry("r", input=b"y")

    assert "node='each'" in refused.value.hint
    assert tester.engine.state("r") is RequestState.FAILED


def test_a_node_of_one_failed_branch_runs_again_alone() -> None:
    flow = Wide(4, on_error=1)
    flow.broken = {"two x1", "two x2"}
    tester = failed(flow)

    tester.engine.retry("r", node="each/two@k1")
    tester.settle()

    assert flow.ran == Counter(["two x1", "join", "end"])
    assert tester.outcome("r").result == b"x0,x1,x3"


def test_a_node_that_its_branch_never_reached_is_refused_by_the_name_of_the_one_that_failed() -> None:
    flow = Wide(4, on_error=0)
    flow.broken = {"one x1"}
    tester = failed(flow)

    with pytest.raises(BadRequestError, match="failed at 'each/one@k1' before"):
        tester.engine.retry("r", node="each/two@k1")


def test_the_failures_of_branches_that_run_again_are_kept_as_attempts() -> None:
    flow = Wide(3, on_error=0)
    flow.broken = {"two x1"}
    tester = failed(flow)

    tester.engine.retry("r")
    tester.settle()

    rows = {row["path"]: row for row in tester.engine.story("r")["nodes"] if row.get("attempts")}
    assert [(path, [one["message"] for one in row["attempts"]]) for path, row in rows.items() if "two" in path] == [
        ("each/two@k1", ["two x1"])
    ]


def nested(ran: Counter[str], broken: set[str], *, inner: Any, outer: Any) -> Callable[..., None]:
    """A foreach in a foreach, with a condition in the innermost branch."""

    def work(data: bytes) -> bytes:
        ran[data.decode()] += 1
        if data.decode() in broken:
            raise RuntimeError(data)
        return data

    def define(flow: Any, context: Any) -> None:
        dag = flow.dag()
        out = dag.foreach_branch(
            "out", lambda data: {"a": "a", "b": "b", "c": "c"}, aggregator=joined(";"), on_error=outer
        )
        within = out.foreach_branch(
            "in", lambda data: {n: data.decode() + n for n in "012"}, aggregator=joined(","), on_error=inner
        )
        for branch in within.conditional_branch("if", ["yes"], lambda data: "yes", aggregator=joined("")).values():
            branch.node("work").modify(work)

    return define


def joined(between: str) -> Callable[[dict[str, bytes]], bytes]:
    def aggregator(results: dict[str, bytes]) -> bytes:
        return between.encode().join(results.values())

    return aggregator


@pytest.mark.parametrize(
    ("inner", "outer", "broken", "again"),
    [
        (0, 0, {"a1", "b2"}, ["a1", "b2"]),
        (1, 0, {"a1", "b0", "b2"}, ["b0", "b2"]),  # the one of `a` is tolerated
        ("stop", 0, {"a1", "b2"}, ["a1", "b2"]),
        (0, "stop", {"b2"}, ["b2"]),
    ],
)
def test_failed_branches_in_failed_branches_run_again(inner, outer, broken, again) -> None:
    ran: Counter[str] = Counter()
    tester = FlowTester(nested(ran, broken, inner=inner, outer=outer))
    assert tester.run(b"", request_id="r").state is RequestState.FAILED
    tolerated = broken - set(again)
    broken.clear()
    ran.clear()

    tester.engine.retry("r")
    tester.settle()

    names = {letter: [f"{letter}{n}" for n in "012" if f"{letter}{n}" not in tolerated] for letter in "abc"}
    assert tester.outcome("r").result == ";".join(",".join(names[letter]) for letter in "abc").encode()
    assert ran == Counter(again)


def test_all_that_failed_side_by_side_in_a_branch_runs_again() -> None:
    ran, broken = Counter[str](), {"left", "right"}

    def node(name: str) -> Callable[[bytes], bytes]:
        def work(data: bytes) -> bytes:
            ran[name] += 1
            if name in broken:
                raise RuntimeError(name)
            return data

        return work

    def define(flow: Any, context: Any) -> None:
        dag = flow.dag()
        each = dag.foreach_branch("each", lambda data: {"k": "k"}, aggregator=joined(","), on_error=0)
        for name in ("start", "left", "right", "good"):
            each.node(name).modify(node(name))
        each.node("end", aggregator=joined("+")).modify(node("end"))
        for name in ("left", "right", "good"):
            each.edge("start", name)
            each.edge(name, "end")

    for target, again in (("", ()), ("each/good@k", ("good",)), ("each/left@k", ())):
        broken |= {"left", "right"}
        tester = FlowTester(define)
        assert tester.run(b"", request_id="r").state is RequestState.FAILED
        broken.clear()
        ran.clear()

        tester.engine.retry("r", node=target)
        tester.settle()

        assert tester.outcome("r").result == b"k+k+k"
        assert ran == Counter(["left", "right", "end", *again])


def test_a_second_retry_runs_what_failed_again_in_the_first() -> None:
    flow = Wide(4, on_error=0, max_parallel=1)
    flow.broken = {"two x1", "two x2"}
    tester = failed(flow)
    flow.broken = {"two x2"}
    tester.engine.retry("r")
    tester.settle()
    flow.mend()

    tester.engine.retry("r")
    tester.settle()

    assert flow.ran == Counter(["two x2", "join", "end"])
    assert tester.outcome("r").result == flow.result()


def test_a_branch_that_is_run_again_has_its_own_policy_again() -> None:
    calls: list[bytes] = []

    def work(data: bytes) -> bytes:
        calls.append(data)
        if len(calls) < 4:
            raise RuntimeError(data)
        return data

    def define(flow: Any, context: Any) -> None:
        each = flow.dag().foreach_branch("each", lambda data: {"k": "k"}, aggregator=joined(","), on_error=0)
        each.node("work", retry=Retry(attempts=2, delay=1.0)).modify(work)

    tester = FlowTester(define)
    assert tester.run(b"", request_id="r").state is RequestState.FAILED

    tester.engine.retry("r")
    tester.settle()

    assert tester.outcome("r").result == b"k"
    assert len(calls) == 4


def test_a_retry_of_600_failed_branches_takes_less_than_150_operations() -> None:
    flow = Wide(600, on_error=0)
    flow.broken = {f"two x{number}" for number in range(600)}
    tester = failed(flow, MemoryStateStore())
    operations: list[int] = []
    engine = other_engine(tester, flow, FlakyStore(tester.state, before=lambda one: bool(operations.append(1))))

    engine.retry("r")

    assert len(operations) < 150


def test_a_path_is_found_by_how_it_reads_unless_that_is_ambiguous() -> None:
    keys = ["node/a%2Fb", "node/c%20d", "node/a@x%2Fy", "node/a@x/y", "branches/e%20f", "branches/e%20f#1/000"]
    found = {text: recorded_path(text, [*keys, "lease/node/z%20"]) for text in ("a/b", "c d", "c%20d", "e f", "z ", "")}

    assert found == {"a/b": "a%2Fb", "c d": "c%20d", "c%20d": "c%20d", "e f": "e%20f", "z ": "z ", "": ""}
    assert recorded_path("a@x/y", keys) == "a@x/y"
    assert recorded_path("a/b/c", ["node/a%2Fb/c", "node/a/b%2Fc"]) == "a/b/c"
