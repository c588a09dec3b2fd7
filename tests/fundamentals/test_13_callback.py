"""13. The callback. A request that is started with a callback URL tells it of its end: its body is the result, or
what is to be said of a failure.
"""

from __future__ import annotations

import json


def report(flow, context):
    dag = flow.dag()
    dag.node("collect").apply("collect")
    dag.node("write").modify(bytes.upper)
    dag.edge("collect", "write")


def told(body: bytes) -> bytes:
    return b"thank you"


def broken(body: bytes) -> bytes:
    raise OSError("the disk is full")


def test_the_callback_is_told_the_result(run_flow):
    flow = run_flow(report, functions={"collect": lambda body: b"data", "told": told})

    flow.run(callback=flow.url("told"), request_id="nr-1")

    (call,) = flow.calls("told")
    assert call.method == "POST"
    assert call.body == b"DATA"
    assert call.headers["x-faas-flow-reqid"] == "nr-1"
    assert call.headers["x-faas-flow-state"] == "FINISHED"


def test_the_callback_is_told_of_a_failure(run_flow):
    flow = run_flow(report, functions={"collect": broken, "told": told})

    flow.run(callback=flow.url("told"), request_id="nr-1")

    (call,) = flow.calls("told")
    said = json.loads(call.body)
    assert call.headers["x-faas-flow-state"] == "FAILED"
    assert (said["request_id"], said["node"]) == ("nr-1", "collect")
    assert said["error"] == "Node 'collect' failed: CallError: Function 'collect' answered 500."


def report_with_words(flow, context):
    report(flow, context)
    flow.on_failure(in_words)


def in_words(error) -> str:
    return f"no report: {error.node} failed"


def test_the_callback_is_told_what_on_failure_returned(run_flow):
    flow = run_flow(report_with_words, functions={"collect": broken, "told": told})

    flow.run(callback=flow.url("told"))

    assert [call.body for call in flow.calls("told")] == [b"no report: collect failed"]


def test_the_callback_is_signed_and_carries_an_id_of_its_own(run_flow):
    flow = run_flow(report, functions={"collect": lambda body: b"data", "told": told})

    flow.run(callback=flow.url("told"))
    flow.run(callback=flow.url("told"))

    first, second = flow.calls("told")
    assert first.headers["x-hub-signature"].startswith("sha256=")
    assert first.headers["x-faas-flow-event-id"] != second.headers["x-faas-flow-event-id"]
