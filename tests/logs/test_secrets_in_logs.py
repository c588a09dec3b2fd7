"""What requests carry is in no line of the log, however much is logged."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import requests

from tests.logs.conftest import Stack
from tests.support import free_port, wait_until

SECRET = "hunter2"
FLOW = """
    from faasflow import Retry

    def fail(data):
        raise ValueError(f"cannot do {data!r}")

    def fail_late(error):
        raise KeyError(str(error) + " hunter2")

    def define(flow, context):
        dag = flow.dag()
        dag.node("keep").modify(lambda data: data)
        call = dict(query={"token": "hunter2", "mode": context.query.get("mode", "")}, headers={"X-Key": "hunter2"})
        dag.node("ask", retry=Retry(attempts=2, delay=0.1)).apply("parrot", **call)
        dag.edge("keep", "ask")
        if context.query.get("mode") == "raise":
            dag.node("fail").modify(fail)
            dag.edge("ask", "fail")
        flow.on_failure(fail_late)
        flow.finally_(lambda state: {}["hunter2"])
"""
PARROT = """
    def handle(event, context):
        status = 500 if event.query.get("mode") == "refuse" else 200
        return {"statusCode": status, "body": b"hunter2 " + event.body, "headers": {"X-Answer": "hunter2"}}
"""
FORMS = ("text", "json")


@pytest.fixture(scope="module")
def stack(make_stack: Callable[[], Stack]) -> Stack:
    stack = make_stack()
    for form in FORMS:
        stack.function(form, FLOW, log_level="debug", log_format=form)
    stack.function("parrot", PARROT, lang="python3-http")
    stack.start()
    return stack


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("mode", ["succeed", "refuse", "raise"])
def test_nothing_that_a_request_carries_is_logged(stack: Stack, form: str, mode: str) -> None:
    callback = f"http://user:{SECRET}@127.0.0.1:{free_port()}/{SECRET}?token={SECRET}"
    headers = {"Authorization": SECRET, "X-Faas-Flow-Callback-Url": callback}
    stack.run(form, f"body {SECRET}", id=mode, query=f"password={SECRET}&mode={mode}", **headers)
    mine = wait_until(lambda: _after_callback(stack, form, mode), "the callback to be tried")

    assert any("ask" in line for line in mine)
    assert not any(SECRET in line for line in stack.lines(form))


@pytest.mark.parametrize("form", FORMS)
def test_nothing_of_a_refused_request_is_logged(stack: Stack, form: str) -> None:
    headers = {"X-Faas-Flow-Callback-Url": f"ftp://example.com/{SECRET}", "Authorization": SECRET}
    answers = [
        stack.post(form, SECRET, id="refused", **headers),
        requests.post(f"{stack.gateway.url}/function/{form}/flow/r/forward?key={SECRET}", data=SECRET, timeout=30),
    ]
    wait_until(lambda: sum("refused" in line for line in stack.lines(form)) >= 2, "both refusals to be told")

    assert [answer.status_code for answer in answers] == [400, 400]
    assert not any(SECRET in line for line in stack.lines(form))


def _after_callback(stack: Stack, form: str, id: str) -> list[str]:
    """The lines of a request, once its callback has failed."""
    mine = [line for line in stack.lines(form) if f"request={id} " in line or f'"request": "{id}"' in line]
    return mine if any("$callback ended: RETRYING" in line for line in mine) else []
