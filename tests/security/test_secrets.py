"""Nothing secret is shown: not in a log, an error, a record or a `repr`."""

from __future__ import annotations

import logging
import traceback
from pathlib import Path
from typing import Any

import pytest

from faasflow.config import Settings
from faasflow.engine.message import MessageCodec
from faasflow.errors import FaasflowError
from faasflow.http.auth import Gate
from faasflow.ports import OutgoingCall, Response
from faasflow.runtime import Handler, build_engine
from faasflow.testing import FlowTester, RequestState
from faasflow.transport.openfaas import OpenFaasTransport
from tests.http.support import signature
from tests.security.conftest import Attacked
from tests.security.test_callback_targets import parts
from tests.support import free_port

SECRET = "hunter2"


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    for name in ("faasflow-hmac-secret", "basic-auth-user", "basic-auth-password"):
        (tmp_path / name).write_text(SECRET)
    given = {"secret_mount_path": str(tmp_path), "gateway_auth": "basic", "gateway": f"127.0.0.1:{free_port()}"}
    return Settings.from_environment(given | {"state_store": "memory:", "data_store": "memory:"})


def test_no_repr_shows_a_secret(settings: Settings) -> None:
    transport = OpenFaasTransport(settings.gateway, login=settings.gateway_login)
    shown = [settings, parts(transport), MessageCodec("flow", settings.key), Gate(settings, "flow"), transport]  # type: ignore[arg-type]

    assert not any(SECRET in repr(value) or settings.gateway_login in repr(value) for value in shown)


def test_a_failed_call_leaves_nothing_secret_in_the_log_or_the_record(
    settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    def define(flow: Any, context: Any) -> None:
        flow.sync_node().apply("func1", headers={"X-Key": SECRET}, query={"token": SECRET})

    engine = build_engine(Handler(define=define), settings)
    with caplog.at_level(logging.DEBUG, "faasflow"):
        answer = engine.start(SECRET.encode(), request_id="r1")
        story = engine.story("r1")

    assert answer.state is RequestState.RUNNING
    assert "it is tried again in" in caplog.text
    assert SECRET not in str(story)
    assert SECRET not in caplog.text
    assert settings.gateway_login not in caplog.text + str(story)


@pytest.mark.parametrize("url", ["http://127.0.0.1:{port}/p?token=hunter2", "http://user:hunter2@127.0.0.1:{port}/p"])
def test_not_even_the_traceback_of_a_call_shows_its_query_or_login(url: str) -> None:
    call = OutgoingCall("POST", url.format(port=free_port()), {}, [("key", SECRET)], SECRET.encode(), 1.0)
    with pytest.raises(FaasflowError) as raised:
        OpenFaasTransport("http://gateway").call(call)
    shown = "".join(traceback.format_exception(raised.value))

    assert SECRET not in shown.replace(f'"{SECRET}"', "")


def test_a_url_that_a_node_requests_is_told_without_its_query_and_login(caplog: pytest.LogCaptureFixture) -> None:
    url = f"https://user:{SECRET}@api.example.com/path?appid={SECRET}"

    def define(flow: Any, context: Any) -> None:
        flow.sync_node().request(url)

    tester = FlowTester(define)
    tester.answer(url.partition("?")[0], lambda call: Response(500, {}, b"no"))
    outcome = tester.run(b"x", request_id="r1")

    assert outcome.error == "sync: CallError: URL 'https://…@api.example.com/path' answered 500."
    assert SECRET not in str(tester.engine.story("r1")) + caplog.text


def test_the_log_of_a_run_holds_no_body_and_no_key(attacked: Attacked, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        attacked.client.post(f"/?password={SECRET}", SECRET.encode(), {"X-Hub-Signature": signature(SECRET.encode())})
        attacked.client.post(f"/flow/r1/forward?password={SECRET}", SECRET.encode())
        attacked.client.get(f"/flow/r1/result?wait={SECRET[::-1]}")
        attacked.tester.drain()

    assert "is refused with 400" in caplog.text
    assert SECRET not in caplog.text


def test_a_handler_of_the_end_that_fails_is_logged_without_what_it_says(caplog: pytest.LogCaptureFixture) -> None:
    def define(flow: Any, context: Any) -> None:
        flow.sync_node().modify(bytes.upper)
        flow.finally_(lambda state: {}[SECRET])

    tester = FlowTester(define)
    tester.run(b"x", request_id="r1")
    nodes: Any = tester.engine.story("r1")["nodes"]
    [told] = [node for node in nodes if node["path"] == "$finally"]

    assert "$finally ended: FAILED with KeyError" in caplog.text
    assert SECRET not in caplog.text
    assert "KeyError" in told["failure"].traceback
    assert told["failure"].node == "$finally"
