"""The defects of the original under normal use, by their numbers: what must not happen here. Those of coordination and
delivery are in `test_delivery_defects.py`."""

from __future__ import annotations

import itertools
import json
import re
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient
from pytest_httpserver import HTTPServer

from faasflow import Dag, DefinitionError
from faasflow.config import Settings
from faasflow.errors import RequestConflictError, RequestNotFoundError, StoreUnavailableError
from faasflow.graph.export import to_dot, to_json, to_mermaid
from faasflow.http import create_app
from faasflow.stores.memory import MemoryStateStore
from faasflow.testing import FlowTester, RequestState, Response
from faasflow.testing.contracts import together
from faasflow.testing.faults import FlakyStore
from faasflow.testing.wrappers import StateStoreWrapper
from faasflow.transport.openfaas import OpenFaasTransport
from tests.golden.support import deliver_all, deliver_together, shown
from tests.support import free_port

ROOT = Path(__file__).parent.parent.parent
CALLBACK = "http://receiver/done"


def wrap(name: str) -> Callable[[bytes], bytes]:
    return lambda data: name.encode() + b"(" + data + b")"


def failing(data: Any) -> bytes:
    raise ValueError("broken on purpose")


def add(dag: Dag, *names: str) -> None:
    """Nodes that wrap their input, not linked."""
    for name in names:
        dag.node(name).modify(wrap(name))


def link(dag: Dag, *edges: str, **options: Any) -> None:
    for edge in edges:
        dag.edge(*edge.split(">"), **options)


def diamond(flow: Any, context: Any) -> None:
    dag = flow.dag()
    add(dag, "a", "b", "c")
    dag.node("d", aggregator=shown)
    link(dag, "a>b", "a>c", "b>d", "c>d")


def flow_of(write: Callable[[Dag], Any]) -> FlowTester:
    return FlowTester(lambda flow, context: write(flow.dag()))


def client_of(tester: FlowTester) -> FlaskClient:
    return create_app(tester.engine).test_client()


def started(tester: FlowTester, *ids: str) -> None:
    for id in ids:
        tester.engine.start(b"x", request_id=id)


def contents(tester: FlowTester) -> dict[str, bytes]:
    return tester.state.list("")


def test_defect_01_an_id_in_the_query_or_a_header_reaches_its_request() -> None:
    tester = FlowTester(diamond)
    client = client_of(tester)

    assert client.post("/", data=b"x", headers={"X-Faas-Flow-Reqid": "mine"}).headers["X-Faas-Flow-Reqid"] == "mine"
    assert client.post("/?pause-flow=mine").status_code == 200
    assert tester.engine.state("mine") is RequestState.PAUSED
    assert client.post("/?resume-flow=mine").status_code == 200
    assert tester.engine.state("mine") is RequestState.RUNNING
    assert client.post("/?stop-flow=mine").status_code == 200
    assert tester.engine.state("mine") is RequestState.STOPPED


def contents_of_others(tester: FlowTester) -> dict:
    """What is stored, without what is that of request 1: its own keys, and its entries in the lists."""
    own, entry = "faasflow/flow/1/", "/1"
    return {
        key: value for key, value in contents(tester).items() if not key.startswith(own) and not key.endswith(entry)
    }


@pytest.mark.parametrize("query", ["stop-flow=1", "stop-flow=", "stop-flow", "stop-flow=%2F", "stop-flow=../flow"])
def test_defect_02_stopping_by_query_touches_no_other_request(query: str) -> None:
    tester = FlowTester(diamond)
    started(tester, "1", "10", "other")
    before = contents_of_others(tester)

    client_of(tester).post(f"/?{query}")

    assert contents_of_others(tester) == before
    assert [tester.engine.state(id) for id in ("10", "other")] == [RequestState.RUNNING] * 2


def test_defect_03_the_state_by_query_is_that_of_the_request() -> None:
    tester = FlowTester(diamond)
    started(tester, "running", "paused", "stopped")
    tester.engine.pause("paused")
    tester.engine.stop("stopped")
    client = client_of(tester)

    states = {id: client.get(f"/?state={id}").text for id in ("running", "paused", "stopped")}
    assert states == {"running": "RUNNING", "paused": "PAUSED", "stopped": "STOPPED"}
    assert client.get("/?state=unknown").status_code == 404


def test_defect_04_what_is_paused_is_kept_and_not_forwarded_as_well() -> None:
    ran = Counter[str]()
    tester = FlowTester(counted_diamond(ran))
    started(tester, "r")
    tester.engine.pause("r")
    tester.drain()
    assert ran == {}

    tester.engine.resume("r")
    tester.drain()
    assert ran == {"a": 1, "b": 1, "c": 1, "d": 1}
    assert tester.outcome("r").state is RequestState.FINISHED


def counted_diamond(ran: Counter[str]) -> Callable[[Any, Any], None]:
    """A diamond whose nodes count how often they run."""

    def define(flow: Any, context: Any) -> None:
        dag = flow.dag()
        for name in "abcd":
            dag.node(name, **({"aggregator": shown} if name == "d" else {})).modify(counting(ran, name))
        link(dag, "a>b", "a>c", "b>d", "c>d")

    return define


def counting(ran: Counter[str], name: str) -> Callable[[bytes], bytes]:
    def code(data: bytes) -> bytes:
        ran[name] += 1
        return wrap(name)(data)

    return code


def test_defect_05_every_pause_keeps_its_own_steps_and_none_is_replayed() -> None:
    ran = Counter[str]()
    tester = FlowTester(counted_diamond(ran))
    started(tester, "r")
    while not tester.engine.state("r").has_ended:
        tester.engine.pause("r")
        deliver_one(tester)
        tester.engine.resume("r")
        deliver_one(tester)

    assert ran == {"a": 1, "b": 1, "c": 1, "d": 1}


def deliver_one(tester: FlowTester) -> None:
    if tester.transport.pending:
        message = tester.transport.pending.popleft()
        tester.engine.deliver(message.request_id, message.body)


def test_defect_05_a_resume_with_nothing_kept_is_no_error_and_one_of_an_ended_request_is() -> None:
    tester = FlowTester(diamond)
    started(tester, "r")
    tester.engine.pause("r")
    assert tester.engine.resume("r") is RequestState.RUNNING
    tester.drain()

    with pytest.raises(RequestConflictError, match="FINISHED"):
        tester.engine.resume("r")
    assert tester.engine.state("r") is RequestState.FINISHED


class Interrupted(StateStoreWrapper):
    """A store that does something else right before its operations of these numbers."""

    def __init__(self, actions: dict[int, list[Callable[[], Any]]]) -> None:
        super().__init__(MemoryStateStore())
        self.actions, self.numbers = actions, itertools.count(1)

    def _run(self, operation: str, call: Callable[[], Any], *, is_write: bool) -> Any:
        for action in self.actions.pop(next(self.numbers), []):
            action()
        return call()


def test_defect_06_no_step_is_lost_between_a_pause_and_a_resume_at_any_moment() -> None:
    expected = FlowTester(counted_diamond(Counter())).run(b"x").result
    for pause, resume in itertools.combinations_with_replacement(range(1, 30), 2):
        ran = Counter[str]()
        actions: dict[int, list[Callable[[], Any]]] = {}
        tester = FlowTester(counted_diamond(ran), state=Interrupted(actions))
        started(tester, "r")
        for moment, command in (pause, tester.engine.pause), (resume, tester.engine.resume):
            actions.setdefault(moment, []).append(lambda command=command: command_to(command, "r"))
        deliver_all(tester)
        command_to(tester.engine.resume, "r")
        deliver_all(tester)

        assert tester.outcome("r").result == expected, (pause, resume)
        assert ran == {"a": 1, "b": 1, "c": 1, "d": 1}, (pause, resume)


def command_to(command: Callable[[str], Any], id: str) -> None:
    with suppress(RequestConflictError):
        command(id)


def test_defect_07_the_callback_outlives_a_resume_by_another_replica() -> None:
    first = FlowTester(diamond)
    first.engine.start(b"x", request_id="r", callback=CALLBACK)
    first.engine.pause("r")
    first.drain()
    second = FlowTester(diamond, state=first.state, data=first.data)
    second.answer(CALLBACK, lambda call: Response(200, {}, b""))
    second.engine.resume("r")
    second.drain()

    (call,) = second.transport.calls
    assert call.body == b"b=b(a(x));c=c(a(x));"


def test_defect_08_requests_side_by_side_never_mix() -> None:
    def define(flow: Any, context: Any) -> None:
        dag = flow.dag()
        dag.node("set").modify(lambda data: context.set("own", context.request_id) or data * 1000)
        branch = dag.foreach_branch("F", lambda data: {"k": data, "l": data}, aggregator=shown)
        branch.node("n").modify(lambda data: f"{context.request_id} {context.get('own')} {data[:4].decode()}")
        dag.edge("set", "F")

    tester = FlowTester(define, inline_limit=16)
    ids = [f"r{number:03}" for number in range(24)]
    together(lambda id: tester.engine.start(id.encode(), request_id=id), ids)
    deliver_together(tester)

    assert {id: tester.outcome(id).result for id in ids} == {
        id: f"k={id} {id} {id};l={id} {id} {id};".encode() for id in ids
    }


def test_defect_09_several_ends_in_several_dags_of_one_request_join_apart() -> None:
    def fork(dag: Dag) -> None:
        add(dag, "a", "b", "c")
        link(dag, "a>b", "a>c")

    def write(dag: Dag) -> None:
        inner = Dag()
        fork(inner)
        dag.sub_dag("S", inner)
        fork(dag.foreach_branch("F", lambda data: {"k": b"v", "l": b"w"}, aggregator=lambda results: "F"))
        add(dag, "last", "other")
        link(dag, "S>F", "F>last", "F>other")

    outcome = flow_of(write).run(b"x")
    assert outcome.result == b'{"last":"last(F)","other":"other(F)"}'
    assert [path for path in outcome.ran if "end_" in path] == ["S/end_1", "F/end_2@k", "F/end_2@l", "end_0"]


def test_defect_10_data_is_never_lost_in_silence() -> None:
    def join(dag: Dag) -> None:
        add(dag, "a", "b", "c")
        link(dag, "a>b", "a>c", "b>c")

    def idle(dag: Dag) -> None:
        add(dag, "a")
        dag.node("idle")
        link(dag, "a>idle")

    def ends(dag: Dag) -> None:
        add(dag, "a", "b", "c")
        link(dag, "a>b", "a>c")

    with pytest.raises(DefinitionError, match=r"'c' .* joins 'a' and 'b' without an aggregator"):
        flow_of(join)
    with pytest.raises(DefinitionError, match=r"'idle' .* has nothing to do"):
        flow_of(idle)
    assert flow_of(ends).run(b"x").result == b'{"b":"b(a(x))","c":"c(a(x))"}'


def test_defect_11_branches_without_an_aggregator_are_refused_before_they_run() -> None:
    dag = Dag()
    with pytest.raises(DefinitionError, match="'F' has no aggregator"):
        dag.foreach_branch("F", lambda data: {})
    with pytest.raises(DefinitionError, match="'C' has no aggregator"):
        dag.conditional_branch("C", ["a"], lambda data: "a")


def test_defect_12_condition_naming_a_key_twice_runs_it_once() -> None:
    ran = Counter[str]()

    def write(dag: Dag) -> None:
        cases = dag.conditional_branch("C", ["a", "b"], lambda data: ["b", "a", "b", "a"], aggregator=shown)
        for key, case in cases.items():
            case.node("n").modify(counting(ran, key))

    assert flow_of(write).run(b"x").result == b"a=a(x);b=b(x);"
    assert ran == {"a": 1, "b": 1}


@pytest.mark.parametrize("kind", ["foreach", "condition"])
def test_defect_13_no_branch_at_all_calls_the_aggregator_and_goes_on(kind: str) -> None:
    def write(dag: Dag) -> None:
        count = lambda results: f"{len(results)} branches"  # noqa: E731
        if kind == "foreach":
            add(dag.foreach_branch("D", lambda data: {}, aggregator=count), "n")
        else:
            add(dag.conditional_branch("D", ["a"], lambda data: [], aggregator=count)["a"], "n")
        add(dag, "last")
        link(dag, "D>last")

    assert flow_of(write).run(b"x").result == b"last(0 branches)"


@pytest.mark.parametrize(
    "branch",
    [
        lambda dag: add(dag.foreach_branch("D", lambda data: None, aggregator=shown), "n"),
        lambda dag: add(dag.conditional_branch("D", ["a"], lambda data: ["z"], aggregator=shown)["a"], "n"),
    ],
)
def test_defect_13_nothing_or_an_unknown_key_fails_the_node_by_name_and_the_handlers_run(branch: Callable) -> None:
    seen: list[str] = []

    def define(flow: Any, context: Any) -> None:
        branch(flow.dag())
        flow.on_failure(lambda error: seen.append(error.node))
        flow.finally_(seen.append)

    outcome = FlowTester(define).run(b"x")
    assert outcome.state is RequestState.FAILED
    assert outcome.error.startswith("D: BranchError: ")
    assert seen == ["D", "failure"]


@pytest.mark.parametrize("forward", [True, False])
def test_defect_14_branches_that_forward_nothing_get_their_values_in_every_dag(forward: bool) -> None:
    got: list[bytes] = []

    def write(dag: Dag) -> None:
        add(dag, "a", "last")
        dag.foreach_branch("F", lambda data: {"k": b"1", "l": b"2"}, forward=False).node("n").modify(got.append)
        link(dag, "a>F", "F>last", forward=forward)

    assert flow_of(write).run(b"x").result == b"last()"
    assert sorted(got) == [b"1", b"2"]


@pytest.mark.parametrize("nothing", ["modifier", "on_response"])
def test_defect_15_a_result_of_none_is_empty_and_not_the_input_again(nothing: str) -> None:
    def define(flow: Any, context: Any) -> None:
        node = flow.sync_node()
        if nothing == "modifier":
            node.modify(lambda data: None)
        else:
            node.apply("f", on_response=lambda response: None)
        node.modify(wrap("next"))

    tester = FlowTester(define)
    tester.function("f", wrap("f"))
    assert tester.run(b"x").result == b"next()"


def test_defect_16_the_image_sets_variables_by_their_names_and_timeouts_are_understood(tmp_path: Path) -> None:
    dockerfile = (ROOT / "template" / "faas-flow" / "Dockerfile").read_text().replace("\\\n", " ")
    words = [
        word for line in re.findall(r"^ENV (.*)$", dockerfile, re.M) for word in re.sub('"[^"]*"', "", line).split()
    ]
    assert words
    assert all(re.fullmatch(r"\w+=[^:]*|\w+=\S+", word) for word in words)

    (tmp_path / "faasflow-hmac-secret").write_text("key")
    timeouts = {"exec_timeout": "20m", "read_timeout": "120", "write_timeout": "2m", "secret_mount_path": str(tmp_path)}
    assert Settings.from_environment(timeouts).exec_timeout == 1200


def test_defect_17_a_query_reaches_the_function_as_it_was_written() -> None:
    query = {"k": "v", "a b": "1&2=3", "é": ["x/y", "", "+%"]}
    with served() as server:
        seen: list[Any] = []
        server.expect_request("/function/f").respond_with_handler(lambda request: seen.append(request) or b"")
        transport = OpenFaasTransport(server.url_for(""))
        tester = FlowTester(lambda flow, context: flow.sync_node().apply("f", query=query), transport=transport)
        tester.engine.start(b"x")
        transport.close()

    assert list(seen[0].args.items(multi=True)) == [("k", "v"), ("a b", "1&2=3"), ("é", "x/y"), ("é", ""), ("é", "+%")]


@contextmanager
def served() -> Iterator[HTTPServer]:
    with HTTPServer(port=free_port()) as server:
        yield server


def test_defect_18_a_short_url_can_be_called_and_shown() -> None:
    tester = FlowTester(lambda flow, context: flow.sync_node().request("http://a"))
    tester.answer("http://a", lambda call: Response(200, {}, b"from a"))

    assert tester.run(b"x").result == b"from a"
    for export in (to_json, to_dot, to_mermaid):
        assert "a" in str(export(tester.engine.definition()))


@pytest.mark.parametrize(("call", "target"), [("apply", "f"), ("request", "http://a/f")])
def test_defect_19_what_a_response_handler_gives_is_the_result(call: str, target: str) -> None:
    def define(flow: Any, context: Any) -> None:
        getattr(flow.sync_node(), call)(target, on_response=lambda response: response.body + b" handled")

    tester = FlowTester(define)
    tester.answer(target, lambda call: Response(404, {}, b"body"))

    assert tester.run(b"x").result == b"body handled"


def test_defect_20_one_dag_may_stand_in_two_places() -> None:
    shared = Dag()
    add(shared, "a", "b")
    link(shared, "a>b")

    def write(dag: Dag) -> None:
        dag.sub_dag("one", shared)
        dag.sub_dag("two", shared)
        add(dag, "last")
        link(dag, "one>two", "two>last")

    assert flow_of(write).run(b"x").result == b"last(b(a(b(a(x)))))"


@pytest.mark.parametrize(
    ("fill", "result"),
    [
        (lambda dag, inner: dag.sub_dag("M", inner), b"c(n(a(x)))"),
        (
            lambda dag, inner: dag.foreach_branch("M", lambda data: {"k": data}, aggregator=shown).append(inner),
            b"c(k=n(a(x));)",
        ),
        (
            lambda dag, inner: dag.conditional_branch("M", ["k"], lambda data: "k", aggregator=shown)["k"].append(
                inner
            ),
            b"c(k=n(a(x));)",
        ),
    ],
)
def test_defect_21_a_node_that_is_linked_first_keeps_its_edges_when_it_is_filled(fill: Callable, result: bytes) -> None:
    def write(dag: Dag) -> None:
        inner = Dag()
        add(inner, "n")
        add(dag, "a", "c")
        dag.node("M")
        link(dag, "a>M", "M>c")
        fill(dag, inner)

    assert flow_of(write).run(b"x").result == result


def test_defect_22_appended_nodes_keep_their_data_and_have_ids_of_their_own() -> None:
    def part(name: str) -> Dag:
        dag, inner = Dag(), Dag()
        add(inner, "x")
        dag.sub_dag(f"{name}1", inner)
        add(dag, f"{name}2")
        link(dag, f"{name}1>{name}2")
        return dag

    def write(dag: Dag) -> None:
        dag.append(part("a"))
        dag.append(part("b"))
        link(dag, "a2>b1")

    tester = flow_of(write)
    assert tester.run(b"in").result == b"b2(x(a2(x(in))))"
    exported = to_json(tester.engine.definition())
    assert exported["exec-only-dag"] is False
    assert re.findall(r'"unique-id": "(\w+)"', json.dumps(exported)) == [
        *("0_1_a1", "1_1_x", "0_2_a2", "0_3_b1", "3_1_x", "0_4_b2")
    ]


def test_defect_23_data_flows_inside_a_sub_dag_where_the_root_only_orders_and_has_several_ends() -> None:
    got: list[bytes] = []

    def write(dag: Dag) -> None:
        inner = Dag()
        add(inner, "x")
        inner.node("y").modify(got.append)
        link(inner, "x>y")
        add(dag, "a", "end1", "end2")
        dag.sub_dag("S", inner)
        link(dag, "a>S", "S>end1", "S>end2", forward=False)

    outcome = flow_of(write).run(b"x")
    assert outcome.result == b'{"end1":"end1()","end2":"end2()"}'
    assert got == [b"x()"]


def test_defect_24_a_self_edge_is_refused_where_it_is_written() -> None:
    dag = Dag()
    add(dag, "a")
    with pytest.raises(DefinitionError, match="Edge 'a' to itself"):
        dag.edge("a", "a")


def test_defect_25_a_ladder_of_diamonds_costs_as_much_as_its_edges() -> None:
    def write(dag: Dag) -> None:
        add(dag, "0")
        for step in range(30):
            add(dag, f"{step}l", f"{step}r")
            dag.node(f"{step + 1}", aggregator=lambda results: f"{sum(map(len, results.values())) > 0}")
            link(dag, f"{step}>{step}l", f"{step}>{step}r", f"{step}l>{step + 1}", f"{step}r>{step + 1}")

    outcome = flow_of(write).run(b"x")
    assert outcome.result == b"True"
    assert len(outcome.ran) == 91


def test_defect_28_what_on_failure_gives_is_the_answer_and_the_callback_is_told() -> None:
    def define(flow: Any, context: Any) -> None:
        dag = flow.dag()
        add(dag, "a")
        dag.node("b").modify(failing)
        link(dag, "a>b")
        flow.on_failure(lambda error: {"node": error.node})

    tester = FlowTester(define)
    tester.answer(CALLBACK, lambda call: Response(200, {}, b""))
    outcome = tester.run(b"x", callback=CALLBACK)

    assert (outcome.state, outcome.result) == (RequestState.FAILED, b'{"node":"b"}')
    assert [(call.body, call.headers["X-Faas-Flow-State"]) for call in tester.transport.calls] == [
        (b'{"node":"b"}', "FAILED")
    ]
    assert tester.engine.story(outcome.request_id)["failure"].message == "broken on purpose"


def test_defect_29_unknown_failed_stopped_finished_and_unreachable_are_told_apart() -> None:
    def define(flow: Any, context: Any) -> None:
        dag = flow.dag()
        add(dag, "a")
        dag.node("b").modify(lambda data: failing(data) if b"fail" in data else data)
        link(dag, "a>b")

    is_down: list[bool] = []
    tester = FlowTester(define, state=FlakyStore(MemoryStateStore(), before=lambda operation: bool(is_down)))
    tester.run(b"fine", request_id="finished")
    tester.run(b"fail", request_id="failed")
    started(tester, "stopped", "running")
    tester.engine.stop("stopped")

    states = {id: tester.engine.state(id).value for id in ("finished", "failed", "stopped", "running")}
    assert states == {id: id.upper() for id in states}
    with pytest.raises(RequestNotFoundError, match="'unknown'"):
        tester.engine.state("unknown")
    is_down.append(True)
    with pytest.raises(StoreUnavailableError):
        tester.engine.state("finished")


def broken_modifier(dag: Dag) -> None:
    dag.node("n").modify(failing)


def broken_aggregator(dag: Dag) -> None:
    dag.node("n", aggregator=failing)
    link(dag, "a>n")


def broken_forwarder(dag: Dag) -> None:
    add(dag, "n")
    dag.edge("a", "n", forwarder=failing)


def broken_foreach(dag: Dag) -> None:
    add(dag.foreach_branch("n", failing, aggregator=shown), "x")


def broken_condition(dag: Dag) -> None:
    add(dag.conditional_branch("n", ["k"], failing, aggregator=shown)["k"], "x")


def broken_branch_aggregator(dag: Dag) -> None:
    add(dag.foreach_branch("n", lambda data: {"k": data}, aggregator=failing), "x")


def broken_end_aggregator(dag: Dag) -> None:
    add(dag, "n", "m")
    link(dag, "a>m")
    dag.end(aggregator=failing)


def broken_on_request(dag: Dag) -> None:
    dag.node("n").apply("f", on_request=failing)


def broken_on_response(dag: Dag) -> None:
    dag.node("n").apply("f", on_response=failing)


def broken_on_failure(dag: Dag) -> None:
    dag.node("n").apply("unknown", on_failure=failing)


def exiting_modifier(dag: Dag) -> None:
    dag.node("n").modify(lambda data: exit("broken on purpose"))


def endless_modifier(dag: Dag) -> None:
    def broken(data: bytes) -> bytes:
        return broken(data)

    dag.node("n").modify(broken)


@pytest.mark.parametrize(
    "broken",
    [
        *(broken_modifier, broken_aggregator, broken_forwarder, broken_foreach, broken_condition),
        *(broken_branch_aggregator, broken_end_aggregator, broken_on_request, broken_on_response, broken_on_failure),
        *(exiting_modifier, endless_modifier),
    ],
)
def test_defect_30_an_exception_anywhere_in_user_code_fails_the_request(broken: Callable[[Dag], None]) -> None:
    seen: list[str] = []

    def define(flow: Any, context: Any) -> None:
        dag = flow.dag()
        add(dag, "a")
        broken(dag)
        with suppress(DefinitionError):
            link(dag, "a>n")
        flow.on_failure(lambda error: seen.append("on_failure"))
        flow.finally_(seen.append)

    tester = FlowTester(define)
    tester.function("f", wrap("f"))
    outcome = tester.run(b"x")

    assert outcome.state is RequestState.FAILED
    assert "broken on purpose" in outcome.error or "RecursionError" in outcome.error
    assert seen == ["on_failure", "failure"]


@pytest.mark.parametrize("state", [RequestState.FINISHED, RequestState.FAILED])
def test_defect_30_an_exception_in_the_handlers_of_the_end_changes_nothing(state: RequestState) -> None:
    def define(flow: Any, context: Any) -> None:
        flow.sync_node().modify(failing if state is RequestState.FAILED else wrap("n"))
        flow.on_failure(failing)
        flow.finally_(failing)

    assert FlowTester(define).run(b"x").state is state
