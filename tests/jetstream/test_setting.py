"""The setting `dispatcher`."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest

from faasflow.config import Settings, gateway_access, inspect
from faasflow.errors import ConfigError
from faasflow.runtime import Handler, build_engine
from faasflow.runtime.checks import Verdict, run_checks
from tests.jetstream.support import Stream
from tests.servers.nats import NatsServer
from tests.support import free_port

ENVIRONMENT = {"validate_request": "false", "workflow_name": "flow", "state_store": "memory:", "data_store": "memory:"}


def define(flow, context) -> None:
    dag = flow.dag()
    for name in ("one", "two"):
        dag.node(name).modify(lambda data: data)
    dag.edge("one", "two")


def test_forwards_go_through_the_gateway_unless_the_setting_says_otherwise() -> None:
    assert Settings.from_environment(ENVIRONMENT).dispatcher == "gateway"


def test_a_flow_forwards_into_the_stream_that_the_setting_names(stream: Stream) -> None:
    settings = Settings.from_environment(ENVIRONMENT | {"dispatcher": stream.url})
    build_engine(Handler(define=define), settings).start(b"hello")

    assert stream.server.messages(stream.name) == 1


@pytest.mark.parametrize("value", ["queue", "http://localhost:4222"])
def test_another_dispatcher_is_refused(value: str) -> None:
    with pytest.raises(ConfigError, match=r"Setting 'dispatcher' is .* Give 'gateway', or a URL"):
        Settings.from_environment(ENVIRONMENT | {"dispatcher": value})


def test_a_url_that_cannot_be_used_is_told_before_the_first_request() -> None:
    settings = Settings.from_environment(ENVIRONMENT | {"dispatcher": "nats://localhost?colour=red"})
    with pytest.raises(ConfigError, match="cannot be understood"):
        build_engine(Handler(define=define), settings)


def test_a_password_in_the_setting_is_not_shown() -> None:
    settings = Settings.from_environment(ENVIRONMENT | {"dispatcher": "nats://me:secret@localhost"})

    assert "secret" not in repr(settings)


def test_doctor_says_whether_jetstream_can_be_used(nats_server: NatsServer) -> None:
    inspection = inspect({"dispatcher": nats_server.url, "validate_request": "false", "state_store": "memory:"})
    away = inspect({"dispatcher": f"nats://127.0.0.1:{free_port()}", "validate_request": "false"})

    found = {check.name: check for check in run_checks(inspection)}["dispatcher"]
    missed = {check.name: check for check in run_checks(away)}["dispatcher"]

    assert (found.verdict, missed.verdict) == (Verdict.GOOD, Verdict.BAD)
    assert "cannot be used" in missed.found
    assert "JetStream" in missed.way_out


def test_a_worker_logs_in_at_the_gateway_as_a_flow_does(tmp_path: Path) -> None:
    for name, text in (("basic-auth-user", "me"), ("basic-auth-password", "secret")):
        (tmp_path / name).write_text(text)

    access = gateway_access({"gateway_auth": "basic", "secret_mount_path": str(tmp_path)})

    assert access == ("Basic " + base64.b64encode(b"me:secret").decode(), "")
    with pytest.raises(ConfigError, match="gateway-token"):
        gateway_access({"gateway_auth": "bearer", "secret_mount_path": str(tmp_path)})
