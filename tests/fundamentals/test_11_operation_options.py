"""11. Options of a call, the same for `apply` (a function) and `request` (a URL): headers, query, method, a timeout,
and code around the call: `on_request` before it, `on_response` for its answer, `on_failure` where it fails.
"""

from __future__ import annotations

from faasflow.testing import RequestState, Response
from tests.fundamentals.running import NO_ANSWER


def with_options(flow, context):
    flow.sync_node().apply(
        "store",
        method="PUT",
        headers={"Content-Type": "text/plain", "X-Count": 3},
        query={"folder": "new & shiny", "tag": ["a", "b"]},
    )


def test_headers_query_and_method_reach_the_function(run_flow):
    flow = run_flow(with_options, functions={"store": lambda body: b"stored"})

    assert flow.run(b"data").result == b"stored"
    (call,) = flow.calls("store")
    assert call.method == "PUT"
    assert call.headers["content-type"] == "text/plain"
    assert call.headers["x-count"] == "3"
    assert call.query == [("folder", "new & shiny"), ("tag", "a"), ("tag", "b")]
    assert call.body == b"data"


def test_every_call_carries_its_request_and_a_key_of_its_own(run_flow):
    flow = run_flow(with_options, functions={"store": lambda body: b"stored"})

    flow.run(b"data", request_id="nr-1")
    flow.run(b"data", request_id="nr-2")

    first, second = flow.calls("store")
    assert first.headers["x-faas-flow-parent"].endswith("/nr-1")
    assert first.headers["idempotency-key"] != second.headers["idempotency-key"]


def any_url(flow, context):
    flow.sync_node().request(context.query.get("url", "http://example.com/"), method="POST")


def test_a_request_calls_a_url(run_flow):
    flow = run_flow(any_url, functions={"weather": lambda body: b"rain in " + body})

    assert flow.run(b"Oslo", query={"url": flow.url("weather")}).result == b"rain in Oslo"


def changed_on_the_way(flow, context):
    flow.sync_node().apply("store", on_request=stamp)


def stamp(call) -> None:
    call.method = "PATCH"
    call.headers["X-Size"] = str(len(call.body))
    call.query.append(("stamped", "yes"))
    call.body += b"!"


def test_on_request_may_change_the_call(run_flow):
    flow = run_flow(changed_on_the_way, functions={"store": bytes.upper})

    assert flow.run(b"data").result == b"DATA!"
    (call,) = flow.calls("store")
    assert (call.method, call.headers["x-size"], call.query) == ("PATCH", "4", [("stamped", "yes")])


def reading_answers(flow, context):
    flow.sync_node().apply("find", on_response=found_or_not)


def found_or_not(response) -> str:
    if response.status == 404:
        return "nothing"
    return f"{response.header('X-Hits')} hits: {response.body.decode()}"


def find(body: bytes) -> Response:
    return Response(404, {}, b"no") if body == b"unicorn" else Response(200, {"X-Hits": "2"}, b"cat, dog")


def test_on_response_judges_the_answer_and_gives_the_result(run_flow):
    flow = run_flow(reading_answers, functions={"find": find})

    assert flow.run(b"animal").result == b"2 hits: cat, dog"
    assert flow.run(b"unicorn").result == b"nothing"


def forgiving(flow, context):
    flow.sync_node().apply("flaky", on_failure=instead)


def instead(error) -> str:
    return f"a guess, because: {error}"


def broken(body: bytes) -> bytes:
    raise RuntimeError("out of paper")


def test_on_failure_may_give_a_result_in_place_of_the_function(run_flow):
    outcome = run_flow(forgiving, functions={"flaky": broken}).run(b"data")

    assert outcome.state is RequestState.FINISHED
    assert outcome.result == b"a guess, because: Function 'flaky' answered 500."


def impatient(flow, context):
    flow.sync_node().apply("slow", timeout=0.2)


def test_a_function_that_does_not_answer_in_time_fails_the_node(run_flow):
    outcome = run_flow(impatient, functions={"slow": lambda body: NO_ANSWER}).run(b"data")

    assert outcome.state is RequestState.FAILED
    assert outcome.failure.error_type == "CallTimeoutError"
    assert outcome.failure.operation == "slow"
