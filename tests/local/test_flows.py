"""Flows behind the gateway: the queue moves them, and they call functions through it."""

from __future__ import annotations

import pytest

from tests.local.support import is_running
from tests.support import wait_until

CHAIN = """
    def define(flow, context):
        dag = flow.dag()
        dag.node("first").apply("shout")
        dag.node("second").modify(lambda data: data + b"!")
        dag.edge("first", "second")
"""
SHOUT = "def handle(event, context): return {'body': event.body.upper()}\n"


def test_a_flow_runs_through_the_queue_and_calls_functions_through_the_gateway(project, start_gateway, http):
    project.function("chain", CHAIN, lang="faas-flow")
    project.function("shout", SHOUT)
    gateway = start_gateway(project)

    answer = http.post(f"{gateway.url}/function/chain?wait=20s", data=b"hello")

    assert (answer.status_code, answer.content) == (200, b"HELLO!")


def test_a_flow_goes_on_when_its_process_is_killed(project, start_gateway, http):
    code = """
        import os, pathlib, signal
        MARK = pathlib.Path(__file__).with_name("mark")

        def die_once(data):
            if not MARK.exists():
                MARK.touch()
                os.kill(os.getpid(), signal.SIGKILL)
            return data + b", again"

        def define(flow, context):
            dag = flow.dag()
            dag.node("first").modify(lambda data: data + b" once")
            dag.node("second").modify(die_once)
            dag.edge("first", "second")
    """
    project.function("chain", code, lang="faas-flow")
    gateway = start_gateway(project)

    started = http.post(f"{gateway.url}/function/chain", data=b"told")
    result = f"{gateway.url}/function/chain/flow/{started.headers['X-Faas-Flow-Reqid']}/result"

    answer = wait_until(
        lambda: (answer := http.get(result)).status_code == 200 and answer, "the flow has a result", timeout=40
    )
    assert answer.content == b"told once, again"


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("def define(flow, context):\n    flow.dag().edge('a', 'a')\n", "'a'"),
        ("X = 1\n", "has no function define(flow, context)"),
    ],
)
def test_a_broken_flow_is_told_in_one_line(project, start_gateway, code, reason):
    project.function("chain", code, lang="faas-flow")

    (error,) = start_gateway(project).start_functions().values()

    assert str(error).startswith("Function 'chain' does not start: ")
    assert reason in str(error)
    assert "\n" not in str(error)


def test_a_killed_gateway_leaves_no_flow_behind(project, run_gateway, http):
    pid = "import os\ndef define(flow, context): flow.sync_node().modify(lambda data: str(os.getpid()))\n"
    project.function("pid", pid, lang="faas-flow")
    gateway = run_gateway().wait_ready()
    process = int(http.post(f"{gateway.url}/function/pid").text)

    gateway.kill()

    wait_until(lambda: not is_running(process), "the flow's process is gone")


FLAKY = """
    import pathlib
    from faasflow import Retry

    CALLS = pathlib.Path(__file__).with_name("calls")

    def sometimes(data):
        with CALLS.open("a") as calls:
            calls.write("x")
        if len(CALLS.read_text()) < 3:
            raise OSError("not yet")
        return data + b" at last"

    def define(flow, context):
        dag = flow.dag()
        dag.node("first").modify(lambda data: data)
        dag.node("second", retry=Retry(attempts=3, delay=0.2)).modify(sometimes)
        dag.edge("first", "second")
"""


def test_a_flow_does_not_wait_for_the_next_tick_to_try_again(project, start_gateway, http):
    project.function("flaky", FLAKY, lang="faas-flow", environment={"tick_interval": "1h"})
    gateway = start_gateway(project)

    answer = http.post(f"{gateway.url}/function/flaky?wait=20s", data=b"done")

    assert (answer.status_code, answer.content) == (200, b"done at last")


def test_the_clock_of_a_flow_runs_from_its_start(project, start_gateway, http):
    project.function("chain", CHAIN, lang="faas-flow")
    gateway = start_gateway(project)
    http.get(f"{gateway.url}/function/chain/_/ready")

    status = http.get(f"{gateway.url}/function/chain/_/health")

    assert (status.status_code, status.text) == (200, "OK")
