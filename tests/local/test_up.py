"""The gateway as a process: what it prints, how it ends, and what it does not lose when it is killed."""

from __future__ import annotations

import signal
import stat

import pytest

from tests.local.support import is_running, lines
from tests.support import free_port, wait_until

WRITE = """
import os, pathlib, time
FOLDER = pathlib.Path(__file__).parent

def handle(event, context):
    with open(FOLDER / "bodies", "a") as file:
        file.write(event.body.decode() + "\\n")
    time.sleep(0.02)
    return {"body": str(os.getpid())}
"""


def test_up_says_what_it_serves_and_then_what_functions_say(project, run_gateway, http):
    project.function("hello", "def handle(req):\n    print('hi', req)\n    return req\n", lang="python3-flask")
    project.function("typo", "def handle(")
    gateway = run_gateway().wait_ready()

    http.post(f"{gateway.url}/function/hello", data="you")
    wait_until(lambda: "[hello] hi you\n" in gateway.printed, "the function's line is printed")

    assert f"hello    {gateway.url}/function/hello  running\n" in gateway.printed
    assert f"typo     {gateway.url}/function/typo  broken: Function 'typo' does not start" in gateway.printed


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_cleanly(project, run_gateway, http, number):
    project.function("fn", WRITE)
    gateway = run_gateway().wait_ready()
    function = int(http.get(f"{gateway.url}/function/fn").text)

    gateway.send(number)

    assert gateway.wait() == 0
    assert gateway.printed.endswith("stopped\n")
    assert not is_running(function)


def test_a_second_signal_ends_it_at_once(project, run_gateway, http):
    project.function("slow", "import time\ndef handle(event, context):\n    print('in')\n    time.sleep(60)\n")
    gateway = run_gateway().wait_ready()
    http.post(f"{gateway.url}/async-function/slow")
    wait_until(lambda: "[slow] in" in gateway.printed, "the call is in flight")

    gateway.send(signal.SIGINT)
    wait_until(lambda: "stopping" in gateway.printed, "the first signal is taken")
    gateway.send(signal.SIGINT)

    assert gateway.wait() == 130


def test_a_killed_gateway_leaves_no_process_behind(project, run_gateway, http):
    project.function("fn", WRITE)
    gateway = run_gateway().wait_ready()
    function = int(http.get(f"{gateway.url}/function/fn").text)

    gateway.kill()

    wait_until(lambda: not is_running(function), "the function's process is gone")


def test_every_queued_call_is_delivered_after_the_gateway_was_killed(project, run_gateway, http):
    bodies = project.function("fn", WRITE).with_name("bodies")
    gateway = run_gateway("--workers", "1").wait_ready()
    accepted = [str(number) for number in range(100)]
    for body in accepted:
        assert http.post(f"{gateway.url}/async-function/fn", data=body).status_code == 202
    wait_until(lambda: len(lines(bodies)) >= 5, "some calls are delivered")
    gateway.kill()
    delivered = len(lines(bodies))

    run_gateway().wait_ready()
    wait_until(lambda: set(lines(bodies)) == set(accepted), "every call is delivered")

    assert delivered < 100
    assert len(lines(bodies)) <= 101  # the one in flight may have come twice


def test_a_busy_port_is_one_clear_line(project, run_gateway, httpserver):
    project.function("fn", WRITE)
    gateway = run_gateway("--port", str(httpserver.port))

    assert gateway.wait() == 1
    assert gateway.printed == (
        f"faasflow: error: Port {httpserver.port} on 127.0.0.1 cannot be used: "
        "Address already in use. Choose another with --port.\n"
    )


def test_a_missing_stack_file_is_one_clear_line(project, run_gateway):
    gateway = run_gateway()

    assert gateway.wait() == 1
    assert gateway.printed.startswith("faasflow: error: There is no stack file")
    assert gateway.printed.count("\n") == 1


def test_the_key_for_messages_is_made_once_and_is_for_its_owner_alone(project, run_gateway):
    project.function("fn", WRITE)
    secrets = project.folder / ".faasflow" / "secrets"
    key = secrets / "faasflow-hmac-secret"

    run_gateway("--port", str(free_port())).wait_ready().kill()
    made = key.read_text()
    run_gateway().wait_ready()

    assert (len(bytes.fromhex(made)), key.read_text()) == (32, made)
    assert [stat.S_IMODE(path.stat().st_mode) for path in (secrets, key)] == [0o700, 0o600]
