"""The process of a flow function: how it starts, and how it ends."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.http.support import Client, Reply
from tests.runtime.watchdog import Gateway, Watchdog
from tests.support import free_port, wait_until

ROOT = str(Path(__file__).parents[2])
PROGRAM = """
import sys
from pathlib import Path
from faasflow.runtime import serve
serve(Path(sys.argv[1]), name=sys.argv[2], port=int(sys.argv[3]))
print("served")
"""
SLOW = """
    import time
    from pathlib import Path
    def slowly(data):
        Path(__file__).with_name("began").touch()
        time.sleep(float(data or 0))
        return "slept"
    def define(flow, context):
        flow.sync_node().modify(slowly)
"""
GATED = """
    import time
    from pathlib import Path
    folder = Path(__file__).parent
    def first(data):
        (folder / "began").touch()
        while not (folder / "go-on").exists():
            time.sleep(0.01)
        return data + b"1"
    def define(flow, context):
        dag = flow.dag()
        dag.node("first").modify(first)
        dag.node("second").modify(lambda data: data + b"2")
        dag.edge("first", "second")
"""


class Function:
    """A handler in a folder of its own, and the process that serves it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        self.client = Client(self.port)
        self.process: subprocess.Popen[str] | None = None

    def write(self, code: str, name: str = "handler") -> None:
        (self.folder / f"{name}.py").write_text(textwrap.dedent(code))

    def start(self, *, name: str = "sleepy", ready: bool = True, **environ: str) -> subprocess.Popen[str]:
        own = {"state_dir": str(self.folder / "state"), "validate_request": "false", "PYTHONPATH": ROOT}
        self.process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, str(self.folder), name, str(self.port)],
            env={"PATH": os.environ["PATH"]} | own | environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        if ready:
            wait_until(lambda: self.client.get("/_/ready").status == 200, "the function to be ready")
        return self.process

    def end(self) -> tuple[int, str, str]:
        """Exit code, output and errors, once the process has ended."""
        assert self.process is not None
        out, err = self.process.communicate(timeout=30)
        return self.process.returncode, out, err

    @property
    def has_begun(self) -> bool:
        return (self.folder / "began").exists()


@pytest.fixture
def function(tmp_path: Path) -> Iterator[Function]:
    function = Function(tmp_path)
    yield function
    if function.process is not None and function.process.poll() is None:
        function.process.kill()
        function.process.communicate()


@pytest.fixture
def background() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(8) as pool:
        yield pool


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_request_in_flight_is_answered_before_the_process_ends(
    function: Function, background: ThreadPoolExecutor, number: signal.Signals
) -> None:
    function.write(SLOW)
    process = function.start()
    reply: Future[Reply] = background.submit(function.client.post, "/", b"2")
    wait_until(lambda: function.has_begun, "the request to be in flight")
    process.send_signal(number)
    code, out, err = function.end()

    assert (reply.result().status, reply.result().body) == (200, b"slept")
    assert (code, out) == (0, "served\n")
    assert "Traceback" not in err


def test_a_function_that_is_replaced_behind_a_watchdog_cuts_nothing_and_answers_what_still_comes(
    function: Function,
) -> None:
    function.write(GATED)
    gateway, watchdog = Gateway(), Watchdog(function.port)
    with watchdog.serving(), gateway.delivering(watchdog.port):
        process = function.start(gateway=gateway.url, healthcheck_interval="6s")
        front = Client(watchdog.port)
        started = front.start(b"x", id="r1")
        wait_until(lambda: function.has_begun, "the first node to run")
        watchdog.terminate(process)
        wait_until(lambda: not _catches(process.pid, signal.SIGINT), "the function to drain")
        later = [front.start(b"y", id=f"later-{number}").status for number in range(5)]
        (function.folder / "go-on").touch()
        for id in ("r1", *(f"later-{number}" for number in range(5))):
            wait_until(lambda: front.get(f"/flow/{id}/state").body == b"FINISHED", f"{id} to end")  # noqa: B023
        result = front.get("/flow/r1/result")
        code, _, err = function.end()

    assert (started.status, later, result.body) == (202, [202] * 5, b"x12")
    assert [status for status in watchdog.statuses if status >= 500] == []
    assert (code, "Traceback" in err) == (0, False)


def test_a_timeout_that_is_too_short_is_told_at_the_start(function: Function) -> None:
    function.write(SLOW)
    function.start(fprocess="python index.py", exec_timeout="60s", write_timeout="9s", healthcheck_interval="0s")
    function.process.terminate()  # type: ignore[union-attr]
    _, _, err = function.end()

    assert "WARNING faasflow.runtime: write_timeout (9 s) cuts a delivery before exec_timeout (60 s) ends it." in err
    assert "Raise write_timeout to more than 60 s." in err


def test_an_idle_function_ends_at_once(function: Function) -> None:
    function.write(SLOW)
    function.start().terminate()

    assert function.end()[0] == 0


def test_a_request_that_arrives_within_the_grace_is_answered(
    function: Function, background: ThreadPoolExecutor
) -> None:
    function.write(SLOW)
    process = function.start(healthcheck_interval="2s")
    first: Future[Reply] = background.submit(function.client.post, "/", b"1")
    wait_until(lambda: function.has_begun, "the request to be in flight")
    process.terminate()
    second = function.client.post("/", b"0.1")
    code, _, _ = function.end()

    assert (first.result().body, second.body, code) == (b"slept", b"slept", 0)


def test_a_request_that_is_still_arriving_is_answered(function: Function, background: ThreadPoolExecutor) -> None:
    function.write(SLOW)
    process = function.start()
    go_on = threading.Event()

    def body() -> Iterator[bytes]:
        yield b"0"
        go_on.wait(10)
        yield b".1"

    reply: Future[Reply] = background.submit(function.client.send, "POST", "/", body(), encode_chunked=True)
    wait_until(lambda: _is_connected(function.port), "the request to arrive in part")
    function.client.get("/_/health")  # what arrived before it has been read
    process.terminate()
    wait_until(lambda: not _catches(process.pid, signal.SIGINT), "the function to drain")
    go_on.set()

    assert (reply.result().status, function.end()[0]) == (200, 0)


def test_a_request_that_never_ends_does_not_keep_the_process(
    function: Function, background: ThreadPoolExecutor
) -> None:
    function.write(SLOW)
    process = function.start(exec_timeout="1s")
    reply: Future[Reply] = background.submit(function.client.post, "/", b"600")
    wait_until(lambda: function.has_begun, "the request to be in flight")
    process.terminate()

    assert function.end()[0] == 0
    assert isinstance(reply.exception(), OSError)


def test_a_second_sigterm_that_follows_soon_does_not_cut_the_drain_short(
    function: Function, background: ThreadPoolExecutor
) -> None:
    function.write(SLOW)
    process = function.start()
    reply: Future[Reply] = background.submit(function.client.post, "/", b"1")
    wait_until(lambda: function.has_begun, "the request to be in flight")
    process.terminate()
    wait_until(lambda: not _catches(process.pid, signal.SIGINT), "the function to drain")
    process.terminate()

    assert (reply.result().body, function.end()[0]) == (b"slept", 0)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_that_is_repeated_on_purpose_ends_the_process_at_once(
    function: Function, background: ThreadPoolExecutor, number: signal.Signals
) -> None:
    function.write(SLOW)
    process = function.start()
    reply: Future[Reply] = background.submit(function.client.post, "/", b"600")
    wait_until(lambda: function.has_begun, "the request to be in flight")
    process.terminate()
    wait_until(lambda: not _catches(process.pid, signal.SIGINT), "the function to drain")
    wait_until(lambda: process.send_signal(number) or process.poll() is not None, "the process to end")

    assert process.returncode == -number
    assert isinstance(reply.exception(), OSError)


def test_a_thread_that_never_ends_does_not_keep_the_process(function: Function) -> None:
    function.write(
        "import threading, time\nthreading.Thread(target=time.sleep, args=(600,)).start()\n" + textwrap.dedent(SLOW)
    )
    function.start(drain_timeout="1s").terminate()
    code, _, err = function.end()

    assert code == 1
    assert "drain_timeout" in err


def test_a_function_that_was_killed_knows_its_requests_again(function: Function) -> None:
    function.write(SLOW)
    process = function.start()
    function.client.start(b"0", id="r1")
    process.kill()
    function.end()
    function.start()

    assert function.client.get("/flow/r1/result").body == b"slept"


@pytest.mark.parametrize(
    ("code", "environ", "said"),
    [
        ("def define(flow, context): flow.dag().edge('a', 'b')", {}, "'a'"),
        ("def define(flow, context): pass", {}, ""),
        ("x = 1", {}, "has no function define(flow, context). Add it."),
        (SLOW, {"exec_timeout": "soon"}, "Setting 'exec_timeout' is 'soon'"),
        (SLOW, {"state_store": "tape:"}, "Setting 'state_store': The store URL 'tape:'"),
        (SLOW, {"validate_request": "true", "secret_mount_path": "/nowhere"}, "Secret 'faasflow-hmac-secret' cannot"),
        (SLOW, {"host": "no-such-host.invalid"}, "'no-such-host.invalid'"),
    ],
)
def test_a_mistake_is_told_in_one_line_and_ends_the_process(
    function: Function, code: str, environ: dict[str, str], said: str
) -> None:
    function.write(code)
    function.start(ready=False, **environ)
    exit_code, out, err = function.end()
    [line] = err.splitlines()

    assert (exit_code, out) == (1, "")
    assert line.startswith("faasflow: error: ")
    assert said in line


def test_a_missing_handler_is_told_in_one_line(function: Function) -> None:
    function.start(ready=False)
    exit_code, _, err = function.end()
    [line] = err.splitlines()

    assert exit_code == 1
    assert line.startswith(f"faasflow: error: There is no handler file '{function.folder}/handler.py'")


def test_a_busy_port_is_told_in_one_line(function: Function) -> None:
    function.write(SLOW)
    with socket.create_server(("127.0.0.1", function.port)):
        function.start(ready=False)
        exit_code, _, err = function.end()

    assert exit_code == 1
    assert err == (
        f"faasflow: error: Port {function.port} on 127.0.0.1 is in use. Stop what uses it, or set another 'port'.\n"
    )


@pytest.mark.parametrize(
    ("code", "last_frame", "said"),
    [
        ("import helper", "in half", "cannot be imported: line 3 of helper.py: ZeroDivisionError: division by zero"),
        ("import helper.\n", "import helper.", "line 1 of handler.py: SyntaxError"),
        (
            "import function\ndef define(flow, context): function.no_such_name()",
            "in define",
            "define() failed with AttributeError",
        ),
    ],
)
def test_an_exception_of_the_handler_is_shown_with_its_own_lines_only(
    function: Function, code: str, last_frame: str, said: str
) -> None:
    function.write(code)
    function.write("\ndef half():\n    return 1 / 0\nhalf()\n", name="helper")
    function.start(ready=False)
    exit_code, _, err = function.end()
    lines = err.splitlines()

    assert exit_code == 1
    assert lines[-1].startswith("faasflow: error: ")
    assert said in lines[-1]
    assert last_frame in err
    assert "faasflow/runtime" not in err
    assert "importlib" not in err


def test_the_name_and_the_port_come_from_the_environment_where_none_are_given(tmp_path: Path) -> None:
    (tmp_path / "handler.py").write_text(
        "def define(flow, context): flow.sync_node().modify(lambda data: context.name)"
    )
    port = free_port()
    process = subprocess.Popen(
        [
            sys.executable,
            "-c",
            f"from pathlib import Path; from faasflow.runtime import serve; serve(Path({str(tmp_path)!r}))",
        ],
        env={
            "PYTHONPATH": ROOT,
            "OPENFAAS_NAME": "deployed",
            "port": str(port),
            "validate_request": "false",
            "state_dir": str(tmp_path),
        },
    )
    try:
        reply = wait_until(lambda: Client(port).post("/"), "the function to answer")
    finally:
        process.terminate()

    assert (reply.body, process.wait(30)) == (b"deployed", 0)


def _catches(pid: int, number: signal.Signals) -> bool:
    """Whether a process handles a signal, which it does until the signal has come once."""
    [mask] = [line.split()[1] for line in Path(f"/proc/{pid}/status").read_text().splitlines() if "SigCgt" in line]
    return bool(int(mask, 16) >> (number - 1) & 1)


def _is_connected(port: int) -> bool:
    """Whether somebody is connected to a port of this machine."""
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return any(row[1].endswith(f":{port:04X}") and row[3] == "01" for row in rows)
