"""`faasflow tick` against a gateway: which flows tick, and what is told of it."""

from __future__ import annotations

import hashlib
import hmac
import json
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import Result
from pytest_httpserver import HTTPServer
from werkzeug import Request, Response

from tests.cli.support import Project
from tests.support import free_port, wait_until

Run = Callable[..., Result]

FLOWS = [
    {"name": "orders", "labels": {"faas-flow": "1"}},
    {"name": "shout", "labels": None},
    {"name": "greet", "labels": {"faas-flow": "1"}},
]


class Gateway:
    """A gateway with two flows and a function, of which each tick is told."""

    def __init__(self, server: HTTPServer) -> None:
        self.url = server.url_for("").rstrip("/")
        self.ticked: list[Request] = []
        self.failing: set[str] = set()
        self.repaired = 2
        self._server = server
        server.expect_request("/system/functions").respond_with_json(FLOWS)
        for name in ("orders", "greet"):
            server.expect_request(f"/function/{name}/flow/tick", method="POST").respond_with_handler(self._answer)

    def names(self) -> list[str]:
        return [request.path.split("/")[2] for request in self.ticked]

    def _answer(self, request: Request) -> Response:
        self.ticked.append(request)
        if request.path.split("/")[2] in self.failing:
            error = {"error": "Consul is away.", "hint": "Start it."}
            return Response(json.dumps(error), 503, content_type="application/json")
        counts = {"fired": 3, "repaired": self.repaired, "removed": 0}
        return Response(json.dumps(counts), content_type="application/json")


@pytest.fixture
def gateway(httpserver: HTTPServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Gateway]:
    gateway = Gateway(httpserver)
    monkeypatch.setenv("OPENFAAS_URL", gateway.url)
    monkeypatch.setenv("OPENFAAS_CONFIG", str(tmp_path / "logins"))
    return gateway


def test_every_flow_of_the_gateway_ticks(faasflow: Run, gateway: Gateway) -> None:
    result = faasflow("tick")

    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout.splitlines() == [
        "Flow    Fired  Repaired  Removed",
        "greet   3      2         0",
        "orders  3      2         0",
    ]
    assert gateway.names() == ["greet", "orders"]


def test_only_the_flows_that_are_named_tick_and_nobody_is_asked_for_the_others(
    faasflow: Run, gateway: Gateway, httpserver: HTTPServer
) -> None:
    faasflow("tick", "orders")

    assert [request.path for request, _ in httpserver.log] == ["/function/orders/flow/tick"]


def test_a_flow_that_cannot_tick_is_told_and_the_others_do(faasflow: Run, gateway: Gateway) -> None:
    gateway.failing = {"greet"}
    result = faasflow("tick")

    assert result.exit_code == 1
    assert result.stdout.splitlines()[1:] == ["orders  3      2         0"]
    assert result.stderr == "faasflow: error: greet: Consul is away.\nhint: Start it.\n"


@pytest.mark.parametrize("how", ["key", "file"])
def test_a_tick_is_signed(faasflow: Run, gateway: Gateway, tmp_path: Path, how: str) -> None:
    (tmp_path / "secret").write_text("s3cr3t\n")
    signing = ["--key-file", str(tmp_path / "secret")]
    faasflow("tick", "orders", *(signing if how == "file" else ["--sign", "X-Hub-Signature", "--key", "s3cr3t"]))
    [request] = gateway.ticked

    signed = request.headers["X-Faas-Flow-Signature"]
    now = signed.partition(",")[0].removeprefix("t=")
    key = hmac.new(b"s3cr3t", b"faasflow request", hashlib.sha256).hexdigest().encode()
    text = f"{now}\norders\nPOST\n/flow/tick\n\n".encode()

    assert abs(time.time() - int(now)) < 60
    assert signed == f"t={now},v1={hmac.new(key, text, hashlib.sha256).hexdigest()}"
    assert "X-Hub-Signature" not in request.headers, "it would serve for a start with an empty body"


def test_a_gateway_without_flows_is_no_fault(faasflow: Run, httpserver: HTTPServer) -> None:
    httpserver.expect_request("/system/functions").respond_with_json(FLOWS[1:2])
    result = faasflow("tick", "--gateway", httpserver.url_for(""))

    assert (result.exit_code, result.stdout) == (0, "")
    assert 'No function of the gateway has the label faas-flow: "1".' in result.stderr


def test_again_and_again_only_what_was_done_is_told_and_a_fault_once(project: Project, gateway: Gateway) -> None:
    gateway.failing, gateway.repaired = {"greet"}, 2
    ticking = project.start("tick", "--every", "100ms", "--gateway", gateway.url)
    wait_until(lambda: len(gateway.ticked) >= 6, "three rounds")
    gateway.failing = set()
    wait_until(lambda: len(gateway.ticked) >= 10, "two more rounds")
    ticking.send_signal(signal.SIGTERM)
    out, err = ticking.communicate(timeout=20)

    assert ticking.returncode == 0
    assert set(out.decode().splitlines()) == {
        "orders: fired 3, repaired 2, removed 0",
        "greet: fired 3, repaired 2, removed 0",
    }
    assert err.decode().splitlines() == [
        "faasflow: error: greet: Consul is away.",
        "hint: Start it.",
        "greet is back.",
    ]


def test_a_gateway_that_goes_away_is_waited_for(project: Project) -> None:
    port = free_port()
    ticking = project.start("tick", "orders", "--every", "50ms", "--gateway", f"http://127.0.0.1:{port}")
    try:
        assert ticking.stderr is not None
        first = ticking.stderr.readline().decode()
        ticking.stderr.readline()
        with HTTPServer("127.0.0.1", port) as server:
            back = Gateway(server)
            said = ticking.stderr.readline().decode()

        assert first.startswith("faasflow: error: orders: The gateway http://127.0.0.1:")
        assert (said, bool(back.ticked)) == ("orders is back.\n", True)
    finally:
        ticking.kill()
        ticking.communicate()
