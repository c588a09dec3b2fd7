"""`faasflow invoke`, `list` and `state` against a gateway: what they send, and what they make of its answers."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from click.testing import Result
from pytest_httpserver import HTTPServer
from werkzeug import Request, Response

from faasflow.local import Gateway, load_stack
from tests.cli.support import CHAIN, ECHO, SHOUT, Project, Terminal
from tests.support import free_port, wait_until

Run = Callable[..., Result]

FAULTY = """
    def define(flow, context):
        dag = flow.dag()
        dag.node("a").modify(lambda data: data)
        dag.node("b").modify(lambda data: 1 / 0)
        dag.edge("a", "b")
"""
NAPPING = """
    import time

    def define(flow, context):
        dag = flow.dag()
        dag.node("a").modify(lambda data: data)
        dag.node("b").modify(lambda data: time.sleep(3) or b"rested")
        dag.edge("a", "b")
"""


@pytest.fixture
def gateway(project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], Gateway]]:
    """Serves the project, once it is complete."""
    started: list[Gateway] = []

    def start() -> Gateway:
        started.append(Gateway(load_stack(project.stack), state_dir=tmp_path / "state", port=free_port()))
        started[-1].start()
        monkeypatch.setenv("OPENFAAS_URL", started[-1].url)
        return started[-1]

    yield start
    for one in started:
        one.stop(grace=2)


def request_id(result: Result) -> str:
    found = re.search(r"^request (\w{20})$", result.stderr, re.MULTILINE)
    assert found, result.stderr
    return found[1]


def test_a_synchronous_flow_answers_at_once(faasflow: Run, project: Project, gateway: Callable[[], Gateway]) -> None:
    project.flow("echo", ECHO)
    gateway()

    result = faasflow("invoke", "echo", "--data", "hello")

    assert (result.exit_code, result.stdout) == (0, "hello")
    assert faasflow("state", "echo", request_id(result)).stdout == "FINISHED\n"


def test_an_asynchronous_flow_is_waited_for_when_asked_to(
    faasflow: Run, project: Project, gateway: Callable[[], Gateway]
) -> None:
    project.flow("chain", CHAIN)
    project.function("shout", SHOUT)
    gateway()

    waited = faasflow("invoke", "chain", "--data", "hello", "--wait", "30s")
    started = faasflow("invoke", "chain", "--data", "hello")

    assert (waited.exit_code, waited.stdout) == (0, "HELLO!")
    assert (started.exit_code, started.stdout) == (0, "")
    for result in (waited, started):
        id = request_id(result)
        wait_until(lambda id=id: faasflow("state", "chain", id).stdout == "FINISHED\n", "the flow ends")


def test_a_wait_that_is_too_short_fails_and_says_how_to_go_on(
    faasflow: Run, project: Project, gateway: Callable[[], Gateway]
) -> None:
    project.flow("napping", NAPPING)
    gateway()
    assert faasflow("invoke", "napping", "--wait", "30s").stdout == "rested"

    result = faasflow("invoke", "napping", "--wait", "1s")

    assert (result.exit_code, result.stdout) == (1, "")
    assert f"Request {request_id(result)!r} has not ended yet." in result.stderr
    assert f"hint: See how it gets on: faasflow track napping {request_id(result)}\n" in result.stderr
    assert faasflow("state", "napping", request_id(result)).stdout == "RUNNING\n"


def test_the_queue_takes_a_call_under_an_id_that_is_known_at_once(
    faasflow: Run, project: Project, gateway: Callable[[], Gateway]
) -> None:
    project.flow("chain", CHAIN)
    project.function("shout", SHOUT)
    gateway()

    result = faasflow("invoke", "chain", "--async", "--data", "hello")

    assert (result.exit_code, result.stdout) == (0, "")
    assert result.stderr.startswith("Function submitted asynchronously.\n")
    id = request_id(result)
    wait_until(lambda: faasflow("state", "chain", id).stdout == "FINISHED\n", "the flow ends")


def test_a_failed_flow_ends_with_1_and_the_reason(
    faasflow: Run, project: Project, gateway: Callable[[], Gateway]
) -> None:
    project.flow("faulty", FAULTY)
    gateway()

    result = faasflow("invoke", "faulty", "--wait", "30s")

    assert (result.exit_code, result.stdout) == (1, "")
    assert "faasflow: error: Node 'b' failed: ZeroDivisionError: division by zero\n" in result.stderr
    state = faasflow("state", "faulty", request_id(result))
    assert (state.exit_code, state.stdout) == (1, "FAILED\n")


def test_an_unknown_function_or_request_is_an_error(
    faasflow: Run, project: Project, gateway: Callable[[], Gateway]
) -> None:
    project.flow("echo", ECHO)
    gateway()

    function = faasflow("invoke", "ehco")
    request = faasflow("state", "echo", "nowhere")

    assert (function.exit_code, request.exit_code) == (1, 1)
    assert "answered 404: There is no function 'ehco'." in function.stderr
    assert request.stderr.startswith("faasflow: error: Request 'nowhere' is not known.\nhint: ")


def test_flows_and_functions_are_listed(faasflow: Run, project: Project, gateway: Callable[[], Gateway]) -> None:
    project.flow("echo", ECHO)
    project.function("shout", SHOUT)
    gateway()
    faasflow("invoke", "shout", "--data", "a")

    assert faasflow("list").stdout.splitlines() == [
        "Name   Kind      Invocations  Replicas",
        "echo   flow      0            1",
        "shout  function  1            1",
    ]
    assert json.loads(faasflow("list", "--json").stdout) == [
        {"name": "echo", "kind": "flow", "invocations": 0, "replicas": 1},
        {"name": "shout", "kind": "function", "invocations": 1, "replicas": 1},
    ]


def test_the_newest_requests_of_a_flow_are_listed(
    faasflow: Run, project: Project, gateway: Callable[[], Gateway]
) -> None:
    project.flow("echo", ECHO)
    gateway()
    ids = [request_id(faasflow("invoke", "echo", "--data", str(number))) for number in range(3)]

    titles, *lines = faasflow("list", "echo", "--limit", "2").stdout.splitlines()

    assert titles.split() == ["Request", "State", "Started", "Duration", "Failure"]
    assert [line.split()[0] for line in lines] == [ids[2], ids[1]]
    assert re.fullmatch(rf"{ids[2]}  FINISHED  \d{{4}}-\d\d-\d\d \d\d:\d\d:\d\d  \d+ ms", lines[0])
    assert [request["request_id"] for request in json.loads(faasflow("list", "echo", "--json").stdout)] == ids[::-1]


def test_a_function_that_is_no_flow_has_no_requests(
    faasflow: Run, project: Project, gateway: Callable[[], Gateway]
) -> None:
    project.function("shout", SHOUT)
    gateway()

    result = faasflow("list", "shout")

    assert result.exit_code == 1
    assert "/function/shout/flow did not answer as a flow does." in result.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ("track", "r-1", "--flow", "plain"),
        ("track", "r-1", "--flow", "plain", "--watch"),
        ("logs", "plain", "--request", "r-1"),
        ("list", "plain"),
        ("stop", "--all", "--flow", "plain"),
        ("stop", "--dry-run", "r-1", "--flow", "plain"),
        ("stop", "r-1", "--flow", "plain"),
        ("state", "plain", "r-1"),
        ("dead-letters", "plain"),
        ("tick", "plain"),
        ("unreadable", "plain"),
    ],
    ids=lambda arguments: " ".join(arguments),
)
def test_a_function_that_answers_with_json_of_its_own_is_no_flow(
    faasflow: Run, elsewhere: HTTPServer, arguments: Sequence[str]
) -> None:
    elsewhere.expect_request(re.compile("/function/plain/.*")).respond_with_json({"temperature": 21})
    result = faasflow(*arguments)

    assert result.exit_code == 1
    assert "did not answer as a flow does." in result.stderr


@pytest.mark.parametrize(
    "arguments",
    [("track",), ("result",), ("stop",), ("logs", "plain", "--request")],
    ids=lambda arguments: arguments[0],
)
@pytest.mark.parametrize("id", [".", ".."])
def test_an_id_that_is_a_folder_in_a_path_asks_for_nothing_else(
    faasflow: Run, elsewhere: HTTPServer, arguments: Sequence[str], id: str
) -> None:
    result = faasflow(*arguments, id, *([] if "plain" in arguments else ["--flow", "plain"]))

    asked = [(request.path.startswith("/function/plain/flow/-"), request.args["id"]) for request, _ in elsewhere.log]
    assert (result.exit_code, asked) == (1, [(True, id)])


def test_times_of_any_length_are_fine(faasflow: Run, elsewhere: HTTPServer) -> None:
    elsewhere.expect_request("/system/logs").respond_with_data()
    elsewhere.expect_request("/function/plain/flow/r-1/result").respond_with_data(
        "done", headers={"X-Faas-Flow-State": "FINISHED"}
    )

    assert faasflow("logs", "plain", "--since", "1000000d").exit_code == 0
    assert faasflow("result", "r-1", "--flow", "plain", "--wait", "9" * 400).stdout == "done"


@pytest.mark.parametrize("wish", ["true", "strict"])
def test_a_flow_that_wants_signatures_is_called_listed_and_asked_with_one(
    faasflow: Run, project: Project, gateway: Callable[[], Gateway], tmp_path: Path, wish: str
) -> None:
    project.flow("echo", ECHO, environment={"authenticate_request": wish})
    gateway()
    key = (tmp_path / "state" / "secrets" / "faasflow-hmac-secret").read_text()
    signed = ["--sign", "X-Hub-Signature", "--key", key]

    result = faasflow("invoke", "echo", "--data", "hello", "--query", "a=1 ü/&", *signed)

    assert result.stdout == "hello"
    assert request_id(result) in faasflow("list", "echo", *signed).stdout
    assert faasflow("state", "echo", request_id(result), *signed).stdout == "FINISHED\n"
    refused = faasflow("invoke", "echo", "--data", "hello")
    assert (refused.exit_code, refused.stdout) == (1, "")
    assert "carries no signature" in refused.stderr


def test_every_command_signs_what_it_asks_a_flow_that_wants_whole_signatures(
    faasflow: Run, project: Project, gateway: Callable[[], Gateway], tmp_path: Path
) -> None:
    project.flow("echo", ECHO, environment={"authenticate_request": "strict"})
    gateway()
    signed = ["--key-file", str(tmp_path / "state" / "secrets" / "faasflow-hmac-secret")]
    id = "a/b ü%2F?&"
    started = faasflow("invoke", "echo", "--data", "hello", "--header", f"X-Faas-Flow-Reqid: {id}", *signed)
    commands = [
        *(["state", "echo", id], ["result", id, "--flow", "echo"], ["track", id, "--flow", "echo"]),
        *(["logs", "echo", "--request", id], ["list", "echo"], ["tick", "echo"], ["dead-letters", "echo"]),
    ]
    results = {command[0]: faasflow(*command, *signed) for command in commands}

    assert started.stdout == "hello"
    assert {name: (result.exit_code, result.stderr) for name, result in results.items() if result.exit_code} == {}
    for command in ("pause", "stop", "retry"):
        assert "FINISHED" in faasflow(command, id, "--flow", "echo", *signed).stderr


def test_a_call_carries_what_was_given(faasflow: Run, elsewhere: HTTPServer) -> None:
    seen: list[Request] = []

    def answer(request: Request) -> Response:
        request.get_data()
        seen.append(request)
        return Response(b"\xff")

    elsewhere.expect_request("/function/report.team/").respond_with_handler(answer)

    result = faasflow(
        "invoke",
        "report.team",
        *("--query", "a=1 & 2", "--query", "a=3", "--header", "X-Kind: ü", "--header", "X-Kind: b"),
        *("--callback", "http://example.com/done", "--sign", "X-Signed", "--key", "secret"),
        data=b"\x00body",
    )

    assert result.stdout_bytes == b"\xff"
    (request,) = seen
    assert (request.method, request.get_data()) == ("POST", b"\x00body")
    assert request.args.getlist("a") == ["1 & 2", "3"]
    assert request.headers["X-Kind"].encode("latin-1").decode() == "ü, b"
    assert request.headers["X-Faas-Flow-Callback-Url"] == "http://example.com/done"
    assert request.headers["X-Signed"] == "sha256=" + hmac.new(b"secret", b"\x00body", hashlib.sha256).hexdigest()


def test_a_body_that_is_an_answer_of_a_plain_function_is_written_whatever_its_status(
    faasflow: Run, elsewhere: HTTPServer
) -> None:
    elsewhere.expect_request("/function/plain/").respond_with_data("accepted", status=202)

    assert faasflow("invoke", "plain").stdout == "accepted"


def test_an_error_that_is_no_json_is_told_as_it_is(faasflow: Run, elsewhere: HTTPServer) -> None:
    elsewhere.expect_request("/function/plain/").respond_with_data("it broke", status=500)

    result = faasflow("invoke", "plain")

    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == "faasflow: error: /function/plain/ answered 500: it broke\n"


def test_the_login_that_faas_cli_keeps_is_used_for_the_list(
    faasflow: Run, elsewhere: HTTPServer, tmp_path: Path
) -> None:
    token = base64.b64encode(b"admin:secret").decode()
    elsewhere.expect_request("/system/functions", headers={"Authorization": f"Basic {token}"}).respond_with_json([])
    url = elsewhere.url_for("").rstrip("/")
    (tmp_path / "logins").mkdir()
    (tmp_path / "logins" / "config.yml").write_text(
        f"auths:\n- gateway: http://elsewhere:8080\n  auth: basic\n  token: {base64.b64encode(b'a:b').decode()}\n"
        f"- gateway: {url}\n  auth: basic\n  token: {token}\n  options: []\n"
    )

    assert faasflow("list").stdout == "Name  Kind  Invocations  Replicas\n"


def test_a_list_that_wants_a_login_says_how_to_get_one(faasflow: Run, elsewhere: HTTPServer) -> None:
    elsewhere.expect_request("/system/functions").respond_with_data("invalid credentials", status=401)

    result = faasflow("list")

    assert result.exit_code == 1
    assert "wants a login" in result.stderr
    assert "hint: Log in with: faas-cli login --gateway http://127.0.0.1:" in result.stderr


def test_what_is_no_gateway_is_told_apart(faasflow: Run, elsewhere: HTTPServer) -> None:
    elsewhere.expect_request("/system/functions").respond_with_data("<html>")

    assert "is no OpenFaaS gateway" in faasflow("list").stderr


def test_a_gateway_that_is_not_there_is_told_with_a_way_out(faasflow: Run) -> None:
    result = faasflow("invoke", "echo", "--gateway", f"127.0.0.1:{free_port()}")

    assert result.exit_code == 1
    assert "cannot be reached" in result.stderr
    assert "hint: Start one here with `faasflow up`, or name another with --gateway." in result.stderr


@pytest.mark.parametrize("url", ["ftp://a", "http://", "http://a:x"])
def test_a_url_that_is_none_is_refused(faasflow: Run, url: str) -> None:
    result = faasflow("list", "--gateway", url)

    assert result.exit_code == 1
    assert f"Gateway {url!r} is not understood." in result.stderr


def test_a_result_on_a_terminal_ends_its_line(
    project: Project, gateway: Callable[[], Gateway], terminal: Callable[..., Terminal]
) -> None:
    project.flow("echo", ECHO)
    served = gateway()

    shown = terminal("invoke", "echo", "--data", "hello", "--gateway", served.url)

    assert shown.end() == 0
    assert shown.screen[-1] == "hello"
    assert shown.output.endswith(b"hello\r\n")
